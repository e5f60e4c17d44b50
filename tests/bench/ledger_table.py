"""The lines of the ledger's benchmarks: ours and the others side by side, in one run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["ledger_postgresql", "ledger_sqlite"]

APPENDED = 100_000
VERIFIED = 1_000_000

Line = tuple[str, str, str, str]


def _line(what: str, found: dict[str, Any], against: dict[str, Any] | None, target: str = "") -> Line:
    """Return a line: time as a multiple of another job's, on the clock and in seconds of its own processor."""
    speed, memory = f"{found['count'] / found['seconds']:,.0f}/s", f"{found['peak_mb']:,.0f} MB"
    if against is None:
        return what, speed, memory, "1"
    clock = found["seconds"] / found["count"] / (against["seconds"] / against["count"])
    busy = found["cpu_seconds"] / found["count"] / (against["cpu_seconds"] / against["count"])
    return what, speed, memory, f"{clock:.2f} × the time, {busy:.2f} × the processor's{target}"


def _appends(folder: Path, url: Callable[[str], str], engine: str) -> list[Line]:
    """Appends in transactions of a thousand."""
    from tests.bench.__main__ import job

    plain = job(folder, "plain_inserts", url("plain"), APPENDED, 0)
    indexed = job(folder, "plain_inserts", url("indexed"), APPENDED, 1)
    ours = job(folder, "chained_appends", url("appended"), APPENDED)
    return [
        _line(f"{APPENDED:,} plain inserts of the same columns, {engine}, 1,000 a transaction", plain, None),
        _line("the same, with the ledger's indexes", indexed, plain),
        _line("ledger events, checked, chained, guarded", ours, plain, " (target 3)"),
    ]


def _verification(folder: Path, url: Callable[[str], str], engine: str) -> list[Line]:
    """A whole verification with Merkle root and signed checkpoint."""
    from tests.bench.__main__ import job

    place, lines = url("verified"), folder / "lines"
    job(folder, "make_ledger", place, VERIFIED, lines)
    flat, rows = job(folder, "hash_lines", lines), job(folder, "hash_rows", place)
    ours = job(folder, "verify_ledger", place, folder)
    kept = job(folder, "first_and_next_checkpoint", place, folder)
    return [
        _line(
            f"{VERIFIED:,} events read with the driver's cursor, SHA-256 of each one's columns, {engine}", rows, None
        ),
        _line("the bytes alone, from a flat file", flat, rows),
        _line("verify: chain, numbers, clock, spelling, Merkle root, signature", ours, rows, " (target 2)"),
        (
            "checkpoint after 1,000 further events",
            f"{kept['seconds'] * 1000:,.0f} ms",
            f"{kept['peak_mb']:,.0f} MB",
            f"the first one, over all: {kept['first_seconds']:.1f} s",
        ),
    ]


def ledger_sqlite(folder: Path) -> list[Line]:
    """On SQLite."""

    def url(name: str) -> str:
        return f"sqlite:///{folder / name}.db"

    return [*_appends(folder, url, "SQLite"), *_verification(folder, url, "SQLite")]


def ledger_postgresql(folder: Path) -> list[Line]:
    """On a PostgreSQL server of its own."""
    import pytest

    from tests.governance.ledgers import fresh_postgres
    from tests.servers import postgres

    made: dict[str, str] = {}
    try:
        with postgres() as server:

            def url(name: str) -> str:
                return made.setdefault(name, fresh_postgres(server))

            return [*_appends(folder, url, "PostgreSQL"), *_verification(folder, url, "PostgreSQL")]
    except pytest.skip.Exception as missing:
        return [("ledger on PostgreSQL", "not measured", "", str(missing))]
