"""Freezing the answers to a batch into an immutable dataset version, and reading such versions back.

``versions/<project>/<digest>/`` holds

* ``rows.jsonl``: the labels that count, one canonical JSON object a line, sorted by task id;
* ``losing.jsonl``: every other answer to the batch's tasks, with the reason why it does not count;
* ``ignored.jsonl``, ``disputed.jsonl``, ``missing.jsonl``: tasks left out, where a list is too long for the manifest;
* ``sources.jsonl``: where each answer is in Prodigy's database. Row ids belong to one database and may be used again
  by it, so this file is outside the digest: the rows themselves carry the SHA-256 of the stored answer;
* ``manifest.json``: written last. The version's digest is the SHA-256 of this file.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Any, Literal

from include.annotation.answers import Answer
from include.base.canonical import SHORT, canonical_json, sha256_hex
from include.base.errors import InvalidInput, Refused
from include.base.store import Store, StorePath, atomic_file, atomic_write
from include.datasets.batches import form
from include.datasets.manifest import (
    INLINE,
    ClosedBy,
    Counts,
    FileRef,
    GuidelineShare,
    Manifest,
    PersonShare,
    RuleRef,
    TaskEntry,
    TaskList,
    parse_manifest,
)
from include.datasets.resolve import RULE_TEXT, FinalDecision, Resolution, Vote, final_decisions, resolve_task
from include.datasets.values import choice_of, labels_of, person_of, plain, utc_text
from include.governance.register import Register
from include.projects.model import Project

__all__ = [
    "FrozenVersion",
    "SourceDrift",
    "annotators",
    "compare_sources",
    "freeze",
    "losing",
    "read_manifest",
    "rows",
    "source_rows",
    "verify_version",
    "version_path",
]

_BLOCK = 1024 * 1024


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
) -> FrozenVersion:
    """Resolve and freeze the answers to a batch.

    The same answers give the same digest, in whatever order and from whatever database they come, for nothing of the
    clock, the version's number or the database's row ids goes into it. Answers to other tasks are passed over. Content
    is spooled to a temporary file, so memory grows with the number of the batch's answers, not with their size.

    :param closed_by: id of the person who closes the batch although answers are missing, with ``closing_reason``.
    :param gate: reference to the quality check that the answers passed: identifiers, counts and digests.
    :param decisions: reviews and final decisions on the batch's tasks.
    :param from_round: answers of earlier rounds do not count, even on tasks without a later one.
    :raises InvalidInput: when the tasks are not the batch's, or the closing person is unknown or gives no reason.
    :raises Refused: when answers are missing and nobody closes the batch.
    """
    ids = sorted(task_ids)
    _check_batch(batch, ids)
    closing = _closing(register, closed_by, closing_reason)
    with ExitStack() as stack:
        spool = stack.enter_context(tempfile.TemporaryFile(prefix="labelops-freeze-"))
        known = set(ids)
        votes, sources = _collect(project, register, known, answers, spool)
        standing = final_decisions(decision for decision in decisions if decision.task_id in known)
        draft = _Draft(project, stack)
        for task in ids:
            decision = standing.get(task)
            resolution = resolve_task(
                task,
                votes.get(task, ()),
                rule=project.annotation.rule,
                needed=project.annotation.answers_per_task,
                decision=decision,
                decided_choice=choice_of(plain(decision.value)) if decision else None,
                from_round=from_round,
            )
            draft.add(resolution, spool)
        manifest = draft.manifest(batch, register, closing, gate)
        if manifest.missing.count and closing is None:
            raise Refused(
                f"batch {batch[:SHORT]} of {project.name} is not finished: {manifest.missing.count} of {len(ids)} "
                "tasks lack answers; wait for them, or let a named person close it with a reason"
            )
        place = version_path(store, project, manifest.digest)
        created = draft.write(place, manifest, _source_lines(sources))
    return FrozenVersion(manifest.digest, manifest, place, manifest.counts.rows, created)


def version_path(store: Store, project: Project | str, digest: str) -> StorePath:
    """Return the folder of a version."""
    return store.at("versions", _name(project), digest)


def read_manifest(store: Store, project: Project | str, digest: str) -> Manifest:
    """Return a version's manifest.

    :raises InvalidInput: when it is not there, its bytes do not match the digest, or a field is not what it must be.
    """
    place = version_path(store, project, digest) / "manifest.json"
    if not place.exists():
        raise InvalidInput(f"{place}: there is no such version of {_name(project)}")
    content = bytes(place.read_bytes())
    found = sha256_hex(content)
    if found != digest:
        raise InvalidInput(f"{place}: its SHA-256 is {found}, so it is not version {digest} any more")
    manifest = parse_manifest(content, str(place))
    if manifest.project != _name(project):
        raise InvalidInput(f"{place}: project: found {manifest.project!r}; allowed: {_name(project)!r}")
    return manifest


def rows(store: Store, project: Project | str, digest: str) -> Iterator[dict[str, Any]]:
    """Stream a version's rows, sorted by task id.

    :raises InvalidInput: naming file and line for a line that is not a JSON object.
    """
    yield from _lines(version_path(store, project, digest) / "rows.jsonl")


def losing(store: Store, project: Project | str, digest: str) -> Iterator[dict[str, Any]]:
    """Stream the answers to the batch that do not count, with their reasons, sorted by task id.

    :raises InvalidInput: naming file and line for a line that is not a JSON object.
    """
    yield from _lines(version_path(store, project, digest) / "losing.jsonl")


def annotators(manifest: Manifest) -> set[str]:
    """Return everybody who had a hand in the labels: who answered a task of the batch, and who decided one.

    Entries are ids of the register, or ``unknown:…``. None of them may approve the version.
    """
    return {share.id for share in manifest.persons} | set(manifest.adjudicators)


def source_rows(store: Store, project: Project | str, digest: str) -> Iterator[tuple[int, str]]:
    """Stream (example id, SHA-256 of the stored answer) for every answer that the version took into account."""
    for entry in _lines(version_path(store, project, digest) / "sources.jsonl"):
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


def verify_version(store: Store, project: Project | str, digest: str) -> list[str]:
    """Return what is wrong with a version in the store, as sentences; an empty list when it is whole and unchanged."""
    try:
        manifest = read_manifest(store, project, digest)
    except InvalidInput as error:
        return [str(error)]
    folder = version_path(store, project, digest)
    lists = {"ignored": manifest.ignored, "disputed": manifest.disputed, "missing": manifest.missing}
    files = [manifest.rows, manifest.losing, *(each.file for each in lists.values() if each.file is not None)]
    problems = [problem for file in files for problem in _file_problems(folder, file)]
    problems += _count_problems(manifest, lists)
    if not problems:
        problems += _content_problems(folder, manifest)
    return problems


class _Draft:
    """A version in the making: its files are spooled and counted, and put into place once the digest is known."""

    def __init__(self, project: Project, stack: ExitStack) -> None:
        self._project = project
        self._files = {
            name: stack.enter_context(_Spool(f"{name}.jsonl"))
            for name in ("rows", "losing", "ignored", "disputed", "missing")
        }
        self._tasks = 0
        self._lists: dict[str, list[TaskEntry]] = {"ignored": [], "disputed": [], "missing": []}
        self._labels: Counter[str] = Counter(dict.fromkeys(project.annotation.labels, 0))
        self._answers: Counter[str] = Counter(accept=0, reject=0, none=0)
        self._counts: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._persons: dict[str, Counter[str]] = defaultdict(Counter)
        self._guidelines: dict[tuple[str, int | None], Counter[str]] = defaultdict(Counter)
        self._adjudicators: set[str] = set()
        self._times: list[datetime] = []

    def add(self, resolution: Resolution, spool: IO[bytes]) -> None:
        """Take one task in, or list it as left out."""
        self._tasks += 1
        counted = [(vote, _read(spool, vote.place)) for vote in resolution.counted]
        losing = [(vote, _read(spool, vote.place), reason) for vote, reason in resolution.losing]
        if resolution.decision is not None:
            self._adjudicators.add(resolution.decision.person)
        outcome = resolution.outcome
        if outcome == "counted":
            shown = _shown(resolution, [answer for _, answer in counted] or [answer for _, answer, _ in losing])
            self._add_row(resolution, shown, [answer for _, answer in counted])
        else:
            self._list(outcome, resolution)
        for vote, answer in counted:
            self._count("counted", vote, answer)
        for vote, answer, reason in losing:
            self._count("losing", vote, answer)
            self._reasons[reason] += 1
            kept = {key: value for key, value in answer.items() if key != "shown"}
            self._files["losing"].write({**kept, "reason": reason})

    def manifest(
        self, batch: str, register: Register, closing: ClosedBy | None, gate: Mapping[str, Any] | None
    ) -> Manifest:
        """Return the manifest of everything added."""
        rule = self._project.annotation.rule
        totals = self._counts
        return Manifest(
            project=self._project.name,
            interface=str(self._project.annotation.interface),
            batch=batch,
            rule=RuleRef(
                name=rule.value, answers_per_task=self._project.annotation.answers_per_task, text=RULE_TEXT[rule]
            ),
            counts=Counts(
                tasks=self._tasks,
                rows=totals["rows"],
                ignored=len(self._lists["ignored"]),
                disputed=len(self._lists["disputed"]),
                missing=len(self._lists["missing"]),
                answers=totals["counted"] + totals["losing"],
                counted=totals["counted"],
                losing=totals["losing"],
                unanimous=totals["unanimous"],
                split=totals["split"],
                decided=totals["decided"],
            ),
            labels=dict(sorted(self._labels.items())),
            answers=dict(sorted(self._answers.items())),
            losing_reasons=dict(sorted(self._reasons.items())),
            persons=[
                PersonShare(id=person, counted=counts["counted"], losing=counts["losing"])
                for person, counts in sorted(self._persons.items())
            ],
            adjudicators=sorted(self._adjudicators),
            guidelines=[
                GuidelineShare(digest=digest, number=number, counted=counts["counted"], losing=counts["losing"])
                for (digest, number), counts in sorted(
                    self._guidelines.items(), key=lambda entry: (entry[0][0], entry[0][1] or 0)
                )
            ],
            first_answer_at=utc_text(min(self._times, default=None)),
            last_answer_at=utc_text(max(self._times, default=None)),
            rows=self._files["rows"].reference(),
            losing=self._files["losing"].reference(),
            ignored=self._task_list("ignored"),
            disputed=self._task_list("disputed"),
            missing=self._task_list("missing"),
            policy=self._project.policy.pinned(),
            policy_digest=self._project.policy.digest,
            register_digest=register.digest,
            closed_by=closing,
            gate=plain(gate) if gate is not None else None,
        )

    def write(self, folder: StorePath, manifest: Manifest, source_lines: Iterable[bytes]) -> bool:
        """Put the files into place, the manifest last; return False when the whole version was there already."""
        whole = (folder / "manifest.json").exists()
        for name, file in self._files.items():
            if name in ("rows", "losing") or len(self._lists[name]) > INLINE:
                file.put(folder)
        if not (folder / "sources.jsonl").exists():
            with atomic_file(folder / "sources.jsonl") as out:
                out.writelines(source_lines)
        if whole:
            if bytes((folder / "manifest.json").read_bytes()) != manifest.content():
                raise InvalidInput(f"{folder / 'manifest.json'}: already holds other bytes")
            return False
        atomic_write(folder / "manifest.json", manifest.content())
        return True

    def _add_row(self, resolution: Resolution, shown: Any, answers: list[dict[str, Any]]) -> None:
        decision = resolution.decision
        value = plain(decision.value) if decision is not None else answers[0]["value"]
        agreeing = len(answers)
        self._counts["rows"] += 1
        if decision is not None:
            self._counts["decided"] += 1
        elif agreeing == resolution.persons:
            self._counts["unanimous"] += 1
        if agreeing < resolution.persons:
            self._counts["split"] += 1
        labels = labels_of(value, shown)
        self._labels.update(labels)
        self._answers[str(value["answer"])] += 1
        if value["answer"] == "accept" and not labels:
            self._answers["none"] += 1
        self._files["rows"].write(
            {
                "task_id": resolution.task_id,
                "shown": shown,
                "value": value,
                "basis": resolution.basis,
                "round": resolution.round,
                "persons": resolution.persons,
                "answers": sorted(
                    (
                        {key: answer[key] for key in ("person", "row", "at", "guideline", "guideline_number")}
                        for answer in answers
                    ),
                    key=lambda answer: (answer["person"], answer["row"]),
                ),
                "decision": None
                if decision is None
                else {"id": decision.decision_id, "person": decision.person, "at": utc_text(decision.time)},
            }
        )

    def _list(self, outcome: str, resolution: Resolution) -> None:
        entry = TaskEntry(task_id=resolution.task_id, persons=resolution.persons, values=resolution.values)
        self._lists[outcome].append(entry)
        self._files[outcome].write(entry.model_dump(mode="json"))

    def _task_list(self, name: str) -> TaskList:
        entries = self._lists[name]
        if len(entries) > INLINE:
            return TaskList(count=len(entries), file=self._files[name].reference())
        return TaskList(count=len(entries), items=entries)

    def _count(self, part: str, vote: Vote, answer: Mapping[str, Any]) -> None:
        self._counts[part] += 1
        self._persons[vote.person][part] += 1
        self._guidelines[answer["guideline"] or "unknown", answer["guideline_number"]][part] += 1
        if vote.time is not None:
            self._times = [min([vote.time, *self._times]), max([vote.time, *self._times])]


class _Spool:
    """A file of canonical JSON lines that is counted and digested while it is written, and placed later."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._file = tempfile.TemporaryFile(prefix="labelops-freeze-")  # noqa: SIM115 - closed by __exit__
        self._lines = 0

    def __enter__(self) -> _Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, value: Any) -> None:
        self._file.write(canonical_json(value) + b"\n")
        self._lines += 1

    def reference(self) -> FileRef:
        return FileRef(name=self.name, sha256=sha256_hex(self._blocks()), lines=self._lines)

    def put(self, folder: StorePath) -> None:
        """Place the file unless it is there with the same bytes."""
        place = folder / self.name
        if place.exists():
            with place.open("rb") as existing:
                if sha256_hex(iter(lambda: existing.read(_BLOCK), b"")) == sha256_hex(self._blocks()):
                    return
            raise InvalidInput(f"{place}: already holds other bytes; a version is never overwritten")
        self._file.seek(0)
        with atomic_file(place) as out:
            shutil.copyfileobj(self._file, out, _BLOCK)

    def _blocks(self) -> Iterator[bytes]:
        self._file.seek(0)
        while block := self._file.read(_BLOCK):
            yield block


