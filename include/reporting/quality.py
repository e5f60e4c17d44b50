"""The report's sections on agreement, on the account of annotation, and on what changed since the version before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from include.agreement import accounting
from include.agreement.accounting import Accounting, seconds
from include.agreement.summary import Part, Quality, Score, score_name
from include.base.canonical import SHORT
from include.reporting.facts import VersionFacts
from include.reporting.markup import Raw, code, count, table
from include.systems.confluence.storage import escape

__all__ = ["agreement", "annotation", "changes", "sentences"]

People = Callable[[str], str]
"""How a person appears on the page."""

MOST = 25
"""Labels, people and changes that a table shows of one version."""


def agreement(newest_first: Sequence[VersionFacts], people: People) -> str:
    """Return how far people agree: the latest version in full, the older ones in a line each."""
    measured = [one for one in newest_first if one.quality is not None]
    if not measured or measured[0].quality is None:
        return "<p>No version was measured yet.</p>"
    latest = measured[0]
    quality = measured[0].quality
    parts = [
        f"<p>{escape(_basis(latest.number, quality))}</p>",
        table(
            ("Measure", "Value", f"{quality.confidence} % interval", "Units"),
            [(_name(one), _value(one), _interval(one), f"{one.units:,}") for one in quality.scores],
            "Nothing could be measured.",
        ),
    ]
    by_part: tuple[tuple[str, Sequence[Part], People], ...] = (
        ("Label", quality.labels, str),
        ("Person", quality.persons, people),
        ("Guideline release", quality.guidelines, str),
    )
    for title, each, shown in by_part:
        if each:
            parts += [
                f"<h3>{escape(f'Agreement by {title.lower()}, version {latest.number}')}</h3>",
                _by_part(title, each, shown, quality.confidence),
            ]
    if len(measured) > 1:
        parts += ["<h3>Agreement of earlier versions</h3>", _earlier(measured[1:])]
    return "".join(parts)


def annotation(newest_first: Sequence[VersionFacts], people: People) -> str:
    """Return the account of annotation: the latest version in full, the older ones in a line each."""
    measured = [(one, one.quality.accounting) for one in newest_first if one.quality is not None]
    if not measured:
        return "<p>No version was counted yet.</p>"
    number, latest = measured[0][0].number, measured[0][1]
    limits = latest.limits
    shown = measured[:_COLUMNS]
    columns = [(each.origin, *_totals(each, one).values()) for each, one in shown]
    by_person, counts = accounting.lines(latest), 1 + len(accounting.COUNTS)
    parts = [
        # A version is a column: so many counts beside each other would be wider than a page.
        table(
            ("Counted", *(f"Version {each.number}" for each, _ in shown)),
            list(zip(("Tasks from", *_totals(*shown[0])), *columns, strict=True)),
            "No version was counted yet.",
        ),
        f"<p>{escape(f'{len(measured) - len(shown)} earlier versions are not shown.')}</p>"
        if len(measured) > len(shown)
        else "",
        f"<p>{escape(f'Version {number}: {latest.sharing.text}. Persons per task: {_persons_per_task(latest)}.')}</p>",
        f"<h3>{escape(f'Answers by person, version {number}')}</h3>",
        table(
            accounting.HEAD[:counts],
            [(people(line[0]), *line[1:counts]) for line in by_person],
            "Nobody answered.",
            most=MOST,
            what="people",
        ),
        f"<h3>{escape(f'Time and habit by person, version {number}')}</h3>",
        table(
            ("Person", *accounting.HABITS),
            [(people(line[0]), *line[counts:]) for line in by_person],
            "Nobody answered.",
            most=MOST,
            what="people",
        ),
        "<p>"
        + escape(
            "The time of an answer is the time since the person's answer before, without breaks of more than "
            f"{seconds(limits.break_ms)} s; an answer is fast below {seconds(limits.fast_ms)} s. A streak "
            f"is {limits.streak} or more equal answers in a row whose chance, by the person's own shares, is below "
            f"1 in {limits.one_in:,}."
        )
        + "</p>",
    ]
    if latest.streaks:
        parts += [f"<h3>{escape(f'Streaks, version {number}')}</h3>", _streaks(latest, people)]
    if latest.listed_duplicates:
        parts += [f"<h3>{escape(f'Repeated answers, version {number}')}</h3>", _duplicates(latest, people)]
    return "".join(parts)


def changes(newest_first: Sequence[VersionFacts], people: People) -> str:
    """Return what differs between each version and what it rests on, or else the one before it; the latest in full."""
    compared = [one for one in newest_first if one.changes is not None]
    if not compared or compared[0].changes is None:
        return "<p>There is no version before the first to compare it with.</p>"
    latest, found = compared[0], compared[0].changes
    parts = [
        table(
            ("Version", "Against", "Unchanged", "Added", "Removed", "Relabelled", "Same label, other evidence"),
            [_change(one) for one in compared],
            "None.",
            most=MOST,
            what="versions",
        ),
        table(
            ("Label", "Before", "Now", "Gained", "Lost"),
            [
                (label, *(f"{number:,}" for number in (one.old, one.new, one.gained, one.lost)))
                for label, one in found.labels.items()
            ],
            "No label is given in either.",
            most=MOST,
            what="labels",
        ),
    ]
    title = escape(f"Relabelled in version {latest.number}")
    if found.transitions:
        parts += [
            f"<h3>{title}</h3>",
            table(
                ("From", "To", "Times"),
                [(old or "", new or "", f"{times:,}") for (old, new), times in found.transitions.items()],
                "None.",
                most=MOST,
                what="transitions",
            ),
            table(
                ("Who gave the new label", "Records"),
                [(people(person), f"{records:,}") for person, records in found.persons.items()],
                "Nobody.",
                most=MOST,
                what="people",
            ),
        ]
    if found.manifest:
        parts.append(
            table(
                ("What else differs", "Before", "Now"),
                [(one.field, one.old or "", one.new or "") for one in found.manifest if one.field not in _PERSONAL],
                "",
                most=MOST,
                what="fields",
            )
        )
    return "".join(parts)


def sentences(version: VersionFacts) -> Iterator[str]:
    """Yield a version's numbers as plain sentences, without people."""
    quality = version.quality
    if quality is not None:
        numbers = "; ".join(f"{_name(one)} {_value(one)}{_in_brackets(one)}" for one in quality.scores)
        yield f"Agreement of version {version.number}: {numbers or 'nothing could be measured'}."
        coverage = quality.accounting.coverage
        yield (
            f"Answers of version {version.number}: {coverage.got:,} of {coverage.expected:,} expected; "
            f"{coverage.under:,} task(s) with too few, {coverage.over:,} with too many; "
            f"{quality.accounting.duplicates:,} repeated."
        )
    if version.changes is not None:
        one = version.changes
        yield (
            f"Version {version.number} against {one.old[:SHORT]}: {one.unchanged:,} unchanged, {one.added:,} added, "
            f"{one.removed:,} removed, {one.relabelled:,} relabelled, {one.evidence:,} with the same label on other "
            "evidence."
        )


