from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lxml import html as reader

from include.base.errors import InvalidInput, Refused
from include.base.store import Store
from include.guidelines import release as releases
from include.guidelines.release import current, publish, release_digest, verify
from include.guidelines.sync import Collected, collect
from tests.guidelines.conftest import Sync, make_project
from tests.guidelines.fake_confluence import FakeConfluence

PICTURE = '<ac:image><ri:attachment ri:filename="chart.png"/></ac:image>'
HOME = ("publications", "topics", "guidelines")


@pytest.fixture
def sync(space: FakeConfluence, store: Store) -> Sync:
    link = '<ac:link><ri:page ri:content-title="Labels"/></ac:link>'
    space.write("1", f"<h1>Purpose</h1><p>why, see {link}</p>{PICTURE}", title="Guideline")
    space.write("2", "<h1>Billing</h1><p>money</p>", title="Labels", parent="1")
    space.attach("1", "chart.png")
    space.set_state("1", "Verified")
    space.set_state("2", "Verified")
    return Sync(space, store, make_project())


def tree_of(store: Store) -> dict[str, bytes]:
    root = Path(store.root)
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def edit(sync: Sync, page_id: str, body: str) -> Collected:
    sync.space.write(page_id, body)
    sync.space.set_state(page_id, "Verified")
    return sync.run()


def test_a_release_holds_all_that_prodigy_needs(sync: Sync) -> None:
    collected = sync.run()
    done = publish(sync.store, sync.project, collected)
    assert (done.number, done.created, done.changed_pages, done.previous) == (1, True, ["1", "2"], None)
    assert done.path.name == f"0001-{done.digest[:12]}"
    assert done.digest == release_digest(sync.project, collected)
    image = collected.pages[0].images[0].name
    assert {str(path.relative_to(done.path)) for path in done.path.rglob("*") if path.is_file()} == {
        "guidelines.html",
        "labels.txt",
        "prodigy.json",
        "release.json",
        f"images/{image}",
    }
    assert (done.path / "labels.txt").read_text() == "billing\ndelivery\n"
    config = json.loads((done.path / "prodigy.json").read_text())
    assert config["instructions"] == str(done.path / "guidelines.html")
    assert config["labels"] == ["billing", "delivery"]
    assert set(config["custom_theme"]["labels"]) == {"billing", "delivery"}
    assert config["labelops"]["guideline"] == done.digest
    record = json.loads((done.path / "release.json").read_text())
    assert [(page["id"], page["version"], page["approver"], page["mark"]) for page in record["pages"]] == [
        ("1", 2, "acc-greta", "state Verified"),
        ("2", 2, "acc-greta", "state Verified"),
    ]
    assert verify(sync.store, "topics", done.path.name) == []


def test_the_document_stands_alone(sync: Sync) -> None:
    done = publish(sync.store, sync.project, sync.run())
    page = reader.fromstring((done.path / "guidelines.html").read_bytes())
    assert page.findtext(".//title") == "Ticket topics: guideline"
    assert [item.text for item in page.iter("h2")] == ["Contents", "Guideline", "Labels", "Approved versions"]
    targets = {element.get("id") for element in page.iter() if element.get("id")}
    for link in page.iter("a"):
        assert link.get("href", "").removeprefix("#") in targets
    for picture in page.iter("img"):
        assert picture.get("src", "").startswith("data:image/png;base64,")
    assert not list(page.iter("script", "link", "iframe"))
    assert done.digest in page.text_content()


def test_a_second_publication_of_the_same_writes_nothing(sync: Sync) -> None:
    publish(sync.store, sync.project, sync.run())
    before = tree_of(sync.store)
    again = publish(sync.store, sync.project, sync.run())
    assert (again.number, again.created, again.changed_pages) == (1, False, [])
    assert tree_of(sync.store) == before


def test_a_change_makes_the_next_number_and_keeps_the_old_release(sync: Sync) -> None:
    first = publish(sync.store, sync.project, sync.run())
    old = {name: content for name, content in tree_of(sync.store).items() if "0001-" in name}
    second = publish(sync.store, sync.project, edit(sync, "2", "<h1>Billing</h1><p>more money</p>"))
    assert (second.number, second.changed_pages, second.previous) == (2, ["2"], first.digest)
    assert {name: content for name, content in tree_of(sync.store).items() if "0001-" in name} == old
    found = current(sync.store, "topics")
    assert found is not None
    assert (found.number, found.digest, found.path) == (2, second.digest, second.path)
    assert json.loads((second.path / "release.json").read_text())["previous"] == first.digest


def test_labels_alone_make_a_new_release(sync: Sync) -> None:
    collected = sync.run()
    publish(sync.store, sync.project, collected)
    annotation = {"interface": "choice", "labels": ["billing", "delivery", "other"]}
    project = type(sync.project).model_validate({**sync.project.model_dump(), "annotation": annotation})
    second = publish(sync.store, project, collected)
    assert (second.number, second.changed_pages) == (2, [])


