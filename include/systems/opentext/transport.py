"""Requests to the service: tokens, errors, and lists that are walked page by page."""

from __future__ import annotations

import hashlib
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import isnan, nan
from typing import Any, Protocol, TypeVar

import requests

from include.base.errors import (
    AuthError,
    InvalidInput,
    InvalidReply,
    OutsideError,
)
from include.systems.http import HttpCaller, RetryPolicy, read_json, refusal, said_in
from include.systems.listing import Listing
from include.systems.opentext.settings import Settings
from include.systems.opentext.walk import Walk, name_of
from include.systems.opentext.wire import SYSTEM, as_object
from include.systems.quiet import quiet_libraries

__all__ = ["RIGHTS", "Transport"]


class _Named(Protocol):
    @property
    def id(self) -> str: ...


Item = TypeVar("Item", bound=_Named)
Found = TypeVar("Found")

log = logging.getLogger(__name__)

RIGHTS = {
    "processes": "Start, read and end processes",
    "variables": "Write process variables and comments",
    "tasks": "Read and update tasks",
    "history": "Read history",
    "models": "Read models",
}
"""What the client must be allowed to do, by area. Deploying models is for whoever models, and for the demo."""
_HEADER = re.compile(r"[!-~]+")
"""What a header can carry of a token: anything else would end the request before it is sent."""
_EARLY_SECONDS = 60.0
"""A token is renewed this long before it expires."""


@dataclass
class _Token:
    value: str
    renew_at: float


