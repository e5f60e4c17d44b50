"""ConfluenceHook: from a connection in the environment to a client, and the button that tests it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from include.base.errors import InvalidInput
from include.systems.confluence.client import ConfluenceClient
from include.systems.confluence.settings import Settings
from labelops.hooks.confluence import ConfluenceHook
from tests.systems.confluence.site import SERVICE, Site, running


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with running(monkeypatch) as site:
        yield site


@pytest.fixture
def connect(site: Site, monkeypatch: pytest.MonkeyPatch) -> Any:
    def hook(**fields: Any) -> ConfluenceHook:
        connection = {"conn_type": "confluence", "host": site.server.url, "login": SERVICE.email}
        connection |= {"password": SERVICE.token, **fields}
        monkeypatch.setenv("AIRFLOW_CONN_CONFLUENCE_TEST", json.dumps(connection))
        return ConfluenceHook("confluence_test")

    return hook


def test_the_connection_is_read_once_and_nothing_is_sent(site: Site, connect: Any) -> None:
    before = len(site.stand_in.app.requests)
    extra = {"timeout": 7, "verify": False, "cloud_id": "c1"}
    hook = connect(extra=extra)
    client = hook.get_conn()
    assert isinstance(client, ConfluenceClient)
    assert hook.get_conn() is client
    assert client.settings == Settings(
        site=site.server.url,
        path="/wiki",
        flavour="cloud",
        auth="basic",
        login=SERVICE.email,
        secret=SERVICE.token,
        cloud_id="c1",
        verify=False,
        timeout=7.0,
        extra=extra,
    )
    assert client.requests_made == 0
    assert len(site.stand_in.app.requests) == before


def test_the_button_names_site_and_account(site: Site, connect: Any) -> None:
    assert connect().test_connection() == (True, f"Connected to {site.server.url} as Labelops service")


def test_the_button_says_what_is_wrong(site: Site, connect: Any) -> None:
    ok, message = connect(password="wrong-token-999").test_connection()
    assert not ok
    assert "403" in message
    assert "wrong-token-999" not in message
    ok, message = connect(extra={"auth": "magic"}).test_connection()
    assert not ok
    assert "allowed are basic, bearer, scoped, oauth2" in message


def test_the_button_shows_no_words_of_an_unforeseen_error(
    site: Site, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(client: ConfluenceClient) -> str:
        raise RuntimeError(SERVICE.token)

    monkeypatch.setattr(ConfluenceClient, "check", fail)
    assert connect().test_connection() == (False, "RuntimeError: the connection cannot be used")


def test_a_hook_of_a_bad_connection_can_be_made(connect: Any) -> None:
    hook = connect(password="")
    with pytest.raises(InvalidInput, match="password"):
        hook.get_conn()
