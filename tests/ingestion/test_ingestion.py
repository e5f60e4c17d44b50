"""Reading source files: nothing lost, nothing guessed, memory bounded."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import tracemalloc
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from include.annotation.tasks import build_task
from include.base.errors import InvalidInput
from include.base.store import Store
from include.ingestion import quarantine
from include.ingestion.pipeline import ingest
from include.ingestion.readers import read
from include.ingestion.records import BadFile, BadRecord, Record
from include.ingestion.scan import fingerprint, scan
from include.projects.load import load_project
from include.projects.model import Exposure, Source, SourceRoute
from include.settings import ROOT

DEFINITIONS = ROOT / "include" / "projects" / "definitions"
ROUTES = (SourceRoute(match="*"),)


@pytest.fixture
def project():
    return load_project(DEFINITIONS, "ticket_topics")


def with_routes(project, *routes, exposure=Exposure.IDS):
    return project.model_copy(
        update={
            "source": project.source.model_copy(update={"routes": routes}),
            "policy": project.policy.model_copy(update={"quarantine_exposure": exposure}),
        }
    )


def one(folder: Path, name: str, content: bytes, route: SourceRoute = ROUTES[0]):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return next(f for f in scan(folder, (route,)).new_or_changed if f.relative == name)


def records(folder: Path, name: str, content: bytes, route: SourceRoute = ROUTES[0], limit: int = 256):
    return list(read(one(folder, name, content, route), Source(location="in", max_record_kilobytes=limit)))


def good(found):
    return [record.content.get("text") for record in found if isinstance(record, Record)]


def bad(found):
    return [(record.line, record.reason) for record in found if isinstance(record, BadRecord)]


def test_scan_finds_changes_by_bytes_and_takes_no_link_that_leads_out(tmp_path):
    place = tmp_path / "in"
    (place / "sub").mkdir(parents=True)
    (place / "a.txt").write_text("one")
    (place / "sub" / "b.txt").write_text("two")
    (place / ".hidden").write_text("x")
    (place / "c.part").write_text("x")
    (tmp_path / "secret.txt").write_text("secret")
    (place / "out.txt").symlink_to(tmp_path / "secret.txt")
    first = scan(place, ROUTES)
    assert [file.relative for file in first.new_or_changed] == ["a.txt", "sub/b.txt"]
    assert [name for name, _ in first.errors] == ["out.txt"]

    os.utime(place / "a.txt", ns=(1, 1))
    (place / "sub" / "b.txt").write_text("corrected")
    second = scan(place, ROUTES, first.seen)
    assert [file.relative for file in second.new_or_changed] == ["sub/b.txt"]
    assert second.unchanged == 1

    (place / "a.txt").unlink()
    third = scan(place, ROUTES, second.seen)
    assert (third.gone, third.new_or_changed) == (["a.txt"], [])


def test_first_route_decides_and_a_missing_location_is_no_empty_one(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.csv").write_text("m\n1\n")
    routes = (SourceRoute(match="x/*", skip=True), SourceRoute(match="*.csv"))
    assert scan(tmp_path, routes).skipped == ["x/a.csv"]
    with pytest.raises(InvalidInput, match="not there"):
        scan(tmp_path / "absent", routes)


def test_malformed_json_lines_name_line_field_and_what_was_found(tmp_path):
    lines = [
        b'{"text": "good"}', b"{broken", b"[1]", b'{"other": 1}', b'{"text": 5}', b'{"text": "  "}',
        b'{"text": "a\\u0000b"}', b'{"text": "\\ud800"}', b'{"text": "\xff"}', b'{"text": NaN}', b'{"text": "end"}',
    ]  # fmt: skip
    found = records(tmp_path, "a.jsonl", b"\n".join(lines))
    assert good(found) == ["good", "end"]
    reasons = dict(bad(found))
    assert sorted(reasons) == list(range(2, 11))
    assert "not JSON" in reasons[2]
    assert "found list" in reasons[3]
    assert "'text'" in reasons[4]
    assert "found int" in reasons[5]
    assert "U+0000" in reasons[7]
    assert "0xff" in reasons[9]


@pytest.mark.memory
def test_a_very_long_line_is_refused_without_being_held(tmp_path):
    path = tmp_path / "long.jsonl"
    with path.open("wb") as out:
        out.write(b'{"text": "')
        for _ in range(64):
            out.write(b"x" * (1 << 20))
        out.write(b'"}\n{"text": "after"}\n')
    file = scan(tmp_path, ROUTES).new_or_changed[0]
    tracemalloc.start()
    found = list(read(file, Source(location="in", max_record_kilobytes=16)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert good(found) == ["after"]
    assert bad(found)[0][0] == 1
    assert peak < 4 << 20


def test_csv_quotes_ragged_rows_and_a_stray_quote(tmp_path):
    content = (
        b'\xef\xbb\xbfid;text\r\n1;"two\r\nlines; ""quoted"""\r\n2;too;many\r\n3;"never closed\r\n4;fine\r\n'
        b"5;\xff\r\n6;last"
    )
    found = records(tmp_path, "a.csv", content, SourceRoute(match="*", id_field="id"))
    assert good(found) == ['two\r\nlines; "quoted"', "fine", "last"]
    assert [line for line, _ in bad(found)] == [4, 5, 7]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", b"id,other\n1,2\n", "header: found 2 column"),
        ("a.csv", b"\xff,text\n", "byte 0"),
        ("a.txt", b"", "empty"),
        ("a.txt", "text".encode("utf-16"), "UTF-16"),
        ("a.exe", b"MZ", "extension"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "x"}\n' * 5000)[:-20], "damaged or cut off"),
        ("a.parquet", b"PAR1 and nothing more", "Parquet"),
        ("a.png", b"GIF89a......", "first bytes"),
    ],
)
def test_files_refused_as_a_whole(tmp_path, name, content, reason):
    with pytest.raises(BadFile, match=reason):
        records(tmp_path, name, content)


