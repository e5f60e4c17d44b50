"""Recipes for the customer's own Prodigy: ``prodigy labelops.serve <project> … -F recipes.py``.

This file is copied beside a licensed Prodigy (1.12 or newer, for its task routers), so it imports only ``prodigy``
and the standard library. What it assumes of Prodigy, and how sure that is, is listed in ``docs/prodigy-kit.md``.

``labelops.serve`` reads the dataset ``<project>__inbox`` as it grows, gives each task to as many distinct persons as
asked for, stamps each task with the guideline release that this process loaded, and saves through ``before_db``.
It writes nothing but one activation record per start and, under the supervisor, its status and leases beside it.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import prodigy
from prodigy.components.db import connect

__all__ = ["Dispenser", "Leases", "PublicationError", "Release", "Status", "open_release", "serve"]

INTERFACES = {
    "textcat": "classification",
    "choice": "choice",
    "ner": "ner_manual",
    "spans": "spans_manual",
    "image": "image_manual",
    "audio": "audio_manual",
    "relations": "relations",
}
"""Our name of an interface to Prodigy's ``view_id``."""

MEDIA_DIGESTS = ("image_sha256", "audio_sha256", "video_sha256")
CONTENT_KEYS = ("text", "image", "audio", "video", "html", "label", "options", *MEDIA_DIGESTS)
"""What an annotator is shown and cannot change: an answer must bring it back as it was served."""

DIGEST_SHORT = 12
RELEASE_NAME = re.compile(r"(?P<number>\d{4,})-(?P<digest>[0-9a-f]{12})\Z")

Task = dict[str, Any]


class PublicationError(ValueError):
    """The publication is absent or malformed: the message names the file, what was found and what is right."""


# Publication ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Release:
    """One guideline release, as a process loaded it. ``directory`` never changes, whatever is published."""

    directory: Path
    number: int
    digest: str
    instructions: Path
    labels: tuple[str, ...] | None
    theme: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return the directory's name."""
        return self.directory.name


def open_release(publication: Path) -> Release:
    """Follow ``<publication>/current.json`` once, and return the release it names.

    :raises PublicationError: when the pointer or the release is absent, malformed, or the two disagree.
    """
    pointer_file = publication / "current.json"
    pointer = _json_object(pointer_file, "publish a guideline release first (DAG guideline_sync)")
    name = pointer.get("release")
    if not isinstance(name, str) or not RELEASE_NAME.match(name):
        raise PublicationError(f"{pointer_file}: `release` is {name!r}; expected a name such as 0001-0123456789ab")
    release = load_release(publication / name)
    if pointer.get("digest") != release.digest:
        raise PublicationError(
            f"{pointer_file}: `digest` is {pointer.get('digest')!r}, but {name}/release.json says {release.digest!r}"
        )
    return release


def load_release(directory: Path) -> Release:
    """Return the release in a directory, checked against the directory's own name.

    :raises PublicationError: when ``release.json`` does not name this directory, or a file is missing or altered.
    """
    release_file = directory / "release.json"
    value = _json_object(release_file, "the release directory is incomplete")
    digest, number = value.get("digest"), value.get("number")
    if not isinstance(digest, str) or not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise PublicationError(f"{release_file}: `digest` is {digest!r}; expected 64 hexadecimal characters")
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise PublicationError(f"{release_file}: `number` is {number!r}; expected a whole number from 1")
    expected = f"{number:04d}-{digest[:DIGEST_SHORT]}"
    if directory.name != expected:
        raise PublicationError(f"{release_file}: names release {expected}, but lies in directory {directory.name}")
    instructions = directory / "guidelines.html"
    if not instructions.is_file():
        raise PublicationError(f"{instructions}: not found; the release directory is incomplete")
    labels_file = directory / "labels.txt"
    theme_file = directory / "prodigy.json"
    for path in (instructions, labels_file, theme_file):
        _check_listed_digest(release_file, value, path)
    return Release(directory, number, digest, instructions, _read_labels(labels_file), _read_theme(theme_file))


