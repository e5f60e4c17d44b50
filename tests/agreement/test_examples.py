"""Every number that the sources print comes out to its last digit."""

import numpy as np
import pytest

from include.agreement.weights import distances
from tests.agreement import examples
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

EXACT = 1e-14


def at(digits: int) -> float:
    return 0.5 * 10**-digits


@pytest.mark.proves("published agreement coefficients are reproduced to their printed digits")
@pytest.mark.parametrize(
    ("data", "metric", "value"),
    [
        (examples.KRIPPENDORFF_D, "nominal", 0.743421052631579),
        (examples.KRIPPENDORFF_D, "ordinal", 0.815387503754881),
        (examples.KRIPPENDORFF_D, "interval", 0.849107142857143),
        (examples.KRIPPENDORFF_D, "ratio", 0.797402774711612),
        (examples.HAYES, "nominal", 0.476509567418658),
        (examples.HAYES, "ordinal", 0.759829189151434),
        (examples.HAYES, "interval", 0.757378277153558),
        (examples.HAYES, "ratio", 0.662122966175986),
        (examples.BINARY, "nominal", 0.095238095238095),
        (examples.NOMINAL, "nominal", 0.691964285714286),
        (examples.ENCYCLOPAEDIA, "nominal", 0.691358024691358),
        (examples.ENCYCLOPAEDIA, "interval", 0.810844892812106),
        (examples.ENCYCLOPAEDIA, "ordinal", 0.806721419941315),
    ],
)
def test_krippendorff(data, metric, value):
    codes, values = examples.encode(data)
    assert krippendorff_alpha(codes, values, metric).value == pytest.approx(value, abs=1e-15 + at(15))


@pytest.mark.proves("published agreement coefficients are reproduced to their printed digits")
@pytest.mark.parametrize(
    ("data", "name", "weights", "value"),
    [
        (examples.KRIPPENDORFF_D, "percent_agreement", None, 0.81818),
        (examples.KRIPPENDORFF_D, "gwet_ac", None, 0.77544),
        (examples.KRIPPENDORFF_D, "fleiss_kappa", None, 0.76117),
        (examples.KRIPPENDORFF_D, "conger_kappa", None, 0.76207),
        (examples.KRIPPENDORFF_D, "brennan_prediger", None, 0.77273),
        (examples.KRIPPENDORFF_D, "gwet_ac", "ordinal", 0.89894),
        (examples.KRIPPENDORFF_D, "gwet_ac", "linear", 0.85874),
        (examples.KRIPPENDORFF_D, "gwet_ac", "quadratic", 0.91400),
        (examples.HAYES, "percent_agreement", None, 0.62500),
        (examples.HAYES, "gwet_ac", None, 0.50935),
        (examples.HAYES, "fleiss_kappa", None, 0.46968),
        (examples.HAYES, "conger_kappa", None, 0.47261),
        (examples.HAYES, "brennan_prediger", None, 0.5),
    ],
)
def test_gwet(data, name, weights, value):
    codes, values = examples.encode(data)
    assert agreement(name, codes, values, weights=weights).value == pytest.approx(value, abs=at(5))


def test_gwet_s_ordinal_weights_are_not_krippendorff_s_metric():
    codes, values = examples.encode(examples.KRIPPENDORFF_D)
    with_weights = krippendorff_alpha(codes, values, 1 - distances("ordinal", values))
    assert with_weights.value == pytest.approx(0.83364, abs=at(5))
    assert with_weights.weights == "own"
    quadratic = krippendorff_alpha(codes, values, 1 - distances("quadratic", values))
    assert quadratic.value == pytest.approx(0.84911, abs=at(5))


def test_a_lone_rating_moves_conger_alone():
    codes, values = examples.encode(examples.KRIPPENDORFF_D)
    moved = codes.copy()
    moved[11] = [-1, -1, 2, -1]
    assert conger_kappa(moved, values).value == pytest.approx(0.76282, abs=at(5))
    for same in (krippendorff_alpha, gwet_ac, fleiss_kappa):
        assert same(moved, values).value == same(codes, values).value


@pytest.mark.proves("published agreement coefficients are reproduced to their printed digits")
def test_artstein_and_poesio():
    codes = examples.from_table([[20, 10], [20, 50]])
    observed = percent_agreement(codes)
    assert observed.value == observed.observed == pytest.approx(0.7, abs=EXACT)
    assert observed.expected is None
    assert brennan_prediger(codes).value == pytest.approx(0.4, abs=EXACT)
    assert scott_pi(codes).value == pytest.approx(0.340659340659341, abs=at(15))
    assert cohen_kappa(codes).value == pytest.approx(0.347826086956522, abs=at(15))
    assert krippendorff_alpha(codes).value == pytest.approx(0.343956043956044, abs=at(15))


@pytest.mark.proves("published agreement coefficients are reproduced to their printed digits")
def test_fleiss():
    found = fleiss_kappa(examples.FLEISS, range(5))
    assert found.value == pytest.approx(0.20993070442195522, abs=1e-16 + EXACT)
    assert (found.units, found.pairable, found.categories) == (10, 140, 5)


def test_cohen():
    assert cohen_kappa(examples.from_table([[20, 5], [10, 15]])).value == pytest.approx(0.4, abs=EXACT)


@pytest.mark.proves("published agreement coefficients are reproduced to their printed digits")
@pytest.mark.parametrize(
    ("table", "values"),
    [
        (examples.ABSTRACTORS, (0.89, 0.79641, 0.84933, 0.79624, 0.79726, 0.835)),
        (examples.DIAGNOSIS, (0.58744, 0.4315, 0.45616, 0.43034, 0.43162, 0.44993)),
    ],
)
def test_gwet_s_tables(table, values):
    codes = examples.from_table(table)
    measures = (percent_agreement, cohen_kappa, gwet_ac, scott_pi, krippendorff_alpha, brennan_prediger)
    for measure, value in zip(measures, values, strict=True):
        assert measure(codes).value == pytest.approx(value, abs=at(5)), measure


def test_what_a_result_rests_on():
    codes, values = examples.encode(examples.KRIPPENDORFF_D)
    found = krippendorff_alpha(codes, values)
    assert (found.units, found.pairable, found.raters, found.categories) == (11, 40, 4, 5)
    assert (found.coefficient, found.weights, found.reason) == ("krippendorff_alpha", "nominal", None)
    assert found.value == pytest.approx((found.observed - found.expected) / (1 - found.expected), abs=EXACT)
    weighted = gwet_ac(codes, values, "quadratic")
    assert weighted.value == pytest.approx((weighted.observed - weighted.expected) / (1 - weighted.expected), abs=EXACT)
    assert np.array_equal(codes, examples.encode(examples.KRIPPENDORFF_D)[0])
