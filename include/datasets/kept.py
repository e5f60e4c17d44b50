"""The version that another one rests on, given out task by task for what is taken over from it."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any

from include.base.errors import InvalidInput
from include.base.store import Store
from include.datasets.lines import frozen_lines
from include.datasets.manifest import RepeatEntry, RepeatList, TaskEntry, TaskList, read_manifest, version_path
from include.datasets.withdrawals import refuse_withdrawn
from include.projects.model import Project

__all__ = ["KeptTask", "KeptVersion"]

Line = tuple[bytes, dict[str, Any]]


@dataclass
class KeptTask:
    """What a version holds of one task.

    :param row: its line in ``rows.jsonl``, None where it is listed as left out.
    :param listed: the list that it stands in instead, and its entry.
    :param sources: its lines of ``sources.jsonl``.
    """

    row: Line | None = None
    losing: list[Line] = field(default_factory=list)
    listed: tuple[str, TaskEntry] | None = None
    repeats: list[RepeatEntry] = field(default_factory=list)
    sources: list[bytes] = field(default_factory=list)


class KeptVersion:
    """A version that another one rests on. Nothing is held of it but one task at a time.

    :param sources: the SHA-256 of its list of sources, which the ledger has and its manifest does not.
    :raises VersionWithdrawn: when its content was removed.
    :raises InvalidInput: when there is none, or it is not what its digest says.
    """

    def __init__(self, store: Store, project: Project | str, digest: str, sources: str | None = None) -> None:
        refuse_withdrawn(store, project, digest)
        self.digest = digest
        self.manifest = read_manifest(store, project, digest)
        self._folder = version_path(store, project, digest)
        self._sources = sources

    def by_task(self) -> Iterator[tuple[str, KeptTask]]:
        """Yield every task of the version with what it holds of it, in order of the ids.

        :raises InvalidInput: naming the file, at its end, when its bytes are not those that were frozen.
        """
        manifest, folder = self.manifest, self._folder
        lists = {"ignored": manifest.ignored, "disputed": manifest.disputed, "missing": manifest.missing}
        everything = heapq.merge(
            self._lines("row", manifest.rows.name, manifest.rows.sha256),
            self._lines("losing", manifest.losing.name, manifest.losing.sha256),
            self._lines("sources", "sources.jsonl", self._sources),
            *(self._listed(name, listed, TaskEntry) for name, listed in lists.items()),
            self._listed("repeats", manifest.repeats or RepeatList(count=0, answers=0, items=[]), RepeatEntry),
            key=itemgetter(0),
        )
        for task_id, parts in groupby(everything, key=itemgetter(0)):
            task = KeptTask()
            for _, name, found in parts:
                if name == "row":
                    if task.row is not None:
                        raise InvalidInput(f"{folder / manifest.rows.name}: task {task_id} is there twice")
                    task.row = found
                elif name == "losing":
                    task.losing.append(found)
                elif name == "sources":
                    task.sources.append(found[0])
                elif name == "repeats":
                    task.repeats.append(found)
                else:
                    task.listed = name, found
            yield task_id, task

    def _lines(self, name: str, file: str, sha256: str | None) -> Iterator[tuple[str, str, Any]]:
        for line, value in frozen_lines(self._folder / file, sha256):
            yield str(value.get("task_id")), name, (line, value)

    def _listed(
        self, name: str, listed: TaskList | RepeatList, kind: type[TaskEntry] | type[RepeatEntry]
    ) -> Iterator[tuple[str, str, Any]]:
        for entry in listed.items or ():
            yield entry.task_id, name, entry
        if listed.file is not None:
            for _, value in frozen_lines(self._folder / listed.file.name, listed.file.sha256):
                yield str(value.get("task_id")), name, kind.model_validate(value)
