"""Data that Labelops did not make: public Prodigy exports and raw inputs, on every database engine.

The files lie beside the repository (``shared/data``) and are not part of it; without them these tests are skipped.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from include.annotation.answers import read_answer
from include.base.canonical import sha256_hex
from include.projects.model import Project
from include.sandbox.prodigy_schema import import_jsonl
from include.settings import ROOT
from include.systems.prodigy.values import Row
from tests.house import House
from tests.integration.airflow_house import PROJECT
from tests.servers import airflow_connection

DATA = ROOT.parent / "shared" / "data"
NEEDED = 15
"""Answers asked for of each input. The real people gave 12 to 42, so the batch stays unfinished until it is closed."""

pytestmark = [
    pytest.mark.skipif(not DATA.is_dir(), reason=f"real data is not there: {DATA} does not exist"),
    pytest.mark.airflow,
]


def rows_of(name: str) -> list[dict[str, Any]]:
    """Return the records of one file."""
    return [json.loads(line) for line in (DATA / name).read_text("utf-8").splitlines()]


@pytest.fixture
def real_house(house: House, prodigy_url: str, monkeypatch: pytest.MonkeyPatch) -> House:
    """The house with its Prodigy database on one of the engines, and nothing in its source folder."""
    monkeypatch.setenv("AIRFLOW_CONN_PRODIGY_DEFAULT", airflow_connection(prodigy_url))
    folder = house.home / "sources" / PROJECT
    shutil.rmtree(folder)
    folder.mkdir()
    return house


# --- raw inputs ----------------------------------------------------------------------------------------------------


def test_every_raw_record_is_accounted_for_and_a_second_run_does_nothing(real_house):
    house = real_house
    place = house.home / "sources" / PROJECT / "issues.jsonl"
    raw = (DATA / "gh_issues_raw.jsonl").read_bytes().rstrip(b"\n") + b"\n"
    lines = raw.splitlines(keepends=True)
    # Two records that say what others say, and three that are none.
    place.write_bytes(raw + lines[0] + lines[7] + b'{"text": 5}\n' + b'{"title": "no text"}\n' + b'{"text": "cut of\n')
    house.change_project(source={"routes": [{"match": "*.jsonl"}]})
    loaded = house.ingest()
    [read] = house.events("source.read")
    assert len(lines) == 1103
    counted = {name: read.body[name] for name in ("records", "tasks", "duplicates", "bad", "inserted")}
    # One of the real records holds a terminal's escape character: it is set aside with its reason, like the three.
    assert counted == {"records": 1104, "tasks": 1102, "duplicates": 2, "bad": 4, "inserted": 1102}
    assert counted["records"] + counted["bad"] == len(place.read_bytes().splitlines())
    assert loaded["state"] == "loaded"
    stored = [row.content for row in house.prodigy().rows(house.project.inbox)]
    texts = Counter(json.loads(line)["text"] for line in lines)
    assert texts - Counter(task["text"] for task in stored) == Counter(text for text in texts if "\x1b" in text)
    assert sorted(len(task["labelops"]["sources"]) for task in stored)[-3:] == [1, 2, 2]
    before = house.snapshot(), house.prodigy().watermark(house.project.inbox), len(house.events())
    assert house.ingest() is None
    assert (house.snapshot(), house.prodigy().watermark(house.project.inbox), len(house.events())) == before


# --- real answers --------------------------------------------------------------------------------------------------


def register_accounts(house: House, accounts: list[str]) -> None:
    """Put an invented annotator on the register for each real account."""
    value = yaml.safe_load(house.register_file.read_text("utf-8"))
    value["persons"] += [
        {
            "id": f"annotator{place:02}",
            "name": f"Annotator {place:02}",
            "accounts": {"prodigy": [account]},
            "roles": [{"role": "annotator"}],
        }
        for place, account in enumerate(accounts, 1)
    ]
    house.register_file.write_text(yaml.safe_dump(value), "utf-8")


def answered(house: House, url: str, orchestrator: str) -> list[dict[str, Any]]:
    """Let the database hold the real answers of 42 people, and the project and the register know them."""
    rows = rows_of("pydata-ams-2023.jsonl")
    house.change_project(
        annotation={
            "interface": "textcat",
            "labels": ["new-dataset"],
            "multiple": False,
            "answers_per_task": NEEDED,
            "rule": "majority",
        },
        policy={"require_guideline_stamp": False, "min_completeness_percent": 50},
        release={"orchestrator": orchestrator},
    )
    register_accounts(house, sorted({row["_annotator_id"] for row in rows}))
    assert import_jsonl(url, house.project.answers, rows) == len(rows) == 3372
    return rows


def lacking(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Return how many answers each input lacks, worked out from the file alone."""
    persons: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows:
        persons[row["text"]].add(row["_annotator_id"])
    return {text: NEEDED - len(who) for text, who in persons.items() if len(who) < NEEDED}


