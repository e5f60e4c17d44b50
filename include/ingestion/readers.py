"""Reading source files record by record, in memory that depends on the largest allowed record alone.

One reader per format. A malformed record becomes a :class:`BadRecord` and the next one is read; a file that cannot be
trusted as a whole (wrong encoding of its header, a missing column, a broken archive) raises :class:`BadFile`.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import re
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

from include.base.errors import InvalidInput
from include.ingestion.scan import SourceFile
from include.projects.model import SourceRoute

__all__ = ["FORMATS", "BadFile", "BadRecord", "Record", "read"]


class BadFile(InvalidInput):
    """The whole file is set aside."""

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = line


@dataclass(frozen=True)
class Record:
    """One record: what annotators see (``content``), what goes beside it (``meta``), and the digest of its bytes."""

    line: int
    record_id: str
    content: dict[str, str]
    meta: dict[str, Any]
    sha256: str


@dataclass(frozen=True)
class BadRecord:
    """One record that cannot become a task. ``content`` is its text, for a quarantine that may hold it."""

    line: int
    reason: str
    sha256: str | None = None
    content: str | None = None
    record_id: str | None = None


def read(file: SourceFile, *, max_record_kilobytes: int, max_file_megabytes: int) -> Iterator[Record | BadRecord]:
    """Yield a file's records in order.

    ``.txt``: one record a line, blank lines are none. ``.jsonl``, ``.ndjson``: one object a line. ``.csv``, ``.tsv``: a
    header, then one record a row, which may span lines inside quotes. All of these also as ``.gz``. ``.parquet``: one
    record a row. Images and audio: one record a file. Text is UTF-8, with or without a byte order mark.

    :raises BadFile: for a file that is refused as a whole.
    """
    name = file.relative.lower()
    packed = name.endswith(".gz")
    extension = "." + name.removesuffix(".gz").rpartition(".")[2]
    reader = FORMATS.get(extension)
    if reader is None or (packed and extension not in _LINES):
        raise BadFile(f"extension: found {extension!r}; allowed: {', '.join(sorted(FORMATS))}")
    if file.size == 0:
        raise BadFile("the file is empty")
    if file.size > max_file_megabytes << 20:
        raise BadFile(f"size: found {file.size} bytes; allowed: {max_file_megabytes} MB")
    limit = max_record_kilobytes << 10
    try:
        with file.path.open("rb") as raw:
            if packed:
                with gzip.GzipFile(fileobj=raw) as stream:
                    yield from reader(file, stream, limit)  # type: ignore[arg-type]
            else:
                yield from reader(file, raw, limit)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BadFile(f"the compressed file is damaged or cut off ({error})") from error


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
        too_long = len(piece.rstrip(b"\r\n")) > limit
        whole = piece
        while too_long and whole and not whole.endswith(b"\n"):
            whole = stream.readline(1 << 16)
        yield _Line(number, piece, too_long)


def _too_long(line: _Line, limit: int) -> BadRecord:
    return BadRecord(line.number, f"the record is longer than max_record_kilobytes allows ({limit >> 10})")


def _decoded(line: _Line) -> str | BadRecord:
    try:
        return line.raw.decode("utf-8")
    except UnicodeDecodeError as error:
        reason = f"encoding: byte {error.start + 1} of the line is not UTF-8 (0x{line.raw[error.start]:02x})"
        return BadRecord(line.number, reason, _digest(line.raw), line.raw.decode("utf-8", "replace"))


def _read_text(file: SourceFile, stream: IO[bytes], limit: int) -> Iterator[Record | BadRecord]:
    for line in _lines(stream, limit):
        if line.too_long:
            yield _too_long(line, limit)
            continue
        text = _decoded(line)
        if isinstance(text, BadRecord):
            yield text
        elif text.strip():
            yield _record(line.number, {"text": text.rstrip("\r\n")}, SourceRoute(match="*"), line.raw, limit)


def _read_json_lines(file: SourceFile, stream: IO[bytes], limit: int) -> Iterator[Record | BadRecord]:
    for line in _lines(stream, limit):
        if line.too_long:
            yield _too_long(line, limit)
            continue
        text = _decoded(line)
        if isinstance(text, BadRecord):
            yield text
            continue
        if not text.strip():
            continue
        try:
            # A byte order mark in the middle of a file is named as such by `loads` alone.
            value = json.loads(text) if text.startswith("\ufeff") else _DECODER.decode(text)
        except (ValueError, RecursionError) as error:
            where = f" at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else ""
            why = error.msg if isinstance(error, json.JSONDecodeError) else str(error).partition("\n")[0]
            yield BadRecord(line.number, f"not JSON: {why}{where}", _digest(line.raw), text)
            continue
        if not isinstance(value, dict):
            reason = f"found {type(value).__name__}; allowed: a JSON object"
            yield BadRecord(line.number, reason, _digest(line.raw), text)
            continue
        yield _record(line.number, value, file.route, line.raw, limit)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _read_table(file: SourceFile, stream: IO[bytes], limit: int) -> Iterator[Record | BadRecord]:
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
            yield _too_long(line, limit)
        elif line.raw.strip():
            yield _row(line, waiting, source, header, delimiter, file.route, limit)


def _header(file: SourceFile, text: str) -> tuple[list[str], str]:
    tabs = ".tsv" in file.relative.lower()[-7:]
    best: list[str] = []
    for delimiter in ("\t",) if tabs else (",", ";", "\t", "|"):
        try:
            names = [name.strip() for name in next(csv.reader([text], delimiter=delimiter))]
        except (csv.Error, StopIteration):
            continue
        wanted = [file.route.text_field, *([file.route.id_field] if file.route.id_field else [])]
        if all(name in names for name in wanted):
            if len(set(names)) != len(names):
                raise BadFile("header: a column name is there twice", line=1)
            return names, delimiter
        best = max(best, names, key=len)
    wanted_text = file.route.text_field + (f", {file.route.id_field}" if file.route.id_field else "")
    raise BadFile(f"header: found columns {', '.join(best)[:300] or 'none'}; needed: {wanted_text}", line=1)


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
    return _record(line.number, found, route, b"".join(one.raw for one in taken), limit)


def _parsed(taken: list[_Line], header: list[str], delimiter: str, size: int, limit: int) -> dict[str, str] | BadRecord:
    first = taken[0]
    texts = []
    for one in taken:
        text = _decoded(one)
        if isinstance(text, BadRecord):
            return text if one is first else BadRecord(first.number, text.reason, _digest(first.raw))
        texts.append(text)
    if size > limit or any(one.too_long for one in taken):
        return BadRecord(
            first.number, "a quote is never closed within max_record_kilobytes", _digest(first.raw), texts[0]
        )
    try:
        rows = list(csv.reader(texts, delimiter=delimiter, strict=True))
    except csv.Error as error:
        return BadRecord(first.number, f"malformed row: {error}", _digest(first.raw), texts[0])
    if len(rows) != 1 or len(rows[0]) != len(header):
        found = len(rows[0]) if rows else 0
        return BadRecord(
            first.number, f"found {found} values; the header has {len(header)}", _digest(first.raw), texts[0]
        )
    return dict(zip(header, rows[0], strict=True))


def _read_parquet(file: SourceFile, stream: IO[bytes], limit: int) -> Iterator[Record | BadRecord]:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    try:
        table = parquet.ParquetFile(stream)
        names = table.schema_arrow.names
        needed = [file.route.text_field, *([file.route.id_field] if file.route.id_field else [])]
        missing = [name for name in needed if name not in names]
        if missing:
            raise BadFile(f"columns: found {', '.join(names)[:300]}; missing: {', '.join(missing)}")
        columns = list(dict.fromkeys([*needed, *(name for name in file.route.meta_fields if name in names)]))
        number = 0
        for batch in table.iter_batches(batch_size=1000, columns=columns):
            for value in batch.to_pylist():
                number += 1
                raw = json.dumps(value, sort_keys=True, default=str).encode("utf-8")
                yield _record(number, value, file.route, raw, limit)
    except (arrow.ArrowException, OSError) as error:
        # Arrow's own say nothing of the system; the others come from the place the file is read from, and may pass.
        if isinstance(error, (ConnectionError, TimeoutError)) or getattr(error, "errno", None) is not None:
            raise
        raise BadFile(f"not a whole Parquet file ({type(error).__name__})") from error


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


def _read_media(file: SourceFile, stream: IO[bytes], limit: int) -> Iterator[Record | BadRecord]:
    extension = "." + file.relative.lower().rpartition(".")[2]
    if not _MAGIC[extension](stream.read(16)):
        raise BadFile(f"the first bytes are not those of a {extension} file")
    # The fragment makes other bytes under the same name another task, and leaves the address usable.
    reference = f"{str(file.path).partition('?')[0]}#sha256={file.sha256}"
    key = "audio" if extension in _AUDIO else "image"
    yield Record(1, file.relative, {key: reference}, {"sha256": file.sha256}, file.sha256)


def _record(line: int, value: Mapping[str, Any], route: SourceRoute, raw: bytes, limit: int) -> Record | BadRecord:
    digest = _digest(raw)
    text = value.get(route.text_field)
    record_id, problem = _record_id(value, route, line)
    problem = problem or _text_problem(value, route.text_field, limit)
    if problem:
        return BadRecord(line, problem, digest, raw.decode("utf-8", "replace"), record_id)
    meta = {name: value[name] for name in route.meta_fields if _plain(value.get(name))}
    return Record(line, record_id, {"text": str(text)}, meta, digest)


def _record_id(value: Mapping[str, Any], route: SourceRoute, line: int) -> tuple[str, str | None]:
    if route.id_field is None:
        return str(line), None
    found = value.get(route.id_field)
    if isinstance(found, bool) or not isinstance(found, (str, int)) or not str(found).strip():
        kind = "nothing" if found in (None, "") else type(found).__name__
        return str(line), f"field {route.id_field!r}: found {kind}; allowed: a text or a whole number"
    if isinstance(found, str) and (problem := _characters(found)):
        return str(line), f"field {route.id_field!r}: {problem}"
    return str(found)[:200], None


def _text_problem(value: Mapping[str, Any], name: str, limit: int) -> str | None:
    if name not in value:
        return f"field {name!r}: it is not there; needed: a text"
    text = value[name]
    if not isinstance(text, str):
        return f"field {name!r}: found {type(text).__name__}; allowed: a text"
    if not text.strip():
        return f"field {name!r}: it is empty"
    if problem := _characters(text):
        return f"field {name!r}: {problem}"
    if len(text.encode("utf-8")) > limit:
        return f"field {name!r}: it is longer than max_record_kilobytes allows ({limit >> 10})"
    return None


_NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def _characters(text: str) -> str | None:
    found = _NO_TEXT.search(text)
    if found is None:
        return None
    place, code = found.start() + 1, ord(found[0])
    return f"character {place} is U+{code:04X}, a control character or half of a pair; allowed: text"


def _plain(value: Any) -> bool:
    if isinstance(value, str):
        return _characters(value) is None
    return isinstance(value, (int, bool)) or (isinstance(value, float) and value - value == 0)


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw.rstrip(b"\r\n")).hexdigest()


_LINES = {
    ".txt": _read_text,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".csv": _read_table,
    ".tsv": _read_table,
}
FORMATS: dict[str, Callable[[SourceFile, IO[bytes], int], Iterator[Record | BadRecord]]] = {
    **_LINES,
    ".parquet": _read_parquet,
    **dict.fromkeys(_MAGIC, _read_media),
}
"""The reader of each extension."""
