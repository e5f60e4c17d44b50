"""What the account may do."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, Executable, delete, func, insert, literal, select

from include.base.errors import AuthError, LabelopsError
from include.systems.prodigy.values import Rights
from labelops.hooks.prodigy.database import Database
from labelops.hooks.prodigy.schema import Schema, may_number

__all__ = ["RightsCheck"]

NEVER = literal(1) == literal(0)
"""The condition of a statement that is checked for its rights and touches no row."""

Tried = Callable[[Connection], bool]

REQUIREMENTS = (
    "right: SELECT on dataset, example and link",
    "right: INSERT on dataset, example and link",
    "right: USAGE on their sequences (PostgreSQL)",
    "right: DELETE on dataset, example and link (only for unlink and delete_examples, which no DAG calls)",
)


class RightsCheck(Database):
    """What the account may do."""

    @staticmethod
    def requirements() -> tuple[str, ...]:
        """Return what the account needs: the first for reports, the first three for everything that DAGs do."""
        return REQUIREMENTS

    def rights(self) -> Rights:
        """Tell what the account may do, by trying each right on no row at all; nothing is left behind.

        On SQLite the file's and its folder's permissions count: a write makes a journal beside the file.

        :raises LabelopsError: when the database cannot be reached, or is not Prodigy's.
        """
        schema = self._tables()
        missing: list[str] = []
        may: dict[str, bool] = {}
        for action, tries in (("read", _reads(schema)), ("insert", _inserts(schema)), ("delete", _deletes(schema))):
            lacks = [right for right, tried in tries if not self._may(right, tried, writes=action != "read")]
            if action != "read":
                lacks += self._folder_lacks()
            may[action] = not lacks
            missing += [right for right in lacks if right not in missing]
        return Rights(may["read"], may["insert"], may["delete"], tuple(missing))

    def test_connection(self) -> tuple[bool, str]:
        """Tell whether the account may do what the DAGs need (read and insert), and which right is missing if not."""
        try:
            schema = self._tables()
            self._refuse_unknown_required(schema)
            rights = self.rights()
            if not rights.read:
                return False, f"Prodigy's database: missing: {', '.join(rights.missing)}"
            with self._reading() as conn:
                counts = {
                    session: conn.scalar(
                        select(func.count())
                        .select_from(schema.dataset)
                        .where(schema.dataset.c.session == schema.session_flag(session))
                    )
                    for session in (False, True)
                }
        except LabelopsError as error:
            return False, str(error)
        may = ["read", *(["insert"] if rights.insert else []), *(["delete"] if rights.delete else [])]
        said = (
            f"Prodigy's tables on {self.get_conn().dialect.name}: {counts[False]} datasets, {counts[True]} sessions; "
            f"may {' and '.join(may)}"
        )
        if not rights.insert:
            lacks = [right for right in rights.missing if not right.startswith("delete")]
            said += f"; missing for adding tasks, decisions and versions: {', '.join(lacks)}"
        if schema.structured:
            said += f"; not readable: {', '.join(schema.structured)}"
        return rights.insert, said

    def _may(self, right: str, tried: Tried, *, writes: bool) -> bool:
        try:
            with self._guard(right), self.get_conn().connect() as conn:
                conn = conn.execution_options(labelops_writes=writes)
                with conn.begin() as transaction:
                    found = tried(conn)
                    transaction.rollback()
        except AuthError:
            return False
        return found

    def _folder_lacks(self) -> list[str]:
        if self.get_conn().dialect.name != "sqlite":
            return []
        with self._reading() as conn:
            file = Path(conn.exec_driver_sql("PRAGMA database_list").one()[2])
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
