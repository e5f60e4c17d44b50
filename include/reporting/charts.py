"""Charts for report pages: PNG bytes that depend on the numbers alone, so an unchanged chart is not sent again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from io import BytesIO
from typing import Any

__all__ = ["MOST_BARS", "answers_by_day", "labels"]

MOST_BARS = 24
"""More labels than this are summed up as one bar."""

MOST_DAYS = 120
"""A longer time is drawn in weeks, so that bars stay visible at 800 pixels."""

BLUE = "#0b57b7"
INK = "#1b1f24"


def labels(title: str, counts: Mapping[str, int]) -> bytes:
    """Return a bar chart of answers per label as PNG, 800 pixels wide, the most frequent label on top.

    :param counts: label → number of answers that carry it.
    """
    shown = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    if len(shown) > MOST_BARS:
        rest = shown[MOST_BARS - 1 :]
        shown = [*shown[: MOST_BARS - 1], (f"{len(rest)} other labels", sum(count for _, count in rest))]
    names = [_short(name) for name, _ in shown][::-1]
    values = [count for _, count in shown][::-1]
    figure, axes = _canvas(height=max(2.4, 1.3 + 0.32 * len(shown)))
    if shown:
        places = range(len(values))
        axes.barh(places, values, color=BLUE, height=0.7)
        axes.set_yticks(list(places), names)
        axes.set_xlim(0, max(1, *values) * 1.12)
        axes.xaxis.get_major_locator().set_params(integer=True)
        for place, value in zip(places, values, strict=True):
            axes.annotate(
                f"{value:,}", (value, place), xytext=(4, 0), textcoords="offset points", va="center", color=INK
            )
    else:
        _say_empty(axes)
    axes.set_title(f"{_short(title, 60)} (number of answers)", loc="left", color=INK)
    axes.set_xlabel("answers")
    axes.grid(axis="x", color="#d5dae1", linewidth=0.6)
    return _png(figure)


def answers_by_day(title: str, counts: Mapping[date, int]) -> bytes:
    """Return a bar chart of answers over time as PNG, 800 pixels wide; days without answers are empty places.

    :param counts: day (UTC) → number of answers saved on it.
    """
    unit, steps = _steps(counts)
    figure, axes = _canvas(height=3.2)
    if steps:
        places = range(len(steps))
        values = [value for _, value in steps]
        axes.bar(places, values, color=BLUE, width=0.8)
        every = max(1, -(-len(steps) // 8))
        axes.set_xticks(list(places)[::every], [day.isoformat() for day, _ in steps][::every])
        # a single day would else be as broad as the page
        margin = 0.6 + max(0, 7 - len(steps)) / 2
        axes.set_xlim(-margin, len(steps) - 1 + margin)
        axes.set_ylim(0, max(1, *values) * 1.12)
        axes.yaxis.get_major_locator().set_params(integer=True)
    else:
        _say_empty(axes)
    axes.set_title(f"{_short(title, 60)} (answers per {unit}, UTC)", loc="left", color=INK)
    axes.set_ylabel("answers")
    axes.grid(axis="y", color="#d5dae1", linewidth=0.6)
    return _png(figure)


def _steps(counts: Mapping[date, int]) -> tuple[str, list[tuple[date, int]]]:
    if not counts:
        return "day", []
    first, last = min(counts), max(counts)
    days = (last - first).days + 1
    if days <= MOST_DAYS:
        every = (first + timedelta(days=offset) for offset in range(days))
        return "day", [(day, counts.get(day, 0)) for day in every]
    monday = first - timedelta(days=first.weekday())
    weeks: dict[date, int] = {monday + timedelta(weeks=offset): 0 for offset in range((last - monday).days // 7 + 1)}
    for day, count in counts.items():
        weeks[day - timedelta(days=day.weekday())] += count
    return "week from the day shown", sorted(weeks.items())


def _canvas(height: float) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # a Figure of its own: pyplot keeps global state and is not safe in a worker's threads
    figure = Figure(figsize=(8, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _say_empty(axes: Any) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(0.5, 0.5, "no answers yet", ha="center", va="center", transform=axes.transAxes, color=INK)


def _png(figure: Any) -> bytes:
    out = BytesIO()
    # the library would put its own version into the file
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _short(text: str, most: int = 28) -> str:
    # a dollar sign would start a formula
    text = " ".join(text.split()).replace("$", r"\$")
    return text if len(text) <= most else text[: most - 1] + "…"
