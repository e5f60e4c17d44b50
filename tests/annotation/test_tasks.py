"""Making tasks and naming them; splitting texts into tokens."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.annotation.tasks import build_task, name_of, shown, task_id
from include.annotation.tokens import tokenize
from include.base.canonical import canonical_json, sha256_hex
from include.base.errors import InvalidInput
from include.projects.load import load_project
from include.settings import ROOT
from include.systems.prodigy.hashes import set_hashes

DEFINITIONS = ROOT / "include" / "projects" / "definitions"
TOPICS = load_project(DEFINITIONS, "ticket_topics")
NAMES = load_project(DEFINITIONS, "product_names")
BINARY = TOPICS.model_copy(
    update={
        "annotation": TOPICS.annotation.model_validate(
            {
                **TOPICS.annotation.model_dump(),
                "interface": "textcat",
                "labels": ("urgent",),
            }
        )
    }
)
SOURCE = {"file": "a.jsonl", "record": "1", "sha256": "0" * 64}


def build(project: Any, content: dict[str, Any], **more: Any) -> dict[str, Any]:
    return build_task(project, content=content, meta={"source": "a.jsonl"}, sources=[SOURCE], **more)


def test_a_choice_task_has_the_agreed_shape() -> None:
    task = build(TOPICS, {"text": "My bill is wrong"}, priority=3)
    options = [{"id": label, "text": label} for label in ("billing", "delivery", "account", "other")]
    asked = {"text": "My bill is wrong", "options": options}
    assert list(task) == ["text", "options", "meta", "_input_hash", "_task_hash", "_view_id", "labelops"]
    assert task["options"] == options
    assert task["_view_id"] == "choice"
    assert {key: task[key] for key in ("_input_hash", "_task_hash")}.items() <= set_hashes(asked).items()
    expected = sha256_hex(canonical_json(["ticket_topics", asked]))
    assert task["labelops"] == {
        "task_id": expected,
        "project": "ticket_topics",
        "sources": [SOURCE],
        "priority": 3,
    }
    assert "priority" not in build(TOPICS, {"text": "x"})["labelops"]


def test_the_interface_decides_what_is_added() -> None:
    assert build(BINARY, {"text": "x"})["label"] == "urgent"
    assert build(BINARY, {"text": "x"})["_view_id"] == "classification"
    names = build(NAMES, {"text": "a b"})
    assert [token["text"] for token in names["tokens"]] == ["a", "b"]
    assert names["_view_id"] == "ner_manual"
    assert "options" not in names


def test_provenance_changes_neither_id_nor_hashes() -> None:
    one = build(NAMES, {"text": "a b"})
    other = build_task(
        NAMES, content={"text": "a b"}, meta={"channel": 1.5}, sources=[{**SOURCE, "record": "2"}], priority=9
    )
    for key in ("_input_hash", "_task_hash"):
        assert one[key] == other[key]
    assert one["labelops"]["task_id"] == other["labelops"]["task_id"]


@pytest.mark.parametrize(
    "other",
    ["cafe\u0301", "Café", "café ", "café\u200b", "ｃafé", "café\n"],
)
def test_texts_that_only_look_alike_are_two_tasks(other: str) -> None:
    assert task_id("p", {"text": "café"}) != task_id("p", {"text": other})


def test_what_is_shown_makes_the_id_and_nothing_else() -> None:
    options = [{"id": 1, "text": "One"}, {"id": 2, "text": "Two"}]
    task = {"text": "x", "label": "L", "options": options}
    dressed = {
        **task,
        "meta": {"score": 0.3},
        "answer": "accept",
        "accept": [1],
        "spans": [],
        "tokens": [],
        "_input_hash": 5,
        "labelops": {"task_id": "y"},
        "options": [{**option, "style": "x"} for option in options],
    }
    assert shown(dressed) == task
    assert task_id("p", dressed) == task_id("p", task)
    different = [
        {**task, "label": "M"},
        {**task, "options": options[::-1]},
        {**task, "options": [{"id": "1", "text": "One"}, options[1]]},
        {"html": "x", "label": "L", "options": options},
    ]
    ids = {task_id("p", one) for one in [task, *different]} | {task_id("q", task)}
    assert len(ids) == len(different) + 2


@pytest.mark.parametrize(
    ("task", "match"),
    [
        ({"meta": {}}, "shows nothing"),
        ({"text": "\ud800"}, "canonical"),
        ({"text": "x", "label": 1.5}, "canonical"),
        ({"text": "x", "options": "abc"}, "options"),
        ({"text": "x", "options": [{"text": "no id"}]}, r"options\[0\]"),
    ],
)
def test_what_cannot_be_named_is_refused(task: dict[str, Any], match: str) -> None:
    with pytest.raises(InvalidInput, match=match):
        task_id("p", task)


@pytest.mark.parametrize(
    ("project", "content", "match"),
    [
        (TOPICS, {}, "found nothing"),
        (TOPICS, {"text": " \n"}, r"content\.text: found str|content\.text: found an empty"),
        (TOPICS, {"text": 5}, r"content\.text: found int"),
        (TOPICS, {"text": "x", "answer": "accept"}, "answer"),
        (NAMES, {"image": "a.png"}, "named entities"),
        (TOPICS, {"image": "https://files.example/a.png?X-Amz-Signature=1"}, "x-amz-signature"),
        (TOPICS, {"audio": "https://files.example/a.wav?sig=1&se=2"}, "expire"),
    ],
)
def test_content_that_cannot_be_shown_is_refused(project: Any, content: dict[str, Any], match: str) -> None:
    with pytest.raises(InvalidInput, match=match):
        build(project, content)


def test_a_stable_reference_is_taken() -> None:
    assert build(TOPICS, {"image": "https://files.example/a.png?version=3"})["image"].endswith("version=3")


def test_a_source_says_file_record_and_digest() -> None:
    with pytest.raises(InvalidInput, match="lacks sha256"):
        build_task(TOPICS, content={"text": "x"}, meta={}, sources=[{"file": "a", "record": 0}])


@given(st.text())
@settings(max_examples=300, deadline=None)
def test_no_character_position_is_lost(text: str) -> None:
    tokens = tokenize(text)
    assert "".join(token["text"] + " " * token["ws"] for token in tokens) == text
    assert [token["id"] for token in tokens] == list(range(len(tokens)))
    for token in tokens:
        assert text[token["start"] : token["end"]] == token["text"] != ""
        assert not token["ws"] or text[token["end"]] == " "


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Wi-Fi isn't 3.5", ["Wi", "-", "Fi", "isn", "'", "t", "3", ".", "5"]),
        ("a  b\n\nc", ["a", " ", "b", "\n\n", "c"]),
        (" lead", [" ", "lead"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("cafe\u0301s ok", ["cafe\u0301s", "ok"]),
        ("ok 👩\u200d💻!", ["ok", "👩\u200d💻", "!"]),
        ("❤\ufe0fx", ["❤\ufe0f", "x"]),
    ],
)
def test_tokens_are_words_and_single_marks(text: str, expected: list[str]) -> None:
    assert [token["text"] for token in tokenize(text)] == expected


TEXTS = st.text() | st.just("\ud800")
VALUES = TEXTS | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False)


@given(
    st.dictionaries(
        st.sampled_from(["text", "label", "options", "image"]),
        VALUES | st.lists(st.dictionaries(st.sampled_from(["id", "text"]), VALUES, max_size=2), max_size=3),
        max_size=3,
    )
)
def test_the_quick_way_to_a_name_gives_the_same_name(content: dict[str, Any]) -> None:
    try:
        expected = sha256_hex(canonical_json(["p", content]))
    except (TypeError, UnicodeEncodeError):
        with pytest.raises(InvalidInput, match="canonical"):
            name_of("p", content)
    else:
        assert name_of("p", content) == expected
