"""The service's frame: its memory, people, clients, tokens and limits, and what every part reads."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import math
import secrets
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from include.sandbox.http import App, Fault, HttpError, Reply, Request, json_reply
from include.sandbox.opentext.shapes import comment_json, missing, variable_json
from include.sandbox.opentext.state import State
from include.sandbox.opentext.wire import HISTORY, RUN, flag, forbidden, moment, read_body

__all__ = ["Service", "Subject"]


@dataclass(frozen=True)
class Subject:
    """Whose token it is: a person's e-mail address, or a client id."""

    name: str
    person: bool


class Service:
    """The frame that the parts build on.

    :param state: folder of its memory, None for none.
    :param users: people who can sign in: ``{"email", "name", "password", "groups": […]}``.
    :param clients: credentials of programs: ``{"id", "secret"}``, and ``"read_only": True`` for one that may only read.
    :param history_lag_seconds: how far history is behind.
    :param token_seconds: how long a token is good.
    """

    def __init__(
        self,
        state: Path | None,
        users: Iterable[Mapping[str, Any]] = (),
        clients: Iterable[Mapping[str, Any]] = (),
        history_lag_seconds: float = 0,
        token_seconds: float = 3600,
    ) -> None:
        self.state = State(state)
        clients = list(clients)
        self.users = {str(user["email"]): dict(user) for user in users}
        self.clients = {str(client["id"]): str(client["secret"]) for client in clients}
        self.read_only = {str(client["id"]) for client in clients if client.get("read_only")}
        self.history_lag_seconds = history_lag_seconds
        self.token_seconds = token_seconds
        self.service_may_complete = False
        self.names_completer = False
        self.tells_task_keys = False
        self.history_comments = True
        self.passed_over: frozenset[str] = frozenset()
        self.requests_per_second: int | None = None
        self.clock: Callable[[], float] = time.time
        self._recent: deque[float] = deque()
        self.app = App()
        self.app.before.append(self._limit)
        self._routes()

    def _routes(self) -> None:
        """Set the addresses that the parts answer at."""

    def close(self) -> None:
        """Close the memory."""
        self.state.close()

    def revoke_tokens(self) -> None:
        """Make every token a refused one, as their expiry would."""
        with self.state.transaction():
            self.state.delete_tokens(float("inf"))

    def gateway_fault(self, match: Callable[[Request], bool], status: int = 503, times: int | None = 1) -> Fault:
        """Let the gateway in front of the service answer, in its own words."""
        body = {
            "fault": {"faultstring": "The Service is temporarily unavailable", "detail": {"errorcode": "messaging"}}
        }
        return self.app.fault("status", match, times=times, reply=json_reply(body, status))

    def _limit(self, request: Request) -> Reply | None:
        if self.requests_per_second is None or not request.path.startswith((RUN, HISTORY)):
            return None
        with self.state.transaction():
            now = time.monotonic()
            while self._recent and self._recent[0] <= now - 1:
                self._recent.popleft()
            if len(self._recent) >= self.requests_per_second:
                return json_reply({"fault": {"faultstring": "Rate limit quota violation"}}, 429, {"Retry-After": "1"})
            self._recent.append(now)
        return None

    def _inside(self, handler: Callable[[Request], Reply]) -> Callable[[Request], Reply]:
        def run(request: Request) -> Reply:
            with self.state.transaction():
                return handler(request)

        return run

    def _signed_in(self, handler: Callable[[Request, Subject], Reply]) -> Callable[[Request], Reply]:
        def run(request: Request) -> Reply:
            with self.state.transaction():
                subject = self._subject(request)
                if subject.name in self.read_only and request.method != "GET":
                    raise forbidden("The client may only read.")
                return handler(request, subject)

        return run

    def _subject(self, request: Request) -> Subject:
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        found = self.state.row("SELECT * FROM token WHERE digest = ?", _digest(value))
        if scheme.lower() != "bearer" or found is None or found["expires"] <= self.clock():
            raise HttpError(401, {"fault": {"faultstring": "Invalid access token", "detail": {"errorcode": "oauth"}}})
        return Subject(found["subject"], bool(found["person"]))

    def _token(self, request: Request) -> Reply:
        fields = _token_fields(request)
        client, secret = str(fields.get("client_id", "")), str(fields.get("client_secret", ""))
        if (
            not hmac.compare_digest(self.clients.get(client, "").encode(), secret.encode())
            or client not in self.clients
        ):
            raise HttpError(401, {"error": "invalid_client", "error_description": "Client authentication failed"})
        grant = fields.get("grant_type")
        subject = Subject(client, person=False)
        if grant == "password":
            user = self.users.get(str(fields.get("username", "")))
            if user is None or user.get("password") != fields.get("password"):
                raise HttpError(400, {"error": "invalid_grant", "error_description": "Wrong user name or password"})
            subject = Subject(str(user["email"]), person=True)
        elif grant != "client_credentials":
            raise HttpError(400, {"error": "unsupported_grant_type"})
        value = secrets.token_urlsafe(32)
        now = self.clock()
        self.state.delete_tokens(now)
        self.state.insert(
            "token",
            digest=_digest(value),
            subject=subject.name,
            person=int(subject.person),
            expires=now + self.token_seconds,
        )
        # The service's own client reads expires_in as text.
        return json_reply({"access_token": value, "token_type": "Bearer", "expires_in": str(int(self.token_seconds))})

    def _groups(self, user: str) -> set[str]:
        return set(self.users.get(user, {}).get("groups", ()))

    def _process(self, process_id: str) -> Any:
        found = self.state.row(
            "SELECT process.*, model.key, model.version, model.xml, model.name AS model_name FROM process "
            "JOIN model ON model.id = model_id WHERE process.id = ?",
            process_id,
        )
        if found is None:
            raise missing(f"Could not find a process instance with id '{process_id}'.")
        return found

    def _family(self, process_id: str) -> set[str]:
        """Return a process and all that it called, directly or not."""
        rows = self.state.rows(
            "WITH RECURSIVE family (id) AS (SELECT ? UNION SELECT process.id FROM process "
            "JOIN family ON parent_id = family.id) SELECT id FROM family",
            process_id,
        )
        return {row["id"] for row in rows}

    def _live(self, process_id: str) -> Any:
        found = self._process(process_id)
        if found["ended"] is not None:
            raise missing(f"Could not find a process instance with id '{process_id}'.")
        return found

    def _matching(self, request: Request, extra: str, *values: Any) -> list[Any]:
        """Return processes by the filters that both process lists know, oldest first."""
        rows = self.state.rows(
            "SELECT process.*, model.key, model.version, model.name AS model_name FROM process "  # noqa: S608
            f"JOIN model ON model.id = model_id WHERE {extra} ORDER BY started, process.rowid",
            *values,
        )
        asked = {name: request.one(name) for name in _PROCESS_FILTERS if name in request.query}
        rows = [row for row in rows if all(_PROCESS_FILTERS[name](row, value) for name, value in asked.items())]
        return rows

    def _comment_rows(self, process_id: str, until: float | None = None) -> list[Any]:
        return self.state.rows(
            "SELECT * FROM comment WHERE process_id = ? AND at <= ? ORDER BY seq",
            process_id,
            math.inf if until is None else until,
        )

    def _insert_comment(self, process_id: str, task_id: str | None, author: str, message: str, now: float) -> str:
        comment_id = str(uuid.uuid4())
        self.state.insert(
            "comment", id=comment_id, process_id=process_id, task_id=task_id, author=author, message=message, at=now
        )
        return comment_id

    def _task_extras(self, row: Any, request: Request, until: float | None) -> dict[str, Any]:
        extras: dict[str, Any] = {}
        if flag(request, "includeTaskComments"):
            comments = self._comment_rows(row["process_id"], until)
            extras["comments"] = [comment_json(item) for item in comments if item["task_id"] == row["id"]]
        if flag(request, "includeProcessVariables"):
            extras["variables"] = [variable_json(item) for item in self.state.variables(row["process_id"], until)]
        return extras


def _is(column: str) -> Callable[[Any, str], bool]:
    return lambda row, value: str(row[column]) == value


def _ended_after(row: Any, value: str) -> bool:
    return row["ended"] is not None and row["ended"] >= moment(value)


_PROCESS_FILTERS: dict[str, Callable[[Any, str], bool]] = {
    "businessKey": _is("business_key"),
    "processDefinitionKey": _is("key"),
    "finishedAfter": _ended_after,
    "superProcessInstanceId": _is("parent_id"),
}


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8")).hexdigest()


def _token_fields(request: Request) -> dict[str, Any]:
    if request.headers.get("content-type", "").startswith("application/json"):
        fields = read_body(request)
    else:
        fields = dict(request.form())
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            client, _, secret = base64.b64decode(value, validate=True).decode("utf-8").partition(":")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise HttpError(401, {"error": "invalid_client"}) from error
        fields = {**fields, "client_id": client, "client_secret": secret}
    return fields
