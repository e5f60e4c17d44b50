"""A house for the tests of a real Airflow: its outside systems, ways to hold and kill it, and an undisturbed life.

The local Confluence and OpenText are served from the test's own process, so that a test can hold a task at one exact
request while it kills what runs it. Airflow's four components are processes of their own.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from include.annotation.served import Served, labels_digest
from include.base.canonical import sha256_hex
from include.base.signing import make_key
from include.bpmn.mapping import load_mapping
from include.governance.ledger import Ledger
from include.governance.verify import verify
from include.projects.load import load_project
from include.sandbox import world
from include.sandbox.airflow import COMPONENTS, AirflowClient, LocalAirflow
from include.sandbox.confluence import ConfluenceStandIn, SandboxUser
from include.sandbox.http import App, Fault, Request, Server
from include.sandbox.opentext import OpenTextStandIn
from include.sandbox.opentext.person import Person
from include.sandbox.people.annotators import ticket_topics
from include.sandbox.people.approvers import Approver
from include.sandbox.processes import Process, Processes, free_port, wait_until
from include.sandbox.prodigy_schema import create_schema, import_jsonl
from include.settings import ROOT
from tests.runner import DagRun
from tests.servers import airflow_connection
from tests.workers import ends_with_run

PROJECT = "ticket_topics"
CLIENT = {"id": "labelops-service", "secret": "sandbox-secret-of-labelops"}
DAGS = tuple(sorted(path.stem for path in (ROOT / "dags").glob("*.py")))
QUICK = {
    "LABELOPS_RETRY_SECONDS": "1",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "12",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "2",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "4",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "2",
}
"""Failures are noticed in seconds instead of minutes."""

FIRST_ANSWER = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for a while."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class Systems:
    """The outside systems of one home, seeded with the sample world; the project is ``ticket_topics``."""

    def __init__(self, home: Path, prodigy_url: str | None = None) -> None:
        self.home = home
        for name in ("confluence", "opentext", "prodigy", "projects"):
            (home / name).mkdir(parents=True, exist_ok=True)
        sample = ROOT / "include" / "projects" / "definitions" / f"{PROJECT}.yaml"
        (home / "projects" / sample.name).write_bytes(sample.read_bytes())
        self.confluence = ConfluenceStandIn(
            home / "confluence", [SandboxUser(**user) for user in world.confluence_users()]
        )
        self.opentext = OpenTextStandIn(home / "opentext", users=world.opentext_users(), clients=[CLIENT])
        self._servers: list[Server] = []
        self.serve()
        self.prodigy_file = home / "prodigy" / "prodigy.db"
        self.prodigy_url = prodigy_url or f"sqlite:///{self.prodigy_file}"
        self.ledger_file = home / "ledger.db"
        self._held: list[Fault] = []

    def serve(self) -> None:
        """Start to serve the stand-ins, and note where they are."""
        self._servers = [Server(self.confluence.app).start(), Server(self.opentext.app).start()]
        self.confluence_url, self.opentext_url = (server.url for server in self._servers)

    def seed(self) -> None:
        """Put in what the systems hold before anybody works with them."""
        world.seed_confluence(self.confluence_url)
        world.seed_sources(self.home / "sources")
        create_schema(self.prodigy_url)
        Ledger(f"sqlite:///{self.ledger_file}").migrate()
        (self.home / "schedules.yaml").write_text(
            "cron: {}\nanswers_probe_seconds: 2\ndecision_poll_seconds: 1\n", "utf-8"
        )
        with environment(self.environment()):
            from labelops.hooks.opentext import OpenTextWorkflowHook

            world.seed_opentext(OpenTextWorkflowHook().get_conn())

    def connections(self) -> dict[str, dict[str, Any]]:
        """Return the three connections as Airflow's API takes them."""
        return {
            "confluence_default": {
                "conn_type": "confluence",
                "host": self.confluence_url,
                "login": "labelops@people.example",
                "password": f"{world.TOKEN}labelops",
                "extra": {"timeout": 120},
            },
            "prodigy_default": self._prodigy_connection(),
            "opentext_default": {
                "conn_type": "opentext",
                "host": self.opentext_url,
                "login": CLIENT["id"],
                "password": CLIENT["secret"],
                "extra": {"tenant_id": "sandbox", "timeout": 120},
            },
        }

    def _prodigy_connection(self) -> dict[str, Any]:
        if self.prodigy_url.startswith("sqlite"):
            return {"conn_type": "prodigy", "extra": {"engine": "sqlite", "path": str(self.prodigy_file)}}
        found: dict[str, Any] = json.loads(airflow_connection(self.prodigy_url))
        return found

    @property
    def signing_key(self) -> Path:
        """Return the file of this home's key, made when it is first asked for."""
        place = self.home / "signing.pem"
        if not place.exists():
            make_key(place)
        return place

    def environment(self) -> dict[str, str]:
        """Return the environment that makes Labelops work in this home."""
        return {
            "LABELOPS_HOME": str(self.home),
            "LABELOPS_PROJECTS": str(self.home / "projects"),
            "LABELOPS_SCHEDULES": "off",
            "LABELOPS_SCHEDULE_FILE": str(self.home / "schedules.yaml"),
            "LABELOPS_SIGNING_KEY": str(self.signing_key),
            **{f"AIRFLOW_CONN_{name.upper()}": json.dumps(parts) for name, parts in self.connections().items()},
        }

    def approver(self, name: str) -> Approver:
        """Return one approver at their desk."""
        person = Person(self.opentext_url, f"{name}@people.example", f"{world.PASSWORD}{name}", CLIENT)
        return Approver(person, load_mapping("default"))

    def decide(self, *names: str) -> None:
        """Let each of these people decide exactly one task that waits for them."""
        for name in names:
            assert self.approver(name).work() == 1, f"{name} was asked for nothing"

    def answer_all(self, among: Callable[[dict[str, Any]], bool] = lambda task: True) -> int:
        """Let anna and ben answer every task of the inbox at fixed times, as the kit's recipe would save it.

        :param among: tells whether they answer a task.
        """
        pointer = json.loads(
            (self.home / "store" / "publications" / PROJECT / "guidelines" / "current.json").read_bytes()
        )
        project = load_project(self.home / "projects", PROJECT)
        stamp = Served(pointer["digest"], pointer["number"], labels_digest(project.annotation.labels), 1).as_json()
        rows = []
        for person in ("anna", "ben"):
            decide = ticket_topics(person)
            for place, task in enumerate(filter(among, self.examples(project.inbox))):
                moment = FIRST_ANSWER + timedelta(minutes=place)
                session = f"{project.answers}-{person}"
                labelops = {**task["labelops"], "served": stamp}
                rows.append(
                    {
                        **task,
                        "labelops": labelops,
                        **decide(task),
                        "_timestamp": int(moment.timestamp()),
                        "_annotator_id": session,
                        "_session_id": session,
                    }
                )
        return import_jsonl(self.prodigy_url, project.answers, rows)

    def examples(self, dataset: str) -> list[dict[str, Any]]:
        """Return the contents of a Prodigy dataset in the order of their links."""
        engine = create_engine(self.prodigy_url, poolclass=NullPool)
        query = (
            "SELECT e.content FROM link l JOIN example e ON e.id = l.example_id JOIN dataset d ON d.id = l.dataset_id "
            "WHERE d.name = :name ORDER BY l.id"
        )
        with engine.connect() as conn:
            return [json.loads(bytes(content)) for (content,) in conn.execute(text(query), {"name": dataset})]

    def read(self, file: Path, query: str, *values: Any) -> list[Any]:
        """Ask one of the SQLite files, read-only."""
        connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=20)
        try:
            return connection.execute(query, values).fetchall()
        finally:
            connection.close()

    def ledger(self) -> Ledger:
        """Open the ledger."""
        return Ledger(f"sqlite:///{self.ledger_file}")

    def actions(self) -> Counter[str]:
        """Return how often each action is on the ledger."""
        rows = self.read(self.ledger_file, "SELECT action FROM event")
        return Counter(action for (action,) in rows)

    @contextmanager
    def hold(self, app: App, kind: str, method: str, path: str) -> Iterator[Fault]:
        """Hold the first request that matches, before (``hold``) or after (``hold_after``) it is worked on."""
        pattern = re.compile(path)

        def match(request: Request) -> bool:
            return request.method == method and pattern.fullmatch(request.path) is not None

        fault = app.fault(kind, match)
        self._held.append(fault)
        try:
            yield fault
        finally:
            fault.release.set()
            app.faults.remove(fault)

    def close(self) -> None:
        """Let go of what is held and stop serving."""
        for fault in self._held:
            fault.release.set()
        for server in self._servers:
            server.stop()
        self.confluence.close()
        self.opentext.close()

    # --- what there is ---------------------------------------------------------------------------------------------

    def effects(self) -> dict[str, Any]:
        """Return everything Labelops made outside itself and on its ledger, in a form that two homes can share.

        Times and random ids are left out; names, numbers, versions and digests stay.
        """
        ledger = self.ledger()
        events = list(ledger.events())
        verified = verify(ledger)
        versions = [(one.project, one.number, one.digest, one.row_count) for one in ledger.versions(PROJECT)]
        decisions = sorted(
            (one.role, one.person or "", one.outcome, one.grade, one.counts, one.attempt)
            for version in ledger.versions(PROJECT)
            for one in ledger.decisions(version.digest)
        )
        ledger.close()
        return {
            "ledger holds": verified.ok,
            "events": Counter(
                (event.action, event.subject)
                for event in events
                if event.action not in ("effect.done", "release.refused")
            ),
            "effects": Counter(
                (event.body["use_case"], event.subject) for event in events if event.action == "effect.done"
            ),
            "versions": versions,
            "decisions": decisions,
            **self._confluence_effects(),
            **self._opentext_effects(),
            **self._prodigy_effects(),
            "files": self._files(),
        }

    def _confluence_effects(self) -> dict[str, Any]:
        rows = self.confluence.database.rows
        titles = {row["id"]: row["title"] for row in rows("select id, title from pages")}
        return {
            "pages": Counter((row["title"], row["version"]) for row in rows("select title, version from pages")),
            "attachments": Counter(
                (titles[row["page_id"]], row["title"], row["version"])
                for row in rows("select page_id, title, version from attachments")
            ),
            "properties": Counter(
                (titles[row["page_id"]], row["key"], row["version"])
                for row in rows("select page_id, key, version from properties")
            ),
        }

    def _opentext_effects(self) -> dict[str, Any]:
        from labelops.hooks.opentext import OpenTextWorkflowHook

        found: Counter[Any] = Counter()
        comments: Counter[Any] = Counter()
        with environment(self.environment()):
            opentext = OpenTextWorkflowHook().get_conn()
            for process_id in opentext.ended_since(datetime(2026, 1, 1, tzinfo=UTC)):
                history = opentext.history(process_id)
                found[history.business_key] += 1
                comments.update(
                    (history.business_key, re.sub(r"https?://\S+", "", one.message).split("\n")[0])
                    for one in opentext.comments(process_id)
                )
        running = requests.get(f"{self.opentext_url}/_sandbox/snapshot", timeout=30).json()
        return {"processes": found, "comments": comments, "counts of OpenText": running}

    def _prodigy_effects(self) -> dict[str, Any]:
        datasets = [name for (name,) in self.read(self.prodigy_file, "SELECT name FROM dataset ORDER BY name")]
        return {
            "datasets": {
                name: [sha256_hex(json.dumps(one, sort_keys=True).encode()) for one in self.examples(name)]
                for name in datasets
            },
            "examples": self.read(self.prodigy_file, "SELECT count(*) FROM example"),
        }

    def _files(self) -> list[str]:
        """Return the names below the store; of the objects, which may hold times, only how many there are."""
        store = self.home / "store"
        kept = ("publications", "versions", "releases", "quarantine")
        names = [str(path.relative_to(store)) for part in kept for path in (store / part).rglob("*") if path.is_file()]
        return [*sorted(names), f"{sum(path.is_file() for path in (store / 'objects').rglob('*'))} objects"]


