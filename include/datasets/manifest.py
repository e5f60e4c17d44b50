"""A dataset version's manifest: what it holds, where it came from, and by which rule. Its digest names the version."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from include.base.canonical import canonical_json, sha256_hex
from include.base.errors import InvalidInput
from include.base.reading import parse_json
from include.base.store import Store, StorePath
from include.projects.model import Project

__all__ = [
    "INLINE",
    "Base",
    "ClosedBy",
    "Counts",
    "FileRef",
    "GuidelineShare",
    "Manifest",
    "PersonShare",
    "RepeatEntry",
    "RepeatList",
    "RuleRef",
    "TaskEntry",
    "TaskList",
    "find_version",
    "parse_manifest",
    "read_manifest",
    "since",
    "version_path",
]

INLINE = 1000
"""Up to how many tasks a list stands in the manifest itself; longer ones are files beside it, named by their digest."""

_DIGEST_LENGTH = 64
_LEAST_PREFIX = 6

Sha256 = Field(pattern=r"^[0-9a-f]{64}$")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class FileRef(_Strict):
    """A file of the version: its lines and the SHA-256 of its bytes."""

    name: str
    sha256: str = Sha256
    lines: int = Field(ge=0)


class TaskEntry(_Strict):
    """A task that is not in the version: how many persons answered, and how many different values they gave."""

    task_id: str = Sha256
    persons: int = Field(ge=0)
    values: int = Field(ge=0)


class TaskList(_Strict):
    """Tasks left out for one reason: in ``items``, or in ``file`` when there are more than :data:`INLINE`."""

    count: int = Field(ge=0)
    items: list[TaskEntry] | None = None
    file: FileRef | None = None


class PersonShare(_Strict):
    """One person's part: answers that counted, and answers that did not. ``unknown:`` entries are in no register."""

    id: str
    counted: int = Field(ge=0)
    losing: int = Field(ge=0)


class GuidelineShare(_Strict):
    """How many answers were given under one guideline release; ``digest`` is ``unknown`` where no stamp says which."""

    digest: str
    number: int | None
    counted: int = Field(ge=0)
    losing: int = Field(ge=0)


class RepeatEntry(_Strict):
    """Somebody who answered a task more than once in the round that counts.

    :param kept: SHA-256 of the stored answer that is their vote; None where repeats are refused.
    :param lost: those of their other answers, the earliest first.
    """

    task_id: str = Sha256
    person: str
    round: int = Field(ge=1)
    kept: str | None
    lost: list[str] = Field(min_length=1)


class RepeatList(_Strict):
    """Every repeat: in ``items``, or in ``file`` when there are more than :data:`INLINE`.

    :param count: how often somebody answered a task more than once.
    :param answers: how many answers lost by that.
    """

    count: int = Field(ge=0)
    answers: int = Field(ge=0)
    items: list[RepeatEntry] | None = None
    file: FileRef | None = None


class RuleRef(_Strict):
    """By which rule the answers were resolved.

    :param repeated: what counted of one person's several answers in a round; None in manifests of format 1, where it
        was the latest, by time and then by link id.
    """

    name: Literal["single", "majority", "unanimous"]
    answers_per_task: int = Field(ge=1)
    repeated: Literal["latest", "first", "refuse"] | None = None
    text: str


class ClosedBy(_Strict):
    """Who closed the batch before it was finished, and why."""

    person: str
    reason: str = Field(min_length=1)


class Counts(_Strict):
    """``tasks`` = ``rows`` + ``ignored`` + ``disputed`` + ``missing``; ``answers`` = ``counted`` + ``losing``.

    :param unanimous: rows on which every person who answered gave the value that counts.
    :param split: rows that carry the value although somebody answered otherwise.
    :param decided: rows whose value a review or a final decision gave.
    """

    tasks: int = Field(ge=0)
    rows: int = Field(ge=0)
    ignored: int = Field(ge=0)
    disputed: int = Field(ge=0)
    missing: int = Field(ge=0)
    answers: int = Field(ge=0)
    counted: int = Field(ge=0)
    losing: int = Field(ge=0)
    unanimous: int = Field(ge=0)
    split: int = Field(ge=0)
    decided: int = Field(ge=0)


class Base(_Strict):
    """The approved version that a version rests on, and what became of its rows.

    :param digest: of the version whose rows were taken over, byte for byte, but for tasks of this version's batch.
    :param kept: rows taken over; ``added`` are rows of tasks that the base has no row of, ``changed`` of tasks that it
        has one of, and ``removed`` its rows that this version has none of.
    :param hands: everybody who answered or decided a task of the batch: whom four eyes cover. Rows that were taken over
        keep their own approval.
    """

    digest: str = Sha256
    kept: int = Field(ge=0)
    added: int = Field(ge=0)
    changed: int = Field(ge=0)
    removed: int = Field(ge=0)
    hands: list[str]

    @property
    def told(self) -> str:
        """Return the difference to the base in words."""
        return f"{self.added} added, {self.changed} changed, {self.removed} removed, {self.kept} as they were"


