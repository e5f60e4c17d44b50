from __future__ import annotations

import errno
import os
import sqlite3
from collections import deque
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from include.base.disk import scratch_folder, writing_to
from include.base.errors import Unavailable
from include.base.seen import SeenNames
from include.base.store import Store, atomic_write
from include.governance.ledger import Ledger
from include.governance.records import NewEvent
from include.people.register import Register, RegisterFile
from include.run.run import Run, RunRef

WORDS = {
    errno.ENOSPC: "the disk it is on is full",
    errno.EDQUOT: "the quota on its disk is used up",
    errno.EROFS: "the disk it is on may only be read",
    errno.EFBIG: "no file may become so large there",
    errno.EIO: "the disk it is on reports an error",
}


def failing(code: int) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize("code", WORDS)
def test_a_file_that_finds_no_room_is_named_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(os, "fsync", failing(code))
    with pytest.raises(Unavailable, match=rf"{tmp_path}/a/b\.json: cannot be written: {WORDS[code]}") as caught:
        atomic_write(tmp_path / "a" / "b.json", b"{}")
    assert caught.value.system == "disk"
    assert list((tmp_path / "a").iterdir()) == []


def test_an_object_and_a_pointer_of_the_store_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    monkeypatch.setattr(os, "replace", failing(errno.ENOSPC))
    with pytest.raises(Unavailable, match=f"{tmp_path}/objects/"):
        store.put_object(b"x")
    with pytest.raises(Unavailable, match=f"{tmp_path}/current.json"):
        store.move_pointer(store.at("current.json"), {"a": 1})


def test_what_a_step_stages_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.db")
    staging = tmp_path / "staging" / "try"
    run = Run(Store(tmp_path), ledger, Register(RegisterFile(persons=())), RunRef("dag", "run"), staging, Path)
    assert Path(run.stage("rows.jsonl", [{"a": 1}])).read_bytes() == b'{"a":1}\n'
    monkeypatch.setattr(os, "fsync", failing(errno.ENOSPC))
    with pytest.raises(Unavailable, match=f"{staging}/more.jsonl: cannot be written"):
        run.stage("more.jsonl", [{"a": 1}])
    monkeypatch.setattr(Path, "mkdir", failing(errno.EROFS))
    with pytest.raises(Unavailable, match=f"{staging}: cannot be written: .* may only be read"):
        run.staged("page.json")


def test_the_place_that_is_full_is_told_and_not_the_one_around_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    with pytest.raises(Unavailable, match=f"folder of temporary files {tmp_path}/scratch"), scratch_folder("test"):
        failing(errno.ENOSPC)()
    monkeypatch.setattr(os, "fsync", failing(errno.ENOSPC))
    with pytest.raises(Unavailable, match=f"^{tmp_path}/kept"), scratch_folder("test"):
        atomic_write(tmp_path / "kept", b"x")
    assert list((tmp_path / "scratch").iterdir()) == []


def test_temporary_databases_that_find_no_room_name_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    connect = sqlite3.connect

    def small(*given: object, **more: object) -> sqlite3.Connection:
        opened = connect(*given, **more)  # type: ignore[call-overload]
        opened.execute("PRAGMA max_page_count = 3")
        return opened

    monkeypatch.setattr(sqlite3, "connect", small)
    with SeenNames(in_memory=2000) as seen, pytest.raises(Unavailable, match=f"{tmp_path}: cannot be written: .* full"):
        seen.update(map(str, range(10_000)))


def test_a_ledger_that_finds_no_room_is_named(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.db")
    ledger.migrate()
    ledger.head()

    def small(connection: sqlite3.Connection, *_: object) -> None:
        connection.execute("PRAGMA max_page_count = 1")  # as many as there are

    ledger.close()
    sa.event.listen(ledger._connect(), "connect", small)
    event = NewEvent("service:labelops", "test.done", "p", "s", None, None, "", "run", {"a": "x" * 15_000})
    with pytest.raises(Unavailable, match=rf"{tmp_path}/ledger\.db.*full"):
        deque((ledger.append(event) for _ in range(10)), maxlen=0)
    ledger.close()


def test_a_folder_of_the_ledger_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "mkdir", failing(errno.EROFS))
    with pytest.raises(Unavailable, match=f"{tmp_path}/far/ledger.db: cannot be written"):
        Ledger(f"sqlite:///{tmp_path}/far/ledger.db").migrate()


@pytest.mark.parametrize("detail", [0, 2, 10, 22])  # SQLITE_IOERR_SHORT_READ, _FSYNC … are told in the bytes above
def test_sqlite_s_report_of_a_failing_disk_is_told(tmp_path: Path, detail: int) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR | detail << 8
    with pytest.raises(Unavailable, match=WORDS[errno.EIO]), writing_to(tmp_path):
        raise error


def test_every_other_error_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), writing_to(tmp_path):
        failing(errno.EACCES)()
    with pytest.raises(sqlite3.OperationalError), writing_to(tmp_path):
        sqlite3.connect(":memory:").execute("nonsense")
