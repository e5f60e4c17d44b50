"""Spaces and pages: reading, and writes that are settled by reading when their reply is lost."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from include.base.errors import Conflict, InvalidInput, InvalidReply, NotFound, Unavailable
from include.systems.confluence import storage
from include.systems.confluence.values import Node, Page, PageVersion, Space
from include.systems.listing import Changes, Listing
from labelops.hooks.confluence.door import CLOCK_SKEW, Door, digest_of, in_batches
from labelops.hooks.confluence.replies import SYSTEM

__all__ = ["Pages"]

ARCHIVE_LOOKS = 10
"""How often a page is looked at until it is archived; the pauses double from the policy's first on."""


class Pages(Door):
    """Spaces, and pages as such: read, made, changed, moved, archived."""

    # --- spaces ----------------------------------------------------------------------------------------------------

    def spaces(self, *, resume: str | None = None) -> Listing[Space]:
        """List the spaces that the account may see."""
        return self._listing("spaces", self._site("spaces").spaces, lambda space: space.id, resume)

    def space(self, key: str) -> Space:
        """Return a space by its key.

        :raises NotFound: no such space, or the account may not see it.
        """
        found = self._site("space").space(key)
        if found is None:
            raise NotFound(f"confluence: no space {key!r}, or the account may not see it", system=SYSTEM)
        return found

    # --- pages, read -----------------------------------------------------------------------------------------------

    def pages_in_space(self, space_id: str, *, resume: str | None = None) -> Listing[Page]:
        """List every current page, without bodies.

        Ends quietly only when the listing was complete; anything else raises, so what was seen is never all there is.
        """
        site = self._site("pages_in_space")
        return self._listing(
            f"pages of space {space_id}",
            lambda place: site.pages_in_space(space_id, place),
            lambda page: page.id,
            resume,
        )

    def changed_pages(self, space_id: str, *, resume: str | None = None) -> Changes[Page]:
        """List the current pages, with bodies, whose latest version is newer than what an earlier listing ended with.

        The state of a listing read to its end is the place to go on from; right after, nothing comes. A page that was
        written twice meanwhile comes once. Pages that were trashed, archived or brought back unchanged do not come:
        only a complete :meth:`pages_in_space` shows those.

        :raises InvalidInput: ``resume`` is not a state of this listing, or is of the future.
        """
        site = self._site("changed_pages")
        return Changes(
            f"confluence changed pages of space {space_id}",
            lambda since: site.changed_pages(space_id, since),
            lambda page: page.id,
            lambda page: page.version.created,
            newest_first=site.newest_first,
            overlap=site.overlap,
            resume=resume,
        )

    def pages(self, ids: Sequence[str], *, resume: str | None = None) -> Listing[Page]:
        """List the pages of these ids, current or archived, with bodies; those that are not there are left out."""
        site, wanted = self._site("pages"), list(dict.fromkeys(ids))
        return self._listing(
            f"pages by id {digest_of(wanted)}",
            in_batches(wanted, site.pages_at_once, lambda batch, place: (site.pages(batch), None)),
            lambda page: page.id,
            resume,
        )

    def page(self, page_id: str, *, version: int | None = None) -> Page:
        """Return one page with its body, current or at an older version. A page in the trash has status ``trashed``.

        :raises NotFound: no such page or version.
        """
        page = self._site("page").page(page_id, version)
        if version is not None and page.version.number != version:
            raise InvalidReply(
                f"confluence: page {page_id}: asked for version {version}, got {page.version.number}", system=SYSTEM
            )
        return page

    def find_page(self, space_id: str, title: str) -> Page | None:
        """Return the current page of that exact title (with body), or None. Letter case counts."""
        if not title.strip():
            raise InvalidInput("confluence: a page title must not be empty")
        found = self._site("find_page").find_pages(space_id, title)
        return next((page for page in found if page.title == title), None)

    def versions(self, page_id: str, *, resume: str | None = None) -> Listing[PageVersion]:
        """List the versions of a page, newest first."""
        site = self._site("versions")
        return self._listing(
            f"versions of page {page_id}",
            lambda place: site.versions(page_id, place),
            lambda version: str(version.number),
            resume,
        )

    def descendants(self, page_id: str, *, resume: str | None = None) -> Listing[Node]:
        """List all that is below a page at any depth, through folders where the flavour has them.

        What is higher comes earlier. ``depth`` is 1 for the page's children.
        """
        site = self._site("descendants")
        return self._listing(
            f"descendants of page {page_id}",
            lambda place: site.descendants(page_id, place),
            lambda node: node.id,
            resume,
        )

    def ancestors(self, page_id: str) -> list[Node]:
        """Return what is above a page, the highest first; ``depth`` is 1 for the parent and grows upwards."""
        return self._site("ancestors").ancestors(page_id)

    def page_url(self, page: Page) -> str:
        """Return the address a person opens."""
        return page.url or self._site().page_address(page.id)

    # --- pages, written --------------------------------------------------------------------------------------------

    def create_page(self, space_id: str, title: str, body: str, *, parent_id: str | None = None) -> Page:
        """Create a page and return it as stored.

        When the reply is lost, the page is looked up by its title and taken over if this account made it just now,
        in the same place and with equal canonical text; otherwise the loss is raised and nothing is sent twice.

        :raises Conflict: the space has a page of that title.
        :raises InvalidInput: the body is not storage format, or is over 5 MB.
        :raises Unavailable: no reply, and no such page yet.
        """
        self._site("create_page")
        return self._create(space_id, title, body, parent_id, private=False)

    def _create(self, space_id: str, title: str, body: str, parent_id: str | None, *, private: bool) -> Page:
        started = datetime.now(UTC)
        try:
            page = self._site().create_page(space_id, title, body, parent_id, private=private)
        except (Unavailable, InvalidReply) as lost:
            found = self.find_page(space_id, title)
            if found is None or found.version.created < started - CLOCK_SKEW:
                raise lost from None
            if not self._is_ours(found, body, parent_id):
                raise lost from None
            page = found
        self._count_write(page.id)
        return page

    def _is_ours(self, page: Page, body: str, parent_id: str | None) -> bool:
        return (
            page.version.number == 1
            and page.version.author_id == self.current_user().account_id
            and (parent_id is None or page.parent_id == parent_id)
            and storage.equal(page.body or "", body)
        )

    def update_page(self, read: Page, *, title: str | None = None, body: str, message: str = "") -> Page:
        """Write the version after ``read``'s and return the page as stored.

        When the reply is lost or the version is refused, the page is read again: version ``read + 1`` by this
        account with the same title and equal canonical text means that our write landed.

        :raises Conflict: somebody else wrote meanwhile, or the page is not current.
        :raises Unavailable: no reply, and the page is still as it was read.
        """
        site = self._site("update_page")
        if read.status != "current":
            raise Conflict(f"confluence: page {read.id} is {read.status}, so it is not written to", system=SYSTEM)
        wanted_title = read.title if title is None else title
        number = read.version.number + 1
        try:
            with self._writing(read.id):
                page = site.write_page(read.id, wanted_title, body, number, message)
        except (Unavailable, InvalidReply, Conflict) as error:
            return self._landed(read, wanted_title, body, error)
        if page.version.number != number:
            raise InvalidReply(
                f"confluence: page {read.id}: wrote version {number}, the reply says {page.version.number}",
                system=SYSTEM,
            )
        return page

    def _landed(self, read: Page, title: str, body: str, error: Exception) -> Page:
        now = self.page(read.id)
        ours = (
            now.version.number == read.version.number + 1
            and now.version.author_id == self.current_user().account_id
            and now.status == "current"
            and now.title == title
            and storage.equal(now.body or "", body)
        )
        if ours:
            return now
        if now.version.number == read.version.number:
            raise error
        raise Conflict(
            f"confluence: page {read.id} was read at version {read.version.number} and is now at "
            f"{now.version.number}, by {now.version.author_id}: read it again, then decide",
            system=SYSTEM,
            status=409,
        ) from error

    def move_page(self, page: Page, parent_id: str) -> Page:
        """Put a page below another, as its last child, and return it as it is then; nothing is sent when it is there.

        :raises NotFound: no such page, or no such parent.
        :raises Unavailable: the page is not there yet; trying again is harmless.
        :raises Conflict: somebody else moved it meanwhile.
        """
        site = self._site("move_page")
        now = self.page(page.id)
        if now.parent_id == parent_id:
            return now
        try:
            with self._writing(page.id):
                site.move_page(now, parent_id)
        except (Unavailable, InvalidReply):
            now = self.page(page.id)
            if now.parent_id != parent_id:
                raise
            return now
        after = self.page(page.id)
        if after.parent_id == now.parent_id:
            raise Unavailable(f"confluence: page {page.id} does not show its move yet; look again later", system=SYSTEM)
        if after.parent_id != parent_id:
            raise Conflict(
                f"confluence: page {page.id} was moved below {parent_id} and is now below {after.parent_id}: somebody "
                "else moved it",
                system=SYSTEM,
            )
        return after

    def archive_page(self, page_id: str) -> Page:
        """Archive a page, wait until it is archived, and return it; nothing is sent when it is.

        :raises Conflict: the page is neither current nor archived.
        :raises Unavailable: it is not archived yet; trying again goes on looking.
        """
        site = self._site("archive_page")
        page = self.page(page_id)
        if page.status == "archived":
            return page
        if page.status != "current":
            raise Conflict(f"confluence: page {page_id} is {page.status}, so it is not archived", system=SYSTEM)
        lost: Exception | None = None
        try:
            with self._writing(page_id):
                site.archive_page(page_id)
        except (Unavailable, InvalidReply) as error:
            lost = error
        for look in range(1, ARCHIVE_LOOKS + 1):
            page = self.page(page_id)
            if page.status == "archived":
                return page
            if lost is not None:
                raise lost
            self._caller.policy.sleep(self._caller.policy.pause(look))
        raise Unavailable(
            f"confluence: page {page_id} is to be archived and is not yet; look again later", system=SYSTEM
        )
