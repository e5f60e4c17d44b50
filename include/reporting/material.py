"""What the people asked about a version are shown: what is new in it, and how good it is. One value, and its page."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from include.agreement.measurements import changes_since, quality_of
from include.agreement.summary import Quality, score_name
from include.datasets import freeze as freezing
from include.datasets.conditions import completeness, pinned_policy
from include.datasets.diff import VersionDiff, changes, marks
from include.datasets.manifest import Manifest
from include.governance.records import VersionRecord
from include.projects.model import Exposure, Project, set_aside
from include.reporting.markup import count, table, top
from include.run.run import Run, short
from include.systems.confluence.storage import escape

__all__ = ["SAMPLE", "Material", "Sampled", "body", "gather", "title"]

SAMPLE = 25
"""How many of the new, changed and removed rows are shown."""

_TEXT = 300
"""Characters of an input that are shown, where content may be."""


@dataclass(frozen=True)
class Sampled:
    """A row that is new, changed or gone.

    :param before, now: the labels in words, "" where the version has no row of it.
    :param persons: who gave the label.
    :param text: what the annotators saw, "" where content must not be shown.
    """

    task_id: str
    what: str
    before: str
    now: str
    persons: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Material:
    """What a version shows of itself to whoever decides on it.

    :param base: number of the version that it rests on, None where it rests on none.
    :param changes: what differs from that version.
    :param quality: how far its annotators agree; None where that cannot be measured.
    :param gate: what the gate found, in words.
    :param sample: drawn from what is new, changed or gone, by the version's digest: the same for everybody who looks.
    :param fresh: from how many it was drawn.
    """

    version: VersionRecord
    manifest: Manifest
    base: int | None
    changes: VersionDiff | None
    quality: Quality | None
    gate: str
    sample: tuple[Sampled, ...]
    fresh: int


def gather(run: Run, project: Project, version: VersionRecord) -> Material:
    """Return what a version shows of itself, by the exposure that its project allows on its pages.

    :raises InvalidInput: when the version's files are not what was frozen.
    """
    store, digest = run.store, version.digest
    manifest = freezing.read_manifest(store, project, digest)
    base = manifest.base
    rests = None if base is None else run.ledger.version(base.digest)
    full = project.policy.confluence_exposure is Exposure.FULL
    fresh = _Counted(_fresh(run, project, digest, base.digest if base else None, full))
    sample = tuple(one for _, one in heapq.nsmallest(SAMPLE, fresh, key=itemgetter(0)))
    return Material(
        version=version,
        manifest=manifest,
        base=rests.number if rests else None,
        changes=changes_since(store, project, base.digest, digest) if base else None,
        quality=quality_of(store, project, digest),
        gate=_gate(run, version),
        sample=sample,
        fresh=fresh.count,
    )


class _Counted:
    """Entries that are counted as they go by, and not kept."""

    def __init__(self, entries: Iterator[tuple[str, Sampled]]) -> None:
        self._entries = entries
        self.count = 0

    def __iter__(self) -> Iterator[tuple[str, Sampled]]:
        for entry in self._entries:
            self.count += 1
            yield entry


def _fresh(run: Run, project: Project, digest: str, base: str | None, full: bool) -> Iterator[tuple[str, Sampled]]:
    """Yield what is new, changed or gone, each with its place in the draw."""
    if base is None:
        for row in freezing.rows(run.store, project, digest):
            people = tuple(sorted({answer["person"] for answer in row["answers"]}))
            by = (row["decision"]["person"],) if row["decision"] else people
            yield _drawn(digest, row["task_id"], "new", None, row["value"], by, row["shown"] if full else None)
        return
    for one in changes(run.store, project, base, digest, full=full):
        what = {"added": "new", "removed": f"gone: {one.elsewhere}", "relabelled": "changed"}.get(one.kind, "confirmed")
        side = one.new or one.old
        old, new = one.old.value if one.old else None, one.new.value if one.new else None
        yield _drawn(digest, one.task_id, what, old, new, side.persons if side else (), one.shown)


def _drawn(
    seed: str,
    task_id: str,
    what: str,
    old: Mapping[str, Any] | None,
    new: Mapping[str, Any] | None,
    persons: tuple[str, ...],
    shown: Mapping[str, Any] | None,
) -> tuple[str, Sampled]:
    place = hashlib.sha256(f"{seed}\0{task_id}".encode()).hexdigest()
    return place, Sampled(task_id, what, _labels(old), _labels(new), persons, _text(shown))


def _labels(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return ""
    given = [f"{label} ({where})" if where and not where.startswith("(") else label for where, label in marks(value)]
    return ", ".join(given[:12]) + (f", {len(given) - 12} more" if len(given) > 12 else "")


def _text(shown: Mapping[str, Any] | None) -> str:
    if shown is None:
        return ""
    said = next((str(shown[key]) for key in ("text", "image", "audio", "video", "html", "input") if key in shown), "")
    return said if len(said) <= _TEXT else f"{said[:_TEXT]}…"


def _gate(run: Run, version: VersionRecord) -> str:
    passed = run.last(f"version:{version.digest}", "gate.passed")
    return "not passed" if passed is None else f"{passed.body['suite']} passed on {version.row_count:,} rows"


# ---- the page ------------------------------------------------------------------------------------------------------


def title(project: Project, version: VersionRecord) -> str:
    """Return the page's title."""
    return f"{version.name.capitalize()} of {project.title}, for decision"


