"""Holds every exchange of the Confluence hook and the local Confluence to the published contracts while a test runs.

Requests are taken on the client's side, so that a request whose reply a fault took away counts too; replies are taken
where the stand-in gives them, before a fault spoils them, whoever asked.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests.adapters

from include.sandbox.confluence import ConfluenceStandIn, DataCenterStandIn
from include.sandbox.http import App, HttpError, Reply, Request, Server
from include.systems.http import HttpCaller
from tests.contracts import confluence
from tests.contracts.contract import Exchange

OWN = ("/_media/", "/_sandbox/", "/_view/", "/_view", "/_edge/")
"""The stand-in's own addresses, which no contract has."""
OVERLOOKED = {("/wiki/rest/api/search", "start")}
"""Parameters that the service overlooks too (L: markfluence, on search)."""
API_ROOTS = ("/wiki/api/", "/rest/api/", "/wiki/rest/")


class _Watched(dict[str, list[str]]):
    """Parameters that remember which of them were looked at: one that a stand-in overlooks proves nothing."""

    def __init__(self, query: Mapping[str, list[str]]) -> None:
        super().__init__(query)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> list[str]:
        self.read.add(name)
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        self.read.add(str(name))
        return super().__contains__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.read.add(name)
        return super().get(name, default)


class Recorder:
    """What was exchanged, and what of it goes against the contract."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str]] = Counter()
        self.replies: Counter[tuple[str, str, int]] = Counter()
        self.faults: list[str] = []
        self._by_hook = threading.local()

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Listen from now on, until the patch is undone."""
        self._listen_to_hooks(patch)
        self._listen_to_servers(patch)

    def _listen_to_hooks(self, patch: pytest.MonkeyPatch) -> None:
        call, send = HttpCaller.call, requests.adapters.HTTPAdapter.send

        @wraps(call)
        def note_caller(caller: HttpCaller, *arguments: Any, **options: Any) -> Any:
            before = getattr(self._by_hook, "system", None)
            self._by_hook.system = caller.system
            try:
                return call(caller, *arguments, **options)
            finally:
                self._by_hook.system = before

        @wraps(send)
        def note_request(adapter: Any, request: requests.PreparedRequest, *arguments: Any, **options: Any) -> Any:
            if getattr(self._by_hook, "system", None) == "confluence":
                self._asked(request)
            return send(adapter, request, *arguments, **options)

        patch.setattr(HttpCaller, "call", note_caller)
        patch.setattr(requests.adapters.HTTPAdapter, "send", note_request)

    def _listen_to_servers(self, patch: pytest.MonkeyPatch) -> None:
        start = Server.__init__

        @wraps(start)
        def note_app(server: Server, app: App, *arguments: Any, **options: Any) -> None:
            flavour = flavour_of(app)
            if flavour:
                app.handle = self._noting(flavour, app)  # type: ignore[method-assign]
            start(server, app, *arguments, **options)

        patch.setattr(Server, "__init__", note_app)

    def _noting(self, flavour: str, app: App) -> Any:
        handle = app.handle

        @wraps(handle)
        def answer(request: Request) -> Reply:
            query = _Watched(request.query)
            request = replace(request, query=query)
            try:
                reply = handle(request)
            except HttpError as error:
                self._answered(flavour, request, error.reply)
                raise
            self._answered(flavour, request, reply)
            # A gate of the test may have answered instead.
            if reply.status < 300 and not app.before and any(root in request.path for root in API_ROOTS):
                self.faults += self._overlooked(flavour, request, set(query) - query.read)
            return reply

        return answer

    def _overlooked(self, flavour: str, request: Request, names: set[str]) -> list[str]:
        """Return the parameters of the contract that a stand-in did not look at."""
        path = confluence.canonical_path(flavour, request.path).rstrip("/")
        found = confluence.contract_of(flavour, path)
        operation = found.find(request.method, path) if found else None
        known = {one["name"] for one in operation.parameters if one["in"] == "query"} if operation else set()
        names = {name for name in names & known if (path, name) not in OVERLOOKED}
        return [f"{request.method} {path}: {name} is not looked at" for name in sorted(names)]

    def _asked(self, request: requests.PreparedRequest) -> None:
        address = urlsplit(str(request.url))
        if not any(root in address.path for root in API_ROOTS):
            # A file's own address, on whatever host.
            if address.netloc != getattr(self._by_hook, "site", "") and "Authorization" in request.headers:
                self.faults.append(f"{address.path}: a credential is sent to another host")
            return
        self._by_hook.site = address.netloc
        flavour = "cloud" if "/wiki/" in address.path else "datacenter"
        body = request.body or b""
        exchange = Exchange(
            method=str(request.method),
            path=confluence.canonical_path(flavour, address.path),
            query=address.query,
            headers=dict(request.headers),
            body=body.encode() if isinstance(body, str) else bytes(body),
        )
        self._note(flavour, exchange, self.requests, confluence.request_faults(flavour, exchange))

    def _answered(self, flavour: str, request: Request, reply: Reply) -> None:
        if request.path.startswith(OWN) or not any(root in request.path for root in API_ROOTS):
            return  # nothing of an API: a page for people, a file, the site's id
        exchange = Exchange(
            method=request.method,
            path=confluence.canonical_path(flavour, request.path).rstrip("/") or "/",
            query=urlsplit(request.target).query,
            headers=request.headers,
            body=request.body,
            status=reply.status,
            reply_headers=reply.headers,
            reply=reply.body,
        )
        found = confluence.contract_of(flavour, exchange.path)
        if found is None or found.find(exchange.method, exchange.path) is None:
            # Whatever a client asks for that no contract has must be refused, as the service would.
            faults = [] if reply.status in (404, 405) else [f"{exchange}: {reply.status}, and no contract has this"]
        else:
            faults = confluence.reply_faults(flavour, exchange)
        self._note(flavour, exchange, self.replies, faults, reply.status)

    def _note(self, flavour: str, exchange: Exchange, into: Counter[Any], faults: list[str], *more: int) -> None:
        found = confluence.contract_of(flavour, exchange.path)
        operation = found.find(exchange.method, exchange.path) if found else None
        into[(exchange.method, operation.template if operation else exchange.path, *more)] += 1
        self.faults += faults


def flavour_of(app: App) -> str | None:
    """Return which Confluence a stand-in plays, or None for another system."""
    stand_in = getattr(app, "_stand_in", None)
    if not isinstance(stand_in, ConfluenceStandIn):
        return None
    return "datacenter" if isinstance(stand_in, DataCenterStandIn) else "cloud"


@contextmanager
def recording() -> Iterator[Recorder]:
    """Record what happens inside."""
    recorder = Recorder()
    with pytest.MonkeyPatch.context() as patch:
        recorder.install(patch)
        yield recorder
