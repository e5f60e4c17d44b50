"""### guideline_sync (A1): approved guideline pages become what annotators see

**Purpose.** Publishes each project's guideline from Confluence as a numbered release that Prodigy serves. Only the
approved version of a page is published; a page edited since is published as approved and reported.

**Runs** nightly, and by hand; `project` empty means all projects.

**Reads** the pages below the project's guideline root: one listing of 250 pages a request, bodies only where something
changed. **Writes** `publications/<project>/guidelines/<number>-<digest>/` in the store, its pointer last, and events on the
ledger. Announces `labelops/guidelines`.

**Gate** `guideline_pages`: required sections, resolved images, sizes, no empty page.

**When it fails.** The leaf task names the project. *Refused by the gate*: open "Gate result" on the gate task, mend the
pages it names, have them approved, run again. *AuthError*: the credential of `confluence_default` was refused. A finding
`changed_since_approval` is no failure: somebody edited an approved page, and it waits for approval.
"""

from __future__ import annotations

from airflow.sdk import DAG, task_group

from labelops.operators.gate import GateOperator
from labelops.operators.guideline_sync import (
    CollectGuidelinesOperator,
    ListGuidelinesOperator,
    PublishGuidelinesOperator,
)
from labelops.operators.work import AnnounceOperator, ConcludeOperator
from labelops.wiring import CONFLUENCE_POOL, GUIDELINES, START, defaults, project_parameter, schedule

with DAG(
    dag_id="guideline_sync",
    doc_md=__doc__,
    schedule=schedule("guideline_sync"),
    start_date=START,
    catchup=False,
    max_active_runs=1,
    params=project_parameter(),
    default_args=defaults(),
    tags=["labelops", "confluence", "guidelines"],
) as dag:
    work = ListGuidelinesOperator(task_id="list_work", default_subject="guideline")

    @task_group(group_id="guideline")
    def guideline(item):
        """Collect, gate and publish one project's guideline."""
        collect = CollectGuidelinesOperator(task_id="collect", item=item, pool=CONFLUENCE_POOL)
        gate = GateOperator(task_id="gate", project=item, staged=collect.output, suite="guideline_pages")
        publish = PublishGuidelinesOperator(task_id="publish", item=item, given=collect.output, gate=gate.output)
        collect >> gate >> publish

    done = guideline.expand(item=work.output)
    announce = AnnounceOperator(
        task_id="announce", items=work.output, group="guideline", result_task="publish", outlets=[GUIDELINES]
    )
    conclude = ConcludeOperator(task_id="conclude", items=work.output, group="guideline")
    done >> announce >> conclude
