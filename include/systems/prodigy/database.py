"""The database: its connections, its transactions, what its tables look like."""

from __future__ import annotations

import hashlib
import logging
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import quote

import psycopg
import pymysql
from sqlalchemy import Connection, Engine, create_engine, event, func, select
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from include.base.errors import Unavailable, Unsupported
from include.systems.prodigy import statements
from include.systems.prodigy.errors import SYSTEM, Again, database_error
from include.systems.prodigy.schema import Schema, introspect
from include.systems.prodigy.settings import Settings

__all__ = ["Database", "exact"]

log = logging.getLogger(__name__)

LOCK_SECONDS = 30
"""How long a statement waits for somebody else's lock."""

TRANSACTION_TRIES = 5

DRIVERS = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql", "mariadb": "mysql+pymysql"}

Result = TypeVar("Result")


class Database:
    """Prodigy's database. A connection is opened when it is needed, for one statement or one transaction.

    :ivar dialect: ``sqlite``, ``postgresql`` or ``mysql`` (MariaDB too).
    """

    def __init__(self, settings: Settings) -> None:
        self._engine = make_engine(settings)
        self._schema: Schema | None = None
        self.dialect = self._engine.dialect.name

    def schema(self) -> Schema:
        """Return what the tables look like, asked once.

        :raises InvalidReply: when they are not Prodigy's.
        """
        if self._schema is None:
            with self.reading() as conn:
                self._schema = introspect(conn)
            if self._schema.structured:
                log.warning(
                    "Prodigy's database has the tables %s, which Labelops does not know: datasets that are only there "
                    "are refused",
                    ", ".join(self._schema.structured),
                )
        return self._schema

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection to read with."""
        with self._translated("read"), self._engine.connect() as conn:
            yield conn

    def transaction(
        self, work: Callable[[Connection], Result], *, dataset: str | None = None, right: str = "insert"
    ) -> Result:
        """Run ``work`` in one write transaction, again from its start when the database undid it for another's sake.

        :param dataset: whose writers wait for each other until the transaction ends. On SQLite all of them do.
        :param right: what is needed, named when it is missing.
        """
        for attempt in range(1, TRANSACTION_TRIES + 1):
            try:
                with self._translated(right), self._engine.connect() as conn:
                    conn = conn.execution_options(labelops_writes=True)
                    with conn.begin():
                        if dataset is not None:
                            _wait_for(conn, dataset)
                        return work(conn)
            except Again as error:
                if attempt == TRANSACTION_TRIES:
                    raise
                log.warning("A transaction on Prodigy's database gave way to another and is run again: %s", error)
        raise AssertionError("unreachable")

    def attempt(self, work: Callable[[Connection], Result], *, right: str, writes: bool) -> Result:
        """Run ``work`` in a transaction that is undone, to learn whether a right is there."""
        with self._translated(right), self._engine.connect() as conn:
            conn = conn.execution_options(labelops_writes=writes)
            with conn.begin() as transaction:
                found = work(conn)
                transaction.rollback()
        return found

    @contextmanager
    def _translated(self, right: str) -> Iterator[None]:
        """Turn the driver's errors into ours."""
        try:
            yield
        except (SQLAlchemyError, sqlite3.Error, psycopg.Error, pymysql.Error) as error:
            raise database_error(error, right) from error

    def id_of(self, name: str, *, session: bool = False) -> int | None:
        """Return the id of a named dataset, or of a session; None where there is none of exactly this name.

        :raises Unsupported: when a dataset may be in a newer storage that cannot be read.
        """
        schema = self.schema()
        table = schema.dataset
        wanted = select(table.c.id, table.c.name).where(
            table.c.name == name, table.c.session == schema.session_flag(session)
        )
        with self.reading() as conn:
            found = exact(conn.execute(wanted).all(), name)
        if found is None:
            if not session:
                self.refuse_structured(name)
            return None
        return int(found.id)

    def refuse_structured(self, name: str) -> None:
        """Refuse a dataset that is in none of the known tables, where there are tables of another kind."""
        structured = self.schema().structured
        if structured:
            raise Unsupported(
                f"dataset {name} is not in Prodigy's table `dataset`, but may be in {', '.join(structured)}, "
                "whose layout is unknown; nothing was read or written",
                system=SYSTEM,
            )

    def refuse_new_structured(self, name: str) -> None:
        """Refuse to make a dataset where one of its name may be in tables of another kind."""
        if self.schema().structured:
            self.id_of(name)

    def refuse_unknown_required(self) -> None:
        """Refuse to write where the tables want more than Prodigy gives them."""
        unknown = self.schema().unknown_required
        if unknown:
            raise Unsupported(
                f"Prodigy's tables have columns that need a value and that Labelops does not know: "
                f"{', '.join(unknown)}; nothing was written",
                system=SYSTEM,
            )


def exact(found: Sequence[Any], name: str) -> Any:
    """Return the row of exactly this name: a database may take names that differ in case for one."""
    return next((row for row in found if row.name == name), None)


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
        if conn.scalar(select(func.get_lock(name, LOCK_SECONDS))) != 1:
            raise Unavailable(f"dataset {dataset}: another writer held it for {LOCK_SECONDS} seconds", system=SYSTEM)


def make_engine(settings: Settings) -> Engine:
    """Return the engine that leads to a database; it has not connected yet."""
    return _sqlite_engine(settings.database) if settings.engine == "sqlite" else _server_engine(settings)


def _server_engine(settings: Settings) -> Engine:
    url = URL.create(
        DRIVERS[settings.engine],
        username=settings.login,
        password=settings.password,
        host=settings.host,
        port=settings.port,
        database=settings.database,
    )
    arguments: dict[str, Any] = {**settings.options, "connect_timeout": LOCK_SECONDS}
    engine = create_engine(url, poolclass=NullPool, hide_parameters=True, connect_args=arguments)
    wait = statements.LOCK_TIMEOUT[engine.dialect.name].format(seconds=LOCK_SECONDS)

    @event.listens_for(engine, "begin")
    def _limit_waiting(conn: Connection) -> None:
        conn.exec_driver_sql(wait)

    return engine


def _sqlite_engine(path: str) -> Engine:
    # mode=rw: a wrong path is an error, never a new and empty database.
    uri = f"file:{quote(path)}?mode=rw"

    def connected() -> sqlite3.Connection:
        return sqlite3.connect(uri, uri=True, timeout=LOCK_SECONDS, isolation_level=None, check_same_thread=False)

    engine = create_engine("sqlite+pysqlite://", creator=connected, poolclass=NullPool, hide_parameters=True)

    @event.listens_for(engine, "begin")
    def _begin(conn: Connection) -> None:
        writes = conn.get_execution_options().get("labelops_writes")
        conn.exec_driver_sql(statements.BEGIN_WRITING if writes else statements.BEGIN)

    return engine
