"""A waiting run is woken when a task changes hands, so that who had it is on the ledger, and waits on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from labelops.operators.wait import WaitForDecisionOperator
from labelops.triggers.process import ProcessEndTrigger, TaskTrigger
from tests.decisions.test_foreign_processes import Tenant, tenant  # noqa: F401 - the fixture is used by its name
from tests.integration.airflow_house import PROJECT


class Wait:
    def __init__(self, house: Any, **settings: Any) -> None:
        self.house = house
        self.operator = WaitForDecisionOperator(task_id="wait", poll_seconds=0.1, **settings)
        requested = house.events("approval.requested")[-1]
        self.context = house.context(
            "decision_wait", "wait", house.run_id(), use_case="labeling_approval", project_name=PROJECT,
            digest=house.version().digest, process_id=requested.body["process_id"],
        )  # fmt: skip
        self.context["params"].pop("project")
        self.context["dag"].params.pop("project")
        self.pushed: dict[str, Any] = {}
        self.context["ti"].xcom_push = lambda key, value: self.pushed.update({key: value})

    def begin(self) -> Any:
        with pytest.raises(TaskDeferred) as deferred:
            self.operator.execute(self.context)
        return deferred.value.trigger

    def woken(self, trigger: Any) -> dict[str, Any]:
        async def first() -> Any:
            async for event in trigger.run():
                return event.payload
            return None

        return asyncio.run(asyncio.wait_for(first(), 20))

    def resume(self, event: dict[str, Any]) -> Any:
        try:
            return self.operator.resume(self.context, event)
        except TaskDeferred as deferred:
            return deferred.trigger


def test_a_reassignment_wakes_the_wait_is_recorded_and_it_waits_on(asked: Any) -> None:
    wait = Wait(asked)
    trigger = wait.begin()
    [task] = asked.opentext_client().tasks()
    assert isinstance(trigger, TaskTrigger)
    assert list(trigger.seen) == [task.id]
    assert trigger.keys == ["labeling_approval"]
    asked.person("quentin").claim(task.id)
    event = wait.woken(trigger)
    assert event["changes"] == [[task.id, "reassigned"]]
    again = wait.resume(event)
    assert [one.body["assignee"] for one in asked.events("task.assigned")] == ["quentin"]
    assert again.seen != trigger.seen
    asked.say("quentin", "approved")
    event = wait.woken(again)
    assert {what for _, what in event["changes"]} == {"completed", "appeared"}
    last = wait.resume(event)
    asked.say("dana", "approved")
    event = wait.woken(last)
    assert event["ended"]
    assert wait.resume(event)["state"] == "approved"
    assert wait.pushed["summary"]["results"][0]["state"] == "approved"


def test_tasks_are_left_alone_where_the_wait_is_told_so(asked: Any) -> None:
    trigger = Wait(asked, watch_tasks=False).begin()
    assert type(trigger) is ProcessEndTrigger
    assert trigger.keys == ["labeling_approval"]


@pytest.mark.parametrize("tenant", ["called_es"], indirect=True)
def test_a_task_in_a_called_process_wakes_the_wait(tenant: Tenant) -> None:  # noqa: F811
    assert tenant.state() == "waiting"
    wait = Wait(tenant.house)
    trigger = wait.begin()
    [task] = tenant.house.opentext_client().tasks()
    assert trigger.called == [task.process_id]
    assert trigger.keys == ["FirmaRevision", "VistoBueno"]
    tenant.house.person("quentin").claim(task.id)
    event = wait.woken(trigger)
    assert event["changes"] == [[task.id, "reassigned"]]
    again = wait.resume(event)
    tenant.decide("quentin", "approve")
    event = wait.woken(again)
    assert event["changes"] == [[task.id, "completed"]]
    last = wait.resume(event)
    assert len(last.called) == 2
    assert last.keys == ["FirmaPropietario", "FirmaRevision", "VistoBueno"]
