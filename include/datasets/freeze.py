"""Freezing the answers to a batch into an immutable dataset version, and reading such versions back.

``versions/<project>/<digest>/`` holds

* ``rows.jsonl``: the labels that count, one canonical JSON object a line, sorted by task id;
* ``losing.jsonl``: every other answer to the batch's tasks, with the reason why it does not count;
* ``ignored.jsonl``, ``disputed.jsonl``, ``missing.jsonl``: tasks left out, where a list is too long for the manifest;
* ``repeats.jsonl``: who answered a task more than once and which answers lost by it, where too long for the manifest;
* ``sources.jsonl``: where each answer is in Prodigy's database. Row ids belong to one database and may be used again
  by it, so this file is outside the digest: the rows themselves carry the SHA-256 of the stored answer;
* ``manifest.json``: written last. The version's digest is the SHA-256 of this file.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Any, Literal

from include.annotation.answers import Answer
from include.annotation.values import choice_of, labels_of, plain, utc_text
from include.base.canonical import SHORT, canonical_json
from include.base.disk import writing_scratch
from include.base.errors import InvalidInput, Refused
from include.base.store import BLOCK, Store, StorePath, atomic_file, atomic_write, measure
from include.datasets.kept import KeptTask, KeptVersion
from include.datasets.lines import frozen_lines
from include.datasets.manifest import (
    INLINE,
    Base,
    ClosedBy,
    Counts,
    FileRef,
    GuidelineShare,
    Manifest,
    PersonShare,
    RepeatEntry,
    RepeatList,
    RuleRef,
    TaskEntry,
    TaskList,
    read_manifest,
    version_path,
)
from include.datasets.resolve import (
    REPEATED_TEXT,
    RULE_TEXT,
    FinalDecision,
    Resolution,
    Vote,
    final_decisions,
    resolve_task,
)
from include.datasets.votes import VoteStore, pack
from include.datasets.withdrawals import Withdrawal, refuse_withdrawn, withdrawal
from include.people.register import Register
from include.projects.model import Project
from include.queues.progress import form

__all__ = [
    "FrozenVersion",
    "SourceDrift",
    "VersionState",
    "build",
    "check_version",
    "compare_sources",
    "freeze",
    "losing",
    "read_manifest",
    "rows",
    "source_rows",
    "verify_version",
    "version_path",
]

_SOURCE = attrgetter("row_digest", "example_id", "link_id")


@dataclass(frozen=True)
class FrozenVersion:
    """A version in the store; ``created`` tells whether this call wrote it."""

    digest: str
    manifest: Manifest
    path: StorePath
    row_count: int
    created: bool


@dataclass(frozen=True)
class SourceDrift:
    """An answer that is not any more what the version took."""

    example_id: int
    kind: Literal["altered", "vanished"]
    expected: str
    found: str | None


def freeze(
    store: Store,
    project: Project,
    batch: str,
    task_ids: Iterable[str],
    answers: Iterable[Answer],
    *,
    register: Register,
    closed_by: str | None = None,
    closing_reason: str = "",
    gate: Mapping[str, Any] | None = None,
    decisions: Iterable[FinalDecision] = (),
    from_round: int | None = None,
    unfinished: bool = False,
    base: KeptVersion | None = None,
) -> FrozenVersion:
    """Resolve and freeze the answers to a batch, on top of what its base holds of other tasks.

    The same answers give the same digest, in whatever order and from whatever database they come, for nothing of the
    clock, the version's number or the database's row ids goes into it. Answers to other tasks are passed over. Answers
    wait in a temporary file, a part of which is held at a time: memory grows with the number of the batch's tasks (some
    hundred bytes each), not with the answers.

    :param closed_by: id of the person who closes the batch although answers are missing, with ``closing_reason``.
    :param gate: reference to the quality check that the answers passed: identifiers, counts and digests.
    :param decisions: reviews and final decisions on the batch's tasks.
    :param from_round: answers of earlier rounds do not count, even on tasks without a later one.
    :param unfinished: go on although answers are missing and nobody closed the batch.
    :param base: the approved version that this one rests on; without one it holds the batch alone.
    :raises InvalidInput: when the tasks are not the batch's, or the closing person is unknown or gives no reason.
    :raises Refused: when answers are missing and nobody closes the batch.
    :raises VersionWithdrawn: when there was such a version, and its content was removed.
    """
    ids = sorted(task_ids)
    _check_batch(batch, ids)
    closing = _closing(register, closed_by, closing_reason)
    return build(
        store,
        project,
        batch,
        ids,
        answers,
        register=register,
        closing=closing,
        gate=gate,
        decisions=decisions,
        from_round=from_round,
        unfinished=unfinished,
        base=base,
    )


def build(
    store: Store,
    project: Project,
    batch: str,
    ids: Sequence[str],
    answers: Iterable[Answer],
    *,
    register: Register,
    closing: ClosedBy | None,
    gate: Mapping[str, Any] | None,
    decisions: Iterable[FinalDecision],
    from_round: int | None = None,
    unfinished: bool = False,
    base: KeptVersion | None = None,
) -> FrozenVersion:
    """Do as :func:`freeze` for tasks that are known to be the batch's, in order, and a closing that was checked."""
    if base is not None and base.manifest.interface != project.annotation.interface:
        raise InvalidInput(
            f"version {base.digest[:SHORT]} of {project.name} holds answers of interface {base.manifest.interface}, "
            f"and the project's is {project.annotation.interface}: no version can rest on it"
        )
    with ExitStack() as stack:
        known = dict.fromkeys(ids, True)
        votes = stack.enter_context(VoteStore())
        votes.add_all(pack(project.name, register, known, answers))
        standing = final_decisions(decision for decision in decisions if decision.task_id in known)
        del known
        draft = _Draft(project, stack, batch if base else None)
        answered = votes.by_task()
        task_votes = next(answered, None)
        for task, kept in _in_order(ids, base):
            if task is None:
                draft.keep(kept)
                continue
            given: list[Vote] = []
            if task_votes is not None and task_votes[0] == task:
                given = task_votes[1]
                task_votes = next(answered, None)
            decision = standing.get(task)
            resolution = resolve_task(
                task,
                given,
                rule=project.annotation.rule,
                needed=project.annotation.answers_per_task,
                repeated=project.annotation.repeated,
                decision=decision,
                decided_choice=choice_of(plain(decision.value)) if decision else None,
                from_round=from_round,
            )
            draft.add(resolution, given, was_row=kept.row is not None)
        manifest = draft.manifest(batch, register, closing, gate, base)
        if draft.missing and closing is None and not unfinished:
            raise Refused(
                f"batch {batch[:SHORT]} of {project.name} is not finished: {draft.missing} of {len(ids)} "
                "tasks lack answers; wait for them, or let a named person close it with a reason"
            )
        refuse_withdrawn(store, project, manifest.digest)
        place = version_path(store, project, manifest.digest)
        created = draft.write(place, manifest)
    return FrozenVersion(manifest.digest, manifest, place, manifest.counts.rows, created)


