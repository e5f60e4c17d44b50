"""Removing a version's content while the proof that it existed stays.

The manifest stays byte for byte, so the digest that approvals, releases and the ledger name still leads to what the
version was: how many records, whose, by which rule, under which policy. Beside it stands ``withdrawn.json``: who
removed the content, when, why, and the SHA-256 of every file that was removed. It is written before the first file
goes, so a removal that was interrupted is told from damage, and is completed by withdrawing again.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from include.base.canonical import SHORT, canonical_json
from include.base.errors import InvalidInput, Refused
from include.base.store import Store, atomic_write, measure, read_json
from include.datasets.manifest import read_manifest, version_path
from include.projects.model import Project

__all__ = ["RemovedFile", "VersionWithdrawn", "Withdrawal", "refuse_withdrawn", "withdraw", "withdrawal"]

TOMBSTONE = "withdrawn.json"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RemovedFile(_Strict):
    """A file that was removed: the size and SHA-256 of what it held then."""

    name: str = Field(pattern=r"^[a-z]+\.jsonl$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0)


class Withdrawal(_Strict):
    """The removal of a version's content.

    :param person: id of the person who took the decision.
    :param at: when, ISO 8601, UTC.
    """

    format: Literal[1] = 1
    project: str
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    person: str = Field(min_length=1)
    reason: str = Field(min_length=1)
    at: str
    removed: tuple[RemovedFile, ...]

    @property
    def sentence(self) -> str:
        """Return what happened, in a sentence."""
        return (
            f"version {self.digest[:SHORT]} of {self.project} was withdrawn by {self.person} at {self.at}: "
            f"{self.reason} ({len(self.removed)} files were removed; its manifest stays)"
        )


class VersionWithdrawn(Refused):
    """The content of a version was asked for, and it was removed on purpose."""

    def __init__(self, withdrawal: Withdrawal) -> None:
        super().__init__(withdrawal.sentence)
        self.withdrawal = withdrawal


def withdraw(
    store: Store, project: Project | str, digest: str, *, person: str, reason: str, at: datetime
) -> Withdrawal:
    """Remove a version's content and leave its manifest and a record of the removal.

    Withdrawing again completes a removal that was interrupted and changes nothing else: the first record stands.

    :param person: id of the person who takes the decision; whether they may is the caller's to check.
    :param at: when, with its zone.
    :raises InvalidInput: when there is no such version, its manifest is damaged, no reason is given, or the time has
        no zone.
    """
    if not reason.strip() or not person.strip():
        raise InvalidInput(f"version {digest[:SHORT]}: a withdrawal needs a person and a reason")
    if at.tzinfo is None:
        raise InvalidInput(f"version {digest[:SHORT]}: {at.isoformat()}: the time of a withdrawal needs a zone")
    manifest = read_manifest(store, project, digest)
    folder = version_path(store, project, digest)
    record = withdrawal(store, project, digest)
    if record is None:
        names = sorted({*(file.name for file in manifest.files()), "sources.jsonl"})
        record = Withdrawal(
            project=manifest.project,
            digest=digest,
            person=person,
            reason=reason.strip(),
            at=at.astimezone(UTC).isoformat(),
            removed=tuple(
                RemovedFile(name=name, sha256=found.sha256, size=found.size)
                for name in names
                if (folder / name).exists()
                for found in (measure(folder / name),)
            ),
        )
        atomic_write(folder / TOMBSTONE, canonical_json(record.model_dump(mode="json")))
    for file in record.removed:
        place = folder / file.name
        if place.exists():
            place.unlink()
    return record


def withdrawal(store: Store, project: Project | str, digest: str) -> Withdrawal | None:
    """Return the record of a version's removal, None where it was not removed.

    :raises InvalidInput: when the record is malformed, or another version's.
    """
    place = version_path(store, project, digest) / TOMBSTONE
    if not place.exists():
        return None
    try:
        found = Withdrawal.model_validate(read_json(place))
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        raise InvalidInput(
            "\n".join(f"{place}: {'.'.join(map(str, one['loc']))}: {one['msg']}" for one in problems)
        ) from error
    name = project if isinstance(project, str) else project.name
    if (found.project, found.digest) != (name, digest):
        raise InvalidInput(f"{place}: is about version {found.digest[:SHORT]} of {found.project}")
    return found


def refuse_withdrawn(store: Store, project: Project | str, digest: str) -> None:
    """Raise where a version's content was removed.

    :raises VersionWithdrawn: with the record of it.
    """
    found = withdrawal(store, project, digest)
    if found is not None:
        raise VersionWithdrawn(found)
