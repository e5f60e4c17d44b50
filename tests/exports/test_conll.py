"""CoNLL-2003 files, read back by NLTK, by spaCy's converter and through ``datasets``."""

from __future__ import annotations

from pathlib import Path

import nltk.data
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nltk.corpus.reader import ConllCorpusReader
from spacy.training.converters import conll_ner_to_docs

from include.annotation.tokens import tokenize
from include.base.errors import InvalidInput
from include.exports import Assignment
from tests.exports.make import TEXTS, project, row, rows_of, write


def sentences(folder: Path, name: str = "data.conll") -> list[list[tuple[str, ...]]]:
    reader = ConllCorpusReader(str(folder), [name], ("words", "pos", "ignore", "chunk"))
    tagged = [[(word, tag) for word, _, tag in sentence] for sentence in reader.iob_sents()]
    return [sentence for sentence in tagged if sentence]  # NLTK leaves an empty one where a document begins


@pytest.fixture(autouse=True)
def readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])


@pytest.mark.proves("exports: NLTK reads CoNLL-2003 tags as they were answered")
def test_nltk_reads_it(tmp_path: Path) -> None:
    rows = rows_of("ner")
    made = write(rows, project("ner"), "conll", tmp_path)
    kept = [one for one in rows if one["value"]["answer"] == "accept"]
    assert (tmp_path / "data.ids").read_text().split() == [one["task_id"] for one in kept]
    assert made.rows == made.files["data.conll"].rows == len(kept)
    assert made.skipped == {"rejected": 1}
    found = dict(zip([one["shown"]["text"] for one in kept], sentences(tmp_path), strict=True))
    tagged = [(word, tag) for word, tag in found[TEXTS[0]] if tag != "O"]
    assert tagged == [("Router", "B-PRODUCT"), ("X2", "I-PRODUCT"), ("Köln", "B-PLACE")]
    assert ("नई", "B-PLACE") in found[TEXTS[3]]
    assert {tag for _, tag in found[TEXTS[1]]} == {"O"}
    assert (tmp_path / "labels.txt").read_text().split() == ["PRODUCT", "PLACE"]


def test_spacy_converts_it(tmp_path: Path) -> None:
    write(rows_of("ner"), project("ner"), "conll", tmp_path)
    docs = list(conll_ner_to_docs((tmp_path / "data.conll").read_text("utf-8"), n_sents=0, no_print=True))
    ents = sorted((ent.text, ent.label_) for doc in docs for ent in doc.ents)
    assert ("Router X2", "PRODUCT") in ents
    assert ("नई दिल्ली", "PLACE") in ents
    assert len(ents) == 5


def test_datasets_reads_the_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    write(rows_of("ner"), project("ner"), "conll", tmp_path)
    loaded = datasets.Dataset.from_text(str(tmp_path / "data.conll"), cache_dir=str(tmp_path / "cache"))
    lines = [line.split(" ") for line in loaded["text"] if line]
    assert {len(line) for line in lines} == {4}
    assert sum(line[0] == "-DOCSTART-" for line in lines) == 4


def test_white_space_has_no_line_and_ends_no_entity(tmp_path: Path) -> None:
    text = "New\nYork \u2028x"
    one = row("ner", {"text": text}, spans=[[0, 8, "PLACE"]])
    # A span that begins with white space begins at its first word.
    led = row("ner", {"text": "a \nb c"}, spans=[[2, 6, "PLACE"]])
    blank = row("ner", {"text": "a\n\nb"}, spans=[[1, 3, "PLACE"]])
    tokens = [{"text": "a\u00a0b", "start": 0, "end": 3, "ws": False}]
    inner = row("ner", {"text": "a\u00a0b", "tokens": tokens}, spans=[[0, 3, "PLACE"]])
    made = write([one, led, blank, inner], project("ner"), "conll", tmp_path)
    assert sentences(tmp_path) == [
        [("New", "B-PLACE"), ("York", "I-PLACE"), ("x", "O")],
        [("a", "O"), ("b", "B-PLACE"), ("c", "I-PLACE")],
        [("a", "O"), ("b", "O")],
        [("a_b", "B-PLACE")],
    ]
    assert made.noted == {"white_space_span": 1}


def test_what_it_cannot_hold_is_reported(tmp_path: Path) -> None:
    rows = [
        row("ner", {"text": "New York City"}, spans=[[0, 8, "PLACE"], [4, 13, "PLACE"]]),
        row("ner", {"text": "Hamburg"}, spans=[[0, 3, "PLACE"]]),
        row("ner", {"image": "x.png"}, spans=[]),
        row("ner", {"text": " \n "}, spans=[]),
        row("ner", {"text": "-DOCSTART-", "tokens": [{"text": "-DOCSTART-", "start": 0, "end": 10}]}, spans=[]),
    ]
    made = write(rows, project("ner"), "conll", tmp_path)
    assert made.rows == 0
    assert made.skipped == dict.fromkeys(
        ["document_mark", "misaligned_span", "no_text", "no_token", "overlapping_spans"], 1
    )
    assert (tmp_path / "data.conll").read_bytes() == b""


def test_a_label_with_a_space_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="label 'A B': holds white space"):
        write([row("ner", {"text": "x"}, spans=[[0, 1, "A B"]])], project("ner"), "conll", tmp_path)


@pytest.mark.parametrize("count", [0, 1])
def test_parts_no_row_and_one_row(count: int, tmp_path: Path) -> None:
    rows = [one for one in rows_of("ner") if one["value"]["answer"] == "accept"][:count]
    splits = Assignment(("train", "test"), {one["task_id"]: "train" for one in rows})
    made = write(rows, project("ner"), "conll", tmp_path, splits=splits)
    assert made.splits == {"train": count, "test": 0}
    assert len(sentences(tmp_path, "train.conll")) == count


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(exclude_categories=("Cs",)), max_size=40), data=st.data())
def test_every_marked_word_comes_back(text: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Spans over whole tokens, adjacent ones too: the tags give back the words of every span, in any script."""
    tokens = tokenize(text)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(tokens)), max_size=6)))
    pairs = [(cuts[n], cuts[n + 1]) for n in range(0, len(cuts) - 1)]
    spans = [[tokens[a]["start"], tokens[b - 1]["end"], "AB"[a % 2]] for a, b in pairs]
    folder = tmp_path_factory.mktemp("conll")
    write([row("ner", {"text": text or "x"}, spans=spans)], project("ner"), "conll", folder)
    words = [None if token["text"].isspace() else "_".join(token["text"].split()) for token in tokens]
    expected = [[word for word in words[a:b] if word is not None] for a, b in pairs]
    found: list[list[str]] = []
    for line in (folder / "data.conll").read_text("utf-8").split("\n")[2:]:
        word, _, tag = line.partition(" -X- -X- ")
        if tag.startswith("B-"):
            found.append([word])
        elif tag.startswith("I-"):
            found[-1].append(word)
    assert found == [one for one in expected if one]
