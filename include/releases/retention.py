"""What a project keeps no longer than its retention class says, and what a legal hold keeps whatever the class says.

Looking is separate from removing. What is removed is on the ledger first, with a listing in the store that names each
object by its digest: what is missing later is told from what was lost. Nothing of a release that stands is ever due,
and nothing that is still open.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from include.base.canonical import canonical_json
from include.base.errors import InvalidInput, Refused
from include.base.store import files_below, modified
from include.datasets import withdrawals
from include.datasets.manifest import version_path
from include.decisions.state import TERMINAL, approval_states
from include.governance.records import VersionRecord
from include.projects.model import Project
from include.releases.standing import TAKEN_BACK, recallable, standing_releases
from include.run.run import Run, short

__all__ = ["Due", "apply", "due"]

Kind = Literal["version", "evidence", "quarantine"]


@dataclass(frozen=True, slots=True)
class Due:
    """Something that has been kept for as long as its class asks.

    :param kind: ``version`` (its rows; the manifest stays), ``evidence`` (a raw reply), ``quarantine`` (a report).
    :param name: the version's or the object's digest, or the report's path below the store.
    :param since: what its days are counted from, UTC.
    """

    kind: Kind
    name: str
    since: datetime


def due(run: Run, project: Project) -> Iterator[Due]:
    """Yield what the project's retention allows to remove now, legal hold or not.

    Days of a version and of its evidence are counted from the last event about the version.
    """
    closed = list(_closed_versions(run, project))
    limit = _limit(run, project.retention.versions_days)
    if limit is not None:
        for version, since in closed:
            if since < limit and not _removed(run, project, version.digest):
                yield Due("version", version.digest, since)
    limit = _limit(run, project.retention.evidence_days)
    if limit is not None:
        yield from _evidence(run, {version.digest: since for version, since in closed if since < limit})
    limit = _limit(run, project.retention.quarantine_days)
    folder = run.store.at("quarantine", project.name)
    if limit is not None and folder.exists():
        for path in sorted(files_below(folder), key=str):
            written = modified(path)
            if written is not None and written < limit:  # a store that does not say keeps everything
                name = str(path).removeprefix(f"{folder}/")
                yield Due("quarantine", f"quarantine/{project.name}/{name}", written)


def apply(run: Run, project: Project, *, person: str, reason: str) -> list[Due]:
    """Remove what is due, in the name of a person of the register; return what was removed.

    Running it again after it was killed removes the rest.

    :raises Refused: while a legal hold stands.
    :raises InvalidInput: for somebody who is not in the register, or no reason.
    """
    if project.retention.legal_hold is not None:
        raise Refused(f"nothing of {project.name} may be removed: legal hold ({project.retention.legal_hold})")
    if run.register.person(person) is None:
        raise InvalidInput(f"person: found {person!r}; allowed: the id of a person in the register")
    if not reason.strip():
        raise InvalidInput("reason: what is removed for good needs one, in words")
    found = list(due(run, project))
    if not found:
        run.log.info("Nothing of %s is due under its retention class %r.", project.name, project.retention.name)
        return []
    listing = run.store.put_object(canonical_json([_as_json(one) for one in found]))
    counts = Counter(one.kind for one in found)
    run.note(
        "retention.applied",
        project.name,
        f"project:{project.name}",
        key=listing,
        actor=person,
        after=listing,
        reason=reason,
        body={"class": project.retention.name, "listing": listing, **{f"{kind}s": n for kind, n in counts.items()}},
    )
    for one in found:
        _remove(run, project, one, person, reason)
    told = ", ".join(f"{n} {kind}(s)" for kind, n in sorted(counts.items()))
    run.log.info("Removed from %s by %s: %s (listing %s).", project.name, person, told, short(listing))
    return found


def _removed(run: Run, project: Project, digest: str) -> bool:
    """Tell whether a version's rows are gone. The record of it comes first: a killed removal leaves files."""
    record = withdrawals.withdrawal(run.store, project, digest)
    folder = version_path(run.store, project, digest)
    return record is not None and not any((folder / one.name).exists() for one in record.removed)


def _closed_versions(run: Run, project: Project) -> Iterator[tuple[VersionRecord, datetime]]:
    """Yield the versions that nothing waits for and no standing release is of, with their last event's time."""
    standing, recall = standing_releases(run.ledger, project.name), recallable(run, project)
    states = approval_states(run, project)
    last: dict[str, datetime] = {}
    for event in run.ledger.events(project=project.name):
        if event.subject.startswith("version:") and not event.action.startswith(("report.", "finding", "effect.")):
            last[event.subject] = event.time
    for version in run.ledger.versions(project.name):
        subject, state = f"version:{version.digest}", states[version.digest].state
        waits_for_release = state == "approved" and subject not in standing
        if state not in TERMINAL or subject in standing or waits_for_release:
            continue
        if state in TAKEN_BACK and subject in recall:
            continue  # to be recalled first
        yield version, last[subject]


def _evidence(run: Run, closed: dict[str, datetime]) -> Iterator[Due]:
    """Yield the raw replies that prove decisions on closed versions alone."""
    wanted: dict[str, datetime] = {}
    kept: set[str] = set()
    for decision in run.ledger.decisions():
        if decision.raw_digest and decision.digest in closed:
            wanted[decision.raw_digest] = max(closed[decision.digest], wanted.get(decision.raw_digest, _EARLIEST))
        elif decision.raw_digest:
            kept.add(decision.raw_digest)
    for digest, since in sorted(wanted.items()):
        if digest not in kept and run.store.has_object(digest):
            yield Due("evidence", digest, since)


_EARLIEST = datetime.min.replace(tzinfo=UTC)


def _limit(run: Run, days: int | None) -> datetime | None:
    return None if days is None else run.now() - timedelta(days=days)


def _remove(run: Run, project: Project, one: Due, person: str, reason: str) -> None:
    if one.kind == "version":
        withdrawals.withdraw(run.store, project, one.name, person=person, reason=reason, at=run.now())
        return
    place = run.store.object_path(one.name) if one.kind == "evidence" else run.store.at(*one.name.split("/"))
    if place.exists():
        place.unlink()


def _as_json(one: Due) -> dict[str, Any]:
    return {**asdict(one), "since": one.since.isoformat()}
