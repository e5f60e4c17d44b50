"""The append-only record of events and decisions, in SQLite or PostgreSQL.

Every event holds the hash of the one before it, so that a changed, removed or moved event shows. One writer at a
time: SQLite through ``BEGIN IMMEDIATE``, PostgreSQL through an advisory lock held to the end of the transaction.

The chain, for whoever checks it with other tools: ``hash = SHA-256(bytes of prev_hash || canonical JSON of the other
fields)``, where canonical JSON is UTF-8 with sorted keys and no spaces, ``time`` is the stored text and ``body`` is an
object. The first event's ``prev_hash`` is the SHA-256 of the canonical JSON of ``{"format": 1, "ledger_id": …}``.
"""

from __future__ import annotations

import json
import os
import random
import re
import threading
import time as clock
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError

from include.base.canonical import canonical_json, canonical_text, digest_of
from include.base.disk import writing_to
from include.base.errors import Conflict, InvalidInput, Unavailable, Unsupported
from include.governance import tables
from include.governance.records import (
    GRADES,
    OUTCOMES,
    SERVICE,
    SIGNATURES,
    Decision,
    Event,
    Head,
    NewEvent,
    SourceRecord,
    VersionRecord,
    read_time,
    time_text,
)

__all__ = ["BODY_LIMIT", "Ledger", "Transaction", "chain_hash", "genesis_hash", "row_digest"]

BODY_LIMIT = 16 * 1024
"""Bytes that an event's body may take as canonical JSON: a ledger holds digests and identifiers, not content."""

PAGE = 1000
"""Events read at a time, so that memory stays the same whatever the ledger's size."""

SOURCES_PER_WRITE = 2000
"""Source records written in one transaction, so that other writers get their turn between two of them."""

LOCK_SECONDS = 30
"""How long one attempt waits for the other writers. Transactions take milliseconds: a longer wait means a stuck one."""

LOCK_ATTEMPTS = 3

# PostgreSQL's advisory locks are named by a number and hold for one database: this one is drawn at random.
ADVISORY_LOCK = 4_790_316_482_207_701_539

HASHED = (
    *("seq", "time", "key", "actor", "action", "project", "subject"),
    *("digest_before", "digest_after", "reason", "run"),
)

_DIGEST = re.compile(r"[0-9a-f]{64}")
_SORTED = tuple(sorted((*HASHED, "body")))
_COLUMNS = tuple(column.name for column in tables.event.columns)
_INSERT = {
    dialect: "INSERT INTO event ({}) VALUES ({})".format(  # noqa: S608 - only names of this project
        ", ".join(f'"{name}"' for name in _COLUMNS), ", ".join([mark] * len(_COLUMNS))
    )
    for dialect, mark in (("sqlite", "?"), ("postgresql", "%s"))
}
_ADDED = frozenset(name for names in tables.ADDED_LATER.values() for name in names)
_migrating = threading.Lock()


def genesis_hash(ledger_id: str) -> str:
    """Return what the first event of a ledger follows: the digest of the ledger's identity."""
    return digest_of({"format": 1, "ledger_id": ledger_id})


def chain_hash(prev_hash: str, row: Mapping[str, Any], body: Any) -> str:
    """Return an event's hash.

    :param row: the stored values of the columns, as the database has them.
    :param body: the object that the column ``body`` spells.
    :raises TypeError, ValueError: when a value is not what the ledger writes.
    """
    fields = {name: row[name] for name in HASHED}
    return sha256(bytes.fromhex(prev_hash) + canonical_json({**fields, "body": body})).hexdigest()


def hashed_text(row: Mapping[str, Any]) -> bytes:
    """Return the canonical JSON of an event's fields, whose body is spelled canonically already.

    The same bytes as :func:`chain_hash` works out, without reading the body and spelling it again.

    :raises TypeError: when a value is not what the ledger writes.
    """
    import orjson  # not at the top: parsing a DAG file comes here too

    return orjson.dumps({name: orjson.Fragment(row[name]) if name == "body" else row[name] for name in _SORTED})


