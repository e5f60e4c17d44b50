from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from airflow.sdk import ObjectStoragePath

from include.base.errors import InvalidInput
from include.base.store import Store, atomic_file, atomic_write, local_path, read_json


@pytest.fixture(params=["pathlib", "objectstorage"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(tmp_path if request.param == "pathlib" else ObjectStoragePath(f"file://{tmp_path}"))


def test_an_object_is_kept_once_under_its_digest(store: Store) -> None:
    digest = store.put_object(b"content")
    place = local_path(store.object_path(digest))
    assert place is not None
    written = place.stat().st_mtime_ns
    assert store.put_object(b"content") == digest
    assert place.stat().st_mtime_ns == written
    assert store.get_object(digest) == b"content"


def test_an_object_that_was_altered_or_is_gone_is_named(store: Store) -> None:
    digest = store.put_object(b"content")
    place = local_path(store.object_path(digest))
    assert place is not None
    place.write_bytes(b"other")
    with pytest.raises(InvalidInput, match="no longer match"):
        store.get_object(digest)
    place.unlink()
    with pytest.raises(InvalidInput, match="holds no object"):
        store.get_object(digest)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "a\0b"])
def test_a_name_never_leaves_its_folder(store: Store, name: str) -> None:
    with pytest.raises(InvalidInput):
        store.at("releases", name)


def test_immutable_files_are_written_once_and_never_overwritten(store: Store) -> None:
    place = store.at("versions", "one.json")
    assert store.write_new(place, b"1") is True
    assert store.write_new(place, b"1") is False
    with pytest.raises(InvalidInput, match="other bytes"):
        store.write_new(place, b"2")
    assert place.read_bytes() == b"1"


def test_a_pointer_moves_only_when_it_points_elsewhere(store: Store) -> None:
    place = store.at("releases", "current.json")
    assert store.pointer(place) is None
    assert store.move_pointer(place, {"number": 1}) is True
    assert store.move_pointer(place, {"number": 1}) is False
    assert store.pointer(place) == {"number": 1}
    assert store.move_pointer(place, {"number": 2}) is True
    assert json.loads(place.read_bytes()) == {"number": 2}


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[1]"])
def test_a_broken_pointer_is_an_error_that_names_the_file(store: Store, content: bytes) -> None:
    place = store.at("current.json")
    atomic_write(place, content)
    with pytest.raises(InvalidInput, match=r"current\.json"):
        store.pointer(place)


def test_a_file_that_fails_halfway_does_not_appear(store: Store) -> None:
    place = store.at("rows.jsonl")

    def half() -> None:
        with atomic_file(place) as out:
            out.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert not place.exists()
    folder = local_path(store.root)
    assert folder is not None
    assert list(folder.iterdir()) == []


def test_a_writer_killed_at_any_moment_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    place = tmp_path / "pointer.json"
    (tmp_path / ".pointer.json.of-a-dead-writer").write_bytes(b"half")
    atomic_write(place, b'{"round": 0}')
    code = (
        "import sys; from pathlib import Path; from include.base.store import atomic_write\n"
        "print('ready', flush=True)\n"
        "for n in range(1, 100000):\n"
        "    atomic_write(Path(sys.argv[1]), b'{\"round\": %d, \"filling\": \"' % n + b'x' * 20000 + b'\"}')"
    )
    root = Path(__file__).resolve().parents[2]
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(place)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(root)},
        )
        assert process.stdout is not None
        process.stdout.readline()
        for _ in range(200):
            assert isinstance(read_json(place)["round"], int)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert isinstance(read_json(place)["round"], int)
    atomic_write(place, b'{"round": 0}')
    assert [path.name for path in tmp_path.iterdir()] == ["pointer.json"]


def test_a_file_in_the_making_is_left_to_its_living_writer(tmp_path: Path) -> None:
    place = tmp_path / "rows.jsonl"
    with atomic_file(place) as slow:
        slow.write(b"slow")
        atomic_write(place, b"quick")
        assert place.read_bytes() == b"quick"
        assert len(list(tmp_path.iterdir())) == 2
    assert place.read_bytes() == b"slow"
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]
