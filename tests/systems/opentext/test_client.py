from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.base.errors import (
    AuthError,
    Conflict,
    InvalidInput,
    InvalidReply,
    NotFound,
    RateLimited,
    Unavailable,
    Unsupported,
)
from include.bpmn.mapping import MAPPINGS, load_mapping, start_variables
from include.sandbox.http import App, Server, json_reply
from include.sandbox.opentext import OpenTextStandIn
from include.sandbox.opentext.person import Person, PersonRefused
from include.systems.opentext.client import OpenTextClient
from include.systems.opentext.values import Encrypted
from include.systems.opentext.wire import parse_time, read_variables, write_variable
from tests.systems.opentext.connect import connect, settings_of

APPROVAL = (MAPPINGS.parent / "labeling_approval.bpmn").read_text("utf-8")
RELEASE = (MAPPINGS.parent / "dataset_release.bpmn").read_text("utf-8")
MAPPING = load_mapping("default")
SERVICE = {"id": "labelops-service", "secret": "an-invented-secret"}
DANA = {"email": "dana@people.example", "name": "Dana", "password": "pw-dana", "groups": ["data_owners"]}
DORA = {"email": "dora@people.example", "name": "Dora", "password": "pw-dora", "groups": ["data_owners"]}
QUENTIN = {"email": "quentin@people.example", "name": "Q", "password": "pw-q", "groups": ["quality_reviewers"]}
DIGEST = "ab" * 32


@dataclass
class Bench:
    standin: OpenTextStandIn
    server: Server
    client: OpenTextClient

    def person(self, user: dict[str, Any]) -> Person:
        return Person(self.server.url, user["email"], user["password"], SERVICE)

    def start(self, business_key: str = "key-1", roles: tuple[str, ...] = ("data_owner",)) -> str:
        mapping = MAPPING.labeling_approval
        variables = {**start_variables(mapping, roles), mapping.digest_variable: DIGEST}
        return self.client.start_process(
            mapping.process_key, name="Version", business_key=business_key, variables=variables
        )[0]


@pytest.fixture
def bench() -> Iterator[Bench]:
    standin = OpenTextStandIn(None, users=[DANA, DORA, QUENTIN], clients=[SERVICE])
    with Server(standin.app) as server:
        client = connect(server.url, SERVICE)
        client.deploy("labeling_approval", APPROVAL)
        client.deploy("dataset_release", RELEASE)
        yield Bench(standin, server, client)


def is_start(request: Any) -> bool:
    return request.method == "POST" and request.path.endswith("/process-instances")


# --- signing in -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["json", "form", "basic"])
def test_every_token_style_signs_in(bench: Bench, style: str) -> None:
    text = connect(bench.server.url, SERVICE, token_style=style).check()
    assert text == "Signed in as labelops-service; the workflow service answers."


def test_a_wrong_secret_is_an_auth_error_that_says_where_to_look(bench: Bench) -> None:
    client = connect(bench.server.url, SERVICE | {"secret": "wrong-one"})
    for call in (client.check, lambda: client.find_process("x")):
        with pytest.raises(AuthError, match=r"Client authentication failed.*check login, password and tenant_id") as no:
            call()
        assert "wrong-one" not in str(no.value)


def test_one_token_serves_many_requests_and_threads(bench: Bench) -> None:
    bench.standin.app.requests.clear()
    client = connect(bench.server.url, SERVICE, token_path="/tenants/fresh/oauth2/token")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: client.find_process(f"key-{n}"), range(8)))
    assert sum("oauth2/token" in target for _, target in bench.standin.app.requests) == 1


def test_a_token_is_renewed_before_it_expires(bench: Bench) -> None:
    bench.standin.token_seconds = 60  # within the 60 seconds in which a token counts as old
    client = connect(bench.server.url, SERVICE, token_path="/tenants/short/oauth2/token")
    bench.standin.app.requests.clear()
    client.process("nothing")
    client.process("nothing")
    assert sum("oauth2/token" in target for _, target in bench.standin.app.requests) == 2


