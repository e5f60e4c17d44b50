"""OpenText Workflow Service (IM Cloud Services): processes, people's tasks, comments, history, models.

What is known of the service comes from OpenText's own sample code and from clients that use it; it behaves as Flowable
with other paths and HAL lists. Nothing here was tried on a live tenant, so host, paths and list names are settings of
the connection. Connection ``opentext``: host is the API root (``https://us.api.opentext.com``), login the client id,
password the client secret. Extra:

=========================  ==========================================================================================
``tenant_id``              the tenant in the token address (required)
``token_style``            ``json`` (OpenText's own form), ``form`` or ``basic``
``token_path``             default ``/tenants/{tenant_id}/oauth2/token``
``workflow_path``          default ``/workflow/v1``
``history_path``           default ``/workflow-history/v1``
``history_comments``       below the history path; default ``/historic-process-instances/{id}/comments`` (Flowable's)
``rels``                   names of lists in ``_embedded``, by collection, where they differ from the collection's name
``completer_field``        field of a historic task that names who completed it; default ``completedBy``
``model_encoding``         how a model's XML travels when it is deployed: ``base64`` (default), ``url`` or ``plain``
``process_page``           address that shows a process to a person, with ``{id}``
``history_grace_seconds``  how long history may lag behind, default 30
``count``                  elements a list request asks for, default 100
``verify``, ``timeout``    TLS check (or a bundle's path), seconds for one reply (default 60)
=========================  ==========================================================================================
"""

from __future__ import annotations

import base64
import hashlib
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import requests
from airflow.sdk import BaseHook
from airflow.sdk.log import mask_secret

from include.base.errors import (
    AuthError,
    Conflict,
    InvalidInput,
    InvalidReply,
    NotFound,
    OutsideError,
    Unavailable,
    Unsupported,
)
from include.systems.opentext import (
    HistoricProcess,
    HistoricTask,
    ProcessComment,
    ProcessInstance,
    ProcessModel,
    UserTask,
)
from labelops.hooks.requests_http import HttpCaller, RetryPolicy, base_url, read_json

if TYPE_CHECKING:
    from airflow.sdk import Connection

__all__ = ["Encrypted", "OpenTextWorkflowHook", "parse_time", "read_variables", "write_variable"]

log = logging.getLogger(__name__)

SYSTEM = "opentext"
_EARLY_SECONDS = 60.0
"""A token is renewed this long before it expires."""
_INTEGER = range(-(2**31), 2**31)


@dataclass(frozen=True)
class Encrypted:
    """A variable's value that the service is asked to store encrypted. It is never shown in a message or a log."""

    value: Any = field(repr=False)


def parse_time(value: str | None) -> datetime | None:
    """Return a time in UTC from any of the service's three spellings: ``…+0000``, ``…+05:30``, ``…Z``.

    :raises InvalidReply: another spelling, or a time without a zone.
    """
    if not value:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise InvalidReply(
            f"{SYSTEM}: a time is spelled {value!r}; expected ISO 8601 with a zone", system=SYSTEM
        ) from error
    if moment.tzinfo is None:
        raise InvalidReply(f"{SYSTEM}: the time {value!r} has no zone", system=SYSTEM)
    return moment.astimezone(UTC)


def write_variable(name: str, value: Any) -> dict[str, Any]:
    """Return a variable as the service takes it: objects and lists as ``json``, times as ISO 8601 in UTC.

    :raises InvalidInput: a time without a zone, or a value that no type stands for. The message has no value in it.
    """
    if isinstance(value, Encrypted):
        return {**write_variable(name, value.value), "encryption": True}
    if value is None:
        return {"name": name, "value": None}
    kind: str
    sent: Any
    if isinstance(value, bool):
        kind, sent = "boolean", value
    elif isinstance(value, int):
        kind, sent = ("integer" if value in _INTEGER else "long"), value
    elif isinstance(value, float):
        kind, sent = "double", value
    elif isinstance(value, str):
        kind, sent = "string", value
    elif isinstance(value, datetime):
        if value.tzinfo is None:
            raise InvalidInput(f"variable {name!r}: the time has no zone")
        utc = value.astimezone(UTC)
        kind, sent = "date", f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03d}Z"
    elif isinstance(value, date):
        kind, sent = "string", value.isoformat()
    elif isinstance(value, Mapping):
        kind, sent = "json", dict(value)
    elif isinstance(value, (list, tuple)):
        kind, sent = "json", list(value)
    else:
        raise InvalidInput(
            f"variable {name!r}: found a {type(value).__name__}; "
            "allowed are text, numbers, true/false, times, objects, lists and null"
        )
    return {"name": name, "type": kind, "value": sent}


