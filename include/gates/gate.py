"""Running a suite with Great Expectations over rows that need not fit into memory."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import sqlite3
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import lru_cache
from itertools import islice
from typing import Any

from include.base.disk import scratch_folder
from include.base.errors import InvalidInput, LabelopsError
from include.base.store import StorePath
from include.gates.results import LISTED, CheckResult, GateResult
from include.gates.suites import Check, Suite

__all__ = ["GateBroken", "read_rows", "run_suite", "value_of"]

_WHOLE = ("row_count", "count_where")


class GateBroken(LabelopsError):
    """A check could not run: the gate is at fault, and says nothing about the data."""


def run_suite(rows: Iterable[Mapping[str, Any]] | StorePath, suite: Suite, *, chunk_rows: int = 10_000) -> GateResult:
    """Run every check of a suite and merge what the chunks gave.

    Each value check is a Great Expectations expectation run on chunks. Two kinds need the whole batch, which no
    chunk sees: for ``unique`` an index on disk counts how often each value came before, and the expectation is on that
    count (so the first row of a value passes and later ones fail); whole-batch counts are summed, and the
    expectation is run on the sum. A value of the wrong type fails its check, it does not break the gate.

    :param rows: rows, or the path of a JSON Lines file, whose digest the result then has as ``data``. A row without the
        suite's id is named by its place, ``row 1``.
    :raises GateBroken: when a check raised.
    :raises InvalidInput: for a staged line that is no JSON object.
    """
    read = hashlib.sha256()
    source = read_rows(rows, read) if hasattr(rows, "open") else iter(rows)
    with scratch_folder("gate") as folder, _quiet():
        engine = _Engine(suite)
        with closing(sqlite3.connect(str(folder / "seen.db"), isolation_level=None)) as index:
            index.execute("PRAGMA journal_mode=OFF")
            index.execute("CREATE TABLE seen (check_number INT, value BLOB, PRIMARY KEY (check_number, value))")
            state = _State(suite, index)
            while chunk := list(islice(source, chunk_rows)):
                state.chunk(engine, chunk)
            state.whole(engine)
        result = state.result(engine.version)
    result.data = read.hexdigest() if hasattr(rows, "open") else ""
    return result


def read_rows(path: StorePath, read: hashlib._Hash | None = None) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON Lines file.

    :param read: is told every byte that is read.
    :raises InvalidInput: naming file and line.
    """
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if read is not None:
                read.update(line)
            try:
                value = json.loads(line)
            except ValueError as error:
                raise InvalidInput(f"{path}: line {number}: not JSON ({type(error).__name__})") from error
            if not isinstance(value, dict):
                raise InvalidInput(f"{path}: line {number}: found {type(value).__name__}; allowed: an object")
            yield value


def value_of(row: Mapping[str, Any], column: str) -> Any:
    """Return a row's value: ``a.b`` reaches into objects, ``a|b`` is the first one that is there, None if none is."""
    return _getter(column)(row)


@lru_cache(maxsize=256)
def _getter(column: str) -> Callable[[Mapping[str, Any]], Any]:
    """Return what reads a column, its name taken apart once and not for every row."""
    ways = [(name, tuple(name.split(".")) if "." in name else ()) for name in column.split("|")]
    if len(ways) == 1 and not ways[0][1]:
        return lambda row: row.get(column)

    def get(row: Mapping[str, Any]) -> Any:
        for name, steps in ways:
            found: Any = row.get(name)
            if found is None and steps:
                found = row
                for step in steps:
                    found = found.get(step) if isinstance(found, (dict, Mapping)) else None
            if found is not None:
                return found
        return None

    return get


