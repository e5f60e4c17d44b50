"""The supervisor over a real server process: restarts, kills, and never two children."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from include.prodigy_kit import supervisor
from include.prodigy_kit.supervisor import Backoff
from include.sandbox.people.annotators import Annotator
from include.sandbox.processes import Process
from tests.prodigy_kit.conftest import PROJECT, SUPERVISOR, Shop, healthy, make_task, wait_for

INBOX = f"{PROJECT}__inbox"


def answer_other(task: dict[str, Any]) -> dict[str, Any]:
    return {"accept": ["other"], "answer": "accept"}


def servers_of(shop: Shop) -> list[int]:
    """Return the ids of all living server processes of this installation, whoever started them."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            if "labelops.serve" in words and str(shop.publication) in words and "start" not in words:
                found.append(int(entry.name))
    return [pid for pid in found if Process.of(pid)]


def supervisor_log(shop: Shop) -> str:
    return (shop.state / "supervisor.log").read_text()


def ready(shop: Shop) -> None:
    shop.publish("First guideline")
    shop.add(INBOX, [make_task(f"ticket {number}") for number in range(40)])


def test_a_new_release_restarts_the_server_only_after_the_quiet_time(shop: Shop) -> None:
    ready(shop)
    shop.supervise(quiet=4.0)
    anna = Annotator("anna", shop.url, answer_other)
    before = shop.status()
    _, second = shop.publish("Second guideline")
    last_save = 0.0
    for _ in range(3):
        anna.label_batch()
        last_save = time.time()
        assert shop.status()["release"] == before["release"]
        time.sleep(0.5)
    after = wait_for(lambda: (found := shop.status())["release"] == second and found, what="the second release")
    assert after["last_restart"] - last_save >= 3.9
    assert after["restarts"] == 1
    assert "0002-" in after["reason"]
    assert after["child"] != before["child"]
    wait_for(lambda: healthy(shop.url), what="server")
    assert anna.label_batch() == 10
    stamps = [row["labelops"]["served"]["guideline"] for row in shop.rows()]
    assert stamps == [before["release"]] * 30 + [second] * 10


def test_an_ended_stream_is_started_again_when_tasks_wait_and_not_before(shop: Shop) -> None:
    shop.publish("First guideline")
    shop.add(INBOX, [make_task("one")])
    shop.supervise(quiet=0.2)
    anna, ben = (Annotator(name, shop.url, answer_other) for name in ("anna", "ben"))
    assert anna.label_batch() == 1
    assert ben.fetch()[1] == [], "anna was the only one known, so the stream has ended"
    assert ben.label_until_done(4.0).answers == 1, "a restart serves the late comer"
    wait_for(lambda: shop.status()["stream_ended"], what="the stream's end")
    wait_for(lambda: len(shop.rows()) == 2, what="two answers")
    settled = wait_for(lambda: (found := shop.status())["waiting"] == 0 and found, what="nothing waiting")
    time.sleep(1.0)
    assert shop.status()["restarts"] == settled["restarts"]
    shop.add(INBOX, [make_task("two")])
    wait_for(lambda: shop.status()["restarts"] == settled["restarts"] + 1, what="restart")
    wait_for(lambda: healthy(shop.url), what="server")
    assert anna.label_until_done(1.0).answers == 1


def test_a_killed_child_is_started_again(shop: Shop) -> None:
    ready(shop)
    shop.supervise()
    first = shop.status()["child"]
    process = Process.of(first)
    assert process is not None
    process.signal(signal.SIGKILL)
    second = wait_for(lambda: (pid := shop.status()["child"]) not in (None, first) and pid, what="a new child")
    wait_for(lambda: healthy(shop.url), what="server")
    assert not process.alive()
    assert servers_of(shop) == [second]
    assert "ended by itself (code -9)" in supervisor_log(shop)


