"""A picture of a process model with the places where one of its processes waits."""

from __future__ import annotations

import functools
import io
import textwrap
from collections.abc import Set
from dataclasses import dataclass
from typing import Any

from include.bpmn.read import BPMN, parse

__all__ = ["Line", "Shape", "draw", "lay_out"]

_DI = "http://www.omg.org/spec/BPMN/20100524/DI"
_LINES = "http://www.omg.org/spec/DD/20100524/DI"
_DC = "http://www.omg.org/spec/DD/20100524/DC"
_MARK, _LINE = "#c0392b", "#1c2430"
_SIGNS = {"parallelGateway": "+", "inclusiveGateway": "O", "exclusiveGateway": "X", "eventBasedGateway": "*"}


@dataclass(frozen=True)
class Shape:
    """An element's place; y grows downwards, as in BPMN DI."""

    id: str
    kind: str
    name: str
    x: float
    y: float
    width: float
    height: float

    @property
    def centre(self) -> tuple[float, float]:
        """Return its middle."""
        return self.x + self.width / 2, self.y + self.height / 2

    def border_towards(self, point: tuple[float, float]) -> tuple[float, float]:
        """Return where a line from its middle to a point leaves its box."""
        x, y = self.centre
        across, down = point[0] - x, point[1] - y
        reach = max(abs(across) / (self.width / 2), abs(down) / (self.height / 2))
        return (x, y) if reach == 0 else (x + across / reach, y + down / reach)


@dataclass(frozen=True)
class Line:
    """A flow's way."""

    points: tuple[tuple[float, float], ...]


@functools.lru_cache(maxsize=64)
def lay_out(xml: str, key: str) -> tuple[tuple[Shape, ...], tuple[Line, ...]]:
    """Return the shapes of a process and its flows: as the model draws them, else in columns.

    :raises InvalidInput: the model is malformed.
    """
    root = parse(xml)
    process = next(one for one in root.findall(f"{{{BPMN}}}process") if one.get("id") == key)
    nodes = {
        element.get("id"): element
        for element in process.iter(f"{{{BPMN}}}*")
        if _kind(element).endswith(("Event", "Task", "Gateway", "task", "callActivity", "subProcess"))
    }
    flows = {
        flow.get("id"): (flow.get("sourceRef"), flow.get("targetRef"))
        for flow in process.iter(f"{{{BPMN}}}sequenceFlow")
        if flow.get("sourceRef") in nodes and flow.get("targetRef") in nodes
    }
    drawn = _drawn(root)
    as_drawn = set(nodes) <= set(drawn)
    places = drawn if as_drawn else _columns(nodes, list(flows.values()))
    shapes = {
        name: Shape(name, _kind(element), element.get("name") or name, *places[name]) for name, element in nodes.items()
    }
    ways = _ways(root) if as_drawn else {}
    lines = tuple(
        Line(ways.get(name) or (shapes[a].border_towards(shapes[b].centre), shapes[b].border_towards(shapes[a].centre)))
        for name, (a, b) in flows.items()
    )
    return tuple(shapes.values()), lines


def _ways(root: Any) -> dict[str, tuple[tuple[float, float], ...]]:
    return {
        edge.get("bpmnElement"): tuple(
            (float(point.get("x", "0")), float(point.get("y", "0"))) for point in edge.findall(f"{{{_LINES}}}waypoint")
        )
        for edge in root.iter(f"{{{_DI}}}BPMNEdge")
    }


def _kind(element: Any) -> str:
    return str(element.tag).rpartition("}")[2]


def _drawn(root: Any) -> dict[str, tuple[float, float, float, float]]:
    places = {}
    for shape in root.iter(f"{{{_DI}}}BPMNShape"):
        bounds = shape.find(f"{{{_DC}}}Bounds")
        if bounds is not None:
            x, y, width, height = (float(bounds.get(name, "0")) for name in ("x", "y", "width", "height"))
            places[shape.get("bpmnElement")] = (x, y, width, height)
    return places


