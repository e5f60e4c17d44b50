"""A run of a use case without Airflow: its tasks in their order, skipping and failing as its DAG does.

Everything is read from the value that the DAG is made of, so a use case more needs nothing here.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from airflow.sdk.exceptions import AirflowSkipException, DagRunTriggerException

from include.settings import ROOT
from labelops.flow import ANNOUNCE, CONCLUDE, LIST, USE_CASES, UseCase, Wait

__all__ = ["DONE", "DagRun", "Key", "context", "the_use_case", "use_cases"]

Key = tuple[str, int]
"""Task id and item; -1 for the tasks that are there once a run."""

DONE = ("success", "skipped", "deferred")


def use_cases() -> dict[str, UseCase]:
    """Return the use cases of all DAG files, by DAG id."""
    folder = str(ROOT / "dags")
    if folder not in sys.path:
        sys.path.append(folder)
    for path in sorted((ROOT / "dags").glob("*.py")):
        import_module(path.stem)
    return USE_CASES


def the_use_case(dag_id: str) -> UseCase:
    """Return one use case."""
    return USE_CASES.get(dag_id) or use_cases()[dag_id]


def context(
    dag_id: str,
    task_id: str,
    run_id: str,
    *,
    by: str | None = None,
    index: int = 0,
    try_number: int = 1,
    after: datetime | None = None,
    **params: Any,
) -> dict[str, Any]:
    """Return what a task instance's context holds, as far as our operators read it."""
    ti = SimpleNamespace(dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=index, try_number=try_number)
    ti.xcom_push = lambda **_: None
    ti.get_dr_count = lambda **_: 0
    return {
        "ti": ti,
        "dag_run": SimpleNamespace(
            run_id=run_id, triggering_user_name=by, conf={}, run_after=after or datetime.now(UTC)
        ),
        "dag": SimpleNamespace(dag_id=dag_id, params={"project": None, **params}),
        "params": {"project": None, **params},
    }


@dataclass
class DagRun:
    """One run of a use case and the states of its task instances.

    :param conf: the run parameters, and ``by``, who triggered it.
    :param light: leave out the two tasks after the items.
    """

    dag_id: str
    run_id: str
    conf: dict[str, Any] = field(default_factory=dict)
    light: bool = False
    after: datetime = field(default_factory=lambda: datetime.now(UTC))
    states: dict[Key, str] = field(default_factory=dict)
    results: dict[Key, Any] = field(default_factory=dict)
    tries: dict[Key, int] = field(default_factory=dict)
    running: Key | None = None

    @property
    def use_case(self) -> UseCase:
        return the_use_case(self.dag_id)

    @property
    def items(self) -> list[Any]:
        return self.results.get((LIST, -1)) or []

    def begin(self, key: Key, number: int) -> None:
        self.tries[key], self.running = number, key

    def end(self, key: Key, state: str, result: Any) -> None:
        self.states[key], self.running = state, None
        if result is not None:
            self.results[key] = result

    def over(self, key: Key) -> bool:
        return self.states.get(key) in (*DONE, "failed", "upstream_failed")

    def next_task(self) -> Key | None:
        """Return the next task that is to be executed, settling those that never will be."""
        if not self.over((LIST, -1)):
            return (LIST, -1)
        for index in range(len(self.items)):
            before = "success"
            for step, rule in self.use_case.rules():
                key = (step.name, index)
                if not self.over(key):
                    if before in ("failed", "upstream_failed"):
                        self.states[key] = "upstream_failed"
                    elif before == "skipped" and rule != "none_failed":
                        self.states[key] = "skipped"
                    else:
                        return key
                before = self.states[key]
        for name in () if self.light else (ANNOUNCE, CONCLUDE):
            if not self.over((name, -1)):
                return (name, -1)
        return None

    def operator(self, key: Key) -> tuple[Any, Any]:
        """Return a task's operator, its templates rendered, and its context."""
        name, index = key
        case = self.use_case
        found = context(
            self.dag_id, name, self.run_id, index=index, try_number=self.tries[key], after=self.after, **self.conf
        )
        if name == LIST:
            return case.lister(), found
        if name == ANNOUNCE:
            pulled = [self.results.get((case.result, place)) for place in range(len(self.items))]
            found["ti"].xcom_pull = lambda **_: [one for one in pulled if one]
            found["outlet_events"] = defaultdict(SimpleNamespace)
            return case.announcer(self.items), found
        if name == CONCLUDE:
            told = {
                (f"{case.unit}.{task}_{place}" if place >= 0 else task): state
                for (task, place), state in self.states.items()
            }
            found["ti"].get_task_states = lambda **_: {self.run_id: told}
            return case.concluder(self.items), found
        found["ti"].task_id = f"{case.unit}.{name}"
        return case.task(name, self.items[index], lambda of: self.results.get((of, index))), found

    def play(self) -> DagRun:
        """Execute every task here and now; what one raises is raised."""
        while (key := self.next_task()) is not None:
            self.begin(key, 1)
            operator, found = self.operator(key)
            state, result = "success", None
            try:
                result = operator.execute(found)
            except AirflowSkipException:
                state = "skipped"
            except DagRunTriggerException as started:
                result = dict(started.conf or {})
            self.end(key, state, result)
        return self

    @property
    def item_results(self) -> list[dict[str, Any]]:
        """Return what became of the items, those that were skipped left out."""
        found = (self.results.get((self.use_case.result, index)) for index in range(len(self.items)))
        return [one for one in found if one is not None]

    @property
    def failed(self) -> list[Key]:
        """Return the tasks that failed, the conclusion about them left out."""
        return [key for key, state in self.states.items() if state == "failed" and key[0] != CONCLUDE]

    @property
    def announced(self) -> str | None:
        """Return the name of the asset that changed, if the run said so."""
        asset = self.use_case.announces
        return asset.name if asset and self.states.get((ANNOUNCE, -1)) == "success" else None

    @property
    def waits(self) -> list[dict[str, Any]]:
        """Return the waits it started."""
        names = {one.name for one in self.use_case.steps if isinstance(one, Wait)}
        return [self.results[key] for key, state in self.states.items() if key[0] in names and state == "success"]
