"""What comes out of a source file, one record after the other, and how much of it may."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from include.base.errors import InvalidInput
from include.projects.model import Source, SourceRoute

__all__ = ["BadFile", "BadRecord", "Bounds", "Record", "digest_of_raw", "record_of", "too_long"]


class BadFile(InvalidInput):
    """The whole file is set aside.

    :param reason: what was found and what is allowed, without a word of what the file holds.
    :param content: the part of the file that shows it, for a quarantine that may hold it.
    """

    def __init__(self, reason: str, line: int | None = None, content: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = line
        self.content = content


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
    """One record that cannot become a task.

    :param line: where it is, from 1; None for a whole file.
    :param reason: what was found and what is allowed, without a word of what the record holds.
    :param content: its text, for a quarantine that may hold it.
    """

    line: int | None
    reason: str
    sha256: str | None = None
    content: str | None = None
    record_id: str | None = None


class Bounds:
    """What may come out of one file: a small file can unpack to any size.

    :ivar record: bytes of one record.
    """

    def __init__(self, source: Source) -> None:
        self.record = source.max_record_kilobytes << 10
        self._unpacked = source.max_unpacked_megabytes
        self._records = source.max_records

    def check_unpacked(self, size: int) -> None:
        """Say whether a file may unpack to so many bytes.

        :raises BadFile: when it may not.
        """
        if size > self._unpacked << 20:
            raise BadFile(
                f"size: it unpacks to more than source.max_unpacked_megabytes allows ({self._unpacked}); "
                "allowed: smaller files, or a higher bound"
            )

    def check_records(self, number: int) -> None:
        """Say whether a file may hold so many records.

        :raises BadFile: when it may not.
        """
        if number > self._records:
            raise BadFile(
                f"records: it holds more than source.max_records allows ({self._records}); "
                "allowed: files of fewer records, or a higher bound"
            )


def too_long(line: int, limit: int) -> BadRecord:
    """Return what is said of a record that is longer than a record may be, and was not read for that."""
    return BadRecord(line, f"the record is longer than max_record_kilobytes allows ({limit >> 10})")


def record_of(line: int, value: Mapping[str, Any], route: SourceRoute, raw: bytes, limit: int) -> Record | BadRecord:
    """Return the record that some fields make.

    :param raw: its bytes in the file, which it is known by.
    :param limit: bytes that its text may have.
    """
    digest = digest_of_raw(raw)
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
    if problem := _characters(text):
        return f"field {name!r}: {problem}"
    if not text.strip():
        return f"field {name!r}: it is empty"
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


def digest_of_raw(raw: bytes) -> str:
    """Return the SHA-256 that a record is known by: of its bytes without the end of the line."""
    return hashlib.sha256(raw.rstrip(b"\r\n")).hexdigest()
