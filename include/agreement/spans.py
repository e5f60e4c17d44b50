"""How far annotators mark the same things: pairwise F1 of spans of text, segments of time, rectangles of an image.

There is no chance agreement for marks, since what could have been marked is not countable; F1 of one annotator against
the other is the measure of the field (Hripcsak & Rothschild 2005, *JAMIA* 12(3): where the number of things that nobody
marked is large, kappa approaches it). It is the same whichever of the two is held to be right.

A mark has a label and an extent, a pair of low and high end for each axis; the high end is not part of it. Each mark is
matched with at most one of the other annotator's, so that the sum of the scores is the greatest possible.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from include.agreement.bootstrap import Interval, interval
from include.agreement.patterns import gather
from include.agreement.statistics import Sums
from include.agreement.weights import Matrix
from include.base.errors import InvalidInput

__all__ = ["F1", "Mark", "Marks", "Mode", "f1_of", "rectangle", "span", "span_f1"]

Extent = tuple[tuple[float, float], ...]

Mode = Literal["exact", "partial", "type", "iou"]
"""What counts as the same mark.

- ``exact``: the same extent and the same label (nervaluate's *strict*).
- ``partial``: the label does not matter; 1 for the same extent, 0.5 for an overlap (MUC-5; nervaluate's *partial*).
- ``type``: the same label and an overlap (nervaluate's *ent_type*).
- ``iou``: the same label and an intersection over union of at least the threshold.
"""


class Mark(NamedTuple):
    """Something marked; built by :func:`span` or :func:`rectangle`."""

    label: str
    extent: Extent


Marks = Sequence[Mark]


@dataclass(frozen=True, slots=True)
class F1:
    """The agreement of two annotators, or of all pairs of them together.

    :param value: ``2 × matched / marks``; None when neither marked anything.
    :param matched: the sum of the scores of the matches; ``marks`` how many marks the two made together.
    :param units: units that both answered, those that both left empty included.
    :param interval: None where none was asked for, and where there is no value.
    :param reason: why there is no value.
    """

    value: float | None
    matched: float
    marks: int
    units: int
    interval: Interval | None = None
    reason: str = ""


def span(start: float, end: float, label: str) -> Mark:
    """Return a span of text (code points) or a segment of time (seconds).

    :raises InvalidInput: when it does not end after it starts.
    """
    return Mark(label, (_ends(start, end),))


def rectangle(label: str, corners: Sequence[Sequence[float]]) -> Mark:
    """Return a rectangle of an image.

    :param corners: any two opposite corners, [x, y] each.
    :raises InvalidInput: when it has no area.
    """
    (x0, y0), (x1, y1) = corners
    return Mark(label, (_ends(min(x0, x1), max(x0, x1)), _ends(min(y0, y1), max(y0, y1))))


def _ends(low: float, high: float) -> tuple[float, float]:
    if not low < high:
        raise InvalidInput(f"mark: found {low} to {high}, allowed is an end after the start")
    return low, high


def span_f1(
    units: Iterable[tuple[Marks, Marks]], mode: Mode, *, threshold: float = 0.5, resamples: int = 0, seed: int = 0
) -> F1:
    """Return the F1 of two annotators over all units that both answered.

    :param units: for each unit the marks of both. May be a stream.
    :param threshold: for ``iou``: the least intersection over union of a match.
    :param resamples: units are resampled so often for an interval; 0: none.
    :raises InvalidInput: for another mode, or a threshold outside 0 … 1.
    """
    if mode not in Mode.__args__:  # type: ignore[attr-defined]
        raise InvalidInput(f"mode: found {mode!r}, allowed are exact, partial, type, iou")
    if not 0 < threshold <= 1:
        raise InvalidInput(f"threshold: found {threshold}, allowed is more than 0, at most 1")
    # Twice the score: halves so stay whole numbers.
    rows = [(_score(first, second, mode, threshold), len(first) + len(second)) for first, second in units]
    counts = np.array(rows, dtype=np.int64).reshape(-1, 2)
    nothing = "neither marked anything in a unit that both answered"
    return f1_of(counts, resamples=resamples, seed=seed, nothing=nothing)


def f1_of(counts: NDArray[np.int64], *, resamples: int, seed: int, nothing: str) -> F1:
    """Return the F1 of units × (twice the score, marks).

    :param nothing: the reason where nobody marked anything.
    """
    matched, marks = (int(one) for one in counts.sum(axis=0))
    if not marks:
        return F1(None, 0, 0, len(counts), reason=nothing)
    if not resamples:
        return F1(matched / marks, matched / 2, marks, len(counts))
    patterns = gather(counts, int(np.max(counts)) + 1, ordered=True, least=0)
    parts = patterns.rows.astype(np.float64)

    def value(totals: Matrix) -> Matrix:
        return np.where(totals[:, 1] > 0, totals[:, 0] / np.maximum(totals[:, 1], 1), np.nan)

    sums = Sums(patterns.times, 2, lambda start, stop: parts[start:stop], value)
    spread = interval(sums, seed=seed, resamples=resamples)
    return F1(matched / marks, matched / 2, marks, len(counts), spread)


# ---- matching in one unit ------------------------------------------------------------------------------------------


def _score(first: Marks, second: Marks, mode: Mode, threshold: float) -> int:
    """Return twice the greatest sum of scores of a one-to-one matching."""
    if not first or not second:
        return 0
    if first == second:
        return 2 * len(first)
    if mode == "exact":
        return 2 * (Counter(first) & Counter(second)).total()
    if mode == "partial":
        same = Counter(mark.extent for mark in first) & Counter(mark.extent for mark in second)
        # A match of equals is never worse: undoing it frees two marks for an overlap each, which score as much.
        return 2 * same.total() + _most(_without(first, same), _without(second, same), 0.0, labels=False)
    return 2 * _most(list(first), list(second), threshold if mode == "iou" else 0.0, labels=True)


def _without(marks: Marks, taken: Counter[Extent]) -> list[Mark]:
    left, rest = taken.copy(), []
    for mark in marks:
        if left[mark.extent]:
            left[mark.extent] -= 1
        else:
            rest.append(mark)
    return rest


def _most(first: list[Mark], second: list[Mark], least: float, *, labels: bool) -> int:
    """Return the size of the largest matching by augmenting paths (Kuhn 1955; Berge 1957)."""
    fits = [_candidates(mark, second, least, labels=labels) for mark in first]
    holder: dict[int, int] = {}

    def placed(start: int) -> bool:
        came: dict[int, int] = {}
        waiting = [start]
        while waiting:
            mark = waiting.pop()
            for place in fits[mark]:
                if place in came:
                    continue
                came[place] = mark
                if place in holder:
                    waiting.append(holder[place])
                    continue
                _shift(place, came, holder, start)
                return True
        return False

    return sum(placed(mark) for mark in range(len(first)))


def _candidates(mark: Mark, others: list[Mark], least: float, *, labels: bool) -> list[int]:
    """Return the places of the marks that fit; most are told apart by the first axis alone."""
    label, extent = mark
    low, high = extent[0]
    return [
        place
        for place, (other_label, other) in enumerate(others)
        if other[0][0] < high
        and low < other[0][1]
        and (not labels or label == other_label)
        and _fits(extent, other, least)
    ]


def _shift(place: int, came: dict[int, int], holder: dict[int, int], start: int) -> None:
    """Give each mark on the path the place through which it was reached, back to the start."""
    held = {mark: at for at, mark in holder.items()}
    while True:
        mark = came[place]
        holder[place] = mark
        if mark == start:
            return
        place = held[mark]


def _fits(first: Extent, second: Extent, least: float) -> bool:
    if len(first) != len(second):
        return False
    inside = own = others = 1.0
    for (low, high), (other_low, other_high) in zip(first, second, strict=True):
        shared = min(high, other_high) - max(low, other_low)
        if shared <= 0:
            return False
        inside, own, others = inside * shared, own * (high - low), others * (other_high - other_low)
    return inside >= least * (own + others - inside)
