"""Write what the documents say of the DAGs, from the DAG files: ``make docs``; ``--check`` only compares.

A document holds a part between ``<!-- dags: NAME -->`` and ``<!-- dags: end -->``, which is written anew.
"""

from __future__ import annotations

import ast
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "plugins"), str(ROOT / "dags")]

if TYPE_CHECKING:
    from labelops.flow import UseCase

DOCUMENTS = ("README.md", "dags/README.md")
PART = re.compile(r"(<!-- dags: (\w+) -->\n).*?(<!-- dags: end -->)", re.S)


def main(arguments: list[str]) -> int:
    """Write the documents, or tell which are not in step."""
    behind = []
    for name in DOCUMENTS:
        place = ROOT / name
        before = place.read_text("utf-8")
        after = PART.sub(lambda found: found[1] + PARTS[found[2]]() + found[3], before)
        if after != before:
            behind.append(name)
            if "--check" not in arguments:
                place.write_text(after, "utf-8")
    if behind and "--check" in arguments:
        print(f"not in step with the DAG files: {', '.join(behind)}; run `make docs`")  # noqa: T201
    return int(bool(behind) and "--check" in arguments)


def pages() -> dict[str, str]:
    """Return each DAG's page, by DAG id."""
    files = (ROOT / "dags").glob("*.py")
    found = {path.stem: ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "" for path in files}
    return dict(sorted(found.items(), key=_number))


def _number(named: tuple[str, str]) -> tuple[str, int, str]:
    """Return the place of a DAG: by its use case's number, helpers last."""
    found = re.match(r"### \w+ \(([A-Z])(\d+)\)", named[1])
    return (found[1], int(found[2]), named[0]) if found else ("Z", 0, named[0])


def use_cases() -> dict[str, UseCase]:
    """Return the use cases that the DAG files make."""
    from labelops.flow import USE_CASES

    for dag_id in pages():
        import_module(dag_id)
    return USE_CASES


def _sentence(page: str) -> str:
    found = re.match(r"### \w+(?: \(\w+\))?: (.+)", page)
    return found[1] if found else ""


def _when(case: UseCase | None) -> str:
    """Say when a DAG runs."""
    if case is None:
        return "started by other DAGs"
    ways = [f"when `{asset.name}` changed" for asset in case.listens]
    return ", ".join([*([_clock(case.cron)] if case.cron else []), *ways, "by hand"])


def _clock(cron: str) -> str:
    minute, hour, *rest = cron.split()
    if rest == ["*", "*", "*"]:
        if minute.isdigit() and hour.isdigit():
            return f"daily at {int(hour):02}:{int(minute):02}"
        if minute.isdigit() and hour == "*":
            return f"hourly, {int(minute)} minutes past"
        if minute.startswith("*/") and hour == "*":
            return f"every {minute[2:]} minutes"
    return f"`{cron}`"


def short_table() -> str:
    """Return the table of the README."""
    cases = use_cases()
    rows = [f"| `{dag_id}` | {_when(cases.get(dag_id))} | {_sentence(page)} |" for dag_id, page in pages().items()]
    return "\n".join(["| DAG | runs (UTC) | what it does |", "|---|---|---|", *rows, ""])


def long_table() -> str:
    """Return the table of the DAGs' own page."""
    cases, rows = use_cases(), []
    for dag_id, page in pages().items():
        case = cases.get(dag_id)
        if case is None:
            rows.append(f"| `{dag_id}` | helper | | | | {_sentence(page)} |")
            continue
        clock, listens = f"`{case.cron}`" if case.cron else "", ", ".join(f"`{one.name}`" for one in case.listens)
        announces = f"`{case.announces.name}`" if case.announces else ""
        steps = [case.lists, *case.steps]
        systems = list(dict.fromkeys(one for step in steps for one in getattr(step, "on", ())))
        rows.append(f"| `{dag_id}` | {case.heading[0]} | {clock} | {listens} | {announces} | {', '.join(systems)} |")
    head = "| DAG | use case | schedule | asset in | asset out | talks to |"
    return "\n".join([head, "|---|---|---|---|---|---|", *rows, ""])


def purposes() -> str:
    """Return a paragraph on each DAG: the first of its page."""
    parts = []
    for dag_id, page in pages().items():
        found = re.search(r"\*\*Purpose\.\*\* (.+?)(?:\n\n|\Z)", page, re.S)
        parts.append(f"## {dag_id}\n\n{found[1] if found else _sentence(page)}\n")
    return "\n" + "\n".join(parts) + "\n"


PARTS = {"short": short_table, "long": long_table, "purposes": purposes}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
