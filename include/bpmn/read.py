"""Read a BPMN 2.0 model, ours or a customer's, without trusting it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from include.base.errors import InvalidInput

__all__ = [
    "BPMN",
    "CallElement",
    "Condition",
    "EndElement",
    "ProcessElement",
    "StepElement",
    "UserTaskElement",
    "canonical",
    "parse",
    "process_keys",
    "read_process",
]

BPMN = "http://www.omg.org/spec/BPMN/20100524/MODEL"
"""Namespace of BPMN 2.0 models (OMG formal/2011-01-03)."""

_MAX_BYTES = 5_000_000


@dataclass(frozen=True)
class UserTaskElement:
    """A user task as modelled.

    :param candidate_groups: the attribute as written, such as ``${data_owners}``, or "" where nobody is named.
    :param outcomes: ``(label, value)`` of every outcome its form offers; empty where the model lists none.
    :param outcome_variables: the variables the form says an outcome goes into (more than one is a modelling mistake).
    :param people: ``assignee`` or ``candidateUsers`` as written, for a task that names persons instead of groups.
    :param instances: "" for one task, ``parallel`` or ``sequential`` for one task for each of several persons.
    """

    id: str
    name: str
    candidate_groups: str
    outcomes: tuple[tuple[str, str], ...]
    outcome_variables: tuple[str, ...]
    documentation: str = ""
    people: str = ""
    instances: str = ""


@dataclass(frozen=True)
class EndElement:
    """An end event. ``id`` is what history reports as ``endActivityId``."""

    id: str
    name: str


@dataclass(frozen=True)
class Condition:
    """The condition of a sequence flow, as written."""

    flow: str
    text: str

    @property
    def names(self) -> frozenset[str]:
        """Return the words outside quotes, which include every variable the condition reads."""
        return frozenset(re.findall(r"[A-Za-z_]\w*", re.sub(r'"[^"]*"|\'[^\']*\'', " ", self.text)))


@dataclass(frozen=True)
class CallElement:
    """A call activity: another process run as one step.

    :param called: key of the process that is called, or an expression.
    :param inherits: whether the called process starts with all variables of the calling one.
    :param passed: ``(variable here, variable there)`` handed in.
    :param returned: ``(variable there, variable here)`` handed back.
    """

    id: str
    name: str
    called: str
    inherits: bool
    passed: tuple[tuple[str, str], ...]
    returned: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class StepElement:
    """A step in which no person decides: a mail, a call to a service, a timer, …

    :param kind: the element's name in BPMN; for a service task with a ``type``, that type (``mail``, ``http``).
    """

    id: str
    name: str
    kind: str


@dataclass(frozen=True)
class ProcessElement:
    """One process of a model.

    :param ends: the end events of the process itself; those inside an embedded subprocess end only that.
    :param flows: ``(from, to)`` of every sequence flow, and of every event on a step's border.
    :param splits: ids of the gateways that send several branches on at the same time.
    :param own_variables: variables that the model itself gives a value (data objects).
    """

    key: str
    name: str
    user_tasks: tuple[UserTaskElement, ...]
    ends: tuple[EndElement, ...]
    conditions: tuple[Condition, ...]
    calls: tuple[CallElement, ...] = ()
    steps: tuple[StepElement, ...] = ()
    flows: tuple[tuple[str, str], ...] = ()
    splits: tuple[str, ...] = ()
    own_variables: frozenset[str] = frozenset()


def parse(xml: str | bytes) -> Any:
    """Return the root element of a BPMN document.

    Entities are not resolved, nothing is loaded from a network or a DTD, and a document type is refused.

    :raises InvalidInput: not Unicode text, not well-formed, larger than 5 MB, with a document type, or not BPMN 2.0.
    """
    from lxml import etree

    try:
        content = xml.encode("utf-8") if isinstance(xml, str) else xml
    except UnicodeEncodeError as error:
        raise InvalidInput(f"BPMN model: character {error.start + 1} is half of a surrogate pair") from error
    if len(content) > _MAX_BYTES:
        raise InvalidInput(f"BPMN model: {len(content)} bytes; at most {_MAX_BYTES} are read")
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
        encoding="utf-8" if isinstance(xml, str) else None,
    )
    try:
        root = etree.fromstring(content, parser)
    except etree.XMLSyntaxError as error:
        raise InvalidInput(f"BPMN model: not well-formed XML ({error})") from error
    if root.getroottree().docinfo.doctype:
        raise InvalidInput(
            "BPMN model: has a document type declaration, which is refused; remove the <!DOCTYPE …> line"
        )
    if root.tag != f"{{{BPMN}}}definitions":
        raise InvalidInput(
            f"BPMN model: found the root element {root.tag!s}; expected <definitions> of BPMN 2.0 ({BPMN})"
        )
    return root


def canonical(xml: str | bytes) -> bytes:
    """Return a model's bytes in one spelling: C14N 2.0 without comments and without white space around text.

    Two models with equal canonical bytes differ in nothing that an engine or a modeller reads.

    :raises InvalidInput: see :func:`parse`.
    """
    from lxml import etree

    return etree.tostring(parse(xml), method="c14n2", strip_text=True, with_comments=False)


def process_keys(xml: str | bytes) -> list[str]:
    """Return the keys of the processes in a model.

    :raises InvalidInput: see :func:`parse`.
    """
    return [element.get("id", "") for element in parse(xml).findall(f"{{{BPMN}}}process")]


def read_process(xml: str | bytes, key: str | None = None) -> ProcessElement:
    """Return the process with this key, or the only process of the model.

    :raises InvalidInput: the model is malformed or has no such process; the message names those it has.
    """
    root = parse(xml)
    processes = root.findall(f"{{{BPMN}}}process")
    found = [element for element in processes if key is None or element.get("id") == key]
    if len(found) != 1:
        have = ", ".join(repr(element.get("id")) for element in processes) or "none"
        raise InvalidInput(f"BPMN model: expected one process with the key {key!r}; the model has: {have}")
    element = found[0]
    return ProcessElement(
        key=element.get("id", ""),
        name=element.get("name", ""),
        user_tasks=tuple(_user_task(task) for task in element.iter(f"{{{BPMN}}}userTask")),
        ends=tuple(
            EndElement(end.get("id", ""), end.get("name", "")) for end in element.findall(f"{{{BPMN}}}endEvent")
        ),
        conditions=tuple(
            Condition(flow.get("id", ""), (condition.text or "").strip())
            for flow in element.iter(f"{{{BPMN}}}sequenceFlow")
            for condition in flow.findall(f"{{{BPMN}}}conditionExpression")
        ),
        calls=tuple(_call(call) for call in element.iter(f"{{{BPMN}}}callActivity")),
        steps=tuple(_step(step) for step in element.iter() if _local(step) in _STEPS),
        flows=(
            *(
                (flow.get("sourceRef", ""), flow.get("targetRef", ""))
                for flow in element.iter(f"{{{BPMN}}}sequenceFlow")
            ),
            *(
                (event.get("attachedToRef", ""), event.get("id", ""))
                for event in element.iter(f"{{{BPMN}}}boundaryEvent")
            ),
        ),
        splits=tuple(
            gateway.get("id", "")
            for kind in ("parallelGateway", "inclusiveGateway")
            for gateway in element.iter(f"{{{BPMN}}}{kind}")
        ),
        own_variables=frozenset(
            item.get("name") or item.get("id", "") for item in element.iter(f"{{{BPMN}}}dataObject")
        ),
    )


_TASKS = {"task", "manualTask", "serviceTask", "sendTask", "scriptTask", "receiveTask", "businessRuleTask"}
_STEPS = _TASKS | {"intermediateCatchEvent", "intermediateThrowEvent", "boundaryEvent"}


def _step(element: Any) -> StepElement:
    return StepElement(element.get("id", ""), element.get("name", ""), _attribute(element, "type") or _local(element))


def _call(element: Any) -> CallElement:
    return CallElement(
        id=element.get("id", ""),
        name=element.get("name", ""),
        called=element.get("calledElement", ""),
        inherits=_attribute(element, "inheritVariables") == "true",
        passed=tuple(_handed(element, "in")),
        returned=tuple(_handed(element, "out")),
    )


def _variable_of(expression: str) -> str:
    """Return what is in ``${…}`` or ``#{…}``, or the text itself where it is no such expression."""
    text = expression.strip()
    return text[2:-1].strip() if text.startswith(("${", "#{")) and text.endswith("}") else expression


