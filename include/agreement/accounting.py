"""Annotation accounting: which answers were to be there, which are, by whom, and what about them is odd.

Prodigy promises no number of answers per task: a person who is faster takes over tasks that were sent to another (work
stealing), a closed browser leaves tasks behind, a second import doubles rows. So the answers are counted against what
was to be answered, task by task and person by person. All numbers are whole: times are in milliseconds, and a
probability is text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from include.agreement.given import NO_TIME, Gathered
from include.base.errors import InvalidInput

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Accounting",
    "Coverage",
    "Duplicate",
    "Expected",
    "Limits",
    "PersonLine",
    "Sharing",
    "Streak",
    "Timing",
    "account",
    "chance_of_run",
    "lines",
    "seconds",
]

COUNTS = ("Answers", "Tasks", "Expected", "Missing", "Accept", "Reject", "Ignore", "Nothing", "Repeated", "Orphans")
HABITS = ("Seconds: median", "Seconds: 90 %", "Fast", "Breaks", "Streaks")
HEAD = ("Person", *COUNTS, *HABITS)
"""Titles of :func:`lines`."""


@dataclass(frozen=True)
class Expected:
    """What was to be answered.

    :param per_task: answers that each task needs, by distinct persons.
    :param tasks: how many tasks there are; None: those that were listed when the answers were gathered.
    :param persons: who was to answer; empty where nobody fixed that.
    :param assigned: task → who was to answer it, where tasks were assigned one by one.
    """

    per_task: int
    tasks: int | None = None
    persons: Sequence[str] = ()
    assigned: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.per_task < 1:
            raise InvalidInput(f"per_task: found {self.per_task}; allowed: 1 or more")


@dataclass(frozen=True)
class Limits:
    """What counts as a break, as fast, as a streak.

    :param break_ms: two answers of a person further apart than this had a break between them: no time of an answer.
    :param fast_ms: an answer sooner than this after the one before is fast.
    :param streak: from how many same answers in a row a streak is looked at.
    :param one_in: a streak is suspicious when its chance is below one in so many.
    :param listed: how many duplicates, orphans and streaks are listed; all are counted.
    """

    break_ms: int = 10 * 60 * 1000
    fast_ms: int = 1000
    streak: int = 10
    one_in: int = 1000
    listed: int = 20


@dataclass(frozen=True)
class Coverage:
    """How many distinct persons answered each task, in its latest round.

    :param expected: tasks times answers per task.
    :param got: answers that count towards it: no more for a task than it needs.
    :param tasks_by_persons: number of persons → tasks that so many answered.
    :param under, over: tasks answered by fewer, by more than asked for. ``unanswered`` are among ``under``.
    :param missing, extra: how many answers those lack, and have too many.
    """

    tasks: int
    per_task: int
    expected: int
    got: int
    tasks_by_persons: Mapping[int, int]
    under: int
    over: int
    unanswered: int
    missing: int
    extra: int


@dataclass(frozen=True)
class Duplicate:
    """A person's answers to one task in one round; ``same_row`` tells that one stored row is there twice."""

    task: str
    person: str
    answers: int
    alike: bool
    same_row: bool


@dataclass(frozen=True)
class Sharing:
    """How the work was shared.

    :param people: how many were to answer, or did where nobody fixed who was to.
    :param holding: the fewest of them that hold all the answers between them. Fewer than ``people``: work was stolen.
    :param without: who was to answer and holds none.
    :param short: who holds less than half of an even share.
    :param taken_over: tasks where somebody answered in the place of a person to whom they were assigned.
    """

    people: int
    fixed: bool
    holding: int
    without: tuple[str, ...]
    short: tuple[str, ...]
    taken_over: int

    @property
    def stolen(self) -> bool:
        """Tell whether others hold the answers that somebody was to give."""
        return self.holding < self.people or self.taken_over > 0

    @property
    def text(self) -> str:
        """Return it in a sentence."""
        if self.stolen and self.taken_over:
            return f"{self.taken_over} task(s) were answered by others than those they were assigned to"
        if self.stolen:
            return f"{self.holding} of {self.people} people hold all the answers"
        if self.short:
            return f"{len(self.short)} of {self.people} people hold less than half of an even share"
        return f"all {self.people} people hold a share" if self.people else "nobody answered"


