"""A whole small installation for tests of use cases: real hooks and operators, stand-ins over HTTP, a clock to move.

The steps are the operators of the DAGs, executed one by one with a context of our own. What Airflow adds (order,
retries) is left to the test, which may so leave a step out, repeat it, or kill it.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from airflow.sdk.exceptions import AirflowSkipException

from include.bpmn.mapping import load_mapping
from include.projects.load import load_project
from include.projects.model import Project
from include.run.run import Run
from include.sandbox import world
from include.sandbox.opentext.person import Person
from include.sandbox.prodigy_schema import import_jsonl
from include.settings import ROOT
from include.systems.confluence.client import ConfluenceClient
from include.systems.opentext.client import OpenTextClient
from include.systems.prodigy.client import ProdigyClient
from labelops import runtime
from labelops.flow import LIST, Gate
from labelops.hooks.confluence import ConfluenceHook
from labelops.hooks.opentext import OpenTextWorkflowHook
from labelops.hooks.prodigy import ProdigyHook
from tests.integration.airflow_house import CLIENT, PROJECT, Systems, environment
from tests.runner import DagRun, context, the_use_case
from tests.workers import once

Result = Any


class House(Systems):
    """One installation with the project ``ticket_topics``.

    :ivar later: how far the clock of the steps is ahead of the real one.
    """

    def __init__(self, home: Path, prodigy_url: str | None = None) -> None:
        super().__init__(home, prodigy_url)
        self.later = timedelta()
        self.register_file = home / "register.yaml"
        self.register_file.write_bytes((ROOT / "include" / "projects" / "register.yaml").read_bytes())
        self._series, self._runs, self._policies = uuid4().hex[:6], 0, 0

    def environment(self) -> dict[str, str]:
        """Return the environment that makes Labelops work here."""
        return {**super().environment(), "LABELOPS_REGISTER": str(self.register_file)}

    # --- settings --------------------------------------------------------------------------------------------------

    @property
    def project(self) -> Project:
        """Return the project as its file has it now."""
        return load_project(self.home / "projects", PROJECT)

    def change_project(self, **sections: Mapping[str, Any]) -> None:
        """Change keys in sections of the project's file."""
        place = self.home / "projects" / f"{PROJECT}.yaml"
        value = yaml.safe_load(place.read_text("utf-8"))
        for name, changes in sections.items():
            value[name] = {**value.get(name, {}), **changes}
        if "policy" in sections:
            self._policies += 1
            told = {"changed_by": "olga", "reason": f"change {self._policies}"}
            value["policy"] = {**value["policy"], **told, **sections["policy"]}
        place.write_text(yaml.safe_dump(value), "utf-8")

    def change_owner(self, person: str) -> None:
        """Let somebody else answer for the project."""
        self._change("owner", person)

    def change_version(self, holds: str) -> None:
        """Let the project's versions be a ``dataset``, or a ``batch`` each."""
        self._change("version", holds)

    def _change(self, key: str, said: str) -> None:
        place = self.home / "projects" / f"{PROJECT}.yaml"
        value = yaml.safe_load(place.read_text("utf-8"))
        place.write_text(yaml.safe_dump({**value, key: said}), "utf-8")

    def change_register(self, person: str, **changes: Any) -> None:
        """Change or add a person of the register."""
        value = yaml.safe_load(self.register_file.read_text("utf-8"))
        found = next((one for one in value["persons"] if one["id"] == person), None)
        if found is None:
            found = {"id": person, "name": person.capitalize(), "accounts": {}, "roles": []}
            value["persons"].append(found)
        found.update(changes)
        self.register_file.write_text(yaml.safe_dump(value), "utf-8")

    def add_deputy(self) -> None:
        """Add a second data owner, so that dana is not the only one who could approve."""
        self.change_register("theo", accounts={"opentext": ["theo@people.example"]}, roles=[{"role": "data_owner"}])

    # --- steps -----------------------------------------------------------------------------------------------------

    def run_id(self) -> str:
        """Return the id of a new run."""
        self._runs += 1
        return f"manual__{self._series}_{self._runs:03}"

    def context(self, dag_id: str, task_id: str, run_id: str, **more: Any) -> Any:
        """Return what a task instance's context holds, as far as our operators read it."""
        return context(dag_id, task_id, run_id, **more)

    def run(self, dag_id: str = "test", task_id: str = "step", run_id: str = "manual__x", **more: Any) -> Run:
        """Return a run as a task would have it."""
        return runtime.run_of(self.context(dag_id, task_id, run_id, **more))

    def confluence_client(self) -> ConfluenceClient:
        """Return a client of the local Confluence."""
        return ConfluenceHook().get_conn()

    def prodigy(self) -> ProdigyClient:
        """Return a client of Prodigy's database."""
        return ProdigyHook().get_conn()

    def opentext_client(self) -> OpenTextClient:
        """Return a client of the local OpenText."""
        return OpenTextWorkflowHook().get_conn()

    # --- DAGs --------------------------------------------------------------------------------------------------------

    def play(self, dag_id: str, **conf: Any) -> list[dict[str, Any]]:
        """Do what a run of a DAG does; return the items' results. What fails is raised.

        :param conf: run parameters, and ``by``, who triggered it.
        """
        return DagRun(dag_id, self.run_id(), conf, light=True).play().item_results

    def items(self, dag_id: str, run_id: str | None = None, **conf: Any) -> list[dict[str, Any]]:
        """List the work of a DAG."""
        run_id = run_id or self.run_id()
        return self._do(the_use_case(dag_id).lister(), self.context(dag_id, LIST, run_id, **conf)) or []

    def step(
        self, dag_id: str, name: str, item: Any, run_id: str, *, given: Any = None, gate: Any = None, **conf: Any
    ) -> Result:
        """Do one step of one item; None where it skips."""
        case = the_use_case(dag_id)
        gates = {one.name for one in case.steps if isinstance(one, Gate)}
        task = case.task(name, item, lambda of: gate if of in gates else given)
        return self._do(task, self.context(dag_id, f"{case.unit}.{name}", run_id, **conf))

    def _do(self, operator: Any, found: Any) -> Result:
        try:
            return operator.execute(found)
        except AirflowSkipException:
            return None

    def sync_guidelines(self) -> Result:
        """Run ``guideline_sync``; None when nothing is new."""
        return next(iter(self.play("guideline_sync")), None)

    def ingest(self) -> Result:
        """Run ``raw_data_ingestion``; None when no file is new."""
        return next(iter(self.play("raw_data_ingestion")), None)

    def approve_run(self, **conf: Any) -> list[dict[str, Any]]:
        """Run ``labeling_approval``; return the items' results."""
        return self.play("labeling_approval", **conf)

    def judged(self) -> list[dict[str, Any]]:
        """Run ``labeling_approval``, and a grace later again where a judgement has to be seen twice."""
        found = self.approve_run()
        if all(one["state"] != "unsettled" for one in found):
            return found
        self.later += timedelta(minutes=11)
        return self.approve_run()

    def release_run(self, **conf: Any) -> list[dict[str, Any]]:
        """Run ``dataset_release``; return the items' results."""
        return self.play("dataset_release", **conf)

    def report(self) -> Result:
        """Run ``lineage_report``."""
        [result] = self.play("lineage_report")
        return result

    # --- people ----------------------------------------------------------------------------------------------------

    def person(self, name: str) -> Person:
        """Return a person signed in at OpenText."""
        return Person(self.opentext_url, f"{name}@people.example", f"{world.PASSWORD}{name}", CLIENT)

    def say(self, name: str, outcome: str, *, comment: bool = True) -> None:
        """Let a person decide the one task that waits for them, attesting the digest in a comment."""
        person = self.person(name)
        [task] = person.tasks()
        self._decide(person, task, outcome, comment=comment)

    def say_all(self, name: str, outcome: str) -> None:
        """Let a person decide every task that waits for them."""
        person = self.person(name)
        for task in person.tasks():
            self._decide(person, task, outcome)

    def _decide(self, person: Person, task: Any, outcome: str, *, comment: bool = True) -> None:
        variables = {one["name"]: one.get("value") for one in task["variables"]}
        digest = str(variables[load_mapping("default").labeling_approval.digest_variable])
        person.claim(task["id"])
        if comment:
            person.comment(task["processInstanceId"], f"{outcome} {digest[:12]}")
        person.complete(task["id"], outcome)

    def answer(self, rows: list[dict[str, Any]]) -> int:
        """Save rows as Prodigy does."""
        return import_jsonl(self.prodigy_url, self.project.answers, rows)

    # --- stages ----------------------------------------------------------------------------------------------------

    def labelled(self) -> House:
        """Bring guideline, tasks and everybody's answers in."""
        self.sync_guidelines()
        self.ingest()
        self.answer_all()
        return self

    def approve(self) -> Result:
        """Let both approvers approve, and put that on the ledger."""
        self.say("quentin", "approved")
        self.say("dana", "approved")
        [result] = self.approve_run()
        return result

    def approve_for_airflow(self) -> Result:
        """Ask and approve where the project lets Airflow release what is approved."""
        self.change_project(release={"orchestrator": "airflow"})
        self.approve_run()
        return self.approve()

    def release(self) -> Result:
        """Release the version that was approved."""
        self.release_run()
        self.say("rita", "released")
        [result] = self.release_run()
        return result

    # --- what there is ---------------------------------------------------------------------------------------------

    def events(self, *actions: str) -> list[Any]:
        """Return the events of these actions."""
        ledger = self.ledger()
        try:
            return list(ledger.events(actions=actions or None))
        finally:
            ledger.close()

    def version(self) -> Any:
        """Return the last version."""
        ledger = self.ledger()
        try:
            return ledger.versions(PROJECT)[-1]
        finally:
            ledger.close()

    def snapshot(self) -> dict[str, Any]:
        """Return everything in all systems that a quiet run must leave as it is."""
        store = self.home / "store"
        return {
            "confluence": self.confluence.snapshot(),
            "opentext": self.opentext.state.counts(),
            "prodigy": [
                self.read(self.prodigy_file, f"SELECT * FROM {table} ORDER BY id")
                for table in ("dataset", "example", "link")
            ],
            "files": {
                str(path.relative_to(store)): path.read_bytes()
                for path in sorted(store.rglob("*"))
                if path.is_file() and path.relative_to(store).parts[0] not in ("staging", "gates")
            },
            "versions": self.read(self.ledger_file, "SELECT * FROM dataset_version"),
        }


