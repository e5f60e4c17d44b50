"""ConfluenceHook on Cloud beyond single pages: lists, changes, the tree, restrictions, tasks, search, people."""

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
from include.systems.confluence.values import Page, Restriction, cql_text
from include.systems.listing import Listing
from labelops.hooks.confluence import ConfluenceHook
from labelops.hooks.confluence.hook import PLACEHOLDER
from tests.hooks.confluence_site import EDITOR, SERVICE, Site, make, on, running

OTHER = SandboxUser("acc-other", "Otto Other", "otto@labelops.example", "other-token-1234")


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with running(monkeypatch) as site:
        site.stand_in.add_user(OTHER)
        yield site


@pytest.fixture
def hook(site: Site) -> ConfluenceHook:
    return site.hook()


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


def test_spaces(site: Site, hook: ConfluenceHook) -> None:
    for number in range(300):
        site.send("POST", "/wiki/api/v2/spaces", json={"key": f"S{number}", "name": f"Space {number}"})
    before = hook.requests_made
    assert [space.key for space in hook.spaces()] == ["DS", *(f"S{number}" for number in range(300))]
    assert hook.requests_made - before == 2
    resumed_everywhere(lambda state: hook.spaces(resume=state))


def test_pages_by_id_come_with_bodies_and_without_what_is_gone(site: Site, hook: ConfluenceHook) -> None:
    space = hook.space("DS").id
    ids = fill(site, space, 600)
    site.send("DELETE", f"/wiki/api/v2/pages/{ids[7]}")
    before = hook.requests_made
    found = list(hook.pages([*ids, "9999999", ids[0]]))
    assert [page.id for page in found] == [number for number in ids if number != ids[7]]
    assert all(page.body == "<p />" for page in found)
    assert hook.requests_made - before == 3
    resumed_everywhere(lambda state: hook.pages(ids[:300], resume=state))
    with pytest.raises(InvalidInput, match="belongs to one listing"):
        hook.pages(ids[:2], resume=hook.pages(ids[:3]).state)


def test_a_page_deleted_during_the_walk_hides_no_other(site: Site, hook: ConfluenceHook) -> None:
    space = hook.space("DS").id
    ids = fill(site, space, 300)
    walk = hook.pages_in_space(space)
    first = [next(walk) for _ in range(100)]
    site.send("DELETE", f"/wiki/api/v2/pages/{ids[3]}")
    seen = [page.id for page in [*first, *walk]]
    assert seen == [hook.space("DS").homepage_id, *ids]


def test_a_state_of_a_cursor_the_site_does_not_know_is_refused(site: Site, hook: ConfluenceHook) -> None:
    space = hook.space("DS").id
    state = json.loads(hook.pages_in_space(space).state)
    with pytest.raises(InvalidInput, match="cursor"):
        list(hook.pages_in_space(space, resume=json.dumps({**state, "place": "cursor=bm9uc2Vuc2U%3D"})))


@pytest.mark.parametrize("kind", ["truncate", "garbage"])
def test_a_page_of_a_list_that_cannot_be_read_is_asked_for_again(site: Site, hook: ConfluenceHook, kind: str) -> None:
    space = hook.space("DS").id
    fill(site, space, 600)
    site.stand_in.app.fault(kind, lambda request: "cursor=" in request.target)
    walk = hook.pages_in_space(space)
    seen: list[str] = []
    with pytest.raises(InvalidReply):
        seen.extend(page.id for page in walk)
    assert len(seen) == 250
    assert not walk.complete
    again = hook.pages_in_space(space, resume=walk.state)
    seen += [page.id for page in again]
    assert len(seen) == len(set(seen)) == 601


def test_a_limit_in_the_middle_of_a_walk_keeps_the_state(site: Site, hook: ConfluenceHook) -> None:
    space = hook.space("DS").id
    fill(site, space, 300)
    reply = json_reply({"message": "Rate limit exceeded"}, 429, {"Retry-After": "900"})
    site.stand_in.app.fault("status", lambda request: "cursor=" in request.target, reply=reply)
    walk = hook.pages_in_space(space)
    with pytest.raises(RateLimited) as caught:
        list(walk)
    assert caught.value.retry_after == 900
    # Another hook, for this one's pace waits as it was told to.
    assert len(list(site.hook(extra={"requests_per_second": 0}).pages_in_space(space, resume=walk.state))) == 51


