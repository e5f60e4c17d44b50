"""ConfluenceClient against the local Confluence, over HTTP: pages, retries, files, and what is refused."""

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
from include.sandbox.http import App, Reply, Request, Server, json_reply
from include.systems.confluence.client import ConfluenceClient
from include.systems.confluence.values import Restriction
from tests.systems.confluence.site import EDITOR, SERVICE, Site, make, on, running

PAGE_WRITES = re.compile(r"/wiki/api/v2/pages(/\d+)?\Z")


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with running(monkeypatch) as site:
        yield site


@pytest.fixture
def client(site: Site) -> ConfluenceClient:
    return site.client()


# --- reading ---------------------------------------------------------------------------------------


def test_the_check_names_site_and_account(site: Site) -> None:
    assert site.client().check() == f"Connected to {site.server.url} as Labelops service"


def test_a_wrong_token_is_refused(site: Site) -> None:
    with pytest.raises(AuthError, match="403") as caught:
        site.client(replace(SERVICE, token="wrong-token-999")).check()
    assert "wrong-token-999" not in str(caught.value)


def test_a_credential_refused_by_v2_alone_is_refused(site: Site) -> None:
    client = site.client()
    body = {"errors": [{"status": 404, "code": "NOT_FOUND", "title": "Not Found", "detail": None}]}
    site.stand_in.app.fault("status", on("GET", "/api/v2/spaces"), reply=json_reply(body, 404))
    with pytest.raises(AuthError):
        client.check()


def test_an_anonymous_visitor_is_refused(site: Site) -> None:
    client = site.client()
    site.stand_in.app.fault("status", on("GET", "/user/current"), reply=json_reply({"type": "anonymous"}))
    with pytest.raises(AuthError, match="anonymous"):
        client.current_user()


def test_nothing_is_sent_before_the_first_call(site: Site) -> None:
    before = len(site.stand_in.app.requests)
    assert site.client().requests_made == 0
    assert len(site.stand_in.app.requests) == before


def test_listing_follows_cursors_to_the_end(site: Site, client: ConfluenceClient) -> None:
    space = client.space("DS")
    with site.stand_in.database.transaction():
        for number in range(600):
            site.stand_in._insert_page(int(space.id), f"Page {number}", "<p />", None, SERVICE.account_id)
    before = client.requests_made
    titles = [page.title for page in client.pages_in_space(space.id)]
    assert len(titles) == len(set(titles)) == 601
    assert client.requests_made - before == 3


def test_a_listing_that_breaks_off_is_not_an_end(site: Site, client: ConfluenceClient) -> None:
    space = client.space("DS")
    with site.stand_in.database.transaction():
        for number in range(300):
            site.stand_in._insert_page(int(space.id), f"Page {number}", "<p />", None, SERVICE.account_id)
    site.stand_in.app.fault("status", lambda request: "cursor=" in request.target, reply=json_reply({}, 500))
    with pytest.raises(Unavailable):
        list(client.pages_in_space(space.id))


def test_a_listing_that_turns_in_a_circle_is_refused(site: Site, client: ConfluenceClient) -> None:
    row = site.send("GET", f"/wiki/api/v2/spaces/{client.space('DS').id}/pages").json()["results"][0]
    again = json_reply({"results": [row], "_links": {"next": "/wiki/api/v2/spaces/1/pages?cursor=same"}})
    site.stand_in.app.fault("status", on("GET", "/pages"), times=None, reply=again)
    with pytest.raises(InvalidReply, match="repeats"):
        list(client.pages_in_space("1"))


def test_cursors_that_never_end_over_the_same_row_are_not_followed(site: Site, client: ConfluenceClient) -> None:
    space = client.space("DS")
    row = site.send("GET", f"/wiki/api/v2/spaces/{space.id}/pages?body-format=storage").json()["results"][0]
    for number in range(9):
        again = json_reply({"results": [row], "_links": {"next": f"/x?cursor={number}"}})
        site.stand_in.app.fault("status", on("GET", "/pages"), reply=again)
    before = client.requests_made
    with pytest.raises(InvalidReply, match="repeats itself"):
        list(client.pages_in_space(space.id))
    with pytest.raises(InvalidReply, match="repeats itself"):
        client.find_page(space.id, row["title"])
    assert client.requests_made - before == 4


