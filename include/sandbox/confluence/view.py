"""The local Confluence in a browser: spaces, page trees and pages with status, history, tasks, files and comments.

No sign-in: it is served on loopback only. Everything stored is escaped; nothing is loaded from elsewhere.
"""

# ruff: noqa: S608 - the pieces put into statements are constants; values are always bound

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

from include.sandbox.confluence import markup
from include.sandbox.confluence.database import Database, iso
from include.sandbox.http import App, Reply, Request

__all__ = ["REPRESENTATIONS", "add_routes", "bodies"]

_STYLE = Path(__file__).with_name("view.css").read_text("utf-8")
_PLAIN = frozenset(
    {"h1", "h2", "h3", "h4", "h5", "h6", "p", "pre", "code", "blockquote", "div", "span", "small", "strong", "em"}
    | {"u", "s", "del", "sub", "sup", "ul", "ol", "li", "dl", "dt", "dd", "thead", "tbody", "tfoot", "tr"}
)
_EMPTY = frozenset({"br", "hr"})
_PANELS = {"info": "info", "tip": "tip", "note": "note", "warning": "warning", "panel": "plain"}
_COLOURS = frozenset({"Green", "Blue", "Red", "Yellow", "Purple"})
_SHOWN_VERSIONS = 30
_TREE_PAGES = 400


REPRESENTATIONS = ("storage", "view", "export_view", "styled_view", "anonymous_export_view")
"""What a body can be had as; all but the first are HTML, and here one."""

Page = sqlite3.Row | Mapping[str, Any]


def bodies(
    database: Database, root: str, page: Page, storage: str, wanted: Callable[[str], bool]
) -> dict[str, dict[str, Any]]:
    """Return a body of a page, or of something on it, in each representation that is wanted."""
    row = {"id": page["id"], "key": page["space_key"]}
    return {
        name: {
            "value": storage if name == "storage" else _Renderer(_Browser(database, root), row).body(storage),
            "representation": name,
        }
        for name in filter(wanted, REPRESENTATIONS)
    }


def add_routes(app: App, database: Database, root: str = "/wiki") -> None:
    """Add the browser's addresses to a stand-in, below its context path."""
    browser = _Browser(database, root)
    for template, handler in (
        ("/", browser.spaces),
        (root, browser.spaces),
        (f"{root}/", browser.spaces),
        (f"{root}/spaces/{{key}}", browser.space),
        (f"{root}/spaces/{{key}}/overview", browser.space),
        (f"{root}/spaces/{{key}}/pages/{{id}}", browser.page),
        (f"{root}/spaces/{{key}}/pages/{{id}}/{{title}}", browser.page),
        (f"{root}/pages/viewpage.action", browser.by_id),
    ):
        app.route("GET", template)(handler)


