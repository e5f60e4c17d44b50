"""What differs between two versions of a project, record by record.

Both versions' ``rows.jsonl`` are sorted by task id and written in one canonical spelling, so equal records are equal
bytes: the two files are read side by side, runs of equal bytes are passed over as a whole, and only lines that differ
are parsed. Memory does not grow with the versions, and nothing is held of the changes but counts and a few samples.

A task that is in both versions is *relabelled* when its value differs, and its *evidence* changed when the value is
the same but rests on something else: other answers, another round, a review. Counts of labels come from the manifests,
whose digests the files are held against while they are read.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import IO, Any, Literal

import orjson

from include.base.canonical import SHORT, canonical_json, canonical_text
from include.base.errors import InvalidInput
from include.base.store import Store, StorePath
from include.datasets.manifest import Manifest, TaskList, read_manifest, version_path
from include.datasets.withdrawals import refuse_withdrawn
from include.projects.model import Project

__all__ = [
    "ANSWER",
    "KINDS",
    "Change",
    "LabelShift",
    "ManifestChange",
    "Side",
    "VersionDiff",
    "changes",
    "compare",
    "diff",
    "marks",
]

KINDS = ("added", "removed", "relabelled", "evidence")

Kind = Literal["added", "removed", "relabelled", "evidence"]

_BLOCK = 1024 * 1024
_LEAST = 512
"""Runs of equal bytes are looked for in steps down to this; what is left is compared line by line."""

_KEY = b',"task_id":"'

Transition = tuple[str | None, str | None]


@dataclass(frozen=True, slots=True)
class Side:
    """One version's record of a task: what the label is, and what it rests on.

    :param value: the canonical value (``AnswerValue.canonical()``).
    :param basis: ``answers``, ``review`` or ``decision``.
    :param persons: who gave the label: the one who decided, else everybody whose answer carries it.
    :param at: when: the time of the decision, else of the last of those answers; ISO 8601, UTC.
    """

    value: Mapping[str, Any]
    basis: str
    round: int
    persons: tuple[str, ...]
    at: str | None

    def as_json(self) -> dict[str, Any]:
        """Return the side as JSON."""
        return {
            "value": dict(self.value),
            "basis": self.basis,
            "round": self.round,
            "persons": list(self.persons),
            "at": self.at,
        }


@dataclass(frozen=True, slots=True)
class Change:
    """One task on which the versions differ.

    :param old, new: its record, None in the version that has none.
    :param elsewhere: for a task that one version has no record of: why. ``disputed``, ``ignored`` or ``missing``
        (listed as such by that version), or ``not in the version``.
    :param shown: what the annotators saw, only where content was asked for.
    """

    kind: Kind
    task_id: str
    old: Side | None
    new: Side | None
    elsewhere: str | None = None
    shown: Mapping[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the change as JSON."""
        value: dict[str, Any] = {
            "kind": self.kind,
            "task_id": self.task_id,
            "old": self.old.as_json() if self.old else None,
            "new": self.new.as_json() if self.new else None,
            "elsewhere": self.elsewhere,
        }
        return value if self.shown is None else {**value, "shown": dict(self.shown)}

    def line(self) -> bytes:
        """Return the change as one line of canonical JSON."""
        return canonical_json(self.as_json()) + b"\n"


@dataclass(frozen=True)
class LabelShift:
    """How often a label is given: in each version, and how much of it came and went (``old - lost + gained = new``)."""

    old: int
    new: int
    gained: int
    lost: int


@dataclass(frozen=True)
class ManifestChange:
    """A field in which the manifests differ, beyond what the records show; values as text, None for none."""

    field: str
    old: str | None
    new: str | None


