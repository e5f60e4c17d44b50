"""Approvers who work as people do: sign in, look at their tasks, claim, comment with the digest they saw, decide."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from include.base.canonical import SHORT
from include.bpmn.mapping import ProcessMappings
from include.sandbox.opentext.person import Person, PersonRefused

__all__ = ["Approver", "Approvers"]


class Approver:
    """One approver. They approve what they are asked for, and note each task they decided.

    :param person: the signed-in person.
    :param moment: seconds that a task has waited before they look at it: people are not that fast.
    :param mappings: what the process models mean: which outcome of a task approves, which variable holds the digest.
    """

    def __init__(self, person: Person, mappings: ProcessMappings, moment: float = 0.0) -> None:
        self.person = person
        self.moment = timedelta(seconds=moment)
        self.decided: list[str] = []
        self._processes = (mappings.labeling_approval, mappings.dataset_release)

    def work(self) -> int:
        """Decide every task that waits for this person; return how many."""
        done = 0
        for task in self.person.tasks():
            process = next((one for one in self._processes if one.task_named(task["name"])), None)
            created = datetime.strptime(task["createTime"], "%Y-%m-%dT%H:%M:%S.%f%z")
            if process is None or datetime.now(UTC) - created < self.moment:
                continue
            variables = {one["name"]: one.get("value") for one in task.get("variables", [])}
            outcome = next(outcome for outcome, verdict in process.outcomes.items() if verdict == "approve")
            digest = str(variables[process.digest_variable])
            try:
                self.person.decide(task, outcome, f"I looked at it and agree.\n{outcome} {digest[:SHORT]}")
            except PersonRefused as refused:
                if refused.status in (404, 409):
                    continue  # a colleague was faster
                raise
            self.decided.append(f"{task['name']!r}: {variables['labelops_project']} v{variables['dataset_version']}")
            done += 1
        return done


class Approvers:
    """Several approvers at their desks, in a thread, until told to go home."""

    def __init__(self, approvers: Mapping[str, Approver], pause: float = 1.0) -> None:
        self._approvers = dict(approvers)
        self._pause = pause
        self._home = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.trouble: list[str] = []

    def __enter__(self) -> Approvers:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._home.set()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        while not self._home.wait(self._pause):
            for name, approver in self._approvers.items():
                try:
                    approver.work()
                except Exception as error:  # people carry on; the demo shows what troubled them
                    note: Any = f"{name}: {type(error).__name__}: {error}"
                    if note not in self.trouble:
                        self.trouble.append(note)
