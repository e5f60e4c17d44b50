"""A running local Confluence Cloud with a space, and hooks on it that wait in no time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests

from include.sandbox.confluence import ConfluenceStandIn, SandboxUser
from include.sandbox.http import Server
from include.systems.http import RetryPolicy
from labelops.hooks.confluence import ConfluenceHook

__all__ = ["EDITOR", "SERVICE", "Site", "make", "on", "running"]

SERVICE = SandboxUser("acc-service", "Labelops service", "service@labelops.example", "service-token-4711")
EDITOR = SandboxUser("acc-editor", "Edda Editor", "edda@labelops.example", "editor-token-0815")


class Site:
    """A running stand-in with a space, and hooks that wait in no time."""

    def __init__(self, stand_in: ConfluenceStandIn, server: Server, patch: pytest.MonkeyPatch) -> None:
        self.stand_in, self.server, self.patch = stand_in, server, patch
        self.waits: list[float] = []

    def hook(
        self, user: SandboxUser = SERVICE, *, extra: dict[str, Any] | None = None, **fields: Any
    ) -> ConfluenceHook:
        connection = {"conn_type": "confluence", "host": self.server.url, "login": user.email, "password": user.token}
        connection |= {"extra": extra or {}, **fields}
        self.patch.setenv("AIRFLOW_CONN_CONFLUENCE_TEST", json.dumps(connection))
        hook = ConfluenceHook("confluence_test", policy=RetryPolicy(sleep=self.waits.append, jitter=lambda: 1.0))
        hook.get_conn()
        return hook

    def sent(self, method: str) -> list[str]:
        return [target for verb, target in self.stand_in.app.requests if verb == method]

    def send(self, method: str, path: str, user: SandboxUser = EDITOR, **parts: Any) -> requests.Response:
        return requests.request(method, self.server.url + path, auth=(user.email, user.token), timeout=10, **parts)


@contextmanager
def running(patch: pytest.MonkeyPatch) -> Iterator[Site]:
    patch.setenv("NO_PROXY", "127.0.0.1")
    stand_in = ConfluenceStandIn(None, [SERVICE, EDITOR])
    with Server(stand_in.app) as server:
        site = Site(stand_in, server, patch)
        assert site.send("POST", "/wiki/api/v2/spaces", json={"key": "DS", "name": "Data"}).status_code == 201
        yield site
        stand_in.app.faults.clear()


def make(hook: ConfluenceHook, title: str = "Guideline", body: str = "<p>One</p>") -> Any:
    return hook.create_page(hook.space("DS").id, title, body)


def on(method: str, path: str = "") -> Any:
    return lambda request: request.method == method and path in request.path
