from __future__ import annotations

import pytest

from include.base.errors import InvalidInput
from include.bpmn.mapping import MAPPINGS
from include.sandbox.opentext.engine import EngineError, World, advance, begin, check_deployable, text_value
from include.sandbox.opentext.expressions import ExpressionError, compile_expression

APPROVAL = (MAPPINGS.parent / "labeling_approval.bpmn").read_text("utf-8")
RELEASE = (MAPPINGS.parent / "dataset_release.bpmn").read_text("utf-8")


@pytest.mark.parametrize(
    ("text", "variables", "expected"),
    [
        ('${a == "x"}', {"a": "x"}, True),
        ("${a == 'x' && !(b > 3)}", {"a": "x", "b": 3}, True),
        ("${a != 1 || b}", {"a": 1, "b": False}, False),
        ("${a == true}", {"a": "TRUE"}, True),
        ("${a < b}", {"a": "9", "b": 10}, True),
        ("${a == null}", {"a": None}, True),
        ("${a >= -2.5}", {"a": -2.5}, True),
        (r'${a == "say \"so\""}', {"a": 'say "so"'}, True),
        ("#{ a }", {"a": True}, True),
        ("${not a eq true}", {"a": False}, True),
        ("${not empty a and (b lt 3 or b ge 9)}", {"a": [1], "b": 9}, True),
        ("${empty a}", {"a": ""}, True),
        ("${empty a}", {"a": 0}, False),
        ("${a ne 'x' && b le 2 == true}", {"a": "y", "b": 2}, True),
        ("${a gt 1 == false}", {"a": 1}, True),
        ("${a == true || b == true && c == true}", {"a": True, "b": False, "c": False}, True),
    ],
)
def test_expressions(text: str, variables: dict, expected: bool) -> None:
    assert bool(compile_expression(text)(variables)) is expected


@pytest.mark.parametrize(
    "text",
    [
        "a == 1",
        "${a.b}",
        "${a()}",
        "${a + 1}",
        "${__import__('os')}",
        "${a == }",
        "${(a}",
        "${a b}",
        "${empty}",
        "${'x}",
    ],
)
def test_what_is_outside_the_subset_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError):
        compile_expression(text)


def test_a_missing_variable_is_named() -> None:
    with pytest.raises(ExpressionError, match="Unknown property used in expression: missing"):
        compile_expression("${missing == 1}")({})


def walk(xml: str, key: str, variables: dict, steps: list[tuple[str, str, str]]) -> str | None:
    """Run a model through ``(task id, outcome variable, outcome)`` and return where it ended."""
    values = dict(variables)
    position = begin(xml, key, World(values, 0.0))
    for element, variable, outcome in steps:
        assert list(position.waiting.values()) == [element]
        assert not position.ended
        values[variable] = outcome
        position = advance(position.state, next(iter(position.waiting)), World(values, 0.0))
    assert position.ended
    assert not position.waiting
    return position.end


QUALITY, OWNER = ("review_quality", "quality_decision"), ("approve_dataset", "owner_decision")


@pytest.mark.parametrize(
    ("review", "steps", "end"),
    [
        (True, [(*QUALITY, "approved"), (*OWNER, "approved")], "approved"),
        (True, [(*QUALITY, "approved"), (*OWNER, "rejected")], "rejected"),
        (True, [(*QUALITY, "approved"), (*OWNER, "rework")], "rework"),
        (True, [(*QUALITY, "rejected")], "rejected"),
        (True, [(*QUALITY, "rework")], "rework"),
        (False, [(*OWNER, "approved")], "approved"),
        (False, [(*OWNER, "rejected")], "rejected"),
        (False, [(*OWNER, "rework")], "rework"),
    ],
)
def test_labeling_approval_on_every_path(review: bool, steps: list, end: str) -> None:
    assert walk(APPROVAL, "labeling_approval", {"quality_review_required": review}, steps) == end


@pytest.mark.parametrize(
    ("passed", "steps", "end"),
    [
        (False, [], "refused"),
        (True, [("release_dataset", "release_decision", "released")], "released"),
        (True, [("release_dataset", "release_decision", "refused")], "refused"),
    ],
)
def test_dataset_release_on_every_path(passed: bool, steps: list, end: str) -> None:
    assert walk(RELEASE, "dataset_release", {"checks_passed": passed}, steps) == end


def test_an_outcome_that_no_gateway_knows_changes_nothing() -> None:
    position = begin(APPROVAL, "labeling_approval", World({"quality_review_required": False}, 0.0))
    task = next(iter(position.waiting))
    with pytest.raises(EngineError):
        advance(position.state, task, World({"quality_review_required": False, "owner_decision": "perhaps"}, 0.0))
    again = advance(position.state, task, World({"quality_review_required": False, "owner_decision": "approved"}, 0.0))
    assert again.end == "approved"


def test_a_start_without_the_routing_variable_is_refused_rather_than_unreviewed() -> None:
    with pytest.raises(EngineError, match="quality_review_required"):
        begin(APPROVAL, "labeling_approval", World({}, 0.0))


def test_a_terminate_end_event_ends_the_process() -> None:
    old = '<endEvent id="refused" name="Refused">'
    assert old in RELEASE
    xml = RELEASE.replace(old, old + "<terminateEventDefinition/>").replace(
        "<terminateEventDefinition/><documentation>The version stays where it is.</documentation>",
        "<documentation>Stays.</documentation><terminateEventDefinition/>",
    )
    assert walk(xml, "dataset_release", {"checks_passed": False}, []) == "refused"


def test_candidate_groups_are_worked_out() -> None:
    assert text_value("a,b", {}) == "a,b"
    assert text_value("${g}", {"g": "owners"}) == "owners"
    with pytest.raises(EngineError):
        text_value("${g}", {})


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("<endEvent id=", '<scriptTask id="s"><script>1</script></scriptTask><endEvent id=', "scriptTask"),
        ("${checks_passed == true}", "${execution.getVariable('x')}", "cannot read"),
        ('id="dataset_release" name', 'id="dataset_release" isClosed="false" name', None),
    ],
)
def test_models_that_cannot_be_played_are_refused(old: str, new: str, expected: str | None) -> None:
    assert old in RELEASE
    if expected is None:
        assert check_deployable(RELEASE.replace(old, new, 1)).key == "dataset_release"
    else:
        with pytest.raises(InvalidInput, match=expected):
            check_deployable(RELEASE.replace(old, new, 1))
