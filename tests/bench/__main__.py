"""Run the blocks that are named, or all, and print one table."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import tests.bench.job  # noqa: F401 - registers the blocks
from tests.bench.table import BLOCKS


def main(names: list[str]) -> int:
    """Run and print; return the exit code."""
    unknown = sorted(set(names) - set(BLOCKS))
    if unknown:
        print(f"unknown: {', '.join(unknown)}; there are {', '.join(BLOCKS)}", file=sys.stderr)
        return 2
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}\n")
    print("| what | speed | peak memory | against the first line of its block |\n|---|---|---|---|")
    for name in names or BLOCKS:
        with tempfile.TemporaryDirectory(prefix="labelops-bench-") as folder:
            for parts in BLOCKS[name](Path(folder)):
                print(f"| {' | '.join(parts)} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
