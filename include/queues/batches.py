"""Batches: lists of task ids, fixed when they are assigned and named by their digest.

The ledger is the only memory: which batches there are, which are frozen, and how far the inbox was cut into batches.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from include.annotation.answers import Answer, AnswerReader, read_answer
from include.base.canonical import sha256_hex
from include.base.errors import InvalidInput
from include.base.seen import SeenNames
from include.governance.ledger import Ledger
from include.governance.records import Event, NewEvent, VersionRecord
from include.projects.model import Project
from include.queues.progress import BatchTally, Progress, form
from include.run.run import Effect, Run, event_key, short
from include.systems.prodigy.client import ProdigyClient
from include.systems.prodigy.values import Row

__all__ = [
    "OpenBatch",
    "adopt",
    "answers_of",
    "assign",
    "batch_progress",
    "frozen_in",
    "malformed",
    "open_batches",
    "task_ids",
    "times_frozen",
]

TOGETHER = 50
"""How many batches go on the ledger in one transaction."""


@dataclass(frozen=True)
class OpenBatch:
    """A batch that is not frozen yet, or not since its tasks were answered again.

    :param assigned_at: when its tasks were assigned, for the last time.
    :param times_frozen: how often it was frozen before.
    :param kind: what it was cut from: ``inbox``, ``adopted`` and ``late`` answers, or ``decided`` tasks.
    :param closed_by: the person who closed it unfinished, if somebody did.
    """

    digest: str
    size: int
    assigned_at: datetime
    times_frozen: int = 0
    kind: str = "inbox"
    closed_by: str | None = None
    closing_reason: str = ""

    @property
    def name(self) -> str:
        """Return what people call it."""
        day = f"{self.assigned_at.day} {self.assigned_at:%b}"
        return f"batch of {day}, {self.size} task{'s' if self.size != 1 else ''}"


def assign(run: Run, project: Project, prodigy: ProdigyClient, effect: Effect) -> int:
    """Cut what is new in the inbox into batches of the project's size, in order of arrival; return how many.

    How far the inbox was cut is the highest row that a batch on the ledger covers, so a run that was killed between two
    batches goes on where it stopped. A row that is no task of ours becomes a finding.

    :param effect: the load that this belongs to.
    :raises Fenced: a newer try has taken over: what it has cut meanwhile must not be cut again.
    """
    covered = max(
        (event.body["last_link"] for event in _assigned(run, project) if event.body["kind"] == "inbox"), default=0
    )
    made = 0
    ids: dict[str, None] = {}
    cut: list[tuple[Iterable[str], int]] = []
    last = covered
    for row in prodigy.rows(project.inbox, after=covered):
        last = row.link_id
        task_id = _task_id(row)
        if task_id is None:
            detail = f"row {row.link_id} has no task id: it was not put there by ingestion, and belongs to no batch"
            run.finding(project.name, f"dataset:{project.inbox}", "malformed task", detail)
            continue
        ids[task_id] = None
        if len(ids) == project.annotation.batch_size:
            cut.append((ids, last))
            ids = {}
        if len(cut) == TOGETHER:
            made += _record(run, project, cut, "inbox", effect)
            cut = []
    if ids:
        cut.append((ids, last))
    return made + _record(run, project, cut, "inbox", effect)


def adopt(run: Run, project: Project, prodigy: ProdigyClient) -> int:
    """Make batches of answers that belong to none, of late ones, and of tasks decided late; return how many.

    Answers that another recipe or an import brought have no batch; an answer, or a final decision, saved after its
    batch was frozen is late. All wait for the project's quiet time, so that a session in progress is not cut in two.
    The digest of the rows seen goes on the ledger, and what was seen before is held against it.
    """
    marks = prodigy.watermarks([project.answers, project.decisions])
    mark, decisions = marks[project.answers], marks[project.decisions]
    scope = f"adopted:{project.name}"
    seen = {**vars(mark), "last_decision": decisions.last_link}
    if not mark.count or run.ledger.sync_state(scope) == seen:
        return 0
    strangers: set[str] = set()
    after_freeze: dict[str, int] = {}
    newest = None
    frozen = _frozen(run, project)
    earliest = min((event.body["last_link"] for events in frozen.values() for event in events), default=None)
    decided: dict[str, int] = {}
    for row in prodigy.rows(project.decisions) if frozen and decisions.count else ():
        try:
            decision = read_answer(row, project, dataset=project.decisions)
        except InvalidInput as error:
            malformed(run, project, row, error, project.decisions)
            continue
        decided[decision.task_id] = row.link_id
        if decision.time and (newest is None or decision.time > newest):
            newest = decision.time
    with SeenNames() as known:
        for event in _assigned(run, project):
            known.update(task_ids(run, event.subject.removeprefix("batch:")))
        for row in _watched(run, project, prodigy.rows(project.answers)):
            try:
                answer = read_answer(row, project)
            except InvalidInput as error:
                malformed(run, project, row, error)
                continue
            if answer.time and (newest is None or answer.time > newest):
                newest = answer.time
            if answer.task_id not in known:
                strangers.add(answer.task_id)
            elif earliest is not None and row.link_id > earliest:
                after_freeze[answer.task_id] = row.link_id
    late = _late(run, project, frozen, after_freeze, "last_link")
    settled = _late(run, project, frozen, decided, "last_decision") - late
    if (
        (strangers or late or settled)
        and newest
        and run.now() - newest < timedelta(minutes=project.annotation.quiet_minutes)
    ):
        run.log.info("%s: answers outside every batch wait for the quiet time.", project.name)
        return 0
    made = 0
    for kind, found in (("adopted", sorted(strangers)), ("late", sorted(late)), ("decided", sorted(settled))):
        if found:
            made += _record(run, project, [(found, mark.last_link)], kind)
    if late:
        detail = f"answers to {len(late)} task(s) were saved after their batch was frozen (up to row {mark.last_link})"
        run.finding(project.name, f"dataset:{project.answers}", "late answers", detail)
    run.ledger.save_sync_state(scope, seen)
    return made


def open_batches(run: Run, project: Project, prodigy: ProdigyClient) -> Iterator[OpenBatch]:
    """Yield the batches that are not frozen, oldest first, after adopting what belongs to none.

    The same tasks may be labelled again after they were frozen: their batch is then assigned, and frozen, once more.
    """
    adopt(run, project, prodigy)
    frozen = _frozen(run, project)
    assigned = {event.subject: event for event in _assigned(run, project)}
    closed = {event.subject: event for event in run.ledger.events(project=project.name, actions=["batch.closed"])}
    for subject, event in assigned.items():
        if not _waits(event, frozen.get(subject)):
            continue
        rounds = len(frozen.get(subject, ()))
        by = closed.get(subject)
        if by is not None and by.body["times_frozen"] != rounds:
            by = None
        yield OpenBatch(
            digest=subject.removeprefix("batch:"),
            size=event.body["size"],
            assigned_at=event.time,
            times_frozen=rounds,
            kind=event.body["kind"],
            closed_by=by.actor if by else None,
            closing_reason=by.reason if by else "",
        )


def _waits(assigned: Event, frozen: list[Event] | None) -> bool:
    """Tell whether a batch was assigned after it was last frozen, given its last assignment."""
    return not frozen or assigned.seq > frozen[-1].seq


def batch_progress(
    run: Run, project: Project, prodigy: ProdigyClient, batches: Iterable[OpenBatch]
) -> list[tuple[OpenBatch, Progress]]:
    """Return how far each batch has come, in one pass over the project's answers."""
    batches = list(batches)
    if not batches:
        return []
    tally = BatchTally({batch.digest: task_ids(run, batch.digest) for batch in batches}, project, run.register)
    tally.add_all(answers_of(run, project, prodigy))
    now = run.now()
    return [(batch, tally.progress(batch.digest, now)) for batch in batches]


