"""What a browser shows of the stand-in: the list of processes, and one process with everything known of it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape
from typing import Any

from include.sandbox.http import Reply, Request
from include.sandbox.opentext.shapes import utc_time
from include.sandbox.opentext.state import State

__all__ = ["process_list", "process_page"]

_SHOWN = 500
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#1c2430;background:#fff}
h1{font-size:1.5rem;margin:0 0 .25rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.45rem .6rem;border-bottom:1px solid #dde2ea}
th{background:#f4f6f9;font-weight:600}td.value{overflow-wrap:break-word;white-space:pre-line}
time{white-space:nowrap}td.value:last-child{overflow-wrap:anywhere}
.state{display:inline-block;padding:.1rem .5rem;border-radius:1rem;background:#e3ecfb}
.state.ended{background:#e2f3e6}.state.deleted{background:#fbe5e3}
.muted{color:#667085}a{color:#1d4ed8}
"""


def process_list(state: State) -> Reply:
    """Return the page of all processes, newest first."""
    rows = state.rows("SELECT * FROM process ORDER BY started DESC, rowid DESC LIMIT ?", _SHOWN)
    total = state.counts()["processes"]
    table = _table(
        ("Process", "Business key", "State", "Started", "Ended"),
        (
            (
                f'<a href="/processes/{escape(row["id"])}">{_text(row["name"] or row["id"])}</a>',
                _text(row["business_key"]),
                _state(row),
                _time(row["started"]),
                _time(row["ended"]),
            )
            for row in rows
        ),
        "No process was started yet.",
    )
    return _page("Processes", f'<p class="muted">{total} in all, {len(rows)} shown.</p>{table}')


def process_page(state: State, request: Request) -> Reply:
    """Return the page of one process."""
    row = state.row(
        "SELECT process.*, model.key, model.version FROM process "
        "JOIN model ON model.id = model_id WHERE process.id = ?",
        request.values["process"],
    )
    if row is None:
        return _page("No such process", '<p><a href="/">All processes</a></p>', 404)
    tasks = state.rows("SELECT * FROM task WHERE process_id = ? ORDER BY created, rowid", row["id"])
    comments = state.rows("SELECT * FROM comment WHERE process_id = ? ORDER BY seq", row["id"])
    facts = (
        ("State", _state(row)),
        ("Business key", _text(row["business_key"])),
        ("Model", f"{_text(row['key'])}, version {row['version']}"),
        ("Started", f"{_time(row['started'])} by {_text(row['started_by'])}"),
        ("Ended", _time(row["ended"])),
        ("End event", _text(row["end_activity"])),
    )
    body = (
        '<p><a href="/">All processes</a></p>'
        + _table(("Fact", "Value"), facts)
        + "<h2>Tasks</h2>"
        + _table(
            ("Task", "Candidate groups", "Assignee", "Created", "Claimed", "Ended", "Outcome"),
            (
                (
                    _text(task["name"]),
                    _text(", ".join(json.loads(task["groups"]))),
                    _text(task["assignee"]),
                    _time(task["created"]),
                    _time(task["claimed"]),
                    _time(task["ended"]),
                    _text(task["outcome"] or task["delete_reason"]),
                )
                for task in tasks
            ),
            "No task.",
        )
        + "<h2>Comments</h2>"
        + _table(
            ("Time", "Author", "Comment"),
            (
                (_time(item["at"]), _text(item["author"]), _text(item["message"]).replace("\n", "<br>"))
                for item in comments
            ),
            "No comment.",
        )
        + "<h2>Variables</h2>"
        + _table(
            ("Name", "Type", "Value"),
            (
                (_text(item["name"]), _text(item["type"]), "encrypted" if item["encryption"] else _value(item["value"]))
                for item in state.variables(row["id"])
            ),
            "No variable.",
        )
    )
    return _page(row["name"] or row["id"], body)


def _state(row: Any) -> str:
    if row["ended"] is None:
        return '<span class="state">running</span>'
    if row["delete_reason"]:
        return f'<span class="state deleted">terminated: {_text(row["delete_reason"])}</span>'
    return f'<span class="state ended">ended: {_text(row["end_activity"])}</span>'


def _text(value: Any) -> str:
    return '<span class="muted">–</span>' if value in (None, "") else escape(str(value))


def _value(written: str | None) -> str:
    """Return a variable's value, which is kept as JSON; a text as people read it."""
    value = json.loads(written) if written else None
    return _text(value if isinstance(value, str) else written)


def _time(at: float | None) -> str:
    value = utc_time(at)
    return _text(None) if value is None else f"<time>{value[:19].replace('T', ' ')} UTC</time>"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]], empty: str = "") -> str:
    body = "".join(f"<tr>{''.join(f'<td class=value>{cell}</td>' for cell in row)}</tr>" for row in rows)
    if not body:
        return f'<p class="muted">{escape(empty)}</p>'
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    return f"<table><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table>"


def _page(title: str, body: str, status: int = 200) -> Reply:
    text = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)} · OpenText stand-in</title>'
        f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>{body}</body></html>"
    )
    headers = {
        "Content-Type": "text/html;charset=UTF-8",
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    }
    return Reply(status, text.encode("utf-8"), headers)
