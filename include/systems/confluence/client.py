"""``ConfluenceClient``: everything about Confluence that needs care, once for Cloud and Data Center.

Nothing here treats a 404 as "deleted": with a rejected credential Cloud's v2 answers 404 with the bare title
``Not Found``, which becomes :class:`~include.base.errors.AuthError`. No write that may have landed is sent a second
time: what is there is read first, and then decided on.
"""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from operator import attrgetter
from typing import Any, TypeVar

import requests

from include.base.errors import (
    AuthError,
    Conflict,
    InvalidInput,
    InvalidReply,
    NotFound,
    RateLimited,
    Unavailable,
    Unsupported,
)
from include.systems.confluence import capabilities, storage
from include.systems.confluence.cloud import Cloud
from include.systems.confluence.datacenter import DataCenter
from include.systems.confluence.replies import SYSTEM
from include.systems.confluence.settings import Settings
from include.systems.confluence.transport import DUPLICATE_TITLE, Transport
from include.systems.confluence.values import (
    RESTRICTABLE,
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
    Restrictions,
    Space,
    User,
    cql_text,
)
from include.systems.confluence.walks import Rows, digest_of, every_row, in_batches
from include.systems.http import RetryPolicy
from include.systems.listing import Changes, Listing

__all__ = ["PLACEHOLDER", "ConfluenceClient"]

CLOCK_SKEW = timedelta(minutes=2)
"""How far the site's clock may be off when something made "just now" is recognised as ours."""
PLACEHOLDER = "<p>Labelops is preparing this page.</p>"
"""The text of a restricted page until its restrictions are known to stand. It says nothing."""
CHUNK_BYTES = 64 * 1024
PROPERTY_BYTES = 32 * 1024
_NOT_IN_NAMES = re.compile(r'[/\\"\x00-\x1f\x7f]')
RESOLUTIONS = ("open", "reopened", "resolved", "dangling")
STATUSES = ("complete", "incomplete")

Item = TypeVar("Item")


