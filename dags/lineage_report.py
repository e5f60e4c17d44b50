"""### lineage_report (C7): who labelled, reviewed and approved what, on one page per project

**Purpose.** Builds one Confluence page per project from the ledger: versions and their digests, annotators, approvals with
their evidence, guideline releases in force, releases, two charts; and puts a summary on the OpenText process.

**Runs** when something was released, nightly, and by hand.

**Reads** the ledger, the frozen versions, and every answer row in Prodigy again: an answer that was altered or removed since it was
seen becomes a finding. **Writes** the page (only one that we created; none when canonical storage is equal), its charts (only if
they differ), a comment on the process of each released version.

**Gate** `report`.

**When it fails.** *somebody edited the page*: move their text to a page of their own and restore ours from its history.
*is not ours*: a page of that title existed before; rename it.
"""

from __future__ import annotations

from airflow.sdk import DAG

from labelops.flow import Gate, Step, use_case
from labelops.wiring import RELEASES

dag: DAG = use_case(
    "lineage_report",
    __doc__,
    unit="report",
    lists=Step("pending"),
    steps=[
        Step("build", on=("prodigy",)),
        Gate("report"),
        Step("publish", on=("confluence",)),
        Step("comment", on=("opentext",)),
    ],
    listens=[RELEASES],
    cron="45 3 * * *",
    tags=["confluence", "opentext", "lineage"],
)
