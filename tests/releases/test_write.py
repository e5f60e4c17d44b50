from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from include.annotation.answers import Answer, AnswerValue
from include.annotation.tasks import task_id
from include.base.canonical import canonical_json, sha256_hex
from include.base.errors import InvalidInput, Refused
from include.base.signing import Signer
from include.base.store import Store
from include.datasets.conditions import completeness, pinned_problems
from include.datasets.freeze import FrozenVersion, freeze
from include.passport.facts import Context, GuidelineRelease
from include.projects.model import Interface, Project
from include.queues.progress import form
from include.releases import write as releasing
from include.releases.write import Release, mark_recalled, write_release
from include.systems.prodigy.hashes import set_hashes
from tests.datasets.make import GUIDELINE, REGISTER, answer, project, shown, task

PROJECT = project()
IDS = [task(number) for number in (1, 2, 3, 4)]
ANSWERS = [
    answer(1, "anna", "billing", "other"),
    answer(1, "ben", "billing", "other"),
    answer(2, "anna"),
    answer(2, "ben"),
    answer(3, "anna", verdict="reject"),
    answer(3, "ben", verdict="reject"),
    answer(4, "anna", verdict="ignore"),
    answer(4, "ben", verdict="ignore"),
]
SIGNER = Signer(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
APPROVALS: list[dict[str, Any]] = [
    {
        "role": "data_owner",
        "person": "dana",
        "outcome": "approve",
        "meaning": "approval",
        "grade": "attested",
        "signature": "authenticated",
        "decided_at": datetime(2026, 5, 2, 9, tzinfo=UTC),
    }
]
CONTEXT = Context(
    asked_at=datetime(2026, 5, 2, 8, tzinfo=UTC),
    released_at=datetime(2026, 5, 2, 10, tzinfo=UTC),
    guidelines=(GuidelineRelease(3, GUIDELINE, "2026-04-30T12:00:00+00:00", 2),),
)


FILES = {
    "data.jsonl",
    "data.parquet",
    "manifest.json",
    "approvals.json",
    "README.md",
    "croissant.json",
    "openlineage.json",
    "statement.json",
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def frozen(store: Store, answers: list[Answer] | None = None, of: Project = PROJECT, **more: Any) -> FrozenVersion:
    ids = more.pop("ids", IDS)
    return freeze(store, of, form(ids).digest, ids, ANSWERS if answers is None else answers, register=REGISTER, **more)


def release(store: Store, version: FrozenVersion, of: Project = PROJECT, **changes: Any) -> Release:
    values = {"number": 1, "approvals": APPROVALS, "context": CONTEXT, "signer": None, **changes}
    return write_release(
        store,
        of,
        version.digest,
        values["number"],
        version.manifest,
        values["approvals"],
        values["context"],
        values["signer"],
    )


def current(store: Store) -> dict[str, Any]:
    return json.loads((store.root / "releases" / PROJECT.name / "current.json").read_bytes())


def test_a_release_can_be_read_back(store: Store) -> None:
    import pandas
    import pyarrow.parquet

    version = frozen(store)
    result = release(store, version)
    assert result.created
    assert result.path == store.root / "releases" / "ticket_topics" / f"v1-{version.digest[:12]}"
    assert current(store) == {"release": result.path.name, "number": 1, "digest": version.digest}

    tasks = [json.loads(line) for line in (result.path / "data.jsonl").read_text("utf-8").splitlines()]
    assert [one["meta"]["task_id"] for one in tasks] == sorted(IDS[:3])
    first = next(one for one in tasks if one["meta"]["task_id"] == IDS[0])
    hashed = set_hashes(shown(1))
    assert {key: first[key] for key in ("_input_hash", "_task_hash", "_view_id")} == {
        "_input_hash": hashed["_input_hash"],
        "_task_hash": hashed["_task_hash"],
        "_view_id": "choice",
    }
    assert (first["text"], first["options"]) == (shown(1)["text"], shown(1)["options"])
    assert (first["answer"], first["accept"]) == ("accept", ["billing", "other"])
    rejected = next(one for one in tasks if one["meta"]["task_id"] == IDS[2])
    assert rejected["answer"] == "reject"
    assert "accept" not in rejected

    table = pyarrow.parquet.read_table(result.path / "data.parquet")
    assert str(table.schema.field("accept").type).startswith("list<")
    assert str(table.schema.field("input_hash").type) == "int32"
    assert (
        pyarrow.parquet.ParquetFile(result.path / "data.parquet").metadata.row_group(0).column(0).compression == "ZSTD"
    )
    frame = pandas.read_parquet(result.path / "data.parquet").set_index("task_id")
    assert len(frame) == 3
    assert list(frame.loc[IDS[0], "accept"]) == ["billing", "other"]
    assert list(frame.loc[IDS[1], "accept"]) == []
    assert frame.loc[IDS[2], "accept"] is None
    assert frame.loc[IDS[0], "text"] == shown(1)["text"]
    lines = pandas.read_json(result.path / "data.jsonl", lines=True)
    assert list(lines["text"]) == list(frame["text"])


def make_old(path: Path) -> None:
    """Make of a release what the writer made of it before there was a passport."""
    sums = json.loads((path / "checksums.json").read_bytes())
    approvals = json.loads((path / "approvals.json").read_bytes())
    for one in approvals["approvals"]:
        one["account"] = f"{one['person']}@people.example"
    (path / "approvals.json").write_bytes(canonical_json(approvals))
    for name in ("croissant.json", "openlineage.json", "statement.json"):
        (path / name).unlink()
        del sums["files"][name]
    content = (path / "approvals.json").read_bytes()
    sums["files"]["approvals.json"] = {"sha256": sha256_hex(content), "bytes": len(content)}
    del sums["passport"]
    (path / "checksums.json").write_bytes(canonical_json(sums) + b"\n")


def test_checksums_cover_every_file(store: Store) -> None:
    result = release(store, frozen(store))
    names = {path.name for path in result.path.iterdir()}
    assert names == {*FILES, "checksums.json"}
    sums = json.loads((result.path / "checksums.json").read_text())["files"]
    assert set(sums) == names - {"checksums.json"}
    for name, entry in sums.items():
        content = (result.path / name).read_bytes()
        assert entry == {"sha256": sha256_hex(content), "bytes": len(content)}
        assert result.files[name] == len(content)


def test_the_card_is_made_of_facts(store: Store) -> None:
    version = frozen(store)
    card = (release(store, version).path / "README.md").read_text("utf-8")
    _, front, body = card.split("---\n", 2)
    head = yaml.safe_load(front)
    assert head["license"] == "cc0-1.0"
    assert head["size_categories"] == ["n<1K"]
    assert head["task_categories"] == ["text-classification"]
    assert head["configs"][0]["data_files"] == [{"split": "train", "path": "data.parquet"}]
    for part in (
        version.digest,
        "## Annotation process",
        "## Who are the annotators",
        "| anna | 3 | 1 |",
        "| data_owner | dana | approve | approval | attested | authenticated | 2026-05-02T09:00:00+00:00 |",
        f"- 8 answers were given under release 3 (`{GUIDELINE}`), published 2026-04-30T12:00:00+00:00 with 2 page(s)",
        "on 3 rows everybody gave the value that counts",
        "1 tasks are left out because everybody ignored them",
        "never given: account, delivery",
        "100 %",
    ):
        assert part in body, part
    assert "ticket 1" not in card


def test_text_of_people_cannot_break_the_card(store: Store) -> None:
    version = frozen(store, ANSWERS[1:], closed_by="olga", closing_reason="<script>alert(1)</script>\n## Forged")
    card = (release(store, version).path / "README.md").read_text("utf-8")
    assert "<script>" not in card
    assert "\n## Forged" not in card


def test_writing_again_creates_nothing(store: Store) -> None:
    version = frozen(store)
    first = release(store, version)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(store.root.rglob("*.*"))}
    for context in (CONTEXT, Context()):
        again = release(store, version, context=context)
        assert (again.created, again.moved, again.files) == (False, False, first.files)
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(store.root.rglob("*.*"))} == before


