"""Every DAG executed by Airflow in this process against the stand-ins over HTTP: a dataset's whole life, and trouble.

The runs have no logical date, as runs by hand and by assets have none.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from include.base.canonical import effect_key
from include.governance.verify import verify
from include.settings import ROOT
from tests.airflow_home import DAGS
from tests.integration.airflow_house import PROJECT, Systems

pytestmark = pytest.mark.airflow

DAG_TEST_USER = "dag_test"
"""Who Airflow says triggered a run of ``dag.test()``."""


@dataclass
class Run:
    """One finished run: its state, its task instances and what they returned."""

    state: str
    states: dict[tuple[str, int], str]
    tries: dict[tuple[str, int], int]
    results: dict[tuple[str, int], Any]
    log: str

    def of(self, task_id: str) -> set[str]:
        return {state for (name, _), state in self.states.items() if name == task_id}


@dataclass
class Office:
    """Airflow's DAGs and the systems around them."""

    systems: Systems
    caplog: Any = None
    runs: dict[str, Run] = field(default_factory=dict)

    def run(self, dag_id: str, *, marked: str | None = None, **conf: Any) -> Run:
        """Execute a DAG; the tasks that match ``marked`` are marked successful by hand instead."""
        from airflow.dag_processing.dagbag import DagBag
        from airflow.models.taskinstance import TaskInstance
        from airflow.models.xcom import XComModel
        from airflow.utils.session import create_session
        from sqlalchemy import select

        # Parsed anew: Airflow keeps the parameters of a run in the DAG object, so a second run would inherit them.
        dag = DagBag(str(DAGS / f"{dag_id}.py")).dags[dag_id]
        if dag_id == "decision_wait":
            dag.get_task("wait").poll_seconds = 0.3
        run = dag.test(logical_date=None, run_conf=conf, mark_success_pattern=marked)
        with create_session() as session:
            ours = (TaskInstance.dag_id == dag_id, TaskInstance.run_id == run.run_id)
            tasks = list(session.scalars(select(TaskInstance).where(*ours)))
            xcoms = session.scalars(select(XComModel).where(XComModel.dag_id == dag_id, XComModel.run_id == run.run_id))
            results = {
                (one.task_id, one.map_index): XComModel.deserialize_value(one)
                for one in xcoms
                if one.key == "return_value"
            }
            states = {(one.task_id, one.map_index): str(getattr(one.state, "value", one.state)) for one in tasks}
            tries = {(one.task_id, one.map_index): one.try_number for one in tasks}
        state = str(getattr(run.state, "value", run.state))
        return Run(state, states, tries, results, self.log())

    def log(self) -> str:
        text = self.caplog.text if self.caplog is not None else ""
        if self.caplog is not None:
            self.caplog.clear()
        return text

    def waits(self) -> dict[str, dict[str, Any]]:
        """Return the runs of ``decision_wait`` that were started and never executed here, by their ids."""
        from airflow.models.dagrun import DagRun
        from airflow.utils.session import create_session
        from sqlalchemy import select

        with create_session() as session:
            found = session.scalars(select(DagRun).where(DagRun.dag_id == "decision_wait"))
            return {one.run_id: dict(one.conf) for one in found if one.run_type != "manual" or "__v" in one.run_id}

    def register(self, **triggered_by: Any) -> None:
        """Say in the register who ``dag_test`` is: a service, or one person's account."""
        known = yaml.safe_load((ROOT / "include" / "projects" / "register.yaml").read_text("utf-8"))
        person = triggered_by.get("person")
        if person is None:
            known["services"].append({"system": "airflow", "account": DAG_TEST_USER})
        else:
            entry = next(one for one in known["persons"] if one["id"] == person)
            entry["accounts"]["airflow"] = [DAG_TEST_USER]
        (self.systems.home / "register.yaml").write_text(yaml.safe_dump(known), "utf-8")


