"""From a connection to a client, and the button that tests it. The client has tests of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from include.base.errors import InvalidInput
from include.sandbox.http import Server
from include.sandbox.opentext import OpenTextStandIn
from include.systems.http import RetryPolicy
from labelops.hooks import opentext
from labelops.hooks.opentext import OpenTextWorkflowHook

SERVICE = {"id": "labelops-service", "secret": "an-invented-secret"}


@pytest.fixture
def service() -> Iterator[Server]:
    standin = OpenTextStandIn(None, clients=[SERVICE])
    with Server(standin.app) as server:
        yield server
    standin.close()


def hook(
    patch: pytest.MonkeyPatch, host: str, *, secret: str = SERVICE["secret"], **extra: Any
) -> OpenTextWorkflowHook:
    fields = {"conn_type": "opentext", "host": host, "login": SERVICE["id"], "password": secret}
    patch.setenv("AIRFLOW_CONN_TENANT", json.dumps({**fields, "extra": {"tenant_id": "tenant-1", **extra}}))
    return OpenTextWorkflowHook("tenant", policy=RetryPolicy(tries=1))


def test_a_connection_becomes_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    made = hook(monkeypatch, "https://api.example", groups={"data_owner": "owners"}, history_grace_seconds=5)
    client = made.get_conn()
    assert client is made.get_conn()
    found = client.settings
    assert (found.conn_id, found.root, found.client_id) == ("tenant", "https://api.example", SERVICE["id"])
    assert found.token_url == "https://api.example/tenants/tenant-1/oauth2/token"
    assert (found.grace, client.groups) == (5, {"data_owner": "owners"})
    assert SERVICE["secret"] not in f"{found!r} {client!r} {made!r}"


def test_a_bad_connection_is_told_when_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    made = hook(monkeypatch, "https://api.example", timeout="soon")
    assert made.test_connection() == (False, "opentext: extra timeout: found 'soon'; allowed: a number")
    with pytest.raises(InvalidInput):
        made.get_conn()


def test_the_button(service: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    worked = hook(monkeypatch, service.url).test_connection()
    assert worked == (True, "Signed in as labelops-service; the workflow service answers.")
    ok, text = hook(monkeypatch, service.url, secret="wrong-one").test_connection()
    assert not ok
    assert "check login, password and tenant_id of the connection" in text
    assert "wrong-one" not in text
    ok, text = OpenTextWorkflowHook("nobody-has-made-it").test_connection()
    assert not ok
    assert text == "opentext: AirflowNotFoundException: the connection cannot be used"


def test_a_token_is_masked_before_it_is_used(service: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    masked: list[tuple[str, int]] = []
    monkeypatch.setattr(opentext, "mask_secret", lambda value: masked.append((value, len(service.app.requests))))
    list(hook(monkeypatch, service.url, token_path="/tenants/masked/oauth2/token").get_conn().processes())
    [(token, requests_before)] = masked
    assert len(token) > 10
    assert requests_before == 1, "only the token itself had been asked for"