_COLUMNS = 6
"""Versions beside each other in one table."""

_PERSONAL = ("persons", "adjudicators", "closed_by")
"""Fields of a manifest that name people; the page shows people under its policy's exposure, elsewhere."""


def _totals(version: VersionFacts, one: Accounting) -> dict[str, str]:
    coverage = one.coverage
    counts = {
        "Tasks": coverage.tasks,
        "Expected": coverage.expected,
        "Got": coverage.got,
        "Missing": coverage.missing,
        "Under": coverage.under,
        "Over": coverage.over,
        "Too many": coverage.extra,
        "Repeated": one.duplicates,
        "Changed": one.changed,
        "Same row": one.same_row,
        "Earlier": one.earlier,
        # A version holds answers to its batch alone; an adopted batch is made of answers to no task of the inbox.
        "Orphans": one.answers if version.origin == "adopted" else one.orphans,
    }
    times = {"Seconds: median": seconds(one.timing.median_ms), "Seconds: 90 %": seconds(one.timing.p90_ms)}
    streaks = len(one.streaks) + one.more_streaks
    return {**{name: f"{number:,}" for name, number in counts.items()}, **times, "Streaks": f"{streaks:,}"}


def _persons_per_task(one: Accounting) -> str:
    return "; ".join(
        f"{persons}: {count(tasks, 'task')}" for persons, tasks in sorted(one.coverage.tasks_by_persons.items())
    )


