"""From answers to the arrays that coefficients are computed on: units × annotators, -1 where there is no rating.

Three answers look alike and are not: a ``reject``, an ``ignore``, and an ``accept`` of nothing. Each can be a class of
its own or no rating at all, and it moves the coefficients a lot. So the choice is a value of its own
(:class:`AnswerMapping`), stated wherever a number is shown. Only the latest round of a unit is looked at, and of one
annotator's repeated answers to a unit one counts, by a declared rule; what was passed over is listed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from include.agreement.given import UNKNOWN_TOKENS, Category, Gathered, Spans, option_order
from include.base.errors import InvalidInput, Refused

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "MISSING",
    "AnswerMapping",
    "Notes",
    "Repeated",
    "Repeats",
    "SpanUnit",
    "TokenPatterns",
    "Treat",
    "Units",
    "units_of",
]

MISSING = -1
"""No rating."""

EXCEPTIONS = 1000
"""How many repeated answers are listed; all are counted."""

NO_LABEL = "(outside)"
"""The class of a token that no span covers."""


class Treat(StrEnum):
    """What an answer that gives no label comes to."""

    OWN = "own class"
    MISSING = "missing"


class Repeats(StrEnum):
    """Which of one annotator's answers to a unit counts."""

    LATEST = "latest"
    """By time, then by order of saving. An answer without a time is earlier than one with a time."""
    FIRST = "first"
    REFUSE = "refuse"
    """None may be repeated: an error names the first."""


@dataclass(frozen=True)
class AnswerMapping:
    """What counts as a rating.

    :param reject: of an option or span task; to a binary question ``reject`` is the other answer, and by default a
        class anyway.
    :param ignore: skipped.
    :param nothing: ``accept`` with nothing picked or marked.
    """

    reject: Treat = Treat.OWN
    ignore: Treat = Treat.MISSING
    nothing: Treat = Treat.OWN

    @property
    def text(self) -> str:
        """Return the mapping as people read it."""
        return f"reject: {self.reject}; ignore: {self.ignore}; accept of nothing: {self.nothing}"

    def canonical(self) -> dict[str, str]:
        """Return the mapping as JSON."""
        return {"reject": str(self.reject), "ignore": str(self.ignore), "nothing": str(self.nothing)}

    def rates(self, category: Category) -> bool:
        """Tell whether a category is a class."""
        if category.answer == "reject":
            return self.reject is Treat.OWN
        if category.answer == "ignore":
            return self.ignore is Treat.OWN
        return category.labels != () or self.nothing is Treat.OWN


@dataclass(frozen=True)
class Repeated:
    """One annotator answered one unit more than once; ``alike`` tells whether they said the same each time."""

    unit: str
    person: str
    answers: int
    alike: bool


@dataclass(frozen=True)
class Notes:
    """What became of the answers: ``answers`` = ``ratings`` + ``unrated`` + ``repeated`` + ``earlier``.

    :param ratings: answers that are ratings.
    :param unrated: answers that the mapping takes for missing.
    :param repeated: answers that another one of the same annotator replaced.
    :param earlier: answers of an earlier round.
    :param exceptions: the first repeated answers, by unit and person, at most 1,000.
    """

    answers: int
    ratings: int
    unrated: int
    repeated: int
    earlier: int
    exceptions: tuple[Repeated, ...] = ()


@dataclass(frozen=True)
class SpanUnit:
    """What everybody marked who accepted one unit; an empty tuple is "nothing to mark".

    :param spans: (annotator, ((start, end, label), …)) by annotator; the end exclusive.
    :param across: the same for the second axis of an image's regions, (low, high) each; empty tuples elsewhere.
    """

    unit: int
    spans: tuple[tuple[int, tuple[tuple[int, int, str], ...]], ...]
    across: tuple[tuple[tuple[int, int], ...], ...] = ()


@dataclass(frozen=True)
class TokenPatterns:
    """Tokens as units, those that were rated alike together.

    :param codes: patterns × greatest number of ratings of a text. The columns are no annotators.
    :param times: how many tokens have each pattern.
    :param categories: names of the codes; the labels of a token under several spans are joined.
    """

    codes: NDArray[np.int32]
    times: NDArray[np.int64]
    categories: tuple[str, ...]


