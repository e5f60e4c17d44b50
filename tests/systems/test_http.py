"""The request policy by itself: what is sent again, how long it waits, how addresses are read."""

from __future__ import annotations

import io
import socket
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import requests

from include.base.errors import InvalidInput, RateLimited, Unavailable
from include.systems.http import HttpCaller, RetryPolicy, base_url, retry_after_seconds


def reply(status: int, **headers: str) -> requests.Response:
    response = requests.Response()
    response.status_code, response.raw = status, io.BytesIO()
    response.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return response


def caller(waits: list[float]) -> HttpCaller:
    return HttpCaller("system", RetryPolicy(sleep=waits.append, jitter=lambda: 1.0))


def in_turn(*replies: requests.Response | Exception) -> Callable[[], requests.Response]:
    rest = list(replies)

    def send() -> requests.Response:
        following = rest.pop(0)
        if isinstance(following, Exception):
            raise following
        return following

    return send


def test_a_connection_never_made_is_tried_again_for_any_method() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}/"
    waits: list[float] = []
    subject = caller(waits)
    with pytest.raises(Unavailable):
        subject.call("POST", lambda: requests.post(url, timeout=5), path="/")
    assert (subject.requests_made, waits) == (4, [1.0, 2.0, 4.0])


@pytest.mark.parametrize("error", [requests.exceptions.ReadTimeout(), requests.exceptions.ConnectionError("reset")])
def test_a_request_that_may_have_arrived_is_sent_once_unless_harmless(error: Exception) -> None:
    subject = caller([])
    with pytest.raises(Unavailable):
        subject.call("PUT", in_turn(error), path="/")
    assert subject.requests_made == 1
    assert subject.call("PUT", in_turn(error, reply(200)), path="/", idempotent=True).status_code == 200


def test_an_untrusted_certificate_is_not_tried_again() -> None:
    subject = caller([])
    with pytest.raises(Unavailable, match="certificate"):
        subject.call("GET", in_turn(requests.exceptions.SSLError("secret")), path="/x?token=secret")
    assert subject.requests_made == 1


def test_messages_hold_no_query() -> None:
    error = requests.exceptions.ConnectionError("https://host/x?token=secret")
    with pytest.raises(Unavailable) as caught:
        caller([]).call("POST", in_turn(error), path="/x?token=secret")
    assert "secret" not in str(caught.value)


def test_429_without_a_time_backs_off_and_ends() -> None:
    waits: list[float] = []
    with pytest.raises(RateLimited) as caught:
        caller(waits).call("POST", in_turn(*[reply(429)] * 4), path="/")
    assert (caught.value.retry_after, waits) == (None, [1.0, 2.0, 4.0])


def test_near_the_limit_it_slows_down() -> None:
    waits: list[float] = []
    caller(waits).call("GET", in_turn(reply(200, X_RateLimit_NearLimit="true")), path="/")
    assert waits == [1.0]


@pytest.mark.parametrize(
    ("value", "expected"),
    [("3", 3.0), ("-1", 0.0), ("", None), ("soon", None), ("inf", None), ("Fri, 01 Jan 2021 00:00:00 GMT", 0.0)],
)
def test_retry_after(value: str, expected: float | None) -> None:
    assert retry_after_seconds(reply(429, Retry_After=value)) == expected


@pytest.mark.parametrize(
    ("host", "schema", "port", "expected"),
    [
        ("acme.example", None, None, "https://acme.example"),
        ("acme.example", "http", 8090, "http://acme.example:8090"),
        ("http://127.0.0.1:1/wiki/", None, 2, "http://127.0.0.1:1/wiki"),
    ],
)
def test_addresses_are_mended(host: str, schema: str | None, port: int | None, expected: str) -> None:
    assert base_url(SimpleNamespace(host=host, schema=schema, port=port), "system") == expected


@pytest.mark.parametrize(
    "host", ["", "ftp://acme.example", "https://user:word@acme.example", "https://acme.example?x=1"]
)
def test_other_addresses_are_refused(host: str) -> None:
    with pytest.raises(InvalidInput):
        base_url(SimpleNamespace(host=host, schema=None, port=None), "system")
