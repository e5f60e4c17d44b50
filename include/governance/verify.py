"""Whether a ledger is what was written: every hash, every row, and the checkpoints that were kept outside.

Needs no secret. What a chain alone can show is that somebody changed, removed or moved an event without working out all
later hashes anew. Somebody who did that, or who cut the end off, is found by a checkpoint kept outside the database.
Somebody who can write there too is found by the checkpoints' signatures, checked with a public key that he cannot
replace: :func:`verify_with` takes pinned keys, and notes that were kept in yet another place.

Outside the chain are the tables :data:`include.governance.tables.KEPT`: claims and completed effects, what syncs have
seen, and where records came from. Triggers refuse slips there, and this verifier says nothing of their content.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Literal

import sqlalchemy as sa
from orjson import OPT_SORT_KEYS, Fragment, dumps, loads
from sqlalchemy.engine import Connection

from include.base.canonical import SHORT, canonical_text
from include.base.errors import InvalidInput
from include.base.signing import PublicKey
from include.base.store import Store, StorePath
from include.governance import tables
from include.governance.checkpoint import (
    SIGNING_KEY,
    Checkpoint,
    checkpoint_paths,
    pointer_path,
    published_keys,
    read_checkpoint,
)
from include.governance.erasure import evidence_of
from include.governance.ledger import Ledger, chain_hash, genesis_hash, read_head, row_digest
from include.governance.merkle import Frontier
from include.governance.note import Note, origin, read_note, read_tree_head
from include.governance.records import Head, read_time, time_text

__all__ = ["FINDINGS_KEPT", "Finding", "Kind", "Verification", "verify", "verify_with"]

Kind = Literal[
    "changed",
    "removed",
    "inserted",
    "reordered",
    "truncated",
    "rechained",
    "other_ledger",
    "row_changed",
    "row_removed",
    "row_inserted",
    "unguarded",
    "checkpoint_changed",
    "bad_signature",
    "foreign_key",
    "not_signed",
    "evidence_lost",
    "unsigned",
    "clock_back",
    "recovered",
]

FINDINGS_KEPT = 1000
"""Findings kept in words; the rest is counted, so that memory stays the same however much is wrong."""

WARNINGS: frozenset[str] = frozenset({"evidence_lost", "unsigned", "clock_back", "recovered"})
"""Kinds that a person should know of and that are no tampering."""

PAGE = 1000

REMOVED_TRIED = 50
"""How many events may be gone, and the rest renumbered, for the verifier to say "removed"; beyond: "changed"."""

Row = Mapping[Any, Any]
"""A row by its columns' names, as the database has it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something the verifier saw.

    :param seq: the event it concerns, None where it concerns the whole ledger.
    :param sentence: what was found, for a reader who knows the ledger but not its tables.
    """

    kind: Kind
    seq: int | None
    sentence: str

    @property
    def warning(self) -> bool:
        """Whether the ledger is sound all the same."""
        return self.kind in WARNINGS


@dataclass(slots=True)
class Verification:
    """The outcome of :func:`verify`.

    :param size: number of events read.
    :param head: the ledger's head as it was read.
    :param findings: the first 1,000, in the order of the events.
    :param more: how many further findings there were.
    :param checkpoints: how many checkpoints it was compared with.
    :param signed: how many of those carry a good signature.
    :param signed_size: up to which event a good signature vouches, 0 where none does.
    :param keys: ids of the keys whose signatures were good.
    :param pinned: whether only the keys that the caller named were trusted.
    :param erased: how many decisions have a raw reply that was erased, as the ledger says.
    """

    size: int
    head: Head
    findings: list[Finding] = field(default_factory=list)
    more: int = 0
    ok: bool = True
    checkpoints: int = 0
    signed: int = 0
    signed_size: int = 0
    keys: tuple[str, ...] = ()
    pinned: bool = False
    erased: int = 0

    def add(self, kind: Kind, seq: int | None, sentence: str) -> None:
        """Note a finding; any but a warning makes the ledger unsound."""
        finding = Finding(kind, seq, sentence)
        self.ok = self.ok and finding.warning
        if len(self.findings) < FINDINGS_KEPT:
            self.findings.append(finding)
        else:
            self.more += 1


def verify_with(
    ledger: Ledger, store: Store | None, *, trusted: Iterable[PublicKey] = (), notes: Mapping[str, str] | None = None
) -> Verification:
    """Verify a ledger against everything that was kept outside its database.

    :param store: the store with the checkpoints, None where there is none.
    :param trusted: public keys that were had from somebody else than the store; without any, the keys that the store
        publishes are used, which whoever can write there can replace.
    :param notes: signed checkpoints kept in other places, by where they are from.
    :raises Unsupported: when the schema is not the code's.
    :raises Unavailable: when the database cannot be read.
    """
    pinned = list(trusted)
    evidence = _Evidence(pinned=bool(pinned))
    evidence.trust(pinned, store)
    paths = [] if store is None else [*checkpoint_paths(store), pointer_path(store)]
    for path in paths:
        if path.exists():
            evidence.take_file(path)
    for source, content in (notes or {}).items():
        evidence.take_note(content, source)
    outcome = _verify(ledger, evidence)
    if store is not None:
        _check_replies(ledger, store, outcome)
    return outcome


def _check_replies(ledger: Ledger, store: Store, outcome: Verification) -> None:
    """Tell decisions whose raw reply was erased, which the ledger says, from those whose proof was lost."""
    for decision_id, digest, became in evidence_of(ledger, store):
        if became == "erased":
            outcome.erased += 1
        elif became == "lost":
            outcome.add(
                "evidence_lost",
                None,
                f"The raw reply {digest[:SHORT]} that proves decision {decision_id[:SHORT]} is not in the store, and "
                "no event says that it was erased.",
            )


def verify(ledger: Ledger, checkpoint: Head | Iterable[Head] | None = None) -> Verification:
    """Read the whole ledger at one moment and report all that is not as it was written.

    Streams: memory does not grow with the ledger.

    :param checkpoint: one or several heads kept outside the database.
    :raises Unsupported: when the schema is not the code's.
    :raises Unavailable: when the database cannot be read.
    """
    evidence = _Evidence()
    for head in [checkpoint] if isinstance(checkpoint, Head) else checkpoint or ():
        evidence.take(Checkpoint(head))
    return _verify(ledger, evidence)


def _verify(ledger: Ledger, evidence: _Evidence) -> Verification:
    with ledger.reading() as connection:
        outcome = Verification(size=0, head=read_head(connection), pinned=evidence.pinned)
        outcome.checkpoints = len(evidence.taken)
        for kind, sentence in evidence.faults:
            outcome.add(kind, None, sentence)
        _check_guards(ledger.dialect, connection, outcome)
        chain = _Chain(connection, outcome, evidence)
        rows = [_Rows(connection, *projection) for projection in _PROJECTIONS]
        for page in _event_pages(connection):
            for event, body in chain.follow_page(page):
                for projection in rows:
                    projection.follow(event, body, outcome)
        for projection in rows:
            projection.finish(outcome)
        chain.finish()
    return outcome


# ---- what was kept outside -----------------------------------------------------------------------------------------


class _Evidence:
    """The checkpoints to compare with, each looked at by itself before the ledger is read."""

    def __init__(self, *, pinned: bool = False) -> None:
        self.pinned = pinned
        self.keys: list[PublicKey] = []
        self.taken: dict[Head, bytes | None] = {}
        self.signed: dict[Head, str] = {}
        self.faults: list[tuple[Kind, str]] = []

    def trust(self, pinned: list[PublicKey], store: Store | None) -> None:
        """Say whose signatures count."""
        self.keys = pinned
        if pinned or store is None:
            return
        try:
            self.keys = published_keys(store)
        except InvalidInput as error:
            self.faults.append(("checkpoint_changed", f"A published key was changed: {error}."))

    def take_file(self, path: StorePath) -> None:
        """Take the checkpoint in a file of the store."""
        try:
            one = read_checkpoint(path)
        except InvalidInput as error:
            self.faults.append(("checkpoint_changed", f"A checkpoint file cannot be read: {error}."))
            return
        own_name = f"{one.head.size:012d}-{one.head.hash[:SHORT]}.json"
        fault = one.fault
        if one.source not in (own_name, "checkpoint.json"):
            fault = f"its content belongs into {own_name}"
        if fault is not None:
            self.faults.append(("checkpoint_changed", f"The checkpoint file {one.source} was changed: {fault}."))
            return
        if one.note is None or self._check_note(one.note, one):
            self.take(one)

    def take_note(self, content: str, source: str) -> None:
        """Take a signed checkpoint that was kept in another place."""
        try:
            said = read_tree_head(read_note(content, source).text, source)
        except InvalidInput as error:
            self.faults.append(("checkpoint_changed", f"A checkpoint cannot be read: {error}."))
            return
        one = Checkpoint(said.head, said.root, (), content, source)
        if self._check_note(content, one):
            self.take(one)

    def take(self, one: Checkpoint) -> None:
        """Take a checkpoint that does not contradict itself."""
        if self.taken.get(one.head) is None:
            self.taken[one.head] = one.root

    def _check_note(self, content: str, one: Checkpoint) -> bool:
        """Check what is signed, and by whom; return whether the checkpoint may be compared with."""
        what = f"The checkpoint of {one.head.size} events in {one.source}"
        try:
            note = read_note(content, one.source)
            said = read_tree_head(note.text, one.source)
        except InvalidInput as error:
            self.faults.append(("checkpoint_changed", f"{what} was changed: {error}."))
            return False
        if (said.head, said.root) != (one.head, one.root):
            self.faults.append(("checkpoint_changed", f"{what} was changed: it says other than its signed note."))
            return False
        try:
            key = self._signed_by(note, one)
        except InvalidInput as error:
            self.faults.append(("bad_signature", f"{what} was changed: {error}."))
            return False
        if key is None:
            whose = "the given public keys" if self.pinned else "the keys published in the store"
            self.faults.append(("foreign_key", f"{what} is signed by none of {whose}."))
            return False
        self.signed[one.head] = key.key_id
        return True

    def _signed_by(self, note: Note, one: Checkpoint) -> PublicKey | None:
        own = [signature for signature in note.signatures if signature.name == origin(one.head)]
        return Note(note.text, tuple(own)).signed_by(self.keys)


# ---- the chain -----------------------------------------------------------------------------------------------------


class _Chain:
    """Follows the events in their order, and remembers what the next one has to be."""

    def __init__(self, connection: Connection, outcome: Verification, evidence: _Evidence) -> None:
        self.connection = connection
        self.outcome = outcome
        self.expected = 1
        self.genesis = genesis_hash(outcome.head.ledger_id)
        self.previous_hash = self.genesis
        self.previous_sound = True
        self.shift = 0
        self.previous_time = ""
        self.evidence = evidence
        self.open: dict[int, list[Head]] = {}
        self.explained: set[tuple[str, int, str]] = set()
        for checkpoint in evidence.taken:
            self.open.setdefault(checkpoint.size, []).append(checkpoint)
        self.lost: list[tuple[Head, Kind, int | None, str]] = []
        self.met: list[Head] = []
        self.signing: dict[str, int] = {}
        self.tree = Frontier() if any(evidence.taken.values()) else None

    def follow_page(self, page: list[tuple[Any, ...]]) -> Iterator[tuple[Row, Row | None]]:
        """Check a page of events; yield those that rows may belong to, with their bodies where these can be trusted.

        A page in which all is as it was written is checked in a short loop; any other one is looked at event by event,
        for the words.
        """
        leaves = self._sound(page) if self.previous_sound else None
        if leaves is None:
            for row in page:
                event = dict(zip(_COLUMNS, row, strict=True))
                yield event, self.follow(event)
            return
        first = self.expected
        self.expected, self.previous_hash, self.shift = first + len(page), page[-1][-1], 0
        self.outcome.size += len(page)
        self.previous_time = page[-1][1]
        self._grow(page, leaves, first)
        for row in page:
            if row[4] in _TELLING:
                event = dict(zip(_COLUMNS, row, strict=True))
                body = json.loads(event["body"])
                self._note(event, body)
                yield event, body

    def _sound(self, page: list[tuple[Any, ...]]) -> list[bytes] | None:
        """Return the hashes of a page's events, None unless each is what was written and follows the one before."""
        expected, last, moment = self.expected, bytes.fromhex(self.previous_hash), self.previous_time
        last_text, leaves = self.previous_hash, []
        try:
            for row in page:
                seq, time, key, actor, action, project, subject, before, after, reason, run, body, prev, own = row
                if seq != expected or prev != last_text or time < moment:
                    return None
                text = dumps({
                    "action": action, "actor": actor, "body": Fragment(body), "digest_after": after,
                    "digest_before": before, "key": key, "project": project, "reason": reason, "run": run, "seq": seq,
                    "subject": subject, "time": time,
                })  # fmt: skip
                last = sha256(last + text).digest()
                last_text = last.hex()
                if last_text != own or dumps(loads(body), option=OPT_SORT_KEYS).decode() != body:
                    return None
                leaves.append(last)
                expected, moment = expected + 1, time
        except (TypeError, ValueError):
            return None
        return leaves

    def _grow(self, page: list[tuple[Any, ...]], leaves: list[bytes], first: int) -> None:
        """Let the tree grow by a sound page, and hold the checkpoints that stand in it against it."""
        done = 0
        for size in sorted(size for size in self.open if first <= size < first + len(page)):
            at = size - first + 1
            if self.tree is not None:
                self.tree.extend(leaves[done:at])
            self._check_checkpoint(dict(zip(_COLUMNS, page[at - 1], strict=True)))
            done = at
        if self.tree is not None:
            self.tree.extend(leaves[done:])

    def follow(self, event: Row) -> Row | None:
        """Check one event; return its body where it can be trusted to be the one that was written."""
        gap = self._check_number(event["seq"])
        body, fault = _read_body(event)
        own = fault is None and self._hash_of(event, body, event["seq"]) == event["hash"]
        if not own:
            self._explain_own(event, body, fault)
        elif event["prev_hash"] != self.previous_hash and not gap and self.previous_sound:
            self._explain_link(event)
        self._check_clock(event)
        if self.tree is not None:
            self.tree.append(_leaf(event["hash"]))
        self._check_checkpoint(event)
        if own:
            self._note(event, body or {})
        self.expected = event["seq"] + 1
        self.previous_hash = event["hash"]
        self.previous_sound = own
        self.shift = 0 if own else self.shift
        self.outcome.size += 1
        return body if own else None

    def finish(self) -> None:
        """Say what the checkpoints hold and the ledger does not."""
        last = self.expected - 1
        for size, checkpoints in sorted(self.open.items()):
            for checkpoint in checkpoints:
                if checkpoint.ledger_id != self.outcome.head.ledger_id or size == 0:
                    self._lose_other(checkpoint)
                    continue
                sentence = (
                    f"The ledger ends at event {last}, but a checkpoint kept outside says that it had {size} events: "
                    f"{size - last} were cut off."
                )
                self.lost.append((checkpoint, "truncated", last, sentence))
        for checkpoint, kind, seq, sentence in self.lost:
            if (checkpoint.ledger_id, checkpoint.size, checkpoint.hash) not in self.explained:
                self.outcome.add(kind, seq, sentence)
        self._judge_signatures()

    def _judge_signatures(self) -> None:
        """Say how far the signatures vouch for what was read, and where they should and do not."""
        outcome, evidence = self.outcome, self.evidence
        good = []
        for head in self.met:
            key = evidence.signed.get(head)
            if key is None:
                continue
            if not evidence.pinned and self.signing.get(key, head.size + 1) > head.size:
                outcome.add(
                    "foreign_key",
                    head.size,
                    f"The checkpoint of {head.size} events is signed by key {key[:SHORT]}, which the ledger does not "
                    "name as its signing key up to there.",
                )
                continue
            good.append(head)
        outcome.signed = len(good)
        outcome.signed_size = max((head.size for head in good), default=0)
        outcome.keys = tuple(sorted({evidence.signed[head] for head in good}))
        if evidence.pinned and not good:
            outcome.add("not_signed", None, "No checkpoint that the ledger meets is signed by a given public key.")
            return
        since = min(self.signing.values(), default=None)
        beyond = [one.size for one in self.met if one not in evidence.signed and one.size > outcome.signed_size]
        if since is not None and any(size >= since for size in beyond):
            outcome.add(
                "unsigned",
                max(beyond),
                f"The checkpoint of {max(beyond)} events carries no signature, though a key signs since event {since}: "
                f"signatures vouch for the events up to {outcome.signed_size} only.",
            )

    def _lose_other(self, checkpoint: Head) -> None:
        if checkpoint.ledger_id == self.outcome.head.ledger_id:
            return
        own = self.outcome.head.ledger_id
        sentence = f"A checkpoint kept outside belongs to ledger {checkpoint.ledger_id}; this one is {own}."
        self.lost.append((checkpoint, "other_ledger", None, sentence))

    def _check_number(self, seq: int) -> bool:
        """Return whether events are missing before this one."""
        if seq == self.expected:
            return False
        if seq < self.expected:
            self.outcome.add("inserted", seq, f"Event {seq} has a number that the ledger never gives: it starts at 1.")
            return True
        first, last = self.expected, seq - 1
        what = f"Event {first} is" if first == last else f"Events {first} to {last} are"
        self.outcome.add("removed", first, f"{what} missing: the ledger goes on with event {seq}.")
        return True

    def _hash_of(self, event: Row, body: Any, seq: int) -> str | None:
        try:
            return chain_hash(event["prev_hash"], {**event, "seq": seq}, body)
        except (TypeError, ValueError):
            return None

    def _explain_own(self, event: Row, body: Any, fault: str | None) -> None:
        """Tell an event that was moved from one that was changed: the moved one fits its hash under its old number."""
        seq = event["seq"]
        before = self._number_of(event["prev_hash"])
        written_as = None if fault else self._old_number(event, body, before)
        if written_as is None:
            self.shift = 0
            fault = fault or "its content does not match its hash"
            self.outcome.add("changed", seq, f"Event {seq} was changed: {fault}.")
            return
        shift, shift_before = seq - written_as, self.shift
        self.shift = shift
        if shift == shift_before and before == seq - 1:
            return  # moved along with the one before it, which was reported
        moved = f"Event {seq} was written as event {written_as}"
        if before is None:
            self.outcome.add("removed", seq, f"{moved}: what stood before it was removed.")
        elif shift == 1 and shift_before == 0 and before == seq - 2:
            self.outcome.add("inserted", seq - 1, f"{moved}: event {seq - 1} was inserted before it.")
        else:
            self.outcome.add("reordered", seq, f"{moved}: it was moved.")

    def _number_of(self, hash_: str) -> int | None:
        """Return the number that the event of that hash has now, 0 for what the first event follows."""
        if hash_ == self.genesis:
            return 0
        table = tables.event
        return self.connection.scalar(sa.select(table.c.seq).where(table.c.hash == hash_))

    def _old_number(self, event: Row, body: Any, before: int | None) -> int | None:
        """Return the number under which an event fits its hash, among the likely ones."""
        seq = event["seq"]
        likely = [seq - self.shift, seq + 1, seq - 1]
        if before is not None:
            likely.append(before + 1)
        else:
            likely.extend(range(seq + 2, seq + REMOVED_TRIED))
        for number in likely:
            if number != seq and self._hash_of(event, body, number) == event["hash"]:
                return number
        return None

    def _explain_link(self, event: Row) -> None:
        seq = event["seq"]
        if seq == 1:
            sentence = "Event 1 was written for a ledger of another identity: the identity or the event was changed."
        else:
            sentence = (
                f"Event {seq} follows another event than the one that is now event {seq - 1}: that one was replaced."
            )
        self.outcome.add("changed", max(seq - 1, 1), sentence)

    def _check_clock(self, event: Row) -> None:
        moment = event["time"]
        try:
            sound = time_text(read_time(moment)) == moment
        except (TypeError, ValueError):
            sound = False
        if not sound:
            return  # never written so: the hash has told already
        if moment < self.previous_time:
            seq = event["seq"]
            self.outcome.add(
                "clock_back",
                seq,
                f"Event {seq} is dated {moment}, before event {seq - 1} of {self.previous_time}: "
                "the clock of the machine that wrote it was behind.",
            )
        self.previous_time = moment

    def _check_checkpoint(self, event: Row) -> None:
        seq = event["seq"]
        for checkpoint in self.open.pop(seq, ()):
            if checkpoint.ledger_id != self.outcome.head.ledger_id:
                self._lose_other(checkpoint)
            elif checkpoint.hash != event["hash"]:
                sentence = (
                    f"Event {seq} has hash {event['hash'][:SHORT]}, but a checkpoint kept outside says "
                    f"{checkpoint.hash[:SHORT]}: the ledger was written anew at or before it."
                )
                self.lost.append((checkpoint, "rechained", seq, sentence))
            else:
                self._check_root(checkpoint)

    def _check_root(self, checkpoint: Head) -> None:
        root = self.evidence.taken[checkpoint]
        if root is None or self.tree is None or self.tree.root() == root or not self.outcome.ok:
            self.met.append(checkpoint)
            return  # an unsound chain has been reported, and has another root by itself
        sentence = (
            f"The {checkpoint.size} events up to here give the Merkle root {self.tree.root().hex()[:SHORT]}, but a "
            f"checkpoint kept outside says {root.hex()[:SHORT]}: one of the two was changed."
        )
        self.lost.append((checkpoint, "checkpoint_changed", checkpoint.size, sentence))

    def _note(self, event: Row, body: Row) -> None:
        """Note what bears on checkpoints."""
        if event["action"] == "ledger.recovered":
            self._note_recovery(event["seq"], body)
        elif event["action"] == SIGNING_KEY:
            self.signing.setdefault(str(event["digest_after"]), event["seq"])

    def _note_recovery(self, seq: int, body: Row) -> None:
        lost = body.get("lost") or {}
        self.explained.add((str(lost.get("ledger_id")), int(lost.get("size") or 0), str(lost.get("hash"))))
        for other in body.get("also_lost") or ():
            self.explained.add((str(other["ledger_id"]), int(other["size"]), str(other["hash"])))
        self.outcome.add(
            "recovered",
            seq,
            f"Event {seq} records that events were lost for good: a checkpoint of {lost.get('size')} events could not "
            "be met. The event gives the reason.",
        )