def _handed(call: Any, direction: str) -> list[tuple[str, str]]:
    """Read ``<flowable:in source="a" target="b"/>``; an expression counts where it is a variable's name alone."""
    pairs = []
    for item in _extensions(call, direction):
        source = item.get("source") or _variable_of(item.get("sourceExpression", ""))
        if source and item.get("target"):
            pairs.append((source, item.get("target")))
    return pairs


def _user_task(task: Any) -> UserTaskElement:
    documentation = task.find(f"{{{BPMN}}}documentation")
    outcomes = list(_listed_outcomes(_setting(task, "possibleoutcomes")))
    known = {value for _, value in outcomes}
    variables = {value: None for value in (_setting(task, "outcomevariable"),) if value}
    for field in _extensions(task, "formProperty"):
        values = [(value.get("name", ""), value.get("id", "")) for value in field if _local(value) == "value"]
        if values:
            outcomes += [pair for pair in values if pair[1] not in known]
            known |= {value for _, value in values}
            variables[field.get("variable") or field.get("id", "")] = None
    return UserTaskElement(
        id=task.get("id", ""),
        name=task.get("name", ""),
        candidate_groups=_attribute(task, "candidateGroups"),
        outcomes=tuple(outcomes),
        outcome_variables=tuple(variables),
        documentation=(documentation.text or "").strip() if documentation is not None else "",
        people=_attribute(task, "assignee") or _attribute(task, "candidateUsers"),
        instances=_instances(task),
    )


def _instances(task: Any) -> str:
    loop = task.find(f"{{{BPMN}}}multiInstanceLoopCharacteristics")
    if loop is None:
        return ""
    return "sequential" if loop.get("isSequential") == "true" else "parallel"


def _listed_outcomes(text: str) -> list[tuple[str, str]]:
    """Read ``Approve:approved,Reject:rejected``, the form of OpenText's property ``possibleoutcomes``."""
    pairs = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        label, _, value = part.rpartition(":")
        pairs.append((label.strip() or value.strip(), value.strip()))
    return pairs


def _setting(task: Any, name: str) -> str:
    """Return a modeller's property by any of the ways XML can carry it: attribute, element, or named property.

    OpenText's modeller keeps it in JSON; how its XML carries it is not known, so all three are read.
    """
    by_attribute = _attribute(task, name)
    if by_attribute:
        return by_attribute
    for element in _extensions(task, name):
        return (element.get("value") or element.text or "").strip()
    for element in _extensions(task, "property"):
        if element.get("name") == name:
            return (element.get("value") or element.text or "").strip()
    return ""


def _extensions(task: Any, name: str) -> list[Any]:
    holder = task.find(f"{{{BPMN}}}extensionElements")
    return [] if holder is None else [element for element in holder if _local(element) == name]


def _attribute(element: Any, name: str) -> str:
    for key, value in element.attrib.items():
        if key.rpartition("}")[2] == name:
            return value.strip()
    return ""


def _local(element: Any) -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""
