from __future__ import annotations

import json
import random
import resource
import shutil
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from include.annotation.answers import Answer, read_answer
from include.base.canonical import canonical_json, sha256_hex
from include.base.errors import InvalidInput, Refused
from include.base.store import Store
from include.datasets import votes
from include.datasets.freeze import (
    FrozenVersion,
    SourceDrift,
    compare_sources,
    freeze,
    read_manifest,
    rows,
    source_rows,
    verify_version,
)
from include.datasets.manifest import parse_manifest
from include.datasets.resolve import FinalDecision
from include.queues.progress import form
from include.systems.prodigy.values import Row
from tests.datasets.make import GUIDELINE, LABELS, REGISTER, START, answer, project, shown, task
from tests.systems.prodigy.make import connect

PROJECT = project()
IDS = [task(number) for number in range(1, 6)]
ANSWERS = [
    answer(1, "anna", "billing", minutes=1),
    answer(1, "ben", "billing", minutes=2),
    answer(2, "anna", "billing", minutes=3),
    answer(2, "ben", "delivery", minutes=4),
    answer(3, "anna", verdict="ignore"),
    answer(3, "ben", verdict="ignore"),
    answer(4, "anna", "other", minutes=5),
    answer(4, "ben", "other", "account", minutes=6),
    answer(4, "ben", "other", minutes=7, link=4444, guideline=None),
    answer(5, "anna", minutes=8),
    answer(5, "ben", minutes=9),
]


def make(store: Store, answers: list[Answer] | None = None, ids: list[str] | None = None, **more: Any) -> FrozenVersion:
    ids = IDS if ids is None else ids
    return freeze(
        store,
        more.pop("project", PROJECT),
        form(ids).digest,
        ids,
        ANSWERS if answers is None else answers,
        **{"register": REGISTER, **more},
    )


def test_a_version_holds_what_counts_and_lists_the_rest(store: Store) -> None:
    version = make(store)
    manifest = version.manifest
    counts = manifest.counts
    assert (counts.tasks, counts.rows, counts.ignored, counts.disputed, counts.missing) == (5, 3, 1, 1, 0)
    assert (counts.answers, counts.counted, counts.losing) == (11, 6, 5)
    assert (counts.unanimous, counts.split, counts.decided) == (3, 0, 0)
    assert manifest.labels == {"account": 0, "billing": 1, "delivery": 0, "other": 1}
    assert manifest.answers == {"accept": 3, "none": 1, "reject": 0}
    assert manifest.losing_reasons == {"disputed": 2, "ignored": 2, "superseded": 1}
    assert [(share.id, share.counted, share.losing) for share in manifest.persons] == [("anna", 3, 2), ("ben", 3, 3)]
    assert [(share.digest, share.number, share.counted, share.losing) for share in manifest.guidelines] == [
        (GUIDELINE, 3, 5, 5),
        ("unknown", None, 1, 0),
    ]
    assert [entry.task_id for entry in manifest.disputed.items] == [IDS[1]]
    assert [entry.task_id for entry in manifest.ignored.items] == [IDS[2]]
    assert (manifest.rule.name, manifest.rule.answers_per_task) == ("unanimous", 2)
    assert manifest.policy == PROJECT.policy.pinned()
    assert manifest.policy_digest == PROJECT.policy.digest
    assert manifest.register_digest == REGISTER.digest
    assert manifest.batch == form(IDS).digest
    assert manifest.closed_by is None
    assert manifest.first_answer_at == "2026-05-01T08:00:00+00:00"
    assert manifest.last_answer_at == "2026-05-01T08:09:00+00:00"
    assert manifest.hands == {"anna", "ben"}


