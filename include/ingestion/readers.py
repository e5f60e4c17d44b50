"""Reading source files record by record, in memory that depends on the largest allowed record alone.

One reader per format. A malformed record becomes a :class:`BadRecord` and the next one is read; a file that cannot be
trusted as a whole (wrong encoding of its header, a missing column, a broken archive) raises :class:`BadFile`.
"""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

from include.ingestion.parquet import read_parquet
from include.ingestion.records import BadFile, BadRecord, Bounds, Record, digest_of_raw, record_of, too_long
from include.ingestion.scan import SourceFile
from include.projects.model import Source, SourceRoute

__all__ = ["FORMATS", "read"]


def read(file: SourceFile, source: Source) -> Iterator[Record | BadRecord]:
    """Yield a file's records in order.

    ``.txt``: one record a line, blank lines are none. ``.jsonl``, ``.ndjson``: one object a line. ``.csv``, ``.tsv``: a
    header, then one record a row, which may span lines inside quotes. All of these also as ``.gz``. ``.parquet``: one
    record a row. Images and audio: one record a file. Text is UTF-8, with or without a byte order mark.

    :param source: how large a file and a record may be, and how much may come out of a file.
    :raises BadFile: for a file that is refused as a whole; what it yielded before counts for nothing.
    :raises OSError: for a file that cannot be read now.
    """
    name = file.relative.lower()
    packed = name.endswith(".gz")
    extension = "." + name.removesuffix(".gz").rpartition(".")[2]
    reader = FORMATS.get(extension)
    if reader is None or (packed and extension not in _LINES):
        raise BadFile(f"extension: found {extension!r}; allowed: {', '.join(sorted(FORMATS))}")
    if file.size == 0:
        raise BadFile("the file is empty")
    if file.size > source.max_file_megabytes << 20:
        raise BadFile(
            f"size: found {file.size} bytes; allowed: {source.max_file_megabytes} MB (source.max_file_megabytes)"
        )
    bounds = Bounds(source)
    try:
        with file.path.open("rb") as raw:
            stream: Any = _Unpacking(raw, bounds) if packed else raw
            for number, record in enumerate(reader(file, stream, bounds), 1):
                bounds.check_records(number)
                yield record
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BadFile(f"the compressed file is damaged or cut off ({type(error).__name__})") from error


class _Unpacking(gzip.GzipFile):
    """Gives lines for as long as they come to no more than a file may unpack to."""

    def __init__(self, raw: IO[bytes], bounds: Bounds) -> None:
        super().__init__(fileobj=raw)
        self._bounds = bounds

    def readline(self, size: int | None = -1) -> bytes:
        line = super().readline(size)
        self._bounds.check_unpacked(self.tell())
        return line


@dataclass(frozen=True)
class _Line:
    number: int
    raw: bytes
    too_long: bool = False


def _lines(stream: IO[bytes], limit: int) -> Iterator[_Line]:
    """Yield lines with their ends; of one longer than the limit only the start is ever in memory."""
    number = 0
    while piece := stream.readline(limit + 2):
        number += 1
        if number == 1:
            if piece.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise BadFile("encoding: found a UTF-16 byte order mark at byte 0; allowed: UTF-8", line=1)
            piece = piece.removeprefix(b"\xef\xbb\xbf")
        over = len(piece.rstrip(b"\r\n")) > limit
        whole = piece
        while over and whole and not whole.endswith(b"\n"):
            whole = stream.readline(1 << 16)
        yield _Line(number, piece, over)


def _blank(raw: bytes) -> bool:
    """Tell whether a line is no record, by the white space of JSON: what else looks blank is a record that is wrong."""
    return not raw.strip(b" \t\r\n")