def _in_order(ids: Sequence[str], base: KeptVersion | None) -> Iterator[tuple[str | None, KeptTask]]:
    """Yield, in order of the ids, each task of the batch with what the base has of it, and None with what it keeps."""
    if base is None:
        nothing = KeptTask()
        yield from ((task, nothing) for task in ids)
        return
    mine = ((task, None) for task in ids)
    for task, found in groupby(heapq.merge(mine, base.by_task(), key=itemgetter(0)), key=itemgetter(0)):
        parts = [one for _, one in found]
        kept = next((one for one in parts if one is not None), KeptTask())
        yield (task if None in parts else None), kept


def rows(store: Store, project: Project | str, digest: str) -> Iterator[dict[str, Any]]:
    """Stream a version's rows, sorted by task id; whoever reads to the end has read the bytes that were frozen.

    :raises VersionWithdrawn: when its content was removed.
    :raises InvalidInput: naming file and line for a line that is not a JSON object; at the end, when the bytes that
        were read are not those of the manifest. A file may change between a check and its next reading, so what is
        made of it is checked as it is read.
    """
    yield from _frozen_lines(store, project, digest, read_manifest(store, project, digest).rows)


def losing(store: Store, project: Project | str, digest: str) -> Iterator[dict[str, Any]]:
    """Stream the answers to the batch that do not count, with their reasons, sorted by task id.

    :raises VersionWithdrawn: as :func:`rows`.
    :raises InvalidInput: as :func:`rows`.
    """
    yield from _frozen_lines(store, project, digest, read_manifest(store, project, digest).losing)


