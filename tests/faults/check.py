"""Reads the end state of all systems and the ledger: nothing lost, nothing twice, nothing half written.

Every check reads what is there by its own means (tables, files, published records) and says what it expected and found.
"""

from __future__ import annotations

import base64
import json
import re
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from include.base.canonical import sha256_hex
from include.base.errors import LabelopsError
from include.base.signing import read_signer
from include.base.store import Store
from include.datasets import freeze as freezing
from include.governance import checkpoint
from include.governance.verify import verify as verify_ledger
from include.guidelines import release as guidelines
from include.ingestion.pipeline import ingest
from include.ingestion.scan import scan
from include.passport.verify import verify
from include.questions.shared import Records
from include.questions.soundness import unsound
from include.releases.dataset import Dataset
from include.sandbox import world as sample
from include.systems.confluence import storage
from tests.integration.airflow_house import CLIENT, PROJECT

__all__ = ["a_wait", "a_withdrawal", "everything", "problems"]

SERVICE_ACCOUNT = "acc-labelops"


def everything(world: Any) -> dict[str, Any]:
    """Return all that a quiet run must leave as it is, the ledger's events among it."""
    return {**world.snapshot(), "events": _rows(world.ledger_file, "SELECT seq, action, subject FROM event")}


def a_wait(world: Any) -> dict[str, Any] | None:
    """Return what a wait for the newest open process would be started with."""
    for event in reversed(world.events("approval.requested", "release.requested")):
        return {
            "use_case": "labeling_approval" if event.action.startswith("approval") else "dataset_release",
            "project_name": event.project,
            "digest": event.digest_after,
            "process_id": event.body["process_id"],
        }
    return None


def a_withdrawal(world: Any, *, oldest: bool = False) -> dict[str, Any] | None:
    """Return the order with which the owner withdraws the newest version that is not withdrawn yet, or the oldest."""
    gone = {event.subject for event in world.events("approval.withdrawn")}
    ended = world.events("approval.ending")
    ready = world.events("version.ready")
    for event in ready if oldest else reversed(ready):
        if event.subject not in gone and not any(one.subject == event.subject for one in ended):
            digest = event.subject.removeprefix("version:")
            return {"by": "olga", "withdraw": [digest[:12]], "reason": "the guideline was misread"}
    return None


def problems(world: Any, engine: Any) -> list[str]:
    """Return a sentence for each thing that is not as it must be; an empty list is good."""
    state = _State(world)
    checks = list(_CHECKS)
    if any((one.dag_id, one.task[0]) == ("lineage_report", "comment") for one in engine.stood):
        # Who stands still between looking and commenting comments a second time, and an ended process keeps it.
        checks.remove(_comments_once)
    found = [
        f"{check.__name__.strip('_').replace('_', ' ')}: {one}" for check in checks for one in _told_by(check, state)
    ]
    found += [f"errors: {one}" for one in _unclear_errors(engine)]
    found += [f"secrets: {one}" for one in _secrets(world, bytes(engine.told).decode("utf-8", "replace"))]
    return found


def _told_by(check: Callable[[_State], Iterator[str]], state: _State) -> Iterator[str]:
    """What a check says; what our own readers refuse to read is said too, and leaves the other checks their turn."""
    try:
        yield from check(state)
    except LabelopsError as error:
        yield str(error)