class ConfluenceClient:
    """Reads and writes one Confluence site.

    Nothing is sent before the first call. Every list is a :class:`~include.systems.listing.Listing`: it can be stopped
    anywhere and taken up again with ``resume=listing.state``. Every method raises the errors of
    :mod:`include.base.errors`, ``Unsupported`` where the flavour cannot do it, which :meth:`supports` tells beforehand;
    :class:`~include.systems.http.HttpCaller` says what is tried again. Safe to use from many threads.

    :param policy: how often and how patiently a request is tried.
    :raises InvalidInput: a setting that only this flavour has is not one of those allowed.
    """

    def __init__(self, settings: Settings, policy: RetryPolicy | None = None) -> None:
        self.settings = settings
        self.writes_by_page: Counter[str] = Counter()
        """Writes that took effect, or may have, by page: each may send mail to the page's watchers."""
        self._transport = Transport(settings, policy)
        self._caller = self._transport.caller
        self._site: Cloud | DataCenter = (Cloud if settings.flavour == "cloud" else DataCenter)(self._transport)
        self._lock = threading.Lock()
        self._user: User | None = None

    # --- the connection --------------------------------------------------------------------------------------------

    @property
    def requests_made(self) -> int:
        """How many requests were sent from here, tries again included."""
        return self._caller.requests_made

    @property
    def flavour(self) -> str:
        """``cloud`` or ``datacenter``."""
        return self.settings.flavour

    def supports(self, operation: str) -> bool:
        """Tell whether this flavour can do what the method of that name does.

        :raises InvalidInput: no method of that name is in the table of operations.
        """
        return not capabilities.operation(operation).why_not(self.flavour)

    @staticmethod
    def requirements(*operations: str) -> tuple[str, ...]:
        """Return what the account needs for these operations (none named: all): rights, then Cloud's scopes."""
        chosen = [capabilities.operation(name) for name in operations] or capabilities.OPERATIONS
        rights = dict.fromkeys(f"right: {item.right}" for item in chosen)
        return (*rights, *(f"scope: {name}" for name in capabilities.scopes_of(*operations)))

    def check(self) -> str:
        """Ask who we are (v1) and read one space (v2), because Cloud's two APIs refuse a credential separately.

        Then try the reads that want scopes of their own, and name those that are refused.

        :return: a sentence that names site, account and what is refused.
        :raises LabelopsError: the site cannot be used.
        """
        user = self.current_user()
        self._site.spaces(None)
        refused = self._refused_reads()
        name = f"Connected to {self.settings.site} as {user.display_name or user.account_id}"
        return f"{name}; refused: {'; '.join(refused)}" if refused else name

    def _refused_reads(self) -> list[str]:
        site = self._site
        reads: dict[str, Callable[[], Any]] = {
            "pages": lambda: site.pages(["1"]),
            "pages_with_label": lambda: site.search_pages("type = page and id = 1", None),
        }
        if isinstance(site, Cloud):
            reads["inline_tasks"] = lambda: site.inline_tasks(["1"], None, None)
        refused = []
        for name, read in reads.items():
            try:
                read()
            except AuthError:
                item = capabilities.operation(name)
                needs = item.scopes if self.flavour == "cloud" else (item.right,)
                refused.append(f"{name} (needs {', '.join(needs)})")
            except (InvalidInput, NotFound):
                continue
        return refused

    def _cloud(self, operation: str) -> Cloud:
        """Return the requests of the flavour that alone can do an operation.

        :raises Unsupported: this is the other one.
        """
        if not isinstance(self._site, Cloud):
            why_not = capabilities.operation(operation).why_not(self.flavour)
            raise Unsupported(f"confluence: {operation}: {why_not}", system=SYSTEM)
        return self._site

    @contextmanager
    def _writing(self, page_id: str) -> Iterator[None]:
        """Count a write of a page, unless the site said that it did not take it."""
        try:
            yield
        except (AuthError, Conflict, InvalidInput, NotFound, RateLimited, Unsupported):
            raise
        except BaseException:
            self._count_write(page_id)
            raise
        self._count_write(page_id)

    def _count_write(self, page_id: str) -> None:
        with self._lock:
            self.writes_by_page[page_id] += 1

    # --- accounts and groups ---------------------------------------------------------------------------------------

    def current_user(self) -> User:
        """Return the account behind the credential; asked once.

        :raises AuthError: the site takes us for an anonymous visitor.
        """
        if self._user is None:
            self._user = self._site.whoami()
        return self._user

    # --- spaces ----------------------------------------------------------------------------------------------------

    def space(self, key: str) -> Space:
        """Return a space by its key.

        :raises NotFound: no such space, or the account may not see it.
        """
        found = self._site.space(key)
        if found is None:
            raise NotFound(f"confluence: no space {key!r}, or the account may not see it", system=SYSTEM)
        return found

    # --- pages, read -----------------------------------------------------------------------------------------------

    def pages_in_space(self, space_id: str, *, resume: str | None = None) -> Listing[Page]:
        """List every current page, without bodies.

        Ends quietly only when the listing was complete; anything else raises, so what was seen is never all there is.
        """
        return _listing(f"pages of space {space_id}", lambda place: self._site.pages_in_space(space_id, place), resume)

    def changed_pages(self, space_id: str, *, resume: str | None = None) -> Changes[Page]:
        """List the current pages, with bodies, whose latest version is newer than what an earlier listing ended with.

        The state of a listing read to its end is the place to go on from; right after, nothing comes. A page that was
        written twice meanwhile comes once. Pages that were trashed, archived or brought back unchanged do not come:
        only a complete :meth:`pages_in_space` shows those.

        :raises InvalidInput: ``resume`` is not a state of this listing, or is of the future.
        """
        return Changes(
            f"confluence changed pages of space {space_id}",
            lambda since: self._site.changed_pages(space_id, since),
            lambda page: page.id,
            lambda page: page.version.created,
            newest_first=self._site.newest_first,
            overlap=self._site.overlap,
            resume=resume,
        )

    def pages(self, ids: Sequence[str], *, resume: str | None = None) -> Listing[Page]:
        """List the pages of these ids, current or archived, with bodies; those that are not there are left out."""
        wanted = list(dict.fromkeys(ids))
        return _listing(
            f"pages by id {digest_of(wanted)}",
            in_batches(wanted, self._site.pages_at_once, lambda batch, place: (self._site.pages(batch), None)),
            resume,
        )

    def page(self, page_id: str, *, version: int | None = None) -> Page:
        """Return one page with its body, current or at an older version. A page in the trash has status ``trashed``.

        :raises NotFound: no such page or version.
        """
        page = self._site.page(page_id, version)
        if version is not None and page.version.number != version:
            raise InvalidReply(
                f"confluence: page {page_id}: asked for version {version}, got {page.version.number}", system=SYSTEM
            )
        return page

    def find_page(self, space_id: str, title: str) -> Page | None:
        """Return the current page (with body) that has the title, so that no other can be given it; else None.

        Sites trim titles, and most do not mind their letter case: a page that is spelt exactly so comes first.
        """
        return self._titled(space_id, _trimmed(title), "current")

    def _titled(self, space_id: str, title: str, status: str) -> Page | None:
        found = [
            page
            for page in self._site.find_pages(space_id, title, status)
            if page.title.strip().casefold() == title.casefold()
        ]
        return next((page for page in found if page.title == title), next(iter(found), None))

    def versions(self, page_id: str, *, resume: str | None = None) -> Listing[PageVersion]:
        """List the versions of a page, newest first."""
        return _listing(
            f"versions of page {page_id}",
            lambda place: self._site.versions(page_id, place),
            resume,
            lambda version: str(version.number),
        )

    def descendants(self, page_id: str, *, resume: str | None = None) -> Listing[Node]:
        """List all that is below a page at any depth, through folders where the flavour has them.

        What is higher comes earlier. ``depth`` is 1 for the page's children.
        """
        return _listing(f"descendants of page {page_id}", lambda place: self._site.descendants(page_id, place), resume)

    def pages_above(self, page_id: str) -> list[str]:
        """Return the ids of the pages above a page, the highest first; folders between them are left out.

        :raises NotFound: no such page, or the account may not see it.
        """
        return self._site.pages_above(page_id)

    def page_url(self, page: Page) -> str:
        """Return the address a person opens."""
        return page.url or f"{self.settings.site}{self.settings.path}/pages/viewpage.action?pageId={page.id}"

    # --- pages, written --------------------------------------------------------------------------------------------

    def create_page(self, space_id: str, title: str, body: str, *, parent_id: str | None = None) -> Page:
        """Create a page and return it as stored.

        When the reply is lost, the page is looked up by its title and taken over if this account made it just now,
        in the same place and with equal canonical text; otherwise the loss is raised and nothing is sent twice.

        :raises Conflict: the space has a page of that title, current or archived, which the message names.
        :raises InvalidInput: the body is not storage format, or is over 5 MB.
        :raises Unavailable: no reply, and no such page yet.
        """
        return self._create(space_id, title, body, parent_id, private=False)

    def _create(self, space_id: str, title: str, body: str, parent_id: str | None, *, private: bool) -> Page:
        started, title = datetime.now(UTC), _trimmed(title)
        try:
            page = self._site.create_page(space_id, title, body, parent_id, private=private)
        except Conflict as error:
            raise self._taken(space_id, title, error) from None
        except (Unavailable, InvalidReply) as lost:
            found = self.find_page(space_id, title)
            just_now = found is not None and found.version.created >= started - CLOCK_SKEW
            if not (found and just_now and self._is_ours(found, body, parent_id)):
                raise lost from None
            page = found
        self._count_write(page.id)
        return page

    def _taken(self, space_id: str, title: str, error: Conflict) -> Conflict:
        """Return the refusal of a title with the page that has it: of archived ones, the site itself says nothing."""
        if DUPLICATE_TITLE not in str(error):
            return error
        holders = (self._titled(space_id, title, status) for status in ("current", "archived"))
        page = next(filter(None, holders), None)
        held = (
            "no page of the title is to be seen: one that is hidden from the account has it"
            if page is None
            else f"the {page.status} page {page.id} has the title {page.title!r} ({self.page_url(page)}): rename "
            f"{'or restore ' if page.status == 'archived' else ''}it, or choose another title"
        )
        return Conflict(f"{error}; {held}", system=SYSTEM, status=error.status)

    def _is_ours(self, page: Page, body: str, parent_id: str | None) -> bool:
        return (parent_id is None or page.parent_id == parent_id) and self._wrote(page, 1, body)

    def _wrote(self, page: Page, number: int, body: str) -> bool:
        """Tell whether a page is as this account wrote it."""
        return (
            page.version.number == number
            and page.version.author_id == self.current_user().account_id
            and storage.equal(page.body or "", body)
        )

    def update_page(self, read: Page, *, title: str | None = None, body: str, message: str = "") -> Page:
        """Write the version after ``read``'s and return the page as stored.

        When the reply is lost or the version is refused, the page is read again: version ``read + 1`` by this
        account with the same title and equal canonical text means that our write landed.

        :raises Conflict: somebody else wrote meanwhile, or the page is not current.
        :raises Unavailable: no reply, and the page is still as it was read.
        """
        if read.status != "current":
            raise Conflict(f"confluence: page {read.id} is {read.status}, so it is not written to", system=SYSTEM)
        wanted_title = read.title if title is None else _trimmed(title)
        number = read.version.number + 1
        try:
            with self._writing(read.id):
                page = self._site.write_page(read.id, wanted_title, body, number, message)
                if (page.id, page.version.number) != (read.id, number):
                    raise InvalidReply(
                        f"confluence: page {read.id}: wrote version {number}, the reply says version "
                        f"{page.version.number} of page {page.id}",
                        system=SYSTEM,
                    )
                return page
        except (Unavailable, InvalidReply, Conflict) as error:
            return self._landed(read, wanted_title, body, error)

    def _landed(self, read: Page, title: str, body: str, error: Exception) -> Page:
        now = self.page(read.id)
        if now.status == "current" and now.title == title and self._wrote(now, read.version.number + 1, body):
            return now
        if now.version.number == read.version.number:
            raise self._taken(read.space_id, title, error) if isinstance(error, Conflict) else error
        raise Conflict(
            f"confluence: page {read.id} was read at version {read.version.number} and is now at "
            f"{now.version.number}, by {now.version.author_id}: read it again, then decide",
            system=SYSTEM,
            status=409,
        ) from error

    # --- labels and states -----------------------------------------------------------------------------------------

    def labels(self, page_id: str) -> list[str]:
        """Return the names of a page's global labels, sorted."""
        return sorted(every_row(lambda place: self._site.labels(page_id, place), f"labels of page {page_id}"))

    def pages_with_label(self, space_key: str, label: str, *, resume: str | None = None) -> Listing[str]:
        """List the ids of a space's pages that carry a label.

        Search is an index: it lags behind, and does not see archived pages. An absence proves nothing.
        """
        cql = f"label = {cql_text(label)} and space = {cql_text(space_key)} and type = page"
        of = f"pages of {space_key} with label {label}"
        return _listing(of, lambda place: self._site.search_pages(cql, place), resume, str)

    def add_label(self, page_id: str, label: str) -> None:
        """Put a global label on a page; Confluence keeps labels in lower case. Doing it twice changes nothing."""
        if not label or label != label.lower() or any(character.isspace() for character in label):
            raise InvalidInput(f"confluence: label {label!r} must be lower case and hold no blanks")
        with self._writing(page_id):
            self._site.add_label(page_id, label)

    def remove_label(self, page_id: str, label: str) -> None:
        """Take a global label off a page; one that is not there is no error, a page that is not there is.

        :raises NotFound: no such page.
        """
        if label not in self.labels(page_id):
            return
        try:
            with self._writing(page_id):
                self._site.remove_label(page_id, label)
        except NotFound:
            # Somebody was quicker, or an earlier try took effect without a reply.
            if label in self.labels(page_id):
                raise

    def content_state(self, page_id: str) -> ContentState | None:
        """Return the content state of the published page, or None.

        ``last_updated`` is the publication at which the state changed.
        """
        return self._cloud("content_state").content_state(page_id)

    # --- attachments -----------------------------------------------------------------------------------------------

    def attachments(self, page_id: str, *, resume: str | None = None) -> Listing[Attachment]:
        """List a page's current attachments."""
        return _listing(
            f"attachments of page {page_id}", lambda place: self._site.attachments(page_id, None, place), resume
        )

    def download(self, attachment: Attachment) -> Iterator[bytes]:
        """Stream an attachment's bytes; whoever stops early has only a part, and an end without an error is the whole.

        A site may redirect to a media host with a token of its own: our credential never goes to another host.

        :raises InvalidReply: size or SHA-256 is not what was listed.
        :raises Unavailable: the stream broke off.
        """
        path = self._site.download_path(attachment)
        response = self._transport.open(path, scope=capabilities.DOWNLOAD)
        digest, size = sha256(), 0
        try:
            for chunk in response.iter_content(CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
                yield chunk
        except requests.exceptions.RequestException as error:
            raise Unavailable(
                f"confluence: {path}: the download broke off after {size} bytes", system=SYSTEM
            ) from error
        finally:
            response.close()
        if size != attachment.size or attachment.sha256 not in (None, digest.hexdigest()):
            raise InvalidReply(
                f"confluence: {path}: got {size} bytes that are not the {attachment.size} listed; list it again",
                system=SYSTEM,
            )

    def upload(self, page_id: str, name: str, content: bytes, media_type: str) -> tuple[Attachment, bool]:
        """Upload a file unless the same bytes are there; the flag says whether anything was sent.

        The file's SHA-256 is kept in the attachment's comment as ``sha256:<hex>``. A file of the same name gets a new
        version. A lost reply is settled by listing again.

        :raises InvalidInput: the name is one that the site would change, or did.
        """
        if not name or name != name.strip() or _NOT_IN_NAMES.search(name):
            raise InvalidInput(
                f"confluence: attachment name: found {name!r}, which the site would change; allowed are names without "
                "slashes, backslashes, quotation marks, control characters, and blanks at an end"
            )
        digest = sha256(content).hexdigest()
        existing = self._named(page_id, name)
        if existing and existing.sha256 == digest and existing.size == len(content):
            return existing, False
        parts = {
            "file": (name, content, _with_charset(media_type)),
            # A text part without a charset is read as Latin-1.
            "comment": (None, f"sha256:{digest}".encode(), "text/plain; charset=utf-8"),
            "minorEdit": (None, b"true", "text/plain; charset=utf-8"),
        }
        try:
            self._send_file(page_id, existing, parts)
        except Conflict as error:
            # The name was there after all: the list lagged behind.
            existing = self._named(page_id, name)
            if existing is None:
                raise InvalidInput(
                    f"confluence: attachment name {name!r}: the site keeps it otherwise ({error})"
                ) from error
            if existing.sha256 != digest:
                self._send_file(page_id, existing, parts)
        except (Unavailable, InvalidReply):
            landed = self._named(page_id, name)
            if landed is None or landed.sha256 != digest or landed.size != len(content):
                raise
            return landed, True
        stored = self._named(page_id, name)
        if stored is None or stored.sha256 != digest:
            raise Unavailable(
                f"confluence: page {page_id} does not list the uploaded file yet; looking again later settles it",
                system=SYSTEM,
            )
        return stored, True

    def _named(self, page_id: str, name: str) -> Attachment | None:
        rows = every_row(lambda place: self._site.attachments(page_id, name, place), f"attachments of page {page_id}")
        return next((item for item in rows if item.title == name), None)

    def _send_file(self, page_id: str, existing: Attachment | None, parts: Mapping[str, Any]) -> None:
        with self._writing(page_id):
            kept = self._site.send_file(page_id, existing.id if existing else None, dict(parts))
        name = parts["file"][0]
        if kept != name:
            raise InvalidInput(f"confluence: attachment name {name!r}: the site keeps it as {kept!r}; upload it so")

    # --- properties ------------------------------------------------------------------------------------------------

    def properties(self, page_id: str, *, resume: str | None = None) -> Listing[Property]:
        """List a page's content properties, of every app that keeps some."""
        return _listing(
            f"properties of page {page_id}",
            lambda place: self._site.properties(page_id, None, place),
            resume,
            lambda item: item.key,
        )

    def property(self, page_id: str, key: str) -> Property | None:
        """Return a content property, or None."""
        rows = every_row(lambda place: self._site.properties(page_id, key, place), f"properties of page {page_id}")
        return next((item for item in rows if item.key == key), None)

    def set_property(self, page_id: str, key: str, value: Any, read: Property | None) -> Property:
        """Create a property, or write the version after ``read``'s. Properties do not change the page's version.

        :raises Conflict: somebody else created or wrote it with another value.
        :raises InvalidInput: over 32 KB of JSON.
        """
        size = len(_json_bytes(value))
        if size > PROPERTY_BYTES:
            raise InvalidInput(
                f"confluence: property {key!r}: found {size} bytes of JSON, allowed are {PROPERTY_BYTES}"
            )
        if read is not None and read.key != key:
            raise InvalidInput(f"confluence: property {key!r}: what was read is {read.key!r}")
        try:
            with self._writing(page_id):
                if read is None:
                    return self._site.create_property(page_id, key, value)
                return self._site.write_property(page_id, read, value)
        except (Unavailable, InvalidReply, Conflict):
            now = self.property(page_id, key)
            expected = read.version + 1 if read else 1
            if now and now.version == expected and _json_bytes(now.value) == _json_bytes(value):
                return now
            raise

    # --- comments and tasks ----------------------------------------------------------------------------------------

    def footer_comments(self, page_id: str, *, resume: str | None = None) -> Listing[Comment]:
        """List a page's footer comments, oldest first.

        Author and time are those of the comment's latest version, so an edited comment counts as of its edit.
        """
        return _listing(
            f"footer comments of page {page_id}", lambda place: self._site.footer_comments(page_id, place), resume
        )

    def add_footer_comment(self, page_id: str, body: str) -> Comment:
        """Write a footer comment and return it as stored.

        When the reply is lost, the page's comments are read: one of this account made just now with equal canonical
        text is ours; otherwise the loss is raised and nothing is sent twice.

        :param body: storage format.
        :raises NotFound: no such page.
        """
        started = datetime.now(UTC)
        try:
            with self._writing(page_id):
                return self._site.add_footer_comment(page_id, body)
        except (Unavailable, InvalidReply):
            for comment in self.footer_comments(page_id):
                if (
                    comment.version == 1
                    and comment.author_id == self.current_user().account_id
                    and comment.created >= started - CLOCK_SKEW
                    and storage.equal(comment.body, body)
                ):
                    return comment
            raise

    def inline_comments(
        self, page_id: str, resolution: str | None = None, *, resume: str | None = None
    ) -> Listing[InlineComment]:
        """List a page's inline comments, oldest first; all, or those of one resolution."""
        if resolution is not None and resolution not in RESOLUTIONS:
            raise InvalidInput(f"confluence: resolution: found {resolution!r}, allowed are {', '.join(RESOLUTIONS)}")
        return _listing(
            f"inline comments of page {page_id}, {resolution or 'all'}",
            lambda place: self._site.inline_comments(page_id, resolution, place),
            resume,
        )

    def inline_tasks(
        self, page_ids: Sequence[str], status: str | None = None, *, resume: str | None = None
    ) -> Listing[InlineTask]:
        """List the inline tasks of pages, many pages a request; all, or those of one status."""
        site, wanted = self._cloud("inline_tasks"), list(dict.fromkeys(page_ids))
        if status is not None and status not in STATUSES:
            raise InvalidInput(f"confluence: task status: found {status!r}, allowed are {', '.join(STATUSES)}")
        return _listing(
            f"inline tasks of pages {digest_of(wanted)}, {status or 'all'}",
            in_batches(wanted, site.pages_at_once, lambda batch, place: site.inline_tasks(batch, status, place)),
            resume,
        )

    # --- restrictions ----------------------------------------------------------------------------------------------

    def restrictions(self, page_id: str) -> Restrictions:
        """Return the restrictions on a page and on the pages above it.

        One request for the page, one or more for its place, and one for each page above.
        """
        own = self._site.restrictions(page_id)
        inherited = [
            (above, item) for above in self._site.pages_above(page_id) for item in self._site.restrictions(above)
        ]
        return Restrictions(page_id, own, tuple(inherited))

    def set_restrictions(self, page_id: str, restrictions: Sequence[Restriction]) -> Restrictions:
        """Replace a page's own restrictions, read them back and return them; nothing is sent when they are equal.

        :param restrictions: at most one for each operation; none for an operation opens it.
        :raises InvalidInput: they would shut this account out, or name an operation twice.
        :raises Conflict: what was read back is not what was written.
        """
        wanted = self._checked(restrictions)
        if self._site.restrictions(page_id) != wanted:
            with self._writing(page_id):
                self._site.set_restrictions(page_id, wanted)
            found = self._site.restrictions(page_id)
            if found != wanted:
                raise Conflict(
                    f"confluence: page {page_id}: wrote restrictions {_spell(wanted)}, read back {_spell(found)}",
                    system=SYSTEM,
                )
        return Restrictions(page_id, wanted)

    def _checked(self, restrictions: Sequence[Restriction]) -> tuple[Restriction, ...]:
        wanted = []
        me = self.current_user().account_id
        for kind in RESTRICTABLE:
            of_kind = [item for item in restrictions if item.operation == kind]
            if len(of_kind) > 1:
                raise InvalidInput(f"confluence: restrictions: operation `{kind}` is named {len(of_kind)} times")
            for item in of_kind:
                if not item.users and not item.groups:
                    continue
                if me not in item.users and not item.groups:
                    raise InvalidInput(
                        f"confluence: restrictions: `{kind}` without the account {me} would shut this account out"
                    )
                wanted.append(
                    Restriction(item.operation, tuple(sorted(set(item.users))), tuple(sorted(set(item.groups))))
                )
        unknown = sorted({item.operation for item in restrictions} - set(RESTRICTABLE))
        if unknown:
            raise InvalidInput(f"confluence: restrictions: found {', '.join(unknown)}, allowed are read, update")
        return tuple(wanted)

    def create_restricted_page(
        self,
        space_id: str,
        title: str,
        body: str,
        restrictions: Sequence[Restriction],
        *,
        parent_id: str | None = None,
    ) -> Page:
        """Create a page whose text nobody outside the restrictions can see at any time.

        The page is created private and without its text; then the restrictions are set and read back; only then the
        text is written, as version 2. Killed between any two steps and called again with the same arguments, it goes
        on with its own half-made page; called again after the end, it returns the page.

        :param restrictions: as for :meth:`set_restrictions`; a ``read`` one is needed.
        :raises Conflict: the space has another page of that title, or the page was changed meanwhile.
        :raises InvalidInput: no ``read`` restriction, or one that shuts this account out.
        """
        wanted = self._checked(restrictions)
        if not any(item.operation == "read" for item in wanted):
            raise InvalidInput("confluence: a restricted page needs a `read` restriction")
        page = self.find_page(space_id, title)
        if page is None:
            page = self._create(space_id, title, PLACEHOLDER, parent_id, private=True)
        if not self._is_ours(page, PLACEHOLDER, parent_id):
            return self._finished(page, body, wanted)
        self.set_restrictions(page.id, wanted)
        return self.update_page(page, body=body)

    def _finished(self, page: Page, body: str, wanted: tuple[Restriction, ...]) -> Page:
        """Return the page of an earlier call that came to its end.

        :raises Conflict: it is something else.
        """
        if not self._wrote(page, 2, body):
            raise Conflict(
                f"confluence: the space has another page of the title, {page.id}, at version {page.version.number} by "
                f"{page.version.author_id}",
                system=SYSTEM,
            )
        found = self._site.restrictions(page.id)
        if found != wanted:
            raise Conflict(
                f"confluence: page {page.id} was made with restrictions {_spell(wanted)} and has {_spell(found)} now",
                system=SYSTEM,
            )
        return page


# --- small parts ---------------------------------------------------------------------------------------------------


def _listing(
    of: str,
    fetch: Callable[[str | None], Rows[Item]],
    resume: str | None,
    name: Callable[[Item], str] = attrgetter("id"),
) -> Listing[Item]:
    return Listing(f"confluence {of}", fetch, name, resume)


def _trimmed(title: str) -> str:
    """Return a title as a site keeps it."""
    if not title.strip():
        raise InvalidInput("confluence: a page title must not be empty")
    return title.strip()


def _json_bytes(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def _with_charset(media_type: str) -> str:
    bare = media_type.startswith("text/") and "charset" not in media_type
    return f"{media_type}; charset=utf-8" if bare else media_type


def _spell(restrictions: Sequence[Restriction]) -> str:
    if not restrictions:
        return "none"
    return "; ".join(f"{item.operation}: {', '.join((*item.users, *item.groups))}" for item in restrictions)
