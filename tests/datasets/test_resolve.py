from __future__ import annotations

import json
from datetime import timedelta

import pytest

from include.base.errors import InvalidInput
from include.datasets.resolve import (
    FinalDecision,
    Repeat,
    Resolution,
    Vote,
    final_decisions,
    read_final_decision,
    resolve_task,
)
from include.projects.model import Repeated, Rule
from include.systems.prodigy.values import Row
from tests.datasets.make import START, project, shown, task


def vote(person: str, choice: str | None, *, minutes: float | None = 0, row: str = "", round_: int = 1) -> Vote:
    time = None if minutes is None else (START + timedelta(minutes=minutes)).isoformat()
    return Vote("t", person, round_, time, row or f"{person}{choice}{minutes}", choice)


def resolve(rule: str, needed: int, *votes: Vote, **more: object) -> Resolution:
    return resolve_task("t", votes, rule=Rule(rule), needed=needed, **more)  # type: ignore[arg-type]


def reasons(result: Resolution) -> list[tuple[str, str]]:
    return [(vote.person, reason) for vote, reason in result.losing]


@pytest.mark.parametrize(
    ("rule", "needed", "choices", "outcome", "counted"),
    [
        ("single", 1, "x", "counted", 1),
        ("single", 1, "xx", "counted", 2),
        ("single", 1, "xy", "disputed", 0),
        ("majority", 2, "xx", "counted", 2),
        ("majority", 2, "xy", "disputed", 0),
        ("majority", 3, "xxy", "counted", 2),
        ("majority", 4, "xxyy", "disputed", 0),
        ("majority", 4, "xxyz", "disputed", 0),
        ("majority", 3, "xx-", "counted", 2),
        ("majority", 2, "x-", "disputed", 0),
        ("unanimous", 2, "xx", "counted", 2),
        ("unanimous", 2, "xy", "disputed", 0),
        ("unanimous", 2, "x-", "disputed", 0),
        ("unanimous", 2, "--", "ignored", 0),
        ("single", 1, "-", "ignored", 0),
        ("unanimous", 2, "x", "missing", 0),
        ("majority", 3, "xx", "missing", 0),
        ("single", 1, "", "missing", 0),
    ],
)
def test_the_rule_decides(rule: str, needed: int, choices: str, outcome: str, counted: int) -> None:
    votes = [vote(f"p{n}", None if choice == "-" else choice) for n, choice in enumerate(choices)]
    result = resolve(rule, needed, *votes)
    assert (result.outcome, len(result.counted)) == (outcome, counted)
    assert len(result.counted) + len(result.losing) == len(votes)


def test_the_latest_answer_of_a_person_counts_by_time_and_then_by_digest() -> None:
    result = resolve("single", 1, vote("a", "new", minutes=5, row="1"), vote("a", "old", minutes=1, row="9"))
    assert [one.choice for one in result.counted] == ["new"]
    assert reasons(result) == [("a", "superseded")]
    for order in (1, -1):
        same = resolve("single", 1, *[vote("a", "new", row="9"), vote("a", "old", row="1")][::order])
        assert [one.choice for one in same.counted] == ["new"]
    timeless = resolve("single", 1, vote("a", "old", minutes=None, row="9"), vote("a", "new", minutes=0, row="1"))
    assert [one.choice for one in timeless.counted] == ["new"]
    part = resolve("single", 1, vote("a", "old", minutes=1), vote("a", "new", minutes=1.005))
    assert [one.choice for one in part.counted] == ["new"]


@pytest.mark.proves("a declared rule for repeated answers of one annotator, and the list of exceptions")
def test_what_counts_of_somebodys_several_answers_is_the_projects_to_say() -> None:
    votes = [
        vote("a", "x", minutes=1, row="1"),
        vote("b", "x", minutes=2, row="2"),
        vote("a", "y", minutes=3, row="3"),
        vote("a", "x", minutes=0, row="4", round_=1),
    ]
    latest = resolve("majority", 2, *votes)
    assert (latest.outcome, latest.persons) == ("disputed", 2)
    assert latest.repeats == (Repeat("a", "3", ("4", "1")),)
    assert reasons(latest) == [("a", "superseded"), ("a", "disputed"), ("a", "superseded"), ("b", "disputed")]
    first = resolve("majority", 2, *votes, repeated=Repeated.FIRST)
    assert (first.outcome, [one.row_digest for one in first.counted]) == ("counted", ["4", "2"])
    assert first.repeats == (Repeat("a", "4", ("1", "3")),)
    assert reasons(first) == [("a", "repeated"), ("a", "repeated")]
    refused = resolve("majority", 2, *votes, repeated=Repeated.REFUSE)
    assert (refused.outcome, refused.persons, refused.values) == ("disputed", 2, 1)
    assert refused.repeats == (Repeat("a", None, ("4", "1", "3")),)
    assert reasons(refused) == [("a", "repeated")] * 3 + [("b", "disputed")]
    same = resolve("single", 1, vote("a", "x", minutes=1), vote("a", "x", minutes=2), repeated=Repeated.REFUSE)
    assert same.outcome == "disputed"
    decided = resolve("majority", 2, *votes, repeated=Repeated.REFUSE, decision=decision(), decided_choice="x")
    assert (decided.outcome, [one.person for one in decided.counted]) == ("counted", ["b"])
    assert resolve("majority", 2, vote("a", "x"), vote("a", "y", round_=2), vote("b", "y", round_=2)).repeats == ()


