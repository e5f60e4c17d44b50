"""Whether everything that the ledger names is there, and is what it was: objects, versions, releases, publications.

The ledger's own hashes are checked by :func:`include.governance.verify.verify_with`. What it names lies in the store,
where it can be changed or removed without touching the ledger; here each is opened and held against its digest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from include.base.canonical import SHORT, sha256_hex
from include.base.errors import InvalidInput
from include.base.store import Store, StorePath, measure, read_json
from include.datasets import freeze as freezing
from include.datasets.diff import changes
from include.datasets.withdrawals import withdrawal
from include.governance.erasure import evidence_of
from include.governance.records import Event
from include.guidelines import release as guidelines
from include.passport.facts import RECALLED
from include.passport.verify import verify as verify_release
from include.questions.shared import Records, project_names
from include.releases import write as releases
from include.releases.standing import standing_releases
from include.run.pointers import misplaced

__all__ = ["Unsound", "unsound"]

Kind = Literal["object", "gate", "version", "release", "publication", "pointer"]


@dataclass(frozen=True)
class Unsound:
    """Something that is not what the ledger says, in one sentence."""

    kind: Kind
    sentence: str


def unsound(records: Records) -> Iterator[Unsound]:
    """Yield everything in the store that is gone, or is not what the ledger says; nothing may be found."""
    for check in (_objects, _gates, _versions, _releases, _publications, _pointers):
        yield from check(records)


# ---- objects -------------------------------------------------------------------------------------------------------

_NAMED: Mapping[str, Callable[[Event], Iterator[str | None]]] = {
    "batch.assigned": lambda event: iter([event.digest_after]),
    "version.ready": lambda event: iter([event.body["batch"]]),
    "register.in_force": lambda event: iter([event.body.get("object")]),
    "policy.in_force": lambda event: iter([event.body.get("object")]),
    "policy.proposed": lambda event: iter([event.digest_after]),
    "approval.requested": lambda event: iter([event.body.get(name) for name in ("policy", "mapping", "statements")]),
    "release.requested": lambda event: iter([event.body.get(name) for name in ("policy", "mapping", "statements")]),
    "retention.applied": lambda event: iter([event.body["listing"]]),
}
"""Events that name objects of the store, and which."""


def _objects(records: Records) -> Iterator[Unsound]:
    store, seen = records.store, set[str]()
    for event in records.ledger.events(actions=tuple(_NAMED)):
        for digest in filter(None, _NAMED[event.action](event)):
            if digest not in seen:
                seen.add(digest)
                yield from _object(records, digest, f"which {event.action} (event {event.seq}) names")
    for decision, digest, became in evidence_of(records.ledger, store):
        if became == "kept":
            yield from _object(records, digest, f"the raw reply that proves decision {decision[:SHORT]}")
        elif became == "lost":
            why = (
                f"the raw reply that proves decision {decision[:SHORT]}, is gone, and no event says that it was erased"
            )
            yield Unsound("object", f"Object {digest[:SHORT]}, {why}.")


def _object(records: Records, digest: str, what: str) -> Iterator[Unsound]:
    place = records.store.object_path(digest)
    if not place.exists():
        yield Unsound("object", f"Object {digest[:SHORT]}, {what}, is gone.")
    elif sha256_hex(bytes(place.read_bytes())) != digest:
        yield Unsound("object", f"Object {digest[:SHORT]}, {what}, was changed.")


def _gates(records: Records) -> Iterator[Unsound]:
    for event in records.ledger.events(actions=["gate.passed"]):
        place = records.store.at(*event.body["report"].split("/"))
        about = f"The report of gate {event.body['suite']} (event {event.seq})"
        if not place.exists():
            yield Unsound("gate", f"{about}, {event.body['report']}, is gone.")
        elif measure(place).sha256 != event.body["report_digest"]:
            yield Unsound("gate", f"{about}, {event.body['report']}, was changed.")


# ---- versions and releases -----------------------------------------------------------------------------------------


def _versions(records: Records) -> Iterator[Unsound]:
    for project in project_names(records):
        for version in records.ledger.versions(project):
            found = freezing.check_version(records.store, project, version.digest)
            name = f"{version.name.capitalize()} of {project}"
            for problem in found.problems:
                yield Unsound("version", f"{name}: {problem}.")
            if found.state == "whole":
                yield from _sources(records, project, version.digest, name)
                yield from _rests(records, project, version.digest, name)


def _sources(records: Records, project: str, digest: str, name: str) -> Iterator[Unsound]:
    ready = next(iter(records.ledger.events(subject=f"version:{digest}", actions=["version.ready"])), None)
    place = freezing.version_path(records.store, project, digest) / "sources.jsonl"
    if ready is not None and measure(place).sha256 != ready.body["sources_digest"]:
        yield Unsound("version", f"{name}: {place.name} is not the list of rows that the ledger recorded.")


def _rests(records: Records, project: str, digest: str, name: str) -> Iterator[Unsound]:
    """Hold what a version took over against the version that it rests on, where its content is still there."""
    store, base = records.store, freezing.read_manifest(records.store, project, digest).base
    ready = records.ledger.events(subject=f"version:{digest}", actions=["version.ready"])
    if any(event.body.get("base") != (base.digest if base else None) for event in ready):
        yield Unsound("version", f"{name}: it does not rest on the version that the ledger recorded.")
    if base is None or withdrawal(store, project, base.digest) is not None:
        return
    own = set(store.get_value(freezing.read_manifest(store, project, digest).batch))
    try:
        strays = sum(one.task_id not in own for one in changes(store, project, base.digest, digest))
    except InvalidInput as error:
        yield Unsound("version", f"{name}: what it rests on cannot be read: {error}.")
        return
    if strays:
        yield Unsound(
            "version", f"{name}: {strays} row(s) of other tasks than its batch's differ from what it rests on."
        )


def _releases(records: Records) -> Iterator[Unsound]:
    recalled = {event.body["path"] for event in records.ledger.events(actions=["release.recalled"])}
    for event in records.ledger.events(actions=["release.done"]):
        path = event.body["path"]
        folder = records.store.at(*path.split("/"))
        try:
            problems = verify_release(folder).problems
        except InvalidInput as error:
            problems = (str(error),)
        for problem in problems:
            if not (path in recalled and problem.startswith(RECALLED)):
                yield Unsound("release", f"{path}: {problem}")


# ---- publications and pointers -------------------------------------------------------------------------------------


def _publications(records: Records) -> Iterator[Unsound]:
    for event in records.ledger.events(actions=["guideline.published"]):
        path = event.body["path"]
        try:
            problems = guidelines.verify(records.store, event.project, path.rpartition("/")[2])
            record = read_json(records.store.at(*path.split("/"), "release.json"))
            if record["digest"] != event.digest_after:
                problems.append(
                    f"it is release {record['digest'][:SHORT]}, and {(event.digest_after or '')[:SHORT]} was"
                )
        except InvalidInput as error:
            problems = [str(error)]
        for problem in problems:
            yield Unsound("publication", f"{path}: {problem}.")


def _pointers(records: Records) -> Iterator[Unsound]:
    store, ledger = records.store, records.ledger
    published = {event.project: event for event in ledger.events(actions=["guideline.published"])}
    for project in project_names(records):
        newest = next(reversed(standing_releases(ledger, project).values()), None)
        yield from _pointer(store, releases.pointer_path(store, project), f"releases/{project}", newest)
    for project, event in published.items():
        place = guidelines.pointer_path(store, project)
        yield from _pointer(store, place, f"publications/{project}/guidelines", event)


def _pointer(store: Store, place: StorePath, folder: str, told: Event | None) -> Iterator[Unsound]:
    why = misplaced(store, place, told)
    if why:
        yield Unsound("pointer", f"{folder}/{why}.")
