"""Everything that is told about the annotation of one version, measured at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import combinations
from typing import Any

import numpy as np

from include.agreement.accounting import Expected, Limits, account
from include.agreement.bootstrap import Interval
from include.agreement.breakdown import per_annotator, whole
from include.agreement.coefficients import Agreement, conclude
from include.agreement.exact import ExactMarks
from include.agreement.given import NO_TIME, Gathered
from include.agreement.patterns import Patterns
from include.agreement.spans import F1, Mark, Mode, rectangle, span, span_f1
from include.agreement.statistics import Name, make
from include.agreement.summary import Part, Quality, Score, spelled
from include.agreement.units import MISSING, AnswerMapping, Repeats, SpanUnit, Units, units_of
from include.base.errors import Refused
from include.projects.model import Interface

__all__ = ["COEFFICIENTS", "CONFIDENCE", "LISTED", "RESAMPLES", "Scheme", "measure", "seed_of"]

COEFFICIENTS: tuple[Name, ...] = ("krippendorff_alpha", "gwet_ac", "percent_agreement")
"""What is measured over everything, of each label and of each annotator."""

CONFIDENCE = 95
RESAMPLES = 1000

LISTED = 100
"""Labels and annotators of which scores are kept, those with the most ratings; the others are counted."""

CELLS = 20_000_000
"""Up to so many units × annotators one matrix is made; beyond, one annotator is looked at after the other."""

OVERLAPS: tuple[Mode, ...] = ("partial", "type")
"""How marks are matched beside ``exact``, over everything; for regions of an image it is ``iou``."""

SAME_REGION = 0.5
"""The least intersection over union of the rectangles around two regions that are the same one (PASCAL VOC 2007)."""

APART = 2**31
"""How far marks of different pairs of annotators are laid apart, so that no mark of one meets one of another."""

_CLASSES = {
    Interface.TEXTCAT: "The classes are the two answers.",
    Interface.CHOICE: "The classes are the options.",
}


@dataclass(frozen=True)
class Scheme:
    """What could be answered.

    :param labels: every label of the scheme, whether somebody gave it or not.
    :param multiple: for ``choice``: more than one option may be picked.
    """

    interface: Interface
    labels: tuple[str, ...]
    multiple: bool = False

    @property
    def spans(self) -> bool:
        """Tell whether answers mark parts of what is shown, so that these are to be gathered."""
        return self.interface not in (Interface.TEXTCAT, Interface.CHOICE)

    @property
    def options(self) -> tuple[str, ...]:
        """Return the labels of which exactly one is picked; none where sets are, or nothing is."""
        return self.labels if self.interface is Interface.CHOICE and not self.multiple else ()

    @property
    def classes(self) -> str:
        """Say what the classes are."""
        if self.multiple:
            return "The classes are the sets of options picked."
        return _CLASSES.get(self.interface, "The classes are the sets of labels marked.")


def seed_of(digest: str) -> int:
    """Return the seed of a version's intervals: the first 32 bits of its digest."""
    return int(digest[:8], 16)


def measure(
    gathered: Gathered,
    scheme: Scheme,
    digest: str,
    expected: Expected,
    *,
    mapping: AnswerMapping | None = None,
    repeats: Repeats = Repeats.LATEST,
    limits: Limits | None = None,
) -> Quality:
    """Return the agreement and the account of a version.

    :param gathered: see ``given.gather``; with spans where the scheme has them.
    :param digest: the version's; the intervals' seed comes from it.
    :param expected: what was to be answered.
    :raises InvalidInput: when the answers and what was expected do not go together.
    """
    mapping = mapping or AnswerMapping()
    units = units_of(gathered, mapping, repeats=repeats, labels=scheme.options)
    seed = seed_of(digest)
    exact = ExactMarks(units) if units.spans is not None else None
    labels, more_labels = _labels(units, scheme, exact, seed)
    persons, more_persons = _persons(units, exact, seed)
    notes = units.notes
    return Quality(
        version=digest,
        classes=scheme.classes,
        mapping=mapping.canonical(),
        repeats=str(repeats),
        seed=seed,
        resamples=RESAMPLES,
        confidence=CONFIDENCE,
        units=units.count,
        ratings=notes.ratings,
        unrated=notes.unrated,
        repeated=notes.repeated,
        earlier=notes.earlier,
        scores=(
            *_scores(units.slots()[0], units.names, seed),
            *(_span_scores(units, exact, seed) if exact is not None else ()),
        ),
        labels=labels,
        more_labels=more_labels,
        persons=persons,
        more_persons=more_persons,
        guidelines=_slices(units, seed),
        answers_by_day=_by_day(gathered),
        accounting=account(gathered, expected, limits),
    )


