"""The lineage report of one project: a page whose bytes depend on the facts alone.

No clock and no ledger position of the run itself goes into it, so a night on which nothing happened makes no new
page version. The page is Confluence storage format, and people appear on it only as far as the policy exposes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from include.base.canonical import SHORT
from include.base.errors import InvalidInput
from include.guidelines.storage import escape
from include.projects.model import Exposure
from include.reporting import charts as draw

__all__ = [
    "CHART_NAMES",
    "Chart",
    "DecisionFacts",
    "FindingFacts",
    "GuidelineFacts",
    "LedgerHead",
    "LineageFacts",
    "ReleaseFacts",
    "ReportPage",
    "VersionFacts",
    "build",
    "summary_text",
]

CHART_NAMES = ("labelops-labels.png", "labelops-answers.png")
"""File names of the two charts on the page: labels, answers over time."""

COLOURS = {
    "approved": "Green",
    "released": "Green",
    "frozen": "Grey",
    "in approval": "Blue",
    "rework": "Yellow",
    "expired": "Yellow",
    "undecided": "Yellow",
    "rejected": "Red",
    "void": "Red",
}
"""Colour of a status lozenge; a state not named here is grey."""


@dataclass(frozen=True)
class VersionFacts:
    """A frozen dataset version.

    :param batch: digest of the batch it was frozen from.
    :param rows: answers it took.
    :param labels: label → answers that carry it.
    :param persons: person id → answers of theirs that count. An unmapped account has the id the caller gives it.
    :param guidelines: digest of a guideline release, or ``unknown``, → answers made under it.
    :param disputed: tasks left out since their answers disagree.
    :param missing: tasks of the batch without the answers the project asks for.
    :param state: what became of it: ``frozen``, ``in approval``, ``approved``, ``rejected``, ``rework``, ``expired``,
        ``undecided``, ``void``, ``released``.
    """

    number: int
    digest: str
    batch: str
    frozen_at: datetime
    rows: int
    labels: Mapping[str, int]
    persons: Mapping[str, int]
    guidelines: Mapping[str, int]
    disputed: int
    missing: int
    policy_digest: str
    state: str = "frozen"


@dataclass(frozen=True)
class DecisionFacts:
    """A decision on a version.

    :param person: person id, or the account where the register knows nobody.
    :param grade: ``attested`` or ``asserted``.
    :param counted: whether it satisfied the policy; ``reason`` says why not.
    """

    version: str
    role: str
    person: str
    outcome: str
    meaning: str
    time: datetime
    grade: str
    system: str
    process_id: str = ""
    url: str = ""
    counted: bool = True
    reason: str = ""


@dataclass(frozen=True)
class GuidelineFacts:
    """A guideline release and how many pages it holds."""

    number: int
    digest: str
    published_at: datetime
    pages: int


@dataclass(frozen=True)
class ReleaseFacts:
    """A release: which version was handed over, when, where, and as which Prodigy dataset."""

    number: int
    digest: str
    version: str
    released_at: datetime
    path: str
    dataset: str = ""


@dataclass(frozen=True)
class FindingFacts:
    """Something a person must look at."""

    kind: str
    subject: str
    detail: str
    time: datetime | None = None


@dataclass(frozen=True)
class LedgerHead:
    """Position and hash of the last ledger event that concerns the project (not of the report's own check)."""

    sequence: int
    hash: str


@dataclass(frozen=True)
class LineageFacts:
    """All that the report says. Order does not matter: it is put in order here.

    :param names: person id → name; used only under exposure ``full``.
    :param ledger_head: as of the last event the page tells about, so that a run that changed nothing changes nothing.
    :param answers_by_day: day (UTC) → answers saved.
    """

    project: str
    title: str
    versions: Sequence[VersionFacts] = ()
    decisions: Sequence[DecisionFacts] = ()
    guidelines: Sequence[GuidelineFacts] = ()
    releases: Sequence[ReleaseFacts] = ()
    findings: Sequence[FindingFacts] = ()
    answers_by_day: Mapping[date, int] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    ledger_head: LedgerHead | None = None


@dataclass(frozen=True)
class Chart:
    """A chart to attach to the page, PNG."""

    name: str
    content: bytes
    media_type: str = "image/png"


@dataclass(frozen=True)
class ReportPage:
    """The page.

    :param body_storage: storage format, ready to be written.
    :param charts: what it shows from its attachments.
    :param summary_text: the same in plain text, for a comment on a process.
    """

    title: str
    body_storage: str
    charts: tuple[Chart, ...]
    summary_text: str


def build(
    facts: LineageFacts,
    *,
    exposure: Exposure | str = Exposure.IDS,
    chart_names: tuple[str, str] = CHART_NAMES,
) -> ReportPage:
    """Return the report; the same facts give the same bytes.

    :param exposure: how people appear: ``full`` by name, ``ids`` and ``masked`` by person id, ``none`` numbered.
    :param chart_names: file names for the charts of labels and of answers over time.
    :raises InvalidInput: for a time without a zone.
    """
    people = _People(facts, Exposure(exposure))
    latest = _latest(facts)
    parts = [
        _introduction(facts, latest),
        "<h2>Dataset versions</h2>",
        _versions(facts),
        "<h2>Approvals</h2>",
        _decisions(facts, people),
        "<h2>Annotators</h2>",
        _annotators(facts, people),
        "<h2>Guideline releases in force</h2>",
        _guidelines(facts),
        "<h2>Releases</h2>",
        _releases(facts),
        "<h2>Charts</h2>",
        *(_picture(name, text) for name, text in zip(chart_names, _chart_texts(latest), strict=True)),
        "<h2>Findings</h2>",
        _findings(facts),
        _digests(facts),
        _how_to_verify(facts),
    ]
    labels, answers = chart_names
    pictures = (
        Chart(labels, draw.labels(_chart_texts(latest)[0], latest.labels if latest else {})),
        Chart(answers, draw.answers_by_day(_chart_texts(latest)[1], facts.answers_by_day)),
    )
    return ReportPage(f"{facts.title}: lineage report", "".join(parts), pictures, _summary(facts, people))


def summary_text(facts: LineageFacts, *, exposure: Exposure | str = Exposure.IDS) -> str:
    """Return the report in plain text, one fact a line, for a comment or a file on a process."""
    return _summary(facts, _People(facts, Exposure(exposure)))


class _People:
    def __init__(self, facts: LineageFacts, exposure: Exposure) -> None:
        self._names = facts.names
        self._exposure = exposure
        known = {decision.person for decision in facts.decisions}
        known.update(person for version in facts.versions for person in version.persons)
        self._numbers = {person: place for place, person in enumerate(sorted(known), 1)}

    def __call__(self, person: str) -> str:
        if self._exposure is Exposure.NONE:
            return f"person {self._numbers[person]}"
        if self._exposure is Exposure.FULL:
            name = self._names.get(person)
            return f"{name} ({person})" if name else person
        return person


def _introduction(facts: LineageFacts, latest: VersionFacts | None) -> str:
    return f"<p>{escape(_state_sentence(facts, latest))}</p>" + (
        f"<p>Latest version: {_lozenge(latest.state)}</p>" if latest else ""
    )


def _state_sentence(facts: LineageFacts, latest: VersionFacts | None) -> str:
    if latest is None:
        return f"Project {facts.project} has no dataset version yet."
    counted = sum(decision.counted for decision in facts.decisions if decision.version == latest.digest)
    sentence = (
        f"Project {facts.project} has {_count(len(facts.versions), 'dataset version')}; the latest, number "
        f"{latest.number} ({latest.digest[:SHORT]}), holds {_count(latest.rows, 'answer')} and is {latest.state}, with "
        f"{_count(counted, 'decision')} that count."
    )
    last = max(facts.releases, key=lambda release: release.number, default=None)
    if last is None:
        return f"{sentence} Nothing was released yet."
    return f"{sentence} Release {last.number} of {_time(last.released_at)} is the newest that training may use."


def _versions(facts: LineageFacts) -> str:
    lines = [
        (
            str(version.number),
            _Raw(_lozenge(version.state)),
            _time(version.frozen_at),
            _Raw(_code(version.digest)),
            _Raw(_code(version.batch)),
            f"{version.rows:,}",
            f"{version.disputed:,}",
            f"{version.missing:,}",
            _distribution(version.labels),
            _Raw(_code(version.policy_digest)),
        )
        for version in _newest_first(facts)
    ]
    head = ("Version", "Status", "Frozen", "Digest", "Batch", "Answers", "Disputed", "Missing", "Labels", "Policy")
    return _table(head, lines, "No version was frozen yet.")


def _decisions(facts: LineageFacts, people: _People) -> str:
    numbers = {version.digest: version.number for version in facts.versions}
    ordered = sorted(
        facts.decisions, key=lambda one: (-numbers.get(one.version, 0), one.time, one.role, one.person, one.outcome)
    )
    lines = [
        (
            str(numbers.get(one.version, "")) or one.version[:SHORT],
            one.role,
            people(one.person),
            one.outcome,
            one.meaning,
            _time(one.time),
            one.grade,
            _Raw(_process(one)),
            "yes" if one.counted else f"no: {one.reason or 'no reason recorded'}",
        )
        for one in ordered
    ]
    head = ("Version", "Role", "Person", "Outcome", "Meaning", "Time", "Evidence", "Made in", "Counts")
    return _table(head, lines, "Nobody decided anything yet.")


def _process(decision: DecisionFacts) -> str:
    text = escape(" ".join(part for part in (decision.system, decision.process_id) if part))
    if decision.url.startswith(("https://", "http://")):
        return f'<a href="{escape(decision.url)}">{text}</a>'
    return text


def _annotators(facts: LineageFacts, people: _People) -> str:
    lines = [
        (str(version.number), people(person), f"{count:,}")
        for version in _newest_first(facts)
        for person, count in sorted(version.persons.items(), key=lambda item: (-item[1], item[0]))
    ]
    return _table(("Version", "Person", "Answers that count"), lines, "No answer counts yet.")


def _guidelines(facts: LineageFacts) -> str:
    known = {release.digest: release for release in facts.guidelines}
    lines = []
    for version in _newest_first(facts):
        for digest, count in sorted(version.guidelines.items()):
            release = known.get(digest)
            lines.append(
                (
                    str(version.number),
                    str(release.number) if release else "not known",
                    _Raw(_code(digest)),
                    _time(release.published_at) if release else "",
                    str(release.pages) if release else "",
                    f"{count:,}",
                )
            )
    used = {digest for version in facts.versions for digest in version.guidelines}
    lines += [
        (
            "none yet",
            str(release.number),
            _Raw(_code(release.digest)),
            _time(release.published_at),
            str(release.pages),
            "0",
        )
        for release in sorted(facts.guidelines, key=lambda one: -one.number)
        if release.digest not in used
    ]
    head = ("Version", "Guideline release", "Digest", "Published", "Pages", "Answers made under it")
    return _table(head, lines, "No guideline was released yet.")


def _releases(facts: LineageFacts) -> str:
    lines = [
        (
            str(release.number),
            _Raw(_code(release.digest)),
            _Raw(_code(release.version)),
            _time(release.released_at),
            release.path,
            release.dataset,
        )
        for release in sorted(facts.releases, key=lambda one: -one.number)
    ]
    head = ("Release", "Digest", "Version", "Released", "Where", "Prodigy dataset")
    return _table(head, lines, "Nothing was released yet.")


def _findings(facts: LineageFacts) -> str:
    ordered = sorted(facts.findings, key=lambda one: (one.kind, one.subject, one.detail))
    lines = [(one.kind, one.subject, one.detail, _time(one.time) if one.time else "") for one in ordered]
    return _table(("Kind", "Subject", "What was found", "Since"), lines, "None.")


def _digests(facts: LineageFacts) -> str:
    lines = [
        (f"version {version.number}", _Raw(f"<code>{escape(version.digest)}</code>"))
        for version in _newest_first(facts)
    ]
    lines += [
        (f"policy of version {version.number}", _Raw(f"<code>{escape(version.policy_digest)}</code>"))
        for version in _newest_first(facts)
    ]
    lines += [
        (f"guideline release {release.number}", _Raw(f"<code>{escape(release.digest)}</code>"))
        for release in sorted(facts.guidelines, key=lambda one: -one.number)
    ]
    lines += [
        (f"release {release.number}", _Raw(f"<code>{escape(release.digest)}</code>"))
        for release in sorted(facts.releases, key=lambda one: -one.number)
    ]
    if facts.ledger_head is not None:
        head = facts.ledger_head
        lines.append((f"ledger event {head.sequence}", _Raw(f"<code>{escape(head.hash)}</code>")))
    table = _table(("What", "SHA-256"), lines, "None yet.")
    return _macro("expand", {"title": "All digests in full"}, table)


def _how_to_verify(facts: LineageFacts) -> str:
    at = f" up to event {facts.ledger_head.sequence}" if facts.ledger_head else ""
    return _macro(
        "info",
        {"title": "How to verify"},
        "<p>Run <code>python -m include.governance verify</code> where Labelops is installed: it recomputes the "
        f"chain of the ledger{escape(at)} and needs no secret. A version's digest is the SHA-256 that its "
        "<code>manifest.json</code> in the store repeats; a decision counts only for that digest.</p>"
        "<p>This page is written by Labelops. Do not edit it: Labelops overwrites nobody's text, so an "
        "edited page is not updated any more, and the run says so.</p>",
    )


def _summary(facts: LineageFacts, people: _People) -> str:
    latest = _latest(facts)
    lines = [f"{facts.title}: lineage report", _state_sentence(facts, latest)]
    numbers = {version.digest: version.number for version in facts.versions}
    for version in _newest_first(facts):
        lines.append(
            f"Version {version.number}: {version.state}; digest {version.digest}; frozen {_time(version.frozen_at)}; "
            f"{_count(version.rows, 'answer')} by {_count(len(version.persons), 'person', 'persons')}; "
            f"{version.disputed:,} disputed, {version.missing:,} missing; "
            f"labels {_distribution(version.labels) or 'none'}."
        )
    for one in sorted(facts.decisions, key=lambda one: (one.version, one.time, one.role, one.person)):
        counts = "counts" if one.counted else f"does not count ({one.reason or 'no reason recorded'})"
        lines.append(
            f"Decision on version {numbers.get(one.version, one.version[:SHORT])}: {one.role} {people(one.person)}: "
            f"{one.outcome} ({one.meaning}), {_time(one.time)}, {one.grade}, in {one.system}; {counts}."
        )
    for release in sorted(facts.releases, key=lambda one: one.number):
        lines.append(
            f"Release {release.number}: version {numbers.get(release.version, release.version[:SHORT])}, "
            f"digest {release.digest}, {_time(release.released_at)}."
        )
    if facts.findings:
        lines.append(f"Findings: {len(facts.findings)}.")
    return "\n".join(lines) + "\n"


class _Raw(str):
    """A cell that is storage format already."""


def _table(head: Sequence[str], lines: Iterable[Sequence[str]], empty: str) -> str:
    body = "".join(
        "<tr>" + "".join(f"<td>{cell if isinstance(cell, _Raw) else escape(cell)}</td>" for cell in line) + "</tr>"
        for line in lines
    )
    if not body:
        return f"<p>{escape(empty)}</p>"
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    return f"<table><tbody><tr>{titles}</tr>{body}</tbody></table>"


def _macro(name: str, given: Mapping[str, str], body: str | None = None) -> str:
    inner = "".join(f'<ac:parameter ac:name="{key}">{escape(value)}</ac:parameter>' for key, value in given.items())
    if body is not None:
        inner += f"<ac:rich-text-body>{body}</ac:rich-text-body>"
    return f'<ac:structured-macro ac:name="{name}">{inner}</ac:structured-macro>'


def _lozenge(state: str) -> str:
    return _macro("status", {"colour": COLOURS.get(state, "Grey"), "title": state.upper()})


def _picture(name: str, text: str) -> str:
    return (
        f'<p>{escape(text)}</p><ac:image ac:alt="{escape(text)}" ac:width="800">'
        f'<ri:attachment ri:filename="{escape(name)}" /></ac:image>'
    )


def _chart_texts(latest: VersionFacts | None) -> tuple[str, str]:
    return (f"Labels of version {latest.number}" if latest else "Labels", "Answers over time")


def _code(digest: str) -> str:
    return f"<code>{escape(digest[:SHORT])}</code>"


def _distribution(labels: Mapping[str, int]) -> str:
    return ", ".join(
        f"{label} {count:,}" for label, count in sorted(labels.items(), key=lambda item: (-item[1], item[0]))
    )


def _newest_first(facts: LineageFacts) -> list[VersionFacts]:
    return sorted(facts.versions, key=lambda version: -version.number)


def _latest(facts: LineageFacts) -> VersionFacts | None:
    return max(facts.versions, key=lambda version: version.number, default=None)


def _time(moment: datetime) -> str:
    if moment.tzinfo is None:
        raise InvalidInput(f"the report's facts hold the time {moment.isoformat()} without a zone; times are UTC")
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
