"""The marks of an answer, each kind in one form that does not depend on the order or the way they were drawn in.

What Prodigy stores for each interface, and how sure that is, stands in ``docs/assumptions.md``. Every function raises
:class:`InvalidInput` naming the row, the field, what was found and what is allowed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any

from include.annotation.numbers import number_text
from include.base.errors import InvalidInput

__all__ = [
    "SHAPES",
    "Region",
    "Relation",
    "Segment",
    "Span",
    "image_size",
    "label_of",
    "regions_of",
    "relations_of",
    "segments_of",
    "spans_of",
    "whole",
]

Span = tuple[int, int, str]
"""Start, end (exclusive) and label; code points of the text."""

Region = tuple[str, str, tuple[tuple[str, str], ...]]
"""Label, shape and points (x, y); pixels from the upper left corner, as decimal text."""

Segment = tuple[str, str, str]
"""Start, end and label; seconds as decimal text."""

Relation = tuple[int, int, int, int, str]
"""Start and end of the head, start and end of the child, label; code points of the text."""

SHAPES = ("rect", "polygon", "freehand")

PLACES = 6
"""Decimals that a pixel is kept to: the page adds and subtracts floats, which leaves 1e-14 here and there."""

SLACK = 1.0
"""By how many pixels a point may lie beside the image, and two ways of giving one rectangle may differ."""


# Text -----------------------------------------------------------------------------------------------------------------


def spans_of(
    content: Mapping[str, Any], where: str, *, overlap: bool = False, labels: Collection[str] | None = None
) -> tuple[Span, ...]:
    """Return the spans of a text, sorted, each once.

    :param overlap: whether two spans may share characters.
    :param labels: the labels that are allowed; None for any.
    """
    text = content.get("text")
    if not isinstance(text, str):
        raise InvalidInput(f"{where}: text: found {type(text).__name__}; allowed: the string that the spans count in")
    found = content.get("spans")
    if found is None:
        return ()
    if not isinstance(found, list):
        raise InvalidInput(f"{where}: spans: found {type(found).__name__}; allowed: a list of spans")
    length = len(text)
    spans = sorted(
        {
            (span["start"], span["end"], span["label"])
            if _is_plain(span, length, labels)
            else _span(span, length, labels, f"{where}: spans[{place}]")
            for place, span in enumerate(found)
        }
    )
    if not overlap:
        for before, after in pairwise(spans):
            if after[0] < before[1]:
                raise InvalidInput(
                    f"{where}: spans: {before[0]}-{before[1]} and {after[0]}-{after[1]} overlap; "
                    "allowed: spans side by side"
                )
    _check_tokens(content, spans, where)
    return tuple(spans)


def _is_plain(found: Any, length: int, labels: Collection[str] | None) -> bool:
    """Tell whether a span is as Prodigy writes one: what :func:`_span` looks at, with no sentence for each field."""
    if type(found) is not dict:
        return False
    start, end, label = found.get("start"), found.get("end"), found.get("label")
    return (
        type(start) is int
        and type(end) is int
        and 0 <= start < end <= length
        and type(label) is str
        and label != ""
        and (label.isascii() if labels is None else label in labels)
        and type(found.get("token_start", 0)) is int
        and type(found.get("token_end", 0)) is int
    )


def _span(found: Any, length: int, labels: Collection[str] | None, field: str) -> Span:
    start, end = _bounds(found, length, field)
    for name in ("token_start", "token_end"):
        if found.get(name) is not None:
            whole(found[name], f"{field}.{name}")
    return start, end, label_of(found.get("label"), f"{field}.label", labels)


def _bounds(found: Any, length: int, field: str) -> tuple[int, int]:
    if not isinstance(found, Mapping):
        raise InvalidInput(f"{field}: found {type(found).__name__}; allowed: an object with start, end and label")
    start = whole(found.get("start"), f"{field}.start")
    end = whole(found.get("end"), f"{field}.end")
    if not 0 <= start < end <= length:
        raise InvalidInput(f"{field}: found {start}-{end}; allowed: within 0-{length}, the end after the start")
    return start, end


def _check_tokens(content: Mapping[str, Any], spans: Sequence[Span], where: str) -> None:
    """Refuse spans that cut a token: the interface cannot make them, so the offsets count something else."""
    tokens = content.get("tokens")
    if not tokens or not spans:
        return
    try:
        starts = {token["start"] for token in tokens}
        ends = {token["end"] for token in tokens}
    except (TypeError, KeyError) as error:
        raise InvalidInput(f"{where}: tokens: allowed: a list of objects with start and end") from error
    for start, end, _ in spans:
        if start not in starts or end not in ends:
            raise InvalidInput(
                f"{where}: spans: {start}-{end} cuts a token; allowed: from a token's start to a token's end"
            )


def relations_of(
    content: Mapping[str, Any], spans: Collection[Span], where: str, *, labels: Collection[str] | None = None
) -> tuple[Relation, ...]:
    """Return the relations between spans or tokens of a text, sorted, each once.

    :param spans: the spans marked in the same answer.
    :param labels: the labels that a relation may have; None for any.
    """
    found = content.get("relations")
    if found is None:
        return ()
    if not isinstance(found, list):
        raise InvalidInput(f"{where}: relations: found {type(found).__name__}; allowed: a list of relations")
    ends = _Ends(content, spans, where)
    return tuple(
        sorted({_relation(one, ends, labels, f"{where}: relations[{place}]") for place, one in enumerate(found)})
    )


def _relation(found: Any, ends: _Ends, labels: Collection[str] | None, field: str) -> Relation:
    if not isinstance(found, Mapping):
        raise InvalidInput(f"{field}: found {type(found).__name__}; allowed: an object with head, child and label")
    head, child = ends.find(found, "head", field), ends.find(found, "child", field)
    if head == child:
        raise InvalidInput(f"{field}: head and child are both {head[0]}-{head[1]}; allowed: two different ones")
    return *head, *child, label_of(found.get("label"), f"{field}.label", labels)


class _Ends:
    """What a relation may join: the marked spans and the tokens of a text."""

    def __init__(self, content: Mapping[str, Any], spans: Collection[Span], where: str) -> None:
        self._length = len(content["text"])
        self._spans = {(start, end) for start, end, _ in spans}
        self._tokens: dict[int, tuple[int, int]] = {}
        tokens = content.get("tokens") or []
        if not isinstance(tokens, list):
            raise InvalidInput(f"{where}: tokens: found {type(tokens).__name__}; allowed: a list of tokens")
        for place, token in enumerate(tokens):
            field = f"{where}: tokens[{place}]"
            bounds = _bounds(token, self._length, field)
            number = place if token.get("id") is None else whole(token["id"], f"{field}.id")
            if number in self._tokens:
                raise InvalidInput(f"{field}.id: {number} is there twice; allowed: each id once")
            self._tokens[number] = bounds
        self._bounds = self._spans | set(self._tokens.values())

    def find(self, relation: Mapping[str, Any], side: str, field: str) -> tuple[int, int]:
        """Return what a relation's head or child is: its ``…_span`` where it has one, else what holds its token."""
        span, number = relation.get(f"{side}_span"), relation.get(side)
        token = self._token(number, f"{field}.{side}") if number is not None else None
        if span is None:
            if token is None:
                raise InvalidInput(f"{field}.{side}: found nothing; allowed: the id of a token, or {side}_span")
            return self._holder(token, f"{field}.{side}")
        bounds = _bounds(span, self._length, f"{field}.{side}_span")
        if bounds not in self._bounds:
            raise InvalidInput(
                f"{field}.{side}_span: found {bounds[0]}-{bounds[1]}; allowed: a span marked in this answer, or a token"
            )
        if token is not None and not (bounds[0] <= token[0] and token[1] <= bounds[1]):
            raise InvalidInput(
                f"{field}.{side}: token {number} is {token[0]}-{token[1]}, outside its {side}_span "
                f"{bounds[0]}-{bounds[1]}; allowed: a token of the span"
            )
        return bounds

    def _token(self, number: Any, field: str) -> tuple[int, int] | None:
        known = self._tokens.get(whole(number, field))
        if known is None and self._tokens:
            raise InvalidInput(
                f"{field}: found token {number}; allowed: the id of one of the {len(self._tokens)} tokens"
            )
        return known

    def _holder(self, token: tuple[int, int], field: str) -> tuple[int, int]:
        holders = [span for span in self._spans if span[0] <= token[0] and token[1] <= span[1]]
        if len(holders) > 1:
            raise InvalidInput(f"{field}: {len(holders)} marked spans hold its token, so it can mean either")
        return holders[0] if holders else token


