"""Where a coefficient is undefined, and what is refused."""

import numpy as np
import pytest

from include.agreement.patterns import gather
from include.agreement.statistics import COEFFICIENTS
from include.agreement.weights import METRICS, WEIGHTS, distances
from include.base.errors import InvalidInput
from tests.agreement.make import (
    agreement,
    brennan_prediger,
    cohen_kappa,
    conger_kappa,
    gwet_ac,
    krippendorff_alpha,
    percent_agreement,
    scott_pi,
)


@pytest.mark.proves("an undefined agreement is reported as such, with the reason, never as a number")
@pytest.mark.parametrize("name", COEFFICIENTS)
@pytest.mark.parametrize(
    "codes",
    [np.empty((0, 2), int), [[0, -1], [-1, 1]], [[-1, -1], [-1, -1]], np.empty((3, 2), int) * 0 - 1],
    ids=["no units", "nobody twice", "nothing", "empty"],
)
def test_without_pairs_nothing_can_be_said(name, codes):
    found = agreement(name, codes, ["a", "b"])
    assert (found.value, found.observed, found.expected) == (None, None, None)
    assert found.reason == "no unit has two ratings"
    assert (found.units, found.pairable) == (0, 0)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("values", [[1, 2, 3], [1]])
def test_alpha_without_variation_is_undefined(metric, values):
    found = krippendorff_alpha([[0, 0], [0, 0]], values, metric)
    assert found.value is None
    assert found.reason == "no disagreement is to be expected: the ratings do not vary"
    assert found.units == 2


def test_kappas_without_variation_are_undefined():
    same = [[1, 1, 1], [1, 1, -1]]
    for name in ("fleiss_kappa", "conger_kappa"):
        assert agreement(name, same).value is None
    for name in (cohen_kappa, scott_pi):
        assert name([[1, 1], [1, 1]]).value is None
    assert conger_kappa([[0], [1]]).reason == "no unit has two ratings"


def test_coefficients_whose_chance_stays_are_one_when_all_agree():
    same = [[1, 1, 1], [1, 1, -1]]
    assert gwet_ac(same, "ab").value == brennan_prediger(same, "ab").value == percent_agreement(same, "ab").value == 1.0
    assert gwet_ac([[0, 0]], "a").value is None
    assert brennan_prediger([[0, 0]], "a").value is None


def test_categories_that_nobody_chose_count_as_chance():
    codes = [[0, 0], [0, 1], [1, 1]]
    assert brennan_prediger(codes, "ab").value == pytest.approx(1 / 3)
    assert brennan_prediger(codes, "abcd").value == pytest.approx(1 - (1 / 3) / (3 / 4))
    assert krippendorff_alpha(codes, "abcd").value == krippendorff_alpha(codes).value


@pytest.mark.parametrize(
    ("codes", "values", "weights", "named"),
    [
        ([[0.0, 1.0]], None, None, "integers"),
        ([0, 1], None, None, r"shape \(2,\)"),
        ([[0, -2]], None, None, "found -2 to 0"),
        ([[0, 3]], "abc", None, "allowed are -1 (missing) to 2"),
        ([[0, 1]], None, "cubic", "'cubic'"),
        ([[0, 1]], [2, 2], "linear", "distinct"),
        ([[0, 1]], [2, 1], "ordinal", "lowest to highest"),
        ([[0, 1]], [-1, 1], "ratio", "no negative"),
        ([[0, 1]], [1, float("inf")], "linear", "finite"),
        ([[0, 1]], None, np.eye(3), "shape (3, 3)"),
        ([[0, 1]], None, np.array([[1, 0.5], [0, 1]]), "symmetric"),
    ],
)
def test_what_is_refused_is_named(codes, values, weights, named):
    with pytest.raises(InvalidInput) as refused:
        agreement("gwet_ac", codes, values, weights=weights)
    assert named.replace("\\", "") in str(refused.value)


def test_names_are_checked():
    with pytest.raises(InvalidInput, match="allowed are percent_agreement"):
        agreement("gamma", [[0, 1]])  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="found 3 columns"):
        cohen_kappa([[0, 1, 1]])
    with pytest.raises(InvalidInput, match="allowed are nominal"):
        krippendorff_alpha([[0, 1]], weights="linear")
    with pytest.raises(InvalidInput, match="ordinal"):
        krippendorff_alpha([[0, 1]], [2, 1], "ordinal")


@pytest.mark.parametrize("weights", WEIGHTS)
def test_distances_are_shares(weights):
    found = distances(weights, [1, 2, 4, 8])
    assert np.array_equal(found, found.T)
    assert (np.diag(found) == 0).all()
    assert found.min() == 0
    assert found.max() == 1


def test_many_columns_of_many_categories_are_told_apart():
    random = np.random.default_rng(5)
    rows = random.integers(-1, 1000, size=(40, 60))
    codes = np.vstack([rows, rows[::2]])
    found = gather(codes, 1000, ordered=True, least=0)
    expected, times = np.unique(codes, axis=0, return_counts=True)
    assert np.array_equal(found.rows, expected)
    assert np.array_equal(found.times, times)


@pytest.mark.parametrize("name", COEFFICIENTS)
def test_thousands_of_categories_need_no_matrix_of_them(name, monkeypatch):
    monkeypatch.setattr("include.agreement.statistics.distances", None)
    random = np.random.default_rng(6)
    codes = random.integers(0, 20_000, size=(50, 2))
    codes[:30, 1] = codes[:30, 0]
    found = agreement(name, codes, range(20_000))
    assert found.observed == pytest.approx(0.6)
    assert 0.5 < found.value < 0.61


@pytest.mark.parametrize("name", COEFFICIENTS)
def test_plain_equality_is_the_matrix_of_identity(name):
    random = np.random.default_rng(6)
    codes = random.integers(-1, 4, size=(60, 2))
    plain, matrix = agreement(name, codes, range(4)), agreement(name, codes, range(4), weights=np.eye(4))
    assert matrix.weights == "own"
    assert matrix.value == pytest.approx(plain.value, abs=1e-12)
    assert matrix.observed == pytest.approx(plain.observed, abs=1e-12)
