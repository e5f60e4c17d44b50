"""The client on Prodigy's database, on every engine it supports."""

from __future__ import annotations

import gc
import json
import sqlite3
import threading
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool

from include.annotation.answers import read_answer
from include.base.canonical import sha256_hex
from include.base.errors import (
    AuthError,
    Conflict,
    InvalidInput,
    InvalidReply,
    NotFound,
    Refused,
    Unavailable,
    Unsupported,
)
from include.sandbox.prodigy_schema import create_schema, import_jsonl
from include.systems.prodigy import appending, database, rows
from include.systems.prodigy.client import ProdigyClient
from include.systems.prodigy.values import AddResult, Watermark
from tests.annotation.test_tasks import BINARY
from tests.servers import fresh_database
from tests.systems.prodigy.make import INBOX, PROJECT, answered, connect, run, task
from tests.systems.prodigy.test_hashes import rows_of


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    url = f"sqlite+pysqlite:///{tmp_path / 'file.db'}"
    create_schema(url)
    return url


@pytest.fixture
def postgres_database(postgres_url: str) -> Iterator[str]:
    with fresh_database(postgres_url) as url:
        create_schema(url)
        yield url


def test_an_empty_database_is_read_as_empty(client: ProdigyClient) -> None:
    assert client.datasets() == []
    assert not client.exists(INBOX)
    assert client.watermark(INBOX) == Watermark(0, 0)
    assert list(client.rows(INBOX)) == []
    assert client.add_tasks(INBOX, []) == AddResult(0, 0)
    assert not client.exists(INBOX), "adding nothing creates nothing"


def test_tasks_are_stored_byte_for_byte_as_prodigy_would(client: ProdigyClient, prodigy_url: str) -> None:
    given = task("Grüße / 😀 „Rechnung“\u00a0\u0000 e\u0301 é")
    assert client.add_tasks(INBOX, [given]) == AddResult(1, 0)
    [[stored, input_column, task_column]] = run(prodigy_url, "SELECT content, input_hash, task_hash FROM example")
    assert bytes(stored) == json.dumps(given, separators=(",", ":")).encode("ascii")
    assert (input_column, task_column) == (given["_input_hash"], given["_task_hash"])
    [row] = client.rows(INBOX)
    assert row.raw == bytes(stored)
    assert row.content == given
    assert list(row.content) == list(given), "the order of keys is kept"
    assert row.session is None
    if prodigy_url.startswith("sqlite"):
        assert run(prodigy_url, "SELECT typeof(content) FROM example") == [("blob",)]


def test_the_dataset_is_created_as_prodigy_creates_one(client: ProdigyClient, prodigy_url: str) -> None:
    before = datetime.now(UTC)
    client.add_tasks(INBOX, [task("one")])
    [info] = client.datasets()
    assert (info.name, info.session, info.meta) == (INBOX, False, {})
    assert abs(info.created - before) < timedelta(seconds=30)
    assert client.datasets(sessions=True) == []
    assert bytes(run(prodigy_url, "SELECT meta FROM dataset")[0][0]) == b"{}"


def test_adding_again_adds_nothing(client: ProdigyClient) -> None:
    tasks = [task(f"ticket {number}") for number in range(25)]
    assert client.add_tasks(INBOX, iter(tasks), batch=10) == AddResult(25, 0)
    seen = client.watermark(INBOX)
    assert client.add_tasks(INBOX, [*tasks, *tasks, task("new")], batch=7) == AddResult(1, 50)
    assert [row.content["text"] for row in client.rows(INBOX, batch=4)] == [*(t["text"] for t in tasks), "new"]
    assert client.watermark(INBOX).count == seen.count + 1
    assert [row.content["text"] for row in client.rows(INBOX, after=seen.last_link)] == ["new"]


def test_a_task_twice_in_one_batch_is_added_once(client: ProdigyClient) -> None:
    assert client.add_tasks(INBOX, [task("same"), task("same")]) == AddResult(1, 1)


