"""The jobs on exporting answers straight from Prodigy's database. Each returns ``count`` and ``seconds``."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.bench.measure import job, timed

DATASET = "product_names"
PERSONS = ("anna", "ben", "cleo", "dora")
SHAPES = 500
WORDS = ("the", "Glow", "X200", "by", "Borealis", "stopped", "charging", "after", "two", "weeks", "and", "Acme", "left")


def _shape(number: int) -> bytes:
    """Return an answer as Prodigy stores it, but for what differs from row to row: ``@`` and digits."""
    from include.annotation.tokens import tokenize

    words = [WORDS[(number * 7 + place * (1 + number % 5)) % len(WORDS)] for place in range(13 + number % 5)]
    text = " ".join(["1234567", *words])
    tokens = tokenize(text)
    spans = [
        {
            **{"start": tokens[place]["start"], "end": tokens[place + 1]["end"]},
            **{"token_start": place, "token_end": place + 1, "label": ("PRODUCT", "MAKER")[place % 2]},
        }
        for place in range(2, 3 + number % 3 * 3, 3)
    ]
    task = {
        "text": text,
        "tokens": tokens,
        "meta": {"source": "reviews.jsonl", "row": 1234567},
        "_input_hash": 1234567,
        "_task_hash": -1234567,
        "_view_id": "ner_manual",
        "labelops": {
            "task_id": "@" * 57 + "1234567",
            "project": DATASET,
            "served": {"guideline": "ab" * 32, "guideline_number": 3, "labels_digest": "cd" * 32, "round": 1},
        },
        "spans": spans,
        "answer": ("accept", "accept", "accept", "reject", "ignore")[number % 5],
        "_timestamp": 1701234567,
        "_annotator_id": f"{DATASET}-{PERSONS[number % 4]}",
        "_session_id": f"{DATASET}-{PERSONS[number % 4]}",
    }
    return json.dumps(task, separators=(",", ":")).encode()


def _examples(count: int) -> Iterator[tuple[int, int, int, bytes]]:
    shapes = [_shape(number) for number in range(SHAPES)]
    for number in range(1, count + 1):
        content = shapes[number % SHAPES].replace(b"1234567", b"%07d" % (number + 1_000_000)).replace(b"@", b"a")
        yield number, number + 1_000_000, -number - 1_000_000, content


@job
def fill_answers(url: str, count: str) -> dict[str, Any]:
    """Fill a Prodigy database with answers of about 1.5 kB, each linked to its dataset and to a person's session."""
    from sqlalchemy import make_url

    from include.sandbox.prodigy_schema import create_schema

    create_schema(url)
    names = [DATASET, *(f"{DATASET}-{person}" for person in PERSONS)]
    links = (
        (example, dataset)
        for first in range(1, int(count) + 1, 10)
        for dataset in (0, 1)
        for example in range(first, min(first + 10, int(count) + 1))
    )
    linked = (
        (place, example, 1 if not dataset else 2 + example % SHAPES % 4)
        for place, (example, dataset) in enumerate(links, 1)
    )
    found: dict[str, Any] = {"count": int(count)}
    made = make_url(url)
    with timed(found):
        if made.get_backend_name() == "sqlite":
            with closing(sqlite3.connect(str(made.database))) as conn, conn:
                conn.execute("PRAGMA synchronous = OFF")
                rows = [(place, name, 0, b"{}", int(place > 1)) for place, name in enumerate(names, 1)]
                conn.executemany("INSERT INTO dataset VALUES (?, ?, ?, ?, ?)", rows)
                conn.executemany("INSERT INTO example VALUES (?, ?, ?, ?)", _examples(int(count)))
                conn.executemany("INSERT INTO link VALUES (?, ?, ?)", linked)
        else:
            _copy(url, names, _examples(int(count)), linked)
    return found


def _copy(url: str, names: list[str], examples: Any, linked: Any) -> None:
    import psycopg

    with psycopg.connect(url.replace("+psycopg", "")) as conn, conn.cursor() as cursor:
        with cursor.copy("COPY dataset FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["int4", "varchar", "int8", "bytea", "bool"])
            for place, name in enumerate(names, 1):
                copy.write_row((place, name, 0, b"{}", place > 1))
        with cursor.copy("COPY example FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["int4", "int8", "int8", "bytea"])
            for row in examples:
                copy.write_row(row)
        with cursor.copy("COPY link FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["int4", "int4", "int4"])
            for row in linked:
                copy.write_row(row)
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as conn:
        conn.execute("ANALYZE")


# --- JSON lines ------------------------------------------------------------------------------------------------------


@job
def cursor_jsonl(url: str, out: str) -> dict[str, Any]:
    """Write the stored bytes with a bare cursor of the driver, one row after the other."""
    from sqlalchemy import make_url

    wanted = (
        "SELECT e.content FROM dataset d JOIN link l ON l.dataset_id = d.id JOIN example e ON e.id = l.example_id "
        f"WHERE d.name = '{DATASET}' ORDER BY l.id"
    )
    found: dict[str, Any] = {"count": 0}
    made = make_url(url)
    with timed(found), Path(out).open("wb") as lines:
        if made.get_backend_name() == "sqlite":
            with closing(sqlite3.connect(str(made.database))) as conn:
                for (content,) in conn.execute(wanted):
                    lines.write(content)
                    lines.write(b"\n")
                    found["count"] += 1
        else:
            import psycopg

            with psycopg.connect(url.replace("+psycopg", "")) as server, server.cursor("all", binary=True) as cursor:
                cursor.itersize = 5000
                cursor.execute(wanted)
                for (content,) in cursor:
                    lines.write(content)
                    lines.write(b"\n")
                    found["count"] += 1
    return {**found, "bytes": Path(out).stat().st_size}
