"""From people's answers to an approved dataset version.

A batch is finished → its answers are resolved and frozen into a version → the version is put before approvers in an
OpenText process → their decisions are captured, checked and put on the ledger. Each run starts what is missing and
harvests what is decided; nothing here waits.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from include.annotation.answers import Answer, AnswerReader
from include.base.canonical import canonical_json, digest_of, effect_key
from include.base.errors import InvalidInput, Refused, Unavailable, Unsupported
from include.base.store import measure
from include.bpmn.check import check_model
from include.bpmn.mapping import ProcessMapping, start_variables
from include.datasets import freeze as freezing
from include.datasets.staging import stage_version
from include.decisions import approval
from include.decisions.completion_probe import service_token
from include.decisions.duplicates import end_duplicates, end_if_overtaken
from include.governance.records import Decision, Event, VersionRecord
from include.projects.model import Policy, Project
from include.queues.batches import OpenBatch, malformed, open_batches, task_ids
from include.queues.progress import BatchTally, Progress
from include.run.gates import require_gate
from include.run.run import ItemResult, Run, WorkItem, event_key, short
from include.systems.opentext.values import HistoricProcess, OpenTextGateway, ProcessComment, ProcessModel
from include.systems.prodigy.values import ProdigyGateway

__all__ = [
    "ApprovalState",
    "approval_state",
    "approval_states",
    "batch_progress",
    "capture",
    "check_deployed",
    "evaluate",
    "freeze",
    "kept_decisions",
    "next_look",
    "pending",
    "request",
    "snapshot",
    "statements_put",
]

USE_CASE = "labeling_approval"
SETTLE_SECONDS = 10
"""How long to look for the process that a try which was killed may have started."""

HISTORY_LAG = timedelta(minutes=10)
"""How long an ended process is not judged while history shows a task of it as open; after that it is taken as it is."""

SUITE = "version_rows"
TERMINAL = ("approved", "rejected", "rework", "undecided", "void", "expired", "cancelled", "stale", "withdrawn")
"""The stated results of an approval; each ends the attempt. What was approved may be withdrawn later."""


@dataclass(frozen=True)
class ApprovalState:
    """Where a version stands.

    :param state: ``frozen`` (nobody was asked yet), ``requested``, or one of :data:`TERMINAL`.
    :param requested: the request of the current attempt.
    :param ending: our decision to end the current attempt's process, from when on nothing else counts.
    :param requesters: every person who asked, resubmitted or closed the batch: none of them may approve.
    :param gate_passed: whether the version's own gate passed.
    """

    state: str = "frozen"
    attempt: int = 1
    requested: Event | None = None
    ending: Event | None = None
    requesters: frozenset[str] = frozenset()
    gate_passed: bool = False

    def after(self, event: Event) -> ApprovalState:
        """Return where the version stands after one more event about it."""
        name = event.action.removeprefix("approval.")
        if event.action == "gate.passed":
            return replace(self, gate_passed=self.gate_passed or event.body["suite"] == SUITE)
        now = replace(self, requesters=self.requesters | set(event.body.get("requesters", [])))
        if name == "requested":
            return replace(now, state="requested", requested=event)
        if name == "ending":
            return replace(now, ending=event)
        if name == "resubmitted":
            return replace(now, state="frozen", attempt=now.attempt + 1, requested=None, ending=None)
        return replace(now, state=name) if name in TERMINAL else now


_TELLING = (
    "version.ready", "gate.passed", "approval.asked", "approval.requested", "approval.ending", "approval.resubmitted",
    *(f"approval.{state}" for state in TERMINAL),
)  # fmt: skip
"""What an approval's state is made of. Who asked for a release did not ask for the approval."""


def approval_state(run: Run, digest: str) -> ApprovalState:
    """Work out from the ledger where a version stands."""
    state = ApprovalState()
    for event in run.ledger.events(subject=f"version:{digest}", actions=_TELLING):
        state = state.after(event)
    return state


