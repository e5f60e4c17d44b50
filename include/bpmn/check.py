"""Compare a deployed process model with our mapping, and say in sentences what a modeller has to change.

Nothing is started: the model's XML is read, and that of every process it calls. Each problem is one sentence that names
the element, says what was found, what the mapping expects, and what to change. A note is something to know that keeps
nothing from working.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache

from include.base.errors import InvalidInput
from include.bpmn.mapping import STATEMENTS, ProcessMapping, TaskMapping
from include.bpmn.read import CallElement, EndElement, ProcessElement, UserTaskElement, process_keys, read_process

__all__ = ["ModelReport", "Models", "Problem", "check_model", "process_key_of"]

Models = Callable[[str], str | bytes | None]
"""Returns the XML of the deployed process with a key, None where there is none."""

MAX_CALLS = 100
"""Calls of processes followed in one check: where each process calls the next twice, they double with each level."""

_EXPRESSION = re.compile(r"[$#]\{([^{}]*)\}")
_COMPARED = r"""\b{name}\s*(?:==|!=|eq\b|ne\b)\s*(?:"([^"]*)"|'([^']*)'|(true|false)\b)"""


@dataclass(frozen=True)
class Problem:
    """One thing that does not fit.

    :param process: key of the process that the element is in.
    :param element: the element as a modeller finds it: kind, name and id.
    :param found: what is there, and what the mapping expects.
    :param change: what to change, in the model or in the mapping.
    """

    process: str
    element: str
    found: str
    change: str

    def __str__(self) -> str:
        """Return the problem as one sentence."""
        return f"{self.element} in process {self.process!r}: {self.found}; {self.change}."


@dataclass(frozen=True)
class ModelReport:
    """What came of a check.

    :param process_key: the mapped process.
    :param checked: keys of all processes read: the mapped one and those it calls.
    :param tasks: ``(task, role, process)`` of the user tasks that are somebody's decision and were found.
    """

    process_key: str
    problems: tuple[Problem, ...]
    notes: tuple[str, ...] = ()
    checked: tuple[str, ...] = ()
    tasks: tuple[tuple[str, str, str], ...] = ()

    @property
    def fits(self) -> bool:
        """Tell whether a process may be started."""
        return not self.problems

    def text(self) -> str:
        """Return the report for a log or a terminal."""
        lines = [self._headline()]
        lines += [f"- {problem}" for problem in self.problems]
        lines += [f"  {task!r} is the decision of {role} ({process})" for task, role, process in self.tasks]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)

    def markdown(self) -> str:
        """Return the report as Markdown, for a page or a ticket to the modeller."""
        parts = [f"## {self._headline()}"]
        if self.problems:
            rows = [
                f"| {_cell(one.process)} | {_cell(one.element)} | {_cell(one.found)} | {_cell(one.change)} |"
                for one in self.problems
            ]
            parts.append("\n".join(["| process | element | found and expected | change |", "|---|---|---|---|", *rows]))
        if self.tasks:
            parts.append("\n".join(f"- {task}: decision of {role} (`{process}`)" for task, role, process in self.tasks))
        if self.notes:
            parts.append("Notes:\n\n" + "\n".join(f"- {note}" for note in self.notes))
        return "\n\n".join(parts) + "\n"

    def _headline(self) -> str:
        read = f" (read: {', '.join(self.checked)})" if len(self.checked) > 1 else ""
        if self.fits:
            return f"The process model {self.process_key!r} fits the mapping{read}."
        count = len(self.problems)
        return (
            f"The process model {self.process_key!r} does not fit the mapping: {count} "
            f"problem{'s' if count > 1 else ''}{read}."
        )


