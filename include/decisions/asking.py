"""What every course of a version has: its people are asked in one OpenText process, and that is on the ledger."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from include.bpmn.mapping import STATEMENTS, ProcessMapping, start_variables
from include.decisions import approval
from include.decisions.duplicates import end_if_overtaken
from include.decisions.process import snapshot, statements_put
from include.governance.records import Event, VersionRecord
from include.projects.model import Policy, Project
from include.run.run import Effect, ItemResult, Run, short
from include.systems.opentext.client import OpenTextClient

__all__ = ["Asking"]

SETTLE_SECONDS = 10
"""How long to look for the process that a try which was killed may have started."""


@dataclass(frozen=True)
class Asking:
    """One version before the people of one process.

    :param annotators: returns the ids of whoever annotated or adjudicated the version: none of them may decide on it.
        Asked only when decisions are judged.
    """

    run: Run
    project: Project
    version: VersionRecord
    opentext: OpenTextClient
    mapping: ProcessMapping
    annotators: Callable[[], Collection[str]]

    @property
    def subject(self) -> str:
        """Return the version as the ledger names it."""
        return f"version:{self.version.digest}"

    def note_requester(self, kind: str, attempt: int) -> None:
        """Record who asks, as ``<kind>.asked``, before the process is started: a run that is killed leaves it known."""
        requester = self.run.requester()
        if requester is not None:
            self.run.note(
                f"{kind}.asked",
                self.project.name,
                self.subject,
                key=["asked", attempt, requester],
                actor=requester,
                after=self.version.digest,
                body={"attempt": attempt, "requesters": [requester]},
            )

    def start(
        self,
        effect: Effect,
        kind: str,
        name: str,
        roles: Collection[str],
        variables: Mapping[str, Any],
        body: Mapping[str, Any],
    ) -> tuple[str, bool]:
        """Start the process and put ``<kind>.requested`` on the ledger.

        :param variables: what the process gets beside the version and the statements of its people.
        :param body: what the event says, ``attempt`` among it, beside the process and the statements.
        :return: the process's id, and whether it was created now.
        """
        run, project, version, attempt = self.run, self.project, self.version, body["attempt"]
        digest = version.digest
        said = approval.statements(self.mapping, policy=project.policy, project=project.name, digest=digest)
        statements = run.store.put_object(said.encode("utf-8"))
        effect.check()
        process_id, created = self.opentext.start_process(
            self.mapping.process_key,
            name=f"{project.title}: {name} ({short(digest)})",
            business_key=effect.key,
            settle_seconds=SETTLE_SECONDS if effect.interrupted else 0,
            variables={
                **start_variables(self.mapping, roles, self.opentext.groups),
                self.mapping.digest_variable: digest,
                "labelops_project": project.name,
                "dataset_version": version.number,
                "dataset_rows": version.row_count,
                "evidence_hint": f"Comment with {short(digest)} before you complete: that attests your decision.",
                STATEMENTS: said,
                **variables,
            },
        )
        action = f"{kind}.requested"

        def recorded() -> str | None:
            known = run.last(self.subject, action)
            if known is None or known.body["business_key"] != effect.key:
                return None
            return str(known.body["process_id"])

        with end_if_overtaken(run, self.opentext, process_id, created, recorded):
            effect.finish(
                action,
                ["requested", attempt],
                process_id,
                created=int(created),
                detail=f"attempt {attempt}",
                after=digest,
                body={"process_id": process_id, "business_key": effect.key, "statements": statements, **body},
            )
        return process_id, created

    def case(self, requested: Event, requesters: Collection[str], policy: Policy) -> approval.Case:
        """Read the process of a request, with everything that its decisions are judged against."""
        run, body = self.run, requested.body
        return approval.Case(
            snapshot(run, self.project, self.subject, body["process_id"], self.opentext, self.mapping),
            project=self.project,
            digest=self.version.digest,
            attempt=body["attempt"],
            mapping=self.mapping,
            register=run.register,
            policy=policy,
            annotators=frozenset(self.annotators()),
            requesters=frozenset(requesters),
            business_key=body["business_key"],
            statements=statements_put(run, requested),
        )

    def result(
        self,
        state: str,
        sentence: str,
        process_id: str,
        *,
        created: int = 0,
        updated: int = 0,
        changed: bool = False,
        where: str = "",
        **detail: Any,
    ) -> ItemResult:
        """Return what became of the version.

        :param process_id: of the process that was asked, "" where none was.
        :param where: where a person sees it; the process where it is empty.
        """
        version = self.version
        return ItemResult(
            project=self.project.name,
            subject=self.subject,
            name=version.name,
            state=state,
            sentence=sentence,
            created=created,
            updated=updated,
            changed=changed,
            where=where or (self.opentext.process_url(process_id) if process_id else ""),
            detail={"digest": version.digest, "number": version.number, "process_id": process_id, **detail},
        )
