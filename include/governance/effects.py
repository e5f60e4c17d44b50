"""Claims on outside effects: who may write now, and what was written before.

A task whose supervisor died can go on writing after its retry has begun. So every effect is claimed first: the ledger
gives out a fencing token, higher with each claim on the same subject, and whoever holds an older one is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from include.base.canonical import digest_of
from include.base.errors import Fenced, InvalidInput
from include.governance import tables
from include.governance.ledger import Ledger, Transaction
from include.governance.records import SERVICE, NewEvent, read_time, time_text

__all__ = ["Claim", "Done", "claim", "find_done"]


@dataclass(frozen=True, slots=True)
class Done:
    """How an effect was completed.

    :param reference: where it is: a page id, a process id, a path.
    :param created: how many outside things were created when it was last completed with a change.
    :param updated: how many were changed.
    :param token: of the claim that completed it.
    """

    key: str
    reference: str
    created: int
    updated: int
    detail: str
    token: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to make one outside effect, until a newer claim on the same subject takes it over.

    :param token: the fencing token, higher than that of every earlier claim on this subject.
    :param previous: how the effect was completed before, None where it never was.
    :param interrupted: whether an earlier try claimed this very effect and never completed it: the outside thing
        may be there already.
    :param begun: when this effect was claimed first, UTC: nothing outside that belongs to it is older.
    """

    ledger: Ledger
    key: str
    use_case: str
    project: str
    subject: str
    run: str
    try_number: int
    token: int
    previous: Done | None
    interrupted: bool
    begun: datetime

    @property
    def scope(self) -> str:
        """What the token fences: all effects of a use case on one subject of a project."""
        return _scope(self.use_case, self.project, self.subject)

    def check(self) -> None:
        """Call before each outside write.

        The check narrows the gap to the length of one request; what still slips through is found by its key, for
        every effect is looked up before it is created.

        :raises Fenced: when a newer claim exists.
        """
        with self.ledger.reading() as connection:
            self._check(connection)

    def check_in(self, transaction: Transaction) -> None:
        """Stop unless this claim is still the newest of its subject; holds to the end of the transaction.

        :raises Fenced: when a newer claim exists.
        """
        self._check(transaction.connection)

    def _check(self, connection: Connection) -> None:
        newest = _newest_token(connection, self.scope)
        if newest != self.token:
            raise Fenced(
                f"{self.use_case} on {self.subject}: claim {self.token} of try {self.try_number} was taken over by "
                f"claim {newest}; this try stops and writes nothing more"
            )

    def done(self, reference: str, *, created: int, updated: int, detail: str = "", digest: str | None = None) -> bool:
        """Record the effect as complete. Writes nothing when it was, and nothing has changed.

        An ``effect.done`` event is appended when something was created or updated, and when this try completes what
        an earlier one had begun: the outside write happened, though nobody lived to count it.

        :param reference: where the effect is: a page id, a process id, a path.
        :param created: how many outside things this try created.
        :param updated: how many it changed.
        :param detail: what else an auditor wants to know, in words without label content.
        :param digest: SHA-256 of what was written, for the event's ``digest_after``.
        :returns: whether an event was appended.
        :raises Fenced: when a newer claim exists.
        """
        with self.ledger.transaction() as transaction:
            return self.done_in(transaction, reference, created=created, updated=updated, detail=detail, digest=digest)

    def done_in(
        self,
        transaction: Transaction,
        reference: str,
        *,
        created: int,
        updated: int,
        detail: str = "",
        digest: str | None = None,
    ) -> bool:
        """Record the effect as complete inside a transaction, together with what else belongs to it."""
        self.check_in(transaction)
        known = _read_done(transaction.connection, self.key)
        changed = bool(created or updated)
        made = Done(self.key, reference, created, updated, detail, self.token)
        if known is not None and known.token == self.token and known == made:
            return False  # said twice by the same claim: its first commit may have been answered too late
        if known is not None and not changed and known.reference == reference:
            return False
        _write_done(transaction, self, made, known)
        if not changed and not (known is None and self.interrupted):
            return False
        event = NewEvent(
            actor=SERVICE,
            action="effect.done",
            project=self.project,
            subject=self.subject,
            digest_after=digest,
            reason=detail,
            run=self.run,
            body={
                "effect": self.key,
                "use_case": self.use_case,
                "reference": reference,
                "created": created,
                "updated": updated,
                "recovered": not changed,
            },
        )
        # The first completion is named by the effect; a later one, which changed the outside again, by its token too.
        key = f"effect:{self.key}" if known is None else f"effect:{self.key}:{self.token}"
        return transaction.append(event, key=key)[1]


