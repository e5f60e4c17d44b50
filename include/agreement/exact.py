"""Exact span F1 of many annotators at once, counted on arrays: of everything, of one label, of one annotator.

A mark (start, end, label) that ``k`` of a unit's ``n`` annotators made is matched in ``k (k - 1) / 2`` of their pairs,
and stands in ``n - 1`` pairs for each who made it. So no pair has to be looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from include.agreement.spans import F1, f1_of
from include.agreement.units import Units

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ExactMarks"]


class ExactMarks:
    """The marks of all units that at least two annotators accepted.

    :raises InvalidInput: when the spans were not gathered.
    """

    def __init__(self, units: Units) -> None:
        spans, accepted = units.gathered_spans(), units.accepted()
        _, unit, people = np.unique(units.unit[accepted], return_inverse=True, return_counts=True)
        kept = people[unit] > 1
        accepted, unit = accepted[kept], unit[kept]
        answers = units.answer[accepted]
        number = spans.first[answers + 1] - spans.first[answers]
        owner = np.repeat(np.arange(len(accepted)), number)
        place = np.arange(len(owner)) - np.repeat(np.cumsum(number) - number, number)
        place += np.repeat(spans.first[answers], number)
        extent = (spans.start[place], spans.end[place], spans.low[place], spans.high[place])
        marks = np.stack([unit[owner], *extent, spans.label[place]])
        _, same = np.unique(marks, axis=1, return_inverse=True)
        # One annotator makes a mark once, whatever the row holds.
        once = np.unique(same.reshape(-1).astype(np.int64) * max(len(accepted), 1) + owner, return_index=True)[1]
        self._people, self._of, self._rater = people, unit, units.rater[accepted]
        self._owner, self._same, self._label = owner[once], same.reshape(-1)[once], spans.label[place][once]
        self._labels = spans.labels

    def f1(self, *, label: str | None = None, rater: int | None = None, resamples: int, seed: int) -> F1:
        """Return ``2 × matched / marks`` over all pairs of annotators together.

        :param label: marks of this label alone.
        :param rater: pairs with this annotator alone.
        """
        chosen = np.ones(len(self._owner), dtype=bool)
        if label is not None:
            chosen = self._label == (self._labels.index(label) if label in self._labels else -1)
        owner, same = self._owner[chosen], self._same[chosen]
        unit = self._of[owner]
        makers = np.bincount(same, minlength=1)
        if rater is None:
            there = np.unique(self._of)
            matched, stands = makers[same] - 1, self._people[unit] - 1
        else:
            there = np.unique(self._of[self._rater == rater])
            mine = self._rater[owner] == rater
            # Twice, for from the others' side the same pairs are not counted here.
            matched = np.where(mine, 2 * (makers[same] - 1), 0)
            stands = np.where(mine, self._people[unit] - 1, 1)
        size = len(self._people)
        counts = np.stack([_sum(unit, matched, size), _sum(unit, stands, size)], axis=1)[there]
        if not len(counts):
            return F1(None, 0, 0, 0, reason="no two annotators accepted a unit")
        nothing = "nobody marked anything in a unit that two annotators accepted"
        return f1_of(counts, resamples=resamples, seed=seed, nothing=nothing)


def _sum(unit: NDArray[np.int64], values: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Add up whole numbers by unit."""
    found = np.zeros(size, dtype=np.int64)
    np.add.at(found, unit, values)
    return found
