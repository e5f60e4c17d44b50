"""``python -m prodigy <recipe> [arguments] -F <file>``: load the recipe's file, call it, serve what it returns."""

from __future__ import annotations

import argparse
import importlib.util
import inspect
import sys
from pathlib import Path
from typing import Any

from prodigy.core import Controller, Recipe, get_recipe
from prodigy.server import run


def main(arguments: list[str]) -> int:
    """Run one recipe and return the exit code."""
    first = argparse.ArgumentParser(prog="prodigy", add_help=False)
    first.add_argument("-F", dest="files", default="")
    known, rest = first.parse_known_args(arguments)
    for file in filter(None, known.files.split(",")):
        _load(Path(file))
    if not rest:
        print("usage: prodigy <recipe> [arguments] -F <file>", file=sys.stderr)
        return 2
    recipe = get_recipe(rest[0])
    if recipe is None:
        print(f"prodigy: no recipe {rest[0]!r}", file=sys.stderr)
        return 1
    try:
        components = recipe.function(**_parse(recipe, rest[1:]))
        if isinstance(components, dict):
            run(Controller(components))
    except (ValueError, OSError) as error:
        print(f"prodigy {recipe.name}: {error}", file=sys.stderr)
        return 1
    return 0


def _load(path: Path) -> None:
    """Import a recipe file, which registers its recipes."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise SystemExit(f"prodigy: cannot load recipe file {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)


def _parse(recipe: Recipe, arguments: list[str]) -> dict[str, Any]:
    """Return the function's arguments from the command line."""
    parser = argparse.ArgumentParser(prog=f"prodigy {recipe.name}")
    parameters = inspect.signature(recipe.function).parameters
    for name, (text, kind, short, converter) in recipe.arguments.items():
        default = parameters[name].default
        if kind == "positional":
            parser.add_argument(name, help=text, type=converter)
            continue
        names = [f"-{short}"] if short else []
        names.append("--" + name.replace("_", "-"))
        if kind == "flag":
            parser.add_argument(*names, dest=name, help=text, action="store_true")
        else:
            parser.add_argument(*names, dest=name, help=text, type=converter, default=default)
    return vars(parser.parse_args(arguments))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