class _State:
    """Everything that the checks look at, read once."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.project = world.project
        self.place: Path = world.home / "store"
        self.store = Store(self.place)
        ledger = world.ledger()
        try:
            self.verification = verify_ledger(ledger, checkpoint.kept_checkpoints(self.store))
            self.events = list(ledger.events())
            self.versions = ledger.versions(PROJECT)
            self.decisions = ledger.decisions()
        finally:
            ledger.close()
        self.inbox = world.examples(self.project.inbox)
        started = [dict(row) for row in world.opentext.state.rows("SELECT * FROM process")]
        # An orphan between its look-up and its request starts a second process: it has to be ended, and never counts.
        duplicates = {one["id"] for one in started if str(one["delete_reason"]).startswith("started twice")}
        self.processes = [one for one in started if one["id"] not in duplicates]
        tasks = [dict(row) for row in world.opentext.state.rows("SELECT * FROM task")]
        self.tasks = [one for one in tasks if one["process_id"] not in duplicates]
        self.comments = [dict(row) for row in world.opentext.state.rows("SELECT * FROM comment")]
        self.pages = [
            dict(row) for row in world.confluence.database.rows("select * from pages where status = 'current'")
        ]

    def of(self, *actions: str) -> list[Any]:
        return [event for event in self.events if event.action in actions]


def _rows(file: Path, query: str, *values: Any) -> list[Any]:
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=20)
    try:
        return connection.execute(query, values).fetchall()
    finally:
        connection.close()


def _twice(values: Any, what: str) -> Iterator[str]:
    for value, count in Counter(values).items():
        if count > 1:
            yield f"{what} {value} is there {count} times"


# --- the ledger -----------------------------------------------------------------------------------------------------


def _ledger_holds(state: _State) -> Iterator[str]:
    if not state.verification.ok:
        yield from (f"{one.kind}: {one.sentence}" for one in state.verification.findings if not one.warning)


def _events_once(state: _State) -> Iterator[str]:
    """What happened once is told once."""
    once = (
        "approval.requested", "approval.approved", "approval.rejected", "approval.reminded", "approval.escalated",
        "approval.withdrawn", "approval.stale", "release.recalled", "release.requested", "release.done",
        "batch.frozen", "batch.assigned", "version.frozen",
    )  # fmt: skip
    told = [
        (one.action, one.subject, one.body.get("attempt", (one.body.get("last_link"), one.body.get("version"))))
        for one in state.of(*once)
    ]
    yield from _twice(told, "event")
    yield from _twice(((one.subject, one.body["kind"], one.reason) for one in state.of("finding")), "finding")
    published = state.of("guideline.published")
    for before, after in pairwise(published):
        if before.digest_after == after.digest_after:
            yield f"guideline release {after.body['number']} was told twice in a row"
    checkpoints = [one.size for one in checkpoint.kept_checkpoints(state.store)]
    yield from _twice(checkpoints, "a checkpoint of size")


def _findings_recorded(state: _State) -> Iterator[str]:
    """The sample world has one thing a person must know of the guideline."""
    kinds = Counter(one.body["kind"] for one in state.of("finding"))
    if state.of("guideline.published") and kinds["unknown_macro"] < 1:
        yield "the finding about a macro that is not shown is missing"
    wrong = [one.reason for one in state.of("finding") if one.body["kind"] in ("answer changed", "late answers")]
    if "answer changed" in kinds:
        yield f"an answer is said to have changed, and none has: {wrong}"


# --- ingestion ------------------------------------------------------------------------------------------------------


def _inputs_in(state: _State) -> Iterator[str]:
    """Every good record of every source file is one task of the inbox; every bad one is in quarantine."""
    ids = [one["labelops"]["task_id"] for one in state.inbox]
    yield from _twice(ids, "task")
    with tempfile.TemporaryDirectory(prefix="expected-") as folder:
        files = scan(state.world.home / "sources" / PROJECT, state.project.source.routes, None).new_or_changed
        taken = ingest(state.project, files, known=None, staging=Path(folder))
        expected = [json.loads(line)["labelops"]["task_id"] for line in taken.tasks.read_bytes().splitlines()]
        bad = [json.loads(line) for line in taken.bad.read_bytes().splitlines()]
        sources = {
            (one["task_id"], one["file"], one["record"])
            for one in map(json.loads, taken.sources.read_bytes().splitlines())
        }
    for one in set(expected) - set(ids):
        yield f"task {one[:12]} of the sources is not in the inbox"
    for one in set(ids) - set(expected):
        yield f"task {one[:12]} of the inbox is in no source"
    known = {tuple(row) for row in _rows(state.world.ledger_file, "SELECT task_id, source, record FROM source_record")}
    for one in sources - known:
        yield f"the ledger does not say where task {one[0][:12]} came from ({one[1]})"
    kept = b"".join(
        path.read_bytes()
        for path in (state.place / "quarantine").rglob("*.jsonl")
        if path.parent.name == "raw_data_ingestion"
    )
    for one in bad:
        if json.dumps(one["reason"])[1:-1].encode() not in kept and one["reason"].encode() not in kept:
            yield f"a malformed record of {one['file']} is not in quarantine"
    reports = [path.name for path in (state.place / "quarantine" / PROJECT / "raw_data_ingestion").glob("*.jsonl")]
    told = [one.body["path"].rsplit("/", 1)[-1] for one in state.of("quarantine.kept")]
    if Counter(reports) != Counter(told):
        yield f"quarantine holds {sorted(reports)}, the ledger tells of {sorted(told)}"


def _prodigy_whole(state: _State) -> Iterator[str]:
    file = state.world.prodigy_file
    lost = _rows(file, "SELECT count(*) FROM link WHERE example_id NOT IN (SELECT id FROM example)")[0][0]
    if lost:
        yield f"{lost} link(s) point to no example"
    stray = _rows(file, "SELECT count(*) FROM example WHERE id NOT IN (SELECT example_id FROM link)")[0][0]
    if stray:
        yield f"{stray} example(s) have no link"
    yield from _twice((name for (name,) in _rows(file, "SELECT name FROM dataset")), "dataset")
    yield from _twice(_rows(file, "SELECT dataset_id, example_id FROM link"), "link")


def _batches_whole(state: _State) -> Iterator[str]:
    """Each task of the inbox is in one batch that came from the inbox."""
    placed: Counter[str] = Counter()
    for event in state.of("batch.assigned"):
        ids = json.loads(state.store.get_object(event.subject.removeprefix("batch:")))
        if event.body["kind"] == "inbox":
            placed.update(ids)
        if event.body["kind"] == "adopted":
            yield f"{len(ids)} task(s) of ours were taken for strangers"
    for task, count in placed.items():
        if count > 1:
            yield f"task {task[:12]} is in {count} batches of the inbox"
    for one in state.inbox:
        if one["labelops"]["task_id"] not in placed:
            yield f"task {one['labelops']['task_id'][:12]} is in no batch"


# --- versions, approvals, releases ----------------------------------------------------------------------------------


def _versions_whole(state: _State) -> Iterator[str]:
    if [one.number for one in state.versions] != list(range(1, len(state.versions) + 1)):
        yield f"versions have the numbers {[one.number for one in state.versions]}"
    folder = state.place / "versions" / PROJECT
    on_disk = {path.name for path in folder.iterdir()} if folder.exists() else set()
    for one in state.versions:
        for problem in freezing.verify_version(state.store, PROJECT, one.digest):
            yield f"version {one.number}: {problem}"
    for name in on_disk - {one.digest for one in state.versions}:
        for problem in freezing.verify_version(state.store, PROJECT, name):
            yield f"version {name[:12]}, of which the ledger does not know: {problem}"
    frozen = {one.digest_after for one in state.of("batch.frozen")}
    ready = {one.digest_after for one in state.of("version.ready")}
    if not frozen == ready == {one.digest for one in state.versions}:
        yield "the ledger's versions, frozen batches and ready versions are not the same"
    assigned = {one.subject: one.seq for one in state.of("batch.assigned")}
    answered = {one["labelops"]["task_id"] for one in state.world.examples(state.project.answers)}
    done = {one.subject: one.seq for one in state.of("batch.frozen")}
    for subject, when in assigned.items():
        ids = json.loads(state.store.get_object(subject.removeprefix("batch:")))
        if set(ids) <= answered and done.get(subject, 0) < when:
            yield f"{subject[:18]} is answered, was assigned in event {when}, and is not frozen since"


def _store_sound(state: _State) -> Iterator[str]:
    """The store is what the ledger says, and each version holds what it rests on."""
    ledger = state.world.ledger()
    try:
        yield from (f"{one.kind}: {one.sentence}" for one in unsound(Records(ledger, state.store)))
    finally:
        ledger.close()


def _dataset_newest(state: _State) -> Iterator[str]:
    """The dataset holds every answered task but those of a withdrawn or refused version, and what people dropped."""
    ledger = state.world.ledger()
    try:
        looking: Any = _Looking(ledger, state.store)
        yield from _dataset_problems(state, Dataset.of(looking, state.project))
    finally:
        ledger.close()


class _Looking(NamedTuple):
    """As much of a run as it takes to look: a run of this process would keep the house's files open after its end."""

    ledger: Any
    store: Store


