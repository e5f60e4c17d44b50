"""What the ledger and the store tell about a release, gathered for its passport."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from include.agreement.measurements import quality_of
from include.agreement.summary import Quality, Score, score_name
from include.base.canonical import sha256_hex
from include.base.errors import InvalidInput, LabelopsError
from include.base.store import StorePath, read_json
from include.datasets.manifest import Manifest
from include.gates.results import GateResult
from include.governance.records import Event, time_text
from include.passport.facts import (
    LINEAGE,
    Agreement,
    Check,
    Coefficient,
    Context,
    Gate,
    GuidelineRelease,
    LedgerPlace,
)
from include.projects.model import Project
from include.run.run import Run, short

__all__ = ["release_context", "send_lineage"]

_LABELS = 25
"""Of how many labels, those given most often, the agreement is told one by one."""

_RESTS_ON = ("version.ready", "gate.passed", "approval.approved", "decision.recorded")


def release_context(
    run: Run, project: Project, manifest: Manifest, asked: Event | None, processes: Collection[str]
) -> Context:
    """Return what a release's passport says beside its manifest and decisions.

    Every time in it is the ledger's, so a second try tells the same.

    :param asked: the request for the approval that counts.
    :param processes: ids of the processes whose decisions it rests on.
    """
    subject = f"version:{manifest.digest}"
    events = [
        event
        for event in run.ledger.events(subject=subject, actions=_RESTS_ON)
        if event.action != "decision.recorded" or event.run in processes
    ]
    last = events[-1] if events else None
    head = run.ledger.head()
    return Context(
        asked_at=asked.time if asked else None,
        released_at=last.time if last else None,
        guidelines=tuple(_guidelines(run, project, manifest)),
        gates=tuple(_gate(run, event) for event in events if event.action == "gate.passed"),
        agreement=_agreement(quality_of(run.store, project, manifest.digest)),
        ledger=LedgerPlace(head.ledger_id, head.epoch, last.seq, last.hash, time_text(last.time)) if last else None,
    )


def send_lineage(run: Run, project: Project, subject: str, folder: StorePath, emit: Callable[[bytes], None]) -> None:
    """Send a release's events; that they were not taken becomes a finding, for the release stands without them.

    A run that is killed after sending sends them again: run id and times are those of the release, so a receiver
    learns nothing new.
    """
    place = folder / LINEAGE
    if not place.exists():
        return  # made before there was a passport
    try:
        emit(bytes(place.read_bytes()))
    except LabelopsError as error:
        run.finding(project.name, subject, "lineage not sent", f"{error}; {LINEAGE} of the release holds the events")
    else:
        run.log.info("Sent the OpenLineage events of %s.", folder.name)


def _agreement(quality: Quality | None) -> Agreement | None:
    """Return what was measured where more than one person answered, None where nothing is defined."""
    if quality is None:
        return None
    scores = [(score_name(one.name), one) for one in quality.scores]
    scores += [
        (f"{score_name(one.name)} of label {part.name}", one)
        for part in quality.labels[:_LABELS]
        for one in part.scores
        if one.name == "krippendorff_alpha"
    ]
    found = tuple(_coefficient(name, one) for name, one in scores if one.value is not None)
    if not found:
        return None
    method = f"bootstrap over units, {quality.resamples} resamples, seed {quality.seed}"
    return Agreement(found, f"{quality.confidence} %", f"{method}. {quality.classes}".rstrip("."))


def _coefficient(name: str, score: Score) -> Coefficient:
    whole = score.low is not None and score.high is not None
    return Coefficient(
        name, str(score.value), score.low if whole else None, score.high if whole else None, f"{score.units} units"
    )


def _guidelines(run: Run, project: Project, manifest: Manifest) -> Iterator[GuidelineRelease]:
    """Yield the releases that answers were given under, each as it was published first."""
    wanted = {share.digest for share in manifest.guidelines}
    for event in run.ledger.events(subject=f"guideline:{project.name}", actions=["guideline.published"]):
        if event.digest_after in wanted:
            wanted.remove(event.digest_after)
            yield GuidelineRelease(
                event.body["number"], event.digest_after, time_text(event.time), event.body["page_count"]
            )


def _gate(run: Run, event: Event) -> Gate:
    """Return what a gate found; its checks are left out where its report is gone or is not the one on the ledger."""
    place = run.store.at(*str(event.body["report"]).split("/"))
    checks: tuple[Check, ...] = ()
    rows = None
    try:
        if place.exists() and sha256_hex(bytes(place.read_bytes())) == event.body["report_digest"]:
            result = GateResult.from_dict(read_json(place))
            rows = result.rows
            checks = tuple(
                Check(one.description, one.column, one.expected, one.observed, one.severity, one.passed)
                for one in result.checks
            )
    except InvalidInput as error:
        run.log.warning("The report of gate %s is left out of the passport: %s", event.body["suite"], error)
    if rows is None:
        run.log.info(
            "The report of gate %s (%s) is kept no longer.", event.body["suite"], short(event.body["report_digest"])
        )
    return Gate(event.body["suite"], event.digest_after or "", event.body["report_digest"], rows, checks)
