from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given as cases
from hypothesis import strategies as st

from include.agreement.given import Category, Given, UnitKey, category_of, from_answers, from_rows, from_version, gather
from include.agreement.units import AnswerMapping, Repeats, Treat, units_of
from include.annotation.answers import read_answer
from include.annotation.values import person_of
from include.base.errors import InvalidInput, Refused
from include.datasets import freeze as freezing
from include.queues.progress import form
from include.systems.prodigy.values import Row
from tests.agreement.make import binary, choice, given, ner
from tests.datasets import make

OWN, MISSING = Treat.OWN, Treat.MISSING


def said(units: Any) -> dict[tuple[int, str], str]:
    return {
        (int(unit), units.raters[rater]): units.names[code]
        for unit, rater, code in zip(units.unit, units.rater, units.code, strict=True)
    }


# --- mapping ---------------------------------------------------------------------------------------------------------

THREE = [
    given("u", "ann", choice("a")),
    given("u", "ben", choice()),
    given("u", "cem", choice(answer="reject")),
    given("u", "dee", choice(answer="ignore")),
]


@pytest.mark.proves("agreement: accept, reject, ignore and an accept of nothing are mapped as stated")
@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        (AnswerMapping(), {"ann": "a", "ben": "(nothing)", "cem": "(reject)"}),
        (AnswerMapping(reject=MISSING), {"ann": "a", "ben": "(nothing)"}),
        (AnswerMapping(nothing=MISSING), {"ann": "a", "cem": "(reject)"}),
        (AnswerMapping(ignore=OWN), {"ann": "a", "ben": "(nothing)", "cem": "(reject)", "dee": "(ignore)"}),
        (AnswerMapping(MISSING, MISSING, MISSING), {"ann": "a"}),
    ],
)
def test_what_gives_no_label_is_a_class_or_missing_as_the_mapping_says(mapping, expected):
    units = units_of(gather(THREE), mapping)
    assert {person: name for (_, person), name in said(units).items()} == expected
    notes = units.notes
    assert (notes.answers, notes.ratings, notes.unrated) == (4, len(expected), 4 - len(expected))
    assert sorted(mapping.canonical()) == ["ignore", "nothing", "reject"]
    assert f"ignore: {mapping.ignore.value}" in mapping.text


def test_a_binary_reject_is_the_other_answer():
    units = units_of(gather([given("u", "ann", binary()), given("u", "ben", binary("reject"))]))
    assert units.names == ("accept", "(reject)")
    assert units.matrix().tolist() == [[0, 1]]


def test_categories_tell_number_ids_from_text_ids_and_know_every_interface():
    assert category_of(choice(2, "2", 1)) == Category("accept", (1, 2, "2"))
    assert category_of(ner((0, 1, "B"), (2, 3, "A"), (4, 5, "B"))).labels == ("A", "B")
    value = {"answer": "accept", "regions": [["car", "rect", [["0", "0"], ["1", "1"]]]]}
    assert category_of(value).labels == ("car",)
    assert category_of({"answer": "accept", "segments": [["0.5", "1", "speech"]]}).labels == ("speech",)
    value = {"answer": "accept", "spans": [[0, 1, "P"]], "relations": [[0, 1, 2, 3, "of"]]}
    assert category_of(value).labels == ("P", "of")
    with pytest.raises(InvalidInput, match=r"value\.answer: found 'maybe'; allowed: accept, reject, ignore"):
        category_of({"answer": "maybe"})


def test_labels_that_nobody_gave_are_classes_where_they_are_named():
    units = units_of(gather(THREE[:1]), labels=["b", "a"])
    assert units.names == ("a", "b")
    assert units.matrix().tolist() == [[0]]


# --- rounds and repeated answers -------------------------------------------------------------------------------------

