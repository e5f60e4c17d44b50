"""Waiting for processes and for people's tasks: one poll per connection and triggerer serves every wait."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow.triggers.base import BaseTrigger, TriggerEvent

from include.base.canonical import digest_of
from include.base.errors import NotFound, RateLimited, Unavailable

if TYPE_CHECKING:
    from include.systems.opentext.client import OpenTextClient
    from include.systems.opentext.values import UserTask
    from labelops.hooks.opentext import OpenTextWorkflowHook

__all__ = ["Backlog", "ProcessEndTrigger", "TaskTrigger", "backlog", "task_seal"]

log = logging.getLogger(__name__)

_OVERLAP = timedelta(minutes=10)
"""How far back each poll looks, so that a lagging history or a skewed clock hides no end."""

_LOOK_UPS = 20
"""At most so many processes, and so many tasks, are asked for by id in one round; the rest waits for the next."""

_PATIENCE = 3
"""So many rounds in a row may fail for a reason that passes by itself before the waiters hear of it."""

_TELL_EVERY = 10
"""Every so many rounds the log says how many wait."""

Change = Literal["appeared", "completed", "reassigned"]
CHANGES: tuple[Change, ...] = ("appeared", "completed", "reassigned")


def task_seal(task: UserTask) -> str:
    """Return 16 hex characters that change when a task's assignee, owner or delegation changes, and name nobody."""
    return digest_of([task.id, task.assignee, task.owner, task.delegation_state])[:16]


@dataclass(frozen=True)
class Backlog:
    """How the waits of one connection in this triggerer stand.

    :param waits: triggers that wait; ``for_tasks`` of them also for people's tasks.
    :param unlooked: processes that no round has asked for yet: a wait has just come, or many came together.
    :param seconds_since_success: since the last round that succeeded, or since the first wait; grows while polls fail.
    :param failed: rounds that failed in a row.
    """

    conn_id: str
    waits: int
    for_tasks: int
    unlooked: int
    rounds: int
    failed: int
    seconds_since_success: float

    def __str__(self) -> str:
        """Return the figures as a sentence."""
        return (
            f"{self.waits} wait(s) for processes of {self.conn_id}, {self.for_tasks} of them for tasks, "
            f"{self.unlooked} not looked at yet; {self.rounds} poll(s), the last good one "
            f"{self.seconds_since_success:.0f} s ago, {self.failed} failed since."
        )


def backlog() -> list[Backlog]:
    """Return how the waits of this process stand, by connection, for a monitor that runs in the triggerer.

    From outside, the same figures are the gauges ``labelops.waits.<connection>`` and
    ``labelops.waits_silent_seconds.<connection>`` of Airflow's metrics.
    """
    return [hub.backlog() for hub in _HUBS.values()]


@dataclass(eq=False)
class _Wait:
    """One trigger's wait.

    :param keys: keys of the models of the processes; none where they are not known.
    :param seen: seal by id of the tasks that are known; None where only the end is waited for.
    :param processes: the process and those it called.
    """

    process_id: str
    pause: float
    future: asyncio.Future[dict[str, Any]]
    keys: Collection[str] = ()
    seen: Mapping[str, str] | None = None
    on: Collection[Change] = ()
    processes: tuple[str, ...] = ()

    def changes(self, tasks: Mapping[str, Mapping[str, str]]) -> list[tuple[str, Change]]:
        """Return what is different in a listing of all waiting tasks. One that is not in it may be completed."""
        now = {task_id: seal for one in self.processes for task_id, seal in tasks.get(one, {}).items()}
        seen = self.seen or {}
        found: list[tuple[str, Change]] = [
            *((task_id, "appeared") for task_id in now if task_id not in seen),
            *((task_id, "reassigned") for task_id, seal in now.items() if seen.get(task_id, seal) != seal),
            *((task_id, "completed") for task_id in seen if task_id not in now),
        ]
        return [one for one in found if one[1] in self.on]


