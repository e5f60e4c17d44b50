"""Connections, transactions and the schema: what the other parts of the hook stand on."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import psycopg
import pymysql
from airflow.sdk import BaseHook
from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.exc import SQLAlchemyError

from include.base.errors import Unavailable, Unsupported
from labelops.hooks.prodigy import engine
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
            self._engine = engine.make_engine(self.get_connection(self.prodigy_conn_id), self.prodigy_conn_id)
        return self._engine

    def _transaction(
        self, work: Callable[[Connection], Result], *, dataset: str | None = None, right: str = "insert"
    ) -> Result:
        """Run ``work`` in one write transaction, again from its start when the database undid it for another's sake.

        :param dataset: whose writers wait for each other until the transaction ends. On SQLite all of them do.
        :param right: what is needed, named when it is missing.
        """
        for attempt in range(1, TRANSACTION_TRIES + 1):
            try:
                with self._guard(right), self.get_conn().connect() as conn:
                    conn = conn.execution_options(labelops_writes=True)
                    with conn.begin():
                        if dataset is not None:
                            _wait_for(conn, dataset)
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
        except (SQLAlchemyError, sqlite3.Error, psycopg.Error, pymysql.Error) as error:
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

    def _refuse_unknown_required(self, schema: Schema) -> None:
        if schema.unknown_required:
            raise Unsupported(
                f"Prodigy's tables have columns that need a value and that Labelops does not know: "
                f"{', '.join(schema.unknown_required)}; nothing was written",
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


def _wait_for(conn: Connection, dataset: str) -> None:
    """Wait until no other writer of ours is in this dataset; the lock ends with the transaction.

    It is an advisory lock: one on the dataset's row would need the right to update, and Prodigy's own saves would wait
    for it. MySQL's belongs to the connection, which is closed right after the transaction.
    """
    digest = hashlib.sha256(f"labelops prodigy {dataset}".encode()).digest()
    if conn.dialect.name == "postgresql":
        conn.execute(select(func.pg_advisory_xact_lock(int.from_bytes(digest[:8], "big", signed=True))))
    elif conn.dialect.name == "mysql":
        # The name is one for the whole server: another database there may have a dataset of this name.
        where = conn.scalar(select(func.database()))
        name = hashlib.sha256(f"labelops prodigy {where} {dataset}".encode()).hexdigest()[:60]
        if conn.scalar(select(func.get_lock(name, engine.LOCK_SECONDS))) != 1:
            raise Unavailable(
                f"dataset {dataset}: another writer held it for {engine.LOCK_SECONDS} seconds", system=SYSTEM
            )
