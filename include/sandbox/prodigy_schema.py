"""Prodigy's tables, made without Prodigy: for the demo and the tests only.

SQLite gets the statements that real files of 2021 to 2024 hold, byte for byte. What Prodigy makes on PostgreSQL and
MySQL was never seen in public; there the statements are what its models would generate.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool

from include.systems.prodigy.hashes import set_hashes

__all__ = ["create_schema", "import_jsonl"]

_SQLITE = (
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

_POSTGRESQL = (
    'CREATE TABLE "dataset" ("id" SERIAL NOT NULL PRIMARY KEY, "name" VARCHAR(255) NOT NULL, '
    '"created" BIGINT NOT NULL, "meta" BYTEA NOT NULL, "session" BOOLEAN NOT NULL)',
    'CREATE UNIQUE INDEX "dataset_name" ON "dataset" ("name")',
    'CREATE TABLE "example" ("id" SERIAL NOT NULL PRIMARY KEY, "input_hash" BIGINT NOT NULL, '
    '"task_hash" BIGINT NOT NULL, "content" BYTEA NOT NULL)',
    'CREATE TABLE "link" ("id" SERIAL NOT NULL PRIMARY KEY, "example_id" INTEGER NOT NULL, '
    '"dataset_id" INTEGER NOT NULL, FOREIGN KEY ("example_id") REFERENCES "example" ("id"), '
    'FOREIGN KEY ("dataset_id") REFERENCES "dataset" ("id"))',
    'CREATE INDEX "link_example_id" ON "link" ("example_id")',
    'CREATE INDEX "link_dataset_id" ON "link" ("dataset_id")',
)

_MYSQL = (
    "CREATE TABLE `dataset` (`id` INTEGER AUTO_INCREMENT NOT NULL PRIMARY KEY, `name` VARCHAR(255) NOT NULL, "
    "`created` BIGINT NOT NULL, `meta` BLOB NOT NULL, `session` BOOL NOT NULL)",
    "CREATE UNIQUE INDEX `dataset_name` ON `dataset` (`name`)",
    "CREATE TABLE `example` (`id` INTEGER AUTO_INCREMENT NOT NULL PRIMARY KEY, `input_hash` BIGINT NOT NULL, "
    "`task_hash` BIGINT NOT NULL, `content` {content} NOT NULL)",
    "CREATE TABLE `link` (`id` INTEGER AUTO_INCREMENT NOT NULL PRIMARY KEY, `example_id` INTEGER NOT NULL, "
    "`dataset_id` INTEGER NOT NULL, FOREIGN KEY (`example_id`) REFERENCES `example` (`id`), "
    "FOREIGN KEY (`dataset_id`) REFERENCES `dataset` (`id`))",
    "CREATE INDEX `link_example_id` ON `link` (`example_id`)",
    "CREATE INDEX `link_dataset_id` ON `link` (`dataset_id`)",
)


def create_schema(url: str, *, content: str = "LONGBLOB") -> None:
    """Create Prodigy's three tables in an empty database.

    :param url: SQLAlchemy URL with its driver.
    :param content: on MySQL the type of ``example.content``: Prodigy's models say ``BLOB`` (64 kB); whether Prodigy
        widens it is unknown.
    """
    engine = create_engine(url, poolclass=NullPool)
    statements = {
        "sqlite": _SQLITE,
        "postgresql": _POSTGRESQL,
        "mysql": tuple(statement.replace("{content}", content) for statement in _MYSQL),
    }[engine.dialect.name]
    with engine.begin() as conn:
        for statement in statements:
            conn.exec_driver_sql(statement)


def import_jsonl(url: str, dataset: str, rows: Iterable[Mapping[str, Any]]) -> int:
    """Load exported answers as if they had been saved by Prodigy; return their number.

    Each row becomes a new example, linked to the dataset and, where the row names its session, to that session. As with
    ``db-in``, a row without ``answer`` counts as accepted; hashes that are there are kept, others are computed.
    """
    engine = create_engine(url, poolclass=NullPool)
    number = 0
    with engine.begin() as conn:
        known: dict[str, int] = {}
        named = _dataset(conn, known, dataset, session=False)
        for row in rows:
            task = set_hashes(row)
            task.setdefault("answer", "accept")
            example = _insert(
                conn,
                "example",
                {
                    "input_hash": task["_input_hash"],
                    "task_hash": task["_task_hash"],
                    "content": json.dumps(task, separators=(",", ":")).encode("ascii"),
                },
            )
            _insert(conn, "link", {"example_id": example, "dataset_id": named})
            if session := task.get("_session_id"):
                linked = _dataset(conn, known, session, session=True)
                _insert(conn, "link", {"example_id": example, "dataset_id": linked})
            number += 1
    return number


def _dataset(conn: Connection, known: dict[str, int], name: str, *, session: bool) -> int:
    if name not in known:
        found = conn.scalar(text("SELECT id FROM dataset WHERE name = :name"), {"name": name})
        known[name] = found or _insert(
            conn,
            "dataset",
            {"name": name, "created": int(datetime.now(UTC).timestamp()), "meta": b"{}", "session": session},
        )
    return known[name]


def _insert(conn: Connection, table: str, values: Mapping[str, Any]) -> int:
    columns = ", ".join(values)
    places = ", ".join(f":{name}" for name in values)
    statement = f"INSERT INTO {table} ({columns}) VALUES ({places})"  # noqa: S608 - names are this module's own
    if conn.dialect.name == "postgresql":
        return int(conn.scalar(text(f"{statement} RETURNING id"), values) or 0)
    return int(conn.execute(text(statement), values).lastrowid)
