from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as cases
from hypothesis import strategies as st

from include.agreement.accounting import (
    HEAD,
    Accounting,
    Expected,
    Limits,
    account,
    chance_of_run,
    lines,
    seconds,
)
from include.agreement.given import Given, UnitKey, from_rows, gather
from include.agreement.units import units_of
from include.annotation.answers import Answer
from include.base.canonical import canonical_json
from include.base.errors import InvalidInput
from include.settings import ROOT
from include.systems.prodigy.values import Row
from tests.agreement.make import binary, choice, given
from tests.datasets import make

DATA = ROOT.parent / "shared" / "data"
TASKS = [f"t{number:02}" for number in range(12)]


def counted(answers: list[Given], expected: Expected, tasks: list[str] | None = None, **limits: int) -> Accounting:
    return account(gather(answers, tasks=TASKS if tasks is None else tasks), expected, Limits(**limits))


# --- known ways to fail ----------------------------------------------------------------------------------------------


@pytest.mark.proves("accounting: work stealing is found although every task has its answers")
def test_two_of_three_people_hold_all_the_answers():
    """What Prodigy's users saw: each task asks for two answers, three people were to share the work."""
    answers = [given(task, person, choice("a")) for task in TASKS for person in ("ann", "ben")]
    found = counted(answers, Expected(2, persons=["ann", "ben", "cem"]))
    assert (found.coverage.got, found.coverage.missing, found.coverage.under) == (24, 0, 0)
    assert found.sharing.stolen
    assert found.sharing.text == "2 of 3 people hold all the answers"
    assert found.sharing.without == found.sharing.short == ("cem",)


def test_a_fair_share_is_no_theft_and_a_small_one_is_named():
    fair = [
        given(task, person, choice("a"))
        for place, task in enumerate(TASKS)
        for person in (("ann", "ben"), ("ben", "cem"), ("cem", "ann"))[place % 3]
    ]
    sharing = counted(fair, Expected(2, persons=["ann", "ben", "cem"])).sharing
    assert (sharing.stolen, sharing.holding, sharing.short) == (False, 3, ())
    assert sharing.text == "all 3 people hold a share"
    one_for_cem = [given(task, one, choice("a")) for task in TASKS[:-1] for one in ("ann", "ben")]
    one_for_cem += [given(TASKS[-1], one, choice("a")) for one in ("ann", "cem")]
    sharing = counted(one_for_cem, Expected(2)).sharing
    assert (sharing.stolen, sharing.fixed, sharing.short) == (False, False, ("cem",))
    assert sharing.text == "1 of 3 people hold less than half of an even share"


def test_tasks_answered_in_the_place_of_another_are_counted():
    assigned = {task: frozenset({"ann"} if place % 2 else {"ben"}) for place, task in enumerate(TASKS)}
    answers = [given(task, "ann", choice("a")) for task in TASKS[:6]] + [
        given(task, "ben", choice("a")) for place, task in enumerate(TASKS[6:]) if not place % 2
    ]
    found = counted(answers, Expected(1, assigned=assigned))
    assert found.sharing.taken_over == 3
    assert found.sharing.text == "3 task(s) were answered by others than those they were assigned to"
    assert {one.person: (one.expected, one.missing) for one in found.persons} == {"ann": (6, 3), "ben": (6, 3)}