# --- what changed ----------------------------------------------------------------------------------


def test_changes_come_once_and_later_only_what_is_new(site: Site, hook: ConfluenceHook) -> None:
    space = hook.space("DS").id
    ids = fill(site, space, 600)
    first = hook.changed_pages(space)
    assert {page.id for page in first} == {*ids, str(hook.space("DS").homepage_id)}
    again = hook.changed_pages(space, resume=first.state)
    assert list(again) == []
    hook.update_page(hook.page(ids[5]), body="<p>New</p>")
    third = hook.changed_pages(space, resume=again.state)
    assert [(page.id, page.version.number, page.body) for page in third] == [(ids[5], 2, "<p>New</p>")]
    assert list(hook.changed_pages(space, resume=third.state)) == []


def test_a_read_of_changes_stops_where_the_news_end(site: Site, hook: ConfluenceHook) -> None:
    space = hook.space("DS").id
    ids = fill(site, space, 600)
    old = round((datetime.now(UTC) - timedelta(days=3)).timestamp() * 1000)
    with site.stand_in.database.transaction():
        site.stand_in.database.write("update pages set modified = modified - 86400000 * 3")
        site.stand_in.database.write("update versions set created = created - 86400000 * 3")
    first = hook.changed_pages(space)
    assert len(list(first)) == 601
    assert all(page.version.created.timestamp() * 1000 < old + 600_000 for page in hook.pages(ids[:1]))
    hook.update_page(hook.page(ids[5]), body="<p>New</p>")
    second = hook.changed_pages(space, resume=first.state)
    assert [page.id for page in second] == [ids[5]]
    before = hook.requests_made
    assert list(hook.changed_pages(space, resume=second.state)) == []
    assert hook.requests_made - before == 1


def test_changes_left_in_the_middle_lose_nothing(site: Site, hook: ConfluenceHook) -> None:
    space = hook.space("DS").id
    ids = fill(site, space, 300)
    whole = {page.id for page in hook.changed_pages(space)}
    for stop in (1, 100, 250, 300):
        walk = hook.changed_pages(space)
        seen = [next(walk).id for _ in range(stop)]
        # Written while the reader was away: it comes, whether it came before or not.
        hook.update_page(hook.page(ids[stop - 1]), body=f"<p>{stop}</p>")
        rest = hook.changed_pages(space, resume=walk.state)
        later = [page.id for page in rest]
        assert {*seen, *later} == whole
        assert ids[stop - 1] in later
        assert list(hook.changed_pages(space, resume=rest.state)) == []


def test_changes_by_listing_where_the_order_cannot_be_relied_on(site: Site) -> None:
    hook = site.hook(extra={"changes": "listing"})
    space = hook.space("DS").id
    ids = fill(site, space, 300)
    whole = {page.id for page in hook.changed_pages(space)}
    assert whole == {*ids, str(hook.space("DS").homepage_id)}
    walk = hook.changed_pages(space)
    seen = [next(walk).id for _ in range(100)]
    hook.update_page(hook.page(ids[50]), body="<p>New</p>")
    rest = hook.changed_pages(space, resume=walk.state)
    later = [page.id for page in rest]
    assert {*seen, *later} == whole
    assert later[-1] == ids[50]
    assert list(hook.changed_pages(space, resume=rest.state)) == []


