"""What a source folder may hold: each file or record that cannot be taken is told, and the rest goes on."""

from __future__ import annotations

import gzip
import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from include.base.errors import Unavailable
from include.base.store import Store
from include.ingestion import quarantine
from include.ingestion import scan as scanning
from include.ingestion.pipeline import Ingested, ingest
from include.ingestion.scan import scan
from include.projects.load import load_project
from include.projects.model import Exposure, Project, SourceRoute
from include.settings import ROOT
from tests.house import House

SECRET = "Petra Pohl, born 1971"


@pytest.fixture
def project() -> Project:
    found = load_project(ROOT / "include" / "projects" / "definitions", "ticket_topics")
    return changed(found, routes=(SourceRoute(match="*"),))


def changed(project: Project, *, exposure: Exposure = Exposure.IDS, **source: object) -> Project:
    policy = project.policy.model_copy(update={"quarantine_exposure": exposure})
    return project.model_copy(update={"source": project.source.model_copy(update=source), "policy": policy})


def fill(place: Path, **files: bytes) -> Path:
    """Write files; in their names `__` stands for a dot."""
    place.mkdir(exist_ok=True)
    for name, content in {"good__txt": b"a good line\n", **files}.items():
        (place / name.replace("__", ".")).write_bytes(content)
    return place


def taken(place: Path, project: Project) -> tuple[Ingested, list[str], dict[str, str]]:
    """Return what came of a folder, the texts of its tasks, and the reason of each reject by file and line."""
    files = scan(place, project.source.routes).new_or_changed
    found = ingest(project, files, known=None, staging=place.parent / "staging")
    texts = [json.loads(line)["text"] for line in found.tasks.read_bytes().splitlines()]
    bad = map(json.loads, found.bad.read_bytes().splitlines())
    return found, texts, {f"{one['file']}:{one.get('line', '')}": one["reason"] for one in bad}


def parquet(table: object, **options: object) -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(table, sink, **options)
    return sink.getvalue()


# --- one file must not keep the others waiting -----------------------------------------------------------------------


def link_to_itself(place: Path) -> None:
    place.symlink_to(place.name)


def link_to_nothing(place: Path) -> None:
    place.symlink_to("absent.csv")


def link_to_a_folder(place: Path) -> None:
    (place.parent / "folder").mkdir()
    place.symlink_to("folder")


def named_pipe(place: Path) -> None:
    os.mkfifo(place)


