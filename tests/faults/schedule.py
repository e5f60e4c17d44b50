"""From a seed to a schedule: which runs, what people do in between, and which faults hit where."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from tests.faults.child import POINT_FAULTS
from tests.faults.door import WIRE_FAULTS

__all__ = ["RUN_FAULTS", "STAGES", "Action", "PlannedFault", "Schedule", "plan"]

RUN_FAULTS = ("run repeated", "asset event lost", "asset event twice")
STAGES = ("seeded", "labelled", "asked", "approved", "released", "succeeded")

_WAY = (
    "run guideline_sync", "run raw_data_ingestion", "people answer", "run labeling_approval", "people approve",
    "run labeling_approval", "run dataset_release", "people approve", "run dataset_release", "run lineage_report",
    "people change", "run labeling_approval", "people approve", "run labeling_approval", "run dataset_release",
    "people approve", "run dataset_release", "run base withdrawal", "run dataset_release", "run labeling_approval",
    "people approve", "run withdrawal", "run dataset_release", "run lineage_report",
)  # fmt: skip
"""The way of a dataset, from which a schedule departs."""

_BEGINS = {"seeded": 0, "labelled": 3, "asked": 4, "approved": 6, "released": 9, "succeeded": 17}
_ALL = ("guideline_sync", "raw_data_ingestion", "labeling_approval", "dataset_release", "lineage_report")
_RUNS = (*_ALL, "decision_wait", "withdrawal", "base withdrawal")
_PEOPLE = ("edit", "edit", "file", "mend", "answer", "approve", "quality", "reject", "rework", "wait", "change", "drop")
_DOORS: dict[str, tuple[str, ...]] = {
    "guideline_sync": ("confluence",),
    "raw_data_ingestion": (),
    "labeling_approval": ("opentext", "opentext", "confluence"),
    "withdrawal": ("opentext",),
    "base withdrawal": ("opentext",),
    "dataset_release": ("opentext",),
    "decision_wait": ("opentext",),
    "lineage_report": ("confluence", "confluence", "opentext"),
}
_READS = {
    "guideline_sync": 10,
    "labeling_approval": 14,
    "withdrawal": 6,
    "base withdrawal": 6,
    "dataset_release": 16,
    "decision_wait": 8,
    "lineage_report": 12,
}
"""About how many requests a run makes, so that most faults meet one."""
_POINTS = {
    "guideline_sync": 40, "raw_data_ingestion": 30, "labeling_approval": 60, "withdrawal": 20, "base withdrawal": 20,
    "dataset_release": 70,
    "lineage_report": 55, "decision_wait": 12,
}  # fmt: skip


@dataclass
class PlannedFault:
    """A fault and where it is to hit.

    :param door: for a fault on the wire: whose connection.
    :param nth: which request, or which point of the child.
    :param only: count only the points whose description holds this text.
    """

    number: int
    kind: str
    door: str = ""
    nth: int = 1
    times: int = 1
    writes: bool = False
    bytes: int = 0
    only: str = ""
    partner: str = ""


@dataclass
class Action:
    """A run of a DAG, or something people do.

    A run ``withdrawal`` is one of ``labeling_approval`` with that order, of the newest version; a ``base withdrawal``,
    of the oldest.
    """

    run: str = ""
    people: str = ""
    follow: int = 0
    faults: list[PlannedFault] = field(default_factory=list)


@dataclass
class Schedule:
    """What a seed says."""

    seed: int
    stage: str
    actions: list[Action]

    @property
    def faults(self) -> list[PlannedFault]:
        return [fault for action in self.actions for fault in action.faults]

    def lines(self) -> list[str]:
        """Return the schedule for a reader."""
        told = [f"seed {self.seed}: begins {self.stage}"]
        for action in self.actions:
            what = f"run {action.run}" if action.run else f"people: {action.people}"
            faults = "; ".join(_told(one) for one in action.faults)
            told.append(f" - {what}" + (f"  [{faults}]" if faults else ""))
        return told


def _told(fault: PlannedFault) -> str:
    where = f" at {fault.door}" if fault.door else ""
    which = f", {'write' if fault.writes else 'request'} {fault.nth} ×{fault.times}" if fault.door else ""
    point = f", point {fault.nth}" if fault.kind in POINT_FAULTS else ""
    partner = f" ({fault.partner})" if fault.partner else ""
    return f"{fault.number}: {fault.kind}{where}{which}{point}{partner}"


def plan(seed: int) -> Schedule:
    """Return the schedule of a seed: always the same."""
    rng = random.Random(seed)
    stage = rng.choices(STAGES, (3, 3, 2, 2, 2, 3))[0]
    way = list(_WAY[_BEGINS[stage] :][: rng.randint(2, 5)])
    for _ in range(rng.choice((0, 1, 1, 2))):
        if rng.random() < 0.5:
            way.insert(rng.randrange(len(way) + 1), f"people {rng.choice(_PEOPLE)}")
        else:
            way.insert(
                rng.randrange(len(way) + 1),
                f"run {rng.choice((*_ALL, 'decision_wait', 'withdrawal', 'base withdrawal'))}",
            )
    if rng.random() < 0.3:
        one, other = rng.randrange(len(way)), rng.randrange(len(way))
        way[one], way[other] = way[other], way[one]
    actions = []
    for step in way:
        kind, _, name = step.partition(" ")
        action = Action(run=name, follow=int(rng.random() < 0.2)) if kind == "run" else Action(people=name)
        actions.append(action)
    runs = [one for one in actions if one.run]
    if not runs:
        runs = [Action(run="labeling_approval")]
        actions += runs
    for number in range(rng.choices((1, 2, 3, 4), (4, 3, 2, 1))[0]):
        action = rng.choice(runs)
        action.faults.append(_fault(rng, number, action))
    return Schedule(seed, stage, actions)


def _fault(rng: random.Random, number: int, action: Action) -> PlannedFault:
    doors = _DOORS[action.run]
    taken = {one.kind for one in action.faults}
    kinds: list[Any] = list(RUN_FAULTS) if rng.random() < 0.08 else []
    if not kinds:
        point = any(kind in POINT_FAULTS for kind in taken)
        kinds = list(WIRE_FAULTS) if doors and (point or rng.random() < 0.6) else list(POINT_FAULTS)
        if kinds == list(POINT_FAULTS):
            kinds = ["killed", "killed", "orphan goes on after its retry", "two runs at once", *POINT_FAULTS]
            if point:
                kinds = list(RUN_FAULTS)
    kind = rng.choice(kinds)
    if kind in RUN_FAULTS:
        return PlannedFault(number, kind)
    if kind in POINT_FAULTS:
        nth = rng.randint(1, 12 if kind.startswith("disk full") else _POINTS[action.run])
        partner = rng.choice((action.run, action.run, *_ALL)) if kind == "two runs at once" else ""
        size = rng.choice((0, 100, 1000, 5000, 40_000, 120_000))
        return PlannedFault(number, kind, nth=nth, bytes=size, partner=partner)
    writes = rng.random() < 0.5 and action.run not in ("guideline_sync", "decision_wait")
    nth = rng.randint(1, 3) if writes else rng.randint(1, _READS[action.run])
    times = rng.choice((1, 1, 1, 2, 3, 5, 7, 30))
    return PlannedFault(number, kind, door=rng.choice(doors), nth=nth, times=times, writes=writes)
