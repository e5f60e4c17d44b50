"""The lineage report of one project: a page whose bytes depend on the facts alone.

No clock and no ledger position of the run itself goes into it, so a night on which nothing happened makes no new
page version. The page is Confluence storage format, and people appear on it only as far as the policy exposes them.
"""

from __future__ import annotations

from dataclasses import dataclass

from include.base.canonical import SHORT
from include.projects.model import Exposure
from include.reporting import charts as draw
from include.reporting import quality as sections
from include.reporting.facts import (
    DecisionFacts,
    FindingFacts,
    GuidelineFacts,
    LedgerHead,
    LineageFacts,
    ReleaseFacts,
    VersionFacts,
)
from include.reporting.markup import Raw, code, count, lozenge, macro, picture, table, time, top
from include.reporting.people import People
from include.systems.confluence.storage import escape

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


def build(facts: LineageFacts, *, exposure: Exposure | str = Exposure.IDS) -> ReportPage:
    """Return the report; the same facts give the same bytes.

    :param exposure: how people appear: ``full`` by name, ``ids`` and ``masked`` by person id, ``none`` numbered.
    :raises InvalidInput: for a time without a zone.
    """
    people = People(facts, Exposure(exposure))
    latest = _latest(facts)
    parts = [
        _introduction(facts, latest),
        "<h2>Dataset versions</h2>",
        _versions(facts),
        "<h2>Approvals</h2>",
        _decisions(facts, people),
        "<h2>Annotators</h2>",
        _annotators(facts, people),
        "<h2>Agreement</h2>",
        sections.agreement(_newest_first(facts), people),
        "<h2>Annotation accounting</h2>",
        sections.annotation(_newest_first(facts), people),
        "<h2>Changes between versions</h2>",
        sections.changes(_newest_first(facts), people),
        "<h2>Guideline releases in force</h2>",
        _guidelines(facts),
        "<h2>Releases</h2>",
        _releases(facts),
        "<h2>Charts</h2>",
        *(picture(name, text) for name, text in zip(CHART_NAMES, _chart_texts(latest), strict=True)),
        "<h2>Findings</h2>",
        _findings(facts, people),
        _digests(facts),
        _how_to_verify(facts),
    ]
    labels, answers = CHART_NAMES
    pictures = (
        Chart(labels, draw.labels(_chart_texts(latest)[0], latest.labels if latest else {})),
        Chart(answers, draw.answers_by_day(_chart_texts(latest)[1], facts.answers_by_day)),
    )
    return ReportPage(f"{facts.title}: lineage report", "".join(parts), pictures, _summary(facts, people))


def summary_text(facts: LineageFacts, *, exposure: Exposure | str = Exposure.IDS) -> str:
    """Return the report in plain text, one fact a line, for a comment or a file on a process."""
    return _summary(facts, People(facts, Exposure(exposure)))


def _introduction(facts: LineageFacts, latest: VersionFacts | None) -> str:
    return f"<p>{escape(_state_sentence(facts, latest))}</p>" + (
        f"<p>Latest version: {lozenge(latest.state)}</p>" if latest else ""
    )


def _state_sentence(facts: LineageFacts, latest: VersionFacts | None) -> str:
    if latest is None:
        return f"Project {facts.project} has no dataset version yet."
    counted = sum(decision.counted for decision in facts.decisions if decision.version == latest.digest)
    sentence = (
        f"Project {facts.project} has {count(len(facts.versions), 'dataset version')}; the latest, number "
        f"{latest.number} ({latest.digest[:SHORT]}), holds {count(latest.rows, 'answer')} and is {latest.state}, with "
        f"{count(counted, 'decision')} that count."
    )
    if not facts.releases:
        return f"{sentence} Nothing was released yet."
    standing = [release for release in facts.releases if release.recalled_at is None]
    if not standing:
        return f"{sentence} What was released is recalled: there is nothing that training may use."
    last = max(standing, key=lambda release: release.number)
    return f"{sentence} Release {last.number} of {time(last.released_at)} is the newest that training may use."


