"""Could the service account complete a person's task? Found out on a task of its own, and put on record."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from include.base.errors import InvalidInput
from include.bpmn.read import read_process
from include.decisions.completion_probe import PROCESS_KEY, Probe, probe, record_probe
from include.sandbox.http import HttpError, Server, json_reply
from include.sandbox.opentext import OpenTextStandIn
from include.systems.opentext.client import OpenTextClient
from labelops.commands.probe import MODEL
from tests.systems.opentext.connect import connect

SERVICE = {"id": "labelops-service", "secret": "an-invented-secret"}
PERSON = {"email": "probe@people.example", "name": "Probe", "password": "pw", "groups": ["probe_people"]}


class Bench:
    def __init__(self, standin: OpenTextStandIn, server: Server, client: OpenTextClient) -> None:
        self.standin, self.server, self.client = standin, server, client

    def probe(self) -> Probe:
        return probe(self.client, person=PERSON["email"], group="probe_people", pause=lambda seconds: None)

    def left(self) -> list[Any]:
        return [*self.client.running(), *self.client.tasks()]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Bench]:
    standin = OpenTextStandIn(None, users=[PERSON], clients=[SERVICE])
    with Server(standin.app) as server:
        connection = {
            "conn_type": "opentext", "host": server.url, "login": SERVICE["id"], "password": SERVICE["secret"],
            "extra": {"tenant_id": "tenant-1", "history_grace_seconds": 0},
        }  # fmt: skip
        monkeypatch.setenv("AIRFLOW_CONN_OPENTEXT_DEFAULT", json.dumps(connection))
        monkeypatch.setenv("LABELOPS_LEDGER", f"sqlite:///{tmp_path / 'ledger.db'}")
        client = connect(server.url, SERVICE, history_grace_seconds=0)
        client.deploy(PROCESS_KEY, MODEL.read_text("utf-8"))
        yield Bench(standin, server, client)
    standin.close()


def test_the_shipped_model_holds_one_task_for_a_group_that_is_given() -> None:
    process = read_process(MODEL.read_text("utf-8"), PROCESS_KEY)
    [task] = process.user_tasks
    assert task.candidate_groups == "${probe_group}"


def test_an_account_without_the_right_cannot_and_nothing_is_left(bench: Bench) -> None:
    found = bench.probe()
    assert (found.result, found.way, found.ended) == ("cannot", "", True)
    assert "no right to complete a person's task" in found.reason
    assert bench.left() == []
    assert bench.client.history(found.process_id).delete_reason == "Labelops probe is done"


def test_an_account_with_the_right_can(bench: Bench) -> None:
    bench.standin.service_may_complete = True
    found = bench.probe()
    assert (found.result, found.way, found.ended) == ("can", "complete", True)
    assert bench.left() == []


@pytest.mark.parametrize(("stopped", "way"), [("unassigned", "claim"), ("claim", "assign")])
def test_every_way_is_tried(bench: Bench, monkeypatch: pytest.MonkeyPatch, stopped: str, way: str) -> None:
    """One that may not complete a free task may claim it first; one that may not claim may assign it."""
    bench.standin.service_may_complete = True
    complete, claim = bench.standin._complete, bench.standin._claim

    def refused(*_: Any) -> None:
        raise HttpError(403, {"message": "Forbidden", "exception": "not yours"})

    monkeypatch.setattr(
        bench.standin, "_complete", lambda task, *rest: complete(task, *rest) if task["assignee"] else refused()
    )
    monkeypatch.setattr(bench.standin, "_claim", refused if stopped == "claim" else claim)
    found = bench.probe()
    assert (found.result, found.way) == ("can", way)
    assert bench.left() == []


def test_what_is_no_refusal_and_no_success_is_unknown(bench: Bench) -> None:
    bench.server.app.fault(
        "status", lambda request: request.method == "POST" and "/tasks/" in request.path, times=None,
        reply=json_reply({"message": "Internal server error", "exception": "broken"}, 500),
    )  # fmt: skip
    found = bench.probe()
    assert (found.result, found.ended) == ("unknown", True)
    assert "complete: Unavailable" in found.reason
    assert bench.left() == []


def test_an_accepted_action_that_did_nothing_is_unknown(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.standin.service_may_complete = True
    monkeypatch.setattr(bench.standin, "_complete", lambda *_: None)
    found = bench.probe()
    assert found.result == "unknown"
    assert "accepted, but the task is not completed" in found.reason


def test_a_process_that_cannot_be_ended_is_named(bench: Bench) -> None:
    bench.server.app.fault(
        "status", lambda request: request.method == "DELETE", times=None, reply=json_reply({"message": "no"}, 403)
    )
    found = bench.probe()
    assert (found.result, found.ended) == ("cannot", False)
    assert f"Process {found.process_id} could not be ended: end it by hand." in found.reason


def test_without_the_model_nothing_is_tried(bench: Bench) -> None:
    with pytest.raises(InvalidInput, match="no deployed model with the key 'other'"):
        probe(bench.client, person="a@b", group="g", process_key="other")
    with pytest.raises(InvalidInput, match="needs a person"):
        probe(bench.client, person="", group="g")
    assert bench.left() == []


def known(house: Any, result: str) -> None:
    ledger = house.ledger()
    record_probe(ledger, "opentext_default", Probe(result, "", "Tried.", "p", True))  # type: ignore[arg-type]
    ledger.close()


@pytest.mark.parametrize("result", [None, "cannot", "can"])
def test_an_approval_says_what_is_known_of_the_service_account(asked: Any, result: str | None) -> None:
    if result:
        known(asked, result)
    asked.approve()
    [event] = asked.events("approval.approved")
    assert event.body["service_token"]["result"] == (result or "unknown")


@pytest.mark.parametrize("result", ["cannot", "can"])
def test_history_alone_stays_asserted_whatever_was_found(asked: Any, result: str) -> None:
    """Rights change, and a probe is of one moment."""
    known(asked, result)
    asked.say("quentin", "approved", comment=False)
    asked.judged()
    ledger = asked.ledger()
    decisions = ledger.decisions(asked.version().digest)
    ledger.close()
    assert decisions
    assert {one.grade for one in decisions} == {"asserted"}
