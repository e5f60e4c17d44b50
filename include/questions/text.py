"""Answers as text for people: one sentence or one aligned line a fact, digests cut to what people repeat."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import singledispatch
from typing import Any

from include.base.canonical import SHORT
from include.questions.changes import ChangedAnswer
from include.questions.labels import AnswerFacts, InForce, InForceAnswer, TaskInVersion, TraceAnswer
from include.questions.lacking import WithoutAnswer
from include.questions.models import ModelsAnswer
from include.questions.people import PersonAnswer, VoidAnswer, WhoAnswer
from include.questions.shared import Basis, DecisionFacts, UseFacts, VersionRef
from include.questions.waiting import PendingAnswer, PendingItem

__all__ = ["lines"]

Name = Callable[[str], str]
"""Turns a person's id into what is printed for it."""

FILES = 12
"""How many files of a basis are listed in text; JSON has them all."""


def lines(answer: Any, name: Name = str) -> Iterator[str]:
    """Yield an answer as lines of text.

    :param name: turns a person's id into what is printed for it.
    :raises TypeError: for something that is no answer.
    """
    yield from _lines(answer, name)
    yield from _basis(answer.basis)


@singledispatch
def _lines(answer: Any, name: Name) -> Iterator[str]:
    raise TypeError(f"{type(answer).__name__} is no answer to a question")


@_lines.register
def _who(answer: WhoAnswer, name: Name) -> Iterator[str]:
    yield f"{_cap(_version(answer.version))}: {answer.version.rows} rows, frozen {_time(answer.version.frozen_at)}."
    entries = [
        f"{name(one.person)}: {one.counted} answer(s) that count, {one.losing} that do not"
        for one in answer.labels
        if one.counted or one.losing
    ]
    yield from _section("Labelled", entries)
    entries = [
        f"{name(one.person)}: {_number(one.reviewed)} reviewed, {_number(one.adjudicated)} decided"
        for one in answer.labels
        if one.reviewed != 0 or one.adjudicated != 0
    ]
    yield from _section("Reviewed or adjudicated labels", entries)
    entries = [
        f"{name(one.person)}: {one.action} at {_time(one.at)}{_because(one.reason)} [{one.event}]"
        for one in answer.requests
    ]
    yield from _section("Asked for it", entries)
    counting = [one for one in answer.decisions if one.counts]
    meanings = {"review": "Reviewed", "approval": "Approved", "responsibility": "Took responsibility"}
    for meaning, title in meanings.items():
        given = [one for one in counting if one.outcome == "approve" and one.meaning == meaning]
        yield from _decisions(title, given, name)
    others = [one for one in counting if one.outcome != "approve" or one.meaning not in meanings]
    if others:
        yield from _decisions("Decided otherwise", others, name)
    yield from _decisions("Decisions that do not count", [one for one in answer.decisions if not one.counts], name)


@_lines.register
def _in_force(answer: InForceAnswer, name: Name) -> Iterator[str]:
    yield f"Task {answer.task_id} in {_version(answer.version)}: {answer.outcome}."
    if answer.gone:
        yield f"  {answer.gone}."
    elif not answer.answers:
        yield "  No answer to it is in this version."
    for one in answer.answers:
        yield from _answer(one, name, "  ")


@_lines.register
def _trace(answer: TraceAnswer, name: Name) -> Iterator[str]:
    yield f"Task {answer.task_id} of {answer.project}."
    entries = [f"{one.source}, record {one.record} (SHA-256 {one.sha256[:SHORT]})" for one in answer.sources]
    yield from _section("Made of", entries)
    entries = [
        f"batch {one.digest[:SHORT]} ({one.kind}) at {_time(one.assigned_at)} [{one.event}]" for one in answer.batches
    ]
    yield from _section("Assigned in", entries)
    if not answer.versions:
        yield "It is in no dataset version."
    for one in answer.versions:
        yield from _task_in_version(one, name)


def _task_in_version(one: TaskInVersion, name: Name) -> Iterator[str]:
    where = f"row {one.line}, by {one.basis}, round {one.round}" if one.line else "no row of it"
    by = f", given by {name(one.decided_by)}" if one.decided_by else ""
    taken = one.since is not None and one.since != one.version
    since = f", as it is since version {one.since.number}" if taken and one.since is not None else ""
    yield f"{_cap(_version(one.version))}: {one.outcome} ({where}{by}{since})."
    if one.gone:
        yield f"    {one.gone}."
    for answer in one.answers:
        yield from _answer(answer, name, "    ")
    for decision in one.approvals:
        yield f"    {_headline(decision, name)}, decided {_time(decision.decided_at)}, {decision.grade}"
    released = f"released in {one.release_path} [{one.released}]" if one.released else "not released"
    yield f"    It is {released}."
    for use in one.models:
        yield f"    {_use(use, name)}"


