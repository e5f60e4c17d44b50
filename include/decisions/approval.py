"""What an approval process in OpenText amounts to: a pure judgement of what its history, tasks and comments show.

Nothing here asks a system or keeps anything. The same snapshot, register, policy and clock always give the same answer,
so a scheduled run, a waiting run and an auditor who repeats it later agree.

Two facts of the service shape the rules. Its task history names the assignee, not who completed; and a token of the
service may be able to complete tasks in a person's name. So a decision counts as *attested* only with something that
token cannot imitate. And a process can end approved for reasons of its own model: the end event is never enough, the
decisions of the persons that the policy demands have to be there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from include.base.canonical import SHORT, digest_of, sha256_hex
from include.bpmn.mapping import STATEMENTS, ProcessMapping, TaskMapping
from include.decisions.origin import CLOCKS, why_foreign
from include.governance.records import Decision, Grade, Outcome, Signature, lower_signature, signed_enough
from include.people.register import UNKNOWN, Register, account_key, is_unknown
from include.projects.model import Policy, Project
from include.systems.opentext.values import HistoricProcess, HistoricTask, ProcessComment, UserTask

__all__ = [
    "STATEMENT_VERSION",
    "Case",
    "Evaluation",
    "Holding",
    "Observed",
    "ProcessSnapshot",
    "ReleaseDecision",
    "decision_id",
    "evaluate",
    "evaluate_release",
    "evidence_hint",
    "mapped_task",
    "observe",
    "read_observed",
    "statement",
    "statements",
    "unknown_person",
]

SYSTEM = "opentext"
STATEMENT_VERSION = 1
"""Raised whenever the wording of a statement changes, so that a kept statement says which wording it is."""

_ATTESTED = re.compile(rf"(?P<word>[^:]*?)\s*:?\s*\b(?P<digest>[0-9a-f]{{{SHORT},64}})\s*[.!]?")
"""A line that attests a decision, without case: an outcome, and the version's digest or its beginning."""

_WORDING = re.compile(r"\[(\d{1,6})\] ")

State = Literal["waiting", "approved", "rejected", "rework", "undecided", "void", "expired", "cancelled", "stale"]
ReleaseState = Literal["waiting", "released", "refused", "cancelled", "stale", "void"]
NextStep = Literal["remind", "escalate", "expire"] | None

_VERDICTS: dict[str, Outcome] = {"approve": "approve", "reject": "reject", "rework": "rework"}

_STATEMENTS = {
    ("review", "approve"): "I reviewed {what} as {role} and found it fit for its purpose",
    ("review", "reject"): "I reviewed {what} as {role} and found it unfit for its purpose",
    ("review", "rework"): "I reviewed {what} as {role} and ask for it to be reworked",
    ("approval", "approve"): "I approve {what} as {role}",
    ("approval", "reject"): "I refuse my approval of {what} as {role}",
    ("approval", "rework"): "I refuse my approval of {what} as {role} until it is reworked",
    ("review", "withdraw"): "I withdraw my review of {what} as {role}",
    ("approval", "withdraw"): "I withdraw the approval of {what} as {role}",
    ("responsibility", "withdraw"): "I withdraw {what} as {role}",
    ("responsibility", "approve"): "I take responsibility for the release of {what} as {role}",
    ("responsibility", "reject"): "I refuse the release of {what} as {role}",
    ("responsibility", "rework"): "I refuse the release of {what} as {role} until it is reworked",
}


@dataclass(frozen=True)
class Holding:
    """Who had a waiting task at one look. A reassignment may leave no trace in history, so looks are kept.

    :param delegation: ``pending`` or ``resolved`` while the owner has delegated it.
    :param seen: when this was seen first (our clock); None where an older record did not say.
    """

    assignee: str | None
    owner: str | None = None
    delegation: str | None = None
    seen: datetime | None = None