def close_and_freeze(house: House, rows: list[dict[str, Any]]) -> None:
    """Let a person close the adopted batch, which asks the approvers."""
    assert house.approve_run() == []
    [assigned] = house.events("batch.assigned")
    assert (assigned.body["kind"], assigned.body["size"]) == ("adopted", len({row["text"] for row in rows}))
    digest = assigned.subject.removeprefix("batch:")
    [result] = house.approve_run(by="olga", close=[digest[:12]], reason="The workshop is over.")
    assert result["state"] == "waiting"
    [closed] = house.events("batch.closed")
    missing = lacking(rows)
    assert (closed.actor, closed.body["missing"]) == ("olga", sum(missing.values()))


def release(house: House, orchestrator: str) -> dict[str, Any]:
    """Let approvers and, where OpenText decides, the release manager act."""
    house.say("quentin", "approved")
    house.say("dana", "approved")
    [result] = house.approve_run()
    assert result["state"] == "approved", result["sentence"]
    results = house.release_run()
    if orchestrator == "opentext":
        assert [one["state"] for one in results] == ["waiting"]
        house.say("rita", "released")
        results = house.release_run()
    [result] = results
    assert result["state"] == "released", result["sentence"]
    return result


@pytest.fixture(scope="module")
def digests() -> dict[str, str]:
    """The digest of the version on each engine, and with each orchestrator, that was tried."""
    return {}


@pytest.mark.parametrize("orchestrator", ["opentext", "airflow"])
@pytest.mark.parametrize("prodigy_url", ["sqlite"], indirect=True)
def test_the_answers_of_42_people_become_a_release(real_house, prodigy_url, orchestrator, digests):
    house = real_house
    rows = answered(house, prodigy_url, orchestrator)
    close_and_freeze(house, rows)
    released = release(house, orchestrator)
    version = house.version()
    digests[orchestrator] = version.digest
    assert len(set(digests.values())) == 1, digests
    check_against_the_file(house, rows, version)
    check_exports(house.home / "store" / "releases" / PROJECT / Path(released["where"]).name, version)
    report = house.report()
    assert (report["state"], report["changed"]) == ("published", True)
    check_quiet(house)
    check_alteration_is_found(house, prodigy_url, version)


def test_the_same_answers_are_the_same_version_whatever_database_held_them(real_house, prodigy_url, digests):
    rows = answered(real_house, prodigy_url, "opentext")
    close_and_freeze(real_house, rows)
    version = real_house.version()
    digests[create_engine(prodigy_url).dialect.name] = version.digest
    assert len(set(digests.values())) == 1, digests
    check_against_the_file(real_house, rows, version)
    check_alteration_is_found(real_house, prodigy_url, version)


def check_against_the_file(house: House, rows: list[dict[str, Any]], version: Any) -> None:
    """Work the majority out again from the file, without any of our code, and compare."""
    folder = house.home / "store" / version.path
    manifest = json.loads((folder / "manifest.json").read_bytes())
    latest: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        latest[row["text"], row["_annotator_id"]] = row
    votes: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for (shown, _), row in latest.items():
        votes[shown][row["answer"]] += 1
    missing = lacking(rows)
    expected: dict[str, str] = {}
    for shown, counted in votes.items():
        value, number = counted.most_common(1)[0]
        if shown not in missing and 2 * number > sum(counted.values()) and value != "ignore":
            expected[shown] = value
    frozen = [json.loads(line) for line in (folder / "rows.jsonl").read_text("utf-8").splitlines()]
    assert {one["shown"]["text"]: one["value"]["answer"] for one in frozen} == expected
    assert version.row_count == len(expected)
    assert manifest["counts"]["missing"] == len(missing)
    assert manifest["closed_by"]["person"] == "olga"