def socket_file(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        here = Path.cwd()
        os.chdir(place.parent)  # the address of a socket is short
        try:
            made.bind(place.name)
        finally:
            os.chdir(here)


def link_out_with_a_name_that_is_not_utf8(place: Path) -> None:
    os.symlink(b"/etc/hostname", os.fsencode(place) + b"\xff.csv")


@pytest.mark.parametrize(
    "make",
    [
        link_to_itself,
        link_to_nothing,
        link_to_a_folder,
        named_pipe,
        socket_file,
        link_out_with_a_name_that_is_not_utf8,
    ],
)
def test_what_is_no_file_is_told_and_the_files_are_read(tmp_path: Path, project: Project, make) -> None:
    place = fill(tmp_path / "in")
    make(place / "odd.csv")
    [(name, reason)] = scan(place, project.source.routes).errors
    assert name.startswith("odd.csv")
    assert name.isprintable()
    assert "allowed" in reason or "leads out" in reason
    assert taken(place, project)[1] == ["a good line"]


def test_a_run_goes_on_beside_what_is_no_file_and_says_how_many(house: House) -> None:
    link_to_itself(house.home / "sources" / house.project.name / "odd.csv")
    result = house.ingest()
    assert (result["detail"]["inserted"], result["detail"]["unreadable"]) == (13, 1)
    [told] = [one.reason for one in house.events("finding")]
    assert told.startswith("odd.csv: could not be read")
    assert house.ingest() is None


def test_a_folder_that_is_called_like_a_file_is_a_folder(tmp_path: Path, project: Project) -> None:
    place = fill(tmp_path / "in")
    (place / "x.csv").mkdir()
    (place / "x.csv" / "part.csv").write_text("text\nfrom within\n")
    assert taken(place, project)[1] == ["a good line", "from within"]


def deep(place: Path, name: str, levels: int) -> None:
    """Make folders within folders, to any depth: each is made from the one above."""
    above = os.open(place, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=above)
        within = os.open(name, os.O_RDONLY, dir_fd=above)
        os.close(above)
        above = within
    os.close(above)


@pytest.fixture
def emptied(tmp_path: Path) -> Iterator[Path]:
    """A folder that is emptied afterwards by who can: Python's own way does not reach so deep."""
    yield tmp_path
    subprocess.run(["rm", "-rf", str(tmp_path / "in")], check=True)


def test_a_folder_that_cannot_be_listed_is_told_and_its_files_are_not_taken_for_gone(emptied, project) -> None:
    place = fill(emptied / "in")
    (place / "deep").mkdir()
    (place / "deep" / "a.txt").write_text("deep\n")
    first = scan(place, project.source.routes)
    deep(place / "deep", "d" * 200, 40)  # a path of more than 4096 bytes: nobody can list it, whatever the rights
    second = scan(place, project.source.routes, first.seen)
    assert [reason for _, reason in second.errors] == [
        "could not be read (OSError); allowed: a folder that is there and that this account may read"
    ]
    assert (second.unchanged, second.gone) == (2, [])


def test_files_below_a_folder_that_is_denied_stay_known(tmp_path, project, monkeypatch) -> None:
    place = fill(tmp_path / "in")
    (place / "deep").mkdir()
    (place / "deep" / "a.txt").write_text("deep\n")
    first = scan(place, project.source.routes)
    listing = os.scandir

    def denied(folder):
        if Path(folder).name == "deep":
            raise PermissionError(13, "denied")
        return listing(folder)

    monkeypatch.setattr(os, "scandir", denied)
    second = scan(place, project.source.routes, first.seen)
    assert ([name for name, _ in second.errors], second.gone, second.seen) == (["deep"], [], first.seen)


def test_folders_within_folders_to_any_depth_are_walked(emptied: Path, project: Project) -> None:
    place = fill(emptied / "in")
    deep(place, "d", 1500)
    assert taken(place, project)[1] == ["a good line"]


def test_a_location_that_cannot_be_listed_is_no_empty_one(tmp_path, project, monkeypatch) -> None:
    place = fill(tmp_path / "in")

    def denied(folder):
        raise PermissionError(13, "denied")

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(Unavailable, match="PermissionError"):
        scan(place, project.source.routes)


def test_a_file_that_vanishes_between_listing_and_reading_is_tried_again(tmp_path: Path, project: Project) -> None:
    place = fill(tmp_path / "in", gone__csv=b"text\nx\n")
    files = scan(place, project.source.routes).new_or_changed
    (place / "gone.csv").unlink()
    found = ingest(project, files, known=None, staging=tmp_path / "staging")
    assert (found.failed, found.counts["tasks"]) == (["gone.csv"], 1)


def test_a_file_without_end_is_not_digested(house: House, monkeypatch) -> None:
    with (house.home / "sources" / house.project.name / "endless.txt").open("wb") as out:
        out.truncate(10 << 40)
    digested = scanning._digest
    monkeypatch.setattr(scanning, "_digest", lambda path: digested(path) if path.name != "endless.txt" else 1 / 0)
    detail = house.ingest()["detail"]
    assert (detail["inserted"], detail["quarantined"]) == (13, 2)
    assert house.ingest() is None


# --- Parquet that pyarrow opens and cannot tell ----------------------------------------------------------------------


def not_utf8() -> object:
    offsets = pyarrow.array([0, 2, 4], pyarrow.int32()).buffers()[1]
    return pyarrow.Array.from_buffers(pyarrow.string(), 2, [None, offsets, pyarrow.py_buffer(b"ok\xff\xfe")])


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("note", not_utf8()),
        ("note", pyarrow.array([0, 2**62], pyarrow.timestamp("us"))),
        ("note", pyarrow.array([0, 2**62], pyarrow.duration("s"))),
        ("note", pyarrow.array([0, 2**30], pyarrow.date32())),
    ],
    ids=["not UTF-8", "a time after the year 9999", "a duration that is too long", "a day after the year 9999"],
)
def test_a_value_that_cannot_be_told_costs_its_row_alone(tmp_path: Path, project: Project, column, values) -> None:
    project = changed(project, routes=(SourceRoute(match="*", meta_fields=("note",)),))
    table = pyarrow.table({"text": ["first", "second"], column: values})
    _, texts, bad = taken(fill(tmp_path / "in", a__parquet=parquet(table)), project)
    assert texts == ["first", "a good line"]
    assert list(bad) == ["a.parquet:2"]
    assert "column 'note': not readable" in bad["a.parquet:2"]
    assert "allowed: text in UTF-8" in bad["a.parquet:2"]


