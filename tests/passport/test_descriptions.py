"""Croissant and the dataset card, each read by the library that its readers use."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from include.annotation.tasks import task_id
from include.base.canonical import digest_of
from include.passport.facts import Context
from include.passport.verify import verify
from include.projects.model import Card, Project
from tests.datasets.make import LABELS, answer, shown, task
from tests.passport.make import CARD, SIGNER, products, released, reseal, topics


def theirs(test: Any) -> Any:
    """Let mlcroissant's own reading use what rdflib and pandas will give up one day."""
    for words in ("ConjunctiveGraph is deprecated", "The inplace keyword in DataFrame.reset_index is deprecated"):
        test = pytest.mark.filterwarnings(f"ignore:{words}:DeprecationWarning")(test)
    return test


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return released(tmp_path)


def croissant_of(folder: Path) -> Any:
    import mlcroissant

    return mlcroissant.Dataset(str(folder / "croissant.json"))


@pytest.mark.proves("Croissant metadata is valid for mlcroissant and its records load")
@theirs
def test_mlcroissant_accepts_it_and_reads_the_records(folder: Path) -> None:
    found = croissant_of(folder)
    assert found.metadata.issues.errors == set()
    rows = {one["rows/task_id"].decode(): one for one in found.records("rows")}
    assert set(rows) == {task(1), task(2), task(3)}
    assert rows[task(1)]["rows/accept"] == [b"billing", b"other"]
    assert rows[task(1)]["rows/text"].decode() == "ticket 1 äöü 🙂"
    assert rows[task(3)]["rows/answer"] == b"reject"


@theirs
def test_spans_load_with_their_parts(tmp_path: Path) -> None:
    found = croissant_of(products(tmp_path, "ner"))
    assert found.metadata.issues.errors == set()
    [row] = found.records("rows")
    assert [(one["rows/spans/start"], one["rows/spans/end"], one["rows/spans/label"]) for one in row["rows/spans"]] == [
        (2, 13, b"PRODUCT"),
        (20, 24, b"PRODUCT"),
    ]


@pytest.mark.proves("the responsible-AI fields are filled from guideline, manifest, agreement and ledger")
@theirs
def test_the_responsible_ai_fields_are_facts(folder: Path) -> None:
    read = croissant_of(folder).metadata
    value = json.loads((folder / "croissant.json").read_bytes())
    assert value["conformsTo"][0] == "http://mlcommons.org/croissant/1.0"
    assert read.annotations_per_item == "2 asked for; 8 answers to 4 tasks were given"
    assert any("guideline release 3 (sha256 " in one for one in read.data_annotation_protocol)
    assert read.data_annotation_platform == ["Prodigy, interface choice"]
    assert any(
        "Krippendorff's alpha, nominal 0.743, 95 % interval 0.51 to 0.93" in one
        for one in read.data_annotation_analysis
    )
    assert read.data_collection_missing_data.startswith("Of 4 tasks 1 are left out")
    assert "never given: account, delivery" in read.data_limitations
    assert read.data_collection == CARD["collection"]
    assert read.annotator_demographics == CARD["demographics"]
    assert read.personal_sensitive_information == CARD["sensitive_information"]
    assert read.data_release_maintenance_plan == CARD["maintenance"]
    assert read.data_use_cases == CARD["use_cases"]
    assert read.data_biases == CARD["biases"]
    assert read.cite_as == CARD["citation"]
    assert value["prov:wasGeneratedBy"][0]["prov:wasAssociatedWith"] == [
        {"@type": "prov:Agent", "prov:label": "anna"},
        {"@type": "prov:Agent", "prov:label": "ben"},
    ]
    assert value["datePublished"] == "2026-05-02T10:00:00+00:00"


@theirs
def test_what_nobody_stated_and_no_record_shows_is_left_out(tmp_path: Path) -> None:
    folder = released(tmp_path, of=topics({}), context=Context())
    value = json.loads((folder / "croissant.json").read_bytes())
    for name in (
        "rai:dataCollection", "rai:annotatorDemographics", "rai:dataUseCases", "rai:dataBiases", "citeAs",
        "rai:personalSensitiveInformation", "rai:dataReleaseMaintenancePlan", "rai:machineAnnotationTools", "url",
    ):  # fmt: skip
        assert name not in value
    assert croissant_of(folder).metadata.issues.errors == set()
    card = (folder / "README.md").read_text("utf-8")
    for section in ("Agreement", "Uses", "Biases", "Citation", "Maintenance", "Personal and Sensitive Information"):
        assert f"## {section}" not in card


@pytest.mark.proves("the dataset card is one that the Hugging Face hub reads")
def test_the_hub_reads_the_card(folder: Path) -> None:
    from huggingface_hub import DatasetCard

    card = DatasetCard.load(folder / "README.md", ignore_metadata_errors=False)
    data = card.data.to_dict()
    assert data["license"] == "cc0-1.0"
    assert data["language"] == ["en"]
    assert data["annotations_creators"] == ["expert-generated"]
    assert data["size_categories"] == ["n<1K"]
    assert data["task_categories"] == ["text-classification"]
    assert data["configs"] == [{"config_name": "default", "data_files": [{"split": "train", "path": "data.parquet"}]}]
    for section in (
        "Contents", "Uses", "Annotation process", "Agreement", "Who are the annotators", "Guideline", "Quality gates",
        "Approvals", "Personal and Sensitive Information", "Biases", "Limitations", "Maintenance", "Citation", "Proof",
    ):  # fmt: skip
        assert f"## {section}\n" in card.text
    assert "| Krippendorff's alpha, nominal | 0.743 | 0.51 to 0.93 | 4 items, 2 annotators |" in card.text
    assert "bootstrap over items, 1000 draws, seed 7" in card.text
    assert "- `version_rows` passed on 3 rows: 2 checks, 1 with remarks: few disputes" in card.text
    assert "people.example" not in card.text


