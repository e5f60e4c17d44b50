"""From approved Confluence pages to a numbered guideline release that annotators see."""

from __future__ import annotations

import json
from typing import Any

from pydantic import TypeAdapter

from include.base.canonical import canonical_json
from include.base.errors import Refused
from include.guidelines import release, sync
from include.projects.model import Project
from include.systems.confluence import ConfluenceGateway
from include.usecases.desk import Desk, ItemResult, short
from include.usecases.gates import require_gate

__all__ = ["collect", "publish"]

USE_CASE = "guideline_sync"


def _scope(project: Project) -> str:
    return f"{USE_CASE}:{project.name}"


def collect(desk: Desk, project: Project, confluence: ConfluenceGateway) -> dict[str, Any] | None:
    """Read what changed since the last run and stage it for the gate; None when nothing did.

    :return: ``staged``, the gate's rows; ``collected``, the pages; ``digest``, of the release they would make.
    """
    state = desk.ledger.sync_state(_scope(project)) or {}
    collected = sync.collect(project, confluence, desk.store, state.get("seen"))
    digest = release.release_digest(project, collected)
    current = release.current(desk.store, project.name)
    subject = f"guideline:{project.name}"
    fresh = desk.findings(
        project.name, subject, ((one.kind, f"page {one.page_id}: {one.detail}") for one in collected.findings)
    )
    desk.log.info(
        "Looked at %d page(s) under %r: %d approved, %d left out, %d read anew, %d new finding(s).",
        len(collected.order), project.confluence.guideline.root, len(collected.pages), len(collected.left_out),
        len(collected.read), fresh,
    )  # fmt: skip
    if current is not None and current.digest == digest:
        if state.get("seen") != collected.seen:
            desk.ledger.save_sync_state(_scope(project), {"seen": collected.seen})
        desk.log.info(
            "Release %d (%s) of %s is what the approved pages still say: nothing to publish.",
            current.number, short(digest), project.name,
        )  # fmt: skip
        return None
    staged = desk.staging / "pages.jsonl"
    staged.write_bytes(b"".join(canonical_json(row) + b"\n" for row in sync.rows(collected)))
    kept = desk.staging / "collected.json"
    kept.write_bytes(TypeAdapter(sync.Collected).dump_json(collected))
    return {"staged": str(staged), "collected": str(kept), "digest": digest, "pages": len(collected.pages)}


def publish(
    desk: Desk, project: Project, given: dict[str, Any] | None, gate: dict[str, Any] | None, open_path: Any
) -> ItemResult:
    """Publish what was collected as the next release, pointer last.

    :param open_path: turns the staged path (a string) into something readable.
    :raises Refused: when the collection or the gate left no result.
    """
    if not given:
        raise Refused(f"guideline of {project.name}: nothing was collected, so nothing is published")
    subject = f"guideline:{project.name}"
    require_gate(desk, project, subject, "guideline_pages", gate, given["digest"])
    collected = TypeAdapter(sync.Collected).validate_python(json.loads(open_path(given["collected"]).read_bytes()))
    before = release.current(desk.store, project.name)
    effect = desk.claim(USE_CASE, project.name, subject, given["digest"])
    effect.check()
    published = release.publish(desk.store, project, collected)
    if published.digest != given["digest"]:
        raise Refused(f"{subject}: the pages that passed the gate ({short(given['digest'])}) are not those staged now")
    new = desk.note(
        "guideline.published",
        project.name,
        subject,
        key=["published", published.number, published.digest],
        before=before.digest if before and before.digest != published.digest else None,
        after=published.digest,
        body={
            "number": published.number,
            "path": str(published.path),
            "pages": [
                {
                    "id": page.page_id,
                    "version": page.version,
                    "digest": page.canonical_digest,
                    "approver": page.approver,
                }
                for page in collected.pages
            ][:100],
        },
    )
    desk.ledger.save_sync_state(_scope(project), {"seen": collected.seen})
    effect.done(str(published.path), created=int(new), updated=0, detail=f"release {published.number}")
    return ItemResult(
        project=project.name,
        subject=subject,
        state="published",
        sentence=f"Release {published.number} ({short(published.digest)}) of {len(collected.pages)} page(s) is current",
        created=int(new),
        changed=new,
        where=str(published.path),
        detail={"number": published.number, "digest": published.digest},
    )
