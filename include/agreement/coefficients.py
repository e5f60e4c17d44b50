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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from include.agreement.patterns import MISSING, Codes, Patterns, check_codes, codes_from_counts, gather, ratings_of
from include.agreement.statistics import Name, Statistic, Weights, make, pairable, sums_of

__all__ = [
    "Agreement",
    "agreement",
    "brennan_prediger",
    "codes_from_counts",
    "cohen_kappa",
    "conger_kappa",
    "fleiss_kappa",
    "gwet_ac1",
    "gwet_ac2",
    "krippendorff_alpha",
    "percent_agreement",
    "scott_pi",
]

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


def agreement(
    name: Name, codes: ArrayLike, values: Sequence[Any] | None = None, *, weights: Weights = None
) -> Agreement:
    """Return a coefficient by its name.

    :param codes: units × annotators.
    :param weights: the weights, or alpha's metric; None for plain equality.
    :raises InvalidInput: for codes, categories, a name or weights that are not allowed.
    """
    found, categories = check_codes(codes, values)
    statistic = make(name, categories, found.shape[1], weights)
    return evaluate(name, statistic, found, len(categories), weights)


def evaluate(name: Name, statistic: Statistic, codes: Codes, size: int, weights: Weights) -> Agreement:
    """Work a coefficient out on checked codes."""
    patterns = gather(codes, size, ordered=statistic.ordered, least=statistic.least)
    return conclude(name, statistic, patterns, size=size, raters=raters_of(codes, statistic), weights=weights)


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


def percent_agreement(codes: ArrayLike, values: Sequence[Any] | None = None, weights: Weights = None) -> Agreement:
    """Return the mean over units with two ratings of the share of their pairs that agree (Gwet 2014, p_a).

    Not corrected for chance. Missing ratings are left out. Shapes and errors as in :func:`agreement`.
    """
    return agreement("percent_agreement", codes, values, weights=weights)


def cohen_kappa(codes: ArrayLike, values: Sequence[Any] | None = None, weights: Weights = None) -> Agreement:
    """Return Cohen's kappa (1960; with ``linear`` or ``quadratic`` weights: 1968) of two annotators.

    Chance: each annotator's own shares. Only units that both rated enter.

    :param codes: units × 2.
    """
    return agreement("cohen_kappa", codes, values, weights=weights)


def scott_pi(codes: ArrayLike, values: Sequence[Any] | None = None, weights: Weights = None) -> Agreement:
    """Return Scott's pi (1955) of two annotators: chance by the shares of both together.

    Only units that both rated enter.

    :param codes: units × 2.
    """
    return agreement("scott_pi", codes, values, weights=weights)


def fleiss_kappa(codes: ArrayLike, values: Sequence[Any] | None = None, weights: Weights = None) -> Agreement:
    """Return Fleiss' kappa (1971): chance by the shares of all ratings together.

    With differing numbers of ratings as in Gwet 2014: each unit has the same say in the shares, units of one rating
    included, and those with two or more make the observed agreement.
    """
    return agreement("fleiss_kappa", codes, values, weights=weights)


def conger_kappa(codes: ArrayLike, values: Sequence[Any] | None = None, weights: Weights = None) -> Agreement:
    """Return Conger's kappa (1980): chance is the mean over pairs of annotators of Cohen's.

    With two annotators and nothing missing it is Cohen's kappa. Ratings in units of one rating count in their
    annotator's shares (Gwet 2014); an annotator without ratings is left out.
    """
    return agreement("conger_kappa", codes, values, weights=weights)


def krippendorff_alpha(codes: ArrayLike, values: Sequence[Any] | None = None, metric: Weights = "nominal") -> Agreement:
    """Return Krippendorff's alpha (2011) for any number of annotators and missing ratings.

    :param metric: ``nominal``, ``ordinal`` (the order of ``values``), ``interval`` or ``ratio`` (``values`` as numbers,
        for ratio none negative), or a matrix of agreement weights. Ordinal is Krippendorff's metric, which goes by how
        often the categories occur; Gwet's ordinal weights give another number.
    """
    return agreement("krippendorff_alpha", codes, values, weights=metric)


def gwet_ac1(codes: ArrayLike, values: Sequence[Any] | None = None) -> Agreement:
    """Return Gwet's AC1 (2008): chance only where a unit is hard to rate. Undefined for a single category."""
    return agreement("gwet_ac", codes, values)


def gwet_ac2(codes: ArrayLike, values: Sequence[Any] | None = None, weights: Weights = "quadratic") -> Agreement:
    """Return Gwet's AC2 (2014): AC1 with weights, one of ``weights.WEIGHTS`` or a matrix."""
    return agreement("gwet_ac", codes, values, weights=weights)


def brennan_prediger(codes: ArrayLike, values: Sequence[Any] | None = None, weights: Weights = None) -> Agreement:
    """Return Brennan and Prediger's coefficient (1981), for two annotators also known as S: chance is 1/categories."""
    return agreement("brennan_prediger", codes, values, weights=weights)
