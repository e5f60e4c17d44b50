"""What a step works with: store, ledger, register, the task it runs in, its effects, and a log written for auditors."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from include.base.canonical import SHORT, canonical_json, digest_of, effect_key
from include.base.disk import writing_to
from include.base.errors import LabelopsError, Refused
from include.base.store import Store, StorePath, atomic_file
from include.governance.effects import Claim, Done, claim, find_done
from include.governance.ledger import Ledger, Transaction
from include.governance.records import SERVICE, Decision, Event, NewEvent, VersionRecord
from include.people.register import Register
from include.projects.model import Project

if TYPE_CHECKING:
    from include.base.signing import Signer

__all__ = ["Effect", "ItemResult", "NothingToDo", "Run", "RunRef", "WorkItem", "event_key", "short", "staged_digest"]


class NothingToDo(LabelopsError):
    """A step found nothing to do for its item; the message says why. The item is skipped, which is no failure."""


def short(digest: str) -> str:
    """Return as much of a digest as people read and repeat."""
    return digest[:SHORT]


def staged_digest(rows: Iterable[Any]) -> str:
    """Return the SHA-256 of the file that :meth:`Run.stage` makes of rows."""
    state = hashlib.sha256()
    for line in _lines(rows):
        state.update(line)
    return state.hexdigest()


def _lines(rows: Iterable[Any]) -> Iterator[bytes]:
    for row in rows:
        yield canonical_json(row) + b"\n"


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
    def task(self) -> str:
        """Return the task instance without its try, as claims name it."""
        return f"{self.dag_id}/{self.run_id}/{self.task_id}/{self.map_index}"

    @property
    def text(self) -> str:
        """Return the reference that the ledger keeps."""
        return f"{self.task}/{self.try_number}"


@dataclass
class ItemResult:
    """What became of one item: counts of outside effects, and one sentence for people.

    :param name: what people read instead of the subject.
    :param state: the stated result, such as ``published``, ``waiting``, ``approved``, ``refused``.
    :param changed: whether consumers downstream have something new to look at.
    :param where: where a person can see it.
    """

    project: str
    subject: str
    name: str
    state: str
    sentence: str
    created: int = 0
    updated: int = 0
    changed: bool = False
    where: str = ""
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class WorkItem:
    """One thing to do: a project, a subject, and what the lister knows about it.

    :param subject: ``kind:name``, as on the ledger.
    :param name: what people read, as *version 3* or *batch of 21 Nov, 15 tasks*.
    :param error: makes the item fail alone, with this reason.
    """

    project: str
    subject: str
    name: str
    detail: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the item as it travels between tasks."""
        return {**asdict(self), "detail": dict(self.detail)}

    def result(self, state: str, sentence: str, **parts: Any) -> ItemResult:
        """Return what became of the item.

        :param parts: the other fields of :class:`ItemResult`; ``subject`` and ``name`` where they changed on the way.
        """
        named = {"project": self.project, "subject": self.subject, "name": self.name}
        return ItemResult(**{**named, "state": state, "sentence": sentence, **parts})


@dataclass
class Run:
    """Everything a step needs but the outside systems.

    :param staging: this try's own folder, made when it is first needed; nothing else writes there.
    :param locate: turns the text of a path, as it travels between tasks, into the path.
    :param signer: the installation's key, None where it has none.
    :param now: the clock, in UTC.
    """

    store: Store
    ledger: Ledger
    register: Register
    ref: RunRef
    staging: StorePath
    locate: Callable[[str], StorePath]
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

    # --- effects ---------------------------------------------------------------------------------------------------

    @contextmanager
    def effect(self, use_case: str, project: str, subject: str, digest: str, attempt: int = 1) -> Iterator[Effect]:
        """Make one outside effect of this try: see :class:`Effect`.

        :raises Fenced: when a newer try has taken over.
        """
        effect = Effect(self, use_case, project, subject, digest, attempt)
        yield effect
        effect.must_be_finished()

    # --- staging and objects -----------------------------------------------------------------------------------------

    def staged(self, name: str) -> StorePath:
        """Return where to stage a file of this try. The folder is made only now: a quiet run leaves none."""
        with writing_to(self.staging):
            self.staging.mkdir(parents=True, exist_ok=True)
        return self.staging / name

    def stage(self, name: str, rows: Iterable[Any]) -> str:
        """Stage rows as a file of JSON Lines, canonical, and return its path as text; see :func:`staged_digest`."""
        place = self.staged(name)
        with atomic_file(place) as out:
            out.writelines(_lines(rows))
        return str(place)

    def keep(self, value: object) -> str:
        """Keep a value in the store, in its canonical form, and return the digest that names it."""
        return self.store.put_object(canonical_json(value))

    # --- the ledger --------------------------------------------------------------------------------------------------

    def last(self, subject: str, *actions: str) -> Event | None:
        """Return the newest event about a subject with one of these actions."""
        found = None
        for event in self.ledger.events(subject=subject, actions=actions):
            found = event
        return found

    def version(self, project: Project, digest: str) -> VersionRecord:
        """Return a version of a project.

        :raises Refused: when the ledger does not know it.
        """
        version = self.ledger.version(digest)
        if version is None or version.project != project.name:
            raise Refused(f"the ledger knows no version {short(digest)} of {project.name}")
        return version

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

    def decide(self, decisions: Iterable[Decision], event: NewEvent, key: object) -> tuple[int, bool]:
        """Put decisions and their outcome on the ledger, all or nothing: neither is ever there without the other.

        :param key: what makes the event one and the same among those of its action and subject.
        :return: how many decisions were new, and whether the event was.
        """
        with self.ledger.transaction() as transaction:
            fresh = sum(transaction.record_decision(one) for one in decisions)
            _, new = transaction.append(event, key=event_key(event.action, event.project, event.subject, key))
        return fresh, new

    def note(self, action: str, project: str, subject: str, *, key: object = None, **parts: Any) -> bool:
        """Put an event on the ledger; with a ``key``, once only. Return whether it was new.

        :param parts: as of :meth:`event`.
        """
        named = None if key is None else event_key(action, project, subject, key)
        _, created = self.ledger.append(self.event(action, project, subject, **parts), key=named)
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

    # --- people ------------------------------------------------------------------------------------------------------

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


