"""The JSON that the service answers with: HAL lists, three spellings of a time, the fields of each object."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from include.sandbox.http import HttpError, Reply, Request, json_reply

__all__ = [
    "bad_request",
    "comment_json",
    "hal",
    "history_time",
    "missing",
    "model_json",
    "runtime_time",
    "utc_time",
    "variable_json",
]

_HISTORY_ZONE = timezone(timedelta(hours=5, minutes=30))


def runtime_time(at: float | None) -> str | None:
    """Spell a time as running processes and tasks do: ``2018-04-17T10:17:43.902+0000``."""
    return None if at is None else _milliseconds(datetime.fromtimestamp(at, UTC)) + "+0000"


def history_time(at: float | None) -> str | None:
    """Spell a time as history does: ``2020-04-02T17:15:11.315+05:30``."""
    return None if at is None else _milliseconds(datetime.fromtimestamp(at, _HISTORY_ZONE)) + "+05:30"


def utc_time(at: float | None) -> str | None:
    """Spell a time as comments do: ``2014-09-11T07:43:22.823Z``."""
    return None if at is None else _milliseconds(datetime.fromtimestamp(at, UTC)) + "Z"


def _milliseconds(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}"


def bad_request(text: str) -> HttpError:
    """Return 400 as Flowable's ``ErrorInfo`` has it."""
    return HttpError(400, {"message": "Bad request", "exception": text})


def missing(text: str) -> HttpError:
    """Return 404 as Flowable's ``ErrorInfo`` has it."""
    return HttpError(404, {"message": "Not found", "exception": text})


def hal(request: Request, rel: str, items: Sequence[dict[str, Any]], *, page: bool) -> Reply:
    """Return one page of a list: ``offset`` counts elements, ``count`` is 10 by default, no ``_embedded`` when empty.

    :param page: whether the collection reports ``page`` (known of tasks only).
    """
    try:
        offset, count = int(request.one("offset", "0")), int(request.one("count", "10"))
    except ValueError as error:
        raise bad_request("offset and count are numbers") from error
    if offset < 0 or count < 1:
        raise bad_request("offset is 0 or more, count is 1 or more")
    shown = list(items[offset : offset + count])
    body: dict[str, Any] = {"_links": {"self": {"href": request.target}}}
    if offset + count < len(items):
        body["_links"]["next"] = {"href": f"{request.path}?offset={offset + count}&count={count}"}
    if shown:
        body["_embedded"] = {rel: shown}
    if page:
        body["page"] = {
            "size": count,
            "totalElements": len(items),
            "totalPages": -(-len(items) // count),
            "number": offset // count,
        }
    return json_reply(body)


def variable_json(row: Any) -> dict[str, Any]:
    """Return a variable. An encrypted one keeps its value back (what the real service does is not known)."""
    value = {"name": row["name"], "type": row["type"], "scope": row["scope"], "encryption": bool(row["encryption"])}
    return value if row["encryption"] else {**value, "value": json.loads(row["value"])}


def comment_json(row: Any) -> dict[str, Any]:
    """Return a comment."""
    return {
        "id": row["id"],
        "author": row["author"],
        "message": row["message"],
        "time": utc_time(row["at"]),
        "taskId": row["task_id"],
        "processInstanceId": row["process_id"],
    }


def model_json(row: Any) -> dict[str, Any]:
    """Return a deployed model without its content."""
    return {"id": row["id"], "key": row["key"], "name": row["name"], "version": row["version"], "modelType": "xml"}
