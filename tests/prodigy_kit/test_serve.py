"""``labelops.serve`` through a real process: who is given what, under which stamp, and what is saved."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import threading
import urllib.error
from collections import Counter, defaultdict
from typing import Any

import pytest

from include.base.canonical import digest_of
from include.sandbox.people.annotators import Annotator, ticket_topics
from tests.prodigy_kit.conftest import LABELS, PROJECT, RECIPES, SUPERVISOR, Shop, make_task, post


def answer_other(task: dict[str, Any]) -> dict[str, Any]:
    return {"accept": ["other"], "answer": "accept"}


def person(shop: Shop, name: str) -> Annotator:
    return Annotator(name, shop.url, answer_other)


def persons_by_task(shop: Shop, round_number: int = 1) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for row in shop.rows():
        if row["labelops"]["served"]["round"] == round_number:
            found[row["labelops"]["task_id"]].append(row["_annotator_id"].removeprefix(f"{PROJECT}-"))
    return found


def everyone_labels(shop: Shop, names: tuple[str, ...], max_wait: float = 1.5) -> None:
    for name in names:
        # Everybody opens the page before anybody labels: the stream ends when nobody with an open page has work left.
        person(shop, name).open_page()
    people = [
        threading.Thread(target=person(shop, name).label_until_done, args=(max_wait,), kwargs={"pause": 0.05})
        for name in names
    ]
    for thread in people:
        thread.start()
    for thread in people:
        thread.join()


def test_two_distinct_persons_answer_each_task_and_a_third_gets_none_of_it(shop: Shop) -> None:
    shop.publish("First guideline")
    shop.add(f"{PROJECT}__inbox", [make_task(f"ticket {number}") for number in range(25)])
    shop.serve()
    everyone_labels(shop, ("anna", "ben"))
    served = persons_by_task(shop)
    assert len(served) == 25
    assert {tuple(sorted(who)) for who in served.values()} == {("anna", "ben")}
    assert person(shop, "cleo").label_batch() == 0


def test_three_persons_share_the_work_and_nobody_sees_a_task_twice(shop: Shop) -> None:
    shop.publish("First guideline")
    shop.add(f"{PROJECT}__inbox", [make_task(f"ticket {number}") for number in range(30)])
    shop.serve()
    for name in ("anna", "ben", "cleo"):
        person(shop, name).fetch()
    everyone_labels(shop, ("anna", "ben", "cleo"))
    served = persons_by_task(shop)
    assert len(served) == 30
    assert all(len(who) == len(set(who)) == 2 for who in served.values())


def test_allowed_sessions_share_the_work_without_having_opened_the_page(shop: Shop) -> None:
    shop.publish("First guideline")
    shop.add(f"{PROJECT}__inbox", [make_task(f"ticket {number}") for number in range(5)])
    shop.allowed = "anna,ben"
    shop.serve()
    for name in ("anna", "anna", "ben"):
        person(shop, name).label_batch()
    assert all(sorted(who) == ["anna", "ben"] for who in persons_by_task(shop).values())
    assert len(shop.rows()) == 10
    with pytest.raises(urllib.error.HTTPError, match="403"):
        person(shop, "cleo").fetch()


def test_priority_goes_before_arrival_and_later_tasks_are_taken_up_while_serving(shop: Shop) -> None:
    shop.publish("First guideline")
    inbox = f"{PROJECT}__inbox"
    shop.add(inbox, [make_task("plain one"), make_task("urgent", priority=5), make_task("later", priority=-1)])
    shop.serve(answers=1)
    _, tasks = person(shop, "anna").fetch()
    assert [task["text"] for task in tasks] == ["urgent", "plain one", "later"]


def test_tasks_that_arrive_while_others_wait_are_served_without_a_restart(shop: Shop) -> None:
    shop.publish("First guideline")
    inbox = f"{PROJECT}__inbox"
    shop.add(inbox, [make_task(f"ticket {number}") for number in range(12)])
    shop.serve(answers=1)
    anna = person(shop, "anna")
    assert anna.label_batch() == 10
    shop.add(inbox, [make_task("came later", priority=9)])
    threading.Event().wait(0.3)
    _, tasks = anna.fetch()
    assert [task["text"] for task in tasks] == ["came later", "ticket 10", "ticket 11"]


def test_nothing_is_served_twice_to_a_person_over_a_restart_and_round_two_serves_again(shop: Shop) -> None:
    shop.publish("First guideline")
    shop.add(f"{PROJECT}__inbox", [make_task(f"ticket {number}") for number in range(6)])
    process = shop.serve()
    person(shop, "anna").label_batch()
    shop.end(process)
    process = shop.serve()
    everyone_labels(shop, ("anna", "ben"))
    assert Counter(len(who) for who in persons_by_task(shop).values()) == {2: 6}
    assert all(sorted(who) == ["anna", "ben"] for who in persons_by_task(shop).values())
    shop.end(process)
    shop.serve(round_number=2)
    everyone_labels(shop, ("anna", "ben"))
    assert all(sorted(who) == ["anna", "ben"] for who in persons_by_task(shop, 2).values())
    assert len(persons_by_task(shop, 2)) == 6
    assert len(shop.rows()) == 24


def test_a_fetched_but_unsaved_task_comes_back_to_its_person_only(shop: Shop) -> None:
    shop.publish("First guideline")
    shop.add(f"{PROJECT}__inbox", [make_task("only one")])
    shop.serve(answers=1)
    _, first = person(shop, "anna").fetch()
    assert len(first) == 1
    assert person(shop, "ben").fetch()[1] == []
    assert [task["text"] for task in person(shop, "anna").fetch()[1]] == ["only one"]


def test_withdrawn_tasks_are_skipped(shop: Shop) -> None:
    shop.publish("First guideline")
    gone, stays = make_task("withdrawn"), make_task("stays")
    shop.add(f"{PROJECT}__inbox", [gone, stays])
    decision = {"kind": "withdrawn", "task_id": gone["labelops"]["task_id"], "project": PROJECT, "decision_id": "d1"}
    other = {"kind": "final", "task_id": stays["labelops"]["task_id"], "project": PROJECT, "decision_id": "d2"}
    shop.add(
        f"{PROJECT}__decisions",
        [{"_input_hash": 1, "_task_hash": 1, "labelops": kind} for kind in (decision, other)],
    )
    shop.serve(answers=1)
    assert [task["text"] for task in person(shop, "anna").fetch()[1]] == ["stays"]


def test_two_tasks_with_one_pair_of_hashes_are_both_served_and_saved(shop: Shop) -> None:
    shop.publish("First guideline")
    pair = [make_task("one", hashes=(77, -99)), make_task("two", hashes=(77, -99))]
    shop.add(f"{PROJECT}__inbox", pair)
    process = shop.serve(answers=1)
    assert person(shop, "anna").label_batch() == 2
    assert [row["text"] for row in shop.rows()] == ["one", "two"]
    shop.end(process)
    shop.serve(answers=1)
    assert person(shop, "anna").fetch()[1] == []


def test_stamp_names_the_release_loaded_even_after_the_pointer_moved_until_a_restart(shop: Shop) -> None:
    first_number, first = shop.publish("First guideline")
    shop.add(f"{PROJECT}__inbox", [make_task(f"ticket {number}") for number in range(20)])
    process = shop.serve(answers=1)
    anna = person(shop, "anna")
    anna.label_batch()
    second_number, second = shop.publish("Second guideline", labels=("billing", "other", "delivery", "account"))
    anna.label_batch()
    assert {row["labelops"]["served"]["guideline"] for row in shop.rows()} == {first}
    assert len(shop.rows()) == 20
    shop.end(process)
    shop.add(f"{PROJECT}__inbox", [make_task("after")])
    shop.serve(answers=1)
    anna.label_batch()
    old, new = shop.rows()[0]["labelops"]["served"], shop.rows()[-1]["labelops"]["served"]
    assert old == {
        "guideline": first,
        "guideline_number": first_number,
        "labels_digest": digest_of(list(LABELS)),
        "round": 1,
    }
    assert new == {
        "guideline": second,
        "guideline_number": second_number,
        "labels_digest": digest_of(["billing", "other", "delivery", "account"]),
        "round": 1,
    }
    assert not any("invalid" in row["labelops"] for row in shop.rows())
    records = [json.loads(path.read_text()) for path in sorted((shop.publication / "activations").iterdir())]
    assert [record["digest"] for record in records] == [first, second]


def test_an_answer_given_on_a_page_open_over_a_restart_keeps_its_old_stamp_and_is_valid(shop: Shop) -> None:
    _, first = shop.publish("First guideline")
    shop.add(f"{PROJECT}__inbox", [make_task("open page")])
    process = shop.serve(answers=1)
    anna = person(shop, "anna")
    session, tasks = anna.fetch()
    shop.end(process)
    shop.publish("Second guideline", labels=("billing", "other"))
    shop.serve(answers=1)
    anna.give(session, [{**tasks[0], "accept": ["delivery"], "answer": "accept"}])
    (row,) = shop.rows()
    assert row["labelops"]["served"]["guideline"] == first
    assert "invalid" not in row["labelops"]


def test_bad_answers_are_saved_with_the_reason_and_count_as_none(shop: Shop) -> None:
    shop.publish("First guideline")
    shop.add(f"{PROJECT}__inbox", [make_task("one"), make_task("two")])
    process = shop.serve(answers=1)
    session, tasks = person(shop, "anna").fetch()
    good = {**tasks[0], "accept": ["billing"], "answer": "accept"}

    def altered(**change: Any) -> dict[str, Any]:
        return {**good, "labelops": {**good["labelops"], **change}}

    served = good["labelops"]["served"]
    bad = [
        {**good, "accept": ["weather"]},
        {**good, "text": "rewritten"},
        {**good, "answer": "maybe"},
        altered(served=None),
        altered(served={**served, "guideline": "0" * 64}),
        altered(project="product_names"),
        altered(task_id="f" * 64),
        {key: value for key, value in good.items() if key != "labelops"},
    ]
    post(shop.url + "/give_answers", {"session_id": session, "answers": bad})
    reasons = [" ".join(row["labelops"]["invalid"]) for row in shop.rows()]
    expected = ("weather", "changed since it was served: text", "maybe", "no labelops.served", "never published")
    expected += ("product_names", "not in the inbox", "no labelops field")
    assert len(reasons) == len(expected)
    for reason, part in zip(reasons, expected, strict=True):
        assert part in reason
    shop.end(process)
    shop.serve(answers=1)
    assert sorted(task["text"] for task in person(shop, "anna").fetch()[1]) == ["one", "two"]


def test_the_page_is_told_at_once_what_is_wrong(shop: Shop) -> None:
    shop.publish("First guideline")
    shop.add(f"{PROJECT}__inbox", [make_task("one")])
    shop.serve(answers=1)
    _, (task,) = person(shop, "anna").fetch()
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(shop.url + "/validate_answer", {"answer": {**task, "accept": ["weather"], "answer": "accept"}})
    assert "weather" in refused.value.read().decode()
    post(shop.url + "/validate_answer", {"answer": {**task, "accept": ["other"], "answer": "accept"}})


def test_an_unnamed_session_satisfies_nothing_and_takes_no_place(shop: Shop) -> None:
    shop.publish("First guideline")
    shop.add(f"{PROJECT}__inbox", [make_task(f"ticket {number}") for number in range(12)])
    shop.serve(answers=1)
    reply = post(shop.url + "/get_session_questions", {"session_id": None})
    answers = [{**task, **answer_other(task)} for task in reply["tasks"]]
    assert len(answers) == 10
    post(shop.url + "/give_answers", {"session_id": None, "answers": answers})
    assert all("names nobody" in row["labelops"]["invalid"][0] for row in shop.rows())
    anna = person(shop, "anna")
    assert [anna.label_batch(), anna.label_batch()] == [10, 2]
    assert len({row["text"] for row in shop.rows() if "invalid" not in row["labelops"]}) == 12


def test_an_empty_inbox_answers_at_once_and_stays_ended(shop: Shop) -> None:
    shop.publish("First guideline")
    shop.serve()
    assert person(shop, "anna").fetch()[1] == []
    shop.add(f"{PROJECT}__inbox", [make_task("too late for this process")])
    threading.Event().wait(0.5)
    assert person(shop, "anna").fetch()[1] == []


@pytest.mark.parametrize(
    ("spoil", "part"),
    [
        ("pointer absent", "current.json: not found; publish a guideline release first"),
        ("pointer garbage", "current.json: unreadable"),
        ("pointer name", "`release` is '../elsewhere'"),
        ("other digest", "names release 0001-"),
        ("no html", "guidelines.html: not found"),
        ("html altered", "guidelines.html: its SHA-256 is"),
    ],
)
def test_a_bad_publication_stops_the_start_with_a_clear_message(shop: Shop, spoil: str, part: str) -> None:
    shop.publish("First guideline")
    release = next(shop.publication.glob("0001-*"))
    pointer = shop.publication / "current.json"
    if spoil == "pointer absent":
        pointer.unlink()
    elif spoil == "pointer garbage":
        pointer.write_text("{")
    elif spoil == "pointer name":
        pointer.write_text('{"release": "../elsewhere"}')
    elif spoil == "other digest":
        (release / "release.json").write_text(json.dumps({"digest": "a" * 64, "number": 1}))
    elif spoil == "no html":
        (release / "guidelines.html").unlink()
    else:
        (release / "guidelines.html").write_text("<h1>altered</h1>")
    done = subprocess.run(shop.command(), env=shop.environment, cwd=shop.folder, capture_output=True, timeout=30)
    assert done.returncode == 1
    assert part in done.stderr.decode()
    assert not (shop.publication / "activations").exists()


def test_labels_come_from_the_command_where_the_release_has_none(shop: Shop) -> None:
    shop.publish("First guideline", labels=None)
    shop.add(f"{PROJECT}__inbox", [make_task("refund my invoice")])
    shop.serve(answers=1)
    Annotator("anna", shop.url, ticket_topics("anna", percent=0)).label_batch()
    (row,) = shop.rows()
    assert row["accept"] == ["billing"]
    assert row["labelops"]["served"]["labels_digest"] == digest_of(list(LABELS))


@pytest.mark.parametrize("path", [RECIPES, SUPERVISOR], ids=["recipes", "supervisor"])
def test_the_kit_imports_prodigy_and_the_standard_library_only(path: Any) -> None:
    allowed = set(sys.stdlib_module_names) | ({"prodigy"} if path == RECIPES else set())
    tree = ast.parse(path.read_text("utf-8"))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "the kit is copied as single files: no relative import"
            imported.add(str(node.module).split(".")[0])
    assert imported - allowed == set()
    assert imported, "nothing was checked"
