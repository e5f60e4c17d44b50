"""Where a label comes from and where it went: source record, task, answers, guideline, versions, releases, models."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Literal

import sqlalchemy as sa

from include.annotation.served import labels_digest
from include.base.canonical import SHORT
from include.base.errors import InvalidInput
from include.base.store import StorePath, read_json
from include.datasets import freeze as freezing
from include.datasets.manifest import TaskList, since
from include.governance import tables
from include.governance.records import VersionRecord
from include.questions.models import release_facts, uses_of
from include.questions.shared import (
    Basis,
    DecisionFacts,
    Records,
    Sight,
    UseFacts,
    VersionRef,
    batches_of,
    decision_facts,
    project_names,
    rows_gone,
    version_ref,
)
from include.queues.batches import frozen_in

__all__ = [
    "AnswerFacts",
    "BatchFacts",
    "InForce",
    "InForceAnswer",
    "SourceFacts",
    "TaskInVersion",
    "TraceAnswer",
    "in_force",
    "trace",
    "trace_source",
]

How = Literal["stamped", "inferred", "unknown"]


@dataclass(frozen=True)
class InForce:
    """A guideline or a taxonomy that was in force when an answer was given.

    :param digest: of the guideline's release, or over the list of labels; None where it is unknown.
    :param number: of the guideline's release.
    :param labels: the labels in force, where the release that holds them is in the store.
    :param how: ``stamped`` by the process that served the task, ``inferred`` from something else, or ``unknown``.
    :param why: what that rests on, in words.
    """

    digest: str | None
    number: int | None
    labels: tuple[str, ...]
    how: How
    why: str


@dataclass(frozen=True)
class AnswerFacts:
    """One person's answer to a task, without what it says.

    :param row: SHA-256 of the answer as Prodigy's database had it.
    :param reason: why it does not count; "" where it does.
    """

    person: str
    at: datetime | None
    row: str
    counted: bool
    reason: str
    guideline: InForce
    taxonomy: InForce


@dataclass(frozen=True)
class TaskInVersion:
    """What a version holds of a task.

    :param outcome: ``counted`` (it is a row), or ``ignored``, ``disputed``, ``missing`` (it was left out), or ``not
        kept`` (the task was in the version's batch, and the version's rows are not in the store any more).
    :param gone: why the version's rows are not in the store, "" where they are.
    :param since: the version since which the row is as it is; None where the task is no row.
    :param line: the row's line in ``rows.jsonl``, None where the task is no row.
    :param basis: what gave the value: answers, review or decision; "" where the task is no row.
    :param decided_by: who gave the value by a review or a decision.
    :param released: number of the ``release.done`` event, None where the version was not released.
    """

    version: VersionRef
    outcome: str
    gone: str
    since: VersionRef | None
    line: int | None
    basis: str
    round: int | None
    answers: tuple[AnswerFacts, ...]
    decided_by: str | None
    approvals: tuple[DecisionFacts, ...]
    released: int | None
    release_path: str
    models: tuple[UseFacts, ...]


@dataclass(frozen=True)
class SourceFacts:
    """A record that a task was made of; ``sha256`` is over the record's bytes."""

    source: str
    record: str
    sha256: str


@dataclass(frozen=True)
class BatchFacts:
    """A batch that a task was in; ``kind`` says how it came about: inbox, adopted or late."""

    digest: str
    kind: str
    assigned_at: datetime
    event: int


@dataclass(frozen=True)
class TraceAnswer:
    """Everything on record about one task, from its source to the models that used it."""

    project: str
    task_id: str
    sources: tuple[SourceFacts, ...]
    batches: tuple[BatchFacts, ...]
    versions: tuple[TaskInVersion, ...]
    basis: Basis


@dataclass(frozen=True)
class InForceAnswer:
    """Which guideline and taxonomy were in force for a label of a version; fields as in :class:`TaskInVersion`."""

    version: VersionRef
    task_id: str
    outcome: str
    gone: str
    answers: tuple[AnswerFacts, ...]
    basis: Basis


@dataclass(frozen=True)
class _Activation:
    """A process began to serve a release."""

    file: str
    started: datetime
    digest: str
    number: int | None


@dataclass(frozen=True)
class _Held:
    """What a version's files hold of a task; ``row`` is empty where it is no row."""

    outcome: str
    line: int | None
    row: Mapping[str, Any]
    answers: tuple[AnswerFacts, ...]
    gone: str = ""


def in_force(records: Records, version: VersionRecord, task_id: str) -> InForceAnswer:
    """Answer which guideline and taxonomy were in force for each answer to a task of a version.

    The stamp of the process that served the task says it. Without one it is inferred from when processes began to
    serve which release, and marked so; where that says nothing either, it is unknown.

    :raises InvalidInput: when the version holds nothing of the task.
    """
    sight = Sight()
    found = _Reader(records, version.project, sight).held(version, _checked(task_id))
    if found is None:
        raise InvalidInput(f"{version_ref(version)} holds nothing of task {task_id}")
    return InForceAnswer(version_ref(version), task_id, found.outcome, found.gone, found.answers, sight.basis())


