"""What a named person decides by hand about batches, versions and policies.

Each is a parameter of a run of ``labeling_approval``, acts in the name of the Airflow user who triggered that run,
needs a reason, and is on the ledger once, however often the run's task is tried.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from include.base.canonical import digest_of
from include.base.errors import InvalidInput, Refused
from include.decisions.approval import statement
from include.decisions.state import TERMINAL, ApprovalState, approval_state
from include.governance.records import Decision, VersionRecord
from include.projects.model import Project
from include.queues.batches import batch_progress, open_batches
from include.releases.recovery import withdrawal_evidence
from include.releases.standing import stands_released
from include.run.run import Run
from include.systems.prodigy.client import ProdigyClient

__all__ = ["accept_policy", "act", "close_batch", "judge_again", "resubmit", "withdraw"]

JUDGED_AGAIN = ("void", "undecided", "rejected", "rework", "cancelled")
"""What an approval may have come to because something was not seen."""


def act(run: Run, project: Project, params: Mapping[str, Any], prodigy: ProdigyClient) -> None:
    """Do what a run's parameters say: ``close``, ``resubmit``, ``judge_again`` and ``withdraw`` are lists of digest
    beginnings, ``accept_policy`` is one.

    :raises InvalidInput: as each of them.
    :raises Refused: as each of them.
    """
    reason = params.get("reason") or ""
    for prefix in params.get("close") or []:
        close_batch(run, project, prefix, reason, prodigy)
    for prefix in params.get("resubmit") or []:
        resubmit(run, project, prefix, reason)
    for prefix in params.get("judge_again") or []:
        judge_again(run, project, prefix, reason)
    for prefix in params.get("withdraw") or []:
        withdraw(run, project, prefix, reason)
    if params.get("accept_policy"):
        accept_policy(run, project, params["accept_policy"], reason)


def close_batch(run: Run, project: Project, prefix: str, reason: str, prodigy: ProdigyClient) -> None:
    """Close an unfinished batch in the name of the person who triggered the run, listing what is missing.

    :raises Refused: when nobody in the register triggered the run.
    :raises InvalidInput: for an unknown batch or an empty reason.
    """
    person = _person(run, "closing a batch")
    _checked(prefix, reason, "close")
    if _done_in_this_run(run, project, ("batch.closed",), "batch:", prefix):
        return
    batches = [one for one in open_batches(run, project, prodigy) if one.digest.startswith(prefix)]
    if len(batches) != 1:
        raise InvalidInput(f"close: {prefix!r} names {len(batches)} open batches of {project.name}; allowed: one")
    [(batch, progress)] = batch_progress(run, project, prodigy, batches)
    if batch.closed_by is not None:
        raise Refused(f"batch {prefix} of {project.name} was closed by {batch.closed_by} already")
    missing = progress.expected - progress.done
    run.note(
        "batch.closed",
        project.name,
        f"batch:{batch.digest}",
        key=["closed", batch.times_frozen],
        actor=person,
        reason=reason,
        body={
            "missing": missing,
            "requesters": [person],
            "run_id": run.ref.run_id,
            "times_frozen": batch.times_frozen,
        },
    )
    run.log.info("%s closed batch %s of %s: %d answer(s) are missing.", person, prefix, project.name, missing)


def resubmit(run: Run, project: Project, prefix: str, reason: str) -> None:
    """Record the decision to put a version before its approvers again, as a new attempt.

    :raises Refused: when nobody in the register triggered the run, an approval is still open, or it was released.
    :raises InvalidInput: for an unknown version or an empty reason.
    """
    person = _person(run, "resubmitting a version")
    version = _not_done(run, project, prefix, reason, "resubmit", "approval.resubmitted")
    if version is None:
        return
    where = approval_state(run, version.digest)
    if where.state not in TERMINAL:
        raise Refused(f"version {prefix} of {project.name} is {where.state}: only a decided one can be resubmitted")
    if stands_released(run, version.digest) is not None:
        raise Refused(f"version {prefix} of {project.name} is released: its approval stands, until it is withdrawn")
    run.note(
        "approval.resubmitted",
        project.name,
        f"version:{version.digest}",
        key=["resubmitted", where.attempt + 1],
        actor=person,
        reason=reason,
        body={"attempt": where.attempt + 1, "requesters": [person], "run_id": run.ref.run_id},
    )
    run.log.info("%s resubmitted version %s of %s as attempt %d.", person, prefix, project.name, where.attempt + 1)


def judge_again(run: Run, project: Project, prefix: str, reason: str) -> None:
    """Have the process of an attempt that came to nothing read and judged again, as it shows itself now.

    It asks nobody anew: what counts is what people decided in it. One that was ended from outside stays cancelled.

    :raises Refused: when nobody in the register triggered the run, or the approval came to a person's decision.
    :raises InvalidInput: for an unknown version or an empty reason.
    """
    person = _person(run, "judging an approval again")
    version = _not_done(run, project, prefix, reason, "judge_again", "approval.reopened")
    if version is None:
        return
    where = approval_state(run, version.digest)
    if where.state not in JUDGED_AGAIN or where.requested is None:
        raise Refused(
            f"version {prefix} of {project.name} is {where.state}: only one whose approval was "
            f"{', '.join(JUDGED_AGAIN)} is judged again"
        )
    run.note(
        "approval.reopened",
        project.name,
        f"version:{version.digest}",
        key=["reopened", where.attempt, where.reopened + 1],
        actor=person,
        reason=reason,
        body={"attempt": where.attempt, "requesters": [person], "run_id": run.ref.run_id},
    )
    run.log.info("%s has attempt %d of version %s of %s judged again.", person, where.attempt, prefix, project.name)


def accept_policy(run: Run, project: Project, prefix: str, reason: str) -> None:
    """Accept a changed policy in the name of the person who triggered the run; it is in force from the next run on.

    :raises Refused: when nobody in the register triggered the run, they made the change, or lack the guard's role.
    :raises InvalidInput: for a policy that does not wait, or an empty reason.
    """
    person = _person(run, "accepting a policy")
    _checked(prefix, reason, "accept_policy")
    subject = f"policy:{project.name}"
    waits = run.last(subject, "policy.proposed", "policy.in_force", "policy.accepted")
    if waits is not None and waits.action == "policy.accepted" and waits.body["run_id"] == run.ref.run_id:
        return
    if waits is None or waits.action != "policy.proposed" or not (waits.digest_after or "").startswith(prefix):
        raise InvalidInput(f"accept_policy: found {prefix!r}; no policy of {project.name} with that digest waits")
    guard = waits.body["guard"]
    if person == waits.actor:
        raise Refused(f"{person} changed the policy of {project.name}: somebody else accepts it")
    if not run.register.has_role(person, guard, project.name, run.now()):
        raise Refused(f"{person} is no {guard} of {project.name}, who accept its policy")
    run.note(
        "policy.accepted",
        project.name,
        subject,
        key=["accepted", waits.seq],
        actor=person,
        reason=reason,
        after=waits.digest_after,
        body={"run_id": run.ref.run_id, "changed_by": waits.actor},
    )
    run.log.info("%s accepts the policy %s of %s.", person, prefix, project.name)


def withdraw(run: Run, project: Project, prefix: str, reason: str) -> None:
    """Withdraw a version, or the approval of one, in the name of the person who triggered the run.

    An open approval ends; what was approved is not any more; what was released is recalled by the next run of
    ``dataset_release``. The version and its proof stay, and it can be resubmitted.

    :raises Refused: when nobody in the register triggered the run, the person has no say in the version, or it is
        withdrawn already.
    :raises InvalidInput: for an unknown version or an empty reason.
    """
    person = _person(run, "withdrawing a version")
    _checked(prefix, reason, "withdraw")
    version = _named(run, project, prefix, "withdraw")
    where = approval_state(run, version.digest)
    if (where.ending is not None and where.ending.body["state"] == "withdrawn") or where.state == "withdrawn":
        if _done_in_this_run(run, project, ("approval.withdrawn", "approval.ending"), "version:", prefix):
            return
        raise Refused(f"version {prefix} of {project.name} is withdrawn already")
    if where.ending is not None:
        raise Refused(
            f"the approval of version {prefix} of {project.name} is just ending: try again after the next run"
        )
    role, meaning = _role_of(run, project, version, person)
    running = where.state == "requested"
    decision = _withdrawal(run, project, version, where, person, role, meaning, reason)
    decision = replace(decision, raw_digest=withdrawal_evidence(run.store, decision, reason))
    run.decide(
        [decision],
        run.event(
            # A running process is ended by the same run's capture; what we decided is on the ledger before that.
            "approval.ending" if running else "approval.withdrawn",
            project.name,
            f"version:{version.digest}",
            actor=person,
            after=version.digest,
            reason=reason,
            body={
                "attempt": where.attempt,
                "state": "withdrawn",
                "was": where.state,
                "process_id": decision.process_id,
                "run_id": run.ref.run_id,
            },
        ),
        ["ending" if running else "withdrawn", where.attempt],
    )
    then = ": it is recalled by the next run of dataset_release" if stands_released(run, version.digest) else ""
    run.log.info(f"{person} withdrew version {version.number or 0} of {project.name}, which was {where.state}{then}.")


def _role_of(run: Run, project: Project, version: VersionRecord, person: str) -> tuple[str, str]:
    """Return in which role somebody may withdraw a version, and what their decision meant, if they made one.

    :raises Refused: when they are neither an approver of it, nor its project's owner, nor hold a role of its policy.
    """
    for one in run.ledger.decisions(version.digest):
        if one.person == person and one.counts and one.outcome == "approve":
            return one.role, one.meaning
    if person == project.owner:
        return "owner", "responsibility"
    roles = [(one.role, one.meaning) for one in project.policy.approvals]
    if project.policy.escalation_role:
        roles.append((project.policy.escalation_role, "responsibility"))
    for role, meaning in roles:
        if run.register.has_role(person, role, project.name, run.now()):
            return role, meaning
    raise Refused(
        f"{person} has no say in version {version.number} of {project.name}: allowed are its approvers, the project's "
        f"owner, and {', '.join(sorted({role for role, _ in roles}))}"
    )


def _withdrawal(
    run: Run,
    project: Project,
    version: VersionRecord,
    where: ApprovalState,
    person: str,
    role: str,
    meaning: str,
    reason: str,
) -> Decision:
    # Under the process of the attempt, so that it stands beside the decisions it takes back.
    process_id = where.requested.body["process_id"] if where.requested else ""
    subject = f"version:{version.digest}"
    return Decision(
        decision_id=digest_of(["withdraw", project.name, subject, where.attempt, person]),
        project=project.name,
        subject=subject,
        digest=version.digest,
        attempt=where.attempt,
        role=role,
        outcome="withdraw",
        counts=True,
        void_reason="",
        person=person,
        account=run.ref.triggered_by or "",
        system="airflow",
        decided_at=run.now(),
        meaning=meaning,
        grade="asserted",
        statement=statement(
            meaning=meaning,
            outcome="withdraw",
            role=role,
            project=project.name,
            digest=version.digest,
            policy_digest=version.policy_digest,
        ),
        process_id=process_id,
        task_id=run.ref.run_id,
    )


def _not_done(
    run: Run, project: Project, prefix: str, reason: str, parameter: str, action: str
) -> VersionRecord | None:
    """Return the version that a parameter names, None where an earlier try of this run has done it already."""
    _checked(prefix, reason, parameter)
    if _done_in_this_run(run, project, (action,), "version:", prefix):
        return None
    return _named(run, project, prefix, parameter)


def _named(run: Run, project: Project, prefix: str, parameter: str) -> VersionRecord:
    versions = [one for one in run.ledger.versions(project.name) if one.digest.startswith(prefix)]
    if len(versions) != 1:
        raise InvalidInput(f"{parameter}: {prefix!r} names {len(versions)} versions of {project.name}; allowed: one")
    return versions[0]


def _done_in_this_run(run: Run, project: Project, actions: tuple[str, ...], kind: str, prefix: str) -> bool:
    """Tell whether an earlier try of this very run has recorded a person's word already."""
    return any(
        event.body.get("run_id") == run.ref.run_id and event.subject.startswith(f"{kind}{prefix}")
        for event in run.ledger.events(project=project.name, actions=actions)
    )


def _person(run: Run, what: str) -> str:
    person = run.requester()
    if person is None:
        raise Refused(f"{what} needs a named person: trigger the run by hand, as somebody in the register")
    return person


def _checked(prefix: str, reason: str, parameter: str) -> None:
    if len(prefix) < 6:
        raise InvalidInput(f"{parameter}: found {prefix!r}; allowed: at least six characters of a digest")
    if not reason.strip():
        raise InvalidInput(f"reason: `{parameter}` needs one, in words, for the ledger")