def test_datasets_loads_the_folder(folder: Path, tmp_path: Path) -> None:
    import datasets

    found = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert set(found) == {"train"}
    assert found["train"].num_rows == 3
    row = next(one for one in found["train"] if one["task_id"] == task(1))
    assert row["accept"] == ["billing", "other"]


def test_a_citation_keeps_its_lines_and_is_no_markup(folder: Path) -> None:
    card = (folder / "README.md").read_text("utf-8")
    assert "    @misc{topics,\n      title={Topics}\n    }\n" in card


@pytest.mark.parametrize("value", ["", "  ", "x" * 5001])
def test_a_statement_has_to_say_something(value: str) -> None:
    with pytest.raises(ValueError, match="description"):
        Card.model_validate({"description": value})
    with pytest.raises(ValueError, match="biases"):
        Card.model_validate({"biases": [value]})


def test_an_unknown_statement_is_refused() -> None:
    with pytest.raises(ValueError, match="mood"):
        Project.model_validate({**topics().model_dump(mode="json"), "card": {"mood": "good"}})


def test_the_same_facts_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = released(tmp_path / "a"), released(tmp_path / "b")
    assert {path.name: path.read_bytes() for path in first.iterdir()} == {
        path.name: path.read_bytes() for path in second.iterdir()
    }


# Data in parts.


def parted(home: Path, count: int = 40, **release: Any) -> Path:
    value = topics().model_dump(mode="json")
    value["release"] |= {"splits": {"train": 60, "dev": 20, "test": 20}, **release}
    numbers = range(1, count + 1)
    answers = [
        one
        for number in numbers
        for one in (
            replace(answer(number, who, LABELS[number % 4]), shown=words(number), task_id=named(number))
            for who in ("anna", "ben")
        )
    ]
    return released(home, of=Project.model_validate(value), answers=answers, ids=[named(number) for number in numbers])


def words(number: int) -> dict[str, Any]:
    """Return a ticket that is near to no other."""
    text = " ".join(digest_of([number, place])[:7] for place in range(12))
    return {**shown(number), "text": text}


def named(number: int) -> str:
    return task_id("ticket_topics", words(number))


@theirs
def test_each_part_is_a_split_of_its_own_for_every_reader(tmp_path: Path) -> None:
    import datasets

    folder = parted(tmp_path)
    files = {path.name for path in folder.iterdir()}
    assert {f"{part}.{kind}" for part in ("train", "dev", "test") for kind in ("jsonl", "parquet")} <= files
    assert "splits.jsonl" in files
    assert verify(folder, SIGNER.public).problems == ()

    found = croissant_of(folder)
    assert found.metadata.issues.errors == set()
    rows = {part: [one[f"{part}/task_id"].decode() for one in found.records(part)] for part in ("train", "dev", "test")}
    assert sorted(one for part in rows.values() for one in part) == sorted(named(number) for number in range(1, 41))
    assert {one["splits/name"] for one in found.records("splits")} == {"train", "dev", "test"}

    loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert {part: sorted(loaded[part]["task_id"]) for part in loaded} == {part: sorted(rows[part]) for part in rows}


def test_an_input_keeps_its_part_from_release_to_release(tmp_path: Path) -> None:
    first = parted(tmp_path, 20)
    second = parted(tmp_path, 40)
    assert second != first
    assert first.parent == second.parent
    for part in ("train", "dev", "test"):
        before = {json.loads(line)["meta"]["task_id"] for line in (first / f"{part}.jsonl").open()}
        after = {json.loads(line)["meta"]["task_id"] for line in (second / f"{part}.jsonl").open()}
        assert before <= after


def test_a_killed_split_is_completed_as_it_was_begun(tmp_path: Path) -> None:
    folder = parted(tmp_path)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for name in ("checksums.json", "dev.parquet", "README.md"):
        (folder / name).unlink()
    assert parted(tmp_path) == folder
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_row_that_a_part_lost_is_found(tmp_path: Path) -> None:
    folder = parted(tmp_path)
    lines = (folder / "test.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "test.jsonl").write_bytes(b"".join(lines[1:]))
    reseal(folder)
    assert any("39 rows; the manifest says 40" in one for one in verify(folder, SIGNER.public).problems)


def test_other_formats_have_a_folder_of_their_own(tmp_path: Path) -> None:
    folder = parted(tmp_path, formats=["parquet", "spacy"])
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert "spacy/train.spacy" in names
    assert "train.jsonl" not in names
    assert verify(folder, SIGNER.public).problems == ()
    (folder / "spacy" / "train.spacy").write_bytes(b"x")
    assert any("spacy/train.spacy was changed" in one for one in verify(folder, SIGNER.public).problems)


@theirs
def test_a_release_without_parquet_is_described_by_its_lines(tmp_path: Path) -> None:
    import datasets

    value = topics().model_dump(mode="json")
    value["release"]["formats"] = ["jsonl"]
    folder = released(tmp_path, of=Project.model_validate(value))
    assert verify(folder, SIGNER.public).problems == ()
    assert croissant_of(folder).metadata.issues.errors == set()
    assert datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))["train"].num_rows == 3
