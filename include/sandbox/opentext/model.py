"""What a model says beyond its flow: who a user task is for, what a call activity starts."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from include.bpmn.read import BPMN, CallElement, UserTaskElement, parse, read_process

__all__ = ["Model", "TaskElement", "read_model"]


@dataclass(frozen=True)
class TaskElement:
    """A user task; the attributes are as written."""

    element: UserTaskElement
    assignee: str
    candidate_users: str
    priority: str
    due: str


@dataclass(frozen=True)
class Model:
    """The user tasks and call activities of one process of a model, by their ids."""

    tasks: dict[str, TaskElement]
    calls: dict[str, CallElement]


@functools.lru_cache(maxsize=64)
def read_model(xml: str, key: str) -> Model:
    """Return a deployed model's process.

    :raises InvalidInput: see :func:`include.bpmn.read.read_process`.
    """
    process = read_process(xml, key)
    elements = {element.get("id"): element for element in parse(xml).iter(f"{{{BPMN}}}*") if element.get("id")}
    return Model(
        tasks={task.id: _task(task, elements[task.id]) for task in process.user_tasks},
        calls={call.id: call for call in process.calls},
    )


def _task(task: UserTaskElement, element: Any) -> TaskElement:
    return TaskElement(
        element=task,
        assignee=_attribute(element, "assignee"),
        candidate_users=_attribute(element, "candidateUsers"),
        priority=_attribute(element, "priority"),
        due=_attribute(element, "dueDate"),
    )


def _attribute(element: Any, name: str) -> str:
    """Return an attribute in whatever namespace the vendor gives it."""
    return next((value.strip() for key, value in element.attrib.items() if key.rpartition("}")[2] == name), "")
