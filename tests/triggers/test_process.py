"""The wait for processes, against the stand-in of OpenText over HTTP."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from unittest.mock import AsyncMock

import pytest
from airflow.sdk._shared.module_loading import import_string

from include.base.errors import Unavailable
from include.bpmn.mapping import MAPPINGS, load_mapping, start_variables
from include.sandbox.http import Server, json_reply
from include.sandbox.opentext import OpenTextStandIn
from include.sandbox.opentext.person import Person
from include.systems.opentext.client import OpenTextClient
from include.systems.opentext.values import HistoricProcess, UserTask
from labelops.hooks.opentext import OpenTextWorkflowHook
from labelops.triggers import process as module
from labelops.triggers.process import ProcessEndTrigger, TaskTrigger, backlog, task_seal

DANA = {"email": "dana@people.example", "name": "Dana", "password": "pw-dana", "groups": ["data_owners"]}
SERVICE = {"id": "labelops-service", "secret": "an-invented-secret"}
MODEL = (MAPPINGS.parent / "labeling_approval.bpmn").read_text("utf-8")
MAPPING = load_mapping("default").labeling_approval
POLL = 0.1


@dataclass
class Bench:
    standin: OpenTextStandIn
    server: Server
    client: OpenTextClient

    def start(self, business_key: str) -> str:
        variables = {**start_variables(MAPPING, ["data_owner"]), MAPPING.digest_variable: "ab" * 32}
        return self.client.start_process(
            MAPPING.process_key, name="Version", business_key=business_key, variables=variables
        )[0]

    def task_listings(self) -> int:
        return sum("/v1/tasks?" in target for _, target in self.server.app.requests)

    def dana(self) -> Person:
        return Person(self.server.url, DANA["email"], DANA["password"], SERVICE)

    def listings(self) -> int:
        return sum("finishedAfter=" in target for _, target in self.server.app.requests)

    def asked(self, process_id: str) -> int:
        return sum(f"historic-process-instances/{process_id}" in target for _, target in self.server.app.requests)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    standin = OpenTextStandIn(None, users=[DANA], clients=[SERVICE])
    with Server(standin.app) as server:
        monkeypatch.setenv("AIRFLOW_CONN_OPENTEXT_DEFAULT", connection(server.url))
        client = OpenTextWorkflowHook().get_conn()
        client.deploy("labeling_approval", MODEL)
        yield Bench(standin, server, client)
    standin.close()


def connection(url: str, secret: str = SERVICE["secret"]) -> str:
    extra = {"tenant_id": "tenant-1", "history_grace_seconds": 0}
    login = {"host": url, "login": SERVICE["id"], "password": secret}
    return json.dumps({"conn_type": "opentext", **login, "extra": extra})


def trigger(process_id: str, wake: float | None = None) -> ProcessEndTrigger:
    return ProcessEndTrigger("opentext_default", process_id, poll_seconds=POLL, wake_seconds=wake)


async def fired(one: ProcessEndTrigger) -> dict[str, Any]:
    events = [event.payload async for event in one.run()]
    assert len(events) == 1
    return events[0]


def play(story: Callable[[], Awaitable[Any]], seconds: float = 15) -> Any:
    async def whole() -> Any:
        return await asyncio.wait_for(story(), seconds)

    return asyncio.run(whole())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.02)


def test_one_poll_serves_all_waits(bench: Bench) -> None:
    """Eight waits: each process is asked for once, then one listing a round serves them all."""
    ids = [bench.start(f"key-{number}") for number in range(8)]
    bench.server.app.requests.clear()

    async def story() -> list[dict[str, Any]]:
        waits = [asyncio.create_task(fired(trigger(one))) for one in ids]
        await until(lambda: bench.listings() >= 5)
        assert [bench.asked(one) for one in ids] == [1] * 8
        assert not any(wait.done() for wait in waits)
        for one in ids:
            await asyncio.to_thread(bench.client.terminate, one, "enough")
        before = bench.listings()
        events = await asyncio.gather(*waits)
        assert bench.listings() - before <= 3
        return events

    events = play(story)
    assert events == [{"process_id": one, "error": None, "woken": False} for one in ids]
    assert [bench.asked(one) for one in ids] == [1] * 8


def test_only_the_wait_whose_process_ended_fires(bench: Bench) -> None:
    ended, open_one = bench.start("key-1"), bench.start("key-2")

    async def story() -> None:
        first, second = asyncio.create_task(fired(trigger(ended))), asyncio.create_task(fired(trigger(open_one)))
        await until(lambda: bench.listings() >= 1)
        await asyncio.to_thread(bench.client.terminate, ended, "enough")
        assert (await first)["process_id"] == ended
        seen = bench.listings()
        await until(lambda: bench.listings() >= seen + 2)
        assert not second.done()
        second.cancel()

    play(story)


def test_a_process_that_ended_long_before_the_wait_is_found(bench: Bench) -> None:
    """An hour ago is outside what the listing looks back on: it is found by its id."""
    bench.standin.clock = lambda: time.time() - 3600
    process_id = bench.start("key-1")
    bench.client.terminate(process_id, "enough")
    bench.standin.clock = time.time
    event = play(lambda: fired(trigger(process_id)), 5)
    assert event == {"process_id": process_id, "error": None, "woken": False}


def test_a_late_wait_joins_the_poll_that_is_running(bench: Bench) -> None:
    first, late = bench.start("key-1"), bench.start("key-2")
    bench.client.terminate(late, "enough")

    async def story() -> dict[str, Any]:
        one = asyncio.create_task(fired(trigger(first)))
        await until(lambda: bench.listings() >= 2)
        event = await fired(trigger(late))
        assert not one.done()
        one.cancel()
        return event

    assert play(story)["process_id"] == late


def test_an_end_that_history_shows_late_is_not_missed(bench: Bench) -> None:
    process_id = bench.start("key-1")
    bench.standin.history_lag_seconds = 1.5

    async def story() -> float:
        wait = asyncio.create_task(fired(trigger(process_id)))
        await until(lambda: bench.listings() >= 2)
        began = time.monotonic()
        await asyncio.to_thread(bench.client.terminate, process_id, "enough")
        await wait
        return time.monotonic() - began

    assert play(story) > 1.0


def test_the_deadline_wakes(bench: Bench) -> None:
    process_id = bench.start("key-1")
    event = play(lambda: fired(trigger(process_id, wake=0.4)), 5)
    assert event == {"process_id": process_id, "error": None, "woken": True}


def test_an_error_reaches_every_waiter_and_the_next_wait_starts_anew(bench: Bench) -> None:
    ids = [bench.start(f"key-{number}") for number in range(3)]

    async def story() -> list[dict[str, Any]]:
        waits = [asyncio.create_task(fired(trigger(one))) for one in ids]
        await until(lambda: bench.listings() >= 2)
        refusal = json_reply({"message": "no right to read history"}, 403)
        bench.server.app.fault("status", lambda r: "historic-process-instances" in r.path, times=None, reply=refusal)
        events = await asyncio.gather(*waits)
        bench.server.app.faults.clear()
        await asyncio.to_thread(bench.client.terminate, ids[0], "enough")
        assert (await fired(trigger(ids[0])))["error"] is None
        return events

    events = play(story)
    assert [event["process_id"] for event in events] == ids
    assert all(event["error"].startswith("AuthError") for event in events)
    assert not any(event["woken"] for event in events)


def test_a_refused_credential_is_said_without_the_credential(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    process_id = bench.start("key-1")
    monkeypatch.setenv("AIRFLOW_CONN_OPENTEXT_DEFAULT", connection(bench.server.url, "another-secret"))
    event = play(lambda: fired(trigger(process_id)), 10)
    assert event["error"].startswith("AuthError")
    assert "another-secret" not in event["error"]


def test_a_cancelled_wait_is_forgotten_and_the_poll_ends_with_the_last(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_HUBS", type(module._HUBS)())
    first, second = bench.start("key-1"), bench.start("key-2")

    async def story() -> None:
        waits = {one: asyncio.create_task(fired(trigger(one))) for one in (first, second)}
        await until(lambda: bench.listings() >= 1)
        [hub] = module._HUBS.values()
        waits[first].cancel()
        await asyncio.gather(waits[first], return_exceptions=True)
        assert list(hub._waits) == [second]
        waits[second].cancel()
        await asyncio.gather(waits[second], return_exceptions=True)
        assert hub._waits == {}
        await until(lambda: hub._task is not None and hub._task.done())

    play(story)
    quiet = bench.listings()
    time.sleep(3 * POLL)
    assert bench.listings() == quiet


def test_two_waits_for_one_process_both_fire(bench: Bench) -> None:
    process_id = bench.start("key-1")

    async def story() -> list[dict[str, Any]]:
        waits = [asyncio.create_task(fired(trigger(process_id))) for _ in range(2)]
        await until(lambda: bench.listings() >= 1)
        await asyncio.to_thread(bench.client.terminate, process_id, "enough")
        return await asyncio.gather(*waits)

    assert [event["process_id"] for event in play(story)] == [process_id] * 2


def test_what_is_stored_makes_the_same_trigger_and_holds_no_secret(bench: Bench) -> None:
    one = trigger("process-1", wake=30.5)
    path, arguments = one.serialize()
    stored = json.dumps([path, arguments])
    assert SERVICE["secret"] not in stored
    assert bench.server.url not in stored
    assert import_string(path)(**json.loads(json.dumps(arguments))).serialize() == one.serialize()


# --- tasks ------------------------------------------------------------------------------------------------------------


def tasks_of(bench: Bench, process_id: str) -> dict[str, str]:
    return {task.id: task_seal(task) for task in bench.client.tasks(process_id=process_id)}


def watch(process_id: str, seen: dict[str, str], on: tuple[Any, ...] = module.CHANGES, **more: Any) -> TaskTrigger:
    return TaskTrigger("opentext_default", process_id, POLL, more.pop("wake", None), seen, on, **more)


def event(process_id: str, **changes: Any) -> dict[str, Any]:
    return {"process_id": process_id, "error": None, "woken": False, "ended": False, "changes": [], **changes}


def test_a_task_that_appears_changes_hands_or_is_completed_fires(bench: Bench) -> None:
    process_id = bench.start("key-1")
    [task_id] = tasks_of(bench, process_id)
    first = tasks_of(bench, process_id)
    assert play(lambda: fired(watch(process_id, {}))) == event(process_id, changes=[[task_id, "appeared"]])

    async def claimed() -> dict[str, Any]:
        wait = asyncio.create_task(fired(watch(process_id, first)))
        await until(lambda: bench.task_listings() >= 3)
        assert not wait.done()
        await asyncio.to_thread(bench.dana().claim, task_id)
        return await wait

    assert play(claimed) == event(process_id, changes=[[task_id, "reassigned"]])
    second = tasks_of(bench, process_id)
    assert second != first
    bench.client.update_task(task_id, owner="dana@people.example")
    assert play(lambda: fired(watch(process_id, second)))["changes"] == [[task_id, "reassigned"]]


def test_a_change_from_before_the_trigger_began_fires_at_once(bench: Bench) -> None:
    """What is known is part of the trigger: a restarted triggerer misses nothing."""
    process_id = bench.start("key-1")
    seen = tasks_of(bench, process_id)
    [task_id] = seen
    bench.dana().claim(task_id)
    assert play(lambda: fired(watch(process_id, seen)), 5)["changes"] == [[task_id, "reassigned"]]


def test_only_what_was_asked_for_fires_and_the_end_always_does(bench: Bench) -> None:
    process_id = bench.start("key-1")
    seen = tasks_of(bench, process_id)
    [task_id] = seen

    async def story() -> dict[str, Any]:
        wait = asyncio.create_task(fired(watch(process_id, seen, ("appeared",))))
        await asyncio.to_thread(bench.dana().claim, task_id)
        count = bench.task_listings()
        await until(lambda: bench.task_listings() >= count + 3)
        assert not wait.done()
        await asyncio.to_thread(bench.dana().complete, task_id, "approved")
        return await wait

    assert play(story) == event(process_id, ended=True)


def test_a_completed_task_fires_while_its_process_goes_on(bench: Bench) -> None:
    variables = {**start_variables(MAPPING, ["data_owner"]), MAPPING.digest_variable: "ab" * 32}
    variables |= {"quality_review_required": True, "quality_reviewers": "data_owners"}
    process_id, _ = bench.client.start_process("labeling_approval", name="V", business_key="k", variables=variables)
    seen = tasks_of(bench, process_id)
    [task_id] = seen
    dana = bench.dana()
    dana.claim(task_id)
    dana.complete(task_id, "approved")
    assert play(lambda: fired(watch(process_id, seen, ("completed",))), 5) == event(
        process_id, changes=[[task_id, "completed"]]
    )


def test_a_task_that_a_listing_misses_was_not_completed(bench: Bench) -> None:
    """People complete tasks while the pages are read, and the list moves: a task that is missing is asked for by id."""
    process_id = bench.start("key-1")
    seen = tasks_of(bench, process_id)
    bench.server.app.fault("status", lambda request: request.path.endswith("/tasks"), times=2, reply=json_reply({}))

    async def story() -> None:
        wait = asyncio.create_task(fired(watch(process_id, seen, ("completed",))))
        await until(lambda: bench.task_listings() >= 4)
        assert not wait.done()
        wait.cancel()

    play(story)


def test_tasks_are_listed_only_while_somebody_waits_for_them_and_once_for_all(bench: Bench) -> None:
    ids = [bench.start(f"key-{number}") for number in range(4)]
    seen = {one: tasks_of(bench, one) for one in ids}
    bench.server.app.requests.clear()

    async def story() -> list[dict[str, Any]]:
        end = asyncio.create_task(fired(trigger(ids[0])))
        await until(lambda: bench.listings() >= 3)
        assert bench.task_listings() == 0
        waits = [asyncio.create_task(fired(watch(one, seen[one]))) for one in ids[1:]]
        await until(lambda: bench.task_listings() >= 2)
        assert bench.task_listings() <= bench.listings()
        for one in ids[1:]:
            await asyncio.to_thread(bench.client.terminate, one, "enough")
        events = await asyncio.gather(*waits)
        count = bench.task_listings()
        rounds = bench.listings()
        await until(lambda: bench.listings() >= rounds + 3)
        assert bench.task_listings() <= count + 1
        end.cancel()
        return events

    # A round sees either the end, or first that the task is gone: both wake the one who waits.
    assert all(one["ended"] or one["changes"] for one in play(story))


def test_a_task_wait_stores_ids_and_seals_and_no_names(bench: Bench) -> None:
    process_id = bench.start("key-1")
    [task] = bench.client.tasks(process_id=process_id)
    bench.dana().claim(task.id)
    one = watch(process_id, tasks_of(bench, process_id), ("completed",), called=("child-1",), wake=5)
    path, arguments = one.serialize()
    stored = json.dumps([path, arguments])
    assert "dana" not in stored
    assert SERVICE["secret"] not in stored
    assert import_string(path)(**json.loads(json.dumps(arguments))).serialize() == one.serialize()
    with pytest.raises(ValueError, match="allowed: appeared, completed, reassigned"):
        watch(process_id, {}, ("claimed",))


# --- many waits, and polls that fail ----------------------------------------------------------------------------------


@dataclass
class Counting:
    """A client that counts what it is asked; processes ``ended-…`` ended long ago, and are in no listing."""

    open: set[str] = field(default_factory=set)
    calls: list[str] = field(default_factory=list)
    failing: int = 0

    def ended_since(self, since: datetime, keys: Any = ()) -> list[str]:
        self.calls.append("ended")
        if self.failing:
            self.failing -= 1
            raise Unavailable("opentext: 503", system="opentext", status=503)
        return []

    def running(self, keys: Any = ()) -> list[str]:
        self.calls.append("running")
        return sorted(self.open)

    def history(self, process_id: str, *, wait: bool = True) -> Any:
        assert not wait
        self.calls.append(process_id)
        ended = datetime.now(UTC) if process_id.startswith("ended") else None
        return HistoricProcess(process_id, "", "", "", None, ended)

    def tasks(self, process_key: str | None = None) -> list[UserTask]:
        self.calls.append("tasks")
        return [UserTask(f"task-of-{one}", "T", one, None, None, None) for one in self.open]

    def task(self, task_id: str) -> None:
        self.calls.append(task_id)


def test_three_thousand_waits_begin_with_few_requests(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most run: one listing says so. The others are asked for a few in each round, and none is forgotten."""
    client = Counting({f"running-{number}" for number in range(2950)})
    monkeypatch.setattr(module, "_client", AsyncMock(return_value=client))
    ended = [f"ended-{number}" for number in range(50)]

    async def story() -> None:
        waits = {one: asyncio.create_task(fired(trigger(one, wake=60))) for one in (*client.open, *ended)}
        await asyncio.sleep(0)
        await until(lambda: bool(backlog()) and backlog()[0].rounds >= 1)
        first = [one for one in client.calls if one.startswith(("ended-", "running-"))]
        assert len(first) <= 20
        assert client.calls.count("running") <= 1
        assert (await asyncio.gather(*(waits[one] for one in ended)))[0]["error"] is None
        assert sorted(one for one in client.calls if one.startswith("ended-")) == sorted(ended)
        assert not any(one.startswith("running-") for one in client.calls)
        assert "tasks" not in client.calls
        [figures] = backlog()
        assert (figures.waits, figures.unlooked, figures.failed) == (2950, 0, 0)
        for wait in waits.values():
            wait.cancel()
        await asyncio.gather(*waits.values(), return_exceptions=True)

    play(story, 30)


