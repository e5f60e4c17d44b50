"""A dataset's rows, read in link order in pieces of a bounded size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, nullcontext
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, select

from include.base.errors import InvalidInput
from include.systems.prodigy.content import parse_content, stored_bytes
from include.systems.prodigy.database import Database
from include.systems.prodigy.errors import unlike
from include.systems.prodigy.schema import Schema
from include.systems.prodigy.values import Row

__all__ = ["BATCH", "PIECE_BYTES", "linked_pieces", "linked_rows", "plain_rows"]

PIECE_BYTES = 8 * 1024 * 1024
"""How much content is read or written by one statement, unless a single row is larger."""

BATCH = 5000
"""How many rows are read or written by one statement, unless :data:`PIECE_BYTES` is reached before."""


def linked_rows(
    database: Database, dataset_id: int, after: int = 0, batch: int = BATCH, upto: int | None = None
) -> Iterator[Row]:
    """Yield the rows that a dataset or session is linked to, in link order; see :func:`linked_pieces`."""
    columns = database.schema().stored
    for rows, sessions in linked_pieces(
        database, dataset_id, *columns, after=after, upto=upto, batch=batch, sessions=True
    ):
        # What was given out is not held any more.
        rows.reverse()
        while rows:
            yield _row(rows.pop(), sessions)


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
    database: Database,
    dataset_id: int,
    *columns: ColumnElement[Any],
    after: int = 0,
    upto: int | None = None,
    batch: int = BATCH,
    within: int | None = None,
    sessions: bool = False,
    conn: Connection | None = None,
) -> Iterator[tuple[list[tuple[Any, ...]], dict[int, str]]]:
    """Yield a dataset's rows in link order, in pieces of at most ``batch`` rows and about :data:`PIECE_BYTES`.

    Each piece is a connection of its own, closed before the piece is given out: nothing is held while the caller works
    on it, so a long pass keeps nobody from writing.

    :param columns: of ``example``, beside the link id and the content, which come first and second in each row.
    :param after, upto: only links with a higher id, and up to that one.
    :param within: only examples that are linked to this dataset or session too.
    :param sessions: also look up the session of each example.
    :param conn: read on this connection, which is left open.
    :return: the rows, and the sessions by example id.
    """
    schema = database.schema()
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
        with database.reading() if conn is None else nullcontext(conn) as reading:
            if database.dialect == "sqlite":
                # Rows come from the file one by one: reading stops when there are enough.
                rows = _enough(plain_rows(reading, wanted.where(link.c.id > after).limit(batch)))
                last = rows[-1][0] if rows else None
            else:
                # A server sends all it was asked for: ask for no more than a piece.
                last = _last_of(plain_rows(reading, sizes.where(link.c.id > after).limit(batch)))
                rows = []
                if last is not None:
                    rows = list(plain_rows(reading, wanted.where(link.c.id > after, link.c.id <= last)))
            if last is None:
                return
            named = _sessions_of(reading, schema, dataset_id, after + 1, last) if sessions and rows else {}
        if rows:
            yield rows, named
        # The next piece is read when this one is let go.
        rows, named = [], {}
        after = last


def _enough(rows: Iterator[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    held = 0
    # The generator is closed at the end, and with it the statement: it may not have been read to its end.
    with closing(rows):  # type: ignore[type-var]
        for row in rows:
            for place, value in enumerate(row):
                if place != 1 and type(value) is not int:
                    raise unlike(f"link {row[0]!r:.40}", "an id or a hash", "a whole number", value)
            found.append(row)
            held += len(row[1]) if isinstance(row[1], (bytes, str)) else 0
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


def _sessions_of(conn: Connection, schema: Schema, dataset_id: int, first: int, last: int) -> dict[int, str]:
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
    found = dict(plain_rows(conn, wanted))
    for example_id, name in found.items():
        if type(name) is not str:
            raise unlike(f"the session of example {example_id}", "name", "text", name)
    return found


def _row(row: tuple[Any, ...], sessions: Mapping[int, str]) -> Row:
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
