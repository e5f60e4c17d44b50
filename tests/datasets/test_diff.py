from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from include.base.canonical import canonical_json, sha256_hex
from include.base.errors import InvalidInput
from include.base.store import Store
from include.datasets import diff as diffing
from include.datasets.diff import LabelShift, ManifestChange, changes, diff
from include.datasets.diff_report import markdown, plain_text
from include.datasets.freeze import freeze, rows
from include.datasets.resolve import FinalDecision
from include.queues.progress import form
from labelops.commands import main
from tests.datasets.make import LABELS, REGISTER, START, answer, project, shown, task

PROJECT = project()
CLOSING = {"closed_by": "olga", "closing_reason": "enough"}
PEOPLE = ("anna", "ben")


def version(store: Store, numbers: Any, answers: list[Any], **more: Any) -> str:
    ids = [task(number) for number in numbers]
    return freeze(
        store, more.pop("project", PROJECT), form(ids).digest, ids, answers, **{"register": REGISTER, **CLOSING, **more}
    ).digest


def both(number: int, *picked: str, **more: Any) -> list[Any]:
    return [answer(number, person, *picked, **more) for person in PEOPLE]


def decision(number: int, *picked: str, person: str = "carla", kind: Any = "review") -> FinalDecision:
    value = {"interface": "choice", "answer": "accept", "accept": list(picked)}
    return FinalDecision(task(number), f"d{number}", value, person, START, kind)


@pytest.mark.proves("record-level diff of two dataset versions")
def test_every_kind_of_change_is_told_with_who_and_why(store: Store) -> None:
    split = [answer(6, "anna", "billing"), answer(6, "ben", "other")]
    first = [*both(1, "billing"), *both(2, "billing"), *both(3, "account"), *both(4, "other"), *both(5, "other")]
    old = version(store, range(1, 7), [*first, *split])
    later = [*both(1, "billing"), *both(2, "delivery", round_=2, minutes=90), *both(3, "account")]
    later += [answer(4, "anna", "other"), answer(4, "ben", "billing"), *split, *both(7, "billing")]
    decisions = [decision(3, "account"), decision(6, "delivery", kind="decision")]
    new = version(store, [1, 2, 3, 4, 6, 7], later, decisions=decisions)
    found = diff(store, PROJECT, old, new)
    assert (found.unchanged, found.added, found.removed, found.relabelled, found.evidence) == (1, 2, 2, 1, 1)
    assert (found.old_rows, found.new_rows, found.changed) == (5, 5, 6)
    assert found.transitions == {("billing", "delivery"): 1}
    assert found.labels == {
        "account": LabelShift(1, 1, 0, 0),
        "billing": LabelShift(2, 2, 1, 1),
        "delivery": LabelShift(0, 2, 2, 0),
        "other": LabelShift(2, 0, 0, 2),
    }
    assert found.persons == {"anna": 1, "ben": 1}
    assert found.bases == {"answers": 1}
    assert found.came_from == {"disputed": 1, "not in the version": 1}
    assert found.went_to == {"disputed": 1, "not in the version": 1}
    listed = {one.task_id: one for one in changes(store, PROJECT, old, new)}
    assert list(listed) == sorted(listed)
    relabelled = listed[task(2)]
    assert (relabelled.kind, relabelled.new.round, relabelled.new.basis) == ("relabelled", 2, "answers")
    assert relabelled.new.at == "2026-05-01T09:30:00+00:00"
    assert listed[task(3)].kind == "evidence"
    assert listed[task(3)].new.persons == ("carla",)
    assert listed[task(4)].elsewhere == "disputed"
    assert listed[task(5)].elsewhere == "not in the version"
    assert listed[task(6)].new.persons == ("carla",)
    assert sorted(one.task_id for one in found.samples) == sorted(listed)


def test_equal_versions_differ_in_nothing(store: Store) -> None:
    one = version(store, [1, 2], [*both(1, "billing"), *both(2, "other")])
    found = diff(store, PROJECT, one, one)
    assert (found.unchanged, found.changed, found.manifest, found.samples) == (2, 0, (), ())
    assert "2 unchanged, 0 added" in plain_text(found)


def test_what_differs_between_the_manifests_is_told(store: Store) -> None:
    answers = [*both(1, "billing"), *both(2, "other")]
    old = version(store, [1, 2], answers)
    other = project(policy={"min_completeness_percent": 81}, rule="majority")
    changed = [*answers[:3], answer(2, "carla", "other", guideline=None)]
    decisions = [decision(1, "billing", person="hugo")]
    new = version(store, [1, 2], changed, project=other, closing_reason="late", decisions=decisions)
    found = {one.field: one for one in diff(store, PROJECT, old, new).manifest}
    assert found["rule.name"] == ManifestChange("rule.name", "unanimous", "majority")
    assert found["policy.min_completeness_percent"].new == "81"
    assert found["policy_digest"].new == other.policy.digest
    assert found["persons"] == ManifestChange("persons", None, "carla")
    assert found["adjudicators"] == ManifestChange("adjudicators", None, "hugo")
    assert found["guidelines"] == ManifestChange("guidelines", None, "unknown")
    assert "late" in str(found["closed_by"].new)
    assert "batch" not in found
    assert "rule.text" not in found


