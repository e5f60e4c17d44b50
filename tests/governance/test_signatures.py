"""Signature levels, and the statement that a decision stands for (21 CFR 11.50, 11.70)."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from include.base.canonical import digest_of
from include.base.store import Store
from include.bpmn.check import check_model
from include.bpmn.mapping import STATEMENTS, ProcessMapping
from include.datasets.conditions import pinned_problems
from include.datasets.freeze import freeze
from include.decisions.approval import STATEMENT_VERSION, Evaluation, ProcessSnapshot, statements
from include.governance.records import lower_signature, signed_enough
from include.projects.model import Policy
from include.queues.progress import form
from include.settings import ROOT
from tests.datasets.make import REGISTER, project, task
from tests.decisions.test_approval import (
    BOTH,
    DANA,
    DIGEST,
    MAPPING,
    OWNER,
    PROJECT,
    QUENTIN,
    SHORT,
    comment,
    historic,
    judge,
    policy,
    process,
)
from tests.governance.lives import both
from tests.house import House

LEVELS = ("recorded", "authenticated", "signed")


def mapping(cap: str = "signed") -> ProcessMapping:
    """Return the default mapping with signing steps in its tasks, as far as the cap allows them."""
    value = MAPPING.model_dump(mode="json")
    value["signature"] = cap
    if cap == "signed":
        for one in value["tasks"]:
            one["signature_variable"] = f"{one['key']}_signed_by"
    return ProcessMapping.model_validate(value)


def statements_of(model: ProcessMapping) -> str:
    return statements(model, policy=policy(), project=PROJECT.name, digest=DIGEST)


def decided(
    model: ProcessMapping,
    *,
    attested: bool = True,
    signer: str | None = DANA,
    shown: bool = True,
    local: bool = True,
    **changes: Any,
) -> Evaluation:
    """Judge a process in which the owner approved, signed or not."""
    text = statements_of(model)
    signed = {"approve_dataset_signed_by": signer} if signer else {}
    own = {OWNER.outcome_variable: "approved", **(signed if local else {})}
    variables = {MAPPING.digest_variable: DIGEST, **({} if local else signed)}
    if shown:
        variables[STATEMENTS] = text
    tasks = (BOTH[0], historic(OWNER, DANA, None, 2, variables=own))
    comments = (comment(DANA, f"approved {SHORT}", 1.9),) if attested else ()
    snapshot = ProcessSnapshot(process("approved", variables=variables), tasks, comments=comments)
    return judge(snapshot, **{"mapping": model, "statements": text, **changes})


def owner_of(result: Evaluation) -> Any:
    return next(one for one in result.decisions if one.role == OWNER.role)


# ---- levels --------------------------------------------------------------------------------------------------------


@pytest.mark.proves("a signature level is never claimed higher than the system that made it allows")
@pytest.mark.parametrize("cap", LEVELS)
def test_no_evidence_lifts_a_decision_above_the_cap(cap: str) -> None:
    model = mapping(cap)
    for attested, shown, local in itertools.product((True, False), repeat=3):
        for signer in (None, DANA, QUENTIN, "labelops-service"):
            level = owner_of(decided(model, attested=attested, shown=shown, local=local, signer=signer)).signature
            assert signed_enough(cap, level)
            wanted = "recorded"
            if attested:
                wanted = "signed" if cap == "signed" and shown and signer == DANA else "authenticated"
            assert level == lower_signature(wanted, cap)


def test_our_own_models_are_never_called_signed() -> None:
    assert MAPPING.signature == "authenticated"
    assert owner_of(decided(MAPPING)).signature == "authenticated"


def test_a_signature_in_a_variable_that_two_tasks_could_have_written_is_none() -> None:
    model = mapping()
    text = statements_of(model)
    twice = [historic(OWNER, DANA, "rework", 1), historic(OWNER, DANA, "approved", 2)]
    variables = {MAPPING.digest_variable: DIGEST, STATEMENTS: text, "approve_dataset_signed_by": DANA}
    comments = (comment(DANA, f"rework {SHORT}", 0.9), comment(DANA, f"approved {SHORT}", 1.9))
    snapshot = ProcessSnapshot(process("approved", variables=variables), twice, comments=comments)
    result = judge(snapshot, mapping=model, statements=text)
    assert {one.signature for one in result.decisions} == {"authenticated"}


def test_what_was_read_of_a_signature_is_part_of_the_proof() -> None:
    signed, unsigned, ours = (
        result.proofs[owner_of(result).raw_digest]
        for result in (decided(mapping()), decided(mapping(), signer=QUENTIN), decided(MAPPING))
    )
    assert json.loads(signed)["variables"]["approve_dataset_signed_by"] == DANA
    assert signed != unsigned
    assert b"signed_by" not in ours


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"signature": "signed"}, "needs a task with a signature_variable"),
        ({"signature": "authenticated", "variable": "who"}, "goes with signature `signed`"),
        ({"signature": "signed", "variable": "owner_decision"}, "for an outcome too: owner_decision"),
        ({"signature": "notarised"}, "'recorded', 'authenticated' or 'signed'"),
    ],
)
def test_a_mapping_cannot_claim_what_its_model_does_not_show(changes: dict[str, str], words: str) -> None:
    value = MAPPING.model_dump(mode="json")
    value["signature"] = changes["signature"]
    value["tasks"][1]["signature_variable"] = changes.get("variable")
    with pytest.raises(ValidationError, match=words):
        ProcessMapping.model_validate(value)


def test_a_claim_of_signatures_is_held_against_the_deployed_model() -> None:
    xml = (ROOT / "include" / "bpmn" / "labeling_approval.bpmn").read_text("utf-8")
    report = check_model(mapping(), xml)
    assert not report.fits
    assert any("'approve_dataset_signed_by', which nothing in the model spells" in str(one) for one in report.problems)
    step = '<flowable:property name="signs" value="{}_signed_by"/><flowable:property name="outcomevariable"'
    for key in ("review_quality", "approve_dataset"):
        before, after = xml.split(f'id="{key}"', 1)
        xml = before + f'id="{key}"' + after.replace('<flowable:property name="outcomevariable"', step.format(key), 1)
    assert check_model(mapping(), xml).fits


def test_a_model_that_shows_nobody_what_they_state_is_noted() -> None:
    xml = (ROOT / "include" / "bpmn" / "labeling_approval.bpmn").read_text("utf-8")
    assert not any(STATEMENTS in note for note in check_model(MAPPING, xml).notes)
    silent = check_model(MAPPING, xml.replace(STATEMENTS, "something_else"))
    assert silent.fits
    assert any(STATEMENTS in note for note in silent.notes)


# ---- the policy's demand -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("demanded", "reached"), [*itertools.product(LEVELS, LEVELS)])
def test_a_decision_below_the_demanded_level_does_not_count(demanded: str, reached: str) -> None:
    signer = DANA if reached == "signed" else None
    result = decided(mapping(), attested=reached != "recorded", signer=signer, policy=policy(signature=demanded))
    found = owner_of(result)
    assert found.signature == reached
    assert found.counts == signed_enough(reached, demanded)
    if not found.counts:
        assert f"demands a decision that is {demanded}, and this one is {reached}" in found.void_reason
        assert result.state == "void"


def test_a_policy_that_demands_no_level_keeps_the_digest_it_had() -> None:
    pinned = PROJECT.policy.pinned()
    assert "signature" not in pinned
    assert Policy.from_pinned(pinned).signature == "recorded"
    strict = policy(signature="signed")
    assert strict.pinned()["signature"] == "signed"
    assert Policy.from_pinned(strict.pinned()).digest == strict.digest == digest_of(strict.pinned())


@pytest.mark.proves("a release needs decisions of the signature level that its policy demands")
def test_a_release_lacks_approvals_of_a_lower_level(tmp_path: Path) -> None:
    strict = project(policy={"signature": "signed", "evidence": "asserted"})
    frozen = freeze(Store(tmp_path), strict, form([task(1)]).digest, [task(1)], both(1, "billing"), register=REGISTER)

    def problems(level: str) -> list[str]:
        common = {"digest": frozen.digest, "subject": f"version:{frozen.digest}", "outcome": "approve", "counts": True}
        made = [
            SimpleNamespace(role=demand.role, person=person, meaning=demand.meaning, grade="attested", **common)
            for demand, person in zip(strict.policy.approvals, ("quentin", "dana"), strict=True)
        ]
        for one in made:
            one.signature = level
        return pinned_problems(frozen.manifest, made)

    assert problems("signed") == []
    assert len(problems("authenticated")) == 2
    assert "lacks signed review by 1 quality_reviewer" in problems("recorded")[0]


# ---- the statement -------------------------------------------------------------------------------------------------


@pytest.mark.proves("a decision carries the versioned statement that was put before the person")
def test_the_statement_that_was_shown_is_the_one_that_is_kept() -> None:
    found = owner_of(decided(MAPPING))
    assert found.statement_version == STATEMENT_VERSION
    assert found.statement.startswith(f"[{STATEMENT_VERSION}] I approve dataset version {DIGEST}")
    text = statements_of(MAPPING)
    assert f"Approve dataset, approved: {found.statement}" in text.splitlines()
    assert sum(DIGEST in line for line in text.splitlines()) == len(MAPPING.tasks) * len(MAPPING.outcomes)


def test_an_older_wording_is_kept_as_it_was_shown() -> None:
    old = f"You state:\nApprove dataset, approved: [7] Yes to {DIGEST}, I do."
    variables = {MAPPING.digest_variable: DIGEST, STATEMENTS: old}
    found = owner_of(judge(ProcessSnapshot(process("approved", variables=variables), BOTH), statements=old))
    assert (found.statement, found.statement_version) == (f"[7] Yes to {DIGEST}, I do.", 7)


@pytest.mark.parametrize("shown", ["", "something else", f"Approve dataset, approved: [1] I approve {'0' * 64}."])
def test_a_statement_that_was_changed_or_is_about_something_else_was_not_shown(shown: str) -> None:
    put = statements_of(MAPPING)
    for expected in (put, shown, None):
        variables = {MAPPING.digest_variable: DIGEST, STATEMENTS: shown}
        result = judge(ProcessSnapshot(process("approved", variables=variables), BOTH), statements=expected)
        found = owner_of(result)
        assert found.statement_version is None
        assert DIGEST in found.statement


# ---- in an installation --------------------------------------------------------------------------------------------


@pytest.mark.proves("the person who decides has the statement in front of them, and the release carries it")
def test_the_statement_is_before_the_person_and_travels_with_the_release(asked: House) -> None:
    [waiting] = asked.person("quentin").tasks()
    seen = {one["name"]: one.get("value") for one in waiting["variables"]}[STATEMENTS]
    [requested] = asked.events("approval.requested")
    store = Store(asked.home / "store")
    assert store.get_object(requested.body["statements"]).decode() == seen
    asked.approve()
    asked.release()
    ledger = asked.ledger()
    try:
        decisions = ledger.decisions(asked.version().digest)
    finally:
        ledger.close()
    assert {one.role for one in decisions} == {"quality_reviewer", "data_owner", "release_manager"}
    assert {(one.signature, one.statement_version) for one in decisions} == {("authenticated", STATEMENT_VERSION)}
    reviewed = next(one for one in decisions if one.role == "quality_reviewer")
    assert f"Review quality, approved: {reviewed.statement}" in seen.splitlines()
    [done] = asked.events("release.done")
    listed = json.loads((asked.home / "store" / done.body["path"] / "approvals.json").read_bytes())["approvals"]
    assert {(one["signature"], one["statement_version"]) for one in listed} == {("authenticated", STATEMENT_VERSION)}
    assert {one["statement"] for one in listed} == {one.statement for one in decisions}
    assert all(one["decided_at"] < one["recorded_at"] for one in listed)  # the source's time, and ours