def test_the_files_are_what_the_digests_say(store: Store) -> None:
    version = make(store)
    assert version.created
    assert version.path == store.root / "versions" / "ticket_topics" / version.digest
    assert sorted(path.name for path in version.path.iterdir()) == [
        "losing.jsonl",
        "manifest.json",
        "rows.jsonl",
        "sources.jsonl",
    ]
    assert sha256_hex((version.path / "manifest.json").read_bytes()) == version.digest
    assert sha256_hex((version.path / "rows.jsonl").read_bytes()) == version.manifest.rows.sha256
    lines = (version.path / "rows.jsonl").read_bytes().splitlines()
    assert [canonical_json(json.loads(line)) for line in lines] == lines
    listed = list(rows(store, PROJECT, version.digest))
    assert [row["task_id"] for row in listed] == sorted([IDS[0], IDS[3], IDS[4]])
    by_task = {row["task_id"]: row for row in listed}
    first = by_task[IDS[0]]
    assert first["value"] == {"interface": "choice", "answer": "accept", "accept": ["billing"]}
    assert first["shown"] == shown(1)
    assert [entry["person"] for entry in first["answers"]] == ["anna", "ben"]
    assert by_task[IDS[3]]["answers"][1]["row"] == ANSWERS[8].row_digest
    losing = [json.loads(line) for line in (version.path / "losing.jsonl").read_bytes().splitlines()]
    assert [one["row"] for one in losing if one["reason"] == "superseded"] == [ANSWERS[7].row_digest]


def test_freezing_again_writes_nothing(store: Store) -> None:
    first = make(store)
    before = {path: path.stat().st_mtime_ns for path in first.path.iterdir()}
    second = make(store)
    assert second.digest == first.digest
    assert not second.created
    assert {path: path.stat().st_mtime_ns for path in first.path.iterdir()} == before


def test_an_interrupted_freeze_is_completed(store: Store) -> None:
    first = make(store)
    for name in ("manifest.json", "losing.jsonl", "sources.jsonl"):
        (first.path / name).unlink()
    again = make(store)
    assert again.created
    assert verify_version(store, PROJECT, first.digest) == []


@pytest.mark.proves("the same answers give the same digest, in whatever order they come")
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_the_same_answers_give_the_same_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: st.DataObject
) -> None:
    """Whatever their order, the row ids of the database, answers to other tasks, or how many are held at a time."""
    of = project(repeated=data.draw(st.sampled_from(["latest", "first", "refuse"])))
    people = ["anna", "ben", "carla", "zed", None]
    answers = [
        answer(
            data.draw(st.integers(1, 5)),
            data.draw(st.sampled_from(people)),
            *data.draw(st.lists(st.sampled_from(LABELS), unique=True, max_size=2)),
            # Few different moments: somebody's answers to a task often carry the same one.
            minutes=data.draw(st.integers(0, 2)),
            link=place + 1,
            verdict=data.draw(st.sampled_from(["accept", "accept", "reject", "ignore"])),
            round_=data.draw(st.integers(1, 2)),
        )
        for place in range(data.draw(st.integers(0, 14)))
    ]
    closing: dict[str, Any] = {"closed_by": "olga", "closing_reason": "enough"}
    first = make(Store(tmp_path / "a"), answers, project=of, **closing)
    monkeypatch.setattr(votes, "_HELD_BYTES", data.draw(st.sampled_from([1, 3000, 1 << 24])))
    other = data.draw(st.permutations([replace(one, link_id=one.link_id * 7 + 3, example_id=1) for one in answers]))
    ids = data.draw(st.permutations(IDS))
    second = make(Store(tmp_path / "b"), [*other, answer(77, "anna", "billing")], ids, project=of, **closing)
    assert second.digest == first.digest
    assert verify_version(Store(tmp_path / "a"), PROJECT, first.digest) == []
    repeated = Counter((one.task_id, one.account, one.round) for one in answers)
    latest_round = {task: max(one.round for one in answers if one.task_id == task) for task, _, _ in repeated}
    expected = {key[0] for key, times in repeated.items() if times > 1 and key[2] == latest_round[key[0]]}
    assert {entry.task_id for entry in first.manifest.repeats.items} == expected
    counts = first.manifest.counts
    assert counts.answers == len(answers)
    assert counts.tasks == counts.rows + counts.ignored + counts.disputed + counts.missing == 5
    shutil.rmtree(tmp_path / "a")
    shutil.rmtree(tmp_path / "b")


