"""The database: three tables, written byte for byte as Prodigy's public databases are.

Only methods for which public evidence exists are here. Tables are created where they are missing, as Prodigy does.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from prodigy.config import home, settings

__all__ = ["Database", "connect", "dumps"]

SQLITE_SCHEMA = (
    'CREATE TABLE "dataset" ("id" INTEGER NOT NULL PRIMARY KEY, "name" VARCHAR(255) NOT NULL, '
    '"created" INTEGER NOT NULL, "meta" BLOB NOT NULL, "session" INTEGER NOT NULL)',
    'CREATE UNIQUE INDEX "dataset_name" ON "dataset" ("name")',
    'CREATE TABLE "example" ("id" INTEGER NOT NULL PRIMARY KEY, "input_hash" INTEGER NOT NULL, '
    '"task_hash" INTEGER NOT NULL, "content" BLOB NOT NULL)',
    'CREATE TABLE "link" ("id" INTEGER NOT NULL PRIMARY KEY, "example_id" INTEGER NOT NULL, '
    '"dataset_id" INTEGER NOT NULL, FOREIGN KEY ("example_id") REFERENCES "example" ("id"), '
    'FOREIGN KEY ("dataset_id") REFERENCES "dataset" ("id"))',
    'CREATE INDEX "link_example_id" ON "link" ("example_id")',
    'CREATE INDEX "link_dataset_id" ON "link" ("dataset_id")',
)
"""The statements seen in every public database from 2021 to 2024."""

_METADATA = sa.MetaData()
_DATASET = sa.Table(
    "dataset",
    _METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("meta", sa.LargeBinary, nullable=False),
    sa.Column("session", sa.Boolean, nullable=False),
    sa.Index("dataset_name", "name", unique=True),
)
_EXAMPLE = sa.Table(
    "example",
    _METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("input_hash", sa.BigInteger, nullable=False),
    sa.Column("task_hash", sa.BigInteger, nullable=False),
    sa.Column("content", sa.LargeBinary, nullable=False),
)
_LINK = sa.Table(
    "link",
    _METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("example_id", sa.ForeignKey("example.id"), nullable=False, index=False),
    sa.Column("dataset_id", sa.ForeignKey("dataset.id"), nullable=False, index=False),
    sa.Index("link_example_id", "example_id"),
    sa.Index("link_dataset_id", "dataset_id"),
)


def dumps(value: Any) -> bytes:
    """Return a cell's bytes: compact JSON, non-ASCII escaped, key order kept."""
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def connect(db_id: str | None = None, db_settings: dict[str, Any] | None = None) -> Database:
    """Return the database that the settings name, or the one given."""
    in_force = settings()
    kind = db_id or in_force["db"]
    options = db_settings if db_settings is not None else dict(in_force["db_settings"].get(kind) or {})
    return Database(_url(kind, options), str(kind))


def _url(kind: str, options: dict[str, Any]) -> sa.URL:
    if kind == "sqlite":
        name = options.get("name") or "prodigy.db"
        if name == ":memory:":
            return sa.URL.create("sqlite")
        folder = Path(options.get("path") or home())
        folder.mkdir(parents=True, exist_ok=True)
        return sa.URL.create("sqlite", database=str(folder / name))
    driver = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}.get(kind)
    if driver is None:
        raise ValueError(f"db {kind!r}: expected sqlite, postgresql or mysql")
    return sa.URL.create(
        driver,
        username=options.get("user"),
        password=options.get("password") or options.get("passwd"),
        host=options.get("host"),
        port=options.get("port"),
        database=options.get("dbname") or options.get("database") or options.get("db"),
    )


