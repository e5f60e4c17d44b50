"""What accounts with few rights may do, and what is removed; on every engine."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from include.base.canonical import sha256_hex
from include.base.errors import AuthError, InvalidInput, Refused, Unsupported
from include.sandbox.prodigy_schema import create_schema, import_jsonl
from include.systems.prodigy.client import ProdigyClient
from include.systems.prodigy.values import AddResult, Rights
from tests.servers import fresh_database
from tests.systems.prodigy.make import ANSWERS, INBOX, PROJECT, answered, connect, run, task

TABLES = ("dataset", "example", "link")


@pytest.fixture(params=["postgresql", "mariadb"])
def server_url(request: pytest.FixtureRequest) -> Iterator[str]:
    server = request.getfixturevalue("postgres_url" if request.param == "postgresql" else "mariadb_url")
    with fresh_database(server) as url:
        create_schema(url)
        yield url


@contextmanager
def account(url: str, *rights: str) -> Iterator[str]:
    """Make an account that has these rights on Prodigy's tables and no other; give its URL."""
    name = make_url(url).database
    if url.startswith("postgresql"):
        role = f"few_{name}"
        run(url, f"CREATE ROLE {role} LOGIN")
        try:
            for table in TABLES:
                run(url, f"GRANT {', '.join(rights)} ON {table} TO {role}")
                if "INSERT" in rights:
                    run(url, f"GRANT USAGE ON SEQUENCE {table}_id_seq TO {role}")
            yield make_url(url).set(username=role).render_as_string(hide_password=False)
        finally:
            run(url, f"DROP OWNED BY {role}")
            run(url, f"DROP ROLE {role}")
    else:
        run(url, "CREATE OR REPLACE USER few@'%' IDENTIFIED BY 'words'")
        for table in TABLES:
            run(url, f"GRANT {', '.join(rights)} ON {name}.{table} TO few@'%'")
        yield make_url(url).set(username="few", password="words").render_as_string(hide_password=False)


def contents(url: str) -> list[Any]:
    return [run(url, f"SELECT * FROM {table} ORDER BY id") for table in TABLES]


def fill(url: str) -> ProdigyClient:
    owner = connect(url)
    owner.add_tasks(INBOX, [task("ticket")])
    import_jsonl(url, ANSWERS, [answered("ticket"), answered("ticket", "ben")])
    return owner


def read_everything(client: ProdigyClient) -> None:
    rows = list(client.rows(ANSWERS))
    assert len(rows) == 2
    assert len(client.datasets()) == 2
    assert [info.name for info in client.sessions(ANSWERS)] == [f"{ANSWERS}-anna", f"{ANSWERS}-ben"]
    assert client.meta(ANSWERS) == {}
    assert [row.example_id for row in client.rows_of_session(f"{ANSWERS}-ben")] == [rows[1].example_id]
    assert len(list(client.new_rows(ANSWERS))) == 2
    assert client.counts(ANSWERS).by("annotator") == {("anna",): 1, ("ben",): 1}
    digests = [(row.example_id, sha256_hex(row.raw)) for row in rows]
    assert list(client.example_digests([row.example_id for row in rows])) == digests
    assert client.watermark(ANSWERS).count == 2


def writes(client: ProdigyClient) -> list[Any]:
    return [
        lambda: client.add_tasks(INBOX, [task("other")]),
        lambda: client.add_decisions(PROJECT.decisions, [{**task("x"), "labelops": {"decision_id": "d"}}]),
        lambda: client.link("ticket_topics__v1", [1], {}),
    ]


def removals(client: ProdigyClient) -> list[Any]:
    return [lambda: client.unlink(INBOX), lambda: client.delete_examples([1])]


def test_the_owner_may_do_everything(client: ProdigyClient, prodigy_url: str) -> None:
    before = contents(prodigy_url)
    assert client.rights() == Rights(read=True, insert=True, delete=True, missing=())
    assert "may read and insert and delete" in client.check()
    assert contents(prodigy_url) == before, "nothing is left behind"
    for word in ("SELECT", "INSERT", "DELETE"):
        assert any(word in one for one in client.requirements())