def test_two_texts_with_one_input_hash_are_both_kept(client: ProdigyClient) -> None:
    first, second = "ticket 25380", "ticket 52709"  # among 400,000 texts there are some twenty such pairs
    assert task(first)["_input_hash"] == task(second)["_input_hash"]
    assert client.add_tasks(INBOX, [task(first)]) == AddResult(1, 0)
    assert client.add_tasks(INBOX, [task(first), task(second)]) == AddResult(1, 1)
    assert {row.content["text"] for row in client.rows(INBOX)} == {first, second}


def test_two_writers_at_once_add_each_task_once(client: ProdigyClient, prodigy_url: str) -> None:
    tasks = [task(f"ticket {number}") for number in range(120)]
    together = threading.Barrier(3)

    def write(order: int) -> AddResult:
        together.wait(10)
        return connect(prodigy_url).add_tasks(INBOX, tasks[order * 10 :] + tasks[: order * 10], batch=5)

    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(write, range(3)))
    assert sum(result.inserted for result in results) == 120
    assert sum(result.present for result in results) == 240
    texts = [row.content["text"] for row in client.rows(INBOX)]
    assert len(texts) == 120
    assert len(set(texts)) == 120
    assert run(prodigy_url, "SELECT count(*) FROM dataset") == [(1,)]


def test_a_writer_sees_what_another_added_between_its_batches(client: ProdigyClient, prodigy_url: str) -> None:
    tasks = [task(f"ticket {number}") for number in range(6)]

    def slowly() -> Iterator[dict[str, Any]]:
        yield from tasks[:3]
        assert connect(prodigy_url).add_tasks(INBOX, tasks[2:5]) == AddResult(3, 0)
        yield from tasks[3:]

    # The third task is handed over with the first batch only after the other writer has committed it.
    assert client.add_tasks(INBOX, slowly(), batch=2) == AddResult(3, 3)
    assert len({row.content["text"] for row in client.rows(INBOX)}) == client.watermark(INBOX).count == 6


def test_decisions_are_added_by_their_own_id(client: ProdigyClient) -> None:
    decision = task("ticket")
    decision["labelops"]["decision_id"] = "case-17"
    other = task("ticket")
    other["labelops"]["decision_id"] = "case-18"
    assert client.add_decisions(PROJECT.decisions, [decision]) == AddResult(1, 0)
    assert client.add_decisions(PROJECT.decisions, [decision, other]) == AddResult(1, 1)


@pytest.mark.parametrize("spoil", ["_input_hash", "_task_hash", "labelops"])
def test_a_task_without_hashes_or_id_is_refused(sqlite_url: str, spoil: str) -> None:
    client = connect(sqlite_url)
    spoiled = task("ticket")
    del spoiled[spoil]
    with pytest.raises(InvalidInput, match=spoil if spoil != "labelops" else "labelops.task_id"):
        client.add_tasks(INBOX, [task("good"), spoiled])
    assert client.watermark(INBOX).count == 0, "a batch is written whole or not at all"


@pytest.mark.parametrize("name", ["a b", "a,b", "", "x" * 256, "2024-05-01_10-00-00", "a\nb"])
def test_dataset_names_prodigy_forbids_are_refused(sqlite_url: str, name: str) -> None:
    with pytest.raises(InvalidInput, match="dataset"):
        connect(sqlite_url).add_tasks(name, [task("ticket")])


def test_answers_come_with_their_session_and_once_each(client: ProdigyClient, prodigy_url: str) -> None:
    rows = [answered(f"ticket {number}", person) for number in range(30) for person in ("anna", "ben")]
    import_jsonl(prodigy_url, PROJECT.answers, rows)
    found = list(client.rows(PROJECT.answers, batch=7))
    assert [row.session for row in found] == [row["_session_id"] for row in rows]
    assert [row.content for row in found] == rows
    assert [info.name for info in client.datasets(sessions=True)] == ["ticket_topics-anna", "ticket_topics-ben"]
    assert client.watermarks([PROJECT.answers, INBOX]) == {
        PROJECT.answers: Watermark(60, found[-1].link_id),
        INBOX: Watermark(0, 0),
    }
    assert list(client.rows("ticket_topics-anna")) == [], "a session is not a named dataset"