@dataclass(frozen=True)
class _Scope:
    """A process, and how it was called: its variables are its own but for what the call hands over."""

    process: ProcessElement
    parent: _Scope | None = None
    call: CallElement | None = None

    def origin(self, name: str) -> str | None:
        """Return the variable of the mapped process that a variable here got its value from at the start, if any."""
        if self.parent is None or self.call is None:
            return name
        for there, here in self.call.passed:
            if here == name:
                return self.parent.origin(there)
        return self.parent.origin(name) if self.call.inherits else None

    def tests(self, name: str) -> bool:
        """Tell whether a condition here, or above where the value is handed back, reads a variable."""
        if any(name in condition.names for condition in self.process.conditions):
            return True
        if self.parent is None or self.call is None:
            return False
        return any(self.parent.tests(above) for here, above in self.call.returned if here == name)

    def above(self) -> Iterator[str]:
        """Yield the keys of this process and of those it was called by."""
        yield self.process.key
        if self.parent is not None:
            yield from self.parent.above()


@dataclass
class _Check:
    mapping: ProcessMapping
    models: Models
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    scopes: list[_Scope] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    calls: int = 0
    found: list[tuple[TaskMapping, _Scope, UserTaskElement]] = field(default_factory=list)

    def spells(self, name: str) -> bool:
        """Tell whether a variable's name is anywhere in the models."""
        word = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)")
        return any(word.search(text) for text in self.texts)

    def problem(self, process: str, element: str, found: str, change: str) -> None:
        self.problems.append(Problem(process, element, found, change))


def check_model(mapping: ProcessMapping, xml: str | bytes, models: Models | None = None) -> ModelReport:
    """Compare a model with the mapping.

    :param models: looks up the models of processes that this one calls; without it, or where it finds none, the model's
        own file is searched. A called process that is nowhere is a problem.

    A model that cannot be read is one problem, not an exception: the caller reports it like any other.
    """
    check = _Check(mapping, _with_own(xml, models))
    try:
        root = _Scope(read_process(xml, mapping.process_key))
    except InvalidInput as error:
        change = "deploy a model that has a process with this key, or change process_key in the mapping"
        check.problem(mapping.process_key, "The model", f"it cannot be checked: {error}", change)
        return ModelReport(mapping.process_key, tuple(check.problems))
    check.texts.append(_text(xml))
    _enter(check, root)
    _find_tasks(check)
    for task, scope, element in check.found:
        _check_name(check, task, scope, element)
        _check_groups(check, task, scope, element)
        _check_outcomes(check, task, scope, element)
        _check_conditions(check, task, scope, element)
    _check_shared(check)
    _check_required(check)
    _check_signatures(check)
    _check_ends(check, root.process)
    _note_steps(check)
    return ModelReport(
        process_key=mapping.process_key,
        problems=tuple(dict.fromkeys(check.problems)),
        notes=tuple(dict.fromkeys(check.notes)),
        checked=tuple(dict.fromkeys(scope.process.key for scope in check.scopes)),
        tasks=tuple(
            dict.fromkeys((element.name, task.role, scope.process.key) for task, scope, element in check.found)
        ),
    )


def _text(xml: str | bytes) -> str:
    return xml if isinstance(xml, str) else xml.decode("utf-8", "replace")


def process_key_of(called: str) -> str:
    """Return the key of a called process, which may be named by key or by definition id (``key:version:uuid``)."""
    return called.partition(":")[0]


def _with_own(xml: str | bytes, models: Models | None) -> Models:
    """Return a look-up that also finds the other processes of the model's own file."""

    @cache
    def own() -> Counter[str]:
        return Counter(process_keys(xml))

    def look(key: str) -> str | bytes | None:
        deployed = models(key) if models else None
        if deployed is not None:
            return deployed
        return xml if own()[key] == 1 else None

    return look


def _enter(check: _Check, scope: _Scope) -> None:
    """Take in a process and, below it, every process that it calls."""
    check.scopes.append(scope)
    for call in scope.process.calls:
        where = _named("Call activity", call.name, call.id)
        if check.calls == MAX_CALLS:
            message = f"it calls processes more than {MAX_CALLS} times, so not all of them were looked at"
            check.problem(
                check.mapping.process_key, "The model", message, "call fewer processes, or each from one place"
            )
            return
        check.calls += 1
        if "{" in call.called or not call.called:
            message = (
                f"it names its process as {call.called!r}, which is known only when it runs, so the mapping cannot be "
                "checked against it"
            )
            check.problem(scope.process.key, where, message, "write the called process's key into calledElement")
            continue
        key = process_key_of(call.called)
        if key in scope.above():
            check.notes.append(f"{where} calls {key!r}, which called it: looked at once.")
            continue
        xml = check.models(key)
        if xml is None:
            change = f"deploy {key!r}, or correct calledElement"
            check.problem(scope.process.key, where, f"it calls the process {key!r}, which is not deployed", change)
            continue
        try:
            called = read_process(xml, key)
        except InvalidInput as error:
            check.problem(scope.process.key, where, f"the process {key!r} cannot be read: {error}", "deploy it again")
            continue
        check.texts.append(_text(xml))
        _enter(check, _Scope(called, scope, call))


