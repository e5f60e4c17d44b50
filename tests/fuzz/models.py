"""Process models as a modeller, a tool or a stranger could hand them in: the shipped ones, changed in some places."""

from __future__ import annotations

import re
from random import Random

from include.bpmn.check import check_model
from include.bpmn.mapping import MAPPINGS, ProcessMapping, load_mapping
from include.bpmn.read import canonical, process_keys, read_process
from tests.fuzz.guidelines import ODD, spoilt

MODELS = tuple(path.read_text("utf-8") for path in sorted(MAPPINGS.parent.glob("*.bpmn")))
EXPRESSIONS = (
    "${",
    "${}",
    "$ {x}",
    "${" + " " * 3000,
    "#{a.b[0]}",
    "${${x}}",
    '${x == "',
    "${a} ${b}",
    "a:b:c",
    ",,:,",
)
ELEMENTS = (
    '<callActivity id="again" calledElement="{key}"/>' * 3,
    '<callActivity id="other" calledElement="other"><extensionElements><in source="a" target="b"/>'
    '<out sourceExpression="${ x " target="quality_decision"/></extensionElements></callActivity>',
    '<userTask id="extra" name="Review quality"/>',
    "<userTask/><task/><endEvent/><sequenceFlow/><callActivity/><boundaryEvent/><dataObject/>",
    '<parallelGateway id="start"/><inclusiveGateway id="owner_decided"/>',
    "<subProcess>" * 90 + "</subProcess>" * 90,
    "<subProcess>" * 300 + "</subProcess>" * 300,
    "<!-- c --><?pi x?><![CDATA[x]]>&amp;&#10;",
)
BROKEN = (
    "<",
    "&",
    "&x;",
    "]]>",
    "</process>",
    "<process>",
    "<!DOCTYPE x>",
    "\x00",
    "\ud800",
    '"',
    "<q:x/>",
    'id="start"',
)
_VALUE = re.compile(r'"[^"<>]*"')
_OPENED = re.compile(r"(?<=</userTask>)|(?<=</endEvent>)|(?<=</sequenceFlow>)|(?<=<extensionElements>)")


def model(random: Random) -> str:
    """Return a model: some attributes changed, some elements added, one time in five not well-formed."""
    xml = random.choice(MODELS)
    for _ in range(random.randint(0, 4)):
        values = list(_VALUE.finditer(xml))
        new = random.choice((*ODD, *EXPRESSIONS, random.choice(values).group()))
        xml = _put(xml, random.choice(values).span(), '"' + re.sub('[<>"&\x00-\x1f\ud800-\udfff\ufffe]', "", new) + '"')
    for _ in range(random.randint(0, 2)):
        places = list(_OPENED.finditer(xml))
        if places:
            added = random.choice(ELEMENTS).replace("{key}", random.choice(("labeling_approval", "dataset_release")))
            xml = _put(xml, random.choice(places).span(), added)
    return xml if random.random() < 0.8 else spoilt(random, xml, BROKEN)


def _put(text: str, span: tuple[int, int], new: str) -> str:
    return text[: span[0]] + new + text[span[1] :]


def _mapping(random: Random) -> ProcessMapping:
    mappings = load_mapping("default", MAPPINGS)
    return random.choice((mappings.labeling_approval, mappings.dataset_release))


def _read(random: Random) -> None:
    xml = model(random)
    canonical(xml if random.random() < 0.5 else xml.encode("utf-8", "replace"))
    for key in process_keys(xml):
        read_process(xml, key)


def _check(random: Random) -> None:
    deployed = {"other": model(random), "labeling_approval": model(random)}
    report = check_model(_mapping(random), model(random), random.choice((None, deployed.get)))
    report.text()
    report.markdown()


TARGETS = {"process_model": _read, "process_model_check": _check}