def approval_states(run: Run, project: Project) -> defaultdict[str, ApprovalState]:
    """Work out where all versions of a project stand, by digest, in one pass over the ledger."""
    states: defaultdict[str, ApprovalState] = defaultdict(ApprovalState)
    for event in run.ledger.events(project=project.name, actions=_TELLING):
        digest = event.subject.removeprefix("version:")
        if digest != event.subject:
            states[digest] = states[digest].after(event)
    return states


def pending(run: Run, project: Project, prodigy: ProdigyGateway) -> Iterator[WorkItem]:
    """Yield the versions whose approval is open, then the batches that are finished and not yet frozen."""
    states = approval_states(run, project)
    batches = list(open_batches(run, project, prodigy))
    ready = []
    for batch, progress in batch_progress(run, project, prodigy, batches) if batches else ():
        run.log.info("Batch %s of %s: %s", short(batch.digest), project.name, progress.why)
        if progress.finished or batch.closed_by:
            ready.append(batch)
    # After a recovery the ledger may hold a version and not that its batch was frozen: the batch leads to it again.
    again = {batch.digest for batch in ready if not batch.times_frozen}
    for version in run.ledger.versions(project.name):
        state = states[version.digest].state
        if state not in TERMINAL and not (state == "frozen" and version.batch in again):
            yield WorkItem(project.name, f"version:{version.digest}", {"kind": "version", "number": version.number})
    for batch in ready:
        yield WorkItem(project.name, f"batch:{batch.digest}", {"kind": "batch", "times_frozen": batch.times_frozen})


def freeze(run: Run, project: Project, item: WorkItem, prodigy: ProdigyGateway) -> dict[str, Any]:
    """Freeze a finished batch into a version; a version that exists already is only looked up.

    :return: ``digest``, ``number``, and ``staged``, the rows for the gate (None where the gate has passed before).
    :raises Refused: when the batch is not finished after all.
    """
    kind, _, digest = item.subject.partition(":")
    if kind == "batch":
        # A try that was killed may have frozen it: then this one goes on with that version.
        before = list(run.ledger.events(subject=item.subject, actions=["batch.frozen"]))
        if len(before) <= item.detail.get("times_frozen", 0):
            return _freeze(run, project, digest, prodigy)
        digest = before[-1].digest_after or ""
    version = _version(run, project, digest)
    passed = approval_state(run, digest).gate_passed
    run.log.info(
        "Version %d (%s) of %s was frozen before; its gate %s.",
        version.number, short(digest), project.name, "passed" if passed else "has not passed yet",
    )  # fmt: skip
    staged = None if passed else stage_version(run, project, digest)
    return {"digest": digest, "number": version.number, "staged": staged, "created": 0}


