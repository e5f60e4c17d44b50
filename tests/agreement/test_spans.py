import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nervaluate import Evaluator
from scipy.optimize import linear_sum_assignment

from include.agreement.spans import Mark, labels_in, only, rectangle, span, span_agreement
from include.base.errors import InvalidInput

LABELS = ["PER", "ORG"]
EXAMPLES = settings(max_examples=120, deadline=None)


@st.composite
def apart(draw):
    """Spans that do not overlap, in the order of the text."""
    ends = sorted(draw(st.sets(st.integers(0, 24), max_size=8)))
    pairs = list(zip(ends[::2], ends[1::2], strict=False))
    return [span(start, end, draw(st.sampled_from(LABELS))) for start, end in pairs]


@st.composite
def anything(draw, axes):
    """Marks that may overlap and repeat."""
    low = st.integers(0, 6)
    end = st.integers(1, 6)
    marks = []
    for _ in range(draw(st.integers(0, 5))):
        extent = tuple((start, start + draw(end)) for start in draw(st.lists(low, min_size=axes, max_size=axes)))
        marks.append(Mark(draw(st.sampled_from(LABELS)), extent))
    return marks


def theirs(first, second):
    """The F1 of nervaluate, whose ends are inside."""
    documents = [
        [
            [{"label": mark.label, "start": mark.extent[0][0], "end": mark.extent[0][1] - 1} for mark in unit]
            for unit in one
        ]
        for one in (first, second)
    ]
    return Evaluator(*documents, tags=LABELS, loader="dict").evaluate()["overall"]


@pytest.mark.proves("pairwise span F1 equals nervaluate's strict, partial and type scores")
@EXAMPLES
@given(units=st.lists(st.tuples(apart(), apart()), min_size=1, max_size=4))
def test_spans_that_do_not_overlap_score_as_in_nervaluate(units):
    overall = theirs(*zip(*units, strict=True))
    for mode, name in (("exact", "strict"), ("partial", "partial"), ("type", "ent_type")):
        found = span_agreement(units, mode).pairs[0, 1]
        if found.value is None:
            assert not any(first or second for first, second in units)
        elif mode == "type":
            assert found.value >= overall[name].f1 - 1e-9  # theirs may spend a span on a wrong label
            if not _several(units):
                assert found.value == pytest.approx(overall[name].f1)
        else:
            assert found.value == pytest.approx(overall[name].f1)


def _several(units):
    """Whether some span overlaps several of the other annotator's."""
    for first, second in units:
        for one, other in ((first, second), (second, first)):
            for mark in one:
                (low, high), hits = mark.extent[0], 0
                for their in other:
                    hits += min(high, their.extent[0][1]) > max(low, their.extent[0][0])
                if hits > 1:
                    return True
    return False


def area(extent):
    return float(np.prod([high - low for low, high in extent]))


def score(first, second, mode, threshold):
    shared = float(
        np.prod([max(0, min(b, d) - max(a, c)) for (a, b), (c, d) in zip(first.extent, second.extent, strict=True)])
    )
    if not shared:
        return 0.0
    same, exact = first.label == second.label, first.extent == second.extent
    if mode == "partial":
        return 1.0 if exact else 0.5
    if mode == "iou":
        union = area(first.extent) + area(second.extent) - shared
        return float(same and shared / union >= threshold)
    return float(same and (exact or mode == "type"))


@pytest.mark.proves("marks that overlap are matched so that the score is the greatest possible")
@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("mode", ["exact", "partial", "type", "iou"])
@EXAMPLES
@given(data=st.data())
def test_the_matching_is_the_best_one(mode, axes, data):
    first, second = data.draw(anything(axes)), data.draw(anything(axes))
    threshold = data.draw(st.sampled_from([0.25, 0.5, 1.0]))
    scores = np.array([[score(a, b, mode, threshold) for b in second] for a in first]).reshape(len(first), len(second))
    rows, columns = linear_sum_assignment(scores, maximize=True)
    for pair in ([first, second], [second, first], [first[::-1], second]):
        found = span_agreement([pair], mode, threshold=threshold).pairs[0, 1]
        assert found.matched == scores[rows, columns].sum()
        assert found.marks == len(first) + len(second)


