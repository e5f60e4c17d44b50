"""The table: blocks of lines, each of which is a job in a process of its own, held against another line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

__all__ = ["BLOCKS", "Line", "NewDatabase", "block", "line", "on_each_engine", "run"]

Line = tuple[str, str, str, str]
NewDatabase = Callable[[str], str]
"""Makes an empty database for what it is called, and returns its URL."""

BLOCKS: dict[str, Callable[[Path], list[Line]]] = {}


def block(function: Callable[[Path], list[Line]]) -> Callable[[Path], list[Line]]:
    """Register a block, which gets an empty folder, under its name."""
    BLOCKS[function.__name__] = function
    return function


def on_each_engine(function: Callable[[Path, NewDatabase, str], list[Line]]) -> None:
    """Register a block for SQLite and for a PostgreSQL server of its own."""

    def sqlite(folder: Path) -> list[Line]:
        return function(folder, lambda name: f"sqlite:///{folder / name}.db", "SQLite")

    def postgresql(folder: Path) -> list[Line]:
        import pytest

        from tests.servers import fresh_database, postgres

        try:
            with postgres() as server, ExitStack() as databases:
                return function(folder, lambda _: databases.enter_context(fresh_database(server)), "PostgreSQL")
        except pytest.skip.Exception as missing:
            return [(f"{function.__name__}, PostgreSQL", "not measured", "", str(missing))]

    BLOCKS[f"{function.__name__}_sqlite"], BLOCKS[f"{function.__name__}_postgresql"] = sqlite, postgresql


def run(folder: Path, name: str, *values: object) -> dict[str, Any]:
    """Run one job in a process of its own, so that its peak memory is nobody else's."""
    command = [sys.executable, "-m", "tests.bench.job", name, *map(str, values)]
    paths = {"AIRFLOW_HOME": str(folder / "airflow"), "PYTHONPATH": os.pathsep.join([".", "plugins"])}
    done = subprocess.run(command, env=os.environ | paths, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def line(what: str, found: dict[str, Any], against: dict[str, Any] | None = None, note: str = "") -> Line:
    """Return a line: speed and peak memory, and as multiples of another job's: time, CPU time of a row, and memory."""
    count, seconds, cpu, memory = (found[name] for name in ("count", "seconds", "cpu_seconds", "peak_mb"))
    ratio = "1"
    if against is not None:
        time, busy = (found[name] / count / (against[name] / against["count"]) for name in ("seconds", "cpu_seconds"))
        ratio = f"{time:.2f} × the time, {busy:.2f} × the CPU, {memory / against['peak_mb']:.2f} × memory"
    return what, f"{count / seconds:,.0f}/s ({seconds:.2f} s, {cpu:.2f} s CPU)", f"{memory:,.0f} MB", f"{ratio}{note}"