def _find_tasks(check: _Check) -> None:
    mapping = check.mapping
    everything = [(scope, element) for scope in check.scopes for element in scope.process.user_tasks]
    known: set[tuple[str, str]] = set()
    for task in mapping.tasks:
        fitting = [
            (scope, element)
            for scope, element in everything
            if (element.id == task.key if task.key else element.name == task.name)
        ]
        homes = {(scope.process.key, element.id) for scope, element in fitting}
        if len(homes) == 1:
            check.found += [(task, scope, element) for scope, element in fitting]
            known |= homes
            continue
        wanted = f"with the id {task.key!r}" if task.key else f"(exactly one) with the name {task.name!r}"
        have = ", ".join(f"{one.name!r} (id {one.id!r})" for _, one in everything) or "none"
        message = (
            f"it has {'no' if not homes else len(homes)} user task {wanted}, which the mapping expects for the role "
            f"{task.role!r}; its user tasks are: {have}"
        )
        change = "give the task this id in the model, or correct key and name in the mapping"
        check.problem(mapping.process_key, "The model", message, change)
        known |= homes
    for scope, element in everything:
        if (scope.process.key, element.id) in known:
            continue
        if mapping.is_other(element.name, element.id):
            check.notes.append(
                f"The user task {element.name!r} (id {element.id!r}) is nobody's decision (other_tasks)."
            )
            continue
        message = "it is in the model but not in the mapping, so nobody would know whose decision it is"
        change = (
            f"add it to the mapping's tasks with its role, or, where it decides nothing, add {element.id!r} to "
            "other_tasks, or remove it from the model"
        )
        check.problem(scope.process.key, _named("User task", element.name, element.id), message, change)


def _check_name(check: _Check, task: TaskMapping, scope: _Scope, element: UserTaskElement) -> None:
    if element.name != task.name:
        message = (
            f"it is called {element.name!r}; the mapping calls it {task.name!r}, and the list of waiting tasks carries "
            "names only"
        )
        change = f"set `name: {element.name}` in the mapping, or rename the task"
        check.problem(scope.process.key, _named("User task", element.name, element.id), message, change)


def _check_groups(check: _Check, task: TaskMapping, scope: _Scope, element: UserTaskElement) -> None:
    where = _named("User task", element.name, element.id)
    fed = {one.group_variable for one in check.mapping.tasks if one.group_variable}
    used = [name.strip() for name in _EXPRESSION.findall(element.candidate_groups)]
    for name in used:
        origin = scope.origin(name)
        if origin in fed or (origin or name) in scope.process.own_variables:
            continue
        if origin is None:
            message = (
                f"its candidate groups are {element.candidate_groups!r}, but the call activity "
                f"{scope.call.id if scope.call else ''!r} does not hand {name!r} over, so nobody would be offered the "
                "task"
            )
            change = f"add <in source=… target={name!r}> to the call activity, or set inheritVariables"
            check.problem(scope.process.key, where, message, change)
            continue
        message = (
            f"its candidate groups are {element.candidate_groups!r}, but no group_variable of the mapping feeds "
            f"{origin!r} (fed are: {', '.join(sorted(fed)) or 'none'}), so nobody would be offered the task"
        )
        change = f"set group_variable to {origin!r} in the mapping, or name the group in the model"
        check.problem(scope.process.key, where, message, change)
    if task.group_variable and task.group_variable not in {scope.origin(name) for name in used}:
        message = (
            f"its candidate groups are {element.candidate_groups!r}; the mapping gives it its group in the variable "
            f"{task.group_variable!r}"
        )
        change = f"Set candidateGroups to ${{{task.group_variable}}}, or take group_variable out of the mapping"
        check.problem(scope.process.key, where, message, change)
    if not task.group_variable and not element.candidate_groups and not element.people:
        message = "it has no candidate group and no candidate user, so nobody would be offered it"
        check.problem(scope.process.key, where, message, "set candidateGroups")


