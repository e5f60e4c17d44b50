"""Requests to the service: tokens, errors, and lists that are walked page by page."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import requests
from airflow.sdk import BaseHook
from airflow.sdk.log import mask_secret

from include.base.errors import (
    AuthError,
    Conflict,
    InvalidInput,
    InvalidReply,
    LabelopsError,
    NotFound,
    OutsideError,
    Unavailable,
    Unsupported,
)
from include.systems.http import HttpCaller, RetryPolicy, read_json
from include.systems.listing import Listing
from include.systems.quiet import quiet_libraries
from labelops.hooks.opentext.settings import Settings, read_settings
from labelops.hooks.opentext.values import SYSTEM, as_object

if TYPE_CHECKING:
    from airflow.sdk import Connection

__all__ = ["OpenTextClient"]

Item = TypeVar("Item")

log = logging.getLogger(__name__)

_RIGHTS = {
    "processes": "Start, read, suspend and end processes",
    "variables": "Write process variables and comments",
    "executions": "Send messages and signals",
    "tasks": "Read and update tasks",
    "history": "Read history",
    "models": "Read models",
}
"""What the client must be allowed to do, by area. Deploying models is for whoever models, and for the demo."""
_LOOK_BACK = 2
"""So many pages further up the elements that join two pages are looked for."""
_TURNS = 5
"""So often a list is begun again before it is given up."""
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


class OpenTextClient(BaseHook):
    """One connection: its settings, session and token, and how a request is sent. The hook's parts build on it."""

    conn_name_attr = "opentext_conn_id"
    default_conn_name = "opentext_default"
    conn_type = "opentext"
    hook_name = "OpenText Workflow Service"

    def __init__(
        self,
        opentext_conn_id: str = default_conn_name,
        policy: RetryPolicy | None = None,
        connection: Connection | None = None,
    ) -> None:
        super().__init__()
        self.opentext_conn_id = opentext_conn_id
        self._connection = connection
        self.caller = HttpCaller(SYSTEM, policy)
        self._settings: Settings | None = None
        self._session: requests.Session | None = None

    def get_conn(self) -> requests.Session:
        """Return the HTTP session, with the connection's TLS setting."""
        if self._session is None:
            quiet_libraries()
            self._session = requests.Session()
            self._session.verify = self.settings.verify
        return self._session

    @property
    def settings(self) -> Settings:
        """Return the connection, read once.

        :raises InvalidInput: naming the field that is missing or malformed.
        """
        if self._settings is None:
            self._settings = read_settings(self._connection or self.get_connection(self.opentext_conn_id))
        return self._settings

    @staticmethod
    def requirements() -> tuple[str, ...]:
        """Return the rights that the client needs in the tenant."""
        return tuple(f"right: {right}" for right in _RIGHTS.values())

    def test_connection(self) -> tuple[bool, str]:
        """Get a token and list one process; return whether it worked and a sentence that says what did or did not."""
        try:
            reply = self._get_json(self.settings.at("process-instances"), {"offset": 0, "count": 1})
            self._elements(reply, "process-instances")
        except LabelopsError as error:
            return False, str(error)
        except Exception as error:  # the form shows whatever went wrong
            return False, f"{SYSTEM}: {type(error).__name__}: the connection cannot be used"
        return True, f"Signed in as {self.settings.client_id}; the workflow service answers."

    def _list(self, path: str, collection: str, filters: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """Yield a collection's elements; see :meth:`_listing`."""
        return self._listing(path, path, collection, filters, lambda item: item, name=_name)

    def _listing(
        self,
        of: str,
        path: str,
        collection: str,
        filters: Mapping[str, str],
        make: Callable[[dict[str, Any]], Item],
        resume: str | None = None,
        fits: Callable[[Item], bool] = lambda item: True,
        name: Callable[[Item], str] = lambda item: str(item.id),  # type: ignore[attr-defined]
    ) -> Listing[Item]:
        """Return a collection as a listing that can be taken up again.

        ``offset`` counts elements, and a page may be shorter than asked for. The end is ``page.totalElements`` where it
        is given. Otherwise it is a page shorter than asked for without a ``next`` link: the link alone proves nothing,
        for it was seen missing on full pages, and a service may cap the page size below what was asked for. An empty
        page always ends.

        Elements that vanish while the list is walked move the later ones up. So each page begins with the last elements
        of the one before (unless ``count`` is 1); where they are not there, it is looked for further up, and
        the list is begun again where none of them is left. An element may then come twice, and none is left out.

        :param make: an element as its type.
        :param name: the element's name, unique in the list.
        :param fits: what the service cannot choose by is left out here.
        :raises InvalidReply: the service answers with the same page again, so the list would never end.
        :raises Unavailable: the list changes faster than it can be read.
        """
        walk = _Walk(self, path, collection, filters)

        def fetch(place: str | None) -> tuple[list[Item], str | None]:
            items, following = walk.page(place)
            return [item for item in map(make, items) if fits(item)], following

        return Listing(of, fetch, name, resume)

    def _is_last(self, reply: Mapping[str, Any], seen: int, length: int) -> bool:
        total, links = _total(reply), reply.get("_links")
        if total is not None:
            return seen >= total
        return length < self.settings.count and not (isinstance(links, dict) and "next" in links)

    def _elements(self, reply: Any, collection: str) -> list[dict[str, Any]]:
        embedded = as_object(reply).get("_embedded")
        if embedded is None:
            return []
        lists = {name: value for name, value in as_object(embedded).items() if isinstance(value, list)}
        rel = self.settings.rels.get(collection, collection)
        if rel in lists:
            items = lists[rel]
        elif len(lists) == 1:
            items = next(iter(lists.values()))
        else:
            raise InvalidReply(
                f"{SYSTEM}: the list {rel!r} is not in the reply, which has: {', '.join(sorted(lists)) or 'none'}; "
                f"name it in the connection's extra `rels`",
                system=SYSTEM,
            )
        return [as_object(item) for item in items]

    def _get_object(self, path: str, params: Mapping[str, Any]) -> dict[str, Any]:
        item = as_object(self._get_json(path, params))
        if "id" not in item:
            raise InvalidReply(f"{SYSTEM}: {path}: the reply has no `id`", system=SYSTEM)
        return item

    def _get_json(self, path: str, params: Mapping[str, Any]) -> Any:
        return read_json(self._request("GET", path, params=params), SYSTEM)

    def _request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        files: Any = None,
        idempotent: bool | None = None,
        accept: str = "application/json",
    ) -> requests.Response:
        """Send one request with a token; a refused token is renewed exactly once.

        :raises AuthError: 401 with a fresh token, or 403.
        :raises InvalidInput: 400, 415 or 422.
        :raises NotFound, Conflict, Unsupported, Unavailable, InvalidReply: 404; 409; 405 and 501; 5xx; anything else.
        """
        token = self._token()
        response = self._send(method, path, token, params, json, files, idempotent, accept)
        if response.status_code == 401:
            log.info("%s: the access token was refused; asking for a new one.", SYSTEM)
            _TOKENS.drop(self._credential(), token)
            response = self._send(method, path, self._token(), params, json, files, idempotent, accept)
        if response.status_code == 403:
            area = self._area(path)
            right = "Deploy models" if area == "models" and method == "POST" else _RIGHTS[area]
            raise AuthError(
                f"{SYSTEM}: {method} {path}: 403, {reason(response)}; the client {self.settings.client_id!r} lacks the "
                f"right: {right}",
                system=SYSTEM,
                status=403,
            )
        if response.status_code >= 300:
            raise refusal(method, path, response)
        return response

    def _area(self, path: str) -> str:
        chosen = self.settings
        if path.startswith(chosen.history + "/"):
            return "history"
        for name in ("executions", "tasks", "models"):
            if (path + "/").startswith(chosen.at(name) + "/"):
                return name
        return "variables" if "/variables" in path or "/comments" in path else "processes"

    def _send(
        self,
        method: str,
        path: str,
        token: str,
        params: Any,
        json: Any,
        files: Any,
        idempotent: bool | None,
        accept: str,
    ) -> requests.Response:
        return self.caller.call(
            method,
            lambda: self.get_conn().request(
                method,
                self.settings.root + path,
                params=params,
                json=json,
                files=files,
                headers={"Authorization": f"Bearer {token}", "Accept": accept},
                timeout=self.settings.timeout,
                allow_redirects=False,
            ),
            path=path,
            idempotent=idempotent,
        )

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
            lambda: self.get_conn().post(chosen.token_url, timeout=chosen.timeout, allow_redirects=False, **options),
            path=chosen.token_url.removeprefix(chosen.root),
            idempotent=True,
        )
        if response.status_code in (400, 401, 403):
            raise AuthError(
                f"{SYSTEM}: no access token for the client {chosen.client_id!r} ({reason(response)}); "
                "check login, password and tenant_id of the connection",
                system=SYSTEM,
                status=response.status_code,
            )
        if response.status_code >= 300:
            raise refusal("POST", chosen.token_url.removeprefix(chosen.root), response)
        reply = as_object(read_json(response, SYSTEM))
        try:
            value, seconds = str(reply["access_token"]), float(reply.get("expires_in", 300))
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidReply(
                f"{SYSTEM}: the token reply needs `access_token` and a number in `expires_in`", system=SYSTEM
            ) from error
        mask_secret(value)
        return _Token(value, time.monotonic() + seconds - _EARLY_SECONDS)


