"""Run the benchmarks that are named, or all, and print one table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench.agreement_table import agreement
from tests.bench.answers_table import export_postgresql, export_sqlite
from tests.bench.exports_table import formats, splits
from tests.bench.ledger_table import ledger_postgresql, ledger_sqlite
from tests.bench.versions_table import freezing_postgresql, freezing_sqlite, version_diff

ANSWERS = 100_000
VERSION = 20_000
EVENTS = 1_000
PAGES = 10_000
CHANGED = 1_000
LIMIT = 100
DELAY = 0.05
WAITS = 3_000
DECIDED = 300
POLL = 2
RECORDS = (50_000, 200_000)
INBOX = 1_000_000
NEW = 200_000

Line = tuple[str, str, str, str]


def job(folder: Path, name: str, *values: object) -> dict[str, Any]:
    """Run one job in a process of its own, so that its peak memory is nobody else's."""
    command = [sys.executable, "-m", "tests.bench.job", name, *map(str, values)]
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(folder / "airflow"),
        "PYTHONPATH": os.pathsep.join([".", "plugins"]),
    }
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def line(what: str, found: dict[str, Any], against: dict[str, Any] | None) -> Line:
    """Return a line of the table: speed and memory, and both as ratios to the first line of its block."""
    speed, memory = found["count"] / found["seconds"], found["peak_mb"]
    if against is None:
        return what, f"{speed:,.0f}/s", f"{memory:,.0f} MB", "1"
    faster, more = speed / (against["count"] / against["seconds"]), memory / against["peak_mb"]
    return what, f"{speed:,.0f}/s", f"{memory:,.0f} MB", f"{faster:.2f} × speed, {more:.2f} × memory"


def stream(folder: Path) -> list[Line]:
    """Answers through the client, against pandas."""
    file = folder / "prodigy.db"
    job(folder, "make_answers", file, ANSWERS)
    first = job(folder, "hook_rows", file)
    raw, decoded = job(folder, "pandas_rows", file, 0), job(folder, "pandas_rows", file, 1)
    return [
        line(f"{ANSWERS:,} answers, ProdigyClient.rows, JSON read", first, None),
        line("the same, pandas.read_sql, JSON read", decoded, first),
        line("the same, pandas.read_sql, JSON left as bytes", raw, first),
    ]


def export(folder: Path) -> list[Line]:
    """A version frozen and released, against the plain writing of its rows."""
    plain = job(folder, "plain_export", VERSION)
    return [
        line(f"{VERSION:,} rows, json.dumps to a file", plain, None),
        line(
            f"{2 * VERSION:,} answers frozen into {VERSION:,} canonical rows",
            job(folder, "freeze_rows", folder, VERSION),
            plain,
        ),
        line("release of that version: verified, JSONL, Parquet", job(folder, "release_rows", folder, VERSION), plain),
    ]


def ledger(folder: Path) -> list[Line]:
    """Appends to the ledger on SQLite, against bare inserts that are as durable."""
    bare = job(folder, "bare_inserts", folder / "bare.db", EVENTS)
    return [
        line(f"{EVENTS:,} bare SQLite inserts, each committed", bare, None),
        line(
            "ledger events, chained, each committed", job(folder, "ledger_appends", folder / "ledger.db", EVENTS), bare
        ),
    ]


