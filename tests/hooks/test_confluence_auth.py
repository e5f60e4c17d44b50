"""How ConfluenceHook signs in, what it needs for what, and what reaches a log."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from include.base.errors import AuthError, InvalidInput, LabelopsError, Unavailable
from include.sandbox.confluence.gateway import Token
from include.sandbox.http import json_reply
from include.settings import ROOT
from include.systems.confluence.values import Page, Restriction
from labelops.hooks.confluence import ConfluenceHook, capabilities
from tests.hooks.confluence_site import EDITOR, SERVICE, Site, make, on, running

SECRET = "scoped-secret-77"
TASK = (
    "<ac:task-list><ac:task><ac:task-id>1</ac:task-id><ac:task-status>incomplete</ac:task-status>"
    "<ac:task-body>Sign</ac:task-body></ac:task></ac:task-list>"
)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with running(monkeypatch) as site:
        yield site


@pytest.fixture
def page(site: Site) -> Page:
    return make(site.hook(), body=TASK)


def through_gateway(site: Site, auth: str = "scoped", *, scopes: Any = None, **extra: Any) -> ConfluenceHook:
    """Return a hook whose token has only these scopes (None: all)."""
    chosen = None if scopes is None else frozenset(scopes)
    site.stand_in.gateway.add(SECRET, Token(SERVICE.account_id, chosen, oauth=auth == "oauth2"))
    extra = {"auth": auth, "gateway": site.server.url + "/ex/confluence/", **extra}
    return site.hook(replace(SERVICE, token=SECRET), extra=extra)


# --- ways to sign in -------------------------------------------------------------------------------


@pytest.mark.parametrize("auth", ["scoped", "oauth2"])
def test_tokens_of_the_gateway_find_their_site(site: Site, auth: str) -> None:
    hook = through_gateway(site, auth)
    assert hook.test_connection() == (True, f"Connected to {site.server.url} as Labelops service")
    site.stand_in.app.requests.clear()
    page = make(hook, "Through the gateway")
    assert page.url == f"{site.server.url}/wiki/spaces/DS/pages/{page.id}/Through+the+gateway"
    assert len(list(hook.pages_in_space(page.space_id))) == 2
    stored, _ = hook.upload(page.id, "a.bin", b"bytes", "application/octet-stream")
    assert b"".join(hook.download(stored)) == b"bytes"
    paths = {target for _, target in site.stand_in.app.requests if not target.startswith("/_media/")}
    assert all(target.startswith("/ex/confluence/local-cloud-id/wiki/") for target in paths)


@pytest.mark.off_contract
def test_the_cloud_id_is_asked_for_once_and_without_a_credential(site: Site) -> None:
    seen: list[Any] = []
    site.stand_in.app.before.append(lambda request: seen.append(request))
    hook = through_gateway(site)
    hook.current_user()
    hook.spaces()
    asked = [request for request in seen if request.path == "/_edge/tenant_info"]
    assert [request.headers.get("authorization") for request in asked] == [None]
    seen.clear()
    through_gateway(site, cloud_id="local-cloud-id").current_user()
    assert not [request for request in seen if request.path == "/_edge/tenant_info"]
    with pytest.raises(LabelopsError, match="cloud"):
        through_gateway(site, cloud_id="other").current_user()


@pytest.mark.off_contract
def test_a_site_that_does_not_tell_its_cloud_id(site: Site) -> None:
    site.stand_in.app.fault("status", on("GET", "/_edge"), reply=json_reply({}, 404))
    with pytest.raises(InvalidInput, match="set `cloud_id`"):
        through_gateway(site)


def test_a_list_is_walked_through_the_gateway(site: Site) -> None:
    hook = through_gateway(site)
    space = hook.space("DS").id
    with site.stand_in.database.transaction():
        for number in range(600):
            site.stand_in._insert_page(int(space), f"Page {number}", "<p />", None, SERVICE.account_id)
    assert len(list(hook.pages_in_space(space))) == 601


@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_a_scoped_token_at_the_site_itself_is_explained(site: Site, auth: str) -> None:
    site.stand_in.gateway.add(SECRET, Token(SERVICE.account_id))
    ok, message = site.hook(replace(SERVICE, token=SECRET), extra={"auth": auth}).test_connection()
    assert not ok
    assert "a scoped token needs `auth` = scoped" in message


def test_bad_fields_are_named(site: Site) -> None:
    with pytest.raises(InvalidInput, match="allowed are basic, bearer, scoped, oauth2"):
        site.hook(extra={"auth": "magic"})
    with pytest.raises(InvalidInput, match="`gateway`"):
        site.hook(extra={"auth": "scoped", "gateway": "gateway.example"})
    with pytest.raises(InvalidInput, match="login"):
        site.hook(login="", extra={"auth": "scoped"})


# --- what is needed for what -----------------------------------------------------------------------

READ = Restriction("read", (SERVICE.account_id,))


def first_task(hook: ConfluenceHook, page: Page) -> Any:
    return hook.complete_task(page_task_id(page))


def page_task_id(page: Page) -> str:
    return str(TASK_IDS[page.id])


TASK_IDS: dict[str, str] = {}
RUNS: dict[str, Callable[[ConfluenceHook, Page], Any]] = {
    "current_user": lambda hook, page: hook.current_user(),
    "users": lambda hook, page: hook.users([EDITOR.account_id]),
    "group_members": lambda hook, page: list(hook.group_members("people")),
    "spaces": lambda hook, page: [list(hook.spaces()), hook.space("DS")],
    "pages_in_space": lambda hook, page: [
        list(hook.pages_in_space(page.space_id)),
        list(hook.pages([page.id])),
        hook.page(page.id),
        hook.find_page(page.space_id, page.title),
        list(hook.versions(page.id)),
    ],
    "changed_pages": lambda hook, page: list(hook.changed_pages(page.space_id)),
    "descendants": lambda hook, page: list(hook.descendants(page.id)),
    "ancestors": lambda hook, page: hook.ancestors(page.id),
    "create_page": lambda hook, page: hook.create_page(page.space_id, "New", "<p />"),
    "update_page": lambda hook, page: hook.update_page(page, body="<p>Two</p>"),
    "move_page": lambda hook, page: hook.move_page(page, TARGET_IDS[page.id]),
    "archive_page": lambda hook, page: hook.archive_page(page.id),
    "labels": lambda hook, page: hook.labels(page.id),
    "add_label": lambda hook, page: hook.add_label(page.id, "new"),
    "remove_label": lambda hook, page: hook.remove_label(page.id, "old"),
    "pages_with_label": lambda hook, page: list(hook.pages_with_label("DS", "old")),
    "content_state": lambda hook, page: hook.content_state(page.id),
    "attachments": lambda hook, page: list(hook.attachments(page.id)),
    "download": lambda hook, page: b"".join(hook.download(FILES[page.id])),
    "upload": lambda hook, page: hook.upload(page.id, "b.bin", b"2", "application/octet-stream"),
    "properties": lambda hook, page: [list(hook.properties(page.id)), hook.property(page.id, "k")],
    "set_property": lambda hook, page: hook.set_property(page.id, "new", 1, None),
    "footer_comments": lambda hook, page: list(hook.footer_comments(page.id)),
    "add_footer_comment": lambda hook, page: hook.add_footer_comment(page.id, "<p />"),
    "inline_comments": lambda hook, page: list(hook.inline_comments(page.id)),
    "inline_tasks": lambda hook, page: list(hook.inline_tasks([page.id])),
    "complete_task": first_task,
    "restrictions": lambda hook, page: hook.restrictions(page.id),
    "set_restrictions": lambda hook, page: hook.set_restrictions(page.id, [READ]),
    "create_restricted_page": lambda hook, page: hook.create_restricted_page(page.space_id, "New", "<p />", [READ]),
    "search": lambda hook, page: list(hook.search("type = page")),
}
TARGET_IDS: dict[str, str] = {}
FILES: dict[str, Any] = {}


def furnish(site: Site, page: Page) -> None:
    hook = site.hook()
    site.stand_in.add_group("people", [EDITOR.account_id])
    hook.add_label(page.id, "old")
    hook.set_property(page.id, "k", 1, None)
    FILES[page.id], _ = hook.upload(page.id, "a.bin", b"1", "application/octet-stream")
    TARGET_IDS[page.id] = make(hook, "Target").id
    sent = {"spaceId": page.space_id, "title": "Above", "parentId": TARGET_IDS[page.id]}
    above = site.send("POST", "/wiki/api/v2/folders", json=sent).json()["id"]
    path = f"/wiki/rest/api/content/{page.id}/move/append/{above}"
    assert site.send("PUT", path).status_code == 200
    TASK_IDS[page.id] = next(hook.inline_tasks([page.id])).id


def test_every_operation_is_run_here() -> None:
    assert {capabilities.operation(name).name for name in RUNS} == {item.name for item in capabilities.OPERATIONS}
    methods = {method for item in capabilities.OPERATIONS for method in item.methods}
    assert all(callable(getattr(ConfluenceHook, method)) for method in methods)


@pytest.mark.parametrize("name", RUNS)
def test_the_declared_scopes_are_enough(site: Site, page: Page, name: str) -> None:
    furnish(site, page)
    hook = through_gateway(site, scopes=capabilities.operation(name).scopes)
    RUNS[name](hook, page)


@pytest.mark.parametrize(
    "name",
    [
        "create_page",
        "update_page",
        "move_page",
        "archive_page",
        "upload",
        "set_property",
        "add_footer_comment",
        "set_restrictions",
        "remove_label",
        "create_restricted_page",
    ],
)
def test_the_declared_scopes_are_enough_to_settle_a_lost_reply(site: Site, page: Page, name: str) -> None:
    furnish(site, page)
    hook = through_gateway(site, scopes=capabilities.operation(name).scopes)
    site.stand_in.app.fault("reset_after", lambda request: request.method in ("POST", "PUT", "DELETE"))
    RUNS[name](hook, page)


@pytest.mark.parametrize("name", RUNS)
def test_a_missing_scope_is_named(site: Site, page: Page, name: str) -> None:
    furnish(site, page)
    missing = capabilities.operation(name).scopes[0]
    hook = through_gateway(site, scopes={scope for scope in capabilities.scopes_of() if scope != missing})
    with pytest.raises(AuthError, match=re.escape(missing)):
        RUNS[name](hook, page)


def test_the_connection_test_names_what_is_refused(site: Site) -> None:
    hook = through_gateway(site, scopes=capabilities.scopes_of("current_user", "spaces", "pages"))
    ok, message = hook.test_connection()
    assert ok
    assert message.endswith("; refused: search (needs search:confluence); inline_tasks (needs read:task:confluence)")
    assert through_gateway(site, scopes=["read:space:confluence"]).test_connection()[0] is False


def test_requirements_are_declared() -> None:
    assert ConfluenceHook.requirements("inline_tasks", "labels") == (
        "right: view the page",
        "scope: read:page:confluence",
        "scope: read:task:confluence",
    )
    assert set(ConfluenceHook.requirements()) >= {f"scope: {name}" for name in capabilities.scopes_of()}
    with pytest.raises(InvalidInput):
        ConfluenceHook.requirements("fly")


# --- tokens that end -------------------------------------------------------------------------------


@pytest.mark.parametrize("auth", ["oauth2", "basic"])
def test_a_token_that_ends_in_the_middle_of_a_walk(site: Site, auth: str) -> None:
    space = site.hook().space("DS").id
    with site.stand_in.database.transaction():
        for number in range(600):
            site.stand_in._insert_page(int(space), f"Page {number}", "<p />", None, SERVICE.account_id)
    hook = through_gateway(site, auth) if auth == "oauth2" else site.hook()
    walk = hook.pages_in_space(space)
    seen = [next(walk).id for _ in range(300)]
    if auth == "oauth2":
        site.stand_in.gateway.expire(SECRET)
    else:
        site.stand_in.add_user(replace(SERVICE, token="renewed"))
    with pytest.raises(AuthError):
        seen.extend(item.id for item in walk)
    assert not walk.complete
    again = site.hook(replace(SERVICE, token="renewed") if auth == "basic" else SERVICE)
    seen += [item.id for item in again.pages_in_space(space, resume=walk.state)]
    assert len(seen) == len(set(seen)) == 601


# --- logs ------------------------------------------------------------------------------------------


def test_no_secret_query_or_body_reaches_a_log(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    page = make(site.hook(), "Confidential title", body="<p>confidential words</p>")
    for auth in ("basic", "scoped", "oauth2"):
        hook = site.hook() if auth == "basic" else through_gateway(site, auth)
        list(hook.search('text ~ "confidential"'))
        hook.find_page(page.space_id, "Confidential title")
        hook.add_footer_comment(page.id, "<p>confidential remark</p>")
        hook.set_restrictions(page.id, [READ])
        hook.users(["confidential-account"])
        list(hook.changed_pages(page.space_id))
        walk = hook.pages_in_space(page.space_id)
        next(walk)
    site.stand_in.app.fault("reset_after", on("POST", "/footer-comments"), times=1)
    hook.add_footer_comment(page.id, "<p>confidential lost</p>")
    site.stand_in.app.fault("garbage", on("GET", "/search"), times=1)
    with pytest.raises(LabelopsError) as caught:
        list(hook.search('text ~ "confidential"'))
    site.stand_in.app.fault("reset_before", on("GET", "/search"), times=None)
    with pytest.raises(Unavailable) as lost:
        list(hook.search('text ~ "confidential"'))
    ours = "\n".join(
        record.getMessage() + str(record.exc_info or "")
        for record in caplog.records
        if record.name.startswith(("labelops", "atlassian", "urllib3", "requests", "include"))
    )
    assert "/wiki/rest/api/search: 200" in ours
    for text in (ours, str(caught.value), str(lost.value), repr(hook), repr(hook._open()[0].settings)):
        for secret in ("onfidential", "cql=", "cursor=", SERVICE.token, SECRET, SERVICE.email, "Basic ", "Bearer "):
            assert secret not in text


# --- documents -------------------------------------------------------------------------------------


def test_the_table_in_the_documents_is_the_table_in_the_code() -> None:
    text = (ROOT / "docs" / "data-engineer.md").read_text("utf-8")
    found = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if re.match(r"\| `[a-z_]+`(, `[a-z_]+`)* \|.*\| (yes|no)", line)
    ]
    expected = [
        [
            ", ".join(f"`{method}`" for method in item.methods),
            item.does,
            "yes",
            "no: " + item.why_not("datacenter") if item.why_not("datacenter") else "yes",
            item.right,
            ", ".join(f"`{scope}`" for scope in item.scopes),
        ]
        for item in capabilities.OPERATIONS
    ]
    assert found == expected
