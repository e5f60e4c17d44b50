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

from airflow.sdk import DAG, task_group

from labelops.operators.gate import GateOperator
from labelops.operators.lineage_report import (
    BuildReportOperator,
    CommentReportOperator,
    ListReportsOperator,
    PublishReportOperator,
)
from labelops.operators.work import AnnounceOperator, ConcludeOperator
from labelops.wiring import (
    CONFLUENCE_POOL,
    OPENTEXT_POOL,
    PRODIGY_POOL,
    RELEASES,
    START,
    defaults,
    project_parameter,
    schedule,
)

with DAG(
    dag_id="lineage_report",
    doc_md=__doc__,
    schedule=schedule("lineage_report", RELEASES),
    start_date=START,
    catchup=False,
    max_active_runs=1,
    params=project_parameter(),
    default_args=defaults(),
    tags=["labelops", "confluence", "opentext", "lineage"],
) as dag:
    work = ListReportsOperator(task_id="list_work", default_subject="report")

    @task_group(group_id="report")
    def report(item):
        """Build, gate and publish one project's report."""
        build = BuildReportOperator(task_id="build", item=item, pool=PRODIGY_POOL)
        gate = GateOperator(task_id="gate", project=item, staged=build.output, suite="report")
        publish = PublishReportOperator(
            task_id="publish", item=item, given=build.output, gate=gate.output, pool=CONFLUENCE_POOL
        )
        comment = CommentReportOperator(task_id="comment", item=item, given=publish.output, pool=OPENTEXT_POOL)
        build >> gate >> publish >> comment

    done = report.expand(item=work.output)
    announce = AnnounceOperator(task_id="announce", items=work.output, group="report", result_task="comment")
    conclude = ConcludeOperator(task_id="conclude", items=work.output, group="report")
    done >> announce >> conclude
