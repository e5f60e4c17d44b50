from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from include.base.canonical import canonical_json, sha256_hex
from include.base.errors import InvalidInput
from include.base.store import Store
from include.passport import dsse
from include.passport.verify import verify
from include.releases.write import mark_recalled
from tests.datasets.make import answer, task
from tests.passport.make import (
    ANSWERS,
    SIGNER,
    STRANGER,
    approvals,
    decided,
    edit_json,
    products,
    released,
    reseal,
    topics,
)
from tests.releases.test_write import make_old


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return released(tmp_path)


@pytest.mark.proves("a release folder is checked alone, offline, without our database")
def test_a_release_is_sound_on_its_own(folder: Path, tmp_path: Path) -> None:
    alone = tmp_path / "elsewhere" / folder.name
    shutil.copytree(folder, alone)
    shutil.rmtree(tmp_path / "versions")
    shutil.rmtree(tmp_path / "releases")
    found = verify(alone, SIGNER.public)
    assert found.problems == ()
    assert found.remarks == ()
    assert (found.signature, found.rows, found.number) == ("pinned", 3, 1)
    assert set(found.persons) == {"dana (data_owner)", "quentin (quality_reviewer)"}


def test_the_key_in_the_folder_proves_nothing_and_that_is_said(folder: Path) -> None:
    found = verify(folder)
    assert found.ok
    assert found.signature == "own"
    assert any("anybody could have put there" in one for one in found.remarks)


@pytest.mark.parametrize("interface", ["textcat", "ner"])
def test_other_interfaces_are_counted_too(tmp_path: Path, interface: str) -> None:
    assert verify(products(tmp_path, interface), SIGNER.public).problems == ()


def test_an_unsigned_release_says_so(tmp_path: Path) -> None:
    folder = released(tmp_path, None)
    found = verify(folder)
    assert found.ok
    assert found.signature == "none"
    assert any("unsigned" in one for one in found.remarks)
    assert "- unsigned:" in (folder / "README.md").read_text("utf-8")
    assert any("not signed" in one for one in verify(folder, SIGNER.public).problems)


def test_a_release_from_before_the_passport_verifies_as_what_it_is(tmp_path: Path) -> None:
    folder = released(tmp_path, None)
    make_old(folder)
    found = verify(folder)
    assert found.problems == ()
    assert any("before there was a passport" in one for one in found.remarks)


# Each change below is made twice: as it is, and with checksums.json made to fit it again.


def _append(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes() + b" ")

    return change


def _replace(name: str, old: bytes, new: bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        content = (folder / name).read_bytes()
        assert old in content
        (folder / name).write_bytes(content.replace(old, new, 1))

    return change


def _edited(name: str, edit: Callable[[Any], None]) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / name, edit)


def _gone(*names: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return change


def _parquet_relabelled(folder: Path) -> None:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(folder / "data.parquet")
    rows = table.to_pylist()
    next(one for one in rows if one["accept"])["accept"] = ["account"]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=table.schema), folder / "data.parquet")


def _signed_by_a_stranger(folder: Path) -> None:
    payload = dsse.read_envelope((folder / "attestation.json").read_bytes(), "x").payload
    (folder / "attestation.json").write_bytes(dsse.seal(payload, dsse.IN_TOTO, STRANGER))
    (folder / "signing-key.pem").write_bytes(STRANGER.public.pem)


