"""What all answers are made with: where to look, which version is meant, and what an answer rests on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from include.base.canonical import SHORT
from include.base.errors import InvalidInput
from include.base.store import Store
from include.datasets import freeze as freezing
from include.datasets.withdrawals import TOMBSTONE, withdrawal
from include.governance import tables
from include.governance.ledger import Ledger
from include.governance.records import Decision, Event, VersionRecord, time_text

__all__ = [
    "Basis",
    "DecisionFacts",
    "Records",
    "Sight",
    "UseFacts",
    "VersionRef",
    "as_json",
    "batches_of",
    "decision_facts",
    "find_version",
    "project_names",
    "rows_gone",
    "use_facts",
    "version_ref",
]


@dataclass(frozen=True)
class Records:
    """Where an answer is looked up. Nothing is written to either."""

    ledger: Ledger
    store: Store


@dataclass(frozen=True)
class Basis:
    """What an answer rests on.

    :param events: numbers of events of the ledger, in order.
    :param files: paths below the store's root.
    """

    events: tuple[int, ...]
    files: tuple[str, ...]


@dataclass
class Sight:
    """Collects what an answer rests on while it is made."""

    events: set[int] = field(default_factory=set)
    files: dict[str, None] = field(default_factory=dict)

    def event(self, event: Event) -> int:
        """Note an event and return its number."""
        self.events.add(event.seq)
        return event.seq

    def file(self, *parts: str) -> str:
        """Note a file and return its path below the store's root."""
        path = "/".join(parts)
        self.files[path] = None
        return path

    def basis(self) -> Basis:
        """Return what was noted."""
        return Basis(tuple(sorted(self.events)), tuple(self.files))


@dataclass(frozen=True)
class VersionRef:
    """A dataset version as people name it.

    :param frozen_at: UTC.
    """

    project: str
    number: int
    digest: str
    rows: int
    frozen_at: datetime | None

    def __str__(self) -> str:
        """Return the version in words."""
        return f"version {self.number} ({self.digest[:SHORT]}) of {self.project}"


@dataclass(frozen=True)
class DecisionFacts:
    """One decision, as 21 CFR 11.50 asks a signature to be shown: who, when, with which meaning.

    :param event: number of its event.
    :param decided_at: when the system in which it was made says it happened; None where that does not say.
    :param recorded_at: when it came on the ledger, by our clock.
    :param signature: recorded, authenticated or signed.
    :param statement: the sentence that the decision stands for.
    :param statement_version: its wording as the person saw it, None where it is not known to have been shown.
    :param evidence: the object of the store that holds the raw reply, "" where none was kept.
    """

    event: int
    version: str
    person: str | None
    account: str
    role: str
    outcome: str
    meaning: str
    counts: bool
    void_reason: str
    decided_at: datetime | None
    recorded_at: datetime
    grade: str
    signature: str
    statement: str
    statement_version: int | None
    system: str
    process_id: str
    task_id: str
    attempt: int
    evidence: str

    @property
    def who(self) -> str:
        """Return the person, or the account where nobody is known behind it."""
        return self.person or f"{self.system} account {self.account}"


@dataclass(frozen=True)
class UseFacts:
    """That a model used a version, as its training reported it.

    :param released_before: whether the version was released, and not recalled, when the use was reported.
    """

    event: int
    version: VersionRef
    model: str
    model_version: str
    location: str
    training_run: str
    person: str
    reported_at: datetime
    reason: str
    released_before: bool


def find_version(records: Records, name: str, project: str | None = None) -> VersionRecord:
    """Return the version called ``name``: its digest, at least six characters of it, or its number with a project.

    :raises InvalidInput: when nothing, or more than one version, is called so.
    """
    name = name.removeprefix("version:")
    table = tables.dataset_version
    query = sa.select(table.c.digest)
    if project is not None:
        query = query.where(table.c.project == project)
    if name.isdigit() and len(name) < 6:
        if project is None:
            raise InvalidInput(f"version: found {name!r}, a number; say of which project, or give the digest")
        query = query.where(table.c.number == int(name))
    elif len(name) >= 6 and set(name) <= set("0123456789abcdef"):
        query = query.where(table.c.digest.startswith(name))
    else:
        raise InvalidInput(f"version: found {name!r}; allowed: six or more characters of a digest, or a number")
    with records.ledger.reading() as connection:
        found = list(connection.scalars(query.limit(2)))
    if len(found) != 1:
        of = f" of {project}" if project else ""
        raise InvalidInput(f"version: {name!r} names {'no version' if not found else 'several versions'}{of}")
    version = records.ledger.version(found[0])
    if version is None:
        raise AssertionError("a version's row is never removed")
    return version