def test_a_real_export_comes_back_whole(client: ProdigyClient, prodigy_url: str) -> None:
    rows = rows_of("pydata-ams-2023.jsonl")
    assert import_jsonl(prodigy_url, BINARY.answers, rows) == len(rows)
    sessions = {row["_session_id"] for row in rows}
    found = list(client.rows(BINARY.answers))
    assert [row.content for row in found] == rows
    assert [row.session for row in found] == [row["_session_id"] for row in rows]
    assert {info.name for info in client.datasets(sessions=True)} == sessions
    answers = [read_answer(row, BINARY) for row in found]
    assert len({answer.account for answer in answers}) == 42
    assert dict(client.example_digests(row.example_id for row in found)) == {
        answer.example_id: answer.row_digest for answer in answers
    }


def test_the_probe_asks_for_many_datasets_at_once(client: ProdigyClient) -> None:
    client.add_tasks(INBOX, [task("ticket")])
    seen = client.watermarks([INBOX, *(f"absent{number}" for number in range(600))])
    assert len(seen) == 601
    assert seen[INBOX] == client.watermark(INBOX) == Watermark(1, seen[INBOX].last_link)
    assert seen["absent599"] == Watermark(0, 0)


def test_sessions_are_never_written(client: ProdigyClient, prodigy_url: str) -> None:
    import_jsonl(prodigy_url, PROJECT.answers, [answered("ticket")])
    before = run(prodigy_url, "SELECT count(*) FROM link")
    with pytest.raises(Refused, match="session"):
        client.add_tasks("ticket_topics-anna", [task("other")])
    with pytest.raises(Refused, match="session"):
        client.link("ticket_topics-anna", [1], {})
    assert run(prodigy_url, "SELECT count(*) FROM link") == before


def test_content_stored_as_text_or_broken_does_not_end_the_pass(sqlite_url: str) -> None:
    client = connect(sqlite_url)
    client.add_tasks(INBOX, [task("one"), task("two"), task("three")])
    run(sqlite_url, "UPDATE example SET content = :text WHERE id = 1", text='{"text":"édité"}')
    run(sqlite_url, "UPDATE example SET content = :broken WHERE id = 2", broken=b"\xff{")
    first, second, third = client.rows(INBOX)
    assert (first.content, first.raw) == ({"text": "édité"}, '{"text":"édité"}'.encode())
    assert (second.content, second.raw) == ({}, b"\xff{")
    assert third.content["text"] == "three"
    digests = dict(client.example_digests([3, 2, 1, 99]))
    assert digests == {3: sha256_hex(third.raw), 2: sha256_hex(b"\xff{"), 1: sha256_hex(first.raw), 99: None}
    assert client.add_tasks(INBOX, [task("three")]) == AddResult(0, 1)


def test_example_digests_find_altered_and_vanished_rows(client: ProdigyClient, prodigy_url: str) -> None:
    client.add_tasks(INBOX, [task(f"ticket {number}") for number in range(1200)])
    before = {row.example_id: sha256_hex(row.raw) for row in client.rows(INBOX)}
    altered, vanished = sorted(before)[3], sorted(before)[700]
    run(prodigy_url, "UPDATE example SET content = :content WHERE id = :id", content=b"{}", id=altered)
    run(prodigy_url, "DELETE FROM link WHERE example_id = :id", id=vanished)
    run(prodigy_url, "DELETE FROM example WHERE id = :id", id=vanished)
    now = list(client.example_digests(before))
    assert [example_id for example_id, _ in now] == list(before)
    assert {example_id for example_id, digest in now if digest != before[example_id]} == {altered, vanished}
    assert dict(now)[vanished] is None


