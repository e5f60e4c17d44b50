"""Personal data can be erased without breaking a proof."""

from __future__ import annotations

import json

import pytest

from include.base.errors import InvalidInput
from include.base.signing import Signer
from include.base.store import Store
from include.governance import checkpoint as checkpoints
from include.governance.checkpoint import write_checkpoint
from include.governance.erasure import erase, erased_objects
from include.governance.ledger import Ledger
from include.governance.proof import check_proof, prove_inclusion
from include.governance.verify import verify_with
from labelops.commands import main
from tests.governance.ledgers import decision, note


@pytest.fixture
def decided(sqlite_ledger: Ledger, store: Store, signer: Signer) -> Ledger:
    """Decisions of two persons and of an unknown account, their raw replies in the store, under a signed checkpoint."""
    return decide(sqlite_ledger, store, signer)


def decide(ledger: Ledger, store: Store, signer: Signer) -> Ledger:
    for name, person, account in (("d1", "dana", "a1"), ("d2", "dana", "a1"), ("d3", "carla", "a2"), ("d4", None, "x")):
        raw = store.put_object(json.dumps({"who": "Dana Dietz", "decision": name}).encode())
        ledger.record_decision(decision(name, person=person, account=account, raw_digest=raw))
    ledger.append(note(1))
    write_checkpoint(ledger, store, signer)
    return ledger


@pytest.mark.proves("personal data can be erased without breaking a proof")
def test_a_persons_replies_go_and_every_proof_stays(ledger: Ledger, store: Store, signer: Signer) -> None:
    decided = decide(ledger, store, signer)
    kept = prove_inclusion(decided, store, 1)
    before = decided.decisions()
    removed = erase(decided, store, "dana", actor="olga", reason="request of 3 May")
    assert set(removed) == {one.raw_digest for one in before if one.person == "dana"}
    assert not any(store.has_object(digest) for digest in removed)
    assert all(store.has_object(one.raw_digest) for one in before if one.person != "dana")
    assert decided.decisions() == before, "who decided, by the register's id, stays"
    write_checkpoint(decided, store, signer)
    outcome = verify_with(decided, store, trusted=[signer.public])
    assert (outcome.ok, outcome.findings, outcome.erased) == (True, [], 2)
    assert outcome.signed_size == decided.head().size
    assert check_proof(kept, [signer.public]).ok, "a proof given away before still holds"
    assert check_proof(prove_inclusion(decided, store, 1), [signer.public], checkpoints.last_note(store)).ok
    [event] = decided.events(actions=["person.erased"])
    assert (event.actor, event.subject, event.reason) == ("olga", "person:dana", "request of 3 May")


def test_what_was_erased_is_told_from_what_was_lost(decided: Ledger, store: Store) -> None:
    erase(decided, store, "dana", actor="olga", reason="asked")
    [lost] = [one for one in decided.decisions() if one.person == "carla"]
    store.object_path(lost.raw_digest).unlink()
    outcome = verify_with(decided, store)
    assert [finding.kind for finding in outcome.findings if finding.kind != "unsigned"] == ["evidence_lost"]
    assert "no event says that it was erased" in outcome.findings[-1].sentence
    assert (outcome.erased, len(erased_objects(decided, store))) == (2, 2)


def test_erasing_goes_on_where_it_was_killed(decided: Ledger, store: Store) -> None:
    raws = {one.raw_digest: store.get_object(one.raw_digest) for one in decided.decisions() if one.person == "dana"}
    erase(decided, store, "dana", actor="olga", reason="asked")
    size = decided.head().size
    for content in raws.values():
        store.put_object(content)  # as a run that was killed after its event left them
    assert set(erase(decided, store, "dana", actor="olga", reason="asked")) == set(raws)
    assert erase(decided, store, "dana", actor="olga", reason="asked") == []
    assert decided.head().size == size, "it is said once"


def test_what_a_retention_rule_removed_is_no_loss(decided: Ledger, store: Store) -> None:
    [one] = [one for one in decided.decisions() if one.person == "carla"]
    listing = store.put_object(json.dumps([{"kind": "evidence", "name": one.raw_digest, "since": ""}]).encode())
    decided.append(note(1, action="retention.applied", body={"listing": listing}))
    store.object_path(one.raw_digest).unlink()
    assert verify_with(decided, store).erased == 1


def test_who_is_unknown_is_erased_by_the_account(
    decided: Ledger, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["--ledger", decided.url.render_as_string(hide_password=False), "--store", str(store.root)]
    words = ["--actor", "olga", "--reason", "asked"]
    assert main(["erase", *base, *words, "confluence:x"]) == 0
    assert capsys.readouterr().out == ("1 raw replies of decisions of confluence:x are removed; all proofs stay.\n")
    assert main(["verify", *base]) == 0
    assert "The raw replies of 1 decisions were erased, as the ledger says." in capsys.readouterr().out
    for person, reason in (("nobody", "asked"), ("dana", " ")):
        with pytest.raises(InvalidInput):
            erase(decided, store, person, actor="olga", reason=reason)