def _basis(number: int, quality: Quality) -> str:
    return (
        f"Version {number}: {count(quality.ratings, 'rating')} of {count(quality.units, 'unit')}. {quality.classes} "
        f"What gives no label: {_mapping(quality.mapping)}. Of one person's answers to a task the {quality.repeats} "
        f"counts: {quality.repeated:,} passed over, {quality.earlier:,} of an earlier round, {quality.unrated:,} no "
        f"rating. Intervals: {quality.resamples:,} bootstrap resamples of units, seed {quality.seed}."
    )


def _mapping(mapping: Mapping[str, str]) -> str:
    names = {"nothing": "accept of nothing"}
    return "; ".join(f"{names.get(key, key)}: {mapping[key]}" for key in ("reject", "ignore", "nothing"))


def _by_part(title: str, parts: Sequence[Part], shown: People, confidence: int) -> str:
    names = list(dict.fromkeys(one.name for part in parts for one in part.scores))
    head = [title, "Given" if title == "Label" else "Ratings"]
    for name in names:
        head += [score_name(name), f"{confidence} % interval"]
    lines = []
    for part in parts:
        line = [shown(part.name), f"{part.ratings:,}"]
        by_name = {one.name: one for one in part.scores}
        for name in names:
            one = by_name.get(name)
            line += ["", ""] if one is None else [_value(one), _interval(one)]
        lines.append(line)
    return table(head, lines, "None.", most=MOST, what=f"{title.lower()}s" if title != "Person" else "people")


def _earlier(measured: Sequence[VersionFacts]) -> str:
    names = list(dict.fromkeys(one.name for each in measured if each.quality for one in each.quality.scores))
    lines = []
    for each in measured:
        if each.quality is None:
            continue
        by_name = {one.name: one for one in each.quality.scores}
        scores = [by_name.get(name) for name in names]
        lines.append([str(each.number), *("" if one is None else _value(one) + _in_brackets(one) for one in scores)])
    return table(("Version", *(score_name(name) for name in names)), lines, "None.", most=MOST, what="versions")


def _streaks(one: Accounting, people: People) -> str:
    head = ("Person", "Answer", "In a row", "Of answers", "Share", "Chance")
    lines = [
        (people(run.person), run.answer, f"{run.length:,}", f"{run.of:,}", f"{run.share_percent} %", run.chance)
        for run in one.streaks
    ]
    more = f"<p>{escape(f'{one.more_streaks:,} more streaks are not shown.')}</p>" if one.more_streaks else ""
    return table(head, lines, "None.", most=MOST, what="streaks") + more


def _duplicates(one: Accounting, people: People) -> str:
    lines = []
    for each in one.listed_duplicates:
        said = "the same row" if each.same_row else "the same" if each.alike else "something else"
        lines.append((Raw(code(each.task)), people(each.person), f"{each.answers:,}", said))
    return table(("Task", "Person", "Answers", "They say"), lines, "None.", most=MOST, what="tasks")


def _change(version: VersionFacts) -> tuple[str, ...]:
    one = version.changes
    if one is None:
        raise AssertionError("only versions that were compared are shown")
    return (
        str(version.number),
        Raw(code(one.old)),
        *(f"{number:,}" for number in (one.unchanged, one.added, one.removed, one.relabelled, one.evidence)),
    )


def _name(one: Score) -> str:
    return score_name(one.name)


def _value(one: Score) -> str:
    return one.value if one.value is not None else f"not defined: {one.reason}"


def _interval(one: Score) -> str:
    if one.low is not None and one.high is not None:
        return f"{one.low} to {one.high}"
    return "" if one.value is None else f"not defined: {one.reason}"


def _in_brackets(one: Score) -> str:
    return f" [{one.low}, {one.high}]" if one.low is not None and one.high is not None else ""
