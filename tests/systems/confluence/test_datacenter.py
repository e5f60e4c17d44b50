"""ConfluenceClient against the local Data Center, over HTTP: the same client as Cloud's, and what differs behind it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

import pytest
import requests

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
from include.sandbox.confluence import DataCenterStandIn, SandboxUser
from include.sandbox.http import Reply, Request, Server, json_reply
from include.systems.confluence.client import PLACEHOLDER, ConfluenceClient
from include.systems.confluence.values import Restriction
from include.systems.listing import ReadState
from tests.systems.confluence.site import client_of

SERVICE = SandboxUser("key-service", "Labelops service", "service@labelops.example", "service-token-4711")
EDITOR = SandboxUser("key-editor", "Edda Editor", "edda@labelops.example", "editor-token-0815")
CONTENT = re.compile(r".*/rest/api/content(/\d+)?\Z")


class Site:
    """A running stand-in with a space, and clients that wait in no time."""

    def __init__(self, stand_in: DataCenterStandIn, server: Server) -> None:
        self.stand_in, self.server = stand_in, server
        self.waits: list[float] = []

    def client(
        self, user: SandboxUser = SERVICE, *, extra: dict[str, Any] | None = None, **fields: Any
    ) -> ConfluenceClient:
        options = {"flavour": "datacenter", "path": self.stand_in.context, **(extra or {})}
        login = user.email.partition("@")[0]
        connection = {"host": self.server.url, "login": login, "password": user.token, **fields}
        return client_of(connection, options, self.waits)

    def send(self, method: str, path: str, user: SandboxUser = EDITOR, **parts: Any) -> requests.Response:
        auth = (user.email.partition("@")[0], user.token)
        url = f"{self.server.url}{self.stand_in.context}/rest/api{path}"
        return requests.request(method, url, auth=auth, timeout=10, **parts)

    def fill(self, pages: int, parent: str | None = None) -> list[str]:
        """Make pages, each in a millisecond of its own."""
        database = self.stand_in.database
        with database.transaction():
            space = database.row("select id from spaces where key = 'DS'")
            assert space is not None
            above = None if parent is None else int(parent)
            return [
                str(self.stand_in._insert_page(space["id"], f"Page {number}", "<p />", above, SERVICE.account_id))
                for number in range(pages)
            ]

    def edit(self, page_id: str, body: str = "<p>Edited</p>") -> None:
        """Write the next version as somebody else."""
        page = self.send("GET", f"/content/{page_id}").json()
        sent = {
            "type": "page",
            "title": page["title"],
            "version": {"number": page["version"]["number"] + 1},
            "body": {"storage": {"value": body, "representation": "storage"}},
        }
        assert self.send("PUT", f"/content/{page_id}", json=sent).status_code == 200

    def age(self, page_id: str, by: timedelta) -> None:
        """Let a page's versions be older than they are."""
        back = round(by.total_seconds() * 1000)
        with self.stand_in.database.transaction():
            for table, column in (("pages", "modified"), ("versions", "created")):
                key = "id" if table == "pages" else "page_id"
                self.stand_in.database.write(
                    f"update {table} set {column} = {column} - ? where {key} = ?", (back, page_id)
                )


@pytest.fixture(params=["/confluence", ""], ids=["context", "root"])
def context(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, context: str) -> Iterator[Site]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    stand_in = DataCenterStandIn(None, [SERVICE, EDITOR], context=context)
    with Server(stand_in.app) as server:
        site = Site(stand_in, server)
        assert site.send("POST", "/space", json={"key": "DS", "name": "Data"}).status_code == 200
        yield site
        stand_in.app.faults.clear()
    stand_in.close()


@pytest.fixture
def client(site: Site) -> ConfluenceClient:
    return site.client()


def make(
    client: ConfluenceClient, title: str = "Guideline", body: str = "<p>One</p>", parent: str | None = None
) -> Any:
    return client.create_page("DS", title, body, parent_id=parent)


def on(method: str, pattern: str = "") -> Callable[[Request], bool]:
    return lambda request: request.method == method and re.search(pattern, request.path) is not None


# --- connection and credential -------------------------------------------------------------------------------------


