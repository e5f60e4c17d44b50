"""``ConfluenceHook``: everything about Confluence that needs care, once for Cloud and Data Center.

Nothing here treats a 404 as "deleted": with a rejected credential Cloud's v2 answers 404 with the bare title
``Not Found``, which becomes :class:`~include.base.errors.AuthError`. No write that may have landed is sent a second
time: what is there is read first, and then decided on.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any, TypeVar

import requests
from airflow.sdk import BaseHook

from include.base.errors import (
    AuthError,
    Conflict,
    InvalidInput,
    InvalidReply,
    LabelopsError,
    NotFound,
    RateLimited,
    Unavailable,
    Unsupported,
)
from include.guidelines import storage
from include.systems.confluence import (
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
    SearchHit,
    Space,
    User,
    cql_text,
)
from include.systems.listing import Changes, Listing
from labelops.hooks.confluence import capabilities
from labelops.hooks.confluence.client import Client, Settings
from labelops.hooks.confluence.cloud import Cloud
from labelops.hooks.confluence.datacenter import DataCenter
from labelops.hooks.confluence.replies import SYSTEM
from labelops.hooks.confluence.site import Rows, Site
from labelops.hooks.requests_http import HttpCaller, RetryPolicy

if TYPE_CHECKING:
    from atlassian.rest_client import AtlassianRestAPI

__all__ = ["ConfluenceHook"]

CHUNK_BYTES = 64 * 1024
PROPERTY_BYTES = 32 * 1024
CLOCK_SKEW = timedelta(minutes=2)
"""How far the site's clock may be off when a page made "just now" is recognised as ours."""
ARCHIVE_LOOKS = 10
"""How often a page is looked at until it is archived; the pauses double from the policy's first on."""
RESOLUTIONS = ("open", "reopened", "resolved", "dangling")
STATUSES = ("complete", "incomplete")
PLACEHOLDER = "<p>Labelops is preparing this page.</p>"
"""The text of a restricted page until its restrictions are known to stand. It says nothing."""

SITES: dict[str, Callable[[Client], Site]] = {"cloud": Cloud, "datacenter": DataCenter}

Item = TypeVar("Item")


