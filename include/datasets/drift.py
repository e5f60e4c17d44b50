"""Answers that were changed or removed in Prodigy after a version was made of them."""

from __future__ import annotations

from include.base.store import measure
from include.datasets import freeze as freezing
from include.datasets import withdrawals
from include.projects.model import Project
from include.run.run import Run, short
from include.systems.prodigy.client import ProdigyClient

__all__ = ["note_drift", "source_drift"]


def source_drift(run: Run, project: Project, digest: str, prodigy: ProdigyClient) -> list[str]:
    """Return a sentence for each answer of a version that is not in Prodigy's database as it was when it was seen.

    Of a version whose content was removed nothing is known any more, so nothing is compared.
    """
    if withdrawals.withdrawal(run.store, project, digest) is not None:
        return []
    seen = list(freezing.source_rows(run.store, project, digest))
    recorded = next(iter(run.ledger.events(subject=f"version:{digest}", actions=["version.ready"])), None)
    listing = freezing.version_path(run.store, project, digest) / "sources.jsonl"
    if recorded is not None and measure(listing).sha256 != recorded.body["sources_digest"]:
        return [f"{listing.name} of version {short(digest)} is not the list of rows that the ledger recorded"]
    return [
        f"example {one.example_id} was {one.kind} (expected {short(one.expected)}, found {short(one.found or '')})"
        for one in freezing.compare_sources(seen, prodigy.example_digests([example for example, _ in seen]))
    ]


def note_drift(run: Run, project: Project, digest: str, drifts: list[str]) -> None:
    """Make a finding of each drift."""
    run.findings(project.name, f"version:{digest}", (("answer changed", drift) for drift in drifts))
