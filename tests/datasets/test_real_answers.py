"""Answers that 42 people gave at a conference, repeats included, through tally, resolution, freeze, release."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from datetime import timedelta
from pathlib import Path

import pytest

from include.annotation.answers import Answer, read_answer
from include.base.store import Store
from include.datasets.freeze import freeze, rows, verify_version
from include.people.register import is_unknown
from include.projects.model import Project
from include.queues.progress import form, progress
from include.releases.write import write_release
from include.settings import ROOT
from include.systems.prodigy.values import Row
from tests.datasets.make import project, register_of

DATA = ROOT.parent / "shared" / "data" / "pydata-ams-2023.jsonl"
pytestmark = pytest.mark.skipif(not DATA.exists(), reason=f"{DATA} is not there")


@pytest.fixture(scope="module")
def talk() -> Project:
    return project(
        "product_names",
        interface="textcat",
        labels=["new-dataset"],
        answers_per_task=3,
        rule="majority",
        batch_size=500,
    )


@pytest.fixture(scope="module")
def answers(talk: Project) -> list[Answer]:
    found = []
    for place, line in enumerate(DATA.read_bytes().splitlines(), 1):
        content = json.loads(line)
        row = Row(place, place, content["_input_hash"], content["_task_hash"], content, line, content["_session_id"])
        found.append(read_answer(row, talk))
    return found


def test_real_answers_are_accounted_for_to_the_last_row(tmp_path: Path, talk: Project, answers: list[Answer]) -> None:
    assert len(answers) == 3372
    accounts = sorted({one.account for one in answers if one.account})
    register = register_of(accounts)
    ids = sorted({one.task_id for one in answers})
    batch = form(ids)
    last = max(one.time for one in answers if one.time)
    done = progress(ids, answers, talk, last + timedelta(hours=1), register)
    assert done.answers == 3372
    assert not any(map(is_unknown, done.persons))
    closing = {} if done.finished else {"closed_by": "person-0", "closing_reason": "The conference is over."}

    store = Store(tmp_path / "a")
    version = freeze(store, talk, batch.digest, ids, answers, register=register, **closing)
    manifest = version.manifest
    counts = manifest.counts
    assert counts.answers == counts.counted + counts.losing == 3372
    assert counts.tasks == len(ids) == counts.rows + counts.ignored + counts.disputed + counts.missing
    assert {share.id for share in manifest.persons} == {f"person-{place}" for place in range(len(accounts))}
    assert sum(share.counted + share.losing for share in manifest.persons) == 3372
    assert manifest.guidelines[0].digest == "unknown"

    latest: dict[str, dict[str, Answer]] = defaultdict(dict)
    for one in sorted(answers, key=lambda one: (one.time, one.link_id)):
        latest[one.task_id][one.account or ""] = one
    assert manifest.losing_reasons["superseded"] == 3372 - sum(map(len, latest.values())) > 0
    for row in rows(store, talk, version.digest):
        votes = [one.value.answer for one in latest[row["task_id"]].values()]
        assert 2 * votes.count(row["value"]["answer"]) > len(votes)
        assert len(row["answers"]) == votes.count(row["value"]["answer"])

    shuffled = list(answers)
    random.Random(3).shuffle(shuffled)
    again = freeze(Store(tmp_path / "b"), talk, batch.digest, ids[::-1], shuffled, register=register, **closing)
    assert again.digest == version.digest
    assert verify_version(store, talk, version.digest) == []

    result = write_release(store, talk, version.digest, 1, manifest, [])
    lines = (result.path / "data.jsonl").read_text("utf-8").splitlines()
    assert len(lines) == counts.rows
    stored = {json.loads(line)["text"]: json.loads(line) for line in DATA.read_bytes().splitlines()}
    for line in lines:
        task = json.loads(line)
        assert task["_input_hash"] == stored[task["text"]]["_input_hash"]
        assert task["_task_hash"] == stored[task["text"]]["_task_hash"]


def test_nobody_is_known_without_a_register_and_the_version_says_so(
    tmp_path: Path, talk: Project, answers: list[Answer]
) -> None:
    ids = sorted({one.task_id for one in answers})
    store = Store(tmp_path)
    register = register_of(["nobody-else"])
    version = freeze(
        store,
        talk,
        form(ids).digest,
        ids,
        answers,
        register=register,
        closed_by="person-0",
        closing_reason="The conference is over.",
    )
    assert len(version.manifest.persons) == len({one.account or one.session for one in answers})
    assert all(share.id.startswith("unknown:") for share in version.manifest.persons)