def test_the_latest_round_counts_even_against_more_answers_of_an_earlier_one() -> None:
    votes = [vote("a", "x"), vote("b", "x"), vote("a", "y", round_=2)]
    result = resolve("unanimous", 2, *votes)
    assert result.outcome == "missing"
    assert sorted(reasons(result)) == [("a", "earlier_round"), ("a", "missing"), ("b", "earlier_round")]
    done = resolve("unanimous", 2, *votes, vote("b", "y", round_=2))
    assert (done.outcome, {one.choice for one in done.counted}) == ("counted", {"y"})
    assert resolve("unanimous", 2, vote("a", "x"), vote("b", "x"), from_round=2).outcome == "missing"


def test_losers_are_named_with_their_reason() -> None:
    result = resolve("majority", 3, vote("a", "x"), vote("b", "x"), vote("c", "y"), vote("d", None), vote("e", "x"))
    assert result.outcome == "counted"
    assert sorted(reasons(result)) == [("c", "outvoted"), ("d", "ignored")]


def decision(kind: str = "decision", who: str = "judge", hours: float = 0, value: str = "accept") -> FinalDecision:
    return FinalDecision(
        "t",
        f"{kind}-{who}-{hours}",
        {"answer": value},
        who,
        START + timedelta(hours=hours),
        kind=kind,  # type: ignore[arg-type]
    )


def test_a_final_decision_settles_what_the_answers_do_not() -> None:
    result = resolve("unanimous", 2, vote("a", "x"), vote("b", "y"), decision=decision(), decided_choice="y")
    assert (result.outcome, result.basis) == ("counted", "decision")
    assert [one.person for one in result.counted] == ["b"]
    assert reasons(result) == [("a", "overruled")]
    nobody = resolve("unanimous", 2, decision=decision(), decided_choice="y")
    assert (nobody.outcome, nobody.counted) == ("counted", ())
    assert resolve("single", 1, vote("a", "x"), decision=decision(), decided_choice=None).outcome == "ignored"


def test_a_decision_stands_over_a_review_and_the_latest_over_earlier_ones() -> None:
    later_review, early, late = decision("review", hours=9), decision(hours=1), decision(hours=2)
    for order in ([later_review, early, late], [late, early, later_review]):
        assert final_decisions(order) == {"t": late}
    with pytest.raises(InvalidInput, match="kind"):
        final_decisions([decision("rumour")])


def decision_row(**labelops: object) -> Row:
    content = {**shown(1), "answer": "accept", "accept": ["billing"], "_timestamp": 1777622400, "labelops": labelops}
    return Row(1, 7, 0, 0, content, json.dumps(content).encode())


def test_a_row_of_the_decisions_dataset_is_a_decision() -> None:
    found = read_final_decision(decision_row(decision_id="d1", person="carla", task_id=task(1)), project())
    assert found == FinalDecision(
        task(1),
        "d1",
        {"interface": "choice", "answer": "accept", "accept": ["billing"]},
        "carla",
        START,
        "decision",
        shown(1),
    )
    assert (
        read_final_decision(decision_row(decision_id="d1", person="carla", kind="review"), project()).kind == "review"
    )


@pytest.mark.parametrize(
    ("labelops", "words"),
    [
        ({"person": "carla"}, "labelops.decision_id: found None"),
        ({"decision_id": "d1", "person": ""}, "labelops.person"),
        ({"decision_id": "d1", "person": "carla", "kind": "rumour"}, "labelops.kind: found 'rumour'"),
    ],
)
def test_a_row_that_is_no_decision_names_its_field(labelops: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as caught:
        read_final_decision(decision_row(**labelops), project())
    assert "ticket_topics__decisions, example 7" in str(caught.value)
