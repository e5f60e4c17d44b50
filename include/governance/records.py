"""What the ledger keeps: events, decisions, dataset versions, where records came from, and the head of the chain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from include.base.errors import InvalidInput

__all__ = [
    "GRADES",
    "OUTCOMES",
    "SERVICE",
    "SIGNATURES",
    "Decision",
    "Event",
    "Grade",
    "Head",
    "NewEvent",
    "Outcome",
    "Signature",
    "SourceRecord",
    "VersionRecord",
    "lower_signature",
    "read_time",
    "signed_enough",
    "time_text",
]

SERVICE = "labelops"
"""The actor of everything that no person did."""

Outcome = Literal["approve", "reject", "rework", "undecided", "expired", "cancelled", "resubmit", "close", "withdraw"]
Grade = Literal["attested", "asserted"]
Signature = Literal["recorded", "authenticated", "signed"]

OUTCOMES: frozenset[str] = frozenset(Outcome.__args__)  # type: ignore[attr-defined]
GRADES: frozenset[str] = frozenset(Grade.__args__)  # type: ignore[attr-defined]
SIGNATURES: frozenset[str] = frozenset(Signature.__args__)  # type: ignore[attr-defined]


_LEVELS: tuple[Signature, ...] = ("recorded", "authenticated", "signed")


def signed_enough(level: str, demanded: str) -> bool:
    """Tell whether a signature level is at least the one demanded. What is no level is below every other."""
    levels = list(map(str, _LEVELS))
    return (levels.index(level) if level in levels else -1) >= levels.index(demanded)


def lower_signature(one: Signature, other: Signature) -> Signature:
    """Return the lower of two signature levels: what a system allows caps what is claimed."""
    return min(one, other, key=_LEVELS.index)


@dataclass(frozen=True, slots=True)
class NewEvent:
    """Something that happened, before it has a place in the ledger.

    :param actor: who did it: a person's id of the register, ``system:account``, or a DAG.
    :param action: what was done, ``noun.verb``: ``guideline.published``, ``decision.recorded``, …
    :param project: the labelling project, or "" for what concerns the whole installation.
    :param subject: what it was done to: ``version:<digest>``, ``batch:<digest>``, ``guideline:<project>``, …
    :param digest_before: SHA-256 of the subject's content before, None where there was none.
    :param digest_after: SHA-256 of the subject's content after, None where there is none.
    :param reason: why, in words. Mandatory by the caller's rule where something is changed or rejected.
    :param run: the run that did it. Not compared when an event is appended again under its key.
    :param body: further facts as JSON without floats: identifiers, counts and digests, never label content.
    """

    actor: str
    action: str
    project: str
    subject: str
    digest_before: str | None = None
    digest_after: str | None = None
    reason: str = ""
    run: str = ""
    body: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    """An event with its place in the chain.

    :param seq: its number, from 1 without gaps.
    :param time: the writer's clock when it was appended, UTC to the microsecond.
    :param key: the name under which appending it again writes nothing, or None.
    :param prev_hash: the hash of the event before it; for the first, the digest of the ledger's identity.
    :param hash: SHA-256 over the bytes of ``prev_hash`` and the canonical JSON of all other fields.
    """

    seq: int
    time: datetime
    key: str | None
    actor: str
    action: str
    project: str
    subject: str
    digest_before: str | None
    digest_after: str | None
    reason: str
    run: str
    body: Mapping[str, Any]
    prev_hash: str
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRecord:
    """A frozen dataset version.

    :param digest: SHA-256 that names the version.
    :param rows_digest: SHA-256 of its rows alone.
    :param batch: digest of the batch it was frozen from, "" where it has none.
    :param policy_digest: the policy that was pinned when it was frozen.
    :param path: where it is, below the store's root.
    :param row_count: number of rows it holds.
    :param attempt: 1, and one more for each recorded decision to resubmit.
    :param requested_by: the person who asked for it, who therefore cannot approve it.
    :param run: the run that froze it.
    :param number: its number in the project, from 1. None until the ledger has given it one.
    :param frozen_at: UTC. None until the ledger has recorded it, unless the caller knows it.
    """

    project: str
    digest: str
    rows_digest: str
    batch: str
    policy_digest: str
    path: str
    row_count: int
    attempt: int = 1
    requested_by: str = ""
    run: str = ""
    number: int | None = None
    frozen_at: datetime | None = None

    @property
    def name(self) -> str:
        """Return what people call it."""
        return f"version {self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Who decided what, when and with which meaning, on exactly which digest.

    :param decision_id: the name under which the decision is recorded once; derived from its source.
    :param subject: what was decided on, ``version:<digest>`` and the like.
    :param digest: the digest that the person saw.
    :param attempt: which presentation of the subject it answers.
    :param role: the role of the policy that the person acted in.
    :param counts: whether it satisfies the policy; if not, ``void_reason`` says why.
    :param person: the person's id of the register, None where the account maps to nobody.
    :param account: the account in ``system`` that decided.
    :param decided_at: when the system says it happened; None where the system does not say.
    :param meaning: what the signature stands for: review, approval, responsibility, authorship.
    :param grade: ``attested`` where the service account could not have made it, else ``asserted``.
    :param statement: the words the person was shown or wrote, as far as the project lets them out.
    :param raw_digest: the object of the store that holds the raw reply.
    :param process_id: the process, page or run in which it was made.
    :param task_id: the task in it.
    :param signature: its level, never higher than the system that made it allows: ``recorded`` (that system recorded
        it), ``authenticated`` (that system authenticated the person for the act, in a way the service account cannot
        imitate), ``signed`` (an electronic signature of that system: the person proved anew who they are).
    :param statement_version: which version of the statement the person saw, None where the statement has none.
    """

    decision_id: str
    project: str
    subject: str
    digest: str
    attempt: int
    role: str
    outcome: Outcome
    counts: bool
    void_reason: str
    person: str | None
    account: str
    system: str
    decided_at: datetime | None
    meaning: str
    grade: Grade
    statement: str = ""
    raw_digest: str = ""
    process_id: str = ""
    task_id: str = ""
    signature: Signature = "recorded"
    statement_version: int | None = None


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """Where a task came from.

    :param task_id: the task's SHA-256.
    :param source: name of the file, table or feed.
    :param record: which record of it: a line, a key, a row number.
    :param sha256: digest of the record's bytes.
    """

    task_id: str
    source: str
    record: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Head:
    """How far a ledger has come; written outside the database it is a checkpoint.

    :param ledger_id: the ledger's own name, drawn once.
    :param epoch: 1, and one more for each recorded recovery from a loss.
    :param size: number of events.
    :param hash: the last event's hash; the digest of the ledger's identity where it is empty.
    :param time: the last event's time as the ledger spells it, "" where it is empty.
    """

    ledger_id: str
    epoch: int
    size: int
    hash: str
    time: str = ""


def time_text(moment: datetime) -> str:
    """Return a moment as the ledger spells it: ``2026-01-31T09:00:00.000000Z``, always 27 characters.

    :raises InvalidInput: when it has no zone.
    """
    if moment.tzinfo is None:
        raise InvalidInput(f"the time {moment.isoformat()} has no zone: the ledger keeps UTC only")
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def read_time(text: str) -> datetime:
    """Return the moment behind :func:`time_text`'s spelling."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
