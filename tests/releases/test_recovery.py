"""The ledger is restored from an older backup: what then, for each moment the backup may be of."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from include.base.errors import LedgerBehind
from include.base.store import Store
from include.decisions import origin
from include.governance.verify import verify_with
from include.run.housekeeping import keep_checkpoint
from labelops.commands import main
from tests.house import House, copied, opened

MOMENTS = ("empty", "labelled", "assigned", "frozen", "requested", "approved", "asked for release", "released")


def backup(ledger: Path, to: Path) -> None:
    """Copy a ledger as a backup does, whatever is written meanwhile."""
    source, target = sqlite3.connect(ledger), sqlite3.connect(to)
    with target:
        source.backup(target)
    source.close()
    target.close()


def restore(house: House, copy: Path) -> None:
    """Put a backup in the ledger's place."""
    for suffix in ("", "-wal", "-shm"):
        Path(f"{house.ledger_file}{suffix}").unlink(missing_ok=True)
    shutil.copyfile(copy, house.ledger_file)


@pytest.fixture(scope="module")
def lived_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed installation after a whole life up to the release, with a backup of its ledger from each moment."""
    home = tmp_path_factory.mktemp("lived") / "house"
    with opened(House(home)) as house:
        house.seed()

        def keep(moment: str) -> None:
            backup(house.ledger_file, home / f"{moment}.backup")

        keep("empty")
        house.labelled()
        keep("labelled")
        [item] = house.items("labeling_approval")
        keep("assigned")
        house.step("labeling_approval", "freeze", item, house.run_id())
        keep("frozen")
        house.approve_run()
        keep("requested")
        house.approve()
        keep("approved")
        house.release_run()
        keep("asked for release")
        house.say("rita", "released")
        house.release_run()
        keep("released")
        house.report()
        keep_checkpoint(house.run())
    return home


@pytest.fixture
def lived(tmp_path: Path, lived_home: Path) -> Iterator[House]:
    with copied(tmp_path / "house", lived_home) as house:
        yield house


def run_everything(house: House, times: int = 3) -> None:
    """Run the DAGs as the scheduler would; what is missing is found again by its key."""
    for _ in range(times):
        house.sync_guidelines()
        house.ingest()
        house.approve_run()
        house.release_run()
        house.report()


def outside(house: House) -> dict[str, Any]:
    """Return how many of everything there are outside the ledger, and the bytes of what is immutable."""
    store = house.home / "store"
    found = house.snapshot()
    pages = house.confluence.database.rows("select id, title from pages where status = 'current'")
    numbers = house.read(house.ledger_file, "SELECT digest, number FROM dataset_version")
    return {
        "opentext": found["opentext"],
        "prodigy": found["prodigy"],
        "pages": sorted((row["id"], row["title"]) for row in pages),
        "files": {
            name: content
            for name, content in found["files"].items()
            if name.split("/")[0] in ("versions", "releases", "publications")
        },
        "numbers": sorted(map(tuple, numbers)),
        "store": sorted(path.name for path in store.iterdir()),
    }


def recover(house: House, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    url = f"sqlite:///{house.ledger_file}"
    store = str(house.home / "store")
    words = ["--actor", "olga", "--reason", "the disk broke, the backup was older"]
    assert main(["recover", "--ledger", url, "--store", store, *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.proves("after a restore from an older backup nothing writes, and recovery makes nothing twice")
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_restored_ledger_is_recovered_and_nothing_is_there_twice(
    lived: House, moment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = outside(lived)
    restore(lived, lived.home / f"{moment}.backup")
    for step in (lived.sync_guidelines, lived.ingest, lived.approve_run, lived.release_run, lived.report):
        with pytest.raises(LedgerBehind, match="are lost"):
            step()
    found = recover(lived, capsys)
    assert found["damaged"] == []
    assert found["epoch"] == 2
    run_everything(lived)
    after = outside(lived)
    for what, there in before.items():
        assert after[what] == there, what
    ledger = lived.ledger()
    outcome = verify_with(ledger, Store(lived.home / "store"))
    assert (outcome.ok, {finding.kind for finding in outcome.findings}) == (True, {"recovered"}), outcome.findings
    digest = lived.version().digest
    assert lived.version().number == 1
    assert [one.digest_after for one in ledger.events(actions=["release.done"])] == [digest], "found again, once"
    decided = {(one.system, one.role, one.person) for one in ledger.decisions(digest)}
    assert {person for _, _, person in decided} == {"quentin", "dana", "rita"}
    size = ledger.head().size
    ledger.close()
    run_everything(lived, 1)
    assert outside(lived) == after
    assert lived.ledger().head().size == size or quiet(lived, size), "a quiet run writes nothing"


def quiet(house: House, size: int) -> bool:
    ledger = house.ledger()
    try:
        return {event.action for event in ledger.events(after=size)} == set()
    finally:
        ledger.close()


def test_a_process_that_is_older_than_the_recovery_is_found_again(
    lived: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The lost ledger knew when people were asked; the new claim is younger than their process."""
    monkeypatch.setattr(origin, "CLOCKS", timedelta(0))
    restore(lived, lived.home / "frozen.backup")
    recover(lived, capsys)
    [result] = lived.approve_run()
    assert result["state"] == "approved"


