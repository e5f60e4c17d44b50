"""The local Data Center by itself: shapes, refusals, caps, paging, restrictions, and the browser on the same pages."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import requests

from include.sandbox.confluence import DataCenterStandIn, SandboxUser
from include.sandbox.http import Server

ANNA = SandboxUser("key-anna", "Anna Approver", "anna@labelops.example", "anna-token-1234")
BEN = SandboxUser("key-ben", "Ben <Builder>", "ben@labelops.example", "ben-token-5678")
ROOT = Path(__file__).resolve().parents[2]
NOCHECK = {"X-Atlassian-Token": "nocheck"}

Send = Callable[..., requests.Response]


@pytest.fixture(params=["/confluence", ""], ids=["context", "root"])
def context(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def stand_in(context: str) -> Iterator[DataCenterStandIn]:
    made = DataCenterStandIn(None, [ANNA, BEN], context=context)
    made.add_group("approvers", [ANNA.account_id])
    yield made
    made.close()


@pytest.fixture
def send(stand_in: DataCenterStandIn, context: str) -> Iterator[Send]:
    with Server(stand_in.app) as server, requests.Session() as session:
        session.trust_env = False

        def request(method: str, path: str, user: SandboxUser | None = BEN, **parts: Any) -> requests.Response:
            auth = (user.email.partition("@")[0], user.token) if user else None
            return session.request(method, server.url + context + path, auth=auth, timeout=10, **parts)

        assert request("POST", "/rest/api/space", json={"key": "DS", "name": "Data"}).status_code == 200
        yield request


def storage(body: str) -> dict[str, Any]:
    return {"storage": {"value": body, "representation": "storage"}}


def make(send: Send, title: str = "Page", body: str = "<p>One</p>", **fields: Any) -> dict[str, Any]:
    sent = {"type": "page", "title": title, "space": {"key": "DS"}, "body": storage(body), **fields}
    reply = send("POST", "/rest/api/content", json=sent)
    assert reply.status_code == 200, reply.text
    return reply.json()


def put(send: Send, page: dict[str, Any], number: int, **fields: Any) -> requests.Response:
    sent = {"id": page["id"], "type": "page", "title": page["title"], "version": {"number": number}, **fields}
    return send("PUT", f"/rest/api/content/{page['id']}", json=sent)


def walk(send: Send, path: str) -> list[dict[str, Any]]:
    """Follow ``next``, which is relative to the context path."""
    rows: list[dict[str, Any]] = []
    while path:
        document = send("GET", path).json()
        assert document["size"] == len(document["results"])
        rows += document["results"]
        path = document["_links"].get("next", "")
    return rows


def test_a_visitor_a_wrong_password_and_a_token(stand_in: DataCenterStandIn, send: Send) -> None:
    assert send("GET", "/rest/api/user/current", None).json()["type"] == "anonymous"
    page = make(send)
    unseen = send("GET", f"/rest/api/content/{page['id']}", None)
    assert (unseen.status_code, unseen.json()["data"]["authorized"]) == (404, False)
    wrong = send("GET", "/rest/api/user/current", SandboxUser("key-ben", "", "ben@x.example", "no"))
    assert (wrong.status_code, wrong.headers["Content-Type"][:9]) == (401, "text/html")
    for token, status in ((ANNA.token, 200), ("revoked", 401)):
        reply = send("GET", "/rest/api/user/current", None, headers={"Authorization": f"Bearer {token}"})
        assert reply.status_code == status
    stand_in.bad_token = "anonymous"
    reply = send("GET", "/rest/api/user/current", None, headers={"Authorization": "Bearer revoked"})
    assert reply.json()["type"] == "anonymous"
    assert reply.headers["X-AUSERNAME"] == "anonymous"
    assert send("POST", "/rest/api/content", None, json={}).status_code == 403
    me = send("GET", "/rest/api/user/current").json()
    assert (me["type"], me["userKey"], me["username"]) == ("known", "key-ben", "ben")


def test_a_page_is_made_read_and_changed(send: Send) -> None:
    page = make(send, body="<p><b>One</b></p>")
    assert page["version"]["number"] == 1
    assert page["ancestors"] == []
    bare = send("GET", f"/rest/api/content/{page['id']}?expand=body.storage,version,space,history").json()
    assert bare["body"]["storage"]["value"] == "<p><strong>One</strong></p>"
    assert (bare["space"]["key"], bare["history"]["createdBy"]["userKey"]) == ("DS", "key-ben")
    assert "ancestors" in bare["_expandable"]
    second = put(send, page, 2, body=storage("<p>Two</p>")).json()
    assert (second["version"]["number"], second["body"]["storage"]["value"]) == (2, "<p>Two</p>")
    old = send("GET", f"/rest/api/content/{page['id']}?status=historical&version=1&expand=body.storage,version").json()
    assert (old["status"], old["version"]["number"]) == ("historical", 1)
    assert "One" in old["body"]["storage"]["value"]
    history = send("GET", f"/rest/api/content/{page['id']}/history").json()
    assert (history["lastUpdated"]["number"], history["previousVersion"]["number"]) == (2, 1)
    assert send("GET", f"/rest/api/content/{page['id']}?status=historical&version=9").status_code == 404


def test_a_write_without_a_body_keeps_it_and_moves(send: Send) -> None:
    parent, page = make(send, "Parent"), make(send)
    moved = put(send, page, 2, ancestors=[{"id": parent["id"]}]).json()
    assert [one["id"] for one in moved["ancestors"]] == [parent["id"]]
    assert moved["body"]["storage"]["value"] == "<p>One</p>"
    children = send("GET", f"/rest/api/content/{parent['id']}/child/page?expand=children.page").json()["results"]
    assert [(one["id"], one["children"]["page"]["size"]) for one in children] == [(page["id"], 0)]
    below_itself = put(send, parent, 2, ancestors=[{"id": page["id"]}])
    assert below_itself.status_code == 400


@pytest.mark.parametrize("number", [1, 3])
def test_a_write_must_follow_the_current_version(send: Send, number: int) -> None:
    refused = put(send, make(send), number, body=storage("<p />"))
    assert (refused.status_code, refused.json()["statusCode"]) == (409, 409)
    assert "Current version is: 1" in refused.json()["message"]


@pytest.mark.parametrize("body", ["<p>open", "<p>&nosuch;</p>", "<p>a & b</p>"])
def test_malformed_storage_is_refused(send: Send, body: str) -> None:
    sent = {"type": "page", "title": "Bad", "space": {"key": "DS"}, "body": storage(body)}
    reply = send("POST", "/rest/api/content", json=sent)
    assert reply.status_code == 400
    assert "Error parsing xhtml" in reply.json()["message"]


def test_refusals_of_new_pages(send: Send) -> None:
    make(send)
    sent: dict[str, Any] = {"type": "page", "title": "page", "space": {"key": "DS"}, "body": storage("<p />")}
    twice = send("POST", "/rest/api/content", json=sent)
    assert (twice.status_code, "already exists" in twice.json()["message"]) == (400, True)
    assert send("POST", "/rest/api/content", json={**sent, "space": {"key": "NO"}}).status_code == 404
    large = {**sent, "title": "Large", "body": storage("<p>" + "x" * (5 * 1024 * 1024) + "</p>")}
    assert send("POST", "/rest/api/content", json=large).status_code == 413
    above = {**sent, "title": "Below", "ancestors": [{"id": 9}]}
    assert send("POST", "/rest/api/content", json=above).status_code == 404


def test_the_trash(send: Send) -> None:
    page = make(send)
    path = f"/rest/api/content/{page['id']}"
    assert send("DELETE", path).status_code == 200
    assert send("GET", path).status_code == 404
    assert send("GET", f"{path}?status=any").json()["status"] == "trashed"
    restored = send("PUT", path, json={"id": page["id"], "status": "current", "version": {"number": 2}}).json()
    assert (restored["status"], restored["version"]["number"]) == ("current", 2)
    assert send("DELETE", path).ok
    assert send("DELETE", f"{path}?status=trashed").status_code == 204
    assert send("GET", f"{path}?status=any").status_code == 404


def test_lists_page_below_the_context_path(send: Send, context: str) -> None:
    made = [make(send, f"Page {number}")["id"] for number in range(7)]
    path = "/rest/api/content?spaceKey=DS&limit=3&start=1"
    first = send("GET", path).json()
    assert first["_links"]["context"] == context
    assert first["_links"]["next"].startswith("/rest/api/")
    assert [row["id"] for row in walk(send, path)] == made
    scanned = walk(send, "/rest/api/content/scan?spaceKey=DS&limit=3")
    assert [row["id"] for row in scanned[1:]] == made
    assert send("GET", "/rest/api/content/scan?cursor=nonsense").status_code == 400
    assert send("GET", "/rest/api/content?start=-1").status_code == 400
    by_id = send("GET", f"/rest/api/content?ids={made[0]},{made[2]}").json()["results"]
    assert [row["id"] for row in by_id] == [made[0], made[2]]


def test_pages_past_the_end_repeat_the_last_one_when_switched_on(stand_in: DataCenterStandIn, send: Send) -> None:
    stand_in.past_the_end = True
    make(send)
    beyond = send("GET", "/rest/api/content?spaceKey=DS&limit=5&start=500").json()
    assert beyond["size"] == 2
    assert "start=505" in beyond["_links"]["next"]
    stand_in.past_the_end, stand_in.uneven_pages = False, True
    for number in range(8):
        make(send, f"Page {number}")
    sizes = [send("GET", f"/rest/api/content?spaceKey=DS&limit=5&start={start}").json()["size"] for start in (0, 5, 7)]
    assert sizes == [5, 2, 2]


@pytest.mark.parametrize(("expand", "most"), [("body.storage", 50), ("version", 200), ("", 1000)])
def test_search_caps_its_pages(send: Send, expand: str, most: int) -> None:
    found = send("GET", f"/rest/api/content/search?cql=type=page&limit=5000&expand={expand}").json()
    assert found["limit"] == most


def test_search_reads_dates_in_the_zone_of_the_server(stand_in: DataCenterStandIn, send: Send) -> None:
    stand_in.zone = ZoneInfo("Asia/Tokyo")
    page = make(send)
    when = page["version"]["when"]
    assert when.endswith("+09:00")
    minute = f"{when[:10]} {when[11:16]}"
    for cql, wanted in (
        (f'lastmodified >= "{minute}" and id = {page["id"]}', True),
        (f'lastmodified >= "{when[:10]}" and id = {page["id"]} order by lastmodified asc', True),
        (f'lastmodified >= "{int(when[:4]) + 1}-01-01" and id = {page["id"]}', False),
        (f'space = "ds" and type = page and id = {page["id"]}', True),
        (f'space = "no" and id = {page["id"]}', False),
    ):
        found = send("GET", "/rest/api/content/search", params={"cql": cql}).json()["results"]
        assert ([row["id"] for row in found] == [page["id"]]) == wanted, cql


@pytest.mark.parametrize(
    "cql", ["", "label", 'owner = "x"', "type = page and", "(type = page", "lastmodified >= soon", "type = page order"]
)
def test_cql_that_cannot_be_read_is_refused(stand_in: DataCenterStandIn, send: Send, cql: str) -> None:
    assert send("GET", "/rest/api/content/search", params={"cql": cql}).status_code == 400
    stand_in.bad_cql_status = 404
    assert send("GET", "/rest/api/content/search", params={"cql": cql}).status_code == 404


def test_labels_and_properties(send: Send) -> None:
    path = f"/rest/api/content/{make(send)['id']}"
    added = send("POST", f"{path}/label", json=[{"prefix": "global", "name": "Approved"}]).json()["results"]
    assert [(row["name"], row["prefix"]) for row in added] == [("approved", "global")]
    assert send("GET", f"{path}/label?prefix=my").json()["results"] == []
    assert send("GET", f"{path}?expand=metadata.labels").json()["metadata"]["labels"]["size"] == 1
    assert send("POST", f"{path}/label", json=[{"name": "two words"}]).status_code == 400
    assert send("DELETE", f"{path}/label?name=approved").status_code == 204
    assert send("DELETE", f"{path}/label?name=approved").status_code == 404

    key = f"{path}/property/labelops.approval"
    assert send("GET", key).status_code == 404
    made = send("POST", f"{path}/property", json={"key": "labelops.approval", "value": {"by": "anna"}}).json()
    assert (made["version"]["number"], made["value"]) == (1, {"by": "anna"})
    again = send("POST", f"{path}/property", json={"key": "labelops.approval", "value": 1})
    assert again.status_code == 400
    written = send("PUT", key, json={"key": "labelops.approval", "value": [1], "version": {"number": 2}}).json()
    assert (written["value"], written["version"]["number"]) == ([1], 2)
    assert send("PUT", key, json={"value": [2], "version": {"number": 2}}).status_code == 409
    assert send("PUT", key, json={"value": "x" * 33_000, "version": {"number": 3}}).status_code == 413
    other = send("PUT", f"{path}/property/new", json={"key": "new", "value": 1, "version": {"number": 1}})
    assert other.json()["version"]["number"] == 1
    expanded = send("GET", f"{path}?expand=metadata.properties.new").json()["metadata"]["properties"]
    assert expanded["new"]["value"] == 1
    assert len(walk(send, f"{path}/property?limit=1")) == 2


def test_a_property_is_deleted(send: Send) -> None:
    path = f"/rest/api/content/{make(send)['id']}/property/kept"
    assert send("PUT", path, json={"key": "kept", "value": 1, "version": {"number": 1}}).status_code == 200
    assert send("DELETE", path).status_code == 204
    assert send("GET", path).status_code == 404
    assert send("DELETE", path).status_code == 404


def test_a_page_or_a_file_is_watched_and_not_watched_any_more(send: Send) -> None:
    page = make(send)["id"]
    file = send("POST", f"/rest/api/content/{page}/child/attachment", files={"file": ("a.txt", b"x")}, headers=NOCHECK)
    for content in (page, file.json()["results"][0]["id"]):
        path = f"/rest/api/user/watch/content/{content}"
        for method, status, watching in (("POST", 200, True), ("DELETE", 204, False), ("DELETE", 204, False)):
            assert send(method, path).status_code == status
            assert send("GET", path).json() == {"watching": watching}
    assert send("DELETE", "/rest/api/user/watch/content/999").status_code == 404


def test_archived_pages_are_listed_by_their_status(stand_in: DataCenterStandIn, send: Send) -> None:
    page = make(send)
    with stand_in.database.transaction():
        stand_in.database.write("update pages set status = 'archived' where id = ?", (page["id"],))
    for status, listed in (("archived", [page["id"]]), ("current", []), ("any", [page["id"]])):
        found = send("GET", f"/rest/api/content?spaceKey=DS&title=Page&status={status}").json()["results"]
        assert [row["id"] for row in found] == listed


@pytest.mark.parametrize("name", ["view", "export_view", "styled_view", "anonymous_export_view"])
def test_a_body_is_shown_as_html(send: Send, name: str) -> None:
    page = make(send, body="<p>One <ac:emoticon ac:name='tick'/></p>")
    found = send("GET", f"/rest/api/content/{page['id']}?expand=body.{name}").json()["body"]
    assert found[name]["value"] == "<p>One tick</p>"
    assert "storage" in found["_expandable"]


def test_restrictions_come_by_operation(send: Send) -> None:
    page = make(send)["id"]
    only = [{"operation": "read", "restrictions": {"user": [{"type": "known", "username": "ben"}], "group": []}}]
    assert send("PUT", f"/rest/api/content/{page}/restriction", json=only).status_code == 200
    found = send("GET", f"/rest/api/content/{page}/restriction/byOperation").json()
    assert [user["userKey"] for user in found["read"]["restrictions"]["user"]["results"]] == [BEN.account_id]
    assert found["update"]["restrictions"]["user"]["results"] == []


def test_attachments(send: Send) -> None:
    page = make(send)
    path = f"/rest/api/content/{page['id']}/child/attachment"
    parts = {"file": ("chart one.png", b"\x89PNG", "image/png"), "comment": (None, b"c", "text/plain")}
    assert send("POST", path, files=parts).status_code == 403
    assert send("PUT", path, files=parts, headers=NOCHECK).status_code == 405
    made = send("POST", path, files=parts, headers=NOCHECK).json()["results"][0]
    assert (made["version"]["number"], made["extensions"]["fileSize"]) == (1, 4)
    again = send("POST", path, files=parts, headers=NOCHECK)
    assert (again.status_code, "same file name" in again.json()["message"]) == (400, True)
    newer = {"file": ("chart one.png", b"GIF8", "image/gif")}
    assert send("POST", f"{path}/{made['id']}/data", files=newer, headers=NOCHECK).json()["version"]["number"] == 2
    [listed] = send("GET", path, params={"filename": "chart one.png", "expand": "version"}).json()["results"]
    assert (listed["id"], listed["version"]["number"]) == (made["id"], 2)
    assert send("GET", listed["_links"]["download"]).content == b"GIF8"
    assert send("GET", listed["_links"]["download"], None).status_code == 404
    assert send("POST", f"{path}/att1/data", files=newer, headers=NOCHECK).status_code == 404


def test_comments_of_all_places(stand_in: DataCenterStandIn, send: Send) -> None:
    page = make(send, body="<p>Label it blue.</p>")
    sent = {"type": "comment", "container": {"id": page["id"], "type": "page"}, "body": storage("<p>Approved</p>")}
    footer = send("POST", "/rest/api/content", json=sent).json()
    inline = stand_in.add_inline_comment(page["id"], ANNA.account_id, "blue", "<p>Why?</p>")
    path = f"/rest/api/content/{page['id']}/child/comment"
    expand = "body.storage,version,extensions.inlineProperties,extensions.resolution"
    rows = send("GET", path, params={"expand": expand}).json()["results"]
    assert [(row["id"], row["extensions"]["location"]) for row in rows] == [
        (footer["id"], "footer"),
        (inline, "inline"),
    ]
    assert rows[1]["extensions"]["inlineProperties"]["originalSelection"] == "blue"
    assert (rows[1]["version"]["by"]["userKey"], rows[1]["extensions"]["resolution"]["status"]) == ("key-anna", "open")
    stand_in.resolve_comment(inline)
    assert send("GET", f"{path}?location=inline").json()["size"] == 0
    assert send("GET", f"{path}?location=resolved&location=footer").json()["size"] == 2
    body = send("GET", f"/rest/api/content/{page['id']}?expand=body.storage,version").json()
    assert "ac:inline-comment-marker" in body["body"]["storage"]["value"]
    assert body["version"]["number"] == 1
    assert send("GET", f"/rest/api/content/{footer['id']}?expand=body.storage").json()["type"] == "comment"


def test_restrictions_hide_a_page_and_what_is_below_it(send: Send) -> None:
    page = make(send)
    below = make(send, "Below", ancestors=[{"id": page["id"]}])
    path = f"/rest/api/content/{page['id']}/restriction"
    only_ben = [{"operation": "read", "restrictions": {"user": [{"type": "known", "username": "ben"}], "group": []}}]
    reply = send("PUT", path, json=only_ben)
    assert [row["operation"] for row in reply.json()["results"]] == ["read", "update"]
    for one in (page, below):
        assert send("GET", f"/rest/api/content/{one['id']}", ANNA).status_code == 404
    assert send("GET", "/rest/api/content/search?cql=type=page", ANNA).json()["size"] == 1
    group = [{"operation": "read", "restrictions": {"group": [{"type": "group", "name": "approvers"}]}}]
    assert send("PUT", path, json=group).ok
    read = send("GET", f"{path}/byOperation/read").json()["restrictions"]
    assert [row["userKey"] for row in read["user"]["results"]] == ["key-ben"]
    assert [row["name"] for row in read["group"]["results"]] == ["approvers"]
    assert send("GET", f"/rest/api/content/{below['id']}", ANNA).status_code == 200
    lock_out = [{"operation": "update", "restrictions": {"user": [{"username": "anna"}]}}]
    assert send("PUT", path, json=lock_out).status_code == 400
    assert send("GET", f"{path}/byOperation/update").json()["restrictions"]["user"]["size"] == 0
    assert (
        send("PUT", path, json=[{"operation": "read", "restrictions": {"user": [{"username": "x"}]}}]).status_code
        == 400
    )
    edit_ben = [{"operation": "update", "restrictions": {"user": [{"userKey": "key-ben"}]}}]
    assert send("PUT", path, json=edit_ben).ok
    assert send("PUT", path, ANNA, json=edit_ben).status_code == 403


def test_people(send: Send) -> None:
    assert send("GET", "/rest/api/user?key=key-anna").json()["username"] == "anna"
    assert send("GET", "/rest/api/user?username=anna").json()["userKey"] == "key-anna"
    assert send("GET", "/rest/api/user?key=nobody").status_code == 404
    assert send("GET", "/rest/api/user?key=key-anna", None).status_code == 403


def test_an_empty_bucket_answers_429_with_its_headers(stand_in: DataCenterStandIn, send: Send) -> None:
    stand_in.limit_rate(2, seconds=60)
    replies = [send("GET", "/rest/api/user/current") for _ in range(3)]
    assert [reply.status_code for reply in replies] == [200, 200, 429]
    assert [reply.headers["X-RateLimit-Remaining"] for reply in replies] == ["1", "0", "0"]
    assert replies[0].headers["retry-after"] == "0"
    assert 30 <= int(replies[2].headers["retry-after"]) <= 31
    assert replies[2].headers["X-RateLimit-Interval-Seconds"] == "60"


def test_the_browser_shows_the_same_page(send: Send, context: str) -> None:
    page = make(send, "Guide <1>", '<p><ac:link><ri:user ri:userkey="key-anna" /></ac:link></p>')
    shown = send("GET", page["_links"]["webui"], None)
    assert shown.status_code == 200
    assert "Guide &lt;1&gt;" in shown.text
    assert "@Anna Approver" in shown.text
    assert f"href='{context}/spaces/DS/pages/" in shown.text


def test_it_runs_by_itself_on_the_files_of_a_cloud_site(tmp_path: Path) -> None:
    users = tmp_path / "users.json"
    users.write_text(json.dumps([BEN.__dict__]))
    base = [sys.executable, "-m", "include.sandbox.confluence", "--port", "0", "--state", str(tmp_path / "state")]
    seen = []
    for options in (["--users", str(users)], ["--flavour", "datacenter", "--context", "/wiki"]):
        with subprocess.Popen([*base, *options], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            if "--users" in options:
                sent = {"key": "DS", "name": "Data"}
                auth = (BEN.email, BEN.token)
                assert requests.post(f"{url}/api/v2/spaces", json=sent, auth=auth, timeout=10).status_code == 201
            else:
                reply = requests.get(f"{url}/rest/api/space/DS?expand=homepage", auth=("ben", BEN.token), timeout=10)
                seen.append(reply.json()["homepage"]["title"])
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
    assert seen == ["Data"]
