"""The gate operator: files written, rows left out, links that Airflow stores."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from include.annotation.tasks import build_task
from include.base.errors import InvalidInput
from include.projects.load import load_project
from include.settings import ROOT
from labelops.operators.gate import GateFailed, GateOperator, GateResultLink

RUN = "scheduled__2026-01-02T03:04:05+00:00"


@pytest.fixture
def context(monkeypatch, tmp_path):
    monkeypatch.setenv("LABELOPS_STORE", str(tmp_path / "store"))
    ti = SimpleNamespace(dag_id="d", run_id=RUN, task_id="items.gate", map_index=3, try_number=2)
    return {"ti": ti}


@pytest.fixture
def tasks():
    project = load_project(ROOT / "include" / "projects" / "definitions", "ticket_topics")
    return [
        build_task(
            project, content={"text": text}, meta={}, sources=[{"file": "f", "record": text, "sha256": "0" * 64}]
        )
        for text in ("one", "two", "three")
    ]


def stage(tmp_path, rows):
    staged = tmp_path / "tasks.jsonl"
    staged.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"staged": str(staged)}


def gate(staged):
    return GateOperator(task_id="gate", suite="raw_tasks", staged=staged, project={"project": "ticket_topics"})


def test_rows_that_pass_go_on_as_they_are(tmp_path, context, tasks):
    staged = stage(tmp_path, tasks)
    found = gate(staged).execute(context)
    assert found["passed"] == staged["staged"]
    assert (found["rows"], found["set_aside"], found["warnings"]) == (3, 0, [])
    report = json.loads((tmp_path / "store" / found["result"]).read_text())
    assert (report["suite"], report["stopped"], report["rows"]) == ("raw_tasks", False, 3)
    assert "one" not in json.dumps([check["rows"] for check in report["checks"]])
    assert not (tmp_path / "store" / "quarantine").exists()


def test_failing_rows_are_set_aside_and_quarantined_without_content(tmp_path, context, tasks):
    found = gate(stage(tmp_path, [*tasks, tasks[0]])).execute(context)
    assert (found["rows"], found["set_aside"]) == (3, 1)
    passed = found["passed"].removeprefix("file://")
    assert [json.loads(line)["text"] for line in open(passed)] == ["one", "two", "three"]  # noqa: SIM115
    (report,) = (tmp_path / "store" / "quarantine" / "ticket_topics" / "gate_raw_tasks").iterdir()
    entry = json.loads(report.read_text().splitlines()[1])
    assert (entry["line"], entry["record"]) == (4, tasks[0]["labelops"]["task_id"])
    assert "no task is there twice" in entry["reason"]
    assert "content" not in entry


def test_a_critical_failure_stops_but_leaves_its_result(tmp_path, context, tasks):
    tasks[1]["_view_id"] = "other"
    with pytest.raises(GateFailed, match="project's interface"):
        gate(stage(tmp_path, tasks)).execute(context)
    (result,) = (tmp_path / "store" / "gates").rglob("result.json")
    assert json.loads(result.read_text())["stopped"] is True


def test_nothing_staged_is_an_error_not_a_pass(tmp_path, context):
    with pytest.raises(InvalidInput, match="staged nothing"):
        gate(None).execute(context)
    with pytest.raises(InvalidInput, match="nothing is staged at"):
        gate(str(tmp_path / "absent.jsonl")).execute(context)


def test_the_link_leads_to_the_page_of_this_try(context):
    link = GateResultLink().get_link(gate("x"), ti_key=context["ti"])
    assert link == "/labelops/gates/d/scheduled__2026-01-02T03%3A04%3A05%2B00%3A00/items.gate/3/2"
    assert [one.name for one in GateOperator.operator_extra_links] == ["Gate result"]
