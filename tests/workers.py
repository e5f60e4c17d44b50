"""What the processes of one test run share: a folder, what is made there once, and counts that are added up.

A run is one process, or a main process and the workers of pytest-xdist, each of which runs whole files of tests.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from include.sandbox.processes import Process

TOTALS: defaultdict[str, Counter[Any]] = defaultdict(Counter)
"""Counts of the whole run, by name, in its main process when it ends; a worker's own until then."""
FOLDER: pytest.StashKey[Path] = pytest.StashKey()
"""Where the run's shared folder is, in each process's configuration."""


def is_worker(config: pytest.Config) -> bool:
    """Tell whether this process runs tests for a main process that reports them."""
    return hasattr(config, "workerinput")


@pytest.fixture(scope="session")
def run_folder(pytestconfig: pytest.Config) -> Path:
    """The folder that all processes of this run share; it is removed at the end."""
    return pytestconfig.stash[FOLDER]


def once(folder: Path, name: str, make: Callable[[], str]) -> str:
    """Return what ``make`` returned in the first process that asked for this name; the others wait for it."""
    place = folder / name
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            place.write_text(make(), "utf-8")
        return place.read_text("utf-8")


def ends_with_run(folder: Path, process: Process, files: Path | None = None) -> None:
    """Have a process and its session ended, and its files removed, when the run ends, whoever began it and lives."""
    told = [process.pid, process.started, None if files is None else str(files)]
    (folder / f"{process.pid}.process").write_text(json.dumps(told), "utf-8")


def pytest_configure(config: pytest.Config) -> None:
    """Make the folder, or take that of the main process."""
    given = getattr(config, "workerinput", {}).get("shared folder")
    config.stash[FOLDER] = Path(given or tempfile.mkdtemp(prefix="labelops-tests-"))


def pytest_unconfigure(config: pytest.Config) -> None:
    """When the whole run has ended, end what was begun for it, and remove the folder."""
    if is_worker(config):
        return
    for place in config.stash[FOLDER].glob("*.process"):
        pid, started, files = json.loads(place.read_text("utf-8"))
        Process(pid, started).end(5, place.stem)
        if files is not None:
            shutil.rmtree(files, ignore_errors=True)
    shutil.rmtree(config.stash[FOLDER], ignore_errors=True)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker where the folder is."""
    node.workerinput["shared folder"] = str(node.config.stash[FOLDER])


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand a worker's counts to the main process."""
    if is_worker(session.config):
        counts = {name: list(counter.items()) for name, counter in TOTALS.items()}
        session.config.workeroutput["totals"] = counts  # type: ignore[attr-defined]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Add the counts of a worker that has ended; one that crashed has none."""
    for name, counts in getattr(node, "workeroutput", {}).get("totals", {}).items():
        TOTALS[name].update(dict(counts))
