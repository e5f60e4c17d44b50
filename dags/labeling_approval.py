"""### labeling_approval (C1): a finished batch becomes a version, and people approve exactly that version

**Purpose.** Freezes each finished batch into a dataset version named by its digest, starts the OpenText process
`labeling_approval` for it, and captures the approvers' decisions with person, time, meaning and evidence grade.

**Runs** hourly, when answers changed, and by hand. A run starts what is missing and harvests what is decided; it never
waits. `decision_wait` waits, one run for each version.

**Run parameters.** `project`: empty for all. `close`: digest beginnings of batches to close unfinished, in your name.
`resubmit`: digest beginnings of decided, unreleased versions to put before approvers again. `withdraw`: digest beginnings of
versions that must not be used: an open approval ends, an approval given is taken back, a release is recalled. Each needs a
`reason`, exactly one project, and at least six characters of each digest; whoever closes or resubmits has asked, and cannot
approve; to withdraw takes an approver of the version, the project's owner, or a role of its policy.

**Reads** the project's answers, the process in OpenText. **Writes** `versions/<project>/<digest>/`, the process, decisions
on the ledger. Announces `labelops/approvals`.

**Gate** `version_rows`: every row carries an answer of the right shape, with labels of the project.

**Results.** approved, rejected, rework, undecided (an outcome the mapping does not know), void (an approver who annotated,
requested, is unknown or lacks the role), expired, cancelled (ended from outside), stale (the process is about another digest).

**When it fails.** *does not fit the mapping*: the log lists what the modeller should change. *unknown annotators*: map their
accounts in the register; until then no approval can count.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param, task_group

from labelops.operators.gate import GateOperator
from labelops.operators.labeling_approval import (
    CaptureDecisionsOperator,
    FreezeVersionOperator,
    ListApprovalsOperator,
    RequestApprovalOperator,
    StartWaitOperator,
)
from labelops.operators.work import AnnounceOperator, ConcludeOperator
from labelops.wiring import (
    ANSWERS,
    APPROVALS,
    OPENTEXT_POOL,
    PRODIGY_POOL,
    START,
    defaults,
    project_parameter,
    schedule,
)

with DAG(
    dag_id="labeling_approval",
    doc_md=__doc__,
    schedule=schedule("labeling_approval", ANSWERS),
    start_date=START,
    catchup=False,
    max_active_runs=1,
    params={
        **project_parameter(),
        "close": Param(None, type=["null", "array"], items={"type": "string"}, title="Batches to close unfinished"),
        "resubmit": Param(None, type=["null", "array"], items={"type": "string"}, title="Versions to resubmit"),
        "withdraw": Param(None, type=["null", "array"], items={"type": "string"}, title="Versions to withdraw"),
        "reason": Param(None, type=["null", "string"], title="Reason for closing, resubmitting or withdrawing"),
    },
    default_args=defaults(),
    tags=["labelops", "prodigy", "opentext", "approval"],
) as dag:
    work = ListApprovalsOperator(task_id="list_work", default_subject="batch", pool=PRODIGY_POOL)

    @task_group(group_id="version")
    def version(item):
        """Freeze, gate, request and capture one version."""
        freeze = FreezeVersionOperator(task_id="freeze", item=item, pool=PRODIGY_POOL)
        gate = GateOperator(task_id="gate", project=item, staged=freeze.output, suite="version_rows")
        request = RequestApprovalOperator(
            task_id="request",
            item=item,
            given=freeze.output,
            gate=gate.output,
            pool=OPENTEXT_POOL,
            trigger_rule="none_failed",
        )
        capture = CaptureDecisionsOperator(task_id="capture", item=item, given=request.output, pool=OPENTEXT_POOL)
        wait = StartWaitOperator(task_id="start_wait", item=item, result=capture.output, use_case="labeling_approval")
        freeze >> gate >> request >> capture >> wait

    done = version.expand(item=work.output)
    announce = AnnounceOperator(
        task_id="announce", items=work.output, group="version", result_task="capture", outlets=[APPROVALS]
    )
    conclude = ConcludeOperator(task_id="conclude", items=work.output, group="version")
    done >> announce >> conclude