def _dataset_problems(state: _State, dataset: Dataset) -> Iterator[str]:
    newest = dataset.base()
    for version in state.versions:
        if dataset.states[version.digest].state == "approved" and dataset.why_outdated(version.digest):
            yield f"version {version.number} stands, and what it rests on does not"
    if newest is None:
        return
    for batch in dataset.returning():
        yield f"batch {batch[:12]} was only stale, and did not come back"
    manifest = freezing.read_manifest(state.store, PROJECT, newest)
    held = {row["task_id"] for row in freezing.rows(state.store, PROJECT, newest)}
    for name in ("ignored", "disputed", "missing"):
        held |= {one.task_id for one in getattr(manifest, name).items}
    stands = set(dataset.chain(newest))
    for batch, event in dataset.frozen.items():
        if event.digest_after in stands and not set(state.store.get_value(batch)) <= held:
            yield f"batch {batch[:12]} is frozen in a version that the dataset rests on, and not whole in it"


def _processes_once(state: _State) -> Iterator[str]:
    """One process for each business key, and each one known to the ledger."""
    yield from _twice((one["business_key"] for one in state.processes), "process with business key")
    asked = state.of("approval.requested", "release.requested")
    known = {one.body["process_id"]: one.body["business_key"] for one in asked}
    there = {one["id"]: one["business_key"] for one in state.processes}
    for process, key in there.items():
        if known.get(process) != key:
            yield f"process {process} with business key {key[:12]} is not on the ledger"
    for process in known.keys() - there.keys():
        yield f"process {process} of the ledger is not in OpenText"
    ended = {one["id"] for one in state.processes if one["ended"] is not None}
    outcomes = ("approved", "rejected", "rework", "expired", "void", "withdrawn", "stale")
    told = state.of(*(f"approval.{one}" for one in outcomes))
    judged = {one.body.get("process_id") for one in told}
    for event in state.of("approval.requested"):
        if event.body["process_id"] in ended and event.body["process_id"] not in judged:
            yield f"process {event.body['process_id']} has ended, and the ledger does not say how"
    for version in state.versions:
        subject = f"version:{version.digest}"
        if not any(
            one.subject == subject for one in state.of("approval.requested", "approval.withdrawn", "approval.stale")
        ):
            yield f"version {version.number} was never put before approvers"


