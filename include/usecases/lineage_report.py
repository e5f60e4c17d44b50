"""One Confluence page per project that says who labelled, reviewed and approved what, built from the ledger alone."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, date, datetime
from typing import Any

from include.agreement.measurements import changes_since, quality_of
from include.base.canonical import canonical_json, sha256_hex
from include.base.errors import LabelopsError, NotFound, Refused, Unsupported
from include.datasets import freeze as freezing
from include.datasets.withdrawals import withdrawal
from include.governance.checkpoint import last_note
from include.governance.records import Event
from include.guidelines import storage
from include.projects.model import Project
from include.releases.standing import standing_releases
from include.reporting import lineage
from include.run.gates import require_gate
from include.run.run import ItemResult, Run, WorkItem, short
from include.systems.confluence.values import ConfluenceGateway, Page
from include.systems.opentext.values import OpenTextGateway
from include.systems.prodigy.values import ProdigyGateway
from include.usecases.dataset_release import source_drift
from include.usecases.labeling_approval import approval_states

__all__ = ["build", "comment", "facts", "pending", "publish"]

USE_CASE = "lineage_report"
PROPERTY = "labelops"
"""Key of the content property that says which pages are ours."""

CHECKPOINT = "labelops_checkpoint"
"""Key of the content property that holds the newest signed checkpoint of the ledger when the page was written."""


def pending(run: Run, project: Project) -> Iterator[WorkItem]:
    """Yield the project's report, once there is anything to report."""
    if run.ledger.versions(project.name):
        yield WorkItem(project.name, f"report:{project.name}")


def facts(run: Run, project: Project) -> lineage.LineageFacts:
    """Gather from the ledger and the manifests what the report says."""
    events = list(run.ledger.events(project=project.name))
    standing = standing_releases(run, project)
    recalled = {event.subject: event for event in events if event.action == "release.recalled"}
    processes = {event.subject: event.body["process_id"] for event in events if event.action == "approval.requested"}
    states = approval_states(run, project)
    versions, decisions, days = [], [], Counter[date]()
    before: str | None = None
    origins = {event.subject: event.body["kind"] for event in events if event.action == "batch.assigned"}
    for record in run.ledger.versions(project.name):
        manifest = freezing.read_manifest(run.store, project.name, record.digest)
        state = states[record.digest].state
        subject = f"version:{record.digest}"
        removed = withdrawal(run.store, project.name, record.digest)
        quality = quality_of(run.store, project, record.digest)
        versions.append(
            lineage.VersionFacts(
                number=record.number or 0,
                digest=record.digest,
                batch=record.batch,
                frozen_at=record.frozen_at or datetime.fromtimestamp(0, UTC),
                rows=record.row_count,
                labels=manifest.labels,
                persons={share.id: share.counted for share in manifest.persons},
                guidelines={share.digest: share.counted for share in manifest.guidelines},
                disputed=manifest.counts.disputed,
                missing=manifest.counts.missing,
                policy_digest=record.policy_digest,
                state=_state(state, subject, standing, recalled),
                removed_at=None if removed is None else datetime.fromisoformat(removed.at),
                origin=origins.get(f"batch:{record.batch}", "inbox"),
                quality=quality,
                changes=None if before is None else changes_since(run.store, project, before, record.digest),
            )
        )
        before = record.digest
        if quality is not None:
            days.update({date.fromisoformat(day): count for day, count in quality.answers_by_day.items()})
        decisions += [
            lineage.DecisionFacts(
                version=record.digest,
                role=one.role,
                person=one.person or one.account,
                outcome=one.outcome,
                meaning=one.meaning,
                time=one.decided_at or datetime.fromtimestamp(0, UTC),
                grade=one.grade,
                signature=one.signature,
                system=one.system,
                process_id=one.process_id or processes.get(subject, ""),
                counted=one.counts,
                reason=one.void_reason,
            )
            for one in run.ledger.decisions(record.digest)
        ]
    told = [event for event in events if _is_told(event)]
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
        releases=[
            lineage.ReleaseFacts(
                number=event.body["number"],
                digest=event.digest_after or "",
                version=event.digest_after or "",
                released_at=event.time,
                path=event.body["path"],
                dataset=event.body["dataset"],
                recalled_at=None if event.subject in standing else recalled[event.subject].time,
            )
            for event in {event.subject: event for event in events if event.action == "release.done"}.values()
        ],
        findings=[
            lineage.FindingFacts(event.body["kind"], event.subject, event.reason, event.time)
            for event in events
            if event.action == "finding"
        ],
        answers_by_day=dict(days),
        names=_names(run, {one.person for one in decisions} | {one for each in versions for one in each.persons}),
        ledger_head=lineage.LedgerHead(told[-1].seq, told[-1].hash) if told else None,
    )


def _names(run: Run, persons: Iterable[str]) -> dict[str, str]:
    return {one: person.name for one in persons if (person := run.register.person(one)) is not None}