def test_text_that_is_not_utf8_costs_its_row_alone(tmp_path: Path, project: Project) -> None:
    _, texts, bad = taken(fill(tmp_path / "in", a__parquet=parquet(pyarrow.table({"text": not_utf8()}))), project)
    assert (texts, list(bad)) == (["ok", "a good line"], ["a.parquet:2"])


def test_a_time_zone_that_nobody_knows_costs_its_rows_alone(tmp_path: Path, project: Project) -> None:
    project = changed(project, routes=(SourceRoute(match="*", meta_fields=("at",)),))
    table = pyarrow.table({"text": ["a", "b"], "at": pyarrow.array([5, None], pyarrow.timestamp("us", "Mars/Olympus"))})
    _, texts, bad = taken(fill(tmp_path / "in", a__parquet=parquet(table)), project)
    assert (texts, list(bad)) == (["b", "a good line"], ["a.parquet:1"])


DAMAGED = """
import io, sys
import pyarrow, pyarrow.parquet
from include.ingestion.parquet import read_parquet
from include.ingestion.records import BadFile, Bounds
from include.ingestion.scan import scan
from include.projects.load import load_project
from include.projects.model import SourceRoute
from include.settings import ROOT
from pathlib import Path
source = load_project(ROOT / "include" / "projects" / "definitions", "ticket_topics").source
place = Path(sys.argv[1])
[file] = scan(place, (SourceRoute(match="*"),), None).new_or_changed
content = (place / "a.parquet").read_bytes()
footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
told = 0
for at in range(footer, len(content) - 8):
    for value in (0, 1, 2, 25, 41, 255):
        damaged = content[:at] + bytes([value]) + content[at + 1 :]
        try:
            told += len(list(read_parquet(file, io.BytesIO(damaged), Bounds(source))))
        except BadFile:
            told += 1
print("told", told)
"""


def test_a_footer_that_ends_pyarrow_ends_no_task(tmp_path: Path) -> None:
    """Where the statistics of a column are damaged, asking pyarrow about the column ends the process."""
    table = pyarrow.table({"text": ["a word", "b"], "note": [["x"], ["y", "z"]]})
    folder = fill(tmp_path / "in", a__parquet=parquet(table))
    (folder / "good.txt").unlink()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", DAMAGED, str(folder)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout[:4]) == (0, "told"), done.stderr[-2000:]


# --- lines that look blank -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blank", ["\x1f", "\x1c", "\x0b", "\x0c", "\x85", "\xa0", "\u2003", "\u2028", "\u3000"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.txt", "a.csv"])
def test_a_line_of_what_python_takes_for_white_space_is_no_blank_line(tmp_path, project, name, blank) -> None:
    lines = {"a.jsonl": '{"text": "x"}\n%s\n', "a.txt": "x\n%s\n", "a.csv": "text\n%s\nx\n"}[name] % blank
    place = fill(tmp_path / "in")
    (place / name).write_bytes(lines.encode())
    found, _, bad = taken(place, project)
    assert (list(bad), found.counts["records"]) == ([f"{name}:2"], 2)


def test_a_row_of_tabs_is_a_record_without_text(tmp_path: Path, project: Project) -> None:
    _, texts, bad = taken(fill(tmp_path / "in", a__tsv=b"id\ttext\n1\tx\n\t\n  \n"), project)
    assert (texts, list(bad)) == (["x", "a good line"], ["a.tsv:3"])


@pytest.mark.parametrize("inside", ["\u2028", "\u2029", "\x85"])
def test_what_python_takes_for_the_end_of_a_line_is_text(tmp_path: Path, project: Project, inside: str) -> None:
    text = f"one{inside}two"
    files = {
        "a__txt": f"{text}\n".encode(),
        "b__jsonl": json.dumps({"text": text}, ensure_ascii=False).encode(),
        "c__csv": f"text\n{text}\n".encode(),
    }
    found, texts, bad = taken(fill(tmp_path / "in", **files), project)
    assert (texts, bad, found.counts["records"]) == ([text, "a good line"], {}, 4)


def test_a_long_cell_within_the_bound_is_read(tmp_path: Path, project: Project) -> None:
    cell = "x" * 200_000  # the csv module itself stops at 131,072
    assert cell in taken(fill(tmp_path / "in", a__csv=f"id,text\n1,{cell}\n".encode()), project)[1]


# --- small files that become large -----------------------------------------------------------------------------------