def _leaf(hash_: Any) -> bytes:
    try:
        return bytes.fromhex(hash_)
    except (TypeError, ValueError):
        return b""  # never written so: the chain tells


def _read_body(event: Row) -> tuple[Any, str | None]:
    """Return the body and what is wrong with how it is stored, None where nothing is."""
    try:
        body = json.loads(event["body"])
        if canonical_text(body) != event["body"]:
            return body, "its body is not spelled as the ledger spells it"
    except (TypeError, ValueError, RecursionError):
        return None, "its body cannot be read"
    return body, None


# ---- rows that belong to events ------------------------------------------------------------------------------------

_PROJECTIONS = (
    (tables.decision, "decision.recorded", "decision", "decision_id"),
    (tables.dataset_version, "version.frozen", "dataset version", "digest"),
)


_TELLING = frozenset({"ledger.recovered", SIGNING_KEY, *(action for _, action, _, _ in _PROJECTIONS)})
"""Actions of the events that the verifier looks into."""

_COLUMNS = tuple(column.name for column in tables.event.columns)


class _Rows:
    """Follows a table whose every row has its digest in an event, both in the order of the events."""

    def __init__(self, connection: Connection, table: sa.Table, action: str, noun: str, name: str) -> None:
        self.rows = _pages(connection, table, "event_seq")
        self.action = action
        self.noun = noun
        self.name = name
        self.row = next(self.rows, None)

    def follow(self, event: Row, body: Row | None, outcome: Verification) -> None:
        """Check the row of one event, and that no row stands at an event that is not its own."""
        if event["action"] != self.action:
            return
        seq = event["seq"]
        while self.row is not None and self.row["event_seq"] < seq:
            self._report_stray(outcome)
        if self.row is None or self.row["event_seq"] != seq:
            outcome.add("row_removed", seq, f"The {self.noun} that event {seq} records is missing from its table.")
            return
        if body is not None and not self._matches(body):
            name = self.row[self.name]
            outcome.add("row_changed", seq, f"The {self.noun} {name} differs from what event {seq} recorded.")
        self.row = next(self.rows, None)

    def finish(self, outcome: Verification) -> None:
        """Report the rows that no event records."""
        while self.row is not None:
            self._report_stray(outcome)

    def _matches(self, body: Row) -> bool:
        assert self.row is not None
        try:
            return row_digest(self.row) == body.get("row")
        except (TypeError, ValueError):
            return False

    def _report_stray(self, outcome: Verification) -> None:
        assert self.row is not None
        seq = self.row["event_seq"]
        outcome.add(
            "row_inserted",
            seq,
            f"No event records the {self.noun} {self.row[self.name]}: the row was put there by hand.",
        )
        self.row = next(self.rows, None)