@dataclass(frozen=True)
class VersionDiff:
    """What differs between two versions.

    :param unchanged: records that are the same bytes in both.
    :param transitions: how often a label became another, by (from, to); None stands for no label at that place (a
        span, an option) before or after. ``(reject)`` and ``(none)`` are an answer that gives no label.
    :param labels: see :class:`LabelShift`, by label.
    :param persons: relabelled records by who gave the new label; a record with several counts for each of them.
    :param bases: relabelled records by what the new label rests on.
    :param came_from, went_to: added and removed records by what the other version says about the task.
    :param manifest: what else differs.
    :param samples: the first changes of each kind, in order of task id.
    """

    project: str
    old: str
    new: str
    old_rows: int
    new_rows: int
    unchanged: int
    added: int
    removed: int
    relabelled: int
    evidence: int
    transitions: Mapping[Transition, int]
    labels: Mapping[str, LabelShift]
    persons: Mapping[str, int]
    bases: Mapping[str, int]
    came_from: Mapping[str, int]
    went_to: Mapping[str, int]
    manifest: tuple[ManifestChange, ...]
    samples: tuple[Change, ...] = field(repr=False)

    @property
    def changed(self) -> int:
        """Return on how many tasks the versions differ."""
        return self.added + self.removed + self.relabelled + self.evidence

    def as_json(self) -> dict[str, Any]:
        """Return everything but the list of changes as JSON."""
        return {
            "project": self.project,
            "old": self.old,
            "new": self.new,
            "old_rows": self.old_rows,
            "new_rows": self.new_rows,
            "unchanged": self.unchanged,
            **{kind: getattr(self, kind) for kind in KINDS},
            "transitions": [
                {"from": before, "to": after, "count": count} for (before, after), count in self.transitions.items()
            ],
            "labels": {
                label: {"old": shift.old, "new": shift.new, "gained": shift.gained, "lost": shift.lost}
                for label, shift in self.labels.items()
            },
            "relabelled_by": dict(self.persons),
            "relabelled_basis": dict(self.bases),
            "came_from": dict(self.came_from),
            "went_to": dict(self.went_to),
            "manifest": [{"field": one.field, "old": one.old, "new": one.new} for one in self.manifest],
            "samples": [one.as_json() for one in self.samples],
        }

    @property
    def sentence(self) -> str:
        """Return the result in a sentence."""
        return (
            f"{self.project}: version {self.new[:SHORT]} ({self.new_rows} records) against {self.old[:SHORT]} "
            f"({self.old_rows} records): {self.unchanged} unchanged, {self.added} added, {self.removed} removed, "
            f"{self.relabelled} relabelled, {self.evidence} with the same label on other evidence."
        )


def diff(
    store: Store,
    project: Project | str,
    old_digest: str,
    new_digest: str,
    *,
    samples: int = 10,
    full: bool = False,
    sink: Callable[[Change], object] | None = None,
) -> VersionDiff:
    """Compare two versions of a project.

    :param samples: how many changes of each kind the result holds.
    :param full: put what the annotators saw into the changes; without it they hold ids and labels only.
    :param sink: called with every change, in order of task id, while the files are read.
    :raises VersionWithdrawn: when the content of one was removed.
    :raises InvalidInput: when a version is not there, or is not what its digest says.
    """
    return compare(*_both(store, project, old_digest, new_digest), samples=samples, full=full, sink=sink)


def compare(
    old: Manifest,
    old_folder: StorePath,
    new: Manifest,
    new_folder: StorePath,
    *,
    samples: int = 10,
    full: bool = False,
    sink: Callable[[Change], object] | None = None,
) -> VersionDiff:
    """Compare two versions wherever they are (see :func:`diff`)."""
    tally = _Tally(samples)
    walk = _Walk(old_folder, old, new_folder, new, full)
    for change in walk.changes():
        tally.add(change)
        if sink is not None:
            sink(change)
    names = sorted({*old.labels, *new.labels})
    return VersionDiff(
        project=old.project,
        old=old.digest,
        new=new.digest,
        old_rows=old.counts.rows,
        new_rows=new.counts.rows,
        unchanged=walk.unchanged,
        **tally.kinds,
        transitions=_most(tally.transitions),
        labels={
            name: LabelShift(old.labels.get(name, 0), new.labels.get(name, 0), tally.gained[name], tally.lost[name])
            for name in names
        },
        persons=_most(tally.persons),
        bases=_most(tally.bases),
        came_from=_most(tally.came_from),
        went_to=_most(tally.went_to),
        manifest=tuple(_manifest_changes(old, new)),
        samples=tuple(one for kind in KINDS for one in tally.samples[kind]),
    )