def test_a_killed_supervisor_leaves_the_server_up_and_the_next_one_adopts_it(shop: Shop) -> None:
    ready(shop)
    first = shop.supervise()
    child = shop.status()["child"]
    first.kill()
    first.wait()
    assert healthy(shop.url)
    orphaned = shop.status()
    assert (orphaned["supervisor_alive"], orphaned["child_alive"]) == (False, True)
    second = shop.supervise()
    adopted = wait_for(lambda: (found := shop.status())["adopted"] and found, what="adoption")
    assert adopted["child"] == child
    assert servers_of(shop) == [child]
    os.kill(child, signal.SIGKILL)
    wait_for(lambda: shop.status()["child"] not in (None, child), what="the adopted child's successor")
    second.terminate()
    assert second.wait(15) == 0
    assert servers_of(shop) == []


def test_an_orphan_with_another_command_is_ended_first(shop: Shop) -> None:
    ready(shop)
    first = shop.supervise()
    child = shop.status()["child"]
    process = Process.of(child)
    assert process is not None
    first.kill()
    first.wait()
    start = shop.supervisor("start", "--publication", str(shop.publication), "--poll", "0.1")
    shop.spawn([*start, "--", *shop.command(round_number=2)], "supervisor.out")
    wait_for(lambda: shop.status()["child"] not in (None, child) and healthy(shop.url), what="the new child")
    assert not process.alive()
    assert len(servers_of(shop)) == 1


def test_an_orphan_whose_start_was_never_recorded_is_still_found(shop: Shop) -> None:
    ready(shop)
    first = shop.supervise()
    child = shop.status()["child"]
    first.kill()
    first.wait()
    (shop.state / "state.json").unlink()
    shop.supervise()
    assert shop.status()["child"] == child
    assert servers_of(shop) == [child]


def test_a_child_id_that_was_given_out_again_gets_no_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "END_SECONDS", 0.2)
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    born = supervisor.birth(stranger.pid)
    handle = supervisor.try_lock(tmp_path / "child.lock")  # something of the child lives, outside its process group
    try:
        known = {"pid": stranger.pid, "born": born - 1, "command": [], "started": 1.0}
        supervisor.write_json(tmp_path / "child.json", known)
        supervisor.Child(tmp_path).end()
        assert stranger.poll() is None
        supervisor.write_json(tmp_path / "child.json", {**known, "born": born})
        supervisor.Child(tmp_path).end()
        assert stranger.wait(10) == -signal.SIGTERM
    finally:
        os.close(handle)
        stranger.kill()
        stranger.wait()


def test_a_second_supervisor_on_the_same_state_refuses(shop: Shop) -> None:
    ready(shop)
    shop.supervise()
    start = shop.supervisor("start", "--publication", str(shop.publication))
    done = subprocess.run([*start, "--", "true"], capture_output=True, timeout=15)
    assert done.returncode == 1
    assert b"another one already runs" in done.stderr
    assert len(servers_of(shop)) == 1


def test_drain_waits_for_the_quiet_time_then_ends_everything(shop: Shop) -> None:
    ready(shop)
    process = shop.supervise(quiet=2.0)
    Annotator("anna", shop.url, answer_other).label_batch()
    saved = time.time()
    drain = subprocess.run(shop.supervisor("drain", "--timeout", "20"), capture_output=True)
    assert drain.returncode == 0, drain.stderr
    assert time.time() - saved >= 1.5
    assert process.wait(15) == 0
    status = shop.status()
    assert (status["phase"], status["reason"], status["child_alive"]) == ("stopped", "drained", False)
    assert servers_of(shop) == []


def test_restart_now_and_stop_do_not_wait(shop: Shop) -> None:
    ready(shop)
    process = shop.supervise(quiet=600)
    first = shop.status()["child"]
    held = subprocess.run(shop.supervisor("restart", "--timeout", "0.5"), capture_output=True)
    assert held.returncode == 1
    assert shop.status()["child"] == first
    assert subprocess.run(shop.supervisor("restart", "--now", "--timeout", "15"), check=False).returncode == 0
    assert wait_for(lambda: shop.status()["child"], what="child") != first
    assert subprocess.run(shop.supervisor("stop", "--timeout", "15"), check=False).returncode == 0
    assert process.wait(15) == 0
    assert servers_of(shop) == []


