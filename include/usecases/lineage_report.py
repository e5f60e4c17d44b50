"""One Confluence page per project that says who labelled, reviewed and approved what, built from the ledger alone."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from include.base.canonical import canonical_json, sha256_hex
from include.base.errors import NotFound, Unsupported
from include.base.store import atomic_write, measure
from include.datasets.drift import note_drift, source_drift
from include.governance.checkpoint import last_note, write_checkpoint
from include.pages.owned import OwnedPage, find, write
from include.projects.model import Project
from include.reporting import lineage
from include.reporting.gather import facts
from include.run.gates import require_gate
from include.run.run import Effect, ItemResult, Run, WorkItem, short
from include.systems.confluence import storage
from include.systems.confluence.client import ConfluenceClient
from include.systems.confluence.values import Page
from include.systems.opentext.client import OpenTextClient
from include.systems.prodigy.client import ProdigyClient

__all__ = ["Built", "build", "comment", "pending", "publish"]

USE_CASE = "lineage_report"
CHECKPOINT = "labelops_checkpoint"
"""Key of the content property that holds the newest signed checkpoint of the ledger when the page was written."""


@dataclass(frozen=True)
class Built:
    """The report: ``staged`` holds a row for each version for the gate, ``page`` the page and its charts.

    :param digest: of the page's canonical storage.
    """

    staged: str
    page: str
    digest: str


def pending(run: Run, project: Project) -> Iterator[WorkItem]:
    """Yield the project's report, once there is anything to report."""
    if run.ledger.versions(project.name):
        yield WorkItem(project.name, f"report:{project.name}", "lineage report")


def build(run: Run, project: Project, prodigy: ProdigyClient) -> Built:
    """Build the page, look for answers changed since they were seen, and stage both for the gate."""
    for record in run.ledger.versions(project.name):
        note_drift(run, project, record.digest, source_drift(run, project, record.digest, prodigy))
    known = facts(run, project)
    page = lineage.build(known, exposure=project.policy.confluence_exposure)
    charts = [
        {"name": one.name, "media_type": one.media_type, "content": base64.b64encode(one.content).decode()}
        for one in page.charts
    ]
    kept = run.staged("page.json")
    atomic_write(kept, canonical_json({"title": page.title, "body": page.body_storage, "charts": charts}))
    staged = run.stage("report.jsonl", _rows(known, page))
    digest = storage.digest(page.body_storage)
    run.log.info(
        f"Built the report of {project.name}: {len(known.versions)} version(s), {len(known.decisions)} decision(s), "
        f"{len(known.releases)} release(s), page digest {short(digest)}."
    )
    return Built(staged, str(kept), digest)


def _rows(known: lineage.LineageFacts, page: lineage.ReportPage) -> Iterator[dict[str, Any]]:
    """Yield what the gate looks at, a row for each version."""
    for one in known.versions:
        yield {
            "row_id": f"v{one.number}",
            "digest": one.digest,
            "rows": one.rows,
            "persons": len(one.persons),
            "state": one.state,
            "approvals": sum(each.version == one.digest and each.counted for each in known.decisions),
            "body_kilobytes": len(page.body_storage.encode("utf-8")) // 1024,
        }