def test_an_account_that_reads_only(server_url: str) -> None:
    fill(server_url)
    before = contents(server_url)
    with account(server_url, "SELECT") as url:
        client = connect(url)
        rights = client.rights()
        assert (rights.read, rights.insert, rights.delete) == (True, False, False)
        for table in TABLES:
            assert f"insert into {table}" in rights.missing
            assert f"delete from {table}" in rights.missing
        lacks = "may read; missing for adding tasks, decisions and versions: insert into dataset"
        with pytest.raises(AuthError, match=lacks):
            client.check()
        read_everything(client)
        for write in writes(client):
            with pytest.raises(AuthError, match="right to insert"):
                write()
        for remove in removals(client):
            with pytest.raises(AuthError, match="right to delete"):
                remove()
    assert contents(server_url) == before


def test_an_account_that_reads_and_inserts(server_url: str) -> None:
    fill(server_url)
    with account(server_url, "SELECT", "INSERT") as url:
        client = connect(url)
        assert client.rights() == Rights(True, True, False, tuple(f"delete from {table}" for table in TABLES))
        assert client.check().endswith("may read and insert")
        read_everything(client)
        for write in writes(client):
            write()
        assert client.add_tasks(INBOX, [task("other"), task("third")]) == AddResult(1, 1)
        before = contents(server_url)
        for remove in removals(client):
            with pytest.raises(AuthError, match="right to delete"):
                remove()
        assert contents(server_url) == before


def test_an_account_without_a_sequence_is_told_so(postgres_url: str) -> None:
    with fresh_database(postgres_url) as url:
        create_schema(url)
        with account(url, "SELECT", "INSERT") as few:
            run(url, f"REVOKE USAGE ON SEQUENCE link_id_seq FROM {make_url(few).username}")
            client = connect(few)
            assert client.rights().missing[0] == "use the sequence of link.id"
            with pytest.raises(AuthError, match="link_id_seq"):
                client.add_tasks(INBOX, [task("ticket")])


