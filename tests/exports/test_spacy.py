"""spaCy files, read back by spaCy's own corpus reader and training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import spacy
from spacy.tokens import Doc, DocBin
from spacy.training import Corpus
from spacy.training.initialize import init_nlp
from spacy.util import load_config

from include.annotation.tokens import tokenize
from include.base.errors import InvalidInput
from include.exports import Assignment, docbin
from tests.exports.make import TEXTS, options, project, row, rows_of, spans_in, write

PARTS = ("train", "dev", "test")


def docs(place: Path) -> list[Doc]:
    found = list(DocBin().from_disk(place).get_docs(spacy.blank("en").vocab))
    for doc, task in zip(found, place.with_suffix(".ids").read_text("ascii").split(), strict=True):
        doc.user_data["task_id"] = task
    return found


def reported(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "skipped.jsonl").read_text("utf-8").splitlines()]


def meant(rows: list[dict[str, Any]]) -> dict[str, set[tuple[int, int, str]]]:
    return {
        one["task_id"]: {tuple(span) for span in one["value"]["spans"]}
        for one in rows
        if one["value"]["answer"] == "accept"
    }


@pytest.mark.proves("exports: spaCy reads entities, spans and categories as they were answered")
def test_entities(tmp_path: Path) -> None:
    rows = rows_of("ner")
    made = write(rows, project("ner"), "spacy", tmp_path)
    found = {
        doc.user_data["task_id"]: {(ent.start_char, ent.end_char, ent.label_) for ent in doc.ents}
        for doc in docs(tmp_path / "train.spacy")
    }
    assert found == meant(rows)
    assert made.skipped == {"rejected": 1}
    assert made.rows == len(found) == 4
    # Nothing to mark is an answer: those tokens are outside, not unknown.
    empty = next(doc for doc in docs(tmp_path / "train.spacy") if doc.text == TEXTS[1])
    assert {token.ent_iob_ for token in empty} == {"O"}


def test_overlapping_spans_are_a_group(tmp_path: Path) -> None:
    rows = rows_of("spans")
    write(rows, project("spans"), "spacy", tmp_path)
    found = {
        doc.user_data["task_id"]: {(span.start_char, span.end_char, span.label_) for span in doc.spans["sc"]}
        for doc in docs(tmp_path / "train.spacy")
    }
    assert found == meant(rows)
    assert max(map(len, found.values())) == 4


def test_a_rejected_label_is_a_zero(tmp_path: Path) -> None:
    rows = rows_of("textcat")
    write(rows, project("textcat"), "spacy", tmp_path)
    found = {doc.text: doc.cats for doc in docs(tmp_path / "train.spacy")}
    assert found == {one["shown"]["text"]: {"refund": float(one["value"]["answer"] == "accept")} for one in rows}
    assert json.loads((tmp_path / "labels" / "textcat_multilabel.json").read_text()) == ["refund"]


def test_single_choice_has_one_true_label(tmp_path: Path) -> None:
    made = write(rows_of("choice"), project("choice"), "spacy", tmp_path)
    assert made.skipped == {"no_option": 1, "rejected": 1}
    for doc in docs(tmp_path / "train.spacy"):
        assert set(doc.cats) == {"billing", "delivery", "other"}
        assert sum(doc.cats.values()) == 1.0
    assert (tmp_path / "labels" / "textcat.json").exists()


def test_multiple_choice_may_have_none_or_many(tmp_path: Path) -> None:
    shown = {"text": "Late and dear", "options": options("billing", "delivery", "other")}
    rows = [*rows_of("choice"), row("choice", shown, accept=["billing", "delivery"])]
    made = write(rows, project("choice", multiple=True), "spacy", tmp_path)
    assert made.skipped == {"rejected": 1}
    found = {doc.text: {label for label, value in doc.cats.items() if value} for doc in docs(tmp_path / "train.spacy")}
    assert found[TEXTS[1]] == set()
    assert found["Late and dear"] == {"billing", "delivery"}


def test_relations_have_the_shape_of_rel_component(tmp_path: Path) -> None:
    write(rows_of("relations"), project("relations"), "spacy", tmp_path)
    if not Doc.has_extension("rel"):
        Doc.set_extension("rel", default={})
    doc = next(doc for doc in docs(tmp_path / "train.spacy") if doc.text == TEXTS[0])
    product, town = doc.ents
    assert doc._.rel == {
        (product.start, town.start): {"MADE_IN": 1.0},
        (town.start, product.start): {"MADE_IN": 0.0},
    }
    assert json.loads((tmp_path / "labels" / "relation_extractor.json").read_text()) == ["MADE_IN"]


@pytest.mark.proves("exports: overlaps and misaligned spans are reported, never dropped silently")
def test_a_misaligned_entity_is_reported_and_unknown_to_training(tmp_path: Path) -> None:
    text = "Wi-Fi in Hamburg 🙂"
    cut = row("ner", {"text": text}, spans=[[9, 12, "PLACE"]])
    made = write([cut], project("ner"), "spacy", tmp_path)
    (doc,) = docs(tmp_path / "train.spacy")
    assert {token.text: token.ent_iob for token in doc}["Hamburg"] == 0
    assert {token.ent_iob_ for token in doc if token.text != "Hamburg"} == {"O"}
    assert made.noted == {"misaligned_span": 1}
    assert made.rows == 1
    assert reported(tmp_path) == [
        {
            "task_id": cut["task_id"],
            "reason": "misaligned_span",
            "detail": "9-12: does not begin and end with a token",
            "left_out": False,
        }
    ]


def test_the_tasks_own_tokens_are_used(tmp_path: Path) -> None:
    text = "Wi-Fi don't  work\n🙂 "
    spaced = [{"text": "a", "start": 0, "end": 1}, {"text": "b", "start": 2, "end": 3}]
    rows = [
        row("ner", {"text": text, "tokens": tokenize(text)}, spans=[[0, 2, "PRODUCT"], [6, 9, "PLACE"]]),
        row("ner", {"text": "a b", "tokens": spaced}, spans=[]),
        row("ner", {"text": "other text", "tokens": tokenize(text)}, spans=[]),
    ]
    made = write(rows, project("ner"), "spacy", tmp_path)
    first, second = docs(tmp_path / "train.spacy")
    assert first.text == text
    assert [(ent.start_char, ent.end_char) for ent in first.ents] == [(0, 2), (6, 9)]
    assert second.text == "a b"
    assert made.skipped == {"tokens_differ": 1}


def test_what_cannot_be_unknown_is_left_out_and_reported(tmp_path: Path) -> None:
    rows = [
        row("spans", {"text": "Hamburg"}, spans=[[0, 3, "CLAIM"]]),
        row("spans", {"image": "x.png"}, spans=[]),
    ]
    made = write(rows, project("spans"), "spacy", tmp_path / "spans")
    assert made.skipped == {"misaligned_span": 1, "no_text": 1}
    assert made.rows == 0
    overlapping = row("ner", {"text": "New York City"}, spans=[[0, 8, "PLACE"], [4, 13, "PLACE"]])
    assert write([overlapping], project("ner"), "spacy", tmp_path / "ner").skipped == {"overlapping_spans": 1}
    lone = row("relations", {"text": "A b"}, spans=[], relations=[[0, 1, 2, 3, "R"]])
    relations = write([lone], project("relations"), "spacy", tmp_path / "relations")
    assert relations.skipped == {"relation_without_span": 1}


@pytest.fixture(params=["textcat", "choice", "ner", "spans"])
def trained(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    rows = rows_of(request.param)
    by_task = {one["task_id"]: PARTS[place % 2] for place, one in enumerate(rows)}
    write(rows, project(request.param), "spacy", tmp_path, splits=Assignment(PARTS, by_task))
    return tmp_path


@pytest.mark.proves("exports: spaCy trains on the files with the configuration beside them")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_spacy_trains_on_it(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    nlp = init_nlp(load_config(trained / "config.cfg"))
    train = list(Corpus(trained / "train.spacy")(nlp))
    assert train
    losses = nlp.update(train, sgd=nlp.create_optimizer())
    (component,) = [name for name in nlp.pipe_names if name != "tok2vec"]
    assert component in losses
    labels = json.loads((trained / "labels" / f"{component}.json").read_text())
    assert set(nlp.get_pipe(component).labels) == set(labels["1"] if component == "ner" else labels)
    assert nlp.evaluate(list(Corpus(trained / "dev.spacy")(nlp)))["speed"] > 0


def test_a_large_part_is_a_folder_that_corpus_reads_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docbin, "SHARD", 4)
    rows = [row("textcat", {"text": f"text {n}", "label": "refund"}, label="refund") for n in range(10)]
    made = write(rows, project("textcat"), "spacy", tmp_path)
    assert [(name, one.rows) for name, one in made.files.items() if one.rows] == [
        ("train/00000.spacy", 4),
        ("train/00001.spacy", 4),
        ("train/00002.spacy", 2),
    ]
    assert 'train = "train"' in (tmp_path / "config.cfg").read_text()
    assert len(list(Corpus(tmp_path / "train")(spacy.blank("en")))) == 10


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("interface", ["textcat", "choice", "ner", "spans", "relations"])
def test_no_row_and_one_row(interface: str, count: int, tmp_path: Path) -> None:
    rows = [one for one in rows_of(interface) if one["value"].get("accept") != []][:count]
    made = write(rows, project(interface), "spacy", tmp_path)
    assert len(docs(tmp_path / "train.spacy")) == made.rows == count - sum(made.skipped.values())


def test_an_unknown_language_is_an_error_that_names_the_field(tmp_path: Path) -> None:
    of = project("ner")
    of = of.model_copy(update={"release": of.release.model_copy(update={"language": "qq"})})
    with pytest.raises(InvalidInput, match=r"release.language: found 'qq'"):
        write(rows_of("ner"), of, "spacy", tmp_path)


def test_entities_of_white_space_and_emoji_keep_their_place(tmp_path: Path) -> None:
    text = "👩‍👩‍👧 in Köln"
    write([row("ner", {"text": text}, spans=spans_in(text, Köln="PLACE"))], project("ner"), "spacy", tmp_path)
    (doc,) = docs(tmp_path / "train.spacy")
    (ent,) = doc.ents
    assert ent.text == "Köln"