@dataclass(frozen=True)
class Observed:
    """What the looks at a process saw that its history may not show later.

    :param holdings: who had each task, oldest first, by task id; only changes are kept.
    :param outcomes: outcome of a completed task, by task id, as its process variable was when that task was first seen
        as the last that had written it: another task, or anybody else, may write the variable later.
    :param comments: SHA-256 of what each comment said when it was first seen, by its id.
    """

    holdings: Mapping[str, Sequence[Holding]] = field(default_factory=dict)
    outcomes: Mapping[str, str] = field(default_factory=dict)
    comments: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return it as the sync state keeps it."""
        return {
            "holdings": {
                task_id: [
                    [one.assignee, one.owner, one.delegation, one.seen.isoformat() if one.seen else None]
                    for one in seen
                ]
                for task_id, seen in self.holdings.items()
            },
            "outcomes": dict(self.outcomes),
            "comments": dict(self.comments),
        }


@dataclass(frozen=True)
class ProcessSnapshot:
    """What was read of one process.

    :param observed: what this look and the earlier ones saw (see :func:`observe`).
    :param called: variables of the processes that this one called, by process id.
    :param keys: keys of the models of all these processes; empty where the service does not tell one.
    """

    history: HistoricProcess
    tasks: Sequence[HistoricTask] = ()
    open_tasks: Sequence[UserTask] = ()
    comments: Sequence[ProcessComment] = ()
    observed: Observed = field(default_factory=Observed)
    called: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    keys: tuple[str, ...] = ()

    def variables_of(self, process_id: str) -> Mapping[str, Any]:
        """Return the variables of the process that a task is in: this one or one that it called."""
        return self.called.get(process_id, {}) if process_id != self.history.id else self.history.variables


@dataclass(frozen=True)
class Evaluation:
    """What an approval process amounts to now.

    :param proofs: the raw replies (task, comments) that prove the decisions, to be kept by content, by their SHA-256.
    :param missing: sentences, one for each demand of the policy that is not met.
    :param findings: sentences that a person must look at.
    :param next_step: what is due while it waits; None when nothing is.
    :param sentence: the state and its reason, for a log.
    :param open_tasks: the tasks that waited when it was read.
    :param called: ids of the processes that it has called so far.
    :param keys: keys of the models of all these processes; empty where the service does not tell one.
    :param on_absence: whether the state rests on something that was not seen, and that a later look may show.
    """

    state: State
    decisions: tuple[Decision, ...]
    proofs: Mapping[str, bytes]
    missing: tuple[str, ...]
    findings: tuple[str, ...]
    next_step: NextStep
    due: datetime
    reminder_at: datetime
    expires_at: datetime
    sentence: str
    open_tasks: tuple[UserTask, ...] = ()
    called: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    on_absence: bool = False


@dataclass(frozen=True)
class ReleaseDecision:
    """What a release process amounts to; ``decision`` is the one that released or refused.

    :param proofs: as those of :class:`Evaluation`.
    """

    state: ReleaseState
    decision: Decision | None
    findings: tuple[str, ...]
    sentence: str
    decisions: tuple[Decision, ...]
    proofs: Mapping[str, bytes]


@dataclass(frozen=True)
class Case:
    """A process, and everything that its decisions are judged against.

    :param digest: the version's digest; nothing that is about another digest counts.
    :param annotators: who annotated or adjudicated the version: ids of the register, or ``unknown…`` entries.
    :param requesters: who asked (triggered the run, changed the policy), in the same form.
    :param business_key: the effect key that the process was started under.
    :param statements: what was put before its persons when it was started (:func:`statements`), None where nothing was.
    :param asked_at: when we first set out to ask, None where that was not kept.
    :param judging: names this judgement of the process (:attr:`include.decisions.state.ApprovalState.judging`).
    :param same: by person id, all ids that are the same person (:func:`include.people.identity.same_persons`).
    """

    snapshot: ProcessSnapshot
    project: Project
    digest: str
    attempt: int
    mapping: ProcessMapping
    register: Register
    policy: Policy
    annotators: frozenset[str]
    requesters: frozenset[str]
    business_key: str
    statements: str | None = None
    asked_at: datetime | None = None
    same: Mapping[str, frozenset[str]] = field(default_factory=dict)
    judging: Sequence[int] = (1,)

    def ids_of(self, person: str) -> frozenset[str]:
        """Return every id that stands for a person: their own, and those that had an account of theirs."""
        return self.same.get(person, frozenset({person}))

    @property
    def subject(self) -> str:
        """Return the version as the ledger names it."""
        return f"version:{self.digest}"

    @property
    def short(self) -> str:
        """Return the beginning of the digest, which people repeat."""
        return self.digest[:SHORT]


@dataclass(frozen=True)
class _Judged:
    decisions: tuple[Decision, ...]
    proofs: Mapping[str, bytes]
    findings: tuple[str, ...]


def decision_id(project: str, digest: str, judging: Sequence[int], process_id: str, task_id: str) -> str:
    """Return what names the judgement of one task: the same each time that it is read, another once it is judged again.

    :param judging: the attempt, and which time it was judged again, if it was.
    """
    judged: object = judging[0] if len(judging) == 1 else list(judging)
    return digest_of([project, f"version:{digest}", digest, judged, SYSTEM, process_id, task_id])


def statement(meaning: str, outcome: str, role: str, *, project: str, digest: str, policy_digest: str) -> str:
    """Return the versioned sentence that a decision stands for; it names the exact version and policy."""
    what = f"dataset version {digest} of project {project}"
    wording = _STATEMENTS.get((meaning, outcome), "I completed the task of {role} on {what} without a decision")
    return f"[{STATEMENT_VERSION}] {wording.format(what=what, role=role)}, under policy {policy_digest}."


def statements(mapping: ProcessMapping, *, policy: Policy, project: str, digest: str) -> str:
    """Return what is put before the persons of a process: for each task and outcome, what deciding so states.

    One line each, ``<task>, <outcome>: <statement>``, so that what a person was shown can be found again.
    """
    listed = []
    for task in mapping.tasks:
        meaning = task.meaning or _meaning_in(policy, task.role)
        for value, verdict in mapping.outcomes.items():
            said = statement(meaning, verdict, task.role, project=project, digest=digest, policy_digest=policy.digest)
            listed.append(f"{_line_of(task, value)}{said}")
    return "\n".join(["By completing your task you state, in your name:", *listed])


def _line_of(task: TaskMapping, value: str) -> str:
    return f"{task.name}, {value}: "


def _meaning_in(policy: Policy, role: str) -> str:
    return _demanded_meaning(policy, role) or "approval"


def _demanded_meaning(policy: Policy, role: str) -> str | None:
    return next((demand.meaning for demand in policy.approvals if demand.role == role), None)


def unknown_person(process_id: str, account: str) -> str:
    """Return a name for somebody who is not in the register, the same within a process, that tells nothing of them."""
    return f"{UNKNOWN}:{digest_of([process_id, account_key(account)])[:SHORT]}"


def read_observed(value: Mapping[str, Any] | None) -> Observed:
    """Return what earlier looks kept; before there were times, it was a list of assignees for each task."""
    value = value or {}
    listed = value.get("holdings", {} if "outcomes" in value else value)
    return Observed(
        {
            task_id: tuple(
                Holding(one)
                if isinstance(one, str)
                else Holding(one[0], one[1], one[2], datetime.fromisoformat(one[3]) if one[3] else None)
                for one in seen
            )
            for task_id, seen in listed.items()
        },
        dict(value.get("outcomes", {})),
        dict(value.get("comments", {})),
    )


def observe(
    earlier: Observed, snapshot: ProcessSnapshot, mapping: ProcessMapping, now: datetime
) -> tuple[Observed, list[tuple[UserTask, Holding]]]:
    """Return the looks with this one added, and who has a task now that was not seen to have it before.

    A task that nobody holds is worth keeping only once somebody held it.
    """
    holdings = {task_id: tuple(seen) for task_id, seen in earlier.holdings.items()}
    changes = []
    for task in snapshot.open_tasks:
        last = holdings[task.id][-1] if holdings.get(task.id) else Holding(None)
        present = Holding(task.assignee, task.owner, task.delegation_state, now)
        if replace(present, seen=last.seen) != last:
            holdings[task.id] = (*holdings.get(task.id, ()), present)
            changes.append((task, present))
    outcomes = dict(earlier.outcomes)
    for writers in _writers(snapshot, mapping):
        last_task, mapped = max(writers, key=lambda pair: _task_order(pair[0]))
        value = snapshot.variables_of(last_task.process_id).get(mapped.outcome_variable)
        if value is not None and _text_of(value) in mapping.outcomes:
            outcomes.setdefault(last_task.id, _text_of(value))
    said = {one.id: _text_digest(one) for one in snapshot.comments}
    return Observed(holdings, outcomes, {**said, **earlier.comments}), changes


def _text_digest(comment: ProcessComment) -> str:
    return sha256_hex(comment.message.encode("utf-8", "surrogatepass"))


def _writers(snapshot: ProcessSnapshot, mapping: ProcessMapping) -> Iterable[list[tuple[HistoricTask, TaskMapping]]]:
    """Return the completed tasks by the process variable that they wrote: several tasks, or one that came twice."""
    written: dict[tuple[str, str], list[tuple[HistoricTask, TaskMapping]]] = {}
    for task in snapshot.tasks:
        mapped = mapped_task(mapping, task)
        if mapped is None or task.ended is None or _was_deleted(task):
            continue
        if _own_value(task, mapped.outcome_variable) is None:
            written.setdefault((task.process_id, mapped.outcome_variable), []).append((task, mapped))
    return written.values()


def evaluate(case: Case, *, started_at: datetime, now: datetime) -> Evaluation:
    """Judge a process that asks for the approval of one dataset version.

    :param started_at: when the process was started; due date, reminder and expiry are counted from it.

    The state is, in this order: ``stale`` (the process is about another digest), ``cancelled`` (terminated, or ended at
    an end event that the mapping lacks), ``expired``, and then what the decisions say. An end event alone approves
    nothing: ``approved`` needs, for each role of the policy, its minimum of distinct persons whose decisions count.
    """
    snapshot, policy = case.snapshot, case.policy
    due = started_at + policy.due
    reminder_at = started_at + timedelta(hours=policy.reminder_hours)
    expires_at = due + timedelta(hours=policy.grace_hours)

    mismatches = _mismatches(case)
    judged = _judge(case, mismatches, demanded=tuple(one.role for one in policy.approvals), expires_at=expires_at)
    missing = _missing(case, judged.decisions)
    state, reason, findings = _state(case, judged, mismatches, missing, expires_at, now)
    if state == "waiting":
        findings = (*findings, *_unattainable(case, now))
    return Evaluation(
        state=state,
        decisions=judged.decisions,
        proofs=judged.proofs,
        missing=() if state == "approved" else missing,
        findings=(*judged.findings, *findings),
        next_step=_next_step(state, reminder_at, due, now),
        due=due,
        reminder_at=reminder_at,
        expires_at=expires_at,
        sentence=f"Version {case.short} of {case.project.name}, attempt {case.attempt}: {state}, {reason}.",
        open_tasks=tuple(snapshot.open_tasks),
        called=tuple(sorted(snapshot.called)),
        keys=snapshot.keys,
        on_absence=_rests_on_absence(case, state, judged.decisions),
    )


def _rests_on_absence(case: Case, state: State, decisions: Iterable[Decision]) -> bool:
    if state in ("rejected", "rework"):
        return not any(one.counts and one.outcome in ("reject", "rework") for one in decisions)
    if state == "void":
        demanded = {demand.role for demand in case.policy.approvals}
        void = [one for one in decisions if not one.counts and one.role in demanded]
        return all(one.void_reason == _too_weak(case, one) for one in void)
    return state == "undecided"


def evaluate_release(case: Case, role: str) -> ReleaseDecision:
    """Judge a process that hands a version over to training.

    It is released only where the process ended at a released end *and* a person with ``role``, who neither annotated
    nor requested, approved; the policy's grade of evidence applies. Anything else that ended is refused, cancelled,
    stale or void, and a finding says which.
    """
    mismatches = _mismatches(case)
    judged = _judge(case, mismatches, demanded=(role,), expires_at=None)
    state, reason, decision = _release_state(case, judged.decisions, mismatches, role)
    findings = judged.findings
    if state in ("cancelled", "stale", "void"):
        findings = (*findings, f"The release process of version {case.short} is {state}: {reason}.")
    sentence = f"Release of version {case.short} of {case.project.name}, attempt {case.attempt}: {state}, {reason}."
    return ReleaseDecision(state, decision, findings, sentence, judged.decisions, judged.proofs)


def _release_state(
    case: Case, decisions: Sequence[Decision], mismatches: list[str], role: str
) -> tuple[ReleaseState, str, Decision | None]:
    """Return state, reason and the decision that released or refused."""
    history = case.snapshot.history
    if mismatches:
        return "stale", "; ".join(mismatches), None
    if history.delete_reason:
        return "cancelled", f"it was ended from outside ({history.delete_reason})", None
    if history.ended_at is None:
        return "waiting", f"the {role} has not decided", None
    end = case.mapping.ends.get(history.end_activity_id or "")
    refusal = next((one for one in decisions if one.counts and one.outcome in ("reject", "rework")), None)
    if end not in ("released", "refused"):
        return "cancelled", _unmapped_end(case, end), None
    if end == "refused":
        return "refused", "the process ended refused", refusal
    if refusal is not None:
        return "void", f"it ended released although {refusal.account} refused", refusal
    of_role = [one for one in decisions if one.role == role]
    approval = next((one for one in of_role if one.counts and one.outcome == "approve"), None)
    if approval is not None:
        return "released", f"{approval.person} released it as {role}", approval
    if of_role:
        return "void", f"the decision does not count: {of_role[0].void_reason or of_role[0].outcome}", of_role[0]
    return "void", f"it ended released, but no {role} decided", None


def _mismatches(case: Case) -> list[str]:
    """Return why the process is not (or not any more) about the digest."""
    history, problems = case.snapshot.history, []
    found = history.variables.get(case.mapping.digest_variable)
    if found != case.digest:
        shown = "nothing" if found is None else repr(str(found)[:80])
        problems.append(f"variable {case.mapping.digest_variable} holds {shown}, expected {case.digest}")
    if history.business_key != case.business_key:
        problems.append(f"its business key is {history.business_key!r}, expected {case.business_key}")
    if case.short not in history.name:
        problems.append(f"its name {history.name!r} does not hold {case.short}")
    foreign = why_foreign(history.start, case.mapping.process_key, case.register, case.asked_at)
    return [*problems, foreign] if foreign else problems


def _judge(case: Case, mismatches: list[str], *, demanded: tuple[str, ...], expires_at: datetime | None) -> _Judged:
    """Turn the completed tasks into decisions, oldest first, and say of each whether it counts."""
    decisions: list[Decision] = []
    proofs: dict[str, bytes] = {}
    findings: list[str] = []
    counted_as: dict[str, str] = {}
    for task in sorted(case.snapshot.tasks, key=_task_order):
        if task.ended is None or _was_deleted(task):
            continue
        mapped = mapped_task(case.mapping, task)
        if mapped is None:
            if not case.mapping.is_other(task.name, task.key):
                findings.append(f"{_named(task)} was completed but is not in the mapping; it decides nothing.")
            continue
        decision, proof, found = _decision(case, task, mapped, expires_at)
        findings.extend(found)
        person = decision.person
        if decision.counts and person and decision.role in demanded and decision.outcome == "approve":
            before = next((counted_as[one] for one in sorted(case.ids_of(person)) if one in counted_as), None)
            if before is not None:
                reason = f"{person} counts once, as {before} already; another person has to decide"
                decision = replace(decision, counts=False, void_reason=reason)
            else:
                counted_as[person] = decision.role
        if decision.void_reason:
            findings.append(f"The {_not_counted(decision)}.")
        decisions.append(decision)
        proofs[decision.raw_digest] = proof
    if mismatches:
        reason = "the process is about other data: " + "; ".join(mismatches)
        decisions = [replace(one, counts=False, void_reason=one.void_reason or reason) for one in decisions]
    return _Judged(tuple(decisions), proofs, tuple(findings))


def _decision(
    case: Case, task: HistoricTask, mapped: TaskMapping, expires_at: datetime | None
) -> tuple[Decision, bytes, list[str]]:
    """Return the decision of a completed task, the replies that prove it, and what is wrong with it."""
    account = task.completer or task.assignee or ""
    comments = _comments_while_held(case, task, account)
    outcome, problem = _outcome(case, task, mapped)
    said = _said(case, comments)
    if not problem and said not in (None, outcome):
        outcome, problem = "undecided", f"{_named(task)}: its outcome is {outcome}, and {account} wrote {said}."
    grade, doubts = _grade(case, task, said == outcome)
    meaning = mapped.meaning or _meaning_in(case.policy, mapped.role)
    sentence, wording = _statement_seen(case, task, mapped, meaning, outcome)
    if (
        not problem
        and wording == STATEMENT_VERSION
        and not _states(sentence, _statement(case, meaning, outcome, mapped.role))
    ):
        outcome, problem = "undecided", f"{_named(task)}: the statement put before it is not one of {outcome}."
    person = case.register.resolve(SYSTEM, account, task.ended)
    proof = _proof(case, task, mapped, comments)
    decision = Decision(
        decision_id=decision_id(case.project.name, case.digest, case.judging, task.process_id, task.id),
        project=case.project.name,
        subject=case.subject,
        digest=case.digest,
        attempt=case.attempt,
        role=mapped.role,
        outcome=outcome,
        counts=False,
        void_reason=problem.rstrip("."),
        person=person.id if person else None,
        account=account,
        system=SYSTEM,
        decided_at=task.ended,
        meaning=meaning,
        grade=grade,
        statement=sentence,
        raw_digest=sha256_hex(proof),
        process_id=task.process_id,
        task_id=task.id,
        signature=_signature(case, task, mapped, account, grade, shown=wording is not None),
        statement_version=wording,
    )
    if outcome != "undecided":
        reason = _void_reason(case, mapped, decision, expires_at)
        decision = replace(decision, counts=not reason, void_reason=reason)
    return decision, proof, [*([problem] if problem else []), *doubts]


def _proof(case: Case, task: HistoricTask, mapped: TaskMapping, comments: list[ProcessComment]) -> bytes:
    """Return the raw replies behind a decision; the same decision read again gives the same bytes.

    Of the variables only what the task itself can have set: the others still change while the process runs, and a
    decision's proof must not.
    """
    digest_variable, outcome_variable = case.mapping.digest_variable, mapped.outcome_variable
    variables = {
        digest_variable: case.snapshot.history.variables.get(digest_variable),
        outcome_variable: case.snapshot.observed.outcomes.get(task.id)
        or case.snapshot.variables_of(task.process_id).get(outcome_variable),
    }
    if mapped.signature_variable:
        variables[mapped.signature_variable] = _signed_by(case, task, mapped)
    raw = {"task": dict(task.raw), "comments": [dict(one.raw) for one in comments], "variables": variables}
    text = json.dumps(raw, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return text.encode("utf-8", "surrogatepass")


def _statement_seen(
    case: Case, task: HistoricTask, mapped: TaskMapping, meaning: str, outcome: Outcome
) -> tuple[str, int | None]:
    """Return what a decision states, and its wording where exactly that was put before the person.

    It was where the process still shows the statements that were put there when it was started, byte for byte, and they
    hold one for this task and outcome.
    """
    if case.statements is not None and case.snapshot.history.variables.get(STATEMENTS) == case.statements:
        value, _ = _outcome_value(case, task, mapped)
        begins = _line_of(mapped, _text_of(value))
        for line in case.statements.split("\n"):
            found = _WORDING.match(line, len(begins)) if line.startswith(begins) else None
            if found is not None and case.digest in line:
                return line.removeprefix(begins), int(found[1])
    return _statement(case, meaning, outcome, mapped.role), None


def _states(shown: str, meant: str) -> bool:
    """Tell whether two statements say the same of a version, under whatever policy."""
    return shown.partition(", under policy ")[0] == meant.partition(", under policy ")[0]


def _statement(case: Case, meaning: str, outcome: str, role: str) -> str:
    names = {"project": case.project.name, "digest": case.digest, "policy_digest": case.policy.digest}
    return statement(meaning, outcome, role, **names)


def _signature(
    case: Case, task: HistoricTask, mapped: TaskMapping, account: str, grade: Grade, *, shown: bool
) -> Signature:
    """Return a decision's signature level, never higher than the mapping allows.

    It is signed only where the model's signing step put the very account that decided into the task's signature
    variable, the statement was put before the person (21 CFR 11.50), and the evidence is attested.
    """
    if grade != "attested":
        return "recorded"
    signed = shown and _same_account(_signed_by(case, task, mapped), account)
    return lower_signature("signed" if signed else "authenticated", case.mapping.signature)


def _signed_by(case: Case, task: HistoricTask, mapped: TaskMapping) -> str | None:
    """Return the account that signed a task; a process variable is believed only when one task can have written it."""
    if mapped.signature_variable is None:
        return None
    value = _own_value(task, mapped.signature_variable)
    if value is None:
        same = [
            one for one in case.snapshot.tasks if one.ended is not None and mapped_task(case.mapping, one) is mapped
        ]
        value = case.snapshot.variables_of(task.process_id).get(mapped.signature_variable) if len(same) == 1 else None
    return None if value is None else str(value)


def _outcome(case: Case, task: HistoricTask, mapped: TaskMapping) -> tuple[Outcome, str]:
    """Return the outcome of a task, and what is wrong with it."""
    value, problem = _outcome_value(case, task, mapped)
    if problem:
        return "undecided", problem
    if value is None:
        variable = mapped.outcome_variable
        return "undecided", f"{_named(task)}: completed, but the variable {variable} holds no outcome."
    outcome = _VERDICTS.get(case.mapping.outcomes.get(_text_of(value), ""))
    if outcome is None:
        known_outcomes = ", ".join(sorted(case.mapping.outcomes)) or "none"
        return "undecided", (
            f"{_named(task)}: the mapping does not know the outcome {_text_of(value)[:80]!r}; "
            f"it knows {known_outcomes}."
        )
    return outcome, ""


def _outcome_value(case: Case, task: HistoricTask, mapped: TaskMapping) -> tuple[Any, str]:
    """Return the outcome as the model spells it, and why it cannot be told.

    A task's own variable is its own. A process variable belongs to whoever wrote it last, so it is believed only when a
    single completed task can have written it, or when a look saw it while this task was the last that had. Where it is
    another one now, though no other task was completed, somebody has written it since, and nothing can be told.
    """
    variable = mapped.outcome_variable
    value = _own_value(task, variable)
    if value is not None:
        return value, ""
    writers = [
        other
        for other in case.snapshot.tasks
        if other.process_id == task.process_id
        and other.ended is not None
        and not _was_deleted(other)
        and _own_value(other, variable) is None
        and (known := mapped_task(case.mapping, other)) is not None
        and known.outcome_variable == variable
    ]
    value = case.snapshot.variables_of(task.process_id).get(variable)
    seen = case.snapshot.observed.outcomes.get(task.id)
    if seen is None and len(writers) <= 1:
        return value, ""
    last = max(writers, key=_task_order, default=task)
    if seen is not None and last.id == task.id and value is not None and _text_of(value) != seen:
        return None, f"{_named(task)}: its outcome was {seen} when first seen, and {_text_of(value)[:80]} is there now."
    if seen is not None:
        return seen, ""
    return None, (
        f"{_named(task)}: {len(writers)} tasks wrote the process variable {variable}, "
        "so whose outcome it holds cannot be told; give each task an outcome variable of its own."
    )


def _text_of(value: Any) -> str:
    """Return an outcome as the mapping spells it: a form's yes or no box is ``true`` or ``false``."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _own_value(task: HistoricTask, variable: str) -> Any:
    """Return a task's local variable; None for a process variable that the reply lists beside the task's own."""
    listed = task.raw.get("variables")
    for entry in listed if isinstance(listed, list) else ():
        if isinstance(entry, Mapping) and entry.get("name") == variable and entry.get("scope") == "global":
            return None
    return task.variables.get(variable)