def test_bad_states_of_changes_are_refused(site: Site, hook: ConfluenceHook) -> None:
    space = hook.space("DS").id
    walk = hook.changed_pages(space)
    list(walk)
    future = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    state = json.loads(walk.state)
    place = json.loads(state["place"])
    with pytest.raises(InvalidInput, match="future"):
        hook.changed_pages(space, resume=json.dumps({**state, "place": json.dumps({**place, "since": future})}))
    for nonsense in ("", "nonsense", "{}", json.dumps({**state, "place": "nonsense"})):
        with pytest.raises(InvalidInput):
            hook.changed_pages(space, resume=nonsense)
    with pytest.raises(InvalidInput, match="belongs to one listing"):
        hook.changed_pages("1", resume=walk.state)


# --- the tree --------------------------------------------------------------------------------------


def test_a_tree_through_folders_and_deeper_than_one_request(site: Site, hook: ConfluenceHook) -> None:
    space = hook.space("DS").id
    root = make(hook, "Root")
    inside = folder(site, space, "Folder", root.id)
    below = [hook.create_page(space, "In the folder", "<p />", parent_id=inside).id]
    for number in range(24):
        below.append(hook.create_page(space, f"Level {number}", "<p />", parent_id=below[-1]).id)
    aside = [hook.create_page(space, f"Aside {number}", "<p />", parent_id=root.id).id for number in range(3)]
    found = list(hook.descendants(root.id))
    assert {node.id for node in found} == {inside, *below, *aside}
    assert len(found) == 1 + len(below) + len(aside)
    depth = {node.id: node.depth for node in found}
    assert [depth[number] for number in below] == list(range(2, 27))
    assert {node.id: node.kind for node in found if node.kind != "page"} == {inside: "folder"}
    places = {node.id: place for place, node in enumerate(found)}
    assert all(node.parent_id == root.id or places[str(node.parent_id)] < places[node.id] for node in found)
    resumed_everywhere(lambda state: hook.descendants(root.id, resume=state))
    state = json.loads(hook.descendants(root.id).state)
    with pytest.raises(InvalidInput):
        list(hook.descendants(root.id, resume=json.dumps({**state, "place": '["space", "1", 0, null, []]'})))


def test_ancestors_have_titles_and_steps(site: Site, hook: ConfluenceHook) -> None:
    space = hook.space("DS")
    root = make(hook, "Root")
    inside = folder(site, space.id, "Folder", root.id)
    leaf = hook.create_page(space.id, "Leaf", "<p />", parent_id=inside)
    assert leaf.parent_id == inside
    found = [(node.id, node.title, node.parent_id, node.kind, node.depth) for node in hook.ancestors(leaf.id)]
    assert found == [
        (space.homepage_id, "Data", None, "page", 3),
        (root.id, "Root", space.homepage_id, "page", 2),
        (inside, "Folder", root.id, "folder", 1),
    ]
    assert hook.ancestors(str(space.homepage_id)) == []


def test_a_page_is_moved_once(site: Site, hook: ConfluenceHook) -> None:
    page, target = make(hook), make(hook, "Target")
    moved = hook.move_page(page, target.id)
    assert (moved.parent_id, moved.version.number) == (target.id, 1)
    before = len(site.sent("PUT"))
    assert hook.move_page(page, target.id) == moved
    assert len(site.sent("PUT")) == before
    assert hook.writes_by_page[page.id] == 2
    with pytest.raises(InvalidInput):
        hook.move_page(target, page.id)
    with pytest.raises(NotFound):
        hook.move_page(page, "9999999")


@pytest.mark.parametrize("kind", ["reset_after", "truncate", "garbage", "reset_before"])
def test_a_move_whose_reply_was_lost(site: Site, hook: ConfluenceHook, kind: str) -> None:
    page, target = make(hook), make(hook, "Target")
    site.stand_in.app.fault(kind, on("PUT", "/move/"))
    assert hook.move_page(page, target.id).parent_id == target.id


def test_archiving_waits_for_the_site(site: Site, hook: ConfluenceHook) -> None:
    page = make(hook)
    site.stand_in.archive_looks = 3
    assert hook.archive_page(page.id).status == "archived"
    assert len(site.waits) == 3
    before = len(site.sent("POST"))
    assert hook.archive_page(page.id).status == "archived"
    assert len(site.sent("POST")) == before
    other = make(hook, "Other")
    site.send("DELETE", f"/wiki/api/v2/pages/{other.id}")
    with pytest.raises(Conflict, match="trashed"):
        hook.archive_page(other.id)
    third = make(hook, "Third")
    site.stand_in.archive_looks = 1000
    with pytest.raises(Unavailable, match="not yet"):
        hook.archive_page(third.id)


