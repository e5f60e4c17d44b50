"""What travels: variables, times, filters and the service's objects, to and from our values."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import quote, unquote

from include.base.errors import InvalidInput, InvalidReply
from include.systems.opentext.values import (
    Attachment,
    Encrypted,
    HistoricProcess,
    HistoricTask,
    ProcessComment,
    ProcessInstance,
    ProcessModel,
    UserTask,
)

__all__ = [
    "SYSTEM",
    "as_object",
    "attachment",
    "comment",
    "decoded",
    "description",
    "encoded",
    "filters",
    "historic_process",
    "historic_task",
    "model",
    "parse_time",
    "process_instance",
    "read_variables",
    "user_task",
    "with_task",
    "write_variable",
    "write_variables",
]

SYSTEM = "opentext"
_INTEGER = range(-(2**31), 2**31)


def parse_time(value: str | None) -> datetime | None:
    """Return a time in UTC from any of the service's three spellings: ``…+0000``, ``…+05:30``, ``…Z``.

    :raises InvalidReply: another spelling, or a time without a zone.
    """
    if not value:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise InvalidReply(
            f"{SYSTEM}: a time is spelled {value!r}; expected ISO 8601 with a zone", system=SYSTEM
        ) from error
    if moment.tzinfo is None:
        raise InvalidReply(f"{SYSTEM}: the time {value!r} has no zone", system=SYSTEM)
    return moment.astimezone(UTC)


def write_variable(name: str, value: Any) -> dict[str, Any]:
    """Return a variable as the service takes it: objects and lists as ``json``, times as ISO 8601 in UTC.

    :raises InvalidInput: a time without a zone, or a value that no type stands for. The message has no value in it.
    """
    if isinstance(value, Encrypted):
        return {**write_variable(name, value.value), "encryption": True}
    if value is None:
        return {"name": name, "value": None}
    kind: str
    sent: Any
    if isinstance(value, bool):
        kind, sent = "boolean", value
    elif isinstance(value, int):
        kind, sent = ("integer" if value in _INTEGER else "long"), value
    elif isinstance(value, float):
        kind, sent = "double", value
    elif isinstance(value, str):
        kind, sent = "string", value
    elif isinstance(value, datetime):
        if value.tzinfo is None:
            raise InvalidInput(f"variable {name!r}: the time has no zone")
        utc = value.astimezone(UTC)
        kind, sent = "date", f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03d}Z"
    elif isinstance(value, date):
        kind, sent = "string", value.isoformat()
    elif isinstance(value, Mapping):
        kind, sent = "json", dict(value)
    elif isinstance(value, (list, tuple)):
        kind, sent = "json", list(value)
    else:
        raise InvalidInput(
            f"variable {name!r}: found a {type(value).__name__}; "
            "allowed are text, numbers, true/false, times, objects, lists and null"
        )
    return {"name": name, "type": kind, "value": sent}


def write_variables(variables: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return variables as the service takes them; see :func:`write_variable`."""
    return [write_variable(name, value) for name, value in (variables or {}).items()]


def read_variables(items: Any) -> dict[str, Any]:
    """Return ``{name: value}`` from a reply's list of variables; a ``date`` becomes a time in UTC.

    An encrypted variable whose value the service keeps back is None.
    """
    variables = {}
    for item in items or []:
        value = item.get("value")
        variables[str(item["name"])] = parse_time(value) if item.get("type") == "date" else value
    return variables


def as_object(value: Any) -> dict[str, Any]:
    """Return a JSON object of a reply.

    :raises InvalidReply: it is something else.
    """
    if not isinstance(value, dict):
        raise InvalidReply(f"{SYSTEM}: expected a JSON object, found {type(value).__name__}", system=SYSTEM)
    return value


def process_instance(item: dict[str, Any]) -> ProcessInstance:
    """Return a running process from a reply."""
    return ProcessInstance(
        id=str(item["id"]),
        name=item.get("name") or "",
        business_key=item.get("businessKey") or "",
        started=parse_time(item.get("startTime")),
        started_by=item.get("startUserId") or None,
        variables=read_variables(item.get("variables")),
        raw=item,
        definition_id=item.get("processDefinitionId") or "",
    )


def historic_process(item: dict[str, Any]) -> HistoricProcess:
    """Return a process of history from a reply."""
    return HistoricProcess(
        id=str(item["id"]),
        name=item.get("name") or "",
        business_key=item.get("businessKey") or "",
        definition_id=item.get("processDefinitionId") or "",
        started_at=parse_time(item.get("startTime")),
        ended_at=parse_time(item.get("endTime")),
        started_by=item.get("startUserId") or None,
        end_activity_id=item.get("endActivityId") or None,
        delete_reason=item.get("deleteReason") or None,
        variables=read_variables(item.get("variables")),
        raw=item,
    )


