"""The most likely labels and how each annotator errs: Dawid & Skene 1979, *Applied Statistics* 28(1), 20-28."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from include.agreement.patterns import MISSING, Codes, check_codes, ratings_of
from include.agreement.weights import Matrix
from include.base.errors import InvalidInput

__all__ = ["DawidSkene", "dawid_skene"]


@dataclass(frozen=True, slots=True)
class DawidSkene:
    """A fitted model.

    :param labels: the most likely category of each unit, the lowest code of several; -1 for a unit without ratings.
    :param posterior: units × categories: the probability of each; for a unit without ratings the marginals.
    :param marginals: how frequent each category is.
    :param confusion: annotators × true category × given category; each row sums to one, or to zero where nothing that
        the annotator rated may be of that category.
    :param log_likelihood: of the ratings, without the constant that the order of repeated ratings adds.
    :param steps: EM steps taken; ``converged`` tells whether the last one changed the log-likelihood by less than the
        tolerance.
    """

    labels: NDArray[np.int64]
    posterior: Matrix
    marginals: Matrix
    confusion: Matrix
    log_likelihood: float
    steps: int
    converged: bool

    @property
    def accuracy(self) -> Matrix:
        """How often each annotator is right, by the model, on units as frequent as the marginals say."""
        return np.einsum("c,acc->a", self.marginals, self.confusion)


def dawid_skene(
    codes: ArrayLike,
    values: Sequence[Any] | None = None,
    annotators: Sequence[int] | None = None,
    *,
    tolerance: float = 1e-9,
    steps: int = 1000,
) -> DawidSkene:
    """Fit by expectation maximisation, starting from the share of each category among a unit's ratings.

    The maximum found is a local one, and with few ratings an annotator's matrix rests on little. No smoothing: the
    estimates are those of the paper.

    :param codes: units × columns; -1 is missing.
    :param annotators: the annotator of each column, 0, 1, …; several columns of one annotator are repeated ratings of a
        unit. Without it each column is one annotator.
    :param tolerance: change of the log-likelihood at which to stop; ``steps`` the most to take.
    :raises InvalidInput: for codes that are not allowed, when there is no rating at all, or when ``annotators`` do not
        fit the columns.
    """
    found, categories = check_codes(codes, values)
    who = _annotators(annotators, found.shape[1])
    rated = ratings_of(found) > 0
    if not rated.any():
        raise InvalidInput("codes: found no rating, needed is at least one")
    rows, place, times = np.unique(found[rated], axis=0, return_inverse=True, return_counts=True)
    model = _Model(rows, times.astype(np.float64), who, len(categories))
    truth = model.shares()
    likelihood, taken, converged = -np.inf, 0, False
    while taken < steps and not converged:
        marginals, confusion = model.maximise(truth)
        truth, reached = model.expect(marginals, confusion)
        taken += 1
        converged = abs(reached - likelihood) < tolerance
        likelihood = reached
    posterior = np.tile(marginals, (len(found), 1))
    posterior[rated] = truth[place.ravel()]
    return DawidSkene(
        labels=np.where(rated, posterior.argmax(axis=1), MISSING),
        posterior=posterior,
        marginals=marginals,
        confusion=confusion,
        log_likelihood=likelihood,
        steps=taken,
        converged=converged,
    )


def _annotators(annotators: Sequence[int] | None, columns: int) -> NDArray[np.int64]:
    if annotators is None:
        return np.arange(columns)
    found = np.asarray(annotators)
    if found.shape != (columns,) or (columns and found.dtype.kind not in "iu"):
        raise InvalidInput(f"annotators: found {list(annotators)}, allowed is one number for each of {columns} columns")
    if sorted(set(found.tolist())) != list(range(len(set(found.tolist())))):
        raise InvalidInput(f"annotators: found {list(annotators)}, allowed are 0, 1, … without a gap")
    return found.astype(np.int64)


class _Model:
    """The two steps, on distinct rows of ratings and how often each occurs."""

    def __init__(self, rows: Codes, times: Matrix, who: NDArray[np.int64], size: int) -> None:
        self.times = times
        self.who = who
        self.size = size
        self.annotators = len(np.unique(who))
        self.given = [(np.flatnonzero(column != MISSING), column[column != MISSING]) for column in rows.T]
        self.count = len(rows)

    def shares(self) -> Matrix:
        """Return the shares of the categories among the ratings of each row (Dawid & Skene 1979, 3.1)."""
        found = np.zeros((self.count, self.size))
        for where, codes in self.given:
            found[where, codes] += 1
        return found / found.sum(axis=1, keepdims=True)

    def maximise(self, truth: Matrix) -> tuple[Matrix, Matrix]:
        """Return the marginals and the annotators' matrices that fit the truth best (2.3 and 2.4)."""
        weighed = truth * self.times[:, None]
        counts = np.zeros((self.annotators, self.size, self.size))
        for annotator, (where, codes) in zip(self.who, self.given, strict=True):
            for true in range(self.size):
                counts[annotator, true] += np.bincount(codes, weights=weighed[where, true], minlength=self.size)
        number = counts.sum(axis=2, keepdims=True)
        confusion = np.divide(counts, number, out=np.zeros_like(counts), where=number > 0)
        return weighed.sum(axis=0) / self.times.sum(), confusion

    def expect(self, marginals: Matrix, confusion: Matrix) -> tuple[Matrix, float]:
        """Return the probability of each category for each row (2.5), and the log-likelihood."""
        with np.errstate(divide="ignore"):
            log_marginals, log_confusion = np.log(marginals), np.log(confusion)
        joint = np.tile(log_marginals, (self.count, 1))
        for annotator, (where, codes) in zip(self.who, self.given, strict=True):
            joint[where] += log_confusion[annotator].T[codes]
        most = joint.max(axis=1, keepdims=True)
        likely = np.exp(joint - most)
        number = likely.sum(axis=1, keepdims=True)
        return likely / number, float((self.times * (most + np.log(number))[:, 0]).sum())