def row_digest(row: Mapping[str, Any]) -> str:
    """Return the digest of a decision's or a version's row, which its event's body repeats.

    A column that came later (:data:`include.governance.tables.ADDED_LATER`) counts only where it holds something, so
    that a row of an older ledger keeps its digest.

    :raises TypeError: when a value is not what the ledger writes.
    """
    return digest_of(
        {name: value for name, value in row.items() if name != "event_seq" and not _added_and_empty(name, value)}
    )


def _added_and_empty(name: str, value: object) -> bool:
    return value is None and name in _ADDED


class Ledger:
    """The record of who did what, when, to which digest.

    Nothing is opened before the first call. An instance may be shared by threads, and by a process and its forks.

    :param url: SQLAlchemy URL: ``sqlite:////folder/ledger.db`` on a local disk (a network disk has no locks to rely
        on) or ``postgresql://…``, which psycopg 3 serves.
    :raises InvalidInput: for another kind of database.
    """

    def __init__(self, url: str) -> None:
        self.url = _read_url(url)
        self.dialect = self.url.get_backend_name()
        self._engine: Engine | None = None
        self._process = os.getpid()
        self._ledger_id: str | None = None
        self._opening = threading.Lock()

    def __repr__(self) -> str:
        return f"Ledger({self.url.render_as_string(hide_password=True)})"

    # ---- schema ----------------------------------------------------------------------------------------------------

    def migrate(self) -> bool:
        """Build the tables, or bring them up to date; return whether anything was to be done.

        May be run by several processes at once: one does it, the others wait and find it done.

        :raises Unsupported: when the database was made by newer code.
        :raises Unavailable: when it cannot be reached.
        """
        if self.dialect == "sqlite":
            _make_wal(Path(str(self.url.database)))
        with _migrating, self._writing(check_schema=False) as connection:
            found = self._found_revision(connection)
            if found == tables.REVISION:
                return False
            _run_migrations(connection)
            return True

    def _found_revision(self, connection: Connection) -> str | None:
        """Return the schema's revision, None where the database has no ledger yet."""
        if not sa.inspect(connection).has_table(tables.VERSION_TABLE):
            return None
        found = connection.scalar(sa.text(f"SELECT version_num FROM {tables.VERSION_TABLE}"))  # noqa: S608 - a constant
        if found is not None and found > tables.REVISION:
            raise Unsupported(
                f"{self!r} has schema {found}, made by a newer release; this code knows up to {tables.REVISION}. "
                "Upgrade this installation",
                system="ledger",
            )
        return found

    def _require_schema(self, connection: Connection) -> None:
        if self._ledger_id is not None:
            return
        found = self._found_revision(connection)
        if found != tables.REVISION:
            state = f"has schema {found}, older than {tables.REVISION}" if found else "holds no ledger yet"
            raise Unsupported(
                f"{self!r} {state}. Run `labelops migrate` once, then try again",
                system="ledger",
            )
        self._ledger_id = connection.scalar(sa.select(tables.ledger_info.c.ledger_id))

    # ---- connections -----------------------------------------------------------------------------------------------

    def _connect(self) -> Engine:
        with self._opening:
            if self._engine is not None and self._process != os.getpid():
                # A fork shares its parent's sockets: forget them without closing them under the parent.
                self._engine.dispose(close=False)
                self._engine = None
            if self._engine is None:
                self._process = os.getpid()
                self._engine = _make_engine(self.url)
            return self._engine

    def close(self) -> None:
        """Close the idle connections. The next call opens new ones."""
        with self._opening:
            if self._engine is not None:
                self._engine.dispose(close=self._process == os.getpid())
                self._engine = None

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a read-only look at one moment of the ledger, whatever is written meanwhile.

        :raises Unsupported: when the schema is older or newer than the code.
        :raises Unavailable: when the database cannot be reached.
        """
        if self.dialect == "sqlite" and not Path(str(self.url.database)).exists():
            raise Unsupported(
                f"{self!r} does not exist. Run `labelops migrate` once, then try again",
                system="ledger",
            )
        with self._typed_errors(), self._connect().connect() as plain:
            options = {"isolation_level": "REPEATABLE READ"} if self.dialect == "postgresql" else {}
            connection = plain.execution_options(**options)
            self._require_schema(connection)
            yield connection

    @contextmanager
    def _writing(self, *, check_schema: bool = True) -> Iterator[Connection]:
        """Hold the one right to write, commit at the end, roll back on any error."""
        if check_schema and self._ledger_id is None:
            with self.reading():
                pass
        with self._typed_errors():
            connection = self._begin_write()
            try:
                yield connection
                connection.commit()
            finally:
                connection.close()

    def _begin_write(self) -> Connection:
        """Begin a transaction as the only writer. Repeating this is safe: nothing has been written yet."""
        for attempt in range(1, LOCK_ATTEMPTS + 1):
            connection = self._connect().connect().execution_options(ledger_write=True)
            try:
                connection.begin()
                if self.dialect == "postgresql":
                    connection.execute(sa.text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
                    # A writer that stops without dying must not keep the others out for ever.
                    connection.execute(sa.text("SET LOCAL idle_in_transaction_session_timeout = '120s'"))
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(ADVISORY_LOCK)))
                return connection
            except OperationalError as error:
                connection.invalidate()
                connection.close()
                if not _is_lock_wait(error):
                    raise
                if attempt < LOCK_ATTEMPTS:
                    clock.sleep(random.uniform(0.05, 0.25) * attempt)  # noqa: S311 - spreads the waiters, no secret
            except BaseException:
                connection.close()
                raise
        raise Unavailable(
            f"{self!r}: another writer has held the ledger for {LOCK_SECONDS * LOCK_ATTEMPTS} seconds; "
            "look for a stuck process, then try again",
            system="ledger",
        )

    @contextmanager
    def _typed_errors(self) -> Iterator[None]:
        try:
            yield
        except (OperationalError, InterfaceError) as error:
            raise Unavailable(f"{self!r}: {_first_line(error)}", system="ledger") from error

    # ---- writing ---------------------------------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Append events and write what belongs to them, all or nothing, as the only writer.

        Keep it short and call no outside system in it: every other writer waits.

        :raises Unavailable: when the database cannot be reached or another writer is stuck. Whether a commit that
            was cut off took effect is not known; events with a key can simply be appended again.
        """
        with self._writing() as connection:
            yield Transaction(self, connection)

    def append(self, event: NewEvent, *, key: str | None = None, time: datetime | None = None) -> tuple[Event, bool]:
        """Append one event; see :meth:`Transaction.append`."""
        with self.transaction() as transaction:
            return transaction.append(event, key=key, time=time)

    def record_version(self, version: VersionRecord) -> VersionRecord:
        """Record a frozen version and give it its number; see :meth:`Transaction.record_version`."""
        with self.transaction() as transaction:
            return transaction.record_version(version)

    def record_decision(self, decision: Decision) -> bool:
        """Record a decision, once; see :meth:`Transaction.record_decision`."""
        with self.transaction() as transaction:
            return transaction.record_decision(decision)

    def save_sync_state(self, scope: str, value: Mapping[str, Any]) -> bool:
        """Keep what a sync has seen; see :meth:`Transaction.save_sync_state`."""
        if self.sync_state(scope) == value:
            return False
        with self.transaction() as transaction:
            return transaction.save_sync_state(scope, value)

    def record_sources(self, project: str, records: Iterable[SourceRecord]) -> int:
        """Keep where tasks came from; what is known already is left alone.

        Streams: written in chunks of 2,000, each in a transaction of its own, so an interrupted call is repeated whole.

        :returns: how many were new.
        """
        waiting, new = iter(records), 0
        while chunk := list(islice(waiting, SOURCES_PER_WRITE)):
            with self.transaction() as transaction:
                new += transaction.record_sources(project, chunk)
        return new

    # ---- reading ---------------------------------------------------------------------------------------------------

    def head(self) -> Head:
        """Return how far the ledger has come."""
        with self.reading() as connection:
            return read_head(connection)

    def events(
        self,
        project: str | None = None,
        actions: Iterable[str] | None = None,
        subject: str | None = None,
        after: int = 0,
        limit: int | None = None,
    ) -> Iterator[Event]:
        """Stream events in their order, those of the given project, actions and subject.

        :param after: leave out events up to this number.
        :param limit: at most this many.
        """
        table = tables.event
        query = sa.select(table).order_by(table.c.seq)
        if project is not None:
            query = query.where(table.c.project == project)
        if actions is not None:
            query = query.where(table.c.action.in_(sorted(set(actions))))
        if subject is not None:
            query = query.where(table.c.subject == subject)
        left = limit
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            with self.reading() as connection:
                rows = connection.execute(query.where(table.c.seq > after).limit(size)).mappings().all()
            for row in rows:
                yield _event_of(row)
            if len(rows) < size:
                return
            after = rows[-1]["seq"]
            left = None if left is None else left - len(rows)

    def find(self, key: str) -> Event | None:
        """Return the event that was appended under ``key``, or None."""
        with self.reading() as connection:
            row = connection.execute(sa.select(tables.event).where(tables.event.c.key == key)).mappings().first()
        return None if row is None else _event_of(row)

    def sync_state(self, scope: str) -> dict[str, Any] | None:
        """Return what :meth:`save_sync_state` kept last for ``scope``, or None."""
        with self.reading() as connection:
            text = connection.scalar(sa.select(tables.sync_state.c.value).where(tables.sync_state.c.scope == scope))
        return None if text is None else json.loads(text)

    def versions(self, project: str) -> list[VersionRecord]:
        """Return a project's versions by number."""
        table = tables.dataset_version
        with self.reading() as connection:
            rows = connection.execute(sa.select(table).where(table.c.project == project).order_by(table.c.number))
            return [_version_of(row) for row in rows.mappings()]

    def version(self, digest: str) -> VersionRecord | None:
        """Return the version of that digest, or None."""
        table = tables.dataset_version
        with self.reading() as connection:
            row = connection.execute(sa.select(table).where(table.c.digest == digest)).mappings().first()
        return None if row is None else _version_of(row)

    def decisions(self, digest: str | None = None, *, project: str | None = None) -> list[Decision]:
        """Return the decisions on a digest, of a project, or both, in the order they were recorded."""
        table = tables.decision
        query = sa.select(table).order_by(table.c.event_seq)
        if digest is not None:
            query = query.where(table.c.digest == digest)
        if project is not None:
            query = query.where(table.c.project == project)
        with self.reading() as connection:
            return [_decision_of(row) for row in connection.execute(query).mappings()]

    def sources(self, project: str, task_id: str) -> list[SourceRecord]:
        """Return where a task came from, by source and record."""
        table = tables.source_record
        query = (
            sa.select(table.c.task_id, table.c.source, table.c.record, table.c.sha256)
            .where(table.c.project == project, table.c.task_id == task_id)
            .order_by(table.c.source, table.c.record, table.c.sha256)
        )
        with self.reading() as connection:
            return [SourceRecord(**row) for row in connection.execute(query).mappings()]


