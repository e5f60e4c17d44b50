"""Agreement as a whole and of each annotator.

That of a label, of some annotators or of a slice is the whole of ``Units.for_label``, ``of_raters`` or ``of_group``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from include.agreement.bootstrap import Interval, interval
from include.agreement.coefficients import Agreement, conclude, raters_of
from include.agreement.patterns import MISSING, Codes, Patterns, check_codes, gather, ratings_of
from include.agreement.statistics import Name, Statistic, Weights, make, sums_of
from include.agreement.weights import Matrix

__all__ = ["Part", "per_annotator", "whole"]


@dataclass(frozen=True, slots=True)
class Part:
    """The agreement of one part; ``interval`` is None where none was asked for."""

    agreement: Agreement
    interval: Interval | None


def whole(
    name: Name,
    codes: ArrayLike,
    values: Sequence[Any] | None = None,
    *,
    weights: Weights = None,
    resamples: int = 0,
    seed: int = 0,
) -> Part:
    """Return the agreement on all units.

    :param codes: units × annotators.
    :param weights: the weights, or alpha's metric; None for plain equality.
    :param resamples: units are resampled so often for an interval; 0: none. ``seed`` makes its digits.
    :raises InvalidInput: for codes, categories, a name or weights that are not allowed.
    """
    found, categories = check_codes(codes, values)
    statistic = make(name, categories, found.shape[1], weights)
    patterns = gather(found, len(categories), ordered=statistic.ordered, least=statistic.least)
    raters = raters_of(found, statistic)
    agreement = conclude(name, statistic, patterns, size=len(categories), raters=raters, weights=weights)
    return Part(agreement, _interval(statistic, patterns, resamples, seed))


def per_annotator(
    name: Name, codes: ArrayLike, values: Sequence[Any] | None = None, *, resamples: int = 0, seed: int = 0
) -> dict[int, Part]:
    """Return the agreement of each annotator with the others.

    Each of the annotator's ratings is compared with every other rating of the unit, as in two columns, the annotator's
    and the others'; the comparisons within a unit share a weight of one, so that each of the ratings counts once.

    :returns: by the number of the column; ``pairable`` counts the annotator's and the others' ratings.
    """
    found, categories = check_codes(codes, values)
    statistic = _Against(make(name, categories, 2, None))
    parts = {}
    for place in range(found.shape[1]):
        rated = found[found[:, place] != MISSING]
        others = np.delete(rated, place, axis=1)
        raters = int((others != MISSING).any(axis=0).sum())
        rows = np.hstack([rated[:, place : place + 1], np.sort(others, axis=1)[:, ::-1]])
        patterns = gather(rows, len(categories), ordered=True, least=2)
        raters = raters + 1 if raters else 0
        agreement = conclude(name, statistic, patterns, size=len(categories), raters=raters, weights=None)
        parts[place] = Part(agreement, _interval(statistic, patterns, resamples, seed))
    return parts


def _interval(statistic: Statistic, patterns: Patterns, resamples: int, seed: int) -> Interval | None:
    return interval(sums_of(statistic, patterns), seed=seed, resamples=resamples) if resamples else None


class _Against:
    """A coefficient of two, for one annotator (first column) against each of the others (moved together)."""

    ordered = True
    least = 2

    def __init__(self, pair: Statistic) -> None:
        self.pair = pair
        self.width = pair.width

    def parts(self, rows: Codes) -> Matrix:
        found = np.zeros((len(rows), self.width))
        others = ratings_of(rows) - 1
        for column in range(1, rows.shape[1]):
            there = rows[:, column] != MISSING
            if not there.any():
                break
            found[there] += self.pair.parts(rows[there][:, [0, column]]) / others[there, None]
        return found

    def disagreement(self, sums: Matrix) -> tuple[Matrix, Matrix]:
        return self.pair.disagreement(sums)
