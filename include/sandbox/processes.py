"""Starting and stopping the local processes of the demo, each in a session of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from include.base.store import atomic_write

__all__ = ["Processes", "free_port", "wait_until"]


def free_port(preferred: str | None = None) -> int:
    """Return the preferred port, or one that nothing listens on."""
    if preferred:
        return int(preferred)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool], seconds: float, what: str, pause: float = 0.25) -> None:
    """Wait for a condition.

    :raises TimeoutError: saying what did not happen.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not happen within {seconds:.0f} seconds")
        time.sleep(pause)


def _start_time(pid: int) -> str | None:
    """Return when a process started, in clock ticks since boot; with the pid it names one process for good."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def _session(leader: int) -> list[int]:
    """Return the living processes of a session; its members may have process groups of their own."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(leader, os.WNOHANG)
    members = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z" and int(fields[3]) == leader:
            members.append(int(entry.name))
    return members


def _signal(pid: int, number: int) -> None:
    try:
        if pid < 0:
            os.killpg(-pid, number)
        else:
            os.kill(pid, number)
    except ProcessLookupError:
        return


class Processes:
    """The running processes of one home folder, remembered on disk so that another command can stop them.

    :param home: folder of the logs and of ``processes.json``.
    """

    def __init__(self, home: Path) -> None:
        self.logs = home / "logs"
        self._file = home / "processes.json"
        self.logs.mkdir(parents=True, exist_ok=True)

    def start(self, name: str, command: Sequence[str], env: Mapping[str, str], cwd: Path) -> subprocess.Popen[bytes]:
        """Start a process in a session of its own, logging to ``logs/<name>.log``."""
        with (self.logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                list(command),
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        running = self._read()
        running[name] = {"pid": process.pid, "started": _start_time(process.pid)}
        self._write(running)
        return process

    def running(self) -> dict[str, int]:
        """Return the names and pids of those still alive."""
        return {
            name: entry["pid"] for name, entry in self._read().items() if _start_time(entry["pid"]) == entry["started"]
        }

    def stop(self, name: str, seconds: float = 15) -> None:
        """End a process and its whole session: politely, then for good."""
        pid = self.running().get(name)
        if pid is not None:
            _signal(-pid, signal.SIGTERM)
            try:
                wait_until(lambda: not _session(pid), seconds, f"the end of {name}", 0.1)
            except TimeoutError:
                for member in _session(pid):
                    _signal(member, signal.SIGKILL)
                wait_until(lambda: not _session(pid), 10, f"the end of {name} after SIGKILL", 0.1)
        left = self._read()
        left.pop(name, None)
        self._write(left)

    def stop_all(self, order: Sequence[str] = ()) -> list[str]:
        """Stop all, those named in ``order`` first; return the names of what was running."""
        running = list(self.running())
        for name in [name for name in order if name in running] + [name for name in running if name not in order]:
            self.stop(name)
        self._write({})
        return running

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            return json.loads(self._file.read_text("utf-8"))
        except (OSError, ValueError):
            return {}

    def _write(self, running: Mapping[str, object]) -> None:
        atomic_write(self._file, json.dumps(running, indent=1).encode("utf-8"))
