"""A process is its id and its start time: an id that was given out again is somebody else."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from include.sandbox.processes import Process, Processes, wait_until

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is none of ours, in a session of its own."""
    process = subprocess.Popen(SLEEP, start_new_session=True)
    yield process
    process.kill()
    process.wait()


def earlier(process: Process) -> Process:
    """Return the process that had this id before."""
    return replace(process, started=process.started - 1)


def test_a_process_is_found_signalled_and_seen_to_end(stranger: subprocess.Popen[bytes]) -> None:
    process = Process.of(stranger.pid)
    assert process is not None
    assert process.alive()
    assert process.session() == [process]
    assert process.signal(signal.SIGTERM)
    assert stranger.wait(10) == -signal.SIGTERM
    assert not process.alive()
    assert Process.of(stranger.pid) is None
    assert not process.signal(signal.SIGTERM)
    assert process.session() == []


def test_an_id_that_was_given_out_again_is_not_ours_and_gets_no_signal(stranger: subprocess.Popen[bytes]) -> None:
    ours = earlier(Process.of(stranger.pid))
    assert not ours.alive()
    assert ours.session() == []
    assert not ours.signal(signal.SIGKILL)
    ours.end(0.1, "ours")
    time.sleep(0.2)
    assert stranger.poll() is None


def test_what_a_dead_leader_left_is_still_its_session() -> None:
    child = f"import subprocess; print(subprocess.Popen({SLEEP!r}).pid, flush=True)"
    leader = subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE, start_new_session=True)
    process = Process.of(leader.pid)
    left = Process.of(int(leader.stdout.readline()))
    leader.wait(10)
    leader.stdout.close()
    assert process.session() == [left]
    process.end(5, "the leader")
    assert not left.alive()


def test_the_home_forgets_a_process_whose_id_was_given_out_again(
    tmp_path: Path, stranger: subprocess.Popen[bytes]
) -> None:
    processes = Processes(tmp_path)
    begun = processes.start("server", SLEEP, {}, tmp_path)
    assert processes.running() == {"server": Process.of(begun.pid)}
    ours = earlier(Process.of(stranger.pid))
    known = json.loads((tmp_path / "processes.json").read_text("utf-8"))
    known["lost"] = {"pid": ours.pid, "started": ours.started}
    (tmp_path / "processes.json").write_text(json.dumps(known), "utf-8")
    assert Processes(tmp_path).stop_all() == ["server"]
    assert Process.of(begun.pid) is None
    assert stranger.poll() is None
    assert processes.running() == {}


def test_who_does_not_end_politely_is_killed(tmp_path: Path) -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
    processes = Processes(tmp_path)
    begun = processes.start("deaf", [sys.executable, "-c", deaf], {}, tmp_path)
    wait_until(lambda: (tmp_path / "logs" / "deaf.log").read_bytes() != b"", 10, "its first line", 0.01)
    processes.stop("deaf", seconds=0.3)
    assert Process.of(begun.pid) is None
