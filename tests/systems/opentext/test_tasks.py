"""People's tasks: lists, actions, attachments; and what a lost reply leaves."""

from __future__ import annotations

import ast
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from include.base.errors import Conflict, InvalidInput, InvalidReply, NotFound, Unavailable
from include.bpmn.mapping import MAPPINGS, load_mapping, start_variables
from include.sandbox.http import Server, json_reply
from include.sandbox.opentext import OpenTextStandIn
from include.settings import ROOT
from include.systems.opentext.client import OpenTextClient
from tests.systems.opentext.connect import connect

MODELS = ROOT / "tests" / "bpmn" / "models"
MAPPING = load_mapping("default").labeling_approval
SERVICE = {"id": "labelops-service", "secret": "an-invented-secret"}
DANA, DORA = "dana@people.example", "dora@people.example"
PEOPLE = [
    {"email": one, "name": one[:4], "password": "pw", "groups": groups}
    for one, groups in ((DANA, ["data_owners"]), (DORA, ["data_owners", "reserve"]))
]


@dataclass
class Bench:
    standin: OpenTextStandIn
    server: Server
    client: OpenTextClient
    make: Callable[..., OpenTextClient]

    def start(self, key: str = "key-1", review: bool = False) -> str:
        roles = ["data_owner", *(["quality_reviewer"] if review else [])]
        variables = {
            **start_variables(MAPPING, roles, {"quality_reviewer": "data_owners"}),
            "dataset_digest": "ab" * 32,
        }
        return self.client.start_process(MAPPING.process_key, name="V", business_key=key, variables=variables)[0]

    def task(self, **more: Any) -> str:
        return next(self.client.tasks(process_id=self.start(**more))).id

    def lose(self, method: str, part: str, kind: str = "reset_after") -> None:
        self.standin.app.fault(kind, lambda request: request.method == method and part in request.path)

    def sent(self, method: str, part: str) -> int:
        return sum(one == method and part in target for one, target in self.standin.app.requests)


@pytest.fixture
def bench() -> Iterator[Bench]:
    standin = OpenTextStandIn(None, users=PEOPLE, clients=[SERVICE])
    standin.service_may_complete = True
    with Server(standin.app) as server:

        def make(**extra: Any) -> OpenTextClient:
            return connect(server.url, SERVICE, **extra)

        client = make()
        client.deploy("labeling_approval", (MAPPINGS.parent / "labeling_approval.bpmn").read_text("utf-8"))
        yield Bench(standin, server, client, make)
    standin.close()


# --- lists ------------------------------------------------------------------------------------------------------------


def test_tasks_are_chosen_by_everything_that_is_asked_for(bench: Bench) -> None:
    first, second = bench.task(key="a"), bench.task(key="b")

    def ids(**chosen: Any) -> list[str]:
        return [one.id for one in bench.client.tasks(**chosen)]

    assert ids() == [first, second]
    assert ids(process_id=bench.client.find_process("b")) == [second]
    assert ids(process_key="labeling_approval") == [first, second]
    assert ids(process_key="other") == []


@pytest.mark.parametrize("told", [True, False])
def test_a_task_says_its_id_in_the_model_where_the_list_tells_it(bench: Bench, told: bool) -> None:
    bench.standin.tells_task_keys = told
    bench.task()
    assert [one.key for one in bench.client.tasks()] == ["approve_dataset" if told else None]


def test_tasks_completed_while_the_list_is_read_hide_no_other(bench: Bench) -> None:
    every = [bench.task(key=f"k{number}") for number in range(6)]
    listing = bench.make(count=2).tasks()
    seen = [next(listing).id, next(listing).id]
    for task_id in every[:2]:
        bench.client.complete(task_id, outcome="approved")
    seen += [one.id for one in listing]
    assert set(seen) == set(every)


def test_one_task_with_its_candidates_and_variables(bench: Bench) -> None:
    task = bench.client.task(bench.task())
    assert task.candidate_groups == ("data_owners",)
    assert task.variables["dataset_digest"] == "ab" * 32
    with pytest.raises(NotFound):
        bench.client.task("none")


# --- actions ----------------------------------------------------------------------------------------------------------


def test_only_the_fields_given_change_and_none_clears(bench: Bench) -> None:
    task_id = bench.task()
    due = datetime(2027, 1, 2, 3, tzinfo=UTC)
    task = bench.client.update_task(task_id, dueDate=due, owner=DORA, priority=80)
    assert (task.due, task.owner, task.priority, task.assignee) == (due, DORA, 80, None)
    task = bench.client.update_task(task_id, dueDate=None, assignee=DANA)
    assert (task.due, task.owner, task.priority, task.assignee) == (None, DORA, 80, DANA)
    bench.standin.app.requests.clear()
    assert bench.client.update_task(task_id) == task
    assert bench.sent("PUT", "/tasks/") == 0


@pytest.mark.parametrize("kind", ["reset_after", "garbage"])
def test_the_lost_reply_to_completing_is_looked_up_and_the_next_task_stays(bench: Bench, kind: str) -> None:
    process_id = bench.start(review=True)
    [review] = bench.client.tasks(process_id=process_id)
    bench.lose("POST", "/tasks/", kind)
    bench.client.complete(review.id, outcome="approved")
    assert bench.sent("POST", "/tasks/") == 1
    [following] = bench.client.tasks(process_id=process_id)
    assert (following.name, following.assignee) == ("Approve dataset", None)
    with pytest.raises(NotFound):
        bench.client.complete(review.id, outcome="approved")
    assert [one.id for one in bench.client.tasks(process_id=process_id)] == [following.id]