def reason(response: requests.Response) -> str:
    """Return the service's own words: the first of the fields that its parts and its gateway are known to use."""
    try:
        body = response.json()
    except ValueError:
        body = None
    if isinstance(body, dict):
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


def refusal(method: str, path: str, response: requests.Response) -> OutsideError | InvalidInput:
    status = response.status_code
    message = f"{SYSTEM}: {method} {path}: {status}, {reason(response)}"
    if status in (400, 415, 422):
        return InvalidInput(message)
    kind: type[OutsideError] = {
        401: AuthError,
        403: AuthError,
        404: NotFound,
        405: Unsupported,
        409: Conflict,
        501: Unsupported,
    }.get(status, Unavailable if status >= 500 else InvalidReply)
    return kind(message, system=SYSTEM, status=status)


def _name(item: Mapping[str, Any]) -> str:
    return str(item.get("id") or item.get("name"))


class _Walk:
    """Walks a list by offsets; each page is joined to the one before by elements that both hold."""

    def __init__(self, client: OpenTextClient, path: str, collection: str, filters: Mapping[str, str]) -> None:
        self._client, self._path, self._collection, self._filters = client, path, collection, filters
        self._count = client.settings.count
        self._overlap = min(3, self._count - 1)
        self._given: set[str] = set()
        self._first = ""

    def page(self, place: str | None) -> tuple[list[dict[str, Any]], str | None]:
        """Return the elements that follow a place and the place after them; None after the last."""
        offset, last, turn = _place(place) if place else (0, [], 0)
        start = offset - len(last)
        items, more = self._read(start)
        joined = _after(items, last)
        for _ in range(_LOOK_BACK):
            if joined is not None or start == 0:
                break
            start = max(0, start - self._count + 1)
            items, more = self._read(start)
            joined = _after(items, last)
        if joined is None:
            turn += 1
            if turn > _TURNS:
                raise Unavailable(f"{SYSTEM}: {self._path}: the list changes faster than it can be read", system=SYSTEM)
            start = 0
            items, more = self._read(0)
            joined = 0
        fresh, end = items[joined:], start + len(items)
        if more and not fresh:
            further, more = self._read(end)
            if list(map(_name, further)) == list(map(_name, items)):
                raise InvalidReply(
                    f"{SYSTEM}: {self._path}: the page at offset {end} is the first one again", system=SYSTEM
                )
            fresh, end, items = further, end + len(further), further
        if turn:
            fresh = [item for item in fresh if _name(item) not in self._given]
        self._given.update(map(_name, fresh))
        kept = [_name(item) for item in items[-self._overlap :]] if self._overlap else []
        if not self._overlap and offset and items and _name(items[0]) == self._first:
            raise InvalidReply(
                f"{SYSTEM}: {self._path}: the page at offset {start} is the first one again", system=SYSTEM
            )
        if not offset and items:
            self._first = _name(items[0])
        return fresh, json.dumps([end, kept, turn]) if more else None

    def _read(self, offset: int) -> tuple[list[dict[str, Any]], bool]:
        """Return the elements from an offset on and whether more follow."""
        query = {**self._filters, "offset": offset, "count": self._count}
        reply = self._client._get_json(self._path, query)
        items = self._client._elements(reply, self._collection)
        return items, bool(items) and not self._client._is_last(reply, offset + len(items), len(items))


def _place(text: str) -> tuple[int, list[str], int]:
    try:
        offset, last, turn = json.loads(text)
        if isinstance(last, list) and offset >= len(last) and turn >= 0 and all(isinstance(one, str) for one in last):
            return int(offset), last, int(turn)
    except (ValueError, TypeError):
        pass
    raise InvalidInput(f"{SYSTEM}: {text[:80]!r} is no place in a list; start again without a state")


def _after(items: list[dict[str, Any]], last: list[str]) -> int | None:
    """Return the place after the latest of some elements; None where none of them is there."""
    if not last:
        return 0
    names = [_name(item) for item in items]
    return next((names.index(name) + 1 for name in reversed(last) if name in names), None)


def _total(reply: Any) -> int | None:
    page = reply.get("page") if isinstance(reply, dict) else None
    total = page.get("totalElements") if isinstance(page, dict) else None
    return total if isinstance(total, int) else None
