"""A sequence of writes with faults at every request, by seed: tried again, it comes to the same end as without any."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from include.base.errors import InvalidReply, OutsideError, RateLimited, Unavailable
from include.sandbox.http import Fault, Request, json_reply
from include.systems.confluence.values import Restriction
from tests.systems.confluence.site import SERVICE, Site, make, running

KINDS = ("reset_before", "reset_after", "truncate", "garbage", "429", "503", "500")
SHARE = 0.25
TRIES = 60
SECRET = "<p>Secret words</p>"
RULES = [Restriction("read", (SERVICE.account_id,)), Restriction("update", (SERVICE.account_id,))]


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with running(monkeypatch) as site:
        yield site


class Weather(list[Fault]):
    """Faults that come by chance; each request asks for one."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.chance = random.Random(seed)
        self.on = True
        self.hits: list[str] = []

    def __iter__(self) -> Iterator[Fault]:
        if self.on and self.chance.random() < SHARE:
            kind = self.chance.choice(KINDS)
            self.hits.append(kind)
            yield self.fault(kind)

    def fault(self, kind: str) -> Fault:
        def always(request: Request) -> bool:
            return True

        if kind == "429":
            return Fault(always, "status", reply=json_reply({"message": "Rate limit exceeded"}, 429))
        if kind.isdigit():
            return Fault(always, "status", reply=json_reply({"message": "failing"}, int(kind)))
        return Fault(always, kind)


def again(step: Callable[[], Any]) -> Any:
    """Do a step until it comes through, as a task that is tried again."""
    for _ in range(TRIES):
        try:
            return step()
        except (Unavailable, InvalidReply, RateLimited):
            continue
    raise AssertionError("it never came through")


@pytest.mark.off_contract
@pytest.mark.parametrize("seed", range(1, 13))
def test_whatever_goes_wrong_everything_is_there_once(site: Site, seed: int) -> None:
    calm = site.client(extra={"requests_per_second": 0})
    space = calm.space("DS").id
    read = make(calm, "Written")
    calm.add_label(read.id, "old")
    weather = site.stand_in.app.faults = Weather(seed)

    def client() -> Any:
        # Another process each time: nothing is remembered.
        return site.client(extra={"requests_per_second": 0})

    page = again(lambda: client().create_restricted_page(space, "Restricted", SECRET, RULES))
    written = again(lambda: client().update_page(read, body="<p>Two</p>"))
    again(lambda: client().upload(written.id, "a.bin", b"bytes", "application/octet-stream"))
    again(lambda: client().set_property(written.id, "k", {"n": 1}, None))
    again(lambda: client().add_label(written.id, "new"))
    again(lambda: client().remove_label(written.id, "old"))
    again(lambda: client().set_restrictions(written.id, RULES))
    weather.on = False

    assert weather.hits, "the seed brings no fault"
    assert [item.title for item in calm.pages_in_space(space)].count("Restricted") == 1
    now = calm.page(page.id)
    assert (now.body, now.version.number, calm.restrictions(page.id).own) == (SECRET, 2, tuple(RULES))
    now = calm.page(read.id)
    assert (now.body, now.version.number) == ("<p>Two</p>", 2)
    assert [(item.title, item.version) for item in calm.attachments(read.id)] == [("a.bin", 1)]
    assert [(item.key, item.version) for item in calm.properties(read.id)] == [("k", 1)]
    assert calm.labels(read.id) == ["new"]
    assert calm.restrictions(read.id).own == tuple(RULES)


@pytest.mark.off_contract
@pytest.mark.parametrize("seed", range(6))
def test_lists_are_taken_up_where_they_broke_off(site: Site, seed: int) -> None:
    calm = site.client(extra={"requests_per_second": 0})
    space = calm.space("DS").id
    with site.stand_in.database.transaction():
        for number in range(900):
            site.stand_in._insert_page(int(space), f"Page {number}", "<p />", None, SERVICE.account_id)
    whole = [page.id for page in calm.pages_in_space(space)]
    weather = site.stand_in.app.faults = Weather(seed)
    seen: list[str] = []
    changed: set[str] = set()
    for name, into in (("pages_in_space", seen.append), ("changed_pages", changed.add)):
        state: str | None = None
        for _ in range(TRIES):
            listing = getattr(site.client(extra={"requests_per_second": 0}), name)(space, resume=state)
            try:
                for page in listing:
                    into(page.id)
                    state = listing.state
            except OutsideError:
                continue
            break
        assert listing.complete
    weather.on = False
    assert seen == whole
    assert changed == set(whole)
