"""What every run does last: a checkpoint outside the ledger, and no staged content older than it may be."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from include.base.store import Store
from include.governance.ledger import Ledger
from include.people.register import Person, Register, RegisterFile
from include.projects.load import load_project
from include.run.housekeeping import keep_checkpoint, remove_old_staging
from include.run.in_force import take_policy
from include.run.run import Run, RunRef
from include.settings import ROOT


@pytest.fixture
def ledger(tmp_path: Path):
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.migrate()
    yield ledger
    ledger.close()


def made(tmp_path: Path, ledger: Ledger, run_id: str) -> Run:
    store = Store(tmp_path / "store")
    return Run(
        store=store,
        ledger=ledger,
        register=Register(RegisterFile(persons=(Person(id="olga", name="Olga"),))),
        ref=RunRef("guideline_sync", run_id),
        staging=store.at("staging", "guideline_sync", run_id, "collect", "0", "1"),
        locate=Path,
    )


def test_old_runs_lose_their_staged_content_and_the_running_one_keeps_it(tmp_path: Path, ledger: Ledger):
    for run in ("old", "new", "running"):
        made(tmp_path, ledger, run).staged("pages.jsonl").write_text("content")
    staging = tmp_path / "store" / "staging" / "guideline_sync"
    for run in ("old", "running"):
        for path in (staging / run).rglob("*"):
            os.utime(path, (1, 1))
    assert remove_old_staging(made(tmp_path, ledger, "running"), 14) == 1
    assert sorted(one.name for one in staging.iterdir()) == ["new", "running"]
    assert remove_old_staging(made(tmp_path, ledger, "running"), 14) == 0


def test_a_step_that_stages_nothing_leaves_no_folder(tmp_path: Path, ledger: Ledger):
    assert remove_old_staging(made(tmp_path, ledger, "quiet"), 14) == 0
    assert not (tmp_path / "store").exists()


def test_a_checkpoint_is_written_once_for_what_is_on_the_ledger(tmp_path: Path, ledger: Ledger):
    at = made(tmp_path, ledger, "run")
    assert not keep_checkpoint(at), "an empty ledger has no head to keep"
    at.note("guideline.published", "ticket_topics", "guideline:ticket_topics", key=1)
    assert keep_checkpoint(at)
    assert not keep_checkpoint(at)


def test_what_is_in_force_is_noted_when_it_changes_and_again_when_it_changes_back(tmp_path: Path, ledger: Ledger):
    at = made(tmp_path, ledger, "run")
    project = load_project(ROOT / "include" / "projects" / "definitions", "ticket_topics")
    digests = []
    for hours, reason in ((72, "to begin"), (72, "to begin"), (80, "a holiday"), (72, "it is over")):
        told = {"due_hours": hours, "changed_by": "olga", "reason": reason}
        policy = project.policy.model_copy(update=told)
        assert take_policy(at, project.model_copy(update={"policy": policy})).policy == policy
        digests.append(policy.digest)
    noted = list(ledger.events(actions=["policy.in_force"]))
    assert [event.digest_before for event in noted] == [None, digests[0], digests[2]]
    assert [event.reason for event in noted] == ["to begin", "a holiday", "it is over"]


@pytest.mark.parametrize("shelf", ["ledger/checkpoints", "objects/85"])
def test_what_a_killed_writer_left_is_removed_and_what_is_being_written_stays(
    tmp_path: Path, ledger: Ledger, shelf: str
):
    folder = tmp_path / "store" / shelf
    folder.mkdir(parents=True)
    left, begun, held = folder / ".1.json.a", folder / ".2.json.b", folder / ".3.json.c"
    for place in (left, begun, held):
        place.write_text("half")
    for place in (left, held):
        os.utime(place, (1, 1))
    with held.open("rb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        keep_checkpoint(made(tmp_path, ledger, "run"))
    assert not left.exists()
    assert begun.exists()
    assert held.exists()
