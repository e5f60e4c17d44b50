"""Running processes and their variables."""

from __future__ import annotations

import uuid
from typing import Any

from include.sandbox.http import HttpError, Reply, Request, json_reply
from include.sandbox.opentext.engine import begin
from include.sandbox.opentext.progress import Progress
from include.sandbox.opentext.service import Subject
from include.sandbox.opentext.shapes import bad_request, hal, missing, runtime_time, variable_json
from include.sandbox.opentext.wire import RUN, TENANT_ID, flag, known_sort, play, read_body, variable_items

__all__ = ["Processes"]


class Processes(Progress):
    """Processes that run."""

    def _start(self, request: Request, subject: Subject) -> Reply:
        body = read_body(request)
        chosen = [name for name in ("processDefinitionId", "processDefinitionKey", "message") if body.get(name)]
        if not chosen:
            raise bad_request("Either processDefinitionId, processDefinitionKey or message is required.")
        if len(chosen) > 1:
            raise bad_request("Only one of processDefinitionId, processDefinitionKey or message should be set.")
        model = self._startable(chosen[0], str(body[chosen[0]]))
        process_id, now = str(uuid.uuid4()), self.clock()
        self.state.insert(
            "process",
            id=process_id,
            model_id=model["id"],
            name=body.get("name"),
            business_key=body.get("businessKey"),
            started=now,
            started_by=subject.name,
            engine="",
        )
        self._set_variables(process_id, body.get("variables") or [], now)
        passing = {item["name"]: item.get("value") for item in variable_items(body.get("transientVariables") or [])}
        values = {**self.state.values(process_id), **passing}
        self._stand(process_id, play(lambda: begin(model["xml"], model["key"], values)), values, now)
        return json_reply(self._process_json(self._process(process_id), bool(body.get("returnVariables"))), 201)

    def _startable(self, by: str, value: str) -> Any:
        if by == "message":
            raise bad_request(
                f"Cannot start process instance by message: no subscription to a message with name '{value}'"
            )
        column, said = ("key", "key") if by == "processDefinitionKey" else ("id", "id")
        found = self.state.row(f"SELECT * FROM model WHERE {column} = ? ORDER BY version DESC", value)  # noqa: S608
        if found is None:
            raise bad_request(f"No process definition found for {said} '{value}'")
        return found

    def _process_json(self, row: Any, with_variables: bool) -> dict[str, Any]:
        value = {
            "id": row["id"],
            "name": row["name"],
            "businessKey": row["business_key"],
            "processDefinitionName": row["model_name"],
            "activityId": None,
            "startTime": runtime_time(row["started"]),
            "startUserId": row["started_by"],
            "suspended": bool(row["suspended"]),
            "ended": row["ended"] is not None,
            "completed": row["ended"] is not None,
            "superProcessInstanceId": None,
            "tenantId": TENANT_ID,
            "_links": {"self": {"href": f"{RUN}/process-instances/{row['id']}"}},
        }
        if with_variables:
            value["variables"] = [variable_json(item) for item in self.state.variables(row["id"])]
        return value

    def _running(self, request: Request, subject: Subject) -> Reply:
        known_sort(request, ("id", "startTime", "processDefinitionKey"))
        rows = self._matching(request, "ended IS NULL")
        with_variables = flag(request, "includeProcessVariables")
        return hal(request, "process-instances", [self._process_json(row, with_variables) for row in rows], page=False)

    def _one_running(self, request: Request, subject: Subject) -> Reply:
        row = self._live(request.values["process"])
        return json_reply(self._process_json(row, flag(request, "includeProcessVariables")))

    def _suspend(self, request: Request, subject: Subject) -> Reply:
        row, action = self._live(request.values["process"]), read_body(request).get("action")
        if action not in ("suspend", "activate"):
            raise bad_request(f"Invalid action: '{action}'.")
        wanted = int(action == "suspend")
        if row["suspended"] == wanted:
            word = "suspended" if wanted else "active"
            text = f"Process instance with id '{row['id']}' is already {word}."
            raise HttpError(409, {"message": "Conflict", "exception": text})
        self.state.update("process", row["id"], suspended=wanted)
        return json_reply(self._process_json(self._process(row["id"]), False))

    def _terminate(self, request: Request, subject: Subject) -> Reply:
        row, now = self._live(request.values["process"]), self.clock()
        reason = request.one("deleteReason") or "deleted"
        self.state.update("process", row["id"], ended=now, delete_reason=reason)
        for task in self.state.rows("SELECT id FROM task WHERE process_id = ? AND ended IS NULL", row["id"]):
            self.state.update("task", task["id"], ended=now, delete_reason=reason)
        return Reply(204)

    def _variables(self, request: Request, subject: Subject) -> Reply:
        row = self._live(request.values["process"])
        return hal(request, "variables", [variable_json(item) for item in self.state.variables(row["id"])], page=False)

    def _named_variable(self, request: Request) -> Any:
        row = self._live(request.values["process"])
        name = request.values["name"]
        for item in self.state.variables(row["id"]):
            if item["name"] == name:
                return item
        raise missing(f"Execution '{row['id']}' does not have a variable with name: '{name}'.")

    def _one_variable(self, request: Request, subject: Subject) -> Reply:
        return json_reply(variable_json(self._named_variable(request)))

    def _create_variables(self, request: Request, subject: Subject) -> Reply:
        row = self._live(request.values["process"])
        items = request.json()
        if not isinstance(items, list):
            raise bad_request("Expected an array of variables.")
        present = {item["name"] for item in self.state.variables(row["id"])}
        for item in variable_items(items):
            if item["name"] in present:
                text = f"Variable '{item['name']}' is already present on execution '{row['id']}'."
                raise HttpError(409, {"message": "Conflict", "exception": text})
        self._set_variables(row["id"], items, self.clock())
        return json_reply([variable_json(item) for item in self.state.variables(row["id"])], 201)

    def _update_variable(self, request: Request, subject: Subject) -> Reply:
        found = self._named_variable(request)
        self._set_variables(found["process_id"], [{**read_body(request), "name": found["name"]}], self.clock())
        return json_reply(variable_json(self._named_variable(request)))

    def _delete_variable(self, request: Request, subject: Subject) -> Reply:
        found = dict(self._named_variable(request))
        self.state.insert("variable", **{**found, "seq": None, "at": self.clock(), "gone": 1})
        return Reply(204)
