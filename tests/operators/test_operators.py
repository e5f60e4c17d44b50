"""The frame of every DAG, the start of a wait, the retry policy and the run, called as Airflow calls them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import Asset
from airflow.sdk.definitions.retry_policy import RetryAction
from airflow.sdk.exceptions import AirflowSkipException
from structlog.testing import capture_logs

from include.base.errors import (
    AuthError,
    Conflict,
    Fenced,
    InvalidInput,
    InvalidReply,
    LabelopsError,
    LedgerBehind,
    NotFound,
    RateLimited,
    Refused,
    Unavailable,
    Unsupported,
)
from include.governance.checkpoint import write_checkpoint
from include.governance.ledger import Ledger
from include.projects.load import load_project
from include.projects.model import Project
from include.run.run import ItemResult, NothingToDo, Run, WorkItem
from include.settings import ROOT
from labelops import runtime
from labelops.operators.frame import AnnounceOperator, ConcludeOperator, ItemFailed
from labelops.operators.step import ListOperator, StepOperator
from labelops.operators.wait import StartWaitOperator
from labelops.retry import LabelopsRetryPolicy

CAP = 3
RUN_AFTER = datetime(2026, 11, 2, 9, 7, tzinfo=UTC)


TOLD: dict[str, Any] = {}
"""What the test says a project has."""


def told(project: Project) -> Iterator[WorkItem]:
    """List what the test says a project has."""
    for one in TOLD.get(project.name, []):
        if isinstance(one, Exception):
            raise one
        yield WorkItem(project.name, one, f"thing {one}")


def lister(**things: Any) -> ListOperator:
    TOLD.clear()
    TOLD.update(things)
    return ListOperator(task_id="list_work", unit="thing", function=f"{__name__}:told", by_hand=("close",))


@dataclass(frozen=True)
class Given:
    """What a step hands on."""

    words: str
    number: int = 1


def place(run: Run, project: Project, item: WorkItem) -> list[str]:
    """Say which project and subject it was given."""
    return [project.title, item.subject, run.ref.text]


def hand_on(item: WorkItem) -> Given:
    return Given(item.name)


def take(given: Given) -> str:
    return f"{given.words} {given.number}"


def take_or_not(given: Given | None) -> str:
    return "nothing" if given is None else given.words


def nothing() -> None:
    raise NothingToDo("It is all done.")


def unknown(weather: str) -> None:
    raise AssertionError(weather)


def step(function: Any, **parts: Any) -> StepOperator:
    return StepOperator(task_id="step", function=f"{__name__}:{function.__name__}", **parts)


@dataclass
class TaskInstance:
    """What the operators use of Airflow's task instance."""

    task_id: str = "list_work"
    map_index: int | None = None
    results: Any = None
    states: dict[str, str] = field(default_factory=dict)
    pushed: dict[str, Any] = field(default_factory=dict)
    dag_id: str = "guideline_sync"
    run_id: str = "manual__2026-11-02T09:07:00+00:00"
    try_number: int = 1
    waits: int = 0

    def get_dr_count(self, dag_id: str, states: list[str]) -> int:
        assert (dag_id, states) == ("decision_wait", ["running", "queued"])
        return self.waits

    def xcom_pull(self, task_ids: str) -> Any:
        return self.results

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value

    def get_task_states(self, dag_id: str, run_ids: list[str]) -> dict[str, dict[str, str]]:
        assert (dag_id, run_ids) == (self.dag_id, [self.run_id])
        return {self.run_id: self.states}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    projects = tmp_path / "projects"
    projects.mkdir()
    for path in (ROOT / "include" / "projects" / "definitions").glob("*.yaml"):
        (projects / path.name).write_bytes(path.read_bytes())
    (tmp_path / "schedules.yaml").write_text(f"cron: {{}}\nitems_per_run: {CAP}\n", "utf-8")
    monkeypatch.setenv("LABELOPS_HOME", str(tmp_path))
    monkeypatch.setenv("LABELOPS_PROJECTS", str(projects))
    monkeypatch.setenv("LABELOPS_SCHEDULE_FILE", str(tmp_path / "schedules.yaml"))
    Ledger(f"sqlite:///{tmp_path / 'ledger.db'}").migrate()
    return tmp_path


