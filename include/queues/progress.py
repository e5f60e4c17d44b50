"""Batches: lists of task ids fixed when they are assigned, and how far the answers to them have come."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from include.annotation.answers import Answer
from include.annotation.values import person_of
from include.base.canonical import SHORT, canonical_json, sha256_hex
from include.base.errors import InvalidInput
from include.people.register import Register, is_unknown
from include.projects.model import Project

__all__ = ["Batch", "BatchTally", "Progress", "form", "progress"]

_TASK_ID = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True)
class Batch:
    """A batch: its name is the SHA-256 of ``content``, the canonical JSON list of its sorted task ids."""

    digest: str
    size: int
    content: bytes = field(repr=False)


@dataclass(frozen=True)
class Progress:
    """How far a batch has come.

    :param done: answers that count towards it: distinct persons per task in the current round, up to what is asked.
    :param expected: tasks times the answers that the project asks for.
    :param missing: how many answers each unfinished task still lacks, by task id.
    :param persons: who answered in the current round; ``unknown:`` entries are accounts not in the register.
    :param unknown: the accounts of any round that the register does not know, as Prodigy has them.
    :param last_answer_at: the latest time of any answer to the batch, of any round; None where no answer has one.
    :param why: the verdict in a sentence.
    """

    done: int
    expected: int
    missing: Mapping[str, int] = field(repr=False)
    persons: frozenset[str]
    last_answer_at: datetime | None
    finished: bool
    why: str
    round: int = 1
    answers: int = 0
    unknown: frozenset[str] = frozenset()


def form(task_ids: Iterable[str]) -> Batch:
    """Return the batch of some tasks; their order makes no difference.

    :raises InvalidInput: for no task, a repeated one, or an id that is not a SHA-256.
    """
    ids = sorted(task_ids)
    if not ids:
        raise InvalidInput("a batch needs at least one task")
    for before, here in zip([None, *ids], ids, strict=False):
        if not _TASK_ID.match(here):
            raise InvalidInput(f"batch: found task id {here[:80]!r}; allowed: 64 lower-case hex characters")
        if before == here:
            raise InvalidInput(f"batch: task {here} is listed twice")
    content = canonical_json(ids)
    return Batch(sha256_hex(content), len(ids), content)


@dataclass
class _Counts:
    tasks: dict[str, dict[int, set[str]]]
    answers: int = 0
    last: datetime | None = None
    highest_round: int = 1
    unknown: set[str] = field(default_factory=set)


class BatchTally:
    """Counts the answers to many batches in one pass over a project's answers.

    Memory grows with the tasks of the batches and the persons per task, never with the content of the answers.

    :param batches: task ids by batch digest. A task in two batches counts for both.
    """

    def __init__(self, batches: Mapping[str, Iterable[str]], project: Project, register: Register) -> None:
        self._project = project
        self._register = register
        self._batches = {digest: _Counts({task: {} for task in ids}) for digest, ids in batches.items()}
        self._of_task: dict[str, list[_Counts]] = {}
        for counts in self._batches.values():
            for task in counts.tasks:
                self._of_task.setdefault(task, []).append(counts)

    def add(self, answer: Answer) -> bool:
        """Count one answer; return False when its task is in none of the batches.

        An ``ignore`` counts: the person has dealt with the task.
        """
        holders = self._of_task.get(answer.task_id)
        if not holders:
            return False
        person = person_of(answer, self._project.name, self._register)
        for counts in holders:
            counts.tasks[answer.task_id].setdefault(answer.round, set()).add(person)
            counts.answers += 1
            if is_unknown(person):
                counts.unknown.add(answer.account or answer.session or "(no account)")
            counts.highest_round = max(counts.highest_round, answer.round)
            if answer.time is not None and (counts.last is None or answer.time > counts.last):
                counts.last = answer.time
        return True

    def add_all(self, answers: Iterable[Answer]) -> int:
        """Count a stream of answers; return how many belonged to a batch."""
        return sum(self.add(answer) for answer in answers)

    def progress(self, batch: str, now: datetime, *, current_round: int | None = None) -> Progress:
        """Return a batch's progress.

        :param current_round: the round that the ledger says the batch is in; by default the highest one answered.
        :raises InvalidInput: for a batch that is not being counted.
        """
        counts = self._batches.get(batch)
        if counts is None:
            raise InvalidInput(f"batch {batch} is not among the {len(self._batches)} being counted")
        needed = self._project.annotation.answers_per_task
        in_round = counts.highest_round if current_round is None else current_round
        missing: dict[str, int] = {}
        persons: set[str] = set()
        done = 0
        for task, rounds in counts.tasks.items():
            answered = rounds.get(in_round, set())
            persons |= answered
            done += min(len(answered), needed)
            if len(answered) < needed:
                missing[task] = needed - len(answered)
        quiet = timedelta(minutes=self._project.annotation.quiet_minutes)
        finished, why = _verdict(batch, done, len(counts.tasks) * needed, missing, counts.last, quiet, now, in_round)
        return Progress(
            done=done,
            expected=len(counts.tasks) * needed,
            missing=missing,
            persons=frozenset(persons),
            last_answer_at=counts.last,
            finished=finished,
            why=why,
            round=in_round,
            answers=counts.answers,
            unknown=frozenset(counts.unknown),
        )


def progress(
    task_ids: Iterable[str],
    answers: Iterable[Answer],
    project: Project,
    now: datetime,
    register: Register,
    *,
    current_round: int | None = None,
) -> Progress:
    """Return the progress of one batch (see :class:`BatchTally` for many at once)."""
    ids = list(task_ids)
    digest = form(ids).digest
    tally = BatchTally({digest: ids}, project, register)
    tally.add_all(answers)
    return tally.progress(digest, now, current_round=current_round)


def _verdict(
    batch: str,
    done: int,
    expected: int,
    missing: Mapping[str, int],
    last: datetime | None,
    quiet: timedelta,
    now: datetime,
    in_round: int,
) -> tuple[bool, str]:
    name = f"Batch {batch[:SHORT]}, round {in_round}:"
    if missing:
        return False, (
            f"{name} {done} of {expected} answers; {sum(missing.values())} are missing on {len(missing)} task(s)."
        )
    if last is None:
        return (
            True,
            f"{name} all {expected} answers are there; none carries a time, so nothing says anybody is at work.",
        )
    if now - last < quiet:
        return (
            False,
            f"{name} all {expected} answers are there, the last one at {last.isoformat()}; not quiet for {quiet}.",
        )
    return True, f"{name} all {expected} answers are there and none was saved for {quiet}."
