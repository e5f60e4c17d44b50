from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from include.base.errors import AuthError, Conflict, InvalidInput, InvalidReply, NotFound, Unavailable, Unsupported
from include.sandbox.http import Reply, Request, json_reply
from include.settings import ROOT
from include.systems.opentext.client import OpenTextClient
from include.systems.opentext.settings import PATHS
from include.systems.opentext.values import Encrypted
from tests.sandbox.opentext_play import CLIENT, DAY, MODELS, RUN, Play
from tests.systems.opentext.connect import connect, settings_of

READER = {"id": "a-reader", "secret": "another-secret", "read_only": True}


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Play]:
    play = Play(tmp_path)
    play.now = time.time()
    yield play
    play.close()


@pytest.fixture
def client(play: Play) -> OpenTextClient:
    return connect(play.server.url, CLIENT)


def writes(play: Play) -> list[str]:
    return [f"{method} {target}" for method, target in play.standin.app.requests if method != "GET"]


def is_action(request: Request) -> bool:
    return request.method == "PUT" and "/executions/" in request.path


# --- processes ------------------------------------------------------------------------------------------------------


def test_processes_are_listed_by_everything_that_chooses_them(play: Play, client: OpenTextClient) -> None:
    play.deploy("late_approval", "called", "calling")
    first = client.start_process("late_approval", name="One", business_key="k1", variables={})[0]
    play.now += 60
    between = datetime.fromtimestamp(play.now - 30, UTC)
    caller = client.start_process("calling", name="Two", business_key="k2", variables={"owners": "x", "dataset": "d"})[
        0
    ]
    (child,) = client.processes(parent_id=caller)
    assert child.parent_id == caller
    assert [one.id for one in client.processes()] == [first, caller, child.id]
    assert [one.id for one in client.processes(key="late_approval")] == [first]
    assert [one.id for one in client.processes(business_key="k2")] == [caller]
    assert [one.id for one in client.processes(name="One")] == [first]
    assert [one.id for one in client.processes(started_after=between)] == [caller, child.id]
    assert [one.id for one in client.processes(started_before=between)] == [first]
    assert [one.id for one in client.processes(called=False)] == [first, caller]
    assert [one.id for one in client.processes(started_by=CLIENT["id"], suspended=True)] == []
    client.suspend(first)
    assert [one.id for one in client.processes(suspended=True)] == [first]
    assert {one.id for one in client.processes(suspended=False)} == {caller, child.id}


