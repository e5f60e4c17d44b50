"""Waiting for processes: one poll per connection and triggerer serves every wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import BaseHook
from airflow.triggers.base import BaseTrigger, TriggerEvent

__all__ = ["ProcessEndTrigger"]

_OVERLAP = timedelta(minutes=10)
"""How far back each poll looks, so that a lagging history or a skewed clock hides no end."""


class _Hub:
    """All waits of one connection in this triggerer.

    The listing of processes that ended lately is read once a round, whatever the number of waits. A wait that has just
    come, or that history may have lost, is asked for by its id first. An error in the poll reaches every waiter.
    """

    def __init__(self, opentext_conn_id: str, poll_seconds: float) -> None:
        self._conn_id = opentext_conn_id
        self._pause = poll_seconds
        self._waits: dict[str, list[asyncio.Future[str | None]]] = {}
        self._task: asyncio.Task[None] | None = None
        self._since = datetime.now(UTC)

    def wait(self, process_id: str) -> asyncio.Future[str | None]:
        """Return a future that ends with None when the process ended, or with the text of an error."""
        future: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._waits.setdefault(process_id, []).append(future)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._poll(), name=f"labelops-poll-{self._conn_id}")
        return future

    def forget(self, process_id: str, future: asyncio.Future[str | None]) -> None:
        """Drop a wait that was cancelled."""
        futures = self._waits.get(process_id, [])
        if future in futures:
            futures.remove(future)
        if not futures:
            self._waits.pop(process_id, None)

    async def _poll(self) -> None:
        asked: set[str] = set()
        hook: Any = None
        while self._waits:
            try:
                if hook is None:
                    connection = await BaseHook.aget_connection(self._conn_id)
                    hook = await asyncio.to_thread(_hook, self._conn_id, connection)
                started = datetime.now(UTC)
                new = [one for one in self._waits if one not in asked]
                ended = await asyncio.to_thread(_ended, hook, new, self._since - _OVERLAP)
                asked.update(new)
                self._since = started
            except Exception as error:  # every waiter hears of it and the retry policy decides
                for process_id in list(self._waits):
                    self._settle(process_id, f"{type(error).__name__}: {error}")
                return
            for process_id in ended & set(self._waits):
                self._settle(process_id, None)
            asked &= set(self._waits)
            await asyncio.sleep(self._pause)

    def _settle(self, process_id: str, error: str | None) -> None:
        for future in self._waits.pop(process_id, []):
            if not future.done():
                future.set_result(error)


_HUBS: dict[tuple[str, float, int], _Hub] = {}


def _hook(conn_id: str, connection: Any) -> Any:
    from labelops.hooks.opentext import OpenTextWorkflowHook

    return OpenTextWorkflowHook(conn_id, connection=connection)


def _ended(hook: Any, asked: list[str], since: datetime) -> set[str]:
    """Return the ids of processes that ended since a moment, and of those asked for by id that ended at any time."""
    from include.base.errors import NotFound

    ended = set(hook.ended_since(since))
    for process_id in asked:
        try:
            if hook.history(process_id).ended_at is not None:
                ended.add(process_id)
        except NotFound:
            continue
    return ended


class ProcessEndTrigger(BaseTrigger):
    """Fires when a process ended, when a deadline is reached, or when the poll failed.

    :param opentext_conn_id: connection; its secret is looked up in the triggerer and never serialised.
    :param process_id: the process.
    :param poll_seconds: pause between two polls.
    :param wake_seconds: fire after this long even if nothing happened; None waits for the end alone.
    """

    def __init__(self, opentext_conn_id: str, process_id: str, poll_seconds: float, wake_seconds: float | None) -> None:
        super().__init__()
        self.opentext_conn_id = opentext_conn_id
        self.process_id = process_id
        self.poll_seconds = poll_seconds
        self.wake_seconds = wake_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments to make the trigger again."""
        return (
            "labelops.triggers.process.ProcessEndTrigger",
            {
                "opentext_conn_id": self.opentext_conn_id,
                "process_id": self.process_id,
                "poll_seconds": self.poll_seconds,
                "wake_seconds": self.wake_seconds,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event: ``{"process_id": …, "error": text or None, "woken": whether only the time had come}``."""
        key = (self.opentext_conn_id, self.poll_seconds, id(asyncio.get_running_loop()))
        hub = _HUBS.setdefault(key, _Hub(self.opentext_conn_id, self.poll_seconds))
        future = hub.wait(self.process_id)
        try:
            error = await asyncio.wait_for(future, self.wake_seconds)
            woken = False
        except TimeoutError:
            error, woken = None, True
        finally:
            hub.forget(self.process_id, future)
        yield TriggerEvent({"process_id": self.process_id, "error": error, "woken": woken})
