"""Reading project files: names only where a DAG is parsed, everything else where a task runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from include.base.errors import InvalidInput
from include.projects.model import Project

Model = TypeVar("Model", bound=BaseModel)

__all__ = ["BadProject", "load_model", "load_project", "load_projects", "project_names"]


@dataclass(frozen=True)
class BadProject:
    """A project file that cannot be used, and why; it becomes one failing work item."""

    name: str
    reason: str


def project_names(folder: Path) -> list[str]:
    """Return the names of the project files, without opening one. Never raises: a DAG is parsed with it."""
    try:
        return sorted(path.stem for path in folder.iterdir() if path.suffix in (".yaml", ".yml"))
    except OSError:
        return []


def load_model(path: Path, model: type[Model]) -> Model:
    """Return one YAML file as a checked value.

    :raises InvalidInput: naming file, line, field, what was found and what is allowed.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: cannot be read ({error})") from error
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidInput(f"{path}: not YAML ({error})") from error
    if not isinstance(value, dict):
        raise InvalidInput(f"{path}:1: expected fields, found {type(value).__name__}")
    _refuse_repeated_keys(path, tree)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems = [
            f"{path}:{_line_of(tree, problem['loc'])}: {'.'.join(map(str, problem['loc'])) or 'file'}: "
            f"{problem['msg']}" + (f" (found {problem['input']!r})" if _is_short(problem["input"]) else "")
            for problem in error.errors(include_url=False, include_context=False)
        ]
        raise InvalidInput("\n".join(problems)) from error


def load_project(folder: Path, name: str) -> Project:
    """Return one project.

    :raises InvalidInput: when there is no such file, it is malformed, or it names itself otherwise.
    """
    path = folder / f"{name}.yaml"
    if not path.exists():
        path = folder / f"{name}.yml"
    if name not in project_names(folder) or not path.exists():
        known = ", ".join(project_names(folder)) or "none"
        raise InvalidInput(f"no project {name!r} in {folder}; there are: {known}")
    project = load_model(path, Project)
    if project.name != name:
        raise InvalidInput(f"{path}: name: found {project.name!r}, but the file is called {name!r}")
    return project


def load_projects(folder: Path, chosen: list[str] | None = None) -> list[Project | BadProject]:
    """Return the chosen projects (all of them for None), bad ones as :class:`BadProject`.

    :raises InvalidInput: for a chosen name that does not exist.
    """
    names = project_names(folder)
    if chosen is not None:
        unknown = sorted(set(chosen) - set(names))
        if unknown:
            raise InvalidInput(
                f"project: found {', '.join(unknown)}; allowed: {', '.join(names) or 'none, the folder is empty'}"
            )
        names = sorted(set(chosen))
    projects: list[Project | BadProject] = []
    for name in names:
        try:
            projects.append(load_project(folder, name))
        except InvalidInput as error:
            projects.append(BadProject(name, str(error)))
    return projects


def _line_of(tree: yaml.Node | None, location: tuple[Any, ...]) -> int:
    node = tree
    line = 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            for key, inner in node.value:
                if key.value == str(part):
                    line, node = key.start_mark.line + 1, inner
                    break
            else:
                break
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line


def _refuse_repeated_keys(path: Path, node: yaml.Node | None) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, inner in node.value:
            if key.value in seen:
                raise InvalidInput(f"{path}:{key.start_mark.line + 1}: {key.value}: given twice")
            seen.add(key.value)
            _refuse_repeated_keys(path, inner)
    elif isinstance(node, yaml.SequenceNode):
        for inner in node.value:
            _refuse_repeated_keys(path, inner)


def _is_short(value: object) -> bool:
    return isinstance(value, (str, int, float, bool, type(None))) and len(str(value)) <= 80
