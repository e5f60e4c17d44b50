"""ConfluenceClient on Cloud beyond single pages: lists, changes, the tree, restrictions, tasks, search, people."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
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
from include.sandbox.confluence import SandboxUser, access
from include.sandbox.http import Request, json_reply
from include.systems.confluence.client import PLACEHOLDER, ConfluenceClient
from include.systems.confluence.values import Page, Restriction
from include.systems.listing import Listing
from tests.systems.confluence.site import EDITOR, SERVICE, Site, make, on, running

OTHER = SandboxUser("acc-other", "Otto Other", "otto@labelops.example", "other-token-1234")


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with running(monkeypatch) as site:
        site.stand_in.add_user(OTHER)
        yield site


@pytest.fixture
def client(site: Site) -> ConfluenceClient:
    return site.client()


def fill(site: Site, space_id: str, number: int, parent: int | None = None, name: str = "Page") -> list[str]:
    with site.stand_in.database.transaction():
        return [
            str(site.stand_in._insert_page(int(space_id), f"{name} {count}", "<p />", parent, SERVICE.account_id))
            for count in range(number)
        ]


def resumed_everywhere(listing: Callable[[str | None], Listing[Any]]) -> None:
    """A listing that is left after any item and taken up again gives what a whole one gives."""
    whole = list(listing(None))
    for stop in {0, 1, len(whole) // 2, len(whole) - 1, len(whole)}:
        first = listing(None)
        begun = [next(first) for _ in range(stop)]
        second = listing(first.state)
        assert begun + list(second) == whole
        assert second.complete
        assert list(listing(second.state)) == []


def folder(site: Site, space_id: str, title: str, parent_id: str) -> str:
    sent = {"spaceId": space_id, "title": title, "parentId": parent_id}
    reply = site.send("POST", "/wiki/api/v2/folders", json=sent)
    assert reply.status_code == 200
    return str(reply.json()["id"])


# --- lists of pages and spaces ---------------------------------------------------------------------


def test_pages_by_id_come_with_bodies_and_without_what_is_gone(site: Site, client: ConfluenceClient) -> None:
    space = client.space("DS").id
    ids = fill(site, space, 600)
    site.send("DELETE", f"/wiki/api/v2/pages/{ids[7]}")
    before = client.requests_made
    found = list(client.pages([*ids, "9999999", ids[0]]))
    assert [page.id for page in found] == [number for number in ids if number != ids[7]]
    assert all(page.body == "<p />" for page in found)
    assert client.requests_made - before == 3
    resumed_everywhere(lambda state: client.pages(ids[:300], resume=state))
    with pytest.raises(InvalidInput, match="belongs to one listing"):
        client.pages(ids[:2], resume=client.pages(ids[:3]).state)


def test_a_page_deleted_during_the_walk_hides_no_other(site: Site, client: ConfluenceClient) -> None:
    space = client.space("DS").id
    ids = fill(site, space, 300)
    walk = client.pages_in_space(space)
    first = [next(walk) for _ in range(100)]
    site.send("DELETE", f"/wiki/api/v2/pages/{ids[3]}")
    seen = [page.id for page in [*first, *walk]]
    assert seen == [client.space("DS").homepage_id, *ids]


def test_a_state_of_a_cursor_the_site_does_not_know_is_refused(site: Site, client: ConfluenceClient) -> None:
    space = client.space("DS").id
    state = json.loads(client.pages_in_space(space).state)
    with pytest.raises(InvalidInput, match="cursor"):
        list(client.pages_in_space(space, resume=json.dumps({**state, "place": "cursor=bm9uc2Vuc2U%3D"})))


@pytest.mark.parametrize("kind", ["truncate", "garbage"])
def test_a_page_of_a_list_that_cannot_be_read_is_asked_for_again(
    site: Site, client: ConfluenceClient, kind: str
) -> None:
    space = client.space("DS").id
    fill(site, space, 600)
    site.stand_in.app.fault(kind, lambda request: "cursor=" in request.target)
    walk = client.pages_in_space(space)
    seen: list[str] = []
    with pytest.raises(InvalidReply):
        seen.extend(page.id for page in walk)
    assert len(seen) == 250
    assert not walk.complete
    again = client.pages_in_space(space, resume=walk.state)
    seen += [page.id for page in again]
    assert len(seen) == len(set(seen)) == 601


def test_a_limit_in_the_middle_of_a_walk_keeps_the_state(site: Site, client: ConfluenceClient) -> None:
    space = client.space("DS").id
    fill(site, space, 300)
    reply = json_reply({"message": "Rate limit exceeded"}, 429, {"Retry-After": "900"})
    site.stand_in.app.fault("status", lambda request: "cursor=" in request.target, reply=reply)
    walk = client.pages_in_space(space)
    with pytest.raises(RateLimited) as caught:
        list(walk)
    assert caught.value.retry_after == 900
    # Another client, for this one's pace waits as it was told to.
    assert len(list(site.client(extra={"requests_per_second": 0}).pages_in_space(space, resume=walk.state))) == 51


# --- what changed ----------------------------------------------------------------------------------


def test_changes_come_once_and_later_only_what_is_new(site: Site, client: ConfluenceClient) -> None:
    space = client.space("DS").id
    ids = fill(site, space, 600)
    first = client.changed_pages(space)
    assert {page.id for page in first} == {*ids, str(client.space("DS").homepage_id)}
    again = client.changed_pages(space, resume=first.state)
    assert list(again) == []
    client.update_page(client.page(ids[5]), body="<p>New</p>")
    third = client.changed_pages(space, resume=again.state)
    assert [(page.id, page.version.number, page.body) for page in third] == [(ids[5], 2, "<p>New</p>")]
    assert list(client.changed_pages(space, resume=third.state)) == []


def test_a_read_of_changes_stops_where_the_news_end(site: Site, client: ConfluenceClient) -> None:
    space = client.space("DS").id
    ids = fill(site, space, 600)
    old = round((datetime.now(UTC) - timedelta(days=3)).timestamp() * 1000)
    with site.stand_in.database.transaction():
        site.stand_in.database.write("update pages set modified = modified - 86400000 * 3")
        site.stand_in.database.write("update versions set created = created - 86400000 * 3")
    first = client.changed_pages(space)
    assert len(list(first)) == 601
    assert all(page.version.created.timestamp() * 1000 < old + 600_000 for page in client.pages(ids[:1]))
    client.update_page(client.page(ids[5]), body="<p>New</p>")
    second = client.changed_pages(space, resume=first.state)
    assert [page.id for page in second] == [ids[5]]
    before = client.requests_made
    assert list(client.changed_pages(space, resume=second.state)) == []
    assert client.requests_made - before == 1


def test_changes_left_in_the_middle_lose_nothing(site: Site, client: ConfluenceClient) -> None:
    space = client.space("DS").id
    ids = fill(site, space, 300)
    whole = {page.id for page in client.changed_pages(space)}
    for stop in (1, 100, 250, 300):
        walk = client.changed_pages(space)
        seen = [next(walk).id for _ in range(stop)]
        # Written while the reader was away: it comes, whether it came before or not.
        client.update_page(client.page(ids[stop - 1]), body=f"<p>{stop}</p>")
        rest = client.changed_pages(space, resume=walk.state)
        later = [page.id for page in rest]
        assert {*seen, *later} == whole
        assert ids[stop - 1] in later
        assert list(client.changed_pages(space, resume=rest.state)) == []


def test_changes_by_listing_where_the_order_cannot_be_relied_on(site: Site) -> None:
    client = site.client(extra={"changes": "listing"})
    space = client.space("DS").id
    ids = fill(site, space, 300)
    whole = {page.id for page in client.changed_pages(space)}
    assert whole == {*ids, str(client.space("DS").homepage_id)}
    walk = client.changed_pages(space)
    seen = [next(walk).id for _ in range(100)]
    client.update_page(client.page(ids[50]), body="<p>New</p>")
    rest = client.changed_pages(space, resume=walk.state)
    later = [page.id for page in rest]
    assert {*seen, *later} == whole
    assert later[-1] == ids[50]
    assert list(client.changed_pages(space, resume=rest.state)) == []


def test_bad_states_of_changes_are_refused(site: Site, client: ConfluenceClient) -> None:
    space = client.space("DS").id
    walk = client.changed_pages(space)
    list(walk)
    future = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    state = json.loads(walk.state)
    place = json.loads(state["place"])
    with pytest.raises(InvalidInput, match="future"):
        client.changed_pages(space, resume=json.dumps({**state, "place": json.dumps({**place, "since": future})}))
    for nonsense in ("", "nonsense", "{}", json.dumps({**state, "place": "nonsense"})):
        with pytest.raises(InvalidInput):
            client.changed_pages(space, resume=nonsense)
    with pytest.raises(InvalidInput, match="belongs to one listing"):
        client.changed_pages("1", resume=walk.state)


# --- the tree --------------------------------------------------------------------------------------


def test_a_tree_through_folders_and_deeper_than_one_request(site: Site, client: ConfluenceClient) -> None:
    space = client.space("DS").id
    root = make(client, "Root")
    inside = folder(site, space, "Folder", root.id)
    below = [client.create_page(space, "In the folder", "<p />", parent_id=inside).id]
    for number in range(24):
        below.append(client.create_page(space, f"Level {number}", "<p />", parent_id=below[-1]).id)
    aside = [client.create_page(space, f"Aside {number}", "<p />", parent_id=root.id).id for number in range(3)]
    found = list(client.descendants(root.id))
    assert {node.id for node in found} == {inside, *below, *aside}
    assert len(found) == 1 + len(below) + len(aside)
    depth = {node.id: node.depth for node in found}
    assert [depth[number] for number in below] == list(range(2, 27))
    assert {node.id: node.kind for node in found if node.kind != "page"} == {inside: "folder"}
    places = {node.id: place for place, node in enumerate(found)}
    assert all(node.parent_id == root.id or places[str(node.parent_id)] < places[node.id] for node in found)
    resumed_everywhere(lambda state: client.descendants(root.id, resume=state))
    state = json.loads(client.descendants(root.id).state)
    with pytest.raises(InvalidInput):
        list(client.descendants(root.id, resume=json.dumps({**state, "place": '["space", "1", 0, null, []]'})))


# --- labels, properties, comments, tasks -----------------------------------------------------------


def test_a_label_is_taken_off_once(site: Site, client: ConfluenceClient) -> None:
    page = make(client)
    client.add_label(page.id, "a&b=ä")
    client.add_label(page.id, "kept")
    site.stand_in.app.fault("reset_after", on("DELETE", "/label"))
    client.remove_label(page.id, "a&b=ä")
    assert client.labels(page.id) == ["kept"]
    before = len(site.sent("DELETE"))
    client.remove_label(page.id, "a&b=ä")
    assert len(site.sent("DELETE")) == before
    with pytest.raises(NotFound):
        client.remove_label("9999999", "kept")


def test_all_properties_of_a_page(client: ConfluenceClient) -> None:
    page = make(client)
    written = [client.set_property(page.id, f"key-{number}", {"n": number}, None) for number in range(260)]
    assert list(client.properties(page.id)) == written
    with pytest.raises(InvalidInput, match="key-0"):
        client.set_property(page.id, "other", 1, written[0])


def inline(site: Site, page: Page, words: str, user: SandboxUser = EDITOR) -> str:
    sent = {
        "pageId": page.id,
        "body": {"representation": "storage", "value": f"<p>About {words}</p>"},
        "inlineCommentProperties": {
            "textSelection": words,
            "textSelectionMatchCount": 1,
            "textSelectionMatchIndex": 0,
        },
    }
    reply = site.send("POST", "/wiki/api/v2/inline-comments", user, json=sent)
    assert reply.status_code == 201
    return str(reply.json()["id"])


def test_inline_comments_with_their_resolution(site: Site, client: ConfluenceClient) -> None:
    page = make(client, body="<p>One and <em>two</em> and three</p>")
    first, second, third = (inline(site, page, words) for words in ("One", "two", "three"))
    now = client.page(page.id)
    assert now.version.number == 1
    assert now.body.count("inline-comment-marker") == 6
    sent = {"version": {"number": 2}, "resolved": True}
    assert site.send("PUT", f"/wiki/api/v2/inline-comments/{second}", json=sent).status_code == 200
    found = list(client.inline_comments(page.id))
    assert [(item.id, item.resolution, item.selection, item.author_id) for item in found] == [
        (first, "open", "One", "acc-editor"),
        (third, "open", "three", "acc-editor"),
        (second, "resolved", "two", "acc-editor"),
    ]
    assert all(item.marker_ref in now.body for item in found)
    assert found[0].body == "<p>About One</p>"
    assert [item.id for item in client.inline_comments(page.id, "resolved")] == [second]
    client.update_page(now, body="<p>Rewritten</p>")
    assert {item.id for item in client.inline_comments(page.id, "dangling")} == {first, third}
    assert list(client.inline_comments(page.id, "open")) == []
    with pytest.raises(InvalidInput, match="allowed are open"):
        client.inline_comments(page.id, "closed")


@pytest.mark.parametrize(("kind", "landed"), [("reset_after", True), ("truncate", True), ("reset_before", False)])
def test_a_comment_whose_reply_was_lost_is_written_once(
    site: Site, client: ConfluenceClient, kind: str, landed: bool
) -> None:
    page = make(client)
    stored = client.add_footer_comment(page.id, "<p>Other</p>")
    assert (stored.author_id, stored.body, stored.version) == ("acc-service", "<p>Other</p>", 1)
    site.stand_in.app.fault(kind, on("POST", "/footer-comments"))
    if landed:
        assert client.add_footer_comment(page.id, "<p>Approved &auml;</p>").body == "<p>Approved ä</p>"
    else:
        with pytest.raises(Unavailable):
            client.add_footer_comment(page.id, "<p>Approved &auml;</p>")
    assert len(list(client.footer_comments(page.id))) == (2 if landed else 1)
    assert client.writes_by_page[page.id] == 3
    with pytest.raises(NotFound):
        client.add_footer_comment("9999999", "<p />")


TASKS = (
    "<ac:task-list>"
    "<ac:task><ac:task-id>1</ac:task-id><ac:task-status>incomplete</ac:task-status><ac:task-body>Sign: "
    '<ac:link><ri:user ri:account-id="acc-editor"/></ac:link> <time datetime="2026-12-01"/></ac:task-body></ac:task>'
    "<ac:task><ac:task-id>2</ac:task-id><ac:task-status>complete</ac:task-status><ac:task-body>Read it</ac:task-body>"
    "</ac:task></ac:task-list>"
)


def test_inline_tasks_are_the_evidence_of_a_sign_off(site: Site, client: ConfluenceClient) -> None:
    page = make(client, body=TASKS)
    first, second = client.inline_tasks([page.id])
    assert (first.local_id, first.status, first.assigned_to, first.due) == (
        "1",
        "incomplete",
        "acc-editor",
        date(2026, 12, 1),
    )
    assert (first.completed_by, first.completed, second.status) == (None, None, "complete")
    path = f"/wiki/api/v2/tasks/{first.id}"
    assert site.send("PUT", path, EDITOR, json={"status": "complete"}).status_code == 200
    done, _ = client.inline_tasks([page.id])
    assert (done.status, done.completed_by, done.assigned_to) == ("complete", "acc-editor", "acc-editor")
    assert done.completed is not None
    assert datetime.now(UTC) - done.completed < timedelta(minutes=1)
    assert list(client.inline_tasks([page.id], "incomplete")) == []
    with pytest.raises(InvalidInput, match="allowed are complete"):
        client.inline_tasks([page.id], "done")


def test_tasks_of_many_pages_in_few_requests(site: Site, client: ConfluenceClient) -> None:
    space = client.space("DS").id
    ids = fill(site, space, 260)
    for number in (0, 100, 259):
        client.update_page(client.page(ids[number]), body=TASKS)
    before = client.requests_made
    assert [task.page_id for task in client.inline_tasks(ids)] == [ids[0]] * 2 + [ids[100]] * 2 + [ids[259]] * 2
    assert client.requests_made - before == 2
    resumed_everywhere(lambda state: client.inline_tasks(ids, resume=state))
    assert list(client.inline_tasks([])) == []


# --- restrictions ----------------------------------------------------------------------------------

MINE = Restriction("read", ("acc-service",))


def test_restrictions_are_set_read_back_and_inherited(site: Site, client: ConfluenceClient) -> None:
    site.stand_in.add_group("auditors & co", [OTHER.account_id])
    space = client.space("DS").id
    top = make(client, "Top")
    inside = folder(site, space, "Folder", top.id)
    page = client.create_page(space, "Page", "<p />", parent_id=inside)
    client.add_label(page.id, "kept")
    assert client.restrictions(page.id).own == ()
    wanted = [
        Restriction("update", ("acc-service",)),
        Restriction("read", ("acc-service", "acc-editor", "acc-service"), ("auditors & co",)),
    ]
    stored = client.set_restrictions(top.id, wanted)
    read = Restriction("read", ("acc-editor", "acc-service"), ("auditors & co",))
    update = Restriction("update", ("acc-service",))
    assert stored.own == client.restrictions(top.id).own == (read, update)
    assert client.restrictions(page.id).inherited == ((top.id, read), (top.id, update))
    before = len(site.sent("PUT"))
    client.set_restrictions(top.id, wanted[::-1])
    assert len(site.sent("PUT")) == before
    assert [site.client(user).page(page.id).id for user in (EDITOR, OTHER)] == [page.id] * 2
    client.set_restrictions(top.id, [MINE])
    for user in (EDITOR, OTHER):
        with pytest.raises(NotFound):
            site.client(user).page(page.id)
        assert page.id not in {item.id for item in site.client(user).pages_in_space(space)}
        assert list(site.client(user).pages_with_label("DS", "kept")) == []
    assert client.set_restrictions(top.id, []).own == ()
    assert site.client(EDITOR).page(page.id).id == page.id


def test_restrictions_that_cannot_be_are_refused(site: Site, client: ConfluenceClient) -> None:
    page = make(client)
    before = len(site.sent("PUT"))
    with pytest.raises(InvalidInput, match="shut this account out"):
        client.set_restrictions(page.id, [Restriction("read", ("acc-editor",))])
    with pytest.raises(InvalidInput, match="2 times"):
        client.set_restrictions(page.id, [MINE, MINE])
    with pytest.raises(InvalidInput, match="allowed are read, update"):
        client.set_restrictions(page.id, [Restriction("delete", ("acc-service",))])  # type: ignore[arg-type]
    with pytest.raises(NotFound, match="no group"):
        client.set_restrictions(page.id, [Restriction("read", ("acc-service",), ("nobody",))])
    assert len(site.sent("PUT")) == before
    with pytest.raises(InvalidInput):
        client.set_restrictions(page.id, [Restriction("read", ("acc-service", "acc-unknown"))])
    site.stand_in.add_group("others", [OTHER.account_id])
    with pytest.raises(InvalidInput, match="remove yourself"):
        client.set_restrictions(page.id, [Restriction("read", (), ("others",))])
    assert client.restrictions(page.id).own == ()


def test_restrictions_that_were_not_kept_are_noticed(site: Site, client: ConfluenceClient) -> None:
    page = make(client)
    empty = site.send("GET", f"/wiki/rest/api/content/{page.id}/restriction").json()
    site.stand_in.app.fault("status", on("GET", "/restriction"), times=2, reply=json_reply(empty))
    with pytest.raises(Conflict, match="wrote restrictions read: acc-service, read back none"):
        client.set_restrictions(page.id, [MINE])


def test_more_people_than_one_request_shows(site: Site, client: ConfluenceClient) -> None:
    people = [f"acc-{number:03}" for number in range(250)]
    for account in people:
        site.stand_in.add_user(SandboxUser(account, account, f"{account}@labelops.example", account))
    page = make(client)
    wanted = Restriction("read", tuple(sorted([*people, "acc-service"])))
    assert client.set_restrictions(page.id, [wanted]).own == (wanted,)
    assert client.restrictions(page.id).own == (wanted,)


# --- a restricted page -----------------------------------------------------------------------------

SECRET = "<p>Secret words</p>"
RULES = [Restriction("read", ("acc-service", "acc-editor")), Restriction("update", ("acc-service",))]


class Killed(BaseException):
    """The process ends here."""


def watch(site: Site) -> list[str]:
    """Note each request before which somebody outside the restrictions could see the page's text."""
    seen: list[str] = []
    database = site.stand_in.database

    def look(request: Request) -> None:
        for row in database.rows("select v.* from versions v join pages p on p.id = v.page_id"):
            if "Secret" in row["body"] and access.may(database, row["page_id"], OTHER.account_id, "read"):
                seen.append(f"{request.method} {request.path}")

    site.stand_in.app.before.append(look)
    return seen


