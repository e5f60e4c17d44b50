"""What a step works with: store, ledger, register, the run it belongs to, and a log written for auditors."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from include.base.canonical import SHORT, digest_of, effect_key
from include.base.errors import Refused
from include.base.store import Store, StorePath
from include.governance.effects import Claim, claim
from include.governance.ledger import Ledger
from include.governance.records import NewEvent
from include.governance.register import Register

__all__ = ["SERVICE", "Desk", "ItemResult", "RunRef", "WorkItem", "short"]

SERVICE = "labelops"
"""The actor of everything that no person did."""


def short(digest: str) -> str:
    """Return as much of a digest as people read and repeat."""
    return digest[:SHORT]


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
class Desk:
    """Everything a step needs but the outside systems.

    :param staging: this try's own folder; nothing else writes there.
    :param now: the clock, in UTC.
    """

    store: Store
    ledger: Ledger
    register: Register
    run: RunRef
    staging: StorePath
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("labelops"))
    now: Callable[[], datetime] = field(default_factory=lambda: lambda: datetime.now(UTC))

    def claim(self, use_case: str, project: str, subject: str, digest: str, attempt: int = 1) -> Claim:
        """Claim one effect for this try; an older try that is still running is refused from now on."""
        return claim(
            self.ledger,
            effect_key(use_case, project, subject, digest, attempt),
            use_case=use_case,
            project=project,
            subject=subject,
            run=f"{self.run.dag_id}/{self.run.run_id}/{self.run.task_id}/{self.run.map_index}",
            try_number=self.run.try_number,
        )

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
        _, created = self.ledger.append(
            NewEvent(
                actor=actor,
                action=action,
                project=project,
                subject=subject,
                digest_before=before,
                digest_after=after,
                reason=reason,
                run=self.run.text,
                body=dict(body or {}),
            ),
            key=None if key is None else digest_of([action, project, subject, key]),
        )
        return created

    def finding(self, project: str, subject: str, kind: str, detail: str, **body: Any) -> bool:
        """Record something a person must look at, once for each distinct finding."""
        self.log.warning("Finding (%s) on %s of %s: %s", kind, subject, project, detail)
        return self.note("finding", project, subject, key=[kind, detail], reason=detail, body={"kind": kind, **body})

    def findings(self, project: str, subject: str, found: Iterable[tuple[str, str]]) -> int:
        """Record several findings of ``(kind, detail)``; return how many were new."""
        return sum(self.finding(project, subject, kind, detail) for kind, detail in found)

    def requester(self) -> str | None:
        """Return the person who triggered the run, None when the scheduler did.

        :raises Refused: when the Airflow account is nobody in the register, for a step that needs a person.
        """
        account = self.run.triggered_by
        if not account or self.register.is_service("airflow", account):
            return None
        person = self.register.resolve("airflow", account, self.now())
        if person is None:
            raise Refused(f"the Airflow account {account!r} belongs to no person in the register")
        return person.id
