"""Batches: lists of task ids, fixed when they are assigned and named by their digest.

The ledger is the only memory: which batches there are, which are frozen, and how far the inbox was cut into batches.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from include.annotation.answers import read_answer
from include.annotation.seen import SeenNames
from include.base.canonical import canonical_json
from include.base.errors import InvalidInput
from include.datasets import batches
from include.governance.records import Event
from include.projects.model import Project
from include.systems.prodigy import ProdigyGateway
from include.usecases.desk import Desk, short

__all__ = ["OpenBatch", "adopt", "assign", "open_batches", "task_ids"]


@dataclass(frozen=True)
class OpenBatch:
    """A batch that is not frozen yet. ``closed_by`` is the person who closed it unfinished, if somebody did."""

    digest: str
    size: int
    closed_by: str | None = None
    closing_reason: str = ""


def assign(desk: Desk, project: Project, prodigy: ProdigyGateway) -> int:
    """Cut what is new in the inbox into batches of the project's size, in order of arrival; return how many.

    How far the inbox was cut is the highest row that a batch on the ledger covers, so a run that was killed between two
    batches goes on where it stopped.
    """
    covered = max(
        (event.body["last_link"] for event in _assigned(desk, project) if event.body["kind"] == "inbox"), default=0
    )
    made = 0
    ids: list[str] = []
    last = covered
    for row in prodigy.rows(project.inbox, after=covered):
        ids.append(row.content["labelops"]["task_id"])
        last = row.link_id
        if len(ids) == project.annotation.batch_size:
            made += _record(desk, project, ids, "inbox", last)
            ids = []
    if ids:
        made += _record(desk, project, ids, "inbox", last)
    return made


def adopt(desk: Desk, project: Project, prodigy: ProdigyGateway) -> int:
    """Make batches of answers that belong to none, and of late ones; return how many.

    Answers that another recipe or an import brought have no batch; an answer saved after its batch was frozen is late.
    Both wait for the project's quiet time, so that a session in progress is not cut in two.
    """
    mark = prodigy.watermark(project.answers)
    scope = f"adopted:{project.name}"
    if not mark.count or desk.ledger.sync_state(scope) == vars(mark):
        return 0
    frozen = {
        event.subject.removeprefix("batch:"): event.body["last_link"]
        for event in desk.ledger.events(project=project.name, actions=["batch.frozen"])
    }
    strangers: set[str] = set()
    after_freeze: dict[str, int] = {}
    newest = None
    with SeenNames() as known:
        for event in _assigned(desk, project):
            known.update(task_ids(desk, event.subject.removeprefix("batch:")))
        earliest = min(frozen.values(), default=None)
        for row in prodigy.rows(project.answers):
            try:
                answer = read_answer(row, project)
            except InvalidInput as error:
                desk.finding(project.name, f"dataset:{project.answers}", "malformed answer", str(error))
                continue
            if answer.time and (newest is None or answer.time > newest):
                newest = answer.time
            if answer.task_id not in known:
                strangers.add(answer.task_id)
            elif earliest is not None and row.link_id > earliest:
                after_freeze[answer.task_id] = row.link_id
    late = {
        task_id
        for digest, last_link in frozen.items()
        for task_id in task_ids(desk, digest)
        if after_freeze.get(task_id, 0) > last_link
    }
    if (strangers or late) and newest and desk.now() - newest < timedelta(minutes=project.annotation.quiet_minutes):
        desk.log.info("%s: answers outside every batch wait for the quiet time.", project.name)
        return 0
    made = 0
    for kind, found in (("adopted", sorted(strangers)), ("late", sorted(late))):
        if found:
            made += _record(desk, project, found, kind, mark.last_link)
    if late:
        desk.finding(
            project.name, f"dataset:{project.answers}", "late answers",
            f"answers to {len(late)} task(s) were saved after their batch was frozen (up to row {mark.last_link})",
        )  # fmt: skip
    desk.ledger.save_sync_state(scope, dict(vars(mark)))
    return made


def open_batches(desk: Desk, project: Project, prodigy: ProdigyGateway) -> Iterator[OpenBatch]:
    """Yield the batches that are not frozen, oldest first, after adopting what belongs to none."""
    adopt(desk, project, prodigy)
    ended = {event.subject for event in desk.ledger.events(project=project.name, actions=["batch.frozen"])}
    closed = {event.subject: event for event in desk.ledger.events(project=project.name, actions=["batch.closed"])}
    for event in _assigned(desk, project):
        if event.subject not in ended:
            by = closed.get(event.subject)
            yield OpenBatch(
                digest=event.subject.removeprefix("batch:"),
                size=event.body["size"],
                closed_by=by.actor if by else None,
                closing_reason=by.reason if by else "",
            )


def task_ids(desk: Desk, digest: str) -> list[str]:
    """Return the task ids of a batch, from the object that its digest names."""
    return list(json.loads(desk.store.get_object(digest)))


def _assigned(desk: Desk, project: Project) -> Iterator[Event]:
    return desk.ledger.events(project=project.name, actions=["batch.assigned"])


def _record(desk: Desk, project: Project, ids: list[str], kind: str, last_link: int) -> int:
    batch = batches.form(ids)
    digest = desk.store.put_object(canonical_json(sorted(set(ids))))
    if digest != batch.digest:
        raise AssertionError("a batch is named by the bytes of its object")
    new = desk.note(
        "batch.assigned",
        project.name,
        f"batch:{digest}",
        key="assigned",
        after=digest,
        body={"kind": kind, "size": batch.size, "last_link": last_link},
    )
    if new:
        desk.log.info("Batch %s of %s: %d tasks (%s).", short(digest), project.name, batch.size, kind)
    return int(new)
