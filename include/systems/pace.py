"""How fast one connection is used: a token bucket that every thread and client of this process shares.

A system that refuses what comes too fast is asked more slowly beforehand, instead of being tried again afterwards. The
pace starts at what the connection allows (extra ``requests_per_second``), falls when the system says that its limit is
near or reached, and rises again, step by step, while it says neither.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from include.base.errors import InvalidInput

__all__ = ["Pace", "pace_of"]

BURST_SECONDS = 0.1
"""The bucket holds what the rate gives in this time, so that a second never has more than a tenth above the rate."""

SLOWEST = 1.0
"""Requests per second below which no refusal pushes the pace."""

NEAR = 0.95
"""Share of the allowed rate that is kept when the limit is near; it is not passed, so there is no need for less."""

REFUSED = 0.5
"""Share of the rate that is kept after a refusal."""

STEP_SECONDS = 1.0
"""At most one step down in this time: the replies to requests sent together tell of one and the same excess."""

RECOVERY = 0.05
"""Share of the allowed rate that comes back with each second without such news."""

LONG_WINDOW_SECONDS = 10.0
"""A limit that is reset later than this is a quota, which is spread over the time left; a shorter one is a burst."""


class Pace:
    """A token bucket with a rate that adapts; safe to use from many threads.

    :param per_second: requests per second that are allowed at most.
    :param clock: seconds that only grow, for tests.
    :raises InvalidInput: the rate is not above zero.
    """

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        if not 0 < per_second < float("inf"):
            raise InvalidInput(f"requests_per_second: found {per_second}; allowed: a number above 0")
        self.allowed = per_second
        self._clock = clock
        self._lock = threading.Lock()
        self._rate = per_second
        self._tokens = self._room()
        self._filled = self._stepped = self._told = clock()
        self._held_until = self._filled

    @property
    def rate(self) -> float:
        """Return the requests per second that are sent at most now."""
        with self._lock:
            self._fill()
            return self._rate

    def held(self) -> float:
        """Return the seconds for which the system has asked everybody to send nothing."""
        with self._lock:
            return max(0.0, self._held_until - self._clock())

    def reserve(self) -> float:
        """Take the right to send one request and return the seconds to wait for its turn."""
        with self._lock:
            self._fill()
            self._tokens -= 1.0
            return max(0.0, -self._tokens / self._rate)

    def refused(self, seconds: float) -> None:
        """Hear of a 429: nobody sends for so many seconds, and then at half the rate."""
        with self._lock:
            now = self._fill()
            self._held_until = max(self._held_until, now + seconds)
            self._slower(max(min(SLOWEST, self.allowed), self._rate * REFUSED), now)

    def heard(self, headers: Mapping[str, str]) -> None:
        """Read what a reply says about the limit: ``X-RateLimit-NearLimit``, ``-Remaining`` and ``-Reset``."""
        if headers.get("X-RateLimit-NearLimit", "").lower() != "true":
            return
        quota = _quota(headers)
        with self._lock:
            now = self._fill()
            wanted = self.allowed * NEAR if quota is None else max(min(SLOWEST, self.allowed), quota)
            self._slower(min(wanted, self._rate), now)

    def _slower(self, rate: float, now: float) -> None:
        self._told = now
        if rate < self._rate and now - self._stepped >= STEP_SECONDS:
            self._stepped = now
            self._rate = rate
            self._tokens = min(self._tokens, self._room())

    def _fill(self) -> float:
        now = self._clock()
        quiet_since = max(self._told, self._held_until)
        if now - quiet_since > STEP_SECONDS:
            # All of the quiet time counts, whether or not anybody asked in it.
            quiet = now - max(quiet_since, self._filled)
            self._rate = min(self.allowed, self._rate + self.allowed * RECOVERY * quiet)
        self._tokens = min(self._room(), self._tokens + (now - self._filled) * self._rate)
        self._filled = now
        return now

    def _room(self) -> float:
        return max(1.0, self._rate * BURST_SECONDS)


def _quota(headers: Mapping[str, str]) -> float | None:
    """Return the requests per second that a long window still has room for; None where it is short, or not told."""
    try:
        remaining = float(headers.get("X-RateLimit-Remaining", ""))
        reset = datetime.fromisoformat(headers.get("X-RateLimit-Reset", ""))
    except ValueError:
        return None
    seconds = ((reset if reset.tzinfo else reset.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds()
    return max(0.0, remaining) / seconds if seconds > LONG_WINDOW_SECONDS else None


_PACES: dict[tuple[str, str, float], Pace] = {}
_PACES_LOCK = threading.Lock()


def pace_of(system: str, address: str, extra: Mapping[str, Any], default: float | None) -> Pace | None:
    """Return the pace that all clients of an address share in this process, or None for no limit of our own.

    :param address: what the system counts by, such as the site's address.
    :param extra: the connection's; ``requests_per_second`` is a number above 0, or 0 for no limit.
    :param default: requests per second where the extra says nothing; None for no limit.
    :raises InvalidInput: the extra holds no such number.
    """
    said = extra.get("requests_per_second")
    try:
        rate = (default or 0.0) if said in (None, "") else float(str(said))
    except ValueError:
        rate = -1.0
    if not 0 <= rate < float("inf"):
        raise InvalidInput(
            f"{system}: requests_per_second: found {said!r}; allowed: a number above 0, or 0 for no limit"
        )
    if rate == 0:
        return None
    with _PACES_LOCK:
        return _PACES.setdefault((system, address, rate), Pace(rate))