def test_a_token_that_expires_between_two_pages_is_renewed_once(bench: Bench) -> None:
    for number in range(5):
        bench.start(f"key-{number}")
    client = connect(bench.server.url, SERVICE, count=2)
    tasks = client.tasks()
    first = [next(tasks), next(tasks)]
    bench.standin.revoke_tokens()
    assert len({task.id for task in [*first, *tasks]}) == 5


def test_a_second_refusal_of_a_fresh_token_ends_it(bench: Bench) -> None:
    bench.standin.app.fault("status", lambda r: r.path.endswith("/tasks"), times=None, reply=json_reply({}, 401))
    bench.standin.app.requests.clear()
    with pytest.raises(AuthError):
        list(bench.client.tasks())
    assert len([target for _, target in bench.standin.app.requests if "/tasks" in target]) == 2


def test_no_secret_no_token_and_no_value_reaches_the_log(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    bench.standin.revoke_tokens()
    process_id = bench.start()
    bench.client.set_variable(process_id, "note", Encrypted("hush-hush"))
    with pytest.raises(InvalidInput):
        bench.client.start_process("unknown", name="n", business_key="k2", variables={"note": Encrypted("hush-hush")})
    for hidden in (SERVICE["secret"], "hush-hush", "Bearer ", DIGEST):
        assert hidden not in caplog.text


# --- starting -------------------------------------------------------------------------------------------------------


def test_starting_twice_makes_one_process(bench: Bench) -> None:
    mapping = MAPPING.labeling_approval
    variables = start_variables(mapping, ["data_owner"])
    first = bench.client.start_process(mapping.process_key, name="V", business_key="k", variables=variables)
    second = bench.client.start_process(mapping.process_key, name="V", business_key="k", variables=variables)
    assert first[1] is True
    assert second == (first[0], False)
    assert bench.standin.state.counts()["processes"] == 1


def test_an_ended_process_is_adopted_too(bench: Bench) -> None:
    mapping = MAPPING.dataset_release
    variables = {**start_variables(mapping), "checks_passed": False}
    first, _ = bench.client.start_process(mapping.process_key, name="V", business_key="k", variables=variables)
    assert bench.client.history(first).end_activity_id == "refused"
    assert bench.client.start_process(mapping.process_key, name="V", business_key="k", variables=variables) == (
        first,
        False,
    )


@pytest.mark.parametrize("kind", ["reset_after", "truncate", "garbage"])
def test_a_lost_reply_to_a_start_makes_exactly_one_process(bench: Bench, kind: str) -> None:
    bench.standin.app.fault(kind, is_start)
    process_id = bench.start()
    assert bench.standin.state.counts()["processes"] == 1
    assert bench.client.find_process("key-1") == process_id


def test_a_lost_reply_to_a_process_that_ended_at_once_is_found_through_the_lag(bench: Bench) -> None:
    bench.standin.history_lag_seconds = 0.3
    bench.standin.app.fault("reset_after", is_start)
    process_id, started = bench.client.start_process(
        "dataset_release", name="V", business_key="k", variables={"checks_passed": False, "release_managers": "x"}
    )
    assert started
    assert bench.standin.state.counts()["processes"] == 1
    assert bench.client.history(process_id).end_activity_id in (None, "refused")


def test_a_start_that_never_arrived_is_not_sent_again_by_itself(bench: Bench) -> None:
    bench.standin.app.fault("reset_before", is_start)
    with pytest.raises(Unavailable, match="no process with the business key key-1 appeared"):
        bench.start()
    assert bench.standin.state.counts()["processes"] == 0
    assert bench.start()
    assert bench.standin.state.counts()["processes"] == 1


def test_a_gateway_error_on_start_is_looked_up(bench: Bench) -> None:
    bench.standin.gateway_fault(is_start)
    with pytest.raises(Unavailable):
        bench.start()
    assert (
        sum(method == "POST" and target.endswith("process-instances") for method, target in bench.standin.app.requests)
        == 1
    )


def test_two_threads_that_start_one_key_make_one_process(bench: Bench) -> None:
    with ThreadPoolExecutor(2) as pool:
        ids = list(pool.map(lambda _: bench.start("same"), range(2)))
    assert ids[0] == ids[1]
    assert bench.standin.state.counts()["processes"] == 1


def test_settle_seconds_finds_what_an_earlier_try_started_and_history_does_not_show_yet(bench: Bench) -> None:
    variables = {"checks_passed": False, "release_managers": "x"}
    first, _ = bench.client.start_process("dataset_release", name="V", business_key="k", variables=variables)
    bench.standin.history_lag_seconds = 0.4
    again = bench.client.start_process(
        "dataset_release", name="V", business_key="k", variables=variables, settle_seconds=3
    )
    assert again == (first, False)


def test_of_two_processes_with_one_key_the_oldest_counts_with_a_warning(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    ids = []
    for _ in range(2):
        reply = bench.client._http.request(
            "POST",
            "/workflow/v1/process-instances",
            json={
                "processDefinitionKey": "labeling_approval",
                "businessKey": "twice",
                "variables": [
                    write_variable("quality_review_required", False),
                    write_variable("data_owners", "data_owners"),
                ],
            },
        )
        ids.append(reply.json()["id"])
        time.sleep(0.01)
    assert bench.client.find_process("twice") == ids[0]
    assert "2 processes have the business key twice" in caplog.text


def test_what_the_service_refuses_is_told_in_its_words(bench: Bench) -> None:
    with pytest.raises(InvalidInput, match="No process definition found for key 'nope'"):
        bench.client.start_process("nope", name="n", business_key="k", variables={})
    # A condition that cannot be worked out is a 500, and nothing is kept.
    with pytest.raises(Unavailable, match="Unknown property used in expression: quality_review_required"):
        bench.client.start_process("labeling_approval", name="n", business_key="k", variables={})
    assert bench.standin.state.counts()["processes"] == 0


# --- people decide --------------------------------------------------------------------------------------------------


def test_a_decision_from_start_to_history(bench: Bench) -> None:
    process_id = bench.start(roles=("quality_reviewer", "data_owner"))
    (task,) = bench.client.tasks(process_id=process_id)
    assert (task.name, task.candidate_groups, task.assignee) == ("Review quality", ("quality_reviewers",), None)
    quentin, dana = bench.person(QUENTIN), bench.person(DANA)
    assert dana.tasks() == []
    quentin.decide(quentin.tasks()[0], "approved", f"Fine: {DIGEST[:12]}")
    assert [task["name"] for task in dana.tasks()] == ["Approve dataset"]
    task = next(bench.client.tasks(process_id=process_id))
    dana.claim(task.id)
    dana.comment_task(task.id, "On the task")
    running = bench.client.comments(process_id)
    assert [(item.author, item.task_id) for item in running] == [(QUENTIN["email"], None), (DANA["email"], task.id)]
    dana.complete(task.id, "approved")

    assert bench.client.process(process_id) is None
    history = bench.client.history(process_id)
    assert history.ended_at is not None
    assert history.ended_at.tzinfo is UTC
    assert (history.end_activity_id, history.delete_reason) == ("approved", None)
    assert history.variables["owner_decision"] == "approved"
    assert history.variables["dataset_digest"] == DIGEST
    review, approve = bench.client.historic_tasks(process_id)
    assert (review.key, review.assignee, approve.key, approve.assignee) == (
        "review_quality",
        QUENTIN["email"],
        "approve_dataset",
        DANA["email"],
    )
    assert review.completer is None
    assert review.created <= review.claimed <= review.ended
    assert [item.id for item in bench.client.comments(process_id)] == [item.id for item in running]


def test_the_completer_is_read_where_the_tenant_sends_it(bench: Bench) -> None:
    bench.standin.names_completer = True
    process_id = bench.start()
    dana = bench.person(DANA)
    dana.decide(dana.tasks()[0], "rejected", "No")
    assert [task.completer for task in bench.client.historic_tasks(process_id)] == [DANA["email"]]
    other = connect(bench.server.url, SERVICE, completer_field="finishedBy")
    assert [task.completer for task in other.historic_tasks(process_id)] == [None]


def test_the_second_claimant_meets_a_conflict_and_the_first_may_repeat(bench: Bench) -> None:
    bench.standin.service_may_complete = True
    task = next(bench.client.tasks(process_id=bench.start()))
    bench.client.claim(task.id, DANA["email"])
    bench.client.claim(task.id, DANA["email"])
    with pytest.raises(Conflict, match="already claimed by someone else"):
        bench.client.claim(task.id, DORA["email"])


def test_a_service_token_decides_nothing(bench: Bench) -> None:
    process_id = bench.start()
    task = next(bench.client.tasks(process_id=process_id))
    with pytest.raises(AuthError, match="403"):
        bench.client.claim(task.id, DANA["email"])
    bench.person(DANA).claim(task.id)
    with pytest.raises(AuthError, match="403"):
        bench.client.complete(task.id, outcome="approved")
    assert bench.client.process(process_id) is not None


def test_where_the_tenant_lets_it_a_service_token_can_and_then_the_task_is_gone(bench: Bench) -> None:
    bench.standin.service_may_complete = True
    task = next(bench.client.tasks(process_id=bench.start()))
    bench.client.claim(task.id, DANA["email"])
    bench.client.complete(task.id, outcome="rework", variables={"note": "ids only"})
    with pytest.raises(NotFound):
        bench.client.complete(task.id, outcome="approved")
    assert bench.client.history(task.process_id).end_activity_id == "rework"


def test_people_act_only_for_themselves_and_only_on_what_they_are_offered(bench: Bench) -> None:
    process_id = bench.start()
    task = next(bench.client.tasks(process_id=process_id))
    dana, dora, quentin = bench.person(DANA), bench.person(DORA), bench.person(QUENTIN)
    with pytest.raises(PersonRefused, match="403"):
        quentin.claim(task.id)
    with pytest.raises(PersonRefused, match="403"):
        dana.complete(task.id, "approved")
    dana.claim(task.id)
    with pytest.raises(PersonRefused, match="409"):
        dora.claim(task.id)
    with pytest.raises(PersonRefused, match="403"):
        dora.complete(task.id, "approved")


def test_an_outcome_no_gateway_knows_leaves_the_task_waiting(bench: Bench) -> None:
    process_id = bench.start()
    dana = bench.person(DANA)
    dana.claim(dana.tasks()[0]["id"])
    with pytest.raises(PersonRefused, match="500"):
        dana.complete(dana.tasks()[0]["id"], "perhaps")
    assert len(list(bench.client.tasks(process_id=process_id))) == 1
    assert "owner_decision" not in bench.client.process(process_id).variables


def test_a_task_can_be_given_a_due_date(bench: Bench) -> None:
    task = next(bench.client.tasks(process_id=bench.start()))
    due = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
    changed = bench.client.update_task(task.id, dueDate=due, priority=80)
    assert (changed.due, changed.priority, changed.name) == (due, 80, task.name)
    assert bench.client.update_task(task.id, dueDate=None).due is None
    with pytest.raises(InvalidInput, match="found assigneeSet"):
        bench.client.update_task(task.id, assigneeSet=True)


# --- ends, comments, variables --------------------------------------------------------------------------------------


def test_a_terminated_process_has_a_reason_and_no_end_event(bench: Bench) -> None:
    process_id = bench.start()
    bench.client.terminate(process_id, "a newer version exists")
    bench.client.terminate(process_id, "again")
    history = bench.client.history(process_id)
    assert (history.delete_reason, history.end_activity_id) == ("a newer version exists", None)
    assert next(bench.client.historic_tasks(process_id)).delete_reason == "a newer version exists"


def test_comments_on_an_ended_process(bench: Bench) -> None:
    process_id = bench.start()
    bench.client.add_comment(process_id, "running")
    bench.client.terminate(process_id, "over")
    written = bench.client.add_comment(process_id, "ended")
    assert written.author == SERVICE["id"]
    assert [item.message for item in bench.client.comments(process_id)] == ["running", "ended"]


def test_a_tenant_without_comments_in_history_is_unsupported_not_missing(bench: Bench) -> None:
    bench.standin.history_comments = False
    process_id = bench.start()
    bench.client.terminate(process_id, "over")
    with pytest.raises(Unsupported, match="history_comments"):
        bench.client.add_comment(process_id, "late")
    with pytest.raises(Unsupported):
        bench.client.comments(process_id)
    with pytest.raises(NotFound):
        bench.client.comments("00000000-0000-0000-0000-000000000000")


def test_a_lost_reply_to_a_comment_is_not_sent_again(bench: Bench) -> None:
    process_id = bench.start()
    bench.standin.app.fault("reset_after", lambda r: r.method == "POST" and r.path.endswith("/comments"))
    assert bench.client.add_comment(process_id, "once").message == "once"
    assert [item.message for item in bench.client.comments(process_id)] == ["once"]


def test_variables_keep_their_types(bench: Bench) -> None:
    process_id = bench.start()
    moment = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
    values = {"flag": True, "few": 3, "many": 2**40, "share": 0.5, "text": "ä<&>", "when": moment, "nothing": None}
    values |= {"object": {"a": [1, None]}, "list": ["x"]}
    for name, value in values.items():
        bench.client.set_variable(process_id, name, value)
    bench.client.set_variable(process_id, "few", 4)
    bench.client.set_variable(process_id, "hidden", Encrypted("kept back"))
    read = bench.client.process(process_id).variables
    assert {name: read[name] for name in values} == {**values, "few": 4}
    assert read["hidden"] is None


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (True, ("boolean", True)),
        (2**31 - 1, ("integer", 2**31 - 1)),
        (2**31, ("long", 2**31)),
        (datetime(2024, 5, 4, 18, 35, 10, 474999, tzinfo=UTC), ("date", "2024-05-04T18:35:10.474Z")),
        ((1, 2), ("json", [1, 2])),
    ],
)
def test_written_variables(value: Any, sent: tuple[str, Any]) -> None:
    written = write_variable("v", value)
    assert (written["type"], written["value"]) == sent


