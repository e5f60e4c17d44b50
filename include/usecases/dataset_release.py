"""From an approved version to training: every condition is checked at its source, at the moment of handing over."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from include.base.canonical import digest_of, effect_key
from include.base.errors import InvalidInput, Refused
from include.base.store import measure
from include.bpmn.mapping import ProcessMappings, start_variables
from include.datasets import freeze as freezing
from include.datasets import withdrawals
from include.datasets.conditions import policy_problems
from include.decisions import approval
from include.decisions.duplicates import end_duplicates, end_if_overtaken
from include.governance.records import Decision, Event, VersionRecord
from include.governance.usage import USED
from include.projects.model import Project
from include.releases import write as releasing
from include.releases.passport import release_context, send_lineage
from include.releases.standing import next_edition, recallable, standing_releases, stands_released
from include.run.gates import require_gate
from include.run.run import ItemResult, Run, WorkItem, short
from include.systems.opentext.values import OpenTextGateway
from include.systems.prodigy.values import ProdigyGateway
from include.usecases.labeling_approval import (
    SETTLE_SECONDS,
    ApprovalState,
    approval_state,
    approval_states,
    check_deployed,
    evaluate,
    kept_decisions,
    snapshot,
    statements_put,
)

__all__ = [
    "Checked",
    "ask_release",
    "check",
    "hand_over",
    "pending",
    "recall",
    "refuse",
    "refused_before",
    "release_decision",
    "source_drift",
]

USE_CASE = "dataset_release"
ROLE = "release_manager"
RECALL = "recall"
"""Kind of the work item of a release whose approval was withdrawn."""


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


def pending(run: Run, project: Project, chosen: str | None) -> Iterator[WorkItem]:
    """Yield the approved versions that are not released, and the released ones whose approval was withdrawn.

    A chosen version is looked at whatever its state.

    :param chosen: number or beginning of the digest of the one version to look at.
    :raises InvalidInput: when nothing, or more than one, is called so.
    """
    versions = run.ledger.versions(project.name)
    if chosen is not None:
        found = [
            one for one in versions if str(one.number) == chosen or (len(chosen) >= 6 and one.digest.startswith(chosen))
        ]
        if len(found) != 1:
            raise InvalidInput(
                f"version: found {chosen!r}, which names {len(found)} versions of {project.name}; "
                f"allowed: a number up to {len(versions)}, or at least six characters of a digest"
            )
        versions = found
    released, to_recall = standing_releases(run, project), recallable(run, project)
    states = approval_states(run, project)
    for version in versions:
        subject, state = f"version:{version.digest}", states[version.digest].state
        if subject in to_recall and state == "withdrawn":
            yield WorkItem(project.name, subject, {"number": version.number, "kind": RECALL})
            continue
        if chosen is None and (subject in released or state != "approved"):
            continue
        yield WorkItem(project.name, subject, {"number": version.number, "chosen": chosen is not None})


def check(
    run: Run,
    project: Project,
    item: WorkItem,
    prodigy: ProdigyGateway,
    opentext: OpenTextGateway,
    mappings: ProcessMappings,
) -> Checked:
    """Check completeness, approvals and policy of exactly this digest, re-reading the evidence at its source."""
    digest = item.subject.removeprefix("version:")
    version = run.ledger.version(digest)
    if version is None or version.project != project.name:
        raise Refused(f"the ledger knows no version {short(digest)} of {project.name}")
    where, edition = approval_state(run, digest), next_edition(run, digest)
    problems = [f"the frozen files: {one}" for one in freezing.verify_version(run.store, project.name, digest)]
    if not problems:
        manifest = freezing.read_manifest(run.store, project.name, digest)
        problems += policy_problems(project, manifest, _standing(run, digest, where))
        problems += _source_problems(run, project, digest, prodigy)
    if where.state != "approved":
        problems.append(f"the ledger says of its approval: {where.state}, attempt {where.attempt}")
    if not where.gate_passed:
        problems.append("no quality gate passed for it")
    if not problems:
        problems += _evidence_problems(run, project, digest, where, opentext, mappings)
    run.log.info(
        "Checked version %d (%s) of %s for release: %s",
        version.number, short(digest), project.name, "nothing is missing" if not problems else "; ".join(problems),
    )  # fmt: skip
    return Checked(version, where, tuple(problems), digest_of([digest, where.state, where.attempt, problems]), edition)


def refused_before(run: Run, checked: Checked) -> bool:
    """Tell whether exactly this refusal is on the ledger already."""
    return any(
        event.body["evidence"] == checked.evidence
        for event in run.ledger.events(subject=f"version:{checked.version.digest}", actions=["release.refused"])
    )


def _standing(run: Run, digest: str, where: ApprovalState) -> list[Decision]:
    """Return the decisions of the current attempt; what was refused before a resubmission forbids nothing any more."""
    asked = where.requested.body["process_id"] if where.requested else ""
    return [one for one in run.ledger.decisions(digest) if one.process_id == asked]


def refuse(run: Run, project: Project, checked: Checked) -> None:
    """Put a refusal on the ledger and raise it.

    :raises Refused: always, saying what is missing.
    """
    subject = f"version:{checked.version.digest}"
    sentence = "; ".join(checked.problems)
    run.note(
        "release.refused",
        project.name,
        subject,
        key=checked.evidence,
        reason=sentence[:2000],
        body={"evidence": checked.evidence, "problems": len(checked.problems)},
    )
    raise Refused(f"version {checked.version.number} ({short(checked.version.digest)}) of {project.name}: {sentence}")


def ask_release(
    run: Run,
    project: Project,
    checked: Checked,
    opentext: OpenTextGateway,
    mappings: ProcessMappings,
) -> dict[str, Any] | None:
    """Report the checks to the release process, starting it unless it runs; None where Airflow releases by itself."""
    if project.release.orchestrator != "opentext":
        return None
    version, mapping = checked.version, mappings.dataset_release
    subject = f"version:{version.digest}"
    known = _requested(run, version.digest)
    # A new process for a new approval, and once what was missing is there; else the one that runs or has decided.
    stands = known is not None and known.body["approval_attempt"] == checked.where.attempt
    if known is not None and stands and (known.body["passed"] or checked.problems):
        run.log.info("The release process %s was started before.", known.body["process_id"])
        end_duplicates(run, project, subject, opentext, known.body["business_key"], known.body["process_id"])
        return {"process_id": known.body["process_id"], "created": 0}
    check_deployed(run, project, opentext, mapping)
    attempt = 1 if known is None else known.body["attempt"] + 1
    requester = run.requester()
    if requester is not None:
        # Before the process is started: if this run is killed, the next one still knows who asked.
        run.note(
            "release.asked", project.name, subject, key=["asked", attempt, requester], actor=requester,
            after=version.digest, body={"attempt": attempt, "requesters": [requester]},
        )  # fmt: skip
    key = effect_key(USE_CASE, project.name, subject, version.digest, attempt)
    effect = run.claim(USE_CASE, project.name, subject, version.digest, attempt)
    if known is not None and opentext.process(known.body["process_id"]) is not None:
        effect.check()
        opentext.terminate(known.body["process_id"], f"replaced by attempt {attempt}")
    said = approval.statements(mapping, policy=project.policy, project=project.name, digest=version.digest)
    statements = run.store.put_object(said.encode("utf-8"))
    effect.check()
    process_id, created = opentext.start_process(
        mapping.process_key,
        name=f"{project.title}: release of version {version.number} ({short(version.digest)})",
        business_key=key,
        settle_seconds=SETTLE_SECONDS if effect.interrupted else 0,
        variables={
            **start_variables(mapping, [ROLE], opentext.groups),
            mapping.digest_variable: version.digest,
            "labelops_project": project.name,
            "dataset_version": version.number,
            "dataset_rows": version.row_count,
            "checks_passed": not checked.problems,
            "check_problems": len(checked.problems),
            "evidence_hint": f"Comment with {short(version.digest)} before you complete: that attests your decision.",
            approval.STATEMENTS: said,
        },
    )

    def recorded() -> str | None:
        asked = _requested(run, version.digest)
        return None if asked is None else str(asked.body["process_id"])

    with end_if_overtaken(run, opentext, process_id, created, recorded):
        run.finish(
            effect,
            run.event(
                "release.requested",
                project.name,
                subject,
                after=version.digest,
                body={
                    "process_id": process_id,
                    "business_key": key,
                    "attempt": attempt,
                    "approval_attempt": checked.where.attempt,
                    "passed": not checked.problems,
                    "statements": statements,
                },
            ),
            ["requested", attempt],
            process_id,
            created=int(created),
            detail=f"attempt {attempt}",
        )
    run.log.info(
        "%s the release process %s (attempt %d), reporting %d problem(s).",
        "Started" if created else "Found", process_id, attempt, len(checked.problems),
    )  # fmt: skip
    return {"process_id": process_id, "created": int(created)}


def hand_over(
    run: Run,
    project: Project,
    item: WorkItem,
    gate: Mapping[str, Any] | None,
    prodigy: ProdigyGateway,
    opentext: OpenTextGateway,
    mappings: ProcessMappings,
    webhook: Callable[[dict[str, Any], str], None] | None,
    *,
    created: int = 0,
    emit: Callable[[bytes], None] | None = None,
) -> ItemResult:
    """Check everything once more, then write the release, link it in Prodigy and tell training.

    :param webhook: calls the training side with a payload and its idempotency key; None where none is configured.
    :param emit: sends a release's ``openlineage.json``; None where nothing is configured. That it failed is a finding
        and stops nothing.
    :raises Refused: saying what is missing.
    """
    checked = check(run, project, item, prodigy, opentext, mappings)
    version = checked.version
    subject = f"version:{version.digest}"
    if checked.problems:
        refuse(run, project, checked)
    require_gate(run, project, subject, "release_rows", gate, version.rows_digest)
    before = stands_released(run, version.digest)
    if before is not None:
        sentence = f"Version {version.number} ({short(version.digest)}) was released before"
        run.log.info("%s, in %s.", sentence, before.body["path"])
        return _result(project, version, "released", sentence, created, False, opentext, run, before.body["path"])
    decided = release_decision(run, project, version, opentext, mappings)
    if decided is not None:
        run.findings(project.name, subject, (("release", one) for one in decided.findings))
        run.log.info("%s", decided.sentence)
        if decided.state == "waiting":
            return _result(project, version, "waiting", decided.sentence, created, False, opentext, run)
        for decision in kept_decisions(run, decided.decisions):
            run.ledger.record_decision(decision)
        if decided.state != "released":
            refusal = Checked(version, checked.where, (decided.sentence,), digest_of(decided.sentence), checked.edition)
            if not item.detail.get("chosen") and refused_before(run, refusal):
                return _result(project, version, decided.state, decided.sentence, created, False, opentext, run)
            refuse(run, project, refusal)
    return _write(run, project, checked, prodigy, opentext, webhook, emit, created)


def release_decision(
    run: Run, project: Project, version: VersionRecord, opentext: OpenTextGateway, mappings: ProcessMappings
) -> approval.ReleaseDecision | None:
    """Read what the release process decided; None where Airflow releases by itself.

    :raises Refused: when no release process was ever started.
    """
    if project.release.orchestrator != "opentext":
        return None
    known = _requested(run, version.digest)
    if known is None:
        raise Refused(f"no release process was started for version {version.number} of {project.name}")
    manifest = freezing.read_manifest(run.store, project.name, version.digest)
    return approval.evaluate_release(
        snapshot(
            run,
            project,
            f"version:{version.digest}",
            known.body["process_id"],
            opentext,
            mappings.dataset_release,
        ),
        project=project,
        digest=version.digest,
        mapping=mappings.dataset_release,
        register=run.register,
        policy=project.policy,
        attempt=known.body["attempt"],
        manifest_persons=freezing.annotators(manifest),
        requesters={
            person
            for event in run.ledger.events(subject=f"version:{version.digest}", actions=["release.asked"])
            for person in event.body["requesters"]
        },
        role=ROLE,
        business_key=known.body["business_key"],
        statements=statements_put(run, known),
    )


def _write(
    run: Run,
    project: Project,
    checked: Checked,
    prodigy: ProdigyGateway,
    opentext: OpenTextGateway,
    webhook: Callable[[dict[str, Any], str], None] | None,
    emit: Callable[[bytes], None] | None,
    created: int,
) -> ItemResult:
    version = checked.version
    subject = f"version:{version.digest}"
    edition = checked.edition
    effect = run.claim(f"{USE_CASE}.files", project.name, subject, version.digest, edition)
    effect.check()
    number = version.number or 0
    asked = _requested(run, version.digest)
    processes = {event.body["process_id"] for event in (checked.where.requested, asked) if event is not None}
    manifest = freezing.read_manifest(run.store, project, version.digest)
    written = releasing.write_release(
        run.store,
        project,
        version.digest,
        number,
        manifest,
        _approvals(run, version.digest, processes),
        release_context(run, project, manifest, checked.where.requested, processes),
        run.signer,
        edition=edition,
    )
    effect.check()
    dataset = project.version_dataset(number)
    linked = prodigy.link(
        dataset,
        _winning_examples(run, project, version.digest),
        {"labelops": {"project": project.name, "version": version.number, "digest": version.digest}},
    )
    payload = {
        "project": project.name,
        "version": version.number,
        "digest": version.digest,
        "rows": version.row_count,
        "location": str(written.path),
    }
    if webhook is not None:
        effect.check()
        webhook(payload, effect.key)
    if emit is not None:
        effect.check()
        send_lineage(run, project, subject, written.path, emit)
    made = int(written.created) + int(bool(linked))
    new = run.finish(
        effect,
        run.event(
            "release.done",
            project.name,
            subject,
            after=version.digest,
            body={
                "number": version.number,
                "edition": edition,
                "path": f"releases/{project.name}/{written.path.name}",
                "dataset": dataset,
                "files": dict(written.files),
                "webhook": webhook is not None,
            },
        ),
        "done" if edition == 1 else ["done", edition],
        str(written.path),
        created=made,
        detail=f"version {version.number}",
    )
    run.ledger.write_checkpoint(run.store, run.signer)
    sentence = (
        f"Version {version.number} ({short(version.digest)}) is released: {version.row_count} rows, dataset {dataset}"
    )
    run.log.info("%s, in %s.", sentence, written.path)
    return _result(project, version, "released", sentence, created + made, new, opentext, run, str(written.path))


def _approvals(run: Run, digest: str, processes: Collection[str]) -> list[dict[str, Any]]:
    """Return the decisions that a release rests on, each with the source's time and ours."""
    recorded = {
        event.body["decision_id"]: event.time
        for event in run.ledger.events(subject=f"version:{digest}", actions=["decision.recorded"])
    }
    return [
        {**asdict(one), "recorded_at": recorded[one.decision_id]}
        for one in run.ledger.decisions(digest)
        if one.process_id in processes
    ]


