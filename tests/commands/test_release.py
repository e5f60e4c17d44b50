"""``labelops verify-release``: for whoever received a release folder, and has nothing but that and a key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from labelops.commands import main
from tests.governance.ledgers import start
from tests.passport.make import SIGNER, released


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return released(tmp_path)


def test_the_command_says_how_it_is(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = tmp_path / "key.pem"
    key.write_bytes(SIGNER.public.pem)
    assert main(["verify-release", str(folder), "--public-key", str(key)]) == 0
    said = capsys.readouterr().out
    assert "Release 1 of ticket_topics" in said
    assert "is what was released" in said
    assert "signed by the key given" in said
    assert main(["verify-release", str(folder), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["ok"] is True
    assert value["signature"] == "own"

    (folder / "README.md").write_bytes(b"\x1b[2Jgone")
    assert main(["verify-release", str(folder)]) == 1
    said = capsys.readouterr().out
    assert "README.md was changed" in said
    assert "is NOT what was released" in said

    assert main(["verify-release", str(folder / "none")]) == 2
    assert main(["verify-release", str(folder), "--public-key", str(folder / "README.md")]) == 2
    assert main(["verify-release", str(folder), "--public-key", str(folder / "none.pem")]) == 2
    assert "public key" in capsys.readouterr().err


def test_a_file_name_cannot_steer_the_terminal(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a\x1b[2J\nRelease 1 is what was released").write_text("x")
    assert main(["verify-release", str(folder)]) == 1
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert not any(line.startswith("Release 1 is what") for line in said.splitlines())


@pytest.mark.proves("a release folder is checked alone, offline, without our database")
def test_a_receiver_needs_neither_airflow_nor_a_database_nor_a_setting(folder: Path) -> None:
    code = (
        "import os, sys; [os.environ.pop(one) for one in list(os.environ) if one.startswith(('LABELOPS', 'AIRFLOW'))]\n"
        "from labelops.commands import main\n"
        "code = main(sys.argv[1:])\n"
        "print({one.partition('.')[0] for one in sys.modules} & {'airflow', 'sqlalchemy', 'alembic', 'requests'})\n"
        "sys.exit(code)"
    )
    process = start(code, "verify-release", str(folder))
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert out.splitlines()[-1] == "set()"