def _freeze(run: Run, project: Project, digest: str, prodigy: ProdigyGateway) -> dict[str, Any]:
    batch = next((one for one in open_batches(run, project, prodigy) if one.digest == digest), None)
    if batch is None:
        raise Refused(f"batch {short(digest)} of {project.name} is not open: it was never assigned")
    [(_, progress)] = batch_progress(run, project, prodigy, [batch])
    if not (progress.finished or batch.closed_by):
        raise Refused(f"batch {short(digest)} of {project.name} is not finished: {progress.why}")
    subject = f"batch:{digest}"
    requester = run.requester()
    effect = run.claim(USE_CASE, project.name, subject, digest, batch.times_frozen + 1)
    members = set(task_ids(run, digest))
    watermark = prodigy.watermark(project.answers)
    answers = (
        answer
        for answer in _answers(run, project, prodigy)
        # What is saved from now on is late: it goes into the next batch.
        if answer.task_id in members and answer.link_id <= watermark.last_link
    )
    effect.check()
    frozen = freezing.freeze(
        run.store,
        project,
        digest,
        sorted(members),
        answers,
        register=run.register,
        closed_by=batch.closed_by,
        closing_reason=batch.closing_reason,
    )
    sources = measure(frozen.path / "sources.jsonl").sha256
    # One transaction: there is never a version without its batch, or a batch frozen into nothing.
    with run.ledger.transaction() as transaction:
        transaction.check(effect)
        record = transaction.record_version(
            VersionRecord(
                project=project.name,
                digest=frozen.digest,
                rows_digest=frozen.manifest.rows.sha256,
                batch=digest,
                policy_digest=project.policy.digest,
                path=f"versions/{project.name}/{frozen.digest}",
                row_count=frozen.row_count,
                requested_by=requester or "",
                run=run.ref.text,
            )
        )
        transaction.append(
            run.event(
                "batch.frozen",
                project.name,
                subject,
                after=frozen.digest,
                body={
                    "answers": frozen.manifest.counts.answers,
                    "last_link": watermark.last_link,
                    "version": record.number,
                },
            ),
            key=event_key("batch.frozen", project.name, subject, ["frozen", batch.times_frozen]),
        )
        transaction.append(
            run.event(
                "version.ready",
                project.name,
                f"version:{frozen.digest}",
                after=frozen.digest,
                body={
                    "batch": digest,
                    "requesters": sorted({name for name in (requester, batch.closed_by) if name}),
                    "sources_digest": sources,
                },
            ),
            key=event_key("version.ready", project.name, f"version:{frozen.digest}", ["ready", batch.times_frozen]),
        )
        effect.done_in(transaction, f"version:{frozen.digest}", created=1, updated=0, detail=f"version {record.number}")
    run.log.info(
        "Froze batch %s of %s into version %d: %d answers, %d rows, digest %s.",
        short(digest), project.name, record.number, frozen.manifest.counts.answers, frozen.row_count, frozen.digest,
    )  # fmt: skip
    return {
        "digest": frozen.digest,
        "number": record.number,
        "staged": stage_version(run, project, frozen.digest),
        "created": 1,
    }