@pytest.mark.proves("a diff shows ids and labels, content only where asked for")
def test_content_is_shown_only_where_asked_for(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    old = version(store, [1, 2], [*both(1, "billing"), *both(2, "other")])
    new = version(store, [1, 2], [*both(1, "account"), *both(2, "other")])
    plain = diff(store, PROJECT, old, new)
    full = diff(store, PROJECT, old, new, full=True)
    for text in (plain_text(plain), markdown(plain), json.dumps(plain.as_json(), ensure_ascii=False)):
        assert "ticket 1" not in text
        assert "billing" in text
    for text in (plain_text(full), markdown(full), json.dumps(full.as_json(), ensure_ascii=False)):
        assert "ticket 1" in text
    file = store.root / "changes.jsonl"
    arguments = ["diff", "ticket_topics", old[:8], new, "--store", str(store.root), "--changes", str(file)]
    assert main(arguments) == 1
    assert "1 unchanged, 0 added, 0 removed, 1 relabelled" in capsys.readouterr().out
    [line] = file.read_bytes().splitlines()
    assert json.loads(line) == next(changes(store, PROJECT, old, new)).as_json()
    assert b"ticket 1" not in line
    assert main([*arguments, "--full", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["relabelled"] == 1
    assert json.loads(file.read_bytes())["shown"] == shown(1)
    assert main(["diff", "ticket_topics", old, old, "--store", str(store.root)]) == 0
    assert main(["diff", "ticket_topics", old[:5], new, "--store", str(store.root)]) == 2
    assert "6 or more characters" in capsys.readouterr().err


def test_a_report_is_text_whatever_a_label_holds(store: Store) -> None:
    strange = "a|b\n# c\x1b[2J <b>"
    odd = project(labels=[strange, "billing"])
    old = version(store, [1], both(1, "billing"), project=odd)
    new = version(store, [1], both(1, strange), project=odd)
    found = diff(store, PROJECT, old, new)
    assert all(line.isprintable() for line in plain_text(found).splitlines())
    assert "\n# c" not in markdown(found)
    assert "\\|b\\\\n\\# c" in markdown(found)
    assert "\\<b\\>" in markdown(found)


@pytest.mark.proves("a diff is refused over files that are not what the digest says")
def test_files_that_are_not_the_version_are_refused(store: Store) -> None:
    old = version(store, [1, 2], [*both(1, "billing"), *both(2, "other")])
    new = version(store, [1, 2], [*both(1, "account"), *both(2, "other")])
    place = store.root / "versions" / "ticket_topics" / new / "rows.jsonl"
    content = place.read_bytes()
    with pytest.raises(InvalidInput, match="no such version"):
        diff(store, PROJECT, old, "0" * 64)
    for other, message in (
        (content.replace(b"ticket 2", b"ticket 3"), "SHA-256"),
        (content.replace(b'"account"', b'"billing"'), "SHA-256"),
        (content[:-1], "has no end"),
        (b"".join(content.splitlines(keepends=True)[::-1]), "out of order"),
        (content.replace(b'"answers"', b"'answers'"), "rows.jsonl:1: no row"),
        (b"{}\n" + content, "rows.jsonl:1"),
    ):
        place.write_bytes(other)
        with pytest.raises(InvalidInput, match=message):
            diff(store, PROJECT, old, new)
    place.unlink()
    with pytest.raises(InvalidInput, match="is not there"):
        diff(store, PROJECT, old, new)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_diff_says_what_two_dictionaries_say(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, data: st.DataObject
) -> None:
    """Whatever the size of the blocks that are read at once."""
    monkeypatch.setattr(diffing, "_BLOCK", data.draw(st.sampled_from([7, 100, 1000, 5000, 1 << 20])))
    monkeypatch.setattr(diffing, "_LEAST", data.draw(st.sampled_from([1, 64, 512])))
    store = Store(tmp_path_factory.mktemp("diff"))
    labels = [data.draw(st.sampled_from(LABELS)) for _ in range(30)]
    changed = data.draw(st.dictionaries(st.integers(0, 29), st.sampled_from([*LABELS, "reject", "none"]), max_size=8))
    rounds = data.draw(st.sets(st.integers(0, 29), max_size=4))
    old_numbers = sorted(set(range(30)) - data.draw(st.sets(st.integers(0, 29), max_size=8)))
    new_numbers = sorted(set(range(30)) - data.draw(st.sets(st.integers(0, 29), max_size=8)))

    def answers(number: int, label: str, round_: int) -> list[Any]:
        if label == "reject":
            return both(number, verdict="reject", round_=round_)
        return both(number, *([] if label == "none" else [label]), round_=round_)

    old = version(store, old_numbers, [one for n in old_numbers for one in answers(n, labels[n], 1)])
    new = version(
        store,
        new_numbers,
        [one for n in new_numbers for one in answers(n, changed.get(n, labels[n]), 2 if n in rounds else 1)],
    )
    before = {row["task_id"]: row for row in rows(store, PROJECT, old)}
    after = {row["task_id"]: row for row in rows(store, PROJECT, new)}
    shared = before.keys() & after.keys()
    kinds = {
        **dict.fromkeys(after.keys() - before.keys(), "added"),
        **dict.fromkeys(before.keys() - after.keys(), "removed"),
        **{
            one: "evidence" if before[one]["value"] == after[one]["value"] else "relabelled"
            for one in shared
            if before[one] != after[one]
        },
    }
    collected: list[Any] = []
    found = diff(store, PROJECT, old, new, samples=2, sink=collected.append)
    assert {one.task_id: one.kind for one in collected} == kinds
    assert [one.task_id for one in collected] == sorted(kinds)
    totals = Counter(kinds.values())
    assert found.unchanged == sum(before[one] == after[one] for one in shared)
    assert {kind: getattr(found, kind) for kind in diffing.KINDS} == {kind: totals[kind] for kind in diffing.KINDS}
    for shift in found.labels.values():
        assert shift.old - shift.lost + shift.gained == shift.new
    assert len(found.samples) == sum(min(2, count) for count in totals.values())
    assert found.old_rows == found.unchanged + found.removed + found.relabelled + found.evidence
    assert plain_text(found)
    assert markdown(found)


def value(interface: str, **marks: Any) -> dict[str, Any]:
    return {"interface": interface, "answer": "accept", **marks}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (value("choice", accept=["a", "b"]), value("choice", accept=["b", "c"]), {("a", "c"): 1}),
        (value("choice", accept=["a"]), value("choice", accept=["a", "b", "c"]), {(None, "b"): 1, (None, "c"): 1}),
        (value("choice", accept=[]), value("choice", accept=["a"]), {("(none)", "a"): 1}),
        ({"answer": "reject"}, value("choice", accept=[]), {("(reject)", "(none)"): 1}),
        (value("textcat", label="topic"), {"answer": "reject", "label": "topic"}, {("topic", "(reject)"): 1}),
        (
            value("ner", spans=[[0, 3, "ORG"], [5, 9, "PER"], [10, 12, "LOC"]]),
            value("ner", spans=[[0, 3, "PER"], [5, 8, "PER"], [10, 12, "LOC"]]),
            {("ORG", "PER"): 1, ("PER", None): 1, (None, "PER"): 1},
        ),
        ({"answer": "reject"}, value("ner", spans=[[0, 1, "A"], [2, 3, "A"]]), {("(reject)", "A"): 2}),
        (
            value("image", regions=[["cat", "rect", [["0", "0"], ["1", "1.5"]]]]),
            value("image", regions=[["dog", "rect", [["0", "0"], ["1", "1.5"]]]]),
            {("cat", "dog"): 1},
        ),
        (
            value("audio", segments=[["0.5", "1", "speech"]]),
            value("audio", segments=[["0.5", "1", "noise"]]),
            {("speech", "noise"): 1},
        ),
        (
            value("relations", spans=[[0, 1, "A"], [2, 3, "B"]], relations=[[0, 1, 2, 3, "works_for"]]),
            value("relations", spans=[[0, 1, "A"], [2, 3, "B"]], relations=[[0, 1, 2, 3, "owns"]]),
            {("works_for", "owns"): 1},
        ),
    ],
)
def test_what_became_of_each_label(old: Any, new: Any, expected: Any) -> None:
    found = diffing._transitions(diffing.marks(old), diffing.marks(new))
    assert Counter(found) == expected


def test_long_lists_of_left_out_tasks_are_read_from_their_files(store: Store) -> None:
    numbers = range(1, 1103)
    old = version(store, numbers, both(1, "billing"))
    new = version(store, numbers, [*both(1, "billing"), *both(2, "other"), *both(900, "other")])
    found = diff(store, PROJECT, old, new)
    assert (found.unchanged, found.added, found.came_from) == (1, 2, {"missing": 2})
    assert (store.root / "versions" / "ticket_topics" / old / "missing.jsonl").exists()


def test_a_forged_row_under_its_own_digest_is_still_a_row(store: Store) -> None:
    """Text that looks like a key is escaped in canonical JSON, so it is never taken for one."""
    forged = {"text": '","task_id":"' + "0" * 64 + '","value":{', "options": shown(1)["options"]}
    old = version(store, [1], [answer(1, one, "billing", shown=forged) for one in PEOPLE])
    new = version(store, [1], [answer(1, one, "other", shown=forged) for one in PEOPLE])
    [change] = changes(store, PROJECT, old, new, full=True)
    assert (change.task_id, change.shown) == (task(1), forged)
    assert sha256_hex(canonical_json(forged)) == sha256_hex(canonical_json(change.shown))
