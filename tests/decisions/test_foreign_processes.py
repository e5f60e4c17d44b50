"""A dataset version's whole approval through process models of other tenants, run in the local OpenText."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from include.base.errors import InvalidInput
from include.bpmn.mapping import ProcessMapping, load_mapping
from include.bpmn.read import process_keys
from include.settings import ROOT
from tests.integration.airflow_house import PROJECT

MODELS = ROOT / "tests" / "bpmn" / "models"
GROUPS = {"quality_reviewer": "quality_reviewers", "data_owner": "data_owners"}
"""The groups of this tenant: the mappings of the models name others."""

CALLED = ("called_es_FirmaRevision", "called_es_FirmaPropietario")


@dataclass
class Tenant:
    house: Any
    mapping: ProcessMapping
    form: bool

    def state(self) -> str:
        [result] = self.house.judged()
        return result["state"]

    def decide(self, name: str, verdict: str) -> None:
        """Let a person claim the one task that waits for them, say which version it is about, and decide."""
        person = self.house.person(name)
        [task] = person.tasks()
        digest = self.house.version().digest
        outcome = next(value for value, meaning in self.mapping.outcomes.items() if meaning == verdict)
        mapped = self.mapping.task_named(task["name"])
        assert mapped is not None
        person.claim(task["id"])
        person.comment(task["processInstanceId"], f"{outcome} {digest[:12]}")
        if self.form:
            body = {"action": "complete", "variables": [{"name": mapped.outcome_variable, "value": outcome}]}
            person._send("POST", f"/workflow/v1/tasks/{task['id']}", body)
        else:
            person.complete(task["id"], outcome)

    def decisions(self) -> list[tuple[str, str, str, str, bool]]:
        ledger = self.house.ledger()
        found = ledger.decisions(self.house.version().digest)
        ledger.close()
        return sorted((one.role, str(one.person), one.outcome, one.grade, one.counts) for one in found)


APPROVED = [
    ("data_owner", "dana", "approve", "attested", True),
    ("quality_reviewer", "quentin", "approve", "attested", True),
]


@pytest.fixture
def tenant(request: pytest.FixtureRequest, labelled: Any, monkeypatch: pytest.MonkeyPatch) -> Tenant:
    """An installation whose project is approved through the model named by the test's parameter."""
    name: str = request.param
    place = labelled.home / "projects" / f"{PROJECT}.yaml"
    place.write_text(yaml.safe_dump({**yaml.safe_load(place.read_text("utf-8")), "process_mapping": name}), "utf-8")
    monkeypatch.setenv("LABELOPS_MAPPINGS", str(MODELS))
    connection = labelled.connections()["opentext_default"]
    connection["extra"]["groups"] = GROUPS
    monkeypatch.setenv("AIRFLOW_CONN_OPENTEXT_DEFAULT", json.dumps(connection))
    labelled.opentext.passed_over = frozenset({"serviceTask", "sendTask"})
    client = labelled.opentext_client()
    for file in (name, *(CALLED if name == "called_es" else ())):
        xml = (MODELS / f"{file}.bpmn").read_text("utf-8")
        [key] = process_keys(xml)
        client.deploy(key, xml)
    return Tenant(labelled, load_mapping(name).labeling_approval, form=name == "parallel_en")


@pytest.mark.parametrize("tenant", ["sequential_de"], indirect=True)
def test_one_after_the_other_with_one_outcome_variable(tenant: Tenant) -> None:
    """A clerk files the papers, which decides nothing; each outcome is seen before the next overwrites it."""
    assert tenant.state() == "waiting"
    [filing] = tenant.house.opentext_client().tasks()
    assert filing.name == "Unterlagen ablegen"
    clerk = tenant.house.opentext
    clerk.service_may_complete = True
    tenant.house.opentext_client().complete(filing.id)
    clerk.service_may_complete = False
    tenant.decide("quentin", "approve")
    assert tenant.state() == "waiting"
    tenant.decide("dana", "approve")
    assert tenant.state() == "approved"
    assert tenant.decisions() == APPROVED
    assert not any("not in the mapping" in event.reason for event in tenant.house.events("finding"))
    assert tenant.house.release()["state"] == "released"


