"""### dataset_release (C3): an approved version is handed over to training

**Purpose.** Checks completeness, approvals for exactly this digest and policy, reports the checks to the OpenText process
`dataset_release`, and writes the release once that process ended released (or at once where a project's `orchestrator` is
`airflow`).

**Runs** when an approval was decided, hourly in case that news was lost, and by hand. `version` (a number, or the beginning of a digest) looks at one version
whatever its state, and says what is missing.

**Reads** the evidence at its source: the approval process in OpenText, every answer row in Prodigy, the frozen files. The state
of an Airflow task is never evidence: a gate or an approval task marked successful by hand releases nothing. **Writes**
`releases/<project>/v<number>-<digest>/` (the project's training formats, manifest, approvals, passport), its pointer last; the Prodigy
dataset `<project>__v<number>`; the training webhook, if one is configured. Announces `labelops/releases`.

**Recalls** a release whose approval was withdrawn (`withdraw` of `labeling_approval`): its folder is marked `RECALLED.json`,
the pointer goes back to the newest release that stands, the Prodigy dataset is unlinked, the webhook is told.

**Gate** `release_rows`.

**When it fails.** The log of `check` or `hand_over` lists what is missing, sentence by sentence. A refusal is on the ledger once;
later runs skip the version until something about it changes.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param

from labelops.flow import Gate, Step, Wait, use_case
from labelops.wiring import APPROVALS, RELEASES

VERSION = "Its number, or the beginning of its digest (six characters or more), as the lineage report names both."

dag: DAG = use_case(
    "dataset_release",
    __doc__,
    unit="release",
    lists=Step("pending"),
    steps=[
        Step("check", on=("opentext", "prodigy")),
        Gate("release_rows", optional=True),
        Step("hand_over", on=("opentext", "prodigy", "training", "lineage")),
        Wait(),
    ],
    listens=[APPROVALS],
    announces=RELEASES,
    params={"version": Param(None, type=["null", "string"], title="One version", description=VERSION)},
    cron="37 * * * *",
    tags=["opentext", "prodigy", "release"],
)
