"""The frame of every DAG: list the work, do each item alone, announce what changed, conclude with what failed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from include.base.canonical import digest_of
from include.base.errors import Fenced, InvalidInput, LedgerBehind, Refused

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

    from include.projects.load import BadProject
    from include.projects.model import Project
    from include.run.run import Run, WorkItem

__all__ = ["AnnounceOperator", "ConcludeOperator", "GatedOperator", "ItemFailed", "ItemOperator", "ListWorkOperator"]


class ItemFailed(Refused):
    """At least one work item failed; the message names each. Concluding again would find the same."""


class ListWorkOperator(BaseOperator):
    """List the pending work items of the chosen projects, flat, oldest first, the projects in turns.

    A project whose file or listing is bad becomes one item that fails alone. At most ``items_per_run`` of the
    schedule file are taken; the rest is counted and taken next time.

    :param default_subject: what the item of a project with a bad file is called.
    """

    def __init__(self, *, default_subject: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.default_subject = default_subject

    @abstractmethod
    def pending(self, run: Run, project: Project, context: Context) -> Iterator[WorkItem]:
        """Yield one project's pending items."""

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Return the items as dictionaries, ready to be mapped over."""
        from include.projects.load import load_projects
        from include.settings import schedules, settings
        from labelops.runtime import run_of

        refuse_unknown_parameters(context)
        cap = schedules().items_per_run
        projects = load_projects(settings().projects, context["params"].get("project"))
        self.check_parameters(context, len(projects))
        with run_of(context).open() as at:
            at.note_in_force("register", "", at.register.digest)
            items = take_turns([self._items(at, project, context) for project in projects])
            # Open items stay listed while people decide: where there are too many, each run begins at another place,
            # drawn from its time, so that a retry of it takes the same and nobody is left out for ever.
            drawn = int(digest_of(context["dag_run"].run_after.isoformat())[:12], 16)
            start = drawn % len(items) if len(items) > cap else 0
            taken = (items[start:] + items[:start])[:cap]
            at.log.info(
                "Looked at %d project(s) and found %d work item(s); this run takes %d, %d wait for the next.",
                len(projects), len(items), len(taken), len(items) - len(taken),
            )  # fmt: skip
        return [item.as_dict() for item in taken]

    def check_parameters(self, context: Context, projects: int) -> None:
        """Refuse run parameters that do not go together.

        :param projects: how many were chosen.
        :raises InvalidInput: saying what is allowed.
        """

    def _items(self, at: Run, project: Project | BadProject, context: Context) -> list[WorkItem]:
        """Return one project's items; whatever is wrong with it fails as one item and stops no other."""
        from include.projects.load import BadProject
        from include.run.run import WorkItem

        if isinstance(project, BadProject):
            return [WorkItem(project.name, f"{self.default_subject}:{project.name}", error=project.reason)]
        try:
            at.note_in_force("policy", project.name, project.policy.digest)
            return list(self.pending(at, project, context))
        except (LedgerBehind, Fenced):
            raise
        except Exception as error:
            at.log.exception("The work of %s could not be listed.", project.name)
            reason = f"its work could not be listed: {type(error).__name__}: {error}"
            return [WorkItem(project.name, f"{self.default_subject}:{project.name}", error=reason)]


def take_turns(lists: Sequence[Sequence[WorkItem]]) -> list[WorkItem]:
    """Return the items of all projects in turns: the oldest of each, then the next of each."""
    return [one for row in zip_longest(*lists) for one in row if one is not None]


def refuse_unknown_parameters(context: Context) -> None:
    """Refuse a run whose conf holds a key that is no parameter: it would run with defaults and look right.

    :raises InvalidInput: naming the key and what is allowed.
    """
    dag = context["dag"]
    unknown = sorted(set(context["dag_run"].conf or {}) - set(dag.params))
    if unknown:
        raise InvalidInput(
            f"run parameters: found {', '.join(unknown)}; allowed: {', '.join(sorted(dag.params)) or 'none'}"
        )


