"""What changed between two versions of a project, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from include.base.canonical import SHORT
from include.base.errors import InvalidInput
from include.datasets import freeze as freezing
from include.datasets.diff import KINDS, Change, diff
from include.datasets.manifest import Manifest
from include.governance.records import Event, VersionRecord
from include.questions.shared import Basis, Records, Sight, VersionRef, rows_gone, version_ref
from include.queues.batches import frozen_in

__all__ = ["Became", "Cause", "ChangedAnswer", "LabelChange", "changed"]

BETWEEN = {
    "guideline.published": "guideline",
    "policy.in_force": "policy",
    "register.in_force": "register",
    "batch.closed": "closing",
    "batch.assigned": "batch",
    "approval.rework": "rework",
    "approval.rejected": "rejected",
    "approval.resubmitted": "resubmitted",
    "approval.withdrawn": "withdrawn",
    "release.recalled": "recalled",
    "finding": "finding",
}
"""Events between two versions that may be why they differ, and the kind of cause they are."""


@dataclass(frozen=True)
class LabelChange:
    """How often a label is given in each version, and how much of it came and went (None: the rows are not kept)."""

    label: str
    old: int
    new: int
    gained: int | None
    lost: int | None


@dataclass(frozen=True)
class Became:
    """How often a label became another; None stands for no label before, or after."""

    old: str | None
    new: str | None
    count: int


@dataclass(frozen=True)
class Cause:
    """Something that differs between two versions, or that happened between them, and explains why their rows do.

    :param kind: rule, policy, guideline, register, batch, closing, rounds, persons, rework, …
    :param event: number of the event that says so, None where the manifests do.
    """

    kind: str
    sentence: str
    event: int | None


@dataclass(frozen=True)
class ChangedAnswer:
    """What changed between two versions, and why.

    :param gone: why rows of the versions are not in the store, so that they cannot be compared; empty where they are.
    :param rows: how many rows are unchanged, added, removed, relabelled, or rest on other evidence; empty where the
        rows of one version are not kept any more.
    :param labels: labels that are given more or less often, or came and went.
    :param became: which label became which, the most frequent first.
    :param relabelled_by: relabelled rows by who gave the new label.
    :param came_from: added rows by what the old version says about the task; ``went_to`` the same of removed ones.
    """

    old: VersionRef
    new: VersionRef
    gone: tuple[str, ...]
    rows: dict[str, int]
    labels: tuple[LabelChange, ...]
    became: tuple[Became, ...]
    relabelled_by: dict[str, int]
    came_from: dict[str, int]
    went_to: dict[str, int]
    causes: tuple[Cause, ...]
    basis: Basis


def changed(records: Records, old: VersionRecord, new: VersionRecord) -> ChangedAnswer:
    """Answer what changed between two versions of a project, and why. The rows are compared while they stream.

    Where the rows of one are not kept any more, the manifests and the events are compared.

    :raises InvalidInput: when they are of two projects, or one is not what its digest says.
    """
    if old.project != new.project:
        raise InvalidInput(f"{version_ref(old)} and {version_ref(new)}: two versions of one project are compared")
    sight = Sight()
    manifests = []
    for version in (old, new):
        sight.file("versions", version.project, version.digest, "manifest.json")
        manifests.append(freezing.read_manifest(records.store, version.project, version.digest))
    before, after = manifests
    told = (*_of_manifests(before, after), *_of_events(records, old, new, sight))
    gone = tuple(filter(None, (rows_gone(records, version, sight) for version in (old, new))))
    if gone:
        labels = _counted(before, after)
        return ChangedAnswer(version_ref(old), version_ref(new), gone, {}, labels, (), {}, {}, {}, told, sight.basis())
    for version in (old, new):
        sight.file("versions", version.project, version.digest, "rows.jsonl")
    tally = _Tally()
    found = diff(records.store, old.project, old.digest, new.digest, samples=0, sink=tally.take)
    return ChangedAnswer(
        old=version_ref(old),
        new=version_ref(new),
        gone=(),
        rows={"unchanged": found.unchanged, **{kind: getattr(found, kind) for kind in KINDS}},
        labels=tuple(
            LabelChange(name, one.old, one.new, one.gained, one.lost)
            for name, one in found.labels.items()
            if one.gained or one.lost or one.old != one.new
        ),
        became=tuple(Became(was, now, count) for (was, now), count in found.transitions.items()),
        relabelled_by=dict(found.persons),
        came_from=dict(found.came_from),
        went_to=dict(found.went_to),
        causes=(*told, *tally.causes()),
        basis=sight.basis(),
    )


def _counted(before: Manifest, after: Manifest) -> tuple[LabelChange, ...]:
    pairs = [
        (name, before.labels.get(name, 0), after.labels.get(name, 0)) for name in {**before.labels, **after.labels}
    ]
    return tuple(LabelChange(name, old, new, None, None) for name, old, new in sorted(pairs) if old != new)


@dataclass
class _Tally:
    """What the rows themselves say of why they differ."""

    later: int = 0
    earlier: int = 0
    decided: Counter[str] = field(default_factory=Counter)

    def take(self, change: Change) -> None:
        if change.old is None or change.new is None:
            return
        self.later += change.new.round > change.old.round
        self.earlier += change.new.round < change.old.round
        if change.new.basis != change.old.basis:
            self.decided[f"by {change.new.basis}, by {change.old.basis} before"] += 1

    def causes(self) -> Iterator[Cause]:
        if self.later:
            yield Cause("rounds", f"{self.later} row(s) were labelled again in a later round", None)
        if self.earlier:
            yield Cause("rounds", f"{self.earlier} row(s) rest on an earlier round than before", None)
        for how, count in sorted(self.decided.items()):
            yield Cause("basis", f"{count} row(s) are given {how}", None)


def _of_manifests(before: Manifest, after: Manifest) -> Iterator[Cause]:
    if after.base is not None:
        rests = "the old version" if after.base.digest == before.digest else f"version {after.base.digest[:SHORT]}"
        yield Cause("base", f"the new version rests on {rests}: {after.base.told}", None)
    if before.batch != after.batch:
        yield Cause("batch", f"another batch: {before.batch[:SHORT]}, then {after.batch[:SHORT]}", None)
    if before.rule != after.rule:
        yield Cause("rule", f"another rule: {_rule(before)}, then {_rule(after)}", None)
    for name in sorted({*before.policy, *after.policy}):
        old, new = before.policy.get(name), after.policy.get(name)
        if old != new:
            yield Cause("policy", f"the pinned policy's {name}: {_shown(old)}, then {_shown(new)}", None)
    if before.register_digest != after.register_digest:
        old, new = before.register_digest[:SHORT], after.register_digest[:SHORT]
        yield Cause("register", f"another register: {old}, then {new}", None)
    yield from _guidelines(before, after)
    for manifest, when in ((before, "the old version's"), (after, "the new version's")):
        if manifest.closed_by is not None:
            closed = manifest.closed_by
            yield Cause("closing", f"{when} batch was closed unfinished by {closed.person}: {closed.reason}", None)
    if before.labels.keys() != after.labels.keys():
        yield Cause("taxonomy", f"other labels: {', '.join(before.labels)}, then {', '.join(after.labels)}", None)
    gone = {one.id for one in before.persons} ^ {one.id for one in after.persons}
    if gone:
        yield Cause("persons", f"persons who answered for one of them only: {', '.join(sorted(gone))}", None)
    if before.counts.decided != after.counts.decided:
        old_count, new_count = before.counts.decided, after.counts.decided
        yield Cause("decisions", f"rows that a review or a decision gave: {old_count}, then {new_count}", None)


def _guidelines(before: Manifest, after: Manifest) -> Iterator[Cause]:
    old, new = ({one.digest: one for one in each.guidelines if one.counted} for each in (before, after))
    for digest in sorted(new.keys() - old.keys()):
        number = f"release {new[digest].number} " if new[digest].number else ""
        yield Cause("guideline", f"{new[digest].counted} answers under guideline {number}({digest[:SHORT]}), new", None)
    for digest in sorted(old.keys() - new.keys()):
        number = f"release {old[digest].number} " if old[digest].number else ""
        yield Cause("guideline", f"no answers any more under guideline {number}({digest[:SHORT]})", None)


def _of_events(records: Records, old: VersionRecord, new: VersionRecord, sight: Sight) -> Iterator[Cause]:
    first, last = sorted((_frozen(records, old), _frozen(records, new)), key=lambda one: one.seq)
    sight.event(first)
    sight.event(last)
    subjects = {f"version:{old.digest}"}
    subjects.update(f"batch:{batch}" for version in (old, new) for batch in frozen_in(records.ledger, version))
    for event in records.ledger.events(actions=list(BETWEEN), after=first.seq):
        if event.seq > last.seq:
            return
        if event.project not in ("", new.project):
            continue
        if event.subject.startswith(("version:", "batch:")) and event.subject not in subjects:
            continue
        yield Cause(BETWEEN[event.action], _happened(event), sight.event(event))


def _frozen(records: Records, version: VersionRecord) -> Event:
    return next(iter(records.ledger.events(subject=f"version:{version.digest}", actions=["version.frozen"])))


def _happened(event: Event) -> str:
    said = f": {event.reason}" if event.reason else ""
    change = f" {(event.digest_before or 'none')[:SHORT]} > {event.digest_after[:SHORT]}" if event.digest_after else ""
    by = f" by {event.actor}" if event.actor != "labelops" else ""
    return f"{event.action} of {event.subject.partition(':')[0]}{change}{by}{said}"


def _rule(manifest: Manifest) -> str:
    return f"{manifest.rule.name} of {manifest.rule.answers_per_task}"


def _shown(value: Any) -> str:
    return "absent" if value is None else str(value)
