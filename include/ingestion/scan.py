"""Which source files are new or changed since the last look."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from include.base.errors import InvalidInput
from include.base.store import StorePath, local_path
from include.projects.model import SourceRoute

__all__ = ["ScanResult", "SourceFile", "fingerprint", "route_of", "scan"]

_TEMPORARY = (".tmp", ".part", ".partial", ".crdownload", ".swp", "~")


@dataclass(frozen=True)
class SourceFile:
    """One file to read.

    :param relative: its path below the location, with ``/``: how the file is named everywhere.
    :param mark: what showed that it changed (size and modification time or entity tag), without reading it.
    :param sha256: of its bytes, when it was scanned.
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
    :param errors: ``(path, reason)`` of files that could not be taken this time; they are tried again.
    :param seen: the state to hand to the next scan, once the files were ingested.
    """

    new_or_changed: list[SourceFile] = field(default_factory=list)
    unchanged: int = 0
    skipped: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    errors: list[tuple[str, str]] = field(default_factory=list)
    seen: dict[str, dict[str, Any]] = field(default_factory=dict)


def scan(location: StorePath, routes: Sequence[SourceRoute], seen: Mapping[str, Any] | None = None) -> ScanResult:
    """Look at every file below a location, in the order of their paths.

    A file whose size and time are as in ``seen`` is not read. Otherwise it is digested: the same bytes are no change.
    The first route whose pattern matches decides. Hidden and temporary names are ignored; a symbolic link that leads
    out of the location is an error of that path.

    :raises InvalidInput: when the location is not there: an unmounted disk must not look like an empty one.
    """
    if not location.exists() or not location.is_dir():
        raise InvalidInput(f"source location {location}: not there, or no folder")
    known, result = dict(seen or {}), ScanResult()
    present = set()
    for relative, path in sorted(_walk(location, "", result.errors), key=lambda found: found[0]):
        present.add(relative)
        if not relative.isprintable() or "\ufffd" in relative:
            printable = relative.encode("ascii", "backslashreplace").decode("ascii")
            result.errors.append((printable, "its name holds characters that cannot be printed; rename it"))
            continue
        route = route_of(relative, routes)
        if route is None or route.skip:
            result.skipped.append(relative)
            continue
        try:
            _look(path, relative, route, known.get(relative), result)
        except OSError as error:
            result.errors.append((relative, f"could not be read ({type(error).__name__})"))
    failed = {relative for relative, _ in result.errors}
    result.gone = sorted(set(known) - present - failed)
    for relative in failed & set(known):
        result.seen.setdefault(relative, known[relative])
    return result


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


def _look(path: StorePath, relative: str, route: SourceRoute, before: Any, result: ScanResult) -> None:
    size, mark = fingerprint(path)
    if before and before.get("mark") == mark:
        result.unchanged += 1
        result.seen[relative] = dict(before)
        return
    state = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            state.update(block)
    if fingerprint(path)[1] != mark:
        result.errors.append((relative, "changed while it was read; it is tried again next time"))
        return
    digest = state.hexdigest()
    result.seen[relative] = {"mark": mark, "sha256": digest}
    if before and before.get("sha256") == digest:
        result.unchanged += 1
        return
    result.new_or_changed.append(SourceFile(path, relative, size, mark, digest, route))


def _walk(folder: StorePath, prefix: str, errors: list[tuple[str, str]]) -> Iterator[tuple[str, StorePath]]:
    root = local_path(folder)
    if root is not None:
        yield from _walk_local(root, folder, errors)
        return
    for entry in folder.iterdir():
        if _ignored(entry.name):
            continue
        relative = f"{prefix}{entry.name}"
        if entry.is_dir():
            yield from _walk(entry, f"{relative}/", errors)
        else:
            yield relative, entry


def _walk_local(root: Path, location: StorePath, errors: list[tuple[str, str]]) -> Iterator[tuple[str, StorePath]]:
    inside = root.resolve()
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not _ignored(name))
        for name in [*folders, *names]:
            path = Path(folder) / name
            relative = path.relative_to(root).as_posix()
            if _ignored(name):
                continue
            if path.is_symlink() and not path.resolve().is_relative_to(inside):
                errors.append((relative, "a symbolic link that leads out of the source location"))
            elif path.is_file():
                yield relative, location / relative


def _ignored(name: str) -> bool:
    return name.startswith(".") or name.lower().endswith(_TEMPORARY)