def test_a_page_to_sign_in_is_told_for_what_it_is(site: Site, client: ConfluenceClient) -> None:
    page = Reply(200, b"<html>Sign in</html>", {"Content-Type": "text/html;charset=UTF-8"})
    site.stand_in.app.fault("status", on("GET", "/user/current"), reply=page)
    with pytest.raises(InvalidReply, match="status 200 with a page for people, such as one to sign in"):
        client.current_user()


def test_a_pause_that_an_outage_asks_for_is_kept(site: Site, client: ConfluenceClient) -> None:
    reply = json_reply({}, 503, headers={"Retry-After": "7200"})
    site.stand_in.app.fault("status", on("GET", "/user/current"), reply=reply)
    with pytest.raises(Unavailable, match="503 after 1 of 4 tries; it asks for a pause of 7200 s") as caught:
        client.current_user()
    assert caught.value.retry_after == 7200


def test_a_next_page_after_no_rows_is_the_end(site: Site, client: ConfluenceClient) -> None:
    empty = json_reply({"results": [], "_links": {"next": "/wiki/api/v2/spaces/1/pages?cursor=more"}})
    site.stand_in.app.fault("status", on("GET", "/pages"), reply=empty)
    assert list(client.pages_in_space("1")) == []


def test_old_versions_keep_their_body_and_author(site: Site, client: ConfluenceClient) -> None:
    page = make(client)
    site.client(EDITOR).update_page(page, body="<p>Two</p>", message="reworded")
    old = client.page(page.id, version=1)
    assert (old.version.number, old.version.author_id, old.body) == (1, "acc-service", "<p>One</p>")
    versions = list(client.versions(page.id))
    assert [(item.number, item.author_id, item.message) for item in versions] == [
        (2, "acc-editor", "reworded"),
        (1, "acc-service", ""),
    ]
    assert all(item.created.tzinfo == UTC for item in versions)


def test_find_page_is_exact(client: ConfluenceClient) -> None:
    page = make(client, "Approved labels")
    assert client.find_page(page.space_id, "Approved labels") == client.page(page.id)
    assert client.find_page(page.space_id, "No such page") is None


def test_find_and_create_agree_on_what_has_a_title(client: ConfluenceClient) -> None:
    """What the site refuses to create beside a page, finds that page."""
    page = make(client, " Approved labels ")
    assert page.title == "Approved labels"
    for title in ("Approved labels", "APPROVED labels", "\tApproved labels "):
        assert client.find_page(page.space_id, title) == client.page(page.id)
        with pytest.raises(Conflict, match=f"the current page {page.id} has the title 'Approved labels'"):
            client.create_page(page.space_id, title, "<p />")


def archive(site: Site, page_id: str) -> None:
    with site.stand_in.database.transaction():
        site.stand_in.database.write("update pages set status = 'archived' where id = ?", (page_id,))


def test_an_archived_page_that_has_the_title_is_named(site: Site, client: ConfluenceClient) -> None:
    page, other = make(client), make(client, "Other")
    archive(site, page.id)
    assert client.find_page(page.space_id, page.title) is None
    named = f"the archived page {page.id} has the title 'Guideline' \\(http.*{page.id}.*\\): rename or restore it"
    with pytest.raises(Conflict, match=named):
        client.create_page(page.space_id, page.title, "<p />")
    with pytest.raises(Conflict, match=named):
        client.update_page(other, title="guideline", body="<p>Two</p>")


def test_a_conflict_about_something_else_is_not_taken_for_one_about_the_title(
    site: Site, client: ConfluenceClient
) -> None:
    space = client.space("DS")
    busy = json_reply({"errors": [{"status": 409, "code": "CONFLICT", "title": "Busy", "detail": None}]}, 409)
    site.stand_in.app.fault("status", on("POST", "/api/v2/pages"), reply=busy)
    with pytest.raises(Conflict, match=r"409 Busy\Z"):
        client.create_page(space.id, "New", "<p />")


def test_a_title_taken_by_a_page_that_cannot_be_seen_is_said_to_be(site: Site, client: ConfluenceClient) -> None:
    page = site.client(EDITOR).create_restricted_page(
        client.space("DS").id, "Secret", "<p />", [Restriction("read", (EDITOR.account_id,))]
    )
    with pytest.raises(Conflict, match=r"already exists.*hidden from the account") as caught:
        client.create_page(page.space_id, "Secret", "<p />")
    assert page.id not in str(caught.value)


