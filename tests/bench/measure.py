"""What every measured job shares: its registration, its clock, its peak memory."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["JOBS", "WORDS", "job", "peak_megabytes", "timed"]

JOBS: dict[str, Callable[..., dict[str, Any]]] = {}
WORDS = "The parcel came late and the invoice names another address than the one of the order. " * 5


def job(function: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Register a job under its name."""
    JOBS[function.__name__] = function
    return function


@contextmanager
def timed(found: dict[str, Any], name: str = "seconds") -> Iterator[None]:
    """Put the seconds that pass into ``found``, and as ``cpu_…`` those that this process computed."""
    start, busy = time.perf_counter(), time.process_time()
    yield
    found[name] = time.perf_counter() - start
    found[f"cpu_{name}"] = time.process_time() - busy


def peak_megabytes() -> float:
    """Return the highest resident memory of this process so far, in MB; Linux only."""
    match = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text("ascii"))
    return int(match[1]) / 1024 if match else 0.0
