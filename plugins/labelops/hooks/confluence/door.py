"""What all operations of the Confluence hook stand on: connection, flavour, counting, lists."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.sdk import BaseHook

from include.base.errors import (
    AuthError,
    Conflict,
    InvalidInput,
    InvalidReply,
    LabelopsError,
    NotFound,
    RateLimited,
    Unsupported,
)
from include.systems.confluence.values import User
from include.systems.http import HttpCaller, RetryPolicy
from include.systems.listing import Listing
from labelops.hooks.confluence import capabilities
from labelops.hooks.confluence.client import Client, Settings
from labelops.hooks.confluence.cloud import Cloud
from labelops.hooks.confluence.datacenter import DataCenter
from labelops.hooks.confluence.replies import SYSTEM
from labelops.hooks.confluence.site import Rows, Site

if TYPE_CHECKING:
    from atlassian.rest_client import AtlassianRestAPI

__all__ = ["CLOCK_SKEW", "SITES", "Door", "batches", "digest_of", "drain", "in_batches"]

CLOCK_SKEW = timedelta(minutes=2)
"""How far the site's clock may be off when something made "just now" is recognised as ours."""

SITES: dict[str, Callable[[Client], Site]] = {"cloud": Cloud, "datacenter": DataCenter}

Item = TypeVar("Item")


class Door(BaseHook):
    """The connection, the flavour behind it, and what every operation shares.

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

    def current_user(self) -> User:
        """Return the account behind the credential; asked once per hook.

        :raises AuthError: the site takes us for an anonymous visitor.
        """
        if self._user is None:
            self._user = self._site("current_user").whoami()
        return self._user


def drain(fetch: Callable[[str | None], Rows[Item]], of: str) -> Iterator[Item]:
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


def batches(items: Sequence[str], size: int) -> Iterator[list[str]]:
    """Yield the items in lists of a size."""
    for start in range(0, len(items), size):
        yield list(items[start : start + size])


def in_batches(
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


def digest_of(items: Sequence[str]) -> str:
    """Return a short name for many ids."""
    return sha256("\n".join(items).encode("utf-8")).hexdigest()[:16]