@dataclass(frozen=True)
class _Seen:
    """What one round saw."""

    ended: set[str]
    looked: set[str]
    tasks: dict[str, dict[str, str]] = field(default_factory=dict)


class _Hub:
    """All waits of one connection in this triggerer.

    Each round reads one listing of the processes that ended lately, and, only while somebody waits for tasks, one of
    the tasks that wait, whatever the number of waits. A process that has just come may have ended long ago: a few are
    asked for by id; where many come together, one listing of the running ones tells most, and the others are asked for
    some in each round. An error that does not pass by itself reaches every waiter, and so does one that stays.
    """

    def __init__(self, opentext_conn_id: str) -> None:
        self._conn_id = opentext_conn_id
        self._waits: dict[str, list[_Wait]] = {}
        self._task: asyncio.Task[None] | None = None
        self._since = datetime.now(UTC)
        self._good = time.monotonic()
        self._looked: set[str] = set()
        self._rounds = self._failed = 0

    def wait(self, wait: _Wait) -> None:
        """Take in a wait; its future ends with an event's payload, or with the text of an error in it."""
        self._waits.setdefault(wait.process_id, []).append(wait)
        if self._task is None or self._task.done():
            self._good = time.monotonic()
            self._task = asyncio.create_task(self._poll(), name=f"labelops-poll-{self._conn_id}")

    def forget(self, wait: _Wait) -> None:
        """Drop a wait that was cancelled or served."""
        waits = self._waits.get(wait.process_id, [])
        if wait in waits:
            waits.remove(wait)
        if not waits:
            self._waits.pop(wait.process_id, None)

    def backlog(self) -> Backlog:
        """Return the figures of this moment."""
        every = list(self._every())
        return Backlog(
            conn_id=self._conn_id,
            waits=len(every),
            for_tasks=sum(one.seen is not None for one in every),
            unlooked=sum(process_id not in self._looked for process_id in self._waits),
            rounds=self._rounds,
            failed=self._failed,
            seconds_since_success=time.monotonic() - self._good,
        )

    def _every(self) -> Iterable[_Wait]:
        return (wait for waits in self._waits.values() for wait in waits)

    def _keys(self) -> tuple[str, ...]:
        """Return the models to list processes and tasks of; all models where one wait does not know its own."""
        every = list(self._every())
        return tuple(sorted({key for one in every for key in one.keys})) if all(one.keys for one in every) else ()

    async def _poll(self) -> None:
        client: OpenTextClient | None = None
        while self._waits:
            started = datetime.now(UTC)
            try:
                if client is None:
                    client = await _client(self._conn_id)
                new = [one for one in self._waits if one not in self._looked]
                for_tasks = any(one.seen is not None for one in self._every())
                seen = await asyncio.to_thread(_look, client, new, self._since - _OVERLAP, self._keys(), for_tasks)
                gone = await asyncio.to_thread(_gone, client, self._doubtful(seen, for_tasks))
            except (Unavailable, RateLimited) as error:
                self._failed += 1
                log.warning("The poll of %s failed (%d in a row): %s", self._conn_id, self._failed, error)
                if self._failed >= _PATIENCE:
                    self._fail(error)
            except Exception as error:  # every waiter hears of it and the retry policy decides
                self._fail(error)
            else:
                self._good, self._since, self._failed = time.monotonic(), started, 0
                self._looked = (self._looked | seen.looked) & set(self._waits)
                self._serve(seen, gone, for_tasks)
            self._rounds += 1
            self._tell()
            if self._waits:
                await asyncio.sleep(min(one.pause for one in self._every()))
        self._looked.clear()

    def _doubtful(self, seen: _Seen, for_tasks: bool) -> list[str]:
        """Return tasks that left the list, to be asked for by id: one that changes while it is read may miss some."""
        if not for_tasks:
            return []
        watching = [one for one in self._every() if one.seen is not None and one.process_id not in seen.ended]
        missing = [task_id for one in watching for task_id, what in one.changes(seen.tasks) if what == "completed"]
        # In turns: some that a service never lists must not keep the others from being asked for.
        start = self._rounds * _LOOK_UPS % max(1, len(missing))
        return list(dict.fromkeys([*missing[start:], *missing[:start]]))[:_LOOK_UPS]

    def _serve(self, seen: _Seen, gone: set[str], for_tasks: bool) -> None:
        for process_id in seen.ended & set(self._waits):
            self._settle(process_id, {"ended": True})
        if not for_tasks:
            return
        for one in list(self._every()):
            if one.seen is None:
                continue
            changes = [
                (task_id, what) for task_id, what in one.changes(seen.tasks) if what != "completed" or task_id in gone
            ]
            if changes and not one.future.done():
                one.future.set_result({"changes": changes})
                self.forget(one)

    def _fail(self, error: Exception) -> None:
        for process_id in list(self._waits):
            self._settle(process_id, {"error": f"{type(error).__name__}: {error}"})

    def _settle(self, process_id: str, result: dict[str, Any]) -> None:
        for one in self._waits.pop(process_id, []):
            if not one.future.done():
                one.future.set_result(result)

    def _tell(self) -> None:
        from airflow.sdk.observability.stats import Stats

        figures = self.backlog()
        Stats.gauge(f"labelops.waits.{self._conn_id}", figures.waits)
        Stats.gauge(f"labelops.waits_silent_seconds.{self._conn_id}", figures.seconds_since_success)
        if self._rounds % _TELL_EVERY == 1 or figures.failed:
            log.info("%s", figures)


