"""What a step works with: store, ledger, register, the run it belongs to, and a log written for auditors."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from include.base.canonical import SHORT, digest_of, effect_key
from include.base.errors import Refused
from include.base.store import Store, StorePath
from include.governance.effects import Claim, Done, claim
from include.governance.ledger import Ledger
from include.governance.records import SERVICE, Decision, NewEvent
from include.people.register import Register

if TYPE_CHECKING:
    from include.base.signing import Signer

__all__ = ["ItemResult", "Run", "RunRef", "WorkItem", "event_key", "short"]


def short(digest: str) -> str:
    """Return as much of a digest as people read and repeat."""
    return digest[:SHORT]


def event_key(action: str, project: str, subject: str, key: object) -> str:
    """Return the name under which an event is on the ledger once."""
    return digest_of([action, project, subject, key])


@dataclass(frozen=True)
class RunRef:
    """The task instance a step runs in. ``triggered_by`` is the Airflow user who started the run, if a person did."""

    dag_id: str
    run_id: str
    task_id: str = ""
    map_index: int = -1
    try_number: int = 1
    triggered_by: str | None = None

    @property
    def text(self) -> str:
        """Return the reference that the ledger keeps."""
        return f"{self.dag_id}/{self.run_id}/{self.task_id}/{self.map_index}/{self.try_number}"


@dataclass(frozen=True)
class WorkItem:
    """One thing to do: a project, a subject, and what the lister knows about it. ``error`` makes it fail alone."""

    project: str
    subject: str
    detail: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the item as it travels between tasks."""
        return {"project": self.project, "subject": self.subject, "detail": dict(self.detail), "error": self.error}


