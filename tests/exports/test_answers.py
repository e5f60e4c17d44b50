"""Answers exported straight from Prodigy's database: bytes as stored, or typed columns; whole, resumed, new_rows."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from include.annotation.answers import read_answer
from include.base.canonical import sha256_hex
from include.base.errors import InvalidInput, NotFound
from include.exports import answers as exporting
from include.exports.answers import export_answers
from include.sandbox.prodigy_schema import create_schema, import_jsonl
from include.systems.prodigy import rows as reading
from include.systems.prodigy.client import ProdigyClient
from tests.annotation import make
from tests.systems.prodigy.make import PROJECT, answered, connect

DATASET = PROJECT.answers


@pytest.fixture
def client(prodigy_url: str) -> ProdigyClient:
    return connect(prodigy_url)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A database file of 300 answers of two people, and one answer to something else."""
    place = tmp_path / "file.db"
    create_schema(f"sqlite:///{place}")
    import_jsonl(f"sqlite:///{place}", DATASET, three_hundred())
    import_jsonl(f"sqlite:///{place}", "other", [{**answered("x"), "_session_id": f"{DATASET}-ben"}])
    return place


def three_hundred() -> list[dict[str, Any]]:
    return [answered(f"Grüße {number} 😀", "anna" if number % 3 else "ben") for number in range(300)]


def change(file: Path, statement: str, *values: Any) -> None:
    with closing(sqlite3.connect(file)) as conn, conn:
        conn.execute(statement, values)


def stored(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in rows)


@pytest.mark.proves("answers are exported byte for byte as they are stored, on every engine")
def test_lines_are_the_stored_bytes(client: ProdigyClient, prodigy_url: str, tmp_path: Path) -> None:
    rows = three_hundred()
    import_jsonl(prodigy_url, DATASET, rows)
    out = tmp_path / "out" / "answers.jsonl"
    manifest = export_answers(client, out, format="jsonl", dataset=DATASET)
    assert out.read_bytes() == stored(rows)
    assert (manifest.rows, manifest.rejected, manifest.rewritten) == (300, 0, 0)
    assert (manifest.sha256, manifest.bytes) == (sha256_hex(out.read_bytes()), out.stat().st_size)
    written = json.loads((out.parent / "answers.jsonl.manifest.json").read_bytes())
    assert (written["rows"], written["sha256"], written["dataset"]) == (300, manifest.sha256, DATASET)
    assert sorted(place.name for place in out.parent.iterdir()) == ["answers.jsonl", "answers.jsonl.manifest.json"]

    ben = tmp_path / "ben.jsonl"
    import_jsonl(prodigy_url, "other", [{**answered("x"), "_session_id": f"{DATASET}-ben"}])
    for dataset, expected in ((DATASET, rows[::3]), (None, [*rows[::3], {**answered("x"), "_session_id": "ben"}])):
        found = export_answers(client, ben, format="jsonl", dataset=dataset, session=f"{DATASET}-ben")
        assert found.rows == len(expected)
        assert ben.read_bytes().startswith(stored(rows[::3]))
        ben.unlink()


@pytest.mark.proves("exported columns say what reading the answer says, on every engine")
def test_columns_say_what_the_answer_says(client: ProdigyClient, prodigy_url: str, tmp_path: Path) -> None:
    import_jsonl(prodigy_url, DATASET, [*three_hundred(), {"text": "old", "options": [{"id": 1}], "accept": [1]}])
    out = tmp_path / "answers.parquet"
    manifest = export_answers(client, out, format="parquet", dataset=DATASET, raw=True)
    assert (manifest.rows, manifest.unreadable, manifest.sha256) == (301, 0, sha256_hex(out.read_bytes()))
    found = pq.read_table(out).to_pylist()
    for column, row in zip(found, client.rows(DATASET), strict=True):
        answer = read_answer(row, PROJECT)
        assert (column["link_id"], column["example_id"], column["row"]) == (
            answer.link_id,
            answer.example_id,
            answer.row_digest,
        )
        assert (column["input_hash"], column["task_hash"]) == (row.input_hash, row.task_hash)
        assert (column["annotator"], column["session"], column["time"]) == (answer.account, answer.session, answer.time)
        assert column["accept"] == [str(one) for one in answer.value.accepted]
        assert (column["text"], column["answer"], column["view_id"]) == (
            answer.shown["text"],
            answer.value.answer,
            answer.view_id,
        )
        assert column["raw"] == row.raw
        assert column["task_id"] == (answer.task_id if answer.stamped else None)
    frame = pd.read_parquet(out)
    assert str(frame["time"].dtype) == "datetime64[us, UTC]"
    assert frame["problem"].isna().all()


