"""Could the service account complete a person's task? Tried on a task of its own, once in a while, and put on record.

OpenText's task history names who a task was assigned to, not who completed it. If the token that Labelops uses could
complete tasks in a person's name, that history alone proves nothing about the person. What is found here is a fact
about one moment and one account: it is shown beside the decisions, and it never raises a grade of evidence.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from include.base.errors import AuthError, InvalidInput, LabelopsError, NotFound
from include.governance.ledger import Ledger
from include.governance.records import Event, NewEvent
from include.systems.opentext.client import OpenTextClient
from include.systems.opentext.values import UserTask

__all__ = ["PROCESS_KEY", "Probe", "last_probe", "probe", "record_probe", "service_token"]

PROCESS_KEY = "labelops_completion_probe"
"""Key of ``include/bpmn/completion_probe.bpmn``."""

ACTION = "opentext.probed"

log = logging.getLogger(__name__)

_WAYS: Mapping[str, str] = {
    "complete": "completing the task without claiming it",
    "claim": "claiming it in the person's name and completing it",
    "assign": "assigning it to the person and completing it",
}


@dataclass(frozen=True)
class Probe:
    """What was found.

    :param result: ``can`` (at least one way worked), ``cannot`` (every way was refused for want of a right), or
        ``unknown`` (something else was in the way).
    :param way: the way that worked: ``complete``, ``claim`` or ``assign``; "" for none.
    :param reason: a sentence.
    :param ended: whether the probe's process is known to have ended.
    """

    result: Literal["can", "cannot", "unknown"]
    way: str
    reason: str
    process_id: str | None
    ended: bool


def probe(
    opentext: OpenTextClient,
    *,
    person: str,
    group: str,
    process_key: str = PROCESS_KEY,
    pause: Callable[[float], None] = time.sleep,
) -> Probe:
    """Try every way in which the service account might complete a person's task, and end the process in any case.

    :param person: account (e-mail) of somebody in the group, in whose name it is tried. They see the task for a moment.
    :param group: candidate group of the task.
    :param pause: waits between two looks for the task, in seconds.
    :raises InvalidInput: the model is not deployed, so nothing was tried.
    """
    if not (person and group):
        raise InvalidInput("probe: needs a person (e-mail) and a group that the person is in")
    if next(iter(opentext.models(process_key)), None) is None:
        raise InvalidInput(
            f"OpenText has no deployed model with the key {process_key!r}: deploy include/bpmn/completion_probe.bpmn "
            "once, or run the probe with --deploy"
        )
    process_id: str | None = None
    found: Probe | None = None
    ended = True
    try:
        process_id, _ = opentext.start_process(
            process_key,
            name="Labelops: may the service account complete tasks?",
            business_key=f"labelops-probe:{uuid.uuid4()}",
            variables={"probe_group": group},
        )
        found = _tried(opentext, process_id, person, pause)
    except LabelopsError as error:
        found = Probe("unknown", "", f"The probe could not be carried out: {error}", process_id, True)
    finally:
        # Even where something unforeseen is raised: a task that nobody has to do must not stay in people's lists.
        if process_id is not None:
            ended = _end(opentext, process_id)
    left = "" if ended else f" Process {process_id} could not be ended: end it by hand."
    return Probe(found.result, found.way, found.reason + left, process_id, ended)


def _tried(opentext: OpenTextClient, process_id: str, person: str, pause: Callable[[float], None]) -> Probe:
    task = _task(opentext, process_id, pause)
    if task is None:
        return Probe("unknown", "", "The probe's task never appeared, so nothing could be tried.", process_id, False)
    refused, unclear = [], []
    for way, prepare in (
        ("complete", lambda: None),
        ("claim", lambda: opentext.claim(task.id, person)),
        ("assign", lambda: opentext.update_task(task.id, assignee=person)),
    ):
        try:
            prepare()
            opentext.complete(task.id)
        except AuthError as error:
            refused.append(f"{way}: {error}")
            continue
        except LabelopsError as error:
            unclear.append(f"{way}: {type(error).__name__}: {error}")
            continue
        if _was_completed(opentext, task.id):
            return Probe(
                "can", way, f"The service account can complete a person's task by {_WAYS[way]}.", process_id, True
            )
        unclear.append(f"{way}: it was accepted, but the task is not completed")
    if unclear:
        return Probe(
            "unknown", "", f"Not refused for want of a right, and not done: {'; '.join(unclear)}.", process_id, False
        )
    tried = ", ".join(_WAYS.values())
    return Probe(
        "cannot",
        "",
        f"The service account has no right to complete a person's task (tried: {tried}).",
        process_id,
        False,
    )


def _task(opentext: OpenTextClient, process_id: str, pause: Callable[[float], None]) -> UserTask | None:
    for wait in (0.5, 1.0, 2.0, 4.0, 0.0):
        task = next(iter(opentext.tasks(process_id=process_id)), None)
        if task is not None:
            return task
        pause(wait)
    return None


def _was_completed(opentext: OpenTextClient, task_id: str) -> bool:
    try:
        opentext.task(task_id)
    except NotFound:
        ended = opentext.historic_task(task_id)
        return ended is not None and ended.ended is not None and ended.delete_reason in (None, "", "completed")
    return False


def _end(opentext: OpenTextClient, process_id: str) -> bool:
    try:
        if opentext.process(process_id) is not None:
            opentext.terminate(process_id, "Labelops probe is done")
        return opentext.process(process_id) is None
    except LabelopsError as error:
        log.warning("Process %s of the probe could not be ended: %s", process_id, error)
        return False


def record_probe(ledger: Ledger, conn_id: str, found: Probe) -> Event:
    """Put what was found on the ledger."""
    event, _ = ledger.append(
        NewEvent(
            actor="labelops",
            action=ACTION,
            project="",
            subject=f"opentext:{conn_id}",
            digest_before=None,
            digest_after=None,
            reason=found.reason,
            run="labelops.probe",
            body={"result": found.result, "way": found.way, "process_id": found.process_id, "ended": found.ended},
        )
    )
    return event


def last_probe(ledger: Ledger, conn_id: str) -> Event | None:
    """Return the newest probe of a connection, None where there was none."""
    found = None
    for event in ledger.events(subject=f"opentext:{conn_id}", actions=[ACTION]):
        found = event
    return found


def service_token(ledger: Ledger, conn_id: str) -> dict[str, Any]:
    """Return what is known of the service account, for the event of a result: ``result``, and the probe's ``event``."""
    found = last_probe(ledger, conn_id)
    return {"result": found.body["result"] if found else "unknown", "event": found.seq if found else None}
