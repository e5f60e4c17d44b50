from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from sklearn.metrics import cohen_kappa_score

from include.agreement.bootstrap import bootstrap
from include.agreement.breakdown import per_annotator, per_label, per_pair, per_slice
from include.agreement.coefficients import agreement, cohen_kappa, krippendorff_alpha
from include.agreement.statistics import COEFFICIENTS, PAIR_ONLY
from include.base.errors import InvalidInput
from tests.agreement import examples
from tests.agreement.test_oracles import ratings

CODES, VALUES = examples.encode(examples.HAYES)


@pytest.mark.proves("agreement per label, per annotator, per pair and per slice")
@pytest.mark.parametrize("name", sorted({*COEFFICIENTS} - PAIR_ONLY))
def test_per_label_is_one_against_the_rest(name):
    found = per_label(name, CODES, ["none", "some", "much", "all"], resamples=50, seed=2)
    assert list(found) == ["none", "some", "much", "all"]
    for place, part in enumerate(found.values()):
        binary = np.where(CODES < 0, -1, place == CODES)
        expected = agreement(name, binary, range(2))
        assert part.agreement.value == pytest.approx(expected.value, abs=1e-12)
        assert (part.agreement.units, part.agreement.pairable) == (expected.units, expected.pairable)
        assert (part.agreement.raters, part.agreement.categories) == (5, 2)
        assert part.interval.low <= part.agreement.value <= part.interval.high


def test_a_label_that_nobody_chose_has_no_agreement():
    found = per_label("krippendorff_alpha", CODES, [0, 1, 2, 3, 4])
    assert found[4].agreement.value is None
    assert found[4].agreement.reason
    assert found[4].interval is None


@pytest.mark.proves("agreement per label, per annotator, per pair and per slice")
def test_per_pair_is_that_of_the_two():
    found = per_pair("cohen_kappa", CODES, VALUES, weights="linear", resamples=50, seed=2)
    assert len(found) == 10
    for (first, second), part in found.items():
        both = CODES[(CODES[:, first] >= 0) & (CODES[:, second] >= 0)]
        expected = cohen_kappa_score(both[:, first], both[:, second], labels=range(4), weights="linear")
        assert part.agreement.value == pytest.approx(expected)
        assert part.agreement.units == len(both)
        pair = CODES[:, [first, second]]
        assert part.interval == bootstrap("cohen_kappa", pair, VALUES, weights="linear", resamples=50, seed=2)


def test_a_pair_that_shares_no_unit_has_no_agreement():
    found = per_pair("fleiss_kappa", [[0, -1, 1], [-1, 1, 0]], "ab")
    assert found[0, 1].agreement.value is None
    assert found[0, 1].agreement.reason == "no unit has two ratings"
    assert found[0, 1].agreement.raters == 0


@pytest.mark.proves("agreement per label, per annotator, per pair and per slice")
def test_per_slice_is_that_of_its_units():
    groups = ["mail" if unit % 3 else None for unit in range(len(CODES))]
    found = per_slice("krippendorff_alpha", CODES, groups, VALUES, weights="interval", resamples=50, seed=2)
    assert list(found) == [None, "mail"]
    for group, part in found.items():
        units = [unit for unit, one in enumerate(groups) if one == group]
        assert part.agreement == krippendorff_alpha(CODES[units], VALUES, "interval")
        expected = bootstrap("krippendorff_alpha", CODES[units], VALUES, weights="interval", resamples=50, seed=2)
        assert part.interval == expected
    with pytest.raises(InvalidInput, match="found 2, allowed is one for each of the 40 units"):
        per_slice("krippendorff_alpha", CODES, ["a", "b"], VALUES)


def two(codes):
    """Write each two ratings of a unit, in both orders, as a unit of two columns, by the first one's annotator."""
    found: dict[int, list[tuple[int, int]]] = {place: [] for place in range(codes.shape[1])}
    for unit in codes:
        for first, second in permutations(range(len(unit)), 2):
            if unit[first] >= 0 and unit[second] >= 0:
                found[first].append((unit[first], unit[second]))
    return found


@pytest.mark.proves("agreement per label, per annotator, per pair and per slice")
@pytest.mark.parametrize("name", ["percent_agreement", "cohen_kappa", "fleiss_kappa", "gwet_ac", "brennan_prediger"])
@settings(max_examples=40, deadline=None)
@given(data=ratings(missing=False, raters=(2, 4)))
def test_each_annotator_is_held_against_the_others(name, data):
    codes, size = data
    found = per_annotator(name, codes, range(size))
    for place, pairs in two(codes).items():
        expected = agreement(name, np.array(pairs), range(size))
        ours = found[place].agreement
        assert ours.value == (None if expected.value is None else pytest.approx(expected.value, abs=1e-9))
        assert (ours.units, ours.raters) == (len(codes), codes.shape[1])


def test_of_two_annotators_each_has_the_agreement_of_both():
    both = CODES[:, :2]
    for part in per_annotator("krippendorff_alpha", both, VALUES, weights="ordinal").values():
        assert part.agreement.value == pytest.approx(krippendorff_alpha(both, VALUES, "ordinal").value)
    found = per_annotator("cohen_kappa", both, VALUES)
    assert found[0].agreement.value == pytest.approx(cohen_kappa(both, VALUES).value)


def test_who_guesses_agrees_least():
    random = np.random.default_rng(4)
    truth = random.integers(0, 3, 400)
    codes = np.stack([np.where(random.random(400) < sure, truth, random.integers(0, 3, 400)) for sure in (0.9, 0.8, 0)])
    found = per_annotator("krippendorff_alpha", codes.T, "abc", resamples=200, seed=1)
    values = [part.agreement.value for part in found.values()]
    assert values[0] > values[1] > values[2]
    assert found[2].interval.low < 0 < found[0].interval.low


def test_each_rating_counts_once_however_many_others_there_are():
    found = per_annotator("percent_agreement", [[0, 0, 0, 0], [0, 1, -1, -1], [0, -1, -1, -1]], "ab")
    assert found[0].agreement.value == 0.5
    assert (found[0].agreement.units, found[0].agreement.pairable) == (2, 6)
    alone = per_annotator("percent_agreement", [[0], [1]], "ab")[0].agreement
    assert (alone.value, alone.raters) == (None, 0)
