"""A set of names that may be larger than memory should hold."""

from __future__ import annotations

import hashlib
import sqlite3
import tempfile
from collections.abc import Iterable
from types import TracebackType

from include.base.disk import writing_scratch

__all__ = ["SeenNames"]

WIDTH = 12
"""Bytes kept of a name's SHA-256: that any two of ten million names share them has a chance of 1 in 10 to the 15."""


class SeenNames:
    """Remembers which names were seen, as digests: in memory first, in a temporary file once there are many.

    Use it as a context manager; the file goes with it.

    :param in_memory: how many names are kept in memory (about 80 bytes each) before they move to the file.
    """

    def __init__(self, in_memory: int = 1_250_000) -> None:
        self._limit = in_memory
        # Numbers take less memory than bytes objects.
        self._few: set[int] = set()
        self._many: sqlite3.Connection | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> SeenNames:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def __contains__(self, name: str) -> bool:
        return bool(self.known([name]))

    def known(self, names: Iterable[str]) -> set[str]:
        """Return those of the names that were seen; faster than asking for each."""
        wanted = {_digest(name): name for name in names}
        found = {name for digest, name in wanted.items() if digest in self._few}
        if self._many is not None:
            digests = list(wanted)
            for start in range(0, len(digests), 500):
                some = [digest.to_bytes(WIDTH, "big") for digest in digests[start : start + 500]]
                places = ", ".join("?" * len(some))
                query = f"SELECT name FROM seen WHERE name IN ({places})"  # noqa: S608 - question marks only
                found.update(wanted[int.from_bytes(digest, "big")] for (digest,) in self._many.execute(query, some))
        return found

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
        with writing_scratch():
            self._write_out()

    def _write_out(self) -> None:
        if self._many is None:
            self._folder = tempfile.TemporaryDirectory(prefix="labelops-seen-")
            self._many = sqlite3.connect(f"{self._folder.name}/seen.db", isolation_level=None)
            # The file is scratch: losing it in a crash costs nothing, so it is never synced.
            self._many.execute("PRAGMA synchronous = OFF")
            self._many.execute("PRAGMA journal_mode = OFF")
            self._many.execute("CREATE TABLE seen (name BLOB PRIMARY KEY) WITHOUT ROWID")
        self._many.execute("BEGIN")
        self._many.executemany(
            "INSERT OR IGNORE INTO seen VALUES (?)", ((digest.to_bytes(WIDTH, "big"),) for digest in sorted(self._few))
        )
        self._many.execute("COMMIT")
        self._few.clear()


def _digest(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:WIDTH], "big")