TWICE = [
    given("u", "ann", choice("a"), at=1000, order=1),
    given("u", "ann", choice("b"), at=3000, order=2),
    given("u", "ann", choice("c"), at=2000, order=3),
    given("u", "ann", choice("d"), order=9),
    given("v", "ann", choice("a"), order=4),
    given("v", "ann", choice("a"), order=5),
]


@pytest.mark.proves("agreement: repeated answers of one annotator count by a declared rule, with the exception list")
@pytest.mark.parametrize("seed", range(4))
def test_repeated_answers_count_by_the_declared_rule_in_any_order(seed):
    answers = TWICE.copy()
    random.Random(seed).shuffle(answers)
    tasks = ["u", "v"]
    latest = units_of(gather(answers, tasks=tasks))
    assert said(latest) == {(0, "ann"): "b", (1, "ann"): "a"}
    assert said(units_of(gather(answers, tasks=tasks), repeats=Repeats.FIRST)) == {(0, "ann"): "d", (1, "ann"): "a"}
    assert latest.notes.repeated == 4
    found = [(one.unit, one.person, one.answers, one.alike) for one in latest.notes.exceptions]
    assert found == [("u", "ann", 4, False), ("v", "ann", 2, True)]
    with pytest.raises(Refused, match="ann answered unit u 4 times, one of 2 such"):
        units_of(gather(answers, tasks=tasks), repeats=Repeats.REFUSE)


def test_only_the_latest_round_of_a_unit_is_rated():
    units = units_of(
        gather([given("u", "ann", choice("a")), given("u", "ben", choice("b"), round=2), given("v", "ann", choice())])
    )
    assert said(units) == {(0, "ben"): "b", (1, "ann"): "(nothing)"}
    assert units.notes.earlier == 1


# --- arrays ----------------------------------------------------------------------------------------------------------


def test_multi_choice_is_rated_as_sets_and_label_by_label():
    units = units_of(
        gather(
            [
                given("u", "ann", choice("a", "b")),
                given("u", "ben", choice("b")),
                given("u", "cem", choice(answer="reject")),
                given("v", "ann", choice()),
            ]
        )
    )
    assert units.labels == ("a", "b")
    assert units.names == ("(nothing)", "a + b", "b", "(reject)")
    one = units.for_label("a")
    assert said(one) == {(0, "ann"): "given", (0, "ben"): "not given", (0, "cem"): "(reject)", (1, "ann"): "not given"}
    assert one.names == ("not given", "given", "(reject)")
    assert one.matrix().tolist() == [[1, 0, 2], [0, -1, -1]]


def test_the_matrix_and_the_slots_hold_the_same_ratings():
    answers = [given("v", "ben", choice("a")), given("u", "cem", choice("b")), given("u", "ann", choice("a"))]
    units = units_of(gather(answers, tasks=["u", "v", "w"]))
    assert units.raters == ("ann", "ben", "cem")
    assert units.matrix().tolist() == [[0, -1, 1], [-1, 0, -1], [-1, -1, -1]]
    codes, who = units.slots()
    assert codes.tolist() == [[0, 1], [0, -1], [-1, -1]]
    assert who.tolist() == [[0, 2], [1, -1], [-1, -1]]
    assert units.of_raters("cem").matrix().tolist() == [[-1, -1, 1], [-1, -1, -1], [-1, -1, -1]]
    with pytest.raises(InvalidInput, match="found 'zoe'"):
        units.of_raters("zoe")


def test_units_are_sliced_by_the_label_that_was_asked_about():
    units = units_of(
        gather([given("u", "ann", binary(), group="ad"), given("v", "ann", binary("reject"), group="spam")])
    )
    assert units.groups == ("ad", "spam")
    assert said(units.of_group("spam")) == {(1, "ann"): "(reject)"}
    with pytest.raises(InvalidInput, match="slice: found 'x'; allowed: 'ad', 'spam'"):
        units.of_group("x")


