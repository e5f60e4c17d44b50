"""The process a run's tasks are executed in: forked from a warm parent, instrumented, killed for real.

Before each thing that leaves a trace (a request, a commit, a file opened for writing, renamed or removed) the child
passes a *point*. A fault armed for the n-th point acts there: the process kills itself with SIGKILL, stands still until
the parent lets it go on, meets a full disk, or asks the parent to take a database's lock.
"""

from __future__ import annotations

import errno
import logging
import os
import pickle
import resource
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from airflow.sdk.exceptions import AirflowSkipException, DagRunTriggerException, TaskDeferred

from include.base.errors import LabelopsError
from labelops.retry import LabelopsRetryPolicy
from tests.faults import memo

__all__ = ["POINT_FAULTS", "main"]

POINT_FAULTS = (
    "killed",
    "orphan goes on after its retry",
    "two runs at once",
    "disk full",
    "disk full in the middle of a write",
    "ledger locked for a moment",
    "ledger locked for long",
    "Prodigy locked for a moment",
    "Prodigy locked for long",
)

MAX_TRIES = 5


class Points:
    """Counts the points and acts at the armed one."""

    def __init__(self, home: str, armed: dict[str, Any] | None, ask: Callable[..., Any], ports: set[int]) -> None:
        self.home, self.armed, self.ask, self.ports = home, armed, ask, ports
        self.count = 0
        self.writing = 0
        self.quiet = False

    def pass_one(self, kind: str, what_for: str = "") -> None:
        armed = self.armed
        if self.quiet or armed is None:
            return
        what = armed["kind"]
        if what.startswith("disk full") and kind != "file":
            return
        kind = "file" if kind == "removal" else kind
        if armed["only"] and armed["only"] not in what_for:
            return
        self.count += 1
        if self.count < armed["nth"]:
            return
        if self.writing and not what.startswith(("killed", "disk full")):
            return  # whoever stands still with the ledger's lock in hand stops everybody: that is a fault of its own
        self.armed = None
        self.quiet = True
        try:
            self._act(what, armed, kind)
        finally:
            self.quiet = False

    def _act(self, what: str, armed: dict[str, Any], kind: str) -> None:
        self.ask("hit", what, f"point {self.count} ({kind})")
        if what == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        elif what == "disk full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        elif what == "disk full in the middle of a write":
            resource.setrlimit(resource.RLIMIT_FSIZE, (armed["bytes"], resource.RLIM_INFINITY))
        else:
            self.ask("act", what)

    def audit(self, event: str, args: Any) -> None:
        if event == "open":
            path, _, flags = args
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if writes and isinstance(path, (str, bytes, os.PathLike)) and os.fsdecode(path).startswith(self.home):
                self.pass_one("file", os.fsdecode(path))
        elif event in ("os.rename", "os.remove"):
            if isinstance(args[0], (str, os.PathLike)) and os.fsdecode(args[0]).startswith(self.home):
                self.pass_one("file" if event == "os.rename" else "removal", os.fsdecode(args[0]))
        elif event == "socket.connect" and not self.quiet:
            address = args[1]
            if isinstance(address, tuple) and address[1] in self.ports:
                self.quiet = True
                try:
                    self.ask("connect", address[1])
                finally:
                    self.quiet = False


def _instrument(points: Points, rows: int) -> None:
    from requests.adapters import HTTPAdapter
    from sqlalchemy.engine.default import DefaultDialect

    from include.governance import ledger
    from include.systems import http, pace
    from include.systems.confluence import cloud
    from include.systems.prodigy.database import Database

    send, commit = HTTPAdapter.send, DefaultDialect.do_commit

    def sent(self: Any, request: Any, *rest: Any, **more: Any) -> Any:
        points.pass_one("request", f"{request.method} {request.path_url}")
        return send(self, request, *rest, **more)

    def committed(self: Any, connection: Any) -> None:
        points.pass_one("commit")
        commit(self, connection)

    HTTPAdapter.send, DefaultDialect.do_commit = sent, committed  # type: ignore[method-assign]
    for owner, name in ((ledger.Ledger, "_writing"), (Database, "transaction")):
        _guard(points, owner, name)
    cloud.PAGE_ROWS = rows  # type: ignore[assignment]
    cloud.Cloud._rows.__defaults__ = (rows,)  # type: ignore[attr-defined]
    make = http.HttpCaller.__init__

    def quick(self: Any, system: str, policy: Any = None, *rest: Any, **more: Any) -> None:
        make(self, system, policy or http.RetryPolicy(sleep=_Clock.sleep), *rest, **more)

    http.HttpCaller.__init__ = quick  # type: ignore[method-assign]
    # Whoever waits has waited: the clock is moved instead, so that all decisions are those of production.
    time.monotonic = _Clock.monotonic
    pace.Pace.__init__.__defaults__ = (_Clock.monotonic,)  # type: ignore[misc]
    sys.addaudithook(points.audit)


