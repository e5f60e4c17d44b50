"""Storage format to HTML that is safe to show anywhere: no script, nothing loaded from elsewhere, no text lost.

What cannot be shown (an unknown macro, an image that is not there) leaves a visible placeholder and a finding. The
last step is an allow-list (nh3), so a mistake in the rendering before it cannot let anything through.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from lxml import etree

from include.base.errors import InvalidInput
from include.guidelines import emphasis
from include.systems.confluence.storage import (
    AC,
    MAX_BYTES,
    RI,
    Texts,
    escape,
    parameters,
    parse,
    qualified,
    text_of,
)

__all__ = [
    "CLASSES",
    "MAX_STRAYS",
    "RENDERER",
    "STYLE",
    "Finding",
    "Include",
    "Rendered",
    "ResolveImage",
    "ResolveLink",
    "ResolveUser",
    "render",
]

RENDERER = 2
"""Raised whenever the same body renders to other HTML, so that stored renderings are made anew."""

ResolveLink = Callable[[str, str | None, str | None], str | None]
"""``(page title, space key or None for this space, anchor or None) -> address or None``."""
ResolveImage = Callable[[str, str | None], str | None]
"""``(file name, title of the page that holds it or None for this page) -> relative address or None``."""
ResolveUser = Callable[[str], str | None]
"""``(account id) -> display name or None``."""


@dataclass(frozen=True)
class Finding:
    """Something on a page that a person must look at.

    :param kind: one word that can be counted: ``unknown_macro``, ``unresolved_image``, ``external_image``,
        ``image_too_large``, ``image_type``, ``unresolved_link``, ``unsafe_link``, ``unknown_element``, ``unreadable``,
        ``hidden`` (the page itself does not show it), ``include_missing``, ``not_settled`` (changed or gone while it
        was read; the next run looks again), ``not_approved``, ``changed_since_approval``, ``approval_time_unknown``,
        ``history_too_long``, ``page_removed``, ``page_hidden`` (below the root, and not to be seen by the account),
        ``no_page`` (below the root, and no page: a whiteboard, a database).
    :param detail: a sentence for the person; names and numbers, no page text beyond titles and file names.
    """

    kind: str
    page_id: str
    detail: str

    def value(self) -> list[str]:
        """Return the finding as JSON."""
        return [self.kind, self.page_id, self.detail]


@dataclass(frozen=True)
class Include:
    """A page whose text, or whose excerpt, a page shows as its own.

    :param space_key: None for this space.
    """

    title: str
    space_key: str | None
    excerpt: bool


@dataclass(frozen=True)
class Rendered:
    """One page as HTML.

    :param html: a fragment; its images are the addresses that ``resolve_image`` returned.
    :param sections: texts of the headings, in order.
    :param images: addresses in use, in order, each once.
    :param text_characters: characters of visible text, white space collapsed.
    :param includes: pages whose texts belong here; a link stands in their place.
    :param hides_excerpt: an excerpt of the page is for other pages alone.
    """

    html: str
    findings: list[Finding]
    sections: list[str]
    images: list[str]
    text_characters: int
    includes: list[Include]
    hides_excerpt: bool


MACROS = frozenset({"ac:macro", "ac:structured-macro"})
HEADINGS = {"h1": 1, "h2": 2, "h3": 3, "h4": 4, "h5": 5, "h6": 6}
PLAIN = {
    "b": "strong",
    "big": "span",
    "blockquote": "blockquote",
    "caption": "caption",
    "cite": "em",
    "code": "code",
    "dd": "dd",
    "del": "del",
    "div": "div",
    "dl": "dl",
    "dt": "dt",
    "em": "em",
    "font": "span",
    "i": "em",
    "ins": "ins",
    "kbd": "code",
    "mark": "mark",
    "p": "p",
    "pre": "pre",
    "s": "del",
    "small": "small",
    "span": "span",
    "strike": "del",
    "strong": "strong",
    "sub": "sub",
    "sup": "sup",
    "tbody": "tbody",
    "tfoot": "tfoot",
    "thead": "thead",
    "tr": "tr",
    "tt": "code",
    "u": "u",
    "ul": "ul",
}
PANELS = {"info": "Info", "tip": "Tip", "note": "Note", "warning": "Warning", "panel": ""}
ADF_PANELS = {
    "info": "info",
    "success": "tip",
    "note": "note",
    "warning": "note",
    "error": "warning",
    "custom": "panel",
}
"""Panels of Cloud's editor; its ``warning`` and ``error`` are the macros ``note`` and ``warning``."""
COLOURS = frozenset({"grey", "purple", "blue", "red", "yellow", "green"})
EMOTICONS = {
    "smile": "\U0001f642",
    "sad": "\U0001f641",
    "cheeky": "\U0001f61b",
    "laugh": "\U0001f603",
    "wink": "\U0001f609",
    "thumbs-up": "\U0001f44d",
    "thumbs-down": "\U0001f44e",
    "information": "\u2139",
    "tick": "\u2705",
    "cross": "\u274c",
    "warning": "\u26a0",
    "plus": "\u2795",
    "minus": "\u2796",
    "question": "\u2753",
    "light-on": "\U0001f4a1",
    "light-off": "\U0001f4a1",
    "yellow-star": "\u2b50",
    "red-star": "\u2b50",
    "green-star": "\u2b50",
    "blue-star": "\u2b50",
    "heart": "\u2764",
    "broken-heart": "\U0001f494",
}
CUSTOM_EMOJI = "blue-star"
"""What Cloud names an emoji that has no name among the emoticons."""
INCLUDES = frozenset({"include", "excerpt-include"})
PASS_THROUGH = frozenset({"excerpt", "section", "column", "details"})
IGNORED = frozenset({"colgroup", "col", "ac:parameter", "ac:task-id", "ac:task-uuid", "ac:task-status"})

