"""What the step after a gate demands: a result on record that passed, for exactly the data that goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from include.base.canonical import canonical_json, sha256_hex
from include.base.errors import Refused
from include.base.store import read_json
from include.datasets import freeze as freezing
from include.datasets.values import labels_of
from include.projects.model import Project
from include.run.run import Desk

__all__ = ["require_gate", "stage_version"]


def stage_version(desk: Desk, project: Project, digest: str) -> str:
    """Stage a version's rows for its gate, flat and without content, and return the path."""
    labels = set(project.annotation.all_labels)
    place = desk.staged("rows.jsonl")
    with place.open("wb") as out:
        for row in freezing.rows(desk.store, project, digest):
            given = labels_of(row["value"], row["shown"])
            flat = {
                "task_id": row["task_id"],
                "value": row["value"]["answer"],
                "labels_unknown": len(set(given) - labels),
                "persons": len({answer["person"] for answer in row["answers"]}) or int(row["decision"] is not None),
            }
            out.write(canonical_json(flat) + b"\n")
    return str(place)


def require_gate(
    desk: Desk,
    project: Project,
    subject: str,
    suite: str,
    result: Mapping[str, Any] | None,
    digest: str,
) -> None:
    """Put a passed gate on the ledger; on later runs find it there.

    The task's state is not trusted: a gate that somebody marked successful left no result, and is refused.

    :param result: what the gate returned (``result`` is the path of its report below the store's root).
    :param digest: what the gate is evidence for.
    :raises Refused: when no gate passed for this digest.
    """
    for event in desk.ledger.events(subject=subject, actions=["gate.passed"]):
        if event.digest_after == digest and event.body["suite"] == suite:
            return
    if not result or not result.get("result"):
        raise Refused(f"{subject} of {project.name}: no gate {suite!r} passed for it, so nothing goes on")
    place = desk.store.at(*str(result["result"]).split("/"))
    if not place.exists():
        raise Refused(f"{subject} of {project.name}: the gate's report {result['result']} is not there")
    report = read_json(place)
    if report.get("suite") != suite or report.get("stopped"):
        raise Refused(f"{subject} of {project.name}: the gate's report {result['result']} is no pass of {suite!r}")
    desk.note(
        "gate.passed",
        project.name,
        subject,
        key=[suite, digest],
        after=digest,
        body={"suite": suite, "report": result["result"], "report_digest": sha256_hex(bytes(place.read_bytes()))},
    )