def rows_gone(records: Records, version: VersionRecord, sight: Sight) -> str:
    """Return why a version's rows are not in the store, in a sentence; "" where they are.

    They may be removed in a person's name, which leaves a record. Without one they are lost, and the sentence says so.
    """
    place = ("versions", version.project, version.digest)
    removal = withdrawal(records.store, version.project, version.digest)
    if removal is not None:
        sight.file(*place, TOMBSTONE)
        return removal.sentence
    folder = freezing.version_path(records.store, version.project, version.digest)
    lost = [name for name in ("rows.jsonl", "losing.jsonl") if not (folder / name).exists()]
    return f"{', '.join(lost)} of {version_ref(version)} LOST: no removal is on record" if lost else ""


def project_names(records: Records, project: str | None = None) -> list[str]:
    """Return the project asked about, or every project that the ledger has an event of, by name."""
    if project is not None:
        return [project]
    table = tables.event
    with records.ledger.reading() as connection:
        return list(
            connection.scalars(sa.select(table.c.project).where(table.c.project != "").distinct().order_by("project"))
        )


def version_ref(version: VersionRecord) -> VersionRef:
    """Return a version as answers name it."""
    return VersionRef(version.project, version.number or 0, version.digest, version.row_count, version.frozen_at)


def decision_facts(
    decisions: Iterable[Decision],
    events: Iterable[Event],
    sight: Sight,
    keep: Callable[[DecisionFacts], bool] = lambda _: True,
) -> list[DecisionFacts]:
    """Join decisions with their ``decision.recorded`` events, in the order in which they were recorded.

    :param keep: tells which of them the answer is about; the others are not noted either.
    """
    known = {one.decision_id: one for one in decisions}
    found = []
    for event in events:
        one = known.get(event.body.get("decision_id", "")) if event.action == "decision.recorded" else None
        if one is None:
            continue
        facts = DecisionFacts(
            event=event.seq,
            version=one.digest,
            person=one.person,
            account=one.account,
            role=one.role,
            outcome=one.outcome,
            meaning=one.meaning,
            counts=one.counts,
            void_reason=one.void_reason,
            decided_at=one.decided_at,
            recorded_at=event.time,
            grade=one.grade,
            signature=one.signature,
            statement=one.statement,
            statement_version=one.statement_version,
            system=one.system,
            process_id=one.process_id,
            task_id=one.task_id,
            attempt=one.attempt,
            evidence=one.raw_digest,
        )
        if not keep(facts):
            continue
        sight.event(event)
        if one.raw_digest:
            sight.file("objects", one.raw_digest[:2], one.raw_digest)
        found.append(facts)
    return found


def use_facts(event: Event, version: VersionRef, *, released_before: bool) -> UseFacts:
    """Return what a ``model.used`` event says."""
    body = event.body
    return UseFacts(
        event=event.seq,
        version=version,
        model=body["model"],
        model_version=body["model_version"],
        location=body["location"],
        training_run=body["training_run"],
        person=event.actor,
        reported_at=event.time,
        reason=event.reason,
        released_before=released_before,
    )


def as_json(answer: Any) -> dict[str, Any]:
    """Return an answer as JSON: fields by their names, times as the ledger spells them."""
    made = _plain(asdict(answer))
    if not isinstance(made, dict):
        raise AssertionError("an answer is a dataclass")
    return made


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return time_text(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(one) for one in value]
    return value


def batches_of(records: Records, project: str, task_id: str) -> Iterator[Event]:
    """Yield the ``batch.assigned`` events whose batch holds a task. A batch is the object that its digest names."""
    needle = task_id.encode("ascii")
    for event in records.ledger.events(project=project, actions=["batch.assigned"]):
        if needle in records.store.get_object(event.digest_after or ""):
            yield event
