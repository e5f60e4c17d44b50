"""The jobs on agreement: alpha and its interval on many units, ours and the public libraries."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.measure import job, timed
from tests.bench.table import Line, block, line, run

CATEGORIES = 5
RUNS = 3
UNITS = 100_000
RATERS = 5
RESAMPLES = 1_000
PLAIN_RESAMPLES = 10


def _best(found: dict[str, Any], work: Callable[[], float | None]) -> dict[str, Any]:
    """Put the fastest of three runs into ``found``, and the value."""
    runs = []
    for _ in range(RUNS):
        with timed(found):
            found["value"] = work()
        runs.append(found["seconds"])
    return {**found, "seconds": min(runs)}


def _codes(units: int, raters: int) -> np.ndarray:
    """Return ratings that are right seven times in ten and missing once in ten."""
    random = np.random.default_rng(11)
    truth = random.integers(0, CATEGORIES, units)
    shape = (units, raters)
    codes = np.where(random.random(shape) < 0.7, truth[:, None], random.integers(0, CATEGORIES, shape))
    codes[random.random(shape) < 0.1] = -1
    return codes


@job
def our_alpha(units: str, raters: str, metric: str) -> dict[str, Any]:
    """Ours, from the codes."""
    from include.agreement.breakdown import whole

    codes = _codes(int(units), int(raters))
    values = range(1, CATEGORIES + 1)

    def work() -> float | None:
        return whole("krippendorff_alpha", codes, values, weights=metric).agreement.value

    return _best({"count": int(units)}, work)


@job
def krippendorff_alpha(units: str, raters: str, metric: str) -> dict[str, Any]:
    """The package krippendorff, from the matrix of numbers that it takes."""
    import krippendorff

    codes = _codes(int(units), int(raters))
    numbers = np.where(codes < 0, np.nan, codes + 1.0).T
    return _best({"count": int(units)}, lambda: float(krippendorff.alpha(numbers, level_of_measurement=metric)))


@job
def irrcac_alpha(units: str, raters: str, metric: str) -> dict[str, Any]:
    """The package irrCAC, from the data frame that it takes. Quadratic weights are the interval metric.

    The categories are named, for with pandas 3 it takes "missing" for one of them.
    """
    import pandas
    from irrCAC.raw import CAC

    codes = _codes(int(units), int(raters))
    frame = pandas.DataFrame(np.where(codes < 0, np.nan, codes + 1.0))
    weights = {"nominal": "identity", "interval": "quadratic"}[metric]

    def work() -> float:
        task = CAC(frame, weights=weights, categories=[1.0, 2.0, 3.0, 4.0, 5.0], digits=15)
        return float(task.krippendorff()["est"]["coefficient_value"])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _best({"count": int(units)}, work)


@job
def nltk_alpha(units: str, raters: str, metric: str) -> dict[str, Any]:
    """NLTK's AnnotationTask, from the triples that it takes."""
    from nltk.metrics.agreement import AnnotationTask
    from nltk.metrics.distance import binary_distance, interval_distance

    codes = _codes(int(units), int(raters))
    triples = [(rater, unit, int(codes[unit, rater]) + 1) for unit, rater in zip(*np.nonzero(codes >= 0), strict=True)]
    distance = {"nominal": binary_distance, "interval": interval_distance}[metric]
    return _best({"count": int(units)}, lambda: float(AnnotationTask(triples, distance=distance).alpha()))


@job
def our_bootstrap(units: str, raters: str, name: str, resamples: str) -> dict[str, Any]:
    """An interval, from the codes."""
    from include.agreement.breakdown import whole

    codes = _codes(int(units), int(raters))
    found: dict[str, Any] = {"count": int(resamples)}
    with timed(found):
        part = whole(name, codes, range(CATEGORIES), seed=1, resamples=int(resamples))  # type: ignore[arg-type]
    assert part.interval is not None
    return {**found, "low": part.interval.low, "high": part.interval.high}


@job
def plain_bootstrap(units: str, raters: str, resamples: str) -> dict[str, Any]:
    """The same with the matrix drawn anew each time and alpha worked out from it by the package krippendorff."""
    import krippendorff

    codes = _codes(int(units), int(raters))
    numbers = np.where(codes < 0, np.nan, codes + 1.0).T
    random = np.random.default_rng(1)
    found: dict[str, Any] = {"count": int(resamples)}
    with timed(found):
        for _ in range(int(resamples)):
            drawn = numbers[:, random.integers(0, numbers.shape[1], numbers.shape[1])]
            krippendorff.alpha(drawn, level_of_measurement="nominal")
    return found


@job
def our_dawid_skene(units: str, raters: str) -> dict[str, Any]:
    """Labels and error rates, from the codes."""
    from include.agreement.dawid_skene import dawid_skene

    codes = _codes(int(units), int(raters))
    found: dict[str, Any] = {"count": int(units)}
    with timed(found):
        fitted = dawid_skene(codes, range(CATEGORIES))
    return {**found, "steps": fitted.steps}


# --- the table -------------------------------------------------------------------------------------------------------


@block
def agreement(folder: Path) -> list[Line]:
    """Alpha and its interval, against the public libraries."""
    lines = []
    for metric in ("nominal", "interval"):
        ours = run(folder, "our_alpha", UNITS, RATERS, metric)
        lines.append(line(f"alpha, {metric}, {UNITS:,} units × {RATERS}", ours))
        for library in ("krippendorff", "irrcac", "nltk"):
            theirs = run(folder, f"{library}_alpha", UNITS, RATERS, metric)
            apart = abs(theirs["value"] - ours["value"])
            lines.append(line(f"the same, `{library}`", theirs, ours, f"; value {apart:.0e} off"))
    plain = run(folder, "plain_bootstrap", UNITS, RATERS, PLAIN_RESAMPLES)
    lines.append(line(f"{PLAIN_RESAMPLES} resamples of the matrix, `krippendorff` on each", plain))
    for name, what in (("krippendorff_alpha", "alpha"), ("conger_kappa", "Conger's kappa")):
        ours = run(folder, "our_bootstrap", UNITS, RATERS, name, RESAMPLES)
        lines.append(line(f"{RESAMPLES:,} resamples, {what}", ours, plain))
    fitted = run(folder, "our_dawid_skene", UNITS, RATERS)
    return [*lines, line(f"Dawid-Skene on the same, {fitted['steps']} steps", fitted)]
