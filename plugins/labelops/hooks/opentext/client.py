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
    NotFound,
    OutsideError,
    Unavailable,
    Unsupported,
)
from include.systems.listing import Listing
from labelops.hooks.opentext.settings import Settings, read_settings
from labelops.hooks.opentext.values import SYSTEM, as_object
from labelops.hooks.requests_http import HttpCaller, RetryPolicy, read_json

if TYPE_CHECKING:
    from airflow.sdk import Connection

__all__ = ["OpenTextClient"]

Item = TypeVar("Item")

log = logging.getLogger(__name__)

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

    def test_connection(self) -> tuple[bool, str]:
        """Get a token and list one process; return whether it worked and a sentence that says what did or did not."""
        try:
            reply = self._get_json(f"{self.settings.workflow}/process-instances", {"offset": 0, "count": 1})
            self._elements(reply, "process-instances")
        except Exception as error:  # the form shows whatever went wrong
            return False, f"{type(error).__name__}: {error}"
        return True, f"Signed in as {self.settings.client_id}; the workflow service answers."

    def _list(self, path: str, collection: str, filters: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """Yield a collection's elements. ``offset`` counts elements, and a page may be shorter than asked for.

        The end is ``page.totalElements`` where it is given. Otherwise it is a page shorter than asked for without a
        ``next`` link: the link alone proves nothing, for it was seen missing on full pages, and a service may cap the
        page size below what was asked for. An empty page always ends.

        :raises InvalidReply: the service answers with the same page again, so the list would never end.
        """
        offset = 0
        first: Any = None
        while True:
            reply = self._get_json(path, {**filters, "offset": offset, "count": self.settings.count})
            items = self._elements(reply, collection)
            if not items:
                return
            if offset and items[0] == first:
                raise InvalidReply(
                    f"{SYSTEM}: {path}: the page at offset {offset} is the first one again", system=SYSTEM
                )
            first = first if offset else items[0]
            yield from items
            offset += len(items)
            if self._is_last(reply, offset, len(items)):
                return

    def _listing(
        self,
        of: str,
        path: str,
        collection: str,
        filters: Mapping[str, str],
        make: Callable[[dict[str, Any]], Item],
        resume: str | None = None,
        fits: Callable[[Item], bool] = lambda item: True,
    ) -> Listing[Item]:
        """Return a collection as a listing that can be taken up again; ends where :meth:`_list` does.

        Elements that vanish while the list is walked move the later ones up. Where the service counts the whole list,
        a smaller count than before sets the next page back by the difference: an element may then come twice, and none
        is left out. (As many gone as come between two pages is not noticed: what must not be missed is asked for by
        its id.)

        :param make: an element as its type; it has an ``id``.
        :param fits: what the service cannot choose by is left out here.
        :raises InvalidReply: the service answers with the same page again, so the list would never end.
        """

        def fetch(place: str | None) -> tuple[list[Item], str | None]:
            offset, total, first = json.loads(place) if place else (0, None, None)
            reply = self._get_json(path, {**filters, "offset": offset, "count": self.settings.count})
            items = self._elements(reply, collection)
            now = _total(reply)
            if isinstance(now, int) and isinstance(total, int) and now < total and offset:
                offset = max(0, offset - (total - now))
                reply = self._get_json(path, {**filters, "offset": offset, "count": self.settings.count})
                items, now = self._elements(reply, collection), _total(reply)
            name = str(items[0].get("id")) if items else None
            if offset and items and name == first:
                raise InvalidReply(
                    f"{SYSTEM}: {path}: the page at offset {offset} is the first one again", system=SYSTEM
                )
            after = offset + len(items)
            more = bool(items) and not self._is_last(reply, after, len(items))
            made = [item for item in map(make, items) if fits(item)]
            return made, json.dumps([after, now, first or name]) if more else None

        return Listing(of, fetch, lambda item: str(item.id), resume)  # type: ignore[attr-defined]

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
    ) -> requests.Response:
        """Send one request with a token; a refused token is renewed exactly once.

        :raises AuthError: 401 with a fresh token, or 403.
        :raises InvalidInput: 400, 415 or 422.
        :raises NotFound, Conflict, Unsupported, Unavailable, InvalidReply: 404; 409; 405 and 501; 5xx; anything else.
        """
        token = self._token()
        response = self._send(method, path, token, params, json, files, idempotent)
        if response.status_code == 401:
            log.info("%s: the access token was refused; asking for a new one.", SYSTEM)
            _TOKENS.drop(self._credential(), token)
            response = self._send(method, path, self._token(), params, json, files, idempotent)
        if response.status_code >= 300:
            raise refusal(method, path, response)
        return response

    def _send(
        self, method: str, path: str, token: str, params: Any, json: Any, files: Any, idempotent: bool | None
    ) -> requests.Response:
        return self.caller.call(
            method,
            lambda: self.get_conn().request(
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


def _total(reply: Any) -> int | None:
    page = reply.get("page") if isinstance(reply, dict) else None
    total = page.get("totalElements") if isinstance(page, dict) else None
    return total if isinstance(total, int) else None
