"""What the calls of the local Confluence Cloud share: refusals, parameters and the shapes of replies."""

from __future__ import annotations

import base64
import json
import re
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote_plus

from include.sandbox.confluence import markup
from include.sandbox.confluence.database import iso
from include.sandbox.http import HttpError, Request

__all__ = [
    "LIST_FORMATS",
    "MAX_PAGE_BYTES",
    "ONE_FORMATS",
    "PAGE_SORTS",
    "SELECT_PAGE",
    "V1",
    "V2",
    "as_utf8",
    "bad_v2",
    "base_of",
    "check_among",
    "count_of",
    "cursor_after",
    "cursor_of",
    "in_words_of_v1",
    "limit_of",
    "marks",
    "number_of",
    "object_in",
    "offset_of",
    "row_after",
    "sent_property",
    "shape_attachment",
    "shape_comment",
    "shape_label",
    "shape_page",
    "shape_property",
    "shape_space",
    "shape_state",
    "shape_task",
    "shape_v1_label",
    "shape_version",
    "stored_body",
    "v1_error",
    "v2_error",
    "wants_storage",
    "webui_of",
    "whole",
]

V2 = "/wiki/api/v2"
V1 = "/wiki/rest/api"
MAX_PAGE_BYTES = 5 * 1024 * 1024
LIST_FORMATS = ("storage", "atlas_doc_format")
ONE_FORMATS = (*LIST_FORMATS, "view", "export_view", "anonymous_export_view", "styled_view", "editor")
PAGE_SORTS = {
    "id": "p.id",
    "created-date": "p.created",
    "modified-date": "p.modified",
    "title": "p.title",
}
SELECT_PAGE = (
    "select p.*, v.body, v.author_id as version_author, v.created as version_created, v.message, s.key as space_key,"
    " s.homepage_id, (select 1 from folders f where f.id = p.parent_id) as in_folder from pages p"
    " join versions v on v.page_id = p.id and v.number = p.version join spaces s on s.id = p.space_id"
)


def v2_error(status: int, code: str, title: str, detail: str | None = None) -> HttpError:
    """Return a refusal in the words of v2."""
    return HttpError(status, {"errors": [{"status": status, "code": code, "title": title, "detail": detail}]})


def v1_error(status: int, message: str) -> HttpError:
    """Return a refusal in the words of v1."""
    data = {"authorized": status != 403, "valid": status != 400, "errors": [], "successful": False}
    return HttpError(status, {"statusCode": status, "data": data, "message": message})


def bad_v2(title: str, detail: str | None = None) -> HttpError:
    """Return a refusal of a v2 parameter or field."""
    return v2_error(400, "INVALID_REQUEST_PARAMETER", title, detail)


def in_words_of_v1(error: HttpError) -> HttpError:
    """Return a refusal that a part shared with v2 raised as v1 words it."""
    found = json.loads(error.reply.body)
    return v1_error(error.reply.status, found["errors"][0]["title"]) if "errors" in found else error


# --- parameters ----------------------------------------------------------------------------------------------------


def object_in(request: Request) -> dict[str, Any]:
    """Return the JSON object that was sent.

    :raises HttpError: it is something else.
    """
    sent = request.json()
    if not isinstance(sent, dict):
        raise bad_v2("The body must be a JSON object")
    return sent


def number_of(value: Any) -> int:
    """Return a whole number.

    :raises HttpError: it is something else.
    """
    number = whole(value)
    if number is None:
        raise bad_v2(f"Provided value {{{value}}} is not a number. Expected type is long")
    return number


def whole(value: Any) -> int | None:
    """Return a whole number of 64 bits, given as such or in plain digits, or None."""
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,19}", value):
        value = int(value)
    fits = isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63
    return value if fits else None


def count_of(request: Request, name: str, default: int) -> int:
    """Return v1's ``start`` or ``limit``.

    :raises HttpError: it is no number from 0 on that fits 32 bits.
    """
    number = whole(request.one(name, str(default)))
    if number is None or not 0 <= number < 2**31:
        raise v1_error(400, f"{name} must be a number from 0 on")
    return number


def check_among(name: str, values: Iterable[Any], allowed: tuple[str, ...]) -> None:
    """Refuse values that are not allowed."""
    for value in values:
        if value not in allowed:
            raise bad_v2(f"Provided value for '{name}' is not one of: {', '.join(allowed)}")


def marks(values: list[Any]) -> str:
    """Return the place holders of a list of values."""
    return ", ".join("?" * len(values))


