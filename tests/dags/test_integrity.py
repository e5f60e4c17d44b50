"""Every DAG file against the rules of the house, on DAGs parsed once by Airflow's own parser."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.configuration import conf
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import BaseBranchOperator, TriggerRule
from airflow.sdk.bases.skipmixin import SkipMixin
from airflow.sdk.definitions.taskgroup import MappedTaskGroup
from airflow.serialization.serialized_objects import DagSerialization

from include.sandbox.airflow import POOLS as DEMO_POOLS
from include.settings import schedules
from labelops import wiring
from labelops.flow import USE_CASES, Wait
from labelops.operators.frame import AnnounceOperator, ConcludeOperator
from labelops.retry import LabelopsRetryPolicy
from labelops.systems import POOLS as SYSTEM_POOLS
from tests.airflow_home import DAGS, POOLS, ROOT, environment

pytestmark = pytest.mark.airflow

FILES = sorted(DAGS.glob("*.py"))
DAG_IDS = [path.stem for path in FILES]
WAIT = "decision_wait"
MAPPING_DAGS = [one for one in DAG_IDS if one != WAIT]
SECTIONS = ("Purpose.", "Runs", "Reads", "When it fails.")
RULES_IN_GROUPS = {TriggerRule.ALL_SUCCESS, TriggerRule.NONE_FAILED, TriggerRule.ALL_DONE, TriggerRule.ONE_FAILED}
HEAVY = {
    "altair", "atlassian", "great_expectations", "lxml", "matplotlib", "mmh3", "nh3", "numpy", "orjson", "pandas",
    "psycopg", "pyarrow", "pymysql", "scipy", "SpiffWorkflow",
}  # fmt: skip
HEAVY_HERE = (
    "include.governance",
    "include.sandbox",
    "include.gates.suites",
    "include.reporting",
    "include.systems.http",
    "labelops.hooks",
)


@pytest.fixture(params=DAG_IDS)
def dag(request: pytest.FixtureRequest, dag_bag: Any) -> Any:
    return dag_bag.dags[request.param]


@pytest.fixture(params=MAPPING_DAGS)
def mapping_dag(request: pytest.FixtureRequest, dag_bag: Any) -> Any:
    return dag_bag.dags[request.param]


def mapped_groups(dag: Any) -> list[MappedTaskGroup]:
    return [group for group in dag.task_group_dict.values() if isinstance(group, MappedTaskGroup)]


def every_task(dag: Any) -> Iterator[Any]:
    assert dag.tasks, dag.dag_id
    yield from dag.tasks


def run_python(code: str, home: Path, **extra: str) -> Any:
    """Run code in a fresh interpreter with an Airflow home of its own; its last line of output is JSON."""
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}", **environment(home), **extra}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120, cwd=home)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def task_ids(serialised: Any) -> list[str]:
    return sorted(task["__var"]["task_id"] for task in serialised["tasks"])


# --- parsing --------------------------------------------------------------------------------------------------------


def test_every_file_parses_to_the_one_dag_it_is_named_after(dag_bag: Any) -> None:
    assert dag_bag.import_errors == {}
    assert DAG_IDS, "the folder of DAGs is empty"
    assert sorted(dag_bag.dags) == DAG_IDS
    assert {dag_id: Path(dag.fileloc).stem for dag_id, dag in dag_bag.dags.items()} == {one: one for one in DAG_IDS}


def test_a_dag_survives_serialisation(dag: Any) -> None:
    once = DagSerialization.serialize_dag(dag)
    again = DagSerialization.deserialize_dag(json.loads(json.dumps(once)))
    assert again.dag_id == dag.dag_id
    assert set(again.task_dict) == {task.task_id for task in dag.tasks}
    assert [sorted(task.upstream_task_ids) for task in again.tasks] == [
        sorted(dag.get_task(task.task_id).upstream_task_ids) for task in again.tasks
    ]


@pytest.mark.parametrize("path", FILES, ids=DAG_IDS)
def test_nothing_varies_from_parse_to_parse(path: Path) -> None:
    """Airflow's own check at its strictest level: each new value would be a new version of the DAG."""
    from airflow.utils.dag_version_inflation_checker import check_dag_file_stability

    found = check_dag_file_stability(str(path))
    assert found.check_level.value == "error"
    assert found.runtime_varying_values == {}
    assert found.warnings == {}


