"""Handing an approved version over to training: the data files, and the passport that travels with them.

``releases/<project>/v<N>-<digest12>/`` holds

* the data in the project's formats: ``data.jsonl``, which ``prodigy db-in`` takes as it is, and ``data.parquet``, or
  ``train.…``, ``dev.…``, ``test.…`` and ``splits.jsonl`` where it is split; a folder for each other format;
* ``manifest.json`` and ``approvals.json``;
* the passport: ``README.md``, ``croissant.json``, ``openlineage.json``, and ``attestation.json`` with
  ``signing-key.pem``, or ``statement.json`` where the installation has no key;
* ``checksums.json``, written last.

Then the pointer ``releases/<project>/current.json`` is moved. A folder with ``checksums.json`` is whole and is never
written again; one without it was interrupted and is completed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from include.annotation.values import utc_text
from include.base.canonical import SHORT, canonical_json, digest_of, sha256_hex
from include.base.errors import InvalidInput, Refused
from include.base.store import Store, StorePath, atomic_write, measure, read_json, refuse_link, remove_abandoned
from include.datasets.freeze import verify_version
from include.datasets.manifest import Manifest
from include.passport.documents import bind, describe
from include.passport.facts import CHECKSUMS, RECALLED, Context, Facts
from include.projects.model import Project
from include.releases.training import write_training_files

if TYPE_CHECKING:
    from include.base.signing import Signer

__all__ = ["Release", "mark_recalled", "pointer_path", "release_path", "write_release"]

PASSPORT = 1
"""Version of the passport, in ``checksums.json``; releases made before there was one do not have it."""


@dataclass(frozen=True)
class Release:
    """A release in the store.

    :param created: whether this call wrote any file of it.
    :param files: size in bytes by file name.
    :param moved: whether this call moved the project's pointer to it.
    """

    path: StorePath
    created: bool
    files: Mapping[str, int]
    moved: bool = False


def write_release(
    store: Store,
    project: Project,
    digest: str,
    number: int,
    manifest: Manifest,
    approvals: Sequence[Mapping[str, Any]],
    context: Context | None = None,
    signer: Signer | None = None,
    *,
    edition: int = 1,
) -> Release:
    """Write the release of one version, and move the project's pointer to it last of all.

    Writing the same release again creates nothing; one that was interrupted is completed.

    :param number: the version's number in the project, from 1.
    :param approvals: the decisions it rests on, as JSON objects (role, person, decided_at, meaning, grade, …).
    :param context: what the ledger and the store know beside these; what is not there is left out of the passport.
    :param signer: signs the statement; without one it is written unsigned.
    :param edition: which release of this version it is, from 1: one that was recalled may be followed by another.
    :raises Refused: when the version in the store is not what its digest says.
    :raises InvalidInput: when files of the release hold other bytes.
    """
    if manifest.digest != digest:
        raise Refused(f"the manifest given is that of version {manifest.digest}, not of {digest}")
    problems = verify_version(store, project, digest)
    if problems:
        raise Refused(f"version {digest[:SHORT]} of {project.name} is not what was approved: " + "; ".join(problems))
    if number < 1:
        raise InvalidInput(f"version {digest[:SHORT]}: number: found {number}; allowed: 1 or more")
    folder = release_path(store, project, digest, number, edition)
    listed = sorted((_told(approval) for approval in approvals), key=digest_of)
    created = not (folder / CHECKSUMS).exists()
    if created:
        made = write_training_files(store, project, digest, number, folder)
        facts = Facts(
            project=project,
            digest=digest,
            number=number,
            manifest=manifest,
            approvals=listed,
            files=made.files,
            left_out=made.left_out,
            context=context or Context(),
            key_id=signer.public.key_id if signer else None,
            edition=edition,
        )
        created = _write_passport(folder, facts, signer)
    if not created:
        _check_whole(folder, manifest, listed)
    sums = read_json(folder / CHECKSUMS)["files"]
    moved = store.move_pointer(
        pointer_path(store, project.name),
        {"release": folder.name, "number": number, "digest": digest},
    )
    return Release(folder, created, {name: entry["bytes"] for name, entry in sums.items()}, moved)


def mark_recalled(
    store: Store, project: Project, folder: str, why: Mapping[str, Any], *, instead: str | None = None
) -> bool:
    """Mark a release as recalled, and point to another one, or to none, where the pointer was at it.

    :param why: who recalled it, when and why, as JSON.
    :param instead: folder of the release that stands now.
    :return: whether anything was written.
    """
    marked = store.write_new(store.at("releases", project.name, folder, RECALLED), canonical_json(why) + b"\n")
    place = pointer_path(store, project.name)
    if (store.pointer(place) or {}).get("release") != folder:
        return marked
    other = None if instead is None else _released(store, project, instead)
    return store.move_pointer(place, other or {"release": None, "number": None, "digest": None}) or marked


def pointer_path(store: Store, project: str) -> StorePath:
    """Return the pointer to a project's release that training may use."""
    return store.at("releases", project, "current.json")


