"""Confluence as Labelops sees it (Cloud and Data Center alike)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal, Protocol

from include.systems.listing import Changes, Listing

__all__ = [
    "RESTRICTABLE",
    "Attachment",
    "Comment",
    "ConfluenceGateway",
    "ContentState",
    "InlineComment",
    "InlineTask",
    "Node",
    "Page",
    "PageVersion",
    "Property",
    "Restriction",
    "Restrictions",
    "SearchHit",
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


@dataclass(frozen=True)
class SearchHit:
    """Something that search found. ``kind`` is ``page``, ``blogpost``, ``comment``, ``attachment``, ``space``, ...

    ``modified`` is as the index has it, which lags behind.
    """

    id: str
    kind: str
    title: str
    space_key: str
    url: str
    modified: datetime | None


def cql_text(value: str) -> str:
    """Return a text as a string of CQL, or of JQL; an unescaped quote would let the text add clauses."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


class ConfluenceGateway(Protocol):
    """What ``ConfluenceHook`` does.

    Lists are :class:`~include.systems.listing.Listing`: they can be stopped anywhere and taken up again with
    ``resume=listing.state``. Errors are those of :mod:`include.base.errors`; what the flavour cannot do raises
    ``Unsupported``, and :meth:`supports` tells beforehand.
    """

    @property
    def flavour(self) -> str:
        """``cloud`` or ``datacenter``."""

    @property
    def writes_by_page(self) -> Counter[str]:
        """How many writes each page got from here: each may send mail to the page's watchers."""

    def supports(self, operation: str) -> bool:
        """Tell whether this flavour can do what the method of that name does."""

    # accounts

    def current_user(self) -> User:
        """Return the account behind the credential."""

    def user(self, account_id: str) -> User:
        """Return an account; raise NotFound for an unknown one."""

    def users(self, account_ids: Iterable[str]) -> dict[str, User]:
        """Return the known ones of these accounts, by id."""

    def group_members(self, name: str, *, resume: str | None = None) -> Listing[User]:
        """List the members of a group; raise NotFound for an unknown one."""

    # spaces and pages

    def spaces(self, *, resume: str | None = None) -> Listing[Space]:
        """List the spaces that the account may see."""

    def space(self, key: str) -> Space:
        """Return a space by its key."""

    def pages_in_space(self, space_id: str, *, resume: str | None = None) -> Listing[Page]:
        """List every current page, without bodies; ends only when the listing was complete."""

    def changed_pages(self, space_id: str, *, resume: str | None = None) -> Changes[Page]:
        """List the current pages, with bodies, that were written since the read that gave ``resume``; None: all."""

    def pages(self, ids: Sequence[str], *, resume: str | None = None) -> Listing[Page]:
        """List the pages of these ids, with bodies; those that are not there are left out."""

    def page(self, page_id: str, *, version: int | None = None) -> Page:
        """Return one page with its body, current or at an older version."""

    def find_page(self, space_id: str, title: str) -> Page | None:
        """Return the current page of that exact title (with body), or None."""

    def versions(self, page_id: str, *, resume: str | None = None) -> Listing[PageVersion]:
        """List the versions of a page, newest first."""

    def descendants(self, page_id: str, *, resume: str | None = None) -> Listing[Node]:
        """List all that is below a page, through folders where the flavour has them, each after its parent."""

    def ancestors(self, page_id: str) -> list[Node]:
        """Return what is above a page, the highest first."""

    def create_page(self, space_id: str, title: str, body: str, *, parent_id: str | None = None) -> Page:
        """Create a page; a create that timed out is looked up by title before it is tried again."""

    def create_restricted_page(
        self,
        space_id: str,
        title: str,
        body: str,
        restrictions: Sequence[Restriction],
        *,
        parent_id: str | None = None,
    ) -> Page:
        """Create a page whose text nobody outside the restrictions can see at any time; done twice, it is made once."""

    def update_page(self, read: Page, *, title: str | None = None, body: str, message: str = "") -> Page:
        """Write the version after ``read``'s; raise Conflict when somebody else wrote meanwhile."""

    def move_page(self, page: Page, parent_id: str) -> Page:
        """Put a page below another; nothing is sent when it is there."""

    def archive_page(self, page_id: str) -> Page:
        """Archive a page and wait until it is archived."""

    def page_url(self, page: Page) -> str:
        """Return the address a person opens."""

    # what hangs on pages

    def labels(self, page_id: str) -> list[str]:
        """Return the names of a page's global labels, sorted."""

    def pages_with_label(self, space_key: str, label: str, *, resume: str | None = None) -> Listing[str]:
        """List the ids of a space's pages that carry a label."""

    def add_label(self, page_id: str, label: str) -> None:
        """Put a global label on a page."""

    def remove_label(self, page_id: str, label: str) -> None:
        """Take a global label off a page; one that is not there is no error."""

    def content_state(self, page_id: str) -> ContentState | None:
        """Return the content state of the published page, or None."""

    def attachments(self, page_id: str, *, resume: str | None = None) -> Listing[Attachment]:
        """List a page's attachments."""

    def download(self, attachment: Attachment) -> Iterator[bytes]:
        """Stream an attachment's bytes."""

    def upload(self, page_id: str, name: str, content: bytes, media_type: str) -> tuple[Attachment, bool]:
        """Upload a file unless the same bytes are there; the flag says whether anything was sent."""

    def properties(self, page_id: str, *, resume: str | None = None) -> Listing[Property]:
        """List a page's content properties."""

    def property(self, page_id: str, key: str) -> Property | None:
        """Return a content property, or None."""

    def set_property(self, page_id: str, key: str, value: Any, read: Property | None) -> Property:
        """Create a property, or write the version after ``read``'s."""

    def footer_comments(self, page_id: str, *, resume: str | None = None) -> Listing[Comment]:
        """List a page's footer comments, oldest first."""

    def add_footer_comment(self, page_id: str, body: str) -> Comment:
        """Write a footer comment, in storage format."""

    def inline_comments(
        self, page_id: str, resolution: str | None = None, *, resume: str | None = None
    ) -> Listing[InlineComment]:
        """List a page's inline comments, oldest first; all, or those of one resolution."""

    def inline_tasks(
        self, page_ids: Sequence[str], status: str | None = None, *, resume: str | None = None
    ) -> Listing[InlineTask]:
        """List the inline tasks of pages; all, or those that are ``complete`` or ``incomplete``."""

    def complete_task(self, task_id: str) -> InlineTask:
        """Tick an inline task. Whoever the credential belongs to is recorded as the one who did."""

    def restrictions(self, page_id: str) -> Restrictions:
        """Return the restrictions on a page and on those above it."""

    def set_restrictions(self, page_id: str, restrictions: Sequence[Restriction]) -> Restrictions:
        """Replace a page's own restrictions, read them back and compare."""

    def search(self, cql: str, *, resume: str | None = None) -> Listing[SearchHit]:
        """List what a CQL query finds; values belong through :func:`cql_text`."""