def trace(records: Records, task_id: str, project: str | None = None) -> TraceAnswer:
    """Answer where a task came from, who answered it, and into which versions, releases and models it went.

    :param project: the task's project; by default every project on the ledger is asked for it.
    :raises InvalidInput: when nothing is on record about the task.
    """
    _checked(task_id)
    for name in project_names(records, project):
        found = _trace(records, name, task_id)
        if found.sources or found.batches:
            return found
    raise InvalidInput(f"task {task_id}: no source and no batch on record{f' in {project}' if project else ''}")


def trace_source(records: Records, source: str, record: str, project: str | None = None) -> Iterator[TraceAnswer]:
    """Yield the trace of every task that was made of a source record: one for each content the record has had.

    :param source: the file, table or feed, as it was read.
    :param record: which record of it: a line, a key, a row number.
    :raises InvalidInput: when no task was made of it, saying how many records of that source are known.
    """
    table = tables.source_record
    query = sa.select(table.c.project, table.c.task_id).where(table.c.source == source)
    if project is not None:
        query = query.where(table.c.project == project)
    with records.ledger.reading() as connection:
        made = connection.execute(
            query.where(table.c.record == record).distinct().order_by(table.c.project, table.c.task_id)
        ).all()
        known = 0 if made else connection.scalar(sa.select(sa.func.count()).select_from(query.subquery()))
    if not made:
        raise InvalidInput(f"source {source!r}, record {record!r}: no task was made of it ({known} records are known)")
    for name, task_id in made:
        yield _trace(records, name, task_id)


def _trace(records: Records, project: str, task_id: str) -> TraceAnswer:
    sight = Sight()
    batches = []
    for event in batches_of(records, project, task_id):
        digest = event.digest_after or ""
        sight.file("objects", digest[:2], digest)
        batches.append(BatchFacts(digest, event.body["kind"], event.time, sight.event(event)))
    reader = _Reader(records, project, sight)
    versions = _versions_of(records, project, task_id, {one.digest for one in batches})
    return TraceAnswer(
        project=project,
        task_id=task_id,
        sources=tuple(
            SourceFacts(one.source, one.record, one.sha256) for one in records.ledger.sources(project, task_id)
        ),
        batches=tuple(batches),
        versions=tuple(found for version in versions if (found := reader.task(version, task_id)) is not None),
        basis=sight.basis(),
    )


def _versions_of(records: Records, project: str, task_id: str, batches: set[str]) -> list[VersionRecord]:
    """Return the versions that took in a batch with a task, and those that rest on one of them."""
    found: dict[str, VersionRecord] = {}
    for version in records.ledger.versions(project):
        base = freezing.read_manifest(records.store, project, version.digest).base
        if (base is not None and base.digest in found) or not batches.isdisjoint(frozen_in(records.ledger, version)):
            found[version.digest] = version
    return list(found.values())


