"""JiraIssueHook against the local Jira of both flavours, over HTTP, with the connection in the environment."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.atlassian.jira.hooks.jira import JiraHook

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
from labelops.hooks.jira import JiraIssueHook

SERVICE = JiraUser("acc-service", "Labelops service", "service@labelops.example", "service-token-4711")
READER = JiraUser("acc-reader", "Reader", "reader@labelops.example", "reader-token-0815", may_write=False)
EFFECT = "ab" * 32
OTHER = "cd" * 32


class Site:
    """A running stand-in, and hooks that wait in no time."""

    def __init__(self, stand_in: JiraStandIn, server: Server, patch: pytest.MonkeyPatch) -> None:
        self.stand_in, self.server, self.patch = stand_in, server, patch
        self.waits: list[float] = []

    def hook(self, user: JiraUser = SERVICE, *, extra: dict[str, Any] | None = None, **fields: Any) -> JiraIssueHook:
        connection = {"conn_type": "jira", "host": self.server.url, "login": user.login, "password": user.token}
        connection |= {"extra": {"flavour": self.stand_in.flavour, "index_seconds": 0.5} | (extra or {}), **fields}
        self.patch.setenv("AIRFLOW_CONN_JIRA_TEST", json.dumps(connection))
        return JiraIssueHook("jira_test", policy=RetryPolicy(sleep=self.waits.append, jitter=lambda: 1.0))

    def sent(self, method: str) -> list[str]:
        return [target.partition("?")[0] for verb, target in self.stand_in.app.requests if verb == method]


@pytest.fixture(params=["cloud", "datacenter"])
def site(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    stand_in = JiraStandIn(None, [SERVICE, READER], ["LAB", "OPS"], flavour=request.param)
    with Server(stand_in.app) as server:
        yield Site(stand_in, server, monkeypatch)
    stand_in.close()


def create(hook: JiraIssueHook, effect: str = EFFECT, **more: Any) -> Any:
    return hook.create_issue("LAB", "Task", "Label batch 7", "200 tickets wait.", effect=effect, **more)


def on(path: str, method: str = "POST") -> Any:
    return lambda request: request.method == method and request.path.endswith(path)


# --- connection ----------------------------------------------------------------------------------------------------


def test_it_is_the_providers_hook_and_connects_when_it_is_used(site: Site) -> None:
    hook = site.hook()
    assert isinstance(hook, JiraHook)
    assert hook.client is None
    assert site.stand_in.app.requests == []
    assert hook.test_connection() == (True, "Connected as Labelops service")


def test_a_personal_access_token_goes_as_bearer(site: Site) -> None:
    hook = site.hook(extra={"auth": "bearer"}, login="")
    assert hook.current_user().account_id == "acc-service"


def test_a_host_without_scheme_is_taken_as_https(site: Site) -> None:
    hook = site.hook(host="jira.example")
    assert hook.get_conn().url == "https://jira.example"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"host": ""}, "host is empty"),
        ({"login": ""}, "login is empty"),
        ({"password": ""}, "password is empty"),
        ({"extra": {"flavour": "server"}}, "allowed are cloud, datacenter"),
        ({"extra": {"auth": "magic"}}, "allowed are basic, bearer"),
        ({"extra": {"timeout": "soon"}}, "allowed: seconds"),
    ],
)
def test_a_bad_connection_names_the_field(site: Site, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        site.hook(**fields).get_conn()


def test_a_wrong_token_is_no_missing_issue(site: Site) -> None:
    worked, said = site.hook(password="wrong").test_connection()
    assert not worked
    assert "401" in said
    with pytest.raises(AuthError):
        site.hook(password="wrong").issue("LAB-1")


def test_a_missing_right_is_named(site: Site) -> None:
    hook = site.hook(READER)
    assert hook.test_connection()[0]
    with pytest.raises(AuthError, match="permission to edit"):
        create(hook)


def test_nothing_answers(site: Site) -> None:
    worked, said = site.hook(host="http://127.0.0.1:9").test_connection()
    assert not worked
    assert "no reply" in said


# --- issues --------------------------------------------------------------------------------------------------------


def test_an_issue_is_created_once_for_an_effect(site: Site) -> None:
    hook = site.hook()
    issue, created = create(hook, fields={"labels": ["annotation"], "assignee": {"accountId": "acc-reader"}})
    assert created
    assert (issue.key, issue.status, issue.category, issue.assignee) == ("LAB-1", "To Do", "new", "acc-reader")
    assert issue.labels == ("annotation", "labelops-" + EFFECT[:40])
    assert create(hook) == (issue, False)
    assert create(hook, OTHER)[0].key == "LAB-2"
    assert site.stand_in.snapshot() == {"issues": 2, "properties": 2, "comments": 0}


def test_a_label_alone_is_no_proof(site: Site) -> None:
    hook = site.hook()
    hook._json("POST", "/issue", json={
        "fields": {
            "project": {"key": "LAB"}, "issuetype": {"name": "Task"}, "summary": "Copied by hand",
            "labels": ["labelops-" + EFFECT[:40]],
        }
    })  # fmt: skip
    issue, created = create(hook)
    assert (issue.key, created) == ("LAB-2", True)


@pytest.mark.parametrize("kind", ["reset_after", "truncate", "garbage"])
def test_a_lost_reply_makes_no_second_issue(site: Site, kind: str) -> None:
    hook = site.hook()
    site.stand_in.app.fault(kind, on("/issue"))
    issue, created = create(hook)
    assert (issue.key, created) == ("LAB-1", True)
    assert site.stand_in.snapshot()["issues"] == 1


def test_a_lost_reply_is_waited_out_while_the_index_lags(site: Site) -> None:
    hook = site.hook(extra={"index_seconds": 5})
    site.stand_in.search_lag_seconds = 0.3
    site.stand_in.app.fault("reset_after", on("/issue"))
    assert create(hook)[0].key == "LAB-1"
    assert site.stand_in.snapshot()["issues"] == 1


def test_what_never_arrived_is_not_reported_as_made(site: Site) -> None:
    site.stand_in.app.fault("reset_before", on("/issue"))
    with pytest.raises(Unavailable, match="was not confirmed"):
        create(site.hook())
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
    values = {"project": "LAB", "kind": "Task", "summary": "s", "effect": EFFECT} | change
    with pytest.raises(InvalidInput, match=said):
        site.hook().create_issue(values["project"], values["kind"], values["summary"], "text", effect=values["effect"])


def test_a_missing_issue_is_not_found(site: Site) -> None:
    with pytest.raises(NotFound, match="does not exist"):
        site.hook().issue("LAB-99")


def test_a_name_is_one_segment_of_the_path(site: Site) -> None:
    with pytest.raises(NotFound):
        site.hook().issue("../../admin")
    assert site.sent("GET")[0] == "/rest/api/2/issue/..%2F..%2Fadmin"


# --- search --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [1, 2, 100])
def test_a_search_gives_all_pages_and_can_be_taken_up_anywhere(site: Site, page: int) -> None:
    hook = site.hook()
    for number in range(5):
        create(hook, f"{number:064x}")
    site.stand_in.page_rows = page
    jql = "project = LAB ORDER BY created"
    keys = [issue.key for issue in hook.search(jql)]
    assert keys == [f"LAB-{number}" for number in range(1, 6)]
    reader = hook.search(jql)
    for number in range(6):
        assert [issue.key for issue in hook.search(jql, resume=reader.state)] == keys[number:]
        next(reader, None)


def test_a_search_without_a_condition_is_refused(site: Site) -> None:
    for jql in ("", "ORDER BY created"):
        with pytest.raises(InvalidInput, match="at least one condition"):
            site.hook().search(jql)


def test_text_in_a_query_adds_no_condition(site: Site) -> None:
    hook = site.hook()
    create(hook)
    assert hook.find_issue('LAB" OR project = "OPS', EFFECT) is None
    assert list(hook.changed_issues('LAB" OR project = "LAB')) == []


def test_a_place_that_is_none_is_refused(site: Site) -> None:
    hook = site.hook()
    jql = "project = LAB"
    state = json.loads(hook.search(jql).state) | {"place": "from the start, please"}
    with pytest.raises(InvalidInput):
        list(hook.search(jql, resume=json.dumps(state)))


def test_changes_come_once(site: Site) -> None:
    hook = site.hook()
    first, second = create(hook)[0], create(hook, OTHER)[0]
    reader = hook.changed_issues("LAB")
    assert [issue.key for issue in reader] == [first.key, second.key]
    assert list(hook.changed_issues("LAB", resume=reader.state)) == []
    hook.transition(first.key, "In Progress")
    assert [issue.key for issue in hook.changed_issues("LAB", resume=reader.state)] == [first.key]


# --- comments and transitions --------------------------------------------------------------------------------------


def test_the_same_comment_is_made_once(site: Site) -> None:
    hook = site.hook()
    create(hook)
    comment, written = hook.add_comment("LAB-1", "100 of 200 are labelled.")
    assert written
    assert comment.author == "acc-service"
    assert hook.add_comment("LAB-1", "100 of 200 are labelled.") == (comment, False)
    site.stand_in.app.fault("reset_after", on("/comment"))
    assert hook.add_comment("LAB-1", "200 of 200 are labelled.")[1]
    assert [one.body for one in hook.comments("LAB-1")] == ["100 of 200 are labelled.", "200 of 200 are labelled."]


def test_an_issue_goes_where_its_workflow_leads(site: Site) -> None:
    hook = site.hook()
    create(hook)
    assert hook.transition("LAB-1", "Done")
    assert not hook.transition("LAB-1", "Done")
    assert hook.issue("LAB-1").category == "done"
    with pytest.raises(Unsupported, match="there are: To Do"):
        hook.transition("LAB-1", "In Progress")


def test_a_lost_reply_to_a_transition_is_looked_after(site: Site) -> None:
    hook = site.hook()
    create(hook)
    site.stand_in.app.fault("reset_after", on("/transitions"))
    assert hook.transition("LAB-1", "Done")
    assert hook.issue("LAB-1").status == "Done"


# --- wire ----------------------------------------------------------------------------------------------------------


def test_reads_are_tried_again_and_writes_are_not(site: Site) -> None:
    hook = site.hook()
    create(hook)
    site.stand_in.app.fault("status", on("/LAB-1", "GET"), times=2, reply=Reply(503))
    assert hook.issue("LAB-1").key == "LAB-1"
    site.stand_in.app.fault("status", on("/comment"), times=1, reply=Reply(503))
    with pytest.raises(Unavailable):
        hook.add_comment("LAB-1", "Lost.")
    assert list(hook.comments("LAB-1")) == []


def test_a_long_pause_is_left_to_the_task(site: Site) -> None:
    reply = json_reply({"errorMessages": ["Rate limit exceeded."]}, 429, {"Retry-After": "600"})
    site.stand_in.app.fault("status", reply=reply)
    with pytest.raises(RateLimited) as caught:
        site.hook().issue("LAB-1")
    assert caught.value.retry_after == 600
    assert site.waits == []


@pytest.mark.parametrize(
    "body", [[], {"id": "1"}, {"id": "1", "key": "LAB-1", "fields": {}}, {"id": "1", "key": "LAB-1", "fields": None}]
)
def test_a_malformed_reply_is_named(site: Site, body: Any) -> None:
    site.stand_in.app.fault("status", reply=json_reply(body))
    with pytest.raises(InvalidReply):
        site.hook().issue("LAB-1")


def test_no_secret_and_no_text_reaches_a_log(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        hook = site.hook()
        create(hook)
        hook.add_comment("LAB-1", "Words of a person")
        list(hook.search("project = LAB"))
    for words in (SERVICE.token, "Words of a person", "200 tickets wait", "jql="):
        assert words not in caplog.text


def test_the_stand_in_survives_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (1, 2):
        stand_in = JiraStandIn(tmp_path, [SERVICE], ["LAB"])
        with Server(stand_in.app) as server:
            hook = Site(stand_in, server, monkeypatch).hook()
            assert create(hook, f"{number:064x}")[0].key == f"LAB-{number}"
        stand_in.close()
