"""Confluence storage format: reading it without risk, and telling a real change from the server's own rewriting.

Storage format is XML whose ``ac:`` and ``ri:`` prefixes are implied and whose named entities are HTML's. The
server rewrites what it is given: it adds ids to macros, turns ``<b>`` into ``<strong>``, wraps commented text in
markers. :func:`canonical` undoes all of that, so two bodies that mean the same have the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html.entities import html5
from typing import Any

from lxml import etree

from include.base.canonical import digest_of, sha256_hex
from include.base.errors import InvalidInput

__all__ = [
    "AC",
    "MAX_BYTES",
    "MAX_DEPTH",
    "RI",
    "approval_digests",
    "canonical",
    "cdata",
    "digest",
    "equal",
    "escape",
    "local_name",
    "parameters",
    "parse",
    "properties",
    "qualified",
    "text_of",
]

AC = "http://atlassian.com/content"
RI = "http://atlassian.com/resource/identifier"
PREFIXES = {AC: "ac", RI: "ri"}

MAX_BYTES = 5 * 1024 * 1024
"""Confluence refuses a page over 5 MB, so a larger body did not come from it."""

MAX_DEPTH = 120
"""Levels of nesting; people's pages stay far below, and everything here recurses."""

VOLATILE_ATTRIBUTES = frozenset(
    {
        "ac:local-id",
        "ac:macro-id",
        "ac:schema-version",
        "ac:task-uuid",
        "data-local-id",
        "local-id",
        "ri:version-at-save",
    }
)
VOLATILE_ELEMENTS = frozenset({"ac:task-uuid"})
SYNONYMS = {"b": "strong", "i": "em"}
VERBATIM = frozenset({"ac:plain-text-body", "ac:plain-text-link-body", "pre"})
CONTAINERS = frozenset(
    {
        "ac:adf-extension",
        "ac:image",
        "ac:layout",
        "ac:layout-cell",
        "ac:layout-section",
        "ac:link",
        "ac:rich-text-body",
        "ac:structured-macro",
        "ac:task",
        "ac:task-list",
        "body",
        "colgroup",
        "dl",
        "ol",
        "table",
        "tbody",
        "tfoot",
        "thead",
        "tr",
        "ul",
    }
)
BLOCKS = CONTAINERS.difference({"ac:image", "ac:link", "ac:structured-macro", "ac:adf-extension"}) | {
    "ac:link-body",
    "ac:parameter",
    "ac:task-body",
    "ac:task-id",
    "ac:task-status",
    "blockquote",
    "br",
    "dd",
    "div",
    "dt",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "hr",
    "li",
    "p",
    "td",
    "th",
}

_HEAD = f'<body xmlns:ac="{AC}" xmlns:ri="{RI}">\n'
_TAIL = "\n</body>"
_ENTITY = re.compile(r"<!\[CDATA\[.*?\]\]>|<!--.*?-->|&([A-Za-z][A-Za-z0-9]*);", re.DOTALL)
_XML_ENTITIES = frozenset({"amp", "lt", "gt", "quot", "apos"})
_SPACE = re.compile(r"[ \t\r\n]+")
_WHERE = re.compile(r"[,\s]*line \d+, column \d+\s*\Z")
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_QUOTES = str.maketrans({"\u201c": '"', "\u201d": '"', "\u201e": '"', "\u2018": "'", "\u2019": "'", "\u201a": "'"})


def parse(body: str, *, max_bytes: int = MAX_BYTES) -> Any:
    """Return storage format as an lxml element called ``body``; comments and processing instructions are dropped.

    Nothing outside the text is ever loaded: no document type, no external entity, no network.

    :param max_bytes: the largest body accepted, in bytes of UTF-8.
    :raises InvalidInput: for a body that is too large, too deep, not Unicode text or not well-formed; the message
        names line and column of the body where they are known, and what is usually wrong there.
    """
    try:
        size = len(body.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise InvalidInput(f"storage format: character {error.start + 1} is half of a surrogate pair") from error
    if size > max_bytes:
        raise InvalidInput(f"storage format: found {size:,} bytes, allowed are {max_bytes:,}")
    parser = etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
        strip_cdata=True,
    )
    source = _HEAD + _expand_entities(body) + _TAIL
    try:
        root = etree.fromstring(source.encode("utf-8"), parser)
    except etree.XMLSyntaxError as error:
        raise InvalidInput(_explain(error)) from error
    _refuse_depth(root)
    return root


def canonical(body: str) -> bytes:
    """Return the bytes that two bodies share exactly when a reader would see the same page.

    Dropped: ids that the server hands out, markers of inline comments, the order of macro parameters, white space
    that does not show, and the curling of quotation marks outside code (the server curls them on its own).
    Letter case counts: ``APPROVED`` is not ``approved``.

    :raises InvalidInput: as :func:`parse`.
    """
    return _serialise(_canonical_node(parse(body))).encode("utf-8")


