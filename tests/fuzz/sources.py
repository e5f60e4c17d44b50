"""Source files of every format, damaged where damage hurts: a file is read, or set aside, and another goes on."""

from __future__ import annotations

import gzip
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from include.ingestion.pipeline import ingest
from include.ingestion.scan import scan
from include.projects.load import load_project
from include.projects.model import Exposure, Source, SourceRoute
from include.settings import ROOT

_PROJECT = load_project(ROOT / "include" / "projects" / "definitions", "ticket_topics")

ODD = (
    *("", " ", "\x00", "\x1f", "\x85", "\u2028", "\ufeff", "\ud800", "e\u0301", "\U0001f600", "x" * 3000, "a\r\nb"),
    *('"', "'", ",", ";", "\t", "{", "[" * 2000, "null", "NaN", "1e400", "9" * 5000, "data:,x", "?token=a", "\\u0000"),
)
NUMBERS = (0, -1, True, None, 2**31, 2**63, -(2**70), 10**400, 0.1, 1e308, float("inf"), float("nan"))


def value(random: Random, depth: int = 0) -> Any:
    """Return something that JSON, or Python's reading of it, can hold."""
    kind = random.randrange(4 if depth > 3 else 6)
    if kind < 2:
        return "".join(random.choice((*ODD, "word ", "Wort")) for _ in range(random.randrange(4)))
    if kind < 4:
        return random.choice(NUMBERS)
    if kind == 4:
        return [value(random, depth + 1) for _ in range(random.randrange(4))]
    return {random.choice(("text", "id", "a", "")): value(random, depth + 1) for _ in range(random.randrange(4))}


def damaged(random: Random, content: bytes) -> bytes:
    """Return bytes with some of them changed, left out, put in or repeated."""
    made = bytearray(content)
    for _ in range(random.choice((0, 0, 1, 1, 2, 8))):
        at = random.randrange(len(made) + 1)
        kind = random.randrange(4)
        if kind == 0 and at < len(made):
            made[at] = random.randrange(256)
        elif kind == 1:
            del made[at : at + random.randrange(1, 9)]
        elif kind == 2:
            made[at:at] = random.choice((b"\n", b"\r", b'"', b"\xff", b"\x00", b"\xe2\x80\xa8", random.randbytes(5)))
        else:
            made[at:at] = made[at : at + random.randrange(200)]
    return bytes(made)


def json_lines(random: Random) -> bytes:
    """Return JSON Lines of records, some of them odd."""
    rows = [
        {"id": random.choice((number, value(random))), "text": random.choice((f"text {number}", value(random)))}
        | {"note": value(random)}
        for number in range(random.randrange(1, 12))
    ]
    return b"\n".join(json.dumps(row).encode() for row in rows)


def table(random: Random) -> bytes:
    """Return a table, its cells quoted or not."""
    delimiter = random.choice(",;\t|")
    lines = [delimiter.join(random.choice((("id", "text", "note"), ("text",), ("id", "id", "text"), ("1", "x"))))]
    for _ in range(random.randrange(12)):
        cells = (random.choice((*ODD[:-8], '"a ""b"""', '"a\nb"', "plain")) for _ in range(random.randrange(1, 5)))
        lines.append(delimiter.join(cells))
    return random.choice(("\n", "\r\n", "\r")).join(lines).encode("utf-8", "surrogatepass")


