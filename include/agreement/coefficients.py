"""Coefficients of agreement.

Ratings are ``codes``, a matrix of integers units × annotators: the place of a category in ``values``, -1 where the
annotator did not rate the unit. ``values`` are the categories; give all that could be chosen, since Gwet's and
Brennan-Prediger's coefficients depend on their number (without them: 0, 1, … up to the highest code). Where distances
count, numbers are used as they are and other categories by their place in the list.

Sources: Cohen 1960, 1968 (kappa, weights); Scott 1955 (pi); Fleiss 1971; Conger 1980; Brennan & Prediger 1981;
Krippendorff 2011, *Computing Krippendorff's Alpha-Reliability*; Gwet 2008 (AC1) and 2014, *Handbook of Inter-Rater
Reliability*, 4th ed. (AC2, weights, missing ratings).

A coefficient is None, with the reason, when no unit has two ratings and when no disagreement is to be expected (all
ratings the same: nothing shows whether the annotators can tell the categories apart). It is never NaN, and 1.0 only
where the formula gives it: AC1 and Brennan-Prediger do, whose expected disagreement stays when all ratings are the
same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from include.agreement.patterns import MISSING, Codes, Patterns, ratings_of
from include.agreement.statistics import Name, Statistic, Weights, pairable, sums_of

__all__ = ["Agreement", "conclude", "raters_of"]

NO_PAIRS = "no unit has two ratings"
NO_VARIATION = "no disagreement is to be expected: the ratings do not vary"


@dataclass(frozen=True, slots=True)
class Agreement:
    """A coefficient and what it rests on.

    :param coefficient: its name; ``weights`` the weights or metric (``own`` for a matrix).
    :param value: ``(observed - expected) / (1 - expected)``; at most 1, 0 at chance; None where it is undefined.
    :param observed: the (weighted) agreement seen, 0 … 1; for alpha 1 minus the observed disagreement as a share of the
        greatest distance of two categories. None when no unit has two ratings.
    :param expected: the agreement that chance gives, by the coefficient's own idea of chance; None where it has none.
    :param units: units with at least two ratings, on which ``observed`` rests.
    :param pairable: ratings in those units.
    :param raters: columns with a rating in a unit that entered.
    :param categories: number of categories that could be chosen.
    :param reason: why ``value`` is None.
    """

    coefficient: str
    weights: str
    value: float | None
    observed: float | None
    expected: float | None
    units: int
    pairable: int
    raters: int
    categories: int
    reason: str | None = None


def raters_of(codes: Codes, statistic: Statistic) -> int:
    """Return how many columns have a rating in a unit that enters."""
    enters = ratings_of(codes) >= statistic.least
    return sum(bool(((column != MISSING) & enters).any()) for column in codes.T)


def conclude(
    name: Name, statistic: Statistic, patterns: Patterns, *, size: int, raters: int, weights: Weights
) -> Agreement:
    """Work a coefficient out on gathered units."""
    usable = pairable(patterns)
    observed: float | None = None
    expected: float | None = None
    value: float | None = None
    reason: str | None = NO_PAIRS
    if usable:
        with np.errstate(divide="ignore", invalid="ignore"):
            seen, chance = (float(one[0]) for one in statistic.disagreement(sums_of(statistic, patterns).once()))
        observed = 1.0 - seen if np.isfinite(seen) else None
        expected = 1.0 - chance if np.isfinite(chance) else None
        reason = None if chance > 0 else NO_VARIATION
        value = 1.0 - seen / chance if reason is None else None
    named = "nominal" if name == "krippendorff_alpha" else "identity"
    return Agreement(
        coefficient=name,
        weights=named if weights is None else weights if isinstance(weights, str) else "own",
        value=value,
        observed=observed,
        expected=None if name == "percent_agreement" else expected,
        units=int(patterns.times[ratings_of(patterns.rows) >= 2].sum()),
        pairable=usable,
        raters=raters,
        categories=size,
        reason=reason,
    )