class Database:
    """Datasets of examples. Safe to use from several threads."""

    def __init__(self, url: sa.URL, display_id: str) -> None:
        self.db_id = display_id
        waits = {"connect_args": {"timeout": 30}} if display_id == "sqlite" else {}
        self._engine = sa.create_engine(url, **waits)
        self._create_missing_tables()

    def _create_missing_tables(self) -> None:
        if sa.inspect(self._engine).has_table("link"):
            return
        try:
            with self._engine.begin() as connection:
                if self._engine.dialect.name == "sqlite":
                    for statement in SQLITE_SCHEMA:
                        connection.exec_driver_sql(statement)
                else:
                    _METADATA.create_all(connection)
        except sa.exc.DatabaseError:
            # Another process may have created them in the same moment.
            if not sa.inspect(self._engine).has_table("link"):
                raise

    def __len__(self) -> int:
        return len(self.datasets)

    def __contains__(self, name: object) -> bool:
        with self._engine.connect() as connection:
            return _dataset_id(connection, str(name)) is not None

    @property
    def datasets(self) -> list[str]:
        """Return the names of the datasets, oldest first."""
        return self._names(session=False)

    @property
    def sessions(self) -> list[str]:
        """Return the names of the session datasets, oldest first."""
        return self._names(session=True)

    def _names(self, *, session: bool) -> list[str]:
        query = sa.select(_DATASET.c.name).where(_DATASET.c.session == sa.literal(session))
        with self._engine.connect() as connection:
            return list(connection.execute(query.order_by(_DATASET.c.created, _DATASET.c.id)).scalars())

    def add_dataset(self, name: str, meta: dict[str, Any] | None = None, session: bool = False) -> int:
        """Create a dataset unless it is there; return its id.

        :raises ValueError: for a name with a comma or a space.
        """
        if "," in name or " " in name:
            raise ValueError(f"dataset name {name!r}: no comma and no space is allowed")
        with self._engine.begin() as connection:
            found = _dataset_id(connection, name)
            if found is not None:
                return found
            values = {"name": name, "created": int(time.time()), "meta": dumps(meta or {}), "session": session}
            return _insert(connection, _DATASET, values)

    def get_meta(self, name: str) -> dict[str, Any] | None:
        """Return a dataset's meta with its creation time, or None."""
        query = sa.select(_DATASET.c.meta, _DATASET.c.created).where(_DATASET.c.name == name)
        with self._engine.connect() as connection:
            row = connection.execute(query).first()
        return None if row is None else {**_loads(row.meta), "created": row.created}

    def add_examples(self, examples: Iterable[dict[str, Any]], datasets: Iterable[str] = ()) -> list[int]:
        """Insert one row for each example, then link all of them to each dataset in turn; return the row ids.

        :raises ValueError: for an example without hashes, or an unknown dataset.
        """
        rows = list(examples)
        for row in rows:
            if not isinstance(row.get("_input_hash"), int) or not isinstance(row.get("_task_hash"), int):
                raise ValueError("an example needs _input_hash and _task_hash before it is added")
        with self._engine.begin() as connection:
            ids = [
                _insert(
                    connection,
                    _EXAMPLE,
                    {"input_hash": row["_input_hash"], "task_hash": row["_task_hash"], "content": dumps(row)},
                )
                for row in rows
            ]
            for name in datasets:
                dataset_id = _dataset_id(connection, name)
                if dataset_id is None:
                    raise ValueError(f"dataset {name!r} does not exist")
                if ids:
                    links = [{"example_id": example_id, "dataset_id": dataset_id} for example_id in ids]
                    connection.execute(sa.insert(_LINK), links)
        return ids

    def get_dataset_examples(self, name: str) -> list[dict[str, Any]]:
        """Return a dataset's examples in link order."""
        query = (
            sa.select(_EXAMPLE.c.content)
            .join(_LINK, _LINK.c.example_id == _EXAMPLE.c.id)
            .join(_DATASET, _DATASET.c.id == _LINK.c.dataset_id)
            .where(_DATASET.c.name == name)
            .order_by(_LINK.c.id)
        )
        with self._engine.connect() as connection:
            return [_loads(content) for content in connection.execute(query).scalars()]

    def get_dataset(self, name: str, default: Any = None, session: bool = False) -> Any:
        """Return a dataset's examples (the older name), or ``default`` where it does not exist."""
        return self.get_dataset_examples(name) if name in self else default

    def count_dataset(self, name: str, session: bool = False) -> int:
        """Return how many examples are linked.

        :raises ValueError: where the dataset does not exist.
        """
        with self._engine.connect() as connection:
            dataset_id = _dataset_id(connection, name)
            if dataset_id is None:
                raise ValueError(f"dataset {name!r} does not exist")
            query = sa.select(sa.func.count()).select_from(_LINK).where(_LINK.c.dataset_id == dataset_id)
            return int(connection.execute(query).scalar_one())

    def get_input_hashes(self, *names: str) -> set[int]:
        """Return the input hashes in some datasets."""
        return self._hashes(_EXAMPLE.c.input_hash, names)

    def get_task_hashes(self, *names: str) -> set[int]:
        """Return the task hashes in some datasets."""
        return self._hashes(_EXAMPLE.c.task_hash, names)

    def _hashes(self, column: sa.Column[Any], names: Iterable[str]) -> set[int]:
        query = (
            sa.select(column)
            .join(_LINK, _LINK.c.example_id == _EXAMPLE.c.id)
            .join(_DATASET, _DATASET.c.id == _LINK.c.dataset_id)
            .where(_DATASET.c.name.in_(list(names)))
        )
        with self._engine.connect() as connection:
            return set(connection.execute(query).scalars())

    def drop_dataset(self, name: str, batch_size: int | None = None) -> bool:
        """Remove a dataset and its links. Its examples stay, linked to their sessions."""
        with self._engine.begin() as connection:
            dataset_id = _dataset_id(connection, name)
            if dataset_id is None:
                return False
            connection.execute(sa.delete(_LINK).where(_LINK.c.dataset_id == dataset_id))
            connection.execute(sa.delete(_DATASET).where(_DATASET.c.id == dataset_id))
        return True

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()


def _insert(connection: sa.Connection, table: sa.Table, values: dict[str, Any]) -> int:
    key = connection.execute(sa.insert(table).values(values)).inserted_primary_key
    if key is None:
        raise RuntimeError(f"{table.name}: the database gave no id for a new row")
    return int(key[0])


def _dataset_id(connection: sa.Connection, name: str) -> int | None:
    return connection.execute(sa.select(_DATASET.c.id).where(_DATASET.c.name == name)).scalar()


def _loads(content: bytes | memoryview | str) -> dict[str, Any]:
    return json.loads(content if isinstance(content, str) else bytes(content))
