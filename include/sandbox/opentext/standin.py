"""OpenText Workflow Service on loopback: tokens, processes, variables, comments, tasks, models and history over HTTP.

Paths, statuses and shapes follow what is known of the service; where only Flowable is known, Flowable. Left out:
diagrams, executions and messages, attachments, external jobs, call activities, timers. Not known of the real service,
so switches here: whether a service token may claim and complete (no), whether a historic task names its completer
(no), whether history has comments (yes), which outcomes are refused (none; a gateway that fits no outcome refuses).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import math
import secrets
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from include.base.errors import InvalidInput
from include.bpmn.read import UserTaskElement, read_process
from include.sandbox.http import App, Fault, HttpError, Reply, Request, json_reply
from include.sandbox.opentext import pages
from include.sandbox.opentext.engine import EngineError, Position, advance, begin, check_deployable, text_value
from include.sandbox.opentext.shapes import (
    bad_request,
    comment_json,
    hal,
    history_time,
    missing,
    model_json,
    runtime_time,
    variable_json,
)
from include.sandbox.opentext.state import State

__all__ = ["OpenTextStandIn", "Subject"]

RUN, HISTORY, TENANT = "/workflow/v1", "/workflow-history/v1", "/tenants/{tenant}/oauth2/token"
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,), "boolean": (bool,), "date": (str,), "double": (int, float), "integer": (int,), "long": (int,),
    "json": (dict, list, str, int, float, bool),
}  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """Whose token it is: a person's e-mail address, or a client id."""

    name: str
    person: bool