def _decisions_captured(state: _State) -> Iterator[str]:
    """Each task that a person completed is one decision on the ledger, with its proof in the store."""
    yield from _twice(((one.process_id, one.task_id) for one in state.decisions), "decision")
    known = {(one.process_id, one.task_id): one for one in state.decisions}
    ended = {one["id"] for one in state.processes if one["ended"] is not None}
    for task in state.tasks:
        decided = task["ended"] is not None and not task["delete_reason"] and task["process_id"] in ended
        if decided and (task["process_id"], task["id"]) not in known:
            yield f"the decision in task {task['id']} ({task['name']}) is not on the ledger"
    for one in state.decisions:
        if one.outcome == "withdraw":
            continue  # said to Airflow: the ledger itself is where it is on record
        try:
            state.store.get_object(one.raw_digest)
        except Exception as error:
            yield f"decision {one.decision_id[:12]}: its proof: {error}"
        if not one.counts or one.person is None:
            yield f"decision {one.decision_id[:12]} of {one.account} does not count: {one.void_reason}"


def _releases_whole(state: _State) -> Iterator[str]:
    """Each approved version is released: whole, linked in Prodigy, told once; each one taken back is recalled."""
    done = {one.subject: one for one in state.of("release.done")}
    recalled = {one.subject for one in state.of("release.recalled")}
    withdrawn = {one.subject for one in state.of("approval.withdrawn", "approval.stale")}
    begun = set(done) | {one.subject for one in state.of("release.requested")}
    if recalled != withdrawn & begun:
        yield f"{len(withdrawn & begun)} release(s) are of withdrawn versions, {len(recalled)} are recalled"
    for version in state.versions:
        subject = f"version:{version.digest}"
        approved = any(one.subject == subject for one in state.of("approval.approved"))
        if approved and subject not in done and subject not in withdrawn:
            yield f"version {version.number} was approved and is not released"
    folder = state.place / "releases" / PROJECT
    there = {path.name for path in folder.iterdir() if path.is_dir()} if folder.exists() else set()
    told = {one.body["path"].rsplit("/", 1)[-1] for one in done.values()}
    if there != told:
        yield f"the store holds the releases {sorted(there)}, the ledger tells of {sorted(told)}"
    for event in done.values():
        place = state.place.joinpath(*event.body["path"].split("/"))
        sums = json.loads((place / "checksums.json").read_bytes())["files"]
        for name, entry in sums.items():
            if not (place / name).exists() or sha256((place / name).read_bytes()).hexdigest() != entry["sha256"]:
                yield f"release {place.name}: {name} is not what checksums.json says"
        for problem in verify(place, read_signer(state.world.signing_key).public).problems:
            if event.subject not in recalled or not problem.startswith("RECALLED.json"):
                yield f"release {place.name}: {problem}"
        extra = {one.relative_to(place).as_posix() for one in place.rglob("*") if one.is_file()}
        extra -= {*sums, "checksums.json"}
        if extra != ({"RECALLED.json"} if event.subject in recalled else set()):
            yield f"release {place.name}: holds {sorted(extra)} beside its files"
        digest = str(event.digest_after)
        linked = state.world.examples(event.body["dataset"])
        gone = event.subject in recalled
        rows = 0 if gone else sum(1 for _ in freezing.rows(state.store, PROJECT, digest))
        if len(linked) != rows:
            yield f"dataset {event.body['dataset']} links {len(linked)} answers, the version has {rows} rows"
    if done:
        pointer = state.store.pointer(state.store.at("releases", PROJECT, "current.json"))
        standing = {one.body["path"].rsplit("/", 1)[-1] for one in done.values() if one.subject not in recalled}
        if pointer is None or pointer["release"] not in (standing or {None}):
            yield f"the pointer to the current release is {pointer}"


