"""Reading the memory-mapped arrays: a map-style dataset that PyTorch's ``DataLoader`` takes as it is.

Needs NumPy and nothing else of this project, so the file can be copied beside a training script.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["ArrayDataset", "keep_lists"]


class ArrayDataset:
    """One part of an export.

    An item is a dict: text as ``str``, numbers as ``int``, and NumPy arrays (copies, so that they can be written to)
    for the rest. Nothing is read before it is asked for; a worker process opens the files for itself.

    :param folder: the part's folder, with ``dataset.json``.
    :raises ValueError: when the folder holds another layout.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        described = json.loads((self.folder / "dataset.json").read_text("utf-8"))
        if described.get("layout") != "labelops-arrays/1":
            raise ValueError(f"{self.folder}: layout: found {described.get('layout')!r}; allowed: labelops-arrays/1")
        self.labels: list[str] = described["labels"]
        self.relation_labels: list[str] = described.get("relation_labels", [])
        self._rows: int = described["rows"]
        self._kinds: dict[str, str] = {name: one["kind"] for name, one in described["columns"].items()}
        self._values = {name: self._open(name, kind) for name, kind in self._kinds.items()}
        self._offsets = {
            name: self._array(f"{name}.offsets.npy")
            for name, kind in self._kinds.items()
            if kind in ("text", "ints", "floats")
        }

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, place: int) -> dict[str, Any]:
        if not -self._rows <= place < self._rows:
            raise IndexError(f"{place}: the dataset has {self._rows} rows")
        place %= self._rows
        return {name: self._value(name, kind, place) for name, kind in self._kinds.items()}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[place] for place in range(self._rows))

    def __reduce__(self) -> tuple[type[ArrayDataset], tuple[str]]:
        return type(self), (str(self.folder),)

    def _value(self, name: str, kind: str, place: int) -> Any:
        values = self._values[name]
        if kind == "int":
            return int(values[place])
        if kind == "vector":
            return np.array(values[place])
        start, end = self._offsets[name][place : place + 2]
        return bytes(values[start:end]).decode("utf-8") if kind == "text" else np.array(values[start:end])

    def _open(self, name: str, kind: str) -> Any:
        if kind != "text":
            return self._array(f"{name}.npy")
        file = self.folder / f"{name}.bin"
        return np.memmap(file, np.uint8, "r") if file.stat().st_size else np.empty(0, np.uint8)

    def _array(self, name: str) -> Any:
        # An array of no number cannot be mapped.
        file = self.folder / name
        try:
            return np.load(file, mmap_mode="r")
        except ValueError:
            return np.load(file)


def keep_lists(items: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Return a batch as a list for each column: a ``collate_fn`` for columns that differ in length between rows."""
    return {name: [item[name] for item in items] for name in items[0]}
