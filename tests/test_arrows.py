"""Imports point one way: dags → plugins/labelops → include, and inside include from each floor to those below it.

Every import counts, in a function or under TYPE_CHECKING too: whoever reads a file has to read what it names.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

TREES = {"include": "include", "labelops": "plugins/labelops", "dags": "dags"}
"""Where the modules below each name are."""

FLOORS = (
    ("base",),
    ("settings",),
    ("bpmn", "people", "projects", "systems"),
    ("annotation", "taxonomy"),
    ("ingestion", "guidelines"),
    ("gates",),
    ("governance",),
    ("run",),
    ("queues", "selection"),
    ("decisions",),
    ("datasets", "exports"),
    ("agreement",),
    ("passport",),
    ("releases", "delivery"),
    ("pages", "reporting"),
    ("questions",),
    ("holds", "requests", "tickets", "alerts"),
    ("usecases",),
    ("prodigy_kit", "sandbox"),
)
"""The house, ground floor first: a package of ``include`` may import those of the floors below, and none beside it."""

BESIDE = frozenset({("systems", "bpmn")})
"""Arrows between two packages of one floor."""

APART = ("sandbox", "prodigy_kit")
"""Packages that no other one imports: what runs beside the installation, or plays its neighbours."""


@dataclass(frozen=True)
class Arrow:
    """One import: module ``source`` in ``file`` names ``target``, as ``include.base.store``."""

    source: str
    target: str
    file: str
    line: int
    target_file: str = ""

    def __str__(self) -> str:
        where = f" ({self.target_file})" if self.target_file else ""
        return f"{self.file}:{self.line} imports {self.target}{where}"


def modules_in(root: Path, trees: Mapping[str, str] = TREES) -> dict[str, Path]:
    """Return the files of the trees by the names of their modules."""
    found = {}
    for name, folder in trees.items():
        for path in (root / folder).rglob("*.py"):
            parts = [name, *path.relative_to(root / folder).with_suffix("").parts]
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def arrows_in(root: Path, modules: Mapping[str, Path]) -> list[Arrow]:
    """Return the imports among the modules, and those of Airflow."""
    found = []
    for source, path in modules.items():
        package = source if path.name == "__init__.py" else source.rpartition(".")[0]
        for node in _imports(ast.parse(path.read_bytes())):
            for target in sorted(set(_targets(node, package, modules))):
                if target != source:
                    other = modules.get(target)
                    target_file = "" if other is None else str(other.relative_to(root))
                    found.append(Arrow(source, target, str(path.relative_to(root)), node.lineno, target_file))
    return found


def _imports(tree: ast.Module) -> Iterator[ast.Import | ast.ImportFrom]:
    blocks: list[list[ast.stmt]] = [tree.body]
    while blocks:
        for node in blocks.pop():
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                yield node
                continue
            blocks += (getattr(node, name, []) for name in ("body", "orelse", "finalbody"))
            blocks += (part.body for name in ("handlers", "cases") for part in getattr(node, name, []))


def _targets(node: ast.Import | ast.ImportFrom, package: str, modules: Mapping[str, Path]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    else:
        above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
        module = ".".join([*above, *([node.module] if node.module else [])])
        names = [name if (name := f"{module}.{one.name}") in modules else module for one in node.names]
    return (name for name in names if name in modules or name.partition(".")[0] == "airflow")


def circles(arrows: Iterable[Arrow]) -> list[list[Arrow]]:
    """Return one way round for each circle of modules, as the arrows that close it."""
    out = defaultdict(list)
    for arrow in arrows:
        out[arrow.source].append(arrow)
    done: set[str] = set()
    found = []
    for start in sorted(out):
        if start in done:
            continue
        way: list[Arrow] = []
        on_way = [start]
        waiting = [iter(out[start])]
        while waiting:
            arrow = next(waiting[-1], None)
            if arrow is None:
                waiting.pop()
                done.add(on_way.pop())
                del way[-1:]
            elif arrow.target in on_way:
                found.append([*way, arrow][on_way.index(arrow.target) :])
            elif arrow.target not in done:
                way.append(arrow)
                on_way.append(arrow.target)
                waiting.append(iter(out[arrow.target]))
    return found


def wrong(arrow: Arrow) -> bool:
    """Tell whether an arrow points up, aside, or out of the house."""
    source, target = _room(arrow.source), _room(arrow.target)
    if source[0] != target[0] or source[0] != "include":
        order = ["airflow", "include", "labelops", "dags"] if source[0] != "include" else ["include"]
        apart = target[0] == "include" and target[1] in APART
        return apart or target[0] not in order or order.index(target[0]) > order.index(source[0])
    if source[1] == target[1] or (source[1], target[1]) in BESIDE:
        return False
    return target[1] in APART or _floor(source[1]) <= _floor(target[1])


def _room(module: str) -> tuple[str, str]:
    top, _, rest = module.partition(".")
    return top, rest.partition(".")[0]


def _floor(package: str) -> int:
    return next(number for number, floor in enumerate(FLOORS) if package in floor)


# ---- the house -----------------------------------------------------------------------------------------------------


def test_every_package_has_its_floor() -> None:
    packages = {_room(name)[1] for name in modules_in(ROOT) if name.startswith("include.")}
    named = [package for floor in FLOORS for package in floor]
    assert packages <= set(named)
    assert len(named) == len(set(named))


def test_no_arrow_points_up_and_no_files_stand_in_a_circle() -> None:
    modules = modules_in(ROOT)
    assert len(modules) > 250
    arrows = arrows_in(ROOT, modules)
    up = [arrow for arrow in arrows if wrong(arrow)]
    assert [str(arrow) for arrow in up] == []
    assert not ["; ".join(map(str, circle)) for circle in circles(arrows)]


# ---- the checker itself --------------------------------------------------------------------------------------------


def _house(root: Path, files: Mapping[str, str]) -> list[Arrow]:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return arrows_in(root, modules_in(root))


def test_an_upward_arrow_is_found_wherever_it_stands(tmp_path: Path) -> None:
    arrows = _house(
        tmp_path,
        {
            "include/__init__.py": "",
            "include/base/store.py": "def f():\n    from include.run import run\n",
            "include/run/run.py": "import include.base.store\nfrom airflow.sdk import DAG\n",
            "include/systems/pace.py": "if TYPE_CHECKING:\n    from include.people.register import Register\n",
            "include/people/register.py": "try:\n    import labelops.flow\nexcept ImportError:\n    pass\n",
            "include/sandbox/world.py": "from include.run.run import Run\n",
            "plugins/labelops/flow.py": "from include.sandbox import world\nfrom airflow.sdk import DAG\n",
            "plugins/labelops/retry.py": "from . import flow\nimport dags.one\n",
            "dags/one.py": "from labelops.flow import f\n",
        },
    )
    assert sorted(str(arrow) for arrow in arrows if wrong(arrow)) == [
        "include/base/store.py:2 imports include.run.run (include/run/run.py)",
        "include/people/register.py:2 imports labelops.flow (plugins/labelops/flow.py)",
        "include/run/run.py:2 imports airflow.sdk",
        "include/systems/pace.py:2 imports include.people.register (include/people/register.py)",
        "plugins/labelops/flow.py:1 imports include.sandbox.world (include/sandbox/world.py)",
        "plugins/labelops/retry.py:2 imports dags.one (dags/one.py)",
    ]
    allowed = {(arrow.source, arrow.target) for arrow in arrows if not wrong(arrow)}
    assert ("labelops.retry", "labelops.flow") in allowed, "a relative import is read"
    assert ("include.run.run", "include.base.store") in allowed


def test_a_circle_is_found_with_every_arrow_of_it(tmp_path: Path) -> None:
    arrows = _house(
        tmp_path,
        {
            "include/run/one.py": "from include.run import two\n",
            "include/run/two.py": "if TYPE_CHECKING:\n    from include.run.three import C\n",
            "include/run/three.py": "def f():\n    from include.run.one import A\n\n\nfrom include.run.four import D\n",
            "include/run/four.py": "import json\n",
        },
    )
    [circle] = circles(arrows)
    assert sorted(map(str, circle)) == [
        "include/run/one.py:1 imports include.run.two (include/run/two.py)",
        "include/run/three.py:2 imports include.run.one (include/run/one.py)",
        "include/run/two.py:2 imports include.run.three (include/run/three.py)",
    ]
    assert circles(arrow for arrow in arrows if arrow.source != "include.run.two") == []


def test_two_circles_are_told_apart(tmp_path: Path) -> None:
    arrows = _house(
        tmp_path,
        {
            "include/run/a.py": "from include.run import b, c\n",
            "include/run/b.py": "from include.run import a\n",
            "include/run/c.py": "from include.run import d\n",
            "include/run/d.py": "from include.run import c\n",
        },
    )
    assert sorted(sorted({arrow.source for arrow in circle}) for circle in circles(arrows)) == [
        ["include.run.a", "include.run.b"],
        ["include.run.c", "include.run.d"],
    ]