def recall(
    run: Run,
    project: Project,
    item: WorkItem,
    prodigy: ProdigyGateway,
    opentext: OpenTextGateway,
    mappings: ProcessMappings,
    webhook: Callable[[dict[str, Any], str], None] | None,
) -> ItemResult:
    """Take back the release of a withdrawn version: end its process, mark its folder, unlink it, tell training.

    The files stay, for what was trained on them has to be explained; a mark beside them says that they must not be
    used any more, by whose word and why.

    :raises Refused: when its approval was not withdrawn.
    """
    digest, subject = item.subject.removeprefix("version:"), item.subject
    version = run.ledger.version(digest)
    if version is None or version.project != project.name:
        raise Refused(f"the ledger knows no version {short(digest)} of {project.name}")
    if approval_state(run, digest).state != "withdrawn":
        raise Refused(f"the approval of version {version.number} of {project.name} was not withdrawn")
    if subject not in recallable(run, project):
        return ItemResult(project.name, subject, "recalled", f"Version {version.number} was recalled before")
    withdrawn, released = _last(run, subject, "approval.withdrawn"), stands_released(run, digest)
    asked = _requested(run, version.digest)
    edition = released.body.get("edition", 1) if released else 0
    request = asked.body["attempt"] if asked else 0
    effect = run.claim(f"{USE_CASE}.recall", project.name, subject, digest_of([digest, edition]), request + 1)
    effect.check()
    updated = _end_request(run, project, version, asked, opentext, mappings, withdrawn.reason) if asked else 0
    if released is not None:
        effect.check()
        updated += _take_back(run, project, version, withdrawn, released, prodigy)
        if webhook is not None:
            effect.check()
            payload = {"event": "recalled", "project": project.name, "version": version.number, "digest": digest}
            webhook({**payload, "location": released.body["path"], "reason": withdrawn.reason}, effect.key)
        for use in run.ledger.events(subject=subject, actions=[USED]):
            model = f"{use.body['model']} {use.body['model_version']}"
            run.finding(project.name, subject, "recalled version in use", f"model {model} was made with it")
    where = released.body["path"] if released else ""
    new = run.finish(
        effect,
        run.event(
            "release.recalled",
            project.name,
            subject,
            before=digest,
            reason=withdrawn.reason,
            body={
                "number": version.number,
                "edition": edition,
                "path": where,
                "dataset": released.body["dataset"] if released else "",
                "withdrawn_by": withdrawn.actor,
                "webhook": released is not None and webhook is not None,
            },
        ),
        ["recalled", edition, request],
        where or subject,
        updated=updated,
        detail=f"version {version.number}",
    )
    run.ledger.write_checkpoint(run.store, run.signer)
    what = "is recalled" if released else "was about to be released, and is not"
    sentence = f"Version {version.number} ({short(digest)}) {what}: {withdrawn.reason}"
    run.log.warning("%s.%s", sentence, f" Its files stay in {where}, marked." if where else "")
    return ItemResult(
        project=project.name,
        subject=subject,
        state="recalled",
        sentence=sentence,
        updated=updated,
        changed=new,
        where=where,
        detail={"digest": digest, "number": version.number},
    )