def read_variables(items: Any) -> dict[str, Any]:
    """Return ``{name: value}`` from a reply's list of variables; a ``date`` becomes a time in UTC.

    An encrypted variable whose value the service keeps back is None.
    """
    variables = {}
    for item in items or []:
        value = item.get("value")
        variables[str(item["name"])] = parse_time(value) if item.get("type") == "date" else value
    return variables


@dataclass
class _Token:
    value: str
    renew_at: float


class _Tokens:
    """The access tokens of this process, one for each credential; a credential is asked for by one thread at a time."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._tokens: dict[str, _Token] = {}

    def lock(self, key: str) -> threading.Lock:
        with self._guard:
            return self._locks.setdefault(key, threading.Lock())

    def get(self, key: str) -> str | None:
        token = self._tokens.get(key)
        return token.value if token and time.monotonic() < token.renew_at else None

    def put(self, key: str, token: _Token) -> None:
        self._tokens[key] = token

    def drop(self, key: str, value: str) -> None:
        """Forget a token that was refused, unless another thread has renewed it meanwhile."""
        with self.lock(key):
            token = self._tokens.get(key)
            if token and token.value == value:
                del self._tokens[key]


_TOKENS = _Tokens()
_STARTS = tuple(threading.Lock() for _ in range(64))
"""Starts of one business key wait for each other; two keys rarely share a lock."""


@dataclass(frozen=True)
class _Settings:
    root: str
    client_id: str
    secret: str = field(repr=False)
    token_url: str
    token_style: str
    workflow: str
    history: str
    history_comments: str
    rels: Mapping[str, str]
    completer_field: str
    model_encoding: str
    process_page: str | None
    grace: float
    count: int
    verify: bool | str
    timeout: float


class OpenTextWorkflowHook(BaseHook):
    """Talks to OpenText Workflow Service through one connection.

    Retries: reads, and writes that may be repeated, are tried again by the shared policy. A process start is never sent
    a second time without looking first; completing a task and commenting are sent once.

    :param opentext_conn_id: the connection's id.
    :param policy: the retry policy of single requests.
    :param connection: the connection itself, where the caller had to look it up (in a trigger, say).
    """

    conn_name_attr = "opentext_conn_id"
    default_conn_name = "opentext_default"
    conn_type = "opentext"
    hook_name = "OpenText Workflow Service"

    def __init__(
        self,
        opentext_conn_id: str = default_conn_name,
        policy: RetryPolicy | None = None,
        connection: Connection | None = None,
    ) -> None:
        super().__init__()
        self.opentext_conn_id = opentext_conn_id
        self._connection = connection
        self.caller = HttpCaller(SYSTEM, policy)
        self._settings: _Settings | None = None
        self._session: requests.Session | None = None

    def get_conn(self) -> requests.Session:
        """Return the HTTP session, with the connection's TLS setting."""
        if self._session is None:
            self._session = requests.Session()
            self._session.verify = self.settings.verify
        return self._session

    @property
    def settings(self) -> _Settings:
        """Return the connection, read once.

        :raises InvalidInput: naming the field that is missing or malformed.
        """
        if self._settings is None:
            self._settings = _read_settings(self._connection or self.get_connection(self.opentext_conn_id))
        return self._settings

    def test_connection(self) -> tuple[bool, str]:
        """Get a token and list one process; return whether it worked and a sentence that says what did or did not."""
        try:
            reply = self._get_json(f"{self.settings.workflow}/process-instances", {"offset": 0, "count": 1})
            self._elements(reply, "process-instances")
        except Exception as error:  # the form shows whatever went wrong
            return False, f"{type(error).__name__}: {error}"
        return True, f"Signed in as {self.settings.client_id}; the workflow service answers."

    # --- processes -------------------------------------------------------------------------------------------------

    def start_process(
        self,
        key: str,
        *,
        name: str,
        business_key: str,
        variables: Mapping[str, Any],
        settle_seconds: float = 0.0,
    ) -> tuple[str, bool]:
        """Start a process unless one with this business key exists; return its id and whether this call started it.

        The service has no idempotency key. So: look the business key up among running and ended processes, start only
        if there is none, and when the reply is lost look again, for as long as history may lag, before giving up. The
        start itself is sent once. Threads of one process take turns for one business key; between processes the
        caller's claim on the effect has to keep them apart.

        :param settle_seconds: how long to go on looking before the start. Give the history's lag where an earlier try
            may have started a process that ends at once: it is neither running nor yet in history.
        :raises InvalidInput: the service refuses the request (unknown process key, a variable's type, a condition).
        :raises Unavailable: no reply, and no such process appeared; starting may be tried again later.
        """
        with _STARTS[hash(business_key) % len(_STARTS)]:
            found = self._find_within(business_key, settle_seconds)
            if found:
                log.info("Process %s has the business key %s already; nothing was started.", found, business_key)
                return found, False
            return self._start(key, name, business_key, variables), True

    def _start(self, key: str, name: str, business_key: str, variables: Mapping[str, Any]) -> str:
        body = {
            "processDefinitionKey": key,
            "name": name,
            "businessKey": business_key,
            "variables": [write_variable(variable, value) for variable, value in variables.items()],
        }
        try:
            response = self._request("POST", f"{self.settings.workflow}/process-instances", json=body)
            started = str(_object(read_json(response, SYSTEM))["id"])
        except (Unavailable, InvalidReply, KeyError) as error:
            found = self._find_within(business_key, self.settings.grace)
            if found is None:
                raise Unavailable(
                    f"{SYSTEM}: the start of {key!r} was not confirmed, and no process with the business key "
                    f"{business_key} appeared within {self.settings.grace:.0f} s ({error})",
                    system=SYSTEM,
                ) from error
            log.warning("The reply to starting %s was lost; it had started process %s.", key, found)
            return found
        log.info("Started process %s (%s) with the business key %s.", started, key, business_key)
        return started

    def find_process(self, business_key: str) -> str | None:
        """Return the id of the oldest process, running or ended, with this business key, or None.

        More than one is logged as a warning: the key names one effect, so somebody started a second by hand.
        """
        starts: dict[str, datetime] = {}
        for base, collection in (
            (self.settings.workflow, "process-instances"),
            (self.settings.history, "historic-process-instances"),
        ):
            for item in self._list(f"{base}/{collection}", collection, {"businessKey": business_key}):
                # Compared here too: a service that does not know the filter would answer with every process.
                if item.get("businessKey") == business_key:
                    starts[str(item["id"])] = parse_time(item.get("startTime")) or datetime.max.replace(tzinfo=UTC)
        if not starts:
            return None
        ordered = sorted(starts, key=lambda process_id: (starts[process_id], process_id))
        if len(ordered) > 1:
            log.warning(
                "%d processes have the business key %s: %s. The oldest counts.", len(ordered), business_key, ordered
            )
        return ordered[0]

    def _find_within(self, business_key: str, seconds: float) -> str | None:
        deadline = time.monotonic() + seconds
        pause = 0.2
        while True:
            found = self.find_process(business_key)
            left = deadline - time.monotonic()
            if found or left <= 0:
                return found
            self.caller.policy.sleep(min(pause, max(left, 0.01)))
            pause = min(pause * 2, 5.0)

    def process(self, process_id: str) -> ProcessInstance | None:
        """Return a running process with its variables, or None when it is not running (which is no proof of an end)."""
        try:
            item = self._get_object(
                f"{self.settings.workflow}/process-instances/{_segment(process_id)}",
                {"includeProcessVariables": "true"},
            )
        except NotFound:
            return None
        return ProcessInstance(
            id=str(item["id"]),
            name=item.get("name") or "",
            business_key=item.get("businessKey") or "",
            started=parse_time(item.get("startTime")),
            suspended=bool(item.get("suspended")),
            ended=bool(item.get("ended")),
            variables=read_variables(item.get("variables")),
            raw=item,
        )

    def history(self, process_id: str) -> HistoricProcess:
        """Return a process from history with its variables; it has ended when ``ended_at`` is set.

        :raises NotFound: still not in history after ``history_grace_seconds``.
        """
        deadline = time.monotonic() + self.settings.grace
        pause = 0.2
        while True:
            try:
                item = self._get_object(
                    f"{self.settings.history}/historic-process-instances/{_segment(process_id)}",
                    {"includeProcessVariables": "true"},
                )
                return _historic_process(item)
            except NotFound as error:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise NotFound(
                        f"{SYSTEM}: process {process_id} is not in history after {self.settings.grace:.0f} s",
                        system=SYSTEM,
                        status=404,
                    ) from error
            self.caller.policy.sleep(min(pause, max(left, 0.01)))
            pause = min(pause * 2, 5.0)

    def ended_since(self, since: datetime) -> Iterator[str]:
        """List the ids of the processes that ended at or after a moment, however many are waited for."""
        filters = {"finished": "true", "finishedAfter": since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
        path = f"{self.settings.history}/historic-process-instances"
        for item in self._list(path, "historic-process-instances", filters):
            yield str(item["id"])

    def terminate(self, process_id: str, reason: str) -> None:
        """End a running process from outside; one that is not running is left as it is."""
        try:
            self._request(
                "DELETE",
                f"{self.settings.workflow}/process-instances/{_segment(process_id)}",
                params={"deleteReason": reason},
                idempotent=True,
            )
        except NotFound:
            log.info("Process %s is not running; nothing to terminate.", process_id)

    def set_variable(self, process_id: str, name: str, value: Any) -> None:
        """Create or update one variable of a running process.

        :raises NotFound: the process is not running.
        """
        base = f"{self.settings.workflow}/process-instances/{_segment(process_id)}/variables"
        body = write_variable(name, value)
        try:
            self._request("PUT", f"{base}/{_segment(name)}", json=body, idempotent=True)
        except NotFound:
            # Flowable's PUT refuses a variable that does not exist yet; so the first write creates it.
            try:
                self._request("POST", base, json=[body])
            except Conflict:
                self._request("PUT", f"{base}/{_segment(name)}", json=body, idempotent=True)

    def process_url(self, process_id: str) -> str:
        """Return the address of the process's page, or of its history record where the connection names no page."""
        if self.settings.process_page:
            return self.settings.process_page.replace("{id}", _segment(process_id))
        return f"{self.settings.root}{self.settings.history}/historic-process-instances/{_segment(process_id)}"

    # --- tasks -----------------------------------------------------------------------------------------------------

    def tasks(self, *, process_id: str | None = None, candidate_or_assigned: str | None = None) -> Iterator[UserTask]:
        """List waiting tasks, oldest first: of one process and the processes it called, of one person, or all."""
        filters = {"includeTaskAssignments": "true", "sort": "createTime", "order": "asc"}
        if process_id:
            filters["processInstanceIdWithChildren"] = process_id
        if candidate_or_assigned:
            filters["candidateOrAssigned"] = candidate_or_assigned
        for item in self._list(f"{self.settings.workflow}/tasks", "tasks", filters):
            yield _user_task(item)

    def historic_tasks(self, process_id: str) -> Iterator[HistoricTask]:
        """List the tasks of a process and of the processes it called, ended ones included, from history.

        ``completer`` is filled only where a task carries the connection's ``completer_field``.
        """
        for item in self._historic_tasks(process_id):
            yield _historic_task(item, self.settings.completer_field)

    def _historic_tasks(self, process_id: str, **filters: str) -> Iterator[dict[str, Any]]:
        yield from self._list(
            f"{self.settings.history}/historic-task-instances",
            "historic-task-instances",
            {"processInstanceIdWithChildren": process_id, **filters},
        )

    def claim(self, task_id: str, assignee: str) -> None:
        """Claim a task in a person's name; claiming again for the same person is fine.

        :raises Conflict: somebody else holds it.
        """
        body = {"action": "claim", "assignee": assignee}
        self._request("POST", f"{self.settings.workflow}/tasks/{_segment(task_id)}", json=body, idempotent=True)

    def complete(self, task_id: str, *, outcome: str, variables: Mapping[str, Any] | None = None) -> None:
        """Complete a task with an outcome; sent once.

        :raises NotFound: the task does not wait any more (somebody completed it).
        """
        body = {
            "action": "complete",
            "outcome": outcome,
            "variables": [write_variable(name, value) for name, value in (variables or {}).items()],
        }
        self._request("POST", f"{self.settings.workflow}/tasks/{_segment(task_id)}", json=body)

    def update_task(self, task_id: str, **fields: Any) -> UserTask:
        """Change a task's ``description``, ``dueDate``, ``priority``, …; only the fields given, None clears one.

        :raises InvalidInput: a field that the service's task has not.
        """
        allowed = (
            "assignee",
            "category",
            "description",
            "dueDate",
            "formKey",
            "name",
            "owner",
            "parentTaskId",
            "priority",
        )
        unknown = sorted(set(fields) - set(allowed))
        if unknown:
            raise InvalidInput(f"task field: found {', '.join(unknown)}; allowed: {', '.join(allowed)}")
        body = {
            name: write_variable(name, value)["value"] if isinstance(value, datetime) else value
            for name, value in fields.items()
        }
        path = f"{self.settings.workflow}/tasks/{_segment(task_id)}"
        self._request("PUT", path, json=body, idempotent=True)
        # Read back, for the reply of a change may be empty.
        return _user_task(self._get_object(path, {"includeTaskAssignments": "true"}))

    # --- comments --------------------------------------------------------------------------------------------------

    def comments(self, process_id: str) -> list[ProcessComment]:
        """Return the comments on a process and on its tasks, each once, oldest first, running or ended.

        Comments on tasks come with the lists of waiting and of ended tasks (``includeTaskComments``). A process that
        has ended is asked for in history.

        :raises NotFound: neither running nor in history.
        :raises Unsupported: it has ended and the tenant's history has no comments under ``history_comments``.
        """
        found = list(self._process_comments(process_id))
        for item in self._list(
            f"{self.settings.workflow}/tasks",
            "tasks",
            {"processInstanceIdWithChildren": process_id, "includeTaskComments": "true"},
        ):
            found += [_with_task(comment, item) for comment in item.get("comments") or []]
        for item in self._historic_tasks(process_id, includeTaskComments="true"):
            found += [_with_task(comment, item) for comment in item.get("comments") or []]
        # The same comment can come with its process and with its task; only the latter may say which task it is on.
        once: dict[str, ProcessComment] = {}
        for comment in map(_comment, found):
            if comment.id not in once or once[comment.id].task_id is None:
                once[comment.id] = comment
        start = datetime.min.replace(tzinfo=UTC)
        return sorted(once.values(), key=lambda comment: comment.time or start)

    def _process_comments(self, process_id: str) -> Iterator[dict[str, Any]]:
        try:
            yield from self._list(
                f"{self.settings.workflow}/process-instances/{_segment(process_id)}/comments", "comments", {}
            )
            return
        except NotFound:
            self.history(process_id)
        try:
            yield from self._list(self._ended_comments(process_id), "comments", {})
        except (NotFound, Unsupported) as error:
            raise _no_comments_in_history(error) from error

    def add_comment(self, process_id: str, message: str) -> ProcessComment:
        """Comment on a process, running or ended. Sent once: the caller looks through :meth:`comments` first.

        :raises NotFound: neither running nor in history.
        :raises Unsupported: it has ended and the tenant takes no comment then.
        """
        body = {"includeUserIds": False, "message": message}
        running = f"{self.settings.workflow}/process-instances/{_segment(process_id)}/comments"
        try:
            response = self._request("POST", running, json=body)
        except NotFound:
            self.history(process_id)
            try:
                response = self._request("POST", self._ended_comments(process_id), json=body)
            except (NotFound, Unsupported) as error:
                raise _no_comments_in_history(error) from error
        return _comment(_object(read_json(response, SYSTEM)))

    def _ended_comments(self, process_id: str) -> str:
        return self.settings.history + self.settings.history_comments.replace("{id}", _segment(process_id))

    # --- models ----------------------------------------------------------------------------------------------------

    def models(self, key: str | None = None) -> Iterator[ProcessModel]:
        """List the latest version of the deployed models, or of the one with this key, without their XML."""
        filters = {"latestVersion": "true", **({"key": key} if key else {})}
        for item in self._list(f"{self.settings.workflow}/runtime/models", "models", filters):
            model = _model(item)
            if key is None or model.key == key:
                yield model

    def model(self, model_id: str) -> ProcessModel:
        """Return a model with its BPMN 2.0 XML.

        :raises InvalidReply: the reply has no XML in it.
        """
        item = self._get_object(f"{self.settings.workflow}/runtime/models/{_segment(model_id)}", {"modelType": "xml"})
        return _model(item, content=_decoded(item.get("modelContent")))

    def deploy(self, key: str, xml: str) -> tuple[ProcessModel, bool]:
        """Deploy a model unless the latest version says the same; the flag says whether it was deployed.

        :raises InvalidInput: the model is no BPMN, or the service refuses it.
        """
        from include.bpmn.read import canonical

        wanted = canonical(xml)
        current = self._latest(key)
        if current and current.content and canonical(current.content) == wanted:
            return current, False
        body = {"modelId": key, "modelType": "xml", "modelContent": _encoded(xml, self.settings.model_encoding)}
        try:
            self._request("POST", f"{self.settings.workflow}/runtime/models", json=body)
        except Unavailable:
            current = self._latest(key)
            if not (current and current.content and canonical(current.content) == wanted):
                raise
        current = self._latest(key)
        if current is None:
            raise InvalidReply(f"{SYSTEM}: the model {key!r} was deployed but is not listed", system=SYSTEM)
        return current, True

    def _latest(self, key: str) -> ProcessModel | None:
        newest = max(self.models(key), key=lambda model: model.version, default=None)
        return self.model(newest.id) if newest else None

    # --- requests --------------------------------------------------------------------------------------------------

    def _list(self, path: str, collection: str, filters: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """Yield a collection's elements. ``offset`` counts elements, and a page may be shorter than asked for.

        The end is ``page.totalElements`` where it is given. Otherwise it is a page shorter than asked for without a
        ``next`` link: the link alone proves nothing, for it was seen missing on full pages, and a service may cap the
        page size below what was asked for. An empty page always ends.

        :raises InvalidReply: the service answers with the same page again, so the list would never end.
        """
        offset = 0
        first: Any = None
        while True:
            reply = self._get_json(path, {**filters, "offset": offset, "count": self.settings.count})
            items = self._elements(reply, collection)
            if not items:
                return
            if offset and items[0] == first:
                raise InvalidReply(
                    f"{SYSTEM}: {path}: the page at offset {offset} is the first one again", system=SYSTEM
                )
            first = first if offset else items[0]
            yield from items
            offset += len(items)
            if self._is_last(reply, offset, len(items)):
                return

    def _is_last(self, reply: Mapping[str, Any], seen: int, length: int) -> bool:
        page, links = reply.get("page"), reply.get("_links")
        total = page.get("totalElements") if isinstance(page, dict) else None
        if isinstance(total, int):
            return seen >= total
        return length < self.settings.count and not (isinstance(links, dict) and "next" in links)

    def _elements(self, reply: Any, collection: str) -> list[dict[str, Any]]:
        embedded = _object(reply).get("_embedded")
        if embedded is None:
            return []
        lists = {name: value for name, value in _object(embedded).items() if isinstance(value, list)}
        rel = self.settings.rels.get(collection, collection)
        if rel in lists:
            items = lists[rel]
        elif len(lists) == 1:
            items = next(iter(lists.values()))
        else:
            raise InvalidReply(
                f"{SYSTEM}: the list {rel!r} is not in the reply, which has: {', '.join(sorted(lists)) or 'none'}; "
                f"name it in the connection's extra `rels`",
                system=SYSTEM,
            )
        return [_object(item) for item in items]

    def _get_object(self, path: str, params: Mapping[str, Any]) -> dict[str, Any]:
        item = _object(self._get_json(path, params))
        if "id" not in item:
            raise InvalidReply(f"{SYSTEM}: {path}: the reply has no `id`", system=SYSTEM)
        return item

    def _get_json(self, path: str, params: Mapping[str, Any]) -> Any:
        return read_json(self._request("GET", path, params=params), SYSTEM)

    def _request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        idempotent: bool | None = None,
    ) -> requests.Response:
        """Send one request with a token; a refused token is renewed exactly once.

        :raises AuthError: 401 with a fresh token, or 403.
        :raises InvalidInput: 400, 415 or 422.
        :raises NotFound, Conflict, Unsupported, Unavailable, InvalidReply: 404; 409; 405 and 501; 5xx; anything else.
        """
        token = self._token()
        response = self._send(method, path, token, params, json, idempotent)
        if response.status_code == 401:
            log.info("%s: the access token was refused; asking for a new one.", SYSTEM)
            _TOKENS.drop(self._credential(), token)
            response = self._send(method, path, self._token(), params, json, idempotent)
        if response.status_code >= 300:
            raise _error(method, path, response)
        return response

    def _send(
        self, method: str, path: str, token: str, params: Any, json: Any, idempotent: bool | None
    ) -> requests.Response:
        return self.caller.call(
            method,
            lambda: self.get_conn().request(
                method,
                self.settings.root + path,
                params=params,
                json=json,
                headers={"Authorization": f"Bearer {token}", "Accept": "application/json"},
                timeout=self.settings.timeout,
                allow_redirects=False,
            ),
            path=path,
            idempotent=idempotent,
        )

    def _credential(self) -> str:
        chosen = self.settings
        whole = "\0".join((chosen.token_url, chosen.client_id, chosen.secret))
        return hashlib.sha256(whole.encode("utf-8")).hexdigest()

    def _token(self) -> str:
        key = self._credential()
        cached = _TOKENS.get(key)
        if cached:
            return cached
        with _TOKENS.lock(key):
            cached = _TOKENS.get(key)
            if cached:
                return cached
            token = self._ask_for_token()
            _TOKENS.put(key, token)
            return token.value

    def _ask_for_token(self) -> _Token:
        chosen = self.settings
        fields = {"grant_type": "client_credentials"}
        options: dict[str, Any] = {}
        if chosen.token_style == "basic":  # noqa: S105 - the name of a style
            options = {"data": fields, "auth": (chosen.client_id, chosen.secret)}
        else:
            fields = {"client_id": chosen.client_id, "client_secret": chosen.secret, **fields}
            options = {"json": fields} if chosen.token_style == "json" else {"data": fields}  # noqa: S105
        # Asking twice for a token does no harm.
        response = self.caller.call(
            "POST",
            lambda: self.get_conn().post(chosen.token_url, timeout=chosen.timeout, allow_redirects=False, **options),
            path=chosen.token_url.removeprefix(chosen.root),
            idempotent=True,
        )
        if response.status_code in (400, 401, 403):
            raise AuthError(
                f"{SYSTEM}: no access token for the client {chosen.client_id!r} ({_reason(response)}); "
                "check login, password and tenant_id of the connection",
                system=SYSTEM,
                status=response.status_code,
            )
        if response.status_code >= 300:
            raise _error("POST", chosen.token_url.removeprefix(chosen.root), response)
        reply = _object(read_json(response, SYSTEM))
        try:
            value, seconds = str(reply["access_token"]), float(reply.get("expires_in", 300))
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidReply(
                f"{SYSTEM}: the token reply needs `access_token` and a number in `expires_in`", system=SYSTEM
            ) from error
        mask_secret(value)
        return _Token(value, time.monotonic() + seconds - _EARLY_SECONDS)


def _read_settings(connection: Any) -> _Settings:
    extra = connection.extra_dejson
    root = base_url(connection, SYSTEM)
    tenant = str(extra.get("tenant_id") or "")
    token_path = str(extra.get("token_path") or "/tenants/{tenant_id}/oauth2/token")
    for name, value in (("login (client id)", connection.login), ("password (client secret)", connection.password)):
        if not value:
            raise InvalidInput(f"{SYSTEM}: the connection's {name} is empty")
    if not tenant and "{tenant_id}" in token_path:
        raise InvalidInput(f"{SYSTEM}: the connection's extra has no `tenant_id`; it is part of the token address")
    return _Settings(
        root=root,
        client_id=connection.login,
        secret=connection.password,
        token_url=root + token_path.replace("{tenant_id}", _segment(tenant)),
        token_style=_choice(extra, "token_style", ("json", "form", "basic")),
        workflow=_path(extra, "workflow_path", "/workflow/v1"),
        history=_path(extra, "history_path", "/workflow-history/v1"),
        history_comments=_path(extra, "history_comments", "/historic-process-instances/{id}/comments"),
        rels=dict(extra.get("rels") or {}),
        completer_field=str(extra.get("completer_field") or "completedBy"),
        model_encoding=_choice(extra, "model_encoding", ("base64", "url", "plain")),
        process_page=extra.get("process_page") or None,
        grace=_number(extra, "history_grace_seconds", 30),
        count=max(1, int(_number(extra, "count", 100))),
        verify=True if extra.get("verify") is None else extra["verify"],
        timeout=_number(extra, "timeout", 60),
    )


def _choice(extra: Mapping[str, Any], name: str, allowed: tuple[str, ...]) -> str:
    value = extra.get(name) or allowed[0]
    if value not in allowed:
        raise InvalidInput(f"{SYSTEM}: extra {name}: found {value!r}; allowed: {', '.join(allowed)}")
    return str(value)


def _number(extra: Mapping[str, Any], name: str, default: float) -> float:
    value = extra.get(name)
    if value is None or value == "":
        return default
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{SYSTEM}: extra {name}: found {value!r}; allowed: a number") from error
    if not 0 <= number < 1e9:
        raise InvalidInput(f"{SYSTEM}: extra {name}: found {value!r}; allowed: zero or more")
    return number


def _path(extra: Mapping[str, Any], name: str, default: str) -> str:
    return "/" + str(extra.get(name) or default).strip("/")


def _segment(value: str) -> str:
    return quote(str(value), safe="")


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidReply(f"{SYSTEM}: expected a JSON object, found {type(value).__name__}", system=SYSTEM)
    return value


def _reason(response: requests.Response) -> str:
    """Return the service's own words: the first of the fields that its parts and its gateway are known to use."""
    try:
        body = response.json()
    except ValueError:
        body = None
    if isinstance(body, dict):
        fault = body.get("fault")
        for text in (
            body.get("exception"),
            body.get("message"),
            fault.get("faultstring") if isinstance(fault, dict) else None,
            body.get("error_description"),
            body.get("error"),
        ):
            if isinstance(text, str) and text:
                return text[:500]
    return response.text.strip()[:200] or "no text"


def _error(method: str, path: str, response: requests.Response) -> OutsideError | InvalidInput:
    status = response.status_code
    message = f"{SYSTEM}: {method} {path}: {status}, {_reason(response)}"
    if status in (400, 415, 422):
        return InvalidInput(message)
    kind: type[OutsideError] = {
        401: AuthError,
        403: AuthError,
        404: NotFound,
        405: Unsupported,
        409: Conflict,
        501: Unsupported,
    }.get(status, Unavailable if status >= 500 else InvalidReply)
    return kind(message, system=SYSTEM, status=status)


def _no_comments_in_history(error: OutsideError) -> Unsupported:
    return Unsupported(
        f"{SYSTEM}: the process has ended and the tenant's history has no comments at the address of the connection's "
        f"extra `history_comments` ({error})",
        system=SYSTEM,
        status=error.status,
    )


def _historic_process(item: dict[str, Any]) -> HistoricProcess:
    return HistoricProcess(
        id=str(item["id"]),
        name=item.get("name") or "",
        business_key=item.get("businessKey") or "",
        definition_id=item.get("processDefinitionId") or "",
        started_at=parse_time(item.get("startTime")),
        ended_at=parse_time(item.get("endTime")),
        started_by=item.get("startUserId") or None,
        end_activity_id=item.get("endActivityId") or None,
        delete_reason=item.get("deleteReason") or None,
        variables=read_variables(item.get("variables")),
        raw=item,
    )


def _user_task(item: dict[str, Any]) -> UserTask:
    priority = item.get("priority")
    return UserTask(
        id=str(item["id"]),
        name=item.get("name") or "",
        process_id=str(item.get("processInstanceId") or ""),
        assignee=item.get("assignee") or None,
        owner=item.get("owner") or None,
        created=parse_time(item.get("createTime")),
        claimed=parse_time(item.get("claimTime")),
        due=parse_time(item.get("dueDate")),
        delegation_state=item.get("delegationState") or None,
        candidate_groups=tuple(
            str(link["group"])
            for link in item.get("assignments") or []
            if link.get("type") == "candidate" and link.get("group")
        ),
        priority=50 if priority is None else int(priority),
        variables=read_variables(item.get("variables")),
        raw=item,
    )


def _historic_task(item: dict[str, Any], completer_field: str) -> HistoricTask:
    return HistoricTask(
        id=str(item["id"]),
        name=item.get("name") or "",
        key=item.get("taskDefinitionKey") or None,
        process_id=str(item.get("processInstanceId") or ""),
        assignee=item.get("assignee") or None,
        owner=item.get("owner") or None,
        # Flowable's historic task calls it startTime; createTime is read too because the runtime task does.
        created=parse_time(item.get("startTime") or item.get("createTime")),
        claimed=parse_time(item.get("claimTime")),
        ended=parse_time(item.get("endTime")),
        delete_reason=item.get("deleteReason") or None,
        completer=item.get(completer_field) or None,
        variables=read_variables(item.get("variables")),
        raw=item,
    )


def _with_task(comment: dict[str, Any], task: Mapping[str, Any]) -> dict[str, Any]:
    return {**comment, "taskId": comment.get("taskId") or task.get("id")}


def _comment(item: dict[str, Any]) -> ProcessComment:
    return ProcessComment(
        id=str(item.get("id") or ""),
        author=item.get("author") or "",
        message=item.get("message") or "",
        time=parse_time(item.get("time")),
        task_id=item.get("taskId") or None,
        raw=item,
    )


def _model(item: dict[str, Any], content: str | None = None) -> ProcessModel:
    model_id = str(item.get("id") or "")
    # A definition id is `key:version:uuid`; it fills in what a reply leaves out.
    parts = model_id.split(":")
    key = str(item.get("key") or (parts[0] if len(parts) == 3 else ""))
    version = item.get("version") or (parts[1] if len(parts) == 3 else 0)
    try:
        number = int(version)
    except (TypeError, ValueError) as error:
        raise InvalidReply(f"{SYSTEM}: the model {model_id!r} has the version {version!r}", system=SYSTEM) from error
    return ProcessModel(id=model_id, key=key, name=item.get("name") or key, version=number, content=content)


def _encoded(xml: str, how: str) -> str:
    if how == "base64":
        return base64.b64encode(xml.encode("utf-8")).decode("ascii")
    return quote(xml) if how == "url" else xml


def _decoded(content: Any) -> str:
    """Return a model's XML, which may travel plain, URL-encoded or in base64."""
    text = content.strip() if isinstance(content, str) else ""
    if text.lower().startswith("%3c"):
        text = unquote(text)
    elif text and not text.startswith(("<", "\ufeff")):
        try:
            text = base64.b64decode(text, validate=True).decode("utf-8")
        except ValueError as error:
            raise InvalidReply(f"{SYSTEM}: `modelContent` is neither XML nor base64 of it", system=SYSTEM) from error
    if not text.lstrip("\ufeff").startswith("<"):
        raise InvalidReply(f"{SYSTEM}: the model's reply has no XML in `modelContent`", system=SYSTEM)
    return text
