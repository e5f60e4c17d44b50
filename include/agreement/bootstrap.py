"""Intervals by resampling units (Efron 1979; Efron & Tibshirani 1993, ch. 13-14).

A unit is drawn with all its ratings: annotators are taken as they are, so the interval says what other *units* would
have shown with these annotators. What is resampled is how often each pattern of ratings occurs, not the matrix.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from include.agreement.patterns import check_codes, gather
from include.agreement.statistics import CELLS, Name, Sums, Weights, make, sums_of
from include.agreement.weights import Matrix
from include.base.errors import InvalidInput

__all__ = ["Interval", "Method", "bootstrap", "interval"]

Method = Literal["percentile", "bca"]

DIGITS = 12
"""Decimals that are kept: beyond them the order in which a machine adds would show."""

FEW_PATTERNS = 8
"""With so many units for each pattern or more, how often each occurs is drawn at once; otherwise unit by unit."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A bootstrap interval.

    :param low: its ends, rounded to 12 decimals; both None where there is none.
    :param level: the share of resamples between the ends, such as 0.95.
    :param resamples: how many were drawn; ``undefined`` of them gave no coefficient and were left out.
    :param units: how many units were drawn each time.
    :param seed: of NumPy's PCG64; the same seed gives the same digits, whatever the order of the units.
    :param reason: why there is no interval.
    """

    low: float | None
    high: float | None
    level: float
    method: Method
    resamples: int
    undefined: int
    units: int
    seed: int
    reason: str | None = None


def bootstrap(
    name: Name,
    codes: ArrayLike,
    values: Sequence[Any] | None = None,
    *,
    weights: Weights = None,
    seed: int,
    resamples: int = 1000,
    level: float = 0.95,
    method: Method = "percentile",
) -> Interval:
    """Return an interval for a coefficient; the arguments are those of ``coefficients.agreement``.

    The units drawn are those that enter the coefficient (for alpha: with two ratings or more).

    :param method: ``percentile``, or ``bca`` (corrected for bias and acceleration, Efron 1987), which is nearer to the
        stated level when few units or a high agreement make the distribution skew.
    :raises InvalidInput: as ``agreement`` does, and for a seed, a number of resamples or a level that is not allowed.
    """
    found, categories = check_codes(codes, values)
    statistic = make(name, categories, found.shape[1], weights)
    patterns = gather(found, len(categories), ordered=statistic.ordered, least=statistic.least)
    sums = sums_of(statistic, patterns)
    return interval(sums, seed=seed, resamples=resamples, level=level, method=method)


def interval(
    sums: Sums, *, seed: int, resamples: int = 1000, level: float = 0.95, method: Method = "percentile"
) -> Interval:
    """Return an interval for whatever is a function of sums over units.

    :raises InvalidInput: for a seed, a number of resamples, a level or a method that is not allowed.
    """
    _check(seed, resamples, level, method)
    units = int(sums.times.sum())

    def outcome(
        low: float | None = None, high: float | None = None, undefined: int = 0, reason: str | None = None
    ) -> Interval:
        return Interval(low, high, level, method, resamples, undefined, units, seed, reason)

    if units < 2:
        return outcome(reason="fewer than two units: there is nothing to resample")
    point = float(sums.value(sums.once())[0])
    if np.isnan(point):
        return outcome(reason="the coefficient itself is undefined")
    drawn = np.concatenate([sums.value(sums.totals(times)) for times in _draws(sums.times, resamples, seed)])
    kept = drawn[~np.isnan(drawn)]
    undefined = resamples - len(kept)
    if not len(kept):
        return outcome(undefined=undefined, reason="no resample has a defined coefficient")
    tails: tuple[float, float] | None = ((1 - level) / 2, (1 + level) / 2)
    if method == "bca":
        tails = _bca_tails(sums, point, kept, level)
    if tails is None:
        return outcome(undefined=undefined, reason="all resamples lie on one side of the coefficient: use percentile")
    low, high = (round(float(end), DIGITS) for end in np.quantile(kept, tails))
    return outcome(low, high, undefined)


def _check(seed: int, resamples: int, level: float, method: str) -> None:
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InvalidInput(f"seed: found {seed!r}, allowed is a whole number, 0 or more")
    if isinstance(resamples, bool) or not isinstance(resamples, int) or resamples < 1:
        raise InvalidInput(f"resamples: found {resamples!r}, allowed is a whole number, 1 or more")
    if not 0 < level < 1:
        raise InvalidInput(f"level: found {level!r}, allowed is a share between 0 and 1")
    if method not in {"percentile", "bca"}:
        raise InvalidInput(f"method: found {method!r}, allowed are percentile, bca")


def _draws(times: NDArray[np.int64], resamples: int, seed: int) -> Iterator[Matrix]:
    """Yield how often each pattern occurs in each resample: draws × patterns, some draws at a time."""
    generator = np.random.Generator(np.random.PCG64(seed))
    units, patterns = int(times.sum()), len(times)
    if patterns * FEW_PATTERNS <= units:
        step = max(1, CELLS // patterns)
        for start in range(0, resamples, step):
            count = min(step, resamples - start)
            yield generator.multinomial(units, times / units, size=count).astype(np.float64)
        return
    owner = np.repeat(np.arange(patterns), times)
    step = max(1, CELLS // units)
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        chosen = owner[generator.integers(0, units, size=(count, units))]
        chosen += patterns * np.arange(count)[:, None]
        yield np.bincount(chosen.ravel(), minlength=count * patterns).reshape(count, patterns).astype(np.float64)


def _bca_tails(sums: Sums, point: float, drawn: Matrix, level: float) -> tuple[float, float] | None:
    """Return the corrected quantiles (Efron 1987, 2.3 and 6.6), None where the bias has no finite correction."""
    normal = NormalDist()
    below = ((drawn < point).sum() + (drawn == point).sum() / 2) / len(drawn)
    if not 0 < below < 1:
        return None
    bias, acceleration = normal.inv_cdf(float(below)), _acceleration(sums)

    def corrected(tail: float) -> float:
        moved = bias + normal.inv_cdf(tail)
        return normal.cdf(bias + moved / (1 - acceleration * moved))

    return corrected((1 - level) / 2), corrected((1 + level) / 2)


def _acceleration(sums: Sums) -> float:
    """Return the skewness of the coefficient with each unit left out in turn, over six."""
    whole = sums.once()
    left_out = np.concatenate([sums.value(whole - parts) for _, parts in sums.blocks()])
    known = ~np.isnan(left_out)
    left_out, times = left_out[known], sums.times[known]
    if not len(left_out):
        return 0.0
    away = np.average(left_out, weights=times) - left_out
    spread = float((times * away**2).sum())
    return float((times * away**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