# --- a life that nothing disturbs ----------------------------------------------------------------------------------


class Undisturbed:
    """The DAGs in one process, one after the other: what every disturbed life must come to."""

    def __init__(self, systems: Systems) -> None:
        self._systems = systems
        self._count = 0

    def live(self) -> dict[str, Any]:
        """Go through the whole life of a dataset and return what came of it."""
        with environment(self._systems.environment()):
            self._play("guideline_sync")
            self._play("raw_data_ingestion")
            assert self._systems.answer_all() > 0
            self._play("labeling_approval")
            self._systems.decide("quentin", "dana")
            [result] = self._play("labeling_approval")
            assert result["state"] == "approved", result["sentence"]
            self._play("dataset_release")
            self._systems.decide("rita")
            self._play("dataset_release")
            self._play("lineage_report")
        return self._systems.effects()

    def _play(self, dag_id: str) -> list[dict[str, Any]]:
        self._count += 1
        return DagRun(dag_id, f"calm-{self._count}", light=True).play().item_results


# --- Airflow, and what happens to it -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Victim:
    """A running try of a task: its own process, and the supervisor that started it and speaks for it to Airflow."""

    task: Process
    supervisor: Process
    try_number: int


@dataclass
class House:
    """A real Airflow on its systems; what is left of it ends with the test run."""

    systems: Systems
    run_folder: Path
    processes: Processes = field(init=False)
    airflow: LocalAirflow = field(init=False)
    leaders: set[Process] = field(default_factory=set)
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.processes = Processes(self.systems.home)
        self.airflow = LocalAirflow(
            home=self.systems.home / "airflow",
            port=free_port(),
            processes=self.processes,
            users={"admin": "admin", "olga": "op", "dana": "viewer"},
            extra={**self.systems.environment(), **QUICK},
        )

    def start(self) -> None:
        """Start the four components."""
        self.airflow.prepare(os.environ)
        self._start(COMPONENTS)

    def ready(self) -> None:
        """Wait for health, make the pools, switch the DAGs on."""
        self.airflow.wait_healthy()
        admin = self.airflow.client("admin")
        admin.pools()
        wait_until(lambda: set(DAGS) <= set(admin.dags()), 90, "the parsing of the DAGs", 0.5)
        for dag_id in DAGS:
            admin.unpause(dag_id)

    def _start(self, components: tuple[str, ...]) -> None:
        self.airflow.start(os.environ, components)
        self.leaders.update(self.processes.running().values())
        for leader in self.leaders:
            ends_with_run(self.run_folder, leader)

    def close(self) -> None:
        """Stop Airflow, and what a killed component left behind."""
        for process in self.left():
            process.signal(signal.SIGCONT)
        self.processes.stop_all(COMPONENTS)
        for process in self.left():
            process.signal(signal.SIGKILL)
        wait_until(lambda: not self.left(), 30, "the end of what Airflow left behind", 0.1)

    def left(self) -> list[Process]:
        """Return what lives of Airflow: the components, their tasks, and what a killed component left behind."""
        return [process for leader in self.leaders for process in leader.session()]

    # --- asking Airflow --------------------------------------------------------------------------------------------

    def client(self, user: str = "olga") -> AirflowClient:
        """Return a client; one for each thread."""
        return self.airflow.client(user)

    def headers(self, user: str) -> dict[str, str]:
        """Return the header of a signed-in user, for what the client does not call."""
        reply = requests.post(
            f"{self.airflow.url}/auth/token",
            json={"username": user, "password": self.airflow.passwords()[user]},
            timeout=30,
        )
        return {"Authorization": f"Bearer {reply.json()['access_token']}"}

    def task(self, dag_id: str, run_id: str, task_id: str, index: int = 0) -> dict[str, Any]:
        """Return one task instance; an empty one while there is none."""
        return self.client().call("GET", _instance(dag_id, run_id, task_id, index), missing={})

    def mark_success(self, dag_id: str, run_id: str, task_id: str, index: int = 0) -> None:
        """Mark a task instance successful by hand, as the button in the UI does."""
        self.client().call("PATCH", _instance(dag_id, run_id, task_id, index), {"new_state": "success"})

    def first_run(self, dag_id: str, seconds: float = 60, after: int = 0) -> str:
        """Wait for a DAG's run number ``after`` (from 0) and return its id."""
        client = self.client()
        wait_until(lambda: len(client.runs(dag_id)) > after, seconds, f"run {after + 1} of {dag_id}", 0.5)
        return str(client.runs(dag_id)[after]["dag_run_id"])

    def end_of(self, dag_id: str, run_id: str, seconds: float = 120) -> str:
        """Wait for the end of a run and return its state."""
        client = self.client()
        path = f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}"
        state = ""

        def ended() -> bool:
            nonlocal state
            state = client.call("GET", path)["state"]
            return state in ("success", "failed")

        wait_until(ended, seconds, f"the end of {dag_id} {run_id}", 0.5)
        return state

    def wait_task(self, dag_id: str, run_id: str, task_id: str, *states: str, seconds: float = 90) -> dict[str, Any]:
        """Wait until a task instance is in one of these states."""
        name = f"{task_id} of {dag_id} being {' or '.join(states)}"
        return self._wait_instance((dag_id, run_id, task_id), lambda one: one.get("state") in states, name, seconds)

    def _wait_instance(
        self, place: tuple[str, str, str], reached: Callable[[dict[str, Any]], bool], what: str, seconds: float
    ) -> dict[str, Any]:
        client = self.client()
        found: dict[str, Any] = {}

        def look() -> bool:
            nonlocal found
            found = client.call("GET", _instance(*place, 0), missing={})
            return reached(found)

        try:
            wait_until(look, seconds, what, 0.1)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; it is {found.get('state')}, try {found.get('try_number')}") from None
        return found

    # --- disturbing it ---------------------------------------------------------------------------------------------

    def victim(self, dag_id: str, run_id: str, task_id: str, try_number: int, seconds: float = 60) -> Victim:
        """Wait until a try of a task runs and return its processes."""

        def running(one: dict[str, Any]) -> bool:
            return one.get("state") == "running" and one["try_number"] == try_number and bool(one["pid"])

        found = self._wait_instance((dag_id, run_id, task_id), running, f"try {try_number} of {task_id}", seconds)
        task, supervisor = Process.of(found["pid"]), Process.of(_parent(found["pid"]))
        if task is None or supervisor is None:
            raise AssertionError(f"try {try_number} of {task_id} has ended before it could be hit")
        return Victim(task, supervisor, try_number)

    def kill(self, process: Process, number: int = signal.SIGKILL) -> None:
        """Send a signal to a process of this house; any other is refused."""
        ours = os.getsid(process.pid) in {leader.pid for leader in self.leaders}
        if not ours or not process.signal(number):
            raise AssertionError(f"process {process.pid} is none of ours, or has ended before it could be hit")

    def orphan(self, victim: Victim) -> None:
        """Kill a task's supervisor and freeze the task: Airflow will think that the task is dead, and it is not.

        In this order, while a lock holds the task: the kernel hangs up a process that is stopped when it is orphaned.
        """
        self.kill(victim.supervisor)
        wait_until(lambda: not victim.supervisor.alive(), 10, "the end of the supervisor", 0.01)
        self.kill(victim.task, signal.SIGSTOP)

    def wake(self, victim: Victim) -> None:
        """Let a frozen task go on, and wait until it has ended by itself."""
        self.kill(victim.task, signal.SIGCONT)
        self.wait_gone(victim)

    def wait_gone(self, victim: Victim, seconds: float = 60) -> None:
        """Wait until a task's process has ended."""
        wait_until(lambda: not victim.task.alive(), seconds, f"the end of the orphan {victim.task.pid}", 0.1)

    def kill_component(self, name: str) -> None:
        """Kill one of Airflow's components, and nothing that it started."""
        process = self.processes.running()[name]
        self.kill(process)
        with suppress(ChildProcessError):
            os.waitpid(process.pid, 0)

    def restart(self, name: str) -> None:
        """Start a component that was killed."""
        self._start((name,))

    def lock(self, file: Path) -> AbstractContextManager[None]:
        """Keep every other writer out of a SQLite file from now on, until the end of the ``with`` that takes this."""
        connection = sqlite3.connect(file, timeout=20, isolation_level=None, check_same_thread=False)
        connection.execute("BEGIN IMMEDIATE")

        @contextmanager
        def held() -> Iterator[None]:
            try:
                yield
            finally:
                connection.rollback()
                connection.close()

        return held()

    def wait_claim(self, use_case: str, try_number: int, seconds: float = 90) -> None:
        """Wait until a try has claimed the effect of a use case; looks every millisecond."""
        connection = sqlite3.connect(f"file:{self.systems.ledger_file}?mode=ro", uri=True, timeout=20)
        query = "SELECT count(*) FROM effect_claim WHERE use_case = ? AND try_number = ?"
        try:
            wait_until(
                lambda: connection.execute(query, (use_case, try_number)).fetchone()[0] > 0,
                seconds,
                f"the claim of {use_case} by try {try_number}",
                0.001,
            )
        finally:
            connection.close()


def reached(fault: Fault, seconds: float = 90) -> None:
    """Wait until a request is held."""
    assert fault.reached.wait(seconds), "the request that was to be held never came"


def together(*stories: Callable[[], None]) -> None:
    """Let several stories happen at the same time; raise the first one's trouble."""
    trouble: list[BaseException] = []

    def tell(story: Callable[[], None]) -> None:
        try:
            story()
        except BaseException as error:  # raised again below, in the test's own thread
            trouble.append(error)

    threads = [threading.Thread(target=tell, args=(story,), daemon=True) for story in stories]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if trouble:
        raise trouble[0]


def _instance(dag_id: str, run_id: str, task_id: str, index: int) -> str:
    place = f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}/taskInstances/{task_id}"
    return place if index < 0 else f"{place}/{index}"


def _parent(pid: int) -> int:
    return int((Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