PARSE = """
import json, sys
import airflow.sdk, airflow.models
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization
import airflow.providers.standard.operators.trigger_dagrun
import socket

def forbidden(*args, **kwargs):
    raise RuntimeError("parsing a DAG file asked for a variable, a connection or the network")

airflow.sdk.Variable.get = airflow.models.Variable.get = forbidden
airflow.sdk.BaseHook.get_connection = forbidden
socket.socket.connect = socket.create_connection = socket.getaddrinfo = forbidden
before = set(sys.modules)
bag = DagBag(sys.argv[1] if len(sys.argv) > 1 else None)
new = sorted(set(sys.modules) - before)
print(json.dumps({
    "errors": bag.import_errors,
    "dags": {name: DagSerialization.serialize_dag(dag) for name, dag in bag.dags.items()},
    "modules": new,
}, sort_keys=True, default=str))
"""


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return run_python(PARSE, tmp_path_factory.mktemp("parse"), PYTHONHASHSEED="1")


def test_parsing_asks_for_no_variable_connection_or_network(parsed: Any) -> None:
    assert parsed["errors"] == {}
    assert sorted(parsed["dags"]) == DAG_IDS


def test_parsing_imports_nothing_heavy(parsed: Any) -> None:
    """Every DAG file is parsed again and again, and each task's process parses one: what it needs, it imports there."""
    new = parsed["modules"]
    assert "labelops.wiring" in new, "the list of new modules is not that of a parse"
    assert sorted({one.partition(".")[0] for one in new} & HEAVY) == []
    assert [one for one in new if one.startswith(HEAVY_HERE)] == []


def test_another_process_parses_the_same_dags(parsed: Any, tmp_path: Path) -> None:
    other = run_python(PARSE, tmp_path, PYTHONHASHSEED="2")
    assert other["dags"] == parsed["dags"]


def test_bad_files_break_no_parsing(parsed: Any, tmp_path: Path) -> None:
    """A project file that is no YAML, one that is binary, and a schedule file of the wrong shape."""
    projects = tmp_path / "projects"
    projects.mkdir()
    (projects / "broken.yaml").write_text("name: [", "utf-8")
    (projects / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "schedules.yaml").write_text("cron: 7\nitems_per_run: many\n", "utf-8")
    found = run_python(
        PARSE, tmp_path, LABELOPS_PROJECTS=str(projects), LABELOPS_SCHEDULE_FILE=str(tmp_path / "schedules.yaml"),
        LABELOPS_RETRY_SECONDS="soon",
    )  # fmt: skip
    assert found["errors"] == {}
    assert sorted(found["dags"]) == DAG_IDS
    shown = json.dumps(found["dags"]["guideline_sync"]["params"])
    assert "broken" in shown
    assert "binary" in shown
    assert {name: task_ids(one) for name, one in found["dags"].items()} == {
        name: task_ids(one) for name, one in parsed["dags"].items()
    }


# --- what a person sees ---------------------------------------------------------------------------------------------


def test_a_dag_says_whose_it_is_and_what_it_is_about(dag: Any) -> None:
    assert dag.owner == "labelops"
    assert "labelops" in dag.tags
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", tag) for tag in dag.tags)
    assert re.match(r"[ABC]\d: \w", dag.description or "") or dag.dag_id == WAIT


def test_a_dags_documentation_has_its_sections(dag: Any) -> None:
    text = dag.doc_md or ""
    assert re.match(rf"### {dag.dag_id}\b", text)
    assert [one for one in SECTIONS if f"**{one}**" not in text] == []