def test_link_makes_a_dataset_of_exactly_these(client: ProdigyClient, prodigy_url: str) -> None:
    client.add_tasks(INBOX, [task(f"ticket {number}") for number in range(5)])
    ids = [row.example_id for row in client.rows(INBOX)]
    wanted = [ids[3], ids[0], ids[2]]
    assert client.link("ticket_topics__v1", [*wanted, ids[0]], {"digest": "abc"}) == 3
    assert [row.example_id for row in client.rows("ticket_topics__v1")] == wanted
    assert {info.name: info.meta for info in client.datasets()}["ticket_topics__v1"] == {"digest": "abc"}
    assert client.link("ticket_topics__v1", wanted, {"digest": "abc"}) == 0
    run(prodigy_url, "DELETE FROM link WHERE id = (SELECT m FROM (SELECT max(id) AS m FROM link) AS top)")
    assert client.link("ticket_topics__v1", wanted, {"digest": "abc"}) == 1, "what is missing is added"
    with pytest.raises(Conflict, match="1 examples"):
        client.link("ticket_topics__v1", wanted[:2], {"digest": "abc"})
    with pytest.raises(NotFound, match="999999"):
        client.link("ticket_topics__v2", [ids[0], 999_999], {})
    assert not client.exists("ticket_topics__v2"), "a link that failed leaves nothing behind"


def test_ids_given_out_again_do_not_hide_or_double_a_task(sqlite_url: str) -> None:
    client = connect(sqlite_url)
    client.add_tasks(INBOX, [task("kept"), task("dropped")])

    def meanwhile() -> Iterator[dict[str, Any]]:
        yield task("first")
        run(sqlite_url, "DELETE FROM link WHERE id > 1")
        run(sqlite_url, "DELETE FROM example WHERE id > 1")
        # This writer's row takes the ids of the one that was dropped.
        assert connect(sqlite_url).add_tasks(INBOX, [task("other")]) == AddResult(1, 0)
        assert run(sqlite_url, "SELECT max(id) FROM link") == [(2,)]
        yield task("other")
        yield task("dropped")

    client.add_tasks(INBOX, meanwhile(), batch=1)
    texts = [row.content["text"] for row in client.rows(INBOX)]
    assert sorted(texts) == sorted(set(texts))
    assert {"kept", "other", "dropped"} <= set(texts)


def test_content_longer_than_the_column_is_refused_before_it_is_sent(mariadb_url: str) -> None:
    with fresh_database(mariadb_url) as url:
        create_schema(url, content="BLOB")
        client = connect(url)
        with pytest.raises(InvalidInput, match=r"holds 65535.*LONGBLOB"):
            client.add_tasks(INBOX, [task("small"), task("x" * 70_000)])
        assert client.watermark(INBOX).count == 0
        assert client.add_tasks(INBOX, [task("small")]) == AddResult(1, 0)


def test_long_content_fits_where_the_column_is_wide(client: ProdigyClient) -> None:
    client.add_tasks(INBOX, [task("x" * 70_000), task("y" * 3_000_000)])
    assert [len(row.content["text"]) for row in client.rows(INBOX)] == [70_000, 3_000_000]


@pytest.mark.memory
def test_a_pass_holds_few_rows_at_a_time(client: ProdigyClient) -> None:
    size, number = 500_000, 60
    client.add_tasks(INBOX, (task(f"{place} " + "x" * size) for place in range(number)))
    gc.collect()
    tracemalloc.start()
    seen = sum(1 for _ in client.rows(INBOX))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seen == number
    # A piece of content, in whatever copies the driver makes of it; far from the 30 MB that are there.
    assert peak < 3.2 * rows.PIECE_BYTES < size * number


def test_a_pass_survives_a_writer_beside_it(client: ProdigyClient, prodigy_url: str) -> None:
    client.add_tasks(INBOX, [task(f"ticket {number}") for number in range(20)])
    texts = []
    for row in client.rows(INBOX, batch=5):
        texts.append(row.content["text"])
        if len(texts) == 7:
            # On SQLite this would wait for the pass, had it kept its transaction open.
            connect(prodigy_url).add_tasks(INBOX, [task("late")])
    assert texts == [*(f"ticket {number}" for number in range(20)), "late"]


@pytest.mark.memory
def test_a_hundred_thousand_rows_stream(sqlite_url: str) -> None:
    path = make_url(sqlite_url).database
    assert path
    with sqlite3.connect(path) as conn:
        conn.execute("INSERT INTO dataset VALUES (1, 'big', 0, x'7b7d', 0)")
        conn.executemany(
            "INSERT INTO example VALUES (?, 0, 0, ?)", ((n, b'{"text":"ticket %d"}' % n) for n in range(1, 100_001))
        )
        conn.execute("INSERT INTO link SELECT id, id, 1 FROM example")
    conn.close()
    client = connect(sqlite_url)
    links = [row.link_id for row in client.rows("big")]
    assert links == list(range(1, 100_001))
    assert client.watermark("big") == Watermark(100_000, 100_000)


