from __future__ import annotations

import json
import random
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from include.agreement import measure as measuring
from include.agreement.accounting import Expected
from include.agreement.given import from_rows, gather
from include.agreement.measure import Scheme, measure, seed_of
from include.agreement.spans import span, span_f1
from include.agreement.summary import Quality, spelled
from include.agreement.units import AnswerMapping, Treat, units_of
from include.base.canonical import canonical_json, digest_of
from include.base.errors import InvalidInput
from include.projects.model import Interface
from tests.agreement.make import binary, choice, given, gwet_ac, krippendorff_alpha, ner, percent_agreement
from tests.agreement.test_accounting import account_name, as_rows, real_rows
from tests.datasets import make

DIGEST = digest_of("a version")
OPTIONS = Scheme(Interface.CHOICE, ("a", "b", "c"))


def some(count: int = 60, people: str = "abcd", seed: int = 3) -> list[Any]:
    draw = random.Random(seed)
    answers = []
    for number in range(count):
        right = draw.choice("ab")
        for person in draw.sample(people, 3):
            said = right if draw.random() < 0.8 else draw.choice("abc")
            answers.append(given(f"{number:03}", person, choice(said)))
    return answers


def measured(answers: list[Any], scheme: Scheme = OPTIONS, **more: Any) -> Quality:
    gathered = gather(answers, spans=scheme.spans)
    return measure(gathered, scheme, DIGEST, Expected(3, tasks=gathered.units), **more)


def test_the_scores_are_the_coefficients_of_the_matrix():
    answers = some()
    quality = measured(answers)
    units = units_of(gather(answers), labels=("a", "b", "c"))
    for name, one in (
        ("krippendorff_alpha", krippendorff_alpha(units.matrix(), units.names)),
        ("gwet_ac", gwet_ac(units.matrix(), units.names)),
        ("percent_agreement", percent_agreement(units.matrix(), units.names)),
    ):
        score = quality.score(name)
        assert score.value == spelled(one.value)
        assert score.low is not None
        assert score.high is not None
        assert float(score.low) < float(score.value or "") < float(score.high)
        assert score.units == 60
    assert [one.name for one in quality.labels] == sorted(
        ["a", "b", "c"], key=lambda label: -next(one.ratings for one in quality.labels if one.name == label)
    )
    assert sum(one.ratings for one in quality.labels) == quality.ratings == 180
    assert {one.name for one in quality.persons} == set("abcd")
    with pytest.raises(KeyError):
        quality.score("kappa")


def test_the_mapping_moves_the_numbers_and_is_stated():
    answers = some() + [given(f"{number:03}", "zoe", choice(answer="reject")) for number in range(0, 60, 2)]
    own = measured(answers)
    missing = measured(answers, mapping=AnswerMapping(reject=Treat.MISSING))
    assert own.score("krippendorff_alpha").value != missing.score("krippendorff_alpha").value
    assert (own.mapping["reject"], missing.mapping["reject"]) == ("own class", "missing")
    assert (own.unrated, missing.unrated) == (0, 30)


def test_the_same_version_gives_the_same_bytes_and_another_seed_other_intervals():
    answers = some()
    shuffled = answers.copy()
    random.Random(9).shuffle(shuffled)
    one, other = (canonical_json(measured(each).as_json()) for each in (answers, shuffled))
    assert one == other
    assert seed_of(DIGEST) == int(DIGEST[:8], 16)
    elsewhere = measure(gather(answers), OPTIONS, "0" * 64, Expected(3, tasks=60))
    assert elsewhere.score("gwet_ac").value == measured(answers).score("gwet_ac").value
    assert elsewhere.score("gwet_ac") != measured(answers).score("gwet_ac")


def test_what_is_not_defined_says_why():
    single = measured([given("u", "ann", choice("a")), given("v", "ben", choice("b"))])
    assert [(one.value, one.reason) for one in single.scores] == [(None, "no unit has two ratings")] * 3
    same = measured([given("u", one, choice("a")) for one in ("ann", "ben")])
    alpha = same.score("krippendorff_alpha")
    assert alpha.value is None
    assert "do not vary" in alpha.reason
    percent = same.score("percent_agreement")
    assert (percent.value, percent.low) == ("1.000", None)
    assert "fewer than two units" in percent.reason


def test_an_annotator_is_compared_the_same_way_with_and_without_a_matrix(monkeypatch):
    answers = some()
    whole = measured(answers).persons
    monkeypatch.setattr(measuring, "CELLS", 0)
    parts = measured(answers).persons
    assert [(one.name, one.ratings, [score.value for score in one.scores]) for one in whole] == [
        (one.name, one.ratings, [score.value for score in one.scores]) for one in parts
    ]


