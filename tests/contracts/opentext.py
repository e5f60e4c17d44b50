"""What OpenText Workflow Service shares with Flowable, held to Flowable's published schema; and where it differs.

OpenText publishes no schema. Its service behaves as Flowable in all that is known of it, so bodies are held to
Flowable's Swagger file, with what is known to differ added below, each with its source: [A] OpenText's own code, [B] a
working client or a copy of OpenText's Postman documents, [C] inferred from Flowable's source.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote

from jsonschema import Draft4Validator, FormatChecker

from include.settings import ROOT

FILE = ROOT.parent / "shared" / "specs" / "flowable-process.yaml"
ABSENT = f"Flowable's published schema is not there: {FILE} does not exist"
RUN, HISTORY = "/workflow/v1", "/workflow-history/v1"


@dataclass(frozen=True)
class Shared:
    """One operation that both have.

    :param path: at OpenText, below its root.
    :param flowable: at Flowable, below its root.
    :param items: definition of a list's elements, where OpenText answers with a HAL list.
    :param body: definition of the request's body where Flowable's file has none or a wrong one.
    :param reply: the same of the reply's; ``file`` for any bytes.
    """

    method: str
    path: str
    flowable: str
    items: str = ""
    body: str = ""
    reply: str = ""

    @functools.cached_property
    def pattern(self) -> re.Pattern[str]:
        """Return what the path looks like."""
        return re.compile("".join("[^/]+" if piece.startswith("{") else re.escape(piece)
                                  for piece in re.split(r"(\{[a-z]+\})", self.path)) + r"\Z")  # fmt: skip


PROCESS, TASK = "/runtime/process-instances/{processInstanceId}", "/runtime/tasks/{taskId}"
OLD, OLD_TASK = "/history/historic-process-instances", "/history/historic-task-instances"
NOTE = f"{OLD}/{{processInstanceId}}/comments"
SHARED = (
    Shared("POST", f"{RUN}/process-instances", "/runtime/process-instances", reply="ProcessInstanceResponse"),
    Shared("GET", f"{RUN}/process-instances", "/runtime/process-instances", "ProcessInstanceResponse"),
    Shared("GET", f"{RUN}/process-instances/{{p}}", PROCESS),
    Shared("DELETE", f"{RUN}/process-instances/{{p}}", PROCESS),
    Shared("POST", f"{RUN}/process-instances/{{p}}/variables", f"{PROCESS}/variables",
           body="[RestVariable]", reply="[RestVariable]"),
    Shared("PUT", f"{RUN}/process-instances/{{p}}/variables/{{n}}", f"{PROCESS}/variables/{{variableName}}",
           body="RestVariable"),
    # Comments of a running process: Flowable has them in its history only [B].
    Shared("GET", f"{RUN}/process-instances/{{p}}/comments", NOTE, "CommentResponse"),
    Shared("POST", f"{RUN}/process-instances/{{p}}/comments", NOTE, body="CommentRequest", reply="CommentResponse"),
    Shared("GET", f"{RUN}/tasks", "/runtime/tasks", "TaskResponse"),
    Shared("GET", f"{RUN}/tasks/{{t}}", TASK),
    Shared("POST", f"{RUN}/tasks/{{t}}", TASK),
    Shared("PUT", f"{RUN}/tasks/{{t}}", TASK),
    Shared("POST", f"{RUN}/tasks/{{t}}/comments", f"{TASK}/comments", body="CommentRequest", reply="CommentResponse"),
    Shared("GET", f"{RUN}/tasks/{{t}}/attachments", f"{TASK}/attachments", "AttachmentResponse"),
    Shared("POST", f"{RUN}/tasks/{{t}}/attachments", f"{TASK}/attachments",
           body="AttachmentRequest", reply="AttachmentResponse"),
    Shared("GET", f"{RUN}/tasks/{{t}}/attachments/{{a}}/content", f"{TASK}/attachments/{{attachmentId}}/content",
           reply="file"),
    Shared("GET", f"{HISTORY}/historic-process-instances", OLD, "HistoricProcessInstanceResponse"),
    Shared("GET", f"{HISTORY}/historic-process-instances/{{p}}", f"{OLD}/{{processInstanceId}}"),
    Shared("GET", f"{HISTORY}/historic-process-instances/{{p}}/comments", NOTE, "CommentResponse"),
    Shared("POST", f"{HISTORY}/historic-process-instances/{{p}}/comments", NOTE, body="CommentRequest",
           reply="CommentResponse"),
    Shared("GET", f"{HISTORY}/historic-task-instances", OLD_TASK, "HistoricTaskInstanceResponse"),
)  # fmt: skip
"""Paths [A for starting and tasks, B for the rest]; the prefixes and the HAL lists [A]."""

OWN = {
    f"GET {RUN}/runtime/models": "Flowable deploys by multipart and has another model resource",
    f"POST {RUN}/runtime/models": "the same",
    f"GET {RUN}/runtime/models/{{m}}": "the same",
}
"""What OpenText has and Flowable has not, and why nothing can be held to its schema."""

STRING, ANY = {"type": "string"}, {}
LINKS = {"_links": {"type": "object"}}  # [A] HAL
COMMENTS = {"comments": {"type": "array", "items": {"$ref": "#/definitions/CommentResponse"}}}  # [B]
ASSIGNMENTS = {"assignments": {"type": "array", "items": {"$ref": "#/definitions/RestIdentityLink"}}}  # [B]
TENANCY = {"subscriptionId": STRING, "tenantId": STRING}  # [B]
MORE: dict[str, dict[str, Any]] = {
    # [A] the client of the sample app sends and reads the value as it is: any JSON, not an object. [B] encryption.
    "RestVariable": {"value": ANY, "encryption": {"type": "boolean"}},
    "ProcessInstanceResponse": {**LINKS, **COMMENTS, **TENANCY, "dueDate": STRING, "superProcessInstanceId": STRING},
    "ProcessInstanceCreateRequest": {
        "comment": {"$ref": "#/definitions/CommentRequest"}, "includeUserIds": {"type": "boolean"},  # [B]
    },
    "CommentRequest": {"includeUserIds": {"type": "boolean"}},  # [B]
    "TaskResponse": {**LINKS, **COMMENTS, **ASSIGNMENTS, **TENANCY},
    "HistoricProcessInstanceResponse": {**LINKS, **COMMENTS, **TENANCY, "dueDate": STRING},
    # The completer is not known to be there: the stand-in gives it only where a switch says so.
    "HistoricTaskInstanceResponse": {**LINKS, **COMMENTS, **ASSIGNMENTS, **TENANCY, "completedBy": STRING},
}  # fmt: skip
"""Members that OpenText adds to Flowable's bodies."""
UNDEFINED = {
    # Flowable's file has no members for it; its documentation has these [C].
    "AttachmentRequest": dict.fromkeys(("name", "description", "type", "externalUrl"), STRING),
}
CLEARING = {"TaskRequest"}
"""Requests in which null clears a member [C: Flowable changes only the members that are there]."""

