"""What is pending and overdue, what was released without something it needed, and which models used what."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from include.base.errors import InvalidInput
from include.datasets import freeze as freezing
from include.datasets.manifest import Manifest
from include.governance.approval import is_unknown
from include.governance.questions.shared import (
    Basis,
    DecisionFacts,
    Records,
    Sight,
    UseFacts,
    VersionRef,
    decision_facts,
    project_names,
    use_facts,
    version_ref,
)
from include.governance.records import Event, VersionRecord
from include.governance.register import Register
from include.governance.usage import USED
from include.projects.model import Policy

__all__ = [
    "CHECKS",
    "Asked",
    "Lack",
    "ModelsAnswer",
    "PendingAnswer",
    "PendingItem",
    "WithoutAnswer",
    "models_of",
    "pending",
    "release_facts",
    "released_without",
    "uses_of",
    "versions_of_model",
]

RELEASED, RECALLED = "release.done", "release.recalled"
RELEASE_ROLE = "release_manager"
COURSE = ("asked", "requested", "reminded", "escalated", "ending", "resubmitted")
"""Events of an approval that are no result; any other ``approval.…`` ends the attempt."""


# ---- models --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ModelsAnswer:
    """Which models used which versions, as their trainings reported it."""

    version: VersionRef | None
    model: str | None
    model_version: str | None
    uses: tuple[UseFacts, ...]
    basis: Basis


def models_of(records: Records, version: VersionRecord) -> ModelsAnswer:
    """Answer which models used a version."""
    sight, ref = Sight(), version_ref(version)
    events = list(records.ledger.events(subject=f"version:{version.digest}"))
    return ModelsAnswer(ref, None, None, tuple(uses_of(ref, events, sight)), sight.basis())


def versions_of_model(
    records: Records, model: str, model_version: str | None = None, project: str | None = None
) -> ModelsAnswer:
    """Answer which versions a model used.

    :param model_version: only this version of the model.
    """
    sight, uses = Sight(), []
    for event in records.ledger.events(project=project, actions=[USED]):
        if event.body["model"] != model or model_version not in (None, event.body["model_version"]):
            continue
        version = records.ledger.version(event.digest_after or "")
        if version is None:
            raise AssertionError("a use is recorded of a version on the ledger only")
        of_version = list(records.ledger.events(subject=event.subject))
        uses += [one for one in uses_of(version_ref(version), of_version, Sight()) if one.event == event.seq]
        sight.event(event)
    return ModelsAnswer(None, model, model_version, tuple(uses), sight.basis())


def uses_of(version: VersionRef, events: Iterable[Event], sight: Sight) -> Iterator[UseFacts]:
    """Yield the uses among a version's events, each with whether the version was out when it was reported."""
    out = False
    for event in events:
        if event.action in (RELEASED, RECALLED):
            out = event.action == RELEASED
        elif event.action == USED:
            sight.event(event)
            yield use_facts(event, version, released_before=out)


def release_facts(events: Iterable[Event]) -> Event | None:
    """Return the release among a version's events; None where it was never released, or was recalled since."""
    found = None
    for event in events:
        if event.action in (RELEASED, RECALLED):
            found = event if event.action == RELEASED else None
    return found


# ---- pending -------------------------------------------------------------------------------------------------------


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
        ``release decision`` (the release process waits).
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
class _Course:
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
    course = _Course()
    for event in records.ledger.events(subject=f"version:{version.digest}"):
        course.take(event)
    if course.state == "requested" and course.requested is not None:
        return _approval_item(records, version, course, course.requested, register, now, sight)
    if course.state == "frozen" and course.first is not None:
        return _item("request", version, course, course.first, (), sight)
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
    course: _Course,
    requested: Event,
    register: Register | None,
    now: datetime,
    sight: Sight,
) -> PendingItem:
    pinned = requested.body["policy"]
    sight.file("objects", pinned[:2], pinned)
    policy = Policy.from_pinned(json.loads(records.store.get_object(pinned)))
    demands = [(one.role, one.minimum, one.meaning) for one in policy.approvals]
    due = requested.time + policy.due
    return _item(
        "approval", version, course, requested, _asked(register, version.project, demands, now), sight,
        due=due, expires_at=due + timedelta(hours=policy.grace_hours), overdue=now > due,
        escalation_role=policy.escalation_role or "",
    )  # fmt: skip