@pytest.mark.parametrize(
    "kept", [(), ("data.jsonl",), ("data.jsonl", "data.parquet", "manifest.json"), tuple(sorted(FILES))]
)
def test_a_half_written_release_is_completed(store: Store, kept: tuple[str, ...]) -> None:
    version = frozen(store)
    first = release(store, version)
    whole = {path.name: path.read_bytes() for path in first.path.iterdir()}
    (store.root / "releases" / "ticket_topics" / "current.json").unlink()
    for path in list(first.path.iterdir()):
        if path.name not in kept:
            path.unlink()
    (first.path / "left.behind").write_text("by a try that was to write more files")
    again = release(store, version)
    assert again.created
    assert again.moved
    assert {path.name: path.read_bytes() for path in again.path.iterdir()} == whole


def test_what_is_told_in_an_unfinished_release_is_told_anew(store: Store) -> None:
    version = frozen(store)
    first = release(store, version, context=Context())
    (first.path / "checksums.json").unlink()
    again = release(store, version, signer=SIGNER)
    assert {path.name for path in again.path.iterdir()} == (FILES - {"statement.json"}) | {
        "attestation.json",
        "signing-key.pem",
        "checksums.json",
    }
    assert "2026-04-30T12:00:00+00:00" in (again.path / "README.md").read_text("utf-8")


