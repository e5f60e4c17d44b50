from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.base.canonical import digest_of, effect_key, sha256_hex
from include.bpmn.mapping import load_mapping
from include.decisions.approval import (
    Case,
    Evaluation,
    Holding,
    Observed,
    ProcessSnapshot,
    ReleaseDecision,
    evaluate,
    evaluate_release,
    observe,
    read_observed,
    statement,
)
from include.people.register import Register
from include.projects.load import load_project
from include.projects.model import Policy
from include.settings import ROOT
from include.systems.opentext.values import HistoricProcess, HistoricTask, ProcessComment, UserTask

DIGEST = digest_of("a version")
SHORT = DIGEST[:12]
START = datetime(2026, 5, 1, 8, tzinfo=UTC)
QUENTIN, DANA, CARLA, RITA = (f"{name}@people.example" for name in ("quentin", "dana", "carla", "rita"))
REGISTER = Register.load(ROOT / "include" / "projects" / "register.yaml")
MAPPING = load_mapping("default").labeling_approval
RELEASE = load_mapping("default").dataset_release
PROJECT = load_project(ROOT / "include" / "projects" / "definitions", "ticket_topics")
QUALITY, OWNER = MAPPING.tasks


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def policy(**changes: Any) -> Policy:
    base = {"evidence": "asserted", **changes}
    return Policy.model_validate({**PROJECT.policy.model_dump(), **base})


def historic(task: Any, assignee: str | None, outcome: str | None, hours: float, **changes: Any) -> HistoricTask:
    return HistoricTask(
        **{
            "id": f"task-{task.key}-{hours}",
            "name": task.name,
            "key": task.key,
            "process_id": "process-1",
            "assignee": assignee,
            "owner": None,
            "created": at(0),
            "claimed": at(hours - 0.5),
            "ended": at(hours),
            "variables": {} if outcome is None else {task.outcome_variable: outcome},
            "raw": {"id": f"task-{task.key}-{hours}", "assignee": assignee},
            **changes,
        }
    )


def waiting(task: Any, assignee: str | None = None) -> UserTask:
    return UserTask(f"open-{task.key}", task.name, "process-1", assignee, None, at(0))


def comment(author: str, text: str, hours: float, task_id: str | None = None) -> ProcessComment:
    return ProcessComment(f"comment-{hours}", author, text, at(hours), task_id, raw={"message": text})


def process(end: str | None = None, ended: float = 3, **changes: Any) -> HistoricProcess:
    return HistoricProcess(
        **{
            "id": "process-1",
            "name": f"Approve ticket_topics {SHORT}",
            "business_key": key_of("labeling_approval"),
            "definition_id": "labeling_approval:1:x",
            "started_at": START,
            "ended_at": at(ended) if end or changes.get("delete_reason") else None,
            "end_activity_id": end,
            "variables": {MAPPING.digest_variable: DIGEST},
            **changes,
        }
    )


def key_of(use_case: str, attempt: int = 1) -> str:
    return effect_key(use_case, PROJECT.name, f"version:{DIGEST}", DIGEST, attempt)


def case(snapshot: ProcessSnapshot, **changes: Any) -> Case:
    values = {
        "project": PROJECT,
        "digest": DIGEST,
        "attempt": 1,
        "mapping": MAPPING,
        "register": REGISTER,
        "policy": policy(),
        "annotators": frozenset({"anna", "ben"}),
        "requesters": frozenset({"olga"}),
        "business_key": key_of("labeling_approval", changes.get("attempt", 1)),
    }
    return Case(snapshot, **{**values, **changes})


def judge(snapshot: ProcessSnapshot, now: datetime = START + timedelta(hours=4), **changes: Any) -> Evaluation:
    return evaluate(case(snapshot, **changes), started_at=START, now=now)


def ended(*tasks: HistoricTask, end: str = "approved", **parts: Any) -> ProcessSnapshot:
    return ProcessSnapshot(process(end), tasks, **parts)


BOTH = (historic(QUALITY, QUENTIN, "approved", 1), historic(OWNER, DANA, "approved", 2))


