"""Proofs that travel: one event shown to be on the ledger, or one checkpoint shown to begin another, to anybody.

A proof is a JSON file. Whoever has a signed checkpoint and the public key can check it alone, without the ledger's
database, without the other events, and without a secret::

    {"proof": "inclusion", "format": 1, "event": {all fields, with "prev_hash"}, "path": [hex, …],
     "tree": {"size": …, "root": hex, "checkpoint": <signed note or null>}}
    {"proof": "consistency", "format": 1, "old": <tree>, "new": <tree>, "path": [hex, …]}

Paths are those of RFC 6962, sections 2.1.1 and 2.1.2, over the tree of :mod:`include.governance.merkle`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from include.base.canonical import SHORT
from include.base.errors import InvalidInput, LedgerBehind
from include.base.signing import PublicKey
from include.base.store import Store
from include.governance import tables
from include.governance.checkpoint import Checkpoint, all_checkpoints, leaves
from include.governance.ledger import HASHED, Ledger, chain_hash
from include.governance.merkle import (
    Frontier,
    consistency_ranges,
    inclusion_ranges,
    leaf_hash,
    prove,
    verify_consistency,
    verify_inclusion,
)
from include.governance.note import read_note, read_tree_head

__all__ = ["Checked", "check_proof", "prove_consistency", "prove_inclusion"]


@dataclass(frozen=True, slots=True)
class Checked:
    """What a proof came to.

    :param ok: whether it shows what it says, for a checkpoint with a good signature where keys were given.
    :param sentences: what was shown, or why nothing was, in words.
    """

    ok: bool
    sentences: tuple[str, ...]


def prove_inclusion(ledger: Ledger, store: Store | None, seq: int, size: int | None = None) -> dict[str, Any]:
    """Return the proof that an event is on the ledger.

    Streams: reads the hashes of all events up to ``size`` once.

    :param store: where the checkpoints are, so that the proof leads to a signed one.
    :param seq: the event's number.
    :param size: the number of events of the tree to lead to; by default that of the newest signed checkpoint that holds
        the event, else of the newest checkpoint, else all events.
    :raises InvalidInput: when there is no such event, or no such size.
    :raises LedgerBehind: when the events do not give the checkpoint's root.
    """
    kept = _trees(store)
    with ledger.reading() as connection:
        row = connection.execute(sa.select(tables.event).where(tables.event.c.seq == seq)).mappings().first()
        if row is None:
            raise InvalidInput(f"the ledger has no event {seq}")
        size = size or _best_size(kept, seq) or _last_size(connection)
        if seq > size:
            raise InvalidInput(f"event {seq} is not among the first {size}; write a checkpoint first, or name a size")
        tree = _tree(connection, kept, size)
        path = prove(inclusion_ranges(seq - 1, size), _leaf_data(connection, size))
    made = {
        "proof": "inclusion",
        "format": 1,
        "event": _event(row),
        "path": [node.hex() for node in path],
        "tree": tree,
    }
    return _checked(made)


def prove_consistency(ledger: Ledger, store: Store | None, old: int, new: int) -> dict[str, Any]:
    """Return the proof that the ledger of ``new`` events begins with that of ``old``, unchanged.

    Streams: reads the hashes of all events up to ``new`` three times.

    :raises InvalidInput: unless ``0 < old <= new`` and the ledger has as many.
    :raises LedgerBehind: when the events do not give the checkpoints' roots.
    """
    if not 0 < old <= new:
        raise InvalidInput(f"no proof leads from {old} events to {new}: give the smaller number first, from 1")
    kept = _trees(store)
    with ledger.reading() as connection:
        first, second = _tree(connection, kept, old), _tree(connection, kept, new)
        path = prove(consistency_ranges(old, new), _leaf_data(connection, new))
    nodes = [node.hex() for node in path]
    return _checked({"proof": "consistency", "format": 1, "old": first, "new": second, "path": nodes})


def check_proof(value: Any, keys: Iterable[PublicKey] = (), note: str | None = None) -> Checked:
    """Check a proof alone.

    :param value: what the JSON file holds.
    :param keys: public keys whose signatures count; without any, signatures are not looked at, which is said.
    :param note: a signed checkpoint had from elsewhere: the proof has to lead to it.
    :raises InvalidInput: when it is no proof: the field is named.
    """
    kind = _field(value, "proof", str)
    check = {"inclusion": _check_inclusion, "consistency": _check_consistency}.get(kind)
    if check is None or value.get("format") != 1:
        raise InvalidInput(f"the file is no proof: found {kind!r}; allowed: inclusion, consistency, of format 1")
    return check(value, list(keys), note)


def _check_inclusion(value: Mapping[str, Any], keys: list[PublicKey], note: str | None) -> Checked:
    event, tree = _field(value, "event", dict), _field(value, "tree", dict)
    seq, size, root = _field(event, "seq", int), _field(tree, "size", int), _hash(tree, "root")
    try:
        data = bytes.fromhex(chain_hash(event["prev_hash"], event, event["body"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"the proof's event is not one of a ledger: {error}") from error
    if not verify_inclusion(leaf_hash(data), seq - 1, size, _path(value), root):
        return Checked(False, (f"The proof does not show that event {seq}, as it is given, is among the {size}.",))
    who, what = event.get("actor"), event.get("action")
    shown = (
        f"Event {seq} ({who}, {what}, {event.get('time')}) is among the {size} events with root {root.hex()[:SHORT]}."
    )
    return _with_trees(shown, [tree], keys, note)


def _check_consistency(value: Mapping[str, Any], keys: list[PublicKey], note: str | None) -> Checked:
    old, new = _field(value, "old", dict), _field(value, "new", dict)
    sizes = _field(old, "size", int), _field(new, "size", int)
    roots = _hash(old, "root"), _hash(new, "root")
    if not verify_consistency(*sizes, _path(value), *roots):
        return Checked(False, (f"The proof does not show that the {sizes[1]} events begin with the {sizes[0]}.",))
    shown = (
        f"The {sizes[1]} events with root {roots[1].hex()[:SHORT]} begin with the {sizes[0]} events with root "
        f"{roots[0].hex()[:SHORT]}: none of those was changed, removed or moved."
    )
    return _with_trees(shown, [old, new], keys, note)


def _with_trees(shown: str, trees: list[dict[str, Any]], keys: list[PublicKey], note: str | None) -> Checked:
    """Say who vouches for the trees that the proof leads to; with keys given, all of them must be signed."""
    sentences, ok = [shown], True
    if note is not None:
        said = read_tree_head(read_note(note, "the given checkpoint").text, "the given checkpoint")
        if (said.head.size, said.root.hex()) not in [(tree["size"], tree["root"]) for tree in trees]:
            return Checked(False, (shown, f"It does not lead to the given checkpoint of {said.head.size} events."))
        trees = [{**tree, "checkpoint": note} if tree["size"] == said.head.size else tree for tree in trees]
    for tree in trees:
        good, sentence = _vouched(tree, keys)
        ok &= good
        sentences.append(sentence)
    return Checked(ok, tuple(sentences))


def _vouched(tree: Mapping[str, Any], keys: list[PublicKey]) -> tuple[bool, str]:
    size, content = tree["size"], tree.get("checkpoint")
    if content is None:
        return not keys, f"No signed checkpoint of {size} events is at hand: nobody vouches for that root."
    source = f"the checkpoint of {size} events"
    found = read_note(str(content), source)
    said = read_tree_head(found.text, source)
    if (said.head.size, said.root.hex()) != (size, tree["root"]):
        return False, f"The checkpoint says other than the proof: {said.head.size} events."
    if not keys:
        return True, f"The signature of {source} was not checked: give the public key."
    try:
        key = found.signed_by(keys)
    except InvalidInput as error:
        return False, f"{error}."
    if key is None:
        return False, f"{source.capitalize()} is signed by none of the given keys."
    return True, f"{source.capitalize()} is signed by key {key.key_id[:SHORT]}, of ledger {said.head.ledger_id}."


# ---- making -------------------------------------------------------------------------------------------------------


def _trees(store: Store | None) -> dict[int, Checkpoint]:
    """Return the kept checkpoints that name a root, by size: the signed one where there are two, then the newest."""
    kept = [one for one in (all_checkpoints(store) if store else ()) if one.root is not None]
    kept.sort(key=lambda one: (one.note is not None, one.head.epoch))
    return {one.head.size: one for one in kept}


def _best_size(kept: Mapping[int, Checkpoint], seq: int) -> int | None:
    holding = [one for size, one in kept.items() if size >= seq]
    if not holding:
        return max(kept, default=None)
    return max(holding, key=lambda one: (one.note is not None, one.head.epoch, one.head.size)).head.size


def _last_size(connection: sa.Connection) -> int:
    return connection.scalar(sa.select(sa.func.max(tables.event.c.seq))) or 0


def _tree(connection: sa.Connection, kept: Mapping[int, Checkpoint], size: int) -> dict[str, Any]:
    tree = Frontier()
    tree.extend(_leaf_data(connection, size))
    if tree.size != size:
        raise InvalidInput(f"the ledger has {tree.size} events, not {size}")
    known, root = kept.get(size), tree.root()
    if known is not None and known.root != root:
        raise LedgerBehind(
            f"The events up to {size} do not give the root that {known.source} names: run `labelops verify`"
        )
    return {"size": size, "root": root.hex(), "checkpoint": None if known is None else known.note}


def _leaf_data(connection: sa.Connection, size: int) -> Iterator[bytes]:
    for page in leaves(connection, 0, size):
        yield from page


def _event(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {**{name: row[name] for name in HASHED}, "body": json.loads(row["body"]), "prev_hash": row["prev_hash"]}


def _checked(made: dict[str, Any]) -> dict[str, Any]:
    if not check_proof(made).ok:
        raise LedgerBehind("The ledger's events contradict themselves: run `labelops verify`")
    return made


# ---- reading ------------------------------------------------------------------------------------------------------


def _field(value: Any, name: str, kind: type) -> Any:
    found = value.get(name) if isinstance(value, Mapping) else None
    if not isinstance(found, kind) or isinstance(found, bool):
        raise InvalidInput(f"the proof's field {name!r} is {found!r}; expected {kind.__name__}")
    return found


def _hash(value: Mapping[str, Any], name: str) -> bytes:
    text = _field(value, name, str)
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != 32:
        raise InvalidInput(f"the proof's field {name!r} is {text[:70]!r}; expected 64 hex characters")
    return found


def _path(value: Mapping[str, Any]) -> list[bytes]:
    return [_hash({"path": node}, "path") for node in _field(value, "path", list)]
