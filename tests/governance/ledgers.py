"""What the ledger's tests share: things to record, processes to start, and a way round the database's guards."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from include.governance import tables
from include.governance.ledger import Ledger, chain_hash, genesis_hash
from include.governance.records import Decision, NewEvent, VersionRecord
from include.governance.verify import verify

ROOT = Path(__file__).resolve().parents[2]


def fresh_postgres(server: str) -> str:
    """Return the URL of an empty schema of its own."""
    name = f"l{uuid.uuid4().hex}"
    engine = sa.create_engine(server)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {name}")
    engine.dispose()
    return f"{server}?options=-csearch_path%3D{name}"


def digest(number: int) -> str:
    """Return something shaped like a SHA-256."""
    return f"{number:064x}"


def note(number: int = 0, /, **fields: object) -> NewEvent:
    """Return an event to append."""
    values = {
        "actor": "anna",
        "action": "note.taken",
        "project": "ticket_topics",
        "subject": f"batch:{digest(number)}",
        "digest_before": digest(number),
        "digest_after": digest(number + 1),
        "reason": "because – ünïcode 🙂",
        "run": f"run-{number}",
        "body": {"number": number, "nested": {"list": [1, "two", None, True]}},
    }
    return NewEvent(**{**values, **fields})  # type: ignore[arg-type]


def version(number: int = 1, /, **fields: object) -> VersionRecord:
    """Return a version to record."""
    values = {
        "project": "ticket_topics",
        "digest": digest(1000 + number),
        "rows_digest": digest(2000 + number),
        "batch": digest(3000),
        "policy_digest": digest(4000),
        "path": f"versions/ticket_topics/{digest(1000 + number)}",
        "row_count": 12,
        "requested_by": "olga",
        "run": "freeze/1",
    }
    return VersionRecord(**{**values, **fields})  # type: ignore[arg-type]


def decision(name: str = "d1", **fields: object) -> Decision:
    """Return a decision to record."""
    values = {
        "decision_id": name,
        "project": "ticket_topics",
        "subject": f"version:{digest(1001)}",
        "digest": digest(1001),
        "attempt": 1,
        "role": "data_owner",
        "outcome": "approve",
        "counts": True,
        "void_reason": "",
        "person": "dana",
        "account": "acc-dana",
        "system": "confluence",
        "decided_at": None,
        "meaning": "approval",
        "grade": "attested",
    }
    return Decision(**{**values, **fields})  # type: ignore[arg-type]


def tamper(ledger: Ledger, /, *statements: str, **values: object) -> None:
    """Run raw SQL as somebody who owns the database would: with the guards out of the way, and back afterwards."""
    engine = sa.create_engine(ledger.url)
    if ledger.dialect == "sqlite":  # all or nothing, the guards included
        sa.event.listen(engine, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
        sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    with engine.begin() as connection:
        if ledger.dialect == "sqlite":
            query = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
            guards = connection.exec_driver_sql(query).all()
            for name, _sql in guards:
                connection.exec_driver_sql(f"DROP TRIGGER {name}")
        else:
            connection.exec_driver_sql("SET LOCAL session_replication_role = 'replica'")
            for table in (*tables.APPEND_ONLY, *tables.KEPT):
                connection.exec_driver_sql(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        for statement in statements:
            connection.execute(sa.text(statement), values)
        if ledger.dialect == "sqlite":
            for _name, sql in guards:
                connection.exec_driver_sql(sql)
        else:
            for table in tables.APPEND_ONLY:
                connection.exec_driver_sql(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_append_only")
            for table in tables.KEPT:
                connection.exec_driver_sql(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_kept")
    engine.dispose()


def raw(ledger: Ledger, statement: str, /, **values: object) -> list[sa.Row]:
    """Run raw SQL with the guards in place."""
    engine = sa.create_engine(ledger.url)
    try:
        with engine.begin() as connection:
            result = connection.execute(sa.text(statement), values)
            return list(result.all()) if result.returns_rows else []
    finally:
        engine.dispose()


def rechain(ledger: Ledger, first: int) -> None:
    """Work out all hashes anew from an event on, as a careful forger would."""
    rows = [dict(row._mapping) for row in raw(ledger, "SELECT * FROM event ORDER BY seq")]
    last = genesis_hash(ledger.head().ledger_id) if first == 1 else rows[first - 2]["hash"]
    statements: list[str] = []
    for row in rows[first - 1 :]:
        new = chain_hash(last, row, json.loads(row["body"]))
        statements.append(f"UPDATE event SET prev_hash = '{last}', hash = '{new}' WHERE seq = {row['seq']}")
        last = new
    # Out of the way first: the hashes are unique.
    tamper(ledger, "UPDATE event SET prev_hash = 'p' || seq, hash = 'h' || seq WHERE seq >= " + str(first), *statements)


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a Python process on some code, with the project importable."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for the end of a process that has to succeed, and return what it wrote."""
    out, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    return out


def fill(ledger: Ledger) -> Ledger:
    """Append notes, a version as event 4, decisions as 7 and 8."""
    for number in (1, 2, 3):
        ledger.append(note(number), key=f"k{number}", time=moment(number))
    ledger.record_version(version())
    for number in (5, 6):
        ledger.append(note(number), key=f"k{number}")
    ledger.record_decision(decision("d1"))
    ledger.record_decision(decision("d2", outcome="reject", role="quality_reviewer", person="quentin"))
    for number in (9, 10):
        ledger.append(note(number), key=f"k{number}")
    assert ledger.head().size == 10
    assert verify(ledger, ledger.head()).findings == []
    return ledger


def moment(minute: int) -> datetime:
    return datetime(2026, 1, 1, 0, minute, tzinfo=UTC)
