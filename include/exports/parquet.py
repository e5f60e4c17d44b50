"""Parquet with typed columns, for pandas, Arrow and ``datasets``. Holds every interface and every answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from include.annotation.tasks import CONTENT_KEYS
from include.exports.output import Job
from include.exports.rows import number, options_of, size_of, training_row

__all__ = ["ROW_GROUP", "schema", "write"]

ROW_GROUP = 5000
"""Rows in one Parquet row group, which is what is held in memory at a time."""


def write(job: Job) -> None:
    """Write ``data.parquet``, or one file for each part. Compressed with Zstandard."""
    import pyarrow
    import pyarrow.parquet

    columns = schema(job.interface)
    groups: dict[str, list[dict[str, Any]]] = {part: [] for part in job.parts}
    counts = dict.fromkeys(job.parts, 0)
    with ExitStack() as stack:
        writers = {
            part: stack.enter_context(
                pyarrow.parquet.ParquetWriter(job.out.path(_name(part)), columns, compression="zstd")
            )
            for part in job.parts
        }

        def flush(part: str) -> None:
            if groups[part]:
                table = pyarrow.Table.from_pylist(groups[part], schema=columns)
                writers[part].write_table(table, row_group_size=ROW_GROUP)
                counts[part] += len(groups[part])
                groups[part].clear()

        for part, row in job.items():
            groups[part].append(_record(row, job.number))
            if len(groups[part]) == ROW_GROUP:
                flush(part)
        for part in job.parts:
            flush(part)
    for part, count in counts.items():
        job.out.set_rows(_name(part), count)
        job.took(part, count)


def schema(interface: str) -> Any:
    """Return the Arrow schema of an interface.

    Offsets of spans count Unicode code points, the end exclusive; points are pixels, segments seconds.
    """
    import pyarrow as pa

    words, whole, real = pa.string(), pa.int32(), pa.float64()
    spans = pa.list_(pa.struct([("start", whole), ("end", whole), ("label", words)]))
    answers: dict[str, list[tuple[str, Any]]] = {
        "textcat": [("label", words)],
        "choice": [("options", pa.list_(words)), ("accept", pa.list_(words))],
        "ner": [("spans", spans)],
        "spans": [("spans", spans)],
        "image": [
            ("image_sha256", words),
            ("width", whole),
            ("height", whole),
            (
                "regions",
                pa.list_(pa.struct([("label", words), ("type", words), ("points", pa.list_(pa.list_(real, 2)))])),
            ),
        ],
        "audio": [
            ("audio_sha256", words),
            ("segments", pa.list_(pa.struct([("start", real), ("end", real), ("label", words)]))),
        ],
        "relations": [
            ("spans", spans),
            (
                "relations",
                pa.list_(
                    pa.struct(
                        [
                            *((name, whole) for name in ("head_start", "head_end", "child_start", "child_end")),
                            ("label", words),
                        ]
                    )
                ),
            ),
        ],
    }
    return pa.schema(
        [
            pa.field("task_id", words, nullable=False),
            *((name, words) for name in CONTENT_KEYS),
            pa.field("answer", words, nullable=False),
            *answers[interface],
            ("basis", words),
            ("round", whole),
            ("version", whole),
            ("input_hash", whole),
            ("task_hash", whole),
        ]
    )


def _record(row: Mapping[str, Any], version: int) -> dict[str, Any]:
    task = training_row(row, version)
    meta, value = task["meta"], row["value"]
    record: dict[str, Any] = {key: task.get(key) for key in CONTENT_KEYS}
    if record["input"] is not None and not isinstance(record["input"], str):
        record["input"] = json.dumps(record["input"], ensure_ascii=False, sort_keys=True)
    for name in ("image_sha256", "audio_sha256"):
        record[name] = task.get(name)
    if value["interface"] == "image":
        record["width"], record["height"] = size_of(row) or (None, None)
    return {
        **record,
        **_answer(row, value),
        "answer": value["answer"],
        "task_id": meta["task_id"],
        "basis": meta["basis"],
        "round": meta["round"],
        "version": meta["version"],
        "input_hash": task["_input_hash"],
        "task_hash": task["_task_hash"],
    }


def _answer(row: Mapping[str, Any], value: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of the interface; what the answer does not say is left out, and null in the file."""
    found: dict[str, Any] = {}
    if "label" in value:
        found["label"] = value["label"]
    if row["shown"].get("options") is not None:
        found["options"] = options_of(row)
    if "accept" in value:
        found["accept"] = [str(option) for option in value["accept"]]
    if "spans" in value:
        found["spans"] = [{"start": start, "end": end, "label": label} for start, end, label in value["spans"]]
    if "segments" in value:
        found["segments"] = [
            {"start": float(start), "end": float(end), "label": label} for start, end, label in value["segments"]
        ]
    if "regions" in value:
        found["regions"] = [
            {"label": label, "type": kind, "points": [[float(number(x)), float(number(y))] for x, y in points]}
            for label, kind, points in value["regions"]
        ]
    if "relations" in value:
        names = ("head_start", "head_end", "child_start", "child_end", "label")
        found["relations"] = [dict(zip(names, one, strict=True)) for one in value["relations"]]
    return found


def _name(part: str) -> str:
    return f"{part or 'data'}.parquet"