def _versions(facts: LineageFacts) -> str:
    lines = [
        (
            str(version.number),
            Raw(lozenge(version.state)),
            time(version.frozen_at),
            Raw(code(version.digest)),
            version.rests,
            f"{version.rows:,}" + (f" (removed {time(version.removed_at)})" if version.removed_at else ""),
            f"{version.disputed:,}",
            f"{version.missing:,}",
            top(version.labels),
            Raw(code(version.policy_digest)),
        )
        for version in _newest_first(facts)
    ]
    head = ("Version", "Status", "Frozen", "Digest", "Rests on", "Answers", "Disputed", "Missing", "Labels", "Policy")
    return table(head, lines, "No version was frozen yet.")


def _decisions(facts: LineageFacts, people: People) -> str:
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
            time(one.time),
            f"{one.grade}, {one.signature}" if one.signature else one.grade,
            Raw(_process(one)),
            "yes" if one.counted else f"no: {_reason(one, people)}",
        )
        for one in ordered
    ]
    head = ("Version", "Role", "Person", "Outcome", "Meaning", "Time", "Evidence", "Made in", "Counts")
    return table(head, lines, "Nobody decided anything yet.")


def _reason(decision: DecisionFacts, people: People) -> str:
    return people.text(decision.reason) if decision.reason else "no reason recorded"


def _process(decision: DecisionFacts) -> str:
    text = escape(" ".join(part for part in (decision.system, decision.process_id) if part))
    if decision.url.startswith(("https://", "http://")):
        return f'<a href="{escape(decision.url)}">{text}</a>'
    return text


def _annotators(facts: LineageFacts, people: People) -> str:
    lines = [
        (str(version.number), people(person), f"{answers:,}")
        for version in _newest_first(facts)
        for person, answers in sorted(version.persons.items(), key=lambda item: (-item[1], item[0]))
    ]
    return table(("Version", "Person", "Answers that count"), lines, "No answer counts yet.")


def _guidelines(facts: LineageFacts) -> str:
    known = {release.digest: release for release in facts.guidelines}
    lines = []
    for version in _newest_first(facts):
        for digest, answers in sorted(version.guidelines.items()):
            release = known.get(digest)
            lines.append(
                (
                    str(version.number),
                    str(release.number) if release else "not known",
                    Raw(code(digest)),
                    time(release.published_at) if release else "",
                    str(release.pages) if release else "",
                    f"{answers:,}",
                )
            )
    used = {digest for version in facts.versions for digest in version.guidelines}
    lines += [
        (
            "none yet",
            str(release.number),
            Raw(code(release.digest)),
            time(release.published_at),
            str(release.pages),
            "0",
        )
        for release in sorted(facts.guidelines, key=lambda one: -one.number)
        if release.digest not in used
    ]
    head = ("Version", "Guideline release", "Digest", "Published", "Pages", "Answers made under it")
    return table(head, lines, "No guideline was released yet.")


def _releases(facts: LineageFacts) -> str:
    lines = [
        (
            str(release.number),
            Raw(code(release.digest)),
            Raw(code(release.version)),
            time(release.released_at),
            release.path,
            release.dataset,
            "no" if release.recalled_at is None else time(release.recalled_at),
        )
        for release in sorted(facts.releases, key=lambda one: -one.number)
    ]
    head = ("Release", "Digest", "Version", "Released", "Where", "Prodigy dataset", "Recalled")
    return table(head, lines, "Nothing was released yet.")


def _findings(facts: LineageFacts, people: People) -> str:
    ordered = sorted(facts.findings, key=lambda one: (one.kind, one.subject, one.detail))
    lines = [(one.kind, one.subject, people.text(one.detail), time(one.time) if one.time else "") for one in ordered]
    return table(("Kind", "Subject", "What was found", "Since"), lines, "None.")


