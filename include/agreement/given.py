"""Answers as agreement and accounting look at them: who said what about which unit, when, in whole numbers.

One pass over a stream of :class:`Given` makes :class:`Gathered`: parallel arrays of small integers. Texts are looked at
and never kept, so memory grows with the number of answers (some 36 bytes each, and 12 for each span), not with their
size.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from include.annotation.answers import Answer, read_answer
from include.annotation.tokens import tokenize
from include.base.canonical import SHORT
from include.base.errors import InvalidInput
from include.projects.model import Project
from include.systems.prodigy.values import Row

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Whole = NDArray[np.int64] | NDArray[np.int32]

__all__ = [
    "NO_TIME",
    "Category",
    "Gathered",
    "Given",
    "Spans",
    "UnitKey",
    "category_of",
    "from_answers",
    "from_rows",
    "from_version",
    "gather",
]

NO_TIME = -(2**62)
"""The time of an answer that has none: before all others."""

SEVERAL = "several"
"""The slice of a unit whose answers belong to different ones."""

UNKNOWN = "unknown"
"""The slice of an answer that does not say under which guideline it was given."""

UNKNOWN_TOKENS = -1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_RANK = {"accept": 0, "reject": 1, "ignore": 2}


class UnitKey(StrEnum):
    """What makes two answers answers to the same question."""

    TASK = "task id"
    """Our own id: the SHA-256 over project, content, label and options."""
    INPUT = "input hash"
    """Prodigy's ``_input_hash`` within one ``_view_id`` and one ``label``. It has 32 bits: of 100,000 inputs about one
    pair shares a hash. Never ``_task_hash``, which differs between annotators whose options were shuffled."""


@dataclass(frozen=True, slots=True)
class Given:
    """One answer.

    :param unit: what it answers.
    :param value: ``AnswerValue.canonical()``.
    :param at: milliseconds since 1970, UTC; None where the row does not say.
    :param order: tells which of two answers of one time is the later.
    :param row: SHA-256 of the stored answer.
    :param group: the slice that it belongs to: the label that was asked about, or the guideline release in force.
    :param text: what spans count in, where it is at hand.
    """

    unit: str
    person: str
    value: Mapping[str, Any]
    round: int = 1
    at: int | None = None
    order: int = 0
    row: str = ""
    group: str = ""
    text: str | None = None


@dataclass(frozen=True)
class Category:
    """What an answer comes to, before it is decided which of them are classes.

    :param labels: the options picked, or the labels marked, each once and sorted; empty for "nothing"; None where the
        interface asks a binary question, or the answer is no ``accept``.
    """

    answer: str
    labels: tuple[str | int, ...] | None = None

    @property
    def name(self) -> str:
        """Return it in words: ``billing + account``, ``(nothing)``, ``accept``, ``(reject)``."""
        if self.labels is None:
            return self.answer
        return " + ".join(map(str, self.labels)) or "(nothing)"

    @property
    def order(self) -> tuple[Any, ...]:
        """Return what sorts categories, whatever the order they came in."""
        return (_RANK.get(self.answer, 9), self.labels is not None, _sorting(self.labels or ()))


@dataclass(frozen=True)
class Spans:
    """The spans of the answers, flattened: those of answer ``i`` are at ``first[i]`` to ``first[i + 1]``.

    Spans of a text are in code points, segments of a recording in milliseconds. A region of an image is the smallest
    rectangle around it, in thousandths of a pixel: ``start`` and ``end`` from left to right, ``low`` and ``high`` from
    top to bottom.

    :param low, high: 0 for what has one axis.
    :param label: index into ``labels``.
    :param tokens: tokens in the text of each unit; -1 where the text was not at hand.
    :param from_token, to_token: the tokens that the span touches, the end exclusive; -1 without the text.
    """

    labels: tuple[str, ...]
    first: NDArray[np.int64]
    start: NDArray[np.int32]
    end: NDArray[np.int32]
    low: NDArray[np.int32]
    high: NDArray[np.int32]
    label: NDArray[np.int32]
    from_token: NDArray[np.int32]
    to_token: NDArray[np.int32]
    tokens: NDArray[np.int32]

    @property
    def in_text(self) -> bool:
        """Tell whether any unit is a text."""
        return bool((self.tokens != UNKNOWN_TOKENS).any())


@dataclass(frozen=True)
class Gathered:
    """All answers as arrays of one length, in the order they came.

    :param listed: how many units were named beforehand (they come first); None where none were.
    :param groups: names of the slices; ``group`` holds the slice of each unit.
    :param row: the first 64 bits of the stored answers' SHA-256.
    """

    persons: tuple[str, ...]
    categories: tuple[Category, ...]
    groups: tuple[str, ...]
    names: _Names
    listed: int | None
    unit: NDArray[np.int32]
    person: NDArray[np.int32]
    category: NDArray[np.int32]
    round: NDArray[np.int32]
    at: NDArray[np.int64]
    order: NDArray[np.int64]
    row: NDArray[np.uint64]
    group: NDArray[np.int32]
    spans: Spans | None

    @property
    def units(self) -> int:
        """Return how many units there are, answered or listed."""
        return len(self.names)

    def latest_round(self) -> NDArray[np.int64]:
        """Return which answers are of their unit's latest round, by their place."""
        import numpy as np

        latest = np.zeros(self.units, dtype=np.int32)
        np.maximum.at(latest, self.unit, self.round)
        return np.flatnonzero(self.round == latest[self.unit])

    def __len__(self) -> int:
        return len(self.unit)