def context(ti: TaskInstance | None = None, *, at: datetime = RUN_AFTER, **conf: Any) -> dict[str, Any]:
    return {
        "ti": ti or TaskInstance(),
        "dag": SimpleNamespace(params={"project": None, "close": None}),
        "dag_run": SimpleNamespace(conf=conf, run_after=at, triggering_user_name=None),
        "params": {"project": None, **conf},
        "outlet_events": {},
    }


def subjects(items: list[dict[str, Any]]) -> list[str]:
    return [one["subject"] for one in items]


# --- listing --------------------------------------------------------------------------------------------------------


def test_items_are_listed_oldest_first_and_the_projects_take_turns(home: Path) -> None:
    found = lister(product_names=["p1"], ticket_topics=["t1", "t2"]).execute(context())
    assert subjects(found) == ["p1", "t1", "t2"]
    assert found[0] == {
        "project": "product_names", "subject": "p1", "name": "thing p1", "detail": {}, "error": None,
    }  # fmt: skip


def test_a_run_takes_no_more_than_the_cap_and_counts_the_rest(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "labelops")
    found = lister(product_names=[f"p{n}" for n in range(5)], ticket_topics=["t1"]).execute(context())
    assert len(found) == len(set(subjects(found))) == CAP
    assert "found 6 work item(s); this run takes 3, 3 wait for the next" in caplog.text


@pytest.mark.parametrize("minutes", [1, 15, 60, 24 * 60], ids=["minute", "quarter", "hour", "day"])
def test_an_item_that_stays_open_keeps_no_other_from_its_turn(home: Path, minutes: int) -> None:
    """Nothing is ever decided here, and yet every item is looked at before long."""
    listed = lister(product_names=[f"p{n}" for n in range(8)], ticket_topics=[f"t{n}" for n in range(4)])
    seen: set[str] = set()
    for number in range(40):
        seen |= set(subjects(listed.execute(context(at=RUN_AFTER + timedelta(minutes=minutes * number)))))
    assert len(seen) == 12


def test_a_retry_of_the_listing_lists_the_same(home: Path) -> None:
    listed = lister(product_names=[f"p{n}" for n in range(9)])
    assert listed.execute(context()) == listed.execute(context(TaskInstance(try_number=2)))


def test_a_bad_file_and_a_bad_listing_are_items_that_fail_alone(home: Path) -> None:
    (home / "projects" / "broken.yaml").write_text("name: [", "utf-8")
    listed = lister(product_names=["p1", Unavailable("the database is away")], ticket_topics=["t1"])
    found = {one["project"]: one for one in listed.execute(context(TaskInstance(try_number=2)))}
    assert found["broken"]["subject"] == "thing:broken"
    assert "broken.yaml" in found["broken"]["error"]
    assert "Unavailable: the database is away" in found["product_names"]["error"]
    assert found["ticket_topics"]["error"] is None


def test_only_the_chosen_projects_are_listed(home: Path) -> None:
    listed = lister(product_names=["p1"], ticket_topics=["t1"])
    assert subjects(listed.execute(context(project=["ticket_topics"]))) == ["t1"]
    with pytest.raises(InvalidInput, match="found nobody; allowed: product_names, ticket_topics"):
        listed.execute(context(project=["nobody"]))


def test_what_is_decided_by_hand_needs_exactly_one_project(home: Path) -> None:
    with pytest.raises(InvalidInput, match="project: `close` need exactly one project; found 2"):
        lister(product_names=["p1"]).execute(context(close=["abcdef"]))


def test_a_misspelt_parameter_is_refused(home: Path) -> None:
    with pytest.raises(InvalidInput, match="found projcet; allowed: close, project"):
        lister().execute(context(projcet=["ticket_topics"]))


# --- one item -------------------------------------------------------------------------------------------------------


def item(**parts: Any) -> dict[str, Any]:
    return WorkItem("ticket_topics", "guideline:ticket_topics", "guideline", **parts).as_dict()


def test_a_step_works_on_its_project_and_knows_its_place(home: Path) -> None:
    ti = TaskInstance(task_id="group.step", map_index=4, try_number=2)
    title, subject, run = step(place, item=item()).execute(context(ti))
    assert (title, subject) == (load_project(home / "projects", "ticket_topics").title, "guideline:ticket_topics")
    assert run == f"guideline_sync/{ti.run_id}/group.step/4/2"