def _decoded(line: _Line) -> str | BadRecord:
    try:
        return line.raw.decode("utf-8")
    except UnicodeDecodeError as error:
        reason = f"encoding: byte {error.start + 1} of the line is not UTF-8 (0x{line.raw[error.start]:02x})"
        return BadRecord(line.number, reason, digest_of_raw(line.raw), line.raw.decode("utf-8", "replace"))


def _texts(stream: IO[bytes], limit: int) -> Iterator[tuple[_Line, str] | BadRecord]:
    """Yield the lines that are not blank with their text."""
    for line in _lines(stream, limit):
        if line.too_long:
            yield too_long(line.number, limit)
        elif not _blank(line.raw):
            text = _decoded(line)
            yield text if isinstance(text, BadRecord) else (line, text)


def _read_text(file: SourceFile, stream: IO[bytes], bounds: Bounds) -> Iterator[Record | BadRecord]:
    for found in _texts(stream, bounds.record):
        if isinstance(found, BadRecord):
            yield found
            continue
        line, text = found
        yield record_of(line.number, {"text": text.rstrip("\r\n")}, SourceRoute(match="*"), line.raw, bounds.record)


def _read_json_lines(file: SourceFile, stream: IO[bytes], bounds: Bounds) -> Iterator[Record | BadRecord]:
    for found in _texts(stream, bounds.record):
        if isinstance(found, BadRecord):
            yield found
            continue
        line, text = found
        try:
            # A byte order mark in the middle of a file is named as such by `loads` alone.
            value = json.loads(text) if text.startswith("\ufeff") else _DECODER.decode(text)
        except (ValueError, RecursionError) as error:
            where = f" at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else ""
            why = error.msg if isinstance(error, json.JSONDecodeError) else str(error).partition("\n")[0]
            yield BadRecord(line.number, f"not JSON: {why}{where}", digest_of_raw(line.raw), text)
            continue
        if not isinstance(value, dict):
            reason = f"found {type(value).__name__}; allowed: a JSON object"
            yield BadRecord(line.number, reason, digest_of_raw(line.raw), text)
            continue
        yield record_of(line.number, value, file.route, line.raw, bounds.record)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _read_table(file: SourceFile, stream: IO[bytes], bounds: Bounds) -> Iterator[Record | BadRecord]:
    limit = bounds.record
    # One bound on a record is enough: the csv module has one of its own, of 128 kB, for the whole process.
    csv.field_size_limit(max(csv.field_size_limit(), limit))
    waiting: deque[_Line] = deque()
    source = _lines(stream, limit)
    first = _take(waiting, source)
    if first is None:
        raise BadFile("the file holds no header")
    try:
        header_text = first.raw.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise BadFile(f"encoding: byte {error.start} of the file is not UTF-8", line=1) from error
    header, delimiter = _header(file, header_text)
    while (line := _take(waiting, source)) is not None:
        if line.too_long:
            yield too_long(line.number, limit)
        elif not _blank(line.raw) or (delimiter == "\t" and b"\t" in line.raw):
            yield _row(line, waiting, source, header, delimiter, file.route, limit)


def _header(file: SourceFile, text: str) -> tuple[list[str], str]:
    tabs = ".tsv" in file.relative.lower()[-7:]
    wanted = [file.route.text_field, *([file.route.id_field] if file.route.id_field else [])]
    most = 0
    for delimiter in ("\t",) if tabs else (",", ";", "\t", "|"):
        try:
            names = [name.strip() for name in next(csv.reader([text], delimiter=delimiter))]
        except (csv.Error, StopIteration):
            continue
        if all(name in names for name in wanted):
            if len(set(names)) != len(names):
                raise BadFile("header: a column name is there twice", line=1)
            return names, delimiter
        most = max(most, len(names))
    raise BadFile(
        f"header: found {most} column(s), not those needed; needed: {', '.join(wanted)}", line=1, content=text
    )


def _take(waiting: deque[_Line], source: Iterator[_Line]) -> _Line | None:
    return waiting.popleft() if waiting else next(source, None)