@dataclass
class ItemResult:
    """What one item came to: counts of outside effects, and one sentence for people.

    :param state: the stated result, such as ``published``, ``waiting``, ``approved``, ``refused``.
    :param changed: whether consumers downstream have something new to look at.
    :param where: where a person can see it.
    """

    project: str
    subject: str
    state: str
    sentence: str
    created: int = 0
    updated: int = 0
    changed: bool = False
    where: str = ""
    detail: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the result as it travels between tasks."""
        return dict(vars(self))


@dataclass
class Run:
    """Everything a step needs but the outside systems.

    :param staging: this try's own folder, made when it is first needed; nothing else writes there.
    :param signer: the installation's key, None where it has none.
    :param now: the clock, in UTC.
    """

    store: Store
    ledger: Ledger
    register: Register
    ref: RunRef
    staging: StorePath
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("labelops"))
    signer: Signer | None = None
    now: Callable[[], datetime] = field(default_factory=lambda: lambda: datetime.now(UTC))

    @contextmanager
    def open(self) -> Iterator[Run]:
        """Close the ledger's connections at the end, however it ends."""
        try:
            yield self
        finally:
            self.ledger.close()

    def claim(self, use_case: str, project: str, subject: str, digest: str, attempt: int = 1) -> Claim:
        """Claim one effect for this try; an older try that is still running is refused from now on."""
        return claim(
            self.ledger,
            effect_key(use_case, project, subject, digest, attempt),
            use_case=use_case,
            project=project,
            subject=subject,
            run=f"{self.ref.dag_id}/{self.ref.run_id}/{self.ref.task_id}/{self.ref.map_index}",
            try_number=self.ref.try_number,
        )

    def done(self, use_case: str, project: str, subject: str, digest: str, attempt: int = 1) -> Done | None:
        """Return how an effect was completed; asked first, so that a run with nothing to do claims nothing."""
        return self.ledger.done(effect_key(use_case, project, subject, digest, attempt))

    def staged(self, name: str) -> StorePath:
        """Return where to stage a file of this try. The folder is made only now: a quiet run leaves none."""
        self.staging.mkdir(parents=True, exist_ok=True)
        return self.staging / name

    def event(
        self,
        action: str,
        project: str,
        subject: str,
        *,
        actor: str = SERVICE,
        before: str | None = None,
        after: str | None = None,
        reason: str = "",
        body: Mapping[str, Any] | None = None,
    ) -> NewEvent:
        """Return an event of this run, for a transaction that holds more than this event."""
        return NewEvent(
            actor=actor,
            action=action,
            project=project,
            subject=subject,
            digest_before=before,
            digest_after=after,
            reason=reason,
            run=self.ref.text,
            body=dict(body or {}),
        )

    def finish(
        self,
        effect: Claim,
        event: NewEvent,
        key: object,
        reference: str,
        *,
        created: int = 0,
        updated: int = 0,
        detail: str = "",
        states: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> bool:
        """Put an effect, its event and what the sync has seen on the ledger, all or nothing.

        Killed before, the next run finds the effect in the world and comes here again; killed after, nothing is open.

        :param key: what makes the event one and the same among those of its action and subject.
        :param states: sync states by scope.
        :return: whether the event was new.
        :raises Fenced: when a newer try has taken over.
        """
        with self.ledger.transaction() as transaction:
            transaction.check(effect)
            _, new = transaction.append(event, key=event_key(event.action, event.project, event.subject, key))
            for scope, value in (states or {}).items():
                transaction.save_sync_state(scope, value)
            effect.done_in(transaction, reference, created=created, updated=updated, detail=detail)
        return new

    def decide(self, decisions: Iterable[Decision], event: NewEvent, key: object) -> tuple[int, bool]:
        """Put decisions and what they come to on the ledger, all or nothing: neither is ever there without the other.

        :param key: what makes the event one and the same among those of its action and subject.
        :return: how many decisions were new, and whether the event was.
        """
        with self.ledger.transaction() as transaction:
            fresh = sum(transaction.record_decision(one) for one in decisions)
            _, new = transaction.append(event, key=event_key(event.action, event.project, event.subject, key))
        return fresh, new

    def note(
        self,
        action: str,
        project: str,
        subject: str,
        *,
        key: object = None,
        actor: str = SERVICE,
        before: str | None = None,
        after: str | None = None,
        reason: str = "",
        body: Mapping[str, Any] | None = None,
    ) -> bool:
        """Put an event on the ledger; with a ``key``, once only. Return whether it was new."""
        event = self.event(action, project, subject, actor=actor, before=before, after=after, reason=reason, body=body)
        named = None if key is None else event_key(action, project, subject, key)
        _, created = self.ledger.append(event, key=named)
        return created

    def finding(self, project: str, subject: str, kind: str, detail: str, **body: Any) -> bool:
        """Record something a person must look at, once for each distinct finding."""
        self.log.warning("Finding (%s) on %s of %s: %s", kind, subject, project, detail)
        if self.ledger.find(event_key("finding", project, subject, [kind, detail])) is not None:
            return False  # on most nights nothing is new, and nobody has to wait for the right to write
        return self.note("finding", project, subject, key=[kind, detail], reason=detail, body={"kind": kind, **body})

    def findings(self, project: str, subject: str, found: Iterable[tuple[str, str]]) -> int:
        """Record several findings of ``(kind, detail)``; return how many were new."""
        return sum(self.finding(project, subject, kind, detail) for kind, detail in found)

    def note_in_force(self, kind: str, project: str, digest: str) -> bool:
        """Put on the ledger under which register or policy work goes on, each time that it changed.

        :param kind: ``register`` or ``policy``.
        """
        subject = f"{kind}:{project}" if project else kind
        before = None
        for event in self.ledger.events(subject=subject, actions=[f"{kind}.in_force"]):
            before = event
        if before is not None and before.digest_after == digest:
            return False
        self.log.info("The %s in force%s is now %s.", kind, f" for {project}" if project else "", short(digest))
        return self.note(
            f"{kind}.in_force",
            project,
            subject,
            key=[before.seq if before else 0, digest],
            before=before.digest_after if before else None,
            after=digest,
        )

    def requester(self) -> str | None:
        """Return the person who triggered the run, None when the scheduler did.

        :raises Refused: when the Airflow account is nobody in the register, for a step that needs a person.
        """
        account = self.ref.triggered_by
        if not account or self.register.is_service("airflow", account):
            return None
        person = self.register.resolve("airflow", account, self.now())
        if person is None:
            raise Refused(f"the Airflow account {account!r} belongs to no person in the register")
        return person.id