def answers_of(run: Run, project: Project, prodigy: ProdigyClient) -> Iterator[Answer]:
    """Stream a project's answers; a malformed one becomes a finding and the rest goes on.

    What was seen before is held against what is there now: a row that was altered in place leaves count and last row as
    they were, and only its content tells.
    """
    reader = AnswerReader(project)
    for row in _watched(run, project, prodigy.rows(project.answers)):
        try:
            yield reader.read(row)
        except InvalidInput as error:
            malformed(run, project, row, error)


def malformed(run: Run, project: Project, row: Row, error: InvalidInput, dataset: str | None = None) -> None:
    """Make a finding of a row that cannot be read: the place and the field, never what it holds.

    :param dataset: where it is, where that is not the project's answers.
    """
    place = re.split(r": (?:found|set aside)", str(error))[0]
    kind, dataset = ("malformed answer", project.answers) if dataset is None else ("malformed decision", dataset)
    run.finding(project.name, f"dataset:{dataset}", kind, f"{place}: malformed", example=row.example_id)


def task_ids(run: Run, digest: str) -> list[str]:
    """Return the task ids of a batch, from the object that its digest names."""
    return list(run.store.get_value(digest))


def frozen_in(ledger: Ledger, version: VersionRecord) -> list[str]:
    """Return the digests of the batches that a version took in."""
    ready = list(ledger.events(subject=f"version:{version.digest}", actions=["version.ready"]))
    batches: list[str] = ready[-1].body.get("batches", []) if ready else []
    return batches or [version.batch]


