"""Heads of the ledger kept outside its database: what shows that its end was cut off, or all of it written anew.

A checkpoint is an immutable JSON file in the store, ``ledger/checkpoints/<size>-<start of the head's hash>.json``: the
head's fields, ``root`` (of the Merkle tree, hex), ``frontier`` (the tree's right edge, so that the next checkpoint
reads new events only) and ``note``, the signed text of :mod:`include.governance.note`, null without a signing key.
Earlier releases wrote the head's fields alone. ``ledger/checkpoint.json`` repeats the newest one; the public keys are
in ``ledger/keys/<key id>.pem``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from include.base.canonical import SHORT, canonical_json, digest_of
from include.base.errors import InvalidInput, LedgerBehind, Refused
from include.base.signing import PublicKey, Signer, read_public_key
from include.base.store import Store, StorePath, read_json
from include.governance import tables
from include.governance.ledger import Ledger, Transaction, read_head
from include.governance.merkle import Frontier
from include.governance.note import TreeHead, origin, sign_note
from include.governance.records import SERVICE, Head, NewEvent

__all__ = [
    "SIGNING_KEY",
    "Checkpoint",
    "all_checkpoints",
    "checkpoint_paths",
    "kept_checkpoints",
    "last_checkpoint",
    "last_note",
    "leaves",
    "pointer_path",
    "published_keys",
    "read_checkpoint",
    "recover",
    "require_not_behind",
    "write_checkpoint",
]

SIGNING_KEY = "signing_key.in_force"
"""The action of the event that says which key signs from here on: its digest after is the key's id."""

PAGE = 10_000

