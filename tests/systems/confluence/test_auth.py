"""How ConfluenceClient signs in, what it needs for what, and what reaches a log."""

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
from include.systems.confluence import capabilities
from include.systems.confluence.client import ConfluenceClient
from include.systems.confluence.values import Page, Restriction
from tests.systems.confluence.site import SERVICE, Site, make, on, running

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
    return make(site.client(), body=TASK)


def through_gateway(site: Site, auth: str = "scoped", *, scopes: Any = None, **extra: Any) -> ConfluenceClient:
    """Return a client whose token has only these scopes (None: all)."""
    chosen = None if scopes is None else frozenset(scopes)
    site.stand_in.gateway.add(SECRET, Token(SERVICE.account_id, chosen, oauth=auth == "oauth2"))
    extra = {"auth": auth, "gateway": site.server.url + "/ex/confluence/", **extra}
    return site.client(replace(SERVICE, token=SECRET), extra=extra)


# --- ways to sign in -------------------------------------------------------------------------------


@pytest.mark.parametrize("auth", ["scoped", "oauth2"])
def test_tokens_of_the_gateway_find_their_site(site: Site, auth: str) -> None:
    client = through_gateway(site, auth)
    assert client.check() == f"Connected to {site.server.url} as Labelops service"
    site.stand_in.app.requests.clear()
    page = make(client, "Through the gateway")
    assert page.url == f"{site.server.url}/wiki/spaces/DS/pages/{page.id}/Through+the+gateway"
    assert len(list(client.pages_in_space(page.space_id))) == 2
    stored, _ = client.upload(page.id, "a.bin", b"bytes", "application/octet-stream")
    assert b"".join(client.download(stored)) == b"bytes"
    paths = {target for _, target in site.stand_in.app.requests if not target.startswith("/_media/")}
    assert all(target.startswith("/ex/confluence/local-cloud-id/wiki/") for target in paths)


@pytest.mark.off_contract
def test_the_cloud_id_is_asked_for_once_and_without_a_credential(site: Site) -> None:
    seen: list[Any] = []
    site.stand_in.app.before.append(lambda request: seen.append(request))
    client = through_gateway(site)
    client.current_user()
    client.space("DS")
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
        through_gateway(site).current_user()


def test_a_list_is_walked_through_the_gateway(site: Site) -> None:
    client = through_gateway(site)
    space = client.space("DS").id
    with site.stand_in.database.transaction():
        for number in range(600):
            site.stand_in._insert_page(int(space), f"Page {number}", "<p />", None, SERVICE.account_id)
    assert len(list(client.pages_in_space(space))) == 601


@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_a_scoped_token_at_the_site_itself_is_explained(site: Site, auth: str) -> None:
    site.stand_in.gateway.add(SECRET, Token(SERVICE.account_id))
    with pytest.raises(AuthError, match="a scoped token needs `auth` = scoped"):
        site.client(replace(SERVICE, token=SECRET), extra={"auth": auth}).check()


def test_bad_fields_are_named(site: Site) -> None:
    with pytest.raises(InvalidInput, match="allowed are basic, bearer, scoped, oauth2"):
        site.client(extra={"auth": "magic"})
    with pytest.raises(InvalidInput, match="`gateway`"):
        site.client(extra={"auth": "scoped", "gateway": "gateway.example"})
    with pytest.raises(InvalidInput, match="login"):
        site.client(login="", extra={"auth": "scoped"})


# --- what is needed for what -----------------------------------------------------------------------

READ = Restriction("read", (SERVICE.account_id,))


RUNS: dict[str, Callable[[ConfluenceClient, Page], Any]] = {
    "current_user": lambda client, page: client.current_user(),
    "space": lambda client, page: client.space("DS"),
    "pages_in_space": lambda client, page: [
        list(client.pages_in_space(page.space_id)),
        list(client.pages([page.id])),
        client.page(page.id),
        client.find_page(page.space_id, page.title),
        list(client.versions(page.id)),
    ],
    "changed_pages": lambda client, page: list(client.changed_pages(page.space_id)),
    "descendants": lambda client, page: list(client.descendants(page.id)),
    "pages_above": lambda client, page: client.pages_above(page.id),
    "create_page": lambda client, page: client.create_page(page.space_id, "New", "<p />"),
    "update_page": lambda client, page: client.update_page(page, body="<p>Two</p>"),
    "labels": lambda client, page: client.labels(page.id),
    "add_label": lambda client, page: client.add_label(page.id, "new"),
    "remove_label": lambda client, page: client.remove_label(page.id, "old"),
    "pages_with_label": lambda client, page: list(client.pages_with_label("DS", "old")),
    "content_state": lambda client, page: client.content_state(page.id),
    "attachments": lambda client, page: list(client.attachments(page.id)),
    "download": lambda client, page: b"".join(client.download(FILES[page.id])),
    "upload": lambda client, page: client.upload(page.id, "b.bin", b"2", "application/octet-stream"),
    "properties": lambda client, page: [list(client.properties(page.id)), client.property(page.id, "k")],
    "set_property": lambda client, page: client.set_property(page.id, "new", 1, None),
    "footer_comments": lambda client, page: list(client.footer_comments(page.id)),
    "add_footer_comment": lambda client, page: client.add_footer_comment(page.id, "<p />"),
    "inline_comments": lambda client, page: list(client.inline_comments(page.id)),
    "inline_tasks": lambda client, page: list(client.inline_tasks([page.id])),
    "restrictions": lambda client, page: client.restrictions(page.id),
    "set_restrictions": lambda client, page: client.set_restrictions(page.id, [READ]),
    "create_restricted_page": lambda client, page: client.create_restricted_page(page.space_id, "New", "<p />", [READ]),
}
FILES: dict[str, Any] = {}