class Transaction:
    """One transaction of the ledger's only writer, from :meth:`Ledger.transaction`."""

    def __init__(self, ledger: Ledger, connection: Connection) -> None:
        self.ledger = ledger
        self.connection = connection
        self._head: tuple[int, str] | None = None
        self._cursor: Any = None

    def append(self, event: NewEvent, *, key: str | None = None, time: datetime | None = None) -> tuple[Event, bool]:
        """Append one event, or find it under its key.

        The time is this machine's clock as it is. Where that clock was moved back, the event says so by being
        earlier than the one before it, and the verifier warns of it.

        :param key: a name for the event: appending it again writes nothing.
        :param time: the time to record instead of the clock's, with a zone.
        :returns: the event, and whether it is new.
        :raises Conflict: when the key names an event with other content (the run and the time are not compared).
        :raises InvalidInput: for a field that is too long, a digest that is none, a body with floats or above 16 kB.
        """
        fields = _checked_event(event, key)
        if key is not None:
            table = tables.event
            known = self.connection.execute(sa.select(table).where(table.c.key == key)).mappings().first()
            if known is not None:
                _require_same(known, fields, f"the event {key!r}", ignore=("run",))
                return _event_of(known), False
        return self._append_new(fields, time), True

    def _append_new(self, fields: dict[str, Any], time: datetime | None) -> Event:
        size, last = self.head()
        moment = (time or datetime.now(UTC)).astimezone(UTC) if time is None or time.tzinfo else time
        row = {**fields, "seq": size + 1, "time": time_text(moment), "prev_hash": last}
        row["hash"] = sha256(bytes.fromhex(last) + hashed_text(row)).hexdigest()
        self._insert(tuple(row[name] for name in _COLUMNS))
        self._head = (row["seq"], row["hash"])
        return Event(**{**row, "time": moment, "body": json.loads(row["body"])})

    def _insert(self, values: tuple[Any, ...]) -> None:
        """Write an event's row with the driver's own cursor: a query built for each costs as much as the row."""
        statement = _INSERT[self.ledger.dialect]
        if self._cursor is None:
            self._cursor = self.connection.connection.cursor()
        try:
            self._cursor.execute(statement, values)
        except Exception as error:
            dialect = self.connection.dialect
            raise DBAPIError.instance(
                statement, None, error, dialect.loaded_dbapi.Error, hide_parameters=True, dialect=dialect
            ) from error

    def head(self) -> tuple[int, str]:
        """Return the number and the hash of the last event, those of this transaction included."""
        if self._head is None:
            head = read_head(self.connection)
            self._head = (head.size, head.hash)
        return self._head

    def record_version(self, version: VersionRecord, *, readopted: bool = False) -> VersionRecord:
        """Record a frozen version and append ``version.frozen``. The project's next number is given here.

        :param readopted: the ledger lost it, and its files show it: it may keep a number beyond the next one.
        :returns: the version with its number; the one recorded first, where its digest is known.
        :raises Conflict: when the digest is known with another project, other rows, another policy or row count.
        """
        row = _version_row(version)
        table = tables.dataset_version
        known = self.connection.execute(sa.select(table).where(table.c.digest == version.digest)).mappings().first()
        if known is not None:
            same = ("project", "rows_digest", "policy_digest", "row_count")
            _require_same(known, {name: row[name] for name in same}, f"the version {version.digest}")
            return _version_of(known)
        highest = self.connection.scalar(
            sa.select(sa.func.max(table.c.number)).where(table.c.project == version.project)
        )
        number = (highest or 0) + 1
        if readopted and version.number is not None and version.number >= number:
            number = version.number
        if version.number not in (None, number):
            raise Conflict(
                f"version {version.digest} of {version.project} asks for number {version.number}; the next is {number}",
                system="ledger",
            )
        row["number"] = number
        event = self._append_with_row(
            row,
            NewEvent(
                actor=version.requested_by or SERVICE,
                action="version.frozen",
                project=version.project,
                subject=f"version:{version.digest}",
                digest_after=version.digest,
                run=version.run,
                body={"number": number, "attempt": version.attempt, "row_count": version.row_count,
                      "rows_digest": version.rows_digest, "batch": version.batch,
                      "policy_digest": version.policy_digest, "row": row_digest(row),
                      **({"readopted": True} if readopted else {})},
            ),
            key=f"version:{version.digest}",
        )  # fmt: skip
        self.connection.execute(sa.insert(table), {**row, "event_seq": event.seq})
        return replace(version, number=number, frozen_at=read_time(row["frozen_at"]))

    def record_decision(self, decision: Decision) -> bool:
        """Record a decision and append ``decision.recorded``.

        :returns: False when it was recorded before.
        :raises Conflict: when its id is known with other content: decisions are never changed, only followed by others.
        """
        row = _decision_row(decision)
        table = tables.decision
        known = self.connection.execute(sa.select(table).where(table.c.decision_id == decision.decision_id))
        if (found := known.mappings().first()) is not None:
            unknown = tuple(name for name in tables.ADDED_LATER["decision"] if found[name] is None)
            _require_same(found, row, f"the decision {decision.decision_id}", ignore=unknown)
            return False
        event = self._append_with_row(
            row,
            NewEvent(
                actor=decision.person or f"{decision.system}:{decision.account}",
                action="decision.recorded",
                project=decision.project,
                subject=decision.subject,
                digest_after=decision.digest,
                reason=decision.void_reason,
                run=decision.process_id,
                body={"decision_id": decision.decision_id, "outcome": decision.outcome, "role": decision.role,
                      "attempt": decision.attempt, "counts": decision.counts, "meaning": decision.meaning,
                      "grade": decision.grade, "system": decision.system, "decided_at": row["decided_at"],
                      "signature": decision.signature, "statement_version": decision.statement_version,
                      "evidence": decision.raw_digest, "row": row_digest(row)},
            ),
            key=f"decision:{decision.decision_id}",
        )  # fmt: skip
        self.connection.execute(sa.insert(table), {**row, "event_seq": event.seq})
        return True

    def _append_with_row(self, row: Mapping[str, Any], event: NewEvent, key: str) -> Event:
        """Append the event of a row that is not there yet: its key must be free too."""
        appended, created = self.append(event, key=key)
        if not created:
            raise Conflict(
                f"event {appended.seq} records {key}, but its row is gone: run `labelops verify`",
                system="ledger",
            )
        return appended

    def save_sync_state(self, scope: str, value: Mapping[str, Any]) -> bool:
        """Keep what a sync has seen, so that the next run can tell what is new.

        :param value: JSON without floats, of any size.
        :returns: False when it was the same already.
        """
        try:
            text = canonical_text(dict(value))
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"sync state {scope!r}: {error}") from error
        table = tables.sync_state
        known = self.connection.scalar(sa.select(table.c.value).where(table.c.scope == scope))
        if known == text:
            return False
        values = {
            "scope": _text("sync state's scope", scope, 500),
            "value": text,
            "saved_at": time_text(datetime.now(UTC)),
        }
        if known is None:
            self.connection.execute(sa.insert(table), values)
        else:
            self.connection.execute(sa.update(table).where(table.c.scope == scope), values)
        return True

    def record_sources(self, project: str, records: Iterable[SourceRecord]) -> int:
        """Keep where some tasks came from (at most some thousands); return how many were new."""
        rows = [
            {
                "project": project,
                "task_id": one.task_id,
                "sha256": one.sha256,
                "source": one.source,
                "record": one.record,
            }
            for one in map(_checked_source, records)
        ]
        if not rows:
            return 0
        insert = (sqlite if self.ledger.dialect == "sqlite" else postgresql).insert(tables.source_record)
        counted = {"preserve_rowcount": True}
        # One short statement for each row: one long statement for all is compiled anew for every number of rows.
        return self.connection.execute(insert.on_conflict_do_nothing(), rows, execution_options=counted).rowcount