def test_approved_needs_every_role_of_the_policy() -> None:
    result = judge(ended(*BOTH))
    assert result.state == "approved"
    assert [(one.person, one.role, one.meaning, one.counts) for one in result.decisions] == [
        ("quentin", "quality_reviewer", "review", True),
        ("dana", "data_owner", "approval", True),
    ]
    assert result.missing == ()
    assert result.findings == ()
    assert result.next_step is None
    assert "quentin as quality_reviewer" in result.sentence


def test_the_judgement_is_pure() -> None:
    snapshot = ended(*BOTH)
    assert judge(snapshot) == judge(replace(snapshot, tasks=tuple(reversed(BOTH))))
    ids = [one.decision_id for one in judge(snapshot).decisions]
    assert ids == [one.decision_id for one in judge(snapshot, now=at(400)).decisions]
    assert len(set(ids)) == 2


def test_waiting_says_what_is_missing() -> None:
    result = judge(ProcessSnapshot(process(), BOTH[:1], (waiting(OWNER),)))
    assert result.state == "waiting"
    assert result.missing == ("approval by 1 data_owner, has none",)
    assert len(result.decisions) == 1
    assert (result.reminder_at, result.due, result.expires_at) == (at(48), at(72), at(96))


@pytest.mark.parametrize(
    ("hours", "state", "step"),
    [
        (47.9, "waiting", None),
        (48, "waiting", "remind"),
        (71.9, "waiting", "remind"),
        (72, "waiting", "escalate"),
        (95.9, "waiting", "escalate"),
        (96, "expired", "expire"),
        (1000, "expired", "expire"),
    ],
)
def test_a_missed_date_is_reminded_escalated_and_then_expires(hours: float, state: str, step: str | None) -> None:
    result = judge(ProcessSnapshot(process(), (), (waiting(QUALITY),)), now=at(hours))
    assert (result.state, result.next_step) == (state, step)


def test_who_looks_late_gets_the_same_answer_as_who_looked_in_time() -> None:
    late = (historic(QUALITY, QUENTIN, "approved", 100), historic(OWNER, DANA, "approved", 101))
    result = judge(ProcessSnapshot(process("approved", ended=101), late), now=at(500))
    assert result.state == "expired"
    assert all("expired" in one.void_reason for one in result.decisions)
    in_time = judge(ended(*BOTH), now=at(500))
    assert in_time.state == "approved"


@pytest.mark.parametrize(("outcome", "end", "state"), [("rejected",) * 3, ("rework",) * 3])
def test_a_refusal_ends_as_such_and_keeps_its_reason(outcome: str, end: str, state: str) -> None:
    tasks = (historic(QUALITY, QUENTIN, outcome, 1),)
    result = judge(ProcessSnapshot(process(end), tasks, (), (comment(QUENTIN, "Wrong labels.", 0.8),)))
    assert result.state == state
    assert b"Wrong labels." in result.proofs[result.decisions[0].raw_digest]
    assert "Wrong labels." not in result.sentence, "what people write may quote content: it stays with the evidence"
    assert result.missing


def test_an_outcome_the_mapping_does_not_know_is_undecided_and_a_finding() -> None:
    tasks = (BOTH[0], historic(OWNER, DANA, "fine-by-me", 2))
    result = judge(ended(*tasks))
    assert result.state == "undecided"
    assert any("fine-by-me" in finding for finding in result.findings)
    assert [one.outcome for one in result.decisions] == ["approve", "undecided"]
    assert not result.decisions[1].counts


def test_a_process_variable_that_two_tasks_wrote_decides_nothing() -> None:
    shared = MAPPING.model_copy(
        update={"tasks": tuple(task.model_copy(update={"outcome_variable": "outcome"}) for task in MAPPING.tasks)}
    )
    tasks = (historic(QUALITY, QUENTIN, None, 1), historic(OWNER, DANA, None, 2))
    history = process("approved", variables={MAPPING.digest_variable: DIGEST, "outcome": "approved"})
    assert judge(ProcessSnapshot(history, tasks), mapping=shared).state == "undecided"