def _void_reason(case: Case, mapped: TaskMapping, decision: Decision, expires_at: datetime | None) -> str:
    """Return why a decision does not count, or an empty string. The gravest reason comes first."""
    account, person, decided_at = decision.account, decision.person, decision.decided_at
    if case.register.is_service(SYSTEM, account):
        return f"{account} is a service account, and a service cannot decide"
    if person is None:
        return f"{account or 'nobody'} is no person in the register at the time of the decision"
    if case.policy.four_eyes:
        broken = _four_eyes(case, person)
        if broken:
            return broken
    if not case.register.has_role(person, mapped.role, case.project.name, decided_at):
        return f"{person} did not hold the role {mapped.role} in {case.project.name} when deciding"
    demanded = _demanded_meaning(case.policy, mapped.role)
    if demanded is not None and mapped.meaning not in (None, demanded):
        return f"the task means {mapped.meaning}, and the policy demands {demanded} of {mapped.role}"
    if case.asked_at is not None and decided_at is not None and decided_at < case.asked_at - CLOCKS:
        return f"it was made before anybody was asked, at {case.asked_at.isoformat()}"
    if expires_at is not None and decided_at is not None and decided_at > expires_at:
        return f"it was made after the request had expired at {expires_at.isoformat()}"
    return _too_weak(case, decision)


