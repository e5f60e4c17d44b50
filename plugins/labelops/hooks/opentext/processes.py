"""Running processes: starting, looking, ending, their variables."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from include.base.errors import Conflict, InvalidReply, NotFound, Unavailable
from include.systems.opentext import ProcessInstance
from labelops.hooks.opentext.client import OpenTextClient
from labelops.hooks.opentext.settings import segment
from labelops.hooks.opentext.values import SYSTEM, as_object, parse_time, process_instance, write_variable
from labelops.hooks.requests_http import read_json

__all__ = ["Processes"]

log = logging.getLogger(__name__)

_STARTS = tuple(threading.Lock() for _ in range(64))
"""Starts of one business key wait for each other; two keys rarely share a lock."""


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
            started = str(as_object(read_json(response, SYSTEM))["id"])
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
                f"{self.settings.workflow}/process-instances/{segment(process_id)}",
                {"includeProcessVariables": "true"},
            )
        except NotFound:
            return None
        return process_instance(item)

    def terminate(self, process_id: str, reason: str) -> None:
        """End a running process from outside; one that is not running is left as it is."""
        try:
            self._request(
                "DELETE",
                f"{self.settings.workflow}/process-instances/{segment(process_id)}",
                params={"deleteReason": reason},
                idempotent=True,
            )
        except NotFound:
            log.info("Process %s is not running; nothing to terminate.", process_id)

    def set_variable(self, process_id: str, name: str, value: Any) -> None:
        """Create or update one variable of a running process.

        :raises NotFound: the process is not running.
        """
        base = f"{self.settings.workflow}/process-instances/{segment(process_id)}/variables"
        body = write_variable(name, value)
        try:
            self._request("PUT", f"{base}/{segment(name)}", json=body, idempotent=True)
        except NotFound:
            # Flowable's PUT refuses a variable that does not exist yet; so the first write creates it.
            try:
                self._request("POST", base, json=[body])
            except Conflict:
                self._request("PUT", f"{base}/{segment(name)}", json=body, idempotent=True)

    def process_url(self, process_id: str) -> str:
        """Return the address of the process's page, or of its history record where the connection names no page."""
        if self.settings.process_page:
            return self.settings.process_page.replace("{id}", segment(process_id))
        return f"{self.settings.root}{self.settings.history}/historic-process-instances/{segment(process_id)}"
