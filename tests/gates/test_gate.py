"""Gates: what stops, what is set aside, and what is the gate's own fault."""

from __future__ import annotations

import json
import tracemalloc

import pytest

from include.base.errors import InvalidInput
from include.gates.gate import GateBroken, run_suite
from include.gates.results import GateResult, render
from include.gates.suites import SUITES, Check, Suite, suite_for

AGE = Check("between", "age", "ages are possible", {"min_value": 0, "max_value": 120})


def rows(*ages):
    return [{"row_id": f"r{place}", "age": age} for place, age in enumerate(ages)]


def test_a_critical_check_stops_and_names_rows():
    result = run_suite(rows(1, 500, None, "old", float("nan"), True), Suite("s", (AGE,)), chunk_rows=2)
    assert result.stopped
    assert result.checks[0].rows == ["r1", "r3", "r5"]
    assert result.checks[0].unexpected == 3
    assert result.reasons(1) == ["age: ages are possible"]
    assert result.reasons(0) == []


def test_set_aside_goes_on_and_a_warning_only_reports():
    aside = Check("between", "age", "possible", {"max_value": 120}, on_failure="set_aside")
    warn = Check("not_null", "age", "known", severity="warning", on_failure="report")
    result = run_suite(rows(1, 500, None), Suite("s", (aside, warn)))
    assert not result.stopped
    assert (result.set_aside, result.set_aside_rows) == (["r1"], 1)
    assert len(result.warnings) == 2


def test_uniqueness_and_counts_hold_across_chunks():
    suite = Suite("s", (Check("unique", "age", "once"), Check("row_count", "", "enough", {"min_value": 5})))
    result = run_suite(rows(1, 2, 3, 1), suite, chunk_rows=2)
    assert [check.passed for check in result.checks] == [False, False]
    assert result.checks[0].rows == ["r3"]
    assert result.checks[1].observed == "4 row(s)"


def test_no_rows_at_all_is_judged():
    assert run_suite([], suite_for("version_rows")).stopped


def test_a_check_that_cannot_run_breaks_the_gate_and_blames_no_data():
    with pytest.raises(GateBroken, match="broken pattern"):
        run_suite([{"row_id": "1", "t": "x"}], Suite("s", (Check("matches", "t", "broken pattern", {"regex": "("}),)))


def test_a_warning_cannot_stop_and_unknown_names_are_refused():
    with pytest.raises(InvalidInput, match="only `report`"):
        Check("not_null", "x", "x", severity="warning")
    with pytest.raises(InvalidInput, match="allowed: guideline_pages"):
        suite_for("nonsense")
    with pytest.raises(InvalidInput, match="min_rwos"):
        suite_for("report", parameters={"min_rwos": 1})


@pytest.mark.memory
def test_two_hundred_thousand_staged_rows_in_bounded_memory(tmp_path):
    staged = tmp_path / "rows.jsonl"
    with staged.open("w") as out:
        for number in range(200_000):
            out.write(
                json.dumps(
                    {
                        "task_id": f"{number % 199_999:064x}",
                        "value": "accept",
                        "labels_unknown": 0,
                        "persons": 1,
                        "x": "y" * 300,
                    }
                )
            )
            out.write("\n")
    run_suite([], suite_for("version_rows"))
    tracemalloc.start()
    result = run_suite(staged, suite_for("version_rows"), chunk_rows=20_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert result.rows == 200_000
    assert [check.description for check in result.checks if not check.passed] == ["one label for each task"]
    assert peak < staged.stat().st_size


def test_a_staged_line_that_is_no_object_names_file_and_line(tmp_path):
    staged = tmp_path / "rows.jsonl"
    staged.write_text('{"task_id": 1}\n[]\n')
    with pytest.raises(InvalidInput, match="line 2: found list"):
        run_suite(staged, suite_for("version_rows"))


def test_the_guideline_suite_ignores_left_out_pages_but_needs_one_approved():
    page = {
        "row_id": "1", "title": "t", "approved": True, "sections_missing_count": 0, "images_unresolved": 0,
        "largest_image_kilobytes": 0, "html_kilobytes": 1, "readable": True, "includes_missing": 0,
        "text_characters": 10, "unknown_macros": 0,
    }  # fmt: skip
    draft = {**page, "row_id": "2", "approved": False, "text_characters": 0}
    passed = run_suite([page, draft], suite_for("guideline_pages"))
    assert not passed.stopped
    assert passed.warnings
    assert run_suite([draft], suite_for("guideline_pages")).stopped
    assert run_suite(
        [{**page, "html_kilobytes": 9}], suite_for("guideline_pages", None, {"max_page_kilobytes": 8})
    ).stopped
    assert run_suite([{**page, "sections_missing_count": 1}], suite_for("guideline_pages")).stopped


def test_every_suite_builds_and_runs_on_a_strange_row():
    for name in SUITES:
        assert run_suite([{"unexpected": [1, {"x": None}]}], suite_for(name)).stopped


def test_results_survive_json_and_the_page_escapes_hostile_ids():
    hostile = "<script>alert(1)</script>\"'&"
    result = run_suite([{"row_id": hostile, "age": -1}], Suite("s", (AGE,)))
    stored = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    page = render(GateResult.from_dict(stored))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "Stopped" in page
    assert "<dt>Checks passed</dt><dd>0 of 1</dd>" in page
    assert "<title>Gate s of &lt;b&gt;: Stopped</title>" in render(GateResult.from_dict({**stored, "project": "<b>"}))
    with pytest.raises(InvalidInput, match="schema"):
        GateResult.from_dict({**stored, "schema": 99})
