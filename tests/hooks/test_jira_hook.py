"""The hook on Jira: a connection of the provider's type becomes a client."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.providers.atlassian.jira.hooks.jira import JiraHook

from include.base.errors import InvalidInput
from include.sandbox.http import Server
from include.sandbox.jira import JiraStandIn, JiraUser
from include.systems.jira.settings import Settings
from labelops.hooks.jira import JiraIssueHook

SERVICE = JiraUser("acc-service", "Labelops service", "service@labelops.example", "service-token-4711")


def hook(patch: pytest.MonkeyPatch, **fields: Any) -> JiraIssueHook:
    connection = {"conn_type": "jira", "host": "https://jira.example", "login": SERVICE.login, **fields}
    patch.setenv("AIRFLOW_CONN_JIRA_TEST", json.dumps({"password": SERVICE.token, **connection}))
    return JiraIssueHook("jira_test")


def test_it_takes_the_providers_connections() -> None:
    for name in ("conn_type", "conn_name_attr", "default_conn_name", "hook_name"):
        assert getattr(JiraIssueHook, name) == getattr(JiraHook, name)


def test_a_connection_becomes_one_client(monkeypatch: pytest.MonkeyPatch) -> None:
    made = hook(monkeypatch, host="jira.example", extra={"flavour": "datacenter", "timeout": "20", "verify": "ca.pem"})
    client = made.get_conn()
    assert made.get_conn() is client
    assert client.settings == Settings(
        "https://jira.example", SERVICE.token, SERVICE.login, cloud=False, verify="ca.pem", timeout=20
    )
    assert SERVICE.token not in repr(client.settings)


def test_a_bearer_token_needs_no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    client = hook(monkeypatch, login="", extra={"auth": "bearer"}).get_conn()
    assert (client.settings.login, client.settings.secret) == (None, SERVICE.token)


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
def test_a_bad_connection_names_the_field(monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        hook(monkeypatch, **fields).get_conn()
    worked, told = hook(monkeypatch, **fields).test_connection()
    assert not worked
    assert said in told


def test_test_connection_says_who_we_are_or_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = JiraStandIn(None, [SERVICE], ["LAB"])
    with Server(stand_in.app) as server:
        assert hook(monkeypatch, host=server.url).test_connection() == (True, "Connected as Labelops service")
        worked, said = hook(monkeypatch, host=server.url, password="wrong").test_connection()
        assert not worked
        assert "401" in said
    stand_in.close()
    worked, said = hook(monkeypatch, host="http://127.0.0.1:9").test_connection()
    assert not worked
    assert "no reply" in said