def publish(
    run: Run,
    project: Project,
    item: WorkItem,
    given: Built,
    gate: Mapping[str, Any] | None,
    confluence: ConfluenceClient,
) -> ItemResult:
    """Write the page if its canonical storage or a chart differs, and only a page that we created.

    :raises Refused: when the gate left no result, a page of that title is somebody else's, or somebody edited our page
        since we wrote it: their text is never overwritten.
    :raises Conflict: when somebody edits the page while we do.
    """
    require_gate(
        run, project, item.subject, "report", gate, given.digest, lambda: measure(run.locate(given.staged)).sha256
    )
    report = json.loads(run.locate(given.page).read_bytes())
    charts = [(one["name"], one["media_type"], base64.b64decode(one["content"])) for one in report["charts"]]
    digest = sha256_hex(canonical_json([given.digest, [sha256_hex(content) for _, _, content in charts]]))
    scope = f"{USE_CASE}:{project.name}"
    state = run.ledger.sync_state(scope) or {}
    wanted = OwnedPage(project, "lineage report", report["title"], report["body"], files=tuple(charts))
    page = find(wanted, state.get("page"), confluence)
    created = updated = 0
    same = page is not None and storage.equal(page.body or "", report["body"])
    if page is None or not same or state.get("digest") != digest:
        with run.effect(USE_CASE, project.name, item.subject, digest) as effect:
            effect.check()
            # What the page tells is on an outside checkpoint before it is told.
            write_checkpoint(run.ledger, run.store, run.signer)
            page, created, updated = write(effect, wanted, page, confluence)
            _put_checkpoint(run, page, confluence)
            written_as = {"page": page.id, "version": page.version.number}
            effect.finish(
                "report.published",
                # Somebody may restore an older text in Confluence: writing ours again is a new version of the page.
                [digest, page.id, page.version.number],
                page.id,
                created=created,
                updated=updated,
                detail=f"page version {page.version.number}",
                states={scope: {"digest": digest, **written_as}},
                before=state.get("digest"),
                after=digest,
                body=written_as,
            )
    url, written = confluence.page_url(page), bool(created or updated)
    sentence = f"The page is at version {page.version.number}" if written else "The page says so already, unchanged"
    run.log.info(f"{item.subject}: {sentence} ({url}).")
    return item.result(
        "published" if written else "unchanged",
        sentence,
        created=created,
        updated=updated,
        changed=written,
        where=url,
        detail={"page": page.id, "digest": digest},
    )


def comment(run: Run, project: Project, given: ItemResult, opentext: OpenTextClient) -> ItemResult:
    """Put the report's summary on the process of each released version, once; some tenants refuse it once it ended."""
    summary: str | None = None
    for event in run.ledger.events(project=project.name, actions=["release.done"]):
        with run.effect(f"{USE_CASE}.comment", project.name, event.subject, event.digest_after or "") as effect:
            if effect.done is not None:
                continue
            asked = run.last(event.subject, "release.requested") or run.last(event.subject, "approval.requested")
            if asked is None:
                continue
            effect.begin()
            if summary is None:
                # Built now: the release may be younger than the page.
                summary = lineage.summary_text(facts(run, project), exposure=project.policy.opentext_exposure)
            mark = f"Lineage of dataset version {event.body['number']} ({short(event.digest_after or '')})"
            process_id, text = asked.body["process_id"], f"{given.where}\n\n{summary}"
            sent = _comment(effect, process_id, mark, text, opentext)
            if sent is None:
                effect.leave()
                run.log.info(f"Process {process_id} was not found, or takes no comment: the next run looks once more.")
                continue
            with run.ledger.transaction() as transaction:
                effect.finish_in(transaction, process_id, created=sent, detail="comment")
        how = "Put a summary" if sent else "There is a summary, or can be none,"
        run.log.info(f"{how} on process {process_id}.")
        given.created += sent
    return given


def _comment(effect: Effect, process_id: str, mark: str, text: str, opentext: OpenTextClient) -> int | None:
    """Put one comment on a process, unless one of this mark is there; return how many were put.

    None where it cannot be put and that was found for the first time: one answer that something is not there may be
    wrong, and would lose the comment for good.
    """
    try:
        if any(one.message.startswith(mark) for one in opentext.comments(process_id)):
            return 0
        effect.check()
        opentext.add_comment(process_id, f"{mark}: {text}"[:3900])
    except (Unsupported, NotFound) as error:
        new = effect.run.finding(effect.project, effect.subject, "no comment on an ended process", str(error))
        return None if new else 0
    return 1


def _put_checkpoint(run: Run, page: Page, confluence: ConfluenceClient) -> None:
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
