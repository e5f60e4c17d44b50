"""Rows of every interface, as a version holds them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from include.annotation.tasks import task_id
from include.annotation.tokens import tokenize
from include.exports import Export, export
from include.projects.load import load_project
from include.projects.model import Project
from include.settings import ROOT

_DEFINITIONS = ROOT / "include" / "projects" / "definitions"
LABELS = {
    "textcat": ("refund",),
    "choice": ("billing", "delivery", "other"),
    "ner": ("PRODUCT", "PLACE"),
    "spans": ("CLAIM", "REASON"),
    "image": ("car", "sign"),
    "audio": ("SPEECH", "NOISE"),
    "relations": ("PERSON", "FIRM"),
}
TEXTS = (
    "The 🙂 Router X2 from Köln broke.",
    "Nothing to mark here",
    "  Two  spaces\nand a line\u00a0break, then Berlin",
    "👩‍👩‍👧 bought a Router in नई दिल्ली.",
)


def project(interface: str, **annotation: Any) -> Project:
    base = load_project(_DEFINITIONS, "product_names")
    changes = {"interface": interface, "labels": LABELS[interface], **annotation}
    return base.model_copy(update={"annotation": base.annotation.model_copy(update=changes)})


def row(interface: str, shown: dict[str, Any], answer: str = "accept", **value: Any) -> dict[str, Any]:
    return {
        "task_id": task_id("product_names", {**shown, "input": interface}),
        "shown": shown,
        "value": {"interface": interface, "answer": answer, **value},
        "basis": "majority",
        "round": 1,
        "persons": 1,
        "answers": [{"person": "anna", "row": "0" * 64, "at": None, "guideline": None, "guideline_number": None}],
        "decision": None,
    }


def spans_in(text: str, **words: str) -> list[list[Any]]:
    return sorted([text.index(word), text.index(word) + len(word), label] for word, label in words.items())


def options(*labels: str) -> list[dict[str, str]]:
    return [{"id": label, "text": label} for label in labels]


def rows_of(interface: str) -> list[dict[str, Any]]:
    """Return rows with whatever an interface allows: emoji, several labels, none, a reject; sorted by task id."""
    return sorted(_rows(interface), key=lambda one: str(one["task_id"]))


def _rows(interface: str) -> list[dict[str, Any]]:
    if interface == "textcat":
        asked = [{"text": text, "label": "refund"} for text in TEXTS]
        return [
            *(row("textcat", one, label="refund") for one in asked[:2]),
            *(row("textcat", one, "reject", label="refund") for one in asked[2:]),
        ]
    if interface == "choice":
        asked_ = [{"text": text, "options": options(*LABELS["choice"])} for text in TEXTS]
        return [
            row("choice", asked_[0], accept=["billing"]),
            row("choice", asked_[1], accept=[]),
            row("choice", asked_[2], accept=["other"]),
            row("choice", asked_[3], "reject"),
        ]
    if interface in ("ner", "spans", "relations"):
        return _text_rows(interface)
    if interface == "image":
        return _image_rows()
    return [
        row(
            "audio",
            {"audio": "s3://calls/1.wav", "audio_sha256": "1" * 64},
            segments=[["0.25", "3", "SPEECH"], ["2.5", "4.125", "NOISE"]],
        ),
        row("audio", {"audio": "s3://calls/2.wav", "audio_sha256": "2" * 64}, segments=[]),
        row("audio", {"audio": "s3://calls/3.wav", "audio_sha256": "3" * 64}, "reject"),
    ]


def _text_rows(interface: str) -> list[dict[str, Any]]:
    first, second = LABELS[interface]
    found = [spans_in(TEXTS[0], **{"Router X2": first, "Köln": second}), []]
    found += [spans_in(TEXTS[2], Berlin=second), spans_in(TEXTS[3], **{"Router": first, "नई दिल्ली": second})]
    rows = [row(interface, {"text": text}, spans=spans) for text, spans in zip(TEXTS, found, strict=True)]
    rows.append(row(interface, {"text": "Rejected as a whole 🙂"}, "reject"))
    if interface == "spans":
        text = "Late because of snow, so refund"
        marks = [[0, 20, second], [5, 20, first], [0, 20, first], [25, 31, first]]
        rows.append(row("spans", {"text": text, "tokens": tokenize(text)}, spans=sorted(marks)))
    if interface == "relations":
        for one, spans in zip(rows, found, strict=False):
            pairs = [[*spans[0][:2], *spans[1][:2], "MADE_IN"]] if len(spans) == 2 else []
            one["value"]["relations"] = pairs
    return rows


def _image_rows() -> list[dict[str, Any]]:
    size = {"width": 640, "height": 480}
    shown = [{"image": f"s3://photos/{n}.png", "image_sha256": str(n) * 64, **size} for n in (1, 2, 3)]
    return [
        row(
            "image",
            shown[0],
            regions=[
                ["car", "rect", [["10", "20"], ["110.5", "70"]]],
                ["sign", "polygon", [["0", "0"], ["30", "0"], ["30", "40.5"]]],
                ["sign", "freehand", [["100", "100"], ["140", "100"], ["140", "120"], ["100", "120"]]],
            ],
        ),
        row("image", shown[1], regions=[]),
        row("image", shown[2], "reject"),
    ]


def write(rows: Iterable[dict[str, Any]], of: Project, format: str, folder: Path, **more: Any) -> Export:
    kept = list(rows)
    stream: Callable[[], Iterable[dict[str, Any]]] = lambda: iter(kept)  # noqa: E731
    return export(stream, of, format, folder, number=3, **more)
