"""OpenText's client and Flowable's published schema: that what is held to it really is."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from include.sandbox.opentext import OpenTextStandIn
from tests.contracts import opentext
from tests.contracts.opentext import HISTORY, RUN, reply_faults, request_faults
from tests.sandbox.opentext_play import CLIENT, DAY, Play
from tests.systems.opentext.connect import connect
from tests.workers import TOTALS

pytestmark = pytest.mark.skipif(not opentext.FILE.is_file(), reason=opentext.ABSENT)

PROCESS = {"id": "p", "name": "x", "businessKey": "k", "suspended": False, "startTime": "2018-04-17T10:17:43.902+0000"}


def ask(method: str, path: str, body: Any = None) -> list[str]:
    path, _, query = path.partition("?")
    return request_faults(method, path, query, b"" if body is None else json.dumps(body).encode())


def answer(method: str, path: str, status: int, body: Any) -> list[str]:
    return reply_faults(method, path, status, "application/json", b"" if body is None else json.dumps(body).encode())


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", f"{RUN}/process-instances", {"processDefinitionKey": "k", "variables": [{"name": "a", "value": 1}]}),
        ("POST", f"{RUN}/process-instances/p/variables", [{"name": "a", "type": "json", "value": {"b": []}}]),
        ("POST", f"{RUN}/tasks/t", {"action": "complete", "outcome": "approved"}),
        ("GET", f"{RUN}/tasks?offset=0&count=10&candidateOrAssigned=a%40b.example&includeTaskComments=true", None),
        ("GET", f"{HISTORY}/historic-process-instances?finished=true&finishedAfter=2026-01-01T00%3A00%3A00.000Z", None),
        ("DELETE", f"{RUN}/process-instances/p?deleteReason=x", None),
    ],
)
def test_good_requests_pass(method: str, path: str, body: Any) -> None:
    assert ask(method, path, body) == []


@pytest.mark.parametrize(
    ("method", "path", "body", "said"),
    [
        ("POST", f"{RUN}/process-instances", {"processKey": "k"}, "'processKey' was unexpected"),
        ("POST", f"{RUN}/process-instances", {"variables": {"a": 1}}, "is not of type 'array'"),
        ("POST", f"{RUN}/process-instances/p/variables", {"name": "a"}, "is not of type 'array'"),
        ("POST", f"{RUN}/tasks/t", {"outcome": "x"}, "'action' is a required property"),
        ("POST", f"{RUN}/tasks/t", {"action": 1}, "is not of type 'string'"),
        ("GET", f"{RUN}/tasks?taskKey=x", None, "neither Flowable's nor known of OpenText"),
        ("GET", f"{RUN}/process-instances?suspended=maybe", None, "expected true or false"),
        ("GET", f"{RUN}/tasks/t", {"a": 1}, "takes none"),
        ("GET", f"{RUN}/query/tasks", None, "no such operation"),
        ("POST", f"{RUN}/tasks/t", {"action": "complete", "result": "x"}, "'result' was unexpected"),
    ],
)
def test_wrong_requests_are_found(method: str, path: str, body: Any, said: str) -> None:
    (fault,) = ask(method, path, body)
    assert said in fault


@pytest.mark.parametrize(
    ("method", "path", "status", "body", "said"),
    [
        ("GET", f"{RUN}/process-instances/p", 200, PROCESS, None),
        ("GET", f"{RUN}/process-instances/p", 200, {**PROCESS, "state": "x"}, "'state' was unexpected"),
        ("GET", f"{RUN}/process-instances/p", 200, {**PROCESS, "suspended": "no"}, "'no' is not valid"),
        ("GET", f"{RUN}/process-instances", 200, {"_embedded": {"x": [PROCESS]}, "_links": {}}, None),
        ("GET", f"{RUN}/process-instances", 200, {"data": [PROCESS], "total": 1}, "expected _embedded"),
        ("GET", f"{RUN}/process-instances", 200, {"_embedded": {"x": []}}, "no _embedded where it is empty"),
        ("GET", f"{RUN}/process-instances", 200, [PROCESS], "expected _embedded"),
        ("GET", f"{RUN}/process-instances/p", 404, {"message": "Not found", "exception": "x"}, None),
        ("GET", f"{RUN}/process-instances/p", 404, {"error": "x"}, "expected message and exception"),
        ("DELETE", f"{RUN}/process-instances/p", 204, {"a": 1}, "has a body"),
        ("DELETE", f"{RUN}/process-instances/p", 202, None, "status 202 is not declared"),
        ("POST", f"{RUN}/tasks/t", 200, {"id": "t"}, "none is declared"),
        ("GET", f"{HISTORY}/historic-process-instances/p", 200, {"endTime": "yesterday"}, "is not valid"),
    ],
)
def test_replies_are_judged(method: str, path: str, status: int, body: Any, said: str | None) -> None:
    faults = answer(method, path, status, body)
    assert faults == [] if said is None else said in faults[0]


def test_every_shared_operation_is_one_of_flowable() -> None:
    for shared in opentext.SHARED:
        assert opentext.operation(shared), shared.path


def test_every_address_of_the_stand_in_is_shared_or_said_to_be_its_own() -> None:
    stand_in = OpenTextStandIn(None)
    routes = {
        (method, pattern.pattern.replace("\\", "").removesuffix("Z"))
        for method, pattern, _ in stand_in.app._routes
        if pattern.pattern.replace("\\", "").startswith(("/workflow/", "/workflow-history/"))
    }
    assert len(routes) > 20
    for method, pattern in routes:
        path = re.sub(r"\(\?P<\w+>\[\^/\]\+\)", "x", pattern)
        assert opentext.find(method, path) or opentext.own(method, path), f"{method} {path}"
    stand_in.close()


def test_a_stand_in_that_answers_wrongly_is_caught(tmp_path: Path, held_to_flowable: list[str]) -> None:
    play = Play(tmp_path)
    play.deploy("late_approval")
    process = play.start("late_approval")
    assert held_to_flowable == []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("include.sandbox.opentext.processes.runtime_time", lambda at: int(at))
        play.get(f"{RUN}/process-instances/{process}")
    (fault,) = held_to_flowable
    assert "$.startTime" in fault
    held_to_flowable.clear()
    play.close()


def test_one_story_uses_every_operation_that_the_client_has(tmp_path: Path) -> None:
    """Requests and replies of all of it are held to the schema by the fixture that watches every test."""
    before = Counter(TOTALS["opentext requests"])
    play = Play(tmp_path)
    play.now = time.time()
    client = connect(play.server.url, CLIENT)
    play.deploy("late_approval")
    process = client.start_process("late_approval", name="All", business_key="all", variables={"rows": 5})[0]
    assert client.find_process("all") == process
    assert [one.id for one in client.processes(key="late_approval", business_key="all")] == [process]
    client.set_variable(process, "rows", 5000)
    client.set_variable(process, "new", {"a": [1, None]})
    assert client.process(process).variables == {"rows": 5000, "new": {"a": [1, None]}}
    client.add_comment(process, "a comment")
    assert [comment.message for comment in client.comments(process)] == ["a comment"]
    [task] = client.tasks(process_id=process)
    client.update_task(task.id, dueDate=None, priority=70)
    client.task(task.id)
    client.add_attachment(task.id, "Report", url="https://reports.example/1")
    file = client.add_attachment(task.id, "report.txt", content=b"text")
    assert len(client.attachments(task.id)) == 2
    client.attachment_content(task.id, file.id)
    client.complete(task.id, outcome="approved", variables={"x": 1.5})
    assert client.history(process).end_activity_id == "approved"
    client.add_comment(process, "afterwards")
    assert client.comments(process)[-1].message == "afterwards"
    assert list(client.ended_since(datetime.fromtimestamp(play.now - DAY, UTC), ["late_approval"])) == [process]
    assert list(client.historic_tasks(process))
    assert client.historic_task(task.id)
    late = client.start_process("late_approval", name="x", business_key="l", variables={})[0]
    client.terminate(late, "not needed")
    assert list(client.models())
    play.close()
    asked = {name for name in TOTALS["opentext requests"] - before if "/models" not in name}
    left = {f"{one.method} {one.path}" for one in opentext.SHARED} - asked
    # What only people's clients use.
    assert left == {f"POST {RUN}/tasks/{{t}}/comments"}
