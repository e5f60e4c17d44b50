"""The database engine behind an Airflow connection."""

from __future__ import annotations

import sqlite3
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool

from include.base.errors import InvalidInput

__all__ = ["LOCK_SECONDS", "make_engine"]

LOCK_SECONDS = 30
"""How long a statement waits for somebody else's lock."""

ENGINES = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql", "mariadb": "mysql+pymysql"}
EXTRA = {
    "sqlite": {"engine", "path"},
    "postgresql": {"engine", "sslmode", "sslrootcert", "sslcert", "sslkey", "options", "application_name"},
    "mysql": {
        "engine",
        "unix_socket",
        "ssl_ca",
        "ssl_cert",
        "ssl_key",
        "ssl_verify_cert",
        "ssl_verify_identity",
        "ssl_disabled",
    },
}
EXTRA["mariadb"] = EXTRA["mysql"]


def make_engine(connection: Any, conn_id: str) -> Engine:
    """Return the engine that a connection describes; it has not connected yet.

    :raises InvalidInput: naming the field that is filled in wrongly.
    """
    extra = dict(connection.extra_dejson)
    kind = str(extra.get("engine") or "sqlite").lower()
    if kind not in ENGINES:
        raise InvalidInput(f"connection {conn_id}: extra.engine: found {kind!r}; allowed: {', '.join(ENGINES)}")
    foreign = sorted(set(extra) - EXTRA[kind])
    if foreign:
        raise InvalidInput(
            f"connection {conn_id}: extra: found {', '.join(foreign)}; "
            f"allowed for {kind}: {', '.join(sorted(EXTRA[kind]))}"
        )
    if kind == "sqlite":
        return _sqlite_engine(extra.get("path") or connection.host, conn_id)
    if not connection.schema:
        raise InvalidInput(f"connection {conn_id}: schema: found nothing; allowed: the name of Prodigy's database")
    url = URL.create(
        ENGINES[kind],
        username=connection.login or None,
        password=connection.password or None,
        host=connection.host or None,
        port=connection.port or None,
        database=connection.schema,
    )
    arguments: dict[str, Any] = {key: value for key, value in extra.items() if key != "engine" and value is not None}
    arguments["connect_timeout"] = LOCK_SECONDS
    engine = create_engine(url, poolclass=NullPool, hide_parameters=True, connect_args=arguments)
    wait = (
        f"SET lock_timeout = '{LOCK_SECONDS}s'"
        if kind == "postgresql"
        else f"SET SESSION innodb_lock_wait_timeout = {LOCK_SECONDS}"
    )

    @event.listens_for(engine, "begin")
    def _limit_waiting(conn: Connection) -> None:
        conn.exec_driver_sql(wait)

    return engine


def _sqlite_engine(path: str | None, conn_id: str) -> Engine:
    if not path:
        raise InvalidInput(f"connection {conn_id}: host: found nothing; allowed: the path of Prodigy's database file")
    # mode=rw: a wrong path is an error, never a new and empty database.
    uri = f"file:{quote(path)}?mode=rw"

    def connected() -> sqlite3.Connection:
        return sqlite3.connect(uri, uri=True, timeout=LOCK_SECONDS, isolation_level=None, check_same_thread=False)

    engine = create_engine("sqlite+pysqlite://", creator=connected, poolclass=NullPool, hide_parameters=True)

    @event.listens_for(engine, "begin")
    def _begin(conn: Connection) -> None:
        # A writer takes the lock at once: a read that turns into a write would fail beside another writer.
        conn.exec_driver_sql("BEGIN IMMEDIATE" if conn.get_execution_options().get("labelops_writes") else "BEGIN")

    return engine
