"""Listings of what changed since: nothing missed, nothing twice without a reason, states of the future refused."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.base.errors import InvalidInput
from include.systems import listing
from include.systems.listing import Changes

START = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
NOW = START + timedelta(days=1)
OF = "changes of things"
Thing = tuple[str, datetime]


class World:
    """Things with the time of their last change."""

    def __init__(self, newest_first: bool) -> None:
        self.things: dict[str, datetime] = {}
        self.newest_first = newest_first
        self.asked: list[datetime | None] = []

    def since(self, moment: datetime | None) -> Iterable[Thing]:
        self.asked.append(moment)
        found = [(name, at) for name, at in self.things.items() if moment is None or at >= moment]
        return sorted(found, key=lambda thing: (thing[1], thing[0]), reverse=self.newest_first)

    def changes(self, resume: str | None = None, now: datetime = NOW) -> Changes[Thing]:
        return Changes(
            OF,
            self.since,
            lambda thing: thing[0],
            lambda thing: thing[1],
            newest_first=self.newest_first,
            resume=resume,
            now=lambda: now,
        )


minutes = st.integers(0, 90)
things = st.dictionaries(st.sampled_from("abcdefgh"), minutes.map(lambda n: START + timedelta(minutes=n)))


@given(things, st.booleans())
def test_from_every_state_the_rest_comes(made: dict[str, datetime], newest_first: bool) -> None:
    world = World(newest_first)
    world.things = made
    whole = list(world.changes())
    assert sorted(whole) == sorted(made.items())
    reader = world.changes()
    states = [reader.state]
    for _ in reader:
        states.append(reader.state)
    for number, state in enumerate(states):
        assert whole[:number] + list(world.changes(state)) == whole
    assert list(world.changes(reader.state)) == []


@given(
    things, st.booleans(), st.lists(st.tuples(st.sampled_from("abcdefghij"), st.integers(0, 9)), max_size=8), st.data()
)
def test_what_changes_during_and_after_a_pass_is_seen(
    made: dict[str, datetime], newest_first: bool, later: list[tuple[str, int]], data: st.DataObject
) -> None:
    world = World(newest_first)
    world.things = dict(made)
    reader = world.changes()
    seen: list[Thing] = []
    for _ in range(data.draw(st.integers(0, len(made)))):
        seen.append(next(reader))
    clock = START + timedelta(minutes=91)
    for name, pause in later:
        clock += timedelta(minutes=pause, seconds=1)
        world.things[name] = clock
    # Killed there, taken up, read to the end, and once more.
    reader = world.changes(reader.state)
    seen += list(reader)
    again = world.changes(reader.state)
    seen += list(again)
    last = dict(sorted(seen, key=lambda thing: thing[1]))
    assert last == world.things
    assert len(seen) == len(set(seen)), "the same change came twice"
    assert list(world.changes(again.state)) == []


@pytest.mark.parametrize("newest_first", [False, True])
def test_an_entry_that_shows_late_is_seen(newest_first: bool) -> None:
    world = World(newest_first)
    world.things = {"a": START, "b": START + timedelta(minutes=20)}
    reader = world.changes()
    assert len(list(reader)) == 2
    world.things["late"] = START + timedelta(minutes=12)
    assert list(world.changes(reader.state)) == [("late", START + timedelta(minutes=12))]
    assert world.asked[-1] == START + timedelta(minutes=10)


def test_the_state_stays_small() -> None:
    world = World(True)
    world.things = {f"{number:06}": START + timedelta(seconds=number) for number in range(5_000)}
    reader = world.changes()
    for _ in range(4_000):
        next(reader)
    # The names of ten minutes, twice at most, not those of everything that was read.
    assert len(reader.state) < 2 * 600 * 60


def test_a_state_of_the_future_is_refused() -> None:
    world = World(False)
    world.things = {"a": START + timedelta(days=2)}
    reader = world.changes(now=START + timedelta(days=2))
    list(reader)
    with pytest.raises(InvalidInput, match="in the future"):
        world.changes(reader.state)


@pytest.mark.parametrize("place", ["", "7", "[]", "{}", '{"since": "yesterday"}', '{"since": "2026-11-02T09:00:00"}'])
def test_nonsense_is_refused(place: str) -> None:
    state = json.dumps({"format": 1, "of": OF, "place": place, "last": None, "done": True})
    with pytest.raises(InvalidInput, match="no times of changes"):
        World(False).changes(state)


@pytest.mark.parametrize("newest_first", [True, False])
def test_many_changes_within_the_overlap_cost_no_more_each(newest_first: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state names all of them, so it is written when it is asked for and not with each."""
    written: list[str] = []
    write = listing._Marks.text
    monkeypatch.setattr(listing._Marks, "text", lambda *of: written.append(write(*of)) or written[-1])
    world = World(newest_first)
    world.things = {f"thing {number}": START + timedelta(milliseconds=number) for number in range(500)}
    changes = world.changes()
    assert sum(1 for _ in changes) == 500
    assert written == []
    assert list(world.changes(changes.state)) == []
    assert len(written) == 1