@pytest.mark.parametrize(("kind", "archived"), [("reset_after", True), ("garbage", True), ("reset_before", False)])
def test_archiving_whose_reply_was_lost(site: Site, hook: ConfluenceHook, kind: str, archived: bool) -> None:
    page = make(hook)
    site.stand_in.app.fault(kind, on("POST", "/content/archive"))
    if archived:
        assert hook.archive_page(page.id).status == "archived"
    else:
        with pytest.raises(Unavailable):
            hook.archive_page(page.id)
        assert hook.archive_page(page.id).status == "archived"


# --- labels, properties, comments, tasks -----------------------------------------------------------


def test_a_label_is_taken_off_once(site: Site, hook: ConfluenceHook) -> None:
    page = make(hook)
    hook.add_label(page.id, "a&b=ä")
    hook.add_label(page.id, "kept")
    site.stand_in.app.fault("reset_after", on("DELETE", "/label"))
    hook.remove_label(page.id, "a&b=ä")
    assert hook.labels(page.id) == ["kept"]
    before = len(site.sent("DELETE"))
    hook.remove_label(page.id, "a&b=ä")
    assert len(site.sent("DELETE")) == before
    with pytest.raises(NotFound):
        hook.remove_label("9999999", "kept")


def test_all_properties_of_a_page(hook: ConfluenceHook) -> None:
    page = make(hook)
    written = [hook.set_property(page.id, f"key-{number}", {"n": number}, None) for number in range(260)]
    assert list(hook.properties(page.id)) == written
    with pytest.raises(InvalidInput, match="key-0"):
        hook.set_property(page.id, "other", 1, written[0])


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


def test_inline_comments_with_their_resolution(site: Site, hook: ConfluenceHook) -> None:
    page = make(hook, body="<p>One and <em>two</em> and three</p>")
    first, second, third = (inline(site, page, words) for words in ("One", "two", "three"))
    now = hook.page(page.id)
    assert now.version.number == 1
    assert now.body.count("inline-comment-marker") == 6
    sent = {"version": {"number": 2}, "resolved": True}
    assert site.send("PUT", f"/wiki/api/v2/inline-comments/{second}", json=sent).status_code == 200
    found = list(hook.inline_comments(page.id))
    assert [(item.id, item.resolution, item.selection, item.author_id) for item in found] == [
        (first, "open", "One", "acc-editor"),
        (third, "open", "three", "acc-editor"),
        (second, "resolved", "two", "acc-editor"),
    ]
    assert all(item.marker_ref in now.body for item in found)
    assert found[0].body == "<p>About One</p>"
    assert [item.id for item in hook.inline_comments(page.id, "resolved")] == [second]
    hook.update_page(now, body="<p>Rewritten</p>")
    assert {item.id for item in hook.inline_comments(page.id, "dangling")} == {first, third}
    assert list(hook.inline_comments(page.id, "open")) == []
    with pytest.raises(InvalidInput, match="allowed are open"):
        hook.inline_comments(page.id, "closed")


@pytest.mark.parametrize(("kind", "landed"), [("reset_after", True), ("truncate", True), ("reset_before", False)])
def test_a_comment_whose_reply_was_lost_is_written_once(
    site: Site, hook: ConfluenceHook, kind: str, landed: bool
) -> None:
    page = make(hook)
    stored = hook.add_footer_comment(page.id, "<p>Other</p>")
    assert (stored.author_id, stored.body, stored.version) == ("acc-service", "<p>Other</p>", 1)
    site.stand_in.app.fault(kind, on("POST", "/footer-comments"))
    if landed:
        assert hook.add_footer_comment(page.id, "<p>Approved &auml;</p>").body == "<p>Approved ä</p>"
    else:
        with pytest.raises(Unavailable):
            hook.add_footer_comment(page.id, "<p>Approved &auml;</p>")
    assert len(list(hook.footer_comments(page.id))) == (2 if landed else 1)
    assert hook.writes_by_page[page.id] == 3
    with pytest.raises(NotFound):
        hook.add_footer_comment("9999999", "<p />")