@contextmanager
def clock_of(made: House) -> Iterator[None]:
    """Let the desks of this process and its forks read the installation's clock."""
    open_desk = runtime.run_of

    def run(context: Any) -> Run:
        found = open_desk(context)
        found.now = lambda: datetime.now(UTC) + made.later
        return found

    runtime.run_of = run
    try:
        yield
    finally:
        runtime.run_of = open_desk


@contextmanager
def opened(made: House) -> Iterator[House]:
    """Let the steps work in this installation, by its clock."""
    with environment(made.environment()), clock_of(made):
        try:
            yield made
        finally:
            made.close()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A seeded installation, before anything was run in it."""
    with opened(House(tmp_path / "house")) as made:
        made.seed()
        yield made


def _template(folder: Path, stage: str, start: Path | None = None) -> Path:
    """Return a closed installation at a stage; the first of the run's processes that asks makes it."""

    def make() -> str:
        home = Path(tempfile.mkdtemp(dir=folder)) / "house"
        if start is not None:
            shutil.copytree(start, home)
        with opened(House(home)) as made:
            if start is None:
                made.seed()
            getattr(made, stage)()
        return str(home)

    return Path(once(folder, f"{stage}.home", make))


@pytest.fixture(scope="session")
def labelled_home(run_folder: Path) -> Path:
    """A closed installation in which everything is labelled."""
    return _template(run_folder, "labelled")