def _too_weak(case: Case, decision: Decision) -> str:
    """Return why a decision's evidence does not suffice, or an empty string; a later look may find more of it."""
    account = decision.account
    if case.policy.evidence == "attested" and decision.grade != "attested":
        return (
            f"the policy demands attested evidence: a completer recorded by the system, or a comment by {account} "
            f"between claiming and completing the task with a line of the outcome and {case.short}"
        )
    if not signed_enough(decision.signature, case.policy.signature):
        return f"the policy demands a decision that is {case.policy.signature}, and this one is {decision.signature}"
    return ""


def _four_eyes(case: Case, person: str) -> str:
    for ids, did in ((case.annotators, "annotated or adjudicated this version"), (case.requesters, "requested this")):
        found = sorted(ids & case.ids_of(person))
        if found:
            return f"{person} {did}" if person in found else f"{person}, who is {found[0]} too, {did}"
    strangers = sorted(entry for entry in case.annotators if is_unknown(entry) or case.register.person(entry) is None)
    if strangers:
        return (
            f"the version holds answers of {len(strangers)} unknown annotator(s), so it cannot be shown that {person} "
            "did not annotate it; map their accounts in the register"
        )
    if any(is_unknown(entry) for entry in case.requesters):
        return f"an unknown person requested this approval, so it cannot be shown that it was not {person}"
    return ""


