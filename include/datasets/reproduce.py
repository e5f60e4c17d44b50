"""Making a version again from Prodigy's database, and saying exactly what differs where it cannot be made.

The version's own files say which tasks and which stored answers it was made of, the manifest says by which rule. The
same answers are taken out of today's database, by the SHA-256 of their stored bytes, resolved by the manifest's rule
and frozen in a temporary place. If the digest is the same, everything that the version rests on is still there and
unchanged, and the code gives what it gave. If not, each answer that was altered or has vanished is named, and each
record that comes out differently.

Of a version that rests on another, the tasks of its own batch are made again, and the rest is taken over as the base
has it: whether that can be made again is asked of the base.

Answers to the batch's tasks that the version does not know are *late*: they belong to the next batch, so they are
counted, and make no difference. Register, policy and settings that were changed since are told too; the rule and the
policy are those of the manifest all the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from include.annotation.answers import Answer
from include.base.canonical import SHORT
from include.base.disk import scratch_folder
from include.base.errors import InvalidInput
from include.base.store import Store, StorePath
from include.datasets.diff import Change, VersionDiff, compare
from include.datasets.freeze import build, check_version, rows
from include.datasets.kept import KeptVersion
from include.datasets.manifest import Manifest, TaskList, read_manifest, version_path
from include.datasets.resolve import FinalDecision
from include.datasets.withdrawals import refuse_withdrawn
from include.people.register import Register
from include.projects.model import Project, Repeated, Rule
from include.queues.progress import form

__all__ = ["Reproduction", "ReproductionFinding", "reproduce"]

LISTED = 100
"""How many findings of a kind a result holds; all are counted, and all go to the sink."""

_KEY_BYTES = 16

Look = Callable[[Iterable[int]], Iterable[tuple[int, str | None]]]


@dataclass(frozen=True)
class ReproductionFinding:
    """Something that is not as it was when the version was frozen.

    :param kind: ``altered`` (a stored answer has other bytes), ``vanished`` (it is gone), ``unread`` (it is stored
        unchanged, but is not among the dataset's readable answers any more), ``lost`` (it is not among them, and nobody
        could look why), ``late`` (an answer that the version does not know), ``decision`` (a final decision that the
        version counts is gone), ``record`` (a record comes out differently), ``setting`` (register, policy or rule
        were changed since).
    :param subject: what it is about: an example of Prodigy's, a task, a field.
    """

    kind: str
    subject: str
    detail: str

    def as_json(self) -> dict[str, str]:
        """Return the finding as JSON."""
        return {"kind": self.kind, "subject": self.subject, "detail": self.detail}


@dataclass(frozen=True)
class Reproduction:
    """The outcome.

    :param rebuilt: digest of what was made: the version's own where it is ``reproduced``.
    :param answers: how many answers to its batch the version was made of, and ``found`` how many are still there.
    :param base: digest of the version that it rests on, whose other rows were taken over as they are in the store.
    :param counts: findings by kind.
    :param findings: the first :data:`LISTED` of each kind.
    :param difference: the version against what was made, where they differ.
    """

    project: str
    digest: str
    rebuilt: str
    answers: int
    found: int
    counts: Mapping[str, int]
    findings: tuple[ReproductionFinding, ...] = field(repr=False)
    difference: VersionDiff | None = field(repr=False)
    base: str | None = None

    @property
    def reproduced(self) -> bool:
        """Tell whether the same version came out."""
        return self.rebuilt == self.digest

    @property
    def sentence(self) -> str:
        """Return the outcome in a sentence."""
        name = f"Version {self.digest[:SHORT]} of {self.project}"
        told = ", ".join(f"{count} {kind}" for kind, count in self.counts.items())
        if self.reproduced:
            also = f" Also found: {told}." if told else ""
            on = f" on version {self.base[:SHORT]}" if self.base else ""
            return f"{name} was made again from {self.found} answers{on}, with the same digest.{also}"
        return (
            f"{name} could NOT be made again: {self.found} of its {self.answers} answers are there as they were, "
            f"which gives {self.rebuilt[:SHORT]}. Found: {told or 'nothing but other bytes'}."
        )

    def as_json(self) -> dict[str, Any]:
        """Return the outcome as JSON."""
        return {
            "project": self.project,
            "digest": self.digest,
            "rebuilt": self.rebuilt,
            "reproduced": self.reproduced,
            "answers": self.answers,
            "found": self.found,
            "counts": dict(self.counts),
            "findings": [one.as_json() for one in self.findings],
            "difference": self.difference.as_json() if self.difference else None,
            "base": self.base,
        }


def reproduce(
    store: Store,
    project: Project,
    digest: str,
    answers: Iterable[Answer],
    *,
    register: Register,
    decisions: Iterable[FinalDecision] = (),
    look: Look | None = None,
    sink: Callable[[ReproductionFinding], object] | None = None,
) -> Reproduction:
    """Make a version again and compare. Nothing is written to the store.

    Memory grows with the version's answers and tasks (some hundred bytes each), never with their content.

    :param project: the project as it is now; the rule of the manifest goes before its own.
    :param answers: the answers in the project's dataset now, in any order.
    :param decisions: the final decisions there are now; those that the version does not count are passed over.
    :param look: asked for the SHA-256 of what examples hold now, by id (``ProdigyClient.example_digests``).
    :param sink: called with every finding.
    :raises InvalidInput: when there is no such version, or its files are damaged.
    :raises VersionWithdrawn: when its content was removed.
    """
    refuse_withdrawn(store, project, digest)
    problems = check_version(store, project, digest).problems
    if problems:
        raise InvalidInput("\n".join(problems))
    manifest = read_manifest(store, project, digest)
    told = _Told(sink)
    ids = sorted(_task_ids(store, project, digest, manifest))
    if form(ids).digest != manifest.batch:
        raise InvalidInput(f"version {digest}: its {len(ids)} tasks are not those of batch {manifest.batch}")
    taken = _Taken(version_path(store, project, digest), set(ids))
    base = KeptVersion(store, project, manifest.base.digest) if manifest.base else None
    with scratch_folder("reproduce") as folder:
        rebuilt = build(
            Store(folder),
            _as_then(project, manifest),
            manifest.batch,
            ids,
            taken.of(answers, told),
            register=register,
            closing=manifest.closed_by,
            gate=manifest.gate,
            decisions=_decisions(store, project, digest, manifest, decisions, told),
            unfinished=True,
            base=base,
        )
        taken.tell_missing(told, look)
        _tell_settings(manifest, project, register, told)
        made = _comparable(rebuilt.manifest, manifest)
        difference = None
        if made.digest != digest:
            difference = compare(
                manifest, version_path(store, project, digest), made, rebuilt.path, sink=lambda one: _record(one, told)
            )
    return Reproduction(
        project=project.name,
        digest=digest,
        rebuilt=made.digest,
        answers=taken.answers,
        found=taken.answers - taken.missing,
        counts=dict(sorted(told.counts.items())),
        findings=tuple(told.findings),
        difference=difference,
        base=base.digest if base else None,
    )


class _Told:
    """What was found: counted, the first of each kind kept."""

    def __init__(self, sink: Callable[[ReproductionFinding], object] | None) -> None:
        self.counts: Counter[str] = Counter()
        self.findings: list[ReproductionFinding] = []
        self._sink = sink

    def tell(self, kind: str, subject: str, detail: str) -> None:
        found = ReproductionFinding(kind, subject, detail)
        self.counts[kind] += 1
        if self.counts[kind] <= LISTED:
            self.findings.append(found)
        if self._sink is not None:
            self._sink(found)


class _Taken:
    """The stored answers to its batch that a version was made of."""

    def __init__(self, folder: StorePath, tasks: set[str]) -> None:
        self._place = folder / "sources.jsonl"
        self._tasks = tasks
        self._left = Counter(_key(source["row"]) for source in self._sources())
        self.answers = self.missing = self._left.total()

    def of(self, answers: Iterable[Answer], told: _Told) -> Iterator[Answer]:
        """Yield those of some answers that the version took; tell which came later."""
        for answer in answers:
            key = _key(answer.row_digest)
            if self._left.get(key, 0):
                self._left[key] -= 1
                self.missing -= 1
                yield answer
            elif answer.task_id in self._tasks:
                detail = f"answer {answer.row_digest[:SHORT]} to task {answer.task_id[:SHORT]} is not in the version"
                told.tell("late", f"example {answer.example_id}", detail)

    def tell_missing(self, told: _Told, look: Look | None) -> None:
        """Tell which answers were not among those given, and what became of them."""
        if not self.missing:
            return
        found = None if look is None else iter(look(source["example_id"] for source in self._gone()))
        for source in self._gone():
            row, example = source["row"], source["example_id"]
            kind, detail = "lost", "is not among the dataset's answers"
            if found is not None:
                _, now = next(found, (example, None))
                if now is None:
                    kind, detail = "vanished", "is gone from the database"
                elif now != row:
                    kind, detail = "altered", f"now holds {now[:SHORT]}"
                else:
                    kind, detail = "unread", "is stored unchanged, but is not among the dataset's readable answers"
            answer = f"answer {row[:SHORT]} to task {source['task_id'][:SHORT]}"
            told.tell(kind, f"example {example}", f"{answer} {detail}")

    def _gone(self) -> Iterator[dict[str, Any]]:
        left = self._left.copy()
        for source in self._sources():
            key = _key(source["row"])
            if left[key] > 0:
                left[key] -= 1
                yield source

    def _sources(self) -> Iterator[dict[str, Any]]:
        with self._place.open("rb") as lines:
            for line in lines:
                source = orjson.loads(line)
                if source["task_id"] in self._tasks:
                    yield source


def _key(row_digest: str) -> bytes:
    return bytes.fromhex(row_digest)[:_KEY_BYTES]


def _task_ids(store: Store, project: Project, digest: str, manifest: Manifest) -> Iterator[str]:
    """Yield the tasks of the batch: those with a record, and those listed as left out."""
    if manifest.base is not None:
        yield from store.get_value(manifest.batch)
        return
    for row in rows(store, project, digest):
        yield row["task_id"]
    for listed in (manifest.ignored, manifest.disputed, manifest.missing):
        yield from _listed(version_path(store, project, digest), listed)


def _listed(folder: StorePath, listed: TaskList) -> Iterator[str]:
    for entry in listed.items or ():
        yield entry.task_id
    if listed.file is not None:
        with (folder / listed.file.name).open("rb") as lines:
            for line in lines:
                yield str(orjson.loads(line)["task_id"])


def _decisions(
    store: Store,
    project: Project,
    digest: str,
    manifest: Manifest,
    decisions: Iterable[FinalDecision],
    told: _Told,
) -> list[FinalDecision]:
    """Return the decisions that the version counts; tell which of them are gone."""
    if not manifest.adjudicators:
        return []
    wanted = {
        row["decision"]["id"]: row["task_id"]
        for row in rows(store, project, digest)
        if row["decision"] and (manifest.base is None or row.get("batch") == manifest.batch)
    }
    # A task that was decided to be ignored is listed without its decision.
    ignored = set(_listed(version_path(store, project, digest), manifest.ignored))
    found = []
    for decision in decisions:
        by_then = decision.task_id in ignored and decision.person in manifest.adjudicators
        if wanted.pop(decision.decision_id, None) is not None or by_then:
            found.append(decision)
    for decision_id, task in wanted.items():
        told.tell("decision", f"task {task[:SHORT]}", f"decision {decision_id} is gone")
    return found


def _as_then(project: Project, manifest: Manifest) -> Project:
    """Return the project with the settings that the manifest records."""
    rule = manifest.rule
    annotation = project.annotation.model_copy(
        update={
            "labels": tuple(manifest.labels),
            "rule": Rule(rule.name),
            "answers_per_task": rule.answers_per_task,
            "repeated": Repeated(rule.repeated or "latest"),
        }
    )
    return project.model_copy(update={"annotation": annotation})


def _comparable(made: Manifest, manifest: Manifest) -> Manifest:
    """Return the manifest of what was made, with what is no outcome of making it as the version has it."""
    same: dict[str, Any] = {
        "interface": manifest.interface,
        "rule": manifest.rule,
        "policy": manifest.policy,
        "policy_digest": manifest.policy_digest,
        "register_digest": manifest.register_digest,
    }
    if manifest.format == 1:
        same |= {"format": 1, "repeats": None}
    return made.model_copy(update=same)


def _tell_settings(manifest: Manifest, project: Project, register: Register, told: _Told) -> None:
    annotation, rule = project.annotation, manifest.rule
    for name, then, now in (
        ("register", manifest.register_digest[:SHORT], register.digest[:SHORT]),
        ("policy", manifest.policy_digest[:SHORT], project.policy.digest[:SHORT]),
        ("annotation.interface", manifest.interface, str(annotation.interface)),
        ("annotation.rule", rule.name, annotation.rule.value),
        ("annotation.answers_per_task", str(rule.answers_per_task), str(annotation.answers_per_task)),
        ("annotation.repeated", rule.repeated or "latest", annotation.repeated.value),
    ):
        if then != now:
            told.tell("setting", name, f"was {then} when the version was frozen, is {now} now")


def _record(change: Change, told: _Told) -> None:
    what = {
        "added": "has a record now that the version does not hold",
        "removed": f"has no record any more ({change.elsewhere})",
        "relabelled": "gets another label",
        "evidence": "gets the same label from other evidence",
    }[change.kind]
    told.tell("record", f"task {change.task_id[:SHORT]}", what)
