"""Jira's client against the local Jira of both flavours, over HTTP."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from include.base.errors import (
    AuthError,
    InvalidInput,
    InvalidReply,
    NotFound,
    RateLimited,
    Unavailable,
    Unsupported,
)
from include.sandbox.http import Reply, Server, json_reply
from include.sandbox.jira import JiraStandIn, JiraUser
from include.systems.http import RetryPolicy
from include.systems.jira.client import JiraClient
from include.systems.jira.settings import Settings

SERVICE = JiraUser("acc-service", "Labelops service", "service@labelops.example", "service-token-4711")
READER = JiraUser("acc-reader", "Reader", "reader@labelops.example", "reader-token-0815", may_write=False)
EFFECT = "ab" * 32
OTHER = "cd" * 32


class Site:
    """A running stand-in, and clients that wait in no time."""

    def __init__(self, stand_in: JiraStandIn, server: Server) -> None:
        self.stand_in, self.server = stand_in, server
        self.waits: list[float] = []

    def client(self, user: JiraUser = SERVICE, **settings: Any) -> JiraClient:
        made = Settings(self.server.url, user.token, user.login, self.stand_in.flavour == "cloud", index_seconds=0.5)
        policy = RetryPolicy(sleep=self.waits.append, jitter=lambda: 1.0)
        return JiraClient(replace(made, **settings), policy)

    def sent(self, method: str) -> list[str]:
        return [target.partition("?")[0] for verb, target in self.stand_in.app.requests if verb == method]


@pytest.fixture(params=["cloud", "datacenter"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    stand_in = JiraStandIn(None, [SERVICE, READER], ["LAB", "OPS"], flavour=request.param)
    with Server(stand_in.app) as server:
        yield Site(stand_in, server)
    stand_in.close()


def create(client: JiraClient, effect: str = EFFECT, **more: Any) -> Any:
    return client.create_issue("LAB", "Task", "Label batch 7", "200 tickets wait.", effect=effect, **more)


def on(path: str, method: str = "POST") -> Any:
    return lambda request: request.method == method and request.path.endswith(path)


# --- connection ----------------------------------------------------------------------------------------------------


def test_it_connects_when_it_is_used(site: Site) -> None:
    client = site.client()
    assert site.stand_in.app.requests == []
    assert client.check() == "Connected as Labelops service"


def test_a_personal_access_token_goes_as_bearer(site: Site) -> None:
    client = site.client(login=None)
    assert client.current_user().account_id == "acc-service"


def test_a_wrong_token_is_no_missing_issue(site: Site) -> None:
    client = site.client(secret="wrong")
    with pytest.raises(AuthError, match="401"):
        client.check()
    with pytest.raises(AuthError):
        client.issue("LAB-1")


def test_a_missing_right_is_named(site: Site) -> None:
    client = site.client(READER)
    assert client.check() == "Connected as Reader"
    with pytest.raises(AuthError, match="permission to edit"):
        create(client)


def test_nothing_answers(site: Site) -> None:
    with pytest.raises(Unavailable, match="no reply"):
        site.client(site="http://127.0.0.1:9").check()


# --- issues --------------------------------------------------------------------------------------------------------


def test_an_issue_is_created_once_for_an_effect(site: Site) -> None:
    client = site.client()
    issue, created = create(client, fields={"labels": ["annotation"], "assignee": {"accountId": "acc-reader"}})
    assert created
    assert (issue.key, issue.status, issue.category, issue.assignee) == ("LAB-1", "To Do", "new", "acc-reader")
    assert issue.labels == ("annotation", "labelops-" + EFFECT[:40])
    assert create(client) == (issue, False)
    assert create(client, OTHER)[0].key == "LAB-2"
    assert site.stand_in.snapshot() == {"issues": 2, "properties": 2, "comments": 0}


def test_a_label_alone_is_no_proof(site: Site) -> None:
    client = site.client()
    client._json("POST", "/issue", json={
        "fields": {
            "project": {"key": "LAB"}, "issuetype": {"name": "Task"}, "summary": "Copied by hand",
            "labels": ["labelops-" + EFFECT[:40]],
        }
    })  # fmt: skip
    issue, created = create(client)
    assert (issue.key, created) == ("LAB-2", True)


@pytest.mark.parametrize("kind", ["reset_after", "truncate", "garbage"])
def test_a_lost_reply_makes_no_second_issue(site: Site, kind: str) -> None:
    client = site.client()
    site.stand_in.app.fault(kind, on("/issue"))
    issue, created = create(client)
    assert (issue.key, created) == ("LAB-1", True)
    assert site.stand_in.snapshot()["issues"] == 1


def test_a_lost_reply_is_waited_out_while_the_index_lags(site: Site) -> None:
    client = site.client(index_seconds=5)
    site.stand_in.search_lag_seconds = 0.3
    site.stand_in.app.fault("reset_after", on("/issue"))
    assert create(client)[0].key == "LAB-1"
    assert site.stand_in.snapshot()["issues"] == 1


def test_what_never_arrived_is_not_reported_as_made(site: Site) -> None:
    site.stand_in.app.fault("reset_before", on("/issue"))
    with pytest.raises(Unavailable, match="was not confirmed"):
        create(site.client())
    assert site.stand_in.snapshot()["issues"] == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "Epic"}, "issuetype: Specify a valid issue type"),
        ({"project": "NONE"}, "project: valid project"),
        ({"summary": "x" * 256}, "less than 255"),
        ({"effect": "short"}, "64 hexadecimal digits"),
    ],
)
def test_what_jira_refuses_says_why(site: Site, change: dict[str, str], said: str) -> None:
    given = {"project": "LAB", "kind": "Task", "summary": "s", "description": "text", "effect": EFFECT} | change
    with pytest.raises(InvalidInput, match=said):
        site.client().create_issue(**given)


def test_a_missing_issue_is_not_found(site: Site) -> None:
    with pytest.raises(NotFound, match="does not exist"):
        site.client().issue("LAB-99")


def test_a_name_is_one_segment_of_the_path(site: Site) -> None:
    with pytest.raises(NotFound):
        site.client().issue("../../admin")
    assert site.sent("GET")[0] == "/rest/api/2/issue/..%2F..%2Fadmin"


# --- search --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [1, 2, 100])
def test_a_search_gives_all_pages_and_can_be_taken_up_anywhere(site: Site, page: int) -> None:
    client = site.client()
    for number in range(5):
        create(client, f"{number:064x}")
    site.stand_in.page_rows = page
    jql = "project = LAB ORDER BY created"
    keys = [issue.key for issue in client.search(jql)]
    assert keys == [f"LAB-{number}" for number in range(1, 6)]
    reader = client.search(jql)
    for number in range(6):
        assert [issue.key for issue in client.search(jql, resume=reader.state)] == keys[number:]
        next(reader, None)


def test_a_search_without_a_condition_is_refused(site: Site) -> None:
    for jql in ("", "ORDER BY created"):
        with pytest.raises(InvalidInput, match="at least one condition"):
            site.client().search(jql)


def test_text_in_a_query_adds_no_condition(site: Site) -> None:
    client = site.client()
    create(client)
    assert client.find_issue('LAB" OR project = "OPS', EFFECT) is None
    assert list(client.changed_issues('LAB" OR project = "LAB')) == []


def test_a_place_that_is_none_is_refused(site: Site) -> None:
    client = site.client()
    jql = "project = LAB"
    state = json.loads(client.search(jql).state) | {"place": "from the start, please"}
    with pytest.raises(InvalidInput):
        list(client.search(jql, resume=json.dumps(state)))


def test_changes_come_once(site: Site) -> None:
    client = site.client()
    first, second = create(client)[0], create(client, OTHER)[0]
    reader = client.changed_issues("LAB")
    assert [issue.key for issue in reader] == [first.key, second.key]
    assert list(client.changed_issues("LAB", resume=reader.state)) == []
    client.transition(first.key, "In Progress")
    assert [issue.key for issue in client.changed_issues("LAB", resume=reader.state)] == [first.key]


# --- comments and transitions --------------------------------------------------------------------------------------


def test_the_same_comment_is_made_once(site: Site) -> None:
    client = site.client()
    create(client)
    comment, written = client.add_comment("LAB-1", "100 of 200 are labelled.")
    assert written
    assert comment.author == "acc-service"
    assert client.add_comment("LAB-1", "100 of 200 are labelled.") == (comment, False)
    site.stand_in.app.fault("reset_after", on("/comment"))
    assert client.add_comment("LAB-1", "200 of 200 are labelled.")[1]
    assert [one.body for one in client.comments("LAB-1")] == ["100 of 200 are labelled.", "200 of 200 are labelled."]


def test_an_issue_goes_where_its_workflow_leads(site: Site) -> None:
    client = site.client()
    create(client)
    assert client.transition("LAB-1", "Done")
    assert not client.transition("LAB-1", "Done")
    assert client.issue("LAB-1").category == "done"
    with pytest.raises(Unsupported, match="there are: To Do"):
        client.transition("LAB-1", "In Progress")


def test_a_lost_reply_to_a_transition_is_looked_after(site: Site) -> None:
    client = site.client()
    create(client)
    site.stand_in.app.fault("reset_after", on("/transitions"))
    assert client.transition("LAB-1", "Done")
    assert client.issue("LAB-1").status == "Done"


# --- wire ----------------------------------------------------------------------------------------------------------


def test_reads_are_tried_again_and_writes_are_not(site: Site) -> None:
    client = site.client()
    create(client)
    site.stand_in.app.fault("status", on("/LAB-1", "GET"), times=2, reply=Reply(503))
    assert client.issue("LAB-1").key == "LAB-1"
    site.stand_in.app.fault("status", on("/comment"), times=1, reply=Reply(503))
    with pytest.raises(Unavailable):
        client.add_comment("LAB-1", "Lost.")
    assert list(client.comments("LAB-1")) == []


def test_a_long_pause_is_left_to_the_task(site: Site) -> None:
    reply = json_reply({"errorMessages": ["Rate limit exceeded."]}, 429, {"Retry-After": "600"})
    site.stand_in.app.fault("status", reply=reply)
    with pytest.raises(RateLimited) as caught:
        site.client().issue("LAB-1")
    assert caught.value.retry_after == 600
    assert site.waits == []


@pytest.mark.parametrize(
    "body", [[], {"id": "1"}, {"id": "1", "key": "LAB-1", "fields": {}}, {"id": "1", "key": "LAB-1", "fields": None}]
)
def test_a_malformed_reply_is_named(site: Site, body: Any) -> None:
    site.stand_in.app.fault("status", reply=json_reply(body))
    with pytest.raises(InvalidReply):
        site.client().issue("LAB-1")


def test_no_secret_and_no_text_reaches_a_log(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        client = site.client()
        create(client)
        client.add_comment("LAB-1", "Words of a person")
        list(client.search("project = LAB"))
    for words in (SERVICE.token, "Words of a person", "200 tickets wait", "jql="):
        assert words not in caplog.text


def test_the_stand_in_survives_a_restart(tmp_path: Path) -> None:
    for number in (1, 2):
        stand_in = JiraStandIn(tmp_path, [SERVICE], ["LAB"])
        with Server(stand_in.app) as server:
            client = Site(stand_in, server).client()
            assert create(client, f"{number:064x}")[0].key == f"LAB-{number}"
        stand_in.close()
