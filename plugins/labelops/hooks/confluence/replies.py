"""Reading Confluence's replies: a field that is missing or of another type is named, and nothing is guessed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from include.base.errors import InvalidReply

__all__ = ["SYSTEM", "digest_in", "identifier", "mapping", "moment", "need", "optional_moment", "text"]

SYSTEM = "confluence"

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
