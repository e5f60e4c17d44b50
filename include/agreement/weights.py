"""How far apart two categories are: the weights of Cohen and Gwet, and the metrics of Krippendorff.

Weights are agreement, 1 on the diagonal; the code works with the disagreement ``1 - weight``, 0 on the diagonal.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from include.base.errors import InvalidInput

__all__ = ["METRICS", "WEIGHTS", "Matrix", "distances", "positions"]

Matrix = NDArray[np.float64]


def _numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(value, Real) and not isinstance(value, bool) for value in values)


def positions(values: Sequence[Any]) -> Matrix:
    """Return the categories as numbers: themselves where all are numbers, else their places 1, 2, …

    :raises InvalidInput: when a number is not finite.
    """
    if not _numbers(values):
        return np.arange(1.0, len(values) + 1)
    if not all(math.isfinite(value) for value in values):
        raise InvalidInput(f"values: found {list(values)}, allowed are finite numbers")
    return np.array([float(value) for value in values])


def _ordinal(values: Matrix) -> Matrix:
    steps = np.abs(np.subtract.outer(np.arange(len(values)), np.arange(len(values)))) + 1.0
    return steps * (steps - 1) / 2


def _ratio(values: Matrix) -> Matrix:
    if (values < 0).any():
        raise InvalidInput(f"values: found {values.tolist()}, a ratio scale allows no negative numbers")
    both = np.add.outer(values, values)
    return (np.subtract.outer(values, values) / np.where(both == 0, 1.0, both)) ** 2


def _bipolar(values: Matrix) -> Matrix:
    both = np.add.outer(values, values)
    under = (both - 2 * np.min(values)) * (2 * np.max(values) - both)
    return np.subtract.outer(values, values) ** 2 / np.where(under == 0, 1.0, under)


def _apart(values: Matrix) -> Matrix:
    return np.abs(np.subtract.outer(values, values))


_DISTANCE: dict[str, Callable[[Matrix], Matrix]] = {
    "identity": lambda values: 1.0 - np.eye(len(values)),
    "ordinal": _ordinal,
    "linear": _apart,
    "quadratic": lambda values: _apart(values) ** 2,
    "radical": lambda values: np.sqrt(_apart(values)),
    "ratio": _ratio,
    "circular": lambda values: np.sin(np.pi * _apart(values) / (np.ptp(values) + 1)) ** 2,
    "bipolar": _bipolar,
}

WEIGHTS = tuple(_DISTANCE)
"""The named weights: Gwet 2014, *Handbook of Inter-Rater Reliability*, ch. 3; linear, quadratic: Cohen 1968."""

METRICS = ("nominal", "ordinal", "interval", "ratio")
"""The metrics of Krippendorff's alpha (Krippendorff 2011). Its ordinal metric is *not* Gwet's ordinal weight."""


def distances(weights: str | Matrix, values: Sequence[Any]) -> Matrix:
    """Return the disagreement of each two categories, categories × categories, 0 … 1, zero on the diagonal.

    Numbers as categories are used as they are (a gap between them counts), others by their place; ``ordinal`` always
    goes by the place. Each is divided by its greatest entry, as Gwet defines the weights.

    :param weights: one of :data:`WEIGHTS`, or a symmetric matrix of agreement weights with 1 on the diagonal.
    :raises InvalidInput: for another name, a matrix that is none, or numbers that the scale does not allow.
    """
    if not isinstance(weights, str):
        return _own(np.asarray(weights, dtype=np.float64), len(values))
    if weights not in _DISTANCE:
        raise InvalidInput(f"weights: found {weights!r}, allowed are {', '.join(WEIGHTS)} or a matrix")
    numbers = positions(values)
    if weights == "ordinal":
        check_ranked(values)
    if len(np.unique(numbers)) != len(numbers):
        raise InvalidInput(f"values: found {list(values)}, allowed are distinct categories")
    found = _DISTANCE[weights](numbers)
    np.fill_diagonal(found, 0.0)
    greatest = np.max(found, initial=0.0)
    return found / greatest if greatest > 0 else found


def check_ranked(values: Sequence[Any]) -> None:
    """Refuse numbers that are not in rising order where the place of a category is its rank.

    :raises InvalidInput: then.
    """
    if _numbers(values) and any(a >= b for a, b in itertools.pairwise(values)):
        raise InvalidInput(f"values: found {list(values)}, an ordinal scale needs them from lowest to highest")


def _own(weights: Matrix, size: int) -> Matrix:
    if weights.shape != (size, size):
        raise InvalidInput(f"weights: found a matrix of shape {weights.shape}, allowed is {(size, size)}")
    if not np.isfinite(weights).all() or not np.array_equal(weights, weights.T) or (np.diag(weights) != 1).any():
        raise InvalidInput("weights: allowed is a symmetric matrix of finite numbers with 1 on the diagonal")
    return 1.0 - weights