class ItemOperator(BaseOperator):
    """One step of one work item.

    :param item: the work item, as listed. (templated)
    :param given: what the step before returned, None where it was skipped. (templated)
    """

    template_fields: Sequence[str] = ("item", "given")

    def __init__(self, *, item: Any, given: Any = None, **kwargs: Any) -> None:
        kwargs.setdefault("map_index_template", "{{ task.item['project'] }} · {{ task.item['subject'] }}")
        super().__init__(**kwargs)
        self.item = item
        self.given = given

    @abstractmethod
    def work(self, run: Run, project: Project, item: WorkItem, context: Context) -> Any:
        """Do the step and return something small."""

    def execute(self, context: Context) -> Any:
        """Open the run, refuse a bad item, do the step."""
        from include.projects.load import load_project
        from include.run.run import WorkItem
        from include.settings import settings
        from labelops.runtime import run_of

        item = WorkItem(**self.item)
        if item.error:
            raise InvalidInput(f"{item.subject} of {item.project}: {item.error}")
        with run_of(context).open() as at:
            return self.work(at, load_project(settings().projects, item.project), item, context)


class GatedOperator(ItemOperator):
    """A step that goes on only with what a gate let through; beside another base it comes first.

    :param gate: what the gate returned, None where it was skipped. (templated)
    """

    template_fields: Sequence[str] = ("item", "given", "gate")

    def __init__(self, *, gate: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.gate = gate


class _AfterItems(BaseOperator):
    """What runs once, when every item ended, however it ended.

    :param items: the listed work items. (templated)
    :param group: id of the mapped task group.
    """

    template_fields = ("items",)

    def __init__(self, *, items: Any, group: str, **kwargs: Any) -> None:
        kwargs.setdefault("trigger_rule", "all_done")
        super().__init__(**kwargs)
        self.items = items
        self.group = group


class AnnounceOperator(_AfterItems):
    """Tell consumers what changed: one asset event for the items that succeeded, none when nothing changed.

    :param result_task: id, within the group, of the task whose result is an ``ItemResult``.
    """

    def __init__(self, *, result_task: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.result_task = result_task

    def execute(self, context: Context) -> dict[str, Any]:
        """Return the sums over all items; skip when none of them changed anything."""
        pulled = context["ti"].xcom_pull(task_ids=f"{self.group}.{self.result_task}")
        results = [one for one in (pulled if isinstance(pulled, list) else [pulled]) if one]
        for one in results:
            self.log.info("%s · %s: %s. %s", one["project"], one["subject"], one["state"], one["sentence"])
        changed = [one for one in results if one["changed"]]
        summary = {
            "created": sum(one["created"] for one in results),
            "updated": sum(one["updated"] for one in results),
            "subjects": [one["subject"] for one in changed][:100],
            "results": results,
        }
        context["ti"].xcom_push(key="summary", value=summary)
        if not changed:
            raise AirflowSkipException("Nothing changed for anybody downstream, so nothing is announced.")
        for asset in self.outlets:
            context["outlet_events"][asset].extra = {"subjects": summary["subjects"]}
        self.log.info("Announced %d changed subject(s).", len(changed))
        return {"subjects": summary["subjects"]}


class ConcludeOperator(_AfterItems):
    """The only leaf: the run is as good as its worst item, and says which that was.

    First it keeps the ledger's head outside its database and removes what runs of long ago have staged.
    """

    _BAD: ClassVar = ("failed", "upstream_failed")

    def execute(self, context: Context) -> dict[str, int]:
        """Return how many items succeeded and were skipped.

        :raises ItemFailed: naming every item with a failed task, and a listing or an announcement that failed.
        """
        from include.run.housekeeping import keep_checkpoint, remove_old_staging
        from include.settings import schedules
        from labelops.runtime import run_of

        with run_of(context).open() as at:
            keep_checkpoint(at)
            remove_old_staging(at, schedules().staging_days)
        task_instance = context["ti"]
        states: dict[str, str] = task_instance.get_task_states(
            dag_id=task_instance.dag_id, run_ids=[task_instance.run_id]
        ).get(task_instance.run_id, {})
        listed = self.items if isinstance(self.items, list) else []
        failed: dict[int, str] = {}
        other: list[str] = []
        for name, state in states.items():
            if state not in self._BAD:
                continue
            task, _, index = name.rpartition("_")
            if task.startswith(f"{self.group}.") and index.isdigit():
                if state == "failed":
                    failed[int(index)] = task.removeprefix(f"{self.group}.")
                else:
                    failed.setdefault(int(index), "a step before")
            else:
                other.append(name)
        self.log.info("%d item(s) were listed, %d of them failed.", len(listed), len(failed))
        if failed or other:
            names = [
                f"{listed[index]['project']} · {listed[index]['subject']} (at {task})"
                if index < len(listed)
                else f"item {index} (at {task})"
                for index, task in sorted(failed.items())
            ]
            raise ItemFailed("failed: " + "; ".join(names + other))
        return {"items": len(listed)}
