"""The HTTP side of Confluence's client: address and credential, one session a thread, refusals, pages of lists.

Built on the plain verbs of ``atlassian-python-api`` with paths of our own, because its high-level classes address
endpoints that Cloud does not have.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urljoin, urlsplit

import requests

from include.base.errors import AuthError, Conflict, InvalidInput, InvalidReply, NotFound, Unavailable, Unsupported
from include.systems.confluence.replies import SYSTEM, links_of, mapping, need, text
from include.systems.confluence.settings import Settings
from include.systems.confluence.walks import Rows
from include.systems.http import HttpCaller, RetryPolicy, read_json, said_in, segment
from include.systems.pace import pace_of
from include.systems.quiet import quiet_libraries

if TYPE_CHECKING:
    from atlassian.rest_client import AtlassianRestAPI

__all__ = ["Transport", "anonymous", "query_of", "refuse", "rows_of"]

CONNECT_SECONDS = 10.0
REQUESTS_PER_SECOND = {"cloud": 90.0, "datacenter": None}
"""Cloud: a tenth below the burst limit of 100 reads a second that is reported, per tenant, endpoint and method. Data
Center: an administrator sets the limit, and most set none."""
REDIRECTS = 5

DUPLICATE_TITLE = "already exists"
DUPLICATE_NAME = "same file name as an existing attachment"


class Transport:
    """Sends the requests of one client.

    :param policy: how often and how patiently a request is tried.
    :raises InvalidInput: ``requests_per_second`` in the connection is no such number.
    """

    def __init__(self, settings: Settings, policy: RetryPolicy | None = None) -> None:
        pace = pace_of(SYSTEM, settings.site, settings.extra, REQUESTS_PER_SECOND[settings.flavour])
        self.settings = settings
        self.caller = HttpCaller(SYSTEM, policy, pace)
        self._threads = threading.local()
        self._lock = threading.Lock()
        self._cloud_id = settings.cloud_id

    def session(self) -> AtlassianRestAPI:
        """Return this thread's session, made on first use: one is not thread-safe."""
        found = getattr(self._threads, "session", None)
        if found is None:
            found = self._threads.session = self._connect()
        return found

    def _connect(self) -> AtlassianRestAPI:
        from atlassian.rest_client import AtlassianRestAPI

        settings = self.settings
        credential: dict[str, Any] = {"token": settings.secret}
        if settings.auth in ("basic", "scoped"):
            credential = {"username": settings.login, "password": settings.secret}
        quiet_libraries()
        address = f"{settings.gateway}/{self._id_at_gateway()}" if settings.through_gateway else settings.site
        client = AtlassianRestAPI(
            url=address,
            advanced_mode=True,
            backoff_and_retry=False,
            retry_with_header=False,
            verify_ssl=settings.verify,
            **credential,
        )
        client.timeout = (CONNECT_SECONDS, settings.timeout)  # type: ignore[assignment]
        return client

    def _id_at_gateway(self) -> str:
        """Return the cloud id, asked for once: every site tells it to anybody at ``/_edge/tenant_info``."""
        with self._lock:
            if not self._cloud_id:
                path = "/_edge/tenant_info"
                response = self.caller.call("GET", self._without_credential(self.settings.site + path), path=path)
                if response.status_code != 200:
                    raise InvalidInput(
                        f"confluence: {path}: {response.status_code}: the site does not tell its cloud id; "
                        "set `cloud_id` in the connection"
                    )
                self._cloud_id = need(mapping(read_json(response, SYSTEM), path), "cloudId", str, path)
            return segment(self._cloud_id)

    # --- single requests -------------------------------------------------------------------------------------------

    def call(
        self,
        method: str,
        path: str,
        *,
        scope: str = "",
        idempotent: bool | None = None,
        headers: Mapping[str, str] | None = None,
        **parts: Any,
    ) -> requests.Response:
        """Send one request below the site's (or gateway's) address and return a reply of status 2xx.

        :param scope: the scope that the call needs, named when it is missing.
        :param parts: ``params``, ``json`` or ``files`` of the request.
        :raises LabelopsError: the refusal, by kind.
        """
        client = self.session()

        def send() -> requests.Response:
            # No redirect is followed: a POST would turn into a GET, and a sign-in page would look like a reply.
            return client.request(
                method, path, advanced_mode=True, allow_redirects=False, headers=dict(headers or {}) or None, **parts
            )

        response = self.caller.call(method, send, path=path, idempotent=idempotent)
        if not 200 <= response.status_code < 300:
            refuse(response, path, scope, self.settings.flavour)
        return response

    def json(self, method: str, path: str, **parts: Any) -> Any:
        """Send one request and return the reply's JSON."""
        return read_json(self.call(method, path, **parts), SYSTEM)

    # --- one page of a list ----------------------------------------------------------------------------------------

    def cursor_rows(
        self, path: str, query: Mapping[str, Any], place: str | None, *, scope: str = ""
    ) -> Rows[dict[str, Any]]:
        """Return the rows of one page of a list, and where the next page begins: the query of ``next``, as sent.

        ``next`` is ``_links.next`` of the body or of the ``Link`` header. Only its query is used: through the gateway
        its path lacks the prefix. A page without rows is the last, for Confluence can name a next page after the end.
        """
        # What `next` names is sent as it came, and what it leaves out (`excerpt`, for one) is sent again.
        parameters = {**query, **(parse_qs(place, keep_blank_values=True) if place else {})}
        response = self.call("GET", path, params=parameters, scope=scope)
        rows, document = rows_of(response, path)
        following = text(links_of(document, path), "next", path) or response.links.get("next", {}).get("url")
        return rows, query_of(following, path) if following and rows else None

    def offset_rows(
        self, path: str, query: Mapping[str, Any], place: str | None, *, scope: str = ""
    ) -> Rows[dict[str, Any]]:
        """Return the rows of one page of a list that counts with ``start``, and the next ``start``.

        The next start is this one plus the rows that came, for a server may send fewer than asked for; only a page
        without rows, or one that names no next while fewer rows came than its own ``limit``, is the last.
        """
        start = int(place) if place and place.isdigit() else 0
        rows, document = rows_of(self.call("GET", path, params={**query, "start": start}, scope=scope), path)
        limit = document.get("limit")
        more = links_of(document, path).get("next") or (isinstance(limit, int) and len(rows) >= limit)
        return rows, str(start + len(rows)) if rows and more else None

    # --- streams ---------------------------------------------------------------------------------------------------

    def open(self, path: str, *, scope: str = "") -> requests.Response:
        """Return an open stream of a file; redirects to another host go without our credential.

        :param scope: the scope that the call needs, named when it is missing.
        :raises InvalidReply: too many redirects, or one to a less secure address.
        """
        client = self.session()
        home = client.url.rstrip("/") + path
        url = home
        for _ in range(REDIRECTS):
            at_home = _origin(url) == _origin(home)
            send = self._streaming(client, url) if at_home else self._without_credential(url, stream=True)
            response = self.caller.call("GET", send, path=urlsplit(url).path)
            if response.status_code not in (301, 302, 303, 307, 308):
                if response.status_code != 200:
                    refuse(response, path, scope, self.settings.flavour)
                return response
            following = _location(response, url, path)
            response.close()
            if urlsplit(following).scheme not in ("https", urlsplit(home).scheme):
                raise InvalidReply(f"confluence: {path}: redirected to a less secure address", system=SYSTEM)
            url = following
        raise InvalidReply(f"confluence: {path}: more than {REDIRECTS} redirects", system=SYSTEM)

    def _streaming(self, client: AtlassianRestAPI, url: str) -> Callable[[], requests.Response]:
        timeout: Any = client.timeout
        return lambda: client.session.get(
            url, stream=True, allow_redirects=False, timeout=timeout, verify=client.verify_ssl
        )

    def _without_credential(self, url: str, *, stream: bool = False) -> Callable[[], requests.Response]:
        def send() -> requests.Response:
            # An auth object that adds nothing also keeps .netrc from adding something.
            return requests.get(
                url,
                stream=stream,
                allow_redirects=False,
                timeout=(CONNECT_SECONDS, self.settings.timeout),
                verify=self.settings.verify,
                auth=lambda request: request,
            )

        return send


