"""The local OpenText service under a clock that a test moves, and which can be restarted between any two requests."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode

from include.sandbox.http import Server
from include.sandbox.opentext import OpenTextStandIn

MODELS = Path(__file__).parent / "models"
RUN, HISTORY = "/workflow/v1", "/workflow-history/v1"
CLIENT = {"id": "a-client", "secret": "an-invented-secret"}
DAY = 86400.0


class Play:
    """One stand-in over HTTP.

    :param always_restart: whether the service is stopped and started again after every request that changes something.
    """

    def __init__(
        self, folder: Path, *, always_restart: bool = False, more_clients: Iterable[Any] = (), **options: Any
    ) -> None:
        self.clients = [CLIENT, *more_clients]
        self.folder, self.options, self.always_restart = folder, options, always_restart
        self.now = 1_790_000_000.0
        self.restarts = 0
        self._begin()

    def _begin(self) -> None:
        self.standin = OpenTextStandIn(self.folder, clients=self.clients, token_seconds=1e9, **self.options)
        self.standin.service_may_complete = True
        self.standin.clock = lambda: self.now
        self.server = Server(self.standin.app).start()
        fields = {"client_id": CLIENT["id"], "client_secret": CLIENT["secret"], "grant_type": "client_credentials"}
        self._token = ""
        self._token = self.ask("POST", "/tenants/t/oauth2/token", fields)[1]["access_token"]

    def close(self) -> None:
        self.server.stop()
        self.standin.close()

    def restart(self) -> None:
        self.close()
        self._begin()
        self.restarts += 1

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._token}"}
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.server.url + path, data=content, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request) as reply:
                status, kind, text = reply.status, reply.headers["Content-Type"], reply.read()
        except HTTPError as error:
            status, kind, text = error.code, error.headers["Content-Type"], error.read()
        if method != "GET" and self.always_restart and "oauth2" not in path:
            self.restart()
        return status, json.loads(text) if text and "json" in (kind or "") else text

    def get(self, path: str, **query: Any) -> Any:
        status, reply = self.ask("GET", f"{path}?{urlencode(query)}" if query else path)
        assert status == 200, reply
        return reply

    def deploy(self, *names: str) -> None:
        for name in names:
            body = {"modelType": "xml", "modelContent": (MODELS / f"{name}.bpmn").read_text("utf-8")}
            status, reply = self.ask("POST", f"{RUN}/runtime/models", body)
            assert status == 201, reply

    def start(self, key: str, **variables: Any) -> str:
        items = [{"name": name, "value": value} for name, value in variables.items()]
        status, reply = self.ask("POST", f"{RUN}/process-instances", {"processDefinitionKey": key, "variables": items})
        assert status == 201, reply
        return reply["id"]

    def tasks(self, process_id: str) -> dict[str, str]:
        """Return the waiting tasks of a process and of those it called: ``{name: id}``."""
        reply = self.get(f"{RUN}/tasks", processInstanceIdWithChildren=process_id, count=100)
        found = reply.get("_embedded", {}).get("tasks", [])
        assert len({task["name"] for task in found}) == len(found), "two tasks with one name"
        return {task["name"]: task["id"] for task in found}

    def tasks_named(self, process_id: str) -> list[str]:
        """Return the names of the waiting tasks, which may repeat."""
        reply = self.get(f"{RUN}/tasks", processInstanceIdWithChildren=process_id, count=100)
        return [task["name"] for task in reply.get("_embedded", {}).get("tasks", [])]

    def complete(self, process_id: str, name: str, outcome: str | None = None) -> None:
        body = {"action": "complete", **({"outcome": outcome} if outcome else {})}
        status, reply = self.ask("POST", f"{RUN}/tasks/{self.tasks(process_id)[name]}", body)
        assert status == 200, reply

    def history(self, process_id: str) -> dict[str, Any]:
        return self.get(f"{HISTORY}/historic-process-instances/{process_id}", includeProcessVariables="true")

    def end(self, process_id: str) -> str | None:
        """Return the end event of an ended process."""
        found = self.history(process_id)
        assert found["endTime"], f"it runs: {self.tasks(process_id)}"
        return found["endActivityId"]