@dataclass(frozen=True)
class Timing:
    """Milliseconds from one answer of a person to the next, breaks cut out.

    Nearest ranks (Hyndman & Fan 1996, definition 1), so that each is a time that was measured.

    :param timed: from how many answers.
    :param breaks: how many times were cut out as longer than a break.
    :param fast: answers sooner after the one before than the limit.
    :param untimed: answers without a time.
    """

    timed: int
    median_ms: int | None
    p90_ms: int | None
    breaks: int
    fast: int
    untimed: int


@dataclass(frozen=True)
class Streak:
    """The longest run of one same answer of a person, in order of time.

    :param share_percent: how much of the person's answers say that.
    :param chance: probability that so long a run, or a longer one, occurs anywhere among so many answers, if each were
        drawn by the person's own shares (:func:`chance_of_run`); ``1`` where they never said anything else.
    """

    person: str
    answer: str
    length: int
    of: int
    share_percent: int
    chance: str


@dataclass(frozen=True)
class PersonLine:
    """One annotator.

    :param answers: all of theirs, of all rounds; ``tasks``: distinct ones among the tasks that were to be answered.
    :param expected: tasks they were to answer; None where nobody fixed that. ``missing``: those they did not.
    :param nothing: answers that accept nothing.
    :param repeated: answers to a task that they had answered in the same round.
    """

    person: str
    answers: int
    tasks: int
    expected: int | None
    missing: int | None
    accept: int
    reject: int
    ignore: int
    nothing: int
    repeated: int
    orphans: int
    timing: Timing
    streaks: int


