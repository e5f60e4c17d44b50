"""Runs process models in SpiffWorkflow, one step at a time, with its state as text between the steps.

The engine holds the position in the model and nothing else: process variables are handed in with every step and read
by the conditions, so no value is kept twice. It knows one process: called processes, signals to other processes and
people's tasks are reported in the :class:`Position` for the stand-in to deal with.
"""

from __future__ import annotations

import functools
import logging
import uuid
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from SpiffWorkflow.bpmn import BpmnEvent, BpmnWorkflow
from SpiffWorkflow.bpmn.script_engine import PythonScriptEngine
from SpiffWorkflow.bpmn.serializer import BpmnWorkflowSerializer
from SpiffWorkflow.bpmn.specs.defaults import BoundaryEvent, EndEvent, EventBasedGateway, StartEvent
from SpiffWorkflow.bpmn.specs.event_definitions import (
    ErrorEventDefinition,
    EscalationEventDefinition,
    MessageEventDefinition,
    MultipleEventDefinition,
    TerminateEventDefinition,
)
from SpiffWorkflow.exceptions import SpiffWorkflowException
from SpiffWorkflow.util.task import TaskState

from include.base.errors import InvalidInput
from include.bpmn.read import BPMN, ProcessElement, parse, read_process
from include.sandbox.opentext.events import CONFIG, ModelParser, Signal, due
from include.sandbox.opentext.expressions import ExpressionError, compile_expression
from include.sandbox.opentext.timers import KINDS, read_schedule

__all__ = [
    "EngineError", "Escape", "Position", "Starter", "Wait", "World", "advance", "begin", "check_deployable", "escape",
    "receive", "starters", "text_value", "tick",
]  # fmt: skip

_PLAYED = frozenset(
    {
        "process", "documentation", "extensionElements", "startEvent", "endEvent", "terminateEventDefinition",
        "userTask", "exclusiveGateway", "parallelGateway", "inclusiveGateway", "eventBasedGateway", "sequenceFlow",
        "conditionExpression", "incoming", "outgoing", "textAnnotation", "text", "association", "laneSet", "lane",
        "flowNodeRef", "intermediateCatchEvent", "intermediateThrowEvent", "boundaryEvent", "timerEventDefinition",
        *KINDS, "messageEventDefinition", "signalEventDefinition", "escalationEventDefinition", "errorEventDefinition",
        "receiveTask", "callActivity", "subProcess", "multiInstanceLoopCharacteristics", "completionCondition",
    }
)  # fmt: skip
_NOT_RUN = {
    "scriptTask": "scripts are code of the model, which is not run here",
    "serviceTask": "a service task (HTTP and mail tasks too) calls other systems, which this stand-in does not",
    "sendTask": "it calls other systems, which this stand-in does not",
    "businessRuleTask": "there is no decision service here",
}
logging.getLogger("spiff").setLevel(logging.WARNING)  # it tells every change of every token
_STEPS = 10_000
"""More automatic steps than this without a stop are an endless loop."""


class EngineError(Exception):
    """The model cannot go on: no condition holds, or one of them cannot be worked out. Nothing was changed."""


@dataclass(frozen=True)
class Starter:
    """A start event that is waited for from outside.

    :param kind: ``message`` or ``signal``.
    :param name: the message's or the signal's name.
    """

    element: str
    kind: str
    name: str


@dataclass(frozen=True)
class Wait:
    """Something that a process waits for at one place.

    :param id: the execution that waits.
    :param task: the engine's task, which several executions share behind an event-based gateway.
    :param element: id of the element in the model.
    :param kind: ``manual`` (a person, a called process, a trigger from outside), ``message``, ``signal``, ``timer`` or
        ``other`` (an escalation or error that may come).
    :param name: the message's or the signal's name.
    :param due: when a timer fires, in seconds since the epoch.
    """

    id: str
    task: str
    element: str
    kind: str
    name: str = ""
    due: float | None = None


@dataclass(frozen=True)
class Escape:
    """An escalation or error that nothing in its process catches. ``kind`` is ``escalation`` or ``error``."""

    kind: str
    code: str


@dataclass(frozen=True)
class Position:
    """Where a process stands.

    :param state: the engine's state, to be handed back for the next step.
    :param waits: everything that is waited for.
    :param end: the id of the end event reached last, once the process has ended.
    :param stopped_by: what ended tasks in this step, in the real engine's words, such as ``boundary event (late)``.
    :param signals: names of the signals thrown in this step.
    :param escapes: what left the process in this step.
    :param start: the id of the start event, in the first step.
    """

    state: str
    waits: tuple[Wait, ...]
    ended: bool
    end: str | None
    stopped_by: str | None = None
    signals: tuple[str, ...] = ()
    escapes: tuple[Escape, ...] = ()
    start: str | None = None

    @property
    def waiting(self) -> dict[str, str]:
        """Return ``{engine task: element}`` of what waits for somebody from outside: people, called processes."""
        return {wait.task: wait.element for wait in self.waits if wait.kind == "manual"}

    @property
    def due(self) -> float | None:
        """Return when the next timer fires."""
        return min((wait.due for wait in self.waits if wait.due is not None), default=None)