def test_parquet_and_media(tmp_path):
    import pyarrow
    import pyarrow.parquet

    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a", None, "c"], "n": [1, 2, 3]}), sink)
    found = records(tmp_path / "p", "a.parquet", sink.getvalue(), SourceRoute(match="*", meta_fields=("n",)))
    assert good(found) == ["a", "c"]
    assert [record.meta for record in found if isinstance(record, Record)] == [{"n": 1}, {"n": 3}]
    assert bad(found)[0][0] == 2
    image = records(tmp_path / "i", "a.png", b"\x89PNG\r\n\x1a\n" + b"0" * 20)[0]
    assert image.content["image"].endswith(f"/a.png#sha256={image.sha256}")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    junk=st.binary(max_size=200), name=st.sampled_from(["a.txt", "a.jsonl", "a.csv", "a.tsv", "a.jsonl.gz", "a.png"])
)
def test_no_bytes_crash_a_reader(tmp_path, junk, name):
    try:
        found = records(tmp_path, name, junk)
    except BadFile:
        return
    assert all(isinstance(record, (Record, BadRecord)) for record in found)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.tuples(
                st.just(True), st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1)
            ),
            st.tuples(st.just(False), st.binary(max_size=40).map(lambda raw: raw.replace(b"\n", b""))),
        ),
        min_size=1,
    )
)
def test_good_lines_survive_whatever_is_between_them(tmp_path, lines):
    content = b"".join(
        (json.dumps({"text": value}).encode() if fine else b"#" + value) + b"\n" for fine, value in lines
    )
    expected = [value for fine, value in lines if fine and value.strip()]
    assert good(records(tmp_path, "a.jsonl", content)) == expected


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1), min_size=1))
def test_csv_reads_back_what_was_written(tmp_path, texts):
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["n", "text"])
    writer.writerows(enumerate(texts))
    assert good(records(tmp_path, "a.csv", out.getvalue().encode())) == [text for text in texts if text.strip()]