def limit_of(request: Request, default: int) -> int:
    """Return v2's ``limit``, 1 to 250."""
    limit = number_of(request.one("limit", str(default)))
    if not 1 <= limit <= 250:
        raise bad_v2("Provided value for 'limit' must be between 1 and 250")
    return limit


def cursor_of(offset: int) -> str:
    """Return the cursor that leads to a row."""
    return base64.urlsafe_b64encode(json.dumps({"after": offset}).encode()).decode()


def cursor_after(value: Any, number: int) -> str:
    """Return the cursor that leads to what comes after a row, by the value it is ordered by and its id."""
    return base64.urlsafe_b64encode(json.dumps({"id": str(number), "value": value}).encode()).decode()


def row_after(request: Request) -> tuple[Any, int]:
    """Return value and id of the row that a cursor comes after."""
    found = _cursor_in(request)
    value, number = found.get("value"), whole(found.get("id"))
    if number is None or not (isinstance(value, str) or whole(value) is not None):
        raise _bad_cursor()
    return value, number


def offset_of(request: Request) -> int:
    """Return the row that a cursor leads to."""
    if not request.one("cursor"):
        return 0
    found = _cursor_in(request).get("after")
    number = whole(found)
    if number is None or number < 0:
        raise _bad_cursor()
    return number


def _cursor_in(request: Request) -> dict[str, Any]:
    try:
        found = json.loads(base64.urlsafe_b64decode(request.one("cursor")))
    except ValueError as error:
        raise _bad_cursor() from error
    if not isinstance(found, dict):
        raise _bad_cursor()
    return found


def _bad_cursor() -> HttpError:
    return bad_v2(
        "Provided value for 'cursor' is not the correct type. Expected type is Cursor.",
        "The provided cursor was not valid for this list",
    )


def wants_storage(request: Request, allowed: tuple[str, ...]) -> bool:
    """Tell whether the storage body is wanted."""
    wanted = request.one("body-format")
    if not wanted:
        return False
    check_among("body-format", [wanted], allowed)
    if wanted != "storage":
        raise v2_error(501, "NOT_IMPLEMENTED", "The local Confluence keeps storage format only")
    return True


def stored_body(sent: Mapping[str, Any]) -> str:
    """Return the body sent, as it will be stored."""
    body = sent.get("body")
    if isinstance(body, dict) and isinstance(body.get("storage"), dict):
        body = body["storage"]
    if not isinstance(body, dict) or body.get("representation") != "storage" or not isinstance(body.get("value"), str):
        raise bad_v2("body needs the representation `storage` and a value")
    if len(body["value"].encode("utf-8")) > MAX_PAGE_BYTES:
        raise v2_error(413, "CONTENT_TOO_LARGE", "The page is larger than 5 MB")
    try:
        return markup.rewrite(body["value"])
    except markup.Malformed as error:
        raise bad_v2(str(error), "Content body cannot be converted to new editor format") from error


def sent_property(sent: Mapping[str, Any]) -> tuple[str, str]:
    """Return key and value, as JSON text, of a property that was sent."""
    key = sent.get("key")
    if not isinstance(key, str) or not key or "value" not in sent:
        raise bad_v2("A property needs a key and a value")
    value = json.dumps(sent["value"], ensure_ascii=False)
    if len(value.encode("utf-8")) > 32 * 1024:
        raise bad_v2("The value of a property must be at most 32 KB")
    return key, value


def as_utf8(name: str) -> str:
    """Undo the header parser's reading of UTF-8 bytes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


# --- shapes --------------------------------------------------------------------------------------------------------


def base_of(request: Request) -> str:
    """Return the address below which links are."""
    return f"http://{request.headers.get('host', 'localhost')}/wiki"


def webui_of(row: sqlite3.Row) -> str:
    """Return a page's address for people."""
    if row["id"] == row["homepage_id"]:
        return f"/spaces/{row['space_key']}/overview"
    return f"/spaces/{row['space_key']}/pages/{row['id']}/{quote_plus(row['title'])}"


def shape_space(row: sqlite3.Row) -> dict[str, Any]:
    """Return a row as the API shows a space."""
    return {
        "id": str(row["id"]),
        "key": row["key"],
        "name": row["name"],
        "type": "global",
        "status": "current",
        "authorId": row["author_id"],
        "createdAt": iso(row["created"]),
        "homepageId": None if row["homepage_id"] is None else str(row["homepage_id"]),
        "_links": {"webui": f"/spaces/{row['key']}"},
    }


def shape_version(row: sqlite3.Row) -> dict[str, Any]:
    """Return a row as the API shows a version."""
    return {
        "number": row["number"],
        "message": row["message"],
        "minorEdit": False,
        "authorId": row["author_id"],
        "createdAt": iso(row["created"]),
    }