CLASSES = frozenset(
    {"anchor", "author", "cell", "code", "details", "finding", "layout", "meta", "mention", "panel", "panel-title"}
    | {"placeholder", "section", "status", "tasks", "toc"}
    | {f"panel-{kind}" for kind in PANELS}
    | {f"status-{colour}" for colour in COLOURS}
    | {f"toc-{level}" for level in range(1, 7)}
    | emphasis.CLASSES
)
_TAGS = frozenset(
    {*HEADINGS, *PLAIN.values(), "a", "br", "details", "figcaption", "figure", "hr", "img", "input", "li", "nav", "ol"}
    | {"summary", "table", "td", "th", "time"}
)
_TABLE_OUTSIDE_CELLS = ("table", "thead", "tbody", "tfoot", "tr")
_PARTS_OF_TABLES = frozenset({*_TABLE_OUTSIDE_CELLS, "caption", "col", "colgroup", "td", "th"})

MAX_STRAYS = 5000
"""Texts and elements in tables outside their cells; Confluence's editor writes none."""

_SAFE = re.compile(r"(?:https?://|mailto:|#)", re.IGNORECASE)
_SLUG = re.compile(r"[^0-9a-z]+")
_IN_ANCHORS = ("L", "M", "N", "So")
"""Kinds of characters that anchors keep: letters with their marks, digits, pictures, of any script."""
_NUMBER = re.compile(r"-?\d{1,6}", re.ASCII)

