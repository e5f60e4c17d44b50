"""Runs process models in SpiffWorkflow, one step at a time, with its state as text between the steps.

The engine holds the position in the model and nothing else: process variables are handed in with every step and read
by the conditions, so no value is kept twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from SpiffWorkflow.bpmn import BpmnWorkflow
from SpiffWorkflow.bpmn.parser import BpmnParser
from SpiffWorkflow.bpmn.script_engine import PythonScriptEngine
from SpiffWorkflow.bpmn.serializer import BpmnWorkflowSerializer
from SpiffWorkflow.exceptions import SpiffWorkflowException
from SpiffWorkflow.util.task import TaskState

from include.base.errors import InvalidInput
from include.bpmn.read import BPMN, ProcessElement, parse, read_process
from include.sandbox.opentext.expressions import ExpressionError, compile_expression

__all__ = ["EngineError", "Position", "advance", "begin", "check_deployable", "text_value"]

_PLAYED = frozenset(
    {
        "process", "documentation", "extensionElements", "startEvent", "endEvent", "terminateEventDefinition",
        "userTask", "exclusiveGateway", "parallelGateway", "sequenceFlow", "conditionExpression",
        "incoming", "outgoing",
        "textAnnotation", "text", "association", "laneSet", "lane", "flowNodeRef",
    }
)  # fmt: skip


class EngineError(Exception):
    """The model cannot go on: no condition holds, or one of them cannot be worked out. Nothing was changed."""


@dataclass(frozen=True)
class Position:
    """Where a process stands.

    :param state: the engine's state, to be handed back to :func:`advance`.
    :param waiting: ``{engine task id: element id}`` of the user tasks that wait.
    :param end: the id of the end event reached last, once the process has ended.
    """

    state: str
    waiting: Mapping[str, str]
    ended: bool
    end: str | None


class _Conditions(PythonScriptEngine):
    """Reads conditions with our own parser; runs no script."""

    def __init__(self, variables: Mapping[str, Any]) -> None:
        super().__init__()
        self.variables = variables

    def evaluate(self, task: Any, expression: str, external_context: Any = None) -> bool:
        return bool(compile_expression(expression)(self.variables))

    def execute(self, task: Any, script: str, external_context: Any = None) -> None:
        raise EngineError("scripts are not run")


def check_deployable(xml: str) -> ProcessElement:
    """Return the one process of a model that this engine can run.

    :raises InvalidInput: malformed, an element that is not played here, or a condition outside the subset.
    """
    process = read_process(xml)
    root = parse(xml)
    for element in root.find(f"{{{BPMN}}}process").iter(f"{{{BPMN}}}*"):
        name = element.tag.rpartition("}")[2]
        if name not in _PLAYED:
            raise InvalidInput(f"<{name} id={element.get('id')!r}> is not played by this stand-in")
    try:
        for condition in process.conditions:
            compile_expression(condition.text)
        for task in process.user_tasks:
            if "{" in task.candidate_groups:
                compile_expression(task.candidate_groups)
        _specification(xml, process.key)
    except (ExpressionError, SpiffWorkflowException) as error:
        raise InvalidInput(str(error)) from error
    return process


def begin(xml: str, key: str, variables: Mapping[str, Any]) -> Position:
    """Start a process and run to its first user tasks, or to its end.

    :raises EngineError: a condition cannot be worked out.
    """
    workflow = BpmnWorkflow(_specification(xml, key), script_engine=_Conditions(variables))
    return _run(workflow, None)


def advance(state: str, engine_task: str, variables: Mapping[str, Any]) -> Position:
    """Complete one user task and run on.

    :raises EngineError: no condition after the task holds; the state handed in stays good.
    """
    workflow = BpmnWorkflowSerializer(BpmnWorkflowSerializer.configure()).deserialize_json(state)
    workflow.script_engine = _Conditions(variables)
    return _run(workflow, engine_task)


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


def _specification(xml: str, key: str) -> Any:
    parser = BpmnParser()
    parser.add_bpmn_xml(parse(xml))
    return parser.get_spec(key)


def _run(workflow: Any, engine_task: str | None) -> Position:
    try:
        if engine_task is not None:
            task = next(item for item in workflow.get_tasks(state=TaskState.READY) if str(item.id) == engine_task)
            task.run()
        workflow.do_engine_steps()
    except (SpiffWorkflowException, ExpressionError) as error:
        raise EngineError(str(error)) from error
    waiting = {
        str(task.id): task.task_spec.bpmn_id
        for task in workflow.get_tasks(state=TaskState.READY)
        if task.task_spec.manual
    }
    ends = [
        task for task in workflow.get_tasks(state=TaskState.COMPLETED) if type(task.task_spec).__name__ == "EndEvent"
    ]
    last = max(ends, key=lambda task: task.last_state_change, default=None)
    return Position(
        state=BpmnWorkflowSerializer(BpmnWorkflowSerializer.configure()).serialize_json(workflow),
        waiting=waiting,
        ended=workflow.completed,
        end=last.task_spec.bpmn_id if last is not None else None,
    )
