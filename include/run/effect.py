"""One outside effect of a step: looked up, claimed, checked before each write, and put on the ledger once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from include.base.canonical import digest_of, effect_key
from include.governance.effects import Claim, Done, claim, find_done

if TYPE_CHECKING:
    from include.governance.ledger import Transaction
    from include.run.run import Run

__all__ = ["Effect"]


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
        :param event: the event's other parts, as of :meth:`include.run.run.Run.event`.
        :return: whether the event was new.
        :raises Fenced: when a newer try has taken over.
        """
        with self.run.ledger.transaction() as transaction:
            self.claim.check_in(transaction)
            happened = self.run.event(action, self.project, self.subject, **event)
            _, new = transaction.append(happened, key=digest_of([action, self.project, self.subject, key]))
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
