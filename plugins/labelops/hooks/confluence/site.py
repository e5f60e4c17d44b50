"""What a flavour of Confluence has to offer to the hook: single requests, each read into our own types.

``ConfluenceHook`` holds the careful logic (lost replies, conflicts, equal digests, resuming) once for all flavours; a
:class:`Site` holds paths, parameters and the reading of replies. One method here is one request, or the few that one
question takes. A method that lists returns one page of the list and where the next begins: ``(items, place)``, with
``place`` None after the last and given back as it came.

Errors are those of :mod:`include.base.errors`, raised by :class:`~labelops.hooks.confluence.client.Client`. A write
whose reply is lost raises ``Unavailable`` or ``InvalidReply`` and is sent once: settling it is the hook's part. Which
operations a flavour has is said in :mod:`labelops.hooks.confluence.capabilities`; the hook never calls a method whose
operation is not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from include.systems.confluence.values import (
    Attachment,
    Comment,
    ContentState,
    InlineComment,
    InlineTask,
    Node,
    Page,
    PageVersion,
    Property,
    Restriction,
    SearchHit,
    Space,
    User,
)

__all__ = ["Rows", "Site"]

Item = TypeVar("Item")
Rows = tuple[list[Item], str | None]


class Site(Protocol):
    """One flavour's requests.

    :param pages_at_once: how many ids :meth:`pages` and :meth:`inline_tasks` take.
    :param users_at_once: how many ids :meth:`users` takes.
    :param newest_first: the order of :meth:`changed_pages`, and ``overlap`` how late a change may show in it.
    """

    flavour: str
    pages_at_once: int
    users_at_once: int
    newest_first: bool
    overlap: timedelta

    # --- accounts ---

    def whoami(self) -> User:
        """Return the account of the credential; raise AuthError when the site takes us for an anonymous visitor."""

    def users(self, account_ids: Sequence[str]) -> list[User]:
        """Return those of at most ``users_at_once`` accounts that exist, in any order."""

    def group_members(self, name: str, place: str | None) -> Rows[User]:
        """List a group's members; raise NotFound for an unknown group."""

    # --- spaces and pages ---

    def spaces(self, place: str | None) -> Rows[Space]:
        """List the spaces that the account may see."""

    def space(self, key: str) -> Space | None:
        """Return the space of exactly this key, or None. ``Space.id`` is what the other methods take."""

    def pages_in_space(self, space_id: str, place: str | None) -> Rows[Page]:
        """List the current pages without bodies."""

    def changed_pages(self, space_id: str, since: datetime | None) -> Iterable[Page]:
        """Yield the current pages, with bodies, whose version is of ``since`` or later (None: all), more is allowed.

        In the order of their versions' times, as ``newest_first`` says. Yields from page to page of the list itself.
        """

    def pages(self, ids: Sequence[str]) -> list[Page]:
        """Return those of at most ``pages_at_once`` pages that are there (current or archived), with bodies."""

    def page(self, page_id: str, version: int | None) -> Page:
        """Return one page with body, whatever its status; raise NotFound for no such page or version."""

    def find_pages(self, space_id: str, title: str) -> list[Page]:
        """Return the current pages, with bodies, whose title is this one up to letter case."""

    def versions(self, page_id: str, place: str | None) -> Rows[PageVersion]:
        """List a page's versions, newest first."""

    def descendants(self, page_id: str, place: str | None) -> Rows[Node]:
        """List what is below a page at any depth, each after its parent."""

    def ancestors(self, page_id: str, *, titles: bool = True) -> list[Node]:
        """Return what is above a page, the highest first; ``depth`` counts up from the page (1 is the parent).

        :param titles: whether the titles are needed, where they cost more requests.
        """

    def create_page(self, space_id: str, title: str, body: str, parent_id: str | None, *, private: bool) -> Page:
        """Create a page and return it with body; raise Conflict when the title is taken.

        :param private: nobody but this account may see it from its first moment on. A flavour that cannot do this in
            one request creates it so that ``body``, which is then no secret, is all that could be seen.
        """

    def write_page(self, page_id: str, title: str, body: str, number: int, message: str) -> Page:
        """Write version ``number`` and return the page with body; raise Conflict when it is not the next one."""

    def move_page(self, page: Page, parent_id: str) -> None:
        """Put the page below another."""

    def archive_page(self, page_id: str) -> None:
        """Ask for the page to be archived; it may take a while after the reply."""

    def page_address(self, page_id: str) -> str:
        """Return an address at which a person can open any page."""

    # --- what hangs on pages ---

    def labels(self, page_id: str, place: str | None) -> Rows[str]:
        """List the names of a page's global labels."""

    def add_label(self, page_id: str, label: str) -> None:
        """Put a global label on a page; again is harmless."""

    def remove_label(self, page_id: str, label: str) -> None:
        """Take a label off; raise NotFound when it is not there."""

    def content_state(self, page_id: str) -> ContentState | None:
        """Return the state of the published page."""

    def attachments(self, page_id: str, name: str | None, place: str | None) -> Rows[Attachment]:
        """List a page's current attachments, or those of one file name."""

    def download_path(self, attachment: Attachment) -> str:
        """Return the path that answers with the file, or redirects to it."""

    def send_file(self, page_id: str, attachment_id: str | None, parts: dict[str, Any]) -> None:
        """Upload a new file (None), or a new version of one; ``parts`` is what ``requests`` takes as ``files``."""

    def properties(self, page_id: str, key: str | None, place: str | None) -> Rows[Property]:
        """List a page's content properties, or the one of a key."""

    def create_property(self, page_id: str, key: str, value: Any) -> Property:
        """Create a property; raise Conflict when the key is taken."""

    def write_property(self, page_id: str, read: Property, value: Any) -> Property:
        """Write the version after ``read``'s; raise Conflict when it is not the next one."""

    def footer_comments(self, page_id: str, place: str | None) -> Rows[Comment]:
        """List the top-level footer comments with bodies, oldest first."""

    def add_footer_comment(self, page_id: str, body: str) -> Comment:
        """Write a footer comment in storage format."""

    def inline_comments(self, page_id: str, resolution: str | None, place: str | None) -> Rows[InlineComment]:
        """List the top-level inline comments with bodies, oldest first."""

    def inline_tasks(self, page_ids: Sequence[str], status: str | None, place: str | None) -> Rows[InlineTask]:
        """List the inline tasks of at most ``pages_at_once`` pages."""

    def complete_task(self, task_id: str) -> InlineTask:
        """Tick a task; again is harmless."""

    def restrictions(self, page_id: str) -> tuple[Restriction, ...]:
        """Return all read and update restrictions of the page itself, an operation without any left out."""

    def set_restrictions(self, page_id: str, restrictions: Sequence[Restriction]) -> None:
        """Replace the page's own restrictions; again is harmless."""

    # --- search ---

    def search(self, cql: str, place: str | None) -> Rows[SearchHit]:
        """List what CQL finds."""

    def search_pages(self, cql: str, place: str | None) -> Rows[str]:
        """List the ids of the content that CQL finds."""