@contextmanager
def ordinary() -> Iterator[None]:
    """Be somebody whom file permissions bind: root is not."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_file_or_folder_that_may_not_be_written(what: str) -> None:
    folder = Path(tempfile.mkdtemp(prefix="labelops-readonly-"))
    try:
        url = f"sqlite+pysqlite:///{folder / 'prodigy.db'}"
        create_schema(url)
        fill(url)
        read_everything(connect(url))
        before = contents(url)
        (folder / "prodigy.db").chmod(0o444 if what == "file" else 0o666)
        folder.chmod(0o777 if what == "file" else 0o555)
        client = connect(url)
        with ordinary():
            read_everything(client)
            rights = client.rights()
            assert (rights.read, rights.insert, rights.delete) == (True, False, False)
            assert f"write into {folder / 'prodigy.db' if what == 'file' else folder}" in rights.missing
            with pytest.raises(AuthError, match="write into"):
                client.check()
            for write in (*writes(client), *removals(client)):
                with pytest.raises(AuthError, match=r"right to (insert|delete)"):
                    write()
        assert contents(url) == before
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


def test_unlinking_takes_a_dataset_and_its_links_and_leaves_the_rows(client: ProdigyClient, prodigy_url: str) -> None:
    import_jsonl(prodigy_url, ANSWERS, [answered("ticket"), answered("ticket", "ben")])
    client.add_tasks(INBOX, [task("ticket")])
    rows = list(client.rows(ANSWERS))
    assert client.unlink(ANSWERS) == 2
    assert not client.exists(ANSWERS)
    assert client.unlink(ANSWERS) == 0, "it may be repeated"
    [left] = client.rows_of_session(f"{ANSWERS}-anna")
    assert (left.example_id, left.raw, left.session) == (rows[0].example_id, rows[0].raw, f"{ANSWERS}-anna")
    assert client.sessions(ANSWERS) == []
    assert len(client.sessions()) == 2
    assert client.watermark(INBOX).count == 1
    with pytest.raises(Refused, match="session"):
        client.unlink(f"{ANSWERS}-anna")
    assert client.delete_examples([left.example_id]) == 1
    assert list(client.rows_of_session(f"{ANSWERS}-anna")) == []


def test_deleting_examples_takes_all_their_links(client: ProdigyClient, prodigy_url: str) -> None:
    import_jsonl(prodigy_url, ANSWERS, [answered(f"ticket {number}") for number in range(1200)])
    rows = list(client.rows(ANSWERS))
    client.link("ticket_topics__v1", [rows[0].example_id, rows[1].example_id], {})
    assert client.delete_examples(row.example_id for row in rows[1:]) == 1199
    assert client.delete_examples([row.example_id for row in rows[1:]]) == 0
    assert run(prodigy_url, "SELECT count(*) FROM example") == [(1,)]
    assert run(prodigy_url, "SELECT count(*) FROM link") == [(3,)]
    assert [row.example_id for row in client.rows("ticket_topics__v1")] == [rows[0].example_id]


def test_columns_of_other_types_are_read_and_written(postgres_url: str) -> None:
    with fresh_database(postgres_url) as url:
        create_schema(url)
        run(url, "ALTER TABLE dataset ALTER COLUMN created TYPE integer, ALTER COLUMN session TYPE integer USING 0")
        run(url, "ALTER TABLE dataset ALTER COLUMN meta TYPE text USING ''")
        run(url, "ALTER TABLE example ALTER COLUMN content TYPE varchar(900) USING ''")
        client = connect(url)
        assert client.add_tasks(INBOX, [task("Grüße")]) == AddResult(1, 0)
        [row] = client.rows(INBOX)
        assert row.content == task("Grüße")
        assert [info.meta for info in client.datasets()] == [{}]
        assert client.counts(INBOX).rows == 1
        assert list(client.example_digests([row.example_id])) == [(row.example_id, sha256_hex(row.raw))]
        listing = client.new_rows(INBOX)
        assert len(list(listing)) == 1
        assert list(client.new_rows(INBOX, resume=listing.state)) == []
        with pytest.raises(InvalidInput, match=r"example\.content holds 900"):
            client.add_tasks(INBOX, [task("small"), task("x" * 900)])
        assert client.watermark(INBOX).count == 1


def test_ids_that_come_from_elsewhere_than_a_serial(postgres_url: str) -> None:
    with fresh_database(postgres_url) as url:
        create_schema(url)
        for table in ("example", "link"):
            run(url, f"ALTER TABLE {table} ALTER COLUMN id DROP DEFAULT")
            run(url, f"ALTER TABLE {table} ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (START 10)")
        client = connect(url)
        assert client.add_tasks(INBOX, [task("one"), task("two")]) == AddResult(2, 0)
        assert [row.content["text"] for row in client.rows(INBOX)] == ["one", "two"]


def test_a_column_that_needs_an_unknown_value_stops_writing(client: ProdigyClient, prodigy_url: str) -> None:
    client.add_tasks(INBOX, [task("ticket")])
    run(prodigy_url, "ALTER TABLE link ADD COLUMN weight INTEGER NOT NULL DEFAULT 1")
    assert connect(prodigy_url).add_tasks(INBOX, [task("other")]) == AddResult(1, 0), "a default is enough"
    if prodigy_url.startswith("sqlite"):
        pytest.skip("SQLite adds no column without a default")
    run(prodigy_url, "ALTER TABLE link ALTER COLUMN weight DROP DEFAULT")
    fresh = connect(prodigy_url)
    with pytest.raises(Unsupported, match=r"link\.weight"):
        fresh.add_tasks(INBOX, [task("third")])
    with pytest.raises(Unsupported, match=r"link\.weight"):
        fresh.check()
    assert len(list(fresh.rows(INBOX))) == 2