def _columns(nodes: dict[str, Any], flows: list[tuple[str, str]]) -> dict[str, tuple[float, float, float, float]]:
    """Put every element one column right of the first that leads to it, and border events on their task's border."""
    edges = [*flows, *((node.get("attachedToRef"), name) for name, node in nodes.items() if node.get("attachedToRef"))]
    for name, node in nodes.items():
        holder = node.getparent().get("id")
        if holder in nodes and _kind(node) == "startEvent":
            edges.append((holder, name))
    column: dict[str, int] = {}
    front = [name for name in nodes if not any(target == name for _, target in edges)] or list(nodes)[:1]
    depth = 0
    while front:
        for name in front:
            column.setdefault(name, depth)
        reached = {target for source, target in edges if source in front}
        front = [name for name in nodes if name in reached and name not in column]
        depth += 1
    used: dict[int, int] = {}
    places = {}
    for name, node in nodes.items():
        if node.get("attachedToRef") in nodes:
            continue
        at = column.get(name, depth)
        row = used[at] = used.get(at, -1) + 1
        width, height = _size(_kind(node))
        places[name] = (at * 150 + (110 - width) / 2, row * 100 + (60 - height) / 2, width, height)
    on_border: dict[str, int] = {}
    for name, node in nodes.items():
        holder = node.get("attachedToRef")
        if holder in nodes:
            number = on_border[holder] = on_border.get(holder, -1) + 1
            x, y, _, height = places[holder]
            places[name] = (x + 6 + 36 * number, y + height - 14, 28.0, 28.0)
    return places


def _size(kind: str) -> tuple[float, float]:
    if kind.endswith("Event"):
        return 34.0, 34.0
    return (44.0, 44.0) if kind.endswith("Gateway") else (110.0, 60.0)


def draw(xml: str, key: str, marked: Set[str] = frozenset()) -> bytes:
    """Return a PNG of a process, with the marked elements in red.

    :raises InvalidInput: the model is malformed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shapes, flows = lay_out(xml, key)
    corners = [(shape.x, shape.y) for shape in shapes]
    corners += [(shape.x + shape.width, shape.y + shape.height) for shape in shapes]
    corners += [point for line in flows for point in line.points]
    left, right = min(x for x, _ in corners) - 30, max(x for x, _ in corners) + 30
    top, bottom = min(y for _, y in corners) - 30, max(y for _, y in corners) + 50
    figure = Figure(figsize=((right - left) / 80, (bottom - top) / 80), dpi=80)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    axes.set_axis_off()
    for line in flows:
        for start, end in zip(line.points, line.points[1:], strict=False):
            last = end == line.points[-1]
            arrow = {"arrowstyle": "-|>" if last else "-", "color": "#667085", "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", xy=end, xytext=start, arrowprops=arrow, zorder=4)
    # The large first, so that what is inside a sub-process shows.
    for shape in sorted(shapes, key=lambda one: -one.width * one.height):
        _draw_shape(axes, shape, _MARK if shape.id in marked else _LINE)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Title": key})
    return buffer.getvalue()


def _draw_shape(axes: Any, shape: Shape, colour: str) -> None:
    from matplotlib.patches import Circle, FancyBboxPatch, Polygon

    width = 3.0 if colour == _MARK else (2.5 if shape.kind == "endEvent" else 1.2)
    x, y = shape.centre
    style: dict[str, Any] = {
        "facecolor": "#fbe5e3" if colour == _MARK else "white",
        "edgecolor": colour,
        "linewidth": width,
    }
    below = y + shape.height / 2 + 12
    if shape.kind.endswith("Event"):
        axes.add_patch(Circle((x, y), shape.width / 2, zorder=3, **style))
        _write(axes, x, below, shape.name, colour)
    elif shape.kind.endswith("Gateway"):
        half = shape.width / 2
        corners = [(x, y - half), (x + half, y), (x, y + half), (x - half, y)]
        axes.add_patch(Polygon(corners, zorder=2, **style))
        axes.text(x, y, _SIGNS.get(shape.kind, ""), ha="center", va="center", zorder=4, color=colour)
        _write(axes, x, below, shape.name, colour)
    else:
        box = FancyBboxPatch(
            (shape.x, shape.y), shape.width, shape.height, boxstyle="round,pad=0,rounding_size=8", zorder=2, **style
        )
        axes.add_patch(box)
        _write(axes, x, y, shape.name, colour)


def _write(axes: Any, x: float, y: float, text: str, colour: str) -> None:
    axes.text(x, y, "\n".join(textwrap.wrap(text, 16)), ha="center", va="center", fontsize=7, zorder=5, color=colour)