def category_of(value: Mapping[str, Any]) -> Category:
    """Return the category of ``AnswerValue.canonical()``.

    :raises InvalidInput: when it is no such value.
    """
    answer = value.get("answer")
    if answer not in _RANK:
        raise InvalidInput(f"value.answer: found {answer!r:.60}; allowed: {', '.join(_RANK)}")
    if answer != "accept":
        return Category(answer)
    if "accept" in value:
        return Category(answer, tuple(sorted(set(value["accept"]), key=option_order)))
    marked: set[str] = set()
    found = False
    for name, place in (("spans", 2), ("segments", 2), ("regions", 0), ("relations", 4)):
        if name in value:
            found = True
            marked.update(str(one[place]) for one in value[name])
    return Category(answer, tuple(sorted(marked))) if found else Category(answer)


def from_answers(
    answers: Iterable[Answer], person: Callable[[Answer], str], *, key: UnitKey = UnitKey.TASK
) -> Iterator[Given]:
    """Yield the answers of a project's dataset, by our own task ids.

    :param person: says who answered, such as ``include.annotation.values.person_of``.
    :raises InvalidInput: for ``UnitKey.INPUT``, which needs the rows: see :func:`from_rows`.
    """
    if key is not UnitKey.TASK:
        raise InvalidInput(f"answers alone do not hold the {key}; allowed: {UnitKey.TASK}, or rows")
    for answer in answers:
        yield _of_answer(answer, answer.task_id, person(answer))


def from_rows(
    rows: Iterable[Row],
    project: Project,
    person: Callable[[Answer], str],
    *,
    key: UnitKey = UnitKey.INPUT,
    dataset: str | None = None,
) -> Iterator[Given]:
    """Yield the answers that rows hold.

    :param dataset: the dataset they were read from, where that is not the project's answers.
    :raises InvalidInput: for a row that cannot be read as an answer, naming dataset, example and field.
    """
    for row in rows:
        answer = read_answer(row, project, dataset=dataset)
        unit = answer.task_id
        if key is UnitKey.INPUT:
            unit = f"{answer.view_id or ''}/{answer.value.label or ''}/{row.input_hash}"
        yield _of_answer(answer, unit, person(answer))


def from_version(rows: Iterable[Mapping[str, Any]], losing: Iterable[Mapping[str, Any]]) -> Iterator[Given]:
    """Yield all answers behind a dataset version: those that count and those that lost, by task id.

    The slice of an answer is the guideline release it was given under.

    :param rows: the lines of ``rows.jsonl``, sorted by task id.
    :param losing: the lines of ``losing.jsonl``, sorted by task id. They hold no text.
    """
    lost = iter(losing)
    waiting = next(lost, None)
    for row in rows:
        task = row["task_id"]
        while waiting is not None and waiting["task_id"] < task:
            yield _of_losing(waiting, None)
            waiting = next(lost, None)
        text = row["shown"].get("text")
        for answer in row["answers"]:
            at, group = _milliseconds(answer["at"]), _guideline(answer)
            yield Given(task, answer["person"], row["value"], row["round"], at, 1, answer["row"], group, text)
        while waiting is not None and waiting["task_id"] == task:
            yield _of_losing(waiting, text)
            waiting = next(lost, None)
    while waiting is not None:
        yield _of_losing(waiting, None)
        waiting = next(lost, None)