def test_nobody_and_nothing_give_empty_arrays():
    units = units_of(gather([]))
    assert units.matrix().shape == (0, 0)
    assert units.slots()[0].shape == (0, 0)
    assert units.labels == ()
    assert list(units_of(gather([], spans=True)).span_units()) == []


values = st.sampled_from([choice("a"), choice("b"), choice("a", "b"), choice(), choice(answer="reject")])


@cases(
    st.lists(
        st.tuples(st.sampled_from("uvwx"), st.sampled_from("abcd"), values, st.integers(1, 2), st.integers(0, 9)),
        max_size=25,
    ),
    st.randoms(use_true_random=False),
)
def test_the_order_of_the_answers_changes_nothing(rows, shuffle):
    answers = [
        given(unit, person, value, round=turn, at=at, order=place)
        for place, (unit, person, value, turn, at) in enumerate(rows)
    ]
    moved = answers.copy()
    shuffle.shuffle(moved)
    one, other = (units_of(gather(each, tasks="uvwx")) for each in (answers, moved))
    assert said(one) == said(other)
    assert (one.names, one.raters, one.notes) == (other.names, other.raters, other.notes)
    notes = one.notes
    assert notes.answers == notes.ratings + notes.unrated + notes.repeated + notes.earlier
    assert len(said(one)) == notes.ratings
    assert np.count_nonzero(one.matrix() >= 0) == np.count_nonzero(one.slots()[0] >= 0) == notes.ratings


def test_a_list_of_tasks_names_each_once_and_sorted_answers_are_sorted():
    with pytest.raises(InvalidInput, match="listed twice"):
        gather([], tasks=["u", "u"])
    with pytest.raises(InvalidInput, match="not sorted by unit: a comes after b"):
        gather([given("b", "p", choice()), given("a", "p", choice())], ordered=True)
    with pytest.raises(InvalidInput, match="any order"):
        gather([], tasks=[], ordered=True)


# --- spans -----------------------------------------------------------------------------------------------------------

TEXT = "Anna met Ben 🙂 in Bern."


def test_spans_come_by_unit_for_those_who_accepted():
    units = units_of(
        gather(
            [
                given("u", "ann", ner((0, 4, "P"), (18, 22, "L")), text=TEXT),
                given("u", "ben", ner(), text=TEXT),
                given("u", "cem", ner(answer="reject"), text=TEXT),
                given("v", "ann", ner((0, 1, "P"))),
            ],
            spans=True,
        )
    )
    [unit] = units.span_units()
    assert unit.unit == 0
    assert unit.spans == ((0, ((0, 4, "P"), (18, 22, "L"))), (1, ()))
    nothing = gather([given("u", "ann", ner()), given("u", "ben", ner())], spans=True)
    unmapped = units_of(nothing, AnswerMapping(nothing=MISSING))
    assert list(unmapped.span_units()) == []
    with pytest.raises(InvalidInput, match="spans=True"):
        next(units_of(gather([given("u", "ann", ner())])).span_units())


def test_tokens_are_units_by_the_labels_over_them():
    units = units_of(
        gather(
            [
                given("u", "ann", ner((0, 4, "P"), (9, 12, "P")), text=TEXT),
                given("u", "ben", ner((0, 8, "P")), text=TEXT),
            ],
            spans=True,
        )
    )
    found = units.tokens()
    # Anna: both; met: ben; Ben: ann; the smile, in, Bern and the full stop: neither.
    table = {
        tuple(sorted(found.categories[code] for code in row)): int(times)
        for row, times in zip(found.codes, found.times, strict=True)
    }
    assert table == {("P", "P"): 1, ("(outside)", "P"): 2, ("(outside)", "(outside)"): 4}


def test_tokens_are_not_counted_where_a_text_is_not_at_hand():
    units = units_of(gather([given("u", "ann", ner()), given("u", "ben", ner())], spans=True))
    with pytest.raises(Refused, match="not at hand"):
        units.tokens()


