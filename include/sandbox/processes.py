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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from include.base.store import atomic_write

__all__ = ["Process", "Processes", "free_port", "wait_until"]


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


@dataclass(frozen=True)
class Process:
    """One process for good: its id is given to another one after its end, its id and start time together are not.

    :param started: clock ticks from boot to its start, as ``/proc`` has them.
    """

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """Return the process that has an id now; None where none lives."""
        stat = _stat(pid)
        return None if stat is None or stat.ended else cls(pid, stat.started)

    def alive(self) -> bool:
        """Tell whether this very process lives."""
        return Process.of(self.pid) == self

    def signal(self, number: int) -> bool:
        """Send it a signal; False, and nothing is sent to anybody, where it has ended."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            # Looked at after the handle was taken: the handle stays with the process that is looked at.
            if not self.alive():
                return False
            signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(handle)
        return True

    def session(self) -> list[Process]:
        """Return the living processes of the session that this one began: itself, and what it started or left."""
        return [one for one, _ in self._members()]

    def _members(self) -> list[tuple[Process, _Stat]]:
        leader = _stat(self.pid)
        # While one of the session lives, its id is given to nobody: a leader of other birth means that all have ended.
        if leader is not None and leader.started != self.started:
            return []
        if leader is not None and leader.ended:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.pid, os.WNOHANG)
        every = [(int(entry.name), _stat(int(entry.name))) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        return [
            (Process(pid, stat.started), stat)
            for pid, stat in every
            if stat is not None and not stat.ended and stat.session == self.pid and stat.started >= self.started
        ]

    def end(self, seconds: float, what: str) -> None:
        """End it and its whole session: its process group politely, and after some seconds all of them for good.

        :param what: its name, for the error.
        :raises TimeoutError: when something of it survives even that.
        """
        for member, stat in self._members():
            if stat.group == self.pid:
                member.signal(signal.SIGTERM)
        try:
            wait_until(lambda: not self.session(), seconds, f"the end of {what}", 0.1)
        except TimeoutError:
            for member in self.session():
                member.signal(signal.SIGKILL)
            wait_until(lambda: not self.session(), 10, f"the end of {what} after SIGKILL", 0.1)


class _Stat(NamedTuple):
    ended: bool
    group: int
    session: int
    started: int


def _stat(pid: int) -> _Stat | None:
    """Return what the kernel says of a process, also of one that has ended and that nobody waited for; None of none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return _Stat(fields[0] in "ZX", int(fields[2]), int(fields[3]), int(fields[19]))


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
        begun = Process.of(process.pid)
        if begun is not None:
            self._write({**self._read(), name: begun})
        return process

    def running(self) -> dict[str, Process]:
        """Return the names and processes of those still alive."""
        return {name: process for name, process in self._read().items() if process.alive()}

    def stop(self, name: str, seconds: float = 15) -> None:
        """End a process and its whole session: politely, then for good."""
        process = self.running().get(name)
        if process is not None:
            process.end(seconds, name)
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

    def _read(self) -> dict[str, Process]:
        try:
            found = json.loads(self._file.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return {name: Process(one["pid"], one["started"]) for name, one in found.items()}

    def _write(self, running: Mapping[str, Process]) -> None:
        known = {name: asdict(process) for name, process in running.items()}
        atomic_write(self._file, json.dumps(known, indent=1).encode("utf-8"))