def _row(
    line: _Line, waiting: deque[_Line], source: Iterator[_Line],
    header: list[str], delimiter: str, route: SourceRoute, limit: int,
) -> Record | BadRecord:  # fmt: skip
    """Return the row that starts at a line. Where it turns out wrong, the lines it took after the first are given back:
    a stray quote costs one line, not all that follow.
    """
    taken = [line]
    size = len(line.raw)
    open_quote = line.raw.count(b'"') % 2 == 1
    while open_quote:
        following = _take(waiting, source)
        if following is None:
            break
        taken.append(following)
        size += len(following.raw)
        if following.too_long or size > limit:
            break
        open_quote = following.raw.count(b'"') % 2 == 0
    found = _parsed(taken, header, delimiter, size, limit)
    if isinstance(found, BadRecord):
        waiting.extendleft(reversed(taken[1:]))
        return found
    return record_of(line.number, found, route, b"".join(one.raw for one in taken), limit)


def _parsed(taken: list[_Line], header: list[str], delimiter: str, size: int, limit: int) -> dict[str, str] | BadRecord:
    first = taken[0]
    texts = []
    for one in taken:
        text = _decoded(one)
        if isinstance(text, BadRecord):
            return text if one is first else BadRecord(first.number, text.reason, digest_of_raw(first.raw))
        texts.append(text)
    if size > limit or any(one.too_long for one in taken):
        return BadRecord(
            first.number, "a quote is never closed within max_record_kilobytes", digest_of_raw(first.raw), texts[0]
        )
    try:
        rows = list(csv.reader(texts, delimiter=delimiter, strict=True))
    except csv.Error as error:
        return BadRecord(first.number, f"malformed row: {error}", digest_of_raw(first.raw), texts[0])
    if len(rows) != 1 or len(rows[0]) != len(header):
        found = len(rows[0]) if rows else 0
        return BadRecord(
            first.number, f"found {found} values; the header has {len(header)}", digest_of_raw(first.raw), texts[0]
        )
    return dict(zip(header, rows[0], strict=True))


_MAGIC: dict[str, Callable[[bytes], bool]] = {
    ".png": lambda head: head.startswith(b"\x89PNG\r\n\x1a\n"),
    ".jpg": lambda head: head.startswith(b"\xff\xd8\xff"),
    ".jpeg": lambda head: head.startswith(b"\xff\xd8\xff"),
    ".gif": lambda head: head.startswith((b"GIF87a", b"GIF89a")),
    ".webp": lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP",
    ".wav": lambda head: head[:4] == b"RIFF" and head[8:12] == b"WAVE",
    ".mp3": lambda head: head.startswith(b"ID3") or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0),
    ".flac": lambda head: head.startswith(b"fLaC"),
    ".ogg": lambda head: head.startswith(b"OggS"),
}
_AUDIO = (".wav", ".mp3", ".flac", ".ogg")


def _read_media(file: SourceFile, stream: IO[bytes], bounds: Bounds) -> Iterator[Record | BadRecord]:
    extension = "." + file.relative.lower().rpartition(".")[2]
    if not _MAGIC[extension](stream.read(16)):
        raise BadFile(f"the first bytes are not those of a {extension} file")
    # The fragment makes other bytes under the same name another task, and leaves the address usable.
    reference = f"{str(file.path).partition('?')[0]}#sha256={file.sha256}"
    key = "audio" if extension in _AUDIO else "image"
    yield Record(1, file.relative, {key: reference}, {"sha256": file.sha256}, file.sha256)


_LINES = {
    ".txt": _read_text,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".csv": _read_table,
    ".tsv": _read_table,
}
FORMATS: dict[str, Callable[[SourceFile, IO[bytes], Bounds], Iterator[Record | BadRecord]]] = {
    **_LINES,
    ".parquet": read_parquet,
    **dict.fromkeys(_MAGIC, _read_media),
}
"""The reader of each extension."""