def _payload(change: Callable[[Any], None]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        envelope = json.loads((folder / "attestation.json").read_bytes())
        statement = json.loads(base64.b64decode(envelope["payload"]))
        change(statement)
        envelope["payload"] = base64.b64encode(canonical_json(statement)).decode()
        (folder / "attestation.json").write_bytes(canonical_json(envelope))

    return edit


def _other_manifest(folder: Path) -> None:
    other = released(folder.parent / "other", answers=[*ANSWERS, answer(1, "carla", "billing", "other")])
    shutil.copy(other / "manifest.json", folder / "manifest.json")


def _approver(**changes: Any) -> Callable[[Path], None]:
    return _edited("approvals.json", lambda value: value["approvals"][0].update(changes))


def _second_statement(folder: Path) -> None:
    payload = dsse.read_envelope((folder / "attestation.json").read_bytes(), "x").payload
    (folder / "statement.json").write_bytes(payload)


CHANGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a byte of the data": (_replace("data.jsonl", b"billing", b"billinG"), "data.jsonl"),
    "a label in Parquet": (_parquet_relabelled, "data.parquet"),
    "a row less": (lambda f: _rows_cut(f), "data.jsonl"),
    "a swapped manifest": (_other_manifest, "manifest.json"),
    "an approval by an annotator": (_approver(person="anna"), "approvals.json"),
    "an approval that was refused": (_approver(outcome="reject"), "approvals.json"),
    "an approval of another version": (_approver(digest="0" * 64), "approvals.json"),
    "a weaker approval": (_approver(grade="asserted"), "approvals.json"),
    "one person twice": (
        _edited("approvals.json", lambda v: [o.update(person="dana") for o in v["approvals"]]),
        "dana",
    ),
    "an approval less": (_edited("approvals.json", lambda value: value["approvals"].pop()), "approvals.json"),
    "an approver's name alone": (_approver(person="hugo"), "approvals.json"),
    "an edited card": (_append("README.md"), "README.md"),
    "another Croissant": (_edited("croissant.json", lambda v: v.update(license="mine")), "croissant.json"),
    "another lineage": (_append("openlineage.json"), "openlineage.json"),
    "a file too many": (lambda f: (f / "extra.txt").write_text("x") and None, "extra.txt"),
    "a file too few": (_gone("croissant.json"), "croissant.json"),
    "a stripped signature": (_gone("attestation.json", "signing-key.pem"), "statement"),
    "a signature removed from its envelope": (
        _edited("attestation.json", lambda v: v.update(signatures=[])),
        "not signed",
    ),
    "a stranger's key": (_signed_by_a_stranger, "not signed by the key"),
    "another payload": (_payload(lambda v: v["predicate"].update(policyDigest="0" * 64)), "not signed"),
    "a second statement": (_second_statement, "statement.json"),
    "a key beside it that did not sign": (
        lambda folder: (folder / "signing-key.pem").write_bytes(STRANGER.public.pem) and None,
        "signing-key.pem",
    ),
    "another number": (_edited("checksums.json", lambda value: value.update(number=2)), "predicate.version.number"),
    "another edition": (_edited("checksums.json", lambda value: value.update(edition=2)), "predicate.version.edition"),
    "another payload type": (
        _edited("attestation.json", lambda v: v.update(payloadType="application/json")),
        "payloadType",
    ),
}


def _rows_cut(folder: Path) -> None:
    lines = (folder / "data.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "data.jsonl").write_bytes(b"".join(lines[:-1]))


@pytest.mark.proves("every kind of tampering with a release is found by its verifier")
@pytest.mark.parametrize("resealed", [False, True])
@pytest.mark.parametrize("kind", CHANGES)
def test_tampering_is_found(folder: Path, kind: str, resealed: bool) -> None:
    change, words = CHANGES[kind]
    change(folder)
    if resealed:
        reseal(folder)
    found = verify(folder, SIGNER.public)
    assert not found.ok
    assert any(words in one for one in found.problems), found.problems


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a label in Parquet", "do not hold the same labels"),
        ("a row less", "2 rows; the manifest says 3"),
        ("an approval by an annotator", "had a hand in its labels"),
        ("an approval that was refused", "decided reject"),
        ("a weaker approval", "lacks attested"),
        ("one person twice", "one person counts once"),
    ],
)
def test_what_the_files_say_themselves_is_found_where_nothing_is_signed(tmp_path: Path, name: str, words: str) -> None:
    """Somebody who makes all digests fit is still found where the content contradicts itself."""
    folder = released(tmp_path, None)
    CHANGES[name][0](folder)
    reseal(folder)
    problems = verify(folder).problems
    assert any(words in one for one in problems), problems


def test_a_renamed_folder_is_found(folder: Path) -> None:
    lying = folder.rename(folder.with_name("v2-" + folder.name.split("-")[1]))
    assert any("is called v2-" in one for one in verify(lying, SIGNER.public).problems)
    plain = lying.rename(lying.with_name("topics"))
    found = verify(plain, SIGNER.public)
    assert found.ok
    assert any("is called topics" in one for one in found.remarks)


