"""Line charts as inline SVG: lines with bands, told apart by colour, dash and marker."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from advbench.escaping import visible

WIDTH, HEIGHT = 340, 230
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 30, 40
STYLES = 8  # as many as the style sheet has classes s0, s1, …

Point = tuple[float, float, float, float]  # x, y, lower, upper; NaN where there is no band


@dataclass(frozen=True)
class Line:
    """A named line; ``style`` numbers its colour and marker."""

    name: str
    style: int
    points: Sequence[Point]
    dashed: bool = False


@dataclass(frozen=True)
class Chart:
    """A chart, and what a screen reader is told of it.

    Attributes:
        guides: horizontal lines by name.
        heading: what tells it from its neighbours.
        ticks: of the x axis, with their labels; by default those of the points.
        y_range: the least range of the y axis.
    """

    title: str
    heading: str
    x_label: str
    y_label: str
    lines: Sequence[Line]
    guides: dict[str, float] = field(default_factory=dict)
    ticks: dict[float, str] | None = None
    y_range: tuple[float, float] = (0.0, 1.0)

    @property
    def description(self) -> str:
        """The points in words."""
        return "; ".join(
            f"{line.name}: " + ", ".join(f"{p[1]:.3g} at {p[0]:g}" for p in _finite(line.points))
            for line in self.lines
        )

    def svg(self) -> Markup:
        """The chart as an SVG element without scripts or inline styles."""
        points = [p for line in self.lines for p in _finite(line.points)]
        xs = sorted({p[0] for p in points}) or [0.0, 1.0]
        tops = [v for p in points for v in (p[1], p[3]) if math.isfinite(v)]
        lows = [v for p in points for v in (p[1], p[2]) if math.isfinite(v)]
        y_ticks = _round_ticks(
            min([self.y_range[0], *lows, *self.guides.values()]),
            max([self.y_range[1], *tops, *self.guides.values()]),
        )
        x = _Scale(xs[0], xs[-1], LEFT + 8, WIDTH - RIGHT - 8)
        y = _Scale(y_ticks[0], y_ticks[-1], HEIGHT - BOTTOM, TOP)
        parts = [
            Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
                WIDTH, HEIGHT, f"{visible(self.title)}. {visible(self.description)}"
            )
        ]
        parts.append(
            Markup('<text class="heading" x="{}" y="18">{}</text>').format(
                LEFT - 6, visible(self.heading)
            )
        )
        for value in y_ticks:
            parts.append(
                Markup('<path class="grid" d="M{} {:.1f}H{}"/>').format(
                    LEFT, y(value), WIDTH - RIGHT
                )
            )
            parts.append(_text(LEFT - 6, y(value) + 4, f"{value:g}", "end"))
        ticks = self.ticks if self.ticks is not None else {v: f"{v:g}" for v in _thinned(xs)}
        for value, label in ticks.items():
            parts.append(_text(x(value), HEIGHT - BOTTOM + 16, label, "middle"))
        parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, self.x_label, "middle"))
        parts.append(
            Markup(
                '<text transform="translate(11 {:.1f}) rotate(-90)" text-anchor="middle">{}</text>'
            ).format((TOP + HEIGHT - BOTTOM) / 2, visible(self.y_label))
        )
        for name, value in self.guides.items():
            parts.append(
                Markup('<path class="guide" d="M{} {:.1f}H{}"><title>{}</title></path>').format(
                    LEFT, y(value), WIDTH - RIGHT, visible(f"{name}: {value:.3g}")
                )
            )
            parts.append(_text(WIDTH - RIGHT, y(value) - 4, name, "end"))
        for line in self.lines:
            parts.append(_line(line, x, y))
        parts.append(Markup("</svg>"))
        return Markup("").join(parts)


def marker(style: int, x: float = 8, y: float = 8) -> Markup:
    """The marker of a style, as in a legend."""
    r = 3.6
    shapes = (
        f"M{x - r:.1f} {y:.1f}a{r} {r} 0 1 0 {2 * r} 0a{r} {r} 0 1 0 {-2 * r} 0",
        f"M{x - r:.1f} {y - r:.1f}h{2 * r}v{2 * r}h{-2 * r}z",
        f"M{x:.1f} {y - r - 1:.1f}L{x + r + 1:.1f} {y + r:.1f}H{x - r - 1:.1f}z",
        f"M{x:.1f} {y - r - 1:.1f}L{x + r + 1:.1f} {y:.1f}L{x:.1f} {y + r + 1:.1f}"
        f"L{x - r - 1:.1f} {y:.1f}z",
    )
    return Markup('<path class="dot" d="{}"/>').format(shapes[style % len(shapes)])


def legend(lines: Sequence[Line]) -> Markup:
    """The names of lines beside their markers."""
    items = [
        Markup(
            '<li class="{}"><svg viewBox="0 0 34 16" aria-hidden="true">'
            '<path class="line" d="M0 8H34"/>{}</svg><bdi>{}</bdi></li>'
        ).format(_classes(line), marker(line.style, 17), visible(line.name))
        for line in lines
    ]
    return Markup('<ul class="legend">{}</ul>').format(Markup("").join(items))


def _line(line: Line, x: _Scale, y: _Scale) -> Markup:
    points = _finite(line.points)
    banded = [p for p in points if math.isfinite(p[2]) and math.isfinite(p[3])]
    parts = []
    if len(banded) > 1:
        edge = [(p[0], p[3]) for p in banded] + [(p[0], p[2]) for p in reversed(banded)]
        path = "M" + "L".join(f"{x(a):.1f} {y(b):.1f}" for a, b in edge) + "z"
        parts.append(Markup('<path class="band" d="{}"/>').format(path))
    path = "M" + "L".join(f"{x(p[0]):.1f} {y(p[1]):.1f}" for p in points) if points else ""
    parts.append(Markup('<path class="line" d="{}"/>').format(path))
    for px, py, low, high in points:
        band = f" ({low:.3g} to {high:.3g})" if math.isfinite(low) else ""
        parts.append(
            Markup("<g>{}<title>{}</title></g>").format(
                marker(line.style, x(px), y(py)), visible(f"{line.name}: {py:.3g}{band} at {px:g}")
            )
        )
    return Markup('<g class="{}">{}</g>').format(_classes(line), Markup("").join(parts))


def _classes(line: Line) -> str:
    return f"s{line.style % STYLES}" + (" dashed" if line.dashed else "")


class _Scale:
    def __init__(self, start: float, end: float, low: float, high: float) -> None:
        self.start, self.low = start, low
        self.slope = (high - low) / (end - start) if end > start else 0.0
        self.middle = (low + high) / 2

    def __call__(self, value: float) -> float:
        return self.low + (value - self.start) * self.slope if self.slope else self.middle


def _finite(points: Sequence[Point]) -> list[Point]:
    return sorted(p for p in points if math.isfinite(p[0]) and math.isfinite(p[1]))


def _round_ticks(low: float, high: float) -> list[float]:
    """Four to eight round values that span a range."""
    span = max(high - low, 1e-9)
    unit = 10.0 ** math.floor(math.log10(span / 4))
    step = next(unit * m for m in (1, 2, 2.5, 5, 10) if span / (unit * m) <= 6)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [round(n * step, 10) for n in range(first, last + 1)]


def _thinned(values: Sequence[float]) -> Sequence[float]:
    return values if len(values) <= 8 else values[:: math.ceil(len(values) / 8)]


def _text(x: float, y: float, text: str, anchor: str) -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        x, y, anchor, visible(text)
    )