@pytest.mark.proves("the same answers give the same digest on SQLite, PostgreSQL and MariaDB")
def test_every_engine_gives_the_same_digest(prodigy_url: str, store: Store) -> None:
    """Rows stored in two orders on each engine, and read in pieces of several sizes."""
    stored = [(content(one), one.account) for one in ENGINE_ANSWERS]
    expected = make(store, [read_answer(row(content, f"ticket_topics-{who}"), PROJECT) for content, who in stored])
    prodigy = connect(prodigy_url)
    for place, order in enumerate((stored, random.Random(7).sample(stored, len(stored)))):
        insert(prodigy_url, order, first=100 * place + 1, empty=place > 0)
        for batch in (1, 3, 5000):
            answers = [read_answer(row, PROJECT) for row in prodigy.rows("ticket_topics", batch=batch)]
            again = make(Store(store.root / f"{place}-{batch}"), answers)
            assert again.digest == expected.digest
            assert again.manifest.counts.answers == len(ENGINE_ANSWERS)


ENGINE_ANSWERS = [*ANSWERS, answer(5, "anna", "billing", minutes=8, link=9000)]


def content(one: Answer) -> bytes:
    """Return an answer as Prodigy stores it; the last two of the list were given in the same second."""
    assert one.time is not None
    return json.dumps(
        {
            **one.shown,
            "accept": list(one.value.accepted),
            "answer": one.value.answer,
            "_timestamp": int(one.time.timestamp()),
            "labelops": {"served": {"guideline": one.guideline, "guideline_number": one.guideline_number}},
        }
    ).encode()


def row(stored: bytes, session: str) -> Row:
    return Row(1, 1, 0, 0, json.loads(stored), stored, session)


def insert(url: str, rows: list[tuple[bytes, str | None]], *, first: int, empty: bool) -> None:
    engine = create_engine(url, poolclass=NullPool)
    accounts = sorted({str(account) for _, account in rows})
    with engine.begin() as conn:
        for table in ("link", "example", "dataset") if empty else ():
            conn.execute(text(f"DELETE FROM {table}"))
        names = ["ticket_topics", *(f"ticket_topics-{account}" for account in accounts)]
        for number, name in enumerate(names, 1):
            flag: object = number > 1 if engine.dialect.name == "postgresql" else int(number > 1)
            conn.execute(
                text("INSERT INTO dataset VALUES (:id, :name, 0, :meta, :session)"),
                {"id": number, "name": name, "meta": b"{}", "session": flag},
            )
        for place, (stored, account) in enumerate(rows):
            example = first + place
            conn.execute(text("INSERT INTO example VALUES (:id, 1, 1, :content)"), {"id": example, "content": stored})
            for which, dataset in ((0, 1), (1, 2 + accounts.index(str(account)))):
                conn.execute(
                    text("INSERT INTO link VALUES (:id, :example, :dataset)"),
                    {"id": 2 * example + which, "example": example, "dataset": dataset},
                )


def test_who_answered_again_is_listed(store: Store) -> None:
    version = make(store)
    repeats = version.manifest.repeats
    assert (repeats.count, repeats.answers) == (1, 1)
    assert [one.model_dump() for one in repeats.items] == [
        {"task_id": IDS[3], "person": "ben", "round": 1, "kept": ANSWERS[8].row_digest, "lost": [ANSWERS[7].row_digest]}
    ]
    assert version.manifest.rule.repeated == "latest"
    first = make(store, project=project(repeated="first")).manifest
    assert first.rule.text != version.manifest.rule.text
    assert (first.counts.disputed, first.losing_reasons["repeated"]) == (2, 1)
    refused = make(store, project=project(repeated="refuse")).manifest
    assert (refused.counts.disputed, refused.losing_reasons["repeated"]) == (2, 2)
    assert refused.repeats.items[0].kept is None
    numbers = range(1, 1103)
    many = [answer(n, "anna", "billing", minutes=m, link=2 * n + m) for n in numbers for m in (0, 1)]
    ids = [task(number) for number in numbers]
    long = make(store, many, ids, closed_by="olga", closing_reason="a test")
    assert (long.manifest.repeats.count, long.manifest.repeats.items) == (1102, None)
    assert len((long.path / "repeats.jsonl").read_bytes().splitlines()) == 1102
    assert verify_version(store, PROJECT, long.digest) == []
    (long.path / "repeats.jsonl").unlink()
    assert any("repeats.jsonl" in problem for problem in verify_version(store, PROJECT, long.digest))


