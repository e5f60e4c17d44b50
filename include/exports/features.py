"""One schema of plain columns for the formats that hold numbers: TFRecord and the memory-mapped arrays.

A label is its place in the list of labels (the project's in their order, then others sorted). Offsets of spans count
Unicode code points of ``text``, the end exclusive; points are pixels from the top left corner, segments seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from include.exports.output import Job, LeftOut
from include.exports.rows import accepted, corners, labels_in, number, size_of

__all__ = ["Column", "Encoder", "encoder"]

KINDS = ("rect", "polygon", "freehand")
"""The kinds of a region; ``region_kind`` is the place in it."""


@dataclass(frozen=True)
class Column:
    """One column.

    :param kind: ``text``; ``int``, one number; ``ints`` and ``floats``, any number of them; ``vector``, a fixed number
        of whole numbers, one for each label.
    """

    name: str
    kind: Literal["text", "int", "ints", "floats", "vector"]
    about: str


_TASK = Column("task_id", "text", "SHA-256 that names the task")
_TEXT = Column("text", "text", "the text, as it was shown")
_ANY = (
    _TEXT,
    Column("image", "text", "reference of the image; empty where none was shown"),
    Column("audio", "text", "reference of the sound; empty where none was shown"),
    Column("video", "text", "reference of the film; empty where none was shown"),
    Column("html", "text", "the HTML, as it was shown; empty where none was"),
)
_SPANS = (
    Column("span_start", "ints", "first code point of each span"),
    Column("span_end", "ints", "code point behind each span"),
    Column("span_label", "ints", "label of each span"),
)
_COLUMNS: Mapping[str, tuple[Column, ...]] = {
    "textcat": (
        *_ANY,
        Column("label", "int", "the label that was asked about"),
        Column("target", "int", "1 for accept, 0 for reject"),
    ),
    "choice": (*_ANY, Column("label", "int", "the option that was picked")),
    "choice_multiple": (*_ANY, Column("target", "vector", "1 for each option that was picked, else 0")),
    "ner": (_TEXT, *_SPANS),
    "spans": (_TEXT, *_SPANS),
    "image": (
        Column("image", "text", "reference of the image"),
        Column("width", "int", "pixels; 0 where unknown"),
        Column("height", "int", "pixels; 0 where unknown"),
        Column("region_label", "ints", "label of each region"),
        Column("region_kind", "ints", "0 rectangle, 1 polygon, 2 drawn by hand, for each region"),
        Column("region_box", "floats", "left, top, width, height of each region"),
        Column("region_points", "ints", "how many points each region has"),
        Column("points", "floats", "x, y of each point, region after region; a rectangle has two corners"),
    ),
    "audio": (
        Column("audio", "text", "reference of the sound"),
        Column("segment_start", "floats", "seconds"),
        Column("segment_end", "floats", "seconds"),
        Column("segment_label", "ints", "label of each segment"),
    ),
    "relations": (
        _TEXT,
        *_SPANS,
        *(
            Column(f"relation_{end}_{side}", "ints", f"{what} the {end} of each relation")
            for end in ("head", "child")
            for side, what in (("start", "first code point of"), ("end", "code point behind"))
        ),
        Column("relation_label", "ints", "label of each relation, its place in `relation_labels`"),
    ),
}


@dataclass(frozen=True)
class Encoder:
    """Turns a version's rows into columns.

    :param labels: names by place.
    :param relation_labels: the same for relations.
    """

    columns: tuple[Column, ...]
    labels: list[str]
    relation_labels: list[str]
    job: Job
    _places: Mapping[str, int] = field(repr=False)
    _relation_places: Mapping[str, int] = field(repr=False)

    def names(self) -> dict[str, list[str]]:
        """Return the content of ``labels.json``."""
        names = {"labels": self.labels}
        return names | {"relation_labels": self.relation_labels} if self.job.interface == "relations" else names

    def encode(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return a row's value for each column: text, a number, or a list of numbers.

        :raises LeftOut: when the answer gives nothing to learn from.
        """
        interface = self.job.interface
        if interface != "textcat" and not accepted(row):
            raise LeftOut("rejected", "the answer says nothing of the labels")
        if row["value"]["answer"] not in ("accept", "reject"):
            raise LeftOut("ignored")
        return {"task_id": row["task_id"], **self._content(row), **getattr(self, f"_{interface}")(row)}

    def _content(self, row: Mapping[str, Any]) -> dict[str, str]:
        shown = row["shown"]
        content = {one.name: shown.get(one.name) for one in self.columns if one.kind == "text"}
        del content["task_id"]
        found = {name: value if isinstance(value, str) else "" for name, value in content.items()}
        if not any(found.values()):
            raise LeftOut("no_content", f"the task shows none of {', '.join(found)}")
        return found

    def _textcat(self, row: Mapping[str, Any]) -> dict[str, Any]:
        return {"label": self._places[str(row["value"]["label"])], "target": int(accepted(row))}

    def _choice(self, row: Mapping[str, Any]) -> dict[str, Any]:
        picked = [self._places[str(option)] for option in row["value"]["accept"]]
        if self.job.project.annotation.multiple:
            return {"target": [int(place in picked) for place in range(len(self.labels))]}
        if not picked:
            raise LeftOut("no_option", "none of the options is the label")
        return {"label": picked[0]}

    def _ner(self, row: Mapping[str, Any]) -> dict[str, Any]:
        spans = row["value"]["spans"]
        return {
            "span_start": [int(start) for start, _, _ in spans],
            "span_end": [int(end) for _, end, _ in spans],
            "span_label": [self._places[str(label)] for _, _, label in spans],
        }

    _spans = _ner

    def _relations(self, row: Mapping[str, Any]) -> dict[str, Any]:
        relations = row["value"].get("relations", ())
        ends = ("relation_head_start", "relation_head_end", "relation_child_start", "relation_child_end")
        return {
            **self._ner(row),
            **{name: [int(relation[place]) for relation in relations] for place, name in enumerate(ends)},
            "relation_label": [self._relation_places[str(relation[4])] for relation in relations],
        }

    def _image(self, row: Mapping[str, Any]) -> dict[str, Any]:
        regions = row["value"]["regions"]
        boxes = [corners(points) for _, _, points in regions]
        width, height = size_of(row) or (0, 0)
        return {
            "width": width,
            "height": height,
            "region_label": [self._places[str(label)] for label, _, _ in regions],
            "region_kind": [KINDS.index(kind) for _, kind, _ in regions],
            "region_box": [
                side for left, top, right, bottom in boxes for side in (left, top, right - left, bottom - top)
            ],
            "region_points": [len(points) for _, _, points in regions],
            "points": [number(side) for _, _, points in regions for point in points for side in point],
        }

    def _audio(self, row: Mapping[str, Any]) -> dict[str, Any]:
        segments = row["value"]["segments"]
        return {
            "segment_start": [number(start) for start, _, _ in segments],
            "segment_end": [number(end) for _, end, _ in segments],
            "segment_label": [self._places[str(label)] for _, _, label in segments],
        }


def encoder(job: Job) -> Encoder:
    """Return the encoder of a job's interface; reads the rows once, for their labels."""
    relation_labels: set[str] = set()

    def found_in(row: dict[str, Any]) -> list[str]:
        relation_labels.update(str(relation[4]) for relation in row["value"].get("relations", ()))
        return labels_in(row)

    labels = job.labels(found_in)
    multiple = job.interface == "choice" and job.project.annotation.multiple
    columns = _COLUMNS["choice_multiple" if multiple else job.interface]
    relations = job.relation_labels(relation_labels)
    return Encoder((_TASK, *columns), labels, relations, job, _by_name(labels), _by_name(relations))


def _by_name(names: list[str]) -> dict[str, int]:
    return {name: place for place, name in enumerate(names)}