def test_a_filter_that_the_service_does_not_know_is_applied_here(
    play: Play, client: OpenTextClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    play.deploy("late_approval")
    ids = [client.start_process("late_approval", name="x", business_key=f"k{n}", variables={})[0] for n in range(3)]
    monkeypatch.setattr("include.sandbox.opentext.service._PROCESS_FILTERS", {})
    assert [one.id for one in client.processes(business_key="k1")] == [ids[1]]
    assert [one.id for one in client.historic_processes(business_key="k1")] == [ids[1]]


def test_suspending_twice_is_suspending_once(play: Play, client: OpenTextClient) -> None:
    play.deploy("late_approval")
    process = client.start_process("late_approval", name="x", business_key="k", variables={})[0]
    assert client.suspend(process, "wait for the audit")
    assert not client.suspend(process, "wait for the audit")
    assert client.process(process).suspended
    assert [item.message for item in client.comments(process)] == ["wait for the audit"]
    assert client.activate(process)
    assert not client.activate(process)
    with pytest.raises(NotFound):
        client.suspend("nothing")


@pytest.mark.parametrize("kind", ["reset_before", "reset_after"])
def test_a_lost_reply_to_suspending_changes_nothing(play: Play, client: OpenTextClient, kind: str) -> None:
    play.deploy("late_approval")
    process = client.start_process("late_approval", name="x", business_key="k", variables={})[0]
    play.standin.app.fault(kind, lambda r: r.method == "PUT")
    client.suspend(process, "once")
    assert client.process(process).suspended
    assert [item.message for item in client.comments(process)] == ["once"]


def test_a_diagram_is_a_picture(play: Play, client: OpenTextClient) -> None:
    play.deploy("late_approval")
    process = client.start_process("late_approval", name="x", business_key="k", variables={})[0]
    assert client.diagram(process).startswith(b"\x89PNG")
    with pytest.raises(NotFound):
        client.diagram("nothing")
    at = play.standin.app.fault
    at("status", lambda r: r.path.endswith("/diagram"), reply=json_reply({"exception": "no DI"}, 400))
    with pytest.raises(Unsupported, match="no DI"):
        client.diagram(process)
    at("status", lambda r: r.path.endswith("/diagram"), reply=Reply(200, b"<html>", {"Content-Type": "text/html"}))
    with pytest.raises(InvalidReply, match="text/html; expected a PNG"):
        client.diagram(process)


@pytest.mark.parametrize("kind", [None, "reset_before", "reset_after", "truncate"])
def test_a_process_is_started_by_message_once(play: Play, client: OpenTextClient, kind: str | None) -> None:
    play.deploy("messages")
    if kind:
        play.standin.app.fault(kind, lambda r: r.method == "POST" and r.path.endswith("/process-instances"))
    call = {"name": "Labels", "business_key": "k", "variables": {"labels": 3}}
    if kind == "reset_before":
        with pytest.raises(Unavailable, match="was not confirmed"):
            client.start_by_message("LabelsOrdered", **call)
    process, _ = client.start_by_message("LabelsOrdered", **call)
    assert client.start_by_message("LabelsOrdered", **call) == (process, False)
    assert [one.id for one in client.processes()] == [process]
    assert client.variables(process) == {"labels": 3}
    with pytest.raises(InvalidInput, match="no subscription to a message with name 'Nobody'"):
        client.start_by_message("Nobody", name="x", business_key="other", variables={})


# --- variables ------------------------------------------------------------------------------------------------------


def test_variables_one_and_all(play: Play, client: OpenTextClient) -> None:
    play.deploy("late_approval")
    start = {"rows": 5, "secret": Encrypted("s"), "at": datetime(2026, 1, 2, tzinfo=UTC)}
    process = client.start_process("late_approval", name="x", business_key="k", variables=start)[0]
    assert client.variables(process) == {"rows": 5, "secret": None, "at": datetime(2026, 1, 2, tzinfo=UTC)}
    assert client.variable(process, "rows") == 5
    play.standin.app.requests.clear()
    client.set_variables(process, {"rows": 6, "a": [1], "b": {"c": None}, "d": "ä/ö"})
    assert sum(line.startswith("POST") for line in writes(play)) == 1
    assert client.variable(process, "d") == "ä/ö"
    assert {name: client.variables(process)[name] for name in "ab"} == {"a": [1], "b": {"c": None}}
    assert client.variable(process, "rows") == 6
    assert client.delete_variable(process, "a")
    assert not client.delete_variable(process, "a")
    with pytest.raises(NotFound, match="no variable 'a'"):
        client.variable(process, "a")
    for call in (client.variables, lambda one: client.variable(one, "x"), lambda one: client.delete_variable(one, "x")):
        with pytest.raises(NotFound):
            call("nothing")
    with pytest.raises(InvalidInput, match="'bad'"):
        client.set_variables(process, {"good": 1, "bad": object()})
    assert "good" not in client.variables(process)


@pytest.mark.parametrize("kind", ["reset_before", "reset_after", "truncate"])
def test_variables_stand_though_a_reply_is_lost(play: Play, client: OpenTextClient, kind: str) -> None:
    play.deploy("late_approval")
    process = client.start_process("late_approval", name="x", business_key="k", variables={"old": 1})[0]
    play.standin.app.fault(kind, lambda r: r.path.endswith("/variables") and r.method == "POST")
    client.set_variables(process, {"old": 2, "new": 3, "newer": 4})
    assert client.variables(process) == {"old": 2, "new": 3, "newer": 4}


def test_a_service_that_reads_no_single_variable(play: Play, client: OpenTextClient) -> None:
    play.deploy("late_approval")
    process = client.start_process("late_approval", name="x", business_key="k", variables={"rows": 5})[0]
    single = f"{RUN}/process-instances/{process}/variables/rows"
    play.standin.app.fault("status", lambda r: r.path == single, reply=Reply(405))
    assert client.variable(process, "rows") == 5


def test_a_comment_is_deleted_once(play: Play, client: OpenTextClient) -> None:
    play.deploy("late_approval")
    process = client.start_process("late_approval", name="x", business_key="k", variables={})[0]
    comment = client.add_comment(process, "by mistake")
    play.standin.app.fault("reset_after", lambda r: r.method == "DELETE")
    # The first request's reply is lost, the second finds the comment gone.
    assert not client.delete_comment(process, comment.id)
    assert client.comments(process) == []
    assert not client.delete_comment(process, comment.id)
    assert client.delete_comment(process, client.add_comment(process, "again").id)
    with pytest.raises(NotFound):
        client.delete_comment("nothing", comment.id)


# --- messages, signals, triggers ------------------------------------------------------------------------------------


def started(play: Play, client: OpenTextClient, key: str = "k") -> str:
    if "messages" not in {model.key for model in client.models()}:
        play.deploy("messages")
    return client.start_process("messages", name="x", business_key=key, variables={})[0]


def test_executions_are_where_processes_stand(play: Play, client: OpenTextClient) -> None:
    one, other = started(play, client, "a"), started(play, client, "b")
    root, waiting = sorted(client.executions(one), key=lambda found: found.activity_id or "")
    assert (root.id, root.activity_id, root.parent_id) == (one, None, None)
    assert (waiting.activity_id, waiting.parent_id, waiting.process_id) == ("wait_labels", one, one)
    assert {found.process_id for found in client.executions(message="LabelsReady")} == {one, other}
    assert list(client.executions(message="Other")) == []
    assert [found.id for found in client.executions(execution_id=waiting.id)] == [waiting.id]
    assert len(list(client.executions(process_key="messages", activity_id="wait_labels"))) == 2


def test_a_message_a_trigger_and_their_variables(play: Play, client: OpenTextClient) -> None:
    process = started(play, client)
    taken = client.send_message(process, "LabelsReady", {"labels": 7})
    assert taken not in {found.id for found in client.executions(process)}
    client.send_message(process, "LabelsCorrected")
    (waiting,) = client.executions(process, activity_id="handed_over")
    client.trigger(waiting.id, {"to": "someone"})
    ended = client.history(process)
    assert (ended.end_activity_id, ended.variables) == ("done", {"labels": 7, "to": "someone"})
    with pytest.raises(NotFound):
        client.trigger(waiting.id)
    with pytest.raises(NotFound, match="is not running"):
        client.send_message(process, "LabelsReady")


def test_a_signal_reaches_its_place(play: Play, client: OpenTextClient) -> None:
    process = started(play, client)
    with pytest.raises(Conflict, match="does not wait for the signal 'DatasetWithdrawn' now"):
        client.send_signal(process, "DatasetWithdrawn")
    client.send_message(process, "LabelsReady")
    assert len(client.send_signal(process, "DatasetWithdrawn", {"why": "rights"})) == 1
    assert client.history(process).end_activity_id == "given_up"
    with pytest.raises(NotFound):
        client.send_signal(process, "DatasetWithdrawn")


def test_a_message_that_nothing_waits_for_is_a_conflict_and_not_sent(play: Play, client: OpenTextClient) -> None:
    process = started(play, client)
    play.standin.app.requests.clear()
    with pytest.raises(Conflict, match="does not wait for the message 'LabelsCorrected' now"):
        client.send_message(process, "LabelsCorrected")
    client.suspend(process)
    with pytest.raises(Conflict, match="is suspended"):
        client.send_message(process, "LabelsReady")
    assert [line for line in writes(play) if "executions" in line] == []


def test_several_places_for_one_message_are_told_apart(play: Play, client: OpenTextClient) -> None:
    content = (MODELS / "parallel_approvals.bpmn").read_text("utf-8")
    for name in ("quality", "owner", "law"):
        content = re.sub(
            rf'<userTask id="{name}"[^>]*/>',
            f'<intermediateCatchEvent id="{name}"><messageEventDefinition messageRef="m"/></intermediateCatchEvent>',
            content,
        )
    content = content.replace("<process ", '<message id="m" name="Go"/><process ')
    client.deploy("parallel_approvals", content)
    process = client.start_process("parallel_approvals", name="x", business_key="k", variables={})[0]
    with pytest.raises(Conflict, match=r"3 places .* wait for the message 'Go': law, owner, quality"):
        client.send_message(process, "Go")
    for name in ("owner", "quality"):
        client.send_message(process, "Go", activity_id=name)
    client.send_message(process, "Go")
    assert client.history(process).end_activity_id == "decided"


def test_a_lost_reply_to_a_message_that_was_taken_is_no_error(play: Play, client: OpenTextClient) -> None:
    process = started(play, client)
    fault = play.standin.app.fault("reset_after", is_action)
    client.send_message(process, "LabelsReady", {"n": 1})
    assert fault.hits == 1
    assert {found.activity_id for found in client.executions(process)} == {None, "corrected", "withdrawn", "forgotten"}


@pytest.mark.parametrize("status", [None, 502, 503, 504])
def test_a_message_that_did_not_arrive_is_not_repeated_blindly(
    play: Play, client: OpenTextClient, status: int | None
) -> None:
    process = started(play, client)
    if status is None:
        fault = play.standin.app.fault("reset_before", is_action, times=None)
    else:
        fault = play.standin.gateway_fault(is_action, status, times=None)
    with pytest.raises(Unavailable, match="which still waits"):
        client.send_message(process, "LabelsReady", {"n": 1})
    assert fault.hits == 1
    assert client.variables(process) == {}
    play.standin.app.faults.clear()
    client.send_message(process, "LabelsReady", {"n": 1})
    assert client.variables(process) == {"n": 1}


def test_of_two_senders_one_is_told_that_the_other_was_faster(play: Play, client: OpenTextClient) -> None:
    process = started(play, client)
    first = play.standin.app.fault("hold", is_action)
    caught: list[BaseException] = []

    def slow() -> None:
        try:
            client.send_message(process, "LabelsReady", {"who": "slow"})
        except Conflict as error:
            caught.append(error)

    thread = threading.Thread(target=slow)
    thread.start()
    assert first.reached.wait(5)
    client.send_message(process, "LabelsReady", {"who": "fast"})
    first.release.set()
    thread.join(10)
    (error,) = caught
    assert "another sender was faster" in str(error)
    assert client.variables(process) == {"who": "fast"}


def test_what_does_not_wait_for_a_trigger_is_refused(play: Play, client: OpenTextClient) -> None:
    process = started(play, client)
    (waiting,) = client.executions(process, message="LabelsReady")
    with pytest.raises(Unavailable, match="isn't waiting for a trigger"):
        client.trigger(waiting.id)
    assert client.variables(process) == {}


# --- history --------------------------------------------------------------------------------------------------------


def end_some(play: Play, client: OpenTextClient, number: int, prefix: str = "e") -> list[str]:
    if "conditions" not in {model.key for model in client.models()}:
        play.deploy("conditions", "late_approval")
    ids = []
    for one in range(number):
        play.now += 1
        values = {"answers": 20, "label": "good", "forced": False}
        ids.append(client.start_process("conditions", name="x", business_key=f"{prefix}{one}", variables=values)[0])
    return ids


def test_what_ended_is_read_once(play: Play, client: OpenTextClient) -> None:
    play.now = time.time() - 3600
    ids = end_some(play, client, 5)
    running = client.start_process("late_approval", name="x", business_key="r", variables={})[0]
    reading = client.ended_processes()
    assert [found.id for found in reading] == ids
    assert reading.complete
    again = client.ended_processes(resume=reading.state)
    assert list(again) == []
    more = end_some(play, client, 2, "f")
    play.now += 1
    play.complete(running, "Approve")
    after = client.ended_processes(resume=again.state)
    assert [found.id for found in after] == [*more, running]
    assert [found.id for found in client.ended_processes(key="late_approval")] == [running]
    with pytest.raises(InvalidInput, match="a state belongs to one listing"):
        client.ended_processes(key="late_approval", resume=after.state)


def test_an_end_that_history_shows_late_is_not_missed(play: Play, client: OpenTextClient) -> None:
    play.now = time.time() - 3600
    first = end_some(play, client, 2)
    late = first.pop(0)
    with play.standin.state.transaction():
        ended = play.standin.state.row("SELECT ended FROM process WHERE id = ?", late)["ended"]
        play.standin.state.update("process", late, ended=None)
    reading = client.ended_processes()
    assert [found.id for found in reading] == first
    with play.standin.state.transaction():
        play.standin.state.update("process", late, ended=ended)
    assert [found.id for found in client.ended_processes(resume=reading.state)] == [late]


@pytest.mark.parametrize("state", ["", "42", "{}", '{"format": 1}'])
def test_a_state_of_nonsense_is_refused(play: Play, client: OpenTextClient, state: str) -> None:
    for read in (
        lambda: client.ended_processes(resume=state),
        lambda: client.processes(resume=state),
        lambda: client.executions(resume=state),
        lambda: client.historic_tasks(resume=state),
        lambda: client.models(resume=state),
    ):
        with pytest.raises(InvalidInput):
            list(read())


def test_a_place_that_no_list_has_is_refused(play: Play, client: OpenTextClient) -> None:
    state = json.loads(client.processes().state)
    for place in ("nonsense", "[1]", "[-1, [], 0]", '[5, "x", 0]', "null"):
        with pytest.raises(InvalidInput, match="no place in a list"):
            list(client.processes(resume=json.dumps({**state, "place": place})))


def test_a_state_of_the_future_is_refused(play: Play, client: OpenTextClient) -> None:
    play.now = time.time() + 3600
    end_some(play, client, 1)
    reading = client.ended_processes()
    assert len(list(reading)) == 1
    with pytest.raises(InvalidInput, match="future"):
        client.ended_processes(resume=reading.state)


def test_history_is_listed_by_everything_that_chooses_it(play: Play, client: OpenTextClient) -> None:
    play.deploy("called", "calling")
    ids = end_some(play, client, 2)
    between = datetime.fromtimestamp(play.now + 5, UTC)
    play.now += 10
    caller = client.start_process("calling", name="x", business_key="c", variables={"owners": "o", "dataset": "d"})[0]
    (child,) = client.historic_processes(parent_id=caller)
    assert child.parent_id == caller
    assert {one.id for one in client.historic_processes(finished=False)} == {caller, child.id}
    assert {one.id for one in client.historic_processes(finished=True)} == set(ids)
    assert {one.id for one in client.historic_processes(started_after=between)} == {caller, child.id}
    assert {one.id for one in client.historic_processes(started_before=between)} == set(ids)
    assert {one.id for one in client.historic_processes(finished_before=between)} == set(ids)
    assert {one.id for one in client.historic_processes(finished_after=between)} == set()
    assert [one.id for one in client.historic_processes(key="calling", called=False)] == [caller]
    assert [one.id for one in client.historic_processes(business_key="e1")] == [ids[1]]
    (with_values,) = client.historic_processes(business_key="e1", variables=True)
    assert with_values.variables["answers"] == 20
    assert next(client.historic_processes(business_key="e1")).variables == {}
    play.complete(caller, "Judge", "good")
    (judged,) = client.historic_tasks(caller)
    assert (judged.key, judged.process_id) == ("judge", child.id)
    assert [one.id for one in client.historic_tasks(key="judge", process_key="called", finished=True)] == [judged.id]
    assert list(client.historic_tasks(key="judge", finished=False)) == []
    assert list(client.historic_tasks(assignee="nobody")) == []
    assert [one.id for one in client.historic_tasks(completed_after=between)] == [judged.id]
    with pytest.raises(InvalidInput, match="no zone"):
        client.historic_processes(started_after=datetime.fromisoformat("2026-01-01"))


# --- lists ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3, 4, 8, 100])
def test_a_list_is_whole_and_is_taken_up_anywhere(play: Play, count: int) -> None:
    client = connect(play.server.url, CLIENT, count=count)
    started_ids = [started(play, client, f"k{number}") for number in range(11)]
    whole = [one.id for one in client.processes()]
    assert sorted(whole) == sorted(started_ids)
    for number in range(12):
        reading = client.processes()
        head = [next(reading).id for _ in range(number)]
        assert head + [one.id for one in client.processes(resume=reading.state)] == whole


@pytest.mark.parametrize("gone", [1, 3, 6, 9, 20])
def test_what_vanishes_while_a_list_is_walked_hides_nothing(play: Play, gone: int) -> None:
    client = connect(play.server.url, CLIENT, count=8)
    ids = [started(play, client, f"k{number}") for number in range(30)]
    reading = client.processes()
    seen = [next(reading).id for _ in range(20)]
    for process in seen[-gone:]:
        client.terminate(process, "test")
    rest = [one.id for one in reading]
    assert set(rest) >= set(ids) - set(seen)
    resumed = client.processes()
    seen = [next(resumed).id for _ in range(5)]
    for process in seen:
        client.terminate(process, "test")
    left = {one.id for one in client.processes()}
    assert {one.id for one in client.processes(resume=resumed.state)} == left


def test_a_service_that_ignores_the_offset_ends_with_an_error(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    client = connect(play.server.url, CLIENT, count=8)
    for number in range(10):
        started(play, client, f"k{number}")
    original = play.standin.app.handle

    def deaf(request: Request) -> Reply:
        query = {name: value for name, value in request.query.items() if name != "offset"}
        return original(Request(request.method, request.path, request.target, query, request.headers, request.body))

    monkeypatch.setattr(play.standin.app, "handle", deaf)
    with pytest.raises(InvalidReply, match="the first one again"):
        list(client.processes())


def test_paths_and_list_names_of_every_collection_can_be_set(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenant whose service has everything elsewhere and under other names."""
    plain = connect(play.server.url, CLIENT)
    process = started(play, plain)
    elsewhere = {
        "process-instances": "/cases", "executions": "/places", "tasks": "/work", "models": "/blueprints",
        "historic-process-instances": "/old-cases", "historic-task-instances": "/old-work",
    }  # fmt: skip
    original = play.standin.app.handle
    known = {
        name: ("/workflow-history/v1" if "historic" in name else "/workflow/v1") + path for name, path in PATHS.items()
    }

    def renamed(request: Request) -> Reply:
        path = request.path
        assert not any(path == one or path.startswith(one + "/") for one in known.values()), path
        for name, there in elsewhere.items():
            root = "/h" if "historic" in name else "/w"
            if path == root + there or path.startswith(root + there + "/"):
                path = known[name] + path[len(root + there) :]
                break
        reply = original(Request(request.method, path, request.target, request.query, request.headers, request.body))
        body = json.loads(reply.body or b"null")
        if isinstance(body, dict) and "_embedded" in body:
            body["_embedded"] = {f"{name}List": value for name, value in body["_embedded"].items()} | {"other": []}
        return Reply(reply.status, json.dumps(body).encode(), reply.headers)

    monkeypatch.setattr(play.standin.app, "handle", renamed)
    names = [*elsewhere, "variables", "comments"]
    client = connect(
        play.server.url,
        CLIENT,
        workflow_path="/w",
        history_path="/h",
        paths=elsewhere,
        rels={name: f"{name}List" for name in names},
    )
    assert [one.id for one in client.processes()] == [process]
    assert len(list(client.executions(process))) == 2
    assert [model.key for model in client.models()] == ["messages"]
    assert [one.id for one in client.historic_processes()] == [process]
    assert list(client.historic_tasks()) == []
    assert list(client.tasks()) == []
    client.set_variable(process, "a", 1)
    assert client.variables(process) == {"a": 1}
    with pytest.raises(InvalidInput, match="extra paths: found jobs; allowed: process-instances"):
        settings_of(play.server.url, CLIENT, paths={"jobs": "/x"})


# --- rights ---------------------------------------------------------------------------------------------------------


def test_a_missing_right_is_named(tmp_path: Path) -> None:
    play = Play(tmp_path, more_clients=[READER])
    process = started(play, connect(play.server.url, CLIENT))
    reader = connect(play.server.url, READER)
    assert [one.id for one in reader.processes()] == [process]
    for call, right in (
        (lambda: reader.suspend(process), "Start, read, suspend and end processes"),
        (lambda: reader.set_variable(process, "a", 1), "Write process variables and comments"),
        (lambda: reader.send_message(process, "LabelsReady"), "Send messages and signals"),
        (lambda: reader.deploy("x", (MODELS / "timers.bpmn").read_text("utf-8")), "Deploy models"),
    ):
        with pytest.raises(AuthError, match=rf"the client 'a-reader' lacks the right: {right}"):
            call()
    play.close()


def test_the_rights_are_documented() -> None:
    said = (ROOT / "docs" / "data-engineer.md").read_text("utf-8")
    needs = OpenTextClient.requirements()
    assert len(needs) == 6
    for need in needs:
        assert need.removeprefix("right: ") in said


def test_waiting_for_timers_needs_no_request(play: Play, client: OpenTextClient) -> None:
    play.deploy("late_approval")
    process = client.start_process("late_approval", name="x", business_key="k", variables={})[0]
    play.now += 6 * DAY
    assert play.standin.tick() == 1
    assert play.standin.tick() == 0
    (ended,) = client.historic_tasks(process, key="approve")
    assert ended.delete_reason == "boundary event (too_late)"
    assert ended.ended is not None
    assert abs(ended.ended - datetime.fromtimestamp(play.now, UTC)) < timedelta(seconds=1)