def test_many_labels_and_people_are_listed_up_to_a_limit(monkeypatch):
    monkeypatch.setattr(measuring, "LISTED", 2)
    quality = measured(some())
    assert (len(quality.labels), quality.more_labels) == (2, 1)
    assert (len(quality.persons), quality.more_persons) == (2, 2)


@pytest.mark.parametrize(
    ("scheme", "value", "classes"),
    [
        (Scheme(Interface.TEXTCAT, ("ad",)), binary(), "The classes are the two answers."),
        (OPTIONS, choice("a"), "The classes are the options."),
        (Scheme(Interface.CHOICE, ("a",), True), choice("a"), "The classes are the sets of options picked."),
        (Scheme(Interface.NER, ("P",)), ner((0, 1, "P")), "The classes are the sets of labels marked."),
    ],
)
def test_it_says_what_the_classes_are(scheme, value, classes):
    assert measured([given("u", "ann", value)], scheme).classes == classes


def test_a_summary_comes_back_from_json_as_it_was():
    quality = measured(some())
    assert Quality.from_json(json.loads(canonical_json(quality.as_json()))) == quality
    with pytest.raises(InvalidInput, match="not a summary"):
        Quality.from_json({"version": DIGEST})


TEXT = "Anna met Ben in Bern on Monday."
NAMES = Scheme(Interface.NER, ("L", "P"))


def marked(*people: list[tuple[int, int, str]], unit: str = "u") -> list[Any]:
    return [given(unit, f"p{place}", ner(*spans), text=TEXT) for place, spans in enumerate(people)]


@pytest.mark.proves("agreement: span F1 exact, partial and type only on the report, over all pairs of annotators")
def test_spans_are_scored_over_all_pairs_of_annotators():
    anna, ben, bern = (0, 4, "P"), (9, 12, "P"), (16, 20, "L")
    answers = marked([anna, ben], [anna, bern], [(0, 8, "P"), bern]) + marked([anna], [anna], unit="v")
    quality = measured(answers, NAMES)
    # Unit u, exact: 0-1 share 1 of 4 marks, 0-2 none, 1-2 one; partial: 1, 0.5, 1.5; type: 1, 1, 2. Unit v: 1 of 2.
    assert quality.score("span_f1_exact").value == spelled(2 * (1 + 0 + 1 + 1) / (4 + 4 + 4 + 2))
    assert quality.score("span_f1_partial").value == spelled(2 * (1 + 0.5 + 1.5 + 1) / 14)
    assert quality.score("span_f1_type").value == spelled(2 * (1 + 1 + 2 + 1) / 14)
    assert quality.score("span_f1_exact").units == 2
    by_label = {one.name: {score.name: score.value for score in one.scores} for one in quality.labels}
    # Of L: 0-1 none of 1, 0-2 none of 1, 1-2 the same.
    assert by_label["L"]["span_f1_exact"] == spelled(2 * 1 / (1 + 1 + 2))
    by_person = {one.name: {score.name: score.value for score in one.scores} for one in quality.persons}
    assert by_person["p0"]["span_f1_exact"] == spelled(2 * (1 + 0 + 1) / (4 + 4 + 2))
    assert by_person["p2"]["span_f1_exact"] == spelled(2 * (0 + 1) / (4 + 4))


def test_pairs_of_annotators_are_pooled_as_the_pairwise_function_does():
    draw = random.Random(5)
    spots = [(0, 4, "P"), (5, 8, "P"), (9, 12, "L"), (16, 20, "L"), (0, 8, "L")]
    answers = [
        one
        for number in range(40)
        for one in marked(*(draw.sample(spots, draw.randint(0, 3)) for _ in range(3)), unit=f"{number:02}")
    ]
    units = units_of(gather(answers, spans=True))
    columns = [[[span(*mark) for mark in marks] for _, marks in unit.spans] for unit in units.span_units()]
    quality = measured(answers, NAMES)
    for mode in ("exact", "partial", "type"):
        pairs = [span_f1(zip(*pair, strict=True), mode) for pair in combinations(zip(*columns, strict=True), 2)]
        pooled = 2 * sum(one.matched for one in pairs) / sum(one.marks for one in pairs)
        assert quality.score(f"span_f1_{mode}").value == spelled(pooled)
        score = quality.score(f"span_f1_{mode}")
        assert score.low is not None
        assert float(score.low) < float(score.value or "") < float(score.high or "")


