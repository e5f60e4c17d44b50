from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from include.annotation.answers import Answer
from include.base.canonical import canonical_json, sha256_hex
from include.base.errors import InvalidInput
from include.base.store import Store
from include.datasets import reproduce as reproducing
from include.datasets.freeze import FrozenVersion, freeze
from include.datasets.reproduce import Reproduction, ReproductionFinding, reproduce
from include.datasets.resolve import FinalDecision
from include.datasets.withdrawals import VersionWithdrawn, withdraw
from include.queues.progress import form
from tests.datasets.make import REGISTER, START, answer, project, register_of, task

PROJECT = project()
IDS = [task(number) for number in range(1, 7)]
ANSWERS = [
    answer(1, "anna", "billing", minutes=1),
    answer(1, "ben", "billing", minutes=2),
    answer(2, "anna", "billing", minutes=3),
    answer(2, "ben", "delivery", minutes=4),
    answer(3, "anna", verdict="ignore"),
    answer(3, "ben", verdict="ignore"),
    answer(4, "anna", "other", minutes=5),
    answer(4, "ben", "account", minutes=6),
    answer(4, "ben", "other", minutes=7, link=4444),
    answer(5, "anna", "other"),
]
DECIDED = FinalDecision(
    IDS[1], "d1", {"interface": "choice", "answer": "accept", "accept": ["delivery"]}, "carla", START
)


def make(store: Store, answers: list[Answer] | None = None, **more: Any) -> FrozenVersion:
    settings: dict[str, Any] = {"closed_by": "olga", "closing_reason": "enough", "register": REGISTER, **more}
    of = settings.pop("project", PROJECT)
    return freeze(store, of, form(IDS).digest, IDS, ANSWERS if answers is None else answers, **settings)


def again(store: Store, version: FrozenVersion, answers: list[Answer], **more: Any) -> Reproduction:
    settings: dict[str, Any] = {"register": REGISTER, "project": PROJECT, **more}
    return reproduce(store, settings.pop("project"), version.digest, answers, **settings)


def kinds(found: Reproduction) -> list[tuple[str, str]]:
    return [(one.kind, one.subject) for one in found.findings]


@pytest.mark.proves("a version is made again from the database and the manifest, with the same digest")
def test_the_same_answers_make_the_version_again(store: Store) -> None:
    version = make(store, decisions=[DECIDED], gate={"suite": "answers"})
    before = {place: place.stat().st_mtime_ns for place in version.path.iterdir()}
    moved = [replace(one, link_id=one.link_id + 500, example_id=one.example_id + 9) for one in reversed(ANSWERS)]
    found = again(store, version, moved, decisions=[DECIDED])
    assert found.reproduced
    assert (found.rebuilt, found.answers, found.found, found.findings) == (version.digest, 10, 10, ())
    assert "with the same digest" in found.sentence
    assert {place: place.stat().st_mtime_ns for place in version.path.iterdir()} == before


def test_what_came_later_makes_no_difference_and_is_told(store: Store) -> None:
    version = make(store)
    late = [answer(5, "ben", "other", minutes=50), answer(6, "anna", "other", minutes=51), answer(77, "ben", "other")]
    review = replace(DECIDED, decision_id="d2", kind="review")
    found = again(store, version, [*ANSWERS, *late], decisions=[review])
    assert found.reproduced
    assert found.counts == {"late": 2}
    assert {subject for _, subject in kinds(found)} == {f"example {one.example_id}" for one in late[:2]}


@pytest.mark.proves("an answer altered or gone since a version was frozen is named when the version is made again")
def test_what_was_altered_or_is_gone_is_named(store: Store) -> None:
    version = make(store)
    altered = replace(answer(1, "anna", "other", minutes=1), example_id=ANSWERS[0].example_id)
    now = {one.example_id: one.row_digest for one in ANSWERS}
    now[altered.example_id] = altered.row_digest
    del now[ANSWERS[9].example_id]
    told: list[ReproductionFinding] = []
    left = [altered, *ANSWERS[1:3], *ANSWERS[4:9]]
    found = again(store, version, left, look=lambda ids: [(one, now.get(one)) for one in ids], sink=told.append)
    assert not found.reproduced
    assert (found.answers, found.found) == (10, 7)
    assert found.counts == {"altered": 1, "late": 1, "record": 1, "unread": 1, "vanished": 1}
    assert sorted(kinds(found)) == sorted(
        [
            ("late", f"example {altered.example_id}"),
            ("altered", f"example {altered.example_id}"),
            ("unread", f"example {ANSWERS[3].example_id}"),
            ("vanished", f"example {ANSWERS[9].example_id}"),
            ("record", f"task {IDS[0][:12]}"),
        ]
    )
    assert told == list(found.findings)
    assert found.difference is not None
    assert (found.difference.removed, found.difference.went_to) == (1, {"missing": 1})
    assert "could NOT be made again: 7 of its 10 answers" in found.sentence
    assert json.loads(json.dumps(found.as_json()))["counts"] == found.counts
    blind = again(store, version, ANSWERS[1:])
    assert kinds(blind)[0] == ("lost", f"example {ANSWERS[0].example_id}")