def _scores(codes: Any, names: Sequence[str], seed: int) -> Iterator[Score]:
    for name in COEFFICIENTS:
        part = whole(name, codes, names, seed=seed, resamples=RESAMPLES)
        yield _score(name, part.agreement, part.interval)


def _span_scores(units: Units, exact: ExactMarks, seed: int) -> Iterator[Score]:
    """Yield the F1 of marks over everything, and the agreement of tokens where the texts are at hand."""
    yield from _exact(exact, seed)
    for mode in OVERLAPS if not units.gathered_spans().high.any() else ("iou",):
        yield _overlap_f1(units, mode, seed)
    if units.gathered_spans().in_text:
        yield _token_alpha(units)


def _exact(
    exact: ExactMarks | None, seed: int, *, label: str | None = None, rater: int | None = None
) -> Iterator[Score]:
    if exact is not None:
        found = exact.f1(label=label, rater=rater, resamples=RESAMPLES, seed=seed)
        yield _f1("span_f1_exact", found)


def _overlap_f1(units: Units, mode: Mode, seed: int) -> Score:
    """Return ``2 × matched / marks`` over all pairs of annotators together.

    The pairs of a unit are laid side by side as one pair of annotators whose marks cannot meet: so a unit is drawn with
    all its pairs when units are resampled.
    """
    sides = map(_sides, units.span_units())
    found = span_f1(sides, mode, threshold=SAME_REGION, resamples=RESAMPLES, seed=seed)
    if not found.units:
        found = replace(found, reason="no two annotators accepted a unit")
    return _f1(f"span_f1_{mode}", found)


def _f1(name: str, found: F1) -> Score:
    if found.interval is None:
        return Score(name, None, units=found.units, reason=found.reason)
    low, high = spelled(found.interval.low), spelled(found.interval.high)
    return Score(name, spelled(found.value), low, high, found.units, found.interval.reason or "")


def _sides(unit: SpanUnit) -> tuple[list[Mark], list[Mark]]:
    """Return the marks of both sides of all pairs of a unit."""
    pairs = list(combinations(range(len(unit.spans)), 2))
    first, second = (
        [mark for place, pair in enumerate(pairs) for mark in _marks(unit, pair[side], place * APART)]
        for side in (0, 1)
    )
    return first, second


def _marks(unit: SpanUnit, place: int, moved: int) -> Iterator[Mark]:
    spans, across = unit.spans[place][1], unit.across[place]
    if not across:
        for start, end, name in spans:
            yield span(start + moved, end + moved, name)
        return
    for (start, end, name), (low, high) in zip(spans, across, strict=True):
        yield rectangle(name, [(start + moved, low), (end + moved, high)])


def _token_alpha(units: Units) -> Score:
    """Return Krippendorff's alpha with tokens as units. Tokens of a text are no independent draws: no interval."""
    name = "token_alpha"
    try:
        tokens = units.tokens()
    except Refused as error:
        return Score(name, None, reason=str(error))
    statistic = make("krippendorff_alpha", tokens.categories, tokens.codes.shape[1], None)
    patterns = Patterns(tokens.codes.astype(np.int64), tokens.times)
    raters = tokens.codes.shape[1]
    found = conclude(
        "krippendorff_alpha", statistic, patterns, size=len(tokens.categories), raters=raters, weights=None
    )
    return replace(_score(name, found, None), reason=found.reason or "the tokens of a text are not drawn independently")


