"""Inserting prepared rows: examples and their links, in the fastest way that each engine is sure to do right."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Insert, func, insert, select, text

from include.base.errors import InvalidReply
from include.systems.prodigy import statements
from include.systems.prodigy.errors import SYSTEM
from include.systems.prodigy.rows import PIECE_BYTES
from include.systems.prodigy.schema import Schema

__all__ = ["Prepared", "by_size", "insert_rows"]

STATEMENT_BYTES = 512 * 1024
"""How much content one INSERT of several rows carries, unless a single row is larger: MySQL has a packet's limit."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A row that was checked and serialised."""

    name: str
    input_hash: int
    task_hash: int
    content: bytes


def by_size(rows: Iterable[Prepared], batch: int, size: int = PIECE_BYTES) -> Iterator[list[Prepared]]:
    """Gather rows into batches of at most ``batch`` rows and about ``size`` bytes; each is given out when full."""
    some: list[Prepared] = []
    held = 0
    for row in rows:
        some.append(row)
        held += len(row.content)
        if len(some) >= batch or held >= size:
            yield some
            some, held = [], 0
    if some:
        yield some


def insert_rows(conn: Connection, schema: Schema, dataset_id: int, rows: Sequence[Prepared]) -> None:
    """Insert examples and link them to a dataset, link ids in the order of the rows; inside a write transaction."""
    if conn.dialect.name == "sqlite":
        _sqlite(conn, dataset_id, rows)
    elif conn.dialect.name == "postgresql" and schema.sequences is not None:
        _postgresql(conn, schema, schema.sequences, dataset_id, rows)
    else:
        for some in by_size(rows, len(rows), STATEMENT_BYTES):
            _generic(conn, schema, dataset_id, some)


def _sqlite(conn: Connection, dataset_id: int, rows: Sequence[Prepared]) -> None:
    # The transaction holds the only write lock, so the next ids are known: those that SQLite itself would give.
    top = int(conn.scalar(text(statements.NEWEST_EXAMPLE)) or 0)
    conn.exec_driver_sql(
        statements.INSERT_EXAMPLE,
        [(top + place, row.input_hash, row.task_hash, row.content) for place, row in enumerate(rows, 1)],
    )
    conn.exec_driver_sql(
        statements.INSERT_LINK,
        [(top + place, dataset_id) for place in range(1, len(rows) + 1)],
    )


def _postgresql(
    conn: Connection, schema: Schema, sequences: tuple[str, str], dataset_id: int, rows: Sequence[Prepared]
) -> None:
    # Ids are taken from the tables' own sequences first: a returned id could not be told to its row.
    examples, links = (_numbers(conn, sequence, len(rows)) for sequence in sequences)
    contents: list[Any] = [row.content.decode("ascii") if schema.content_is_text else row.content for row in rows]
    conn.execute(
        text(statements.INSERT_EXAMPLES.format(kind="text" if schema.content_is_text else "bytea")),
        {
            "ids": examples,
            "inputs": [row.input_hash for row in rows],
            "tasks": [row.task_hash for row in rows],
            "contents": contents,
        },
    )
    conn.execute(text(statements.INSERT_LINKS), {"ids": links, "examples": examples, "dataset": dataset_id})


def _numbers(conn: Connection, sequence: str, count: int) -> list[int]:
    wanted = select(func.nextval(sequence)).select_from(func.generate_series(1, count).alias("numbers"))
    return sorted(conn.scalars(wanted))


def _generic(conn: Connection, schema: Schema, dataset_id: int, rows: Sequence[Prepared]) -> None:
    values = [
        {
            "input_hash": row.input_hash,
            "task_hash": row.task_hash,
            "content": row.content.decode("ascii") if schema.content_is_text else row.content,
        }
        for row in rows
    ]
    if conn.dialect.insert_returning:
        statement = insert(schema.example).returning(schema.example.c.id, sort_by_parameter_order=True)
        ids = list(conn.scalars(statement, values))
    else:
        # MySQL itself (unlike MariaDB) cannot return the ids of several rows.
        ids = [_inserted_id(conn, insert(schema.example).values(**one)) for one in values]
    conn.execute(insert(schema.link), [{"example_id": example_id, "dataset_id": dataset_id} for example_id in ids])


def _inserted_id(conn: Connection, statement: Insert) -> int:
    key = conn.execute(statement).inserted_primary_key
    if key is None:
        raise InvalidReply("the database did not tell the id of the example it inserted", system=SYSTEM)
    return int(key[0])