def evidence_hint(mapping: ProcessMapping, digest: str) -> str:
    """Return what tells a person how to attest their decision."""
    lines = " or ".join(f'"{outcome} {digest[:SHORT]}"' for outcome in mapping.outcomes)
    return f"To attest your decision, comment before you complete your task, with one line that says {lines}."


def _said(case: Case, comments: Iterable[ProcessComment]) -> Outcome | None:
    """Return the outcome that a person last wrote beside the version's digest, None where they wrote none.

    It stands in a line of its own: an outcome of the mapping, or what it means, and at least as much of the digest as
    people are told to repeat. Any other words beside a digest say nothing: they may well deny it.
    """
    spelled = {word.casefold(): word for word in _VERDICTS} | {
        value.casefold(): verdict for value, verdict in case.mapping.outcomes.items()
    }
    said = None
    for comment in sorted(comments, key=lambda one: (one.time.timestamp() if one.time else 0.0, one.id)):
        for line in comment.message.splitlines():
            found = _ATTESTED.fullmatch(line.strip().casefold())
            if found and found["word"] in spelled and case.digest.startswith(found["digest"]):
                said = _VERDICTS[spelled[found["word"]]]
    return said


def _grade(case: Case, task: HistoricTask, repeated: bool) -> tuple[Grade, list[str]]:
    """Return the grade of a decision's evidence, and what casts doubt on it.

    :param repeated: whether the person wrote the outcome, beside the digest, while they had the task.
    """
    doubts = []
    moved = _moved_without_trace(case, task)
    last = _last_holder(case, task)
    if moved:
        doubts.append(
            f"{_named(task)} went from {', '.join(moved)} to {task.assignee or 'nobody'} and no owner "
            "records a delegation; its evidence is only asserted."
        )
    elif last and not _same_account(last, task.assignee):
        doubts.append(
            f"{_named(task)} was last seen with {last} and was completed as the task of "
            f"{task.assignee or 'nobody'}: it changed hands between two looks."
        )
    if task.completer and not _same_account(task.completer, task.assignee):
        doubts.append(f"{_named(task)} was assigned to {task.assignee or 'nobody'} and completed by {task.completer}.")
        return "asserted", doubts
    if moved:
        return "asserted", doubts
    if task.completer:
        return "attested", doubts
    return ("attested" if repeated else "asserted"), doubts


