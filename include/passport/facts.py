"""The facts that every part of a passport is made of, gathered once; a fact without a source is not there.

Times come from the ledger and the manifest, never from the clock: the same facts always give the same bytes, so a
release whose writing was killed is completed as it was begun.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from include.annotation.values import utc_text
from include.base.canonical import digest_of
from include.datasets.conditions import completeness, pinned_policy
from include.datasets.manifest import Manifest
from include.people.register import is_unknown
from include.projects.model import Card, Project, set_aside

__all__ = [
    "ATTESTATION",
    "CARD",
    "CHECKSUMS",
    "CROISSANT",
    "KEY",
    "LINEAGE",
    "RECALLED",
    "UNSIGNED",
    "Agreement",
    "Check",
    "Coefficient",
    "Column",
    "Context",
    "DataFile",
    "Facts",
    "Gate",
    "GuidelineRelease",
    "LedgerPlace",
    "limitations",
]

CARD = "README.md"
CROISSANT = "croissant.json"
LINEAGE = "openlineage.json"
ATTESTATION = "attestation.json"
KEY = "signing-key.pem"
UNSIGNED = "statement.json"
"""The statement of an installation that has no key."""

CHECKSUMS = "checksums.json"
RECALLED = "RECALLED.json"
"""Put beside the files of a release that must not be used any more."""


@dataclass(frozen=True)
class GuidelineRelease:
    """A release of the guideline under which answers were given, as the ledger tells of it.

    :param published_at: ISO 8601, UTC.
    :param pages: how many pages it had.
    """

    number: int
    digest: str
    published_at: str
    pages: int


@dataclass(frozen=True)
class Check:
    """One check of a gate and what it found; ``severity`` is critical or warning."""

    name: str
    column: str
    expected: str
    observed: str
    severity: str
    passed: bool


@dataclass(frozen=True)
class Gate:
    """A gate that passed.

    :param evidence_for: digest of what it looked at.
    :param report_digest: SHA-256 of its report.
    :param rows: how many rows it looked at; None, and no checks, where the report is kept no longer.
    """

    suite: str
    evidence_for: str
    report_digest: str
    rows: int | None
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class Coefficient:
    """One agreement coefficient. Numbers are decimal text, for they are digested.

    :param low: lower end of the interval, None where there is none.
    :param detail: what it was computed on, as "12 items, 2 annotators".
    """

    name: str
    value: str
    low: str | None = None
    high: str | None = None
    detail: str = ""


@dataclass(frozen=True)
class Agreement:
    """How far the annotators agree.

    :param level: what the intervals hold, as "95 %".
    :param method: how they were made, as "bootstrap over items, 1000 draws, seed 7".
    """

    coefficients: tuple[Coefficient, ...]
    level: str = ""
    method: str = ""


@dataclass(frozen=True)
class LedgerPlace:
    """The place on the ledger of the last event that the release rests on: a head that an auditor can look up."""

    ledger_id: str
    epoch: int
    size: int
    hash: str
    time: str


@dataclass(frozen=True)
class Context:
    """What the ledger and the store know of a release beside its manifest and decisions.

    :param asked_at: when its approval was asked for.
    :param released_at: when the last thing that it rests on was put on the ledger.
    """

    asked_at: datetime | None = None
    released_at: datetime | None = None
    guidelines: Sequence[GuidelineRelease] = ()
    gates: Sequence[Gate] = ()
    agreement: Agreement | None = None
    ledger: LedgerPlace | None = None


@dataclass(frozen=True)
class Column:
    """A column of the data.

    :param type: of one value, as Arrow names it (``string``, ``int32``, …); ``struct`` where ``fields`` has its parts.
    :param repeated: whether a row holds a list of values.
    """

    name: str
    type: str
    repeated: bool = False
    fields: tuple[Column, ...] = ()


@dataclass(frozen=True)
class DataFile:
    """One data file of the release.

    :param name: its path below the release folder, with ``/``.
    :param format: name of the export format.
    :param split: the part of the data that it holds, None where it holds all of it.
    :param rows: how many rows it holds.
    :param columns: of a file that has columns.
    """

    name: str
    format: str
    sha256: str
    bytes: int
    rows: int | None = None
    split: str | None = None
    columns: tuple[Column, ...] = ()


@dataclass(frozen=True)
class Facts:
    """Everything a passport says.

    :param approvals: the decisions the release rests on, as JSON objects without accounts, in canonical order.
    :param files: the data files.
    :param left_out: rows of the version that its tables do not hold, by reason.
    :param key_id: the key that will sign, None where the installation has none.
    :param edition: which release of this version it is, from 1.
    """

    project: Project
    digest: str
    number: int
    manifest: Manifest
    approvals: Sequence[Mapping[str, Any]]
    files: Sequence[DataFile]
    left_out: Mapping[str, int] = field(default_factory=dict)
    context: Context = field(default_factory=Context)
    key_id: str | None = None
    edition: int = 1

    @property
    def card(self) -> Card:
        """Return what people state about the data in the project file."""
        return self.project.card

    @property
    def moment(self) -> str | None:
        """Return when it was released (ISO 8601, UTC): the ledger's time, else the last time that is known."""
        if self.context.released_at is not None:
            return utc_text(self.context.released_at)
        times = [str(one["decided_at"]) for one in self.approvals if one.get("decided_at")]
        return max(times, default=self.manifest.last_answer_at)

    @property
    def begun(self) -> str | None:
        """Return when the way to the release began: its approval was asked for."""
        return utc_text(self.context.asked_at) or self.moment

    @property
    def labels_digest(self) -> str:
        """Return the SHA-256 over the label scheme: the interface and the labels that could be given."""
        return digest_of({"interface": self.manifest.interface, "labels": sorted(self.manifest.labels)})

    @property
    def splits(self) -> list[str]:
        """Return the names of the splits, in the order of the files."""
        return list(dict.fromkeys(one.split for one in self.files if one.split is not None))

    @property
    def annotators(self) -> list[str]:
        """Return the ids of everybody who answered."""
        return [share.id for share in self.manifest.persons]

    def of_format(self, *formats: str) -> list[DataFile]:
        """Return the data files in the first of these formats that there is."""
        for name in formats:
            found = [one for one in self.files if one.format == name]
            if found:
                return found
        return []

    def data_paths(self) -> list[tuple[str, list[str]]]:
        """Return (split, paths) of the files that a loader of tables reads: Parquet, else JSON lines."""
        found = self.of_format("parquet", "jsonl")
        by_split: dict[str, list[str]] = {}
        for one in found:
            by_split.setdefault(one.split or "train", []).append(one.name)
        return list(by_split.items())


def limitations(facts: Facts) -> list[str]:
    """Return, as sentences, what the manifest shows to be missing from the data."""
    manifest = facts.manifest
    counts = manifest.counts
    lines = [f"{completeness(manifest)} % of its {counts.tasks} tasks are settled"]
    lines += set_aside(pinned_policy(manifest))
    for count, what in (
        (counts.disputed, "tasks are left out because the answers dispute each other"),
        (counts.missing, "tasks are left out because answers are missing"),
        (counts.ignored, "tasks are left out because everybody ignored them"),
    ):
        if count:
            lines.append(f"{count} {what}")
    lines += [
        f"{count} rows are in no part of the split data: {reason.replace('_', ' ')}"
        for reason, count in facts.left_out.items()
    ]
    unknown = sum(share.counted for share in manifest.guidelines if share.digest == "unknown")
    if unknown:
        lines.append(f"{unknown} answers that count do not say under which guideline they were given")
    strangers = sum(is_unknown(share.id) for share in manifest.persons)
    if strangers:
        lines.append(f"{strangers} of the annotators are not in the register")
    never = [label for label, count in manifest.labels.items() if not count]
    if never:
        lines.append(f"never given: {', '.join(never)}")
    return lines