def test_a_bad_item_fails_with_its_reason(home: Path) -> None:
    with pytest.raises(InvalidInput, match="guideline:ticket_topics of ticket_topics: line 3 is wrong"):
        step(place, item=item(error="line 3 is wrong")).execute(context())


def test_a_step_hands_on_a_value_and_takes_it(home: Path) -> None:
    travels = step(hand_on, item=item()).execute(context())
    assert travels == {"words": "guideline", "number": 1}
    assert step(take, item=item(), given=travels).execute(context()) == "guideline 1"


def test_a_step_without_what_it_needs_is_refused(home: Path) -> None:
    """As after a task that somebody marked successful."""
    with pytest.raises(Refused, match="guideline:ticket_topics of ticket_topics: the step before step left no result"):
        step(take, item=item()).execute(context())
    assert step(take_or_not, item=item()).execute(context()) == "nothing"


def test_nothing_to_do_skips_the_item(home: Path) -> None:
    with pytest.raises(AirflowSkipException, match=r"It is all done\."):
        step(nothing, item=item()).execute(context())


def test_what_a_function_may_ask_for_is_said(home: Path) -> None:
    with pytest.raises(TypeError, match=r"asks for .weather.; it may ask for gate, given, item, par"):
        step(unknown, item=item()).execute(context())
    with pytest.raises(ValueError, match="on: found weather; allowed: confluence"):
        step(unknown, item=item(), on=("weather",))


# --- announcing -----------------------------------------------------------------------------------------------------


def result(subject: str, **parts: Any) -> dict[str, Any]:
    return asdict(ItemResult("ticket_topics", subject, subject, "done", "It is done", **parts))


def announce(ti: TaskInstance, outlets: list[Asset]) -> tuple[Any, dict[Any, Any]]:
    events = {one: SimpleNamespace(extra=None) for one in outlets}
    operator = AnnounceOperator(task_id="announce", items=[], group="group", result_task="step", outlets=outlets)
    return operator.execute({**context(ti), "outlet_events": events}), events


def test_one_event_tells_what_changed_and_the_sums_count_everything() -> None:
    asset = Asset("labelops/some")
    ti = TaskInstance(
        results=[
            result("a", created=2, changed=True),
            None,
            result("b", updated=1),
            result("c", created=3, changed=True),
        ]
    )
    found, events = announce(ti, [asset])
    assert found == events[asset].extra == {"subjects": ["a", "c"]}
    summary = ti.pushed["summary"]
    assert (summary["created"], summary["updated"]) == (5, 1)
    assert [one["subject"] for one in summary["results"]] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "results", [None, [], [None], [result("a", created=1)]], ids=["none", "no item", "skipped", "kept"]
)
def test_nothing_is_announced_when_nothing_changed(results: Any) -> None:
    ti = TaskInstance(results=results)
    with pytest.raises(AirflowSkipException, match="Nothing changed"):
        announce(ti, [Asset("labelops/some")])
    assert ti.pushed["summary"]["results"] == [one for one in results or [] if one]


# --- concluding -----------------------------------------------------------------------------------------------------

ITEMS = [item(), {**item(), "project": "product_names", "subject": "guideline:product_names"}]


def conclude(**states: str) -> dict[str, int]:
    ti = TaskInstance(task_id="conclude", states={name.replace("__", "."): state for name, state in states.items()})
    return ConcludeOperator(task_id="conclude", items=ITEMS, group="group").execute(context(ti))


def test_a_good_run_counts_its_items(home: Path) -> None:
    done = conclude(list_work="success", group__step_0="success", group__step_1="skipped", announce="skipped")
    assert done == {"items": 2}


def test_the_failed_items_are_named_with_the_step_that_failed(home: Path) -> None:
    with pytest.raises(ItemFailed) as failed:
        conclude(
            list_work="success", group__collect_0="success", group__collect_1="failed", group__gate_0="failed",
            group__gate_1="upstream_failed", group__publish_0="upstream_failed", group__publish_1="upstream_failed",
            announce="skipped",
        )  # fmt: skip
    assert str(failed.value).removeprefix("failed: ").split("; ") == [
        "ticket_topics · guideline (at gate)",
        "product_names · guideline (at collect)",
    ]