# --- replies -------------------------------------------------------------------------------------------------------


def rows_of(response: requests.Response, path: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the rows of one page of a list, each with the list's address for links as ``_base``, and the whole reply.

    :raises InvalidReply: the reply is no such page.
    """
    document = mapping(read_json(response, SYSTEM), path)
    base = text(links_of(document, path), "base", path)
    return [{**mapping(row, path), "_base": base} for row in need(document, "results", list, path)], document


def query_of(link: str, path: str) -> str:
    """Return the query of a link in a reply.

    :raises InvalidReply: it is no address.
    """
    try:
        return urlsplit(link).query
    except ValueError as error:
        raise InvalidReply(f"confluence: {path}: the link to the next page is no address", system=SYSTEM) from error


def _location(response: requests.Response, url: str, path: str) -> str:
    try:
        return urlsplit(urljoin(url, response.headers.get("Location", ""))).geturl()
    except ValueError as error:
        raise InvalidReply(f"confluence: {path}: redirected to what is no address", system=SYSTEM) from error


def anonymous() -> AuthError:
    """Return the error for a site that answers as it answers visitors."""
    return AuthError("confluence: the site takes this credential for an anonymous visitor", system=SYSTEM)


# --- refusals ------------------------------------------------------------------------------------------------------


def refuse(response: requests.Response, path: str, scope: str, flavour: str) -> None:
    """Raise the error that a refusal stands for.

    Told apart as on live sites: v2 puts ``errors[].title``, v1 ``message``, the gateway ``code`` and ``message``; a
    404 in HTML is a route that does not exist, a 401 in HTML comes from the container before Confluence.
    """
    status = response.status_code
    said, in_json = _said(response)
    text = f"confluence: {path}: {status} {said}".rstrip()
    if status in (401, 403):
        raise AuthError(f"{text}: {_hint(said, in_json, scope, flavour)}", system=SYSTEM, status=status)
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
        host = urlsplit(_location(response, "", path)).netloc or "another page"
        text += f" redirects to {host}: check the connection's host"
    raise InvalidReply(f"{text}: not an answer of Confluence's API; check host and path", system=SYSTEM, status=status)


def _hint(said: str, in_json: bool, scope: str, flavour: str) -> str:
    if flavour == "datacenter":
        return (
            "the account lacks the right, or the credential is refused: `auth` = bearer in the connection sends a "
            "personal access token, basic a user name and password"
        )
    if not in_json:
        return (
            "the token is refused before it reaches Confluence; a scoped token needs `auth` = scoped in the "
            "connection (or its `cloud_id`)"
        )
    if "scope" in said.lower():
        return f"its scopes do not allow this; the call needs {scope or 'another one'}"
    return "the credential is refused, or lacks the right"


def _said(response: requests.Response) -> tuple[str, bool]:
    """Return what the server said, at most 300 characters, and whether it spoke JSON."""
    body = said_in(response)
    if body is None:
        return "", False
    errors = body.get("errors")
    if isinstance(errors, list) and errors and isinstance(errors[0], dict):
        first = errors[0]
        return " ".join(str(first[name]) for name in ("title", "detail") if first.get(name))[:300], True
    return str(body.get("message") or "")[:300], True


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port
