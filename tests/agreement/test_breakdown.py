from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from sklearn.metrics import cohen_kappa_score

from include.agreement.breakdown import per_annotator, whole
from include.agreement.given import gather
from include.agreement.statistics import COEFFICIENTS, PAIR_ONLY
from include.agreement.units import units_of
from tests.agreement import examples
from tests.agreement.make import agreement, choice
from tests.agreement.make import given as answer
from tests.agreement.test_oracles import ratings

CODES, VALUES = examples.encode(examples.HAYES)


def units(groups=None):
    """Return the ratings as answers give them, unit by unit in slices."""
    groups = groups or [""] * len(CODES)
    answers = [
        answer(f"{unit:02}", f"p{rater}", choice(VALUES[code]), group=groups[unit])
        for unit, row in enumerate(CODES)
        for rater, code in enumerate(row)
        if code >= 0
    ]
    return units_of(gather(answers, tasks=[f"{unit:02}" for unit in range(len(CODES))]), labels=VALUES)


@pytest.mark.proves("agreement per label, per annotator, per pair and per slice")
@pytest.mark.parametrize("name", sorted({*COEFFICIENTS} - PAIR_ONLY))
def test_per_label_is_one_against_the_rest(name):
    for place, label in enumerate(VALUES):
        one = units().for_label(label)
        part = whole(name, one.matrix(), one.names, resamples=50, seed=2)
        binary = np.where(CODES < 0, -1, place == CODES)
        assert part.agreement == agreement(name, binary, range(2))
        assert (part.agreement.raters, part.agreement.categories) == (5, 2)
        assert part.interval.low <= part.agreement.value <= part.interval.high


def test_a_label_that_nobody_chose_has_no_agreement():
    one = units().for_label(9)
    part = whole("krippendorff_alpha", one.matrix(), one.names)
    assert part.agreement.value is None
    assert part.agreement.reason
    assert part.interval is None


@pytest.mark.proves("agreement per label, per annotator, per pair and per slice")
def test_per_pair_is_that_of_the_two():
    for first, second in combinations(range(5), 2):
        pair = units().of_raters(f"p{first}", f"p{second}").matrix()
        assert (np.delete(pair, [first, second], axis=1) == -1).all()
        found = whole("cohen_kappa", pair[:, [first, second]], VALUES, weights="linear").agreement
        both = CODES[(CODES[:, first] >= 0) & (CODES[:, second] >= 0)]
        expected = cohen_kappa_score(both[:, first], both[:, second], labels=range(4), weights="linear")
        assert (found.value, found.units) == (pytest.approx(expected), len(both))


def test_a_pair_that_shares_no_unit_has_no_agreement():
    found = whole("fleiss_kappa", [[0, -1], [-1, 1]], "ab").agreement
    assert (found.value, found.reason) == (None, "no unit has two ratings")


@pytest.mark.proves("agreement per label, per annotator, per pair and per slice")
def test_per_slice_is_that_of_its_units():
    groups = ["mail" if unit % 3 else "" for unit in range(len(CODES))]
    for group in set(groups):
        chosen = [unit for unit, one in enumerate(groups) if one == group]
        part, expected = (
            whole("krippendorff_alpha", codes, VALUES, weights="interval", resamples=50, seed=2)
            for codes in (units(groups).of_group(group).matrix(), CODES[chosen])
        )
        assert part == expected


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
    for name in ("krippendorff_alpha", "cohen_kappa"):
        expected = pytest.approx(agreement(name, both, VALUES).value)
        assert [part.agreement.value for part in per_annotator(name, both, VALUES).values()] == [expected] * 2


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