def restricted(client: ConfluenceClient, parent: str | None = None) -> Page:
    return client.create_restricted_page(client.space("DS").id, "Restricted", SECRET, RULES, parent_id=parent)


def is_whole(site: Site, page: Page) -> None:
    client = site.client()
    [only] = [item for item in client.pages_in_space(page.space_id) if item.title == "Restricted"]
    assert only.id == page.id
    now = client.page(page.id)
    assert (now.body, now.version.number) == (SECRET, 2)
    assert client.restrictions(page.id).own == (Restriction("read", ("acc-editor", "acc-service")), RULES[1])
    assert site.client(EDITOR).page(page.id).body == SECRET
    assert client.page(page.id, version=1).body == PLACEHOLDER
    with pytest.raises(NotFound):
        site.client(OTHER).page(page.id)


def test_a_restricted_page_is_made_and_found_again(site: Site, client: ConfluenceClient) -> None:
    seen = watch(site)
    page = restricted(client)
    is_whole(site, page)
    before = len(site.sent("POST")) + len(site.sent("PUT"))
    assert restricted(site.client()) == client.page(page.id)
    assert len(site.sent("POST")) + len(site.sent("PUT")) == before
    assert seen == []
    assert client.writes_by_page == {page.id: 3}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", range(10))
def test_killed_at_any_request_it_is_finished_by_the_next_try(
    site: Site, monkeypatch: pytest.MonkeyPatch, step: int, after: bool
) -> None:
    seen = watch(site)
    client = site.client()
    call = client._caller.call
    counted = iter(range(100))

    def killed(method: str, send: Any, **options: Any) -> Any:
        if next(counted) == step:
            if after:
                call(method, send, **options)
            raise Killed
        return call(method, send, **options)

    monkeypatch.setattr(client._caller, "call", killed)
    try:
        restricted(client)
    except Killed:
        assert step < 8
    else:
        assert step >= 8
    is_whole(site, restricted(site.client()))
    assert seen == []


