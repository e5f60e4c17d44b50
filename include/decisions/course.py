"""The course of an approval: people are asked in an OpenText process, reminded, and what they decided is kept.

Each run starts what is missing and harvests what is decided; nothing here waits.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from include.base.canonical import digest_of
from include.base.errors import Refused
from include.decisions import approval
from include.decisions.asking import Asking
from include.decisions.completion_probe import service_token
from include.decisions.eligible import nobody_for
from include.decisions.process import HISTORY_LAG, check_deployed, kept_decisions, record_decisions
from include.decisions.state import TERMINAL, ApprovalState, approval_state
from include.decisions.terms import policy_of
from include.governance.records import Event, read_time, time_text
from include.run.run import ItemResult, short

__all__ = ["Course", "next_look"]

USE_CASE = "labeling_approval"

OURS = ("void", "undecided", "stale", "expired")
"""Results that we decide, while the process may still run."""


@dataclass(frozen=True)
class Course(Asking):
    """One version before its approvers."""

    @property
    def where(self) -> ApprovalState:
        """Return where the version stands, as the ledger has it now."""
        return approval_state(self.run, self.version.digest)

    # --- asking ------------------------------------------------------------------------------------------------------

    def ask(self, material: str) -> int:
        """Start the process of this attempt, unless it was started before; return how many were created.

        :param material: address of the page that shows its people what they decide on.
        :raises InvalidInput: when the deployed model does not fit the mapping, saying what a modeller should change.
        """
        run, project, version, where = self.run, self.project, self.version, self.where
        if where.state != "frozen":
            run.log.info(f"{self.title} was put before its approvers already (attempt {where.attempt}).")
            if where.state == "requested" and where.requested is not None:
                self.end_others(where.requested)
            return 0
        check_deployed(run, project, self.opentext, self.mapping)
        self._must_have_people()
        self.note_requester("approval", where.attempt)
        with run.effect(USE_CASE, project.name, self.subject, version.digest, where.attempt) as effect:
            due = run.now() + project.policy.due
            process_id, created = self.start(
                effect,
                "approval",
                version.name,
                [one.role for one in project.policy.approvals],
                {
                    "policy_digest": project.policy.digest,
                    "attempt": where.attempt,
                    "due_at": due.astimezone(UTC).isoformat(),
                    "material": material,
                },
                {"attempt": where.attempt},
                project.policy,
            )
        run.log.info(
            f"{'Started' if created else 'Found'} the approval process {process_id} for {self.title} "
            f"(attempt {where.attempt}); approvers have until {due.isoformat(timespec='minutes')}."
        )
        return int(created)

    def _must_have_people(self) -> None:
        """Refuse to ask where too few people could answer.

        :raises Refused: saying which role, and who of it had a hand in the version or asked.
        """
        barred: set[str] = set()
        if self.project.policy.four_eyes:
            barred = {*self.hands().persons, *self.where.requesters, *self.requesters()}
        problems = nobody_for(self.project, self.run.register, self.run.now(), barred)
        if problems:
            raise Refused(f"nobody is asked about {self.version.name} of {self.project.name}: {'; '.join(problems)}")

    # --- looking -----------------------------------------------------------------------------------------------------

    def look(self, created: int = 0) -> tuple[ItemResult, approval.Evaluation | None]:
        """Read what the approvers did, check role and four eyes, and put every new decision on the ledger.

        :param created: effects of the steps before, so that the item's result counts them.
        :return: the result, and what was found at the source, None where nothing was open.
        """
        where = self.where
        if where.state in TERMINAL or where.requested is None:
            self.run.log.info(f"{self.title} is {where.state}: nothing is open.")
            return self._result(where, where.state, "nothing is open", created), None
        if where.ending is not None:
            if where.ending.body["state"] == "withdrawn":
                # A person's word ends it, whatever was decided so far: that stays on record beside it.
                record_decisions(self.run, self.evaluate(where))
            return self._end(where, where.ending, created), None
        found = self.evaluate(where)
        self.run.findings(self.project.name, self.subject, (("approval", finding) for finding in found.findings))
        self.run.log.info(f"{self.title} ({short(self.version.digest)}): {found.sentence}")
        changed = False
        if not self._settled(where.requested, found):
            unsettled = f"{found.sentence} It is looked at once more before that is final."
            return self._result(where, "unsettled", unsettled, created), found
        if found.state in TERMINAL:
            changed = self._record(where, where.requested, found)
            ending = self.where.ending if found.state in OURS else None
            if ending is not None:
                return self._end(where, ending, created), found
        updated = self._act_on_deadline(where, where.requested, found)
        return self._result(where, found.state, found.sentence, created, updated, changed), found

    def _settled(self, requested: Event, found: approval.Evaluation) -> bool:
        """Tell whether a judgement may be final; one that rests on what is missing has to be seen twice, a grace apart.

        A list of tasks or comments that was answered too early, or once by nothing, must end no approval for good.
        """
        if not found.on_absence:
            return True
        run, scope = self.run, f"judged:{requested.body['process_id']}"
        told = [[one.decision_id, one.void_reason] for one in found.decisions]
        shown = digest_of([found.state, found.sentence, told])
        before = run.ledger.sync_state(scope)
        if before is None or before["shown"] != shown:
            run.ledger.save_sync_state(scope, {"shown": shown, "at": time_text(run.now())})
            return False
        return run.now() - read_time(before["at"]) >= HISTORY_LAG

    def evaluate(self, where: ApprovalState) -> approval.Evaluation:
        """Read the process of a version at its source and judge it, writing nothing but the assignees seen.

        The policy is the one that was in force when the approvers were asked, whatever the project's file says since.

        :raises Refused: when nobody was ever asked.
        """
        requested = where.requested
        if requested is None:
            raise Refused(f"version {short(self.version.digest)} was never put before approvers")
        case = self.case(requested, where.requesters, policy_of(self.run, requested), where.judging)
        return approval.evaluate(case, started_at=requested.time, now=self.run.now())

    def _record(self, where: ApprovalState, requested: Event, found: approval.Evaluation) -> bool:
        """Put the decisions on the ledger together with their outcome; tell whether that was new.

        While the process runs, a lagging history may still change a decision's grade: decisions go on record when they
        are final. What we decide is on the ledger before its process is ended, or a run that is killed in between would
        find it "ended from outside".
        """
        ours = found.state in OURS
        body: dict[str, Any] = {"attempt": where.attempt}
        if ours:
            body["state"] = found.state
        else:
            body["process_id"] = requested.body["process_id"]
            # How much evidence that is only asserted is worth.
            body["service_token"] = service_token(self.run.ledger, self.opentext.settings.conn_id)
        event = self.run.event(
            "approval.ending" if ours else f"approval.{found.state}",
            self.project.name,
            self.subject,
            after=self.version.digest,
            reason=found.sentence,
            body=body,
        )
        key = ["ending" if ours else found.state, *where.judging]
        fresh, changed = self.run.decide(kept_decisions(self.run, found), event, key)
        self.run.log.info(f"{fresh} new decision(s) on the ledger.")
        return changed

    # --- ending and deadlines ----------------------------------------------------------------------------------------

    def _end(self, where: ApprovalState, ending: Event, created: int) -> ItemResult:
        """End the process of an attempt that failed, unless it has ended, and put the result on the ledger."""
        if where.requested is None:
            raise AssertionError("an attempt that ends was requested")
        state, process_id = ending.body["state"], where.requested.body["process_id"]
        digest = self.version.digest
        again = digest_of([digest, where.reopened]) if where.reopened else digest
        with self.run.effect(f"{USE_CASE}.end", self.project.name, self.subject, again, where.attempt) as effect:
            effect.begin()
            running = self.opentext.process(process_id) is not None
            if running:
                effect.check()
                self.opentext.terminate(process_id, f"{state}: {ending.reason}"[:250])
            new = effect.finish(
                f"approval.{state}",
                [state, *where.judging],
                process_id,
                updated=int(running),
                detail=state,
                actor=ending.actor,
                after=digest,
                reason=ending.reason,
                body={"attempt": where.attempt, "process_id": process_id},
            )
        how = "was ended" if running else "had ended"
        self.run.log.info(f"{self.title} is {state}; its process {process_id} {how}.")
        return self._result(where, state, ending.reason, created, int(running), new)

    def _act_on_deadline(self, where: ApprovalState, requested: Event, found: approval.Evaluation) -> int:
        """Remind or escalate an approval that is late, each once an attempt; return the number of effects."""
        step = found.next_step
        if step not in ("remind", "escalate"):
            return 0
        run, project, digest = self.run, self.project, self.version.digest
        process_id, done = requested.body["process_id"], {"remind": "reminded", "escalate": "escalated"}[step]
        with run.effect(f"{USE_CASE}.{step}", project.name, self.subject, digest, where.attempt) as effect:
            if effect.done is not None:
                return 0
            effect.begin()
            tasks = list(self.opentext.tasks(process_id=process_id))
            text = self._late(step, found)
            if not any(comment.message.startswith(text) for comment in self.opentext.comments(process_id)):
                effect.check()
                open_tasks = ", ".join(sorted(one.name for one in tasks)) or "none"
                self.opentext.add_comment(process_id, f"{text} Open: {open_tasks}.")
            for task in tasks if step == "escalate" else ():
                effect.check()
                self.opentext.update_task(task.id, priority=100)
            body = {"process_id": process_id}
            effect.finish(f"approval.{done}", [done, where.attempt], process_id, updated=1, detail=step, body=body)
        run.log.info(f"{self.title} was due at {_minute(found.due)}: {done}.")
        return 1

    def _late(self, step: str, found: approval.Evaluation) -> str:
        what = f"{self.version.name} of {self.project.title} ({short(self.version.digest)})"
        if step == "remind":
            return f"Reminder: {what} waits for a decision until {_minute(found.due)}."
        return (
            f"Escalated to {self.project.policy.escalation_role or self.project.owner}: {what} was due at "
            f"{_minute(found.due)}. Without a decision it expires at {_minute(found.expires_at)}."
        )

    # --- telling -----------------------------------------------------------------------------------------------------

    @property
    def title(self) -> str:
        """Return how a sentence about the version begins."""
        return f"{self.version.name.capitalize()} of {self.project.name}"

    def _result(
        self,
        where: ApprovalState,
        state: str,
        sentence: str,
        created: int = 0,
        updated: int = 0,
        changed: bool = False,
    ) -> ItemResult:
        process_id = where.requested.body["process_id"] if where.requested else ""
        return self.result(
            state,
            sentence,
            process_id,
            where="" if process_id else self.version.path,
            created=created,
            updated=updated,
            changed=changed,
            attempt=where.attempt,
        )


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def next_look(found: approval.Evaluation | None, now: datetime) -> timedelta | None:
    """Return how long to wait before a deadline needs acting on, None where nothing is open."""
    if found is None or found.state in TERMINAL:
        return None
    ahead = [moment for moment in (found.reminder_at, found.due, found.expires_at) if moment > now]
    return min(ahead) - now if ahead else timedelta(0)