@pytest.mark.parametrize(
    "value", ["2026-11-20T10:00:00.000Z", "2026-11-20T11:00:00+0100", "2026-11-20T05:00:00-05:00", 1795168800000]
)
def test_state_times_are_read_in_every_form(site: Site, client: ConfluenceClient, value: Any) -> None:
    body = {"contentState": {"id": 3, "name": "Verified", "color": "#57d9a3"}, "lastUpdated": value}
    site.stand_in.app.fault("status", on("GET", "/state"), reply=json_reply(body))
    state = client.content_state("1")
    assert state is not None
    assert state.last_updated == datetime(2026, 11, 20, 10, tzinfo=UTC)


def test_a_state_publishes_a_version_with_the_same_body(site: Site, client: ConfluenceClient) -> None:
    page = make(client)
    assert client.content_state(page.id) is None
    path = f"/wiki/rest/api/content/{page.id}/state?status=current"
    assert site.send("PUT", path, json={"id": 3}).status_code == 200
    state, now = client.content_state(page.id), client.page(page.id)
    assert state is not None
    assert (state.name, state.last_updated) == ("Verified", now.version.created)
    assert (now.version.number, now.version.author_id, now.body) == (2, "acc-editor", page.body)


def test_labels_and_search(client: ConfluenceClient) -> None:
    pages = [make(client, f"Page {number}") for number in range(3)]
    for page in pages[:2]:
        client.add_label(page.id, "guideline")
        client.add_label(page.id, "guideline")
    client.add_label(pages[0].id, "approved")
    assert client.labels(pages[0].id) == ["approved", "guideline"]
    assert list(client.pages_with_label("DS", "guideline")) == [pages[0].id, pages[1].id]
    assert list(client.pages_with_label("DS", 'x" or label = "guideline')) == []
    assert client.page(pages[0].id).version.number == 1
    with pytest.raises(InvalidInput):
        client.add_label(pages[0].id, "two words")


def test_comments_oldest_first(site: Site, client: ConfluenceClient) -> None:
    page = make(client)
    for text in ("first", "second"):
        body = {"pageId": page.id, "body": {"representation": "storage", "value": f"<p>{text}</p>"}}
        assert site.send("POST", "/wiki/api/v2/footer-comments", json=body).status_code == 201
    comments = list(client.footer_comments(page.id))
    assert [(item.author_id, item.body) for item in comments] == [
        ("acc-editor", "<p>first</p>"),
        ("acc-editor", "<p>second</p>"),
    ]
    assert comments[0].created < comments[1].created


def test_a_missing_field_is_named(site: Site, client: ConfluenceClient) -> None:
    page = make(client)
    row = site.send("GET", f"/wiki/api/v2/pages/{page.id}?body-format=storage").json()
    del row["version"]["createdAt"]
    site.stand_in.app.fault("status", on("GET", "/pages/"), reply=json_reply(row))
    with pytest.raises(InvalidReply, match=r"version\.createdAt"):
        client.page(page.id)


def test_unknown_fields_are_tolerated(site: Site, client: ConfluenceClient) -> None:
    page = make(client)
    row = site.send("GET", f"/wiki/api/v2/pages/{page.id}?body-format=storage").json()
    reply = json_reply({**row, "futureField": [1]})
    site.stand_in.app.fault("status", on("GET", "/pages/"), reply=reply)
    assert client.page(page.id) == page


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
def test_refusals_are_told_apart(site: Site, client: ConfluenceClient, reply: Any, expected: type[Exception]) -> None:
    site.stand_in.app.fault("status", on("GET", "/pages/"), reply=reply)
    with pytest.raises(expected) as caught:
        client.page("9")
    assert type(caught.value) is expected
    assert "secret" not in str(caught.value)


def test_genuine_absence_is_not_found(client: ConfluenceClient) -> None:
    with pytest.raises(NotFound):
        client.page("9")
    with pytest.raises(NotFound):
        client.space("NOPE")


def test_malformed_storage_and_duplicate_titles(client: ConfluenceClient) -> None:
    page = make(client)
    with pytest.raises(InvalidInput, match="parsing"):
        make(client, "Other", "<p>never closed")
    with pytest.raises(Conflict):
        make(client, page.title)


# --- retries ---------------------------------------------------------------------------------------


def test_a_read_is_tried_again_after_503(site: Site, client: ConfluenceClient) -> None:
    page = make(client)
    fault = site.stand_in.app.fault("status", on("GET", "/pages/"), times=2, reply=json_reply({}, 503))
    assert client.page(page.id) == page
    assert (fault.hits, site.waits) == (2, [1.0, 2.0])


