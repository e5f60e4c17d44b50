"""A whole small installation for tests of use cases: real hooks and operators, stand-ins over HTTP, a clock to move.

The steps are the operators of the DAGs, executed one by one with a context of our own. What Airflow adds (order,
retries) is left to the test, which may so leave a step out, repeat it, or kill it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
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
from labelops import runtime
from labelops.hooks.confluence import ConfluenceHook
from labelops.hooks.opentext import OpenTextWorkflowHook
from labelops.hooks.prodigy import ProdigyHook
from labelops.operators import dataset_release, guideline_sync, labeling_approval, lineage_report, raw_data_ingestion
from labelops.operators.gate import GateOperator
from tests.integration.airflow_house import CLIENT, PROJECT, Systems, environment

Result = Any


class House(Systems):
    """One installation with the project ``ticket_topics``.

    :ivar later: how far the clock of the steps is ahead of the real one.
    """

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.later = timedelta()
        self.register_file = home / "register.yaml"
        self.register_file.write_bytes((ROOT / "include" / "projects" / "register.yaml").read_bytes())
        self._series, self._runs = uuid4().hex[:6], 0

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
        place.write_text(yaml.safe_dump(value), "utf-8")

    def change_register(self, person: str, **changes: Any) -> None:
        """Change or add a person of the register."""
        value = yaml.safe_load(self.register_file.read_text("utf-8"))
        found = next((one for one in value["persons"] if one["id"] == person), None)
        if found is None:
            found = {"id": person, "name": person.capitalize(), "accounts": {}, "roles": []}
            value["persons"].append(found)
        found.update(changes)
        self.register_file.write_text(yaml.safe_dump(value), "utf-8")

    # --- steps -----------------------------------------------------------------------------------------------------

    def run_id(self) -> str:
        """Return the id of a new run."""
        self._runs += 1
        return f"manual__{self._series}_{self._runs:03}"

    def context(
        self, dag_id: str, task_id: str, run_id: str, *, by: str | None = None, try_number: int = 1, **params: Any
    ) -> Any:
        """Return what a task instance's context holds, as far as our operators read it."""
        ti = SimpleNamespace(dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=0, try_number=try_number)
        moment = datetime.now(UTC)
        return {
            "ti": ti,
            "dag_run": SimpleNamespace(run_id=run_id, triggering_user_name=by, conf={}, run_after=moment),
            "dag": SimpleNamespace(dag_id=dag_id, params={"project": None, **params}),
            "params": {"project": None, **params},
        }

    def run(self, dag_id: str = "test", task_id: str = "step", run_id: str = "manual__x", **more: Any) -> Run:
        """Return a run as a task would have it."""
        return runtime.run_of(self.context(dag_id, task_id, run_id, **more))

    def confluence_hook(self) -> ConfluenceHook:
        """Return a hook to the local Confluence."""
        return ConfluenceHook()

    def prodigy(self) -> ProdigyHook:
        """Return a hook to Prodigy's database."""
        return ProdigyHook()

    def opentext_hook(self) -> OpenTextWorkflowHook:
        """Return a hook to the local OpenText."""
        return OpenTextWorkflowHook()

    def gate(self, suite: str, item: Any, staged: Any, dag_id: str, run_id: str, **more: Any) -> Result:
        """Run the gate operator."""
        return self._do(GateOperator(task_id="gate", suite=suite, staged=staged, project=item), dag_id, run_id, **more)

    def _do(self, operator: Any, dag_id: str, run_id: str, **more: Any) -> Result:
        """Execute one operator; None where it skips."""
        try:
            return operator.execute(self.context(dag_id, operator.task_id, run_id, **more))
        except AirflowSkipException:
            return None

    def items(self, kind: type, dag_id: str, run_id: str, **more: Any) -> list[dict[str, Any]]:
        """List the work of a DAG."""
        subject = {"labeling_approval": "batch", "dataset_release": "version"}.get(dag_id, "source")
        return self._do(kind(task_id="list_work", default_subject=subject), dag_id, run_id, **more) or []

    # --- DAGs, step by step ----------------------------------------------------------------------------------------

    def sync_guidelines(self) -> Result:
        """Do what a run of ``guideline_sync`` does; None when nothing is new."""
        dag, run = "guideline_sync", self.run_id()
        [item] = self.items(guideline_sync.ListGuidelinesOperator, dag, run)
        given = self._do(guideline_sync.CollectGuidelinesOperator(task_id="collect", item=item), dag, run)
        if given is None:
            return None
        passed = self.gate("guideline_pages", item, given, dag, run)
        return self._do(
            guideline_sync.PublishGuidelinesOperator(task_id="publish", item=item, given=given, gate=passed), dag, run
        )

    def ingest(self) -> Result:
        """Do what a run of ``raw_data_ingestion`` does; None when no file is new."""
        dag, run = "raw_data_ingestion", self.run_id()
        [item] = self.items(raw_data_ingestion.ListSourcesOperator, dag, run)
        given = self._do(raw_data_ingestion.ReadSourcesOperator(task_id="read", item=item), dag, run)
        if given is None:
            return None
        passed = self.gate("raw_tasks", item, given, dag, run)
        return self._do(
            raw_data_ingestion.LoadTasksOperator(task_id="load", item=item, given=given, gate=passed), dag, run
        )

    def approvals(self, **params: Any) -> list[dict[str, Any]]:
        """List the open approvals and the finished batches."""
        return self.items(labeling_approval.ListApprovalsOperator, "labeling_approval", self.run_id(), **params)

    def freeze(self, item: Any, run: str, **more: Any) -> Result:
        """Freeze one item."""
        step = labeling_approval.FreezeVersionOperator(task_id="version.freeze", item=item)
        return self._do(step, "labeling_approval", run, **more)

    def request(self, item: Any, frozen: Any, gate: Any, run: str, **more: Any) -> Result:
        """Ask the approvers."""
        step = labeling_approval.RequestApprovalOperator(task_id="version.request", item=item, given=frozen, gate=gate)
        return self._do(step, "labeling_approval", run, **more)

    def capture(self, item: Any, requested: Any, run: str, **more: Any) -> Result:
        """Capture what the approvers decided."""
        step = labeling_approval.CaptureDecisionsOperator(task_id="version.capture", item=item, given=requested)
        return self._do(step, "labeling_approval", run, **more)

    def approve_run(self, by: str | None = None, **params: Any) -> list[dict[str, Any]]:
        """Do what a run of ``labeling_approval`` does; return the items' results."""
        dag, run = "labeling_approval", self.run_id()
        results = []
        for item in self.items(labeling_approval.ListApprovalsOperator, dag, run, by=by, **params):
            frozen = self.freeze(item, run, by=by)
            passed = self.gate("version_rows", item, frozen, dag, run)
            results.append(self.capture(item, self.request(item, frozen, passed, run, by=by), run, by=by))
        return results

    def release_check(self, item: Any, run: str, **more: Any) -> Result:
        """Check one version for release."""
        step = dataset_release.CheckReleaseOperator(task_id="release.check", item=item)
        return self._do(step, "dataset_release", run, **more)

    def hand_over(self, item: Any, checked: Any, gate: Any, run: str, **more: Any) -> Result:
        """Hand one version over."""
        step = dataset_release.HandOverOperator(task_id="release.hand_over", item=item, given=checked, gate=gate)
        return self._do(step, "dataset_release", run, **more)

    def release_run(self, by: str | None = None, **params: Any) -> list[dict[str, Any]]:
        """Do what a run of ``dataset_release`` does; return the items' results."""
        dag, run = "dataset_release", self.run_id()
        results = []
        for item in self.items(dataset_release.ListReleasesOperator, dag, run, by=by, **params):
            checked = self.release_check(item, run, by=by)
            if checked is not None:
                passed = self.gate("release_rows", item, checked, dag, run)
                results.append(self.hand_over(item, checked, passed, run, by=by))
        return results

    def report(self) -> Result:
        """Do what a run of ``lineage_report`` does."""
        dag, run = "lineage_report", self.run_id()
        [item] = self.items(lineage_report.ListReportsOperator, dag, run)
        built = self._do(lineage_report.BuildReportOperator(task_id="build", item=item), dag, run)
        passed = self.gate("report", item, built, dag, run)
        published = self._do(
            lineage_report.PublishReportOperator(task_id="publish", item=item, given=built, gate=passed), dag, run
        )
        return self._do(lineage_report.CommentReportOperator(task_id="comment", item=item, given=published), dag, run)

    # --- people ----------------------------------------------------------------------------------------------------

    def person(self, name: str) -> Person:
        """Return a person signed in at OpenText."""
        return Person(self.opentext_url, f"{name}@people.example", f"{world.PASSWORD}{name}", CLIENT)

    def say(self, name: str, outcome: str, *, comment: bool = True) -> None:
        """Let a person decide the one task that waits for them, attesting the digest in a comment."""
        person = self.person(name)
        [task] = person.tasks()
        variables = {one["name"]: one.get("value") for one in task["variables"]}
        digest = str(variables[load_mapping("default").labeling_approval.digest_variable])
        person.claim(task["id"])
        if comment:
            person.comment(task["processInstanceId"], f"I looked at {digest[:12]}.")
        person.complete(task["id"], outcome)

    def answer(self, rows: list[dict[str, Any]]) -> int:
        """Save rows as Prodigy does."""
        return import_jsonl(f"sqlite:///{self.prodigy_file}", self.project.answers, rows)

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


