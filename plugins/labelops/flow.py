"""A use case as a value, and the one place that wires it: list → mapped steps → announce → conclude.

A DAG file says what its use case is with :func:`use_case`. Whoever else has to know (the tests' runner, the fault
series, the tables of the README) reads the same value from :data:`USE_CASES`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow.sdk import DAG, Asset, BaseOperator, Param, task_group

from labelops.operators.frame import AnnounceOperator, ConcludeOperator
from labelops.operators.gate import GateOperator
from labelops.operators.step import ListOperator, StepOperator
from labelops.operators.wait import StartWaitOperator
from labelops.systems import POOLS
from labelops.wiring import START, defaults, project_parameter, schedule

__all__ = ["ANNOUNCE", "CONCLUDE", "LIST", "USE_CASES", "Gate", "Placed", "Step", "UseCase", "Wait", "use_case"]

ANNOUNCE, CONCLUDE, LIST = "announce", "conclude", "list_work"


@dataclass(frozen=True)
class Placed:
    """Where a step of one item stands, and what it is given: values in a run, references in a DAG.

    :param use_case: the DAG's id.
    :param before: what the step before returned.
    :param gate: what the gate between the two returned.
    :param rule: Airflow's trigger rule.
    """

    use_case: str
    item: Any
    before: Any = None
    gate: Any = None
    rule: str = "all_success"


@dataclass(frozen=True)
class Step:
    """A function of ``include.usecases.<dag_id>``, by its name.

    :param on: the outside systems that it takes. The task takes a slot of the pool of the first that has one.
    """

    name: str
    on: tuple[str, ...] = ()

    def function(self, use_case: str) -> str:
        """Return the function's place."""
        return f"include.usecases.{use_case}:{self.name}"

    def pool(self) -> dict[str, str]:
        """Return the task's pool, nothing where it needs none."""
        return next(({"pool": POOLS[one]} for one in self.on if one in POOLS), {})

    def operator(self, at: Placed) -> BaseOperator:
        """Return the task."""
        return StepOperator(
            task_id=self.name,
            function=self.function(at.use_case),
            on=self.on,
            item=at.item,
            given=at.before,
            gate=at.gate,
            trigger_rule=at.rule,
            **self.pool(),
        )


@dataclass(frozen=True)
class Gate:
    """A suite on the rows that the step before staged.

    :param optional: whether the step after it also runs where nothing was staged.
    """

    suite: str
    optional: bool = False
    name: str = "gate"

    def operator(self, at: Placed) -> BaseOperator:
        """Return the task."""
        return GateOperator(
            task_id=self.name, suite=self.suite, staged=at.before, project=at.item, trigger_rule=at.rule
        )


@dataclass(frozen=True)
class Wait:
    """The start of a run that waits for the decision that the step before asked for."""

    name: str = "start_wait"

    def operator(self, at: Placed) -> BaseOperator:
        """Return the task."""
        return StartWaitOperator(
            task_id=self.name, item=at.item, result=at.before, use_case=at.use_case, trigger_rule=at.rule
        )


Kind = Step | Gate | Wait


