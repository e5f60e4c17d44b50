"""What the account may do, found out by trying each right on no row at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, Executable, delete, insert, literal, select

from include.base.errors import AuthError
from include.systems.prodigy import statements
from include.systems.prodigy.database import Database
from include.systems.prodigy.schema import Schema, may_number
from include.systems.prodigy.values import Rights

__all__ = ["REQUIREMENTS", "rights_of"]

REQUIREMENTS = (
    "right: SELECT on dataset, example and link",
    "right: INSERT on dataset, example and link",
    "right: USAGE on their sequences (PostgreSQL)",
    "right: DELETE on dataset, example and link (only for unlink and delete_examples, which no DAG calls)",
)

NEVER = literal(1) == literal(0)
"""The condition of a statement that is checked for its rights and touches no row."""

Tried = Callable[[Connection], bool]


def rights_of(database: Database) -> Rights:
    """Return what the account may do; nothing is left behind."""
    schema = database.schema()
    missing: list[str] = []
    may: dict[str, bool] = {}
    for action, tries in (("read", _reads(schema)), ("insert", _inserts(schema)), ("delete", _deletes(schema))):
        lacks = [right for right, tried in tries if not _may(database, right, tried, writes=action != "read")]
        if action != "read":
            lacks += _folder_lacks(database)
        may[action] = not lacks
        missing += [right for right in lacks if right not in missing]
    return Rights(may["read"], may["insert"], may["delete"], tuple(missing))


def _may(database: Database, right: str, tried: Tried, *, writes: bool) -> bool:
    try:
        return database.attempt(tried, right=right, writes=writes)
    except AuthError:
        return False


def _folder_lacks(database: Database) -> list[str]:
    if database.dialect != "sqlite":
        return []
    with database.reading() as conn:
        file = Path(conn.exec_driver_sql(statements.FILES).one()[2])
    by_account = os.access in os.supports_effective_ids
    places = (file, file.parent)
    return [f"write into {place}" for place in places if not os.access(place, os.W_OK, effective_ids=by_account)]


def _reads(schema: Schema) -> Iterator[tuple[str, Tried]]:
    for table in (schema.dataset, schema.example, schema.link):
        yield f"read {table.name}", partial(_run, select(*table.c).where(NEVER))


def _inserts(schema: Schema) -> Iterator[tuple[str, Tried]]:
    for table in (schema.dataset, schema.example, schema.link):
        columns = [column for column in table.c if column.name != "id"]
        nothing = select(*columns).where(NEVER)
        yield f"insert into {table.name}", partial(_run, insert(table).from_select([c.name for c in columns], nothing))
        yield f"use the sequence of {table.name}.id", partial(may_number, table=table.name)


def _deletes(schema: Schema) -> Iterator[tuple[str, Tried]]:
    for table in (schema.dataset, schema.example, schema.link):
        right = f"delete from {table.name}"  # noqa: S608 - words for people, not a statement
        yield right, partial(_run, delete(table).where(NEVER))


def _run(statement: Executable, conn: Connection) -> bool:
    conn.execute(statement)
    return True
