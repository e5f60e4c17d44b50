"""``labelops reproduce``: a version made again from Prodigy's database."""

from __future__ import annotations

import json
import sqlite3

from labelops.commands import main


def test_the_command_makes_a_version_again_and_names_what_differs(asked, capsys):
    version = asked.version()
    arguments = ["reproduce", "prodigy_default", version.project, version.digest[:12]]
    assert main(arguments) == 0
    assert "with the same digest" in capsys.readouterr().out

    source = json.loads((asked.home / "store" / version.path / "sources.jsonl").read_bytes().splitlines()[0])
    with sqlite3.connect(asked.prodigy_file) as conn:
        [(content,)] = conn.execute("SELECT content FROM example WHERE id = ?", [source["example_id"]])
        # Another spelling of the same answer is another answer: nobody may write to what people saved.
        conn.execute("UPDATE example SET content = ? WHERE id = ?", [bytes(content) + b" ", source["example_id"]])
    findings = asked.home / "findings.jsonl"
    assert main([*arguments, "--json", "--findings", str(findings)]) == 1
    outcome = json.loads(capsys.readouterr().out)
    assert not outcome["reproduced"]
    assert (outcome["counts"]["altered"], outcome["counts"]["late"]) == (1, 1)
    altered = [one for one in outcome["findings"] if one["kind"] == "altered"]
    assert [one["subject"] for one in altered] == [f"example {source['example_id']}"]
    assert [json.loads(line) for line in findings.read_bytes().splitlines()] == outcome["findings"]
    assert main(arguments) == 1
    assert f"altered: example {source['example_id']}" in capsys.readouterr().out

    assert main(["reproduce", "prodigy_default", version.project, "000000"]) == 2
    assert "names 0 versions" in capsys.readouterr().err