def _frozen_lines(store: Store, project: Project | str, digest: str, file: FileRef) -> Iterator[dict[str, Any]]:
    refuse_withdrawn(store, project, digest)
    yield from _lines(version_path(store, project, digest) / file.name, file.sha256)


def source_rows(
    store: Store, project: Project | str, digest: str, recorded: str | None = None
) -> Iterator[tuple[int, str]]:
    """Stream (example id, SHA-256 of the stored answer) for every answer that the version took into account.

    :param recorded: the SHA-256 of the listing that the ledger has (``sources_digest`` of ``version.ready``), for the
        manifest does not hold it.
    :raises VersionWithdrawn: as :func:`rows`.
    :raises InvalidInput: as :func:`rows`, where ``recorded`` is given.
    """
    refuse_withdrawn(store, project, digest)
    for entry in _lines(version_path(store, project, digest) / "sources.jsonl", recorded):
        yield int(entry["example_id"]), str(entry["row"])


def compare_sources(
    expected: Iterable[tuple[int, str]], current: Iterable[tuple[int, str | None]]
) -> list[SourceDrift]:
    """Return which answers were altered or have vanished since the version was frozen, by example id.

    :param expected: see :func:`source_rows`.
    :param current: the same examples as the database holds them now; None, or no entry, for one that is gone.
    """
    found = dict(current)
    drifts = []
    for example_id, digest in sorted(set(expected)):
        now = found.get(example_id)
        if now != digest:
            drifts.append(SourceDrift(example_id, "vanished" if now is None else "altered", digest, now))
    return drifts


@dataclass(frozen=True)
class VersionState:
    """How a version in the store is.

    :param state: ``whole``; ``withdrawn``, its content removed in a person's name and its manifest unchanged; or
        ``damaged``.
    :param problems: what is wrong, as sentences; for a withdrawn version also what of its content is still there.
    """

    state: Literal["whole", "withdrawn", "damaged"]
    problems: tuple[str, ...] = ()
    withdrawal: Withdrawal | None = None


def check_version(store: Store, project: Project | str, digest: str) -> VersionState:
    """Check every byte of a version, and tell one that was withdrawn from one that is damaged."""
    try:
        manifest = read_manifest(store, project, digest)
        withdrawn = withdrawal(store, project, digest)
    except InvalidInput as error:
        return VersionState("damaged", (str(error),))
    folder = version_path(store, project, digest)
    if withdrawn is not None:
        left = [f"{folder / one.name}: is still there" for one in withdrawn.removed if (folder / one.name).exists()]
        return VersionState("withdrawn", tuple(left), withdrawn)
    problems = _problems(folder, manifest)
    return VersionState("damaged" if problems else "whole", tuple(problems))


def verify_version(store: Store, project: Project | str, digest: str) -> list[str]:
    """Return why a version cannot be used, as sentences; an empty list when it is whole and unchanged.

    See :func:`check_version`, which tells a withdrawn version from a damaged one.
    """
    found = check_version(store, project, digest)
    if found.withdrawal is not None:
        return [found.withdrawal.sentence, *found.problems]
    return list(found.problems)


def _problems(folder: StorePath, manifest: Manifest) -> list[str]:
    lists = {"ignored": manifest.ignored, "disputed": manifest.disputed, "missing": manifest.missing}
    problems = [problem for file in manifest.files() for problem in _file_problems(folder, file)]
    problems += _count_problems(manifest, lists)
    if not problems:
        problems += _content_problems(folder, manifest)
    return problems


