"""The coefficients against other people's code, on random ratings."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import fleiss_kappa as statsmodels_fleiss

from include.agreement.statistics import COEFFICIENTS, PAIR_ONLY
from include.agreement.weights import METRICS, WEIGHTS, distances
from tests.agreement.make import (
    agreement,
    brennan_prediger,
    cohen_kappa,
    conger_kappa,
    fleiss_kappa,
    gwet_ac,
    krippendorff_alpha,
    percent_agreement,
    scott_pi,
)

CLOSE = {"rel": 1e-9, "abs": 1e-9}
EXAMPLES = settings(max_examples=60, deadline=None)


@st.composite
def ratings(draw, raters=(2, 5), missing=True, units=(2, 14), categories=(2, 5)):
    """Codes, some missing, now and then a column that is constant or empty."""
    size = draw(st.integers(*categories))
    columns = []
    count = draw(st.integers(*units))
    for _ in range(draw(st.integers(*raters))):
        kind = draw(st.sampled_from(["any", "any", "any", "constant", *(["empty"] if missing else [])]))
        low = -1 if missing else 0
        if kind == "any":
            column = draw(st.lists(st.integers(low, size - 1), min_size=count, max_size=count))
        else:
            column = [-1 if kind == "empty" else draw(st.integers(0, size - 1))] * count
        columns.append(column)
    return np.array(columns).T, size


def numbers(codes, values):
    return np.where(codes < 0, np.nan, np.array(values, dtype=float)[codes])


@pytest.mark.proves("agreement coefficients equal those of public libraries on random data")
@pytest.mark.parametrize("metric", METRICS)
@EXAMPLES
@given(data=ratings(), start=st.integers(0, 3))
def test_alpha_is_that_of_krippendorff(metric, data, start):
    oracle = pytest.importorskip("krippendorff", reason="an oracle that only some installations have")
    codes, size = data
    values = [start + place * (place + 1) for place in range(size)]
    found = krippendorff_alpha(codes, values, metric)
    if found.value is None:
        rated = codes[(codes >= 0).sum(axis=1) >= 2]
        assert len(set(rated[rated >= 0].tolist())) < 2
        return
    expected = oracle.alpha(numbers(codes, values).T, value_domain=values, level_of_measurement=metric)
    assert found.value == pytest.approx(float(expected), **CLOSE)


@pytest.mark.proves("agreement coefficients equal those of public libraries on random data")
@pytest.mark.parametrize("weights", WEIGHTS)
@EXAMPLES
@given(data=ratings())
def test_coefficients_are_those_of_irrcac(weights, data):
    raw = pytest.importorskip("irrCAC.raw", reason="an oracle that only some installations have")
    codes, size = data
    codes = codes[:, (codes >= 0).any(axis=0)]
    codes = codes[(codes >= 0).any(axis=1)]
    assume(codes.shape[1] >= 2 and len(codes) >= 2 and ((codes >= 0).sum(axis=1) >= 2).any())
    values = [float(place * (place + 1) + 1) for place in range(size)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = raw.CAC(
            pd.DataFrame(numbers(codes, values)), weights=1 - distances(weights, values), categories=values
        )
        oracles = {"gwet_ac": "gwet", "fleiss_kappa": "fleiss", "conger_kappa": "conger", "brennan_prediger": "bp"}
        for name, method in oracles.items():
            ours = agreement(name, codes, values, weights=weights)
            assert ours.units == ((codes >= 0).sum(axis=1) >= 2).sum()
            if ours.value is None:
                assert ours.expected == pytest.approx(1.0)
                continue
            estimate = getattr(theirs, method)()["est"]
            assert ours.value == pytest.approx(estimate["coefficient_value"], abs=6e-6, rel=1e-4), name
            assert ours.observed == pytest.approx(estimate["pa"], abs=6e-6)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_weights_are_those_of_irrcac(weights):
    theirs = pytest.importorskip("irrCAC.weights", reason="an oracle that only some installations have")
    for values in ([1, 2, 3], [1.0, 2.0, 4.0, 9.0], ["a", "b", "c", "d"]):
        assert 1 - distances(weights, values) == pytest.approx(theirs.Weights(values)[weights])


@EXAMPLES
@given(data=ratings(raters=(2, 2), missing=False), weights=st.sampled_from([None, "linear", "quadratic"]))
def test_cohen_is_that_of_scikit_learn(data, weights):
    codes, size = data
    found = cohen_kappa(codes, range(size), weights)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = cohen_kappa_score(codes[:, 0], codes[:, 1], labels=range(size), weights=weights)
    if found.value is None:
        assert len(set(codes.ravel().tolist())) == 1
    else:
        assert found.value == pytest.approx(expected, **CLOSE)


@EXAMPLES
@given(data=ratings(raters=(2, 5), missing=False))
def test_fleiss_is_that_of_statsmodels(data):
    codes, size = data
    counts = np.stack([np.bincount(unit, minlength=size) for unit in codes])
    found = fleiss_kappa(codes, range(size))
    if found.value is None:
        assert (counts.sum(axis=0) > 0).sum() == 1
    else:
        assert found.value == pytest.approx(statsmodels_fleiss(counts), **CLOSE)
        uniform = statsmodels_fleiss(counts, method="uniform")
        assert brennan_prediger(codes, range(size)).value == pytest.approx(uniform, **CLOSE)


@EXAMPLES
@given(data=ratings(raters=(2, 5), missing=False))
def test_coefficients_are_those_of_nltk(data):
    from nltk.metrics.agreement import AnnotationTask

    codes, _ = data
    used = np.unique(codes)
    assume(len(used) > 1)
    codes = np.searchsorted(used, codes)
    task = AnnotationTask(
        [(rater, unit, int(codes[unit, rater])) for unit in range(len(codes)) for rater in range(codes.shape[1])]
    )
    assert percent_agreement(codes).value == pytest.approx(task.avg_Ao(), **CLOSE)
    assert brennan_prediger(codes).value == pytest.approx(task.S(), **CLOSE)
    assert krippendorff_alpha(codes).value == pytest.approx(task.alpha(), **CLOSE)
    assert fleiss_kappa(codes).value == pytest.approx(task.pi(), **CLOSE)
    conger = conger_kappa(codes)
    assert conger.value == pytest.approx(task.multi_kappa(), **CLOSE)
    if codes.shape[1] == 2:
        assert scott_pi(codes).value == pytest.approx(task.pi(), **CLOSE)
        assert cohen_kappa(codes).value == pytest.approx(conger.value, **CLOSE)


def settled(name, codes, values, weights):
    found = agreement(name, codes, values, weights=weights)
    return found.value, found.observed, found.units, found.pairable, found.reason


@pytest.mark.parametrize("name", COEFFICIENTS)
@EXAMPLES
@given(data=ratings(), random=st.randoms(use_true_random=False))
def test_order_and_names_do_not_matter(name, data, random):
    codes, size = data
    codes = codes[:, :2] if name in PAIR_ONLY else codes
    units, raters, names = (random.sample(range(n), n) for n in (*codes.shape, size))
    renamed = np.append(names, -1)[codes]
    first = settled(name, codes, range(size), None)
    for other in (codes[units], codes[:, raters], renamed):
        again = settled(name, other, range(size), None)
        assert again[2:] == first[2:]
        assert again[0] == (None if first[0] is None else pytest.approx(first[0], **CLOSE))
        assert again[1] == (None if first[1] is None else pytest.approx(first[1], **CLOSE))


@EXAMPLES
@given(data=ratings(), scale=st.integers(1, 9), shift=st.integers(-5, 5))
def test_a_scale_may_be_stretched_and_moved(data, scale, shift):
    codes, size = data
    values = [place**2 for place in range(size)]
    moved = [value * scale + shift for value in values]
    for measure in (krippendorff_alpha, gwet_ac):
        metric = "interval" if measure is krippendorff_alpha else "linear"
        first, again = measure(codes, values, metric).value, measure(codes, moved, metric).value
        assert again == (None if first is None else pytest.approx(first, **CLOSE))


@EXAMPLES
@given(data=ratings(units=(1, 6)))
def test_units_of_one_rating_say_nothing_to_alpha(data):
    codes, size = data
    lone = np.full((3, codes.shape[1]), -1)
    lone[:, 0] = 0, 1, -1
    assert krippendorff_alpha(np.vstack([codes, lone]), range(size)) == krippendorff_alpha(codes, range(size))