@pytest.mark.parametrize("kind", ["reset_after", "reset_before", "truncate"])
@pytest.mark.parametrize("path", ["/api/v2/pages", "/restriction", "/api/v2/pages/"])
def test_a_restricted_page_whose_replies_are_lost(site: Site, kind: str, path: str) -> None:
    seen = watch(site)
    method = "POST" if path.endswith("/pages") else "PUT"
    site.stand_in.app.fault(kind, lambda request: request.method == method and path in request.path)
    try:
        page = restricted(site.client())
    except Unavailable:
        page = restricted(site.client())
    is_whole(site, page)
    assert seen == []


def test_a_page_of_somebody_else_is_not_taken_over(site: Site, client: ConfluenceClient) -> None:
    space = client.space("DS").id
    other = site.client(EDITOR).create_page(space, "Restricted", PLACEHOLDER)
    with pytest.raises(Conflict, match=f"another page of the title, {other.id}"):
        restricted(client)
    assert client.page(other.id).version.number == 1
    site.send("DELETE", f"/wiki/api/v2/pages/{other.id}")
    page = restricted(client)
    client.update_page(client.page(page.id), body="<p>Newer</p>")
    with pytest.raises(Conflict, match="at version 3"):
        restricted(client)


def test_a_restricted_page_that_was_opened_is_no_success(site: Site, client: ConfluenceClient) -> None:
    page = restricted(client)
    client.set_restrictions(page.id, [])
    with pytest.raises(Conflict, match="has none now"):
        restricted(client)
    with pytest.raises(InvalidInput, match="needs a `read`"):
        client.create_restricted_page(page.space_id, "Other", SECRET, [RULES[1]])


