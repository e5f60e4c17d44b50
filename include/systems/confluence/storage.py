"""Confluence storage format: reading it without risk, and telling a real change from the server's own rewriting.

Storage format is XML whose ``ac:`` and ``ri:`` prefixes are implied and whose named entities are HTML's. The
server rewrites what it is given: it adds ids to macros, turns ``<b>`` into ``<strong>``, wraps commented text in
markers. :func:`canonical` undoes all of that, so two bodies that mean the same have the same bytes.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from html.entities import html5
from itertools import groupby
from typing import Any

from lxml import etree

from include.base.canonical import digest_of, sha256_hex
from include.base.errors import InvalidInput

__all__ = [
    "AC",
    "MAX_ATTRIBUTES",
    "MAX_BYTES",
    "MAX_DEPTH",
    "RI",
    "Texts",
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

MAX_ATTRIBUTES = 100
"""Attributes of one element; storage format defines a dozen, and reading them takes the square of their number."""

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
UNSEEN = VOLATILE_ELEMENTS | {"ac:parameter", "ac:placeholder"}
"""Elements whose texts a reader does not see where they stand."""
SYNONYMS = {"b": "strong", "i": "em"}
VERBATIM = frozenset({"ac:plain-text-body", "ac:plain-text-link-body", "pre"})
ASKED_FOR = frozenset({"h1", "h2", "h3", "h4", "h5", "h6", "td", "th"})
"""Elements whose texts are asked for one by one, though one may lie in another."""
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
# What is not closed goes on to the end: else each of many openings would be followed there.
_ENTITY = re.compile(
    r"<!\[CDATA\[.*?(?:\]\]>|\Z)|<!--.*?(?:-->|\Z)|<\?.*?(?:\?>|\Z)|&([A-Za-z][A-Za-z0-9]*);", re.DOTALL
)
_XML_ENTITIES = frozenset({"amp", "lt", "gt", "quot", "apos"})
_SPACE = re.compile(r"[ \t\r\n]+")
_WHERE = re.compile(r"[,\s]*line \d+, column \d+\s*\Z")
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_QUOTES = str.maketrans({"\u201c": '"', "\u201d": '"', "\u201e": '"', "\u2018": "'", "\u2019": "'", "\u201a": "'"})


def parse(body: str, *, max_bytes: int = MAX_BYTES) -> Any:
    """Return storage format as an lxml element called ``body``; comments and processing instructions are dropped.

    Nothing outside the text is ever loaded: no document type, no external entity, no network.

    :param max_bytes: the largest body accepted, in bytes of UTF-8.
    :raises InvalidInput: for a body that is too large, too deep, with too many attributes on one element, not Unicode
        text or not well-formed; the message names line and column of the body where they are known, and what is
        usually wrong there.
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
    _refuse_excess(root)
    return root


def canonical(body: str) -> bytes:
    """Return the bytes that two bodies share exactly when a reader would see the same page.

    Dropped: ids that the server hands out, markers of inline comments, the order of macro parameters, white space
    that does not show, and the curling of quotation marks outside code (the server curls them on its own).
    Letter case counts: ``APPROVED`` is not ``approved``.

    :raises InvalidInput: as :func:`parse`.
    """
    return _canonical_node(parse(body)).written.encode("utf-8")


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
    return sha256_hex(node.written.encode("utf-8")), digest_of(_rows_of(root))


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
    return Texts().of(element)


class Texts:
    """Texts of many elements of one document.

    A heading or a cell that lies in another is read once, not once for each it lies in.
    """

    def __init__(self) -> None:
        self._whole: dict[Any, str] = {}
        self._collapsed: dict[Any, str] = {}

    def of(self, element: Any) -> str:
        """Return the text a reader sees in an element, white space collapsed."""
        if element not in self._collapsed:
            self._collapsed[element] = " ".join(self._read(element).split())
        return self._collapsed[element]

    def _read(self, element: Any) -> str:
        name = qualified(element)
        if name not in ASKED_FOR:
            return "".join(self._pieces(element, name))
        if element not in self._whole:
            self._whole[element] = "".join(self._pieces(element, name))
        return self._whole[element]

    def _pieces(self, element: Any, name: str) -> list[str]:
        if _macro_name(element) == "status":
            return [parameters(element).get("title", "")]
        pieces = [element.text or ""]
        if name == "ri:user":
            pieces.insert(0, "@" + (element.get(f"{{{RI}}}account-id") or element.get(f"{{{RI}}}userkey") or ""))
        elif name == "time":
            pieces.insert(0, element.get("datetime", ""))
        for child in element:
            below = qualified(child)
            if below not in UNSEEN:
                pieces.append(self._read(child))
            if below in BLOCKS:
                pieces.append(" ")
            pieces.append(child.tail or "")
        return pieces


def _rows_of(root: Any) -> dict[str, str]:
    rows: dict[str, str] = {}
    lines, texts = _lines_of_tables(root), Texts()
    for macro in root.iter(f"{{{AC}}}structured-macro"):
        if _macro_name(macro) != "details":
            continue
        for table in macro.iter("table"):
            # once, though the macro may lie in another
            for name, value in _table_rows(lines.pop(table, []), texts):
                rows.setdefault(name, value)
    return rows


