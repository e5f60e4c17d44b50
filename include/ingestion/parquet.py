"""Parquet, a row at a time, in memory that depends on its largest page alone.

What a file unpacks to is in the header of each of its pages, and is added up before any is unpacked: the sizes in the
file's footer are those of whole columns, and only what its writer says.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import IO, Any

from include.base.errors import LabelopsError
from include.ingestion.records import BadFile, BadRecord, Bounds, Record, record_of, too_long
from include.ingestion.scan import SourceFile
from include.projects.model import SourceRoute

__all__ = ["FOOTER_MEGABYTES", "PAGE_MEGABYTES", "read_parquet"]

PAGE_MEGABYTES = 256
"""What one page may unpack to. Most writers make pages of 1 MB; some put a column of a row group into one."""

FOOTER_MEGABYTES = 16
"""What a footer may take: it lists every column of every group of rows."""

_TOGETHER = 32 << 20
"""Bytes that rows read together may have: each can repeat a value as large as the page that it stands in once."""

_BUFFER = 1 << 20


def read_parquet(file: SourceFile, stream: IO[bytes], bounds: Bounds) -> Iterator[Record | BadRecord]:
    """Yield one record for each row.

    :raises BadFile: for what is no whole Parquet file, lacks a column, or unpacks to more than it may.
    :raises OSError: when the file cannot be read now.
    """
    try:
        yield from _records(file.route, stream, bounds)
    except LabelopsError:
        raise
    except Exception as error:  # what pyarrow raises for a damaged file depends on where the damage is
        if isinstance(error, (ConnectionError, TimeoutError)) or getattr(error, "errno", None) is not None:
            raise  # the disk or the network: where pyarrow itself raises such a type, it gives no number
        raise BadFile(f"not a whole Parquet file ({type(error).__name__})") from error


def _records(route: SourceRoute, stream: IO[bytes], bounds: Bounds) -> Iterator[Record | BadRecord]:
    import pyarrow.parquet as parquet

    table = parquet.ParquetFile(stream, buffer_size=_BUFFER)
    bounds.check_records(table.metadata.num_rows)
    columns = _columns(table.schema_arrow.names, route)
    largest = _largest_page(columns, stream, bounds)
    number = size = 0
    for batch in table.iter_batches(batch_size=max(1, min(1000, _TOGETHER // (largest + 1))), columns=columns):
        for place in range(batch.num_rows):
            number += 1
            row = _row(batch, place, number)
            if isinstance(row, BadRecord):
                yield row
                continue
            length = sum(len(value) for value in row.values() if isinstance(value, (str, bytes)))
            size += length
            bounds.check_unpacked(size)
            yield too_long(number, bounds.record) if length > bounds.record else _record(row, number, route, bounds)


def _record(row: dict[str, Any], number: int, route: SourceRoute, bounds: Bounds) -> Record | BadRecord:
    raw = json.dumps(row, sort_keys=True, default=str).encode("utf-8")
    return record_of(number, row, route, raw, bounds.record)


def _row(batch: Any, place: int, number: int) -> dict[str, Any] | BadRecord:
    """Return a row's values by column; where one of them cannot be told, what is wrong with it."""
    row: dict[str, Any] = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            row[name] = column[place].as_py()
        except Exception as error:  # each type of column has errors of its own
            allowed = "text in UTF-8, numbers, times of the years 1 to 9999 in a known time zone"
            return BadRecord(number, f"column {name!r}: not readable ({type(error).__name__}); allowed: {allowed}")
    return row


def _columns(names: list[str], route: SourceRoute) -> list[str]:
    """Return the columns that are read: those that the route needs, and those it would like that are there."""
    needed = [route.text_field, *([route.id_field] if route.id_field else [])]
    missing = [name for name in needed if name not in names]
    if missing:
        found = f"columns: found {len(names)}, without {', '.join(missing)}; needed: {', '.join(needed)}"
        raise BadFile(found, content=", ".join(names))
    return list(dict.fromkeys([*needed, *(name for name in route.meta_fields if name in names)]))


def _largest_page(columns: list[str], stream: IO[bytes], bounds: Bounds) -> int:
    """Return the bytes of the largest page that will be read, unpacked."""
    largest = size = 0
    for column in _columns_stored(stream):
        # A nested column is stored as several, `a.b` and `a.c`; their path begins with its name.
        if not isinstance(column.get(_PATH), list) or column[_PATH][:1] not in [[name.encode()] for name in columns]:
            continue
        for page in _pages(column, stream):
            size, largest = size + page, max(largest, page)
            bounds.check_unpacked(size)
            if page > PAGE_MEGABYTES << 20:
                raise BadFile(
                    f"pages: one of a column unpacks to {page} bytes; allowed: {PAGE_MEGABYTES} MB, where a "
                    "writer's default is 1 MB"
                )
    return largest


