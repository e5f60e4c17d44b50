"""What a process model in OpenText means to us: which task is which role, which outcome which decision.

A mapping is a YAML file in ``mappings/`` or in the installation's own folder (``LABELOPS_MAPPINGS``); a project names
one (``process_mapping``). It exists because the model belongs to the customer's modeller: names there may change, and
then this file changes, no code. What differs between tenants with the same model, the names of groups, can be set on
the connection (extra ``groups``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from include.base.configuration import load_model
from include.base.errors import InvalidInput

__all__ = [
    "MAPPINGS",
    "STATEMENTS",
    "ProcessMapping",
    "ProcessMappings",
    "TaskMapping",
    "load_mapping",
    "read_mapping",
    "start_variables",
]

MAPPINGS = Path(__file__).resolve().parent / "mappings"
"""Folder of the mapping files that come with Labelops."""

STATEMENTS = "decision_statements"
"""Process variable that tells each person what they state by deciding."""

Verdict = Literal["approve", "reject", "rework"]
EndResult = Literal["approved", "rejected", "rework", "released", "refused"]
Signature = Literal["recorded", "authenticated", "signed"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TaskMapping(_Strict):
    """One user task that is somebody's decision: whose it is and where its outcome goes.

    The outcome is read from ``outcome_variable``, however the model fills it: by the buttons (``outcomevariable`` of
    the modeller), or, where those are empty, by a field of the form. The task may be in a process that the mapped one
    calls; the variable is then the called process's.
    """

    name: str = Field(min_length=1, description="the task's name, as people see it and as the task list returns it")
    key: str | None = Field(default=None, description="the task's id in the model, as history returns it")
    role: str = Field(min_length=1, description="role in the register that may decide")
    meaning: Literal["review", "approval", "responsibility"] | None = None
    outcome_variable: str = Field(
        min_length=1,
        description="process variable that the outcome is put into; best one of its own for each task",
    )
    group_variable: str | None = Field(
        default=None,
        description="start variable with the candidate group's name; absent where the model names the group",
    )
    required_variable: str | None = Field(
        default=None, description="boolean start variable that says whether this task is asked for"
    )
    signature_variable: str | None = Field(
        default=None,
        description="variable into which the model's signing step puts the account that proved anew who they are",
    )


class ProcessMapping(_Strict):
    """One process."""

    process_key: str = Field(min_length=1)
    digest_variable: str = Field(min_length=1, description="process variable with the dataset version's digest")
    tasks: tuple[TaskMapping, ...] = Field(min_length=1)
    other_tasks: tuple[str, ...] = Field(
        default=(), description="ids or names of user tasks that are nobody's decision, such as filing a form"
    )
    outcomes: dict[str, Verdict] = Field(min_length=1, description="outcome value to decision; any other is undecided")
    ends: dict[str, EndResult] = Field(min_length=1, description="id of an end event to the result of the process")
    other_ends: tuple[str, ...] = Field(
        default=(), description="ids of end events of side branches (a reminder, say), which are no result"
    )
    groups: dict[str, str] = Field(
        default_factory=dict,
        description="role to candidate group in OpenText; the connection's extra `groups` goes first",
    )
    signature: Signature = Field(
        default="authenticated",
        description="highest signature level that a decision made in this process may be given, whatever its evidence",
    )

    @field_validator("outcomes", mode="before")
    @classmethod
    def _outcomes_are_text(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            wrong = [key for key in value if not isinstance(key, str)]
            if wrong:
                raise ValueError(
                    f"the outcome {wrong[0]!r} is not text: YAML reads yes, no, true, false and numbers as values; "
                    "put it in quotes, as the process variable has it"
                )
        return value

    @model_validator(mode="after")
    def _is_whole(self) -> ProcessMapping:
        for what, values in (
            ("task name (without a key to tell them apart)", [one.name for one in self.tasks if not self._told(one)]),
            ("task key", [task.key for task in self.tasks if task.key]),
        ):
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"{what} used by two tasks: {', '.join(twice)}")
        roles: dict[str, str] = {}
        for task in self.tasks:
            if task.group_variable and roles.setdefault(task.group_variable, task.role) != task.role:
                raise ValueError(
                    f"group_variable {task.group_variable} used by tasks of two roles: "
                    f"{roles[task.group_variable]}, {task.role}"
                )
        both = sorted({name for task in self.tasks for name in (task.key, task.name) if name in self.other_tasks})
        if both:
            raise ValueError(f"both in tasks and in other_tasks: {', '.join(both)}")
        both = sorted(set(self.ends) & set(self.other_ends))
        if both:
            raise ValueError(f"both in ends and in other_ends: {', '.join(both)}")
        self._signatures_are_told()
        return self

    def _signatures_are_told(self) -> None:
        """Refuse a claim of signatures that nothing in the model could show, and a sign of one that is not claimed."""
        variables = [task.signature_variable for task in self.tasks if task.signature_variable]
        if self.signature == "signed" and not variables:
            raise ValueError(
                "signature `signed` needs a task with a signature_variable: nothing else says that somebody signed"
            )
        if self.signature != "signed" and variables:
            raise ValueError(f"signature_variable {variables[0]} goes with signature `signed`, not `{self.signature}`")
        taken = variables + [task.outcome_variable for task in self.tasks]
        twice = sorted({name for name in variables if taken.count(name) > 1})
        if twice:
            raise ValueError(f"signature_variable used by two tasks, or for an outcome too: {', '.join(twice)}")

    def _told(self, task: TaskMapping) -> bool:
        """Tell whether a task can be told from others of its name by its key."""
        return all(one.key for one in self.tasks if one.name == task.name)

    def task_named(self, name: str, key: str | None = None) -> TaskMapping | None:
        """Return the mapping of a task in a list or in history: by key where both have one, else by name."""
        if key is not None:
            for task in self.tasks:
                if task.key == key:
                    return task
        return next((task for task in self.tasks if task.name == name and (task.key is None or key is None)), None)

    def is_other(self, name: str, key: str | None = None) -> bool:
        """Tell whether a user task is declared to be nobody's decision."""
        return name in self.other_tasks or key in self.other_tasks