WHAT_TO_DO = (
    "Nothing may be written. Check that LABELOPS_LEDGER and LABELOPS_STORE belong together, and restore the newest "
    "backup of the ledger. If events are lost for good, record that with `labelops recover "
    "--actor <your id> --reason <why>`"
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint as it is kept.

    :param root: of the Merkle tree over the events, 32 bytes; None in a checkpoint of an earlier release.
    :param frontier: the tree's right edge; see :class:`include.governance.merkle.Frontier`.
    :param note: the signed text, None where no key was set.
    :param source: the file's name, for people.
    """

    head: Head
    root: bytes | None = None
    frontier: tuple[bytes, ...] = ()
    note: str | None = None
    source: str = "a checkpoint"

    @property
    def fault(self) -> str | None:
        """Say how the file contradicts itself, None where it does not."""
        if self.root is None:
            return "it holds a note but no root" if self.note else None
        try:
            fits = Frontier.of(self.head.size, self.frontier).root() == self.root
        except ValueError:
            fits = False
        return None if fits else "its root is not the one of its own frontier"


def write_checkpoint(ledger: Ledger, store: Store, signer: Signer | None = None) -> bool:
    """Write the head outside the database: an immutable file first, the pointer last.

    Reads only the events since the last checkpoint. A key that signs for the first time, or again after another one,
    is published in the store and noted on the ledger before it signs.

    :param signer: the installation's key; without one the checkpoint is not signed.
    :returns: False, and nothing is written, when no event was added since the last checkpoint.
    :raises LedgerBehind: when the ledger does not reach its last checkpoint: a cut ledger never replaces the proof.
    """
    last = _last(store)
    head = _checked_head(ledger, None if last is None else last.head)
    if head.size and signer is not None and _note_key(ledger, store, signer):
        head = ledger.head()
    if head.size == 0 or (last is not None and last.head == head):
        return False
    _keep(store, _made(ledger, head, last, signer))
    return True


def require_not_behind(ledger: Ledger, store: Store) -> None:
    """Stop unless the ledger holds all that its last checkpoint says it held.

    :raises LedgerBehind: when it is another ledger, is shorter, or differs there.
    """
    _checked_head(ledger, last_checkpoint(store))


def recover(ledger: Ledger, store: Store, *, actor: str, reason: str, signer: Signer | None = None) -> Head:
    """Record that events are lost for good, begin the next epoch and write a checkpoint of it.

    The loss stays visible: as an event, and as a warning of the verifier. Running it again after a crash goes on
    where it stopped.

    :param actor: the person who takes responsibility.
    :param reason: what was lost and why it cannot be had back.
    :param signer: the installation's key.
    :raises Refused: when nothing is lost, or no reason is given.
    """
    if not reason.strip():
        raise Refused("a recovery needs a reason: what was lost, and why it cannot be restored")
    last = last_checkpoint(store)
    with ledger.transaction() as transaction:
        head = read_head(transaction.connection)
        if last is None or _difference(transaction.connection, head, last) is None:
            raise Refused("nothing is lost: the ledger reaches its last checkpoint")
        _record_loss(transaction, head, last, kept_checkpoints(store), actor, reason)
        head = read_head(transaction.connection)
    if signer is not None and _note_key(ledger, store, signer):
        head = ledger.head()
    _keep(store, _made(ledger, head, _newest_met(ledger, head, store), signer))
    return head


def last_checkpoint(store: Store) -> Head | None:
    """Return the newest checkpoint, None where none was ever written.

    Where only the pointer is missing, the immutable files still tell.

    :raises InvalidInput: when a checkpoint file is malformed.
    """
    last = _last(store)
    return None if last is None else last.head


def last_note(store: Store) -> str | None:
    """Return the signed text of the newest checkpoint that has one, None where none has.

    :raises InvalidInput: when a checkpoint file is malformed.
    """
    last = _last(store)
    if last is None or last.note is not None:
        return None if last is None else last.note
    signed = [one for one in all_checkpoints(store) if one.note is not None]
    return max(signed, key=_age).note if signed else None


def kept_checkpoints(store: Store) -> Iterator[Head]:
    """Stream the heads of all checkpoints ever written, oldest first.

    :raises InvalidInput: when one of them is malformed.
    """
    return (one.head for one in all_checkpoints(store))


def all_checkpoints(store: Store) -> Iterator[Checkpoint]:
    """Stream all checkpoints ever written, oldest first.

    :raises InvalidInput: when one of them is malformed.
    """
    return (read_checkpoint(path) for path in checkpoint_paths(store))


def checkpoint_paths(store: Store) -> list[StorePath]:
    """Return the immutable checkpoint files, oldest first."""
    folder = store.at("ledger", "checkpoints")
    if not folder.exists():
        return []
    found = (path for path in folder.iterdir() if path.name.endswith(".json") and not path.name.startswith("."))
    return sorted(found, key=lambda path: str(path.name))


def published_keys(store: Store) -> list[PublicKey]:
    """Return the public keys that the installation has published in the store.

    :raises InvalidInput: when a file holds no key, or another one than it is named for.
    """
    folder = store.at("ledger", "keys")
    keys = []
    for path in sorted(folder.iterdir(), key=lambda path: str(path.name)) if folder.exists() else ():
        if not path.name.endswith(".pem") or path.name.startswith("."):
            continue
        key = read_public_key(bytes(path.read_bytes()), str(path))
        if path.name != f"{key.key_id}.pem":
            raise InvalidInput(f"{path}: holds the key {key.key_id}, not the one it is named for")
        keys.append(key)
    return keys


def _note_key(ledger: Ledger, store: Store, signer: Signer) -> bool:
    """Publish the key and note on the ledger that it signs from here on; return whether that is new."""
    public = signer.public
    before = None
    for event in ledger.events(actions=[SIGNING_KEY], subject="signing_key"):
        before = event
    store.write_new(store.at("ledger", "keys", f"{public.key_id}.pem"), public.pem)
    if before is not None and before.digest_after == public.key_id:
        return False
    noted = NewEvent(
        actor=SERVICE,
        action=SIGNING_KEY,
        project="",
        subject="signing_key",
        digest_before=before.digest_after if before else None,
        digest_after=public.key_id,
        reason="this key signs the checkpoints from here on",
        body={"algorithm": "Ed25519", "public_key": public.raw.hex()},
    )
    # Named by the event before it: two runs that find a new key at once note it once.
    return ledger.append(noted, key=f"{SIGNING_KEY}:{before.seq if before else 0}:{public.key_id}")[1]


def _made(ledger: Ledger, head: Head, known: Checkpoint | None, signer: Signer | None) -> Checkpoint:
    """Return the checkpoint of a head, from the newest one that the ledger is known to meet."""
    tree = Frontier()
    if known is not None and known.root is not None and known.fault is None:
        tree = Frontier.of(known.head.size, known.frontier)
    with ledger.reading() as connection:
        for page in leaves(connection, tree.size, head.size):
            tree.extend(page)
    if tree.size != head.size:
        raise LedgerBehind(
            f"The ledger's last event is {head.size}, but {head.size - tree.size} before it are missing: "
            "run `labelops verify`"
        )
    root = tree.root()
    text, name = TreeHead(head, root).text, origin(head)
    return Checkpoint(head, root, tuple(tree.nodes), None if signer is None else sign_note(text, name, signer))


def leaves(connection: sa.Connection, after: int, last: int) -> Iterator[list[bytes]]:
    """Stream the data of the Merkle tree's leaves: the chain hashes of the events."""
    table = tables.event
    query = sa.select(table.c.seq, table.c.hash).order_by(table.c.seq).limit(PAGE)
    while page := connection.execute(query.where(table.c.seq > after, table.c.seq <= last)).all():
        yield [bytes.fromhex(row.hash) for row in page]
        after = page[-1].seq


def _newest_met(ledger: Ledger, head: Head, store: Store) -> Checkpoint | None:
    with ledger.reading() as connection:
        for one in sorted(all_checkpoints(store), key=_age, reverse=True):
            if one.root is not None and _difference(connection, head, one.head) is None:
                return one
    return None


def _age(one: Checkpoint) -> tuple[int, int]:
    return one.head.epoch, one.head.size


def _checked_head(ledger: Ledger, last: Head | None) -> Head:
    with ledger.reading() as connection:
        head = read_head(connection)
        difference = None if last is None else _difference(connection, head, last)
    if difference is not None:
        raise LedgerBehind(f"{difference}. {WHAT_TO_DO}")
    return head


def _difference(connection: sa.Connection, head: Head, last: Head) -> str | None:
    """Say how the ledger falls short of a checkpoint, None where it does not."""
    if head.ledger_id != last.ledger_id:
        return f"The ledger is {head.ledger_id}, but its last checkpoint is of ledger {last.ledger_id}"
    if head.size < last.size:
        lost = last.size - head.size
        return f"The ledger has {head.size} events, but its last checkpoint says {last.size}: {lost} are lost"
    table = tables.event
    found = connection.scalar(sa.select(table.c.hash).where(table.c.seq == last.size))
    if found != last.hash:
        return (
            f"Event {last.size} of the ledger has hash {str(found)[:SHORT]}, but its last checkpoint says "
            f"{last.hash[:SHORT]}: the events up to there are not the ones that were written"
        )
    if head.epoch < last.epoch:
        return f"The ledger is in epoch {head.epoch}, but its last checkpoint is of epoch {last.epoch}"
    return None


def _record_loss(
    transaction: Transaction, head: Head, last: Head, kept: Iterator[Head], actor: str, reason: str
) -> None:
    """Append the loss, and all further checkpoints that cannot be met, as far as an event has room for them."""
    unmet = [
        _name(checkpoint)
        for checkpoint in kept
        if checkpoint != last and _difference(transaction.connection, head, checkpoint) is not None
    ]
    epoch = max(head.epoch, last.epoch) + 1
    transaction.append(
        NewEvent(
            actor=actor,
            action="ledger.recovered",
            project="",
            subject=f"ledger:{head.ledger_id}",
            digest_before=last.hash,
            digest_after=head.hash,
            reason=reason,
            body={"epoch": epoch, "lost": _name(last), "also_lost": unmet[-80:]},
        ),
        key=f"ledger.recovered:{digest_of(_name(last))}",
    )
    transaction.connection.execute(sa.update(tables.ledger_info).values(epoch=epoch))


def _name(head: Head) -> dict[str, Any]:
    return {"ledger_id": head.ledger_id, "size": head.size, "hash": head.hash}


def _keep(store: Store, made: Checkpoint) -> None:
    head = made.head
    path = store.at("ledger", "checkpoints", f"{head.size:012d}-{head.hash[:SHORT]}.json")
    if path.exists() and read_checkpoint(path).head == head:
        made = read_checkpoint(path)  # a run that was killed here may have had another key, or none
    else:
        store.write_new(path, canonical_json(_content(made)) + b"\n")
    pointer = pointer_path(store)
    now = read_checkpoint(pointer).head if pointer.exists() else None
    if now is not None and now.ledger_id == head.ledger_id and (now.epoch, now.size) >= (head.epoch, head.size):
        return  # another run was faster: its checkpoint holds ours
    store.move_pointer(pointer, _content(made))


def _content(one: Checkpoint) -> dict[str, Any]:
    if one.root is None:
        return asdict(one.head)
    tree = {"root": one.root.hex(), "frontier": [node.hex() for node in one.frontier], "note": one.note}
    return {**asdict(one.head), **tree}


def _last(store: Store) -> Checkpoint | None:
    """Return the newest checkpoint. Where only the pointer is missing, the immutable files still tell."""
    pointer = pointer_path(store)
    if pointer.exists():
        return read_checkpoint(pointer)
    return max(all_checkpoints(store), key=_age, default=None)


def pointer_path(store: Store) -> StorePath:
    """Return the file that repeats the newest checkpoint."""
    return store.at("ledger", "checkpoint.json")


def read_checkpoint(path: StorePath) -> Checkpoint:
    """Return the checkpoint in a file.

    :raises InvalidInput: naming the file and the field when it is none.
    """
    value = read_json(path)
    expected = {"ledger_id": str, "epoch": int, "size": int, "hash": str, "time": str}
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{path}: a checkpoint is a JSON object, found {type(value).__name__}")
    for name, kind in expected.items():
        if type(value.get(name)) is not kind:
            raise InvalidInput(f"{path}: field {name!r} is {value.get(name)!r}; expected {kind.__name__}")
    head = Head(**{name: value[name] for name in expected})
    root, frontier, note = value.get("root"), value.get("frontier", []), value.get("note")
    if note is not None and not isinstance(note, str):
        raise InvalidInput(f"{path}: field 'note' is {note!r}; expected str or null")
    try:
        nodes = tuple(bytes.fromhex(node) for node in frontier)
        return Checkpoint(head, None if root is None else bytes.fromhex(root), nodes, note, str(path.name))
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{path}: fields 'root' and 'frontier' hold hexadecimal hashes ({error})") from error
