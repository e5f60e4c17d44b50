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
    (cool,) = play.executions(processInstanceId=process, activityId="cool_down")
    assert cool["parentId"] == process
    play.now += 1799
    assert play.executions(processInstanceId=process, activityId="cool_down")
    play.now += 1
    assert not play.executions(processInstanceId=process, activityId="cool_down")
    assert play.executions(processInstanceId=process, activityId="until")
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


def test_a_message_reaches_the_one_execution_that_waits_for_it(play: Play) -> None:
    play.deploy("messages")
    one, other = play.start("messages"), play.start("messages")
    variables = [{"name": "labels", "value": 7}]
    play.message(one, "LabelsReady", variables=variables)
    assert [row["processInstanceId"] for row in play.executions(messageEventSubscriptionName="LabelsReady")] == [other]
    assert {item["name"]: item["value"] for item in play.history(one)["variables"]} == {"labels": 7}
    assert {row["activityId"] for row in play.executions(processInstanceId=one)} == {
        None, "corrected", "withdrawn", "forgotten",
    }  # fmt: skip
    play.message(one, "LabelsCorrected")
    (waiting,) = play.executions(processInstanceId=one, activityId="handed_over")
    assert play.send(waiting["id"], "trigger", variables=[{"name": "to", "value": "x"}])[0] == 204
    assert play.end(one) == "done"
    assert play.executions(processInstanceId=one) == []


def test_an_event_gateway_takes_the_first_that_comes(play: Play) -> None:
    play.deploy("messages")
    by_signal, by_timer = play.start("messages"), play.start("messages")
    for process in (by_signal, by_timer):
        play.message(process, "LabelsReady")
    (row,) = play.executions(processInstanceId=by_signal, signalEventSubscriptionName="DatasetWithdrawn")
    assert play.send(row["id"], "signalEventReceived", signalName="DatasetWithdrawn")[0] == 204
    assert play.end(by_signal) == "given_up"
    assert play.history(by_timer)["endTime"] is None
    play.now += 30 * DAY
    assert play.end(by_timer) == "given_up"


def test_a_process_starts_by_message(play: Play) -> None:
    play.deploy("messages")
    status, reply = play.ask("POST", f"{RUN}/process-instances", {"message": "LabelsOrdered", "businessKey": "b"})
    assert (status, reply["businessKey"]) == (201, "b")
    assert play.history(reply["id"])["startActivityId"] == "ordered"
    assert play.history(play.start("messages"))["startActivityId"] == "start"
    status, reply = play.ask("POST", f"{RUN}/process-instances", {"message": "Nobody"})
    assert status == 400
    assert "Cannot start process instance by message" in reply["exception"]


def test_a_model_that_only_a_message_starts_is_not_started_by_its_key(play: Play) -> None:
    play.deploy("signal_starter")
    status, reply = play.ask("POST", f"{RUN}/process-instances", {"processDefinitionKey": "signal_starter"})
    assert status == 500
    assert "No start element found" in reply["exception"]


def test_a_signal_reaches_every_process_and_starts_one(play: Play) -> None:
    play.deploy("messages", "signal_starter", "signal_sender")
    waiting = [play.start("messages") for _ in range(2)]
    for process in waiting:
        play.message(process, "LabelsReady")
    asleep = play.start("messages")
    play.message(asleep, "LabelsReady")
    assert play.ask("PUT", f"{RUN}/process-instances/{asleep}", {"action": "suspend"})[0] == 200
    assert play.end(play.start("signal_sender")) == "told"
    assert [play.end(process) for process in waiting] == ["given_up", "given_up"]
    assert play.history(asleep)["endTime"] is None
    running = play.get(f"{RUN}/process-instances", processDefinitionKey="signal_starter")
    (started,) = running["_embedded"]["process-instances"]
    assert list(play.tasks(started["id"])) == ["Clean up"]


