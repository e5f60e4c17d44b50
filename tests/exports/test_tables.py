"""JSON Lines and Parquet: every interface, read back by the libraries that would read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas
import pyarrow.parquet
import pytest
import srsly

from include.annotation.tokens import tokenize
from include.base.errors import InvalidInput
from include.exports import INTERFACES, Assignment
from include.systems.prodigy.hashes import set_hashes
from tests.exports.make import TEXTS, project, row, rows_of, write


@pytest.mark.proves("exports: JSON Lines go into Prodigy's db-in as they are")
@pytest.mark.parametrize("interface", INTERFACES)
def test_jsonl_is_what_prodigy_saves(interface: str, tmp_path: Path) -> None:
    rows = rows_of(interface)
    made = write(rows, project(interface), "jsonl", tmp_path)
    tasks = list(srsly.read_jsonl(tmp_path / "data.jsonl"))
    assert [task["meta"]["task_id"] for task in tasks] == [one["task_id"] for one in rows]
    assert made.rows == made.files["data.jsonl"].rows == len(rows)
    assert not made.skipped
    for task, one in zip(tasks, rows, strict=True):
        assert task["answer"] == one["value"]["answer"]
        assert isinstance(task["_input_hash"], int)
        assert isinstance(task["_task_hash"], int)
        for span in task.get("spans", ()):
            if "text" in task:
                assert 0 <= span["start"] < span["end"] <= len(task["text"])


def test_a_rectangle_and_a_segment_have_prodigys_fields(tmp_path: Path) -> None:
    write(rows_of("image"), project("image"), "jsonl", tmp_path / "image")
    task = next(task for task in srsly.read_jsonl(tmp_path / "image" / "data.jsonl") if task.get("spans"))
    assert task["_view_id"] == "image_manual"
    assert task["spans"][0] == {
        "label": "car",
        "type": "rect",
        "points": [[10, 20], [10, 70], [110.5, 70], [110.5, 20]],
        "x": 10,
        "y": 20,
        "width": 100.5,
        "height": 50,
        "center": [60.25, 45],
    }
    assert task["spans"][1] == {"label": "sign", "type": "polygon", "points": [[0, 0], [30, 0], [30, 40.5]]}
    assert (task["width"], task["height"]) == (640, 480)
    # The size is known after the task was hashed, and is no part of its hashes.
    asked = {"image": task["image"], "image_sha256": task["image_sha256"]}
    hashed = set_hashes(asked)
    assert (task["_input_hash"], task["_task_hash"]) == (hashed["_input_hash"], hashed["_task_hash"])
    write(rows_of("audio"), project("audio"), "jsonl", tmp_path / "audio")
    heard = next(task for task in srsly.read_jsonl(tmp_path / "audio" / "data.jsonl") if task.get("audio_spans"))
    assert heard["audio_spans"][0] == {"start": 0.25, "end": 3, "label": "SPEECH"}


def test_a_relation_names_the_last_token_of_each_span(tmp_path: Path) -> None:
    write(rows_of("relations"), project("relations"), "jsonl", tmp_path)
    task = next(task for task in srsly.read_jsonl(tmp_path / "data.jsonl") if task["text"] == TEXTS[0])
    (relation,) = task["relations"]
    tokens = tokenize(TEXTS[0])
    assert [tokens[relation[end]]["text"] for end in ("head", "child")] == ["X2", "Köln"]
    assert TEXTS[0][relation["head_span"]["start"] : relation["head_span"]["end"]] == "Router X2"
    assert relation["head_span"]["label"] == "PERSON"


@pytest.mark.proves("exports: Parquet has typed columns and loads in pandas and datasets")
@pytest.mark.parametrize("interface", INTERFACES)
def test_parquet_loads_in_datasets_and_pandas(interface: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    rows = rows_of(interface)
    write(rows, project(interface), "parquet", tmp_path)
    place = str(tmp_path / "data.parquet")
    frame = pandas.read_parquet(place)
    loaded = datasets.Dataset.from_parquet(place, cache_dir=str(tmp_path / "cache"))
    assert list(frame["task_id"]) == list(loaded["task_id"]) == [one["task_id"] for one in rows]
    assert list(frame["answer"]) == [one["value"]["answer"] for one in rows]
    for found, one in zip(loaded, rows, strict=True):
        assert _said(found, interface) == _meant(one)


def _said(found: dict[str, Any], interface: str) -> Any:
    if interface == "textcat":
        return found["label"]
    if interface == "choice":
        return found["accept"]
    if interface == "image":
        regions = found["regions"]
        return None if regions is None else [[one["label"], one["type"], one["points"]] for one in regions]
    if interface == "audio":
        segments = found["segments"]
        return None if segments is None else [[one["start"], one["end"], one["label"]] for one in segments]
    spans = found["spans"]
    listed = None if spans is None else [[one["start"], one["end"], one["label"]] for one in spans]
    if interface != "relations":
        return listed
    relations = found["relations"]
    return listed, None if relations is None else [list(one.values()) for one in relations]


def _meant(one: dict[str, Any]) -> Any:
    value = one["value"]
    if value["interface"] == "relations":
        return value.get("spans"), value.get("relations")
    if "regions" in value:
        return [[label, kind, [[float(x), float(y)] for x, y in points]] for label, kind, points in value["regions"]]
    if "segments" in value:
        return [[float(start), float(end), label] for start, end, label in value["segments"]]
    return value.get("label", value.get("accept", value.get("spans")))


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("interface", INTERFACES)
def test_no_row_and_one_row(interface: str, count: int, tmp_path: Path) -> None:
    rows = rows_of(interface)[:count]
    made = write(rows, project(interface), "parquet", tmp_path)
    assert pyarrow.parquet.read_table(tmp_path / "data.parquet").num_rows == made.rows == count
    write(rows, project(interface), "jsonl", tmp_path)
    assert len((tmp_path / "data.jsonl").read_bytes().splitlines()) == count


def test_more_rows_than_one_group_keep_their_order(tmp_path: Path) -> None:
    rows = [row("textcat", {"text": f"text {n}", "label": "refund"}, label="refund") for n in range(10_001)]
    write(rows, project("textcat"), "parquet", tmp_path)
    file = pyarrow.parquet.ParquetFile(tmp_path / "data.parquet")
    assert file.metadata.num_row_groups == 3
    assert file.read().column("text").to_pylist() == [f"text {n}" for n in range(10_001)]


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_parts_have_a_file_each_and_who_has_no_part_is_reported(format: str, tmp_path: Path) -> None:
    rows = rows_of("ner")
    ids = [one["task_id"] for one in rows]
    splits = Assignment(
        ("train", "dev", "test"), {ids[0]: "dev", ids[1]: "train", ids[2]: "train"}, {ids[3]: "straddles"}
    )
    made = write(rows, project("ner"), format, tmp_path, splits=splits)
    assert made.splits == {"train": 2, "dev": 1, "test": 0}
    assert {name: one.rows for name, one in made.files.items()} == {
        f"dev.{format}": 1,
        f"test.{format}": 0,
        f"train.{format}": 2,
        "skipped.jsonl": 2,
    }
    assert made.skipped == {"straddles": 1, "not_assigned": 1}
    assert made.rows == 3
    report = [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text().splitlines()]
    assert {one["task_id"]: one["reason"] for one in report} == {ids[3]: "straddles", ids[4]: "not_assigned"}


def test_an_export_is_never_written_again(tmp_path: Path) -> None:
    rows = rows_of("textcat")
    first = write(rows, project("textcat"), "jsonl", tmp_path)
    before = (tmp_path / "data.jsonl").stat().st_mtime_ns
    assert write(rows, project("textcat"), "jsonl", tmp_path).files == first.files
    assert (tmp_path / "data.jsonl").stat().st_mtime_ns == before
    with pytest.raises(InvalidInput, match="already holds other bytes"):
        write(rows[1:], project("textcat"), "jsonl", tmp_path)


def test_a_row_of_another_interface_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"task .*: value.interface: found 'ner'; allowed: 'textcat'"):
        write(rows_of("ner"), project("textcat"), "jsonl", tmp_path)
    assert not list(tmp_path.iterdir())


def test_whole_numbers_of_more_than_64_bits_are_kept(tmp_path: Path) -> None:
    shown = {"text": "x", "options": [{"id": 2**70, "text": "big"}]}
    write([row("choice", shown, accept=[2**70])], project("choice"), "jsonl", tmp_path)
    assert json.loads((tmp_path / "data.jsonl").read_text())["accept"] == [2**70]