class ConfluenceHook(BaseHook):
    """Read and write one Confluence site; implements ``include.systems.confluence.ConfluenceGateway``.

    Connection: ``host`` (the site), ``login`` and ``password``. Extra:

    * ``flavour``: ``cloud`` (default) or ``datacenter``;
    * ``auth``: ``basic`` (default; login and API token or password), ``bearer`` (a personal access token, or an access
      token), ``scoped`` (login and a scoped API token, through Atlassian's gateway), ``oauth2`` (an OAuth 2 access
      token, through the gateway);
    * ``cloud_id``: the site's id at the gateway; asked for when it is needed and missing; set with ``basic`` or
      ``bearer``, it sends those through the gateway too;
    * ``gateway``: the gateway's address before the id, where it is not Atlassian's;
    * ``verify``: false, or the path of a certificate bundle; ``timeout``: seconds for a reply (60);
    * ``path``: where Confluence is below the host (``/wiki`` for Cloud, nothing for Data Center);
    * ``changes``: where changed pages are looked for, see :class:`~labelops.hooks.confluence.cloud.Cloud` and
      :class:`~labelops.hooks.confluence.datacenter.DataCenter`, which has ``time_zone`` too;
    * ``requests_per_second``: how many requests are sent at most (90 to Cloud), by all threads together; 0 for no limit
      of ours.

    Nothing is sent before the first call. Every list is a :class:`~include.systems.listing.Listing`. Every method
    raises the errors of :mod:`include.base.errors`, ``Unsupported`` where the flavour cannot do it;
    :class:`~labelops.hooks.requests_http.HttpCaller` says what is tried again. Safe to use from many threads.

    :param confluence_conn_id: the Airflow connection.
    :param policy: how often and how patiently a request is tried.
    """

    conn_name_attr = "confluence_conn_id"
    default_conn_name = "confluence_default"
    conn_type = "confluence"
    hook_name = "Confluence"

    def __init__(self, confluence_conn_id: str = default_conn_name, policy: RetryPolicy | None = None) -> None:
        super().__init__()
        self.confluence_conn_id = confluence_conn_id
        self.writes_by_page: Counter[str] = Counter()
        """Writes that took effect, or may have, by page: each may send mail to the page's watchers."""
        self._caller = HttpCaller(SYSTEM, policy)
        self._lock = threading.RLock()
        self._opened: tuple[Client, Site] | None = None
        self._user: User | None = None

    # --- connection ------------------------------------------------------------------------------------------------

    @property
    def requests_made(self) -> int:
        """How many requests this hook has sent, tries again included."""
        return self._caller.requests_made

    @property
    def flavour(self) -> str:
        """``cloud`` or ``datacenter``, as the connection says."""
        return self._site().flavour

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

    def get_conn(self) -> AtlassianRestAPI:
        """Return this thread's client, made on first use.

        :raises InvalidInput: a connection field has a value that is not allowed.
        """
        return self._open()[0].session()

    def _open(self) -> tuple[Client, Site]:
        with self._lock:
            if self._opened is None:
                settings = Settings.read(self.get_connection(self.confluence_conn_id))
                client = Client(settings, self._caller)
                self._opened = client, SITES[settings.flavour](client)
            return self._opened

    def _site(self, operation: str = "") -> Site:
        """Return the flavour's requests.

        :raises Unsupported: the flavour cannot do the operation.
        """
        site = self._open()[1]
        why_not = capabilities.operation(operation).why_not(site.flavour) if operation else ""
        if why_not:
            raise Unsupported(f"confluence: {operation}: {why_not}", system=SYSTEM)
        return site

    def test_connection(self) -> tuple[bool, str]:
        """Ask who we are (v1) and read one space (v2), because Cloud's two APIs refuse a credential separately.

        Then try the reads that want scopes of their own, and name those that are refused.
        """
        try:
            user = self.current_user()
            self._site().spaces(None)
            refused = self._refused_reads()
        except LabelopsError as error:
            return False, str(error)
        except Exception as error:
            return False, f"{type(error).__name__}: the connection cannot be used"
        name = f"Connected to {self._open()[0].settings.site} as {user.display_name or user.account_id}"
        return True, f"{name}; refused: {'; '.join(refused)}" if refused else name

    def _refused_reads(self) -> list[str]:
        site = self._site()
        reads: dict[str, Callable[[], Any]] = {
            "pages": lambda: site.pages(["1"]),
            "search": lambda: site.search_pages("type = page and id = 1", None),
            "inline_tasks": lambda: site.inline_tasks(["1"], None, None),
        }
        refused = []
        for name, read in reads.items():
            if not self.supports(name):
                continue
            try:
                read()
            except AuthError:
                item = capabilities.operation(name)
                needs = item.scopes if site.flavour == "cloud" else (item.right,)
                refused.append(f"{name} (needs {', '.join(needs)})")
            except (InvalidInput, NotFound):
                continue
        return refused

    def _listing(
        self,
        of: str,
        fetch: Callable[[str | None], Rows[Item]],
        name: Callable[[Item], str],
        resume: str | None,
    ) -> Listing[Item]:
        return Listing(f"confluence {of}", fetch, name, resume)

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
        """Return the account behind the credential; asked once per hook.

        :raises AuthError: the site takes us for an anonymous visitor.
        """
        if self._user is None:
            self._user = self._site("current_user").whoami()
        return self._user

    def user(self, account_id: str) -> User:
        """Return an account.

        :raises NotFound: no such account.
        """
        found = self.users([account_id]).get(account_id)
        if found is None:
            raise NotFound(f"confluence: no account {account_id!r}", system=SYSTEM)
        return found

    def users(self, account_ids: Iterable[str]) -> dict[str, User]:
        """Return the known ones of these accounts, by id; as few requests as the flavour allows."""
        site, wanted = self._site("users"), list(dict.fromkeys(account_ids))
        found: dict[str, User] = {}
        for batch in _batches(wanted, site.users_at_once):
            found |= {user.account_id: user for user in site.users(batch)}
        return {account: found[account] for account in wanted if account in found}

    def group_members(self, name: str, *, resume: str | None = None) -> Listing[User]:
        """List the members of a group, known by its name.

        :raises NotFound: no such group, or the account may not see it (when the first member is asked for).
        """
        site = self._site("group_members")
        return self._listing(
            f"members of group {name}",
            lambda place: site.group_members(name, place),
            lambda user: user.account_id,
            resume,
        )

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
            f"pages by id {_digest(wanted)}",
            _in_batches(wanted, site.pages_at_once, lambda batch, place: (site.pages(batch), None)),
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

    # --- labels and states -----------------------------------------------------------------------------------------

    def labels(self, page_id: str) -> list[str]:
        """Return the names of a page's global labels, sorted."""
        site = self._site("labels")
        return sorted(_drain(lambda place: site.labels(page_id, place), f"labels of page {page_id}"))

    def pages_with_label(self, space_key: str, label: str, *, resume: str | None = None) -> Listing[str]:
        """List the ids of a space's pages that carry a label.

        Search is an index: it lags behind, and does not see archived pages. An absence proves nothing.
        """
        site = self._site("pages_with_label")
        cql = f"label = {cql_text(label)} and space = {cql_text(space_key)} and type = page"
        return self._listing(
            f"pages of {space_key} with label {label}", lambda place: site.search_pages(cql, place), str, resume
        )

    def add_label(self, page_id: str, label: str) -> None:
        """Put a global label on a page; Confluence keeps labels in lower case. Doing it twice changes nothing."""
        site = self._site("add_label")
        if not label or label != label.lower() or any(character.isspace() for character in label):
            raise InvalidInput(f"confluence: label {label!r} must be lower case and hold no blanks")
        with self._writing(page_id):
            site.add_label(page_id, label)

    def remove_label(self, page_id: str, label: str) -> None:
        """Take a global label off a page; one that is not there is no error, a page that is not there is.

        :raises NotFound: no such page.
        """
        site = self._site("remove_label")
        if label not in self.labels(page_id):
            return
        try:
            with self._writing(page_id):
                site.remove_label(page_id, label)
        except NotFound:
            # Somebody was quicker, or an earlier try took effect without a reply.
            if label in self.labels(page_id):
                raise

    def content_state(self, page_id: str) -> ContentState | None:
        """Return the content state of the published page, or None.

        ``last_updated`` is the publication at which the state changed.
        """
        return self._site("content_state").content_state(page_id)

    # --- attachments -----------------------------------------------------------------------------------------------

    def attachments(self, page_id: str, *, resume: str | None = None) -> Listing[Attachment]:
        """List a page's current attachments."""
        site = self._site("attachments")
        return self._listing(
            f"attachments of page {page_id}",
            lambda place: site.attachments(page_id, None, place),
            lambda item: item.id,
            resume,
        )

    def download(self, attachment: Attachment) -> Iterator[bytes]:
        """Stream an attachment's bytes; whoever stops early has only a part, and an end without an error is the whole.

        A site may redirect to a media host with a token of its own: our credential never goes to another host.

        :raises InvalidReply: size or SHA-256 is not what was listed.
        :raises Unavailable: the stream broke off.
        """
        path = self._site("download").download_path(attachment)
        response = self._open()[0].open(path, scope=capabilities.DOWNLOAD)
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

        :raises InvalidInput: the name is empty or holds ``/``.
        """
        self._site("upload")
        if not name or "/" in name:
            raise InvalidInput(f"confluence: attachment name {name!r} must not be empty or hold a slash")
        digest = sha256(content).hexdigest()
        existing = self._named(page_id, name)
        if existing and existing.sha256 == digest and existing.size == len(content):
            return existing, False
        parts = {
            "file": (name, content, _with_charset(media_type)),
            # Without a charset Confluence reads a text part as Latin-1.
            "comment": (None, f"sha256:{digest}".encode(), "text/plain; charset=utf-8"),
            "minorEdit": (None, b"true", "text/plain; charset=utf-8"),
        }
        try:
            self._send_file(page_id, existing, parts)
        except Conflict:
            # The name was there after all: the list lagged behind.
            existing = self._named(page_id, name)
            if existing is None:
                raise
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
        site = self._site()
        rows = _drain(lambda place: site.attachments(page_id, name, place), f"attachments of page {page_id}")
        return next((item for item in rows if item.title == name), None)

    def _send_file(self, page_id: str, existing: Attachment | None, parts: Mapping[str, Any]) -> None:
        with self._writing(page_id):
            self._site().send_file(page_id, existing.id if existing else None, dict(parts))

    # --- properties ------------------------------------------------------------------------------------------------

    def properties(self, page_id: str, *, resume: str | None = None) -> Listing[Property]:
        """List a page's content properties, of every app that keeps some."""
        site = self._site("properties")
        return self._listing(
            f"properties of page {page_id}",
            lambda place: site.properties(page_id, None, place),
            lambda item: item.key,
            resume,
        )

    def property(self, page_id: str, key: str) -> Property | None:
        """Return a content property, or None."""
        site = self._site("property")
        rows = _drain(lambda place: site.properties(page_id, key, place), f"properties of page {page_id}")
        return next((item for item in rows if item.key == key), None)

    def set_property(self, page_id: str, key: str, value: Any, read: Property | None) -> Property:
        """Create a property, or write the version after ``read``'s. Properties do not change the page's version.

        :raises Conflict: somebody else created or wrote it with another value.
        :raises InvalidInput: over 32 KB of JSON.
        """
        site = self._site("set_property")
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
                    return site.create_property(page_id, key, value)
                return site.write_property(page_id, read, value)
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
        site = self._site("footer_comments")
        return self._listing(
            f"footer comments of page {page_id}",
            lambda place: site.footer_comments(page_id, place),
            lambda comment: comment.id,
            resume,
        )

    def add_footer_comment(self, page_id: str, body: str) -> Comment:
        """Write a footer comment and return it as stored.

        When the reply is lost, the page's comments are read: one of this account made just now with equal canonical
        text is ours; otherwise the loss is raised and nothing is sent twice.

        :param body: storage format.
        :raises NotFound: no such page.
        """
        site = self._site("add_footer_comment")
        started = datetime.now(UTC)
        try:
            with self._writing(page_id):
                return site.add_footer_comment(page_id, body)
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
        site = self._site("inline_comments")
        if resolution is not None and resolution not in RESOLUTIONS:
            raise InvalidInput(f"confluence: resolution: found {resolution!r}, allowed are {', '.join(RESOLUTIONS)}")
        return self._listing(
            f"inline comments of page {page_id}, {resolution or 'all'}",
            lambda place: site.inline_comments(page_id, resolution, place),
            lambda comment: comment.id,
            resume,
        )

    def inline_tasks(
        self, page_ids: Sequence[str], status: str | None = None, *, resume: str | None = None
    ) -> Listing[InlineTask]:
        """List the inline tasks of pages, many pages a request; all, or those of one status."""
        site, wanted = self._site("inline_tasks"), list(dict.fromkeys(page_ids))
        if status is not None and status not in STATUSES:
            raise InvalidInput(f"confluence: task status: found {status!r}, allowed are {', '.join(STATUSES)}")
        return self._listing(
            f"inline tasks of pages {_digest(wanted)}, {status or 'all'}",
            _in_batches(wanted, site.pages_at_once, lambda batch, place: site.inline_tasks(batch, status, place)),
            lambda task: task.id,
            resume,
        )

    def complete_task(self, task_id: str) -> InlineTask:
        """Tick an inline task and return it; ticking twice changes nothing.

        Whoever the credential belongs to is recorded as the one who did.

        :raises NotFound: no such task.
        """
        task = self._site("complete_task").complete_task(task_id)
        self._count_write(task.page_id)
        if task.status != "complete":
            raise InvalidReply(f"confluence: task {task_id} was ticked and is {task.status}", system=SYSTEM)
        return task

    # --- restrictions ----------------------------------------------------------------------------------------------

    def restrictions(self, page_id: str) -> Restrictions:
        """Return the restrictions on a page and on the pages above it.

        One request for the page, one or more for its place, and one for each page above.
        """
        site = self._site("restrictions")
        own = site.restrictions(page_id)
        inherited = [
            (node.id, item)
            for node in site.ancestors(page_id, titles=False)
            if node.kind == "page"
            for item in site.restrictions(node.id)
        ]
        return Restrictions(page_id, own, tuple(inherited))

    def set_restrictions(self, page_id: str, restrictions: Sequence[Restriction]) -> Restrictions:
        """Replace a page's own restrictions, read them back and return them; nothing is sent when they are equal.

        :param restrictions: at most one for each operation; none for an operation opens it.
        :raises InvalidInput: they would shut this account out, or name an operation twice.
        :raises Conflict: what was read back is not what was written.
        """
        site = self._site("set_restrictions")
        wanted = self._checked(restrictions)
        if site.restrictions(page_id) != wanted:
            with self._writing(page_id):
                site.set_restrictions(page_id, wanted)
            found = site.restrictions(page_id)
            if found != wanted:
                raise Conflict(
                    f"confluence: page {page_id}: wrote restrictions {_spell(wanted)}, read back {_spell(found)}",
                    system=SYSTEM,
                )
        return Restrictions(page_id, wanted)

    def _checked(self, restrictions: Sequence[Restriction]) -> tuple[Restriction, ...]:
        wanted = []
        me = self.current_user().account_id
        for kind in ("read", "update"):
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
        unknown = sorted({item.operation for item in restrictions} - {"read", "update"})
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
        site = self._site("create_restricted_page")
        wanted = self._checked(restrictions)
        if not any(item.operation == "read" for item in wanted):
            raise InvalidInput("confluence: a restricted page needs a `read` restriction")
        page = self.find_page(space_id, title)
        if page is None:
            page = self._create(space_id, title, PLACEHOLDER, parent_id, private=True)
        if not self._is_ours(page, PLACEHOLDER, parent_id):
            return self._finished(site, page, body, wanted)
        self.set_restrictions(page.id, wanted)
        return self.update_page(page, body=body)

    def _finished(self, site: Site, page: Page, body: str, wanted: tuple[Restriction, ...]) -> Page:
        """Return the page of an earlier call that came to its end.

        :raises Conflict: it is something else.
        """
        ours = (
            page.version.number == 2
            and page.version.author_id == self.current_user().account_id
            and storage.equal(page.body or "", body)
        )
        if not ours:
            raise Conflict(
                f"confluence: the space has another page of the title, {page.id}, at version {page.version.number} by "
                f"{page.version.author_id}",
                system=SYSTEM,
            )
        found = site.restrictions(page.id)
        if found != wanted:
            raise Conflict(
                f"confluence: page {page.id} was made with restrictions {_spell(wanted)} and has {_spell(found)} now",
                system=SYSTEM,
            )
        return page

    # --- search ----------------------------------------------------------------------------------------------------

    def search(self, cql: str, *, resume: str | None = None) -> Listing[SearchHit]:
        """List what a CQL query finds. Values from outside belong through ``include.systems.confluence.cql_text``.

        Search is an index: it lags behind by minutes, does not see archived pages, and its times have whole minutes in
        the account's time zone. An absence proves nothing.

        :raises InvalidInput: the query is empty, or Confluence cannot read it (when the first hit is asked for).
        """
        site = self._site("search")
        if not cql.strip():
            raise InvalidInput("confluence: a CQL query must not be empty")
        return self._listing(
            f"search {_digest([cql])}",
            lambda place: site.search(cql, place),
            lambda hit: f"{hit.kind} {hit.id}",
            resume,
        )


# --- small things --------------------------------------------------------------------------------------------------


def _drain(fetch: Callable[[str | None], Rows[Item]], of: str) -> Iterator[Item]:
    """Yield every row of a short list."""
    place = None
    seen: set[str] = set()
    while True:
        rows, place = fetch(place)
        yield from rows
        if place is None:
            return
        if place in seen:
            raise InvalidReply(f"confluence: {of}: the listing repeats itself and does not end", system=SYSTEM)
        seen.add(place)


def _batches(items: Sequence[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(items), size):
        yield list(items[start : start + size])


def _in_batches(
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


def _digest(items: Sequence[str]) -> str:
    return sha256("\n".join(items).encode("utf-8")).hexdigest()[:16]


def _spell(restrictions: Sequence[Restriction]) -> str:
    if not restrictions:
        return "none"
    return "; ".join(f"{item.operation}: {', '.join((*item.users, *item.groups))}" for item in restrictions)


def _json_bytes(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def _with_charset(media_type: str) -> str:
    return (
        f"{media_type}; charset=utf-8" if media_type.startswith("text/") and "charset" not in media_type else media_type
    )
