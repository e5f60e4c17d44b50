"""The published contracts load, and refuse what they should; otherwise nothing held to them would mean anything."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest
import requests
from openapi_spec_validator import OpenAPIV30SpecValidator

from include.sandbox.confluence import ConfluenceStandIn, SandboxUser
from include.sandbox.http import Reply, Request, Server, json_reply
from tests.contracts import confluence
from tests.contracts.confluence import reply_faults, request_faults
from tests.contracts.contract import ABSENT, SPECS, Exchange, load
from tests.contracts.recorder import recording

pytestmark = pytest.mark.skipif(not SPECS.is_dir(), reason=ABSENT)

USER = SandboxUser("acc-one", "One", "one@labelops.example", "token-one")
HEADERS = {"Authorization": "Basic x", "Content-Type": "application/json", "X-Atlassian-Token": "nocheck"}
PAGE = {
    "id": "12",
    "status": "current",
    "title": "T",
    "body": {"representation": "storage", "value": "<p />"},
    "version": {"number": 2, "message": ""},
}
STORED = {**PAGE, "parentId": None, "body": {}}
MULTIPART = (
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\nhello\r\n'
    b'--b\r\nContent-Disposition: form-data; name="minorEdit"\r\n'
    b"Content-Type: text/plain; charset=utf-8\r\n\r\ntrue\r\n--b--\r\n"
)


def ask(method: str, path: str, body: Any = None, flavour: str = "cloud", **headers: str) -> list[str]:
    path, _, query = path.partition("?")
    content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {**HEADERS, **{name.replace("_", "-"): value for name, value in headers.items()}}
    sent = {name: value for name, value in sent.items() if value}
    return request_faults(flavour, Exchange(method, path, query, sent, content))


def answer(method: str, path: str, status: int, body: Any, flavour: str = "cloud") -> list[str]:
    headers = {"Content-Type": "application/json;charset=UTF-8"}
    exchange = Exchange(method, path, "", HEADERS, b"", status, headers, json.dumps(body).encode())
    return reply_faults(flavour, exchange)


@pytest.mark.parametrize("name", ["v2", "v1", "datacenter"])
def test_the_mended_contracts_are_valid_openapi(name: str) -> None:
    assert list(OpenAPIV30SpecValidator(confluence.document(name)).iter_errors()) == []
    assert len(confluence.contract(name).operations) > 100


@pytest.mark.parametrize(
    "file", ["confluence-cloud-v2.json", "confluence-cloud-v1.json", "confluence-datacenter-10.0.3.json"]
)
def test_each_published_file_needs_mending(file: str) -> None:
    published = load(file, lambda document: None)
    mended = copy.deepcopy(published)
    confluence.mend(mended)
    assert next(OpenAPIV30SpecValidator(published).iter_errors(), None) is not None
    assert mended["paths"].keys() == published["paths"].keys()


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/wiki/api/v2/pages/12", PAGE),
        ("GET", "/wiki/api/v2/pages?id=1&id=2,3&status=current&limit=250&body-format=storage", None),
        ("POST", "/wiki/rest/api/content/12/label", [{"prefix": "global", "name": "x"}]),
        ("GET", "/wiki/rest/api/user/current", None),
    ],
)
def test_good_requests_pass(method: str, path: str, body: Any) -> None:
    assert ask(method, path, body) == []


@pytest.mark.parametrize(
    ("method", "path", "body", "fault"),
    [
        ("GET", "/wiki/api/v2/pages?limit=251", None, "greater than the maximum of 250"),
        ("GET", "/wiki/api/v2/pages?limit=many", None, "not of type"),
        ("GET", "/wiki/api/v2/pages?limit=5&limit=6", None, "is no list"),
        ("GET", "/wiki/api/v2/pages?body-format=none", None, "not one of"),
        ("GET", "/wiki/api/v2/pages?status=current,draft", None, "not one of"),
        ("GET", "/wiki/api/v2/pages?space-key=DS", None, "not a parameter"),
        ("GET", "/wiki/api/v2/pages/twelve", None, "path id"),
        ("GET", "/wiki/rest/api/content/search", None, "cql: is required"),
        ("PUT", "/wiki/api/v2/pages/12", {k: v for k, v in PAGE.items() if k != "status"}, "'status' is a required"),
        ("PUT", "/wiki/api/v2/pages/12", {**PAGE, "minorEdit": True}, "minorEdit: not declared"),
        ("PUT", "/wiki/api/v2/pages/12", {**PAGE, "version": {"number": "2"}}, "not of type"),
        ("PUT", "/wiki/api/v2/pages/12", None, "body: missing"),
        ("GET", "/wiki/api/v2/pages/12", {}, "takes none"),
        ("POST", "/wiki/api/v2/pages/12/labels", [], "no such operation"),
        ("GET", "/wiki/rest/api/content/12/label", None, "no such operation"),
        ("GET", "/wiki/elsewhere", None, "no contract"),
    ],
)
def test_bad_requests_are_found(method: str, path: str, body: Any, fault: str) -> None:
    assert any(fault in one for one in ask(method, path, body)), ask(method, path, body)


def test_headers_and_parts_are_looked_at() -> None:
    path = "/wiki/rest/api/content/12/child/attachment"
    kind = "multipart/form-data; boundary=b"
    assert ask("POST", path, MULTIPART, Content_Type=kind) == []
    assert "Authorization" in ask("GET", "/wiki/api/v2/pages", Authorization="")[0]
    assert "X-Atlassian-Token" in ask("POST", path, MULTIPART, Content_Type=kind, X_Atlassian_Token="")[0]
    assert "minorEdit" in ask("POST", path, MULTIPART.replace(b"minorEdit", b"minorEdits"), Content_Type=kind)[0]
    assert "charset" in ask("POST", path, MULTIPART.replace(b"; charset=utf-8", b""), Content_Type=kind)[0]
    assert "Content-Type" in ask("PUT", "/wiki/api/v2/pages/12", PAGE, Content_Type="text/plain")[0]


def test_replies_are_looked_at() -> None:
    page = "/wiki/api/v2/pages/12"
    assert answer("GET", page, 200, STORED) == []
    assert "not of type" in answer("GET", page, 200, {**STORED, "id": 12})[0]
    assert "surprise: not declared" in answer("GET", page, 200, {"surprise": 1})[0]
    assert "418 is not declared" in answer("GET", page, 418, {})[0]
    labels = {"results": [{"id": "1", "name": "x", "prefix": "global"}], "size": 1}
    assert "'label' is a required" in answer("POST", "/wiki/rest/api/content/12/label", 200, labels)[0]
    assert "status 202" in answer("PUT", "/rest/api/content/12", 202, {}, flavour="datacenter")[0]


def test_what_the_contract_leaves_out_is_allowed_by_list_only() -> None:
    page = "/wiki/api/v2/pages/12"
    conflict = {"errors": [{"status": 409, "code": "CONFLICT", "title": "", "detail": None}]}
    assert answer("PUT", page, 409, conflict) == []
    assert "409 is not declared" in answer("GET", page, 409, conflict)[0]
    assert answer("GET", page, 404, {"message": "of v1"})
    assert answer("GET", "/wiki/rest/api/user/current", 403, conflict)
    assert all(re.search(r"\([SLR]\b", known.source) for known in confluence.KNOWN), "each names its source"


@pytest.mark.off_contract
def test_a_stand_in_that_answers_wrongly_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recorder hears what a stand-in says, so that a green run means something."""

    def wrong(request: Request) -> Reply:
        return json_reply({"id": 12, "surprise": 1})

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with recording() as recorder:
        stand_in = ConfluenceStandIn(None, [USER])
        stand_in.app._routes.insert(0, ("GET", re.compile("/wiki/api/v2/pages/12"), wrong))
        with Server(stand_in.app) as server:
            auth = (USER.email, USER.token)
            requests.get(f"{server.url}/wiki/api/v2/pages/12", auth=auth, timeout=5)
            requests.get(f"{server.url}/wiki/api/v2/spaces", auth=auth, timeout=5)
    assert len(recorder.faults) == 2
    assert sorted(recorder.replies) == [("GET", "/wiki/api/v2/pages/{id}", 200), ("GET", "/wiki/api/v2/spaces", 200)]
    assert not recorder.requests, "these were not the hook's"
