"""Personal data goes, the proof stays: what the ledger says when the raw replies of a person's decisions are removed.

The ledger holds digests and identifiers: the person's id of the register, and the account that the outside system
names them by. Names are in the register alone; what people wrote, and what a system says of them, is in the raw
replies, kept as objects of the store. :func:`erase` removes those and leaves an event ``person.erased`` that names each
by its digest, so that an object that was erased is told from one that was lost. Every hash and every proof stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from include.base.canonical import digest_of
from include.base.errors import InvalidInput
from include.base.store import Store
from include.governance.ledger import Ledger
from include.governance.records import NewEvent

__all__ = ["Evidence", "erase", "erased_objects", "evidence_of"]

Evidence = Literal["kept", "erased", "lost"]

NAMED = 200
"""Objects named in one event, so that its body has room for them."""


def erase(ledger: Ledger, store: Store, person: str, *, actor: str, reason: str) -> list[str]:
    """Remove the raw replies of all decisions of a person, once the ledger says so; return the digests removed.

    Running it again after it was killed removes the rest. The decisions stay: who decided, by the register's id.

    :param person: the person's id of the register, or ``system:account`` of somebody who is not in it.
    :param actor: who takes responsibility for it.
    :raises InvalidInput: when no decision is theirs, or no reason is given.
    """
    if not reason.strip():
        raise InvalidInput("reason: what is removed for good needs one, in words")
    theirs = [one for one in ledger.decisions() if (one.person or f"{one.system}:{one.account}") == person]
    if not theirs:
        raise InvalidInput(f"person: found {person!r}; no decision on the ledger is theirs")
    known = erased_objects(ledger, store)
    wanted = sorted({one.raw_digest for one in theirs if one.raw_digest})
    new = [digest for digest in wanted if digest not in known and store.has_object(digest)]
    # The event first: a run that is killed leaves an object that is there still, never one that seems lost.
    with ledger.transaction() as transaction:
        for digests in (new[first : first + NAMED] for first in range(0, len(new), NAMED)):
            event = NewEvent(
                actor=actor,
                action="person.erased",
                project="",
                subject=f"person:{person}",
                reason=reason,
                body={"objects": digests},
            )
            transaction.append(event, key=f"person.erased:{digest_of(digests)}")
    removed = [digest for digest in wanted if digest in {*known, *new} and store.has_object(digest)]
    for digest in removed:
        store.object_path(digest).unlink()
    return removed


def erased_objects(ledger: Ledger, store: Store) -> set[str]:
    """Return the digests of the objects that the ledger says were removed, of a person or by a retention rule."""
    found: set[str] = set()
    for event in ledger.events(actions=["person.erased", "retention.applied"]):
        if event.action == "person.erased":
            found.update(event.body["objects"])
        elif store.has_object(event.body["listing"]):
            listing = store.get_value(event.body["listing"])
            found.update(one["name"] for one in listing if one["kind"] == "evidence")
    return found


def evidence_of(ledger: Ledger, store: Store) -> Iterator[tuple[str, str, Evidence]]:
    """Yield (decision id, digest of its raw reply, what became of that) for each decision that has one."""
    erased = erased_objects(ledger, store)
    for one in ledger.decisions():
        if one.raw_digest:
            kept: Evidence = "erased" if one.raw_digest in erased else "lost"
            yield one.decision_id, one.raw_digest, "kept" if store.has_object(one.raw_digest) else kept
