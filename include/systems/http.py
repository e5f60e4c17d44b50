"""One bounded request policy for every client that speaks HTTP: what is tried again, how long to wait, what is raised.

* 429 is tried again for any method, because the request was not taken. A wait longer than the policy's is not slept
  away in a worker: :class:`~include.base.errors.RateLimited` is raised at once and the task is rescheduled.
* 502, 503, 504 and a broken connection are tried again only where a second request does no harm: GET, HEAD, and what
  the caller declares idempotent. A POST or a versioned PUT may have taken effect, so
  :class:`~include.base.errors.Unavailable` goes to the caller, who reads before deciding.
* A connection that was never made carried no request: tried again for any method.
* Where the connection has a pace (:mod:`include.systems.pace`), each request waits for its turn, and what a reply says
  about the limit changes the pace of all threads.

The log has method, path, status, milliseconds and the number of the request; never a query, a header or a body.
"""

from __future__ import annotations

import json
import logging
import math
import random
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import quote, urlsplit

import requests
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from include.base.errors import (
    AuthError,
    Conflict,
    InvalidInput,
    InvalidReply,
    NotFound,
    OutsideError,
    RateLimited,
    Unavailable,
    Unsupported,
)

if TYPE_CHECKING:
    from include.systems.pace import Pace

__all__ = [
    "Connection",
    "HttpCaller",
    "RetryPolicy",
    "base_url",
    "choice",
    "read_json",
    "refusal",
    "retry_after_seconds",
    "said_in",
    "segment",
]

log = logging.getLogger(__name__)

SAFE_METHODS = frozenset({"GET", "HEAD"})
TRANSIENT = frozenset({502, 503, 504})

_BROKEN = (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError)
"""The reply began to come and cannot be read to its end."""

_LOST = (requests.exceptions.ConnectionError, requests.exceptions.Timeout, *_BROKEN)

Found = TypeVar("Found")