def test_values_no_type_stands_for_are_refused_without_being_shown() -> None:
    with pytest.raises(InvalidInput, match=r"variable 'v': found a bytes") as caught:
        write_variable("v", b"secret")
    assert "secret" not in str(caught.value)
    with pytest.raises(InvalidInput, match="no zone"):
        write_variable("v", datetime(2026, 1, 1))  # noqa: DTZ001
    assert "hush" not in repr(Encrypted("hush"))


@pytest.mark.parametrize(
    "text", ["2018-04-17T10:17:43.902+0000", "2018-04-17T15:47:43.902+05:30", "2018-04-17T10:17:43.902Z"]
)
def test_the_three_spellings_of_a_time_are_one_moment(text: str) -> None:
    moment = parse_time(text, "dueDate", "a task")
    assert moment == datetime(2018, 4, 17, 10, 17, 43, 902000, tzinfo=UTC)
    assert moment.utcoffset() == timedelta(0)


@pytest.mark.parametrize("text", ["yesterday", "2018-04-17T10:17:43"])
def test_other_times_are_invalid(text: str) -> None:
    with pytest.raises(InvalidReply):
        parse_time(text, "dueDate", "a task")


def test_reading_variables_tolerates_a_missing_value() -> None:
    assert read_variables({"variables": [{"name": "a", "type": "string"}]}, "a task") == {"a": None}
    assert read_variables({"variables": None}, "a task") == {}