STYLE = """
.labelops-guideline{font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,Helvetica,Arial,sans-serif;color:#1b1f24;
max-width:860px;margin:0 auto;padding:24px;text-align:left;overflow-wrap:break-word}
.labelops-guideline h1{font-size:1.9em;line-height:1.2;margin:0 0 .3em}
.labelops-guideline h2{font-size:1.5em;margin:1.6em 0 .5em;padding-bottom:.2em;border-bottom:2px solid #d5dae1}
.labelops-guideline h3{font-size:1.25em;margin:1.4em 0 .4em}
.labelops-guideline h4,.labelops-guideline h5,.labelops-guideline h6{font-size:1.05em;margin:1.2em 0 .3em}
.labelops-guideline a{color:#0b57b7}
.labelops-guideline table{border-collapse:collapse;margin:1em 0;width:100%}
.labelops-guideline th,.labelops-guideline td{border:1px solid #c6ccd5;padding:.45em .6em;text-align:left;
vertical-align:top}
.labelops-guideline th{background:#eef1f5;font-weight:600}
.labelops-guideline th p,.labelops-guideline td p{margin:0 0 .3em}
.labelops-guideline img{max-width:100%;height:auto}
.labelops-guideline figure{margin:1em 0}
.labelops-guideline figcaption{color:#56606d;font-size:.9em}
.labelops-guideline code{background:#eef1f5;border-radius:3px;padding:.1em .3em;
font-family:ui-monospace,Menlo,Consolas,monospace}
.labelops-guideline pre{background:#f3f5f8;border:1px solid #d5dae1;border-radius:4px;padding:.8em;overflow-x:auto}
.labelops-guideline pre code{background:none;padding:0}
.labelops-guideline blockquote{margin:1em 0;padding:.2em 1em;border-left:4px solid #c6ccd5;color:#3d4650}
.labelops-guideline .panel{margin:1em 0;padding:.7em 1em;border-left:5px solid #6b7785;
background:#f3f5f8;border-radius:3px}
.labelops-guideline .panel-title{margin:0 0 .3em;font-weight:700}
.labelops-guideline .panel-info{border-color:#0b57b7;background:#eaf2fd}
.labelops-guideline .panel-tip{border-color:#1a7f37;background:#eaf7ee}
.labelops-guideline .panel-note{border-color:#9a6700;background:#fff7e0}
.labelops-guideline .panel-warning{border-color:#b3261e;background:#fdecea}
.labelops-guideline .status{display:inline-block;padding:0 .5em;border-radius:3px;font-size:.8em;font-weight:700;
background:#e3e7ec;color:#2b333c}
.labelops-guideline .status-green{background:#d3f1dc;color:#0f5323}
.labelops-guideline .status-blue{background:#d8e7fb;color:#08427f}
.labelops-guideline .status-red{background:#fbd9d6;color:#8c1d18}
.labelops-guideline .status-yellow{background:#fdeeb5;color:#5c4300}
.labelops-guideline .status-purple{background:#e8defa;color:#4a2a86}
.labelops-guideline .tasks{list-style:none;padding-left:.3em}
.labelops-guideline .placeholder{border:1px dashed #b3261e;
background:#fff5f4;color:#7a1a15;padding:.1em .4em;border-radius:3px}
.labelops-guideline .mention{color:#08427f;background:#eef1f5;border-radius:3px;padding:0 .2em}
.labelops-guideline .toc ul{list-style:none;padding-left:0}
.labelops-guideline .toc-2{padding-left:1.2em}
.labelops-guideline .toc-3{padding-left:2.4em}
.labelops-guideline .toc-4,.labelops-guideline .toc-5,.labelops-guideline .toc-6{padding-left:3.6em}
.labelops-guideline .meta,.labelops-guideline footer{color:#56606d;font-size:.9em}
.labelops-guideline footer{margin-top:3em;border-top:2px solid #d5dae1;padding-top:.8em}
"""
STYLE += emphasis.STYLE
"""The only style sheet; every selector is scoped, since Prodigy shows the page inside its own."""


def render(
    page_body: str,
    *,
    resolve_link: ResolveLink,
    resolve_image: ResolveImage,
    resolve_user: ResolveUser,
    page_id: str = "",
    heading_offset: int = 0,
) -> Rendered:
    """Return a page's storage format as a sanitised HTML fragment.

    :param page_id: named in findings, and part of every ``id`` so that fragments can share a document.
    :param heading_offset: how many levels headings go down (``h1`` becomes ``h3`` for 2; ``h6`` is the last).
    :raises InvalidInput: when the body cannot be parsed (:func:`include.systems.confluence.storage.parse`), when its
        headings and contents lists would repeat more text than a page may hold, or too much in tables is in no cell.
    """
    import nh3

    root = parse(page_body)
    _refuse_strays(root)
    work = _Rendering(resolve_link, resolve_image, resolve_user, page_id, heading_offset)
    work.number_headings(root)
    raw = work.children(root)
    for name, words in sorted((+work.hidden).items()):
        work.note("hidden", f"{name}: {words} word(s) that the page hides from its readers are not shown")
    clean = nh3.clean(
        raw,
        tags=set(_TAGS),
        clean_content_tags={"script", "style"},
        attributes={
            "*": {"id"},
            "a": {"href"},
            "img": {"src", "alt", "title", "width", "height"},
            "input": {"checked", "disabled"},
            "li": {"value"},
            "ol": {"start", "reversed"},
            "td": {"colspan", "rowspan"},
            "th": {"colspan", "rowspan"},
            "time": {"datetime"},
        },
        tag_attribute_values={"input": {"type": {"checkbox"}}, "th": {"scope": {"col", "row"}}},
        allowed_classes={tag: set(CLASSES) for tag in _TAGS},
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
    )
    return Rendered(
        html=clean,
        findings=list(work.findings),
        sections=[title for title, _, _ in work.headings.values() if title],
        images=list(dict.fromkeys(work.images)),
        text_characters=len(_visible(clean)),
        includes=list(dict.fromkeys(work.includes)),
        hides_excerpt=work.hides_excerpt,
    )


