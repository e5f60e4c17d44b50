"""From people's answers to an approved dataset version.

A batch is finished → its answers are resolved and frozen into a version → the version is put before approvers in an
OpenText process → their decisions are captured, checked and put on the ledger.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from include.annotation.answers import Answer
from include.base.errors import Refused
from include.base.store import measure
from include.datasets import freeze as freezing
from include.datasets.resolve import stored_decisions
from include.datasets.staging import stage_version, version_data
from include.decisions import approval
from include.decisions.state import SUITE, TERMINAL, approval_state, approval_states
from include.governance.records import VersionRecord
from include.projects.model import Project
from include.queues.batches import OpenBatch, answers_of, batch_progress, malformed, open_batches, task_ids
from include.releases import by_hand
from include.releases.courses import approval_course
from include.run.gates import require_gate
from include.run.run import Effect, ItemResult, Run, WorkItem, event_key, short
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
    """Yield the versions whose approval is open, then the batches that are finished and not yet frozen.

    What the person who triggered the run decided by its parameters is recorded first.
    """
    by_hand.act(run, project, params, prodigy)
    states = approval_states(run, project)
    batches = list(open_batches(run, project, prodigy))
    ready = []
    for batch, progress in batch_progress(run, project, prodigy, batches) if batches else ():
        run.log.info(f"Batch {short(batch.digest)} of {project.name}: {progress.why}")
        if progress.finished or batch.closed_by:
            ready.append(batch)
    # After a recovery the ledger may hold a version and not that its batch was frozen: the batch leads to it again.
    again = {batch.digest for batch in ready if not batch.times_frozen}
    for version in run.ledger.versions(project.name):
        state = states[version.digest].state
        if state not in TERMINAL and not (state == "frozen" and version.batch in again):
            yield WorkItem(project.name, f"version:{version.digest}", version.name)
    for batch in ready:
        yield WorkItem(project.name, f"batch:{batch.digest}", batch.name, {"times_frozen": batch.times_frozen})


def freeze(run: Run, project: Project, item: WorkItem, prodigy: ProdigyClient) -> Frozen:
    """Freeze a finished batch into a version; a version that exists already is only looked up.

    :raises Refused: when the batch is not finished after all.
    """
    kind, _, digest = item.subject.partition(":")
    if kind == "batch":
        # A try that was killed may have frozen it: then this one goes on with that version.
        before = list(run.ledger.events(subject=item.subject, actions=["batch.frozen"]))
        if len(before) <= item.detail.get("times_frozen", 0):
            return _freeze(run, project, _finished(run, project, digest, prodigy), prodigy)
        digest = before[-1].digest_after or ""
    version = run.version(project, digest)
    passed = approval_state(run, digest).gate_passed
    gate = "passed" if passed else "has not passed yet"
    run.log.info(f"Version {version.number} ({short(digest)}) of {project.name} was frozen before; its gate {gate}.")
    return Frozen(digest, version.number or 0, None if passed else stage_version(run, project, digest), 0)


def _finished(run: Run, project: Project, digest: str, prodigy: ProdigyClient) -> OpenBatch:
    batch = next((one for one in open_batches(run, project, prodigy) if one.digest == digest), None)
    if batch is None:
        raise Refused(f"batch {short(digest)} of {project.name} is not open: it was never assigned")
    [(_, progress)] = batch_progress(run, project, prodigy, [batch])
    if not (progress.finished or batch.closed_by):
        raise Refused(f"batch {short(digest)} of {project.name} is not finished: {progress.why}")
    return batch


def _freeze(run: Run, project: Project, batch: OpenBatch, prodigy: ProdigyClient) -> Frozen:
    subject, requester = f"batch:{batch.digest}", run.requester()
    with run.effect(USE_CASE, project.name, subject, batch.digest, batch.times_frozen + 1) as effect:
        effect.begin()
        members = set(task_ids(run, batch.digest))
        last_link = prodigy.watermark(project.answers).last_link
        effect.check()
        frozen = freezing.freeze(
            run.store,
            project,
            batch.digest,
            sorted(members),
            _answers_until(run, project, prodigy, members, last_link),
            register=run.register,
            closed_by=batch.closed_by,
            closing_reason=batch.closing_reason,
            decisions=stored_decisions(
                prodigy.rows(project.decisions),
                project,
                lambda row, error: malformed(run, project, row, error, project.decisions),
            ),
        )
        version = _record(run, effect, batch, frozen, project.policy.digest, requester, last_link)
    run.log.info(
        f"Froze batch {short(batch.digest)} of {project.name} into {version.name}: "
        f"{frozen.manifest.counts.answers} answers, {frozen.row_count} rows, digest {frozen.digest}."
    )
    return Frozen(frozen.digest, version.number or 0, stage_version(run, project, frozen.digest), 1)


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
    batch: OpenBatch,
    frozen: freezing.FrozenVersion,
    policy: str,
    requester: str | None,
    last_link: int,
) -> VersionRecord:
    """Put a version on the ledger in one transaction: never a version without its batch, or a batch without one."""
    project, digest, rounds = effect.project, frozen.digest, batch.times_frozen
    requesters = sorted({name for name in (requester, batch.closed_by) if name})
    asked: dict[str, Any] = {"batch": batch.digest, "requesters": requesters}
    asked["sources_digest"] = measure(frozen.path / "sources.jsonl").sha256
    with run.ledger.transaction() as transaction:
        effect.claim.check_in(transaction)
        version = transaction.record_version(
            VersionRecord(
                project=project,
                digest=digest,
                rows_digest=frozen.manifest.rows.sha256,
                batch=batch.digest,
                policy_digest=policy,
                path=f"versions/{project}/{digest}",
                row_count=frozen.row_count,
                requested_by=requester or "",
                run=run.ref.text,
            )
        )
        cut = {"answers": frozen.manifest.counts.answers, "last_link": last_link, "version": version.number}
        for action, subject, key, body in (
            ("batch.frozen", effect.subject, ["frozen", rounds], cut),
            ("version.ready", f"version:{digest}", ["ready", rounds], asked),
        ):
            event = run.event(action, project, subject, after=digest, body=body)
            transaction.append(event, key=event_key(action, project, subject, key))
        effect.finish_in(transaction, f"version:{digest}", created=1, detail=version.name)
    return version


def request(
    run: Run, project: Project, given: Frozen, gate: Mapping[str, Any] | None, opentext: OpenTextClient
) -> Asked:
    """Put a version before its approvers: start the process of this attempt, unless it was started before.

    :raises Refused: when the gate left no result that passed for exactly this version.
    :raises InvalidInput: when the deployed model does not fit the mapping, saying what a modeller should change.
    """
    version = run.version(project, given.digest)
    data = partial(version_data, run, project, version.digest)
    require_gate(run, project, f"version:{version.digest}", SUITE, gate, version.rows_digest, data)
    created = approval_course(run, project, version, opentext).ask()
    return Asked(given.digest, given.number, given.created + created)


def capture(run: Run, project: Project, given: Asked, opentext: OpenTextClient) -> ItemResult:
    """Read the approvers' decisions and put them on the ledger."""
    return look(run, project, given.digest, opentext, given.created)[0]


def look(
    run: Run, project: Project, digest: str, opentext: OpenTextClient, created: int = 0
) -> tuple[ItemResult, approval.Evaluation | None]:
    """Look at the approval of one version: see :meth:`include.decisions.course.Course.look`."""
    return approval_course(run, project, run.version(project, digest), opentext).look(created)