def test_a_wrong_message_is_refused_and_changes_nothing(play: Play) -> None:
    play.deploy("messages")
    process = play.start("messages")
    (row,) = play.executions(messageEventSubscriptionName="LabelsReady")
    status, reply = play.send(row["id"], "messageEventReceived", messageName="Other", variables=[{"name": "a"}])
    assert (status, "does not have a subscription to a message event with name 'Other'" in reply["exception"]) == (
        500,
        True,
    )
    assert play.send(row["id"], "messageEventReceived")[0] == 400
    assert play.send(row["id"], "jump")[0] == 400
    assert play.send(row["id"], "trigger")[0] == 500
    assert play.send(process, "signalEventReceived", signalName="DatasetWithdrawn")[0] == 500
    assert play.send("nothing", "trigger")[0] == 404
    assert play.history(process)["variables"] == []
    assert play.executions(messageEventSubscriptionName="LabelsReady") == [row]


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
    (call,) = play.executions(processInstanceId=process, activityId="review")
    (root,) = play.executions(id=child["id"])
    assert root["superExecutionId"] == call["id"]
    play.complete(process, "Judge", "good")
    assert play.end(child["id"]) == "judged"
    assert play.end(process) == "accepted"
    assert play.history(child["id"])["superProcessInstanceId"] == process
    assert {item["name"]: item["value"] for item in play.history(process)["variables"]}["review_verdict"] == "good"
    alone = play.get(f"{HISTORY}/historic-process-instances", excludeSubprocesses="true")
    assert [item["id"] for item in alone["_embedded"]["historic-process-instances"]] == [process]
    tasks = play.get(f"{HISTORY}/historic-task-instances", processInstanceIdWithChildren=process)
    assert [item["processInstanceId"] for item in tasks["_embedded"]["historic-task-instances"]] == [child["id"]]


def test_an_escalation_comes_up_to_the_caller_and_the_called_process_goes_on(play: Play) -> None:
    play.deploy("called", "calling")
    process = play.start("calling", dataset="ds-1", owners="data_owners")
    play.complete(process, "Judge", "doubtful")
    assert sorted(play.tasks(process)) == ["Judge again", "Look into the doubt"]
    play.complete(process, "Judge again", "bad")
    assert list(play.tasks(process)) == ["Look into the doubt"]
    play.complete(process, "Look into the doubt")
    assert play.end(process) == "looked"


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
    assert play.executions() == []


def test_a_call_of_a_model_that_is_not_there_starts_nothing(play: Play) -> None:
    play.deploy("calling")
    status, reply = play.ask("POST", f"{RUN}/process-instances", {"processDefinitionKey": "calling"})
    assert (status, reply["exception"]) == (500, "no processes deployed with key 'called'")
    assert "_embedded" not in play.get(f"{RUN}/process-instances")


@pytest.mark.parametrize(
    ("labelled", "steps", "end"), [("fine", [], "finished"), ("broken", ["Repair"], "finished"), (None, [], "stopped")]
)
def test_a_sub_process_its_error_and_a_message_that_stops_it(
    play: Play, labelled: str | None, steps: list[str], end: str
) -> None:
    play.deploy("inner")
    process = play.start("inner")
    if labelled is None:
        play.message(process, "Stop")
        assert play.tasks(process) == {}
    else:
        play.complete(process, "Label", labelled)
    for name in steps:
        play.complete(process, name)
    assert play.end(process) == end


def test_one_task_for_each_reviewer(play: Play) -> None:
    play.deploy("reviewers")
    people = ["ada@people.example", "bob@people.example", "cem@people.example"]
    process = play.start("reviewers", reviewers=people, drafts=["a", "b"])
    found = play.get(f"{RUN}/tasks", processInstanceId=process, includeTaskAssignments="true")["_embedded"]["tasks"]
    assert sorted(task["assignee"] for task in found) == people
    for task in found[:2]:
        assert play.ask("POST", f"{RUN}/tasks/{task['id']}", {"action": "complete"})[0] == 200
    # Two of three are enough; then the drafts, one after the other.
    (first,) = play.get(f"{RUN}/tasks", processInstanceId=process)["_embedded"]["tasks"]
    assert first["name"] == "Check draft"
    play.complete(process, "Check draft")
    assert play.history(process)["endTime"] is None
    play.complete(process, "Check draft")
    assert play.end(process) == "reviewed"
    tasks = play.get(f"{HISTORY}/historic-task-instances", processInstanceId=process)
    reasons = [task["deleteReason"] for task in tasks["_embedded"]["historic-task-instances"]]
    assert reasons.count("multi-instance is complete") == 1