@dataclass
class World:
    """What a step sees of the outside.

    :param variables: the process variables.
    :param now: the time, in seconds since the epoch.
    :param signals: what the step throws.
    """

    variables: Mapping[str, Any]
    now: float
    signals: list[str] = field(default_factory=list)


class _Player(PythonScriptEngine):
    """Reads conditions and timers with our own parser and clock; runs no script."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.now = world.now
        self.signals = world.signals

    def evaluate(self, task: Any, expression: str, external_context: Any = None) -> bool:
        value = compile_expression(expression)(self.world.variables)
        if not isinstance(value, bool):
            raise EngineError(f"condition expression returns non-Boolean: {expression}")
        return value

    def text(self, expression: str) -> str:
        return text_value(expression, self.world.variables)

    def execute(self, task: Any, script: str, external_context: Any = None) -> None:
        raise EngineError("scripts are not run")


def check_deployable(xml: str, passed_over: Set[str] = frozenset()) -> ProcessElement:
    """Return the one process of a model that this engine can run.

    :param passed_over: elements that count as done at once, such as ``serviceTask``; else they are refused.
    :raises InvalidInput: malformed, an element that is not played here, or an expression outside the subset.
    """
    process = read_process(xml)
    root = parse(xml)
    for element in root.find(f"{{{BPMN}}}process").iter(f"{{{BPMN}}}*"):
        if element.tag.rpartition("}")[2] not in passed_over:
            _check_element(element)
    try:
        for condition in process.conditions:
            compile_expression(condition.text)
        for task in process.user_tasks:
            if "{" in task.candidate_groups:
                compile_expression(task.candidate_groups)
        for enough in root.iter(f"{{{BPMN}}}completionCondition"):
            compile_expression((enough.text or "").strip())
        found = starters(xml)
        for start in found or (None,):
            _specification(xml, process.key, start.element if start else None)
        if not found or _plain_starts(root.find(f"{{{BPMN}}}process")):
            _specification(xml, process.key, None)
    except (ExpressionError, SpiffWorkflowException, EngineError) as error:
        raise InvalidInput(str(error)) from error
    return process


def _check_element(element: Any) -> None:
    name, place = element.tag.rpartition("}")[2], f"id={element.get('id')!r}"
    if name not in _PLAYED:
        raise InvalidInput(f"<{name} {place}> is not played by this stand-in" + _why(name))
    if name == "subProcess" and element.get("triggeredByEvent") == "true":
        raise InvalidInput(f"<subProcess {place}> is an event sub-process, which is not played by this stand-in")
    if name == "multiInstanceLoopCharacteristics":
        _check_loop(element)
    if name == "callActivity" and not element.get("calledElement"):
        raise InvalidInput(f"<callActivity {place}> has no calledElement")
    holder = element.getparent().tag.rpartition("}")[2]
    if name == "messageEventDefinition" and holder in ("intermediateThrowEvent", "endEvent"):
        raise InvalidInput(f"<{holder}> throws a message: the engine cannot send one without a service task")
    if name == "timerEventDefinition" and holder == "startEvent":
        raise InvalidInput("<startEvent> with a timer is not played by this stand-in; start the process by its key")
    if name in KINDS and "{" not in (element.text or ""):
        read_schedule(name, element.text or "", 0.0)
    elif name in KINDS:
        try:
            compile_expression((element.text or "").strip())
        except ExpressionError as error:
            raise InvalidInput(str(error)) from error


def _check_loop(element: Any) -> None:
    holder = element.getparent()
    place = f"id={holder.get('id')!r}"
    names = {key.rpartition("}")[2] for key in element.attrib}
    if not holder.tag.endswith("}userTask"):
        raise InvalidInput(f"<{holder.tag.rpartition('}')[2]} {place}> is repeated; only user tasks are repeated here")
    if not {"collection", "elementVariable"} <= names:
        raise InvalidInput(f"<userTask {place}> is repeated without collection and elementVariable")


def _why(name: str) -> str:
    return f": {_NOT_RUN[name]}" if name in _NOT_RUN else ""


def starters(xml: str) -> tuple[Starter, ...]:
    """Return the start events of a model that a message or a signal starts.

    :raises InvalidInput: one of them refers to no message or signal with a name.
    """
    root = parse(xml)
    found = []
    for start in root.find(f"{{{BPMN}}}process").findall(f"{{{BPMN}}}startEvent"):
        for kind in ("message", "signal"):
            definition = start.find(f"{{{BPMN}}}{kind}EventDefinition")
            if definition is None:
                continue
            wanted = definition.get(f"{kind}Ref")
            names = [one.get("name") for one in root.findall(f"{{{BPMN}}}{kind}") if one.get("id") == wanted]
            if not names or not names[0]:
                raise InvalidInput(f"<startEvent id={start.get('id')!r}> refers to no <{kind}> with a name")
            found.append(Starter(start.get("id"), kind, names[0]))
    return tuple(found)


def _plain_starts(process: Any) -> list[Any]:
    return [
        start
        for start in process.findall(f"{{{BPMN}}}startEvent")
        if not any(child.tag.endswith("EventDefinition") for child in start)
    ]


@functools.lru_cache(maxsize=64)
def _specification(xml: str, key: str, start: str | None) -> tuple[Any, Any]:
    """Return the model as SpiffWorkflow has it, begun by one of its start events (None: the plain one)."""
    root = parse(xml)
    process = next(one for one in root.findall(f"{{{BPMN}}}process") if one.get("id") == key)
    plain = _plain_starts(process)
    if start is None and len(plain) != 1:
        raise EngineError(f"No start element found for process definition {key}" if not plain else "Two start events")
    chosen = start or plain[0].get("id")
    for element in process.findall(f"{{{BPMN}}}startEvent"):
        if element.get("id") != chosen:
            process.remove(element)
            continue
        for definition in [child for child in element if child.tag.endswith("EventDefinition")]:
            element.remove(definition)  # it has come: that is why the process starts
    for loop in process.findall(f".//{{{BPMN}}}multiInstanceLoopCharacteristics"):
        loop.getparent().remove(loop)  # the stand-in makes the tasks
    parser = ModelParser()
    parser.add_bpmn_xml(root)
    return parser.get_spec(key), parser.get_subprocess_specs(key)


@functools.cache
def _serializer() -> Any:
    return BpmnWorkflowSerializer(BpmnWorkflowSerializer.configure(CONFIG))


def begin(xml: str, key: str, world: World, start: str | None = None) -> Position:
    """Start a process and run until everything waits, or to its end.

    :param start: the start event; None is the one without a message or signal.
    :raises EngineError: the model has no such start, or a condition cannot be worked out.
    """
    specification, inner = _specification(xml, key, start)
    return _run(BpmnWorkflow(specification, inner, script_engine=_Player(world)), lambda workflow: None)


def advance(state: str, engine_task: str, world: World) -> Position:
    """Complete what waited for somebody and run on.

    :raises EngineError: nothing waits there, or no condition after it holds; the state handed in stays good.
    """

    def step(workflow: Any) -> None:
        for task in workflow.get_tasks(state=TaskState.READY):
            if str(task.id) == engine_task and task.task_spec.manual:
                task.run()
                return
        raise EngineError(f"nothing waits at '{engine_task}'")

    return _resume(state, world, step)


def receive(state: str, wait: Wait, world: World) -> Position:
    """Let a message or a signal come to the one execution that waits for it, and run on.

    :raises EngineError: see :func:`advance`.
    """

    def step(workflow: Any) -> None:
        task = _waiting(workflow, wait.task)
        for definition in _definitions(task):
            if isinstance(definition, (MessageEventDefinition, Signal)) and definition.name == wait.name:
                task.task_spec.catch(task, BpmnEvent(definition, {}))
                task.task_spec._update(task)
                return
        raise EngineError(f"'{wait.element}' does not wait for '{wait.name}'")

    return _resume(state, world, step)


def escape(state: str, engine_task: str, come: Escape, world: World) -> Position | None:
    """Let what left a called process reach a boundary event of its call activity; None when none is there for it."""
    caught = False

    def step(workflow: Any) -> None:
        nonlocal caught
        wanted = {"escalation": EscalationEventDefinition, "error": ErrorEventDefinition}[come.kind]
        call = next(task for task in workflow.get_tasks(state=TaskState.READY) if str(task.id) == engine_task)
        for task in call.parent.children:
            definition = getattr(task.task_spec, "event_definition", None)
            if not isinstance(task.task_spec, BoundaryEvent) or not isinstance(definition, wanted):
                continue
            if definition.code in (None, come.code) and task.state == TaskState.WAITING:
                task.task_spec.catch(task, BpmnEvent(definition, {}))
                task.task_spec._update(task)
                caught = True
                return

    position = _resume(state, world, step)
    return position if caught else None


def tick(state: str, world: World) -> Position:
    """Let the timers fire whose time has come, and run on.

    :raises EngineError: see :func:`advance`.
    """
    return _resume(state, world, lambda workflow: workflow.refresh_timers())


def text_value(expression: str, variables: Mapping[str, Any]) -> str:
    """Return an attribute such as ``candidateGroups`` with its expression worked out.

    :raises EngineError: the variable is missing or no text.
    """
    if "{" not in expression:
        return expression
    try:
        value = compile_expression(expression)(variables)
    except ExpressionError as error:
        raise EngineError(str(error)) from error
    if not isinstance(value, str):
        raise EngineError(f"the expression {expression} is a {type(value).__name__}, expected a text")
    return value


def _resume(state: str, world: World, step: Callable[[Any], None]) -> Position:
    workflow = _serializer().deserialize_json(state)
    workflow.script_engine = _Player(world)
    return _run(workflow, step)


def _run(workflow: Any, step: Callable[[Any], None]) -> Position:
    done: list[Any] = []

    def count(task: Any) -> None:
        done.append(task)
        if len(done) > _STEPS:
            raise EngineError(f"{_STEPS} steps without a stop: the model runs in a circle")

    try:
        step(workflow)
        # A timer that is due at once makes its task ready only at the end of the steps: go on until nothing moves.
        while True:
            workflow.do_engine_steps(did_complete_task=count)
            if not any(not task.task_spec.manual for task in workflow.get_tasks(state=TaskState.READY)):
                break
    except (SpiffWorkflowException, ExpressionError, InvalidInput) as error:
        raise EngineError(str(error)) from error
    escapes = tuple(
        Escape("error" if isinstance(event.event_definition, ErrorEventDefinition) else "escalation",
               event.event_definition.code or "")
        for event in workflow.get_events()
        if isinstance(event.event_definition, (ErrorEventDefinition, EscalationEventDefinition))
    )  # fmt: skip
    starts = [
        task.task_spec.bpmn_id for task in done if isinstance(task.task_spec, StartEvent) and task.workflow is workflow
    ]
    ends = [task for task in done if isinstance(task.task_spec, EndEvent) and task.workflow is workflow]
    return Position(
        state=_serializer().serialize_json(workflow),
        waits=() if workflow.completed else tuple(_waits(workflow)),
        ended=workflow.completed,
        end=ends[-1].task_spec.bpmn_id if ends else None,
        stopped_by=_stopped_by(done),
        signals=tuple(workflow.script_engine.signals),
        escapes=escapes,
        start=starts[0] if starts else None,
    )


def _stopped_by(done: list[Any]) -> str | None:
    for task in done:
        spec = task.task_spec
        if isinstance(spec, EndEvent) and isinstance(spec.event_definition, TerminateEventDefinition):
            return f"terminate end event ({spec.bpmn_id})"
        if isinstance(spec, BoundaryEvent) and spec.cancel_activity:
            return f"boundary event ({spec.bpmn_id})"
    return None


def _waiting(workflow: Any, engine_task: str) -> Any:
    for task in workflow.event_manager.tasks.values():
        if str(task.id) == engine_task and task.state == TaskState.WAITING:
            return task
    raise EngineError(f"nothing waits at '{engine_task}'")


def _definitions(task: Any) -> list[Any]:
    definition = task.task_spec.event_definition
    return definition.event_definitions if isinstance(definition, MultipleEventDefinition) else [definition]


def _waits(workflow: Any) -> list[Wait]:
    found = [
        Wait(str(task.id), str(task.id), task.task_spec.bpmn_id, "manual")
        for task in workflow.get_tasks(state=TaskState.READY)
        if task.task_spec.manual
    ]
    for task in workflow.event_manager.tasks.values():
        if task.state != TaskState.WAITING or task.task_spec.bpmn_id is None:
            continue
        behind = isinstance(task.task_spec, EventBasedGateway)
        for place, definition in enumerate(_definitions(task)):
            # Each event behind an event-based gateway waits in an execution of its own.
            execution = str(uuid.uuid5(task.id, str(place))) if behind else str(task.id)
            element = task.task_spec.outputs[place].bpmn_id if behind else task.task_spec.bpmn_id
            found.append(_event_wait(execution, task, element, definition))
    return found


def _event_wait(execution: str, task: Any, element: str, definition: Any) -> Wait:
    if isinstance(definition, MessageEventDefinition):
        return Wait(execution, str(task.id), element, "message", definition.name)
    if isinstance(definition, Signal):
        return Wait(execution, str(task.id), element, "signal", definition.name)
    moment = due(definition, task) if hasattr(definition, "expression") else None
    return Wait(execution, str(task.id), element, "other" if moment is None else "timer", due=moment)
