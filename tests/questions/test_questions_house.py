"""The auditor's questions in a whole installation, after its steps have run."""

from __future__ import annotations

import pytest

from include import questions
from include.base.store import Store
from include.questions import Records
from tests.house import House


@pytest.mark.proves("an auditor's questions are answered from what the steps leave behind")
def test_after_a_release_every_question_has_its_answer(approved: House) -> None:
    ledger = approved.ledger()
    try:
        records = Records(ledger, Store(approved.home / "store"))
        assert [one.kind for one in questions.pending(records).items] == ["release"]
        approved.release()
        version = ledger.versions(approved.project.name)[-1]
        who = questions.who(records, version)
        assert {one.person for one in who.labels} == {"anna", "ben"}
        assert [(one.person, one.meaning, one.grade) for one in who.decisions] == [
            ("quentin", "review", "attested"),
            ("dana", "approval", "attested"),
            ("rita", "responsibility", "attested"),
        ]
        [trace] = questions.trace_source(records, "2026-11-tickets.jsonl", "t-01")
        [inside] = trace.versions
        assert inside.released is not None
        assert {one.guideline.how for one in inside.answers} == {"stamped"}
        assert inside.answers[0].taxonomy.labels == approved.project.annotation.labels
        found = questions.released_without(records)
        assert (found.releases, found.lacks) == (1, ())
        assert questions.pending(records).items == ()
    finally:
        ledger.close()
