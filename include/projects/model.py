"""The project file: what one labelling initiative is, in one YAML file that nothing else repeats."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from include.base.canonical import digest_of

__all__ = [
    "CANNOT_HOLD",
    "VIEW_IDS",
    "Annotation",
    "Approval",
    "ApprovalMark",
    "Card",
    "Confluence",
    "ExportFormat",
    "Exposure",
    "Guideline",
    "Interface",
    "Policy",
    "Project",
    "ReleaseSettings",
    "Repeated",
    "Retention",
    "Rule",
    "Source",
    "SourceRoute",
]

_HOURS = ("due_hours", "reminder_hours", "grace_hours")
NAME = re.compile(r"[a-z][a-z0-9_]{1,48}\Z")
_MADE_NAME = re.compile(r"__(inbox|decisions|v[0-9]+)\Z")
"""What the names of a project's other datasets add to its own; see the properties of :class:`Project`."""

_TEN_YEARS = 87_600
"""Hours. A longer time is a slip, and dates end somewhere."""

_CENTURY = 36_500
"""Days, as far as anything is planned to be kept."""


def is_dataset_of(project: str, dataset: str) -> bool:
    """Tell whether a name is that of a dataset which the project has beside its answers."""
    return dataset.startswith(project) and _MADE_NAME.match(dataset, len(project)) is not None


def _twice(values: Iterable[str]) -> list[str]:
    return sorted(value for value, count in Counter(values).items() if count > 1)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Interface(StrEnum):
    """How a task is shown: Prodigy's interface for it is given by :attr:`Project.view_id`."""

    TEXTCAT = "textcat"
    """One label, accept or reject (Prodigy ``classification``)."""
    CHOICE = "choice"
    """Options to pick from (Prodigy ``choice``)."""
    NER = "ner"
    """Spans over tokens that do not overlap (Prodigy ``ner_manual``)."""
    SPANS = "spans"
    """Spans over tokens that may overlap (Prodigy ``spans_manual``)."""
    IMAGE = "image"
    """Rectangles, polygons and freehand shapes on an image (Prodigy ``image_manual``)."""
    AUDIO = "audio"
    """Segments of a recording (Prodigy ``audio_manual``)."""
    RELATIONS = "relations"
    """Spans over tokens and relations between them (Prodigy ``relations``)."""


VIEW_IDS = {
    Interface.TEXTCAT: "classification",
    Interface.CHOICE: "choice",
    Interface.NER: "ner_manual",
    Interface.SPANS: "spans_manual",
    Interface.IMAGE: "image_manual",
    Interface.AUDIO: "audio_manual",
    Interface.RELATIONS: "relations",
}
"""What Prodigy calls each interface."""


class Rule(StrEnum):
    """Which of several people's answers counts."""

    SINGLE = "single"
    """One person answers; their latest answer counts."""
    MAJORITY = "majority"
    """More than half of the persons gave the same value."""
    UNANIMOUS = "unanimous"
    """Every person gave the same value."""


class Repeated(StrEnum):
    """What counts where one person answered a task more than once in a round."""

    LATEST = "latest"
    """Their last answer."""
    FIRST = "first"
    """Their first answer."""
    REFUSE = "refuse"
    """None: the task is disputed."""


class Exposure(StrEnum):
    """How much of the content a system may see."""

    NONE = "none"
    IDS = "ids"
    MASKED = "masked"
    FULL = "full"


class ApprovalMark(_Strict):
    """What on a page says that it is approved."""

    by: Literal["state", "label", "property"]
    value: str = Field(min_length=1, description="name of the state, the label, or the row's cell")
    row: str = Field(default="Status", description="for `property`: the row of the page properties table")


class Guideline(_Strict):
    """Where the guideline lives and what it must hold."""

    root: str = Field(min_length=1, description="title of the guideline's root page")
    approved: ApprovalMark
    required_sections: tuple[str, ...] = ()
    max_page_kilobytes: int = Field(default=512, ge=1, le=5000)
    max_image_kilobytes: int = Field(default=4096, ge=1, le=65536)
    purged: tuple[str, ...] = Field(
        default=(), description="ids of pages that were deleted for good; else one that is gone may be merely hidden"
    )


class Confluence(_Strict):
    """The project's space and pages."""

    space: str = Field(min_length=1, description="space key")
    guideline: Guideline
    report_parent: str | None = Field(default=None, description="title of the page the report goes under")


class SourceRoute(_Strict):
    """One rule of the router: the first whose pattern matches the file decides."""

    match: str = Field(min_length=1, description="a pattern on the path below the location, such as `images/*.png`")
    text_field: str = Field(default="text", description="field or column that holds the text")
    id_field: str | None = Field(
        default=None, description="field that names the record; its place in the file if absent"
    )
    meta_fields: tuple[str, ...] = ()
    skip: bool = False


