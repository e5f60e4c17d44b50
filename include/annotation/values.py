"""Small questions about an answer's value (``AnswerValue.canonical()``), asked in one place."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from include.annotation.answers import Answer
from include.base.canonical import digest_of
from include.people.register import UNKNOWN, Register

__all__ = ["choice_of", "is_ignore", "labels_of", "person_of", "plain", "unknown_person", "utc_text"]


def is_ignore(value: Mapping[str, Any]) -> bool:
    """Tell whether the person skipped the task: an ``ignore`` is no vote for any label."""
    return value.get("answer") == "ignore"


def choice_of(value: Mapping[str, Any]) -> str | None:
    """Return what two answers must share to be the same vote (a digest), or None for an ``ignore``."""
    return None if is_ignore(value) else digest_of(dict(value))


def labels_of(value: Mapping[str, Any], shown: Mapping[str, Any]) -> list[str]:
    """Return the labels that an accepted answer gives, one entry for each option, mark, relation, or accepted label."""
    if value.get("answer") != "accept":
        return []
    if "spans" in value:
        return [str(mark[-1]) for mark in (*value["spans"], *value.get("relations", ()))]
    if "segments" in value:
        return [str(label) for _, _, label in value["segments"]]
    if "regions" in value:
        return [str(label) for label, _, _ in value["regions"]]
    if "accept" in value:
        return [str(option) for option in value["accept"]]
    label = value.get("label", shown.get("label"))
    return [str(label)] if label is not None else []


def unknown_person(project: str, account: str) -> str:
    """Return how somebody who is not in the register is written down: ``unknown:`` and 12 hex characters.

    The digest is salted with the project, so that it does not name the account, and equal accounts stay equal.
    """
    return f"{UNKNOWN}:{digest_of(['labelops-account', project, account])[:12]}"


def person_of(answer: Answer, project: str, register: Register) -> str:
    """Return who answered: an id of the register as of the act, or an ``unknown:`` entry, distinct by account.

    Rows that carry neither account nor session are all one unknown person.
    """
    person = register.resolve("prodigy", answer.account, answer.time)
    if person is not None:
        return person.id
    return unknown_person(project, answer.account or answer.session or "")


def utc_text(moment: datetime | None) -> str | None:
    """Return a moment as ISO 8601 in UTC, or None."""
    return None if moment is None else moment.astimezone(UTC).isoformat()


def plain(value: Any) -> Any:
    """Return a JSON value with fractions spelled as text, so that it has canonical bytes."""
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return value
