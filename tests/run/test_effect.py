"""An effect is claimed when it begins, finished once, and never left half done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from include.base.errors import Fenced
from include.base.store import Store
from include.governance.ledger import Ledger
from include.people.register import Register, RegisterFile
from include.run.run import Run, RunRef

SUBJECT = ("use_case", "project", "thing:a", "ab" * 32)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    made.migrate()
    yield made
    made.close()


def run_of(ledger: Ledger, tmp_path: Path, try_number: int = 1) -> Run:
    store = Store(tmp_path / "store")
    ref = RunRef("dag", "run", "task", 0, try_number)
    return Run(store, ledger, Register(RegisterFile(persons=())), ref, store.at("staging"), Path)


@pytest.fixture
def run(ledger: Ledger, tmp_path: Path) -> Run:
    return run_of(ledger, tmp_path)


def test_looking_claims_nothing(run: Run, tmp_path: Path) -> None:
    with run.effect(*SUBJECT) as effect:
        assert effect.done is None
    with run.effect(*SUBJECT) as effect:
        assert effect.interrupted is False, "nobody claimed it before"
        effect.leave()


def test_a_finished_effect_is_done_with_its_event_and_states(run: Run) -> None:
    with run.effect(*SUBJECT) as effect:
        effect.check()
        assert effect.finish("thing.made", "once", "place", created=1, states={"scope": {"seen": 3}}, reason="why")
    [event] = run.ledger.events(actions=["thing.made"])
    assert (event.subject, event.reason, event.run) == ("thing:a", "why", "dag/run/task/0/1")
    assert run.ledger.sync_state("scope") == {"seen": 3}
    with run.effect(*SUBJECT) as effect:
        assert effect.done is not None
        assert (effect.done.reference, effect.done.created) == ("place", 1)


def test_a_killed_try_leaves_it_interrupted(run: Run) -> None:
    with suppress(KeyboardInterrupt), run.effect(*SUBJECT) as effect:
        effect.begin()
        raise KeyboardInterrupt
    with run.effect(*SUBJECT) as effect:
        assert effect.interrupted is True
        effect.leave()


def test_what_was_begun_and_neither_finished_nor_left_is_a_mistake(run: Run) -> None:
    with pytest.raises(AssertionError, match="use_case on thing:a: the effect was begun and not finished"):  # noqa: SIM117
        with run.effect(*SUBJECT) as effect:
            effect.begin()


def test_an_older_try_is_refused(run: Run, ledger: Ledger, tmp_path: Path) -> None:
    with run.effect(*SUBJECT) as old:
        old.begin()
        with run_of(ledger, tmp_path, 2).effect(*SUBJECT) as new:
            new.check()
            new.leave()
        with pytest.raises(Fenced):
            old.finish("thing.made", "once", "place")
        old.leave()
    assert list(ledger.events(actions=["thing.made"])) == []


def test_rows_are_staged_and_values_kept_in_canonical_form(run: Run) -> None:
    place = run.stage("rows.jsonl", [{"b": 1, "a": "é"}, {}])
    assert run.locate(place).read_text("utf-8") == '{"a":"é","b":1}\n{}\n'
    assert run.store.get_object(run.keep({"b": 1, "a": 2})) == b'{"a":2,"b":1}'


def test_the_last_event_about_a_subject_is_that_of_the_named_actions(run: Run) -> None:
    for action in ("thing.made", "thing.seen", "thing.made", "other"):
        run.note(action, "project", "thing:a", reason=action)
    run.note("thing.made", "project", "thing:b")
    last = run.last("thing:a", "thing.made", "thing.seen")
    assert last is not None
    assert (last.seq, last.action) == (3, "thing.made")
    assert run.last("thing:a", "nothing") is None
