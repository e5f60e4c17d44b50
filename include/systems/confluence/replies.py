"""Reading Confluence's replies: a field that is missing or of another type is named, and nothing is guessed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from include.base.errors import InvalidReply
from include.systems.confluence.values import RESTRICTABLE, Comment, PageVersion, Property, Restriction
from include.systems.reading import Reader

__all__ = [
    "SYSTEM",
    "Restricted",
    "add_restricted",
    "as_storage",
    "body_of",
    "comment_of",
    "digest_in",
    "file_name_of",
    "identifier",
    "link_of",
    "links_of",
    "mapping",
    "moment",
    "need",
    "number",
    "optional_moment",
    "part",
    "property_of",
    "restrictions_of",
    "text",
]

SYSTEM = "confluence"

Restricted = dict[str, tuple[set[str], set[str]]]
"""Accounts and groups that alone may read, and those that alone may update."""

_READ = Reader(SYSTEM)
mapping, part, need = _READ.mapping, _READ.part, _READ.need
identifier, number, text = _READ.identifier, _READ.number, _READ.text


def moment(value: Any, name: str, where: str) -> datetime:
    """Return a moment in UTC from ISO 8601 with ``Z``, ``+0000`` or an offset, or from epoch milliseconds.

    :raises InvalidReply: it is neither.
    """
    if isinstance(value, bool) or not (isinstance(value, (int, float)) or (isinstance(value, str) and value.isdigit())):
        return _READ.moment(value, name, where)
    try:
        return _READ.moment(datetime.fromtimestamp(int(value) / 1000, UTC).isoformat(), name, where)
    except (ValueError, OverflowError, OSError) as error:
        raise _READ.wrong(where, f"field `{name}`: expected a time in milliseconds") from error


def optional_moment(value: Any, name: str, where: str) -> datetime | None:
    """Return a moment, or None where there is none."""
    return None if value in (None, "") else moment(value, name, where)


def digest_in(comment: str) -> str | None:
    """Return the SHA-256 that an attachment's comment holds as ``sha256:<hex>``, or None."""
    for word in comment.split():
        value = word.removeprefix("sha256:")
        if value != word and len(value) == 64 and all(character in "0123456789abcdef" for character in value):
            return value
    return None


# --- what both flavours send alike ---------------------------------------------------------------------------------


def links_of(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the links of a row or document, which may have none."""
    return part(row, "_links", where)


def link_of(row: Mapping[str, Any], site: str, where: str) -> str:
    """Return the address at which a person opens what a row describes, or an empty text where it tells none.

    :param site: what the row's link is below, where neither the row nor its list says it.
    """
    links = links_of(row, where)
    base, path = text(links, "base", where) or text(row, "_base", where) or site, text(links, "webui", where)
    return base + path if path else ""


def as_storage(body: str) -> dict[str, str]:
    """Return a body as it is sent."""
    return {"representation": "storage", "value": body}


def body_of(row: Mapping[str, Any], where: str, sent: str | None = None) -> str:
    """Return a body in storage format.

    :param sent: what was sent, for the reply to a write that may leave it out.
    """
    if sent is not None and not row.get("body"):
        return sent
    body = need(row, "body", dict, where)
    return need(need(body, "storage", dict, where), "value", str, where)


def file_name_of(reply: Any, where: str) -> str:
    """Return the name under which an uploaded file is kept, from a list of one file or from the file itself."""
    reply = mapping(reply, where)
    rows = need(reply, "results", list, where) if "results" in reply else [reply]
    return need(mapping(rows[0] if rows else None, where), "title", str, where)


def property_of(row: Any, where: str) -> Property:
    """Return a content property."""
    row = mapping(row, where)
    if "value" not in row:
        raise InvalidReply(f"confluence: {where}: field `value` is missing", system=SYSTEM)
    version = need(need(row, "version", dict, where), "number", int, where)
    return Property(identifier(row, "id", where), need(row, "key", str, where), row["value"], version)


def comment_of(
    row: Mapping[str, Any], page_id: str, version: PageVersion, where: str, sent: str | None = None
) -> Comment:
    """Return a comment, whose author and time are those of its version."""
    return Comment(
        id=identifier(row, "id", where),
        page_id=text(row, "pageId", where) or page_id,
        author_id=version.author_id,
        created=version.created,
        body=body_of(row, where, sent),
        version=version.number,
    )


def add_restricted(
    inside: Mapping[str, Any], account: str, held: tuple[set[str], set[str]], where: str, unsaid: int
) -> int:
    """Add the users and groups of one reply; return by how many rows to go on, 0 at the end.

    :param account: the field that names a user's account.
    :param unsaid: rows of a full list, where it does not say its limit: the server may allow fewer than asked for.
    """
    most = 0
    for part, name, into in zip(("user", "group"), (account, "name"), held, strict=True):
        page = need(inside, part, dict, where)
        rows = [mapping(row, where) for row in need(page, "results", list, where)]
        into.update(need(row, name, str, where) for row in rows)
        if len(rows) >= (number(page, "limit", where, unsaid) or unsaid):
            most = max(most, len(rows))
    return most


def restrictions_of(restricted: Restricted) -> tuple[Restriction, ...]:
    """Return what was added up, an operation without users and groups left out."""
    own = (Restriction(name, *(tuple(sorted(held)) for held in restricted[name])) for name in RESTRICTABLE)
    return tuple(item for item in own if item.users or item.groups)