def test_pairs_their_mean_and_the_pool():
    one, two, three = span(0, 3, "PER"), span(5, 9, "ORG"), span(5, 8, "ORG")
    units = [
        [[one, two], [one, three], None],
        [[], [], []],
        [[one], [], [one]],
    ]
    found = span_agreement(iter(units))
    assert {pair: f1.value for pair, f1 in found.pairs.items()} == {(0, 1): 0.4, (0, 2): 1.0, (1, 2): 0.0}
    assert found.mean == pytest.approx(1.4 / 3)
    assert found.pooled == pytest.approx(2 * 2 / (5 + 2 + 1))
    assert (found.pairs[0, 1].units, found.pairs[0, 1].empty, found.pairs[0, 2].units) == (3, 1, 2)
    assert span_agreement(units, "partial").pairs[0, 1].matched == 1.5
    assert span_agreement(units, "type").pairs[0, 1].matched == 2
    by_label = {label: span_agreement(only(units, label)).mean for label in labels_in(units)}
    assert by_label == {"ORG": 0.0, "PER": pytest.approx((2 / 3 + 1 + 0) / 3)}
    assert only(units, "ORG")[0] == [[two], [three], None]


def test_nothing_marked_is_no_agreement():
    for units in ([], [[[], []]], [[None, [span(0, 1, "PER")]]], [[[span(0, 1, "PER")]]]):
        found = span_agreement(units, resamples=10)
        assert (found.mean, found.pooled, found.interval) == (None, None, None)
        assert found.reason
    assert span_agreement([[[], []]]).pairs[0, 1].reason == "neither marked anything in a unit that both answered"


@pytest.mark.proves("a bootstrap interval with the same seed has the same digits everywhere")
def test_intervals_hold_the_value_and_keep_their_digits():
    random = np.random.default_rng(2)
    units = []
    for _ in range(200):
        starts = random.integers(0, 50, 3)
        spans = [span(int(start), int(start) + 4, "PER") for start in starts]
        units.append([[mark for mark in spans if random.random() < sure] for sure in (0.9, 0.8, 0.5)])
    found = span_agreement(units, resamples=500, seed=9)
    for part in (found.interval, *(f1.interval for f1 in found.pairs.values())):
        assert part.high - part.low < 0.2
    assert found.interval.low < found.mean < found.interval.high
    assert all(f1.interval.low < f1.value < f1.interval.high for f1 in found.pairs.values())
    assert span_agreement(units[::-1], resamples=500, seed=9).interval == found.interval


def test_rectangles_and_segments():
    first, second = rectangle("car", [[0, 0], [10, 10]]), rectangle("car", [[12, 10], [2, 0]])
    assert second == rectangle("car", [[2, 0], [12, 10]])
    assert span_agreement([[[first], [second]]], "iou", threshold=2 / 3 - 1e-9).mean == 1.0
    assert span_agreement([[[first], [second]]], "iou", threshold=0.7).mean == 0.0
    assert span_agreement([[[first], [rectangle("bus", [[0, 0], [10, 10]])]]], "iou").mean == 0.0
    segment, shape = span(0.5, 2.25, "speech"), rectangle("speech", [[0.5, 0], [2.25, 1]])
    assert span_agreement([[[segment], [span(0.5, 2.25, "speech")]]]).mean == 1.0
    assert span_agreement([[[segment], [shape]]], "type").mean == 0.0


def test_spans_that_touch_do_not_overlap():
    assert span_agreement([[[span(0, 3, "PER")], [span(3, 6, "PER")]]], "type").mean == 0.0


def test_what_is_refused():
    with pytest.raises(InvalidInput, match="3 to 3"):
        span(3, 3, "PER")
    with pytest.raises(InvalidInput, match="after the start"):
        rectangle("car", [[0, 0], [0, 4]])
    with pytest.raises(InvalidInput, match="'strict'"):
        span_agreement([], "strict")
    with pytest.raises(InvalidInput, match="threshold"):
        span_agreement([], "iou", threshold=0)
    with pytest.raises(InvalidInput, match="unit 1: found 3 annotators"):
        span_agreement([[[], []], [[], [], []]])
