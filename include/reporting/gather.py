"""What the lineage report says, gathered from the ledger and the manifests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime

from include.agreement.measurements import changes_since, quality_of
from include.datasets import freeze as freezing
from include.datasets.withdrawals import withdrawal
from include.decisions.state import approval_states
from include.governance.records import Decision, Event, VersionRecord
from include.projects.model import Project
from include.queues.batches import frozen_in
from include.releases.standing import standing_releases
from include.reporting import lineage
from include.run.run import Run

__all__ = ["facts"]

_UNTOLD = datetime.fromtimestamp(0, UTC)
"""Stands for a time that no system told."""


def facts(run: Run, project: Project) -> lineage.LineageFacts:
    """Gather what the report of a project says."""
    events = list(run.ledger.events(project=project.name))
    standing = standing_releases(run.ledger, project.name)
    recalled = _last_by_subject(events, "release.recalled")
    processes = {event.subject: event.body["process_id"] for event in events if event.action == "approval.requested"}
    versions = list(_versions(run, project, events, standing, recalled))
    decisions = [
        _decision(one, processes.get(f"version:{version.digest}", ""))
        for version in versions
        for one in run.ledger.decisions(version.digest)
    ]
    told = [event for event in events if _is_told(event)]
    persons = {one.person for one in decisions} | {one for each in versions for one in each.persons}
    return lineage.LineageFacts(
        project=project.name,
        title=project.title,
        versions=versions,
        decisions=decisions,
        guidelines=[
            lineage.GuidelineFacts(event.body["number"], event.digest_after or "", event.time, event.body["page_count"])
            for event in events
            if event.action == "guideline.published"
        ],
        releases=list(_releases(events, standing, recalled)),
        findings=[
            lineage.FindingFacts(event.body["kind"], event.subject, event.reason, event.time)
            for event in events
            if event.action == "finding"
        ],
        answers_by_day=_answers_by_day(versions),
        names=_names(run, persons),
        accounts=_accounts(run),
        ledger_head=lineage.LedgerHead(told[-1].seq, told[-1].hash) if told else None,
    )


def _versions(
    run: Run,
    project: Project,
    events: Iterable[Event],
    standing: Mapping[str, Event],
    recalled: Mapping[str, Event],
) -> Iterator[lineage.VersionFacts]:
    origins = {event.subject: event.body["kind"] for event in events if event.action == "batch.assigned"}
    states = approval_states(run, project)
    before: str | None = None
    numbers: dict[str, int] = {}
    for record in run.ledger.versions(project.name):
        manifest = freezing.read_manifest(run.store, project.name, record.digest)
        base = manifest.base
        old = base.digest if base else before
        removed = withdrawal(run.store, project.name, record.digest)
        yield lineage.VersionFacts(
            number=record.number or 0,
            digest=record.digest,
            frozen_at=record.frozen_at or _UNTOLD,
            rows=record.row_count,
            labels=manifest.labels,
            persons={share.id: share.counted for share in manifest.persons},
            guidelines={share.digest: share.counted for share in manifest.guidelines},
            disputed=manifest.counts.disputed,
            missing=manifest.counts.missing,
            policy_digest=record.policy_digest,
            state=_state(record, states[record.digest].state, standing, recalled),
            removed_at=None if removed is None else datetime.fromisoformat(removed.at),
            origin=_origin(origins, frozen_in(run.ledger, record)),
            quality=quality_of(run.store, project, record.digest),
            changes=None if old is None else changes_since(run.store, project, old, record.digest),
            rests=f"version {numbers.get(base.digest, 0)}: {base.told}" if base else "",
        )
        before, numbers[record.digest] = record.digest, record.number or 0


def _origin(origins: Mapping[str, str], batches: Iterable[str]) -> str:
    kinds = {origins.get(f"batch:{batch}", "inbox") for batch in batches}
    return ", ".join(sorted(kinds))


def _state(record: VersionRecord, state: str, standing: Mapping[str, Event], recalled: Mapping[str, Event]) -> str:
    subject = f"version:{record.digest}"
    if state == "withdrawn":
        return "recalled" if subject in recalled and subject not in standing else state
    if subject in standing:
        return "released"
    return {"requested": "in approval"}.get(state, state)


def _decision(one: Decision, process_id: str) -> lineage.DecisionFacts:
    return lineage.DecisionFacts(
        version=one.digest,
        role=one.role,
        person=one.person or one.account,
        outcome=one.outcome,
        meaning=one.meaning,
        time=one.decided_at or _UNTOLD,
        grade=one.grade,
        signature=one.signature,
        system=one.system,
        process_id=one.process_id or process_id,
        counted=one.counts,
        reason=one.void_reason,
    )


def _releases(
    events: Iterable[Event], standing: Mapping[str, Event], recalled: Mapping[str, Event]
) -> Iterator[lineage.ReleaseFacts]:
    for event in _last_by_subject(events, "release.done").values():
        yield lineage.ReleaseFacts(
            number=event.body["number"],
            digest=event.digest_after or "",
            version=event.digest_after or "",
            released_at=event.time,
            path=event.body["path"],
            dataset=event.body["dataset"],
            recalled_at=None if event.subject in standing else recalled[event.subject].time,
        )


def _last_by_subject(events: Iterable[Event], action: str) -> dict[str, Event]:
    return {event.subject: event for event in events if event.action == action}


def _answers_by_day(versions: Iterable[lineage.VersionFacts]) -> dict[date, int]:
    days = Counter[date]()
    for version in versions:
        if version.quality is not None:
            days.update({date.fromisoformat(day): count for day, count in version.quality.answers_by_day.items()})
    return dict(days)


def _names(run: Run, persons: Iterable[str]) -> dict[str, str]:
    return {one: person.name for one in persons if (person := run.register.person(one)) is not None}


def _accounts(run: Run) -> dict[str, str]:
    """Return who is behind each account, where that is one person in all systems."""
    found: dict[str, set[str]] = {}
    for person in run.register.content.persons:
        for account in (one for accounts in person.accounts.values() for one in accounts):
            found.setdefault(account, set()).add(person.id)
    return {account: min(persons) for account, persons in found.items() if len(persons) == 1}


def _is_told(event: Event) -> bool:
    """Tell whether the report says something about an event; its own traces do not count, or it would never rest."""
    return not event.action.startswith(("report.", "gate.", "effect.")) and not event.subject.startswith("report:")