def test_a_suspended_process_refuses_tasks_and_messages_and_its_timers_stand_still(play: Play) -> None:
    play.deploy("late_approval", "messages")
    process, listening = play.start("late_approval"), play.start("messages")
    task = play.tasks(process)["Approve"]
    for one in (process, listening):
        body = {"action": "suspend", "comment": {"message": "wait for the audit"}}
        status, reply = play.ask("PUT", f"{RUN}/process-instances/{one}", body)
        assert (status, reply["suspended"]) == (200, True)
    status, reply = play.ask("PUT", f"{RUN}/process-instances/{process}", {"action": "suspend"})
    assert (status, reply["exception"]) == (409, f"Process instance with id '{process}' is already suspended.")
    assert play.ask("POST", f"{RUN}/tasks/{task}", {"action": "complete"})[0] == 409
    (row,) = play.executions(messageEventSubscriptionName="LabelsReady")
    assert row["suspended"] is True
    assert play.send(row["id"], "messageEventReceived", messageName="LabelsReady")[0] == 409
    play.standin.suspended_status = 500
    assert play.ask("POST", f"{RUN}/tasks/{task}", {"action": "complete"})[0] == 500
    play.now += 30 * DAY
    assert list(play.tasks(process)) == ["Approve"]
    assert play.ask("PUT", f"{RUN}/process-instances/{process}", {"action": "activate"})[0] == 200
    assert "Decide instead" in play.tasks_named(process)
    comments = play.get(f"{RUN}/process-instances/{process}/comments")["_embedded"]["comments"]
    assert [comment["message"] for comment in comments] == ["wait for the audit"]


def test_a_timer_whose_process_cannot_go_on_stops_nothing_else(play: Play) -> None:
    play.deploy("timers")
    stuck, fine = play.start("timers", opens="soon"), play.start("timers", opens="2026-09-25T00:00:00Z")
    play.now += 3600
    play.executions()
    assert [row["activityId"] for row in play.executions(processInstanceId=stuck)] == [None, "cool_down"]
    play.now += 6 * DAY
    assert play.end(fine) == "open"
    assert play.history(stuck)["endTime"] is None


def test_everything_at_once(play: Play) -> None:
    play.deploy("called", "everything", "signal_sender")
    variables = {"owners": "data_owners", "patience": "P3D", "has_personal_data": True, "rows": 5000}
    items = [{"name": name, "value": value} for name, value in variables.items()]
    body = {"message": "LabelsOrdered", "businessKey": "all", "variables": items}
    status, reply = play.ask("POST", f"{RUN}/process-instances", body)
    assert status == 201, reply
    process = reply["id"]
    assert sorted(play.tasks(process)) == ["Approve", "Judge"]
    play.now += DAY
    assert sorted(play.tasks(process)) == ["Approve", "Judge", "Remind"]
    play.complete(process, "Remind")
    play.complete(process, "Judge", "doubtful")
    play.complete(process, "Judge again", "good")
    play.message(process, "LabelsReady", variables=[{"name": "labels", "value": 5}])
    assert list(play.tasks(process)) == ["Approve"]
    play.now += 3 * DAY
    play.complete(process, "Decide instead", "approved")
    assert sorted(play.tasks(process)) == ["Check a sample", "Check personal data"]
    play.complete(process, "Check a sample")
    play.complete(process, "Check personal data")
    assert play.tasks(process) == {}  # the embargo
    play.now += 3600
    play.complete(process, "Publish")
    assert play.end(process) == "approved"
    assert play.restarts == 0 or play.restarts > 10


def test_everything_is_withdrawn_by_a_signal(play: Play) -> None:
    play.deploy("called", "everything", "signal_sender")
    variables = {"owners": "data_owners", "patience": "P3D", "has_personal_data": False, "rows": 5}
    process = play.start("everything", **variables)
    play.complete(process, "Approve", "approved")
    play.complete(process, "Judge", "good")
    play.message(process, "LabelsReady")
    play.now += 3600
    assert list(play.tasks(process)) == ["Publish"]
    play.start("signal_sender")
    assert play.end(process) == "given_up"
    tasks = play.get(f"{HISTORY}/historic-task-instances", processInstanceId=process, taskName="Publish")
    (publish,) = tasks["_embedded"]["historic-task-instances"]
    assert publish["deleteReason"] == "boundary event (withdrawn)"


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


def test_the_diagram_is_a_picture_that_shows_where_the_process_waits(tmp_path: Path) -> None:
    play = Play(tmp_path)
    play.deploy("called", "everything", "inner")
    process = play.start("everything", owners="data_owners", patience="P3D")
    status, before = play.ask("GET", f"{RUN}/process-instances/{process}/diagram")
    assert (status, before[:8]) == (200, b"\x89PNG\r\n\x1a\n")
    play.complete(process, "Approve", "approved")
    assert play.ask("GET", f"{RUN}/process-instances/{process}/diagram")[1] != before
    assert play.ask("GET", f"{RUN}/process-instances/nothing/diagram")[0] == 404
    play.close()


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
        (
            '<endEvent id="approved"/>',
            '<endEvent id="approved"><messageEventDefinition/></endEvent>',
            "throws a message",
        ),
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
