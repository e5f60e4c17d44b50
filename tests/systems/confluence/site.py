"""A running local Confluence Cloud with a space, and clients on it that wait in no time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from include.sandbox.confluence import ConfluenceStandIn, SandboxUser
from include.sandbox.http import Server
from include.systems.confluence.client import ConfluenceClient
from include.systems.confluence.settings import Settings
from include.systems.http import RetryPolicy

__all__ = ["EDITOR", "SERVICE", "Site", "client_of", "make", "on", "running"]

SERVICE = SandboxUser("acc-service", "Labelops service", "service@labelops.example", "service-token-4711")
EDITOR = SandboxUser("acc-editor", "Edda Editor", "edda@labelops.example", "editor-token-0815")


def client_of(connection: dict[str, Any], extra: dict[str, Any], waits: list[float]) -> ConfluenceClient:
    """Return a client that notes how long it would have waited."""
    fields = {"schema": None, "port": None, **connection}
    settings = Settings.read(SimpleNamespace(extra_dejson=extra, **fields))
    return ConfluenceClient(settings, RetryPolicy(sleep=waits.append, jitter=lambda: 1.0))


class Site:
    """A running stand-in with a space, and clients that wait in no time."""

    def __init__(self, stand_in: ConfluenceStandIn, server: Server) -> None:
        self.stand_in, self.server = stand_in, server
        self.waits: list[float] = []

    def client(
        self, user: SandboxUser = SERVICE, *, extra: dict[str, Any] | None = None, **fields: Any
    ) -> ConfluenceClient:
        connection = {"host": self.server.url, "login": user.email, "password": user.token, **fields}
        return client_of(connection, extra or {}, self.waits)

    def sent(self, method: str) -> list[str]:
        return [target for verb, target in self.stand_in.app.requests if verb == method]

    def send(self, method: str, path: str, user: SandboxUser = EDITOR, **parts: Any) -> requests.Response:
        return requests.request(method, self.server.url + path, auth=(user.email, user.token), timeout=10, **parts)


@contextmanager
def running(patch: pytest.MonkeyPatch) -> Iterator[Site]:
    patch.setenv("NO_PROXY", "127.0.0.1")
    stand_in = ConfluenceStandIn(None, [SERVICE, EDITOR])
    with Server(stand_in.app) as server:
        site = Site(stand_in, server)
        assert site.send("POST", "/wiki/api/v2/spaces", json={"key": "DS", "name": "Data"}).status_code == 201
        yield site
        stand_in.app.faults.clear()


def make(client: ConfluenceClient, title: str = "Guideline", body: str = "<p>One</p>") -> Any:
    return client.create_page(client.space("DS").id, title, body)


def on(method: str, path: str = "") -> Any:
    return lambda request: request.method == method and path in request.path
