"""Answers straight from Prodigy's database, as ``db-out`` gives them: JSON lines, or Parquet with typed columns.

This is no dataset version: nothing is resolved, approved or frozen, and the content goes out as it is stored. Two files
are written, ``<out>`` and ``<out>.manifest.json``, which says what is in it; rows that could not be taken go into
``<out>.rejected.jsonl`` with their ids and the reason. The file appears under its name whole, and the manifest before
it; it is not forced to the disk, but a file that lost its end in a power failure does not match the manifest's digest.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from include.base.canonical import canonical_json, sha256_hex
from include.base.disk import writing_to
from include.base.errors import InvalidInput
from include.base.store import atomic_write, measure, read_json
from include.systems.prodigy.client import ProdigyClient
from include.systems.prodigy.content import parse_content, stored_bytes
from include.systems.prodigy.values import Piece, RowListing

__all__ = ["FORMATS", "Manifest", "export_answers"]

FORMATS = ("jsonl", "parquet")

BLOCK_ROWS = 256
"""How many rows are joined and written at a time: few enough to stay in the processor's cache."""

CHECKPOINT_BYTES = 64 * 1024 * 1024
"""After how many bytes the journal says again how far an export has come."""

GROUP_ROWS = 50_000
"""Rows in a row group of Parquet, at most."""

GROUP_BYTES = 64 * 1024 * 1024
"""Bytes of columns in a row group, about."""

LISTED_REJECTS = 10_000
"""How many of the rows left out are listed; all are counted."""

LISTED_ROWS = 1000
"""How many rows of a listing make a piece."""

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Manifest:
    """What an export holds; :meth:`as_json` is its manifest file. It does not depend on the clock.

    :param rows: answers in the file.
    :param sha256: of the file's bytes.
    :param first_link, last_link: the links of the first and the last row that were read.
    :param upto: no link above this one was looked at.
    :param rejected: rows that were left out, for they are no JSON object; the first 10,000 are listed in a file.
    :param rewritten: JSON lines: rows whose line breaks between two tokens became spaces; all others are byte for byte
        as stored.
    :param unreadable: Parquet: rows of which a column could not be filled; their ``problem`` says which.
    :param findings: with ``since``: what became of rows exported before.
    :param before, state: with ``since``: SHA-256 of the state gone on from, and the state to go on with.
    :param act: names this export, also over interruptions.
    """

    format: str
    dataset: str | None
    session: str | None
    rows: int = 0
    bytes: int = 0
    sha256: str = ""
    first_link: int = 0
    last_link: int = 0
    upto: int = 0
    rejected: int = 0
    rewritten: int = 0
    unreadable: int = 0
    findings: tuple[Mapping[str, Any], ...] = ()
    before: str | None = None
    state: str | None = None
    act: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the manifest's content."""
        return {"kind": "labelops-answers", "version": 1, **self.__dict__, "findings": list(self.findings)}


