"""One dataset's life in a real Airflow whose processes are killed at every turn (P3), and hands that push buttons (P1).

The tests are one story and run in order: each takes the dataset further. A task is held at one exact request, at a
lock on a database, or frozen with SIGSTOP, while it, its supervisor, the scheduler or the triggerer is killed with
SIGKILL. A frozen task whose supervisor died is woken when its retry has ended: it goes on writing, as a real orphan
does. At the end everything there is must equal what one undisturbed process makes of the same input.
"""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests

from include.sandbox import world
from include.sandbox.processes import wait_until
from tests.integration.airflow_house import PROJECT, House, Systems, Undisturbed, Victim, reached, together

pytestmark = [
    pytest.mark.long(200),
    pytest.mark.airflow,
    pytest.mark.skipif(sys.platform != "linux", reason="processes are found through /proc"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]

PAGE = r"/wiki/api/v2/pages/[0-9]+"
PAGES = r"/wiki/api/v2/pages"
FILES = r"/wiki/rest/api/content/[0-9]+/child/attachment"
STARTS = r"/workflow/v1/process-instances"
HISTORY = r"/workflow-history/v1/historic-process-instances/[^/]+"
COMMENTS = r"/workflow(-history)?/v1/(historic-)?process-instances/[^/]+/comments"

LIFE: dict[str, Any] = {}
"""What the earlier tests of the story leave to the later ones: run ids, and which points were hit."""


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Systems]:
    """The home in which nothing goes wrong."""
    systems = Systems(tmp_path_factory.mktemp("calm"))
    systems.seed()
    yield systems
    systems.close()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, run_folder: Path, calm: Systems) -> Iterator[House]:
    """The home in which everything goes wrong, with Airflow running. The calm life is lived while Airflow starts."""
    systems = Systems(tmp_path_factory.mktemp("stormy"))
    systems.seed()
    house = House(systems, run_folder)
    try:
        house.start()
        LIFE["undisturbed"] = Undisturbed(calm).live()
        house.ready()
        yield house
    finally:
        house.close()
        systems.close()


@pytest.fixture(autouse=True)
def timed(request: pytest.FixtureRequest, house: House) -> Iterator[None]:
    """Say how long each part of the story took."""
    began = time.monotonic()
    yield
    print(f"{request.node.name}: {time.monotonic() - began:.1f} s")


def story(part: Callable[[House], None]) -> Callable[[House], None]:
    """Mark a part of the story: when one fails, those after it have nothing to stand on and are skipped."""

    @functools.wraps(part)
    def told(house: House) -> None:
        if "stopped at" in LIFE:
            pytest.skip(f"the story stopped at {LIFE['stopped at']}")
        LIFE["stopped at"] = part.__name__
        part(house)
        del LIFE["stopped at"]

    return told


def _get(house: House, path: str, user: str | None = "olga") -> requests.Response:
    headers = house.headers(user) if user else {}
    return requests.get(f"{house.airflow.url}{path}", headers=headers, timeout=30, allow_redirects=False)


# --- what Airflow loaded -------------------------------------------------------------------------------------------


def test_nothing_failed_to_import(house: House) -> None:
    assert house.client("admin").call("GET", "/importErrors")["import_errors"] == []
    assert house.client("admin").call("GET", "/plugins/importErrors") == {"import_errors": [], "total_entries": 0}


def test_connection_types_have_forms_and_a_working_test(house: House) -> None:
    offered = {one["connection_type"]: one for one in _get(house, "/ui/connections/hook_meta", "admin").json()}
    for name, field in (("confluence", "flavour"), ("prodigy", "engine"), ("opentext", "tenant_id")):
        assert name in offered, sorted(offered)
        assert offered[name]["extra_fields"], f"{name} has no fields of its own"
        if field in ("engine", "tenant_id"):
            assert field in offered[name]["extra_fields"]
    admin = house.client("admin")
    for name, parts in house.systems.connections().items():
        body = {**parts, "connection_id": name, "extra": json.dumps(parts["extra"])}
        told = admin.call("POST", "/connections/test", body)
        assert told["status"] is True, (name, told)
        broken = {**body, "password": "wrong", "extra": body["extra"].replace("prodigy.db", "nowhere.db")}
        told = admin.call("POST", "/connections/test", broken)
        assert told["status"] is False, (name, told)
        assert "wrong" not in told["message"]