def _collect(
    project: Project, register: Register, known: set[str], answers: Iterable[Answer], spool: IO[bytes]
) -> tuple[dict[str, list[Vote]], list[tuple[str, str, int, int]]]:
    """Spool the content of the batch's answers; return their votes by task and where each row is."""
    votes: dict[str, list[Vote]] = {}
    sources: list[tuple[str, str, int, int]] = []
    for answer in answers:
        if answer.task_id not in known:
            continue
        value = plain(answer.value.canonical())
        vote = Vote(
            task_id=answer.task_id,
            person=person_of(answer, project.name, register),
            round=answer.round,
            time=answer.time,
            link_id=answer.link_id,
            row_digest=answer.row_digest,
            choice=choice_of(value),
            place=spool.tell(),
        )
        spool.write(
            canonical_json(
                {
                    "task_id": answer.task_id,
                    "person": vote.person,
                    "row": answer.row_digest,
                    "round": answer.round,
                    "at": utc_text(answer.time),
                    "guideline": answer.guideline,
                    "guideline_number": answer.guideline_number if answer.guideline else None,
                    "value": value,
                    "shown": plain(answer.shown),
                }
            )
            + b"\n"
        )
        votes.setdefault(answer.task_id, []).append(vote)
        sources.append((answer.task_id, answer.row_digest, answer.example_id, answer.link_id))
    return votes, sorted(sources)


