"""The table's blocks on training formats and splits."""

from __future__ import annotations

from pathlib import Path

ROWS = 20_000
TEXTS = 100_000
MORE = 10_000


def formats(folder: Path) -> list[tuple[str, str, str, str]]:
    """A version of named entities in each format, against the library that its users would write it with."""
    from tests.bench.__main__ import job, line

    file = folder / "rows.jsonl"
    job(folder, "make_marked", file, ROWS)
    lines = []
    for format, library in (("jsonl", "srsly"), ("parquet", "pandas"), ("spacy", "spaCy"), ("tfrecord", "tfrecord")):
        ours = job(folder, "export_format", file, folder, format)
        theirs = job(folder, "library_format", file, folder, format)
        lines.append(line(f"{ROWS:,} rows to {format}", ours, None))
        lines.append(line(f"the same by {library}, all rows in a list", theirs, ours))
    lines += [
        line(f"{ROWS:,} rows to {format}", job(folder, "export_format", file, folder, format), None)
        for format in ("conll", "pytorch")
    ]
    return lines


def splits(folder: Path) -> list[tuple[str, str, str, str]]:
    """Texts assigned to train, dev and test, one in ten a near-duplicate; then a tenth more."""
    from tests.bench.__main__ import job, line

    found = job(folder, "split_texts", TEXTS, MORE)
    grown = {**found, "count": found["more"], "seconds": found["more_seconds"]}
    return [
        line(f"{TEXTS:,} texts split, {found['seconds']:.1f} s", found, None),
        line(f"{MORE:,} more beside them, {found['more_seconds']:.1f} s", grown, None),
    ]