def test_a_kilobyte_of_gzip_that_becomes_a_great_many_records_is_set_aside(tmp_path: Path, project: Project) -> None:
    packed = gzip.compress(b'{"text":1}\n' * 20_001)
    assert len(packed) < 1024
    project = changed(project, max_records=20_000)
    found, texts, bad = taken(fill(tmp_path / "in", a__jsonl__gz=packed), project)
    assert texts == ["a good line"]
    assert bad == {
        "a.jsonl.gz:": "records: it holds more than source.max_records allows (20000); "
        "allowed: files of fewer records, or a higher bound"
    }
    assert found.counts["bad"] == 1


@pytest.mark.parametrize("content", [b"\n", b"x", b" "])
def test_gzip_that_unpacks_to_more_than_allowed_is_set_aside(tmp_path: Path, project: Project, content) -> None:
    project = changed(project, max_unpacked_megabytes=1)
    _, texts, bad = taken(fill(tmp_path / "in", a__txt__gz=gzip.compress(content * ((1 << 20) + 1))), project)
    assert texts == ["a good line"]
    assert "more than source.max_unpacked_megabytes allows (1)" in bad["a.txt.gz:"]


def test_gzip_of_exactly_what_is_allowed_is_read(tmp_path: Path, project: Project) -> None:
    project = changed(project, max_unpacked_megabytes=1, max_records=1 << 10)
    line = b"x" * 1023 + b"\n"
    found, texts, bad = taken(fill(tmp_path / "in", a__txt__gz=gzip.compress(line * (1 << 10))), project)
    assert (len(texts), bad, found.counts["records"]) == (2, {}, (1 << 10) + 1)


def test_parquet_of_more_rows_than_allowed_is_set_aside_unread(tmp_path: Path, project: Project) -> None:
    table = pyarrow.table({"text": ["x"] * 101})
    place = fill(tmp_path / "in", a__parquet=parquet(table))
    _, texts, bad = taken(place, changed(project, max_records=100))
    assert (texts, list(bad)) == (["a good line"], ["a.parquet:"])
    assert "source.max_records allows (100)" in bad["a.parquet:"]


def test_parquet_that_unpacks_to_more_than_allowed_is_set_aside_unread(tmp_path: Path, project: Project) -> None:
    packed = parquet(pyarrow.table({"text": ["y" * (2 << 20)]}), compression="brotli", use_dictionary=False)
    assert len(packed) < 2000
    _, texts, bad = taken(fill(tmp_path / "in", a__parquet=packed), changed(project, max_unpacked_megabytes=1))
    assert texts == ["a good line"]
    assert "source.max_unpacked_megabytes allows (1)" in bad["a.parquet:"]


def test_parquet_with_one_page_beyond_memory_is_set_aside_unread(tmp_path: Path, project: Project) -> None:
    table = pyarrow.table({"text": ["y" * (257 << 20)]})
    packed = parquet(table, compression="brotli", use_dictionary=False, write_statistics=False)
    _, texts, bad = taken(fill(tmp_path / "in", a__parquet=packed), project)
    assert texts == ["a good line"]
    assert "allowed: 256 MB" in bad["a.parquet:"]