# ---- opening -------------------------------------------------------------------------------------------------------


def _read_url(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise InvalidInput(
            "the ledger's URL cannot be read; expected sqlite:////folder/ledger.db or postgresql://…"
        ) from error
    kind = parsed.get_backend_name()
    if kind == "postgres":
        parsed, kind = parsed.set(drivername="postgresql+psycopg"), "postgresql"
    if kind == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if kind != "sqlite":
        raise InvalidInput(f"the ledger's URL names {kind!r}; a ledger lives in sqlite or postgresql")
    if not parsed.database or parsed.database == ":memory:" or parsed.database.startswith("file:"):
        raise InvalidInput("the ledger's SQLite URL names no file: a ledger in memory would be gone at the next start")
    return parsed.set(drivername="sqlite")


def _make_engine(url: URL) -> Engine:
    if url.get_backend_name() == "postgresql":
        return sa.create_engine(
            url,
            isolation_level="READ COMMITTED",
            hide_parameters=True,
            pool_pre_ping=True,
            pool_size=2,
            connect_args={"connect_timeout": 10, "application_name": "labelops-ledger"},
        )
    engine = sa.create_engine(url, hide_parameters=True, pool_size=2, connect_args={"timeout": LOCK_SECONDS})
    sa.event.listen(engine, "connect", _set_up_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun by _begin_sqlite, not guessed by the driver
    connection.execute("PRAGMA synchronous = FULL")  # a commit that was answered survives a power cut
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("ledger_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _make_wal(path: Path) -> None:
    """Let readers and the writer work side by side. The file keeps the setting."""
    import sqlite3

    with writing_to(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, LOCK_ATTEMPTS * 10 + 1):
        connection = sqlite3.connect(path, timeout=LOCK_SECONDS)
        try:
            if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            # Changing the mode does not wait for others as a write does.
            if "locked" not in str(error) or attempt == LOCK_ATTEMPTS * 10:
                raise Unavailable(f"{path}: {error}", system="ledger") from error
            clock.sleep(random.uniform(0.02, 0.1))  # noqa: S311 - spreads the waiters, no secret
        finally:
            connection.close()


def _run_migrations(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _is_lock_wait(error: DBAPIError) -> bool:
    text = str(error.orig)
    return "database is locked" in text or "lock timeout" in text


def _first_line(error: DBAPIError) -> str:
    return (str(error.orig).strip() or type(error.orig).__name__).splitlines()[0]


# ---- rows ----------------------------------------------------------------------------------------------------------


def read_head(connection: Connection) -> Head:
    """Return the head as this connection's transaction sees it."""
    info = connection.execute(sa.select(tables.ledger_info)).mappings().one()
    table = tables.event
    last = connection.execute(
        sa.select(table.c.seq, table.c.hash, table.c.time).order_by(table.c.seq.desc()).limit(1)
    ).first()
    if last is None:
        return Head(info["ledger_id"], info["epoch"], 0, genesis_hash(info["ledger_id"]))
    return Head(info["ledger_id"], info["epoch"], last.seq, last.hash, last.time)


def _event_of(row: Mapping[Any, Any]) -> Event:
    return Event(**{**row, "time": read_time(row["time"]), "body": json.loads(row["body"])})


def _version_of(row: Mapping[Any, Any]) -> VersionRecord:
    values = {name: value for name, value in row.items() if name != "event_seq"}
    return VersionRecord(**{**values, "frozen_at": read_time(values["frozen_at"])})


def _decision_of(row: Mapping[Any, Any]) -> Decision:
    values = {name: value for name, value in row.items() if name != "event_seq"}
    moment = values["decided_at"]
    values["signature"] = values["signature"] or "recorded"  # what was written before signatures were told apart
    return Decision(
        **{**values, "counts": bool(values["counts"]), "decided_at": None if moment is None else read_time(moment)}
    )


def _version_row(version: VersionRecord) -> dict[str, Any]:
    row = asdict(version)
    for name, limit in {"project": 200, "path": 1000}.items():
        _text(f"version's {name}", row[name], limit)
    for name, limit in {"batch": 64, "policy_digest": 64, "requested_by": 300, "run": 500}.items():
        _text(f"version's {name}", row[name], limit, empty=True)
    _digest("version's digest", version.digest)
    _digest("version's rows_digest", version.rows_digest)
    _count("version's row_count", version.row_count, least=0)
    _count("version's attempt", version.attempt, least=1)
    row["frozen_at"] = time_text(version.frozen_at or datetime.now(UTC))
    return row


def _decision_row(decision: Decision) -> dict[str, Any]:
    row = asdict(decision)
    for name, limit in {"decision_id": 290, "project": 200, "subject": 500, "account": 300, "system": 50}.items():
        _text(f"decision's {name}", row[name], limit)
    limits = {"role": 200, "void_reason": 4000, "meaning": 200, "statement": 8000, "process_id": 500, "task_id": 500}
    for name, limit in limits.items():
        _text(f"decision's {name}", row[name], limit, empty=True)
    if decision.person is not None:
        _text("decision's person", decision.person, 300)
    _digest("decision's digest", decision.digest)
    if decision.raw_digest:
        _digest("decision's raw_digest", decision.raw_digest)
    _count("decision's attempt", decision.attempt, least=1)
    _one_of("decision's outcome", decision.outcome, OUTCOMES)
    _one_of("decision's grade", decision.grade, GRADES)
    _one_of("decision's signature", decision.signature, SIGNATURES)
    if decision.statement_version is not None:
        _count("decision's statement_version", decision.statement_version, least=1)
    row["counts"] = int(bool(decision.counts))
    row["decided_at"] = None if decision.decided_at is None else time_text(decision.decided_at)
    return row


def _require_same(known: Mapping[Any, Any], wanted: Mapping[str, Any], what: str, ignore: tuple[str, ...] = ()) -> None:
    other = sorted(name for name, value in wanted.items() if name not in ignore and known[name] != value)
    if other:
        raise Conflict(
            f"{what} is on the ledger already with other content: {', '.join(other)} differ", system="ledger"
        )


# ---- checks on what is written -------------------------------------------------------------------------------------


def _checked_event(event: NewEvent, key: str | None) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "key": None if key is None else _text("event's key", key, 300),
        "actor": _text("event's actor", event.actor, 300),
        "action": _text("event's action", event.action, 100),
        "project": _text("event's project", event.project, 200, empty=True),
        "subject": _text("event's subject", event.subject, 500),
        "digest_before": event.digest_before,
        "digest_after": event.digest_after,
        "reason": _text("event's reason", event.reason, 4000, empty=True),
        "run": _text("event's run", event.run, 500, empty=True),
    }
    for name in ("digest_before", "digest_after"):
        if fields[name] is not None:
            _digest(f"event's {name}", fields[name])
    fields["body"] = _checked_body(event)
    return fields


def _checked_body(event: NewEvent) -> str:
    if not isinstance(event.body, Mapping):
        raise InvalidInput(f"the event {event.action}: its body is a {type(event.body).__name__}; expected an object")
    try:
        text = canonical_text(dict(event.body))
        size = len(text.encode("utf-8"))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"the event {event.action}: its body cannot be written ({error})") from error
    if size > BODY_LIMIT:
        raise InvalidInput(
            f"the event {event.action}: its body takes {size} bytes, {BODY_LIMIT} are allowed; "
            "keep the content in the store and put its digest here"
        )
    return text


def _checked_source(record: SourceRecord) -> SourceRecord:
    _digest("source record's task_id", record.task_id)
    _digest("source record's sha256", record.sha256)
    _text("source record's source", record.source, 500)
    return replace(record, record=_text("source record's record", str(record.record), 300))


def _text(what: str, value: object, limit: int, *, empty: bool = False) -> str:
    if not isinstance(value, str):
        raise InvalidInput(f"the {what} is a {type(value).__name__}; expected text")
    if not value and not empty:
        raise InvalidInput(f"the {what} is empty")
    if len(value) > limit:
        raise InvalidInput(f"the {what} has {len(value)} characters; {limit} are allowed")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidInput(f"the {what} holds half a character (a lone surrogate) at {error.start}") from error
    if "\0" in value:
        raise InvalidInput(f"the {what} holds a NUL character at {value.index(chr(0))}")
    return value


def _digest(what: str, value: object) -> None:
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise InvalidInput(f"the {what} is {str(value)[:80]!r}; expected a SHA-256 as 64 lower-case hex characters")


def _count(what: str, value: object, *, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InvalidInput(f"the {what} is {value!r}; expected a whole number from {least}")


def _one_of(what: str, value: str, allowed: frozenset[str]) -> None:
    if value not in allowed:
        raise InvalidInput(f"the {what} is {value!r}; allowed: {', '.join(sorted(allowed))}")
