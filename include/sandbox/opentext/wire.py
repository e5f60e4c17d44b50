"""Reading requests: bodies, flags, variables, refused in the service's words where they are malformed."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import unquote

from include.base.errors import InvalidInput
from include.sandbox.http import HttpError, Request
from include.sandbox.opentext.engine import EngineError
from include.sandbox.opentext.shapes import bad_request

__all__ = [
    "HISTORY",
    "RUN",
    "TENANT",
    "TENANT_ID",
    "assignment_links",
    "flag",
    "forbidden",
    "known_sort",
    "model_text",
    "moment",
    "play",
    "read_body",
    "type_of",
    "variable_items",
]

RUN, HISTORY, TENANT = "/workflow/v1", "/workflow-history/v1", "/tenants/{tenant}/oauth2/token"
TENANT_ID = "00000000-0000-4000-8000-000000000001"
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "date": (str,),
    "double": (int, float),
    "integer": (int,),
    "long": (int,),
    "json": (dict, list, str, int, float, bool),
}


def read_body(request: Request) -> dict[str, Any]:
    """Return a body that has to be a JSON object."""
    value = request.json()
    if not isinstance(value, dict):
        raise bad_request("Expected a JSON object.")
    return value


def flag(request: Request, name: str) -> bool:
    """Tell whether a parameter is ``true``."""
    return request.one(name) == "true"


def known_sort(request: Request, columns: Sequence[str]) -> None:
    """Refuse a sort column that the collection has not."""
    chosen = request.one("sort")
    if chosen and chosen not in columns:
        raise bad_request(f"Value for param 'sort' is not valid, '{chosen}' is not a valid property")


def moment(text: str) -> float:
    """Return a time of a parameter, in seconds since the epoch."""
    try:
        return datetime.fromisoformat(text.replace(" ", "+")).timestamp()
    except ValueError as error:
        raise bad_request(f"'{text}' is no valid date") from error


def forbidden(text: str) -> HttpError:
    """Return 403 as Flowable's ``ErrorInfo`` has it."""
    return HttpError(403, {"message": "Forbidden", "exception": text})


def assignment_links(task: Any) -> list[dict[str, str]]:
    """Return a task's assignments."""
    links = [{"type": "candidate", "group": group} for group in json.loads(task["groups"])]
    links += [{"type": "candidate", "user": user} for user in json.loads(task["users"])]
    return [*links, *({"type": kind, "user": task[kind]} for kind in ("assignee", "owner") if task[kind])]


def play(step: Callable[[], Any]) -> Any:
    """Run an engine step; its refusal ends the request as Flowable's plain exception does, and nothing is kept."""
    try:
        return step()
    except EngineError as error:
        raise HttpError(500, {"message": "Internal server error", "exception": str(error)}) from error


def variable_items(items: Any) -> list[dict[str, Any]]:
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


def type_of(value: Any) -> str:
    """Return the type of a variable that came without one."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer" if abs(value) < 2**31 else "long"
    if isinstance(value, float):
        return "double"
    return "json" if isinstance(value, (dict, list)) else "string"


def model_text(content: Any) -> str:
    """Return a deployed model's XML, which may come plain, URL-encoded or in base64.

    :raises InvalidInput: none of them.
    """
    text = content.strip() if isinstance(content, str) else ""
    if text.lower().startswith("%3c"):
        return unquote(text)
    if text and not text.startswith("<"):
        try:
            return base64.b64decode(text, validate=True).decode("utf-8")
        except ValueError as error:
            raise InvalidInput("modelContent is neither XML nor base64 of it") from error
    return text