TASKS = (
    "<ac:task-list>"
    "<ac:task><ac:task-id>1</ac:task-id><ac:task-status>incomplete</ac:task-status><ac:task-body>Sign: "
    '<ac:link><ri:user ri:account-id="acc-editor"/></ac:link> <time datetime="2026-12-01"/></ac:task-body></ac:task>'
    "<ac:task><ac:task-id>2</ac:task-id><ac:task-status>complete</ac:task-status><ac:task-body>Read it</ac:task-body>"
    "</ac:task></ac:task-list>"
)


def test_inline_tasks_are_the_evidence_of_a_sign_off(site: Site, hook: ConfluenceHook) -> None:
    page = make(hook, body=TASKS)
    first, second = hook.inline_tasks([page.id])
    assert (first.local_id, first.status, first.assigned_to, first.due) == (
        "1",
        "incomplete",
        "acc-editor",
        date(2026, 12, 1),
    )
    assert (first.completed_by, first.completed, second.status) == (None, None, "complete")
    done = site.hook(EDITOR).complete_task(first.id)
    assert (done.status, done.completed_by, done.assigned_to) == ("complete", "acc-editor", "acc-editor")
    assert done.completed is not None
    assert datetime.now(UTC) - done.completed < timedelta(minutes=1)
    assert list(hook.inline_tasks([page.id], "incomplete")) == []
    site.stand_in.app.fault("reset_after", on("PUT", "/tasks/"))
    assert hook.complete_task(first.id).completed_by == "acc-editor"
    with pytest.raises(NotFound):
        hook.complete_task("9999999")
    with pytest.raises(InvalidInput, match="allowed are complete"):
        hook.inline_tasks([page.id], "done")


def test_tasks_of_many_pages_in_few_requests(site: Site, hook: ConfluenceHook) -> None:
    space = hook.space("DS").id
    ids = fill(site, space, 260)
    for number in (0, 100, 259):
        hook.update_page(hook.page(ids[number]), body=TASKS)
    before = hook.requests_made
    assert [task.page_id for task in hook.inline_tasks(ids)] == [ids[0]] * 2 + [ids[100]] * 2 + [ids[259]] * 2
    assert hook.requests_made - before == 2
    resumed_everywhere(lambda state: hook.inline_tasks(ids, resume=state))
    assert list(hook.inline_tasks([])) == []


# --- restrictions ----------------------------------------------------------------------------------

MINE = Restriction("read", ("acc-service",))


def test_restrictions_are_set_read_back_and_inherited(site: Site, hook: ConfluenceHook) -> None:
    site.stand_in.add_group("auditors & co", [OTHER.account_id])
    space = hook.space("DS").id
    top = make(hook, "Top")
    inside = folder(site, space, "Folder", top.id)
    page = hook.create_page(space, "Page", "<p />", parent_id=inside)
    assert hook.restrictions(page.id).own == ()
    wanted = [
        Restriction("update", ("acc-service",)),
        Restriction("read", ("acc-service", "acc-editor", "acc-service"), ("auditors & co",)),
    ]
    stored = hook.set_restrictions(top.id, wanted)
    read = Restriction("read", ("acc-editor", "acc-service"), ("auditors & co",))
    update = Restriction("update", ("acc-service",))
    assert stored.own == hook.restrictions(top.id).own == (read, update)
    assert hook.restrictions(page.id).inherited == ((top.id, read), (top.id, update))
    before = len(site.sent("PUT"))
    hook.set_restrictions(top.id, wanted[::-1])
    assert len(site.sent("PUT")) == before
    assert [site.hook(user).page(page.id).id for user in (EDITOR, OTHER)] == [page.id] * 2
    hook.set_restrictions(top.id, [MINE])
    for user in (EDITOR, OTHER):
        with pytest.raises(NotFound):
            site.hook(user).page(page.id)
        assert page.id not in {item.id for item in site.hook(user).pages_in_space(space)}
        assert list(site.hook(user).search(f"id = {page.id}")) == []
    assert hook.set_restrictions(top.id, []).own == ()
    assert site.hook(EDITOR).page(page.id).id == page.id