def body(project: Project, material: Material) -> str:
    """Return the page in storage format: what somebody needs to say yes or no, the most telling first."""
    version, manifest = material.version, material.manifest
    exposure = project.policy.confluence_exposure
    rests = "It rests on no other version."
    if manifest.base is not None:
        rests = f"It rests on version {material.base}: {manifest.base.told}."
    head = f"{version.name.capitalize()} ({short(version.digest)}) holds {count(version.row_count, 'row')}. {rests}"
    parts = [
        f"<p>{escape(head)}</p>",
        table(("What", "How it is"), _glance(material, exposure), "Nothing is known."),
        "<h2>Labels</h2>",
        _label_table(material),
        f"<h2>{escape(_sample_title(material))}</h2>",
        _sample_table(material, exposure),
    ]
    return "".join(parts)


def _glance(material: Material, exposure: Exposure) -> Iterator[tuple[str, str]]:
    manifest = material.manifest
    counts, policy = manifest.counts, pinned_policy(manifest)
    left = [f"{number:,} {what}" for what, number in _left_out(manifest) if number]
    settled = f"{completeness(manifest)} % of {counts.tasks:,} tasks, {policy.min_completeness_percent} % are demanded"
    yield "Complete", settled
    yield "Left out", ", ".join(left) or "nothing"
    yield from _agreement(material.quality)
    others = f"{counts.split:,} with other answers, {counts.decided:,} by a review or a final decision"
    yield "Unanimous", f"{counts.unanimous:,} of {counts.rows:,} rows; {others}"
    yield "Quality gate", material.gate
    guidelines = [
        f"{'unknown' if one.digest == 'unknown' else f'release {one.number}'}: {count(one.counted, 'answer')}"
        for one in manifest.guidelines
        if one.counted
    ]
    yield "Guideline", "; ".join(guidelines) or "no answer counts"
    yield "Hands in what is new", _people(sorted(manifest.hands), exposure)
    if manifest.closed_by is not None:
        why = "" if exposure is Exposure.NONE else f": {manifest.closed_by.reason}"
        yield "Closed unfinished", f"by {_people([manifest.closed_by.person], exposure)}{why}"
    demands = [f"{one.minimum} {one.role} ({one.meaning})" for one in policy.approvals]
    yield "Who decides", f"{', '.join(demands)}; evidence {policy.evidence}"
    for sentence in set_aside(policy):
        yield "Mind", sentence


def _left_out(manifest: Manifest) -> Iterator[tuple[str, int]]:
    yield "disputed", manifest.counts.disputed
    yield "missing answers", manifest.counts.missing
    yield "ignored by everybody", manifest.counts.ignored


def _agreement(quality: Quality | None) -> Iterator[tuple[str, str]]:
    if quality is None:
        return
    for one in quality.scores:
        told = f"not defined: {one.reason}" if one.value is None else one.value
        if one.low is not None and one.high is not None:
            told += f" ({quality.confidence} %: {one.low} to {one.high})"
        yield score_name(one.name), f"{told}, {count(one.units, 'unit')}"


def _label_table(material: Material) -> str:
    found = material.changes
    if found is None:
        lines: Iterable[Sequence[str]] = ((label, f"{number:,}") for label, number in material.manifest.labels.items())
        return table(("Label", "Rows"), lines, "No label is given.", what="labels")
    moved = {f"{old or 'no label'} > {new or 'no label'}": times for (old, new), times in found.transitions.items()}
    said = f"<p>{escape(f'Relabelled: {top(moved)}.')}</p>" if moved else ""
    return said + table(
        ("Label", "Before", "Now", "Gained", "Lost"),
        (
            (label, *(f"{number:,}" for number in (one.old, one.new, one.gained, one.lost)))
            for label, one in found.labels.items()
        ),
        "No label is given in either.",
        what="labels",
    )


def _sample_title(material: Material) -> str:
    shown = len(material.sample)
    return f"What is new: {count(material.fresh, 'row')}" + (
        f", {shown} of them drawn" if shown < material.fresh else ""
    )


def _sample_table(material: Material, exposure: Exposure) -> str:
    if exposure is Exposure.NONE:
        return "<p>The project shows neither ids nor content on its pages.</p>"
    full = exposure is Exposure.FULL
    lines = [
        (short(one.task_id), one.what, one.before, one.now, _people(one.persons, exposure), one.text)[: 5 + full]
        for one in material.sample
    ]
    head = ("Task", "What", "Before", "Now", "By", "Content")[: 5 + full]
    note = "" if full else "<p>The project shows ids and labels on its pages, and no content.</p>"
    return note + table(head, lines, "Nothing is new.", what="rows")


def _people(persons: Sequence[str], exposure: Exposure) -> str:
    if exposure is Exposure.NONE:
        return count(len(persons), "person", "persons")
    return ", ".join("somebody unknown" if one.startswith("unknown") else one for one in persons) or "nobody"
