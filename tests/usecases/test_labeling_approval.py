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
