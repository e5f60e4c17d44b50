"""From approved Confluence pages to a numbered guideline release that annotators see."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter

from include.base.canonical import canonical_json
from include.base.errors import Refused
from include.governance.records import Event
from include.guidelines import release, sync
from include.projects.model import Project
from include.run.gates import require_gate
from include.run.run import ItemResult, Run, short
from include.systems.confluence.values import ConfluenceGateway

__all__ = ["collect", "publish"]

USE_CASE = "guideline_sync"


def _scope(project: Project) -> str:
    return f"{USE_CASE}:{project.name}"


def collect(
    run: Run, project: Project, confluence: ConfluenceGateway, *, readers: int = sync.READERS
) -> dict[str, Any] | None:
    """Read what changed since the last run and stage it for the gate; None when nothing did.

    :param readers: how many changed pages are read at the same time.
    :return: ``staged``, the gate's rows; ``collected``, the pages; ``digest``, of the release they would make.
    """
    state = run.ledger.sync_state(_scope(project)) or {}
    collected = sync.collect(
        project,
        confluence,
        run.store,
        state.get("seen"),
        resolve_user=lambda account: _name(run, account),
        readers=readers,
    )
    digest = release.release_digest(project, collected)
    current = release.current(run.store, project.name)
    told = _published(run, project)
    subject = f"guideline:{project.name}"
    fresh = run.findings(
        project.name, subject, ((one.kind, f"page {one.page_id}: {one.detail}") for one in collected.findings)
    )
    run.log.info(
        "Looked at %d page(s) under %r: %d approved, %d left out, %d read anew, %d new finding(s).",
        len(collected.order), project.confluence.guideline.root, len(collected.pages), len(collected.left_out),
        len(collected.read), fresh,
    )  # fmt: skip
    # A run that was killed between the pointer and the ledger has published what nobody has heard of yet.
    if current is not None and current.digest == digest and told is not None and told.digest_after == digest:
        if state.get("seen") != collected.seen:
            run.ledger.save_sync_state(_scope(project), {"seen": collected.seen})
        run.log.info(
            "Release %d (%s) of %s is what the approved pages still say: nothing to publish.",
            current.number, short(digest), project.name,
        )  # fmt: skip
        return None
    staged = run.staged("pages.jsonl")
    staged.write_bytes(b"".join(canonical_json(row) + b"\n" for row in sync.rows(collected)))
    kept = run.staged("collected.json")
    kept.write_bytes(TypeAdapter(sync.Collected).dump_json(collected))
    return {"staged": str(staged), "collected": str(kept), "digest": digest, "pages": len(collected.pages)}


def publish(
    run: Run, project: Project, given: dict[str, Any] | None, gate: dict[str, Any] | None, open_path: Any
) -> ItemResult:
    """Publish what was collected as the next release, pointer last.

    :param open_path: turns the staged path (a string) into something readable.
    :raises Refused: when the collection or the gate left no result.
    """
    if not given:
        raise Refused(f"guideline of {project.name}: nothing was collected, so nothing is published")
    subject = f"guideline:{project.name}"
    require_gate(run, project, subject, "guideline_pages", gate, given["digest"])
    collected = TypeAdapter(sync.Collected).validate_python(json.loads(open_path(given["collected"]).read_bytes()))
    told = _published(run, project)
    effect = run.claim(USE_CASE, project.name, subject, given["digest"])
    effect.check()
    if release.release_digest(project, collected) != given["digest"]:
        raise Refused(f"{subject}: the pages that passed the gate ({short(given['digest'])}) are not those staged now")
    published = release.publish(run.store, project, collected)
    new = False
    if told is None or told.digest_after != published.digest:
        run.findings(project.name, subject, _doubts(run, collected.pages))
        new = run.finish(
            effect,
            run.event(
                "guideline.published",
                project.name,
                subject,
                before=told.digest_after if told else None,
                after=published.digest,
                body={
                    "number": published.number,
                    "path": f"publications/{project.name}/guidelines/{published.path.name}",
                    "page_count": len(collected.pages),
                    "pages": [_page_facts(run, page) for page in collected.pages][:60],
                },
            ),
            # An earlier release may be published again: what it follows tells the two apart.
            ["published", told.seq if told else 0, published.digest],
            str(published.path),
            created=1,
            detail=f"release {published.number}",
            states={_scope(project): {"seen": collected.seen}},
        )
    run.log.info(
        "Release %d (%s) of %s is current: %d page(s), %d of them changed.",
        published.number, short(published.digest), project.name, len(collected.pages), len(published.changed_pages),
    )  # fmt: skip
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


def _published(run: Run, project: Project) -> Event | None:
    """Return the last publication that the ledger knows of."""
    last = None
    for event in run.ledger.events(subject=f"guideline:{project.name}", actions=["guideline.published"]):
        last = event
    return last


def _name(run: Run, account: str) -> str | None:
    """Return the name of the person behind a Confluence account, None where the register knows nobody."""
    person = run.register.resolve("confluence", account, run.now())
    return person.name if person else None


def _approver(run: Run, page: sync.CollectedPage) -> str | None:
    """Return the id of the person who approved a page, None where nobody can be named."""
    when = datetime.fromisoformat(page.approved_at) if page.approved_at else None
    person = run.register.resolve("confluence", page.approver, when) if page.approver else None
    return person.id if person else None


def _page_facts(run: Run, page: sync.CollectedPage) -> dict[str, Any]:
    return {
        "id": page.page_id,
        "version": page.version,
        "digest": page.canonical_digest,
        "approver": _approver(run, page),
        "account": page.approver,
    }


def _doubts(run: Run, pages: Iterable[sync.CollectedPage]) -> Iterator[tuple[str, str]]:
    """Yield a finding for each page of which nobody can say that a second person approved it."""
    for page in pages:
        name = f"page {page.page_id}, version {page.version}"
        if page.approver is None:
            yield "approver unknown", f"{name}: a {page.mark.split()[0]} says that it is approved, but not by whom"
        elif _approver(run, page) is None:
            yield "approver unknown", f"{name}: account {page.approver} is no person in the register at that time"
        elif page.author is not None and _wrote_it(run, page):
            yield "approved by its author", f"{name}: {_approver(run, page)} wrote and approved it"


def _wrote_it(run: Run, page: sync.CollectedPage) -> bool:
    """Tell whether the approver is the author, under whatever account."""
    author = run.register.resolve("confluence", page.author, run.now())
    return page.author == page.approver or (author is not None and author.id == _approver(run, page))