@pytest.mark.proves("the ledger holds ids of persons, never their names; accounts only where they decided")
def test_no_name_is_on_the_ledger(lived: House) -> None:
    people = yaml.safe_load(lived.register_file.read_text("utf-8"))["persons"]
    tables = ("event", "dataset_version", "decision", "effect", "effect_claim", "source_record", "sync_state")
    texts = {name: json.dumps(lived.read(lived.ledger_file, f"SELECT * FROM {name}"), default=list) for name in tables}
    for person in people:
        assert not [name for name, text in texts.items() if person["name"] in text], person["name"]
    account = re.compile(r"[a-z]+@people\.example")
    assert not account.search(texts["dataset_version"] + texts["effect"] + texts["source_record"])


@pytest.mark.proves("what was withdrawn is not released after its withdrawal was lost with the ledger")
@pytest.mark.parametrize("recalled", [False, True])
def test_a_withdrawal_that_the_backup_does_not_have_still_holds(
    approved: House, recalled: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    if recalled:
        approved.release()
    copy = approved.home / "before.backup"
    backup(approved.ledger_file, copy)
    digest = approved.version().digest
    approved.approve_run(by="dana", withdraw=[digest[:12]], reason="the guideline was misread")
    if recalled:
        [result] = approved.release_run()
        assert result["state"] == "recalled"
    keep_checkpoint(approved.run())
    before = outside(approved)
    restore(approved, copy)
    found = recover(approved, capsys)
    assert any("the withdrawal of version:" in one for one in found["recorded"])
    for _ in range(2):
        approved.approve_run()
        approved.release_run()
    after = outside(approved)
    assert {name: after[name] for name in ("opentext", "prodigy", "files")} == {
        name: before[name] for name in ("opentext", "prodigy", "files")
    }
    [withdrawn] = approved.events("approval.withdrawn")
    assert (withdrawn.body["readopted"], withdrawn.body["withdrawn_by"]) == (True, "dana")
    assert len(approved.events("release.recalled")) == int(recalled)


@pytest.mark.proves("after a recovery an approval is read again at its source, not taken from a file")
def test_an_approval_that_is_gone_at_its_source_is_not_taken_from_the_release(
    lived: House, capsys: pytest.CaptureFixture[str]
) -> None:
    restore(lived, lived.home / "labelled.backup")
    lived.add_deputy()
    lived.change_register("dana", roles=[{"role": "annotator"}])  # whoever approved had no right to, it turns out
    found = recover(lived, capsys)
    assert any("is not on the ledger" in one for one in found["open"])
    lived.approve_run()
    assert lived.release_run() == []
    assert lived.events("release.done") == []
    assert [event.action for event in lived.events("approval.approved")] == []
