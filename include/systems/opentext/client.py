"""The client of OpenText Workflow Service (IM Cloud Services): processes, people's tasks, comments, history, models.

What is known of the service comes from OpenText's own sample code and from clients that use it; it behaves as Flowable
with other paths and HAL lists. Nothing here was tried on a live tenant, so host, paths and list names are settings.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from include.base.errors import Conflict, InvalidInput, InvalidReply, NotFound, OutsideError, Unavailable, Unsupported
from include.bpmn.read import canonical
from include.systems.http import RetryPolicy, segment
from include.systems.listing import Listing
from include.systems.opentext import wire
from include.systems.opentext.settings import Settings
from include.systems.opentext.transport import RIGHTS, Transport
from include.systems.opentext.values import (
    Attachment,
    HistoricProcess,
    HistoricTask,
    ProcessComment,
    ProcessInstance,
    ProcessModel,
    ProcessStart,
    UserTask,
)
from include.systems.opentext.wire import SYSTEM

__all__ = ["OpenTextClient"]

log = logging.getLogger(__name__)

_STARTS = tuple(threading.Lock() for _ in range(64))
"""Starts of one business key wait for each other; two keys rarely share a lock."""

_LOST = (Unavailable, InvalidReply)
"""Errors after which a write may have taken effect: the reply did not come, or cannot be read."""

Foreign = Callable[[ProcessStart], bool]

_FIELDS = ["assignee", "category", "description", "dueDate", "formKey", "name", "owner", "parentTaskId", "priority"]
"""What of a task may be changed."""
_LARGEST_ATTACHMENT = 50_000_000


class OpenTextClient:
    """One account of the workflow service. Nothing is opened before the first call.

    Retries: reads, and writes that may be repeated, are tried again by the policy. A process start is never sent a
    second time without looking first; completing a task and commenting are sent once.

    :param settings: the service and the account.
    :param policy: the retry policy of single requests.
    :param mask: told each access token before its first use, for whoever keeps logs.
    """

    def __init__(
        self,
        settings: Settings,
        policy: RetryPolicy | None = None,
        mask: Callable[[str], None] = lambda token: None,
    ) -> None:
        self.settings = settings
        self._http = Transport(settings, policy, mask)
        self._at = settings.at

    @property
    def groups(self) -> Mapping[str, str]:
        """Return role to candidate group in this tenant; empty where the mapping's own names are right."""
        return self.settings.groups

    @staticmethod
    def requirements() -> tuple[str, ...]:
        """Return the rights that the client needs in the tenant."""
        return tuple(f"right: {right}" for right in RIGHTS.values())

    def check(self) -> str:
        """Get a token and list one process; return a sentence that says what worked, or raise what did not."""
        path = self._at("process-instances")
        self._http.embedded(self._http.get(path, {"offset": 0, "count": 1}), "process-instances", path)
        return f"Signed in as {self.settings.client_id}; the workflow service answers."

    # --- running processes -------------------------------------------------------------------------------------------

    def start_process(
        self,
        key: str,
        *,
        name: str,
        business_key: str,
        variables: Mapping[str, Any],
        settle_seconds: float = 0.0,
        foreign: Foreign = lambda found: False,
    ) -> tuple[str, bool]:
        """Start a process unless one of ours has this business key; return its id and whether this call started it.

        The service has no idempotency key. So: look the business key up among running and ended processes, start only
        if there is none, and when the reply is lost look again, for as long as history may lag, before giving up. The
        start itself is sent once. Threads of one process take turns for one business key; between processes the
        caller's claim on the effect has to keep them apart.

        :param settle_seconds: how long to go on looking before the start. Give the history's lag where an earlier try
            may have started a process that ends at once: it is neither running nor yet in history.
        :param foreign: tells from where a process comes that it is none of ours: a business key is no secret, and
            anybody may start a process under it.
        :raises InvalidInput: the service refuses the request (unknown process key, a variable's type, a condition).
        :raises Unavailable: no reply, and no such process appeared; starting may be tried again later.
        """
        with _STARTS[hash(business_key) % len(_STARTS)]:
            found = self._http.caller.look_for(lambda: self.find_process(business_key, foreign), settle_seconds)
            if found:
                log.info("Process %s has the business key %s already; nothing was started.", found, business_key)
                return found, False
            return self._start(key, name, business_key, variables, foreign), True

    def _start(self, key: str, name: str, business_key: str, variables: Mapping[str, Any], foreign: Foreign) -> str:
        written = wire.write_variables(variables)
        body = {"processDefinitionKey": key, "name": name, "businessKey": business_key, "variables": written}
        path = self._at("process-instances")
        try:
            started = wire.identifier(self._http.post(path, json=body), path)
        except _LOST as error:
            found = self._http.caller.look_for(lambda: self.find_process(business_key, foreign), self.settings.grace)
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

    def find_process(self, business_key: str, foreign: Foreign = lambda found: False) -> str | None:
        """Return the id of the oldest process of ours, running or ended, with this business key, or None.

        More than one is logged as a warning: the key names one effect, so somebody started a second by hand.
        """
        starts: dict[str, datetime] = {}
        others = set()
        for found in self._started_under(business_key):
            starts[found.id] = found.time or datetime.max.replace(tzinfo=UTC)
            if foreign(found):  # one of the two lists may tell more of it than the other
                others.add(found.id)
        starts = {process_id: time for process_id, time in starts.items() if process_id not in others}
        if not starts:
            return None
        ordered = sorted(starts, key=lambda process_id: (starts[process_id], process_id))
        if len(ordered) > 1:
            log.warning(
                "%d processes have the business key %s: %s. The oldest counts.", len(ordered), business_key, ordered
            )
        return ordered[0]

    def _started_under(self, business_key: str) -> Iterator[ProcessStart]:
        """Yield where the processes under a business key come from, running and ended ones."""
        # Compared here too: a service that does not know the filter would answer with every process.
        filters = {"businessKey": business_key}
        path = self._at("process-instances")
        for item in self._http.elements(path, "process-instances", filters):
            if item.get("businessKey") == business_key:
                yield wire.process_instance(item, path).start
        path = self._at("historic-process-instances")
        for item in self._http.elements(path, "historic-process-instances", filters):
            if item.get("businessKey") == business_key:
                yield wire.historic_process(item, path).start

    def process(self, process_id: str) -> ProcessInstance | None:
        """Return a running process with its variables, or None when it is not running (which is no proof of an end)."""
        path = self._at("process-instances", process_id)
        try:
            return self._http.element(path, {"includeProcessVariables": "true"}, wire.process_instance)
        except NotFound:
            return None

    def processes(
        self, *, key: str | None = None, business_key: str | None = None, resume: str | None = None
    ) -> Listing[ProcessInstance]:
        """List running processes that fit everything given, oldest first, without their variables.

        :param key: of the model with this key.
        :param resume: ``state`` of an earlier listing of the same processes.
        :raises InvalidInput: a state of something else.
        """
        filters = wire.filters(processDefinitionKey=key, businessKey=business_key)

        def fits(found: ProcessInstance) -> bool:
            # Compared here too: a service that does not know a filter would answer with every process.
            return business_key is None or found.business_key == business_key

        of = wire.description("opentext running processes", filters)
        query = {"sort": "startTime", "order": "asc", **filters}
        return self._http.listing(of, "process-instances", query, wire.process_instance, resume, fits)

    def running(self, keys: Collection[str] = ()) -> Iterator[str]:
        """List the ids of the running processes, of some models or of all, without anything else of them."""
        path = self._at("process-instances")
        for filters in [{"processDefinitionKey": key} for key in keys] or [{}]:
            for item in self._http.elements(path, "process-instances", filters):
                yield wire.identifier(item, path)

    def terminate(self, process_id: str, reason: str) -> None:
        """End a running process from outside; one that is not running is left as it is."""
        path = self._at("process-instances", process_id)
        try:
            self._http.request("DELETE", path, params={"deleteReason": reason}, idempotent=True)
        except NotFound:
            log.info("Process %s is not running; nothing to terminate.", process_id)

    def process_url(self, process_id: str) -> str:
        """Return the address of the process's page, or of its history record where the connection names no page."""
        if self.settings.process_page:
            return self.settings.process_page.replace("{id}", segment(process_id))
        return self.settings.root + self._at("historic-process-instances", process_id)

    def set_variable(self, process_id: str, name: str, value: Any) -> None:
        """Create or update one variable of a running process.

        :raises NotFound: the process is not running.
        """
        path = self._at("process-instances", process_id, "variables", name)
        body = wire.write_variable(name, value)
        try:
            self._http.request("PUT", path, json=body, idempotent=True)
        except NotFound:
            # Flowable's PUT refuses a variable that does not exist yet; so the first write creates it.
            try:
                self._http.request("POST", self._at("process-instances", process_id, "variables"), json=[body])
            except Conflict:
                self._http.request("PUT", path, json=body, idempotent=True)

    # --- people's tasks ----------------------------------------------------------------------------------------------
    #
    # Labelops itself lists tasks, reads them, and changes their due date and priority. It never claims or completes a
    # person's task in its use cases: those methods are for tests, and for the probe that finds out whether this token
    # could.

    def tasks(self, *, process_id: str | None = None, process_key: str | None = None) -> Listing[UserTask]:
        """List waiting tasks, oldest first, that fit everything given; all of them where nothing is.

        :param process_id: in this process or one that it called.
        :param process_key: in processes of the model with this key.
        """
        filters = wire.filters(processInstanceIdWithChildren=process_id, processDefinitionKey=process_key)
        of = wire.description("opentext tasks", filters)
        query = {"includeTaskAssignments": "true", "sort": "createTime", "order": "asc", **filters}
        return self._http.listing(of, "tasks", query, wire.user_task)

    def task(self, task_id: str) -> UserTask:
        """Return a waiting task with its candidates and process variables.

        :raises NotFound: it does not wait (any more).
        """
        query = {"includeTaskAssignments": "true", "includeProcessVariables": "true"}
        return self._http.element(self._at("tasks", task_id), query, wire.user_task)

    def claim(self, task_id: str, assignee: str) -> None:
        """Claim a task in a person's name; claiming again for the same person is fine. Labelops itself never does.

        :raises Conflict: somebody else holds it.
        """
        try:
            self._act(task_id, {"action": "claim", "assignee": assignee}, idempotent=True)
        except _LOST:
            if not self._is(task_id, lambda task: task.assignee == assignee):
                raise

    def complete(self, task_id: str, *, outcome: str | None = None, variables: Mapping[str, Any] | None = None) -> None:
        """Complete a task, with an outcome where the model has buttons, else with the form's variables. Sent once.

        Labelops itself never does: a decision is a person's. A lost reply is followed by a look: a task that does not
        wait any more and that history shows as completed was completed. It goes by the task's id alone, so a second
        call finds no task and never completes the one that came next.

        :raises NotFound: the task does not wait any more (somebody completed it).
        :raises Unavailable: no reply, and the task still waits: it may be tried again.
        """
        body: dict[str, Any] = {"action": "complete", "variables": wire.write_variables(variables)}
        if outcome is not None:
            body["outcome"] = outcome
        try:
            self._act(task_id, body)
        except _LOST:
            if not self._was_completed(task_id):
                raise
            log.warning("The reply to completing task %s was lost; it had been completed.", task_id)

    def update_task(self, task_id: str, **fields: Any) -> UserTask:
        """Change a task's ``assignee``, ``description``, ``dueDate``, ``owner``, ``priority``, …; None clears one.

        Only the fields given are sent, and the task is read back.

        :raises InvalidInput: a field that the service's task has not, or a time without a zone.
        """
        unknown = sorted(set(fields) - set(_FIELDS))
        if unknown:
            raise InvalidInput(f"task field: found {', '.join(unknown)}; allowed: {', '.join(_FIELDS)}")
        body = {
            name: wire.write_variable(name, value)["value"] if isinstance(value, datetime) else value
            for name, value in fields.items()
        }
        path = self._at("tasks", task_id)
        if body:
            self._http.request("PUT", path, json=body, idempotent=True)
        # Read back, for the reply of a change may be empty.
        return self._http.element(path, {"includeTaskAssignments": "true"}, wire.user_task)

    def _act(self, task_id: str, body: Mapping[str, Any], idempotent: bool | None = None) -> None:
        self._http.request("POST", self._at("tasks", task_id), json=body, idempotent=idempotent)

    def _is(self, task_id: str, wanted: Callable[[UserTask], bool]) -> bool:
        """Tell whether a task waits and is as an action would have made it."""
        try:
            return wanted(self.task(task_id))
        except NotFound:
            return False

    def _was_completed(self, task_id: str) -> bool:
        try:
            self.task(task_id)
        except NotFound:
            ended = self.historic_task(task_id)
            return ended is not None and ended.ended is not None and ended.delete_reason in (None, "", "completed")
        return False

    # --- what is attached to a task ----------------------------------------------------------------------------------

    def attachments(self, task_id: str) -> list[Attachment]:
        """Return what is attached to a waiting task."""
        path = self._at("tasks", task_id, "attachments")
        return [wire.attachment(item, path) for item in self._http.short_list(path, "attachments")]

    def add_attachment(
        self, task_id: str, name: str, *, url: str | None = None, content: bytes | None = None, description: str = ""
    ) -> Attachment:
        """Attach a link (``url``) or a file (``content``) to a waiting task. Sent once.

        A reply that was lost is looked up: an attachment of this name that was not there before is the one.

        :raises InvalidInput: neither or both are given, or more than 50 MB.
        """
        if (url is None) == (content is None):
            raise InvalidInput("attachment: give either a url or content")
        if content is not None and len(content) > _LARGEST_ATTACHMENT:
            raise InvalidInput(f"attachment {name!r}: {len(content)} bytes; at most {_LARGEST_ATTACHMENT} are sent")
        before = {one.id for one in self.attachments(task_id)}
        path = self._at("tasks", task_id, "attachments")
        fields = {"name": name, "description": description, "type": "link" if content is None else "file"}
        try:
            if content is None:
                reply = self._http.post(path, json={**fields, "externalUrl": url})
            else:
                parts = {field: (None, value) for field, value in fields.items()}
                reply = self._http.post(path, files={**parts, "file": (name, content)})
            return wire.attachment(reply, path)
        except _LOST:
            for one in self.attachments(task_id):
                if one.id not in before and (one.name, one.url) == (name, url):
                    return one
            raise

    def attachment_content(self, task_id: str, attachment_id: str) -> bytes:
        """Return the bytes of an attached file.

        :raises NotFound: there is none, or it is a link, which has an address and no bytes.
        """
        path = self._at("tasks", task_id, "attachments", attachment_id) + self.settings.attachment_content
        return self._http.request("GET", path).content

    # --- comments on processes and their tasks, running or ended -----------------------------------------------------

    def comments(self, process_id: str) -> list[ProcessComment]:
        """Return the comments on a process and on its tasks, each once, oldest first, running or ended.

        Comments on tasks come with the lists of waiting and of ended tasks (``includeTaskComments``). A process that
        has ended is asked for in history.

        :raises NotFound: neither running nor in history.
        :raises Unsupported: it has ended and the tenant's history has no comments under ``history_comments``.
        """
        found = list(self._process_comments(process_id))
        filters = {"processInstanceIdWithChildren": process_id, "includeTaskComments": "true"}
        for collection in ("tasks", "historic-task-instances"):
            path = self._at(collection)
            for item in self._http.elements(path, collection, filters):
                found += [wire.comment(comment, path) for comment in wire.comments_of(item, path)]
        # The same comment can come with its process and with its task; only the latter may say which task it is on.
        once: dict[str, ProcessComment] = {}
        for comment in found:
            if comment.id not in once or once[comment.id].task_id is None:
                once[comment.id] = comment
        start = datetime.min.replace(tzinfo=UTC)
        return sorted(once.values(), key=lambda comment: comment.time or start)

    def _process_comments(self, process_id: str) -> Iterator[ProcessComment]:
        try:
            yield from self._comments_at(self._at("process-instances", process_id, "comments"))
            return
        except NotFound:
            self.history(process_id)
        try:
            yield from self._comments_at(self._ended_comments(process_id))
        except (NotFound, Unsupported) as error:
            raise _no_comments_in_history(error) from error

    def _comments_at(self, path: str) -> Iterator[ProcessComment]:
        for item in self._http.elements(path, "comments"):
            yield wire.comment(item, path)

    def add_comment(self, process_id: str, message: str) -> ProcessComment:
        """Comment on a process, running or ended. Sent once: the caller looks through :meth:`comments` first.

        A reply that was lost is looked up: a comment of this message is the one. Otherwise the loss is raised.

        :raises NotFound: neither running nor in history.
        :raises Unsupported: it has ended and the tenant takes no comment then.
        """
        try:
            return self._send_comment(process_id, message)
        except _LOST:
            for one in self.comments(process_id):
                if one.message == message:
                    return one
            raise

    def _send_comment(self, process_id: str, message: str) -> ProcessComment:
        body, path = (
            {"includeUserIds": False, "message": message},
            self._at("process-instances", process_id, "comments"),
        )
        try:
            return wire.comment(self._http.post(path, json=body), path)
        except NotFound:
            self.history(process_id)
        path = self._ended_comments(process_id)
        try:
            return wire.comment(self._http.post(path, json=body), path)
        except (NotFound, Unsupported) as error:
            raise _no_comments_in_history(error) from error

    def _ended_comments(self, process_id: str) -> str:
        return self.settings.history + self.settings.history_comments.replace("{id}", segment(process_id))

    # --- history: what ended, and what it says of what runs ----------------------------------------------------------

    def history(self, process_id: str, *, wait: bool = True) -> HistoricProcess:
        """Return a process from history with its variables; it has ended when ``ended_at`` is set.

        :param wait: whether to wait out a lag of history; without, what is not there yet is NotFound at once.
        :raises NotFound: still not in history after ``history_grace_seconds``.
        """

        def look() -> HistoricProcess | None:
            path = self._at("historic-process-instances", process_id)
            try:
                return self._http.element(path, {"includeProcessVariables": "true"}, wire.historic_process)
            except NotFound:
                return None

        found = self._http.caller.look_for(look, self.settings.grace if wait else 0)
        if found is None:
            waited = f" after {self.settings.grace:.0f} s" if wait else ""
            raise NotFound(f"{SYSTEM}: process {process_id} is not in history{waited}", system=SYSTEM, status=404)
        return found

    def ended_since(self, since: datetime, keys: Collection[str] = ()) -> Iterator[str]:
        """List the ids of the processes that ended at or after a moment, however many are waited for.

        :param keys: of the models with these keys; of all models where none is given.
        :raises InvalidInput: a time without a zone.
        """
        collection = "historic-process-instances"
        path = self._at(collection)
        for key in keys or (None,):
            filters = wire.filters(processDefinitionKey=key, finished=True, finishedAfter=since)
            for item in self._http.elements(path, collection, filters):
                found = wire.historic_process(item, path)
                # Compared here too: a service that does not know a filter would answer with every process.
                of_model = key is None or not found.definition_id or found.definition_id.partition(":")[0] == key
                if of_model and found.ended_at is not None:
                    yield found.id

    def historic_tasks(self, process_id: str) -> Listing[HistoricTask]:
        """List tasks of history, ended ones and waiting ones, of a process and of those it called.

        ``completer`` is filled only where a task carries the connection's ``completer_field``.
        """
        filters = wire.filters(processInstanceIdWithChildren=process_id)
        of = wire.description("opentext historic tasks", filters)
        return self._http.listing(of, "historic-task-instances", filters, self._historic_task)

    def historic_task(self, task_id: str) -> HistoricTask | None:
        """Return one task from history, waiting out its lag; None where it is not there after that."""
        collection = "historic-task-instances"
        path = self._at(collection)
        latest: HistoricTask | None = None

        def look() -> HistoricTask | None:
            nonlocal latest
            latest = None
            for item in self._http.elements(path, collection, {"taskId": task_id}):
                found = self._historic_task(item, path)
                if found.id == task_id:
                    latest = found
                    if found.ended is not None:
                        return found
            return None

        return self._http.caller.look_for(look, self.settings.grace) or latest

    def _historic_task(self, item: dict[str, Any], path: str) -> HistoricTask:
        return wire.historic_task(item, path, self.settings.completer_field)

    # --- deployed models ---------------------------------------------------------------------------------------------

    def models(self, key: str | None = None) -> Listing[ProcessModel]:
        """List the newest version of each deployed model, or of the one with a key, without its XML."""
        filters = wire.filters(latestVersion=True, key=key)
        of = wire.description("opentext models", filters)
        return self._http.listing(of, "models", filters, wire.model, fits=lambda model: key is None or model.key == key)

    def model(self, model_id: str) -> ProcessModel:
        """Return a model with its BPMN 2.0 XML.

        :raises InvalidReply: the reply has no XML in it.
        """
        return self._http.element(self._at("models", model_id), {"modelType": "xml"}, wire.model_with_content)

    def deploy(self, key: str, xml: str) -> tuple[ProcessModel, bool]:
        """Deploy a model unless the latest version says the same; the flag says whether it was deployed.

        :raises InvalidInput: the model is no BPMN, or the service refuses it.
        """
        wanted = canonical(xml)
        current = self._latest(key)
        if current and current.content and canonical(current.content) == wanted:
            return current, False
        content = wire.encoded(xml, self.settings.model_encoding)
        body = {"modelId": key, "modelType": "xml", "modelContent": content}
        try:
            self._http.request("POST", self._at("models"), json=body)
        except _LOST:
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


def _no_comments_in_history(error: OutsideError) -> Unsupported:
    return Unsupported(
        f"{SYSTEM}: the process has ended and the tenant's history has no comments at the address of the connection's "
        f"extra `history_comments` ({error})",
        system=SYSTEM,
        status=error.status,
    )