def _check_listed_digest(release_file: Path, value: dict[str, Any], path: Path) -> None:
    """Compare a file with the digest that ``release.json`` lists for it, where it lists one."""
    files = value.get("files")
    entry = files.get(path.name) if isinstance(files, dict) else None
    listed = entry.get("sha256") if isinstance(entry, dict) else None
    if listed is None:
        return
    if not path.is_file():
        raise PublicationError(f"{path}: not found, but {release_file} lists it")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if listed != found:
        raise PublicationError(f"{path}: its SHA-256 is {found}, but {release_file} lists {listed}")


def _read_theme(path: Path) -> dict[str, Any]:
    """Return the label colours in a release's ``prodigy.json``, where it has some."""
    if not path.exists():
        return {}
    theme = _json_object(path, "").get("custom_theme")
    return theme if isinstance(theme, dict) else {}


def _json_object(path: Path, advice: str) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise PublicationError(f"{path}: not found; {advice}") from error
    except (OSError, ValueError) as error:
        raise PublicationError(f"{path}: unreadable ({error})") from error
    if not isinstance(value, dict):
        raise PublicationError(f"{path}: holds {type(value).__name__}; expected a JSON object")
    return value


def _read_labels(path: Path) -> tuple[str, ...] | None:
    if not path.exists():
        return None
    labels = tuple(line.strip() for line in path.read_text("utf-8").splitlines() if line.strip())
    if not labels or len(set(labels)) != len(labels):
        raise PublicationError(f"{path}: expected distinct labels, one a line; found {list(labels)}")
    return labels


