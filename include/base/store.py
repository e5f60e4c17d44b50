"""Where results live: immutable objects written first, one small pointer written last.

A root is anything with :class:`pathlib.Path`'s methods: a local folder, or a cloud location wrapped by
Airflow's ``ObjectStoragePath``. Nothing here renames a directory and nothing is overwritten but pointers.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from include.base.canonical import canonical_json, sha256_hex
from include.base.disk import writing_to
from include.base.errors import InvalidInput
from include.base.reading import StorePath, local_path, open_regular, parse_json, read_json

__all__ = [
    "Measured",
    "Store",
    "StorePath",
    "atomic_file",
    "atomic_write",
    "files_below",
    "local_path",
    "measure",
    "modified",
    "read_json",
    "refuse_link",
    "remove_abandoned",
]

BLOCK = 1024 * 1024
"""Bytes of a file that are held at a time."""

ABANDONED_SECONDS = 1.0


def atomic_write(path: StorePath, content: bytes) -> None:
    """Write a whole file so that a reader sees the old one or the new one, never a part; see :func:`atomic_file`."""
    with atomic_file(path) as out:
        out.write(content)


@contextmanager
def atomic_file(path: StorePath) -> Iterator[IO[bytes]]:
    """Open a file for writing that appears under its name only when the block ends well.

    On a local disk: a temporary file beside it, fsync, ``os.replace``, fsync of the folder. A writer that was killed
    leaves its temporary file; the next one to write that name removes it. A cloud store's put is atomic by itself: the
    object appears when it is closed.

    :raises Unavailable: naming the file, when its local disk is full.
    """
    place = local_path(path)
    if place is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as out:
            yield out
        return
    with writing_to(place):
        yield from _atomic_local(place)


def _atomic_local(place: Path) -> Iterator[IO[bytes]]:
    place.parent.mkdir(parents=True, exist_ok=True)
    refuse_link(place.parent)
    handle, temporary = tempfile.mkstemp(prefix=f".{place.name}.", dir=place.parent)
    try:
        with os.fdopen(handle, "wb") as out:
            # Held as long as this writer lives: it tells a file in the making from one that nobody will finish.
            fcntl.flock(out, fcntl.LOCK_EX)
            yield out
            out.flush()
            os.fsync(out.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, place)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _remove_abandoned(place)
    folder = os.open(place.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def refuse_link(folder: StorePath) -> None:
    """Refuse a folder that is a link: what is written or removed in it would be somebody else's.

    :raises InvalidInput: naming it.
    """
    place = local_path(folder)
    if place is not None and place.is_symlink():
        raise InvalidInput(f"{folder}: is a link to another place; the store holds folders of its own")


def _remove_abandoned(place: Path) -> None:
    """Remove the temporary files of writers of this name that were killed."""
    for entry in os.scandir(place.parent):
        if entry.name.startswith(f".{place.name}."):
            _remove_unheld(entry.path)


def remove_abandoned(folder: StorePath) -> None:
    """Remove the temporary files of killed writers of any name in a folder, where names are written once.

    A file that was begun this second is left: its writer may not hold it yet.
    """
    place = local_path(folder)
    if place is None or not place.is_dir():
        return
    begun = time.time() - ABANDONED_SECONDS
    for entry in os.scandir(place):
        with suppress(FileNotFoundError):
            if entry.name.startswith(".") and entry.stat().st_mtime < begun:
                _remove_unheld(entry.path)


def _remove_unheld(path: str) -> None:
    with suppress(OSError), open(path, "rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)


@dataclass(frozen=True, slots=True)
class Measured:
    """What a file holds: the SHA-256 of its bytes, how many they are, and how many of them end a line."""

    sha256: str
    size: int
    lines: int


def measure(path: StorePath) -> Measured:
    """Read a file once, a block at a time, and say what it holds.

    :raises InvalidInput: when it is no regular file.
    """
    state, size, lines = hashlib.sha256(), 0, 0
    with open_regular(path) as content:
        while block := content.read(BLOCK):
            state.update(block)
            size += len(block)
            lines += block.count(b"\n")
    return Measured(state.hexdigest(), size, lines)


def files_below(folder: StorePath) -> Iterator[StorePath]:
    """Yield every file of a folder and of the folders in it."""
    for path in folder.iterdir():
        if path.is_dir():
            yield from files_below(path)
        else:
            yield path


def modified(path: StorePath) -> datetime | None:
    """Return when something was last written, UTC; None where the store does not say."""
    found = path.stat().st_mtime
    if isinstance(found, datetime):
        return found.astimezone(UTC)
    return datetime.fromtimestamp(found, UTC) if found else None


class Store:
    """The one place where results are kept. Its root may be a link, no folder in it.

    :param root: the location all else is below.
    """

    def __init__(self, root: StorePath) -> None:
        self.root = root

    def at(self, *parts: str) -> StorePath:
        """Return the path below the root made of ``parts`` (each one name, never a path).

        :raises InvalidInput: for a part that would leave its folder, as a name or as a link.
        """
        place = self.root
        for part in parts:
            if not part or part in (".", "..") or "/" in part or "\\" in part or "\0" in part:
                raise InvalidInput(f"{part!r} cannot be a name in the store")
            place = place / part
            refuse_link(place)
        return place

    def put_object(self, content: bytes) -> str:
        """Keep some bytes under their own SHA-256 and return it. Keeping them twice writes once."""
        digest = sha256_hex(content)
        place = self.object_path(digest)
        if not place.exists():
            atomic_write(place, content)
        return digest

    def has_object(self, digest: str) -> bool:
        """Tell whether bytes with this digest are kept; asked about every page of a guideline, so it is quick."""
        root = local_path(self.root)
        if root is None:
            return bool(self.object_path(digest).exists())
        return os.path.exists(f"{root}/objects/{digest[:2]}/{digest}")

    def object_path(self, digest: str) -> StorePath:
        """Return where :meth:`put_object` keeps the bytes with this digest."""
        return self.at("objects", digest[:2], digest)

    def get_object(self, digest: str) -> bytes:
        """Return bytes kept earlier.

        :raises InvalidInput: when they are not there or no longer match their digest.
        """
        place = self.object_path(digest)
        if not place.exists():
            raise InvalidInput(f"the store holds no object {digest}")
        content = bytes(place.read_bytes())
        if sha256_hex(content) != digest:
            raise InvalidInput(f"{place}: the object's bytes no longer match its digest")
        return content

    def get_value(self, digest: str) -> Any:
        """Return a value that was kept in its canonical form.

        :raises InvalidInput: as :meth:`get_object`, and for bytes that are not JSON.
        """
        return parse_json(self.get_object(digest), str(self.object_path(digest)))

    def write_new(self, path: StorePath, content: bytes) -> bool:
        """Write an immutable file; return False when the same bytes are there already.

        :raises InvalidInput: when other bytes are there.
        """
        if path.exists():
            if bytes(path.read_bytes()) != content:
                raise InvalidInput(f"{path}: already holds other bytes; immutable files are never overwritten")
            return False
        atomic_write(path, content)
        return True

    def pointer(self, path: StorePath) -> dict[str, Any] | None:
        """Return a pointer's content, or None where nothing was published yet."""
        if not path.exists():
            return None
        value = read_json(path)
        if not isinstance(value, dict):
            raise InvalidInput(f"{path}: a pointer is a JSON object, found {type(value).__name__}")
        return value

    def move_pointer(self, path: StorePath, value: dict[str, Any]) -> bool:
        """Point somewhere, last of all writes; return False when it pointed there already."""
        if self.pointer(path) == value:
            return False
        atomic_write(path, canonical_json(value) + b"\n")
        return True