def test_a_read_is_not_tried_for_ever(site: Site, client: ConfluenceClient) -> None:
    fault = site.stand_in.app.fault("reset_before", on("GET", "/pages/"), times=None)
    with pytest.raises(Unavailable):
        client.page("1")
    assert fault.hits == 4


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_create_is_never_sent_twice(site: Site, client: ConfluenceClient, status: int) -> None:
    space = client.space("DS")
    site.stand_in.app.fault("status", on("POST", "/api/v2/pages"), times=None, reply=json_reply({}, status))
    with pytest.raises(Unavailable):
        client.create_page(space.id, "New", "<p />")
    assert len([target for target in site.sent("POST") if target.endswith("/pages")]) == 1


def test_429_is_tried_again_for_a_create_too(site: Site, client: ConfluenceClient) -> None:
    space = client.space("DS")
    site.stand_in.app.fault("status", on("POST"), reply=json_reply({}, 429, {"Retry-After": "7"}))
    client.create_page(space.id, "New", "<p />")
    assert site.waits == [7.0]


def test_429_with_a_date(site: Site, client: ConfluenceClient) -> None:
    moment = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    site.stand_in.app.fault("status", on("GET"), reply=json_reply({}, 429, {"Retry-After": moment}))
    client.current_user()
    assert 15 < site.waits[0] <= 20


def test_a_long_pause_is_left_to_the_task(site: Site, client: ConfluenceClient) -> None:
    fault = site.stand_in.app.fault("status", on("GET"), reply=json_reply({}, 429, {"Retry-After": "1800"}))
    with pytest.raises(RateLimited) as caught:
        client.current_user()
    assert (caught.value.retry_after, fault.hits, site.waits) == (1800.0, 1, [])


def test_the_rate_limit_of_the_site_is_kept(site: Site) -> None:
    client = site.client()
    site.stand_in.limit_rate(3, 600)
    for _ in range(3):
        client.space("DS")
    with pytest.raises(RateLimited) as caught:
        client.space("DS")
    assert caught.value.retry_after is not None
    assert caught.value.retry_after > 500


def test_a_truncated_reply_is_invalid(site: Site, client: ConfluenceClient) -> None:
    site.stand_in.app.fault("truncate", on("GET", "/user/current"))
    with pytest.raises(InvalidReply):
        client.current_user()


def test_a_create_whose_reply_was_lost_makes_one_page(site: Site, client: ConfluenceClient) -> None:
    space = client.space("DS")
    before = len(site.stand_in.snapshot()["pages"])
    site.stand_in.app.fault("reset_after", on("POST", "/api/v2/pages"))
    body = '<p><b>New</b></p><ac:structured-macro ac:name="toc" />'
    page = client.create_page(space.id, "New", body)
    assert client.page(page.id).title == "New"
    assert len(site.stand_in.snapshot()["pages"]) == before + 1


@pytest.mark.parametrize("kind", ["truncate", "garbage"])
def test_a_create_whose_reply_is_unreadable_makes_one_page(site: Site, client: ConfluenceClient, kind: str) -> None:
    space = client.space("DS")
    site.stand_in.app.fault(kind, on("POST", "/api/v2/pages"))
    page = client.create_page(space.id, "New", "<p>x</p>")
    assert client.find_page(space.id, "New") == page


def test_a_foreign_page_is_not_taken_over(site: Site, client: ConfluenceClient) -> None:
    other = make(site.client(EDITOR), "New", "<p>x</p>")
    client = site.client()
    site.stand_in.app.fault("reset_before", on("POST", "/api/v2/pages"))
    with pytest.raises(Unavailable):
        client.create_page(other.space_id, "New", "<p>x</p>")


def test_an_update_whose_reply_was_lost_has_landed(site: Site, client: ConfluenceClient) -> None:
    page = make(client)
    site.stand_in.app.fault("reset_after", on("PUT"))
    written = client.update_page(page, body="<p><i>Two</i></p>")
    assert written.version.number == 2
    assert len(site.sent("PUT")) == 1


def test_an_update_that_was_lost_on_the_way_is_unavailable(site: Site, client: ConfluenceClient) -> None:
    page = make(client)
    site.stand_in.app.fault("reset_before", on("PUT"))
    with pytest.raises(Unavailable):
        client.update_page(page, body="<p>Two</p>")
    assert client.page(page.id) == page


