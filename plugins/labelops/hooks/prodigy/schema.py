"""What Prodigy's tables turned out to look like: types are read from the database, never assumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    func,
    inspect,
    select,
    text,
)
from sqlalchemy.types import TypeEngine

from include.base.errors import AuthError, InvalidReply
from labelops.hooks.prodigy.errors import SYSTEM

__all__ = ["Schema", "introspect"]

COLUMNS = {
    "dataset": {"id", "name", "created", "meta", "session"},
    "example": {"id", "input_hash", "task_hash", "content"},
    "link": {"id", "example_id", "dataset_id"},
}


class Stored(LargeBinary):
    """Bytes that are read as they come: on SQLite some rows hold text where others hold bytes."""

    def result_processor(self, dialect: Any, coltype: Any) -> None:
        """Convert nothing."""


@dataclass(frozen=True)
class Schema:
    """What the database turned out to look like.

    :param content_bytes: the most bytes that ``example.content`` holds, None where there is no such limit.
    :param structured: tables of a newer storage that Labelops does not know.
    """

    dataset: Table
    example: Table
    link: Table
    content_bytes: int | None
    structured: tuple[str, ...]
    session_is_boolean: bool

    def session_flag(self, session: bool) -> Any:
        """Return ``session`` as the column wants it: PostgreSQL has a boolean, SQLite and MySQL a number."""
        return session if self.session_is_boolean else int(session)


def introspect(conn: Connection) -> Schema:
    """Return what the tables look like.

    :raises InvalidReply: when a table or column is missing, or of a type that Prodigy would not make.
    """
    inspector = inspect(conn)
    names = set(inspector.get_table_names())
    for table in COLUMNS:
        if table not in names:
            raise InvalidReply(
                f"the database has no table `{table}` that this account may see; found: "
                f"{', '.join(sorted(names)[:20]) or 'none'}. Is it Prodigy's, and was Prodigy started once?",
                system=SYSTEM,
            )
    types: dict[str, dict[str, TypeEngine[Any]]] = {}
    for table, wanted in COLUMNS.items():
        types[table] = {column["name"]: column["type"] for column in inspector.get_columns(table)}
        missing = sorted(wanted - set(types[table]))
        if missing:
            raise InvalidReply(f"the table `{table}` has no column {', '.join(missing)}", system=SYSTEM)
    _check_type(types, "dataset", "session", (bool, int))
    for table, column in (("dataset", "created"), ("example", "input_hash"), ("example", "task_hash")):
        _check_type(types, table, column, (int,))
    if conn.dialect.name != "sqlite":
        # SQLite columns hold any type, and a text in `content` is read anyway.
        _check_type(types, "example", "content", (bytes,))
        _check_type(types, "dataset", "meta", (bytes,))
    is_boolean = isinstance(types["dataset"]["session"], Boolean)
    metadata = MetaData()
    return Schema(
        dataset=Table(
            "dataset",
            metadata,
            Column("id", Integer, primary_key=True),
            Column("name", String(255)),
            Column("created", BigInteger),
            Column("meta", Stored()),
            Column("session", Boolean() if is_boolean else Integer()),
        ),
        example=Table(
            "example",
            metadata,
            Column("id", Integer, primary_key=True),
            Column("input_hash", BigInteger),
            Column("task_hash", BigInteger),
            Column("content", Stored()),
        ),
        link=Table(
            "link",
            metadata,
            Column("id", Integer, primary_key=True),
            Column("example_id", Integer, ForeignKey("example.id")),
            Column("dataset_id", Integer, ForeignKey("dataset.id")),
        ),
        content_bytes=_content_bytes(conn),
        structured=tuple(sorted(name for name in names if name.startswith("structured"))),
        session_is_boolean=is_boolean,
    )


def _check_type(
    types: Mapping[str, Mapping[str, TypeEngine[Any]]], table: str, column: str, allowed: tuple[type, ...]
) -> None:
    found = types[table][column]
    try:
        holds = found.python_type
    except NotImplementedError:
        holds = type(None)
    if holds not in allowed:
        names = " or ".join(kind.__name__ for kind in allowed)
        raise InvalidReply(
            f"column {table}.{column}: found {found!r}; allowed: a type that holds {names}", system=SYSTEM
        )


def _content_bytes(conn: Connection) -> int | None:
    """Return how long a row's content may be, None for no limit.

    On MySQL a plain BLOB ends at 65,535 bytes, and a statement, in which content takes up to twice its length, at
    ``max_allowed_packet``.
    """
    if conn.dialect.name != "mysql":
        return None
    width = conn.scalar(
        text(
            "SELECT character_maximum_length FROM information_schema.columns "
            "WHERE table_schema = DATABASE() AND table_name = 'example' AND column_name = 'content'"
        )
    )
    packet = int(conn.scalar(text("SELECT @@max_allowed_packet"))) // 2 - 4096
    return packet if width is None else min(int(width), packet)


def check_sequence(conn: Connection, table: str) -> None:
    """Ask PostgreSQL whether the sequence that numbers a table's rows may be used.

    :raises AuthError: naming the sequence that may not.
    """
    if conn.dialect.name != "postgresql":
        return
    sequence = conn.scalar(select(func.pg_get_serial_sequence(table, "id")))
    if sequence and not conn.scalar(select(func.has_sequence_privilege(sequence, "USAGE"))):
        raise AuthError(f"Prodigy's database: the right to use the sequence {sequence} is missing", system=SYSTEM)