class _Reader:
    """Reads what the versions of a project hold of a task."""

    def __init__(self, records: Records, project: str, sight: Sight) -> None:
        self._records = records
        self._project = project
        self._sight = sight
        self._home = ("publications", project, "guidelines")
        self.activations = cache(self._activations)
        self.release = cache(self._release)

    def task(self, version: VersionRecord, task_id: str) -> TaskInVersion | None:
        """Return what a version holds of a task and what became of it, None where it holds nothing."""
        held = self.held(version, task_id)
        if held is None:
            return None
        events = list(self._records.ledger.events(subject=f"version:{version.digest}"))
        released = release_facts(events)
        if released is not None:
            self._sight.event(released)
        ref, row = version_ref(version), held.row
        return TaskInVersion(
            version=ref,
            outcome=held.outcome,
            gone=held.gone,
            since=self._since(version, row) if row else None,
            line=held.line,
            basis=row.get("basis", ""),
            round=row.get("round"),
            answers=held.answers,
            decided_by=(row.get("decision") or {}).get("person"),
            approvals=tuple(decision_facts(self._records.ledger.decisions(version.digest), events, self._sight)),
            released=released.seq if released else None,
            release_path=released.body["path"] if released else "",
            models=tuple(uses_of(ref, events, self._sight)),
        )

    def _since(self, version: VersionRecord, row: Mapping[str, Any]) -> VersionRef:
        digest = since(self._records.store, self._project, version.digest, row.get("batch"))
        found = self._records.ledger.version(digest)
        return version_ref(version if found is None else found)

    def held(self, version: VersionRecord, task_id: str) -> _Held | None:
        """Return a task's row and answers in a version, None where the version holds nothing of it."""
        place = ("versions", version.project, version.digest)
        folder = freezing.version_path(self._records.store, version.project, version.digest)
        gone = rows_gone(self._records, version, self._sight)
        if gone:
            return _Held("not kept", None, {}, (), gone)
        line, row = next(_lines_about(folder / "rows.jsonl", task_id), (None, {}))
        losing = [one for _, one in _lines_about(folder / "losing.jsonl", task_id)]
        outcome = "counted" if line else self._left_out(version, task_id)
        if outcome is None:
            return None
        for name, used in (("manifest.json", True), ("rows.jsonl", line), ("losing.jsonl", losing)):
            if used:
                self._sight.file(*place, name)
        answers = [self._answer(one, "") for one in row.get("answers", ())]
        answers += [self._answer(one, one["reason"]) for one in losing]
        return _Held(outcome, line, row, tuple(answers))

    def _left_out(self, version: VersionRecord, task_id: str) -> str | None:
        manifest = freezing.read_manifest(self._records.store, version.project, version.digest)
        for name in ("ignored", "disputed", "missing"):
            listed: TaskList = getattr(manifest, name)
            if any(one.task_id == task_id for one in listed.items or ()):
                return name
            if listed.file is not None:
                folder = freezing.version_path(self._records.store, version.project, version.digest)
                if next(_lines_about(folder / listed.file.name, task_id), None) is not None:
                    return name
        return None

    def _answer(self, answer: dict[str, Any], reason: str) -> AnswerFacts:
        at = datetime.fromisoformat(answer["at"]) if answer["at"] else None
        guideline = self._guideline(answer, at)
        return AnswerFacts(
            person=answer["person"],
            at=at,
            row=answer["row"],
            counted=not reason,
            reason=reason,
            guideline=guideline,
            taxonomy=self._taxonomy(answer, guideline),
        )

    def _guideline(self, answer: dict[str, Any], at: datetime | None) -> InForce:
        if answer["guideline"]:
            labels = self.release(answer["guideline"])
            return InForce(
                answer["guideline"], answer["guideline_number"], labels, "stamped",
                "by the process that served the task",
            )  # fmt: skip
        if at is None:
            return InForce(None, None, (), "unknown", "no stamp, and the answer has no time")
        before = [one for one in self.activations() if one.started <= at]
        if not before:
            return InForce(
                None, None, (), "unknown", "no stamp, and no process is known to have begun before the answer"
            )
        last = before[-1]
        self._sight.file(*self._home, "activations", last.file)
        return InForce(
            last.digest, last.number, self.release(last.digest), "inferred",
            f"no stamp; the last process to begin before the answer loaded it at {last.started.isoformat()}",
        )  # fmt: skip

    def _taxonomy(self, answer: dict[str, Any], guideline: InForce) -> InForce:
        stamped = answer.get("labels_digest")
        if stamped:
            same = guideline.labels and labels_digest(guideline.labels) == stamped
            return InForce(
                stamped, None, guideline.labels if same else (), "stamped",
                "by the process that served the task",
            )  # fmt: skip
        if not guideline.labels:
            return InForce(None, None, (), "unknown", "no stamp, and no release with a list of labels is known")
        return InForce(
            labels_digest(guideline.labels), guideline.number, guideline.labels, "inferred",
            f"the labels of the guideline's release, which is {guideline.how}",
        )  # fmt: skip

    def _activations(self) -> list[_Activation]:
        folder = self._records.store.at(*self._home, "activations")
        found = []
        for path in sorted(folder.glob("*.json"), key=lambda one: one.name) if folder.exists() else ():
            value = read_json(path)
            found.append(
                _Activation(path.name, datetime.fromisoformat(value["started"]), value["digest"], value.get("number"))
            )
        return sorted(found, key=lambda one: one.started)

    def _release(self, digest: str) -> tuple[str, ...]:
        """Return the labels of a guideline release, () where it is not in the store."""
        home = self._records.store.at(*self._home)
        for path in home.glob(f"*-{digest[:SHORT]}") if home.exists() else ():
            record = path / "release.json"
            value = read_json(record) if record.exists() else {}
            if value.get("digest") == digest:
                self._sight.file(*self._home, path.name, "release.json")
                for event in self._records.ledger.events(self._project, ["guideline.published"]):
                    if event.digest_after == digest:
                        self._sight.event(event)
                return tuple(value["substance"]["labels"])
        return ()


def _lines_about(place: StorePath, task_id: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the lines about a task, with their numbers; other lines are not even parsed."""
    needle = f'"task_id":"{task_id}"'.encode()
    with place.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            # What the annotator saw may hold such words too: the parsed line decides.
            if needle in line and (value := json.loads(line))["task_id"] == task_id:
                yield number, value


def _checked(task_id: str) -> str:
    if len(task_id) != 64 or not set(task_id) <= set("0123456789abcdef"):
        raise InvalidInput(f"task: found {task_id[:80]!r}; allowed: a task id, 64 characters of 0-9 and a-f")
    return task_id