@pytest.mark.proves("accounting: expected against got, duplicates, orphans, under- and over-annotated")
def test_every_answer_and_every_task_is_accounted_for():
    # t00: as asked; t01: one too many; t02: one too few; t03: one person twice, and changed their mind; t04: a row
    # that an import brought a second time; t05: an earlier round; the rest: nothing.
    answers = [given("t00", "ann", choice("a")), given("t00", "ben", choice("b"))]
    answers += [given("t01", person, choice("a")) for person in ("ann", "ben", "cem")]
    answers += [given("t02", "ann", choice()), given("t03", "ben", choice("b"))]
    answers += [given("t03", "ann", choice("a"), at=1), given("t03", "ann", choice("b"), at=2)]
    answers += [given("t04", "ann", choice("a"), at=5, row="f" * 64)] * 2
    answers += [given("t05", "ann", choice("a")), given("t05", "ben", choice("a"), round=2)]
    answers += [given("lost", "ann", choice("a")), given("stray", "cem", choice(answer="ignore"))]
    random.Random(4).shuffle(answers)
    found = counted(answers, Expected(2))
    coverage = found.coverage
    assert (coverage.tasks, coverage.expected, coverage.got) == (12, 24, 9)
    assert coverage.tasks_by_persons == {0: 6, 1: 3, 2: 2, 3: 1}
    assert (coverage.under, coverage.over, coverage.unanswered) == (9, 1, 6)
    assert (coverage.missing, coverage.extra) == (15, 1)
    assert (found.answers, found.earlier) == (15, 1)
    assert (found.duplicates, found.changed, found.same_row) == (2, 1, 1)
    assert [(one.task, one.person, one.answers, one.alike, one.same_row) for one in found.listed_duplicates] == [
        ("t03", "ann", 2, False, False),
        ("t04", "ann", 2, True, True),
    ]
    assert found.orphans == 2
    assert sorted(found.listed_orphans) == ["lost", "stray"]
    by_person = {one.person: one for one in found.persons}
    ann = by_person["ann"]
    assert (ann.answers, ann.tasks, ann.accept, ann.nothing, ann.repeated, ann.orphans) == (9, 5, 9, 1, 2, 1)
    assert (by_person["cem"].ignore, by_person["cem"].tasks, by_person["cem"].orphans) == (1, 1, 1)


def test_who_was_to_answer_everything_has_an_expectation_of_their_own():
    answers = [given(task, "ann", choice("a")) for task in TASKS] + [given("t00", "ben", choice("a"))]
    found = counted(answers, Expected(2, persons=["ann", "ben"]))
    assert [(one.person, one.expected, one.missing) for one in found.persons] == [("ann", 12, 0), ("ben", 12, 11)]
    shared = counted(answers, Expected(1, persons=["ann", "ben"]))
    assert [(one.expected, one.missing) for one in shared.persons] == [(None, None), (None, None)]


def test_it_is_an_error_not_to_know_what_was_to_be_answered():
    gathered = gather([given("t", "ann", choice("a"))])
    with pytest.raises(InvalidInput, match="nobody says how many tasks"):
        account(gathered, Expected(1))
    with pytest.raises(InvalidInput, match="found 0; allowed: at least the 1"):
        account(gathered, Expected(1, tasks=0))
    with pytest.raises(InvalidInput, match="found 3; allowed: the 12"):
        counted([], Expected(1, tasks=3))
    with pytest.raises(InvalidInput, match="per_task: found 0"):
        Expected(0)


# --- time ------------------------------------------------------------------------------------------------------------


def at_seconds(*times: float | None, person: str = "ann", **more: Any) -> list[Given]:
    return [
        given(f"t{place:02}", person, choice("a"), at=None if one is None else round(one * 1000), order=place, **more)
        for place, one in enumerate(times)
    ]


def test_time_per_answer_is_between_a_persons_answers_without_breaks():
    # Gaps of ann: 4, 6, 2000 (a break), 0.5, 8; of ben: 10.
    answers = at_seconds(100, 104, 110, 2110, 2110.5, 2118.5, None)
    answers += at_seconds(101, 111, person="ben")
    random.Random(1).shuffle(answers)
    found = counted(answers, Expected(2))
    ann = found.persons[0].timing
    assert (ann.timed, ann.median_ms, ann.p90_ms, ann.breaks, ann.fast, ann.untimed) == (4, 4000, 8000, 1, 1, 1)
    assert found.timing.median_ms == 6000
    assert (found.timing.timed, found.timing.breaks) == (5, 1)
    assert counted(answers, Expected(2), break_ms=3_000_000).persons[0].timing.breaks == 0


def test_a_row_that_is_there_twice_is_no_answer_in_no_time():
    answers = at_seconds(100, 104)
    found = counted([*answers, answers[1]], Expected(1))
    assert (found.timing.timed, found.timing.fast, found.same_row) == (1, 0, 1)


@pytest.mark.parametrize(("given_ms", "text"), [(4000, "4"), (4500, "4.5"), (50, "0.05"), (0, "0"), (None, "")])
def test_milliseconds_are_shown_as_seconds(given_ms, text):
    assert seconds(given_ms) == text


# --- streaks ---------------------------------------------------------------------------------------------------------


def said_in_order(pattern: str, person: str = "ann") -> list[Given]:
    return [
        given(f"x{place:03}", person, binary("accept" if one == "a" else "reject"), at=place * 5000)
        for place, one in enumerate(pattern)
    ]


