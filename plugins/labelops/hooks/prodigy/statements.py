"""Statements and small helpers that reading and writing share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Select, func, select

from include.annotation.answers import parse_content, stored_bytes
from include.base.errors import InvalidInput
from include.systems.prodigy.values import Row
from labelops.hooks.prodigy.schema import Schema

__all__ = [
    "BATCH",
    "LOOKUP",
    "PIECE_BYTES",
    "as_row",
    "chunks",
    "exact",
    "linked_pieces",
    "plain_rows",
    "sessions_of",
]

PIECE_BYTES = 8 * 1024 * 1024
"""How much content is read or written by one statement, unless a single row is larger."""

BATCH = 5000
"""How many rows are read or written by one statement, unless :data:`PIECE_BYTES` is reached before."""

LOOKUP = 500
"""How many ids go into one IN list; SQLite once allowed 999."""

Item = TypeVar("Item")

Connected = Callable[[], AbstractContextManager[Connection]]


def plain_rows(conn: Connection, statement: Select[Any]) -> Iterator[tuple[Any, ...]]:
    """Run a statement that holds numbers only, and give its rows as the driver does: nothing is converted.

    This is about three times as fast as rows that know their columns' names, which counts for millions of them.
    """
    compiled = statement.compile(dialect=conn.dialect, compile_kwargs={"literal_binds": True})
    driver = conn.connection.driver_connection
    assert driver is not None
    # Bytes come as bytes from psycopg when asked for, else as twice as many hexadecimal digits.
    cursor = driver.cursor(binary=True) if conn.dialect.name == "postgresql" else driver.cursor()
    with closing(cursor):
        cursor.execute(str(compiled))
        yield from cursor


def linked_pieces(
    connected: Connected,
    schema: Schema,
    dataset_id: int,
    *columns: ColumnElement[Any],
    after: int = 0,
    upto: int | None = None,
    batch: int = BATCH,
    within: int | None = None,
    beside: Callable[[Connection, int, int], Any] | None = None,
) -> Iterator[tuple[list[tuple[Any, ...]], Any]]:
    """Yield a dataset's rows in link order, in pieces of at most ``batch`` rows and about :data:`PIECE_BYTES`.

    Each piece is a connection of its own, closed before the piece is given out: nothing is held while the caller works
    on it, so a long pass keeps nobody from writing.

    :param columns: of ``example``, beside the link id and the content, which come first and second in each row.
    :param after, upto: only links with a higher id, and up to that one.
    :param within: only examples that are linked to this dataset or session too.
    :param beside: asked on the same connection for something about the links of a piece, first and last.
    :return: the rows, and what ``beside`` said.
    """
    link, example = schema.link, schema.example
    wanted = (
        select(link.c.id, example.c.content, *columns)
        .join_from(link, example, example.c.id == link.c.example_id)
        .where(link.c.dataset_id == dataset_id)
        .order_by(link.c.id)
    )
    if upto is not None:
        wanted = wanted.where(link.c.id <= upto)
    if within is not None:
        other = schema.link.alias("within")
        # Adding nothing keeps SQLite from looking through all links of that dataset for each row.
        there = select(other.c.id).where(other.c.example_id == link.c.example_id, other.c.dataset_id + 0 == within)
        wanted = wanted.where(there.exists())
    sizes = wanted.with_only_columns(link.c.id, func.length(example.c.content))
    while True:
        with connected() as conn:
            if conn.dialect.name == "sqlite":
                # Rows come from the file one by one: reading stops when there are enough.
                rows = _enough(plain_rows(conn, wanted.where(link.c.id > after).limit(batch)))
                last = rows[-1][0] if rows else None
            else:
                # A server sends all it was asked for: ask for no more than a piece.
                last = _last_of(plain_rows(conn, sizes.where(link.c.id > after).limit(batch)))
                rows = []
                if last is not None:
                    rows = list(plain_rows(conn, wanted.where(link.c.id > after, link.c.id <= last)))
            if last is None:
                return
            said = beside(conn, after + 1, last) if beside is not None and rows else None
        if rows:
            yield rows, said
        # The next piece is read when this one is let go.
        rows, said = [], None
        after = last


def _enough(rows: Iterator[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    held = 0
    # The generator is closed at the end, and with it the statement: it may not have been read to its end.
    with closing(rows):  # type: ignore[type-var]
        for row in rows:
            found.append(row)
            held += len(row[1])
            if held >= PIECE_BYTES:
                break
    return found


def _last_of(sizes: Iterator[tuple[Any, ...]]) -> int | None:
    """Return the last of the ids, given with their sizes, that make about a piece; at least the first."""
    last: int | None = None
    held = 0
    for number, size in sizes:
        held += size or 0
        if last is not None and held > PIECE_BYTES:
            break
        last = number
    return last


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
    return dict(plain_rows(conn, wanted))


def as_row(row: tuple[Any, ...], sessions: Mapping[int, str]) -> Row:
    """Return a row (link id, content, example id, input hash, task hash).

    Content that is no JSON object comes empty, beside its raw bytes.
    """
    link_id, content, example_id, input_hash, task_hash = row
    raw = stored_bytes(content)
    try:
        parsed = parse_content(raw)
    except InvalidInput:
        parsed = {}
    return Row(link_id, example_id, input_hash, task_hash, parsed, raw, sessions.get(example_id))


def exact(found: Sequence[Any], name: str) -> Any:
    """Return the row of exactly this name: a database may take names that differ in case for one."""
    return next((row for row in found if row.name == name), None)


def chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Cut a sequence into pieces."""
    return (items[start : start + size] for start in range(0, len(items), size))