REPEATED = """
import resource, sys
from pathlib import Path
import pyarrow.parquet
from include.ingestion.pipeline import ingest
from include.ingestion.scan import scan
from include.projects.load import load_project
from include.projects.model import SourceRoute
from include.settings import ROOT
project = load_project(ROOT / "include" / "projects" / "definitions", "ticket_topics")
place, before = Path(sys.argv[1]), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = ingest(project, scan(place, [SourceRoute(match="*")]).new_or_changed, known=None, staging=place.parent / "out")
print(found.counts["tasks"], found.counts["bad"], (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


def test_one_long_value_that_every_row_repeats_is_not_held_for_every_row(tmp_path: Path) -> None:
    """332 bytes that took 3.5 GB: 1,000 rows that point at the same 2 MB."""
    column = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 1000, pyarrow.int32()), ["a" * (2 << 20)])
    packed = parquet(pyarrow.table({"text": column}), compression="zstd", store_schema=False)
    assert len(packed) < 1000
    place = fill(tmp_path / "in", a__parquet=packed)
    done = subprocess.run(
        [sys.executable, "-c", REPEATED, str(place)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    tasks, bad, megabytes = map(int, done.stdout.split())
    assert (tasks, bad) == (1, 1000)
    assert megabytes < 400


# --- what is set aside can be read again -----------------------------------------------------------------------------


def test_a_file_that_was_over_a_bound_is_read_again_once_the_bound_is_higher(house: House) -> None:
    (house.home / "sources" / house.project.name / "many.txt").write_text("one\ntwo\nthree\n")
    house.change_project(source={"max_records": 2})
    house.ingest()
    before = len(house.examples(house.project.inbox))
    assert house.ingest() is None
    house.change_project(source={"max_records": 1000})
    house.ingest()
    texts = {one["text"] for one in house.examples(house.project.inbox)}
    assert {"one", "two", "three"} <= texts
    assert len(texts) > before
    assert house.ingest() is None


# --- content goes only where its class allows ------------------------------------------------------------------------


def headless_csv() -> bytes:
    return f'1;"{SECRET}"\n2;x\n'.encode()


REJECTS = {
    "a.csv": headless_csv(),
    "b.parquet": parquet(pyarrow.table({SECRET: ["x"]})),
    "c.jsonl": json.dumps({SECRET: SECRET}).encode(),
    "d.jsonl": f'{{"text": "{SECRET}'.encode(),
    "e.tsv": f"id\ttext\n{SECRET}\n".encode(),
    "f.jsonl.gz": SECRET.encode(),
    "g.png": SECRET.encode(),
    "h.txt": f"{SECRET}\x00\n".encode(),
}


@pytest.mark.parametrize("exposure", [Exposure.NONE, Exposure.IDS, Exposure.MASKED])
@pytest.mark.parametrize("name", REJECTS)
def test_no_reject_tells_what_it_holds(tmp_path: Path, project: Project, exposure: Exposure, name: str) -> None:
    place = fill(tmp_path / "in")
    (place / name).write_bytes(REJECTS[name])
    project = changed(project, exposure=exposure)
    found, texts, bad = taken(place, project)
    assert (texts, len(bad)) == (["a good line"], 1)
    entries = [json.loads(line) for line in found.bad.read_bytes().splitlines()]
    kept = quarantine.put(Store(tmp_path / "store"), project, "raw_data_ingestion", entries, "run")
    told = kept.read_text() + found.bad.read_text() + repr(found.findings)
    assert not any(piece in told for piece in ("Petra", "Pohl", "1971", "b'Pe"))
    assert ("xxxxx xxxx" in told) == (exposure is Exposure.MASKED and name not in ("f.jsonl.gz", "g.png"))


@pytest.mark.parametrize("name", ["a.csv", "b.parquet"])
def test_under_full_exposure_the_columns_that_were_found_are_there(tmp_path, project, name) -> None:
    place = fill(tmp_path / "in")
    (place / name).write_bytes(REJECTS[name])
    found, _, _ = taken(place, changed(project, exposure=Exposure.FULL))
    assert SECRET in found.bad.read_text()


@pytest.mark.parametrize(
    "text", ["e\u0301le\u0300ve", "\u0928\u092e\u0938\u094d\u0924\u0947", "\u00bd \u2167 \U0001f600"]
)
def test_a_mask_leaves_no_accent_vowel_sign_or_symbol(text: str) -> None:
    shown = quarantine.excerpt(text, Exposure.MASKED)
    assert shown is not None
    assert set(shown) <= set("x0 ")


def test_the_sources_of_a_reject_tell_no_record_where_none_may_be_told(tmp_path: Path, project: Project) -> None:
    entry = {"file": "a", "line": 1, "reason": "why", "sources": [{"file": "a.csv", "record": SECRET, "sha256": "0"}]}
    kept = quarantine.put(Store(tmp_path), changed(project, exposure=Exposure.NONE), "gate_raw_tasks", [entry], "run")
    assert SECRET not in kept.read_text()
    assert '"a.csv"' in kept.read_text()


@pytest.mark.parametrize("exposure", ["none", "ids"])
def test_no_account_stands_on_the_lineage_page(approved: House, exposure: str) -> None:
    approved.change_project(policy={"confluence_exposure": exposure, "opentext_exposure": exposure})
    run = approved.run()
    detail = "The decision of Quentin@people.example does not count: mallory@evil.example is no person in the register."
    run.finding(approved.project.name, "version:x", "approval", detail)
    run.ledger.close()
    approved.report()
    [page] = [
        row["body"]
        for row in approved.confluence.database.rows("select title, body from versions")
        if "lineage report" in row["title"]
    ]
    assert "people.example" not in page
    assert "mallory" not in page
    assert ("quentin" in page) == (exposure == "ids")