def test_a_completion_that_did_not_arrive_is_said_and_the_task_waits(bench: Bench) -> None:
    task_id = bench.task()
    bench.lose("POST", "/tasks/", "reset_before")
    with pytest.raises(Unavailable):
        bench.client.complete(task_id, outcome="approved")
    assert bench.client.task(task_id).id == task_id


def test_a_process_that_was_ended_did_not_complete_its_task(bench: Bench) -> None:
    """The reply is lost and the task is gone, but because somebody ended the process: that is no completion."""
    process_id = bench.start()
    [task] = bench.client.tasks(process_id=process_id)

    def end(request: Any) -> bool:
        if request.method == "POST" and "/tasks/" in request.path:
            with bench.standin.state.transaction():
                bench.standin._stop(process_id, "stopped", time.time())
            return True
        return False

    bench.standin.app.fault("reset_before", end)
    with pytest.raises(Unavailable):
        bench.client.complete(task.id, outcome="approved")


@pytest.mark.parametrize("kind", ["reset_before", "reset_after"])
def test_a_lost_reply_to_claiming_is_looked_up(bench: Bench, kind: str) -> None:
    task_id = bench.task()
    bench.lose("POST", "/tasks/", kind)
    bench.client.claim(task_id, DANA)
    bench.lose("POST", "/tasks/")
    assert bench.client.task(task_id).assignee == DANA


def test_a_form_without_buttons_is_completed_by_its_variables(bench: Bench) -> None:
    bench.standin.passed_over = frozenset({"serviceTask", "sendTask"})
    bench.client.deploy("ds-signoff-v2", (MODELS / "parallel_en.bpmn").read_text("utf-8"))
    variables = {"methods_group": "data_owners", "business_group": "data_owners"}
    process_id, _ = bench.client.start_process("ds-signoff-v2", name="V", business_key="p", variables=variables)
    for task in list(bench.client.tasks(process_id=process_id)):
        name = "methods_ok" if task.name.endswith("methods") else "business_ok"
        bench.client.complete(task.id, variables={name: "yes"})
    assert bench.client.history(process_id).end_activity_id == "sid-11"


# --- attachments ------------------------------------------------------------------------------------------------------


def test_links_and_files_are_attached_and_read(bench: Bench) -> None:
    task_id = bench.task()
    assert bench.client.attachments(task_id) == []
    link = bench.client.add_attachment(task_id, "Report", url="https://reports.example/1", description="the report")
    file = bench.client.add_attachment(task_id, "räte.bin", content=b"\x00\xff\r\n--x\r\n")
    assert [(one.name, one.kind, one.url, one.description) for one in bench.client.attachments(task_id)] == [
        ("Report", "link", "https://reports.example/1", "the report"),
        ("räte.bin", "file", None, ""),
    ]
    assert bench.client.attachment_content(task_id, file.id) == b"\x00\xff\r\n--x\r\n"
    with pytest.raises(NotFound):
        bench.client.attachment_content(task_id, link.id)


def test_an_attachment_is_a_link_or_a_file_and_a_lost_reply_makes_no_second(bench: Bench) -> None:
    task_id = bench.task()
    with pytest.raises(InvalidInput, match="either a url or content"):
        bench.client.add_attachment(task_id, "x")
    with pytest.raises(InvalidInput, match="at most 50000000"):
        bench.client.add_attachment(task_id, "x", content=b"0" * 50_000_001)
    bench.client.add_attachment(task_id, "x", url="https://a.example")
    bench.lose("POST", "/attachments")
    again = bench.client.add_attachment(task_id, "x", url="https://a.example")
    assert [one.id for one in bench.client.attachments(task_id)][1:] == [again.id]
    bench.lose("POST", "/attachments", "truncate")
    bench.client.add_attachment(task_id, "y", content=b"1")
    assert [one.name for one in bench.client.attachments(task_id)] == ["x", "x", "y"]
    bench.lose("POST", "/attachments", "reset_before")
    with pytest.raises(Unavailable):
        bench.client.add_attachment(task_id, "z", content=b"1")


@pytest.mark.parametrize(
    "reply", [{"_embedded": {"attachments": [{"id": "a", "name": "n"}]}}, [{"id": "a", "name": "n"}]]
)
def test_a_short_list_may_come_bare_or_embedded(bench: Bench, reply: Any) -> None:
    task_id = bench.task()
    bench.standin.app.fault("status", lambda request: request.path.endswith("/attachments"), reply=json_reply(reply))
    assert [one.id for one in bench.client.attachments(task_id)] == ["a"]


def test_errors_keep_their_kind(bench: Bench) -> None:
    task_id = bench.task()
    bench.client.claim(task_id, DANA)
    with pytest.raises(Conflict, match="already claimed by someone else"):
        bench.client.claim(task_id, DORA)
    bench.lose("GET", f"/tasks/{task_id}", "garbage")
    with pytest.raises(InvalidReply):
        bench.client.task(task_id)


def test_labelops_itself_never_acts_on_a_persons_task() -> None:
    """No code of ours claims or completes a task, but for the probe."""
    actions = {"complete", "claim"}
    found = []
    for folder in ("include", "plugins", "dags"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            place = path.relative_to(ROOT)
            if place.parts[:2] == ("include", "sandbox") or place == Path("include/decisions/completion_probe.py"):
                continue
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in actions:
                    owner = ast.unparse(node.func.value)
                    if any(part in owner.lower() for part in ("opentext", "hook", "client")):
                        found.append(f"{place}:{node.lineno}: {owner}.{node.func.attr}")
    assert found == []