def test_it_connects_with_password_and_with_token(site: Site) -> None:
    wanted = f"Connected to {site.server.url} as Labelops service"
    assert site.client().check() == wanted
    assert site.client(login="", extra={"auth": "bearer"}).check() == wanted
    assert site.client(host=site.server.url + site.stand_in.context).check() == wanted
    assert site.client().flavour == "datacenter"


def test_a_wrong_password_is_refused(site: Site) -> None:
    with pytest.raises(AuthError, match=r"401.*`auth` = bearer in the connection sends a personal access") as caught:
        site.client(replace(SERVICE, token="wrong-token-999")).check()
    assert "wrong-token-999" not in str(caught.value)
    assert "scope" not in str(caught.value)


def test_a_missing_right_is_not_explained_by_clouds_scopes(site: Site) -> None:
    refusal = {"statusCode": 403, "message": "Not permitted in the scope of this space"}
    site.stand_in.app.fault("status", on("GET", "/user/current"), reply=json_reply(refusal, 403))
    with pytest.raises(AuthError, match="the account lacks the right, or the credential is refused"):
        site.client().current_user()


def test_a_read_that_is_refused_is_named_with_the_right_it_needs(site: Site) -> None:
    refusal = {"statusCode": 403, "message": "Not permitted to search"}
    site.stand_in.app.fault("status", on("GET", "/content/search"), reply=json_reply(refusal, 403))
    assert site.client().check().endswith("refused: pages_with_label (needs view the page)")


@pytest.mark.off_contract
def test_a_wrong_path_is_not_a_missing_page(site: Site) -> None:
    client = site.client(extra={"path": "/elsewhere"})
    with pytest.raises(InvalidReply, match="check host and path"):
        client.page("1")


def test_bad_connection_fields_are_named(site: Site) -> None:
    for extra, word in (
        ({"time_zone": "Middle/Earth"}, "time_zone"),
        ({"changes": "guess"}, "changes"),
        ({"auth": "oauth2"}, "auth"),
    ):
        with pytest.raises(InvalidInput, match=word):
            site.client(extra=extra)


@pytest.mark.parametrize("names_user", [True, False])
def test_a_revoked_token_is_told_from_what_is_missing(site: Site, names_user: bool) -> None:
    page = make(site.client())
    site.stand_in.bad_token, site.stand_in.names_user = "anonymous", names_user
    revoked = site.client(replace(SERVICE, token="revoked"), login="", extra={"auth": "bearer"})
    calls: list[Callable[[], Any]] = [
        lambda: revoked.page(page.id),
        lambda: revoked.page("999999"),
        lambda: revoked.space("DS"),
        lambda: list(revoked.pages_in_space("DS")),
        lambda: revoked.find_page("DS", "Guideline"),
        lambda: list(revoked.pages_with_label("DS", "x")),
        lambda: revoked.property(page.id, "key"),
        revoked.current_user,
        revoked.check,
    ]
    for call in calls:
        with pytest.raises(AuthError):
            call()
    good = site.client()
    for missing in (lambda: good.page("999999"), lambda: good.property("999999", "key"), lambda: good.space("NO")):
        with pytest.raises(NotFound):
            missing()
    assert good.property(page.id, "key") is None


@pytest.mark.parametrize("names_user", [True, False])
def test_a_token_that_ends_in_the_middle_of_a_walk_does_not_end_the_list(site: Site, names_user: bool) -> None:
    site.fill(450)
    site.stand_in.bad_token, site.stand_in.names_user = "anonymous", names_user
    client = site.client(login="", extra={"auth": "bearer"})
    pages = client.pages_in_space("DS")
    for _ in range(200):
        next(pages)
    site.stand_in.add_user(replace(SERVICE, token="another"))
    with pytest.raises(AuthError):
        list(pages)
    assert not pages.complete


def test_a_space_that_cannot_be_seen_is_not_an_empty_one(client: ConfluenceClient) -> None:
    with pytest.raises(NotFound):
        list(client.pages_in_space("GONE"))


