"""Counting a dataset's rows where they are: by person, answer, label and day, from a few fields of each row."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import select, text

from include.base.errors import InvalidInput, InvalidReply
from include.systems.prodigy import statements
from include.systems.prodigy.content import annotator_of, parse_content
from include.systems.prodigy.database import Database
from include.systems.prodigy.rows import linked_pieces
from include.systems.prodigy.values import Counted, Counts

__all__ = ["Fields", "count_rows", "counted", "fields_of"]

RANGE = 50_000
"""How many links one statement counts: a row that the database cannot read makes only its range be read here."""


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


Group = tuple[Fields | None, str | None, int]
"""Fields (None for a row that holds no JSON object), the linked session, and how many rows have them."""


def count_rows(database: Database, dataset: str, dataset_id: int) -> Counts:
    """Count the rows of a dataset."""
    found: Counter[Counted] = Counter()
    unreadable = 0
    for fields, session, count in _groups(database, dataset_id):
        try:
            if fields is None:
                raise InvalidInput("not a JSON object")
            found[counted(fields, session, dataset)] += count
        except InvalidInput:
            unreadable += count
    return Counts(unreadable, found)


def _groups(database: Database, dataset_id: int) -> Iterator[Group]:
    if database.dialect == "sqlite":
        yield from _read(database, dataset_id, 0, None)
        return
    for after, upto in _ranges(database, dataset_id):
        groups = _counted_there(database, dataset_id, after, upto)
        yield from _read(database, dataset_id, after, upto) if groups is None else groups


def _ranges(database: Database, dataset_id: int) -> Iterator[tuple[int, int]]:
    link = database.schema().link
    of_dataset = select(link.c.id).where(link.c.dataset_id == dataset_id)
    after = 0
    while True:
        some = of_dataset.where(link.c.id > after).order_by(link.c.id)
        with database.reading() as conn:
            upto = conn.scalar(some.offset(RANGE - 1).limit(1))
            if upto is None:
                upto = conn.scalar(of_dataset.where(link.c.id > after).order_by(link.c.id.desc()).limit(1))
        if upto is None:
            return
        yield after, upto
        after = upto


def _counted_there(database: Database, dataset_id: int, after: int, upto: int) -> list[Group] | None:
    """Let the server count; None when it cannot read one of the rows."""
    schema = database.schema()
    if database.dialect == "postgresql":
        statement = statements.COUNT_POSTGRESQL
        content = "e.content" if schema.content_is_text else "convert_from(e.content, 'UTF8')"
        true = "true" if schema.session_is_boolean else "1"
    else:
        statement, content, true = statements.COUNT_MYSQL, "CONVERT(e.content USING utf8mb4)", "1"
    counting = text(statement.replace("#CONTENT", content).replace("#TRUE", true))
    try:
        with database.reading() as conn:
            rows = conn.execute(counting, {"dataset": dataset_id, "after": after, "upto": upto}).all()
    except (InvalidInput, InvalidReply):
        return None
    found: list[Group] = []
    for good, annotator, named, review, answer, label, accept, spans, day, session, count in rows:
        if not good:
            return None
        fields = Fields(
            annotator=_value(annotator),
            named=_value(named),
            review=bool(review),
            answer=_value(answer),
            label=_value(label),
            accept=_value(accept),
            spans=_value(spans),
            time=_time(day),
        )
        found.append((fields, None if session is None else _words(session), int(count)))
    return found


def _read(database: Database, dataset_id: int, after: int, upto: int | None) -> Iterator[Group]:
    example = database.schema().example
    for rows, sessions in linked_pieces(database, dataset_id, example.c.id, after=after, upto=upto, sessions=True):
        for _, content, example_id in rows:
            try:
                fields = fields_of(parse_content(content))
            except InvalidInput:
                yield None, None, 1
            else:
                yield fields, sessions.get(example_id), 1


def _words(found: Any) -> str:
    return found if isinstance(found, str) else bytes(found).decode("utf-8")


def _value(found: Any) -> Any:
    return None if found is None else json.loads(_words(found))


def _time(found: Any) -> Any:
    """Return seconds of the day that the server worked out, or the JSON value as it was."""
    if found is None:
        return None
    words = _words(found)
    return int(words.removeprefix("day")) * 86400 if words.startswith("day") else json.loads(words)


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

    The labels are the row's ``label``; without one the options picked; without such a list the labels of the spans,
    each once.

    :param session: the session that the row is linked to.
    :raises InvalidInput: when a field is of a kind that Prodigy never writes.
    """
    day = None if fields.time is None else _day(fields.time)
    annotator, named = _text(fields.annotator, "_annotator_id"), _text(fields.named, "_session_id")
    account = annotator_of(annotator, session, named, dataset, review=fields.review)
    return Counted(account, _text(fields.answer, "answer"), _labels(fields), day)


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


def _day(found: Any) -> date:
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        raise InvalidInput(f"_timestamp: found {type(found).__name__}; allowed: seconds since 1970, or null")
    try:
        return datetime.fromtimestamp(found, UTC).date()
    except (OverflowError, ValueError, OSError) as error:
        raise InvalidInput("_timestamp: found a number that is no time; allowed: seconds since 1970") from error
