"""A version's rows as its gates look at them."""

from __future__ import annotations

from include.annotation.values import labels_of
from include.base.canonical import canonical_json
from include.base.store import atomic_file
from include.datasets import freeze as freezing
from include.projects.model import Project
from include.run.run import Run

__all__ = ["stage_version"]


def stage_version(run: Run, project: Project, digest: str) -> str:
    """Stage a version's rows for its gate, flat and without content, and return the path."""
    labels = set(project.annotation.all_labels)
    place = run.staged("rows.jsonl")
    with atomic_file(place) as out:
        for row in freezing.rows(run.store, project, digest):
            given = labels_of(row["value"], row["shown"])
            flat = {
                "task_id": row["task_id"],
                "value": row["value"]["answer"],
                "labels_unknown": len(set(given) - labels),
                "persons": len({answer["person"] for answer in row["answers"]}) or int(row["decision"] is not None),
            }
            out.write(canonical_json(flat) + b"\n")
    return str(place)
