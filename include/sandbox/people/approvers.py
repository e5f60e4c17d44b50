"""Approvers who work as people do: sign in, look at their tasks, claim, comment with the digest they saw, decide."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any

from include.sandbox.opentext.person import Person, PersonRefused

__all__ = ["Approver", "Approvers"]

SHORT = 12


class Approver:
    """One approver. They approve what they are asked for, and note each task they decided.

    :param person: the signed-in person.
    :param digest_variables: process variables that may hold the digest in front of them.
    """

    def __init__(self, person: Person, digest_variables: Iterable[str]) -> None:
        self.person = person
        self.decided: list[str] = []
        self._digest_variables = tuple(digest_variables)

    def work(self) -> int:
        """Decide every task that waits for this person; return how many."""
        done = 0
        for task in self.person.tasks():
            variables = {one["name"]: one.get("value") for one in task.get("variables", [])}
            digest = next((str(variables[name]) for name in self._digest_variables if variables.get(name)), "")
            try:
                self.person.decide(task, "approved", f"I looked at {digest[:SHORT]} and agree.")
            except PersonRefused as refused:
                if refused.status in (404, 409):
                    continue  # a colleague was faster
                raise
            self.decided.append(f"{task['name']}: {variables.get('labelops_project')} v{variables.get('dataset_version')}")
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
