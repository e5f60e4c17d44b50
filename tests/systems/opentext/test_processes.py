from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from include.base.errors import AuthError, InvalidInput, InvalidReply
from include.sandbox.http import Reply, Request
from include.settings import ROOT
from include.systems.opentext.client import OpenTextClient
from include.systems.opentext.settings import PATHS
from tests.sandbox.opentext_play import CLIENT, DAY, MODELS, Play
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


# --- processes ------------------------------------------------------------------------------------------------------


def start(play: Play, client: OpenTextClient, key: str = "k") -> str:
    if "late_approval" not in {model.key for model in client.models()}:
        play.deploy("late_approval")
    return client.start_process("late_approval", name="x", business_key=key, variables={})[0]


def test_processes_are_listed_by_everything_that_chooses_them(play: Play, client: OpenTextClient) -> None:
    play.deploy("called", "calling")
    first = start(play, client, "k1")
    variables = {"owners": "x", "dataset": "d"}
    caller = client.start_process("calling", name="Two", business_key="k2", variables=variables)[0]
    [child] = client.processes(key="called")
    assert [one.id for one in client.processes()] == [first, caller, child.id]
    assert [one.id for one in client.processes(key="late_approval")] == [first]
    assert [one.id for one in client.processes(business_key="k2")] == [caller]
    assert [one.id for one in client.processes(key="called", business_key="k2")] == []
    assert list(client.running(["late_approval", "called"])) == [first, child.id]


def test_a_filter_that_the_service_does_not_know_is_applied_here(
    play: Play, client: OpenTextClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [start(play, client, f"k{number}") for number in range(3)]
    monkeypatch.setattr("include.sandbox.opentext.service._PROCESS_FILTERS", {})
    assert [one.id for one in client.processes(business_key="k1")] == [ids[1]]
    client.terminate(ids[0], "not needed")
    assert client.find_process("k1") == ids[1]
    assert list(client.ended_since(datetime.fromtimestamp(play.now, UTC), ["late_approval"])) == [ids[0]]
    assert list(client.ended_since(datetime.fromtimestamp(play.now, UTC), ["other"])) == []


# --- history --------------------------------------------------------------------------------------------------------


def end_some(play: Play, client: OpenTextClient, number: int) -> list[str]:
    play.deploy("conditions")
    ids = []
    for one in range(number):
        play.now += 1
        values = {"answers": 20, "label": "good", "forced": False}
        ids.append(client.start_process("conditions", name="x", business_key=f"e{one}", variables=values)[0])
    return ids


@pytest.mark.parametrize("state", ["", "42", "{}", '{"format": 1}'])
def test_a_state_of_nonsense_is_refused(client: OpenTextClient, state: str) -> None:
    with pytest.raises(InvalidInput):
        client.processes(resume=state)


def test_a_place_that_no_list_has_is_refused(play: Play, client: OpenTextClient) -> None:
    state = json.loads(client.processes().state)
    for place in ("nonsense", "[1]", "[-1, [], 0]", '[5, "x", 0]', "null"):
        with pytest.raises(InvalidInput, match="no place in a list"):
            list(client.processes(resume=json.dumps({**state, "place": place})))


def test_history_is_listed_by_everything_that_chooses_it(play: Play, client: OpenTextClient) -> None:
    play.deploy("called", "calling")
    ids = end_some(play, client, 2)
    caller = client.start_process("calling", name="x", business_key="c", variables={"owners": "o", "dataset": "d"})[0]
    first, second = (datetime.fromtimestamp(play.now + seconds, UTC) for seconds in (-1, 5))
    assert list(client.ended_since(first)) == ids
    assert list(client.ended_since(first, ["calling", "conditions"])) == ids
    assert list(client.ended_since(first, ["calling"])) == []
    assert list(client.ended_since(second)) == []
    assert client.history(ids[1]).variables["answers"] == 20
    play.complete(caller, "Judge", "good")
    [child] = client.ended_since(first, ["called"])
    [judged] = client.historic_tasks(caller)
    assert (judged.key, judged.process_id) == ("judge", child)
    with pytest.raises(InvalidInput, match="no zone"):
        list(client.ended_since(datetime.fromisoformat("2026-01-01")))


# --- lists ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3, 4, 8, 100])
def test_a_list_is_whole_and_is_taken_up_anywhere(play: Play, count: int) -> None:
    client = connect(play.server.url, CLIENT, count=count)
    started_ids = [start(play, client, f"k{number}") for number in range(11)]
    whole = [one.id for one in client.processes()]
    assert sorted(whole) == sorted(started_ids)
    for number in range(12):
        reading = client.processes()
        head = [next(reading).id for _ in range(number)]
        assert head + [one.id for one in client.processes(resume=reading.state)] == whole


@pytest.mark.parametrize("gone", [1, 3, 6, 9, 20])
def test_what_vanishes_while_a_list_is_walked_hides_nothing(play: Play, gone: int) -> None:
    client = connect(play.server.url, CLIENT, count=8)
    ids = [start(play, client, f"k{number}") for number in range(30)]
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
        start(play, client, f"k{number}")
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
    process = start(play, plain)
    elsewhere = {name: f"/other-{name}" for name in PATHS}
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
    names = [*elsewhere, "comments"]
    client = connect(
        play.server.url,
        CLIENT,
        workflow_path="/w",
        history_path="/h",
        paths=elsewhere,
        rels={name: f"{name}List" for name in names},
    )
    assert [one.id for one in client.processes()] == [process]
    assert [model.key for model in client.models()] == ["late_approval"]
    assert client.history(process).ended_at is None
    [task] = client.tasks()
    assert [one.id for one in client.historic_tasks(process)] == [task.id]
    client.set_variable(process, "a", 1)
    assert client.process(process).variables == {"a": 1}
    assert list(client.comments(process)) == []
    with pytest.raises(InvalidInput, match="extra paths: found jobs; allowed: process-instances"):
        settings_of(play.server.url, CLIENT, paths={"jobs": "/x"})


# --- rights ---------------------------------------------------------------------------------------------------------


def test_a_missing_right_is_named(tmp_path: Path) -> None:
    play = Play(tmp_path, more_clients=[READER])
    process = start(play, connect(play.server.url, CLIENT))
    reader = connect(play.server.url, READER)
    assert [one.id for one in reader.processes()] == [process]
    for call, right in (
        (lambda: reader.terminate(process, "x"), "Start, read and end processes"),
        (lambda: reader.set_variable(process, "a", 1), "Write process variables and comments"),
        (lambda: reader.deploy("x", (MODELS / "timers.bpmn").read_text("utf-8")), "Deploy models"),
    ):
        with pytest.raises(AuthError, match=rf"the client 'a-reader' lacks the right: {right}"):
            call()
    play.close()


def test_the_rights_are_documented() -> None:
    said = (ROOT / "docs" / "data-engineer.md").read_text("utf-8")
    needs = OpenTextClient.requirements()
    assert len(needs) == 5
    for need in needs:
        assert need.removeprefix("right: ") in said


def test_waiting_for_timers_needs_no_request(play: Play, client: OpenTextClient) -> None:
    play.deploy("late_approval")
    process = client.start_process("late_approval", name="x", business_key="k", variables={})[0]
    play.now += 6 * DAY
    assert play.standin.tick() == 1
    assert play.standin.tick() == 0
    [ended] = (one for one in client.historic_tasks(process) if one.key == "approve")
    assert ended.delete_reason == "boundary event (too_late)"
    assert ended.ended is not None
    assert abs(ended.ended - datetime.fromtimestamp(play.now, UTC)) < timedelta(seconds=1)