@pytest.fixture(scope="session")
def asked_home(run_folder: Path, labelled_home: Path) -> Path:
    """A closed installation in which the approvers were asked."""
    return _template(run_folder, "approve_run", labelled_home)


@pytest.fixture(scope="session")
def approved_home(run_folder: Path, asked_home: Path) -> Path:
    """A closed installation in which both approvers approved."""
    return _template(run_folder, "approve", asked_home)


@pytest.fixture(scope="session")
def airflow_approved_home(run_folder: Path, labelled_home: Path) -> Path:
    """A closed installation in which both approvers approved and Airflow releases."""
    return _template(run_folder, "approve_for_airflow", labelled_home)


@contextmanager
def copied(home: Path, template: Path) -> Iterator[House]:
    """Open a copy of a closed installation."""
    shutil.copytree(template, home)
    with opened(House(home)) as made:
        yield made


@pytest.fixture
def labelled(tmp_path: Path, labelled_home: Path) -> Iterator[House]:
    """An installation in which everything is labelled."""
    with copied(tmp_path / "house", labelled_home) as made:
        yield made


@pytest.fixture
def asked(tmp_path: Path, asked_home: Path) -> Iterator[House]:
    """An installation in which the approvers were asked."""
    with copied(tmp_path / "house", asked_home) as made:
        yield made


@pytest.fixture
def approved(tmp_path: Path, approved_home: Path) -> Iterator[House]:
    """An installation in which both approvers approved, and that is on the ledger."""
    with copied(tmp_path / "house", approved_home) as made:
        yield made


@pytest.fixture
def airflow_approved(tmp_path: Path, airflow_approved_home: Path) -> Iterator[House]:
    """An installation in which both approvers approved, and Airflow releases by itself."""
    with copied(tmp_path / "house", airflow_approved_home) as made:
        made.change_project(release={"orchestrator": "airflow"})
        yield made


def raw(path: Path) -> Any:
    """Return a JSON file."""
    return json.loads(path.read_bytes())
