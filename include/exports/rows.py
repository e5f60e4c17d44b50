"""What the writers ask of a version's row: its content, its answer, and the same as a task of Prodigy's.

A row is what ``include.datasets.freeze.rows`` yields: ``task_id``, ``shown`` (what the annotator saw), ``value`` (the
canonical answer), ``basis``, ``round`` and the answers behind it. Fractions are decimal text in a version, whose bytes
are digested, and numbers in what is exported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from include.annotation.tasks import CONTENT_KEYS
from include.annotation.tokens import tokenize
from include.base.errors import InvalidInput
from include.projects.model import VIEW_IDS, Interface
from include.systems.prodigy.hashes import set_hashes

__all__ = [
    "CONTENT_KEYS",
    "INTERFACES",
    "accepted",
    "corners",
    "interface_of",
    "labels_in",
    "number",
    "options_of",
    "overlapping",
    "size_of",
    "text_of",
    "training_row",
]

_AFTERWARDS = ("width", "height", "tokens")
"""What a task gets after it was hashed."""

INTERFACES = tuple(str(one) for one in Interface)
"""The interfaces that an answer can come from."""


def interface_of(row: Mapping[str, Any]) -> str:
    """Return the interface of a row's answer.

    :raises InvalidInput: for one that is unknown.
    """
    found = str(row["value"].get("interface"))
    if found not in INTERFACES:
        raise InvalidInput(f"task {row['task_id']}: value.interface: found {found!r}; allowed: {', '.join(INTERFACES)}")
    return found


def number(found: Any) -> int | float:
    """Return a number that a version holds as decimal text; a whole one as ``int``.

    :raises InvalidInput: for anything that is not a finite number.
    """
    if isinstance(found, bool) or not isinstance(found, (str, int, float)):
        raise InvalidInput(f"found {found!r:.60}; allowed: a number, or one as decimal text")
    try:
        value = float(found)
    except ValueError as error:
        raise InvalidInput(f"found {found!r:.60}; allowed: a number, or one as decimal text") from error
    if value - value != 0:  # infinite, or not a number
        raise InvalidInput(f"found {found!r:.60}; allowed: a finite number")
    return int(value) if value.is_integer() else value


def text_of(row: Mapping[str, Any]) -> str | None:
    """Return the text that was shown, None where the task shows something else."""
    text = row["shown"].get("text")
    return text if isinstance(text, str) else None


def options_of(row: Mapping[str, Any]) -> list[str]:
    """Return the ids of the options that were shown, in their order, as text."""
    return [str(option["id"]) for option in row["shown"].get("options") or ()]


def size_of(row: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the image's (width, height) in whole pixels where the task says them."""
    shown = row["shown"]
    if shown.get("width") is None or shown.get("height") is None:
        return None
    width, height = (round(number(shown[key])) for key in ("width", "height"))
    return (width, height) if width > 0 and height > 0 else None


def accepted(row: Mapping[str, Any]) -> bool:
    """Tell whether the answer is ``accept``: only then does it say what is in the content."""
    return bool(row["value"]["answer"] == "accept")


def labels_in(row: Mapping[str, Any]) -> list[str]:
    """Return the labels that a row's answer speaks of (for options: all that could be picked), repeated as given.

    Those of relations are not among them.
    """
    value = row["value"]
    interface = interface_of(row)
    if interface == "textcat":
        return [str(value["label"])]
    if interface == "choice":
        return [*options_of(row), *map(str, value.get("accept", ()))]
    if interface == "image":
        return [str(label) for label, _, _ in value.get("regions", ())]
    if interface == "audio":
        return [str(label) for _, _, label in value.get("segments", ())]
    return [str(label) for _, _, label in value.get("spans", ())]


def overlapping(spans: Iterable[Sequence[Any]]) -> bool:
    """Tell whether two of some (start, end, label) share a character."""
    last = -1
    for start, end, _ in sorted((int(start), int(end), str(label)) for start, end, label in spans):
        if start < last:
            return True
        last = max(last, end)
    return False


def corners(points: Sequence[Sequence[Any]]) -> tuple[int | float, int | float, int | float, int | float]:
    """Return the rectangle around some points as left, top, right, bottom, in pixels."""
    across = [number(x) for x, _ in points]
    down = [number(y) for _, y in points]
    return min(across), min(down), max(across), max(down)


