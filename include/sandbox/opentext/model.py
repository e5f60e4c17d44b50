"""What a model says beyond its flow: who a user task is for, how often it is repeated, what a call activity starts."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from include.bpmn.read import BPMN, CallElement, UserTaskElement, parse, read_process

__all__ = ["Loop", "Model", "TaskElement", "read_model"]


@dataclass(frozen=True)
class Loop:
    """One task for each of several things.

    :param collection: expression of the list, as written.
    :param variable: the variable that holds the one thing in its task.
    :param enough: condition that ends it before all are done, or "".
    """

    collection: str
    variable: str
    sequential: bool
    enough: str


@dataclass(frozen=True)
class TaskElement:
    """A user task; the attributes are as written."""

    element: UserTaskElement
    assignee: str
    candidate_users: str
    priority: str
    due: str
    loop: Loop | None


@dataclass(frozen=True)
class Model:
    """One process of a model; ``names`` has every element's name by its id."""

    tasks: dict[str, TaskElement]
    calls: dict[str, CallElement]
    names: dict[str, str]


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
        names={name: element.get("name", "") for name, element in elements.items()},
    )


def _task(task: UserTaskElement, element: Any) -> TaskElement:
    loop = element.find(f"{{{BPMN}}}multiInstanceLoopCharacteristics")
    return TaskElement(
        element=task,
        assignee=_attribute(element, "assignee"),
        candidate_users=_attribute(element, "candidateUsers"),
        priority=_attribute(element, "priority"),
        due=_attribute(element, "dueDate"),
        loop=None if loop is None else _loop(loop),
    )


def _loop(element: Any) -> Loop:
    enough = element.find(f"{{{BPMN}}}completionCondition")
    return Loop(
        collection=_attribute(element, "collection"),
        variable=_attribute(element, "elementVariable"),
        sequential=element.get("isSequential") == "true",
        enough="" if enough is None else (enough.text or "").strip(),
    )


def _attribute(element: Any, name: str) -> str:
    """Return an attribute in whatever namespace the vendor gives it."""
    return next((value.strip() for key, value in element.attrib.items() if key.rpartition("}")[2] == name), "")
