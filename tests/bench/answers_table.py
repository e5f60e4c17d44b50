"""Export of answers straight from Prodigy's database, against what else there is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["export_postgresql", "export_sqlite", "lines_of"]

ANSWERS = 1_000_000
LISTED = 200_000
LOADED = 100_000

Line = tuple[str, str, str, str]
Job = Callable[..., dict[str, Any]]


def lines_of(job: Job, folder: Path, url: str, engine: str) -> list[Line]:
    """Fill a database and export it in every way."""
    job(folder, "fill_answers", url, ANSWERS)
    place = folder / "out"
    place.mkdir()
    cursor = job(folder, "cursor_jsonl", url, place / "cursor.jsonl")
    ours = job(folder, "exported_answers", url, place / "ours.jsonl", "jsonl")
    if (place / "cursor.jsonl").stat().st_size != ours["bytes"]:
        raise AssertionError("the two exports have different bytes")
    (place / "cursor.jsonl").unlink()
    (place / "ours.jsonl").unlink()
    listed = job(folder, "peewee_jsonl", url, place / "peewee.jsonl", LISTED)
    (place / "peewee.jsonl").unlink()
    columns = job(folder, "exported_answers", url, place / "ours.parquet", "parquet")
    loaded = job(folder, "dlt_parquet", url, place / "dlt", LOADED)
    shutil.rmtree(place)
    return [
        _line(f"{ANSWERS:,} answers, {engine}, bare cursor writing the stored bytes", cursor, None),
        _line("JSON lines, `export_answers`, digested", ours, cursor),
        _line(f"{LISTED:,} of them, peewee + srsly, all in a list", listed, ours, "the export"),
        _line("Parquet with typed columns, `export_answers`", columns, None),
        _line(f"{LOADED:,} of them, dlt `sql_table` (SQLAlchemy), decoded, Parquet", loaded, columns, "the export"),
    ]


def _line(what: str, found: dict[str, Any], against: dict[str, Any] | None, name: str = "the cursor") -> Line:
    each, busy = found["seconds"] / found["count"], found["cpu_seconds"] / found["count"]
    ratio = "1"
    if against is not None:
        less = each / (against["seconds"] / against["count"])
        computed = busy / (against["cpu_seconds"] / against["count"])
        ratio = f"{less:.2f} × the time of {name} for a row, {computed:.2f} × its CPU"
    speed = f"{1 / each:,.0f}/s ({found['seconds']:.1f} s, {found['cpu_seconds']:.1f} s CPU)"
    return what, speed, f"{found['peak_mb']:,.0f} MB", ratio


def export_sqlite(folder: Path) -> list[Line]:
    """On SQLite."""
    from tests.bench.__main__ import job

    return lines_of(job, folder, f"sqlite:///{folder / 'prodigy.db'}", "SQLite")


def export_postgresql(folder: Path) -> list[Line]:
    """On a PostgreSQL server of its own."""
    import pytest

    from tests.bench.__main__ import job
    from tests.servers import fresh_database, postgres

    try:
        with postgres() as server, fresh_database(server) as url:
            return lines_of(job, folder, url, "PostgreSQL")
    except pytest.skip.Exception as missing:
        return [("export from PostgreSQL", "not measured", "", str(missing))]