def _check_outcomes(check: _Check, task: TaskMapping, scope: _Scope, element: UserTaskElement) -> None:
    where = _named("User task", element.name, element.id)
    allowed = ", ".join(sorted(check.mapping.outcomes))
    for label, value in element.outcomes:
        if value not in check.mapping.outcomes:
            message = (
                f"its form offers the outcome {value!r} ({label}), which the mapping does not know (it knows: "
                f"{allowed}), so such a decision would stay undecided"
            )
            change = f"add {value!r} to the mapping's outcomes, or take it off the form"
            check.problem(scope.process.key, where, message, change)
    for variable in element.outcome_variables:
        if variable != task.outcome_variable:
            message = (
                f"its form puts the outcome into the variable {variable!r}; the mapping reads it from "
                f"{task.outcome_variable!r}"
            )
            change = f"set outcome_variable to {variable!r} in the mapping, or change the form"
            check.problem(scope.process.key, where, message, change)
    if element.outcomes and not element.outcome_variables:
        check.notes.append(
            f"The user task {element.name!r} (id {element.id!r}) has outcomes but names no variable for them; whether "
            f"the service then fills {task.outcome_variable!r} is not known: try it once, or set outcomevariable."
        )
    pattern = re.compile(_COMPARED.format(name=re.escape(task.outcome_variable)))
    for condition in scope.process.conditions:
        for compared in pattern.finditer(condition.text):
            value = next(group for group in compared.groups() if group is not None)
            if value and value not in check.mapping.outcomes:
                message = (
                    f"it compares {task.outcome_variable!r} with {value!r}, an outcome that the mapping does not know "
                    f"(it knows: {allowed})"
                )
                change = f"add {value!r} to the mapping's outcomes, or correct the condition"
                check.problem(scope.process.key, f"Sequence flow (id {condition.flow!r})", message, change)


def _check_conditions(check: _Check, task: TaskMapping, scope: _Scope, element: UserTaskElement) -> None:
    if scope.tests(task.outcome_variable):
        return
    called = f", and the call activity {scope.call.id!r} hands it back to none" if scope.call else ""
    message = (
        f"No condition in the model tests {task.outcome_variable!r}, its outcome{called}, so the decision would change "
        "nothing"
    )
    change = "add a gateway after the task" + (
        f", or <out source={task.outcome_variable!r} target=…> to the call activity" if scope.call else ""
    )
    check.problem(scope.process.key, _named("User task", element.name, element.id), message, change)


def _check_signatures(check: _Check) -> None:
    """Hold the mapping's claim of signatures against the model: what nothing there fills is never a signature."""
    for task, scope, element in check.found:
        if task.signature_variable and not check.spells(task.signature_variable):
            message = (
                f"the mapping reads who signed from {task.signature_variable!r}, which nothing in the model spells"
            )
            change = "add the signing step to the model, or set signature to authenticated in the mapping"
            check.problem(scope.process.key, _named("User task", element.name, element.id), message, change)
    if not check.spells(STATEMENTS):
        check.notes.append(
            f"No form in the model shows {STATEMENTS!r}, the variable that says what each decision states: show it, "
            "read-only, or persons have to look it up among the variables."
        )