def test_a_global_variable_listed_beside_a_task_is_not_its_own() -> None:
    """Asked for with process variables, a task shows what the last writer wrote: two reviewers, one of them refused."""
    two = policy(approvals=[{"role": "quality_reviewer", "minimum": 2, "meaning": "review"}])
    listed = [{"name": QUALITY.outcome_variable, "scope": "global", "value": "approved"}]
    tasks = tuple(historic(QUALITY, who, "approved", 1, id=who, raw={"variables": listed}) for who in (QUENTIN, CARLA))
    variables = {MAPPING.digest_variable: DIGEST, QUALITY.outcome_variable: "approved"}
    snapshot = ProcessSnapshot(process("approved", variables=variables), tasks)
    assert judge(snapshot, policy=two).state == "undecided"
    local = [{**listed[0], "scope": "local"}]
    tasks = tuple(replace(task, raw={"variables": local}) for task in tasks)
    assert judge(replace(snapshot, tasks=tasks), policy=two).state == "approved"


def test_a_decisions_proof_stays_the_same_while_the_process_goes_on() -> None:
    early = judge(ProcessSnapshot(process(), BOTH[:1], (waiting(OWNER),)))
    variables = {MAPPING.digest_variable: DIGEST, OWNER.outcome_variable: "approved"}
    late = judge(ProcessSnapshot(process("approved", variables=variables), BOTH))
    assert early.decisions[0] == late.decisions[0]
    digest = late.decisions[0].raw_digest
    assert early.proofs[digest] == late.proofs[digest]
    assert sha256_hex(late.proofs[digest]) == digest
    assert (late.decisions[0].person, late.decisions[0].system) == ("quentin", "opentext")


def test_the_outcome_may_stand_in_a_process_variable_of_the_tasks_own() -> None:
    tasks = (historic(QUALITY, QUENTIN, None, 1), historic(OWNER, DANA, None, 2))
    variables = {
        MAPPING.digest_variable: DIGEST,
        QUALITY.outcome_variable: "approved",
        OWNER.outcome_variable: "approved",
    }
    assert judge(ProcessSnapshot(process("approved", variables=variables), tasks)).state == "approved"
    del variables[OWNER.outcome_variable]
    assert judge(ProcessSnapshot(process("approved", variables=variables), tasks)).state == "undecided"


@pytest.mark.parametrize(
    ("assignee", "changes", "words"),
    [
        (QUENTIN, {"annotators": {"quentin"}}, "annotated"),
        (QUENTIN, {"requesters": {"quentin"}}, "requested"),
        (QUENTIN, {"annotators": {"anna", "unknown:0123456789ab"}}, "unknown annotator"),
        (QUENTIN, {"requesters": {"unknown"}}, "unknown person requested"),
        ("stranger@people.example", {}, "no person in the register"),
        (None, {}, "no person in the register"),
        ("labelops-service", {}, "service"),
        (DANA, {}, "role"),
    ],
)
def test_a_decision_of_the_wrong_person_is_void(assignee: str | None, changes: dict[str, Any], words: str) -> None:
    tasks = (historic(QUALITY, assignee, "approved", 1), BOTH[1])
    result = judge(ended(*tasks), **changes)
    assert result.state == "void"
    assert not result.decisions[0].counts
    assert words in result.decisions[0].void_reason
    assert any(words in finding for finding in result.findings)


def test_four_eyes_goes_by_person_and_not_by_account() -> None:
    """Carla labels as `carla` in Prodigy and reviews under her e-mail address in OpenText."""
    tasks = (historic(QUALITY, CARLA.upper(), "approved", 1), BOTH[1])
    assert judge(ended(*tasks)).state == "approved"
    assert judge(ended(*tasks), annotators={"carla"}).state == "void"


def test_four_eyes_can_be_switched_off_by_policy() -> None:
    off = policy(four_eyes=False)
    assert judge(ended(*BOTH), annotators={"dana", "unknown:1"}, policy=off).state == "approved"


def test_a_void_rejection_is_void_too() -> None:
    tasks = (historic(QUALITY, DANA, "rejected", 1),)
    assert judge(ProcessSnapshot(process("rejected"), tasks)).state == "void"


OTTO = "otto@people.example"


def register_with_otto(*roles: dict[str, str]) -> Register:
    content = REGISTER.content.model_dump(mode="json")
    otto = {"id": "otto", "name": "Otto", "accounts": {"opentext": [OTTO]}, "roles": roles}
    content["persons"] = [*content["persons"], otto]
    return Register(type(REGISTER.content).model_validate(content))


