"""Storage format as the local Confluence treats it: refused when malformed, otherwise rewritten as the service does.

Deliberately apart from ``include.systems.confluence.storage``: what is tested against this must not share its parser's
habits.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from html.entities import html5
from typing import Any

from lxml import etree

__all__ = [
    "AC",
    "RI",
    "Malformed",
    "Task",
    "attribute",
    "mark",
    "name_of",
    "parse",
    "rewrite",
    "serialise",
    "tasks",
    "tick",
]

AC = "http://atlassian.com/content"
RI = "http://atlassian.com/resource/identifier"
_HEAD = f'<body xmlns:ac="{AC}" xmlns:ri="{RI}">'
_CDATA = re.compile(r"(<!\[CDATA\[.*?\]\]>)", re.DOTALL)
_ENTITY = re.compile(r"&([A-Za-z][A-Za-z0-9]*);")
_KEPT = {"amp", "lt", "gt", "quot", "apos"}
_RENAMED = {"b": "strong", "i": "em"}


class Malformed(ValueError):
    """The body is not storage format; the text is what the service would say."""


@dataclass(frozen=True)
class Task:
    """One inline task of a body."""

    local_id: str
    complete: bool
    body: str
    assigned_to: str | None
    due: str | None


def parse(body: str) -> Any:
    """Return the body as an lxml tree below a root of our own."""
    pieces = _CDATA.split(body)
    pieces[::2] = [_ENTITY.sub(_character, piece) for piece in pieces[::2]]
    parser = etree.XMLParser(resolve_entities=False, no_network=True, strip_cdata=False, remove_comments=True)
    try:
        return etree.fromstring((_HEAD + "".join(pieces) + "</body>").encode("utf-8"), parser)
    except etree.XMLSyntaxError as error:
        raise Malformed(f"Error parsing xhtml: {error.msg}") from error


def _character(found: re.Match[str]) -> str:
    name = found.group(1)
    if name in _KEPT:
        return found.group(0)
    if name + ";" not in html5:
        raise Malformed(f'Error parsing xhtml: Undeclared general entity "{name}"')
    return "".join(f"&#{ord(character)};" for character in html5[name + ";"])


def serialise(root: Any) -> str:
    """Return a tree as storage format, empty elements written ``<x />``."""
    text = etree.tostring(root, encoding="unicode")
    inner = text[text.index(">") + 1 : text.rindex("<")] if not text.endswith("/>") else ""
    pieces = _CDATA.split(inner)
    pieces[::2] = [re.sub(r"(?<! )/>", " />", piece) for piece in pieces[::2]]
    return "".join(pieces)


def rewrite(body: str) -> str:
    """Return the body as the service stores it: synonyms replaced, macros and tasks given ids.

    :raises Malformed: the body is not well-formed.
    """
    root = parse(body)
    number = 0
    for element in root.iter(etree.Element):
        element.tag = _RENAMED.get(element.tag, element.tag)
        name = name_of(element)
        if name == "ac:structured-macro":
            for key, value in (("schema-version", "1"), ("macro-id", str(uuid.uuid4()))):
                if f"{{{AC}}}{key}" not in element.attrib:
                    element.set(f"{{{AC}}}{key}", value)
        elif name == "ac:task":
            number += 1
            if element.find(f"{{{AC}}}task-id") is None:
                identifier = etree.Element(f"{{{AC}}}task-id")
                identifier.text = str(number)
                element.insert(0, identifier)
            if element.find(f"{{{AC}}}task-uuid") is None:
                identifier = etree.Element(f"{{{AC}}}task-uuid")
                identifier.text = str(uuid.uuid4())
                element.insert(1, identifier)
    return serialise(root)


def tasks(body: str) -> Iterator[Task]:
    """Yield the inline tasks of a stored body in reading order."""
    for element in parse(body).iter(f"{{{AC}}}task"):
        content = element.find(f"{{{AC}}}task-body")
        user = None if content is None else content.find(f".//{{{RI}}}user")
        due = None if content is None else content.find(".//time")
        yield Task(
            local_id=element.findtext(f"{{{AC}}}task-id", "").strip(),
            complete=element.findtext(f"{{{AC}}}task-status", "").strip() == "complete",
            body="" if content is None else serialise(content),
            assigned_to=None if user is None else user.get(f"{{{RI}}}account-id") or user.get(f"{{{RI}}}userkey"),
            due=None if due is None else due.get("datetime"),
        )


def tick(body: str, local_id: str, status: str) -> str:
    """Return a stored body with one task's status changed."""
    root = parse(body)
    for element in root.iter(f"{{{AC}}}task"):
        if element.findtext(f"{{{AC}}}task-id", "").strip() == local_id:
            mark = element.find(f"{{{AC}}}task-status")
            if mark is None:
                mark = etree.SubElement(element, f"{{{AC}}}task-status")
            mark.text = status
    return serialise(root)


def mark(body: str, words: str, index: int, reference: str) -> tuple[str, int]:
    """Return a stored body with a marker of an inline comment around one occurrence of words, and how many there are.

    Words that go across elements are not found.
    """
    root = parse(body)
    places = []
    for element in root.iter(etree.Element):
        for tail, text in ((False, element.text), (True, element.tail)):
            start = (text or "").find(words)
            while start >= 0:
                places.append((element, tail, start))
                start = (text or "").find(words, start + len(words))
    if index < len(places):
        element, tail, start = places[index]
        text = element.tail if tail else element.text
        marker = etree.Element(f"{{{AC}}}inline-comment-marker", {f"{{{AC}}}ref": reference})
        marker.text, marker.tail = words, text[start + len(words) :]
        if tail:
            element.tail = text[:start]
            parent = element.getparent()
            parent.insert(parent.index(element) + 1, marker)
        else:
            element.text = text[:start]
            element.insert(0, marker)
    return serialise(root), len(places)


def name_of(element: Any) -> str:
    """Return an element's name as written: ``p``, ``ac:link``."""
    return str(element.tag).replace(f"{{{AC}}}", "ac:").replace(f"{{{RI}}}", "ri:")


def attribute(element: Any, name: str) -> str:
    """Return an attribute by its written name, or an empty text."""
    namespace, _, local = name.rpartition(":")
    return element.get(f"{{{ {'ac': AC, 'ri': RI}[namespace] }}}{local}" if namespace else name, "")
