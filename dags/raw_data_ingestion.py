"""### raw_data_ingestion (B1): new files become tasks in the project's inbox

**Purpose.** Reads new and changed text, JSONL, CSV, Parquet, image and audio files under each project's source location,
checks and de-duplicates them, and appends the tasks to the Prodigy dataset `<project>__inbox`, in batches.

**Runs** every 15 minutes, and by hand; `project` empty means all projects.

**Reads** the source location. **Writes** the inbox (nothing that is there already), batches and provenance on the ledger,
and rejects under `quarantine/<project>/`. Announces `labelops/inbox`.

**Gate** `raw_tasks`: identity, hashes, length and shape of every task; failing rows are set aside, the rest goes on.

**When it fails.** The leaf task names the project. Malformed records fail nothing: they are in quarantine with file, line
and reason. Correct the file and leave it in place: its new content is taken up by the next run.
"""

from __future__ import annotations

from airflow.sdk import DAG, task_group

from labelops.operators.gate import GateOperator
from labelops.operators.raw_data_ingestion import ListSourcesOperator, LoadTasksOperator, ReadSourcesOperator
from labelops.operators.work import AnnounceOperator, ConcludeOperator
from labelops.wiring import INBOX, PRODIGY_POOL, START, defaults, project_parameter, schedule

with DAG(
    dag_id="raw_data_ingestion",
    doc_md=__doc__,
    schedule=schedule("raw_data_ingestion"),
    start_date=START,
    catchup=False,
    max_active_runs=1,
    params=project_parameter(),
    default_args=defaults(),
    tags=["labelops", "prodigy", "ingestion"],
) as dag:
    work = ListSourcesOperator(task_id="list_work", default_subject="source")

    @task_group(group_id="source")
    def source(item):
        """Read, gate and load one project's new files."""
        read = ReadSourcesOperator(task_id="read", item=item)
        gate = GateOperator(task_id="gate", project=item, staged=read.output, suite="raw_tasks")
        load = LoadTasksOperator(
            task_id="load",
            item=item,
            given=read.output,
            gate=gate.output,
            pool=PRODIGY_POOL,
            trigger_rule="none_failed",
        )
        read >> gate >> load

    done = source.expand(item=work.output)
    announce = AnnounceOperator(
        task_id="announce", items=work.output, group="source", result_task="load", outlets=[INBOX]
    )
    conclude = ConcludeOperator(task_id="conclude", items=work.output, group="source")
    done >> announce >> conclude
