"""History of processes and tasks, which may lag."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from include.sandbox.http import HttpError, Reply, Request, json_reply
from include.sandbox.opentext.service import Service, Subject
from include.sandbox.opentext.shapes import hal, history_time, missing, variable_json
from include.sandbox.opentext.wire import TENANT_ID, flag

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

    def _historic_task_rows(self) -> list[Any]:
        return self.state.rows(
            "SELECT task.*, process.model_id FROM task JOIN process ON process.id = process_id "
            "WHERE task.created <= ? ORDER BY task.created, task.rowid",
            self.clock() - self.history_lag_seconds,
        )

    def _historic_tasks(self, request: Request, subject: Subject) -> Reply:
        asked = {name: request.one(name) for name in _TASK_FILTERS if name in request.query}
        rows = [
            row
            for row in self._historic_task_rows()
            if all(_TASK_FILTERS[name](row, value) for name, value in asked.items())
        ]
        if "processInstanceIdWithChildren" in request.query:
            family = self._family(request.one("processInstanceIdWithChildren"))
            rows = [row for row in rows if row["process_id"] in family]
        shown = [self._historic_task_json(row, request) for row in rows]
        return hal(request, "historic-task-instances", shown, page=False)


def _is(column: str) -> Callable[[Any, str], bool]:
    return lambda row, value: str(row[column]) == value


_TASK_FILTERS: dict[str, Callable[[Any, str], bool]] = {
    "taskId": _is("id"),
    "processInstanceId": _is("process_id"),
    "taskName": _is("name"),
}