def test_unknown_storage_is_named_and_refused(client: ProdigyClient, prodigy_url: str, caplog: Any) -> None:
    client.add_tasks(INBOX, [task("ticket")])
    run(prodigy_url, "CREATE TABLE structured_example (id INTEGER PRIMARY KEY)")
    fresh = connect(prodigy_url)
    assert len(list(fresh.rows(INBOX))) == 1, "what is in the known tables stays readable"
    for call in (
        lambda: fresh.exists("elsewhere"),
        lambda: fresh.watermark("elsewhere"),
        lambda: list(fresh.rows("elsewhere")),
        lambda: fresh.add_tasks("elsewhere", [task("ticket")]),
    ):
        with pytest.raises(Unsupported, match="structured_example"):
            call()
    assert "structured_example" in fresh.check()


def test_test_connection_counts_what_is_there(client: ProdigyClient, prodigy_url: str) -> None:
    import_jsonl(prodigy_url, PROJECT.answers, [answered("ticket"), answered("ticket", "ben")])
    rows = run(prodigy_url, "SELECT (SELECT count(*) FROM dataset), (SELECT count(*) FROM example)")
    assert "1 datasets, 2 sessions" in client.check()
    assert run(prodigy_url, "SELECT (SELECT count(*) FROM dataset), (SELECT count(*) FROM example)") == rows


def test_a_database_without_prodigys_tables_is_said_to_be_one(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "other.db") as conn:
        conn.execute("CREATE TABLE dataset (id INTEGER)")
    conn.close()
    client = connect(f"sqlite+pysqlite:///{tmp_path / 'other.db'}")
    with pytest.raises(InvalidReply, match="no table `example`"):
        client.datasets()
    with pytest.raises(InvalidReply, match="no table `example`"):
        client.check()


def test_a_wrong_path_is_an_error_and_makes_no_file(tmp_path: Path) -> None:
    client = connect(f"sqlite+pysqlite:///{tmp_path / 'nowhere.db'}")
    with pytest.raises(NotFound):
        client.datasets()
    assert list(tmp_path.iterdir()) == []


def test_a_locked_file_is_unavailable(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "LOCK_SECONDS", 0.1)
    client = connect(sqlite_url)
    path = make_url(sqlite_url).database
    assert path
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(Unavailable, match="locked"):
            client.add_tasks(INBOX, [task("ticket")])
    finally:
        other.execute("ROLLBACK")
        other.close()
    assert client.add_tasks(INBOX, [task("ticket")]) == AddResult(1, 0)


def test_names_the_database_cannot_tell_apart_are_a_conflict(mariadb_url: str) -> None:
    with fresh_database(mariadb_url) as url:
        create_schema(url)
        client = connect(url)
        client.add_tasks("Tickets", [task("ticket")])
        assert not client.exists("tickets")
        with pytest.raises(Conflict, match="tickets from its dataset Tickets"):
            client.add_tasks("tickets", [task("ticket")])
        assert client.watermark("Tickets").count == 1


