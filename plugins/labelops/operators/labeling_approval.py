"""Steps of ``labeling_approval``, and the wait for a decision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from include.base.errors import InvalidInput, Refused
from labelops.operators.work import GatedOperator, ItemOperator, ListWorkOperator, refuse_unknown_parameters

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

    from include.projects.model import Project
    from include.run.run import ItemResult, Run, WorkItem

__all__ = [
    "CaptureDecisionsOperator",
    "FreezeVersionOperator",
    "ListApprovalsOperator",
    "RequestApprovalOperator",
    "StartWaitOperator",
    "WaitForDecisionOperator",
]

LOOK_AGAIN = timedelta(hours=6)
"""How long a wait trusts the poll, which misses an end that history shows later than the poll looks back."""


class ListApprovalsOperator(ListWorkOperator):
    """List open approvals and finished batches; close, resubmit, withdraw what whoever triggered the run named.

    Reads the run parameters ``close``, ``resubmit``, ``withdraw`` (lists of digest beginnings) and ``reason``.
    """

    def __init__(self, *, prodigy_conn_id: str = "prodigy_default", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.prodigy_conn_id = prodigy_conn_id

    def check_parameters(self, context: Context, projects: int) -> None:
        """Refuse a decision that does not say which project it is about."""
        params = context["params"]
        if projects != 1 and any(params.get(order) for order in ("close", "resubmit", "withdraw")):
            raise InvalidInput(
                f"project: `close`, `resubmit` and `withdraw` need exactly one project; found {projects}"
            )

    def pending(self, run: Run, project: Project, context: Context) -> Iterator[WorkItem]:
        """Yield the project's items, after recording what a person decided about them."""
        from include.releases import by_hand as orders
        from include.usecases import labeling_approval
        from labelops.hooks.prodigy import ProdigyHook

        hook = ProdigyHook(self.prodigy_conn_id)
        params = context["params"]
        reason = params.get("reason") or ""
        for prefix in params.get("close") or []:
            orders.close_batch(run, project, prefix, reason, hook)
        for prefix in params.get("resubmit") or []:
            orders.resubmit(run, project, prefix, reason)
        for prefix in params.get("withdraw") or []:
            orders.withdraw(run, project, prefix, reason)
        yield from labeling_approval.pending(run, project, hook)


class FreezeVersionOperator(ItemOperator):
    """Freeze a finished batch into a dataset version and stage its rows for the gate."""

    def __init__(self, *, prodigy_conn_id: str = "prodigy_default", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.prodigy_conn_id = prodigy_conn_id

    def work(self, run: Run, project: Project, item: WorkItem, context: Context) -> Any:
        """Return digest, number and where the rows are staged."""
        from include.usecases import labeling_approval
        from labelops.hooks.prodigy import ProdigyHook

        return labeling_approval.freeze(run, project, item, ProdigyHook(self.prodigy_conn_id))


class _WithOpenText(ItemOperator):
    """A step that talks to OpenText.

    :param opentext_conn_id: connection to OpenText Workflow Service.
    """

    def __init__(self, *, opentext_conn_id: str = "opentext_default", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.opentext_conn_id = opentext_conn_id


class RequestApprovalOperator(GatedOperator, _WithOpenText):
    """Start the approval process of a version whose rows passed the gate, unless it was started."""

    def work(self, run: Run, project: Project, item: WorkItem, context: Context) -> Any:
        """Return digest, number and how many effects there were so far."""
        from include.bpmn.mapping import load_mapping
        from include.usecases import labeling_approval
        from labelops.hooks.opentext import OpenTextWorkflowHook

        return labeling_approval.request(
            run,
            project,
            item,
            self.given,
            self.gate,
            OpenTextWorkflowHook(self.opentext_conn_id),
            load_mapping(project.process_mapping).labeling_approval,
        )


class CaptureDecisionsOperator(_WithOpenText):
    """Read the approvers' decisions and put them on the ledger."""

    def work(self, run: Run, project: Project, item: WorkItem, context: Context) -> Any:
        """Return the item's result."""

        if not self.given:
            raise Refused(f"{item.subject} of {project.name}: the request left no result")
        result, _ = capture(run, project, self.given["digest"], self.opentext_conn_id, self.given["created"])
        return result.as_dict()


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
            map_index_template="{{ task.item['project'] }} · {{ task.item['subject'] }}",
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
                "%d runs of %s wait or are queued and %d may wait at the same time (decision_waits), so the wait for "
                "process %s is queued. Until its turn comes, scheduled runs capture its decision.",
                others, self.trigger_dag_id, most, process_id,
            )  # fmt: skip


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
        from include.settings import settings
        from labelops.runtime import run_of
        from labelops.triggers.process import ProcessEndTrigger, TaskTrigger, task_seal

        refuse_unknown_parameters(context)
        params = context["params"]
        with run_of(context).open() as at:
            project = load_project(settings().projects, params["project_name"])
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
                "Process %s goes on: polled every %.0f s, looked at again in %s at the latest.",
                params["process_id"], self.poll_seconds, pause,
            )  # fmt: skip
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
        from include.usecases.labeling_approval import next_look

        if params["use_case"] != "labeling_approval":
            return release_ended(at, project, params["digest"], self.opentext_conn_id), None, LOOK_AGAIN
        result, found = capture(at, project, params["digest"], self.opentext_conn_id, 0)
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
    summary = {"created": result.created, "updated": result.updated, "results": [result.as_dict()]}
    context["ti"].xcom_push(key="summary", value=summary)
    return result.as_dict()


def capture(run: Run, project: Project, digest: str, opentext_conn_id: str, created: int) -> tuple[ItemResult, Any]:
    """Capture the decisions on one version through the hook."""
    from include.bpmn.mapping import load_mapping
    from include.usecases import labeling_approval
    from labelops.hooks.opentext import OpenTextWorkflowHook

    return labeling_approval.capture(
        run,
        project,
        digest,
        OpenTextWorkflowHook(opentext_conn_id),
        load_mapping(project.process_mapping).labeling_approval,
        created=created,
    )


def release_ended(run: Run, project: Project, digest: str, opentext_conn_id: str) -> ItemResult | None:
    """Return the result of a release process that ended, None while it goes on. Nothing is released here."""
    from include.base.errors import Refused
    from include.bpmn.mapping import load_mapping
    from include.run.run import ItemResult
    from include.usecases import dataset_release
    from labelops.hooks.opentext import OpenTextWorkflowHook

    version = run.ledger.version(digest)
    if version is None:
        raise Refused(f"the ledger knows no version {digest} of {project.name}")
    decided = dataset_release.release_decision(
        run, project, version, OpenTextWorkflowHook(opentext_conn_id), load_mapping(project.process_mapping)
    )
    if decided is not None and decided.state == "waiting":
        return None
    state = "released by airflow" if decided is None else decided.state
    return ItemResult(
        project=project.name,
        subject=f"version:{digest}",
        state=state,
        sentence=f"The release process ended: {state}",
        changed=True,
        detail={"digest": digest, "number": version.number},
    )