def _state(state: str, subject: str, standing: Collection[str], recalled: Collection[str]) -> str:
    if state == "withdrawn":
        return "recalled" if subject in recalled and subject not in standing else state
    if subject in standing:
        return "released"
    return {"requested": "in approval"}.get(state, state)


def build(run: Run, project: Project, prodigy: ProdigyGateway) -> dict[str, Any]:
    """Build the page, look for answers changed since they were seen, and stage both for the gate."""
    for record in run.ledger.versions(project.name):
        for drift in source_drift(run, project, record.digest, prodigy):
            run.finding(project.name, f"version:{record.digest}", "answer changed", drift)
    known = facts(run, project)
    page = lineage.build(known, exposure=project.policy.confluence_exposure)
    kept = run.staged("page.json")
    kept.write_bytes(
        canonical_json(
            {
                "title": page.title,
                "body": page.body_storage,
                "charts": [
                    {"name": one.name, "media_type": one.media_type, "content": base64.b64encode(one.content).decode()}
                    for one in page.charts
                ],
            }
        )
    )
    staged = run.staged("report.jsonl")
    staged.write_bytes(
        b"".join(
            canonical_json(
                {
                    "row_id": f"v{one.number}",
                    "digest": one.digest,
                    "rows": one.rows,
                    "persons": len(one.persons),
                    "state": one.state,
                    "approvals": sum(each.version == one.digest and each.counted for each in known.decisions),
                    "body_kilobytes": len(page.body_storage.encode("utf-8")) // 1024,
                }
            )
            + b"\n"
            for one in known.versions
        )
    )
    digest = storage.digest(page.body_storage)
    run.log.info(
        "Built the report of %s: %d version(s), %d decision(s), %d release(s), page digest %s.",
        project.name, len(known.versions), len(known.decisions), len(known.releases), short(digest),
    )  # fmt: skip
    return {"staged": str(staged), "page": str(kept), "digest": digest}


def publish(
    run: Run,
    project: Project,
    given: dict[str, Any] | None,
    gate: dict[str, Any] | None,
    confluence: ConfluenceGateway,
    open_path: Any,
) -> ItemResult:
    """Write the page if its canonical storage or a chart differs, and only a page that we created.

    :raises Refused: when the build or the gate left no result, a page of that title is somebody else's, or somebody
        edited our page since we wrote it: their text is never overwritten.
    :raises Conflict: when somebody edits the page while we do.
    """
    if not given:
        raise Refused(f"report of {project.name}: nothing was built, so nothing is published")
    subject = f"report:{project.name}"
    require_gate(run, project, subject, "report", gate, given["digest"])
    report = json.loads(open_path(given["page"]).read_bytes())
    charts = [(one["name"], one["media_type"], base64.b64decode(one["content"])) for one in report["charts"]]
    digest = sha256_hex(canonical_json([given["digest"], [sha256_hex(content) for _, _, content in charts]]))
    scope = f"{USE_CASE}:{project.name}"
    state = run.ledger.sync_state(scope) or {}
    page = _find(project, report["title"], state, confluence)
    created = updated = 0
    same = page is not None and storage.equal(page.body or "", report["body"])
    if page is None or not same or state.get("digest") != digest:
        effect = run.claim(USE_CASE, project.name, subject, digest)
        effect.check()
        # What the page tells is vouched for outside our reach before it is told.
        run.ledger.write_checkpoint(run.store, run.signer)
        if page is None:
            page, created = _create(project, report, confluence), 1
        elif not same:
            page, updated = _update(page, report, confluence), 1
        for name, media_type, content in charts:
            effect.check()
            attached, sent = confluence.upload(page.id, name, content, media_type)
            created += int(sent and attached.version == 1)
            updated += int(sent and attached.version > 1)
        effect.check()
        _vouch(run, page, confluence)
        run.finish(
            effect,
            run.event(
                "report.published",
                project.name,
                subject,
                before=state.get("digest"),
                after=digest,
                body={"page": page.id, "version": page.version.number},
            ),
            # Somebody may restore an older text in Confluence: writing ours again is a new version of the page.
            [digest, page.id, page.version.number],
            page.id,
            created=created,
            updated=updated,
            detail=f"page version {page.version.number}",
            states={scope: {"digest": digest, "page": page.id, "version": page.version.number}},
        )
    url = confluence.page_url(page)
    sentence = (
        f"The page is at version {page.version.number}" if created or updated else "The page says so already, unchanged"
    )
    run.log.info("%s: %s (%s).", subject, sentence, url)
    return ItemResult(
        project=project.name,
        subject=subject,
        state="published" if created or updated else "unchanged",
        sentence=sentence,
        created=created,
        updated=updated,
        changed=bool(created or updated),
        where=url,
        detail={"page": page.id, "digest": digest},
    )