def _answer(one: AnswerFacts, name: Name, indent: str) -> Iterator[str]:
    counts = "counts" if one.counted else f"does not count ({one.reason})"
    yield f"{indent}{name(one.person)} answered {_time(one.at)}; the answer {counts}; row {one.row[:SHORT]}"
    yield f"{indent}  guideline: {_force(one.guideline)}"
    labels = f": {', '.join(one.taxonomy.labels)}" if one.taxonomy.labels else ""
    yield f"{indent}  taxonomy:  {_force(one.taxonomy)}{labels}"


def _force(one: InForce) -> str:
    if one.how == "unknown":
        return f"UNKNOWN: {one.why}"
    number = f"release {one.number} " if one.number else ""
    return f"{number}({(one.digest or '')[:SHORT]}), {one.how}: {one.why}"


@_lines.register
def _changed(answer: ChangedAnswer, name: Name) -> Iterator[str]:
    yield f"From {_version(answer.old)} ({answer.old.rows} rows) to {_version(answer.new)} ({answer.new.rows} rows)."
    if answer.rows:
        yield f"Rows: {', '.join(f'{count} {what}' for what, count in answer.rows.items())}."
    else:
        yield from (f"Rows cannot be compared: {one}." for one in answer.gone)
    entries = [
        f"{one.label}: {one.old} > {one.new}"
        + (f" (gained {one.gained}, lost {one.lost})" if one.gained is not None else "")
        for one in answer.labels
    ]
    yield from _section("Labels", entries, "each given as often as before")
    entries = [f"{one.old or '-'} > {one.new or '-'}: {one.count}" for one in answer.became]
    yield from _section("From label to label", entries)
    entries = [f"{name(one)}: {count} row(s)" for one, count in answer.relabelled_by.items()]
    yield from _section("Who gave the new labels", entries)
    yield from _section("What the added rows were before", [f"{one}: {n}" for one, n in answer.came_from.items()])
    yield from _section("What became of the removed rows", [f"{one}: {n}" for one, n in answer.went_to.items()])
    entries = [f"{one.kind}: {one.sentence}{f' [{one.event}]' if one.event else ''}" for one in answer.causes]
    yield from _section("Why, as far as it is on record", entries, "nothing on record differs")


@_lines.register
def _models(answer: ModelsAnswer, name: Name) -> Iterator[str]:
    if answer.version is not None:
        yield f"Models that used {_version(answer.version)}, as their trainings reported it:"
    else:
        of = f" {answer.model_version}" if answer.model_version else ""
        yield f"Versions that model {answer.model}{of} used, as its trainings reported it:"
    for one in answer.uses:
        yield f"  {_use(one, name)}"
    if not answer.uses:
        yield "  none was reported"


def _use(one: UseFacts, name: Name) -> str:
    out = "" if one.released_before else "; NOT RELEASED when this was reported"
    place = f", in {one.location}" if one.location else ""
    run = f", run {one.training_run}" if one.training_run else ""
    return (
        f"model {one.model} {one.model_version} used {_version(one.version)}{place}{run}, reported by "
        f"{name(one.person)} at {_time(one.reported_at)}{_because(one.reason)}{out} [{one.event}]"
    )


@_lines.register
def _pending(answer: PendingAnswer, name: Name) -> Iterator[str]:
    yield f"At {_time(answer.at)}: {len(answer.items)} pending, {answer.overdue} of them overdue."
    for one in answer.items:
        yield from _pending_item(one, name)


def _pending_item(one: PendingItem, name: Name) -> Iterator[str]:
    said = {
        "request": "is frozen and was not put before its approvers yet",
        "approval": "waits for its approval",
        "release": "is approved and was not handed over yet",
        "release decision": "waits for the decision to release it",
        "recall": "was withdrawn and has to be recalled",
    }[one.kind]
    late = "OVERDUE: " if one.overdue else ""
    yield f"{late}{_cap(_version(one.version))} {said} (attempt {one.attempt}), since {_time(one.since)} [{one.event}]"
    for asked in one.asked:
        persons = ", ".join(map(name, asked.persons)) or "no person named"
        yield f"    asked: {asked.minimum} {asked.role} for {asked.meaning} ({persons})"
    if one.holders:
        yield f"    had a task at the last change seen: {', '.join(map(name, one.holders))}"
    if one.due is not None:
        yield f"    due {_time(one.due)}, expires {_time(one.expires_at)}"
    if one.reminded_at is not None:
        yield f"    reminded {_time(one.reminded_at)}"
    if one.escalated_at is not None:
        yield f"    escalated {_time(one.escalated_at)} to {one.escalation_role or 'the owner'}"
    if one.process_id:
        yield f"    process {one.process_id}"
    if one.refused:
        yield f"    the last try to release it was refused: {one.refused}"


