"""What the step after a gate demands: a result on record that passed, for exactly the data that goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from include.base.canonical import sha256_hex
from include.base.errors import Refused
from include.base.reading import parse_json
from include.base.store import StorePath, measure
from include.gates.results import GateResult
from include.projects.model import Project
from include.run.run import Run

__all__ = ["passed_rows", "require_gate"]


def require_gate(
    run: Run,
    project: Project,
    subject: str,
    suite: str,
    result: Mapping[str, Any] | None,
    digest: str,
    data: Callable[[], str],
) -> None:
    """Put a passed gate on the ledger; on later runs find it there.

    Neither the task's state nor what it returned is trusted: a gate that somebody marked successful left no report, and
    the report of another gate is about other rows.

    :param result: what the gate returned (``result`` is the path of its report below the store's root).
    :param digest: what the gate is evidence for.
    :param data: returns the SHA-256 of the rows that the gate must have looked at, worked out from what goes on.
    :raises Refused: when no gate passed for this digest.
    """
    for event in run.ledger.events(subject=subject, actions=["gate.passed"]):
        if event.digest_after == digest and event.body["suite"] == suite:
            return
    report, content = _report(run, project, subject, suite, result)
    if report.data != data():
        raise Refused(f"{subject} of {project.name}: the gate {suite!r} that passed looked at other rows than these")
    body = {"suite": suite, "report": (result or {})["result"], "report_digest": sha256_hex(content)}
    run.note("gate.passed", project.name, subject, key=[suite, digest], after=digest, body=body)


def passed_rows(run: Run, project: Project, subject: str, suite: str, result: Mapping[str, Any] | None) -> StorePath:
    """Return the file of the rows that a gate let through.

    :raises Refused: when the gate's report says so of other rows.
    """
    report, _ = _report(run, project, subject, suite, result)
    place = run.locate(str((result or {}).get("passed")))
    if not place.exists() or measure(place).sha256 != report.passed:
        raise Refused(f"{subject} of {project.name}: {place} does not hold the rows that passed the gate {suite!r}")
    return place


def _report(
    run: Run, project: Project, subject: str, suite: str, result: Mapping[str, Any] | None
) -> tuple[GateResult, bytes]:
    """Return a gate's report, as it is and as its bytes.

    :raises Refused: where there is none, or none of a pass of this suite for this project.
    """
    about = f"{subject} of {project.name}"
    if not result or not result.get("result"):
        raise Refused(f"{about}: no gate {suite!r} passed for it, so nothing goes on")
    place = run.store.at(*str(result["result"]).split("/"))
    if not place.exists():
        raise Refused(f"{about}: the gate's report {result['result']} is not there")
    content = bytes(place.read_bytes())
    report = GateResult.from_dict(parse_json(content, str(place)))
    if report.suite != suite or report.stopped or report.project != project.name:
        raise Refused(f"{about}: the gate's report {result['result']} is no pass of {suite!r}")
    return report, content
