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
from include.systems.prodigy.values import AddResult, Altered, Rights
from labelops.hooks.prodigy import ProdigyHook
from tests.hooks.test_prodigy_hook import INBOX, PROJECT, answered, connect, run, task
from tests.servers import fresh_database

ANSWERS = PROJECT.answers
TABLES = ("dataset", "example", "link")


@pytest.fixture
def hook(prodigy_url: str, monkeypatch: pytest.MonkeyPatch) -> ProdigyHook:
    return connect(monkeypatch, prodigy_url)


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


def fill(url: str, monkeypatch: pytest.MonkeyPatch) -> ProdigyHook:
    owner = connect(monkeypatch, url, "owner")
    owner.add_tasks(INBOX, [task("ticket")])
    import_jsonl(url, ANSWERS, [answered("ticket"), answered("ticket", "ben")])
    return owner


def read_everything(hook: ProdigyHook) -> None:
    rows = list(hook.rows(ANSWERS))
    assert len(rows) == 2
    assert len(hook.datasets()) == 2
    assert [info.name for info in hook.sessions(ANSWERS)] == [f"{ANSWERS}-anna", f"{ANSWERS}-ben"]
    assert hook.meta(ANSWERS) == {}
    assert [row.example_id for row in hook.rows_of_session(f"{ANSWERS}-ben")] == [rows[1].example_id]
    assert len(list(hook.new_rows(ANSWERS))) == 2
    assert hook.counts(ANSWERS).by("annotator") == {("anna",): 1, ("ben",): 1}
    assert list(hook.altered(ANSWERS, [(row.example_id, sha256_hex(row.raw)) for row in rows])) == []
    assert hook.watermark(ANSWERS).count == 2


def writes(hook: ProdigyHook) -> list[Any]:
    return [
        lambda: hook.add_tasks(INBOX, [task("other")]),
        lambda: hook.add_decisions(PROJECT.decisions, [{**task("x"), "labelops": {"decision_id": "d"}}]),
        lambda: hook.link("ticket_topics__v1", [1], {}),
    ]


def removals(hook: ProdigyHook) -> list[Any]:
    return [lambda: hook.unlink(INBOX), lambda: hook.delete_examples([1])]


def test_the_owner_may_do_everything(hook: ProdigyHook, prodigy_url: str) -> None:
    before = contents(prodigy_url)
    assert hook.rights() == Rights(read=True, insert=True, delete=True, missing=())
    works, said = hook.test_connection()
    assert works
    assert "may read and insert and delete" in said
    assert contents(prodigy_url) == before, "nothing is left behind"
    for word in ("SELECT", "INSERT", "DELETE"):
        assert any(word in one for one in hook.requirements())