# --- the story -----------------------------------------------------------------------------------------------------


@story
@pytest.mark.proves("P3")
def test_p3_guideline_sync_and_ingestion_survive_kills(house: House) -> None:
    together(lambda: _sync(house), lambda: _ingest(house))
    acts = house.systems.actions()
    assert acts["guideline.published"] == acts["source.read"] == acts["batch.assigned"] == 1


def _sync(house: House) -> None:
    systems = house.systems
    dag = "guideline_sync"
    run = LIFE[dag] = house.client().trigger(dag)

    # The task, while it reads pages.
    with systems.hold(systems.confluence.app, "hold", "GET", PAGE) as fault:
        reached(fault)
        house.kill(house.victim(dag, run, "guideline.collect", 1).task)
    # The task, when everything is read and its first write is begun.
    victim = house.victim(dag, run, "guideline.publish", 1, seconds=90)
    house.wait_claim(dag, 1)
    house.kill(victim.task)
    # The supervisor, when the files are written and the ledger does not know yet; the orphan goes on later.
    victim = house.victim(dag, run, "guideline.publish", 2)
    house.wait_claim(dag, 2)
    with house.lock(systems.ledger_file):
        pointer = systems.home / "store" / "publications" / PROJECT / "guidelines" / "current.json"
        wait_until(pointer.exists, 20, "the pointer to the guideline", 0.01)
        _orphan_before(house, victim, "guideline.published")
    _survives_its_orphan(house, victim, dag, run, "guideline.publish")


def _ingest(house: House) -> None:
    systems = house.systems
    dag = "raw_data_ingestion"
    run = LIFE[dag] = house.client().trigger(dag)

    # The task, at whatever point of its reading.
    house.kill(house.victim(dag, run, "source.read", 1).task)
    house.wait_task(dag, run, "source.gate", "running", "success")
    # The task, when rejects are in quarantine and the rows wait for Prodigy's database.
    with house.lock(systems.prodigy_file):
        victim = house.victim(dag, run, "source.load", 1, seconds=90)
        house.wait_claim(dag, 1)
        wait_until(lambda: systems.actions()["quarantine.kept"] > 0, 20, "the quarantine", 0.02)
        house.kill(victim.task)
        victim = house.victim(dag, run, "source.load", 2)
        house.wait_claim(dag, 2)
        time.sleep(1)  # what it writes on the ledger before it comes to the rows is done by then
        ledger = house.lock(systems.ledger_file)
    # The supervisor, when the rows are in and no batch is assigned; the orphan goes on later.
    with ledger:
        wait_until(lambda: bool(systems.examples(f"{PROJECT}__inbox")), 20, "rows in the inbox", 0.05)
        _orphan_before(house, victim, "source.read")
    _survives_its_orphan(house, victim, dag, run, "source.load")


def _orphan_before(house: House, victim: Victim, action: str) -> None:
    assert not house.systems.actions()[action], "came too late"
    house.orphan(victim)


def _survives_its_orphan(house: House, victim: Victim, dag: str, run: str, task_id: str) -> None:
    """Wait for the retry, let the orphan go on to its end, and see the run succeed."""
    assert house.wait_task(dag, run, task_id, "success")["try_number"] == 3
    house.wake(victim)
    assert house.end_of(dag, run) == "success"


@story
@pytest.mark.proves("P3")
def test_p3_labeling_approval_survives_kills(house: House) -> None:
    systems = house.systems
    dag = "labeling_approval"
    with systems.hold(systems.opentext.app, "hold_after", "POST", STARTS) as fault:
        assert systems.answer_all() > 0
        run = LIFE[dag] = house.first_run(dag)  # nobody triggers it: the asset of the answers does
        # The task, while it freezes.
        victim = house.victim(dag, run, "version.freeze", 1)
        house.wait_claim(dag, 1)
        house.kill(victim.task)
        # The supervisor, when the process was started and the reply is on its way.
        reached(fault)
        victim = house.victim(dag, run, "version.request", 1)
        house.kill(victim.supervisor)
        assert house.wait_task(dag, run, "version.request", "success")["try_number"] == 2
        fault.release.set()
        house.wait_gone(victim)
    assert house.end_of(dag, run) == "success"
    assert systems.actions()["approval.requested"] == 1
    waiting = LIFE["decision_wait"] = house.first_run("decision_wait")
    assert waiting.startswith(f"labeling_approval__{PROJECT}__v1__")