def test_one_person_counts_once_even_with_both_roles() -> None:
    register = register_with_otto({"role": "quality_reviewer"}, {"role": "data_owner"})
    result = judge(ended(*(replace(task, assignee=OTTO) for task in BOTH)), register=register)
    assert result.state == "void"
    assert [one.counts for one in result.decisions] == [True, False]
    assert "counts once" in result.decisions[1].void_reason


def test_a_role_is_judged_as_of_the_act() -> None:
    register = register_with_otto({"role": "data_owner", "valid_until": "2026-05-01"})
    in_time = (BOTH[0], historic(OWNER, OTTO, "approved", 2))
    assert judge(ended(*in_time), register=register, now=at(90)).state == "approved"
    too_late = (BOTH[0], historic(OWNER, OTTO, "approved", 20))
    result = judge(ProcessSnapshot(process("approved", ended=21), too_late), register=register, now=at(90))
    assert result.state == "void"


def test_a_minimum_of_two_needs_two_persons() -> None:
    two = policy(approvals=[{"role": "quality_reviewer", "minimum": 2, "meaning": "review"}])
    first = historic(QUALITY, QUENTIN, "approved", 1)
    again = historic(QUALITY, QUENTIN, "approved", 2)
    other = historic(QUALITY, CARLA, "approved", 2)
    assert judge(ended(first, other), policy=two).state == "approved"
    result = judge(ended(first, again), policy=two)
    assert result.state == "void"
    assert result.missing == ("review by 2 quality_reviewer, has 1 (quentin)",)


def test_ended_approved_without_a_required_role_is_not_approved() -> None:
    result = judge(ended(BOTH[1]))
    assert result.state == "undecided"
    assert result.missing == ("review by 1 quality_reviewer, has none",)
    assert any("not approved" in finding for finding in result.findings)


def test_ended_approved_against_a_persons_refusal_is_not_approved() -> None:
    tasks = (*BOTH, historic(QUALITY, CARLA, "rejected", 2.5))
    assert judge(ended(*tasks)).state == "undecided"


def test_cancelled_from_outside() -> None:
    result = judge(ProcessSnapshot(process(None, delete_reason="ended by an administrator"), BOTH))
    assert result.state == "cancelled"
    assert "administrator" in result.sentence
    assert result.findings


@pytest.mark.parametrize("end", ["somewhere", None])
def test_an_end_event_the_mapping_lacks_is_cancelled(end: str | None) -> None:
    history = replace(process("approved"), end_activity_id=end)
    assert judge(ProcessSnapshot(history, BOTH)).state == "cancelled"


@pytest.mark.parametrize(
    "changes",
    [
        {"variables": {MAPPING.digest_variable: digest_of("another version")}},
        {"variables": {}},
        {"business_key": "something else"},
        {"name": "Approve ticket_topics"},
    ],
)
def test_a_digest_that_no_longer_matches_is_stale(changes: dict[str, Any]) -> None:
    for end in ("approved", None):
        result = judge(ProcessSnapshot(process(end, **changes), BOTH))
        assert result.state == "stale"
        assert not any(one.counts for one in result.decisions)
        assert result.findings


def test_the_process_of_an_earlier_attempt_is_stale() -> None:
    assert judge(ended(*BOTH), attempt=2).state == "stale"


def test_a_running_process_is_void_as_soon_as_its_role_is_lost() -> None:
    void = historic(QUALITY, DANA, "approved", 1)
    assert judge(ProcessSnapshot(process(), (void,), (waiting(OWNER),))).state == "void"
    assert judge(ProcessSnapshot(process(), (void,), (waiting(QUALITY),))).state == "waiting"


def test_a_task_that_was_deleted_decides_nothing() -> None:
    tasks = (BOTH[0], historic(OWNER, DANA, "approved", 2, delete_reason="terminated"))
    result = judge(ended(*tasks))
    assert len(result.decisions) == 1
    assert result.state == "undecided"
    completed = (BOTH[0], historic(OWNER, DANA, "approved", 2, delete_reason="completed"))
    assert judge(ended(*completed)).state == "approved"


def test_a_task_outside_the_mapping_is_a_finding() -> None:
    extra = historic(OWNER, DANA, "approved", 1.5, key="rubber_stamp", name="Rubber stamp")
    result = judge(ended(*BOTH, extra))
    assert any("Rubber stamp" in finding for finding in result.findings)
    assert len(result.decisions) == 2