def times_frozen(run: Run, digest: str) -> int:
    """Return how often a batch was frozen."""
    return sum(1 for _ in run.ledger.events(subject=f"batch:{digest}", actions=["batch.frozen"]))


def _assigned(run: Run, project: Project) -> Iterator[Event]:
    return run.ledger.events(project=project.name, actions=["batch.assigned"])


def _frozen(run: Run, project: Project) -> dict[str, list[Event]]:
    """Return the times that each batch was frozen, by subject."""
    found: dict[str, list[Event]] = {}
    for event in run.ledger.events(project=project.name, actions=["batch.frozen"]):
        found.setdefault(event.subject, []).append(event)
    return found


def _late(run: Run, project: Project, frozen: dict[str, list[Event]], found: dict[str, int], until: str) -> set[str]:
    """Return the tasks of which something was saved after every batch that holds them was frozen.

    :param found: the last row about a task, by task id.
    :param until: the field of ``batch.frozen`` that says up to which row the freeze looked.
    """
    if not found:
        return set()
    taken: dict[str, int] = {}
    waiting: set[str] = set()
    for subject, event in {one.subject: one for one in _assigned(run, project)}.items():
        freezes = frozen.get(subject, [])
        for task_id in task_ids(run, subject.removeprefix("batch:")):
            if task_id not in found:
                continue
            if _waits(event, freezes):
                waiting.add(task_id)
            else:
                # What was frozen before there was such a field looked at all there was.
                looked = freezes[-1].body.get(until, found[task_id])
                taken[task_id] = max(taken.get(task_id, 0), looked)
    return {one for one, link in found.items() if one not in waiting and link > taken.get(one, link)}


def _watched(run: Run, project: Project, rows: Iterator[Row]) -> Iterator[Row]:
    """Pass rows on; at their end put their digest on the ledger, and hold the rows seen before against theirs."""
    subject = f"dataset:{project.answers}"
    last = run.last(subject, "answers.seen")
    state = hashlib.sha256()
    count = seen_before = link = 0
    earlier = state.hexdigest()
    for row in rows:
        state.update(f"{row.link_id}:{sha256_hex(row.raw)}\n".encode())
        count, link = count + 1, row.link_id
        if last is not None and link <= last.body["last_link"]:
            seen_before, earlier = count, state.hexdigest()
        yield row
    if last is not None and earlier != last.digest_after:
        detail = (
            f"the {last.body['rows']} answers seen up to row {last.body['last_link']} are not as they were: "
            f"{seen_before} are there now, with digest {short(earlier)} instead of {short(last.digest_after or '')}"
        )
        run.finding(project.name, subject, "answer changed", detail)
    if last is None or state.hexdigest() != last.digest_after:
        run.note(
            "answers.seen",
            project.name,
            subject,
            key=[last.seq if last else 0, state.hexdigest()],
            before=last.digest_after if last else None,
            after=state.hexdigest(),
            body={"rows": count, "last_link": link},
        )


def _task_id(row: Row) -> str | None:
    labelops = row.content.get("labelops") if isinstance(row.content, dict) else None
    found = labelops.get("task_id") if isinstance(labelops, dict) else None
    return found if isinstance(found, str) and len(found) == 64 else None


def _record(
    run: Run, project: Project, cut: Iterable[tuple[Iterable[str], int]], kind: str, effect: Effect | None = None
) -> int:
    """Put batches on the ledger: anew where the same tasks were frozen before, once for each time.

    :param cut: task ids and the last row looked at, by batch. All are on the ledger, in this order, or none.
    """
    new: dict[str, tuple[NewEvent, str]] = {}
    for ids, last_link in cut:
        batch = form(ids)
        subject = f"batch:{batch.digest}"
        if run.store.put_object(batch.content) != batch.digest:
            raise AssertionError("a batch is named by the bytes of its object")
        assigned = run.last(subject, "batch.assigned")
        freezes = list(run.ledger.events(subject=subject, actions=["batch.frozen"]))
        if subject in new or (assigned is not None and _waits(assigned, freezes)):
            continue
        body = {"kind": kind, "size": batch.size, "last_link": last_link}
        event = run.event("batch.assigned", project.name, subject, after=batch.digest, body=body)
        new[subject] = event, event_key("batch.assigned", project.name, subject, ["assigned", len(freezes)])
    if not new:
        return 0
    with run.ledger.transaction() as transaction:
        if effect is not None:
            effect.claim.check_in(transaction)
        made = sum(transaction.append(event, key=key)[1] for event, key in new.values())
    for event, _ in new.values():
        size = event.body["size"]
        run.log.info("Batch %s of %s: %d tasks (%s).", short(event.digest_after or ""), project.name, size, kind)
    return made
