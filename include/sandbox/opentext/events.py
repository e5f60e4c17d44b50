"""What SpiffWorkflow's parser makes of a model's events here: timers by our clock.

SpiffWorkflow reads the wall clock and Python expressions. These definitions read the clock and the expressions of the
world that plays the model.
"""

from __future__ import annotations

from typing import Any

from SpiffWorkflow.bpmn.parser import BpmnParser
from SpiffWorkflow.bpmn.parser.event_parsers import (
    BoundaryEventParser,
    IntermediateCatchEventParser,
    IntermediateThrowEventParser,
)
from SpiffWorkflow.bpmn.parser.TaskParser import TaskParser
from SpiffWorkflow.bpmn.parser.util import full_tag
from SpiffWorkflow.bpmn.serializer.config import DEFAULT_CONFIG
from SpiffWorkflow.bpmn.serializer.default.event_definition import TimerConditionalEventDefinitionConverter
from SpiffWorkflow.bpmn.specs.control import BoundaryEventJoin
from SpiffWorkflow.bpmn.specs.defaults import (
    BoundaryEvent,
    IntermediateCatchEvent,
    IntermediateThrowEvent,
    UserTask,
)
from SpiffWorkflow.bpmn.specs.event_definitions import CycleTimerEventDefinition
from SpiffWorkflow.bpmn.specs.event_definitions.timer import TimerEventDefinition
from SpiffWorkflow.util.task import TaskState

from include.sandbox.opentext.timers import KINDS, Schedule, read_schedule

__all__ = ["CONFIG", "Cycle", "ModelParser", "Once", "due"]


_KEPT = "timer"


def due(task: Any) -> float | None:
    """Return when a timer's task fires next, or None before it was looked at and after its last time."""
    kept = task.internal_data.get(_KEPT)
    return kept["due"] if kept and kept["times"] else None


class Once(TimerEventDefinition):
    """A timer that fires once: ``timeDate`` or ``timeDuration``; the expression is ``kind|text``."""

    def has_fired(self, my_task: Any) -> bool:
        """Tell whether the time has come."""
        world = my_task.workflow.script_engine
        return bool(_reach(self, my_task, world)["due"] <= world.now)


class Cycle(CycleTimerEventDefinition):
    """A non-interrupting timer that fires again and again."""

    def update_task(self, my_task: Any) -> None:
        """Start what follows the timer, once for every time that has come."""
        world = my_task.workflow.script_engine
        kept = _reach(self, my_task, world)
        while kept["times"] and kept["due"] <= world.now:
            schedule = Schedule(kept["due"], kept["every"], kept["times"])
            following = {
                **kept,
                "due": schedule.after(kept["due"]),
                "times": kept["times"] - 1 if kept["times"] > 0 else -1,
            }
            my_task._set_internal_data(**{_KEPT: following})
            kept = following
            for output in my_task.task_spec.outputs:
                if isinstance(output, BoundaryEventJoin):
                    continue
                # Below the start, not below the boundary event: what it has begun outlives it.
                child = my_task.workflow.task_tree._add_child(output, TaskState.FUTURE)
                child.task_spec._predict(child, mask=TaskState.NOT_FINISHED_MASK)
                child.task_spec._update(child)

    def has_fired(self, my_task: Any) -> bool:
        """Never: the boundary event stays as long as its task does."""
        return False


def _reach(definition: TimerEventDefinition, task: Any, world: Any) -> dict[str, Any]:
    kept = task.internal_data.get(_KEPT)
    if kept is None:
        kind, _, text = definition.expression.partition("|")
        schedule = read_schedule(kind, world.text(text), world.now)
        kept = {"due": schedule.first, "every": schedule.every, "times": schedule.times}
        task._set_internal_data(**{_KEPT: kept})
    return dict(kept)


class _Events:
    """Parses timers into the definitions above."""

    node: Any

    def parse_timer_event(self, event: Any) -> TimerEventDefinition:
        name = self.node.get("id")
        for kind in KINDS:
            found = event.find(full_tag(kind))
            if found is None:
                continue
            text = (found.text or "").strip()
            repeats = kind == "timeCycle" and self.node.get("cancelActivity", "true").lower() == "false"
            return (Cycle if repeats else Once)(name, f"{kind}|{text}", description="Timer")
        raise ValueError(f"timer {name!r} has none of {', '.join(KINDS)}")


class _Catch(_Events, IntermediateCatchEventParser):
    pass


class _Boundary(_Events, BoundaryEventParser):
    pass


class ModelParser(BpmnParser):
    """Reads models: a called process waits like a user task, for whoever plays the model.

    A service task, where it is allowed at all, is passed like an event that throws nothing.
    """

    OVERRIDE_PARSER_CLASSES = {  # noqa: RUF012 - the library's way to be extended
        full_tag("callActivity"): (TaskParser, UserTask),
        full_tag("serviceTask"): (IntermediateThrowEventParser, IntermediateThrowEvent),
        full_tag("sendTask"): (IntermediateThrowEventParser, IntermediateThrowEvent),
        full_tag("intermediateCatchEvent"): (_Catch, IntermediateCatchEvent),
        full_tag("boundaryEvent"): (_Boundary, BoundaryEvent),
    }

    def _find_dependencies(self, process: Any) -> None:
        """Look for no other process: what a call activity calls is started on its own."""


CONFIG = {
    **DEFAULT_CONFIG,
    Once: TimerConditionalEventDefinitionConverter,
    Cycle: TimerConditionalEventDefinitionConverter,
}
