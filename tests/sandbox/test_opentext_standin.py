from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest

from include.bpmn.mapping import MAPPINGS
from include.sandbox.http import Server
from include.sandbox.opentext import OpenTextStandIn
from include.sandbox.opentext.person import Person

ROOT = Path(__file__).resolve().parents[2]
APPROVAL = (MAPPINGS.parent / "labeling_approval.bpmn").read_text("utf-8")
SERVICE = {"id": "labelops-service", "secret": "an-invented-secret"}
DANA = {"email": "dana@people.example", "name": "Dana", "password": "pw-dana", "groups": ["data_owners"]}
VARIABLES = [
    {"name": "quality_review_required", "type": "boolean", "value": False},
    {"name": "data_owners", "value": "data_owners"},
    {"name": "note", "value": "<script>alert(1)</script>"},
]


class Client:
    """Raw requests with a service token."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.token = ""
        fields = {"client_id": SERVICE["id"], "client_secret": SERVICE["secret"], "grant_type": "client_credentials"}
        self.token = self.send("POST", "/tenants/t/oauth2/token", fields)[1]["access_token"]

    def send(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"}
        content = None if body is None else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(
                urllib.request.Request(self.url + path, data=content, method=method, headers=headers)
            ) as reply:
                text = reply.read()
                return reply.status, json.loads(text) if text else None
        except HTTPError as error:
            text = error.read()
            return error.code, json.loads(text) if text.startswith(b"{") else text.decode()

    def deploy(self) -> None:
        assert self.send("POST", f"{RUN}/runtime/models", {"modelType": "xml", "modelContent": APPROVAL})[0] == 201

    def start(self, **fields: Any) -> dict[str, Any]:
        status, reply = self.send(
            "POST",
            f"{RUN}/process-instances",
            {"processDefinitionKey": "labeling_approval", "name": "V", "variables": VARIABLES, **fields},
        )
        assert status == 201, reply
        return reply


RUN, HISTORY = "/workflow/v1", "/workflow-history/v1"


@pytest.fixture
def standin() -> OpenTextStandIn:
    return OpenTextStandIn(None, users=[DANA], clients=[SERVICE])


@pytest.fixture
def client(standin: OpenTextStandIn) -> Iterator[Client]:
    with Server(standin.app) as server:
        client = Client(server.url)
        client.deploy()
        yield client


def test_without_a_good_token_nothing_is_answered(client: Client, standin: OpenTextStandIn) -> None:
    standin.revoke_tokens()
    for method, path in (
        ("GET", f"{RUN}/tasks"),
        ("POST", f"{RUN}/process-instances"),
        ("GET", f"{RUN}/runtime/models"),
    ):
        status, body = client.send(method, path, {})
        assert (status, body["fault"]["faultstring"]) == (401, "Invalid access token")


def test_a_person_with_a_wrong_password_gets_no_token(client: Client) -> None:
    fields = {"client_id": SERVICE["id"], "client_secret": SERVICE["secret"], "grant_type": "password"}
    status, body = client.send(
        "POST", "/tenants/t/oauth2/token", {**fields, "username": DANA["email"], "password": "x"}
    )
    assert (status, body["error"]) == (400, "invalid_grant")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "processDefinitionKey is required."),
        ({"processDefinitionKey": "nope"}, "No process definition found for key 'nope'"),
        (
            {"processDefinitionKey": "labeling_approval", "variables": [{"name": "x", "type": "y", "value": 1}]},
            "Variable 'x' has unsupported type: 'y'.",
        ),
        (
            {"processDefinitionKey": "labeling_approval", "variables": [{"name": "x", "type": "date", "value": 1}]},
            "Converter can only convert string to date",
        ),
    ],
)
def test_bad_starts_are_400_with_the_reason_and_leave_nothing(
    client: Client, standin: OpenTextStandIn, body: dict, text: str
) -> None:
    status, reply = client.send("POST", f"{RUN}/process-instances", body)
    assert status == 400
    assert text in reply["exception"]
    assert standin.state.counts()["processes"] == 0


def test_lists_are_hal_with_ten_by_default_and_offset_by_element(client: Client) -> None:
    _, empty = client.send("GET", f"{RUN}/process-instances")
    assert "_embedded" not in empty
    ids = [client.start()["id"] for _ in range(12)]
    _, first = client.send("GET", f"{RUN}/process-instances")
    assert [item["id"] for item in first["_embedded"]["process-instances"]] == ids[:10]
    assert "next" in first["_links"]
    _, middle = client.send("GET", f"{RUN}/process-instances?offset=7&count=3")
    assert [item["id"] for item in middle["_embedded"]["process-instances"]] == ids[7:10]
    _, tasks = client.send("GET", f"{RUN}/tasks?offset=11")
    assert tasks["page"] == {"size": 10, "totalElements": 12, "totalPages": 2, "number": 1}
    assert len(tasks["_embedded"]["tasks"]) == 1
    assert client.send("GET", f"{RUN}/tasks?sort=colour")[0] == 400


def test_times_come_in_three_spellings(client: Client) -> None:
    started = client.start()
    assert started["startTime"].endswith("+0000")
    assert client.send("GET", f"{HISTORY}/historic-process-instances/{started['id']}")[1]["startTime"].endswith(
        "+05:30"
    )
    comment = client.send("POST", f"{RUN}/process-instances/{started['id']}/comments", {"message": "m"})[1]
    assert comment["time"].endswith("Z")


def test_variables_are_created_and_updated_as_flowable_does(client: Client) -> None:
    base = f"{RUN}/process-instances/{client.start()['id']}/variables"
    assert client.send("PUT", f"{base}/fresh", {"value": 1})[0] == 404
    assert client.send("POST", base, [{"name": "fresh", "value": 1}])[0] == 201
    assert client.send("POST", base, [{"name": "fresh", "value": 2}])[0] == 409
    assert client.send("PUT", f"{base}/fresh", {"value": 2, "type": "integer"})[0] == 200
    _, process = client.send("GET", f"{base.removesuffix('/variables')}?includeProcessVariables=true")
    assert {item["name"]: item["value"] for item in process["variables"]}["fresh"] == 2


def test_history_shows_variables_as_they_were(client: Client, standin: OpenTextStandIn) -> None:
    now = time.time()
    standin.clock = lambda: now
    process_id = client.start()["id"]
    now += 10
    client.send("POST", f"{RUN}/process-instances/{process_id}/variables", [{"name": "round", "value": 1}])
    now += 10
    client.send("PUT", f"{RUN}/process-instances/{process_id}/variables/round", {"value": 2})
    for lag, expected in ((0, 2), (5, 1), (15, None)):
        standin.history_lag_seconds = lag
        _, reply = client.send("GET", f"{HISTORY}/historic-process-instances/{process_id}?includeProcessVariables=true")
        assert {item["name"]: item["value"] for item in reply["variables"]}.get("round") == expected


def test_delegating_and_resolving(client: Client, standin: OpenTextStandIn) -> None:
    standin.service_may_complete = True
    client.start()
    task = client.send("GET", f"{RUN}/tasks")[1]["_embedded"]["tasks"][0]
    path = f"{RUN}/tasks/{task['id']}"
    client.send("POST", path, {"action": "claim", "assignee": DANA["email"]})
    assert client.send("POST", path, {"action": "delegate"})[0] == 400
    assert client.send("POST", path, {"action": "delegate", "assignee": "dora@people.example"})[0] == 200
    delegated = client.send("GET", path)[1]
    assert (delegated["owner"], delegated["assignee"], delegated["delegationState"]) == (
        DANA["email"],
        "dora@people.example",
        "pending",
    )
    assert client.send("POST", path, {"action": "complete", "outcome": "approved"})[0] == 500
    assert client.send("POST", path, {"action": "resolve"})[0] == 200
    assert client.send("GET", path)[1]["assignee"] == DANA["email"]
    assert client.send("POST", path, {"action": "applaud"})[1]["exception"] == "Invalid action: 'applaud'."


def test_pages_show_and_escape(client: Client) -> None:
    process_id = client.start(name="<b>Version</b>", businessKey="key-1")["id"]
    client.send("POST", f"{RUN}/process-instances/{process_id}/comments", {"message": "<img src=x>"})
    for path, wanted in (("/", "key-1"), (f"/processes/{process_id}", "Approve dataset")):
        with urllib.request.urlopen(client.url + path) as reply:
            text = reply.read().decode()
            assert "default-src 'none'" in reply.headers["Content-Security-Policy"]
        assert wanted in text
        assert "&lt;b&gt;Version&lt;/b&gt;" in text
        assert "<script" not in text
        assert "<img" not in text
    assert client.send("GET", "/processes/none")[0] == 404


class Program:
    """The stand-in as a program of its own, to be killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "users.json").write_text(json.dumps({"users": [DANA], "clients": [SERVICE]}))
        self.process = self.begin()

    def begin(self) -> subprocess.Popen[str]:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "include.sandbox.opentext", "--state", str(self.folder / "state"),
             "--users", str(self.folder / "users.json")],
            cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert self.process.stdout
        self.url = self.process.stdout.readline().strip().rpartition(" ")[2]
        return self.process

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()