@dataclass(frozen=True)
class Accounting:
    """The whole account.

    :param earlier: answers of an earlier round than the task's latest.
    :param duplicates: answers too many of one person to one task in one round; ``changed`` of these tasks were answered
        differently; ``same_row``: answers whose very row is there more than once.
    :param orphans: answers to no task that was to be answered.
    :param listed_orphans: tasks of theirs, the first of them.
    """

    coverage: Coverage
    answers: int
    earlier: int
    duplicates: int
    changed: int
    same_row: int
    listed_duplicates: tuple[Duplicate, ...]
    orphans: int
    listed_orphans: tuple[str, ...]
    sharing: Sharing
    timing: Timing
    persons: tuple[PersonLine, ...]
    streaks: tuple[Streak, ...]
    more_streaks: int
    limits: Limits

    def as_json(self) -> dict[str, Any]:
        """Return the account as JSON, without fractions."""
        value = asdict(self)
        counts = self.coverage.tasks_by_persons
        value["coverage"]["tasks_by_persons"] = {str(persons): counts[persons] for persons in sorted(counts)}
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Accounting:
        """Return the account that :meth:`as_json` wrote.

        :raises InvalidInput: when it is none.
        """
        try:
            coverage = dict(value["coverage"])
            counts = {int(persons): count for persons, count in coverage["tasks_by_persons"].items()}
            sharing = {**value["sharing"]}
            sharing |= {name: tuple(sharing[name]) for name in ("without", "short")}
            return cls(
                **{
                    **value,
                    "coverage": Coverage(**{**coverage, "tasks_by_persons": counts}),
                    "listed_duplicates": tuple(Duplicate(**one) for one in value["listed_duplicates"]),
                    "listed_orphans": tuple(value["listed_orphans"]),
                    "sharing": Sharing(**sharing),
                    "timing": Timing(**value["timing"]),
                    "persons": tuple(
                        PersonLine(**{**one, "timing": Timing(**one["timing"])}) for one in value["persons"]
                    ),
                    "streaks": tuple(Streak(**one) for one in value["streaks"]),
                    "limits": Limits(**value["limits"]),
                }
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidInput(f"accounting: not an account ({type(error).__name__}: {error})") from error


def account(gathered: Gathered, expected: Expected, limits: Limits | None = None) -> Accounting:
    """Return the account of what was gathered.

    :raises InvalidInput: when neither says how many tasks there are, or fewer are expected than were answered.
    """
    limits = limits or Limits()
    book = _Book(gathered, expected)
    duplicates, repeated_by = book.duplicates(limits.listed)
    streaks = {person: _streaks(book, person, limits) for person in range(len(gathered.persons))}
    suspicious = sorted(
        (one for each in streaks.values() for one in each), key=lambda one: (float(one.chance), one.person, one.answer)
    )
    gaps = [book.gaps(person) for person in range(len(gathered.persons))]
    people = sorted(range(len(gathered.persons)), key=lambda person: gathered.persons[person])
    orphans = np.flatnonzero(gathered.unit >= book.tasks)
    return Accounting(
        coverage=book.coverage(),
        answers=len(gathered),
        earlier=len(gathered) - len(book.current),
        duplicates=int(repeated_by.sum()),
        changed=book.changed,
        same_row=book.same_row(),
        listed_duplicates=duplicates,
        orphans=len(orphans),
        listed_orphans=tuple(gathered.names[int(unit)] for unit in np.unique(gathered.unit[orphans])[: limits.listed]),
        sharing=book.sharing(),
        timing=_timing(np.concatenate(gaps) if gaps else np.zeros(0, np.int64), gathered.at, limits),
        persons=tuple(
            book.line(person, int(repeated_by[person]), gaps[person], len(streaks[person]), limits) for person in people
        ),
        streaks=tuple(suspicious[: limits.listed]),
        more_streaks=max(0, len(suspicious) - limits.listed),
        limits=limits,
    )


def chance_of_run(length: int, answers: int, times: int) -> float:
    """Return how likely a run of at least ``length`` is among ``answers`` independent draws.

    The answer in question has the probability ``times / answers``. Exact, by the time at which the first run is
    complete (Feller 1968, *An Introduction to Probability Theory*, vol. 1, XIII.7).
    """
    if length > answers:
        return 0.0
    if times >= answers:
        return 1.0
    share = times / answers
    run = share**length
    start = (1 - share) * run
    reached = [0.0] * length + [run]
    for place in range(length + 1, answers + 1):
        reached.append(reached[-1] + start * (1 - reached[place - length - 1]))
    return min(reached[answers], 1.0)


def seconds(milliseconds: int | None) -> str:
    """Return milliseconds as seconds: ``4``, ``4.5``; nothing for None."""
    if milliseconds is None:
        return ""
    whole, rest = divmod(milliseconds, 1000)
    return f"{whole}.{rest:03}".rstrip("0").rstrip(".")


def lines(account: Accounting) -> list[tuple[str, ...]]:
    """Return the account as a table, a line for each person; :data:`HEAD` has the titles, the person comes first."""
    return [
        (
            one.person,
            *(f"{number:,}" for number in (one.answers, one.tasks)),
            *("" if number is None else f"{number:,}" for number in (one.expected, one.missing)),
            *(f"{number:,}" for number in (one.accept, one.reject, one.ignore, one.nothing, one.repeated, one.orphans)),
            seconds(one.timing.median_ms),
            seconds(one.timing.p90_ms),
            f"{one.timing.fast:,}",
            f"{one.timing.breaks:,}",
            f"{one.streaks:,}",
        )
        for one in account.persons
    ]


class _Book:
    """What the parts of an account are counted from."""

    def __init__(self, gathered: Gathered, expected: Expected) -> None:
        self.of, self.expected = gathered, expected
        self.tasks = _tasks(gathered, expected)
        self.current = gathered.latest_round()
        self._current_pairs = self._pairs(self.current)
        self._pair, self._times = np.unique(self._current_pairs, return_counts=True)
        listed = self._pair[self._pair // self._width < self.tasks]
        self._unit, self._person = listed // self._width, listed % self._width
        self.changed = 0
        self._by_person = np.argsort(gathered.person, kind="stable")
        self._starts = np.searchsorted(gathered.person[self._by_person], np.arange(self._width + 1))

    @property
    def _width(self) -> int:
        return max(len(self.of.persons), 1)

    def _pairs(self, answers: NDArray[Any]) -> NDArray[np.int64]:
        return self.of.unit[answers].astype(np.int64) * self._width + self.of.person[answers]

    def coverage(self) -> Coverage:
        """Count distinct persons per task."""
        needed = self.expected.per_task
        persons = np.bincount(self._unit, minlength=0)
        counts = np.bincount(persons[persons > 0])
        by_persons = {number: int(count) for number, count in enumerate(counts) if count}
        answered = sum(by_persons.values())
        if self.tasks > answered:
            by_persons = {0: self.tasks - answered, **by_persons}
        got = sum(min(number, needed) * count for number, count in by_persons.items())
        return Coverage(
            tasks=self.tasks,
            per_task=needed,
            expected=self.tasks * needed,
            got=got,
            tasks_by_persons=by_persons,
            under=sum(count for number, count in by_persons.items() if number < needed),
            over=sum(count for number, count in by_persons.items() if number > needed),
            unanswered=by_persons.get(0, 0),
            missing=self.tasks * needed - got,
            extra=sum(max(0, number - needed) * count for number, count in by_persons.items()),
        )

    def duplicates(self, listed: int) -> tuple[tuple[Duplicate, ...], NDArray[np.int64]]:
        """Return the first duplicates, and by person how many answers are too many."""
        several = self._times > 1
        by_person = np.zeros(self._width, dtype=np.int64)
        np.add.at(by_person, self._pair[several] % self._width, self._times[several] - 1)
        wanted = self._pair[several]
        inside = np.isin(self._current_pairs, wanted)
        chosen = self.current[inside][np.argsort(self._current_pairs[inside], kind="stable")]
        edges = np.cumsum(self._times[several])
        found: list[Duplicate] = []
        for pair, answers in zip(wanted, np.split(chosen, edges[:-1]) if len(edges) else [], strict=True):
            alike = len(set(self.of.category[answers].tolist())) == 1
            self.changed += not alike
            if len(found) < listed:
                rows = self.of.row[answers].tolist()
                same_row = 0 not in rows and len(set(rows)) < len(rows)
                found.append(
                    Duplicate(
                        self.of.names[int(pair // self._width)],
                        self.of.persons[int(pair % self._width)],
                        len(answers),
                        alike,
                        same_row,
                    )
                )
        return tuple(found), by_person

    def same_row(self) -> int:
        """Count answers whose row is there before, for the same task and person."""
        known = np.flatnonzero(self.of.row)
        pairs, rows = self._pairs(known), self.of.row[known]
        ranked = np.lexsort((rows, pairs))
        pairs, rows = pairs[ranked], rows[ranked]
        return int(((pairs[1:] == pairs[:-1]) & (rows[1:] == rows[:-1])).sum())

    def sharing(self) -> Sharing:
        """Count who holds how much of what was to be answered."""
        fixed = sorted(set(self.expected.persons) | {one for each in self.expected.assigned.values() for one in each})
        held = {name: int(count) for name, count in zip(self.of.persons, self._held(), strict=False) if count}
        people = fixed or sorted(held)
        even = self.tasks * self.expected.per_task / max(len(people), 1)
        return Sharing(
            people=len(people),
            fixed=bool(fixed),
            holding=len(held),
            without=tuple(one for one in people if one not in held),
            short=tuple(one for one in people if held.get(one, 0) * 2 < even) if len(people) > 1 else (),
            taken_over=self._taken_over(),
        )

    def _held(self) -> NDArray[np.int64]:
        return np.bincount(self._person, minlength=self._width)

    def _taken_over(self) -> int:
        """Count tasks that an outsider answered while somebody they were assigned to did not."""
        if not self.expected.assigned:
            return 0
        answered = self._answered()
        return sum(
            bool(answered.get(task, set()) - owners) and bool(owners - answered.get(task, set()))
            for task, owners in self.expected.assigned.items()
        )

    def _answered(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for unit, person in zip(self._unit.tolist(), self._person.tolist(), strict=True):
            found.setdefault(self.of.names[unit], set()).add(self.of.persons[person])
        return found

    def line(self, person: int, repeated: int, gaps: NDArray[np.int64], streaks: int, limits: Limits) -> PersonLine:
        """Return the line of one person."""
        name, answers = self.of.persons[person], self.answers_of(person)
        kinds = np.bincount(self.of.category[answers], minlength=len(self.of.categories))
        tasks = int((self._person == person).sum())
        wanted, got = self._wanted(name, person, tasks)
        by_answer = dict.fromkeys(("accept", "reject", "ignore"), 0)
        nothing = 0
        for category, count in zip(self.of.categories, kinds, strict=True):
            by_answer[category.answer] += int(count)
            nothing += int(count) * (category.labels == ())
        return PersonLine(
            person=name,
            answers=len(answers),
            tasks=tasks,
            expected=wanted,
            missing=None if wanted is None else wanted - got,
            **by_answer,
            nothing=nothing,
            repeated=repeated,
            orphans=int((self.of.unit[answers] >= self.tasks).sum()),
            timing=_timing(gaps, self.of.at[answers], limits),
            streaks=streaks,
        )

    def _wanted(self, name: str, person: int, tasks: int) -> tuple[int | None, int]:
        """Return how many tasks a person was to answer, and how many of these they did."""
        if self.expected.assigned:
            mine = {task for task, owners in self.expected.assigned.items() if name in owners}
            units = self._unit[self._person == person]
            return len(mine), sum(self.of.names[int(unit)] in mine for unit in units)
        if name in self.expected.persons and self.expected.per_task >= len(set(self.expected.persons)):
            return self.tasks, tasks
        return None, 0

    def answers_of(self, person: int) -> NDArray[np.int64]:
        """Return a person's answers in order of time."""
        mine = self._by_person[self._starts[person] : self._starts[person + 1]]
        return mine[np.lexsort((self.of.row[mine], self.of.order[mine], self.of.at[mine]))]

    def gaps(self, person: int) -> NDArray[np.int64]:
        """Return the milliseconds from each answer of a person to the next; a row that is there twice counts once."""
        mine = self.answers_of(person)
        mine = mine[self.of.at[mine] != NO_TIME]
        if len(mine) < 2:
            return np.zeros(0, dtype=np.int64)
        row, unit = self.of.row[mine], self.of.unit[mine]
        twice = (row[1:] != 0) & (row[1:] == row[:-1]) & (unit[1:] == unit[:-1])
        found: NDArray[np.int64] = np.diff(self.of.at[mine])[~twice]
        return found


def _tasks(gathered: Gathered, expected: Expected) -> int:
    tasks = gathered.listed if expected.tasks is None else expected.tasks
    if tasks is None:
        raise InvalidInput("tasks: nobody says how many tasks were to be answered: list them, or give their number")
    if gathered.listed is not None and tasks != gathered.listed:
        raise InvalidInput(f"tasks: found {tasks}; allowed: the {gathered.listed} that were listed")
    if gathered.listed is None and tasks < gathered.units:
        raise InvalidInput(f"tasks: found {tasks}; allowed: at least the {gathered.units} that were answered")
    return tasks


def _timing(gaps: NDArray[np.int64], times: NDArray[np.int64], limits: Limits) -> Timing:
    at_work = np.sort(gaps[gaps <= limits.break_ms])
    count = len(at_work)
    return Timing(
        timed=count,
        median_ms=int(at_work[-(-count // 2) - 1]) if count else None,
        p90_ms=int(at_work[-(-count * 9 // 10) - 1]) if count else None,
        breaks=len(gaps) - count,
        fast=int((at_work < limits.fast_ms).sum()),
        untimed=int((times == NO_TIME).sum()),
    )


def _streaks(book: _Book, person: int, limits: Limits) -> list[Streak]:
    """Return the longest run of each answer of a person that their own shares do not explain."""
    said = book.of.category[book.answers_of(person)]
    if len(said) < limits.streak:
        return []
    starts = np.flatnonzero(np.r_[True, said[1:] != said[:-1]])
    lengths = np.diff(np.r_[starts, len(said)])
    totals = np.bincount(said)
    found = []
    for category in np.unique(said[starts[lengths >= limits.streak]]).tolist():
        longest = int(lengths[said[starts] == category].max())
        times = int(totals[category])
        chance = chance_of_run(longest, len(said), times)
        if chance * limits.one_in < 1 or times == len(said):
            kind = book.of.categories[category]
            found.append(
                Streak(
                    person=book.of.persons[person],
                    answer=kind.name if kind.answer == "accept" else f"({kind.answer})",
                    length=longest,
                    of=len(said),
                    share_percent=round(100 * times / len(said)),
                    chance="1" if times == len(said) else f"{chance:.1e}",
                )
            )
    return found
