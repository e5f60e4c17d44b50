"""The jobs on answers, versions and the ledger. Each returns ``count`` and ``seconds``."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.bench.measure import WORDS, job, timed
from tests.bench.table import Line, block, line, run

ANSWERS = 100_000
VERSION = 20_000
EVENTS = 1_000

# --- answers -------------------------------------------------------------------------------------------------------


@job
def make_answers(file: str, count: str) -> dict[str, Any]:
    """Fill a Prodigy database."""
    from include.sandbox.prodigy_schema import create_schema

    create_schema(f"sqlite:///{file}")
    content = {"label": "topic", "_view_id": "classification", "answer": "accept", "_timestamp": 1_700_000_000}
    found: dict[str, Any] = {"count": int(count)}
    with timed(found), closing(sqlite3.connect(file)) as conn, conn:
        conn.execute("INSERT INTO dataset VALUES (1, 'ticket_topics', 0, '{}', 0)")
        conn.executemany(
            "INSERT INTO example VALUES (?, ?, ?, ?)",
            (
                (n, n, n, json.dumps({"text": f"{n} {WORDS}", **content, "_input_hash": n, "_task_hash": n}).encode())
                for n in range(1, int(count) + 1)
            ),
        )
        conn.executemany("INSERT INTO link VALUES (?, ?, 1)", ((n, n) for n in range(1, int(count) + 1)))
    return found


@job
def hook_rows(file: str) -> dict[str, Any]:
    """Stream the answers through the client."""
    os.environ["AIRFLOW_CONN_PRODIGY_DEFAULT"] = json.dumps(
        {"conn_type": "prodigy", "host": file, "extra": {"engine": "sqlite"}}
    )
    from labelops.hooks.prodigy import ProdigyHook

    found: dict[str, Any] = {}
    prodigy = ProdigyHook().get_conn()
    with timed(found):
        found["count"] = sum(1 for row in prodigy.rows("ticket_topics") if row.content["text"])
    return found


@job
def pandas_rows(file: str, decode: str) -> dict[str, Any]:
    """Read the answers at once."""
    import pandas
    from sqlalchemy import create_engine

    found: dict[str, Any] = {}
    query = (
        "SELECT l.id, e.id AS example_id, e.input_hash, e.task_hash, e.content FROM link l "
        "JOIN example e ON e.id = l.example_id JOIN dataset d ON d.id = l.dataset_id "
        "WHERE d.name = 'ticket_topics' ORDER BY l.id"
    )
    with timed(found), create_engine(f"sqlite:///{file}").connect() as conn:
        frame = pandas.read_sql(query, conn)
        if int(decode):
            frame["content"] = frame["content"].map(json.loads)
        found["count"] = len(frame)
    return found


# --- versions ------------------------------------------------------------------------------------------------------


def _answers(count: int) -> Iterator[Any]:
    from tests.datasets.make import answer

    for number in range(count):
        for person, link in (("anna", 2 * number + 1), ("ben", 2 * number + 2)):
            yield answer(number, person, "billing", link=link)


def _frozen(folder: str, count: int) -> tuple[Any, Any, Any]:
    from include.base.store import Store
    from include.datasets.freeze import freeze
    from include.queues.progress import form
    from tests.datasets.make import REGISTER, project, task

    store, of = Store(Path(folder) / "store"), project()
    ids = [task(number) for number in range(count)]
    return store, of, freeze(store, of, form(ids).digest, ids, _answers(count), register=REGISTER)


@job
def plain_export(count: str) -> dict[str, Any]:
    """Write as many answers as plain JSON lines."""
    import tempfile

    found: dict[str, Any] = {"count": int(count)}
    with timed(found), tempfile.TemporaryFile("w") as out:
        for one in _answers(int(count)):
            out.write(json.dumps({"task": one.shown, "value": one.value.canonical()}, sort_keys=True) + "\n")
    return found


@job
def freeze_rows(folder: str, count: str) -> dict[str, Any]:
    """Freeze a version."""
    found: dict[str, Any] = {"count": int(count)}
    with timed(found):
        _frozen(folder, int(count))
    return found


@job
def release_rows(folder: str, count: str) -> dict[str, Any]:
    """Release a version."""
    from include.releases.write import write_release

    store, of, version = _frozen(folder, int(count))
    found: dict[str, Any] = {"count": version.row_count}
    with timed(found):
        write_release(store, of, version.digest, 1, version.manifest, [])
    return found


# --- ledger --------------------------------------------------------------------------------------------------------


@job
def bare_inserts(file: str, count: str) -> dict[str, Any]:
    """Insert rows of the size of events, each in a transaction that is on the disk when it ends."""
    found: dict[str, Any] = {"count": int(count)}
    with closing(sqlite3.connect(file, isolation_level=None)) as conn:
        conn.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE event (seq, body)")
        with timed(found):
            for number in range(int(count)):
                conn.execute("INSERT INTO event VALUES (?, ?)", (number, WORDS))
    return found


@job
def ledger_appends(file: str, count: str) -> dict[str, Any]:
    """Append events to a ledger."""
    from include.governance.ledger import Ledger
    from include.governance.records import NewEvent

    ledger = Ledger(f"sqlite:///{file}")
    ledger.migrate()
    event = NewEvent(actor="labelops", action="bench.appended", project="bench", subject="bench:1", reason=WORDS)
    found: dict[str, Any] = {"count": int(count)}
    with timed(found):
        for number in range(int(count)):
            ledger.append(replace(event, subject=f"bench:{number}"))
    ledger.close()
    return found


# --- the table -------------------------------------------------------------------------------------------------------


@block
def stream(folder: Path) -> list[Line]:
    """Answers through the client, against pandas."""
    file = folder / "prodigy.db"
    run(folder, "make_answers", file, ANSWERS)
    first = run(folder, "hook_rows", file)
    raw, decoded = run(folder, "pandas_rows", file, 0), run(folder, "pandas_rows", file, 1)
    return [
        line(f"{ANSWERS:,} answers, ProdigyClient.rows, JSON read", first),
        line("the same, pandas.read_sql, JSON read", decoded, first),
        line("the same, pandas.read_sql, JSON left as bytes", raw, first),
    ]


@block
def export(folder: Path) -> list[Line]:
    """A version frozen and released, against the plain writing of its rows."""
    plain = run(folder, "plain_export", VERSION)
    frozen, released = (run(folder, name, folder, VERSION) for name in ("freeze_rows", "release_rows"))
    return [
        line(f"{VERSION:,} rows, json.dumps to a file", plain),
        line(f"{2 * VERSION:,} answers frozen into {VERSION:,} canonical rows", frozen, plain),
        line("release of that version: verified, JSONL, Parquet", released, plain),
    ]


@block
def ledger(folder: Path) -> list[Line]:
    """Appends to the ledger on SQLite, against bare inserts that are as durable."""
    bare = run(folder, "bare_inserts", folder / "bare.db", EVENTS)
    ours = run(folder, "ledger_appends", folder / "ledger.db", EVENTS)
    return [
        line(f"{EVENTS:,} bare SQLite inserts, each committed", bare),
        line("ledger events, chained, each committed", ours, bare),
    ]