def test_segments_of_a_recording_are_spans_in_milliseconds():
    value = {"interface": "audio", "answer": "accept", "segments": [["0.5", "12", "speech"]]}
    units = units_of(gather([given("u", one, value) for one in ("ann", "ben")], spans=True))
    [unit] = units.span_units()
    assert unit.spans[0] == (0, ((500, 12000, "speech"),))


# --- from where ------------------------------------------------------------------------------------------------------

REGISTER = make.register_of(["anna", "ben", "cem"])


def by(answer: Any) -> str:
    return person_of(answer, "ticket_topics", REGISTER)


def test_a_version_gives_the_ratings_that_its_answers_gave(tmp_path):
    from include.base.store import Store

    project = make.project(answers_per_task=2, rule="majority")
    answers = [
        make.answer(1, "anna", "billing"),
        make.answer(1, "ben", "billing"),
        make.answer(1, "cem", "other"),
        make.answer(2, "anna", "account"),
        make.answer(2, "ben", "delivery"),
        make.answer(3, "anna", "billing", minutes=1, link=31),
        make.answer(3, "anna", "other", minutes=2, link=32),
        make.answer(3, "ben", verdict="ignore"),
        make.answer(4, "anna", "billing"),
        make.answer(4, "ben", "billing", round_=2),
        make.answer(4, "cem", "billing", round_=2),
    ]
    tasks = [make.task(number) for number in (1, 2, 3, 4)]
    store = Store(tmp_path)
    frozen = freezing.freeze(store, project, form(tasks).digest, tasks, answers, register=REGISTER)
    assert frozen.manifest.counts.rows < 4, "some tasks are disputed: their answers are among the losing alone"
    version = gather(
        from_version(freezing.rows(store, project, frozen.digest), freezing.losing(store, project, frozen.digest)),
        ordered=True,
    )
    live = gather(from_answers(answers, by), tasks=sorted(tasks))
    for rule in (Repeats.LATEST, Repeats.FIRST):
        one, other = units_of(version, repeats=rule), units_of(live, repeats=rule)
        names = [version.names[number] for number in range(version.units)]
        assert {(names[unit], person): name for (unit, person), name in said(one).items()} == {
            (live.names[unit], person): name for (unit, person), name in said(other).items()
        }
        assert replace(one.notes, exceptions=()) == replace(other.notes, exceptions=())
        assert one.notes.exceptions == other.notes.exceptions


def test_rows_are_grouped_by_input_hash_within_view_and_label():
    project = make.project(interface="textcat", labels=["ad"], answers_per_task=1, rule="single")

    def row(link: int, person: str, input_hash: int, **more: Any) -> Row:
        content = {"text": f"t{input_hash}", "label": "ad", "answer": "accept", "_view_id": "classification", **more}
        content |= {"_annotator_id": f"ticket_topics-{person}", "_input_hash": input_hash, "_task_hash": link}
        return Row(link, link, input_hash, link, content, repr(content).encode())

    rows = [row(1, "anna", -5), row(2, "ben", -5), row(3, "cem", -5, _view_id="choice")]
    rows += [row(4, "anna", -5, label="spam"), row(5, "ben", 7)]
    found = list(from_rows(rows, project, by))
    same = "classification/ad/-5"
    others = ["choice/ad/-5", "classification/spam/-5", "classification/ad/7"]
    assert [one.unit for one in found] == [same, same, *others]
    assert units_of(gather(found)).matrix().shape == (4, 3)
    own = list(from_rows(rows, project, by, key=UnitKey.TASK))
    assert own[0].unit == read_answer(rows[0], project).task_id
    with pytest.raises(InvalidInput, match="input hash"):
        next(from_answers([], by, key=UnitKey.INPUT))


def test_no_content_is_kept():
    secret = "a text that nobody should find"
    gathered = gather([Given("u", "ann", ner((0, 1, "P")), text=secret)], spans=True)
    assert secret not in repr(vars(gathered)) + repr(vars(gathered.spans))
