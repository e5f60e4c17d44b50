"""Who did what: by version, by person, and which decisions were void."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from include.base.errors import InvalidInput
from include.datasets import freeze as freezing
from include.governance.records import Event, VersionRecord
from include.questions.shared import (
    Basis,
    DecisionFacts,
    Records,
    Sight,
    VersionRef,
    decision_facts,
    project_names,
    rows_gone,
    version_ref,
)
from include.queues.batches import frozen_in

__all__ = [
    "ActFacts",
    "LabelShare",
    "PersonAnswer",
    "RequestFacts",
    "VersionShare",
    "VoidAnswer",
    "WhoAnswer",
    "person_record",
    "void_decisions",
    "who",
]

ASKING = ("version.ready", "approval.asked", "approval.resubmitted", "release.asked")
"""Actions whose event names persons who asked for an approval or a release."""

Within = Callable[[datetime | None], bool]
"""Tells whether a moment lies in the period asked about."""


@dataclass(frozen=True)
class LabelShare:
    """One person's part in a version's labels.

    :param counted: answers that carry the value that counts.
    :param losing: answers that do not.
    :param reviewed: rows whose value this person gave by a review; None where the rows are not kept any more.
    :param adjudicated: rows whose value this person gave by a final decision; None likewise.
    """

    person: str
    counted: int
    losing: int
    reviewed: int | None
    adjudicated: int | None


@dataclass(frozen=True)
class RequestFacts:
    """Somebody who asked: who froze or closed by hand, asked for the approval or the release, or resubmitted."""

    person: str
    action: str
    at: datetime
    reason: str
    event: int


@dataclass(frozen=True)
class WhoAnswer:
    """Who labelled, reviewed, adjudicated and approved a version.

    :param labels: who gave the labels, by person.
    :param requests: who asked; none of them may approve.
    :param decisions: every decision on exactly this digest, void ones included, in the order they were recorded.
    """

    version: VersionRef
    labels: tuple[LabelShare, ...]
    requests: tuple[RequestFacts, ...]
    decisions: tuple[DecisionFacts, ...]
    basis: Basis


@dataclass(frozen=True)
class VersionShare:
    """One person's part in the labels of one version."""

    version: VersionRef
    counted: int
    losing: int
    adjudicator: bool


@dataclass(frozen=True)
class ActFacts:
    """An event whose actor was a person, other than a decision."""

    event: int
    at: datetime
    action: str
    project: str
    subject: str
    reason: str


@dataclass(frozen=True)
class PersonAnswer:
    """What a person did in a period.

    :param since: first moment of the period, None for the beginning.
    :param until: first moment after it, None for no end.
    :param labelled: versions frozen in the period in which the person has a part.
    :param decisions: decided in the period by the source's time, or by ours where the source gives none.
    :param outcomes: how many of the decisions that count, by outcome.
    :param void: how many decisions do not count.
    :param acts: other events of the person.
    """

    person: str
    since: datetime | None
    until: datetime | None
    labelled: tuple[VersionShare, ...]
    decisions: tuple[DecisionFacts, ...]
    outcomes: dict[str, int]
    void: int
    acts: tuple[ActFacts, ...]
    basis: Basis


@dataclass(frozen=True)
class VoidAnswer:
    """Which decisions do not count, each with its reason in ``void_reason``.

    :param looked_at: how many decisions there are.
    """

    project: str | None
    looked_at: int
    decisions: tuple[DecisionFacts, ...]
    basis: Basis


def who(records: Records, version: VersionRecord) -> WhoAnswer:
    """Answer who labelled, reviewed, adjudicated and approved a version.

    :raises InvalidInput: when the version's files are gone or not what its digest says.
    """
    sight = Sight()
    events = list(records.ledger.events(subject=f"version:{version.digest}"))
    for event in events:
        if event.action == "version.frozen":
            sight.event(event)
        if "statements" in event.body:  # a request, with what it put before the persons it asked
            sight.event(event)
            sight.file("objects", event.body["statements"][:2], event.body["statements"])
    return WhoAnswer(
        version=version_ref(version),
        labels=tuple(_labels(records, version, sight)),
        requests=tuple(_requests(records, version, events, sight)),
        decisions=tuple(decision_facts(records.ledger.decisions(version.digest), events, sight)),
        basis=sight.basis(),
    )


