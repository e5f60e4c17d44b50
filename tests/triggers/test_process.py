"""The wait for processes, against the stand-in of OpenText over HTTP."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from airflow.sdk._shared.module_loading import import_string

from include.bpmn.mapping import MAPPINGS, load_mapping, start_variables
from include.sandbox.http import Server, json_reply
from include.sandbox.opentext import OpenTextStandIn
from labelops.hooks.opentext import OpenTextWorkflowHook
from labelops.triggers import process as module
from labelops.triggers.process import ProcessEndTrigger

SERVICE = {"id": "labelops-service", "secret": "an-invented-secret"}
MODEL = (MAPPINGS.parent / "labeling_approval.bpmn").read_text("utf-8")
MAPPING = load_mapping("default").labeling_approval
POLL = 0.1


@dataclass
class Bench:
    standin: OpenTextStandIn
    server: Server
    hook: OpenTextWorkflowHook

    def start(self, business_key: str) -> str:
        variables = {**start_variables(MAPPING, ["data_owner"]), MAPPING.digest_variable: "ab" * 32}
        return self.hook.start_process(
            MAPPING.process_key, name="Version", business_key=business_key, variables=variables
        )[0]

    def listings(self) -> int:
        return sum("finishedAfter=" in target for _, target in self.server.app.requests)

    def asked(self, process_id: str) -> int:
        return sum(f"historic-process-instances/{process_id}" in target for _, target in self.server.app.requests)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    standin = OpenTextStandIn(None, users=[], clients=[SERVICE])
    with Server(standin.app) as server:
        monkeypatch.setenv("AIRFLOW_CONN_OPENTEXT_DEFAULT", connection(server.url))
        hook = OpenTextWorkflowHook()
        hook.deploy("labeling_approval", MODEL)
        yield Bench(standin, server, hook)
    standin.close()


def connection(url: str, secret: str = SERVICE["secret"]) -> str:
    return json.dumps({
        "conn_type": "opentext", "host": url, "login": SERVICE["id"], "password": secret,
        "extra": {"tenant_id": "tenant-1", "history_grace_seconds": 0},
    })  # fmt: skip


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
            await asyncio.to_thread(bench.hook.terminate, one, "enough")
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
        await asyncio.to_thread(bench.hook.terminate, ended, "enough")
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
    bench.hook.terminate(process_id, "enough")
    bench.standin.clock = time.time
    event = play(lambda: fired(trigger(process_id)), 5)
    assert event == {"process_id": process_id, "error": None, "woken": False}


def test_a_late_wait_joins_the_poll_that_is_running(bench: Bench) -> None:
    first, late = bench.start("key-1"), bench.start("key-2")
    bench.hook.terminate(late, "enough")

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
        await asyncio.to_thread(bench.hook.terminate, process_id, "enough")
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
        bench.server.app.fault(
            "status", lambda request: "historic-process-instances" in request.path, times=None,
            reply=json_reply({"message": "no right to read history"}, 403),
        )  # fmt: skip
        events = await asyncio.gather(*waits)
        bench.server.app.faults.clear()
        await asyncio.to_thread(bench.hook.terminate, ids[0], "enough")
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
        await asyncio.to_thread(bench.hook.terminate, process_id, "enough")
        return await asyncio.gather(*waits)

    assert [event["process_id"] for event in play(story)] == [process_id] * 2


def test_what_is_stored_makes_the_same_trigger_and_holds_no_secret(bench: Bench) -> None:
    one = trigger("process-1", wake=30.5)
    path, arguments = one.serialize()
    stored = json.dumps([path, arguments])
    assert SERVICE["secret"] not in stored
    assert bench.server.url not in stored
    assert import_string(path)(**json.loads(json.dumps(arguments))).serialize() == one.serialize()