@pytest.mark.proves("accounting: suspicious streaks with their probability under the person's own answers")
def test_a_long_run_of_one_answer_is_found_with_its_probability():
    answers = said_in_order("ar" * 40 + "r" * 19 + "ar" * 10)
    found = account(gather(answers), Expected(1, tasks=len(answers)))
    [streak] = found.streaks
    # The 19 come after an r.
    assert (streak.person, streak.answer, streak.length, streak.of) == ("ann", "(reject)", 20, 119)
    assert streak.share_percent == 58
    assert float(streak.chance) == pytest.approx(chance_of_run(20, 119, 69), rel=0.05)
    assert found.persons[0].streaks == 1
    calm = account(gather(said_in_order("ar" * 40)), Expected(1, tasks=80))
    assert calm.streaks == ()


def test_who_never_says_anything_else_is_named():
    [streak] = account(gather(said_in_order("a" * 30)), Expected(1, tasks=30)).streaks
    assert (streak.length, streak.share_percent, streak.chance) == (30, 100, "1")


def test_few_answers_are_no_streak():
    assert account(gather(said_in_order("a" * 9)), Expected(1, tasks=9)).streaks == ()


def test_streaks_beyond_the_list_are_counted():
    answers = [one for person in "abcde" for one in said_in_order("a" * 12, person)]
    found = account(gather(answers), Expected(5, tasks=12), Limits(listed=2))
    assert (len(found.streaks), found.more_streaks) == (2, 3)


@cases(st.integers(1, 6), st.integers(1, 11), st.data())
def test_the_chance_of_a_run_is_that_of_counting_all_sequences(length, answers, data):
    times = data.draw(st.integers(0, answers))
    share = times / answers
    whole = 0.0
    for number in range(2**answers):
        bits = f"{number:0{answers}b}"
        if "1" * length in bits:
            whole += share ** bits.count("1") * (1 - share) ** bits.count("0")
    assert chance_of_run(length, answers, times) == pytest.approx(whole, abs=1e-12)


# --- its form --------------------------------------------------------------------------------------------------------

people = st.sampled_from(["ann", "ben", "cem"])
times = st.none() | st.integers(0, 10**6)
spoken = st.sampled_from([choice("a"), choice("b"), choice(), choice(answer="reject"), choice(answer="ignore")])
entries = st.lists(
    st.tuples(st.sampled_from([*TASKS[:4], "orphan"]), people, spoken, st.integers(1, 2), times), max_size=30
)


@cases(entries, st.randoms(use_true_random=False))
def test_the_parts_add_up_and_the_order_changes_nothing(rows, shuffle):
    answers = [
        given(unit, person, value, round=turn, at=at, order=place)
        for place, (unit, person, value, turn, at) in enumerate(rows)
    ]
    found = counted(answers, Expected(2, persons=["ann", "ben", "cem"]))
    moved = answers.copy()
    shuffle.shuffle(moved)
    again = counted(moved, Expected(2, persons=["ann", "ben", "cem"]))
    order = json.dumps(sorted(map(repr, found.listed_duplicates)))
    assert order == json.dumps(sorted(map(repr, again.listed_duplicates)))
    assert found.coverage == again.coverage
    for part in ("persons", "sharing", "timing", "streaks"):
        assert getattr(found, part) == getattr(again, part)
    coverage = found.coverage
    assert sum(coverage.tasks_by_persons.values()) == coverage.tasks == 12
    assert coverage.got + coverage.missing == coverage.expected
    assert found.answers == len(rows) == sum(one.answers for one in found.persons)
    assert found.orphans == sum(one.orphans for one in found.persons) == sum(row[0] == "orphan" for row in rows)
    assert found.duplicates == sum(one.repeated for one in found.persons)
    for one in found.persons:
        assert one.answers == one.accept + one.reject + one.ignore
    assert Accounting.from_json(json.loads(canonical_json(found.as_json()))) == found
    assert all(len(line) == len(HEAD) for line in lines(found))


def test_json_of_something_else_is_refused():
    with pytest.raises(InvalidInput, match="not an account"):
        Accounting.from_json({"coverage": {}})


# --- real exports ----------------------------------------------------------------------------------------------------


def real_rows(name: str) -> list[dict[str, Any]]:
    place = Path(DATA / name)
    if not place.exists():
        pytest.skip(f"real data is not there: {place} does not exist")
    return [json.loads(line) for line in place.read_text("utf-8").splitlines()]


