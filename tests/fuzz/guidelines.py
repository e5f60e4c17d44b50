"""Guideline pages as a careless or hostile author could leave them: storage format, its HTML, its marks of approval."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from types import SimpleNamespace
from typing import Any

from lxml import html as reader

from include.guidelines.approval import Approved, History, by_label, by_property, by_state
from include.guidelines.html import Rendered, render
from include.projects.model import ApprovalMark
from include.systems.confluence import storage
from include.systems.confluence.storage import escape
from include.systems.confluence.values import ContentState

ODD = (
    "",
    " ",
    "Approved",
    "approved",
    "²",
    "٣",
    "00002" + "0" * 5000,
    "-1",
    "1e9",
    "9" * 400,
    "javascript:alert(1)",
    "http://example.org/a?b#c\n",
    "?" * 60 + "\n",
    "#top",
    "\u202e\u0000\ufffe",
    "a\u0301\U0001f642",
    "'\"<>&;",
    "2026-03-02T10:00:00Z",
    "chart.png",
    "Labels",
    "x" * 3000,
)
MACROS = ("info", "panel", "status", "code", "noformat", "expand", "details", "anchor", "toc", "excerpt", "jira", "")
PLAIN = ("p", "h1", "h2", "h6", "ul", "ol", "li", "b", "em", "code", "pre", "blockquote", "div", "span", "dl", "dt")
TABLE = ("table", "tbody", "thead", "tr", "th", "td", "caption", "colgroup", "col")
ELEMENTS = (
    *PLAIN,
    *TABLE,
    *("a", "img", "br", "hr", "time", "script", "style", "iframe", "zz", "ac:link", "ac:link-body", "ac:image"),
    *("ac:caption", "ac:emoticon", "ac:task-list", "ac:task", "ac:task-id", "ac:task-status", "ac:task-body"),
    *("ac:task-uuid", "ac:layout", "ac:layout-section", "ac:layout-cell", "ac:placeholder", "ac:parameter"),
    *("ac:inline-comment-marker", "ac:adf-extension", "ac:adf-node", "ac:adf-content", "ac:adf-fallback"),
    *("ac:rich-text-body", "ac:plain-text-body", "ac:plain-text-link-body", "ri:user", "ri:page", "ri:attachment"),
    *("ri:url", "ri:space", "ri:blog-post"),
)
ATTRIBUTES = (
    *("href", "src", "colspan", "rowspan", "datetime", "id", "style", "onclick", "ac:name", "ac:anchor", "ac:alt"),
    *("ac:width", "ac:height", "ac:macro-id", "ac:emoji-fallback", "ac:emoji-shortname", "ri:account-id"),
    *("ri:content-title", "ri:space-key", "ri:filename", "ri:value", "type", "xmlns", "xmlns:ac"),
)
BROKEN = ("<", ">", "&", "&nbsp;", "&x;", "&#0;", "&#xD800;", "<!--", "-->", "<![CDATA[", "]]>", "<?x ?>", "<q:p/>")
BROKEN += ("<!DOCTYPE a>", "</p>", "<p>", "\x00", "\ud800", '"', "<b>" * 130, "</b>" * 130)


def page(random: Random) -> str:
    """Return a page: well-formed, though hardly sensible, four times in five."""
    body = "".join(_element(random, random.randint(0, 6)) for _ in range(random.randint(1, 6)))
    if random.random() < 0.3:
        body += _properties(random)
    return body if random.random() < 0.8 else spoilt(random, body, BROKEN)


def spoilt(random: Random, text: str, pieces: tuple[str, ...]) -> str:
    """Return a text with some places cut out, doubled, or with something put in."""
    for _ in range(random.randint(1, 3)):
        start = random.randint(0, len(text))
        end = min(len(text), start + random.randint(0, 30))
        middle = random.choice(("", text[start:end] * 2, random.choice(pieces), text[start:end] * 60))
        text = text[:start] + middle + text[end:]
    return text


def _element(random: Random, depth: int) -> str:
    if random.random() < 0.2:
        return _macro(random, depth)
    name = random.choice(ELEMENTS)
    return f"<{name}{_attributes(random)}>{_inside(random, depth)}</{name}>"


def _inside(random: Random, depth: int) -> str:
    if depth <= 0 or random.random() < 0.2:
        return _text(random)
    copies = random.choice((1, 1, 1, 5))
    return "".join(_text(random) + _element(random, depth - random.randint(1, 3)) for _ in range(2)) * copies


def _attributes(random: Random) -> str:
    names = random.sample(ATTRIBUTES, random.choice((0, 0, 1, 3)))
    return "".join(f' {name}="{escape(random.choice(ODD))}"' for name in names)


def _text(random: Random) -> str:
    return random.choice(("", " ", "\n", "text", "&nbsp;", escape(random.choice(ODD)), "<![CDATA[a < b]]>", "<!-- -->"))


def _macro(random: Random, depth: int) -> str:
    given = "".join(
        f'<ac:parameter ac:name="{random.choice(("", "title", "colour", "language"))}">{_text(random)}</ac:parameter>'
        for _ in range(random.randint(0, 3))
    )
    body = f"<ac:rich-text-body>{_inside(random, depth - 1)}</ac:rich-text-body>"
    kind = random.choice(("ac:structured-macro", "ac:macro"))
    return f'<{kind} ac:name="{random.choice(MACROS)}">{given}{body}</{kind}>'


def _properties(random: Random) -> str:
    """Return page properties with a row for the status, mostly."""
    cells = [("Status", random.choice(("Approved", "Draft"))), ("Owner", "Greta"), (random.choice(ODD), "x")]
    random.shuffle(cells)
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in cells)
    table = f"<table><tbody>{rows}</tbody></table>" * random.choice((1, 1, 2))
    if random.random() < 0.2:
        table = f"<table><tr><td>Outer</td><td>{table}</td></tr></table>"
    body = f"<ac:rich-text-body>{table}</ac:rich-text-body>"
    return f'<ac:structured-macro ac:name="details">{body}</ac:structured-macro>'


def shown(body: str) -> Rendered:
    """Return a page as the synchronisation renders it, with a few links, images and people that are known."""
    return render(
        body,
        resolve_link=lambda title, space, anchor: {"Labels": "#page-2", "text": "javascript:x"}.get(title),
        resolve_image=lambda name, holder: "images/chart.png" if name == "chart.png" else None,
        resolve_user=lambda account: account.title() or None,
        page_id="7",
        heading_offset=2,
    )


def _html(random: Random) -> None:
    for element in reader.fragment_fromstring(shown(page(random)).html, create_parent=True).iter():
        runs = element.tag in ("script", "style", "iframe") or any(name.startswith("on") for name in element.attrib)
        if runs or element.get("href", "#").startswith("javascript:"):
            raise AssertionError("what runs came out")


def _canonical(random: Random) -> None:
    body = page(random)
    once = storage.canonical(body)
    again = storage.canonical(once.decode("utf-8").removeprefix("<body>").removesuffix("</body>"))
    if again != once:
        raise AssertionError("the canonical form of a canonical form differs")
    storage.properties(body)


def _approval(random: Random) -> None:
    history = _history(random)
    known = None
    if random.random() < 0.5:
        number = random.randint(0, history.number + 1)
        known = Approved(number, random.choice(("0" * 64, history.digest(history.number))), None, None, "label x")
    numbers = frozenset(random.choices(range(8), k=2))
    value = random.choice(("Approved", "ok-{version}", "{version}"))
    judges: tuple[Callable[[], Any], ...] = (
        lambda: by_property(ApprovalMark(by="property", value="Approved"), history, known),
        lambda: by_label(
            ApprovalMark(by="label", value=value), random.random() < 0.5, numbers, history, known, random.random() < 0.5
        ),
        lambda: by_state(ApprovalMark(by="state", value="Approved"), _state(random), history, known),
    )
    random.choice(judges)()


EPOCH = datetime(2026, 3, 2, tzinfo=UTC)


def _state(random: Random) -> ContentState | None:
    when = random.choice((None, EPOCH + timedelta(seconds=random.randint(-5000, 5000))))
    return random.choice((None, ContentState(1, random.choice(("Approved", "Draft")), "#fff", when)))


def _history(random: Random) -> History:
    """Return a page of some versions, few of them with a body of their own, some with one that cannot be read."""
    bodies = [random.choice((page(random), _properties(random))) for _ in range(2)]
    pages = {}
    for number in range(1, random.randint(2, 7)):
        stamp = SimpleNamespace(
            number=number, created=EPOCH + timedelta(seconds=random.randint(0, 4000)), author_id=f"author-{number % 3}"
        )
        pages[number] = SimpleNamespace(id="7", version=stamp, body=random.choice((*bodies, *bodies, None)))
    current = pages[max(pages)]
    confluence = SimpleNamespace(
        versions=lambda page_id: [each.version for each in pages.values()],
        page=lambda page_id, version: pages[version],
    )
    return History(confluence, current)  # type: ignore[arg-type]


TARGETS = {"guideline_html": _html, "guideline_canonical": _canonical, "guideline_approval": _approval}
