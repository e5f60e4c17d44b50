"""Agreement as a whole and part by part: for each label, annotator, pair of annotators, slice of the units.

Every function takes the arguments of ``coefficients.agreement``, and ``resamples`` (0: no intervals) with a ``seed``.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from include.agreement.bootstrap import Interval, interval
from include.agreement.coefficients import Agreement, conclude, raters_of
from include.agreement.patterns import MISSING, Codes, Patterns, check_codes, gather, ratings_of
from include.agreement.statistics import Name, Statistic, Weights, make, sums_of
from include.agreement.weights import Matrix
from include.base.errors import InvalidInput

__all__ = ["Part", "per_annotator", "per_label", "per_pair", "per_slice", "whole"]


@dataclass(frozen=True, slots=True)
class Part:
    """The agreement of one part.

    :param interval: None where none was asked for.
    """

    agreement: Agreement
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class _Asked:
    name: Name
    weights: Weights
    resamples: int
    seed: int
    level: float

    def part(self, statistic: Statistic, patterns: Patterns, size: int, raters: int) -> Part:
        found = conclude(self.name, statistic, patterns, size=size, raters=raters, weights=self.weights)
        if not self.resamples:
            return Part(found, None)
        sums = sums_of(statistic, patterns)
        return Part(found, interval(sums, seed=self.seed, resamples=self.resamples, level=self.level))

    def part_of(self, statistic: Statistic, codes: Codes, size: int) -> Part:
        patterns = gather(codes, size, ordered=statistic.ordered, least=statistic.least)
        return self.part(statistic, patterns, size, raters_of(codes, statistic))


def whole(
    name: Name,
    codes: ArrayLike,
    values: Sequence[Any] | None = None,
    *,
    weights: Weights = None,
    resamples: int = 0,
    seed: int = 0,
    level: float = 0.95,
) -> Part:
    """Return the agreement on all units with its interval: what ``agreement`` and ``bootstrap`` give, in one pass."""
    asked = _Asked(name, weights, resamples, seed, level)
    found, categories = check_codes(codes, values)
    return asked.part_of(make(name, categories, found.shape[1], weights), found, len(categories))


def per_label(
    name: Name,
    codes: ArrayLike,
    values: Sequence[Any] | None = None,
    *,
    resamples: int = 0,
    seed: int = 0,
    level: float = 0.95,
) -> dict[Any, Part]:
    """Return for each category the agreement on it against all others together (Fleiss 1971; Krippendorff 2011).

    Two categories are left, so there are no weights. A label that nobody chose has no value.

    :returns: by category, in the order of ``values``.
    """
    asked = _Asked(name, None, resamples, seed, level)
    found, categories = check_codes(codes, values)
    statistic = make(name, range(2), found.shape[1], None)
    patterns = gather(found, len(categories), ordered=statistic.ordered, least=statistic.least)
    raters = raters_of(found, statistic)
    parts = {}
    for place, label in enumerate(categories):
        rows = np.where(patterns.rows == MISSING, MISSING, (patterns.rows == place).astype(np.int64))
        parts[label] = asked.part(statistic, Patterns(rows, patterns.times), 2, raters)
    return parts


def per_pair(
    name: Name,
    codes: ArrayLike,
    values: Sequence[Any] | None = None,
    *,
    weights: Weights = None,
    resamples: int = 0,
    seed: int = 0,
    level: float = 0.95,
) -> dict[tuple[int, int], Part]:
    """Return the agreement of each two annotators on the units that both rated.

    :returns: by the numbers of their columns, the lower first.
    """
    asked = _Asked(name, weights, resamples, seed, level)
    found, categories = check_codes(codes, values)
    statistic = make(name, categories, 2, weights)
    parts = {}
    for first, second in combinations(range(found.shape[1]), 2):
        pair = found[:, [first, second]]
        parts[first, second] = asked.part_of(statistic, pair[ratings_of(pair) == 2], len(categories))
    return parts


def per_slice(
    name: Name,
    codes: ArrayLike,
    groups: Sequence[Hashable],
    values: Sequence[Any] | None = None,
    *,
    weights: Weights = None,
    resamples: int = 0,
    seed: int = 0,
    level: float = 0.95,
) -> dict[Hashable, Part]:
    """Return the agreement on each group of units.

    :param groups: the group of each unit: source, batch, language, …
    :returns: by group, in the order of their first units. The categories stay all of ``values``.
    :raises InvalidInput: also when there is not one group for each unit.
    """
    asked = _Asked(name, weights, resamples, seed, level)
    found, categories = check_codes(codes, values)
    if len(groups) != len(found):
        raise InvalidInput(f"groups: found {len(groups)}, allowed is one for each of the {len(found)} units")
    statistic = make(name, categories, found.shape[1], weights)
    places: dict[Hashable, int] = {}
    of = np.array([places.setdefault(group, len(places)) for group in groups], dtype=np.int64)
    order = np.argsort(of, kind="stable")
    ends = np.cumsum(np.bincount(of, minlength=len(places)))
    parts = {}
    for group, place in places.items():
        units = order[ends[place - 1] if place else 0 : ends[place]]
        parts[group] = asked.part_of(statistic, found[units], len(categories))
    return parts


def per_annotator(
    name: Name,
    codes: ArrayLike,
    values: Sequence[Any] | None = None,
    *,
    weights: Weights = None,
    resamples: int = 0,
    seed: int = 0,
    level: float = 0.95,
) -> dict[int, Part]:
    """Return the agreement of each annotator with the others.

    Each of the annotator's ratings is compared with every other rating of the unit, as in two columns, the annotator's
    and the others'; the comparisons within a unit share a weight of one, so that each of the ratings counts once.

    :returns: by the number of the column; ``pairable`` counts the annotator's and the others' ratings.
    """
    asked = _Asked(name, weights, resamples, seed, level)
    found, categories = check_codes(codes, values)
    statistic = _Against(make(name, categories, 2, weights))
    parts = {}
    for place in range(found.shape[1]):
        rated = found[found[:, place] != MISSING]
        others = np.delete(rated, place, axis=1)
        raters = int((others != MISSING).any(axis=0).sum())
        rows = np.hstack([rated[:, place : place + 1], np.sort(others, axis=1)[:, ::-1]])
        patterns = gather(rows, len(categories), ordered=True, least=2)
        parts[place] = asked.part(statistic, patterns, len(categories), raters + 1 if raters else 0)
    return parts


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
