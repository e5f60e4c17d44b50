"""The jobs on exporting answers straight from Prodigy's database. Each returns ``count`` and ``seconds``."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.bench.measure import job, timed
from tests.bench.table import Line, NewDatabase, line, on_each_engine, run

DATASET = "product_names"
PERSONS = ("anna", "ben", "cleo", "dora")
SHAPES = 500
ANSWERS = 1_000_000
LISTED = 200_000
LOADED = 100_000
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


@job
def exported_answers(url: str, out: str, kind: str) -> dict[str, Any]:
    """Export through the client, as the command does."""
    from include.exports.answers import export_answers
    from labelops.hooks.prodigy import ProdigyHook
    from tests.servers import airflow_connection

    os.environ["AIRFLOW_CONN_PRODIGY_DEFAULT"] = airflow_connection(url)
    prodigy = ProdigyHook().get_conn()
    found: dict[str, Any] = {}
    with timed(found):
        manifest = export_answers(prodigy, Path(out), format=kind, dataset=DATASET)
    return {**found, "count": manifest.rows, "bytes": manifest.bytes, "sha256": manifest.sha256}


@job
def peewee_jsonl(url: str, out: str, most: str) -> dict[str, Any]:
    """Read all examples into a list with peewee, parse and write them with srsly: the documented way of ``db-out``."""
    import peewee
    import srsly
    from sqlalchemy import make_url

    made = make_url(url)
    database: Any = (
        peewee.SqliteDatabase(made.database)
        if made.get_backend_name() == "sqlite"
        else peewee.PostgresqlDatabase(
            made.database, prefer_psycopg3=True, host=made.host, port=made.port, user=made.username
        )
    )

    class Base(peewee.Model):
        class Meta:
            pass

    class Dataset(Base):
        name = peewee.CharField(unique=True)
        created = peewee.TimestampField()
        meta = peewee.BlobField()
        session = peewee.BooleanField()

    class Example(Base):
        input_hash = peewee.BigIntegerField()
        task_hash = peewee.BigIntegerField()
        content = peewee.BlobField()

    class Link(Base):
        example = peewee.ForeignKeyField(Example)
        dataset = peewee.ForeignKeyField(Dataset)

    database.bind([Dataset, Example, Link])
    found: dict[str, Any] = {}
    with timed(found):
        wanted = (
            Example.select(Example).join(Link).join(Dataset).where(Dataset.name == DATASET).order_by(Link.id)
        ).limit(int(most))
        examples = [srsly.json_loads(bytes(one.content).decode("utf-8")) for one in wanted]
        srsly.write_jsonl(out, examples)
    return {**found, "count": len(examples), "bytes": Path(out).stat().st_size}


@job
def dlt_parquet(url: str, folder: str, most: str) -> dict[str, Any]:
    """Load the examples with dlt's SQL source (SQLAlchemy backend), decode the JSON, and write Parquet files."""
    os.environ.update(
        {
            "RUNTIME__DLTHUB_TELEMETRY": "false",
            "RUNTIME__LOG_LEVEL": "ERROR",
            "DESTINATION__FILESYSTEM__BUCKET_URL": f"file://{folder}/out",
            "NORMALIZE__DATA_WRITER__DISABLE_COMPRESSION": "true",
        }
    )
    import dlt
    from dlt.sources.sql_database import sql_table
    from sqlalchemy import Select

    number = int(most)

    def some(query: Select[Any], table: Any) -> Select[Any]:
        return query.where(table.c.id <= number)

    def decoded(row: dict[str, Any]) -> dict[str, Any]:
        content = json.loads(row.pop("content"))
        content.pop("tokens", None)
        ours = content.pop("labelops", {})
        served = ours.get("served", {})
        return {
            **row,
            **{key.lstrip("_"): content.get(key) for key in ("_view_id", "answer", "text", "label", "spans")},
            "timestamp": content.get("_timestamp"),
            "annotator": content.get("_annotator_id"),
            "session": content.get("_session_id"),
            "task_id": ours.get("task_id"),
            "guideline": served.get("guideline"),
            "round": served.get("round"),
        }

    def emptied(table: Any) -> None:
        table.c.content.nullable = True

    callbacks = {"query_adapter_callback": some, "table_adapter_callback": emptied}
    table = sql_table(credentials=url, table="example", backend="sqlalchemy", **callbacks)
    table.add_map(decoded)
    # Spans stay a column of JSON: a child table would cost dlt more.
    table.max_table_nesting = 0
    pipeline = dlt.pipeline("answers", destination="filesystem", dataset_name="out", pipelines_dir=f"{folder}/dlt")
    found: dict[str, Any] = {"count": number}
    with timed(found):
        pipeline.run(table, loader_file_format="parquet", table_name="answers")
    import pyarrow.dataset as ds

    written = [str(place) for place in Path(folder, "out").rglob("*.parquet") if "answers" in str(place)]
    if ds.dataset(written).count_rows() != number:
        raise AssertionError("dlt wrote other rows than were asked for")
    return found


# --- the table -------------------------------------------------------------------------------------------------------


@on_each_engine
def export(folder: Path, new_database: NewDatabase, engine: str) -> list[Line]:
    """Export of answers straight from Prodigy's database in every way."""
    url, place = new_database("prodigy"), folder / "out"
    run(folder, "fill_answers", url, ANSWERS)
    place.mkdir()
    cursor = run(folder, "cursor_jsonl", url, place / "cursor.jsonl")
    ours = run(folder, "exported_answers", url, place / "ours.jsonl", "jsonl")
    if (place / "cursor.jsonl").stat().st_size != ours["bytes"]:
        raise AssertionError("the two exports have different bytes")
    (place / "cursor.jsonl").unlink()
    (place / "ours.jsonl").unlink()
    listed = run(folder, "peewee_jsonl", url, place / "peewee.jsonl", LISTED)
    (place / "peewee.jsonl").unlink()
    columns = run(folder, "exported_answers", url, place / "ours.parquet", "parquet")
    loaded = run(folder, "dlt_parquet", url, place / "dlt", LOADED)
    shutil.rmtree(place)
    return [
        line(f"{ANSWERS:,} answers, {engine}, bare cursor writing the stored bytes", cursor),
        line("JSON lines, `export_answers`, digested", ours, cursor),
        line(f"{LISTED:,} of them, peewee + srsly, all in a list", listed, ours, ", against the export"),
        line("Parquet with typed columns, `export_answers`", columns),
        line(f"{LOADED:,} of them, dlt `sql_table` (SQLAlchemy), decoded, Parquet", loaded, columns),
    ]
