"""A running Prodigy server writes to the same SQLite file while the client reads, adds and counts."""

from __future__ import annotations

import json
import multiprocessing
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from include.sandbox.prodigy_schema import create_schema
from tests.systems.prodigy.make import ANSWERS, INBOX, answered, connect, task

SAVES, ANSWERS_A_SAVE = 30, 10


def prodigy(path: str, person: str, whole: bool, result: Any) -> None:
    """Save answers as Prodigy does: rows, the dataset's links, the session's links; the driver's own 5 s of patience.

    :param whole: each save is one transaction, as peewee's ``atomic`` makes it; else each statement is.
    """
    conn = sqlite3.connect(path, timeout=5, isolation_level=None)
    ids = {}
    for name, session in ((ANSWERS, 0), (f"{ANSWERS}-{person}", 1)):
        conn.execute(
            "INSERT OR IGNORE INTO dataset (name, created, meta, session) VALUES (?, 0, x'7b7d', ?)", (name, session)
        )
        [[ids[name]]] = conn.execute("SELECT id FROM dataset WHERE name = ?", (name,))
    longest = 0.0
    try:
        for save in range(SAVES):
            started = time.monotonic()
            if whole:
                conn.execute("BEGIN")
            saved = []
            for number in range(ANSWERS_A_SAVE):
                row = answered(f"answer {save} {number}", person)
                content = json.dumps(row, separators=(",", ":")).encode()
                saved.append(
                    conn.execute(
                        "INSERT INTO example (input_hash, task_hash, content) VALUES (?, ?, ?)",
                        (row["_input_hash"], row["_task_hash"], content),
                    ).lastrowid
                )
            for dataset in ids.values():
                for example in saved:
                    conn.execute("INSERT INTO link (example_id, dataset_id) VALUES (?, ?)", (example, dataset))
            if whole:
                conn.execute("COMMIT")
            longest = max(longest, time.monotonic() - started)
            time.sleep(0.01)
        result.put((person, longest, None))
    except sqlite3.Error as error:
        result.put((person, longest, str(error)))
    finally:
        conn.close()


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_neither_loses_a_row_nor_waits_in_vain(journal: str, whole: bool, tmp_path: Path) -> None:
    path = str(tmp_path / "prodigy.db")
    url = f"sqlite+pysqlite:///{path}"
    create_schema(url)
    with sqlite3.connect(path) as conn:
        assert conn.execute(f"PRAGMA journal_mode = {journal}").fetchall() == [(journal,)]
    conn.close()
    client = connect(url)
    tasks = [task(f"{number} " + "x" * 500) for number in range(4000)]
    client.add_tasks(INBOX, tasks[:2000])
    context = multiprocessing.get_context("fork")
    result: Any = context.Queue()
    people = {"anna": whole}
    writers = [context.Process(target=prodigy, args=(path, *person, result)) for person in people.items()]
    for writer in writers:
        writer.start()
    added, seen, state = 0, [], None
    try:
        while any(writer.is_alive() for writer in writers) or added < 2000:
            some = tasks[2000 + added : 2200 + added]
            if some:
                assert client.add_tasks(INBOX, [*some, tasks[0]]).inserted == len(some)
                added += len(some)
            listing = client.new_rows(ANSWERS, resume=state)
            seen += [row.link_id for row in listing]
            state = listing.state
            assert listing.findings == ()
            counts = client.counts(ANSWERS)
            assert counts.unreadable == 0
            assert client.watermark(ANSWERS).count >= counts.rows
            time.sleep(0.02)
    finally:
        for writer in writers:
            writer.join(60)
    results = [result.get(timeout=10) for _ in writers]
    print("the longest save, in seconds:", max(longest for _, longest, _ in results))
    assert [error for _, _, error in results if error] == [], "Prodigy never waited longer than its 5 seconds"
    listing = client.new_rows(ANSWERS, resume=state)
    seen += [row.link_id for row in listing]
    answers = list(client.rows(ANSWERS))
    assert len(answers) == len(people) * SAVES * ANSWERS_A_SAVE
    assert sorted(seen) == [row.link_id for row in answers]
    assert {row.session for row in answers} == {f"{ANSWERS}-{person}" for person in people}
    assert sorted(row.content["text"] for row in client.rows(INBOX)) == sorted(one["text"] for one in tasks)
    for person in people:
        texts = [row.content["text"] for row in client.rows_of_session(f"{ANSWERS}-{person}")]
        assert texts == [f"answer {save} {number}" for save in range(SAVES) for number in range(ANSWERS_A_SAVE)]
    with sqlite3.connect(path) as conn:
        assert conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert conn.execute("PRAGMA foreign_key_check").fetchall() == []
    conn.close()


def test_the_hook_waits_while_prodigy_saves(tmp_path: Path) -> None:
    path = str(tmp_path / "prodigy.db")
    url = f"sqlite+pysqlite:///{path}"
    create_schema(url)
    client = connect(url)
    client.add_tasks(INBOX, [task("one")])
    context = multiprocessing.get_context("fork")
    held = context.Event()

    def hold() -> None:
        conn = sqlite3.connect(path, isolation_level=None)
        conn.execute("BEGIN EXCLUSIVE")
        held.set()
        time.sleep(1.5)
        conn.execute("COMMIT")
        conn.close()

    for act in (
        lambda: len(list(connect(url).rows(INBOX))),
        lambda: connect(url).add_tasks(INBOX, [task("one")]).present,
        lambda: connect(url).counts(INBOX).rows,
    ):
        held.clear()
        holder = context.Process(target=hold)
        holder.start()
        assert held.wait(20)
        started = time.monotonic()
        assert act() == 1
        assert time.monotonic() - started > 0.3, "it had to wait, and did"
        holder.join(20)