def test_all_findings_are_counted_and_some_are_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproducing, "LISTED", 2)
    told: list[ReproductionFinding] = []
    found = again(store, make(store), [], sink=told.append)
    assert found.counts["lost"] == 10
    assert len([one for one in found.findings if one.kind == "lost"]) == 2
    assert len([one for one in told if one.kind == "lost"]) == 10


def test_settings_changed_since_are_told_and_the_manifests_rule_is_used(store: Store) -> None:
    version = make(store)
    annotation = {"rule": "majority", "answers_per_task": 3, "repeated": "first", "labels": ["billing", "other", "new"]}
    changed = project(policy={"min_completeness_percent": 81}, **annotation)
    people = REGISTER.content.model_copy(update={"services": ()})
    register = type(REGISTER)(people)
    found = again(store, version, ANSWERS, project=changed, register=register)
    assert found.reproduced
    fields = {f"annotation.{name}" for name in ("rule", "answers_per_task", "repeated")}
    assert {subject for _, subject in kinds(found)} == {*fields, "policy", "register"}
    stranger = again(store, version, ANSWERS, register=register_of(["anna"]))
    assert not stranger.reproduced
    assert ("setting", "register") in kinds(stranger)
    assert stranger.difference is not None
    assert stranger.difference.evidence == 2
    assert [one.field for one in stranger.difference.manifest] == ["persons"]


def test_a_decision_that_is_gone_is_named(store: Store) -> None:
    version = make(store, decisions=[DECIDED])
    found = again(store, version, ANSWERS)
    assert ("decision", f"task {IDS[1][:12]}") in kinds(found)
    assert not found.reproduced
    ignoring = replace(DECIDED, task_id=IDS[3], value={"interface": "choice", "answer": "ignore"})
    left_out = make(store, decisions=[ignoring])
    assert again(store, left_out, ANSWERS, decisions=[ignoring]).reproduced


def test_a_version_of_the_first_format_is_made_again(store: Store) -> None:
    version = make(store)
    value = json.loads(version.manifest.content())
    del value["repeats"], value["rule"]["repeated"]
    value |= {"format": 1, "rule": {**value["rule"], "text": "as it was worded then"}}
    stored = canonical_json(value)
    folder = version.path.parent / sha256_hex(stored)
    version.path.rename(folder)
    (folder / "manifest.json").write_bytes(stored)
    old = replace(version, digest=folder.name)
    assert again(store, old, ANSWERS).reproduced
    assert not again(store, old, ANSWERS[:-1]).reproduced


def test_a_finished_batch_whose_answers_are_gone_is_compared_all_the_same(store: Store) -> None:
    ids = IDS[:1]
    version = freeze(store, PROJECT, form(ids).digest, ids, ANSWERS[:2], register=REGISTER)
    found = again(store, version, ANSWERS[:1])
    assert found.counts == {"lost": 1, "record": 1}


def test_only_a_whole_version_is_made_again(store: Store) -> None:
    version = make(store)
    with pytest.raises(InvalidInput, match="no such version"):
        reproduce(store, PROJECT, "0" * 64, ANSWERS, register=REGISTER)
    content = (version.path / "rows.jsonl").read_bytes()
    (version.path / "rows.jsonl").write_bytes(content.replace(b"billing", b"account"))
    with pytest.raises(InvalidInput, match="SHA-256"):
        again(store, version, ANSWERS)
    withdraw(store, PROJECT, version.digest, person="olga", reason="erasure", at=START)
    with pytest.raises(VersionWithdrawn):
        again(store, version, ANSWERS)
