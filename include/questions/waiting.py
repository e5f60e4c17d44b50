"""What is pending and overdue, and who is asked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from include.governance.records import Event, VersionRecord
from include.people.register import Register
from include.projects.model import Policy
from include.questions.models import RECALLED, RELEASED
from include.questions.shared import (
    Basis,
    Records,
    Sight,
    VersionRef,
    project_names,
    version_ref,
)

__all__ = ["RELEASE_ROLE", "Asked", "Course", "PendingAnswer", "PendingItem", "pending"]

RELEASE_ROLE = "release_manager"
COURSE = ("asked", "requested", "reminded", "escalated", "ending", "resubmitted")
"""Events of an approval that are no result; any other ``approval.…`` ends the attempt."""


@dataclass(frozen=True)
class Asked:
    """A role that is asked, and the persons of the register who hold it now.

    :param persons: who could act on it; empty where no register was given.
    """

    role: str
    minimum: int
    meaning: str
    persons: tuple[str, ...]


@dataclass(frozen=True)
class PendingItem:
    """Something that waits for somebody.

    :param kind: ``request`` (not put before its approvers yet), ``approval``, ``release`` (approved, not handed over),
        ``release decision`` (the release process waits), ``recall`` (withdrawn, and still released).
    :param holders: who had a task of its process at the last look that saw a change, by task.
    :param since: from when it waits.
    :param due: None where nothing says by when.
    :param refused: why the last try to release it was refused, "" where none was.
    """

    kind: str
    version: VersionRef
    attempt: int
    asked: tuple[Asked, ...]
    holders: tuple[str, ...]
    since: datetime
    due: datetime | None
    expires_at: datetime | None
    overdue: bool
    reminded_at: datetime | None
    escalated_at: datetime | None
    escalation_role: str
    process_id: str
    refused: str
    event: int


@dataclass(frozen=True)
class PendingAnswer:
    """What is pending, the overdue first, then by how long it waits."""

    project: str | None
    at: datetime
    items: tuple[PendingItem, ...]
    overdue: int
    basis: Basis


@dataclass
class Course:
    """Where a version stands, worked out from its events in their order."""

    attempt: int = 1
    state: str = "frozen"
    first: Event | None = None
    requested: Event | None = None
    decided: Event | None = None
    marks: dict[str, Event] = field(default_factory=dict)
    released: Event | None = None
    asked_release: Event | None = None
    refused: Event | None = None
    holders: dict[str, str | None] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """Take in one more event about the version."""
        self.first = self.first or event
        kind, _, name = event.action.partition(".")
        if kind == "approval":
            self._take_approval(name, event)
        elif event.action in (RELEASED, RECALLED):
            self.released = event if event.action == RELEASED else None
        elif event.action == "release.requested":
            self.asked_release, self.refused = event, None
        elif event.action == "release.refused":
            self.refused = event
        elif event.action == "task.assigned":
            self.holders[f"{event.body['process_id']} {event.body['task_id']}"] = event.body["assignee"]

    def _take_approval(self, name: str, event: Event) -> None:
        if name == "resubmitted":
            self.attempt, self.state, self.requested, self.first = self.attempt + 1, "frozen", None, event
            self.marks.clear()
        elif name == "requested":
            self.state, self.requested = "requested", event
        elif name in COURSE:
            self.marks[name] = event
        else:
            self.state, self.decided = name, event

    def holders_of(self, process_id: str) -> tuple[str, ...]:
        """Return who had tasks of a process when that was last seen to change."""
        return tuple(sorted({one for key, one in self.holders.items() if one and key.partition(" ")[0] == process_id}))


def pending(
    records: Records, project: str | None = None, *, register: Register | None = None, now: datetime | None = None
) -> PendingAnswer:
    """Answer what waits for whom, since when, and what of it is overdue.

    The policy is the one that was pinned when the approvers were asked. Who of them has decided already is not said:
    decisions come on the ledger when the approval ends.

    :param register: names the persons who hold the roles asked for.
    :param now: the clock, in UTC; by default this machine's.
    """
    moment, sight = now or datetime.now(UTC), Sight()
    items = [
        item
        for name in project_names(records, project)
        for version in records.ledger.versions(name)
        if (item := _pending(records, version, register, moment, sight)) is not None
    ]
    items.sort(key=lambda one: (not one.overdue, one.since, one.version.digest))
    return PendingAnswer(project, moment, tuple(items), sum(one.overdue for one in items), sight.basis())


def _pending(
    records: Records, version: VersionRecord, register: Register | None, now: datetime, sight: Sight
) -> PendingItem | None:
    course = Course()
    for event in records.ledger.events(subject=f"version:{version.digest}"):
        course.take(event)
    if course.state == "requested" and course.requested is not None:
        return _approval_item(records, version, course, course.requested, register, now, sight)
    if course.state == "frozen" and course.first is not None:
        return _item("request", version, course, course.first, (), sight)
    if course.state == "withdrawn" and course.released is not None and course.decided is not None:
        return _item("recall", version, course, course.decided, (), sight)
    if course.state != "approved" or course.released is not None or course.decided is None:
        return None
    waits = course.asked_release
    if waits is None or waits.seq < course.decided.seq or course.refused is not None:
        return _item("release", version, course, course.decided, (), sight)
    asked = _asked(register, version.project, [(RELEASE_ROLE, 1, "responsibility")], now)
    return _item("release decision", version, course, waits, asked, sight)


def _approval_item(
    records: Records,
    version: VersionRecord,
    course: Course,
    requested: Event,
    register: Register | None,
    now: datetime,
    sight: Sight,
) -> PendingItem:
    pinned = requested.body["policy"]
    sight.file("objects", pinned[:2], pinned)
    policy = Policy.from_pinned(records.store.get_value(pinned))
    demands = [(one.role, one.minimum, one.meaning) for one in policy.approvals]
    due = requested.time + policy.due
    asked = _asked(register, version.project, demands, now)
    item = _item("approval", version, course, requested, asked, sight)
    expires_at, role = due + timedelta(hours=policy.grace_hours), policy.escalation_role or ""
    return replace(item, due=due, expires_at=expires_at, overdue=now > due, escalation_role=role)


def _item(
    kind: str,
    version: VersionRecord,
    course: Course,
    since: Event,
    asked: tuple[Asked, ...],
    sight: Sight,
) -> PendingItem:
    reminded, escalated = (course.marks.get(name) for name in ("reminded", "escalated"))
    for event in (since, reminded, escalated, course.refused):
        if event is not None:
            sight.event(event)
    process_id = str(since.body.get("process_id", ""))
    return PendingItem(
        kind=kind,
        version=version_ref(version),
        attempt=course.attempt,
        asked=asked,
        holders=course.holders_of(process_id) if process_id else (),
        since=since.time,
        due=None,
        expires_at=None,
        overdue=False,
        reminded_at=reminded.time if reminded else None,
        escalated_at=escalated.time if escalated else None,
        escalation_role="",
        process_id=process_id,
        refused=course.refused.reason if course.refused and kind == "release" else "",
        event=since.seq,
    )


def _asked(
    register: Register | None, project: str, demands: Iterable[tuple[str, int, str]], now: datetime
) -> tuple[Asked, ...]:
    return tuple(
        Asked(role, minimum, meaning, tuple(one.id for one in register.holders(role, project, now)) if register else ())
        for role, minimum, meaning in demands
    )