def test_mapped_items_are_named_in_the_ui(mapping_dag: Any) -> None:
    for group in mapped_groups(mapping_dag):
        for task in group.iter_tasks():
            template = task.map_index_template or ""
            assert "['project']" in template, task.task_id
            assert "['name']" in template, task.task_id


def test_the_project_choice_is_open(mapping_dag: Any) -> None:
    """With an enum an old run of a retired project could not be cleared; null means all."""
    choice = mapping_dag.params.get_param("project")
    assert choice.value is None
    assert set(choice.schema["type"]) == {"null", "array"}
    assert "enum" not in json.dumps(choice.schema)
    assert choice.schema["examples"] == ["product_names", "ticket_topics"]


# --- when it runs ---------------------------------------------------------------------------------------------------


def test_a_dag_catches_nothing_up_and_runs_once_at_a_time(dag: Any) -> None:
    assert dag.catchup is False
    assert dag.max_active_runs == (schedules().decision_waits if dag.dag_id == WAIT else 1)
    assert schedules().decision_waits < conf.getint("triggerer", "capacity")
    assert dag.start_date == wiring.START == datetime.fromisoformat("2026-01-01T00:00:00+00:00")


def test_every_schedule_in_the_file_belongs_to_a_dag() -> None:
    assert set(schedules().cron) <= set(DAG_IDS)


def test_the_clock_the_assets_both_or_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    cron, both = wiring.schedule("one", "7 * * * *"), wiring.schedule("one", "7 * * * *", wiring.ANSWERS)
    assert type(cron).__name__ == "CronTriggerTimetable"
    assert type(both).__name__ == "AssetOrTimeSchedule"
    assert wiring.schedule("one", None, wiring.APPROVALS) is wiring.APPROVALS
    either = wiring.schedule("one", None, wiring.APPROVALS, wiring.ANSWERS)
    assert [type(either).__name__, len(either.objects)] == ["AssetAny", 2]
    monkeypatch.setenv("LABELOPS_SCHEDULES", "off")
    assert wiring.schedule("one", "7 * * * *") is None
    assert wiring.schedule("one", "7 * * * *", wiring.ANSWERS) is wiring.ANSWERS


def test_the_schedule_file_changes_a_clock_or_stops_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    place = tmp_path / "schedules.yaml"
    place.write_text('cron: {one: "1 2 * * *", other: null}\n', "utf-8")
    monkeypatch.setenv("LABELOPS_SCHEDULE_FILE", str(place))
    assert wiring.schedule("one", "7 * * * *").expression == "1 2 * * *"
    assert wiring.schedule("other", "7 * * * *", wiring.ANSWERS) is wiring.ANSWERS
    assert wiring.schedule("third", "7 * * * *").expression == "7 * * * *"


def test_every_asset_that_starts_a_dag_is_announced_by_another_or_watched(dag_bag: Any) -> None:
    announced = {asset.name for dag in dag_bag.dags.values() for task in dag.tasks for asset in task.outlets}
    watched = {one.name for one in (wiring.ANSWERS,) if one.watchers}
    stored = (DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag)) for dag in dag_bag.dags.values())
    conditions = [getattr(dag.timetable, "asset_condition", None) for dag in stored]
    listened = {key.name for one in conditions if one is not None for key, _ in one.iter_assets()}
    assert listened
    assert listened <= announced | watched


# --- tasks ----------------------------------------------------------------------------------------------------------


def test_every_task_is_tried_again_by_our_policy_and_ends_some_day(dag: Any) -> None:
    for task in every_task(dag):
        assert task.retries >= 1, task.task_id
        assert isinstance(task.retry_policy, LabelopsRetryPolicy), task.task_id
        if (dag.dag_id, task.task_id) == (WAIT, "wait"):
            # Airflow does not apply it to a deferred task; the wait ends by the timeout of its deferral.
            assert task.execution_timeout is None
            assert task.longest.days == 60
        else:
            assert task.execution_timeout, task.task_id


