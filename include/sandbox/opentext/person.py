"""A person at the workflow service: signs in with their own password, sees their tasks, claims, comments, decides.

For the demo's simulated approvers and for tests. It speaks the same interface as a real client would, with the password
grant, so that what it does carries the person's name and not the service's.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

__all__ = ["Person", "PersonRefused"]


class PersonRefused(Exception):
    """The service said no; ``status`` says how."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status


class Person:
    """One signed-in person.

    :param url: root of the service.
    :param client: ``{"id", "secret"}`` of the client that people sign in through.
    """

    def __init__(self, url: str, email: str, password: str, client: dict[str, str], tenant: str = "sandbox") -> None:
        self.url, self.email = url, email
        fields = {
            "grant_type": "password",
            "username": email,
            "password": password,
            "client_id": client["id"],
            "client_secret": client["secret"],
        }
        self._token = self._send("POST", f"/tenants/{tenant}/oauth2/token", fields)["access_token"]

    def tasks(self, process_id: str | None = None) -> list[dict[str, Any]]:
        """Return the tasks that wait for this person (at most 1,000), oldest first, with process variables."""
        query = {
            "candidateOrAssigned": self.email,
            "includeProcessVariables": "true",
            "sort": "createTime",
            "order": "asc",
            "count": "1000",
            **({"processInstanceId": process_id} if process_id else {}),
        }
        reply = self._send("GET", f"/workflow/v1/tasks?{urlencode(query)}")
        return list(reply.get("_embedded", {}).get("tasks", []))

    def claim(self, task_id: str) -> None:
        """Claim a task."""
        self._send("POST", f"/workflow/v1/tasks/{task_id}", {"action": "claim", "assignee": self.email})

    def comment(self, process_id: str, message: str) -> None:
        """Comment on a running process."""
        self._send("POST", f"/workflow/v1/process-instances/{process_id}/comments", {"message": message})

    def comment_task(self, task_id: str, message: str) -> None:
        """Comment on a waiting task."""
        self._send("POST", f"/workflow/v1/tasks/{task_id}/comments", {"message": message})

    def complete(self, task_id: str, outcome: str) -> None:
        """Complete a task."""
        self._send("POST", f"/workflow/v1/tasks/{task_id}", {"action": "complete", "outcome": outcome})

    def decide(self, task: dict[str, Any], outcome: str, comment: str) -> None:
        """Claim a task, comment on its process and complete it."""
        self.claim(task["id"])
        self.comment(task["processInstanceId"], comment)
        self.complete(task["id"], outcome)

    def _send(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        if hasattr(self, "_token"):
            headers["Authorization"] = f"Bearer {self._token}"
        content = None if body is None else json.dumps(body).encode("utf-8")
        request = Request(self.url + path, data=content, method=method, headers=headers)  # noqa: S310 - loopback
        try:
            with urlopen(request, timeout=30) as reply:  # noqa: S310
                return json.loads(reply.read() or b"{}")
        except HTTPError as error:
            raise PersonRefused(error.code, error.read().decode("utf-8", "replace")[:500]) from error
