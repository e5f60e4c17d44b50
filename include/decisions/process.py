"""What a process in OpenText shows: who has its tasks, what was decided, and whether its model fits our mapping."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from include.base.canonical import digest_of
from include.base.errors import InvalidInput, Unavailable, Unsupported
from include.bpmn.check import check_model
from include.bpmn.mapping import ProcessMapping
from include.decisions import approval
from include.governance.records import Decision, Event
from include.projects.model import Project
from include.run.run import Run, event_key
from include.systems.opentext.client import OpenTextClient
from include.systems.opentext.values import HistoricProcess, ProcessComment, ProcessModel

__all__ = ["HISTORY_LAG", "check_deployed", "kept_decisions", "record_decisions", "snapshot", "statements_put"]

HISTORY_LAG = timedelta(minutes=10)
"""How long an ended process is not judged while history shows a task of it as open; after that it is taken as it is."""


def snapshot(
    run: Run, project: Project, subject: str, process_id: str, opentext: OpenTextClient, mapping: ProcessMapping
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


def _inner_comments(run: Run, opentext: OpenTextClient, process_id: str) -> list[ProcessComment]:
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
            holder, owner = person(holding.assignee) or "nobody", person(holding.owner) or "nobody"
            run.log.info(f"Task {task.name!r} of process {process_id} is now with {holder} (owner {owner}).")
        transaction.save_sync_state(scope, observed.as_json())
    return observed


def kept_decisions(run: Run, found: approval.Evaluation | approval.ReleaseDecision) -> list[Decision]:
    """Return the decisions that are not on the ledger yet, their proof kept in the store.

    What was judged first stands: a register that changed since changes nothing on record.
    """
    digests = {one.digest for one in found.decisions}
    known = {one.decision_id for digest in digests for one in run.ledger.decisions(digest)}
    new = [one for one in found.decisions if one.decision_id not in known]
    for one in new:
        run.store.put_object(found.proofs[one.raw_digest])
    return new


def record_decisions(run: Run, found: approval.Evaluation | approval.ReleaseDecision) -> None:
    """Put the decisions that are not on the ledger yet there, beside no event of their own outcome."""
    for decision in kept_decisions(run, found):
        run.ledger.record_decision(decision)


def statements_put(run: Run, requested: Event) -> str | None:
    """Return what a request put before its persons as their statements, None for one that was made before it did."""
    kept = requested.body.get("statements")
    return None if kept is None else run.store.get_object(kept).decode("utf-8")


def check_deployed(run: Run, project: Project, opentext: OpenTextClient, mapping: ProcessMapping) -> None:
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


def _deployed(opentext: OpenTextClient, key: str) -> ProcessModel | None:
    return next(iter(opentext.models(key)), None)