class Source(_Strict):
    """Where raw data arrives."""

    location: str = Field(
        min_length=1, description="folder or cloud location; relative ones are below the sources root"
    )
    conn_id: str | None = Field(default=None, description="Airflow connection of a cloud location")
    routes: tuple[SourceRoute, ...] = (SourceRoute(match="*"),)
    max_file_megabytes: int = Field(default=2048, ge=1)
    max_record_kilobytes: int = Field(default=256, ge=1)
    max_unpacked_megabytes: int = Field(
        default=4096, ge=1, description="what a compressed or Parquet file may unpack to"
    )
    max_records: int = Field(default=500_000, ge=1, description="records in one file, malformed ones included")


class Annotation(_Strict):
    """How tasks are labelled."""

    interface: Interface
    labels: tuple[str, ...] = Field(min_length=1, description="for `relations`: the labels of the spans")
    relation_labels: tuple[str, ...] = Field(default=(), description="for `relations` alone: the labels between spans")
    multiple: bool = Field(default=False, description="for `choice`: more than one option may be picked")
    answers_per_task: int = Field(default=1, ge=1, le=50)
    rule: Rule = Rule.SINGLE
    repeated: Repeated = Field(
        default=Repeated.LATEST, description="which of one person's several answers to a task in a round counts"
    )
    quiet_minutes: float = Field(
        default=10, ge=0, le=_TEN_YEARS * 60, description="minutes without a new answer before a batch can be finished"
    )
    batch_size: int = Field(default=500, ge=1, le=100_000, description="tasks in one batch")

    @field_validator("labels", "relation_labels")
    @classmethod
    def _labels_are_distinct(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        for label in labels:
            if not label.strip() or label != label.strip() or "," in label:
                raise ValueError(f"label {label!r}: a label has no comma and no space at its ends")
        twice = _twice(labels)
        if twice:
            raise ValueError(f"named twice: {', '.join(twice)}")
        return labels

    @model_validator(mode="after")
    def _rule_fits(self) -> Annotation:
        if self.rule is Rule.SINGLE and self.answers_per_task != 1:
            raise ValueError("rule `single` goes with answers_per_task 1; say `majority` or `unanimous`")
        if self.interface is Interface.TEXTCAT and len(self.labels) != 1:
            raise ValueError("interface `textcat` asks about one label; say `choice` for several")
        return self

    @model_validator(mode="after")
    def _relations_have_labels(self) -> Annotation:
        if self.interface is not Interface.RELATIONS:
            if self.relation_labels:
                raise ValueError(f"relation_labels: found some with interface `{self.interface}`; allowed: `relations`")
            return self
        if not self.relation_labels:
            raise ValueError(
                "interface `relations` needs relation_labels, for what joins two spans, beside labels, for the spans"
            )
        both = sorted(set(self.labels) & set(self.relation_labels))
        if both:
            raise ValueError(
                f"label both of spans and of relations: {', '.join(both)}; counts could not tell them apart"
            )
        return self

    @property
    def all_labels(self) -> tuple[str, ...]:
        """Return every label that an answer may give: of spans and, for `relations`, between them."""
        return self.labels + self.relation_labels


class Approval(_Strict):
    """One demand of the policy: so many persons of a role."""

    role: str = Field(min_length=1)
    minimum: int = Field(default=1, ge=1, le=10)
    meaning: Literal["review", "approval", "responsibility"] = "approval"


class Policy(_Strict):
    """What must be true before data leaves. Its digest is pinned when a version is frozen."""

    approvals: tuple[Approval, ...] = Field(min_length=1)
    evidence: Literal["attested", "asserted"] = "asserted"
    signature: Literal["recorded", "authenticated", "signed"] = Field(
        default="recorded", description="lowest signature level of a decision that counts"
    )
    four_eyes: bool = True
    due_hours: float = Field(default=72, gt=0, le=_TEN_YEARS)
    reminder_hours: float = Field(default=48, gt=0, le=_TEN_YEARS)
    grace_hours: float = Field(default=24, ge=0, le=_TEN_YEARS, description="hours between escalation and `expired`")
    escalation_role: str | None = None
    min_completeness_percent: int = Field(default=100, ge=0, le=100)
    require_guideline_stamp: bool = Field(
        default=False, description="refuse a version with answers whose guideline release is unknown"
    )
    confluence_exposure: Exposure = Exposure.IDS
    opentext_exposure: Exposure = Exposure.IDS
    quarantine_exposure: Exposure = Exposure.IDS
    guard: str | None = Field(default=None, min_length=1, description="role that accepts a changed policy")
    changed_by: str | None = Field(default=None, min_length=1, description="person id of who changed the policy last")
    reason: str | None = Field(default=None, min_length=3, description="why they did")

    @model_validator(mode="after")
    def _order(self) -> Policy:
        if self.reminder_hours > self.due_hours:
            raise ValueError(f"reminder_hours {self.reminder_hours} is after due_hours {self.due_hours}")
        roles = [approval.role for approval in self.approvals]
        if len(set(roles)) != len(roles):
            raise ValueError("a role is listed twice: raise its `minimum` instead")
        if (self.changed_by is None) != (self.reason is None):
            raise ValueError("changed_by and reason go together: who changed the policy, and why")
        return self

    @property
    def digest(self) -> str:
        """Return the SHA-256 over everything that the policy demands, whoever wrote it."""
        return digest_of(self.pinned())

    def pinned(self) -> dict[str, object]:
        """Return the policy as it goes into a manifest: no floats, hours as whole seconds."""
        value: dict[str, object] = self.model_dump(mode="json")
        for name in _HOURS:
            value[name.replace("_hours", "_seconds")] = round(getattr(self, name) * 3600)
            del value[name]
        del value["changed_by"], value["reason"]
        for name, default in (("signature", "recorded"), ("guard", None)):
            if value[name] == default:
                del value[name]  # what was pinned before there was a choice keeps its digest
        return value

    @classmethod
    def from_pinned(cls, value: Mapping[str, object]) -> Policy:
        """Return the policy that :meth:`pinned` wrote down.

        :raises ValueError: when it is not a policy.
        """
        hours = {name: value[name.replace("_hours", "_seconds")] for name in _HOURS}
        kept = {name: one for name, one in value.items() if not name.endswith("_seconds")}
        return cls.model_validate({**kept, **{name: int(str(seconds)) / 3600 for name, seconds in hours.items()}})

    @property
    def due(self) -> timedelta:
        """Return how long approvers have."""
        return timedelta(hours=self.due_hours)


def set_aside(policy: Policy) -> list[str]:
    """Return, as sentences, which promises a policy sets aside: whoever relies on them has to be told."""
    return [] if policy.four_eyes else ["four eyes are set aside: whoever labelled, decided or asked may approve"]


def relaxations(before: Policy, after: Policy) -> list[str]:
    """Return, as sentences, what a policy demands less than the one before it."""
    told = []
    minima = {one.role: one.minimum for one in after.approvals}
    for one in before.approvals:
        if minima.get(one.role, 0) < one.minimum:
            told.append(f"approvals: {one.role}: {minima.get(one.role, 0)} instead of {one.minimum}")
    for name, order in _STRICTER:
        old, new = getattr(before, name), getattr(after, name)
        if order.index(new) < order.index(old):
            told.append(f"{name}: {new} instead of {old}")
    if after.min_completeness_percent < before.min_completeness_percent:
        old, new = before.min_completeness_percent, after.min_completeness_percent
        told.append(f"min_completeness_percent: {new} instead of {old}")
    if before.guard is not None and after.guard != before.guard:
        told.append(f"guard: {after.guard or 'nobody'} instead of {before.guard}")
    return told


_EXPOSURES = (Exposure.FULL, Exposure.MASKED, Exposure.IDS, Exposure.NONE)

_STRICTER: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("evidence", ("asserted", "attested")),
    ("signature", ("recorded", "authenticated", "signed")),
    ("four_eyes", (False, True)),
    ("require_guideline_stamp", (False, True)),
    ("confluence_exposure", _EXPOSURES),
    ("opentext_exposure", _EXPOSURES),
    ("quarantine_exposure", _EXPOSURES),
)
"""Fields of a policy whose values are ordered, the laxest first."""