def test_sigterm_ends_the_child_too(shop: Shop) -> None:
    ready(shop)
    process = shop.supervise()
    process.terminate()
    assert process.wait(15) == 0
    assert servers_of(shop) == []
    assert shop.status()["reason"] == "signal SIGTERM"


def test_who_fetched_a_task_before_a_restart_keeps_it_and_nobody_else_gets_it(shop: Shop) -> None:
    shop.publish("First guideline")
    shop.add(INBOX, [make_task("one"), make_task("two")])
    shop.supervise(quiet=600)
    anna, ben, cleo = (Annotator(name, shop.url, answer_other) for name in ("anna", "ben", "cleo"))
    for someone in (anna, ben):
        someone.open_page()
    assert len(anna.fetch()[1]) == 2
    assert len(ben.fetch()[1]) == 2
    first = shop.status()["child"]
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: shop.status()["child"] not in (None, first) and healthy(shop.url), what="a new child")
    for someone in (anna, ben, cleo):
        # Everybody opens the page, and cleo is the first to ask.
        someone.open_page()
    assert cleo.fetch()[1] == []
    assert [anna.label_batch(), ben.label_batch()] == [2, 2]
    assert {row["_annotator_id"] for row in shop.rows()} == {f"{PROJECT}-anna", f"{PROJECT}-ben"}


def test_prodigy_may_be_started_by_a_script(shop: Shop) -> None:
    ready(shop)
    script = shop.folder / "start.sh"
    script.write_text(f"#!/bin/sh\n{shlex.join(shop.command())}\nexit 3\n")
    script.chmod(0o755)
    start = shop.supervisor("start", "--publication", str(shop.publication), "--quiet", "0.2", "--poll", "0.1")
    process = shop.spawn([*start, "--", str(script)], "supervisor.out")
    first = wait_for(
        lambda: (found := shop.status()).get("phase") == "serving" and found.get("release"), what="release"
    )
    _, second = shop.publish("Second guideline")
    wait_for(lambda: shop.status()["release"] == second, what="the second release")
    assert first != second
    assert len(servers_of(shop)) == 1
    process.terminate()
    assert process.wait(15) == 0
    assert servers_of(shop) == []


def test_a_command_that_cannot_start_is_tried_again_ever_later(shop: Shop) -> None:
    ready(shop)
    start = shop.supervisor("start", "--publication", str(shop.publication), "--poll", "0.05")
    failing = [sys.executable, "-c", "raise SystemExit(7)"]
    process = shop.spawn([*start, "--", *failing], "supervisor.out")
    wait_for(lambda: (shop.state / "supervisor.log").exists() and supervisor_log(shop).count("(code 7)") >= 2)
    assert process.poll() is None
    assert json.loads((shop.state / "state.json").read_text())["restarts"] <= 2


def test_backoff_doubles_to_its_bound_and_starts_again() -> None:
    backoff = Backoff(1.0, 5.0)
    delays = []
    for _ in range(5):
        backoff.used(100.0)
        delays.append(backoff.not_before - 100.0)
    assert delays == [1.0, 2.0, 4.0, 5.0, 5.0]
    backoff.reset()
    assert backoff.not_before == 0.0
    backoff.used(0.0)
    assert backoff.not_before == 1.0


def test_status_and_stop_of_a_state_that_never_was(tmp_path: Path) -> None:
    base = [sys.executable, str(SUPERVISOR)]
    status = subprocess.run([*base, "status", "--state", str(tmp_path / "none")], capture_output=True, check=True)
    assert json.loads(status.stdout)["supervisor_alive"] is False
    assert not (tmp_path / "none").exists()
    stop = subprocess.run([*base, "stop", "--state", str(tmp_path / "none")], capture_output=True)
    assert stop.returncode == 1