def test_an_empty_bucket_is_waited_for_or_raised(site: Site, client: ConfluenceClient) -> None:
    client.current_user()
    site.stand_in.limit_rate(1, seconds=10)
    site.send("GET", "/user/current")
    assert client.requests_made == 1
    with pytest.raises(RateLimited):
        client.space("DS")
    assert max(site.waits) >= 1
    site.stand_in.limit_rate(1, seconds=3600)
    site.send("GET", "/user/current")
    with pytest.raises(RateLimited) as caught:
        client.space("DS")
    assert caught.value.retry_after is not None
    assert caught.value.retry_after > 30


# --- pages ---------------------------------------------------------------------------------------------------------


def test_a_page_is_made_read_changed_and_seen_at_its_versions(site: Site, client: ConfluenceClient) -> None:
    space = client.space("DS")
    assert (space.id, space.key) == ("DS", "DS")
    page = make(client, parent=space.homepage_id)
    assert (page.space_id, page.parent_id, page.version.number) == ("DS", space.homepage_id, 1)
    assert (page.author_id, page.version.author_id) == ("key-service", "key-service")
    assert client.find_page("DS", "Guideline") == client.page(page.id)
    assert client.find_page("DS", " guideline") == client.page(page.id)
    with pytest.raises(Conflict, match=f"the current page {page.id} has the title 'Guideline'"):
        client.create_page("DS", "guideline ", "<p />")
    second = client.update_page(page, body="<p>Two</p>", message="why")
    assert (second.version.number, second.version.message, second.parent_id) == (2, "why", space.homepage_id)
    assert client.page(page.id).body == "<p>Two</p>"
    old = client.page(page.id, version=1)
    assert (old.id, old.body, old.version.number) == (page.id, "<p>One</p>", 1)
    with pytest.raises(NotFound):
        client.page(page.id, version=7)
    assert [version.number for version in client.versions(page.id)] == [2, 1]
    shown = requests.get(client.page_url(second), timeout=10)
    assert shown.status_code == 200
    assert "Guideline" in shown.text


def test_versions_leave_out_a_deleted_one(site: Site, client: ConfluenceClient) -> None:
    page = make(client)
    for _ in range(3):
        site.edit(page.id)
    with site.stand_in.database.transaction():
        site.stand_in.database.write("delete from versions where page_id = ? and number = 2", (page.id,))
    assert [version.number for version in client.versions(page.id)] == [4, 3, 1]


def test_a_page_in_the_trash_says_so(site: Site, client: ConfluenceClient) -> None:
    page = make(client)
    assert site.send("DELETE", f"/content/{page.id}").ok
    assert client.page(page.id).status == "trashed"
    assert client.find_page("DS", "Guideline") is None
    assert page.id not in [item.id for item in client.pages_in_space("DS")]
    with pytest.raises(Conflict):
        client.update_page(client.page(page.id), body="<p />")


def test_somebody_elses_version_is_not_overwritten(site: Site, client: ConfluenceClient) -> None:
    page = make(client)
    site.edit(page.id)
    with pytest.raises(Conflict, match="read it again"):
        client.update_page(page, body="<p>Mine</p>")
    assert client.page(page.id).body == "<p>Edited</p>"


@pytest.mark.parametrize("kind", ["reset_after", "truncate", "garbage"])
def test_a_lost_reply_is_settled_by_reading(site: Site, client: ConfluenceClient, kind: str) -> None:
    client.current_user()
    site.stand_in.app.fault(kind, on("POST", r"/content\Z"))
    page = make(client)
    site.stand_in.app.fault(kind, on("PUT"))
    assert client.update_page(page, body="<p>Two</p>").version.number == 2
    assert [item.title for item in client.pages_in_space("DS")].count("Guideline") == 1
    assert client.writes_by_page[page.id] == 2


def test_a_write_that_did_not_land_is_not_sent_again(site: Site, client: ConfluenceClient) -> None:
    page = make(client)
    site.stand_in.app.fault("reset_before", on("PUT"))
    with pytest.raises(Unavailable):
        client.update_page(page, body="<p>Two</p>")
    site.stand_in.app.fault("reset_before", on("POST", r"/content\Z"))
    with pytest.raises(Unavailable):
        make(client, "Other")
    sent = [verb for verb, _ in site.stand_in.app.requests if verb in ("PUT", "POST")]
    assert sent == ["POST", "POST", "PUT", "POST"]