def shape_page(row: sqlite3.Row, *, with_body: bool, base: str | None = None) -> dict[str, Any]:
    """Return a row as the API shows a page."""
    links = {"webui": webui_of(row)} | ({"base": base} if base else {})
    return {
        "id": str(row["id"]),
        "status": row["status"],
        "title": row["title"],
        "spaceId": str(row["space_id"]),
        "parentId": None if row["parent_id"] is None else str(row["parent_id"]),
        "parentType": None if row["parent_id"] is None else "folder" if row["in_folder"] else "page",
        "position": row["id"],
        "authorId": row["author_id"],
        "ownerId": row["author_id"],
        "lastOwnerId": None,
        "createdAt": iso(row["created"]),
        "version": {
            "number": row["version"],
            "message": row["message"],
            "minorEdit": False,
            "authorId": row["version_author"],
            "createdAt": iso(row["version_created"]),
        },
        "body": {"storage": {"representation": "storage", "value": row["body"]}} if with_body else {},
        "_links": links,
    }


def shape_label(row: sqlite3.Row) -> dict[str, Any]:
    """Return a row as the API shows a label."""
    return {"id": str(row["label_id"]), "name": row["name"], "prefix": "global"}


def shape_v1_label(row: sqlite3.Row) -> dict[str, Any]:
    """Return a row as the API shows a v1 label."""
    return {**shape_label(row), "label": row["name"]}


def shape_state(row: sqlite3.Row) -> dict[str, Any]:
    """Return a row as the API shows a state."""
    return {"id": row["id"], "name": row["name"], "color": row["color"]}


def shape_attachment(row: sqlite3.Row) -> dict[str, Any]:
    """Return a row as the API shows a attachment."""
    version = {"number": row["version"], "message": row["comment"], "minorEdit": False, "authorId": row["author_id"]}
    download = f"/rest/api/content/{row['page_id']}/child/attachment/att{row['id']}/download"
    return {
        "id": f"att{row['id']}",
        "status": "current",
        "title": row["title"],
        "createdAt": iso(row["created"]),
        "pageId": str(row["page_id"]),
        "mediaType": row["media_type"],
        "mediaTypeDescription": row["media_type"].partition("/")[0].capitalize() or "File",
        "comment": row["comment"],
        "fileId": f"file-{row['id']}",
        "fileSize": row["size"],
        "webuiLink": f"/pages/viewpageattachments.action?pageId={row['page_id']}",
        "downloadLink": download,
        "version": version | {"createdAt": iso(row["created"])},
        "_links": {"download": download},
    }


def shape_property(row: sqlite3.Row) -> dict[str, Any]:
    """Return a row as the API shows a property."""
    version = {"number": row["version"], "message": "", "minorEdit": False, "authorId": row["author_id"]}
    return {
        "id": str(row["id"]),
        "key": row["key"],
        "value": json.loads(row["value"]),
        "version": version | {"createdAt": iso(row["created"])},
    }


def shape_comment(row: sqlite3.Row, *, with_body: bool) -> dict[str, Any]:
    """Return a row as the API shows a comment."""
    version = {"number": row["version"], "message": "", "minorEdit": False, "authorId": row["author_id"]}
    return {
        "id": str(row["id"]),
        "status": "current",
        "title": "Comment",
        "pageId": str(row["page_id"]),
        "version": version | {"createdAt": iso(row["created"])},
        "body": {"storage": {"representation": "storage", "value": row["body"]}} if with_body else {},
        "_links": {"webui": f"/pages/viewpage.action?pageId={row['page_id']}&focusedCommentId={row['id']}"},
    }


def shape_task(row: sqlite3.Row, *, with_body: bool) -> dict[str, Any]:
    """Return a row as the API shows a task."""
    body = {"storage": {"representation": "storage", "value": row["body"]}} if with_body else {}
    # The contract lets none of these be null, so what is not there is left out.
    some = {
        "assignedTo": row["assigned_to"],
        "completedBy": row["completed_by"],
        "dueAt": f"{row['due']}T00:00:00.000Z" if row["due"] else None,
        "completedAt": iso(row["completed"]),
    }
    return {
        "id": str(row["id"]),
        "localId": row["local_id"],
        "spaceId": str(row["space_id"]),
        "pageId": str(row["page_id"]),
        "status": row["status"],
        "body": body,
        "createdBy": row["created_by"],
        "createdAt": iso(row["created"]),
        "updatedAt": iso(row["updated"]),
        **{name: value for name, value in some.items() if value is not None},
    }
