"""From approved Confluence pages to a numbered guideline release that annotators see."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from pydantic import TypeAdapter

from include.base.errors import Refused
from include.base.store import atomic_write
from include.guidelines import release, sync
from include.projects.model import Project
from include.run.gates import require_gate
from include.run.pointers import misplaced
from include.run.run import ItemResult, NothingToDo, Run, WorkItem, short, staged_digest
from include.settings import schedules
from include.systems.confluence.client import ConfluenceClient

__all__ = ["Staged", "collect", "pending", "publish"]

USE_CASE = "guideline_sync"


@dataclass(frozen=True)
class Staged:
    """What the pages say now: ``staged`` holds the gate's rows, ``collected`` the pages.

    :param digest: of the release they would make.
    """

    staged: str
    collected: str
    digest: str
    pages: int


def pending(project: Project) -> Iterator[WorkItem]:
    """Yield the project's guideline."""
    yield WorkItem(project.name, f"guideline:{project.name}", "guideline")


def collect(run: Run, project: Project, item: WorkItem, confluence: ConfluenceClient) -> Staged:
    """Read what changed since the last run and stage it for the gate.

    :raises NothingToDo: when a release would say the same.
    """
    scope = _scope(project)
    seen = (run.ledger.sync_state(scope) or {}).get("seen")
    collected = sync.collect(
        project,
        confluence,
        run.store,
        seen,
        resolve_user=lambda account: _name(run, account),
        readers=schedules().confluence_readers,
    )
    run.log.info(f"This took {confluence.requests_made} request(s) to Confluence.")
    digest = release.release_digest(project, collected)
    found = ((one.kind, f"page {one.page_id}: {one.detail}") for one in collected.findings)
    fresh = run.findings(project.name, item.subject, found)
    run.log.info(
        f"Looked at {len(collected.order)} page(s) under {project.confluence.guideline.root!r}: "
        f"{len(collected.pages)} approved, {len(collected.left_out)} left out, {len(collected.read)} read anew, "
        f"{fresh} new finding(s)."
    )
    current, told = release.current(run.store, project.name), run.last(item.subject, "guideline.published")
    if told is not None and (current is None or current.digest not in (told.digest_after, digest)):
        why = misplaced(run.store, release.pointer_path(run.store, project.name), told)
        run.finding(project.name, item.subject, "pointer misplaced", why)
    # A run that was killed between the pointer and the ledger has published what nobody has heard of yet.
    if current is not None and current.digest == digest and told is not None and told.digest_after == digest:
        if seen != collected.seen:
            run.ledger.save_sync_state(scope, {"seen": collected.seen})
        name = f"Release {current.number} ({short(digest)}) of {project.name}"
        raise NothingToDo(f"{name} is what the approved pages still say: nothing to publish.")
    kept = run.staged("collected.json")
    atomic_write(kept, TypeAdapter(sync.Collected).dump_json(collected))
    return Staged(run.stage("pages.jsonl", sync.rows(collected)), str(kept), digest, len(collected.pages))


def publish(run: Run, project: Project, item: WorkItem, given: Staged, gate: Mapping[str, Any] | None) -> ItemResult:
    """Publish what was collected as the next release, pointer last.

    :raises Refused: when the gate left no result, or it passed other pages.
    """
    subject = item.subject
    collected = TypeAdapter(sync.Collected).validate_python(json.loads(run.locate(given.collected).read_bytes()))
    data = partial(staged_digest, sync.rows(collected))
    require_gate(run, project, subject, "guideline_pages", gate, given.digest, data)
    told, new = run.last(subject, "guideline.published"), False
    with run.effect(USE_CASE, project.name, subject, given.digest) as effect:
        effect.check()
        if release.release_digest(project, collected) != given.digest:
            raise Refused(f"{subject}: the pages that passed the gate ({short(given.digest)}) are not those staged now")
        published = release.publish(run.store, project, collected)
        if told is None or told.digest_after != published.digest:
            run.findings(project.name, subject, _unclear_approvals(run, collected.pages))
            new = effect.finish(
                "guideline.published",
                # An earlier release may be published again: what it follows tells the two apart.
                ["published", told.seq if told else 0, published.digest],
                str(published.path),
                created=1,
                detail=f"release {published.number}",
                states={_scope(project): {"seen": collected.seen}},
                before=told.digest_after if told else None,
                after=published.digest,
                body={
                    "number": published.number,
                    "path": f"publications/{project.name}/guidelines/{published.path.name}",
                    "page_count": len(collected.pages),
                    "pages": [_page_facts(run, page) for page in collected.pages][:60],
                },
            )
        else:
            effect.leave()
    sentence = f"Release {published.number} ({short(published.digest)}) of {len(collected.pages)} page(s) is current"
    run.log.info(f"{project.name}: {sentence}, {len(published.changed_pages)} page(s) of it changed.")
    detail = {"number": published.number, "digest": published.digest}
    where = str(published.path)
    return item.result("published", sentence, created=int(new), changed=new, where=where, detail=detail)


def _scope(project: Project) -> str:
    return f"{USE_CASE}:{project.name}"


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


def _unclear_approvals(run: Run, pages: Iterable[sync.CollectedPage]) -> Iterator[tuple[str, str]]:
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