def test_an_account_that_reads_only(server_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(server_url, monkeypatch)
    before = contents(server_url)
    with account(server_url, "SELECT") as url:
        hook = connect(monkeypatch, url)
        rights = hook.rights()
        assert (rights.read, rights.insert, rights.delete) == (True, False, False)
        for table in TABLES:
            assert f"insert into {table}" in rights.missing
            assert f"delete from {table}" in rights.missing
        works, said = hook.test_connection()
        assert not works
        assert "may read; missing for adding tasks, decisions and versions: insert into dataset" in said
        read_everything(hook)
        for write in writes(hook):
            with pytest.raises(AuthError, match="right to insert"):
                write()
        for remove in removals(hook):
            with pytest.raises(AuthError, match="right to delete"):
                remove()
    assert contents(server_url) == before


def test_an_account_that_reads_and_inserts(server_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(server_url, monkeypatch)
    with account(server_url, "SELECT", "INSERT") as url:
        hook = connect(monkeypatch, url)
        assert hook.rights() == Rights(True, True, False, tuple(f"delete from {table}" for table in TABLES))
        works, said = hook.test_connection()
        assert works, said
        assert said.endswith("may read and insert")
        read_everything(hook)
        for write in writes(hook):
            write()
        assert hook.add_tasks(INBOX, [task("other"), task("third")]) == AddResult(1, 1)
        before = contents(server_url)
        for remove in removals(hook):
            with pytest.raises(AuthError, match="right to delete"):
                remove()
        assert contents(server_url) == before


def test_an_account_without_a_sequence_is_told_so(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with fresh_database(postgres_url) as url:
        create_schema(url)
        with account(url, "SELECT", "INSERT") as few:
            run(url, f"REVOKE USAGE ON SEQUENCE link_id_seq FROM {make_url(few).username}")
            hook = connect(monkeypatch, few)
            assert hook.rights().missing[0] == "use the sequence of link.id"
            with pytest.raises(AuthError, match="link_id_seq"):
                hook.add_tasks(INBOX, [task("ticket")])


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
def test_a_file_or_folder_that_may_not_be_written(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(tempfile.mkdtemp(prefix="labelops-readonly-"))
    try:
        url = f"sqlite+pysqlite:///{folder / 'prodigy.db'}"
        create_schema(url)
        fill(url, monkeypatch)
        read_everything(connect(monkeypatch, url))
        before = contents(url)
        (folder / "prodigy.db").chmod(0o444 if what == "file" else 0o666)
        folder.chmod(0o777 if what == "file" else 0o555)
        hook = connect(monkeypatch, url)
        with ordinary():
            read_everything(hook)
            rights = hook.rights()
            assert (rights.read, rights.insert, rights.delete) == (True, False, False)
            assert f"write into {folder / 'prodigy.db' if what == 'file' else folder}" in rights.missing
            assert not hook.test_connection()[0]
            for write in (*writes(hook), *removals(hook)):
                with pytest.raises(AuthError, match=r"right to (insert|delete)"):
                    write()
        assert contents(url) == before
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


def test_unlinking_takes_a_dataset_and_its_links_and_leaves_the_rows(hook: ProdigyHook, prodigy_url: str) -> None:
    import_jsonl(prodigy_url, ANSWERS, [answered("ticket"), answered("ticket", "ben")])
    hook.add_tasks(INBOX, [task("ticket")])
    rows = list(hook.rows(ANSWERS))
    assert hook.unlink(ANSWERS) == 2
    assert not hook.exists(ANSWERS)
    assert hook.unlink(ANSWERS) == 0, "it may be repeated"
    [left] = hook.rows_of_session(f"{ANSWERS}-anna")
    assert (left.example_id, left.raw, left.session) == (rows[0].example_id, rows[0].raw, f"{ANSWERS}-anna")
    assert hook.sessions(ANSWERS) == []
    assert len(hook.sessions()) == 2
    assert hook.watermark(INBOX).count == 1
    with pytest.raises(Refused, match="session"):
        hook.unlink(f"{ANSWERS}-anna")
    assert hook.delete_examples([left.example_id]) == 1
    assert list(hook.rows_of_session(f"{ANSWERS}-anna")) == []


def test_deleting_examples_takes_all_their_links(hook: ProdigyHook, prodigy_url: str) -> None:
    import_jsonl(prodigy_url, ANSWERS, [answered(f"ticket {number}") for number in range(1200)])
    rows = list(hook.rows(ANSWERS))
    hook.link("ticket_topics__v1", [rows[0].example_id, rows[1].example_id], {})
    assert hook.delete_examples(row.example_id for row in rows[1:]) == 1199
    assert hook.delete_examples([row.example_id for row in rows[1:]]) == 0
    assert run(prodigy_url, "SELECT count(*) FROM example") == [(1,)]
    assert run(prodigy_url, "SELECT count(*) FROM link") == [(3,)]
    assert [row.example_id for row in hook.rows("ticket_topics__v1")] == [rows[0].example_id]


def test_altered_tells_changed_gone_and_unlinked_rows(hook: ProdigyHook, prodigy_url: str) -> None:
    import_jsonl(prodigy_url, ANSWERS, [answered(f"ticket {number}") for number in range(1100)])
    seen = [(row.example_id, sha256_hex(row.raw)) for row in hook.rows(ANSWERS)]
    assert list(hook.altered(ANSWERS, iter(seen))) == []
    changed, gone, unlinked = seen[3], seen[700], seen[1050]
    run(prodigy_url, "UPDATE example SET content = :content WHERE id = :id", content=b"{}", id=changed[0])
    hook.delete_examples([gone[0]])
    run(prodigy_url, "DELETE FROM link WHERE example_id = :id", id=unlinked[0])
    assert list(hook.altered(ANSWERS, iter(seen))) == [
        Altered(*changed, sha256_hex(b"{}"), True),
        Altered(*gone, None, False),
        Altered(*unlinked, unlinked[1], False),
    ]
    hook.unlink(ANSWERS)
    assert {one.linked for one in hook.altered(ANSWERS, seen[:3])} == {False}


def test_columns_of_other_types_are_read_and_written(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with fresh_database(postgres_url) as url:
        create_schema(url)
        run(url, "ALTER TABLE dataset ALTER COLUMN created TYPE integer, ALTER COLUMN session TYPE integer USING 0")
        run(url, "ALTER TABLE dataset ALTER COLUMN meta TYPE text USING ''")
        run(url, "ALTER TABLE example ALTER COLUMN content TYPE varchar(900) USING ''")
        hook = connect(monkeypatch, url)
        assert hook.add_tasks(INBOX, [task("Grüße")]) == AddResult(1, 0)
        [row] = hook.rows(INBOX)
        assert row.content == task("Grüße")
        assert [info.meta for info in hook.datasets()] == [{}]
        assert hook.counts(INBOX).rows == 1
        assert list(hook.altered(INBOX, [(row.example_id, sha256_hex(row.raw))])) == []
        listing = hook.new_rows(INBOX)
        assert len(list(listing)) == 1
        assert list(hook.new_rows(INBOX, resume=listing.state)) == []
        with pytest.raises(InvalidInput, match=r"example\.content holds 900"):
            hook.add_tasks(INBOX, [task("small"), task("x" * 900)])
        assert hook.watermark(INBOX).count == 1


def test_ids_that_come_from_elsewhere_than_a_serial(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with fresh_database(postgres_url) as url:
        create_schema(url)
        for table in ("example", "link"):
            run(url, f"ALTER TABLE {table} ALTER COLUMN id DROP DEFAULT")
            run(url, f"ALTER TABLE {table} ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (START 10)")
        hook = connect(monkeypatch, url)
        assert hook.add_tasks(INBOX, [task("one"), task("two")]) == AddResult(2, 0)
        assert [row.content["text"] for row in hook.rows(INBOX)] == ["one", "two"]


def test_a_column_that_needs_an_unknown_value_stops_writing(hook: ProdigyHook, prodigy_url: str) -> None:
    hook.add_tasks(INBOX, [task("ticket")])
    run(prodigy_url, "ALTER TABLE link ADD COLUMN weight INTEGER NOT NULL DEFAULT 1")
    assert ProdigyHook().add_tasks(INBOX, [task("other")]) == AddResult(1, 0), "a default is enough"
    if prodigy_url.startswith("sqlite"):
        pytest.skip("SQLite adds no column without a default")
    run(prodigy_url, "ALTER TABLE link ALTER COLUMN weight DROP DEFAULT")
    fresh = ProdigyHook()
    with pytest.raises(Unsupported, match=r"link\.weight"):
        fresh.add_tasks(INBOX, [task("third")])
    works, said = fresh.test_connection()
    assert (works, "link.weight" in said) == (False, True)
    assert len(list(fresh.rows(INBOX))) == 2