class _Draft:
    """A version in the making: its files are spooled and counted, and put into place once the digest is known.

    :param batch: named by each row that is not taken over, where the version rests on another: by it people find since
        which version a row is as it is.
    """

    def __init__(self, project: Project, stack: ExitStack, batch: str | None = None) -> None:
        self._project = project
        self._batch = b"" if batch is None else b'"batch":"%b",' % batch.encode("ascii")
        self.missing = 0
        self._hands: set[str] = set()
        self._changes: Counter[str] = Counter(kept=0, added=0, changed=0, removed=0)
        self._files = {
            name: stack.enter_context(_Spool(f"{name}.jsonl"))
            for name in ("rows", "losing", "ignored", "disputed", "missing", "repeats", "sources")
        }
        self._tasks = 0
        self._lists: dict[str, list[TaskEntry]] = {"ignored": [], "disputed": [], "missing": []}
        self._repeats: list[RepeatEntry] = []
        self._repeated_answers = 0
        self._labels: Counter[str] = Counter(dict.fromkeys(project.annotation.labels, 0))
        self._answers: Counter[str] = Counter(accept=0, reject=0, none=0)
        self._counts: Counter[str] = Counter(rows=0, decided=0, unanimous=0, split=0)
        self._reasons: Counter[str] = Counter()
        self._shares: dict[str, Counter[tuple[str, str, int | None]]] = {"counted": Counter(), "losing": Counter()}
        self._adjudicators: set[str] = set()
        self._first: str | None = None
        self._last: str | None = None
        self._given: dict[bytes, tuple[str, list[str]]] = {}

    def add(self, resolution: Resolution, votes: Collection[Vote], *, was_row: bool = False) -> None:
        """Take one task in, or list it as left out.

        :param votes: every answer to the task.
        :param was_row: the base has a row of it.
        """
        self._tasks += 1
        self._hands.update(vote.person for vote in votes)
        if resolution.decision is not None:
            self._adjudicators.add(resolution.decision.person)
            self._hands.add(resolution.decision.person)
        if resolution.outcome == "counted":
            self._changes["changed" if was_row else "added"] += 1
            self._add_row(resolution, _shown(resolution, votes))
        else:
            self._changes["removed"] += was_row
            self.missing += resolution.outcome == "missing"
            entry = TaskEntry(task_id=resolution.task_id, persons=resolution.persons, values=resolution.values)
            self._list(resolution.outcome, entry)
        for repeat in resolution.repeats:
            self._list_repeat(
                RepeatEntry(
                    task_id=resolution.task_id,
                    person=repeat.person,
                    round=resolution.round,
                    kept=repeat.kept,
                    lost=list(repeat.lost),
                )
            )
        counted = self._shares["counted"]
        for vote in resolution.counted:
            counted[vote.person, vote.guideline, vote.guideline_number] += 1
        losing = self._shares["losing"]
        for vote, reason in resolution.losing:
            losing[vote.person, vote.guideline, vote.guideline_number] += 1
            self._reasons[reason] += 1
            self._files["losing"].write(_losing_line(vote, reason))
        lines = []
        for vote in sorted(votes, key=_SOURCE):
            lines.append(
                f'{{"example_id":{vote.example_id},"link_id":{vote.link_id},'
                f'"row":"{vote.row_digest}","task_id":"{vote.task_id}"}}\n'
            )
            self._span(vote.time)
        self._files["sources"].write("".join(lines).encode("ascii"), len(lines))

    def keep(self, kept: KeptTask) -> None:
        """Take over what the base holds of one task, byte for byte, and count it."""
        self._tasks += 1
        if kept.row is not None:
            self._changes["kept"] += 1
            self._files["rows"].write(kept.row[0])
            self._count_kept(kept.row[1])
        elif kept.listed is not None:
            self._list(*kept.listed)
        for line, entry in kept.losing:
            self._files["losing"].write(line)
            self._reasons[entry["reason"]] += 1
            self._share("losing", entry)
        for repeat in kept.repeats:
            self._list_repeat(repeat)
        self._files["sources"].write(b"".join(kept.sources), len(kept.sources))

    def _count_kept(self, row: Mapping[str, Any]) -> None:
        answers, decision = row["answers"], row["decision"]
        self._counts["decided"] += decision is not None
        self._counts["unanimous"] += decision is None and len(answers) == row["persons"]
        self._counts["split"] += len(answers) < row["persons"]
        self._count_labels(row["value"]["answer"], labels_of(row["value"], row["shown"]))
        if decision is not None:
            self._adjudicators.add(decision["person"])
        for answer in answers:
            self._share("counted", answer)

    def _share(self, part: str, answer: Mapping[str, Any]) -> None:
        self._shares[part][answer["person"], answer["guideline"] or "unknown", answer["guideline_number"]] += 1
        self._span(answer["at"])

    def _span(self, time: str | None) -> None:
        if time is not None:
            if self._first is None or time < self._first:
                self._first = time
            if self._last is None or time > self._last:
                self._last = time

    def manifest(
        self,
        batch: str,
        register: Register,
        closing: ClosedBy | None,
        gate: Mapping[str, Any] | None,
        base: KeptVersion | None = None,
    ) -> Manifest:
        """Return the manifest of everything added."""
        rests: dict[str, Any] = {}
        if base is not None:
            # A task that somebody decided to be ignored does not say by whom: who did is known from the base.
            self._adjudicators.update(base.manifest.adjudicators)
            rests = {"format": 3, "base": Base(digest=base.digest, hands=sorted(self._hands), **self._changes)}
        annotation = self._project.annotation
        totals = self._counts
        counted, losing = (self._shares[part].total() for part in ("counted", "losing"))
        return Manifest(
            **rests,
            project=self._project.name,
            interface=str(annotation.interface),
            batch=batch,
            rule=RuleRef(
                name=annotation.rule.value,
                answers_per_task=annotation.answers_per_task,
                repeated=annotation.repeated.value,
                text=f"{RULE_TEXT[annotation.rule]}; {REPEATED_TEXT[annotation.repeated]}",
            ),
            counts=Counts(
                tasks=self._tasks,
                rows=totals["rows"],
                ignored=self._files["ignored"].lines,
                disputed=self._files["disputed"].lines,
                missing=self._files["missing"].lines,
                answers=counted + losing,
                counted=counted,
                losing=losing,
                unanimous=totals["unanimous"],
                split=totals["split"],
                decided=totals["decided"],
            ),
            labels=dict(sorted(self._labels.items())),
            answers=dict(sorted(self._answers.items())),
            losing_reasons=dict(sorted(self._reasons.items())),
            persons=[PersonShare(id=key[0], counted=some, losing=others) for key, some, others in self._parts(0, 1)],
            adjudicators=sorted(self._adjudicators),
            guidelines=[
                GuidelineShare(digest=key[0], number=key[1], counted=some, losing=others)
                for key, some, others in self._parts(1, 3)
            ],
            first_answer_at=self._first,
            last_answer_at=self._last,
            rows=self._files["rows"].reference(),
            losing=self._files["losing"].reference(),
            ignored=self._task_list("ignored"),
            disputed=self._task_list("disputed"),
            missing=self._task_list("missing"),
            repeats=self._repeat_list(),
            policy=self._project.policy.pinned(),
            policy_digest=self._project.policy.digest,
            register_digest=register.digest,
            closed_by=closing,
            gate=plain(gate) if gate is not None else None,
        )

    def write(self, folder: StorePath, manifest: Manifest) -> bool:
        """Put the files into place, the manifest last; return False when the whole version was there already."""
        whole = (folder / "manifest.json").exists()
        for name in ("rows", "losing"):
            self._files[name].put(folder)
        for name in ("ignored", "disputed", "missing", "repeats"):
            if self._files[name].lines > INLINE:
                self._files[name].put(folder)
        if not (folder / "sources.jsonl").exists():
            self._files["sources"].put(folder)
        if whole:
            if bytes((folder / "manifest.json").read_bytes()) != manifest.content():
                raise InvalidInput(f"{folder / 'manifest.json'}: already holds other bytes")
            return False
        atomic_write(folder / "manifest.json", manifest.content())
        return True

    def _add_row(self, resolution: Resolution, shown: bytes) -> None:
        decision = resolution.decision
        counted = resolution.counted
        counts = self._counts
        if decision is not None:
            value = canonical_json(plain(decision.value))
            decided = canonical_json(
                {"id": decision.decision_id, "person": decision.person, "at": utc_text(decision.time)}
            )
            counts["decided"] += 1
        else:
            value, decided = counted[0].value, b"null"
            if len(counted) == resolution.persons:
                counts["unanimous"] += 1
        if len(counted) < resolution.persons:
            counts["split"] += 1
        self._count_labels(*self._labels_of(value, shown))
        # The pieces are canonical JSON, and so is the line: its keys are in order.
        self._files["rows"].write(
            b'{"answers":[%b],"basis":"%b",%b"decision":%b,"persons":%d,"round":%d,"shown":%b,"task_id":"%b","value":%b}\n'
            % (
                b",".join([b'%b,"row":"%b"}' % (vote.head, vote.row_digest.encode("ascii")) for vote in counted]),
                resolution.basis.encode("ascii"),
                self._batch,
                decided,
                resolution.persons,
                resolution.round,
                shown,
                resolution.task_id.encode("ascii"),
                value,
            )
        )

    def _count_labels(self, answer: str, labels: Sequence[str]) -> None:
        self._counts["rows"] += 1
        for label in labels:
            self._labels[label] += 1
        self._answers[answer] += 1
        if answer == "accept" and not labels:
            self._answers["none"] += 1

    def _labels_of(self, value: bytes, shown: bytes) -> tuple[str, list[str]]:
        """Return what :func:`labels_of` says of a value, which is asked once for each value."""
        found = self._given.get(value)
        if found is None:
            content = json.loads(value)
            given = labels_of(content, {})
            if not given and content["answer"] == "accept":
                return content["answer"], labels_of(content, json.loads(shown))
            found = str(content["answer"]), given
            if len(self._given) >= INLINE:
                self._given.clear()
            self._given[value] = found
        return found

    def _list(self, outcome: str, entry: TaskEntry) -> None:
        entries = self._lists[outcome]
        if len(entries) < INLINE:
            entries.append(entry)
        self._files[outcome].write(canonical_json(entry.model_dump(mode="json")) + b"\n")

    def _task_list(self, name: str) -> TaskList:
        file = self._files[name]
        if file.lines > INLINE:
            return TaskList(count=file.lines, file=file.reference())
        return TaskList(count=file.lines, items=self._lists[name])

    def _list_repeat(self, entry: RepeatEntry) -> None:
        self._repeated_answers += len(entry.lost)
        if len(self._repeats) < INLINE:
            self._repeats.append(entry)
        self._files["repeats"].write(canonical_json(entry.model_dump(mode="json")) + b"\n")

    def _repeat_list(self) -> RepeatList:
        file = self._files["repeats"]
        if file.lines > INLINE:
            return RepeatList(count=file.lines, answers=self._repeated_answers, file=file.reference())
        return RepeatList(count=file.lines, answers=self._repeated_answers, items=self._repeats)

    def _parts(self, first: int, last: int) -> list[tuple[tuple[Any, ...], int, int]]:
        """Return (key, counted, losing) by some of the fields that shares are counted under, in order."""
        found: dict[tuple[Any, ...], Counter[str]] = defaultdict(Counter)
        for part, shares in self._shares.items():
            for key, count in shares.items():
                found[key[first:last]][part] += count
        return [
            (key, counts["counted"], counts["losing"])
            for key, counts in sorted(found.items(), key=lambda entry: [one or 0 for one in entry[0]])
        ]


