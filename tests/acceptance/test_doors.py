"""One acceptance suite for all doors: the questions that the certification of a connector asks, to every hook."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from include.base.errors import AuthError, InvalidInput, LabelopsError
from include.settings import ROOT
from include.systems.listing import Listing
from tests.acceptance.doors import DOORS, Door

THINGS = 8
WITHOUT = {("prodigy sqlite", wrong) for wrong in ("secret", "scope")}
"""A file has neither a password nor accounts; tests/hooks tries one that may not be written."""
INCREMENTAL = [name for name in DOORS if name != "opentext"]
"""Workflow Service has no list of changes: what ended is asked for by time, and asked again."""


@pytest.fixture(params=list(DOORS))
def door(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    made = DOORS[request.param](request, monkeypatch)
    yield made
    made.close()


@pytest.fixture
def filled(door: Door) -> Door:
    door.fill(THINGS)
    return door


def states(listing: Listing[Any]) -> tuple[list[Any], list[str]]:
    """Read a listing; return its items and the state before, between and after them."""
    items, found = [], [listing.state]
    for item in listing:
        items.append(item)
        found.append(listing.state)
    return items, found


# --- connecting ----------------------------------------------------------------------------------------------------


def test_connects(filled: Door) -> None:
    worked, said = filled.hook().test_connection()
    assert worked, said
    assert len(said) > 10


@pytest.mark.parametrize(
    ("door", "wrong"),
    [(name, wrong) for name in DOORS for wrong in ("host", "secret") if (name, wrong) not in WITHOUT],
    indirect=["door"],
)
def test_fails_clearly(filled: Door, wrong: str) -> None:
    hook = filled.hook(wrong=wrong)
    worked, said = hook.test_connection()
    assert not worked
    assert said.startswith(filled.speaks_as), "the message does not say which system it is about"
    with pytest.raises(filled.errors[wrong]) as caught:
        list(filled.all(filled.hook(wrong=wrong)))
    assert isinstance(caught.value, LabelopsError)


@pytest.mark.parametrize("door", [name for name in DOORS if (name, "scope") not in WITHOUT], indirect=True)
def test_a_missing_right_is_named(filled: Door) -> None:
    hook = filled.hook(wrong="scope")
    with pytest.raises(AuthError) as caught:
        filled.beyond_rights(hook)
    assert filled.right_word in str(caught.value)


def test_is_lazy(door: Door) -> None:
    """A hook for a system that is not there can be made; only its use fails."""
    door.hook(wrong="host")


def test_declares_what_it_needs(door: Door) -> None:
    needs = door.requirements()
    assert needs
    said = (ROOT / "docs" / "data-engineer.md").read_text("utf-8").replace("`", "").replace("\n", " ")
    for need in needs:
        kind, _, name = need.partition(": ")
        assert kind in {"right", "scope"}
        assert name.replace("`", "") in said, f"docs/data-engineer.md does not say {name!r}"


# --- reading -------------------------------------------------------------------------------------------------------


def test_reads_what_is_there_complete_and_typed(filled: Door) -> None:
    listing = filled.all(filled.hook())
    items = list(listing)
    assert listing.complete
    for item in items:
        assert dataclasses.is_dataclass(item)
        for field in dataclasses.fields(item):
            value = getattr(item, field.name)
            if isinstance(value, datetime):
                assert value.tzinfo is not None
                assert value.utcoffset() == timedelta(0)
    names = [filled.name(item) for item in items]
    assert len(names) == len(set(names)) >= THINGS
    assert set(names) == filled.there()


def test_a_second_full_read_is_equal(filled: Door) -> None:
    assert list(filled.all(filled.hook())) == list(filled.all(filled.hook()))


def test_nothing_there_is_nothing_read(door: Door) -> None:
    hook = door.hook()
    assert {door.name(item) for item in door.all(hook)} == door.there()
    assert len(list(door.changes(hook))) == len(door.there())


@pytest.mark.parametrize("door", INCREMENTAL, indirect=True)
def test_a_second_incremental_read_is_empty_until_something_changes(filled: Door) -> None:
    reader = filled.changes(filled.hook())
    assert len(list(reader)) == len(filled.there())
    again = filled.changes(filled.hook(), reader.state)
    assert list(again) == []
    assert list(filled.changes(filled.hook(), again.state)) == []
    filled.change()
    assert len(list(filled.changes(filled.hook(), again.state))) == 1


@pytest.mark.parametrize("which", ["all", "changes"])
def test_taken_up_at_every_state_it_equals_a_whole_read(filled: Door, which: str) -> None:
    read = getattr(filled, which)
    whole, found = states(read(filled.hook()))
    assert len(found) > THINGS
    for number, state in enumerate(found):
        # Another hook, as in another process.
        assert whole[:number] + list(read(filled.hook(), state)) == whole, f"state {number}: {state}"


@pytest.mark.parametrize("which", ["all", "changes"])
def test_a_state_of_nonsense_is_refused(filled: Door, which: str) -> None:
    for state in ("", "42", "null", "[]", "{}", '{"format": 1}', "{'of': 1}", "\x00", "Zm9v"):
        with pytest.raises(InvalidInput):
            list(getattr(filled, which)(filled.hook(), state))


@pytest.mark.parametrize("which", ["all", "changes"])
def test_a_state_of_another_listing_is_refused(filled: Door, which: str) -> None:
    _, found = states(getattr(filled, which)(filled.hook()))
    with pytest.raises(InvalidInput, match="something else"):
        list(getattr(filled, which)(filled.hook(), filled.foreign(found[-1])))


@pytest.mark.parametrize("door", INCREMENTAL, indirect=True)
def test_a_state_of_the_future_is_refused(filled: Door) -> None:
    _, found = states(filled.changes(filled.hook()))
    with pytest.raises(InvalidInput, match="future"):
        list(filled.changes(filled.hook(), filled.later(found[-1])))


# --- secrets -------------------------------------------------------------------------------------------------------


def test_no_secret_reaches_a_log_or_a_message(
    filled: Door, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    with caplog.at_level(logging.DEBUG):
        for wrong in ("", *filled.wrongs):
            hook = filled.hook(wrong=wrong)
            said.append(hook.test_connection()[1])
            for read in (filled.all, filled.changes, lambda hook: [filled.beyond_rights(hook)]):
                try:
                    listing = read(hook)
                    list(listing)
                    said.append(getattr(listing, "state", ""))
                except LabelopsError as error:
                    said += [str(error), repr(error), str(error.__cause__), repr(error.__context__)]
            said.append(repr(hook))
    printed = capfd.readouterr()
    everything = "\n".join([*said, caplog.text, printed.out, printed.err])
    for secret in filled.secrets:
        assert secret not in everything
