"""The coefficients as sums over units.

Each coefficient is ``1 - observed disagreement / expected disagreement``, and both are functions of totals to which
each unit adds its part. The point estimate, every resample, every slice and every unit left out are then the same few
functions of differently weighted sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from include.agreement.patterns import MISSING, Codes, Patterns, ratings_of
from include.agreement.weights import METRICS, Matrix, check_ranked, distances
from include.base.errors import InvalidInput

__all__ = [
    "COEFFICIENTS",
    "PAIR_ONLY",
    "Name",
    "Statistic",
    "Sums",
    "Weights",
    "make",
    "pairable",
    "sums_of",
]

Name = Literal[
    "percent_agreement",
    "cohen_kappa",
    "scott_pi",
    "fleiss_kappa",
    "conger_kappa",
    "krippendorff_alpha",
    "gwet_ac",
    "brennan_prediger",
]
"""The coefficients by name.

- ``percent_agreement``: the mean over units with two ratings of the share of their pairs that agree (Gwet 2014, p_a).
  Not corrected for chance.
- ``cohen_kappa`` (1960; with ``linear`` or ``quadratic`` weights: 1968) of two annotators. Chance: each annotator's own
  shares. Only units that both rated enter.
- ``scott_pi`` (1955) of two annotators: chance by the shares of both together. Only units that both rated enter.
- ``fleiss_kappa`` (1971): chance by the shares of all ratings together. With differing numbers of ratings as in Gwet
  2014: each unit has the same say in the shares, units of one rating included, and those with two or more make the
  observed agreement.
- ``conger_kappa`` (1980): chance is the mean over pairs of annotators of Cohen's. With two annotators and nothing
  missing it is Cohen's kappa. Ratings in units of one rating count in their annotator's shares (Gwet 2014); an
  annotator without ratings is left out.
- ``krippendorff_alpha`` (2011) for any number of annotators and missing ratings. Its metric ``ordinal`` goes by how
  often the categories occur; Gwet's ordinal weights give another number.
- ``gwet_ac``: AC1 (2008), with weights AC2 (2014): chance only where a unit is hard to rate. Undefined for a single
  category.