@story
@pytest.mark.proves("P1")
def test_p1_approval_marked_successful_by_hand_releases_nothing(house: House) -> None:
    systems = house.systems
    _deferred(house, LIFE["decision_wait"])
    house.kill_component("triggerer")  # it comes back in the next test

    with systems.hold(systems.opentext.app, "hold", "GET", HISTORY) as fault:
        run = house.client().trigger("labeling_approval")
        reached(fault)
        house.wait_task("labeling_approval", run, "version.capture", "running")
        house.mark_success("labeling_approval", run, "version.capture")
    assert house.end_of("labeling_approval", run) == "success"
    refused = house.client().trigger("dataset_release", {"version": "1"})
    assert house.end_of("dataset_release", refused) == "failed"
    assert house.task("dataset_release", refused, "release.check")["state"] == "failed"
    acts = systems.actions()
    assert acts["release.refused"] == 1
    assert not {"release.requested", "release.done", "approval.approved"} & set(acts)
    assert not (systems.home / "store" / "releases").exists()


def _deferred(house: House, run: str) -> None:
    client = house.client()

    def deferred() -> bool:
        [task] = client.task_instances("decision_wait", run)
        return task["state"] == "deferred"

    wait_until(deferred, 60, "the wait being deferred", 0.3)


@story
@pytest.mark.proves("P3")
def test_p3_wait_survives_the_triggerer(house: House) -> None:
    house.systems.decide("quentin", "dana")
    house.restart("triggerer")
    assert house.end_of("decision_wait", LIFE["decision_wait"]) == "success"
    assert house.systems.actions()["approval.approved"] == 1


@story
@pytest.mark.proves("P3")
def test_p3_dataset_release_survives_kills(house: House) -> None:
    systems = house.systems
    dag = "dataset_release"
    # The task, when the release process was started and the reply is on its way.
    with systems.hold(systems.opentext.app, "hold_after", "POST", STARTS) as started:
        run = house.first_run(dag, after=1)
        reached(started)
        house.kill(house.victim(dag, run, "release.check", 1).task)
    # The scheduler, while a task looks whether it may hand over; what it had started lives on without it.
    house.wait_task(dag, run, "release.gate", "running", "success")
    with systems.hold(systems.opentext.app, "hold", "GET", HISTORY) as fault:
        reached(fault)
        house.victim(dag, run, "release.hand_over", 1)
        house.kill_component("scheduler")
        house.restart("scheduler")
    assert house.end_of(dag, run) == "success"
    assert systems.actions()["release.requested"] == 1
    assert not systems.actions()["release.done"]

    wait_until(lambda: bool(systems.approver("rita").person.tasks()), 20, "the task of the release manager")
    systems.decide("rita")
    run = LIFE[dag] = house.first_run(dag, after=2)
    # The task, when the files are written and Prodigy's dataset is not linked.
    house.wait_task(dag, run, "release.gate", "running", "success")
    with house.lock(systems.prodigy_file):
        house.wait_claim("dataset_release.files", 1)
        victim = house.victim(dag, run, "release.hand_over", 1)
        release = systems.home / "store" / "releases" / PROJECT / "current.json"
        wait_until(release.exists, 20, "the files of the release", 0.02)
        house.kill(victim.task)
        victim = house.victim(dag, run, "release.hand_over", 2)
        house.wait_claim("dataset_release.files", 2)
        ledger = house.lock(systems.ledger_file)
    # The supervisor, when the dataset is linked and the ledger does not know; the orphan goes on later.
    with ledger:
        wait_until(lambda: bool(systems.examples(f"{PROJECT}__v1")), 20, "the dataset of the version", 0.05)
        _orphan_before(house, victim, "release.done")
    _survives_its_orphan(house, victim, dag, run, "release.hand_over")


