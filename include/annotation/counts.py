"""Counting answers by person, answer, label and day, from a few fields of each row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from include.annotation.answers import account_of
from include.base.errors import InvalidInput
from include.systems.prodigy.values import Counted

__all__ = ["Fields", "counted", "fields_of"]


@dataclass(frozen=True)
class Fields:
    """What is counted of a row, as JSON values; None for what is absent or null.

    :param review: the row is one of Prodigy's own review interface, which does not say who reviewed.
    :param spans: the labels of the spans that have one; None without spans, anything but a list where they are no list.
    :param time: seconds since 1970.
    """

    annotator: Any
    named: Any
    review: bool
    answer: Any
    label: Any
    accept: Any
    spans: Any
    time: Any


def fields_of(content: Mapping[str, Any]) -> Fields:
    """Return what is counted of a row's content."""
    spans = content.get("spans")
    if isinstance(spans, list):
        spans = [span["label"] for span in spans if isinstance(span, dict) and "label" in span]
    elif spans is not None:
        spans = 0
    return Fields(
        annotator=content.get("_annotator_id"),
        named=content.get("_session_id"),
        review=content.get("versions") is not None,
        answer=content.get("answer"),
        label=content.get("label"),
        accept=content.get("accept"),
        spans=spans,
        time=content.get("_timestamp"),
    )


def counted(fields: Fields, session: str | None, dataset: str) -> Counted:
    """Return what a row is counted under.

    The annotator is worked out as in :func:`include.annotation.answers.read_answer`. The labels are the row's
    ``label``; without one the options picked; without such a list the labels of the spans, each once.

    :param session: the session that the row is linked to.
    :raises InvalidInput: when a field is of a kind that Prodigy never writes.
    """
    day = None if fields.time is None else _day(fields.time)
    return Counted(_annotator(fields, session, dataset), _text(fields.answer, "answer"), _labels(fields), day)


def _annotator(fields: Fields, session: str | None, dataset: str) -> str | None:
    annotator = _text(fields.annotator, "_annotator_id")
    named = _text(fields.named, "_session_id")
    prefix = f"{dataset}-"
    if fields.review:
        return None
    if annotator and session and annotator.startswith(prefix) and session.startswith(prefix) and annotator != session:
        return None
    return account_of(annotator or session or named, dataset)


def _labels(fields: Fields) -> tuple[str, ...]:
    if fields.label is not None:
        found = [fields.label]
    elif fields.accept is not None:
        found = _list(fields.accept, "accept")
    elif fields.spans is not None:
        found = [label for label in _list(fields.spans, "spans") if label is not None]
    else:
        found = []
    return tuple(sorted({_label(one) for one in found}))


def _list(found: Any, field: str) -> list[Any]:
    if not isinstance(found, list):
        raise InvalidInput(f"{field}: found {type(found).__name__}; allowed: a list")
    return found


def _label(found: Any) -> str:
    if isinstance(found, str):
        return found
    if isinstance(found, float) and found.is_integer():
        # Databases that keep JSON in a form of their own write 1.0 as 1, or 1e2 as 100.
        found = int(found)
    if isinstance(found, bool) or not isinstance(found, int) or abs(found) >= 2**63:
        raise InvalidInput(f"label: found {type(found).__name__}; allowed: a string or a whole number")
    return str(found)


def _text(found: Any, field: str) -> str | None:
    if found is not None and not isinstance(found, str):
        raise InvalidInput(f"{field}: found {type(found).__name__}; allowed: a string, or null")
    return found or None


def _day(found: Any) -> Any:
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        raise InvalidInput(f"_timestamp: found {type(found).__name__}; allowed: seconds since 1970, or null")
    try:
        return datetime.fromtimestamp(found, UTC).date()
    except (OverflowError, ValueError, OSError) as error:
        raise InvalidInput("_timestamp: found a number that is no time; allowed: seconds since 1970") from error