# --- faults ---------------------------------------------------------------------------------------------------------


def test_history_that_lags_is_waited_for(bench: Bench) -> None:
    bench.standin.history_lag_seconds = 0.3
    process_id = bench.start()
    assert bench.client.history(process_id).ended_at is None
    bench.client.terminate(process_id, "over")
    assert bench.client.history(process_id).ended_at is None  # still looks running, as the real one may
    time.sleep(0.35)
    assert bench.client.history(process_id).delete_reason == "over"


def test_what_never_comes_to_history_is_not_found(bench: Bench) -> None:
    client = connect(bench.server.url, SERVICE, history_grace_seconds=0.1)
    with pytest.raises(NotFound, match="not in history after 0 s"):
        client.history("00000000-0000-0000-0000-000000000000")


def test_a_read_survives_a_burst_limit_and_the_gateway(bench: Bench) -> None:
    process_id = bench.start()
    limit = json_reply({"fault": {"faultstring": "quota"}}, 429, {"Retry-After": "0"})
    bench.standin.app.fault("status", lambda r: "/tasks" in r.path, times=2, reply=limit)
    assert len(list(bench.client.tasks(process_id=process_id))) == 1
    bench.standin.gateway_fault(lambda r: "/tasks" in r.path, times=2)
    assert len(list(bench.client.tasks(process_id=process_id))) == 1
    bench.standin.app.fault("reset_before", lambda r: "/tasks" in r.path)
    assert len(list(bench.client.tasks(process_id=process_id))) == 1


