"""Running processes and their variables."""

from __future__ import annotations

from typing import Any

from include.sandbox.http import HttpError, Reply, Request, json_reply
from include.sandbox.opentext.diagram import draw
from include.sandbox.opentext.progress import Progress
from include.sandbox.opentext.service import Subject
from include.sandbox.opentext.shapes import bad_request, hal, missing, runtime_time, variable_json
from include.sandbox.opentext.wire import RUN, TENANT_ID, flag, known_sort, read_body, variable_items

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
        model, start = self._startable(chosen[0], str(body[chosen[0]]))
        passing = {item["name"]: item.get("value") for item in variable_items(body.get("transientVariables") or [])}
        process_id = self._begin(
            model,
            start,
            body.get("variables") or [],
            passing,
            self.clock(),
            name=body.get("name"),
            business_key=body.get("businessKey"),
            started_by=subject.name,
        )
        return json_reply(self._process_json(self._process(process_id), bool(body.get("returnVariables"))), 201)

    def _startable(self, by: str, value: str) -> tuple[Any, str | None]:
        """Return the model and its start event (None: the plain one)."""
        if by == "message":
            found = self._starters("message", value)
            if not found:
                raise bad_request(
                    f"Cannot start process instance by message: no subscription to a message with name '{value}' found."
                )
            return found[0][0], found[0][1].element
        column, said = ("key", "key") if by == "processDefinitionKey" else ("id", "id")
        model = self.state.row(f"SELECT * FROM model WHERE {column} = ? ORDER BY version DESC", value)  # noqa: S608
        if model is None:
            raise bad_request(f"No process definition found for {said} '{value}'")
        return model, None

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

    def _suspend(self, request: Request, subject: Subject) -> Reply:
        row, body = self._live(request.values["process"]), read_body(request)
        action, now = body.get("action"), self.clock()
        if action not in ("suspend", "activate"):
            raise bad_request(f"Invalid action: '{action}'.")
        wanted = int(action == "suspend")
        if row["suspended"] == wanted:
            word = "suspended" if wanted else "active"
            text = f"Process instance with id '{row['id']}' is already {word}."
            raise HttpError(409, {"message": "Conflict", "exception": text})
        for member in self._family(row["id"]):
            self.state.update("process", member, suspended=wanted)
        comment = body.get("comment")
        if isinstance(comment, dict) and comment.get("message"):
            self._insert_comment(row["id"], None, subject.name, str(comment["message"]), now)
        return json_reply(self._process_json(self._process(row["id"]), False))

    def _terminate(self, request: Request, subject: Subject) -> Reply:
        row = self._live(request.values["process"])
        self._stop(row["id"], request.one("deleteReason") or "deleted", self.clock())
        return Reply(204)

    def _diagram(self, request: Request, subject: Subject) -> Reply:
        row = self._live(request.values["process"])
        places = self.state.rows("SELECT activity FROM execution WHERE process_id = ?", row["id"])
        picture = draw(row["xml"], row["key"], {place["activity"] for place in places})
        return Reply(200, picture, {"Content-Type": "image/png"})

    def _variables(self, request: Request, subject: Subject) -> Reply:
        row = self._live(request.values["process"])
        found = [variable_json(item) for item in self.state.variables(row["id"])]
        for name in ("scope", "type"):
            if name in request.query:
                found = [item for item in found if item[name] == request.one(name)]
        return hal(request, "variables", found, page=False)

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
