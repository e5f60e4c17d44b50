"""The fake's database writes what Prodigy's public databases hold, byte for byte and link for link."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from include.sandbox.people.annotators import Annotator
from include.systems.prodigy.hashes import set_hashes
from tests.prodigy_kit.conftest import FAKE, PROJECT, Shop, make_task

SCHEMA = [
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
]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """Return the fake's database module, importable for this test only."""
    monkeypatch.syspath_prepend(str(FAKE))
    monkeypatch.setenv("PRODIGY_HOME", str(tmp_path))
    import prodigy.components.db as database

    yield database
    for name in [name for name in sys.modules if name == "prodigy" or name.startswith("prodigy.")]:
        del sys.modules[name]


def test_the_schema_is_the_one_of_public_databases(fake: Any, tmp_path: Path) -> None:
    import sqlite3

    fake.connect().close()
    with sqlite3.connect(tmp_path / "prodigy.db") as connection:
        found = [row[0] for row in connection.execute("SELECT sql FROM sqlite_master ORDER BY rowid")]
    assert found == SCHEMA


def test_database_methods(fake: Any) -> None:
    database = fake.connect()
    assert database.add_dataset("reviews", {"author": "olga"}) == database.add_dataset("reviews")
    with pytest.raises(ValueError, match="no comma"):
        database.add_dataset("a,b")
    rows = [set_hashes({"text": "Käse"}), set_hashes({"text": "two"})]
    ids = database.add_examples(rows + rows[:1], datasets=["reviews"])
    assert len(set(ids)) == 3, "duplicates are legal: one row each"
    assert "reviews" in database
    assert "others" not in database
    assert (len(database), database.datasets, database.sessions) == (1, ["reviews"], [])
    assert database.get_dataset_examples("reviews") == rows + rows[:1]
    assert database.get_dataset("others", default="none") == "none"
    assert database.count_dataset("reviews") == 3
    with pytest.raises(ValueError, match="does not exist"):
        database.count_dataset("others")
    assert database.get_task_hashes("reviews") == {row["_task_hash"] for row in rows}
    meta = database.get_meta("reviews")
    assert meta["author"] == "olga"
    assert abs(meta["created"] - time.time()) < 60
    with pytest.raises(ValueError, match="_input_hash"):
        database.add_examples([{"text": "unhashed"}])
    assert database.drop_dataset("reviews")
    assert "reviews" not in database


def test_answers_are_stored_as_compact_ascii_json_under_two_links(shop: Shop) -> None:
    shop.publish("First guideline")
    tasks = [make_task("Größe 42 passt nicht / refund"), make_task("二つ目"), make_task("three \U0001f600")]
    shop.add(f"{PROJECT}__inbox", tasks)
    shop.serve(answers=1)
    began = int(time.time())
    Annotator("anna", shop.url, lambda task: {"accept": ["other"], "answer": "accept"}).label_batch()
    ids = dict(shop.query("SELECT name, id FROM dataset"))
    sessions = dict(shop.query("SELECT name, session FROM dataset"))
    session = f"{PROJECT}-anna"
    assert (sessions[PROJECT], sessions[session], sessions[f"{PROJECT}__inbox"]) == (0, 1, 0)
    timestamps = [name for name in sessions if re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", name)]
    assert [sessions[name] for name in timestamps] == [1]
    saved = shop.query(
        "SELECT id, input_hash, task_hash, content, typeof(content) FROM example WHERE id > 3 ORDER BY id"
    )
    assert len(saved) == 3
    for task, (_, input_hash, task_hash, content, kind) in zip(tasks, saved, strict=True):
        row = json.loads(content)
        assert kind == "blob"
        assert content == json.dumps(row, separators=(",", ":")).encode()
        assert content.isascii()
        assert (input_hash, task_hash) == (row["_input_hash"], row["_task_hash"])
        assert (row["_input_hash"], row["_task_hash"]) == (task["_input_hash"], task["_task_hash"])
        assert list(row)[-4:] == ["answer", "_timestamp", "_annotator_id", "_session_id"]
        assert (row["text"], row["_view_id"]) == (task["text"], "choice")
        assert (row["_annotator_id"], row["_session_id"]) == (session, session)
        assert began <= row["_timestamp"] <= time.time()
    links = shop.query("SELECT dataset_id, example_id FROM link WHERE example_id > 3 ORDER BY id")
    examples = [row[0] for row in saved]
    assert links == [(ids[PROJECT], one) for one in examples] + [(ids[session], one) for one in examples]


def test_a_plain_recipe_is_still_excluded_by_hash(shop: Shop) -> None:
    """Prodigy's default, which our recipe switches off: so that the switch is seen to matter."""
    recipe = shop.folder / "plain.py"
    recipe.write_text(
        "import prodigy\n"
        "@prodigy.recipe('plain', dataset=('Dataset', 'positional', None, str))\n"
        "def plain(dataset):\n"
        "    rows = [{'text': t, '_input_hash': 7, '_task_hash': 7} for t in ('one', 'two')]\n"
        "    return {'dataset': dataset, 'view_id': 'text', 'stream': iter(rows)}\n"
    )
    process = shop.spawn([sys.executable, "-m", "prodigy", "plain", "plain_set", "-F", str(recipe)], "serve.log")
    from tests.prodigy_kit.conftest import healthy, wait_for

    wait_for(lambda: healthy(shop.url) or process.poll() is not None, what="server")
    assert [task["text"] for task in Annotator("anna", shop.url, lambda task: {}).fetch()[1]] == ["one"]


def test_a_taken_port_ends_the_start(shop: Shop) -> None:
    shop.publish("First guideline")
    shop.serve()
    second = shop.spawn(shop.command(), "second.log")
    assert second.wait(15) == 1
    assert "in use" in (shop.folder / "second.log").read_text()
