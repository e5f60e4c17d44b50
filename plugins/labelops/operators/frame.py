"""The frame of every DAG: announce what changed, and conclude with what failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from include.base.errors import Refused

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

__all__ = ["AnnounceOperator", "ConcludeOperator", "ItemFailed"]


class ItemFailed(Refused):
    """At least one work item failed; the message names each. Concluding again would find the same."""


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
            self.log.info(f"{one['project']} · {one['name']}: {one['state']}. {one['sentence']}")
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
        self.log.info(f"Announced {len(changed)} changed subject(s).")
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

        with run_of(context).open() as run:
            keep_checkpoint(run)
            remove_old_staging(run, schedules().staging_days)
        task = context["ti"]
        states = task.get_task_states(dag_id=task.dag_id, run_ids=[task.run_id]).get(task.run_id, {})
        listed = self.items if isinstance(self.items, list) else []
        items, other = self._failed(states)
        self.log.info(f"{len(listed)} item(s) were listed, {len(items)} of them failed.")
        if items or other:
            named = [f"{_name(listed, index)} (at {step})" for index, step in sorted(items.items())]
            raise ItemFailed("failed: " + "; ".join(named + other))
        return {"items": len(listed)}

    def _failed(self, states: Mapping[str, str]) -> tuple[dict[int, str], list[str]]:
        """Return the step at which each failed item failed, and the other tasks that failed."""
        items: dict[int, str] = {}
        other: list[str] = []
        for name, state in states.items():
            if state not in self._BAD:
                continue
            task, _, index = name.rpartition("_")
            if not (task.startswith(f"{self.group}.") and index.isdigit()):
                other.append(name)
            elif state == "failed":
                items[int(index)] = task.removeprefix(f"{self.group}.")
            else:
                items.setdefault(int(index), "a step before")
        return items, other


def _name(listed: Sequence[Mapping[str, Any]], index: int) -> str:
    if index >= len(listed):
        return f"item {index}"
    return f"{listed[index]['project']} · {listed[index]['name']}"