def _labels(records: Records, version: VersionRecord, sight: Sight) -> list[LabelShare]:
    folder = sight.file("versions", version.project, version.digest, "manifest.json").rpartition("/")[0]
    manifest = freezing.read_manifest(records.store, version.project, version.digest)
    reviewed: Counter[str] = Counter()
    adjudicated: Counter[str] = Counter()
    known = not manifest.adjudicators or not rows_gone(records, version, sight)
    if manifest.adjudicators and known:
        sight.file(folder, "rows.jsonl")
        for row in freezing.rows(records.store, version.project, version.digest):
            if row["decision"] is not None:
                (reviewed if row["basis"] == "review" else adjudicated)[row["decision"]["person"]] += 1
    shares = {share.id: share for share in manifest.persons}
    return [
        LabelShare(
            person=person,
            counted=shares[person].counted if person in shares else 0,
            losing=shares[person].losing if person in shares else 0,
            reviewed=reviewed[person] if known else None,
            adjudicated=adjudicated[person] if known else None,
        )
        for person in sorted({*shares, *manifest.adjudicators})
    ]


def _requests(records: Records, version: VersionRecord, events: Iterable[Event], sight: Sight) -> list[RequestFacts]:
    closed = [
        event
        for batch in filter(None, frozen_in(records.ledger, version))
        for event in records.ledger.events(subject=f"batch:{batch}", actions=["batch.closed"])
    ]
    found = []
    for event in sorted([*closed, *(one for one in events if one.action in ASKING)], key=lambda one: one.seq):
        for person in event.body.get("requesters", ()):
            found.append(RequestFacts(person, event.action, event.time, event.reason, sight.event(event)))
    return found


def person_record(
    records: Records,
    person: str,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    project: str | None = None,
) -> PersonAnswer:
    """Answer what a person did and decided in a period.

    :param person: id of the register.
    :param since: aware time from which on.
    :param until: aware time before which.
    """
    if since is not None and until is not None and until <= since:
        raise InvalidInput(f"until: found {until.isoformat()}; allowed: later than since ({since.isoformat()})")
    sight = Sight()

    def within(moment: datetime | None) -> bool:
        return moment is not None and (since is None or moment >= since) and (until is None or moment < until)

    decisions: list[DecisionFacts] = []
    labelled: list[VersionShare] = []
    acts: list[ActFacts] = []
    for name in project_names(records, project):
        theirs = [one for one in records.ledger.decisions(project=name) if one.person == person]
        events = records.ledger.events(project=name, actions=["decision.recorded"]) if theirs else ()
        decisions += decision_facts(theirs, events, sight, lambda one: within(one.decided_at or one.recorded_at))
        labelled += _shares(records, name, person, sight, within)
        acts += _acts(records, name, person, sight, within)
    return PersonAnswer(
        person=person,
        since=since,
        until=until,
        labelled=tuple(labelled),
        decisions=tuple(decisions),
        outcomes=dict(sorted(Counter(one.outcome for one in decisions if one.counts).items())),
        void=sum(not one.counts for one in decisions),
        acts=tuple(acts),
        basis=sight.basis(),
    )


def _shares(records: Records, project: str, person: str, sight: Sight, within: Within) -> Iterator[VersionShare]:
    for version in records.ledger.versions(project):
        if not within(version.frozen_at):
            continue
        manifest = freezing.read_manifest(records.store, project, version.digest)
        share = next((one for one in manifest.persons if one.id == person), None)
        if share is None and person not in manifest.adjudicators:
            continue
        sight.file("versions", project, version.digest, "manifest.json")
        yield VersionShare(
            version_ref(version),
            counted=share.counted if share else 0,
            losing=share.losing if share else 0,
            adjudicator=person in manifest.adjudicators,
        )


def _acts(records: Records, project: str, person: str, sight: Sight, within: Within) -> Iterator[ActFacts]:
    for event in records.ledger.events(project=project):
        if event.actor == person and event.action != "decision.recorded" and within(event.time):
            yield ActFacts(sight.event(event), event.time, event.action, event.project, event.subject, event.reason)


def void_decisions(records: Records, project: str | None = None, person: str | None = None) -> VoidAnswer:
    """Answer which decisions do not count, and why."""
    sight, void, looked_at = Sight(), [], 0
    for name in project_names(records, project):
        decisions = [one for one in records.ledger.decisions(project=name) if person in (None, one.person)]
        looked_at += len(decisions)
        refused = [one for one in decisions if not one.counts]
        if refused:
            events = records.ledger.events(project=name, actions=["decision.recorded"])
            void += decision_facts(refused, events, sight)
    return VoidAnswer(project, looked_at, tuple(void), sight.basis())