def _end_request(
    run: Run,
    project: Project,
    version: VersionRecord,
    asked: Event,
    opentext: OpenTextGateway,
    mappings: ProcessMappings,
    reason: str,
) -> int:
    """Record what was decided in a release process, and end it if it still runs; return the number of effects."""
    decided = release_decision(run, project, version, opentext, mappings)
    for decision in kept_decisions(run, decided.decisions if decided else ()):
        run.ledger.record_decision(decision)
    if opentext.process(asked.body["process_id"]) is None:
        return 0
    opentext.terminate(asked.body["process_id"], f"withdrawn: {reason}"[:250])
    return 1


def _take_back(
    run: Run, project: Project, version: VersionRecord, withdrawn: Event, released: Event, prodigy: ProdigyGateway
) -> int:
    """Mark a release's folder, point to the newest one that stands, unlink the dataset; return what was changed."""
    others = [event for name, event in standing_releases(run, project).items() if name != released.subject]
    marked = releasing.mark_recalled(
        run.store,
        project,
        released.body["path"].rpartition("/")[2],
        {
            "project": project.name,
            "version": version.number,
            "digest": version.digest,
            "by": withdrawn.actor,
            "at": withdrawn.time.isoformat(),
            "reason": withdrawn.reason,
            "ledger_event": withdrawn.seq,
        },
        instead=others[-1].body["path"].rpartition("/")[2] if others else None,
    )
    return int(marked) + int(bool(prodigy.unlink(released.body["dataset"])))