def _moved_without_trace(case: Case, task: HistoricTask) -> list[str]:
    """Return earlier holders of a task that its present assignee or owner does not account for."""
    traced = {account_key(account) for account in (task.assignee, task.owner) if account}
    return list(
        dict.fromkeys(
            one.assignee
            for one in case.snapshot.observed.holdings.get(task.id, ())
            if one.assignee and account_key(one.assignee) not in traced
        )
    )


def _last_holder(case: Case, task: HistoricTask) -> str | None:
    seen = case.snapshot.observed.holdings.get(task.id, ())
    return seen[-1].assignee if seen else None


def _comments_while_held(case: Case, task: HistoricTask, account: str) -> list[ProcessComment]:
    """Return what an account wrote on a task, or on its process, between claiming (or being given) it and its end.

    What was written before a look saw the task with somebody else is left out: it was said of the task as it was then,
    and who had it meanwhile may have changed the case. Whoever takes the task back says it again. A comment that says
    something else than when it was first seen is left out too.
    """
    first_said = case.snapshot.observed.comments
    since = task.claimed or task.created
    if since is None or task.ended is None or not account:
        return []
    for one in case.snapshot.observed.holdings.get(task.id, ()):
        if one.assignee and one.seen is not None and not _same_account(one.assignee, account):
            since = max(since, one.seen)
    return [
        comment
        for comment in case.snapshot.comments
        if comment.task_id in (None, task.id)
        and comment.time is not None
        and since <= comment.time <= task.ended
        and _same_account(comment.author, account)
        and first_said.get(comment.id) in (None, _text_digest(comment))
    ]