def grades(snapshot: ProcessSnapshot, **changes: Any) -> list[str]:
    return [one.grade for one in judge(snapshot, **changes).decisions]


def test_evidence_is_asserted_until_something_attests_it() -> None:
    assert grades(ended(*BOTH)) == ["asserted", "asserted"]
    completed = tuple(replace(task, completer=task.assignee) for task in BOTH)
    assert grades(ended(*completed)) == ["attested", "attested"]


@pytest.mark.parametrize(
    ("author", "text", "hours", "task_id", "grade"),
    [
        (QUENTIN, f"approved {SHORT}", 0.7, None, "attested"),
        (QUENTIN.upper(), f"Approve: {SHORT.upper()}.", 0.7, None, "attested"),
        (QUENTIN, f"It is fine.\napproved {DIGEST}", 1, BOTH[0].id, "attested"),
        (QUENTIN, "approved", 0.7, None, "asserted"),
        (QUENTIN, f"approved {SHORT[:11]}", 0.7, None, "asserted"),
        (DANA, f"approved {SHORT}", 0.7, None, "asserted"),
        (QUENTIN, f"approved {SHORT}", 0.4, None, "asserted"),
        (QUENTIN, f"approved {SHORT}", 1.1, None, "asserted"),
        (QUENTIN, f"approved {SHORT}", 0.7, BOTH[1].id, "asserted"),
    ],
)
def test_a_comment_attests_only_by_its_author_its_time_and_its_text(
    author: str, text: str, hours: float, task_id: str | None, grade: str
) -> None:
    snapshot = ProcessSnapshot(process("approved"), BOTH, (), (comment(author, text, hours, task_id),))
    assert grades(snapshot)[0] == grade


def test_a_policy_that_demands_attested_evidence_counts_no_other() -> None:
    strict = policy(evidence="attested")
    bare = judge(ended(*BOTH), policy=strict)
    assert bare.state == "void"
    assert "attested" in bare.decisions[0].void_reason
    comments = (comment(QUENTIN, f"approved {SHORT}", 0.9), comment(DANA, f"approved: {SHORT}", 1.9))
    assert judge(ended(*BOTH, comments=comments), policy=strict).state == "approved"


def test_a_service_that_completed_somebodys_task_decides_nothing() -> None:
    tasks = (replace(BOTH[0], completer="labelops-service"), BOTH[1])
    result = judge(ended(*tasks))
    assert result.state == "void"
    assert result.decisions[0].account == "labelops-service"


def test_an_assignee_that_changed_between_polls_is_a_finding_and_asserted() -> None:
    task = BOTH[0]
    comments = (comment(QUENTIN, f"approved {SHORT}", 0.9),)
    seen = Observed({task.id: [Holding(CARLA, seen=at(0.6))]})
    moved = judge(ended(*BOTH, comments=comments, observed=seen))
    assert moved.decisions[0].grade == "asserted"
    assert any(CARLA in finding for finding in moved.findings)
    traced = (replace(task, owner=CARLA), BOTH[1])
    delegated = judge(ended(*traced, comments=comments, observed=seen))
    assert delegated.decisions[0].grade == "attested"
    [finding] = delegated.findings
    assert f"last seen with {CARLA}" in finding


def test_a_comment_from_before_somebody_else_had_the_task_attests_nothing() -> None:
    """Quentin comments, Carla is seen with the task, Quentin completes: what he said was said of another moment."""
    task = replace(BOTH[0], owner=CARLA)
    back = Observed(
        {task.id: [Holding(QUENTIN, seen=at(0.5)), Holding(CARLA, seen=at(0.7)), Holding(QUENTIN, seen=at(0.8))]}
    )
    early, again = comment(QUENTIN, f"approved {SHORT}", 0.6), comment(QUENTIN, f"approved {SHORT}", 0.9)
    never = replace(back, holdings={task.id: back.holdings[task.id][:1]})
    for comments, seen, grade in (
        ((early,), back, "asserted"),
        ((early, again), back, "attested"),
        ((early,), never, "attested"),
    ):
        assert grades(ended(task, BOTH[1], comments=comments, observed=seen))[0] == grade