# --- guideline and report -------------------------------------------------------------------------------------------


def _guideline_published(state: _State) -> Iterator[str]:
    """The current release is whole, holds the newest approved text of each page, and is the last one told."""
    published = state.of("guideline.published")
    current = guidelines.current(state.store, PROJECT)
    if current is None or not published:
        yield "no guideline is published"
        return
    if published[-1].digest_after != current.digest:
        yield f"the pointer names release {current.number}, the ledger told of {published[-1].body['number']} last"
    folder = state.place / "publications" / PROJECT / "guidelines"
    names = [path.name for path in folder.iterdir() if path.is_dir()]
    for name in names:
        for problem in guidelines.verify(state.store, PROJECT, name):
            yield f"guideline {name}: {problem}"
    yield from _twice((name.partition("-")[0] for name in names), "guideline release number")
    if len(names) != len({one.digest_after for one in published}):
        yield f"{len(names)} guideline releases are in the store, the ledger told of {len(published)}"
    texts = {page["id"]: page for page in published[-1].body["pages"]}
    for page in state.pages:
        if not page["title"].startswith("Ticket topics:"):
            continue
        told = texts.get(str(page["id"]))
        body = state.world.confluence.database.row(
            "select body from versions where page_id = ? and number = ?", (page["id"], page["version"])
        )["body"]
        if told is None or told["digest"] != storage.digest(body):
            yield f"page {page['title']!r} is published in another text than its newest approved one"


