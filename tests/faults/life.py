"""A house behind fault proxies, and the runs of the DAGs in it, executed as Airflow would, process by process."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import signal
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from include.bpmn.mapping import load_mapping
from include.sandbox import world
from include.sandbox.http import App, Server
from labelops.operators.wait import WaitForDecisionOperator
from labelops.wiring import APPROVALS
from tests.faults import child, memo
from tests.faults.door import Door, WireFault
from tests.house import House
from tests.integration.airflow_house import PROJECT
from tests.runner import DagRun, Key, context, use_cases

__all__ = ["Doors", "Engine", "Run", "World", "consumer"]

_FORK = multiprocessing.get_context("fork")


class Doors:
    """The servers of the stand-ins and the proxies before them; kept while houses come and go."""

    def __init__(self) -> None:
        self.notice: Callable[[Door, WireFault], None] = lambda door, fault: None
        self._servers = {name: Server(App()).start() for name in ("confluence", "opentext")}
        self.all = [
            Door(name, lambda fault, name=name: self.notice(getattr(self, name), fault))  # type: ignore[misc]
            for name in self._servers
        ]
        self.confluence, self.opentext = self.all
        self.urls = {name: server.url for name, server in self._servers.items()}

    def serve(self, confluence: App, opentext: App) -> None:
        """Put other stand-ins behind the doors."""
        for name, app in (("confluence", confluence), ("opentext", opentext)):
            self._servers[name].app = self._servers[name]._server.app = getattr(self, name).app = app
        for door in self.all:
            door.forget()

    @property
    def credentials(self) -> set[str]:
        """Return every credential that was sent through a door."""
        return set().union(*(door.credentials for door in self.all))

    def close(self) -> None:
        """Stop all servers."""
        for door in self.all:
            door.close()
        for server in self._servers.values():
            server.stop()


_SAYINGS = {
    "approve": (("quentin", "dana", "rita"), "approved"),
    "quality": (("quentin",), "approved"),
    "reject": (("quentin",), "rejected"),
    "rework": (("quentin",), "rework"),
}
"""Who decides what everything that waits for them."""


class World(House):
    """An installation in a folder, its stand-ins behind the doors.

    :param rows: how many elements a list request asks for: with 2, most lists are walks of several pages.
    """

    def __init__(self, home: Path, doors: Doors, rows: int = 2) -> None:
        self.doors, self.rows = doors, rows
        super().__init__(home)
        self._series = "fault"

    def begin(self, stage: int) -> None:
        """Number the runs of a stage, so that no other's has the same id."""
        self._runs = 1000 * stage

    def serve(self) -> None:
        """Put the stand-ins behind the doors."""
        self.doors.serve(self.confluence.app, self.opentext.app)
        self.confluence_url, self.opentext_url = self.doors.urls["confluence"], self.doors.urls["opentext"]

    def connections(self) -> dict[str, dict[str, Any]]:
        """Return the connections, through the doors, with pages of two rows."""
        found = super().connections()
        found["confluence_default"]["host"] = self.doors.confluence.url
        found["confluence_default"]["extra"]["timeout"] = 20
        found["opentext_default"]["host"] = self.doors.opentext.url
        found["opentext_default"]["extra"] |= {"timeout": 20, "count": self.rows}
        return found

    # --- people ----------------------------------------------------------------------------------------------------

    def people(self, what: str) -> bool:
        """Let people do something; tell whether there was anything to do."""
        if what in _SAYINGS:
            return bool(self._say(*_SAYINGS[what]))
        return bool(getattr(self, f"_people_{what}")())

    def _people_answer(self) -> int:
        """Anna and Ben answer what they have not answered."""
        project = self.project
        pointer = self.home / "store" / "publications" / PROJECT / "guidelines" / "current.json"
        if not pointer.exists():
            return 0
        known = {(one["_session_id"], one["labelops"]["task_id"]) for one in self.examples(project.answers)}
        waiting = {one["labelops"]["task_id"] for one in self.examples(project.inbox)}
        if {task for _, task in known} >= waiting and len(known) == 2 * len(waiting):
            return 0
        answered = {task for _, task in known}
        return self.answer_all(lambda task: task["labelops"]["task_id"] not in answered)

    def _say(self, names: tuple[str, ...], outcome: str) -> int:
        done = 0
        for name in names:
            person = self.person(name)
            for task in person.tasks():
                variables = {one["name"]: one.get("value") for one in task["variables"]}
                digest = str(variables[load_mapping("default").labeling_approval.digest_variable])
                said = "released" if name == "rita" else outcome
                person.decide(task, said, f"{said} {digest[:12]}")
                done += 1
        return done

    def _people_edit(self) -> int:
        """Olga adds a sentence to the labels page, and Greta approves it."""
        self._edits = getattr(self, "_edits", 0) + 1
        confluence = world._Confluence(self.confluence_url)
        [space] = confluence.call("olga", "GET", "/api/v2/spaces", params={"keys": "LAB"})["results"]
        wanted = {"title": "Ticket topics: labels", "body-format": "storage"}
        [page] = confluence.call("olga", "GET", f"/api/v2/spaces/{space['id']}/pages", params=wanted)["results"]
        text = page["body"]["storage"]["value"] + f"<p>Addition {self._edits}.</p>"
        changed = {
            "id": page["id"],
            "status": "current",
            "title": page["title"],
            "body": {"representation": "storage", "value": text},
            "version": {"number": page["version"]["number"] + 1},
        }
        confluence.call("olga", "PUT", f"/api/v2/pages/{page['id']}", json=changed)
        place, verified = f"/rest/api/content/{page['id']}/state", {"name": "Verified", "color": "#57d9a3"}
        confluence.call("greta", "PUT", place, params={"status": "current"}, json=verified)
        return 1

    def _people_file(self) -> int:
        """A new file with two tickets arrives."""
        place = self.home / "sources" / PROJECT / "late.csv"
        if place.exists():
            return 0
        place.write_text('id,message\nl-1,"Cancel my order 12 please."\nl-2,"The app crashes at login."\n', "utf-8")
        return 1

    def _people_mend(self) -> int:
        """The broken line of the first file is corrected."""
        place = self.home / "sources" / PROJECT / "2026-11-tickets.jsonl"
        text = place.read_text("utf-8")
        mended = text.replace(
            '{"ticket": "t-11", "text": \n', '{"ticket": "t-11", "text": "My new address is not saved."}\n'
        )
        place.write_text(mended, "utf-8")
        return int(mended != text)

    def _people_change(self) -> int:
        """Anna and Ben agree on something else about one task that they have both answered."""
        return self.answer(self._again("accept", ["account", "delivery"]))

    def _people_drop(self) -> int:
        """Anna and Ben both find that a task should not be in the dataset."""
        return self.answer(self._again("ignore", []))

    def _again(self, answer: str, labels: list[str]) -> list[dict[str, Any]]:
        last = {(one["labelops"]["task_id"], one["_session_id"]): one for one in self.examples(self.project.answers)}
        first = min(task for task, _ in last) if last else ""
        said = {"answer": answer, "accept": labels}
        return [
            {**one, **said, "_timestamp": one["_timestamp"] + 3600} for (task, _), one in last.items() if task == first
        ]

    def _people_wait(self) -> int:
        """Three days go by: reminders become due."""
        self.later += timedelta(days=3)
        return 1


