"""Intervals by resampling units (Efron 1979; Efron & Tibshirani 1993, ch. 13).

A unit is drawn with all its ratings: annotators are taken as they are, so the interval says what other *units* would
have shown with these annotators. What is resampled is how often each pattern of ratings occurs, not the matrix.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from include.agreement.statistics import CELLS, Sums
from include.agreement.weights import Matrix
from include.base.errors import InvalidInput

__all__ = ["LEVEL", "Interval", "interval"]

LEVEL = 0.95
"""The share of resamples between the ends of an interval."""

DIGITS = 12
"""Decimals that are kept: beyond them the order in which a machine adds would show."""

FEW_PATTERNS = 8
"""With so many units for each pattern or more, how often each occurs is drawn at once; otherwise unit by unit."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A bootstrap interval.

    :param low: its ends, rounded to 12 decimals; both None where there is none.
    :param resamples: how many were drawn; ``undefined`` of them gave no coefficient and were left out.
    :param units: how many units were drawn each time.
    :param seed: of NumPy's PCG64; the same seed gives the same digits, whatever the order of the units.
    :param reason: why there is no interval.
    """

    low: float | None
    high: float | None
    resamples: int
    undefined: int
    units: int
    seed: int
    reason: str | None = None


def interval(sums: Sums, *, seed: int, resamples: int) -> Interval:
    """Return the percentile interval of whatever is a function of sums over units.

    The units drawn are those that enter the sums (for alpha: with two ratings or more).

    :raises InvalidInput: for a seed or a number of resamples that is not allowed.
    """
    _check(seed, resamples)
    units = int(sums.times.sum())

    def outcome(
        low: float | None = None, high: float | None = None, undefined: int = 0, reason: str | None = None
    ) -> Interval:
        return Interval(low, high, resamples, undefined, units, seed, reason)

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
    low, high = (round(float(end), DIGITS) for end in np.quantile(kept, ((1 - LEVEL) / 2, (1 + LEVEL) / 2)))
    return outcome(low, high, undefined)


def _check(seed: int, resamples: int) -> None:
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InvalidInput(f"seed: found {seed!r}, allowed is a whole number, 0 or more")
    if isinstance(resamples, bool) or not isinstance(resamples, int) or resamples < 1:
        raise InvalidInput(f"resamples: found {resamples!r}, allowed is a whole number, 1 or more")


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
