"""Counting rows, answers and labels in a release's own data files, to hold them against its manifest."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from include.base.canonical import canonical_json
from include.base.errors import InvalidInput
from include.base.reading import json_lines

__all__ = ["Tally", "recount"]

_BATCH = 5000
_GIVEN = {
    "textcat": ("label",),
    "choice": ("accept",),
    "ner": ("spans",),
    "spans": ("spans",),
    "image": ("regions", "spans"),
    "audio": ("segments", "audio_spans"),
    "relations": ("spans", "relations"),
}
"""Columns that hold the labels given, by interface; other columns may show the annotator labels that nobody gave."""


@dataclass
class Tally:
    """What some data files hold.

    :param content: sum over all rows of the SHA-256 of task, answer and labels, modulo 2^256: the same for the same
        rows in any order, format or split.
    """

    rows: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    content: int = 0

    def __iadd__(self, other: Tally) -> Tally:
        self.rows += other.rows
        self.labels += other.labels
        self.answers += other.answers
        self.content = (self.content + other.content) % 2**256
        return self

    def add(self, task_id: str, answer: str, labels: list[str]) -> None:
        """Count one row."""
        self.rows += 1
        self.answers[answer] += 1
        if answer == "accept" and not labels:
            self.answers["none"] += 1
        self.labels.update(labels)
        said = hashlib.sha256(canonical_json([task_id, answer, sorted(labels)])).digest()
        self.content = (self.content + int.from_bytes(said, "big")) % 2**256


def recount(path: Path, name: str, interface: str) -> Tally:
    """Count one file of JSON lines or Parquet, a batch of rows at a time.

    :param interface: of the project, as the manifest names it.
    :raises InvalidInput: naming ``name`` when it cannot be read as that.
    """
    tally, given = Tally(), _GIVEN.get(interface, ())
    for number, row in enumerate(_parquet(path, name) if name.endswith(".parquet") else json_lines(path, name), 1):
        try:
            task_id = row["task_id"] if "task_id" in row else row["meta"]["task_id"]
            tally.add(str(task_id), str(row["answer"]), _labels(row, given))
        except (KeyError, TypeError, AttributeError) as error:
            raise InvalidInput(f"{name}: row {number}: is no labelled task ({error!r})") from error
    return tally


def _labels(row: Mapping[str, Any], given: tuple[str, ...]) -> list[str]:
    """Return the labels that an accepted row gives, as ``include.annotation.values.labels_of`` counts them."""
    found: list[str] = []
    for name in given if row["answer"] == "accept" else ():
        value = row.get(name)
        for one in [value] if isinstance(value, str) else value or ():
            found.append(str(one["label"]) if isinstance(one, Mapping) else str(one))
    return found


def _parquet(path: Path, name: str) -> Iterator[dict[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    wanted = {"task_id", "answer", *itertools.chain.from_iterable(_GIVEN.values())}
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            columns = [column for column in file.schema_arrow.names if column in wanted]
            for batch in file.iter_batches(batch_size=_BATCH, columns=columns):
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise InvalidInput(f"{name}: no Parquet file ({error})") from error
