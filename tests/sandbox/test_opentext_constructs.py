from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from include.bpmn.mapping import MAPPINGS
from include.settings import ROOT
from tests.sandbox.opentext_play import DAY, HISTORY, MODELS, RUN, Play


@pytest.fixture(params=["kept", "restarted"])
def play(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Play]:
    """Every construct is played twice: in one go, and with a restart after each change."""
    play = Play(tmp_path, always_restart=request.param == "restarted")
    yield play
    play.close()


def test_parallel_approvals_end_when_all_have_decided(play: Play) -> None:
    play.deploy("parallel_approvals")
    process = play.start("parallel_approvals", owners="data_owners")
    assert set(play.tasks(process)) == {"Check quality", "Approve", "Check rights"}
    for name in ("Approve", "Check rights"):
        play.complete(process, name)
        assert play.history(process)["endTime"] is None
    play.complete(process, "Check quality")
    assert play.end(process) == "decided"


@pytest.mark.parametrize(
    ("variables", "tasks"),
    [
        ({"has_personal_data": True, "rows": 5000}, ["Check personal data", "Check a sample"]),
        ({"has_personal_data": True, "rows": 10}, ["Check personal data"]),
        ({"has_personal_data": False, "rows": 10}, ["Look at it"]),
    ],
)
def test_an_inclusive_gateway_takes_every_branch_that_holds(
    tmp_path: Path, variables: dict[str, Any], tasks: list[str]
) -> None:
    play = Play(tmp_path)
    play.deploy("inclusive_checks")
    process = play.start("inclusive_checks", **variables)
    assert sorted(play.tasks(process)) == sorted(tasks)
    for name in tasks:
        assert play.history(process)["endTime"] is None
        play.complete(process, name)
    assert play.end(process) == "checked"
    play.close()


@pytest.mark.parametrize(
    ("variables", "end"),
    [
        ({"answers": 20, "label": "good", "forced": False}, "words"),
        ({"answers": 2, "label": "x", "forced": True}, "words"),
        ({"answers": 2, "label": "", "forced": False}, "nothing"),
        ({"answers": 6, "label": "x", "forced": False}, "signs"),
        ({"answers": 101, "label": "bad", "forced": False}, "signs"),
        ({"answers": 2, "label": "x", "forced": False}, "otherwise"),
    ],
)
def test_conditions_in_both_spellings(tmp_path: Path, variables: dict[str, Any], end: str) -> None:
    play = Play(tmp_path)
    play.deploy("conditions")
    assert play.end(play.start("conditions", **variables)) == end
    play.close()


def test_timers_fire_by_the_clock_and_not_before(play: Play) -> None:
    play.deploy("timers")
    process = play.start("timers", opens="2026-09-25T00:00:00Z")
    play.now += 1799
    assert play.standin.tick() == 0
    play.now += 1
    assert play.standin.tick() == 1
    assert play.history(process)["endTime"] is None
    play.now += 6 * DAY
    assert play.end(process) == "open"


def test_a_reminder_repeats_beside_the_task_and_a_deadline_ends_it(play: Play) -> None:
    play.deploy("late_approval")
    process = play.start("late_approval")
    assert list(play.tasks(process)) == ["Approve"]
    play.now += DAY
    assert sorted(play.tasks(process)) == ["Approve", "Remind the approver"]
    play.complete(process, "Remind the approver")
    play.now += DAY
    assert sorted(play.tasks(process)) == ["Approve", "Remind the approver"]
    play.now += 4 * DAY
    # The deadline has come; the reminder that was still open stays, as it was begun before.
    assert sorted(play.tasks(process)) == ["Decide instead", "Remind the approver"]
    tasks = play.get(f"{HISTORY}/historic-task-instances", processInstanceId=process, count=50)
    ended = {task["taskDefinitionKey"]: task for task in tasks["_embedded"]["historic-task-instances"]}
    assert ended["approve"]["deleteReason"] == "boundary event (too_late)"
    assert ended["approve"]["endTime"]
    play.complete(process, "Decide instead")
    assert play.history(process)["endTime"] is None
    play.complete(process, "Remind the approver")
    assert play.end(process) == "reminded"


