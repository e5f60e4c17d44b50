"""From an approved version to training: every condition is checked at its source, at the moment of handing over."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from include.base.canonical import digest_of
from include.base.errors import InvalidInput, Refused
from include.datasets import freeze as freezing
from include.datasets.conditions import pinned_problems
from include.datasets.drift import note_drift, source_drift
from include.datasets.staging import stage_version, version_data
from include.decisions.approval import SYSTEM, ReleaseDecision, decision_id
from include.decisions.process import record_decisions
from include.decisions.release_course import ReleaseCourse
from include.decisions.state import ApprovalState, approval_state, approval_states
from include.governance.records import Decision, Event, VersionRecord
from include.projects.model import Project
from include.releases.courses import approval_course, release_course
from include.releases.dataset import Dataset
from include.releases.handing_over import Tell, recall, write
from include.releases.standing import TAKEN_BACK, next_edition, recallable, standing_releases, stands_released
from include.releases.write import pointer_path
from include.run.gates import require_gate
from include.run.pointers import misplaced
from include.run.run import ItemResult, NothingToDo, Run, WorkItem, short
from include.systems.opentext.client import OpenTextClient
from include.systems.prodigy.client import ProdigyClient

__all__ = ["ToRelease", "check", "hand_over", "pending", "waited"]

RECALL = "recall"
"""Kind of the work item of a release whose approval was withdrawn."""


@dataclass(frozen=True)
class ToRelease:
    """A version that nothing is missing of: ``staged`` holds its rows for the gate, None where it is to be recalled."""

    staged: str | None
    created: int


@dataclass(frozen=True)
class Checked:
    """What the checks of one version found. ``problems`` is empty when it may be released.

    :param edition: which release of the version it would be, as of the look at its approval.
    :param evidence: digest over everything that was looked at, so that the same refusal is said once.
    """

    version: VersionRecord
    where: ApprovalState
    problems: tuple[str, ...]
    evidence: str
    edition: int

    @property
    def subject(self) -> str:
        """Return the version as the ledger names it."""
        return f"version:{self.version.digest}"


def pending(run: Run, project: Project, params: Mapping[str, Any]) -> Iterator[WorkItem]:
    """Yield the approved versions that are not released, and the released ones whose approval was withdrawn.

    With the run parameter ``version`` (its number, or the beginning of its digest) that one, whatever its state.

    :raises InvalidInput: when nothing, or more than one, is called so.
    """
    chosen = params.get("version")
    versions = run.ledger.versions(project.name)
    if chosen is not None:
        versions = [_chosen(project, versions, chosen)]
    released, to_recall = standing_releases(run.ledger, project.name), recallable(run, project)
    states, quiet = approval_states(run, project), True
    for version in versions:
        subject, state = f"version:{version.digest}", states[version.digest].state
        if subject in to_recall and state in TAKEN_BACK:
            quiet = False
            yield WorkItem(project.name, subject, f"{version.name}, to recall", {"kind": RECALL})
        elif chosen is not None or (subject not in released and state == "approved"):
            quiet = False
            yield WorkItem(project.name, subject, version.name, {"chosen": chosen is not None})
    if quiet:  # else a release or a recall may have moved the pointer and not be on the ledger yet
        _watch_pointer(run, project, next(reversed(released.values()), None))


def _watch_pointer(run: Run, project: Project, newest: Event | None) -> None:
    """Make a finding of a pointer that is not where the ledger has it: training would take what nobody released.

    :param newest: the newest release that stands.
    """
    why = misplaced(run.store, pointer_path(run.store, project.name), newest)
    if why:
        run.finding(project.name, f"release:{project.name}", "pointer misplaced", why)


def _chosen(project: Project, versions: Sequence[VersionRecord], chosen: str) -> VersionRecord:
    found = [
        one for one in versions if str(one.number) == chosen or (len(chosen) >= 6 and one.digest.startswith(chosen))
    ]
    if len(found) != 1:
        raise InvalidInput(
            f"version: found {chosen!r}, which names {len(found)} versions of {project.name}; "
            f"allowed: a number up to {len(versions)}, or at least six characters of a digest"
        )
    return found[0]


def check(run: Run, project: Project, item: WorkItem, opentext: OpenTextClient, prodigy: ProdigyClient) -> ToRelease:
    """Check a version, report the checks to the release process, and stage its rows for the gate.

    :raises NothingToDo: when exactly this was refused before, and nobody asked for the version by name.
    :raises Refused: saying what is missing.
    """
    if item.detail.get("kind") == RECALL:
        run.log.info(f"The approval of {item.subject} was withdrawn: there is nothing to check, it is recalled.")
        return ToRelease(None, 0)
    checked = _look(run, project, item, prodigy, opentext)
    version, problems = checked.version, checked.problems
    if problems and not item.detail.get("chosen") and _refused_before(run, checked):
        raise NothingToDo(f"Refused before, and nothing is new: {'; '.join(problems)}")
    created = 0
    if checked.where.state == "approved":
        created = release_course(run, project, version, opentext).ask(checked.where, problems)
    if problems:
        _refuse(run, project, checked)
    return ToRelease(stage_version(run, project, version.digest), created)


def hand_over(
    run: Run,
    project: Project,
    item: WorkItem,
    given: ToRelease | None,
    gate: Mapping[str, Any] | None,
    opentext: OpenTextClient,
    prodigy: ProdigyClient,
    training: Tell | None,
    lineage: Callable[[bytes], None] | None,
) -> ItemResult:
    """Check everything once more and hand the version over, once the release process says so; or recall it.

    :param training: calls the training side with a payload and its idempotency key; None where none is configured.
    :param lineage: sends a release's ``openlineage.json``; None where nothing is configured. That it failed is a
        finding and stops nothing.
    :raises NothingToDo: when the check was skipped.
    :raises Refused: saying what is missing.
    """
    if item.detail.get("kind") == RECALL:
        course = release_course(run, project, _version(run, project, item), opentext)
        return recall(run, project, item, course, prodigy, training)
    if given is None:
        raise NothingToDo("The check was skipped, so nothing is handed over.")
    checked = _look(run, project, item, prodigy, opentext)
    version = checked.version
    if checked.problems:
        _refuse(run, project, checked)
    data = partial(version_data, run, project, version.digest)
    require_gate(run, project, checked.subject, "release_rows", gate, version.rows_digest, data)
    course = release_course(run, project, version, opentext)
    before = stands_released(run, version.digest)
    if before is not None:
        sentence = f"Version {version.number} ({short(version.digest)}) was released before"
        run.log.info(f"{sentence}, in {before.body['path']}.")
        return course.outcome("released", sentence, given.created, where=before.body["path"])
    decided = course.decision()
    if decided is not None:
        waits = _act_on(course, checked, decided, given.created, chosen=bool(item.detail.get("chosen")))
        if waits is not None:
            return waits
    return write(course, checked.where, checked.edition, prodigy, training, lineage, given.created)


def _act_on(
    course: ReleaseCourse, checked: Checked, decided: ReleaseDecision, created: int, *, chosen: bool
) -> ItemResult | None:
    """Put what people decided on the ledger; return the result where they did not release, None where they did.

    :raises Refused: when they refused, which is said once.
    """
    run, project, sentence = course.run, course.project, decided.sentence
    run.findings(project.name, checked.subject, (("release", one) for one in decided.findings))
    run.log.info(sentence)
    if decided.state == "waiting":
        return course.outcome("waiting", sentence, created)
    record_decisions(run, decided)
    if decided.state == "released":
        return None
    refusal = replace(checked, problems=(sentence,), evidence=digest_of(sentence))
    if chosen or not _refused_before(run, refusal):
        _refuse(run, project, refusal)
    return course.outcome(decided.state, sentence, created)


def waited(run: Run, project: Project, digest: str, opentext: OpenTextClient) -> ItemResult | None:
    """Return the result of a release process that ended, None while it goes on. Nothing is released here."""
    version = run.version(project, digest)
    decided = release_course(run, project, version, opentext).decision()
    if decided is not None and decided.state == "waiting":
        return None
    state = "released by airflow" if decided is None else decided.state
    return ItemResult(
        project=project.name,
        subject=f"version:{digest}",
        name=version.name,
        state=state,
        sentence=f"The release process ended: {state}",
        changed=True,
        detail={"digest": digest, "number": version.number},
    )


# --- what is checked -------------------------------------------------------------------------------------------------


def _version(run: Run, project: Project, item: WorkItem) -> VersionRecord:
    return run.version(project, item.subject.removeprefix("version:"))


def _look(run: Run, project: Project, item: WorkItem, prodigy: ProdigyClient, opentext: OpenTextClient) -> Checked:
    """Check completeness, approvals and policy of exactly this digest, re-reading the evidence at its source."""
    version = _version(run, project, item)
    digest = version.digest
    where, edition = approval_state(run, digest), next_edition(run, digest)
    problems = [f"the frozen files: {one}" for one in freezing.verify_version(run.store, project.name, digest)]
    if not problems:
        manifest = freezing.read_manifest(run.store, project.name, digest)
        problems += pinned_problems(manifest, _standing(run, digest, where))
        problems += _source_problems(run, project, digest, prodigy)
    outdated = Dataset.of(run, project).why_outdated(digest)
    if outdated:
        problems.append(f"{outdated[0].lower()}{outdated[1:].rstrip('.')}")
    if where.state != "approved":
        problems.append(f"the ledger says of its approval: {where.state}, attempt {where.attempt}")
    if not where.gate_passed:
        problems.append("no quality gate passed for it")
    if not problems:
        problems += _evidence_problems(run, project, version, where, opentext)
    found = "; ".join(problems) or "nothing is missing"
    run.log.info(f"Checked version {version.number} ({short(digest)}) of {project.name} for release: {found}")
    return Checked(version, where, tuple(problems), digest_of([digest, where.state, where.attempt, problems]), edition)


def _standing(run: Run, digest: str, where: ApprovalState) -> list[Decision]:
    """Return the decisions of the current judgement; what was refused in an earlier one forbids nothing any more."""
    asked = where.requested.body["process_id"] if where.requested else ""
    return [
        one
        for one in run.ledger.decisions(digest)
        if one.process_id == asked
        and (
            one.system != SYSTEM
            or one.decision_id == decision_id(one.project, digest, where.judging, one.process_id, one.task_id)
        )
    ]


def _source_problems(run: Run, project: Project, digest: str, prodigy: ProdigyClient) -> list[str]:
    """Hold the answers the version was made of against Prodigy's database as it is now."""
    drifts = source_drift(run, project, digest, prodigy)
    note_drift(run, project, digest, drifts[:20])
    if not drifts:
        return []
    return [f"{len(drifts)} answer(s) were altered or removed in Prodigy after they were seen: {drifts[0]}"]


