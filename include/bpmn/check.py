"""Compare a deployed process model with our mapping, and say in sentences what a modeller has to change."""

from __future__ import annotations

import re

from include.base.errors import InvalidInput
from include.bpmn.mapping import ProcessMapping, TaskMapping
from include.bpmn.read import ProcessElement, UserTaskElement, read_process

__all__ = ["check_model"]


def check_model(mapping: ProcessMapping, xml: str | bytes) -> list[str]:
    """Return what is wrong between a model and the mapping, one sentence each; empty where they fit.

    A model that cannot be read is one problem, not an exception: the caller reports it like any other.
    """
    try:
        process = read_process(xml, mapping.process_key)
    except InvalidInput as error:
        return [f"The process {mapping.process_key!r} cannot be checked. {error}"]
    found = {task.name: _find(process, task) for task in mapping.tasks}
    problems: list[str] = []
    for task in mapping.tasks:
        element = found[task.name]
        problems += _task_problems(mapping, process, task, element) if element else [_missing_task(process, task)]
    known = {element.id for element in found.values() if element}
    problems += [
        f"The user task {element.name!r} (id {element.id!r}) is in the model but not in the mapping: nobody would know "
        "whose decision it is. Remove it from the model or add it to the mapping."
        for element in process.user_tasks
        if element.id not in known
    ]
    return problems + _end_problems(mapping, process)


def _find(process: ProcessElement, task: TaskMapping) -> UserTaskElement | None:
    if task.key is not None:
        return next((element for element in process.user_tasks if element.id == task.key), None)
    named = [element for element in process.user_tasks if element.name == task.name]
    return named[0] if len(named) == 1 else None


def _missing_task(process: ProcessElement, task: TaskMapping) -> str:
    have = ", ".join(f"{element.name!r} (id {element.id!r})" for element in process.user_tasks) or "none"
    wanted = f"with the id {task.key!r}" if task.key else f"(exactly one) with the name {task.name!r}"
    return (
        f"The model has no user task {wanted}, which the mapping needs for the role {task.role!r}. "
        f"Its user tasks are: {have}."
    )


def _task_problems(
    mapping: ProcessMapping, process: ProcessElement, task: TaskMapping, element: UserTaskElement
) -> list[str]:
    problems = []
    if element.name != task.name:
        problems.append(
            f"The user task with the id {element.id!r} is called {element.name!r}; the mapping calls it {task.name!r}. "
            "The list of waiting tasks carries names only, so the two must be equal."
        )
    return [
        *problems,
        *_group_problems(mapping, task, element),
        *_outcome_problems(mapping, task, element),
        *_condition_problems(process, task, element),
    ]


def _group_problems(mapping: ProcessMapping, task: TaskMapping, element: UserTaskElement) -> list[str]:
    fed = {other.group_variable for other in mapping.tasks if other.group_variable}
    used = re.findall(r"[$#]\{\s*([^}]*?)\s*\}", element.candidate_groups)
    problems = [
        f"The candidate groups of {element.name!r} are {element.candidate_groups!r}, but no group_variable of the "
        f"mapping feeds {expression!r}: nobody would be offered the task. Fed are: {', '.join(sorted(fed)) or 'none'}."
        for expression in used
        if expression not in fed
    ]
    if task.group_variable and task.group_variable not in used:
        problems.append(
            f"The mapping gives {element.name!r} its group in the variable {task.group_variable!r}, but the task's "
            f"candidate groups are {element.candidate_groups!r}. Set them to ${{{task.group_variable}}}."
        )
    if not task.group_variable and not element.candidate_groups:
        problems.append(f"The user task {element.name!r} has no candidate group: nobody would be offered it.")
    return problems


def _outcome_problems(mapping: ProcessMapping, task: TaskMapping, element: UserTaskElement) -> list[str]:
    allowed = ", ".join(sorted(mapping.outcomes))
    problems = [
        f"The form of {element.name!r} offers the outcome {value!r} ({label}), which the mapping does not know: such a "
        f"decision would stay undecided. Known are: {allowed}."
        for label, value in element.outcomes
        if value not in mapping.outcomes
    ]
    problems += [
        f"The form of {element.name!r} puts the outcome into the variable {variable!r}; the mapping reads it from "
        f"{task.outcome_variable!r}."
        for variable in element.outcome_variables
        if variable != task.outcome_variable
    ]
    return problems


def _condition_problems(process: ProcessElement, task: TaskMapping, element: UserTaskElement) -> list[str]:
    tested = {name for condition in process.conditions for name in condition.names}
    problems = []
    if task.outcome_variable not in tested:
        problems.append(
            f"No condition in the model tests {task.outcome_variable!r}, the outcome of {element.name!r}: the decision "
            "would change nothing. Add a gateway after the task."
        )
    if task.required_variable and task.required_variable not in tested:
        problems.append(
            f"No condition in the model tests {task.required_variable!r}, which says whether {element.name!r} is "
            "asked for. Add a gateway before the task, or take required_variable out of the mapping."
        )
    return problems


def _end_problems(mapping: ProcessMapping, process: ProcessElement) -> list[str]:
    have = {end.id: end.name for end in process.ends}
    listed = ", ".join(repr(end) for end in have) or "none"
    problems = [
        f"The mapping expects an end event with the id {end!r} (result {result!r}); "
        f"the model's end events are: {listed}."
        for end, result in mapping.ends.items()
        if end not in have
    ]
    problems += [
        f"The model can end at {end!r} ({name or 'unnamed'}), which the mapping does not know: such an end would "
        "have no result. Add it to `ends`."
        for end, name in have.items()
        if end not in mapping.ends
    ]
    return problems
