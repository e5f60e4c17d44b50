"""Files in, staged tasks out: streamed, de-duplicated on disk, the malformed set aside with reasons."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from include.annotation.tasks import build_task
from include.base.canonical import canonical_json
from include.base.disk import scratch_folder
from include.base.errors import InvalidInput
from include.base.store import StorePath, atomic_file
from include.ingestion.quarantine import allowed
from include.ingestion.readers import read
from include.ingestion.records import BadFile, BadRecord, Record
from include.ingestion.scan import SourceFile, fingerprint
from include.projects.model import Project

__all__ = ["SOURCES_IN_TASK", "Ingested", "ingest"]

SOURCES_IN_TASK = 100
"""How many sources a task itself carries; ``sources.jsonl`` lists all of them."""

_TABLES = """
CREATE TABLE task (number INTEGER PRIMARY KEY, id TEXT UNIQUE, content TEXT, copies INT DEFAULT 1);
CREATE TABLE source (number INTEGER PRIMARY KEY, task TEXT, file TEXT, record TEXT, sha256 TEXT);
CREATE TABLE bad (number INTEGER PRIMARY KEY, entry TEXT);
"""
_CACHE = "PRAGMA cache_size=-32768;"
"""32 MB of the index stay in memory, which is what its random order costs; the rest is on disk."""

_AT_ONCE = 500
"""How many records go into the index together, and of how many it is asked together whether they are known."""

_HELD_CHARACTERS = 4 << 20
"""Fewer go together when they are this long."""


@dataclass
class Ingested:
    """What came of some files.

    :param tasks: staged ``tasks.jsonl``: one task a line, in the order of files and lines.
    :param sources: staged ``sources.jsonl``: ``task_id``, ``file``, ``record``, ``sha256`` of every good record.
    :param bad: staged ``bad.jsonl``: entries for the quarantine.
    :param counts: ``files``, ``bad_files``, ``records`` (good ones), ``tasks`` (staged), ``duplicates`` (good records
        that added no task of their own), ``known`` (tasks that the project holds already), ``bad`` (entries).
    :param failed: files that changed or vanished while they were read: not part of this, to be tried again.
    :param rejected: files that are set aside, or of which some record is.
    :param findings: ``(kind, detail)`` for people.
    """

    tasks: StorePath
    sources: StorePath
    bad: StorePath
    counts: dict[str, int]
    failed: list[str] = field(default_factory=list)
    rejected: set[str] = field(default_factory=set)
    findings: list[tuple[str, str]] = field(default_factory=list)


def ingest(
    project: Project,
    files: Iterable[SourceFile],
    *,
    known: Callable[[list[str]], Iterable[str]] | None,
    staging: StorePath,
) -> Ingested:
    """Turn files into staged tasks.

    Equal content is one task with all its sources, within the batch whatever the files. A file counts as a whole or
    not at all: when it turns out broken, or changed while it was read, nothing of it is staged. The index is a
    temporary database on the worker's disk, so memory does not grow with the number of records.

    :param known: given at most 500 task ids, returns those that the project holds already.
    """
    with (
        scratch_folder("ingest") as folder,
        closing(sqlite3.connect(str(folder / "batch.db"), isolation_level=None)) as index,
    ):
        index.executescript("PRAGMA journal_mode=MEMORY; PRAGMA synchronous=OFF;" + _CACHE + _TABLES)
        counts = dict.fromkeys(("files", "bad_files", "records", "tasks", "duplicates", "known", "bad"), 0)
        found = Ingested(staging / "tasks.jsonl", staging / "sources.jsonl", staging / "bad.jsonl", counts)
        for file in sorted(files, key=lambda one: one.relative):
            _take(project, file, index, found)
        _stage(index, known, found)
    return found


def _take(project: Project, file: SourceFile, index: sqlite3.Connection, found: Ingested) -> None:
    index.execute("BEGIN")
    (before,) = index.execute("SELECT coalesce(max(number), 0) FROM source").fetchone()
    kept = _Kept(index)
    try:
        for record in read(file, project.source):
            _keep(project, file, record, index, kept)
        kept.flush()
        if fingerprint(file.path)[1] != file.mark:
            raise _Changed
    except (_Changed, OSError) as error:
        index.execute("ROLLBACK")
        found.failed.append(file.relative)
        why = "it changed while it was read" if isinstance(error, _Changed) else type(error).__name__
        found.findings.append(("unreadable file", f"{file.relative}: {why}; it is tried again"))
        return
    except BadFile as error:
        index.execute("ROLLBACK")
        found.counts["bad_files"] += 1
        found.rejected.add(file.relative)
        bad = BadRecord(error.line, error.reason, file.sha256 or None, error.content)
        _reject(index, _entry(project, file, bad))
        return
    index.execute("COMMIT")
    found.counts["files"] += 1
    if kept.rejected:
        found.rejected.add(file.relative)
    _tell_repeated(file, before, index, found)


def _tell_repeated(file: SourceFile, before: int, index: sqlite3.Connection, found: Ingested) -> None:
    """Make a finding of record ids that are in a file more than once.

    :param before: the last source that was there before the file's.
    """
    twice = index.execute(
        "SELECT count(*) FROM (SELECT 1 FROM source WHERE number > ? GROUP BY record HAVING count(*) > 1)", (before,)
    ).fetchone()[0]
    if twice:
        detail = f"{file.relative} ({file.sha256[:12]}): {twice} record id(s) are there more than once"
        found.findings.append(("repeated record id", detail))


class _Changed(Exception):
    pass


class _Kept:
    """Tasks and sources on their way into the index, some hundred at a time.

    :ivar rejected: how many records of the file are set aside.
    """

    def __init__(self, index: sqlite3.Connection) -> None:
        self._index = index
        self.rejected = 0
        self._tasks: list[tuple[str, str]] = []
        self._sources: list[tuple[str, str, str, str]] = []
        self._held = 0

    def add(self, name: str, task: Mapping[str, Any], file: str, record: Record) -> None:
        content = _encode(task)
        self._tasks.append((name, content))
        self._sources.append((name, file, record.record_id, record.sha256))
        self._held += len(content)
        if len(self._tasks) >= _AT_ONCE or self._held >= _HELD_CHARACTERS:
            self.flush()

    def flush(self) -> None:
        self._index.executemany(
            "INSERT INTO task (id, content) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET copies = copies + 1",
            self._tasks,
        )
        self._index.executemany("INSERT INTO source (task, file, record, sha256) VALUES (?, ?, ?, ?)", self._sources)
        self._tasks, self._sources, self._held = [], [], 0


_encode = json.JSONEncoder(ensure_ascii=False).encode


def _keep(
    project: Project, file: SourceFile, record: Record | BadRecord, index: sqlite3.Connection, kept: _Kept
) -> None:
    if isinstance(record, Record):
        origin = {"file": file.relative, "record": record.record_id, "sha256": record.sha256}
        meta = {"source": f"{file.relative}:{record.line}", **record.meta}
        try:
            task = build_task(project, content=record.content, meta=meta, sources=[origin])
        except InvalidInput as error:
            text = record.content.get("text")
            record = BadRecord(record.line, str(error), record.sha256, text, record.record_id)
        else:
            kept.add(task["labelops"]["task_id"], task, file.relative, record)
            return
    kept.rejected += 1
    _reject(index, _entry(project, file, record))


def _entry(project: Project, file: SourceFile, bad: BadRecord) -> dict[str, Any]:
    entry: dict[str, Any] = {"file": file.relative, "line": bad.line, "reason": bad.reason, "sha256": bad.sha256}
    if bad.record_id is not None:
        entry["record"] = bad.record_id
    if bad.content:
        entry["content"] = bad.content
    # Staging is no place for content that the quarantine may not hold.
    return allowed(entry, project.policy.quarantine_exposure)


def _reject(index: sqlite3.Connection, entry: dict[str, Any]) -> None:
    index.execute("INSERT INTO bad (entry) VALUES (?)", (canonical_json(entry).decode("utf-8"),))


def _stage(index: sqlite3.Connection, known: Callable[[list[str]], Iterable[str]] | None, found: Ingested) -> None:
    counts = found.counts
    if index.execute("SELECT 1 FROM task WHERE copies > 1 LIMIT 1").fetchone():
        index.execute("CREATE INDEX source_task ON source (task)")
    with atomic_file(found.tasks) as out:
        for name, content, copies in _fresh(index, known, counts):
            # A task of one record was stored as it is staged.
            out.write((content if copies == 1 else _merged(index, name, content)).encode("utf-8") + b"\n")
            counts["tasks"] += 1
    with atomic_file(found.sources) as out:
        for task, file, record, digest in index.execute(
            "SELECT task, file, record, sha256 FROM source ORDER BY number"
        ):
            counts["records"] += 1
            out.write(canonical_json({"task_id": task, "file": file, "record": record, "sha256": digest}) + b"\n")
    with atomic_file(found.bad) as out:
        for (entry,) in index.execute("SELECT entry FROM bad ORDER BY number"):
            counts["bad"] += 1
            out.write(entry.encode("utf-8") + b"\n")
    counts["duplicates"] = counts["records"] - counts["tasks"] - counts["known"]


def _fresh(
    index: sqlite3.Connection, known: Callable[[list[str]], Iterable[str]] | None, counts: dict[str, int]
) -> Iterator[tuple[str, str, int]]:
    """Yield ``(task id, task, number of records)`` in the order of files and lines, those that are known left out."""
    last = 0
    while block := index.execute(
        "SELECT number, id FROM task WHERE number > ? ORDER BY number LIMIT ?", (last, _AT_ONCE)
    ).fetchall():
        there = set(known([name for _, name in block])) if known else set()
        counts["known"] += len(there.intersection(name for _, name in block))
        tasks = "SELECT id, content, copies FROM task WHERE number > ? AND number <= ? ORDER BY number"
        # One by one: five hundred of the largest records would not fit into memory.
        for name, content, copies in index.execute(tasks, (last, block[-1][0])):
            if name not in there:
                yield name, content, copies
        last = block[-1][0]


def _merged(index: sqlite3.Connection, name: str, content: str) -> str:
    rows = index.execute(
        "SELECT file, record, sha256 FROM source WHERE task = ? ORDER BY number LIMIT ?", (name, SOURCES_IN_TASK)
    )
    task = json.loads(content)
    task["labelops"]["sources"] = [{"file": file, "record": record, "sha256": digest} for file, record, digest in rows]
    return _encode(task)