def test_marks_have_types_of_their_own(file: Path, tmp_path: Path) -> None:
    kinds = sorted(make.PROJECTS)
    rows = [make.answered(kind) for kind in kinds]
    embedded = {**make.answered("image"), "image": "data:image/png;base64,iVBORw0=", "image_sha256": None}
    import_jsonl(f"sqlite:///{file}", "marks", [*rows, embedded])
    out = tmp_path / "marks.parquet"
    export_answers(connect(f"sqlite:///{file}"), out, format="parquet", dataset="marks")
    found = dict(zip([*kinds, "embedded"], pq.read_table(out).to_pylist(), strict=True))
    assert found["spans"]["spans"] == [
        {"start": 0, "end": 4, "label": "MAKER"},
        {"start": 0, "end": 10, "label": "PRODUCT"},
    ]
    rect, polygon, freehand = found["image"]["regions"]
    assert (rect["shape"], polygon["label"], freehand["points"]) == ("rect", "DOG", make.FREEHAND["points"])
    assert found["image"]["spans"] is None
    assert found["audio"]["segments"][0] == {"start": 0.5, "end": 2.25, "label": "SPEECH"}
    assert found["relations"]["relations"] == [
        {"head": 1, "child": 3, "head_start": 0, "head_end": 10, "child_start": 14, "child_end": 18, "label": "MADE_BY"}
    ]
    assert found["embedded"]["image"] == f"sha256:{sha256_hex(bytes.fromhex('89504e470d'))}"
    assert found["image"]["image"] == "s3://pictures/one.png"


@pytest.mark.proves("an export that was killed goes on, and gives the same bytes")
def test_an_interrupted_export_goes_on(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "CHECKPOINT_BYTES", 20_000)
    monkeypatch.setattr(reading, "PIECE_BYTES", 5_000)
    change(file, "UPDATE example SET content = '[1]' WHERE id = 3")
    out, client = tmp_path / "a.jsonl", connect(f"sqlite:///{file}")

    def killed(rows: int) -> None:
        if rows > 150:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_answers(client, out, format="jsonl", dataset=DATASET, progress=killed)
    with (tmp_path / "a.jsonl.part").open("ab") as part:
        part.write(b'{"cut off')
    assert not out.exists()
    change(file, "INSERT INTO link (example_id, dataset_id) VALUES (1, 1)")

    asked: list[int] = []
    pieces = client.pieces
    monkeypatch.setattr(client, "pieces", lambda *given, **more: asked.append(more["after"]) or pieces(*given, **more))
    manifest = export_answers(client, out, format="jsonl", dataset=DATASET)
    assert asked[0] > 0, "it did not begin anew"
    rows = three_hundred()
    assert out.read_bytes() == stored([*rows[:2], *rows[3:]]), "and what came meanwhile waits for the next export"
    assert (manifest.rows, manifest.rejected) == (299, 1)
    assert manifest.sha256 == sha256_hex(out.read_bytes())
    assert not (tmp_path / "a.jsonl.journal.json").exists()

    # A part that is not as the journal says is begun anew.
    other = tmp_path / "b.jsonl"
    with pytest.raises(KeyboardInterrupt):
        export_answers(client, other, format="jsonl", dataset=DATASET, progress=killed)
    other.with_name("b.jsonl.part").write_bytes(b"x" * 200_000)
    with pytest.raises(InvalidInput, match="is of dataset 'ticket_topics', session None"):
        export_answers(client, other, format="jsonl", dataset="other")
    assert export_answers(client, other, format="jsonl", dataset=DATASET).rows == 300


def test_rows_that_are_no_lines_are_told(file: Path, tmp_path: Path) -> None:
    pretty = json.dumps(answered("pretty"), indent=1)
    changes = {1: pretty, 2: pretty.replace("\n", "\r\n").encode(), 3: "[1]", 4: b"", 5: b"\xff", 6: b' {"text": "a"} '}
    for example, content in changes.items():
        change(file, "UPDATE example SET content = ? WHERE id = ?", content, example)
    change(file, "UPDATE example SET content = ? WHERE id = 290", b'{"cut": off}')
    out, client = tmp_path / "a.jsonl", connect(f"sqlite:///{file}")
    manifest = export_answers(client, out, format="jsonl", dataset=DATASET)
    lines = out.read_bytes().splitlines()
    assert (manifest.rows, manifest.rejected, manifest.rewritten) == (297, 3, 3)
    assert len(lines) == 297
    assert json.loads(lines[0]) == json.loads(lines[1]) == answered("pretty")
    assert lines[2] == b'{"text": "a"}'
    rejected = [json.loads(line) for line in (tmp_path / "a.jsonl.rejected.jsonl").read_bytes().splitlines()]
    assert [(one["example"], one["problem"].split(":")[0]) for one in rejected] == [
        (3, "content"),
        (4, "content"),
        (5, "content"),
    ]
    checked = export_answers(client, tmp_path / "b.jsonl", format="jsonl", dataset=DATASET, validate=True)
    assert (checked.rows, checked.rejected) == (296, 4), "a row that only looks like an object is found by reading it"


