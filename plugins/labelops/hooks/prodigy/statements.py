"""Statements and small helpers that reading and writing share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, Select, func, select

from include.annotation.answers import parse_content, stored_bytes
from include.base.errors import InvalidInput
from include.systems.prodigy import Row, Watermark
from labelops.hooks.prodigy.schema import Schema

__all__ = [
    "LOOKUP",
    "PIECE_BYTES",
    "as_row",
    "chunks",
    "count_upto",
    "exact",
    "pieces",
    "sessions_of",
    "sizes_of",
    "stored_rows",
    "watermark_of",
]

PIECE_BYTES = 8 * 1024 * 1024
"""How much content is read or written by one statement, unless a single row is larger."""

LOOKUP = 500
"""How many ids go into one IN list; SQLite once allowed 999."""

Item = TypeVar("Item")


def sizes_of(schema: Schema, dataset_id: int, after: int, limit: int, upto: int | None = None) -> Select[Any]:
    """Select the next link ids with the size of their content, in order of link id."""
    link, example = schema.link, schema.example
    wanted = (
        select(link.c.id, func.length(example.c.content))
        .join_from(link, example, example.c.id == link.c.example_id)
        .where(link.c.dataset_id == dataset_id, link.c.id > after)
    )
    if upto is not None:
        wanted = wanted.where(link.c.id <= upto)
    return wanted.order_by(link.c.id).limit(limit)


def stored_rows(schema: Schema, dataset_id: int, first: int, last: int) -> Select[Any]:
    """Select rows by link id, last first, so that the caller can pop them off."""
    link, example = schema.link, schema.example
    return (
        select(
            link.c.id.label("link_id"),
            example.c.id.label("example_id"),
            example.c.input_hash,
            example.c.task_hash,
            example.c.content,
        )
        .join_from(link, example, example.c.id == link.c.example_id)
        .where(link.c.dataset_id == dataset_id, link.c.id.between(first, last))
        .order_by(link.c.id.desc())
    )


def sessions_of(conn: Connection, schema: Schema, dataset_id: int, first: int, last: int) -> dict[int, str]:
    """Return the session of each example of a piece, by example id; the first one where there are several."""
    link, other, dataset = schema.link, schema.link.alias("other"), schema.dataset
    wanted = (
        select(other.c.example_id, dataset.c.name)
        .select_from(
            link.join(other, other.c.example_id == link.c.example_id).join(dataset, dataset.c.id == other.c.dataset_id)
        )
        .where(
            link.c.dataset_id == dataset_id,
            link.c.id.between(first, last),
            dataset.c.session == schema.session_flag(True),
        )
        .order_by(other.c.id.desc())
    )
    return {row.example_id: row.name for row in conn.execute(wanted)}


def as_row(row: Any, sessions: Mapping[int, str]) -> Row:
    """Return a selected row; content that is no JSON object comes empty, beside its raw bytes."""
    raw = stored_bytes(row.content)
    try:
        content = parse_content(raw)
    except InvalidInput:
        content = {}
    return Row(
        link_id=row.link_id,
        example_id=row.example_id,
        input_hash=row.input_hash,
        task_hash=row.task_hash,
        content=content,
        raw=raw,
        session=sessions.get(row.example_id),
    )


def watermark_of(conn: Connection, schema: Schema, dataset_id: int) -> Watermark:
    """Return how many links a dataset has, and the highest of them."""
    wanted = select(func.count(), func.max(schema.link.c.id)).where(schema.link.c.dataset_id == dataset_id)
    count, last = conn.execute(wanted).one()
    return Watermark(int(count), int(last or 0))


def count_upto(conn: Connection, schema: Schema, dataset_id: int, last: int) -> int:
    """Return how many links of a dataset have an id up to ``last``."""
    link = schema.link
    wanted = select(func.count()).select_from(link).where(link.c.dataset_id == dataset_id, link.c.id <= last)
    return int(conn.scalar(wanted) or 0)


def exact(found: Sequence[Any], name: str) -> Any:
    """Return the row of exactly this name: a database may take names that differ in case for one."""
    return next((row for row in found if row.name == name), None)


def pieces(sizes: Sequence[Any]) -> Iterator[tuple[int, int]]:
    """Cut a run of (id, size) into ranges of ids that hold about :data:`PIECE_BYTES` each."""
    first, held = None, 0
    last = 0
    for number, size in sizes:
        if first is not None and held + (size or 0) > PIECE_BYTES:
            yield first, last
            first, held = None, 0
        first = number if first is None else first
        held += size or 0
        last = number
    if first is not None:
        yield first, last


def chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Cut a sequence into pieces."""
    return (items[start : start + size] for start in range(0, len(items), size))