def test_a_manifest_of_the_first_format_keeps_its_digest(store: Store) -> None:
    """It has no list of repeats and does not say what counted of them."""
    version = make(store)
    value = json.loads(version.manifest.content())
    del value["repeats"], value["rule"]["repeated"]
    value["format"] = 1
    stored = canonical_json(value)
    folder = version.path.parent / sha256_hex(stored)
    shutil.copytree(version.path, folder)
    (folder / "manifest.json").write_bytes(stored)
    manifest = read_manifest(store, PROJECT, folder.name)
    assert (manifest.digest, manifest.content(), manifest.repeats) == (folder.name, stored, None)
    assert verify_version(store, PROJECT, folder.name) == []
    for lacking in ({"format": 1}, {"repeats": None}):
        with pytest.raises(InvalidInput, match="repeats: format"):
            parse_manifest(canonical_json({**json.loads(version.manifest.content()), **lacking}), "manifest.json")


def test_anything_that_changes_the_meaning_changes_the_digest(store: Store) -> None:
    digests = {make(store).digest}
    changed = [
        make(store, [answer(1, "anna", "billing", "other", minutes=1), *ANSWERS[1:]]),
        make(store, [replace(ANSWERS[0], row_digest="0" * 64), *ANSWERS[1:]]),
        make(store, [*ANSWERS, answer(1, "carla", "billing")]),
        make(store, project=project(policy={"min_completeness_percent": 81})),
        make(store, gate={"suite": "answers", "result": "0" * 64}),
    ]
    digests |= {version.digest for version in changed}
    assert len(digests) == 6


def test_an_unfinished_batch_needs_a_person_and_a_reason(store: Store) -> None:
    with pytest.raises(Refused, match="1 of 5 tasks lack answers"):
        make(store, ANSWERS[1:])
    with pytest.raises(InvalidInput, match="closed_by"):
        make(store, ANSWERS[1:], closed_by="somebody", closing_reason="enough")
    with pytest.raises(InvalidInput, match="closing_reason"):
        make(store, ANSWERS[1:], closed_by="olga")
    with pytest.raises(InvalidInput, match="nobody is named"):
        make(store, closing_reason="enough")
    version = make(store, ANSWERS[1:], closed_by="olga", closing_reason="Ben is away.")
    assert version.manifest.closed_by.model_dump() == {"person": "olga", "reason": "Ben is away."}
    assert [entry.model_dump() for entry in version.manifest.missing.items] == [
        {"task_id": IDS[0], "persons": 1, "values": 1}
    ]


def test_other_tasks_than_the_batchs_are_refused(store: Store) -> None:
    with pytest.raises(InvalidInput, match="another batch"):
        freeze(store, PROJECT, "0" * 64, IDS, ANSWERS, register=REGISTER)


def test_a_final_decision_enters_with_who_decided(store: Store) -> None:
    decided = FinalDecision(
        IDS[1], "d1", {"interface": "choice", "answer": "accept", "accept": ["delivery"]}, "carla", START
    )
    elsewhere = replace(decided, task_id=task(99), decision_id="d2", person="hugo")
    manifest = make(store, decisions=[decided, elsewhere]).manifest
    assert (manifest.counts.rows, manifest.counts.disputed, manifest.counts.decided) == (4, 0, 1)
    assert manifest.adjudicators == ["carla"]
    assert manifest.hands == {"anna", "ben", "carla"}
    assert manifest.losing_reasons["overruled"] == 1
    assert manifest.labels["delivery"] == 1
    unanswered = replace(decided, task_id=IDS[0])
    with pytest.raises(InvalidInput, match="never answered"):
        make(store, ANSWERS[2:], decisions=[unanswered])
    version = make(store, ANSWERS[2:], decisions=[replace(unanswered, shown=shown(1))])
    row = next(row for row in rows(store, PROJECT, version.digest) if row["task_id"] == IDS[0])
    assert row["shown"] == shown(1)
    assert verify_version(store, PROJECT, version.digest) == []