def furnish(site: Site, page: Page) -> None:
    client = site.client()
    client.add_label(page.id, "old")
    client.set_property(page.id, "k", 1, None)
    FILES[page.id], _ = client.upload(page.id, "a.bin", b"1", "application/octet-stream")
    sent = {"spaceId": page.space_id, "title": "Above", "parentId": make(client, "Target").id}
    above = site.send("POST", "/wiki/api/v2/folders", json=sent).json()["id"]
    with site.stand_in.database.transaction():
        site.stand_in.database.write("update pages set parent_id = ? where id = ?", (int(above), int(page.id)))


def test_every_operation_is_run_here() -> None:
    assert {capabilities.operation(name).name for name in RUNS} == {item.name for item in capabilities.OPERATIONS}
    methods = {method for item in capabilities.OPERATIONS for method in item.methods}
    assert all(callable(getattr(ConfluenceClient, method)) for method in methods)


@pytest.mark.parametrize("name", RUNS)
def test_the_declared_scopes_are_enough(site: Site, page: Page, name: str) -> None:
    furnish(site, page)
    client = through_gateway(site, scopes=capabilities.operation(name).scopes)
    RUNS[name](client, page)


@pytest.mark.parametrize(
    "name",
    [
        "create_page",
        "update_page",
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
    client = through_gateway(site, scopes=capabilities.operation(name).scopes)
    site.stand_in.app.fault("reset_after", lambda request: request.method in ("POST", "PUT", "DELETE"))
    RUNS[name](client, page)


@pytest.mark.parametrize("name", RUNS)
def test_a_missing_scope_is_named(site: Site, page: Page, name: str) -> None:
    furnish(site, page)
    missing = capabilities.operation(name).scopes[0]
    client = through_gateway(site, scopes={scope for scope in capabilities.scopes_of() if scope != missing})
    with pytest.raises(AuthError, match=re.escape(missing)):
        RUNS[name](client, page)


def test_the_connection_test_names_what_is_refused(site: Site) -> None:
    client = through_gateway(site, scopes=capabilities.scopes_of("current_user", "space", "pages"))
    assert client.check().endswith(
        "; refused: pages_with_label (needs search:confluence); inline_tasks (needs read:task:confluence)"
    )
    with pytest.raises(AuthError):
        through_gateway(site, scopes=["read:space:confluence"]).check()


def test_requirements_are_declared() -> None:
    assert ConfluenceClient.requirements("inline_tasks", "labels") == (
        "right: view the page",
        "scope: read:page:confluence",
        "scope: read:task:confluence",
    )
    assert set(ConfluenceClient.requirements()) >= {f"scope: {name}" for name in capabilities.scopes_of()}
    with pytest.raises(InvalidInput):
        ConfluenceClient.requirements("fly")


# --- tokens that end -------------------------------------------------------------------------------


@pytest.mark.parametrize("auth", ["oauth2", "basic"])
def test_a_token_that_ends_in_the_middle_of_a_walk(site: Site, auth: str) -> None:
    space = site.client().space("DS").id
    with site.stand_in.database.transaction():
        for number in range(600):
            site.stand_in._insert_page(int(space), f"Page {number}", "<p />", None, SERVICE.account_id)
    client = through_gateway(site, auth) if auth == "oauth2" else site.client()
    walk = client.pages_in_space(space)
    seen = [next(walk).id for _ in range(300)]
    if auth == "oauth2":
        site.stand_in.gateway.expire(SECRET)
    else:
        site.stand_in.add_user(replace(SERVICE, token="renewed"))
    with pytest.raises(AuthError):
        seen.extend(item.id for item in walk)
    assert not walk.complete
    again = site.client(replace(SERVICE, token="renewed") if auth == "basic" else SERVICE)
    seen += [item.id for item in again.pages_in_space(space, resume=walk.state)]
    assert len(seen) == len(set(seen)) == 601


# --- logs ------------------------------------------------------------------------------------------


def test_no_secret_query_or_body_reaches_a_log(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    page = make(site.client(), "Confidential title", body="<p>confidential words</p>")
    for auth in ("basic", "scoped", "oauth2"):
        client = site.client() if auth == "basic" else through_gateway(site, auth)
        list(client.pages_with_label("DS", "confidential"))
        client.find_page(page.space_id, "Confidential title")
        client.add_footer_comment(page.id, "<p>confidential remark</p>")
        client.set_restrictions(page.id, [READ])
        list(client.changed_pages(page.space_id))
        walk = client.pages_in_space(page.space_id)
        next(walk)
    site.stand_in.app.fault("reset_after", on("POST", "/footer-comments"), times=1)
    client.add_footer_comment(page.id, "<p>confidential lost</p>")
    site.stand_in.app.fault("garbage", on("GET", "/search"), times=1)
    with pytest.raises(LabelopsError) as caught:
        list(client.pages_with_label("DS", "confidential"))
    site.stand_in.app.fault("reset_before", on("GET", "/search"), times=None)
    with pytest.raises(Unavailable) as lost:
        list(client.pages_with_label("DS", "confidential"))
    ours = "\n".join(
        record.getMessage() + str(record.exc_info or "")
        for record in caplog.records
        if record.name.startswith(("labelops", "atlassian", "urllib3", "requests", "include"))
    )
    assert "/wiki/rest/api/content/search: 200" in ours
    for text in (ours, str(caught.value), str(lost.value), repr(client), repr(client.settings)):
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