_HUBS: dict[tuple[str, int], _Hub] = {}


def _hub(conn_id: str) -> _Hub:
    """Return the hub of a connection in this event loop, and drop those whose loop is gone or that wait for nothing."""
    here = id(asyncio.get_running_loop())
    for key in [key for key, hub in _HUBS.items() if key != (conn_id, here) and not hub.backlog().waits]:
        del _HUBS[key]
    return _HUBS.setdefault((conn_id, here), _Hub(conn_id))


async def _client(conn_id: str) -> OpenTextClient:
    hook = await asyncio.to_thread(_hook, conn_id)
    return await hook.aget_conn()


def _hook(conn_id: str) -> OpenTextWorkflowHook:
    from labelops.hooks.opentext import OpenTextWorkflowHook  # takes a while, so not in the event loop

    return OpenTextWorkflowHook(conn_id)


def _look(client: OpenTextClient, new: list[str], since: datetime, keys: Collection[str], for_tasks: bool) -> _Seen:
    """Do one round's requests.

    :param new: processes that no round has looked at.
    :param keys: models to list processes and tasks of; all where there are none.
    :return: what ended since a moment, and of the new ones what ended at any time; which new ones are dealt with: those
        found running will be in a later round's listing of ended ones.
    """
    ended = set(client.ended_since(since, keys))
    left = [one for one in new if one not in ended]
    if len(left) > _LOOK_UPS:
        running = set(client.running(keys))
        left = [one for one in left if one not in running]
    asked = left[:_LOOK_UPS]
    for process_id in asked:
        try:
            if client.history(process_id, wait=False).ended_at is not None:
                ended.add(process_id)
        except NotFound:
            continue
    tasks: dict[str, dict[str, str]] = {}
    for key in (keys or (None,)) if for_tasks else ():
        for task in client.tasks(process_key=key):
            tasks.setdefault(task.process_id, {})[task.id] = task_seal(task)
    return _Seen(ended, set(new) - set(left[_LOOK_UPS:]), tasks)


def _gone(client: OpenTextClient, task_ids: list[str]) -> set[str]:
    """Return which tasks do not wait any more."""
    gone = set()
    for task_id in task_ids:
        try:
            client.task(task_id)
        except NotFound:
            gone.add(task_id)
    return gone


