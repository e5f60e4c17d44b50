"""Confluence as Labelops sees it (Cloud and Data Center alike)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

__all__ = [
    "Attachment",
    "Comment",
    "ConfluenceGateway",
    "ContentState",
    "Page",
    "PageVersion",
    "Property",
    "Space",
    "User",
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


class ConfluenceGateway(Protocol):
    """What ``ConfluenceHook`` does. Lists are generators; errors are those of ``include.base.errors``."""

    def current_user(self) -> User:
        """Return the account behind the credential."""

    def space(self, key: str) -> Space:
        """Return a space by its key."""

    def pages_in_space(self, space_id: str) -> Iterator[Page]:
        """List every current page, 250 a request, without bodies; ends only when the listing was complete."""

    def page(self, page_id: str, *, version: int | None = None) -> Page:
        """Return one page with its body, current or at an older version."""

    def find_page(self, space_id: str, title: str) -> Page | None:
        """Return the current page of that exact title (with body), or None."""

    def versions(self, page_id: str) -> Iterator[PageVersion]:
        """List the versions of a page, newest first."""

    def create_page(self, space_id: str, title: str, body: str, *, parent_id: str | None = None) -> Page:
        """Create a page; a create that timed out is looked up by title before it is tried again."""

    def update_page(self, read: Page, *, title: str | None = None, body: str, message: str = "") -> Page:
        """Write the version after ``read``'s; raise Conflict when somebody else wrote meanwhile."""

    def labels(self, page_id: str) -> list[str]:
        """Return the names of a page's global labels, sorted."""

    def pages_with_label(self, space_key: str, label: str) -> Iterator[str]:
        """List the ids of a space's pages that carry a label."""

    def add_label(self, page_id: str, label: str) -> None:
        """Put a global label on a page."""

    def content_state(self, page_id: str) -> ContentState | None:
        """Return the content state of the published page, or None."""

    def attachments(self, page_id: str) -> Iterator[Attachment]:
        """List a page's attachments."""

    def download(self, attachment: Attachment) -> Iterator[bytes]:
        """Stream an attachment's bytes."""

    def upload(self, page_id: str, name: str, content: bytes, media_type: str) -> tuple[Attachment, bool]:
        """Upload a file unless the same bytes are there; the flag says whether anything was sent."""

    def property(self, page_id: str, key: str) -> Property | None:
        """Return a content property, or None."""

    def set_property(self, page_id: str, key: str, value: Any, read: Property | None) -> Property:
        """Create a property, or write the version after ``read``'s."""

    def footer_comments(self, page_id: str) -> Iterator[Comment]:
        """List a page's footer comments, oldest first."""

    def page_url(self, page: Page) -> str:
        """Return the address a person opens."""
