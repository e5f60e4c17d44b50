"""One program: every verb has its place, every verb that a document names exists, and none loads more than it needs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from include.settings import ROOT
from labelops.commands import VERBS, main, make_parser
from tests.governance.ledgers import start

DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = [*DOCUMENTS, *sorted((ROOT / "include").rglob("*.py")), *sorted((ROOT / "plugins").rglob("*.py"))]

NAMED = re.compile(r"(?:^|`|<code>|bin/|\| )labelops\s+([a-z]+(?:-[a-z]+)*)", re.M)
"""A verb at the beginning of a line of a shell or of a piece of code, the program's name before it."""


def _named(path: Path) -> set[str]:
    return set(NAMED.findall(path.read_text("utf-8")))


def test_every_verb_that_is_named_exists() -> None:
    named = {path: _named(path) for path in TEXTS}
    assert {"migrate", "verify", "events", "ask", "reproduce", "verify-release", "check-model"} <= set().union(
        *(named[path] for path in DOCUMENTS)
    )
    assert "recover" in named[ROOT / "include" / "governance" / "checkpoint.py"]
    assert {(path.name, verb) for path, verbs in named.items() for verb in verbs - set(VERBS)} == set()


def test_there_is_no_second_way_to_say_the_same() -> None:
    other = re.compile(r"python3? -m\s+(?:include\.(?!sandbox)|labelops\.)\w+")
    assert {path.name: found for path in TEXTS if (found := other.findall(path.read_text("utf-8")))} == {}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_arguments_and_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    assert ended.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith(f"usage: labelops {verb} ")
    assert VERBS[verb][1] in said


def test_the_program_lists_its_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    listed = re.findall(r"^    ([a-z-]+)\b", capsys.readouterr().out, re.M)
    assert listed == list(VERBS)


@pytest.mark.parametrize("given", [[], ["doubt"], ["verify", "--no-such-option"]])
def test_what_is_no_verb_is_refused(given: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(given)
    assert ended.value.code == 2


def test_only_the_verb_asked_for_is_loaded() -> None:
    code = (
        "import sys; from labelops.commands import make_parser; make_parser(sys.argv[1:])\n"
        "print(*sorted({one.partition('.')[0] for one in sys.modules}))\n"
        "print(*sorted(one for one in sys.modules if one.startswith('labelops.commands.')))\n"
    )
    for given, without, modules in (
        ([], {"airflow", "sqlalchemy", "pydantic", "yaml", "pyarrow"}, ""),
        (["verify"], {"airflow", "pandas", "pyarrow"}, "labelops.commands.places labelops.commands.verification"),
        (["verify-release"], {"airflow", "sqlalchemy"}, "labelops.commands.release"),
    ):
        out, errors = start(code, *given).communicate(timeout=60)
        loaded, own = out.splitlines()
        assert not without & set(loaded.split()), errors
        assert own == modules


def test_the_program_is_installed_under_its_name() -> None:
    script = shutil.which("labelops", path=str(Path(sys.executable).parent))
    assert script is not None, "install the project again: make install"
    said = subprocess.run([script, "--help"], capture_output=True, text=True, check=True, timeout=60).stdout
    assert said == make_parser([]).format_help()