def test_a_recalled_release_is_not_to_be_used(folder: Path, tmp_path: Path) -> None:
    why = {"by": "dana", "at": "2026-06-01T00:00:00+00:00", "reason": "wrong labels"}
    mark_recalled(Store(tmp_path), topics(), folder.name, why)
    [problem] = verify(folder, SIGNER.public).problems
    assert "was recalled" in problem
    assert "by dana at 2026-06-01T00:00:00+00:00: wrong labels" in problem


def test_a_second_edition_is_named_so(folder: Path, tmp_path: Path) -> None:
    again = released(tmp_path, edition=2)
    assert again.name == f"{folder.name}.2"
    assert verify(again, SIGNER.public).problems == ()
    shutil.rmtree(folder)
    assert any("is called" in one for one in verify(again.rename(folder), SIGNER.public).problems)


def test_a_release_of_another_version_is_no_proof_for_this_one(folder: Path, tmp_path: Path) -> None:
    other = released(tmp_path / "other", answers=[*ANSWERS, answer(1, "carla", "billing", "other")])
    shutil.copy(other / "attestation.json", folder / "attestation.json")
    reseal(folder)
    problems = verify(folder, SIGNER.public).problems
    assert any("attestation.json is about" in one for one in problems)
    assert any("is not the file that attestation.json vouches for" in one for one in problems)


def test_a_link_is_no_file(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    shutil.copy(folder / "README.md", outside)
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to(outside)
    assert any("is a link" in one for one in verify(folder, SIGNER.public).problems)


def test_the_policy_of_the_manifest_is_demanded(tmp_path: Path) -> None:
    folder = released(tmp_path, approvals=lambda version: approvals(version)[1:])
    assert any("quality_reviewer" in one for one in verify(folder, SIGNER.public).problems)


def test_a_loosened_policy_in_the_manifest_is_found(folder: Path) -> None:
    edit_json(folder / "manifest.json", lambda value: value["policy"].update(four_eyes=False))
    digest = sha256_hex((folder / "manifest.json").read_bytes())
    edit_json(folder / "checksums.json", lambda value: value.update(version=digest))
    reseal(folder)
    assert any("policy_digest" in one for one in verify(folder).problems)


def test_the_release_managers_decision_is_no_approval(tmp_path: Path) -> None:
    folder = released(
        tmp_path,
        approvals=lambda version: [
            *approvals(version),
            decided(version, "release_manager", "rita", "responsibility"),
        ],
    )
    assert verify(folder, SIGNER.public).ok


def test_closed_batches_and_disputes_do_not_disturb(tmp_path: Path) -> None:
    ids = [task(number) for number in (1, 2, 3, 4, 5)]
    answers = [*ANSWERS, answer(5, "anna", "billing"), answer(5, "ben", "other")]
    assert verify(released(tmp_path, answers=answers, ids=ids), SIGNER.public).problems == ()


@pytest.mark.parametrize("content", [b"", b"[]", b'{"files": {"../x": {"sha256": "0"}}, "version": "x", "number": 1}'])
def test_what_is_no_release_cannot_be_looked_at(folder: Path, content: bytes) -> None:
    (folder / "checksums.json").write_bytes(content)
    with pytest.raises(InvalidInput, match=r"checksums\.json"):
        verify(folder)
    (folder / "checksums.json").unlink()
    with pytest.raises(InvalidInput, match="never finished"):
        verify(folder)
    with pytest.raises(InvalidInput, match="no such folder"):
        verify(folder / "none")


@pytest.mark.parametrize(
    "name", ["data.jsonl", "data.parquet", "manifest.json", "approvals.json", "README.md", "croissant.json",
             "openlineage.json", "attestation.json", "signing-key.pem"],
)  # fmt: skip
@pytest.mark.parametrize("content", [b"", b"\x00\xff", b"{}", b"[1]", b'{"approvals": [1]}'])
def test_broken_files_are_findings_not_crashes(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    reseal(folder)
    found = verify(folder, SIGNER.public)
    if name == "signing-key.pem":
        assert any("public key beside" in one for one in found.problems)
    else:
        assert any(name in one for one in found.problems)


def test_the_statements_of_the_project_file_do_not_enter_the_data(tmp_path: Path) -> None:
    with_card, without = released(tmp_path / "a"), released(tmp_path / "b", of=topics({}))
    for name in ("data.jsonl", "data.parquet", "manifest.json", "approvals.json"):
        assert (with_card / name).read_bytes() == (without / name).read_bytes()
