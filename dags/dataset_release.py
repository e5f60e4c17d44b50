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

from airflow.sdk import DAG, Param, task_group

from labelops.operators.dataset_release import CheckReleaseOperator, HandOverOperator, ListReleasesOperator
from labelops.operators.gate import GateOperator
from labelops.operators.labeling_approval import StartWaitOperator
from labelops.operators.work import AnnounceOperator, ConcludeOperator
from labelops.wiring import APPROVALS, OPENTEXT_POOL, RELEASES, START, defaults, project_parameter, schedule

with DAG(
    dag_id="dataset_release",
    doc_md=__doc__,
    schedule=schedule("dataset_release", APPROVALS),
    start_date=START,
    catchup=False,
    max_active_runs=1,
    params={**project_parameter(), "version": Param(None, type=["null", "string"], title="One version")},
    default_args=defaults(),
    tags=["labelops", "opentext", "prodigy", "release"],
) as dag:
    work = ListReleasesOperator(task_id="list_work", default_subject="version")

    @task_group(group_id="release")
    def release(item):
        """Check, gate and hand over one version."""
        check = CheckReleaseOperator(task_id="check", item=item, pool=OPENTEXT_POOL)
        gate = GateOperator(task_id="gate", project=item, staged=check.output, suite="release_rows")
        hand_over = HandOverOperator(
            task_id="hand_over",
            item=item,
            given=check.output,
            gate=gate.output,
            pool=OPENTEXT_POOL,
            trigger_rule="none_failed",
        )
        wait = StartWaitOperator(task_id="start_wait", item=item, result=hand_over.output, use_case="dataset_release")
        check >> gate >> hand_over >> wait

    done = release.expand(item=work.output)
    announce = AnnounceOperator(
        task_id="announce", items=work.output, group="release", result_task="hand_over", outlets=[RELEASES]
    )
    conclude = ConcludeOperator(task_id="conclude", items=work.output, group="release")
    done >> announce >> conclude
