"""Reading Confluence's replies: a field that is missing or of another type is named, and nothing is guessed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from include.base.errors import InvalidReply
from include.systems.confluence.values import RESTRICTABLE, Comment, PageVersion, Property, Restriction

__all__ = [
    "SYSTEM",
    "Restricted",
    "add_restricted",
    "as_storage",
    "body_of",
    "comment_of",
    "digest_in",
    "identifier",
    "link_of",
    "links_of",
    "mapping",
    "moment",
    "need",
    "optional_moment",
    "property_of",
    "restrictions_of",
    "text",
]

SYSTEM = "confluence"

Restricted = dict[str, tuple[set[str], set[str]]]
"""Accounts and groups that alone may read, and those that alone may update."""

Kind = TypeVar("Kind")


def mapping(value: Any, where: str) -> dict[str, Any]:
    """Return a JSON object.

    :raises InvalidReply: it is something else.
    """
    if not isinstance(value, dict):
        raise InvalidReply(f"confluence: {where}: expected an object, found {type(value).__name__}", system=SYSTEM)
    return value


def need(row: Mapping[str, Any], name: str, kind: type[Kind], where: str) -> Kind:
    """Return a field that must be there.

    :raises InvalidReply: it is missing, or of another type.
    """
    value = row.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        found = "nothing" if value is None else type(value).__name__
        raise InvalidReply(
            f"confluence: {where}: field `{name}`: expected {kind.__name__}, found {found}", system=SYSTEM
        )
    return value


def identifier(row: Mapping[str, Any], name: str, where: str) -> str:
    """Return an id, which some calls send as a number and others as text.

    :raises InvalidReply: it is missing.
    """
    value = row.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return need(row, name, str, where)


def text(row: Mapping[str, Any], name: str) -> str:
    """Return a text that may be missing or null, then as an empty one."""
    value = row.get(name)
    return "" if value is None else str(value)


def moment(value: Any, name: str, where: str) -> datetime:
    """Return a moment in UTC from ISO 8601 with ``Z``, ``+0000`` or an offset, or from epoch milliseconds.

    :raises InvalidReply: it is neither.
    """
    try:
        if isinstance(value, str) and not value.isdigit():
            found = datetime.fromisoformat(value)
            if found.tzinfo is not None:
                return found.astimezone(UTC)
        elif isinstance(value, (int, float, str)) and not isinstance(value, bool):
            return datetime.fromtimestamp(int(value) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        pass
    raise InvalidReply(f"confluence: {where}: field `{name}` is not a time with zone", system=SYSTEM)


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
    return mapping(row.get("_links") or {}, where)


def link_of(row: Mapping[str, Any], site: str, where: str) -> str:
    """Return the address at which a person opens what a row describes, or an empty text where it tells none.

    :param site: what the row's link is below, where neither the row nor its list says it.
    """
    links = links_of(row, where)
    base = links.get("base") or row.get("_base") or site
    return base + links["webui"] if links.get("webui") else ""


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


def property_of(row: Any, where: str) -> Property:
    """Return a content property."""
    row = mapping(row, where)
    if "value" not in row:
        raise InvalidReply(f"confluence: {where}: field `value` is missing", system=SYSTEM)
    number = need(need(row, "version", dict, where), "number", int, where)
    return Property(identifier(row, "id", where), need(row, "key", str, where), row["value"], number)


def comment_of(
    row: Mapping[str, Any], page_id: str, version: PageVersion, where: str, sent: str | None = None
) -> Comment:
    """Return a comment, whose author and time are those of its version."""
    return Comment(
        id=identifier(row, "id", where),
        page_id=text(row, "pageId") or page_id,
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
        if len(rows) >= int(page.get("limit") or unsaid):
            most = max(most, len(rows))
    return most


def restrictions_of(restricted: Restricted) -> tuple[Restriction, ...]:
    """Return what was added up, an operation without users and groups left out."""
    own = (Restriction(name, *(tuple(sorted(held)) for held in restricted[name])) for name in RESTRICTABLE)
    return tuple(item for item in own if item.users or item.groups)
