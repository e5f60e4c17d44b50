"""What does not depend on faults is worked out once: gates, charts. Only tests are made faster by it.

Each is a pure function of its input, kept under the digest of that input. A forked child hands what it worked out
anew to its parent when it ends; a child that is killed hands over nothing.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import pickle
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

__all__ = ["fresh", "install", "learn", "warm"]

QUICK_LOCK = 0.15
"""Seconds that one attempt waits for a lock here; 30 in production."""

_known: dict[str, bytes] = {}
fresh: dict[str, bytes] = {}
_unwanted: set[str] = set()
_engines: dict[str, Any] = {}
_connections: dict[str, Any] = {}


def warm() -> None:
    """Read in this process what every task reads, so that no fork has to parse it."""
    from airflow.sdk import BaseHook

    from include.bpmn.mapping import load_mapping
    from include.people.register import Register
    from include.projects.load import load_projects
    from include.settings import schedules, settings

    Register.load(settings().register)
    load_projects(settings().projects, None)
    load_mapping("default")
    schedules()
    for name in ("confluence_default", "opentext_default", "prodigy_default"):
        BaseHook.get_connection(name)


def learn(found: dict[str, bytes], modules: Iterable[str]) -> None:
    """Take over what a child worked out, and import what it had to import, so that the next one need not."""
    _known.update(found)
    for name in set(modules) - sys.modules.keys() - _unwanted:
        try:
            importlib.import_module(name)
        except Exception:
            _unwanted.add(name)


def _kept(name: str, given: Any, work: Callable[[], Any]) -> Any:
    key = name + hashlib.sha256(pickle.dumps(given)).hexdigest()
    if key not in _known:
        _known[key] = fresh[key] = pickle.dumps(work())
    return pickle.loads(_known[key])


def install() -> ExitStack:
    """Keep the results of the slow pure functions in this process and its forks, until the returned stack is closed.

    Waiting for a lock is cut short too: as often as in production, each time for a moment.
    """
    from airflow.sdk import BaseHook

    from include.gates import gate
    from include.governance import ledger
    from include.reporting import charts
    from include.systems.prodigy import database as prodigy

    run_suite = gate.run_suite

    def run(rows: Any, suite: Any, **more: Any) -> Any:
        if more or not hasattr(rows, "read_bytes"):
            return run_suite(rows, suite, **more)
        return _kept("gate", (rows.read_bytes(), repr(suite)), lambda: run_suite(rows, suite))

    make = ledger._make_engine

    def engine(url: Any) -> Any:
        # What a ledger closes is its connections: the engine, with the statements it has compiled, serves the next one.
        if str(url) not in _engines:
            _engines[str(url)] = make(url)
        return _engines[str(url)]

    make_prodigy, get_connection = prodigy.make_engine, BaseHook.get_connection

    def prodigy_engine(settings: Any) -> Any:
        key = repr(settings)
        if key not in _engines:
            _engines[key] = make_prodigy(settings)
        return _engines[key]

    def connection_of(cls: Any, conn_id: str) -> Any:
        # Airflow's own look-up asks all backends each time; here there is only the environment.
        key = os.environ[f"AIRFLOW_CONN_{conn_id.upper()}"]
        if key not in _connections:
            _connections[key] = get_connection(conn_id)
        return _connections[key]

    stack = ExitStack()
    for owner, name, value in (
        (gate, "run_suite", run),
        (ledger, "_make_engine", engine),
        (charts, "labels", _drawing("labels", charts.labels)),
        (charts, "answers_by_day", _drawing("answers_by_day", charts.answers_by_day)),
        (prodigy, "make_engine", prodigy_engine),
        (BaseHook, "get_connection", classmethod(connection_of)),
        (ledger, "LOCK_SECONDS", QUICK_LOCK),
        (prodigy, "LOCK_SECONDS", QUICK_LOCK),
    ):
        stack.enter_context(patch.object(owner, name, value))
    return stack


def _drawing(name: str, drawn: Callable[..., bytes]) -> Callable[..., bytes]:
    def draw(title: str, counts: Any) -> bytes:
        return bytes(_kept(name, (title, sorted(counts.items())), lambda: drawn(title, counts)))

    return draw