def test_restrictions_that_cannot_be_are_refused(site: Site, hook: ConfluenceHook) -> None:
    page = make(hook)
    before = len(site.sent("PUT"))
    with pytest.raises(InvalidInput, match="shut this account out"):
        hook.set_restrictions(page.id, [Restriction("read", ("acc-editor",))])
    with pytest.raises(InvalidInput, match="2 times"):
        hook.set_restrictions(page.id, [MINE, MINE])
    with pytest.raises(InvalidInput, match="allowed are read, update"):
        hook.set_restrictions(page.id, [Restriction("delete", ("acc-service",))])  # type: ignore[arg-type]
    with pytest.raises(NotFound, match="no group"):
        hook.set_restrictions(page.id, [Restriction("read", ("acc-service",), ("nobody",))])
    assert len(site.sent("PUT")) == before
    with pytest.raises(InvalidInput):
        hook.set_restrictions(page.id, [Restriction("read", ("acc-service", "acc-unknown"))])
    site.stand_in.add_group("others", [OTHER.account_id])
    with pytest.raises(InvalidInput, match="remove yourself"):
        hook.set_restrictions(page.id, [Restriction("read", (), ("others",))])
    assert hook.restrictions(page.id).own == ()


def test_restrictions_that_were_not_kept_are_noticed(site: Site, hook: ConfluenceHook) -> None:
    page = make(hook)
    empty = site.send("GET", f"/wiki/rest/api/content/{page.id}/restriction").json()
    site.stand_in.app.fault("status", on("GET", "/restriction"), times=2, reply=json_reply(empty))
    with pytest.raises(Conflict, match="wrote restrictions read: acc-service, read back none"):
        hook.set_restrictions(page.id, [MINE])


def test_more_people_than_one_request_shows(site: Site, hook: ConfluenceHook) -> None:
    people = [f"acc-{number:03}" for number in range(250)]
    for account in people:
        site.stand_in.add_user(SandboxUser(account, account, f"{account}@labelops.example", account))
    page = make(hook)
    wanted = Restriction("read", tuple(sorted([*people, "acc-service"])))
    assert hook.set_restrictions(page.id, [wanted]).own == (wanted,)
    assert hook.restrictions(page.id).own == (wanted,)


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


def restricted(hook: ConfluenceHook, parent: str | None = None) -> Page:
    return hook.create_restricted_page(hook.space("DS").id, "Restricted", SECRET, RULES, parent_id=parent)


def is_whole(site: Site, page: Page) -> None:
    hook = site.hook()
    [only] = [item for item in hook.pages_in_space(page.space_id) if item.title == "Restricted"]
    assert only.id == page.id
    now = hook.page(page.id)
    assert (now.body, now.version.number) == (SECRET, 2)
    assert hook.restrictions(page.id).own == (Restriction("read", ("acc-editor", "acc-service")), RULES[1])
    assert site.hook(EDITOR).page(page.id).body == SECRET
    assert hook.page(page.id, version=1).body == PLACEHOLDER
    with pytest.raises(NotFound):
        site.hook(OTHER).page(page.id)


def test_a_restricted_page_is_made_and_found_again(site: Site, hook: ConfluenceHook) -> None:
    seen = watch(site)
    page = restricted(hook)
    is_whole(site, page)
    before = len(site.sent("POST")) + len(site.sent("PUT"))
    assert restricted(site.hook()) == hook.page(page.id)
    assert len(site.sent("POST")) + len(site.sent("PUT")) == before
    assert seen == []
    assert hook.writes_by_page == {page.id: 3}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", range(10))