def _columns_stored(stream: IO[bytes]) -> Iterator[dict[int, Any]]:
    """Yield what the footer says of each column of each group of rows.

    pyarrow would tell the same, and where a column's statistics are damaged it ends the whole process.
    """
    stream.seek(-8, io.SEEK_END)
    length = int.from_bytes(stream.read(4), "little")
    if length > FOOTER_MEGABYTES << 20:
        raise BadFile(f"footer: takes {length} bytes; allowed: {FOOTER_MEGABYTES} MB")
    stream.seek(-8 - length, io.SEEK_END)
    groups = _struct(io.BytesIO(stream.read(length))).get(_ROW_GROUPS, [])
    for group in groups if isinstance(groups, list) else ():
        chunks = group.get(_COLUMNS, []) if isinstance(group, dict) else ()
        for chunk in chunks if isinstance(chunks, list) else ():
            column = chunk.get(_META_DATA) if isinstance(chunk, dict) else None
            if isinstance(column, dict):
                yield column


def _pages(column: dict[int, Any], stream: IO[bytes]) -> Iterator[int]:
    """Yield the unpacked size of each page of a column, from the headers that stand before the pages."""
    starts = [at for at in (column.get(_DICTIONARY_PAGE), column.get(_DATA_PAGE)) if isinstance(at, int) and at]
    place, stored = min(starts, default=0), column.get(_STORED)
    end, length = place + stored if isinstance(stored, int) else -1, stream.seek(0, io.SEEK_END)
    if not 0 <= place <= end <= length:
        raise BadFile("not a whole Parquet file (a column is stored outside of it)")
    while place < end:
        stream.seek(place)
        header = _struct(stream)
        unpacked, packed = header.get(_UNPACKED), header.get(_PACKED)
        if not (isinstance(unpacked, int) and isinstance(packed, int) and unpacked >= 0 and packed >= 0):
            raise BadFile("not a whole Parquet file (a page has no size)")
        yield unpacked
        place = stream.tell() + packed


# Thrift's compact protocol, as far as footer and page headers need it (parquet.thrift).

_UNPACKED, _PACKED = 2, 3
"""Ids of the fields ``uncompressed_page_size`` and ``compressed_page_size`` of a PageHeader."""

_ROW_GROUPS, _COLUMNS, _META_DATA = 4, 1, 3
"""Ids of ``row_groups`` in FileMetaData, ``columns`` in RowGroup, ``meta_data`` in ColumnChunk."""

_PATH, _STORED, _DATA_PAGE, _DICTIONARY_PAGE = 3, 7, 9, 11
"""Ids of ``path_in_schema``, ``total_compressed_size``, ``data_page_offset`` and ``dictionary_page_offset`` of a
ColumnMetaData.
"""

_DEEPEST = 20

_LONGEST = 1 << 20
"""Bytes of a value in a page header, such as the least and the greatest value of a page."""


def _struct(stream: IO[bytes], depth: int = 0) -> dict[int, Any]:
    """Read a struct: its values by field id."""
    if depth > _DEEPEST:
        raise BadFile("not a Parquet file (a header is nested too deep)")
    found: dict[int, Any] = {}
    field = 0
    while byte := _byte(stream):
        field = field + (byte >> 4) if byte >> 4 else _zigzag(stream)
        kind = byte & 15
        found[field] = kind == 1 if kind in (1, 2) else _value(stream, kind, depth)  # a field's truth is in its type
    return found


def _value(stream: IO[bytes], kind: int, depth: int) -> Any:
    if kind in (1, 2):  # in a list, a byte
        return _byte(stream) == 1
    if kind in (4, 5, 6):  # whole numbers of 16, 32, 64 bits
        return _zigzag(stream)
    if kind in (3, 7, 8):  # a byte, a fraction, bytes
        length = {3: 1, 7: 8}.get(kind) or _varint(stream)
        # The footer is in memory already, and what it says of itself may be long, as the schema of a wide table.
        content = stream.read(length) if length <= _LONGEST or isinstance(stream, io.BytesIO) else b""
        if len(content) < length:
            raise BadFile("not a whole Parquet file (a header is cut off)")
        return content
    if kind == 9:
        head = _byte(stream)
        length = head >> 4 if head >> 4 < 15 else _varint(stream)
        return [_value(stream, head & 15, depth + 1) for _ in range(length)]
    if kind == 12:
        return _struct(stream, depth + 1)
    raise BadFile(f"not a Parquet file (a header holds a value of type {kind})")


def _zigzag(stream: IO[bytes]) -> int:
    number = _varint(stream)
    return number >> 1 ^ -(number & 1)


def _varint(stream: IO[bytes]) -> int:
    number = 0
    for shift in range(0, 64, 7):
        byte = _byte(stream)
        number |= (byte & 127) << shift
        if byte < 128:
            return number
    raise BadFile("not a Parquet file (a number in a page header has no end)")


def _byte(stream: IO[bytes]) -> int:
    byte = stream.read(1)
    if not byte:
        raise BadFile("not a whole Parquet file (a page header is cut off)")
    return byte[0]
