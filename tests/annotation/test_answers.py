"""Reading stored rows as answers, of every age and in every state of disrepair."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest

from include.annotation.answers import Answer, read_answer
from include.annotation.served import Served, labels_digest
from include.annotation.tasks import task_id
from include.base.canonical import canonical_json, digest_of, sha256_hex
from include.base.errors import InvalidInput
from include.systems.prodigy.content import account_of
from include.systems.prodigy.values import Row
from tests.annotation.test_tasks import BINARY, NAMES, TOPICS, build
from tests.systems.prodigy.test_hashes import rows_of


def row(content: Any, session: str | None = None, raw: Any = None) -> Row:
    stored = json.dumps(content, separators=(",", ":")).encode() if raw is None else raw
    parsed = content if isinstance(content, dict) else {}
    return Row(7, 11, 0, 0, parsed, stored, session)


def choice(**more: Any) -> dict[str, Any]:
    return {**build(TOPICS, {"text": "My bill"}), "answer": "accept", "accept": ["billing"], **more}


def entities(text: str = "Acme Phone", **more: Any) -> dict[str, Any]:
    spans = [{"start": 0, "end": 4, "token_start": 0, "token_end": 0, "label": "MAKER"}]
    return {**build(NAMES, {"text": text}), "answer": "accept", "spans": spans, **more}


def read(content: dict[str, Any], session: str | None = None) -> Answer:
    return read_answer(row(content, session), TOPICS)


def test_an_answer_of_our_recipe_is_read_whole() -> None:
    guideline, labels = digest_of("release"), labels_digest(TOPICS.annotation.labels)
    content = choice(
        accept=["delivery", "billing"],
        _timestamp=1_700_000_000,
        _annotator_id="ticket_topics-anna",
        _session_id="ticket_topics-anna",
        flagged=True,
    )
    content["labelops"] = {**content["labelops"], "served": Served(guideline, 3, labels, 2).as_json()}
    answer = read(content, "ticket_topics-anna")
    assert answer == Answer(
        link_id=7,
        example_id=11,
        row_digest=sha256_hex(json.dumps(content, separators=(",", ":")).encode()),
        task_id=content["labelops"]["task_id"],
        value=answer.value,
        account="anna",
        session="ticket_topics-anna",
        time=datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC),
        guideline=guideline,
        guideline_number=3,
        round=2,
        view_id="choice",
        shown={"text": "My bill", "options": content["options"]},
        labels_digest=labels,
        flagged=True,
        stamped=True,
    )
    assert answer.value.canonical() == {"interface": "choice", "answer": "accept", "accept": ["billing", "delivery"]}


@pytest.mark.parametrize("convert", [bytes, memoryview, lambda raw: raw.decode()])
def test_content_may_be_bytes_memoryview_or_text(convert: Any) -> None:
    stored = json.dumps(choice()).encode()
    answer = read_answer(row(None, raw=convert(stored)), TOPICS)
    assert answer.row_digest == sha256_hex(stored)
    assert answer.value.accepted == ("billing",)


@pytest.mark.parametrize(
    ("annotator", "named", "linked", "expected"),
    [
        ("ticket_topics-anna", "ticket_topics-anna", "ticket_topics-anna", "anna"),
        ("anna", None, None, "anna"),
        (None, None, "ticket_topics-ben", "ben"),
        (None, "ticket_topics-ben", None, "ben"),
        ("ticket_topics-a-b", None, None, "a-b"),
        ("2024-05-01_10-00-00", "2024-05-01_10-00-00", "2024-05-01_10-00-00", None),
        (None, None, "2024-05-01_10-00-00", None),
        (None, None, "ticket_topics-2024-05-01_10-00-00", None),
        ("ticket_topics-", None, None, None),
        ("", "", None, None),
        (None, None, None, None),
        ("ticket_topics-anna", "ticket_topics-anna", "ticket_topics-ben", None),
    ],
)
def test_who_answered(annotator: Any, named: Any, linked: Any, expected: str | None) -> None:
    assert read(choice(_annotator_id=annotator, _session_id=named), linked).account == expected


def test_a_row_of_prodigys_review_names_no_reviewer() -> None:
    content = choice(_annotator_id="ticket_topics-anna", versions=[{"sessions": ["ticket_topics-anna"]}])
    assert read(content, "ticket_topics-quentin").account is None


def test_the_prefix_is_the_datasets() -> None:
    assert account_of("other-anna", "ticket_topics") == "other-anna"
    answer = read_answer(row(choice(), "rounds-anna"), TOPICS, dataset="rounds")
    assert answer.account == "anna"


def test_an_old_row_without_underscore_fields_is_read() -> None:
    content = {"text": "old", "label": "urgent", "answer": "reject", "_input_hash": 1, "_task_hash": 2}
    answer = read_answer(row(content), BINARY)
    assert (answer.account, answer.session, answer.time, answer.view_id) == (None, None, None, None)
    assert (answer.guideline, answer.guideline_number, answer.round, answer.stamped) == (None, None, 1, False)
    assert answer.task_id == task_id("ticket_topics", {"text": "old", "label": "urgent"})
    assert answer.value.canonical() == {"interface": "textcat", "answer": "reject", "label": "urgent"}


def test_values_differ_exactly_when_people_said_something_else() -> None:
    said = [
        choice(accept=[]),
        choice(accept=["billing"]),
        choice(accept=["other", "billing"]),
        choice(answer="reject"),
        choice(answer="ignore"),
    ]
    assert len({canonical_json(read(content).value.canonical()) for content in said}) == len(said)
    same = [
        (choice(accept=["other", "billing"]), choice(accept=["billing", "other"])),
        (choice(answer="ignore", accept=["other"]), choice(answer="ignore", accept=[])),
        (choice(accept=[]), {key: value for key, value in choice().items() if key != "accept"}),
    ]
    for one, other in same:
        assert read(one).value == read(other).value


def test_spans_are_read_sorted_and_without_their_tokens() -> None:
    maker = {"start": 0, "end": 4, "label": "MAKER"}
    product = {"start": 5, "end": 10, "token_start": 1, "token_end": 1, "label": "PRODUCT", "source": "model"}
    answer = read_answer(row(entities(spans=[product, maker, maker])), NAMES)
    assert answer.value.canonical()["spans"] == [[0, 4, "MAKER"], [5, 10, "PRODUCT"]]
    without = {key: value for key, value in entities().items() if key != "spans"}
    assert read_answer(row(without), NAMES).value.canonical() == {"interface": "ner", "answer": "accept", "spans": []}
    assert "spans" not in read_answer(row(entities(answer="ignore")), NAMES).value.canonical()


def test_spans_count_code_points() -> None:
    content = entities("😀 Acme", spans=[{"start": 2, "end": 6, "label": "MAKER"}])
    assert read_answer(row(content), NAMES).value.spans == ((2, 6, "MAKER"),)


def labelops(**more: Any) -> dict[str, Any]:
    return {"labelops": {**choice()["labelops"], **more}}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"answer": None}, r"answer: found None; allowed: accept, reject, ignore"),
        ({"answer": "ACCEPT"}, "answer"),
        ({"answer": ["accept"]}, "answer"),
        ({"accept": "billing"}, "accept: found str"),
        ({"accept": ["shipping"]}, r"accept: found 'shipping'; allowed: 'billing'"),
        ({"accept": [1.0]}, r"accept\[0\]"),
        ({"accept": [True]}, r"accept\[0\]"),
        ({"accept": [{"id": 1}]}, r"accept\[0\]"),
        ({"accept": ["billing", "billing"]}, "twice"),
        ({"text": "changed"}, "labelops.task_id: found"),
        (labelops(task_id="short"), "labelops.task_id: found 'short'"),
        (labelops(task_id=5), "labelops.task_id: found 5"),
        (labelops(served=[]), "labelops.served: found list"),
        (labelops(served={"round": 0}), "labelops.served.round: found 0"),
        (labelops(served={"round": True}), "labelops.served.round"),
        (labelops(served={"guideline": "x"}), "labelops.served.guideline"),
        (labelops(served={"guideline_number": "1"}), "labelops.served.guideline_number"),
        (labelops(invalid=["changed since it was served: text"]), "labelops.invalid.*changed since"),
        ({"labelops": "x"}, "labelops: found str"),
        ({"_timestamp": "today"}, "_timestamp: found 'today'"),
        ({"_timestamp": True}, "_timestamp"),
        ({"_timestamp": 1e30}, "_timestamp"),
        ({"_timestamp": float("nan")}, "_timestamp"),
        ({"_annotator_id": 5}, "_annotator_id: found 5"),
        ({"_session_id": {}}, "_session_id"),
        ({"_view_id": 3}, "_view_id"),
    ],
)
def test_a_malformed_choice_says_what_and_where(change: dict[str, Any], match: str) -> None:
    with pytest.raises(InvalidInput, match=match) as refused:
        read(choice(**change))
    assert str(refused.value).startswith("ticket_topics, example 11: ")


def test_one_option_where_the_project_allows_one() -> None:
    single = TOPICS.model_copy(update={"annotation": TOPICS.annotation.model_copy(update={"multiple": False})})
    with pytest.raises(InvalidInput, match="found 2 ids; allowed: one"):
        read_answer(row(choice(accept=["billing", "other"])), single)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (None, "options: found none"),
        ([{"id": "a", "text": "A"}] * 2, "an id is there twice"),
        ({}, "options: found dict"),
    ],
)
def test_malformed_options(options: Any, match: str) -> None:
    content = {"text": "x", "options": options, "answer": "accept", "accept": []}
    with pytest.raises(InvalidInput, match=match):
        read(content)


@pytest.mark.parametrize(
    ("spans", "match"),
    [
        ("x", "spans: found str"),
        (["x"], r"spans\[0\]: found str"),
        ([{"end": 4, "label": "MAKER"}], r"spans\[0\]\.start: found None"),
        ([{"start": 0.0, "end": 4, "label": "MAKER"}], r"spans\[0\]\.start: found 0\.0"),
        ([{"start": 0, "end": True, "label": "MAKER"}], r"spans\[0\]\.end: found True"),
        ([{"start": 0, "end": 400, "label": "MAKER"}], r"found 0-400; allowed: within 0-10"),
        ([{"start": 4, "end": 4, "label": "MAKER"}], "found 4-4"),
        ([{"start": -1, "end": 4, "label": "MAKER"}], "found -1-4"),
        ([{"start": 0, "end": 4}], r"spans\[0\]\.label: found None"),
        ([{"start": 0, "end": 4, "label": ""}], r"spans\[0\]\.label: found ''"),
        ([{"start": 0, "end": 4, "label": "MAKER", "token_start": "0"}], "token_start"),
        ([{"start": 0, "end": 10, "label": "A"}, {"start": 5, "end": 10, "label": "B"}], "overlap"),
        ([{"start": 0, "end": 3, "label": "MAKER"}], "0-3 cuts a token"),
    ],
)
def test_malformed_spans(spans: Any, match: str) -> None:
    with pytest.raises(InvalidInput, match=match):
        read_answer(row(entities(spans=spans)), NAMES)


@pytest.mark.parametrize(
    ("raw", "match"),
    [
        (b"{", "not JSON"),
        (b"\xff", "not UTF-8|not JSON"),
        (b"[1]", "found list; allowed: a JSON object"),
        (b"null", "found NoneType"),
        (b"{}", "shows nothing"),
        (b'{"text":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
    ],
)
def test_content_that_is_no_task(raw: bytes, match: str) -> None:
    with pytest.raises(InvalidInput, match=match) as refused:
        read_answer(row(None, raw=raw), TOPICS)
    assert "ticket_topics, example 11" in str(refused.value)


def test_a_label_is_a_string() -> None:
    with pytest.raises(InvalidInput, match="label: found None"):
        read_answer(row({"text": "x", "answer": "accept"}), BINARY)


def test_a_real_classification_export_is_read_without_loss() -> None:
    rows = rows_of("pydata-ams-2023.jsonl")
    answers = [read_answer(row(content, content["_session_id"]), BINARY) for content in rows]
    assert len({answer.account for answer in answers}) == 42
    assert len({answer.shown["text"] for answer in answers}) == 117
    assert len({answer.task_id for answer in answers}) == 117
    assert Counter(answer.value.answer for answer in answers) == Counter(content["answer"] for content in rows)
    assert all(answer.time and answer.time.year == 2023 for answer in answers)


@pytest.mark.parametrize(
    "name",
    ["docs_issues_eval.jsonl", "annotated_github-issues-DOCUMENTATION-textcat.jsonl", "docs_issues_training.jsonl"],
)
def test_old_real_exports_are_read(name: str) -> None:
    rows = rows_of(name)
    answers = [read_answer(row(content), BINARY) for content in rows]
    assert [answer.value.label for answer in answers] == ["DOCUMENTATION"] * len(rows)
    assert {answer.account for answer in answers} == {None}


def test_a_real_span_export_is_read_without_loss() -> None:
    rows = rows_of("fashion_brands_eval.jsonl")
    answers = [read_answer(row(content), NAMES) for content in rows]
    assert sum(len(answer.value.spans) for answer in answers) == sum(len(content["spans"]) for content in rows) == 238
