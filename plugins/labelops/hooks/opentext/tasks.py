"""People's tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from include.base.errors import InvalidInput
from include.systems.opentext import UserTask
from labelops.hooks.opentext.client import OpenTextClient
from labelops.hooks.opentext.settings import segment
from labelops.hooks.opentext.values import user_task, write_variable

__all__ = ["Tasks"]


class Tasks(OpenTextClient):
    """Tasks that wait for people."""

    @property
    def groups(self) -> Mapping[str, str]:
        """Return role to candidate group in this tenant, as the connection's extra ``groups`` has it."""
        return self.settings.groups

    def tasks(self, *, process_id: str | None = None, candidate_or_assigned: str | None = None) -> Iterator[UserTask]:
        """List waiting tasks, oldest first: of one process and the processes it called, of one person, or all."""
        filters = {"includeTaskAssignments": "true", "sort": "createTime", "order": "asc"}
        if process_id:
            filters["processInstanceIdWithChildren"] = process_id
        if candidate_or_assigned:
            filters["candidateOrAssigned"] = candidate_or_assigned
        for item in self._list(f"{self.settings.workflow}/tasks", "tasks", filters):
            yield user_task(item)

    def claim(self, task_id: str, assignee: str) -> None:
        """Claim a task in a person's name; claiming again for the same person is fine.

        :raises Conflict: somebody else holds it.
        """
        body = {"action": "claim", "assignee": assignee}
        self._request("POST", f"{self.settings.workflow}/tasks/{segment(task_id)}", json=body, idempotent=True)

    def complete(self, task_id: str, *, outcome: str, variables: Mapping[str, Any] | None = None) -> None:
        """Complete a task with an outcome; sent once.

        :raises NotFound: the task does not wait any more (somebody completed it).
        """
        body = {
            "action": "complete",
            "outcome": outcome,
            "variables": [write_variable(name, value) for name, value in (variables or {}).items()],
        }
        self._request("POST", f"{self.settings.workflow}/tasks/{segment(task_id)}", json=body)

    def update_task(self, task_id: str, **fields: Any) -> UserTask:
        """Change a task's ``description``, ``dueDate``, ``priority``, …; only the fields given, None clears one.

        :raises InvalidInput: a field that the service's task has not.
        """
        allowed = (
            "assignee",
            "category",
            "description",
            "dueDate",
            "formKey",
            "name",
            "owner",
            "parentTaskId",
            "priority",
        )
        unknown = sorted(set(fields) - set(allowed))
        if unknown:
            raise InvalidInput(f"task field: found {', '.join(unknown)}; allowed: {', '.join(allowed)}")
        body = {
            name: write_variable(name, value)["value"] if isinstance(value, datetime) else value
            for name, value in fields.items()
        }
        path = f"{self.settings.workflow}/tasks/{segment(task_id)}"
        self._request("PUT", path, json=body, idempotent=True)
        # Read back, for the reply of a change may be empty.
        return user_task(self._get_object(path, {"includeTaskAssignments": "true"}))
