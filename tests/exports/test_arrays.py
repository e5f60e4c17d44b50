"""TFRecord and memory-mapped arrays: the same columns in two formats, read back by the libraries of their users."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tfrecord import example_pb2
from tfrecord.reader import tfrecord_loader

from include.base.canonical import sha256_hex
from include.exports import INTERFACES, Assignment
from include.exports.dataset import ArrayDataset, keep_lists
from include.exports.tfrecord import masked_crc, record
from tests.exports.make import LABELS, TEXTS, options, project, row, rows_of, write

KINDS = ("rect", "polygon", "freehand")


def expected(interface: str, rows: list[dict[str, Any]], *, multiple: bool = False) -> dict[str, dict[str, Any]]:
    """Return what a reader should find, worked out from the rows without the encoder."""
    labels, found = LABELS[interface], {}
    for one in rows:
        value, shown = one["value"], one["shown"]
        if value["answer"] != "accept" and interface != "textcat":
            continue
        if interface == "textcat":
            columns = {"label": 0, "target": int(value["answer"] == "accept"), "text": shown["text"]}
        elif interface == "choice" and multiple:
            columns = {"target": [int(label in value["accept"]) for label in labels], "text": shown["text"]}
        elif interface == "choice":
            if not value["accept"]:
                continue
            columns = {"label": labels.index(value["accept"][0]), "text": shown["text"]}
        elif interface == "image":
            regions = value["regions"]
            columns = {
                "image": shown["image"],
                "width": 640,
                "height": 480,
                "region_label": [labels.index(label) for label, _, _ in regions],
                "region_kind": [KINDS.index(kind) for _, kind, _ in regions],
                "region_points": [len(points) for _, _, points in regions],
                "points": [float(side) for _, _, points in regions for point in points for side in point],
            }
        elif interface == "audio":
            columns = {
                "audio": shown["audio"],
                "segment_start": [float(start) for start, _, _ in value["segments"]],
                "segment_end": [float(end) for _, end, _ in value["segments"]],
                "segment_label": [labels.index(label) for _, _, label in value["segments"]],
            }
        else:
            columns = {
                "text": shown["text"],
                "span_start": [start for start, _, _ in value["spans"]],
                "span_end": [end for _, end, _ in value["spans"]],
                "span_label": [labels.index(label) for _, _, label in value["spans"]],
            }
            if interface == "relations":
                columns["relation_head_start"] = [one[0] for one in value["relations"]]
                columns["relation_child_end"] = [one[3] for one in value["relations"]]
                columns["relation_label"] = [0 for _ in value["relations"]]
        found[one["task_id"]] = columns
    return found


def from_records(place: Path) -> dict[str, dict[str, Any]]:
    found = {}
    for item in tfrecord_loader(str(place), None):
        columns = {
            name: value.decode("utf-8") if isinstance(value, bytes) else np.asarray(value).tolist()
            for name, value in item.items()
        }
        found[columns.pop("task_id")] = columns
    return found


def alike(found: dict[str, Any], meant: dict[str, Any]) -> bool:
    return all(
        np.array_equal(np.atleast_1d(found[name]), np.atleast_1d(value))
        if not isinstance(value, str)
        else found[name] == value
        for name, value in meant.items()
    )


@pytest.mark.proves("exports: TFRecord files are read back by the tfrecord library")
@pytest.mark.parametrize("interface", INTERFACES)
def test_tfrecord_reads_it(interface: str, tmp_path: Path) -> None:
    rows = rows_of(interface)
    made = write(rows, project(interface), "tfrecord", tmp_path)
    found, meant = from_records(tmp_path / "data.tfrecord"), expected(interface, rows)
    assert list(found) == list(meant)
    for task, columns in meant.items():
        assert alike(found[task], columns), (found[task], columns)
    assert made.rows == made.files["data.tfrecord"].rows == len(meant)
    assert json.loads((tmp_path / "labels.json").read_text())["labels"] == list(LABELS[interface])
    features = json.loads((tmp_path / "features.json").read_text())
    for columns in found.values():
        assert set(columns) | {"task_id"} == set(features)


def test_the_message_is_what_protocol_buffers_write(tmp_path: Path) -> None:
    """Parsed and written anew by the generated classes, a message keeps its content."""
    write(rows_of("image"), project("image"), "tfrecord", tmp_path)
    content = (tmp_path / "data.tfrecord").read_bytes()
    while content:
        length = int.from_bytes(content[:8], "little")
        message = content[12 : 12 + length]
        parsed = example_pb2.Example()
        assert parsed.ParseFromString(message) == length
        assert example_pb2.Example.FromString(parsed.SerializeToString(deterministic=True)) == parsed
        # Sorted by name as deterministic serialisation does: byte for byte the same.
        assert parsed.SerializeToString(deterministic=True) == message
        content = content[16 + length :]


def test_the_checksum_is_the_one_of_the_format() -> None:
    # CRC-32C of 32 zero bytes is 0x8a9136aa (RFC 3720, B.4); masked as in tensorflow's crc32c.h.
    assert masked_crc(bytes(32)) == ((0x8A9136AA >> 15 | 0x8A9136AA << 17) + 0xA282EAD8) & 0xFFFFFFFF
    assert len(record(b"abc")) == 8 + 4 + 3 + 4


def test_large_numbers_are_spelled_out(tmp_path: Path) -> None:
    text = "x" * 70_000
    spans = [[0, 1, "PRODUCT"], [127, 128, "PLACE"], [16_384, 70_000, "PRODUCT"]]
    write([row("ner", {"text": text}, spans=spans)], project("ner"), "tfrecord", tmp_path)
    (columns,) = from_records(tmp_path / "data.tfrecord").values()
    assert columns["span_start"] == [0, 127, 16_384]
    assert columns["span_end"] == [1, 128, 70_000]


@pytest.mark.proves("exports: the PyTorch layout is read back with NumPy alone")
@pytest.mark.parametrize("interface", INTERFACES)
def test_arrays_come_back(interface: str, tmp_path: Path) -> None:
    rows = rows_of(interface)
    made = write(rows, project(interface), "pytorch", tmp_path)
    dataset = ArrayDataset(tmp_path / "data")
    meant = expected(interface, rows)
    assert len(dataset) == made.rows == len(meant)
    assert [item["task_id"] for item in dataset] == list(meant)
    for item in dataset:
        assert alike(item, meant[item["task_id"]])
    assert dataset.labels == list(LABELS[interface])
    if interface == "relations":
        assert dataset.relation_labels == ["MADE_IN"]
    assert dataset[-1]["task_id"] == dataset[len(dataset) - 1]["task_id"]
    with pytest.raises(IndexError):
        dataset[len(dataset)]


@pytest.mark.parametrize("format", ["tfrecord", "pytorch"])
def test_several_options_are_a_vector(format: str, tmp_path: Path) -> None:
    shown = {"text": "Late and dear", "options": options(*LABELS["choice"])}
    rows = [*rows_of("choice"), row("choice", shown, accept=["billing", "other"])]
    made = write(rows, project("choice", multiple=True), format, tmp_path)
    meant = expected("choice", rows, multiple=True)
    found = (
        from_records(tmp_path / "data.tfrecord")
        if format == "tfrecord"
        else {item["task_id"]: item for item in ArrayDataset(tmp_path / "data")}
    )
    assert all(alike(found[task], columns) for task, columns in meant.items())
    assert found[rows[-1]["task_id"]]["target"] is not None
    assert made.skipped == {"rejected": 1}


def test_a_worker_opens_the_files_itself(tmp_path: Path) -> None:
    write(rows_of("ner"), project("ner"), "pytorch", tmp_path)
    dataset = ArrayDataset(tmp_path / "data")
    sent = pickle.dumps(dataset)
    assert len(sent) < 500
    assert [item["text"] for item in pickle.loads(sent)] == [item["text"] for item in dataset]
    batch = keep_lists([dataset[0], dataset[1]])
    assert len(batch["span_start"]) == 2
    dataset[0]["span_start"][...] = 7  # a copy: the file is not written to
    assert 7 not in list(dataset[0]["span_start"])


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("format", ["tfrecord", "pytorch"])
@pytest.mark.parametrize("interface", INTERFACES)
def test_no_row_one_row_and_an_empty_part(interface: str, format: str, count: int, tmp_path: Path) -> None:
    rows = [one for one in rows_of(interface) if one["task_id"] in expected(interface, rows_of(interface))][:count]
    splits = Assignment(("train", "test"), {one["task_id"]: "train" for one in rows})
    made = write(rows, project(interface), format, tmp_path, splits=splits)
    assert made.splits == {"train": count, "test": 0}
    for part, size in made.splits.items():
        if format == "pytorch":
            assert len(list(ArrayDataset(tmp_path / part))) == size
        else:
            assert len(from_records(tmp_path / f"{part}.tfrecord")) == size


def test_what_gives_nothing_to_learn_is_reported(tmp_path: Path) -> None:
    rows = [
        row("choice", {"input": "x", "options": options("billing")}, accept=["billing"]),
        row("choice", {"text": "x", "options": options("billing")}, accept=[]),
        row("choice", {"text": "y", "options": options("billing")}, "reject"),
    ]
    made = write(rows, project("choice"), "tfrecord", tmp_path)
    assert made.skipped == {"no_content": 1, "no_option": 1, "rejected": 1}


def test_another_layout_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text('{"layout": "x"}')
    with pytest.raises(ValueError, match="layout: found 'x'"):
        ArrayDataset(tmp_path)


def test_texts_are_code_point_for_code_point(tmp_path: Path) -> None:
    write(rows_of("ner"), project("ner"), "pytorch", tmp_path)
    assert {item["text"] for item in ArrayDataset(tmp_path / "data")} == set(TEXTS)
    assert sha256_hex((tmp_path / "data" / "text.bin").read_bytes())
