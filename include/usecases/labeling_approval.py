"""From people's answers to an approved dataset version.

A batch is finished → its answers are resolved and frozen into a version → the version is put before approvers in an
OpenText process → their decisions are captured, checked and put on the ledger.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from include.annotation.answers import Answer
from include.base.canonical import digest_of
from include.base.errors import Refused
from include.base.store import measure
from include.datasets import freeze as freezing
from include.datasets.conditions import unmet
from include.datasets.drift import sources_digest
from include.datasets.kept import KeptVersion
from include.datasets.resolve import stored_decisions
from include.datasets.staging import stage_version, version_data
from include.decisions import approval
from include.decisions.eligible import nobody_for
from include.decisions.state import SUITE, approval_state
from include.governance.records import VersionRecord
from include.pages.owned import OwnedPage, find, write
from include.projects.model import Project
from include.queues.batches import (
    OpenBatch,
    answers_of,
    batch_progress,
    malformed,
    open_batches,
    task_ids,
    times_frozen,
)
from include.queues.progress import Batch, Progress, form
from include.releases import by_hand
from include.releases.courses import approval_course
from include.releases.dataset import Dataset
from include.reporting import material
from include.run.gates import require_gate
from include.run.in_force import requesters
from include.run.run import Effect, ItemResult, Run, WorkItem, event_key, short
from include.systems.confluence import storage
from include.systems.confluence.client import ConfluenceClient
from include.systems.opentext.client import OpenTextClient
from include.systems.prodigy.client import ProdigyClient

__all__ = ["Asked", "Frozen", "capture", "freeze", "look", "pending", "request"]

USE_CASE = "labeling_approval"


@dataclass(frozen=True)
class Frozen:
    """A version, and its rows for the gate: ``staged`` is None where the gate has passed before."""

    digest: str
    number: int
    staged: str | None
    created: int


@dataclass(frozen=True)
class Asked:
    """A version that is before its approvers. ``created`` counts the effects so far."""

    digest: str
    number: int
    created: int


def pending(run: Run, project: Project, params: Mapping[str, Any], prodigy: ProdigyClient) -> Iterator[WorkItem]:
    """Yield the version whose approval is open, else what the next version takes in: the batches that are finished.

    What the person who triggered the run decided by its parameters is recorded first. Of a project whose versions are
    increments, each open version and each finished batch is an item of its own.
    """
    by_hand.act(run, project, params, prodigy)
    dataset = Dataset.of(run, project)
    if dataset.go_stale():
        dataset = Dataset.of(run, project)
    ready, in_the_way = _ready(run, project, prodigy)
    yield from in_the_way
    if ready and dataset.go_stale({task for one in ready for task in task_ids(run, one.digest)}):
        dataset = Dataset.of(run, project)
    undecided = dataset.undecided()
    for version in undecided:
        again = _again(run, project, dataset, version, ready)
        yield again or WorkItem(project.name, f"version:{version.digest}", version.name)
    returning = dataset.returning()
    if params.get("withdraw"):
        # Who triggers a run asks for what it freezes, and could not approve it: an approver may withdraw.
        run.log.info(f"What is ready of {project.name} is frozen by the next run.")
    elif project.version == "batch":
        for batch in ready:
            yield _increment(run, project, dataset, [batch])
        for one in returning:
            if one not in {batch.digest for batch in ready}:
                yield _item(run, project, form(task_ids(run, one)), f"batch {short(one)}, again", None, [one])
    elif not undecided and (ready or returning):
        yield _increment(run, project, dataset, ready)
    elif ready:
        run.log.info(
            f"{len(ready)} finished batch(es) of {project.name} wait: {undecided[0].name} is before its approvers."
        )


def _ready(run: Run, project: Project, prodigy: ProdigyClient) -> tuple[list[OpenBatch], list[WorkItem]]:
    """Return the batches that can be frozen now, and as failing items what stands in the way of others."""
    ready, in_the_way = [], []
    for batch, progress in batch_progress(run, project, prodigy, open_batches(run, project, prodigy)):
        run.log.info(f"Batch {short(batch.digest)} of {project.name}: {progress.why}")
        if not _finished(batch, progress):
            continue
        if progress.unknown and project.policy.four_eyes:
            error = (
                f"{batch.name} of {project.name} holds answers of Prodigy accounts that the register does not know: "
                f"{', '.join(sorted(progress.unknown))}; map them to their persons, and it is frozen"
            )
            in_the_way.append(WorkItem(project.name, f"batch:{batch.digest}", batch.name, error=error))
        else:
            ready.append(batch)
    # Whoever triggers a run asks for what it freezes: where only they could approve it, another run has to.
    barred = requesters(run, project) if project.policy.four_eyes else set()
    lacking = nobody_for(project, run.register, run.now(), barred) if ready else []
    if lacking:
        # What is asked already goes on: only nothing new is begun.
        error = f"{project.name}: {'; '.join(lacking)}"
        return [], [*in_the_way, WorkItem(project.name, f"project:{project.name}", "people", error=error)]
    return ready, in_the_way


def _finished(batch: OpenBatch, progress: Progress) -> bool:
    return progress.finished or batch.closed_by is not None or batch.kind == "decided"


def _increment(run: Run, project: Project, dataset: Dataset, ready: list[OpenBatch]) -> WorkItem:
    """Return the item of a version to be made of batches that are ready, and of those that come back with them."""
    # A version says who closed its batch and why: of batches that were closed otherwise, one at a time.
    closings = dict.fromkeys((one.closed_by, one.closing_reason) for one in ready if one.closed_by)
    taken = [one for one in ready if not one.closed_by or (one.closed_by, one.closing_reason) == next(iter(closings))]
    tasks = {task for one in taken for task in task_ids(run, one.digest)}
    returning = [one for one in dataset.returning(tasks) if one not in {batch.digest for batch in taken}]
    for one in returning:
        run.log.info(f"Batch {short(one)} of {project.name} comes back: the version that it was in does not stand.")
        tasks.update(task_ids(run, one))
    batch = form(tasks)
    several = len(taken) + len(returning)
    name = taken[0].name if len(taken) == several == 1 else f"{several} batches, {batch.size} tasks"
    return _item(run, project, batch, name, dataset.base(), [*(one.digest for one in taken), *returning])


def _again(
    run: Run, project: Project, dataset: Dataset, version: VersionRecord, ready: list[OpenBatch]
) -> WorkItem | None:
    """Return the item that freezes a version once more, None where its batches are known to be frozen.

    After a recovery the ledger may hold a version and not that: its batches lead to it again.
    """
    state = dataset.states[version.digest]
    if state.state != "frozen" or all(one.times_frozen for one in ready):
        return None
    wanted, found, batches = set(task_ids(run, version.batch)), set[str](), []
    for one in ready:
        tasks = set(task_ids(run, one.digest))
        if not one.times_frozen and tasks <= wanted:
            found |= tasks
            batches.append(one.digest)
    return _item(run, project, form(found), version.name, state.base, batches) if found == wanted else None


def _item(run: Run, project: Project, batch: Batch, name: str, base: str | None, batches: Sequence[str]) -> WorkItem:
    run.store.put_object(batch.content)
    times = {one: times_frozen(run, one) for one in batches}
    return WorkItem(project.name, f"batch:{batch.digest}", name, {"batches": times, "base": base})


def freeze(run: Run, project: Project, item: WorkItem, prodigy: ProdigyClient) -> Frozen:
    """Freeze finished batches into a version; a version that exists already is only looked up.

    :raises Refused: when a batch is not finished after all.
    """
    kind, _, digest = item.subject.partition(":")
    if kind == "batch":
        # A try that was killed may have frozen them: then this one goes on with that version.
        batch, times = next(iter(item.detail["batches"].items()))
        if times_frozen(run, batch) <= times:
            return _freeze(run, project, digest, item.detail, prodigy)
        last = run.last(f"batch:{batch}", "batch.frozen")
        digest = (last.digest_after if last else None) or ""
    version = run.version(project, digest)
    passed = approval_state(run, digest).gate_passed
    gate = "passed" if passed else "has not passed yet"
    run.log.info(f"Version {version.number} ({short(digest)}) of {project.name} was frozen before; its gate {gate}.")
    return Frozen(digest, version.number or 0, None if passed else stage_version(run, project, digest), 0)


def _opened(run: Run, project: Project, digests: Collection[str], prodigy: ProdigyClient) -> list[OpenBatch]:
    """Return those of some batches that are open, for others only come back.

    :raises Refused: when one of them is not finished.
    """
    batches = [one for one in open_batches(run, project, prodigy) if one.digest in digests]
    for batch, progress in batch_progress(run, project, prodigy, batches):
        if not _finished(batch, progress):
            raise Refused(f"batch {short(batch.digest)} of {project.name} is not finished: {progress.why}")
    return batches


def _freeze(run: Run, project: Project, batch: str, detail: Mapping[str, Any], prodigy: ProdigyClient) -> Frozen:
    times, base = detail["batches"], detail["base"]
    if base != Dataset.of(run, project).base():
        raise Refused(f"what the next version of {project.name} rests on has changed: the next run takes it from there")
    finished = _opened(run, project, times, prodigy)
    closed = [one for one in finished if one.closed_by]
    identity = digest_of([batch, base]) if base else batch
    with run.effect(USE_CASE, project.name, f"batch:{batch}", identity, sum(times.values()) + 1) as effect:
        effect.begin()
        members = set(task_ids(run, batch))
        marks = prodigy.watermarks([project.answers, project.decisions])
        cut = {"last_link": marks[project.answers].last_link, "last_decision": marks[project.decisions].last_link}
        effect.check()
        frozen = freezing.freeze(
            run.store,
            project,
            batch,
            sorted(members),
            _answers_until(run, project, prodigy, members, cut["last_link"]),
            register=run.register,
            closed_by=closed[0].closed_by if closed else None,
            closing_reason=closed[0].closing_reason if closed else "",
            decisions=stored_decisions(
                (one for one in prodigy.rows(project.decisions) if one.link_id <= cut["last_decision"]),
                project,
                lambda row, error: malformed(run, project, row, error, project.decisions),
            ),
            base=KeptVersion(run.store, project, base, sources_digest(run, base)) if base else None,
            unfinished=len(finished) < len(times),
        )
        requesters = sorted({name for name in (run.requester(), *(one.closed_by for one in closed)) if name})
        ready = {"requesters": requesters, **({"base": base} if project.version == "dataset" else {})}
        version = _record(run, effect, frozen, times, cut, ready)
    rests = frozen.manifest.base
    run.log.info(
        f"Froze {_named(times)} of {project.name} into {version.name}: {frozen.manifest.counts.answers} answers, "
        f"{frozen.row_count} rows{f' ({rests.told})' if rests else ''}, digest {frozen.digest}."
    )
    return Frozen(frozen.digest, version.number or 0, stage_version(run, project, frozen.digest), 1)


def _named(batches: Collection[str]) -> str:
    return f"batch{'es' if len(batches) > 1 else ''} {', '.join(map(short, batches))}"


def _answers_until(
    run: Run, project: Project, prodigy: ProdigyClient, members: set[str], last_link: int
) -> Iterator[Answer]:
    """Stream the answers of a batch. What is saved from now on is late: it goes into the next batch."""
    for answer in answers_of(run, project, prodigy):
        if answer.task_id in members and answer.link_id <= last_link:
            yield answer


def _record(
    run: Run,
    effect: Effect,
    frozen: freezing.FrozenVersion,
    times: Mapping[str, int],
    cut: Mapping[str, int],
    ready: Mapping[str, Any],
) -> VersionRecord:
    """Put a version on the ledger in one transaction: never a version without its batches, or a batch without one."""
    project, digest, manifest = effect.project, frozen.digest, frozen.manifest
    ready = {
        **ready,
        "batch": manifest.batch,
        "batches": sorted(times),
        "sources_digest": measure(frozen.path / "sources.jsonl").sha256,
    }
    with run.ledger.transaction() as transaction:
        effect.claim.check_in(transaction)
        version = transaction.record_version(
            VersionRecord(
                project=project,
                digest=digest,
                rows_digest=manifest.rows.sha256,
                batch=manifest.batch,
                policy_digest=manifest.policy_digest,
                path=f"versions/{project}/{digest}",
                row_count=frozen.row_count,
                requested_by=run.requester() or "",
                run=run.ref.text,
            )
        )
        told = {**cut, "answers": manifest.counts.answers, "version": version.number}
        happened = [("batch.frozen", f"batch:{one}", ["frozen", before], told) for one, before in times.items()]
        happened.append(("version.ready", f"version:{digest}", ["ready", sum(times.values())], ready))
        for action, subject, key, body in happened:
            event = run.event(action, project, subject, after=digest, body=body)
            transaction.append(event, key=event_key(action, project, subject, key))
        effect.finish_in(transaction, f"version:{digest}", created=1, detail=version.name)
    return version


def request(
    run: Run,
    project: Project,
    given: Frozen,
    gate: Mapping[str, Any] | None,
    opentext: OpenTextClient,
    confluence: ConfluenceClient,
) -> Asked:
    """Put a version before its approvers: start the process of this attempt, unless it was started before.

    What they are shown is a page of its own, to which the process leads.

    :raises Refused: when the gate left no result that passed for exactly this version.
    :raises InvalidInput: when the deployed model does not fit the mapping, saying what a modeller should change.
    """
    version = run.version(project, given.digest)
    data = partial(version_data, run, project, version.digest)
    require_gate(run, project, f"version:{version.digest}", SUITE, gate, version.rows_digest, data)
    _must_be_fit(run, project, version)
    created, page = _show(run, project, version, confluence)
    created += approval_course(run, project, version, opentext).ask(page)
    return Asked(given.digest, given.number, given.created + created)


def _show(run: Run, project: Project, version: VersionRecord, confluence: ConfluenceClient) -> tuple[int, str]:
    """Write the page of what a version shows of itself, unless it was written before.

    :return: how many pages were created, and its address; "" for a version that people were asked about already.
    :raises Refused: when a page of its title is somebody else's.
    """
    if approval_state(run, version.digest).state != "frozen":
        return 0, ""
    with run.effect(f"{USE_CASE}.material", project.name, f"version:{version.digest}", version.digest) as effect:
        effect.begin()
        shown = material.body(project, material.gather(run, project, version))
        wanted = OwnedPage(project, "material", material.title(project, version), shown, of=version.digest)
        found = find(wanted, effect.done.reference if effect.done else None, confluence)
        page, created, updated = write(effect, wanted, found, confluence)
        effect.finish(
            "approval.shown",
            ["shown", page.id, page.version.number],
            page.id,
            created=created,
            updated=updated,
            detail=version.name,
            after=version.digest,
            body={"page": page.id, "version": page.version.number, "digest": storage.digest(shown)},
        )
    url = confluence.page_url(page)
    run.log.info(f"What {version.name} of {project.name} shows of itself is on {url}.")
    return created + updated, url


def _must_be_fit(run: Run, project: Project, version: VersionRecord) -> None:
    """Refuse to ask people about a version that its policy forbids whatever they say; it ends that attempt.

    :raises Refused: saying what is missing, so that it is mended before anybody has signed.
    """
    state = approval_state(run, version.digest)
    if state.state != "frozen":
        return
    why = Dataset.of(run, project).why_outdated(version.digest)
    if why:
        raise Refused(f"{version.name} of {project.name}: {why} The next run freezes its batches anew.")
    problems = unmet(freezing.read_manifest(run.store, project, version.digest))
    if problems:
        sentence = " ".join(problems)
        run.note(
            "approval.refused",
            project.name,
            f"version:{version.digest}",
            key=["refused", *state.judging],
            after=version.digest,
            reason=sentence,
            body={"attempt": state.attempt},
        )
        raise Refused(f"nobody is asked about {version.name} of {project.name}: {sentence}")


def capture(run: Run, project: Project, given: Asked, opentext: OpenTextClient) -> ItemResult:
    """Read the approvers' decisions and put them on the ledger."""
    return look(run, project, given.digest, opentext, given.created)[0]


def look(
    run: Run, project: Project, digest: str, opentext: OpenTextClient, created: int = 0
) -> tuple[ItemResult, approval.Evaluation | None]:
    """Look at the approval of one version: see :meth:`include.decisions.course.Course.look`."""
    return approval_course(run, project, run.version(project, digest), opentext).look(created)
