"""Each use case's value against the functions it names, and how a value becomes tasks."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
from typing import Any

import pytest
from airflow.sdk import Asset

from include.run.run import WorkItem
from labelops.flow import Gate, Step, UseCase, Wait
from labelops.operators.step import StepOperator, function_at, given_kinds
from labelops.systems import SYSTEMS
from tests.airflow_home import DAGS, ROOT
from tests.runner import use_cases

pytestmark = pytest.mark.airflow

CASES = sorted(use_cases())
GIVEN = {"run", "project", "item", "given", "gate", "params"}
LONGEST = 40
"""Lines that a DAG file may have besides its page."""


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> UseCase:
    return use_cases()[request.param]


def functions(case: UseCase) -> list[tuple[Step, Any]]:
    steps = [case.lists, *(one for one in case.steps if isinstance(one, Step))]
    return [(one, function_at(one.function(case.dag_id))) for one in steps]


def test_a_step_takes_the_systems_it_names_and_no_other(case: UseCase) -> None:
    for step, function in functions(case):
        asked = set(inspect.signature(function).parameters)
        assert asked <= GIVEN | set(step.on), f"{case.dag_id}.{step.name} asks for {asked - GIVEN - set(step.on)}"
        assert asked & set(SYSTEMS) == set(step.on), step.name


def test_a_lister_is_given_no_item(case: UseCase) -> None:
    _, function = functions(case)[0]
    assert not set(inspect.signature(function).parameters) & {"item", "given", "gate"}


def test_what_is_given_is_what_the_step_before_returns(case: UseCase) -> None:
    before: Any = None
    gate = False
    for step in case.steps:
        if isinstance(step, Gate):
            gate = True
            continue
        if isinstance(step, Wait):
            assert before == "ItemResult", "a wait follows the result"
            continue
        function = function_at(step.function(case.dag_id))
        told = inspect.signature(function)
        kinds = {one.__name__ for one in given_kinds(function)} - {"NoneType"}
        assert kinds <= {before}, f"{case.dag_id}.{step.name} is given {kinds}, and the step before returns {before}"
        assert ("gate" in told.parameters) == gate, f"{step.name} and its gate"
        before, gate = told.return_annotation, False
    assert before == "ItemResult", "the last step returns the item's result"


def test_a_gate_looks_at_what_the_step_before_staged(case: UseCase) -> None:
    before: Any = None
    for step in case.steps:
        if isinstance(step, Gate):
            assert "staged" in before.__annotations__, f"{case.dag_id}: before {step.name}"
        elif isinstance(step, Step):
            function = function_at(step.function(case.dag_id))
            before = function.__globals__[inspect.signature(function).return_annotation]


@pytest.mark.parametrize("dag_id", CASES)
def test_a_dag_file_is_a_page_and_a_value(dag_id: str) -> None:
    text = (DAGS / f"{dag_id}.py").read_text("utf-8")
    tree = ast.parse(text)
    page = tree.body[0]
    assert len(text.splitlines()) - (page.end_lineno or 0) <= LONGEST
    assert not [node for node in ast.walk(tree) if isinstance(node, (ast.For, ast.While, ast.If, ast.With))], "no logic"


def test_the_documents_say_what_the_dag_files_say() -> None:
    spec = importlib.util.spec_from_file_location("dag_tables", ROOT / "tools" / "dag_tables.py")
    assert spec is not None
    assert spec.loader is not None
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    assert tables.main(["--check"]) == 0, "run `make docs`"
    for name in tables.DOCUMENTS:
        assert tables.PART.search((ROOT / name).read_text("utf-8")), f"{name} has no part of the DAGs"


EXAMPLES = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "operators.md").read_text("utf-8"), re.M | re.S)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_the_examples_of_the_operators_guide_are_dags(number: int) -> None:
    made: dict[str, Any] = {}
    exec(compile(EXAMPLES[number], "operators.md", "exec"), made)
    [task] = made["dag"].tasks
    if isinstance(task, StepOperator):
        assert set(task.on) <= set(inspect.signature(function_at(task.function)).parameters)
        assert WorkItem(**task.item).project == "ticket_topics"


def test_the_operators_guide_has_an_example_of_each_kind() -> None:
    assert len(EXAMPLES) == 2


# --- how a value becomes tasks ---------------------------------------------------------------------------------------


def toy(*steps: Any, **parts: Any) -> UseCase:
    return UseCase("toy", "### toy (A9): does little", "thing", Step("pending"), steps, **parts)


def given(case: UseCase, name: str) -> dict[str, Any]:
    task = case.task(name, {"project": "p"}, lambda of: f"what {of} returned")
    return {key: getattr(task, key, None) for key in ("given", "gate", "staged", "result", "trigger_rule", "pool")}


def test_a_step_is_given_what_the_last_step_and_the_gate_between_returned() -> None:
    case = toy(Step("read", on=("source", "prodigy")), Gate("suite"), Step("load"), Step("tell"))
    assert given(case, "read") | {"trigger_rule": "", "pool": ""} == {
        "given": None, "gate": None, "staged": None, "result": None, "trigger_rule": "", "pool": "",
    }  # fmt: skip
    assert given(case, "gate")["staged"] == "what read returned"
    load = given(case, "load")
    assert (load["given"], load["gate"], load["trigger_rule"].value) == (
        "what read returned",
        "what gate returned",
        "all_success",
    )
    tell = given(case, "tell")
    assert (tell["given"], tell["gate"]) == ("what load returned", None)
    assert (given(case, "read")["pool"], load["pool"]) == ("labelops_prodigy", "default_pool")


def test_after_an_optional_gate_the_next_step_alone_runs_where_it_was_skipped() -> None:
    case = toy(Step("read"), Gate("suite", optional=True), Step("load"), Wait())
    assert [given(case, name)["trigger_rule"].value for name in ("read", "gate", "load", "start_wait")] == [
        "all_success",
        "all_success",
        "none_failed",
        "all_success",
    ]
    assert given(case, "start_wait")["result"] == "what load returned"
    assert case.result == "load"


def test_a_page_without_a_heading_is_refused() -> None:
    with pytest.raises(ValueError, match=r"toy: its page begins with 'A toy'; expected `### name \(A1\): sentence`"):
        _ = UseCase("toy", "A toy", "thing", Step("pending"), ()).heading


def test_an_unknown_step_has_no_task() -> None:
    with pytest.raises(KeyError, match="toy has no step 'nothing'"):
        given(toy(Step("read")), "nothing")


def test_a_use_case_without_an_asset_announces_to_nobody() -> None:
    asset = Asset("labelops/some")
    assert toy(Step("read")).announcer([]).outlets == []
    assert toy(Step("read"), announces=asset).announcer([]).outlets == [asset]