def test_a_removed_page_counts_as_changed_and_links_to_it_end(sync: Sync) -> None:
    from dataclasses import replace

    publish(sync.store, sync.project, sync.run())
    sync.space.write("9", "<p>x</p>", title="Attic")
    sync.space.history["2"][-1] = replace(sync.space.history["2"][-1], parent_id="9")
    second = publish(sync.store, sync.project, sync.run())
    assert second.changed_pages == ["2"]
    shown = (second.path / "guidelines.html").read_text()
    assert "#page-2" not in shown
    assert "Labels</a>" in shown


def test_going_back_to_an_old_text_points_to_its_release_again(sync: Sync) -> None:
    collected = sync.run()
    first = publish(sync.store, sync.project, collected)
    publish(sync.store, sync.project, edit(sync, "2", "<p>other</p>"))
    back = publish(sync.store, sync.project, collected)
    assert (back.number, back.path, back.created) == (1, first.path, True)
    assert verify(sync.store, "topics", back.path.name) == []


class Killed(BaseException):
    pass


def outcome(store: Store) -> dict[str, bytes]:
    return {name: content for name, content in tree_of(store).items() if name.startswith("publications/")}


@pytest.mark.parametrize("writes", range(6))
def test_p3_a_killed_publication_ends_like_one_that_was_not(
    sync: Sync, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    collected = sync.run()
    done = 0
    write = releases.atomic_write

    def dying(path: Any, content: bytes) -> None:
        nonlocal done
        if done == writes:
            raise Killed
        done += 1
        write(path, content)

    monkeypatch.setattr(releases, "atomic_write", dying)
    monkeypatch.setattr("include.base.store.atomic_write", dying)
    with pytest.raises(Killed):
        publish(sync.store, sync.project, collected)
    assert current(sync.store, "topics") is None, "the pointer comes last"
    monkeypatch.undo()
    finished = publish(sync.store, sync.project, collected)
    assert (finished.number, finished.created) == (1, True)
    assert verify(sync.store, "topics", finished.path.name) == []
    after_the_kill = outcome(sync.store)
    import shutil

    shutil.rmtree(sync.store.at(*HOME))
    publish(sync.store, sync.project, collected)
    assert outcome(sync.store) == after_the_kill


def test_a_folder_left_half_done_keeps_its_number(sync: Sync, monkeypatch: pytest.MonkeyPatch) -> None:
    collected = sync.run()

    def dies(path: Any, content: bytes) -> None:
        if path.name == "release.json":
            raise Killed
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    monkeypatch.setattr(releases, "atomic_write", dies)
    with pytest.raises(Killed):
        publish(sync.store, sync.project, collected)
    monkeypatch.undo()
    second = publish(sync.store, sync.project, edit(sync, "2", "<p>changed meanwhile</p>"))
    assert second.number == 2
    with pytest.raises(InvalidInput, match="never finished"):
        verify(sync.store, "topics", f"0001-{release_digest(sync.project, collected)[:12]}")


def test_verify_finds_what_was_changed_removed_or_added(sync: Sync) -> None:
    done = publish(sync.store, sync.project, sync.run())
    (done.path / "labels.txt").write_text("billing\n")
    (done.path / "prodigy.json").unlink()
    (done.path / "extra.txt").write_text("x")
    record = json.loads((done.path / "release.json").read_text())
    record["substance"]["labels"] = ["billing"]
    (done.path / "release.json").write_text(json.dumps(record))
    problems = verify(sync.store, "topics", done.path.name)
    assert [problem.split(":")[0] for problem in problems] == [
        "release.json",
        "labels.txt",
        "prodigy.json",
        "extra.txt",
    ]


def test_nothing_approved_is_refused(space: FakeConfluence, store: Store) -> None:
    space.write("1", "<p>x</p>", title="Guideline")
    project = make_project()
    with pytest.raises(Refused, match="1 left out"):
        publish(store, project, collect(project, space, store, None))


def test_a_malformed_pointer_is_named(sync: Sync) -> None:
    publish(sync.store, sync.project, sync.run())
    (sync.store.at(*HOME) / "current.json").write_text('{"release": "../../etc", "number": 1, "digest": "x"}')
    with pytest.raises(InvalidInput, match=r"current\.json"):
        current(sync.store, "topics")


def test_text_that_looks_like_our_markup_stays_text(space: FakeConfluence, store: Store) -> None:
    text = '&lt;img src="images/0123456789abcdef.png"&gt; &lt;a href="#page-77"&gt; src="images/0123456789abcdef.png"'
    space.write("1", f"<p>{text}</p>", title="Guideline")
    space.set_state("1", "Verified")
    project = make_project()
    done = publish(store, project, collect(project, space, store, None))
    shown = reader.fromstring((done.path / "guidelines.html").read_bytes()).text_content()
    assert '<img src="images/0123456789abcdef.png"> <a href="#page-77"> src="images/0123456789abcdef.png"' in shown
