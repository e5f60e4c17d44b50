"""Signed checkpoints: what they say, what other tools read in them, and every way of forging one."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from include.base.errors import InvalidInput, LedgerBehind
from include.base.signing import PublicKey, Signer, make_key
from include.base.store import Store
from include.governance import checkpoint as checkpoints
from include.governance.checkpoint import write_checkpoint
from include.governance.ledger import Ledger
from include.governance.merkle import Frontier
from include.governance.note import origin, read_note, read_tree_head, sign_note
from include.governance.verify import Verification, verify, verify_with
from tests.governance.ledgers import note, raw, rechain, tamper


@pytest.fixture
def other(tmp_path: Path) -> Signer:
    return make_key(tmp_path / "other.pem")


def grow(ledger: Ledger, count: int = 5) -> None:
    with ledger.transaction() as transaction:
        for number in range(count):
            transaction.append(note(number))


@pytest.fixture
def signed(sqlite_ledger: Ledger, store: Store, signer: Signer) -> Ledger:
    """Five events and a key noted, a signed checkpoint of six; five more, and one of eleven."""
    for _ in range(2):
        grow(sqlite_ledger)
        assert write_checkpoint(sqlite_ledger, store, signer) is True
    return sqlite_ledger


def newest(store: Store) -> Path:
    return Path(checkpoints.checkpoint_paths(store)[-1])


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_newest(store: Store, **changes: object) -> None:
    """Change the newest checkpoint in both its places, as somebody who owns the store would."""
    edit(newest(store), **changes)
    edit(Path(checkpoints.pointer_path(store)), **changes)


def found(outcome: Verification) -> list[str]:
    assert outcome.ok == all(finding.warning for finding in outcome.findings)
    return [finding.kind for finding in outcome.findings]


# ---- the form


def test_a_published_note_is_read_and_checked() -> None:
    """The note and the key that the documents of other signed-note implementations give as their example."""
    key = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
    content = (
        "This is an example message.\n\n— example.com/foo "
        "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
    )
    raw_key = base64.b64decode(key.split("+", 2)[2])[1:]
    public = PublicKey(Ed25519PublicKey.from_public_bytes(raw_key))
    assert read_note(content, "x").signed_by([public]) is public
    with pytest.raises(InvalidInput, match="is not of this text"):
        read_note(content.replace("example message", "other message"), "x").signed_by([public])


@pytest.mark.proves("checkpoints are signed notes that other transparency-log tools read")
def test_a_checkpoint_is_a_signed_note(signed: Ledger, store: Store, signer: Signer) -> None:
    content = checkpoints.last_note(store)
    assert content is not None
    head, lines = signed.head(), content.split("\n")
    hashes = [bytes.fromhex(row.hash) for row in raw(signed, "SELECT hash FROM event ORDER BY seq")]
    tree = Frontier()
    tree.extend(hashes)
    assert lines[:5] == [
        f"labelops/ledger/{head.ledger_id}/1",
        "11",
        base64.b64encode(tree.root()).decode(),
        f"head {head.hash}",
        f"time {head.time}",
    ]
    assert lines[5] == ""
    dash, name, value = lines[6].split(" ")
    assert (dash, name, lines[7:]) == ("—", lines[0], [""])
    assert signer.public.verifies("".join(f"{line}\n" for line in lines[:5]).encode(), base64.b64decode(value)[4:])
    assert read_tree_head(read_note(content, "x").text, "x").head == head


def test_the_public_key_is_published_and_noted_once(signed: Ledger, store: Store, signer: Signer) -> None:
    [key] = checkpoints.published_keys(store)
    assert key.key_id == signer.public.key_id
    [event] = signed.events(actions=["signing_key.in_force"])
    assert (event.seq, event.digest_after) == (6, key.key_id)
    assert event.body == {"algorithm": "Ed25519", "public_key": key.raw.hex()}
    assert write_checkpoint(signed, store, signer) is False
    assert signed.head().size == 11


def test_a_changed_key_is_noted_and_changing_back_too(
    signed: Ledger, store: Store, signer: Signer, other: Signer
) -> None:
    for key in (other, other, signer):
        grow(signed, 1)
        write_checkpoint(signed, store, key)
    noted = [(event.digest_before, event.digest_after) for event in signed.events(actions=["signing_key.in_force"])]
    first, second = signer.public.key_id, other.public.key_id
    assert noted == [(None, first), (first, second), (second, first)]
    outcome = verify_with(signed, store)
    assert (found(outcome), outcome.signed, outcome.signed_size) == ([], 5, signed.head().size)
    assert set(outcome.keys) == {first, second}


def test_a_key_that_is_set_later_signs_from_then_on(ledger: Ledger, store: Store, signer: Signer) -> None:
    grow(ledger)
    write_checkpoint(ledger, store)
    assert checkpoints.last_note(store) is None
    assert write_checkpoint(ledger, store, signer) is True, "the key is an event to be kept"
    outcome = verify_with(ledger, store)
    assert (found(outcome), outcome.signed, outcome.signed_size) == ([], 1, 6)
    grow(ledger, 1)
    write_checkpoint(ledger, store)
    assert checkpoints.last_note(store) is not None, "the newest that there is"
    outcome = verify_with(ledger, store)
    assert outcome.ok
    assert [finding.sentence for finding in outcome.findings] == [
        "The checkpoint of 7 events carries no signature, though a key signs since event 6: "
        "signatures vouch for the events up to 6 only."
    ]


def test_a_checkpoint_reads_new_events_only(signed: Ledger, store: Store, signer: Signer) -> None:
    grow(signed, 3)
    read: list[int] = []
    original = checkpoints.leaves

    def watched(connection: sa.Connection, after: int, last: int):
        read.append(last - after)
        return original(connection, after, last)

    checkpoints.leaves = watched
    try:
        write_checkpoint(signed, store, signer)
    finally:
        checkpoints.leaves = original
    assert read == [3]
    assert found(verify_with(signed, store, trusted=[signer.public])) == []


def test_an_unsigned_checkpoint_of_an_earlier_release_is_read(ledger: Ledger, store: Store, signer: Signer) -> None:
    grow(ledger)
    write_checkpoint(ledger, store)
    for path in (newest(store), Path(checkpoints.pointer_path(store))):
        value = json.loads(path.read_text())
        path.write_text(json.dumps({name: value[name] for name in ("ledger_id", "epoch", "size", "hash", "time")}))
    assert checkpoints.last_checkpoint(store) == ledger.head()
    assert found(verify_with(ledger, store)) == []
    grow(ledger)
    assert write_checkpoint(ledger, store, signer) is True
    outcome = verify_with(ledger, store, trusted=[signer.public])
    assert (found(outcome), outcome.signed, outcome.checkpoints) == ([], 1, 2)


def test_a_run_killed_before_the_pointer_and_gone_on_without_a_key(signed: Ledger, store: Store) -> None:
    before = newest(store).read_bytes()
    Path(checkpoints.pointer_path(store)).write_bytes(Path(checkpoints.checkpoint_paths(store)[0]).read_bytes())
    assert write_checkpoint(signed, store) is True
    assert newest(store).read_bytes() == before == Path(checkpoints.pointer_path(store)).read_bytes()


# ---- forgeries


@pytest.mark.proves("a chain written anew with all its hashes is found by the signed checkpoint")
def test_a_chain_made_anew_is_found_though_all_hashes_fit(signed: Ledger, store: Store) -> None:
    tamper(signed, "UPDATE event SET actor = 'somebody else' WHERE seq = 8")
    rechain(signed, 8)
    assert verify(signed).ok, "a chain alone cannot show it"
    outcome = verify_with(signed, store)
    assert found(outcome) == ["rechained"]
    assert "a checkpoint kept outside says" in outcome.findings[0].sentence
    assert outcome.signed_size == 6, "up to there it is what was signed"


def test_a_forger_without_the_key_cannot_make_the_checkpoint_fit(
    signed: Ledger, store: Store, signer: Signer, other: Signer
) -> None:
    """He owns the database and the store: writes the chain anew, and all checkpoints, signed by a key of his own."""
    tamper(signed, "UPDATE event SET actor = 'somebody else' WHERE seq = 2")
    rechain(signed, 2)
    for path in [*checkpoints.checkpoint_paths(store), checkpoints.pointer_path(store)]:
        path.unlink()
    Path(store.at("ledger", "keys", f"{signer.public.key_id}.pem")).unlink()
    write_checkpoint(signed, store, other)
    assert verify_with(signed, store).ok, "his own keys cannot show it"
    outcome = verify_with(signed, store, trusted=[signer.public])
    assert found(outcome) == ["foreign_key", "foreign_key", "not_signed"]
    assert "is signed by none of the given public keys" in outcome.findings[0].sentence
    assert "No checkpoint that the ledger meets is signed by a given public key." in outcome.findings[-1].sentence


def test_a_forger_who_leaves_the_checkpoints_unsigned_is_found_with_the_key(
    signed: Ledger, store: Store, signer: Signer
) -> None:
    for path in [*checkpoints.checkpoint_paths(store), checkpoints.pointer_path(store)]:
        path.unlink()
    write_checkpoint(signed, store)
    assert found(verify_with(signed, store)) == ["unsigned"]
    assert found(verify_with(signed, store, trusted=[signer.public])) == ["not_signed"]


def test_a_checkpoint_signed_anew_by_another_key_is_found(
    signed: Ledger, store: Store, signer: Signer, other: Signer
) -> None:
    text = read_note(str(checkpoints.last_note(store)), "x").text
    edit_newest(store, note=sign_note(text, origin(signed.head()), other))
    outcome = verify_with(signed, store)
    assert set(found(outcome)) == {"foreign_key"}
    assert "is signed by none of the keys published in the store" in outcome.findings[0].sentence
    # He publishes his key too: the ledger does not know it.
    store.at("ledger", "keys", f"{other.public.key_id}.pem").write_bytes(other.public.pem)
    outcome = verify_with(signed, store)
    assert set(found(outcome)) == {"foreign_key"}
    assert "which the ledger does not name as its signing key" in outcome.findings[-1].sentence
    assert "foreign_key" in found(verify_with(signed, store, trusted=[signer.public]))


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"size": 10}, "checkpoint_changed", "its content belongs into 000000000010-"),
        ({"hash": "ab" * 32}, "checkpoint_changed", "its content belongs into 000000000011-abababababab.json"),
        ({"time": "2026-01-01T00:00:00.000000Z"}, "checkpoint_changed", "it says other than its signed note"),
        ({"epoch": 2}, "checkpoint_changed", "it says other than its signed note"),
        ({"root": "00" * 32}, "checkpoint_changed", "its root is not the one of its own frontier"),
        ({"root": None}, "checkpoint_changed", "it holds a note but no root"),
        ({"root": 7}, "checkpoint_changed", "hold hexadecimal hashes"),
        ({"note": 7}, "checkpoint_changed", "field 'note' is 7"),
        ({"note": "forged"}, "checkpoint_changed", "no signed note"),
        ({"size": "eleven"}, "checkpoint_changed", "field 'size' is 'eleven'"),
    ],
)
def test_a_changed_checkpoint_file_is_found(
    signed: Ledger, store: Store, changes: dict[str, object], kind: str, words: str
) -> None:
    edit(newest(store), **changes)
    outcome = verify_with(signed, store)
    assert found(outcome) == [kind]
    assert words in outcome.findings[0].sentence
    assert newest(store).name in outcome.findings[0].sentence


def test_a_changed_signature_is_found(signed: Ledger, store: Store) -> None:
    content = str(checkpoints.last_note(store))
    start, _, value = content.rstrip("\n").rpartition(" ")
    decoded = bytearray(base64.b64decode(value))
    decoded[20] ^= 1
    edit_newest(store, note=f"{start} {base64.b64encode(decoded).decode()}\n")
    outcome = verify_with(signed, store)
    assert set(found(outcome)) == {"bad_signature"}
    assert "is not of this text" in outcome.findings[0].sentence


def test_a_published_key_that_was_exchanged_is_found(
    signed: Ledger, store: Store, signer: Signer, other: Signer
) -> None:
    store.at("ledger", "keys", f"{signer.public.key_id}.pem").write_bytes(other.public.pem)
    outcome = verify_with(signed, store)
    assert found(outcome)[0] == "checkpoint_changed"
    assert "not the one it is named for" in outcome.findings[0].sentence


def test_a_root_that_the_events_do_not_give_is_found(signed: Ledger, store: Store, signer: Signer) -> None:
    """Somebody with the key signs another tree over the same head: the events tell."""
    tree = Frontier()
    for number in range(11):
        tree.append(bytes([number]))
    head = signed.head()
    from include.governance.note import TreeHead

    content = sign_note(TreeHead(head, tree.root()).text, origin(head), signer)
    edit_newest(store, root=tree.root().hex(), frontier=[node.hex() for node in tree.nodes], note=content)
    outcome = verify_with(signed, store)
    assert found(outcome) == ["checkpoint_changed"]
    assert "give the Merkle root" in outcome.findings[0].sentence


def test_a_cut_ledger_whose_checkpoints_were_cut_too_is_found_by_the_note_kept_elsewhere(
    signed: Ledger, store: Store, signer: Signer
) -> None:
    kept = str(checkpoints.last_note(store))
    paths = checkpoints.checkpoint_paths(store)
    paths[-1].unlink()
    Path(checkpoints.pointer_path(store)).write_bytes(paths[0].read_bytes())
    tamper(signed, "DELETE FROM event WHERE seq > 7")
    assert verify_with(signed, store, trusted=[signer.public]).ok, "the store was set back as well"
    outcome = verify_with(signed, store, trusted=[signer.public], notes={"the report page": kept})
    assert found(outcome) == ["truncated"]
    outcome = verify_with(signed, None, trusted=[signer.public], notes={"the report page": kept[:-9]})
    assert found(outcome) == ["checkpoint_changed", "not_signed"]


def test_missing_events_stop_the_next_checkpoint(signed: Ledger, store: Store, signer: Signer) -> None:
    grow(signed)
    tamper(signed, "DELETE FROM event WHERE seq = 13")
    with pytest.raises(LedgerBehind, match=r"last event is 16, but 1 before it are missing: run .* verify"):
        write_checkpoint(signed, store, signer)


def test_a_recovery_begins_a_log_of_another_name(signed: Ledger, store: Store, signer: Signer) -> None:
    tamper(signed, "DELETE FROM event WHERE seq > 8")
    checkpoints.recover(signed, store, actor="olga", reason="the disk broke", signer=signer)
    lines = str(checkpoints.last_note(store)).split("\n")
    assert lines[:2] == [f"labelops/ledger/{signed.head().ledger_id}/2", "9"]
    grow(signed)
    write_checkpoint(signed, store, signer)
    outcome = verify_with(signed, store, trusted=[signer.public])
    assert (found(outcome), outcome.signed, outcome.signed_size) == (["recovered"], 3, 14)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: ["example.com/log", *lines[1:]], "line 1: 'example.com/log' is no ledger"),
        (lambda lines: [lines[0], "011", *lines[2:]], "line 2: '011' is no number of events"),
        (lambda lines: [*lines[:2], "AAAA", *lines[3:]], "line 3: 'AAAA' is no root"),
        (lambda lines: [*lines[:3], "head x", lines[4]], "lines 4 and 5"),
        (lambda lines: [*lines, "more"], "expected a checkpoint of five lines, found 6"),
    ],
)
def test_a_text_that_is_no_checkpoint_of_ours_is_refused(signed: Ledger, store: Store, change, words: str) -> None:
    lines = read_note(str(checkpoints.last_note(store)), "x").text.split("\n")[:5]
    with pytest.raises(InvalidInput, match=words):
        read_tree_head("".join(f"{line}\n" for line in change(lines)), "x")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "no signed note"),
        ("text\n", "no signed note"),
        ("text\n\n", "no signed note"),
        ("text\n\n— n AAAAAAAA", "no signed note"),
        ("te\txt\n\n— n AAAAAAAA\n", "no signed note"),
        ("text\n\n- n AAAAAAAA\n", "no signature line"),
        ("text\n\n— n AAAA\n", "no signature line"),
        ("text\n\n— n A\n", "no signature line"),
        ("text\n\n— a+b AAAAAAAA\n", "no signature line"),
        ("text\n\n" + "— n AAAAAAAA\n" * 65, "65 signatures"),
    ],
)
def test_what_is_no_note_is_refused(content: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        read_note(content, "x")