def _event_pages(connection: Connection) -> Iterator[list[tuple[Any, ...]]]:
    """Stream the events as the driver gives them, without a lower bound that a forged number could hide under."""
    names = ", ".join(f'"{name}"' for name in _COLUMNS)
    after = ""
    while True:
        query = f"SELECT {names} FROM event {after} ORDER BY seq LIMIT {PAGE}"  # noqa: S608 - names and numbers
        page = _fetched(connection.exec_driver_sql(query))
        if not page:
            return
        yield page
        after = f"WHERE seq > {int(page[-1][0])}"


def _fetched(result: sa.CursorResult[Any]) -> list[Any]:
    """Return the rows as the driver made them: wrapping each one would cost as much as checking it."""
    return list(result.cursor.fetchall()) if result.cursor is not None else []


def _pages(connection: Connection, table: sa.Table, order: str) -> Iterator[Row]:
    """Stream a table's rows by a unique column, without a lower bound that a forged number could hide under."""
    column = table.c[order]
    query = sa.select(table).order_by(column).limit(PAGE)
    page = connection.execute(query).mappings().all()
    while page:
        yield from page
        page = connection.execute(query.where(column > page[-1][order])).mappings().all()


def _check_guards(dialect: str, connection: Connection, outcome: Verification) -> None:
    if dialect == "sqlite":
        query = sa.text("SELECT name FROM sqlite_master WHERE type = 'trigger'")
    else:
        query = sa.text(
            "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled = 'A' "
            "AND tgrelid IN (SELECT to_regclass(one) FROM unnest(CAST(:tables AS text[])) AS one)"
        ).bindparams(tables=[*tables.APPEND_ONLY, *tables.KEPT])
    found = set(connection.scalars(query))
    missing = [name for name in tables.GUARDS[dialect] if name not in found]
    if missing:
        outcome.add(
            "unguarded",
            None,
            f"The database no longer refuses changes: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} gone "
            "or switched off.",
        )