def export_answers(
    source: ProdigyClient,
    out: Path,
    *,
    format: str,
    dataset: str | None = None,
    session: str | None = None,
    since: Path | None = None,
    raw: bool = False,
    validate: bool = False,
    record: Callable[[Manifest], None] = lambda manifest: None,
    progress: Progress = lambda rows: None,
) -> Manifest:
    """Write the answers of a dataset, of a session, or of a session within a dataset, in link order.

    Only links that are there at the start are gone through. JSON lines are the stored bytes, a row each; an export that
    was interrupted goes on where its journal says (``<out>.part``, ``<out>.journal.json``), after reading again what
    it had written. One to Parquet begins anew.

    :param format: one of :data:`FORMATS`.
    :param since: file with the state of an earlier export: only what is new or changed since is written, and the file
        is replaced by the new state, last of all. Where it is not there everything is written. Rows may come a second
        time; see :meth:`ProdigyClient.new_rows`.
    :param raw: Parquet: also keep the stored bytes.
    :param validate: JSON lines: read each row as JSON. Without it a row has to begin and end as an object does, which
        Prodigy's own rows always do.
    :param record: called with the manifest when all is written, before the file gets its name: what cannot be put on
        record is not exported.
    :param progress: called with the number of rows so far, every now and then.
    :raises InvalidInput: for a format, or a combination, that there is not, and where ``out`` is there already.
    :raises NotFound: when there is no such dataset or session.
    :raises Unavailable: when the disk is full.
    """
    if format not in FORMATS:
        raise InvalidInput(f"format: found {format!r}; allowed: {', '.join(FORMATS)}")
    if since is not None and (session is not None or dataset is None):
        raise InvalidInput("since: found with a session; allowed: with a dataset alone, whose links it is about")
    work = _Work(source, out, Manifest(format, dataset, session), since)
    finished = work.finished_before()
    if finished is not None:
        return finished
    with writing_to(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        written = _write_lines(work, validate, progress) if format == "jsonl" else _write_columns(work, raw, progress)
    manifest = work.listed(written)
    record(manifest)
    work.place(manifest)
    return manifest


@dataclass
class _Work:
    """One export: where its rows come from and where its files are."""

    source: ProdigyClient
    out: Path
    asked: Manifest
    since: Path | None
    listing: RowListing | None = None
    before: str | None = None
    rejects: list[dict[str, Any]] = field(default_factory=list)
    rejected: int = 0

    def __post_init__(self) -> None:
        if self.since is not None and self.since.exists():
            self.before = self.since.read_text("utf-8")

    def beside(self, name: str) -> Path:
        """Return a file of the export beside the one asked for."""
        return self.out.with_name(f"{self.out.name}.{name}")

    def finished_before(self) -> Manifest | None:
        """Finish an export that ended between its file and its state; refuse to write over any other file."""
        if not self.out.exists():
            return None
        place = self.beside("manifest.json")
        found = read_json(place) if place.exists() else {}
        digest = None if self.before is None else sha256_hex(self.before.encode())
        if self.since is None or found.get("state") is None or found.get("before") != digest:
            raise InvalidInput(
                f"{self.out}: is there already; allowed: a new name, for an export is never written over"
            )
        manifest = Manifest(**{key: value for key, value in found.items() if key not in ("kind", "version")})
        atomic_write(self.since, str(manifest.state).encode())
        return manifest

    def start(self, after: int, upto: int | None, *, sessions: bool) -> Iterator[Piece]:
        """Begin to read, after a link."""
        if self.since is None:
            asked = self.asked
            return self.source.pieces(asked.dataset, session=asked.session, after=after, upto=upto, sessions=sessions)
        assert self.asked.dataset is not None
        self.listing = self.source.new_rows(self.asked.dataset, resume=self.before)
        return _listed_pieces(self.listing)

    def listed(self, manifest: Manifest) -> Manifest:
        """Return the manifest with what the listing noticed, and its state."""
        if self.listing is None:
            return manifest
        names = ("kind", "first_link", "last_link", "seen", "found")
        findings = tuple({name: getattr(one, name) for name in names} for one in self.listing.findings)
        before = None if self.before is None else sha256_hex(self.before.encode())
        return replace(manifest, findings=findings, before=before, state=self.listing.state)

    def reject(self, row: tuple[int, Any, int, int, int], content: bytes, problem: str) -> None:
        """Leave a row out, with the reason."""
        self.rejected += 1
        if len(self.rejects) < LISTED_REJECTS:
            self.rejects.append(
                {
                    "link": row[0],
                    "example": row[2],
                    "row": sha256_hex(content),
                    "bytes": len(content),
                    "problem": problem,
                }
            )

    def place(self, manifest: Manifest) -> None:
        """Give everything its name: rejects and manifest, then the file, and the state last."""
        if self.rejects:
            atomic_write(self.beside("rejected.jsonl"), b"".join(canonical_json(one) + b"\n" for one in self.rejects))
        text = json.dumps(manifest.as_json(), indent=1, ensure_ascii=False) + "\n"
        atomic_write(self.beside("manifest.json"), text.encode())
        os.replace(self.beside("part"), self.out)
        self.beside("journal.json").unlink(missing_ok=True)
        if self.since is not None:
            atomic_write(self.since, str(manifest.state).encode())


def _listed_pieces(listing: RowListing) -> Iterator[Piece]:
    rows: list[tuple[int, Any, int, int, int]] = []
    sessions: dict[int, str] = {}
    for row in listing:
        rows.append((row.link_id, row.raw, row.example_id, row.input_hash, row.task_hash))
        if row.session is not None:
            sessions[row.example_id] = row.session
        if len(rows) == LISTED_ROWS:
            yield Piece(rows, sessions)
            rows, sessions = [], {}
    if rows:
        yield Piece(rows, sessions)


# Parquet -------------------------------------------------------------------------------------------------------------


def _write_columns(work: _Work, raw: bool, progress: Progress) -> Manifest:
    """Write an export to its ``.part`` file, and return its manifest."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from include.exports.answer_columns import columns_of, schema_of

    asked = work.asked
    upto = work.source.newest(asked.dataset, session=asked.session).last_link
    manifest = replace(asked, upto=upto)
    schema = schema_of(raw)
    part = work.beside("part")
    held: list[pa.RecordBatch] = []
    with part.open("wb") as out, pq.ParquetWriter(out, schema, compression="zstd", compression_level=1) as writer:

        def flush() -> None:
            table = pa.Table.from_batches(held, schema)
            held.clear()
            writer.write_table(table, row_group_size=GROUP_ROWS)

        for piece in work.start(0, upto, sessions=True):
            batch, unreadable = columns_of(piece, asked.dataset or "", raw=raw, reject=work.reject)
            held.append(batch)
            manifest = replace(
                manifest,
                rows=manifest.rows + batch.num_rows,
                unreadable=manifest.unreadable + unreadable,
                first_link=manifest.first_link or piece.rows[0][0],
                last_link=piece.rows[-1][0],
                rejected=work.rejected,
            )
            del piece, batch  # before the next one is read
            if sum(one.num_rows for one in held) >= GROUP_ROWS or sum(one.nbytes for one in held) >= GROUP_BYTES:
                flush()
                progress(manifest.rows)
        flush()
    written = measure(part)
    return replace(manifest, sha256=written.sha256, bytes=written.size)


# JSON lines -----------------------------------------------------------------------------------------------------------


def _write_lines(work: _Work, validate: bool, progress: Progress) -> Manifest:
    journal = _Journal(work)
    manifest, state = journal.begin()
    with work.beside("part").open("r+b" if manifest.bytes else "wb") as out:
        out.seek(manifest.bytes)
        out.truncate()
        lines = _Lines(work, out, state, manifest, validate)
        saved = manifest.bytes
        for piece in work.start(manifest.last_link, manifest.upto, sessions=False):
            lines.write(piece)
            del piece  # before the next one is read
            if lines.manifest.bytes - saved >= CHECKPOINT_BYTES:
                saved = lines.manifest.bytes
                out.flush()
                journal.save(lines.manifest, state)
                progress(lines.manifest.rows)
        return replace(lines.manifest, sha256=state.hexdigest())


class _Lines:
    """Writes pieces as lines, and counts and digests them."""

    def __init__(self, work: _Work, out: IO[bytes], state: Any, manifest: Manifest, validate: bool) -> None:
        self._work, self._out, self._state = work, out, state
        self._validate = validate
        self.manifest = manifest

    def write(self, piece: Piece) -> None:
        """Write a piece of rows."""
        rows = piece.rows
        written = size = 0
        for first in range(0, len(rows), BLOCK_ROWS):
            some = rows[first : first + BLOCK_ROWS]
            contents = [row[1] for row in some]
            if self._validate or not _are_lines(contents):
                contents = self._checked(some)
            contents.append(b"")
            block = b"\n".join(contents)
            if block.count(b"\n") != len(contents) - 1 or b"\r" in block:
                contents = [*self._checked(some), b""]
                block = b"\n".join(contents)
            self._out.write(block)
            self._state.update(block)
            written += len(contents) - 1
            size += len(block)
        if rows:
            done = self.manifest
            self.manifest = replace(
                done,
                rows=done.rows + written,
                bytes=done.bytes + size,
                first_link=done.first_link or rows[0][0],
                last_link=rows[-1][0],
                rejected=self._work.rejected,
            )

    def _checked(self, rows: Iterable[tuple[int, Any, int, int, int]]) -> list[bytes]:
        """Return the rows that are JSON objects, each on one line; note the others."""
        kept = []
        for row in rows:
            content = stored_bytes(row[1])
            try:
                parse_content(content)
            except InvalidInput as error:
                self._work.reject(row, content, str(error))
                continue
            line = content.strip(b" \t\r\n")
            if b"\n" in line or b"\r" in line:
                # Within JSON a line break is white space; in a string it would be written \n.
                line = line.replace(b"\r\n", b" ").replace(b"\n", b" ").replace(b"\r", b" ")
            if line != content:
                self.manifest = replace(self.manifest, rewritten=self.manifest.rewritten + 1)
            kept.append(line)
        return kept


def _are_lines(contents: list[Any]) -> bool:
    """Tell whether all of some rows are bytes that begin and end as an object does."""
    try:
        return all(content[0] == 123 and content[-1] == 125 for content in contents)
    except IndexError:
        return False


class _Journal:
    """How far an export of lines has come, in a file beside it."""

    def __init__(self, work: _Work) -> None:
        self._work = work
        self._place = work.beside("journal.json")

    def begin(self) -> tuple[Manifest, Any]:
        """Return where to go on, and the digest's state there; a new beginning where nothing was interrupted."""
        asked, source = self._work.asked, self._work.source
        fresh = replace(asked, upto=source.newest(asked.dataset, session=asked.session).last_link, act=uuid.uuid4().hex)
        part = self._work.beside("part")
        if self._work.since is not None or not self._place.exists() or not part.exists():
            return fresh, hashlib.sha256()
        found = read_json(self._place)
        manifest = Manifest(**found["manifest"])
        if (manifest.format, manifest.dataset, manifest.session) != (asked.format, asked.dataset, asked.session):
            raise InvalidInput(
                f"{self._place}: is of dataset {manifest.dataset!r}, session {manifest.session!r}; allowed: going on "
                "with that, another name, or removing it"
            )
        state = hashlib.sha256()
        with part.open("rb") as content:
            left = manifest.bytes
            while left and (block := content.read(min(left, 1024 * 1024))):
                state.update(block)
                left -= len(block)
        if left or state.hexdigest() != found["sha256"]:
            return fresh, hashlib.sha256()
        self._work.rejects.extend(found["rejects"])
        self._work.rejected = manifest.rejected
        return replace(manifest, findings=()), state

    def save(self, manifest: Manifest, state: Any) -> None:
        """Note how far the file was written."""
        if self._work.since is None:
            found = {"manifest": manifest.__dict__, "sha256": state.hexdigest(), "rejects": self._work.rejects}
            # Not synced: that would make the disk take all that was written so far, which costs more than the export.
            # A journal that a power failure left without its file is found out by the digest.
            temporary = self._place.with_suffix(".new")
            temporary.write_text(json.dumps(found), "utf-8")
            os.replace(temporary, self._place)