def claim(ledger: Ledger, key: str, *, use_case: str, project: str, subject: str, run: str, try_number: int) -> Claim:
    """Claim an effect, so that every older claim on its subject is refused from now on.

    :param key: the effect's key, from :func:`include.base.canonical.effect_key`.
    :param run: names the task instance without its try: DAG, run, task and map index.
    :param try_number: which try of it this is, from 1.
    :raises Fenced: when a later try of the same run has claimed this subject already.
    """
    if try_number < 0:
        raise InvalidInput(f"the try number is {try_number}; expected 0 or more")
    scope = _scope(use_case, project, subject)
    table = tables.effect_claim
    with ledger.transaction() as transaction:
        connection = transaction.connection
        of_run = sa.select(sa.func.max(table.c.try_number)).where(table.c.scope == scope, table.c.run == run)
        latest_try = connection.scalar(of_run)
        if latest_try is not None and latest_try > try_number:
            raise Fenced(
                f"{use_case} on {subject}: try {latest_try} of {run} has taken over from try {try_number}; "
                "this try stops and writes nothing more"
            )
        first = connection.scalar(sa.select(sa.func.min(table.c.claimed_at)).where(table.c.key == key))
        previous = _read_done(connection, key)
        interrupted = previous is None and first is not None
        token = _newest_token(connection, scope) + 1
        now = time_text(datetime.now(UTC))
        values: dict[str, Any] = {
            "scope": scope,
            "token": token,
            "key": key,
            "use_case": use_case,
            "project": project,
            "subject": subject,
            "run": run,
            "try_number": try_number,
            "claimed_at": now,
        }
        connection.execute(sa.insert(table), values)
    begun = read_time(first or now)
    return Claim(ledger, key, use_case, project, subject, run, try_number, token, previous, interrupted, begun)


def find_done(ledger: Ledger, key: str) -> Done | None:
    """Return what completed the effect of that key, or None. Claims nothing and writes nothing."""
    with ledger.reading() as connection:
        return _read_done(connection, key)


def _newest_token(connection: Connection, scope: str) -> int:
    """Return the highest token given out for a scope, 0 where there is none."""
    table = tables.effect_claim
    return connection.scalar(sa.select(sa.func.max(table.c.token)).where(table.c.scope == scope)) or 0


def _read_done(connection: Connection, key: str) -> Done | None:
    row = connection.execute(sa.select(tables.effect).where(tables.effect.c.key == key)).mappings().first()
    if row is None:
        return None
    return Done(row["key"], row["reference"], row["created"], row["updated"], row["detail"], row["token"])


def _write_done(transaction: Transaction, held: Claim, done: Done, known: Done | None) -> None:
    table = tables.effect
    values = {
        "scope": held.scope,
        "token": held.token,
        "reference": done.reference,
        "created": done.created,
        "updated": done.updated,
        "detail": done.detail,
        "done_at": time_text(datetime.now(UTC)),
    }
    if known is None:
        transaction.connection.execute(sa.insert(table), {"key": done.key, **values})
    else:
        transaction.connection.execute(sa.update(table).where(table.c.key == done.key), values)


def _scope(use_case: str, project: str, subject: str) -> str:
    return digest_of([use_case, project, subject])
