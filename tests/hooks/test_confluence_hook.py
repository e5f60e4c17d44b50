"""ConfluenceHook against the local Confluence, over HTTP, with the connection in the environment."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from include.base.errors import (
    AuthError,
    Conflict,
    InvalidInput,
    InvalidReply,
    NotFound,
    RateLimited,
    Unavailable,
    Unsupported,
)
from include.sandbox.http import App, Request, Server, json_reply
from labelops.hooks.confluence import ConfluenceHook
from tests.hooks.confluence_site import EDITOR, SERVICE, Site, make, on, running

PAGE_WRITES = re.compile(r"/wiki/api/v2/pages(/\d+)?\Z")


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with running(monkeypatch) as site:
        yield site


@pytest.fixture
def hook(site: Site) -> ConfluenceHook:
    return site.hook()


# --- reading ---------------------------------------------------------------------------------------


def test_connection_names_site_and_account(site: Site) -> None:
    assert site.hook().test_connection() == (True, f"Connected to {site.server.url} as Labelops service")


def test_connection_with_a_wrong_token_is_refused(site: Site) -> None:
    ok, message = site.hook(replace(SERVICE, token="wrong-token-999")).test_connection()
    assert not ok
    assert "403" in message
    assert "wrong-token-999" not in message


def test_connection_refused_by_v2_alone_fails(site: Site) -> None:
    hook = site.hook()
    body = {"errors": [{"status": 404, "code": "NOT_FOUND", "title": "Not Found", "detail": None}]}
    site.stand_in.app.fault("status", on("GET", "/api/v2/spaces"), reply=json_reply(body, 404))
    assert hook.test_connection()[0] is False


def test_an_anonymous_visitor_is_refused(site: Site) -> None:
    hook = site.hook()
    site.stand_in.app.fault("status", on("GET", "/user/current"), reply=json_reply({"type": "anonymous"}))
    with pytest.raises(AuthError, match="anonymous"):
        hook.current_user()


def test_nothing_is_sent_before_the_first_call(site: Site) -> None:
    before = len(site.stand_in.app.requests)
    assert site.hook().requests_made == 0
    assert len(site.stand_in.app.requests) == before


def test_listing_follows_cursors_to_the_end(site: Site, hook: ConfluenceHook) -> None:
    space = hook.space("DS")
    with site.stand_in.database.transaction():
        for number in range(600):
            site.stand_in._insert_page(int(space.id), f"Page {number}", "<p />", None, SERVICE.account_id)
    before = hook.requests_made
    titles = [page.title for page in hook.pages_in_space(space.id)]
    assert len(titles) == len(set(titles)) == 601
    assert hook.requests_made - before == 3


def test_a_listing_that_breaks_off_is_not_an_end(site: Site, hook: ConfluenceHook) -> None:
    space = hook.space("DS")
    with site.stand_in.database.transaction():
        for number in range(300):
            site.stand_in._insert_page(int(space.id), f"Page {number}", "<p />", None, SERVICE.account_id)
    site.stand_in.app.fault("status", lambda request: "cursor=" in request.target, reply=json_reply({}, 500))
    with pytest.raises(Unavailable):
        list(hook.pages_in_space(space.id))


def test_a_listing_that_turns_in_a_circle_is_refused(site: Site, hook: ConfluenceHook) -> None:
    row = site.send("GET", f"/wiki/api/v2/spaces/{hook.space('DS').id}/pages").json()["results"][0]
    again = json_reply({"results": [row], "_links": {"next": "/wiki/api/v2/spaces/1/pages?cursor=same"}})
    site.stand_in.app.fault("status", on("GET", "/pages"), times=None, reply=again)
    with pytest.raises(InvalidReply, match="repeats"):
        list(hook.pages_in_space("1"))


def test_a_next_page_after_no_rows_is_the_end(site: Site, hook: ConfluenceHook) -> None:
    empty = json_reply({"results": [], "_links": {"next": "/wiki/api/v2/spaces/1/pages?cursor=more"}})
    site.stand_in.app.fault("status", on("GET", "/pages"), reply=empty)
    assert list(hook.pages_in_space("1")) == []


def test_old_versions_keep_their_body_and_author(site: Site, hook: ConfluenceHook) -> None:
    page = make(hook)
    site.hook(EDITOR).update_page(page, body="<p>Two</p>", message="reworded")
    old = hook.page(page.id, version=1)
    assert (old.version.number, old.version.author_id, old.body) == (1, "acc-service", "<p>One</p>")
    versions = list(hook.versions(page.id))
    assert [(item.number, item.author_id, item.message) for item in versions] == [
        (2, "acc-editor", "reworded"),
        (1, "acc-service", ""),
    ]
    assert all(item.created.tzinfo == UTC for item in versions)


def test_find_page_is_exact(hook: ConfluenceHook) -> None:
    page = make(hook, "Approved labels")
    assert hook.find_page(page.space_id, "Approved labels") == hook.page(page.id)
    assert hook.find_page(page.space_id, "APPROVED labels") is None
    assert hook.find_page(page.space_id, "No such page") is None


@pytest.mark.parametrize(
    "value", ["2026-11-20T10:00:00.000Z", "2026-11-20T11:00:00+0100", "2026-11-20T05:00:00-05:00", 1795168800000]
)
def test_state_times_are_read_in_every_form(site: Site, hook: ConfluenceHook, value: Any) -> None:
    body = {"contentState": {"id": 3, "name": "Verified", "color": "#57d9a3"}, "lastUpdated": value}
    site.stand_in.app.fault("status", on("GET", "/state"), reply=json_reply(body))
    state = hook.content_state("1")
    assert state is not None
    assert state.last_updated == datetime(2026, 11, 20, 10, tzinfo=UTC)


def test_a_state_publishes_a_version_with_the_same_body(site: Site, hook: ConfluenceHook) -> None:
    page = make(hook)
    assert hook.content_state(page.id) is None
    path = f"/wiki/rest/api/content/{page.id}/state?status=current"
    assert site.send("PUT", path, json={"id": 3}).status_code == 200
    state, now = hook.content_state(page.id), hook.page(page.id)
    assert state is not None
    assert (state.name, state.last_updated) == ("Verified", now.version.created)
    assert (now.version.number, now.version.author_id, now.body) == (2, "acc-editor", page.body)


def test_labels_and_search(hook: ConfluenceHook) -> None:
    pages = [make(hook, f"Page {number}") for number in range(3)]
    for page in pages[:2]:
        hook.add_label(page.id, "guideline")
        hook.add_label(page.id, "guideline")
    hook.add_label(pages[0].id, "approved")
    assert hook.labels(pages[0].id) == ["approved", "guideline"]
    assert list(hook.pages_with_label("DS", "guideline")) == [pages[0].id, pages[1].id]
    assert list(hook.pages_with_label("DS", 'x" or label = "guideline')) == []
    assert hook.page(pages[0].id).version.number == 1
    with pytest.raises(InvalidInput):
        hook.add_label(pages[0].id, "two words")


def test_comments_oldest_first(site: Site, hook: ConfluenceHook) -> None:
    page = make(hook)
    for text in ("first", "second"):
        body = {"pageId": page.id, "body": {"representation": "storage", "value": f"<p>{text}</p>"}}
        assert site.send("POST", "/wiki/api/v2/footer-comments", json=body).status_code == 201
    comments = list(hook.footer_comments(page.id))
    assert [(item.author_id, item.body) for item in comments] == [
        ("acc-editor", "<p>first</p>"),
        ("acc-editor", "<p>second</p>"),
    ]
    assert comments[0].created < comments[1].created


def test_a_missing_field_is_named(site: Site, hook: ConfluenceHook) -> None:
    page = make(hook)
    row = site.send("GET", f"/wiki/api/v2/pages/{page.id}?body-format=storage").json()
    del row["version"]["createdAt"]
    site.stand_in.app.fault("status", on("GET", "/pages/"), reply=json_reply(row))
    with pytest.raises(InvalidReply, match=r"version\.createdAt"):
        hook.page(page.id)


def test_unknown_fields_are_tolerated(site: Site, hook: ConfluenceHook) -> None:
    page = make(hook)
    row = site.send("GET", f"/wiki/api/v2/pages/{page.id}?body-format=storage").json()
    reply = json_reply({**row, "futureField": [1]})
    site.stand_in.app.fault("status", on("GET", "/pages/"), reply=reply)
    assert hook.page(page.id) == page


# --- refusals --------------------------------------------------------------------------------------


def html(status: int) -> Any:
    reply = json_reply(None, status, {"Content-Type": "text/html"})
    reply.body = b"<html>status</html>"
    return reply


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (json_reply({"errors": [{"status": 404, "code": "NOT_FOUND", "title": "Not Found"}]}, 404), AuthError),
        (json_reply({"errors": [{"status": 404, "title": "Cannot find a page with id [9]"}]}, 404), NotFound),
        (html(404), InvalidReply),
        (html(401), AuthError),
        (json_reply({"code": 401, "message": "Unauthorized; scope does not match"}, 401), AuthError),
        (json_reply({"statusCode": 403, "message": "caller cannot access Confluence"}, 403), AuthError),
        (json_reply({"statusCode": 409, "message": "OptimisticLockException"}, 409), Conflict),
        (json_reply({"errors": [{"title": "bad"}]}, 400), InvalidInput),
        (json_reply({"message": "gone"}, 410), Unsupported),
        (json_reply({}, 500), Unavailable),
        (json_reply({}, 302, {"Location": "https://sign-in.example/?token=secret"}), InvalidReply),
        (html(200), InvalidReply),
        (json_reply([1, 2]), InvalidReply),
    ],
)
def test_refusals_are_told_apart(site: Site, hook: ConfluenceHook, reply: Any, expected: type[Exception]) -> None:
    site.stand_in.app.fault("status", on("GET", "/pages/"), reply=reply)
    with pytest.raises(expected) as caught:
        hook.page("9")
    assert type(caught.value) is expected
    assert "secret" not in str(caught.value)


def test_genuine_absence_is_not_found(hook: ConfluenceHook) -> None:
    with pytest.raises(NotFound):
        hook.page("9")
    with pytest.raises(NotFound):
        hook.space("NOPE")


def test_malformed_storage_and_duplicate_titles(hook: ConfluenceHook) -> None:
    page = make(hook)
    with pytest.raises(InvalidInput, match="parsing"):
        make(hook, "Other", "<p>never closed")
    with pytest.raises(Conflict):
        make(hook, page.title)


# --- retries ---------------------------------------------------------------------------------------


def test_a_read_is_tried_again_after_503(site: Site, hook: ConfluenceHook) -> None:
    page = make(hook)
    fault = site.stand_in.app.fault("status", on("GET", "/pages/"), times=2, reply=json_reply({}, 503))
    assert hook.page(page.id) == page
    assert (fault.hits, site.waits) == (2, [1.0, 2.0])


def test_a_read_is_not_tried_for_ever(site: Site, hook: ConfluenceHook) -> None:
    fault = site.stand_in.app.fault("reset_before", on("GET", "/pages/"), times=None)
    with pytest.raises(Unavailable):
        hook.page("1")
    assert fault.hits == 4


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_create_is_never_sent_twice(site: Site, hook: ConfluenceHook, status: int) -> None:
    space = hook.space("DS")
    site.stand_in.app.fault("status", on("POST", "/api/v2/pages"), times=None, reply=json_reply({}, status))
    with pytest.raises(Unavailable):
        hook.create_page(space.id, "New", "<p />")
    assert len([target for target in site.sent("POST") if target.endswith("/pages")]) == 1


def test_429_is_tried_again_for_a_create_too(site: Site, hook: ConfluenceHook) -> None:
    space = hook.space("DS")
    site.stand_in.app.fault("status", on("POST"), reply=json_reply({}, 429, {"Retry-After": "7"}))
    hook.create_page(space.id, "New", "<p />")
    assert site.waits == [7.0]


def test_429_with_a_date(site: Site, hook: ConfluenceHook) -> None:
    moment = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    site.stand_in.app.fault("status", on("GET"), reply=json_reply({}, 429, {"Retry-After": moment}))
    hook.current_user()
    assert 15 < site.waits[0] <= 20


def test_a_long_pause_is_left_to_the_task(site: Site, hook: ConfluenceHook) -> None:
    fault = site.stand_in.app.fault("status", on("GET"), reply=json_reply({}, 429, {"Retry-After": "1800"}))
    with pytest.raises(RateLimited) as caught:
        hook.current_user()
    assert (caught.value.retry_after, fault.hits, site.waits) == (1800.0, 1, [])


def test_the_rate_limit_of_the_site_is_kept(site: Site) -> None:
    hook = site.hook()
    site.stand_in.limit_rate(3, 600)
    for _ in range(3):
        hook.space("DS")
    with pytest.raises(RateLimited) as caught:
        hook.space("DS")
    assert caught.value.retry_after is not None
    assert caught.value.retry_after > 500


def test_a_truncated_reply_is_invalid(site: Site, hook: ConfluenceHook) -> None:
    site.stand_in.app.fault("truncate", on("GET", "/user/current"))
    with pytest.raises(InvalidReply):
        hook.current_user()


def test_a_create_whose_reply_was_lost_makes_one_page(site: Site, hook: ConfluenceHook) -> None:
    space = hook.space("DS")
    before = len(site.stand_in.snapshot()["pages"])
    site.stand_in.app.fault("reset_after", on("POST", "/api/v2/pages"))
    body = '<p><b>New</b></p><ac:structured-macro ac:name="toc" />'
    page = hook.create_page(space.id, "New", body)
    assert hook.page(page.id).title == "New"
    assert len(site.stand_in.snapshot()["pages"]) == before + 1


@pytest.mark.parametrize("kind", ["truncate", "garbage"])
def test_a_create_whose_reply_is_unreadable_makes_one_page(site: Site, hook: ConfluenceHook, kind: str) -> None:
    space = hook.space("DS")
    site.stand_in.app.fault(kind, on("POST", "/api/v2/pages"))
    page = hook.create_page(space.id, "New", "<p>x</p>")
    assert hook.find_page(space.id, "New") == page


def test_a_foreign_page_is_not_taken_over(site: Site, hook: ConfluenceHook) -> None:
    other = make(site.hook(EDITOR), "New", "<p>x</p>")
    hook = site.hook()
    site.stand_in.app.fault("reset_before", on("POST", "/api/v2/pages"))
    with pytest.raises(Unavailable):
        hook.create_page(other.space_id, "New", "<p>x</p>")


def test_an_update_whose_reply_was_lost_has_landed(site: Site, hook: ConfluenceHook) -> None:
    page = make(hook)
    site.stand_in.app.fault("reset_after", on("PUT"))
    written = hook.update_page(page, body="<p><i>Two</i></p>")
    assert written.version.number == 2
    assert len(site.sent("PUT")) == 1


def test_an_update_that_was_lost_on_the_way_is_unavailable(site: Site, hook: ConfluenceHook) -> None:
    page = make(hook)
    site.stand_in.app.fault("reset_before", on("PUT"))
    with pytest.raises(Unavailable):
        hook.update_page(page, body="<p>Two</p>")
    assert hook.page(page.id) == page


def test_somebody_elses_edit_is_a_conflict(site: Site, hook: ConfluenceHook) -> None:
    page = make(hook)
    site.hook(EDITOR).update_page(page, body="<p>Theirs</p>")
    with pytest.raises(Conflict, match="acc-editor"):
        hook.update_page(page, body="<p>Ours</p>")
    # The same words by somebody else are still not our write.
    with pytest.raises(Conflict):
        hook.update_page(page, body="<p>Theirs</p>")
    assert hook.page(page.id).body == "<p>Theirs</p>"


def test_a_trashed_page_is_not_written_to(site: Site, hook: ConfluenceHook) -> None:
    page = make(hook)
    assert site.send("DELETE", f"/wiki/api/v2/pages/{page.id}").status_code == 204
    trashed = hook.page(page.id)
    assert trashed.status == "trashed"
    with pytest.raises(Conflict, match="trashed"):
        hook.update_page(trashed, body="<p>x</p>")


# --- attachments and properties --------------------------------------------------------------------


def test_upload_is_idempotent_by_content(site: Site, hook: ConfluenceHook) -> None:
    page = make(hook)
    first, sent = hook.upload(page.id, "größe 1.txt", "ä".encode(), "text/plain")
    assert (sent, first.version, first.size) == (True, 1, 2)
    assert hook.upload(page.id, "größe 1.txt", "ä".encode(), "text/plain") == (first, False)
    second, sent = hook.upload(page.id, "größe 1.txt", b"other", "text/plain")
    assert (sent, second.id, second.version) == (True, first.id, 2)
    assert [item.title for item in hook.attachments(page.id)] == ["größe 1.txt"]
    assert b"".join(hook.download(second)) == b"other"
    with pytest.raises(InvalidReply):
        b"".join(hook.download(first))


def test_an_upload_whose_reply_was_lost_is_made_once(site: Site, hook: ConfluenceHook) -> None:
    page = make(hook)
    site.stand_in.app.fault("reset_after", on("POST", "/child/attachment"))
    stored, _ = hook.upload(page.id, "chart.png", b"\x89PNG", "image/png")
    assert site.stand_in.snapshot()["attachments"] == {stored.id.removeprefix("att"): 1}


def test_an_upload_after_a_stale_list(site: Site, hook: ConfluenceHook) -> None:
    page = make(hook)
    first, _ = hook.upload(page.id, "chart.png", b"one", "image/png")
    site.stand_in.app.fault("status", on("GET", "/attachments"), reply=json_reply({"results": [], "_links": {}}))
    second, sent = hook.upload(page.id, "chart.png", b"two", "image/png")
    assert (sent, second.id, second.version) == (True, first.id, 2)


def test_a_slash_in_a_name_is_refused(hook: ConfluenceHook) -> None:
    with pytest.raises(InvalidInput):
        hook.upload("1", "../secret.txt", b"", "text/plain")


def test_the_credential_stays_on_its_host(site: Site, hook: ConfluenceHook) -> None:
    page = make(hook)
    stored, _ = hook.upload(page.id, "a.bin", b"content", "application/octet-stream")
    seen: list[Request] = []
    media = App()

    @media.route("GET", "/file")
    def file(request: Request) -> Any:
        seen.append(request)
        reply = json_reply(None)
        reply.body = b"content"
        return reply

    with Server(media) as other:
        reply = json_reply(None, 302, {"Location": f"{other.url}/file"})
        site.stand_in.app.fault("status", on("GET", "/download"), reply=reply)
        assert b"".join(hook.download(stored)) == b"content"
    assert [request.headers.get("authorization") for request in seen] == [None]


def test_properties_are_versioned(site: Site, hook: ConfluenceHook) -> None:
    page = make(hook)
    assert hook.property(page.id, "labelops") is None
    first = hook.set_property(page.id, "labelops", {"digest": "a"}, None)
    second = hook.set_property(page.id, "labelops", {"digest": "b"}, first)
    assert (second.id, second.version, hook.property(page.id, "labelops")) == (first.id, 2, second)
    with pytest.raises(Conflict):
        hook.set_property(page.id, "labelops", {"digest": "c"}, first)
    with pytest.raises(Conflict):
        hook.set_property(page.id, "labelops", {"digest": "c"}, None)
    assert hook.page(page.id).version.number == 1


def test_a_property_whose_reply_was_lost_has_landed(site: Site, hook: ConfluenceHook) -> None:
    page = make(hook)
    site.stand_in.app.fault("reset_after", on("POST", "/properties"))
    first = hook.set_property(page.id, "labelops", {"digest": "a"}, None)
    site.stand_in.app.fault("reset_after", on("PUT", "/properties"))
    assert hook.set_property(page.id, "labelops", {"digest": "b"}, first).version == 2


# --- connection and log ----------------------------------------------------------------------------


def test_bad_connection_fields_are_named(site: Site) -> None:
    with pytest.raises(InvalidInput, match="flavour"):
        site.hook(extra={"flavour": "server"})
    with pytest.raises(InvalidInput, match="auth"):
        site.hook(extra={"auth": "magic"})
    with pytest.raises(InvalidInput, match="timeout"):
        site.hook(extra={"timeout": "soon"})
    with pytest.raises(InvalidInput, match="login"):
        site.hook(login="")
    with pytest.raises(InvalidInput, match="host"):
        site.hook(host="")


def test_bearer_and_addresses(site: Site) -> None:
    assert site.hook(extra={"auth": "bearer"}, login="").current_user().account_id == "acc-service"
    assert site.hook(host=site.server.url + "/wiki/").space("DS").key == "DS"
    assert site.hook(host="acme.example").get_conn().url == "https://acme.example"
    gateway = site.hook(extra={"cloud_id": "cloud-1"}).get_conn().url
    assert gateway == "https://api.atlassian.com/ex/confluence/cloud-1"


def test_one_client_per_thread(hook: ConfluenceHook) -> None:
    clients: list[Any] = [hook.get_conn()]
    thread = threading.Thread(target=lambda: clients.append(hook.get_conn()))
    thread.start()
    thread.join()
    assert clients[0] is hook.get_conn()
    assert clients[0] is not clients[1]


def test_no_secret_and_no_body_in_the_log(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="atlassian.rest_client")
    caplog.set_level(logging.DEBUG, logger="include.systems")
    hook = site.hook()
    page = make(hook, "Confidential title", "<p>confidential words</p>")
    hook.find_page(page.space_id, "Confidential title")
    hook.upload(page.id, "a.txt", b"confidential bytes", "text/plain")
    with pytest.raises(AuthError):
        site.hook(replace(SERVICE, token="wrong-token-999")).current_user()
    log = "\n".join(
        f"{record.getMessage()}" for record in caplog.records if record.name.startswith(("labelops", "include", "atl"))
    )
    assert f"GET /wiki/api/v2/spaces/{page.space_id}/pages: 200" in log
    for secret in ("onfidential", SERVICE.token, "wrong-token-999", SERVICE.email):
        assert secret not in log


# --- published contracts ---------------------------------------------------------------------------

SPECS = Path(__file__).resolve().parents[2].parent / "shared" / "specs"
OPTIONAL = pytest.mark.skipif(not SPECS.is_dir(), reason="the published contracts are not on this machine")


def _operations() -> set[tuple[str, str]]:
    found = set()
    for name, prefix in (("confluence-cloud-v1.json", ""), ("confluence-cloud-v2.json", "/wiki/api/v2")):
        for path, verbs in json.loads((SPECS / name).read_text("utf-8"))["paths"].items():
            found |= {(verb.upper(), prefix + re.sub(r"\{[^}]*\}", "*", path)) for verb in verbs}
    return found


@OPTIONAL
def test_every_request_is_in_the_published_contracts(site: Site, hook: ConfluenceHook) -> None:
    site.stand_in.app.requests.clear()
    page = hook.update_page(make(hook), body="<p>Two</p>")
    hook.current_user()
    hook.page(page.id, version=1)
    hook.find_page(page.space_id, page.title)
    hook.add_label(page.id, "x")
    hook.upload(page.id, "a.bin", b"1", "application/octet-stream")
    hook.upload(page.id, "a.bin", b"2", "application/octet-stream")
    hook.set_property(page.id, "k", 2, hook.set_property(page.id, "k", 1, None))
    hook.content_state(page.id)
    b"".join(hook.download(next(hook.attachments(page.id))))
    for listing in (
        hook.pages_in_space(page.space_id),
        hook.versions(page.id),
        hook.pages_with_label("DS", "x"),
        hook.footer_comments(page.id),
    ):
        list(listing)
    hook.labels(page.id)
    used = {
        (method, re.sub(r"/(att)?\d+(?=/|\Z)", "/*", target.partition("?")[0]))
        for method, target in site.stand_in.app.requests
        if not target.startswith("/_media")
    }
    assert len(used) >= 18
    assert used - _operations() == set()