def _missing(case: Case, decisions: tuple[Decision, ...]) -> tuple[str, ...]:
    sentences = []
    for demand in case.policy.approvals:
        persons = _approvers(decisions, demand.role)
        if len(persons) < demand.minimum:
            have = f", has {len(persons)} ({', '.join(sorted(persons))})" if persons else ", has none"
            sentences.append(f"{demand.meaning} by {demand.minimum} {demand.role}{have}")
    return tuple(sentences)


def _approvers(decisions: Iterable[Decision], role: str) -> set[str]:
    return {
        decision.person
        for decision in decisions
        if decision.counts and decision.outcome == "approve" and decision.role == role and decision.person
    }


def _state(
    case: Case,
    judged: _Judged,
    mismatches: list[str],
    missing: tuple[str, ...],
    expires_at: datetime,
    now: datetime,
) -> tuple[State, str, tuple[str, ...]]:
    """Return state, reason and findings."""
    history = case.snapshot.history
    if mismatches:
        reason = "; ".join(mismatches)
        return "stale", reason, (f"Process {history.id} no longer stands for version {case.short}: {reason}.",)
    if now >= expires_at if history.ended_at is None else history.ended_at > expires_at:
        reason = f"nobody had decided by {expires_at.isoformat()}"
        return "expired", reason, (f"The approval of version {case.short} expired: {reason}.",)
    if history.ended_at is None:
        return _running_state(case, judged, missing)
    if history.delete_reason:
        reason = f"it was ended from outside ({history.delete_reason})"
        return "cancelled", reason, (f"Process {history.id} was cancelled: {reason}.",)
    end = case.mapping.ends.get(history.end_activity_id or "")
    if end not in ("approved", "rejected", "rework"):
        reason = _unmapped_end(case, end)
        return "cancelled", reason, (f"Process {history.id} was cancelled: {reason}.",)
    return _ended_state(case, judged, missing, end)


def _running_state(case: Case, judged: _Judged, missing: tuple[str, ...]) -> tuple[State, str, tuple[str, ...]]:
    lost = _lost_roles(case, judged.decisions)
    in_lost = [one for one in judged.decisions if one.role in lost]
    undecided = next((one for one in in_lost if one.outcome == "undecided"), None)
    if undecided is not None:
        return "undecided", undecided.void_reason, ()
    if lost:
        void = next(one for one in in_lost if not one.counts)
        return "void", f"the {_not_counted(void)}", ()
    return "waiting", f"it waits for {'; '.join(missing) or 'the process to end'}", ()


