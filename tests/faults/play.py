"""Living through a schedule: from a template of the house, through the faults, to quiet; then all is looked at."""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from include.base.store import ABANDONED_SECONDS
from tests.faults import check, memo
from tests.faults.child import POINT_FAULTS
from tests.faults.door import WIRE_FAULTS, WireFault
from tests.faults.life import Doors, Engine, Run, World, consumer
from tests.faults.schedule import STAGES, Action, PlannedFault, Schedule, plan
from tests.house import clock_of
from tests.integration.airflow_house import environment

__all__ = ["OUTCOMES", "Outcome", "Theatre"]

OUTCOMES = (
    "absorbed",
    "task retried",
    "run repeated",
    "item failed, next run repaired it",
    "never met",
    "VIOLATION",
)
ROUNDS = 14


@dataclass
class Outcome:
    """What a seed came to.

    :param faults: for each planned fault: its kind and its outcome.
    :param violations: what the checker found; empty is good.
    """

    seed: int
    stage: str
    faults: list[tuple[str, str]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    seconds: float = 0.0
    log: list[str] = field(default_factory=list)


class Theatre:
    """The warm process: doors, templates of the stages, and one house at a time.

    :param folder: where the houses are; memory, where there is some.
    """

    def __init__(self, folder: Path | None = None) -> None:
        shared = Path("/dev/shm")
        base = folder or Path(tempfile.mkdtemp(prefix="faults-", dir=shared if shared.is_dir() else None))
        self.folder = base
        self.doors = Doors()
        self._installed = memo.install()
        logging.root.setLevel(logging.WARNING)
        self._templates: dict[str, Path] = {}

    def close(self) -> None:
        """Stop the servers and remove the houses."""
        self.doors.close()
        self._installed.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def house(self, home: Path, rows: int = 250) -> Iterator[World]:
        """Open a house behind the doors."""
        made = World(home, self.doors, rows)
        with environment(made.environment()), clock_of(made):
            try:
                yield made
            finally:
                made.close()

    def template(self, stage: str) -> Path:
        """Return a closed house in which everything up to a stage went well."""
        if stage not in self._templates:
            place = STAGES.index(stage)
            home = self.folder / f"template-{stage}"
            if place:
                shutil.copytree(self.template(STAGES[place - 1]), home)
            with self.house(home) as made:
                made.begin(place)
                if stage == "seeded":
                    made.seed()
                engine = Engine(made)
                script: dict[str, list[Any]] = {
                    "seeded": [],
                    "labelled": ["guideline_sync", "raw_data_ingestion", "people:answer"],
                    "asked": ["labeling_approval"],
                    "approved": ["people:approve", "labeling_approval"],
                    "released": ["dataset_release", "people:approve", "dataset_release", "lineage_report"],
                    "succeeded": [
                        *("people:change", "labeling_approval", "people:approve", "labeling_approval"),
                        *("dataset_release", "people:approve", "dataset_release"),
                    ],
                }
                for one in script[stage]:
                    if one.startswith("people:"):
                        made.people(one[7:])
                    else:
                        run = engine.new_run(one)
                        engine.execute(run)
                        if run.failed:
                            raise RuntimeError(f"the template {stage} failed: {engine.told.decode()}")
            self._templates[stage] = home
        return self._templates[stage]

    @contextmanager
    def copy(self, stage: str, rows: int = 250, readers: int = 1) -> Iterator[World]:
        """Open a copy of a stage's template, and remove it at the end."""
        home = self.folder / "house"
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(self.template(stage), home)
        with self.house(home, rows) as made:
            with (home / "schedules.yaml").open("a", encoding="utf-8") as more:
                more.write(f"confluence_readers: {readers}\n")
            made.begin(len(STAGES))
            memo.warm()
            yield made
        shutil.rmtree(home, ignore_errors=True)

    # --- playing ---------------------------------------------------------------------------------------------------

    def play(self, schedule: Schedule | int, *, tell: Callable[[str], None] | None = None) -> Outcome:
        """Live through a schedule and check what came of it."""
        if isinstance(schedule, int):
            schedule = plan(schedule)
        outcome = Outcome(schedule.seed, schedule.stage)

        def note(text: str) -> None:
            outcome.log.append(text)
            if tell:
                tell(text)

        for line in schedule.lines():
            note(line)
        started = time.perf_counter()
        seed = schedule.seed
        with self.copy(schedule.stage, 2 if seed % 3 == 0 else 250, 4 if seed % 5 == 0 else 1) as made:
            engine = Engine(made, note)
            try:
                left: list[PlannedFault] = []
                for action in schedule.actions:
                    left = self._act(engine, action, left, note)
                calm = self._until_quiet(engine, left, note)
                outcome.violations += [] if calm else [f"not quiet after {ROUNDS} rounds"]
                outcome.violations += check.problems(made, engine)
            except Exception as error:
                import traceback

                note(traceback.format_exc())
                outcome.violations.append(f"the harness failed: {type(error).__name__}: {error}")
                engine.disarm()
            outcome.faults = [(one.kind, _came_to(engine, one)) for one in schedule.faults]
            if tell:
                tell(engine.told.decode("utf-8", "replace"))
        outcome.seconds = time.perf_counter() - started
        return outcome

    def _act(
        self, engine: Engine, action: Action, left: list[PlannedFault], note: Callable[[str], None]
    ) -> list[PlannedFault]:
        """Do one thing of a schedule; return the faults that have not met anything yet."""
        if action.people:
            note(f" * people: {action.people}: {engine.world.people(action.people)}")
            return left
        note(f" * run {action.run}")
        run = self._run(engine, action.run)
        planned = left + action.faults
        if run is None:
            return planned
        self._execute(engine, [run], planned, note)
        listener = consumer(run.announced)
        times = action.follow
        for one in planned:
            if one.kind == "run repeated":
                again = self._run(engine, action.run)
                if again is not None:
                    engine.execute(again)
                engine.hits[one.number] = None
            if listener and one.kind in ("asset event lost", "asset event twice"):
                times = 0 if one.kind.endswith("lost") else 2
                engine.hits[one.number] = None
        for _ in range(times if listener else 0):
            engine.execute(engine.new_run(str(listener)))
        return [one for one in planned if one.number not in engine.hits]

    def _execute(
        self, engine: Engine, script: list[Any], planned: list[PlannedFault], note: Callable[[str], None]
    ) -> None:
        """Execute a script under the faults that are planned; one of those that act in the child at a time."""
        point = next((one for one in planned if one.kind in POINT_FAULTS), None)
        for one in planned:
            if one.kind in WIRE_FAULTS:
                engine.arm_wire(one.number, one.door, WireFault(one.kind, one.nth, one.times, one.writes, one.only))
        armed = None
        if point is not None:
            armed = {name: getattr(point, name) for name in ("kind", "nth", "number", "bytes", "only")}

        def partner() -> None:
            other = self._run(engine, point.partner) if point else None
            if other is not None:
                note(f"   meanwhile: run {other.dag_id}")
                engine.execute(other)

        engine.execute(*script, armed=armed, partner=partner)
        engine.disarm()

    def _run(self, engine: Engine, dag: str) -> Run | None:
        """Return a new run; of a wait, for one of those that were started; of a withdrawal, of the newest version."""
        if dag.endswith("withdrawal"):
            order = check.a_withdrawal(engine.world, oldest=dag.startswith("base"))
            return None if order is None else engine.new_run("labeling_approval", order)
        if dag != "decision_wait":
            return engine.new_run(dag)
        conf = next(iter(engine.waits.values()), None) or check.a_wait(engine.world)
        return None if conf is None else engine.new_run(dag, conf)

    def _until_quiet(self, engine: Engine, left: list[PlannedFault], note: Callable[[str], None]) -> bool:
        """Let runs come and people do their part until nothing changes any more.

        The first round meets the faults that have met nothing yet; the last one, without any, has to change nothing.
        """
        before = None
        for number in range(ROUNDS):
            if list((engine.world.home / "store" / "ledger" / "checkpoints").glob(".*")):
                # A run leaves a file that was begun this second: its writer may not hold it yet. This one is dead.
                time.sleep(ABANDONED_SECONDS)
            note(f" * round {number + 1}" + (f", {len(left)} fault(s) still to come" if left else ""))
            script: list[Any] = []
            for dag, then in _ROUND if number == 0 or left else _QUIET:
                script.append(engine.new_run(dag, light=dag != "lineage_report"))
                if then:
                    script.append(then)
            self._execute(engine, script, left, note)
            after = check.everything(engine.world)
            if after == before and not left:
                return True
            before = after
            left = [] if number else [one for one in left if one.number not in engine.hits and one.kind in POINT_FAULTS]
        return False


_QUIET = (
    ("guideline_sync", ""), ("raw_data_ingestion", "answer"), ("labeling_approval", "approve"),
    ("dataset_release", "approve"), ("lineage_report", ""),
)  # fmt: skip
_ROUND = (
    ("guideline_sync", ""), ("raw_data_ingestion", "answer"), ("labeling_approval", "approve"),
    ("labeling_approval", ""), ("dataset_release", "approve"), ("dataset_release", ""), ("lineage_report", ""),
)  # fmt: skip


def _came_to(engine: Engine, fault: PlannedFault) -> str:
    """Say what a fault came to, from what became of the try that it hit."""
    if fault.number not in engine.hits:
        return "never met"
    one = engine.hits[fault.number]
    if one is None or fault.kind == "two runs at once":
        later = (
            [] if one is None else [tried for tried in engine.tries if tried.run == one.run and tried.state == "failed"]
        )
        return "run repeated" if not later else "item failed, next run repaired it"
    tries = [tried for tried in engine.tries if (tried.run, tried.task) == (one.run, one.task) and not tried.ghost]
    if one.state in ("success", "skipped", "deferred"):
        return "absorbed"
    if any(tried.number > one.number and tried.state in ("success", "skipped", "deferred") for tried in tries):
        return "task retried"
    return "item failed, next run repaired it"
