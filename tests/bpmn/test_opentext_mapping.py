from __future__ import annotations

import re

import pytest

from include.base.errors import InvalidInput
from include.bpmn.check import check_model
from include.bpmn.mapping import MAPPINGS, load_mapping, start_variables
from include.bpmn.read import canonical, parse, read_process

APPROVAL = (MAPPINGS.parent / "labeling_approval.bpmn").read_text("utf-8")
RELEASE = (MAPPINGS.parent / "dataset_release.bpmn").read_text("utf-8")
MAPPING = load_mapping("default")


@pytest.mark.parametrize(("name", "xml"), [("labeling_approval", APPROVAL), ("dataset_release", RELEASE)])
def test_our_models_fit_our_mapping(name: str, xml: str) -> None:
    report = check_model(getattr(MAPPING, name), xml)
    assert (report.problems, report.notes, report.fits) == ((), (), True)
    assert report.text().startswith(f"The process model {name!r} fits the mapping.")


@pytest.mark.parametrize("xml", [APPROVAL, RELEASE])
def test_every_element_has_a_shape_and_every_flow_an_edge(xml: str) -> None:
    root = parse(xml)
    process = root.find("{*}process")
    flows = {flow.get("id") for flow in process.findall("{*}sequenceFlow")}
    nodes = {item.get("id") for item in process if item.get("id") and item.get("id") not in flows}
    assert {shape.get("bpmnElement") for shape in root.iter("{*}BPMNShape")} == nodes
    assert {edge.get("bpmnElement") for edge in root.iter("{*}BPMNEdge")} == flows


@pytest.mark.parametrize("xml", [APPROVAL, RELEASE])
def test_every_task_tells_its_person_what_to_do(xml: str) -> None:
    for task in read_process(xml).user_tasks:
        assert "first 12 characters of the digest" in task.documentation


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('<process id="labeling_approval"', '<process id="other"', "cannot be checked.*'labeling_approval'.*'other'"),
        ('id="approve_dataset" name', 'id="approve_it" name', "no user task with the id 'approve_dataset'"),
        ('name="Approve dataset"', 'name="Sign off"', "called 'Sign off'; the mapping calls it 'Approve dataset'"),
        ("${data_owners}", "${owners}", "no group_variable of the mapping feeds 'owners'"),
        ("${data_owners}", "the_owners", r"Set candidateGroups to \$\{data_owners\}"),
        ('<endEvent id="rework"', '<endEvent id="again"', "expects an end event with the id 'rework'"),
        ('<endEvent id="rework"', '<endEvent id="again"', "can end at 'again'"),
        ("${owner_decision ==", "${decision ==", "No condition in the model tests 'owner_decision'"),
        ('== "approved"}', "== owner_decision}", None),
        ("quality_review_required ==", "review ==", "tests 'quality_review_required'"),
        (
            'value="Approve:approved,Reject:rejected,Send back:rework"',
            'value="Approve:approved,Maybe:deferred"',
            r"offers the outcome 'deferred' \(Maybe\)",
        ),
        ('name="outcomevariable" value="owner_decision"', 'name="outcomevariable" value="result"', "variable 'result'"),
        ("<endEvent id=", '<userTask id="extra" name="Extra look"/><endEvent id=', "'Extra look'.*not in the mapping"),
        ("<definitions", '<!DOCTYPE x [<!ENTITY e "y">]><definitions', "document type"),
        ("</definitions>", "", "not well-formed"),
    ],
)
def test_the_check_names_what_does_not_fit(old: str, new: str, expected: str | None) -> None:
    assert old in APPROVAL
    changed = APPROVAL.replace(old, new, 1 if old.startswith("<end") else -1)
    problems = [str(one) for one in check_model(MAPPING.labeling_approval, changed).problems]
    if expected is None:
        assert problems == []
    else:
        assert any(re.search(expected, problem, re.DOTALL) for problem in problems), problems


def test_a_variable_named_only_inside_a_text_is_not_tested() -> None:
    broken = re.sub(r"\$\{owner_decision == (\"\w+\")\}", r'${other == "owner_decision"}', APPROVAL)
    report = check_model(MAPPING.labeling_approval, broken)
    assert any("No condition" in str(problem) for problem in report.problems)


def test_start_variables_say_which_tasks_the_policy_asks_for() -> None:
    assert start_variables(MAPPING.labeling_approval, ["data_owner"]) == {
        "quality_review_required": False,
        "quality_reviewers": "quality_reviewers",
        "data_owners": "data_owners",
    }
    both = start_variables(MAPPING.labeling_approval, ["data_owner", "quality_reviewer"])
    assert both["quality_review_required"] is True
    assert start_variables(MAPPING.dataset_release) == {"release_managers": "release_managers"}


def test_a_demanded_role_without_a_task_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"demands lawyer.*no task"):
        start_variables(MAPPING.labeling_approval, ["data_owner", "lawyer"])


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("approved: approve,", "approved: agree,", r"broken\.yaml:20: .*outcomes.*agree"),
        ("group_variable: data_owners", "group_variable: quality_reviewers", "used by tasks of two roles"),
        ("key: approve_dataset", "key: review_quality", "task key used by two tasks: review_quality"),
        ("outcomes: {approved:", "outcomes: {yes: approve, approved:", "outcome True is not text"),
        (
            "tasks:\n    - name: Review",
            "other_tasks: [Review quality]\n  tasks:\n    - name: Review",
            "both in tasks and",
        ),
        ("  ends: {approved", "  other_ends: [rework]\n  ends: {approved", "both in ends and in other_ends: rework"),
        ("digest_variable: dataset_digest", "digest: dataset_digest", r"digest_variable: Field required"),
        ("rejected: rejected, rework: rework}", "rejected: lost, rework: rework}", "ends.rejected"),
    ],
)
def test_a_malformed_mapping_names_file_line_and_field(tmp_path, old: str, new: str, expected: str) -> None:
    text = (MAPPINGS / "default.yaml").read_text("utf-8")
    assert old in text
    (tmp_path / "broken.yaml").write_text(text.replace(old, new, 1), "utf-8")
    with pytest.raises(InvalidInput, match=expected):
        load_mapping("broken", tmp_path)


def test_an_unknown_mapping_lists_the_known_ones() -> None:
    with pytest.raises(InvalidInput, match=r"found '\.\./x'; allowed: default"):
        load_mapping("../x")


def test_canonical_bytes_ignore_layout_and_see_everything_else() -> None:
    spaced = re.sub(r">\s+<", "><", APPROVAL.replace("<process ", "<!-- note -->\n\n   <process "))
    assert canonical(spaced) == canonical(APPROVAL)
    assert canonical(APPROVAL.replace('"rework"', '"redo"')) != canonical(APPROVAL)


def test_tasks_are_found_by_key_first_then_by_name() -> None:
    mapping = MAPPING.labeling_approval
    assert mapping.task_named("whatever", "approve_dataset").role == "data_owner"
    assert mapping.task_named("Review quality").role == "quality_reviewer"
    assert mapping.task_named("Approve dataset", "another_key") is None
    assert mapping.task_named("Nothing") is None
