"""The demo: local stand-ins, a local Airflow, people at work, and a table of what came of it."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from include.base.errors import LabelopsError
from include.base.signing import make_key, read_signer
from include.base.store import atomic_write
from include.bpmn.mapping import load_mapping
from include.sandbox import world
from include.sandbox.airflow import COMPONENTS, AirflowClient, LocalAirflow
from include.sandbox.people.annotators import Annotator, product_names, ticket_topics
from include.sandbox.people.approvers import Approver, Approvers
from include.sandbox.processes import Processes, free_port, wait_until
from include.settings import ROOT
from include.systems.opentext.client import OpenTextClient
from include.systems.opentext.settings import Settings

__all__ = ["Demo"]

DAGS = tuple(sorted(path.stem for path in (ROOT / "dags").glob("*.py")))
LONGEST = 420
MOMENT = 12.0
CLIENT = {"id": "labelops-service", "secret": "sandbox-secret-of-labelops"}
FAKE_PRODIGY = ROOT / "include" / "sandbox" / "fake_prodigy"
KIT = ROOT / "include" / "prodigy_kit"


@dataclass
class Demo:
    """One demo in one home folder; its state outlives it, so that a second run finds nothing to do.

    :param home: folder of everything it makes.
    :param say: prints a line for the person at the terminal.
    """

    home: Path
    say: Callable[[str], None] = field(default=print)

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        self.processes = Processes(self.home)
        self.ports = self._ports()
        self.airflow = LocalAirflow(
            home=self.home / "airflow",
            port=self.ports["airflow"],
            processes=self.processes,
            users={"admin": "admin", "olga": "op", "dana": "viewer"},
            extra=self._environment(),
        )

    # --- what runs where -------------------------------------------------------------------------------------------

    @property
    def confluence(self) -> str:
        """Return the local Confluence's address."""
        return f"http://127.0.0.1:{self.ports['confluence']}"

    @property
    def opentext(self) -> str:
        """Return the local OpenText's address."""
        return f"http://127.0.0.1:{self.ports['opentext']}"

    def prodigy(self, project: str) -> str:
        """Return the address of a project's annotation server."""
        return f"http://127.0.0.1:{self.ports[project]}"

    def _ports(self) -> dict[str, int]:
        """Choose ports once; a port that somebody else took since is chosen anew."""
        import socket

        names = ("airflow", "confluence", "opentext", "ticket_topics", "product_names")
        place = self.home / "ports.json"
        known: dict[str, int] = json.loads(place.read_text("utf-8")) if place.exists() else {}
        ours = bool(self.processes.running())
        for name in names:
            chosen = os.environ.get(f"LABELOPS_{name.upper()}_PORT")
            taken = False
            if name in known and not ours and not chosen:
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    try:
                        probe.bind(("127.0.0.1", known[name]))
                    except OSError:
                        taken = True
            if chosen or taken or name not in known:
                known[name] = free_port(chosen)
        atomic_write(place, json.dumps(known).encode("utf-8"))
        return known

    def _environment(self) -> dict[str, str]:
        def connection(**parts: Any) -> str:
            return json.dumps(parts)

        return {
            "LABELOPS_HOME": str(self.home),
            "LABELOPS_SCHEDULES": "off",
            "LABELOPS_SCHEDULE_FILE": str(self.home / "schedules.yaml"),
            "LABELOPS_RETRY_SECONDS": "3",
            "LABELOPS_SIGNING_KEY": str(self.home / "signing.pem"),
            "AIRFLOW_CONN_CONFLUENCE_DEFAULT": connection(
                conn_type="confluence",
                host=self.confluence,
                login="labelops@people.example",
                password=f"{world.TOKEN}labelops",
            ),
            "AIRFLOW_CONN_PRODIGY_DEFAULT": connection(
                conn_type="prodigy", extra={"engine": "sqlite", "path": str(self.home / "prodigy" / "prodigy.db")}
            ),
            "AIRFLOW_CONN_OPENTEXT_DEFAULT": connection(
                conn_type="opentext",
                host=self.opentext,
                login=CLIENT["id"],
                password=CLIENT["secret"],
                extra={"tenant_id": "sandbox", "process_page": f"{self.opentext}/processes/{{id}}"},
            ),
        }

    # --- commands --------------------------------------------------------------------------------------------------

    def run(self, *, stay: bool = False) -> int:
        """Do everything; return 0 only if every run succeeded. ``stay`` leaves it running."""
        began = time.monotonic()
        if self.processes.running():
            self.say("Something of this folder is running already: `make down` stops it.")
            return 1
        try:
            self.start()
            before = self.snapshot()
            runs = self._play()
            after = self.snapshot()
            code = self._report(runs, before, after, time.monotonic() - began)
        except BaseException as error:
            self._stop_all()
            if isinstance(error, (LabelopsError, TimeoutError)):
                self.say(f"The demo stopped: {error}\nLogs: {self.processes.logs}")
                return 1
            raise
        if stay:
            self._addresses()
        else:
            self._stop_all()
        return code

    def down(self) -> list[str]:
        """Stop what runs; return the names."""
        return self._stop_all()

    def start(self) -> None:
        """Start the stand-ins and Airflow, and put into them what they start from."""
        from include.governance.ledger import Ledger
        from include.sandbox.prodigy_schema import create_schema

        self.say("Starting the local Confluence and OpenText …")
        users = self.home / "confluence-users.json"
        users.write_text(json.dumps(world.confluence_users()), "utf-8")
        people = self.home / "opentext-users.json"
        people.write_text(json.dumps({"users": world.opentext_users(), "clients": [CLIENT]}), "utf-8")
        for name, listing in (("confluence", users), ("opentext", people)):
            state = self.home / name
            state.mkdir(exist_ok=True)
            command = [
                sys.executable, "-m", f"include.sandbox.{name}",
                "--port", str(self.ports[name]), "--state", str(state), "--users", str(listing),
            ]  # fmt: skip
            self.processes.start(name, command, {**os.environ, "PYTHONPATH": str(ROOT)}, ROOT)
        for name, url in (("confluence", self.confluence), ("opentext", self.opentext)):
            self._wait_for(f"{url}/_sandbox/snapshot", f"the local {name}")
        world.seed_confluence(self.confluence)
        token_url = f"{self.opentext}/tenants/sandbox/oauth2/token"
        world.seed_opentext(OpenTextClient(Settings(self.opentext, CLIENT["id"], CLIENT["secret"], token_url)))
        world.seed_sources(self.home / "sources")
        (self.home / "schedules.yaml").write_text(
            "cron: {}\nitems_per_run: 500\nanswers_probe_seconds: 2\ndecision_poll_seconds: 2\nstaging_days: 14\n",
            "utf-8",
        )
        database = self.home / "prodigy" / "prodigy.db"
        if not database.exists():
            database.parent.mkdir(exist_ok=True)
            create_schema(f"sqlite:///{database}")
        Ledger(f"sqlite:///{self.home / 'ledger.db'}").migrate()
        if not (self.home / "signing.pem").exists():
            make_key(self.home / "signing.pem")
        self.say("Starting Airflow: api-server, scheduler, dag-processor, triggerer …")
        self.airflow.prepare(os.environ)
        self.airflow.start(os.environ)
        self.airflow.wait_healthy()
        client = self.airflow.client("admin")
        client.pools()
        wait_until(lambda: set(DAGS) <= set(client.dags()), 90, "the parsing of the DAGs", 0.5)
        for dag_id in DAGS:
            client.unpause(dag_id)

    def _wait_for(self, url: str, what: str) -> None:
        wait_until(lambda: _answers(url), 30, f"the start of {what}")

    # --- the play --------------------------------------------------------------------------------------------------

    def _play(self) -> list[dict[str, Any]]:
        client = self.airflow.client("olga")
        known = {(dag_id, run["dag_run_id"]) for dag_id in DAGS for run in client.runs(dag_id)}
        watch = _Watch(client, known, self.say)
        self.say("olga triggers guideline_sync and raw_data_ingestion.")
        for dag_id in ("guideline_sync", "raw_data_ingestion"):
            client.trigger(dag_id)
        watch.until_quiet(("guideline_sync", "raw_data_ingestion"), 180)
        mappings = load_mapping("default")
        approvers = {name: Approver(self._person(name), mappings, MOMENT) for name in ("quentin", "dana", "rita")}
        desk = Approvers(approvers)
        try:
            with desk:
                if not self._label():
                    self.say("Nothing waits to be labelled. olga triggers the other DAGs by hand.")
                    for dag_id in ("labeling_approval", "dataset_release", "lineage_report"):
                        client.trigger(dag_id)
                        watch.until_quiet((dag_id,), 120)
                watch.until_settled(LONGEST, self._settled)
        finally:
            for name, approver in approvers.items():
                for decided in approver.decided:
                    self.say(f"  {name} decided {decided}")
            for trouble in desk.trouble:
                self.say(f"  trouble: {trouble}")
        return watch.runs()

    def _person(self, name: str) -> Any:
        from include.sandbox.opentext.person import Person

        return Person(self.opentext, f"{name}@people.example", f"{world.PASSWORD}{name}", CLIENT)

    def _label(self) -> int:
        """Let annotators work through the kit's recipe until nothing waits; return how many answers they saved."""
        crews = {
            "ticket_topics": (("choice", "billing,delivery,account,other", 2), ("anna", "ben"), ticket_topics),
            "product_names": (("ner", "PRODUCT,MAKER", 1), ("carla",), product_names),
        }
        for project, ((interface, labels, answers), persons, _) in crews.items():
            self._start_prodigy(project, persons, interface, labels, answers)
        threads, saved = [], []
        for project, (_, persons, rule) in crews.items():
            self._wait_for(f"{self.prodigy(project)}/health", f"Prodigy for {project}")
            for person in persons:
                annotator = Annotator(person, self.prodigy(project), rule(person))
                threads.append(
                    threading.Thread(
                        target=lambda a=annotator, p=project: saved.append((p, a.name, a.label_until_done(4.0)))
                    )
                )
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for project, person, done in sorted(saved, key=lambda one: one[:2]):
            self.say(f"  {person} saved {done.answers} answer(s) for {project} through labelops.serve")
        return sum(done.answers for _, _, done in saved)

    def _start_prodigy(self, project: str, persons: Sequence[str], interface: str, labels: str, answers: int) -> None:
        state = self.home / "prodigy" / project
        state.mkdir(parents=True, exist_ok=True)
        publication = self.home / "store" / "publications" / project / "guidelines"
        env = {
            **os.environ,
            "PYTHONPATH": f"{FAKE_PRODIGY}:{ROOT}",
            "PRODIGY_HOST": "127.0.0.1",
            "PRODIGY_PORT": str(self.ports[project]),
            "PRODIGY_ALLOWED_SESSIONS": ",".join(persons),
            "PRODIGY_CONFIG_OVERRIDES": json.dumps(
                {"db": "sqlite", "db_settings": {"sqlite": {"name": "prodigy.db", "path": str(self.home / "prodigy")}}}
            ),
        }
        command = [
            sys.executable, str(KIT / "supervisor.py"), "start", "--state", str(state),
            "--publication", str(publication), "--quiet", "2", "--poll", "0.5", "--",
            sys.executable, "-m", "prodigy", "labelops.serve", project, "--publication", str(publication),
            "--labels", labels, "--interface", interface, "--answers-per-task", str(answers), "--round", "1",
            "-F", str(KIT / "recipes.py"),
        ]  # fmt: skip
        self.processes.start(f"prodigy-{project}", command, env, ROOT)

    def _settled(self) -> bool:
        """Tell whether every version is released or ended, and every wait is over."""
        from include.governance.ledger import Ledger

        ledger = Ledger(f"sqlite:///{self.home / 'ledger.db'}")
        try:
            for project in ("ticket_topics", "product_names"):
                frozen = {event.subject for event in ledger.events(project=project, actions=["batch.frozen"])}
                assigned = {event.subject for event in ledger.events(project=project, actions=["batch.assigned"])}
                released = {event.subject for event in ledger.events(project=project, actions=["release.done"])}
                versions = {f"version:{one.digest}" for one in ledger.versions(project)}
                if not assigned or assigned != frozen or versions != released:
                    return False
                last = [event.seq for event in ledger.events(project=project, actions=["release.done"])]
                reported = [event.seq for event in ledger.events(project=project, actions=["report.published"])]
                if not reported or max(reported) < max(last):
                    return False
            return True
        finally:
            ledger.close()

    # --- what came of it -------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, str]:
        """Return everything Labelops may have made, by name, with what tells one state of it from another."""
        found: dict[str, str] = {}
        for system, url in (("confluence", self.confluence), ("opentext", self.opentext)):
            flat = requests.get(f"{url}/_sandbox/snapshot", timeout=30).json()
            for kind, value in flat.items():
                entries = value.items() if isinstance(value, Mapping) else [("count", value)]
                found.update({f"{system}/{kind}/{key}": json.dumps(state) for key, state in entries})
        with sqlite3.connect(f"file:{self.home / 'prodigy' / 'prodigy.db'}?mode=ro", uri=True) as database:
            for dataset, count, last in database.execute(
                "SELECT d.name, count(l.id), max(l.id) FROM dataset d LEFT JOIN link l ON l.dataset_id = d.id "
                "WHERE d.session = 0 GROUP BY d.name"
            ):
                found[f"prodigy/{dataset}"] = f"{count} {last}"
        store = self.home / "store"
        for path in sorted(store.rglob("*")) if store.exists() else []:
            part = path.relative_to(store).parts[0]
            kept = part in ("publications", "versions", "releases", "quarantine", "objects")
            if path.is_file() and kept and "activations" not in path.parts:
                found[f"store/{path.relative_to(store)}"] = f"{path.stat().st_size} {path.stat().st_mtime_ns}"
        return found

    def _report(
        self, runs: list[dict[str, Any]], before: Mapping[str, str], after: Mapping[str, str], seconds: float
    ) -> int:
        rows = [("DAG", "run", "state", "seconds", "created or changed", "where to see it")]
        created = updated = 0
        for run in runs:
            created += run["created"]
            updated += run["updated"]
            rows.append(
                (run["dag_id"], run["run"], run["state"], f"{run['seconds']:.0f}", run["effects"], run["where"])
            )
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        self.say("")
        for row in rows:
            self.say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        self.say("")
        changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
        if not created and not updated and changed:
            self.say("The runs report no effect, but these changed: " + ", ".join(changed[:10]))
            return 1
        failed = [run for run in runs if run["state"] != "success"]
        self.say(f"All of it took {seconds:.0f} s; {len(runs)} runs, {len(failed)} failed.")
        if not self._settled():
            self.say("Not everything was released and reported.")
            failed.append({})
        failed += [
            {} for release in sorted((self.home / "store" / "releases").glob("*/v*")) if not self._vouched(release)
        ]
        self.say(f"effects: {created} created, {updated} updated")
        return 1 if failed else 0

    def _vouched(self, release: Path) -> bool:
        """Check a release as whoever receives it would: the folder alone, elsewhere, with the public key in hand."""
        with tempfile.TemporaryDirectory(prefix="labelops-received-") as place:
            received = shutil.copytree(release, Path(place) / release.name)
            key = Path(place) / "public.pem"
            key.write_bytes(read_signer(self.home / "signing.pem").public.pem)
            command = [sys.executable, "-m", "labelops", "verify-release", str(received), "--public-key", str(key)]
            clean = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'plugins'}"}
            done = subprocess.run(command, env=clean, capture_output=True, text=True, timeout=120)
        self.say((done.stdout or done.stderr).strip())
        return done.returncode == 0

    def _addresses(self) -> None:
        passwords = self.airflow.passwords()
        self.say("\nStill running; `make down` stops it.")
        self.say(f"  Airflow     {self.airflow.url}   admin / {passwords['admin']}   (olga / {passwords['olga']})")
        self.say(f"  Confluence  {self.confluence}/wiki")
        self.say(f"  OpenText    {self.opentext}")
        for project in ("ticket_topics", "product_names"):
            if f"prodigy-{project}" in self.processes.running():
                self.say(f"  Prodigy     {self.prodigy(project)}   ({project})")
        self.say(f"  Store       {self.home / 'store'}")

    def _stop_all(self) -> list[str]:
        order = [name for name in self.processes.running() if name.startswith("prodigy")]
        return self.processes.stop_all([*order, *COMPONENTS])


