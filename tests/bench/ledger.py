"""Jobs that measure the ledger: appends against plain inserts, verification against hashing alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from include.base.signing import make_key
from include.base.store import Store
from include.governance import tables
from include.governance.checkpoint import write_checkpoint
from include.governance.ledger import Ledger, genesis_hash, hashed_text
from include.governance.records import NewEvent, time_text
from tests.bench.measure import WORDS, job, timed
from tests.bench.table import Line, NewDatabase, line, on_each_engine, run

APPENDED = 100_000
VERIFIED = 1_000_000
BATCH = 1000
"""Events, or rows, written in one transaction: ours and the others' alike."""

_NAMES = tuple(column.name for column in tables.event.columns)
_INDEXES = (
    *(f"CREATE UNIQUE INDEX unique_{name} ON plain ({name})" for name in ("key", "prev_hash", "hash")),
    "CREATE INDEX by_action ON plain (project, action, seq)",
    "CREATE INDEX by_subject ON plain (subject, seq)",
)


def _event(number: int) -> NewEvent:
    return NewEvent(
        actor="labelops",
        action="bench.appended",
        project="bench",
        subject=f"bench:{number}",
        digest_after="ab" * 32,
        reason=WORDS,
        run="bench/manual__1/step/0/1",
        body={"number": number, "digest": "cd" * 32, "counts": {"rows": 12, "left": 0}},
    )


def _rows(ledger_id: str, count: int) -> Iterator[dict[str, Any]]:
    """Stream the rows of a ledger with that many events, chained as the ledger chains them."""
    last, start = genesis_hash(ledger_id), datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(count):
        event = _event(number)
        row: dict[str, Any] = {name: getattr(event, name, None) for name in _NAMES}
        row |= {"seq": number + 1, "time": time_text(start + timedelta(milliseconds=number)), "prev_hash": last}
        row["body"] = json.dumps(event.body, sort_keys=True, separators=(",", ":"))
        row["hash"] = last = sha256(bytes.fromhex(last) + hashed_text(row)).hexdigest()
        yield row


def _engine(url: str) -> sa.Engine:
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _as_durable)
        sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def _as_durable(connection: Any, _record: object) -> None:
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")


@job
def make_ledger(url: str, count: str, lines: str) -> dict[str, Any]:
    """Make a ledger of that many events, and a file with the bytes that are hashed, one event a line."""
    ledger = Ledger(url)
    ledger.migrate()
    engine, found = _engine(url), {"count": int(count)}
    mark = "?" if engine.dialect.name == "sqlite" else "%s"
    insert = f"INSERT INTO event VALUES ({', '.join([mark] * len(_NAMES))})"
    with timed(found), open(lines, "wb") as out:
        waiting: list[tuple[Any, ...]] = []
        for row in _rows(ledger.head().ledger_id, int(count)):
            out.write(bytes.fromhex(row["prev_hash"]).hex().encode() + hashed_text(row) + b"\n")
            waiting.append(tuple(row[name] for name in _NAMES))
            if len(waiting) == 20 * BATCH:
                with engine.begin() as connection:
                    connection.exec_driver_sql(insert, waiting)
                waiting = []
        if waiting:
            with engine.begin() as connection:
                connection.exec_driver_sql(insert, waiting)
    engine.dispose()
    ledger.close()
    return found


@job
def plain_inserts(url: str, count: str, indexes: str) -> dict[str, Any]:
    """Insert rows of the same columns one by one through the driver, with no chain and no check."""
    engine, found = _engine(url), {"count": int(count)}
    rows = [tuple(row[name] for name in _NAMES) for row in _rows("bench", int(count))]
    mark = "?" if engine.dialect.name == "sqlite" else "%s"
    insert = f"INSERT INTO plain VALUES ({', '.join([mark] * len(_NAMES))})"
    with engine.begin() as connection:
        columns = ", ".join(f'"{name}" text' for name in _NAMES[1:])
        connection.exec_driver_sql(f"CREATE TABLE plain (seq bigint PRIMARY KEY, {columns})")
        for statement in _INDEXES if int(indexes) else ():
            connection.exec_driver_sql(statement)
    with timed(found):
        for first in range(0, len(rows), BATCH):
            with engine.begin() as connection:
                cursor = connection.connection.cursor()
                for row in rows[first : first + BATCH]:
                    cursor.execute(insert, row)
    engine.dispose()
    return found