# Images ---------------------------------------------------------------------------------------------------------------


def image_size(content: Mapping[str, Any], where: str) -> tuple[int, int] | None:
    """Return width and height of the image in whole pixels, None where the row does not say both.

    Prodigy's page adds them with the first mark.
    """
    found = [content.get(name) for name in ("width", "height")]
    if None in found:
        return None
    for name, value in zip(("width", "height"), found, strict=True):
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or not (1 <= value < 2**31 and value % 1 == 0)
        ):
            raise InvalidInput(f"{where}: {name}: found {value!r:.60}; allowed: a whole number of pixels, from 1")
    return int(found[0]), int(found[1])  # type: ignore[arg-type]


def regions_of(content: Mapping[str, Any], where: str, *, labels: Collection[str] | None = None) -> tuple[Region, ...]:
    """Return the regions of an image, sorted by label, shape and place, each once.

    A rectangle is its upper left and lower right corner, whether it was stored as points or as ``x``, ``y``, ``width``
    and ``height``. A polygon begins at its smallest point (x first) and goes on to the smaller of the two beside it; a
    freehand shape keeps the points as drawn. Pixels are kept to six decimals.

    :param labels: the labels that are allowed; None for any.
    """
    found = content.get("spans")
    if found is None:
        return ()
    if not isinstance(found, list):
        raise InvalidInput(f"{where}: spans: found {type(found).__name__}; allowed: a list of regions")
    size = image_size(content, where)
    regions = {_region(one, size, labels, f"{where}: spans[{place}]") for place, one in enumerate(found)}
    return tuple((label, shape, _texts(points)) for label, shape, points in sorted(regions))