def test_a_limit_that_does_not_end_says_how_long_to_wait(bench: Bench) -> None:
    limit = json_reply({"fault": {"faultstring": "quota"}}, 429, {"Retry-After": "600"})
    bench.standin.app.fault("status", lambda r: "/tasks" in r.path, times=None, reply=limit)
    with pytest.raises(RateLimited) as caught:
        list(bench.client.tasks())
    assert caught.value.retry_after == 600


def test_the_burst_limit_of_the_standin_counts(bench: Bench) -> None:
    bench.standin.requests_per_second = 5
    assert [bench.standin._limit(_Request()) is None for _ in range(6)] == [True] * 5 + [False]


class _Request:
    path = "/workflow/v1/tasks"


def test_half_a_reply_is_invalid(bench: Bench) -> None:
    bench.start()
    bench.standin.app.fault("truncate", lambda r: "/tasks" in r.path)
    with pytest.raises(InvalidReply, match="expected whole JSON"):
        list(bench.client.tasks())


# --- lists ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 7, 100])
def test_lists_are_whole_whatever_the_page_size(bench: Bench, count: int) -> None:
    process_id = bench.start("one")
    for number in range(2):
        bench.start(f"more-{number}")
    for number in range(6):
        bench.client.add_comment(process_id, f"c{number}")
    client = connect(bench.server.url, SERVICE, count=count)
    assert [item.message for item in client.comments(process_id)] == [f"c{number}" for number in range(6)]
    assert len(list(client.tasks())) == 3