def labels_digest(labels: Iterable[str]) -> str:
    """Return the SHA-256 of a label list's canonical JSON (UTF-8, no spaces, order kept)."""
    text = json.dumps(list(labels), separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


# What the supervisor sees ---------------------------------------------------------------------------------------------


def _replace_file(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON file that a reader sees whole, old or new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            json.dump(value, out, sort_keys=True)
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


class Status:
    """The file that tells the supervisor what this process loaded, when it last saved, and whether its stream ended.

    :param path: from ``LABELOPS_ACTIVITY_FILE``; None (no supervisor) writes nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._value: dict[str, Any] = {}

    def started(self, release: Release) -> None:
        """Say which release this process serves. The time of the last save outlives a restart."""
        self._update(
            pid=os.getpid(),
            release=release.digest,
            release_number=release.number,
            started=time.time(),
            saved=self._earlier_save(),
            ended=None,
            waiting=None,
            watch_error=None,
        )

    def saved(self) -> None:
        """Say that answers are being saved now."""
        self._update(saved=time.time())

    def ended(self) -> None:
        """Say that the stream came to its end: only a restart can serve more."""
        self._update(ended=time.time())

    def waiting(self, count: int, error: str | None = None) -> None:
        """Say how many tasks a restart would serve."""
        if self._value.get("waiting") != count or self._value.get("watch_error") != error:
            self._update(waiting=count, watch_error=error)

    def _earlier_save(self) -> float | None:
        if self._path is None:
            return None
        try:
            saved = json.loads(self._path.read_bytes()).get("saved")
        except (OSError, ValueError, AttributeError):
            return None
        return saved if isinstance(saved, (int, float)) else None

    def _update(self, **values: Any) -> None:
        with self._lock:
            self._value.update(values)
            if self._path is not None:
                _replace_file(self._path, self._value)


class Leases:
    """Who holds which task, kept over a restart so that a fetched but unsaved task goes back to the same person.

    A journal of JSON lines beside the status file. A lease older than ``seconds`` is forgotten at the next start, so
    that the tasks of someone who never came back go to others.
    """

    def __init__(self, path: Path | None, seconds: float) -> None:
        self._path = path
        self._seconds = seconds

    def load(self, round_number: int) -> dict[str, set[str]]:
        """Return the living leases of a round: task id to persons. Shortens the journal to them."""
        if self._path is None or not self._path.exists():
            return {}
        oldest = time.time() - self._seconds
        living = []
        for line in self._path.read_text("utf-8").splitlines():
            entry = _lease_of(line)
            if entry and entry["at"] >= oldest:
                living.append(entry)
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(entry) + "\n" for entry in living), "utf-8")
        os.replace(temporary, self._path)
        held: dict[str, set[str]] = {}
        for entry in living:
            if entry["round"] == round_number:
                held.setdefault(entry["task"], set()).add(entry["person"])
        return held

    def add(self, task_id: str, person: str, round_number: int) -> None:
        """Remember that a person was given a task."""
        if self._path is None:
            return
        line = json.dumps({"at": time.time(), "task": task_id, "person": person, "round": round_number})
        with self._path.open("a", encoding="utf-8") as out:
            out.write(line + "\n")


def _lease_of(line: str) -> dict[str, Any] | None:
    """Return a journal line; None for one that a kill cut short."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    complete = isinstance(entry, dict) and {"at", "task", "person", "round"} <= set(entry)
    return entry if complete else None


# The dispenser --------------------------------------------------------------------------------------------------------


@dataclass
class _Waiting:
    """One task of the inbox: who answered it in this round, and who holds it now."""

    task: Task
    priority: float
    arrival: int
    answered: set[str] = field(default_factory=set)
    held: set[str] = field(default_factory=set)

    def open_to(self, person: str, wanted: int) -> bool:
        """Tell whether this person may be given the task."""
        return person not in self.answered and len(self.answered | (self.held - {person})) < wanted

    def wants(self, wanted: int) -> bool:
        """Tell whether answers are missing."""
        return len(self.answered) < wanted


@dataclass(frozen=True)
class Job:
    """What ``labelops.serve`` was asked to do. ``expected`` are the accounts that the installation allows, if it lists
    any: work is kept for them before they open the page. ``relation_labels`` are for the interface ``relations``.
    """

    project: str
    view_id: str
    labels: tuple[str, ...]
    answers_per_task: int
    round_number: int
    refresh_seconds: float
    expected: tuple[str, ...] = ()
    relation_labels: tuple[str, ...] = ()

    def stamp_of(self, labels: Iterable[str]) -> str:
        """Return the digest of all labels on the page, when ``labels`` are those of the marks."""
        return labels_digest((*labels, *self.relation_labels))


class Dispenser:
    """Hands out the tasks of one inbox and takes the answers in. Safe to call from several threads.

    A Prodigy stream is one generator for everybody, and it does not know who is asking; the task router learns it
    with each item. So the dispenser offers what the last asker may have, the router gives it to the asker where allowed
    and to another waiting person where not, and the stream ends only when nobody known can be given anything.

    :param connect_database: makes a ``prodigy`` database object (once per thread that needs one).
    """

    def __init__(
        self,
        job: Job,
        release: Release,
        connect_database: Callable[[], Any],
        *,
        status: Status | None = None,
        leases: Leases | None = None,
        log: Callable[[str], None] = lambda message: None,
    ) -> None:
        self.job = job
        self.release = release
        self._connect = connect_database
        self._database = connect_database()
        self._status = status or Status(None)
        self._leases = leases or Leases(None, 0)
        self._log = log
        self._lock = threading.RLock()
        self._tasks: dict[str, _Waiting] = {}
        self._order: list[_Waiting] = []
        self._withdrawn: set[str] = set()
        self._counts: tuple[int, int, int] | None = None
        self._looked = float("-inf")
        self._persons: list[str] = []
        self._places: dict[str, int] = {}
        self._controller: Any = None
        self._kept_leases = self._leases.load(job.round_number)
        self._handed: dict[str, set[str]] = {}
        self._load: Counter[str] = Counter()

    # reading ----------------------------------------------------------------------------------------------------------

    def refresh(self, *, force: bool = False, database: Any = None) -> None:
        """Look at the three datasets again, if they grew; ``force`` does not wait for the refresh time."""
        with self._lock:
            now = time.monotonic()
            if not force and now - self._looked < self.job.refresh_seconds:
                return
            self._looked = now
            source = database or self._database
            project = self.job.project
            names = (f"{project}__inbox", project, f"{project}__decisions")
            inbox, answers, decisions = (source.count_dataset(name) if name in source else 0 for name in names)
            counts = (inbox, answers, decisions)
            if counts == self._counts:
                return
            before = self._counts or (0, 0, 0)
            if inbox and inbox != before[0]:
                self._read_inbox(source.get_dataset_examples(names[0]))
            if decisions and decisions != before[2]:
                self._read_decisions(source.get_dataset_examples(names[2]))
            if answers and (answers != before[1] or inbox != before[0]):
                self._read_answers(source.get_dataset_examples(names[1]))
            self._counts = counts
            self._order = [waiting for waiting in self._order if self._is_servable(waiting)]
            self._places.clear()

    def _read_inbox(self, rows: Iterable[Task]) -> None:
        """Take up new tasks, by task id: Prodigy's 32-bit hashes never decide whether two tasks are the same."""
        for arrival, row in enumerate(rows):
            ours = row.get("labelops")
            task_id = ours.get("task_id") if isinstance(ours, dict) else None
            if not isinstance(task_id, str) or not isinstance(ours, dict):
                self._log(f"inbox row {arrival} has no labelops.task_id and is not served")
                continue
            if task_id in self._tasks:
                continue
            if ours.get("project") != self.job.project:
                self._log(f"task {task_id[:DIGEST_SHORT]} belongs to {ours.get('project')!r} and is not served")
                continue
            waiting = _Waiting(dict(row), _priority(ours.get("priority")), arrival)
            waiting.held |= self._kept_leases.get(task_id, set())
            self._tasks[task_id] = waiting
            self._order.append(waiting)
        self._order.sort(key=lambda waiting: (-waiting.priority, waiting.arrival))

    def _read_decisions(self, rows: Iterable[Task]) -> None:
        for row in rows:
            ours = row.get("labelops")
            if isinstance(ours, dict) and ours.get("kind") == "withdrawn" and isinstance(ours.get("task_id"), str):
                self._withdrawn.add(ours["task_id"])

    def _read_answers(self, rows: Iterable[Task]) -> None:
        for row in rows:
            self._take_answer(row)

    def _take_answer(self, row: Task) -> None:
        """Count an answer of this round by a named person; a flagged or an unnamed one satisfies nothing."""
        ours = row.get("labelops")
        if not isinstance(ours, dict) or ours.get("invalid"):
            return
        waiting = self._tasks.get(str(ours.get("task_id")))
        person = self.person(row.get("_annotator_id") or row.get("_session_id"))
        if waiting is None or person is None or _round_of(ours) != self.job.round_number:
            return
        waiting.answered.add(person)
        waiting.held.discard(person)

    def person(self, session: Any) -> str | None:
        """Return the account in a session's name ``<dataset>-<account>``; None where nobody is named."""
        prefix = f"{self.job.project}-"
        if isinstance(session, str) and session.startswith(prefix) and len(session) > len(prefix):
            return session[len(prefix) :]
        return None

    # handing out ------------------------------------------------------------------------------------------------------

    def stream(self) -> Iterator[Task]:
        """Yield stamped tasks until nobody known can be given one. Never blocks: a blocked stream hangs the page."""
        while True:
            chosen = self._choose()
            if chosen is None:
                break
            yield self.stamped(chosen.task)
        self._status.ended()
        self._log("the stream has ended: nothing waits for anybody known")
        threading.Thread(target=self._watch, name="labelops-watch", daemon=True).start()

    def _choose(self) -> _Waiting | None:
        with self._lock:
            self.refresh()
            chosen = self._next_for_anybody()
            if chosen is None:
                self.refresh(force=True)
                chosen = self._next_for_anybody()
            return chosen

    def _next_for_anybody(self) -> _Waiting | None:
        """Return the first task open to the last asker, else to another person we know, else (nobody yet) to anyone."""
        persons = self._known_persons()
        if not persons:
            return next((waiting for waiting in self._order if self._is_servable(waiting)), None)
        found = (self._next_for(person) for person in persons)
        return next((waiting for waiting in found if waiting is not None), None)

    def _next_for(self, person: str) -> _Waiting | None:
        """Return the first task open to a person.

        What a person may not have they may not have later either, while the order stands, so each look goes on
        where the last one ended: handing out n tasks takes n steps, not n squared.
        """
        place = self._places.get(person, 0)
        while place < len(self._order) and not self._may_have(self._order[place], person):
            place += 1
        self._places[person] = place
        return self._order[place] if place < len(self._order) else None

    def _is_servable(self, waiting: _Waiting) -> bool:
        return waiting.task["labelops"]["task_id"] not in self._withdrawn and waiting.wants(self.job.answers_per_task)

    def _may_have(self, waiting: _Waiting, person: str) -> bool:
        """Tell whether a task may be handed to a person now; one handed out by this process is not handed out again."""
        task_id = waiting.task["labelops"]["task_id"]
        return (
            self._is_servable(waiting)
            and person not in self._handed.get(task_id, ())
            and waiting.open_to(person, self.job.answers_per_task)
        )

    def _known_persons(self) -> list[str]:
        """Return the persons with an open or an expected session, the last asker first.

        A session without a name is served only while it asks, and never given work in its absence: nobody could be
        expected to come back to it.
        """
        known = [person for place, person in enumerate(self._persons) if place == 0 or not person.startswith("?")]
        sessions = list(getattr(self._controller, "session_ids", None) or [])
        sessions += [f"{self.job.project}-{name}" for name in self.job.expected]
        for session in sessions:
            person = self.person(session)
            if person is not None and person not in known:
                known.append(person)
        return known

    def _name_in_process(self, session: str) -> str:
        """Return the account, or for an unnamed session its whole name, so that it too is served nothing twice."""
        return self.person(session) or f"?{session}"

    def _session_of(self, person: str) -> str:
        return person[1:] if person.startswith("?") else f"{self.job.project}-{person}"

    def route(self, controller: Any, session_id: str, item: Task) -> list[str]:
        """Return who gets an item: the asking session where it may have it, else another one, else nobody yet.

        A Prodigy ``task_router``: called with the controller, the asking session and the item.
        """
        with self._lock:
            self._controller = controller
            asker = self._name_in_process(session_id)
            if asker in self._persons:
                self._persons.remove(asker)
            self._persons.insert(0, asker)
            task_id = item["labelops"]["task_id"]
            waiting = self._tasks[task_id]
            takers = [person for person in self._known_persons() if self._may_have(waiting, person)]
            if not takers:
                return []
            taker = asker if asker in takers else min(takers, key=self._load.__getitem__)
            self._handed.setdefault(task_id, set()).add(taker)
            self._load[taker] += 1
            if not taker.startswith("?"):
                waiting.held.add(taker)
                self._leases.add(task_id, taker, self.job.round_number)
            return [self._session_of(taker)]

    def stamped(self, task: Task) -> Task:
        """Return a copy of a task that says which guideline, labels and round it was served under."""
        served = copy.deepcopy(task)
        served["labelops"]["served"] = {
            "guideline": self.release.digest,
            "guideline_number": self.release.number,
            "labels_digest": self.job.stamp_of(self.job.labels),
            "round": self.job.round_number,
        }
        return served

    def waiting_count(self) -> int:
        """Return how many tasks a fresh start could give to somebody with an open session, or to the first to come."""
        with self._lock:
            persons = self._known_persons()
            return sum(
                any(self._may_have(waiting, person) for person in persons) if persons else self._is_servable(waiting)
                for waiting in self._order
            )

    def _watch(self) -> None:
        """After the stream's end: tell the supervisor when a restart would serve somebody something."""
        database = None
        while True:
            time.sleep(max(self.job.refresh_seconds, 0.1))
            try:
                database = database or self._connect()
                self.refresh(force=True, database=database)
                self._status.waiting(self.waiting_count())
            except Exception as error:
                # The database is away, or refuses a second thread: the supervisor restarts on its longest interval.
                self._status.waiting(0, f"{type(error).__name__}: {error}")
                database = None

    # taking in --------------------------------------------------------------------------------------------------------

    def before_db(self, answers: list[Task]) -> list[Task]:
        """Check answers on their way to the database and return them all; a bad one is flagged, never dropped.

        The flag is ``labelops.invalid``: a list of reasons. A flagged answer counts as no answer.
        """
        self._status.saved()
        with self._lock:
            for answer in answers:
                reasons = self.problems(answer)
                if reasons:
                    ours = answer.get("labelops")
                    answer["labelops"] = {**(ours if isinstance(ours, dict) else {}), "invalid": reasons}
                    self._log(f"answer flagged: {'; '.join(reasons)}")
                elif isinstance(answer.get("labelops"), dict):
                    # Whoever posts it, an answer cannot arrive with a flag of its own making.
                    answer["labelops"].pop("invalid", None)
                self._take_answer(answer)
            everyone_named = all(answer.get("_annotator_id") or answer.get("_session_id") for answer in answers)
            if self._counts is not None and everyone_named:
                # These rows are counted already; the dataset is read again only if somebody else wrote to it too.
                self._counts = (self._counts[0], self._counts[1] + len(answers), self._counts[2])
        return answers

    def validate_answer(self, answer: Task) -> None:
        """Tell the annotator at once what is wrong with an answer.

        :raises ValueError: Prodigy shows the message and lets them correct the answer.
        """
        with self._lock:
            reasons = self._value_problems(answer, self._labels_served(answer))
        if reasons:
            raise ValueError("; ".join(reasons))

    def problems(self, answer: Task) -> list[str]:
        """Return every reason why an answer cannot be used; empty for a good one."""
        ours = answer.get("labelops")
        if not isinstance(ours, dict):
            return ["no labelops field: this task did not come from the inbox"]
        reasons = self._task_problems(answer, ours)
        reasons += self._stamp_problems(ours.get("served"))
        reasons += self._value_problems(answer, self._labels_served(answer))
        session = answer.get("_annotator_id") or answer.get("_session_id")
        if session is not None and self.person(session) is None:
            reasons.append(f"session {session!r} names nobody: open the page with ?session=<account>")
        return reasons

    def _task_problems(self, answer: Task, ours: dict[str, Any]) -> list[str]:
        if ours.get("project") != self.job.project:
            return [f"task of project {ours.get('project')!r}, not of {self.job.project!r}"]
        waiting = self._tasks.get(str(ours.get("task_id")))
        if waiting is None:
            return [f"task {ours.get('task_id')!r} is not in the inbox"]
        keys = ("_input_hash", "_task_hash", *CONTENT_KEYS)
        changed = [key for key in keys if answer.get(key) != waiting.task.get(key)]
        return [f"changed since it was served: {', '.join(changed)}"] if changed else []

    def _stamp_problems(self, served: Any) -> list[str]:
        if not isinstance(served, dict):
            return ["no labelops.served stamp: it is unknown which guideline was shown"]
        reasons = []
        if not isinstance(served.get("round"), int) or isinstance(served.get("round"), bool) or served["round"] < 1:
            reasons.append(f"stamp: round is {served.get('round')!r}")
        if self._release_of(served) is None:
            reasons.append(f"stamp: guideline {served.get('guideline')!r} was never published here")
        return reasons

    def _release_of(self, served: Any) -> Release | None:
        """Return the release a stamp names: ours, or an older one (a page open over a restart keeps its old stamp)."""
        if not isinstance(served, dict):
            return None
        digest, number = served.get("guideline"), served.get("guideline_number")
        if (digest, number) == (self.release.digest, self.release.number):
            return self.release
        if not isinstance(digest, str) or not isinstance(number, int):
            return None
        try:
            found = load_release(self.release.directory.parent / f"{number:04d}-{digest[:DIGEST_SHORT]}")
        except PublicationError:
            return None
        return found if found.digest == digest else None

    def _labels_served(self, answer: Task) -> tuple[str, ...] | None:
        """Return the labels an answer was served with; None when they are not known any more."""
        ours = answer.get("labelops")
        served = ours.get("served") if isinstance(ours, dict) else None
        if not isinstance(served, dict):
            return self.job.labels
        release = self._release_of(served)
        for labels in (self.job.labels, release.labels if release else None):
            if labels is not None and self.job.stamp_of(labels) == served.get("labels_digest"):
                return labels
        return None

    def _value_problems(self, answer: Task, labels: tuple[str, ...] | None) -> list[str]:
        if answer.get("answer") not in ("accept", "reject", "ignore"):
            return [f"answer is {answer.get('answer')!r}; expected accept, reject or ignore"]
        if labels is None:
            return ["stamp: labels_digest fits no label list known here"]
        used, reasons = _labels_used(answer, self.job.view_id)
        reasons += _foreign("labels", used, labels)
        if self.job.view_id == "relations":
            relations = answer.get("relations") or []
            reasons += _relation_problems(answer, relations)
            if not reasons:
                joined = [relation.get("label") for relation in relations]
                reasons += _foreign("relation labels", joined, self.job.relation_labels)
        return reasons


def _foreign(what: str, used: list[Any], allowed: tuple[str, ...]) -> list[str]:
    foreign = sorted({str(label) for label in used if label not in allowed})
    return [f"{what} not in the list: {', '.join(foreign)} (allowed: {', '.join(allowed)})"] if foreign else []


def _labels_used(answer: Task, view_id: str) -> tuple[list[Any], list[str]]:
    """Return the labels an answer uses and what is malformed in it, by interface."""
    if view_id == "classification":
        return [answer.get("label")], []
    if view_id == "choice":
        accept = answer.get("accept") or []
        if not isinstance(accept, list):
            return [], [f"accept is {type(accept).__name__}; expected a list of option ids"]
        offered = [option.get("id") for option in answer.get("options") or [] if isinstance(option, dict)]
        reasons = [f"picked {pick!r}, which was not offered" for pick in accept if pick not in offered]
        return list(accept), reasons
    key = "audio_spans" if view_id == "audio_manual" else "spans"
    marks = answer.get(key) or []
    if not isinstance(marks, list) or not all(isinstance(mark, dict) for mark in marks):
        return [], [f"{key} is malformed; expected a list of objects"]
    find = {"image_manual": _region_problems, "audio_manual": _segment_problems}.get(view_id, _span_problems)
    return [mark.get("label") for mark in marks], [reason for mark in marks for reason in find(answer, mark)]


def _span_problems(answer: Task, span: dict[str, Any]) -> list[str]:
    length = len(answer.get("text") or "")
    if _span_fits(span, length):
        return []
    return [f"span {span.get('start')!r}:{span.get('end')!r} is outside the text of {length} characters"]


def _segment_problems(answer: Task, segment: dict[str, Any]) -> list[str]:
    start: Any = segment.get("start")
    end: Any = segment.get("end")
    if _is_number(start) and _is_number(end) and 0 <= start < end:
        return []
    return [f"segment {start!r}:{end!r} does not end after it starts"]


def _region_problems(answer: Task, region: dict[str, Any]) -> list[str]:
    """Return what is wrong with a region; one pixel beside the image is the page's rounding."""
    points = region.get("points")
    if points is None and region.get("type", "rect") == "rect":
        sides: list[Any] = [region.get(name) for name in ("x", "y", "width", "height")]
        if not all(map(_is_number, sides)):
            return ["a rectangle has neither points nor x, y, width and height"]
        points = [sides[:2], [sides[0] + sides[2], sides[1] + sides[3]]]
    if not isinstance(points, list) or not all(
        isinstance(point, list) and len(point) == 2 and all(map(_is_number, point)) for point in points
    ):
        return ["a region's points are malformed; expected a list of [x, y]"]
    if len({tuple(point) for point in points}) < (2 if region.get("type", "rect") == "rect" else 3):
        return [f"a region has {len(points)} point(s), which enclose nothing"]
    width: Any = answer.get("width")
    height: Any = answer.get("height")
    if not (_is_number(width) and _is_number(height)):
        return []
    outside = [point for point in points if not (-1 <= point[0] <= width + 1 and -1 <= point[1] <= height + 1)]
    return [f"a region's point {outside[0]} is outside the image of {width} x {height} pixels"] if outside else []


def _relation_problems(answer: Task, relations: Any) -> list[str]:
    if not isinstance(relations, list) or not all(isinstance(relation, dict) for relation in relations):
        return ["relations is malformed; expected a list of objects"]
    tokens = {token.get("id") for token in answer.get("tokens") or [] if isinstance(token, dict)}
    return [
        f"a relation's {side} {relation.get(side)!r} is no token of the text"
        for relation in relations
        for side in ("head", "child")
        if relation.get(side) not in tokens
    ]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _span_fits(span: dict[str, Any], length: int) -> bool:
    start, end = span.get("start"), span.get("end")
    return isinstance(start, int) and isinstance(end, int) and 0 <= start < end <= length


def _round_of(ours: dict[str, Any]) -> int:
    """Return the round an answer was served in; without a stamp it is the first."""
    served = ours.get("served")
    number = served.get("round") if isinstance(served, dict) else None
    return number if isinstance(number, int) else 1


def _priority(value: Any) -> float:
    """Return a task's priority: higher is served first, and a task without one has 0."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number else 0.0


# The recipe -----------------------------------------------------------------------------------------------------------


def record_activation(publication: Path, release: Release) -> Path:
    """Write down that this process begins to serve a release; publishing alone is not use. Returns the file."""
    now = datetime.now(timezone.utc)  # noqa: UP017 - Prodigy also runs on Python older than 3.11
    path = publication / "activations" / f"{now:%Y%m%dT%H%M%S.%fZ}-{os.getpid()}.json"
    _replace_file(
        path, {"release": release.name, "digest": release.digest, "number": release.number, "started": now.isoformat()}
    )
    return path


def _split_names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def _say(message: str) -> None:
    """Print a line for the process's log; Prodigy's own logging needs a switch in the environment."""
    print(f"labelops.serve: {message}", flush=True)  # noqa: T201


@prodigy.recipe(
    "labelops.serve",
    project=("Project, and the dataset that answers are saved to", "positional", None, str),
    publication=("Folder with the guideline's current.json", "option", "p", str),
    labels=("Labels with commas; a release's labels.txt goes before them", "option", "l", str),
    interface=("textcat, choice, ner, spans, image, audio or relations", "option", "i", str),
    answers_per_task=("Distinct persons that answer each task", "option", "n", int),
    round=("Round of labelling, from 1", "option", "r", int),
    multiple=("choice: more than one option may be picked", "flag", "m", bool),
    refresh_seconds=("Seconds between two looks at the inbox", "option", "s", float),
    relation_labels=("relations: labels between spans, with commas", "option", "e", str),
    lease_minutes=("Minutes for which an unsaved task is kept for its person over a restart", "option", "k", float),
)
def serve(
    project: str,
    publication: str = "",
    labels: str = "",
    interface: str = "choice",
    answers_per_task: int = 1,
    round: int = 1,
    multiple: bool = False,
    refresh_seconds: float = 2.0,
    relation_labels: str = "",
    lease_minutes: float = 480.0,
) -> dict[str, Any]:
    """Serve a project's inbox under the guideline release that is current now, until it is restarted.

    :raises PublicationError: when the publication is absent or malformed.
    :raises ValueError: for an argument out of range.
    """
    if interface not in INTERFACES:
        raise ValueError(f"--interface {interface!r}: expected one of {', '.join(INTERFACES)}")
    if answers_per_task < 1 or round < 1:
        raise ValueError(f"--answers-per-task {answers_per_task}, --round {round}: both count from 1")
    joining = _split_names(relation_labels)
    if bool(joining) != (interface == "relations"):
        raise ValueError(f"--relation-labels {relation_labels!r}: needed for --interface relations, and for no other")
    folder = Path(publication or ".").resolve()
    release = open_release(folder)
    used = release.labels or _split_names(labels)
    if not used:
        raise ValueError(f"no labels: give --labels, or publish {release.directory / 'labels.txt'}")
    activity = os.environ.get("LABELOPS_ACTIVITY_FILE")
    status = Status(Path(activity) if activity else None)
    leases = Leases(Path(activity).with_name("leases.jsonl") if activity else None, lease_minutes * 60)
    expected = _split_names(os.environ.get("PRODIGY_ALLOWED_SESSIONS"))
    job = Job(project, INTERFACES[interface], used, answers_per_task, round, refresh_seconds, expected, joining)
    dispenser = Dispenser(job, release, connect, status=status, leases=leases, log=_say)
    dispenser.refresh(force=True)
    record_activation(folder, release)
    status.started(release)
    _say(f"guideline {release.name}, labels {', '.join(used)}, round {round}, {answers_per_task} person(s) a task")
    return {
        "dataset": project,
        "view_id": job.view_id,
        "stream": dispenser.stream(),
        "before_db": dispenser.before_db,
        "validate_answer": dispenser.validate_answer,
        "task_router": dispenser.route,
        "config": _config(job, release, multiple),
    }


def _config(job: Job, release: Release, multiple: bool) -> dict[str, Any]:
    """Return the recipe's settings: our routing replaces Prodigy's exclusion by 32-bit hash and its work stealing."""
    config: dict[str, Any] = {
        "labels": list(job.labels),
        "instructions": str(release.instructions),
        "exclude_by": "task",
        "auto_exclude_current": False,
        "allow_work_stealing": False,
    }
    if release.theme:
        config["custom_theme"] = release.theme
    if job.view_id == "choice":
        config["choice_style"] = "multiple" if multiple else "single"
    if job.view_id == "relations":
        # Prodigy's page takes the labels of relations as `labels`, and those of the spans apart.
        config["labels"] = list(job.relation_labels)
        config["relations_span_labels"] = list(job.labels)
    if job.view_id == "image_manual":
        config["image_manual_modes"] = ["rect", "polygon", "freehand"]
    return config