class _Clock:
    """A clock that sleeping moves on."""

    ahead = 0.0
    real = time.monotonic

    @classmethod
    def monotonic(cls) -> float:
        return cls.real() + cls.ahead

    @classmethod
    def sleep(cls, seconds: float) -> None:
        cls.ahead += max(0.0, seconds)


def _guard(points: Points, owner: Any, name: str) -> None:
    """Know when a write transaction is open."""
    plain = getattr(owner, name)
    if name == "_writing":

        @contextmanager
        def writing(self: Any, *rest: Any, **more: Any) -> Any:
            points.writing += 1
            try:
                with plain(self, *rest, **more) as connection:
                    yield connection
            finally:
                points.writing -= 1

        setattr(owner, name, writing)
        return

    def transacting(self: Any, *rest: Any, **more: Any) -> Any:
        points.writing += 1
        try:
            return plain(self, *rest, **more)
        finally:
            points.writing -= 1

    setattr(owner, name, transacting)


def main(talk: Connection, log: int, script: list[Any], armed: dict[str, Any] | None, world: Any) -> None:
    """Execute the tasks of a script until it is done, a task wants another try, or the process dies. Never returns."""
    code = 1
    try:
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.stdout = sys.stderr = os.fdopen(os.dup(log), "w", encoding="utf-8", buffering=1)
        _close_sockets(keep=talk.fileno())
        _log_to(log)

        turn = threading.RLock()

        def ask(*what: Any) -> Any:
            with turn:
                talk.send(("ask", *what))
                return talk.recv()

        points = Points(str(world.home), armed, ask, {door.port for door in world.doors.all})
        _instrument(points, world.rows)
        for entry in script:
            if entry is None:
                continue
            if isinstance(entry, str):
                ask("people", entry)
                continue
            _live(entry, world, ask, points)
        if memo.fresh:
            talk.send(("memo", pickle.dumps(memo.fresh), sorted(sys.modules)))
        code = 0
    except _AnotherTry:
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        talk.close()
        os._exit(code)


class _AnotherTry(Exception):
    """The task is to be executed again, in a process of its own."""


def _close_sockets(keep: int) -> None:
    """Close the parent's connections and listeners: a copy held here would keep them open when the parent ends them."""
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        try:
            if number != keep and stat.S_ISSOCK(os.fstat(number).st_mode):
                os.close(number)
        except OSError:
            continue


def _log_to(log: int) -> None:
    handler = logging.StreamHandler(os.fdopen(os.dup(log), "w", encoding="utf-8"))
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.root.handlers[:] = [handler]
    for logger in logging.root.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            logger.handlers.clear()
            logger.propagate = True
    logging.root.setLevel(logging.INFO)
    for name in ("labelops", "include.systems"):
        logging.getLogger(name).setLevel(logging.DEBUG)


def _live(run: Any, world: Any, ask: Callable[..., Any], points: Points) -> None:
    while (key := run.next_task()) is not None:
        number = ask("start", run.number, key)
        run.begin(key, number)
        state, result, error = "success", None, None
        try:
            operator, context = run.operator(key)
            result = operator.execute(context)
            if (
                points.armed
                and points.armed["kind"] == "killed"
                and not points.armed["only"]
                and points.count + 3 >= points.armed["nth"]
            ):
                points._act("killed", points.armed, "before it could say so")
        except AirflowSkipException:
            state = "skipped"
        except DagRunTriggerException as started:
            result = dict(started.conf or {})
        except TaskDeferred:
            state = "deferred"
        except Exception as failed:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            decision = LabelopsRetryPolicy().evaluate(failed, number, MAX_TRIES)
            again = number < MAX_TRIES and decision.action.name != "FAIL"
            state = "up_for_retry" if again else "failed"
            known = isinstance(failed, (LabelopsError, OSError))
            error = (type(failed).__name__, str(failed)[:600], known)
            if not known:
                import traceback

                traceback.print_exc()
        run.end(key, state, result)
        stop = ask("end", run.number, key, state, result, error)
        if stop or state == "up_for_retry":
            raise _AnotherTry