- ``brennan_prediger`` (1981), for two annotators also known as S: chance is 1/categories.
"""

COEFFICIENTS: tuple[Name, ...] = Name.__args__  # type: ignore[attr-defined]
"""Every :data:`Name`."""

PAIR_ONLY = frozenset({"cohen_kappa", "scott_pi"})
"""Coefficients of two annotators."""

Weights = str | NDArray[np.float64] | None
"""A name of ``weights.WEIGHTS`` (for alpha: of ``weights.METRICS``), a matrix of weights, or None: plain equality."""

CELLS = 2**22
"""Numbers held at a time while sums are made (32 MB)."""


class Statistic(Protocol):
    """A coefficient as a function of sums over units.

    ``ordered``: whether it matters who said what. ``least``: ratings that a unit must have to enter. ``width``: number
    of totals.
    """

    ordered: bool
    least: int
    width: int

    def parts(self, rows: Codes) -> Matrix:
        """Return what each row adds to the totals: rows × width."""
        ...

    def disagreement(self, sums: Matrix) -> tuple[Matrix, Matrix]:
        """Return the observed and the expected disagreement for each row of totals, NaN or 0 where there is none."""
        ...


def make(name: Name, values: Sequence[Any], raters: int, weights: Weights) -> Statistic:
    """Return a coefficient for given categories.

    :param raters: number of columns of the codes.
    :raises InvalidInput: for an unknown name, metric or weight, or when the coefficient is one of two annotators and
        there are not two columns.
    """
    if name not in COEFFICIENTS:
        raise InvalidInput(f"coefficient: found {name!r}, allowed are {', '.join(COEFFICIENTS)}")
    if name in PAIR_ONLY and raters != 2:
        raise InvalidInput(f"{name} compares two annotators: found {raters} columns of codes, allowed are 2")
    if name == "krippendorff_alpha":
        return _alpha(values, "nominal" if weights is None else weights)
    if weights is None or (isinstance(weights, str) and weights == "identity"):
        return _Pairwise(name, raters, len(values), None)
    return _Pairwise(name, raters, len(values), distances(weights, values))


# ---- two ratings of a unit, compared -------------------------------------------------------------------------------


def _counts(rows: Codes, size: int) -> Matrix:
    """Return how often each row has each category."""
    where, column = np.nonzero(rows != MISSING)
    flat = np.bincount(where * size + rows[where, column], minlength=len(rows) * size)
    return flat.reshape(len(rows), size).astype(np.float64)


def _unlike(counts: Matrix, distance: Matrix | None) -> Matrix:
    """Return, for each row of counts, the sum of the distances over all ordered pairs of its members.

    :param distance: None where any two categories are as far apart as any others: thousands then need no matrix.
    """
    if distance is None:
        return counts.sum(axis=1) ** 2 - (counts**2).sum(axis=1)
    return ((counts @ distance) * counts).sum(axis=1)


class _Pairwise:
    """Percent agreement, and the coefficients that correct the same percent agreement for chance.

    Observed: the mean over units with two ratings of the mean weighted disagreement of their pairs (Gwet 2014, ch. 2-3;
    with equal numbers of ratings that of Fleiss 1971, with two that of Cohen 1960). The coefficients differ in what
    they expect by chance.
    """

    def __init__(self, name: Name, raters: int, size: int, distance: Matrix | None) -> None:
        self.name = name
        self.raters = raters
        self.distance = distance
        self.size = size
        self.by_rater = name in {"cohen_kappa", "conger_kappa"}
        self.ordered = self.by_rater
        self.least = 1 if name in {"fleiss_kappa", "conger_kappa", "gwet_ac"} else 2
        margins = {"percent_agreement": 0, "brennan_prediger": 0}.get(name, self.size)
        self.width = 2 + margins * (raters if self.by_rater else 1)

    def parts(self, rows: Codes) -> Matrix:
        counts = _counts(rows, self.size)
        ratings = counts.sum(axis=1)
        paired = ratings >= 2
        unlike = _unlike(counts, self.distance) / np.where(paired, ratings * (ratings - 1), 1.0)
        found = [np.where(paired, unlike, 0.0)[:, None], paired[:, None].astype(np.float64)]
        enters = (ratings >= self.least)[:, None]
        if self.by_rater:
            found.extend(_counts(column[:, None], self.size) * enters for column in rows.T)
        elif self.width > 2:
            found.append(np.where(enters, counts / np.maximum(ratings, 1)[:, None], 0.0))
        return np.hstack(found)

    def disagreement(self, sums: Matrix) -> tuple[Matrix, Matrix]:
        return sums[:, 0] / sums[:, 1], self._expected(sums[:, 2:])

    def _expected(self, margins: Matrix) -> Matrix:
        if self.name == "percent_agreement":
            return np.ones(len(margins))
        if self.name == "brennan_prediger":
            return np.full(len(margins), self._spread() / self.size**2 if self.size else np.nan)
        if self.by_rater:
            return self._by_rater(margins.reshape(-1, self.raters, self.size))
        shares = margins / margins.sum(axis=1, keepdims=True)
        if self.name == "gwet_ac":
            return self._gwet(shares)
        return _unlike(shares, self.distance)

    def _spread(self) -> float:
        """Return the sum of the distances of all ordered pairs of categories."""
        return float(self.size * (self.size - 1) if self.distance is None else self.distance.sum())

    def _by_rater(self, counts: Matrix) -> Matrix:
        """Return the mean over pairs of annotators of the disagreement of two independent draws (Conger 1980)."""
        number = counts.sum(axis=2, keepdims=True)
        shares = counts / np.where(number == 0, 1.0, number)
        active = (number[:, :, 0] > 0).sum(axis=1).astype(np.float64)
        away = shares.sum(axis=2, keepdims=True) - shares if self.distance is None else shares @ self.distance
        all_pairs = (away.sum(axis=1) * shares.sum(axis=1)).sum(axis=1)
        own = (away * shares).sum(axis=(1, 2))
        return (all_pairs - own) / (active * (active - 1))

    def _gwet(self, shares: Matrix) -> Matrix:
        if self.size < 2:
            return np.full(len(shares), np.nan)
        weight = (self.size**2 - self._spread()) / (self.size * (self.size - 1))
        return 1.0 - weight * (shares * (1.0 - shares)).sum(axis=1)


# ---- Krippendorff's alpha ------------------------------------------------------------------------------------------


def _alpha(values: Sequence[Any], metric: str | Matrix) -> Statistic:
    if not isinstance(metric, str):
        return _Alpha(len(values), distances(metric, values))
    if metric not in METRICS:
        raise InvalidInput(f"metric: found {metric!r}, allowed are {', '.join(METRICS)} or a matrix")
    if metric == "ordinal":
        check_ranked(values)
        return _OrdinalAlpha(len(values))
    if metric == "nominal":
        return _Alpha(len(values), None)
    return _Alpha(len(values), distances("quadratic" if metric == "interval" else "ratio", values))


class _Alpha:
    """Alpha with a distance that does not depend on the data.

    Totals: the disagreement within units, each pair divided by the unit's ratings less one; the number of pairable
    ratings of each category. Distances are shares of the greatest one, which cancels in alpha.
    """

    ordered = False
    least = 2

    def __init__(self, size: int, distance: Matrix | None) -> None:
        self.size = size
        self.distance = distance
        self.width = 1 + size

    def parts(self, rows: Codes) -> Matrix:
        counts = _counts(rows, self.size)
        ratings = counts.sum(axis=1)
        counts[ratings < 2] = 0.0
        within = _unlike(counts, self.distance) / np.maximum(ratings - 1, 1.0)
        return np.hstack([within[:, None], counts])

    def disagreement(self, sums: Matrix) -> tuple[Matrix, Matrix]:
        counts = sums[:, 1:]
        number = counts.sum(axis=1)
        return sums[:, 0] / number, _unlike(counts, self.distance) / (number * (number - 1))


class _OrdinalAlpha:
    """Alpha with Krippendorff's ordinal metric, which depends on how often each category occurs.

    The distance of c and k is ``(sum of n over c..k - (n_c + n_k) / 2)²``, which is the squared difference of the
    categories' mid-ranks. Totals: the coincidences of each two categories.
    """

    ordered = False
    least = 2

    def __init__(self, size: int) -> None:
        self.size = size
        self.width = size * size

    def parts(self, rows: Codes) -> Matrix:
        counts = _counts(rows, self.size)
        ratings = counts.sum(axis=1)
        counts[ratings < 2] = 0.0
        pairs = counts[:, :, None] * counts[:, None, :]
        place = np.arange(self.size)
        pairs[:, place, place] -= counts
        return (pairs / np.maximum(ratings - 1, 1.0)[:, None, None]).reshape(len(rows), -1)

    def disagreement(self, sums: Matrix) -> tuple[Matrix, Matrix]:
        pairs = sums.reshape(-1, self.size, self.size)
        counts = pairs.sum(axis=2)
        number = counts.sum(axis=1)
        ranks = counts.cumsum(axis=1) - counts / 2
        far = (ranks[:, -1:] - ranks[:, :1]) ** 2 if self.size else np.zeros((len(sums), 1))
        distance = (ranks[:, :, None] - ranks[:, None, :]) ** 2 / far[:, :, None]
        observed = (pairs * distance).sum(axis=(1, 2)) / number
        chance = (distance @ counts[:, :, None])[:, :, 0] * counts
        return observed, chance.sum(axis=1) / (number * (number - 1))


# ---- sums ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sums:
    """What is needed to weigh units anew: their parts, and the function of the totals that is asked for.

    :param times: how many units have each pattern.
    :param parts: the parts of the patterns from one number up to another: matrix of ``width`` columns.
    :param value: the result for each row of totals, NaN where it is undefined.
    """

    times: NDArray[np.int64]
    width: int
    parts: Callable[[int, int], Matrix]
    value: Callable[[Matrix], Matrix]

    def blocks(self) -> Iterator[tuple[slice, Matrix]]:
        """Yield the parts, so many patterns at a time that memory stays bounded."""
        step = max(1, CELLS // max(self.width, 1))
        for start in range(0, len(self.times), step):
            stop = min(start + step, len(self.times))
            yield slice(start, stop), self.parts(start, stop)

    def totals(self, times: Matrix) -> Matrix:
        """Return the totals, draws × width, for how often each pattern counts: draws × patterns."""
        found = np.zeros((len(times), self.width))
        for where, parts in self.blocks():
            found += times[:, where] @ parts
        return found

    def once(self) -> Matrix:
        """Return the totals of the units as they are: 1 × width."""
        return self.totals(self.times[None, :].astype(np.float64))


def sums_of(statistic: Statistic, patterns: Patterns) -> Sums:
    """Return the sums of a coefficient over patterns."""
    return Sums(
        times=patterns.times,
        width=statistic.width,
        parts=lambda start, stop: statistic.parts(patterns.rows[start:stop]),
        value=lambda sums: coefficient_values(statistic, sums),
    )


def coefficient_values(statistic: Statistic, sums: Matrix) -> Matrix:
    """Return the coefficient for each row of totals, NaN where it is undefined."""
    with np.errstate(divide="ignore", invalid="ignore"):
        observed, expected = statistic.disagreement(sums)
        found = 1.0 - observed / expected
    found[~(expected > 0)] = np.nan
    return found


def pairable(patterns: Patterns) -> int:
    """Return how many ratings stand in units that have at least two."""
    ratings = ratings_of(patterns.rows)
    return int((ratings * patterns.times)[ratings >= 2].sum())