@pytest.fixture
def canned() -> Iterator[tuple[App, list[dict[str, Any]], OpenTextClient]]:
    """A server that answers lists with the replies a test puts down."""
    app, replies = App(), []
    app.route("POST", "/tenants/tenant-1/oauth2/token")(lambda r: json_reply({"access_token": "t", "expires_in": 900}))
    app.route("GET", "/workflow/v1/tasks")(lambda r: json_reply(replies.pop(0)))
    with Server(app) as server:
        yield app, replies, connect(server.url, SERVICE, count=2)


def task(number: int) -> dict[str, Any]:
    return {"id": f"t{number}"}


def test_an_unknown_list_name_is_taken_when_it_is_the_only_one(canned: Any) -> None:
    _, replies, client = canned
    replies.append({"_embedded": {"taskResponseList": [task(1)]}})
    assert [item.id for item in client.tasks()] == ["t1"]


def test_two_lists_and_neither_known_is_invalid(canned: Any) -> None:
    _, replies, client = canned
    replies.append({"_embedded": {"a": [], "b": []}})
    with pytest.raises(InvalidReply, match="name it in the connection's extra `rels`"):
        list(client.tasks())


def test_a_service_that_caps_the_page_size_loses_nothing(canned: Any) -> None:
    _, replies, client = canned
    replies += [
        {"_embedded": {"tasks": [task(1)]}, "_links": {"next": {"href": "…"}}},
        {"_embedded": {"tasks": [task(1)]}, "_links": {"next": {"href": "…"}}},
        {"_embedded": {"tasks": [task(2)]}, "_links": {}},
    ]
    assert [item.id for item in client.tasks()] == ["t1", "t2"]


