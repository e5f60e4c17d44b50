"""The data files of a release: a version in its project's training formats, split as the project asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from include.base.store import Store, StorePath, atomic_file, measure
from include.datasets.freeze import rows
from include.exports import SPLITS, Export, export
from include.exports.output import REPORT, Assignment
from include.passport.documents import columns_of
from include.passport.facts import CHECKSUMS, DataFile
from include.projects.model import Project

__all__ = ["TrainingFiles", "write_training_files"]

_TABLES = ("jsonl", "parquet")
"""Formats that stand in the release's folder itself, where loaders look; each other one has a folder of its own."""


@dataclass(frozen=True)
class TrainingFiles:
    """What was written.

    :param left_out: rows that no table holds, by reason.
    """

    files: tuple[DataFile, ...]
    left_out: Mapping[str, int]


def write_training_files(store: Store, project: Project, digest: str, number: int, folder: StorePath) -> TrainingFiles:
    """Write a version's rows in every format of its project.

    :param folder: of the release.
    :raises InvalidInput: when a file is there with other bytes.
    :raises Unsupported: when a format cannot hold the project's answers.
    """
    split: dict[str, DataFile] = {}
    assignment = None
    if project.release.splits is not None:
        assignment, file = _split(store, project, digest, folder)
        split[file.name] = file
    files: dict[str, DataFile] = {}
    left_out: Mapping[str, int] = {}
    for name in project.release.formats:
        home = folder if name in _TABLES else folder / name
        made = export(lambda: rows(store, project, digest), project, name, home, number=number, splits=assignment)
        files |= {file.name: file for file in _files_of(made, "" if name in _TABLES else f"{name}/", assignment)}
        if name in _TABLES:
            left_out = made.skipped
    return TrainingFiles((*files.values(), *split.values()), dict(left_out))


def _files_of(made: Export, below: str, assignment: Assignment | None) -> list[DataFile]:
    found = []
    for name, file in made.files.items():
        stem, _, suffix = name.partition(".")
        found.append(
            DataFile(
                f"{below}{name}",
                "report" if name == REPORT else made.format,
                file.sha256,
                file.bytes,
                rows=file.rows,
                split=stem if assignment is not None and stem in SPLITS else None,
                columns=columns_of(made.folder / name) if suffix == "parquet" and not below else (),
            )
        )
    return found


def _split(store: Store, project: Project, digest: str, folder: StorePath) -> tuple[Assignment, DataFile]:
    """Assign the version's inputs to parts, and keep the assignment beside the data.

    A try that was killed left it: then it stands, though other releases may have come since.
    """
    from include.exports.splits import FILE, assign, read_splits

    place = folder / FILE
    if place.exists():
        previous = read_splits(place, project.name)
    else:
        previous = {}
        for other in _released_before(store, project, folder):
            if (other / FILE).exists():
                previous = read_splits(other / FILE, project.name) | previous
    shares = {str(part): share for part, share in (project.release.splits or {}).items()}
    found = assign(rows(store, project, digest), project.name, shares, previous)
    if not place.exists():
        with atomic_file(place) as out:
            out.writelines(found.lines())
    written = measure(place)
    return found.assignment, DataFile(FILE, "splits", written.sha256, written.size, rows=len(found.entries))


def _released_before(store: Store, project: Project, folder: StorePath) -> list[StorePath]:
    """Return the finished releases of a project, oldest first. What a recalled one assigned stays assigned."""
    home = store.at("releases", project.name)
    if not home.exists():
        return []
    found = [place for place in home.iterdir() if place.name != folder.name and (place / CHECKSUMS).exists()]
    return sorted(found, key=lambda place: _order(place.name))


def _order(name: str) -> tuple[int, int]:
    """Return number and edition of a release's folder ``v<N>-<digest12>[.<edition>]``."""
    number, _, rest = name.removeprefix("v").partition("-")
    _, _, edition = rest.partition(".")
    return int(number), int(edition or 1)