class _Spool:
    """A file of canonical JSON lines that is counted and digested while it is written, and placed later."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines = 0
        with writing_scratch():
            self._file = tempfile.TemporaryFile(prefix="labelops-freeze-")  # noqa: SIM115 - closed by __exit__
        self._waiting: list[bytes] = []
        self._held = 0
        self._digest = hashlib.sha256()

    def __enter__(self) -> _Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, text: bytes, lines: int = 1) -> None:
        self._waiting.append(text)
        self.lines += lines
        self._held += len(text)
        if self._held >= BLOCK:
            self._write_out()

    def reference(self) -> FileRef:
        self._write_out()
        return FileRef(name=self.name, sha256=self._digest.hexdigest(), lines=self.lines)

    def put(self, folder: StorePath) -> None:
        """Place the file unless it is there with the same bytes."""
        self._write_out()
        place = folder / self.name
        if place.exists():
            if measure(place).sha256 == self._digest.hexdigest():
                return
            raise InvalidInput(f"{place}: already holds other bytes; a version is never overwritten")
        self._file.seek(0)
        with atomic_file(place) as out:
            shutil.copyfileobj(self._file, out, BLOCK)

    def _write_out(self) -> None:
        block = b"".join(self._waiting)
        self._digest.update(block)
        with writing_scratch():
            self._file.write(block)
            self._file.flush()
        self._waiting.clear()
        self._held = 0


def _losing_line(vote: Vote, reason: str) -> bytes:
    return b'%b,"reason":"%b","round":%d,"row":"%b","task_id":"%b","value":%b}\n' % (
        vote.head,
        reason.encode("ascii"),
        vote.round,
        vote.row_digest.encode("ascii"),
        vote.task_id.encode("ascii"),
        vote.value,
    )


def _shown(resolution: Resolution, votes: Iterable[Vote]) -> bytes:
    """Return what the row shows: the most that any answer to the task says of it, whichever came first."""
    given = [vote.shown for vote in votes if vote.shown is not None]
    if given:
        return given[0] if len(given) == 1 else max(given, key=lambda shown: (len(shown), shown))
    decision = resolution.decision
    if decision is None or decision.shown is None:
        raise InvalidInput(
            f"task {resolution.task_id} was decided but never answered, and the decision does not hold what was shown"
        )
    return canonical_json(plain(decision.shown))


def _check_batch(batch: str, ids: list[str]) -> None:
    found = form(ids).digest
    if found != batch:
        raise InvalidInput(f"batch {batch}: the {len(ids)} tasks given are another batch, {found}")


def _closing(register: Register, closed_by: str | None, reason: str) -> ClosedBy | None:
    if closed_by is None:
        if reason:
            raise InvalidInput(f"closing_reason: found {reason[:80]!r}, but nobody is named who closes the batch")
        return None
    if register.person(closed_by) is None:
        raise InvalidInput(f"closed_by: found {closed_by!r}; allowed: the id of a person in the register")
    if not reason.strip():
        raise InvalidInput(f"closing_reason: {closed_by} closes an unfinished batch and has to say why")
    return ClosedBy(person=closed_by, reason=reason.strip())


def _lines(place: StorePath, sha256: str | None = None) -> Iterator[dict[str, Any]]:
    return (value for _, value in frozen_lines(place, sha256))


def _file_problems(folder: StorePath, file: FileRef) -> list[str]:
    place = folder / file.name
    if not place.exists():
        return [f"{place}: is missing"]
    found = measure(place)
    if found.sha256 != file.sha256:
        return [
            f"{place}: its SHA-256 is {found.sha256}, the manifest says {file.sha256} "
            f"({found.lines} lines, {file.lines} expected)"
        ]
    return [] if found.lines == file.lines else [f"{place}: has {found.lines} lines, the manifest says {file.lines}"]


def _count_problems(manifest: Manifest, lists: Mapping[str, TaskList]) -> list[str]:
    counts = manifest.counts
    problems = []
    if counts.tasks != counts.rows + counts.ignored + counts.disputed + counts.missing:
        problems.append(f"manifest: counts.tasks is {counts.tasks}, but its parts do not add up to that")
    if counts.answers != counts.counted + counts.losing:
        problems.append(f"manifest: counts.answers is {counts.answers}, but its parts do not add up to that")
    for name, expected, found in (
        ("rows", counts.rows, manifest.rows.lines),
        ("losing", counts.losing, manifest.losing.lines),
        *((name, getattr(counts, name), entries.count) for name, entries in lists.items()),
    ):
        if expected != found:
            problems.append(f"manifest: counts.{name} is {expected}, but {found} are listed")
    named: dict[str, TaskList | RepeatList] = {**lists}
    if manifest.repeats is not None:
        named["repeats"] = manifest.repeats
    for name, entries in named.items():
        if (entries.items is None) == (entries.file is None):
            problems.append(f"manifest: {name}: holds either its items or a file, not both and not neither")
        listed = entries.file.lines if entries.file is not None else len(entries.items or ())
        if listed != entries.count:
            problems.append(f"manifest: {name}.count is {entries.count}, but {listed} are listed")
    return problems


def _content_problems(folder: StorePath, manifest: Manifest) -> list[str]:
    """Return problems that digests alone do not show: order, repeated tasks, counts, answers without their source."""
    problems: list[str] = []
    previous, answers, labels = "", 0, Counter[str]()
    lost = strange = own = 0

    def kept() -> Iterator[tuple[str, list[str]]]:
        nonlocal previous, answers, own
        for row in _lines(folder / "rows.jsonl"):
            if row["task_id"] <= previous:
                problems.append(f"{folder / 'rows.jsonl'}: task {row['task_id']} is out of order or there twice")
            previous = row["task_id"]
            labels.update(labels_of(row["value"], row["shown"]))
            answers += len(row["answers"])
            own += row.get("batch") == manifest.batch
            yield row["task_id"], [answer["row"] for answer in row["answers"]]

    def listed(name: str) -> Iterator[tuple[str, list[str]]]:
        for entry in _lines(folder / name):
            yield str(entry.get("task_id")), [str(entry.get("row"))]

    # All three are in order of their tasks: what one task has and lacks is known before the next is read.
    version = _by_task(heapq.merge(kept(), listed("losing.jsonl"), key=itemgetter(0)))
    try:
        for held, found in _side_by_side(version, _by_task(listed("sources.jsonl"))):
            lost += (held - found).total()
            strange += (found - held).total()
    except InvalidInput as error:
        return [*problems, str(error)]
    if answers != manifest.counts.counted:
        problems.append(f"manifest: counts.counted is {manifest.counts.counted}, the rows hold {answers} answers")
    base = manifest.base
    if base is not None and (own, manifest.counts.rows - own) != (base.added + base.changed, base.kept):
        problems.append(f"manifest: base says {base.told}, and {own} of the rows are of its batch")
    if +Counter(manifest.labels) != labels:
        problems.append("manifest: labels differ from what the rows hold")
    if lost or strange:
        problems.append(
            f"{folder / 'sources.jsonl'}: {lost} answers of the version have no source, {strange} sources no answer"
        )
    return problems


def _by_task(entries: Iterable[tuple[str, list[str]]]) -> Iterator[tuple[str, Counter[str]]]:
    for task, some in groupby(entries, key=itemgetter(0)):
        yield task, Counter(row for _, rows_ in some for row in rows_)


def _side_by_side(
    left: Iterator[tuple[str, Counter[str]]], right: Iterator[tuple[str, Counter[str]]]
) -> Iterator[tuple[Counter[str], Counter[str]]]:
    """Yield what both hold of each task, by task id; nothing where one has none of it."""
    nothing: tuple[str, Counter[str]] = ("", Counter())
    one, other = next(left, None), next(right, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one[0] < other[0]):
            yield (one or nothing)[1], nothing[1]
            one = next(left, None)
        elif one is None or other[0] < one[0]:
            yield nothing[1], other[1]
            other = next(right, None)
        else:
            yield one[1], other[1]
            one, other = next(left, None), next(right, None)
