"""Listings that are stopped and taken up again."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.base.errors import InvalidInput, InvalidReply, Unavailable
from include.systems.listing import Listing

OF = "letters of the alphabet"


def listing(letters: str, size: int = 3, resume: str | None = None, of: str = OF) -> Listing[str]:
    def fetch(place: str | None) -> tuple[list[str], str | None]:
        start = int(place or 0)
        following = start + size
        return list(letters[start:following]), str(following) if following < len(letters) else None

    return Listing(of, fetch, str, resume)


@given(
    st.lists(st.sampled_from("abcdefghijklmnopqrstuvwxyz"), unique=True).map("".join),
    st.integers(1, 5),
)
def test_taken_up_at_every_state_it_equals_a_whole_read(letters: str, size: int) -> None:
    whole = list(listing(letters, size))
    assert "".join(whole) == letters
    reader = listing(letters, size)
    states = [reader.state]
    for _ in reader:
        states.append(reader.state)
    states.append(reader.state)
    for number, state in enumerate(states):
        assert letters[:number] + "".join(listing(letters, size, state)) == letters
    assert reader.complete
    assert not listing(letters, size).complete


def test_an_item_that_went_away_costs_a_repetition_and_no_loss() -> None:
    reader = listing("abcdefgh")
    assert [next(reader) for _ in range(5)] == list("abcde")
    # `e`, the last one seen, is gone: its page comes again, and `h` has moved into it.
    assert list(listing("abcdfgh", resume=reader.state)) == list("dfgh")


def test_an_error_leaves_the_state_where_it_was() -> None:
    def fetch(place: str | None) -> tuple[list[str], str | None]:
        if place == "2":
            raise Unavailable("gone")
        return ["a", "b"], "2"

    reader = Listing(OF, fetch, str)
    assert [next(reader), next(reader)] == ["a", "b"]
    with pytest.raises(Unavailable):
        next(reader)
    assert list(listing("abcd", 2, reader.state)) == ["c", "d"]


def test_a_listing_that_repeats_itself_is_refused() -> None:
    reader = Listing(OF, lambda place: (["a"], "again"), str)
    with pytest.raises(InvalidReply, match="does not end"):
        list(reader)


@pytest.mark.parametrize("round_", ["a", "abc", "abcdefghij"])
def test_a_circle_under_ever_new_names_of_places_is_noticed(round_: str) -> None:
    asked: list[str | None] = []

    def fetch(place: str | None) -> tuple[list[str], str | None]:
        asked.append(place)
        number = int(place or 0)
        return [round_[number % len(round_)]], str(number + 1)

    with pytest.raises(InvalidReply, match="does not end"):
        list(Listing(OF, fetch, str))
    assert len(asked) <= 4 * len(round_)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", "not a state"),
        ("{}", "not a state"),
        (json.dumps({"format": 2, "of": OF, "place": None, "last": None, "done": False}), "format 2"),
        (json.dumps({"format": 1, "of": "digits", "place": None, "last": None, "done": False}), "digits"),
        (json.dumps({"format": 1, "of": OF, "place": 7, "last": None, "done": False}), "must be text"),
        (json.dumps({"format": 1, "of": OF, "place": None, "last": None, "done": 1}), "must be text"),
    ],
)
def test_nonsense_is_refused(state: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        listing("abc", resume=state)