def test_tokens_are_compared_where_the_texts_are_at_hand():
    # Anna | met | Ben | in | Bern | on | Monday | .
    answers = marked([(0, 4, "P"), (9, 12, "P")], [(0, 4, "P"), (16, 20, "L")])
    token = measured(answers, NAMES).score("token_alpha")
    codes = [[1, 1], [0, 0], [1, 0], [0, 0], [0, 2], [0, 0], [0, 0], [0, 0]]
    assert token.value == spelled(krippendorff_alpha(np.array(codes)).value)
    assert token.low is None
    assert "not drawn independently" in token.reason
    without = [replace(one, text=None) if one.person == "p1" else one for one in answers]
    assert measured(without, NAMES).score("token_alpha").value == token.value, "one answer brought the text"
    mixed = answers + [replace(one, unit="v", text=None) for one in answers]
    assert "not at hand" in measured(mixed, NAMES).score("token_alpha").reason


def test_agreement_is_told_by_the_guideline_release_where_there_are_several():
    answers = [replace(one, group="1 (aa)" if one.unit < "030" else "2 (bb)") for one in some()]
    answers[0] = replace(answers[0], group="unknown")
    quality = measured(answers)
    assert [(one.name, one.ratings) for one in quality.guidelines] == [("2 (bb)", 90), ("1 (aa)", 87), ("several", 3)]
    alone = measured([one for one in answers if one.unit >= "030"])
    assert alone.guidelines == ()
    assert quality.guidelines[0].scores[0].value == alone.score("krippendorff_alpha").value


def region(label: str, *points: tuple[str, str], shape: str = "rect") -> list[Any]:
    return [label, shape, [list(point) for point in points]]


def test_regions_of_an_image_are_compared_by_the_rectangles_around_them():
    def seen(person: str, *regions: list[Any]) -> Any:
        return given("u", person, {"interface": "image", "answer": "accept", "regions": list(regions)})

    one = region("car", ("0", "0"), ("10", "10"))
    near = region("car", ("0", "0"), ("10", "7.5"), ("0.5", "7.5"), shape="polygon")
    far = region("car", ("0", "6"), ("10", "16"))
    scheme = Scheme(Interface.IMAGE, ("car", "tree"))
    two = measured([seen("a", one, region("tree", ("90", "90"), ("91", "91"))), seen("b", near)], scheme)
    # 75 of 100 in common: the same; the tree is a's alone.
    assert two.score("span_f1_iou").value == spelled(2 / 3)
    assert two.score("span_f1_exact").value == "0.000"
    assert measured([seen("a", one), seen("b", far)], scheme).score("span_f1_iou").value == "0.000"
    assert measured([seen("a", one), seen("b", one)], scheme).score("span_f1_exact").value == "1.000"
    with pytest.raises(KeyError):
        two.score("token_alpha")


def test_spans_without_pairs_have_a_reason():
    alone = measured(marked([(0, 4, "P")]), NAMES)
    assert alone.score("span_f1_exact").reason == "no two annotators accepted a unit"
    empty = measured(marked([], []), NAMES)
    assert "nobody marked anything" in empty.score("span_f1_exact").reason
    assert "neither marked anything" in empty.score("span_f1_type").reason


def test_numbers_have_three_digits_and_no_negative_zero():
    assert [spelled(one) for one in (0.12345, -0.00001, 1, None, -0.5)] == ["0.123", "0.000", "1.000", None, "-0.500"]


@pytest.mark.proves("agreement: numbers of a real export are those of a public library")
def test_the_agreement_of_42_people_is_that_of_a_public_library():
    library = pytest.importorskip("krippendorff", reason="the oracle krippendorff is not installed")
    contents = real_rows("pydata-ams-2023.jsonl")
    project = make.project(interface="textcat", labels=["new-dataset"], answers_per_task=15, rule="majority")
    gathered = gather(from_rows(as_rows(contents), project, account_name))
    scheme = Scheme(Interface.TEXTCAT, ("new-dataset",))
    quality = measure(gathered, scheme, DIGEST, Expected(15, tasks=gathered.units))
    codes = units_of(gathered).matrix().astype(float)
    codes[codes < 0] = np.nan
    alpha = library.alpha(reliability_data=codes.T, level_of_measurement="nominal")
    assert quality.score("krippendorff_alpha").value == spelled(float(alpha))
    assert len(quality.persons) == 42
