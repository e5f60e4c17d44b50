from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from include.base.errors import InvalidInput, NotFound, Unavailable
from include.base.store import Store
from include.gates.gate import run_suite
from include.gates.suites import suite_for
from include.guidelines.approval import state_version
from include.guidelines.sync import Collected, collect, rows
from include.systems.confluence.values import ContentState, PageVersion
from tests.guidelines.conftest import STATE, Sync, make_project
from tests.guidelines.fake_confluence import PNG, START, FakeConfluence
from tests.systems.confluence.test_storage import details

LABEL = {"by": "label", "value": "approved"}
NUMBERED = {"by": "label", "value": "approved-v{version}"}
ROW = {"by": "property", "value": "Approved", "row": "Status"}
PICTURE = '<ac:image><ri:attachment ri:filename="chart.png"/></ac:image>'


def kinds(collected: Collected, page_id: str | None = None) -> list[str]:
    return [finding.kind for finding in collected.findings if page_id in (None, finding.page_id)]


def versions(collected: Collected) -> dict[str, int]:
    return {page.page_id: page.version for page in collected.pages}


def html(store: Store, collected: Collected, page_id: str) -> str:
    page = next(page for page in collected.pages if page.page_id == page_id)
    return store.get_object(page.html_object).decode()


@pytest.fixture
def tree(space: FakeConfluence) -> FakeConfluence:
    space.write("0", "<p>home</p>", title="Home")
    space.write("1", "<h1>Purpose</h1><p>why</p>", title="Guideline", parent="0")
    space.write("2", "<h1>Labels</h1>", title="10. Late", parent="1")
    space.write("3", "<p>early</p>", title="2. Early", parent="1")
    space.write("4", "<p>deep</p>", title="Deep", parent="3")
    space.write("5", "<p>else</p>", title="Elsewhere", parent="0")
    return space


def approve_all(space: FakeConfluence) -> None:
    for page_id in ("1", "2", "3", "4"):
        space.set_state(page_id, "Verified")


def test_pages_come_in_tree_order_and_only_from_below_the_root(tree: FakeConfluence, store: Store) -> None:
    approve_all(tree)
    collected = collect(make_project(), tree, store, None)
    assert [(page.page_id, page.depth) for page in collected.pages] == [("1", 0), ("3", 1), ("4", 2), ("2", 1)]
    assert collected.order == ("1", "3", "4", "2")
    assert collected.findings == ()


def test_a_missing_root_names_what_is_near(tree: FakeConfluence, store: Store) -> None:
    project = make_project()
    tree.write("1", "<p>x</p>", title="Guidelines")
    with pytest.raises(InvalidInput, match=r"'Guideline'.*LAB.*near it: 'Guidelines'"):
        collect(project, tree, store, None)


def test_an_unchanged_space_costs_the_listing_and_nothing_else(tree: FakeConfluence, store: Store) -> None:
    for number in range(6, 306):
        tree.write(str(number), f"<p>{number}</p>", title=f"Page {number:03}", parent="1")
        tree.set_state(str(number), "Verified")
    approve_all(tree)
    sync = Sync(tree, store, make_project())
    first = sync.run()
    tree.reset()
    again = sync.run()
    assert tree.requests == Counter({"listing": 2, "descendants": 1})
    assert again.pages == first.pages
    assert again.seen == first.seen
    assert again.read == ()


@pytest.mark.parametrize(("mark", "cost"), [(LABEL, 1), (NUMBERED, 2), (ROW, 0)])
def test_an_unchanged_space_costs_no_request_per_page_under_any_mark(
    tree: FakeConfluence, store: Store, mark: dict[str, str], cost: int
) -> None:
    for page_id in ("1", "2", "3", "4"):
        tree.label(page_id, "approved")
        tree.label(page_id, "approved-v2")
        tree.write(page_id, "<p>text</p>" + details(("Status", "Approved")))
    tree.write("4", "<p>text</p>" + details(("Status", "Approved")))  # version 3
    sync = Sync(tree, store, make_project(mark))
    first = sync.run()
    assert len(first.pages) == 4
    tree.reset()
    assert sync.run().pages == first.pages
    assert tree.requests == Counter({"listing": 1, "descendants": 1, "label listing": cost}) + Counter()