def test_an_archived_page_that_has_the_title_is_named(site: Site, client: ConfluenceClient) -> None:
    page = make(client)
    with site.stand_in.database.transaction():
        site.stand_in.database.write("update pages set status = 'archived' where id = ?", (page.id,))
    with pytest.raises(Conflict, match=f"the archived page {page.id} has the title 'Guideline'"):
        client.create_page("DS", "Guideline", "<p />")


def test_refusals(client: ConfluenceClient) -> None:
    page = make(client)
    with pytest.raises(Conflict):
        make(client)
    with pytest.raises(InvalidInput, match="parsing"):
        client.update_page(page, body="<p>open")
    with pytest.raises(InvalidInput):
        make(client, "Large", "<p>" + "x" * (5 * 1024 * 1024) + "</p>")
    with pytest.raises(NotFound):
        client.create_page("NO", "T", "<p />")


def test_pages_by_id(site: Site, client: ConfluenceClient) -> None:
    ids = site.fill(120)
    gone = ids[7]
    assert site.send("DELETE", f"/content/{gone}").ok
    before = client.requests_made
    found = {page.id: page for page in client.pages([*ids, "999999"])}
    assert set(found) == set(ids) - {gone}
    assert all(page.body == "<p />" for page in found.values())
    # Three batches, and two looks (each with a question who we are) at what was not listed.
    assert client.requests_made - before == 3 + 4


def test_pages_by_id_on_a_site_that_does_not_know_ids(site: Site, client: ConfluenceClient) -> None:
    ids = site.fill(3)
    site.stand_in.app.before.append(
        lambda request: (
            Reply(200, b'{"results": [], "_links": {}}', {"Content-Type": "application/json"})
            if "ids" in request.query
            else None
        )
    )
    assert [page.id for page in client.pages(ids)] == ids


def test_the_tree(site: Site, client: ConfluenceClient) -> None:
    top = make(client, "Top")
    middle = make(client, "Middle", parent=top.id)
    leaf = make(client, "Leaf", parent=middle.id)
    wide = site.fill(230, parent=top.id)
    nodes = list(client.descendants(top.id))
    assert {node.id for node in nodes} == {middle.id, leaf.id, *wide}
    assert len(nodes) == 232
    by_id = {node.id: node for node in nodes}
    assert (by_id[leaf.id].depth, by_id[leaf.id].parent_id) == (2, middle.id)
    with pytest.raises(NotFound):
        client.descendants("999999").__next__()


def test_what_data_center_cannot_do_is_said(client: ConfluenceClient) -> None:
    assert not client.supports("content_state")
    with pytest.raises(Unsupported, match="content states"):
        client.content_state("1")
    assert not client.supports("inline_tasks")
    with pytest.raises(Unsupported, match="inline tasks"):
        client.inline_tasks(["1"])
    assert client.supports("inline_comments")
    assert client.requests_made == 0


# --- lists that misbehave ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("switch", ["", "past_the_end", "uneven_pages", "both"])
def test_every_row_comes_once_however_the_site_pages(site: Site, client: ConfluenceClient, switch: str) -> None:
    site.stand_in.past_the_end = switch in ("past_the_end", "both")
    site.stand_in.uneven_pages = switch in ("uneven_pages", "both")
    site.stand_in.system_limit = 7
    page = make(client)
    for number in range(23):
        client.add_label(page.id, f"label-{number:02}")
        client.add_footer_comment(page.id, f"<p>{number}</p>")
    before = client.requests_made
    assert client.labels(page.id) == [f"label-{number:02}" for number in range(23)]
    # Each page after the first begins with a row that is known; behind the end one looks at most three times.
    assert client.requests_made - before <= {"": 4, "past_the_end": 7}.get(switch, 20)
    assert [item.body for item in client.footer_comments(page.id)] == [f"<p>{number}</p>" for number in range(23)]
    comments = client.footer_comments(page.id)
    for stop in range(24):
        taken = [next(comments).body for _ in range(stop)]
        rest = [item.body for item in client.footer_comments(page.id, resume=comments.state)]
        assert taken + rest == [f"<p>{number}</p>" for number in range(23)]
        comments = client.footer_comments(page.id)