def test_somebody_elses_edit_is_a_conflict(site: Site, client: ConfluenceClient) -> None:
    page = make(client)
    site.client(EDITOR).update_page(page, body="<p>Theirs</p>")
    with pytest.raises(Conflict, match="acc-editor"):
        client.update_page(page, body="<p>Ours</p>")
    # The same words by somebody else are still not our write.
    with pytest.raises(Conflict):
        client.update_page(page, body="<p>Theirs</p>")
    assert client.page(page.id).body == "<p>Theirs</p>"


def test_a_trashed_page_is_not_written_to(site: Site, client: ConfluenceClient) -> None:
    page = make(client)
    assert site.send("DELETE", f"/wiki/api/v2/pages/{page.id}").status_code == 204
    trashed = client.page(page.id)
    assert trashed.status == "trashed"
    with pytest.raises(Conflict, match="trashed"):
        client.update_page(trashed, body="<p>x</p>")


# --- attachments and properties --------------------------------------------------------------------


def test_upload_is_idempotent_by_content(site: Site, client: ConfluenceClient) -> None:
    page = make(client)
    first, sent = client.upload(page.id, "größe 1.txt", "ä".encode(), "text/plain")
    assert (sent, first.version, first.size) == (True, 1, 2)
    assert client.upload(page.id, "größe 1.txt", "ä".encode(), "text/plain") == (first, False)
    second, sent = client.upload(page.id, "größe 1.txt", b"other", "text/plain")
    assert (sent, second.id, second.version) == (True, first.id, 2)
    assert [item.title for item in client.attachments(page.id)] == ["größe 1.txt"]
    assert b"".join(client.download(second)) == b"other"
    with pytest.raises(InvalidReply):
        b"".join(client.download(first))


def test_an_upload_whose_reply_was_lost_is_made_once(site: Site, client: ConfluenceClient) -> None:
    page = make(client)
    site.stand_in.app.fault("reset_after", on("POST", "/child/attachment"))
    stored, _ = client.upload(page.id, "chart.png", b"\x89PNG", "image/png")
    assert site.stand_in.snapshot()["attachments"] == {stored.id.removeprefix("att"): 1}


def test_an_upload_after_a_stale_list(site: Site, client: ConfluenceClient) -> None:
    page = make(client)
    first, _ = client.upload(page.id, "chart.png", b"one", "image/png")
    site.stand_in.app.fault("status", on("GET", "/attachments"), reply=json_reply({"results": [], "_links": {}}))
    second, sent = client.upload(page.id, "chart.png", b"two", "image/png")
    assert (sent, second.id, second.version) == (True, first.id, 2)


@pytest.mark.parametrize("name", ["", "../secret.txt", 'a"b.txt', "a\\b.txt", "c.txt ", "\td.txt", "e\n.txt"])
def test_a_name_that_the_site_would_change_is_refused_before_anything_is_sent(
    client: ConfluenceClient, name: str
) -> None:
    with pytest.raises(InvalidInput, match="which the site would change; allowed are"):
        client.upload("1", name, b"", "text/plain")
    assert client.requests_made == 0


