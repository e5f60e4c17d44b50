import numpy as np
import pytest
import scipy.stats

from include.agreement import bootstrap as module
from include.agreement.breakdown import whole
from include.base.errors import InvalidInput
from tests.agreement import examples
from tests.agreement.make import agreement

CODES, VALUES = examples.encode(examples.HAYES)
ORDINAL = (0.627863334381, 0.842349254381)
TILED = (0.453797398643, 0.491413263805)


def bootstrap(name, codes, values=None, *, resamples=1000, **more):
    return whole(name, codes, values, resamples=resamples, **more).interval


def ends(found):
    return found.low, found.high


@pytest.mark.proves("a bootstrap interval with the same seed has the same digits everywhere")
def test_a_seed_fixes_the_digits():
    unit_by_unit = bootstrap("krippendorff_alpha", CODES, VALUES, weights="ordinal", seed=1)
    assert ends(unit_by_unit) == ORDINAL
    by_pattern = bootstrap("krippendorff_alpha", np.tile(CODES, (50, 1)), VALUES, seed=1)
    assert ends(by_pattern) == TILED
    assert (by_pattern.units, by_pattern.undefined, by_pattern.reason) == (2000, 0, None)
    assert ends(bootstrap("krippendorff_alpha", CODES, VALUES, weights="ordinal", seed=2)) != ORDINAL


@pytest.mark.parametrize("times", [1, 50])
def test_the_order_of_units_and_annotators_changes_nothing(times):
    codes = np.tile(CODES, (times, 1))
    mixed = codes[np.random.default_rng(3).permutation(len(codes))]
    first = bootstrap("krippendorff_alpha", codes, VALUES, seed=7, resamples=200)
    assert bootstrap("krippendorff_alpha", mixed[:, [4, 0, 2, 1, 3]], VALUES, seed=7, resamples=200) == first
    by_rater = bootstrap("conger_kappa", codes, VALUES, seed=7, resamples=200)
    assert bootstrap("conger_kappa", mixed, VALUES, seed=7, resamples=200) == by_rater


@pytest.mark.parametrize("times", [1, 50])
def test_how_much_is_held_at_a_time_changes_nothing(monkeypatch, times):
    codes = np.tile(CODES, (times, 1))
    first = bootstrap("gwet_ac", codes, VALUES, weights="linear", seed=7, resamples=100)
    monkeypatch.setattr(module, "CELLS", 300)
    monkeypatch.setattr("include.agreement.statistics.CELLS", 50)
    assert bootstrap("gwet_ac", codes, VALUES, weights="linear", seed=7, resamples=100) == first


@pytest.mark.parametrize(
    ("name", "weights"), [("krippendorff_alpha", "ordinal"), ("conger_kappa", None), ("gwet_ac", "quadratic")]
)
def test_intervals_are_those_of_scipy(name, weights):
    codes = CODES[(CODES >= 0).sum(axis=1) >= 2]

    def value(units):
        return agreement(name, codes[units.astype(int)], VALUES, weights=weights).value

    way = {"vectorized": False, "n_resamples": 1500, "method": "percentile"}
    theirs = scipy.stats.bootstrap((np.arange(len(codes)),), value, **way, rng=np.random.default_rng(1))
    ours = bootstrap(name, codes, VALUES, weights=weights, seed=1, resamples=20_000)
    spread = theirs.standard_error
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.25 * spread)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.25 * spread)


def test_drawing_patterns_is_drawing_units(monkeypatch):
    codes = np.tile(CODES, (50, 1))
    by_pattern = bootstrap("krippendorff_alpha", codes, VALUES, seed=1, resamples=20_000)
    monkeypatch.setattr(module, "FEW_PATTERNS", len(codes))
    unit_by_unit = bootstrap("krippendorff_alpha", codes, VALUES, seed=1, resamples=20_000)
    assert ends(by_pattern) != ends(unit_by_unit)
    assert ends(by_pattern) == pytest.approx(ends(unit_by_unit), abs=0.002)


@pytest.mark.proves("a bootstrap interval says how many resamples were undefined")
def test_undefined_resamples_are_counted():
    codes = np.zeros((30, 2), int)
    codes[0] = 1
    found = bootstrap("krippendorff_alpha", codes, seed=5)
    assert 300 < found.undefined < 430  # (29/30)^30 = 0.36 of them miss the one unit that differs
    assert ends(found) == (1.0, 1.0)
    never = bootstrap("krippendorff_alpha", np.zeros((30, 2), int), seed=5)
    assert ends(never) == (None, None)
    assert never.reason == "the coefficient itself is undefined"


def test_too_little_to_resample():
    found = bootstrap("krippendorff_alpha", [[0, 1], [0, -1]], seed=5)
    assert (found.units, found.low) == (1, None)
    assert "fewer than two units" in found.reason


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"seed": True}, {"seed": 1.0}, {"resamples": -1}])
def test_what_is_refused(wrong):
    with pytest.raises(InvalidInput, match=next(iter(wrong))):
        bootstrap("krippendorff_alpha", CODES, VALUES, **{"seed": 1, **wrong})