def test_what_does_not_fit_a_column_is_told(file: Path, tmp_path: Path) -> None:
    odd = [
        {"_annotator_id": 5},
        {"_timestamp": "today"},
        {"_timestamp": 1e300},
        {"label": ["x"]},
        {"text": "\ud800"},
        {"accept": "billing"},
        {"accept": [None, 2.5]},
        {"spans": [{"start": "0", "end": 2**70, "label": 3}]},
        {"spans": ["x"]},
        {"audio_spans": [{"start": True}]},
        {"labelops": []},
        {"labelops": {"served": {"round": 1.5}}},
        {"spans": [{"points": [1], "type": 4}]},
        {"options": 3},
    ]
    import_jsonl(f"sqlite:///{file}", "odd", [{**answered("x"), **change} for change in odd])
    out = tmp_path / "odd.parquet"
    manifest = export_answers(connect(f"sqlite:///{file}"), out, format="parquet", dataset="odd")
    assert (manifest.rows, manifest.unreadable, manifest.rejected) == (len(odd), len(odd), 0)
    problems = [row["problem"].split(":")[0] for row in pq.read_table(out).to_pylist()]
    assert problems == [
        *("_annotator_id", "_timestamp", "_timestamp", "label", "text", "accept", "accept", "spans.start", "spans"),
        *("segments.start", "labelops", "round", "spans.points", "options"),
    ]


@pytest.mark.proves("an export of what is new gives each new or changed answer, and says what is gone")
@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_only_what_is_new(file: Path, tmp_path: Path, format: str) -> None:
    client, state = connect(f"sqlite:///{file}"), tmp_path / "state.json"

    def texts(name: str) -> list[str]:
        manifest = export_answers(client, tmp_path / name, format=format, dataset=DATASET, since=state)
        place = tmp_path / name
        rows = (
            [json.loads(line) for line in place.read_bytes().splitlines()]
            if format == "jsonl"
            else pq.read_table(place).to_pylist()
        )
        assert manifest.rows == len(rows)
        return [row["text"] for row in rows]

    assert len(texts("one")) == 300
    assert texts("two") == []
    import_jsonl(f"sqlite:///{file}", DATASET, [answered("new")])
    before = state.read_text()
    assert texts("three") == ["new"]
    # Killed between the file and its state: the next run only finishes.
    state.write_text(before)
    assert texts("three") == ["new"]
    assert state.read_text() != before
    change(file, "DELETE FROM link WHERE id = 1")
    manifest = export_answers(client, tmp_path / "four", format=format, dataset=DATASET, since=state)
    assert "gone" in [one["kind"] for one in manifest.findings]
    with pytest.raises(InvalidInput, match="is there already"):
        export_answers(client, tmp_path / "one", format=format, dataset=DATASET, since=state)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"format": "csv", "dataset": DATASET}, InvalidInput, "format: found 'csv'; allowed: jsonl, parquet"),
        ({"format": "jsonl"}, InvalidInput, "neither a dataset nor a session"),
        (
            {"format": "jsonl", "dataset": "nothing"},
            NotFound,
            "dataset 'nothing' is not in .*: .*ticket_topics",
        ),
        ({"format": "parquet", "session": "nobody"}, NotFound, "session 'nobody' is not in .*: ticket_topics-ben"),
        ({"format": "jsonl", "session": "x", "since": Path("s")}, InvalidInput, "since: found with a session"),
    ],
)
def test_what_cannot_be_exported(file: Path, tmp_path: Path, options: dict[str, Any], error: Any, match: str) -> None:
    with pytest.raises(error, match=match):
        export_answers(connect(f"sqlite:///{file}"), tmp_path / "a", **options)
    assert not (tmp_path / "a").exists()


def test_a_file_is_never_written_over(file: Path, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    with pytest.raises(InvalidInput, match="is there already; allowed: a new name"):
        export_answers(connect(f"sqlite:///{file}"), tmp_path / "a", format="jsonl", dataset=DATASET)
    assert (tmp_path / "a").read_text() == "mine"


def test_prodigy_can_save_between_two_pieces(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PIECE_BYTES", 5_000)
    with closing(sqlite3.connect(file, timeout=0)) as other:
        for number, _ in enumerate(connect(f"sqlite:///{file}").pieces(DATASET, sessions=True)):
            other.execute("UPDATE dataset SET created = ?", (number,))
            other.commit()
    assert number > 5
