"""Heads of the ledger kept outside its database: what shows that its end was cut off, or all of it written anew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from include.base.canonical import SHORT, canonical_json, digest_of
from include.base.errors import InvalidInput, LedgerBehind, Refused
from include.base.store import Store, StorePath, read_json
from include.governance import tables
from include.governance.ledger import Transaction, read_head
from include.governance.records import Head, NewEvent

if TYPE_CHECKING:
    from include.governance.ledger import Ledger

__all__ = ["kept_checkpoints", "last_checkpoint", "recover", "require_not_behind", "write_checkpoint"]

WHAT_TO_DO = (
    "Nothing may be written. Check that LABELOPS_LEDGER and LABELOPS_STORE belong together, and restore the newest "
    "backup of the ledger. If events are lost for good, record that with `python -m include.governance recover "
    "--actor <your id> --reason <why>`"
)


def write_checkpoint(ledger: Ledger, store: Store) -> bool:
    """Write the head outside the database: an immutable file first, the pointer last.

    :returns: False, and nothing is written, when no event was added since the last checkpoint.
    :raises LedgerBehind: when the ledger does not reach its last checkpoint: a cut ledger never replaces the proof.
    """
    last = last_checkpoint(store)
    head = _checked_head(ledger, last)
    if head.size == 0 or (last is not None and last == head):
        return False
    _keep(store, head)
    return True


def require_not_behind(ledger: Ledger, store: Store) -> None:
    """Stop unless the ledger holds all that its last checkpoint says it held.

    :raises LedgerBehind: when it is another ledger, is shorter, or differs there.
    """
    _checked_head(ledger, last_checkpoint(store))


def recover(ledger: Ledger, store: Store, *, actor: str, reason: str) -> Head:
    """Record that events are lost for good, begin the next epoch and write a checkpoint of it.

    The loss stays visible: as an event, and as a warning of the verifier. Running it again after a crash goes on
    where it stopped.

    :param actor: the person who takes responsibility.
    :param reason: what was lost and why it cannot be had back.
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
    _keep(store, head)
    return head


def last_checkpoint(store: Store) -> Head | None:
    """Return the newest checkpoint, None where none was ever written.

    Where only the pointer is missing, the immutable files still tell.

    :raises InvalidInput: when a checkpoint file is malformed.
    """
    pointer = _pointer_path(store)
    if pointer.exists():
        return _read(pointer)
    return max(kept_checkpoints(store), key=lambda head: (head.epoch, head.size), default=None)


def kept_checkpoints(store: Store) -> Iterator[Head]:
    """Stream all checkpoints ever written, oldest first.

    :raises InvalidInput: when one of them is malformed.
    """
    folder = store.at("ledger", "checkpoints")
    if not folder.exists():
        return
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if path.name.endswith(".json") and not path.name.startswith("."):
            yield _read(path)


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


def _keep(store: Store, head: Head) -> None:
    content = asdict(head)
    name = f"{head.size:012d}-{head.hash[:SHORT]}.json"
    store.write_new(store.at("ledger", "checkpoints", name), canonical_json(content) + b"\n")
    pointer = _pointer_path(store)
    now = _read(pointer) if pointer.exists() else None
    if now is not None and now.ledger_id == head.ledger_id and (now.epoch, now.size) >= (head.epoch, head.size):
        return  # another run was faster: its checkpoint holds ours
    store.move_pointer(pointer, content)


def _pointer_path(store: Store) -> StorePath:
    return store.at("ledger", "checkpoint.json")


def _read(path: StorePath) -> Head:
    value = read_json(path)
    expected = {"ledger_id": str, "epoch": int, "size": int, "hash": str, "time": str}
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{path}: a checkpoint is a JSON object, found {type(value).__name__}")
    for name, kind in expected.items():
        if type(value.get(name)) is not kind:
            raise InvalidInput(f"{path}: field {name!r} is {value.get(name)!r}; expected {kind.__name__}")
    return Head(**{name: value[name] for name in expected})
