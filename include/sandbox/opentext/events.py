"""What SpiffWorkflow's parser makes of a model's events here: timers by our clock, signals that leave the process.

SpiffWorkflow reads the wall clock and Python expressions and delivers a signal within one process. These definitions
read the clock and the expressions of the world that plays the model, and hand a thrown signal to it, because in the
real engine a signal reaches every process that waits for it.
"""

from __future__ import annotations

from typing import Any

from SpiffWorkflow.bpmn.parser import BpmnParser
from SpiffWorkflow.bpmn.parser.event_parsers import (
    BoundaryEventParser,
    EndEventParser,
    IntermediateCatchEventParser,
    IntermediateThrowEventParser,
    StartEventParser,
)
from SpiffWorkflow.bpmn.parser.TaskParser import TaskParser
from SpiffWorkflow.bpmn.parser.util import full_tag
from SpiffWorkflow.bpmn.serializer.config import DEFAULT_CONFIG
from SpiffWorkflow.bpmn.serializer.default.event_definition import TimerConditionalEventDefinitionConverter
from SpiffWorkflow.bpmn.serializer.helpers import EventDefinitionConverter
from SpiffWorkflow.bpmn.specs.control import BoundaryEventJoin
from SpiffWorkflow.bpmn.specs.defaults import (
    BoundaryEvent,
    EndEvent,
    IntermediateCatchEvent,
    IntermediateThrowEvent,
    StartEvent,
    UserTask,
)
from SpiffWorkflow.bpmn.specs.event_definitions import CycleTimerEventDefinition, SignalEventDefinition
from SpiffWorkflow.bpmn.specs.event_definitions.timer import TimerEventDefinition
from SpiffWorkflow.util.task import TaskState

from include.sandbox.opentext.timers import KINDS, Schedule, read_schedule

__all__ = ["CONFIG", "Cycle", "ModelParser", "Once", "Signal", "due"]


def _key(definition: TimerEventDefinition) -> str:
    # An event-based gateway waits for several timers in one engine task, so each has its own place there.
    return f"timer {definition.name}"


def due(definition: TimerEventDefinition, task: Any) -> float | None:
    """Return when a timer fires next, or None before it was looked at and after its last time."""
    kept = task.internal_data.get(_key(definition))
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
            my_task._set_internal_data(**{_key(self): following})
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
    kept = task.internal_data.get(_key(definition))
    if kept is None:
        kind, _, text = definition.expression.partition("|")
        schedule = read_schedule(kind, world.text(text), world.now)
        kept = {"due": schedule.first, "every": schedule.every, "times": schedule.times}
        task._set_internal_data(**{_key(definition): kept})
    return dict(kept)


class Signal(SignalEventDefinition):
    """A signal. Thrown, it is handed to the world, which tells every process that waits for it."""

    def throw(self, my_task: Any) -> None:
        """Hand the signal over."""
        my_task.workflow.script_engine.signals.append(self.name)


class _Events:
    """Parses timers and signals into the definitions above."""

    node: Any
    process_parser: Any

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

    def parse_signal_event(self, event: Any) -> Signal:
        name = self.process_parser.parser.signals.get(event.get("signalRef"))
        if not name:
            raise ValueError(f"signal event {self.node.get('id')!r} refers to no <signal> with a name")
        return Signal(name, description="Signal")


class _Start(_Events, StartEventParser):
    pass


class _Catch(_Events, IntermediateCatchEventParser):
    pass


class _Boundary(_Events, BoundaryEventParser):
    pass


class _Throw(_Events, IntermediateThrowEventParser):
    pass


class _End(_Events, EndEventParser):
    def get_event_definition(self, xpaths: Any) -> Any:
        # SpiffWorkflow leaves signal end events out.
        return super().get_event_definition([*xpaths, ".//bpmn:signalEventDefinition"])


class ModelParser(BpmnParser):
    """Reads models: a called process and a receive task wait like a user task, for whoever plays the model.

    A service task, where it is allowed at all, is passed like an event that throws nothing.
    """

    OVERRIDE_PARSER_CLASSES = {  # noqa: RUF012 - the library's way to be extended
        full_tag("callActivity"): (TaskParser, UserTask),
        full_tag("receiveTask"): (TaskParser, UserTask),
        full_tag("serviceTask"): (_Throw, IntermediateThrowEvent),
        full_tag("sendTask"): (_Throw, IntermediateThrowEvent),
        full_tag("startEvent"): (_Start, StartEvent),
        full_tag("intermediateCatchEvent"): (_Catch, IntermediateCatchEvent),
        full_tag("intermediateThrowEvent"): (_Throw, IntermediateThrowEvent),
        full_tag("boundaryEvent"): (_Boundary, BoundaryEvent),
        full_tag("endEvent"): (_End, EndEvent),
    }

    def _find_dependencies(self, process: Any) -> None:
        """Look for no other process: what a call activity calls is started on its own."""


CONFIG = {
    **DEFAULT_CONFIG,
    Once: TimerConditionalEventDefinitionConverter,
    Cycle: TimerConditionalEventDefinitionConverter,
    Signal: EventDefinitionConverter,
}
