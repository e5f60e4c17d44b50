"""People's tasks."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from include.sandbox.http import HttpError, Reply, Request, json_reply
from include.sandbox.opentext.progress import Progress
from include.sandbox.opentext.service import Subject
from include.sandbox.opentext.shapes import bad_request, hal, missing, runtime_time
from include.sandbox.opentext.wire import (
    TENANT_ID,
    assignment_links,
    flag,
    forbidden,
    known_sort,
    read_body,
)

__all__ = ["Tasks"]


class Tasks(Progress):
    """Tasks that wait for people."""

    def _task(self, request: Request) -> Any:
        task_id = request.values["task"]
        found = self.state.row("SELECT * FROM task WHERE id = ? AND ended IS NULL", task_id)
        if found is None:
            raise missing(f"Could not find a task with id '{task_id}'.")
        return found

    def _task_json(self, row: Any, request: Request) -> dict[str, Any]:
        process = self._process(row["process_id"])
        value = {
            "id": row["id"],
            "name": row["name"],
            "description": row["description"],
            "assignee": row["assignee"],
            "owner": row["owner"],
            "delegationState": row["delegation"],
            "priority": row["priority"],
            "category": row["category"],
            "createTime": runtime_time(row["created"]),
            "claimTime": runtime_time(row["claimed"]),
            "dueDate": row["due"],
            "suspended": False,
            "executionId": row["engine_task"],
            "processInstanceId": row["process_id"],
            "processDefinitionId": process["model_id"],
            "parentTaskId": None,
            "tenantId": TENANT_ID,
        }
        if self.tells_task_keys:
            value["taskDefinitionKey"] = row["key"]
        if flag(request, "includeTaskAssignments"):
            value["assignments"] = assignment_links(row)
        return {**value, **self._task_extras(row, request, None)}

    def _tasks(self, request: Request, subject: Subject) -> Reply:
        known_sort(request, ("createTime", "name", "priority", "dueDate"))
        rows = self.state.rows(
            "SELECT task.*, model.key AS process_key FROM task "
            "JOIN process ON process.id = process_id JOIN model ON model.id = model_id "
            "WHERE task.ended IS NULL ORDER BY task.created, task.rowid"
        )
        family = self._family(request.one("processInstanceIdWithChildren"))
        rows = [row for row in rows if self._task_fits(row, request, family)]
        column = {"createTime": "created", "name": "name", "priority": "priority"}.get(request.one("sort"), "created")
        rows.sort(key=lambda row: row[column], reverse=request.one("order") == "desc")
        return hal(request, "tasks", [self._task_json(row, request) for row in rows], page=True)

    def _task_fits(self, row: Any, request: Request, family: set[str]) -> bool:
        groups, users = set(json.loads(row["groups"])), set(json.loads(row["users"]))
        checks: dict[str, Callable[[str], bool]] = {
            "processInstanceId": lambda value: row["process_id"] == value,
            "processInstanceIdWithChildren": lambda value: row["process_id"] in family,
            "processDefinitionKey": lambda value: row["process_key"] == value,
            "candidateOrAssigned": lambda value: (
                row["assignee"] == value
                or (row["assignee"] is None and (value in users or bool(groups & self._groups(value))))
            ),
        }
        return all(fits(request.one(name)) for name, fits in checks.items() if name in request.query)

    def _one_task(self, request: Request, subject: Subject) -> Reply:
        return json_reply(self._task_json(self._task(request), request))

    def _update_task(self, request: Request, subject: Subject) -> Reply:
        task, body = self._task(request), read_body(request)
        columns = {
            "assignee": "assignee",
            "owner": "owner",
            "category": "category",
            "description": "description",
            "dueDate": "due",
            "name": "name",
            "priority": "priority",
        }
        changes = {column: body[name] for name, column in columns.items() if name in body}
        if not isinstance(changes.get("priority", 0), int):
            raise bad_request("priority is a number")
        if changes:
            self.state.update("task", task["id"], **changes)
        return json_reply(self._task_json(self._task(request), request))

    def _act(self, request: Request, subject: Subject) -> Reply:
        task, body = self._task(request), read_body(request)
        actions = {
            "claim": self._claim,
            "unclaim": self._unclaim,
            "complete": self._complete,
            "delegate": self._delegate,
            "resolve": self._resolve,
        }
        action = body.get("action")
        if action not in actions:
            raise bad_request(f"Invalid action: '{action}'.")
        actions[action](task, body, subject)
        # The body of the reply is not known; an empty one is the harder case for a client.
        return Reply(200)

    def _claim(self, task: Any, body: dict[str, Any], subject: Subject) -> None:
        assignee = body.get("assignee")
        if not isinstance(assignee, str) or not assignee:
            raise bad_request("An assignee is required when claiming a task.")
        if task["assignee"] not in (None, assignee):
            text = f"Task '{task['id']}' is already claimed by someone else."
            raise HttpError(409, {"message": "Task was already claimed", "exception": text})
        if subject.person and subject.name != assignee:
            raise forbidden("A task is claimed in one's own name only.")
        if not subject.person and not self.service_may_complete:
            raise forbidden("A service client may not claim tasks.")
        candidate = assignee in json.loads(task["users"]) or self._groups(assignee) & set(json.loads(task["groups"]))
        if not candidate and task["assignee"] != assignee:
            raise forbidden(f"'{assignee}' is not a candidate for the task.")
        self.state.update("task", task["id"], assignee=assignee, claimed=task["claimed"] or self.clock())

    def _own(self, task: Any, subject: Subject) -> None:
        if subject.person and task["assignee"] != subject.name:
            raise forbidden("The task belongs to somebody else, or to nobody yet: claim it first.")
        if not subject.person and not self.service_may_complete:
            raise forbidden("A service client may not act on people's tasks.")

    def _unclaim(self, task: Any, body: dict[str, Any], subject: Subject) -> None:
        self._own(task, subject)
        self.state.update("task", task["id"], assignee=None, claimed=None)

    def _delegate(self, task: Any, body: dict[str, Any], subject: Subject) -> None:
        self._own(task, subject)
        if not body.get("assignee"):
            raise bad_request("An assignee is required when delegating a task.")
        self.state.update(
            "task", task["id"], owner=task["owner"] or task["assignee"], assignee=body["assignee"], delegation="pending"
        )

    def _resolve(self, task: Any, body: dict[str, Any], subject: Subject) -> None:
        self._own(task, subject)
        self.state.update("task", task["id"], assignee=task["owner"], delegation="resolved")

    def _complete(self, task: Any, body: dict[str, Any], subject: Subject) -> None:
        self._own(task, subject)
        if task["delegation"] == "pending":
            raise HttpError(
                500, {"message": "Internal server error", "exception": "A delegated task is resolved, not completed."}
            )
        process, now = self._process(task["process_id"]), self.clock()
        self._set_variables(process["id"], body.get("variables") or [], now)
        outcome = body.get("outcome")
        if outcome is not None and task["outcome_variable"]:
            item = {"name": task["outcome_variable"], "type": "string", "value": str(outcome), "scope": "global"}
            self._set_variables(process["id"], [item], now)
        self.state.update(
            "task", task["id"], ended=now, outcome=None if outcome is None else str(outcome), completer=subject.name
        )
        self._go_on(process["id"], task["engine_task"], now)