def test_a_listing_or_announcement_that_failed_is_named_too(home: Path) -> None:
    with pytest.raises(ItemFailed, match="failed: announce"):
        conclude(list_work="success", group__step_0="success", group__step_1="success", announce="failed")
    with pytest.raises(ItemFailed, match="failed: list_work"):
        conclude(list_work="failed", announce="skipped")


# --- starting a wait ------------------------------------------------------------------------------------------------


def waiting(**parts: Any) -> dict[str, Any]:
    detail = {"digest": "ab" * 32, "number": 4, "process_id": "process-1", **parts}
    return asdict(ItemResult("ticket_topics", "version:x", "version 4", "waiting", "It waits", detail=detail))


def start(monkeypatch: pytest.MonkeyPatch, given: Any, use_case: str = "labeling_approval") -> Any:
    """Return the run id and the conf with which Airflow is asked for a run."""
    asked: list[Any] = []
    monkeypatch.setattr(
        TriggerDagRunOperator, "execute", lambda self, context: asked.append((self.trigger_run_id, self.conf))
    )
    operator = StartWaitOperator(task_id="start_wait", item=item(), result=given, use_case=use_case)
    assert operator.trigger_dag_id == "decision_wait"
    assert operator.skip_when_already_exists is True
    operator.execute(context())
    [one] = asked
    return one


@pytest.mark.parametrize(("waits", "told"), [(799, False), (800, True), (3000, True)])
def test_a_wait_that_will_be_queued_is_started_and_told(
    monkeypatch: pytest.MonkeyPatch, waits: int, told: bool
) -> None:
    started: list[str] = []
    monkeypatch.setattr(TriggerDagRunOperator, "execute", lambda self, context: started.append(self.trigger_run_id))
    operator = StartWaitOperator(task_id="start_wait", item=item(), result=waiting(), use_case="labeling_approval")
    with capture_logs() as lines:
        operator.execute(context(TaskInstance(waits=waits)))
    assert len(started) == 1
    said = [line["event"] for line in lines if "decision_waits" in line["event"]]
    assert len(said) == told
    for sentence in said:
        assert f"{waits} runs of decision_wait wait or are queued and 800 may wait at the same time" in sentence
        assert "the wait for process process-1 is queued" in sentence


def test_the_wait_is_named_by_what_it_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    run_id, conf = start(monkeypatch, waiting())
    assert run_id.startswith("labeling_approval__ticket_topics__v4__")
    assert conf == {
        "use_case": "labeling_approval",
        "project_name": "ticket_topics",
        "digest": "ab" * 32,
        "process_id": "process-1",
    }
    assert start(monkeypatch, waiting()) == (run_id, conf)
    others = [
        start(monkeypatch, waiting(process_id="process-2"))[0],
        start(monkeypatch, waiting(digest="cd" * 32))[0],
        start(monkeypatch, waiting(), "dataset_release")[0],
    ]
    assert len({run_id, *others}) == 4


@pytest.mark.parametrize("given", [None, {**waiting(), "state": "approved"}], ids=["no result", "decided"])
def test_where_nothing_waits_no_run_is_started(monkeypatch: pytest.MonkeyPatch, given: Any) -> None:
    with pytest.raises(AirflowSkipException, match="Nothing waits"):
        start(monkeypatch, given)


# --- retrying -------------------------------------------------------------------------------------------------------


class Other(LabelopsError):
    """An error of ours that the policy does not know."""


