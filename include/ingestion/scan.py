"""Which source files are new or changed since the last look."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from include.base.errors import InvalidInput, Unavailable
from include.base.store import StorePath, local_path
from include.base.text import printable
from include.projects.model import SourceRoute

__all__ = ["ScanResult", "SourceFile", "fingerprint", "route_of", "scan"]

_TEMPORARY = (".tmp", ".part", ".partial", ".crdownload", ".swp", "~")


@dataclass(frozen=True)
class SourceFile:
    """One file to read.

    :param relative: its path below the location, with ``/``: how the file is named everywhere.
    :param mark: what showed that it changed (size and modification time or entity tag), without reading it.
    :param sha256: of its bytes, when it was scanned; empty for one that is too large to be looked at.
    """

    path: StorePath
    relative: str
    size: int
    mark: str
    sha256: str
    route: SourceRoute


@dataclass
class ScanResult:
    """What a look at the location found.

    :param unchanged: how many files hold the same bytes as last time.
    :param skipped: paths that a route skips, or that no route matches.
    :param gone: paths of last time that are not there any more; what came from them stays.
    :param errors: ``(path, reason)`` of what could not be taken this time; it is tried again.
    :param seen: the state to hand to the next scan, once the files were ingested.
    """

    new_or_changed: list[SourceFile] = field(default_factory=list)
    unchanged: int = 0
    skipped: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    errors: list[tuple[str, str]] = field(default_factory=list)
    seen: dict[str, dict[str, Any]] = field(default_factory=dict)


def scan(
    location: StorePath,
    routes: Sequence[SourceRoute],
    seen: Mapping[str, Any] | None = None,
    *,
    max_file_megabytes: int | None = None,
) -> ScanResult:
    """Look at every file below a location, in the order of their paths.

    A file whose size and time are as in ``seen`` is not read. Otherwise it is digested: the same bytes are no change.
    The first route whose pattern matches decides. Hidden and temporary names are ignored; whatever else is no file, or
    cannot be read, is an error of its path, and the others go on.

    :param max_file_megabytes: a larger file is not digested: reading one without end would keep all others waiting.
    :raises InvalidInput: when the location is not there: an unmounted disk must not look like an empty one.
    :raises Unavailable: when it cannot be listed now.
    """
    if not location.exists() or not location.is_dir():
        raise InvalidInput(f"source location {location}: not there, or no folder")
    known, result = dict(seen or {}), ScanResult()
    most = None if max_file_megabytes is None else max_file_megabytes << 20
    present = set()
    for found in sorted(_walk(location, ""), key=lambda found: found.relative):
        relative = found.relative
        present.add(relative)
        if found.problem or not relative.isprintable() or "\ufffd" in relative:
            problem = found.problem or "its name holds characters that cannot be printed; allowed: a name that can"
            result.errors.append((printable(relative), problem))
            continue
        route = route_of(relative, routes)
        if route is None or route.skip:
            result.skipped.append(relative)
            continue
        try:
            _look(found.path, relative, route, known.get(relative), result, most)
        except OSError as error:
            result.errors.append((relative, _unreadable("file", error)))
    _keep_known(known, present, result)
    return result


def _keep_known(known: Mapping[str, Any], present: set[str], result: ScanResult) -> None:
    """Go on knowing what could not be looked at, and tell what is gone: not what is in a folder that was not listed."""
    failed = {relative for relative, _ in result.errors}
    for relative in known:
        if relative in failed or not failed.isdisjoint(map(str, PurePosixPath(relative).parents)):
            result.seen.setdefault(relative, known[relative])
        elif relative not in present:
            result.gone.append(relative)
    result.gone.sort()


def route_of(relative: str, routes: Sequence[SourceRoute]) -> SourceRoute | None:
    """Return the first route that matches. ``*`` also matches ``/``, so ``*.csv`` is every CSV file in any folder."""
    return next((route for route in routes if fnmatchcase(relative, route.match)), None)


def fingerprint(path: StorePath) -> tuple[int, str]:
    """Return a file's size, and what changes with its content: time, or a cloud object's entity tag."""
    place = local_path(path)
    if place is not None:
        status = place.stat()
        return status.st_size, f"{status.st_size}:{status.st_mtime_ns}"
    status = path.stat()
    size = int(status.st_size)
    tag = status.get("ETag") or status.get("etag") or status.get("md5Hash") if hasattr(status, "get") else None
    return size, f"{size}:{tag or getattr(status, 'st_mtime', '')}"


def _look(
    path: StorePath, relative: str, route: SourceRoute, before: Any, result: ScanResult, most: int | None
) -> None:
    size, mark = fingerprint(path)
    if before and before.get("mark") == mark:
        result.unchanged += 1
        result.seen[relative] = dict(before)
        return
    digest = ""
    if most is None or size <= most:
        digest = _digest(path)
        if fingerprint(path)[1] != mark:
            result.errors.append((relative, "changed while it was read; it is tried again next time"))
            return
        if before and before.get("sha256") == digest:
            result.unchanged += 1
            result.seen[relative] = {**before, "mark": mark}
            return
    result.seen[relative] = {"mark": mark, "sha256": digest}
    result.new_or_changed.append(SourceFile(path, relative, size, mark, digest, route))


def _digest(path: StorePath) -> str:
    state = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            state.update(block)
    return state.hexdigest()


@dataclass(frozen=True)
class _Found:
    """Something below the location, and why it cannot be taken, where it cannot."""

    relative: str
    path: StorePath
    problem: str = ""


def _walk(folder: StorePath, prefix: str) -> Iterator[_Found]:
    root = local_path(folder)
    if root is not None:
        yield from _walk_local(root, folder)
        return
    for entry in folder.iterdir():
        if _ignored(entry.name):
            continue
        relative = f"{prefix}{entry.name}"
        if entry.is_dir():
            yield from _walk(entry, f"{relative}/")
        else:
            yield _Found(relative, entry)


def _walk_local(root: Path, location: StorePath) -> Iterator[_Found]:
    """Yield all that bears a name: what is passed over in silence would be lost."""
    inside = Path(os.path.realpath(root))
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(root / folder) as listed:
                entries = [entry for entry in listed if not _ignored(entry.name)]
        except OSError as error:
            if not folder:
                raise Unavailable(f"source location {location}: {_unreadable('folder', error)}") from error
            yield _Found(folder, location / folder, _unreadable("folder", error))
            continue
        for entry in entries:
            relative = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False):
                waiting.append(relative)
            else:
                yield _Found(relative, location / relative, _no_file(entry, inside))


def _no_file(entry: os.DirEntry[str], inside: Path) -> str:
    """Return why an entry is no file to be read; empty for one that is."""
    if entry.is_symlink() and not Path(os.path.realpath(entry.path)).is_relative_to(inside):
        return "a symbolic link that leads out of the source location"
    try:
        mode = entry.stat().st_mode
    except OSError as error:  # a link to nothing or to itself, or a file that is gone by now
        return _unreadable("file", error)
    if stat.S_ISREG(mode):
        return ""
    kind = {stat.S_IFDIR: "a symbolic link to a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
    return f"{kind.get(stat.S_IFMT(mode), 'a device')}; allowed: a file"


def _unreadable(what: str, error: OSError) -> str:
    return f"could not be read ({type(error).__name__}); allowed: a {what} that is there and that this account may read"


def _ignored(name: str) -> bool:
    return name.startswith(".") or name.lower().endswith(_TEMPORARY)
