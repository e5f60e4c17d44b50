"""A walk over a list by offsets, while elements come and go."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from include.base.errors import InvalidInput, InvalidReply, Unavailable
from include.systems.opentext.wire import SYSTEM

__all__ = ["Walk", "name_of"]

_LOOK_BACK = 2
"""So many pages further up the elements that join two pages are looked for."""
_TURNS = 5
"""So often a list is begun again before it is given up."""


def name_of(item: Mapping[str, Any]) -> str:
    """Return what an element is known by: its id, or its name where it has none."""
    return str(item.get("id") or item.get("name"))


class Walk:
    """Walks a list by offsets; each page is joined to the one before by elements that both hold.

    :param path: of the list, for messages.
    :param count: elements that a page has at most.
    :param read: returns the elements from an offset on, and whether more follow.
    """

    def __init__(self, path: str, count: int, read: Callable[[int], tuple[list[dict[str, Any]], bool]]) -> None:
        self._path, self._count, self._read = path, count, read
        self._overlap = min(3, self._count - 1)
        self._given: set[str] = set()
        self._first = ""

    def page(self, place: str | None) -> tuple[list[dict[str, Any]], str | None]:
        """Return the elements that follow a place and the place after them; None after the last."""
        offset, last, turn = _place(place) if place else (0, [], 0)
        start = offset - len(last)
        items, more = self._read(start)
        joined = _after(items, last)
        for _ in range(_LOOK_BACK):
            if joined is not None or start == 0:
                break
            start = max(0, start - self._count + 1)
            items, more = self._read(start)
            joined = _after(items, last)
        if joined is None:
            turn += 1
            if turn > _TURNS:
                raise Unavailable(f"{SYSTEM}: {self._path}: the list changes faster than it can be read", system=SYSTEM)
            start = 0
            items, more = self._read(0)
            joined = 0
        fresh, end = items[joined:], start + len(items)
        if more and not fresh:
            further, more = self._read(end)
            if list(map(name_of, further)) == list(map(name_of, items)):
                raise InvalidReply(
                    f"{SYSTEM}: {self._path}: the page at offset {end} is the first one again", system=SYSTEM
                )
            fresh, end, items = further, end + len(further), further
        if turn:
            fresh = [item for item in fresh if name_of(item) not in self._given]
        self._given.update(map(name_of, fresh))
        kept = [name_of(item) for item in items[-self._overlap :]] if self._overlap else []
        if not self._overlap and offset and items and name_of(items[0]) == self._first:
            raise InvalidReply(
                f"{SYSTEM}: {self._path}: the page at offset {start} is the first one again", system=SYSTEM
            )
        if not offset and items:
            self._first = name_of(items[0])
        return fresh, json.dumps([end, kept, turn]) if more else None


def _place(text: str) -> tuple[int, list[str], int]:
    try:
        offset, last, turn = json.loads(text)
        if isinstance(last, list) and offset >= len(last) and turn >= 0 and all(isinstance(one, str) for one in last):
            return int(offset), last, int(turn)
    except (ValueError, TypeError):
        pass
    raise InvalidInput(f"{SYSTEM}: {text[:80]!r} is no place in a list; start again without a state")


def _after(items: list[dict[str, Any]], last: list[str]) -> int | None:
    """Return the place after the latest of some elements; None where none of them is there."""
    if not last:
        return 0
    names = [name_of(item) for item in items]
    return next((names.index(name) + 1 for name in reversed(last) if name in names), None)
