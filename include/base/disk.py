"""Disks that are full: which one it is, and folders for what nobody keeps."""

from __future__ import annotations

import errno
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from include.base.errors import Unavailable

__all__ = ["scratch_folder", "writing_scratch", "writing_to"]

_WHY = {
    errno.ENOSPC: "the disk it is on is full; make room there",
    errno.EDQUOT: "the quota on its disk is used up; make room there",
    errno.EROFS: "the disk it is on may only be read",
    errno.EFBIG: "no file may become so large there",
    errno.EIO: "the disk it is on reports an error; look at its health",
}
_WHY_SQLITE = {
    sqlite3.SQLITE_FULL: _WHY[errno.ENOSPC],
    sqlite3.SQLITE_READONLY: _WHY[errno.EROFS],
    sqlite3.SQLITE_IOERR: _WHY[errno.EIO],
}


@contextmanager
def writing_to(place: object) -> Iterator[None]:
    """Name the place when its disk takes nothing more: the system's own error names none once a file is open.

    The innermost block around a write is the one that tells, so whatever writes elsewhere within it has its own.

    :raises Unavailable: in the place of an ``OSError`` or an SQLite error of that kind.
    """
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        if isinstance(error, OSError):
            why = _WHY.get(error.errno or 0)
        else:
            why = _WHY_SQLITE.get(error.sqlite_errorcode & 0xFF)  # the lowest byte, without the detail
        if why is None:
            raise
        raise Unavailable(f"{place}: cannot be written: {why}", system="disk") from error


@contextmanager
def writing_scratch() -> Iterator[None]:
    """Do as :func:`writing_to` for temporary files, wherever this machine has them (``TMPDIR``)."""
    with writing_to(f"the folder of temporary files {tempfile.gettempdir()}"):
        yield


@contextmanager
def scratch_folder(purpose: str) -> Iterator[Path]:
    """Make a folder for temporary files that goes with the block.

    :param purpose: one word, in the folder's name.
    :raises Unavailable: when its disk is full.
    """
    with writing_scratch(), tempfile.TemporaryDirectory(prefix=f"labelops-{purpose}-") as folder:
        yield Path(folder)