def changes(
    store: Store, project: Project | str, old_digest: str, new_digest: str, *, full: bool = False
) -> Iterator[Change]:
    """Stream every change between two versions, in order of task id (see :func:`diff`)."""
    old, old_folder, new, new_folder = _both(store, project, old_digest, new_digest)
    yield from _Walk(old_folder, old, new_folder, new, full).changes()


def _both(
    store: Store, project: Project | str, old_digest: str, new_digest: str
) -> tuple[Manifest, StorePath, Manifest, StorePath]:
    for digest in (old_digest, new_digest):
        refuse_withdrawn(store, project, digest)
    return (
        read_manifest(store, project, old_digest),
        version_path(store, project, old_digest),
        read_manifest(store, project, new_digest),
        version_path(store, project, new_digest),
    )


def _most(counts: Mapping[Any, int]) -> dict[Any, int]:
    """Return counts with the largest first, equal ones in the order of their names."""
    return dict(sorted(counts.items(), key=lambda entry: (-entry[1], canonical_text(entry[0]))))


class _Tally:
    """What is kept of the changes: counts, and the first few."""

    def __init__(self, samples: int) -> None:
        self._limit = samples
        self.kinds: dict[str, int] = dict.fromkeys(KINDS, 0)
        self.samples: dict[str, list[Change]] = {kind: [] for kind in KINDS}
        self.transitions: Counter[Transition] = Counter()
        self.gained: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.persons: Counter[str] = Counter()
        self.bases: Counter[str] = Counter()
        self.came_from: Counter[str] = Counter()
        self.went_to: Counter[str] = Counter()

    def add(self, change: Change) -> None:
        self.kinds[change.kind] += 1
        if len(self.samples[change.kind]) < self._limit:
            self.samples[change.kind].append(change)
        old = marks(change.old.value) if change.old else []
        new = marks(change.new.value) if change.new else []
        if change.kind != "evidence":
            before, after = Counter(_labels(old)), Counter(_labels(new))
            self.gained.update(after - before)
            self.lost.update(before - after)
        if change.kind == "relabelled" and change.new is not None:
            self.transitions.update(_transitions(old, new))
            self.persons.update(change.new.persons)
            self.bases[change.new.basis] += 1
        elif change.kind == "added":
            self.came_from[str(change.elsewhere)] += 1
        elif change.kind == "removed":
            self.went_to[str(change.elsewhere)] += 1


# Reading two files side by side.