def test_what_is_deleted_during_a_walk_hides_nothing(site: Site, client: ConfluenceClient) -> None:
    site.stand_in.system_limit = 5
    page = make(client)
    ids = [client.add_footer_comment(page.id, f"<p>{number}</p>").id for number in range(20)]
    comments = client.footer_comments(page.id)
    seen = [next(comments).id for _ in range(10)]
    for gone in (ids[0], ids[3], ids[9]):
        assert site.send("DELETE", f"/content/{gone}").ok
    seen += [item.id for item in comments]
    assert set(seen) >= set(ids)


def test_a_walk_of_pages_is_resumed_anywhere(site: Site, client: ConfluenceClient) -> None:
    ids = site.fill(410)
    pages = client.pages_in_space("DS")
    seen = [next(pages).id for _ in range(250)]
    seen += [page.id for page in client.pages_in_space("DS", resume=pages.state)]
    assert seen[1:] == ids
    with pytest.raises(InvalidInput):
        client.footer_comments("1", resume=pages.state)
    state = ReadState("confluence footer comments of page 1", place="nonsense")
    with pytest.raises(InvalidInput):
        next(client.footer_comments("1", resume=state.text()))


# --- changes -------------------------------------------------------------------------------------------------------


def pages_of(client: ConfluenceClient, state: str | None) -> tuple[list[str], str]:
    changes = client.changed_pages("DS", resume=state)
    found = [page.id for page in changes]
    assert changes.complete
    return found, changes.state


@pytest.mark.parametrize("changes", ["search", "listing"])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
def test_only_what_changed_since_comes(site: Site, changes: str, zone: str) -> None:
    site.stand_in.zone = ZoneInfo(zone)
    client = site.client(extra={"changes": changes, "time_zone": zone})
    ids = site.fill(70)
    for number, page_id in enumerate(ids):
        site.age(page_id, timedelta(days=number))
    found, state = pages_of(client, None)
    assert set(found[-70:]) <= {*ids, client.space("DS").homepage_id}
    assert len(found) == 71
    assert pages_of(client, state)[0] == []
    site.edit(ids[40])
    [fresh] = site.fill(1)
    found, state = pages_of(client, state)
    assert found == [ids[40], fresh]
    assert pages_of(client, state)[0] == []


def test_the_search_is_asked_in_the_zone_of_the_site(site: Site) -> None:
    client = site.client(extra={"time_zone": "Asia/Kathmandu"})
    [page_id] = site.fill(1)
    _, state = pages_of(client, None)
    newest = client.page(page_id).version.created
    pages_of(client, state)
    [target] = [target for _, target in site.stand_in.app.requests if "lastmodified" in target]
    asked = parse_qs(urlsplit(target).query)["cql"][0]
    # A day before the newest change, in a zone of 5 hours and 45 minutes.
    wanted = (newest - timedelta(days=1) + timedelta(hours=5, minutes=45)).strftime("%Y-%m-%d %H:%M")
    assert f'lastmodified >= "{wanted}"' in asked


def test_a_wrong_zone_costs_nothing(site: Site) -> None:
    site.stand_in.zone = ZoneInfo("Pacific/Auckland")
    client = site.client(extra={"time_zone": "America/New_York"})
    [page_id] = site.fill(1)
    _, state = pages_of(client, None)
    site.edit(page_id)
    assert pages_of(client, state)[0] == [page_id]


def test_what_the_index_shows_late_is_not_missed(site: Site, client: ConfluenceClient) -> None:
    first, second = site.fill(2)
    _, state = pages_of(client, None)
    site.edit(first)
    site.edit(second)
    # The index has seen the second edit alone.
    with site.stand_in.database.transaction():
        seen = site.stand_in.database.row("select modified from pages where id = ?", (first,))
        assert seen is not None
        late = seen["modified"] + 3_600_000
        site.stand_in.database.write("update pages set modified = ? where id = ?", (late, first))
    found, state = pages_of(client, state)
    assert second in found
    with site.stand_in.database.transaction():
        site.stand_in.database.write("update pages set modified = ? where id = ?", (seen["modified"], first))
    later, state = pages_of(client, state)
    assert {*found, *later} == {first, second}
    assert pages_of(client, state)[0] == []


