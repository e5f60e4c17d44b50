"""A version's rows as its gates look at them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from include.annotation.values import labels_of
from include.datasets import freeze as freezing
from include.projects.model import Project
from include.run.run import Run, staged_digest

__all__ = ["stage_version", "version_data"]


def stage_version(run: Run, project: Project, digest: str) -> str:
    """Stage a version's rows for its gate, flat and without content, and return the path."""
    return run.stage("rows.jsonl", _flat(run, project, digest))


def version_data(run: Run, project: Project, digest: str) -> str:
    """Return the SHA-256 of what :func:`stage_version` stages, worked out from the version itself."""
    return staged_digest(_flat(run, project, digest))


def _flat(run: Run, project: Project, digest: str) -> Iterator[dict[str, Any]]:
    labels = set(project.annotation.all_labels)
    for row in freezing.rows(run.store, project, digest):
        given = labels_of(row["value"], row["shown"])
        yield {
            "task_id": row["task_id"],
            "value": row["value"]["answer"],
            "labels_unknown": len(set(given) - labels),
            "persons": len({answer["person"] for answer in row["answers"]}) or int(row["decision"] is not None),
        }