def test_killed_at_any_request_it_is_finished_by_the_next_try(
    site: Site, monkeypatch: pytest.MonkeyPatch, step: int, after: bool
) -> None:
    seen = watch(site)
    hook = site.hook()
    call = hook._caller.call
    counted = iter(range(100))

    def killed(method: str, send: Any, **options: Any) -> Any:
        if next(counted) == step:
            if after:
                call(method, send, **options)
            raise Killed
        return call(method, send, **options)

    monkeypatch.setattr(hook._caller, "call", killed)
    try:
        restricted(hook)
    except Killed:
        assert step < 8
    else:
        assert step >= 8
    is_whole(site, restricted(site.hook()))
    assert seen == []


@pytest.mark.parametrize("kind", ["reset_after", "reset_before", "truncate"])
@pytest.mark.parametrize("path", ["/api/v2/pages", "/restriction", "/api/v2/pages/"])
def test_a_restricted_page_whose_replies_are_lost(site: Site, kind: str, path: str) -> None:
    seen = watch(site)
    method = "POST" if path.endswith("/pages") else "PUT"
    site.stand_in.app.fault(kind, lambda request: request.method == method and path in request.path)
    try:
        page = restricted(site.hook())
    except Unavailable:
        page = restricted(site.hook())
    is_whole(site, page)
    assert seen == []


def test_a_page_of_somebody_else_is_not_taken_over(site: Site, hook: ConfluenceHook) -> None:
    space = hook.space("DS").id
    other = site.hook(EDITOR).create_page(space, "Restricted", PLACEHOLDER)
    with pytest.raises(Conflict, match=f"another page of the title, {other.id}"):
        restricted(hook)
    assert hook.page(other.id).version.number == 1
    site.send("DELETE", f"/wiki/api/v2/pages/{other.id}")
    page = restricted(hook)
    hook.update_page(hook.page(page.id), body="<p>Newer</p>")
    with pytest.raises(Conflict, match="at version 3"):
        restricted(hook)


def test_a_restricted_page_that_was_opened_is_no_success(site: Site, hook: ConfluenceHook) -> None:
    page = restricted(hook)
    hook.set_restrictions(page.id, [])
    with pytest.raises(Conflict, match="has none now"):
        restricted(hook)
    with pytest.raises(InvalidInput, match="needs a `read`"):
        hook.create_restricted_page(page.space_id, "Other", SECRET, [RULES[1]])


def test_no_text_is_written_when_the_restrictions_did_not_hold(site: Site, hook: ConfluenceHook) -> None:
    page = make(hook, "Any")
    empty = site.send("GET", f"/wiki/rest/api/content/{page.id}/restriction").json()
    site.stand_in.app.fault("status", on("GET", "/restriction"), times=None, reply=json_reply(empty))
    with pytest.raises(Conflict, match="read back"):
        restricted(hook)
    rows = site.stand_in.database.rows("select body from versions")
    assert not any("Secret" in row["body"] for row in rows)


# --- search and people -----------------------------------------------------------------------------


def test_search_follows_next_and_reads_real_titles(site: Site, hook: ConfluenceHook) -> None:
    space = hook.space("DS").id
    ids = fill(site, space, 230, name="R&D <Plan>")
    hits = list(hook.search('space = "DS" and title ~ "R&D" order by created'))
    assert [hit.id for hit in hits] == ids
    assert {(hit.kind, hit.space_key) for hit in hits} == {("page", "DS")}
    assert hits[0].title == "R&D <Plan> 0"
    assert hits[0].url.startswith(f"{site.server.url}/wiki/spaces/DS/pages/{ids[0]}/")
    assert hits[0].modified is not None
    assert [("start=" in target, "totalSize" in target) for target in site.sent("GET")[-3:]] == [(False, False)] * 3
    resumed_everywhere(lambda state: hook.search('space = "DS" and title ~ "R&D" order by created', resume=state))