def _check_shared(check: _Check) -> None:
    """Look at variables that several tasks write: the later overwrites the earlier."""
    for task, scope, element in check.found:
        if element.instances:
            where = _named("User task", element.name, element.id)
            told = f"it is one task for each of several persons ({element.instances}), all writing the one variable"
            if element.instances == "parallel":
                message = f"{told} {task.outcome_variable!r}, so only the last outcome is left"
                change = "let the form write a variable that is local to the task, or model one task for each role"
                check.problem(scope.process.key, where, message, change)
            else:
                check.notes.append(_seen_between(where, task.outcome_variable))
    for index, (task, scope, element) in enumerate(check.found):
        for other_task, other_scope, other in check.found[index + 1 :]:
            if other_scope is not scope or other_task.outcome_variable != task.outcome_variable or other is element:
                continue
            if _at_once(scope.process, element.id, other.id):
                message = (
                    f"it can wait at the same time as {element.name!r} (id {element.id!r}) and both write their "
                    f"outcome into {task.outcome_variable!r}, so only the later outcome is left"
                )
                change = "give each of the two an outcome variable of its own, in the model and in the mapping"
                check.problem(scope.process.key, _named("User task", other.name, other.id), message, change)
            else:
                where = f"{_named('User task', other.name, other.id)} and {element.name!r} (id {element.id!r})"
                check.notes.append(_seen_between(where, task.outcome_variable))


def _seen_between(where: str, variable: str) -> str:
    return (
        f"{where}: several outcomes go into {variable!r} one after the other. Each is recorded when it is seen; of two "
        "given between two looks, the earlier stays undecided. A variable for each task avoids that."
    )


def _at_once(process: ProcessElement, one: str, other: str) -> bool:
    """Tell whether two steps can wait at the same time: on different branches of a gateway that takes several."""
    before_one, before_other = _leading_to(process, one), _leading_to(process, other)
    only_one, only_other = before_one - before_other, before_other - before_one
    branches: dict[str, set[str]] = {split: set() for split in process.splits}
    for source, target in process.flows:
        if source in branches:
            branches[source].add(target)
    return any(targets & only_one and targets & only_other for targets in branches.values())


def _leading_to(process: ProcessElement, step: str) -> set[str]:
    """Return the steps from which one can be reached, itself included."""
    before: dict[str, list[str]] = defaultdict(list)
    for source, target in process.flows:
        before[target].append(source)
    seen, ahead = {step}, [step]
    while ahead:
        for source in before.get(ahead.pop(), ()):
            if source not in seen:
                seen.add(source)
                ahead.append(source)
    return seen


def _check_required(check: _Check) -> None:
    tested = {
        scope.origin(name)
        for scope in check.scopes
        for condition in scope.process.conditions
        for name in condition.names
    }
    for task in check.mapping.tasks:
        if task.required_variable and task.required_variable not in tested:
            message = (
                f"No condition in the model tests {task.required_variable!r}, which says whether the task is asked for"
            )
            change = "add a gateway before the task, or take required_variable out of the mapping"
            check.problem(check.mapping.process_key, f"User task {task.name!r}", message, change)


def _check_ends(check: _Check, process: ProcessElement) -> None:
    have = {end.id: end for end in process.ends}
    listed = ", ".join(_end(end) for end in have.values()) or "none"
    for end, result in check.mapping.ends.items():
        if end not in have:
            message = (
                f"the mapping expects an end event with the id {end!r} (result {result!r}); the model's end events "
                f"are: {listed}"
            )
            change = "give the end event this id, or correct `ends` in the mapping"
            check.problem(process.key, "The model", message, change)
    for end_id, found in have.items():
        if end_id in check.mapping.other_ends:
            check.notes.append(f"{_named('End event', found.name, end_id)} is no result (other_ends).")
        elif end_id not in check.mapping.ends:
            message = (
                f"the process can end at {end_id!r}, which the mapping does not know, so such an end would have no "
                "result"
            )
            change = (
                "add it to `ends` in the mapping with the result it stands for, or, where only a side branch ends "
                "there, to other_ends"
            )
            check.problem(process.key, _named("End event", found.name, end_id), message, change)


def _note_steps(check: _Check) -> None:
    for scope in check.scopes:
        if scope.process.steps:
            listed = ", ".join(f"{one.name or one.id!r} ({one.kind})" for one in scope.process.steps)
            check.notes.append(f"Steps of {scope.process.key!r} in which no person decides: {listed}.")


def _named(kind: str, name: str, element_id: str) -> str:
    return f"{kind} {name!r} (id {element_id!r})" if name else f"{kind} (id {element_id!r})"


def _end(end: EndElement) -> str:
    return f"{end.id!r} ({end.name})" if end.name else repr(end.id)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
