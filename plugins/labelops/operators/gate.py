"""The gate between reading and writing: a quality suite on the staged batch, its result on record and on a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import BaseOperator, BaseOperatorLink
from airflow.sdk.exceptions import AirflowSkipException

from include.base.errors import InvalidInput, Refused

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context
    from airflow.sdk.types import TaskInstanceKey

    from include.base.store import Store, StorePath
    from include.gates.results import GateResult

__all__ = ["GateFailed", "GateOperator", "GateResultLink"]


class GateFailed(Refused):
    """The data did not pass a gate. Running again changes nothing until the data changes."""


class GateResultLink(BaseOperatorLink):
    """The button on the task that opens the gate's result page.

    Airflow stores the link when the task ends, and knows it by the plugin's ``operator_extra_links``.
    """

    @property
    def name(self) -> str:
        """Return the button's text."""
        return "Gate result"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the page's address on this Airflow, below its root."""
        parts = (ti_key.dag_id, ti_key.run_id, ti_key.task_id, ti_key.map_index, ti_key.try_number)
        return "/labelops/gates/" + "/".join(quote(str(part), safe="") for part in parts)


class GateOperator(BaseOperator):
    """Run a suite on staged rows: stop, set rows aside, or go on with remarks.

    Writes ``gates/<dag>/<run>/<task>/<map index>/<try>/result.json`` (counts and row ids, no content), puts failing
    rows into the project's quarantine, and, where rows are set aside, stages the rest as a file of its own.

    :param suite: name of the suite, one of :data:`include.gates.suites.SUITES`.
    :param staged: path of the JSON Lines file, or a mapping with ``staged``. (templated)
    :param project: the project's name, or a work item with ``project``. (templated)
    :param parameters: limits that differ from the project's. (templated)
    """

    template_fields = ("staged", "project", "parameters")
    operator_extra_links = (GateResultLink(),)

    def __init__(
        self, *, suite: str, staged: Any, project: Any, parameters: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> None:
        kwargs.setdefault(
            "map_index_template",
            "{% if task.project is mapping %}{{ task.project['project'] }} · {{ task.project['name'] }}"
            "{% else %}{{ task.project }}{% endif %}",
        )
        super().__init__(**kwargs)
        self.suite = suite
        self.staged = staged
        self.project = project
        self.parameters = parameters

    def execute(self, context: Context) -> dict[str, Any]:
        """Return ``passed`` (path), ``rows``, ``set_aside``, ``warnings`` and ``result`` (path below the store).

        :raises GateFailed: when a critical check stops the item.
        :raises GateBroken: when a check could not run.
        :raises InvalidInput: when there is no staged file.
        """
        from include.gates.gate import run_suite
        from include.gates.suites import suite_for
        from include.projects.load import load_project
        from include.settings import settings
        from labelops.runtime import location, open_store

        chosen = settings()
        store = open_store(chosen)
        project = load_project(chosen.projects, self._project_name())
        place = self._place(context)
        staged_at = self._staged_path()
        staged = location(staged_at, chosen.store_conn_id)
        if not staged.exists():
            raise InvalidInput(f"gate {self.suite}: nothing is staged at {staged_at}")
        suite = suite_for(self.suite, project, self.parameters)
        result = run_suite(staged, suite)
        result.project = project.name
        passed = staged_at
        if not result.stopped:
            passed, result.passed = self._passed(store, place, staged, staged_at, result)
        report = self._write_result(store, place, result)
        quarantined = self._quarantine(store, project, staged, suite.id_column, result, context)
        self._tell(result, project.name, quarantined)
        if result.stopped:
            failed = [one for one in result.checks if not one.passed and one.on_failure == "stop"]
            raise GateFailed(
                f"gate {self.suite} of {project.name}: "
                + "; ".join(f"{one.description}: expected {one.expected}, found {one.observed}" for one in failed)
            )
        return {
            "passed": passed,
            "rows": result.rows - result.set_aside_rows,
            "set_aside": result.set_aside_rows,
            "warnings": result.warnings,
            "result": report,
        }

    def _project_name(self) -> str:
        return str(self.project["project"] if isinstance(self.project, Mapping) else self.project)

    def _staged_path(self) -> str:
        found = self.staged.get("staged") if isinstance(self.staged, Mapping) else self.staged
        if isinstance(self.staged, Mapping) and "staged" in self.staged and found is None:
            raise AirflowSkipException("The step before staged no rows, so there is nothing to check.")
        if not found:
            raise InvalidInput(
                f"gate {self.suite}: the step before staged nothing (found {type(self.staged).__name__})"
            )
        return str(found)

    def _place(self, context: Context) -> tuple[str, ...]:
        from labelops.runtime import name_in_store

        ti = context["ti"]
        parts = (ti.dag_id, ti.run_id, ti.task_id, ti.map_index, ti.try_number)
        return tuple(name_in_store(part) for part in parts)

    def _write_result(self, store: Store, place: tuple[str, ...], result: GateResult) -> str:
        import json

        from include.base.store import atomic_write

        parts = ("gates", *place, "result.json")
        content = json.dumps(result.as_dict(), ensure_ascii=False, sort_keys=True, indent=1, allow_nan=False)
        atomic_write(store.at(*parts), content.encode("utf-8") + b"\n")
        return "/".join(parts)

    def _quarantine(
        self, store: Store, project: Any, staged: StorePath, id_column: str, result: GateResult, context: Context
    ) -> str | None:
        """Keep which rows failed a critical check and why; return where, None when none did."""
        from include.ingestion.quarantine import put

        ti = context["ti"]
        critical = {number for number, check in enumerate(result.checks) if check.severity == "critical"}
        if not any(number in critical for number in result.failing):
            return None
        run = f"{ti.dag_id}/{ti.run_id}/{ti.task_id}/{ti.map_index}/{ti.try_number}"
        return str(put(store, project, f"gate_{self.suite}", _failing(staged, id_column, result, critical), run))

    def _passed(
        self, store: Store, place: tuple[str, ...], staged: StorePath, staged_at: str, result: GateResult
    ) -> tuple[str, str]:
        """Return the file of the rows that go on and its SHA-256: the staged one where nothing was set aside."""
        from include.base.store import atomic_file, measure

        if not result.set_aside_rows:
            return staged_at, result.data
        aside = [marks for number, marks in result.failing.items() if result.checks[number].on_failure == "set_aside"]
        passed = store.at("staging", *place, "passed.jsonl")
        with staged.open("rb") as lines, atomic_file(passed) as out:
            for row, line in enumerate(lines):
                if not any(row < len(marks) and marks[row] for marks in aside):
                    out.write(line)
        return str(passed), measure(passed).sha256

    def _tell(self, result: GateResult, project: str, quarantined: str | None) -> None:
        passed = sum(check.passed for check in result.checks)
        looked = f"Gate {self.suite} of {project} looked at {result.rows} row(s)"
        counts = f"{passed} of {len(result.checks)} checks passed, {result.set_aside_rows} row(s) set aside"
        self.log.info(f"{looked}: {counts}. The item {'stops here' if result.stopped else 'goes on'}.")
        for check in result.checks:
            if not check.passed:
                what = f"{check.description} ({check.severity}, {check.on_failure})"
                self.log.warning(f"{what}: expected {check.expected}, found {check.observed}.")
        if quarantined:
            self.log.info("The failing rows and their reasons are in %s.", quarantined)


def _failing(staged: StorePath, id_column: str, result: GateResult, critical: set[int]) -> Iterator[dict[str, Any]]:
    import json

    from include.base.canonical import sha256_hex
    from include.gates.gate import read_rows, value_of

    for place, row in enumerate(read_rows(staged)):
        if not any(
            place < len(marks) and marks[place] for number, marks in result.failing.items() if number in critical
        ):
            continue
        yield {
            "file": staged.name,
            "line": place + 1,
            "record": value_of(row, id_column),
            "reason": "; ".join(result.reasons(place)),
            "sha256": sha256_hex(json.dumps(row, sort_keys=True).encode()),
            "content": json.dumps(row, ensure_ascii=False),
            "sources": row["labelops"].get("sources") if isinstance(row.get("labelops"), dict) else None,
        }
