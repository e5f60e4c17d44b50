"""From people's answers to an approved dataset version.

A batch is finished → its answers are resolved and frozen into a version → the version is put before approvers in an
OpenText process → their decisions are captured, checked and put on the ledger. Each run starts what is missing and
harvests what is decided; nothing here waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from include.annotation.answers import Answer, read_answer
from include.base.canonical import digest_of, effect_key, sha256_hex
from include.base.errors import InvalidInput, Refused
from include.bpmn.check import check_model
from include.bpmn.mapping import ProcessMapping, start_variables
from include.datasets import freeze as freezing
from include.datasets.batches import BatchTally, Progress
from include.governance import approval
from include.governance.records import Event, VersionRecord
from include.projects.model import Project
from include.systems.opentext import OpenTextGateway
from include.systems.prodigy import ProdigyGateway
from include.usecases.batches import OpenBatch, open_batches, task_ids
from include.usecases.desk import Desk, ItemResult, WorkItem, short
from include.usecases.gates import require_gate, stage_version

__all__ = ["capture", "close_batch", "freeze", "pending", "request", "resubmit", "snapshot"]

USE_CASE = "labeling_approval"
TERMINAL = ("approved", "rejected", "rework", "undecided", "void", "expired", "cancelled", "stale")
"""The stated results of an approval; each ends the attempt."""


@dataclass(frozen=True)
class ApprovalState:
    """Where a version stands.

    :param state: ``frozen`` (nobody was asked yet), ``requested``, or one of :data:`TERMINAL`.
    :param requested: the request of the current attempt.
    :param requesters: every person who asked, resubmitted or closed the batch: none of them may approve.
    """

    state: str
    attempt: int
    requested: Event | None
    requesters: frozenset[str]
    gate_passed: bool


def approval_state(desk: Desk, digest: str) -> ApprovalState:
    """Work out from the ledger where a version stands."""
    state, attempt, requested, gate_passed = "frozen", 1, None, False
    requesters: set[str] = set()
    for event in desk.ledger.events(subject=f"version:{digest}"):
        if event.action == "approval.requested":
            state, requested = "requested", event
        elif event.action == "approval.resubmitted":
            state, attempt, requested = "frozen", attempt + 1, None
        elif event.action == "gate.passed":
            gate_passed = True
        elif event.action.startswith("approval.") and event.action.removeprefix("approval.") in TERMINAL:
            state = event.action.removeprefix("approval.")
        requesters.update(event.body.get("requesters", []))
    return ApprovalState(state, attempt, requested, frozenset(requesters), gate_passed)


def pending(desk: Desk, project: Project, prodigy: ProdigyGateway) -> Iterator[WorkItem]:
    """Yield the versions whose approval is open, then the batches that are finished and not yet frozen."""
    for version in desk.ledger.versions(project.name):
        where = approval_state(desk, version.digest)
        if where.state not in TERMINAL:
            yield WorkItem(project.name, f"version:{version.digest}", {"kind": "version", "number": version.number})
    batches = list(open_batches(desk, project, prodigy))
    if not batches:
        return
    for batch, progress in _progress(desk, project, prodigy, batches):
        desk.log.info("Batch %s of %s: %s", short(batch.digest), project.name, progress.why)
        if progress.finished or batch.closed_by:
            yield WorkItem(project.name, f"batch:{batch.digest}", {"kind": "batch"})


def freeze(desk: Desk, project: Project, item: WorkItem, prodigy: ProdigyGateway) -> dict[str, Any]:
    """Freeze a finished batch into a version; a version that exists already is only looked up.

    :return: ``digest``, ``number``, and ``staged``, the rows for the gate (None where the gate has passed before).
    :raises Refused: when the batch is not finished after all.
    """
    kind, _, digest = item.subject.partition(":")
    if kind == "version":
        version = _version(desk, project, digest)
        desk.log.info("Version %d (%s) of %s was frozen before.", version.number, short(digest), project.name)
        staged = None if approval_state(desk, digest).gate_passed else stage_version(desk, project, digest)
        return {"digest": digest, "number": version.number, "staged": staged, "created": 0}
    batch = next((one for one in open_batches(desk, project, prodigy) if one.digest == digest), None)
    if batch is None:
        raise Refused(
            f"batch {short(digest)} of {project.name} is not open: it was frozen meanwhile, or never assigned"
        )
    [(_, progress)] = _progress(desk, project, prodigy, [batch])
    if not (progress.finished or batch.closed_by):
        raise Refused(f"batch {short(digest)} of {project.name} is not finished: {progress.why}")
    effect = desk.claim(USE_CASE, project.name, item.subject, digest)
    members = set(task_ids(desk, digest))
    watermark = prodigy.watermark(project.answers)
    answers = [answer for answer in _answers(desk, project, prodigy) if answer.task_id in members]
    effect.check()
    frozen = freezing.freeze(
        desk.store,
        project,
        batch.digest,
        sorted(members),
        answers,
        register=desk.register,
        closed_by=batch.closed_by,
        closing_reason=batch.closing_reason,
    )
    effect.check()
    record = desk.ledger.record_version(
        VersionRecord(
            project=project.name,
            digest=frozen.digest,
            rows_digest=frozen.manifest.rows.sha256,
            batch=batch.digest,
            policy_digest=project.policy.digest,
            path=f"versions/{project.name}/{frozen.digest}",
            row_count=frozen.row_count,
            requested_by=desk.requester() or "",
            run=desk.run.text,
        )
    )
    created = desk.note(
        "batch.frozen",
        project.name,
        f"batch:{batch.digest}",
        key="frozen",
        after=frozen.digest,
        body={"answers": len(answers), "last_link": watermark.last_link, "version": record.number},
    )
    requesters = sorted({name for name in (desk.requester(), batch.closed_by) if name})
    desk.note(
        "version.ready",
        project.name,
        f"version:{frozen.digest}",
        key="ready",
        after=frozen.digest,
        body={
            "batch": batch.digest,
            "requesters": requesters,
            "sources_digest": sha256_hex(bytes((frozen.path / "sources.jsonl").read_bytes())),
        },
    )
    effect.done(f"version:{frozen.digest}", created=int(created), updated=0, detail=f"version {record.number}")
    desk.log.info(
        "Froze batch %s of %s into version %d: %d answers, %d rows, digest %s.",
        short(batch.digest), project.name, record.number, len(answers), frozen.row_count, frozen.digest,
    )  # fmt: skip
    return {
        "digest": frozen.digest,
        "number": record.number,
        "staged": stage_version(desk, project, frozen.digest),
        "created": int(created),
    }


def request(
    desk: Desk,
    project: Project,
    item: WorkItem,
    frozen: Mapping[str, Any] | None,
    gate: Mapping[str, Any] | None,
    opentext: OpenTextGateway,
    mapping: ProcessMapping,
) -> dict[str, Any]:
    """Put a version before its approvers: start the process of this attempt, unless it was started before.

    :raises Refused: when the gate left no result that passed for exactly this version.
    :raises InvalidInput: when the deployed model does not fit the mapping, saying what a modeller should change.
    """
    if not frozen:
        raise Refused(
            f"{item.subject} of {project.name}: the freeze left no result, so nothing is put before approvers"
        )
    digest, subject = frozen["digest"], f"version:{frozen['digest']}"
    version = _version(desk, project, digest)
    require_gate(desk, project, subject, "version_rows", gate, version.rows_digest)
    where = approval_state(desk, digest)
    if where.state != "frozen":
        return {"digest": digest, "number": version.number, "created": frozen["created"]}
    check_deployed(desk, project, opentext, mapping)
    key = effect_key(USE_CASE, project.name, subject, digest, where.attempt)
    effect = desk.claim(USE_CASE, project.name, subject, digest, where.attempt)
    now = desk.now()
    effect.check()
    process_id, created = opentext.start_process(
        mapping.process_key,
        name=f"{project.title}: version {version.number} ({short(digest)})",
        business_key=key,
        variables={
            **start_variables(mapping, [one.role for one in project.policy.approvals]),
            mapping.digest_variable: digest,
            "labelops_project": project.name,
            "dataset_version": version.number,
            "dataset_rows": version.row_count,
            "policy_digest": project.policy.digest,
            "attempt": where.attempt,
            "due_at": (now + project.policy.due).astimezone(UTC).isoformat(),
            "evidence_hint": f"Comment with {short(digest)} before you complete, so that your decision is attested.",
        },
    )
    desk.note(
        "approval.requested",
        project.name,
        subject,
        key=["requested", where.attempt],
        after=digest,
        body={
            "process_id": process_id,
            "business_key": key,
            "attempt": where.attempt,
            "requesters": sorted({one for one in (desk.requester(),) if one}),
        },
    )
    effect.done(process_id, created=int(created), updated=0, detail=f"attempt {where.attempt}")
    desk.log.info(
        "%s the approval process %s for version %d of %s (attempt %d); approvers have until %s.",
        "Started" if created else "Found", process_id, version.number, project.name, where.attempt,
        (now + project.policy.due).isoformat(timespec="minutes"),
    )  # fmt: skip
    return {"digest": digest, "number": version.number, "created": frozen["created"] + int(created)}


def capture(
    desk: Desk,
    project: Project,
    digest: str,
    opentext: OpenTextGateway,
    mapping: ProcessMapping,
    *,
    created: int = 0,
) -> tuple[ItemResult, approval.Evaluation | None]:
    """Read what the approvers did, check role and four eyes, and put every new decision on the ledger.

    :param created: effects of the steps before, so that the item's result counts them.
    """
    version = _version(desk, project, digest)
    subject = f"version:{digest}"
    where = approval_state(desk, digest)
    if where.state in TERMINAL or where.requested is None:
        return _result(project, version, where.state, "nothing is open", created, 0, False, opentext, where), None
    found = evaluate(desk, project, digest, where, opentext, mapping)
    # While the process runs, a lagging history may still change a decision's grade: it goes on record when it is final.
    fresh = record_decisions(desk, found.decisions) if found.state in TERMINAL else 0
    for finding in found.findings:
        desk.finding(project.name, subject, "approval", finding)
    updated = _act_on_deadline(desk, project, version, where, found, opentext)
    changed = False
    if found.state in TERMINAL:
        if found.state in ("void", "undecided") and opentext.process(where.requested.body["process_id"]):
            opentext.terminate(where.requested.body["process_id"], f"{found.state}: {found.sentence}"[:250])
            updated += 1
        changed = desk.note(
            f"approval.{found.state}",
            project.name,
            subject,
            key=[found.state, where.attempt],
            after=digest,
            reason=found.sentence,
            body={"attempt": where.attempt, "process_id": where.requested.body["process_id"]},
        )
    desk.log.info(
        "Version %d of %s (%s): %s; %d new decision(s) on the ledger.",
        version.number, project.name, short(digest), found.sentence, fresh,
    )  # fmt: skip
    return _result(project, version, found.state, found.sentence, created, updated, changed, opentext, where), found


def evaluate(
    desk: Desk,
    project: Project,
    digest: str,
    where: ApprovalState,
    opentext: OpenTextGateway,
    mapping: ProcessMapping,
) -> approval.Evaluation:
    """Read the process of a version at its source and judge it, writing nothing but the assignees seen."""
    if where.requested is None:
        raise Refused(f"version {short(digest)} of {project.name} was never put before approvers")
    manifest = freezing.read_manifest(desk.store, project.name, digest)
    return approval.evaluate(
        snapshot(desk, where.requested.body["process_id"], opentext),
        project=project,
        digest=digest,
        business_key=where.requested.body["business_key"],
        manifest_persons=freezing.annotators(manifest),
        requesters=where.requesters,
        mapping=mapping,
        register=desk.register,
        policy=project.policy,
        attempt=where.attempt,
        started_at=where.requested.time,
        now=desk.now(),
    )


def snapshot(desk: Desk, process_id: str, opentext: OpenTextGateway) -> approval.ProcessSnapshot:
    """Read all that a process shows about who did what, and remember the assignees seen at this poll."""
    history = opentext.history(process_id)
    tasks = list(opentext.historic_tasks(process_id))
    waiting = [] if history.ended_at else list(opentext.tasks(process_id=process_id))
    scope = f"observed:{process_id}"
    earlier = desk.ledger.sync_state(scope) or {}
    observed = approval.observe(earlier, waiting)
    if observed != earlier:
        desk.ledger.save_sync_state(scope, observed)
    return approval.ProcessSnapshot(
        history=history,
        tasks=tasks,
        open_tasks=waiting,
        comments=opentext.comments(process_id),
        observed=observed,
    )


def record_decisions(desk: Desk, decisions: Iterable[approval.ProcessDecision]) -> int:
    """Put decisions on the ledger, each once, with the replies that prove it in the store; return how many were new."""
    return sum(desk.ledger.record_decision(one.record(desk.store.put_object(one.proof()))) for one in decisions)


def close_batch(desk: Desk, project: Project, prefix: str, reason: str, prodigy: ProdigyGateway) -> None:
    """Close an unfinished batch in the name of the person who triggered the run, listing what is missing.

    :raises Refused: when nobody in the register triggered the run.
    :raises InvalidInput: for an unknown batch or an empty reason.
    """
    person = _person(desk, "closing a batch")
    _reason(reason, "close")
    batches = [one for one in open_batches(desk, project, prodigy) if one.digest.startswith(prefix)]
    if len(batches) != 1:
        raise InvalidInput(f"close: {prefix!r} names {len(batches)} open batches of {project.name}")
    [(batch, progress)] = _progress(desk, project, prodigy, batches)
    desk.note(
        "batch.closed",
        project.name,
        f"batch:{batch.digest}",
        key="closed",
        actor=person,
        reason=reason,
        body={"missing": progress.expected - progress.done, "requesters": [person]},
    )


def resubmit(desk: Desk, project: Project, prefix: str, reason: str) -> None:
    """Record the decision to put a version before its approvers again, as a new attempt.

    :raises Refused: when nobody in the register triggered the run, or an approval is still open.
    :raises InvalidInput: for an unknown version or an empty reason.
    """
    person = _person(desk, "resubmitting a version")
    _reason(reason, "resubmit")
    versions = [one for one in desk.ledger.versions(project.name) if one.digest.startswith(prefix)]
    if len(versions) != 1:
        raise InvalidInput(f"resubmit: {prefix!r} names {len(versions)} versions of {project.name}")
    where = approval_state(desk, versions[0].digest)
    already = [
        event
        for event in desk.ledger.events(subject=f"version:{versions[0].digest}", actions=["approval.resubmitted"])
        if event.body.get("run_id") == desk.run.run_id
    ]
    if already:
        return
    if where.state not in TERMINAL or where.state == "approved":
        raise Refused(f"version {prefix} of {project.name} is {where.state}: only a decided one can be resubmitted")
    desk.note(
        "approval.resubmitted",
        project.name,
        f"version:{versions[0].digest}",
        key=["resubmitted", where.attempt + 1],
        actor=person,
        reason=reason,
        body={"attempt": where.attempt + 1, "requesters": [person], "run_id": desk.run.run_id},
    )


def check_deployed(desk: Desk, project: Project, opentext: OpenTextGateway, mapping: ProcessMapping) -> None:
    """Check the deployed model against our mapping; a model checked before is not read again.

    :raises InvalidInput: listing, for the modeller, what does not fit.
    """
    model = next(iter(opentext.models(mapping.process_key)), None)
    if model is None:
        raise InvalidInput(
            f"OpenText has no deployed model with the key {mapping.process_key!r}: deploy it, "
            f"or name the tenant's own key in the mapping {project.process_mapping!r}"
        )
    scope = f"model:{mapping.process_key}"
    checked = {"id": model.id, "version": model.version, "mapping": digest_of(mapping.model_dump(mode="json"))}
    if desk.ledger.sync_state(scope) == checked:
        return
    problems = check_model(mapping, opentext.model(model.id).content or "")
    if problems:
        raise InvalidInput(
            f"the deployed model {mapping.process_key!r} (version {model.version}) does not fit the mapping:\n- "
            + "\n- ".join(problems)
        )
    desk.ledger.save_sync_state(scope, checked)


def _act_on_deadline(
    desk: Desk,
    project: Project,
    version: VersionRecord,
    where: ApprovalState,
    found: approval.Evaluation,
    opentext: OpenTextGateway,
) -> int:
    """Remind, escalate or end an approval that is late, each once an attempt; return the number of effects."""
    if found.next_step is None or where.requested is None:
        return 0
    process_id = where.requested.body["process_id"]
    subject = f"version:{version.digest}"
    effect = desk.claim(f"{USE_CASE}.{found.next_step}", project.name, subject, version.digest, where.attempt)
    if effect.previous:
        return 0
    effect.check()
    open_tasks = ", ".join(sorted(task.name for task in opentext.tasks(process_id=process_id))) or "none"
    if found.next_step == "expire":
        opentext.terminate(process_id, f"expired: not decided by {found.expires_at:%Y-%m-%d %H:%M} UTC")
    else:
        text = {
            "remind": f"Reminder: version {version.number} of {project.title} ({short(version.digest)}) waits for a "
            f"decision until {found.due:%Y-%m-%d %H:%M} UTC. Open: {open_tasks}.",
            "escalate": f"Escalated to {project.policy.escalation_role or project.owner}: version {version.number} of "
            f"{project.title} ({short(version.digest)}) was due at {found.due:%Y-%m-%d %H:%M} UTC. Open: {open_tasks}. "
            f"Without a decision it expires at {found.expires_at:%Y-%m-%d %H:%M} UTC.",
        }[found.next_step]
        if not any(comment.message == text for comment in opentext.comments(process_id)):
            opentext.add_comment(process_id, text)
        if found.next_step == "escalate":
            for task in opentext.tasks(process_id=process_id):
                opentext.update_task(task.id, priority=100)
    done = {"remind": "reminded", "escalate": "escalated", "expire": "timed_out"}[found.next_step]
    desk.note(f"approval.{done}", project.name, subject, key=[done, where.attempt], body={"process_id": process_id})
    effect.done(process_id, created=0, updated=1, detail=found.next_step)
    return 1


def _progress(
    desk: Desk, project: Project, prodigy: ProdigyGateway, batches: list[OpenBatch]
) -> list[tuple[OpenBatch, Progress]]:
    tally = BatchTally({batch.digest: task_ids(desk, batch.digest) for batch in batches}, project, desk.register)
    tally.add_all(_answers(desk, project, prodigy))
    now = desk.now()
    return [(batch, tally.progress(batch.digest, now)) for batch in batches]


def _answers(desk: Desk, project: Project, prodigy: ProdigyGateway) -> Iterator[Answer]:
    """Stream a project's answers; a malformed one becomes a finding and the rest goes on."""
    for row in prodigy.rows(project.answers):
        try:
            yield read_answer(row, project)
        except InvalidInput as error:
            desk.finding(
                project.name, f"dataset:{project.answers}", "malformed answer", str(error), example=row.example_id
            )