def _refuse_strays(root: Any) -> None:
    """Bound what lies between the cells of tables.

    HTML puts it before its table, and nh3 looks for the table anew for each piece, among all that stands beside it.
    """
    strays = 0
    for part in root.iter(*_TABLE_OUTSIDE_CELLS):
        for child in part:
            strays += bool((child.tail or "").strip())
            if qualified(child) not in _PARTS_OF_TABLES:
                strays += sum(1 for _ in child.iter())
        strays += bool((part.text or "").strip())
        if strays > MAX_STRAYS:
            raise InvalidInput(
                f"storage format: line {max(1, (part.sourceline or 2) - 1)}: more than {MAX_STRAYS:,} texts and "
                "elements stand in tables outside their cells"
            )


def _visible(html: str) -> str:
    from html import unescape

    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


@dataclass
class _Rendering:
    resolve_link: ResolveLink
    resolve_image: ResolveImage
    resolve_user: ResolveUser
    page_id: str
    offset: int
    findings: dict[Finding, None] = field(default_factory=dict)
    images: list[str] = field(default_factory=list)
    includes: list[Include] = field(default_factory=list)
    hides_excerpt: bool = False
    hidden: Counter[str] = field(default_factory=Counter)
    headings: dict[Any, tuple[str, str, int]] = field(default_factory=dict)
    anchors: dict[Any, str] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    scopes: dict[Any, str] = field(default_factory=dict)
    repeated: int = 0

    # headings and anchors first, since links and a table of contents may come before them
    def number_headings(self, root: Any) -> None:
        taken: set[str] = set()
        following: dict[str, int] = {}
        texts = Texts()
        walk = etree.iterwalk(root, events=("start",))
        for _, element in walk:
            kind = qualified(element)
            if kind in HEADINGS:
                title = texts.of(element)
                self._count_repeated(title)
            elif kind in MACROS and element.get(f"{{{AC}}}name") == "anchor":
                title = parameters(element).get("", "")
            else:
                if _is_hidden(element):
                    walk.skip_subtree()
                continue
            slug = self._slug(title)
            name, again = slug, following.get(slug, 2)
            while name in taken:
                name, again = f"{slug}-{again}", again + 1
            taken.add(name)
            following[slug] = again
            self.anchors[element] = name
            self.places.setdefault(_same(title), name)
            if kind in HEADINGS:
                self.headings[element] = (title, name, HEADINGS[kind])

    def _count_repeated(self, text: str) -> None:
        """Bound what a page says more than once: headings in headings, and each contents list names all headings."""
        self.repeated += len(text)
        if self.repeated > MAX_BYTES:
            raise InvalidInput(
                f"storage format: its headings and contents lists repeat more than {MAX_BYTES:,} characters; "
                "use one contents list, and no heading inside a heading"
            )

    def _slug(self, text: str) -> str:
        # the page's id keeps equal headings of two pages apart in one document
        kept = (each if unicodedata.category(each).startswith(_IN_ANCHORS) else " " for each in _same(text))
        readable = "-".join("".join(kept).split())[:60].strip("-")
        return f"p{_SLUG.sub('', self.page_id.lower())}-{readable or 'section'}"

    def _place(self, text: str) -> str:
        """Return the anchor that a link means: of the heading of this text, else of one that is written like it."""
        return self.places.get(_same(text)) or self._slug(text)

    def note(self, kind: str, detail: str) -> None:
        self.findings[Finding(kind, self.page_id, detail)] = None

    def placeholder(self, text: str, more: str = "") -> str:
        return f'<span class="placeholder">[{escape(text)}{more}]</span>'

    def children(self, element: Any) -> str:
        pieces = [escape(element.text or "")]
        for child in element:
            pieces.append(self.element(child))
            pieces.append(escape(child.tail or ""))
        return "".join(pieces)

    def element(self, element: Any) -> str:
        name = qualified(element)
        if name in IGNORED:
            return ""
        if name in HEADINGS:
            return self._heading(element, name)
        if name in PLAIN:
            tag = PLAIN[name]
            return f"<{tag}{_classed(element)}>{self.children(element)}</{tag}>"
        special = _ELEMENTS.get(name)
        if special is not None:
            return special(self, element)
        return self._unknown_element(element, name)

    def _unknown_element(self, element: Any, name: str) -> str:
        self.note("unknown_element", f"element {name}: shown as its text")
        return self.children(element) if len(element) or (element.text or "").strip() else self.placeholder(name)

    def _heading(self, element: Any, name: str) -> str:
        _, anchor, _ = self.headings[element]
        tag = f"h{min(6, HEADINGS[name] + self.offset)}"
        return f'<{tag} id="{anchor}"{_classed(element)}>{self.children(element)}</{tag}>'

    def _void(self, element: Any) -> str:
        # storage is XML, so even <br> could hold text
        return f"<{qualified(element)}>" + (self.children(element) if len(element) or element.text else "")

    def _table(self, element: Any) -> str:
        return f"<table>{self.children(element)}</table>"

    def _cell(self, element: Any) -> str:
        tag = qualified(element)
        spans = ""
        for name in ("colspan", "rowspan"):
            value = element.get(name, "")
            if value.isascii() and value.isdigit() and len(value) <= 4 and 1 < int(value) <= 1000:
                spans += f' {name}="{int(value)}"'
        if tag == "th":
            spans += f' scope="{self._heading_scope(element.getparent())}"'
        return f"<{tag}{spans}{_classed(element)}>{self.children(element)}</{tag}>"

    def _list(self, element: Any) -> str:
        """Write a list, whose numbers people refer to."""
        tag = qualified(element)
        numbers = "".join(
            f' {name}="{value}"' for name in ("start", "value") if _NUMBER.fullmatch(value := element.get(name, ""))
        )
        backwards = " reversed" if "reversed" in element.attrib else ""
        return f"<{tag}{numbers}{backwards}{_classed(element)}>{self.children(element)}</{tag}>"

    def _heading_scope(self, line: Any) -> str:
        """Tell what the heading cells of a line are headings of: of the line where it holds other cells too."""
        if line not in self.scopes:
            self.scopes[line] = "row" if line.find("td") is not None else "col"
        return self.scopes[line]

    def _time(self, element: Any) -> str:
        moment = element.get("datetime", "")
        return f'<time datetime="{escape(moment)}">{self.children(element).strip() or escape(moment)}</time>'

    def _anchor_tag(self, element: Any) -> str:
        inner, formatted = self.children(element), _classed(element)
        if inner and formatted:
            inner = f"<span{formatted}>{inner}</span>"
        return self._link_to(element.get("href", ""), inner)

    def _link_to(self, address: str, inner: str) -> str:
        address = address.strip()
        if not address:
            return inner
        if not _SAFE.match(address):
            self.note("unsafe_link", f"link to {address.split(':')[0][:40]}:…: its text is shown without the link")
            return inner
        if address.startswith("#"):
            address = "#" + self._place(unquote(address[1:]))
        return f'<a href="{escape(address)}">{inner or escape(address)}</a>'

    def _html_image(self, element: Any) -> str:
        return self._external(element.get("src", ""), element.get("alt", ""))

    def _external(self, address: str, text: str) -> str:
        host = re.split(r"[?#]", address, maxsplit=1)[0][:120]
        self.note("external_image", f"image from elsewhere is not loaded: {host}; attach it to the page instead")
        return self.placeholder(f"image from elsewhere: {host}" + (f", {text}" if text else ""))

    def _image(self, element: Any) -> str:
        attachment, address = element.find(f".//{{{RI}}}attachment"), element.find(f".//{{{RI}}}url")
        caption = element.find(f"{{{AC}}}caption")
        if attachment is not None:
            picture = self._attached(element, attachment)
        elif address is not None:
            picture = self._external(address.get(f"{{{RI}}}value", ""), element.get(f"{{{AC}}}alt", ""))
        else:
            self.note("unresolved_image", "an image names no file")
            picture = self.placeholder("image without a file")
        if caption is None:
            return picture
        return f"<figure>{picture}<figcaption>{self.children(caption)}</figcaption></figure>"

    def _attached(self, element: Any, attachment: Any) -> str:
        filename = attachment.get(f"{{{RI}}}filename", "")
        page = attachment.find(f"{{{RI}}}page")
        title = page.get(f"{{{RI}}}content-title") if page is not None else None
        source = self.resolve_image(filename, title)
        if source is None:
            self.note("unresolved_image", f"image {filename!r} could not be taken from the page's attachments")
            described = element.get(f"{{{AC}}}alt")
            return self.placeholder(f"image missing: {filename}" + (f", {described}" if described else ""))
        self.images.append(source)
        text = element.get(f"{{{AC}}}alt") or filename
        sizes = "".join(
            f' {name}="{value}"'
            for name in ("width", "height")
            if (value := element.get(f"{{{AC}}}{name}", "")).isascii() and value.isdigit() and len(value) <= 4
        )
        return f'<img src="{escape(source)}" alt="{escape(text)}"{sizes}>'

    def _link(self, element: Any) -> str:
        anchor = element.get(f"{{{AC}}}anchor")
        inner = self._link_body(element)
        target = next((child for child in element if qualified(child).startswith("ri:")), None)
        if target is not None:
            return self._reference(target, inner, anchor)
        if anchor:
            return f'<a href="#{self._place(anchor)}">{inner or escape(anchor)}</a>'
        return self._resolved(None, inner, "nothing")

    def _named(self, target: Any) -> str:
        return self._reference(target, self.children(target))

    def _reference(self, target: Any, inner: str, anchor: str | None = None) -> str:
        """Show what an ``ri:`` element names, under the text given or, without one, its own name."""
        kind = qualified(target)
        if kind == "ri:user":
            return self._mention(target) + (f" {inner}" if inner else "")
        if kind in ("ri:page", "ri:blog-post"):
            title = target.get(f"{{{RI}}}content-title", "")
            address = self.resolve_link(title, target.get(f"{{{RI}}}space-key"), anchor)
            return self._resolved(address, inner or escape(title), f"page {title!r}")
        if kind == "ri:url":
            return self._link_to(target.get(f"{{{RI}}}value", ""), inner)
        if kind == "ri:attachment":
            name = target.get(f"{{{RI}}}filename", "")
            return self._resolved(None, inner or escape(name), f"attached file {name!r}")
        if kind == "ri:shortcut":
            name = f"{target.get(f'{{{RI}}}parameter', '')}@{target.get(f'{{{RI}}}key', '')}"
            return self._resolved(None, inner or escape(name), f"shortcut {name!r}")
        label = " ".join(value for key, value in target.attrib.items() if key.startswith(f"{{{RI}}}"))
        return self._resolved(None, inner or escape(label), kind)

    def _resolved(self, address: str | None, inner: str, what: str) -> str:
        if address is None or not _SAFE.match(address):
            self.note("unresolved_link", f"link to {what}: its text is shown without the link")
            return inner
        return f'<a href="{escape(address)}">{inner}</a>'

    def _link_body(self, element: Any) -> str:
        return "".join(
            self.children(child) for child in element if qualified(child) in ("ac:link-body", "ac:plain-text-link-body")
        ).strip()

    def _mention(self, user: Any) -> str:
        account = user.get(f"{{{RI}}}account-id") or user.get(f"{{{RI}}}userkey") or user.get(f"{{{RI}}}username") or ""
        return f'<span class="mention">@{escape(self.resolve_user(account) or account)}</span>'

    def _emoticon(self, element: Any) -> str:
        fallback = element.get(f"{{{AC}}}emoji-fallback") or ""
        name = element.get(f"{{{AC}}}name") or ""
        short = element.get(f"{{{AC}}}emoji-shortname") or fallback
        if fallback and not fallback.startswith(":"):
            return escape(fallback)
        if name in EMOTICONS and not (name == CUSTOM_EMOJI and short):
            return EMOTICONS[name]
        return escape(short or f"({name})")

    def _tasks(self, element: Any) -> str:
        return f'<ul class="tasks">{self.children(element)}</ul>'

    def _task(self, element: Any) -> str:
        status = element.find(f"{{{AC}}}task-status")
        done = " checked" if status is not None and text_of(status) == "complete" else ""
        return f'<li><input type="checkbox" disabled{done}> {self.children(element)}</li>'

    def _inside(self, element: Any) -> str:
        return self.children(element)

    def _layout(self, element: Any) -> str:
        kind = {"ac:layout": "layout", "ac:layout-section": "section", "ac:layout-cell": "cell"}[qualified(element)]
        return f'<div class="{kind}">{self.children(element)}</div>'

    def _hidden(self, element: Any) -> str:
        """Leave out what the page itself does not show its readers, and count it."""
        self.hidden[element.get(f"{{{AC}}}name") or "placeholder"] += len(text_of(element).split())
        return ""

    def _extension(self, element: Any) -> str:
        """Show a part of Cloud's editor that storage format has no element for; its fallback says the same in HTML."""
        node = element.find(f"{{{AC}}}adf-node")
        name = node.get("type", "unknown") if node is not None else "unknown"
        parts: dict[str, list[Any]] = defaultdict(list)
        for part in _outermost(element, ("ac:adf-attribute", "ac:adf-content", "ac:adf-fallback")):
            parts[qualified(part)].append(part)
        given = [(part.get("key", ""), text_of(part)) for part in parts["ac:adf-attribute"]]
        contents, fallbacks = parts["ac:adf-content"], parts["ac:adf-fallback"]
        panel = ADF_PANELS.get(dict(given).get("panel-type", "")) if name == "panel" else None
        if panel:
            return self._panel(panel, "", "".join(map(self.children, contents or fallbacks)))
        if fallbacks:
            return "".join(map(self.children, fallbacks))
        body = "".join(map(self.children, contents))
        self.note("unknown_macro", f"extension {name!r} is not shown; its attributes and texts are, as plain content")
        attributes = [f"{escape(key)}: {escape(value)}" for key, value in given if value]
        return self._plainly(f"extension {name} is not shown here", attributes, body)

    def _plainly(self, what: str, given: list[str], body: str) -> str:
        placeholder = self.placeholder(what, "".join(f"; {each}" for each in given))
        return f"<div>{placeholder}{body}</div>" if body else placeholder

    def _panel(self, kind: str, title: str, body: str) -> str:
        title = title or PANELS[kind]
        heading = f'<p class="panel-title">{escape(title)}</p>' if title else ""
        return f'<div class="panel panel-{kind}">{heading}{body}</div>'

    def _macro(self, element: Any) -> str:
        name = element.get(f"{{{AC}}}name", "")
        given = parameters(element)
        if name in PANELS:
            return self._panel(name, given.get("title", ""), self._bodies(element))
        if name == "status":
            colour = given.get("colour", given.get("color", "")).lower()
            colour = colour if colour in COLOURS else "grey"
            return f'<span class="status status-{colour}">{escape(given.get("title", ""))}</span>'
        if name in ("code", "noformat"):
            return self._code(element, given)
        if name == "expand":
            title = given.get("title") or "Click here to expand"
            return f"<details><summary>{escape(title)}</summary>{self._bodies(element)}</details>"
        if name in PASS_THROUGH:
            if _is_hidden(element):
                self.hides_excerpt = self.hides_excerpt or name == "excerpt"
                return self._hidden(element)
            kind = ' class="details"' if name == "details" else ""
            return f"<div{kind}>{self._bodies(element)}</div>"
        if name == "anchor":
            return f'<span class="anchor" id="{self.anchors[element]}"></span>'
        if name == "toc":
            return self._contents()
        if name in INCLUDES:
            return self._include(element, name, given)
        self.note("unknown_macro", f"macro {name!r} is not shown; its parameters and texts are, as plain content")
        return self._plainly(f"macro {name} is not shown here", list(self._given(element)), self._bodies(element))

    def _given(self, element: Any) -> Iterator[str]:
        """Yield a macro's parameters as they are shown; they may hold links, mentions and files."""
        for child in element:
            if qualified(child) == "ac:parameter" and (value := self.children(child).strip()):
                name = child.get(f"{{{AC}}}name", "")
                yield f"{escape(name)}: {value}" if name else value

    def _include(self, element: Any, name: str, given: dict[str, str]) -> str:
        page = next(element.iter(f"{{{RI}}}page"), None)
        title, space_key = given.get("", ""), None
        if page is not None:
            title, space_key = page.get(f"{{{RI}}}content-title", ""), page.get(f"{{{RI}}}space-key")
        self.includes.append(Include(title, space_key, name == "excerpt-include"))
        shown, address = escape(title), self.resolve_link(title, space_key, None)
        if address is not None and _SAFE.match(address):
            shown = f'<a href="{escape(address)}">{shown}</a>'
        return self.placeholder("excerpt of page " if name == "excerpt-include" else "text of page ", shown)

    def _code(self, element: Any, given: dict[str, str]) -> str:
        text = "".join("".join(child.itertext()) for child in element if qualified(child) == "ac:plain-text-body")
        heads = [part for part in (given.get("title", ""), given.get("language", "")) if part]
        head = f'<p class="meta">{escape(" · ".join(heads))}</p>' if heads else ""
        rest = "".join(self.children(child) for child in element if qualified(child) == "ac:rich-text-body")
        return f'{head}<pre class="code"><code>{escape(text)}</code></pre>{rest}'

    def _bodies(self, element: Any) -> str:
        pieces = []
        for child in element:
            name = qualified(child)
            if name == "ac:plain-text-body":
                pieces.append(f"<pre>{self.children(child)}</pre>")
            elif name == "ac:rich-text-body":
                pieces.append(self.children(child))
            elif name != "ac:parameter":
                pieces.append(self.element(child))
            pieces.append(escape(child.tail or ""))
        return escape(element.text or "") + "".join(pieces)

    def _contents(self) -> str:
        lines = "".join(
            f'<li class="toc-{level}"><a href="#{anchor}">{escape(title)}</a></li>'
            for title, anchor, level in self.headings.values()
            if title
        )
        self._count_repeated(lines)
        return f'<nav class="toc"><ul>{lines}</ul></nav>'


