"""The probe for finished labelling, against a real Prodigy database on SQLite."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk._shared.module_loading import import_string

from include.annotation.tasks import build_task
from include.projects.load import load_project
from include.sandbox.prodigy_schema import create_schema
from include.settings import ROOT
from labelops.hooks.prodigy import ProdigyHook
from labelops.triggers.answers import AnswersTrigger

DEFINITIONS = ROOT / "include" / "projects" / "definitions"
LOOK = 0.05
QUIET = 0.6


class AssetState:
    """What Airflow keeps with an asset, as JSON."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}

    async def aget(self, key: str, default: Any = None) -> Any:
        return json.loads(self.kept[key]) if key in self.kept else default

    async def aset(self, key: str, value: Any) -> None:
        self.kept[key] = json.dumps(value)


class Labelling:
    """Answers of both sample projects, saved one by one."""

    def __init__(self, database: Path) -> None:
        self.database = database
        self._saved = 0

    def save(self, project: str) -> None:
        self._saved += 1
        task = build_task(
            load_project(DEFINITIONS, project),
            content={"text": f"answer {self._saved}"},
            meta={},
            sources=[{"file": "f", "record": str(self._saved), "sha256": "0" * 64}],
        )
        ProdigyHook().get_conn().add_tasks(project, [task])


@pytest.fixture
def projects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "projects"
    folder.mkdir()
    for path in DEFINITIONS.glob("*.yaml"):
        text = path.read_text("utf-8").replace("quiet_minutes: 0.05", f"quiet_minutes: {QUIET / 60}")
        assert str(QUIET / 60) in text
        (folder / path.name).write_text(text, "utf-8")
    monkeypatch.setenv("LABELOPS_PROJECTS", str(folder))
    return folder


@pytest.fixture
def labelling(tmp_path: Path, projects: Path, monkeypatch: pytest.MonkeyPatch) -> Labelling:
    database = tmp_path / "prodigy.db"
    create_schema(f"sqlite:///{database}")
    monkeypatch.setenv("AIRFLOW_CONN_PRODIGY_DEFAULT", connection(database))
    return Labelling(database)


def connection(database: Path) -> str:
    return json.dumps({"conn_type": "prodigy", "extra": {"engine": "sqlite", "path": str(database)}})


def probe(state: AssetState | None) -> AnswersTrigger:
    one = AnswersTrigger(seconds=LOOK)
    one.asset_state_store = state
    return one


async def watch(one: AnswersTrigger, story: Callable[[list[Any]], Awaitable[None]]) -> list[Any]:
    """Run the trigger beside a story; return what it fired until the story ended."""
    fired: list[Any] = []

    async def collect() -> None:
        async for event in one.run():
            fired.append(event.payload)

    task = asyncio.create_task(collect())
    try:
        await asyncio.wait_for(story(fired), 20)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return fired


def see(one: AnswersTrigger, story: Callable[[list[Any]], Awaitable[None]]) -> list[Any]:
    return asyncio.run(watch(one, story))


async def first(fired: list[Any]) -> None:
    while not fired:
        await asyncio.sleep(0.02)


async def rest(fired: list[Any]) -> None:
    """Long enough for anything that was going to fire."""
    await asyncio.sleep(2 * QUIET)


def test_it_fires_once_when_people_have_been_quiet(labelling: Labelling) -> None:
    labelling.save("ticket_topics")

    async def story(fired: list[Any]) -> None:
        await first(fired)
        await rest(fired)

    assert see(probe(AssetState()), story) == [{"projects": ["ticket_topics"]}]


def test_it_stays_silent_while_people_are_at_work(labelling: Labelling) -> None:
    async def story(fired: list[Any]) -> None:
        for _ in range(4):
            await asyncio.to_thread(labelling.save, "ticket_topics")
            await asyncio.sleep(QUIET / 2)
        assert fired == []
        await first(fired)

    assert see(probe(AssetState()), story) == [{"projects": ["ticket_topics"]}]


def test_it_fires_again_for_new_answers_only(labelling: Labelling) -> None:
    labelling.save("ticket_topics")

    async def story(fired: list[Any]) -> None:
        await first(fired)
        await asyncio.to_thread(labelling.save, "product_names")
        while len(fired) < 2:
            await asyncio.sleep(0.02)
        await rest(fired)

    assert see(probe(AssetState()), story) == [{"projects": ["ticket_topics"]}, {"projects": ["product_names"]}]


def test_a_restarted_triggerer_neither_repeats_nor_misses(labelling: Labelling) -> None:
    state = AssetState()
    labelling.save("ticket_topics")

    async def until_kept(fired: list[Any]) -> None:
        await first(fired)
        while not state.kept:
            await asyncio.sleep(0.02)

    assert see(probe(state), until_kept) == [{"projects": ["ticket_topics"]}]
    assert see(probe(state), rest) == []
    labelling.save("ticket_topics")  # while no triggerer runs
    assert see(probe(state), first) == [{"projects": ["ticket_topics"]}]


def test_no_answers_is_nothing_to_tell(labelling: Labelling) -> None:
    assert see(probe(AssetState()), rest) == []


def test_without_airflows_memory_it_remembers_by_itself(labelling: Labelling) -> None:
    labelling.save("ticket_topics")

    async def story(fired: list[Any]) -> None:
        await first(fired)
        await rest(fired)

    assert see(probe(None), story) == [{"projects": ["ticket_topics"]}]


def test_a_database_that_is_away_is_asked_again(labelling: Labelling, caplog: pytest.LogCaptureFixture) -> None:
    labelling.save("ticket_topics")
    away = labelling.database.rename(labelling.database.with_suffix(".away"))

    async def story(fired: list[Any]) -> None:
        await asyncio.sleep(5 * LOOK)
        assert fired == []
        away.rename(labelling.database)
        await first(fired)

    assert see(probe(AssetState()), story) == [{"projects": ["ticket_topics"]}]


def test_a_bad_project_file_hides_no_other_project(labelling: Labelling, projects: Path) -> None:
    (projects / "a_broken_one.yaml").write_text("name: [", "utf-8")
    labelling.save("product_names")
    assert see(probe(AssetState()), first) == [{"projects": ["product_names"]}]


def test_what_is_stored_makes_the_same_trigger() -> None:
    one = AnswersTrigger("prodigy_second", 30)
    path, arguments = one.serialize()
    assert import_string(path)(**json.loads(json.dumps(arguments))).serialize() == one.serialize()