def _report_whole(state: _State) -> Iterator[str]:
    """One page, ours, marked, its charts with their digests; no version of it repeats the one before."""
    yield from _twice((page["title"].lower() for page in state.pages), "page")
    rows = state.world.confluence.database.rows
    ours = [page for page in state.pages if page["author_id"] == SERVICE_ACCOUNT]
    shown = [page for page in ours if page["title"].endswith(", for decision")]
    reports = [page for page in ours if page not in shown]
    if state.versions and len(reports) != 1:
        yield f"there are {len(reports)} report pages"
    told = [event.body["page"] for event in state.of("approval.shown")]
    if sorted(told) != sorted(str(page["id"]) for page in shown):
        yield f"{len(shown)} pages show versions for decision, and the ledger tells of {len(told)}"
    for page in ours:
        marks = rows("select * from properties where page_id = ? and key = 'labelops'", (page["id"],))
        if len(marks) != 1:
            yield f"page {page['title']!r} has {len(marks)} properties that say it is ours"
        texts = [
            row["body"] for row in rows("select body from versions where page_id = ? order by number", (page["id"],))
        ]
        for place, (before, after) in enumerate(pairwise(texts), 2):
            if storage.equal(before, after):
                yield f"version {place} of {page['title']!r} says what version {place - 1} said"
        charts = rows("select * from attachments where page_id = ?", (page["id"],))
        if page in reports and len(charts) != 2:
            yield f"page {page['title']!r} has {len(charts)} charts"
        for chart in charts:
            if chart["comment"] != f"sha256:{sha256_hex(bytes(chart['content']))}":
                yield f"chart {chart['title']} does not have the digest that its comment names"
    yield from _twice(
        (page["id"] for page in rows("select id from pages where author_id = ?", (SERVICE_ACCOUNT,))), "page"
    )
    trashed = rows("select title from pages where author_id = ? and status <> 'current'", (SERVICE_ACCOUNT,))
    if trashed:
        yield f"{len(trashed)} page(s) of ours are in the trash"


def _comments_once(state: _State) -> Iterator[str]:
    service = [one for one in state.comments if "@" not in one["author"]]
    yield from _twice(
        ((one["process_id"], re.sub(r"https?://\S+", "", one["message"])[:80]) for one in service), "comment"
    )
    for event in state.of("release.done"):
        processes = {
            one.body["process_id"]
            for one in state.of("release.requested", "approval.requested")
            if one.subject == event.subject
        }
        told = [one for one in service if one["process_id"] in processes and one["message"].startswith("Lineage of")]
        missing = [
            one for one in state.of("finding") if one.subject == event.subject and "no comment" in one.body["kind"]
        ]
        if len(told) + bool(missing) != 1:
            yield f"{len(told)} lineage comments and {len(missing)} findings about none on {event.subject[:20]}"


# --- files ----------------------------------------------------------------------------------------------------------


def _store_whole(state: _State) -> Iterator[str]:
    """Objects match their names; nothing half written lies about."""
    for path in state.place.rglob("*"):
        if not path.is_file():
            continue
        parts = path.relative_to(state.place).parts
        if parts[0] == "objects" and not path.name.startswith(".") and sha256_hex(path.read_bytes()) != path.name:
            yield f"object {path.name[:12]} does not match its name"
        if path.name.startswith(".") and parts[0] not in ("staging", "gates"):
            yield f"{'/'.join(parts)} was left behind"
        if path.name == "current.json":
            json.loads(path.read_bytes())


_CHECKS: tuple[Callable[[_State], Iterator[str]], ...] = (
    _ledger_holds, _events_once, _findings_recorded, _inputs_in, _prodigy_whole, _batches_whole, _versions_whole,
    _processes_once, _decisions_captured, _releases_whole, _guideline_published, _report_whole, _comments_once,
    _store_whole, _store_sound, _dataset_newest,
)  # fmt: skip


# --- what was said --------------------------------------------------------------------------------------------------


def _unclear_errors(engine: Any) -> Iterator[str]:
    """An error that nobody planned for says nothing about what to do."""
    for one in engine.tries:
        if one.error is not None and not one.error[2]:
            yield f"{one.dag_id}.{one.task[0]} failed with {one.error[0]}: {one.error[1][:200]}"
        if one.state == "crashed":
            yield f"{one.dag_id}.{one.task[0]}: its process crashed"
    if b"HUNG" in engine.told:
        yield "a child stood still"


def _secrets(world: Any, told: str) -> Iterator[str]:
    basic = base64.b64encode(f"labelops@people.example:{sample.TOKEN}labelops".encode()).decode()
    for secret in {basic, CLIENT["secret"], f"{sample.TOKEN}labelops", *world.doors.credentials}:
        if len(secret) > 6 and secret in told:
            yield f"the log shows a credential ({secret[:4]}…)"
    for text in ("charged twice", "tracking page"):
        if text in told:
            yield f"the log shows what a customer wrote ({text!r})"