def _jitter() -> float:
    return random.uniform(0.7, 1.3)  # noqa: S311 - spreads retries, guards nothing


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how patiently one request is tried.

    :param tries: requests in all, the first included.
    :param base_seconds: pause before the second try; doubled for each further one.
    :param max_wait_seconds: longest pause spent in the worker.
    :param sleep: for tests.
    :param jitter: factor on each pause of our own choice, 0.7 to 1.3; a pause the system named is never shortened.
    """

    tries: int = 4
    base_seconds: float = 1.0
    max_wait_seconds: float = 30.0
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)
    jitter: Callable[[], float] = field(default=_jitter, repr=False)

    def pause(self, attempt: int) -> float:
        """Return the seconds to wait after the given failed attempt (1 is the first)."""
        return min(self.max_wait_seconds, self.base_seconds * 2 ** (attempt - 1) * self.jitter())


class HttpCaller:
    """Sends the requests of one client under one policy and counts them; safe to use from many threads.

    :param system: the system's name, in messages and errors.
    :param pace: how fast requests may follow each other; None sends each one at once.
    """

    def __init__(self, system: str, policy: RetryPolicy | None = None, pace: Pace | None = None) -> None:
        self.system = system
        self.policy = policy or RetryPolicy()
        self.pace = pace
        self.requests_made = 0
        self.refused = 0
        self._counting = threading.Lock()

    def call(
        self,
        method: str,
        send: Callable[[], requests.Response],
        *,
        path: str,
        idempotent: bool | None = None,
    ) -> requests.Response:
        """Send a request, again where that is harmless and may help, and return the reply.

        Any status but 429, 502, 503 and 504 is the caller's to judge.

        :param send: sends the request once; called up to ``policy.tries`` times.
        :param path: for log and messages; a query in it is cut off.
        :param idempotent: whether a second request does no harm; by default only for GET and HEAD.
        :raises RateLimited: still 429 after the last try, or the wait asked for is longer than the policy allows.
        :raises Unavailable: no usable reply; the request may have taken effect unless it is a read.
        :raises InvalidInput: the address cannot be one.
        :raises InvalidReply: the address that a redirect leads to cannot be one.
        """
        where = f"{method} {path.partition('?')[0]}"
        repeatable = method in SAFE_METHODS if idempotent is None else idempotent
        for attempt in range(1, self.policy.tries + 1):
            last = attempt == self.policy.tries
            self._in_turn(where, first=attempt == 1)
            try:
                response = self._send_once(where, send)
            except (requests.exceptions.ConnectionError, requests.exceptions.Timeout) as error:
                self._lost(where, error, attempt, again=not last and (repeatable or _never_sent(error)))
                continue
            except _BROKEN as error:
                self._lost(where, error, attempt, again=not last and repeatable)
                continue
            if response.status_code == 429:
                self._limited(where, response, attempt, last=last)
            elif response.status_code in TRANSIENT:
                self._failing(where, response, attempt, again=not last and repeatable)
            else:
                self._slow_down(response)
                return response
        raise AssertionError("the last attempt returns or raises")

    def look_for(self, find: Callable[[], Found | None], seconds: float) -> Found | None:
        """Return what an earlier request may have made, looking once at least and again for as long as it may not show.

        :param find: looks once.
        :param seconds: how late it may show.
        """
        deadline, pause = time.monotonic() + seconds, 0.2
        while True:
            found = find()
            left = deadline - time.monotonic()
            if found or left <= 0:
                return found
            self.policy.sleep(min(pause, max(left, 0.01)))
            pause = min(pause * 2, 5.0)

    def _in_turn(self, where: str, *, first: bool) -> None:
        """Wait for this request's turn; one that is tried again has waited as long as it was told to."""
        if self.pace is None:
            return
        held = self.pace.held() if first else 0.0
        if held > self.policy.max_wait_seconds:
            raise RateLimited(
                f"{self.system}: {where}: not sent, for an earlier reply asks for a pause of {held:.0f} s",
                retry_after=held,
                system=self.system,
                status=429,
            )
        seconds = max(held, self.pace.reserve())
        if seconds > 0:
            self.policy.sleep(seconds)

    def _send_once(self, where: str, send: Callable[[], requests.Response]) -> requests.Response:
        with self._counting:
            self.requests_made += 1
            number = self.requests_made
        started = time.monotonic()
        outcome = "no reply"
        try:
            response = send()
            outcome = str(response.status_code)
            return response
        except requests.exceptions.SSLError as error:
            raise Unavailable(
                f"{self.system}: {where}: the server's certificate is not trusted; `verify` in the connection "
                "names a certificate bundle",
                system=self.system,
            ) from error
        except _LOST:
            raise
        except requests.exceptions.RequestException as error:
            raise InvalidInput(
                f"{self.system}: {where}: the connection's address cannot be used ({type(error).__name__})"
            ) from error
        except ValueError as error:
            # requests reads where a redirect leads, whether or not it is followed.
            told = f"{self.system}: {where}: redirected to what is no address"
            raise InvalidReply(told, system=self.system) from error
        finally:
            milliseconds = round((time.monotonic() - started) * 1000)
            log.debug("%s: %s: %s in %d ms (request %d)", self.system, where, outcome, milliseconds, number)

    def _lost(self, where: str, error: Exception, attempt: int, *, again: bool) -> None:
        if not again:
            raise Unavailable(
                f"{self.system}: {where}: no reply ({_kind(error)}) after {attempt} of {self.policy.tries} tries",
                system=self.system,
            ) from error
        self._wait(where, self.policy.pause(attempt), _kind(error))

    def _limited(self, where: str, response: requests.Response, attempt: int, *, last: bool) -> None:
        asked = retry_after_seconds(response)
        reason = response.headers.get("RateLimit-Reason", "no reason given")
        response.close()
        with self._counting:
            self.refused += 1
        pause = self.policy.pause(attempt) if asked is None else asked
        if self.pace:
            self.pace.refused(pause)
        if last or (asked is not None and asked > self.policy.max_wait_seconds):
            raise RateLimited(
                f"{self.system}: {where}: too many requests ({reason}){_asking(asked)}",
                retry_after=asked,
                system=self.system,
                status=429,
            )
        self._wait(where, pause, f"429, {reason}")

    def _failing(self, where: str, response: requests.Response, attempt: int, *, again: bool) -> None:
        asked = retry_after_seconds(response)
        response.close()
        if not again or (asked is not None and asked > self.policy.max_wait_seconds):
            raise Unavailable(
                f"{self.system}: {where}: answered {response.status_code} after {attempt} of {self.policy.tries} "
                f"tries{_asking(asked)}",
                retry_after=asked,
                system=self.system,
                status=response.status_code,
            )
        self._wait(where, self.policy.pause(attempt) if asked is None else asked, str(response.status_code))

    def _slow_down(self, response: requests.Response) -> None:
        if self.pace:
            self.pace.heard(response.headers)
        elif response.headers.get("X-RateLimit-NearLimit", "").lower() == "true":
            self._wait("next request", self.policy.pause(1), "near the rate limit")

    def _wait(self, where: str, seconds: float, reason: str) -> None:
        log.warning("%s: %s: waiting %.1f s (%s)", self.system, where, seconds, reason)
        self.policy.sleep(seconds)