def _digests(facts: LineageFacts) -> str:
    lines = [
        (f"version {version.number}", Raw(f"<code>{escape(version.digest)}</code>")) for version in _newest_first(facts)
    ]
    lines += [
        (f"policy of version {version.number}", Raw(f"<code>{escape(version.policy_digest)}</code>"))
        for version in _newest_first(facts)
    ]
    lines += [
        (f"guideline release {release.number}", Raw(f"<code>{escape(release.digest)}</code>"))
        for release in sorted(facts.guidelines, key=lambda one: -one.number)
    ]
    lines += [
        (f"release {release.number}", Raw(f"<code>{escape(release.digest)}</code>"))
        for release in sorted(facts.releases, key=lambda one: -one.number)
    ]
    if facts.ledger_head is not None:
        head = facts.ledger_head
        lines.append((f"ledger event {head.sequence}", Raw(f"<code>{escape(head.hash)}</code>")))
    return macro("expand", {"title": "All digests in full"}, table(("What", "SHA-256"), lines, "None yet."))


def _how_to_verify(facts: LineageFacts) -> str:
    at = f" up to event {facts.ledger_head.sequence}" if facts.ledger_head else ""
    return macro(
        "info",
        {"title": "How to verify"},
        "<p>Run <code>labelops verify</code> where Labelops is installed: it recomputes the "
        f"chain of the ledger{escape(at)} and needs no secret. A version's digest is the SHA-256 that its "
        "<code>manifest.json</code> in the store repeats; a decision counts only for that digest.</p>"
        "<p>Where the installation has a signing key, this page's content property <code>labelops_checkpoint</code> "
        "holds a signed checkpoint of the ledger, in the field <code>note</code>. Saved as a file and given to "
        "<code>verify --note</code>, it shows whether the ledger was cut back or written anew since.</p>"
        "<p>This page is written by Labelops. Do not edit it: Labelops overwrites nobody's text, so an "
        "edited page is not updated any more, and the run says so.</p>",
    )


def _summary(facts: LineageFacts, people: People) -> str:
    latest = _latest(facts)
    lines = [f"{facts.title}: lineage report", _state_sentence(facts, latest)]
    numbers = {version.digest: version.number for version in facts.versions}
    for version in _newest_first(facts):
        lines.append(
            f"Version {version.number}: {version.state}; digest {version.digest}; frozen {time(version.frozen_at)}; "
            f"{count(version.rows, 'answer')} by {count(len(version.persons), 'person', 'persons')}; "
            f"{version.disputed:,} disputed, {version.missing:,} missing; "
            f"labels {top(version.labels) or 'none'}."
        )
        if version is latest:
            lines += sections.sentences(version)
    for one in sorted(facts.decisions, key=lambda one: (one.version, one.time, one.role, one.person)):
        counts = "counts" if one.counted else f"does not count ({_reason(one, people)})"
        lines.append(
            f"Decision on version {numbers.get(one.version, one.version[:SHORT])}: {one.role} {people(one.person)}: "
            f"{one.outcome} ({one.meaning}), {time(one.time)}, {one.grade}, in {one.system}; {counts}."
        )
    for release in sorted(facts.releases, key=lambda one: one.number):
        lines.append(
            f"Release {release.number}: version {numbers.get(release.version, release.version[:SHORT])}, "
            f"digest {release.digest}, {time(release.released_at)}"
            + (f"; recalled {time(release.recalled_at)}." if release.recalled_at else ".")
        )
    if facts.findings:
        lines.append(f"Findings: {len(facts.findings)}.")
    return "\n".join(lines) + "\n"


def _chart_texts(latest: VersionFacts | None) -> tuple[str, str]:
    return (f"Labels of version {latest.number}" if latest else "Labels", "Answers over time")


def _newest_first(facts: LineageFacts) -> list[VersionFacts]:
    return sorted(facts.versions, key=lambda version: -version.number)


def _latest(facts: LineageFacts) -> VersionFacts | None:
    return max(facts.versions, key=lambda version: version.number, default=None)