PAGING = {"offset", "count", "sort", "order"}  # [A] instead of start and size; order is missing in Flowable's file
VIEW = {"filterByCurrentSubscription", "includeUserIds", "sortEmptyValuesOnTop"}  # [B]
PARAMETERS = {
    f"{RUN}/process-instances": VIEW | {"includeProcessComments", "dueOn", "dueBefore", "dueAfter"},
    f"{RUN}/process-instances/{{p}}": {"includeProcessVariables", "includeUserIds"},
    f"{RUN}/tasks": VIEW | {"includeGroupIds", "includeTaskComments", "includeTaskAssignments"},
    f"{RUN}/tasks/{{t}}": {
        "includeProcessVariables", "includeTaskComments", "includeTaskAssignments", "includeUserIds", "includeGroupIds",
    },
    f"{HISTORY}/historic-process-instances": VIEW | {"includeProcessComments", "processDefinitionName",
                                                    "processInstanceName"},
    f"{HISTORY}/historic-process-instances/{{p}}": {"includeProcessVariables", "includeUserIds"},
    f"{HISTORY}/historic-task-instances": VIEW | {"includeTaskComments", "includeTaskAssignments", "excludeSubTasks",
                                                 "processInstanceIdWithChildren"},
}  # fmt: skip
"""Query parameters that OpenText adds [B]."""