def _released(store: Store, project: Project, folder: str) -> dict[str, Any]:
    sums = read_json(store.at("releases", project.name, folder, CHECKSUMS))
    return {"release": folder, "number": sums["number"], "digest": sums["version"]}


def release_path(store: Store, project: Project | str, digest: str, number: int, edition: int = 1) -> StorePath:
    """Return the folder of a release; ``edition`` counts how often the version was released."""
    name = project if isinstance(project, str) else project.name
    again = f".{edition}" if edition > 1 else ""
    return store.at("releases", name, f"v{number}-{digest[:SHORT]}{again}")


def _write_passport(folder: StorePath, facts: Facts, signer: Signer | None) -> bool:
    """Write everything but the data, ``checksums.json`` last.

    Nothing can rest on an unfinished release, so what an interrupted try left is replaced or removed: the facts that
    are told beside the data may have become more since.

    :return: False when another try finished the release meanwhile: then nothing of it is touched any more.
    """
    texts = {
        "manifest.json": facts.manifest.content(),
        "approvals.json": canonical_json(
            {
                "version": {"project": facts.project.name, "number": facts.number, "digest": facts.digest},
                "policy_digest": facts.manifest.policy_digest,
                "approvals": list(facts.approvals),
            }
        ),
        **describe(facts),
    }
    sums = {one.name: {"sha256": one.sha256, "bytes": one.bytes} for one in facts.files}
    sums |= {name: _entry(content) for name, content in texts.items()}
    bound = bind(facts, {name: str(entry["sha256"]) for name, entry in sums.items()}, signer)
    sums |= {name: _entry(content) for name, content in bound.items()}
    for name, content in {**texts, **bound}.items():
        if (folder / CHECKSUMS).exists():
            return False
        atomic_write(folder / name, content)
    if (folder / CHECKSUMS).exists():
        return False
    _remove_others(folder, "", sums)
    atomic_write(
        folder / CHECKSUMS,
        canonical_json(
            {
                "version": facts.digest,
                "number": facts.number,
                "edition": facts.edition,
                "passport": PASSPORT,
                "files": sums,
            }
        )
        + b"\n",
    )
    return True


def _remove_others(folder: StorePath, below: str, known: Mapping[str, Any]) -> None:
    """Remove the files that an interrupted try left and that are no part of the release."""
    refuse_link(folder)
    remove_abandoned(folder)
    for place in folder.iterdir():
        name = f"{below}{place.name}"
        if place.is_dir():
            _remove_others(place, f"{name}/", known)
        elif not place.name.startswith(".") and name not in known:
            place.unlink()


def _check_whole(folder: StorePath, manifest: Manifest, approvals: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a finished release whose files changed, or that was made of other decisions."""
    sums = read_json(folder / CHECKSUMS)
    listed = sums.get("files") if isinstance(sums, dict) else None
    if not isinstance(listed, dict) or not {"manifest.json", "approvals.json"} <= set(listed):
        raise InvalidInput(f"{folder / CHECKSUMS}: files: allowed: one entry for each file of the release")
    for name, entry in listed.items():
        place = folder.joinpath(*name.split("/"))
        if not place.exists():
            raise InvalidInput(f"{place}: is missing from a finished release")
        found = measure(place)
        if {"sha256": found.sha256, "bytes": found.size} != entry:
            raise InvalidInput(f"{place}: its bytes differ from checksums.json; a release is never written again")
    # The rest is told about these two: it may be told in other words, or with more facts, by now.
    if listed["manifest.json"]["sha256"] != manifest.digest:
        raise InvalidInput(f"{folder / 'manifest.json'}: is another version's; a release is never written again")
    found = read_json(folder / "approvals.json")["approvals"]
    # A recovered ledger has read the same decisions anew at their source: it has them since another time.
    names = set(found[0]) - {"account", "recorded_at"} if found else set()
    before, now = ([{name: one.get(name) for name in names} for one in each] for each in (found, approvals))
    if sorted(map(digest_of, before)) != sorted(map(digest_of, now)):
        raise InvalidInput(
            f"{folder / 'approvals.json'}: already holds other decisions; a release is never written again"
        )


def _entry(content: bytes) -> dict[str, Any]:
    return {"sha256": sha256_hex(content), "bytes": len(content)}


def _told(approval: Mapping[str, Any]) -> dict[str, Any]:
    """Return a decision as a release tells of it: the person's id, never the account they use in a system."""
    return {str(name): _jsonable(value) for name, value in approval.items() if name != "account"}


def _jsonable(value: Any) -> Any:
    if isinstance(value, datetime):
        return utc_text(value)
    if isinstance(value, Mapping):
        return {str(key): _jsonable(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(inner) for inner in value]
    return value
