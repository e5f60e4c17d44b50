"""Run one job in this process and print what it found, and the peak memory, as JSON."""

from __future__ import annotations

import json
import sys

from tests.bench import agreement, answers, confluence, exports, ingestion, jobs, ledger, versions, waits
from tests.bench.measure import JOBS, peak_megabytes

__all__ = ["agreement", "answers", "confluence", "exports", "ingestion", "jobs", "ledger", "versions", "waits"]

if __name__ == "__main__":
    result = JOBS[sys.argv[1]](*sys.argv[2:])
    print(json.dumps({**result, "peak_mb": peak_megabytes()}))
