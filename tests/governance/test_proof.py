"""Proofs that are checked without the ledger: what they show, and that a changed one shows nothing."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from include.base.errors import InvalidInput, LedgerBehind
from include.base.signing import Signer, make_key
from include.base.store import Store
from include.governance import checkpoint as checkpoints
from include.governance.checkpoint import write_checkpoint
from include.governance.ledger import Ledger
from include.governance.proof import check_proof, prove_consistency, prove_inclusion
from tests.governance.ledgers import note, rechain, tamper


def grow(ledger: Ledger, count: int) -> None:
    with ledger.transaction() as transaction:
        for number in range(count):
            transaction.append(note(number))


@pytest.fixture
def kept(sqlite_ledger: Ledger, store: Store, signer: Signer) -> Ledger:
    """Signed checkpoints of 8 and 13 events, and two events after."""
    return keep(sqlite_ledger, store, signer)


def keep(ledger: Ledger, store: Store, signer: Signer) -> Ledger:
    grow(ledger, 7)
    write_checkpoint(ledger, store, signer)
    grow(ledger, 5)
    write_checkpoint(ledger, store, signer)
    grow(ledger, 2)
    return ledger


def through_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


@pytest.mark.proves("one event is shown to be on the ledger without the others, checked with the public key alone")
def test_every_event_is_shown_to_be_there(ledger: Ledger, store: Store, signer: Signer) -> None:
    kept = keep(ledger, store, signer)
    for seq in range(1, 14):
        proof = through_json(prove_inclusion(kept, store, seq))
        outcome = check_proof(proof, [signer.public], checkpoints.last_note(store))
        assert outcome.ok, outcome.sentences
        assert outcome.sentences[0].startswith(f"Event {seq} (")
        assert f"signed by key {signer.public.key_id[:12]}" in outcome.sentences[1]
        assert proof["tree"]["size"] == 13


def test_an_event_after_the_last_checkpoint_waits_for_the_next(kept: Ledger, store: Store) -> None:
    with pytest.raises(InvalidInput, match="event 14 is not among the first 13; write a checkpoint first"):
        prove_inclusion(kept, store, 14)
    with pytest.raises(InvalidInput, match="the ledger has no event 16"):
        prove_inclusion(kept, store, 16)
    with pytest.raises(InvalidInput, match="has 15 events, not 99"):
        prove_inclusion(kept, store, 14, 99)
    outcome = check_proof(prove_inclusion(kept, store, 14, 15))
    assert outcome.ok
    assert "nobody vouches for that root" in outcome.sentences[1]
    assert check_proof(prove_inclusion(kept, None, 15)).ok


@pytest.mark.proves("a later checkpoint is shown to begin with an earlier one, checked with the public key alone")
def test_a_later_ledger_is_shown_to_begin_with_an_earlier_one(kept: Ledger, store: Store, signer: Signer) -> None:
    outcome = check_proof(through_json(prove_consistency(kept, store, 8, 13)), [signer.public])
    assert outcome.ok
    assert "begin with the 8 events" in outcome.sentences[0]
    assert len(outcome.sentences) == 3
    for old in range(1, 15):
        assert check_proof(prove_consistency(kept, store, old, 15)).ok
        signed = check_proof(prove_consistency(kept, store, old, 15), [signer.public])
        assert not signed.ok, "nobody signed the 15"
    for wrong in ((0, 3), (5, 3)):
        with pytest.raises(InvalidInput, match="no proof leads"):
            prove_consistency(kept, store, *wrong)


def changes(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Return the place of every leaf of a JSON value."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from changes(inner, (*path, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from changes(inner, (*path, index))
    else:
        yield path


@pytest.mark.parametrize("kind", ["inclusion", "consistency"])
def test_any_change_of_a_proof_is_found(kept: Ledger, store: Store, signer: Signer, kind: str) -> None:
    made = prove_inclusion(kept, store, 5) if kind == "inclusion" else prove_consistency(kept, store, 8, 13)
    places = list(changes(made))
    assert len(places) > 8
    for place in places:
        forged = copy.deepcopy(made)
        at: Any = forged
        for step in place[:-1]:
            at = at[step]
        old = at[place[-1]]
        if isinstance(old, str) and len(old) == 64:
            at[place[-1]] = ("0" if old[0] != "0" else "1") + old[1:]
        else:
            at[place[-1]] = old + 1 if isinstance(old, int) and not isinstance(old, bool) else f"{old}x"
        try:
            ok = check_proof(forged, [signer.public]).ok
        except InvalidInput:
            ok = False
        assert not ok, place


def test_a_proof_by_another_key_or_for_another_checkpoint_is_refused(
    kept: Ledger, store: Store, signer: Signer, tmp_path: Path
) -> None:
    other = make_key(tmp_path / "other.pem")
    made = prove_inclusion(kept, store, 5)
    outcome = check_proof(made, [other.public])
    assert (outcome.ok, outcome.sentences[1]) == (
        False, "The checkpoint of 13 events is signed by none of the given keys.",
    )  # fmt: skip
    early = prove_inclusion(kept, store, 5, 8)
    outcome = check_proof(early, [signer.public], checkpoints.last_note(store))
    assert (outcome.ok, outcome.sentences[1]) == (False, "It does not lead to the given checkpoint of 13 events.")


def test_a_ledger_that_was_written_anew_gives_no_proof(kept: Ledger, store: Store) -> None:
    tamper(kept, "UPDATE event SET actor = 'somebody else' WHERE seq = 3")
    with pytest.raises(LedgerBehind, match="contradict themselves"):
        prove_inclusion(kept, store, 3)
    rechain(kept, 3)
    with pytest.raises(LedgerBehind, match="do not give the root that 000000000013-"):
        prove_inclusion(kept, store, 5)


@pytest.mark.parametrize(
    "value",
    [None, [], {}, {"proof": "inclusion"}, {"proof": "other", "format": 1}, {"proof": "inclusion", "format": 1},
     {"proof": "inclusion", "format": 1, "event": {}, "tree": {}},
     {"proof": "inclusion", "format": 1, "event": {"seq": 1}, "tree": {"size": 1, "root": "x"}, "path": []},
     {"proof": "inclusion", "format": 1, "event": {"seq": 1}, "tree": {"size": 1, "root": "00" * 32}, "path": []},
     {"proof": "consistency", "format": 1, "old": {"size": 1, "root": "00" * 32},
      "new": {"size": 2, "root": "00" * 32}, "path": [7]}],
)  # fmt: skip
def test_what_is_no_proof_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput):
        check_proof(value)
