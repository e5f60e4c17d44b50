"""Data that nobody approved, and decisions that were none: what was tried against P1, P2 and P5, in whole houses."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from include.base.canonical import effect_key
from include.base.errors import InvalidInput, Refused
from include.base.store import Store
from include.bpmn.mapping import MAPPINGS, load_mapping, start_variables
from include.decisions.approval import ProcessSnapshot, observe
from include.passport.verify import verify as verify_release
from include.questions import Records, released_without
from include.releases import write as releasing
from include.sandbox.http import Reply
from include.systems.prodigy.content import annotator_of
from tests.decisions.test_approval import (
    BOTH,
    MAPPING,
    OWNER,
    QUALITY,
    QUENTIN,
    SHORT,
    at,
    comment,
    historic,
    judge,
    process,
    waiting,
)
from tests.house import House
from tests.integration.airflow_house import PROJECT


def findings(house: House, kind: str) -> list[str]:
    return [event.reason for event in house.events("finding") if event.body["kind"] == kind]


def state_of(house: House) -> str:
    [result] = house.judged()
    return str(result["state"])


def released(house: House) -> bool:
    return bool(house.events("release.done")) or (house.home / "store" / "releases" / PROJECT / "current.json").exists()


# ---- processes that are not ours -----------------------------------------------------------------------------------


def start_ahead(house: House, person: str, model: str) -> str:
    """Freeze the version, and let a person start a process under the business key that is asked for next."""
    run = house.run_id()
    [item] = house.items("labeling_approval", run)
    digest = house.step("labeling_approval", "freeze", item, run)["digest"]
    key = effect_key("labeling_approval", PROJECT, f"version:{digest}", digest, 1)
    variables: dict[str, Any] = {MAPPING.digest_variable: digest, "checks_passed": True, "check_problems": 0}
    for mapping in (MAPPING, load_mapping("default").dataset_release):
        variables |= start_variables(mapping, [task.role for task in mapping.tasks])
    body = {
        "processDefinitionKey": model,
        "name": f"Ticket topics: version 1 ({digest[:12]})",
        "businessKey": key,
        "variables": [{"name": name, "value": value} for name, value in variables.items()],
    }
    return str(house.person(person)._send("POST", "/workflow/v1/process-instances", body)["id"])


@pytest.mark.parametrize("model", ["dataset_release", "labeling_approval"])
def test_a_process_that_a_person_started_under_our_business_key_is_not_adopted(labelled: House, model: str) -> None:
    theirs = start_ahead(labelled, "dana", model)
    [result] = labelled.approve_run()
    assert result["state"] == "waiting"
    [asked] = labelled.events("approval.requested")
    assert asked.body["process_id"] != theirs
    [found] = findings(labelled, "foreign process")
    assert theirs in found
    # It is somebody's: it is told, and left alone.
    assert labelled.opentext_client().process(theirs) is not None


@pytest.mark.parametrize("changes", [{"started_by": QUENTIN}, {"definition_id": "other:1:x"}])
def test_a_process_of_another_starter_or_model_is_stale(changes: dict[str, Any]) -> None:
    result = judge(ProcessSnapshot(process("approved", **changes), BOTH))
    assert result.state == "stale"
    assert not any(one.counts for one in result.decisions)


def test_a_decision_older_than_its_request_counts_for_nothing() -> None:
    result = judge(ProcessSnapshot(process("approved", started_at=None), BOTH), asked_at=at(1.5))
    assert [one.counts for one in result.decisions] == [False, True]
    assert "before anybody was asked" in result.decisions[0].void_reason


# ---- what an outcome means -----------------------------------------------------------------------------------------


def test_a_mapping_that_is_edited_while_people_decide_changes_nothing(
    asked: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked.say("quentin", "approved")
    asked.say("dana", "rejected")
    folder = tmp_path / "mappings"
    folder.mkdir()
    text = (MAPPINGS / "default.yaml").read_text("utf-8")
    mapping = yaml.safe_load(text)
    mapping["labeling_approval"]["outcomes"]["rejected"] = "approve"
    mapping["labeling_approval"]["ends"] = dict.fromkeys(mapping["labeling_approval"]["ends"], "approved")
    (folder / "default.yaml").write_text(yaml.safe_dump(mapping), "utf-8")
    monkeypatch.setenv("LABELOPS_MAPPINGS", str(folder))
    assert state_of(asked) == "rejected"


def test_an_outcome_that_contradicts_the_statement_put_before_its_person_is_undecided() -> None:
    from tests.governance.test_signatures import OWNER as SIGNER
    from tests.governance.test_signatures import decided, mapping

    swapped = mapping().model_copy(update={"outcomes": {"approved": "reject", "rejected": "approve"}})
    result = decided(mapping(), mapping=swapped)
    assert {one.outcome for one in result.decisions if one.role == SIGNER.role} == {"undecided"}


# ---- bytes ---------------------------------------------------------------------------------------------------------


def test_rows_that_are_swapped_after_they_were_verified_are_not_released(
    airflow_approved: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = airflow_approved.version()
    rows = airflow_approved.home / "store" / version.path / "rows.jsonl"
    verify = releasing.verify_version

    def verified(*args: Any) -> list[str]:
        problems = verify(*args)
        rows.write_bytes(rows.read_bytes().replace(b'"accept"', b'"reject"'))
        return problems

    monkeypatch.setattr(releasing, "verify_version", verified)
    with pytest.raises(InvalidInput, match="the bytes that were read"):
        airflow_approved.release_run()
    assert not released(airflow_approved)


# ---- people --------------------------------------------------------------------------------------------------------


def test_a_person_who_vanished_from_the_register_stops_every_run_by_name(asked: House) -> None:
    register = yaml.safe_load(asked.register_file.read_text("utf-8"))
    for person in register["persons"]:
        if person["id"] == "ben":
            person["id"] = "benedict"
    asked.register_file.write_text(yaml.safe_dump(register), "utf-8")
    with pytest.raises(InvalidInput, match=r"ben stood in the register .* is not there any more"):
        asked.approve_run()


def test_a_person_divided_between_two_entries_is_still_one(asked: House) -> None:
    """Dana annotated as ben, whose account at the approvals goes to an entry of its own."""
    asked.change_register("ben", accounts={"prodigy": ["ben"]})
    asked.change_register(
        "benedict", accounts={"opentext": ["ben@people.example"]}, roles=[{"role": "quality_reviewer"}]
    )
    asked.opentext_client().update_task(open_task(asked).id, assignee="ben@people.example")
    ben = asked.person("ben")
    [task] = ben.tasks()
    ben.comment(task["processInstanceId"], f"approved {asked.version().digest[:12]}")
    ben.complete(task["id"], "approved")
    assert state_of(asked) == "void"
    ledger = asked.ledger()
    [decision] = ledger.decisions(asked.version().digest)
    ledger.close()
    assert decision.void_reason == "benedict, who is ben too, annotated or adjudicated this version"


def open_task(house: House) -> Any:
    [task] = house.opentext_client().tasks()
    return task


def test_who_asked_for_the_approval_may_not_release(labelled: House) -> None:
    labelled.change_register("rita", accounts={"opentext": ["rita@people.example"], "airflow": ["rita"]})
    labelled.approve_run(by="rita")
    labelled.approve()
    labelled.release_run()
    labelled.say("rita", "released")
    with pytest.raises(Refused, match="rita requested this"):
        labelled.release_run()
    assert not released(labelled)


@pytest.mark.parametrize(
    ("annotator", "linked", "named", "account"),
    [
        ("ben", "ticket_topics-dana", None, None),
        ("ticket_topics-ben", "ticket_topics-dana", None, None),
        ("ben", None, "ticket_topics-dana", None),
        (None, "ticket_topics-ben", "ticket_topics-dana", None),
        ("ben", "ticket_topics-ben", "ticket_topics-ben", "ben"),
        ("ben", "2026-11-01_10-00-00", None, "ben"),
        ("opaque", "another-opaque", "another-opaque", "opaque"),
    ],
)
def test_whoever_is_named_differently_by_row_and_session_is_unknown(
    annotator: str | None, linked: str | None, named: str | None, account: str | None
) -> None:
    assert annotator_of(annotator, linked, named, "ticket_topics", review=False) == account


# ---- evidence ------------------------------------------------------------------------------------------------------


def test_a_recorded_rejection_that_is_overwritten_is_no_approval() -> None:
    variable = QUALITY.outcome_variable
    done = historic(QUALITY, QUENTIN, None, 1)

    def shown(value: str, end: str | None, *more: Any) -> ProcessSnapshot:
        variables = {MAPPING.digest_variable: "", variable: value, OWNER.outcome_variable: "approved"}
        variables[MAPPING.digest_variable] = process().variables[MAPPING.digest_variable]
        said = (comment(QUENTIN, f"I looked at it: {SHORT}", 0.7),)
        return ProcessSnapshot(process(end, variables=variables), (done, *more), (waiting(OWNER),), said)

    first, _ = observe(replace(shown("rejected", None).observed), shown("rejected", None), MAPPING, at(1.1))
    overwritten = shown("approved", "approved", BOTH[1])
    seen, _ = observe(first, overwritten, MAPPING, at(3))
    result = judge(replace(overwritten, open_tasks=(), observed=seen))
    assert result.decisions[0].outcome == "undecided"
    assert result.state == "undecided"
    assert any("rejected when first seen" in one for one in result.findings)


@pytest.mark.parametrize(
    ("said", "outcome", "grade"),
    [
        (f"I will NOT approve {SHORT}", "approve", "asserted"),
        (f"not approved {SHORT}", "approve", "asserted"),
        (SHORT, "approve", "asserted"),
        (f"rejected {SHORT}", "undecided", "asserted"),
        (f"rejected {SHORT}\nNo: approved {SHORT}", "undecided", "asserted"),
        (f"rejected {SHORT}\nOn a second look:\napproved {SHORT}", "approve", "attested"),
    ],
)
def test_a_comment_attests_only_the_outcome_that_it_carries(said: str, outcome: str, grade: str) -> None:
    result = judge(ProcessSnapshot(process("approved"), BOTH, (), (comment(QUENTIN, said, 0.7),)))
    assert (result.decisions[0].outcome, result.decisions[0].grade) == (outcome, grade)


def test_a_comment_that_was_edited_after_it_was_first_seen_attests_nothing() -> None:
    before = ProcessSnapshot(process(), BOTH[:1], (waiting(OWNER),), (comment(QUENTIN, "wait", 0.7),))
    seen, _ = observe(before.observed, before, MAPPING, at(1.1))
    edited = (comment(QUENTIN, f"approved {SHORT}", 0.7),)
    result = judge(ProcessSnapshot(process("approved"), BOTH, (), edited, observed=seen))
    assert result.decisions[0].grade == "asserted"


# ---- answers -------------------------------------------------------------------------------------------------------


def test_an_answer_altered_in_place_before_the_freeze_is_found(labelled: House) -> None:
    labelled.items("labeling_approval")
    with closing(sqlite3.connect(labelled.prodigy_file)) as prodigy, prodigy:
        [(example, content)] = prodigy.execute(
            "SELECT example.id, example.content FROM link JOIN example ON example.id = link.example_id "
            "JOIN dataset ON dataset.id = link.dataset_id WHERE dataset.name = ? ORDER BY link.id LIMIT 1",
            (PROJECT,),
        ).fetchall()
        row = {**json.loads(content), "answer": "ignore"}
        prodigy.execute("UPDATE example SET content = ? WHERE id = ?", (json.dumps(row).encode(), example))
    labelled.approve_run()
    assert len(findings(labelled, "answer changed")) == 1


# ---- what was in force ---------------------------------------------------------------------------------------------


def test_a_project_that_lets_airflow_release_after_people_refused_releases_nothing(approved: House) -> None:
    approved.release_run()
    approved.say("rita", "refused")
    approved.change_project(release={"orchestrator": "airflow"})
    with pytest.raises(Refused, match="ended refused"):
        approved.release_run()
    assert not released(approved)


def test_four_eyes_that_are_given_up_after_the_approval_let_no_annotator_release(approved: House) -> None:
    approved.change_register("rita", accounts={})
    approved.change_register(
        "ben",
        accounts={"prodigy": ["ben"], "opentext": ["ben@people.example", "rita@people.example"]},
        roles=[{"role": "annotator"}, {"role": "release_manager"}],
    )
    approved.change_project(policy={"four_eyes": False})
    approved.release_run()
    approved.say("rita", "released")
    with pytest.raises(Refused, match="ben annotated or adjudicated this version"):
        approved.release_run()
    assert not released(approved)
    assert any(one.startswith("four_eyes: False instead of True (olga") for one in findings(approved, "policy relaxed"))


def test_a_policy_that_does_not_say_who_changed_it_and_why_is_not_in_force(asked: House) -> None:
    asked.change_project(policy={"four_eyes": False, "changed_by": None, "reason": None})
    with pytest.raises(InvalidInput, match="say who changed it"):
        asked.approve_run()
    asked.change_project(policy={"four_eyes": False, "changed_by": "nobody"})
    with pytest.raises(InvalidInput, match=r"changed_by: found 'nobody'"):
        asked.approve_run()


def test_who_changed_the_policy_may_not_approve_under_it(labelled: House) -> None:
    labelled.sync_guidelines()
    labelled.change_project(policy={"due_hours": 73, "changed_by": "dana"})
    labelled.add_deputy()
    labelled.approve_run()
    labelled.say("quentin", "approved")
    labelled.say("dana", "approved")
    assert state_of(labelled) == "void"


def test_a_guarded_policy_is_in_force_only_when_another_person_of_that_role_accepted_it(labelled: House) -> None:
    labelled.change_project(policy={"guard": "head_of_data"})
    labelled.sync_guidelines()
    before = labelled.project.policy.digest
    labelled.change_register("hugo", accounts={"airflow": ["hugo"]})
    labelled.change_project(policy={"evidence": "asserted", "changed_by": "hugo"})
    after = labelled.project.policy.digest
    labelled.approve_run()
    [asked] = labelled.events("approval.requested")
    assert pinned(labelled, asked)["evidence"] == "attested"
    for person in ("hugo", "dana"):
        with pytest.raises(Refused):
            accept(labelled, after, by=person)
    labelled.change_register("dana", roles=[{"role": "head_of_data"}])
    accept(labelled, after, by="dana")
    labelled.approve_run()
    in_force = [event.digest_after for event in labelled.events("policy.in_force")]
    assert in_force[-2:] == [before, after]


def pinned(house: House, asked: Any) -> dict[str, Any]:
    digest = asked.body["policy"]
    return dict(json.loads((house.home / "store" / "objects" / digest[:2] / digest).read_bytes()))


def accept(house: House, digest: str, *, by: str) -> None:
    from include.releases import by_hand

    with house.run("labeling_approval", run_id=house.run_id(), by=by).open() as run:
        by_hand.accept_policy(run, house.project, digest[:12], "seen and agreed")


# ---- gates ---------------------------------------------------------------------------------------------------------


def test_the_report_of_another_gate_lets_no_version_on(approved: House) -> None:
    [report] = (approved.home / "store" / "gates" / "labeling_approval").rglob("result.json")
    more = [{**one, "answer": "ignore"} for one in approved.examples(PROJECT)]
    approved.answer(more)
    approved.later += timedelta(hours=2)
    run = approved.run_id()
    item = next(one for one in approved.items("labeling_approval", run) if one["subject"].startswith("batch:"))
    frozen = approved.step("labeling_approval", "freeze", item, run)
    other = {"result": str(report.relative_to(approved.home / "store"))}
    with pytest.raises(Refused, match="looked at other rows"):
        approved.step("labeling_approval", "request", item, run, given=frozen, gate=other)
    assert len(approved.events("approval.requested")) == 1


def test_a_gate_report_that_is_no_json_lets_nothing_on(labelled: House) -> None:
    run = labelled.run_id()
    [item] = labelled.items("labeling_approval", run)
    frozen = labelled.step("labeling_approval", "freeze", item, run)
    (labelled.home / "store" / "gates" / "report.json").write_text("{")
    with pytest.raises(InvalidInput, match="not JSON"):
        labelled.step("labeling_approval", "request", item, run, given=frozen, gate={"result": "gates/report.json"})


def test_other_rows_than_those_that_passed_are_not_loaded(house: House) -> None:
    house.sync_guidelines()
    run = house.run_id()
    [item] = house.items("raw_data_ingestion", run)
    taken = house.step("raw_data_ingestion", "read", item, run)
    gate = house.step("raw_data_ingestion", "gate", item, run, given=taken)
    passed = Path(str(gate["passed"]).removeprefix("file://"))
    other = passed.with_name("other.jsonl")
    other.write_bytes(b"".join(passed.read_bytes().splitlines(keepends=True)[:-1]))
    with pytest.raises(Refused, match="does not hold the rows that passed"):
        house.step("raw_data_ingestion", "load", item, run, given=taken, gate={**gate, "passed": str(other)})
    assert house.events("source.read") == []


# ---- files ---------------------------------------------------------------------------------------------------------


def test_a_pointer_written_by_hand_is_a_finding_of_the_next_run(airflow_approved: House) -> None:
    airflow_approved.release_run()
    pointer = airflow_approved.home / "store" / "releases" / PROJECT / "current.json"
    pointer.write_text('{"release": "v9-000000000000", "number": 9, "digest": "0"}')
    airflow_approved.release_run()
    [found] = findings(airflow_approved, "pointer misplaced")
    assert "v9-000000000000" in found


def test_a_guideline_pointer_moved_by_hand_is_told_and_put_right(house: House) -> None:
    house.sync_guidelines()
    pointer = house.home / "store" / "publications" / PROJECT / "guidelines" / "current.json"
    before = json.loads(pointer.read_bytes())
    pointer.unlink()
    house.sync_guidelines()
    assert len(findings(house, "pointer misplaced")) == 1
    assert json.loads(pointer.read_bytes()) == before
    assert house.sync_guidelines() is None


def test_a_release_folder_that_is_a_link_is_not_followed(airflow_approved: House, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "letter.txt").write_text("mine")
    place = airflow_approved.home / "store" / "releases" / PROJECT / f"v1-{airflow_approved.version().digest[:12]}"
    place.parent.mkdir(parents=True)
    place.symlink_to(elsewhere)
    with pytest.raises(InvalidInput, match="is a link to another place"):
        airflow_approved.release_run()
    assert (elsewhere / "letter.txt").read_text() == "mine"
    assert [one.name for one in elsewhere.iterdir()] == ["letter.txt"]


# ---- what was not seen ---------------------------------------------------------------------------------------------


def empty(collection: str, house: House, times: int | None) -> None:
    page = {"_embedded": {collection.strip("/"): []}, "page": {"totalElements": 0}}
    nothing = Reply(200, json.dumps(page).encode(), {"Content-Type": "application/json"})
    where: Callable[[Any], bool] = lambda request: request.path.endswith(collection)  # noqa: E731
    house.opentext.app.fault("status", where, times=times, reply=nothing)


def decide(house: House) -> None:
    house.say("quentin", "approved")
    house.say("dana", "approved")


@pytest.mark.parametrize("collection", ["/historic-task-instances", "/comments"])
def test_a_list_that_was_once_empty_ends_no_approval(asked: House, collection: str) -> None:
    decide(asked)
    empty(collection, asked, 2)
    [first] = asked.approve_run()
    assert first["state"] in ("unsettled", "approved")
    assert state_of(asked) == "approved"


def test_what_was_judged_on_absence_is_judged_again_at_a_persons_word(asked: House) -> None:
    decide(asked)
    empty("/historic-task-instances", asked, None)
    assert state_of(asked) == "undecided"
    asked.opentext.app.faults.clear()
    digest = asked.version().digest[:12]
    with pytest.raises(InvalidInput, match="named person"):
        asked.approve_run(judge_again=[digest], reason="the list was empty")
    [result] = asked.approve_run(judge_again=[digest], reason="the list was empty", by="olga")
    assert result["state"] == "approved"
    assert asked.release()["state"] == "released"


def test_four_eyes_that_a_policy_sets_aside_are_told_everywhere(labelled: House) -> None:
    labelled.change_project(policy={"four_eyes": False}, release={"orchestrator": "airflow"})
    labelled.approve_run(by="dana")
    labelled.approve()
    labelled.release_run()
    assert released(labelled)
    assert any(one.startswith("four eyes are set aside") for one in findings(labelled, "promise set aside"))
    ledger = labelled.ledger()
    lacks = released_without(Records(ledger, Store(labelled.home / "store"))).lacks
    ledger.close()
    assert [one.check for one in lacks] == ["four-eyes"]
    labelled.report()
    page = labelled.confluence_client().page(labelled.events("report.published")[-1].body["page"])
    assert "four eyes are set aside" in str(page.body)
    [folder] = (labelled.home / "store" / "releases" / PROJECT).glob("v1-*")
    assert "four eyes are set aside" in (folder / "README.md").read_text("utf-8")
    assert any(one.startswith("Four eyes are set aside") for one in verify_release(folder).remarks)
