"""History of processes and tasks, which may lag."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from include.sandbox.http import HttpError, Reply, Request, json_reply
from include.sandbox.opentext.service import Service, Subject
from include.sandbox.opentext.shapes import hal, history_time, missing, variable_json
from include.sandbox.opentext.wire import TENANT_ID, flag, like, moment

__all__ = ["History"]


class History(Service):
    """History."""

    def _historic_process(self, request: Request) -> Any:
        process_id = request.values["process"]
        if request.path.endswith("/comments") and not self.history_comments:
            raise HttpError(405, {"message": "Method not allowed"})
        found = self._process(process_id)
        if found["started"] > self.clock() - self.history_lag_seconds:
            raise missing(f"Could not find a historic process instance with id '{process_id}'.")
        return found

    def _historic_json(self, row: Any, with_variables: bool) -> dict[str, Any]:
        seen = self.clock() - self.history_lag_seconds
        ended = row["ended"] if row["ended"] is not None and row["ended"] <= seen else None
        value = {
            "id": row["id"],
            "name": row["name"],
            "businessKey": row["business_key"],
            "processDefinitionId": row["model_id"],
            "processDefinitionName": row["model_name"],
            "startTime": history_time(row["started"]),
            "endTime": history_time(ended),
            "durationInMillis": None if ended is None else round((ended - row["started"]) * 1000),
            "startUserId": row["started_by"],
            "startActivityId": row["start_activity"],
            "endActivityId": None if ended is None else row["end_activity"],
            "deleteReason": None if ended is None else row["delete_reason"],
            "superProcessInstanceId": row["parent_id"],
            "tenantId": TENANT_ID,
        }
        if with_variables:
            value["variables"] = [variable_json(item) for item in self.state.variables(row["id"], seen)]
        return value

    def _ended_or_not(self, request: Request, subject: Subject) -> Reply:
        rows = self._matching(request, "started <= ?", self.clock() - self.history_lag_seconds)
        if {"finishedAfter", "finishedBefore"} & set(request.query):
            rows = [row for row in rows if row["ended"] <= self.clock() - self.history_lag_seconds]
        shown = [self._historic_json(row, flag(request, "includeProcessVariables")) for row in rows]
        if "finished" in request.query:
            shown = [item for item in shown if (item["endTime"] is not None) == flag(request, "finished")]
        return hal(request, "historic-process-instances", shown, page=False)

    def _one_historic(self, request: Request, subject: Subject) -> Reply:
        row = self._historic_process(request)
        return json_reply(self._historic_json(row, flag(request, "includeProcessVariables")))

    def _historic_task_json(self, row: Any, request: Request) -> dict[str, Any]:
        seen = self.clock() - self.history_lag_seconds
        ended = row["ended"] if row["ended"] is not None and row["ended"] <= seen else None
        claimed = row["claimed"] if row["claimed"] is not None and row["claimed"] <= seen else None
        value = {
            "id": row["id"],
            "name": row["name"],
            "description": row["description"],
            "assignee": row["assignee"] if claimed is not None or row["claimed"] is None else None,
            "owner": row["owner"],
            "startTime": history_time(row["created"]),
            "claimTime": history_time(claimed),
            "endTime": history_time(ended),
            "durationInMillis": None if ended is None else round((ended - row["created"]) * 1000),
            "deleteReason": None if ended is None else row["delete_reason"],
            "taskDefinitionKey": row["key"],
            "priority": row["priority"],
            "dueDate": row["due"],
            "processInstanceId": row["process_id"],
            "processDefinitionId": row["model_id"],
            "executionId": row["engine_task"],
            "tenantId": TENANT_ID,
        }
        if self.names_completer and ended is not None:
            value["completedBy"] = row["completer"]
        return {**value, **self._task_extras(row, request, seen)}

    def _historic_task_rows(self, extra: str, *values: Any) -> list[Any]:
        return self.state.rows(
            "SELECT task.*, process.model_id, process.business_key, process.ended AS process_ended, "  # noqa: S608
            "model.key AS process_key FROM task "
            "JOIN process ON process.id = process_id JOIN model ON model.id = model_id "
            f"WHERE task.created <= ? {extra} ORDER BY task.created, task.rowid",
            self.clock() - self.history_lag_seconds,
            *values,
        )

    def _historic_tasks(self, request: Request, subject: Subject) -> Reply:
        asked = {name: request.one(name) for name in _TASK_FILTERS if name in request.query}
        rows = [
            row
            for row in self._historic_task_rows("")
            if all(_TASK_FILTERS[name](row, value) for name, value in asked.items())
        ]
        if "processInstanceIdWithChildren" in request.query:
            family = self._family(request.one("processInstanceIdWithChildren"))
            rows = [row for row in rows if row["process_id"] in family]
        shown = [self._historic_task_json(row, request) for row in rows]
        if "finished" in request.query:
            shown = [item for item in shown if (item["endTime"] is not None) == flag(request, "finished")]
        return hal(request, "historic-task-instances", shown, page=False)

    def _one_historic_task(self, request: Request, subject: Subject) -> Reply:
        rows = self._historic_task_rows("AND task.id = ?", request.values["task"])
        if not rows:
            raise missing(f"Could not find a historic task instance with id '{request.values['task']}'.")
        return json_reply(self._historic_task_json(rows[0], request))


def _is(column: str) -> Callable[[Any, str], bool]:
    return lambda row, value: str(row[column]) == value


def _in_time(column: str, *, after: bool) -> Callable[[Any, str], bool]:
    def fits(row: Any, value: str) -> bool:
        at, limit = row[column], moment(value)
        return at is not None and (at >= limit if after else at <= limit)

    return fits


_TASK_FILTERS: dict[str, Callable[[Any, str], bool]] = {
    "taskId": _is("id"),
    "processInstanceId": _is("process_id"),
    "processBusinessKey": _is("business_key"),
    "processBusinessKeyLike": lambda row, value: like(row["business_key"], value),
    "processDefinitionKey": _is("process_key"),
    "processDefinitionKeyLike": lambda row, value: like(row["process_key"], value),
    "processDefinitionId": _is("model_id"),
    "executionId": _is("engine_task"),
    "taskDefinitionKey": _is("key"),
    "taskDefinitionKeys": lambda row, value: row["key"] in value.split(","),
    "taskName": _is("name"),
    "taskNameLike": lambda row, value: like(row["name"], value),
    "taskAssignee": _is("assignee"),
    "taskAssigneeLike": lambda row, value: like(row["assignee"], value),
    "taskOwner": _is("owner"),
    "taskDeleteReason": _is("delete_reason"),
    "taskCreatedAfter": _in_time("created", after=True),
    "taskCreatedBefore": _in_time("created", after=False),
    "taskCompletedAfter": _in_time("ended", after=True),
    "taskCompletedBefore": _in_time("ended", after=False),
    "processFinished": lambda row, value: (row["process_ended"] is not None) == (value == "true"),
}
