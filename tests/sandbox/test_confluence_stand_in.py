"""The local Confluence by itself: refusals, rewriting, tasks, paging, restart, and what a browser shows."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from include.sandbox.confluence import ConfluenceStandIn, SandboxUser
from include.sandbox.http import Server
from include.systems.confluence import storage

ANNA = SandboxUser("acc-anna", "Anna Approver", "anna@labelops.example", "anna-token-1234")
BEN = SandboxUser("acc-ben", "Ben <Builder>", "ben@labelops.example", "ben-token-5678")
ROOT = Path(__file__).resolve().parents[2]

Send = Callable[..., requests.Response]


@pytest.fixture
def stand_in() -> ConfluenceStandIn:
    return ConfluenceStandIn(None, [ANNA, BEN])


@pytest.fixture
def send(stand_in: ConfluenceStandIn) -> Iterator[Send]:
    with Server(stand_in.app) as server, requests.Session() as session:
        session.trust_env = False

        def request(method: str, path: str, user: SandboxUser | None = BEN, **parts: Any) -> requests.Response:
            auth = (user.email, user.token) if user else None
            return session.request(method, server.url + path, auth=auth, timeout=10, **parts)

        assert request("POST", "/wiki/api/v2/spaces", json={"key": "DS", "name": "Data"}).status_code == 201
        yield request


def space_id(send: Send) -> str:
    return send("GET", "/wiki/api/v2/spaces?keys=DS").json()["results"][0]["id"]


def make(send: Send, title: str = "Page", body: str = "<p>One</p>", **fields: Any) -> dict[str, Any]:
    sent = {"spaceId": space_id(send), "status": "current", "title": title, **fields}
    reply = send("POST", "/wiki/api/v2/pages", json={**sent, "body": {"representation": "storage", "value": body}})
    assert reply.status_code == 200, reply.text
    return reply.json()


def put(page: dict[str, Any], number: int, body: str = "<p>Two</p>") -> dict[str, Any]:
    sent = {"id": page["id"], "status": "current", "title": page["title"], "version": {"number": number}}
    return {**sent, "body": {"representation": "storage", "value": body}}


def test_each_api_refuses_a_credential_in_its_own_way(send: Send) -> None:
    for user in (None, SandboxUser(BEN.account_id, BEN.name, BEN.email, "wrong")):
        refused = send("GET", "/wiki/api/v2/pages", user)
        assert (refused.status_code, refused.json()["errors"][0]["title"]) == (404, "Not Found")
        assert send("GET", "/wiki/rest/api/user/current", user).status_code == 403


@pytest.mark.parametrize(
    "query", ["limit=251", "limit=0", "limit=x", "body-format=none", "cursor=nonsense", "sort=size", "status=draft"]
)
def test_bad_list_parameters_are_refused(send: Send, query: str) -> None:
    assert send("GET", f"/wiki/api/v2/pages?{query}").status_code == 400


@pytest.mark.parametrize("field", ["id", "status", "title", "body", "version"])
def test_an_update_needs_all_five_fields(send: Send, field: str) -> None:
    page = make(send)
    sent = put(page, 2)
    del sent[field]
    refused = send("PUT", f"/wiki/api/v2/pages/{page['id']}", json=sent)
    assert refused.status_code == 400
    assert field in refused.json()["errors"][0]["title"]


@pytest.mark.parametrize("number", [1, 3])
def test_an_update_must_follow_the_current_version(send: Send, number: int) -> None:
    page = make(send)
    error = send("PUT", f"/wiki/api/v2/pages/{page['id']}", json=put(page, number))
    assert error.status_code == 409
    assert error.json()["errors"][0]["code"] == "CONFLICT"
    assert "Current Version: [1]" in error.json()["errors"][0]["title"]


@pytest.mark.parametrize("body", ["<p>open", "<p>&nosuch;</p>", "<p>a & b</p>", "<x:y />"])
def test_malformed_storage_is_refused(send: Send, body: str) -> None:
    sent = {"spaceId": space_id(send), "status": "current", "title": "Bad"}
    reply = send("POST", "/wiki/api/v2/pages", json={**sent, "body": {"representation": "storage", "value": body}})
    assert reply.status_code == 400
    assert "parsing" in reply.json()["errors"][0]["title"]


def test_a_page_over_5_mb_is_refused(send: Send) -> None:
    sent = {"spaceId": space_id(send), "status": "current", "title": "Large"}
    body = {"representation": "storage", "value": "<p>" + "x" * (5 * 1024 * 1024) + "</p>"}
    assert send("POST", "/wiki/api/v2/pages", json={**sent, "body": body}).status_code == 413


def test_storage_is_rewritten_and_still_canonically_equal(send: Send) -> None:
    body = (
        '<p><b>Bold</b>, <i>thin</i>&nbsp;&ldquo;quoted&rdquo;<br/></p><ac:structured-macro ac:name="code">'
        '<ac:plain-text-body><![CDATA[if a < b: print("<br/> & &nbsp;")]]></ac:plain-text-body></ac:structured-macro>'
        "<ac:task-list><ac:task><ac:task-id>7</ac:task-id><ac:task-status>incomplete</ac:task-status>"
        "<ac:task-body>Do it</ac:task-body></ac:task></ac:task-list>"
    )
    page = make(send, body=body)
    stored = send("GET", f"/wiki/api/v2/pages/{page['id']}?body-format=storage").json()["body"]["storage"]["value"]
    assert stored != body
    assert "<strong>" in stored
    assert "ac:macro-id" in stored
    assert '<![CDATA[if a < b: print("<br/> & &nbsp;")]]>' in stored
    assert storage.equal(stored, body)
    assert not storage.equal(stored, body.replace("Bold", "bold"))


def test_paging_repeats_filters_and_ends_without_next(send: Send) -> None:
    for number in range(5):
        make(send, f"Page {number}")
    path, titles = f"/wiki/api/v2/spaces/{space_id(send)}/pages?limit=2&status=current", []
    while path:
        reply = send("GET", path)
        titles += [row["title"] for row in reply.json()["results"]]
        path = reply.json()["_links"].get("next")
        assert (path in reply.headers["Link"]) if path else "Link" not in reply.headers
        assert path is None or "status=current" in path
    assert titles == ["Data", *(f"Page {number}" for number in range(5))]


def test_titles_are_unique_until_the_trash(send: Send) -> None:
    page = make(send)
    sent = {"spaceId": space_id(send), "status": "current", "title": "page"}
    sent["body"] = {"representation": "storage", "value": "<p />"}
    assert send("POST", "/wiki/api/v2/pages", json=sent).status_code == 400
    assert send("DELETE", f"/wiki/api/v2/pages/{page['id']}").status_code == 204
    assert send("GET", f"/wiki/api/v2/pages/{page['id']}").json()["status"] == "trashed"
    assert send("POST", "/wiki/api/v2/pages", json=sent).status_code == 200
    assert send("DELETE", f"/wiki/api/v2/pages/{page['id']}?purge=true").status_code == 204
    assert send("GET", f"/wiki/api/v2/pages/{page['id']}").status_code == 404


def test_uploads_need_the_token_header_and_a_new_name(send: Send) -> None:
    path = f"/wiki/rest/api/content/{make(send)['id']}/child/attachment"
    parts = {"file": ("a.txt", b"x", "text/plain"), "comment": (None, "ä".encode())}
    assert send("POST", path, files=parts).status_code == 403
    headers = {"X-Atlassian-Token": "no-check"}
    made = send("POST", path, files=parts, headers=headers)
    # A text part without a charset is taken for Latin-1.
    assert made.json()["results"][0]["metadata"]["comment"] == "Ã¤"
    again = send("POST", path, files=parts, headers=headers)
    assert again.status_code == 400
    assert "same file name" in again.json()["message"]
    identifier = made.json()["results"][0]["id"]
    changed = send("POST", f"{path}/{identifier}/data", files=parts, headers=headers).json()
    assert (changed["id"], changed["version"]["number"]) == (identifier, 2)


def test_a_tick_names_who_and_when(send: Send) -> None:
    body = (
        "<ac:task-list><ac:task><ac:task-id>1</ac:task-id><ac:task-status>incomplete</ac:task-status><ac:task-body>"
        '<ac:link><ri:user ri:account-id="acc-anna" /></ac:link> <time datetime="2026-11-30" /></ac:task-body>'
        "</ac:task></ac:task-list>"
    )
    page = make(send, body=body)
    task = send("GET", f"/wiki/api/v2/tasks?page-id={page['id']}").json()["results"][0]
    assert (task["status"], task["assignedTo"], task["createdBy"]) == ("incomplete", "acc-anna", "acc-ben")
    done = send("PUT", f"/wiki/api/v2/tasks/{task['id']}", ANNA, json={"status": "complete"}).json()
    assert (done["status"], done["completedBy"]) == ("complete", "acc-anna")
    assert done["completedAt"]
    now = send("GET", f"/wiki/api/v2/pages/{page['id']}?body-format=storage").json()
    assert "<ac:task-status>complete</ac:task-status>" in now["body"]["storage"]["value"]
    assert now["version"]["number"] == 1
    assert send("GET", f"/wiki/api/v2/tasks?page-id={page['id']}&status=incomplete").json()["results"] == []


def test_a_state_can_be_set(send: Send) -> None:
    page = make(send)
    path = f"/wiki/rest/api/content/{page['id']}/state?status=current"
    assert send("GET", path).json()["contentState"] is None
    assert send("PUT", path, json={"name": "Too long a name for a state", "color": "#ff7452"}).status_code == 400
    custom = send("PUT", path, json={"name": "On hold", "color": "#ff7452"}).json()["contentState"]
    assert custom["name"] == "On hold"
    assert send("GET", f"/wiki/api/v2/pages/{page['id']}").json()["version"]["number"] == 2


@pytest.mark.parametrize("cql", ["", "label", 'label = "x" nor space = "DS"', 'owner = "x"', 'label = "x" and'])
def test_cql_that_is_not_played_is_refused(send: Send, cql: str) -> None:
    assert send("GET", "/wiki/rest/api/content/search", params={"cql": cql}).status_code == 400


def test_new_pages_can_be_slow_to_appear(stand_in: ConfluenceStandIn, send: Send) -> None:
    stand_in.hidden_reads = 2
    sent = {"spaceId": space_id(send), "status": "current", "title": "Slow"}
    sent["body"] = {"representation": "storage", "value": "<p />"}
    page = send("POST", "/wiki/api/v2/pages", json=sent).json()
    statuses = [send("GET", f"/wiki/api/v2/pages/{page['id']}").status_code for _ in range(3)]
    assert statuses == [404, 404, 200]


def test_state_survives_a_restart(tmp_path: Path) -> None:
    users = tmp_path / "users.json"
    users.write_text(json.dumps([BEN.__dict__]))
    command = [sys.executable, "-m", "include.sandbox.confluence", "--port", "0", "--state", str(tmp_path / "state")]
    auth, snapshots = (BEN.email, BEN.token), []
    for extra in (["--users", str(users)], []):
        with subprocess.Popen([*command, *extra], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            if extra:
                sent = {"key": "DS", "name": "Data"}
                assert requests.post(f"{url}/api/v2/spaces", json=sent, auth=auth, timeout=10).status_code == 201
            assert requests.get(f"{url}/rest/api/user/current", auth=auth, timeout=10).json()["accountId"] == "acc-ben"
            snapshots.append(requests.get(url.removesuffix("/wiki") + "/_sandbox/snapshot", timeout=10).json())
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
    assert snapshots[0] == snapshots[1]
    assert list(snapshots[0]["pages"].values()) == [1]


def test_the_browser_shows_the_page_and_runs_nothing(send: Send) -> None:
    body = (
        "<h2>Rules</h2><p>Text &lt;script&gt;alert(1)&lt;/script&gt;</p><script>alert(2)</script>"
        '<p><a href="javascript:alert(3)">link</a></p><ac:structured-macro ac:name="status">'
        '<ac:parameter ac:name="colour">Green</ac:parameter><ac:parameter ac:name="title">APPROVED</ac:parameter>'
        '</ac:structured-macro><ac:structured-macro ac:name="unheard-of" /><ac:image><ri:attachment '
        'ri:filename="chart.png" /></ac:image><table><tbody><tr><th>L</th><td colspan="2">A</td></tr></tbody></table>'
    )
    page = make(send, "Guide <1>", body)
    files = {"file": ("chart.png", b"\x89PNG", "image/png")}
    path = f"/wiki/rest/api/content/{page['id']}"
    assert send("POST", f"{path}/child/attachment", files=files, headers={"X-Atlassian-Token": "no-check"}).ok
    assert send("PUT", f"{path}/state?status=current", ANNA, json={"id": 3}).ok
    shown = send("GET", f"/wiki{page['_links']['webui']}", None)
    assert shown.status_code == 200
    assert "default-src 'none'" in shown.headers["Content-Security-Policy"]
    for text in ("Guide &lt;1&gt;", "Verified", "APPROVED", "unheard-of", "Anna Approver", "Ben &lt;Builder&gt;"):
        assert text in shown.text
    assert "<script" not in shown.text
    assert "javascript:" not in shown.text
    source = re.search(r"src='(/_view/[^']+)'", shown.text)
    assert source is not None
    assert send("GET", source[1], None).content == b"\x89PNG"
    old = send("GET", f"/wiki/spaces/DS/pages/{page['id']}?version=1", None)
    assert "This is version 1" in old.text
    assert send("GET", "/wiki", None).ok
    assert "Guide &lt;1&gt;" in send("GET", "/wiki/spaces/DS", None).text
    assert send("GET", "/wiki/spaces/DS/pages/9", None).status_code == 404