def _last(run: Run, subject: str, action: str) -> Event:
    *_, last = run.ledger.events(subject=subject, actions=[action])
    return last


def _evidence_problems(
    run: Run,
    project: Project,
    digest: str,
    where: ApprovalState,
    opentext: OpenTextGateway,
    mappings: ProcessMappings,
) -> list[str]:
    """Read the approval process again and hold the ledger against it."""
    found = evaluate(run, project, digest, where, opentext, mappings.labeling_approval)
    problems = []
    if found.state != "approved":
        problems.append(f"OpenText shows its approval as {found.state}: {found.sentence}")
    at_source = {one.decision_id: (one.outcome, one.counts, one.person) for one in found.decisions}
    on_ledger = {one.decision_id: (one.outcome, one.counts, one.person) for one in _standing(run, digest, where)}
    if on_ledger != at_source:
        problems.append("the decisions on the ledger are not those that OpenText shows now")
    return problems


def _source_problems(run: Run, project: Project, digest: str, prodigy: ProdigyGateway) -> list[str]:
    """Hold the answers the version was made of against Prodigy's database as it is now."""
    drifts = source_drift(run, project, digest, prodigy)
    if not drifts:
        return []
    for drift in drifts[:20]:
        run.finding(project.name, f"version:{digest}", "answer changed", drift)
    return [f"{len(drifts)} answer(s) were altered or removed in Prodigy after they were seen: {drifts[0]}"]