@dataclass(frozen=True)
class UseCase:
    """What a DAG file says: see :func:`use_case`."""

    dag_id: str
    doc: str
    unit: str
    lists: Step
    steps: tuple[Kind, ...]
    listens: tuple[Asset, ...] = ()
    announces: Asset | None = None
    params: Mapping[str, Param] = field(default_factory=dict)
    by_hand: tuple[str, ...] = ()
    cron: str | None = None
    tags: tuple[str, ...] = ()

    @property
    def heading(self) -> tuple[str, str]:
        """Return the use case's number and what it does, from the first line of its page."""
        found = re.match(r"### \w+ \((\w+)\): (.+)", self.doc)
        if found is None:
            raise ValueError(
                f"{self.dag_id}: its page begins with {self.doc[:60]!r}; expected `### name (A1): sentence`"
            )
        return found[1], found[2]

    @property
    def result(self) -> str:
        """Return the name of the step whose result is the item's."""
        return next(one.name for one in reversed(self.steps) if isinstance(one, Step))

    def rules(self) -> Iterator[tuple[Kind, str]]:
        """Yield each step with its trigger rule: what follows an optional gate also runs where the gate was skipped."""
        before: Kind | None = None
        for step in self.steps:
            yield step, "none_failed" if isinstance(before, Gate) and before.optional else "all_success"
            before = step

    def task(self, name: str, item: Any, output: Callable[[str], Any]) -> BaseOperator:
        """Return the task of a step.

        :param output: returns what another step of the item returned, by its name: a value in a run, a reference in a
            DAG.
        """
        before: str | None = None
        gate: str | None = None
        for step, rule in self.rules():
            if step.name == name:
                given, passed = output(before) if before else None, output(gate) if gate else None
                return step.operator(Placed(self.dag_id, item, given, passed, rule))
            before, gate = (before, step.name) if isinstance(step, Gate) else (step.name, None)
        raise KeyError(f"{self.dag_id} has no step {name!r}")

    def lister(self) -> ListOperator:
        """Return the task that lists the work."""
        return ListOperator(
            task_id=LIST,
            function=self.lists.function(self.dag_id),
            on=self.lists.on,
            unit=self.unit,
            by_hand=self.by_hand,
            **self.lists.pool(),
        )

    def announcer(self, items: Any) -> AnnounceOperator:
        """Return the task that tells consumers what changed."""
        outlets = [self.announces] if self.announces else []
        return AnnounceOperator(
            task_id=ANNOUNCE, items=items, group=self.unit, result_task=self.result, outlets=outlets
        )

    def concluder(self, items: Any) -> ConcludeOperator:
        """Return the task that says what failed."""
        return ConcludeOperator(task_id=CONCLUDE, items=items, group=self.unit)

    def dag(self) -> DAG:
        """Return the DAG."""
        number, sentence = self.heading
        with DAG(
            dag_id=self.dag_id,
            description=f"{number}: {sentence}",
            doc_md=self.doc,
            schedule=schedule(self.dag_id, self.cron, *self.listens),
            start_date=START,
            catchup=False,
            max_active_runs=1,
            params={**project_parameter(), **self.params},
            default_args=defaults(),
            tags=["labelops", *self.tags],
        ) as dag:
            work = self.lister()

            @task_group(group_id=self.unit)
            def group(item: Any) -> None:
                outputs: dict[str, Any] = {}
                last: BaseOperator | None = None
                for step in self.steps:
                    task = self.task(step.name, item, outputs.__getitem__)
                    outputs[step.name] = task.output
                    if last is not None:
                        last >> task
                    last = task

            done = group.expand(item=work.output)
            done >> self.announcer(work.output) >> self.concluder(work.output)
        return dag


USE_CASES: dict[str, UseCase] = {}
"""The use cases of the DAG files that were read."""


def use_case(
    dag_id: str,
    doc: str,
    *,
    unit: str,
    lists: Step,
    steps: Sequence[Kind],
    listens: Sequence[Asset] = (),
    announces: Asset | None = None,
    params: Mapping[str, Param] | None = None,
    by_hand: Sequence[str] = (),
    cron: str | None = None,
    tags: Sequence[str] = (),
) -> DAG:
    """Return the DAG of a use case.

    :param doc: its page in the UI; the first line is ``### <dag_id> (<number>): <one sentence>``.
    :param unit: what one work item is; the mapped task group is called so.
    :param lists: yields one project's work items.
    :param steps: what is done for each item, in order. The last :class:`Step` returns the item's ``ItemResult``.
    :param listens: assets whose change starts a run.
    :param announces: the asset that a run changes.
    :param params: run parameters beside ``project``.
    :param by_hand: those of them that decide something in a person's name, and so need exactly one project.
    :param cron: its clock (UTC, five fields), which the schedule file may change.
    """
    made = UseCase(
        dag_id,
        doc,
        unit,
        lists,
        tuple(steps),
        tuple(listens),
        announces,
        dict(params or {}),
        tuple(by_hand),
        cron,
        tuple(tags),
    )
    USE_CASES[dag_id] = made
    return made.dag()
