"""The course of a release process: the checks are reported to people in OpenText, who release or refuse a version."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from include.base.errors import Refused
from include.decisions import approval
from include.decisions.asking import Asking
from include.decisions.process import check_deployed, record_decisions
from include.decisions.state import ApprovalState, approval_state
from include.decisions.terms import people_release, policy_of
from include.governance.records import Event
from include.run.run import ItemResult

__all__ = ["ReleaseCourse"]

USE_CASE = "dataset_release"
ROLE = "release_manager"


@dataclass(frozen=True)
class ReleaseCourse(Asking):
    """One approved version before whoever may release it."""

    @property
    def people_decide(self) -> bool:
        """Tell whether a process in OpenText decides; otherwise Airflow releases what its checks let through."""
        return people_release(self.project, self.run.last(self.subject, "approval.requested"))

    @property
    def requested(self) -> Event | None:
        """Return the newest request, None where nobody was asked."""
        return self.run.last(self.subject, "release.requested")

    def ask(self, where: ApprovalState, problems: Collection[str]) -> int:
        """Report the checks to the release process, starting it unless it runs; return how many were created.

        :param problems: what is missing, a sentence each.
        """
        if not self.people_decide:
            return 0
        run, project, known = self.run, self.project, self.requested
        # A new process for a new approval, and once what was missing is there; else the one that runs or has decided.
        stands = known is not None and known.body["approval_attempt"] == where.attempt
        if known is not None and stands and (known.body["passed"] or problems):
            run.log.info(f"The release process {known.body['process_id']} was started before.")
            self.end_others(known)
            return 0
        if where.requested is None:
            raise Refused(f"{self.version.name} of {project.name} was never put before approvers")
        check_deployed(run, project, self.opentext, self.mapping)
        attempt = 1 if known is None else known.body["attempt"] + 1
        self.note_requester("release", attempt)
        with run.effect(USE_CASE, project.name, self.subject, self.version.digest, attempt) as effect:
            effect.begin()
            if known is not None and self.opentext.process(known.body["process_id"]) is not None:
                effect.check()
                self.opentext.terminate(known.body["process_id"], f"replaced by attempt {attempt}")
            process_id, created = self.start(
                effect,
                "release",
                f"release of {self.version.name}",
                [ROLE],
                {"checks_passed": not problems, "check_problems": len(problems)},
                {"attempt": attempt, "approval_attempt": where.attempt, "passed": not problems},
                policy_of(run, where.requested),
            )
        how = "Started" if created else "Found"
        run.log.info(
            f"{how} the release process {process_id} (attempt {attempt}), reporting {len(problems)} problem(s)."
        )
        return int(created)

    def decision(self) -> approval.ReleaseDecision | None:
        """Read what the release process decided; None where Airflow releases by itself.

        :raises Refused: when no release process was ever started.
        """
        if not self.people_decide:
            return None
        known, run = self.requested, self.run
        if known is None:
            raise Refused(f"no release process was started for {self.version.name} of {self.project.name}")
        asked = run.ledger.events(subject=self.subject, actions=["release.asked"])
        requesters = {person for event in asked for person in event.body["requesters"]}
        # Whoever asked for the approval, or closed the batch, wants it released too.
        requesters |= approval_state(run, self.version.digest).requesters
        policy = policy_of(run, known) if "policy" in known.body else self.project.policy
        return approval.evaluate_release(self.case(known, requesters, policy), ROLE)

    def end(self, asked: Event, reason: str) -> int:
        """Record what was decided in a release process, and end it if it still runs; return the number of effects."""
        decided = self.decision()
        if decided is not None:
            record_decisions(self.run, decided)
        process_id = asked.body["process_id"]
        if self.opentext.process(process_id) is None:
            return 0
        self.opentext.terminate(process_id, f"withdrawn: {reason}"[:250])
        return 1

    def outcome(self, state: str, sentence: str, created: int, changed: bool = False, where: str = "") -> ItemResult:
        """Return what became of the version; ``where`` is the release process if it is empty."""
        known = self.requested
        process_id = known.body["process_id"] if known else ""
        return self.result(state, sentence, process_id, created=created, changed=changed, where=where)