class OpenTextStandIn:
    """The service.

    :param state: folder of its memory, None for none.
    :param users: people who can sign in: ``{"email", "name", "password", "groups": […]}``.
    :param clients: credentials of programs: ``{"id", "secret"}``.
    :param history_lag_seconds: how far history is behind.
    :param token_seconds: how long a token is good.
    """

    def __init__(
        self,
        state: Path | None,
        users: Iterable[Mapping[str, Any]] = (),
        clients: Iterable[Mapping[str, str]] = (),
        history_lag_seconds: float = 0,
        token_seconds: float = 3600,
    ) -> None:
        self.state = State(state)
        self.users = {str(user["email"]): dict(user) for user in users}
        self.clients = {str(client["id"]): str(client["secret"]) for client in clients}
        self.history_lag_seconds = history_lag_seconds
        self.token_seconds = token_seconds
        self.service_may_complete = False
        self.names_completer = False
        self.history_comments = True
        self.requests_per_second: int | None = None
        self.clock: Callable[[], float] = time.time
        self._recent: deque[float] = deque()
        self.app = App()
        self.app.before.append(self._limit)
        self._routes()

    def close(self) -> None:
        """Close the memory."""
        self.state.close()

    def revoke_tokens(self) -> None:
        """Make every token a refused one, as their expiry would."""
        with self.state.transaction():
            self.state.delete_tokens(float("inf"))

    def gateway_fault(self, match: Callable[[Request], bool], status: int = 503, times: int | None = 1) -> Fault:
        """Let the gateway in front of the service answer, in its own words."""
        body = {
            "fault": {"faultstring": "The Service is temporarily unavailable", "detail": {"errorcode": "messaging"}}
        }
        return self.app.fault("status", match, times=times, reply=json_reply(body, status))

    def _limit(self, request: Request) -> Reply | None:
        if self.requests_per_second is None or not request.path.startswith((RUN, HISTORY)):
            return None
        with self.state.transaction():
            now = time.monotonic()
            while self._recent and self._recent[0] <= now - 1:
                self._recent.popleft()
            if len(self._recent) >= self.requests_per_second:
                return json_reply({"fault": {"faultstring": "Rate limit quota violation"}}, 429, {"Retry-After": "1"})
            self._recent.append(now)
        return None

    def _routes(self) -> None:
        self.app.route("POST", TENANT)(self._inside(self._token))
        self.app.route("GET", "/_sandbox/snapshot")(lambda request: json_reply(self.state.counts()))
        self.app.route("GET", "/")(lambda request: pages.process_list(self.state))
        self.app.route("GET", "/processes/{process}")(lambda request: pages.process_page(self.state, request))
        for method, path, handler in (
            ("POST", f"{RUN}/process-instances", self._start),
            ("GET", f"{RUN}/process-instances", self._running),
            ("GET", f"{RUN}/process-instances/{{process}}", self._one_running),
            ("PUT", f"{RUN}/process-instances/{{process}}", self._suspend),
            ("DELETE", f"{RUN}/process-instances/{{process}}", self._terminate),
            ("GET", f"{RUN}/process-instances/{{process}}/variables", self._variables),
            ("POST", f"{RUN}/process-instances/{{process}}/variables", self._create_variables),
            ("GET", f"{RUN}/process-instances/{{process}}/variables/{{name}}", self._one_variable),
            ("PUT", f"{RUN}/process-instances/{{process}}/variables/{{name}}", self._update_variable),
            ("DELETE", f"{RUN}/process-instances/{{process}}/variables/{{name}}", self._delete_variable),
            ("GET", f"{RUN}/process-instances/{{process}}/comments", self._comments),
            ("POST", f"{RUN}/process-instances/{{process}}/comments", self._add_comment),
            ("GET", f"{RUN}/tasks", self._tasks),
            ("GET", f"{RUN}/tasks/{{task}}", self._one_task),
            ("POST", f"{RUN}/tasks/{{task}}", self._act),
            ("PUT", f"{RUN}/tasks/{{task}}", self._update_task),
            ("GET", f"{RUN}/tasks/{{task}}/assignments", self._assignments),
            ("GET", f"{RUN}/tasks/{{task}}/comments", self._task_comments),
            ("POST", f"{RUN}/tasks/{{task}}/comments", self._add_task_comment),
            ("GET", f"{RUN}/runtime/models", self._models),
            ("POST", f"{RUN}/runtime/models", self._deploy),
            ("GET", f"{RUN}/runtime/models/{{model}}", self._one_model),
            ("GET", f"{HISTORY}/historic-process-instances", self._ended_or_not),
            ("GET", f"{HISTORY}/historic-process-instances/{{process}}", self._one_historic),
            ("GET", f"{HISTORY}/historic-process-instances/{{process}}/comments", self._historic_comments),
            ("POST", f"{HISTORY}/historic-process-instances/{{process}}/comments", self._add_historic_comment),
            ("GET", f"{HISTORY}/historic-task-instances", self._historic_tasks),
            ("GET", f"{HISTORY}/historic-task-instances/{{task}}", self._one_historic_task),
        ):
            self.app.route(method, path)(self._signed_in(handler))

    # --- tokens ----------------------------------------------------------------------------------------------------

    def _inside(self, handler: Callable[[Request], Reply]) -> Callable[[Request], Reply]:
        def run(request: Request) -> Reply:
            with self.state.transaction():
                return handler(request)

        return run

    def _signed_in(self, handler: Callable[[Request, Subject], Reply]) -> Callable[[Request], Reply]:
        def run(request: Request) -> Reply:
            with self.state.transaction():
                return handler(request, self._subject(request))

        return run

    def _subject(self, request: Request) -> Subject:
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        found = self.state.row("SELECT * FROM token WHERE digest = ?", _digest(value))
        if scheme.lower() != "bearer" or found is None or found["expires"] <= self.clock():
            raise HttpError(401, {"fault": {"faultstring": "Invalid access token", "detail": {"errorcode": "oauth"}}})
        return Subject(found["subject"], bool(found["person"]))

    def _token(self, request: Request) -> Reply:
        fields = _token_fields(request)
        client, secret = str(fields.get("client_id", "")), str(fields.get("client_secret", ""))
        if (
            not hmac.compare_digest(self.clients.get(client, "").encode(), secret.encode())
            or client not in self.clients
        ):
            raise HttpError(401, {"error": "invalid_client", "error_description": "Client authentication failed"})
        grant = fields.get("grant_type")
        subject = Subject(client, person=False)
        if grant == "password":
            user = self.users.get(str(fields.get("username", "")))
            if user is None or user.get("password") != fields.get("password"):
                raise HttpError(400, {"error": "invalid_grant", "error_description": "Wrong user name or password"})
            subject = Subject(str(user["email"]), person=True)
        elif grant != "client_credentials":
            raise HttpError(400, {"error": "unsupported_grant_type"})
        value = secrets.token_urlsafe(32)
        now = self.clock()
        self.state.delete_tokens(now)
        self.state.insert(
            "token",
            digest=_digest(value),
            subject=subject.name,
            person=int(subject.person),
            expires=now + self.token_seconds,
        )
        # The service's own client reads expires_in as text.
        return json_reply({"access_token": value, "token_type": "Bearer", "expires_in": str(int(self.token_seconds))})

    def _groups(self, user: str) -> set[str]:
        return set(self.users.get(user, {}).get("groups", ()))

    # --- processes -------------------------------------------------------------------------------------------------

    def _start(self, request: Request, subject: Subject) -> Reply:
        body = _body(request)
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
        passing = {item["name"]: item.get("value") for item in _variable_items(body.get("transientVariables") or [])}
        values = {**self.state.values(process_id), **passing}
        self._stand(process_id, _play(lambda: begin(model["xml"], model["key"], values)), values, now)
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

    def _stand(self, process_id: str, position: Position, values: Mapping[str, Any], now: float) -> None:
        """Write where the engine stands: new tasks, or the end."""
        self.state.update("process", process_id, engine=position.state)
        process = self._process(process_id)
        known = {
            row["engine_task"]
            for row in self.state.rows("SELECT engine_task FROM task WHERE process_id = ?", process_id)
        }
        elements = {task.id: task for task in read_process(process["xml"], process["key"]).user_tasks}
        for engine_task, element_id in position.waiting.items():
            if engine_task not in known:
                self._offer(process_id, engine_task, elements[element_id], values, now)
        if position.ended:
            self.state.update("process", process_id, ended=now, end_activity=position.end)

    def _offer(
        self, process_id: str, engine_task: str, element: UserTaskElement, values: Mapping[str, Any], now: float
    ) -> None:
        groups = _play(lambda: text_value(element.candidate_groups, values))
        self.state.insert(
            "task",
            id=str(uuid.uuid4()),
            process_id=process_id,
            engine_task=engine_task,
            key=element.id,
            name=element.name,
            description=element.documentation,
            groups=json.dumps([group.strip() for group in groups.split(",") if group.strip()]),
            outcome_variable=element.outcome_variables[0] if element.outcome_variables else None,
            created=now,
        )

    def _process(self, process_id: str) -> Any:
        found = self.state.row(
            "SELECT process.*, model.key, model.version, model.xml, model.name AS model_name FROM process "
            "JOIN model ON model.id = model_id WHERE process.id = ?",
            process_id,
        )
        if found is None:
            raise missing(f"Could not find a process instance with id '{process_id}'.")
        return found

    def _live(self, process_id: str) -> Any:
        found = self._process(process_id)
        if found["ended"] is not None:
            raise missing(f"Could not find a process instance with id '{process_id}'.")
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
            "tenantId": _TENANT_ID,
            "_links": {"self": {"href": f"{RUN}/process-instances/{row['id']}"}},
        }
        if with_variables:
            value["variables"] = [variable_json(item) for item in self.state.variables(row["id"])]
        return value

    def _matching(self, request: Request, extra: str, *values: Any) -> list[Any]:
        """Return processes by the filters that both process lists share."""
        rows = self.state.rows(
            "SELECT process.*, model.key, model.version, model.name AS model_name FROM process "  # noqa: S608
            f"JOIN model ON model.id = model_id WHERE {extra} ORDER BY started, process.rowid",
            *values,
        )
        columns = {
            "businessKey": "business_key",
            "processDefinitionKey": "key",
            "processDefinitionId": "model_id",
            "name": "name",
            "processInstanceName": "name",
            "startedBy": "started_by",
            "id": "id",
            "processInstanceId": "id",
        }
        for parameter, column in columns.items():
            if parameter in request.query:
                rows = [row for row in rows if row[column] == request.one(parameter)]
        return list(reversed(rows)) if request.one("order") == "desc" else rows

    def _running(self, request: Request, subject: Subject) -> Reply:
        _known_sort(request, ("id", "startTime", "processDefinitionKey"))
        rows = self._matching(request, "ended IS NULL")
        with_variables = _flag(request, "includeProcessVariables")
        return hal(request, "process-instances", [self._process_json(row, with_variables) for row in rows], page=False)

    def _one_running(self, request: Request, subject: Subject) -> Reply:
        row = self._live(request.values["process"])
        return json_reply(self._process_json(row, _flag(request, "includeProcessVariables")))

    def _suspend(self, request: Request, subject: Subject) -> Reply:
        row, action = self._live(request.values["process"]), _body(request).get("action")
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

    # --- variables -------------------------------------------------------------------------------------------------

    def _set_variables(self, process_id: str, items: Any, now: float) -> None:
        for item in _variable_items(items):
            self.state.insert(
                "variable",
                process_id=process_id,
                name=item["name"],
                type=item.get("type") or _type_of(item.get("value")),
                value=json.dumps(item.get("value"), ensure_ascii=False),
                scope=item.get("scope") or "local",
                encryption=int(bool(item.get("encryption"))),
                at=now,
            )

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
        for item in _variable_items(items):
            if item["name"] in present:
                text = f"Variable '{item['name']}' is already present on execution '{row['id']}'."
                raise HttpError(409, {"message": "Conflict", "exception": text})
        self._set_variables(row["id"], items, self.clock())
        return json_reply([variable_json(item) for item in self.state.variables(row["id"])], 201)

    def _update_variable(self, request: Request, subject: Subject) -> Reply:
        found = self._named_variable(request)
        self._set_variables(found["process_id"], [{**_body(request), "name": found["name"]}], self.clock())
        return json_reply(variable_json(self._named_variable(request)))

    def _delete_variable(self, request: Request, subject: Subject) -> Reply:
        found = dict(self._named_variable(request))
        self.state.insert("variable", **{**found, "seq": None, "at": self.clock(), "gone": 1})
        return Reply(204)

    # --- comments --------------------------------------------------------------------------------------------------

    def _comment_rows(self, process_id: str, until: float | None = None) -> list[Any]:
        return self.state.rows(
            "SELECT * FROM comment WHERE process_id = ? AND at <= ? ORDER BY seq",
            process_id,
            math.inf if until is None else until,
        )

    def _write_comment(self, request: Request, subject: Subject, process_id: str, task_id: str | None) -> Reply:
        message = _body(request).get("message")
        if not isinstance(message, str) or not message:
            raise bad_request("Comment text is required.")
        comment_id = str(uuid.uuid4())
        self.state.insert(
            "comment",
            id=comment_id,
            process_id=process_id,
            task_id=task_id,
            author=subject.name,
            message=message,
            at=self.clock(),
        )
        return json_reply(comment_json(self.state.row("SELECT * FROM comment WHERE id = ?", comment_id)), 201)

    def _comments(self, request: Request, subject: Subject) -> Reply:
        row = self._live(request.values["process"])
        return hal(request, "comments", [comment_json(item) for item in self._comment_rows(row["id"])], page=False)

    def _add_comment(self, request: Request, subject: Subject) -> Reply:
        return self._write_comment(request, subject, self._live(request.values["process"])["id"], None)

    def _task_comments(self, request: Request, subject: Subject) -> Reply:
        task = self._task(request)
        found = [comment_json(row) for row in self._comment_rows(task["process_id"]) if row["task_id"] == task["id"]]
        return hal(request, "comments", found, page=False)

    def _add_task_comment(self, request: Request, subject: Subject) -> Reply:
        task = self._task(request)
        return self._write_comment(request, subject, task["process_id"], task["id"])

    def _historic_comments(self, request: Request, subject: Subject) -> Reply:
        row = self._historic_process(request)
        found = self._comment_rows(row["id"], self.clock() - self.history_lag_seconds)
        return hal(request, "comments", [comment_json(item) for item in found], page=False)

    def _add_historic_comment(self, request: Request, subject: Subject) -> Reply:
        return self._write_comment(request, subject, self._historic_process(request)["id"], None)

    # --- tasks -----------------------------------------------------------------------------------------------------

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
            "suspended": bool(process["suspended"]),
            "executionId": row["engine_task"],
            "processInstanceId": row["process_id"],
            "processDefinitionId": process["model_id"],
            "parentTaskId": None,
            "tenantId": _TENANT_ID,
        }
        if _flag(request, "includeTaskAssignments"):
            value["assignments"] = _links(row)
        return {**value, **self._task_extras(row, request, None)}

    def _task_extras(self, row: Any, request: Request, until: float | None) -> dict[str, Any]:
        extras: dict[str, Any] = {}
        if _flag(request, "includeTaskComments"):
            comments = self._comment_rows(row["process_id"], until)
            extras["comments"] = [comment_json(item) for item in comments if item["task_id"] == row["id"]]
        if _flag(request, "includeProcessVariables"):
            extras["variables"] = [variable_json(item) for item in self.state.variables(row["process_id"], until)]
        return extras

    def _tasks(self, request: Request, subject: Subject) -> Reply:
        _known_sort(request, ("createTime", "name", "priority", "dueDate"))
        rows = self.state.rows(
            "SELECT task.*, process.business_key, model.key AS process_key FROM task "
            "JOIN process ON process.id = process_id JOIN model ON model.id = model_id "
            "WHERE task.ended IS NULL ORDER BY task.created, task.rowid"
        )
        rows = [row for row in rows if self._task_fits(row, request)]
        column = {"createTime": "created", "name": "name", "priority": "priority"}.get(request.one("sort"), "created")
        rows.sort(key=lambda row: row[column], reverse=request.one("order") == "desc")
        return hal(request, "tasks", [self._task_json(row, request) for row in rows], page=True)

    def _task_fits(self, row: Any, request: Request) -> bool:
        groups = set(json.loads(row["groups"]))
        checks: dict[str, Callable[[str], bool]] = {
            "name": lambda value: row["name"] == value,
            "assignee": lambda value: row["assignee"] == value,
            "owner": lambda value: row["owner"] == value,
            "unassigned": lambda value: (row["assignee"] is None) == (value == "true"),
            "processInstanceId": lambda value: row["process_id"] == value,
            "processInstanceIdWithChildren": lambda value: row["process_id"] == value,
            "processInstanceBusinessKey": lambda value: row["business_key"] == value,
            "processDefinitionKey": lambda value: row["process_key"] == value,
            "candidateGroup": lambda value: row["assignee"] is None and value in groups,
            "candidateGroups": lambda value: row["assignee"] is None and bool(groups & set(value.split(","))),
            "candidateUser": lambda value: row["assignee"] is None and bool(groups & self._groups(value)),
            "candidateOrAssigned": lambda value: (
                row["assignee"] == value or (row["assignee"] is None and bool(groups & self._groups(value)))
            ),
        }
        return all(fits(request.one(name)) for name, fits in checks.items() if name in request.query)

    def _one_task(self, request: Request, subject: Subject) -> Reply:
        return json_reply(self._task_json(self._task(request), request))

    def _assignments(self, request: Request, subject: Subject) -> Reply:
        return json_reply(_links(self._task(request)))

    def _update_task(self, request: Request, subject: Subject) -> Reply:
        task, body = self._task(request), _body(request)
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
        task, body = self._task(request), _body(request)
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
        if self._process(task["process_id"])["suspended"]:
            raise HttpError(409, {"message": "Conflict", "exception": f"Task '{task['id']}' is suspended."})
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
            raise _forbidden("A task is claimed in one's own name only.")
        if not subject.person and not self.service_may_complete:
            raise _forbidden("A service client may not claim tasks.")
        if not self._groups(assignee) & set(json.loads(task["groups"])) and task["assignee"] != assignee:
            raise _forbidden(f"'{assignee}' is not a candidate for the task.")
        self.state.update("task", task["id"], assignee=assignee, claimed=task["claimed"] or self.clock())

    def _own(self, task: Any, subject: Subject) -> None:
        if subject.person and task["assignee"] != subject.name:
            raise _forbidden("The task belongs to somebody else, or to nobody yet: claim it first.")
        if not subject.person and not self.service_may_complete:
            raise _forbidden("A service client may not act on people's tasks.")

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
        passing = {item["name"]: item.get("value") for item in _variable_items(body.get("transientVariables") or [])}
        values = {**self.state.values(process["id"]), **passing}
        position = _play(lambda: advance(process["engine"], task["engine_task"], values))
        self.state.update(
            "task", task["id"], ended=now, outcome=None if outcome is None else str(outcome), completer=subject.name
        )
        self._stand(process["id"], position, values, now)

    # --- models ----------------------------------------------------------------------------------------------------

    def _models(self, request: Request, subject: Subject) -> Reply:
        rows = self.state.rows("SELECT * FROM model ORDER BY key, version")
        if "key" in request.query:
            rows = [row for row in rows if row["key"] == request.one("key")]
        if "processDefinitionId" in request.query:
            rows = [row for row in rows if row["id"] == request.one("processDefinitionId")]
        if request.one("latestVersion") == "true":
            rows = list({row["key"]: row for row in rows}.values())
        return hal(request, "models", [model_json(row) for row in rows], page=False)

    def _one_model(self, request: Request, subject: Subject) -> Reply:
        found = self.state.row("SELECT * FROM model WHERE id = ?", request.values["model"])
        if found is None:
            raise missing(f"Could not find a model with id '{request.values['model']}'.")
        if request.one("modelType", "xml") != "xml":
            raise bad_request("This stand-in keeps models as xml only.")
        content = base64.b64encode(found["xml"].encode("utf-8")).decode("ascii")
        return json_reply({**model_json(found), "modelContent": content})

    def _deploy(self, request: Request, subject: Subject) -> Reply:
        body = _body(request)
        if body.get("modelType") != "xml":
            raise bad_request("This stand-in takes models as xml only.")
        try:
            xml = _model_text(body.get("modelContent"))
            process = check_deployable(xml)
        except InvalidInput as error:
            raise bad_request(str(error)) from error
        version = 1 + self.state.number("SELECT max(version) FROM model WHERE key = ?", process.key)
        model_id = f"{process.key}:{version}:{uuid.uuid4()}"
        self.state.insert(
            "model", id=model_id, key=process.key, version=version, name=process.name or process.key, xml=xml
        )
        return json_reply(model_json(self.state.row("SELECT * FROM model WHERE id = ?", model_id)), 201)

    # --- history ---------------------------------------------------------------------------------------------------

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
            "startActivityId": "start",
            "endActivityId": None if ended is None else row["end_activity"],
            "deleteReason": None if ended is None else row["delete_reason"],
            "superProcessInstanceId": None,
            "tenantId": _TENANT_ID,
        }
        if with_variables:
            value["variables"] = [variable_json(item) for item in self.state.variables(row["id"], seen)]
        return value

    def _ended_or_not(self, request: Request, subject: Subject) -> Reply:
        rows = self._matching(request, "started <= ?", self.clock() - self.history_lag_seconds)
        if request.one("finishedAfter"):
            after = datetime.fromisoformat(request.one("finishedAfter").replace("Z", "+00:00")).timestamp()
            rows = [row for row in rows if row["ended"] is not None and row["ended"] >= after]
        shown = [self._historic_json(row, _flag(request, "includeProcessVariables")) for row in rows]
        if "finished" in request.query:
            shown = [item for item in shown if (item["endTime"] is not None) == _flag(request, "finished")]
        return hal(request, "historic-process-instances", shown, page=False)

    def _one_historic(self, request: Request, subject: Subject) -> Reply:
        row = self._historic_process(request)
        return json_reply(self._historic_json(row, _flag(request, "includeProcessVariables")))

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
            "tenantId": _TENANT_ID,
        }
        if self.names_completer and ended is not None:
            value["completedBy"] = row["completer"]
        return {**value, **self._task_extras(row, request, seen)}

    def _historic_task_rows(self, extra: str, *values: Any) -> list[Any]:
        return self.state.rows(
            "SELECT task.*, process.model_id, process.business_key, model.key AS process_key FROM task "  # noqa: S608
            "JOIN process ON process.id = process_id JOIN model ON model.id = model_id "
            f"WHERE task.created <= ? {extra} ORDER BY task.created, task.rowid",
            self.clock() - self.history_lag_seconds,
            *values,
        )

    def _historic_tasks(self, request: Request, subject: Subject) -> Reply:
        columns = {
            "processInstanceId": "process_id",
            "processInstanceIdWithChildren": "process_id",
            "processBusinessKey": "business_key",
            "processDefinitionKey": "process_key",
            "taskDefinitionKey": "key",
            "taskName": "name",
            "taskAssignee": "assignee",
            "taskId": "id",
        }
        rows = self._historic_task_rows("")
        for parameter, column in columns.items():
            if parameter in request.query:
                rows = [row for row in rows if row[column] == request.one(parameter)]
        shown = [self._historic_task_json(row, request) for row in rows]
        if "finished" in request.query:
            shown = [item for item in shown if (item["endTime"] is not None) == _flag(request, "finished")]
        return hal(request, "historic-task-instances", shown, page=False)

    def _one_historic_task(self, request: Request, subject: Subject) -> Reply:
        rows = self._historic_task_rows("AND task.id = ?", request.values["task"])
        if not rows:
            raise missing(f"Could not find a historic task instance with id '{request.values['task']}'.")
        return json_reply(self._historic_task_json(rows[0], request))