class _State:
    """What is kept between chunks: one byte a row for each check that failed somewhere, and some ids."""

    def __init__(self, suite: Suite, index: sqlite3.Connection) -> None:
        self.suite, self.name, self.index = suite, suite.id_column, index
        self.rows = 0
        self.failing: dict[int, bytearray] = {}
        self.listed: dict[int, list[str]] = {}
        self.unexpected = [0] * len(suite.checks)
        self.totals = [0] * len(suite.checks)
        self.aside: list[str] = []

    def chunk(self, engine: _Engine, chunk: list[Mapping[str, Any]]) -> None:
        columns: dict[int, list[Any]] = {}
        failed: dict[int, set[int]] = {}
        self.index.execute("BEGIN")
        for number, check in enumerate(self.suite.checks):
            if check.kind == "row_count":
                self.totals[number] += len(chunk)
            elif check.kind == "count_where":
                self.totals[number] += sum(_concerns(check, row) for row in chunk)
            else:
                columns[number], failed[number] = self._prepare(number, check, chunk)
        self.index.execute("COMMIT")
        for number, places in engine.run(columns, len(chunk)).items():
            failed[number] |= places
        self._merge(failed, chunk)

    def _prepare(self, number: int, check: Check, chunk: list[Mapping[str, Any]]) -> tuple[list[Any], set[int]]:
        """Return the column a check is run on, and the places whose value has a type that it cannot judge."""
        values: list[Any] = []
        wrong: set[int] = set()
        get, everywhere, not_null = _getter(check.column), check.where is None, check.kind == "not_null"
        for place, row in enumerate(chunk):
            value = get(row)
            if not (everywhere or _concerns(check, row)):
                value = True if not_null else None
            elif isinstance(value, float) and math.isnan(value):
                value = None
            elif not_null:
                value = None if value is None else True
            elif check.kind == "unique" and value is not None:
                value = self._times(number, value)
            elif value is not None and not _judgeable(check, value):
                wrong.add(place)
                value = None
            values.append(value)
        return values, wrong

    def _times(self, number: int, value: Any) -> int:
        digest = hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).digest()
        made = self.index.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (number, digest)).rowcount
        return 1 if made else 2

    def _merge(self, failed: dict[int, set[int]], chunk: list[Mapping[str, Any]]) -> None:
        aside: set[int] = set()
        for number, places in failed.items():
            self.unexpected[number] += len(places)
            if not places:
                continue
            marks = self.failing.setdefault(number, bytearray())
            marks.extend(bytes(self.rows + len(chunk) - len(marks)))
            for place in places:
                marks[self.rows + place] = 1
            listed = self.listed.setdefault(number, [])
            listed += [self._called(chunk, place) for place in sorted(places)[: LISTED - len(listed)]]
            if self.suite.checks[number].on_failure == "set_aside":
                aside |= places
        self.aside += [self._called(chunk, place) for place in sorted(aside)[: max(0, LISTED - len(self.aside))]]
        self.rows += len(chunk)

    def _called(self, chunk: list[Mapping[str, Any]], place: int) -> str:
        value = value_of(chunk[place], self.name)
        return f"row {self.rows + place + 1}" if value is None else str(value)[:200]

    def whole(self, engine: _Engine) -> None:
        columns = {
            number: [self.totals[number]] for number, check in enumerate(self.suite.checks) if check.kind in _WHOLE
        }
        for number, places in engine.run(columns, 1).items():
            self.unexpected[number] = len(places)

    def result(self, engine: str) -> GateResult:
        checks = [self._check(number, check) for number, check in enumerate(self.suite.checks)]
        failed = [check for check in checks if not check.passed]
        return GateResult(
            suite=self.suite.name,
            rows=self.rows,
            checks=checks,
            stopped=any(check.severity == "critical" and check.on_failure == "stop" for check in failed),
            set_aside=self.aside,
            set_aside_rows=self._set_aside_rows(),
            warnings=[
                f"{check.description}: not so for {check.unexpected} row(s) ({check.column})"
                for check in failed
                if check.on_failure != "stop"
            ],
            engine=engine,
            failing=self.failing,
        )

    def _check(self, number: int, check: Check) -> CheckResult:
        whole, unexpected = check.kind in _WHOLE, self.unexpected[number]
        return CheckResult(
            description=check.description,
            column=check.column,
            expected=check.expected,
            severity=check.severity,
            on_failure=check.on_failure,
            passed=not unexpected,
            observed=self._observed(number, whole),
            unexpected=unexpected,
            rows=self.listed.get(number, []),
        )

    def _observed(self, number: int, whole: bool) -> str:
        if whole:
            return f"{self.totals[number]} row(s)"
        unexpected = self.unexpected[number]
        return f"{unexpected} of {self.rows} row(s) differ" if unexpected else "as expected"

    def _set_aside_rows(self) -> int:
        merged = 0
        for number, marks in self.failing.items():
            if self.suite.checks[number].on_failure == "set_aside":
                merged |= int.from_bytes(marks, "little")
        return merged.bit_count()


def _concerns(check: Check, row: Mapping[str, Any]) -> bool:
    return check.where is None or value_of(row, check.where[0]) == check.where[1]


def _judgeable(check: Check, value: Any) -> bool:
    if check.kind == "between":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if check.kind in ("length_between", "matches"):
        return isinstance(value, str)
    return isinstance(value, (str, int, float))


