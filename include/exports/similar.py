"""Near-duplicates among texts: MinHash sketches and the groups that they make.

A text's shingles are the sequences of :data:`SHINGLE` code points in its :func:`normal` form. Its sketch is
:data:`VALUES` bytes: for each of as many hash functions, the smallest hash of its shingles, folded to one byte (Broder
1997; b-bit minwise hashing, Li and König 2010). The share of equal bytes of two sketches estimates the Jaccard
similarity ``J`` of their shingle sets, with a standard error of ``sqrt(J (1 - J) / 128)``.

Two texts are *near* when at least :data:`EQUAL` of the 128 bytes are equal. Sketches are compared in 32 bands of four
bytes each: two that differ in at most 30 bytes agree in at least two whole bands, so by the pigeonhole principle no
near pair is missed. The search is exact with regard to the sketches; what is left to chance is the sketch. By the
binomial distribution, a pair with ``J`` = 0.9 is near but for 2 in a million, with 0.85 in 99.6 of 100 cases, with 0.8
in 86, with 0.7 in 6, with 0.6 in 7 of 100,000. Time is quadratic in the number of texts that are all about as alike as
that without being near (made from one template, say); otherwise it grows with the text.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["EQUAL", "SHINGLE", "VALUES", "Groups", "near", "normal", "sketches"]

SHINGLE = 5
VALUES = 128
EQUAL = 98
_BAND = 4
_MANY = 200_000
"""Code points that are sketched at a time."""

Array = np.ndarray[Any, Any]


def normal(text: str) -> str:
    """Return a text as it is compared: NFKC, case folded, white space as single spaces, none at its ends."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def sketches(texts: Sequence[str]) -> Array:
    """Return the sketches of some texts: uint8, shape (texts, 128)."""
    found = np.empty((len(texts), VALUES), np.uint8)
    begin = 0
    while begin < len(texts):
        end, size = begin, 0
        while end < len(texts) and (size < _MANY or end == begin):
            size += len(texts[end])
            end += 1
        found[begin:end] = _sketches([normal(text) for text in texts[begin:end]])
        begin = end
    return found


def near(one: Array, others: Array) -> Array:
    """Tell which of some sketches, shape (n, 128), are near one, shape (128,)."""
    return np.asarray((others == one).sum(axis=1, dtype=np.uint8) >= EQUAL)


class Groups:
    """A partition that only ever gets coarser (union-find): things are numbered from 0.

    :param count: how many things there are.
    """

    def __init__(self, count: int) -> None:
        self._parents = list(range(count))

    def find(self, one: int) -> int:
        """Return the number that stands for the group of ``one``: its smallest."""
        parents = self._parents
        while parents[one] != one:
            parents[one] = parents[parents[one]]
            one = parents[one]
        return one

    def join(self, one: int, other: int) -> None:
        """Make one group of two."""
        first, second = sorted((self.find(one), self.find(other)))
        self._parents[second] = first

    def join_near(self, things: Array, found: Array) -> None:
        """Join the things whose sketches are near.

        :param things: their numbers, shape (n,).
        :param found: their sketches, shape (n, 128).
        """
        if not len(things):
            return
        distinct, first, place = np.unique(found, axis=0, return_index=True, return_inverse=True)
        for thing, same in zip(things.tolist(), things[first][place.reshape(-1)].tolist(), strict=True):
            if thing != same:
                self.join(thing, same)
        numbers = things[first]
        for begin in range(0, VALUES, _BAND):
            keys = np.ascontiguousarray(distinct[:, begin : begin + _BAND]).view(np.uint32).reshape(-1)
            order = np.argsort(keys, kind="stable")
            edges = np.flatnonzero(np.diff(keys[order], prepend=np.uint32(0), append=np.uint32(0)))
            # A run of equal keys goes from one change to the next; the ends are no change where a key is 0.
            edges = np.unique(np.concatenate(([0], edges, [len(order)])))
            long = np.flatnonzero(np.diff(edges) > 1)
            for run in long.tolist():
                members = order[edges[run] : edges[run + 1]]
                self._join_run(numbers[members], distinct[members])

    def _join_run(self, things: Array, found: Array) -> None:
        """Join the near ones among sketches that share a band; who is in one group already is not compared."""
        roots = np.array([self.find(one) for one in things.tolist()])
        for place in range(len(things) - 1):
            others = np.flatnonzero(roots[place + 1 :] != roots[place]) + place + 1
            if not len(others):
                continue
            for other in others[near(found[place], found[others])].tolist():
                if roots[other] == roots[place]:
                    continue
                self.join(int(things[place]), int(things[other]))
                small, large = sorted((int(roots[place]), int(roots[other])))
                roots[roots == large] = small


def _sketches(texts: list[str]) -> Array:
    padded = [text.ljust(SHINGLE) for text in texts]
    points = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    lengths = np.array([len(text) for text in padded], np.int64)
    starts = np.cumsum(lengths) - lengths
    windows = lengths - (SHINGLE - 1)
    within = np.arange(len(points), dtype=np.int64) - np.repeat(starts, lengths)
    rolled = np.zeros(len(points) - (SHINGLE - 1), np.uint64)
    for place in range(SHINGLE):
        rolled = rolled * _PRIME + points[place : place + len(rolled)]
    kept = np.flatnonzero(within[: len(rolled)] < np.repeat(windows, lengths)[: len(rolled)])
    # 32 bits: a processor multiplies eight of those at once.
    hashes = (_mixed(rolled[kept]) >> np.uint64(32)).astype(np.uint32)
    bounds = np.cumsum(windows) - windows
    found = np.empty((len(texts), VALUES), np.uint8)
    for place in range(VALUES):
        smallest = np.minimum.reduceat(hashes * _FACTORS[place] ^ _TERMS[place], bounds)
        found[:, place] = _mixed(smallest.astype(np.uint64)) >> np.uint64(56)
    return found


def _mixed(values: Array) -> Array:
    """Return values whose every bit depends on all bits of the given ones (splitmix64's finalizer, Steele 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(values ^ (values >> np.uint64(31)))


def _constants(name: str) -> Array:
    """Return one number for each hash function, the same for ever: sketches are kept with releases."""
    digests = (hashlib.sha256(f"labelops sketch {name} {place}".encode()).digest() for place in range(VALUES))
    return np.array([int.from_bytes(digest[:4], "little") for digest in digests], np.uint32)


_PRIME = np.uint64(0x9E3779B97F4A7C15)
_FACTORS = _constants("factor") | np.uint32(1)
_TERMS = _constants("term")
