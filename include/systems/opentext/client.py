"""The client of OpenText Workflow Service (IM Cloud Services): processes, people's tasks, comments, history, models.

What is known of the service comes from OpenText's own sample code and from clients that use it; it behaves as Flowable
with other paths and HAL lists. Nothing here was tried on a live tenant, so host, paths and list names are settings.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from include.base.errors import Conflict, InvalidInput, InvalidReply, NotFound, OutsideError, Unavailable, Unsupported
from include.bpmn.read import canonical
from include.systems.http import RetryPolicy, segment
from include.systems.listing import Changes, Listing
from include.systems.opentext import wire
from include.systems.opentext.settings import Settings
from include.systems.opentext.transport import RIGHTS, Transport
from include.systems.opentext.values import (
    Assignment,
    Attachment,
    Execution,
    HistoricProcess,
    HistoricTask,
    ProcessComment,
    ProcessInstance,
    ProcessModel,
    UserTask,
)
from include.systems.opentext.wire import SYSTEM

__all__ = ["OpenTextClient"]

log = logging.getLogger(__name__)

_STARTS = tuple(threading.Lock() for _ in range(64))
"""Starts of one business key wait for each other; two keys rarely share a lock."""

_LOST = (Unavailable, InvalidReply)
"""Errors after which a write may have taken effect: the reply did not come, or cannot be read."""

_LOOKS = (0.2, 0.5, 1.0, 2.0)
"""Seconds between the looks after a lost reply to an action: the service may still be at work on the request."""

_PNG = b"\x89PNG\r\n\x1a\n"
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
        reply = self._http.get(self._at("process-instances"), {"offset": 0, "count": 1})
        self._http.embedded(reply, "process-instances")
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
        return self._start_once({"processDefinitionKey": key}, name, business_key, variables, settle_seconds)

    def start_by_message(
        self,
        message: str,
        *,
        name: str,
        business_key: str,
        variables: Mapping[str, Any],
        settle_seconds: float = 0.0,
    ) -> tuple[str, bool]:
        """Start the process that a message starts, unless one with this business key exists; see :meth:`start_process`.

        :param message: the message's name in the model.
        :raises InvalidInput: no deployed model begins with this message.
        """
        return self._start_once({"message": message}, name, business_key, variables, settle_seconds)

    def _start_once(
        self, chosen: Mapping[str, str], name: str, business_key: str, variables: Mapping[str, Any], settle: float
    ) -> tuple[str, bool]:
        with _STARTS[hash(business_key) % len(_STARTS)]:
            found = self._http.caller.look_for(lambda: self.find_process(business_key), settle)
            if found:
                log.info("Process %s has the business key %s already; nothing was started.", found, business_key)
                return found, False
            return self._start(chosen, name, business_key, variables), True

    def _start(self, chosen: Mapping[str, str], name: str, business_key: str, variables: Mapping[str, Any]) -> str:
        key = next(iter(chosen.values()))
        written = wire.write_variables(variables)
        body = {**chosen, "name": name, "businessKey": business_key, "variables": written}
        try:
            started = str(self._http.post(self._at("process-instances"), json=body)["id"])
        except (*_LOST, KeyError) as error:
            found = self._http.caller.look_for(lambda: self.find_process(business_key), self.settings.grace)
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
        for collection in ("process-instances", "historic-process-instances"):
            for item in self._http.elements(self._at(collection), collection, {"businessKey": business_key}):
                # Compared here too: a service that does not know the filter would answer with every process.
                if item.get("businessKey") == business_key:
                    starts[str(item["id"])] = wire.parse_time(item.get("startTime")) or datetime.max.replace(tzinfo=UTC)
        if not starts:
            return None
        ordered = sorted(starts, key=lambda process_id: (starts[process_id], process_id))
        if len(ordered) > 1:
            log.warning(
                "%d processes have the business key %s: %s. The oldest counts.", len(ordered), business_key, ordered
            )
        return ordered[0]

    def process(self, process_id: str) -> ProcessInstance | None:
        """Return a running process with its variables, or None when it is not running (which is no proof of an end)."""
        path = self._at("process-instances", process_id)
        try:
            return wire.process_instance(self._http.get_element(path, {"includeProcessVariables": "true"}))
        except NotFound:
            return None

    def processes(
        self,
        *,
        key: str | None = None,
        business_key: str | None = None,
        name: str | None = None,
        started_by: str | None = None,
        started_after: datetime | None = None,
        started_before: datetime | None = None,
        suspended: bool | None = None,
        parent_id: str | None = None,
        called: bool = True,
        resume: str | None = None,
    ) -> Listing[ProcessInstance]:
        """List running processes that fit everything given, oldest first, without their variables.

        :param key: of the model with this key.
        :param started_by: started by this person or client.
        :param parent_id: called by this process.
        :param called: False leaves out processes that another one called.
        :param resume: ``state`` of an earlier listing of the same processes.
        :raises InvalidInput: a time without a zone, or a state of something else.
        """
        filters = wire.filters(
            processDefinitionKey=key,
            businessKey=business_key,
            name=name,
            startedBy=started_by,
            startedAfter=started_after,
            startedBefore=started_before,
            suspended=suspended,
            superProcessInstanceId=parent_id,
            excludeSubprocesses=None if called else True,
        )

        def fits(found: ProcessInstance) -> bool:
            # Compared here too: a service that does not know a filter would answer with every process.
            return (business_key is None or found.business_key == business_key) and (
                suspended is None or found.suspended == suspended
            )

        of = wire.description("opentext running processes", filters)
        query = {"sort": "startTime", "order": "asc", **filters}
        return self._http.listing(of, "process-instances", query, wire.process_instance, resume, fits)

    def running(self, keys: Collection[str] = ()) -> Iterator[str]:
        """List the ids of the running processes, of some models or of all, without anything else of them."""
        for filters in [{"processDefinitionKey": key} for key in keys] or [{}]:
            for item in self._http.elements(self._at("process-instances"), "process-instances", filters):
                yield str(item["id"])

    def suspend(self, process_id: str, comment: str = "") -> bool:
        """Suspend a process: its tasks, timers and messages stand still; return whether this call did it.

        :param comment: kept with the process where the tenant's service takes it.
        :raises NotFound: the process is not running.
        """
        return self._switch(process_id, "suspend", comment)

    def activate(self, process_id: str, comment: str = "") -> bool:
        """Let a suspended process go on; return whether this call did it.

        :raises NotFound: the process is not running.
        """
        return self._switch(process_id, "activate", comment)

    def _switch(self, process_id: str, action: str, comment: str) -> bool:
        body: dict[str, Any] = {"action": action}
        if comment:
            body["comment"] = {"message": comment, "includeUserIds": False}
        try:
            # A second one changes nothing: the service refuses it, and that is looked at below.
            self._http.request("PUT", self._at("process-instances", process_id), json=body, idempotent=True)
        except Conflict:
            found = self.process(process_id)
            if found is None or found.suspended != (action == "suspend"):
                raise
            log.info("Process %s was %sd already.", process_id, action)
            return False
        log.info("Process %s: %s.", process_id, action)
        return True

    def diagram(self, process_id: str) -> bytes:
        """Return a picture (PNG) of a running process that marks where it stands.

        :raises NotFound: the process is not running.
        :raises Unsupported: its model holds nothing that could be drawn.
        """
        path = self._at("process-instances", process_id, "diagram")
        try:
            response = self._http.request("GET", path, accept="image/png, */*;q=0.1")
        except InvalidInput as error:
            raise Unsupported(f"{SYSTEM}: process {process_id} has no diagram ({error})", system=SYSTEM) from error
        if not response.content.startswith(_PNG):
            kind = response.headers.get("Content-Type", "no content type")
            raise InvalidReply(
                f"{SYSTEM}: {path}: found {len(response.content)} bytes of {kind}; expected a PNG", system=SYSTEM
            )
        return response.content

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

    # --- variables of running processes; those of an ended one come with its history ---------------------------------

    def variables(self, process_id: str) -> dict[str, Any]:
        """Return a running process's variables; an encrypted one whose value the service keeps back is None.

        :raises NotFound: the process is not running.
        """
        path = self._at("process-instances", process_id, "variables")
        return wire.read_variables(self._http.elements(path, "variables"))

    def variable(self, process_id: str, name: str) -> Any:
        """Return one variable of a running process.

        :raises NotFound: the process is not running, or has no such variable.
        """
        try:
            item = wire.as_object(self._http.get(self._at("process-instances", process_id, "variables", name), {}))
            return wire.read_variables([{**item, "name": name}])[name]
        except (NotFound, Unsupported) as error:
            # Flowable reads one by its name; that this service does is not known, the list is.
            found = self.variables(process_id)
            if name not in found:
                raise NotFound(
                    f"{SYSTEM}: process {process_id} has no variable {name!r}", system=SYSTEM, status=404
                ) from error
            return found[name]

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

    def set_variables(self, process_id: str, variables: Mapping[str, Any]) -> None:
        """Create or update several variables of a running process; all of them stand when it returns.

        Those that are new are created in one request, the others updated one by one: the service has no single request
        for both, so another reader may see some of them before the rest.

        :raises NotFound: the process is not running.
        :raises InvalidInput: a value that no type stands for; nothing was written.
        """
        bodies = {name: wire.write_variable(name, value) for name, value in variables.items()}
        present = self.variables(process_id)
        new = [body for name, body in bodies.items() if name not in present]
        left = [name for name in bodies if name in present]
        if new:
            try:
                self._http.request("POST", self._at("process-instances", process_id, "variables"), json=new)
            except (Conflict, *_LOST):
                # Somebody created one meanwhile, or the reply is lost: each by itself may be written twice.
                left = list(bodies)
        for name in left:
            self.set_variable(process_id, name, variables[name])

    def delete_variable(self, process_id: str, name: str) -> bool:
        """Delete a variable of a running process; return whether it was there.

        :raises NotFound: the process is not running.
        """
        if name not in self.variables(process_id):
            return False
        path = self._at("process-instances", process_id, "variables", name)
        try:
            self._http.request("DELETE", path, idempotent=True)
        except NotFound:
            return name in self.variables(process_id)
        return True

    # --- executions: where processes wait, and the messages, signals and triggers that reach them --------------------
    #
    # A message is for one execution that subscribed to it. None of these requests can be repeated blindly: the same
    # execution may wait for the same message again a moment later. So each looks first, is sent once, and when its
    # reply is lost looks whether the execution still waits.

    def executions(
        self,
        process_id: str | None = None,
        *,
        process_key: str | None = None,
        message: str | None = None,
        signal: str | None = None,
        activity_id: str | None = None,
        execution_id: str | None = None,
        resume: str | None = None,
    ) -> Listing[Execution]:
        """List executions that fit everything given.

        :param process_id: of this process (not of those it called).
        :param process_key: in processes of the model with this key.
        :param message: that wait for the message with this name.
        :param signal: that wait for the signal with this name.
        :param activity_id: at this element of the model.
        :param resume: ``state`` of an earlier listing of the same executions.
        """
        filters = wire.filters(
            id=execution_id,
            activityId=activity_id,
            processDefinitionKey=process_key,
            processInstanceId=process_id,
            messageEventSubscriptionName=message,
            signalEventSubscriptionName=signal,
        )

        def fits(found: Execution) -> bool:
            # Compared here too: a service that does not know a filter would answer with every execution.
            return all(
                wanted is None or wanted == have
                for wanted, have in (
                    (process_id, found.process_id),
                    (activity_id, found.activity_id),
                    (execution_id, found.id),
                )
            )

        of = wire.description("opentext executions", filters)
        return self._http.listing(of, "executions", filters, wire.execution, resume, fits)

    def send_message(
        self,
        process_id: str,
        name: str,
        variables: Mapping[str, Any] | None = None,
        *,
        activity_id: str | None = None,
    ) -> str:
        """Send a message to the one place of a process that waits for it; return the execution that took it.

        :param variables: set on the process together with it.
        :param activity_id: which place, where several wait for the same message.
        :raises NotFound: the process is not running.
        :raises Conflict: nothing waits for it now, several places do, the process is suspended, or another sender was
            faster.
        :raises Unavailable: no reply, and the place still waits: send again later.
        """
        waiting = list(self.executions(process_id, message=name, activity_id=activity_id))
        if len(waiting) != 1:
            self._none_or_many(process_id, f"the message {name!r}", waiting)
        found = waiting[0]
        body = {"action": "messageEventReceived", "messageName": name, "variables": wire.write_variables(variables)}

        def still_waits() -> bool:
            return any(one.id == found.id for one in self.executions(process_id, message=name))

        self._reach(found, body, f"the message {name!r}", still_waits)
        return found.id

    def send_signal(self, process_id: str, name: str, variables: Mapping[str, Any] | None = None) -> tuple[str, ...]:
        """Send a signal to every place of a process that waits for it; return the executions that took it.

        :raises NotFound: the process is not running.
        :raises Conflict: nothing waits for it now, or the process is suspended.
        :raises Unavailable: no reply, and a place still waits: send again later; places already reached do not wait.
        """
        waiting = list(self.executions(process_id, signal=name))
        if not waiting:
            self._none_or_many(process_id, f"the signal {name!r}", waiting)
        body = {"action": "signalEventReceived", "signalName": name, "variables": wire.write_variables(variables)}
        for found in waiting:

            def still_waits(found: Execution = found) -> bool:
                return any(one.id == found.id for one in self.executions(process_id, signal=name))

            if found is waiting[0] or still_waits():
                self._reach(found, body, f"the signal {name!r}", still_waits)
        return tuple(found.id for found in waiting)

    def trigger(self, execution_id: str, variables: Mapping[str, Any] | None = None) -> None:
        """Let an execution go on that waits to be triggered (a receive task).

        :raises NotFound: there is no such execution (it may have been triggered already).
        :raises Conflict: its process is suspended.
        :raises Unavailable: no reply, and it still waits at the same place; or it does not wait to be triggered.
        """
        found = next(self.executions(execution_id=execution_id), None)
        if found is None:
            raise NotFound(f"{SYSTEM}: there is no execution {execution_id}", system=SYSTEM, status=404)

        def still_waits() -> bool:
            now = next(self.executions(execution_id=execution_id), None)
            return now is not None and now.activity_id == found.activity_id

        body = {"action": "trigger", "variables": wire.write_variables(variables)}
        self._reach(found, body, "a trigger", still_waits)

    def _none_or_many(self, process_id: str, what: str, waiting: list[Execution]) -> None:
        if waiting:
            places = ", ".join(sorted(str(one.activity_id) for one in waiting))
            raise Conflict(
                f"{SYSTEM}: {len(waiting)} places of process {process_id} wait for {what}: {places}", system=SYSTEM
            )
        if next(self.executions(process_id), None) is None:
            raise NotFound(f"{SYSTEM}: process {process_id} is not running", system=SYSTEM, status=404)
        raise Conflict(f"{SYSTEM}: process {process_id} does not wait for {what} now", system=SYSTEM)

    def _reach(self, found: Execution, body: Mapping[str, Any], what: str, still_waits: Callable[[], bool]) -> None:
        """Send one action to an execution, once; a lost reply is cleared up by looking."""
        if found.suspended:
            raise Conflict(
                f"{SYSTEM}: process {found.process_id} is suspended; it takes {what} when it is activated",
                system=SYSTEM,
            )
        try:
            self._http.request("PUT", self._at("executions", found.id), json=body, idempotent=False)
        except NotFound as error:
            raise _too_late(found, what, error) from error
        except _LOST as error:
            refused = error.status == 500
            for pause in _LOOKS[:1] if refused else _LOOKS:
                if not still_waits():
                    if refused:
                        raise _too_late(found, what, error) from error
                    log.warning("The reply to %s for execution %s was lost; it was taken.", what, found.id)
                    return
                self._http.caller.policy.sleep(pause)
            raise Unavailable(
                f"{SYSTEM}: {what} was not taken by execution {found.id}, which still waits ({error})",
                system=SYSTEM,
                status=error.status,
            ) from error
        log.info("Execution %s of process %s took %s.", found.id, found.process_id, what)

    # --- people's tasks ----------------------------------------------------------------------------------------------
    #
    # Labelops itself lists tasks, reads them, and changes their due date and priority. It never claims, completes,
    # delegates or resolves a person's task in its use cases: those methods are for clients that people use, for tests,
    # and for the probe that finds out whether this token could.

    def tasks(
        self,
        *,
        process_id: str | None = None,
        process_key: str | None = None,
        candidate_or_assigned: str | None = None,
        candidate_group: str | Iterable[str] | None = None,
        candidate_user: str | None = None,
        assignee: str | None = None,
        name: str | None = None,
        key: str | None = None,
        resume: str | None = None,
    ) -> Listing[UserTask]:
        """List waiting tasks, oldest first, that fit everything given; all of them where nothing is.

        :param process_id: in this process or one that it called.
        :param process_key: in processes of the model with this key.
        :param candidate_or_assigned: that this person (e-mail) has or may claim.
        :param candidate_group: offered to this group, or to any of several, and claimed by nobody.
        :param candidate_user: offered to this person, and claimed by nobody.
        :param assignee: that this person has.
        :param key: id in the model. The service has no such filter: chosen here, by the task's own field where the
            list carries it, else with the help of history, which may lag.
        :param resume: ``state`` of an earlier listing of the same tasks.
        """
        groups = [candidate_group] if isinstance(candidate_group, str) else list(candidate_group or ())
        chosen = {
            "processInstanceIdWithChildren": process_id,
            "processDefinitionKey": process_key,
            "candidateOrAssigned": candidate_or_assigned,
            "candidateGroup": groups[0] if len(groups) == 1 else None,
            "candidateGroups": ",".join(groups) if len(groups) > 1 else None,
            "candidateUser": candidate_user,
            "assignee": assignee,
            "name": name,
        }
        filters = {name: value for name, value in chosen.items() if value}
        known: set[str] | None = None

        def has_key(task: UserTask) -> bool:
            nonlocal known
            if key is None or task.key is not None:
                return key is None or task.key == key
            if known is None:
                known = self._ids_with_key(key, process_id)
            return task.id in known

        of = wire.description("opentext tasks", {**filters, **({"key": key} if key else {})})
        query = {"includeTaskAssignments": "true", "sort": "createTime", "order": "asc", **filters}
        return self._http.listing(of, "tasks", query, wire.user_task, resume, has_key)

    def _ids_with_key(self, key: str, process_id: str | None) -> set[str]:
        filters = {"taskDefinitionKey": key, "finished": "false"}
        if process_id:
            filters["processInstanceIdWithChildren"] = process_id
        collection = "historic-task-instances"
        items = self._http.elements(self._at(collection), collection, filters)
        return {str(item["id"]) for item in items if item.get("taskDefinitionKey") == key}

    def task(self, task_id: str) -> UserTask:
        """Return a waiting task with its candidates and process variables.

        :raises NotFound: it does not wait (any more).
        """
        query = {"includeTaskAssignments": "true", "includeProcessVariables": "true"}
        return wire.user_task(self._http.get_element(self._at("tasks", task_id), query))

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

    def delegate(self, task_id: str, assignee: str) -> None:
        """Hand a task to another person, who gives it back by :meth:`resolve`; the present assignee becomes its owner.

        Labelops itself never does.

        :raises InvalidInput: no person is named.
        """
        if not assignee:
            raise InvalidInput("delegate: a task is delegated to somebody; found no assignee")
        try:
            self._act(task_id, {"action": "delegate", "assignee": assignee})
        except _LOST:
            if not self._is(task_id, lambda task: task.assignee == assignee and task.delegation_state == "pending"):
                raise

    def resolve(self, task_id: str) -> None:
        """Give a delegated task back to its owner. Labelops itself never does."""
        try:
            self._act(task_id, {"action": "resolve"})
        except _LOST:
            if not self._is(task_id, lambda task: task.delegation_state == "resolved"):
                raise

    def unclaim(self, task_id: str) -> None:
        """Give a task back to its candidates, in the way that the connection's extra ``unclaim`` says.

        Labelops itself never does.
        """
        if self.settings.unclaim == "update":
            self.update_task(task_id, assignee=None)
            return
        try:
            self._act(task_id, {"action": "unclaim"}, idempotent=True)
        except _LOST:
            if not self._is(task_id, lambda task: task.assignee is None):
                raise

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
        return wire.user_task(self._http.get_element(path, {"includeTaskAssignments": "true"}))

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

    # --- who may take a task, and what is attached to it -------------------------------------------------------------

    def assignments(self, task_id: str) -> list[Assignment]:
        """Return the persons and groups linked to a waiting task."""
        return [
            wire.assignment(item)
            for item in self._http.short_list(self._at("tasks", task_id, "assignments"), "assignments")
        ]

    def add_assignment(self, task_id: str, link: Assignment) -> bool:
        """Link a person or a group to a waiting task; return whether it was not linked before."""
        body = wire.link(link)
        if link in self.assignments(task_id):
            return False
        try:
            self._http.request("POST", self._at("tasks", task_id, "assignments"), json=body)
        except _LOST:
            if link not in self.assignments(task_id):
                raise
        return True

    def remove_assignment(self, task_id: str, link: Assignment) -> bool:
        """Remove a link; return whether it was there. How the link is named is the extra ``assignment_removal``."""
        body = wire.link(link)
        if link not in self.assignments(task_id):
            return False
        path, how = self._at("tasks", task_id, "assignments"), self.settings.assignment_removal
        family, name = ("users", link.user) if link.user else ("groups", link.group)
        try:
            if how == "path":
                path = self._at("tasks", task_id, "assignments", family, str(name), link.kind)
                self._http.request("DELETE", path, idempotent=True)
            elif how == "query":
                self._http.request("DELETE", path, params=body, idempotent=True)
            else:
                self._http.request("DELETE", path, json=body, idempotent=True)
        except NotFound:
            self.task(task_id)  # gone with its task is an error, gone before us is not
        return True

    def attachments(self, task_id: str) -> list[Attachment]:
        """Return what is attached to a waiting task."""
        return [
            wire.attachment(item)
            for item in self._http.short_list(self._at("tasks", task_id, "attachments"), "attachments")
        ]

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
            return wire.attachment(reply)
        except (*_LOST, KeyError):
            for one in self.attachments(task_id):
                if one.id not in before and (one.name, one.url) == (name, url):
                    return one
            raise

    def attachment(self, task_id: str, attachment_id: str) -> Attachment:
        """Return one attachment, without its content."""
        return wire.attachment(self._http.get_element(self._at("tasks", task_id, "attachments", attachment_id), {}))

    def attachment_content(self, task_id: str, attachment_id: str) -> bytes:
        """Return the bytes of an attached file.

        :raises NotFound: there is none, or it is a link, which has an address and no bytes.
        """
        path = self._at("tasks", task_id, "attachments", attachment_id) + self.settings.attachment_content
        return self._http.request("GET", path).content

    def delete_attachment(self, task_id: str, attachment_id: str) -> bool:
        """Delete an attachment from a waiting task; return whether it was there."""
        try:
            self._http.request("DELETE", self._at("tasks", task_id, "attachments", attachment_id), idempotent=True)
        except NotFound:
            self.task(task_id)
            return False
        return True

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
            for item in self._http.elements(self._at(collection), collection, filters):
                found += [wire.with_task(comment, item) for comment in item.get("comments") or []]
        # The same comment can come with its process and with its task; only the latter may say which task it is on.
        once: dict[str, ProcessComment] = {}
        for comment in map(wire.comment, found):
            if comment.id not in once or once[comment.id].task_id is None:
                once[comment.id] = comment
        start = datetime.min.replace(tzinfo=UTC)
        return sorted(once.values(), key=lambda comment: comment.time or start)

    def _process_comments(self, process_id: str) -> Iterator[dict[str, Any]]:
        try:
            yield from self._http.elements(self._at("process-instances", process_id, "comments"), "comments")
            return
        except NotFound:
            self.history(process_id)
        try:
            yield from self._http.elements(self._ended_comments(process_id), "comments")
        except (NotFound, Unsupported) as error:
            raise _no_comments_in_history(error) from error

    def add_comment(self, process_id: str, message: str) -> ProcessComment:
        """Comment on a process, running or ended. Sent once: the caller looks through :meth:`comments` first.

        :raises NotFound: neither running nor in history.
        :raises Unsupported: it has ended and the tenant takes no comment then.
        """
        body = {"includeUserIds": False, "message": message}
        try:
            reply = self._http.post(self._at("process-instances", process_id, "comments"), json=body)
        except NotFound:
            self.history(process_id)
            try:
                reply = self._http.post(self._ended_comments(process_id), json=body)
            except (NotFound, Unsupported) as error:
                raise _no_comments_in_history(error) from error
        return wire.comment(reply)

    def delete_comment(self, process_id: str, comment_id: str) -> bool:
        """Delete a comment on a running process; return whether it was there.

        :raises NotFound: the process is not running.
        """
        path = self._at("process-instances", process_id, "comments")
        try:
            self._http.request("DELETE", f"{path}/{segment(comment_id)}", idempotent=True)
        except NotFound:
            # Refused for want of the comment, or of the process? The list tells.
            if any(item.get("id") == comment_id for item in self._http.elements(path, "comments")):
                raise
            return False
        return True

    def _ended_comments(self, process_id: str) -> str:
        return self.settings.history + self.settings.history_comments.replace("{id}", segment(process_id))

    def task_comments(self, task_id: str) -> list[ProcessComment]:
        """Return the comments on a waiting task, oldest first.

        :raises NotFound: it does not wait (any more); :meth:`comments` of its process has them then.
        """
        item = self._http.get_element(self._at("tasks", task_id), {"includeTaskComments": "true"})
        return [wire.comment(wire.with_task(comment, item)) for comment in item.get("comments") or []]

    def add_task_comment(self, task_id: str, message: str) -> ProcessComment:
        """Comment on a waiting task; after a lost reply it is looked up before it is given up.

        :raises Unsupported: the tenant takes no comments on tasks; comment on the process instead.
        """
        before = {one.id for one in self.task_comments(task_id)}
        body = {"includeUserIds": False, "message": message}
        try:
            return wire.comment(self._http.post(self._at("tasks", task_id, "comments"), json=body))
        except NotFound as error:
            self.task(task_id)
            raise Unsupported(f"{SYSTEM}: tasks take no comments here ({error})", system=SYSTEM) from error
        except _LOST:
            for one in self.task_comments(task_id):
                if one.id not in before and one.message == message:
                    return one
            raise

    # --- history: what ended, and what it says of what runs ----------------------------------------------------------

    def history(self, process_id: str, *, wait: bool = True) -> HistoricProcess:
        """Return a process from history with its variables; it has ended when ``ended_at`` is set.

        :param wait: whether to wait out a lag of history; without, what is not there yet is NotFound at once.
        :raises NotFound: still not in history after ``history_grace_seconds``.
        """

        def look() -> HistoricProcess | None:
            path = self._at("historic-process-instances", process_id)
            try:
                return wire.historic_process(self._http.get_element(path, {"includeProcessVariables": "true"}))
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
        """
        for key in keys or (None,):
            for found in self.historic_processes(key=key, finished=True, finished_after=since):
                yield found.id

    def ended_processes(self, *, key: str | None = None, resume: str | None = None) -> Listing[HistoricProcess]:
        """List the processes that ended since an earlier listing, in the order of their ends, without their variables.

        The service promises no order of its history, so what ended since is read whole before the first is given out.
        History may show an end late: each reading begins ten minutes (or twice ``history_grace_seconds``) before the
        newest end that was seen.

        :param key: of the model with this key.
        :param resume: ``state`` of an earlier listing with the same key; None lists all that ever ended.
        :raises InvalidInput: the state is none, of another listing, or of the future.
        """

        def since(moment: datetime | None) -> list[HistoricProcess]:
            # A second earlier: whether the service's "after" includes the moment itself is not known.
            after = None if moment is None else moment - timedelta(seconds=1)
            found = self.historic_processes(key=key, finished=True, finished_after=after)
            return sorted((one for one in found if one.ended_at is not None), key=lambda one: (_end(one), one.id))

        return Changes(
            wire.description("opentext ended processes", {"key": key} if key else {}),
            since,
            lambda found: found.id,
            _end,
            newest_first=False,
            overlap=timedelta(seconds=max(600.0, 2 * self.settings.grace)),
            resume=resume,
        )

    def historic_processes(
        self,
        *,
        key: str | None = None,
        business_key: str | None = None,
        finished: bool | None = None,
        started_after: datetime | None = None,
        started_before: datetime | None = None,
        finished_after: datetime | None = None,
        finished_before: datetime | None = None,
        started_by: str | None = None,
        parent_id: str | None = None,
        called: bool = True,
        variables: bool = False,
        resume: str | None = None,
    ) -> Listing[HistoricProcess]:
        """List processes of history, running ones too, that fit everything given.

        :param finished: True for those that ended, False for those that run.
        :param called: False leaves out processes that another one called.
        :param variables: whether each comes with its variables.
        :param resume: ``state`` of an earlier listing of the same processes.
        :raises InvalidInput: a time without a zone, or a state of something else.
        """
        filters = wire.filters(
            processDefinitionKey=key,
            businessKey=business_key,
            finished=finished,
            startedAfter=started_after,
            startedBefore=started_before,
            finishedAfter=finished_after,
            finishedBefore=finished_before,
            startedBy=started_by,
            superProcessInstanceId=parent_id,
            excludeSubprocesses=None if called else True,
        )

        def fits(found: HistoricProcess) -> bool:
            # Compared here too: a service that does not know a filter would answer with every process.
            of_model = key is None or not found.definition_id or found.definition_id.partition(":")[0] == key
            of_business = business_key is None or found.business_key == business_key
            return of_model and of_business and (finished is None or (found.ended_at is not None) == finished)

        of = wire.description("opentext historic processes", filters)
        query = {**filters, **({"includeProcessVariables": "true"} if variables else {})}
        return self._http.listing(of, "historic-process-instances", query, wire.historic_process, resume, fits)

    def historic_tasks(
        self,
        process_id: str | None = None,
        *,
        key: str | None = None,
        process_key: str | None = None,
        assignee: str | None = None,
        finished: bool | None = None,
        completed_after: datetime | None = None,
        resume: str | None = None,
    ) -> Listing[HistoricTask]:
        """List tasks of history that fit everything given, ended ones and waiting ones.

        ``completer`` is filled only where a task carries the connection's ``completer_field``.

        :param process_id: of this process and of those it called.
        :param key: id of the task in the model.
        :param process_key: in processes of the model with this key.
        :param resume: ``state`` of an earlier listing of the same tasks.
        :raises InvalidInput: a time without a zone, or a state of something else.
        """
        filters = wire.filters(
            processInstanceIdWithChildren=process_id,
            taskDefinitionKey=key,
            processDefinitionKey=process_key,
            taskAssignee=assignee,
            finished=finished,
            taskCompletedAfter=completed_after,
        )

        def fits(found: HistoricTask) -> bool:
            return (key is None or found.key in (None, key)) and (
                finished is None or (found.ended is not None) == finished
            )

        of = wire.description("opentext historic tasks", filters)
        return self._http.listing(of, "historic-task-instances", filters, self._historic_task, resume, fits)

    def historic_task(self, task_id: str) -> HistoricTask | None:
        """Return one task from history, waiting out its lag; None where it is not there after that."""
        collection = "historic-task-instances"
        latest: HistoricTask | None = None

        def look() -> HistoricTask | None:
            nonlocal latest
            latest = None
            for item in self._http.elements(self._at(collection), collection, {"taskId": task_id}):
                found = self._historic_task(item)
                if found.id == task_id:
                    latest = found
                    if found.ended is not None:
                        return found
            return None

        return self._http.caller.look_for(look, self.settings.grace) or latest

    def _historic_task(self, item: dict[str, Any]) -> HistoricTask:
        return wire.historic_task(item, self.settings.completer_field)

    # --- deployed models ---------------------------------------------------------------------------------------------

    def models(
        self, key: str | None = None, *, latest: bool = True, resume: str | None = None
    ) -> Listing[ProcessModel]:
        """List the deployed models, or those with one key, without their XML.

        :param latest: only the newest version of each; False lists every version.
        :param resume: ``state`` of an earlier listing of the same models.
        """
        filters = wire.filters(latestVersion=True if latest else None, key=key)
        of = wire.description("opentext models", filters)
        return self._http.listing(
            of, "models", filters, wire.model, resume, lambda model: key is None or model.key == key
        )

    def model(self, model_id: str) -> ProcessModel:
        """Return a model with its BPMN 2.0 XML.

        :raises InvalidReply: the reply has no XML in it.
        """
        item = self._http.get_element(self._at("models", model_id), {"modelType": "xml"})
        return wire.model(item, content=wire.decoded(item.get("modelContent")))

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


def _end(found: HistoricProcess) -> datetime:
    """Return when a process ended; only those that did are asked."""
    return found.ended_at or datetime.max.replace(tzinfo=UTC)


def _too_late(found: Execution, what: str, error: OutsideError) -> Conflict:
    return Conflict(
        f"{SYSTEM}: execution {found.id} waited for {what} and does not any more; another sender was faster ({error})",
        system=SYSTEM,
        status=error.status,
    )


def _no_comments_in_history(error: OutsideError) -> Unsupported:
    return Unsupported(
        f"{SYSTEM}: the process has ended and the tenant's history has no comments at the address of the connection's "
        f"extra `history_comments` ({error})",
        system=SYSTEM,
        status=error.status,
    )