Point = tuple[float, float]


def _region(
    found: Any, size: tuple[int, int] | None, labels: Collection[str] | None, field: str
) -> tuple[str, str, tuple[Point, ...]]:
    if not isinstance(found, Mapping):
        raise InvalidInput(f"{field}: found {type(found).__name__}; allowed: an object with label, type and points")
    sides = [found.get(name) for name in ("x", "y", "width", "height")]
    # Rows of before 1.10 have no type.
    shape = found.get("type") or ("polygon" if None in sides else "rect")
    if shape not in SHAPES:
        raise InvalidInput(f"{field}.type: found {shape!r:.60}; allowed: {', '.join(SHAPES)}")
    drawn = None if found.get("points") is None else _points(found["points"], f"{field}.points")
    if shape == "rect":
        points = _rectangle(drawn, None if None in sides else sides, field)
    elif drawn is None or len(set(drawn)) < 3:
        raise InvalidInput(
            f"{field}.points: found {len(set(drawn or ()))} different points; allowed for a {shape}: 3 or more"
        )
    else:
        points = _outline(drawn) if shape == "polygon" else drawn
    if size is not None:
        _check_inside(points, size, field)
    return label_of(found.get("label"), f"{field}.label", labels), shape, points


def _points(found: Any, field: str) -> tuple[Point, ...]:
    if not isinstance(found, list):
        raise InvalidInput(f"{field}: found {type(found).__name__}; allowed: a list of [x, y]")
    points = []
    for place, point in enumerate(found):
        if not isinstance(point, list) or len(point) != 2:
            raise InvalidInput(f"{field}[{place}]: found {point!r:.60}; allowed: [x, y]")
        points.append((_pixel(point[0], f"{field}[{place}][0]"), _pixel(point[1], f"{field}[{place}][1]")))
    return tuple(points)


def _pixel(found: Any, field: str) -> float:
    number = _number(found, field)
    # Adding zero takes the sign from it.
    return round(number, PLACES) + 0.0


def _number(found: Any, field: str) -> float:
    try:
        return float(number_text(found))
    except InvalidInput as error:
        raise InvalidInput(f"{field}: {error}") from None


def _rectangle(drawn: tuple[Point, ...] | None, sides: list[Any] | None, field: str) -> tuple[Point, ...]:
    measured = None
    if sides is not None:
        x, y, width, height = (
            _number(value, f"{field}.{name}") for name, value in zip(("x", "y", "width", "height"), sides, strict=True)
        )
        measured = ((round(x, PLACES) + 0.0, round(y, PLACES) + 0.0), _rounded(x + width, y + height))
    if drawn:
        corners = _corners(drawn, field)
        if measured and not all(map(_near, corners, measured)):
            raise InvalidInput(
                f"{field}: its points make {_text(corners)}, its x, y, width and height {_text(measured)}; "
                "allowed: one rectangle"
            )
    elif measured:
        corners = measured
    else:
        raise InvalidInput(f"{field}: found neither points nor x, y, width and height; allowed for a rect: either")
    if not (corners[0][0] < corners[1][0] and corners[0][1] < corners[1][1]):
        raise InvalidInput(
            f"{field}: found {_text(corners)}; allowed: a rectangle that is wider and higher than nothing"
        )
    return corners


