"""What is kept long enough goes in a person's name; what stands, waits or is held stays; proofs always stay."""

from __future__ import annotations

import json
import os
from datetime import timedelta

import pytest

from include.base.errors import InvalidInput, Refused
from include.datasets import freeze as freezing
from include.datasets.withdrawals import VersionWithdrawn
from include.governance.verify import verify
from include.releases import retention
from tests.integration.airflow_house import PROJECT

SHORT_LIVED = {"class": "short", "versions_days": 30, "evidence_days": 60, "quarantine_days": 10}


def due(house):
    with house.run().open() as at:
        return {(one.kind, one.name) for one in retention.due(at, house.project)}


def apply(house, person="olga", reason="the schedule of records"):
    with house.run().open() as at:
        return retention.apply(at, house.project, person=person, reason=reason)


def later(house, days):
    """Let days go by, for the files too."""
    house.later += timedelta(days=days)
    for path in (house.home / "store" / "quarantine").rglob("*.jsonl"):
        moment = path.stat().st_mtime - days * 86400
        os.utime(path, (moment, moment))


@pytest.fixture
def withdrawn(approved):
    approved.change_project(retention=SHORT_LIVED)
    approved.approve_run(by="olga", withdraw=[approved.version().digest[:12]], reason="misread")
    return approved


def test_nothing_is_due_without_days(approved):
    approved.approve_run(by="olga", withdraw=[approved.version().digest[:12]], reason="misread")
    later(approved, 10_000)
    assert due(approved) == set()


def test_what_is_due_is_removed_and_its_proof_stays(withdrawn):
    digest = withdrawn.version().digest
    assert due(withdrawn) == set()
    later(withdrawn, 31)
    found = due(withdrawn)
    assert ("version", digest) in found
    assert {kind for kind, _ in found} == {"version", "quarantine"}
    later(withdrawn, 31)
    ledger = withdrawn.ledger()
    evidence = {one.raw_digest for one in ledger.decisions(digest) if one.raw_digest}
    ledger.close()
    assert {("evidence", one) for one in evidence} <= due(withdrawn)

    removed = apply(withdrawn)
    assert {one.kind for one in removed} == {"version", "evidence", "quarantine"}
    assert due(withdrawn) == set()
    assert apply(withdrawn) == []
    store = withdrawn.home / "store"
    assert not list((store / "quarantine").rglob("*.jsonl"))
    with withdrawn.run().open() as at:
        assert not any(at.store.has_object(one) for one in evidence)
        assert freezing.read_manifest(at.store, PROJECT, digest).digest == digest
        with pytest.raises(VersionWithdrawn, match="the schedule of records"):
            list(freezing.rows(at.store, PROJECT, digest))
        assert verify(at.ledger).ok
        [event] = at.ledger.events(actions=["retention.applied"])
        listing = json.loads(at.store.get_object(event.body["listing"]))
    assert (event.actor, event.body["class"]) == ("olga", "short")
    assert {(one["kind"], one["name"]) for one in listing} == {(one.kind, one.name) for one in removed}


def test_a_removal_that_was_killed_is_completed(withdrawn, monkeypatch):
    later(withdrawn, 31)
    folder = withdrawn.home / "store" / "versions" / PROJECT / withdrawn.version().digest
    with monkeypatch.context() as killed:
        killed.setattr(
            type(withdrawn.run().store.root), "unlink", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            apply(withdrawn)
    assert (folder / "withdrawn.json").exists()
    assert (folder / "rows.jsonl").exists()
    assert ("version", withdrawn.version().digest) in due(withdrawn)
    apply(withdrawn)
    assert not (folder / "rows.jsonl").exists()
    assert due(withdrawn) == set()


def test_a_version_without_its_rows_stops_no_run(withdrawn):
    later(withdrawn, 100)
    apply(withdrawn)
    withdrawn.report()
    before = withdrawn.snapshot()
    assert withdrawn.approve_run() == []
    assert withdrawn.release_run() == []
    withdrawn.report()
    assert withdrawn.snapshot() == before


def test_what_stands_or_waits_is_never_due(approved):
    approved.change_project(retention=SHORT_LIVED)
    later(approved, 500)
    assert {kind for kind, _ in due(approved)} == {"quarantine"}, "approved, and waits for its release"
    approved.later = timedelta()
    approved.release()
    later(approved, 500)
    assert {kind for kind, _ in due(approved)} == {"quarantine"}, "released"


@pytest.mark.proves("A legal hold keeps everything, whatever the retention class says")
def test_a_legal_hold_keeps_everything(withdrawn):
    later(withdrawn, 100)
    withdrawn.change_project(retention={**SHORT_LIVED, "legal_hold": "case 2026-17"})
    before = withdrawn.snapshot()
    with pytest.raises(Refused, match="case 2026-17"):
        apply(withdrawn)
    assert withdrawn.snapshot() == before


def test_it_takes_a_person_and_a_reason(withdrawn):
    later(withdrawn, 100)
    with pytest.raises(InvalidInput, match="'somebody'"):
        apply(withdrawn, person="somebody")
    with pytest.raises(InvalidInput, match="needs one"):
        apply(withdrawn, reason=" ")