def test_no_text_is_written_when_the_restrictions_did_not_hold(site: Site, client: ConfluenceClient) -> None:
    page = make(client, "Any")
    empty = site.send("GET", f"/wiki/rest/api/content/{page.id}/restriction").json()
    site.stand_in.app.fault("status", on("GET", "/restriction"), times=None, reply=json_reply(empty))
    with pytest.raises(Conflict, match="read back"):
        restricted(client)
    rows = site.stand_in.database.rows("select body from versions")
    assert not any("Secret" in row["body"] for row in rows)


# --- search ---------------------------------------------------------------------------------------


def test_search_follows_next(site: Site, client: ConfluenceClient) -> None:
    ids = fill(site, client.space("DS").id, 530)
    with site.stand_in.database.transaction():
        for page_id in ids:
            site.stand_in.database.write("insert into labels values (?, 'plan', 1, 1)", (int(page_id),))
    assert list(client.pages_with_label("DS", "plan")) == ids
    assert ["start=" in target for target in site.sent("GET")[-3:]] == [False] * 3
    resumed_everywhere(lambda state: client.pages_with_label("DS", "plan", resume=state))


def test_values_in_queries_stay_values(client: ConfluenceClient) -> None:
    make(client, "Guideline")
    assert list(client.pages_with_label("DS", 'x" or title = "Guideline')) == []
    assert list(client.pages_with_label("DS", 'x\\" or title = "Guideline')) == []
    with pytest.raises(InvalidInput):
        client._site.search_pages("title = = x", None)


