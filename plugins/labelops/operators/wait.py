"""The wait for what a process in OpenText decides."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from include.base.errors import Refused
from labelops.operators.step import ITEM_NAME, refuse_unknown_parameters

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

    from include.projects.model import Project
    from include.run.run import ItemResult, Run

__all__ = ["StartWaitOperator", "WaitForDecisionOperator"]

LOOK_AGAIN = timedelta(hours=6)
"""How long a wait trusts the poll, which misses an end that history shows later than the poll looks back."""


class StartWaitOperator(TriggerDagRunOperator):
    """Start the run that waits for one process, named by its effect, so that there is never a second one.

    :param item: the work item. (templated)
    :param result: the item's result; only one in state ``waiting`` starts a wait. (templated)
    :param use_case: what is waited for: ``labeling_approval`` or ``dataset_release``.
    """

    template_fields = ("item", "result", *TriggerDagRunOperator.template_fields)

    def __init__(self, *, item: Any, result: Any, use_case: str, **kwargs: Any) -> None:
        super().__init__(
            trigger_dag_id="decision_wait",
            skip_when_already_exists=True,
            map_index_template=ITEM_NAME,
            **kwargs,
        )
        self.item = item
        self.result = result
        self.use_case = use_case

    def execute(self, context: Context) -> Any:
        """Start the run, or skip when nothing waits."""
        from include.base.canonical import effect_key

        if not self.result or self.result["state"] != "waiting":
            raise AirflowSkipException("Nothing waits for a decision here.")
        detail = self.result["detail"]
        key = effect_key("decision_wait", self.result["project"], detail["process_id"], detail["digest"])
        self.trigger_run_id = f"{self.use_case}__{self.result['project']}__v{detail['number']}__{key[:12]}"
        self.conf = {
            "use_case": self.use_case,
            "project_name": self.result["project"],
            "digest": detail["digest"],
            "process_id": detail["process_id"],
        }
        self._tell(context, detail["process_id"])
        return super().execute(context)

    def _tell(self, context: Context, process_id: str) -> None:
        """Say when there are more waits than may run at the same time: nobody would see why this one does nothing."""
        from include.settings import schedules

        most = schedules().decision_waits
        others = context["ti"].get_dr_count(dag_id=self.trigger_dag_id, states=["running", "queued"])
        if others >= most:
            self.log.warning(
                f"{others} runs of {self.trigger_dag_id} wait or are queued and {most} may wait at the same time "
                f"(decision_waits), so the wait for process {process_id} is queued. Until its turn comes, scheduled "
                "runs capture its decision."
            )


class WaitForDecisionOperator(BaseOperator):
    """Wait, holding no slot, until a process ends; then capture what was decided. Deadlines are acted on meanwhile.

    An approval is also looked at whenever one of its tasks came, went or changed hands, so that who had it is on the
    ledger.

    Reads the run parameters ``use_case``, ``project_name``, ``digest`` and ``process_id``.

    :param poll_seconds: pause between two polls, which serve all waits of the connection.
    :param longest: after this the wait gives up; the scheduled runs go on looking.
    :param watch_tasks: whether changes of tasks wake it; the service account must then be allowed to list all tasks.
    """

    def __init__(
        self,
        *,
        opentext_conn_id: str = "opentext_default",
        poll_seconds: float = 60,
        longest: timedelta = timedelta(days=60),
        watch_tasks: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.opentext_conn_id = opentext_conn_id
        self.poll_seconds = poll_seconds
        self.longest = longest
        self.watch_tasks = watch_tasks

    def execute(self, context: Context) -> Any:
        """Return the result where the process has ended, else wait."""
        from include.projects.load import load_project
        from include.run.housekeeping import keep_checkpoint
        from include.run.in_force import under_policy
        from include.settings import settings
        from labelops.runtime import run_of
        from labelops.triggers.process import ProcessEndTrigger, TaskTrigger, task_seal

        refuse_unknown_parameters(context)
        params = context["params"]
        with run_of(context).open() as at:
            project = under_policy(at, load_project(settings().projects, params["project_name"]))
            result, found, pause = self._look(at, project, params)
            if result is not None:
                keep_checkpoint(at)
                return ended(context, result)
            if at.now() - context["dag_run"].run_after > self.longest:
                raise Refused(
                    f"process {params['process_id']} was not decided in {self.longest.days} days, so this wait ends; "
                    f"{params['use_case']} goes on looking at it by itself"
                )
            at.log.info(
                f"Process {params['process_id']} goes on: polled every {self.poll_seconds:.0f} s, "
                f"looked at again in {pause} at the latest."
            )
        wait = {
            "opentext_conn_id": self.opentext_conn_id,
            "process_id": params["process_id"],
            "poll_seconds": self.poll_seconds,
            "wake_seconds": max(1.0, pause.total_seconds()),
            "keys": list(found.keys) if found is not None else [self._release_key(project)],
        }
        watched = found is not None and self.watch_tasks
        self.defer(
            trigger=TaskTrigger(
                **wait, seen={task.id: task_seal(task) for task in found.open_tasks}, called=found.called
            )
            if watched
            else ProcessEndTrigger(**wait),
            method_name="resume",
        )

    def _release_key(self, project: Project) -> str:
        from include.bpmn.mapping import load_mapping

        return load_mapping(project.process_mapping).dataset_release.process_key

    def _look(self, at: Run, project: Project, params: Mapping[str, Any]) -> tuple[ItemResult | None, Any, timedelta]:
        """Return the result where it has ended, else None; what was found; how long to leave it to the poll."""
        from include.decisions.course import next_look
        from include.usecases import dataset_release, labeling_approval
        from labelops.systems import connect

        opentext = connect("opentext", project, self.opentext_conn_id)
        if params["use_case"] != "labeling_approval":
            return dataset_release.waited(at, project, params["digest"], opentext), None, LOOK_AGAIN
        result, found = labeling_approval.look(at, project, params["digest"], opentext)
        deadline = next_look(found, at.now())
        return None if result.state == "waiting" else result, found, min(deadline or LOOK_AGAIN, LOOK_AGAIN)

    def resume(self, context: Context, event: dict[str, Any]) -> Any:
        """Look again, whatever the trigger said: only what the source shows counts.

        :raises Unavailable: when the poll failed; the retry policy decides what comes then.
        """
        from include.base.errors import Unavailable

        if event.get("error"):
            raise Unavailable(f"waiting for process {event.get('process_id')}: {event['error']}", system="opentext")
        return self.execute(context)


def ended(context: Context, result: ItemResult) -> dict[str, Any]:
    """Return the result of a wait, and push it as an announcement pushes its sums."""
    from dataclasses import asdict

    told = asdict(result)
    summary = {"created": result.created, "updated": result.updated, "results": [told]}
    context["ti"].xcom_push(key="summary", value=summary)
    return told