def as_rows(contents: list[dict[str, Any]]) -> list[Row]:
    return [
        Row(place, place, one["_input_hash"], one["_task_hash"], one, json.dumps(one).encode())
        for place, one in enumerate(contents, 1)
    ]


def account_name(answer: Answer) -> str:
    return answer.account or "unknown"


@pytest.mark.proves("accounting: real exports are counted as by hand")
def test_the_answers_of_42_people_are_counted_as_the_file_says():
    contents = real_rows("pydata-ams-2023.jsonl")
    project = make.project(interface="textcat", labels=["new-dataset"], answers_per_task=15, rule="majority")
    inputs = sorted({(one["label"], one["_input_hash"]) for one in contents})
    tasks = [f"classification/{label}/{number}" for label, number in inputs]
    gathered = gather(from_rows(as_rows(contents), project, account_name, key=UnitKey.INPUT), tasks=tasks)
    found = account(gathered, Expected(15))

    by_pair: defaultdict[tuple[int, str], list[str]] = defaultdict(list)
    for one in contents:
        by_pair[one["_input_hash"], one["_annotator_id"]].append(one["answer"])
    persons = Counter(number for number, _ in by_pair)
    assert (found.answers, len(found.persons), found.coverage.tasks) == (3372, 42, 117)
    assert found.coverage.tasks_by_persons == dict(sorted(Counter(persons.values()).items()))
    assert found.coverage.missing == sum(max(0, 15 - count) for count in persons.values())
    assert found.coverage.over == sum(count > 15 for count in persons.values())
    assert found.duplicates == len(contents) - len(by_pair)
    assert found.changed == sum(len(set(said)) > 1 for said in by_pair.values())
    assert found.orphans == 0
    times = defaultdict(list)
    for one in contents:
        times[one["_annotator_id"]].append(one["_timestamp"])
    for line in found.persons:
        stamps = sorted(times[line.person])
        gaps = sorted(after - before for before, after in pairwise(stamps))
        work = [gap for gap in gaps if gap <= 600]
        assert line.timing.timed <= len(work)
        if line.repeated == 0:
            assert (line.timing.timed, line.timing.breaks) == (len(work), len(gaps) - len(work))
            if work:
                assert line.timing.median_ms == work[-(-len(work) // 2) - 1] * 1000
    units = units_of(gathered)
    assert units.notes.ratings + units.notes.unrated == len(by_pair)
    assert units.names == ("accept", "(reject)")


@pytest.mark.parametrize(
    ("name", "answers"),
    [("annotated_github-issues-DOCUMENTATION-textcat.jsonl", 830), ("docs_issues_eval.jsonl", 500)],
)
def test_old_rows_without_person_time_and_view_are_counted_all_the_same(name, answers):
    contents = real_rows(name)
    project = make.project(interface="textcat", labels=["DOCUMENTATION"], answers_per_task=1, rule="single")
    gathered = gather(from_rows(as_rows(contents), project, account_name))
    found = account(gathered, Expected(1, tasks=gathered.units))
    [line] = found.persons
    assert (found.answers, line.person) == (answers, "unknown")
    assert (line.accept, line.reject, line.ignore) == tuple(
        sum(one["answer"] == kind for one in contents) for kind in ("accept", "reject", "ignore")
    )
    assert found.timing.untimed + found.timing.timed > 0
    assert found.coverage.unanswered == 0


def test_real_spans_become_units():
    contents = real_rows("fashion_brands_eval.jsonl")
    project = make.project(interface="ner", labels=["FASHION_BRAND"], answers_per_task=2, rule="majority")
    rows = as_rows(contents)
    both = [one for name in ("ann", "ben") for one in from_rows(rows, project, lambda _, name=name: name)]
    units = units_of(gather(both, spans=True))
    marked = sum(len(one.get("spans") or ()) for one in contents if one["answer"] == "accept")
    found = list(units.span_units())
    distinct = {one["_input_hash"] for one in contents if one["answer"] == "accept"}
    assert len(found) == len(distinct)
    assert all(one.spans[0][1] == one.spans[1][1] for one in found), "both said the same"
    assert 0 < sum(len(one.spans[0][1]) for one in found) <= marked
    tokens = units.tokens()
    assert all(len(set(row.tolist())) == 1 for row in tokens.codes)