class _Reader:
    """Lines of a version's rows, whose digest is checked at the end."""

    def __init__(self, place: StorePath, content: IO[bytes], expected: str, pool: ThreadPoolExecutor) -> None:
        self.place = place
        self.buffer = b""
        self.at = 0
        self.line_number = 0
        self._content = content
        self._expected = expected
        self._digest = hashlib.sha256()
        self._pool = pool
        self._digesting: Future[None] | None = None
        self._ended = False
        self._line: bytes | None = None
        self._last_id = ""

    def left(self) -> int:
        """Return how many bytes can be compared at once, having read on where few were left."""
        if len(self.buffer) - self.at < _BLOCK // 2:
            self._fill()
        return len(self.buffer) - self.at

    def skip(self, length: int, lines: int) -> None:
        """Pass over bytes that end with a line."""
        self.at += length
        self.line_number += lines
        self._line = None

    def peek(self) -> bytes | None:
        """Return the next line without its end, None after the last."""
        if self._line is None:
            end = self.buffer.find(b"\n", self.at)
            while end < 0 and not self._ended:
                seen = len(self.buffer) - self.at
                self._fill()
                end = self.buffer.find(b"\n", self.at + seen)
            if end < 0:
                if self.at < len(self.buffer):
                    raise InvalidInput(f"{self.place}:{self.line_number + 1}: the last line has no end")
                return None
            self._line = self.buffer[self.at : end]
        return self._line

    def take(self) -> None:
        """Go on to the line after the one that :meth:`peek` shows."""
        if self._line is not None:
            self.skip(len(self._line) + 1, 1)

    def task_id(self, line: bytes) -> str:
        """Return the task that a line is about."""
        # Quotes inside a string are escaped, so these bytes are a key; and in a row only the value comes after it.
        at = line.rfind(_KEY) + len(_KEY)
        found = line[at : at + 64].decode("ascii", "replace")
        if at < len(_KEY) or line[at + 64 : at + 75] != b'","value":{' or found < self._last_id:
            raise InvalidInput(f"{self.place}:{self.line_number + 1}: no row of a version, or one out of order")
        self._last_id = found
        return found

    def parse(self, line: bytes) -> dict[str, Any]:
        """Return a line's row.

        :raises InvalidInput: naming file and line for one that is no row.
        """
        try:
            row = orjson.loads(line)
            if isinstance(row, dict) and isinstance(row["value"], dict):
                return row
        except (orjson.JSONDecodeError, KeyError):
            pass
        raise InvalidInput(f"{self.place}:{self.line_number + 1}: no row of a version")

    def check(self) -> None:
        """Refuse a file whose bytes are not what the manifest says."""
        if self._digesting is not None:
            self._digesting.result()
        found = self._digest.hexdigest()
        if found != self._expected:
            raise InvalidInput(f"{self.place}: its SHA-256 is {found}, the manifest says {self._expected}")

    def _fill(self) -> None:
        if self._ended:
            return
        block = self._content.read(_BLOCK)
        if not block:
            self._ended = True
            return
        # Half of the work is digesting, which another core can do meanwhile; one block at a time, in order.
        if self._digesting is not None:
            self._digesting.result()
        self._digesting = self._pool.submit(self._digest.update, block)
        self.buffer = self.buffer[self.at :] + block
        self.at = 0


class _Walk:
    """One pass over two versions."""

    def __init__(self, old_folder: StorePath, old: Manifest, new_folder: StorePath, new: Manifest, full: bool) -> None:
        self._old_folder, self._new_folder = old_folder, new_folder
        self._old, self._new = old, new
        self._full = full
        self.unchanged = 0

    def changes(self) -> Iterator[Change]:
        self.unchanged = 0
        with ExitStack() as stack:
            pool = stack.enter_context(ThreadPoolExecutor(2))
            old = _reader(stack, self._old_folder, self._old, pool)
            new = _reader(stack, self._new_folder, self._new, pool)
            not_old = _LeftOut(self._old_folder, self._old, stack)
            not_new = _LeftOut(self._new_folder, self._new, stack)
            while True:
                self._pass_over(old, new)
                before, after = old.peek(), new.peek()
                if before is None and after is None:
                    break
                if before == after:
                    self.unchanged += 1
                    old.take()
                    new.take()
                    continue
                old_id = old.task_id(before) if before is not None else None
                new_id = new.task_id(after) if after is not None else None
                if before is not None and (new_id is None or (old_id is not None and old_id < new_id)):
                    row = old.parse(before)
                    yield Change("removed", str(old_id), _side(row), None, not_new.find(str(old_id)), self._shown(row))
                    old.take()
                elif after is not None and old_id != new_id:
                    row = new.parse(after)
                    yield Change("added", str(new_id), None, _side(row), not_old.find(str(new_id)), self._shown(row))
                    new.take()
                elif before is not None and after is not None:
                    was, row = old.parse(before), new.parse(after)
                    kind: Kind = "evidence" if was["value"] == row["value"] else "relabelled"
                    yield Change(kind, str(new_id), _side(was), _side(row), None, self._shown(row))
                    old.take()
                    new.take()
            old.check()
            new.check()

    def _pass_over(self, old: _Reader, new: _Reader) -> None:
        """Pass over whole lines that are the same in both."""
        while True:
            most = min(old.left(), new.left())
            same = _common(old.buffer, old.at, new.buffer, new.at, most)
            length = old.buffer.rfind(b"\n", old.at, old.at + same) + 1 - old.at
            if length <= 0:
                return
            lines = old.buffer.count(b"\n", old.at, old.at + length)
            self.unchanged += lines
            old.skip(length, lines)
            new.skip(length, lines)
            if same < most:
                return

    def _shown(self, row: Mapping[str, Any]) -> Mapping[str, Any] | None:
        return row.get("shown") if self._full else None