def test_unknown_operations_are_named(client: ConfluenceClient) -> None:
    assert client.flavour == "cloud"
    assert client.supports("inline_tasks")
    with pytest.raises(InvalidInput, match="no operation 'fly'"):
        client.supports("fly")


def test_stale_reads_after_a_lost_write_send_nothing_twice(site: Site, client: ConfluenceClient) -> None:
    page = make(client)
    site.stand_in.stale_reads = 1
    site.stand_in.app.fault("reset_after", on("PUT", "/pages/"))
    with pytest.raises(Unavailable):
        client.update_page(page, body="<p>Two</p>")
    assert client.page(page.id).version.number == 2
    # The same write again is refused for its number and then recognised.
    assert client.update_page(page, body="<p>Two</p>").version.number == 2
    assert len([target for target in site.sent("PUT") if "/pages/" in target]) == 2


def test_writes_are_counted_by_page(site: Site, client: ConfluenceClient) -> None:
    page, other = make(client, body=TASKS), make(client, "Other")
    client.update_page(page, body=TASKS + "<p />")
    client.add_label(page.id, "x")
    client.upload(page.id, "a.bin", b"1", "application/octet-stream")
    client.upload(page.id, "a.bin", b"1", "application/octet-stream")
    client.set_property(page.id, "k", 1, None)
    client.add_footer_comment(page.id, "<p />")
    with pytest.raises(Conflict):
        client.update_page(page, body="<p>Stale</p>")
    assert client.writes_by_page == {page.id: 6, other.id: 1}


def test_a_site_that_took_a_call_away_is_told_apart(site: Site, client: ConfluenceClient) -> None:
    page = make(client)
    site.stand_in.app.fault("status", on("POST", "/label"), reply=json_reply({"message": "Gone"}, 410))
    with pytest.raises(Unsupported):
        client.add_label(page.id, "new")


def test_without_the_header_an_upload_is_refused(site: Site, client: ConfluenceClient) -> None:
    page = make(client)
    path = f"/wiki/rest/api/content/{page.id}/child/attachment"
    assert site.send("POST", path, SERVICE, files={"file": ("a", b"1")}).status_code == 403
    site.stand_in.app.fault("status", on("POST", "/attachment"), reply=json_reply({"message": "XSRF"}, 403))
    with pytest.raises(AuthError):
        client.upload(page.id, "a", b"1", "application/octet-stream")