# --- DAGs -----------------------------------------------------------------------------------------------------------

WAIT = "decision_wait"


def consumer(asset: str | None) -> str | None:
    """Return the DAG that listens to an asset."""
    for dag_id, case in use_cases().items():
        if asset in {one.name for one in case.listens}:
            return dag_id
    return None


@dataclass
class Run(DagRun):
    """One DAG run, of a use case or of ``decision_wait``, whose ``conf`` says what it waits for.

    :param number: its place among the runs of the engine.
    """

    number: int = 0

    def next_task(self) -> Key | None:
        if self.dag_id == WAIT:
            return None if self.over(("wait", -1)) else ("wait", -1)
        return super().next_task()

    def operator(self, key: Key) -> tuple[Any, Any]:
        if self.dag_id == WAIT:
            found = context(self.dag_id, key[0], self.run_id, index=-1, try_number=self.tries[key], after=self.after)
            found["params"] = found["dag"].params = dict(self.conf)
            return WaitForDecisionOperator(task_id="wait"), found
        return super().operator(key)

    @property
    def announced(self) -> str | None:
        if self.dag_id == WAIT:
            return APPROVALS.name if self.states.get(("wait", -1)) == "success" else None
        return super().announced

    @property
    def waits(self) -> list[dict[str, Any]]:
        return [] if self.dag_id == WAIT else super().waits