def _is_hidden(element: Any) -> bool:
    """Tell whether a page hides an element from its readers: a hint for its editors, what is for other pages alone."""
    name = qualified(element)
    if name not in MACROS or element.get(f"{{{AC}}}name") not in PASS_THROUGH:
        return name == "ac:placeholder"
    return parameters(element).get("hidden", "").lower() == "true"


def _same(text: str) -> str:
    """Return a text as headings and links to them are compared."""
    return " ".join(unicodedata.normalize("NFC", text).lower().split())


def _classed(element: Any) -> str:
    """Return the attribute that says what an element's formatting means, nothing where it means nothing."""
    classes = emphasis.classes_of(element)
    return f' class="{" ".join(classes)}"' if classes else ""


def _outermost(element: Any, names: tuple[str, ...]) -> Iterator[Any]:
    """Yield the elements of some names below another; not those inside them, which are shown with them."""
    for child in element:
        if qualified(child) in names:
            yield child
        else:
            yield from _outermost(child, names)


_ELEMENTS: dict[str, Callable[[_Rendering, Any], str]] = {
    "a": _Rendering._anchor_tag,
    "ac:adf-extension": _Rendering._extension,
    "ac:emoticon": _Rendering._emoticon,
    "ac:image": _Rendering._image,
    "ac:inline-comment-marker": _Rendering._inside,
    "ac:layout": _Rendering._layout,
    "ac:layout-cell": _Rendering._layout,
    "ac:layout-section": _Rendering._layout,
    "ac:link": _Rendering._link,
    "ac:macro": _Rendering._macro,
    "ac:placeholder": _Rendering._hidden,
    "ac:rich-text-body": _Rendering._inside,
    "ac:structured-macro": _Rendering._macro,
    "ac:task": _Rendering._task,
    "ac:task-body": _Rendering._inside,
    "ac:task-list": _Rendering._tasks,
    "br": _Rendering._void,
    "hr": _Rendering._void,
    "img": _Rendering._html_image,
    "li": _Rendering._list,
    "ol": _Rendering._list,
    **{f"ri:{kind}": _Rendering._named for kind in ("attachment", "blog-post", "page", "shortcut", "space", "url")},
    "ri:user": _Rendering._mention,
    "table": _Rendering._table,
    "td": _Rendering._cell,
    "th": _Rendering._cell,
    "time": _Rendering._time,
}