def test_a_name_that_a_site_changes_after_all_is_told_each_time(
    site: Site, client: ConfluenceClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = make(client)
    monkeypatch.setattr("include.sandbox.confluence.service.as_utf8", lambda name: name.lower())
    for _ in range(2):
        with pytest.raises(InvalidInput, match=r"attachment name 'A\.txt': the site keeps it .*a\.txt"):
            client.upload(page.id, "A.txt", b"one", "text/plain")
    assert len(site.stand_in.snapshot()["attachments"]) == 1


def test_the_credential_stays_on_its_host(site: Site, client: ConfluenceClient) -> None:
    page = make(client)
    stored, _ = client.upload(page.id, "a.bin", b"content", "application/octet-stream")
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
        assert b"".join(client.download(stored)) == b"content"
    assert [request.headers.get("authorization") for request in seen] == [None]


def test_properties_are_versioned(site: Site, client: ConfluenceClient) -> None:
    page = make(client)
    assert client.property(page.id, "labelops") is None
    first = client.set_property(page.id, "labelops", {"digest": "a"}, None)
    second = client.set_property(page.id, "labelops", {"digest": "b"}, first)
    assert (second.id, second.version, client.property(page.id, "labelops")) == (first.id, 2, second)
    with pytest.raises(Conflict):
        client.set_property(page.id, "labelops", {"digest": "c"}, first)
    with pytest.raises(Conflict):
        client.set_property(page.id, "labelops", {"digest": "c"}, None)
    assert client.page(page.id).version.number == 1


def test_a_property_whose_reply_was_lost_has_landed(site: Site, client: ConfluenceClient) -> None:
    page = make(client)
    site.stand_in.app.fault("reset_after", on("POST", "/properties"))
    first = client.set_property(page.id, "labelops", {"digest": "a"}, None)
    site.stand_in.app.fault("reset_after", on("PUT", "/properties"))
    assert client.set_property(page.id, "labelops", {"digest": "b"}, first).version == 2


# --- connection and log ----------------------------------------------------------------------------


def test_bad_connection_fields_are_named(site: Site) -> None:
    with pytest.raises(InvalidInput, match="flavour"):
        site.client(extra={"flavour": "server"})
    with pytest.raises(InvalidInput, match="auth"):
        site.client(extra={"auth": "magic"})
    with pytest.raises(InvalidInput, match="timeout"):
        site.client(extra={"timeout": "soon"})
    with pytest.raises(InvalidInput, match="login"):
        site.client(login="")
    with pytest.raises(InvalidInput, match="host"):
        site.client(host="")


def test_bearer_and_addresses(site: Site) -> None:
    assert site.client(extra={"auth": "bearer"}, login="").current_user().account_id == "acc-service"
    assert site.client(host=site.server.url + "/wiki/").space("DS").key == "DS"
    assert site.client(host="acme.example")._transport.session().url == "https://acme.example"
    gateway = site.client(extra={"cloud_id": "cloud-1"})._transport.session().url
    assert gateway == "https://api.atlassian.com/ex/confluence/cloud-1"


def test_one_session_per_thread(client: ConfluenceClient) -> None:
    sessions: list[Any] = [client._transport.session()]
    thread = threading.Thread(target=lambda: sessions.append(client._transport.session()))
    thread.start()
    thread.join()
    assert sessions[0] is client._transport.session()
    assert sessions[0] is not sessions[1]


def test_no_secret_and_no_body_in_the_log(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="atlassian.rest_client")
    caplog.set_level(logging.DEBUG, logger="include.systems")
    client = site.client()
    page = make(client, "Confidential title", "<p>confidential words</p>")
    client.find_page(page.space_id, "Confidential title")
    client.upload(page.id, "a.txt", b"confidential bytes", "text/plain")
    with pytest.raises(AuthError):
        site.client(replace(SERVICE, token="wrong-token-999")).current_user()
    log = "\n".join(
        f"{record.getMessage()}" for record in caplog.records if record.name.startswith(("labelops", "include", "atl"))
    )
    assert f"GET /wiki/api/v2/spaces/{page.space_id}/pages: 200" in log
    for secret in ("onfidential", SERVICE.token, "wrong-token-999", SERVICE.email):
        assert secret not in log


# --- published contracts ---------------------------------------------------------------------------

SPECS = Path(__file__).resolve().parents[3].parent / "shared" / "specs"
OPTIONAL = pytest.mark.skipif(not SPECS.is_dir(), reason="the published contracts are not on this machine")


def _operations() -> set[tuple[str, str]]:
    found = set()
    for name, prefix in (("confluence-cloud-v1.json", ""), ("confluence-cloud-v2.json", "/wiki/api/v2")):
        for path, verbs in json.loads((SPECS / name).read_text("utf-8"))["paths"].items():
            found |= {(verb.upper(), prefix + re.sub(r"\{[^}]*\}", "*", path)) for verb in verbs}
    return found


@OPTIONAL
def test_every_request_is_in_the_published_contracts(site: Site, client: ConfluenceClient) -> None:
    site.stand_in.app.requests.clear()
    page = client.update_page(make(client), body="<p>Two</p>")
    client.current_user()
    client.page(page.id, version=1)
    client.find_page(page.space_id, page.title)
    client.add_label(page.id, "x")
    client.upload(page.id, "a.bin", b"1", "application/octet-stream")
    client.upload(page.id, "a.bin", b"2", "application/octet-stream")
    client.set_property(page.id, "k", 2, client.set_property(page.id, "k", 1, None))
    client.content_state(page.id)
    b"".join(client.download(next(client.attachments(page.id))))
    for listing in (
        client.pages_in_space(page.space_id),
        client.versions(page.id),
        client.pages_with_label("DS", "x"),
        client.footer_comments(page.id),
    ):
        list(listing)
    client.labels(page.id)
    used = {
        (method, re.sub(r"/(att)?\d+(?=/|\Z)", "/*", target.partition("?")[0]))
        for method, target in site.stand_in.app.requests
        if not target.startswith("/_media")
    }
    assert len(used) >= 18
    assert used - _operations() == set()
