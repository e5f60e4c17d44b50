"""The HTTP side of the Confluence door: address and credential, one client a thread, refusals, pages of lists.

Built on the plain verbs of ``atlassian-python-api`` with paths of our own, because its high-level classes address
endpoints that Cloud does not have.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qs, urljoin, urlsplit

import requests

from include.base.errors import (
    AuthError,
    Conflict,
    InvalidInput,
    InvalidReply,
    NotFound,
    Unavailable,
    Unsupported,
)
from include.systems.http import HttpCaller, base_url, choice, read_json, segment
from include.systems.pace import pace_of
from include.systems.quiet import quiet_libraries
from labelops.hooks.confluence.replies import SYSTEM, mapping, need

if TYPE_CHECKING:
    from atlassian.rest_client import AtlassianRestAPI

__all__ = ["AUTH", "FLAVOURS", "GATEWAY", "Client", "Settings"]

GATEWAY = "https://api.atlassian.com/ex/confluence"
FLAVOURS = ("cloud", "datacenter")
AUTH = ("basic", "bearer", "scoped", "oauth2")
CONNECT_SECONDS = 10.0
REQUESTS_PER_SECOND = {"cloud": 90.0, "datacenter": None}
"""Cloud: a tenth below the burst limit of 100 reads a second that is reported, per tenant, endpoint and method. Data
Center: an administrator sets the limit, and most set none."""
REDIRECTS = 5

DUPLICATE_TITLE = "already exists"
DUPLICATE_NAME = "same file name as an existing attachment"


class _Connection(Protocol):
    host: str | None
    schema: str | None
    port: int | None
    login: str | None
    password: str | None

    @property
    def extra_dejson(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Settings:
    """What a connection says, checked.

    :param site: the address people use, without ``path`` and trailing slash.
    :param path: where Confluence is below the site (``/wiki`` for Cloud, nothing for Data Center).
    :param auth: ``basic`` (login and token or password), ``bearer`` (a personal or access token), both at the site
        or, with ``cloud_id``, at the gateway; ``scoped`` (login and a scoped API token) and ``oauth2`` (an OAuth 2
        access token), both always at the gateway.
    :param gateway: address of Atlassian's gateway, before the cloud id.
    :param cloud_id: the site's id at the gateway; empty when it is to be asked for, or no gateway is used.
    """

    site: str
    path: str
    flavour: str
    auth: str
    login: str = field(repr=False)
    secret: str = field(repr=False)
    gateway: str = GATEWAY
    cloud_id: str = ""
    verify: Any = True
    timeout: float = 60.0
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, connection: _Connection) -> Settings:
        """Return the settings of a connection.

        :raises InvalidInput: a field has a value that is not allowed, or is missing.
        """
        extra = connection.extra_dejson
        flavour, auth = choice(extra, "flavour", FLAVOURS, SYSTEM), choice(extra, "auth", AUTH, SYSTEM)
        if flavour == "datacenter" and auth not in ("basic", "bearer"):
            raise InvalidInput(f"confluence: connection extra `auth`: {auth!r} is Cloud's; allowed are basic, bearer")
        default = "/wiki" if flavour == "cloud" else ""
        found = extra.get("path")
        path = "/" + str(default if found is None else found).strip("/")
        path = "" if path == "/" else path
        if not connection.password:
            raise InvalidInput("confluence: the connection's password is empty; it holds the token")
        if auth in ("basic", "scoped") and not connection.login:
            raise InvalidInput("confluence: the connection's login is empty; it holds the account's e-mail or name")
        gateway = str(extra.get("gateway") or GATEWAY).rstrip("/")
        if urlsplit(gateway).scheme not in ("http", "https") or not urlsplit(gateway).hostname:
            raise InvalidInput("confluence: connection extra `gateway` must be an address like https://host/path")
        return cls(
            site=base_url(connection, SYSTEM).removesuffix(path),
            path=path,
            flavour=flavour,
            auth=auth,
            login=connection.login or "",
            secret=connection.password,
            gateway=gateway,
            cloud_id=str(extra.get("cloud_id") or "").strip(),
            verify=_verify(extra.get("verify", True)),
            timeout=_seconds(extra.get("timeout", 60)),
            extra=extra,
        )

    @property
    def through_gateway(self) -> bool:
        """Tell whether calls go to the gateway instead of the site."""
        return bool(self.cloud_id) or self.auth in ("scoped", "oauth2")


class Client:
    """Sends the requests of one hook.

    :param caller: tries again and counts.
    """

    def __init__(self, settings: Settings, caller: HttpCaller) -> None:
        self.settings = settings
        self._caller = caller
        self._threads = threading.local()
        self._lock = threading.Lock()
        self._cloud_id = settings.cloud_id
        default = REQUESTS_PER_SECOND[settings.flavour]
        caller.pace = pace_of(SYSTEM, settings.site, settings.extra, default)

    def session(self) -> AtlassianRestAPI:
        """Return this thread's client, made on first use: a session is not thread-safe."""
        client = getattr(self._threads, "client", None)
        if client is None:
            client = self._threads.client = self._connect()
        return client

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
                response = self._caller.call("GET", self._without_credential(self.settings.site + path), path=path)
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

        response = self._caller.call(method, send, path=path, idempotent=idempotent)
        if not 200 <= response.status_code < 300:
            refuse(response, path, scope)
        return response

    def json(self, method: str, path: str, **parts: Any) -> Any:
        """Send one request and return the reply's JSON."""
        return read_json(self.call(method, path, **parts), SYSTEM)

    # --- one page of a list ----------------------------------------------------------------------------------------

    def cursor_rows(
        self, path: str, query: Mapping[str, Any], place: str | None, *, scope: str = ""
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Return the rows of one page of a list, and where the next page begins: the query of ``next``, as sent.

        ``next`` is ``_links.next`` of the body or of the ``Link`` header. Only its query is used: through the gateway
        its path lacks the prefix. A page without rows is the last, for Confluence can name a next page after the end.
        Each row gets ``_base``, the list's base address for links.
        """
        # What `next` names is sent as it came, and what it leaves out (`excerpt`, for one) is sent again.
        parameters = {**query, **(parse_qs(place, keep_blank_values=True) if place else {})}
        response = self.call("GET", path, params=parameters, scope=scope)
        document = mapping(read_json(response, SYSTEM), path)
        rows = need(document, "results", list, path)
        links = document.get("_links") or {}
        found = [{**mapping(row, path), "_base": links.get("base", "")} for row in rows]
        following = links.get("next") or response.links.get("next", {}).get("url")
        return found, urlsplit(following).query if following and rows else None

    def offset_rows(
        self, path: str, query: Mapping[str, Any], place: str | None, *, scope: str = ""
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Return the rows of one page of a list that counts with ``start``, and the next ``start``.

        The next start is this one plus the rows that came, for a server may send fewer than asked for; only a page
        without rows, or one that names no next while fewer rows came than its own ``limit``, is the last.
        """
        start = int(place) if place and place.isdigit() else 0
        response = self.call("GET", path, params={**query, "start": start}, scope=scope)
        document = mapping(read_json(response, SYSTEM), path)
        links = document.get("_links") or {}
        rows = [{**mapping(row, path), "_base": links.get("base", "")} for row in need(document, "results", list, path)]
        limit = document.get("limit")
        more = links.get("next") or (isinstance(limit, int) and len(rows) >= limit)
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
            response = self._caller.call("GET", send, path=urlsplit(url).path)
            if response.status_code not in (301, 302, 303, 307, 308):
                if response.status_code != 200:
                    refuse(response, path, scope)
                return response
            following = urljoin(url, response.headers.get("Location", ""))
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


# --- connection fields ---------------------------------------------------------------------------------------------


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


# --- refusals ------------------------------------------------------------------------------------------------------


def refuse(response: requests.Response, path: str, scope: str = "") -> None:
    """Raise the error that a refusal stands for.

    Told apart as on live sites: v2 puts ``errors[].title``, v1 ``message``, the gateway ``code`` and ``message``; a
    404 in HTML is a route that does not exist, a 401 in HTML comes from the container before Confluence.
    """
    status = response.status_code
    said, in_json = _said(response)
    text = f"confluence: {path}: {status} {said}".rstrip()
    if status in (401, 403):
        raise AuthError(f"{text}: {_hint(said, in_json, scope)}", system=SYSTEM, status=status)
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


def _hint(said: str, in_json: bool, scope: str) -> str:
    if not in_json:
        return (
            "the token is refused before it reaches Confluence; on Cloud, a scoped token needs `auth` = scoped in the "
            "connection (or its `cloud_id`)"
        )
    if "scope" in said.lower():
        return f"its scopes do not allow this; the call needs {scope or 'another one'}"
    return "the credential is refused, or lacks the right"


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


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port