def equal(first: str, second: str) -> bool:
    """Tell whether two bodies have the same canonical form.

    :raises InvalidInput: as :func:`parse`.
    """
    return first == second or canonical(first) == canonical(second)


def digest(body: str) -> str:
    """Return the SHA-256 of a body's canonical form, 64 hex characters.

    :raises InvalidInput: as :func:`parse`.
    """
    return sha256_hex(canonical(body))


def escape(text: str) -> str:
    """Return text ready for an element or a quoted attribute; characters XML cannot hold become U+FFFD."""
    text = _NOT_XML.sub("\ufffd", text)
    for plain, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("'", "&#39;")):
        text = text.replace(plain, entity)
    return text


def cdata(text: str) -> str:
    """Return text as CDATA for a macro's plain-text body; ``]]>`` inside is split over two sections."""
    return "<![CDATA[" + _NOT_XML.sub("\ufffd", text).replace("]]>", "]]]]><![CDATA[>") + "]]>"


def properties(body: str) -> dict[str, str]:
    """Return the rows of a page's *page properties* (macro ``details``) as ``{row name: cell text}``.

    Both shapes are read: a heading in the first cell of each row, and one row of headings above one row of cells.
    A status lozenge counts as its title, a mention as ``@`` and the account id. The first row of a name wins.

    :raises InvalidInput: as :func:`parse`.
    """
    return _rows_of(parse(body))


def approval_digests(body: str) -> tuple[str, str]:
    """Return two digests: of the body without its ``details`` macros, and of those macros' rows.

    Together they tell an edit of the text from an edit of the approval rows.

    :raises InvalidInput: as :func:`parse`.
    """
    root = parse(body)
    node = _canonical_node(root, leave_out=lambda element: _macro_name(element) == "details")
    return sha256_hex(_serialise(node).encode("utf-8")), digest_of(_rows_of(root))


def qualified(element: Any) -> str:
    """Return an element's name as it is written: ``p``, ``ac:link``, ``ri:page``."""
    return _name(element.tag)


def local_name(key: str) -> str:
    """Return an attribute's name as it is written, from lxml's ``{namespace}name``."""
    return _name(key)


def parameters(macro: Any) -> dict[str, str]:
    """Return a macro's parameters, ``{name: text}``; the unnamed one has the name ``""``."""
    return {child.get(f"{{{AC}}}name", ""): text_of(child) for child in macro if qualified(child) == "ac:parameter"}


def text_of(element: Any) -> str:
    """Return the text a reader sees in an element, white space collapsed."""
    return " ".join("".join(_texts(element)).split())


def _texts(element: Any) -> Iterator[str]:
    name = qualified(element)
    if name == "ri:user":
        yield "@" + (element.get(f"{{{RI}}}account-id") or element.get(f"{{{RI}}}userkey") or "")
    elif name == "time":
        yield element.get("datetime", "")
    elif _macro_name(element) == "status":
        yield parameters(element).get("title", "")
        return
    if element.text:
        yield element.text
    for child in element:
        if qualified(child) != "ac:parameter" and qualified(child) not in VOLATILE_ELEMENTS:
            yield from _texts(child)
        if qualified(child) in BLOCKS:
            yield " "
        if child.tail:
            yield child.tail


def _rows_of(root: Any) -> dict[str, str]:
    rows: dict[str, str] = {}
    for macro in root.iter(f"{{{AC}}}structured-macro"):
        if _macro_name(macro) != "details":
            continue
        for table in macro.iter("table"):
            for name, value in _table_rows(table):
                rows.setdefault(name, value)
    return rows


def _table_rows(table: Any) -> Iterator[tuple[str, str]]:
    lines = [[cell for cell in line if qualified(cell) in ("th", "td")] for line in table.iter("tr")]
    lines = [line for line in lines if line]
    across = len(lines) >= 2 and len(lines[0]) > 1 and all(qualified(cell) == "th" for cell in lines[0])
    if across:
        for heading, cell in zip(lines[0], lines[1], strict=False):
            yield text_of(heading), text_of(cell)
        return
    for line in lines:
        if len(line) >= 2:
            yield text_of(line[0]), text_of(line[1])


def _macro_name(element: Any) -> str | None:
    if qualified(element) in ("ac:structured-macro", "ac:macro"):
        return element.get(f"{{{AC}}}name", "")
    return None


def _name(tag: str) -> str:
    if not tag.startswith("{"):
        return tag
    namespace, _, name = tag[1:].partition("}")
    prefix = PREFIXES.get(namespace)
    return f"{prefix}:{name}" if prefix else tag


