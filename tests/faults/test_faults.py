"""The first of many schedules (`make faults` plays more), and a checker that is itself checked."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from include.settings import ROOT
from tests.faults import check
from tests.faults.life import Engine, World
from tests.faults.play import Theatre
from tests.faults.schedule import Action, PlannedFault, Schedule
from tests.integration.airflow_house import PROJECT

pytestmark = [pytest.mark.airflow, pytest.mark.long(100)]

SEEDS = int(os.environ.get("FAULT_SEEDS", "25"))


@pytest.fixture(scope="module")
def theatre() -> Iterator[Theatre]:
    made = Theatre()
    yield made
    made.close()


@pytest.mark.proves("P3")
def test_many_schedules_end_whole() -> None:
    command = [sys.executable, "-m", "tests.faults", "--seeds", str(SEEDS), "--jobs", "1"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]
    assert re.search(rf"^{SEEDS} seeds in .*; 0 failed\.$", done.stdout, re.M), done.stdout[-2000:]


# --- one schedule each, with and without what protects ----------------------------------------------------------------

START = "POST /workflow/v1/process-instances"


def _schedule(stage: str, dag: str, kind: str, **where: Any) -> Schedule:
    return Schedule(0, stage, [Action(run=dag, faults=[PlannedFault(0, kind, **where)])])


def _no_fence(patched: pytest.MonkeyPatch) -> None:
    from include.decisions import asking

    patched.setattr(asking, "end_duplicates", lambda *_: 0)
    patched.setattr(asking, "end_if_overtaken", lambda *_: nullcontext())


def _no_look(patched: pytest.MonkeyPatch) -> None:
    from include.systems.http import HttpCaller

    _no_fence(patched)
    patched.setattr(HttpCaller, "look_for", lambda *_: None)


def _half_files(patched: pytest.MonkeyPatch) -> None:
    from include.base import store

    @contextmanager
    def straight(path: Any) -> Iterator[Any]:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as out:
            yield out

    patched.setattr(store, "atomic_file", straight)


PROTECTED = {
    "an orphan that starts a process": (
        _schedule("labelled", "labeling_approval", "orphan goes on after its retry", only=START), _no_fence,
        "processes once",
    ),
    "a start whose reply is lost": (
        _schedule("labelled", "labeling_approval", "reset after effect", door="opentext", only=START), _no_look,
        "processes once",
    ),
    "a disk that is full in the middle of an object": (
        _schedule("labelled", "labeling_approval", "disk full in the middle of a write", only="objects", bytes=100),
        _half_files, "store whole|versions whole|the harness failed|errors|not quiet",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PROTECTED)
def test_a_fault_is_survived_and_shows_where_the_protection_is_off(
    theatre: Theatre, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    schedule, switch_off, where = PROTECTED[name]
    outcome = theatre.play(schedule)
    assert outcome.violations == []
    assert outcome.faults[0][1] in ("absorbed", "task retried", "item failed, next run repaired it"), outcome.log
    switch_off(monkeypatch)
    broken = theatre.play(schedule)
    assert any(re.match(where, one) for one in broken.violations), broken.log


# --- the checker ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(theatre: Theatre) -> Path:
    """A house in which everything was done, and nothing is wrong."""
    home = theatre.folder / "finished"
    with theatre.copy("approved") as made:
        engine = Engine(made)
        assert theatre._until_quiet(engine, [], lambda text: None)
        assert check.problems(made, engine) == []
        shutil.copytree(made.home, home)
    return home


@pytest.fixture
def house(theatre: Theatre, finished: Path) -> Iterator[World]:
    home = theatre.folder / "broken"
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(finished, home)
    with theatre.house(home) as made:
        yield made


def _sql(file: object, *statements: str) -> None:
    with sqlite3.connect(str(file)) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def _lost_row(house: World) -> None:
    _sql(house.prodigy_file, "DELETE FROM link WHERE id = (SELECT min(id) FROM link)")


def _row_twice(house: World) -> None:
    _sql(
        house.prodigy_file,
        "INSERT INTO example (input_hash, task_hash, content) SELECT input_hash, task_hash, content FROM example "
        "WHERE id = (SELECT min(example_id) FROM link)",
        "INSERT INTO link (example_id, dataset_id) SELECT (SELECT max(id) FROM example), dataset_id FROM link "
        "WHERE id = (SELECT min(id) FROM link)",
    )


def _process(house: World, business_key: str) -> None:
    model_id = house.opentext.state.row("SELECT id FROM model")[0]
    house.opentext.state.insert(
        "process",
        id="stray",
        model_id=model_id,
        name="x",
        business_key=business_key,
        started=1.0,
        started_by="labelops-service",
        engine="{}",
    )


def _write_pages(house: World, statement: str) -> None:
    database = house.confluence.database
    with database.transaction():
        database.write(statement)


PAGE_TWICE = (
    "insert into pages select id + 5000, space_id, title, status, parent_id, author_id, created, version, "
    "modified, state_id, state_changed from pages where author_id = 'acc-labelops'"
)
VERSION_THAT_SAYS_THE_SAME = (
    "insert into versions select page_id, number + 1, title, body, author_id, created + 1, message "
    "from versions where page_id in (select id from pages where author_id = 'acc-labelops')"
)
CHART_OF_OTHER_BYTES = "update attachments set content = x'00' where comment like 'sha256:%'"


def _comment_twice(house: World) -> None:
    row = dict(house.opentext.state.row("SELECT * FROM comment WHERE message LIKE 'Lineage of%'"))
    house.opentext.state.insert("comment", **{**row, "seq": 999, "id": "again"})


def _decision_not_captured(house: World) -> None:
    task = dict(house.opentext.state.row("SELECT * FROM task WHERE ended IS NOT NULL"))
    house.opentext.state.insert("task", **{**task, "id": "unseen"})


def _event_gone(house: World) -> None:
    triggers = [
        name for (name,) in house.read(house.ledger_file, "SELECT name FROM sqlite_master WHERE type='trigger'")
    ]
    _sql(
        house.ledger_file,
        *(f"DROP TRIGGER {one}" for one in triggers),
        "DELETE FROM event WHERE action = 'release.done'",
    )


def _flip(house: World, pattern: str) -> None:
    path = next(one for one in sorted((house.home / "store").glob(pattern)) if one.is_file())
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def _gone(house: World, pattern: str) -> None:
    next(one for one in sorted((house.home / "store").glob(pattern)) if one.is_file()).unlink()


BROKEN = {
    "a lost row": (_lost_row, "inputs in|prodigy whole|releases whole"),
    "a row twice": (_row_twice, "inputs in"),
    "an orphan process": (lambda house: _process(house, "of nobody"), "processes once"),
    "a process twice": (
        lambda house: _process(house, house.opentext.state.row("SELECT business_key FROM process")[0]),
        "processes once",
    ),
    "a page twice": (lambda house: _write_pages(house, PAGE_TWICE), "report whole"),
    "a page without its property": (lambda house: _write_pages(house, "delete from properties"), "report whole"),
    "a page version too many": (lambda house: _write_pages(house, VERSION_THAT_SAYS_THE_SAME), "report whole"),
    "a chart of other bytes": (lambda house: _write_pages(house, CHART_OF_OTHER_BYTES), "report whole"),
    "a comment twice": (_comment_twice, "comments once"),
    "a decision not captured": (_decision_not_captured, "decisions captured"),
    "an event gone": (_event_gone, "ledger holds"),
    "a changed row of a version": (lambda house: _flip(house, "versions/*/*/rows.jsonl"), "versions whole"),
    "a changed object": (lambda house: _flip(house, "objects/*/*"), "store whole"),
    "a changed guideline": (lambda house: _flip(house, "publications/*/*/0001*/*.html"), "guideline published"),
    "a release without a file": (lambda house: _gone(house, "releases/*/v1*/*.parquet"), "releases whole"),
    "a quarantine report gone": (lambda house: _gone(house, "quarantine/*/*/*.jsonl"), "inputs in"),
    "a temporary file": (
        lambda house: (house.home / "store" / "releases" / PROJECT / ".current.json.x1").write_text("{"),
        "store whole",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_checker_finds(house: World, name: str) -> None:
    broken, where = BROKEN[name]
    broken(house)
    found = check.problems(house, Engine(house))
    assert any(re.match(where, one) for one in found), found


def test_the_checker_finds_a_secret_in_the_log(house: World) -> None:
    engine = Engine(house)
    engine.told += b"Authorization: sandbox-secret-of-labelops"
    assert any(one.startswith("secrets") for one in check.problems(house, engine))
