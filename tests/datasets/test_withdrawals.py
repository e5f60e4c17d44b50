from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from include.base.canonical import canonical_json, sha256_hex
from include.base.errors import InvalidInput
from include.base.store import Store
from include.datasets import freeze as freezing
from include.datasets.diff import changes, diff
from include.datasets.freeze import FrozenVersion, check_version, freeze, losing, read_manifest, rows, source_rows
from include.datasets.withdrawals import VersionWithdrawn, withdraw, withdrawal
from tests.datasets.make import REGISTER, answer, project, task

PROJECT = project()
AT = datetime(2026, 6, 1, 12, tzinfo=timezone(timedelta(hours=2)))
ORDER: dict[str, Any] = {"person": "olga", "reason": "The customer asked for erasure.", "at": AT}


def version(store: Store, numbers: range = range(1, 4)) -> FrozenVersion:
    ids = [task(number) for number in numbers]
    answers = [answer(number, person, "billing") for number in numbers for person in ("anna", "ben")]
    batch = sha256_hex(canonical_json(sorted(ids)))
    closing = {"closed_by": "olga", "closing_reason": "enough"}
    return freeze(store, PROJECT, batch, ids, answers, register=REGISTER, **closing)


@pytest.mark.proves("withdrawing a version removes its content and leaves its proof")
def test_the_content_goes_and_the_proof_stays(store: Store) -> None:
    frozen = version(store, range(1, 1200))
    contents = {place.name: place.read_bytes() for place in frozen.path.iterdir()}
    assert check_version(store, PROJECT, frozen.digest).state == "whole"
    assert withdrawal(store, PROJECT, frozen.digest) is None
    record = withdraw(store, PROJECT, frozen.digest, **ORDER)
    assert sorted(place.name for place in frozen.path.iterdir()) == ["manifest.json", "withdrawn.json"]
    assert {one.name: (one.sha256, one.size) for one in record.removed} == {
        name: (sha256_hex(content), len(content)) for name, content in contents.items() if name != "manifest.json"
    }
    assert record.at == "2026-06-01T10:00:00+00:00"
    assert b"ticket 1" in contents["rows.jsonl"]
    assert not any(b"ticket 1" in place.read_bytes() for place in frozen.path.iterdir())
    assert withdrawal(store, PROJECT, frozen.digest) == record
    assert read_manifest(store, PROJECT, frozen.digest) == frozen.manifest
    state = check_version(store, PROJECT, frozen.digest)
    assert (state.state, state.problems, state.withdrawal) == ("withdrawn", (), record)
    [sentence] = freezing.verify_version(store, PROJECT, frozen.digest)
    assert "withdrawn by olga" in sentence
    assert "asked for erasure" in sentence
    for read in (rows, losing, source_rows):
        with pytest.raises(VersionWithdrawn) as caught:
            next(iter(read(store, PROJECT, frozen.digest)))
        assert caught.value.withdrawal == record


def test_a_withdrawn_version_is_compared_with_nothing_and_not_made_again(store: Store) -> None:
    first, second = version(store), version(store, range(2, 5))
    withdraw(store, PROJECT, first.digest, **ORDER)
    with pytest.raises(VersionWithdrawn):
        diff(store, PROJECT, first.digest, second.digest)
    with pytest.raises(VersionWithdrawn):
        next(changes(store, PROJECT, second.digest, first.digest))
    with pytest.raises(VersionWithdrawn):
        version(store)
    assert not (first.path / "rows.jsonl").exists()


def test_withdrawing_again_completes_and_changes_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    frozen = version(store)
    content = (frozen.path / "rows.jsonl").read_bytes()
    record = withdraw(store, PROJECT, frozen.digest, **ORDER)
    (frozen.path / "rows.jsonl").write_bytes(content)  # as if the first try had been killed
    state = check_version(store, PROJECT, frozen.digest)
    assert state.state == "withdrawn"
    assert "rows.jsonl: is still there" in state.problems[0]
    again = withdraw(store, PROJECT, frozen.digest, person="hugo", reason="again", at=AT + timedelta(days=1))
    assert again == record
    assert check_version(store, PROJECT, frozen.digest).problems == ()


def test_withdrawn_and_damaged_are_two_things(store: Store) -> None:
    frozen = version(store)
    (frozen.path / "rows.jsonl").unlink()
    damaged = check_version(store, PROJECT, frozen.digest)
    assert (damaged.state, damaged.withdrawal) == ("damaged", None)
    withdraw(store, PROJECT, frozen.digest, **ORDER)
    manifest = (frozen.path / "manifest.json").read_bytes()
    (frozen.path / "manifest.json").write_bytes(manifest.replace(b"anna", b"hugo"))
    assert check_version(store, PROJECT, frozen.digest).state == "damaged"
    (frozen.path / "manifest.json").write_bytes(manifest)
    tombstone = frozen.path / "withdrawn.json"
    value = json.loads(tombstone.read_bytes())
    for changed, words in (
        ({**value, "reason": ""}, "reason"),
        ({**value, "removed": [{"name": "../x.jsonl", "sha256": "0" * 64, "size": 1}]}, "removed.0.name"),
        ({**value, "digest": "0" * 64}, "is about version"),
    ):
        tombstone.write_bytes(canonical_json(changed))
        with pytest.raises(InvalidInput, match=words):
            withdrawal(store, PROJECT, frozen.digest)
        assert check_version(store, PROJECT, frozen.digest).state == "damaged"


def test_a_withdrawal_says_who_and_why(store: Store) -> None:
    frozen = version(store)
    for wrong in ({"reason": " "}, {"person": ""}, {"at": AT.replace(tzinfo=None)}):
        with pytest.raises(InvalidInput):
            withdraw(store, PROJECT, frozen.digest, **{**ORDER, **wrong})
    with pytest.raises(InvalidInput, match="no such version"):
        withdraw(store, PROJECT, "0" * 64, **ORDER)
    assert check_version(store, PROJECT, frozen.digest).state == "whole"
    assert datetime.fromisoformat(withdraw(store, PROJECT, frozen.digest, **ORDER).at).tzinfo == UTC
    shutil.rmtree(frozen.path)