def test_a_page_written_during_the_first_read_hides_no_older_one(site: Site, client: ConfluenceClient) -> None:
    ids = site.fill(120)
    for number, page_id in enumerate(ids):
        site.age(page_id, timedelta(days=300 - 2 * number))
    changes = client.changed_pages("DS")
    found = [next(changes).id]
    # The second oldest is written when the pages are already in order.
    site.edit(ids[60])
    found += [page.id for page in changes]
    assert set(found) >= set(ids)
    assert pages_of(client, changes.state)[0] == []


def test_states_that_are_none_are_refused(site: Site, client: ConfluenceClient) -> None:
    site.fill(1)
    _, state = pages_of(client, None)
    ahead = (datetime.now(UTC) + timedelta(days=2)).isoformat()
    place = json.loads(json.loads(state)["place"])
    future = {**json.loads(state), "place": json.dumps({**place, "since": ahead})}
    for bad in ("nonsense", json.dumps(future), client.pages_in_space("DS").state):
        with pytest.raises(InvalidInput):
            list(client.changed_pages("DS", resume=bad))


# --- what hangs on pages -------------------------------------------------------------------------------------------


def test_labels(site: Site, client: ConfluenceClient) -> None:
    page = make(client)
    site.stand_in.app.fault("reset_after", on("POST", "/label"))
    client.add_label(page.id, "approved")
    assert client.labels(page.id) == ["approved"]
    assert list(client.pages_with_label("DS", "approved")) == [page.id]
    assert list(client.pages_with_label("DS", 'x" or type = "page')) == []
    client.remove_label(page.id, "approved")
    client.remove_label(page.id, "approved")
    assert client.labels(page.id) == []


def test_attachments(site: Site, client: ConfluenceClient) -> None:
    page = make(client)
    name = "Übersicht + 100%.csv"
    made, sent = client.upload(page.id, name, b"a,b\n", "text/csv")
    assert sent
    assert (made.title, made.size, made.version) == (name, 4, 1)
    assert client.upload(page.id, name, b"a,b\n", "text/csv") == (made, False)
    site.stand_in.app.fault("reset_after", on("POST", "/data"))
    second, sent = client.upload(page.id, name, b"a,b,c\n", "text/csv")
    assert (second.id, second.version, sent) == (made.id, 2, True)
    assert b"".join(client.download(second)) == b"a,b,c\n"
    assert [item.title for item in client.attachments(page.id)] == [name]
    with pytest.raises(InvalidReply):
        list(client.download(replace(second, size=99)))


def test_properties(site: Site, client: ConfluenceClient) -> None:
    page = make(client)
    assert client.property(page.id, "labelops.approval") is None
    first = client.set_property(page.id, "labelops.approval", {"digest": "a"}, None)
    assert (first.version, first.value) == (1, {"digest": "a"})
    site.stand_in.app.fault("reset_after", on("PUT", "/property"))
    second = client.set_property(page.id, "labelops.approval", {"digest": "b"}, first)
    assert second.version == 2
    for read in (first, None):
        with pytest.raises(Conflict):
            client.set_property(page.id, "labelops.approval", {"digest": "c"}, read)
    client.set_property(page.id, "other", [1, None, "ü"], None)
    found = {item.key: item.value for item in client.properties(page.id)}
    assert found == {"labelops.approval": {"digest": "b"}, "other": [1, None, "ü"]}
    assert client.page(page.id).version.number == 1


def test_comments(site: Site, client: ConfluenceClient) -> None:
    page = make(client, body="<p>Label it blue or green.</p>")
    made = client.add_footer_comment(page.id, "<p>Approved</p>")
    site.stand_in.app.fault("reset_after", on("POST", r"/content\Z"))
    client.add_footer_comment(page.id, "<p>Again</p>")
    assert [item.body for item in client.footer_comments(page.id)] == ["<p>Approved</p>", "<p>Again</p>"]
    assert next(client.footer_comments(page.id)) == made
    blue = site.stand_in.add_inline_comment(page.id, EDITOR.account_id, "blue", "<p>Why?</p>")
    green = site.stand_in.add_inline_comment(page.id, EDITOR.account_id, "green", "<p>Sure?</p>")
    site.stand_in.resolve_comment(green)
    [still_open] = client.inline_comments(page.id, "open")
    assert (still_open.id, still_open.author_id, still_open.selection) == (blue, "key-editor", "blue")
    assert f'ac:ref="{still_open.marker_ref}"' in str(client.page(page.id).body)
    assert [item.id for item in client.inline_comments(page.id, "resolved")] == [green]
    assert len(list(client.inline_comments(page.id))) == 2
    with pytest.raises(NotFound):
        list(client.footer_comments("999999"))