def test_a_task_that_talks_to_a_system_takes_a_slot_of_its_pool(dag: Any) -> None:
    seen = 0
    for task in every_task(dag):
        systems = [*getattr(task, "on", ()), *(one[:-8] for one in vars(task) if one.endswith("_conn_id"))]
        pools = [SYSTEM_POOLS[name] for name in systems if name in SYSTEM_POOLS]
        seen += bool(pools)
        assert task.pool == (pools[0] if pools else "default_pool"), task.task_id
    assert seen


def test_every_pool_is_made_where_an_airflow_is_set_up(dag_bag: Any) -> None:
    used = {task.pool for dag in dag_bag.dags.values() for task in dag.tasks} - {"default_pool"}
    local = yaml.safe_load((ROOT / "airflow_settings.yaml").read_text("utf-8"))["airflow"]["pools"]
    assert used == set(POOLS) == set(DEMO_POOLS) == {one["pool_name"] for one in local} == set(SYSTEM_POOLS.values())


# --- the shape of a DAG that serves many projects -------------------------------------------------------------------


def test_one_group_is_mapped_over_the_listed_work(mapping_dag: Any) -> None:
    [group] = mapped_groups(mapping_dag)
    assert {one.task_id for one in group.iter_mapped_dependencies()} == {"list_work"}
    assert mapping_dag.get_task("list_work").upstream_task_ids == set()


def test_nothing_in_a_mapped_group_does_what_airflow_cannot_do_there(mapping_dag: Any) -> None:
    """Found by trying: expansion inside raises, branches skip nothing, other trigger rules collapse over all items."""
    for group in mapped_groups(mapping_dag):
        tasks = list(group.iter_tasks())
        assert tasks
        for task in tasks:
            assert not getattr(task, "is_mapped", False), f"{task.task_id} is mapped inside a mapped group"
            assert not isinstance(task, (BaseBranchOperator, SkipMixin)), f"{task.task_id} skips by branching"
            kinds = {one.__name__ for one in type(task).__mro__}
            assert not kinds & {"ApprovalOperator", "HITLBranchOperator", "ShortCircuitOperator", "BranchMixIn"}
            assert task.trigger_rule in RULES_IN_GROUPS, f"{task.task_id}: {task.trigger_rule}"
        inner = [one for one in mapping_dag.task_group_dict.values() if one is not group and one.parent_group is group]
        assert not [one for one in inner if isinstance(one, MappedTaskGroup)]


def test_the_only_leaf_says_what_failed(mapping_dag: Any) -> None:
    [leaf] = mapping_dag.leaves
    assert isinstance(leaf, ConcludeOperator)
    assert leaf.trigger_rule == TriggerRule.ALL_DONE
    [group] = mapped_groups(mapping_dag)
    assert leaf.group == group.group_id


def test_assets_are_announced_once_by_the_last_task_but_one(mapping_dag: Any) -> None:
    with_outlets = [task for task in mapping_dag.tasks if task.outlets]
    for task in with_outlets:
        assert isinstance(task, AnnounceOperator), task.task_id
        assert task.get_closest_mapped_task_group() is None
        assert task.downstream_task_ids == {"conclude"}
    announce = mapping_dag.get_task("announce")
    assert announce.trigger_rule == TriggerRule.ALL_DONE
    assert f"{announce.group}.{announce.result_task}" in mapping_dag.task_dict
    assert len(with_outlets) == bool(USE_CASES[mapping_dag.dag_id].announces)


def test_only_the_wait_is_started_by_other_dags(dag_bag: Any) -> None:
    started = {
        (dag.dag_id, task.trigger_dag_id)
        for dag in dag_bag.dags.values()
        for task in dag.tasks
        if isinstance(task, TriggerDagRunOperator)
    }
    waiting = {name for name, one in USE_CASES.items() if any(isinstance(step, Wait) for step in one.steps)}
    assert started == {(name, WAIT) for name in waiting}
    assert dag_bag.dags[WAIT].schedule is None
