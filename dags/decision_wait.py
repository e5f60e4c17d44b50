"""### decision_wait: waits for one process in OpenText, so that its decision is acted on at once

**Purpose.** Started by `labeling_approval` and `dataset_release`, one run for each process, named by its effect. It holds no
worker slot: one poll in the triggerer serves all waits. When the process ends it captures the decision and announces
`labelops/approvals`. While it waits it reminds, escalates and, after the grace period, ends the process as expired; and whenever
a task of an approval came, was completed or changed hands it looks, so that who had it is on the ledger.

**Runs** only when another DAG starts it. Losing a run costs time and nothing else: the hourly `labeling_approval` looks at every
open approval by itself. At most `decision_waits` of the schedule file (800) wait at the same time, which leaves room in one
triggerer (1,000); further runs are *queued* until one ends, and their decisions are captured hourly.

**Reads** the process and its history in OpenText, whatever woke it. **Writes** decisions, reminders and ends to the ledger, reminders
and escalations as comments on the process.

**When it fails.** The poll failed more often than the task may be retried: mend the connection, then clear the task.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param

from labelops.operators.wait import WaitForDecisionOperator
from labelops.systems import POOLS
from labelops.wiring import APPROVALS, START, defaults, pace

with DAG(
    dag_id="decision_wait",
    doc_md=__doc__,
    schedule=None,
    start_date=START,
    catchup=False,
    # A triggerer that is full serves task triggers before asset watchers: it would not see new answers any more.
    max_active_runs=pace().decision_waits,
    params={
        "use_case": Param("labeling_approval", enum=["labeling_approval", "dataset_release"]),
        "project_name": Param("", type="string"),
        "digest": Param("", type="string"),
        "process_id": Param("", type="string"),
    },
    default_args=defaults(),
    tags=["labelops", "opentext", "approval"],
) as dag:
    WaitForDecisionOperator(
        task_id="wait",
        poll_seconds=pace().decision_poll_seconds,
        pool=POOLS["opentext"],
        execution_timeout=None,
        outlets=[APPROVALS],
    )