class Manifest(_Strict):
    """The manifest. Its canonical JSON is the file ``manifest.json``, and that file's SHA-256 names the version.

    It holds no time of its making and no number, so freezing the same answers again gives the same digest. Counts,
    lists and shares are of the whole dataset, what was taken over from the base among it.

    :param batch: of the tasks whose answers were resolved for this version.
    :param base: what the version rests on; None for the first of a dataset, and in formats 1 and 2.
    :param labels: rows per label (spans or options each count); labels of the project that nobody gave stand at 0.
    :param answers: rows per ``accept`` and ``reject``, and accepted ones with no label (``none``).
    :param gate: reference to the data-quality check that the answers passed.
    :param repeats: see :class:`RepeatList`; None in manifests of format 1, which had neither it nor ``rule.repeated``.
    """

    format: Literal[1, 2, 3] = 2
    project: str
    interface: str
    batch: str = Sha256
    base: Base | None = None
    rule: RuleRef
    counts: Counts
    labels: dict[str, int]
    answers: dict[str, int]
    losing_reasons: dict[str, int]
    persons: list[PersonShare]
    adjudicators: list[str]
    guidelines: list[GuidelineShare]
    first_answer_at: str | None
    last_answer_at: str | None
    rows: FileRef
    losing: FileRef
    ignored: TaskList
    disputed: TaskList
    missing: TaskList
    repeats: RepeatList | None = None
    policy: dict[str, Any]
    policy_digest: str = Sha256
    register_digest: str = Sha256
    closed_by: ClosedBy | None
    gate: dict[str, Any] | None

    def content(self) -> bytes:
        """Return the bytes of ``manifest.json``."""
        value = self.model_dump(mode="json")
        if self.base is None:
            del value["base"]
        if self.format == 1:
            del value["repeats"], value["rule"]["repeated"]
        return canonical_json(value)

    def files(self) -> list[FileRef]:
        """Return the version's files that the digest covers, all but the manifest itself."""
        lists = (self.ignored, self.disputed, self.missing, self.repeats)
        return [self.rows, self.losing, *(one.file for one in lists if one is not None and one.file is not None)]

    @model_validator(mode="after")
    def _has_the_fields_of_its_format(self) -> Manifest:
        for name, found in (("repeats", self.repeats), ("rule.repeated", self.rule.repeated)):
            if (found is None) != (self.format == 1):
                raise ValueError(f"{name}: format {self.format} {'has no' if self.format == 1 else 'needs'} such field")
        if (self.base is None) != (self.format < 3):
            raise ValueError(f"base: format {self.format} {'needs' if self.base is None else 'has no'} such field")
        return self

    @property
    def hands(self) -> frozenset[str]:
        """Return everybody who had a hand in what is new in the version: none of them may approve it.

        Entries are ids of the register, or ``unknown:…``.
        """
        if self.base is not None:
            return frozenset(self.base.hands)
        return frozenset({share.id for share in self.persons} | set(self.adjudicators))

    @property
    def digest(self) -> str:
        """Return the version's digest."""
        return sha256_hex(self.content())


def version_path(store: Store, project: Project | str, digest: str) -> StorePath:
    """Return the folder of a version."""
    return store.at("versions", _name(project), digest)


def read_manifest(store: Store, project: Project | str, digest: str) -> Manifest:
    """Return a version's manifest, which stays when the version's content is withdrawn.

    :raises InvalidInput: when it is not there, its bytes do not match the digest, or a field is not what it must be.
    """
    place = version_path(store, project, digest) / "manifest.json"
    if not place.exists():
        raise InvalidInput(f"{place}: there is no such version of {_name(project)}")
    content = bytes(place.read_bytes())
    found = sha256_hex(content)
    if found != digest:
        raise InvalidInput(f"{place}: its SHA-256 is {found}, so it is not version {digest} any more")
    manifest = parse_manifest(content, str(place))
    if manifest.project != _name(project):
        raise InvalidInput(f"{place}: project: found {manifest.project!r}; allowed: {_name(project)!r}")
    return manifest


def find_version(store: Store, project: str, prefix: str) -> str:
    """Return the digest of the one version in the store that begins like this; a whole digest is taken as it is.

    :raises InvalidInput: when none or several do, or the beginning is too short to name one.
    """
    if len(prefix) == _DIGEST_LENGTH:
        return prefix
    folder = store.at("versions", project)
    found = [place.name for place in folder.iterdir() if place.name.startswith(prefix)] if folder.exists() else []
    if len(prefix) < _LEAST_PREFIX or len(found) != 1:
        raise InvalidInput(
            f"{prefix!r} names {len(found)} versions of {project} in {store.root}; "
            f"allowed: a digest, or {_LEAST_PREFIX} or more characters that only one begins with"
        )
    return str(found[0])


def since(store: Store, project: str, digest: str, batch: str | None) -> str:
    """Return the digest of the version since which a row of a version is as it is.

    :param batch: what the row names; None in a row of a version that rests on none.
    :raises InvalidInput: as :func:`read_manifest`.
    """
    manifest = read_manifest(store, project, digest)
    while manifest.base is not None and manifest.batch != batch:
        digest = manifest.base.digest
        manifest = read_manifest(store, project, digest)
    return digest


def _name(project: Project | str) -> str:
    return project if isinstance(project, str) else project.name


def parse_manifest(content: bytes, source: str) -> Manifest:
    """Return a manifest from its bytes.

    :raises InvalidInput: naming the file, the field, what was found and what is allowed.
    """
    value = parse_json(content, source)
    try:
        return Manifest.model_validate(value)
    except ValidationError as error:
        problems = [
            f"{source}: {'.'.join(map(str, problem['loc'])) or 'file'}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_context=False)
        ]
        raise InvalidInput("\n".join(problems)) from error