@pytest.fixture(scope="module")
def office(airflow_database: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    home = tmp_path_factory.mktemp("house")
    systems = Systems(home)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in systems.environment().items():
            patch.setenv(name, value)
        patch.setenv("LABELOPS_REGISTER", str(home / "register.yaml"))
        systems.seed()
        house = Office(systems)
        house.register()
        yield house
    systems.close()


@pytest.fixture(scope="module")
def life(office: Office) -> Office:
    """Lead the sample project from its guideline to its report; the people act where they always do."""
    systems, runs = office.systems, office.runs
    runs["guideline_sync"] = office.run("guideline_sync")
    runs["raw_data_ingestion"] = office.run("raw_data_ingestion")
    assert systems.answer_all()
    runs["labeling_approval"] = office.run("labeling_approval")
    systems.decide("quentin")
    [(_, conf)] = office.waits().items()
    people = threading.Timer(1.5, systems.decide, ("dana",))
    people.start()
    runs["decision_wait"] = office.run("decision_wait", **conf)
    people.join()
    runs["dataset_release"] = office.run("dataset_release")
    systems.decide("rita")
    runs["dataset_release again"] = office.run("dataset_release")
    runs["lineage_report"] = office.run("lineage_report")
    return office


# --- a life ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "guideline_sync",
        "raw_data_ingestion",
        "labeling_approval",
        "decision_wait",
        "dataset_release",
        "dataset_release again",
        "lineage_report",
    ],
)
def test_every_run_of_the_life_succeeds(life: Office, name: str) -> None:
    run = life.runs[name]
    assert run.state == "success", run.states
    assert not {"failed", "upstream_failed"} & set(run.states.values())
    assert set(run.tries.values()) <= {0, 1}, run.tries


def test_the_guideline_is_published(life: Office) -> None:
    result = life.runs["guideline_sync"].results["guideline.publish", 0]
    assert (result["project"], result["state"], result["changed"]) == (PROJECT, "published", True)
    assert (life.systems.home / "store" / "publications" / PROJECT / "guidelines" / "current.json").exists()
    assert life.runs["guideline_sync"].of("announce") == {"success"}


def test_the_inbox_holds_what_the_sources_say_once(life: Office) -> None:
    result = life.runs["raw_data_ingestion"].results["source.load", 0]
    inbox = life.systems.examples(f"{PROJECT}__inbox")
    assert result["detail"]["inserted"] == len(inbox) > 10
    assert len({task["labelops"]["task_id"] for task in inbox}) == len(inbox)
    assert result["detail"]["quarantined"] == 1


def test_the_version_waits_for_its_approvers_in_a_run_named_by_its_effect(life: Office) -> None:
    run = life.runs["labeling_approval"]
    result = run.results["version.capture", 0]
    assert result["state"] == "waiting"
    detail = result["detail"]
    [(run_id, conf)] = [(name, conf) for name, conf in life.waits().items() if name.startswith("labeling_approval__")]
    key = effect_key("decision_wait", PROJECT, detail["process_id"], detail["digest"])
    assert run_id == f"labeling_approval__{PROJECT}__v1__{key[:12]}"
    assert conf == {
        "use_case": "labeling_approval",
        "project_name": PROJECT,
        "digest": detail["digest"],
        "process_id": detail["process_id"],
    }
    assert run.of("version.start_wait") == {"success"}


def test_the_wait_ends_with_what_the_people_decided(life: Office) -> None:
    [result] = life.runs["decision_wait"].results.values()
    assert result["state"] == "approved"
    ledger = life.systems.ledger()
    try:
        [version] = ledger.versions(PROJECT)
        decisions = {(one.role, one.person, one.outcome) for one in ledger.decisions(version.digest)}
    finally:
        ledger.close()
    assert {(role, person) for role, person, _ in decisions} >= {
        ("quality_reviewer", "quentin"),
        ("data_owner", "dana"),
    }