def source_drift(run: Run, project: Project, digest: str, prodigy: ProdigyGateway) -> list[str]:
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


def _winning_examples(run: Run, project: Project, digest: str) -> list[int]:
    """Return, for each row that people's answers decided, the example whose answer is the final label."""
    examples: dict[str, int] = {}
    for example_id, row in freezing.source_rows(run.store, project, digest):
        examples[row] = min(example_id, examples.get(row, example_id))
    return sorted(
        {examples[row["answers"][0]["row"]] for row in freezing.rows(run.store, project, digest) if row["answers"]}
    )


def _requested(run: Run, digest: str) -> Event | None:
    found = list(run.ledger.events(subject=f"version:{digest}", actions=["release.requested"]))
    return found[-1] if found else None


def _result(
    project: Project,
    version: VersionRecord,
    state: str,
    sentence: str,
    created: int,
    changed: bool,
    opentext: OpenTextGateway,
    run: Run,
    where: str = "",
) -> ItemResult:
    known = _requested(run, version.digest)
    process_id = known.body["process_id"] if known else ""
    return ItemResult(
        project=project.name,
        subject=f"version:{version.digest}",
        state=state,
        sentence=sentence,
        created=created,
        changed=changed,
        where=where or (opentext.process_url(process_id) if process_id else ""),
        detail={"digest": version.digest, "number": version.number, "process_id": process_id},
    )