@story
@pytest.mark.proves("P3")
def test_p3_lineage_report_survives_kills(house: House) -> None:
    systems = house.systems
    dag = "lineage_report"
    run = LIFE[dag] = house.first_run(dag)
    with (
        systems.hold(systems.confluence.app, "hold_after", "POST", PAGES) as page,
        systems.hold(systems.confluence.app, "hold_after", "POST", FILES) as file,
        systems.hold(systems.opentext.app, "hold_after", "POST", COMMENTS) as comment,
    ):
        # The task, when the page is there and not yet marked as ours.
        reached(page)
        house.kill(house.victim(dag, run, "report.publish", 1).task)
        # The supervisor, when the first of two charts is attached; the orphan goes on to the second.
        reached(file)
        victim = house.victim(dag, run, "report.publish", 2)
        house.kill(victim.supervisor)
        assert house.wait_task(dag, run, "report.publish", "success")["try_number"] == 3
        file.release.set()
        house.wait_gone(victim)
        # The task, when the comment is on the process and its reply on the way.
        reached(comment)
        house.kill(house.victim(dag, run, "report.comment", 1).task)
    assert house.end_of(dag, run) == "success"


@story
@pytest.mark.proves("P3")
def test_p3_everything_equals_an_undisturbed_life(house: House) -> None:
    stormy, calm = house.systems.effects(), LIFE["undisturbed"]
    assert stormy["ledger holds"]
    for part in calm:
        assert stormy[part] == calm[part], part


# --- gates: pages, links, hands ------------------------------------------------------------------------------------


@story
def test_gate_page_is_guarded_and_linked(house: House) -> None:
    run = LIFE["raw_data_ingestion"]
    link = _link(house, "raw_data_ingestion", run, "source.gate")
    assert link.startswith("/labelops/gates/raw_data_ingestion/")
    assert _get(house, link, None).status_code == 401
    page = _get(house, link)
    assert page.status_code == 200
    assert "sandbox" in page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert "raw_tasks" in page.text


def _link(house: House, dag_id: str, run_id: str, task_id: str) -> str:

    path = f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}/taskInstances/{task_id}/links?map_index=0"
    links = house.client().call("GET", path)["extra_links"]
    assert set(links) == {"Gate result"}, links
    return str(links["Gate result"])


@story
@pytest.mark.proves("P1")
def test_p1_failed_gate_marked_successful_by_hand_publishes_nothing(house: House) -> None:
    systems, dag = house.systems, "guideline_sync"
    _break_guideline(systems)
    run = house.client().trigger(dag)
    assert house.end_of(dag, run) == "failed"
    assert house.task(dag, run, "guideline.gate")["state"] == "failed"
    page = _get(house, _link(house, dag, run, "guideline.gate"))
    assert page.status_code == 200
    assert "Stopped" in page.text
    assert "every required section is there" in page.text

    house.mark_success(dag, run, "guideline.gate")
    again = {"dag_run_id": run, "dry_run": False, "only_failed": False, "include_downstream": True}
    again["task_ids"] = [["guideline.publish", 0]]
    house.client().call("POST", f"/dags/{dag}/clearTaskInstances", again)
    house.wait_task(dag, run, "guideline.publish", "failed")
    assert house.end_of(dag, run) == "failed"
    assert house.task(dag, run, "guideline.gate")["state"] == "success"
    assert systems.actions()["guideline.published"] == 1
    releases = systems.home / "store" / "publications" / PROJECT / "guidelines"
    published = [Path(name).parent.name for name in LIFE["undisturbed"]["files"] if Path(name).name == "release.json"]
    assert [path.name for path in releases.glob("0*")] == published


def _break_guideline(systems: Systems) -> None:
    """Take a required section off a page, and have the page approved so."""
    title = "Ticket topics: edge cases"
    [row] = systems.confluence.database.rows("select id, version from pages where title = ?", (title,))
    base = f"{systems.confluence_url}/wiki"

    def call(person: str, method: str, path: str, **parts: Any) -> None:
        auth = (f"{person}@people.example", f"{world.TOKEN}{person}")
        reply = requests.request(method, f"{base}{path}", auth=auth, timeout=30, **parts)
        assert reply.ok, reply.text

    body = {
        "id": str(row["id"]),
        "status": "current",
        "title": title,
        "body": {"representation": "storage", "value": "<p>To be written.</p>"},
        "version": {"number": row["version"] + 1},
    }
    call("olga", "PUT", f"/api/v2/pages/{row['id']}", json=body)
    state, verified = f"/rest/api/content/{row['id']}/state", {"name": "Verified", "color": "#57d9a3"}
    call("greta", "PUT", state, params={"status": "current"}, json=verified)


def test_nothing_is_left_running(house: House) -> None:
    own = set(house.processes.running())
    assert own == {"scheduler", "triggerer", "dag-processor", "api-server"}
    house.close()
    assert not house.processes.running()
    assert not house.left()
