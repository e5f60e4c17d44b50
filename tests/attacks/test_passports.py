"""Release folders made to stop, or to fool, whoever checks them: each gets its sentence, within a moment."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from include.base.errors import InvalidInput
from include.base.reading import DEEPEST, JSON_BYTES, parse_json, read_json
from include.base.store import measure
from include.datasets.manifest import parse_manifest
from include.passport.dsse import read_envelope
from include.passport.lineage import read_events
from include.passport.statement import read_statement
from include.passport.verify import verify
from labelops.commands import main
from tests.passport.make import SIGNER, released, reseal

DEEP = b"[" * 100_000 + b"]" * 100_000

pytestmark = pytest.mark.usefixtures("within_a_moment")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return released(tmp_path)


@pytest.fixture
def unsigned(tmp_path: Path) -> Path:
    return released(tmp_path, None)


FILES = ["manifest.json", "approvals.json", "attestation.json", "croissant.json", "data.jsonl", "README.md"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", [DEEP, b'{"a": ' * 100_000, b"9" * 5000, b'{"a": NaN}', b"\xff", b'"\\ud800"', b""])
def test_a_file_of_another_content_is_told_once_the_checksums_fit_it(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    reseal(folder)
    found = verify(folder, SIGNER.public)
    assert any(name in one for one in found.problems)
    assert all("\n" not in one and len(one) < 400 for one in found.problems)


@pytest.mark.parametrize("content", [DEEP, b"9" * 5000, b"[]", b'{"files": {}, "files": {}}', b"\x00"])
def test_checksums_of_another_content_are_refused_by_name(folder: Path, content: bytes) -> None:
    (folder / "checksums.json").write_bytes(content)
    with pytest.raises(InvalidInput, match=r"checksums\.json: "):
        verify(folder)


@pytest.mark.parametrize("name", [*FILES, "signing-key.pem", "checksums.json", "RECALLED.json"])
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(
    folder: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    assert main(["verify-release", str(folder)]) in (1, 2)
    said = capsys.readouterr()
    assert name in said.out + said.err


def test_a_link_to_a_pipe_and_a_pipe_of_its_own_name_are_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "approvals.json").unlink()
    (folder / "approvals.json").symlink_to("pipe")
    problems = verify(folder).problems
    assert "pipe is in the folder and not in checksums.json: it is no part of the release." in problems
    assert any(one.startswith("approvals.json is a link") for one in problems)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("approvals.json", b'"outcome":', b'"outcome": "reject", "outcome":'),
        ("approvals.json", b'"approvals":', b'"approvals": [], "approvals":'),
        ("manifest.json", b'"interface":', b'"interface": "ner", "interface":'),
        ("croissant.json", b'"distribution":', b'"distribution": [], "distribution":'),
        ("statement.json", b'"predicate":', b'"predicate": {}, "predicate":'),
        ("data.jsonl", b'"answer":', b'"answer": "reject", "answer":'),
    ],
)
def test_a_name_given_twice_means_another_thing_to_another_reader_and_is_told(
    unsigned: Path, name: str, old: bytes, new: bytes
) -> None:
    place = unsigned / name
    before = place.read_bytes()
    assert old in before
    place.write_bytes(before.replace(old, new, 1))
    reseal(unsigned)
    assert any(name in one for one in verify(unsigned).problems if "vouch" not in one)


def test_approvals_that_cannot_be_read_are_no_approvals(unsigned: Path) -> None:
    (unsigned / "approvals.json").write_bytes(b"{")
    reseal(unsigned)
    assert any(one.startswith("approvals.json: not JSON") for one in verify(unsigned).problems)


def _bomb() -> str:
    return "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 15))


@pytest.mark.parametrize(
    "front",
    [
        _bomb(),
        "configs: &a [*a]",
        "configs: " + "[" * 5000,
        "configs: !!int x",
        "configs: 2023-13-45",
        "x: {a: 1, a: 2}",
    ],
    ids=[
        "aliases that explode",
        "a list that holds itself",
        "nested brackets",
        "a bad tag",
        "a bad date",
        "a key twice",
    ],
)
def test_a_card_whose_front_matter_is_a_bomb_is_no_card(folder: Path, front: str) -> None:
    place = folder / "README.md"
    _, _, body = place.read_text("utf-8").split("---\n", 2)
    place.write_text(f"---\n{front}\n---\n{body}", "utf-8")
    assert "README.md is no dataset card: its front matter cannot be read." in verify(folder).problems


def test_folders_in_folders_in_folders_are_walked_to_their_end(folder: Path) -> None:
    places = [folder / "/".join("d" * depth) for depth in range(1, 1500)]
    for place in places:
        place.mkdir()
    file = places[-1] / "x"
    file.write_bytes(b"")
    assert any("/d/x is in the folder" in one for one in verify(folder).problems)
    file.unlink()
    for place in reversed(places):
        place.rmdir()


def test_a_name_that_is_no_text_is_printed(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (folder / os.fsdecode(b"\xff\x1b[2J")).write_bytes(b"")
    assert main(["verify-release", str(folder)]) == 1
    assert main(["verify-release", str(folder), "--json"]) == 1
    assert "\x1b" not in capfd.readouterr().out


def test_more_than_memory_is_not_read(folder: Path) -> None:
    with (folder / "checksums.json").open("wb") as out:
        out.truncate(JSON_BYTES + 1)
    with pytest.raises(InvalidInput, match=f"more than the {JSON_BYTES} bytes"):
        verify(folder)


READERS: list[Callable[[bytes], object]] = [
    lambda content: parse_manifest(content, "x.json"),
    lambda content: read_envelope(content, "x.json"),
    lambda content: read_statement(content, "x.json"),
    lambda content: list(read_events(content, "x.json")),
    lambda content: parse_json(content, "x.json"),
]


@pytest.mark.parametrize("reader", READERS, ids=["manifest", "envelope", "statement", "events", "JSON"])
@pytest.mark.parametrize(
    "content", [DEEP, b'{"a": 1, "a": 2}', b"9" * 5000, b"[1e999, NaN]", b"\xff", b"\xef\xbb\xbf{}"]
)
def test_every_reader_of_evidence_refuses_what_has_no_one_meaning(
    reader: Callable[[bytes], object], content: bytes
) -> None:
    with pytest.raises(InvalidInput, match=r"^x\.json"):
        reader(content)


def test_json_is_read_up_to_the_depth_that_is_told() -> None:
    assert parse_json(b"[" * DEEPEST + b"]" * DEEPEST, "x.json")
    with pytest.raises(InvalidInput, match=f"nested more than {DEEPEST} deep"):
        parse_json(b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1), "x.json")


def test_no_reader_of_the_store_waits_for_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for reader in (read_json, measure):
        with pytest.raises(InvalidInput, match="is no regular file"):
            reader(tmp_path / "pipe")


@pytest.mark.parametrize("content", [DEEP, b"9" * 5000, b'{"a": 1, "a": 2}', b"\xff"])
def test_a_proof_of_another_content_is_refused_in_a_sentence(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "proof.json").write_bytes(content)
    assert main(["check-proof", str(tmp_path / "proof.json")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
