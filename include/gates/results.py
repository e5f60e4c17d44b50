"""What a gate found: counts and row ids, never content; as JSON and as a page of our own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

from include.base.errors import InvalidInput

__all__ = ["LISTED", "SCHEMA", "CheckResult", "GateResult", "render"]

SCHEMA = 1
"""Version of the stored JSON."""

LISTED = 100
"""How many failing row ids are listed per check; the total is always given."""


@dataclass
class CheckResult:
    """One check's outcome. ``rows`` are the first failing row ids, ``unexpected`` counts all of them."""

    description: str
    column: str
    expected: str
    severity: str
    on_failure: str
    passed: bool
    observed: str
    unexpected: int
    rows: list[str]


@dataclass
class GateResult:
    """One run of a suite over a batch.

    :param stopped: whether a critical check demands that the item ends here.
    :param set_aside: ids of the rows to leave out (the first ones; ``set_aside_rows`` counts all).
    :param warnings: sentences about what failed without stopping.
    :param failing: per check with failures, one byte a row: 1 where it failed. Kept in memory only.
    :param data: SHA-256 of the staged rows that were looked at.
    :param passed: SHA-256 of the rows that go on; empty where none do.
    :param project: whose rows they are.
    """

    suite: str
    rows: int
    checks: list[CheckResult]
    stopped: bool
    set_aside: list[str]
    set_aside_rows: int
    warnings: list[str]
    engine: str = ""
    failing: dict[int, bytearray] = field(default_factory=dict, repr=False)
    data: str = ""
    passed: str = ""
    project: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON-ready values."""
        kept = {name: value for name, value in vars(self).items() if name not in ("failing", "checks")}
        return {"schema": SCHEMA, **kept, "checks": [dict(vars(check)) for check in self.checks]}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> GateResult:
        """Return a stored result.

        :raises InvalidInput: for another schema or a missing field.
        """
        if value.get("schema") != SCHEMA:
            raise InvalidInput(f"gate result: schema: found {value.get('schema')!r}; allowed: {SCHEMA}")
        try:
            fields = {name: value[name] for name in value if name not in ("schema", "checks")}
            return cls(checks=[CheckResult(**check) for check in value["checks"]], **fields)
        except (KeyError, TypeError) as error:
            raise InvalidInput(f"gate result: malformed ({error})") from error

    def reasons(self, row: int) -> list[str]:
        """Return which checks the row at this place (from 0) failed, in the suite's order."""
        return [
            f"{self.checks[number].column}: {self.checks[number].description}"
            for number, marks in sorted(self.failing.items())
            if row < len(marks) and marks[row]
        ]


_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:64rem;padding:0 1rem;color:#1d2733}"
    "h1{font-size:1.4rem}table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;"
    "padding:.45rem .6rem;border-bottom:1px solid #d8dee6}th{background:#f3f5f8}code{font-size:.85em;"
    "overflow-wrap:anywhere}td:nth-child(2) code{overflow-wrap:normal}"
    ".state{display:inline-block;padding:.1rem .6rem;border-radius:1rem;font-weight:600}"
    ".good{background:#d9f2e0;color:#14532d}.bad{background:#fbdcdc;color:#7f1d1d}.warn{background:#fdf0cd;color:#713f12}"
    "dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem}dd{margin:0}"
)


def render(result: GateResult) -> str:
    """Return the result as a whole HTML page: everything escaped, no script, nothing loaded from elsewhere."""
    state, kind = ("Stopped", "bad") if result.stopped else ("Passed", "good")
    if not result.stopped and (result.warnings or result.set_aside_rows):
        state, kind = "Passed with remarks", "warn"
    rows = "".join(_row(check) for check in result.checks)
    passed = sum(check.passed for check in result.checks)
    heading = f"Gate {escape(result.suite)}" + (f" of {escape(result.project)}" if result.project else "")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{heading}: {state}</title><style>{_STYLE}</style></head><body>"
        f'<h1>{heading} <span class="state {kind}">{state}</span></h1>'
        f"<dl><dt>Rows looked at</dt><dd>{result.rows}</dd><dt>Rows set aside</dt><dd>{result.set_aside_rows}</dd>"
        f"<dt>Checks passed</dt><dd>{passed} of {len(result.checks)}</dd>"
        f"<dt>Run by</dt><dd>{escape(result.engine)}</dd></dl>"
        '<table><thead><tr><th scope="col">Check</th><th scope="col">Column</th><th scope="col">Expected</th>'
        '<th scope="col">Found</th><th scope="col">Outcome</th><th scope="col">Rows</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></body></html>"
    )


def _row(check: CheckResult) -> str:
    kind = "good" if check.passed else "bad" if check.severity == "critical" else "warn"
    outcome = "passed" if check.passed else f"{check.severity}: {check.on_failure.replace('_', ' ')}"
    names = ", ".join(f"<code>{escape(name)}</code>" for name in check.rows)
    more = check.unexpected - len(check.rows) if check.rows else 0
    return (
        f"<tr><td>{escape(check.description)}</td><td><code>{escape(check.column)}</code></td>"
        f"<td>{escape(check.expected)}</td><td>{escape(check.observed)}</td>"
        f'<td><span class="state {kind}">{escape(outcome)}</span></td>'
        f"<td>{names}{f' and {more} more' if more > 0 else ''}</td></tr>"
    )