def guideline(folder: Path) -> list[Line]:
    """A guideline sync when nothing changed, against the least that a listing can cost."""
    found = job(folder, "quiet_sync", folder, PAGES)
    floor = -(-found["pages"] // 250)
    return [
        (
            f"listing of {found['pages']:,} pages, bare `requests`",
            f"{found['plain_requests']} requests, {found['plain_seconds']:.2f} s",
            "",
            "1",
        ),
        (
            "nothing-changed sync of them",
            f"{found['requests']} requests, {found['seconds']:.2f} s",
            f"{found['peak_mb']:,.0f} MB",
            f"{found['requests'] / floor:.2f} × the floor of {floor}, "
            f"{found['seconds'] / found['plain_seconds']:.2f} × the seconds",
        ),
    ]


def changed(folder: Path) -> list[Line]:
    """Changed pages over a slow network and a rate limit, against what the limit allows."""
    lines = []
    for readers, what in ((8, "8 readers"), (1, "1 reader")):
        pages = CHANGED if readers > 1 else CHANGED // 5
        place = folder / str(readers)
        found = job(folder, "changed_sync", place, 2 * pages, pages, LIMIT, DELAY, readers, "")
        least = found["requests"] / LIMIT
        lines.append(
            (
                f"{pages:,} changed pages of {2 * pages:,}, {DELAY * 1000:.0f} ms latency, {LIMIT} requests/s, {what}",
                f"{found['requests']:,} requests, {found['seconds']:.1f} s, {found['refused']} × 429",
                f"{found['peak_mb']:,.0f} MB",
                f"{found['seconds'] / least:.2f} × the {least:.1f} s that the limit allows",
            )
        )
    return lines


def waits(folder: Path) -> list[Line]:
    """Pending approvals in one event loop: what they cost while nothing happens, and how late a decision is seen."""
    found = job(folder, "pending_waits", folder, WAITS, DECIDED, POLL, 5)
    asked, alone = found["requests_per_minute"], WAITS * 60 / POLL
    late = [found[name] for name in ("median", "p95", "worst")]
    return [
        (
            f"{WAITS:,} pending approvals taken in",
            f"{found['seconds']:.1f} s, {found['first_requests']} requests",
            f"{found['peak_mb']:,.0f} MB",
            "0 worker slots",
        ),
        (
            f"while nothing is decided, a pause of {POLL} s between polls",
            f"{asked:.0f} requests a minute",
            "",
            f"{asked / 60 * POLL:.2f} × one request a pause; {alone:,.0f} if each wait asked for itself",
        ),
        (
            f"{DECIDED} of them decided at random moments",
            "seen after {:.1f} s (median), {:.1f} s (p95), {:.1f} s (last)".format(*late),
            "",
            "{:.2f}, {:.2f}, {:.2f} × the pause".format(*(seconds / POLL for seconds in late)),
        ),
    ]


def ingestion(folder: Path) -> list[Line]:
    """Raw JSONL to staged tasks, at two sizes: memory must not grow with the number."""
    first, *more = ((count, job(folder, "ingest_records", folder / str(count), count)) for count in RECORDS)
    return [
        line(f"{first[0]:,} records ingested", first[1], None),
        *(line(f"{count:,} records ingested", found, first[1]) for count, found in more),
    ]


def inbox(folder: Path, url: str, engine: str) -> list[Line]:
    """The whole of ingestion into an inbox that is full already, against the same rows written without a check."""
    job(folder, "fill_inbox", url, INBOX)
    job(folder, "raw_records", folder / "raw", NEW)
    ours = job(folder, "ingest_whole", folder / "home", url, folder / "raw", INBOX)
    plain = job(folder, "plain_inserts", url, ours["staged"])
    parts = ", ".join(f"{part} {ours[f'cpu_{part}_seconds']:.0f} s" for part in ("read", "gate", "load"))
    what, speed, memory, ratio = line(f"{NEW:,} records ingested into the {INBOX:,}", ours, plain)
    less = plain["cpu_seconds"] / ours["cpu_seconds"]
    return [
        line(f"{NEW:,} rows beside {INBOX:,}, {engine}, plain `executemany`", plain, None),
        (what, speed, memory, f"{ratio}, {less:.2f} × for each CPU second (of {ours['cpu_seconds']:.0f}: {parts})"),
    ]


def inbox_sqlite(folder: Path) -> list[Line]:
    """On SQLite."""
    return inbox(folder, f"sqlite:///{folder / 'prodigy.db'}", "SQLite")


def inbox_postgresql(folder: Path) -> list[Line]:
    """On a PostgreSQL server of its own."""
    import pytest

    from tests.servers import fresh_database, postgres

    try:
        with postgres() as server, fresh_database(server) as url:
            return inbox(folder, url, "PostgreSQL")
    except pytest.skip.Exception as missing:
        return [("ingestion into PostgreSQL", "not measured", "", str(missing))]


BENCHMARKS: dict[str, Callable[[Path], list[Line]]] = {
    one.__name__: one
    for one in (
        *(stream, export, export_sqlite, export_postgresql, ledger, guideline, changed, waits, ingestion),
        *(inbox_sqlite, inbox_postgresql, agreement),
        *(formats, splits),
        *(ledger_sqlite, ledger_postgresql),
        *(freezing_sqlite, freezing_postgresql, version_diff),
    )
}


def main(names: list[str]) -> int:
    """Run and print; return the exit code."""
    unknown = sorted(set(names) - set(BENCHMARKS))
    if unknown:
        print(f"unknown: {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}\n")
    print("| what | speed | peak memory | against the first line of its block |\n|---|---|---|---|")
    for name in names or BENCHMARKS:
        with tempfile.TemporaryDirectory(prefix="labelops-bench-") as folder:
            for parts in BENCHMARKS[name](Path(folder)):
                print(f"| {' | '.join(parts)} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
