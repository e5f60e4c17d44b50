"""A project and an answer for every interface that marks something."""

from __future__ import annotations

import json
from typing import Any

from include.annotation.answers import Answer, read_answer
from include.annotation.tasks import build_task
from include.projects.model import Project
from include.systems.prodigy.values import Row
from tests.datasets.make import project

SOURCE = {"file": "a.jsonl", "record": "1", "sha256": "0" * 64}
DIGEST = "ab" * 32
TEXT = "Acme Phone by Acme"

PROJECTS: dict[str, Project] = {
    "spans": project("product_names", interface="spans", labels=["MAKER", "PRODUCT"]),
    "image": project("product_names", interface="image", labels=["CAR", "DOG"]),
    "audio": project("product_names", interface="audio", labels=["SPEECH", "NOISE"]),
    "relations": project(
        "product_names", interface="relations", labels=["MAKER", "PRODUCT"], relation_labels=["MADE_BY"]
    ),
}
CONTENT: dict[str, dict[str, Any]] = {
    "spans": {"text": TEXT},
    "image": {"image": "s3://pictures/one.png", "image_sha256": DIGEST},
    "audio": {"audio": "s3://calls/one.wav", "audio_sha256": DIGEST},
    "relations": {"text": TEXT},
}

MAKER = {"start": 0, "end": 4, "token_start": 0, "token_end": 0, "label": "MAKER"}
PHONE = {"start": 0, "end": 10, "token_start": 0, "token_end": 1, "label": "PRODUCT"}
SECOND = {"start": 14, "end": 18, "token_start": 3, "token_end": 3, "label": "MAKER"}
RECT = {
    **{"id": "r", "label": "CAR", "color": "red", "type": "rect", "x": 10.1, "y": 20, "width": 30.2, "height": 40.5},
    "center": [25.2, 40.25],
    "points": [[10.1, 20], [10.1, 60.5], [40.3, 60.5], [40.3, 20]],
}
POLYGON = {"label": "DOG", "type": "polygon", "points": [[50, 50], [80.5, 50], [70, 90]]}
FREEHAND = {"label": "DOG", "type": "freehand", "points": [[9, 9], [3, 3], [9, 3]]}
SPEECH = {"start": 0.5, "end": 2.25, "label": "SPEECH", "id": "s", "color": "blue"}
NOISE = {"start": 2, "end": 3.0, "label": "NOISE"}
MADE = {
    **{"head": 1, "child": 3, "label": "MADE_BY", "color": "#fff"},
    "head_span": PHONE,
    "child_span": SECOND,
}
MARKS: dict[str, dict[str, Any]] = {
    "spans": {"spans": [MAKER, PHONE]},
    "image": {"spans": [RECT, POLYGON, FREEHAND], "width": 100, "height": 100},
    "audio": {"audio_spans": [SPEECH, NOISE]},
    "relations": {"spans": [PHONE, SECOND], "relations": [MADE]},
}
VALUES: dict[str, dict[str, Any]] = {
    "spans": {"spans": [[0, 4, "MAKER"], [0, 10, "PRODUCT"]]},
    "image": {
        "regions": [
            ["CAR", "rect", [["10.1", "20"], ["40.3", "60.5"]]],
            ["DOG", "freehand", [["9", "9"], ["3", "3"], ["9", "3"]]],
            ["DOG", "polygon", [["50", "50"], ["70", "90"], ["80.5", "50"]]],
        ]
    },
    "audio": {"segments": [["0.5", "2.25", "SPEECH"], ["2", "3", "NOISE"]]},
    "relations": {
        "spans": [[0, 10, "PRODUCT"], [14, 18, "MAKER"]],
        "relations": [[0, 10, 14, 18, "MADE_BY"]],
    },
}


def task(kind: str, **content: Any) -> dict[str, Any]:
    """Return the task as ingestion makes it."""
    return build_task(PROJECTS[kind], content={**CONTENT[kind], **content}, meta={}, sources=[SOURCE])


def answered(kind: str, **changes: Any) -> dict[str, Any]:
    """Return the task as it is stored after it was answered."""
    return {**task(kind), "answer": "accept", **MARKS[kind], **changes}


def read(kind: str, content: dict[str, Any], *, link: int = 7) -> Answer:
    raw = json.dumps(content, separators=(",", ":")).encode()
    return read_answer(Row(link, link + 4, 0, 0, content, raw, None), PROJECTS[kind])
