"""Every stated result of an approval, end to end."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import timedelta

import pytest

from include.base.errors import InvalidInput, Refused, Unavailable
from include.sandbox.http import Reply
from include.sandbox.prodigy_schema import import_jsonl
from tests.integration.airflow_house import PROJECT


def states(house):
    return [one["state"] for one in house.judged()]


@pytest.mark.parametrize(("outcome", "state"), [("rejected", "rejected"), ("rework", "rework")])
def test_an_approver_may_send_it_back(asked, outcome, state):
    asked.say("quentin", outcome)
    assert states(asked) == [state]
    assert states(asked) == []
    assert [event.action for event in asked.events(f"approval.{state}")] == [f"approval.{state}"]


def test_one_of_two_approvals_is_not_enough(asked):
    asked.say("quentin", "approved")
    assert states(asked) == ["waiting"]
    asked.say("dana", "approved")
    assert states(asked) == ["approved"]
    ledger = asked.ledger()
    decisions = ledger.decisions(asked.version().digest)
    ledger.close()
    assert sorted((one.person, one.role, one.grade, one.counts) for one in decisions) == [
        ("dana", "data_owner", "attested", True),
        ("quentin", "quality_reviewer", "attested", True),
    ]


def test_an_approver_without_a_comment_does_not_meet_the_policy(asked):
    asked.say("quentin", "approved", comment=False)
    asked.say("dana", "approved")
    assert states(asked) == ["void"]


def test_an_approver_whom_the_register_does_not_know_is_void(asked):
    asked.change_register("dana", accounts={"airflow": ["dana"]})
    asked.say("quentin", "approved")
    asked.say("dana", "approved")
    assert states(asked) == ["void"]


def test_an_approver_without_the_role_is_void(asked):
    asked.change_register("dana", roles=[{"role": "head_of_data"}])
    asked.say("quentin", "approved")
    asked.say("dana", "approved")
    assert states(asked) == ["void"]


def test_who_asked_may_not_approve(labelled):
    labelled.add_deputy()
    [waiting] = labelled.approve_run(by="dana")
    assert waiting["state"] == "waiting"
    labelled.say("quentin", "approved")
    labelled.say("dana", "approved")
    assert states(labelled) == ["void"]


def test_a_late_approval_is_reminded_escalated_once_and_expires(asked):
    policy = asked.project.policy
    asked.later = policy.due + timedelta(minutes=5)
    assert states(asked) == ["waiting"]
    assert states(asked) == ["waiting"]
    told = [event.action for event in asked.events("approval.reminded", "approval.escalated")]
    assert told == sorted(set(told), key=told.index)
    assert "approval.escalated" in told
    asked.later = timedelta(days=365)
    assert states(asked) == ["expired"]
    assert asked.opentext_client().process(asked.events("approval.requested")[0].body["process_id"]) is None


def test_a_process_ended_from_outside_is_cancelled(asked):
    asked.opentext_client().terminate(asked.events("approval.requested")[0].body["process_id"], "no longer wanted")
    assert states(asked) == ["cancelled"]


def test_a_decided_version_is_resubmitted_by_a_named_person_with_a_reason(asked):
    digest = asked.version().digest
    asked.say("quentin", "rework")
    assert states(asked) == ["rework"]
    with pytest.raises(InvalidInput, match="reason"):
        one(asked, "resubmit", digest[:12], "", by="olga")
    with pytest.raises(Refused, match="named person"):
        one(asked, "resubmit", digest[:12], "explained", by=None)
    one(asked, "resubmit", digest[:12], "explained to the reviewer", by="olga")
    [again] = asked.approve_run()
    assert (again["state"], again["detail"]["attempt"]) == ("waiting", 2)
    [event] = asked.events("approval.resubmitted")
    assert (event.actor, event.reason) == ("olga", "explained to the reviewer")
    assert asked.approve()["state"] == "approved"


def test_an_open_approval_is_not_resubmitted(asked):
    with pytest.raises(Refused, match="only a decided one"):
        one(asked, "resubmit", asked.version().digest[:12], "again", by="olga")


def test_a_batch_is_closed_unfinished_by_a_named_person(house):
    house.sync_guidelines()
    house.ingest()
    assert house.approve_run() == []
    [batch] = house.events("batch.assigned")
    digest = batch.subject.removeprefix("batch:")
    with pytest.raises(Refused, match="named person"):
        one(house, "close_batch", digest[:12], "the season is over", by=None)
    one(house, "close_batch", digest[:12], "the season is over", by="olga")
    [closed] = house.events("batch.closed")
    assert (closed.actor, closed.body["missing"]) == ("olga", 2 * batch.body["size"])


def test_the_gate_of_a_version_marked_successful_puts_nothing_before_approvers(labelled):
    run = labelled.run_id()
    [item] = labelled.items("labeling_approval")
    frozen = labelled.step("labeling_approval", "freeze", item, run)
    with pytest.raises(Refused, match="no gate"):
        labelled.step("labeling_approval", "request", item, run, given=frozen)
    assert labelled.events("approval.requested") == []


def one(house, name, prefix, reason, *, by):
    """Let a person do something by a run parameter."""
    from include.releases import by_hand

    with house.run("labeling_approval", run_id=house.run_id(), by=by).open() as at:
        if name == "close_batch":
            return by_hand.close_batch(at, house.project, prefix, reason, house.prodigy())
        return by_hand.resubmit(at, house.project, prefix, reason)


def test_who_annotated_may_not_approve_under_the_same_name_either(labelled):
    labelled.change_register("ben", accounts={"prodigy": ["ben"], "opentext": ["dana@people.example"]})
    labelled.change_register("dana", accounts={"airflow": ["dana"]})
    labelled.approve_run()
    labelled.say("quentin", "approved")
    labelled.say("dana", "approved")
    assert states(labelled) == ["void"]


def test_a_service_account_decides_nothing(asked):
    import yaml

    register = yaml.safe_load(asked.register_file.read_text("utf-8"))
    for person in register["persons"]:
        if person["id"] == "dana":
            person["accounts"].pop("opentext")
    register["services"].append({"system": "opentext", "account": "dana@people.example"})
    asked.register_file.write_text(yaml.safe_dump(register), "utf-8")
    asked.say("quentin", "approved")
    asked.say("dana", "approved")
    assert states(asked) == ["void"]


@pytest.mark.parametrize("times", [1, None])
def test_a_process_is_not_judged_while_its_history_is_not_whole(asked, times):
    """A reply from before the end shows tasks open: what was decided in them would be lost."""
    seen = []
    served = asked.opentext.app.handle

    def handle(request):
        reply = served(request)
        if request.path.endswith("/historic-task-instances"):
            seen.append(reply.body)
        return reply

    asked.opentext.app.handle = handle
    assert states(asked) == ["waiting"]
    asked.say("quentin", "approved")
    asked.say("dana", "approved")
    stale = Reply(200, seen[-1], {"Content-Type": "application/json"})
    fault = asked.opentext.app.fault(
        "status", lambda request: request.path.endswith("/historic-task-instances"), times=times, reply=stale
    )
    if times is None:
        with pytest.raises(Unavailable, match=r"has ended, and history still shows its task .* open"):
            asked.approve_run()
        assert asked.events("approval.approved", "approval.undecided", "approval.ending") == []
        asked.later += timedelta(minutes=11)
        assert states(asked) == ["undecided"]
    else:
        assert states(asked) == ["approved"]
        assert fault.hits == 1


def test_a_final_decision_settles_a_disputed_task(labelled):
    """Two tasks are disputed; a named person has decided one, and a second row cannot be read."""
    answers = labelled.examples(PROJECT)
    given = defaultdict(set)
    for one in answers:
        given[one["labelops"]["task_id"]].add(tuple(one["accept"]))
    disputed = sorted(task for task, values in given.items() if len(values) > 1)
    assert len(disputed) == 2
    task = next(one for one in answers if one["labelops"]["task_id"] == disputed[0])
    decision = {"decision_id": "case-1", "person": "quentin", "kind": "decision"}
    rows = [{**task, "labelops": {**task["labelops"], **decision}}, {**task, "labelops": task["labelops"]}]
    import_jsonl(f"sqlite:///{labelled.prodigy_file}", labelled.project.decisions, rows)
    labelled.approve_run()
    manifest = json.loads((labelled.home / "store" / labelled.version().path / "manifest.json").read_bytes())
    assert (manifest["counts"]["disputed"], manifest["counts"]["decided"]) == (1, 1)
    assert manifest["adjudicators"] == ["quentin"]
    [found] = [one for one in labelled.events("finding") if one.body["kind"] == "malformed decision"]
    assert "labelops.decision_id" in found.reason
    # Whoever decided a label has had a hand in it.
    labelled.say("quentin", "approved")
    assert states(labelled) == ["void"]


# ---- what is known before people sign --------------------------------------------------------------------------------


def test_nobody_is_asked_about_a_version_that_the_policy_forbids_anyhow(labelled):
    """Two disputed tasks of thirteen: the policy wants all of them; under one that wants less, both are asked once."""
    labelled.change_project(policy={"min_completeness_percent": 100})
    with pytest.raises(Refused, match="84 % complete"):
        labelled.approve_run()
    assert labelled.events("approval.requested") == []
    assert labelled.approve_run() == []
    [refused] = labelled.events("approval.refused")
    assert "the policy demands 100 %" in refused.reason
    labelled.change_project(policy={"min_completeness_percent": 80}, release={"orchestrator": "airflow"})
    [asked] = labelled.approve_run()
    assert (asked["state"], asked["detail"]["number"]) == ("waiting", 2)
    assert labelled.approve()["state"] == "approved"
    assert labelled.release_run()[0]["state"] == "released"


def test_what_was_asked_under_a_policy_is_released_under_it(asked):
    """A policy that changed since people were asked is for what is asked from now on."""
    asked.change_project(policy={"min_completeness_percent": 100}, release={"orchestrator": "airflow"})
    assert asked.approve()["state"] == "approved"
    asked.release_run()
    asked.say("rita", "released")
    assert asked.release_run()[0]["state"] == "released"


def test_a_version_resubmitted_under_another_policy_is_frozen_anew_and_signed_once(asked):
    asked.say("quentin", "rework")
    assert states(asked) == ["rework"]
    asked.change_project(policy={"min_completeness_percent": 70})
    one(asked, "resubmit", asked.version().digest[:12], "explained to the reviewer", by="olga")
    [again] = asked.approve_run()
    assert (again["state"], again["detail"]["number"]) == ("waiting", 2)
    [stale] = asked.events("approval.stale")
    assert "another policy" in stale.reason
    assert asked.approve()["state"] == "approved"


def test_answers_of_people_whom_the_register_does_not_know_are_not_frozen_and_told_by_name(labelled):
    labelled.change_register("ben", accounts={"airflow": ["ben"]})
    with pytest.raises(InvalidInput, match=r"does not know: ben; map them"):
        labelled.approve_run()
    assert labelled.events("batch.frozen", "approval.requested") == []
    labelled.change_register("ben", accounts={"prodigy": ["ben"], "airflow": ["ben"]})
    assert states(labelled) == ["waiting"]


def test_a_version_frozen_before_the_register_knew_its_people_is_made_anew_by_a_persons_word(labelled):
    """A version of an earlier installation holds answers of an account that was mapped only later."""
    labelled.change_project(policy={"four_eyes": False})
    labelled.change_register("ben", accounts={"airflow": ["ben"]})
    labelled.approve_run()
    labelled.say("quentin", "rework")
    assert states(labelled) == ["rework"]
    labelled.change_project(policy={"four_eyes": True})
    labelled.change_register("ben", accounts={"prodigy": ["ben"], "airflow": ["ben"]})
    assert labelled.approve_run() == []
    one(labelled, "resubmit", labelled.version().digest[:12], "ben is in the register now", by="olga")
    assert states(labelled) == ["waiting"]
    assert labelled.version().number == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"owner": "nobody"}, "owner: found 'nobody'"),
        ({"policy": {"approvals": [{"role": "chief_labeller"}]}}, "nobody has that role"),
        ({"policy": {"escalation_role": "chief_labeller"}}, "policy.escalation_role: found 'chief_labeller'"),
        ({"policy": {"approvals": [{"role": "data_owner", "minimum": 3}]}}, "3 data_owner must give"),
    ],
)
def test_people_whom_nobody_is_are_told_before_anything_is_labelled_and_nothing_is_frozen(house, changes, said):
    house.change_project(**changes) if "policy" in changes else house.change_owner(changes["owner"])
    house.sync_guidelines()
    house.ingest()
    assert any(said in event.reason for event in house.events("finding") if event.body["kind"] == "people missing")
    house.answer_all()
    with pytest.raises(InvalidInput, match=said.split(":")[0]):
        house.approve_run()
    assert house.events("batch.frozen") == []


def test_nobody_is_asked_where_only_who_labelled_could_approve(labelled):
    labelled.change_register("ben", roles=[{"role": "annotator"}, {"role": "data_owner"}])
    labelled.change_register("dana", roles=[])
    with pytest.raises(Refused, match="ben had a hand in it"):
        labelled.approve_run()
    labelled.change_register("dana", roles=[{"role": "data_owner"}])
    assert states(labelled) == ["waiting"]