def test_unknown_people_are_named_by_a_salted_digest(store: Store) -> None:
    strangers = [answer(1, "zed", "billing"), answer(1, None, "billing")]
    manifest = make(store, strangers, IDS[:1]).manifest
    assert len(manifest.persons) == 2
    assert all(share.id.startswith("unknown:") and len(share.id) == 20 for share in manifest.persons)
    assert b"zed" not in manifest.content()


def test_fractions_are_kept_as_text(store: Store) -> None:
    picked = [replace(one, shown={**one.shown, "scale": 0.5}) for one in ANSWERS[:2]]
    version = make(store, picked, IDS[:1])
    assert next(rows(store, PROJECT, version.digest))["shown"]["scale"] == "0.5"
    whole = make(store, [replace(one, shown={**one.shown, "scale": 1, "sure": True}) for one in ANSWERS[:2]], IDS[:1])
    assert next(rows(store, PROJECT, whole.digest))["shown"] == {**shown(1), "scale": 1, "sure": True}


def test_what_is_shown_beside_the_content_does_not_depend_on_who_came_first(store: Store) -> None:
    """An image's size is no part of its task's id, and not every answer carries it."""
    plain, sized, other = (
        replace(answer(1, who, "billing"), shown={"image": "cat.png", **size})
        for who, size in (("anna", {}), ("ben", {"width": 640}), ("carla", {"width": 480}))
    )
    digests = set()
    for place, order in enumerate(permutations([plain, sized, other])):
        of = Store(store.root / str(place))
        version = make(of, list(order), IDS[:1])
        assert next(rows(of, PROJECT, version.digest))["shown"] == {"image": "cat.png", "width": 640}
        digests.add(version.digest)
    assert len(digests) == 1


def test_long_lists_become_files(store: Store) -> None:
    ids = [task(number) for number in range(1, 1103)]
    version = make(store, ANSWERS, ids, closed_by="olga", closing_reason="a test")
    missing = version.manifest.missing
    assert (missing.count, missing.items, missing.file.lines) == (1097, None, 1097)
    assert (version.path / "missing.jsonl").exists()
    assert not (version.path / "disputed.jsonl").exists()
    assert verify_version(store, PROJECT, version.digest) == []
    (version.path / "missing.jsonl").unlink()
    assert any("missing.jsonl" in problem for problem in verify_version(store, PROJECT, version.digest))


# Tampering.


def test_a_changed_byte_anywhere_is_found(store: Store) -> None:
    version = make(store)
    for name in ("rows.jsonl", "losing.jsonl", "manifest.json"):
        place = version.path / name
        content = place.read_bytes()
        place.write_bytes(content.replace(b"billing", b"shipping", 1))
        problems = verify_version(store, PROJECT, version.digest)
        assert any(name in problem for problem in problems), name
        place.write_bytes(content)
    assert verify_version(store, PROJECT, version.digest) == []


def test_a_missing_file_and_a_missing_source_are_found(store: Store) -> None:
    version = make(store)
    sources = (version.path / "sources.jsonl").read_bytes()
    (version.path / "sources.jsonl").write_bytes(b"".join(sources.splitlines(keepends=True)[1:]))
    assert any(
        "1 answers of the version have no source" in one for one in verify_version(store, PROJECT, version.digest)
    )
    (version.path / "sources.jsonl").unlink()
    assert verify_version(store, PROJECT, version.digest)
    (version.path / "rows.jsonl").unlink()
    assert any("is missing" in one for one in verify_version(store, PROJECT, version.digest))
    assert any("no such version" in one for one in verify_version(store, PROJECT, "0" * 64))