def user_task(item: dict[str, Any]) -> UserTask:
    """Return a waiting task from a reply."""
    priority = item.get("priority")
    return UserTask(
        id=str(item["id"]),
        name=item.get("name") or "",
        process_id=str(item.get("processInstanceId") or ""),
        assignee=item.get("assignee") or None,
        owner=item.get("owner") or None,
        created=parse_time(item.get("createTime")),
        claimed=parse_time(item.get("claimTime")),
        due=parse_time(item.get("dueDate")),
        delegation_state=item.get("delegationState") or None,
        candidate_groups=tuple(
            str(link["group"])
            for link in item.get("assignments") or []
            if link.get("type") == "candidate" and link.get("group")
        ),
        priority=50 if priority is None else int(priority),
        key=item.get("taskDefinitionKey") or None,
        variables=read_variables(item.get("variables")),
        raw=item,
    )


def attachment(item: dict[str, Any]) -> Attachment:
    """Return an attachment, without its content."""
    return Attachment(
        id=str(item["id"]),
        name=item.get("name") or "",
        description=item.get("description") or "",
        kind=item.get("type") or "",
        url=item.get("externalUrl") or None,
        author=item.get("userId") or None,
        time=parse_time(item.get("time")),
        raw=item,
    )


def historic_task(item: dict[str, Any], completer_field: str) -> HistoricTask:
    """Return a task of history from a reply."""
    return HistoricTask(
        id=str(item["id"]),
        name=item.get("name") or "",
        key=item.get("taskDefinitionKey") or None,
        process_id=str(item.get("processInstanceId") or ""),
        assignee=item.get("assignee") or None,
        owner=item.get("owner") or None,
        # Flowable's historic task calls it startTime; createTime is read too because the runtime task does.
        created=parse_time(item.get("startTime") or item.get("createTime")),
        claimed=parse_time(item.get("claimTime")),
        ended=parse_time(item.get("endTime")),
        delete_reason=item.get("deleteReason") or None,
        completer=item.get(completer_field) or None,
        variables=read_variables(item.get("variables")),
        raw=item,
    )


def with_task(comment: dict[str, Any], task: Mapping[str, Any]) -> dict[str, Any]:
    """Return a comment that names the task it came with."""
    return {**comment, "taskId": comment.get("taskId") or task.get("id")}


def comment(item: dict[str, Any]) -> ProcessComment:
    """Return a comment from a reply."""
    return ProcessComment(
        id=str(item.get("id") or ""),
        author=item.get("author") or "",
        message=item.get("message") or "",
        time=parse_time(item.get("time")),
        task_id=item.get("taskId") or None,
        raw=item,
    )


def model(item: dict[str, Any], content: str | None = None) -> ProcessModel:
    """Return a model from a reply. A definition id, `key:version:uuid`, fills in what the reply leaves out."""
    model_id = str(item.get("id") or "")
    parts = model_id.split(":")
    key = str(item.get("key") or (parts[0] if len(parts) == 3 else ""))
    version = item.get("version") or (parts[1] if len(parts) == 3 else 0)
    try:
        number = int(version)
    except (TypeError, ValueError) as error:
        raise InvalidReply(f"{SYSTEM}: the model {model_id!r} has the version {version!r}", system=SYSTEM) from error
    return ProcessModel(id=model_id, key=key, name=item.get("name") or key, version=number, content=content)


def encoded(xml: str, how: str) -> str:
    """Return a model's XML as it travels: ``base64``, ``url`` or ``plain``."""
    if how == "base64":
        return base64.b64encode(xml.encode("utf-8")).decode("ascii")
    return quote(xml) if how == "url" else xml


def decoded(content: Any) -> str:
    """Return a model's XML, which may travel plain, URL-encoded or in base64."""
    text = content.strip() if isinstance(content, str) else ""
    if text.lower().startswith("%3c"):
        text = unquote(text)
    elif text and not text.startswith(("<", "\ufeff")):
        try:
            text = base64.b64decode(text, validate=True).decode("utf-8")
        except ValueError as error:
            raise InvalidReply(f"{SYSTEM}: `modelContent` is neither XML nor base64 of it", system=SYSTEM) from error
    if not text.lstrip("\ufeff").startswith("<"):
        raise InvalidReply(f"{SYSTEM}: the model's reply has no XML in `modelContent`", system=SYSTEM)
    return text


def filters(**chosen: str | bool | datetime | None) -> dict[str, str]:
    """Return query parameters as the service reads them; those that are None are left out.

    :raises InvalidInput: a time without a zone.
    """
    written = {}
    for name, value in chosen.items():
        if isinstance(value, bool):
            written[name] = "true" if value else "false"
        elif isinstance(value, datetime):
            written[name] = str(write_variable(name, value)["value"])
        elif value is not None:
            written[name] = value
    return written


def description(what: str, chosen: Mapping[str, str]) -> str:
    """Return what a listing lists, with everything that chooses it."""
    return " ".join([what, *(f"{name}={value}" for name, value in chosen.items())])
