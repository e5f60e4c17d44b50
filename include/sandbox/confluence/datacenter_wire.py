"""What the local Data Center reads from requests and answers in errors, apart from any state."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from include.sandbox.confluence import markup
from include.sandbox.confluence.wire import whole
from include.sandbox.http import HttpError, Request

__all__ = [
    "EXCEPTIONS",
    "Expand",
    "bad",
    "conflict",
    "count_in",
    "expanded",
    "label_shape",
    "location_of",
    "marks",
    "object_in",
    "property_value",
    "refused",
    "statuses",
    "stored_in",
    "username_of",
]

MAX_PAGE_BYTES = 5 * 1024 * 1024
PROPERTY_BYTES = 32 * 1024
EXCEPTIONS = "com.atlassian.confluence.api.service.exceptions."
REASONS = {400: "Bad Request", 403: "Forbidden", 404: "Not Found", 409: "Conflict", 413: "Request Entity Too Large"}


def refused(status: int, message: str, *, authorized: bool = True) -> HttpError:
    """Return a refusal in the form of this API."""
    data = {
        "authorized": authorized,
        "valid": status != 400,
        "allowedInReadOnlyMode": True,
        "errors": [],
        "successful": False,
    }
    body = {"statusCode": status, "data": data, "message": message, "reason": REASONS.get(status, "Error")}
    return HttpError(status, body)


def bad(message: str) -> HttpError:
    """Return a 400."""
    return refused(400, f"{EXCEPTIONS}BadRequestException: {message}")


def conflict(message: str) -> HttpError:
    """Return a 409."""
    return refused(409, f"{EXCEPTIONS}ConflictException: {message}")


class Expand:
    """The ``expand`` parameter: dotted paths."""

    def __init__(self, text: str) -> None:
        self._paths = {part.strip() for part in text.split(",") if part.strip()}

    def __bool__(self) -> bool:
        return bool(self._paths)

    def has(self, path: str) -> bool:
        """Tell whether a part, or something of it, is wanted."""
        return any(found == path or found.startswith(path + ".") for found in self._paths)

    def below(self, name: str) -> Expand:
        """Return what is wanted of a part."""
        return Expand(",".join(path.removeprefix(name + ".") for path in self._paths if path.startswith(name + ".")))

    def names(self) -> list[str]:
        """Return the parts that are wanted."""
        return sorted({path.partition(".")[0] for path in self._paths})


def username_of(row: Mapping[str, Any] | sqlite3.Row) -> str:
    """Return the name that somebody signs in with."""
    return str(row["email"]).partition("@")[0]


def object_in(request: Request) -> dict[str, Any]:
    """Return the JSON object sent."""
    sent = request.json()
    if not isinstance(sent, dict):
        raise bad("The body must be a JSON object")
    return sent


def count_in(request: Request, name: str, default: int) -> int:
    """Return a number of the query."""
    text = request.one(name, str(default))
    number = whole(text)
    if number is None or number < 0:
        raise bad(f"{name} must be a whole number that is not negative, found {text!r}")
    return number


def marks(values: Sequence[Any]) -> str:
    """Return as many marks as there are values."""
    return ", ".join("?" * len(values))


def statuses(request: Request, values: list[Any]) -> str:
    """Return the condition on statuses, and add its values."""
    wanted = request.many("status") or ["current"]
    if wanted == ["any"]:
        wanted = ["current", "trashed", "archived"]
    allowed = {"current", "trashed", "archived", "historical", "draft", "any"}
    if not set(wanted) <= allowed:
        raise bad(f"status must be among {', '.join(sorted(allowed))}")
    values += wanted
    return f"p.status in ({marks(wanted)})"


def stored_in(sent: Mapping[str, Any], default: str | None) -> str:
    """Return the body sent, as it will be stored; without one, ``default``."""
    body = sent.get("body")
    body = body.get("storage") if isinstance(body, dict) else None
    if body is None and default is not None:
        return default
    if not isinstance(body, dict) or not isinstance(body.get("value"), str):
        raise bad("body.storage needs a value")
    if body.get("representation", "storage") != "storage":
        raise bad("The local Data Center keeps storage format only")
    if len(body["value"].encode("utf-8")) > MAX_PAGE_BYTES:
        raise refused(413, "The page is larger than 5 MB")
    try:
        return markup.rewrite(body["value"])
    except markup.Malformed as error:
        raise bad(str(error)) from error


def property_value(sent: Mapping[str, Any]) -> str:
    """Return the value sent, as it will be stored."""
    if "value" not in sent:
        raise bad("A property needs a value")
    value = json.dumps(sent["value"], ensure_ascii=False)
    if len(value.encode("utf-8")) > PROPERTY_BYTES:
        raise refused(413, f"The value of a property must be at most {PROPERTY_BYTES} bytes")
    return value


def label_shape(row: sqlite3.Row) -> dict[str, Any]:
    """Return a label."""
    return {"prefix": "global", "name": row["name"], "id": str(row["label_id"]), "label": row["name"]}


def location_of(row: sqlite3.Row) -> str:
    """Return where a comment is: ``footer``, ``inline`` or ``resolved``."""
    return "resolved" if row["location"] == "inline" and row["resolution"] == "resolved" else str(row["location"])


def expanded(
    shaped: dict[str, Any], parts: Mapping[str, tuple[str, Callable[[], Any]]], expand: Expand
) -> dict[str, Any]:
    """Return the shape with the parts asked for, and the addresses of the others below ``_expandable``."""
    expandable = {}
    for name, (where, make) in parts.items():
        if expand.has(name):
            shaped[name] = make()
        else:
            expandable[name] = where
    return shaped | {"_expandable": expandable}
