"""Reading project files: names only where a DAG is parsed, everything else where a task runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from include.base.configuration import load_model
from include.base.errors import InvalidInput
from include.projects.model import Project

__all__ = ["BadProject", "load_project", "load_projects", "project_names"]


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