def _item(
    kind: str,
    version: VersionRecord,
    course: _Course,
    since: Event,
    asked: tuple[Asked, ...],
    sight: Sight,
    *,
    due: datetime | None = None,
    expires_at: datetime | None = None,
    overdue: bool = False,
    escalation_role: str = "",
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
        due=due,
        expires_at=expires_at,
        overdue=overdue,
        reminded_at=reminded.time if reminded else None,
        escalated_at=escalated.time if escalated else None,
        escalation_role=escalation_role,
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


# ---- released without ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lack:
    """Something that a release went out without, or that speaks against it.

    :param check: which of :data:`CHECKS`.
    :param version: None for a folder in the store that the ledger knows nothing of.
    """

    check: str
    version: VersionRef | None
    sentence: str
    events: tuple[int, ...]


@dataclass(frozen=True)
class WithoutAnswer:
    """What was released without what it needed. ``lacks`` must be empty.

    :param checks: what was looked at.
    :param releases: how many releases were.
    """

    project: str | None
    checks: tuple[str, ...]
    releases: int
    lacks: tuple[Lack, ...]
    basis: Basis

    @property
    def ok(self) -> bool:
        """Tell whether nothing is lacking."""
        return not self.lacks


@dataclass(frozen=True)
class _Released:
    """A release and everything it is held against, as it was when it was handed over."""

    version: VersionRecord
    release: Event
    before: Sequence[Event]
    decisions: Sequence[DecisionFacts]
    manifest: Manifest
    policy: Policy
    demanded: bool

    @property
    def name(self) -> str:
        return str(version_ref(self.version))

    def approvers(self, role: str, meaning: str | None = None) -> set[str]:
        """Return who approved in a role so that it counts."""
        return {
            one.person
            for one in self.decisions
            if one.counts and one.outcome == "approve" and one.role == role and one.person
            if meaning is None or one.meaning == meaning
        }


def released_without(
    records: Records, project: str | None = None, checks: Sequence[str] | None = None
) -> WithoutAnswer:
    """Answer what was released without what it needed; nothing may be found.

    By default every release is held against the policy pinned in its version, and against the rules that no policy
    can set aside. A check that is named is demanded of every release, whatever its policy says.

    :param checks: some of :data:`CHECKS`, or ``role:<role>`` for an approval in that role.
    :raises InvalidInput: for a check that there is none of.
    """
    named = tuple(checks or ())
    for one in named:
        if one not in CHECKS and not one.startswith("role:"):
            raise InvalidInput(f"check: found {one!r}; allowed: {', '.join(CHECKS)}, role:<role>")
    sight, count = Sight(), 0
    lacks: list[Lack] = []
    for name in project_names(records, project):
        for found in _releases(records, name, bool(named), sight):
            count += 1
            lacks += _lacks_of(found, named)
        if not named or "ledger" in named:
            lacks += _strangers(records, name, sight)
    return WithoutAnswer(project, named or tuple(CHECKS), count, tuple(lacks), sight.basis())


def _lacks_of(found: _Released, named: Sequence[str]) -> Iterator[Lack]:
    ref = version_ref(found.version)
    for check in named or CHECKS:
        role = check.removeprefix("role:")
        for sentence in CHECKS[check](found) if role == check else _role(found, role):
            yield Lack(check, ref, sentence, (found.release.seq,))


def _releases(records: Records, project: str, demanded: bool, sight: Sight) -> Iterator[_Released]:
    for version in records.ledger.versions(project):
        events = list(records.ledger.events(subject=f"version:{version.digest}"))
        release = release_facts(events)
        if release is None:
            continue
        sight.event(release)
        sight.file("versions", project, version.digest, "manifest.json")
        manifest = freezing.read_manifest(records.store, project, version.digest)
        before = [one for one in events if one.seq < release.seq]
        decisions = decision_facts(records.ledger.decisions(version.digest), before, sight)
        requests = {one.action: one.body["process_id"] for one in before if one.action in _REQUESTS}
        yield _Released(
            version=version,
            release=release,
            before=before,
            # What was decided of an attempt that another has replaced neither approves nor forbids any more.
            decisions=[one for one in decisions if one.process_id in requests.values()],
            manifest=manifest,
            policy=Policy.from_pinned(manifest.policy),
            demanded=demanded,
        )


_REQUESTS = ("approval.requested", "release.requested")


def _approval(found: _Released) -> Iterator[str]:
    for demand in found.policy.approvals:
        persons = found.approvers(demand.role, demand.meaning)
        if len(persons) < demand.minimum:
            yield (
                f"{found.name} was released with {len(persons)} {demand.meaning} by {demand.role}; "
                f"its policy demands {demand.minimum}"
            )
    for one in found.decisions:
        if one.counts and one.outcome in ("reject", "rework", "withdraw"):
            yield f"{found.name} was released although {one.who} decided {one.outcome} as {one.role}"


def _role(found: _Released, role: str) -> Iterator[str]:
    if not found.approvers(role):
        yield f"{found.name} was released without an approval by {role}"


def _release_decision(found: _Released) -> Iterator[str]:
    asked = any(one.action == "release.requested" for one in found.before)
    if (asked or found.demanded) and not found.approvers(RELEASE_ROLE):
        yield f"{found.name} was released without the decision of a {RELEASE_ROLE}"


def _state(found: _Released) -> Iterator[str]:
    course = _Course()
    for event in found.before:
        course.take(event)
    if course.state != "approved":
        yield f"{found.name} was released while its approval was {course.state}"


def _gate(found: _Released) -> Iterator[str]:
    for suite in ("version_rows", "release_rows"):
        passed = any(
            one.action == "gate.passed" and one.body["suite"] == suite and one.digest_after == found.version.rows_digest
            for one in found.before
        )
        if not passed:
            yield f"{found.name} was released without a passed gate {suite} for its rows"


def _four_eyes(found: _Released) -> Iterator[str]:
    if not (found.policy.four_eyes or found.demanded):
        return
    hands = freezing.annotators(found.manifest)
    askers = {
        person
        for event in found.before
        for person in event.body.get("requesters", ())
        if event.action in ("version.ready", "approval.asked", "approval.resubmitted")
    }
    for one in found.decisions:
        if one.counts and one.outcome == "approve" and one.person and one.role != RELEASE_ROLE:
            if one.person in hands:
                yield f"{found.name} was released with the approval of {one.person}, who had a hand in its labels"
            if one.person in askers:
                yield f"{found.name} was released with the approval of {one.person}, who asked for it"
    strangers = sum(is_unknown(person) for person in hands)
    if strangers:
        yield f"{found.name} was released with answers of {strangers} unknown person(s)"


def _grade(found: _Released) -> Iterator[str]:
    if found.policy.evidence == "attested" or found.demanded:
        for one in found.decisions:
            if one.counts and one.outcome == "approve" and one.grade != "attested":
                yield f"{found.name} was released on the {one.grade} decision of {one.who} as {one.role}"


def _guideline(found: _Released) -> Iterator[str]:
    if found.policy.require_guideline_stamp or found.demanded:
        unknown = sum(share.counted for share in found.manifest.guidelines if share.digest == "unknown")
        if unknown:
            yield f"{found.name} was released with {unknown} answer(s) that do not say under which guideline"


def _completeness(found: _Released) -> Iterator[str]:
    counts = found.manifest.counts
    wanted = 100 if found.demanded else found.policy.min_completeness_percent
    settled = 100 * (counts.rows + counts.ignored) // counts.tasks if counts.tasks else 0
    if settled < wanted:
        yield f"{found.name} was released {settled} % complete; {wanted} % are demanded"


def _evidence(found: _Released) -> Iterator[str]:
    for one in found.decisions:
        if one.counts and not one.evidence:
            yield f"{found.name} was released on the decision of {one.who}, of which no raw reply was kept"


CHECKS: Mapping[str, Callable[[_Released], Iterator[str]]] = {
    "approval": _approval,
    "state": _state,
    "release-decision": _release_decision,
    "gate": _gate,
    "four-eyes": _four_eyes,
    "grade": _grade,
    "guideline": _guideline,
    "completeness": _completeness,
    "evidence": _evidence,
    "ledger": lambda _: iter(()),
}
"""What a release is held against, by the name of the check; ``ledger`` is about releases that no event tells of."""


def _strangers(records: Records, project: str, sight: Sight) -> Iterator[Lack]:
    """Yield the release folders that the ledger knows nothing of, and the models that used what was not out."""
    told = {event.body["path"]: event for event in records.ledger.events(project=project, actions=[RELEASED])}
    home = records.store.at("releases", project)
    for path in sorted(home.iterdir(), key=lambda one: one.name) if home.exists() else ():
        where = f"releases/{project}/{path.name}"
        if path.is_dir() and (path / "checksums.json").exists() and where not in told:
            sight.file(where)
            yield Lack("ledger", None, f"{where} is a release that the ledger knows nothing of", ())
    for version in records.ledger.versions(project):
        events = list(records.ledger.events(subject=f"version:{version.digest}"))
        for use in uses_of(version_ref(version), events, sight):
            if not use.released_before:
                sentence = f"model {use.model} {use.model_version} used {version_ref(version)}, which was not released"
                yield Lack("ledger", version_ref(version), sentence, (use.event,))
