"""Reading replies: a field that is missing or of another type is named, and nothing is guessed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from include.base.errors import InvalidReply

__all__ = ["Reader"]

Kind = TypeVar("Kind")

YEARS = range(2, 9999)
"""Years of a time that can be read: at the ends of the calendar no zone and no day's distance can be reckoned with."""


class Reader:
    """Reads the replies of one system. Every method raises :class:`InvalidReply` that names system, place and field.

    No message holds what was found, for it may be content.

    :param system: its name, in messages and errors.
    """

    def __init__(self, system: str) -> None:
        self.system = system

    def wrong(self, where: str, said: str) -> InvalidReply:
        """Return the error for a reply that its contract does not allow.

        :param where: the request, or what the reply describes.
        """
        return InvalidReply(f"{self.system}: {where}: {said}", system=self.system)

    def _unlike(self, where: str, name: str, expected: str, found: Any) -> InvalidReply:
        kind = "nothing" if found is None else type(found).__name__
        return self.wrong(where, f"field `{name}`: expected {expected}, found {kind}")

    def mapping(self, value: Any, where: str) -> dict[str, Any]:
        """Return a JSON object."""
        if not isinstance(value, dict):
            raise self.wrong(where, f"expected an object, found {type(value).__name__}")
        return value

    def need(self, row: Mapping[str, Any], name: str, kind: type[Kind], where: str) -> Kind:
        """Return a field that must be there."""
        value = row.get(name)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise self._unlike(where, name, kind.__name__, value)
        return value

    def identifier(self, row: Mapping[str, Any], name: str, where: str) -> str:
        """Return an id, which some calls send as a number and others as text; it is never empty."""
        value = row.get(name)
        if (isinstance(value, str) and value) or (isinstance(value, int) and not isinstance(value, bool)):
            return str(value)
        raise self._unlike(where, name, "an id", value or None)

    def text(self, row: Mapping[str, Any], name: str, where: str) -> str:
        """Return a text or a number, as text, that may be missing or null, then as an empty one."""
        value = row.get(name)
        if value is None:
            return ""
        if not isinstance(value, (str, int, float)) or isinstance(value, bool):
            raise self._unlike(where, name, "text", value)
        return str(value)

    def number(self, row: Mapping[str, Any], name: str, where: str, unsaid: int) -> int:
        """Return a whole number, which may come as text.

        :param unsaid: where it is missing or null.
        """
        value = row.get(name)
        if value is None:
            return unsaid
        try:
            if isinstance(value, (int, str)) and not isinstance(value, bool):
                return int(value)
        except ValueError:
            pass
        raise self._unlike(where, name, "a whole number", value)

    def part(self, row: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
        """Return an object inside a row that may be missing, null or empty, then as an empty one."""
        value = row.get(name) or {}
        if not isinstance(value, dict):
            raise self._unlike(where, name, "an object", value)
        return value

    def rows(self, row: Mapping[str, Any], name: str, where: str) -> list[dict[str, Any]]:
        """Return a list of objects that may be missing, null or empty, then as an empty one."""
        value = row.get(name) or []
        if not isinstance(value, list):
            raise self._unlike(where, name, "a list", value)
        return [self.mapping(item, f"{where}: field `{name}`") for item in value]

    def moment(self, value: Any, name: str, where: str) -> datetime:
        """Return a moment in UTC from ISO 8601 with ``Z``, ``+0000`` or an offset."""
        try:
            found = datetime.fromisoformat(value) if isinstance(value, str) else None
        except ValueError:
            found = None
        if found is None or found.tzinfo is None or found.year not in YEARS:
            raise self.wrong(where, f"field `{name}`: expected a time in ISO 8601 with a zone")
        return found.astimezone(UTC)

    def optional_moment(self, value: Any, name: str, where: str) -> datetime | None:
        """Return a moment, or None where there is none."""
        return None if value in (None, "") else self.moment(value, name, where)
