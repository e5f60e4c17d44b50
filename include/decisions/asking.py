"""What every course of a version has: its people are asked in one OpenText process, and that is on the ledger."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from include.bpmn.mapping import STATEMENTS, ProcessMapping, start_variables
from include.decisions import approval
from include.decisions.duplicates import end_duplicates, end_if_overtaken
from include.decisions.origin import why_foreign
from include.decisions.process import snapshot, statements_put
from include.decisions.terms import keep_terms, mapping_of
from include.governance.records import Event, VersionRecord, read_time, time_text
from include.people.identity import same_persons
from include.projects.model import Policy, Project
from include.run.in_force import registers_since, requesters
from include.run.run import Effect, ItemResult, Run, short
from include.systems.opentext.client import OpenTextClient
from include.systems.opentext.values import ProcessStart

__all__ = ["Asking", "Hands"]

SETTLE_SECONDS = 10
"""How long to look for the process that a try which was killed may have started."""


@dataclass(frozen=True)
class Hands:
    """Who had a hand in a version: none of them may decide on it.

    :param persons: ids of whoever annotated or adjudicated it, or ``unknown…``.
    :param since: when the first of its answers was given, None where that is not known.
    """

    persons: frozenset[str]
    since: datetime | None


@dataclass(frozen=True)
class Asking:
    """One version before the people of one process.

    :param hands: returns who had a hand in the version. Asked only when decisions are judged.
    """

    run: Run
    project: Project
    version: VersionRecord
    opentext: OpenTextClient
    mapping: ProcessMapping
    hands: Callable[[], Hands]

    @property
    def subject(self) -> str:
        """Return the version as the ledger names it."""
        return f"version:{self.version.digest}"

    def requesters(self) -> set[str]:
        """Return who asks by this run: whoever triggered it, and whoever made the policy what it is."""
        return requesters(self.run, self.project)

    def note_requester(self, kind: str, attempt: int) -> None:
        """Record who asks, as ``<kind>.asked``, before the process is started: a run that is killed leaves it known."""
        for requester in sorted(self.requesters()):
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
        policy: Policy,
    ) -> tuple[str, bool]:
        """Start the process and put ``<kind>.requested`` on the ledger, with the terms that people are asked under.

        :param variables: what the process gets beside the version and the statements of its people.
        :param body: what the event says, ``attempt`` among it, beside the process and the statements.
        :param policy: what decides whether the decisions suffice.
        :return: the process's id, and whether it was created now.
        """
        run, project, version, attempt = self.run, self.project, self.version, body["attempt"]
        digest = version.digest
        said = approval.statements(self.mapping, policy=policy, project=project.name, digest=digest)
        statements = run.store.put_object(said.encode("utf-8"))
        terms = keep_terms(run, project, self.mapping, policy)
        effect.check()
        asked = self._set_out(effect)
        process_id, created = self.opentext.start_process(
            self.mapping.process_key,
            name=f"{project.title}: {name} ({short(digest)})",
            business_key=effect.key,
            settle_seconds=SETTLE_SECONDS if effect.interrupted else 0,
            foreign=self._foreign(asked),
            variables={
                **start_variables(self.mapping, roles, self.opentext.groups),
                self.mapping.digest_variable: digest,
                "labelops_project": project.name,
                "dataset_version": version.number,
                "dataset_rows": version.row_count,
                "evidence_hint": approval.evidence_hint(self.mapping, digest),
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
                body={
                    "process_id": process_id,
                    "business_key": effect.key,
                    "statements": statements,
                    "asked_at": time_text(asked) if asked else None,
                    **terms,
                    **body,
                },
            )
        return process_id, created

    def _set_out(self, effect: Effect) -> datetime | None:
        """Return when we first set out to ask; None where a ledger that was lost since may have known better."""
        lost = [event.time for event in self.run.ledger.events(actions=["ledger.recovered"])]
        if lost:
            since = self.hands().since
            if since is None or since <= lost[-1]:
                return None
        return effect.claim.begun

    def _foreign(self, asked: datetime | None) -> Callable[[ProcessStart], bool]:
        """Return what tells a process that somebody else started under our business key, and makes a finding of it.

        :param asked: when we first set out to ask, None where that is not known.
        """
        told: set[str] = set()  # a look is repeated while history may lag

        def foreign(start: ProcessStart) -> bool:
            why = why_foreign(start, self.mapping.process_key, self.run.register, asked)
            if why and start.id not in told:
                told.add(start.id)
                what = f"process {start.id} has our business key and is none of ours: {why}"
                detail = f"{what}; nothing decided in it counts"
                self.run.finding(self.project.name, self.subject, "foreign process", detail)
            return bool(why)

        return foreign

    def end_others(self, requested: Event) -> None:
        """End what runs beside the process of a request under the same business key, unless it is somebody else's."""
        key, known = requested.body["business_key"], requested.body["process_id"]
        foreign = self._foreign(_asked_at(requested))
        end_duplicates(self.run, self.project, self.subject, self.opentext, key, known, foreign)

    def case(
        self, requested: Event, requesters: Collection[str], policy: Policy, judging: Sequence[int] = ()
    ) -> approval.Case:
        """Read the process of a request, with everything that its decisions are judged against.

        :param judging: names the judgement where it is not the first of its attempt.
        """
        run, body = self.run, requested.body
        mapping, hands = mapping_of(run, requested, self.mapping), self.hands()
        return approval.Case(
            snapshot(run, self.project, self.subject, body["process_id"], self.opentext, mapping),
            project=self.project,
            digest=self.version.digest,
            attempt=body["attempt"],
            mapping=mapping,
            register=run.register,
            policy=policy,
            annotators=hands.persons,
            requesters=frozenset(requesters),
            business_key=body["business_key"],
            statements=statements_put(run, requested),
            asked_at=_asked_at(requested),
            judging=judging or [body["attempt"]],
            same=same_persons(registers_since(run, hands.since)),
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


def _asked_at(requested: Event) -> datetime | None:
    """Return when we first set out to ask, None for a request of before that was kept."""
    told = requested.body.get("asked_at")
    return None if told is None else read_time(told)
