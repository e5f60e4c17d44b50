"""Exports read by the libraries that are too large for the test run: TensorFlow and PyTorch.

Two steps, as those libraries live in an environment of their own (``make readers``)::

    python -m tests.exports.readers write FOLDER      # with the project's environment
    python tests/exports/readers.py read FOLDER       # with TensorFlow and PyTorch
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def write(folder: Path) -> None:
    """Export every interface as TFRecord and as arrays, split, and put what should be read beside it."""
    from include.exports import INTERFACES, Assignment
    from tests.exports.make import project, rows_of
    from tests.exports.make import write as export
    from tests.exports.test_arrays import expected

    for interface in INTERFACES:
        for multiple in (False, True) if interface == "choice" else (False,):
            rows = rows_of(interface)
            parts = Assignment(("train", "test"), {one["task_id"]: "train" for one in rows})
            place = folder / (f"{interface}_multiple" if multiple else interface)
            for format in ("tfrecord", "pytorch"):
                export(rows, project(interface, multiple=multiple), format, place / format, splits=parts)
            (place / "expected.json").write_text(json.dumps(expected(interface, rows, multiple=multiple)), "utf-8")


def read(folder: Path) -> None:
    """Read all of it, and compare."""
    for place in sorted(one for one in folder.iterdir() if one.is_dir()):
        meant = json.loads((place / "expected.json").read_text("utf-8"))
        for part, rows in (("train", meant), ("test", {})):
            _compare(f"{place.name}, TFRecord, {part}", _tensorflow(place / "tfrecord", part), rows)
            _compare(f"{place.name}, PyTorch, {part}", _torch(place / "pytorch" / part, place.name), rows)


def _tensorflow(folder: Path, part: str) -> dict[str, dict[str, Any]]:
    import tensorflow as tf

    features = {}
    for name, one in json.loads((folder / "features.json").read_text("utf-8")).items():
        dtype = getattr(tf, one["dtype"])
        ragged = one["shape"] == [None]
        features[name] = tf.io.RaggedFeature(dtype) if ragged else tf.io.FixedLenFeature(one["shape"], dtype)
    found = {}
    for item in tf.data.TFRecordDataset(str(folder / f"{part}.tfrecord")).map(
        lambda record: tf.io.parse_single_example(record, features)
    ):
        columns = {
            name: value.numpy().decode("utf-8") if value.dtype == tf.string else value.numpy().tolist()
            for name, value in item.items()
        }
        found[columns.pop("task_id")] = columns
    return found


def _torch(folder: Path, kind: str) -> dict[str, dict[str, Any]]:
    import torch
    from torch.utils.data import DataLoader

    dataset = _reader().ArrayDataset(folder)
    one_shape = kind in ("textcat", "choice", "choice_multiple")
    loader = DataLoader(dataset, batch_size=2, num_workers=2, collate_fn=None if one_shape else _reader().keep_lists)
    found = {}
    for batch in loader if len(dataset) else ():
        for place, task in enumerate(batch["task_id"]):
            found[task] = {
                name: values[place].tolist() if isinstance(values[place], torch.Tensor) else values[place]
                for name, values in batch.items()
            }
    return found


def _reader() -> Any:
    """Return the module that a training script would have beside it, without the rest of the project."""
    if "labelops_dataset" not in sys.modules:
        spec = importlib.util.spec_from_file_location("labelops_dataset", ROOT / "include" / "exports" / "dataset.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["labelops_dataset"] = module
        spec.loader.exec_module(module)
    return sys.modules["labelops_dataset"]


def _compare(what: str, found: dict[str, dict[str, Any]], meant: dict[str, dict[str, Any]]) -> None:
    assert list(found) == list(meant), f"{what}: found {len(found)} rows, {len(meant)} were written"
    for task, columns in meant.items():
        for name, value in columns.items():
            read = found[task][name]
            read = read.tolist() if hasattr(read, "tolist") else read
            assert read == value, f"{what}: task {task}: {name}: found {read!r}, {value!r} was written"
    print(f"{what}: {len(found)} rows as they were written")


if __name__ == "__main__":
    step, target = sys.argv[1:]
    {"write": write, "read": read}[step](Path(target))