def _reader(stack: ExitStack, folder: StorePath, manifest: Manifest, pool: ThreadPoolExecutor) -> _Reader:
    place = folder / manifest.rows.name
    if not place.exists():
        raise InvalidInput(f"{place}: is not there")
    return _Reader(place, stack.enter_context(place.open("rb")), manifest.rows.sha256, pool)


def _common(old: bytes, at: int, new: bytes, by: int, most: int) -> int:
    """Return how many bytes from two places on are the same: not all of them, but all to within :data:`_LEAST`."""
    same, step = 0, _LEAST
    while same < most:
        length = min(step, most - same)
        if old[at + same : at + same + length] == new[by + same : by + same + length]:
            same += length
            step *= 2
        elif step <= _LEAST:
            break
        else:
            step = max(_LEAST, step // 4)
    return same


class _LeftOut:
    """The tasks that a version lists as left out, read in order of their ids as they are asked for."""

    def __init__(self, folder: StorePath, manifest: Manifest, stack: ExitStack) -> None:
        lists = {"ignored": manifest.ignored, "disputed": manifest.disputed, "missing": manifest.missing}
        self._entries = heapq.merge(*(_listed(folder, name, listed, stack) for name, listed in lists.items()))
        self._next = next(self._entries, None)

    def find(self, task_id: str) -> str:
        """Return why a task is not in the version; ids have to be asked for in ascending order."""
        while self._next is not None and self._next[0] < task_id:
            self._next = next(self._entries, None)
        return self._next[1] if self._next is not None and self._next[0] == task_id else "not in the version"


def _listed(folder: StorePath, name: str, listed: TaskList, stack: ExitStack) -> Iterator[tuple[str, str]]:
    for entry in listed.items or ():
        yield entry.task_id, name
    if listed.file is not None:
        place = folder / listed.file.name
        if not place.exists():
            raise InvalidInput(f"{place}: is not there")
        for number, line in enumerate(stack.enter_context(place.open("rb")), 1):
            try:
                yield str(orjson.loads(line)["task_id"]), name
            except (orjson.JSONDecodeError, KeyError, TypeError) as error:
                raise InvalidInput(f"{place}:{number}: no entry of a list of tasks") from error


def _side(row: Mapping[str, Any]) -> Side:
    decision = row.get("decision")
    answers = row.get("answers") or []
    persons: tuple[str, ...]
    if decision:
        persons, at = (str(decision["person"]),), decision.get("at")
    else:
        persons = tuple(sorted({str(answer["person"]) for answer in answers}))
        at = max((answer["at"] for answer in answers if answer.get("at")), default=None)
    return Side(row["value"], str(row["basis"]), int(row["round"]), persons, at)


# Values: where in the record a label stands, and what became of it.

Mark = tuple[str, str]
"""Where a label stands (nowhere in particular for options and the label asked about), and the label."""

ANSWER = "(answer)"
"""The place of an answer that gives no label."""


def marks(value: Mapping[str, Any]) -> list[Mark]:
    """Return the labels that a canonical value gives, with their places; of any interface."""
    answer = str(value.get("answer"))
    if answer != "accept":
        return [(ANSWER, f"({answer})")]
    found: list[Mark] = [("", str(option)) for option in value.get("accept", ())]
    if value.get("label") is not None:
        found.append(("", str(value["label"])))
    for kind in ("spans", "segments"):
        found += [(f"{start}-{end}", str(label)) for start, end, label in value.get(kind, ())]
    found += [(f"{shape} {canonical_text(points)}", str(label)) for label, shape, points in value.get("regions", ())]
    found += [
        (f"{head}-{head_end} > {child}-{child_end}", str(label))
        for head, head_end, child, child_end, label in value.get("relations", ())
    ]
    return found or [(ANSWER, "(none)")]


def _labels(marks: Iterable[Mark]) -> list[str]:
    return [label for where, label in marks if where != ANSWER]


def _transitions(old: list[Mark], new: list[Mark]) -> Iterator[Transition]:
    """Yield what became of each label that is not the same at the same place."""
    gone, come = _by_place(Counter(old) - Counter(new)), _by_place(Counter(new) - Counter(old))
    if ANSWER in gone and ANSWER not in come:
        [answer] = gone.pop(ANSWER)
        yield from ((answer, label) for labels in come.values() for label in labels)
    elif ANSWER in come and ANSWER not in gone:
        [answer] = come.pop(ANSWER)
        yield from ((label, answer) for labels in gone.values() for label in labels)
    else:
        for where in sorted({*gone, *come}):
            left, right = gone.get(where, []), come.get(where, [])
            if len(left) == len(right) == 1:
                yield left[0], right[0]
            else:
                yield from ((label, None) for label in left)
                yield from ((None, label) for label in right)


def _by_place(marks: Counter[Mark]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for where, label in sorted(marks.elements()):
        found.setdefault(where, []).append(label)
    return found


# Manifests.


def _manifest_changes(old: Manifest, new: Manifest) -> Iterator[ManifestChange]:
    before, after = _telling(old), _telling(new)
    for name in [*before, *(name for name in after if name not in before)]:
        if before.get(name) != after.get(name):
            yield ManifestChange(name, _spelled(before.get(name)), _spelled(after.get(name)))
    for name, was, now in (
        ("persons", {one.id for one in old.persons}, {one.id for one in new.persons}),
        ("adjudicators", set(old.adjudicators), set(new.adjudicators)),
        ("guidelines", _releases(old), _releases(new)),
    ):
        if was != now:
            yield ManifestChange(name, ", ".join(sorted(was - now)) or None, ", ".join(sorted(now - was)) or None)


def _telling(manifest: Manifest) -> dict[str, Any]:
    """Return the fields that say how a version was made; persons and guidelines are compared as sets elsewhere."""
    value = manifest.model_dump(mode="json")
    told: dict[str, Any] = {name: value[name] for name in ("interface", "batch")}
    told["base"] = manifest.base.digest if manifest.base else None
    told |= {f"rule.{name}": found for name, found in value["rule"].items() if name != "text"}
    told |= {f"counts.{name}": value["counts"][name] for name in ("tasks", "ignored", "disputed", "missing", "answers")}
    told |= {name: value[name] for name in ("first_answer_at", "last_answer_at", "policy_digest")}
    told |= {f"policy.{name}": found for name, found in value["policy"].items()}
    told |= {name: value[name] for name in ("register_digest", "closed_by", "gate")}
    return told


def _releases(manifest: Manifest) -> set[str]:
    return {one.digest if one.number is None else f"{one.number} ({one.digest[:SHORT]})" for one in manifest.guidelines}


def _spelled(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return canonical_text(value)
