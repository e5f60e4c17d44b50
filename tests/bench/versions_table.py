"""The blocks on big dataset versions: freezing a million answers, and comparing two versions of a million rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["freezing_postgresql", "freezing_sqlite", "version_diff"]

ANSWERS = 1_000_000
ROWS = 1_000_000
CHANGED_PERCENT = 1

Line = tuple[str, str, str, str]


def freezing_sqlite(folder: Path) -> list[Line]:
    """Freezing on SQLite."""
    return _freezing(folder, f"sqlite:///{folder / 'prodigy.db'}", "SQLite")


def freezing_postgresql(folder: Path) -> list[Line]:
    """Freezing on a PostgreSQL server of its own."""
    import pytest

    from tests.servers import fresh_database, postgres

    try:
        with postgres() as server, fresh_database(server) as url:
            return _freezing(folder, url, "PostgreSQL")
    except pytest.skip.Exception as missing:
        return [("freezing from PostgreSQL", "not measured", "", str(missing))]


def _freezing(folder: Path, url: str, engine: str) -> list[Line]:
    from tests.bench.__main__ import job

    job(folder, "make_labelled", url, ANSWERS)
    plain = job(folder, "orjson_rows", url)
    read = job(folder, "read_rows", url)
    checked = job(folder, "read_answers", url)
    frozen = job(folder, "freeze_answers", url, folder)
    return [
        _line(f"{ANSWERS:,} answers, {engine}, driver and `orjson.loads`", plain, None),
        _line("the same through the client", read, plain),
        _line("the same, each answer checked", checked, plain),
        _line(f"the same, frozen and digested, {frozen['megabytes']} MB written", frozen, plain),
    ]


def version_diff(folder: Path) -> list[Line]:
    """Two versions compared, against an outer merge of their task ids and labels."""
    from tests.bench.__main__ import job

    old, new = (job(folder, "make_version", folder, ROWS, percent)["digest"] for percent in (0, CHANGED_PERCENT))
    ours = job(folder, "diff_versions", folder, old, new)
    lines = [_line(f"two versions of {ROWS:,} rows, {ours['changed']:,} changed: `diff`", ours, None)]
    for source, what in (("rows", "read from the versions"), ("parquet", "read from a Parquet file of two columns")):
        merged = job(folder, "pandas_merge", folder, old, new, source)
        if merged["changed"] != ours["changed"]:
            raise AssertionError(f"pandas finds {merged['changed']} changes, we find {ours['changed']}")
        lines.append(_line(f"`pandas.merge` of ids and labels, {what}", merged, ours))
    return lines


def _line(what: str, found: dict[str, Any], against: dict[str, Any] | None) -> Line:
    """Return a line with seconds and those computed: on a machine that others use, only the latter say much."""
    seconds = f"{found['seconds']:.1f} s, {found['cpu_seconds']:.1f} s CPU"
    if against is None:
        return what, seconds, f"{found['peak_mb']:,.0f} MB", "1"
    slower, more = (found[name] / against[name] for name in ("seconds", "cpu_seconds"))
    ratio = f"{slower:.2f} × the seconds, {more:.2f} × the CPU seconds"
    return what, seconds, f"{found['peak_mb']:,.0f} MB", ratio
