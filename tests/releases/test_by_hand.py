"""A version that must not be used any more: withdrawn by a person with a say in it, recalled where it was released."""

from __future__ import annotations

import json

import pytest

from include.base.errors import InvalidInput, Refused
from include.governance.usage import record_use
from include.governance.verify import verify
from include.releases import by_hand
from tests.integration.airflow_house import PROJECT


@pytest.fixture
def released(approved):
    approved.release()
    return approved


def withdraw(house, by, reason="the guideline was misread", prefix=None):
    return house.approve_run(by=by, withdraw=[prefix or house.version().digest[:12]], reason=reason)


def pointer(house):
    return json.loads((house.home / "store" / "releases" / PROJECT / "current.json").read_bytes())


def dataset(house):
    return house.read(house.prodigy_file, "SELECT name FROM dataset WHERE name LIKE '%\\_\\_v%' ESCAPE '\\'")


@pytest.mark.proves("A withdrawn approval recalls the release")
def test_a_withdrawn_approval_recalls_the_release(released):
    [done] = released.events("release.done")
    folder = released.home / "store" / done.body["path"]
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert dataset(released) == [(done.body["dataset"],)]

    withdraw(released, "dana")
    [withdrawn] = released.events("approval.withdrawn")
    assert (withdrawn.actor, withdrawn.reason) == ("dana", "the guideline was misread")
    [result] = released.release_run()
    assert (result["state"], result["changed"]) == ("recalled", True)

    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    mark = json.loads(after.pop("RECALLED.json"))
    assert after == before, "what was handed over stays as it was"
    assert (mark["by"], mark["reason"], mark["digest"]) == (
        "dana",
        "the guideline was misread",
        released.version().digest,
    )
    assert pointer(released) == {"release": None, "number": None, "digest": None}
    assert dataset(released) == []
    [recalled] = released.events("release.recalled")
    assert recalled.body["withdrawn_by"] == "dana"
    ledger = released.ledger()
    assert [one.outcome for one in ledger.decisions(released.version().digest)].count("withdraw") == 1
    assert verify(ledger).ok
    ledger.close()


def test_a_recall_names_the_models_that_were_made_with_it(released):
    version = released.version()
    with released.run().open() as at:
        record_use(at.ledger, at.register, version, model="router", model_version="7", actor="olga")
    withdraw(released, "dana")
    released.release_run()
    found = [event for event in released.events("finding") if event.body["kind"] == "recalled version in use"]
    assert [event.reason for event in found] == ["model router 7 was made with it"]


def test_a_recall_is_quiet_the_second_time(released):
    withdraw(released, "dana")
    released.release_run()
    before = released.snapshot()
    assert released.approve_run() == []
    assert released.release_run() == []
    assert released.snapshot() == before


def test_what_was_recalled_is_released_again_only_after_a_new_approval(released):
    [first] = released.events("release.done")
    withdraw(released, "dana")
    released.release_run()
    digest = released.version().digest
    assert released.release_run() == []
    released.approve_run(by="olga", resubmit=[digest[:12]], reason="it was read rightly after all")
    released.approve()
    released.release_run()
    released.say("rita", "released")
    [result] = released.release_run()
    assert result["state"] == "released"
    *_, again = released.events("release.done")
    assert again.body["path"] == f"{first.body['path']}.2"
    assert pointer(released)["release"] == again.body["path"].rpartition("/")[2]
    assert (released.home / "store" / first.body["path"] / "RECALLED.json").exists()
    assert released.release_run() == []


def test_an_open_approval_that_is_withdrawn_ends_its_process(asked):
    process = asked.events("approval.requested")[-1].body["process_id"]
    [result] = withdraw(asked, "olga", "frozen too early")
    assert result["state"] == "withdrawn"
    [withdrawn] = asked.events("approval.withdrawn")
    assert (withdrawn.actor, withdrawn.reason) == ("olga", "frozen too early")
    assert asked.opentext_client().process(process) is None
    assert asked.approve_run() == []
    assert asked.release_run() == []


def test_a_version_whose_gate_never_passes_is_withdrawn_and_not_tried_again(labelled):
    run = labelled.run_id()
    [item] = labelled.items("labeling_approval")
    labelled.step("labeling_approval", "freeze", item, run)
    assert withdraw(labelled, "olga", "the labels are those of another project") == []
    assert labelled.items("labeling_approval") == []


@pytest.mark.proves("A withdrawal is the word of a named person with a say in the version")
def test_who_has_no_say_in_a_version_withdraws_nothing(approved):
    digest = approved.version().digest
    for by, refusal in ((None, "named person"), ("anna", "anna has no say"), ("nobody", "belongs to no person")):
        with pytest.raises(Refused, match=refusal), approved.run("labeling_approval", by=by).open() as at:
            by_hand.withdraw(at, approved.project, digest[:12], "because")
    with approved.run("labeling_approval", by="dana").open() as at:
        with pytest.raises(InvalidInput, match="needs one, in words"):
            by_hand.withdraw(at, approved.project, digest[:12], " ")
        with pytest.raises(InvalidInput, match="names 0 versions"):
            by_hand.withdraw(at, approved.project, "0" * 12, "because")
        with pytest.raises(InvalidInput, match="six characters"):
            by_hand.withdraw(at, approved.project, digest[:3], "because")
    assert approved.events("approval.withdrawn") == []


def test_an_approval_withdrawn_before_the_release_stops_it(approved):
    withdraw(approved, "olga")
    assert approved.release_run() == []
    [item] = [{"project": PROJECT, "subject": f"version:{approved.version().digest}", "name": "version 1"}]
    with pytest.raises(Refused, match="withdrawn"):
        approved.step("dataset_release", "check", item, approved.run_id())
    assert approved.events("release.done") == []


def test_a_second_withdrawal_is_refused_and_a_second_try_is_not(approved):
    digest, run = approved.version().digest, approved.run_id()
    for _ in range(2):
        with approved.run("labeling_approval", run_id=run, by="dana").open() as at:
            by_hand.withdraw(at, approved.project, digest[:12], "because")
    assert len(approved.events("approval.withdrawn")) == 1
    with pytest.raises(Refused, match="withdrawn already"), approved.run("labeling_approval", by="olga").open() as at:
        by_hand.withdraw(at, approved.project, digest[:12], "because")


def test_a_release_that_was_asked_for_is_ended_too(approved):
    approved.release_run()
    [asked] = approved.events("release.requested")
    withdraw(approved, "dana")
    [result] = approved.release_run()
    assert result["state"] == "recalled"
    assert approved.opentext_client().process(asked.body["process_id"]) is None
    assert approved.events("release.done") == []
    assert approved.release_run() == []