def test_a_task_done_in_time_ends_its_timers(play: Play) -> None:
    play.deploy("late_approval")
    process = play.start("late_approval")
    play.complete(process, "Approve")
    assert play.end(process) == "approved"
    play.now += 30 * DAY
    assert play.tasks(process) == {}
    assert play.end(process) == "approved"


def test_a_called_process_has_its_own_id_and_is_found_from_its_caller(play: Play) -> None:
    play.deploy("called", "calling")
    process = play.start("calling", dataset="ds-1", owners="data_owners")
    reply = play.get(f"{RUN}/process-instances", superProcessInstanceId=process)
    (child,) = reply["_embedded"]["process-instances"]
    assert child["id"] != process
    assert child["superProcessInstanceId"] == process
    (task,) = play.get(f"{RUN}/tasks", processInstanceIdWithChildren=process)["_embedded"]["tasks"]
    assert task["processInstanceId"] == child["id"]
    assert "_embedded" not in play.get(f"{RUN}/tasks", processInstanceId=process)
    handed = {item["name"]: item["value"] for item in play.history(child["id"])["variables"]}
    assert handed == {"subject": "ds-1", "group": "data_owners"}
    play.complete(process, "Judge", "doubtful")
    play.complete(process, "Judge again", "good")
    assert play.end(child["id"]) == "judged"
    assert play.end(process) == "accepted"
    assert play.history(child["id"])["superProcessInstanceId"] == process
    assert {item["name"]: item["value"] for item in play.history(process)["variables"]}["review_verdict"] == "good"
    tasks = play.get(f"{HISTORY}/historic-task-instances", processInstanceIdWithChildren=process)
    assert {item["processInstanceId"] for item in tasks["_embedded"]["historic-task-instances"]} == {child["id"]}


def test_a_deadline_on_a_call_ends_the_called_process(play: Play) -> None:
    play.deploy("called", "calling")
    process = play.start("calling", dataset="ds-1", owners="data_owners")
    (child,) = play.get(f"{RUN}/process-instances", superProcessInstanceId=process)["_embedded"]["process-instances"]
    play.now += 7 * DAY
    assert play.end(process) == "abandoned"
    found = play.history(child["id"])
    assert (found["endActivityId"], found["deleteReason"]) == (None, "boundary event (overdue)")
    assert play.tasks(process) == {}


def test_terminating_a_process_ends_what_it_called(play: Play) -> None:
    play.deploy("called", "calling")
    process = play.start("calling", dataset="ds-1", owners="data_owners")
    (child,) = play.get(f"{RUN}/process-instances", superProcessInstanceId=process)["_embedded"]["process-instances"]
    assert play.ask("DELETE", f"{RUN}/process-instances/{process}?deleteReason=withdrawn")[0] == 204
    assert [play.history(one)["deleteReason"] for one in (process, child["id"])] == ["withdrawn", "withdrawn"]
    assert play.tasks(process) == {}


def test_a_call_of_a_model_that_is_not_there_starts_nothing(play: Play) -> None:
    play.deploy("calling")
    status, reply = play.ask("POST", f"{RUN}/process-instances", {"processDefinitionKey": "calling"})
    assert (status, reply["exception"]) == (500, "no processes deployed with key 'called'")
    assert "_embedded" not in play.get(f"{RUN}/process-instances")


def test_a_timer_whose_process_cannot_go_on_stops_nothing_else(play: Play) -> None:
    play.deploy("timers")
    stuck, fine = play.start("timers", opens="soon"), play.start("timers", opens="2026-09-25T00:00:00Z")
    play.now += 3600
    assert play.standin.tick() == 2
    play.now += 6 * DAY
    assert play.end(fine) == "open"
    assert play.history(stuck)["endTime"] is None