def test_a_try_that_was_overtaken_touches_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stood still between its data and its passport, while a newer try finished and the release was recalled."""
    version = frozen(store)
    describe = releasing.describe

    def overtaken(facts: Any) -> dict[str, bytes]:
        monkeypatch.setattr(releasing, "describe", describe)
        finished = release(store, version, context=CONTEXT)
        mark_recalled(store, PROJECT, finished.path.name, {"by": "dana", "at": "now", "reason": "wrong"})
        return describe(facts)

    monkeypatch.setattr(releasing, "describe", overtaken)
    late = release(store, version, context=Context())
    assert not late.created
    assert "2026-04-30T12:00:00+00:00" in (late.path / "README.md").read_text("utf-8")
    assert (late.path / "RECALLED.json").exists()


def test_a_release_from_before_there_was_a_passport_stays_valid(store: Store) -> None:
    version = frozen(store)
    path = release(store, version).path
    make_old(path)
    before = {place.name: place.read_bytes() for place in path.iterdir()}
    assert not release(store, version).created
    assert {place.name: place.read_bytes() for place in path.iterdir()} == before


def test_other_bytes_are_never_overwritten(store: Store) -> None:
    version = frozen(store)
    path = release(store, version).path
    with pytest.raises(InvalidInput, match=r"approvals\.json"):
        release(store, version, approvals=[])
    content = (path / "data.jsonl").read_bytes()
    (path / "data.jsonl").write_bytes(content + b"{}\n")
    with pytest.raises(InvalidInput, match=r"data\.jsonl"):
        release(store, version)
    (path / "checksums.json").unlink()
    with pytest.raises(InvalidInput, match=r"data\.jsonl"):
        release(store, version)
    (path / "data.jsonl").unlink()
    assert release(store, version).created


def test_a_version_with_one_changed_byte_is_not_released(store: Store) -> None:
    version = frozen(store)
    rows = version.path / "rows.jsonl"
    rows.write_bytes(rows.read_bytes().replace(b"billing", b"billinG", 1))
    with pytest.raises(Refused, match="not what was approved"):
        release(store, version)
    assert not (store.root / "releases").exists()
    other = version.manifest.model_copy(update={"adjudicators": ["dana"]})
    with pytest.raises(Refused, match="the manifest given is that of"):
        write_release(store, PROJECT, version.digest, 1, other, APPROVALS)


def test_the_pointer_moves_to_the_newer_release(store: Store) -> None:
    first = frozen(store)
    release(store, first)
    second = frozen(store, [*ANSWERS, answer(1, "carla", "billing", "other")])
    assert release(store, second, number=2).moved
    assert current(store)["digest"] == second.digest


@pytest.mark.parametrize("interface", ["textcat", "ner"])
def test_the_other_interfaces(store: Store, interface: str) -> None:
    import pandas

    of = project("product_names", interface=interface, labels=["PRODUCT"])
    seen: dict[str, Any] = {"text": "A Frobnicator 🙂 by Acme"}
    if interface == "textcat":
        seen["label"] = "PRODUCT"
        value = AnswerValue(Interface.TEXTCAT, "reject", label="PRODUCT")
    else:
        value = AnswerValue(Interface.NER, "accept", spans=((2, 13, "PRODUCT"),))
    name = task_id(of.name, seen)
    one = replace(answer(1, "anna"), task_id=name, shown=seen, value=value)
    version = frozen(store, [one], of, ids=[name])
    result = release(store, version, of)
    row = json.loads((result.path / "data.jsonl").read_text("utf-8"))
    record = pandas.read_parquet(result.path / "data.parquet").iloc[0]
    if interface == "ner":
        assert row["spans"] == [{"start": 2, "end": 13, "label": "PRODUCT"}]
        assert dict(record["spans"][0]) == {"start": 2, "end": 13, "label": "PRODUCT"}
        assert version.manifest.labels == {"PRODUCT": 1}
        assert row["_view_id"] == "ner_manual"
    else:
        assert (row["label"], row["answer"]) == ("PRODUCT", "reject")
        assert record["label"] == "PRODUCT"
        assert version.manifest.labels == {"PRODUCT": 0}
        assert version.manifest.answers["reject"] == 1


# What forbids a release.


def decision(version: FrozenVersion, role_: str, person_: str, meaning_: str, **changes: Any) -> Any:
    return SimpleNamespace(
        **{
            "digest": version.digest,
            "subject": f"version:{version.digest}",
            "role": role_,
            "outcome": "approve",
            "counts": True,
            "person": person_,
            "meaning": meaning_,
            "grade": "attested",
            **changes,
        }
    )


def both(version: FrozenVersion, **changes: Any) -> list[Any]:
    return [
        decision(version, "quality_reviewer", "quentin", "review"),
        decision(version, "data_owner", "dana", "approval", **changes),
    ]


def test_completeness_counts_what_is_settled_and_rounds_down(store: Store) -> None:
    assert completeness(frozen(store).manifest) == 100
    ids = [*IDS, *(task(number) for number in (11, 12))]
    partial = frozen(store, ANSWERS, ids=ids, closed_by="olga", closing_reason="late").manifest
    assert completeness(partial) == 66


def test_every_demand_met_allows_the_release(store: Store) -> None:
    version = frozen(store)
    assert pinned_problems(version.manifest, both(version)) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"digest": "0" * 64}, "lacks attested approval"),
        ({"subject": "version:other"}, "lacks attested approval"),
        ({"counts": False}, "lacks attested approval"),
        ({"outcome": "undecided"}, "lacks attested approval"),
        ({"grade": "asserted"}, "lacks attested approval"),
        ({"meaning": "review"}, "lacks attested approval"),
        ({"person": None}, "lacks attested approval"),
        ({"outcome": "reject"}, "decided reject"),
        ({"person": "anna"}, "had a hand in its labels"),
        ({"person": "quentin"}, "counts once"),
    ],
)
def test_an_approval_that_is_not_exactly_what_the_policy_demands_is_missing(
    store: Store, changes: dict[str, Any], words: str
) -> None:
    version = frozen(store)
    problems = pinned_problems(version.manifest, both(version, **changes))
    assert any(words in problem for problem in problems), problems


def test_missing_stamps_missing_answers_and_strangers_forbid_it(store: Store) -> None:
    unstamped = frozen(store, [replace(ANSWERS[0], guideline=None, guideline_number=None), *ANSWERS[1:]])
    assert pinned_problems(unstamped.manifest, both(unstamped)) == [
        f"1 answers in version {unstamped.digest[:12]} do not say under which guideline they were given."
    ]
    partial = frozen(store, ANSWERS[:4], closed_by="olga", closing_reason="late")
    assert any("50 % complete" in one for one in pinned_problems(partial.manifest, both(partial)))
    strange = frozen(store, [*ANSWERS[:7], answer(4, "zed", verdict="ignore")])
    assert any("does not know" in one for one in pinned_problems(strange.manifest, both(strange)))
    empty = frozen(store, ANSWERS[6:], ids=IDS[3:])
    assert any("holds no row" in one for one in pinned_problems(empty.manifest, both(empty)))


def test_a_manifest_whose_policy_was_exchanged_is_refused(store: Store) -> None:
    version = frozen(store)
    forged = version.manifest.model_copy(update={"policy": {**version.manifest.policy, "four_eyes": False}})
    with pytest.raises(InvalidInput, match="policy_digest"):
        pinned_problems(forged, both(version))
