"""Changed pages put in order where a site does not list them in one that can be relied on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from include.systems.confluence.values import Page

if TYPE_CHECKING:
    from labelops.hooks.confluence.site import Site

__all__ = ["every_page", "oldest_first"]


def every_page(site: Site, space_id: str) -> Iterator[Page]:
    """Yield the current pages of a space without bodies, to the end of the list."""
    place: str | None = None
    while True:
        pages, place = site.pages_in_space(space_id, place)
        yield from pages
        if place is None:
            return


def oldest_first(site: Site, found: Iterable[Page], since: datetime | None) -> Iterator[Page]:
    """Yield the pages whose version is of ``since`` or later, with bodies, by the times that the pages themselves tell.

    What changed is worked out first, without bodies. A page that is written again meanwhile comes at the end.
    """
    order = sorted(
        {page.id: page.version.created for page in found if since is None or page.version.created >= since}.items(),
        key=lambda item: (item[1], item[0]),
    )
    late: list[Page] = []
    for begin in range(0, len(order), site.pages_at_once):
        batch = order[begin : begin + site.pages_at_once]
        pages = {page.id: page for page in site.pages([page_id for page_id, _ in batch])}
        for page_id, created in batch:
            page = pages.get(page_id)
            if page is None:
                continue
            if page.version.created == created:
                yield page
            else:
                late.append(page)
    yield from sorted(late, key=lambda page: page.version.created)
