"""What a process model in OpenText means to us: which task is which role, which outcome which decision.

A mapping is a YAML file in ``mappings/``; a project names one (``process_mapping``). It exists because the model
belongs to the customer's modeller: names there may change, and then this file changes, no code.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from include.base.errors import InvalidInput
from include.projects.load import load_model

__all__ = ["MAPPINGS", "ProcessMapping", "ProcessMappings", "TaskMapping", "load_mapping", "start_variables"]

MAPPINGS = Path(__file__).resolve().parent / "mappings"
"""Folder of the mapping files."""

Verdict = Literal["approve", "reject", "rework"]
EndResult = Literal["approved", "rejected", "rework", "released", "refused"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TaskMapping(_Strict):
    """One user task: whose it is and where its outcome goes."""

    name: str = Field(min_length=1, description="the task's name, as people see it and as the task list returns it")
    key: str | None = Field(default=None, description="the task's id in the model, as history returns it")
    role: str = Field(min_length=1, description="role in the register that may decide")
    meaning: Literal["review", "approval", "responsibility"] | None = None
    outcome_variable: str = Field(min_length=1, description="process variable that the outcome is put into")
    group_variable: str | None = Field(
        default=None,
        description="start variable with the candidate group's name; absent where the model names the group",
    )
    required_variable: str | None = Field(
        default=None, description="boolean start variable that says whether this task is asked for"
    )


class ProcessMapping(_Strict):
    """One process."""

    process_key: str = Field(min_length=1)
    digest_variable: str = Field(min_length=1, description="process variable with the dataset version's digest")
    tasks: tuple[TaskMapping, ...] = Field(min_length=1)
    outcomes: dict[str, Verdict] = Field(min_length=1, description="outcome value to decision; any other is undecided")
    ends: dict[str, EndResult] = Field(min_length=1, description="id of an end event to the result of the process")
    groups: dict[str, str] = Field(default_factory=dict, description="role to candidate group in OpenText")

    @model_validator(mode="after")
    def _is_whole(self) -> ProcessMapping:
        for what, values in (
            ("task name", [task.name for task in self.tasks]),
            ("task key", [task.key for task in self.tasks if task.key]),
            ("role", [task.role for task in self.tasks]),
            ("outcome_variable", [task.outcome_variable for task in self.tasks]),
            ("group_variable", [task.group_variable for task in self.tasks if task.group_variable]),
        ):
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"{what} used by two tasks: {', '.join(twice)}")
        without = sorted(task.role for task in self.tasks if task.group_variable and not self.groups.get(task.role))
        if without:
            raise ValueError(f"groups: no group for the role {', '.join(without)}, whose task has a group_variable")
        return self

    def task_named(self, name: str, key: str | None = None) -> TaskMapping | None:
        """Return the mapping of a task in a list or in history: by key where both have one, else by name."""
        if key is not None:
            for task in self.tasks:
                if task.key == key:
                    return task
        return next((task for task in self.tasks if task.name == name and (task.key is None or key is None)), None)


class ProcessMappings(_Strict):
    """The processes of one installation."""

    labeling_approval: ProcessMapping
    dataset_release: ProcessMapping


def load_mapping(name: str, folder: Path = MAPPINGS) -> ProcessMappings:
    """Return the mapping ``<folder>/<name>.yaml``.

    :raises InvalidInput: there is none of that name, or naming file, line, field, found and allowed.
    """
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        raise InvalidInput(
            f"process_mapping: found {name!r}; allowed: {', '.join(known) or 'none'} (files in {folder})"
        )
    return load_model(folder / f"{name}.yaml", ProcessMappings)


def start_variables(mapping: ProcessMapping, policy_roles: Iterable[str] = ()) -> dict[str, str | bool]:
    """Return the start variables that route a process: candidate groups, and which tasks the policy asks for.

    :param policy_roles: roles whose approval the project's policy demands; of use only for tasks with a
        ``required_variable``. A task without one is always asked for.
    :raises InvalidInput: the policy demands a role that no task of the process stands for, so the process could end
        approved without it.
    """
    demanded = set(policy_roles)
    missing = sorted(demanded - {task.role for task in mapping.tasks})
    if missing:
        raise InvalidInput(
            f"process {mapping.process_key!r}: the policy demands {', '.join(missing)}, but the mapping has no task of "
            f"that role (tasks: {', '.join(f'{task.name} = {task.role}' for task in mapping.tasks)})"
        )
    variables: dict[str, str | bool] = {}
    for task in mapping.tasks:
        if task.required_variable:
            variables[task.required_variable] = task.role in demanded
        if task.group_variable:
            variables[task.group_variable] = mapping.groups[task.role]
    return variables