def _lines_of_tables(root: Any) -> dict[Any, list[list[Any]]]:
    """Return, per table, the cells of its lines, those of the tables in it included, in reading order."""
    lines: dict[Any, list[list[Any]]] = defaultdict(list)
    for line in root.iter("tr"):
        cells = [cell for cell in line if qualified(cell) in ("th", "td")]
        if cells:
            for table in line.iterancestors("table"):
                lines[table].append(cells)
    return lines


def _table_rows(lines: list[list[Any]], texts: Texts) -> Iterator[tuple[str, str]]:
    across = len(lines) >= 2 and len(lines[0]) > 1 and all(qualified(cell) == "th" for cell in lines[0])
    if across:
        for heading, cell in zip(lines[0], lines[1], strict=False):
            yield texts.of(heading), texts.of(cell)
        return
    for line in lines:
        if len(line) >= 2:
            yield texts.of(line[0]), texts.of(line[1])


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
    # after the first line it quotes the page
    message = _WHERE.sub("", (error.msg or "not well-formed").strip().partition("\n")[0])
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


def _refuse_excess(root: Any) -> None:
    depth = 0
    for event, element in etree.iterwalk(root, events=("start", "end")):
        depth += 1 if event == "start" else -1
        if depth > MAX_DEPTH:
            raise _excess(element, f"more than {MAX_DEPTH} levels of nesting")
        if event == "start" and len(element.attrib) > MAX_ATTRIBUTES:
            found = f"{len(element.attrib):,} attributes on one element"
            raise _excess(element, f"found {found}, allowed are {MAX_ATTRIBUTES}")


def _excess(element: Any, what: str) -> InvalidInput:
    return InvalidInput(f"storage format: line {max(1, (element.sourceline or 2) - 1)}: {what}")


@dataclass(frozen=True)
class _Node:
    """An element in its canonical form, written once however deep it lies."""

    name: str
    written: str


def _canonical_node(element: Any, *, verbatim: bool = False, leave_out: Callable[[Any], bool] | None = None) -> _Node:
    name = qualified(element)
    name = SYNONYMS.get(name, name)
    verbatim = verbatim or name in VERBATIM
    children = list(_texts_joined(_children(element, verbatim=verbatim, leave_out=leave_out)))
    if not verbatim:
        children = list(_tidy(name, children))
    if name in ("ac:structured-macro", "ac:macro"):
        children = _parameters_first(children)
    inner = "".join(
        child.written if isinstance(child, _Node) else escape(child.replace("\r\n", "\n")) for child in children
    )
    return _Node(name, f"<{name}{_attributes(element)}>{inner}</{name}>")


def _attributes(element: Any) -> str:
    written = sorted((local_name(key), value) for key, value in element.attrib.items())
    return "".join(f' {name}="{escape(value)}"' for name, value in written if name not in VOLATILE_ATTRIBUTES)


def _children(element: Any, *, verbatim: bool, leave_out: Callable[[Any], bool] | None) -> Iterator[_Node | str]:
    yield element.text or ""
    for child in element:
        name = qualified(child)
        if name == "ac:inline-comment-marker":
            yield from _children(child, verbatim=verbatim, leave_out=leave_out)
        elif name not in VOLATILE_ELEMENTS and not (leave_out and leave_out(child)):
            yield _canonical_node(child, verbatim=verbatim, leave_out=leave_out)
        yield child.tail or ""


def _texts_joined(children: Iterable[_Node | str]) -> Iterator[_Node | str]:
    """Yield children with each run of texts as one; an empty one is none."""
    for is_text, run in groupby(children, key=lambda child: isinstance(child, str)):
        if not is_text:
            yield from run
        elif text := "".join(map(str, run)):
            yield text


def _parameters_first(children: list[_Node | str]) -> list[_Node | str]:
    """Return a macro's children, its parameters first and in an order that is not the one they were written in."""
    given: list[_Node] = []
    rest: list[_Node | str] = []
    for child in children:
        if isinstance(child, _Node) and child.name == "ac:parameter":
            given.append(child)
        else:
            rest.append(child)
    return [*sorted(given, key=lambda parameter: parameter.written), *rest]


def _tidy(name: str, children: list[_Node | str]) -> Iterator[_Node | str]:
    """Yield an element's children without the white space that does not show."""
    last = len(children) - 1
    edge = name in BLOCKS or name in CONTAINERS
    for position, child in enumerate(children):
        if isinstance(child, _Node):
            yield child
            continue
        text = _SPACE.sub(" ", child).translate(_QUOTES)
        if name in CONTAINERS and text == " ":
            continue
        if (position == 0 and edge) or (position > 0 and _is_block(children[position - 1])):
            text = text.lstrip(" ")
        if (position == last and edge) or (position < last and _is_block(children[position + 1])):
            text = text.rstrip(" ")
        if text:
            yield text


def _is_block(child: _Node | str) -> bool:
    return isinstance(child, _Node) and child.name in BLOCKS
