"""Where a format's files are made, counted, and put into place.

Files are made in a local temporary folder, for most libraries write nowhere else, and copied to their place (a local
folder or a cloud store) when all of them are whole: a format that fails leaves nothing behind.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar

from include.base.canonical import canonical_json
from include.base.errors import InvalidInput
from include.base.store import BLOCK, StorePath, atomic_file, measure
from include.projects.model import Project

__all__ = ["REPORT", "SPLITS", "Assignment", "ExportedFile", "Job", "LeftOut", "Media", "Output", "dump", "place"]

SPLITS = ("train", "dev", "test")
"""The parts of a split version, in the order in which they are listed."""

REPORT = "skipped.jsonl"
"""The file of what an export does not hold: ``task_id``, ``reason``, ``detail``, whether the row is ``left_out``."""

Media = Callable[[str], bytes | None]
"""Returns the first bytes of the media that a reference names (64 KB are enough), None where they are not kept."""

Made = TypeVar("Made")


@dataclass(frozen=True)
class Assignment:
    """Which part each task of a version belongs to.

    :param parts: names of the parts, in order; a part may be empty.
    :param by_task: part by task id; a task without one is left out of every part, and reported.
    :param reasons: for a task left out, why; ``not_assigned`` where it says nothing.
    """

    parts: tuple[str, ...]
    by_task: Mapping[str, str]
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ExportedFile:
    """One file: SHA-256 of its bytes in hex, its size in bytes, and how many rows it holds (0 for labels)."""

    sha256: str
    bytes: int
    rows: int


class LeftOut(Exception):
    """A row that a format cannot hold; caught and reported by :meth:`Job.made`.

    :param detail: more about it, without content of the row.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


class Output:
    """The files of one export in the making.

    :param folder: an empty local folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rows: dict[str, int] = {}
        self.skipped: Counter[str] = Counter()
        self.noted: Counter[str] = Counter()
        self.splits: Counter[str] = Counter()
        self._report: IO[bytes] | None = None

    def path(self, name: str, rows: int = 0) -> Path:
        """Return where to write a file of the export; ``name`` may hold folders."""
        place = self._folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        self._rows[name] = rows
        return place

    def set_rows(self, name: str, rows: int) -> None:
        """Say how many rows a file holds."""
        self._rows[name] = rows

    def rename(self, name: str, better: str) -> None:
        """Give a file that is written another name."""
        self.path(name).rename(self.path(better, self._rows.pop(name)))

    def write_json(self, name: str, value: Any) -> None:
        """Write a small JSON file, indented for people."""
        import json

        self.path(name).write_bytes(json.dumps(value, ensure_ascii=False, indent=2).encode("utf-8") + b"\n")

    def skip(self, task_id: str, reason: str, detail: str = "") -> None:
        """Report a row that the export leaves out. ``detail`` holds no content of the row."""
        self.skipped[reason] += 1
        self._line(task_id, reason, detail, left_out=True)

    def note(self, task_id: str, reason: str, detail: str = "") -> None:
        """Report a row that the export holds, but not with all that its answer says."""
        self.noted[reason] += 1
        self._line(task_id, reason, detail, left_out=False)

    def put(self, folder: StorePath) -> dict[str, ExportedFile]:
        """Copy every file to its place; return them by name, sorted."""
        if self._report is not None:
            self._report.close()
        return {
            name: place(self._folder / name, folder.joinpath(*name.split("/")), self._rows[name])
            for name in sorted(self._rows)
        }

    def _line(self, task_id: str, reason: str, detail: str, *, left_out: bool) -> None:
        if self._report is None:
            self._report = self.path(REPORT).open("wb")
        self._rows[REPORT] += 1
        line = {"task_id": task_id, "reason": reason, "detail": detail, "left_out": left_out}
        self._report.write(canonical_json(line) + b"\n")


@dataclass(frozen=True)
class Job:
    """What a writer is given.

    :param rows: gives a new stream of the version's rows at each call, in the version's order.
    :param interface: the project's interface.
    :param number: the version's number in the project.
    """

    rows: Callable[[], Iterable[dict[str, Any]]]
    project: Project
    interface: str
    number: int
    splits: Assignment | None
    media: Media | None
    out: Output

    @property
    def parts(self) -> tuple[str, ...]:
        """Return the names of the parts to write; one without a name where the version is not split."""
        return self.splits.parts if self.splits is not None else ("",)

    def items(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Stream (part, row); rows that belong to no part are reported. To be used once: it reports as it goes."""
        if self.splits is None:
            for row in self.rows():
                yield "", row
            return
        for row in self.rows():
            part = self.splits.by_task.get(row["task_id"])
            if part is None:
                self.out.skip(row["task_id"], self.splits.reasons.get(row["task_id"], "not_assigned"))
            elif part not in self.splits.parts:
                raise InvalidInput(
                    f"task {row['task_id']}: split: found {part!r}; allowed: {', '.join(self.splits.parts)}"
                )
            else:
                yield part, row

    def relation_labels(self, found: set[str]) -> list[str]:
        """Return the project's labels of relations in their order, then those of ``found`` that it does not name."""
        known = list(self.project.annotation.relation_labels)
        return known + sorted(found.difference(known))

    def made(self, make: Callable[[dict[str, Any]], Made], row: dict[str, Any]) -> Made | None:
        """Return what ``make`` makes of a row, None where it is left out, which is reported."""
        try:
            return make(row)
        except LeftOut as left_out:
            self.out.skip(row["task_id"], left_out.reason, left_out.detail)
            return None

    def took(self, part: str, rows: int) -> None:
        """Count the rows that a part holds."""
        if self.splits is not None:
            self.out.splits[part] += rows

    def labels(self, found_in: Callable[[dict[str, Any]], Iterable[str]]) -> list[str]:
        """Return the project's labels in their order, then those that only rows have, sorted; reads all rows."""
        known = list(self.project.annotation.labels)
        others: set[str] = set()
        for row in self.rows():
            others.update(found_in(row))
        return known + sorted(others.difference(known))


def dump(value: Any) -> bytes:
    """Return a row as one JSON line: UTF-8, keys in their order, no spaces, a line feed at the end."""
    import orjson

    try:
        return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError:  # a whole number of more than 64 bits
        import json

        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8") + b"\n"


def place(source: Path, target: StorePath, rows: int) -> ExportedFile:
    """Copy a local file to its place unless it is there already.

    :raises InvalidInput: when other bytes are there; an export is never written again.
    """
    if target.exists():
        found = measure(source)
        if measure(target).sha256 != found.sha256:
            raise InvalidInput(f"{target}: already holds other bytes; an export is never written again")
        return ExportedFile(found.sha256, found.size, rows)
    state, size = hashlib.sha256(), 0
    with source.open("rb") as content, atomic_file(target) as out:
        while block := content.read(BLOCK):
            state.update(block)
            size += len(block)
            out.write(block)
    return ExportedFile(state.hexdigest(), size, rows)
