"""### raw_data_ingestion (B1): new files become tasks in the project's inbox

**Purpose.** Reads new and changed text, JSONL, CSV, Parquet, image and audio files under each project's source location,
checks and de-duplicates them, and appends the tasks to the Prodigy dataset `<project>__inbox`, in batches.

**Runs** every 15 minutes, and by hand; `project` empty means all projects.

**Reads** the source location. **Writes** the inbox (nothing that is there already), batches and provenance on the ledger,
and rejects under `quarantine/<project>/`. Announces `labelops/inbox`.

**Gate** `raw_tasks`: identity, hashes, length and shape of every task; failing rows are set aside, the rest goes on.

**When it fails.** The leaf task names the project. Malformed records fail nothing: they are in quarantine with file, line
and reason. Correct the file and leave it in place, or the project's `source` where a bound or a route was the reason:
the next run takes it up. Files that cannot be read are findings, and are tried again.
"""

from __future__ import annotations

from airflow.sdk import DAG

from labelops.flow import Gate, Step, use_case
from labelops.wiring import INBOX

dag: DAG = use_case(
    "raw_data_ingestion",
    __doc__,
    unit="source",
    lists=Step("pending"),
    steps=[
        Step("read", on=("source",)),
        Gate("raw_tasks", optional=True),
        Step("load", on=("prodigy",)),
    ],
    announces=INBOX,
    cron="*/15 * * * *",
    tags=["prodigy", "ingestion"],
)
