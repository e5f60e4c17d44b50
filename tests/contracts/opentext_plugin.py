"""Holds every exchange of OpenText's client and the local service in the tests to Flowable's published schema."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import wraps
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests.adapters

from include.sandbox.http import HttpError, Reply, Request
from include.sandbox.opentext import OpenTextStandIn
from tests.contracts import opentext
from tests.workers import TOTALS

ROOTS = (opentext.RUN + "/", opentext.HISTORY + "/")
WATCHED = (
    "hooks",
    "opentext",
    "decisions",
    "releases",
    "sandbox",
    "contracts",
    "usecases",
    "acceptance",
    "triggers",
    "bpmn",
)


@pytest.fixture(autouse=True)
def held_to_flowable(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Fail a test in which the client or the stand-in goes against the schema; yield what was found so far."""
    faults: list[str] = []
    if request.path.parent.name not in WATCHED or not opentext.FILE.is_file():
        yield faults
        return
    with pytest.MonkeyPatch.context() as patch:
        _listen(patch, faults)
        yield faults
    if not request.node.get_closest_marker("off_contract"):
        assert not faults, "\n".join(dict.fromkeys(faults))


def _listen(patch: pytest.MonkeyPatch, faults: list[str]) -> None:
    send, make = requests.adapters.HTTPAdapter.send, OpenTextStandIn.__init__
    lock = threading.Lock()

    def note(into: str, what: str, found: list[str]) -> None:
        with lock:
            TOTALS[f"opentext {into}"][what] += 1
            faults.extend(found)

    @wraps(send)
    def asked(adapter: Any, request: requests.PreparedRequest, *arguments: Any, **options: Any) -> Any:
        address = urlsplit(str(request.url))
        if address.path.startswith(ROOTS):
            body = request.body or b""
            found = opentext.request_faults(
                str(request.method),
                address.path,
                address.query,
                body.encode() if isinstance(body, str) else bytes(body),
                str(request.headers.get("Content-Type", "")),
            )
            note("requests", _name(str(request.method), address.path), found)
        return send(adapter, request, *arguments, **options)

    @wraps(make)
    def made(stand_in: OpenTextStandIn, *arguments: Any, **options: Any) -> None:
        make(stand_in, *arguments, **options)
        handle = stand_in.app.handle

        def answer(request: Request) -> Reply:
            try:
                reply = handle(request)
            except HttpError as error:
                answered(request, error.reply)
                raise
            answered(request, reply)
            return reply

        stand_in.app.handle = answer  # type: ignore[method-assign]

    def answered(request: Request, reply: Reply) -> None:
        if request.path.startswith(ROOTS):
            # As it was sent: what is quoted in a segment is no separator. A test may have put another address in front.
            sent = urlsplit(request.target).path
            path = sent if sent.startswith(ROOTS) else request.path
            kind = reply.headers.get("Content-Type", "")
            found = opentext.reply_faults(request.method, path, reply.status, kind, reply.body)
            note("replies", _name(request.method, path), found)

    patch.setattr(requests.adapters.HTTPAdapter, "send", asked)
    patch.setattr(OpenTextStandIn, "__init__", made)


def _name(method: str, path: str) -> str:
    shared = opentext.find(method, path)
    return f"{method} {shared.path}" if shared else opentext.own(method, path) or f"{method} {path}"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how much was held to the schema."""
    sent, answered = TOTALS["opentext requests"], TOTALS["opentext replies"]
    if sent or answered:
        terminalreporter.write_line(
            f"Flowable's schema: {sum(sent.values())} requests of the OpenText client ({len(sent)} operations) and "
            f"{sum(answered.values())} replies of the stand-in ({len(answered)} operations)"
        )