class _ProcessTrigger(BaseTrigger):
    """What the two triggers share.

    :param opentext_conn_id: connection; its secret is looked up in the triggerer and never serialised.
    :param process_id: the process.
    :param poll_seconds: pause between two polls; of several waits of a connection the shortest counts.
    :param wake_seconds: fire after this long even if nothing happened; None waits for what happens alone.
    :param keys: keys of the models of the process and those it called: the poll then lists nothing of other models.
    """

    def __init__(
        self,
        opentext_conn_id: str,
        process_id: str,
        poll_seconds: float,
        wake_seconds: float | None,
        keys: Collection[str] = (),
    ) -> None:
        super().__init__()
        self.keys = list(keys)
        self.opentext_conn_id = opentext_conn_id
        self.process_id = process_id
        self.poll_seconds = poll_seconds
        self.wake_seconds = wake_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments to make the trigger again."""
        return (
            f"{type(self).__module__}.{type(self).__name__}",
            {
                "opentext_conn_id": self.opentext_conn_id,
                "process_id": self.process_id,
                "poll_seconds": self.poll_seconds,
                "wake_seconds": self.wake_seconds,
                "keys": self.keys,
            },
        )

    async def _result(self, **watch: Any) -> dict[str, Any]:
        hub = _hub(self.opentext_conn_id)
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        wait = _Wait(self.process_id, self.poll_seconds, future, self.keys, **watch)
        hub.wait(wait)
        try:
            return await asyncio.wait_for(wait.future, self.wake_seconds)
        except TimeoutError:
            return {"woken": True}
        finally:
            hub.forget(wait)


class ProcessEndTrigger(_ProcessTrigger):
    """Fires when a process ended, when a deadline is reached, or when the poll failed."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event: ``{"process_id": …, "error": text or None, "woken": whether only the time had come}``."""
        result = await self._result()
        yield TriggerEvent(
            {"process_id": self.process_id, "error": result.get("error"), "woken": bool(result.get("woken"))}
        )


class TaskTrigger(_ProcessTrigger):
    """Fires when a task of a process appeared, was completed or changed hands, and when the process ended.

    What is known already is part of the trigger, so a restart of the triggerer misses nothing that happened meanwhile.

    :param seen: :func:`task_seal` of the tasks that wait, by id, as the caller saw them; empty where it saw none.
    :param on: which of ``appeared``, ``completed``, ``reassigned`` fire it.
    :param called: ids of processes that this one called, whose tasks are watched too.
    """

    def __init__(
        self,
        opentext_conn_id: str,
        process_id: str,
        poll_seconds: float,
        wake_seconds: float | None,
        seen: Mapping[str, str],
        on: Collection[Change] = CHANGES,
        called: Collection[str] = (),
        keys: Collection[str] = (),
    ) -> None:
        super().__init__(opentext_conn_id, process_id, poll_seconds, wake_seconds, keys)
        unknown = sorted(set(on) - set(CHANGES))
        if unknown or not on:
            raise ValueError(f"on: found {', '.join(unknown) or 'nothing'}; allowed: {', '.join(CHANGES)}")
        self.seen = dict(seen)
        self.on = list(on)
        self.called = list(called)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments to make the trigger again: ids and seals, no names."""
        path, arguments = super().serialize()
        return path, {**arguments, "seen": self.seen, "on": self.on, "called": self.called}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event: ``{"process_id", "error", "woken", "ended", "changes": [[task id, what], …]}``."""
        result = await self._result(seen=self.seen, on=tuple(self.on), processes=(self.process_id, *self.called))
        yield TriggerEvent(
            {
                "process_id": self.process_id,
                "error": result.get("error"),
                "woken": bool(result.get("woken")),
                "ended": bool(result.get("ended")),
                "changes": [list(change) for change in result.get("changes", ())],
            }
        )
