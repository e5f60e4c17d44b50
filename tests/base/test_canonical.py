from __future__ import annotations

import hashlib
import json
from datetime import date
from enum import Enum
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.base.canonical import canonical_json, digest_of, effect_key, sha256_hex

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


class Name(str):
    __slots__ = ()


class Colour(Enum):
    RED = "red"


def shuffled(value: object) -> object:
    if isinstance(value, dict):
        return {key: shuffled(value[key]) for key in reversed(list(value))}
    if isinstance(value, list):
        return [shuffled(inner) for inner in value]
    return value


@given(VALUES)
def test_equal_values_have_equal_bytes_whatever_the_order_of_keys(value: object) -> None:
    assert canonical_json(value) == canonical_json(shuffled(value))
    assert json.loads(canonical_json(value)) == value


def test_known_bytes() -> None:
    assert canonical_json({"b": [1, None, True], "a": "é\n"}) == '{"a":"é\\n","b":[1,null,true]}'.encode()
    assert digest_of({}) == hashlib.sha256(b"{}").hexdigest()
    assert sha256_hex(iter([b"a", b"bc"])) == sha256_hex(b"abc") == hashlib.sha256(b"abc").hexdigest()


@pytest.mark.parametrize("value", [1.0, {"a": [1.5]}, [float("nan")], {1: "a"}, {"a": {2: 3}}])
def test_what_has_no_one_spelling_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        canonical_json(value)


def test_an_effect_key_depends_on_every_part() -> None:
    parts = ("labeling_approval", "tickets", "version:1", "ab", 1)
    keys = {effect_key(*parts)}
    for place in range(4):
        keys.add(effect_key(*(f"{part}x" if number == place else part for number, part in enumerate(parts))))  # type: ignore[arg-type]
    keys.add(effect_key(*parts[:4], 2))  # type: ignore[arg-type]
    assert len(keys) == 6
    assert effect_key("a", "bc", "d", "e") != effect_key("ab", "c", "d", "e")


@given(VALUES)
def test_the_bytes_are_those_of_the_standard_library(value: object) -> None:
    said = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert canonical_json(value) == said.encode()


@pytest.mark.parametrize("value", [{"z": 2**70, "a": -(2**64)}, [Name("x"), {Name("k"): (1, True)}], "\x7f\u2028\x1f"])
def test_unusual_values_have_the_same_bytes_too(value: object) -> None:
    said = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert canonical_json(value) == said.encode()


@pytest.mark.parametrize("value", [UUID(int=0), date(2026, 1, 1), Colour.RED, {"a": [UUID(int=0)]}, b"x"])
def test_what_json_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        canonical_json(value)


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        canonical_json(["\ud800"])