def gather(
    given: Iterable[Given], *, tasks: Iterable[str] | None = None, spans: bool = False, ordered: bool = False
) -> Gathered:
    """Read a stream of answers into arrays.

    :param tasks: the units that were to be answered; answers to others are orphans.
    :param spans: keep the spans, for span F1 and token level.
    :param ordered: the answers come sorted by unit, as from a version: no table of units is kept.
    :raises InvalidInput: when they are not sorted after all, or ``tasks`` are given too or named twice.
    """
    if ordered and tasks is not None:
        raise InvalidInput("a list of tasks is for answers that come in any order")
    gatherer = _Gatherer(tasks, _SpanGatherer() if spans else None, ordered)
    for one in given:
        gatherer.add(one)
    return gatherer.finish()


class _Names:
    """Names of units by number. Digests take 32 bytes each."""

    def __init__(self) -> None:
        self._digests = bytearray()
        self._other: dict[int, str] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, name: str) -> None:
        packed = _packed(name)
        if not isinstance(packed, bytes):
            self._other[self._count] = name
            packed = bytes(32)
        self._digests += packed
        self._count += 1

    def __getitem__(self, number: int) -> str:
        other = self._other.get(number)
        return other if other is not None else bytes(self._digests[32 * number : 32 * number + 32]).hex()

    def short(self, number: int) -> str:
        """Return as much of a name as people read."""
        return self[number][:SHORT] if number not in self._other else self[number]


class _Numbers(dict[Any, int]):
    """Numbers things in the order they come."""

    def __missing__(self, key: Any) -> int:
        self[key] = number = len(self)
        return number


class _Gatherer:
    def __init__(self, tasks: Iterable[str] | None, spans: _SpanGatherer | None, ordered: bool) -> None:
        self._ordered, self._last = ordered, ""
        self._names = _Names()
        self._units: dict[Any, int] = {}
        self._persons, self._categories, self._groups = _Numbers(), _Numbers(), _Numbers()
        self._known: dict[Any, int] = {}
        self._unit, self._person, self._category, self._round = (array("i") for _ in range(4))
        self._at, self._order, self._row, self._group = array("q"), array("q"), array("Q"), array("i")
        self._spans = spans
        self._listed: int | None = None
        if tasks is not None:
            for task in tasks:
                before = len(self._names)
                if self._number(task) < before:
                    raise InvalidInput(f"the task {task} is listed twice")
                self._group.append(-1)
            self._listed = len(self._names)

    def add(self, one: Given) -> None:
        unit = self._number(one.unit)
        if unit == len(self._group):
            self._group.append(-1)
        if self._group[unit] < 0:
            self._group[unit] = self._groups[one.group]
        elif self._group[unit] != self._groups[one.group]:
            self._group[unit] = self._groups[SEVERAL]
        self._unit.append(unit)
        self._person.append(self._persons[one.person])
        self._category.append(self._categories[category_of(one.value)])
        self._round.append(one.round)
        self._at.append(NO_TIME if one.at is None else one.at)
        self._order.append(one.order)
        self._row.append(int(one.row[:16] or "0", 16))
        if self._spans is not None:
            self._spans.add(unit, one)

    def _number(self, name: str) -> int:
        if self._ordered:
            if name < self._last:
                raise InvalidInput(f"answers are not sorted by unit: {name} comes after {self._last}")
            if name != self._last:
                self._names.append(name)
            self._last = name
            return len(self._names) - 1
        key = _packed(name)
        number = self._units.get(key)
        if number is None:
            number = self._units[key] = len(self._names)
            self._names.append(name)
        return number

    def finish(self) -> Gathered:
        return Gathered(
            persons=tuple(self._persons),
            categories=tuple(self._categories),
            groups=tuple(self._groups),
            names=self._names,
            listed=self._listed,
            unit=_numpy(self._unit),
            person=_numpy(self._person),
            category=_numpy(self._category),
            round=_numpy(self._round),
            at=_numpy(self._at),
            order=_numpy(self._order),
            row=_numpy(self._row),
            group=_numpy(self._group),
            spans=None if self._spans is None else self._spans.finish(len(self._names)),
        )