_TENANT_ID = "00000000-0000-4000-8000-000000000001"


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8")).hexdigest()


def _token_fields(request: Request) -> dict[str, Any]:
    if request.headers.get("content-type", "").startswith("application/json"):
        fields = _body(request)
    else:
        fields = dict(request.form())
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            client, _, secret = base64.b64decode(value, validate=True).decode("utf-8").partition(":")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise HttpError(401, {"error": "invalid_client"}) from error
        fields = {**fields, "client_id": client, "client_secret": secret}
    return fields


def _body(request: Request) -> dict[str, Any]:
    value = request.json()
    if not isinstance(value, dict):
        raise bad_request("Expected a JSON object.")
    return value


def _flag(request: Request, name: str) -> bool:
    return request.one(name) == "true"


def _known_sort(request: Request, columns: Sequence[str]) -> None:
    chosen = request.one("sort")
    if chosen and chosen not in columns:
        raise bad_request(f"Value for param 'sort' is not valid, '{chosen}' is not a valid property")


def _forbidden(text: str) -> HttpError:
    return HttpError(403, {"message": "Forbidden", "exception": text})


def _links(task: Any) -> list[dict[str, str]]:
    links = [{"type": "candidate", "group": group} for group in json.loads(task["groups"])]
    return [*links, *([{"type": "assignee", "user": task["assignee"]}] if task["assignee"] else [])]


