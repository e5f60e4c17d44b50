"""After events were lost for good: what the immutable files of the store show, and the ledger does not hold any more.

The order of things after a restore from an older backup: writing DAGs stop; ``recover`` records the loss and begins a
new epoch; then this module holds the store against the ledger and puts back what files prove by themselves, each
marked ``readopted`` in its event's body:

- **versions** that are whole, under the number that their release shows, and who closed their batch;
- **guideline releases** that are whole, in their order, so that the one in force at a time is known again;
- **withdrawals** of a version, from the evidence that was kept of them; and **recalled releases**, from their mark.

What people decided in OpenText is *not* taken from files: the DAGs find the processes by their business keys and
read every decision again at its source, and a release is checked anew before it stands on the ledger again. Until then
it is listed here as open. What left no trace outside (a resubmission, who asked for a version) is listed as lost.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from include.base.canonical import SHORT, canonical_json, digest_of
from include.base.errors import InvalidInput
from include.base.store import Store, StorePath, measure, read_json
from include.datasets import freeze as freezing
from include.decisions.state import BASE
from include.governance.ledger import Ledger, Transaction
from include.governance.records import Decision, NewEvent, VersionRecord, read_time, time_text
from include.guidelines import release as guidelines

__all__ = ["Readopted", "readopt", "withdrawal_evidence"]

RUN = "recovery"
WITHDRAWAL = "labelops.withdrawal"
"""What evidence of a withdrawal says that it is, in its field ``kind``."""

EVIDENCE_LIMIT = 16 * 1024
"""Bytes that evidence of a withdrawal takes at most: larger objects are not opened."""

_RELEASE = re.compile(r"v([1-9][0-9]*)-([0-9a-f]{12})(?:\.([1-9][0-9]*))?")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(slots=True)
class Readopted:
    """What was found in the store and not on the ledger.

    :param recorded: what is on the ledger again, one sentence each.
    :param open: what the DAGs have to find again at its source, or a person has to look at.
    :param damaged: what cannot be taken, because its files are not what they say they are.
    """

    recorded: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Release:
    """A whole release folder."""

    folder: str
    project: str
    digest: str
    number: int
    edition: int
    files: Mapping[str, int]
    recalled: Mapping[str, Any] | None

    @property
    def subject(self) -> str:
        return f"version:{self.digest}"


def withdrawal_evidence(store: Store, decision: Decision, reason: str) -> str:
    """Keep what a withdrawal was, outside the ledger: it is made in Airflow, which shows it to nobody later.

    :return: the digest of the object that holds it.
    """
    moment = None if decision.decided_at is None else time_text(decision.decided_at)
    fields = {name: getattr(decision, name) for name in Decision.__slots__}
    return store.put_object(
        canonical_json({"kind": WITHDRAWAL, "decision": {**fields, "decided_at": moment}, "reason": reason})
    )


def readopt(ledger: Ledger, store: Store, *, actor: str) -> Readopted:
    """Hold the store against the ledger, and record again what immutable files prove.

    Running it again records nothing twice; on a ledger that lost nothing it does nothing.

    :param actor: the person who takes responsibility for the recovery.
    """
    found = Readopted()
    releases = sorted(_releases(store, found), key=lambda one: (one.project, one.number, one.edition))
    _readopt_versions(ledger, store, actor, releases, found)
    _readopt_guidelines(ledger, store, actor, found)
    _readopt_withdrawals(ledger, store, actor, found)
    _readopt_recalls(ledger, actor, releases, found)
    _list_open(ledger, releases, found)
    return found


# ---- versions ------------------------------------------------------------------------------------------------------


def _readopt_versions(ledger: Ledger, store: Store, actor: str, releases: list[_Release], found: Readopted) -> None:
    numbers = {one.digest: one.number for one in releases}
    for project in _names(store, "versions"):
        missing = [digest for digest in _names(store, "versions", project) if ledger.version(digest) is None]
        # Those whose number is known first, so that no other version takes it.
        for digest in sorted(missing, key=lambda digest: (numbers.get(digest) is None, numbers.get(digest), digest)):
            _readopt_version(ledger, store, actor, project, digest, numbers.get(digest), found)


def _readopt_version(
    ledger: Ledger, store: Store, actor: str, project: str, digest: str, number: int | None, found: Readopted
) -> None:
    folder = store.at("versions", project, digest)
    if not (folder / "manifest.json").exists():
        return  # a freeze that was killed: the next one completes it
    problems = freezing.verify_version(store, project, digest)
    if not (folder / "sources.jsonl").exists():
        problems.append("sources.jsonl is missing")
    if problems:
        found.damaged.append(f"version {digest[:SHORT]} of {project}: {'; '.join(problems)}")
        return
    manifest = freezing.read_manifest(store, project, digest)
    closed_by = manifest.closed_by.person if manifest.closed_by else None
    if number is None:
        # Without a release nothing shows its number: the batch is frozen again, into this very version.
        found.open.append(
            f"version {digest[:SHORT]} of {project} was frozen and not released: the next run of labeling_approval "
            "freezes its batch again, into the same digest where it rests on the same version"
        )
        return
    record = VersionRecord(
        project=project,
        digest=digest,
        rows_digest=manifest.rows.sha256,
        batch=manifest.batch,
        policy_digest=manifest.policy_digest,
        path=f"versions/{project}/{digest}",
        row_count=manifest.counts.rows,
        run=RUN,
        number=number,
    )
    with ledger.transaction() as transaction:
        transaction.record_version(record, readopted=True)
        body = {
            "batch": manifest.batch,
            "requesters": [closed_by] if closed_by else [],
            "sources_digest": measure(folder / "sources.jsonl").sha256,
            **({"base": manifest.base.digest} if manifest.base else {}),
        }
        _append(transaction, actor, "version.ready", project, f"version:{digest}", body, digest_after=digest)
    found.recorded.append(f"version {number} ({digest[:SHORT]}) of {project}, {manifest.counts.rows} rows")


# ---- releases and what was taken back ------------------------------------------------------------------------------


def _releases(store: Store, found: Readopted) -> Iterator[_Release]:
    for project in _names(store, "releases"):
        for folder in _names(store, "releases", project):
            match = _RELEASE.fullmatch(folder)
            place = store.at("releases", project, folder)
            if match is None or not (place / "checksums.json").exists():
                continue  # one that was interrupted is completed by the next run
            try:
                yield _read_release(place, project, folder, int(match[3] or 1))
            except (InvalidInput, KeyError, TypeError, ValueError, AttributeError) as error:
                found.damaged.append(f"release {folder} of {project}: {error}")


def _read_release(place: StorePath, project: str, folder: str, edition: int) -> _Release:
    sums = read_json(place / "checksums.json")
    digest, number = str(sums["version"]), int(sums["number"])
    if folder.partition(".")[0] != f"v{number}-{digest[:SHORT]}" or not _DIGEST.fullmatch(digest):
        raise InvalidInput(f"its checksums are those of version {number} ({digest[:SHORT]})")
    mark = place / "RECALLED.json"
    recalled = read_json(mark) if mark.exists() else None
    files = {str(name): int(entry["bytes"]) for name, entry in sums["files"].items()}
    return _Release(folder, project, digest, number, edition, files, recalled)


def _readopt_recalls(ledger: Ledger, actor: str, releases: list[_Release], found: Readopted) -> None:
    """Put back what was taken back, so that no run hands it over again."""
    for one in releases:
        if one.recalled is None or ledger.version(one.digest) is None:
            continue
        recalled = list(ledger.events(subject=one.subject, actions=["release.recalled"]))
        if any(event.body.get("edition", 1) == one.edition for event in recalled):
            continue
        done = list(ledger.events(subject=one.subject, actions=["release.done"]))
        known = any(event.body.get("edition", 1) == one.edition for event in done)
        with ledger.transaction() as transaction:
            _append_recall(transaction, actor, one, one.recalled, released=known)
        found.recorded.append(f"the recall of release {one.folder} of {one.project}")


def _append_recall(
    transaction: Transaction, actor: str, one: _Release, why: Mapping[str, Any], *, released: bool
) -> None:
    place, reason, by = f"releases/{one.project}/{one.folder}", _reason(why), str(why.get("by", ""))
    facts = {"number": one.number, "edition": one.edition, "path": place, "dataset": f"{one.project}__v{one.number}"}
    about = (one.project, one.subject)
    if not released:
        body = {**facts, "files": dict(one.files), "webhook": False}
        _append(transaction, actor, "release.done", *about, body, digest_after=one.digest)
    state = str(why.get("state", "withdrawn"))
    body = {"attempt": one.edition, "state": state, "withdrawn_by": by, **({"cause": BASE} if state == "stale" else {})}
    _append(transaction, actor, f"approval.{state}", *about, body, digest_after=one.digest, reason=reason)
    body = {**facts, "withdrawn_by": by, "webhook": False}
    _append(transaction, actor, "release.recalled", *about, body, digest_before=one.digest, reason=reason)


def _readopt_withdrawals(ledger: Ledger, store: Store, actor: str, found: Readopted) -> None:
    """Put back what a person withdrew in Airflow."""
    for digest, value in _evidence(store):
        try:
            fields = dict(value["decision"])
            moment = fields["decided_at"]
            fields["decided_at"] = None if moment is None else read_time(moment)
            decision = Decision(**{**fields, "raw_digest": digest})
        except (KeyError, TypeError, ValueError) as error:
            found.damaged.append(f"evidence {digest[:SHORT]} of a withdrawal: {error}")
            continue
        if any(one.decision_id == decision.decision_id for one in ledger.decisions(decision.digest)):
            continue
        with ledger.transaction() as transaction:
            transaction.record_decision(decision)
            body = {"attempt": decision.attempt, "state": "withdrawn", "withdrawn_by": decision.person or ""}
            about, digest_after, reason = (decision.project, decision.subject), decision.digest, _reason(value)
            _append(transaction, actor, "approval.withdrawn", *about, body, digest_after=digest_after, reason=reason)
        found.recorded.append(f"the withdrawal of {decision.subject[:20]} of {decision.project} by {decision.person}")


def _evidence(store: Store) -> Iterator[tuple[str, Mapping[str, Any]]]:
    start = f'"kind":"{WITHDRAWAL}"'.encode()
    for shelf in _names(store, "objects"):
        for digest in _names(store, "objects", shelf):
            place = store.at("objects", shelf, digest)
            if not _DIGEST.fullmatch(digest) or place.stat().st_size > EVIDENCE_LIMIT:
                continue
            if start in bytes(place.read_bytes()):
                yield digest, store.get_value(digest)


# ---- guidelines ----------------------------------------------------------------------------------------------------


def _readopt_guidelines(ledger: Ledger, store: Store, actor: str, found: Readopted) -> None:
    for project in _names(store, "publications"):
        subject = f"guideline:{project}"
        told = list(ledger.events(subject=subject, actions=["guideline.published"]))
        known = {event.digest_after for event in told}
        before = told[-1].digest_after if told else None
        for number, folder in _guideline_folders(store, project):
            try:
                problems = guidelines.verify(store, project, folder)
                record = read_json(store.at("publications", project, "guidelines", folder, "release.json"))
            except InvalidInput as error:
                problems = [str(error)]
            if problems:
                found.damaged.append(f"guideline release {folder} of {project}: {'; '.join(problems)}")
                continue
            if record["digest"] in known:
                continue
            digest, path = record["digest"], f"publications/{project}/guidelines/{folder}"
            pages = [_page(one) for one in record["pages"]]
            body = {"number": number, "path": path, "page_count": len(pages), "pages": pages[:60]}
            digests = {"digest_before": before, "digest_after": digest}
            with ledger.transaction() as transaction:
                _append(transaction, actor, "guideline.published", project, subject, body, **digests)
            before = digest
            found.recorded.append(f"guideline release {number} ({digest[:SHORT]}) of {project}")


def _page(record: Mapping[str, Any]) -> dict[str, Any]:
    page = {"id": record["id"], "version": record["version"], "digest": record["canonical_digest"]}
    return {**page, "approver": None, "account": record["approver"]}


def _guideline_folders(store: Store, project: str) -> list[tuple[int, str]]:
    """Return the finished guideline releases in their order; one that was interrupted is completed by the next run."""
    matches = [(guidelines.FOLDER.match(name), name) for name in _names(store, "publications", project, "guidelines")]
    numbered = sorted((int(match[1]), name) for match, name in matches if match is not None)
    home = store.at("publications", project, "guidelines")
    return [(number, name) for number, name in numbered if (home / name / "release.json").exists()]


# ---- the rest ------------------------------------------------------------------------------------------------------


def _list_open(ledger: Ledger, releases: list[_Release], found: Readopted) -> None:
    for one in releases:
        done = ledger.events(subject=one.subject, actions=["release.done"])
        if one.recalled is None and not any(event.body.get("edition", 1) == one.edition for event in done):
            found.open.append(
                f"release {one.folder} of {one.project} is not on the ledger: dataset_release puts it back when every "
                "approval it needs is found again at its source"
            )


def _append(
    transaction: Transaction,
    actor: str,
    action: str,
    project: str,
    subject: str,
    body: Mapping[str, Any],
    *,
    digest_before: str | None = None,
    digest_after: str | None = None,
    reason: str = "",
) -> None:
    """Append what was found again, once for each place in the ledger's life: a second loss is a second finding."""
    body = {**body, "readopted": True}
    name = digest_of([action, project, subject, digest_after, digest_before, body])
    event = NewEvent(actor, action, project, subject, digest_before, digest_after, reason, RUN, body)
    transaction.append(event, key=f"readopted:{name}")


def _reason(record: Mapping[str, Any]) -> str:
    return str(record.get("reason", ""))[:4000]


def _names(store: Store, *folder: str) -> list[str]:
    place = store.at(*folder)
    if not place.exists() or not place.is_dir():
        return []
    return sorted(str(path.name) for path in place.iterdir() if not str(path.name).startswith("."))