def lines_of(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_equal_content_is_one_task_with_both_sources_and_runs_are_equal(tmp_path, project):
    place = tmp_path / "in"
    place.mkdir()
    (place / "a.txt").write_text("same\nonly a\n")
    (place / "b.txt").write_text("same\nbad \x01 line\n")
    (place / "c.xyz").write_text("?")
    project = with_routes(project, SourceRoute(match="*"))
    files = scan(place, project.source.routes).new_or_changed
    first = ingest(project, files, known=None, staging=tmp_path / "one")
    again = ingest(project, list(reversed(files)), known=None, staging=tmp_path / "two")
    assert first.counts == {
        "files": 2, "bad_files": 1, "records": 3, "tasks": 2, "duplicates": 1, "known": 0, "bad": 2,
    }  # fmt: skip
    for name in ("tasks", "sources", "bad"):
        assert getattr(first, name).read_bytes() == getattr(again, name).read_bytes()
    tasks = lines_of(first.tasks)
    assert [task["text"] for task in tasks] == ["same", "only a"]
    assert [source["file"] for source in tasks[0]["labelops"]["sources"]] == ["a.txt", "b.txt"]
    assert {(entry["file"], entry.get("line")) for entry in lines_of(first.bad)} == {("b.txt", 2), ("c.xyz", None)}

    there = {tasks[0]["labelops"]["task_id"]}
    third = ingest(project, files, known=there.intersection, staging=tmp_path / "three")
    assert (third.counts["tasks"], third.counts["known"], third.counts["duplicates"]) == (1, 1, 1)


def test_a_file_that_changes_or_breaks_while_read_leaves_nothing(tmp_path, project):
    place = tmp_path / "in"
    place.mkdir()
    (place / "a.txt").write_text("early\n")
    (place / "b.txt.gz").write_bytes(gzip.compress(b"line\n" * 9000 + os.urandom(4000).hex().encode())[:-30])
    project = with_routes(project, SourceRoute(match="*"))
    files = scan(place, project.source.routes).new_or_changed
    (place / "a.txt").write_text("early and more\n")
    found = ingest(project, files, known=None, staging=tmp_path / "out")
    assert found.failed == ["a.txt"]
    assert found.counts["tasks"] == 0
    assert found.counts["bad_files"] == 1
    assert fingerprint(place / "a.txt")[1] != files[0].mark


def test_what_is_staged_is_each_task_with_the_sources_it_was_made_from(tmp_path, project):
    place = tmp_path / "in"
    place.mkdir()
    texts = [f"Text {number % 700} {'ü' * (number % 5)}" for number in range(1600)]
    (place / "a.txt").write_text("".join(f"{text}\n" for text in texts[:900]), "utf-8")
    (place / "b.txt").write_text("".join(f"{text}\n" for text in texts[900:]), "utf-8")
    # What a file says that breaks off later is taken back, and other files' tasks are as if it had never been there.
    broken = "".join(f"{text}\n" for text in [*texts[:800], *("only here" for _ in range(5))])
    (place / "broken.txt.gz").write_bytes(gzip.compress(broken.encode() + os.urandom(90_000).hex().encode())[:-30])
    project = with_routes(project, SourceRoute(match="*"))
    found = ingest(project, scan(place, project.source.routes).new_or_changed, known=None, staging=tmp_path / "out")
    assert (found.counts["bad_files"], found.counts["records"]) == (1, 1600)

    first: dict[str, tuple[str, int]] = {}
    origins: dict[str, list[dict[str, str]]] = {}
    for number, text in enumerate(texts):
        name, line = ("a.txt", number + 1) if number < 900 else ("b.txt", number - 899)
        first.setdefault(text, (name, line))
        digest = sha256(text.encode()).hexdigest()
        origins.setdefault(text, []).append({"file": name, "record": str(line), "sha256": digest})
    expected = [
        build_task(project, content={"text": text}, meta={"source": f"{name}:{line}"}, sources=origins[text])
        for text, (name, line) in first.items()
    ]
    assert found.tasks.read_bytes().splitlines() == [json.dumps(task, ensure_ascii=False).encode() for task in expected]


@pytest.mark.memory
def test_memory_is_bounded_by_the_largest_record_not_by_their_number(tmp_path, project):
    place = tmp_path / "in"
    place.mkdir()
    with (place / "a.txt").open("w") as out:
        for number in range(400):
            out.write(f"{number} {'x' * 200_000}\n")
    project = with_routes(project, SourceRoute(match="*"))
    files = scan(place, project.source.routes).new_or_changed
    tracemalloc.start()
    try:
        assert ingest(project, files, known=None, staging=tmp_path / "out").counts["tasks"] == 400
        assert tracemalloc.get_traced_memory()[1] < 24 << 20
    finally:
        tracemalloc.stop()


def test_repeated_record_ids_are_kept_and_reported(tmp_path, project):
    place = tmp_path / "in"
    place.mkdir()
    (place / "a.jsonl").write_text('{"text":"x","id":"1"}\n{"text":"y","id":"1"}\n')
    project = with_routes(project, SourceRoute(match="*", id_field="id"))
    found = ingest(project, scan(place, project.source.routes).new_or_changed, known=None, staging=tmp_path / "out")
    assert found.counts["tasks"] == 2
    assert [kind for kind, _ in found.findings] == ["repeated record id"]


@pytest.mark.parametrize(
    ("exposure", "shown"),
    [(Exposure.NONE, None), (Exposure.IDS, None), (Exposure.MASKED, "xxx 00"), (Exposure.FULL, "Max 42")],
)
def test_quarantine_holds_content_only_as_allowed_and_writes_once(tmp_path, project, exposure, shown):
    store, project = Store(tmp_path), with_routes(project, exposure=exposure)
    entries = [{"file": "a", "line": 3, "reason": "why", "record": "r", "content": "Max 42"}]
    path = quarantine.put(store, project, "raw_data_ingestion", entries, "run-1")
    before = path.read_bytes()
    assert quarantine.put(store, project, "raw_data_ingestion", entries, "run-2") == path
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
    head, entry = lines_of(path)
    assert (head["run"], head["entries"], entry["line"], entry["reason"]) == ("run-1", 1, 3, "why")
    assert entry.get("content") == shown
    assert ("record" in entry) == (exposure is not Exposure.NONE)
