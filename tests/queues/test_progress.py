from __future__ import annotations

import json
import random
from datetime import timedelta

import pytest

from include.base.canonical import sha256_hex
from include.base.errors import InvalidInput
from include.people.register import is_unknown
from include.queues.progress import BatchTally, form, progress
from tests.datasets.make import REGISTER, START, answer, project, task

PROJECT = project(quiet_minutes=10)
LATER = START + timedelta(hours=1)
IDS = [task(1), task(2)]
DONE = [answer(n, who, "billing") for n in (1, 2) for who in ("anna", "ben")]


def test_a_batch_is_named_by_its_sorted_ids() -> None:
    batch = form(IDS)
    assert form(reversed(IDS)) == batch
    assert batch.size == 2
    assert json.loads(batch.content) == sorted(IDS)
    assert batch.digest == sha256_hex(batch.content)
    assert form(IDS[:1]).digest != batch.digest


@pytest.mark.parametrize(
    ("ids", "words"), [([], "at least one"), ([IDS[0], IDS[0]], "twice"), (["A" * 64], "hex"), (["abc"], "'abc'")]
)
def test_a_batch_of_something_else_is_refused(ids: list[str], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        form(ids)


def test_finished_when_everybody_answered_and_it_is_quiet() -> None:
    result = progress(IDS, DONE, PROJECT, LATER, REGISTER)
    assert result.finished
    assert (result.done, result.expected, dict(result.missing)) == (4, 4, {})
    assert result.persons == {"anna", "ben"}
    assert result.last_answer_at == START


def test_not_finished_while_somebody_is_at_work() -> None:
    just_now = START + timedelta(minutes=9, seconds=59)
    assert not progress(IDS, DONE, PROJECT, just_now, REGISTER).finished
    assert progress(IDS, DONE, PROJECT, START + timedelta(minutes=10), REGISTER).finished
    late = answer(1, "anna", "other", minutes=55, link=9)
    result = progress(IDS, [*DONE, late], PROJECT, LATER, REGISTER)
    assert not result.finished
    assert "not quiet" in result.why


def test_one_persons_repeated_answers_count_once() -> None:
    repeated = [answer(1, "anna", "billing"), answer(1, "anna", "other", link=7), answer(2, "anna", "billing")]
    result = progress(IDS, repeated, PROJECT, LATER, REGISTER)
    assert not result.finished
    assert (result.done, dict(result.missing)) == (2, {IDS[0]: 1, IDS[1]: 1})
    assert "2 of 4" in result.why


def test_only_the_current_round_counts() -> None:
    again = [answer(1, who, "other", round_=2, link=500 + place) for place, who in enumerate(("anna", "ben"))]
    result = progress(IDS, [*DONE, *again], PROJECT, LATER, REGISTER)
    assert result.round == 2
    assert dict(result.missing) == {IDS[1]: 2}
    assert progress(IDS, DONE, PROJECT, LATER, REGISTER, current_round=2).done == 0
    assert progress(IDS, [*DONE, *again], PROJECT, LATER, REGISTER, current_round=1).finished


def test_unknown_accounts_count_apart_and_are_marked() -> None:
    rows = [answer(1, "zed", "billing"), answer(1, "yan", "billing"), answer(2, "anna", "billing"), answer(2, None)]
    result = progress(IDS, rows, PROJECT, LATER, REGISTER)
    assert result.finished
    unknown = {person for person in result.persons if is_unknown(person)}
    assert len(unknown) == 3
    assert result.persons - unknown == {"anna"}
    assert not any("zed" in person for person in result.persons)


def test_an_ignore_is_an_answer_and_answers_without_time_hold_nothing_up() -> None:
    rows = [*DONE[:3], answer(2, "ben", verdict="ignore")]
    assert progress(IDS, rows, PROJECT, LATER, REGISTER).finished
    timeless = [answer(n, who, "billing", time=None) for n in (1, 2) for who in ("anna", "ben")]
    result = progress(IDS, timeless, PROJECT, START, REGISTER)
    assert result.finished
    assert result.last_answer_at is None


def test_many_batches_are_counted_in_one_pass_in_any_order() -> None:
    first, second = form(IDS[:1]), form(IDS[1:])
    tally = BatchTally({first.digest: IDS[:1], second.digest: IDS[1:]}, PROJECT, REGISTER)
    rows = [*DONE[:3], answer(99, "anna", "billing")]
    random.Random(7).shuffle(rows)
    assert tally.add_all(rows) == 3
    assert tally.progress(first.digest, LATER).finished
    assert dict(tally.progress(second.digest, LATER).missing) == {IDS[1]: 1}
    with pytest.raises(InvalidInput, match="not among"):
        tally.progress("0" * 64, LATER)
