"""Walks through lists: over the pages of a list, over batches of ids, over what changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from hashlib import sha256
from typing import TypeVar

from include.base.errors import InvalidInput
from include.systems.confluence.replies import SYSTEM
from include.systems.confluence.values import Page
from include.systems.listing import Walk

__all__ = ["Rows", "batches", "digest_of", "every_row", "in_batches", "oldest_first"]

Item = TypeVar("Item")
Rows = tuple[list[Item], str | None]
"""One page of a list, and the place where the next page begins: None after the last."""


def every_row(fetch: Callable[[str | None], Rows[Item]], of: str) -> Iterator[Item]:
    """Yield the rows of all pages of a list.

    :raises InvalidReply: the list comes back to a place, or to a page, it was at.
    """
    place = None
    walk = Walk(f"confluence: {of}", system=SYSTEM)
    while True:
        rows, place = fetch(place)
        walk.meets(rows)
        if place is not None:
            walk.goes_to(place)
        yield from rows
        if place is None:
            return


def batches(items: Sequence[str], size: int) -> Iterator[list[str]]:
    """Yield the items in lists of a size."""
    for start in range(0, len(items), size):
        yield list(items[start : start + size])


def in_batches(
    items: Sequence[str], size: int, fetch: Callable[[list[str], str | None], Rows[Item]]
) -> Callable[[str | None], Rows[Item]]:
    """Return a listing's fetch over batches of ids; a place is the number of the batch and the place in it."""

    def fetch_place(place: str | None) -> Rows[Item]:
        number, _, inner = (place or "0").partition(" ")
        if not number.isdigit():
            raise InvalidInput("confluence: the state is not one of a listing by ids; start again without one")
        at = int(number) * size
        batch = list(items[at : at + size])
        rows, following = fetch(batch, inner or None) if batch else ([], None)
        if following is not None:
            return rows, f"{number} {following}"
        return rows, str(int(number) + 1) if at + size < len(items) else None

    return fetch_place


def digest_of(items: Sequence[str]) -> str:
    """Return a short name for many ids."""
    return sha256("\n".join(items).encode("utf-8")).hexdigest()[:16]


def oldest_first(
    found: Iterable[Page], since: datetime | None, read: Callable[[list[str]], list[Page]], at_once: int
) -> Iterator[Page]:
    """Yield the pages whose version is of ``since`` or later, with bodies, by the times that the pages themselves tell.

    What changed is worked out first, without bodies. A page that is written again meanwhile comes at the end.

    :param read: returns the pages of at most ``at_once`` ids, with bodies.
    """
    changed = {page.id: page.version.created for page in found if since is None or page.version.created >= since}
    late: list[Page] = []
    for batch in batches(sorted(changed, key=lambda page_id: (changed[page_id], page_id)), at_once):
        pages = {page.id: page for page in read(batch)}
        for page in (pages[page_id] for page_id in batch if page_id in pages):
            if page.version.created == changed[page.id]:
                yield page
            else:
                late.append(page)
    yield from sorted(late, key=lambda page: page.version.created)
