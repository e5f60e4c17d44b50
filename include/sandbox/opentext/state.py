"""What the stand-in remembers: one SQLite file, one transaction a request, so that a killed stand-in loses nothing."""

from __future__ import annotations

import json
import math
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["State"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS model (
  id TEXT PRIMARY KEY, key TEXT NOT NULL, version INTEGER NOT NULL, name TEXT NOT NULL, xml TEXT NOT NULL,
  UNIQUE (key, version));
CREATE TABLE IF NOT EXISTS process (
  id TEXT PRIMARY KEY, model_id TEXT NOT NULL REFERENCES model (id), name TEXT, business_key TEXT,
  started REAL NOT NULL, started_by TEXT NOT NULL, engine TEXT NOT NULL, ended REAL, end_activity TEXT,
  delete_reason TEXT, parent_id TEXT, super_execution TEXT, super_activity TEXT, due REAL);
CREATE INDEX IF NOT EXISTS process_business_key ON process (business_key);
CREATE INDEX IF NOT EXISTS process_parent ON process (parent_id);
CREATE INDEX IF NOT EXISTS process_due ON process (due) WHERE due IS NOT NULL;
CREATE TABLE IF NOT EXISTS variable (
  seq INTEGER PRIMARY KEY, process_id TEXT NOT NULL REFERENCES process (id), name TEXT NOT NULL, type TEXT,
  value TEXT NOT NULL, scope TEXT NOT NULL, encryption INTEGER NOT NULL, at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS variable_process ON variable (process_id, name, seq);
CREATE TABLE IF NOT EXISTS task (
  id TEXT PRIMARY KEY, process_id TEXT NOT NULL REFERENCES process (id), engine_task TEXT NOT NULL, key TEXT NOT NULL,
  name TEXT NOT NULL, description TEXT, assignee TEXT, owner TEXT, groups TEXT NOT NULL, outcome_variable TEXT,
  priority INTEGER NOT NULL DEFAULT 50, category TEXT, due TEXT, delegation TEXT, created REAL NOT NULL, claimed REAL,
  ended REAL, delete_reason TEXT, outcome TEXT, completer TEXT, users TEXT NOT NULL DEFAULT '[]');
CREATE TABLE IF NOT EXISTS attachment (
  id TEXT PRIMARY KEY, task_id TEXT NOT NULL REFERENCES task (id), name TEXT NOT NULL, description TEXT, type TEXT,
  url TEXT, content BLOB, author TEXT NOT NULL, at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS task_process ON task (process_id);
CREATE TABLE IF NOT EXISTS comment (
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, process_id TEXT NOT NULL REFERENCES process (id), task_id TEXT,
  author TEXT NOT NULL, message TEXT NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS token (
  digest TEXT PRIMARY KEY, subject TEXT NOT NULL, person INTEGER NOT NULL, expires REAL NOT NULL);
"""


class State:
    """The stand-in's tables.

    :param folder: where ``opentext.db`` lives; None keeps everything in memory.
    """

    def __init__(self, folder: Path | None) -> None:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        place = ":memory:" if folder is None else str(folder / "opentext.db")
        self._database = sqlite3.connect(place, isolation_level=None, check_same_thread=False)
        self._database.row_factory = sqlite3.Row
        self._lock = threading.RLock()
        if folder is not None:
            self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute("PRAGMA foreign_keys = ON")
        self._database.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make everything in the block happen, or, when it raises, nothing. One request at a time."""
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    def rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """Return a query's rows."""
        with self._lock:
            return self._database.execute(query, values).fetchall()

    def row(self, query: str, *values: Any) -> sqlite3.Row | None:
        """Return a query's first row."""
        with self._lock:
            return self._database.execute(query, values).fetchone()

    def number(self, query: str, *values: Any) -> int:
        """Return a query's one number."""
        found = self.row(query, *values)
        return int(found[0] or 0) if found else 0

    def insert(self, table: str, **values: Any) -> None:
        """Insert one row; ``table`` and the names come from our own code only."""
        names = ", ".join(values)
        marks = ", ".join("?" for _ in values)
        self._database.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(values.values()))  # noqa: S608

    def update(self, table: str, row_id: str, **values: Any) -> None:
        """Update one row by its id."""
        changes = ", ".join(f"{name} = ?" for name in values)
        self._database.execute(
            f"UPDATE {table} SET {changes} WHERE id = ?",  # noqa: S608
            [*values.values(), row_id],
        )

    def delete_tokens(self, before: float) -> None:
        """Forget tokens that expired."""
        self._database.execute("DELETE FROM token WHERE expires < ?", (before,))

    def variables(self, process_id: str, at: float | None = None) -> list[sqlite3.Row]:
        """Return a process's variables as they are, or as they were at a time."""
        return self.rows(
            "SELECT * FROM variable AS v WHERE process_id = ? AND seq = (SELECT max(seq) FROM variable "
            "WHERE process_id = v.process_id AND name = v.name AND at <= ?) ORDER BY name",
            process_id,
            math.inf if at is None else at,
        )

    def values(self, process_id: str) -> dict[str, Any]:
        """Return a process's variables as the engine reads them."""
        return {row["name"]: json.loads(row["value"]) for row in self.variables(process_id)}

    def counts(self) -> dict[str, int]:
        """Return how much there is of everything that a client can create."""
        queries: Sequence[tuple[str, str]] = (
            ("processes", "SELECT count(*) FROM process"),
            ("ended", "SELECT count(*) FROM process WHERE ended IS NOT NULL"),
            ("comments", "SELECT count(*) FROM comment"),
            ("models", "SELECT count(*) FROM model"),
        )
        return {name: self.number(query) for name, query in queries}
