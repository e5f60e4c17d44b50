"""Jira's replies as values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import requests

from include.base.errors import (
    InvalidInput,
    InvalidReply,
    OutsideError,
)
from include.systems.http import refusal
from include.systems.jira.values import Issue, IssueComment

__all__ = ["SYSTEM", "comment_of", "error_of", "issue_of", "next_offset", "object_of", "offset_of", "rows_of"]

SYSTEM = "jira"

Row = TypeVar("Row")


def issue_of(row: Any) -> Issue:
    """Return an issue.

    :raises InvalidReply: it lacks a field.
    """
    row = object_of(row, "an issue")
    fields = object_of(row.get("fields"), "an issue's fields")
    try:
        status = fields["status"]
        assignee = fields.get("assignee") or {}
        return Issue(
            id=str(row["id"]),
            key=str(row["key"]),
            project=str(fields["project"]["key"]),
            kind=str(fields["issuetype"]["name"]),
            summary=str(fields["summary"]),
            status=str(status["name"]),
            category=str((status.get("statusCategory") or {}).get("key") or ""),
            updated=_time(fields["updated"]),
            assignee=assignee.get("accountId") or assignee.get("name"),
            labels=tuple(fields.get("labels") or ()),
            raw=row,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise InvalidReply(f"jira: an issue lacks the field {error}", system=SYSTEM) from error


def comment_of(row: Any) -> IssueComment:
    """Return a comment.

    :raises InvalidReply: it lacks a field.
    """
    row = object_of(row, "a comment")
    author = object_of(row.get("author"), "a comment's author")
    try:
        account = author.get("accountId") or author["name"]
        return IssueComment(str(row["id"]), str(account), str(row["body"]), _time(row["created"]))
    except KeyError as error:
        raise InvalidReply(f"jira: a comment lacks the field {error}", system=SYSTEM) from error


def _time(value: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InvalidReply(f"jira: a time is spelled {value!r}; expected ISO 8601 with a zone", system=SYSTEM)
    return moment.astimezone(UTC)


def rows_of(found: Mapping[str, Any], name: str, read: Callable[[Any], Row]) -> list[Row]:
    """Return the list of a reply, each row read.

    :raises InvalidReply: there is no list of this name.
    """
    rows = found.get(name)
    if not isinstance(rows, list):
        raise InvalidReply(f"jira: the reply has no list `{name}`", system=SYSTEM)
    return [read(row) for row in rows]


def next_offset(found: Mapping[str, Any], rows: list[Row], start: int) -> tuple[list[Row], str | None]:
    """Return a page by offset: its own length says where the next begins, for the server may cut the length asked."""
    total = found.get("total")
    following = start + len(rows)
    return rows, str(following) if rows and isinstance(total, int) and following < total else None


def offset_of(place: str | None) -> int:
    """Return the place of a listing as a number of rows.

    :raises InvalidInput: it is none.
    """
    if place is not None and not place.isdecimal():
        raise InvalidInput(f"jira: state of a listing: found the place {place!r:.80}, allowed: a number of rows")
    return int(place or 0)


def object_of(value: Any, where: str) -> dict[str, Any]:
    """Return a JSON object, or raise InvalidReply."""
    if not isinstance(value, dict):
        raise InvalidReply(f"jira: {where}: expected an object, found {type(value).__name__}", system=SYSTEM)
    return value


def error_of(method: str, path: str, response: requests.Response) -> OutsideError | InvalidInput:
    """Return what a refusal means, with Jira's own words."""
    status = response.status_code
    message = f"jira: {method} {path}: {status}, {_reason(response)}"
    return refusal(status, message, SYSTEM, bad_input=(400, 413, 415, 422), unsupported=(405, 410))


def _reason(response: requests.Response) -> str:
    """Return Jira's own words: ``errorMessages``, then what it says of each field."""
    try:
        body = response.json()
    except ValueError:
        return "no JSON in the reply"
    if not isinstance(body, dict):
        return "no reason in the reply"
    said = [str(text) for text in body.get("errorMessages") or []]
    fields = body.get("errors")
    if isinstance(fields, dict):
        said += [f"{name}: {text}" for name, text in sorted(fields.items())]
    return ("; ".join(said) or str(body.get("message") or "no reason in the reply"))[:500]