def _template(home: Path, stage: str, start: Path | None = None) -> Path:
    if start is not None:
        shutil.copytree(start, home)
    with opened(House(home)) as made:
        if start is None:
            made.seed()
        getattr(made, stage)()
    return home


@pytest.fixture(scope="session")
def labelled_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed installation in which everything is labelled."""
    return _template(tmp_path_factory.mktemp("labelled") / "house", "labelled")


@pytest.fixture(scope="session")
def asked_home(tmp_path_factory: pytest.TempPathFactory, labelled_home: Path) -> Path:
    """A closed installation in which the approvers were asked."""
    return _template(tmp_path_factory.mktemp("asked") / "house", "approve_run", labelled_home)


@pytest.fixture(scope="session")
def approved_home(tmp_path_factory: pytest.TempPathFactory, asked_home: Path) -> Path:
    """A closed installation in which both approvers approved."""
    return _template(tmp_path_factory.mktemp("approved") / "house", "approve", asked_home)


@contextmanager
def _copy(home: Path, template: Path) -> Iterator[House]:
    shutil.copytree(template, home)
    with opened(House(home)) as made:
        yield made


@pytest.fixture
def labelled(tmp_path: Path, labelled_home: Path) -> Iterator[House]:
    """An installation in which everything is labelled."""
    with _copy(tmp_path / "house", labelled_home) as made:
        yield made


@pytest.fixture
def asked(tmp_path: Path, asked_home: Path) -> Iterator[House]:
    """An installation in which the approvers were asked."""
    with _copy(tmp_path / "house", asked_home) as made:
        yield made


@pytest.fixture
def approved(tmp_path: Path, approved_home: Path) -> Iterator[House]:
    """An installation in which both approvers approved, and that is on the ledger."""
    with _copy(tmp_path / "house", approved_home) as made:
        yield made


def raw(path: Path) -> Any:
    """Return a JSON file."""
    return json.loads(path.read_bytes())
