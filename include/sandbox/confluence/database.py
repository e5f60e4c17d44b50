"""What the local Confluence remembers: one SQLite database, in a file that survives a restart or in memory."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

__all__ = ["Database", "iso"]

FIRST_ID = 65_537

_SCHEMA = """
create table if not exists sequence (name text primary key, value integer not null);
create table if not exists users (account_id text primary key, name text not null, email text unique,
    token text not null);
create table if not exists spaces (id integer primary key, key text unique not null, name text not null,
    homepage_id integer, author_id text not null, created integer not null);
create table if not exists pages (id integer primary key, space_id integer not null, title text not null,
    status text not null, parent_id integer, author_id text not null, created integer not null,
    version integer not null, modified integer not null, state_id integer, state_changed integer);
create index if not exists pages_by_space on pages (space_id, status, id);
create index if not exists pages_by_title on pages (space_id, lower(title));
create index if not exists pages_by_parent on pages (parent_id);
create table if not exists versions (page_id integer not null, number integer not null, title text not null,
    body text not null, author_id text not null, created integer not null, message text not null,
    primary key (page_id, number)) without rowid;
create table if not exists labels (page_id integer not null, name text not null, label_id integer not null,
    created integer not null, primary key (page_id, name)) without rowid;
create index if not exists labels_by_name on labels (name);
create table if not exists properties (id integer primary key, page_id integer not null, key text not null,
    value text not null, version integer not null, author_id text not null, created integer not null,
    unique (page_id, key));
create table if not exists attachments (id integer primary key, page_id integer not null, title text not null,
    media_type text not null, comment text not null, version integer not null, author_id text not null,
    created integer not null, content blob not null, unique (page_id, title));
create table if not exists comments (id integer primary key, page_id integer not null, body text not null,
    version integer not null, author_id text not null, created integer not null,
    location text not null default 'footer', resolution text not null default 'open', marker_ref text, selection text,
    parent_id integer);
create index if not exists comments_by_page on comments (page_id);
create table if not exists watchers (content_id integer not null, account_id text not null,
    primary key (content_id, account_id)) without rowid;
create table if not exists groups (name text primary key) without rowid;
create table if not exists members (group_name text not null, account_id text not null,
    primary key (group_name, account_id)) without rowid;
create table if not exists restrictions (page_id integer not null, operation text not null, kind text not null,
    subject text not null, primary key (page_id, operation, kind, subject)) without rowid;
create table if not exists folders (id integer primary key, space_id integer not null, title text not null,
    status text not null, parent_id integer, author_id text not null, created integer not null);
create view if not exists tree as
    select id, space_id, title, status, parent_id, 'page' as kind from pages
    union all select id, space_id, title, status, parent_id, 'folder' from folders;
create table if not exists tasks (id integer primary key, page_id integer not null, local_id text not null,
    status text not null, body text not null, created_by text not null, assigned_to text, completed_by text,
    created integer not null, updated integer not null, due text, completed integer, unique (page_id, local_id));
create table if not exists states (id integer primary key, name text not null, color text not null);
insert or ignore into states values (0, 'Rough draft', '#ffc400'), (1, 'In progress', '#2684ff'),
    (2, 'Ready for review', '#8777d9'), (3, 'Verified', '#57d9a3');
"""
_ON_PAGES = ("versions", "labels", "properties", "attachments", "comments", "tasks", "restrictions")


def iso(milliseconds: int | None) -> str | None:
    """Return a stored time as the API writes it."""
    if milliseconds is None:
        return None
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{milliseconds % 1000:03d}Z"


class Database:
    """The rows, behind one lock: a request is one transaction, committed before its reply leaves."""

    def __init__(self, state: Path | None) -> None:
        if state is not None:
            state.mkdir(parents=True, exist_ok=True)
        target = ":memory:" if state is None else str(state / "confluence.db")
        self._connection = sqlite3.connect(target, check_same_thread=False, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("pragma journal_mode = wal")
        self._connection.execute("pragma synchronous = normal")
        self._connection.executescript(_SCHEMA)
        self._lock = threading.RLock()
        self._last = 0

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Hold the lock; commit at the end, or undo everything on an error."""
        with self._lock:
            self._connection.execute("begin")
            try:
                yield
            except BaseException:
                self._connection.execute("rollback")
                raise
            self._connection.execute("commit")

    def rows(self, sql: str, values: Iterable[Any] = ()) -> list[sqlite3.Row]:
        """Return the rows of a query."""
        return self._connection.execute(sql, tuple(values)).fetchall()

    def row(self, sql: str, values: Iterable[Any] = ()) -> sqlite3.Row | None:
        """Return the first row of a query, or None."""
        return self._connection.execute(sql, tuple(values)).fetchone()

    def write(self, sql: str, values: Iterable[Any] = ()) -> None:
        """Run one statement."""
        self._connection.execute(sql, tuple(values))

    def purge(self, page_id: int) -> None:
        """Delete a page and all that hangs on it."""
        for table in _ON_PAGES:
            self.write(f"delete from {table} where page_id = ?", (page_id,))  # noqa: S608 - our own words
        self.write("delete from pages where id = ?", (page_id,))

    def next_id(self) -> int:
        """Return a number never given before, across all kinds of content as on the service."""
        self.write("insert or ignore into sequence values ('content', ?)", (FIRST_ID,))
        self.write("update sequence set value = value + 1 where name = 'content'")
        found = self.row("select value from sequence where name = 'content'")
        assert found is not None
        return int(found["value"])

    def now(self) -> int:
        """Return the time in milliseconds, never the same twice, so that orders by time are total."""
        self._last = max(self._last + 1, time.time_ns() // 1_000_000)
        return self._last

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()
