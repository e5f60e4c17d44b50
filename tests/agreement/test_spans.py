import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nervaluate import Evaluator
from scipy.optimize import linear_sum_assignment

from include.agreement.spans import F1, Mark, rectangle, span, span_f1
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
        found = span_f1(units, mode)
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
        found = span_f1([pair], mode, threshold=threshold)
        assert found.matched == scores[rows, columns].sum()
        assert found.marks == len(first) + len(second)


def test_the_score_is_that_of_all_units_together():
    one, two, three = span(0, 3, "PER"), span(5, 9, "ORG"), span(5, 8, "ORG")
    units = [([one, two], [one, three]), ([], []), ([one], [])]
    assert span_f1(iter(units), "exact") == F1(0.4, 1, 5, 3)
    assert span_f1(units, "partial").matched == 1.5
    assert span_f1(units, "type").matched == 2


@pytest.mark.parametrize("units", [[], [([], [])]])
def test_nothing_marked_is_no_agreement(units):
    reason = "neither marked anything in a unit that both answered"
    assert span_f1(units, "exact", resamples=10) == F1(None, 0, 0, len(units), None, reason)


@pytest.mark.proves("a bootstrap interval with the same seed has the same digits everywhere")
def test_intervals_hold_the_value_and_keep_their_digits():
    random = np.random.default_rng(2)
    units = []
    for _ in range(200):
        starts = random.integers(0, 50, 3)
        spans = [span(int(start), int(start) + 4, "PER") for start in starts]
        units.append([[mark for mark in spans if random.random() < sure] for sure in (0.9, 0.8)])
    found = span_f1(units, "exact", resamples=500, seed=9)
    assert found.interval.low < found.value < found.interval.high < found.interval.low + 0.2
    assert span_f1(units[::-1], "exact", resamples=500, seed=9).interval == found.interval


def test_rectangles_and_segments():
    first, second = rectangle("car", [[0, 0], [10, 10]]), rectangle("car", [[12, 10], [2, 0]])
    assert second == rectangle("car", [[2, 0], [12, 10]])
    other, segment = rectangle("bus", [[0, 0], [10, 10]]), span(0.5, 2.25, "speech")
    for one, two, mode, threshold, expected in (
        (first, second, "iou", 2 / 3 - 1e-9, 1),
        (first, second, "iou", 0.7, 0),
        (first, other, "iou", 0.5, 0),
        (segment, span(0.5, 2.25, "speech"), "exact", 0.5, 1),
        (segment, rectangle("speech", [[0.5, 0], [2.25, 1]]), "type", 0.5, 0),
    ):
        assert span_f1([([one], [two])], mode, threshold=threshold).value == expected


def test_spans_that_touch_do_not_overlap():
    assert span_f1([([span(0, 3, "PER")], [span(3, 6, "PER")])], "type").value == 0.0


def test_what_is_refused():
    with pytest.raises(InvalidInput, match="3 to 3"):
        span(3, 3, "PER")
    with pytest.raises(InvalidInput, match="after the start"):
        rectangle("car", [[0, 0], [0, 4]])
    with pytest.raises(InvalidInput, match="'strict'"):
        span_f1([], "strict")
    with pytest.raises(InvalidInput, match="threshold"):
        span_f1([], "iou", threshold=0)