def comment(run: Run, project: Project, result: ItemResult, opentext: OpenTextGateway) -> ItemResult:
    """Put the report's summary on the process of each released version, once; some tenants refuse it once it ended."""
    summary = None
    for event in run.ledger.events(project=project.name, actions=["release.done"]):
        digest, effect_name = event.digest_after or "", f"{USE_CASE}.comment"
        if run.done(effect_name, project.name, event.subject, digest) is not None:
            continue
        requested = [
            one
            for action in ("approval.requested", "release.requested")
            for one in run.ledger.events(subject=event.subject, actions=[action])
        ]
        if not requested:
            continue
        process_id = requested[-1].body["process_id"]
        effect = run.claim(effect_name, project.name, event.subject, digest)
        if summary is None:
            # Built now: the release may be younger than the page.
            summary = lineage.summary_text(facts(run, project), exposure=project.policy.opentext_exposure)
        sent = 0
        mark = f"Lineage of dataset version {event.body['number']} ({short(digest)})"
        try:
            if not any(one.message.startswith(mark) for one in opentext.comments(process_id)):
                effect.check()
                opentext.add_comment(process_id, f"{mark}: {result.where}\n\n{summary}"[:3900])
                sent = 1
        except (Unsupported, NotFound) as error:
            run.finding(project.name, event.subject, "no comment on an ended process", str(error))
        effect.done(process_id, created=sent, updated=0, detail="comment")
        run.log.info(
            "%s on process %s.", "Put a summary" if sent else "There is a summary, or can be none,", process_id
        )
        result.created += sent
    return result


def _find(project: Project, title: str, state: dict[str, Any], confluence: ConfluenceGateway) -> Page | None:
    """Return our page, by the id we remember or by its title; None where there is none, or it was removed.

    :raises Refused: when a page of that title is somebody else's.
    """
    page = None
    if state.get("page"):
        with suppress(NotFound):
            page = confluence.page(state["page"])
    if page is None or page.status != "current":
        page = confluence.find_page(confluence.space(project.confluence.space).id, title)
    if page is None or page.status != "current":
        return None
    _require_ours(project, page, confluence)
    return page


def _create(project: Project, report: dict[str, Any], confluence: ConfluenceGateway) -> Page:
    space = confluence.space(project.confluence.space)
    parent = _parent(project, space.id, confluence)
    page = confluence.create_page(space.id, report["title"], report["body"], parent_id=parent)
    confluence.set_property(page.id, PROPERTY, _mark(project), None)
    return page


def _update(page: Page, report: dict[str, Any], confluence: ConfluenceGateway) -> Page:
    if page.version.author_id != confluence.current_user().account_id:
        raise Refused(
            f"somebody edited the page {page.title!r} ({page.id}) since we wrote it: move their text to a page of "
            "their own and restore ours from its history"
        )
    return confluence.update_page(page, body=report["body"], message="Labelops lineage report")


def _vouch(run: Run, page: Page, confluence: ConfluenceGateway) -> None:
    """Put the newest signed checkpoint on the page, in a property, where the ledger's keeper cannot quietly replace it.

    Without a signing key there is none: an unsigned one would prove nothing.
    """
    note = last_note(run.store)
    if note is None:
        run.log.warning("No checkpoint of the ledger is signed, so the page %s carries none.", page.id)
        return
    before = confluence.property(page.id, CHECKPOINT)
    if before is None or before.value != {"note": note}:
        confluence.set_property(page.id, CHECKPOINT, {"note": note}, before)
        run.log.info("The page %s carries the signed checkpoint %s.", page.id, " ".join(note.splitlines()[:2]))


def _require_ours(project: Project, page: Page, confluence: ConfluenceGateway) -> None:
    """Refuse a page that we did not create; one we created and were killed before marking is marked now."""
    mine = confluence.property(page.id, PROPERTY)
    if mine is None:
        if page.author_id != confluence.current_user().account_id or page.version.number != 1:
            raise Refused(
                f"the page {page.title!r} ({page.id}) exists and is not ours: rename it, or the project's title"
            )
        mine = confluence.set_property(page.id, PROPERTY, _mark(project), None)
    if mine.value != _mark(project):
        raise Refused(f"the page {page.title!r} ({page.id}) is ours for something else: {str(mine.value)[:120]}")


def _mark(project: Project) -> dict[str, str]:
    return {"project": project.name, "kind": "lineage report"}


def _parent(project: Project, space_id: str, confluence: ConfluenceGateway) -> str | None:
    if project.confluence.report_parent is None:
        return None
    parent = confluence.find_page(space_id, project.confluence.report_parent)
    if parent is None:
        raise LabelopsError(
            f"confluence.report_parent: no page {project.confluence.report_parent!r} in {project.confluence.space}"
        )
    return parent.id


def _is_told(event: Event) -> bool:
    """Tell whether the report says something about an event; its own traces do not count, or it would never rest."""
    return not event.action.startswith(("report.", "gate.", "effect.")) and not event.subject.startswith("report:")