def test_one_changed_page_costs_requests_for_that_page_only(tree: FakeConfluence, store: Store) -> None:
    approve_all(tree)
    sync = Sync(tree, store, make_project())
    sync.run()
    tree.write("3", "<p>newer</p>")
    tree.reset()
    assert sync.run().read == ("3",)
    assert tree.requests["page"] <= 2
    assert tree.requests["state"] == 1


# what the listing of pages does not join


def test_a_page_in_a_folder_is_part_of_the_guideline_at_the_folders_place(tree: FakeConfluence, store: Store) -> None:
    tree.shape("f", "5. Folder", parent="1")
    tree.shape("g", "Folder in it", parent="f")
    tree.write("6", "<p>kept</p>", title="Kept", parent="g")
    tree.shape("h", "Folder elsewhere", parent="0")
    tree.write("7", "<p>else</p>", title="Else", parent="h")
    approve_all(tree)
    tree.set_state("6", "Verified")
    collected = collect(make_project(), tree, store, None)
    assert [(page.page_id, page.depth) for page in collected.pages] == [
        ("1", 0),
        ("3", 1),
        ("4", 2),
        ("6", 1),
        ("2", 1),
    ]
    assert collected.findings == ()


def test_what_is_no_page_below_the_root_is_told(tree: FakeConfluence, store: Store) -> None:
    tree.shape("w", "Sketch", parent="3", kind="whiteboard")
    approve_all(tree)
    [finding] = collect(make_project(), tree, store, None).findings
    assert (finding.kind, finding.page_id) == ("no_page", "w")
    assert "whiteboard 'Sketch'" in finding.detail


def test_on_data_center_the_tree_below_is_asked_for_only_where_the_listing_has_gaps(
    tree: FakeConfluence, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree, "flavour", "datacenter")
    approve_all(tree)
    sync = Sync(tree, store, make_project())
    sync.run()
    assert tree.requests["descendants"] == 0
    tree.hide("3")
    assert "4" in {page.page_id for page in sync.run().pages}, "below a page that cannot be seen"
    assert tree.requests["descendants"] == 1


@pytest.mark.parametrize("known", [True, False], ids=["published before", "never seen"])
def test_a_page_that_the_account_may_not_see_stops_the_publication(
    tree: FakeConfluence, store: Store, known: bool
) -> None:
    approve_all(tree)
    sync = Sync(tree, store, make_project())
    if known:
        sync.run()
    tree.hide("3")
    collected = sync.run()
    assert [page.page_id for page in collected.pages] == ["1", "4", "2"]
    assert [(finding.kind, finding.page_id) for finding in collected.findings] == [("page_hidden", "3")]
    assert [row["row_id"] for row in rows(collected) if not row["readable"]] == ["3"]
    gate = run_suite(rows(collected), suite_for("guideline_pages", make_project()))
    assert gate.stopped


def test_a_page_that_was_deleted_for_good_is_left_out_once_a_person_says_so(tree: FakeConfluence, store: Store) -> None:
    approve_all(tree)
    sync = Sync(tree, store, make_project())
    sync.run()
    del tree.history["4"]
    seen = sync.seen
    assert kinds(sync.run()) == ["page_hidden"]
    assert kinds(collect(make_project(purged=["4"]), tree, store, seen)) == ["page_removed"]


