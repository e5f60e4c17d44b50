"""Stored answers with something wrong: as rows that are read as answers, and as cells of Prodigy's own tables."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

from sqlalchemy import URL

from include.annotation.answers import AnswerReader, read_answer
from include.base.canonical import canonical_json
from include.base.errors import LabelopsError
from include.projects.model import Project
from include.sandbox.prodigy_schema import create_schema
from include.systems.prodigy.client import ProdigyClient
from include.systems.prodigy.values import Row
from tests.annotation.make import PROJECTS
from tests.annotation.make import answered as marked
from tests.annotation.test_reader import ROWS, ordinary
from tests.fuzz._mutate import mutated, written
from tests.systems.prodigy.make import ANSWERS, answered, connect

ANSWERED: list[tuple[Project, dict[str, Any]]] = [
    *((of, ordinary(of, content)) for of, content in ROWS),
    *((PROJECTS[kind], marked(kind)) for kind in PROJECTS),
]


def answer(random: Random) -> None:
    """Read a row alone and among many: either gives the same, or both refuse it with the same words."""
    of, content = random.choice(ANSWERED)
    changed = mutated(random, content, random.choice((1, 1, 2, 4)))
    raw = written(random, changed)
    if random.random() < 0.1:
        raw = raw[: random.randrange(len(raw))]
    row = Row(7, 11, 0, 0, {}, raw, f"{of.answers}-anna")
    many = AnswerReader(of)
    alone, among = outcome(lambda: read_answer(row, of)), outcome(lambda: many.read(row))
    if alone != among:
        raise AssertionError("a row is read one way alone, and another among many")


def outcome(read: Callable[[], Any]) -> str:
    try:
        found = read()
    except LabelopsError as refused:
        return str(refused)
    canonical_json(found.value.canonical())
    return repr(found)


# --- Prodigy's tables -------------------------------------------------------------------------------------------------

CELLS = ("dataset.name", "dataset.created", "dataset.meta", "dataset.session", "example.input_hash",
         "example.task_hash", "example.content", "link.example_id", "link.dataset_id")  # fmt: skip
CONTENTS: tuple[Any, ...] = (0, -1, 2**62, 1.5, "", "x", "{}", b"", b"\xff\xfe", b"[]", b"null", "{\x00}", "é", b"{}")

READS: dict[str, Callable[[ProdigyClient], Any]] = {
    "check": lambda client: client.check(),
    "counts": lambda client: client.counts(ANSWERS),
    "datasets": lambda client: client.datasets(sessions=True),
    "example_digests": lambda client: client.example_digests([1, 2, 3]),
    "exists": lambda client: client.exists(ANSWERS),
    "meta": lambda client: client.meta(ANSWERS),
    "new_rows": lambda client: client.new_rows(ANSWERS),
    "newest": lambda client: client.newest(ANSWERS),
    "pieces": lambda client: client.pieces(ANSWERS),
    "rights": lambda client: client.rights(),
    "rows": lambda client: client.rows(ANSWERS),
    "rows_of_session": lambda client: client.rows_of_session(f"{ANSWERS}-anna"),
    "sessions": lambda client: client.sessions(ANSWERS),
    "watermark": lambda client: client.watermark(ANSWERS),
    "watermarks": lambda client: client.watermarks([ANSWERS, "other"]),
}


@cache
def template() -> Path:
    """Return a database with three answers of two persons."""
    path = Path(mkdtemp(prefix="labelops-fuzz-")) / "prodigy.db"
    url = URL.create("sqlite", database=str(path))
    create_schema(str(url))
    with sqlite3.connect(path) as database:
        for number, name in enumerate((ANSWERS, f"{ANSWERS}-anna", f"{ANSWERS}-bert"), start=1):
            meta = json.dumps({"kind": "answers"}).encode()
            database.execute("insert into dataset values (?, ?, 1700000000, ?, ?)", (number, name, meta, number > 1))
        for number in (1, 2, 3):
            content = json.dumps(answered(f"text {number}")).encode()
            database.execute("insert into example values (?, ?, ?, ?)", (number, number, number + 10, content))
            for dataset in (1, 2 + number % 2):
                database.execute("insert into link (example_id, dataset_id) values (?, ?)", (number, dataset))
    database.close()
    return path


def rows(random: Random) -> None:
    """Ask the client anything about a database in which somebody changed a cell or two."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "prodigy.db"
        shutil.copy(template(), path)
        database = sqlite3.connect(path)
        for _ in range(random.choice((1, 1, 2))):
            table, _, column = random.choice(CELLS).partition(".")
            stored = mutated(random, answered("text"))
            value = written(random, stored) if random.random() < 0.4 else random.choice(CONTENTS)
            database.execute(f"update or ignore {table} set {column} = ? where id = ?", (value, random.randrange(1, 4)))
        database.commit()
        database.close()
        client = connect(URL.create("sqlite", database=str(path)))
        found = READS[random.choice(sorted(READS))](client)
        if isinstance(found, Iterator):
            for _ in found:
                pass


TARGETS = {"answers": answer, "prodigy rows": rows}
