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
    Text,
    func,
    inspect,
    select,
    text,
)
from sqlalchemy.types import TypeEngine

from include.base.errors import InvalidReply
from include.systems.prodigy import statements
from include.systems.prodigy.errors import SYSTEM

__all__ = ["Schema", "introspect", "may_number"]

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
    :param content_is_text: the column holds text, not bytes (as an editor or a migration may have left it).
    :param structured: tables of a newer storage that Labelops does not know.
    :param sequences: on PostgreSQL the sequences of ``example.id`` and ``link.id``, None where ids come another way.
    :param unknown_required: columns (``table.column``) that need a value and are not among those Prodigy is known for.
    """

    dataset: Table
    example: Table
    link: Table
    content_bytes: int | None
    content_is_text: bool
    meta_is_text: bool
    structured: tuple[str, ...]
    unknown_required: tuple[str, ...]
    session_is_boolean: bool
    sequences: tuple[str, str] | None = None

    @property
    def stored(self) -> tuple[Column[Any], Column[Any], Column[Any]]:
        """The columns of an example beside its content: id, input hash, task hash."""
        return self.example.c.id, self.example.c.input_hash, self.example.c.task_hash

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
    unknown_required: list[str] = []
    for table, wanted in COLUMNS.items():
        found = inspector.get_columns(table)
        types[table] = {column["name"]: column["type"] for column in found}
        unknown_required += [
            f"{table}.{column['name']}"
            for column in found
            if column["name"] not in wanted and not column["nullable"] and column["default"] is None
        ]
        missing = sorted(wanted - set(types[table]))
        if missing:
            raise InvalidReply(f"the table `{table}` has no column {', '.join(missing)}", system=SYSTEM)
    _check_type(types, "dataset", "session", (bool, int))
    for table, column in (("dataset", "created"), ("example", "input_hash"), ("example", "task_hash")):
        _check_type(types, table, column, (int,))
    if conn.dialect.name != "sqlite":
        # SQLite columns hold any type, and a text in `content` is read anyway.
        _check_type(types, "example", "content", (bytes, str))
        _check_type(types, "dataset", "meta", (bytes, str))
    content, meta = types["example"]["content"], types["dataset"]["meta"]
    on_server = conn.dialect.name != "sqlite"
    is_boolean = isinstance(types["dataset"]["session"], Boolean)
    metadata = MetaData()
    return Schema(
        dataset=Table(
            "dataset",
            metadata,
            Column("id", Integer, primary_key=True),
            Column("name", String(255)),
            Column("created", BigInteger),
            Column("meta", _cell(meta, on_server)),
            Column("session", Boolean() if is_boolean else Integer()),
        ),
        example=Table(
            "example",
            metadata,
            Column("id", Integer, primary_key=True),
            Column("input_hash", BigInteger),
            Column("task_hash", BigInteger),
            Column("content", _cell(content, on_server)),
        ),
        link=Table(
            "link",
            metadata,
            Column("id", Integer, primary_key=True),
            Column("example_id", Integer, ForeignKey("example.id")),
            Column("dataset_id", Integer, ForeignKey("dataset.id")),
        ),
        content_bytes=_content_bytes(conn, content),
        content_is_text=on_server and _holds(content) is str,
        meta_is_text=on_server and _holds(meta) is str,
        structured=tuple(sorted(name for name in names if name.lower().startswith("structured"))),
        unknown_required=tuple(unknown_required),
        session_is_boolean=is_boolean,
        sequences=_sequences(conn),
    )


def _check_type(
    types: Mapping[str, Mapping[str, TypeEngine[Any]]], table: str, column: str, allowed: tuple[type, ...]
) -> None:
    found = types[table][column]
    if _holds(found) not in allowed:
        names = " or ".join(kind.__name__ for kind in allowed)
        raise InvalidReply(
            f"column {table}.{column}: found {found!r}; allowed: a type that holds {names}", system=SYSTEM
        )


def _holds(found: TypeEngine[Any]) -> type:
    try:
        return found.python_type
    except NotImplementedError:
        return type(None)


def _cell(found: TypeEngine[Any], on_server: bool) -> TypeEngine[Any]:
    return Text() if on_server and _holds(found) is str else Stored()


def _content_bytes(conn: Connection, found: TypeEngine[Any]) -> int | None:
    """Return how long a row's content may be, None for no limit.

    What is written is ASCII, so a limit in characters is one in bytes.

    On MySQL a plain BLOB ends at 65,535 bytes, and a statement, in which content takes up to twice its length, at
    ``max_allowed_packet``.
    """
    if conn.dialect.name == "postgresql":
        return getattr(found, "length", None)
    if conn.dialect.name != "mysql":
        return None
    width = conn.scalar(text(statements.CONTENT_WIDTH))
    packet = int(conn.scalar(text(statements.LARGEST_PACKET))) // 2 - 4096
    return packet if width is None else min(int(width), packet)


def _sequences(conn: Connection) -> tuple[str, str] | None:
    if conn.dialect.name != "postgresql":
        return None
    found = []
    for table in ("example", "link"):
        # An identity column may refuse ids that are given; a column without a sequence gets them elsewhere.
        plain = conn.scalar(text(statements.ID_IS_NO_IDENTITY), {"t": table})
        sequence = conn.scalar(select(func.pg_get_serial_sequence(table, "id")))
        if not plain or not sequence:
            return None
        found.append(str(sequence))
    return found[0], found[1]


def may_number(conn: Connection, table: str) -> bool:
    """Tell whether the account may take ids for new rows: on PostgreSQL that is a right of its own."""
    if conn.dialect.name != "postgresql":
        return True
    sequence = conn.scalar(select(func.pg_get_serial_sequence(table, "id")))
    return not sequence or bool(conn.scalar(select(func.has_sequence_privilege(sequence, "USAGE, UPDATE"))))
