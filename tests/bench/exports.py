"""The jobs on training formats and splits. Each returns ``count`` and ``seconds``."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bench.measure import job, timed
from tests.bench.table import Line, block, line, run

ROWS = 20_000
TEXTS = 100_000
MORE = 10_000
_SHARES = {"train": 80, "dev": 10, "test": 10}


def _texts(count: int, seed: int = 1) -> Iterator[str]:
    """Yield texts of 10 to 60 made-up words; every tenth is an edit of one before."""
    chance = random.Random(seed)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(chance.choices(letters, k=chance.randint(2, 10))) for _ in range(20_000)]
    known: list[str] = []
    for number in range(count):
        if number % 10 == 9:
            yield chance.choice(known) + " " + chance.choice(words)
            continue
        text = " ".join(chance.choices(words, k=chance.randint(10, 60)))
        if len(known) < 10_000:
            known.append(text)
        yield text


@job
def make_marked(file: str, count: str) -> dict[str, Any]:
    """Write the rows of a version of named entities: three in each text."""
    import orjson

    found: dict[str, Any] = {"count": int(count)}
    with timed(found), Path(file).open("wb") as out:
        for number, text in enumerate(_texts(int(count))):
            places = [0, *(place + 1 for place, letter in enumerate(text) if letter == " ")][:6:2]
            spans = [[start, (text + " ").index(" ", start), "PRODUCT"] for start in places]
            row = {
                "task_id": f"{number:064x}",
                "shown": {"text": text},
                "value": {"interface": "ner", "answer": "accept", "spans": spans},
                "basis": "majority",
                "round": 1,
                "answers": [],
            }
            out.write(orjson.dumps(row) + b"\n")
    return found


@job
def export_format(file: str, folder: str, format: str) -> dict[str, Any]:
    """Write one format of a version's rows."""
    from include.exports import export
    from tests.exports.make import project

    def rows() -> Iterator[dict[str, Any]]:
        with Path(file).open("rb") as lines:
            yield from map(json.loads, lines)

    found: dict[str, Any] = {}
    of = project("ner")
    with timed(found):
        made = export(rows, of, format, Path(folder) / format, number=1)
    found["count"] = made.rows
    found["bytes"] = sum(one.bytes for one in made.files.values())
    return found


@job
def library_format(file: str, folder: str, format: str) -> dict[str, Any]:
    """Write the same content with the library that its users would write it with, all rows in a list first."""
    found: dict[str, Any] = {}
    place = Path(folder) / f"library.{format}"
    with timed(found):
        with Path(file).open("rb") as lines:
            rows = [json.loads(line) for line in lines]
        {"jsonl": _srsly, "parquet": _pandas, "spacy": _docbin, "tfrecord": _tfrecord}[format](place, rows)
    found["count"] = len(rows)
    return found


def _srsly(place: Path, rows: list[dict[str, Any]]) -> None:
    import srsly

    from include.exports import training_row

    srsly.write_jsonl(place, [training_row(row, 1) for row in rows])


def _pandas(place: Path, rows: list[dict[str, Any]]) -> None:
    import pandas

    from include.exports import training_row

    pandas.DataFrame([training_row(row, 1) for row in rows]).to_parquet(place, compression="zstd")


def _docbin(place: Path, rows: list[dict[str, Any]]) -> None:
    import spacy
    from spacy.tokens import DocBin

    nlp, bin_ = spacy.blank("en"), DocBin()
    for row in rows:
        doc = nlp.make_doc(row["shown"]["text"])
        spans = [doc.char_span(start, end, label=label) for start, end, label in row["value"]["spans"]]
        doc.ents = [span for span in spans if span is not None]
        bin_.add(doc)
    bin_.to_disk(place)


def _tfrecord(place: Path, rows: list[dict[str, Any]]) -> None:
    from tfrecord.writer import TFRecordWriter

    writer = TFRecordWriter(str(place))
    for row in rows:
        spans = row["value"]["spans"]
        writer.write(
            {
                "task_id": (row["task_id"].encode(), "byte"),
                "text": (row["shown"]["text"].encode(), "byte"),
                "span_start": ([start for start, _, _ in spans], "int"),
                "span_end": ([end for _, end, _ in spans], "int"),
                "span_label": ([0 for _ in spans], "int"),
            }
        )
    writer.close()


@job
def split_texts(count: str, more: str) -> dict[str, Any]:
    """Assign texts to parts, and then some more beside them."""
    from include.exports.splits import assign

    found: dict[str, Any] = {"count": int(count)}
    first = [{"task_id": str(n), "shown": {"text": text}} for n, text in enumerate(_texts(int(count)))]
    with timed(found):
        made = assign(first, "bench", _SHARES)
    later = [{"task_id": f"m{n}", "shown": {"text": text}} for n, text in enumerate(_texts(int(more), seed=2))]
    found["more"] = int(more)
    with timed(found, "more_seconds"):
        grown = assign(later, "bench", _SHARES, made.entries)
    assert all(grown.entries[digest] == entry for digest, entry in made.entries.items())
    return found


# --- the table -------------------------------------------------------------------------------------------------------


@block
def formats(folder: Path) -> list[Line]:
    """A version of named entities in each format, against the library that its users would write it with."""
    file = folder / "rows.jsonl"
    run(folder, "make_marked", file, ROWS)
    lines = []
    for format, library in (("jsonl", "srsly"), ("parquet", "pandas"), ("spacy", "spaCy"), ("tfrecord", "tfrecord")):
        ours = run(folder, "export_format", file, folder, format)
        theirs = run(folder, "library_format", file, folder, format)
        lines.append(line(f"{ROWS:,} rows to {format}", ours))
        lines.append(line(f"the same by {library}, all rows in a list", theirs, ours))
    for format in ("conll", "pytorch"):
        lines.append(line(f"{ROWS:,} rows to {format}", run(folder, "export_format", file, folder, format)))
    return lines


@block
def splits(folder: Path) -> list[Line]:
    """Texts assigned to train, dev and test, one in ten a near-duplicate; then a tenth more."""
    found = run(folder, "split_texts", TEXTS, MORE)
    names = {"count": "more", "seconds": "more_seconds", "cpu_seconds": "cpu_more_seconds"}
    grown = found | {name: found[more] for name, more in names.items()}
    return [line(f"{TEXTS:,} texts split", found), line(f"{MORE:,} more beside them", grown)]