def _rounded(x: float, y: float) -> Point:
    return round(x, PLACES) + 0.0, round(y, PLACES) + 0.0


def _corners(drawn: tuple[Point, ...], field: str) -> tuple[Point, Point]:
    left, right = min(x for x, _ in drawn), max(x for x, _ in drawn)
    top, bottom = min(y for _, y in drawn), max(y for _, y in drawn)
    corners = [(left, top), (left, bottom), (right, bottom), (right, top)]
    opposite = len(drawn) == 2 and {drawn[0], drawn[1]} in ({corners[0], corners[2]}, {corners[1], corners[3]})
    if not opposite and not (
        len(drawn) in (4, 5)
        and all(any(_near(corner, point) for point in drawn) for corner in corners)
        and all(any(_near(corner, point) for corner in corners) for point in drawn)
    ):
        raise InvalidInput(f"{field}.points: found {_text(drawn)}; allowed for a rect: its corners, with upright sides")
    return corners[0], corners[2]


def _near(one: Point, other: Point) -> bool:
    return abs(one[0] - other[0]) <= SLACK and abs(one[1] - other[1]) <= SLACK


def _outline(drawn: tuple[Point, ...]) -> tuple[Point, ...]:
    """Return a polygon's points so that where and in which direction it was begun makes no difference."""
    points = [point for place, point in enumerate(drawn) if point != drawn[place - 1]]
    first = min(points)
    starts = [place for place, point in enumerate(points) if point == first]
    turned = [points[place:] + points[:place] for place in starts]
    return tuple(min(turned + [[one[0], *one[:0:-1]] for one in turned]))


def _check_inside(points: Sequence[Point], size: tuple[int, int], field: str) -> None:
    for x, y in points:
        if not (-SLACK <= x <= size[0] + SLACK and -SLACK <= y <= size[1] + SLACK):
            raise InvalidInput(
                f"{field}: found a point at {_text([(x, y)])}; allowed: within the image, {size[0]} × {size[1]} pixels"
            )


def _texts(points: Sequence[Point]) -> tuple[tuple[str, str], ...]:
    return tuple((number_text(x), number_text(y)) for x, y in points)


def _text(points: Sequence[Point]) -> str:
    return " ".join(f"({x},{y})" for x, y in _texts(points[:8]))


# Audio ----------------------------------------------------------------------------------------------------------------


def segments_of(
    content: Mapping[str, Any], where: str, *, labels: Collection[str] | None = None
) -> tuple[Segment, ...]:
    """Return the segments of a recording, sorted by time, each once. Seconds are kept as stored.

    :param labels: the labels that are allowed; None for any.
    """
    found = content.get("audio_spans")
    if found is None:
        return ()
    if not isinstance(found, list):
        raise InvalidInput(f"{where}: audio_spans: found {type(found).__name__}; allowed: a list of segments")
    segments = {_segment(one, labels, f"{where}: audio_spans[{place}]") for place, one in enumerate(found)}
    return tuple((number_text(start), number_text(end), label) for start, end, label in sorted(segments))


def _segment(found: Any, labels: Collection[str] | None, field: str) -> tuple[float, float, str]:
    if not isinstance(found, Mapping):
        raise InvalidInput(f"{field}: found {type(found).__name__}; allowed: an object with start, end and label")
    start, end = _number(found.get("start"), f"{field}.start"), _number(found.get("end"), f"{field}.end")
    if not 0 <= start < end:
        raise InvalidInput(
            f"{field}: found {number_text(start)}-{number_text(end)}; allowed: seconds from 0, the end after the start"
        )
    return start, end, label_of(found.get("label"), f"{field}.label", labels)


# All of them ----------------------------------------------------------------------------------------------------------


def label_of(found: Any, field: str, labels: Collection[str] | None = None) -> str:
    """Return a label, which must be one of ``labels`` where these are given."""
    if not isinstance(found, str) or not found:
        raise InvalidInput(f"{field}: found {found!r:.60}; allowed: a string that is not empty")
    if labels is not None and found not in labels:
        raise InvalidInput(f"{field}: found {found!r:.60}; allowed: {', '.join(labels)}")
    try:
        found.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{field}: found half of a surrogate pair; allowed: whole characters") from error
    return found


def whole(found: Any, field: str) -> int:
    """Return a whole number."""
    if isinstance(found, bool) or not isinstance(found, int):
        raise InvalidInput(f"{field}: found {found!r:.60}; allowed: a whole number")
    return found