class _Browser:
    def __init__(self, database: Database, root: str) -> None:
        self.database = database
        self.root = root

    def spaces(self, request: Request) -> Reply:
        rows = self.database.rows(
            "select s.*, (select count(*) from pages p where p.space_id = s.id and p.status = 'current') as pages"
            " from spaces s order by s.name"
        )
        lines = "".join(
            f"<tr><td><a href='{self.root}/spaces/{escape(row['key'])}'>{escape(row['name'])}</a></td>"
            f"<td><code>{escape(row['key'])}</code></td><td>{row['pages']}</td></tr>"
            for row in rows
        )
        table = f"<div class='scroll'><table><tr><th>Space</th><th>Key</th><th>Pages</th></tr>{lines}</table></div>"
        return _html("Spaces", "", f"<h1>Spaces</h1>{table if rows else '<p>There is no space yet.</p>'}")

    def space(self, request: Request) -> Reply:
        space = self.database.row("select * from spaces where key = ?", (request.values["key"],))
        if space is None:
            return _html("Not found", "", "<h1>No such space</h1>", 404)
        return self._show(space["homepage_id"], request)

    def by_id(self, request: Request) -> Reply:
        return self._show(request.one("pageId"), request)

    def page(self, request: Request) -> Reply:
        return self._show(request.values["id"], request)

    def _show(self, page_id: Any, request: Request) -> Reply:
        row = self.database.row(
            "select p.*, s.key, s.name as space_name, st.name as state_name, st.color as state_color from pages p"
            " join spaces s on s.id = p.space_id left join states st on st.id = p.state_id where p.id = ?",
            (page_id,),
        )
        number = request.one("version") or (row["version"] if row else 0)
        version = self.database.row("select * from versions where page_id = ? and number = ?", (page_id, number))
        if row is None or version is None:
            return _html("Not found", "", "<h1>No such page</h1>", 404)
        renderer = _Renderer(self, row)
        return _html(
            version["title"],
            self._tree(row),
            self._head(row, version) + renderer.body(version["body"]) + self._foot(row, renderer),
        )

    # --- around the body ---

    def _tree(self, row: sqlite3.Row) -> str:
        pages = self.database.rows(
            "select id, title, parent_id from pages where space_id = ? and status = 'current' order by id limit ?",
            (row["space_id"], _TREE_PAGES),
        )
        known = {page["id"] for page in pages}
        below: dict[Any, list[sqlite3.Row]] = {}
        for page in pages:
            below.setdefault(page["parent_id"] if page["parent_id"] in known else None, []).append(page)

        def branch(parent: Any, depth: int) -> str:
            children = below.get(parent, []) if depth < 12 else []
            items = "".join(
                f"<li{' class=here' if page['id'] == row['id'] else ''}>{self.link(row['key'], page)}"
                f"{branch(page['id'], depth + 1)}</li>"
                for page in children
            )
            return f"<ul>{items}</ul>" if items else ""

        more = "<p>…</p>" if len(pages) == _TREE_PAGES else ""
        return f"<nav><h2>{escape(row['space_name'])}</h2>{branch(None, 0)}{more}</nav>"

    def link(self, key: str, page: sqlite3.Row) -> str:
        return f"<a href='{self.root}/spaces/{escape(key)}/pages/{page['id']}'>{escape(page['title'])}</a>"

    def person(self, account_id: str | None) -> str:
        found = self.database.row("select name from users where account_id = ?", (account_id,))
        return escape(found["name"] if found else account_id or "nobody")

    def _head(self, row: sqlite3.Row, version: sqlite3.Row) -> str:
        crumbs: list[str] = []
        parent = row["parent_id"]
        while parent is not None and len(crumbs) < 12:
            above = self.database.row("select id, title, parent_id from pages where id = ?", (parent,))
            if above is None:
                break
            crumbs.insert(0, self.link(row["key"], above))
            parent = above["parent_id"]
        state = ""
        if row["state_name"]:
            state = (
                f"<span class='lozenge state' style='--state: {escape(row['state_color'])}'>"
                f"{escape(row['state_name'])}</span>"
            )
        labels = "".join(
            f"<span class='label'>{escape(item['name'])}</span>"
            for item in self.database.rows("select name from labels where page_id = ? order by name", (row["id"],))
        )
        old = ""
        if version["number"] != row["version"]:
            address = f"{self.root}/spaces/{escape(row['key'])}/pages/{row['id']}"
            old = (
                f"<p class='old'>This is version {version['number']}. <a href='{address}'>Show the current one</a></p>"
            )
        if row["status"] != "current":
            old += f"<p class='old'>This page is {escape(row['status'])}.</p>"
        return (
            f"<p class='crumbs'>{' / '.join(crumbs)}</p><h1>{escape(version['title'])}</h1><div class='by'>{state}"
            f"<span>Version {version['number']} by {self.person(version['author_id'])}</span>"
            f"<span>{_time(version['created'])}</span>{labels}</div>{old}"
        )

    def _foot(self, row: sqlite3.Row, renderer: _Renderer) -> str:
        return "".join(
            f"<section class='meta'><h2>{title}</h2>{content}</section>"
            for title, content in (
                ("Attachments", self._files(row)),
                ("Comments", self._comments(row, renderer)),
                ("Version history", self._history(row)),
            )
            if content
        )

    def _files(self, row: sqlite3.Row) -> str:
        columns = "id, title, media_type, version, author_id, created, length(content) as size"
        rows = self.database.rows(f"select {columns} from attachments where page_id = ? order by title", (row["id"],))
        lines = "".join(
            f"<tr><td><a href='/_view/attachments/{item['id']}'>{escape(item['title'])}</a></td>"
            f"<td>{escape(item['media_type'])}</td><td>{item['size']:,} bytes</td><td>{item['version']}</td>"
            f"<td>{self.person(item['author_id'])}</td><td>{_time(item['created'])}</td></tr>"
            for item in rows
        )
        return lines and _table(("File", "Type", "Size", "Version", "By", "When"), lines)

    def _comments(self, row: sqlite3.Row, renderer: _Renderer) -> str:
        rows = self.database.rows("select * from comments where page_id = ? order by created", (row["id"],))
        return "".join(
            f"<div class='comment'><strong>{self.person(item['author_id'])}</strong> "
            f"<small>{_time(item['created'])}</small>{renderer.body(item['body'])}</div>"
            for item in rows
        )

    def _history(self, row: sqlite3.Row) -> str:
        rows = self.database.rows(
            "select number, author_id, created, message from versions where page_id = ? order by number desc limit ?",
            (row["id"], _SHOWN_VERSIONS),
        )
        address = f"{self.root}/spaces/{escape(row['key'])}/pages/{row['id']}?version="
        lines = "".join(
            f"<tr><td><a href='{address}{item['number']}'>{item['number']}</a></td>"
            f"<td>{self.person(item['author_id'])}</td><td>{_time(item['created'])}</td>"
            f"<td>{escape(item['message'])}</td></tr>"
            for item in rows
        )
        return _table(("Version", "By", "When", "Message"), lines)


