"""The validation pack: which tests prove which requirement, and what came of them, as ``docs/validation.md``.

``make validation`` runs the tests that carry ``@pytest.mark.proves("…")`` and writes the page. A requirement is one of
the promises by its short name (``P1``), or a sentence.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.workers import is_worker

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "validation.md"

PROMISES = {
    "P1": "Nothing unapproved leaves: a version is released only with every approval its policy demands, for exactly "
    "that digest, read again at its source",
    "P2": "Four eyes: nobody approves what they labelled, adjudicated or requested; the service cannot sign",
    "P3": "Killed at any moment and run again, the result is that of a run that was never killed",
    "P4": "A run with nothing to do writes nothing",
    "P5": "Every label is traceable, and an answer that was changed or vanished is found",
    "P6": "The ledger shows tampering to a verifier that needs no secret",
    "P7": "Bad input is set aside with its reason, and loses nothing",
    "P8": "Each run works out what is pending; a lost event costs time alone",
    "P9": "Memory does not grow with the data",
    "P10": "Content goes only where its class allows",
}

HEAD = """\
# Validation

For the auditor and whoever qualifies an installation: each promise and requirement, the tests that show it, and what
came of them. `make validation` runs exactly these tests and writes this page; `make test` runs them with all others,
and fails if a test here was added, renamed or removed without the page.

1. [Promises](#1-promises) · 2. [Requirements](#2-requirements) · 3. [Known limits](#3-known-limits)

"""

LIMITS = """\
## 3. Known limits

- Everything was run against local stand-ins and real database servers, nothing against a live tenant of Confluence or
  OpenText or a licensed Prodigy: [assumptions](assumptions.md) lists each belief about them with its setting.
- Kills and faults are those of [faults](faults.md), on one machine; a power cut of the machine itself is not among
  them.
- Who holds the database, the store and the signing key together can write a new past. The verifier finds it only
  against a checkpoint, a key id or a release that was kept elsewhere: keep them elsewhere.
- A name in Prodigy is what the annotator's session says. The register maps it; Prodigy does not prove it.
- Coefficients of agreement are checked against published examples and other libraries, not certified.
- Celery, Kubernetes, cloud stores, MySQL itself (MariaDB was) and the image were not run.
"""


@dataclass(frozen=True, order=True)
class Proof:
    """One test that carries the mark: what it proves and where it is."""

    requirement: str
    file: str
    test: str


def marks() -> list[Proof]:
    """Return every mark in the tests, read from their source."""
    found = set()
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        name = path.relative_to(ROOT).as_posix()
        whole = list(_module_marks(tree))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for requirement in [*whole, *(one for each in node.decorator_list for one in _requirements(each))]:
                    found.add(Proof(requirement, name, node.name))
    return sorted(found)


def _module_marks(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(getattr(one, "id", "") == "pytestmark" for one in node.targets):
            for one in ast.walk(node.value):
                yield from _requirements(one)


def _requirements(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "proves":
        for argument in node.args:
            assert isinstance(argument, ast.Constant), "a requirement is spelled out where it is proved"
            yield str(argument.value)


def listed() -> list[Proof]:
    """Return what the page says is proved."""
    found, requirement = [], ""
    for line in PAGE.read_text("utf-8").splitlines():
        row = re.fullmatch(r"\| (.*?) \| \[`(\w+)`\]\(\.\./(\S+)\) \| .* \|", line)
        if row:
            requirement = row[1] or requirement
            found.append(Proof(re.sub(r"^\*\*(P\d+)\*\* .*", r"\1", requirement), row[3], row[2]))
    return sorted(found)


def page(results: dict[tuple[str, str], list[str]]) -> str:
    """Return the page.

    :param results: the outcomes of each test's cases, by file and name.
    """
    rows: dict[str, list[Proof]] = defaultdict(list)
    for proof in marks():
        rows[proof.requirement].append(proof)
    promises = [(f"**{name}** {text}", rows.pop(name, [])) for name, text in PROMISES.items()]
    parts = [HEAD, "## 1. Promises\n\n", *_table(promises, results)]
    parts += ["\n## 2. Requirements\n\n", *_table(sorted(rows.items()), results), "\n", LIMITS]
    return "".join(parts)


def _table(rows: list[tuple[str, list[Proof]]], results: dict[tuple[str, str], list[str]]) -> Iterator[str]:
    yield "| requirement | test | result |\n|---|---|---|\n"
    for requirement, proofs in rows:
        for place, proof in enumerate(proofs):
            link = f"[`{proof.test}`](../{proof.file})"
            outcome = _outcome(results.get((proof.file, proof.test)))
            yield f"| {requirement if place == 0 else ''} | {link} | {outcome} |\n"


def _outcome(found: list[str] | None) -> str:
    if not found:
        return "not run"
    counts = {name: found.count(name) for name in ("passed", "failed", "skipped") if name in found}
    return ", ".join(f"{count} {name.upper() if name == 'failed' else name}" for name, count in counts.items())


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--validation", metavar="FILE", help="write what came of the tests that prove a requirement")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--validation") and not is_worker(config):
        config.pluginmanager.register(_Pack(Path(config.getoption("--validation"))))


class _Pack:
    """Keeps what came of each test, whichever process ran it, and writes the page at the end."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._results: dict[tuple[str, str], list[str]] = defaultdict(list)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            file, _, name = report.nodeid.partition("::")
            self._results[file, name.partition("[")[0]].append(report.outcome)

    def pytest_sessionfinish(self) -> None:
        self._place.write_text(page(self._results), "utf-8")
        sys.stdout.write(f"\nwrote {self._place}\n")