def parquet(random: Random) -> bytes:
    """Return a Parquet file whose columns have any type."""
    import pyarrow
    from pyarrow.parquet import write_table

    types = (
        *(pyarrow.string(), pyarrow.large_string(), pyarrow.binary(), pyarrow.int64(), pyarrow.float64()),
        *(pyarrow.timestamp("s"), pyarrow.timestamp("us", "Mars/Olympus"), pyarrow.timestamp("ns"), pyarrow.date32()),
        *(pyarrow.time64("ns"), pyarrow.duration("us"), pyarrow.decimal128(38, 9), pyarrow.list_(pyarrow.string())),
    )
    rows = random.randrange(0, 30)
    columns = {}
    for name in ("text", *random.sample(("id", "note", "more"), random.randrange(4))):
        made = pyarrow.array([None] * rows, pyarrow.string())
        kind = random.choice(types) if random.random() < 0.6 else pyarrow.string()
        if pyarrow.types.is_integer(kind) or pyarrow.types.is_temporal(kind):
            numbers = [random.choice((0, 1, 2**31 - 1, -(2**31))) << (8 if kind.bit_width == 64 else 0)] * rows
            made = pyarrow.array(numbers, pyarrow.int64() if kind.bit_width == 64 else pyarrow.int32()).view(kind)
        elif kind in (pyarrow.string(), pyarrow.large_string()):
            texts = [random.choice(("a", "word", "", "x" * 500, "\x1f", None)) for _ in range(rows)]
            made = pyarrow.array(texts, kind)
        elif kind == pyarrow.binary():
            made = pyarrow.array([random.randbytes(3) for _ in range(rows)], kind)
        columns[name] = made
    sink = io.BytesIO()
    write_table(
        pyarrow.table(columns),
        sink,
        compression=random.choice(("none", "zstd", "gzip", "brotli", "snappy")),
        use_dictionary=random.random() < 0.5,
        data_page_version=random.choice(("1.0", "2.0")),
        row_group_size=random.choice((3, 1000)),
        data_page_size=random.choice((1, 1 << 20)),
    )
    return sink.getvalue()


def _media(random: Random) -> bytes:
    heads = (b"\x89PNG\r\n\x1a\n", b"RIFF1234WAVE", b"ID3", b"\xff\xfb", b"OggS", b"")
    return random.choice(heads) + random.randbytes(random.randrange(30))


def _taken(name: str, content: bytes, random: Random) -> None:
    """Read a folder with this file and a good one; nothing may be lost without a word."""
    exposure = random.choice(list(Exposure))
    source = Source(
        location="in",
        routes=(
            SourceRoute(match="*.txt"),
            SourceRoute(match="*", id_field=random.choice((None, "id")), meta_fields=("note",)),
        ),
        max_records=20,
        max_unpacked_megabytes=1,
        max_record_kilobytes=2,
    )
    policy = _PROJECT.policy.model_copy(update={"quarantine_exposure": exposure})
    project = _PROJECT.model_copy(update={"source": source, "policy": policy})
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "in"
        place.mkdir()
        (place / name).write_bytes(content)
        (place / "zz.txt").write_text("a good line\n")
        found = ingest(project, scan(place, source.routes).new_or_changed, known=None, staging=Path(folder) / "out")
        texts = [json.loads(line).get("text") for line in found.tasks.read_bytes().splitlines()]
        bad = [json.loads(line) for line in found.bad.read_bytes().splitlines()]
    assert "a good line" in texts
    assert found.counts["files"] + found.counts["bad_files"] == 2
    assert found.counts["bad"] == len(bad)
    assert all("content" not in one for one in bad) or exposure in (Exposure.MASKED, Exposure.FULL)


def _of(make: Callable[[Random], bytes], *names: str) -> Callable[[Random], None]:
    def target(random: Random) -> None:
        name, content = random.choice(names), damaged(random, make(random))
        if name.endswith(".gz"):
            content = damaged(random, gzip.compress(content))
        _taken(name, content, random)

    return target


TARGETS = {
    "source JSON Lines": _of(json_lines, "a.jsonl", "a.ndjson", "a.jsonl.gz", "a.txt"),
    "source table": _of(table, "a.csv", "a.tsv", "a.csv.gz"),
    "source Parquet": _of(parquet, "a.parquet"),
    "source media": _of(_media, "a.png", "a.wav", "a.mp3", "a.ogg", "a.jpeg"),
}
