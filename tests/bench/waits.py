"""The job on waits: thousands of triggers in one event loop, one poll, and decisions that come one after another."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from tests.bench.measure import job
from tests.bench.table import Line, block, run

WAITS = 3_000
DECIDED = 300
POLL = 2
KEY = "labeling_approval"
CLIENT = {"id": "labelops-service", "secret": "an-invented-secret"}


def fill(state: Path, count: int) -> list[str]:
    """Start one process through the stand-in, and copy its rows until there are so many running processes."""
    from include.bpmn.mapping import MAPPINGS, load_mapping, start_variables
    from include.sandbox.http import Server
    from include.sandbox.opentext import OpenTextStandIn
    from labelops.hooks.opentext import OpenTextWorkflowHook

    mapping = load_mapping("default").labeling_approval
    standin = OpenTextStandIn(state, users=[], clients=[CLIENT])
    with Server(standin.app) as server:
        connect(server.url)
        client = OpenTextWorkflowHook().get_conn()
        client.deploy(KEY, (MAPPINGS.parent / "labeling_approval.bpmn").read_text("utf-8"))
        variables = {**start_variables(mapping, ["data_owner"]), mapping.digest_variable: "ab" * 32}
        first = client.start_process(mapping.process_key, name="Version", business_key="b", variables=variables)[0]
    standin.close()
    ids = [first, *(f"{first[:-12]}{number:012x}" for number in range(1, count))]
    with closing(sqlite3.connect(state / "opentext.db")) as conn, conn:
        names = [row[1] for row in conn.execute("PRAGMA table_info (process)")]
        row = dict(zip(names, conn.execute("SELECT * FROM process").fetchone(), strict=True))
        marks = ", ".join("?" for _ in names)
        conn.executemany(
            f"INSERT INTO process ({', '.join(names)}) VALUES ({marks})",
            ([*{**row, "id": one}.values()] for one in ids[1:]),
        )
    return ids


def connect(url: str) -> None:
    """Set the connection to the stand-in."""
    login = {"login": CLIENT["id"], "password": CLIENT["secret"], "extra": {"tenant_id": "bench"}}
    connection = {"conn_type": "opentext", "host": url, **login}
    os.environ["AIRFLOW_CONN_OPENTEXT_DEFAULT"] = json.dumps(connection)


@job
def serve_opentext(state: str) -> dict[str, Any]:
    """Serve a filled stand-in; for each line of input say how many requests there were."""
    from include.sandbox.http import Server
    from include.sandbox.opentext import OpenTextStandIn

    standin = OpenTextStandIn(Path(state), users=[], clients=[CLIENT])
    with Server(standin.app) as server:
        print(server.url, flush=True)
        for _ in sys.stdin:
            print(len(standin.app.requests), flush=True)
    return {"count": len(standin.app.requests), "seconds": 0.0}


@job
def pending_waits(folder: str, count: str, decided: str, poll_seconds: str, rounds: str) -> dict[str, Any]:
    """Hold so many waits in one event loop, let it idle, then decide some processes at random moments."""
    state = Path(folder) / "opentext"
    ids = fill(state, int(count))
    command = [sys.executable, "-m", "tests.bench.job", "serve_opentext", str(state)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        connect(process.stdout.readline().strip())

        def requests() -> int:
            assert process.stdin is not None
            assert process.stdout is not None
            print("", file=process.stdin, flush=True)
            return int(process.stdout.readline())

        found = asyncio.run(_wait(state, ids, int(decided), float(poll_seconds), int(rounds), requests))
        process.communicate()
    return {"count": int(count), **found}


async def _wait(
    state: Path, ids: list[str], decided: int, poll_seconds: float, rounds: int, requests: Any
) -> dict[str, Any]:
    from labelops.triggers.process import ProcessEndTrigger, backlog

    resumed: dict[str, float] = {}
    stalls: list[float] = []

    async def watch(process_id: str) -> None:
        async for event in ProcessEndTrigger("opentext_default", process_id, poll_seconds, None, [KEY]).run():
            assert event.payload["error"] is None
            resumed[process_id] = time.time()

    async def pulse() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.05)
            stalls.append(time.perf_counter() - before - 0.05)

    started = time.perf_counter()
    tasks = [asyncio.create_task(watch(one)) for one in ids]
    beat = asyncio.create_task(pulse())
    while not (figures := backlog()) or figures[0].waits < len(ids) or figures[0].unlooked:
        await asyncio.sleep(0.05)
    seconds, asked_first = time.perf_counter() - started, await asyncio.to_thread(requests)
    stalls.clear()
    before, at = await asyncio.to_thread(requests), time.perf_counter()
    await asyncio.sleep(rounds * poll_seconds)
    idle = (await asyncio.to_thread(requests) - before) / (time.perf_counter() - at) * 60

    chance = random.Random(7)
    chosen = chance.sample(ids, decided)
    decisions: dict[str, float] = {}
    with closing(sqlite3.connect(state / "opentext.db", isolation_level=None, timeout=30)) as conn:
        for one in chosen:
            await asyncio.sleep(chance.uniform(0, 2 * rounds * poll_seconds / decided))
            decisions[one] = time.time()
            statement = "UPDATE process SET ended = ?, end_activity = 'approved' WHERE id = ?"
            conn.execute(statement, (decisions[one], one))
    while len(resumed) < decided:
        await asyncio.sleep(0.05)
    assert set(resumed) == set(chosen), "a wait fired whose process had not ended"
    for task in [*tasks, beat]:
        task.cancel()
    with suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks, beat, return_exceptions=True)
    late = sorted(resumed[one] - decisions[one] for one in chosen)
    return {
        "seconds": seconds,
        "first_requests": asked_first,
        "requests_per_minute": idle,
        "median": statistics.median(late),
        "p95": late[int(0.95 * len(late))],
        "worst": late[-1],
        "longest_stall": max(stalls),
    }


# --- the table -------------------------------------------------------------------------------------------------------


@block
def waits(folder: Path) -> list[Line]:
    """Pending approvals in one event loop: what they cost while nothing happens, and how late a decision is seen."""
    found = run(folder, "pending_waits", folder, WAITS, DECIDED, POLL, 5)
    taken = f"{found['seconds']:.1f} s, {found['first_requests']} requests"
    asked, alone = found["requests_per_minute"], WAITS * 60 / POLL
    less = f"{asked / 60 * POLL:.2f} × one request a pause; {alone:,.0f} if each wait asked for itself"
    late = [found[name] for name in ("median", "p95", "worst")]
    seen = "seen after {:.1f} s (median), {:.1f} s (p95), {:.1f} s (last)".format(*late)
    pauses = "{:.2f}, {:.2f}, {:.2f} × the pause".format(*(seconds / POLL for seconds in late))
    return [
        (f"{WAITS:,} pending approvals taken in", taken, f"{found['peak_mb']:,.0f} MB", "0 worker slots"),
        (f"while nothing is decided, a pause of {POLL} s between polls", f"{asked:.0f} requests a minute", "", less),
        (f"{DECIDED} of them decided at random moments", seen, "", pauses),
    ]