def test_a_poll_that_fails_for_a_moment_disturbs_nobody_and_one_that_stays_does(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = Counting({"running-1"}, failing=2)
    monkeypatch.setattr(module, "_client", AsyncMock(return_value=client))

    async def story() -> list[dict[str, Any]]:
        waits = [asyncio.create_task(fired(watch("running-1", {}, ("completed",)))) for _ in range(3)]
        await until(lambda: client.calls.count("tasks") >= 2)
        assert not any(wait.done() for wait in waits)
        client.failing = 99
        await until(lambda: bool(backlog()) and backlog()[0].failed >= 2)
        assert backlog()[0].seconds_since_success > 0
        return await asyncio.gather(*waits)

    with caplog.at_level("INFO", logger="labelops.triggers.process"):
        events = play(story)
    assert [one["error"] for one in events] == ["Unavailable: opentext: 503"] * 3
    assert any("3 wait(s) for processes of opentext_default, 3 of them for tasks" in text for text in caplog.messages)


def test_the_shortest_pause_of_a_connection_counts_and_one_poll_serves_all(bench: Bench) -> None:
    ids = [bench.start(f"key-{number}") for number in range(2)]

    async def story() -> None:
        slow = ProcessEndTrigger("opentext_default", ids[0], poll_seconds=60, wake_seconds=None)
        waits = [asyncio.create_task(fired(trigger(ids[1]))), asyncio.create_task(fired(slow))]
        await until(lambda: bench.listings() >= 3)
        assert len(backlog()) == 1
        await asyncio.to_thread(bench.client.terminate, ids[0], "enough")
        assert (await waits[1])["error"] is None
        waits[0].cancel()

    play(story)


def test_the_poll_lists_nothing_of_models_that_nobody_waits_for(bench: Bench) -> None:
    """A tenant runs other processes by the thousand. One wait that does not know its model makes the poll list all."""
    process_id = bench.start("key-1")
    seen = tasks_of(bench, process_id)
    bench.server.app.requests.clear()

    def filtered() -> list[bool]:
        found = [one for _, one in bench.server.app.requests if "/v1/tasks?" in one or "finishedAfter=" in one]
        return ["processDefinitionKey=labeling_approval" in one for one in found]

    async def story() -> None:
        known = asyncio.create_task(fired(watch(process_id, seen, keys=("labeling_approval",))))
        await until(lambda: bench.task_listings() >= 3)
        assert all(filtered())
        unknown = asyncio.create_task(fired(trigger(process_id)))
        await until(lambda: not all(filtered()))
        await asyncio.to_thread(bench.client.terminate, process_id, "enough")
        assert (await unknown)["error"] is None
        await known

    play(story)