STATUSES: Mapping[int, str] = {
    400: "[A] the sample app reads it, whatever the operation",
    401: "[A] the gateway, on a token that has expired",
    403: "[C] Flowable's exception handler",
    404: "[C] the same",
    405: "a path that the service has not; which these are is not known",
    409: "[C] Flowable's exception handler",
    415: "[C] the same",
    429: "[A] the neighbouring service's limit",
    500: "[C] Flowable's plain exceptions",
    503: "the gateway",
}
"""Statuses that Flowable's file leaves out."""

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}(Z|[+-]\d\d:?\d\d)\Z")
FORMATS = FormatChecker(formats=())
FORMATS.checks("date-time")(lambda value: not isinstance(value, str) or bool(TIME.match(value)))


@functools.cache
def published() -> dict[str, Any]:
    """Return Flowable's file."""
    import yaml

    return yaml.safe_load(FILE.read_text("utf-8"))


@functools.cache
def _definitions(*, reply: bool) -> dict[str, Any]:
    """Return the definitions with OpenText's members, closed to all others; a reply's members may be null.

    Jackson writes null members, and Swagger 2.0 has no word for that.
    """
    found = {}
    for name, definition in published()["definitions"].items():
        members = {**definition.get("properties", {}), **MORE.get(name, {})}
        if reply or name in CLEARING:
            members = {key: {"anyOf": [schema, {"type": "null"}]} for key, schema in members.items()}
        found[name] = {**definition, "properties": members, **({"additionalProperties": False} if members else {})}
    for name, members in UNDEFINED.items():
        found[name] = {"type": "object", "properties": members, "additionalProperties": False}
    return found


def _faults(value: Any, schema: Mapping[str, Any], *, reply: bool) -> Iterator[str]:
    validator = Draft4Validator({**schema, "definitions": _definitions(reply=reply)}, format_checker=FORMATS)
    for error in validator.iter_errors(value):
        yield f"{error.json_path}: {error.message[:200]}"


def _schema(name: str) -> dict[str, Any]:
    if name.startswith("["):
        return {"type": "array", "items": {"$ref": f"#/definitions/{name.strip('[]')}"}}
    return {"$ref": f"#/definitions/{name}"}


def find(method: str, path: str) -> Shared | None:
    """Return the shared operation that a request is for; paths without variables first."""
    fitting = [one for one in SHARED if one.method == method and one.pattern.match(path)]
    return min(fitting, key=lambda one: one.path.count("{"), default=None)


def own(method: str, path: str) -> str | None:
    """Return what a request is for that only OpenText has, or None."""
    for name in OWN:
        wanted, _, template = name.partition(" ")
        if method == wanted and Shared(wanted, template, "").pattern.match(path):
            return name
    return None


def operation(shared: Shared) -> dict[str, Any]:
    """Return Flowable's operation."""
    return published()["paths"][shared.flowable][shared.method.lower()]


def request_faults(
    method: str, path: str, query: str, body: bytes, content_type: str = "application/json"
) -> list[str]:
    """Return in what a request goes against what is known."""
    if own(method, path):
        return []
    shared = find(method, path)
    if shared is None:
        return [f"{method} {path}: no such operation"]
    faults = [*_query_faults(shared, query), *_body_faults(shared, body, content_type)]
    return [f"{method} {shared.path}: {fault}" for fault in faults]


