"""Training formats: an approved version written for the library that will read it.

:data:`FORMATS` names them; :func:`supports` says which interfaces a format can hold; :func:`export` writes one. The
same version gives the same bytes, whenever and wherever it is exported, with the same versions of the libraries in
:attr:`Export.libraries`. Nothing is dropped in silence: what a format cannot hold of a row is in ``skipped.jsonl``.

Importing this package loads no format and no library of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module, metadata
from types import MappingProxyType
from typing import Any

from include.base.disk import scratch_folder
from include.base.errors import InvalidInput, Unsupported
from include.base.store import StorePath
from include.exports.output import SPLITS, Assignment, ExportedFile, Job, Media, Output
from include.exports.rows import INTERFACES, training_row
from include.projects.model import Project

__all__ = [
    "FORMATS",
    "INTERFACES",
    "SPLITS",
    "Assignment",
    "Export",
    "ExportedFile",
    "Format",
    "Media",
    "export",
    "supports",
    "training_row",
]


@dataclass(frozen=True)
class Format:
    """One way to write a version.

    :param name: its name in project files.
    :param module: the module of this package whose ``write`` makes it.
    :param summary: what it is, in a few words.
    :param unsupported: why it cannot hold an interface, by interface.
    :param libraries: distributions whose version decides about the bytes.
    """

    name: str
    module: str
    summary: str
    unsupported: Mapping[str, str] = field(default_factory=dict)
    libraries: tuple[str, ...] = ()


@dataclass(frozen=True)
class Export:
    """A version as written in one format.

    :param files: by name relative to ``folder``, with ``/`` between folders.
    :param rows: rows of the version that the files hold.
    :param splits: rows by part; empty where the version was not split.
    :param skipped: rows left out, by reason.
    :param noted: rows that are in, but with less than their answer says, by reason.
    :param libraries: version by distribution, where the bytes depend on it.
    """

    format: str
    folder: StorePath
    files: Mapping[str, ExportedFile]
    rows: int
    splits: Mapping[str, int]
    skipped: Mapping[str, int]
    noted: Mapping[str, int]
    libraries: Mapping[str, str]


def _known(*formats: Format) -> Mapping[str, Format]:
    return MappingProxyType({one.name: one for one in formats})


FORMATS: Mapping[str, Format] = _known(
    Format("jsonl", "jsonl", "JSON Lines, as Prodigy's db-in takes them"),
    Format("parquet", "parquet", "Parquet with typed columns", libraries=("pyarrow",)),
    Format(
        "spacy",
        "docbin",
        "spaCy DocBin with label files and configuration, as Prodigy's data-to-spacy makes them",
        {"image": "a spaCy document is a text", "audio": "a spaCy document is a text"},
        libraries=("spacy",),
    ),
    Format(
        "conll",
        "conll",
        "CoNLL-2003 with IOB2 tags",
        {
            "textcat": "it tags tokens, and has no place for a label of the whole text",
            "choice": "it tags tokens, and has no place for labels of the whole text",
            "spans": "a token has one tag, and spans of this interface may overlap",
            "image": "it tags the tokens of a text",
            "audio": "it tags the tokens of a text",
            "relations": "it has no place for relations between spans",
        },
    ),
    Format(
        "coco",
        "coco",
        "COCO JSON for object detection, rectangles and polygons",
        dict.fromkeys(
            ("textcat", "choice", "ner", "spans", "audio", "relations"), "it lists regions of images and nothing else"
        ),
    ),
    Format("tfrecord", "tfrecord", "TFRecord files of tf.train.Example messages"),
    Format("pytorch", "arrays", "memory-mapped arrays for PyTorch's DataLoader"),
)
"""The formats by name."""


def supports(format: str, interface: str) -> bool:
    """Tell whether a format can hold the answers of an interface.

    :raises InvalidInput: for a format or an interface that there is not.
    """
    return _why_not(_format(format), interface) is None


def export(
    rows: Callable[[], Iterable[dict[str, Any]]],
    project: Project,
    format: str,
    folder: StorePath,
    *,
    number: int,
    splits: Assignment | None = None,
    media: Media | None = None,
) -> Export:
    """Write a version's rows in one format.

    Exporting again writes nothing where the same bytes are there already.

    :param rows: gives a new stream of the version's rows (``include.datasets.freeze.rows``) at each call; some formats
        read them twice.
    :param format: a name of :data:`FORMATS`.
    :param folder: where the files go; local, or in a store.
    :param number: the version's number in the project.
    :param splits: which part each task belongs to (``include.exports.splits``); without it, all rows are one part.
    :param media: the first bytes of an image by its reference, for sizes that tasks do not say.
    :raises Unsupported: naming format and interface, when the format cannot hold the project's answers.
    :raises InvalidInput: for an unknown format, a row that is not of the project's interface, or when a file of the
        export is there with other bytes.
    """
    chosen = _format(format)
    interface = str(project.annotation.interface)
    why_not = _why_not(chosen, interface)
    if why_not is not None:
        raise Unsupported(
            f"format {chosen.name} cannot hold answers of interface {interface} (project {project.name}): {why_not}; "
            f"formats that can: {', '.join(name for name in FORMATS if supports(name, interface))}"
        )
    writer = import_module(f"{__name__}.{chosen.module}")
    with scratch_folder("export") as scratch:
        out = Output(scratch)
        counted = _Counted(rows, interface, project.name)
        writer.write(Job(counted, project, interface, number, splits, media, out))
        files = out.put(folder)
    return Export(
        format=chosen.name,
        folder=folder,
        files=files,
        rows=counted.rows - out.skipped.total(),
        splits={part: out.splits[part] for part in splits.parts} if splits is not None else {},
        skipped=dict(sorted(out.skipped.items())),
        noted=dict(sorted(out.noted.items())),
        libraries={name: metadata.version(name) for name in chosen.libraries},
    )


class _Counted:
    """A version's rows, counted, and each checked to be an answer of the project's interface."""

    def __init__(self, rows: Callable[[], Iterable[dict[str, Any]]], interface: str, project: str) -> None:
        self._rows = rows
        self._interface = interface
        self._project = project
        self.rows = 0

    def __call__(self) -> Iterable[dict[str, Any]]:
        self.rows = 0
        for row in self._rows():
            found = row["value"].get("interface")
            if found != self._interface:
                raise InvalidInput(
                    f"task {row['task_id']}: value.interface: found {found!r}; allowed: {self._interface!r}, "
                    f"the interface of {self._project}"
                )
            self.rows += 1
            yield row


def _format(name: str) -> Format:
    if name not in FORMATS:
        raise InvalidInput(f"format: found {name!r}; allowed: {', '.join(FORMATS)}")
    return FORMATS[name]


def _why_not(chosen: Format, interface: str) -> str | None:
    if interface not in INTERFACES:
        raise InvalidInput(f"interface: found {interface!r}; allowed: {', '.join(INTERFACES)}")
    return chosen.unsupported.get(str(interface))