def _lost_roles(case: Case, decisions: tuple[Decision, ...]) -> set[str]:
    """Return the roles of the policy that this process cannot satisfy any more.

    A role is lost when its decisions so far do not suffice, one of them does not count, and no task for it is open.
    While a task is open, another person may still decide.
    """
    # The list of waiting tasks may carry names only; a name that two tasks share keeps both roles open.
    open_roles = {
        mapped.role
        for task in case.snapshot.open_tasks
        for mapped in case.mapping.tasks
        if (mapped.key == task.key if mapped.key and task.key else mapped.name == task.name)
    }
    return {
        demand.role
        for demand in case.policy.approvals
        if demand.role not in open_roles
        and len(_approvers(decisions, demand.role)) < demand.minimum
        and any(decision.role == demand.role and not decision.counts for decision in decisions)
    }


def _ended_state(case: Case, judged: _Judged, missing: tuple[str, ...], end: str) -> tuple[State, str, tuple[str, ...]]:
    decisions = judged.decisions
    undecided = next((decision for decision in decisions if decision.outcome == "undecided"), None)
    if undecided is not None:
        return "undecided", undecided.void_reason, ()
    if end != "approved":
        return _refused_state(case, decisions, "rejected" if end == "rejected" else "rework")
    against = next((one for one in decisions if one.counts and one.outcome in ("reject", "rework")), None)
    if against is not None:
        reason = f"the process ended approved, but {_who(against)} decided {against.outcome} as {against.role}"
        return "undecided", reason, (f"Version {case.short} is not approved: {reason}.",)
    if not missing:
        approvals = (one for one in decisions if one.counts and one.outcome == "approve")
        persons = ", ".join(sorted({f"{one.person} as {one.role}" for one in approvals}))
        return "approved", f"by {persons}", ()
    demanded = {demand.role for demand in case.policy.approvals}
    void = next((one for one in decisions if not one.counts and one.role in demanded), None)
    if void is not None:
        return "void", f"the {_not_counted(void)}", ()
    reason = f"the process ended approved, but the policy still lacks {'; '.join(missing)}"
    return "undecided", reason, (f"Version {case.short} is not approved: {reason}.",)


def _refused_state(
    case: Case, decisions: tuple[Decision, ...], end: Literal["rejected", "rework"]
) -> tuple[State, str, tuple[str, ...]]:
    wanted = "reject" if end == "rejected" else "rework"
    refusals = [one for one in decisions if one.outcome == wanted]
    counted = next((one for one in refusals if one.counts), None)
    if counted is not None:
        return end, f"by {_who(counted)} as {counted.role}", ()
    if refusals:
        return "void", f"the {_not_counted(refusals[0])}", ()
    finding = f"Process {case.snapshot.history.id} ended {end}, but no person decided so."
    return end, "the process ended so, without a person's decision", (finding,)


def _next_step(state: State, reminder_at: datetime, due: datetime, now: datetime) -> NextStep:
    if state == "expired":
        return "expire"
    if state != "waiting":
        return None
    if now >= due:
        return "escalate"
    return "remind" if now >= reminder_at else None


def _unattainable(case: Case, now: datetime) -> tuple[str, ...]:
    """Return findings for roles that too few persons could fill, so that nobody waits for what cannot happen."""
    barred = case.annotators | case.requesters if case.policy.four_eyes else frozenset()
    findings = []
    for demand in case.policy.approvals:
        able = [
            person.id
            for person in case.register.holders(demand.role, case.project.name, now)
            if not barred & case.ids_of(person.id) and person.accounts.get("opentext")
        ]
        if len(able) < demand.minimum:
            findings.append(
                f"The policy demands {demand.minimum} {demand.role} and the register names {len(able)} who could "
                f"decide in {case.project.name} (annotators and requesters left out)."
            )
    if case.policy.four_eyes and any(is_unknown(entry) for entry in case.annotators):
        findings.append(
            f"Version {case.short} holds answers of unknown annotators: no approval can count until the register maps "
            "them and the version is frozen again."
        )
    return tuple(findings)


def _unmapped_end(case: Case, end: str | None) -> str:
    place = case.snapshot.history.end_activity_id or "no end event"
    known = ", ".join(sorted(case.mapping.ends)) or "none"
    if end is None:
        return f"it ended at {place}, which the mapping lacks (it has {known})"
    return f"it ended at {place}, which means {end} and says nothing here"


def mapped_task(mapping: ProcessMapping, task: HistoricTask | UserTask) -> TaskMapping | None:
    """Return a task's mapping: by definition key where both sides have one, else by name."""
    if task.key:
        by_key = next((one for one in mapping.tasks if one.key == task.key), None)
        if by_key is not None:
            return by_key
    return next((one for one in mapping.tasks if one.name == task.name and not (one.key and task.key)), None)


def _was_deleted(task: HistoricTask) -> bool:
    """Tell whether a task ended without being completed; older engines write ``completed`` for those that were."""
    return task.delete_reason not in (None, "", "completed")


def _task_order(task: HistoricTask) -> tuple[float, str]:
    return (task.ended.timestamp() if task.ended else 0.0, task.id)


def _same_account(one: str | None, other: str | None) -> bool:
    return bool(one) and bool(other) and account_key(str(one)) == account_key(str(other))


def _named(task: HistoricTask) -> str:
    return f"Task {task.name!r} ({task.id})"


def _who(decision: Decision) -> str:
    return decision.person or decision.account or "nobody"


def _not_counted(decision: Decision) -> str:
    return f"decision of {_who(decision)} as {decision.role} does not count: {decision.void_reason}"
