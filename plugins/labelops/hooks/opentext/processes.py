"""Running processes: starting, looking, suspending, ending."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from include.base.errors import Conflict, InvalidInput, InvalidReply, NotFound, Unavailable, Unsupported
from include.systems.http import read_json, segment
from include.systems.listing import Listing
from include.systems.opentext.values import ProcessInstance
from labelops.hooks.opentext.client import OpenTextClient
from labelops.hooks.opentext.values import (
    SYSTEM,
    as_object,
    chosen_filters,
    parse_time,
    process_instance,
    told,
    write_variable,
)

__all__ = ["Processes"]

log = logging.getLogger(__name__)

_STARTS = tuple(threading.Lock() for _ in range(64))
"""Starts of one business key wait for each other; two keys rarely share a lock."""

_PNG = b"\x89PNG\r\n\x1a\n"


class Processes(OpenTextClient):
    """Running processes."""

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
            found = self.caller.look_for(lambda: self.find_process(business_key), settle)
            if found:
                log.info("Process %s has the business key %s already; nothing was started.", found, business_key)
                return found, False
            return self._start(chosen, name, business_key, variables), True

    def _start(self, chosen: Mapping[str, str], name: str, business_key: str, variables: Mapping[str, Any]) -> str:
        key = next(iter(chosen.values()))
        body = {
            **chosen,
            "name": name,
            "businessKey": business_key,
            "variables": [write_variable(variable, value) for variable, value in variables.items()],
        }
        try:
            response = self._request("POST", self.settings.at("process-instances"), json=body)
            started = str(as_object(read_json(response, SYSTEM))["id"])
        except (Unavailable, InvalidReply, KeyError) as error:
            found = self.caller.look_for(lambda: self.find_process(business_key), self.settings.grace)
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
            for item in self._list(self.settings.at(collection), collection, {"businessKey": business_key}):
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

    def process(self, process_id: str) -> ProcessInstance | None:
        """Return a running process with its variables, or None when it is not running (which is no proof of an end)."""
        try:
            item = self._get_object(
                f"{self.settings.at('process-instances')}/{segment(process_id)}",
                {"includeProcessVariables": "true"},
            )
        except NotFound:
            return None
        return process_instance(item)

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
        filters = chosen_filters(
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

        return self._listing(
            told("opentext running processes", filters),
            self.settings.at("process-instances"),
            "process-instances",
            {"sort": "startTime", "order": "asc", **filters},
            process_instance,
            resume,
            fits,
        )

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
        path = f"{self.settings.at('process-instances')}/{segment(process_id)}"
        try:
            # A second one changes nothing: the service refuses it, and that is looked at below.
            self._request("PUT", path, json=body, idempotent=True)
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
        path = f"{self.settings.at('process-instances')}/{segment(process_id)}/diagram"
        try:
            response = self._request("GET", path, accept="image/png, */*;q=0.1")
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
        try:
            self._request(
                "DELETE",
                f"{self.settings.at('process-instances')}/{segment(process_id)}",
                params={"deleteReason": reason},
                idempotent=True,
            )
        except NotFound:
            log.info("Process %s is not running; nothing to terminate.", process_id)

    def process_url(self, process_id: str) -> str:
        """Return the address of the process's page, or of its history record where the connection names no page."""
        if self.settings.process_page:
            return self.settings.process_page.replace("{id}", segment(process_id))
        return f"{self.settings.root}{self.settings.at('historic-process-instances')}/{segment(process_id)}"
