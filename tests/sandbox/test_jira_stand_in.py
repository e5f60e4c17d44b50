"""What the local Jira answers to clients that others wrote: which Jira it is, projects, fields, whole addresses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from include.sandbox.http import Server
from include.sandbox.jira import JiraStandIn, JiraUser

PERSON = JiraUser("acc-me", "Me", "me@labelops.example", "my-token")
API = "/rest/api/2"
Send = Callable[..., requests.Response]


@pytest.fixture(params=["cloud", "datacenter"])
def stand_in(request: pytest.FixtureRequest) -> Iterator[JiraStandIn]:
    made = JiraStandIn(None, [PERSON], ["LAB", "OPS"], flavour=request.param)
    yield made
    made.close()


@pytest.fixture
def send(stand_in: JiraStandIn) -> Iterator[Send]:
    with Server(stand_in.app) as server, requests.Session() as session:
        session.trust_env = False

        def send(method: str, path: str, **parts: Any) -> requests.Response:
            address = path if path.startswith("http") else server.url + path
            return session.request(method, address, timeout=10, **{"auth": (PERSON.login, PERSON.token), **parts})

        yield send


def test_anybody_is_told_which_jira_it_is(stand_in: JiraStandIn, send: Send) -> None:
    found = send("GET", f"{API}/serverInfo", auth=None).json()
    assert found["deploymentType"] == ("Cloud" if stand_in.flavour == "cloud" else "Server")
    assert found["version"] == ".".join(map(str, found["versionNumbers"]))
    assert found["baseUrl"].startswith("http://127.0.0.1:")


def test_a_project_has_one_id_and_its_kinds_of_issue(send: Send) -> None:
    listed = send("GET", f"{API}/project").json()
    assert [project["key"] for project in listed] == ["LAB", "OPS"]
    for name in ("OPS", listed[1]["id"]):
        found = send("GET", f"{API}/project/{name}").json()
        assert (found["key"], found["id"]) == ("OPS", listed[1]["id"])
        assert [kind["name"] for kind in found["issueTypes"]] == ["Task", "Bug"]
    assert send("GET", f"{API}/project/NONE").status_code == 404


def test_an_issue_is_made_by_the_id_of_its_project_and_leads_to_itself(send: Send) -> None:
    project = send("GET", f"{API}/project/OPS").json()["id"]
    fields = {"project": {"id": project}, "issuetype": {"name": "Task"}, "summary": "One"}
    made = send("POST", f"{API}/issue", json={"fields": fields}).json()
    assert made["key"] == "OPS-1"
    found = send("GET", made["self"]).json()
    assert (found["key"], found["self"]) == ("OPS-1", made["self"])
    assert send("PUT", found["self"], json={"fields": {"summary": "Two"}}).status_code == 204
    assert send("GET", found["self"]).json()["fields"]["summary"] == "Two"


def test_every_field_of_an_issue_is_listed(send: Send) -> None:
    fields = {"project": {"key": "LAB"}, "issuetype": {"name": "Task"}, "summary": "One"}
    key = send("POST", f"{API}/issue", json={"fields": fields}).json()["key"]
    listed = {field["id"] for field in send("GET", f"{API}/field").json()}
    assert set(send("GET", f"{API}/issue/{key}").json()["fields"]) <= listed