def test_prodigys_own_inserts_do_not_wait_for_ours(postgres_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client = connect(postgres_database)
    client.add_tasks(INBOX, [task("ticket")])
    insert_rows = appending.insert_rows

    def beside_prodigy(conn: Any, *rest: Any) -> None:
        insert_rows(conn, *rest)
        with create_engine(postgres_database, poolclass=NullPool).begin() as other:
            other.execute(text("SET LOCAL lock_timeout = '2s'"))
            other.execute(text("INSERT INTO link (example_id, dataset_id) SELECT 1, id FROM dataset"))

    monkeypatch.setattr(appending, "insert_rows", beside_prodigy)
    assert client.add_tasks(INBOX, [task("other")]) == AddResult(1, 0)
    assert client.watermark(INBOX).count == 3


def test_a_column_of_another_type_is_refused(postgres_database: str) -> None:
    run(postgres_database, "ALTER TABLE dataset ALTER COLUMN created TYPE timestamp USING to_timestamp(created)")
    with pytest.raises(InvalidReply, match=r"dataset\.created: found TIMESTAMP"):
        connect(postgres_database).datasets()


def reader(url: str, password: str = "") -> str:
    parts = make_url(url).set(username="reader", password=password or None)
    return parts.render_as_string(hide_password=False)


def test_an_account_that_may_only_read_is_told_the_missing_right(postgres_database: str) -> None:
    owner = connect(postgres_database)
    owner.add_tasks(INBOX, [task("ticket")])
    run(postgres_database, "DROP ROLE IF EXISTS reader")
    run(postgres_database, "CREATE ROLE reader LOGIN")
    try:
        client = connect(reader(postgres_database))
        with pytest.raises(AuthError, match="missing: read dataset, read example, read link"):
            client.check()
        for table in ("dataset", "example", "link"):
            run(postgres_database, f"GRANT SELECT ON {table} TO reader")
        assert len(list(client.rows(INBOX))) == 1
        with pytest.raises(AuthError, match="insert into dataset, use the sequence"):
            client.check()
        with pytest.raises(AuthError, match="right to insert"):
            client.add_tasks(INBOX, [task("other")])
        for table in ("dataset", "example", "link"):
            run(postgres_database, f"GRANT INSERT ON {table} TO reader")
        with pytest.raises(AuthError, match="sequence"):
            client.check()
        run(postgres_database, "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO reader")
        assert client.check().endswith("may read and insert")
        assert client.add_tasks(INBOX, [task("other")]) == AddResult(1, 0)
    finally:
        run(postgres_database, "DROP OWNED BY reader")
        run(postgres_database, "DROP ROLE reader")


def test_mariadb_names_the_missing_right_too(mariadb_url: str) -> None:
    with fresh_database(mariadb_url) as url:
        create_schema(url)
        name = make_url(url).database
        run(url, "CREATE OR REPLACE USER reader@'%' IDENTIFIED BY 'secret-word'")
        run(url, f"GRANT SELECT ON {name}.* TO reader@'%'")
        client = connect(reader(url, "secret-word"))
        assert client.datasets() == []
        with pytest.raises(AuthError, match="insert into dataset, insert into example, insert into link"):
            client.check()
        with pytest.raises(AuthError):
            client.add_tasks(INBOX, [task("ticket")])
        wrong = connect(reader(url, "other-word"))
        with pytest.raises(AuthError) as refused:
            wrong.datasets()
        assert "other-word" not in str(refused.value)


def test_a_killed_connection_is_unavailable_and_nothing_is_half_written(
    postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect(postgres_database)
    client.add_tasks(INBOX, [task("ticket")])
    insert_rows = appending.insert_rows

    def killed(conn: Any, *rest: Any) -> None:
        insert_rows(conn, *rest)
        own = conn.exec_driver_sql("SELECT pg_backend_pid()").scalar()
        run(postgres_database, f"SELECT pg_terminate_backend({own})")

    monkeypatch.setattr(appending, "insert_rows", killed)
    with pytest.raises(Unavailable):
        client.add_tasks(INBOX, [task("one"), task("two")])
    monkeypatch.setattr(appending, "insert_rows", insert_rows)
    assert client.watermark(INBOX).count == 1
    assert client.add_tasks(INBOX, [task("one"), task("two")]) == AddResult(2, 0)


def test_a_server_that_is_not_there_is_unavailable() -> None:
    for driver in ("postgresql+psycopg", "mysql+pymysql"):
        client = connect(f"{driver}://labelops@127.0.0.1:1/prodigy")
        with pytest.raises(Unavailable):
            client.datasets()


def test_contents_stay_out_of_error_messages(postgres_database: str) -> None:
    client = connect(postgres_database)
    client.add_tasks(INBOX, [task("ticket")])
    run(postgres_database, "ALTER TABLE example ADD CONSTRAINT small CHECK (length(content) < 10) NOT VALID")
    with pytest.raises(InvalidReply) as refused:
        client.add_tasks(INBOX, [task("a private matter")])
    assert "private" not in str(refused.value)
    assert "private" not in str(refused.value.__cause__)