def request(
    run: Run,
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
    version = _version(run, project, digest)
    require_gate(run, project, subject, SUITE, gate, version.rows_digest)
    where = approval_state(run, digest)
    if where.state != "frozen":
        run.log.info(
            "Version %d of %s was put before its approvers already (attempt %d).",
            version.number, project.name, where.attempt,
        )  # fmt: skip
        if where.state == "requested" and where.requested is not None:
            known = where.requested.body
            end_duplicates(run, project, subject, opentext, known["business_key"], known["process_id"])
        return {"digest": digest, "number": version.number, "created": frozen["created"]}
    check_deployed(run, project, opentext, mapping)
    key = effect_key(USE_CASE, project.name, subject, digest, where.attempt)
    requester = run.requester()
    if requester is not None:
        # Before the process is started: if this run is killed, the next one still knows who asked.
        run.note(
            "approval.asked", project.name, subject, key=["asked", where.attempt, requester], actor=requester,
            after=digest, body={"attempt": where.attempt, "requesters": [requester]},
        )  # fmt: skip
    policy = run.store.put_object(canonical_json(project.policy.pinned()))
    said = approval.statements(mapping, policy=project.policy, project=project.name, digest=digest)
    statements = run.store.put_object(said.encode("utf-8"))
    effect = run.claim(USE_CASE, project.name, subject, digest, where.attempt)
    now = run.now()
    effect.check()
    process_id, created = opentext.start_process(
        mapping.process_key,
        name=f"{project.title}: version {version.number} ({short(digest)})",
        business_key=key,
        settle_seconds=SETTLE_SECONDS if effect.interrupted else 0,
        variables={
            **start_variables(mapping, [one.role for one in project.policy.approvals], opentext.groups),
            mapping.digest_variable: digest,
            "labelops_project": project.name,
            "dataset_version": version.number,
            "dataset_rows": version.row_count,
            "policy_digest": project.policy.digest,
            "attempt": where.attempt,
            "due_at": (now + project.policy.due).astimezone(UTC).isoformat(),
            "evidence_hint": f"Comment with {short(digest)} before you complete: that attests your decision.",
            approval.STATEMENTS: said,
        },
    )
    with end_if_overtaken(
        run, opentext, process_id, created, lambda: _process_of(approval_state(run, digest).requested)
    ):
        run.finish(
            effect,
            run.event(
                "approval.requested",
                project.name,
                subject,
                after=digest,
                body={
                    "process_id": process_id,
                    "business_key": key,
                    "attempt": where.attempt,
                    "policy": policy,
                    "statements": statements,
                },
            ),
            ["requested", where.attempt],
            process_id,
            created=int(created),
            detail=f"attempt {where.attempt}",
        )
    run.log.info(
        "%s the approval process %s for version %d of %s (attempt %d); approvers have until %s.",
        "Started" if created else "Found", process_id, version.number, project.name, where.attempt,
        (now + project.policy.due).isoformat(timespec="minutes"),
    )  # fmt: skip
    return {"digest": digest, "number": version.number, "created": frozen["created"] + int(created)}


def _process_of(requested: Event | None) -> str | None:
    return None if requested is None else str(requested.body["process_id"])


def capture(
    run: Run,
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
    version = _version(run, project, digest)
    subject = f"version:{digest}"
    where = approval_state(run, digest)
    if where.state in TERMINAL or where.requested is None:
        run.log.info("Version %d of %s is %s: nothing is open.", version.number, project.name, where.state)
        return _result(project, version, where.state, "nothing is open", created, 0, False, opentext, where), None
    if where.ending is not None:
        if where.ending.body["state"] == "withdrawn":
            # A person's word ends it, whatever was decided so far: that stays on record beside it.
            for decision in kept_decisions(run, evaluate(run, project, digest, where, opentext, mapping).decisions):
                run.ledger.record_decision(decision)
        return _end(run, project, version, where, where.ending, created, opentext), None
    found = evaluate(run, project, digest, where, opentext, mapping)
    for finding in found.findings:
        run.finding(project.name, subject, "approval", finding)
    run.log.info("Version %d of %s (%s): %s", version.number, project.name, short(digest), found.sentence)
    changed = False
    if found.state in TERMINAL:
        # While the process runs, a lagging history may still change a decision's grade: decisions go on record when
        # they are final, together with what they come to.
        ours = found.state in ("void", "undecided", "stale", "expired")
        fresh, changed = run.decide(
            kept_decisions(run, found.decisions),
            run.event(
                # Decided here, and not by the process: what we decided is on the ledger before its process is ended,
                # or a run that is killed in between would find it "ended from outside".
                "approval.ending" if ours else f"approval.{found.state}",
                project.name,
                subject,
                after=digest,
                reason=found.sentence,
                body={"attempt": where.attempt, "state": found.state}
                if ours
                else {
                    "attempt": where.attempt,
                    "process_id": where.requested.body["process_id"],
                    # How much evidence that is only asserted is worth.
                    "service_token": service_token(run.ledger, opentext.opentext_conn_id),
                },
            ),
            ["ending" if ours else found.state, where.attempt],
        )
        run.log.info("%d new decision(s) on the ledger.", fresh)
        if ours:
            ending = approval_state(run, digest).ending
            if ending is None:
                raise AssertionError("the ledger holds what was just put on it")
            return _end(run, project, version, where, ending, created, opentext), found
    updated = _act_on_deadline(run, project, version, where, found, opentext)
    return _result(project, version, found.state, found.sentence, created, updated, changed, opentext, where), found


def _end(
    run: Run,
    project: Project,
    version: VersionRecord,
    where: ApprovalState,
    ending: Event,
    created: int,
    opentext: OpenTextGateway,
) -> ItemResult:
    """End the process of an attempt that came to nothing, unless it has ended, and put the result on the ledger."""
    if where.requested is None:
        raise AssertionError("an attempt that ends was requested")
    state, subject, process_id = ending.body["state"], ending.subject, where.requested.body["process_id"]
    effect = run.claim(f"{USE_CASE}.end", project.name, subject, version.digest, where.attempt)
    running = opentext.process(process_id) is not None
    if running:
        effect.check()
        opentext.terminate(process_id, f"{state}: {ending.reason}"[:250])
    new = run.finish(
        effect,
        run.event(
            f"approval.{state}",
            project.name,
            subject,
            actor=ending.actor,
            after=version.digest,
            reason=ending.reason,
            body={"attempt": where.attempt, "process_id": process_id},
        ),
        [state, where.attempt],
        process_id,
        updated=int(running),
        detail=state,
    )
    run.log.info(
        "Version %d of %s is %s; its process %s %s.",
        version.number, project.name, state, process_id, "was ended" if running else "had ended",
    )  # fmt: skip
    return _result(project, version, state, ending.reason, created, int(running), new, opentext, where)


def evaluate(
    run: Run,
    project: Project,
    digest: str,
    where: ApprovalState,
    opentext: OpenTextGateway,
    mapping: ProcessMapping,
) -> approval.Evaluation:
    """Read the process of a version at its source and judge it, writing nothing but the assignees seen.

    The policy is the one that was in force when the approvers were asked, whatever the project's file says since.
    """
    if where.requested is None:
        raise Refused(f"version {short(digest)} of {project.name} was never put before approvers")
    manifest = freezing.read_manifest(run.store, project.name, digest)
    return approval.evaluate(
        snapshot(run, project, f"version:{digest}", where.requested.body["process_id"], opentext, mapping),
        project=project,
        digest=digest,
        business_key=where.requested.body["business_key"],
        manifest_persons=freezing.annotators(manifest),
        requesters=where.requesters,
        mapping=mapping,
        register=run.register,
        policy=Policy.from_pinned(json.loads(run.store.get_object(where.requested.body["policy"]))),
        attempt=where.attempt,
        started_at=where.requested.time,
        now=run.now(),
        statements=statements_put(run, where.requested),
    )


def statements_put(run: Run, requested: Event) -> str | None:
    """Return what a request put before its persons as their statements, None for one that was made before it did."""
    kept = requested.body.get("statements")
    return None if kept is None else run.store.get_object(kept).decode("utf-8")


def snapshot(
    run: Run, project: Project, subject: str, process_id: str, opentext: OpenTextGateway, mapping: ProcessMapping
) -> approval.ProcessSnapshot:
    """Read all that a process shows about who did what, and put on the ledger who has its tasks where that changed.

    It takes several requests, and people go on meanwhile. So a running process is read again after its tasks: a task
    completed in between would be seen without the variables that hold its outcome. And history may lag: while it shows
    a task of an ended process as open, what was decided there is not known, and the process is not judged.

    :raises Unavailable: when the process never stood still, or its history is not whole yet.
    """
    history = opentext.history(process_id)
    called: dict[str, HistoricProcess] = {}
    for _ in range(5):
        tasks = list(opentext.historic_tasks(process_id))
        waiting = [] if history.ended_at else list(opentext.tasks(process_id=process_id))
        inner = {one.process_id for one in tasks if one.process_id not in ("", process_id)}
        comments = {one.id: one for one in opentext.comments(process_id)}
        comments |= {one.id: one for place in sorted(inner) for one in _inner_comments(run, opentext, place)}
        called_now = {one: opentext.history(one) for one in sorted(inner)}
        before, history = history, history if history.ended_at else opentext.history(process_id)
        before_called, called = called, called_now
        open_still = history.ended_at and [one.id for one in tasks if one.ended is None]
        if open_still and history.ended_at and run.now() - history.ended_at < HISTORY_LAG:
            continue
        if before == history and (history.ended_at or not inner or before_called == called):
            break
    else:
        why = f"history still shows its task {open_still[0]} open" if open_still else "it changed each time it was read"
        ended = "has ended, and " if history.ended_at else ""
        raise Unavailable(f"process {process_id}: {ended}{why}; it is read again later", system="opentext")
    keys = tuple(sorted({one.definition_id.partition(":")[0] for one in (history, *called.values())}))
    found = approval.ProcessSnapshot(
        history=history,
        tasks=tasks,
        open_tasks=waiting,
        comments=list(comments.values()),
        called={one: process.variables for one, process in called.items()},
        keys=keys if all(keys) else (),
    )
    return replace(found, observed=_observe(run, project, subject, found, mapping))


def _inner_comments(run: Run, opentext: OpenTextGateway, process_id: str) -> list[ProcessComment]:
    """Return the comments on a process that was called: a person comments on the process that their task is in."""
    try:
        return opentext.comments(process_id)
    except Unsupported as error:
        # It has ended and this tenant shows no comments then: what hangs on them stays asserted.
        run.log.warning("Comments on the called process %s cannot be read: %s", process_id, error)
        return []


def _observe(
    run: Run, project: Project, subject: str, found: approval.ProcessSnapshot, mapping: ProcessMapping
) -> approval.Observed:
    """Keep what this look saw, and an event for each task whose assignee, owner or delegation changed."""
    process_id = found.history.id
    scope = f"observed:{process_id}"
    state = run.ledger.sync_state(scope)
    observed, changes = approval.observe(approval.read_observed(state), found, mapping, run.now())
    if state == observed.as_json() or not (state or observed.holdings or observed.outcomes):
        return observed

    def person(account: str | None) -> str | None:
        if account is None:
            return None
        known = run.register.resolve(approval.SYSTEM, account, run.now())
        return known.id if known else approval.unknown_person(process_id, account)

    with run.ledger.transaction() as transaction:
        for task, holding in changes:
            mapped = approval.mapped_task(mapping, task)
            transaction.append(
                run.event(
                    "task.assigned",
                    project.name,
                    subject,
                    body={
                        "process_id": process_id,
                        "task_id": task.id,
                        "role": mapped.role if mapped else None,
                        "assignee": person(holding.assignee),
                        "owner": person(holding.owner),
                        "delegation": holding.delegation,
                    },
                ),
                key=event_key("task.assigned", project.name, subject, [task.id, len(observed.holdings[task.id])]),
            )
            run.log.info(
                "Task %r of process %s is now with %s (owner %s).",
                task.name, process_id, person(holding.assignee) or "nobody", person(holding.owner) or "nobody",
            )  # fmt: skip
        transaction.save_sync_state(scope, observed.as_json())
    return observed


def kept_decisions(run: Run, decisions: Iterable[approval.ProcessDecision]) -> list[Decision]:
    """Return the decisions that are not on the ledger yet, their proof kept in the store.

    What was judged first stands: a register that changed since changes nothing on record.
    """
    every = list(decisions)
    known = {one.decision_id for digest in {one.digest for one in every} for one in run.ledger.decisions(digest)}
    return [one.record(run.store.put_object(one.proof())) for one in every if one.decision_id not in known]


def check_deployed(run: Run, project: Project, opentext: OpenTextGateway, mapping: ProcessMapping) -> None:
    """Check the deployed model, and those it calls, against our mapping; what was checked before is not read again.

    :raises InvalidInput: the report for the modeller: what does not fit, and what to change.
    """
    model = _deployed(opentext, mapping.process_key)
    if model is None:
        raise InvalidInput(
            f"OpenText has no deployed model with the key {mapping.process_key!r}: deploy it, "
            f"or name the tenant's own key in the mapping {project.process_mapping!r}"
        )
    scope = f"model:{mapping.process_key}"
    checked = {"id": model.id, "version": model.version, "mapping": digest_of(mapping.model_dump(mode="json"))}
    before = run.ledger.sync_state(scope) or {}
    called: dict[str, str] = dict(before.get("called", {}))
    if {**checked, "called": called} == {"called": {}, **before} and all(
        (found := _deployed(opentext, key)) is not None and found.id == model_id for key, model_id in called.items()
    ):
        return
    called = {}

    def look(key: str) -> str | None:
        found = _deployed(opentext, key)
        if found is None:
            return None
        called[key] = found.id
        return opentext.model(found.id).content

    report = check_model(mapping, opentext.model(model.id).content or "", look)
    if not report.fits:
        raise InvalidInput(f"the deployed model (version {model.version}): {report.text()}")
    run.log.info("Version %d: %s", model.version, report.text())
    run.ledger.save_sync_state(scope, {**checked, "called": called})


def _deployed(opentext: OpenTextGateway, key: str) -> ProcessModel | None:
    return next(iter(opentext.models(key)), None)


def _act_on_deadline(
    run: Run,
    project: Project,
    version: VersionRecord,
    where: ApprovalState,
    found: approval.Evaluation,
    opentext: OpenTextGateway,
) -> int:
    """Remind or escalate an approval that is late, each once an attempt; return the number of effects."""
    step = found.next_step
    if step not in ("remind", "escalate") or where.requested is None:
        return 0
    subject, use_case = f"version:{version.digest}", f"{USE_CASE}.{step}"
    if run.done(use_case, project.name, subject, version.digest, where.attempt) is not None:
        return 0
    process_id = where.requested.body["process_id"]
    effect = run.claim(use_case, project.name, subject, version.digest, where.attempt)
    tasks = list(opentext.tasks(process_id=process_id))
    due = f"{found.due:%Y-%m-%d %H:%M} UTC"
    text = {
        "remind": f"Reminder: version {version.number} of {project.title} ({short(version.digest)}) waits for a "
        f"decision until {due}.",
        "escalate": f"Escalated to {project.policy.escalation_role or project.owner}: version {version.number} of "
        f"{project.title} ({short(version.digest)}) was due at {due}. "
        f"Without a decision it expires at {found.expires_at:%Y-%m-%d %H:%M} UTC.",
    }[step]
    if not any(comment.message.startswith(text) for comment in opentext.comments(process_id)):
        effect.check()
        opentext.add_comment(process_id, f"{text} Open: {', '.join(sorted(one.name for one in tasks)) or 'none'}.")
    if step == "escalate":
        for task in tasks:
            effect.check()
            opentext.update_task(task.id, priority=100)
    done = {"remind": "reminded", "escalate": "escalated"}[step]
    run.finish(
        effect,
        run.event(f"approval.{done}", project.name, subject, body={"process_id": process_id}),
        [done, where.attempt],
        process_id,
        updated=1,
        detail=step,
    )
    run.log.info("Version %d of %s was due at %s: %s.", version.number, project.name, due, done)
    return 1


def batch_progress(
    run: Run, project: Project, prodigy: ProdigyGateway, batches: list[OpenBatch]
) -> list[tuple[OpenBatch, Progress]]:
    """Return how far each batch has come, in one pass over the project's answers."""
    tally = BatchTally({batch.digest: task_ids(run, batch.digest) for batch in batches}, project, run.register)
    tally.add_all(_answers(run, project, prodigy))
    now = run.now()
    return [(batch, tally.progress(batch.digest, now)) for batch in batches]


def _answers(run: Run, project: Project, prodigy: ProdigyGateway) -> Iterator[Answer]:
    """Stream a project's answers; a malformed one becomes a finding and the rest goes on."""
    reader = AnswerReader(project)
    for row in prodigy.rows(project.answers):
        try:
            yield reader.read(row)
        except InvalidInput as error:
            malformed(run, project, row, error)


def _version(run: Run, project: Project, digest: str) -> VersionRecord:
    version = run.ledger.version(digest)
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


def next_look(found: approval.Evaluation | None, now: datetime) -> timedelta | None:
    """Return how long to wait before a deadline needs acting on, None where nothing is open."""
    if found is None or found.state in TERMINAL:
        return None
    ahead = [moment for moment in (found.reminder_at, found.due, found.expires_at) if moment > now]
    return min(ahead) - now if ahead else timedelta(0)
