"""``labelops export-answers``: answers in a file, and who took them on the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from include.base.canonical import sha256_hex
from include.governance.ledger import Ledger
from labelops.commands import main
from labelops.commands.answers import ACTION
from tests.exports.test_answers import DATASET, change
from tests.servers import airflow_connection


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    monkeypatch.setenv("LABELOPS_LEDGER", url)
    ledger = Ledger(url)
    ledger.migrate()
    yield ledger
    ledger.close()


@pytest.mark.proves("who took answers out of Prodigy's database, how many and which bytes, is on the ledger")
def test_the_command_puts_the_export_on_the_ledger(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_PRODIGY_DEFAULT", airflow_connection(f"sqlite:///{file}"))
    monkeypatch.setattr("getpass.getuser", lambda: "olga")
    out = tmp_path / "a.jsonl"
    arguments = ["export-answers", "--dataset", DATASET, "--out", str(out), "--reason", "for the annual audit"]
    assert main(arguments) == 0
    assert f"300 answers of {DATASET}" in capsys.readouterr().out
    [event] = ledger.events(actions=[ACTION])
    assert (event.actor, event.reason, event.digest_after) == (
        "os:olga",
        "for the annual audit",
        sha256_hex(out.read_bytes()),
    )
    assert (event.body["rows"], event.body["file"], event.body["content"]) == (300, "a.jsonl", "full")

    assert main(arguments) == 2
    assert "is there already" in capsys.readouterr().err
    change(file, "UPDATE example SET content = '[]' WHERE id = 1")
    assert main(["export-answers", "--dataset", DATASET, "--out", str(tmp_path / "b"), "--format", "parquet"]) == 1
    assert "1 rows are no JSON object and were left out" in capsys.readouterr().out
    assert len(list(ledger.events(actions=[ACTION]))) == 2


def test_nothing_is_exported_that_cannot_be_put_on_record(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_PRODIGY_DEFAULT", airflow_connection(f"sqlite:///{file}"))
    monkeypatch.setenv("LABELOPS_LEDGER", f"sqlite:///{tmp_path / 'none.db'}")
    out = tmp_path / "a.jsonl"
    assert main(["export-answers", "--dataset", DATASET, "--out", str(out)]) == 2
    assert capsys.readouterr().err
    assert not out.exists()


def test_an_installation_without_a_ledger_is_told(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_PRODIGY_DEFAULT", airflow_connection(f"sqlite:///{file}"))
    monkeypatch.delenv("LABELOPS_LEDGER", raising=False)
    monkeypatch.setenv("LABELOPS_HOME", str(tmp_path / "home"))
    assert main(["export-answers", "--session", f"{DATASET}-ben", "--out", str(tmp_path / "a.jsonl")]) == 0
    said = capsys.readouterr()
    assert "on no record" in said.err
    assert "101 answers of ticket_topics-ben" in said.out
