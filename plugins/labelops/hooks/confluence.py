"""The door to Confluence: pages, states, labels, attachments, properties and comments of a Cloud site.

Built on the plain verbs of ``atlassian-python-api`` with paths of our own, because its high-level classes address
endpoints that Cloud does not have. Both of Cloud's APIs are needed: v2 for pages, spaces, properties, comments and
reading labels; v1 for search, writing labels, uploads, content states and whoami.

Nothing here treats a 404 as "deleted": with a rejected credential v2 answers 404 with the bare title ``Not Found``,
which becomes :class:`~include.base.errors.AuthError`.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qs, urljoin, urlsplit

import requests
from airflow.sdk import BaseHook

from include.base.errors import (
    AuthError,
    Conflict,
    InvalidInput,
    InvalidReply,
    LabelopsError,
    NotFound,
    Unavailable,
    Unsupported,
)
from include.guidelines import storage
from include.systems.confluence import (
    Attachment,
    Comment,
    ContentState,
    Page,
    PageVersion,
    Property,
    Space,
    User,
)
from labelops.hooks.pace import pace_of
from labelops.hooks.requests_http import HttpCaller, RetryPolicy, base_url, read_json

if TYPE_CHECKING:
    from atlassian.rest_client import AtlassianRestAPI

__all__ = ["ConfluenceHook"]

SYSTEM = "confluence"
GATEWAY = "https://api.atlassian.com/ex/confluence/"
PAGE_ROWS = 250
CONNECT_SECONDS = 10.0
REQUESTS_PER_SECOND = 90.0
"""A tenth below the burst limit of 100 reads a second that is reported for Cloud, per tenant, endpoint and method."""
REDIRECTS = 5
CHUNK_BYTES = 64 * 1024
PROPERTY_BYTES = 32 * 1024
CLOCK_SKEW = timedelta(minutes=2)
"""How far the site's clock may be off when a page made "just now" is recognised as ours."""

DUPLICATE_TITLE = "already exists"
DUPLICATE_NAME = "same file name as an existing attachment"

Kind = TypeVar("Kind")