class Effect:
    """Used as ``with run.effect(…) as effect``.

    Look at :attr:`done`, :meth:`check` before each write, then :meth:`finish`, or :meth:`leave` what is there already.

    It is claimed by :meth:`begin`, or by the first :meth:`check`, so that a run with nothing to do claims nothing. From
    then on an older try that is still running is refused. A block that began it and did neither is a programming error.

    :ivar key: names the effect among all there ever were.
    """

    def __init__(self, run: Run, use_case: str, project: str, subject: str, digest: str, attempt: int) -> None:
        self.run, self.use_case, self.project, self.subject = run, use_case, project, subject
        self.key = effect_key(use_case, project, subject, digest, attempt)
        self._finished = False

    @property
    def done(self) -> Done | None:
        """Return how it was completed before, None where it never was. Nothing is claimed by asking."""
        return find_done(self.run.ledger, self.key)

    @cached_property
    def claim(self) -> Claim:
        """Return this try's right to make it."""
        return claim(
            self.run.ledger,
            self.key,
            use_case=self.use_case,
            project=self.project,
            subject=self.subject,
            run=self.run.ref.task,
            try_number=self.run.ref.try_number,
        )

    @property
    def interrupted(self) -> bool:
        """Tell whether an earlier try began it and never finished: the outside thing may be there already."""
        return self.claim.interrupted

    def begin(self) -> None:
        """Claim it now, before what it depends on is read.

        :raises Fenced: when a newer try has taken over.
        """
        _ = self.claim

    def check(self) -> None:
        """Call before each outside write.

        :raises Fenced: when a newer try has taken over.
        """
        self.claim.check()

    def finish(
        self,
        action: str,
        key: object,
        reference: str,
        *,
        created: int = 0,
        updated: int = 0,
        detail: str = "",
        states: Mapping[str, Mapping[str, Any]] | None = None,
        **event: Any,
    ) -> bool:
        """Put the effect, its event and what the sync has seen on the ledger, all or nothing.

        Killed before, the next run finds the effect in the world and comes here again; killed after, nothing is open.

        :param key: what makes the event one and the same among those of its action and subject.
        :param reference: where the effect is: a page id, a process id, a path.
        :param states: sync states by scope.
        :param event: the event's other parts, as of :meth:`Run.event`.
        :return: whether the event was new.
        :raises Fenced: when a newer try has taken over.
        """
        with self.run.ledger.transaction() as transaction:
            self.claim.check_in(transaction)
            happened = self.run.event(action, self.project, self.subject, **event)
            _, new = transaction.append(happened, key=event_key(action, self.project, self.subject, key))
            for scope, value in (states or {}).items():
                transaction.save_sync_state(scope, value)
            self.finish_in(transaction, reference, created=created, updated=updated, detail=detail)
        return new

    def finish_in(
        self, transaction: Transaction, reference: str, *, created: int = 0, updated: int = 0, detail: str = ""
    ) -> None:
        """Put the effect on the ledger together with what else the transaction holds.

        :raises Fenced: when a newer try has taken over.
        """
        self.claim.done_in(transaction, reference, created=created, updated=updated, detail=detail)
        self._finished = True

    def leave(self) -> None:
        """Say that it was there already: what was found is what it would have made."""
        self._finished = True

    def must_be_finished(self) -> None:
        """Refuse to leave behind an effect that was claimed and not finished."""
        if "claim" in vars(self) and not self._finished:
            raise AssertionError(f"{self.use_case} on {self.subject}: the effect was begun and not finished")
