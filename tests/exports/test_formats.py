"""What every format has in common: which interfaces it holds, equal bytes, reports, no heavy import."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

from include.base.errors import InvalidInput, Unsupported
from include.exports import FORMATS, INTERFACES, Assignment, supports
from include.projects.model import CANNOT_HOLD, ExportFormat, Interface, ReleaseSettings
from include.settings import ROOT
from tests.exports.make import project, rows_of, write

MATRIX = [(format, interface) for format in FORMATS for interface in INTERFACES]
PARTS = ("train", "dev", "test")


@pytest.mark.proves("exports: a format that cannot hold an interface says so, and every other pair is written")
@pytest.mark.parametrize(("format", "interface"), MATRIX)
def test_every_pair_is_written_or_refused(format: str, interface: str, tmp_path: Path) -> None:
    rows = rows_of(interface)
    if not supports(format, interface):
        with pytest.raises(Unsupported, match=rf"format {format} cannot hold answers of interface {interface} .*jsonl"):
            write(rows, project(interface), format, tmp_path)
        assert not list(tmp_path.iterdir())
        return
    made = write(rows, project(interface), format, tmp_path)
    assert made.rows + sum(made.skipped.values()) == len(rows)
    assert made.rows
    on_disk = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert on_disk == set(made.files)
    if made.skipped:
        report = [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text().splitlines()]
        assert sum(one["left_out"] for one in report) == sum(made.skipped.values())


def test_the_page_says_what_the_code_does() -> None:
    lines = (ROOT / "docs" / "exports.md").read_text("utf-8").splitlines()
    table = [re.split(r"\s*\|\s*", line.strip("| ")) for line in lines if line.startswith("| `")]
    found = {
        row[0].strip("`"): row[1:] for row in table if row[0].strip("`") in FORMATS and len(row) == 1 + len(INTERFACES)
    }
    assert set(found) == set(FORMATS)
    for format, cells in found.items():
        assert [cell != "–" for cell in cells] == [supports(format, interface) for interface in INTERFACES], format


@pytest.mark.proves("exports: the same version gives the same bytes in every format")
def test_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib\n"
        "from include.exports import FORMATS, INTERFACES, Assignment, supports\n"
        "from tests.exports.make import project, rows_of, write\n"
        "for interface in INTERFACES:\n"
        "    rows = rows_of(interface)\n"
        "    parts = {one['task_id']: ('train', 'dev')[n % 2] for n, one in enumerate(rows)}\n"
        "    for format in FORMATS:\n"
        "        if supports(format, interface):\n"
        "            place = pathlib.Path(sys.argv[1]) / interface / format\n"
        "            write(rows, project(interface), format, place, splits=Assignment(('train', 'dev'), parts))\n"
    )
    sums = []
    for seed in ("1", "2"):
        folder = tmp_path / seed
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join([".", "plugins"])}
        subprocess.run([sys.executable, "-c", script, str(folder)], check=True, cwd=ROOT, env=environment, timeout=120)
        sums.append({str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.is_file()})
    assert sums[0] == sums[1]
    assert len(sums[0]) > 80


@pytest.mark.parametrize("format", FORMATS)
def test_whoever_has_no_part_is_reported_in_every_format(format: str, tmp_path: Path) -> None:
    interface = next(interface for interface in INTERFACES if supports(format, interface))
    rows = rows_of(interface)
    kept = rows[0]["task_id"]
    made = write(rows, project(interface), format, tmp_path, splits=Assignment(PARTS, {kept: "test"}))
    assert made.skipped["not_assigned"] == len(rows) - 1
    assert made.splits["train"] == made.splits["dev"] == 0


def test_an_unknown_part_is_refused(tmp_path: Path) -> None:
    rows = rows_of("textcat")
    with pytest.raises(InvalidInput, match="split: found 'holdout'; allowed: train, dev, test"):
        write(rows, project("textcat"), "jsonl", tmp_path, splits=Assignment(PARTS, {rows[0]["task_id"]: "holdout"}))


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="format: found 'csv'; allowed: jsonl, parquet"):
        write([], project("ner"), "csv", tmp_path)
    with pytest.raises(InvalidInput, match="interface: found 'video'; allowed: textcat"):
        supports("jsonl", "video")


def test_importing_the_package_loads_no_library_of_a_format() -> None:
    script = (
        "import sys, include.exports\n"
        "print(sorted({'numpy', 'pyarrow', 'spacy', 'pandas', 'google_crc32c'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_libraries_that_decide_about_bytes_are_named(tmp_path: Path) -> None:
    assert set(write(rows_of("ner"), project("ner"), "parquet", tmp_path / "a").libraries) == {"pyarrow"}
    assert set(write(rows_of("ner"), project("ner"), "spacy", tmp_path / "b").libraries) == {"spacy"}
    assert write(rows_of("ner"), project("ner"), "conll", tmp_path / "c").libraries == {}


def test_a_project_may_name_every_format_and_no_other() -> None:
    assert get_args(ExportFormat) == tuple(FORMATS)


@pytest.mark.parametrize(("format", "interface"), MATRIX)
def test_a_project_file_with_a_format_that_cannot_hold_its_answers_is_refused(format: str, interface: str) -> None:
    assert (Interface(interface) in CANNOT_HOLD.get(format, ())) is not supports(format, interface)
    assert ReleaseSettings().formats == ("jsonl", "parquet")
    for bad in (["csv"], [], ["jsonl", "jsonl"]):
        with pytest.raises(ValidationError):
            ReleaseSettings(formats=bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "splits",
    [
        {},
        {"train": 100},
        {"train": 80, "dev": 10},
        {"dev": 50, "test": 50},
        {"train": 90, "holdout": 10},
        {"train": 90, "dev": 10, "test": 0},
        {"train": 99.5, "dev": 0.5},
    ],
)
def test_shares_of_a_split_make_a_whole(splits: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        ReleaseSettings(splits=splits)  # type: ignore[arg-type]
    assert ReleaseSettings(splits={"train": 80, "test": 20}).splits == {"train": 80, "test": 20}
