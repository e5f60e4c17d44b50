"""What the lineage report is told: versions, decisions, guidelines, releases and findings of one project."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

from include.agreement.summary import Quality
from include.datasets.diff import VersionDiff

__all__ = [
    "DecisionFacts",
    "FindingFacts",
    "GuidelineFacts",
    "LedgerHead",
    "LineageFacts",
    "ReleaseFacts",
    "VersionFacts",
]


@dataclass(frozen=True)
class VersionFacts:
    """A frozen dataset version.

    :param rows: answers it took.
    :param labels: label → answers that carry it.
    :param persons: person id → answers of theirs that count. An unmapped account has the id the caller gives it.
    :param guidelines: digest of a guideline release, or ``unknown``, → answers made under it.
    :param disputed: tasks left out since their answers disagree.
    :param missing: tasks of the batch without the answers the project asks for.
    :param state: what became of it: ``frozen``, ``in approval``, ``approved``, ``rejected``, ``rework``, ``expired``,
        ``undecided``, ``void``, ``withdrawn``, ``released``, ``recalled``.
    :param removed_at: when its content was removed; its manifest stays.
    :param origin: where the tasks came from: ``inbox``; ``adopted``, answered without having been there; ``late``,
        answered after their batch was frozen.
    :param quality: how far its annotators agree, and the account of their answers; None where it was not measured.
    :param changes: what differs from the version that it rests on, or else from the one before; None for the first.
    :param rests: on which version it rests, and what it adds, in words; "" where it rests on none.
    """

    number: int
    digest: str
    frozen_at: datetime
    rows: int
    labels: Mapping[str, int]
    persons: Mapping[str, int]
    guidelines: Mapping[str, int]
    disputed: int
    missing: int
    policy_digest: str
    state: str = "frozen"
    removed_at: datetime | None = None
    origin: str = "inbox"
    quality: Quality | None = None
    changes: VersionDiff | None = None
    rests: str = ""


@dataclass(frozen=True)
class DecisionFacts:
    """A decision on a version.

    :param person: person id, or the account where the register knows nobody.
    :param grade: ``attested`` or ``asserted``.
    :param signature: ``recorded``, ``authenticated`` or ``signed``; "" where it is not told.
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
    signature: str = ""


@dataclass(frozen=True)
class GuidelineFacts:
    """A guideline release and how many pages it holds."""

    number: int
    digest: str
    published_at: datetime
    pages: int


@dataclass(frozen=True)
class ReleaseFacts:
    """A release: which version was handed over, when, where, and as which Prodigy dataset; and when it was recalled."""

    number: int
    digest: str
    version: str
    released_at: datetime
    path: str
    dataset: str = ""
    recalled_at: datetime | None = None


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
    :param accounts: account in any system → person id; what a page says of an account, it says of the person.
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
    accounts: Mapping[str, str] = field(default_factory=dict)
    ledger_head: LedgerHead | None = None
