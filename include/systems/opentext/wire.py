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
from include.systems.reading import Reader

__all__ = [
    "SYSTEM",
    "as_object",
    "attachment",
    "comment",
    "comments_of",
    "decoded",
    "description",
    "encoded",
    "filters",
    "historic_process",
    "historic_task",
    "identifier",
    "model",
    "model_with_content",
    "parse_time",
    "process_instance",
    "read_variables",
    "user_task",
    "write_variable",
    "write_variables",
]

SYSTEM = "opentext"
_READ = Reader(SYSTEM)
_INTEGER = range(-(2**31), 2**31)


def parse_time(value: Any, name: str, where: str) -> datetime | None:
    """Return a time in UTC from any of the service's three spellings: ``…+0000``, ``…+05:30``, ``…Z``.

    :raises InvalidReply: another spelling, or a time without a zone.
    """
    return _READ.optional_moment(value, name, where)


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


def read_variables(item: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return ``{name: value}`` from a reply's list of variables; a ``date`` becomes a time in UTC.

    An encrypted variable whose value the service keeps back is None.
    """
    variables = {}
    for one in _READ.rows(item, "variables", where):
        name, value = _READ.identifier(one, "name", where), one.get("value")
        variables[name] = parse_time(value, f"variables.{name}", where) if one.get("type") == "date" else value
    return variables


def as_object(value: Any, where: str) -> dict[str, Any]:
    """Return a JSON object of a reply.

    :raises InvalidReply: it is something else.
    """
    return _READ.mapping(value, where)


def identifier(item: Mapping[str, Any], where: str) -> str:
    """Return the ``id`` of what a reply describes.

    :raises InvalidReply: it has none.
    """
    return _READ.identifier(item, "id", where)


def _text(item: Mapping[str, Any], name: str, where: str) -> str:
    return _READ.text(item, name, where)


def _known(item: Mapping[str, Any], name: str, where: str) -> str | None:
    """Return a text, None where it is missing or empty."""
    return _READ.text(item, name, where) or None


def _time(item: Mapping[str, Any], name: str, where: str) -> datetime | None:
    return parse_time(item.get(name), name, where)


def process_instance(item: dict[str, Any], where: str) -> ProcessInstance:
    """Return a running process from a reply."""
    return ProcessInstance(
        id=identifier(item, where),
        name=_text(item, "name", where),
        business_key=_text(item, "businessKey", where),
        started=_time(item, "startTime", where),
        started_by=_known(item, "startUserId", where),
        variables=read_variables(item, where),
        raw=item,
        definition_id=_text(item, "processDefinitionId", where),
    )


def historic_process(item: dict[str, Any], where: str) -> HistoricProcess:
    """Return a process of history from a reply."""
    return HistoricProcess(
        id=identifier(item, where),
        name=_text(item, "name", where),
        business_key=_text(item, "businessKey", where),
        definition_id=_text(item, "processDefinitionId", where),
        started_at=_time(item, "startTime", where),
        ended_at=_time(item, "endTime", where),
        started_by=_known(item, "startUserId", where),
        end_activity_id=_known(item, "endActivityId", where),
        delete_reason=_known(item, "deleteReason", where),
        variables=read_variables(item, where),
        raw=item,
    )


def user_task(item: dict[str, Any], where: str) -> UserTask:
    """Return a waiting task from a reply."""
    links = _READ.rows(item, "assignments", where)
    groups = [_text(link, "group", where) for link in links if link.get("type") == "candidate"]
    return UserTask(
        id=identifier(item, where),
        name=_text(item, "name", where),
        process_id=_text(item, "processInstanceId", where),
        assignee=_known(item, "assignee", where),
        owner=_known(item, "owner", where),
        created=_time(item, "createTime", where),
        claimed=_time(item, "claimTime", where),
        due=_time(item, "dueDate", where),
        delegation_state=_known(item, "delegationState", where),
        candidate_groups=tuple(group for group in groups if group),
        priority=_READ.number(item, "priority", where, 50),
        key=_known(item, "taskDefinitionKey", where),
        variables=read_variables(item, where),
        raw=item,
    )


def attachment(item: dict[str, Any], where: str) -> Attachment:
    """Return an attachment, without its content."""
    return Attachment(
        id=identifier(item, where),
        name=_text(item, "name", where),
        description=_text(item, "description", where),
        kind=_text(item, "type", where),
        url=_known(item, "externalUrl", where),
        author=_known(item, "userId", where),
        time=_time(item, "time", where),
        raw=item,
    )


def historic_task(item: dict[str, Any], where: str, completer_field: str) -> HistoricTask:
    """Return a task of history from a reply."""
    # Flowable's historic task calls it startTime; createTime is read too because the runtime task does.
    created = _time(item, "startTime", where) or _time(item, "createTime", where)
    return HistoricTask(
        id=identifier(item, where),
        name=_text(item, "name", where),
        key=_known(item, "taskDefinitionKey", where),
        process_id=_text(item, "processInstanceId", where),
        assignee=_known(item, "assignee", where),
        owner=_known(item, "owner", where),
        created=created,
        claimed=_time(item, "claimTime", where),
        ended=_time(item, "endTime", where),
        delete_reason=_known(item, "deleteReason", where),
        completer=_known(item, completer_field, where),
        variables=read_variables(item, where),
        raw=item,
    )


def comments_of(task: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    """Return the comments that came with a task, each naming it."""
    found = _READ.rows(task, "comments", where)
    return [{**comment, "taskId": comment.get("taskId") or task.get("id")} for comment in found]


def comment(item: dict[str, Any], where: str) -> ProcessComment:
    """Return a comment from a reply."""
    return ProcessComment(
        id=identifier(item, where),
        author=_text(item, "author", where),
        message=_text(item, "message", where),
        time=_time(item, "time", where),
        task_id=_known(item, "taskId", where),
        raw=item,
    )


def model(item: dict[str, Any], where: str, content: str | None = None) -> ProcessModel:
    """Return a model from a reply. A definition id, `key:version:uuid`, fills in what the reply leaves out."""
    model_id = identifier(item, where)
    parts = model_id.split(":")
    key, version = (parts[0], parts[1]) if len(parts) == 3 else ("", "0")
    found = {**item, "version": item.get("version") or version}
    key = _text(item, "key", where) or key
    number = _READ.number(found, "version", where, 0)
    return ProcessModel(id=model_id, key=key, name=_text(item, "name", where) or key, version=number, content=content)


def model_with_content(item: dict[str, Any], where: str) -> ProcessModel:
    """Return a model with its XML.

    :raises InvalidReply: it has none.
    """
    return model(item, where, decoded(item.get("modelContent")))


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