def test_the_release_waits_for_its_process_and_then_is_written_once(life: Office) -> None:
    first, second = life.runs["dataset_release"], life.runs["dataset_release again"]
    assert first.results["release.hand_over", 0]["state"] == "waiting"
    assert first.of("announce") == {"skipped"}
    assert second.results["release.hand_over", 0]["state"] == "released"
    assert second.of("announce") == {"success"}
    [release] = [path for path in (life.systems.home / "store" / "releases" / PROJECT).iterdir() if path.is_dir()]
    assert release.name.startswith("v1-")
    assert life.systems.actions()["release.done"] == 1


def test_the_report_is_on_a_page_of_its_own(life: Office) -> None:
    result = life.runs["lineage_report"].results["report.comment", 0]
    assert result["project"] == PROJECT
    titles = Counter(row["title"] for row in life.systems.confluence.database.rows("select title from pages"))
    [ours] = set(titles) - {"Labelling reports"} - {page for page in titles if ": " in page and "guid" in page} - {
        "Ticket topics: labels", "Ticket topics: edge cases", "LAB", "Labelling",
        "Version 1 of Support ticket topics, for decision",
    }  # fmt: skip
    assert titles[ours] == 1
    ledger = life.systems.ledger()
    try:
        assert verify(ledger).ok
    finally:
        ledger.close()


# --- a second round -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dag_id", ["guideline_sync", "raw_data_ingestion", "labeling_approval", "dataset_release", "lineage_report"]
)
def test_a_run_with_nothing_to_do_changes_nothing_and_says_so(life: Office, dag_id: str) -> None:
    before = life.systems.effects()
    run = life.run(dag_id)
    assert run.state == "success"
    assert run.of("conclude") == {"success"}
    assert run.of("announce") == {"skipped"}
    assert set(run.states.values()) <= {"success", "skipped"}
    assert life.systems.effects() == before


def test_a_wait_that_comes_too_late_ends_at_once(life: Office) -> None:
    [(_, conf)] = [one for one in life.waits().items() if one[0].startswith("labeling_approval__")]
    began = time.monotonic()
    run = life.run("decision_wait", **conf)
    assert run.state == "success"
    assert run.results["wait", -1]["state"] == "approved"
    assert time.monotonic() - began < 10


# --- trouble --------------------------------------------------------------------------------------------------------


@pytest.fixture
def heard(life: Office, caplog: pytest.LogCaptureFixture) -> Iterator[Office]:
    life.caplog = caplog
    yield life
    life.caplog = None


def test_a_bad_project_file_fails_alone_and_is_named(heard: Office, capfd: pytest.CaptureFixture[str]) -> None:
    broken = heard.systems.home / "projects" / "broken.yaml"
    broken.write_text("name: broken\nannotation: {interface: telepathy}\n", "utf-8")
    try:
        run = heard.run("guideline_sync")
    finally:
        broken.unlink()
    assert run.state == "failed"
    listed = run.results["list_work", -1]
    assert [one["project"] for one in listed] == ["broken", PROJECT]
    assert run.states["guideline.collect", 0] == "failed"
    assert run.states["guideline.collect", 1] == "skipped"
    assert run.tries["guideline.collect", 0] == 1, "a malformed file does not mend itself"
    assert run.of("conclude") == {"failed"}
    assert run.tries["conclude", -1] == 1, "asking again cannot change what failed"
    said = capfd.readouterr().out + run.log
    assert "failed: broken · guideline (at collect)" in said
    assert "telepathy" in said


