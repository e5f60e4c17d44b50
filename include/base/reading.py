"""Reading files whose content nobody vouches for: regular files only, so much and no more, JSON in one meaning only.

A pipe or a device in a file's place would be waited for without end; a name that is given twice means one thing to
this reader and another to the next; a value that is nested without end stops whoever walks through it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from include.base.errors import InvalidInput

__all__ = [
    "DEEPEST",
    "JSON_BYTES",
    "StorePath",
    "json_lines",
    "local_path",
    "open_regular",
    "parse_json",
    "read_at_most",
    "read_json",
]

JSON_BYTES = 64 * 1024 * 1024
"""Bytes of a JSON file, or of one line of JSON Lines: it is held in memory whole, at up to a hundred times its size."""

DEEPEST = 500
"""How deep JSON may be nested: half of what Python's stack holds, for whoever walks through it."""

StorePath = Any
"""A :class:`pathlib.Path`, or Airflow's ``ObjectStoragePath``."""


def local_path(path: StorePath) -> Path | None:
    """Return the local file behind ``path``, or None where it lives in a cloud store."""
    if isinstance(path, Path):
        return path
    if getattr(path, "protocol", None) in ("file", "local", ""):
        return Path(path.path)
    return None


def open_regular(path: StorePath) -> IO[bytes]:
    """Open a file for reading, without ever waiting for one that is no file.

    :raises InvalidInput: for a pipe, a socket, a device or a folder.
    :raises OSError: when it cannot be opened.
    """
    place = local_path(path)
    if place is None:
        opened: IO[bytes] = path.open("rb")
        return opened
    if place.exists() and not place.is_file():
        raise InvalidInput(f"{path}: is no regular file")
    # Should it have become a pipe since: opened like this, none is waited for, and an empty one reads as empty.
    return open(os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb")


def read_at_most(path: StorePath, limit: int) -> bytes:
    """Return a file's bytes.

    :param limit: bytes that it may have.
    :raises InvalidInput: when it has more, or is no regular file.
    :raises OSError: when it cannot be read.
    """
    with open_regular(path) as content:
        found = content.read(limit + 1)
    if len(found) > limit:
        raise InvalidInput(f"{path}: has more than the {limit} bytes that are allowed")
    return found


def read_json(path: StorePath, limit: int = JSON_BYTES) -> Any:
    """Return a JSON file's content; see :func:`parse_json`.

    :param limit: bytes that it may have.
    :raises InvalidInput: naming the file, when it is not JSON in one meaning only.
    :raises OSError: when it cannot be read.
    """
    return parse_json(read_at_most(path, limit), str(path))


def parse_json(content: bytes | str, source: str) -> Any:
    """Return what JSON says, where it says one thing to every reader.

    :param content: the JSON, in UTF-8 where it is bytes.
    :param source: what messages name.
    :raises InvalidInput: for anything else, for a name given twice in an object, for NaN, for half of a surrogate pair
        and for a value nested more than :data:`DEEPEST` deep. The message shows no value.
    """
    try:
        text = content if isinstance(content, str) else content.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
        if r"\ud" in text or r"\uD" in text:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{source}: not JSON (text with half of a surrogate pair)") from error
    except ValueError as error:
        raise InvalidInput(f"{source}: not JSON ({_reason(error)})") from error
    except RecursionError as error:
        raise InvalidInput(f"{source}: is nested more than {DEEPEST} deep") from error
    # Most of what is read are short lines, which cannot be deep: counting is quicker than walking.
    if text.count("[") + text.count("{") > DEEPEST and not _is_shallow(value):
        raise InvalidInput(f"{source}: is nested more than {DEEPEST} deep")
    return value


def json_lines(path: StorePath, source: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON Lines file, one line in memory at a time.

    :param source: what messages name instead of the path.
    :raises InvalidInput: naming file and line; see :func:`parse_json`.
    :raises OSError: when it cannot be read.
    """
    name = source or str(path)
    with open_regular(path) as content:
        for number, line in enumerate(iter(lambda: content.readline(JSON_BYTES + 1), b""), 1):
            if len(line) > JSON_BYTES:
                raise InvalidInput(f"{name}:{number}: has more than the {JSON_BYTES} bytes that are allowed")
            value = parse_json(line, f"{name}:{number}")
            if not isinstance(value, dict):
                raise InvalidInput(f"{name}:{number}: found {type(value).__name__}; allowed: an object")
            yield value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is given twice in an object")
    return found


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number")


def _reason(error: ValueError) -> str:
    """Return what is wrong, without the input: how a long number is refused, for one, is nobody's business here."""
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 at byte {error.start}"
    return str(error)


def _is_shallow(value: Any) -> bool:
    level: Iterable[Any] = [value]
    for _ in range(DEEPEST):
        level = [inner for one in level if isinstance(one, (dict, list)) for inner in _inner(one)]
        if not level:
            return True
    return False


def _inner(value: dict[str, Any] | list[Any]) -> list[Any]:
    values = value.values() if isinstance(value, dict) else value
    return [one for one in values if isinstance(one, (dict, list))]
