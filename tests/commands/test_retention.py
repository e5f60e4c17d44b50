"""``labelops retention``: what is due is listed, and removed in a person's name."""

from __future__ import annotations

import json
import os

from labelops.commands import main
from tests.integration.airflow_house import PROJECT
from tests.releases.test_retention import SHORT_LIVED


def test_the_command_lists_and_removes(approved, capsys):
    approved.change_project(retention=SHORT_LIVED)
    for path in (approved.home / "store" / "quarantine").rglob("*.jsonl"):
        os.utime(path, (1, 1))
    assert main(["retention"]) == 0
    assert "quarantine/ticket_topics" in capsys.readouterr().out
    assert main(["retention", "--project", PROJECT, "--apply"]) == 2
    assert "--person" in capsys.readouterr().err
    assert main(["retention", "--project", PROJECT, "--apply", "--person", "olga", "--reason", "old", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {one["kind"] for one in lines} == {"quarantine"}
    assert main(["retention", "--project", PROJECT]) == 0
    assert "0 due" in capsys.readouterr().out
