"""Confluence as Labelops sees it (Cloud and Data Center alike)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal

__all__ = [
    "RESTRICTABLE",
    "Attachment",
    "Comment",
    "ContentState",
    "InlineComment",
    "InlineTask",
    "Node",
    "Page",
    "PageVersion",
    "Property",
    "Restriction",
    "Restrictions",
    "Space",
    "User",
    "cql_text",
]


@dataclass(frozen=True)
class User:
    """An account: ``account_id`` is what restrictions, versions and comments carry."""

    account_id: str
    display_name: str = ""


@dataclass(frozen=True)
class Space:
    """A space; ``id`` is the number the API wants, ``key`` the name people know."""

    id: str
    key: str
    name: str
    homepage_id: str | None = None


@dataclass(frozen=True)
class PageVersion:
    """One saved version of a page. Times are UTC."""

    number: int
    created: datetime
    author_id: str
    message: str = ""


@dataclass(frozen=True)
class Page:
    """A page as read: ``version`` is the version that an update must follow.

    ``body`` is storage format, or None when it was not asked for.
    """

    id: str
    title: str
    space_id: str
    status: str
    version: PageVersion
    parent_id: str | None = None
    author_id: str = ""
    body: str | None = None
    url: str = ""


@dataclass(frozen=True)
class ContentState:
    """A page's content state ("page status"); ``last_updated`` is when the state was last changed."""

    id: int | None
    name: str
    color: str = ""
    last_updated: datetime | None = None


@dataclass(frozen=True)
class Attachment:
    """A file on a page. ``sha256`` is known only for files that we uploaded (kept in the comment)."""

    id: str
    page_id: str
    title: str
    media_type: str
    size: int
    version: int
    download: str
    comment: str = ""
    sha256: str | None = None


@dataclass(frozen=True)
class Comment:
    """A footer comment."""

    id: str
    page_id: str
    author_id: str
    created: datetime
    body: str
    version: int = 1


@dataclass(frozen=True)
class Property:
    """A content property: a small JSON value under a key."""

    id: str
    key: str
    value: Any
    version: int = field(default=1)


@dataclass(frozen=True)
class InlineComment:
    """A comment on words of a page.

    :param resolution: ``open``, ``reopened``, ``resolved`` or ``dangling`` (its words are gone).
    :param marker_ref: ``ac:ref`` of its marker in the page's storage; :param selection: the words it was put on.
    """

    id: str
    page_id: str
    author_id: str
    created: datetime
    body: str
    version: int
    resolution: str
    marker_ref: str
    selection: str


@dataclass(frozen=True)
class InlineTask:
    """A box to tick in a page: the best evidence of one person's sign-off that Confluence keeps.

    :param local_id: ``ac:task-id`` in the page's storage.
    :param status: ``complete`` or ``incomplete``.
    :param due: a day, or None.
    """

    id: str
    page_id: str
    local_id: str
    status: str
    body: str
    created_by: str
    assigned_to: str | None
    completed_by: str | None
    created: datetime
    due: date | None
    completed: datetime | None


@dataclass(frozen=True)
class Node:
    """A thing in the page tree.

    :param kind: ``page``, ``folder``, ``whiteboard``, ``database`` or ``embed``.
    :param depth: steps from the page asked about (1 is a child, or the parent).
    """

    id: str
    title: str
    parent_id: str | None
    kind: str
    depth: int


RESTRICTABLE: tuple[Literal["read", "update"], ...] = ("read", "update")
"""What restrictions allow to some alone."""


@dataclass(frozen=True)
class Restriction:
    """Who alone may do one thing with a page. ``users`` are account ids, ``groups`` are names; both sorted."""

    operation: Literal["read", "update"]
    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Restrictions:
    """The restrictions that bear on a page; an operation that nobody restricts has no entry.

    :param own: those on the page itself.
    :param inherited: those on the pages above it, the highest first. Confluence hands ``read`` down, not ``update``.
    """

    page_id: str
    own: tuple[Restriction, ...]
    inherited: tuple[tuple[str, Restriction], ...] = ()


def cql_text(value: str) -> str:
    """Return a text as a string of CQL, or of JQL; an unescaped quote would let the text add clauses."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
