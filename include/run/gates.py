"""What the step after a gate demands: a result on record that passed, for exactly the data that goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from include.base.canonical import sha256_hex
from include.base.errors import Refused
from include.base.store import read_json
from include.projects.model import Project
from include.run.run import Run

__all__ = ["require_gate"]


def require_gate(
    run: Run,
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
    for event in run.ledger.events(subject=subject, actions=["gate.passed"]):
        if event.digest_after == digest and event.body["suite"] == suite:
            return
    if not result or not result.get("result"):
        raise Refused(f"{subject} of {project.name}: no gate {suite!r} passed for it, so nothing goes on")
    place = run.store.at(*str(result["result"]).split("/"))
    if not place.exists():
        raise Refused(f"{subject} of {project.name}: the gate's report {result['result']} is not there")
    report = read_json(place)
    if report.get("suite") != suite or report.get("stopped"):
        raise Refused(f"{subject} of {project.name}: the gate's report {result['result']} is no pass of {suite!r}")
    run.note(
        "gate.passed",
        project.name,
        subject,
        key=[suite, digest],
        after=digest,
        body={"suite": suite, "report": result["result"], "report_digest": sha256_hex(bytes(place.read_bytes()))},
    )
