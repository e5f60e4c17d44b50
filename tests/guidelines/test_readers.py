"""Changed pages read side by side: the same result, the same error, never more at once than allowed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from include.base.errors import InvalidInput, Unavailable
from include.base.store import Store
from include.guidelines.sync import collect
from include.systems.confluence.values import Attachment, Page
from tests.guidelines.conftest import make_project
from tests.guidelines.fake_confluence import FakeConfluence

REFERENCE = '<ri:attachment ri:filename="chart.png"><ri:page ri:content-title="Guideline"/></ri:attachment>'
PICTURE = f"<ac:image>{REFERENCE}</ac:image>"


class SlowConfluence(FakeConfluence):
    """Answers late or with an error, and notes how many ask at once."""

    def __init__(self) -> None:
        super().__init__()
        self.broken: dict[str, float] = {}
        self.begun: list[str] = []
        self.at_once = self.most = 0
        self._lock = threading.Lock()

    def page(self, page_id: str, *, version: int | None = None) -> Page:
        with self._lock:
            self.begun.append(page_id)
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        try:
            time.sleep(self.broken.get(page_id, 0.002))
            if page_id in self.broken:
                raise Unavailable(f"page {page_id}: no reply", system="confluence")
            with self._lock:
                return super().page(page_id, version=version)
        finally:
            with self._lock:
                self.at_once -= 1

    def attachments(self, page_id: str) -> Iterator[Attachment]:
        time.sleep(0.02)
        return super().attachments(page_id)


def space(pages: int = 40) -> SlowConfluence:
    found = SlowConfluence()
    found.write("1", "<h1>Purpose</h1>", title="Guideline")
    found.attach("1", "chart.png")
    for number in range(2, pages + 1):
        # Every third page has the same text, and so the same object in the store.
        found.write(str(number), f"<p>{number % 3 or 'same'}</p>" + PICTURE, title=f"Page {number}", parent="1")
    for number in range(1, pages + 1):
        found.set_state(str(number), "Verified")
    return found


def test_any_number_of_readers_finds_the_same(tmp_path: Path) -> None:
    found = space()
    alone = collect(make_project(), found, Store(tmp_path / "one"), None, readers=1)
    asked = found.requests.copy()
    assert found.most == 1
    found.requests.clear()
    together = collect(make_project(), found, Store(tmp_path / "eight"), None, readers=8)
    assert together == alone
    assert found.requests == asked
    assert found.requests["attachments"] == 1
    assert found.requests["pages"] == 2
    assert 1 < found.most <= 8


def test_the_first_page_in_tree_order_gives_the_error(tmp_path: Path) -> None:
    found = space()
    found.broken = {"3": 0.1, "5": 0.0}
    with pytest.raises(Unavailable, match="page 3"):
        collect(make_project(), found, Store(tmp_path), None, readers=8)
    assert found.at_once == 0


def test_after_an_error_no_further_page_is_begun(tmp_path: Path) -> None:
    found = space(200)
    found.broken = {"2": 0.0}
    with pytest.raises(Unavailable, match="page 2"):
        collect(make_project(), found, Store(tmp_path), None, readers=4)
    assert len(set(found.begun)) < 50


def test_no_readers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="readers: found 0"):
        collect(make_project(), space(1), Store(tmp_path), None, readers=0)


def test_what_the_bulk_reading_refuses_is_asked_for_page_by_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = space()
    whole = collect(make_project(), found, Store(tmp_path / "one"), None)

    def refused(ids: list[str]) -> Iterator[Page]:
        raise InvalidInput("one of them has no storage format")

    monkeypatch.setattr(found, "pages", refused)
    assert collect(make_project(), found, Store(tmp_path / "two"), None) == whole


def test_an_approved_version_known_from_before_is_not_read_again(tmp_path: Path) -> None:
    found = space(3)
    store, project = Store(tmp_path), make_project()
    seen = collect(project, found, store, None).seen
    for page_id in ("1", "2", "3"):
        found.write(page_id, "<p>edited</p>")
    found.begun.clear()
    collected = collect(project, found, store, seen)
    assert [page.version for page in collected.pages] == [2, 2, 2]
    assert found.begun == []
