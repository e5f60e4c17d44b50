"""Which answer counts, task by task.

A final decision counts over a review, a review over the latest round, and in a round the project's rule decides:

* ``single``: one person's answer. Where several persons answered all the same, they have to agree.
* ``majority``: a value that more than half of the persons gave.
* ``unanimous``: a value that every person gave.

Somebody who answered a task more than once in a round has one vote all the same, as the project declares:

* ``latest``: their last answer counts, the others lose as ``superseded``.
* ``first``: their first answer counts, the others lose as ``repeated``.
* ``refuse``: none of their answers counts (``repeated``), and the task is disputed.

Last and first are by the time that the answer itself carries; of equal times (Prodigy writes whole seconds), and among
answers without one, which come before all others, the SHA-256 of the stored answer decides. That is arbitrary, and on
purpose: a row id would be nearer to the truth in one database, and another database, or the same rows imported in
another order, would give another version. Every repeat is listed in the version.

An ``ignore`` is an answer but no vote: it counts among the persons, so it makes agreement harder and never decides a
label.
A task that everybody ignored is ``ignored``; one with fewer persons than asked for is ``missing``; anything else that
the rule does not settle is ``disputed``. Only settled tasks enter a version.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, Literal, NamedTuple

from include.annotation.answers import read_answer
from include.base.errors import InvalidInput
from include.projects.model import Project, Repeated, Rule
from include.systems.prodigy.values import Row

__all__ = [
    "REPEATED_TEXT",
    "RULE_TEXT",
    "FinalDecision",
    "Repeat",
    "Resolution",
    "Vote",
    "final_decisions",
    "read_final_decision",
    "resolve_task",
    "stored_decisions",
]

RULE_TEXT = {
    Rule.SINGLE: "one person's latest answer in the latest round; where several persons answered, they agree",
    Rule.MAJORITY: "the value of more than half of the persons in the latest round, an ignore counting as a person",
    Rule.UNANIMOUS: "the value of every person in the latest round, an ignore counting as a person",
}

REPEATED_TEXT = {
    Repeated.LATEST: "of one person's answers in a round the last one counts",
    Repeated.FIRST: "of one person's answers in a round the first one counts",
    Repeated.REFUSE: "a task that one person answered more than once in a round is disputed",
}

_LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)
_RANK = {"review": 1, "decision": 2}
_PLACE = attrgetter("person", "row_digest")

Outcome = Literal["counted", "ignored", "disputed", "missing"]
Reason = Literal["superseded", "repeated", "earlier_round", "outvoted", "ignored", "disputed", "missing", "overruled"]


class Vote(NamedTuple):
    """One answer, without its content.

    :param time: ISO 8601, UTC, as :meth:`datetime.isoformat` writes it, so that the order of the texts is that of the
        moments; None where the answer carries none.
    :param choice: digest of the value, None for an ``ignore``.
    :param head: the beginning of the answer's entry in the version, for whoever writes it.
    :param value: its canonical value.
    :param shown: what was shown, on one of the answers to a task.
    """

    task_id: str
    person: str
    round: int
    time: str | None
    row_digest: str
    choice: str | None
    head: bytes = b""
    value: bytes = b""
    shown: bytes | None = None
    guideline: str = "unknown"
    guideline_number: int | None = None
    example_id: int = 0
    link_id: int = 0

    @property
    def order(self) -> tuple[str, str]:
        """Return what makes one answer later than another of the same person: nothing that a database gave out."""
        return (self.time or "", self.row_digest)


class Repeat(NamedTuple):
    """Somebody who answered a task more than once in the round that counts.

    :param kept: digest of the stored answer that is their vote, None where repeats are refused.
    :param lost: those of the others, the earliest first.
    """

    person: str
    kept: str | None
    lost: tuple[str, ...]


@dataclass(frozen=True)
class FinalDecision:
    """A label that somebody decided for a task after the answers: a row of ``<project>__decisions``.

    :param kind: ``decision`` (sign-off, case) counts over ``review``.
    :param value: the decided value, in the form of ``AnswerValue.canonical()``.
    :param person: id of the register, or an ``unknown…`` entry.
    :param shown: what was decided on; needed only for a task that nobody answered.
    """

    task_id: str
    decision_id: str
    value: Mapping[str, Any]
    person: str
    time: datetime | None
    kind: Literal["decision", "review"] = "decision"
    shown: Mapping[str, Any] | None = field(default=None)


class Resolution(NamedTuple):
    """What counts for one task.

    :param counted: the answers that carry the value; those with the same value as the decision, where one decided.
    :param losing: every other answer to the task, with the reason.
    :param persons: how many persons answered in the round that counts.
    :param values: how many different values they gave (an ``ignore`` is none).
    :param repeats: who answered more than once in that round, by person.
    """

    task_id: str
    outcome: Outcome
    basis: Literal["answers", "review", "decision"]
    round: int
    persons: int
    values: int
    counted: tuple[Vote, ...]
    losing: tuple[tuple[Vote, Reason], ...]
    decision: FinalDecision | None = None
    repeats: tuple[Repeat, ...] = ()


def read_final_decision(row: Row, project: Project) -> FinalDecision:
    """Return the decision in a row of the project's decisions dataset.

    Such a row is the task with its decided answer, and ``labelops`` holds ``decision_id``, ``person`` (who decided; the
    row's own account says nothing, for Labelops wrote it) and ``kind`` (``decision`` when absent).

    :raises InvalidInput: naming dataset, example, field, what was found and what is allowed.
    """
    answer = read_answer(row, project, dataset=project.decisions)
    labelops = row.content.get("labelops") or {}
    where = f"{project.decisions}, example {row.example_id}: labelops"
    for field_name in ("decision_id", "person"):
        found = labelops.get(field_name)
        if not isinstance(found, str) or not found:
            raise InvalidInput(f"{where}.{field_name}: found {found!r:.60}; allowed: a string that is not empty")
    kind = labelops.get("kind", "decision")
    if kind not in _RANK:
        raise InvalidInput(f"{where}.kind: found {kind!r:.60}; allowed: {', '.join(sorted(_RANK))}")
    return FinalDecision(
        task_id=answer.task_id,
        decision_id=labelops["decision_id"],
        value=answer.value.canonical(),
        person=labelops["person"],
        time=answer.time,
        kind=kind,
        shown=answer.shown,
    )


def stored_decisions(
    rows: Iterable[Row], project: Project, malformed: Callable[[Row, InvalidInput], object]
) -> Iterator[FinalDecision]:
    """Yield the decisions in rows of a project's decisions dataset; what is malformed is told, the rest goes on."""
    for row in rows:
        try:
            yield read_final_decision(row, project)
        except InvalidInput as error:
            malformed(row, error)


def final_decisions(decisions: Iterable[FinalDecision]) -> dict[str, FinalDecision]:
    """Return the one decision per task that stands: a decision over a review, then the latest."""
    standing: dict[str, FinalDecision] = {}
    for decision in decisions:
        if decision.kind not in _RANK:
            raise InvalidInput(
                f"decision {decision.decision_id}: kind: found {decision.kind!r}; allowed: decision, review"
            )
        other = standing.get(decision.task_id)
        if other is None or _decision_order(decision) > _decision_order(other):
            standing[decision.task_id] = decision
    return standing


def resolve_task(
    task_id: str,
    votes: Sequence[Vote],
    *,
    rule: Rule,
    needed: int,
    repeated: Repeated = Repeated.LATEST,
    decision: FinalDecision | None = None,
    decided_choice: str | None = None,
    from_round: int | None = None,
) -> Resolution:
    """Return what counts for one task.

    :param needed: how many persons the project asks for.
    :param decision: the decision that stands, with ``decided_choice`` the digest of its value.
    :param from_round: answers of earlier rounds never count, even where the task has no later one.
    """
    in_round = max([vote.round for vote in votes] + [from_round or 1])
    losing: list[tuple[Vote, Reason]] = []
    voting = {vote.person: vote for vote in votes if vote.round == in_round}
    persons = len(voting)
    repeats: tuple[Repeat, ...] = ()
    if persons < len(votes):
        losing += [(vote, "earlier_round") for vote in votes if vote.round != in_round]
        repeats = _one_each(voting, [vote for vote in votes if vote.round == in_round], repeated, losing)
    current = sorted(voting.values(), key=_PLACE) if len(voting) > 1 else list(voting.values())
    choices = [vote.choice for vote in current if vote.choice is not None]
    given = set(choices)

    if decision is not None:
        outcome: Outcome = "ignored" if decided_choice is None else "counted"
        winner, loses = decided_choice, "overruled"
    elif repeats and repeated is Repeated.REFUSE and persons >= needed:
        outcome, winner, loses = "disputed", None, "disputed"
    else:
        outcome, winner = _by_rule(rule, needed, persons, choices, given)
        loses = "outvoted" if outcome == "counted" else outcome
    counted = current
    if outcome != "counted" or given != {winner} or len(choices) < len(current):
        counted = [vote for vote in current if outcome == "counted" and vote.choice == winner]
        losing += [
            (vote, "ignored" if vote.choice is None else _reason(loses))
            for vote in current
            if outcome != "counted" or vote.choice != winner
        ]
    if losing:
        losing.sort(key=lambda entry: (entry[0].person, entry[0].row_digest))
    return Resolution(
        task_id=task_id,
        outcome=outcome,
        basis=decision.kind if decision is not None else "answers",
        round=in_round,
        persons=persons,
        values=len(given),
        counted=tuple(counted),
        losing=tuple(losing),
        decision=decision,
        repeats=repeats,
    )


def _one_each(
    voting: dict[str, Vote], votes: Sequence[Vote], repeated: Repeated, losing: list[tuple[Vote, Reason]]
) -> tuple[Repeat, ...]:
    """Leave each person the vote that the project's setting gives them, and return who answered more than once."""
    given: dict[str, list[Vote]] = {}
    for vote in votes:
        given.setdefault(vote.person, []).append(vote)
    repeats = []
    for person in sorted(given):
        several = sorted(given[person], key=lambda vote: vote.order)
        if len(several) == 1:
            continue
        if repeated is Repeated.REFUSE:
            del voting[person]
            kept, lost = None, several
        elif repeated is Repeated.FIRST:
            kept, *lost = several
        else:
            *lost, kept = several
        if kept is not None:
            voting[person] = kept
        reason: Reason = "superseded" if repeated is Repeated.LATEST else "repeated"
        losing += [(vote, reason) for vote in lost]
        repeats.append(Repeat(person, kept and kept.row_digest, tuple(vote.row_digest for vote in lost)))
    return tuple(repeats)


def _by_rule(
    rule: Rule, needed: int, persons: int, choices: Sequence[str], given: set[str]
) -> tuple[Outcome, str | None]:
    if persons < needed or persons == 0:
        return "missing", None
    if not given:
        return "ignored", None
    if len(given) == 1:
        winner, votes = choices[0], len(choices)
    else:
        (winner, votes), *_ = sorted(Counter(choices).items(), key=lambda entry: (-entry[1], entry[0]))
    if rule is Rule.SINGLE:
        settled = len(given) == 1
    elif rule is Rule.MAJORITY:
        settled = 2 * votes > persons
    else:
        settled = votes == persons
    return ("counted", winner) if settled else ("disputed", None)


def _reason(name: str) -> Reason:
    reasons: dict[str, Reason] = {
        "overruled": "overruled",
        "outvoted": "outvoted",
        "disputed": "disputed",
        "missing": "missing",
        "ignored": "ignored",
    }
    return reasons[name]


def _decision_order(decision: FinalDecision) -> tuple[int, datetime, str]:
    return (_RANK[decision.kind], decision.time or _LONG_AGO, decision.decision_id)
