"""Running processes and their variables."""

from __future__ import annotations

from typing import Any

from include.sandbox.http import HttpError, Reply, Request, json_reply
from include.sandbox.opentext.progress import Progress
from include.sandbox.opentext.service import Subject
from include.sandbox.opentext.shapes import bad_request, hal, missing, runtime_time, variable_json
from include.sandbox.opentext.wire import RUN, TENANT_ID, flag, known_sort, read_body, variable_items

__all__ = ["Processes"]


class Processes(Progress):
    """Processes that run."""

    def _start(self, request: Request, subject: Subject) -> Reply:
        body = read_body(request)
        key = body.get("processDefinitionKey")
        if not key:
            raise bad_request("processDefinitionKey is required.")
        model = self.state.row("SELECT * FROM model WHERE key = ? ORDER BY version DESC", key)
        if model is None:
            raise bad_request(f"No process definition found for key '{key}'")
        process_id = self._begin(
            model,
            body.get("variables") or [],
            self.clock(),
            name=body.get("name"),
            business_key=body.get("businessKey"),
            started_by=subject.name,
        )
        return json_reply(self._process_json(self._process(process_id), with_variables=False), 201)

    def _process_json(self, row: Any, with_variables: bool) -> dict[str, Any]:
        value = {
            "id": row["id"],
            "name": row["name"],
            "businessKey": row["business_key"],
            "processDefinitionName": row["model_name"],
            "activityId": None,
            "startTime": runtime_time(row["started"]),
            "startUserId": row["started_by"],
            "suspended": False,
            "ended": row["ended"] is not None,
            "completed": row["ended"] is not None,
            "superProcessInstanceId": row["parent_id"],
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

    def _terminate(self, request: Request, subject: Subject) -> Reply:
        row = self._live(request.values["process"])
        self._stop(row["id"], request.one("deleteReason") or "deleted", self.clock())
        return Reply(204)

    def _named_variable(self, request: Request) -> Any:
        row = self._live(request.values["process"])
        name = request.values["name"]
        for item in self.state.variables(row["id"]):
            if item["name"] == name:
                return item
        raise missing(f"Execution '{row['id']}' does not have a variable with name: '{name}'.")

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
