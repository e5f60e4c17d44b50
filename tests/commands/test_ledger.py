"""The verbs of the ledger: what they say, and with which exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from include.base.errors import Unsupported
from include.base.signing import Signer, make_key
from include.base.store import Store
from include.governance import checkpoint as checkpoints
from include.governance.checkpoint import write_checkpoint
from include.governance.ledger import Ledger
from include.governance.verify import verify
from labelops.commands import main
from tests.governance.ledgers import digest, note, start, tamper


def grow(ledger: Ledger, count: int) -> None:
    with ledger.transaction() as transaction:
        for number in range(count):
            transaction.append(note(number))


@pytest.fixture
def command(filled: Ledger, empty_url: str, store: Store) -> Callable[..., int]:
    def run(name: str, *arguments: str) -> int:
        extra = ["--store", str(store.root)] if name in ("verify", "checkpoint", "recover") else []
        return main([name, "--ledger", empty_url, *extra, *arguments])

    return run


def test_the_command_says_that_all_is_well(
    command: Callable[..., int], filled: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("checkpoint") == 0
    assert command("checkpoint") == 0
    assert command("verify") == 0
    out = capsys.readouterr().out.splitlines()
    head = filled.head()
    assert out == [
        "The checkpoint is written.",
        "Nothing was added since the last checkpoint.",
        f"The ledger {head.ledger_id} is sound: 10 events read, head {head.hash[:12]}; "
        "compared with 1 outside checkpoint.",
        "No checkpoint is signed: whoever can write to the database and to the store could have made all of it.",
        "Outside the chain, and not looked at: the tables effect, effect_claim, source_record, sync_state.",
    ]


def test_the_command_tells_a_forgery(
    command: Callable[..., int], filled: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    command("checkpoint")
    tamper(
        filled, "UPDATE decision SET outcome = 'approve' WHERE decision_id = 'd2'", "DELETE FROM event WHERE seq = 10"
    )
    capsys.readouterr()
    assert command("verify") == 1
    out = capsys.readouterr().out
    assert "The decision d2 differs from what event 8 recorded." in out
    assert "a checkpoint kept outside says that it had 10 events: 1 were cut off" in out
    assert "is NOT what was written: 9 events read" in out
    assert command("verify", "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["ok"], found["size"], found["checkpoints"]) == (False, 9, 1)
    assert [(finding["kind"], finding["seq"]) for finding in found["findings"]] == [
        ("row_changed", 8),
        ("truncated", 9),
    ]
    assert command("checkpoint") == 1
    assert "1 are lost" in capsys.readouterr().err
    assert command("recover", "--actor", "olga", "--reason", "lost") == 0
    out = capsys.readouterr().out
    assert "The loss is recorded as event 10: the ledger had 10 events, the backup 9. It goes on in epoch 2." in out
    assert command("recover", "--actor", "olga", "--reason", "again", "--json") == 0, "after a crash it goes on"
    assert json.loads(capsys.readouterr().out)["lost"]["size"] == 10


def test_the_command_without_checkpoints_says_what_it_cannot_see(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("verify") == 0
    assert "no outside checkpoint to compare with, so a cut-off end would not show" in capsys.readouterr().out


def test_the_command_lists_who_did_what(
    command: Callable[..., int], filled: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    filled.append(note(11, reason="two\nlines \x1b[31m", project="other"))
    assert command("events", "--subject", f"version:{digest(1001)}") == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split("  ")[0].strip() == "number"
    assert [line.split()[0] for line in lines] == ["4", "7", "8"]
    assert [line.split()[2:4] for line in lines] == [
        ["olga", "version.frozen"], ["dana", "decision.recorded"], ["quentin", "decision.recorded"],
    ]  # fmt: skip
    assert "version:000000000000 " in lines[0]
    assert command("events", "--project", "other") == 0
    assert capsys.readouterr().out.splitlines()[1].endswith("two\\nlines \\x1b[31m")
    assert command("events", "--action", "version.frozen", "--full", "--limit", "5") == 0
    assert f"version:{digest(1001)} " in capsys.readouterr().out
    assert command("events", "--json", "--after", "10") == 0
    assert json.loads(capsys.readouterr().out)["seq"] == 11
    assert command("head") == 0
    assert json.loads(capsys.readouterr().out) == asdict(filled.head())


def test_the_package_is_a_command(sqlite_ledger: Ledger, tmp_path: Path) -> None:
    url = sqlite_ledger.url.render_as_string(hide_password=False)
    sqlite_ledger.append(note(1))
    code = "import runpy; runpy.run_module('labelops', run_name='__main__')"
    process = start(code, "verify", "--ledger", url, "--store", str(tmp_path / "store"))
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "is sound: 1 events read" in out
    tamper(sqlite_ledger, "UPDATE event SET actor = 'x'")
    process = start(code, "verify", "--ledger", url, "--store", str(tmp_path / "store"))
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 1, errors
    assert "Event 1 was changed" in out


def test_the_command_says_why_it_could_not_look(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path / 'none.db'}"
    assert main(["verify", "--ledger", url, "--store", str(tmp_path)]) == 2
    assert "Run `labelops migrate`" in capsys.readouterr().err
    assert main(["migrate", "--ledger", url]) == 0
    assert main(["migrate", "--ledger", url]) == 0
    assert capsys.readouterr().out == "The ledger's tables are built.\nThe ledger's tables are up to date.\n"
    assert main(["head", "--ledger", "mysql://x"]) == 2
    with pytest.raises(Unsupported):
        verify(Ledger(f"sqlite:///{tmp_path / 'other.db'}"))


def test_the_command_says_how_far_signatures_vouch(
    ledger: Ledger, store: Store, signer: Signer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):  # the key is an event too: a signed checkpoint of six, and one of eleven
        grow(ledger, 5)
        write_checkpoint(ledger, store, signer)
    grow(ledger, 1)
    url = ledger.url.render_as_string(hide_password=False)
    base = ["verify", "--ledger", url, "--store", str(store.root)]
    assert main(base) == 0
    out = capsys.readouterr().out
    short = signer.public.key_id[:12]
    assert f"2 signed, by key {short} (as published in the store; pin it with --public-key): signatures vouch" in out
    assert "for the events up to 11 of 12." in out
    (tmp_path / "pub.pem").write_bytes(signer.public.pem)
    (tmp_path / "kept.note").write_text(str(checkpoints.last_note(store)))
    pinned = [*base, "--public-key", str(tmp_path / "pub.pem"), "--note", str(tmp_path / "kept.note")]
    assert main([*pinned, "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["signed"], value["signed_size"], value["pinned"]) == (2, 11, True)
    assert value["keys"] == [signer.public.key_id]
    assert value["not_covered"] == ["effect", "effect_claim", "source_record", "sync_state"]
    (tmp_path / "pub.pem").write_bytes(make_key(tmp_path / "other.pem").public.pem)
    assert main(pinned) == 1
    assert "is signed by none of the given public keys" in capsys.readouterr().out
    assert main([*base, "--note", str(tmp_path / "none.note")]) == 2
    assert "none.note: cannot be read" in capsys.readouterr().err


def test_a_proof_is_checked_where_there_is_no_ledger(
    ledger: Ledger, store: Store, signer: Signer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for count in (7, 5):  # signed checkpoints of 8 and 13 events, and two events after
        grow(ledger, count)
        write_checkpoint(ledger, store, signer)
    grow(ledger, 2)
    base = ["--ledger", ledger.url.render_as_string(hide_password=False), "--store", str(store.root)]
    assert main(["prove", *base, "inclusion", "5"]) == 0
    away = tmp_path / "away"
    away.mkdir()
    (away / "proof.json").write_text(capsys.readouterr().out)
    (away / "key.pem").write_bytes(signer.public.pem)
    assert main(["note", "--store", str(store.root)]) == 0
    (away / "note").write_text(capsys.readouterr().out)
    ledger.close()
    code = (
        "import os, sys; [os.environ.pop(one) for one in list(os.environ) if one.startswith('LABELOPS')]; "
        "from labelops.commands import main; sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["check-proof", str(away / "proof.json"), "--public-key", str(away / "key.pem")]
    process = start(code, *arguments, "--note", str(away / "note"))
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert out.startswith("Event 5 (anna, note.taken, ")
    assert main(["prove", *base, "consistency", "8", "13"]) == 0
    (away / "proof.json").write_text(capsys.readouterr().out.replace('"size": 8', '"size": 7'))
    assert main(arguments) == 1
    assert "does not show that the 13 events begin with the 7" in capsys.readouterr().out
    (away / "proof.json").write_text("{")
    assert main(arguments) == 2
    assert main(["prove", *base, "consistency", "8"]) == 2
    assert main(["note", "--store", str(away)]) == 2