def test_killed_in_the_middle_of_a_process_it_goes_on_where_it_was(tmp_path: Path) -> None:
    program = Program(tmp_path)
    try:
        client = Client(program.url)
        client.deploy()
        process_id = client.start(businessKey="key-1")["id"]
        person = Person(program.url, DANA["email"], DANA["password"], SERVICE)
        task = person.tasks()[0]
        person.claim(task["id"])
        person.comment(process_id, "before the crash")
        program.kill()
        program.begin()
        client.url = person.url = program.url
        assert [item["id"] for item in person.tasks()] == [task["id"]]  # the token outlives the crash too
        person.complete(task["id"], "approved")
        program.kill()
        program.begin()
        client.url = program.url
        _, history = client.send("GET", f"{HISTORY}/historic-process-instances/{process_id}")
        assert (history["endActivityId"], history["businessKey"]) == ("approved", "key-1")
        assert client.send("GET", f"{RUN}/process-instances/{process_id}")[0] == 404
        assert client.send("GET", "/_sandbox/snapshot")[1] == {"processes": 1, "ended": 1, "comments": 1, "models": 1}
    finally:
        program.kill()


# --- the shapes against Flowable's own contract -----------------------------------------------------------------------

CONTRACT = ROOT.parent / "shared" / "specs" / "flowable-process.yaml"


