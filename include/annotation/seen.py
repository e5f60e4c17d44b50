"""A set of names that may be larger than memory should hold."""

from __future__ import annotations

import hashlib
import sqlite3
import tempfile
from collections.abc import Iterable
from types import TracebackType

__all__ = ["SeenNames"]


class SeenNames:
    """Remembers which names were seen, as 32-byte digests: in memory first, in a temporary file once there are many.

    Use it as a context manager; the file goes with it.

    :param in_memory: how many names are kept in memory (about 130 bytes each) before they move to the file.
    """

    def __init__(self, in_memory: int = 250_000) -> None:
        self._limit = in_memory
        self._few: set[bytes] = set()
        self._many: sqlite3.Connection | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> SeenNames:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def __contains__(self, name: str) -> bool:
        digest = _digest(name)
        if digest in self._few:
            return True
        if self._many is None:
            return False
        return self._many.execute("SELECT 1 FROM seen WHERE name = ?", (digest,)).fetchone() is not None

    def update(self, names: Iterable[str]) -> None:
        """Remember some names."""
        for name in names:
            self._few.add(_digest(name))
            if len(self._few) >= self._limit:
                self._spill()

    def clear(self) -> None:
        """Forget everything, and remove the file."""
        self._few.clear()
        if self._many is not None:
            self._many.close()
            self._many = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _spill(self) -> None:
        if self._many is None:
            self._folder = tempfile.TemporaryDirectory(prefix="labelops-seen-")
            self._many = sqlite3.connect(f"{self._folder.name}/seen.db", isolation_level=None)
            # The file is scratch: losing it in a crash costs nothing, so it is never synced.
            self._many.execute("PRAGMA synchronous = OFF")
            self._many.execute("PRAGMA journal_mode = OFF")
            self._many.execute("CREATE TABLE seen (name BLOB PRIMARY KEY) WITHOUT ROWID")
        self._many.execute("BEGIN")
        self._many.executemany("INSERT OR IGNORE INTO seen VALUES (?)", ((name,) for name in sorted(self._few)))
        self._many.execute("COMMIT")
        self._few.clear()


def _digest(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