ExportFormat = Literal["jsonl", "parquet", "spacy", "conll", "coco", "tfrecord", "pytorch"]
"""A training format; ``include.exports.FORMATS`` writes them."""

CANNOT_HOLD: Mapping[ExportFormat, frozenset[Interface]] = {
    "spacy": frozenset({Interface.IMAGE, Interface.AUDIO}),
    "conll": frozenset(Interface) - {Interface.NER},
    "coco": frozenset(Interface) - {Interface.IMAGE},
}
"""Whose answers a format has no place for; ``include.exports.supports`` says why."""


class ReleaseSettings(_Strict):
    """How an approved version is handed over."""

    orchestrator: Literal["opentext", "airflow"] = "opentext"
    webhook_conn_id: str | None = Field(default=None, description="HTTP connection called after a release")
    licence: str = "other"
    language: str = "en"
    formats: tuple[ExportFormat, ...] = Field(
        default=("jsonl", "parquet"), min_length=1, description="training formats that a release holds"
    )
    splits: dict[Literal["train", "dev", "test"], int] | None = Field(
        default=None, description="percent of the inputs in each part; without it a release is not split"
    )

    @field_validator("formats")
    @classmethod
    def _formats_are_distinct(cls, formats: tuple[str, ...]) -> tuple[str, ...]:
        twice = _twice(formats)
        if twice:
            raise ValueError(f"named twice: {', '.join(twice)}")
        return formats

    @field_validator("splits")
    @classmethod
    def _shares_make_a_whole(cls, splits: dict[str, int] | None) -> dict[str, int] | None:
        if splits is None:
            return None
        bad = [f"{name}: {share}" for name, share in splits.items() if not 0 < share < 100]
        if bad or sum(splits.values()) != 100 or "train" not in splits:
            raise ValueError(
                f"found {', '.join(f'{name}: {share}' for name, share in splits.items()) or 'nothing'}; allowed: train "
                "and dev, test or both, whole percents above 0 that add up to 100"
            )
        return splits