def test_a_listing_of_the_tree_without_a_folder_that_is_there_is_not_believed(
    tree: FakeConfluence, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.shape("f", "Folder", parent="1")
    tree.write("6", "<p>kept</p>", title="Kept", parent="f")
    approve_all(tree)
    tree.set_state("6", "Verified")
    sync = Sync(tree, store, make_project())
    sync.run()
    monkeypatch.setattr(tree, "descendants", lambda page_id: [])
    with pytest.raises(Unavailable, match="lacks page 6, which is there"):
        sync.run()


# texts of other pages


def included(title: str, name: str = "include") -> str:
    page = f'<ac:link><ri:page ri:content-title="{title}"/></ac:link>'
    return f'<ac:structured-macro ac:name="{name}"><ac:parameter ac:name="">{page}</ac:parameter></ac:structured-macro>'


HIDDEN_EXCERPT = (
    '<ac:structured-macro ac:name="excerpt"><ac:parameter ac:name="hidden">true</ac:parameter>'
    "<ac:rich-text-body><p>short</p></ac:rich-text-body></ac:structured-macro>"
)


@pytest.mark.parametrize(
    ("body", "missing"),
    [
        (included("Deep"), False),
        (included("Deep", "excerpt-include"), False),
        (included("Elsewhere"), True),
        (included("Nowhere"), True),
        (included("2. Early", "excerpt-include"), True),
        (included("2. Early"), False),
    ],
    ids=[
        "inside",
        "excerpt of one inside",
        "outside",
        "nowhere",
        "excerpt hidden inside",
        "page with a hidden excerpt",
    ],
)
def test_an_included_text_must_be_published_with_the_guideline(
    tree: FakeConfluence, store: Store, body: str, missing: bool
) -> None:
    tree.write("2", "<p>see</p>" + body)
    tree.write("3", "<p>early</p>" + HIDDEN_EXCERPT)
    approve_all(tree)
    sync = Sync(tree, store, make_project())
    for collected in (sync.run(), sync.run()):
        assert ("include_missing" in kinds(collected, "2")) is missing
        batch = rows(collected)
        assert [row["includes_missing"] for row in batch if row["row_id"] == "2"] == [int(missing)]
        assert run_suite(batch, suite_for("guideline_pages", make_project())).stopped is missing


# content state


def test_the_state_is_bound_to_the_version_that_set_it(tree: FakeConfluence, store: Store) -> None:
    approve_all(tree)
    page = collect(make_project(), tree, store, None).pages[0]
    assert (page.version, page.approver, page.mark) == (2, "acc-greta", "state Verified")
    assert page.approved_at == tree.history["1"][1].version.created.isoformat()


def test_an_edit_after_the_approval_publishes_the_approved_text_and_says_so(tree: FakeConfluence, store: Store) -> None:
    approve_all(tree)
    sync = Sync(tree, store, make_project())
    before = sync.run()
    tree.write("3", "<p>edited later</p>")
    after = sync.run()
    assert kinds(after) == ["changed_since_approval"]
    assert after.pages == tuple(page if page.page_id != "3" else after.pages[1] for page in before.pages)
    assert (after.pages[1].version, after.pages[1].current_version) == (2, 3)
    assert "early" in html(store, after, "3")


def test_a_first_run_finds_the_approved_version_in_the_past(tree: FakeConfluence, store: Store) -> None:
    approve_all(tree)
    tree.write("3", "<p>edited later</p>", title="2. Renamed")
    collected = collect(make_project(), tree, store, None)
    assert kinds(collected) == ["changed_since_approval"]
    assert "early" in html(store, collected, "3")
    assert collected.pages[1].title == "2. Early"


def test_a_body_that_only_gained_a_comment_marker_is_still_approved(tree: FakeConfluence, store: Store) -> None:
    approve_all(tree)
    sync = Sync(tree, store, make_project())
    before = sync.run()
    tree.rewrite_in_place("3", '<p><ac:inline-comment-marker ac:ref="1">ear</ac:inline-comment-marker>ly</p>')
    assert sync.run().pages == before.pages
    tree.write("3", '<p local-id="x">early</p>')
    after = sync.run()
    assert after.findings == ()
    assert versions(after) == versions(before)


def test_a_state_set_again_approves_the_new_text(tree: FakeConfluence, store: Store) -> None:
    approve_all(tree)
    sync = Sync(tree, store, make_project())
    sync.run()
    tree.write("3", "<p>edited later</p>")
    sync.run()
    tree.set_state("3", "Verified", author="acc-hugo")
    after = sync.run()
    page = after.pages[1]
    assert (page.version, page.approver, after.findings) == (4, "acc-hugo", ())
    assert "edited later" in html(store, after, "3")


@pytest.mark.parametrize("state", [None, "In progress"])
def test_a_cleared_state_keeps_the_last_approved_text_and_is_reported(
    tree: FakeConfluence, store: Store, state: str | None
) -> None:
    approve_all(tree)
    sync = Sync(tree, store, make_project())
    sync.run()
    tree.set_state("3", state)
    tree.write("3", "<p>draft</p>")
    after = sync.run()
    assert kinds(after) == ["not_approved"]
    assert "its last approved version 2 is published" in after.findings[0].detail
    assert "early" in html(store, after, "3")
    assert kinds(sync.run()) == ["not_approved"], "a finding stays until somebody acts"


def test_a_page_that_was_never_approved_is_left_out_and_reported(tree: FakeConfluence, store: Store) -> None:
    for page_id in ("1", "2", "4"):
        tree.set_state(page_id, "Verified")
    collected = collect(make_project(), tree, store, None)
    assert versions(collected) == {"1": 2, "4": 2, "2": 2}
    assert [(page.page_id, page.depth) for page in collected.left_out] == [("3", 1)]
    assert kinds(collected) == ["not_approved"]


def test_a_state_without_a_time_approves_nothing(tree: FakeConfluence, store: Store) -> None:
    approve_all(tree)
    tree.states["3"] = replace(tree.states["3"], last_updated=None)
    assert kinds(collect(make_project(), tree, store, None)) == ["approval_time_unknown"]


@pytest.mark.parametrize(
    ("created", "updated", "expected"),
    [
        ([0, 600], 600, 2),
        ([0, 600], 601, 2),
        ([0, 600], 599, 2),
        ([0, 600, 602], 601, 2),
        ([0, 600, 601], 600, 2),
        ([0, 600, 1200], 900, 2),
        ([0, 600], 300, 1),
        ([0, 600, 602], 599, 2),
        ([600], 300, None),
    ],
    ids=str,
)
def test_the_version_that_set_a_state_is_found_by_time(created: list[int], updated: int, expected: int | None) -> None:
    versions = [PageVersion(n, START + timedelta(seconds=s), "acc-greta") for n, s in enumerate(created, 1)][::-1]
    state = ContentState(1, "Verified", "", START + timedelta(seconds=updated))
    found = state_version(state, versions)
    assert (found.number if found else None) == expected


# label


@pytest.fixture
def labelled(tree: FakeConfluence, store: Store) -> Sync:
    for page_id in ("1", "2", "3", "4"):
        tree.label(page_id, "approved")
    return Sync(tree, store, make_project(LABEL))


def test_a_label_is_bound_to_the_text_it_was_first_seen_on(labelled: Sync) -> None:
    page = labelled.run().pages[1]
    assert (page.version, page.approver, page.approved_at, page.mark) == (1, None, None, "label approved")
    labelled.space.write("3", "<p>changed under the label</p>")
    after = labelled.run()
    assert kinds(after) == ["changed_since_approval"]
    assert "early" in html(labelled.store, after, "3")


def test_a_label_taken_away_and_set_again_approves_the_new_text(labelled: Sync) -> None:
    labelled.run()
    labelled.space.write("3", "<p>new</p>")
    labelled.run()
    labelled.space.unlabel("3", "approved")
    absent = labelled.run()
    assert kinds(absent) == ["not_approved"]
    assert "early" in html(labelled.store, absent, "3")
    labelled.space.label("3", "approved")
    again = labelled.run()
    assert again.findings == ()
    assert versions(again)["3"] == 2
    assert "new" in html(labelled.store, again, "3")


def test_a_label_set_later_on_an_unchanged_page_is_noticed(labelled: Sync) -> None:
    labelled.space.unlabel("3", "approved")
    assert [page.page_id for page in labelled.run().left_out] == ["3"]
    labelled.space.label("3", "approved")
    assert versions(labelled.run())["3"] == 1


def test_a_label_can_name_its_version(tree: FakeConfluence, store: Store) -> None:
    sync = Sync(tree, store, make_project(NUMBERED))
    for page_id in ("1", "2", "3", "4"):
        tree.label(page_id, "approved-v1")
    tree.write("3", "<p>second</p>")
    first = sync.run()
    assert versions(first)["3"] == 1
    assert kinds(first) == ["changed_since_approval"]
    tree.label("3", "approved-v2")
    second = sync.run()
    assert (versions(second)["3"], second.findings) == (2, ())
    tree.write("3", "<p>third</p>")
    assert kinds(sync.run()) == ["changed_since_approval"]
    tree.unlabel("3", "approved-v2")
    third = sync.run()
    assert versions(third)["3"] == 1, "the older label still names the older text"


@pytest.mark.parametrize("index_says", [[], ["1", "2", "3", "4"]])
def test_a_search_that_lags_behind_neither_withdraws_nor_approves(
    labelled: Sync, monkeypatch: pytest.MonkeyPatch, index_says: list[str]
) -> None:
    truly_labelled = not index_says
    if not truly_labelled:
        labelled.space.unlabel("3", "approved")
    first = labelled.run()
    assert ("3" in versions(first)) is truly_labelled
    labelled.space.write("3", "<p>changed</p>")
    monkeypatch.setattr(labelled.space, "pages_with_label", lambda space, label: iter(index_says))
    lagging = labelled.run()
    assert kinds(lagging) == ["changed_since_approval" if truly_labelled else "not_approved"]
    monkeypatch.undo()
    assert kinds(labelled.run()) == kinds(lagging), "no new text was approved by the lag"


def test_an_edit_between_the_label_listing_and_the_reading_is_never_taken_for_approved(
    labelled: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = labelled.space.page

    def edited_meanwhile(page_id: str, *, version: int | None = None) -> object:
        if page_id == "3" and version is None:
            labelled.space.write("3", "<p>slipped in</p>")
        return read(page_id, version=version)

    monkeypatch.setattr(labelled.space, "page", edited_meanwhile)
    first = labelled.run()
    assert [page.page_id for page in first.left_out] == ["3"]
    assert kinds(first) == ["not_settled"]
    monkeypatch.undo()
    assert versions(labelled.run())["3"] == 2


# page properties


def approved(text: str, *more: tuple[str, str], status: str = "Approved") -> str:
    return f"<p>{text}</p>" + details(("Status", status), *more)


@pytest.fixture
def rowed(tree: FakeConfluence, store: Store) -> Sync:
    for page_id in ("1", "2", "4"):
        tree.write(page_id, approved(page_id))
    tree.write("3", approved("early"), author="acc-greta")
    return Sync(tree, store, make_project(ROW))


def test_a_row_is_bound_to_the_text_beside_it(rowed: Sync) -> None:
    page = rowed.run().pages[1]
    assert (page.version, page.approver, page.mark) == (2, "acc-greta", "property Status=Approved")
    rowed.space.write("3", approved("changed, rows as they were"))
    after = rowed.run()
    assert kinds(after) == ["changed_since_approval"]
    assert "early" in html(rowed.store, after, "3")


def test_a_row_that_changed_with_the_text_approves_anew(rowed: Sync) -> None:
    rowed.run()
    rowed.space.write("3", approved("second", ("Approved on", "2026-04-01")), author="acc-hugo")
    after = rowed.run()
    assert after.findings == ()
    assert (after.pages[1].version, after.pages[1].approver) == (3, "acc-hugo")


@pytest.mark.parametrize("look_between", [True, False])
def test_a_row_withdrawn_and_set_again_approves_the_new_text(rowed: Sync, look_between: bool) -> None:
    rowed.run()
    rowed.space.write("3", approved("second", status="Draft"))
    if look_between:
        between = rowed.run()
        assert kinds(between) == ["not_approved"]
        assert "early" in html(rowed.store, between, "3")
    rowed.space.write("3", approved("second"))
    after = rowed.run()
    assert (after.findings, after.pages[1].version) == ((), 4)


def test_a_first_run_over_a_draft_publishes_what_was_once_approved(rowed: Sync) -> None:
    rowed.space.write("3", approved("second", status="Draft"))
    first = rowed.run()
    assert kinds(first) == ["not_approved"]
    assert versions(first)["3"] == 2
    assert "early" in html(rowed.store, first, "3")


def test_an_edit_in_many_small_steps_is_measured_against_the_approved_text(rowed: Sync) -> None:
    rowed.run()
    for step in range(5):
        rowed.space.write("3", approved(f"step {step}"))
        after = rowed.run()
    assert kinds(after) == ["changed_since_approval"]
    assert versions(after)["3"] == 2
    rowed.space.write("3", approved("early"))
    assert rowed.run().findings == ()


# images, links, bad pages


def test_images_are_kept_by_digest_and_equal_names_do_not_collide(tree: FakeConfluence, store: Store) -> None:
    for page_id, content in (("1", PNG), ("3", PNG + b"other")):
        tree.write(page_id, PICTURE)
        tree.attach(page_id, "chart.png", content)
    approve_all(tree)
    collected = collect(make_project(), tree, store, None)
    one, other = collected.pages[0].images[0], collected.pages[1].images[0]
    assert one.filename == other.filename == "chart.png"
    assert one.name != other.name
    assert store.get_object(one.sha256) == PNG
    assert f"images/{one.name}" in html(store, collected, "1")
    assert tree.requests["attachments"] == 2, "pages without images are not asked for attachments"


@pytest.mark.parametrize(
    ("content", "size", "kind"),
    [
        (PNG + b"x" * 2048, None, "image_too_large"),
        (PNG + b"x" * 2048, 10, "image_too_large"),
        (b"<svg onload='x'/>", None, "image_type"),
    ],
)
def test_an_image_that_is_too_large_or_no_image_is_refused(
    tree: FakeConfluence, store: Store, content: bytes, size: int | None, kind: str
) -> None:
    tree.write("3", PICTURE)
    tree.attach("3", "chart.png", content, size=size)
    approve_all(tree)
    collected = collect(make_project(max_image_kilobytes=1), tree, store, None)
    assert sorted(kinds(collected)) == sorted(["unresolved_image", kind])
    assert collected.pages[1].images == ()
    row = rows(collected)[1]
    assert row["images_unresolved"] == 1
    if kind == "image_too_large":
        assert row["largest_image_kilobytes"] > 1


def test_an_image_of_another_page_is_found_there(tree: FakeConfluence, store: Store) -> None:
    tree.write(
        "3",
        '<ac:image><ri:attachment ri:filename="chart.png">'
        '<ri:page ri:content-title="Elsewhere"/></ri:attachment></ac:image>',
    )
    tree.attach("5", "chart.png")
    approve_all(tree)
    assert collect(make_project(), tree, store, None).findings == ()


def test_links_go_inside_the_guideline_where_they_can(tree: FakeConfluence, store: Store) -> None:
    link = '<ac:link><ri:page ri:content-title="{}"/></ac:link>'
    tree.write("1", link.format("Deep") + link.format("Elsewhere") + link.format("Nowhere"))
    approve_all(tree)
    collected = collect(make_project(), tree, store, None)
    shown = html(store, collected, "1")
    assert 'href="#page-4"' in shown
    assert 'href="https://wiki.example/pages/5"' in shown
    assert kinds(collected) == ["unresolved_link"]


def test_a_page_that_cannot_be_read_keeps_its_last_text_and_stops_nobody(tree: FakeConfluence, store: Store) -> None:
    approve_all(tree)
    sync = Sync(tree, store, make_project())
    sync.run()
    tree.write("3", "<p>broken")
    tree.set_state("3", "Verified")
    tree.write("2", "<h1>Labels</h1><p>new</p>")
    tree.set_state("2", "Verified")
    after = sync.run()
    assert kinds(after) == ["unreadable"]
    assert "line 1" in after.findings[0].detail
    assert "early" in html(store, after, "3")
    assert "new" in html(store, after, "2")
    tree.reset()
    assert kinds(sync.run()) == ["unreadable"]
    assert tree.requests == Counter({"listing": 1, "descendants": 1})
    tree.write("3", "<p>mended</p>")
    tree.set_state("3", "Verified")
    mended = sync.run()
    assert mended.findings == ()
    assert "mended" in html(store, mended, "3")


def test_a_broken_draft_over_an_approved_text_publishes_the_approved_one_at_first_sight(
    tree: FakeConfluence, store: Store
) -> None:
    approve_all(tree)
    tree.write("3", "<p>broken")
    first = collect(make_project(), tree, store, None)
    assert kinds(first) == ["unreadable"]
    assert "early" in html(store, first, "3")


def test_a_page_gone_between_listing_and_reading_is_looked_at_again(
    tree: FakeConfluence, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    approve_all(tree)
    sync = Sync(tree, store, make_project())
    read = tree.page

    def lost(page_id: str, *, version: int | None = None) -> object:
        if page_id == "3":
            raise NotFound("no page 3", system="confluence", status=404)
        return read(page_id, version=version)

    monkeypatch.setattr(tree, "page", lost)
    monkeypatch.setattr(tree, "pages", lambda ids: [])
    assert kinds(sync.run()) == ["not_settled"]
    monkeypatch.undo()
    assert sync.run().findings == ()


def test_a_page_moved_away_is_reported_once(tree: FakeConfluence, store: Store) -> None:
    approve_all(tree)
    sync = Sync(tree, store, make_project())
    sync.run()
    tree.history["2"][-1] = replace(tree.history["2"][-1], parent_id="0")
    assert kinds(sync.run()) == ["page_removed"]
    assert kinds(sync.run()) == []


def test_a_lost_rendering_is_made_again(tree: FakeConfluence, store: Store) -> None:
    approve_all(tree)
    sync = Sync(tree, store, make_project())
    first = sync.run()
    store.object_path(first.pages[1].html_object).unlink()
    assert sync.run().pages == first.pages
    assert "early" in html(store, first, "3")


def test_another_renderer_renders_again_and_approves_nothing_new(
    tree: FakeConfluence, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    approve_all(tree)
    sync = Sync(tree, store, make_project())
    first = sync.run()
    tree.write("3", "<p>later</p>")
    monkeypatch.setattr("include.guidelines.sync.RENDERER", 99)
    again = sync.run()
    assert again.read == ("1", "3", "4", "2")
    assert versions(again) == versions(first)
    sync.run()  # looks once more at the version that nobody approved
    tree.reset()
    sync.run()
    assert tree.requests == Counter({"listing": 1, "descendants": 1})


def test_a_state_that_was_read_too_early_is_read_again(
    tree: FakeConfluence, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Setting a state makes a version; a stale answer about the state must not stand for ever."""
    approve_all(tree)
    sync = Sync(tree, store, make_project())
    sync.run()
    tree.write("3", "<p>later</p>")
    tree.set_state("3", "Verified")
    with monkeypatch.context() as stale:
        stale.setattr(tree, "content_state", lambda page_id: None)
        early = sync.run()
    assert "early" in html(store, early, "3"), "what was approved before is served meanwhile"
    late = sync.run()
    assert "later" in html(store, late, "3")


def test_a_version_that_nobody_approved_is_looked_at_twice_and_no_more(tree: FakeConfluence, store: Store) -> None:
    approve_all(tree)
    sync = Sync(tree, store, make_project())
    sync.run()
    tree.write("3", "<p>later</p>")
    looks = []
    for _ in range(4):
        tree.reset()
        sync.run()
        looks.append(tree.requests["state"])
    assert looks == [1, 1, 0, 0]
    tree.set_state("3", "Verified")
    assert "later" in html(store, sync.run(), "3")


def test_a_long_history_is_followed_so_far_and_no_further(rowed: Sync, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("include.guidelines.approval.HISTORY_LIMIT", 3)
    for step in range(6):
        rowed.space.write("3", approved("late") if step > 2 else approved(f"step {step}"))
    first = rowed.run()
    assert kinds(first) == ["history_too_long"]
    assert versions(first)["3"] == 6


def test_another_mark_trusts_no_approval_of_the_old_one(tree: FakeConfluence, store: Store) -> None:
    approve_all(tree)
    seen = collect(make_project(), tree, store, None).seen
    assert collect(make_project(LABEL), tree, store, seen).pages == ()


def test_a_space_made_anew_under_its_key_is_found(tree: FakeConfluence, store: Store) -> None:
    approve_all(tree)
    seen = collect(make_project(), tree, store, None).seen
    seen["space"]["id"] = "12"
    assert len(collect(make_project(), tree, store, seen).pages) == 4


def test_a_cycle_of_parents_ends(space: FakeConfluence, store: Store) -> None:
    space.write("1", "<p>a</p>", title="Guideline", parent="2")
    space.write("2", "<p>b</p>", title="B", parent="1")
    assert collect(make_project(), space, store, None).order == ("1", "2")


# the gate's batch


def test_rows_name_missing_sections_on_the_root_and_count_the_rest(tree: FakeConfluence, store: Store) -> None:
    tree.write("2", "<h1>labels</h1>" + PICTURE + '<ac:structured-macro ac:name="jira"/>')
    for page_id in ("1", "2", "4"):
        tree.set_state(page_id, "Verified")
    project = make_project(STATE, required_sections=["Purpose", "Labels", "Edge cases", "Sources"])
    batch = rows(collect(project, tree, store, None))
    assert [row["row_id"] for row in batch] == ["1", "3", "4", "2"]
    assert (batch[0]["sections_missing"], batch[0]["sections_missing_count"]) == ("Edge cases, Sources", 2)
    assert [row["sections_missing_count"] for row in batch[1:]] == [0, 0, 0]
    assert [row["approved"] for row in batch] == [True, False, True, True]
    assert (batch[3]["images_unresolved"], batch[3]["unknown_macros"]) == (1, 1)
    assert batch[1]["text_characters"] == 0
    assert batch[0]["text_characters"] == len("Purpose why")
    assert json.loads(json.dumps(batch)) == batch