def _kind(error: Exception) -> str:
    """Name an error without its text: that text may hold the address with its query."""
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return type(reason or error).__name__


def _never_sent(error: Exception) -> bool:
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(error, requests.exceptions.ConnectTimeout) or isinstance(
        reason, (NewConnectionError, ConnectTimeoutError)
    )


def _asking(pause: float | None) -> str:
    return "" if pause is None else f"; it asks for a pause of {pause:.0f} s"


def retry_after_seconds(response: requests.Response) -> float | None:
    """Return ``Retry-After`` in seconds (a number or an HTTP date, RFC 9110 section 10.2.3), or None."""
    value = response.headers.get("Retry-After", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = parsedate_to_datetime(value)
        except ValueError:
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = (moment - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None


def read_json(response: requests.Response, system: str) -> Any:
    """Return a reply's JSON.

    :raises InvalidReply: the body is not whole JSON; the message says what it was, not what it held.
    """
    try:
        found = response.json()
        if b"\\ud" in response.content.lower():
            # Half of a surrogate pair is no character: no address, file or ledger could hold it.
            json.dumps(found, ensure_ascii=False).encode("utf-8")
        return found
    except (ValueError, RecursionError) as error:
        kind = response.headers.get("Content-Type", "no content type")
        path = urlsplit(response.url or "").path
        found = f"{len(response.content)} bytes of {kind}, expected whole JSON"
        if kind.partition(";")[0].strip().lower() == "text/html":
            found = (
                "a page for people, such as one to sign in, expected the API's JSON: check the connection's address "
                "and credential, and what stands between"
            )
        raise InvalidReply(
            f"{system}: {path}: status {response.status_code} with {found}",
            system=system,
            status=response.status_code,
        ) from error


def said_in(response: requests.Response) -> dict[str, Any] | None:
    """Return the JSON object that a refusal says its reason in, an empty one for other JSON, None where it has none."""
    try:
        body = response.json()
    except (ValueError, RecursionError, requests.exceptions.RequestException):
        return None
    return body if isinstance(body, dict) else {}


def refusal(
    status: int, message: str, system: str, *, bad_input: Collection[int], unsupported: Collection[int]
) -> OutsideError | InvalidInput:
    """Return what a refused request means, by its status.

    :param bad_input: statuses by which the system says that what was sent is wrong.
    :param unsupported: statuses by which it says that it cannot do this at all.
    """
    if status in bad_input:
        return InvalidInput(message)
    kinds: dict[int, type[OutsideError]] = {401: AuthError, 403: AuthError, 404: NotFound, 409: Conflict}
    if status in unsupported:
        kind: type[OutsideError] = Unsupported
    else:
        kind = kinds.get(status, Unavailable if status >= 500 else InvalidReply)
    return kind(message, system=system, status=status)


def segment(value: str) -> str:
    """Return a value as one segment of a path."""
    return quote(str(value), safe="")


def choice(extra: Mapping[str, Any], name: str, allowed: tuple[str, ...], system: str) -> str:
    """Return a connection's extra that is one of a few words; the first of them where it says nothing.

    :raises InvalidInput: it says something else.
    """
    value = extra.get(name) or allowed[0]
    if value not in allowed:
        raise InvalidInput(f"{system}: connection extra `{name}`: found {value!r}, allowed are {', '.join(allowed)}")
    return str(value)


class Connection(Protocol):
    """What a client's settings are read from; Airflow's own connection is one."""

    host: str | None
    schema: str | None
    port: int | None
    login: str | None
    password: str | None

    @property
    def extra_dejson(self) -> dict[str, Any]:
        """The extra as an object."""


def base_url(connection: Connection, system: str) -> str:
    """Return a connection's address with a scheme and without a trailing slash.

    A connection written as a URI loses ``https://``, so a bare host is taken as HTTPS unless ``schema`` says ``http``.

    :raises InvalidInput: no host, or a scheme that is not HTTP.
    """
    host = (connection.host or "").strip().rstrip("/")
    if not host:
        raise InvalidInput(f"{system}: the connection's host is empty; give the site's address")
    if "://" not in host:
        host = f"{'http' if connection.schema == 'http' else 'https'}://{host}"
    parts = urlsplit(host)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
        raise InvalidInput(f"{system}: the connection's host must be like https://site.example, without user and query")
    if connection.port and parts.port is None:
        host = f"{parts.scheme}://{parts.netloc}:{connection.port}{parts.path}"
    return host