class _Tokens:
    """The access tokens of this process, one for each credential; a credential is asked for by one thread at a time."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._tokens: dict[str, _Token] = {}

    def lock(self, key: str) -> threading.Lock:
        with self._guard:
            return self._locks.setdefault(key, threading.Lock())

    def get(self, key: str) -> str | None:
        token = self._tokens.get(key)
        return token.value if token and time.monotonic() < token.renew_at else None

    def put(self, key: str, token: _Token) -> None:
        self._tokens[key] = token

    def drop(self, key: str, value: str) -> None:
        """Forget a token that was refused, unless another thread has renewed it meanwhile."""
        with self.lock(key):
            token = self._tokens.get(key)
            if token and token.value == value:
                del self._tokens[key]


_TOKENS = _Tokens()


class Transport:
    """Sends the requests of one client. The HTTP session is opened by the first of them.

    :param settings: the service and the account.
    :param policy: the retry policy of single requests.
    :param mask: told each token before its first use, so that no log shows it.
    """

    def __init__(self, settings: Settings, policy: RetryPolicy | None, mask: Callable[[str], None]) -> None:
        self.settings = settings
        self.caller = HttpCaller(SYSTEM, policy)
        self._mask = mask
        self._opened: requests.Session | None = None

    def listing(
        self,
        of: str,
        collection: str,
        filters: Mapping[str, str],
        make: Callable[[dict[str, Any], str], Item],
        resume: str | None = None,
        fits: Callable[[Item], bool] = lambda item: True,
    ) -> Listing[Item]:
        """Return a collection as a listing that can be taken up again.

        ``offset`` counts elements, and a page may be shorter than asked for. The end is ``page.totalElements`` where it
        is given. Otherwise it is a page shorter than asked for without a ``next`` link: the link alone proves nothing,
        for it was seen missing on full pages, and a service may cap the page size below what was asked for. An empty
        page always ends.

        Elements that vanish while the list is walked move the later ones up. So each page begins with the last elements
        of the one before (unless ``count`` is 1); where they are not there, it is looked for further up, and
        the list is begun again where none of them is left. An element may then come twice, and none is left out.

        :param of: what is listed, with everything that chooses it.
        :param make: an element as its type, with the list's path for messages.
        :param fits: what the service cannot choose by is left out here.
        :raises InvalidReply: the service answers with the same page again, so the list would never end.
        :raises Unavailable: the list changes faster than it can be read.
        """
        path = self.settings.at(collection)
        walk = self._walk(path, collection, filters)

        def fetch(place: str | None) -> tuple[list[Item], str | None]:
            items, following = walk.page(place)
            return [item for item in (make(item, path) for item in items) if fits(item)], following

        return Listing(of, fetch, lambda item: item.id, resume)

    def elements(
        self, path: str, collection: str, filters: Mapping[str, str] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield the elements of a collection as they come, page by page; see :meth:`listing`."""
        return Listing(path, self._walk(path, collection, filters or {}).page, name_of)

    def _walk(self, path: str, collection: str, filters: Mapping[str, str]) -> Walk:
        return Walk(path, self.settings.count, lambda offset: self._page(path, collection, filters, offset))

    def _page(
        self, path: str, collection: str, filters: Mapping[str, str], offset: int
    ) -> tuple[list[dict[str, Any]], bool]:
        """Return a collection's elements from an offset on, and whether more follow."""
        reply = self.get(path, {**filters, "offset": offset, "count": self.settings.count})
        items = self.embedded(reply, collection, path)
        return items, bool(items) and not self._is_last(reply, offset + len(items), len(items))

    def _is_last(self, reply: Mapping[str, Any], seen: int, length: int) -> bool:
        total, links = _total(reply), reply.get("_links")
        if total is not None:
            return seen >= total
        return length < self.settings.count and not (isinstance(links, dict) and "next" in links)

    def embedded(self, reply: Any, collection: str, path: str) -> list[dict[str, Any]]:
        """Return the elements in a page of a collection, whatever the service calls their list.

        :raises InvalidReply: the page has several lists, and none of the name expected.
        """
        embedded = as_object(reply, path).get("_embedded")
        if embedded is None:
            return []
        lists = {name: value for name, value in as_object(embedded, path).items() if isinstance(value, list)}
        rel = self.settings.rels.get(collection, collection)
        if rel in lists:
            items = lists[rel]
        elif len(lists) == 1:
            items = next(iter(lists.values()))
        else:
            raise InvalidReply(
                f"{SYSTEM}: {path}: the list {rel!r} is not in the reply, which has: "
                f"{', '.join(sorted(lists)) or 'none'}; "
                f"name it in the connection's extra `rels`",
                system=SYSTEM,
            )
        return [as_object(item, path) for item in items]

    def short_list(self, path: str, collection: str) -> list[dict[str, Any]]:
        """Return a list that comes whole, bare as Flowable's does or in ``_embedded``."""
        reply = self.get(path, {})
        if isinstance(reply, list):
            return [as_object(item, path) for item in reply]
        return self.embedded(reply, collection, path)

    def element(self, path: str, params: Mapping[str, Any], make: Callable[[dict[str, Any], str], Found]) -> Found:
        """Return one element of a collection as its type.

        :param make: see :meth:`listing`.
        """
        return make(as_object(self.get(path, params), path), path)

    def get(self, path: str, params: Mapping[str, Any]) -> Any:
        """Return a reply's JSON."""
        return read_json(self.request("GET", path, params=params), SYSTEM)

    def post(self, path: str, *, json: Any = None, files: Any = None) -> dict[str, Any]:
        """Send one POST, once, and return the JSON object that answers it; raises as :meth:`request` does."""
        return as_object(read_json(self.request("POST", path, json=json, files=files), SYSTEM), path)

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        files: Any = None,
        idempotent: bool | None = None,
    ) -> requests.Response:
        """Send one request with a token; a refused token is renewed exactly once.

        :raises AuthError: 401 with a fresh token, or 403.
        :raises InvalidInput: 400, 415 or 422.
        :raises NotFound, Conflict, Unsupported, Unavailable, InvalidReply: 404; 409; 405 and 501; 5xx; anything else.
        """

        def send(token: str) -> requests.Response:
            return self.caller.call(
                method,
                lambda: self._session.request(
                    method,
                    self.settings.root + path,
                    params=params,
                    json=json,
                    files=files,
                    headers={"Authorization": f"Bearer {token}", "Accept": "application/json"},
                    timeout=self.settings.timeout,
                    allow_redirects=False,
                ),
                path=path,
                idempotent=idempotent,
            )

        token = self._token()
        response = send(token)
        if response.status_code == 401:
            log.info("%s: the access token was refused; asking for a new one.", SYSTEM)
            _TOKENS.drop(self._credential(), token)
            response = send(self._token())
        if response.status_code == 403:
            area = self._area(path)
            right = "Deploy models" if area == "models" and method == "POST" else RIGHTS[area]
            raise AuthError(
                f"{SYSTEM}: {method} {path}: 403, {_reason(response)}; the client {self.settings.client_id!r} lacks "
                f"the right: {right}",
                system=SYSTEM,
                status=403,
            )
        if response.status_code >= 300:
            raise _refusal(method, path, response)
        return response

    @property
    def _session(self) -> requests.Session:
        if self._opened is None:
            quiet_libraries()
            self._opened = requests.Session()
            self._opened.verify = self.settings.verify
        return self._opened

    def _area(self, path: str) -> str:
        chosen = self.settings
        if path.startswith(chosen.history + "/"):
            return "history"
        for name in ("tasks", "models"):
            if (path + "/").startswith(chosen.at(name) + "/"):
                return name
        return "variables" if "/variables" in path or "/comments" in path else "processes"

    def _credential(self) -> str:
        chosen = self.settings
        whole = "\0".join((chosen.token_url, chosen.client_id, chosen.secret))
        return hashlib.sha256(whole.encode("utf-8")).hexdigest()

    def _token(self) -> str:
        key = self._credential()
        cached = _TOKENS.get(key)
        if cached:
            return cached
        with _TOKENS.lock(key):
            cached = _TOKENS.get(key)
            if cached:
                return cached
            token = self._ask_for_token()
            _TOKENS.put(key, token)
            return token.value

    def _ask_for_token(self) -> _Token:
        chosen = self.settings
        fields = {"grant_type": "client_credentials"}
        options: dict[str, Any] = {}
        if chosen.token_style == "basic":  # noqa: S105 - the name of a style
            options = {"data": fields, "auth": (chosen.client_id, chosen.secret)}
        else:
            fields = {"client_id": chosen.client_id, "client_secret": chosen.secret, **fields}
            options = {"json": fields} if chosen.token_style == "json" else {"data": fields}  # noqa: S105
        # Asking twice for a token does no harm.
        response = self.caller.call(
            "POST",
            lambda: self._session.post(chosen.token_url, timeout=chosen.timeout, allow_redirects=False, **options),
            path=chosen.token_url.removeprefix(chosen.root),
            idempotent=True,
        )
        if response.status_code in (400, 401, 403):
            raise AuthError(
                f"{SYSTEM}: no access token for the client {chosen.client_id!r} ({_reason(response)}); "
                "check login, password and tenant_id of the connection",
                system=SYSTEM,
                status=response.status_code,
            )
        if response.status_code >= 300:
            raise _refusal("POST", chosen.token_url.removeprefix(chosen.root), response)
        reply = as_object(read_json(response, SYSTEM), "the token reply")
        value = reply.get("access_token")
        try:
            seconds = float(reply.get("expires_in", 300))
        except (TypeError, ValueError, OverflowError):
            seconds = nan
        if not isinstance(value, str) or not _HEADER.fullmatch(value) or isnan(seconds):
            raise InvalidReply(
                f"{SYSTEM}: the token reply needs `access_token` and a number in `expires_in`", system=SYSTEM
            )
        self._mask(value)
        return _Token(value, time.monotonic() + seconds - _EARLY_SECONDS)


def _reason(response: requests.Response) -> str:
    """Return the service's own words: the first of the fields that its parts and its gateway are known to use."""
    body = said_in(response) or {}
    fault = body.get("fault")
    for text in (
        body.get("exception"),
        body.get("message"),
        fault.get("faultstring") if isinstance(fault, dict) else None,
        body.get("error_description"),
        body.get("error"),
    ):
        if isinstance(text, str) and text:
            return text[:500]
    return response.text.strip()[:200] or "no text"


def _refusal(method: str, path: str, response: requests.Response) -> OutsideError | InvalidInput:
    status = response.status_code
    message = f"{SYSTEM}: {method} {path}: {status}, {_reason(response)}"
    return refusal(status, message, SYSTEM, bad_input=(400, 415, 422), unsupported=(405, 501))


def _total(reply: Any) -> int | None:
    page = reply.get("page") if isinstance(reply, dict) else None
    total = page.get("totalElements") if isinstance(page, dict) else None
    return total if isinstance(total, int) else None
