"""Answers that were changed or removed in Prodigy after a version was made of them."""

from __future__ import annotations

from include.base.errors import InvalidInput
from include.datasets import freeze as freezing
from include.datasets import withdrawals
from include.projects.model import Project
from include.run.run import Run, short
from include.systems.prodigy.client import ProdigyClient

__all__ = ["note_drift", "source_drift", "sources_digest"]


def source_drift(run: Run, project: Project, digest: str, prodigy: ProdigyClient) -> list[str]:
    """Return a sentence for each answer of a version that is not in Prodigy's database as it was when it was seen.

    Of a version whose content was removed nothing is known any more, so nothing is compared.
    """
    if withdrawals.withdrawal(run.store, project, digest) is not None:
        return []
    try:
        seen = list(freezing.source_rows(run.store, project, digest, sources_digest(run, digest)))
    except InvalidInput as error:
        return [f"the list of rows that version {short(digest)} was made of is not the one recorded: {error}"]
    return [
        f"example {one.example_id} was {one.kind} (expected {short(one.expected)}, found {short(one.found or '')})"
        for one in freezing.compare_sources(seen, prodigy.example_digests([example for example, _ in seen]))
    ]


def sources_digest(run: Run, digest: str) -> str | None:
    """Return the SHA-256 of the list of rows that a version was made of, None where the ledger does not have it."""
    ready = next(iter(run.ledger.events(subject=f"version:{digest}", actions=["version.ready"])), None)
    return None if ready is None else str(ready.body["sources_digest"])


def note_drift(run: Run, project: Project, digest: str, drifts: list[str]) -> None:
    """Make a finding of each drift."""
    run.findings(project.name, f"version:{digest}", (("answer changed", drift) for drift in drifts))
