"""What ended, and what history says of what runs."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from include.base.errors import NotFound
from include.systems.http import segment
from include.systems.listing import Changes, Listing
from include.systems.opentext.values import HistoricProcess, HistoricTask
from labelops.hooks.opentext.client import OpenTextClient
from labelops.hooks.opentext.values import SYSTEM, chosen_filters, historic_process, historic_task, told

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
                    f"{self.settings.at('historic-process-instances')}/{segment(process_id)}",
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

    def ended_since(self, since: datetime, keys: Collection[str] = ()) -> Iterator[str]:
        """List the ids of the processes that ended at or after a moment, however many are waited for.

        :param keys: of the models with these keys; of all models where none is given.
        """
        for key in keys or (None,):
            for found in self.historic_processes(key=key, finished=True, finished_after=since):
                yield found.id

    def running(self, keys: Collection[str] = ()) -> Iterator[str]:
        """List the ids of the running processes, of some models or of all, without anything else of them."""
        for filters in [{"processDefinitionKey": key} for key in keys] or [{}]:
            for item in self._list(self.settings.at("process-instances"), "process-instances", filters):
                yield str(item["id"])

    def ended_processes(self, *, key: str | None = None, resume: str | None = None) -> Listing[HistoricProcess]:
        """List the processes that ended since an earlier listing, in the order of their ends, without their variables.

        The service promises no order of its history, so what ended since is read whole before the first is given out.
        History may show an end late: each reading begins ten minutes (or twice ``history_grace_seconds``) before the
        newest end that was seen.

        :param key: of the model with this key.
        :param resume: ``state`` of an earlier listing with the same key; None lists all that ever ended.
        :raises InvalidInput: the state is none, of another listing, or of the future.
        """

        def since(moment: datetime | None) -> list[HistoricProcess]:
            # A second earlier: whether the service's "after" includes the moment itself is not known.
            after = None if moment is None else moment - timedelta(seconds=1)
            found = self.historic_processes(key=key, finished=True, finished_after=after)
            return sorted((one for one in found if one.ended_at is not None), key=lambda one: (_end(one), one.id))

        return Changes(
            told("opentext ended processes", {"key": key} if key else {}),
            since,
            lambda found: found.id,
            _end,
            newest_first=False,
            overlap=timedelta(seconds=max(600.0, 2 * self.settings.grace)),
            resume=resume,
        )

    def historic_processes(
        self,
        *,
        key: str | None = None,
        business_key: str | None = None,
        finished: bool | None = None,
        started_after: datetime | None = None,
        started_before: datetime | None = None,
        finished_after: datetime | None = None,
        finished_before: datetime | None = None,
        started_by: str | None = None,
        parent_id: str | None = None,
        called: bool = True,
        variables: bool = False,
        resume: str | None = None,
    ) -> Listing[HistoricProcess]:
        """List processes of history, running ones too, that fit everything given.

        :param finished: True for those that ended, False for those that run.
        :param called: False leaves out processes that another one called.
        :param variables: whether each comes with its variables.
        :param resume: ``state`` of an earlier listing of the same processes.
        :raises InvalidInput: a time without a zone, or a state of something else.
        """
        filters = chosen_filters(
            processDefinitionKey=key,
            businessKey=business_key,
            finished=finished,
            startedAfter=started_after,
            startedBefore=started_before,
            finishedAfter=finished_after,
            finishedBefore=finished_before,
            startedBy=started_by,
            superProcessInstanceId=parent_id,
            excludeSubprocesses=None if called else True,
        )

        def fits(found: HistoricProcess) -> bool:
            # Compared here too: a service that does not know a filter would answer with every process.
            of_model = key is None or not found.definition_id or found.definition_id.partition(":")[0] == key
            of_business = business_key is None or found.business_key == business_key
            return of_model and of_business and (finished is None or (found.ended_at is not None) == finished)

        return self._listing(
            told("opentext historic processes", filters),
            self.settings.at("historic-process-instances"),
            "historic-process-instances",
            {**filters, **({"includeProcessVariables": "true"} if variables else {})},
            historic_process,
            resume,
            fits,
        )

    def historic_tasks(
        self,
        process_id: str | None = None,
        *,
        key: str | None = None,
        process_key: str | None = None,
        assignee: str | None = None,
        finished: bool | None = None,
        completed_after: datetime | None = None,
        resume: str | None = None,
    ) -> Listing[HistoricTask]:
        """List tasks of history that fit everything given, ended ones and waiting ones.

        ``completer`` is filled only where a task carries the connection's ``completer_field``.

        :param process_id: of this process and of those it called.
        :param key: id of the task in the model.
        :param process_key: in processes of the model with this key.
        :param resume: ``state`` of an earlier listing of the same tasks.
        :raises InvalidInput: a time without a zone, or a state of something else.
        """
        filters = chosen_filters(
            processInstanceIdWithChildren=process_id,
            taskDefinitionKey=key,
            processDefinitionKey=process_key,
            taskAssignee=assignee,
            finished=finished,
            taskCompletedAfter=completed_after,
        )

        def fits(found: HistoricTask) -> bool:
            return (key is None or found.key in (None, key)) and (
                finished is None or (found.ended is not None) == finished
            )

        return self._listing(
            told("opentext historic tasks", filters),
            self.settings.at("historic-task-instances"),
            "historic-task-instances",
            filters,
            lambda item: historic_task(item, self.settings.completer_field),
            resume,
            fits,
        )

    def historic_task(self, task_id: str) -> HistoricTask | None:
        """Return one task from history, waiting out its lag; None where it is not there after that."""
        deadline = time.monotonic() + self.settings.grace
        path = self.settings.at("historic-task-instances")
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
            self.settings.at("historic-task-instances"),
            "historic-task-instances",
            {"processInstanceIdWithChildren": process_id, **filters},
        )


def _end(found: HistoricProcess) -> datetime:
    """Return when a process ended; only those that did are asked."""
    return found.ended_at or datetime.max.replace(tzinfo=UTC)
