"""Jira's replies as values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import requests

from include.base.errors import InvalidInput, OutsideError
from include.systems.confluence.values import User
from include.systems.http import refusal, said_in
from include.systems.jira.values import Issue, IssueComment
from include.systems.reading import Reader

__all__ = [
    "SYSTEM",
    "comment_of",
    "error_of",
    "identifier",
    "issue_of",
    "next_offset",
    "object_of",
    "offset_of",
    "place_of",
    "rows_of",
    "transitions_of",
    "user_of",
]

SYSTEM = "jira"

_READ = Reader(SYSTEM)
object_of, need, identifier = _READ.mapping, _READ.need, _READ.identifier

Row = TypeVar("Row")


def issue_of(row: Any) -> Issue:
    """Return an issue.

    :raises InvalidReply: it lacks a field, or has one of another type.
    """
    where = "an issue"
    row = object_of(row, where)
    fields = need(row, "fields", dict, where)
    status, assignee = need(fields, "status", dict, where), _READ.part(fields, "assignee", where)
    labels = fields.get("labels") or []
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise _READ.wrong(where, "field `labels`: expected a list of texts")
    return Issue(
        id=identifier(row, "id", where),
        key=identifier(row, "key", where),
        project=identifier(need(fields, "project", dict, where), "key", where),
        kind=identifier(need(fields, "issuetype", dict, where), "name", where),
        summary=need(fields, "summary", str, where),
        status=identifier(status, "name", where),
        category=_READ.text(_READ.part(status, "statusCategory", where), "key", where),
        updated=_READ.moment(fields.get("updated"), "updated", where),
        assignee=_account(assignee, where),
        labels=tuple(labels),
        raw=row,
    )


def comment_of(row: Any) -> IssueComment:
    """Return a comment.

    :raises InvalidReply: it lacks a field, or has one of another type.
    """
    where = "a comment"
    row = object_of(row, where)
    author = need(row, "author", dict, where)
    return IssueComment(
        id=identifier(row, "id", where),
        author=_account(author, where) or identifier(author, "name", where),
        body=need(row, "body", str, where),
        created=_READ.moment(row.get("created"), "created", where),
    )


def user_of(row: Any) -> User | None:
    """Return the account behind the credential, None for an anonymous visitor.

    :raises InvalidReply: it has a field of another type.
    """
    where = "the account"
    row = object_of(row, where)
    account = _account(row, where)
    return None if account is None else User(account, _READ.text(row, "displayName", where))


def transitions_of(row: Any) -> dict[str, str]:
    """Return the transitions from where an issue is: the status that each leads to, and its id.

    :raises InvalidReply: it has a field of another type.
    """
    where = "the transitions"
    ways = _READ.rows(object_of(row, where), "transitions", where)
    return {identifier(_READ.part(way, "to", where), "name", where): identifier(way, "id", where) for way in ways}


def _account(row: Mapping[str, Any], where: str) -> str | None:
    return _READ.text(row, "accountId", where) or _READ.text(row, "name", where) or None


def rows_of(found: Mapping[str, Any], name: str, read: Callable[[Any], Row]) -> list[Row]:
    """Return the list of a reply, each row read.

    :raises InvalidReply: there is no list of this name.
    """
    return [read(row) for row in need(found, name, list, "a list")]


def next_offset(found: Mapping[str, Any], rows: list[Row], start: int) -> tuple[list[Row], str | None]:
    """Return a page by offset: its own length says where the next begins, for the server may cut the length asked."""
    total = found.get("total")
    following = start + len(rows)
    return rows, str(following) if rows and isinstance(total, int) and following < total else None


def place_of(found: Mapping[str, Any]) -> str | None:
    """Return the token of the next page, None after the last.

    :raises InvalidReply: it is no text.
    """
    following = _READ.text(found, "nextPageToken", "a list") or None
    return None if found.get("isLast", following is None) else following


def offset_of(place: str | None) -> int:
    """Return the place of a listing as a number of rows.

    :raises InvalidInput: it is none.
    """
    if place is not None and not place.isdecimal():
        raise InvalidInput(f"jira: state of a listing: found the place {place!r:.80}, allowed: a number of rows")
    return int(place or 0)


def error_of(method: str, path: str, response: requests.Response) -> OutsideError | InvalidInput:
    """Return what a refusal means, with Jira's own words."""
    status = response.status_code
    message = f"jira: {method} {path}: {status}, {_reason(response)}"
    return refusal(status, message, SYSTEM, bad_input=(400, 413, 415, 422), unsupported=(405, 410))


def _reason(response: requests.Response) -> str:
    """Return Jira's own words: ``errorMessages``, then what it says of each field."""
    body = said_in(response)
    if body is None:
        return "no JSON in the reply"
    messages = body.get("errorMessages")
    said = [str(text) for text in messages] if isinstance(messages, list) else []
    fields = body.get("errors")
    if isinstance(fields, dict):
        said += [f"{name}: {text}" for name, text in sorted(fields.items())]
    return ("; ".join(said) or str(body.get("message") or "no reason in the reply"))[:500]
