"""What a release is outside: files, a linked Prodigy dataset, a call of training; and how it is taken back."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import asdict
from typing import Any

from include.base.canonical import digest_of
from include.base.errors import Refused
from include.datasets import freeze as freezing
from include.datasets.drift import sources_digest
from include.decisions.release_course import ReleaseCourse
from include.decisions.state import ApprovalState, approval_state, approval_states
from include.governance.checkpoint import write_checkpoint
from include.governance.records import Event
from include.governance.usage import USED
from include.projects.model import Project
from include.releases import write as releasing
from include.releases.passport import release_context, send_lineage
from include.releases.standing import TAKEN_BACK, recallable, standing_releases, stands_released
from include.run.run import Effect, ItemResult, Run, WorkItem, short
from include.systems.prodigy.client import ProdigyClient

__all__ = ["Tell", "recall", "write"]

USE_CASE = "dataset_release"

Tell = Callable[[dict[str, Any], str], None]
"""Tells the training side something (JSON), under an idempotency key."""


def write(
    course: ReleaseCourse,
    where: ApprovalState,
    edition: int,
    prodigy: ProdigyClient,
    training: Tell | None,
    lineage: Callable[[bytes], None] | None,
    created: int,
) -> ItemResult:
    """Write a release, link it in Prodigy, tell training; the files' pointer comes last.

    :param edition: which release of the version it is.
    :param created: effects of the steps before, so that the item's result counts them.
    """
    run, project, version, subject = course.run, course.project, course.version, course.subject
    with run.effect(f"{USE_CASE}.files", project.name, subject, version.digest, edition) as effect:
        effect.check()
        written = _write_files(course, where, edition)
        effect.check()
        dataset = project.version_dataset(version.number or 0)
        meta = {"project": project.name, "version": version.number, "digest": version.digest}
        linked = prodigy.link(dataset, _winning_examples(run, project, version.digest), {"labelops": meta})
        if training is not None:
            effect.check()
            training({**meta, "rows": version.row_count, "location": str(written.path)}, effect.key)
        if lineage is not None:
            effect.check()
            send_lineage(run, project, subject, written.path, lineage)
        made = int(written.created) + int(bool(linked))
        new = effect.finish(
            "release.done",
            "done" if edition == 1 else ["done", edition],
            str(written.path),
            created=made,
            detail=version.name,
            after=version.digest,
            body={
                "number": version.number,
                "edition": edition,
                "path": f"releases/{project.name}/{written.path.name}",
                "dataset": dataset,
                "files": dict(written.files),
                "webhook": training is not None,
            },
        )
    write_checkpoint(run.ledger, run.store, run.signer)
    sentence = (
        f"Version {version.number} ({short(version.digest)}) is released: {version.row_count} rows, dataset {dataset}"
    )
    run.log.info(f"{sentence}, in {written.path}.")
    return course.outcome("released", sentence, created + made, new, str(written.path))


def _write_files(course: ReleaseCourse, where: ApprovalState, edition: int) -> releasing.Release:
    run, project, version = course.run, course.project, course.version
    processes = {event.body["process_id"] for event in (where.requested, course.requested) if event is not None}
    manifest = freezing.read_manifest(run.store, project, version.digest)
    return releasing.write_release(
        run.store,
        project,
        version.digest,
        version.number or 0,
        manifest,
        _approvals(run, version.digest, processes),
        release_context(run, project, manifest, where.requested, processes),
        run.signer,
        edition=edition,
    )


def _approvals(run: Run, digest: str, processes: Collection[str]) -> list[dict[str, Any]]:
    """Return the decisions that a release rests on, each with the source's time and ours."""
    recorded = {
        event.body["decision_id"]: event.time
        for event in run.ledger.events(subject=f"version:{digest}", actions=["decision.recorded"])
    }
    return [
        {**asdict(one), "recorded_at": recorded[one.decision_id]}
        for one in run.ledger.decisions(digest)
        if one.process_id in processes
    ]


def _winning_examples(run: Run, project: Project, digest: str) -> list[int]:
    """Return, for each row that people's answers decided, the example whose answer is the final label."""
    examples: dict[str, int] = {}
    for example_id, row in freezing.source_rows(run.store, project, digest, sources_digest(run, digest)):
        examples[row] = min(example_id, examples.get(row, example_id))
    return sorted(
        {examples[row["answers"][0]["row"]] for row in freezing.rows(run.store, project, digest) if row["answers"]}
    )


