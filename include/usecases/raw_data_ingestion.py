"""From raw files to tasks in the project's inbox: the good part goes on, the rest is set aside with its reason."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from include.base.canonical import canonical_json, digest_of
from include.base.store import StorePath, atomic_write, measure, read_json
from include.decisions.eligible import nobody_for
from include.governance.records import SourceRecord
from include.ingestion import quarantine
from include.ingestion.pipeline import ingest
from include.ingestion.scan import ScanResult, scan
from include.projects.model import Project
from include.queues.batches import assign
from include.run.gates import passed_rows, require_gate
from include.run.run import Effect, ItemResult, NothingToDo, Run, WorkItem, event_key, short
from include.systems.prodigy.client import ProdigyClient

__all__ = ["Taken", "load", "pending", "read"]

USE_CASE = "raw_data_ingestion"

SEEN_BYTES = 1024**3
"""Bytes of the list of all files of a source, at some hundred a file."""

REJECTED = "rejected_under"
"""In what is known of a file of which something was set aside: the digest of the project's ``source`` at that time."""


@dataclass(frozen=True)
class Taken:
    """What the new files hold: paths of the tasks (None where there is none), their sources, the rejects, the files.

    :param digest: of the tasks.
    :param counts: ``files``, ``records``, ``tasks``, ``duplicates``, ``bad``, and ``unreadable``: what could not be
        taken this time.
    """

    staged: str | None
    sources: str
    bad: str
    seen: str
    digest: str
    counts: dict[str, int]


def pending(run: Run, project: Project) -> Iterator[WorkItem]:
    """Yield the project's source, and tell early which people are missing to decide on what comes of it."""
    lacking = nobody_for(project, run.register, run.now())
    run.findings(project.name, f"project:{project.name}", (("people missing", one) for one in lacking))
    yield WorkItem(project.name, f"source:{project.name}", "source files")


def read(run: Run, project: Project, item: WorkItem, source: StorePath) -> Taken:
    """Read the files that are new or changed and stage what they hold.

    :param source: the folder or bucket that they are in.
    :raises NothingToDo: when there are none.
    """
    known = (run.ledger.sync_state(_scope(project)) or {}).get("seen") or {}
    rules = digest_of(project.source.model_dump(mode="json"))
    # What was set aside under other rules is read again: they may have been changed for its sake.
    current = {path: mark for path, mark in known.items() if mark.get(REJECTED, rules) == rules}
    found = scan(source, project.source.routes, current, max_file_megabytes=project.source.max_file_megabytes)
    _tell_found(run, project, item, source, found)
    if not found.new_or_changed:
        if found.seen != known:
            run.ledger.save_sync_state(_scope(project), {"seen": found.seen})
        unread = f" {len(found.errors)} could not be read; see the findings." if found.errors else ""
        raise NothingToDo(f"No file under {source} is new or changed.{unread}")
    taken = ingest(project, found.new_or_changed, known=None, staging=run.staging)
    run.findings(project.name, item.subject, taken.findings)
    seen = {
        path: {**mark, REJECTED: rules} if path in taken.rejected else mark
        for path, mark in found.seen.items()
        if path not in taken.failed
    }
    kept, counts = run.staged("seen.json"), taken.counts
    counts["unreadable"] = len(found.errors) + len(taken.failed)
    atomic_write(kept, canonical_json({"seen": seen}))
    run.log.info(
        f"Read {counts['files']} file(s): {counts['records']} good record(s) make {counts['tasks']} task(s), "
        f"{counts['duplicates']} say what another says; {counts['bad']} set aside as malformed."
    )
    return Taken(
        staged=str(taken.tasks) if counts["tasks"] else None,
        sources=str(taken.sources),
        bad=str(taken.bad),
        seen=str(kept),
        digest=measure(taken.tasks).sha256,
        counts=counts,
    )


def _tell_found(run: Run, project: Project, item: WorkItem, source: StorePath, found: ScanResult) -> None:
    run.findings(project.name, item.subject, (("unreadable file", f"{path}: {why}") for path, why in found.errors))
    run.log.info(
        f"Looked at {source}: {len(found.new_or_changed)} file(s) new or changed, {found.unchanged} unchanged, "
        f"{len(found.skipped)} skipped by routes, {len(found.gone)} gone, {len(found.errors)} not readable now."
    )


def load(
    run: Run,
    project: Project,
    item: WorkItem,
    given: Taken | None,
    gate: Mapping[str, Any] | None,
    prodigy: ProdigyClient,
) -> ItemResult:
    """Put rejects into quarantine, tasks into the inbox, provenance on record, and cut the inbox into batches.

    :raises Refused: when the gate left no result.
    """
    if given is None:
        raise NothingToDo(f"Nothing was read for {project.name}, so nothing is loaded.")
    key = [given.digest, run.ref.run_id]
    told = run.ledger.find(event_key("source.read", project.name, item.subject, key))
    if told is not None:
        # An earlier try of this run did it all and was killed before it could say so.
        return _result(run, project, item, told.body)
    with run.effect(USE_CASE, project.name, item.subject, given.digest) as effect:
        effect.begin()
        rejected = _set_aside(run, project, given, effect) if given.counts["bad"] else 0
        inserted = present = 0
        if given.staged:
            require_gate(run, project, item.subject, "raw_tasks", gate, given.digest, lambda: given.digest)
            passed = passed_rows(run, project, item.subject, "raw_tasks", gate)
            effect.check()
            inserted, present = _insert(run, project, given, passed, effect, prodigy)
        batches = assign(run, project, prodigy, effect)
        created = rejected + inserted + batches
        body = {**given.counts, "inserted": inserted, "present": present, "batches": batches, "created": created}
        effect.finish(
            "source.read",
            key,
            f"dataset:{project.inbox}",
            created=created,
            detail=f"{inserted} tasks, {batches} batches",
            states={_scope(project): read_json(run.locate(given.seen), SEEN_BYTES)},
            after=given.digest,
            body=body,
        )
    run.log.info(f"Content {short(given.digest)} of {item.subject} is in.")
    return _result(run, project, item, body)


def _set_aside(run: Run, project: Project, given: Taken, effect: Effect) -> int:
    """Put the rejects into quarantine, each with its reason; return how many files that made."""
    effect.check()
    bad = given.counts["bad"]
    kept = quarantine.put(run.store, project, USE_CASE, _lines(run.locate(given.bad)), run.ref.text)
    run.log.warning(f"{bad} malformed record(s) or file(s) are in {kept}, each with its reason.")
    body = {"entries": bad, "path": f"quarantine/{project.name}/{USE_CASE}/{kept.name}"}
    return int(run.note("quarantine.kept", project.name, effect.subject, key=["kept", kept.name], body=body))


def _insert(
    run: Run, project: Project, given: Taken, passed: StorePath, effect: Effect, prodigy: ProdigyClient
) -> tuple[int, int]:
    """Put the tasks that passed the gate into the inbox; return how many were new, and how many were there."""
    added = prodigy.add_tasks(project.inbox, _guarded(_lines(passed), effect))
    records = (
        SourceRecord(one["task_id"], one["file"], one["record"], one["sha256"])
        for one in _lines(run.locate(given.sources))
    )
    run.ledger.record_sources(project.name, records)
    return added.inserted, added.present


def _scope(project: Project) -> str:
    return f"{USE_CASE}:{project.name}"


def _result(run: Run, project: Project, item: WorkItem, body: Mapping[str, int]) -> ItemResult:
    inserted, present, batches = body["inserted"], body["present"], body["batches"]
    sentence = (
        f"{inserted} task(s) added to {project.inbox}, {present} there already, {body['bad']} in quarantine, "
        f"{batches} new batch(es)"
    )
    unreadable = body.get("unreadable", 0)
    if unreadable:
        sentence += f"; {unreadable} file(s) could not be read and are tried again"
    run.log.info(f"{sentence}.")
    return item.result(
        "loaded",
        sentence,
        created=body["created"],
        changed=bool(inserted),
        where=f"dataset {project.inbox}",
        detail={
            "inserted": inserted,
            "present": present,
            "quarantined": body["bad"],
            "unreadable": unreadable,
            "batches": batches,
        },
    )


def _guarded(tasks: Iterator[dict[str, Any]], effect: Effect) -> Iterator[dict[str, Any]]:
    """Look before every batch of rows whether a newer try has taken over."""
    for number, task in enumerate(tasks):
        if number % 1000 == 0:
            effect.check()
        yield task


def _lines(path: StorePath) -> Iterator[dict[str, Any]]:
    with path.open("rb") as lines:
        for line in lines:
            yield json.loads(line)
