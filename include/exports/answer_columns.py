"""Answers as Parquet with typed columns, built column by column from pieces of stored rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from include.annotation.tasks import MEDIA_KEYS, shown
from include.base.canonical import sha256_hex
from include.base.errors import InvalidInput
from include.systems.prodigy.content import annotator_of, parse_content, stored_bytes
from include.systems.prodigy.values import Piece

__all__ = ["columns_of", "schema_of"]

SPAN = pa.struct([("start", pa.int64()), ("end", pa.int64()), ("label", pa.string())])
REGION = pa.struct([("label", pa.string()), ("shape", pa.string()), ("points", pa.list_(pa.list_(pa.float64())))])
SEGMENT = pa.struct([("start", pa.float64()), ("end", pa.float64()), ("label", pa.string())])
SIDES = ("head", "child", "head_start", "head_end", "child_start", "child_end")
RELATION = pa.struct([*((name, pa.int64()) for name in SIDES), ("label", pa.string())])

TEXTS = (("view_id", "_view_id"), ("answer", "answer"), ("text", "text"), ("html", "html"), ("label", "label"))
"""Columns that are a string of the row, with its key."""

EARLIEST, LATEST = -62_135_596_800, 253_402_300_799
"""The years 1 to 9999 in seconds since 1970."""


def schema_of(raw: bool = False) -> pa.Schema:
    """Return the columns of an export.

    ``row`` is the SHA-256 of the stored bytes, by which versions name their answers. ``annotator`` is the account as
    :func:`include.annotation.answers.read_answer` works it out. ``text`` to ``relations`` are as stored, whatever the
    answer was: of an ``ignore`` the marks are what happened to be on the screen. A file that is embedded as a ``data:``
    address is named ``sha256:<digest>``. ``problem`` says what of a row could not be put into its column.

    :param raw: with the stored bytes.
    """
    fields = [
        pa.field("link_id", pa.int64(), nullable=False),
        pa.field("example_id", pa.int64(), nullable=False),
        pa.field("row", pa.string(), nullable=False),
        pa.field("input_hash", pa.int64()),
        pa.field("task_hash", pa.int64()),
        ("task_id", pa.string()),
        ("annotator", pa.string()),
        ("session", pa.string()),
        ("time", pa.timestamp("us", tz="UTC")),
        ("round", pa.int64()),
        ("guideline", pa.string()),
        ("guideline_number", pa.int64()),
        ("labels_digest", pa.string()),
        ("flagged", pa.bool_()),
        *((name, pa.string()) for name, _ in TEXTS),
        *((name, pa.string()) for name in MEDIA_KEYS),
        ("options", pa.list_(pa.string())),
        ("accept", pa.list_(pa.string())),
        ("spans", pa.list_(SPAN)),
        ("regions", pa.list_(REGION)),
        ("segments", pa.list_(SEGMENT)),
        ("relations", pa.list_(RELATION)),
        ("problem", pa.string()),
    ]
    return pa.schema([*fields, *([("raw", pa.binary())] if raw else [])])


def columns_of(
    piece: Piece,
    dataset: str,
    *,
    raw: bool = False,
    reject: Callable[[tuple[int, Any, int, int, int], bytes, str], None] = lambda row, content, problem: None,
) -> tuple[pa.RecordBatch, int]:
    """Return a piece's rows as columns, and of how many a column could not be filled.

    :param dataset: whose answers they are; sessions are named after it.
    :param reject: told of each row that is no JSON object, which is left out.
    """
    rows, contents, stored = [], [], []
    for row in piece.rows:
        content = stored_bytes(row[1])
        try:
            parsed = parse_content(content)
        except InvalidInput as error:
            reject(row, content, str(error))
            continue
        # Most of the objects of a row, and no column of ours: why hold those of thousands of rows.
        parsed.pop("tokens", None)
        contents.append(parsed)
        rows.append(row)
        stored.append(content)
    columns = _Columns(contents)
    columns.ids(rows, stored)
    columns.stamps()
    columns.people([piece.sessions.get(row[2]) for row in rows], dataset)
    columns.answers()
    columns.marks()
    found = columns.found
    found["problem"] = pa.array(columns.problems, pa.string())
    if raw:
        found["raw"] = pa.array(stored, pa.binary())
    schema = schema_of(raw)
    for one in schema:
        if one.name not in found:
            # No row of the piece has it.
            found[one.name] = pa.nulls(len(rows), one.type)
    batch = pa.RecordBatch.from_arrays([found[name] for name in schema.names], schema=schema)
    return batch, len(rows) - found["problem"].null_count


class _Columns:
    """The columns of some rows. What does not fit is left empty and noted, row by row."""

    def __init__(self, contents: list[dict[str, Any]]) -> None:
        self._contents = contents
        self._keys: set[str] = set().union(*contents)
        self.found: dict[str, pa.Array] = {}
        self.problems: list[str | None] = [None] * len(contents)

    def ids(self, rows: list[tuple[int, Any, int, int, int]], stored: list[bytes]) -> None:
        """Fill in what the database says."""
        sha256 = hashlib.sha256
        for name, place in (("link_id", 0), ("example_id", 2), ("input_hash", 3), ("task_hash", 4)):
            self.found[name] = pa.array([row[place] for row in rows], pa.int64())
        self.found["row"] = pa.array([sha256(content).hexdigest() for content in stored], pa.string())

    def stamps(self) -> None:
        """Fill in what Labelops put on the task: its id, and under which guideline it was served."""
        ours = [
            self._object(place, content.get("labelops"), "labelops") for place, content in enumerate(self._contents)
        ]
        served = [self._object(place, one.get("served"), "labelops.served") for place, one in enumerate(ours)]
        self._texts("task_id", [one.get("task_id") for one in ours])
        for name in ("guideline", "labels_digest"):
            self._texts(name, [one.get(name) for one in served])
        for name in ("round", "guideline_number"):
            self._wholes(name, [one.get(name) for one in served])

    def people(self, linked: list[str | None], dataset: str) -> None:
        """Fill in who answered, in which session, and when."""
        contents = self._contents
        names = [
            self._texts(key, [content.get(key) for content in contents]) for key in ("_annotator_id", "_session_id")
        ]
        found = [
            annotator_of(annotator or None, session, named or None, dataset, review=content.get("versions") is not None)
            for annotator, session, named, content in zip(names[0], linked, names[1], contents, strict=True)
        ]
        self.found["annotator"] = pa.array(found, pa.string())
        sessions = [session or named or None for session, named in zip(linked, names[1], strict=True)]
        self.found["session"] = pa.array(sessions, pa.string())
        times = [
            moment
            if moment is None
            else round(moment * 1_000_000)
            if type(moment) in (int, float) and EARLIEST <= moment <= LATEST
            else self._note(place, "_timestamp", "seconds since 1970")
            for place, moment in enumerate([content.get("_timestamp") for content in contents])
        ]
        self.found["time"] = pa.array(times, pa.timestamp("us", tz="UTC"))

    def answers(self) -> None:
        """Fill in what was shown, and what was said about all of it."""
        contents = self._contents
        for name, key in TEXTS:
            if key in self._keys:
                self._texts(name, [content.get(key) for content in contents])
        for key in MEDIA_KEYS:
            if key in self._keys:
                self._texts(key, [self._media(content, key) for content in contents])
        self.found["flagged"] = pa.array([content.get("flagged") is True for content in contents], pa.bool_())
        if "options" in self._keys:
            options = [self._list(place, content.get("options"), "options") for place, content in enumerate(contents)]
            ids = [
                found and [option.get("id") if isinstance(option, dict) else option for option in found]
                for found in options
            ]
            self._names("options", ids)
        if "accept" in self._keys:
            self._names(
                "accept", [self._list(place, content.get("accept"), "accept") for place, content in enumerate(contents)]
            )

    def marks(self) -> None:
        """Fill in spans, regions, segments and relations."""
        if "spans" in self._keys:
            self._spans_and_regions()
        if "audio_spans" in self._keys:
            self._structs(
                "segments",
                self._objects("audio_spans"),
                {"start": self._float_array, "end": self._float_array, "label": self._text_array},
            )
        if "relations" in self._keys:
            flat = [found and [_relation(one) for one in found] for found in self._objects("relations")]
            self._structs("relations", flat, {**dict.fromkeys(SIDES, self._int_array), "label": self._text_array})

    def _spans_and_regions(self) -> None:
        found = self._objects("spans")
        drawn = {
            place
            for place, marks in enumerate(found)
            if marks and ("start" not in marks[0] or self._contents[place].get("_view_id") == "image_manual")
        }
        self._structs(
            "spans",
            [None if place in drawn else marks for place, marks in enumerate(found)] if drawn else found,
            {"start": self._int_array, "end": self._int_array, "label": self._text_array},
        )
        if drawn:
            self.found["regions"] = pa.array(
                [
                    [self._region(place, one) for one in marks or ()] if place in drawn else None
                    for place, marks in enumerate(found)
                ],
                pa.list_(REGION),
            )

    # One kind of value each; a column is tried as a whole first, for nearly always it fits --------------------------

    def _texts(self, name: str, values: list[Any]) -> list[Any]:
        try:
            self.found[name] = pa.array(values, pa.string())
        except (pa.ArrowException, UnicodeEncodeError, OverflowError, TypeError):
            values = [self._text(place, value, name) for place, value in enumerate(values)]
            self.found[name] = pa.array(values, pa.string())
        return values

    def _wholes(self, name: str, values: list[Any]) -> None:
        self.found[name] = self._int_array(name, values, range(len(values)))

    def _names(self, name: str, values: list[list[Any] | None]) -> None:
        """Fill in lists of option ids: strings, and whole numbers as their digits."""
        self.found[name] = pa.array(
            [
                found
                if found is None
                else [str(one) if type(one) is int else self._text(place, one, name) for one in found]
                for place, found in enumerate(values)
            ],
            pa.list_(pa.string()),
        )

    def _structs(
        self,
        name: str,
        lists: list[list[dict[str, Any]] | None],
        fields: Mapping[str, Callable[[str, list[Any], list[int]], pa.Array]],
    ) -> None:
        """Fill in lists of objects, each field of all of them at once."""
        kind = schema_of().field(name).type
        if not any(lists):
            self.found[name] = pa.array([found if found is None else [] for found in lists], kind)
            return
        offsets: list[int | None] = []
        flat: list[dict[str, Any]] = []
        places: list[int] = []
        for place, found in enumerate(lists):
            offsets.append(None if found is None else len(flat))
            if found:
                flat += found
                places += [place] * len(found)
        offsets.append(len(flat))
        arrays = [read(f"{name}.{key}", [one.get(key) for one in flat], places) for key, read in fields.items()]
        structs = pa.StructArray.from_arrays(arrays, fields=list(kind.value_type))
        self.found[name] = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), structs, type=kind)

    def _int_array(self, name: str, values: list[Any], places: Sequence[int]) -> pa.Array:
        wrong = "a whole number"
        checked = [
            one if one is None or (type(one) is int and abs(one) < 2**63) else self._note(place, name, wrong)
            for place, one in zip(places, values, strict=True)
        ]
        return pa.array(checked, pa.int64())

    def _float_array(self, name: str, values: list[Any], places: list[int]) -> pa.Array:
        checked = [self._float(place, value, name) for place, value in zip(places, values, strict=True)]
        return pa.array(checked, pa.float64())

    def _text_array(self, name: str, values: list[Any], places: list[int]) -> pa.Array:
        try:
            return pa.array(values, pa.string())
        except (pa.ArrowException, UnicodeEncodeError, OverflowError, TypeError):
            checked = [self._text(place, value, name) for place, value in zip(places, values, strict=True)]
            return pa.array(checked, pa.string())

    # One value each -------------------------------------------------------------------------------------------------

    def _text(self, place: int, value: Any, name: str) -> str | None:
        if value is None:
            return None
        if isinstance(value, str):
            try:
                value.encode()
            except UnicodeEncodeError:
                return self._note(place, name, "text without half of a surrogate pair")
            return value
        return self._note(place, name, "a string")

    def _float(self, place: int, value: Any, name: str) -> float | None:
        if value is None or type(value) in (int, float):
            try:
                return None if value is None else float(value)
            except OverflowError:
                pass
        return self._note(place, name, "a number")

    def _object(self, place: int, value: Any, name: str) -> Mapping[str, Any]:
        if value is None or isinstance(value, dict):
            return value or {}
        self._note(place, name, "an object")
        return {}

    def _list(self, place: int, value: Any, name: str) -> list[Any] | None:
        return value if value is None or isinstance(value, list) else self._note(place, name, "a list")

    def _objects(self, key: str) -> list[list[dict[str, Any]] | None]:
        """Return a list of objects of each row."""
        found = [content.get(key) for content in self._contents]
        return [
            value
            if value is None or (type(value) is list and all(type(one) is dict for one in value))
            else self._note(place, key, "a list of objects")
            for place, value in enumerate(found)
        ]

    def _media(self, content: Mapping[str, Any], key: str) -> Any:
        value = content.get(key)
        if not isinstance(value, str) or not value.startswith("data:"):
            return value
        try:
            return shown({key: value})[key]
        except InvalidInput:
            return f"sha256:{sha256_hex(value.encode('utf-8', 'surrogatepass'))} (of the address)"

    def _region(self, place: int, found: Mapping[str, Any]) -> dict[str, Any]:
        points = found.get("points")
        if points is None and isinstance(found.get("width"), (int, float)):
            sides = [self._float(place, found.get(name), f"spans.{name}") for name in ("x", "y", "width", "height")]
            x, y, width, height = (side or 0.0 for side in sides)
            points = [[x, y], [x, y + height], [x + width, y + height], [x + width, y]]
        if points is not None and not (
            isinstance(points, list) and all(isinstance(point, list) and len(point) == 2 for point in points)
        ):
            points = self._note(place, "spans.points", "a list of [x, y]")
        return {
            "label": self._text(place, found.get("label"), "spans.label"),
            "shape": self._text(place, found.get("type"), "spans.type"),
            "points": points and [[self._float(place, side, "spans.points") for side in point] for point in points],
        }

    def _note(self, place: int, name: str, allowed: str) -> Any:
        """Note what did not fit, and return what stands in its place: nothing."""
        if self.problems[place] is None:
            self.problems[place] = f"{name}: allowed: {allowed}"
        return None


def _relation(found: Mapping[str, Any]) -> dict[str, Any]:
    ends: Iterable[tuple[str, Any]] = (
        (f"{side}_{name}", span.get(name) if isinstance(span, dict) else None)
        for side in ("head", "child")
        for span in (found.get(f"{side}_span"),)
        for name in ("start", "end")
    )
    return {"head": found.get("head"), "child": found.get("child"), "label": found.get("label"), **dict(ends)}
