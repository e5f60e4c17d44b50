from __future__ import annotations

import pytest

from include.base.canonical import effect_key
from include.base.errors import Fenced, InvalidInput
from include.governance import effects
from include.governance.effects import Claim, Done
from include.governance.ledger import Ledger
from tests.governance.ledgers import digest, finish, note, start

RUN = "guideline_sync/2026-01-01/publish/0"


def make_claim(ledger: Ledger, number: int = 1, **fields: object) -> Claim:
    values = {
        "use_case": "guideline_sync",
        "project": "ticket_topics",
        "subject": "guideline:ticket_topics",
        "run": RUN,
        "try_number": 1,
    }
    values |= fields
    key = effect_key("guideline_sync", "ticket_topics", "guideline:ticket_topics", digest(number))
    return effects.claim(ledger, key, **values)  # type: ignore[arg-type]


def test_an_effect_is_claimed_made_and_recorded_once(ledger: Ledger) -> None:
    claim = make_claim(ledger)
    assert claim.previous is None
    assert not claim.interrupted
    claim.check()
    assert effects.find_done(ledger, claim.key) is None
    assert claim.done("page-1", created=1, updated=0, digest=digest(5)) is True
    [event] = ledger.events(actions=["effect.done"])
    assert (event.actor, event.subject, event.digest_after) == ("labelops", claim.subject, digest(5))
    assert event.body == {
        "use_case": "guideline_sync", "effect": claim.key, "reference": "page-1",
        "created": 1, "updated": 0, "recovered": False,
    }  # fmt: skip
    again = make_claim(ledger, run="another run")
    assert again.previous == Done(claim.key, "page-1", 1, 0, "")
    assert again.done("page-1", created=0, updated=0) is False
    assert ledger.head().size == 1
    assert effects.find_done(ledger, claim.key) == again.previous


def test_completion_said_twice_is_recorded_once(ledger: Ledger) -> None:
    claim = make_claim(ledger)
    assert claim.done("page-1", created=1, updated=0) is True
    assert claim.done("page-1", created=1, updated=0) is False
    assert ledger.head().size == 1


def test_nothing_created_leaves_no_event(ledger: Ledger) -> None:
    claim = make_claim(ledger)
    assert claim.done("page-1", created=0, updated=0) is False
    assert ledger.head().size == 0
    assert effects.find_done(ledger, claim.key) == Done(claim.key, "page-1", 0, 0, "")


def test_a_repair_is_an_event_of_its_own(ledger: Ledger) -> None:
    make_claim(ledger).done("page-1", created=1, updated=0)
    assert make_claim(ledger, try_number=2).done("page-1", created=0, updated=1) is True
    assert [(event.body["created"], event.body["updated"]) for event in ledger.events()] == [(1, 0), (0, 1)]


def test_a_try_that_resumes_after_its_successor_claimed_is_refused(ledger: Ledger) -> None:
    first = make_claim(ledger, try_number=1)

    def save_as_the_zombie() -> None:
        with ledger.transaction() as transaction:
            transaction.save_sync_state("s", {"written": "by the zombie"})
            first.check_in(transaction)

    first.check()
    second = make_claim(ledger, try_number=2)
    assert second.token > first.token
    with pytest.raises(Fenced, match="try 1 was taken over by claim 2"):
        first.check()
    with pytest.raises(Fenced):
        first.done("page-of-the-zombie", created=1, updated=0)
    with pytest.raises(Fenced, match="try 1 was taken over by claim 2"):
        save_as_the_zombie()
    with pytest.raises(Fenced, match=r"try 2 of .* has taken over from try 1"):
        make_claim(ledger, try_number=1)
    assert ledger.head().size == 0
    assert ledger.sync_state("s") is None
    second.check()
    assert second.done("page-1", created=1, updated=0)


def test_an_old_try_is_refused_even_after_another_run_claimed(ledger: Ledger) -> None:
    make_claim(ledger, try_number=2)
    make_claim(ledger, run="later run", try_number=1)
    with pytest.raises(Fenced):
        make_claim(ledger, try_number=1)


def test_an_effect_begun_by_a_killed_try_still_gets_its_event(ledger: Ledger) -> None:
    make_claim(ledger, try_number=1)  # made the page, and was killed before it could say so
    second = make_claim(ledger, try_number=2)
    assert second.interrupted
    assert second.previous is None
    assert second.done("page-1", created=0, updated=0) is True
    [event] = ledger.events()
    assert event.body["recovered"] is True
    assert make_claim(ledger, try_number=3).done("page-1", created=0, updated=0) is False


def test_a_newer_claim_on_the_same_subject_fences_another_key(ledger: Ledger) -> None:
    old = make_claim(ledger, 1)
    new = make_claim(ledger, 2, run="later run")
    with pytest.raises(Fenced):
        old.check()
    new.check()


@pytest.mark.parametrize(
    "fields", [{"use_case": "taxonomy_sync"}, {"project": "product_names"}, {"subject": "guideline:other"}]
)
def test_other_subjects_are_not_fenced(ledger: Ledger, fields: dict[str, str]) -> None:
    first = make_claim(ledger, try_number=1)
    other = make_claim(ledger, try_number=2, **fields)
    first.check()
    assert other.token == 1


def test_completion_belongs_to_the_transaction_it_is_part_of(ledger: Ledger) -> None:
    claim = make_claim(ledger)

    def fail() -> None:
        with ledger.transaction() as transaction:
            transaction.append(note(1))
            claim.done_in(transaction, "page-1", created=1, updated=0)
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        fail()
    assert effects.find_done(ledger, claim.key) is None
    assert ledger.head().size == 0
    with ledger.transaction() as transaction:
        claim.check_in(transaction)
        transaction.save_sync_state("s", {"n": 1})
        claim.done_in(transaction, "page-1", created=1, updated=0)
    assert ledger.head().size == 1
    assert ledger.sync_state("s") == {"n": 1}


def test_tokens_are_given_to_one_process_each(ledger: Ledger, empty_url: str) -> None:
    code = (
        "import sys; from include.governance import effects; from include.governance.ledger import Ledger\n"
        "ledger = Ledger(sys.argv[1])\n"
        "for n in range(10):\n"
        "    run = sys.argv[2] + str(n)\n"
        "    claim = effects.claim(ledger, 'k', use_case='u', project='p', subject='s', run=run, try_number=1)\n"
        "    print(claim.token)\n"
    )
    processes = [start(code, empty_url, f"r{number}-") for number in range(3)]
    tokens = []
    for process in processes:
        mine = [int(line) for line in finish(process).split()]
        assert mine == sorted(mine)
        tokens += mine
    assert sorted(tokens) == list(range(1, 31))


def test_a_negative_try_is_refused(sqlite_ledger: Ledger) -> None:
    with pytest.raises(InvalidInput, match="try number is -1"):
        make_claim(sqlite_ledger, try_number=-1)