@pytest.mark.parametrize(
    ("conf", "said"),
    [
        ({"project": ["ticket_topic"]}, "found ticket_topic; allowed: ticket_topics"),
        ({"projects": [PROJECT]}, "found projects; allowed: project"),
    ],
    ids=["unknown project", "unknown parameter"],
)
def test_a_misspelt_order_is_refused(
    heard: Office, conf: dict[str, Any], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    before = heard.systems.effects()
    run = heard.run("guideline_sync", **conf)
    assert run.state == "failed"
    assert run.of("list_work") == {"failed"}
    assert run.tries["list_work", -1] == 1
    assert run.of("conclude") == {"failed"}
    assert said in capfd.readouterr().out + run.log
    assert heard.systems.effects() == before


def test_a_marked_gate_lets_nothing_out(life: Office) -> None:
    """Nobody's tick in Airflow is evidence: without its result the step after the gate refuses."""
    page = life.systems.confluence.database.row("select id from pages where title = 'Ticket topics: edge cases'")
    assert page is not None
    _edit(life.systems, page["id"])
    before = published(life)
    run = life.run("guideline_sync", marked=r"guideline\.gate")
    assert run.of("guideline.collect") == run.of("guideline.gate") == {"success"}
    assert run.of("guideline.publish") == {"failed"}
    assert run.of("conclude") == {"failed"}
    assert published(life) == before


def published(office: Office) -> list[str]:
    """Return the files that annotators are served from; what was collected may lie beside them, unused."""
    return [name for name in office.systems.effects()["files"] if name.startswith("publications/")]


def _edit(systems: Systems, page_id: int) -> None:
    """Let the author change an approved page, and its approver approve it again."""
    import requests

    from include.sandbox import world

    def call(person: str, method: str, path: str, **parts: Any) -> Any:
        reply = requests.request(
            method, f"{systems.confluence_url}/wiki{path}",
            auth=(f"{person}@people.example", f"{world.TOKEN}{person}"), timeout=30, **parts,
        )  # fmt: skip
        assert reply.ok, reply.text
        return reply.json()

    page = call("olga", "GET", f"/api/v2/pages/{page_id}", params={"body-format": "storage"})
    body = page["body"]["storage"]["value"] + "<p>When in doubt, both.</p>"
    call(
        "olga", "PUT", f"/api/v2/pages/{page_id}",
        json={
            "id": str(page_id), "status": "current", "title": page["title"],
            "body": {"representation": "storage", "value": body}, "version": {"number": page["version"]["number"] + 1},
        },
    )  # fmt: skip
    call(
        "greta", "PUT", f"/rest/api/content/{page_id}/state", params={"status": "current"},
        json={"name": "Verified", "color": "#57d9a3"},
    )  # fmt: skip


@pytest.mark.parametrize("order", ["close", "resubmit"])
def test_an_order_over_people_needs_a_named_person(
    heard: Office, order: str, capfd: pytest.CaptureFixture[str]
) -> None:
    before = heard.systems.actions()
    run = heard.run("labeling_approval", **{order: ["abcdef123456"], "reason": "for once"})
    assert run.state == "failed"
    assert "needs a named person" in capfd.readouterr().out + run.log
    assert heard.systems.actions() == before


def test_a_named_person_still_needs_a_reason(heard: Office, capfd: pytest.CaptureFixture[str]) -> None:
    before = heard.systems.actions()
    heard.register(person="olga")
    try:
        run = heard.run("labeling_approval", resubmit=["abcdef123456"])
    finally:
        heard.register()
    assert run.state == "failed"
    assert "`resubmit` needs one, in words" in capfd.readouterr().out + run.log
    # The register did change, and a change of the register is itself on the ledger.
    assert heard.systems.actions() - before == Counter({"register.in_force": 1})


def test_files_of_the_runs_are_staged_by_run_task_item_and_try(life: Office) -> None:
    staged = {
        tuple(path.relative_to(life.systems.home / "store" / "staging").parts[:5:2])
        for path in (life.systems.home / "store" / "staging").glob("*/*/*/*/*")
    }
    assert {("guideline_sync", "guideline.collect", "1"), ("labeling_approval", "version.freeze", "1")} <= staged
    assert all(Path(one[2]).name.isdigit() for one in staged)
