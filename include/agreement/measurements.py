"""What is measured of a version once and kept beside it: agreement, accounting, and what changed since the one before.

The files lie in the version's folder, outside its digest. Each is written once, under a name that holds the settings it
was made with, and carries its own digest: a quiet night reads a few kilobytes instead of a million rows, and says the
same as the night before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from include.agreement.accounting import Expected, Limits
from include.agreement.given import from_version, gather
from include.agreement.summary import Quality
from include.agreement.units import AnswerMapping, Repeats
from include.base.canonical import SHORT, canonical_json, canonical_text, digest_of
from include.base.errors import InvalidInput
from include.base.store import Store, StorePath, atomic_write, measure, read_json
from include.datasets import freeze as freezing
from include.datasets.diff import LabelShift, ManifestChange, VersionDiff, diff
from include.datasets.manifest import FileRef, Manifest
from include.datasets.withdrawals import withdrawal
from include.projects.model import Interface, Project

__all__ = ["changes_since", "quality_of"]

FORMAT = 2
"""Raised whenever a number would come out differently, so that it is measured anew."""


def quality_of(store: Store, project: Project, digest: str) -> Quality | None:
    """Return the agreement and the account of a version: measured the first time, read afterwards.

    :return: None where the version's content was removed and it was never measured.
    :raises InvalidInput: when a file of the version is not what its manifest says, or the kept summary was changed.
    """
    from include.agreement import measure as measuring

    manifest = freezing.read_manifest(store, project, digest)
    scheme = measuring.Scheme(
        Interface(manifest.interface), tuple(sorted(manifest.labels)), project.annotation.multiple
    )
    settings = {
        "coefficients": list(measuring.COEFFICIENTS),
        "confidence": measuring.CONFIDENCE,
        "resamples": measuring.RESAMPLES,
        "listed": measuring.LISTED,
        "mapping": AnswerMapping().canonical(),
        "repeats": str(Repeats.LATEST),
        "limits": asdict(Limits()),
        "multiple": scheme.multiple,
        "version": digest,
    }
    place = freezing.version_path(store, project, digest) / _name("agreement", settings)
    kept = _kept(place, settings)
    if kept is not None:
        return Quality.from_json(kept)
    if withdrawal(store, project, digest) is not None:
        return None
    _require_whole(store, project, digest, manifest)
    gathered = gather(
        from_version(freezing.rows(store, project, digest), freezing.losing(store, project, digest)),
        spans=scheme.spans,
        ordered=True,
    )
    expected = Expected(manifest.rule.answers_per_task, tasks=manifest.counts.tasks)
    found = measuring.measure(gathered, scheme, digest, expected)
    _keep(place, settings, found.as_json())
    return found


def changes_since(store: Store, project: Project, old: str, new: str) -> VersionDiff | None:
    """Return what differs between two versions, without samples: compared the first time, read afterwards.

    :return: None where the content of one was removed and they were never compared.
    :raises InvalidInput: as :func:`quality_of`.
    """
    settings = {"old": old, "new": new}
    place = freezing.version_path(store, project, new) / _name("changes", settings)
    kept = _kept(place, settings)
    if kept is not None:
        return _diff_of(kept)
    if any(withdrawal(store, project, digest) is not None for digest in (old, new)):
        return None
    found = diff(store, project, old, new, samples=0).as_json()
    _keep(place, settings, found)
    return _diff_of(found)


def _name(what: str, settings: Mapping[str, Any]) -> str:
    return f"{what}-{digest_of([FORMAT, dict(settings)])[:SHORT]}.json"


def _kept(place: StorePath, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what was kept, None where nothing was.

    :raises InvalidInput: when it is not what was written.
    """
    if not place.exists():
        return None
    value = read_json(place)
    content: dict[str, Any] = {}
    if isinstance(value, dict):
        content = {name: value.get(name) for name in ("format", "settings", "found")}
    if not content or value.get("sha256") != digest_of(content) or content["settings"] != dict(settings):
        raise InvalidInput(
            f"{place}: is not as it was written: find out who changed it, then remove it, and it is measured again"
        )
    found: dict[str, Any] = content["found"]
    return found


def _keep(place: StorePath, settings: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    content = {"format": FORMAT, "settings": dict(settings), "found": dict(found)}
    atomic_write(place, canonical_json({**content, "sha256": digest_of(content)}) + b"\n")


def _require_whole(store: Store, project: Project, digest: str, manifest: Manifest) -> None:
    """Hold a version's files against its manifest."""
    folder = freezing.version_path(store, project, digest)
    for file in (manifest.rows, manifest.losing):
        _check(folder, file)


def _check(folder: StorePath, file: FileRef) -> None:
    if not (folder / file.name).exists():
        raise InvalidInput(f"{folder / file.name}: is not there")
    found = measure(folder / file.name).sha256
    if found != file.sha256:
        raise InvalidInput(f"{folder / file.name}: its SHA-256 is {found}, the manifest says {file.sha256}")


def _diff_of(value: Mapping[str, Any]) -> VersionDiff:
    return VersionDiff(
        **{name: value[name] for name in ("project", "old", "new", "old_rows", "new_rows", "unchanged")},
        **{name: value[name] for name in ("added", "removed", "relabelled", "evidence")},
        transitions={(one["from"], one["to"]): one["count"] for one in value["transitions"]},
        labels={label: LabelShift(**shift) for label, shift in value["labels"].items()},
        persons=_largest_first(value["relabelled_by"]),
        bases=_largest_first(value["relabelled_basis"]),
        came_from=_largest_first(value["came_from"]),
        went_to=_largest_first(value["went_to"]),
        manifest=tuple(ManifestChange(**one) for one in value["manifest"]),
        samples=(),
    )


def _largest_first(counts: Mapping[str, int]) -> dict[str, int]:
    """Return counts in the order that ``diff`` gives them; JSON's keys are sorted."""
    return dict(sorted(counts.items(), key=lambda entry: (-entry[1], canonical_text(entry[0]))))