class _Renderer:
    """Storage format of one page as readable HTML; what it does not know is shown as a named box."""

    def __init__(self, browser: _Browser, row: Page) -> None:
        self.browser = browser
        self.row = row
        self.headings: list[tuple[int, str]] = []
        self.macros: dict[str, Callable[[Any, dict[str, str]], str]] = {
            "status": self._status,
            "code": self._code,
            "noformat": self._code,
            "expand": self._expand,
            "details": lambda macro, given: self._rich(macro),
            "excerpt": lambda macro, given: self._rich(macro),
            "toc": self._contents,
            "children": self._children,
        }

    def body(self, storage: str) -> str:
        """Return the HTML of a stored body."""
        root = markup.parse(storage)
        self.headings = [
            (int(element.tag[1]), "".join(element.itertext()))
            for element in root.iter("h1", "h2", "h3", "h4", "h5", "h6")
        ]
        return self._inside(root)

    def _inside(self, element: Any) -> str:
        pieces = [escape(element.text or "")]
        for child in element:
            pieces.append(self._element(child) if isinstance(child.tag, str) else "")
            pieces.append(escape(child.tail or ""))
        return "".join(pieces)

    def _element(self, element: Any) -> str:
        name = markup.name_of(element)
        handler = getattr(self, "_on_" + name.replace(":", "_").replace("-", "_"), None)
        if handler is not None:
            return handler(element)
        if name in _EMPTY:
            return f"<{name}>"
        if name in _PLAIN:
            anchor = ""
            if len(name) == 2 and name[0] == "h" and name[1].isdigit():
                anchor = f" id='{_anchor(''.join(element.itertext()))}'"
            return f"<{name}{anchor}>{self._inside(element)}</{name}>"
        return self._inside(element)

    # --- elements ---

    def _on_table(self, element: Any) -> str:
        return f"<div class='scroll'><table>{self._inside(element)}</table></div>"

    def _on_td(self, element: Any) -> str:
        return self._cell(element, "td")

    def _on_th(self, element: Any) -> str:
        return self._cell(element, "th")

    def _cell(self, element: Any, name: str) -> str:
        spans = "".join(
            f" {span}='{element.get(span)}'" for span in ("colspan", "rowspan") if element.get(span, "").isdigit()
        )
        return f"<{name}{spans}>{self._inside(element)}</{name}>"

    def _on_a(self, element: Any) -> str:
        address = element.get("href", "")
        if not address.startswith(("http://", "https://", "/", "#", "mailto:")):
            return self._inside(element)
        return f"<a rel='noreferrer' href='{escape(address)}'>{self._inside(element)}</a>"

    def _on_time(self, element: Any) -> str:
        return f"<time>{escape(element.get('datetime', ''))}</time>"

    def _on_ac_image(self, element: Any) -> str:
        for child in element:
            if markup.name_of(child) == "ri:attachment":
                name = markup.attribute(child, "ri:filename")
                found = self.browser.database.row(
                    "select id, version from attachments where page_id = ? and title = ?", (self.row["id"], name)
                )
                if found is None:
                    return f"<span class='macro'>Image not attached: {escape(name)}</span>"
                text = escape(markup.attribute(element, "ac:alt") or name)
                width = markup.attribute(element, "ac:width")
                size = f" width='{width}'" if width.isdigit() else ""
                return f"<img alt='{text}'{size} src='/_view/attachments/{found['id']}?v={found['version']}'>"
            if markup.name_of(child) == "ri:url":
                return f"<span class='macro'>Image at {escape(markup.attribute(child, 'ri:value'))}</span>"
        return ""

    def _on_ac_link(self, element: Any) -> str:
        text, target, title = "", "", ""
        for child in element:
            name = markup.name_of(child)
            if name in ("ac:link-body", "ac:plain-text-link-body"):
                text = self._inside(child)
            elif name == "ri:user":
                account = markup.attribute(child, "ri:account-id") or markup.attribute(child, "ri:userkey")
                return f"<span class='mention'>@{self.browser.person(account)}</span>"
            elif name == "ri:page":
                title = markup.attribute(child, "ri:content-title")
                target = self._page_address(title, markup.attribute(child, "ri:space-key") or self.row["key"])
            elif name == "ri:attachment":
                title = markup.attribute(child, "ri:filename")
                found = self.browser.database.row(
                    "select id from attachments where page_id = ? and title = ?", (self.row["id"], title)
                )
                target = f"/_view/attachments/{found['id']}" if found else ""
        shown = text or escape(title or markup.attribute(element, "ac:anchor"))
        return f"<a href='{escape(target)}'>{shown}</a>" if target else f"<span>{shown}</span>"

    def _page_address(self, title: str, key: str) -> str:
        found = self.browser.database.row(
            "select p.id from pages p join spaces s on s.id = p.space_id where s.key = ? and p.title = ?", (key, title)
        )
        return f"{self.browser.root}/spaces/{quote_plus(key)}/pages/{found['id']}" if found else ""

    def _on_ac_task_list(self, element: Any) -> str:
        return f"<ul class='tasks'>{self._inside(element)}</ul>"

    def _on_ac_task(self, element: Any) -> str:
        done = element.findtext(f"{{{markup.AC}}}task-status", "").strip() == "complete"
        content = element.find(f"{{{markup.AC}}}task-body")
        by = self.browser.database.row(
            "select completed_by, completed from tasks where page_id = ? and local_id = ?",
            (self.row["id"], element.findtext(f"{{{markup.AC}}}task-id", "").strip()),
        )
        who = ""
        if done and by and by["completed_by"]:
            who = f" <small>done by {self.browser.person(by['completed_by'])}, {_time(by['completed'])}</small>"
        box = "☑" if done else "☐"
        return f"<li>{box} {'' if content is None else self._inside(content)}{who}</li>"

    def _on_ac_layout_section(self, element: Any) -> str:
        return f"<div class='layout'>{self._inside(element)}</div>"

    def _on_ac_layout_cell(self, element: Any) -> str:
        return f"<div>{self._inside(element)}</div>"

    def _on_ac_emoticon(self, element: Any) -> str:
        return escape(markup.attribute(element, "ac:emoji-fallback") or markup.attribute(element, "ac:name"))

    def _on_ac_structured_macro(self, element: Any) -> str:
        name = markup.attribute(element, "ac:name")
        given = {
            markup.attribute(child, "ac:name"): "".join(child.itertext())
            for child in element
            if markup.name_of(child) == "ac:parameter"
        }
        if name in _PANELS:
            title = f"<strong>{escape(given['title'])}</strong>" if given.get("title") else ""
            return f"<div class='panel {_PANELS[name]}'>{title}{self._rich(element)}</div>"
        if name in self.macros:
            return self.macros[name](element, given)
        return f"<div class='macro'>Macro <strong>{escape(name)}</strong>{self._rich(element)}</div>"

    # --- macros ---

    def _rich(self, macro: Any) -> str:
        body = macro.find(f"{{{markup.AC}}}rich-text-body")
        return "" if body is None else self._inside(body)

    def _status(self, macro: Any, given: dict[str, str]) -> str:
        colour = given.get("colour", "")
        return f"<span class='lozenge {colour if colour in _COLOURS else ''}'>{escape(given.get('title', ''))}</span>"

    def _code(self, macro: Any, given: dict[str, str]) -> str:
        text = macro.findtext(f"{{{markup.AC}}}plain-text-body", "")
        return f"<pre><code>{escape(text)}</code></pre>"

    def _expand(self, macro: Any, given: dict[str, str]) -> str:
        title = escape(given.get("title") or "More")
        return f"<details class='expand'><summary>{title}</summary>{self._rich(macro)}</details>"

    def _contents(self, macro: Any, given: dict[str, str]) -> str:
        items = "".join(
            f"<li style='margin-left: {(level - 1) * 14}px'><a href='#{_anchor(text)}'>{escape(text)}</a></li>"
            for level, text in self.headings
        )
        return f"<ul>{items}</ul>"

    def _children(self, macro: Any, given: dict[str, str]) -> str:
        rows = self.browser.database.rows(
            "select id, title from pages where parent_id = ? and status = 'current' order by id", (self.row["id"],)
        )
        items = "".join(f"<li>{self.browser.link(self.row['key'], page)}</li>" for page in rows)
        return f"<ul>{items}</ul>"


def _anchor(text: str) -> str:
    return quote_plus(" ".join(text.split())).replace("'", "")


def _time(milliseconds: int) -> str:
    text = iso(milliseconds) or ""
    return f"<time datetime='{text}'>{text[:10]} {text[11:16]} UTC</time>"


def _table(headings: tuple[str, ...], lines: str) -> str:
    top = "".join(f"<th>{heading}</th>" for heading in headings)
    return f"<div class='scroll'><table><tr>{top}</tr>{lines}</table></div>"


def _html(title: str, tree: str, content: str, status: int = 200) -> Reply:
    frame = f"<div class='frame'>{tree}<main>{content}</main></div>" if tree else f"<main>{content}</main>"
    page = (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{escape(title)}</title>"
        f"<meta name='viewport' content='width=device-width'><style>{_STYLE}</style></head><body>"
        f"<header><a href='/'>Confluence</a><small>local stand-in</small></header>{frame}</body></html>"
    )
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'",
    }
    return Reply(status, page.encode("utf-8"), headers)