@pytest.mark.parametrize("shipped", ["labeling_approval", "dataset_release"])
def test_the_shipped_models_run_beside_the_others(play: Play, shipped: str) -> None:
    content = (MAPPINGS.parent / f"{shipped}.bpmn").read_text("utf-8")
    assert play.ask("POST", f"{RUN}/runtime/models", {"modelType": "xml", "modelContent": content})[0] == 201
    variables = {
        "quality_review_required": True, "quality_reviewers": "quality_reviewers", "data_owners": "data_owners",
        "checks_passed": True, "release_managers": "release_managers",
    }  # fmt: skip
    process = play.start(shipped, **variables)
    steps = {"labeling_approval": ["approved", "approved"], "dataset_release": ["released"]}[shipped]
    for outcome in steps:
        (name,) = play.tasks(process)
        play.complete(process, name, outcome)
    assert play.end(process) == steps[-1]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("<userTask id=", "<scriptTask id=", "scripts are code of the model"),
        ("<userTask id=", "<serviceTask id=", "a service task .HTTP and mail tasks too. calls other systems"),
        ("P5D", "5 days", "found the duration '5 days'"),
        ("R2/P1D", "0 0 12 * * ?", "found the cycle"),
        ("R2/P1D", "R/PT0S", "repeats without a pause"),
        ("P5D", "${a()}", "cannot read"),
        ('<startEvent id="start"/>', '<startEvent id="start"><timerEventDefinition/></startEvent>', "with a timer"),
        ('<startEvent id="start"/>', '<startEvent id="start"><messageEventDefinition/></startEvent>', "not played"),
        ('<startEvent id="start"/>', '<startEvent id="start"/><startEvent id="other"/>', "2 start events"),
        ("<userTask id=", "<receiveTask id=", "not played"),
    ],
)
def test_what_is_not_played_is_refused_when_it_is_deployed(tmp_path: Path, old: str, new: str, said: str) -> None:
    play = Play(tmp_path)
    content = (MODELS / "late_approval.bpmn").read_text("utf-8")
    assert old in content
    content = content.replace(old, new)
    status, reply = play.ask("POST", f"{RUN}/runtime/models", {"modelType": "xml", "modelContent": content})
    assert status == 400
    assert re.search(said, reply["exception"]), reply
    play.close()


def test_service_tasks_can_be_passed_over(tmp_path: Path) -> None:
    play = Play(tmp_path)
    play.standin.passed_over = frozenset({"serviceTask"})
    content = (MODELS / "late_approval.bpmn").read_text("utf-8").replace("userTask", "serviceTask")
    assert play.ask("POST", f"{RUN}/runtime/models", {"modelType": "xml", "modelContent": content})[0] == 201
    assert play.end(play.start("late_approval")) == "approved"
    play.close()


def test_timers_fire_though_nobody_asks(tmp_path: Path) -> None:
    """The served stand-in, in a process of its own; what it remembers is read from its file."""
    content = (MODELS / "timers.bpmn").read_text("utf-8").replace("PT30M", "PT1S").replace("${opens}", "2020-01-01")
    play = Play(tmp_path)
    play.now = time.time()
    assert play.ask("POST", f"{RUN}/runtime/models", {"modelType": "xml", "modelContent": content})[0] == 201
    process = play.start("timers")
    play.close()
    served = subprocess.Popen([sys.executable, "-m", "include.sandbox.opentext", "--state", str(tmp_path)], cwd=ROOT)
    ended, deadline = None, time.monotonic() + 30
    while ended is None and time.monotonic() < deadline:
        time.sleep(0.2)
        with closing(sqlite3.connect(f"file:{tmp_path / 'opentext.db'}?mode=ro", uri=True)) as database:
            (ended,) = database.execute("SELECT ended FROM process WHERE id = ?", (process,)).fetchone()
    served.terminate()
    assert served.wait(10) == 0
    assert ended is not None