@pytest.mark.parametrize("tenant", ["parallel_en"], indirect=True)
@pytest.mark.parametrize(("owner", "state"), [("approve", "approved"), ("reject", "rejected"), ("rework", "rework")])
def test_both_at_the_same_time_by_form_fields(tenant: Tenant, owner: str, state: str) -> None:
    assert tenant.state() == "waiting"
    tenant.decide("dana", owner)
    assert tenant.state() == "waiting"
    tenant.decide("quentin", "approve")
    assert tenant.state() == state
    assert [one[:3] for one in tenant.decisions()] == [
        ("data_owner", "dana", owner), ("quality_reviewer", "quentin", "approve"),
    ]  # fmt: skip


@pytest.mark.parametrize("tenant", ["called_es"], indirect=True)
@pytest.mark.parametrize(("owner", "state"), [("approve", "approved"), ("reject", "rejected")])
def test_decisions_inside_called_processes(tenant: Tenant, owner: str, state: str) -> None:
    """Both called processes write a variable of the same name; each is read where it was written."""
    assert tenant.state() == "waiting"
    tenant.decide("quentin", "approve")
    tenant.decide("dana", owner)
    assert tenant.state() == state
    assert [one[:3] for one in tenant.decisions()] == [
        ("data_owner", "dana", owner), ("quality_reviewer", "quentin", "approve"),
    ]  # fmt: skip
    if state == "approved":
        assert tenant.decisions() == APPROVED


@pytest.mark.parametrize("tenant", ["called_es"], indirect=True)
def test_a_model_that_does_not_fit_is_reported_before_anything_is_started(tenant: Tenant) -> None:
    client = tenant.house.opentext_client()
    xml = (MODELS / "called_es_FirmaPropietario.bpmn").read_text("utf-8")
    client.deploy("FirmaPropietario", xml.replace('"firmar"', '"sellar"').replace("Conforme:conforme", "Bien:bien"))
    with pytest.raises(InvalidInput, match=r"no user task with the id 'firmar'.*'Firmar' \(id 'sellar'\)"):
        tenant.house.approve_run()
    assert list(client.running()) == []
    client.deploy("FirmaPropietario", xml)
    assert tenant.state() == "waiting"


@pytest.mark.parametrize("tenant", ["called_es"], indirect=True)
def test_a_called_model_is_checked_again_when_it_changed(tenant: Tenant) -> None:
    from include.decisions.process import check_deployed

    client, run = tenant.house.opentext_client(), tenant.house.run()
    check_deployed(run, tenant.house.project, client, tenant.mapping)
    tenant.house.opentext.app.requests.clear()
    check_deployed(run, tenant.house.project, client, tenant.mapping)
    assert not any("modelType" in target for _, target in tenant.house.opentext.app.requests)
    xml = (MODELS / "called_es_FirmaRevision.bpmn").read_text("utf-8")
    client.deploy("FirmaRevision", xml.replace("${grupo}", "${otro}"))
    with pytest.raises(InvalidInput, match="does not hand 'otro' over"):
        check_deployed(run, tenant.house.project, client, tenant.mapping)
    run.ledger.close()


@pytest.mark.parametrize("tenant", ["called_es"], indirect=True)
def test_comments_of_a_called_process_that_cannot_be_read_leave_its_decision_asserted(tenant: Tenant) -> None:
    """The called process has ended and the tenant shows no comments of ended ones; the calling one runs on."""
    assert tenant.state() == "waiting"
    tenant.decide("quentin", "approve")
    tenant.house.opentext.history_comments = False
    assert tenant.state() == "void"
    assert tenant.decisions() == [("quality_reviewer", "quentin", "approve", "asserted", False)]
