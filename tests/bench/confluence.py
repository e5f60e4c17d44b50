"""The jobs on Confluence: a stand-in in a process of its own, and the guideline sync against it over HTTP."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tests.bench.measure import job, timed
from tests.bench.table import Line, block, run

PAGES = 10_000
CHANGED = 1_000
LIMIT = 100
DELAY = 0.05
SPACE = 77
MAIL, TOKEN = "bench@people.example", "sandbox-token-of-bench"
STEP = 600_000
"""Milliseconds between two versions."""
START = 1_772_438_400_000


def _body(number: int, edit: int = 0) -> str:
    # A hundred different texts: the cost of keeping a new rendering is not what is measured here.
    return f"<h2>Case {number % 100}.{edit}</h2>" + f"<p>What to do about case {number % 100}, edition {edit}.</p>" * 10


def _versions(number: int, changed: int) -> list[tuple[int, str, str]]:
    """Return a page's versions as ``(number, body, account)``: written, approved, and where changed both once more."""
    first = [(1, _body(number), "acc-olga"), (2, _body(number), "acc-greta")]
    again = [(3, _body(number, 1), "acc-olga"), (4, _body(number, 1), "acc-greta")]
    return first + (again if number <= changed else [])


def fill(state: Path, pages: int, changed: int) -> None:
    """Put a space of approved pages into a stand-in's database; the first so many were edited and approved again."""
    from include.sandbox.confluence import ConfluenceStandIn, SandboxUser

    ConfluenceStandIn(state, [SandboxUser("acc-bench", "Bench", MAIL, TOKEN)]).close()
    rows: list[tuple[Any, ...]] = []
    versions: list[tuple[Any, ...]] = []
    for number in range(1, pages + 1):
        title = "Guideline" if number == 1 else f"Page {number}"
        made = _versions(number, changed)
        times = [START + STEP * one[0] for one in made]
        versions += [
            (number, one, title, body, account, at, "") for (one, body, account), at in zip(made, times, strict=True)
        ]
        parent = None if number == 1 else 1
        rows.append((number, SPACE, title, "current", parent, "acc-olga", times[0], len(made), times[-1], 3, times[-1]))
    with closing(sqlite3.connect(state / "confluence.db")) as conn, conn:
        conn.execute(
            "insert into spaces (id, key, name, homepage_id, author_id, created)"
            " values (?, 'LAB', 'Labelling', 1, 'x', ?)",
            (SPACE, START),
        )
        conn.executemany(
            "insert into pages (id, space_id, title, status, parent_id, author_id, created, version, modified,"
            " state_id, state_changed) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
        conn.executemany(
            "insert into versions (page_id, number, title, body, author_id, created, message)"
            " values (?, ?, ?, ?, ?, ?, ?)",
            versions,
        )


@job
def serve_confluence(state: str, per_second: str, delay: str) -> dict[str, Any]:
    """Serve a filled stand-in until the other side closes our input; say at the end how often it refused."""
    from include.sandbox.confluence import ConfluenceStandIn
    from include.sandbox.http import Server

    stand_in = ConfluenceStandIn(Path(state))
    if float(per_second):
        stand_in.limit_rate(int(per_second))
    if float(delay):
        stand_in.app.fault("delay", times=None, seconds=float(delay))
    with Server(stand_in.app) as server:
        print(server.url, flush=True)
        sys.stdin.read()
    return {"count": len(stand_in.app.requests), "seconds": 0.0}


@contextmanager
def serving(state: Path, per_second: int = 0, delay: float = 0.0, asks: float | None = None) -> Iterator[str]:
    """Serve a filled stand-in from another process, and set the connection to it.

    :param asks: the connection's ``requests_per_second``; None leaves the default.
    """
    command = [sys.executable, "-m", "tests.bench.job", "serve_confluence", str(state), str(per_second), str(delay)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        extra = {} if asks is None else {"requests_per_second": asks}
        connection = {"conn_type": "confluence", "host": url, "login": MAIL, "password": TOKEN, "extra": extra}
        os.environ["AIRFLOW_CONN_CONFLUENCE_DEFAULT"] = json.dumps(connection)
        yield url
        process.communicate()


def _seen(folder: Path, pages: int) -> Any:
    """Return what a sync has seen of the space as it was before any page changed; no request is made."""
    from include.base.store import Store
    from tests.guidelines.conftest import Sync, make_project
    from tests.guidelines.fake_confluence import FakeConfluence

    space = FakeConfluence()
    for number in range(1, pages + 1):
        title = "Guideline" if number == 1 else f"Page {number}"
        _write(space, number, title)
    sync = Sync(space, Store(folder), make_project())
    sync.run()
    return sync


def _write(space: Any, number: int, title: str) -> None:
    from datetime import UTC, datetime, timedelta

    parent = None if number == 1 else "1"
    for one, body, account in _versions(number, 0):
        space.now = datetime.fromtimestamp((START + STEP * one) / 1000, UTC) - timedelta(minutes=10)
        if one == 1:
            space.write(str(number), body, title=title, parent=parent, author=account)
        else:
            space.set_state(str(number), "Verified", author=account)


@job
def quiet_sync(folder: str, pages: str) -> dict[str, Any]:
    """Sync a space of which nothing is new, and read the same listing with bare requests."""
    import requests

    from include.guidelines.sync import collect
    from labelops.hooks.confluence import ConfluenceHook

    place = Path(folder)
    fill(place / "confluence", int(pages), 0)
    sync = _seen(place / "store", int(pages))
    found: dict[str, Any] = {"count": int(pages), "pages": int(pages)}
    with serving(place / "confluence", asks=0) as url:
        collect(sync.project, ConfluenceHook().get_conn(), sync.store, sync.seen)  # both ways find the server warm
        client = ConfluenceHook().get_conn()
        with timed(found):
            collected = collect(sync.project, client, sync.store, sync.seen)
        assert not collected.read
        assert len(collected.pages) == int(pages)
        with timed(found, "plain_seconds"), requests.Session() as session:
            session.auth = (MAIL, TOKEN)
            address, read, asked = f"{url}/wiki/api/v2/spaces/{SPACE}/pages?limit=250&status=current", 0, 0
            while address:
                document = session.get(address, timeout=60).json()
                read, asked = read + len(document["results"]), asked + 1
                following = document["_links"].get("next")
                address = f"{url}{following}" if following else ""
        assert read == int(pages)
    return {**found, "requests": client.requests_made, "plain_requests": asked}


@job
def changed_sync(
    folder: str, pages: str, changed: str, per_second: str, delay: str, readers: str, asks: str
) -> dict[str, Any]:
    """Sync a space in which some pages were edited and approved again, over a slow network and a rate limit.

    :param asks: the connection's ``requests_per_second``; empty for the default.
    """
    from include.guidelines.sync import collect
    from labelops.hooks.confluence import ConfluenceHook

    place = Path(folder)
    if not (place / "confluence").exists():
        fill(place / "confluence", int(pages), int(changed))
    sync = _seen(place / f"store-{readers}-{asks or 'default'}", int(pages))
    found: dict[str, Any] = {"count": int(changed)}
    pace = float(asks) if asks else None
    with serving(place / "confluence", int(per_second), float(delay), pace):
        client = ConfluenceHook().get_conn()
        with timed(found):
            collected = collect(sync.project, client, sync.store, sync.seen, readers=int(readers))
    assert len(collected.read) == int(changed)
    assert all(page.version == 4 for page in collected.pages if int(page.page_id) <= int(changed))
    return {**found, "requests": client.requests_made, "refused": client._caller.refused}


# --- the table -------------------------------------------------------------------------------------------------------


@block
def guideline(folder: Path) -> list[Line]:
    """A guideline sync when nothing changed, against the least that a listing can cost."""
    found = run(folder, "quiet_sync", folder, PAGES)
    floor = 2 * -(-found["pages"] // 250)  # the pages, and the tree below the root
    bare = f"{found['plain_requests']} requests, {found['plain_seconds']:.2f} s"
    ours = f"{found['requests']} requests, {found['seconds']:.2f} s"
    more, slower = found["requests"] / floor, found["seconds"] / found["plain_seconds"]
    ratio = f"{more:.2f} × the floor of {floor}, {slower:.2f} × the seconds"
    return [
        (f"listing of {found['pages']:,} pages, bare `requests`", bare, "", "1"),
        ("nothing-changed sync of them", ours, f"{found['peak_mb']:,.0f} MB", ratio),
    ]


@block
def changed(folder: Path) -> list[Line]:
    """Changed pages over a slow network and a rate limit, against what the limit allows."""
    lines = []
    for readers, pages, what in ((8, CHANGED, "8 readers"), (1, CHANGED // 5, "1 reader")):
        found = run(folder, "changed_sync", folder / str(readers), 2 * pages, pages, LIMIT, DELAY, readers, "")
        least = found["requests"] / LIMIT
        over = f"{DELAY * 1000:.0f} ms latency, {LIMIT} requests/s, {what}"
        speed = f"{found['requests']:,} requests, {found['seconds']:.1f} s, {found['refused']} × 429"
        ratio = f"{found['seconds'] / least:.2f} × the {least:.1f} s that the limit allows"
        memory = f"{found['peak_mb']:,.0f} MB"
        lines.append((f"{pages:,} changed pages of {2 * pages:,}, {over}", speed, memory, ratio))
    return lines
