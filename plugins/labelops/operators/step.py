"""One function as a task: the list of a use case's work, and a step of one work item.

A function says in its signature what it needs, and gets it by name: ``run`` (:class:`include.run.run.Run`),
``project``, ``item``, ``given`` (what the step before returned), ``gate`` (what the gate before returned), ``params``
(of the DAG run), and the systems that the operator names in ``on`` (:data:`labelops.systems.SYSTEMS`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from include.base.canonical import digest_of
from include.base.errors import Fenced, InvalidInput, LedgerBehind, Refused, Unavailable
from labelops.retry import may_pass
from labelops.systems import SYSTEMS

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

    from include.projects.load import BadProject
    from include.projects.model import Project
    from include.run.run import Run, WorkItem

__all__ = [
    "ITEM_NAME",
    "ListOperator",
    "StepOperator",
    "function_at",
    "given_kinds",
    "refuse_unknown_parameters",
    "take_turns",
]

ITEM_NAME = "{{ task.item['project'] }} · {{ task.item['name'] }}"
"""How a mapped task instance is called in the UI."""


def function_at(place: str) -> Callable[..., Any]:
    """Return a function by its place, as ``include.usecases.guideline_sync:collect``."""
    module, _, name = place.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found


def given_kinds(function: Callable[..., Any]) -> tuple[type, ...]:
    """Return the types that a function's ``given`` may have, from its annotation; none where it takes no ``given``."""
    from typing import get_args, get_type_hints

    told = function.__annotations__.get("given")
    if told is None:
        return ()
    only = type("Given", (), {"__annotations__": {"given": told}})
    taken = get_type_hints(only, vars(import_module(function.__module__)))["given"]
    return get_args(taken) or (taken,)


