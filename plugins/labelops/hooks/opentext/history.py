"""What ended, and what history says of what runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from include.base.errors import NotFound
from include.systems.opentext import HistoricProcess, HistoricTask
from labelops.hooks.opentext.client import OpenTextClient
from labelops.hooks.opentext.settings import segment
from labelops.hooks.opentext.values import SYSTEM, historic_process, historic_task

__all__ = ["History"]


class History(OpenTextClient):
    """History of processes and tasks."""

    def history(self, process_id: str, *, wait: bool = True) -> HistoricProcess:
        """Return a process from history with its variables; it has ended when ``ended_at`` is set.

        :param wait: whether to wait out a lag of history; without, what is not there yet is NotFound at once.
        :raises NotFound: still not in history after ``history_grace_seconds``.
        """
        deadline = time.monotonic() + (self.settings.grace if wait else 0)
        pause = 0.2
        while True:
            try:
                item = self._get_object(
                    f"{self.settings.history}/historic-process-instances/{segment(process_id)}",
                    {"includeProcessVariables": "true"},
                )
                return historic_process(item)
            except NotFound as error:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise NotFound(
                        f"{SYSTEM}: process {process_id} is not in history"
                        + (f" after {self.settings.grace:.0f} s" if wait else ""),
                        system=SYSTEM,
                        status=404,
                    ) from error
            self.caller.policy.sleep(min(pause, max(left, 0.01)))
            pause = min(pause * 2, 5.0)

    def ended_since(self, since: datetime) -> Iterator[str]:
        """List the ids of the processes that ended at or after a moment, however many are waited for."""
        filters = {"finished": "true", "finishedAfter": since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
        path = f"{self.settings.history}/historic-process-instances"
        for item in self._list(path, "historic-process-instances", filters):
            yield str(item["id"])

    def running(self) -> Iterator[str]:
        """List the ids of the running processes, without anything else of them."""
        for item in self._list(f"{self.settings.workflow}/process-instances", "process-instances", {}):
            yield str(item["id"])

    def historic_tasks(self, process_id: str) -> Iterator[HistoricTask]:
        """List the tasks of a process and of the processes it called, ended ones included, from history.

        ``completer`` is filled only where a task carries the connection's ``completer_field``.
        """
        for item in self._historic_tasks(process_id):
            yield historic_task(item, self.settings.completer_field)

    def historic_task(self, task_id: str) -> HistoricTask | None:
        """Return one task from history, waiting out its lag; None where it is not there after that."""
        deadline = time.monotonic() + self.settings.grace
        path = f"{self.settings.history}/historic-task-instances"
        pause = 0.2
        while True:
            for item in self._list(path, "historic-task-instances", {"taskId": task_id}):
                found = historic_task(item, self.settings.completer_field)
                if found.id == task_id and (found.ended is not None or time.monotonic() >= deadline):
                    return found
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            self.caller.policy.sleep(min(pause, max(left, 0.01)))
            pause = min(pause * 2, 5.0)

    def _historic_tasks(self, process_id: str, **filters: str) -> Iterator[dict[str, Any]]:
        yield from self._list(
            f"{self.settings.history}/historic-task-instances",
            "historic-task-instances",
            {"processInstanceIdWithChildren": process_id, **filters},
        )