def test_counts_that_do_not_add_up_are_found(store: Store) -> None:
    """A manifest written anew with other counts has another digest; under that digest the counts are checked."""
    version = make(store)
    value = json.loads(version.manifest.content())
    value["counts"]["disputed"] = 0
    value["labels"]["billing"] = 2
    content = canonical_json(value)
    forged = version.path.parent / sha256_hex(content)
    shutil.copytree(version.path, forged)
    (forged / "manifest.json").write_bytes(content)
    problems = verify_version(store, PROJECT, forged.name)
    assert any("counts.tasks" in problem for problem in problems)
    value["counts"]["disputed"] = 1
    content = canonical_json(value)
    forged = version.path.parent / sha256_hex(content)
    shutil.copytree(version.path, forged)
    (forged / "manifest.json").write_bytes(content)
    assert verify_version(store, PROJECT, forged.name) == ["manifest: labels differ from what the rows hold"]


def test_a_malformed_manifest_names_file_and_field(store: Store) -> None:
    version = make(store)
    value = json.loads(version.manifest.content())
    value["counts"]["rows"] = "three"
    value["surprise"] = 1
    content = canonical_json(value)
    folder = version.path.parent / sha256_hex(content)
    folder.mkdir()
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(InvalidInput) as caught:
        read_manifest(store, PROJECT, folder.name)
    assert "manifest.json: counts.rows" in str(caught.value)
    assert "surprise" in str(caught.value)
    shutil.copytree(version.path, store.root / "versions" / "product_names" / version.digest)
    with pytest.raises(InvalidInput, match="project: found"):
        read_manifest(store, "product_names", version.digest)


def test_other_bytes_in_the_place_of_a_version_are_never_overwritten(store: Store) -> None:
    version = make(store)
    (version.path / "manifest.json").unlink()
    (version.path / "rows.jsonl").write_bytes(b"{}\n")
    with pytest.raises(InvalidInput, match="never overwritten"):
        make(store)
    assert (version.path / "rows.jsonl").read_bytes() == b"{}\n"


def test_an_answer_altered_or_gone_in_the_database_is_found(store: Store) -> None:
    version = make(store)
    taken = list(source_rows(store, PROJECT, version.digest))
    assert sorted(taken) == sorted((one.example_id, one.row_digest) for one in ANSWERS)
    assert compare_sources(taken, taken) == []
    current: dict[int, str | None] = dict(taken)
    first, second, third = sorted(current)[:3]
    current[first] = "f" * 64
    current[second] = None
    del current[third]
    assert compare_sources(taken, current.items()) == [
        SourceDrift(first, "altered", dict(taken)[first], "f" * 64),
        SourceDrift(second, "vanished", dict(taken)[second], None),
        SourceDrift(third, "vanished", dict(taken)[third], None),
    ]


# Size.


@pytest.mark.memory
def test_a_hundred_thousand_answers_freeze_in_bounded_memory(store: Store) -> None:
    numbers = range(50_000)
    base = answer(0, "anna", "billing")
    text = {"text": "x" * 1200, "options": base.shown["options"]}
    ids = [sha256_hex(str(number).encode()) for number in numbers]

    def stream() -> Any:
        for place, who in enumerate(("anna", "ben")):
            for number in numbers:
                link = 2 * number + place
                yield replace(
                    base,
                    task_id=ids[number],
                    account=who,
                    link_id=link,
                    example_id=link,
                    row_digest=sha256_hex(str(link).encode()),
                    time=START + timedelta(seconds=number),
                    shown=text,
                )

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    version = freeze(store, PROJECT, form(ids).digest, ids, stream(), register=REGISTER)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    assert version.manifest.counts.rows == 50_000
    assert version.manifest.counts.answers == 100_000
    assert (version.path / "rows.jsonl").stat().st_size > 60_000_000
    assert grown < 110, f"{grown} MB for 140 MB of content"