def test_values_in_queries_stay_values(hook: ConfluenceHook) -> None:
    make(hook, "Guideline")
    odd = make(hook, 'Quote " or \\ title')
    assert [hit.id for hit in hook.search(f"title = {cql_text(odd.title)}")] == [odd.id]
    injected = cql_text('x" or title = "Guideline')
    assert list(hook.search(f"title = {injected}")) == []
    with pytest.raises(InvalidInput):
        list(hook.search("title = = x"))
    with pytest.raises(InvalidInput, match="empty"):
        hook.search(" ")


def test_people_in_bulk_and_in_groups(site: Site, hook: ConfluenceHook) -> None:
    people = [f"acc-{number:03}" for number in range(520)]
    for account in people:
        site.stand_in.add_user(SandboxUser(account, f"N {account}", f"{account}@labelops.example", account))
    site.stand_in.add_group("labelers", people)
    site.stand_in.add_group("labelers of old", [OTHER.account_id])
    before = hook.requests_made
    found = hook.users([*people, "acc-unknown", people[0]])
    assert list(found) == people
    assert hook.requests_made - before == 3
    assert hook.user("acc-007").display_name == "N acc-007"
    with pytest.raises(NotFound):
        hook.user("acc-unknown")
    assert [user.account_id for user in hook.group_members("labelers")] == people
    assert [user.account_id for user in hook.group_members("labelers of old")] == [OTHER.account_id]
    resumed_everywhere(lambda state: hook.group_members("labelers", resume=state))
    with pytest.raises(NotFound, match="no group 'label'"):
        list(hook.group_members("label"))


def test_unknown_operations_are_named(hook: ConfluenceHook) -> None:
    assert hook.flavour == "cloud"
    assert hook.supports("inline_tasks")
    with pytest.raises(InvalidInput, match="no operation 'fly'"):
        hook.supports("fly")


def test_stale_reads_after_a_lost_write_send_nothing_twice(site: Site, hook: ConfluenceHook) -> None:
    page = make(hook)
    site.stand_in.stale_reads = 1
    site.stand_in.app.fault("reset_after", on("PUT", "/pages/"))
    with pytest.raises(Unavailable):
        hook.update_page(page, body="<p>Two</p>")
    assert hook.page(page.id).version.number == 2
    # The same write again is refused for its number and then recognised.
    assert hook.update_page(page, body="<p>Two</p>").version.number == 2
    assert len([target for target in site.sent("PUT") if "/pages/" in target]) == 2


def test_writes_are_counted_by_page(site: Site, hook: ConfluenceHook) -> None:
    page, other = make(hook, body=TASKS), make(hook, "Other")
    hook.update_page(page, body=TASKS + "<p />")
    hook.add_label(page.id, "x")
    hook.upload(page.id, "a.bin", b"1", "application/octet-stream")
    hook.upload(page.id, "a.bin", b"1", "application/octet-stream")
    hook.set_property(page.id, "k", 1, None)
    hook.add_footer_comment(page.id, "<p />")
    hook.complete_task(next(hook.inline_tasks([page.id], "incomplete")).id)
    with pytest.raises(Conflict):
        hook.update_page(page, body="<p>Stale</p>")
    assert hook.writes_by_page == {page.id: 7, other.id: 1}


def test_a_site_that_took_a_call_away_is_told_apart(site: Site, hook: ConfluenceHook) -> None:
    page = make(hook)
    site.stand_in.app.fault("status", on("POST", "/archive"), reply=json_reply({"message": "Gone"}, 410))
    with pytest.raises(Unsupported):
        hook.archive_page(page.id)


def test_without_the_header_an_upload_is_refused(site: Site, hook: ConfluenceHook) -> None:
    page = make(hook)
    path = f"/wiki/rest/api/content/{page.id}/child/attachment"
    assert site.send("POST", path, SERVICE, files={"file": ("a", b"1")}).status_code == 403
    site.stand_in.app.fault("status", on("POST", "/attachment"), reply=json_reply({"message": "XSRF"}, 403))
    with pytest.raises(AuthError):
        hook.upload(page.id, "a", b"1", "application/octet-stream")