# --- executing ------------------------------------------------------------------------------------------------------


@dataclass
class Try:
    """What one try of a task came to."""

    run: int
    dag_id: str
    task: Key
    number: int
    state: str = "running"
    error: tuple[str, str, bool] | None = None
    ghost: bool = False


class Engine:
    """Executes runs in forked children, and lets faults happen to them.

    :ivar tries: every try of every task, in order.
    :ivar hits: which fault (its number in the schedule) hit which try.
    :ivar told: everything that was logged.
    :ivar stood: the tries that stood still while others went on.
    """

    def __init__(self, world: World, note: Callable[[str], None] = lambda text: None) -> None:
        self.world, self.note = world, note
        self.tries: list[Try] = []
        self.hits: dict[int, Try | None] = {}
        self.where: dict[int, str] = {}
        self.told = bytearray()
        self.stood: list[Try] = []
        self.runs: list[Run] = []
        self.waits: dict[str, dict[str, Any]] = {}
        self.wire: dict[int, WireFault] = {}
        self._current: Try | None = None
        self._held: list[sqlite3.Connection] = []
        self._partner: Callable[[], None] = lambda: None
        world.doors.notice = self._noticed

    # --- the outside -----------------------------------------------------------------------------------------------

    def new_run(self, dag_id: str, conf: dict[str, Any] | None = None, *, light: bool = False) -> Run:
        """Return a new run of a DAG."""
        run = Run(dag_id, self.world.run_id(), conf or {}, light, number=len(self.runs))
        self.runs.append(run)
        return run

    def arm_wire(self, number: int, door: str, fault: WireFault) -> None:
        """Let a fault wait for its request."""
        self.wire[number] = fault
        getattr(self.world.doors, door).faults.append(fault)

    def disarm(self) -> None:
        """End all faults on the wire, and let go of the locks."""
        for door in self.world.doors.all:
            door.faults.clear()
            door.refusals = 0
            door.attempted()
        self._unlock()

    def execute(self, *script: Run | str, armed: dict[str, Any] | None = None, partner: Any = None) -> None:
        """Live through a script of runs and people's doings, in as many processes as it takes.

        :param armed: a fault of :data:`child.POINT_FAULTS`.
        :param partner: what is executed while the child stands still, for two runs at once.
        """
        left: list[Any] = list(script)
        children = 0
        while True:
            outcome = self._one_child(left, armed, partner)
            armed = None
            if outcome != "again":
                break
            children += 1
            if children > 60:
                raise RuntimeError("a run comes to no end")
        for run in script:
            if isinstance(run, Run):
                for conf in run.waits:
                    self.waits.setdefault(f"{conf['use_case']}:{conf['process_id']}", conf)

    def _one_child(self, script: list[Any], armed: dict[str, Any] | None, partner: Any) -> str:
        ours, theirs = _FORK.Pipe()
        log_read, log_write = os.pipe()
        gc.freeze()  # what is there now is left alone by the child's collector, and so not copied
        pid = os.fork()
        if pid == 0:
            child.main(theirs, log_write, script, armed, self.world)
        theirs.close()
        os.close(log_write)
        reader = threading.Thread(target=self._read_log, args=(log_read,), daemon=True)
        reader.start()
        talk = _Talk(pid, ours, script, armed, partner)
        try:
            return self._listen(talk)
        finally:
            reader.join(10)

    def _read_log(self, log: int) -> None:
        with os.fdopen(log, "rb", buffering=0) as stream:
            while block := stream.read(65536):
                self.told += block

    def _listen(self, talk: _Talk) -> str:
        while True:
            if not talk.pipe.poll(120):
                os.kill(talk.pid, signal.SIGKILL)
                self.note("!! a child stood still for two minutes and was killed")
                self.told += b"\nHUNG\n"
            try:
                message = talk.pipe.recv()
            except (EOFError, OSError):
                break
            if message[0] == "memo":
                memo.learn(pickle.loads(message[1]), message[2])
                continue
            answer = self._answer(talk, *message[1:])
            try:
                talk.pipe.send(answer)
            except OSError:
                break
        _, status = os.waitpid(talk.pid, 0)
        talk.pipe.close()
        self._unlock()
        if talk.ghost:
            return "ghost"
        if os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status):
            self._died(talk, "killed" if os.WIFSIGNALED(status) else "crashed")
        runs_left = any(isinstance(one, Run) and one.next_task() is not None for one in talk.script)
        people_left = any(isinstance(one, str) for one in talk.script)
        return "again" if runs_left or people_left else "done"

    def _died(self, talk: _Talk, how: str) -> None:
        """The process of a task is gone: Airflow finds out, and tries again while tries are left."""
        one = talk.current
        if one is None:
            return
        one.state, one.error = how, None
        run = self.runs[one.run]
        if one.number < child.MAX_TRIES:
            run.states[one.task] = "up_for_retry"
        else:
            run.states[one.task] = "failed"
        self.note(f"   {run.dag_id}.{one.task[0]} try {one.number}: {how}")

    def _answer(self, talk: _Talk, what: str, *given: Any) -> Any:
        if what == "start":
            number, key = given
            run = self.runs[number]
            tried = run.tries.get(key, 0) + 1 if not talk.ghost else 99
            one = Try(number, run.dag_id, key, tried, ghost=talk.ghost)
            self.tries.append(one)
            talk.current = self._current = one
            if not talk.ghost:
                run.begin(key, tried)
            return tried
        if what == "end":
            return self._ended(talk, *given)
        if what == "people":
            # Nobody answers while the database is locked: they do it when it is free again.
            self._unlock()
            did = self.world.people(given[0])
            talk.script[talk.script.index(given[0])] = None  # done: not again after a retry
            self.note(f"   people: {given[0]}: {did}")
            return did
        if what == "connect":
            for door in self.world.doors.all:
                if door.port == given[0]:
                    door.attempted()
            return None
        if what == "hit":
            number = talk.armed["number"] if talk.armed else -1
            self.hits[number], self.where[number] = talk.current, given[1]
            self.note(f"   FAULT {number}: {given[0]} at {given[1]} of {_label(talk.current)}")
            return None
        if what == "act":
            return self._act(talk, given[0])
        raise AssertionError(what)

    def _ended(self, talk: _Talk, number: int, key: Key, state: str, result: Any, error: Any) -> Any:
        one = talk.current
        assert one is not None
        one.state, one.error = state, error
        said = f": {error[0]}: {error[1]}" if error else ""
        who = " (the orphan)" if talk.ghost else ""
        self.note(f"   {self.runs[number].dag_id}.{key[0]}[{key[1]}] try {one.number}{who}: {state}{said}")
        talk.current = None
        if talk.ghost:
            return "stop"
        self.runs[number].end(key, state, result)
        return None

    def _act(self, talk: _Talk, what: str) -> None:
        if "locked" in what:
            self._lock(self.world.ledger_file if what.startswith("ledger") else self.world.prodigy_file)
            if what.endswith("moment"):
                threading.Timer(0.05, self._unlock).start()
            return
        if talk.current is not None:
            self.stood.append(talk.current)
        if what == "two runs at once":
            talk.partner()
            self._current = talk.current
            return
        assert what == "orphan goes on after its retry"
        # Airflow has given the process up, though it lives: the retry begins, and goes to its end.
        one = talk.current
        assert one is not None
        self._died(talk, "given up")
        talk.ghost = True
        self.execute(*[entry for entry in talk.script if entry is not None])
        talk.current = self._current = one
        self.note("   the orphan goes on")

    # --- locks and hits --------------------------------------------------------------------------------------------

    def _lock(self, place: Path) -> None:
        connection = sqlite3.connect(place, isolation_level=None, timeout=5, check_same_thread=False)
        connection.execute("BEGIN EXCLUSIVE" if place == self.world.prodigy_file else "BEGIN IMMEDIATE")
        self._held.append(connection)

    def _unlock(self) -> None:
        while self._held:
            connection = self._held.pop()
            connection.rollback()
            connection.close()

    def _noticed(self, door: Door, fault: WireFault) -> None:
        for number, one in self.wire.items():
            if one is fault and number not in self.hits:
                self.hits[number], self.where[number] = self._current, fault.hits[0]
                self.note(f"   FAULT {number}: {fault.kind} at {door.name}: {fault.hits[0]} in {_label(self._current)}")


@dataclass
class _Talk:
    """The conversation with one child."""

    pid: int
    pipe: Any
    script: list[Any]
    armed: dict[str, Any] | None
    partner: Any
    current: Try | None = None
    ghost: bool = False


def _label(one: Try | None) -> str:
    return "nothing" if one is None else f"{one.dag_id}.{one.task[0]} try {one.number}"
