"""The probe behind the asset ``labelops/answers``: people label outside Airflow, so somebody has to look."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

__all__ = ["AnswersTrigger"]

_KEY = "seen"


class AnswersTrigger(BaseEventTrigger):
    """Fires when answers were saved and then none for the project's quiet time.

    How far it has seen is kept with the asset, so a restarted triggerer neither repeats itself nor misses anything; a
    lost event costs time only, since every run works out by itself what is pending.

    :param prodigy_conn_id: connection to Prodigy's database.
    :param seconds: pause between two looks.
    """

    def __init__(self, prodigy_conn_id: str = "prodigy_default", seconds: float = 60) -> None:
        super().__init__()
        self.prodigy_conn_id = prodigy_conn_id
        self.seconds = seconds
        self._memory: dict[str, Any] = {}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments to make the trigger again."""
        return (
            "labelops.triggers.answers.AnswersTrigger",
            {"prodigy_conn_id": self.prodigy_conn_id, "seconds": self.seconds},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield ``{"projects": [names]}`` each time somebody finished labelling."""
        from labelops.hooks.prodigy import ProdigyHook

        hook = ProdigyHook(self.prodigy_conn_id)
        changed_at: dict[str, tuple[list[int], datetime]] = {}
        while True:
            try:
                seen = await self._seen()
                quiet = await asyncio.to_thread(_quiet_seconds)
                client = await hook.aget_conn()
                found = await asyncio.to_thread(client.watermarks, list(quiet))
                marks = {name: [found[name].count, found[name].last_link] for name in quiet}
            except Exception as error:  # a database that is away now is asked again later
                self.log.warning("The answers could not be looked at: %s: %s", type(error).__name__, error)
                await asyncio.sleep(self.seconds)
                continue
            now = datetime.now(UTC)
            ready = []
            for name, mark in marks.items():
                if mark == seen.get(name) or not mark[0]:
                    changed_at.pop(name, None)
                    continue
                if changed_at.get(name, ([], now))[0] != mark:
                    changed_at[name] = (mark, now)
                if (now - changed_at[name][1]).total_seconds() >= quiet[name]:
                    ready.append(name)
            if ready:
                yield TriggerEvent({"projects": ready})
                await self._save({**seen, **{name: marks[name] for name in ready}})
            await asyncio.sleep(self.seconds)

    async def _seen(self) -> dict[str, Any]:
        found = None if self.asset_state_store is None else await self.asset_state_store.aget(_KEY)
        return found if isinstance(found, dict) else dict(self._memory)

    async def _save(self, seen: dict[str, Any]) -> None:
        self._memory = seen
        if self.asset_state_store is not None:
            await self.asset_state_store.aset(_KEY, seen)


def _quiet_seconds() -> dict[str, float]:
    """Return the quiet time of each project that has a good file, in seconds, by its dataset of answers (its name)."""
    from include.projects.load import load_projects
    from include.projects.model import Project
    from include.settings import settings

    projects = (one for one in load_projects(settings().projects) if isinstance(one, Project))
    return {one.answers: one.annotation.quiet_minutes * 60 for one in projects}