@job
def chained_appends(url: str, count: str) -> dict[str, Any]:
    """Append events to a ledger, so many to a transaction."""
    ledger, found = Ledger(url), {"count": int(count)}
    ledger.migrate()
    with timed(found):
        for first in range(0, int(count), BATCH):
            with ledger.transaction() as transaction:
                for number in range(first, first + BATCH):
                    transaction.append(_event(number))
    ledger.close()
    return found


@job
def hash_lines(lines: str) -> dict[str, Any]:
    """Hash the bytes of each event, from a flat file."""
    found: dict[str, Any] = {"count": 0}
    with timed(found), open(lines, "rb") as content:
        for line in content:
            sha256(line).digest()
            found["count"] += 1
    return found


@job
def hash_rows(url: str) -> dict[str, Any]:
    """Read every row with the driver's cursor and hash the bytes of its columns, event by event."""
    engine, found = _engine(url), {"count": 0}
    with timed(found), engine.connect() as connection:
        after = 0
        while True:
            query = f"SELECT * FROM event WHERE seq > {after} ORDER BY seq LIMIT 1000"
            page = connection.exec_driver_sql(query).cursor.fetchall()  # type: ignore[union-attr]
            if not page:
                break
            for row in page:
                sha256("".join(map(str, row)).encode()).digest()
            found["count"] += len(page)
            after = page[-1][0]
    engine.dispose()
    return found


@job
def verify_ledger(url: str, folder: str) -> dict[str, Any]:
    """Verify a whole ledger, its Merkle root and a signed checkpoint included."""
    from include.governance.verify import verify_with

    ledger, store = Ledger(url), Store(Path(folder) / "store")
    write_checkpoint(ledger, store, make_key(Path(folder) / "key.pem"))
    found: dict[str, Any] = {}
    with timed(found):
        outcome = verify_with(ledger, store)
    assert outcome.ok
    assert outcome.signed_size == outcome.size
    found["count"] = outcome.size
    ledger.close()
    return found


@job
def first_and_next_checkpoint(url: str, folder: str) -> dict[str, Any]:
    """Write a checkpoint of a whole ledger, then one after a thousand further events."""
    ledger, store, found = Ledger(url), Store(Path(folder) / "store2"), {"count": 1}
    with timed(found, "first_seconds"):
        write_checkpoint(ledger, store)
    with ledger.transaction() as transaction:
        for number in range(BATCH):
            transaction.append(_event(number))
    with timed(found, "seconds"):
        write_checkpoint(ledger, store)
    ledger.close()
    return found


# --- the table -------------------------------------------------------------------------------------------------------


@on_each_engine
def ledger(folder: Path, new_database: NewDatabase, engine: str) -> list[Line]:
    """Appends in transactions of a thousand; a whole verification with Merkle root and signed checkpoint."""
    plain = run(folder, "plain_inserts", new_database("plain"), APPENDED, 0)
    indexed = run(folder, "plain_inserts", new_database("indexed"), APPENDED, 1)
    ours = run(folder, "chained_appends", new_database("appended"), APPENDED)
    place, lines = new_database("verified"), folder / "lines"
    run(folder, "make_ledger", place, VERIFIED, lines)
    flat, rows = run(folder, "hash_lines", lines), run(folder, "hash_rows", place)
    verified = run(folder, "verify_ledger", place, folder)
    kept = run(folder, "first_and_next_checkpoint", place, folder)
    first = f"the first one, over all: {kept['first_seconds']:.1f} s"
    speed, memory = f"{kept['seconds'] * 1000:,.0f} ms", f"{kept['peak_mb']:,.0f} MB"
    return [
        line(f"{APPENDED:,} plain inserts of the same columns, {engine}, 1,000 a transaction", plain),
        line("the same, with the ledger's indexes", indexed, plain),
        line("ledger events, checked, chained, guarded", ours, plain, " (target 3)"),
        line(f"{VERIFIED:,} events read with the driver's cursor, SHA-256 of each one's columns, {engine}", rows),
        line("the bytes alone, from a flat file", flat, rows),
        line("verify: chain, numbers, clock, spelling, Merkle root, signature", verified, rows, " (target 2)"),
        ("checkpoint after 1,000 further events", speed, memory, first),
    ]
