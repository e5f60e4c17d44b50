"""Keeps one Prodigy process serving: ``python supervisor.py start --state DIR --publication DIR -- prodigy …``.

Standard library only, POSIX only (it relies on ``flock`` and process groups), copied beside Prodigy like the recipes.

- ``start`` runs the command as a child in its own session and stays in the foreground. When a new guideline release is
  published, or the stream ended and tasks wait again, it restarts the child, but only after nothing was saved for the
  quiet time. A child that died is started again, later and later.
- ``restart``, ``drain`` and ``stop`` ask the running supervisor and wait for it; ``status`` prints JSON.

Two locks keep it to one child. ``supervisor.lock`` is held by the supervisor. ``child.lock`` is held by the child,
which inherits it open: while anything of the child lives nobody starts another, whatever happened to the supervisor.
A supervisor that finds a living child from an earlier one (it was killed) adopts it, or ends it if the command differs.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Backoff", "Settings", "Supervisor", "main", "read_status"]

END_SECONDS = 10.0
"""How long a child may take to end after SIGTERM before it is killed."""


@dataclass(frozen=True)
class Settings:
    """How one supervisor was started. Times are seconds."""

    state: Path
    publication: Path
    command: tuple[str, ...]
    quiet: float
    poll: float
    longest_backoff: float


@dataclass
class Backoff:
    """A delay that doubles with each use up to a bound, and starts again after a reset."""

    first: float
    longest: float
    not_before: float = 0.0
    _next: float = field(default=0.0, init=False)

    def used(self, now: float) -> None:
        """Count one use at ``now``."""
        self._next = min(self.longest, self._next * 2 or self.first)
        self.not_before = now + self._next

    def reset(self) -> None:
        """Begin again with the shortest delay."""
        self._next = 0.0
        self.not_before = 0.0


# Files ----------------------------------------------------------------------------------------------------------------


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object, or an empty one where the file is absent, half there or something else."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON file that a reader sees whole, old or new."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            json.dump(value, out, sort_keys=True)
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def try_lock(path: Path) -> int | None:
    """Return an open, locked descriptor, or None while another process holds the lock."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def is_locked(path: Path) -> bool:
    """Tell whether some process holds a lock."""
    handle = try_lock(path)
    if handle is None:
        return True
    os.close(handle)
    return False


# The child ------------------------------------------------------------------------------------------------------------


