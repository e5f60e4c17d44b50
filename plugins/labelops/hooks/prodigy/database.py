"""Connections, transactions and the schema: what the other parts of the hook stand on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from airflow.sdk import BaseHook
from sqlalchemy import Connection, Engine, select
from sqlalchemy.exc import SQLAlchemyError

from include.base.errors import Unsupported
from labelops.hooks.prodigy.engine import make_engine
from labelops.hooks.prodigy.errors import SYSTEM, Again, database_error
from labelops.hooks.prodigy.schema import Schema, introspect
from labelops.hooks.prodigy.statements import exact

__all__ = ["Database"]

TRANSACTION_TRIES = 5

Result = TypeVar("Result")


class Database(BaseHook):
    """One database of Prodigy's, reached through an Airflow connection."""

    conn_name_attr = "prodigy_conn_id"
    default_conn_name = "prodigy_default"
    conn_type = "prodigy"
    hook_name = "Prodigy database"

    def __init__(self, prodigy_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.prodigy_conn_id = prodigy_conn_id
        self._engine: Engine | None = None
        self._schema: Schema | None = None

    def get_conn(self) -> Engine:
        """Return the SQLAlchemy engine, made on first use; it has not connected yet.

        :raises InvalidInput: when the connection is not filled in as the class says.
        """
        if self._engine is None:
            self._engine = make_engine(self.get_connection(self.prodigy_conn_id), self.prodigy_conn_id)
        return self._engine

    def _transaction(self, work: Callable[[Connection], Result]) -> Result:
        """Run ``work`` in one write transaction, again from its start when the database undid it for another's sake."""
        for attempt in range(1, TRANSACTION_TRIES + 1):
            try:
                with self._guard("insert"), self.get_conn().connect() as conn:
                    conn = conn.execution_options(labelops_writes=True)
                    with conn.begin():
                        return work(conn)
            except Again as error:
                if attempt == TRANSACTION_TRIES:
                    raise
                self.log.warning("A transaction on Prodigy's database gave way to another and is run again: %s", error)
        raise AssertionError("unreachable")

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._guard("read"), self.get_conn().connect() as conn:
            yield conn

    @contextmanager
    def _guard(self, right: str) -> Iterator[None]:
        """Turn the driver's errors into ours."""
        try:
            yield
        except SQLAlchemyError as error:
            raise database_error(error, right) from error

    def _dataset_id(self, name: str) -> int | None:
        schema = self._tables()
        table = schema.dataset
        wanted = select(table.c.id, table.c.name).where(
            table.c.name == name, table.c.session == schema.session_flag(False)
        )
        with self._reading() as conn:
            found = exact(conn.execute(wanted).all(), name)
        if found is None:
            self._refuse_structured(schema, name)
            return None
        return int(found.id)

    def _refuse_new_structured(self, schema: Schema, name: str) -> None:
        if schema.structured and self._dataset_id(name) is None:
            self._refuse_structured(schema, name)

    def _refuse_structured(self, schema: Schema, name: str) -> None:
        if schema.structured:
            raise Unsupported(
                f"dataset {name} is not in Prodigy's table `dataset`, but may be in {', '.join(schema.structured)}, "
                "whose layout is unknown; nothing was read or written",
                system=SYSTEM,
            )

    def _tables(self) -> Schema:
        if self._schema is None:
            with self._reading() as conn:
                self._schema = introspect(conn)
            if self._schema.structured:
                self.log.warning(
                    "Prodigy's database has the tables %s, which Labelops does not know: datasets that are only there "
                    "are refused",
                    ", ".join(self._schema.structured),
                )
        return self._schema