class ProcessMappings(_Strict):
    """The processes of one installation."""

    labeling_approval: ProcessMapping
    dataset_release: ProcessMapping


def load_mapping(name: str, folder: Path | None = None) -> ProcessMappings:
    """Return the mapping ``<name>.yaml`` of the installation's folder, or of those that come with Labelops.

    :param folder: the only folder to look in; by default ``LABELOPS_MAPPINGS``, then :data:`MAPPINGS`.
    :raises InvalidInput: there is none of that name, or naming file, line, field, found and allowed.
    """
    from include.settings import settings

    folders = [folder] if folder is not None else list(dict.fromkeys([settings().mappings, MAPPINGS]))
    known = {path.stem: path for place in reversed(folders) for path in place.glob("*.yaml")}
    if name not in known:
        places = " and ".join(map(str, folders))
        raise InvalidInput(
            f"process_mapping: found {name!r}; allowed: {', '.join(sorted(known)) or 'none'} (files in {places})"
        )
    return read_mapping(known[name])


def read_mapping(path: Path) -> ProcessMappings:
    """Return the mapping of a file.

    :raises InvalidInput: naming file, line, field, found and allowed.
    """
    return load_model(path, ProcessMappings)


def start_variables(
    mapping: ProcessMapping, policy_roles: Iterable[str] = (), groups: Mapping[str, str] | None = None
) -> dict[str, str | bool]:
    """Return the start variables that route a process: candidate groups, and which tasks the policy asks for.

    :param policy_roles: roles whose approval the project's policy demands; of use only for tasks with a
        ``required_variable``. A task without one is always asked for.
    :param groups: role to candidate group in this tenant (the connection's extra ``groups``), before the mapping's.
    :raises InvalidInput: the policy demands a role that no task of the process stands for, so the process could end
        approved without it; or a role whose task needs a group has none.
    """
    demanded = set(policy_roles)
    missing = sorted(demanded - {task.role for task in mapping.tasks})
    if missing:
        raise InvalidInput(
            f"process {mapping.process_key!r}: the policy demands {', '.join(missing)}, but the mapping has no task of "
            f"that role (tasks: {', '.join(f'{task.name} = {task.role}' for task in mapping.tasks)})"
        )
    known = {**mapping.groups, **(groups or {})}
    without = sorted({task.role for task in mapping.tasks if task.group_variable and not known.get(task.role)})
    if without:
        raise InvalidInput(
            f"process {mapping.process_key!r}: no group for the role {', '.join(without)}, whose task has a "
            "group_variable; name it in the connection's extra `groups` or in the mapping's `groups` "
            f"(known: {', '.join(sorted(known)) or 'none'})"
        )
    variables: dict[str, str | bool] = {}
    for task in mapping.tasks:
        if task.required_variable:
            asked = task.role in demanded
            variables[task.required_variable] = asked or bool(variables.get(task.required_variable))
        if task.group_variable:
            variables[task.group_variable] = known[task.role]
    return variables
