"""The difference between two versions as a report that people read: Markdown, or text for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from include.base.canonical import SHORT, canonical_text
from include.base.text import printable
from include.datasets.diff import KINDS, Change, Side, VersionDiff, marks

__all__ = ["markdown", "plain_text"]

_MARKS_SHOWN = 5


def markdown(found: VersionDiff) -> str:
    """Return a report in Markdown, whatever a label holds."""
    return "\n".join(_markdown(_sections(found)))


def plain_text(found: VersionDiff) -> str:
    """Return the same report as plain text, safe to print on a terminal."""
    return "\n".join(_plain_text(_sections(found)))


@dataclass(frozen=True)
class _Section:
    title: str
    note: str
    columns: list[str]
    rows: list[list[str]]


def _sections(found: VersionDiff) -> list[_Section]:
    def counted(values: Mapping[str, int]) -> list[list[str]]:
        return [[name, str(count)] for name, count in values.items()]

    labels = [[label, *map(str, (one.old, one.new, one.gained, one.lost))] for label, one in found.labels.items()]
    moves = [[before or "-", after or "-", str(count)] for (before, after), count in found.transitions.items()]
    fields = [[one.field, one.old or "-", one.new or "-"] for one in found.manifest]
    before, after = ["in the old version", "records"], ["in the new version", "records"]
    sections = [
        _Section("What changed", found.sentence, ["label", "old", "new", "gained", "lost"], labels),
        _Section("From label to label", "", ["from", "to", "times"], moves),
        _Section("Who gave the new labels", "", ["person", "records"], counted(found.persons)),
        _Section("What the new labels rest on", "", ["basis", "records"], counted(found.bases)),
        _Section("What the added records were before", "", before, counted(found.came_from)),
        _Section("What became of the removed records", "", after, counted(found.went_to)),
        _Section("What else differs", "", ["field", "old", "new"], fields),
    ]
    for kind in KINDS:
        some = [one for one in found.samples if one.kind == kind]
        total = getattr(found, kind)
        note = f"The first {len(some)} of {total}." if len(some) < total else ""
        columns = ["task", "old", "new", "why" if kind in ("added", "removed") else "by, basis, round"]
        full = any(one.shown is not None for one in some)
        sections.append(
            _Section(
                f"Examples: {kind}",
                note,
                [*columns, "shown"] if full else columns,
                [[*_sample(one), *([canonical_text(one.shown)] if one.shown is not None else [])] for one in some],
            )
        )
    return [one for one in sections if one.note or one.rows]


def _sample(change: Change) -> list[str]:
    old, new = change.old, change.new
    if old is not None and new is not None:
        why = f"{_origin(old)} > {_origin(new)}"
    else:
        why = f"{'was' if old is None else 'now'} {change.elsewhere}"
    return [change.task_id[:SHORT], _reading(old.value) if old else "-", _reading(new.value) if new else "-", why]


def _origin(side: Side) -> str:
    return f"{', '.join(side.persons)} ({side.basis}, round {side.round})"


def _reading(value: Mapping[str, Any]) -> str:
    """Return a value in a few words."""
    given = marks(value)
    some = [f"{where} {label}" if where and "[" not in where else label for where, label in given[:_MARKS_SHOWN]]
    more = len(given) - len(some)
    return ", ".join(some) + (f" and {more} more" if more else "")


def _markdown(sections: Iterable[_Section]) -> Iterator[str]:
    for number, section in enumerate(sections):
        if number:
            yield ""
        yield f"## {section.title}"
        if section.note:
            yield from ("", _escaped(section.note))
        if section.rows:
            yield ""
            yield f"| {' | '.join(section.columns)} |"
            yield f"|{'---|' * len(section.columns)}"
            for row in section.rows:
                yield f"| {' | '.join(map(_escaped, row))} |"


def _escaped(text: str) -> str:
    """Return text that Markdown shows as it is, on one line."""
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>#|~" else letter for letter in printable(text))


def _plain_text(sections: Iterable[_Section]) -> Iterator[str]:
    for number, section in enumerate(sections):
        if number:
            yield ""
        yield section.title.upper()
        if section.note:
            yield printable(section.note)
        if section.rows:
            table = [[printable(cell) for cell in row] for row in [section.columns, *section.rows]]
            widths = [max(len(row[place]) for row in table) for place in range(len(section.columns))]
            for row in table:
                yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
