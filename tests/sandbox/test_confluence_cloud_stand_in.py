"""What the local Confluence Cloud refuses, and how it answers, beyond single pages."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from include.sandbox.confluence import ConfluenceStandIn, SandboxUser
from include.sandbox.confluence.gateway import SCOPES, Token, scopes_needed
from include.sandbox.confluence.people import group_id
from include.sandbox.http import Server
from tests.contracts.contract import ABSENT, SPECS

ME = SandboxUser("acc-me", "Me", "me@labelops.example", "my-token")
YOU = SandboxUser("acc-you", "You", "you@labelops.example", "your-token")
V2, V1 = "/wiki/api/v2", "/wiki/rest/api"
Send = Callable[..., requests.Response]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[ConfluenceStandIn]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    stand_in = ConfluenceStandIn(None, [ME, YOU])
    yield stand_in
    stand_in.close()


@pytest.fixture
def send(stand_in: ConfluenceStandIn) -> Iterator[Send]:
    with Server(stand_in.app) as server:

        def send(method: str, path: str, user: SandboxUser | None = ME, **parts: Any) -> requests.Response:
            auth = None if user is None else (user.email, user.token)
            return requests.request(method, server.url + path, auth=auth, timeout=10, **parts)

        made = send("POST", f"{V2}/spaces", json={"key": "DS", "name": "Data"})
        assert made.status_code == 201
        yield send


@pytest.fixture
def space(send: Send) -> str:
    return str(send("GET", f"{V2}/spaces").json()["results"][0]["id"])


def new_page(send: Send, space: str, title: str = "Page", user: SandboxUser = ME, **more: Any) -> str:
    body = {"representation": "storage", "value": "<p>one two one</p>"}
    reply = send("POST", f"{V2}/pages", user, json={"spaceId": space, "title": title, "body": body, **more})
    assert reply.status_code == 200, reply.text
    return str(reply.json()["id"])


# --- who may see what ------------------------------------------------------------------------------


def test_a_private_page_is_there_for_its_maker_alone(send: Send, space: str) -> None:
    body = {"representation": "storage", "value": "<p>x</p>"}
    sent = {"spaceId": space, "title": "Mine", "body": body}
    page = send("POST", f"{V2}/pages?private=true", json=sent).json()["id"]
    assert send("GET", f"{V2}/pages/{page}").status_code == 200
    for path in (f"{V2}/pages/{page}", f"{V2}/pages/{page}/labels", f"{V1}/content/{page}/restriction"):
        assert send("GET", path, YOU).status_code == 404
    listed = send("GET", f"{V2}/spaces/{space}/pages", YOU).json()["results"]
    assert page not in {row["id"] for row in listed}
    assert send("POST", f"{V2}/pages", YOU, json=sent).status_code == 400


def test_who_may_read_may_not_always_write(send: Send, space: str) -> None:
    page = new_page(send, space)
    rule = {"operation": "update", "restrictions": {"user": [{"type": "known", "accountId": ME.account_id}]}}
    assert send("PUT", f"{V1}/content/{page}/restriction", json={"results": [rule]}).status_code == 200
    row = send("GET", f"{V2}/pages/{page}?body-format=storage", YOU).json()
    assert row["version"]["number"] == 1
    body = {"representation": "storage", "value": "<p>2</p>"}
    sent = {"id": page, "status": "current", "title": "Page", "body": body, "version": {"number": 2}}
    assert send("PUT", f"{V2}/pages/{page}", YOU, json=sent).status_code == 404
    assert send("DELETE", f"{V2}/pages/{page}", YOU).status_code == 404
    assert send("POST", f"{V1}/content/{page}/label", YOU, json=[{"prefix": "global", "name": "x"}]).status_code == 403
    assert send("PUT", f"{V1}/content/{page}/restriction", YOU, json={"results": []}).status_code == 403
    assert send("PUT", f"{V2}/pages/{page}", json=sent).status_code == 200


@pytest.mark.off_contract
@pytest.mark.parametrize(
    "rule",
    [
        None,
        {"operation": "read"},
        {"operation": "read", "restrictions": {}},
        {"operation": "fly", "restrictions": {"user": []}},
        {"operation": "delete", "restrictions": {"user": [{"type": "known", "accountId": "acc-me"}]}},
        {"operation": "read", "restrictions": {"user": [{"type": "known", "accountId": "acc-nobody"}]}},
        {"operation": "read", "restrictions": {"user": [{"accountId": "acc-me"}]}},
        {"operation": "read", "restrictions": {"user": "acc-me"}},
        {"operation": "read", "restrictions": {"group": []}},
        {"operation": "read", "restrictions": {"group": [{"type": "group", "id": "no-such-group"}]}},
        {"operation": "read", "restrictions": {"user": [{"type": "known", "accountId": "acc-you"}]}},
    ],
)
def test_restrictions_that_are_none_change_nothing(send: Send, space: str, rule: Any) -> None:
    page = new_page(send, space)
    before = send("GET", f"{V1}/content/{page}/restriction").json()
    assert send("PUT", f"{V1}/content/{page}/restriction", json={"results": [rule]}).status_code == 400
    assert send("GET", f"{V1}/content/{page}/restriction").json() == before


def test_restrictions_are_shown_as_far_as_asked_for(stand_in: ConfluenceStandIn, send: Send, space: str) -> None:
    stand_in.add_group("people", [YOU.account_id])
    page = new_page(send, space)
    path = f"{V1}/content/{page}/restriction"
    user = {"operation": "read", "restrictions": {"user": [{"type": "known", "accountId": "acc-me"}]}}
    group = {"operation": "read", "restrictions": {"group": [{"type": "group", "id": group_id("people")}]}}
    read, update = send("PUT", path, json={"results": [user, group]}).json()["results"]
    assert [row["accountId"] for row in read["restrictions"]["user"]["results"]] == ["acc-me"]
    assert [row["name"] for row in read["restrictions"]["group"]["results"]] == ["people"]
    assert update["restrictions"]["user"]["results"] == []
    cut = send("GET", f"{path}?expand=restrictions.user&limit=0").json()["results"][0]["restrictions"]
    assert cut["user"]["size"] == 0
    assert "group" not in cut
    assert send("DELETE", path).json()["results"][0]["restrictions"]["user"]["size"] == 0


# --- tree ------------------------------------------------------------------------------------------


def test_a_folder_may_share_a_title_and_hold_pages(send: Send, space: str) -> None:
    new_page(send, space, "Same")
    folder = send("POST", f"{V2}/folders", json={"spaceId": space, "title": "Same"}).json()
    page = new_page(send, space, "Inside", parentId=folder["id"])
    assert send("GET", f"{V2}/pages/{page}").json()["parentType"] == "folder"
    above = send("GET", f"{V2}/folders/{folder['id']}/ancestors").json()["results"]
    assert [row["type"] for row in above] == ["page"]
    below = send("GET", f"{V2}/pages/{above[0]['id']}/descendants").json()["results"]
    assert {row["type"] for row in below if row["depth"] == 1} == {"page", "folder"}
    assert send("GET", f"{V2}/folders/999/descendants").status_code == 404


# --- comments --------------------------------------------------------------------------------------


def comment(page: str, words: str, count: int, index: int) -> dict[str, Any]:
    about = {"textSelection": words, "textSelectionMatchCount": count, "textSelectionMatchIndex": index}
    body = {"representation": "storage", "value": "<p>?</p>"}
    return {"pageId": page, "body": body, "inlineCommentProperties": about}


def test_an_inline_comment_marks_its_words_without_a_new_version(send: Send, space: str) -> None:
    page = new_page(send, space)
    for count, index in ((1, 0), (2, 2), (3, 1)):
        assert send("POST", f"{V2}/inline-comments", json=comment(page, "one", count, index)).status_code == 400
    made = send("POST", f"{V2}/inline-comments", json=comment(page, "one", 2, 1)).json()
    row = send("GET", f"{V2}/pages/{page}?body-format=storage").json()
    marker = (
        f'<ac:inline-comment-marker ac:ref="{made["properties"]["inlineMarkerRef"]}">one</ac:inline-comment-marker>'
    )
    assert row["body"]["storage"]["value"] == f"<p>one two {marker}</p>"
    assert row["version"]["number"] == 1
    path = f"{V2}/inline-comments/{made['id']}"
    assert send("PUT", path, json={"version": {"number": 1}, "resolved": True}).status_code == 409
    assert send("PUT", path, json={"version": {"number": 2}, "resolved": True}).json()["resolutionStatus"] == "resolved"
    assert (
        send("PUT", path, json={"version": {"number": 3}, "resolved": False}).json()["resolutionStatus"] == "reopened"
    )
    answer = {"parentCommentId": made["id"], "body": {"representation": "storage", "value": "<p>!</p>"}}
    assert send("POST", f"{V2}/inline-comments", json=answer).status_code == 201
    assert len(send("GET", f"{V2}/pages/{page}/inline-comments").json()["results"]) == 1


# --- search ----------------------------------------------------------------------------------------


def test_search_goes_on_by_cursor_alone(send: Send, space: str) -> None:
    pages = [new_page(send, space, f"Plan {number}") for number in range(7)]
    query = {"cql": "type = page", "limit": "3"}
    first = send("GET", f"{V1}/content/search", params={**query, "excerpt": "none"}).json()
    assert "excerpt" not in first["_links"]["next"]
    assert send("GET", f"{V1}/content/search", params={**query, "start": "3"}).json()["results"] == first["results"]
    second = send("GET", f"/wiki{first['_links']['next']}").json()
    assert [row["id"] for row in second["results"]] == pages[2:5]
    assert send("GET", f"{V1}/content/search", params={"cql": 'space = "NOPE"'}).json()["results"] == []


# --- gateway ---------------------------------------------------------------------------------------


def test_the_gateway_knows_tokens_scopes_and_sites(stand_in: ConfluenceStandIn, send: Send) -> None:
    stand_in.gateway.add("scoped", Token("acc-me", frozenset({"read:space:confluence"})))
    stand_in.gateway.add("oauth", Token("acc-you", oauth=True))
    root = f"/ex/confluence/{send('GET', '/_edge/tenant_info', None).json()['cloudId']}"
    scoped = SandboxUser("acc-me", "Me", ME.email, "scoped")
    assert send("GET", f"{root}{V2}/spaces", scoped).json()["results"][0]["key"] == "DS"
    refused = send("GET", f"{root}{V2}/pages", scoped)
    assert (refused.status_code, refused.json()) == (
        401,
        {"code": 401, "message": "Unauthorized; scope does not match"},
    )
    at_site = send("GET", f"{V2}/spaces", scoped)
    assert (at_site.status_code, at_site.headers["Content-Type"]) == (401, "text/html;charset=utf-8")
    bearer = {"Authorization": "Bearer oauth"}
    assert send("GET", f"{root}{V1}/user/current", None, headers=bearer).json()["accountId"] == "acc-you"
    stand_in.gateway.expire("oauth")
    ended = send("GET", f"{root}{V1}/user/current", None, headers=bearer)
    assert (ended.status_code, ended.json()) == (401, {"code": 401, "message": "Unauthorized"})
    assert send("GET", f"{root}{V2}/spaces", ME).status_code == 200


@pytest.mark.skipif(not SPECS.is_dir(), reason=ABSENT)
def test_the_scopes_are_those_of_the_published_contracts() -> None:
    published: dict[tuple[str, str], set[str]] = {}
    for version, prefix in (("1", ""), ("2", V2)):
        document = json.loads((SPECS / f"confluence-cloud-v{version}.json").read_text("utf-8"))
        for path, verbs in document["paths"].items():
            for verb, operation in verbs.items():
                for entry in operation.get("security", []) if isinstance(operation, dict) else []:
                    if "oAuthDefinitions" in entry:
                        published[verb.upper(), prefix + path] = set(entry["oAuthDefinitions"])
    checked = 0
    for (verb, path), scopes in published.items():
        found = scopes_needed(verb, re.sub(r"\{[^}]*\}", "1", path))
        if found is not None:
            assert set(found) == scopes, f"{verb} {path}"
            checked += 1
    assert checked >= sum(len(methods.split()) for methods, _, _ in SCOPES)


def test_every_call_of_the_stand_in_has_its_scopes(stand_in: ConfluenceStandIn) -> None:
    missing = []
    for method, pattern, _ in stand_in.app._routes:
        path = re.sub(r"\(\?P<\w+>\[\^/\]\+\)", "1", pattern.pattern).replace("\\Z", "").replace("\\", "")
        if path.startswith((V1, V2)) and scopes_needed(method, path) is None:
            missing.append(f"{method} {path}")
    assert missing == []


# --- what clients that others wrote ask for --------------------------------------------------------

PANEL = '<ac:structured-macro ac:name="info"><ac:rich-text-body><p>Mind</p></ac:rich-text-body></ac:structured-macro>'
NO_CHECK = {"X-Atlassian-Token": "no-check"}


def test_a_page_or_a_file_is_watched_and_not_watched_any_more(send: Send, space: str) -> None:
    page = new_page(send, space)
    file = send("POST", f"{V1}/content/{page}/child/attachment", files={"file": ("a.txt", b"x")}, headers=NO_CHECK)
    for content in (page, file.json()["results"][0]["id"]):
        path = f"{V1}/user/watch/content/{content}"
        for method, watching in (("POST", True), ("DELETE", False), ("DELETE", False)):
            assert send(method, path, headers=NO_CHECK).status_code == 204
            assert send("GET", path).json() == {"watching": watching}
    assert send("DELETE", f"{V1}/user/watch/content/{page}").status_code == 403
    assert send("DELETE", f"{V1}/user/watch/content/999", headers=NO_CHECK).status_code == 404


def test_a_search_of_content_shows_the_parts_that_are_expanded_and_names_the_others(send: Send, space: str) -> None:
    page = new_page(send, space)
    send("POST", f"{V1}/content/{page}/label", json=[{"prefix": "global", "name": "guide"}])
    query = {"cql": "label = guide", "expand": "body.storage,version,metadata.labels"}
    [found] = send("GET", f"{V1}/content/search", params=query).json()["results"]
    assert found["body"]["storage"]["value"] == "<p>one two one</p>"
    assert (found["version"]["number"], found["version"]["by"]["accountId"]) == (1, ME.account_id)
    assert [label["name"] for label in found["metadata"]["labels"]["results"]] == ["guide"]
    assert set(found["_expandable"]) == {"history", "space"}
    bare = send("GET", f"{V1}/content/search", params={"cql": "label = guide"}).json()["results"][0]
    assert "body" not in bare
    assert "body" in bare["_expandable"]


def test_a_search_sends_25_results_with_bodies_that_cost_much(send: Send, space: str) -> None:
    for number in range(27):
        new_page(send, space, f"Page {number}")
    for expand, most in (("", 28), ("body.storage", 28), ("body.export_view", 25), ("version,body.styled_view", 25)):
        query = {"cql": "type = page", "limit": 50, "expand": expand}
        assert len(send("GET", f"{V1}/content/search", params=query).json()["results"]) == most


@pytest.mark.parametrize("name", ["view", "export_view", "styled_view", "anonymous_export_view"])
def test_a_body_is_shown_as_html(send: Send, space: str, name: str) -> None:
    sent = {"spaceId": space, "title": "Page", "body": {"representation": "storage", "value": PANEL}}
    page = send("POST", f"{V2}/pages", json=sent).json()["id"]
    html = "<div class='panel info'><p>Mind</p></div>"
    if name == "view":
        body = send("GET", f"{V2}/pages/{page}?body-format=view").json()["body"]
        assert body == {"view": {"representation": "view", "value": html}}
    query = {"cql": f"id = {page}", "expand": f"body.{name}"}
    [found] = send("GET", f"{V1}/content/search", params=query).json()["results"]
    assert found["body"][name]["value"] == html


def test_pages_are_found_by_what_is_above_them(send: Send, space: str) -> None:
    above = new_page(send, space, "Above")
    folder = send("POST", f"{V2}/folders", json={"spaceId": space, "title": "F", "parentId": above}).json()["id"]
    below = new_page(send, space, "Below", parentId=folder)
    query = {"cql": f"ancestor = {above}"}
    assert [row["id"] for row in send("GET", f"{V1}/content/search", params=query).json()["results"]] == [below]


def test_restrictions_come_by_operation(send: Send, space: str) -> None:
    page = new_page(send, space)
    only = [{"operation": "read", "restrictions": {"user": [{"type": "known", "accountId": ME.account_id}]}}]
    assert send("PUT", f"{V1}/content/{page}/restriction", json={"results": only}).status_code == 200
    found = send("GET", f"{V1}/content/{page}/restriction/byOperation").json()
    users = {name: found[name]["restrictions"]["user"]["results"] for name in ("read", "update")}
    assert ([user["accountId"] for user in users["read"]], users["update"]) == ([ME.account_id], [])
