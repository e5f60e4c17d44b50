"""Pieces of a page in Confluence storage format, with bounded tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice

from include.base.canonical import SHORT
from include.base.errors import InvalidInput
from include.systems.confluence.storage import escape

__all__ = ["MOST_LINES", "Raw", "code", "count", "lozenge", "macro", "picture", "table", "time", "top"]

MOST_LINES = 200
"""Lines of a table at most; the rest is counted. Confluence refuses pages of more than some megabytes."""

TOP = 30
"""Counts in a line at most."""

COLOURS = {
    "approved": "Green",
    "released": "Green",
    "frozen": "Grey",
    "in approval": "Blue",
    "rework": "Yellow",
    "expired": "Yellow",
    "undecided": "Yellow",
    "rejected": "Red",
    "void": "Red",
    "withdrawn": "Red",
    "recalled": "Red",
}
"""Colour of a status lozenge; a state not named here is grey."""


class Raw(str):
    """A cell that is storage format already."""


def table(
    head: Sequence[str], lines: Iterable[Sequence[str]], empty: str, *, most: int = MOST_LINES, what: str = "lines"
) -> str:
    """Return a table of at most ``most`` lines, and a sentence that counts the others.

    :param empty: what is said where there is no line.
    :param what: what the lines are, in the plural.
    """
    waiting = iter(lines)
    body = "".join(
        "<tr>" + "".join(f"<td>{cell if isinstance(cell, Raw) else escape(cell)}</td>" for cell in line) + "</tr>"
        for line in islice(waiting, most)
    )
    if not body:
        return f"<p>{escape(empty)}</p>"
    rest = sum(1 for _ in waiting)
    more = f"<p>{escape(f'{rest:,} more {what} are not shown.')}</p>" if rest else ""
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    return f"<table><tbody><tr>{titles}</tr>{body}</tbody></table>{more}"


def macro(name: str, given: Mapping[str, str], body: str | None = None) -> str:
    """Return a macro with its parameters and, where it has one, its rich text body."""
    inner = "".join(f'<ac:parameter ac:name="{key}">{escape(value)}</ac:parameter>' for key, value in given.items())
    if body is not None:
        inner += f"<ac:rich-text-body>{body}</ac:rich-text-body>"
    return f'<ac:structured-macro ac:name="{name}">{inner}</ac:structured-macro>'


def lozenge(state: str) -> str:
    """Return a coloured status."""
    return macro("status", {"colour": COLOURS.get(state, "Grey"), "title": state.upper()})


def picture(name: str, text: str) -> str:
    """Return an attached picture with its text."""
    return (
        f'<p>{escape(text)}</p><ac:image ac:alt="{escape(text)}" ac:width="800">'
        f'<ri:attachment ri:filename="{escape(name)}" /></ac:image>'
    )


def code(digest: str) -> str:
    """Return as much of a digest as people read."""
    return f"<code>{escape(digest[:SHORT])}</code>"


def top(counts: Mapping[str, int]) -> str:
    """Return counts in a line, the largest first, and how many are not shown."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{name} {number:,}" for name, number in ordered[:TOP]]
    return ", ".join([*shown, f"{len(ordered) - TOP:,} more"] if len(ordered) > TOP else shown)


def time(moment: datetime) -> str:
    """Return a time to the minute, UTC.

    :raises InvalidInput: for one without a zone.
    """
    if moment.tzinfo is None:
        raise InvalidInput(f"the report's facts hold the time {moment.isoformat()} without a zone; times are UTC")
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def count(number: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