class Child:
    """The one Prodigy process of a state directory, whoever started it."""

    def __init__(self, state: Path) -> None:
        self._lock = state / "child.lock"
        self._pid_file = state / "child.json"
        self._log = state / "child.log"
        self._activity = state / "activity.json"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Return the process id, which is also the id of its process group."""
        pid = read_json(self._pid_file).get("pid")
        return pid if isinstance(pid, int) else None

    @property
    def command(self) -> list[str] | None:
        """Return the command it was started with."""
        command = read_json(self._pid_file).get("command")
        return command if isinstance(command, list) else None

    @property
    def started(self) -> float:
        """Return when it was started (unix seconds)."""
        return float(read_json(self._pid_file).get("started") or 0.0)

    def alive(self) -> bool:
        """Tell whether anything of the child lives: it holds the lock as long as it does."""
        if self._process is not None:
            self._process.poll()
        return is_locked(self._lock)

    def exit_code(self) -> int | None:
        """Return the exit code of a child that this process started, once it ended."""
        return None if self._process is None else self._process.poll()

    def start(self, command: tuple[str, ...]) -> None:
        """Start it in its own session, holding the lock.

        :raises RuntimeError: while an earlier child lives.
        :raises OSError: when the command cannot be run.
        """
        handle = try_lock(self._lock)
        if handle is None:
            raise RuntimeError(f"{self._lock}: an earlier child still runs")
        try:
            # The child writes its own id before it becomes the command: a supervisor killed right after the
            # fork leaves no child whose id nobody knows.
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(  # noqa: S603
                    [sys.executable, str(Path(__file__).resolve()), "exec", str(self._pid_file), "--", *command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=(handle,),
                    env={**os.environ, "LABELOPS_ACTIVITY_FILE": str(self._activity)},
                )
        finally:
            os.close(handle)
        self._await_pid()

    def _await_pid(self) -> None:
        """Wait until the child has written its id, or has ended."""
        process = self._process
        while process is not None and process.poll() is None and self.pid != process.pid:
            time.sleep(0.01)

    def end(self) -> None:
        """End it: SIGTERM to its process group, SIGKILL after a while. Does nothing when it is gone."""
        for number, seconds in ((signal.SIGTERM, END_SECONDS), (signal.SIGKILL, END_SECONDS)):
            if not self.alive():
                return
            pid = self.pid
            if pid is not None and self._is_ours(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, number)
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline and self.alive():
                time.sleep(0.02)

    def _is_ours(self, pid: int) -> bool:
        """Tell whether the child's id is still the child's: what holds the lock may have left its process group.

        While anybody of the group lives, the kernel gives its id to no other; so only a process that was born at
        another moment is a stranger. A child of an earlier kit wrote no birth.
        """
        born = read_json(self._pid_file).get("born")
        return born is None or birth(pid) in (None, born)

    def activity(self) -> dict[str, Any]:
        """Return what the recipe of this very child says of itself; empty while it has said nothing yet.

        Told by time, not by process id: the command may be a script that starts Prodigy as a child of its own.
        """
        value = read_json(self._activity)
        return value if float(value.get("started") or 0.0) >= self.started else {}

    def last_save(self) -> float:
        """Return when answers were last saved, by this or an earlier child (unix seconds, 0 for never)."""
        return float(read_json(self._activity).get("saved") or 0.0)


def birth(pid: int) -> int | None:
    """Return when a process was started, in clock ticks since boot; None where none has this id, or without ``/proc``.

    An id is given out again after a process has ended; with its birth it names one process for good.
    """
    try:
        return int(Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[19])
    except OSError:
        return None


def become(pid_file: Path, command: list[str]) -> None:
    """Write down who we are, then become the command (the child's first moments)."""
    pid = os.getpid()
    write_json(pid_file, {"pid": pid, "born": birth(pid), "command": command, "started": time.time()})
    os.execvp(command[0], command)  # noqa: S606


# The supervisor -------------------------------------------------------------------------------------------------------


class Supervisor:
    """One supervisor of one state directory."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.child = Child(settings.state)
        self._crashes = Backoff(1.0, settings.longest_backoff)
        self._empty = Backoff(max(settings.poll, 1.0), settings.longest_backoff)
        self._state: dict[str, Any] = {"restarts": 0, "last_restart": None, "reason": None, "adopted": False}
        self._ending: str | None = None
        self._saved_at_last_look = 0.0
        self._down_since: float | None = None

    def run(self) -> int:
        """Supervise until told to end; return the exit code."""
        state = self.settings.state
        state.mkdir(parents=True, exist_ok=True)
        lock = try_lock(state / "supervisor.lock")
        if lock is None:
            print(f"supervisor: another one already runs on {state}", file=sys.stderr)  # noqa: T201
            return 1
        signal.signal(signal.SIGTERM, self._asked_to_end)
        signal.signal(signal.SIGINT, self._asked_to_end)
        (state / "request.json").unlink(missing_ok=True)
        try:
            self._take_over()
            while self._ending is None:
                self._step()
                self._write("serving" if self.child.alive() else "waiting to start")
                self._sleep()
            self.child.end()
            self._write("stopped", reason=self._ending)
            self._log(f"ended: {self._ending}")
            return 0
        finally:
            os.close(lock)

    def _asked_to_end(self, number: int, frame: object) -> None:
        self._ending = f"signal {signal.Signals(number).name}"

    def _sleep(self) -> None:
        """Wait for the next look, but not when told to end or asked something."""
        deadline = time.monotonic() + self.settings.poll
        while time.monotonic() < deadline and self._ending is None:
            if (self.settings.state / "request.json").exists():
                return
            time.sleep(min(0.05, self.settings.poll))

    def _take_over(self) -> None:
        """Adopt or end what an earlier supervisor left; start a child where none lives."""
        if self.child.alive():
            if self.child.command == list(self.settings.command):
                self._state["adopted"] = True
                self._log(f"adopted the running child {self.child.pid}")
                return
            self._log(f"ending the running child {self.child.pid}: its command differs")
            self.child.end()
        self._start("start")

    def _start(self, reason: str) -> None:
        try:
            self.child.start(self.settings.command)
        except (OSError, RuntimeError) as error:
            self._crashes.used(time.time())
            self._log(f"could not start: {error}")
            return
        self._down_since = None
        self._log(f"started child {self.child.pid}: {reason}")

    def _restart(self, reason: str) -> None:
        self.child.end()
        self._state.update(restarts=self._state["restarts"] + 1, last_restart=time.time(), reason=reason, adopted=False)
        self._start(reason)

    def _step(self) -> None:
        """Look once, and do what is due."""
        now = time.time()
        if self._answer_request(now):
            return
        if not self.child.alive():
            self._revive(now)
            return
        if now - self.child.started > self.settings.longest_backoff:
            self._crashes.reset()
        saved = self.child.last_save()
        if saved > self._saved_at_last_look:
            self._saved_at_last_look = saved
            self._empty.reset()
        if not self._is_quiet(now):
            return
        reason = self._reason_to_restart(now)
        if reason:
            self._restart(reason)

    def _revive(self, now: float) -> None:
        """Start a child that ended by itself again, after a delay that grows with each time."""
        if self._down_since is None:
            self._down_since = now
            self._crashes.used(now)
            self._log(f"child ended by itself (code {self.child.exit_code()})")
        if now >= self._crashes.not_before:
            self._restart(f"the child ended by itself (code {self.child.exit_code()})")

    def _is_quiet(self, now: float) -> bool:
        """Tell whether nothing was saved, and nobody was just given a fresh page, for the quiet time."""
        return now - max(self.child.last_save(), self.child.started) >= self.settings.quiet

    def _reason_to_restart(self, now: float) -> str | None:
        activity = self.child.activity()
        loaded, current = activity.get("release"), read_json(self.settings.publication / "current.json")
        if loaded and current.get("digest") and current["digest"] != loaded:
            return f"release {current.get('release')} was published"
        if not activity.get("ended") or now < self._empty.not_before:
            return None
        if activity.get("waiting"):
            self._empty.used(now)
            return f"the stream had ended and {activity['waiting']} tasks wait"
        if activity.get("watch_error") and now - self.child.started >= self.settings.longest_backoff:
            self._empty.used(now)
            return f"the stream had ended and the inbox cannot be watched: {activity['watch_error']}"
        return None

    def _answer_request(self, now: float) -> bool:
        """Do what was asked from outside, once it may be done; tell whether that ended this look."""
        path = self.settings.state / "request.json"
        request = read_json(path)
        what = request.get("command")
        if what not in ("stop", "drain", "restart"):
            path.unlink(missing_ok=True)
            return False
        if what != "stop" and not request.get("now") and self.child.alive() and not self._is_quiet(now):
            return False
        if what == "restart":
            self._restart("asked to restart")
            self._write("serving")
        else:
            self._ending = "asked to stop" if what == "stop" else "drained"
            self.child.end()
            self._write("stopped", reason=self._ending)
        path.unlink(missing_ok=True)
        return True

    def _write(self, phase: str, **extra: Any) -> None:
        """Write ``state.json`` when something in it changed."""
        activity = self.child.activity()
        self._state.update(
            phase=phase,
            supervisor=os.getpid(),
            child=self.child.pid if phase == "serving" else None,
            release=activity.get("release"),
            release_number=activity.get("release_number"),
            started=self.child.started,
            **extra,
        )
        path = self.settings.state / "state.json"
        if read_json(path) != self._state:
            write_json(path, self._state)

    def _log(self, message: str) -> None:
        """Add a line to ``supervisor.log``, UTC."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        with (self.settings.state / "supervisor.log").open("a", encoding="utf-8") as out:
            out.write(f"{stamp} {message}\n")


# The command ----------------------------------------------------------------------------------------------------------


def read_status(state: Path) -> dict[str, Any]:
    """Return what is known of a state directory now: written state, and whether supervisor and child live."""
    child = Child(state)
    exists = state.is_dir()
    return {
        **read_json(state / "state.json"),
        "supervisor_alive": exists and is_locked(state / "supervisor.lock"),
        "child_alive": exists and child.alive(),
        "child": child.pid if exists and child.alive() else None,
        "last_save": child.last_save() or None,
        "stream_ended": bool(child.activity().get("ended")),
        "waiting": child.activity().get("waiting"),
    }


def ask(state: Path, what: str, now: bool, timeout: float) -> int:
    """Ask the running supervisor for something and wait until it is done. 0 done, 1 not done in time."""
    if not state.is_dir() or not is_locked(state / "supervisor.lock"):
        if what == "stop" and state.is_dir():
            Child(state).end()
            return 0
        print(f"supervisor: none runs on {state}", file=sys.stderr)  # noqa: T201
        return 1
    request = state / "request.json"
    write_json(request, {"command": what, "now": now})
    for _ in _until(timeout):
        ended = not is_locked(state / "supervisor.lock")
        if ended or (what == "restart" and not request.exists()):
            return 0 if ended == (what != "restart") else 1
    print(f"supervisor: {what} not done within {timeout:g} s; it stays asked for", file=sys.stderr)  # noqa: T201
    return 1


def _until(seconds: float) -> Iterator[None]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
        time.sleep(0.05)


def main(arguments: list[str]) -> int:
    """Run one command and return the exit code."""
    own, command = arguments, []
    if "--" in arguments:
        place = arguments.index("--")
        own, command = arguments[:place], arguments[place + 1 :]
    if own[:1] == ["exec"]:
        become(Path(own[1]), command)
    parser = argparse.ArgumentParser(prog="supervisor.py", description="Keeps one Prodigy process serving.")
    actions = parser.add_subparsers(dest="action", required=True)
    start = actions.add_parser("start", help="run the command after -- and keep it running (foreground)")
    start.add_argument("--publication", type=Path, required=True, help="folder with the guideline's current.json")
    start.add_argument("--quiet", type=float, default=120.0, help="seconds without a save before a restart")
    start.add_argument("--poll", type=float, default=2.0, help="seconds between two looks")
    start.add_argument("--longest-backoff", type=float, default=300.0, help="longest delay between restarts, seconds")
    for name, text in (("restart", "restart the child"), ("drain", "stop after the quiet time"), ("stop", "stop now")):
        asked = actions.add_parser(name, help=text)
        asked.add_argument("--timeout", type=float, default=600.0, help="seconds to wait until it is done")
        if name == "restart":
            asked.add_argument("--now", action="store_true", help="do not wait for the quiet time")
    actions.add_parser("status", help="print the state as JSON")
    for action in actions.choices.values():
        action.add_argument("--state", type=Path, required=True, help="folder of this supervisor's files")
    given = parser.parse_args(own)
    if given.action == "status":
        print(json.dumps(read_status(given.state), sort_keys=True))  # noqa: T201
        return 0
    if given.action != "start":
        return ask(given.state, given.action, getattr(given, "now", False), given.timeout)
    if not command:
        parser.error("start: give the command after --")
    settings = Settings(
        given.state, given.publication, tuple(command), given.quiet, max(given.poll, 0.05), given.longest_backoff
    )
    return Supervisor(settings).run()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