def _play(step: Callable[[], Any]) -> Any:
    """Run an engine step; its refusal ends the request as Flowable's plain exception does, and nothing is kept."""
    try:
        return step()
    except EngineError as error:
        raise HttpError(500, {"message": "Internal server error", "exception": str(error)}) from error


def _variable_items(items: Any) -> list[dict[str, Any]]:
    """Return a request's variables, refused in Flowable's words where they are malformed."""
    if not isinstance(items, list):
        raise bad_request("Expected an array of variables.")
    for item in items:
        if not isinstance(item, dict) or not isinstance(item.get("name"), str) or not item["name"]:
            raise bad_request("Variable name is required.")
        kind, value = item.get("type"), item.get("value")
        if kind is None:
            continue
        if kind not in _TYPES:
            raise bad_request(f"Variable '{item['name']}' has unsupported type: '{kind}'.")
        wrong_boolean = isinstance(value, bool) and bool not in _TYPES[kind]
        if value is not None and (wrong_boolean or not isinstance(value, _TYPES[kind])):
            raise bad_request(f"Converter can only convert {'string' if kind == 'date' else kind} to {kind}")
    return items


def _type_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer" if abs(value) < 2**31 else "long"
    if isinstance(value, float):
        return "double"
    return "json" if isinstance(value, (dict, list)) else "string"


def _model_text(content: Any) -> str:
    text = content.strip() if isinstance(content, str) else ""
    if text.lower().startswith("%3c"):
        return unquote(text)
    if text and not text.startswith("<"):
        try:
            return base64.b64decode(text, validate=True).decode("utf-8")
        except ValueError as error:
            raise InvalidInput("modelContent is neither XML nor base64 of it") from error
    return text