class _FunctionOperator(BaseOperator):
    """A task that calls one function.

    :param function: its place, ``module:name``.
    :param on: the systems that it takes.
    :param connections: ids of Airflow connections by system, where one is not ``<system>_default``.
    """

    def __init__(
        self, *, function: str, on: Sequence[str] = (), connections: Mapping[str, str] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        unknown = sorted(set(on) - set(SYSTEMS))
        if unknown:
            raise ValueError(f"{self.task_id}: on: found {', '.join(unknown)}; allowed: {', '.join(sorted(SYSTEMS))}")
        self.function = function
        self.on = tuple(on)
        self.connections = dict(connections or {})

    def call(self, project: Project, **known: Any) -> Any:
        """Call the function with what its signature asks for."""
        from inspect import signature

        from labelops.systems import connect

        function = function_at(self.function)
        arguments = {}
        for name in signature(function).parameters:
            if name in self.on:
                arguments[name] = connect(name, project, self.connections.get(name))
            elif name == "project":
                arguments[name] = project
            elif name in known:
                arguments[name] = known[name]
            else:
                allowed = ", ".join(sorted({*known, *self.on, "project"}))
                raise TypeError(f"{self.function} asks for {name!r}; it may ask for {allowed}")
        return function(**arguments)


class ListOperator(_FunctionOperator):
    """List the pending work items of the chosen projects, flat, oldest first, the projects in turns.

    The function yields one project's items. A project whose file or listing is bad becomes one item that fails alone.
    Where the reason may pass, all is listed again first: once where other projects have work, which waits no longer
    for it than the task's first pause; as often as the task is tried where nobody has.

    At most ``items_per_run`` of the schedule file are taken; the rest is counted and taken next time.

    :param unit: what one item is, for the item of a project with a bad file.
    :param by_hand: run parameters that decide something in a person's name, and so need exactly one project.
    """

    def __init__(self, *, unit: str, by_hand: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.unit = unit
        self.by_hand = tuple(by_hand)

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Return the items as dictionaries, ready to be mapped over."""
        from include.projects.load import load_projects
        from include.run.in_force import take_register
        from include.settings import schedules, settings
        from labelops.runtime import run_of

        refuse_unknown_parameters(context)
        params = context["params"]
        projects = load_projects(settings().projects, params.get("project"))
        if len(projects) != 1 and any(params.get(name) for name in self.by_hand):
            names = ", ".join(f"`{name}`" for name in self.by_hand)
            raise InvalidInput(f"project: {names} need exactly one project; found {len(projects)}")
        with run_of(context).open() as run:
            take_register(run)
            passing: dict[str, Exception] = {}
            items = take_turns([self._items(run, project, params, passing) for project in projects])
            self._look_again(passing, items, context["ti"].try_number)
            # Open items stay listed while people decide: where there are too many, each run begins at another place,
            # drawn from its time, so that a retry of it takes the same and nobody is left out for ever.
            cap = schedules().items_per_run
            drawn = int(digest_of(context["dag_run"].run_after.isoformat())[:12], 16)
            start = drawn % len(items) if len(items) > cap else 0
            taken = (items[start:] + items[:start])[:cap]
            run.log.info(
                f"Looked at {len(projects)} project(s) and found {len(items)} work item(s); "
                f"this run takes {len(taken)}, {len(items) - len(taken)} wait for the next."
            )
        return [item.as_dict() for item in taken]

    def _items(
        self, run: Run, project: Project | BadProject, params: Mapping[str, Any], passing: dict[str, Exception]
    ) -> list[WorkItem]:
        """Return one project's items; whatever is wrong with it fails as one item and stops no other.

        :param passing: what may pass is put here too, by project.
        """
        from include.projects.load import BadProject
        from include.run.in_force import take_policy

        if isinstance(project, BadProject):
            return [self._bad(project.name, project.reason)]
        try:
            return list(self.call(take_policy(run, project), run=run, params=params))
        except (LedgerBehind, Fenced):
            raise
        except Exception as error:
            run.log.exception(f"The work of {project.name} could not be listed.")
            if may_pass(error):
                passing[project.name] = error
            return [self._bad(project.name, f"its work could not be listed: {type(error).__name__}: {error}")]

    def _look_again(self, passing: Mapping[str, Exception], items: Sequence[WorkItem], try_number: int) -> None:
        """Raise what may pass while another listing is worth it: what is listed now is all that this run works on."""
        if not passing:
            return
        first = next(iter(passing.values()))
        if all(item.error for item in items):
            raise first
        if try_number == 1:
            # Not the error itself: one project's Retry-After is no reason for the others to wait as long.
            told = f"the work of {', '.join(passing)} could not be listed ({first}); all is listed once more"
            raise Unavailable(told) from first

    def _bad(self, project: str, reason: str) -> WorkItem:
        from include.run.run import WorkItem

        return WorkItem(project, f"{self.unit}:{project}", self.unit, error=reason)


def take_turns(lists: Sequence[Sequence[WorkItem]]) -> list[WorkItem]:
    """Return the items of all projects in turns: the oldest of each, then the next of each."""
    return [one for row in zip_longest(*lists) for one in row if one is not None]


def refuse_unknown_parameters(context: Context) -> None:
    """Refuse a run whose conf holds a key that is no parameter: it would run with defaults and look right.

    :raises InvalidInput: naming the key and what is allowed.
    """
    dag = context["dag"]
    unknown = sorted(set(context["dag_run"].conf or {}) - set(dag.params))
    if unknown:
        raise InvalidInput(
            f"run parameters: found {', '.join(unknown)}; allowed: {', '.join(sorted(dag.params)) or 'none'}"
        )


class StepOperator(_FunctionOperator):
    """One step of one work item.

    The function returns a value, a dataclass where it has parts, which travels as JSON; or it raises
    :class:`~include.run.run.NothingToDo`, which skips the item.

    :param item: the work item, as listed. (templated)
    :param given: what the step before returned, None where it was skipped. (templated)
    :param gate: what the gate before returned, None where it was skipped. (templated)
    """

    template_fields: Sequence[str] = ("item", "given", "gate")

    def __init__(self, *, item: Any, given: Any = None, gate: Any = None, **kwargs: Any) -> None:
        kwargs.setdefault("map_index_template", ITEM_NAME)
        super().__init__(**kwargs)
        self.item = item
        self.given = given
        self.gate = gate

    def execute(self, context: Context) -> Any:
        """Refuse a bad item, do the step, and return its result as it travels."""
        from dataclasses import asdict, is_dataclass

        from include.projects.load import load_project
        from include.run.in_force import under_policy
        from include.run.run import NothingToDo, WorkItem
        from include.settings import settings
        from labelops.runtime import run_of

        item = WorkItem(**self.item)
        if item.error:
            raise InvalidInput(f"{item.subject} of {item.project}: {item.error}")
        given = self._given(item)
        with run_of(context).open() as run:
            project = under_policy(run, load_project(settings().projects, item.project))
            params = context["params"]
            try:
                result = self.call(project, run=run, item=item, given=given, gate=self.gate, params=params)
            except NothingToDo as reason:
                raise AirflowSkipException(str(reason)) from None
        return asdict(result) if is_dataclass(result) and not isinstance(result, type) else result

    def _given(self, item: WorkItem) -> Any:
        """Return what the step before returned, as the value that the function takes.

        :raises Refused: where it left none and the function needs one, as after a task that was marked successful.
        """
        from types import NoneType

        kinds = given_kinds(function_at(self.function))
        if not kinds:
            return None
        if self.given is None:
            if NoneType not in kinds:
                raise Refused(f"{item.subject} of {item.project}: the step before {self.task_id} left no result")
            return None
        [kind] = [one for one in kinds if one is not NoneType]
        return kind(**self.given)
