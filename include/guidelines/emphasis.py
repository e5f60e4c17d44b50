"""What the formatting of a text says, in classes of our own style sheet: struck through, coloured, numbered, …

An author's styles are not kept, for they could load things and hide text; what they mean is. A colour becomes the
nearest of a few that can be read on white, in print, and under black text.
"""

from __future__ import annotations

import colorsys
import re
from collections.abc import Iterator
from typing import Any

__all__ = ["CLASSES", "STYLE", "classes_of"]

COLOURS = {
    "red": ("#b3261e", "#fbd9d6"),
    "orange": ("#8a4b00", "#ffe0c2"),
    "yellow": ("#6b5900", "#fdeeb5"),
    "green": ("#1a6b2f", "#d3f1dc"),
    "teal": ("#0b6470", "#cdeef0"),
    "blue": ("#0b57b7", "#d8e7fb"),
    "purple": ("#5f2da8", "#e8defa"),
    "grey": ("#56606d", "#e3e7ec"),
}
"""Each as a colour of text, and as one behind text."""

_HUES = ((15, "red"), (45, "orange"), (70, "yellow"), (160, "green"), (200, "teal"), (255, "blue"), (345, "purple"))
_NAMED = {
    **{name: name for name in COLOURS},
    **{"gray": "grey", "silver": "grey", "maroon": "red", "crimson": "red", "tomato": "red", "darkred": "red"},
    **{"brown": "orange", "gold": "yellow", "olive": "yellow", "lime": "green", "darkgreen": "green"},
    **{"cyan": "teal", "aqua": "teal", "navy": "blue", "darkblue": "blue", "lightblue": "blue"},
    **{"magenta": "purple", "fuchsia": "purple", "pink": "purple", "violet": "purple", "indigo": "purple"},
}
_HEX = re.compile(r"#([0-9a-f]{6}|[0-9a-f]{3})\b")
_RGB = re.compile(r"rgba?\(\s*(\d{1,3})\s*[,\s]\s*(\d{1,3})\s*[,\s]\s*(\d{1,3})")
_FIXED_WIDTH = re.compile(r"mono|courier|consolas|menlo")
_NUMBERINGS = ("lower-alpha", "upper-alpha", "lower-roman", "upper-roman")
_TYPES = {"a": "lower-alpha", "A": "upper-alpha", "i": "lower-roman", "I": "upper-roman"}

_RULES = {
    "struck": "text-decoration:line-through",
    "underlined": "text-decoration:underline",
    "struck.underlined": "text-decoration:line-through underline",
    "bold": "font-weight:700",
    "italic": "font-style:italic",
    "fixed-width": "font-family:ui-monospace,Menlo,Consolas,monospace",
    "raised": "vertical-align:super;font-size:.8em",
    "lowered": "vertical-align:sub;font-size:.8em",
    **{f"text-{name}": f"color:{text}" for name, (text, _) in COLOURS.items()},
    **{f"on-{name}": f"background:{behind}" for name, (_, behind) in COLOURS.items()},
    **{f"numbered-{name}": f"list-style-type:{name}" for name in _NUMBERINGS},
}

CLASSES = frozenset(name for name in _RULES if "." not in name)

STYLE = "".join(f".labelops-guideline .{name}{{{rule}}}\n" for name, rule in _RULES.items())


def classes_of(element: Any) -> list[str]:
    """Return what the formatting of an element of storage format says, as classes, sorted."""
    return sorted(set(_classes(element)))


def _classes(element: Any) -> Iterator[str]:
    if not element.attrib:
        return
    style = dict(_declarations(element.get("style", "")))
    decoration = f"{style.get('text-decoration', '')} {style.get('text-decoration-line', '')}"
    if "line-through" in decoration:
        yield "struck"
    if "underline" in decoration:
        yield "underlined"
    if style.get("font-weight", "") in ("bold", "bolder", "600", "700", "800", "900"):
        yield "bold"
    if style.get("font-style", "") in ("italic", "oblique"):
        yield "italic"
    if _FIXED_WIDTH.search(style.get("font-family", "") or element.get("face", "").lower()):
        yield "fixed-width"
    if style.get("vertical-align") in ("super", "sub"):
        yield "raised" if style["vertical-align"] == "super" else "lowered"
    text = _colour(style.get("color") or element.get("color", ""))
    if text:
        yield f"text-{text}"
    behind = _colour(_background(element, style))
    if behind:
        yield f"on-{behind}"
    numbering = style.get("list-style-type", _TYPES.get(element.get("type", ""), "")).replace("latin", "alpha")
    if numbering in _NUMBERINGS:
        yield f"numbered-{numbering}"


def _declarations(style: str) -> Iterator[tuple[str, str]]:
    for declaration in style.lower().split(";"):
        name, _, value = declaration.partition(":")
        yield name.strip(), value.replace("!important", "").strip()


def _background(element: Any, style: dict[str, str]) -> str:
    """Return the colour behind an element; Confluence writes that of a cell in attributes of its own."""
    marked = next((name for name in element.get("class", "").split() if name.startswith("highlight-")), "")
    given = (
        style.get("background-color"),
        style.get("background"),
        element.get("data-highlight-colour"),
        element.get("bgcolor"),
        marked.removeprefix("highlight-"),
    )
    return next(filter(None, given), "")


def _colour(value: str) -> str | None:
    """Return the nearest of our colours; None for what looks like ordinary text on white, and for what is no colour."""
    value = value.lower().strip()
    if value in _NAMED:
        return _NAMED[value]
    # Also inside of var(), where it stands for a site that lacks the variable.
    found = _HEX.search(value)
    if found:
        digits = found[1] if len(found[1]) == 6 else "".join(digit * 2 for digit in found[1])
        parts = [int(digits[start : start + 2], 16) for start in (0, 2, 4)]
    elif found := _RGB.search(value):
        parts = [min(255, int(part)) for part in found.groups()]
    else:
        return None
    hue, lightness, saturation = colorsys.rgb_to_hls(*(part / 255 for part in parts))
    if lightness > 0.98 or lightness < 0.08 or (lightness < 0.2 and saturation < 0.6):
        return None
    if saturation < 0.15:
        return "grey"
    return next((name for most, name in _HUES if hue * 360 < most), "red")