def recall(
    run: Run,
    project: Project,
    item: WorkItem,
    course: ReleaseCourse,
    prodigy: ProdigyClient,
    training: Tell | None,
) -> ItemResult:
    """Take back the release of a version that was withdrawn, or is stale since what it rests on was.

    Its process ends, its folder is marked, its dataset unlinked, and training is told.

    The files stay, for what was trained on them has to be explained; a mark beside them says that they must not be
    used any more, by whose word and why.

    :raises Refused: when its approval stands.
    """
    version, subject, digest = course.version, course.subject, course.version.digest
    if approval_state(run, digest).state not in TAKEN_BACK:
        raise Refused(f"the approval of {version.name} of {project.name} was not taken back")
    if subject not in recallable(run, project):
        return item.result("recalled", f"Version {version.number} was recalled before")
    withdrawn = run.last(subject, *(f"approval.{state}" for state in TAKEN_BACK))
    released, asked = stands_released(run, digest), course.requested
    if withdrawn is None:
        raise AssertionError("what was taken back is on the ledger")
    edition, request = released.body.get("edition", 1) if released else 0, asked.body["attempt"] if asked else 0
    where = released.body["path"] if released else ""
    identity = digest_of([digest, edition])
    with run.effect(f"{USE_CASE}.recall", project.name, subject, identity, request + 1) as effect:
        effect.check()
        updated = course.end(asked, withdrawn.reason) if asked else 0
        if released is not None:
            effect.check()
            updated += _take_back(course, withdrawn, released, prodigy)
            _tell_recalled(course, withdrawn, released, training, effect)
        new = effect.finish(
            "release.recalled",
            ["recalled", edition, request],
            where or subject,
            updated=updated,
            detail=version.name,
            before=digest,
            reason=withdrawn.reason,
            body={
                "number": version.number,
                "edition": edition,
                "path": where,
                "dataset": released.body["dataset"] if released else "",
                "withdrawn_by": withdrawn.actor,
                "webhook": released is not None and training is not None,
            },
        )
    write_checkpoint(run.ledger, run.store, run.signer)
    what = "is recalled" if released else "was about to be released, and is not"
    sentence = f"Version {version.number} ({short(digest)}) {what}: {withdrawn.reason}"
    run.log.warning(f"{sentence}.{f' Its files stay in {where}, marked.' if where else ''}")
    detail = {"digest": digest, "number": version.number}
    return item.result("recalled", sentence, updated=updated, changed=new, where=where, detail=detail)


def _take_back(course: ReleaseCourse, withdrawn: Event, released: Event, prodigy: ProdigyClient) -> int:
    """Mark a release's folder, point to the newest one that stands, unlink the dataset; return what was changed."""
    run, project, version = course.run, course.project, course.version
    states = approval_states(run, project)
    others = [  # one that is about to be recalled too is no better
        event
        for name, event in standing_releases(run.ledger, project.name).items()
        if name != released.subject and states[name.removeprefix("version:")].state == "approved"
    ]
    marked = releasing.mark_recalled(
        run.store,
        project,
        released.body["path"].rpartition("/")[2],
        {
            "project": project.name,
            "version": version.number,
            "digest": version.digest,
            "by": withdrawn.actor,
            "at": withdrawn.time.isoformat(),
            "reason": withdrawn.reason,
            "state": withdrawn.action.removeprefix("approval."),
            "ledger_event": withdrawn.seq,
        },
        instead=others[-1].body["path"].rpartition("/")[2] if others else None,
    )
    return int(marked) + int(bool(prodigy.unlink(released.body["dataset"])))


def _tell_recalled(
    course: ReleaseCourse, withdrawn: Event, released: Event, training: Tell | None, effect: Effect
) -> None:
    """Tell training, and make a finding of each model that was made with the version."""
    run, project, version = course.run, course.project, course.version
    if training is not None:
        effect.check()
        payload = {"event": "recalled", "project": project.name, "version": version.number, "digest": version.digest}
        training({**payload, "location": released.body["path"], "reason": withdrawn.reason}, effect.key)
    for use in run.ledger.events(subject=course.subject, actions=[USED]):
        model = f"{use.body['model']} {use.body['model_version']}"
        run.finding(project.name, course.subject, "recalled version in use", f"model {model} was made with it")