def test_full_pages_without_a_next_link_go_on(canned: Any) -> None:
    app, replies, client = canned
    replies += [{"_embedded": {"tasks": [task(1), task(2)]}}, {"_embedded": {"tasks": [task(2)]}, "_links": {}}]
    assert [item.id for item in client.tasks()] == ["t1", "t2"]
    assert [target.partition("offset=")[2] for _, target in app.requests if "tasks" in target] == [
        "0&count=2",
        "1&count=2",
    ]


def test_a_service_that_ignores_the_offset_does_not_loop(canned: Any) -> None:
    _, replies, client = canned
    replies += [{"_embedded": {"tasks": [task(1), task(2)]}} for _ in range(3)]
    with pytest.raises(InvalidReply, match="the first one again"):
        list(client.tasks())


@pytest.mark.parametrize("reply", [[], {"_embedded": []}, {"_embedded": {"tasks": [1]}}])
def test_lists_of_another_shape_are_invalid(canned: Any, reply: Any) -> None:
    _, replies, client = canned
    replies.append(reply)
    with pytest.raises(InvalidReply):
        list(client.tasks())


# --- models ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["base64", "url", "plain"])
def test_a_model_is_deployed_once_and_again_when_it_changed(bench: Bench, encoding: str) -> None:
    client = connect(bench.server.url, SERVICE, model_encoding=encoding)
    model, deployed = client.deploy("labeling_approval", APPROVAL.replace("><", ">\n<"))
    assert (model.version, deployed) == (1, False)
    model, deployed = client.deploy("labeling_approval", APPROVAL.replace("Sent back", "Sent back again"))
    assert (model.version, deployed, model.key) == (2, True, "labeling_approval")
    assert "Sent back again" in client.model(model.id).content
    assert [(item.key, item.version) for item in client.models()] == [("dataset_release", 1), ("labeling_approval", 2)]


def test_a_deployment_whose_reply_was_lost_is_not_repeated(bench: Bench) -> None:
    bench.standin.app.fault("reset_after", lambda r: r.method == "POST" and "models" in r.path)
    model, deployed = bench.client.deploy("labeling_approval", APPROVAL.replace("Sent back", "Returned"))
    assert (model.version, deployed) == (2, True)
    assert bench.standin.state.counts()["models"] == 3


def test_a_model_the_engine_cannot_run_is_refused(bench: Bench) -> None:
    broken = RELEASE.replace("${checks_passed == true}", "${checks.passed()}")
    with pytest.raises(InvalidInput, match="cannot read"):
        bench.client.deploy("dataset_release", broken)


# --- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({"tenant_id": ""}, "no `tenant_id`"),
        ({"token_style": "xml"}, "found 'xml'; allowed: json, form, basic"),
        ({"timeout": "soon"}, "extra timeout: found 'soon'"),
        ({"history_grace_seconds": -1}, "allowed: zero or more"),
    ],
)
def test_a_bad_connection_names_the_field(extra: dict, expected: str) -> None:
    with pytest.raises(InvalidInput, match=expected):
        settings_of("http://127.0.0.1:9", SERVICE, **extra)


def test_the_page_of_a_process(bench: Bench) -> None:
    assert bench.client.process_url("p 1").endswith("/workflow-history/v1/historic-process-instances/p%201")
    client = connect(bench.server.url, SERVICE, process_page="https://flow.example/processes/{id}")
    assert client.process_url("p1") == "https://flow.example/processes/p1"
