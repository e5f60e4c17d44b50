"""Prodigy's hashes: published vectors, and the hashes in real exports."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from include.settings import ROOT
from include.systems.prodigy.hashes import input_hash, set_hashes, task_hash

DATA = ROOT.parent / "shared" / "data"

VECTORS: list[tuple[dict[str, Any], int, int]] = [
    ({"text": "hi my name is 0"}, -784135307, -978533357),
    ({"text": "hi my name is 0", "label": "foo"}, -784135307, -1606845795),
    (
        {
            "text": "Uber\u2019s Lesson: Silicon Valley\u2019s Start-Up Machine Needs Fixing",
            "meta": {"source": "The New York Times"},
        },
        1886699658,
        -1952856502,
    ),
    (
        {
            "text": "Cats make about 100 different sounds. Dogs make only about 10.",
            "options": [
                {"id": 3, "text": "Cause"},
                {"id": 2, "text": "Prevent"},
                {"id": 1, "text": "Enable"},
                {"id": 0, "text": "Not Causal"},
            ],
        },
        531836146,
        -440801627,
    ),
]


def rows_of(name: str) -> list[dict[str, Any]]:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is not here")
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.mark.parametrize(("task", "expected_input", "expected_task"), VECTORS)
def test_published_vectors(task: dict[str, Any], expected_input: int, expected_task: int) -> None:
    hashed = set_hashes(task)
    assert (hashed["_input_hash"], hashed["_task_hash"]) == (expected_input, expected_task)
    assert "_input_hash" not in task, "the task given is left as it was"


def test_ignored_keys_count_at_no_depth() -> None:
    plain = set_hashes({"text": "a", "meta": {"channel": "x"}, "spans": [{"start": 0, "label": "L"}]})
    dressed = set_hashes(
        {
            "text": "a",
            "score": 0.5,
            "priority": 3,
            "_view_id": "ner_manual",
            "answer": "accept",
            "meta": {"channel": "x", "source": "y"},
            "spans": [{"start": 0, "label": "L", "score": 0.1, "source": "model"}],
        }
    )
    assert dressed["_task_hash"] == plain["_task_hash"]


def test_presence_decides_not_truth() -> None:
    assert set_hashes({"text": "a", "spans": []})["_task_hash"] != set_hashes({"text": "a"})["_task_hash"]


def test_hashes_that_are_there_are_kept_unless_overwritten() -> None:
    given = {"text": "hi my name is 0", "_input_hash": 1, "_task_hash": 2}
    assert set_hashes(given) == given
    assert set_hashes(given, overwrite=True)["_input_hash"] == -784135307
    assert set_hashes({"text": "hi my name is 0", "_input_hash": None})["_input_hash"] == -784135307


@pytest.mark.parametrize(("name", "number"), [("pydata-ams-2023.jsonl", 3372), ("fashion_brands_eval.jsonl", 500)])
def test_every_input_hash_of_a_recent_export_is_reproduced(name: str, number: int) -> None:
    rows = rows_of(name)
    assert sum(input_hash(row) == row["_input_hash"] for row in rows) == number == len(rows)


def test_every_task_hash_of_a_classification_export_is_reproduced() -> None:
    # Its tasks had text and label when they were hashed, so nothing has to be guessed.
    rows = rows_of("pydata-ams-2023.jsonl")
    assert [task_hash(row) for row in rows] == [row["_task_hash"] for row in rows]


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("annotated_github-issues-DOCUMENTATION-textcat.jsonl", 830),
        ("docs_issues_eval.jsonl", 500),
        ("docs_issues_training.jsonl", 661),
    ],
)
def test_exports_of_before_2019_used_another_rule(name: str, number: int) -> None:
    rows = rows_of(name)
    assert sum(input_hash(row) != row["_input_hash"] for row in rows) == number, "so stored hashes are never made anew"


def test_the_vectors_are_those_of_the_reference() -> None:
    reference = ROOT.parent / "shared" / "reference" / "prodigy.md"
    if not reference.exists():
        pytest.skip(f"{reference} is not here")
    section = reference.read_text("utf-8").split("Test vectors (all pass):")[1].split("Match rates")[0]
    found = [tuple(map(int, pair)) for pair in re.findall(r"\| (-?\d+) \| (-?\d+) \|", section)]
    assert found == [vector[1:] for vector in VECTORS]