@_lines.register
def _without(answer: WithoutAnswer, name: Name) -> Iterator[str]:
    looked = f"{answer.releases} release(s) looked at, for: {', '.join(answer.checks)}"
    if not answer.lacks:
        yield f"Nothing was released without what it needed ({looked})."
        return
    yield f"{len(answer.lacks)} lack(s) found ({looked}):"
    for one in answer.lacks:
        events = f" [{', '.join(map(str, one.events))}]" if one.events else ""
        yield f"  {one.check}: {one.sentence}{events}"


@_lines.register
def _person(answer: PersonAnswer, name: Name) -> Iterator[str]:
    period = f"from {_time(answer.since)} " if answer.since else ""
    period += f"until {_time(answer.until)} " if answer.until else ""
    counts = ", ".join(f"{count} {outcome}" for outcome, count in answer.outcomes.items()) or "none"
    yield f"{name(answer.person)} {period or 'from the beginning '}decided: {counts} that count, {answer.void} void."
    yield from _decisions("Decisions", list(answer.decisions), name)
    entries = [
        f"{_version(one.version)}: {one.counted} answer(s) that count, {one.losing} that do not"
        f"{', and decided labels' if one.adjudicator else ''}"
        for one in answer.labelled
    ]
    yield from _section("Labelled", entries)
    entries = [
        f"{_time(one.at)} {one.action} of {_cut(one.subject)}{_because(one.reason)} [{one.event}]"
        for one in answer.acts
    ]
    yield from _section("Else", entries)


@_lines.register
def _void(answer: VoidAnswer, name: Name) -> Iterator[str]:
    yield f"{len(answer.decisions)} of {answer.looked_at} decision(s) do not count."
    for one in answer.decisions:
        yield from _decision(one, name, "  ")


def _decisions(title: str, decisions: list[DecisionFacts], name: Name) -> Iterator[str]:
    yield f"{title}:" if decisions else f"{title}: nobody"
    for one in decisions:
        yield from _decision(one, name, "  ")


def _decision(one: DecisionFacts, name: Name, indent: str) -> Iterator[str]:
    yield f"{indent}{_headline(one, name)}"
    decided = f"decided {_time(one.decided_at)} in {one.system}, recorded {_time(one.recorded_at)}"
    yield f"{indent}  on version {one.version[:SHORT]}, {decided}"
    raw = f"raw reply {one.evidence[:SHORT]}" if one.evidence else "no raw reply"
    yield f"{indent}  evidence {one.grade} ({raw}), signature level {one.signature}"
    if one.statement:
        shown = f"shown, wording {one.statement_version}" if one.statement_version else "not known to have been shown"
        yield f"{indent}  statement ({shown}): {one.statement}"
    if one.void_reason:
        yield f"{indent}  does not count: {one.void_reason}"


def _headline(one: DecisionFacts, name: Name) -> str:
    who = name(one.person) if one.person else one.who
    verdict = "" if one.counts else "VOID, "
    return f"{who} as {one.role}: {verdict}{one.outcome}, meaning {one.meaning} [{one.event}]"


def _section(title: str, entries: Iterable[str], nothing: str = "") -> Iterator[str]:
    found = list(entries)
    if found:
        yield f"{title}:"
        yield from (f"  {one}" for one in found)
    elif nothing:
        yield f"{title}: {nothing}"


def _basis(basis: Basis) -> Iterator[str]:
    events = f"event(s) {', '.join(map(str, basis.events))}" if basis.events else "no event"
    yield f"Rests on {events} of the ledger" + (", and in the store on:" if basis.files else ".")
    for one in basis.files[:FILES]:
        yield f"  {one}"
    if len(basis.files) > FILES:
        yield f"  and {len(basis.files) - FILES} more (--json lists all)"


def _number(count: int | None) -> str:
    return "an unknown number" if count is None else str(count)


def _version(version: VersionRef) -> str:
    return str(version)


def _cap(text: str) -> str:
    return text[:1].upper() + text[1:]


def _cut(subject: str) -> str:
    kind, _, digest = subject.partition(":")
    return f"{kind}:{digest[:SHORT]}" if len(digest) == 64 else subject


def _because(reason: str) -> str:
    return f" ({reason})" if reason else ""


def _time(moment: datetime | None) -> str:
    return "at an unknown time" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S} UTC"
