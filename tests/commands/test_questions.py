"""``labelops ask`` and ``labelops used``: what is printed, what is written, and the exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from include.settings import ROOT
from labelops.commands import main
from tests.datasets.make import answer, task
from tests.governance.lives import Life, both

FOUR = [*both(1, "billing"), *both(2, "delivery"), answer(3, "anna", "other"), answer(3, "ben", "account")]
"""Two tasks agreed on and one disputed."""


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    made = Life(tmp_path)
    yield made
    made.ledger.close()


def run(life: Life, *arguments: str) -> int:
    register = str(ROOT / "include" / "projects" / "register.yaml")
    places = ["--ledger", str(life.ledger.url), "--store", str(life.store.root), "--register", register]
    return main([*arguments, *places])


def test_every_question_is_a_command_and_writes_nothing(life: Life, capsys: pytest.CaptureFixture[str]) -> None:
    version = life.frozen(FOUR, (1, 2, 3))
    life.approved(version)
    life.released(version)
    digest = version.digest
    assert run(life, "used", digest, "--model", "router", "--model-version", "7", "--actor", "olga") == 0
    assert "is recorded as event" in capsys.readouterr().out
    before, files = life.ledger.head(), sorted(life.store.root.rglob("*"))
    asked = [
        ("who", digest), ("inforce", "1", task(1), "--project", "ticket_topics"), ("trace", task(1)),
        ("trace", "--source", "tickets.jsonl", "--record", "t-1"), ("changed", digest, digest), ("models", digest),
        ("models", "--model", "router"), ("pending",), ("without",), ("person", "dana", "--since", "2026-01-01"),
        ("void",),
    ]  # fmt: skip
    for question in asked:
        assert run(life, "ask", *question) == 0, question
        assert "Rests on" in capsys.readouterr().out
        assert run(life, "ask", *question, "--json", "--names") == 0, question
        said = json.loads(capsys.readouterr().out)
        assert said["question"] == question[0]
        assert set(said["basis"]) == {"events", "files"}
        assert said["names"]["dana"] == "Dana Dietz"
    assert (life.ledger.head(), sorted(life.store.root.rglob("*"))) == (before, files)


def test_names_are_printed_only_when_asked_for(life: Life, capsys: pytest.CaptureFixture[str]) -> None:
    version = life.frozen(FOUR, (1, 2, 3))
    run(life, "ask", "who", version.digest)
    assert "Anna Arnold" not in capsys.readouterr().out
    run(life, "ask", "who", version.digest, "--names")
    assert "Anna Arnold (anna): 2 answer(s)" in capsys.readouterr().out


def test_exit_codes_tell_a_lack_from_a_question_that_cannot_be_answered(
    life: Life, capsys: pytest.CaptureFixture[str]
) -> None:
    version = life.frozen(FOUR, (1, 2, 3))
    life.released(version)
    assert run(life, "ask", "without") == 1
    assert "without a passed gate" in capsys.readouterr().out
    assert run(life, "ask", "who", "abcdef") == 2
    assert "names no version" in capsys.readouterr().err
    assert run(life, "ask", "trace") == 2
    assert run(life, "used", version.digest, "--model", "m", "--model-version", "1", "--actor", "x") == 2
