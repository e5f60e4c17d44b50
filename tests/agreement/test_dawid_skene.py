import numpy as np
import pytest
from hypothesis import given, settings

from include.agreement.dawid_skene import dawid_skene
from include.base.errors import InvalidInput
from tests.agreement import examples
from tests.agreement.test_oracles import ratings

OBSERVERS = [0, 0, 0, 1, 2, 3, 4]
LABELS = "1 4 2 2 2 2 1 3 2 2 4 3 1 2 1 1 1 1 2 2 2 2 2 2 1 1 2 1 1 1 1 3 1 2 2 4 2 3 3 1 1 1 2 1 2"


@pytest.mark.proves("Dawid and Skene's published estimates are reproduced to their printed digits")
def test_the_anaesthetists_of_the_paper():
    found = dawid_skene(examples.DAWID, [1, 2, 3, 4], OBSERVERS)
    assert found.converged
    assert found.marginals == pytest.approx([0.3996, 0.4220, 0.1118, 0.0667], abs=5e-5)
    assert found.log_likelihood == pytest.approx(-192.890881, abs=5e-7)
    first = [[0.889, 0.111, 0, 0], [0.071, 0.876, 0.053, 0], [0, 0.339, 0.661, 0], [0, 0, 0.556, 0.444]]
    assert found.confusion[0] == pytest.approx(np.array(first), abs=5e-4)
    assert found.confusion.shape == (5, 4, 4)
    assert [label + 1 for label in found.labels] == [int(one) for one in LABELS.split()]


def by_hand(codes, size, who, steps):
    """The paper's equations, rating by rating."""
    units, count = len(codes), max(who) + 1
    given_by = np.zeros((units, count, size))
    for unit, row in enumerate(codes):
        for column, code in enumerate(row):
            if code >= 0:
                given_by[unit, who[column], code] += 1
    truth = given_by.sum(axis=1) / given_by.sum(axis=(1, 2))[:, None]
    for _ in range(steps):
        marginals = truth.mean(axis=0)
        confusion = np.einsum("uj,uak->ajk", truth, given_by)
        sums = confusion.sum(axis=2, keepdims=True)
        confusion = np.where(sums > 0, confusion / np.where(sums > 0, sums, 1), 0)
        joint = marginals * (confusion[None] ** given_by[:, :, None, :]).prod(axis=(1, 3))
        truth = joint / joint.sum(axis=1, keepdims=True)
    return truth, marginals, confusion, np.log(joint.sum(axis=1)).sum()


@settings(max_examples=60, deadline=None)
@given(data=ratings(raters=(3, 5)))
def test_each_step_is_that_of_the_equations(data):
    codes, size = data
    codes = np.vstack([codes, np.zeros((1, codes.shape[1]), int)])
    codes = codes[(codes >= 0).any(axis=1)]
    who = [0, 0, *range(1, codes.shape[1] - 1)]
    before = -np.inf
    for steps in (1, 2, 5):
        found = dawid_skene(codes, range(size), who, steps=steps, tolerance=0)
        truth, marginals, confusion, likelihood = by_hand(codes, size, who, steps)
        assert found.posterior == pytest.approx(truth, abs=1e-8)
        assert found.marginals == pytest.approx(marginals, abs=1e-8)
        assert found.confusion == pytest.approx(confusion, abs=1e-8)
        assert found.log_likelihood == pytest.approx(likelihood, abs=1e-8)
        assert found.log_likelihood >= before - 1e-9
        before = found.log_likelihood
        assert (found.steps, found.converged) == (steps, False) or found.converged


def test_it_finds_who_is_right_where_the_majority_is_wrong():
    random = np.random.default_rng(8)
    truth = random.integers(0, 3, 2000)
    sure = [0.97, 0.95, 0.2, 0.2, 0.2]
    columns = [np.where(random.random(2000) < each, truth, random.integers(0, 3, 2000)) for each in sure]
    codes = np.stack(columns, axis=1)
    codes[random.random(codes.shape) < 0.1] = -1
    codes[0] = -1
    found = dawid_skene(codes)
    counts = np.stack([(codes == label).sum(axis=1) for label in range(3)], axis=1)
    assert (found.labels == truth).mean() > 0.95 > (counts.argmax(axis=1) == truth).mean() + 0.05
    right = [each + (1 - each) / 3 for each in sure]
    assert found.accuracy == pytest.approx(right, abs=0.04)
    assert found.labels[0] == -1
    assert found.posterior[0] == pytest.approx(found.marginals)


def test_order_and_names_do_not_matter():
    first = dawid_skene(examples.DAWID, range(4), OBSERVERS)
    units = np.random.default_rng(1).permutation(45)
    names = np.array([2, 0, 3, 1])
    again = dawid_skene(names[examples.DAWID][units][:, ::-1], range(4), OBSERVERS[::-1])
    assert np.array_equal(again.labels, names[first.labels][units])
    assert again.log_likelihood == pytest.approx(first.log_likelihood)
    assert again.confusion[3][np.ix_(names, names)] == pytest.approx(first.confusion[3], abs=1e-6)


def test_what_is_refused():
    with pytest.raises(InvalidInput, match="no rating"):
        dawid_skene([[-1, -1]], "ab")
    with pytest.raises(InvalidInput, match="one number for each of 2 columns"):
        dawid_skene([[0, 1]], "ab", [0])
    with pytest.raises(InvalidInput, match="without a gap"):
        dawid_skene([[0, 1]], "ab", [0, 2])