def _version(desk: Desk, project: Project, digest: str) -> VersionRecord:
    version = desk.ledger.version(digest)
    if version is None or version.project != project.name:
        raise Refused(f"the ledger knows no version {short(digest)} of {project.name}")
    return version


def _result(
    project: Project,
    version: VersionRecord,
    state: str,
    sentence: str,
    created: int,
    updated: int,
    changed: bool,
    opentext: OpenTextGateway,
    where: ApprovalState,
) -> ItemResult:
    process_id = where.requested.body["process_id"] if where.requested else ""
    return ItemResult(
        project=project.name,
        subject=f"version:{version.digest}",
        state=state,
        sentence=sentence,
        created=created,
        updated=updated,
        changed=changed,
        where=opentext.process_url(process_id) if process_id else version.path,
        detail={"digest": version.digest, "number": version.number, "process_id": process_id, "attempt": where.attempt},
    )


def _person(desk: Desk, what: str) -> str:
    person = desk.requester()
    if person is None:
        raise Refused(f"{what} needs a named person: trigger the run by hand, as somebody in the register")
    return person


def _reason(reason: str, parameter: str) -> None:
    if not reason.strip():
        raise InvalidInput(f"reason: `{parameter}` needs one, in words, for the ledger")


def next_look(found: approval.Evaluation | None, now: datetime) -> timedelta | None:
    """Return how long to wait before a deadline needs acting on, None where nothing is open."""
    if found is None or found.state in TERMINAL:
        return None
    ahead = [moment for moment in (found.reminder_at, found.due, found.expires_at) if moment > now]
    return min(ahead) - now if ahead else timedelta(0)