def _query_faults(shared: Shared, query: str) -> Iterator[str]:
    known = {one["name"]: one for one in operation(shared).get("parameters", ()) if one["in"] == "query"}
    added = PARAMETERS.get(shared.path, set()) | (PAGING if shared.items else set())
    for name, value in parse_qsl(query, keep_blank_values=True):
        kind = known.get(name, {}).get("type", "string")
        if name not in known and name not in added:
            yield f"query {name}: neither Flowable's nor known of OpenText"
        elif kind == "boolean" and value not in ("true", "false"):
            yield f"query {name}: found {value!r}, expected true or false"
        elif kind == "integer" and not re.fullmatch(r"-?\d+", value):
            yield f"query {name}: found {unquote(value)!r}, expected a number"


def _body_faults(shared: Shared, body: bytes, content_type: str) -> Iterator[str]:
    if content_type.startswith("multipart/"):
        return  # a file; its form fields are Flowable's
    schema = _schema(shared.body) if shared.body else None
    for parameter in operation(shared).get("parameters", ()):
        if parameter["in"] == "body" and schema is None:
            schema = parameter["schema"]
    if schema is None or shared.method in ("GET", "DELETE"):
        if body:
            yield "body: the operation takes none"
        return
    try:
        value = json.loads(body)
    except ValueError:
        yield "body: not JSON"
        return
    yield from (f"body: {fault}" for fault in _faults(value, schema, reply=False))


def reply_faults(method: str, path: str, status: int, kind: str, body: bytes) -> list[str]:
    """Return in what a reply goes against what is known."""
    if own(method, path):
        return []
    shared = find(method, path)
    if shared is None:
        return [] if status in (404, 405) else [f"{method} {path}: {status}, and there is no such operation"]
    declared = operation(shared)["responses"]
    if status not in STATUSES and status not in declared and str(status) not in declared:
        return [f"{method} {shared.path}: status {status} is not declared"]
    return [f"{method} {shared.path}: {status}: {fault}" for fault in _reply_faults(shared, status, kind, body)]


def _reply_faults(shared: Shared, status: int, kind: str, body: bytes) -> Iterator[str]:
    if status >= 400:
        yield from _error_faults(status, kind, body)
        return
    if status == 204:
        if body:
            yield "has a body"
        return
    if shared.reply == "file":
        return
    declared = operation(shared)["responses"]
    schema = _schema(shared.reply) if shared.reply else (declared.get(200) or declared.get("200") or {}).get("schema")
    if schema is None:
        if body:
            yield "has a body, and none is declared"
        return
    try:
        value = json.loads(body)
    except ValueError:
        yield "not JSON"
        return
    yield from _list_faults(value, shared.items) if shared.items else _faults(value, schema, reply=True)


def _list_faults(value: Any, item: str) -> Iterator[str]:
    """Hold a HAL list: ``_embedded`` with one list, absent when empty, ``_links``, perhaps ``page`` [A]."""
    if not isinstance(value, dict) or set(value) - {"_embedded", "_links", "page"}:
        yield f"expected _embedded, _links and page, found {sorted(value) if isinstance(value, dict) else value!r}"
        return
    lists = value.get("_embedded", {"none": []})
    if not isinstance(lists, dict) or len(lists) != 1 or ("_embedded" in value and not next(iter(lists.values()))):
        yield "expected one list in _embedded, and no _embedded where it is empty"
        return
    for number, one in enumerate(next(iter(lists.values()))):
        yield from (f"[{number}] {fault}" for fault in _faults(one, _schema(item), reply=True))


def _error_faults(status: int, kind: str, body: bytes) -> Iterator[str]:
    if not kind.startswith("application/json"):
        if status not in (404, 405):
            yield f"found {kind!r}, expected JSON"
        return
    value = json.loads(body)
    by_gateway = isinstance(value, dict) and isinstance(value.get("fault", {}).get("faultstring"), str)
    by_service = isinstance(value, dict) and isinstance(value.get("message"), str) and set(value) <= {
        "message", "exception",
    }  # fmt: skip
    if not by_gateway and not by_service:
        yield f"found {value!r}; expected message and exception, or the gateway's fault"