class ConfluenceHook(BaseHook):
    """Read and write one Confluence Cloud site; implements ``include.systems.confluence.ConfluenceGateway``.

    Connection: ``host`` (the site), ``login`` (e-mail) and ``password`` (API token). Extra:

    * ``auth``: ``basic`` (default), or ``bearer`` with an access token as password;
    * ``flavour``: ``cloud`` (default); ``datacenter`` raises ``Unsupported``;
    * ``cloud_id``: go through Atlassian's gateway, which scoped tokens need;
    * ``verify``: false, or the path of a certificate bundle; ``timeout``: seconds for a reply (60);
    * ``path``: where Confluence is below the host (``/wiki``);
    * ``requests_per_second``: how many requests are sent at most (90), by all threads together; 0 for no limit of ours.

    Nothing is sent before the first call. One client is kept per thread, since a session is not thread-safe. Every
    method raises the errors of :mod:`include.base.errors`; :class:`~labelops.hooks.requests_http.HttpCaller` says
    what is tried again.

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
        self._caller = HttpCaller(SYSTEM, policy)
        self._threads = threading.local()
        self._site = ""
        self._path = ""
        self._user: User | None = None

    @property
    def requests_made(self) -> int:
        """How many requests this hook has sent, tries again included."""
        return self._caller.requests_made

    def get_conn(self) -> AtlassianRestAPI:
        """Return this thread's client, made on first use.

        :raises InvalidInput: a connection field has a value that is not allowed.
        :raises Unsupported: the connection is for Data Center.
        """
        client = getattr(self._threads, "client", None)
        if client is None:
            client = self._threads.client = self._connect()
        return client

    def _connect(self) -> AtlassianRestAPI:
        from atlassian.rest_client import AtlassianRestAPI

        connection = self.get_connection(self.confluence_conn_id)
        extra = connection.extra_dejson
        flavour = _choice(extra, "flavour", ("cloud", "datacenter"))
        if flavour == "datacenter":
            raise Unsupported(
                "confluence: flavour `datacenter` is not supported yet (Cloud now, Data Center next)", system=SYSTEM
            )
        self._path = "/" + str(extra.get("path") or "/wiki").strip("/")
        self._site = base_url(connection, SYSTEM).removesuffix(self._path)
        cloud_id = str(extra.get("cloud_id") or "").strip()
        if not connection.password:
            raise InvalidInput("confluence: the connection's password is empty; it holds the API token")
        credential: dict[str, Any] = {"token": connection.password}
        if _choice(extra, "auth", ("basic", "bearer")) == "basic":
            if not connection.login:
                raise InvalidInput("confluence: the connection's login is empty; it holds the account's e-mail")
            credential = {"username": connection.login, "password": connection.password}
        _quiet_library()
        address = GATEWAY + cloud_id if cloud_id else self._site
        self._caller.pace = pace_of(SYSTEM, address, extra, REQUESTS_PER_SECOND)
        client = AtlassianRestAPI(
            url=address,
            advanced_mode=True,
            backoff_and_retry=False,
            retry_with_header=False,
            verify_ssl=_verify(extra.get("verify", True)),
            **credential,
        )
        client.timeout = (CONNECT_SECONDS, _seconds(extra.get("timeout", 60)))  # type: ignore[assignment]
        return client

    def test_connection(self) -> tuple[bool, str]:
        """Ask who we are (v1) and read one space (v2), because the two APIs refuse a credential separately."""
        try:
            user = self.current_user()
            self._json("GET", self._v2("/spaces"), params={"limit": 1})
        except LabelopsError as error:
            return False, str(error)
        except Exception as error:
            return False, f"{type(error).__name__}: the connection cannot be used"
        return True, f"Connected to {self._site} as {user.display_name or user.account_id}"

    # --- accounts and spaces ---------------------------------------------------------------------------------------

    def current_user(self) -> User:
        """Return the account behind the credential; asked once per hook.

        :raises AuthError: the site takes us for an anonymous visitor.
        """
        if self._user is None:
            where = self._v1("/user/current")
            row = _mapping(self._json("GET", where), where)
            if row.get("type") == "anonymous" or not row.get("accountId"):
                raise AuthError("confluence: the site takes this credential for an anonymous visitor", system=SYSTEM)
            self._user = User(str(row["accountId"]), str(row.get("displayName") or ""))
        return self._user

    def space(self, key: str) -> Space:
        """Return a space by its key.

        :raises NotFound: no such space, or the account may not see it.
        """
        where = self._v2("/spaces")
        for row in self._rows(where, {"keys": key}):
            if row.get("key") == key:
                homepage = row.get("homepageId")
                return Space(
                    id=_id(row, "id", where),
                    key=key,
                    name=str(row.get("name") or key),
                    homepage_id=None if homepage is None else str(homepage),
                )
        raise NotFound(f"confluence: no space {key!r}, or the account may not see it", system=SYSTEM)

    # --- pages -----------------------------------------------------------------------------------------------------

    def pages_in_space(self, space_id: str) -> Iterator[Page]:
        """List every current page, 250 a request, without bodies.

        Ends quietly only when the listing was complete; anything else raises, so what was seen is never all there is.
        """
        where = self._v2(f"/spaces/{space_id}/pages")
        for row in self._rows(where, {"status": "current"}):
            yield self._page(row, where)

    def page(self, page_id: str, *, version: int | None = None) -> Page:
        """Return one page with its body, current or at an older version. A page in the trash has status ``trashed``.

        :raises NotFound: no such page or version.
        """
        where = self._v2(f"/pages/{page_id}")
        query = {"body-format": "storage"} | ({} if version is None else {"version": str(version)})
        page = self._page(self._json("GET", where, params=query), where, with_body=True)
        if version is not None and page.version.number != version:
            raise InvalidReply(
                f"confluence: {where}: asked for version {version}, got {page.version.number}", system=SYSTEM
            )
        return page

    def find_page(self, space_id: str, title: str) -> Page | None:
        """Return the current page of that exact title (with body), or None. Letter case counts."""
        if not title.strip():
            raise InvalidInput("confluence: a page title must not be empty")
        where = self._v2(f"/spaces/{space_id}/pages")
        query = {"title": title, "status": "current", "body-format": "storage"}
        for row in self._rows(where, query):
            if row.get("title") == title:
                return self._page(row, where, with_body=True)
        return None

    def versions(self, page_id: str) -> Iterator[PageVersion]:
        """List the versions of a page, newest first."""
        where = self._v2(f"/pages/{page_id}/versions")
        for row in self._rows(where, {"sort": "-modified-date"}):
            yield _version(row, where)

    def create_page(self, space_id: str, title: str, body: str, *, parent_id: str | None = None) -> Page:
        """Create a page and return it as stored.

        When the reply is lost, the page is looked up by its title and taken over if this account made it just now,
        in the same place and with equal canonical text; otherwise the loss is raised and nothing is sent twice.

        :raises Conflict: the space has a page of that title.
        :raises InvalidInput: the body is not storage format, or is over 5 MB.
        :raises Unavailable: no reply, and no such page yet.
        """
        where = self._v2("/pages")
        body_out = {"representation": "storage", "value": body}
        sent: dict[str, Any] = {"spaceId": space_id, "status": "current", "title": title, "body": body_out}
        if parent_id is not None:
            sent["parentId"] = parent_id
        started = datetime.now(UTC)
        try:
            row = self._json("POST", where, json=sent)
        except (Unavailable, InvalidReply) as lost:
            found = self.find_page(space_id, title)
            if found is None or not self._is_ours(found, body, parent_id, started):
                raise lost from None
            return found
        return self._page(row, where, with_body=True, sent_body=body)

    def _is_ours(self, page: Page, body: str, parent_id: str | None, started: datetime) -> bool:
        return (
            page.version.number == 1
            and page.version.author_id == self.current_user().account_id
            and page.version.created >= started - CLOCK_SKEW
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
        if read.status != "current":
            raise Conflict(f"confluence: page {read.id} is {read.status}, so it is not written to", system=SYSTEM)
        where = self._v2(f"/pages/{read.id}")
        wanted_title = read.title if title is None else title
        number = read.version.number + 1
        sent = {
            "id": read.id,
            "status": "current",
            "title": wanted_title,
            "body": {"representation": "storage", "value": body},
            "version": {"number": number, "message": message},
        }
        try:
            row = self._json("PUT", where, json=sent)
        except (Unavailable, InvalidReply, Conflict) as error:
            return self._landed(read, wanted_title, body, error)
        page = self._page(row, where, with_body=True, sent_body=body)
        if page.version.number != number:
            raise InvalidReply(
                f"confluence: {where}: wrote version {number}, the reply says {page.version.number}", system=SYSTEM
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

    def page_url(self, page: Page) -> str:
        """Return the address a person opens."""
        if page.url:
            return page.url
        self.get_conn()
        return f"{self._site}{self._path}/pages/viewpage.action?pageId={page.id}"

    # --- labels and states -----------------------------------------------------------------------------------------

    def labels(self, page_id: str) -> list[str]:
        """Return the names of a page's global labels, sorted."""
        where = self._v2(f"/pages/{page_id}/labels")
        rows = self._rows(where, {"prefix": "global"})
        return sorted(_need(row, "name", str, where) for row in rows if row.get("prefix") == "global")

    def pages_with_label(self, space_key: str, label: str) -> Iterator[str]:
        """List the ids of a space's pages that carry a label.

        Search is an index: it lags behind, and does not see archived pages. An absence proves nothing.
        """
        where = self._v1("/content/search")
        cql = f"label = {_quoted(label)} and space = {_quoted(space_key)} and type = page"
        for row in self._rows(where, {"cql": cql}):
            yield _id(row, "id", where)

    def add_label(self, page_id: str, label: str) -> None:
        """Put a global label on a page; Confluence keeps labels in lower case. Doing it twice changes nothing."""
        if not label or label != label.lower() or any(character.isspace() for character in label):
            raise InvalidInput(f"confluence: label {label!r} must be lower case and hold no blanks")
        where = self._v1(f"/content/{page_id}/label")
        self._call("POST", where, json=[{"prefix": "global", "name": label}], idempotent=True)

    def content_state(self, page_id: str) -> ContentState | None:
        """Return the content state of the published page, or None.

        ``last_updated`` is the publication at which the state changed; the contract calls it text, some sites send
        milliseconds, and both are read.
        """
        where = self._v1(f"/content/{page_id}/state")
        row = _mapping(self._json("GET", where, params={"status": "current"}), where)
        state = row.get("contentState")
        if state is None:
            return None
        changed = row.get("lastUpdated")
        number = _mapping(state, where).get("id")
        return ContentState(
            id=None if number is None else int(number),
            name=_need(state, "name", str, where),
            color=str(state.get("color") or ""),
            last_updated=None if changed in (None, "") else _moment(changed, "lastUpdated", where),
        )

    # --- attachments -----------------------------------------------------------------------------------------------

    def attachments(self, page_id: str) -> Iterator[Attachment]:
        """List a page's current attachments."""
        return self._attachments(page_id, {})

    def _attachments(self, page_id: str, query: Mapping[str, str]) -> Iterator[Attachment]:
        where = self._v2(f"/pages/{page_id}/attachments")
        for row in self._rows(where, {"status": "current", **query}):
            comment = str(row.get("comment") or "")
            yield Attachment(
                id=_id(row, "id", where),
                page_id=str(row.get("pageId") or page_id),
                title=_need(row, "title", str, where),
                media_type=str(row.get("mediaType") or "application/octet-stream"),
                size=_need(row, "fileSize", int, where),
                version=_need(_need(row, "version", dict, where), "number", int, where),
                download=str(row.get("downloadLink") or ""),
                comment=comment,
                sha256=_digest_in(comment),
            )

    def download(self, attachment: Attachment) -> Iterator[bytes]:
        """Stream an attachment's bytes; whoever stops early has only a part, and an end without an error is the whole.

        The site redirects to a media host with a token of its own: our credential never goes to another host.

        :raises InvalidReply: size or SHA-256 is not what was listed.
        :raises Unavailable: the stream broke off.
        """
        path = self._v1(f"/content/{attachment.page_id}/child/attachment/{attachment.id}/download")
        response = self._open(path)
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

    def _open(self, path: str) -> requests.Response:
        client = self.get_conn()
        home = client.url.rstrip("/") + path
        url = home
        for _ in range(REDIRECTS):
            send = self._opener(client, url, same_host=_origin(url) == _origin(home))
            response = self._caller.call("GET", send, path=urlsplit(url).path)
            if response.status_code not in (301, 302, 303, 307, 308):
                if response.status_code != 200:
                    _refuse(response, path)
                return response
            following = urljoin(url, response.headers.get("Location", ""))
            response.close()
            if urlsplit(following).scheme not in ("https", urlsplit(home).scheme):
                raise InvalidReply(f"confluence: {path}: redirected to a less secure address", system=SYSTEM)
            url = following
        raise InvalidReply(f"confluence: {path}: more than {REDIRECTS} redirects", system=SYSTEM)

    def _opener(self, client: AtlassianRestAPI, url: str, *, same_host: bool) -> Callable[[], requests.Response]:
        timeout: Any = client.timeout
        if same_host:
            return lambda: client.session.get(
                url, stream=True, allow_redirects=False, timeout=timeout, verify=client.verify_ssl
            )

        def send_without_credential() -> requests.Response:
            # An auth object that adds nothing also keeps .netrc from adding something.
            return requests.get(
                url,
                stream=True,
                allow_redirects=False,
                timeout=timeout,
                verify=client.verify_ssl,
                auth=lambda request: request,
            )

        return send_without_credential

    def upload(self, page_id: str, name: str, content: bytes, media_type: str) -> tuple[Attachment, bool]:
        """Upload a file unless the same bytes are there; the flag says whether anything was sent.

        The file's SHA-256 is kept in the attachment's comment as ``sha256:<hex>``. A file of the same name gets a new
        version. A lost reply is settled by listing again.

        :raises InvalidInput: the name is empty or holds ``/``.
        """
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
        return next((item for item in self._attachments(page_id, {"filename": name}) if item.title == name), None)

    def _send_file(self, page_id: str, existing: Attachment | None, parts: Mapping[str, Any]) -> None:
        where = self._v1(f"/content/{page_id}/child/attachment") + (f"/{existing.id}/data" if existing else "")
        headers = {"X-Atlassian-Token": "no-check", "Accept": "application/json"}
        self._json("POST", where, files=parts, headers=headers)

    # --- properties and comments -----------------------------------------------------------------------------------

    def property(self, page_id: str, key: str) -> Property | None:
        """Return a content property, or None."""
        where = self._v2(f"/pages/{page_id}/properties")
        for row in self._rows(where, {"key": key}):
            if row.get("key") == key:
                return _property(row, where)
        return None

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
        where = self._v2(f"/pages/{page_id}/properties") + (f"/{read.id}" if read else "")
        sent: dict[str, Any] = {"key": key, "value": value}
        if read:
            sent["version"] = {"number": read.version + 1, "message": ""}
        try:
            return _property(self._json("PUT" if read else "POST", where, json=sent), where)
        except (Unavailable, InvalidReply, Conflict):
            now = self.property(page_id, key)
            expected = read.version + 1 if read else 1
            if now and now.version == expected and _json_bytes(now.value) == _json_bytes(value):
                return now
            raise

    def footer_comments(self, page_id: str) -> Iterator[Comment]:
        """List a page's footer comments, oldest first.

        Author and time are those of the comment's latest version, so an edited comment counts as of its edit.
        """
        where = self._v2(f"/pages/{page_id}/footer-comments")
        for row in self._rows(where, {"body-format": "storage", "sort": "created-date"}):
            version = _version(_need(row, "version", dict, where), where)
            yield Comment(
                id=_id(row, "id", where),
                page_id=str(row.get("pageId") or page_id),
                author_id=version.author_id,
                created=version.created,
                body=_storage_of(row, where),
                version=version.number,
            )

    # --- requests --------------------------------------------------------------------------------------------------

    def _v2(self, path: str) -> str:
        self.get_conn()
        return f"{self._path}/api/v2{path}"

    def _v1(self, path: str) -> str:
        self.get_conn()
        return f"{self._path}/rest/api{path}"

    def _call(
        self,
        method: str,
        path: str,
        *,
        idempotent: bool | None = None,
        headers: Mapping[str, str] | None = None,
        **parts: Any,
    ) -> requests.Response:
        client = self.get_conn()

        def send() -> requests.Response:
            # No redirect is followed: a POST would turn into a GET, and a sign-in page would look like a reply.
            return client.request(
                method, path, advanced_mode=True, allow_redirects=False, headers=dict(headers or {}) or None, **parts
            )

        response = self._caller.call(method, send, path=path, idempotent=idempotent)
        if not 200 <= response.status_code < 300:
            _refuse(response, path)
        return response

    def _json(self, method: str, path: str, **parts: Any) -> Any:
        return read_json(self._call(method, path, **parts), SYSTEM)

    def _rows(self, path: str, query: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield every row of a listing, following ``_links.next`` (or the ``Link`` header) to its end.

        Only the query of the next address is used: through the gateway its path lacks the prefix. No rows end the
        listing, for Confluence can name a next page after the last one.
        """
        parameters: dict[str, Any] = {**query, "limit": PAGE_ROWS}
        seen: set[str] = set()
        while True:
            response = self._call("GET", path, params=parameters)
            document = _mapping(read_json(response, SYSTEM), path)
            rows = _need(document, "results", list, path)
            links = document.get("_links") or {}
            for row in rows:
                yield {**_mapping(row, path), "_base": links.get("base", "")}
            following = links.get("next") or response.links.get("next", {}).get("url")
            if not following or not rows:
                return
            if following in seen:
                raise InvalidReply(f"confluence: {path}: the listing repeats itself and does not end", system=SYSTEM)
            seen.add(following)
            parameters = dict(parse_qs(urlsplit(following).query, keep_blank_values=True))

    def _page(self, row: Any, where: str, *, with_body: bool = False, sent_body: str | None = None) -> Page:
        row = _mapping(row, where)
        links = row.get("_links") or {}
        base = links.get("base") or row.get("_base") or f"{self._site}{self._path}"
        parent = row.get("parentId")
        body = None
        if with_body:
            body = sent_body if sent_body is not None and not row.get("body") else _storage_of(row, where)
        return Page(
            id=_id(row, "id", where),
            title=_need(row, "title", str, where),
            space_id=_id(row, "spaceId", where),
            status=_need(row, "status", str, where),
            version=_version(_need(row, "version", dict, where), where),
            parent_id=None if parent is None else str(parent),
            author_id=str(row.get("authorId") or ""),
            body=body,
            url=base + links["webui"] if links.get("webui") else "",
        )


# --- connection fields ---------------------------------------------------------------------------------------------


def _choice(extra: Mapping[str, Any], name: str, allowed: tuple[str, ...]) -> str:
    value = extra.get(name) or allowed[0]
    if value not in allowed:
        raise InvalidInput(f"confluence: connection extra `{name}`: found {value!r}, allowed are {', '.join(allowed)}")
    return str(value)


def _verify(value: Any) -> Any:
    if isinstance(value, str) and value.lower() in ("true", "false", ""):
        return value.lower() != "false"
    return True if value is None else value


def _seconds(value: Any) -> float:
    try:
        seconds = float(60 if value is None else value)
    except (TypeError, ValueError):
        seconds = 0.0
    if seconds <= 0:
        raise InvalidInput("confluence: connection extra `timeout` must be a number of seconds above 0")
    return seconds


class _OnlyWarnings(logging.Filter):
    """Keeps the library's debug lines out of every log: they hold request and reply bodies."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let warnings and worse through."""
        return record.levelno >= logging.WARNING


def _quiet_library() -> None:
    logger = logging.getLogger("atlassian.rest_client")
    if not any(isinstance(item, _OnlyWarnings) for item in logger.filters):
        logger.addFilter(_OnlyWarnings())


# --- refusals ------------------------------------------------------------------------------------------------------


def _refuse(response: requests.Response, path: str) -> None:
    """Raise the error that a refusal stands for.

    Told apart as on live sites: v2 puts ``errors[].title``, v1 ``message``, the gateway ``code`` and ``message``; a
    404 in HTML is a route that does not exist, a 401 in HTML comes from the container before Confluence.
    """
    status = response.status_code
    said, in_json = _said(response)
    text = f"confluence: {path}: {status} {said}".rstrip()
    if status in (401, 403):
        hint = (
            "its scopes do not allow this"
            if "scope" in said.lower()
            else "the credential is refused, or lacks the right"
        )
        if not in_json:
            hint = (
                "the token is refused before it reaches Confluence; a scoped token needs `cloud_id` in the connection"
            )
        raise AuthError(f"{text}: {hint}", system=SYSTEM, status=status)
    if status == 404 and said == "Not Found":
        raise AuthError(f"{text}: this bare answer means a rejected credential", system=SYSTEM, status=status)
    if status == 404 and in_json:
        raise NotFound(text, system=SYSTEM, status=status)
    if status == 409 or (status == 400 and (DUPLICATE_TITLE in said or DUPLICATE_NAME in said)):
        raise Conflict(text, system=SYSTEM, status=status)
    if status in (400, 413) and in_json:
        raise InvalidInput(text)
    if status in (405, 410):
        raise Unsupported(f"{text}: this site does not offer the call", system=SYSTEM, status=status)
    if status >= 500:
        raise Unavailable(text, system=SYSTEM, status=status)
    if 300 <= status < 400:
        host = urlsplit(response.headers.get("Location", "")).netloc or "another page"
        text += f" redirects to {host}: check the connection's host"
    raise InvalidReply(f"{text}: not an answer of Confluence's API; check host and path", system=SYSTEM, status=status)


def _said(response: requests.Response) -> tuple[str, bool]:
    """Return what the server said, at most 300 characters, and whether it spoke JSON."""
    try:
        body = response.json()
    except ValueError:
        return "", False
    if not isinstance(body, dict):
        return "", True
    errors = body.get("errors")
    if isinstance(errors, list) and errors and isinstance(errors[0], dict):
        first = errors[0]
        return " ".join(str(first[name]) for name in ("title", "detail") if first.get(name))[:300], True
    return str(body.get("message") or "")[:300], True


# --- reading replies -----------------------------------------------------------------------------------------------


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidReply(f"confluence: {where}: expected an object, found {type(value).__name__}", system=SYSTEM)
    return value


def _need(row: Mapping[str, Any], name: str, kind: type[Kind], where: str) -> Kind:
    value = row.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        found = "nothing" if value is None else type(value).__name__
        raise InvalidReply(
            f"confluence: {where}: field `{name}`: expected {kind.__name__}, found {found}", system=SYSTEM
        )
    return value


def _id(row: Mapping[str, Any], name: str, where: str) -> str:
    value = row.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _need(row, name, str, where)


def _version(row: Mapping[str, Any], where: str) -> PageVersion:
    return PageVersion(
        number=_need(row, "number", int, where),
        created=_moment(row.get("createdAt"), "version.createdAt", where),
        author_id=str(row.get("authorId") or ""),
        message=str(row.get("message") or ""),
    )


def _property(row: Any, where: str) -> Property:
    row = _mapping(row, where)
    if "value" not in row:
        raise InvalidReply(f"confluence: {where}: field `value` is missing", system=SYSTEM)
    number = _need(_need(row, "version", dict, where), "number", int, where)
    return Property(_id(row, "id", where), _need(row, "key", str, where), row["value"], number)


def _storage_of(row: Mapping[str, Any], where: str) -> str:
    body = _need(row, "body", dict, where)
    return _need(_need(body, "storage", dict, where), "value", str, where)


def _moment(value: Any, name: str, where: str) -> datetime:
    """Return a moment in UTC from ISO 8601 with ``Z``, ``+0000`` or an offset, or from epoch milliseconds."""
    try:
        if isinstance(value, str) and not value.isdigit():
            moment = datetime.fromisoformat(value)
            if moment.tzinfo is not None:
                return moment.astimezone(UTC)
        elif isinstance(value, (int, float, str)) and not isinstance(value, bool):
            return datetime.fromtimestamp(int(value) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        pass
    raise InvalidReply(f"confluence: {where}: field `{name}` is not a time with zone", system=SYSTEM)


def _json_bytes(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def _digest_in(comment: str) -> str | None:
    for word in comment.split():
        value = word.removeprefix("sha256:")
        if value != word and len(value) == 64 and all(character in "0123456789abcdef" for character in value):
            return value
    return None


def _with_charset(media_type: str) -> str:
    return (
        f"{media_type}; charset=utf-8" if media_type.startswith("text/") and "charset" not in media_type else media_type
    )


def _quoted(text: str) -> str:
    """Return a CQL string; an unescaped quote would let the text add clauses."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port