Statement = Annotated[str, Field(min_length=1, max_length=5000)]


class Card(_Strict):
    """What people state about the data; no record of ours could tell. It goes into each release as it stands here."""

    description: Statement | None = None
    use_cases: tuple[Statement, ...] = Field(default=(), description="what the data is fit for, and what it is not")
    limitations: tuple[Statement, ...] = ()
    biases: tuple[Statement, ...] = ()
    sensitive_information: tuple[Statement, ...] = Field(default=(), description="personal or sensitive content")
    demographics: tuple[Statement, ...] = Field(default=(), description="who the annotators are, as a group")
    collection: Statement | None = Field(default=None, description="how the raw data came about")
    source_datasets: tuple[Statement, ...] = Field(default=(), description="data sets that this one is derived from")
    url: Statement | None = Field(default=None, description="the data set's web page")
    citation: Statement | None = Field(default=None, description="how to cite it, BibTeX preferred")
    maintenance: Statement | None = Field(default=None, description="who keeps it up to date, how, and until when")

    @field_validator("*")
    @classmethod
    def _says_something(cls, value: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        for one in (value,) if isinstance(value, str) else value or ():
            if not one.strip():
                raise ValueError("a statement of spaces says nothing: leave it out")
        return value


class Retention(_Strict):
    """How long content is kept, in days; without a number it is kept for ever.

    Proofs always stay: events and decisions of the ledger, manifests, digests, checkpoints.

    :param name: the retention class, as the organisation's schedule of records calls it.
    """

    model_config = ConfigDict(populate_by_name=True)

    name: str = Field(default="standard", alias="class", min_length=1)
    versions_days: int | None = Field(
        default=None, ge=1, le=_CENTURY, description="of versions no release of which stands"
    )
    evidence_days: int | None = Field(
        default=None, ge=1, le=_CENTURY, description="of replies that prove decisions on such versions"
    )
    quarantine_days: int | None = Field(default=None, ge=1, le=_CENTURY, description="of records that were set aside")
    legal_hold: str | None = Field(default=None, min_length=3, description="why nothing of the project may be removed")


class Project(_Strict):
    """One labelling project."""

    name: Annotated[str, Field(description="lower case, digits and underscores; part of dataset names")]
    title: str = Field(min_length=1)
    owner: str = Field(min_length=1, description="person id of the one who answers for the project")
    confluence: Confluence
    source: Source
    annotation: Annotation
    policy: Policy
    version: Literal["dataset", "batch"] = Field(
        default="dataset", description="what a version holds: the whole dataset so far, or one batch, as an increment"
    )
    release: ReleaseSettings = ReleaseSettings()
    card: Card = Card()
    retention: Retention = Retention()
    process_mapping: str = Field(
        default="default", description="name of the OpenText mapping under include/bpmn/mappings"
    )

    @model_validator(mode="after")
    def _formats_hold_the_answers(self) -> Project:
        interface = self.annotation.interface
        cannot = [name for name in self.release.formats if interface in CANNOT_HOLD.get(name, ())]
        if cannot:
            raise ValueError(f"release.formats: {', '.join(cannot)}: cannot hold answers of interface {interface}")
        return self

    @field_validator("name")
    @classmethod
    def _name_is_plain(cls, name: str) -> str:
        if not NAME.match(name):
            raise ValueError(f"{name!r}: 2 to 49 of a-z, 0-9 and _, a letter first")
        return name

    @property
    def answers(self) -> str:
        """Return the Prodigy dataset that answers are saved to."""
        return self.name

    @property
    def inbox(self) -> str:
        """Return the Prodigy dataset of tasks that wait."""
        return f"{self.name}__inbox"

    @property
    def decisions(self) -> str:
        """Return the Prodigy dataset of final decisions."""
        return f"{self.name}__decisions"

    def version_dataset(self, number: int) -> str:
        """Return the Prodigy dataset that an approved version is linked as."""
        return f"{self.name}__v{number}"

    @property
    def view_id(self) -> str:
        """Return Prodigy's interface for the project's tasks."""
        return VIEW_IDS[self.annotation.interface]