# --- people and restrictions ---------------------------------------------------------------------------------------


def test_restrictions_are_replaced_and_read_back(site: Site, client: ConfluenceClient) -> None:
    site.stand_in.system_limit = 2
    people = [SandboxUser(f"key-{number}", f"P{number}", f"p{number}@x.example", f"t{number}") for number in range(5)]
    for person in people:
        site.stand_in.add_user(person)
    site.stand_in.add_group("approvers", ["key-0"])
    top, page = make(client, "Top"), None
    page = make(client, parent=top.id)
    keys = tuple(sorted([*(person.account_id for person in people), "key-service"]))
    wanted = [Restriction("read", keys, ("approvers",)), Restriction("update", ("key-service",))]
    assert client.set_restrictions(page.id, wanted).own == tuple(wanted)
    client.set_restrictions(top.id, [Restriction("read", ("key-service",))])
    assert client.restrictions(page.id).inherited == ((top.id, Restriction("read", ("key-service",))),)
    assert client.set_restrictions(page.id, []).own == ()
    with pytest.raises(InvalidInput):
        client.set_restrictions(page.id, [Restriction("read", ("key-editor",))])
    with pytest.raises(NotFound):
        client.set_restrictions(page.id, [Restriction("read", ("key-service", "nobody"))])
    assert client.restrictions(page.id).own == ()


def watch(site: Site, title: str) -> list[str]:
    """Collect the texts of a page that an outsider could see before each request."""
    seen: list[str] = []

    def look(request: Request) -> None:
        database = site.stand_in.database
        row = database.row(
            "select p.id, v.body from pages p join versions v on v.page_id = p.id and v.number = p.version"
            " where p.title = ?",
            (title,),
        )
        if row and not database.row(
            "select 1 from restrictions where page_id = ? and operation = 'read'", (row["id"],)
        ):
            seen.append(row["body"])

    site.stand_in.app.before.append(look)
    return seen


def test_a_restricted_page_never_shows_its_text(site: Site, client: ConfluenceClient) -> None:
    seen = watch(site, "Secret")
    only_us = [Restriction("read", ("key-service",))]
    page = client.create_restricted_page("DS", "Secret", "<p>Names</p>", only_us)
    assert (page.version.number, client.page(page.id).body) == (2, "<p>Names</p>")
    assert seen
    assert set(seen) == {PLACEHOLDER}
    assert site.send("GET", f"/content/{page.id}").status_code == 404
    assert client.create_restricted_page("DS", "Secret", "<p>Names</p>", only_us).id == page.id


@pytest.mark.parametrize("step", ["restriction", "content"])
def test_a_restricted_page_that_was_broken_off_is_finished(site: Site, client: ConfluenceClient, step: str) -> None:
    seen = watch(site, "Secret")
    only_us = [Restriction("read", ("key-service",))]
    pattern = r"/restriction\Z" if step == "restriction" else r"/content/\d+\Z"
    site.stand_in.app.fault("reset_before", on("PUT", pattern), times=4)
    with pytest.raises(Unavailable):
        client.create_restricted_page("DS", "Secret", "<p>Names</p>", only_us)
    site.stand_in.app.faults.clear()
    page = site.client().create_restricted_page("DS", "Secret", "<p>Names</p>", only_us)
    assert (page.version.number, page.body) == (2, "<p>Names</p>")
    assert set(seen) == {PLACEHOLDER}


# --- search --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 404])
def test_a_search_that_the_site_cannot_read(site: Site, client: ConfluenceClient, status: int) -> None:
    site.stand_in.bad_cql_status = status
    with pytest.raises(InvalidInput):
        client._site.search_pages("label =", None)
