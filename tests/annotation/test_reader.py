"""Reading many rows gives what reading each by itself gives, errors included."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.annotation.answers import Answer, AnswerReader, read_answer
from include.annotation.tasks import task_id
from include.base.errors import InvalidInput
from include.projects.model import Project
from include.systems.prodigy.values import Row
from tests.datasets.make import LABELS, project

OPTIONS = [{"id": label, "text": label} for label in LABELS]
CHOICE = project(multiple=True)
TEXTCAT = project(interface="textcat", labels=["topic"], rule="majority")
NER = project(interface="ner", labels=["ORG", "PER"])
IMAGE = project(interface="image", labels=["cat"])
SERVED = {"guideline": "a" * 64, "guideline_number": 1, "labels_digest": "b" * 64, "round": 2}
ROWS: list[tuple[Project, dict[str, Any]]] = [
    (CHOICE, {"text": "a", "options": OPTIONS, "accept": ["other"], "answer": "accept"}),
    (CHOICE, {"text": "a \U0001f642", "options": [{"id": 1}, {"id": "1"}], "accept": [1], "answer": "accept"}),
    (CHOICE, {"html": "<b>", "options": OPTIONS, "accept": [], "answer": "accept"}),
    (CHOICE, {"text": "a", "options": OPTIONS, "answer": "ignore", "versions": []}),
    (TEXTCAT, {"text": "a", "label": "topic", "answer": "reject"}),
    (NER, {"text": "Acme Bob", "spans": [{"start": 0, "end": 4, "label": "ORG"}], "answer": "accept"}),
    (IMAGE, {"image": "cat.png", "width": 5, "height": 5, "spans": [], "answer": "accept"}),
]
READERS = {id(of): AnswerReader(of) for of, _ in ROWS}
JUNK = st.sampled_from(
    [None, True, False, 0, 1, 1.0, 0.5, -1, 2**70, float("nan"), float("inf"), "", "1", "topic", "\ud800", "x-y",
     "ticket_topics-anna", "2024-01-01_00-00-00", [], {}, [1], ["other", "other"], ["other", "billing"], [[]],
     [{"id": True}], [{"id": 1.0}], [{"id": 1}], [{"id": "other"}, {"id": "other"}], {"served": 1}, {"served": {}},
     {"served": {"round": True}}, {"served": {"round": 1.0}}, {"served": {"round": 0}}, {"invalid": "because"},
     {"task_id": "0" * 64}, {"task_id": 7}, {"served": SERVED}]
)  # fmt: skip
FIELDS = st.sampled_from(
    ["text", "html", "image", "label", "options", "accept", "answer", "spans", "labelops", "versions", "flagged",
     "_timestamp", "_session_id", "_annotator_id", "_view_id", "tokens", "input"]
)  # fmt: skip


def ordinary(of: Project, content: dict[str, Any]) -> dict[str, Any]:
    return {
        "_timestamp": 1_777_000_000,
        "_session_id": f"{of.name}-anna",
        "_annotator_id": f"{of.name}-anna",
        "_view_id": of.view_id,
        "labelops": {"task_id": task_id(of.name, content), "served": SERVED},
        **copy.deepcopy(content),
    }


def outcome(read: Callable[[Row], Answer], row: Row) -> str:
    try:
        return repr(read(row))
    except InvalidInput as error:
        return f"refused: {error}"


def both(of: Project, row: Row) -> None:
    # As text: 1, 1.0 and true are equal, and not the same.
    assert outcome(READERS[id(of)].read, row) == outcome(lambda one: read_answer(one, of), row)


@pytest.mark.parametrize(("of", "content"), ROWS)
def test_an_ordinary_row_is_read_as_by_itself(of: Project, content: dict[str, Any]) -> None:
    for stored in (content, ordinary(of, content), ordinary(of, content)):
        both(of, Row(1, 2, 3, 4, stored, json.dumps(stored).encode(), f"{of.name}-anna"))


def test_ordinary_rows_take_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("include.annotation.answers.read_answer", None)
    for of, content in (ROWS[0], ROWS[4], ROWS[5]):
        stored = ordinary(of, content)
        assert READERS[id(of)].read(Row(1, 2, 3, 4, stored, json.dumps(stored).encode())).account == "anna"


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(ROWS),
    st.dictionaries(FIELDS, JUNK, max_size=3),
    st.sampled_from([None, "", "x", "ticket_topics-ben"]),
)
def test_whatever_a_row_holds_it_is_read_or_refused_as_by_itself(
    of_row: tuple[Project, dict[str, Any]], changes: dict[str, Any], session: str | None
) -> None:
    of, content = of_row
    stored = {**ordinary(of, content), **copy.deepcopy(changes)}
    both(of, Row(1, 2, 3, 4, stored, json.dumps(stored).encode(), session))
