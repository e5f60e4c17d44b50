"""Which files of tests begin first, and which took longest.

A worker runs whole files, in the order in which they were collected: a long one that began last would keep one worker
busy when the others have nothing left. So the longest begin first, those that are marked with their seconds.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

SLOWEST = 10
SECONDS: Counter[str] = Counter()
TESTS: Counter[str] = Counter()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that are marked as long at the front, the longest first."""
    items.sort(key=_seconds, reverse=True)


def _seconds(item: pytest.Item) -> int:
    module = item.getparent(pytest.Module)
    mark = next(iter(module.iter_markers("long")), None) if module else None
    return mark.args[0] if mark else 0


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add up what each file took."""
    file = report.nodeid.partition("::")[0]
    SECONDS[file] += report.duration
    TESTS[file] += report.when == "call"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Name the slowest files of a run of many."""
    if len(SECONDS) > SLOWEST:
        terminalreporter.section(f"the {SLOWEST} slowest files")
        for file, seconds in SECONDS.most_common(SLOWEST):
            terminalreporter.write_line(f"{seconds:7.1f} s  {TESTS[file]:4} tests  {file}")
