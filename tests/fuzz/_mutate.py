"""Values as they come, with something wrong: another type, a missing key, deep nesting, a huge number, odd text."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

__all__ = ["mutated", "written"]

DEEP = "very deep"

ODD: tuple[Any, ...] = (
    DEEP,
    *(None, True, False, 0, -1, 1, 10**30, 10**400, -(2**63), 1.5, 1e308, float("nan"), float("inf")),
    *(
        "",
        " ",
        "0",
        "-1",
        "²",
        "x",
        "x" * 3000,
        "\x00",
        "\ud800",
        "é",
        "1e5",
        "null",
        "[",
        "http://[",
        "//",
        "%",
        "9" * 60,
    ),
    *("2026-13-45", "2026-01-01T00:00:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "9" * 17),
    *([], {}, [[]], [None], [1], ["x"], [{}], {"id": None}, {"id": {}}, {"value": []}),
)


def mutated(random: Random, value: Any, changes: int = 1) -> Any:
    """Return a copy of a JSON value with so many places changed."""
    whole = [copy.deepcopy(value)]
    for _ in range(changes):
        holder, key = random.choice(list(_places(whole)))
        _change(random, holder, key)
    return whole[0]


def _places(node: Any) -> Any:
    pairs = list(node.items()) if isinstance(node, dict) else list(enumerate(node)) if isinstance(node, list) else []
    for key, inner in pairs:
        yield node, key
        yield from _places(inner)


def _change(random: Random, holder: Any, key: Any) -> None:
    kind = random.randrange(10)
    if kind == 0 and isinstance(holder, dict):
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[key] = random.choice(list(holder.values()))
    elif kind == 2 and isinstance(holder, list) and len(holder) > 1:
        holder[key] = holder[random.randrange(len(holder))]
    elif kind == 3:
        holder[key] = [holder[key]]
    elif kind == 4:
        holder[key] = {random.choice(("id", "name", "x")): holder[key]}
    elif isinstance(holder[key], str) and kind == 6:
        cut = random.randrange(len(holder[key]) + 1)
        holder[key] = holder[key][:cut] + random.choice(("", "\x00", "🂡", "\ud800", "9", '"')) + holder[key][cut + 1 :]
    else:
        holder[key] = copy.deepcopy(random.choice(ODD))


def written(random: Random, value: Any) -> bytes:
    """Return JSON, with so many levels where a value says that it is deep."""
    levels = random.choice((30, 400, 3000, 100_000))
    return json.dumps(value).encode().replace(f'"{DEEP}"'.encode(), b"[" * levels + b"]" * levels)
