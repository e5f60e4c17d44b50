"""A version of every kind of mark, frozen and read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from include.annotation.tasks import shown
from include.base.store import Store
from include.datasets.freeze import freeze, rows, verify_version
from include.queues.progress import form
from tests.annotation.make import CONTENT, MARKS, PROJECTS, VALUES, answered, read
from tests.datasets.make import register_of


def frozen(store: Store, kind: str, contents: list[dict[str, Any]]) -> Any:
    project = PROJECTS[kind]
    answers = [read(kind, content, link=place) for place, content in enumerate(contents, 1)]
    ids = sorted({answer.task_id for answer in answers})
    return freeze(store, project, form(ids).digest, ids, answers, register=register_of(["anna"]))


@pytest.mark.parametrize("kind", sorted(PROJECTS))
@pytest.mark.proves("a version of every interface is frozen and read back; equal marks give an equal digest")
def test_a_version_of_each_kind(kind: str, tmp_path: Path) -> None:
    store, project = Store(tmp_path / "a"), PROJECTS[kind]
    by = {"_annotator_id": "product_names-anna", "_timestamp": 1_700_000_000}
    version = frozen(store, kind, [answered(kind, **by)])
    assert verify_version(store, project, version.digest) == []
    (row,) = rows(store, project, version.digest)
    assert row["value"] == {"interface": kind, "answer": "accept", **VALUES[kind]}
    assert row["shown"] == {**CONTENT[kind], **({"width": 100, "height": 100} if kind == "image" else {})}
    assert {label: count for label, count in version.manifest.labels.items() if count} == {
        "spans": {"MAKER": 1, "PRODUCT": 1},
        "image": {"CAR": 1, "DOG": 2},
        "audio": {"NOISE": 1, "SPEECH": 1},
        "relations": {"MADE_BY": 1, "MAKER": 1, "PRODUCT": 1},
    }[kind]

    turned = {name: marks[::-1] if isinstance(marks, list) else marks for name, marks in MARKS[kind].items()}
    again = frozen(Store(tmp_path / "b"), kind, [answered(kind, **by, **turned)])
    (other,) = rows(Store(tmp_path / "b"), project, again.digest)
    assert {**other, "answers": []} == {**row, "answers": []}
    assert shown(other["shown"]) == CONTENT[kind]
