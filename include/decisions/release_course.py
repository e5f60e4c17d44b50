"""The course of a release process: the checks are reported to people in OpenText, who release or refuse a version."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from include.base.errors import Refused
from include.bpmn.mapping import STATEMENTS, ProcessMapping, start_variables
from include.decisions import approval
from include.decisions.course import SETTLE_SECONDS
from include.decisions.duplicates import end_duplicates, end_if_overtaken
from include.decisions.process import check_deployed, kept_decisions, snapshot, statements_put
from include.decisions.state import ApprovalState
from include.governance.records import Event, VersionRecord
from include.projects.model import Project
from include.run.run import Effect, Run, short
from include.systems.opentext.client import OpenTextClient

__all__ = ["ReleaseCourse"]

USE_CASE = "dataset_release"
ROLE = "release_manager"


@dataclass(frozen=True)
class ReleaseCourse:
    """One approved version before whoever may release it.

    :param annotators: ids of whoever annotated or adjudicated the version: none of them may release it.
    """

    run: Run
    project: Project
    version: VersionRecord
    opentext: OpenTextClient
    mapping: ProcessMapping
    annotators: Collection[str]

    @property
    def subject(self) -> str:
        """Return the version as the ledger names it."""
        return f"version:{self.version.digest}"

    @property
    def people_decide(self) -> bool:
        """Tell whether a process in OpenText decides; otherwise Airflow releases what its checks let through."""
        return self.project.release.orchestrator == "opentext"

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
            before = known.body
            run.log.info(f"The release process {before['process_id']} was started before.")
            end_duplicates(run, project, self.subject, self.opentext, before["business_key"], before["process_id"])
            return 0
        check_deployed(run, project, self.opentext, self.mapping)
        attempt = 1 if known is None else known.body["attempt"] + 1
        self._note_requester(attempt)
        with run.effect(USE_CASE, project.name, self.subject, self.version.digest, attempt) as effect:
            effect.begin()
            if known is not None and self.opentext.process(known.body["process_id"]) is not None:
                effect.check()
                self.opentext.terminate(known.body["process_id"], f"replaced by attempt {attempt}")
            process_id, created = self._start(effect, attempt, where, problems)
        how = "Started" if created else "Found"
        run.log.info(
            f"{how} the release process {process_id} (attempt {attempt}), reporting {len(problems)} problem(s)."
        )
        return int(created)

    def _note_requester(self, attempt: int) -> None:
        """Record who asks, before the process is started: if this run is killed, the next one still knows."""
        requester = self.run.requester()
        if requester is not None:
            self.run.note(
                "release.asked",
                self.project.name,
                self.subject,
                key=["asked", attempt, requester],
                actor=requester,
                after=self.version.digest,
                body={"attempt": attempt, "requesters": [requester]},
            )

    def _start(self, effect: Effect, attempt: int, where: ApprovalState, problems: Collection[str]) -> tuple[str, bool]:
        """Start the process and put it on the ledger; return its id, and whether it was created now."""
        run, project, version, digest = self.run, self.project, self.version, self.version.digest
        said = approval.statements(self.mapping, policy=project.policy, project=project.name, digest=digest)
        statements = run.store.put_object(said.encode("utf-8"))
        effect.check()
        process_id, created = self.opentext.start_process(
            self.mapping.process_key,
            name=f"{project.title}: release of {version.name} ({short(digest)})",
            business_key=effect.key,
            settle_seconds=SETTLE_SECONDS if effect.interrupted else 0,
            variables={
                **start_variables(self.mapping, [ROLE], self.opentext.groups),
                self.mapping.digest_variable: digest,
                "labelops_project": project.name,
                "dataset_version": version.number,
                "dataset_rows": version.row_count,
                "checks_passed": not problems,
                "check_problems": len(problems),
                "evidence_hint": f"Comment with {short(digest)} before you complete: that attests your decision.",
                STATEMENTS: said,
            },
        )

        def recorded() -> str | None:
            asked = self.requested
            return None if asked is None else str(asked.body["process_id"])

        with end_if_overtaken(run, self.opentext, process_id, created, recorded):
            effect.finish(
                "release.requested",
                ["requested", attempt],
                process_id,
                created=int(created),
                detail=f"attempt {attempt}",
                after=digest,
                body={
                    "process_id": process_id,
                    "business_key": effect.key,
                    "attempt": attempt,
                    "approval_attempt": where.attempt,
                    "passed": not problems,
                    "statements": statements,
                },
            )
        return process_id, created

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
        return approval.evaluate_release(
            snapshot(run, self.project, self.subject, known.body["process_id"], self.opentext, self.mapping),
            project=self.project,
            digest=self.version.digest,
            mapping=self.mapping,
            register=run.register,
            policy=self.project.policy,
            attempt=known.body["attempt"],
            manifest_persons=self.annotators,
            requesters={person for event in asked for person in event.body["requesters"]},
            role=ROLE,
            business_key=known.body["business_key"],
            statements=statements_put(run, known),
        )

    def end(self, asked: Event, reason: str) -> int:
        """Record what was decided in a release process, and end it if it still runs; return the number of effects."""
        decided = self.decision()
        for decision in kept_decisions(self.run, decided.decisions if decided else ()):
            self.run.ledger.record_decision(decision)
        process_id = asked.body["process_id"]
        if self.opentext.process(process_id) is None:
            return 0
        self.opentext.terminate(process_id, f"withdrawn: {reason}"[:250])
        return 1
