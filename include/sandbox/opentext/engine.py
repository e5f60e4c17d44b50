"""Runs process models in SpiffWorkflow, one step at a time, with its state as text between the steps.

The engine holds the position in the model and nothing else: process variables are handed in with every step and read
by the conditions, so no value is kept twice. It knows one process: called processes and people's tasks are reported in
the :class:`Position` for the stand-in to deal with.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from typing import Any

from SpiffWorkflow.bpmn import BpmnWorkflow
from SpiffWorkflow.bpmn.script_engine import PythonScriptEngine
from SpiffWorkflow.bpmn.serializer import BpmnWorkflowSerializer
from SpiffWorkflow.bpmn.specs.defaults import BoundaryEvent, EndEvent
from SpiffWorkflow.bpmn.specs.event_definitions import TerminateEventDefinition
from SpiffWorkflow.exceptions import SpiffWorkflowException
from SpiffWorkflow.util.task import TaskState

from include.base.errors import InvalidInput
from include.bpmn.read import BPMN, ProcessElement, parse, read_process
from include.sandbox.opentext.events import CONFIG, ModelParser, due
from include.sandbox.opentext.expressions import ExpressionError, compile_expression
from include.sandbox.opentext.timers import KINDS, read_schedule

__all__ = ["EngineError", "Position", "World", "advance", "begin", "check_deployable", "text_value", "tick"]

_NOTES = {"documentation", "extensionElements", "incoming", "outgoing", "textAnnotation", "text", "association"}
_LANES = {"laneSet", "lane", "flowNodeRef"}
_FLOW = {"process", "sequenceFlow", "conditionExpression", "exclusiveGateway", "parallelGateway", "inclusiveGateway"}
_EVENTS = {"startEvent", "endEvent", "terminateEventDefinition", "intermediateCatchEvent", "boundaryEvent"}
_TIMERS = {"timerEventDefinition", *KINDS}
_PLAYED = _NOTES | _LANES | _FLOW | _EVENTS | _TIMERS | {"userTask", "callActivity"}
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
class Position:
    """Where a process stands.

    :param state: the engine's state, to be handed back for the next step.
    :param waiting: ``{engine task: element}`` of what waits for somebody from outside: people, called processes.
    :param due: when the next timer fires, in seconds since the epoch.
    :param end: the id of the end event reached last, once the process has ended.
    :param stopped_by: what ended tasks in this step, in the real engine's words, such as ``boundary event (late)``.
    """

    state: str
    waiting: Mapping[str, str]
    due: float | None
    ended: bool
    end: str | None
    stopped_by: str | None = None


@dataclass(frozen=True)
class World:
    """What a step sees of the outside.

    :param variables: the process variables.
    :param now: the time, in seconds since the epoch.
    """

    variables: Mapping[str, Any]
    now: float


class _Player(PythonScriptEngine):
    """Reads conditions and timers with our own parser and clock; runs no script."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.now = world.now

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
    model = parse(xml).find(f"{{{BPMN}}}process")
    begun = len(model.findall(f"{{{BPMN}}}startEvent"))
    if begun != 1:
        raise InvalidInput(f"process {process.key!r} has {begun} start events; this stand-in plays models with one")
    for element in model.iter(f"{{{BPMN}}}*"):
        if element.tag.rpartition("}")[2] not in passed_over:
            _check_element(element)
    try:
        for condition in process.conditions:
            compile_expression(condition.text)
        for task in process.user_tasks:
            if "{" in task.candidate_groups:
                compile_expression(task.candidate_groups)
        _specification(xml, process.key)
    except (ExpressionError, SpiffWorkflowException, EngineError) as error:
        raise InvalidInput(str(error)) from error
    return process


def _check_element(element: Any) -> None:
    name, place = element.tag.rpartition("}")[2], f"id={element.get('id')!r}"
    if name not in _PLAYED:
        raise InvalidInput(f"<{name} {place}> is not played by this stand-in" + _why(name))
    if name == "callActivity" and not element.get("calledElement"):
        raise InvalidInput(f"<callActivity {place}> has no calledElement")
    if name == "timerEventDefinition" and element.getparent().tag.endswith("}startEvent"):
        raise InvalidInput("<startEvent> with a timer is not played by this stand-in; start the process by its key")
    if name in KINDS and "{" not in (element.text or ""):
        read_schedule(name, element.text or "", 0.0)
    elif name in KINDS:
        try:
            compile_expression((element.text or "").strip())
        except ExpressionError as error:
            raise InvalidInput(str(error)) from error


def _why(name: str) -> str:
    return f": {_NOT_RUN[name]}" if name in _NOT_RUN else ""


@functools.lru_cache(maxsize=64)
def _specification(xml: str, key: str) -> Any:
    """Return the model as SpiffWorkflow has it."""
    parser = ModelParser()
    parser.add_bpmn_xml(parse(xml))
    return parser.get_spec(key)


@functools.cache
def _serializer() -> Any:
    return BpmnWorkflowSerializer(BpmnWorkflowSerializer.configure(CONFIG))


def begin(xml: str, key: str, world: World) -> Position:
    """Start a process and run until everything waits, or to its end.

    :raises EngineError: a condition cannot be worked out.
    """
    workflow = BpmnWorkflow(_specification(xml, key), script_engine=_Player(world))
    return _run(workflow, lambda workflow: None)


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
    ends = [task for task in done if isinstance(task.task_spec, EndEvent)]
    return Position(
        state=_serializer().serialize_json(workflow),
        waiting=_waiting(workflow),
        due=_due(workflow),
        ended=workflow.completed,
        end=ends[-1].task_spec.bpmn_id if ends else None,
        stopped_by=_stopped_by(done),
    )


def _stopped_by(done: list[Any]) -> str | None:
    for task in done:
        spec = task.task_spec
        if isinstance(spec, EndEvent) and isinstance(spec.event_definition, TerminateEventDefinition):
            return f"terminate end event ({spec.bpmn_id})"
        if isinstance(spec, BoundaryEvent) and spec.cancel_activity:
            return f"boundary event ({spec.bpmn_id})"
    return None


def _waiting(workflow: Any) -> dict[str, str]:
    ready = [] if workflow.completed else workflow.get_tasks(state=TaskState.READY)
    return {str(task.id): task.task_spec.bpmn_id for task in ready if task.task_spec.manual}


def _due(workflow: Any) -> float | None:
    waiting = [] if workflow.completed else workflow.get_tasks(state=TaskState.WAITING)
    moments = (due(task) for task in waiting)
    return min((moment for moment in moments if moment is not None), default=None)