def _evidence_problems(
    run: Run, project: Project, version: VersionRecord, where: ApprovalState, opentext: OpenTextClient
) -> list[str]:
    """Read the approval process again and hold the ledger against it."""
    found = approval_course(run, project, version, opentext).evaluate(where)
    problems = []
    if found.state != "approved":
        problems.append(f"OpenText shows its approval as {found.state}: {found.sentence}")
    at_source = {one.decision_id: (one.outcome, one.counts, one.person) for one in found.decisions}
    standing = _standing(run, version.digest, where)
    if at_source != {one.decision_id: (one.outcome, one.counts, one.person) for one in standing}:
        problems.append("the decisions on the ledger are not those that OpenText shows now")
    return problems


def _refused_before(run: Run, checked: Checked) -> bool:
    """Tell whether exactly this refusal is on the ledger already."""
    refusals = run.ledger.events(subject=checked.subject, actions=["release.refused"])
    return any(event.body["evidence"] == checked.evidence for event in refusals)


def _refuse(run: Run, project: Project, checked: Checked) -> None:
    """Put a refusal on the ledger and raise it.

    :raises Refused: always, saying what is missing.
    """
    sentence = "; ".join(checked.problems)
    run.note(
        "release.refused",
        project.name,
        checked.subject,
        key=checked.evidence,
        reason=sentence[:2000],
        body={"evidence": checked.evidence, "problems": len(checked.problems)},
    )
    raise Refused(f"version {checked.version.number} ({short(checked.version.digest)}) of {project.name}: {sentence}")