def training_row(row: Mapping[str, Any], version: int) -> dict[str, Any]:
    """Return a version's row as a Prodigy task with its final answer, which ``prodigy db-in`` takes as it is.

    It carries what was shown, the answer in the interface's own fields, ``meta`` with the task's id, and Prodigy's
    hashes (computed on what was shown, as when the task was made).

    :param version: the version's number in the project.
    :raises InvalidInput: naming the task whose answer is not of its interface's shape.
    """
    interface = interface_of(row)
    task = {key: inner for key, inner in row["shown"].items() if not key.startswith("_")}
    hashed = set_hashes({key: inner for key, inner in row["shown"].items() if key not in _AFTERWARDS})
    for key in ("width", "height"):
        if isinstance(task.get(key), str):
            task[key] = number(task[key])
    try:
        fields = _fields(interface, row["value"], task)
    except (TypeError, ValueError, KeyError, InvalidInput) as error:
        raise InvalidInput(f"task {row['task_id']}: value: not an answer of {interface} ({error})") from error
    return {
        **task,
        **fields,
        "meta": {"task_id": row["task_id"], "version": version, "basis": row["basis"], "round": row["round"]},
        "_input_hash": hashed["_input_hash"],
        "_task_hash": hashed["_task_hash"],
        "_view_id": VIEW_IDS[Interface(interface)],
    }


def _fields(interface: str, value: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, Any]:
    """Return an answer in Prodigy's fields of its interface."""
    fields = {key: inner for key, inner in value.items() if key not in ("interface", "regions", "segments")}
    if "regions" in value:
        fields["spans"] = [_region(*region) for region in value["regions"]]
    elif "segments" in value:
        fields["audio_spans"] = [
            {"start": number(start), "end": number(end), "label": label} for start, end, label in value["segments"]
        ]
    elif interface == "relations" and "spans" in value:
        fields.update(_relations(value, task))
    elif "spans" in value:
        places = _places(task["tokens"]) if task.get("tokens") else None
        fields["spans"] = [_span(start, end, label, places) for start, end, label in value["spans"]]
    return fields


def _region(label: str, kind: str, points: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """Return a region as ``image_manual`` saves it; a rectangle with its four corners and its centre."""
    if kind != "rect":
        return {"label": label, "type": kind, "points": [[number(x), number(y)] for x, y in points]}
    left, top, right, bottom = corners(points)
    return {
        "label": label,
        "type": "rect",
        "points": [[left, top], [left, bottom], [right, bottom], [right, top]],
        "x": left,
        "y": top,
        "width": right - left,
        "height": bottom - top,
        "center": [(left + right) / 2, (top + bottom) / 2],
    }


def _relations(value: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, Any]:
    """Return spans and relations as Prodigy's ``relations`` saves them.

    ``head`` and ``child`` are the id of the last token of their span (explosion/projects, ``rel_component``,
    ``parse_data.py``), so tokens go with them: the task's own, or the ones that tasks are made with here.
    """
    tokens = task.get("tokens") or tokenize(task["text"])
    places = _places(tokens)
    labels = {(start, end): label for start, end, label in value["spans"]}
    relations = []
    for head_start, head_end, child_start, child_end, label in value.get("relations", ()):
        head = _span(head_start, head_end, labels.get((head_start, head_end)), places)
        child = _span(child_start, child_end, labels.get((child_start, child_end)), places)
        relations.append(
            {
                "head": head.get("token_end"),
                "child": child.get("token_end"),
                "head_span": head,
                "child_span": child,
                "label": label,
            }
        )
    return {
        "tokens": tokens,
        "spans": [_span(start, end, label, places) for start, end, label in value["spans"]],
        "relations": relations,
    }


def _places(tokens: Iterable[Mapping[str, Any]]) -> tuple[dict[int, int], dict[int, int]]:
    starts, ends = {}, {}
    for place, token in enumerate(tokens):
        starts[int(token["start"])] = ends[int(token["end"])] = int(token.get("id", place))
    return starts, ends


def _span(
    start: int, end: int, label: str | None, places: tuple[dict[int, int], dict[int, int]] | None
) -> dict[str, Any]:
    span: dict[str, Any] = {"start": start, "end": end, "label": label}
    if places is not None and start in places[0] and end in places[1]:
        span |= {"token_start": places[0][start], "token_end": places[1][end]}
    return span