class _Watch:
    """Follows the runs that began since the demo did, one line for each that ends."""

    def __init__(self, client: AirflowClient, known: set[tuple[str, str]], say: Callable[[str], None]) -> None:
        self._client = client
        self._known = known
        self._say = say
        self._told: set[tuple[str, str]] = set()

    def _new(self) -> list[dict[str, Any]]:
        found = []
        for dag_id in DAGS:
            found += [run for run in self._client.runs(dag_id) if (dag_id, run["dag_run_id"]) not in self._known]
        for run in found:
            name = (run["dag_id"], run["dag_run_id"])
            if run["state"] in ("success", "failed") and name not in self._told:
                self._told.add(name)
                self._say(f"  {run['dag_id']}: {run['state']} ({run['dag_run_id']})")
        return found

    def until_quiet(self, dag_ids: tuple[str, ...], seconds: float) -> None:
        """Wait until each of these DAGs has a run that ended and none that goes on."""

        def quiet() -> bool:
            runs = self._new()
            return all(
                (mine := [run for run in runs if run["dag_id"] == dag_id])
                and all(run["state"] in ("success", "failed") for run in mine)
                for dag_id in dag_ids
            )

        wait_until(quiet, seconds, f"the end of {', '.join(dag_ids)}", 1.0)

    def until_settled(self, seconds: float, settled: Callable[[], bool]) -> None:
        """Wait until nothing runs and the work is done, or a run failed."""

        def done() -> bool:
            runs = self._new()
            if any(run["state"] in ("queued", "running") for run in runs):
                return False
            return settled() or any(run["state"] == "failed" for run in runs)

        wait_until(done, seconds, "the release of everything that was labelled", 1.5)
        time.sleep(3)  # an asset event may still start a run
        wait_until(done, 120, "the end of the last runs", 1.5)

    def runs(self) -> list[dict[str, Any]]:
        """Return the table's rows, in the order in which the runs began."""
        rows = []
        for run in sorted(self._new(), key=lambda run: run["start_date"] or ""):
            task = "wait" if run["dag_id"] == "decision_wait" else "announce"
            summary = self._client.xcom(run["dag_id"], run["dag_run_id"], task, "summary") or {}
            results = summary.get("results", [])
            rows.append(
                {
                    "dag_id": run["dag_id"],
                    "run": run["run_type"],
                    "state": run["state"],
                    "seconds": run["duration"] or 0.0,
                    "created": summary.get("created", 0),
                    "updated": summary.get("updated", 0),
                    "effects": "; ".join(_words(one) for one in results) or "nothing changed",
                    "where": _where(results) or f"{self._client.url}/dags/{run['dag_id']}/runs/{run['dag_run_id']}",
                }
            )
        return rows


def _where(results: Sequence[Mapping[str, Any]]) -> str:
    """Return where a person can see the first result that changed something, else the first that is anywhere."""
    seen = sorted((one for one in results if one["where"]), key=lambda one: not (one["created"] or one["updated"]))
    return str(seen[0]["where"]) if seen else ""


def _words(result: Mapping[str, Any]) -> str:
    counts = f" +{result['created']}" if result["created"] else ""
    counts += f" ~{result['updated']}" if result["updated"] else ""
    return f"{result['project']} {result['state']}{counts}"


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.RequestException:
        return False