@pytest.fixture(scope="module")
def definitions() -> dict[str, Any]:
    if not CONTRACT.exists():
        pytest.skip(f"the contract is not here: {CONTRACT.name}")
    import yaml

    return yaml.load(CONTRACT.read_text("utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))["definitions"]


KINDS: dict[str, Any] = {"string": str, "boolean": bool, "integer": int, "object": dict, "array": list}


@pytest.mark.parametrize(
    ("definition", "own"),
    [
        # What OpenText adds to Flowable's objects, or answers in HAL's way.
        ("ProcessInstanceResponse", {"_links", "superProcessInstanceId"}),
        ("HistoricProcessInstanceResponse", set()),
        ("TaskResponse", {"comments", "assignments"}),
        ("HistoricTaskInstanceResponse", set()),
    ],
)
def test_objects_have_the_fields_and_kinds_of_flowable(
    client: Client, definitions: dict[str, Any], definition: str, own: set[str]
) -> None:
    process_id = client.start()["id"]
    path = {
        "ProcessInstanceResponse": f"{RUN}/process-instances/{process_id}",
        "HistoricProcessInstanceResponse": f"{HISTORY}/historic-process-instances/{process_id}",
        "TaskResponse": f"{RUN}/tasks",
        "HistoricTaskInstanceResponse": f"{HISTORY}/historic-task-instances",
    }[definition]
    _, reply = client.send("GET", path)
    item = next(iter(reply["_embedded"].values()))[0] if "_embedded" in reply else reply
    contract = definitions[definition]["properties"]
    assert set(item) - own <= set(contract)
    for name, value in item.items():
        if name in contract and value is not None:
            assert isinstance(value, KINDS[contract[name]["type"]]), (name, value)