def _source_lines(sources: Iterable[tuple[str, str, int, int]]) -> Iterator[bytes]:
    for task, row, example, link in sources:
        yield canonical_json({"task_id": task, "row": row, "example_id": example, "link_id": link}) + b"\n"


def _read(spool: IO[bytes], place: int) -> dict[str, Any]:
    spool.seek(place)
    answer: dict[str, Any] = json.loads(spool.readline())
    return answer


def _shown(resolution: Resolution, answers: list[dict[str, Any]]) -> Any:
    """Return what the row shows: the same bytes whichever answer came first."""
    if answers:
        return min(answers, key=lambda answer: answer["row"])["shown"]
    decision = resolution.decision
    if decision is None or decision.shown is None:
        raise InvalidInput(
            f"task {resolution.task_id} was decided but never answered, and the decision does not hold what was shown"
        )
    return plain(decision.shown)


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


def _name(project: Project | str) -> str:
    return project if isinstance(project, str) else project.name


def _lines(place: StorePath) -> Iterator[dict[str, Any]]:
    if not place.exists():
        raise InvalidInput(f"{place}: is not there")
    with place.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                value = json.loads(line)
            except (json.JSONDecodeError, UnicodeDecodeError) as error:
                raise InvalidInput(f"{place}:{number}: not JSON ({error})") from error
            if not isinstance(value, dict):
                raise InvalidInput(f"{place}:{number}: found {type(value).__name__}; allowed: an object")
            yield value