def _expand_entities(body: str) -> str:
    def replace(found: re.Match[str]) -> str:
        name = found.group(1)
        if name is None or name in _XML_ENTITIES:
            return found.group(0)
        characters = html5.get(name + ";")
        if characters is None:
            line = body.count("\n", 0, found.start()) + 1
            column = found.start() - body.rfind("\n", 0, found.start())
            raise InvalidInput(
                f"storage format: line {line}, column {column}: HTML has no entity &{name}; "
                f"(write &amp;{name}; for the text)"
            )
        return "".join(f"&#{ord(character)};" for character in characters)

    return _ENTITY.sub(replace, body)


def _explain(error: etree.XMLSyntaxError) -> str:
    line, column = error.position
    message = _WHERE.sub("", (error.msg or "not well-formed").strip())
    message = re.sub(r"line (\d+)", lambda found: f"line {max(1, int(found.group(1)) - 1)}", message)
    hint = "every tag must be closed in the order it was opened"
    if "Namespace prefix" in message:
        hint = "only the prefixes ac: and ri: exist in storage format"
    elif "Entity" in message or "xmlParseEntityRef" in message or "EntityRef" in message:
        hint = "a bare & is written &amp;"
    elif "PCDATA invalid Char" in message or "Char 0x" in message or "xmlParseCharRef" in message:
        hint = "control characters cannot be in a page"
    elif "Attr" in message or "attribute" in message:
        hint = "attribute values are quoted, and no attribute is given twice"
    elif "depth" in message.lower():
        hint = "the page is nested too deeply"
    elif "DOCTYPE" in message or "StartTag: invalid element name" in message:
        hint = "a page holds no document type, and a bare < is written &lt;"
    return f"storage format: line {max(1, line - 1)}, column {column}: {message} ({hint})"


def _refuse_depth(root: Any) -> None:
    depth = 0
    for event, element in etree.iterwalk(root, events=("start", "end")):
        depth += 1 if event == "start" else -1
        if depth > MAX_DEPTH:
            raise InvalidInput(
                f"storage format: line {max(1, (element.sourceline or 2) - 1)}: more than {MAX_DEPTH} levels of nesting"
            )


@dataclass
class _Node:
    name: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: list[_Node | str] = field(default_factory=list)


def _canonical_node(element: Any, *, verbatim: bool = False, leave_out: Callable[[Any], bool] | None = None) -> _Node:
    name = qualified(element)
    name = SYNONYMS.get(name, name)
    attributes = {
        written: value
        for written, value in ((local_name(key), value) for key, value in element.attrib.items())
        if written not in VOLATILE_ATTRIBUTES
    }
    node = _Node(name, attributes)
    verbatim = verbatim or name in VERBATIM
    _append_children(node, element, verbatim=verbatim, leave_out=leave_out)
    if not verbatim:
        _tidy(node)
    if name in ("ac:structured-macro", "ac:macro"):
        given = [child for child in node.children if isinstance(child, _Node) and child.name == "ac:parameter"]
        rest = [child for child in node.children if child not in given]
        node.children = [*sorted(given, key=_serialise), *rest]
    return node


def _append_children(node: _Node, element: Any, *, verbatim: bool, leave_out: Callable[[Any], bool] | None) -> None:
    _append_text(node, element.text)
    for child in element:
        name = qualified(child)
        if name == "ac:inline-comment-marker":
            _append_children(node, child, verbatim=verbatim, leave_out=leave_out)
        elif name not in VOLATILE_ELEMENTS and not (leave_out and leave_out(child)):
            node.children.append(_canonical_node(child, verbatim=verbatim, leave_out=leave_out))
        _append_text(node, child.tail)


def _append_text(node: _Node, text: str | None) -> None:
    if not text:
        return
    if node.children and isinstance(node.children[-1], str):
        node.children[-1] += text
    else:
        node.children.append(text)


def _tidy(node: _Node) -> None:
    tidy: list[_Node | str] = []
    last = len(node.children) - 1
    for position, child in enumerate(node.children):
        if isinstance(child, _Node):
            tidy.append(child)
            continue
        text = _SPACE.sub(" ", child).translate(_QUOTES)
        if node.name in CONTAINERS and text == " ":
            continue
        edge = node.name in BLOCKS or node.name in CONTAINERS
        if (position == 0 and edge) or (position > 0 and _is_block(node.children[position - 1])):
            text = text.lstrip(" ")
        if (position == last and edge) or (position < last and _is_block(node.children[position + 1])):
            text = text.rstrip(" ")
        if text:
            tidy.append(text)
    node.children = tidy


def _is_block(child: _Node | str) -> bool:
    return isinstance(child, _Node) and child.name in BLOCKS


def _serialise(node: _Node) -> str:
    attributes = "".join(f' {name}="{escape(value)}"' for name, value in sorted(node.attributes.items()))
    inner = "".join(
        _serialise(child) if isinstance(child, _Node) else escape(child.replace("\r\n", "\n"))
        for child in node.children
    )
    return f"<{node.name}{attributes}>{inner}</{node.name}>"
