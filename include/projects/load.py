"""Reading project files: names only where a DAG is parsed, everything else where a task runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from include.base.configuration import load_model
from include.base.errors import InvalidInput
from include.base.text import printable
from include.projects.model import Project, is_dataset_of

__all__ = ["BadProject", "load_project", "load_projects", "project_names"]

_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class BadProject:
    """A project file that cannot be used, and why; it becomes one failing work item."""

    name: str
    reason: str


def project_names(folder: Path) -> list[str]:
    """Return the names of the project files, without opening one. Never raises: a DAG is parsed with it."""
    try:
        # A name that is no text could not be shown in a form, nor kept in Airflow's database.
        return sorted({printable(path.stem) for path in folder.iterdir() if path.suffix in _SUFFIXES})
    except OSError:
        return []


def load_project(folder: Path, name: str) -> Project:
    """Return one project.

    :raises InvalidInput: when there is no such file, or two; when it is malformed, or names itself otherwise; when its
        datasets in Prodigy would be another project's.
    """
    return _load(folder, name, project_names(folder))


def _load(folder: Path, name: str, names: list[str]) -> Project:
    found = [folder / f"{name}{suffix}" for suffix in _SUFFIXES] if name in names else []
    files = [path for path in found if path.exists()]
    if not files:
        raise InvalidInput(f"no project {name!r} in {folder}; there are: {', '.join(names) or 'none'}")
    if len(files) > 1:
        raise InvalidInput(f"{' and '.join(map(str, files))}: are both project {name!r}; allowed: one of them")
    _refuse_shared_datasets(folder, name, names)
    project = load_model(files[0], Project)
    if project.name != name:
        raise InvalidInput(f"{files[0]}: name: found {project.name!r}, but the file is called {name!r}")
    return project


def _refuse_shared_datasets(folder: Path, name: str, names: list[str]) -> None:
    """Refuse both of two projects that would write into one dataset, whichever of them came first."""
    for other in names:
        shorter, longer = sorted((name, other), key=len)
        if is_dataset_of(shorter, longer):
            raise InvalidInput(
                f"{folder}: the projects {shorter!r} and {longer!r} cannot be side by side: Prodigy's dataset {longer} "
                "would belong to both; rename one of them"
            )


def load_projects(folder: Path, chosen: list[str] | None = None) -> list[Project | BadProject]:
    """Return the chosen projects (all of them for None), bad ones as :class:`BadProject`.

    :raises InvalidInput: for a chosen name that does not exist.
    """
    names = known = project_names(folder)
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
            projects.append(_load(folder, name, known))
        except InvalidInput as error:
            projects.append(BadProject(name, str(error)))
    return projects