@pytest.mark.parametrize(
    ("error", "action", "delay"),
    [
        (RateLimited("slow down", retry_after=90), RetryAction.RETRY, 90),
        (RateLimited("slow down", retry_after=100_000), RetryAction.RETRY, 3600),
        (RateLimited("slow down"), RetryAction.RETRY, None),
        (Unavailable("away"), RetryAction.RETRY, None),
        (Unavailable("away", retry_after=7200), RetryAction.RETRY, 3600),
        (Conflict("somebody was faster"), RetryAction.RETRY, None),
        (InvalidReply("half a reply"), RetryAction.RETRY, None),
        (Other("new"), RetryAction.RETRY, None),
        (AuthError("refused"), RetryAction.FAIL, None),
        (NotFound("gone"), RetryAction.FAIL, None),
        (Unsupported("too old"), RetryAction.FAIL, None),
        (InvalidInput("line 3"), RetryAction.FAIL, None),
        (Refused("four eyes"), RetryAction.FAIL, None),
        (Fenced("a newer try"), RetryAction.FAIL, None),
        (LedgerBehind("recover it"), RetryAction.FAIL, None),
        (ItemFailed("failed: x"), RetryAction.FAIL, None),
        (MemoryError(), RetryAction.DEFAULT, None),
        (ValueError("a bug"), RetryAction.DEFAULT, None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_what_is_tried_again(error: BaseException, action: RetryAction, delay: float | None) -> None:
    decision = LabelopsRetryPolicy().evaluate(error, 1, 5)
    assert decision.action is action
    assert decision.retry_delay == (None if delay is None else timedelta(seconds=delay))
    assert action is RetryAction.DEFAULT or decision.reason


def test_the_longest_pause_is_a_setting_that_is_stored() -> None:
    policy = LabelopsRetryPolicy(longest=60)
    assert policy.evaluate(RateLimited("x", retry_after=61), 1, 5).retry_delay == timedelta(seconds=60)
    assert LabelopsRetryPolicy(**policy.serialize()).longest == 60


# --- the run -------------------------------------------------------------------------------------------------------


def test_a_run_knows_its_run_and_has_a_folder_of_its_own(home: Path) -> None:
    ti = TaskInstance(task_id="group.step", map_index=2, try_number=3)
    given = context(ti)
    given["dag_run"].triggering_user_name = "olga"
    run = runtime.run_of(given)
    assert run.ref.text == f"guideline_sync/{ti.run_id}/group.step/2/3"
    assert run.requester() == "olga"
    assert str(run.staging).endswith("/staging/guideline_sync/manual__2026-11-02T09_07_00+00_00/group.step/2/3")
    assert run.ledger.head().size >= 0


def test_a_stranger_who_triggered_the_run_is_nobody(home: Path) -> None:
    given = context()
    given["dag_run"].triggering_user_name = "mallory"
    with pytest.raises(Refused, match="'mallory' belongs to no person"):
        runtime.run_of(given).requester()


def test_an_unmapped_task_has_no_map_index(home: Path) -> None:
    assert runtime.run_of(context(TaskInstance(map_index=None))).ref.map_index == -1


def test_a_ledger_behind_its_checkpoint_stops_the_task(home: Path) -> None:
    run = runtime.run_of(context())
    run.note("finding", "ticket_topics", "x", reason="first")
    write_checkpoint(run.ledger, run.store)
    run.ledger.close()
    for path in home.glob("ledger.db*"):
        path.unlink()
    Ledger(f"sqlite:///{home / 'ledger.db'}").migrate()
    with pytest.raises(LedgerBehind):
        runtime.run_of(context())


@pytest.mark.parametrize("executor", ["CeleryExecutor", "KubernetesExecutor", "LocalExecutor,CeleryExecutor"])
def test_a_local_store_is_refused_where_workers_have_disks_of_their_own(
    home: Path, monkeypatch: pytest.MonkeyPatch, executor: str
) -> None:
    monkeypatch.setattr(runtime, "conf", SimpleNamespace(get=lambda *key, **other: executor))
    with pytest.raises(InvalidInput, match=r"LABELOPS_STORE is the local folder .* LABELOPS_STORE_SHARED"):
        runtime.open_store()
    monkeypatch.setenv("LABELOPS_STORE_SHARED", "true")
    assert str(runtime.open_store().root).endswith("store")


def test_a_local_store_is_fine_on_one_machine(home: Path) -> None:
    assert str(runtime.open_store().root) == f"file://{home / 'store'}"


@pytest.mark.parametrize(
    ("value", "name"),
    [("manual__2026-11-02T09:07:00+00:00", "manual__2026-11-02T09_07_00+00_00"), ("../../etc", ".._.._etc"), ("", "_")],
)
def test_an_id_becomes_one_file_name(value: str, name: str) -> None:
    assert runtime.name_in_store(value) == name