def _file_problems(folder: StorePath, file: FileRef) -> list[str]:
    place = folder / file.name
    if not place.exists():
        return [f"{place}: is missing"]
    lines = 0

    def blocks() -> Iterator[bytes]:
        nonlocal lines
        with place.open("rb") as content:
            while block := content.read(_BLOCK):
                lines += block.count(b"\n")
                yield block

    found = sha256_hex(blocks())
    if found != file.sha256:
        return [
            f"{place}: its SHA-256 is {found}, the manifest says {file.sha256} ({lines} lines, {file.lines} expected)"
        ]
    return [] if lines == file.lines else [f"{place}: has {lines} lines, the manifest says {file.lines}"]


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
    for name, entries in lists.items():
        if (entries.items is None) == (entries.file is None):
            problems.append(f"manifest: {name}: holds either its items or a file, not both and not neither")
        listed = entries.file.lines if entries.file is not None else len(entries.items or ())
        if listed != entries.count:
            problems.append(f"manifest: {name}.count is {entries.count}, but {listed} are listed")
    return problems


def _content_problems(folder: StorePath, manifest: Manifest) -> list[str]:
    """Return problems that digests alone do not show: order, repeated tasks, counts, answers without their source."""
    problems: list[str] = []
    previous, answers, labels = "", Counter[str](), Counter[str]()
    for row in _lines(folder / "rows.jsonl"):
        if row["task_id"] <= previous:
            problems.append(f"{folder / 'rows.jsonl'}: task {row['task_id']} is out of order or there twice")
        previous = row["task_id"]
        labels.update(labels_of(row["value"], row["shown"]))
        answers.update(answer["row"] for answer in row["answers"])
    if answers.total() != manifest.counts.counted:
        problems.append(
            f"manifest: counts.counted is {manifest.counts.counted}, the rows hold {answers.total()} answers"
        )
    if +Counter(manifest.labels) != labels:
        problems.append("manifest: labels differ from what the rows hold")
    answers.update(entry["row"] for entry in _lines(folder / "losing.jsonl"))
    try:
        sources = Counter(str(entry.get("row")) for entry in _lines(folder / "sources.jsonl"))
    except InvalidInput as error:
        return [*problems, str(error)]
    if sources != answers:
        lost, strange = (answers - sources).total(), (sources - answers).total()
        problems.append(
            f"{folder / 'sources.jsonl'}: {lost} answers of the version have no source, {strange} sources no answer"
        )
    return problems