def test_a_task_completed_as_another_persons_than_was_last_seen_is_a_finding() -> None:
    seen = Observed({BOTH[0].id: [Holding(CARLA, seen=at(0.2))]})
    result = judge(ended(*BOTH, observed=seen))
    assert any(CARLA in finding and QUENTIN in finding for finding in result.findings)
    unheld = Observed({BOTH[0].id: [Holding(QUENTIN, seen=at(0.1)), Holding(None, seen=at(0.2))]})
    assert judge(ended(*BOTH, observed=unheld)).findings == ()


def look(earlier: Observed, *tasks: UserTask, hours: float = 1) -> Observed:
    return observe(earlier, ProcessSnapshot(process(), (), tasks), MAPPING, at(hours))[0]


def test_observe_remembers_every_holder_in_order_and_only_changes() -> None:
    seen = look(Observed(), waiting(QUALITY))
    assert seen == Observed()
    seen = look(seen, waiting(QUALITY, QUENTIN), waiting(OWNER, DANA))
    assert look(seen, waiting(QUALITY, QUENTIN), hours=2) == seen
    seen = look(seen, replace(waiting(QUALITY, CARLA), owner=QUENTIN, delegation_state="pending"), hours=3)
    seen = look(seen, waiting(QUALITY), hours=4)
    first, second = Holding(QUENTIN, seen=at(1)), Holding(CARLA, QUENTIN, "pending", at(3))
    assert seen.holdings == {
        "open-review_quality": (first, second, Holding(None, seen=at(4))),
        "open-approve_dataset": (Holding(DANA, seen=at(1)),),
    }
    assert read_observed(seen.as_json()) == seen
    assert read_observed({"task-1": [QUENTIN]}).holdings == {"task-1": (Holding(QUENTIN),)}


def test_outcomes_in_one_shared_variable_are_told_apart_by_the_looks() -> None:
    """The variable holds the last outcome only; a look in between has seen the first."""
    tasks = tuple(one.model_copy(update={"outcome_variable": "approvalStatus"}) for one in MAPPING.tasks)
    shared = MAPPING.model_copy(update={"tasks": tasks})
    first, second = (
        historic(task, who, None, hours) for task, who, hours in zip(tasks, (QUENTIN, DANA), (1, 2), strict=True)
    )
    between = process(variables={MAPPING.digest_variable: DIGEST, "approvalStatus": "approved"})
    after = process("approved", variables={MAPPING.digest_variable: DIGEST, "approvalStatus": "approved"})
    seen, _ = observe(Observed(), ProcessSnapshot(between, (first,)), shared, at(1))
    seen, _ = observe(seen, ProcessSnapshot(after, (first, second)), shared, at(3))
    both = judge(ProcessSnapshot(after, (first, second), observed=seen), mapping=shared)
    assert (both.state, [one.outcome for one in both.decisions]) == ("approved", ["approve", "approve"])
    late, _ = observe(Observed(), ProcessSnapshot(after, (first, second)), shared, at(3))
    missed = judge(ProcessSnapshot(after, (first, second), observed=late), mapping=shared)
    assert (missed.state, [one.outcome for one in missed.decisions]) == ("undecided", ["undecided", "approve"])


def test_a_decision_in_a_called_process_is_read_there() -> None:
    inner = tuple(replace(task, process_id=f"called-{number}", variables={}) for number, task in enumerate(BOTH))
    tasks = tuple(one.model_copy(update={"outcome_variable": "result"}) for one in MAPPING.tasks)
    mapping = MAPPING.model_copy(update={"tasks": tasks, "other_tasks": ("file_it",)})
    other = replace(BOTH[0], id="filing", key="file_it", name="File it")
    called = {"called-0": {"result": "approved"}, "called-1": {"result": "rejected"}}
    result = judge(ProcessSnapshot(process("approved"), (*inner, other), called=called), mapping=mapping)
    assert [one.outcome for one in result.decisions] == ["approve", "reject"]
    assert result.state == "undecided"
    assert not any("not in the mapping" in finding for finding in result.findings)


def test_a_forms_yes_or_no_is_an_outcome() -> None:
    mapping = MAPPING.model_copy(update={"outcomes": {"true": "approve", "false": "reject"}})
    tasks = (replace(BOTH[0], variables={QUALITY.outcome_variable: True}), BOTH[1])
    assert judge(ProcessSnapshot(process(), tasks), mapping=mapping).decisions[0].outcome == "approve"


