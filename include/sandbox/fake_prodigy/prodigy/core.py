"""The recipe registry, and the controller that stands between a recipe's components and the server."""

from __future__ import annotations

import copy
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from prodigy.components.db import Database, connect
from prodigy.config import settings

__all__ = ["Controller", "Recipe", "Session", "get_recipe", "recipe"]

Task = dict[str, Any]
Argument = tuple[Any, ...]
"""Help text, kind (``positional``, ``option`` or ``flag``), short name, converter."""

MANUAL_KEYS = ("spans", "accept", "answer")
"""What an annotator changes in a task."""


@dataclass(frozen=True)
class Recipe:
    """A registered recipe function with its command-line arguments."""

    name: str
    function: Callable[..., Any]
    arguments: dict[str, Argument]


_RECIPES: dict[str, Recipe] = {}


def recipe(name: str, **arguments: Argument) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function as a recipe; it returns a dictionary of components, or nothing if it serves nothing."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        _RECIPES[name] = Recipe(name, function, arguments)
        return function

    return register


def get_recipe(name: str) -> Recipe | None:
    """Return a registered recipe."""
    return _RECIPES.get(name)


@dataclass
class Session:
    """One annotator's queue, and the tasks they fetched and did not save yet."""

    name: str
    queue: deque[Task] = field(default_factory=deque)
    open: list[Task] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)


class Controller:
    """Runs one recipe for several sessions.

    Asking for questions is an act: it opens a session and moves tasks to it. A stream that has ended stays ended.
    """

    def __init__(self, components: dict[str, Any]) -> None:
        self.config = settings(components.get("config"))
        self.dataset = str(components["dataset"])
        self.view_id = str(components["view_id"])
        self.db: Database = components.get("db") or connect()
        self.stream: Iterator[Task] = iter(components["stream"])
        self.exhausted = False
        self._task_router = components.get("task_router") or _route_to_asker
        self._before_db = components.get("before_db")
        self._validate_answer = components.get("validate_answer")
        self._update = components.get("update")
        self._progress = components.get("progress")
        self.on_exit = components.get("on_exit")
        self._lock = threading.RLock()
        self._sessions: dict[str, Session] = {}
        self.db.add_dataset(self.dataset)
        # A session dataset is added at every start, named by the server's local time.
        self.start_session = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")  # noqa: DTZ005
        self.db.add_dataset(self.start_session, self._session_meta(), session=True)
        self._allowed = [name for name in os.environ.get("PRODIGY_ALLOWED_SESSIONS", "").split(",") if name]
        for name in self._allowed:
            self.open_session(name)
        if components.get("on_load"):
            components["on_load"](self)

    def _session_meta(self) -> dict[str, Any]:
        return self.db.get_meta(self.dataset) or {}

    @property
    def session_ids(self) -> list[str]:
        """Return the sessions that were opened, in order."""
        return list(self._sessions)

    @property
    def total_annotated(self) -> int:
        """Return how many answers the dataset holds."""
        return self.db.count_dataset(self.dataset)

    def session_name(self, name: str | None) -> str:
        """Return a session's whole name, ``<dataset>-<account>``; without one the timestamp of the start."""
        if not name or name == self.start_session:
            return self.start_session
        return name if name.startswith(f"{self.dataset}-") else f"{self.dataset}-{name}"

    def open_session(self, name: str | None) -> Session:
        """Return a session, created with its dataset at first.

        :raises PermissionError: for one that ``PRODIGY_ALLOWED_SESSIONS`` does not list.
        """
        full = self.session_name(name)
        if self._allowed and full not in [self.session_name(allowed) for allowed in self._allowed]:
            raise PermissionError(f"session {full!r} is not allowed")
        with self._lock:
            if full not in self._sessions:
                self.db.add_dataset(full, self._session_meta(), session=True)
                session = Session(full)
                if self.config["auto_exclude_current"]:
                    session.seen = set(self._hashes_of(full))
                self._sessions[full] = session
            return self._sessions[full]

    def reload(self, name: str | None) -> Session:
        """Open a session's page anew: what was fetched and not saved is asked again."""
        with self._lock:
            session = self.open_session(name)
            session.queue.extendleft(reversed(session.open))
            session.open = []
            return session

    def get_questions(self, name: str | None) -> list[Task]:
        """Return a session's next batch, pulling and routing from the stream until it is full or the stream ends."""
        with self._lock:
            session = self.open_session(name)
            batch: list[Task] = []
            while len(batch) < self.config["batch_size"]:
                if session.queue:
                    batch.append(session.queue.popleft())
                elif not self._pull(session):
                    break
            session.open.extend(batch)
            return copy.deepcopy(batch)

    def _pull(self, asker: Session) -> bool:
        """Take one item from the stream and put it into the queues that the router names; False at the end."""
        if self.exhausted:
            return False
        item = next(self.stream, None)
        if item is None:
            self.exhausted = True
            return False
        item.setdefault("_view_id", self.view_id)
        for name in self._task_router(self, asker.name, item):
            session = self.open_session(name)
            if self.config["auto_exclude_current"]:
                key = item[f"_{self.config['exclude_by']}_hash"]
                if key in session.seen:
                    continue
                session.seen.add(key)
            session.queue.append(copy.deepcopy(item))
        return True

    def _hashes_of(self, name: str) -> set[int]:
        by_input = self.config["exclude_by"] == "input"
        return self.db.get_input_hashes(name) if by_input else self.db.get_task_hashes(name)

    def validate(self, answer: Task) -> None:
        """Ask the recipe whether an answer may be submitted.

        :raises Exception: whatever the recipe raises.
        """
        if self._validate_answer:
            self._validate_answer(answer)

    def receive_answers(self, answers: list[Task], name: str | None) -> int:
        """Save a batch: one new row for each answer, linked to the dataset and then to the session."""
        with self._lock:
            session = self.open_session(name)
            now = int(time.time())
            for answer in answers:
                self._close(session, answer)
                answer["_timestamp"] = now
                answer["_annotator_id"] = session.name
                answer["_session_id"] = session.name
            if self._update:
                self._update(answers)
            rows = self._before_db(answers) if self._before_db else answers
            self.db.add_examples(rows, datasets=[self.dataset, session.name])
            return len(rows)

    def _close(self, session: Session, answer: Task) -> None:
        """Take an answered task off the session's open ones: the one with equal content, or else with equal hashes."""
        same_hash = [task for task in session.open if task["_task_hash"] == answer.get("_task_hash")]
        exact = [
            task
            for task in same_hash
            if all(answer.get(key) == value for key, value in task.items() if key not in MANUAL_KEYS)
        ]
        for task in (exact or same_hash)[:1]:
            session.open.remove(task)

    def progress(self) -> float | None:
        """Return the recipe's own progress, if it computes one."""
        return self._progress(self, None) if self._progress else None


def _route_to_asker(controller: Controller, session_id: str, item: Task) -> list[str]:
    return [session_id]