@dataclass(frozen=True)
class Units:
    """Ratings: one for each unit and annotator, sorted by both.

    :param raters: the annotators, sorted.
    :param categories: what the codes stand for, in an order that depends on nothing but the categories.
    :param names: what the codes are called.
    :param count: how many units there are, rated or not.
    :param unit, rater, code: of each rating.
    :param answer: where the rating is in what was gathered.
    """

    mapping: AnswerMapping
    raters: tuple[str, ...]
    categories: tuple[Category, ...]
    names: tuple[str, ...]
    count: int
    unit: NDArray[np.int32]
    rater: NDArray[np.int32]
    code: NDArray[np.int32]
    answer: NDArray[np.int64]
    group: NDArray[np.int32]
    groups: tuple[str, ...]
    notes: Notes
    spans: Spans | None = None

    @property
    def labels(self) -> tuple[str | int, ...]:
        """Return every label that somebody gave."""
        return tuple(sorted({label for one in self.categories for label in one.labels or ()}, key=option_order))

    def matrix(self) -> NDArray[np.int32]:
        """Return the codes, units × annotators, -1 where there is no rating.

        It is dense: for many annotators with few answers each, :meth:`slots` is smaller.
        """
        found = np.full((self.count, len(self.raters)), MISSING, dtype=np.int32)
        found[self.unit, self.rater] = self.code
        return found

    def slots(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return the codes and who gave them, each units × greatest number of ratings of a unit.

        The columns are no annotators: this is for coefficients that do not ask who said what (percent agreement,
        Krippendorff, Fleiss, Gwet, Brennan-Prediger).
        """
        place: NDArray[np.int64] = np.arange(len(self.unit)) - np.searchsorted(self.unit, self.unit)
        shape = (self.count, int(np.max(place)) + 1 if len(place) else 0)
        codes, who = np.full(shape, MISSING, dtype=np.int32), np.full(shape, MISSING, dtype=np.int32)
        codes[self.unit, place] = self.code
        who[self.unit, place] = self.rater
        return codes, who

    def for_label(self, label: str | int) -> Units:
        """Return the same ratings with one label in view: given, not given, or a class that gives none (reject)."""
        answers = sorted({one.answer for one in self.categories} - {"accept"}, reverse=True)
        classes = (Category("accept", ()), Category("accept", (label,)), *map(Category, answers))
        new = np.array([classes.index(_binary(one, label)) for one in self.categories], dtype=np.int32)
        return replace(
            self,
            names=("not given", "given", *(f"({one})" for one in answers)),
            categories=classes,
            code=new[self.code] if len(new) else self.code,
        )

    def of_group(self, group: str) -> Units:
        """Return the ratings of the units of one slice.

        :raises InvalidInput: for a slice that does not exist.
        """
        if group not in self.groups:
            raise InvalidInput(f"slice: found {group!r}; allowed: {', '.join(map(repr, self.groups))}")
        return self._kept(self.group[self.unit] == self.groups.index(group))

    def of_raters(self, *raters: str) -> Units:
        """Return the ratings of some annotators.

        :raises InvalidInput: for one who rated nothing.
        """
        strange = sorted(set(raters) - set(self.raters))
        if strange:
            raise InvalidInput(f"annotator: found {strange[0]!r}, who rated nothing")
        return self._kept(np.isin(self.rater, [self.raters.index(one) for one in raters]))

    def _kept(self, kept: NDArray[np.bool_]) -> Units:
        return replace(
            self, unit=self.unit[kept], rater=self.rater[kept], code=self.code[kept], answer=self.answer[kept]
        )

    def span_units(self) -> Iterator[SpanUnit]:
        """Yield the spans of every unit that at least two annotators accepted, for span F1.

        A ``reject`` or an ``ignore`` marks nothing and is no rating here, whatever the mapping.

        :raises InvalidInput: when the spans were not gathered.
        """
        spans = self.gathered_spans()
        accepted = self.accepted()
        for unit, places in _runs(self.unit[accepted]):
            if len(places) < 2:
                continue
            chosen = accepted[places]
            yield SpanUnit(
                unit,
                tuple((int(self.rater[one]), tuple(_marked(spans, int(self.answer[one])))) for one in chosen),
                tuple(tuple(_across(spans, int(self.answer[one]))) for one in chosen),
            )

    def tokens(self) -> TokenPatterns:
        """Return the tokens of all texts that at least two annotators accepted, each rated by the labels over it.

        Tokens are those of :func:`include.annotation.tokens.tokenize`; one that a span touches belongs to it.

        :raises InvalidInput: when the spans were not gathered.
        :raises Refused: when the text of such a unit is not at hand: leaving it out would leave out just those that
            people disagree on.
        """
        spans = self.gathered_spans()
        accepted = self.accepted()
        found: Counter[tuple[tuple[str, ...], ...]] = Counter()
        for unit, places in _runs(self.unit[accepted]):
            if len(places) < 2:
                continue
            if spans.tokens[unit] == UNKNOWN_TOKENS:
                raise Refused("the text of some units is not at hand, so their tokens cannot be counted")
            _count_tokens(spans, [int(self.answer[one]) for one in accepted[places]], int(spans.tokens[unit]), found)
        classes = sorted({one for pattern in found for one in pattern})
        number = {one: place for place, one in enumerate(classes)}
        patterns = sorted(found)
        codes = np.full((len(patterns), max(map(len, patterns), default=0)), MISSING, dtype=np.int32)
        for place, pattern in enumerate(patterns):
            codes[place, : len(pattern)] = [number[one] for one in pattern]
        return TokenPatterns(
            codes,
            np.array([found[one] for one in patterns], dtype=np.int64),
            tuple(" + ".join(one) or NO_LABEL for one in classes),
        )

    def gathered_spans(self) -> Spans:
        """Return the spans.

        :raises InvalidInput: when they were not gathered.
        """
        if self.spans is None:
            raise InvalidInput("spans were not gathered: read the answers with spans=True")
        return self.spans

    def accepted(self) -> NDArray[np.int64]:
        """Return which ratings are an ``accept``, the only ones that can mark anything."""
        is_accept = np.array([one.answer == "accept" for one in self.categories], dtype=bool)
        return np.flatnonzero(is_accept[self.code]) if len(is_accept) else np.zeros(0, dtype=np.int64)


def units_of(
    gathered: Gathered,
    mapping: AnswerMapping | None = None,
    *,
    repeats: Repeats = Repeats.LATEST,
    labels: Iterable[str | int] = (),
) -> Units:
    """Return the ratings of what was gathered. Answers to units that were not listed (orphans) are ratings too.

    :param labels: labels that could be given: each is a class, though nobody gave it. Coefficients that count the
        classes (Gwet, Brennan-Prediger) depend on it.
    :raises Refused: for a repeated answer where the rule is to refuse them.
    """
    mapping = mapping or AnswerMapping()
    current = gathered.latest_round()
    chosen, exceptions, repeated = _chosen(gathered, current, repeats)
    raters = sorted(gathered.persons)
    rater_of = {one: place for place, one in enumerate(raters)}
    rater = np.array([rater_of[one] for one in gathered.persons], dtype=np.int32)
    categories, code = _codes(gathered.categories, mapping, labels)
    codes = code[gathered.category[chosen]]
    rated = chosen[codes != MISSING]
    rated = rated[np.lexsort((rater[gathered.person[rated]], gathered.unit[rated]))]
    return Units(
        mapping=mapping,
        raters=tuple(raters),
        categories=categories,
        names=tuple(one.name if one.answer == "accept" else f"({one.answer})" for one in categories),
        count=gathered.units,
        unit=gathered.unit[rated],
        rater=rater[gathered.person[rated]],
        code=code[gathered.category[rated]],
        answer=rated,
        group=gathered.group,
        groups=gathered.groups,
        notes=Notes(
            answers=len(gathered),
            ratings=len(rated),
            unrated=len(chosen) - len(rated),
            repeated=repeated,
            earlier=len(gathered) - len(current),
            exceptions=exceptions,
        ),
        spans=gathered.spans,
    )


def _chosen(
    gathered: Gathered, current: NDArray[np.int64], repeats: Repeats
) -> tuple[NDArray[np.int64], tuple[Repeated, ...], int]:
    """Return the one answer of each unit and annotator, the exceptions, and how many answers were passed over."""
    of = gathered
    keys = (of.row[current], of.order[current], of.at[current], of.person[current], of.unit[current])
    ranked = current[np.lexsort(keys)]
    unit, person = of.unit[ranked], of.person[ranked]
    starts = np.flatnonzero(np.r_[True, (unit[1:] != unit[:-1]) | (person[1:] != person[:-1])][: len(ranked)])
    ends = np.r_[starts[1:], len(ranked)] if len(starts) else starts
    several = np.flatnonzero(ends - starts > 1)
    listed = sorted(
        (
            Repeated(
                of.names[int(unit[starts[one]])],
                of.persons[int(person[starts[one]])],
                int(ends[one] - starts[one]),
                len(set(of.category[ranked[starts[one] : ends[one]]].tolist())) == 1,
            )
            for one in several[:EXCEPTIONS]
        ),
        key=lambda one: (one.unit, one.person),
    )
    if repeats is Repeats.REFUSE and listed:
        first = listed[0]
        raise Refused(
            f"{first.person} answered unit {first.unit} {first.answers} times, one of {len(several)} such: declare "
            "whether the latest or the first counts"
        )
    taken = ranked[ends - 1] if repeats is Repeats.LATEST else ranked[starts]
    return np.sort(taken), tuple(listed), len(current) - len(taken)


def _codes(
    categories: tuple[Category, ...], mapping: AnswerMapping, labels: Iterable[str | int]
) -> tuple[tuple[Category, ...], NDArray[np.int32]]:
    """Return the classes in order, and the code of each category (-1: no rating)."""
    known = {one for one in categories if mapping.rates(one)} | {Category("accept", (label,)) for label in labels}
    classes = tuple(sorted(known, key=lambda one: one.order))
    number = {one: place for place, one in enumerate(classes)}
    return classes, np.array([number.get(one, MISSING) for one in categories], dtype=np.int32)


def _binary(category: Category, label: str | int) -> Category:
    if category.answer != "accept":
        return category
    return Category("accept", (label,) if label in (category.labels or ()) else ())


def _runs(values: NDArray[Any]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield each value of a sorted array with the places that hold it."""
    starts = np.flatnonzero(np.r_[True, values[1:] != values[:-1]][: len(values)])
    for start, end in zip(starts, np.r_[starts[1:], len(values)] if len(starts) else starts, strict=True):
        yield int(values[start]), np.arange(start, end)


def _marked(spans: Spans, answer: int) -> Iterator[tuple[int, int, str]]:
    for place in range(int(spans.first[answer]), int(spans.first[answer + 1])):
        yield int(spans.start[place]), int(spans.end[place]), spans.labels[int(spans.label[place])]


def _across(spans: Spans, answer: int) -> Iterator[tuple[int, int]]:
    for place in range(int(spans.first[answer]), int(spans.first[answer + 1])):
        if spans.high[place] > spans.low[place]:
            yield int(spans.low[place]), int(spans.high[place])


def _count_tokens(spans: Spans, answers: list[int], tokens: int, found: Counter[tuple[tuple[str, ...], ...]]) -> None:
    """Count the tokens of one text by the labels that each annotator put over them, a stretch at a time."""
    covers = []
    bounds = {0, tokens}
    for answer in answers:
        places = range(int(spans.first[answer]), int(spans.first[answer + 1]))
        cover = [
            (int(spans.from_token[one]), int(spans.to_token[one]), spans.labels[int(spans.label[one])])
            for one in places
        ]
        covers.append(cover)
        bounds.update(bound for start, end, _ in cover for bound in (start, end))
    edges = sorted(bounds)
    for start, end in pairwise(edges):
        pattern = (tuple(sorted({label for first, last, label in cover if first <= start < last})) for cover in covers)
        found[tuple(sorted(pattern))] += end - start
