"""What was released without something that it needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from include.base.errors import InvalidInput
from include.datasets import freeze as freezing
from include.datasets.manifest import Manifest
from include.governance.records import Event, VersionRecord, signed_enough
from include.people.register import is_unknown
from include.projects.model import Policy, set_aside
from include.questions.models import RELEASED, release_facts, uses_of
from include.questions.shared import (
    Basis,
    DecisionFacts,
    Records,
    Sight,
    VersionRef,
    decision_facts,
    project_names,
    version_ref,
)
from include.questions.waiting import RELEASE_ROLE, Course

__all__ = ["CHECKS", "ON_REQUEST", "Lack", "WithoutAnswer", "released_without"]


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
    withdrawn: bool
    measured: bool

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
    asked = named or tuple(one for one in CHECKS if one not in ON_REQUEST)
    sight, count = Sight(), 0
    lacks: list[Lack] = []
    for name in project_names(records, project):
        for found in _releases(records, name, bool(named), sight):
            count += 1
            lacks += _lacks_of(found, asked)
        if "ledger" in asked:
            lacks += _strangers(records, name, sight)
    return WithoutAnswer(project, asked, count, tuple(lacks), sight.basis())


def _lacks_of(found: _Released, asked: Sequence[str]) -> Iterator[Lack]:
    ref = version_ref(found.version)
    for check in asked:
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
        folder = freezing.version_path(records.store, project, version.digest)
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
            measured=any(True for _ in folder.glob("agreement-*")),
            withdrawn=any(one.action == "approval.withdrawn" and one.seq > release.seq for one in events),
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
    course = Course()
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
    yield from (f"{found.name} was released under a policy by which {one}" for one in set_aside(found.policy))
    if not (found.policy.four_eyes or found.demanded):
        return
    hands = found.manifest.hands
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


def _signature(found: _Released) -> Iterator[str]:
    demanded = found.policy.signature
    if found.demanded and demanded == "recorded":
        demanded = "authenticated"
    for one in found.decisions:
        if one.counts and one.outcome == "approve" and not signed_enough(one.signature, demanded):
            yield f"{found.name} was released on a decision of {one.who} that is {one.signature}, not {demanded}"


def _statement(found: _Released) -> Iterator[str]:
    for one in found.decisions:
        if one.counts and one.statement_version is None:
            yield f"{found.name} was released on a decision of {one.who} who is not known to have seen the statement"


def _agreement(found: _Released) -> Iterator[str]:
    if not found.measured:
        yield f"{found.name} was released and its agreement is not measured"


def _recall(found: _Released) -> Iterator[str]:
    if found.withdrawn:
        yield f"{found.name} is still released, though its approval was withdrawn"


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
    "signature": _signature,
    "statement": _statement,
    "agreement": _agreement,
    "recall": _recall,
    "guideline": _guideline,
    "completeness": _completeness,
    "evidence": _evidence,
    "ledger": lambda _: iter(()),
}
"""What a release is held against, by the name of the check.

Where ``signature`` is named, it demands at least ``authenticated``; else the policy says which. ``ledger`` is about
releases that no event tells of, and models that used what was not released.
"""

ON_REQUEST = ("statement", "agreement")
"""Checks that are made only where they are named, for no rule demands them: that each statement is known to have been
put before its person, and that the agreement was measured and lies beside the version.
"""


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