class _SpanGatherer:
    def __init__(self) -> None:
        self._labels = _Numbers()
        self._first = array("q", [0])
        self._start, self._end, self._label = array("i"), array("i"), array("i")
        self._low, self._high = array("i"), array("i")
        self._from, self._to, self._tokens = array("i"), array("i"), array("i")
        self._unit, self._bounds = -1, ([], [])  # type: tuple[int, tuple[list[int], list[int]]]

    def add(self, unit: int, one: Given) -> None:
        while len(self._tokens) <= unit:
            self._tokens.append(UNKNOWN_TOKENS)
        if unit != self._unit:
            self._unit, self._bounds = unit, ([], [])
        if one.text is not None and not self._bounds[0]:
            tokens = tokenize(one.text)
            self._bounds = [token["start"] for token in tokens], [token["end"] for token in tokens]
            self._tokens[unit] = len(tokens)
        if one.value["answer"] == "accept":
            for start, end, low, high, label in _extents(one.value):
                self._start.append(start)
                self._end.append(end)
                self._low.append(low)
                self._high.append(high)
                self._label.append(self._labels[label])
                starts, ends = self._bounds
                self._from.append(bisect_right(ends, start) if starts else -1)
                self._to.append(bisect_left(starts, end) if starts else -1)
        self._first.append(len(self._start))

    def finish(self, units: int) -> Spans:
        while len(self._tokens) < units:
            self._tokens.append(UNKNOWN_TOKENS)
        return Spans(
            labels=tuple(self._labels),
            first=_numpy(self._first),
            start=_numpy(self._start),
            end=_numpy(self._end),
            low=_numpy(self._low),
            high=_numpy(self._high),
            label=_numpy(self._label),
            from_token=_numpy(self._from),
            to_token=_numpy(self._to),
            tokens=_numpy(self._tokens),
        )


def _extents(value: Mapping[str, Any]) -> Iterator[tuple[int, int, int, int, str]]:
    """Yield what was marked, as :class:`Spans` keeps it."""
    for start, end, label in value.get("spans", ()):
        yield start, end, 0, 0, str(label)
    for start, end, label in value.get("segments", ()):
        yield *_around((start, end)), 0, 0, str(label)
    for label, _, points in value.get("regions", ()):
        yield *_around([x for x, _ in points]), *_around([y for _, y in points]), str(label)


def _around(places: Sequence[str]) -> tuple[int, int]:
    """Return the ends of what lies around some places, in thousandths, never empty."""
    numbers = [round(float(place) * 1000) for place in places]
    return min(numbers), max(max(numbers), min(numbers) + 1)


def _of_answer(answer: Answer, unit: str, person: str) -> Given:
    value = answer.value.canonical()
    at = None if answer.time is None else (answer.time - _EPOCH) // _MILLISECOND
    text = answer.shown.get("text")
    return Given(
        unit, person, value, answer.round, at, answer.link_id, answer.row_digest, value.get("label") or "", text
    )


def _of_losing(line: Mapping[str, Any], text: str | None) -> Given:
    task, person, value, turn, row = (line[name] for name in ("task_id", "person", "value", "round", "row"))
    at, order = _milliseconds(line["at"]), int(line["reason"] != "superseded")
    return Given(task, person, value, turn, at, order, row, _guideline(line), text)


def _guideline(line: Mapping[str, Any]) -> str:
    """Name the guideline release that an answer was given under."""
    if not line["guideline"]:
        return UNKNOWN
    number = line["guideline_number"]
    return line["guideline"][:SHORT] if number is None else f"{number} ({line['guideline'][:SHORT]})"


def _milliseconds(at: str | None) -> int | None:
    return None if at is None else (datetime.fromisoformat(at) - _EPOCH) // _MILLISECOND


def _packed(name: str) -> bytes | str:
    if len(name) == 64:
        try:
            packed = bytes.fromhex(name)
        except ValueError:
            return name
        if packed.hex() == name:
            return packed
    return name


def option_order(option: str | int) -> tuple[bool, str | int]:
    """Return what options are sorted by: numbers before strings."""
    return (isinstance(option, str), option)


def _sorting(labels: tuple[str | int, ...]) -> tuple[tuple[bool, str | int], ...]:
    return tuple(map(option_order, labels))


def _numpy(values: array[int]) -> Any:
    import numpy as np

    kinds: dict[str, Any] = {"i": np.int32, "q": np.int64, "Q": np.uint64}
    return np.frombuffer(values, dtype=kinds[values.typecode]) if values else np.zeros(0, kinds[values.typecode])
