"""An auditor's questions, answered from a ledger and a store alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from include import questions
from include.annotation.served import labels_digest
from include.base.canonical import digest_of
from include.base.errors import Conflict, InvalidInput
from include.datasets.withdrawals import withdraw
from include.governance.usage import record_use
from include.questions.lacking import CHECKS, ON_REQUEST
from tests.datasets.make import GUIDELINE, LABELS, REGISTER, START, answer, task
from tests.governance.lives import ASKED_AT, Life, both

FOUR = [*both(1, "billing"), *both(2, "delivery"), answer(3, "anna", "other"), answer(3, "ben", "account")]
"""Two tasks agreed on and one disputed."""


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    made = Life(tmp_path)
    yield made
    made.ledger.close()


def guideline_release(life: Life, digest: str, number: int, labels: tuple[str, ...] = LABELS) -> None:
    home = life.store.at("publications", life.project.name, "guidelines")
    folder = home / f"{number:04d}-{digest[:12]}"
    folder.mkdir(parents=True)
    (folder / "release.json").write_text(json.dumps({"digest": digest, "substance": {"labels": labels}}), "utf-8")


def activation(life: Life, digest: str, number: int, started: datetime) -> None:
    home = life.store.at("publications", life.project.name, "guidelines", "activations")
    home.mkdir(parents=True, exist_ok=True)
    said = {
        "release": f"{number:04d}-{digest[:12]}",
        "digest": digest,
        "number": number,
        "started": started.isoformat(),
    }
    (home / f"{started:%Y%m%dT%H%M%S.%fZ}-{number}.json").write_text(json.dumps(said), "utf-8")


# ---- who -----------------------------------------------------------------------------------------------------------


@pytest.mark.proves("an auditor sees who labelled, reviewed and approved a version")
def test_who_names_everybody_with_what_they_did(life: Life) -> None:
    version = life.frozen(FOUR, (1, 2, 3))
    life.event("approval.asked", f"version:{version.digest}", body={"requesters": ["olga"]}, actor="olga")
    life.approved(version)
    life.decided(version, "anna", "data_owner", "process-1-1", counts=False, void_reason="anna annotated it")
    found = questions.who(life.records, version)
    assert [(one.person, one.counted, one.losing) for one in found.labels] == [("anna", 2, 1), ("ben", 2, 1)]
    assert [(one.person, one.action) for one in found.requests] == [("olga", "approval.asked")]
    assert [(one.person, one.meaning, one.counts, one.grade) for one in found.decisions] == [
        ("quentin", "review", True, "attested"),
        ("dana", "approval", True, "attested"),
        ("anna", "approval", False, "attested"),
    ]
    assert all(one.decided_at == ASKED_AT + timedelta(hours=1) for one in found.decisions)
    assert all(one.recorded_at > datetime.now(UTC) - timedelta(minutes=5) for one in found.decisions)
    events = {event.seq: event for event in life.ledger.events()}
    assert {events[number].action for number in found.basis.events} >= {"version.frozen", "decision.recorded"}
    assert all(life.store.at(*path.split("/")).exists() for path in found.basis.files)
    text = "\n".join(questions.lines(found))
    assert "does not count: anna annotated it" in text
    assert text.index("Reviewed:") < text.index("quentin as quality_reviewer") < text.index("Approved:")
    life.decided(version, "dana", "owner", "process-1-1", outcome="withdraw")
    text = "\n".join(questions.lines(questions.who(life.records, version)))
    assert text.index("Decided otherwise:") < text.index("dana as owner: withdraw")


def test_a_version_is_found_by_digest_beginning_and_number(life: Life) -> None:
    version = life.frozen(FOUR, (1, 2, 3))
    for name, project in ((version.digest, None), (version.digest[:8], None), ("1", "ticket_topics")):
        assert questions.find_version(life.records, name, project) == life.ledger.version(version.digest)
    for name, words in (("1", "say of which project"), ("abcdef", "no version"), ("xyz", "six or more")):
        with pytest.raises(InvalidInput, match=words):
            questions.find_version(life.records, name)


# ---- guideline in force --------------------------------------------------------------------------------------------


@pytest.mark.proves("the guideline in force is stamped, inferred and marked so, or unknown; never assumed")
def test_the_guideline_in_force_says_how_it_is_known(life: Life) -> None:
    other = digest_of("guideline 4")
    guideline_release(life, GUIDELINE, 3)
    guideline_release(life, other, 4, ("billing", "delivery"))
    activation(life, other, 4, START + timedelta(minutes=30))
    answers = [
        *both(1, "billing"),
        *both(2, "billing", guideline=None, minutes=60),
        *both(3, "billing", guideline=None, minutes=5),
        *both(4, "billing", guideline=None, time=None),
    ]
    version = life.frozen(answers, (1, 2, 3, 4))

    def known(number: int) -> set[tuple[Any, ...]]:
        found = questions.in_force(life.records, version, task(number))
        assert found.outcome == "counted"
        return {
            (one.guideline.how, one.guideline.digest, one.taxonomy.how, one.taxonomy.digest) for one in found.answers
        }

    assert known(1) == {("stamped", GUIDELINE, "inferred", labels_digest(LABELS))}
    assert known(2) == {("inferred", other, "inferred", labels_digest(("billing", "delivery")))}
    assert known(3) == {("unknown", None, "unknown", None)}  # answered before any process is known to have begun
    assert known(4) == {("unknown", None, "unknown", None)}
    text = "\n".join(questions.lines(questions.in_force(life.records, version, task(3))))
    assert "guideline: UNKNOWN: no stamp" in text
    with pytest.raises(InvalidInput, match="holds nothing of task"):
        questions.in_force(life.records, version, task(9))


# ---- trace ---------------------------------------------------------------------------------------------------------


@pytest.mark.proves("every label is traceable from its source record to release and model, and back")
def test_a_task_is_traced_both_ways(life: Life) -> None:
    guideline_release(life, GUIDELINE, 3)
    version = life.frozen(FOUR, (1, 2, 3))
    life.approved(version)
    release = life.released(version)
    record_use(life.ledger, REGISTER, version, model="router", model_version="7", actor="olga")
    found = questions.trace(life.records, task(1))
    [inside] = found.versions
    assert (inside.outcome, inside.basis, inside.released) == ("counted", "answers", release)
    assert inside.line is not None
    lines = (life.store.at("versions", "ticket_topics", version.digest) / "rows.jsonl").read_text("utf-8").splitlines()
    assert json.loads(lines[inside.line - 1])["task_id"] == task(1)
    assert [(one.person, one.guideline.how) for one in inside.answers] == [("anna", "stamped"), ("ben", "stamped")]
    assert [one.person for one in inside.approvals] == ["quentin", "dana"]
    assert [(one.model, one.released_before) for one in inside.models] == [("router", True)]
    [source] = found.sources
    [back] = questions.trace_source(life.records, source.source, source.record)
    assert back == found
    disputed = questions.trace(life.records, task(3)).versions[0]
    assert (disputed.outcome, disputed.line) == ("disputed", None)
    assert {one.reason for one in disputed.answers} == {"disputed"}


def test_what_is_not_on_record_is_said_and_not_made_up(life: Life) -> None:
    life.frozen(FOUR, (1, 2, 3))
    with pytest.raises(InvalidInput, match="no source and no batch on record"):
        questions.trace(life.records, task(9))
    with pytest.raises(InvalidInput, match=r"no task was made of it \(3 records are known\)"):
        list(questions.trace_source(life.records, "tickets.jsonl", "t-99"))
    with pytest.raises(InvalidInput, match="allowed: a task id"):
        questions.trace(life.records, "1%")


# ---- changed -------------------------------------------------------------------------------------------------------


@pytest.mark.proves("an auditor sees what changed between two versions and why")
def test_what_changed_is_given_with_its_causes(life: Life) -> None:
    old = life.frozen(FOUR, (1, 2, 3))
    number = life.event("guideline.published", "guideline:ticket_topics", digest_after=digest_of("guideline 4"))
    life.event("guideline.published", "guideline:other", project="other", digest_after=digest_of("else"))
    life.project = life.project.model_copy(
        update={"policy": life.project.policy.model_copy(update={"evidence": "attested"})}
    )
    later = both(3, "account", guideline=digest_of("guideline 4"), minutes=90)
    new = life.frozen([*FOUR, *later], (1, 2, 3, 4), closed_by="olga", closing_reason="the source is gone")
    found = questions.changed(life.records, old, new)
    assert [(one.label, one.old, one.new, one.gained) for one in found.labels] == [("account", 0, 1, 1)]
    assert found.rows == {"unchanged": 2, "added": 1, "removed": 0, "relabelled": 0, "evidence": 0}
    assert found.came_from == {"disputed": 1}
    causes = {(one.kind, one.event) for one in found.causes}
    assert {("batch", None), ("policy", None), ("guideline", None), ("closing", None), ("guideline", number)} <= causes
    text = "\n".join(questions.lines(found))
    assert "evidence: asserted, then attested" in text
    assert "closed unfinished by olga: the source is gone" in text
    assert digest_of("else")[:12] not in text
    same = questions.changed(life.records, old, old)
    assert (same.labels, same.became, same.causes) == ((), (), ())


def test_a_label_that_was_given_anew_is_shown_with_who_gave_it_and_in_which_round(life: Life) -> None:
    old = life.frozen(FOUR, (1, 2, 3))
    sent_back = life.event("approval.rework", f"version:{old.digest}", body={"attempt": 1})
    new = life.frozen([*FOUR, *both(1, "account", round_=2, minutes=300)], (1, 2, 3))
    found = questions.changed(life.records, old, new)
    assert found.rows["relabelled"] == 1
    assert [(one.old, one.new, one.count) for one in found.became] == [("billing", "account", 1)]
    assert found.relabelled_by == {"anna": 1, "ben": 1}
    assert {("rounds", None), ("rework", sent_back)} <= {(one.kind, one.event) for one in found.causes}
    assert "1 row(s) were labelled again in a later round" in "\n".join(questions.lines(found))


def test_where_rows_are_not_kept_any_more_the_rest_is_still_answered(life: Life) -> None:
    old = life.frozen(FOUR, (1, 2, 3))
    new = life.frozen([*FOUR, *both(4, "other")], (1, 2, 3, 4))
    life.approved(old)
    withdraw(life.store, "ticket_topics", old.digest, person="olga", reason="erasure asked for", at=ASKED_AT)
    inside = questions.trace(life.records, task(1)).versions[0]
    assert (inside.outcome, inside.answers, len(inside.approvals)) == ("not kept", (), 2)
    assert questions.in_force(life.records, old, task(1)).outcome == "not kept"
    assert [one.counted for one in questions.who(life.records, old).labels] == [2, 2]
    found = questions.changed(life.records, old, new)
    assert found.rows == {}
    assert [(one.label, one.old, one.new, one.gained) for one in found.labels] == [("other", 0, 1, None)]
    assert "withdrawn by olga" in "\n".join(questions.lines(found))
    assert f"versions/ticket_topics/{old.digest}/withdrawn.json" in found.basis.files
    (life.store.at("versions", "ticket_topics", new.digest) / "rows.jsonl").unlink()
    assert "LOST: no removal is on record" in questions.in_force(life.records, new, task(1)).gone


# ---- models --------------------------------------------------------------------------------------------------------


@pytest.mark.proves("an auditor sees which models used a version, and which versions a model used")
def test_a_use_is_recorded_once_and_found_from_both_ends(life: Life) -> None:
    first = life.frozen(FOUR, (1, 2, 3))
    second = life.frozen([*FOUR, *both(4, "other")], (1, 2, 3, 4))
    life.approved(first)
    life.released(first)
    said = {"model": "router", "model_version": "7", "actor": "olga", "location": "s3://models/router/7"}
    event, new = record_use(life.ledger, REGISTER, first, **said)
    assert new
    assert record_use(life.ledger, REGISTER, first, **said) == (event, False)
    with pytest.raises(Conflict):
        record_use(life.ledger, REGISTER, first, **{**said, "location": "s3://models/elsewhere"})
    record_use(life.ledger, REGISTER, second, **said)
    assert [one.event for one in questions.models_of(life.records, first).uses] == [event.seq]
    found = questions.versions_of_model(life.records, "router").uses
    assert [(one.version.number, one.released_before) for one in found] == [(1, True), (2, False)]
    assert questions.versions_of_model(life.records, "router", "8").uses == ()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"actor": "nobody"}, "a person who is in the register"),
        ({"model": " "}, "model: it is empty"),
        ({"location": "https://user:secret@models.example/7"}, "a user or a password"),
        ({"location": "x" * 1001}, "allowed: 1000"),
    ],
)
def test_a_use_that_cannot_be_kept_is_refused(life: Life, changes: dict[str, str], words: str) -> None:
    version = life.frozen(FOUR, (1, 2, 3))
    before = life.ledger.head()
    with pytest.raises(InvalidInput, match=words):
        record_use(life.ledger, REGISTER, version, **{"model": "m", "model_version": "1", "actor": "olga", **changes})
    assert life.ledger.head() == before


# ---- pending -------------------------------------------------------------------------------------------------------


@pytest.mark.proves("an auditor sees what is pending and overdue, and who is asked")
def test_pending_says_who_is_asked_since_when_and_what_is_late(life: Life) -> None:
    version = life.frozen(FOUR, (1, 2, 3))
    subject = f"version:{version.digest}"
    [waits] = questions.pending(life.records).items
    assert (waits.kind, waits.overdue) == ("request", False)
    process = life.asked(version)
    life.event("task.assigned", subject, body={"process_id": process, "task_id": "t", "assignee": "quentin"})
    due = ASKED_AT + life.project.policy.due
    [early] = questions.pending(life.records, register=REGISTER, now=due).items
    assert (early.kind, early.overdue, early.due, early.since) == ("approval", False, due, ASKED_AT)
    assert [(one.role, one.persons) for one in early.asked] == [
        ("quality_reviewer", ("carla", "quentin")), ("data_owner", ("dana",)),
    ]  # fmt: skip
    assert early.holders == ("quentin",)
    life.event("approval.reminded", subject)
    escalated = life.event("approval.escalated", subject)
    late = questions.pending(life.records, register=REGISTER, now=due + timedelta(seconds=1))
    assert late.overdue == 1
    assert late.items[0].escalated_at is not None
    assert late.items[0].escalation_role == "head_of_data"
    assert escalated in late.basis.events
    assert "OVERDUE: Version 1" in "\n".join(questions.lines(late))
    life.event("approval.rejected", subject, body={"attempt": 1})
    assert questions.pending(life.records).items == ()
    life.event("approval.resubmitted", subject, body={"attempt": 2, "requesters": ["olga"]})
    [again] = questions.pending(life.records).items
    assert (again.kind, again.attempt, again.reminded_at) == ("request", 2, None)


def test_an_approved_version_is_pending_until_it_is_released(life: Life) -> None:
    version = life.frozen(FOUR, (1, 2, 3))
    life.approved(version)
    subject = f"version:{version.digest}"
    assert [one.kind for one in questions.pending(life.records).items] == ["release"]
    life.event("release.requested", subject, body={"process_id": "p", "attempt": 1})
    [waits] = questions.pending(life.records, register=REGISTER).items
    assert (waits.kind, waits.asked[0].persons) == ("release decision", ("rita",))
    life.event("release.refused", subject, reason="an answer was altered", body={"evidence": "x"})
    [refused] = questions.pending(life.records).items
    assert (refused.kind, refused.refused) == ("release", "an answer was altered")
    life.released(version)
    assert questions.pending(life.records).items == ()


# ---- released without ----------------------------------------------------------------------------------------------


DECIDED = ("outcome", "meaning", "grade", "signature", "raw_digest")


def kinds(life: Life, *checks: str) -> set[str]:
    return {one.check for one in questions.released_without(life.records, checks=checks).lacks}


@pytest.mark.proves("nothing is released without what its policy demands")
def test_a_release_in_order_lacks_nothing(life: Life) -> None:
    version = life.frozen(FOUR, (1, 2, 3))
    life.approved(version)
    life.released(version)
    found = questions.released_without(life.records)
    assert found.ok
    assert (found.releases, set(found.checks)) == (1, set(CHECKS) - set(ON_REQUEST))
    assert kinds(life, "role:lawyer") == {"role:lawyer"}
    assert kinds(life, "completeness") == {"completeness"}  # two of three, though its policy demands none
    assert kinds(life, "release-decision") == {"release-decision"}
    assert kinds(life, "signature", "statement", "agreement", "grade") == {"signature", "statement", "agreement"}
    with pytest.raises(InvalidInput, match="check: found 'luck'"):
        questions.released_without(life.records, checks=["luck"])


@pytest.mark.proves("a release that lacks something it needed is found")
@pytest.mark.parametrize(
    ("lacking", "policy", "more"),
    [
        ("approval", {}, {"leave": "data_owner"}),
        ("approval", {}, {"outcome": "reject"}),
        ("approval", {}, {"meaning": "review"}),
        ("grade", {"evidence": "attested"}, {"grade": "asserted"}),
        ("signature", {"signature": "signed"}, {"signature": "authenticated"}),
        ("evidence", {}, {"raw_digest": ""}),
        ("four-eyes", {}, {"owner": "anna"}),
        ("four-eyes", {}, {"asker": "dana"}),
        ("guideline", {"require_guideline_stamp": True}, {"guideline": None}),
        ("completeness", {"min_completeness_percent": 80}, {}),
        ("gate", {}, {"gate": False}),
        ("state", {}, {"state": "void"}),
    ],
)
def test_what_a_release_lacks_is_found(
    tmp_path: Path, lacking: str, policy: dict[str, Any], more: dict[str, Any]
) -> None:
    life = Life(tmp_path, **policy)
    answers = [*both(1, "billing", guideline=more.get("guideline", GUIDELINE)), *FOUR[2:]]
    version = life.frozen(answers, (1, 2, 3))
    subject = f"version:{version.digest}"
    if "asker" in more:
        life.event("approval.asked", subject, body={"requesters": [more["asker"]]})
    if more.get("gate", True):
        life.gated(version)
    process = life.asked(version)
    life.decided(version, "quentin", "quality_reviewer", process, signature="signed")
    if "leave" not in more:
        changes = {name: value for name, value in more.items() if name in DECIDED}
        life.decided(version, more.get("owner", "dana"), "data_owner", process, **changes)
    life.event(f"approval.{more.get('state', 'approved')}", subject, body={"attempt": 1})
    life.released(version)
    assert kinds(life) == {lacking}
    [lack, *_] = questions.released_without(life.records).lacks
    assert lack.version is not None
    assert version.digest[:12] in lack.sentence
    life.ledger.close()


def test_what_the_ledger_does_not_know_is_found_too(life: Life) -> None:
    version = life.frozen(FOUR, (1, 2, 3))
    stranger = life.store.at("releases", "ticket_topics", "v9-abc")
    stranger.mkdir(parents=True)
    assert kinds(life) == set()  # a release that was never finished is none
    (stranger / "checksums.json").write_text("{}", "utf-8")
    assert kinds(life) == {"ledger"}
    (stranger / "checksums.json").unlink()
    record_use(life.ledger, REGISTER, version, model="router", model_version="7", actor="olga")
    [lack] = questions.released_without(life.records).lacks
    assert "model router 7 used version 1" in lack.sentence


def test_a_withdrawn_release_is_pending_and_a_lack_until_it_is_recalled(life: Life) -> None:
    version = life.frozen(FOUR, (1, 2, 3))
    life.approved(version)
    life.released(version)
    subject = f"version:{version.digest}"
    life.event("approval.withdrawn", subject, actor="dana", reason="a leak", body={"attempt": 1})
    assert [one.kind for one in questions.pending(life.records).items] == ["recall"]
    assert kinds(life) == {"recall"}
    life.event("release.recalled", subject, reason="a leak", body={"number": 1})
    assert questions.pending(life.records).items == ()
    assert questions.released_without(life.records).releases == 0
    record_use(life.ledger, REGISTER, version, model="router", model_version="8", actor="olga")
    assert kinds(life) == {"ledger"}  # used after it was recalled


def test_an_approval_of_an_attempt_that_was_replaced_supports_no_release(life: Life) -> None:
    version = life.frozen(FOUR, (1, 2, 3))
    life.approved(version)
    subject = f"version:{version.digest}"
    life.event("approval.resubmitted", subject, body={"attempt": 2, "requesters": []})
    life.asked(version, attempt=2)
    life.released(version)
    assert kinds(life) == {"approval", "state"}


# ---- persons -------------------------------------------------------------------------------------------------------


def test_a_person_is_shown_with_decisions_labels_and_acts_of_a_period(life: Life) -> None:
    version = life.frozen(FOUR, (1, 2, 3))
    life.approved(version)
    life.decided(
        version, "dana", "quality_reviewer", "p", counts=False, void_reason="dana counts once", decided_at=None
    )
    record_use(life.ledger, REGISTER, version, model="router", model_version="7", actor="dana")
    dana = questions.person_record(life.records, "dana")
    assert (dana.outcomes, dana.void, len(dana.decisions)) == ({"approve": 1}, 1, 2)
    assert [one.action for one in dana.acts] == ["model.used"]
    then = questions.person_record(life.records, "dana", until=ASKED_AT + timedelta(days=1))
    # The void one has no time of its source: ours counts, which is later.
    assert ([one.counts for one in then.decisions], then.acts) == ([True], ())
    anna = questions.person_record(life.records, "anna")
    assert [(one.counted, one.losing) for one in anna.labelled] == [(2, 1)]
    assert questions.person_record(life.records, "anna", until=ASKED_AT).labelled == ()
    with pytest.raises(InvalidInput, match="later than since"):
        questions.person_record(life.records, "anna", since=ASKED_AT, until=ASKED_AT)


def test_void_decisions_are_listed_with_their_reason(life: Life) -> None:
    version = life.frozen(FOUR, (1, 2, 3))
    life.approved(version)
    life.decided(version, "anna", "data_owner", "p", counts=False, void_reason="anna annotated this version")
    found = questions.void_decisions(life.records)
    assert found.looked_at == 3
    assert [(one.person, one.void_reason) for one in found.decisions] == [("anna", "anna annotated this version")]
    assert questions.void_decisions(life.records, person="dana").decisions == ()