def test_a_decision_states_what_it_means_and_on_what() -> None:
    result = judge(ended(*BOTH))
    decision = result.decisions[0]
    names = {"project": "ticket_topics", "digest": DIGEST, "policy_digest": policy().digest}
    assert decision.statement == statement("review", "approve", "quality_reviewer", **names)
    for part in ("[1] I reviewed", DIGEST, "ticket_topics", policy().digest, "quality_reviewer"):
        assert part in decision.statement
    assert json.loads(result.proofs[decision.raw_digest])["task"]["assignee"] == QUENTIN


def test_a_task_with_another_meaning_than_the_policy_demands_is_void() -> None:
    demanding = policy(approvals=[{"role": "data_owner", "meaning": "responsibility"}])
    result = judge(ended(*BOTH), policy=demanding)
    assert result.state == "void"
    assert "responsibility" in result.decisions[1].void_reason


def test_waiting_for_what_cannot_happen_is_a_finding() -> None:
    snapshot = ProcessSnapshot(process(), (), (waiting(QUALITY),))
    assert judge(snapshot).findings == ()
    barred = judge(snapshot, annotators={"dana"})
    assert any("data_owner" in finding for finding in barred.findings)
    unknown = judge(snapshot, annotators={"unknown:1"})
    assert any("unknown annotators" in finding for finding in unknown.findings)


# The release process.


def release_process(end: str | None = None, **changes: Any) -> HistoricProcess:
    released = {
        "business_key": key_of("dataset_release"),
        "name": f"Release {SHORT}",
        "definition_id": "dataset_release:1:x",
    }
    return process(end, **{**released, **changes})


def judge_release(snapshot: ProcessSnapshot, **changes: Any) -> ReleaseDecision:
    values = {"mapping": RELEASE, "business_key": key_of("dataset_release"), "requesters": frozenset()}
    return evaluate_release(case(snapshot, **{**values, **changes}), "release_manager")


def release_task(assignee: str | None = RITA, outcome: str = "released", **changes: Any) -> HistoricTask:
    return historic(RELEASE.tasks[0], assignee, outcome, 1, **changes)


def test_a_release_needs_the_end_and_the_manager() -> None:
    result = judge_release(ProcessSnapshot(release_process("released"), (release_task(),)))
    assert result.state == "released"
    assert result.decision.person == "rita"
    assert result.decision.meaning == "responsibility"
    assert judge_release(ProcessSnapshot(release_process("released"))).state == "void"
    assert judge_release(ProcessSnapshot(release_process())).state == "waiting"


@pytest.mark.parametrize(
    ("snapshot", "state"),
    [
        (ProcessSnapshot(release_process("refused"), (release_task(outcome="refused"),)), "refused"),
        (ProcessSnapshot(release_process(None, delete_reason="stopped"), (release_task(),)), "cancelled"),
        (ProcessSnapshot(release_process("elsewhere"), (release_task(),)), "cancelled"),
        (ProcessSnapshot(release_process("released", variables={}), (release_task(),)), "stale"),
        (ProcessSnapshot(process("released"), (release_task(),)), "stale"),
        (ProcessSnapshot(release_process("released"), (release_task(DANA),)), "void"),
        (ProcessSnapshot(release_process("released"), (release_task("labelops-service"),)), "void"),
        (ProcessSnapshot(release_process("released"), (release_task(outcome="whatever"),)), "void"),
        (ProcessSnapshot(release_process("released"), (release_task(outcome="refused"),)), "void"),
    ],
)
def test_a_release_that_did_not_happen_has_its_state(snapshot: ProcessSnapshot, state: str) -> None:
    result = judge_release(snapshot)
    assert result.state == state
    assert result.decision is None or result.decision.outcome != "approve" or state in ("void",)
    assert bool(result.findings) or state == "refused"


def test_a_release_manager_who_annotated_releases_nothing() -> None:
    snapshot = ProcessSnapshot(release_process("released"), (release_task(),))
    assert judge_release(snapshot, annotators={"rita"}).state == "void"
    assert judge_release(snapshot, requesters={"rita"}).state == "void"
    assert judge_release(snapshot, policy=policy(evidence="attested")).state == "void"