def check_exports(folder: Path, version: Any) -> None:
    """Read every export with the tools that training uses."""
    import pandas
    import pyarrow.parquet

    lines = pandas.read_json(folder / "data.jsonl", lines=True)
    table = pyarrow.parquet.read_table(folder / "data.parquet")
    assert len(lines) == table.num_rows == version.row_count
    assert lines["text"].tolist() == table.column("text").to_pylist()
    sums = json.loads((folder / "checksums.json").read_bytes())["files"]
    assert {"data.jsonl", "data.parquet", "manifest.json", "approvals.json", "README.md"} <= set(sums)
    assert {name: sha256_hex((folder / name).read_bytes()) for name in sums} == {
        name: entry["sha256"] for name, entry in sums.items()
    }


def check_quiet(house: House) -> None:
    """Run everything again: nothing may change anywhere."""
    before = house.snapshot(), len(house.events()), house.prodigy().watermark(house.project.answers)
    assert house.approve_run() == []
    assert house.release_run() == []
    again = house.report()
    assert (again["state"], again["created"], again["updated"]) == ("unchanged", 0, 0)
    assert (house.snapshot(), len(house.events()), house.prodigy().watermark(house.project.answers)) == before


def check_alteration_is_found(house: House, url: str, version: Any) -> None:
    """Turn one real answer round behind everybody's back."""
    from include.usecases.dataset_release import source_drift

    with house.run().open() as run:
        assert source_drift(run, house.project, version.digest, house.prodigy()) == []
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as conn:
        example, content = conn.execute(text("SELECT id, content FROM example ORDER BY id LIMIT 1")).one()
        changed = bytes(content).replace(b'"answer":"accept"', b'"answer":"reject"')
        assert changed != bytes(content)
        conn.execute(text("UPDATE example SET content = :content WHERE id = :id"), {"content": changed, "id": example})
    with house.run().open() as run:
        [drift] = source_drift(run, house.project, version.digest, house.prodigy())
    assert f"example {example} was " in drift
    assert sha256_hex(changed)[:8] in drift


# --- what others saved ---------------------------------------------------------------------------------------------


def stored(place: int, content: dict[str, Any]) -> Row:
    """Return a record as a row of Prodigy's database."""
    raw = json.dumps(content).encode()
    return Row(place, place, content["_input_hash"], content["_task_hash"], content, raw, content.get("_session_id"))


def project_for(house: House, **annotation: Any) -> Project:
    """Return the house's project with another question."""
    single = {"multiple": False, "answers_per_task": 1, "rule": "single"}
    house.change_project(annotation={**single, **annotation})
    return house.project


def test_spans_that_real_people_marked(house):
    project = project_for(house, interface="ner", labels=["FASHION_BRAND"])
    rows = rows_of("fashion_brands_eval.jsonl")
    answers = [read_answer(stored(place, row), project) for place, row in enumerate(rows, 1)]
    assert Counter(one.value.answer for one in answers) == {"accept": 500}
    marked = [
        [(one["start"], one["end"], one["label"]) for one in sorted(row.get("spans") or [], key=lambda x: x["start"])]
        for row in rows
    ]
    assert [list(one.value.spans) for one in answers] == marked
    assert sum(map(len, marked)) > 100


@pytest.mark.parametrize(
    "name",
    [
        "annotated_github-issues-DOCUMENTATION-textcat.jsonl",
        "docs_issues_training.jsonl",
        "docs_issues_eval.jsonl",
    ],
)
def test_binary_answers_that_others_saved(house, name):
    project = project_for(house, interface="textcat", labels=["DOCUMENTATION"])
    rows = rows_of(name)
    answers = [read_answer(stored(place, row), project) for place, row in enumerate(rows, 1)]
    assert Counter(one.value.answer for one in answers) == Counter(row["answer"] for row in rows)
    assert {one.value.label for one in answers} == {"DOCUMENTATION"}
    # Answers to the same question are one task, and nothing else is.
    assert len({one.task_id for one in answers}) == len({row["text"] for row in rows})