class _Engine:
    """Great Expectations, with one expectation on one derived column for each check."""

    def __init__(self, suite: Suite) -> None:
        import great_expectations as gx
        from great_expectations.data_context.types.base import ProgressBarsConfig

        self.gx = gx
        self.suite = suite
        self.version = f"Great Expectations {gx.__version__}"
        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
        asset = context.data_sources.add_pandas("staged").add_dataframe_asset("rows")
        self.batches = asset.add_batch_definition_whole_dataframe("chunk")

    def run(self, columns: Mapping[int, list[Any]], rows: int) -> dict[int, set[int]]:
        """Return, for each check's column, the places (from 0) of the values that fail."""
        import pandas as pd

        if not columns:
            return {}
        frame = pd.DataFrame(
            {f"c{number}": pd.Series(values, dtype=object) for number, values in columns.items()}, index=range(rows)
        )
        suite = self.gx.ExpectationSuite(name=self.suite.name)
        try:
            for number in columns:
                suite.add_expectation(self._expectation(number))
            outcome = self.batches.get_batch(batch_parameters={"dataframe": frame}).validate(
                suite, result_format={"result_format": "COMPLETE"}
            )
        except Exception as error:
            raise GateBroken(f"suite {self.suite.name}: could not be run: {type(error).__name__}: {error}") from error
        found = dict(self._places(result) for result in outcome.results)
        if set(found) != set(columns):
            raise GateBroken(f"suite {self.suite.name}: {len(columns)} check(s) were given, {len(found)} answered")
        return found

    def _expectation(self, number: int) -> Any:
        import great_expectations.expectations as gxe

        check = self.suite.checks[number]
        common: dict[str, Any] = {"column": f"c{number}", "meta": {"check": number}, "severity": check.severity}
        if check.kind == "unique":
            return gxe.ExpectColumnValuesToBeBetween(**common, max_value=1)
        kinds: dict[str, Any] = {
            "not_null": gxe.ExpectColumnValuesToNotBeNull,
            "between": gxe.ExpectColumnValuesToBeBetween,
            "length_between": gxe.ExpectColumnValueLengthsToBeBetween,
            "matches": gxe.ExpectColumnValuesToMatchRegex,
            "in_set": gxe.ExpectColumnValuesToBeInSet,
            "row_count": gxe.ExpectColumnValuesToBeBetween,
            "count_where": gxe.ExpectColumnValuesToBeBetween,
        }
        args = {key: list(value) if isinstance(value, tuple) else value for key, value in check.args.items()}
        return kinds[check.kind](**common, **args)

    def _places(self, result: Any) -> tuple[int, set[int]]:
        number = int(result.expectation_config.meta["check"])
        check = self.suite.checks[number]
        raised = _raised(result.exception_info)
        if raised is not None:
            raise GateBroken(f"suite {self.suite.name}: check {check.description!r} could not run: {raised}")
        if result.success:
            return number, set()
        places = result.result.get("unexpected_index_list")
        if not places:
            raise GateBroken(f"suite {self.suite.name}: check {check.description!r} failed without naming a row")
        return number, {int(place) for place in places}


def _raised(info: Any) -> str | None:
    """Return the message of what a check raised: Great Expectations puts it into the result, as if data were bad."""
    if not isinstance(info, Mapping):
        return None
    if info.get("raised_exception"):
        return str(info.get("exception_message"))
    for inner in info.values():
        if isinstance(inner, Mapping) and inner.get("raised_exception"):
            return str(inner.get("exception_message"))
    return None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Great Expectations' hundreds of registration lines, and its warnings about itself, out of the task's log."""
    logger = logging.getLogger("great_expectations")
    level = logger.level
    logger.setLevel(logging.ERROR)
    # This one module sets a level of its own when it is imported, so a filter has to hold its lines back.
    talker = logging.getLogger("great_expectations.data_context.types.base")
    talker.addFilter(_only_errors)
    try:
        with warnings.catch_warnings():
            for module in (r"great_expectations(\.|$)", r"marshmallow(\.|$)", r"altair(\.|$)", r"sre_\w+$"):
                warnings.filterwarnings("ignore", category=DeprecationWarning, module=module)
                warnings.filterwarnings("ignore", category=FutureWarning, module=module)
            yield
    finally:
        logger.setLevel(level)
        talker.removeFilter(_only_errors)


def _only_errors(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR
