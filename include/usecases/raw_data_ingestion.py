"""From raw files to tasks in the project's inbox: the good part goes on, the rest is set aside with its reason."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from include.base.canonical import canonical_json
from include.base.store import StorePath, measure, read_json
from include.governance.records import SourceRecord
from include.ingestion import quarantine
from include.ingestion.pipeline import ingest
from include.ingestion.scan import scan
from include.projects.model import Project
from include.queues.batches import assign
from include.run.gates import require_gate
from include.run.run import ItemResult, Run, event_key, short
from include.systems.prodigy.values import ProdigyGateway

__all__ = ["load", "read"]

USE_CASE = "raw_data_ingestion"


def _scope(project: Project) -> str:
    return f"{USE_CASE}:{project.name}"


def read(run: Run, project: Project, location: StorePath) -> dict[str, Any] | None:
    """Read the files that are new or changed and stage what they hold; None when there are none.

    :return: ``staged`` (the tasks, None where there is none), ``sources``, ``bad``, ``seen`` (paths) and ``digest``.
    """
    state = run.ledger.sync_state(_scope(project)) or {}
    found = scan(location, project.source.routes, state.get("seen"))
    subject = f"source:{project.name}"
    run.findings(project.name, subject, (("unreadable file", f"{path}: {why}") for path, why in found.errors))
    run.log.info(
        "Looked at %s: %d file(s) new or changed, %d unchanged, %d skipped by routes, %d gone, %d not readable now.",
        location, len(found.new_or_changed), found.unchanged, len(found.skipped), len(found.gone), len(found.errors),
    )  # fmt: skip
    if not found.new_or_changed:
        if found.seen != state.get("seen", {}):
            run.ledger.save_sync_state(_scope(project), {"seen": found.seen})
        return None
    taken = ingest(project, found.new_or_changed, known=None, staging=run.staging)
    run.findings(project.name, subject, taken.findings)
    seen = {path: mark for path, mark in found.seen.items() if path not in taken.failed}
    kept = run.staged("seen.json")
    kept.write_bytes(canonical_json({"seen": seen}))
    run.log.info(
        "Read %d file(s): %d good record(s) make %d task(s), %d say what another says; %d set aside as malformed.",
        taken.counts["files"], taken.counts["records"], taken.counts["tasks"], taken.counts["duplicates"],
        taken.counts["bad"],
    )  # fmt: skip
    return {
        "staged": str(taken.tasks) if taken.counts["tasks"] else None,
        "sources": str(taken.sources),
        "bad": str(taken.bad),
        "seen": str(kept),
        "digest": measure(taken.tasks).sha256,
        "counts": taken.counts,
    }


def load(
    run: Run,
    project: Project,
    given: Mapping[str, Any],
    gate: Mapping[str, Any] | None,
    prodigy: ProdigyGateway,
    open_path: Any,
) -> ItemResult:
    """Put rejects into quarantine, tasks into the inbox, provenance on record, and cut the inbox into batches.

    :raises Refused: when the gate left no result.
    """
    subject = f"source:{project.name}"
    counts = given["counts"]
    key = [given["digest"], run.ref.run_id]
    told = run.ledger.find(event_key("source.read", project.name, subject, key))
    if told is not None:
        # An earlier try of this run did it all and was killed before it could say so.
        return _result(run, project, told.body)
    effect = run.claim(USE_CASE, project.name, subject, given["digest"])
    created = 0
    if counts["bad"]:
        effect.check()
        kept = quarantine.put(run.store, project, USE_CASE, _lines(open_path(given["bad"])), run.ref.text)
        created += run.note(
            "quarantine.kept", project.name, subject, key=["kept", kept.name],
            body={"entries": counts["bad"], "path": f"quarantine/{project.name}/{USE_CASE}/{kept.name}"},
        )  # fmt: skip
        run.log.warning("%d malformed record(s) or file(s) are in %s, each with its reason.", counts["bad"], kept)
    inserted = present = 0
    if given["staged"]:
        require_gate(run, project, subject, "raw_tasks", gate, given["digest"])
        passed = (gate or {}).get("passed") or given["staged"]
        effect.check()
        added = prodigy.add_tasks(project.inbox, _guarded(_lines(open_path(passed)), effect))
        inserted, present = added.inserted, added.present
        run.ledger.record_sources(
            project.name,
            (
                SourceRecord(one["task_id"], one["file"], one["record"], one["sha256"])
                for one in _lines(open_path(given["sources"]))
            ),
        )
    batches = assign(run, project, prodigy, effect)
    created += inserted + batches
    body = {**counts, "inserted": inserted, "present": present, "batches": batches, "created": created}
    run.finish(
        effect,
        run.event("source.read", project.name, subject, after=given["digest"], body=body),
        key,
        f"dataset:{project.inbox}",
        created=created,
        detail=f"{inserted} tasks, {batches} batches",
        states={_scope(project): read_json(open_path(given["seen"]))},
    )
    run.log.info("Content %s of %s is in.", short(given["digest"]), subject)
    return _result(run, project, body)


def _result(run: Run, project: Project, body: Mapping[str, int]) -> ItemResult:
    inserted, present, batches = body["inserted"], body["present"], body["batches"]
    sentence = (
        f"{inserted} task(s) added to {project.inbox}, {present} there already, {body['bad']} in quarantine, "
        f"{batches} new batch(es)"
    )
    run.log.info("%s.", sentence)
    return ItemResult(
        project=project.name,
        subject=f"source:{project.name}",
        state="loaded",
        sentence=sentence,
        created=body["created"],
        changed=bool(inserted),
        where=f"dataset {project.inbox}",
        detail={"inserted": inserted, "present": present, "quarantined": body["bad"], "batches": batches},
    )


def _guarded(tasks: Iterator[dict[str, Any]], effect: Any) -> Iterator[dict[str, Any]]:
    """Look before every batch of rows whether a newer try has taken over."""
    for number, task in enumerate(tasks):
        if number % 1000 == 0:
            effect.check()
        yield task


def _lines(path: StorePath) -> Iterator[dict[str, Any]]:
    with path.open("rb") as lines:
        for line in lines:
            yield json.loads(line)
