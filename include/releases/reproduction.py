"""Making a dataset version again from what Prodigy's database holds today."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from include.annotation.answers import Answer, AnswerReader
from include.base.errors import InvalidInput
from include.base.store import Store
from include.datasets.reproduce import Reproduction, ReproductionFinding, reproduce
from include.datasets.resolve import stored_decisions
from include.people.register import Register
from include.projects.model import Project
from include.systems.prodigy.client import ProdigyClient

__all__ = ["reproduce_version"]


def reproduce_version(
    store: Store,
    project: Project,
    register: Register,
    digest: str,
    prodigy: ProdigyClient,
    *,
    sink: Callable[[ReproductionFinding], object] | None = None,
) -> Iterator[Reproduction]:
    """Make a version again from the project's datasets, then each that it rests on; nothing is written anywhere.

    A row that cannot be read as an answer is passed over: if the version took it, it is found to be altered.

    :raises InvalidInput: when there is no such version, or its files are damaged.
    :raises VersionWithdrawn: when its content was removed.
    """
    wanted: str | None = digest
    while wanted is not None:
        found = reproduce(
            store,
            project,
            wanted,
            _answers(project, prodigy),
            register=register,
            decisions=stored_decisions(prodigy.rows(project.decisions), project, lambda row, error: None),
            look=prodigy.example_digests,
            sink=sink,
        )
        yield found
        wanted = found.base


def _answers(project: Project, prodigy: ProdigyClient) -> Iterator[Answer]:
    reader = AnswerReader(project)
    for row in prodigy.rows(project.answers):
        try:
            yield reader.read(row)
        except InvalidInput:
            continue
