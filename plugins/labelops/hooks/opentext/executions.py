"""Executions: where processes wait, and the messages, signals and triggers that reach them.

A message is for one execution that subscribed to it. None of these requests can be repeated blindly: the same execution
may wait for the same message again a moment later. So each looks first, is sent once, and when its reply is lost looks
whether the execution still waits.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from include.base.errors import Conflict, InvalidReply, NotFound, OutsideError, Unavailable
from include.systems.http import segment
from include.systems.listing import Listing
from include.systems.opentext.values import Execution
from labelops.hooks.opentext.client import OpenTextClient
from labelops.hooks.opentext.values import SYSTEM, chosen_filters, execution, told, write_variable

__all__ = ["Executions"]

log = logging.getLogger(__name__)

_LOOKS = (0.2, 0.5, 1.0, 2.0)
"""Seconds between the looks after a lost reply: the service may still be at work on the request."""


class Executions(OpenTextClient):
    """Executions of running processes."""

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
        filters = chosen_filters(
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

        path = self.settings.at("executions")
        return self._listing(told("opentext executions", filters), path, "executions", filters, execution, resume, fits)

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
        body = {"action": "messageEventReceived", "messageName": name, "variables": _written(variables)}

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
        body = {"action": "signalEventReceived", "signalName": name, "variables": _written(variables)}
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

        self._reach(found, {"action": "trigger", "variables": _written(variables)}, "a trigger", still_waits)

    def _none_or_many(self, process_id: str, what: str, waiting: list[Execution]) -> None:
        if waiting:
            places = ", ".join(sorted(str(one.activity_id) for one in waiting))
            raise Conflict(
                f"{SYSTEM}: {len(waiting)} places of process {process_id} wait for {what}: {places}", system=SYSTEM
            )
        if next(self.executions(process_id), None) is None:
            raise NotFound(f"{SYSTEM}: process {process_id} is not running", system=SYSTEM, status=404)
        raise Conflict(f"{SYSTEM}: process {process_id} does not wait for {what} now", system=SYSTEM)

    def _reach(self, found: Execution, body: Mapping[str, Any], what: str, still_waits: Any) -> None:
        """Send one action to an execution, once; a lost reply is cleared up by looking."""
        if found.suspended:
            raise Conflict(
                f"{SYSTEM}: process {found.process_id} is suspended; it takes {what} when it is activated",
                system=SYSTEM,
            )
        try:
            self._request("PUT", f"{self.settings.at('executions')}/{segment(found.id)}", json=body, idempotent=False)
        except NotFound as error:
            raise _too_late(found, what, error) from error
        except (Unavailable, InvalidReply) as error:
            refused = error.status == 500
            for pause in _LOOKS[:1] if refused else _LOOKS:
                if not still_waits():
                    if refused:
                        raise _too_late(found, what, error) from error
                    log.warning("The reply to %s for execution %s was lost; it was taken.", what, found.id)
                    return
                self.caller.policy.sleep(pause)
            raise Unavailable(
                f"{SYSTEM}: {what} was not taken by execution {found.id}, which still waits ({error})",
                system=SYSTEM,
                status=error.status,
            ) from error
        log.info("Execution %s of process %s took %s.", found.id, found.process_id, what)


def _too_late(found: Execution, what: str, error: OutsideError) -> Conflict:
    return Conflict(
        f"{SYSTEM}: execution {found.id} waited for {what} and does not any more; another sender was faster ({error})",
        system=SYSTEM,
        status=error.status,
    )


def _written(variables: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    return [write_variable(name, value) for name, value in (variables or {}).items()]