def _score(name: str, found: Agreement, interval: Interval | None) -> Score:
    low = high = None
    reason = found.reason or ""
    if found.value is not None and interval is not None:
        low, high, reason = spelled(interval.low), spelled(interval.high), interval.reason or ""
    return Score(name, spelled(found.value), low, high, found.units, reason)


def _labels(units: Units, scheme: Scheme, exact: ExactMarks | None, seed: int) -> tuple[tuple[Part, ...], int]:
    """Return the agreement on each label, given or not, and how many labels are not listed."""
    if scheme.interface is Interface.TEXTCAT:
        return (), 0
    names = sorted({*scheme.labels, *units.labels}, key=str)
    parts = []
    for label in names:
        one = units.for_label(label)
        parts.append((label, int((one.code == 1).sum()), one))
    parts.sort(key=lambda part: (-part[1], str(part[0])))
    return (
        tuple(
            Part(str(label), given, (*_scores(one.slots()[0], one.names, seed), *_exact(exact, seed, label=str(label))))
            for label, given, one in parts[:LISTED]
        ),
        max(0, len(parts) - LISTED),
    )


def _slices(units: Units, seed: int) -> tuple[Part, ...]:
    """Return the agreement on the units of each slice, where there are several; those with the most ratings."""
    named = [one for one in units.groups if (units.group == units.groups.index(one)).any()]
    if len(named) < 2:
        return ()
    parts = []
    for group in named:
        one = units.of_group(group)
        codes = one.slots()[0]
        parts.append(Part(group, len(one.code), tuple(_scores(codes, one.names, seed))))
    return tuple(sorted(parts, key=lambda part: (-part.ratings, part.name))[:LISTED])


def _persons(units: Units, exact: ExactMarks | None, seed: int) -> tuple[tuple[Part, ...], int]:
    """Return how far each annotator agrees with the others, and how many annotators are not listed."""
    ratings = np.bincount(units.rater, minlength=len(units.raters))
    ordered = sorted(range(len(units.raters)), key=lambda rater: (-int(ratings[rater]), units.raters[rater]))
    parts = [
        Part(units.raters[rater], int(ratings[rater]), (*scores, *_exact(exact, seed, rater=rater)))
        for rater, scores in _against_others(units, ordered[:LISTED], seed)
    ]
    return tuple(parts), max(0, len(ordered) - LISTED)


def _against_others(units: Units, raters: Sequence[int], seed: int) -> Iterator[tuple[int, list[Score]]]:
    if units.count * len(units.raters) <= CELLS:
        codes = units.matrix()
        found = {name: per_annotator(name, codes, units.names, resamples=RESAMPLES, seed=seed) for name in COEFFICIENTS}
        for rater in raters:
            parts = [(name, found[name][rater]) for name in COEFFICIENTS]
            yield rater, [_score(name, part.agreement, part.interval) for name, part in parts]
        return
    codes, who = units.slots()
    for rater in raters:
        rated = np.flatnonzero((who == rater).any(axis=1))
        mine = who[rated] == rater
        own = codes[rated][mine][:, None]
        both = np.hstack([own, np.where(mine, MISSING, codes[rated])])
        scores = []
        for name in COEFFICIENTS:
            part = per_annotator(name, both, units.names, resamples=RESAMPLES, seed=seed)[0]
            scores.append(_score(name, part.agreement, part.interval))
        yield rater, scores


def _by_day(gathered: Gathered) -> dict[str, int]:
    """Count the answers that have a time by day."""
    days = gathered.at[gathered.at != NO_TIME] // (24 * 3600 * 1000)
    start = date(1970, 1, 1)
    numbers, counts = np.unique(days, return_counts=True)
    return {
        (start + timedelta(days=int(day))).isoformat(): int(count) for day, count in zip(numbers, counts, strict=True)
    }
