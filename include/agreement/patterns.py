"""Ratings as a matrix of codes, and its units gathered by what was said of them.

Units that were rated alike say the same to every coefficient. So each coefficient is worked out once for each distinct
pattern: 100,000 units by five annotators on five categories have at most 252 patterns where it does not matter who said
what. Resampling units is then drawing how often each pattern occurs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from include.base.errors import InvalidInput

__all__ = ["MISSING", "Codes", "Patterns", "check_codes", "gather", "ratings_of"]

MISSING = -1
"""The code for "this annotator did not rate this unit"."""

ROOM_EACH = 4
"""Keys are counted in place of sorted where there are at most so many possible ones for each row."""

Codes = NDArray[np.int64]
"""Units × annotators: the place of a category in the list of values, or -1."""


@dataclass(frozen=True, slots=True)
class Patterns:
    """The distinct rows of a matrix of codes.

    :param rows: patterns × columns, in an order that depends on nothing but the patterns.
    :param times: how many units have each pattern.
    """

    rows: Codes
    times: NDArray[np.int64]


def check_codes(codes: ArrayLike, values: Sequence[Any] | None) -> tuple[Codes, Sequence[Any]]:
    """Return the codes as a matrix and the categories; without ``values`` these are 0, 1, … up to the highest code.

    :raises InvalidInput: when the matrix is none of integers, or a code has no category.
    """
    found = np.asarray(codes)
    if found.ndim != 2 or (found.size and found.dtype.kind not in "iu"):
        raise InvalidInput(
            f"codes: found shape {found.shape} of {found.dtype}, allowed is a matrix of integers, units × annotators"
        )
    found = found.astype(np.int64, copy=False)
    low, high = int(np.min(found, initial=MISSING)), int(np.max(found, initial=MISSING))
    size = high + 1 if values is None else len(values)
    if low < MISSING or high >= size:
        raise InvalidInput(f"codes: found {low} to {high}, allowed are {MISSING} (missing) to {size - 1}")
    return found, range(size) if values is None else values


def ratings_of(rows: Codes) -> NDArray[np.int64]:
    """Return how many ratings each row has."""
    found = np.zeros(len(rows), dtype=np.int64)
    for column in rows.T:  # far quicker than a sum along short rows
        found += column != MISSING
    return found


def gather(codes: Codes, size: int, *, ordered: bool, least: int) -> Patterns:
    """Gather the units by pattern.

    :param size: number of categories.
    :param ordered: whether it matters who said what; if not, the ratings of a unit are sorted and moved together.
    :param least: units with fewer ratings are left out.
    """
    rows = codes[ratings_of(codes) >= least]
    if not ordered:
        rows = np.sort(rows, axis=1)[:, ::-1]
        rows = rows[:, : int(np.max(ratings_of(rows), initial=0))]
    key, room = np.zeros(len(rows), dtype=np.int64), 1
    for column in rows.T:
        if room > 2**62 // (size + 1):
            key = np.unique(key, return_inverse=True)[1]
            room = len(rows)
        key = key * (size + 1) + (column + 1)
        room *= size + 1
    first, times = _distinct(key, room)
    return Patterns(np.ascontiguousarray(rows[first]), times)


def _distinct(key: NDArray[np.int64], room: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return for each distinct key, lowest first, a place where it stands and how often; keys are below ``room``."""
    if room > ROOM_EACH * len(key):
        _, first, times = np.unique(key, return_index=True, return_counts=True)
        return first, times
    times = np.bincount(key, minlength=room)
    place = np.zeros(room, dtype=np.int64)
    place[key] = np.arange(len(key))  # rows of one key are alike: any of them will do
    there = np.flatnonzero(times)
    return place[there], times[there]
