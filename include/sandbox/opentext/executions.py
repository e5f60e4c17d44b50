"""Executions: the places where a process waits, and messages, signals and triggers that reach one of them."""

from __future__ import annotations

from typing import Any

from include.sandbox.http import Reply, Request, json_reply
from include.sandbox.opentext.model import read_model
from include.sandbox.opentext.progress import Progress, play_error
from include.sandbox.opentext.service import Subject
from include.sandbox.opentext.shapes import bad_request, hal, missing
from include.sandbox.opentext.wire import RUN, TENANT_ID, read_body, variable_items

__all__ = ["Executions"]

_ALL = """
SELECT process.id AS id, NULL AS activity, NULL AS parent_id, process.id AS process_id, super_execution, suspended,
       model_id, model.key AS process_key, NULL AS kind, NULL AS name, NULL AS engine_task, started,
       process.rowid AS seq
  FROM process JOIN model ON model.id = model_id WHERE ended IS NULL
UNION ALL
SELECT execution.id, activity, process.id, process.id, NULL, suspended,
       model_id, model.key, kind, execution.name, engine_task, started, process.rowid
  FROM execution JOIN process ON process.id = process_id JOIN model ON model.id = model_id WHERE ended IS NULL
"""
_FILTERS = {
    "id": "id",
    "activityId": "activity",
    "processDefinitionKey": "process_key",
    "processDefinitionId": "model_id",
    "processInstanceId": "process_id",
    "parentId": "parent_id",
}
_ACTIONS = ("signal", "trigger", "signalEventReceived", "messageEventReceived")


class Executions(Progress):
    """Executions. A process has a root execution, with its own id, and a child for everything that it waits for."""

    def _executions(self, request: Request, subject: Subject) -> Reply:
        rows = self.state.rows(f"{_ALL} ORDER BY started, seq")
        for parameter, column in _FILTERS.items():
            if parameter in request.query:
                rows = [row for row in rows if row[column] == request.one(parameter)]
        for kind in ("message", "signal"):
            wanted = request.one(f"{kind}EventSubscriptionName")
            if wanted:
                rows = [row for row in rows if (row["kind"], row["name"]) == (kind, wanted)]
        return hal(request, "executions", [_json(row) for row in rows], page=False)

    def _one_execution(self, execution_id: str) -> Any:
        found = self.state.row(f"SELECT * FROM ({_ALL}) WHERE id = ?", execution_id)  # noqa: S608 - our own text
        if found is None:
            raise missing(f"Could not find an execution with id '{execution_id}'.")
        return found

    def _execution(self, request: Request, subject: Subject) -> Reply:
        return json_reply(_json(self._one_execution(request.values["execution"])))

    def _act_on_execution(self, request: Request, subject: Subject) -> Reply:
        row, body = self._one_execution(request.values["execution"]), read_body(request)
        action, now = body.get("action"), self.clock()
        if action not in _ACTIONS:
            raise bad_request(f"Invalid action: '{action}'.")
        if row["suspended"]:
            raise self._suspended(f"Cannot perform operation because execution '{row['id']}' is suspended")
        passing = {item["name"]: item.get("value") for item in variable_items(body.get("transientVariables") or [])}
        self._set_variables(row["process_id"], body.get("variables") or [], now)
        if action in ("trigger", "signal"):
            self._trigger(row, now, passing)
        else:
            self._receive(row, "message" if action == "messageEventReceived" else "signal", body, now, passing)
        left = self.state.row("SELECT 1 FROM execution WHERE id = ?", row["id"])
        # The reply of an execution that went on is 204 without a body, as in Flowable when it ended.
        return json_reply(_json(self._one_execution(row["id"]))) if left else Reply(204)

    def _trigger(self, row: Any, now: float, passing: dict[str, Any]) -> None:
        process = self._process(row["process_id"])
        model = read_model(process["xml"], process["key"])
        if row["kind"] != "manual" or row["activity"] in model.tasks or row["activity"] in model.calls:
            raise play_error("this activity isn't waiting for a trigger")
        self._go_on(process["id"], row["engine_task"], now, passing)

    def _receive(self, row: Any, kind: str, body: dict[str, Any], now: float, passing: dict[str, Any]) -> None:
        name = body.get(f"{kind}Name")
        if not isinstance(name, str) or not name:
            raise bad_request(f"{kind.capitalize()} name is required")
        if (row["kind"], row["name"]) != (kind, name):
            raise play_error(
                f"Execution with id '{row['id']}' does not have a subscription to a {kind} event with name '{name}'"
            )
        self._deliver(row, now, passing)


def _json(row: Any) -> dict[str, Any]:
    return {
        "id": row["id"],
        "activityId": row["activity"],
        "parentId": row["parent_id"],
        "processInstanceId": row["process_id"],
        "superExecutionId": row["super_execution"],
        "suspended": bool(row["suspended"]),
        "tenantId": TENANT_ID,
        "_links": {"self": {"href": f"{RUN}/process-instances/executions/{row['id']}"}},
    }
