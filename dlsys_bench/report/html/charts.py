"""Line charts of small size, of which a page shows several side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from dlsys_bench.report.html.svg import AxisScale, Html, number, picture, tag

WIDTH, HEIGHT = 320, 210
LEFT, RIGHT, TOP, BOTTOM = 48, 308, 12, 172
LABELS, CHARACTER = 24, 7.5
"""The pixels left of the labels of the y axis, and the width of a digit of these labels."""
SERIES = 8
"""The number of styles of lines, which the style sheet defines; they repeat."""


@dataclass(frozen=True)
class Line:
    """A series: its name, points, and for each point the ends of a range, if there is one."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclass(frozen=True)
class Axes:
    """The labels of the axes, which of them are logarithmic, and the limits of y, if fixed.

    The ticks of x are whole numbers if it is `whole`.
    """

    x: str
    y: str
    log_x: bool = False
    log_y: bool = False
    limits: tuple[float, float] | None = None
    whole: bool = False


def chart(label: str, lines: Sequence[Line], axes: Axes, styles: Sequence[str]) -> Html:
    """Draw lines. `styles` are the names of all series of the page's part, in order, so that a
    series has the same colour and dashes in each chart."""
    xs = [value for line in lines for value in line.x]
    ys = [v for line in lines for v in (*line.y, *line.low, *line.high)]
    y = AxisScale.of(ys, BOTTOM, TOP, logarithmic=axes.log_y)
    if axes.limits:
        y = AxisScale(*axes.limits, BOTTOM, TOP, axes.log_y)
    longest = max((len(number(value)) for value in y.ticks()), default=0)
    left = max(LEFT, LABELS + CHARACTER * longest)
    x = AxisScale.of(xs, left, RIGHT, logarithmic=axes.log_x)
    parts = [*_grid(x, y, axes)]
    for line in lines:
        style = f"s{styles.index(line.name) % SERIES}"
        parts += _draw(line, x, y, style)
    return picture(WIDTH, HEIGHT, label, *parts)


def legend(styles: Sequence[str]) -> Html:
    """Return the names of the series beside samples of their lines."""
    items = [
        tag(
            "li",
            tag(
                "svg",
                tag("line", x1=0, y1=6, x2=28, y2=6, class_=f"line s{at % SERIES}"),
                viewBox="0 0 28 12",
                width=28,
                height=12,
                aria_hidden="true",
            ),
            tag("span", name),
        )
        for at, name in enumerate(styles)
    ]
    return tag("ul", *items, class_="legend")


def _draw(line: Line, x: AxisScale, y: AxisScale, style: str) -> list[Html]:
    # A value outside of fixed limits would be drawn at the edge, which it does not have.
    def inside(value: float) -> bool:
        return isfinite(value) and y.low <= value <= y.high

    parts = []
    if len(line.low) > 1:
        ranges = [
            (x(a), y(low), y(high))
            for a, low, high in zip(line.x, line.low, line.high, strict=True)
            if isfinite(low) and isfinite(high) and low <= y.high and high >= y.low
        ]
        upper = [(a, high) for a, _, high in ranges]
        points = _points([*upper, *((a, low) for a, low, _ in reversed(ranges))])
        parts.append(tag("polygon", points=points, class_=f"range {style}"))
    known = [(x(a), y(b)) for a, b in zip(line.x, line.y, strict=True) if inside(b)]
    if len(known) > 1:
        parts.append(tag("polyline", points=_points(known), class_=f"line {style}"))
    if len(known) <= 12:
        parts += [tag("circle", cx=a, cy=b, r=2.5, class_=f"point {style}") for a, b in known]
    return parts


def _points(pairs: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{a:.4g},{b:.4g}" for a, b in pairs)


def _grid(x: AxisScale, y: AxisScale, axes: Axes) -> list[Html]:
    parts = []
    for value in y.ticks():
        at = y(value)
        parts.append(tag("line", x1=x.start, y1=at, x2=RIGHT, y2=at, class_="grid"))
        parts.append(_text(number(value), x.start - 5, at + 4, "end"))
    for value in x.ticks(1.0 if axes.whole else 0.0):
        at = x(value)
        parts.append(tag("line", x1=at, y1=BOTTOM, x2=at, y2=BOTTOM + 4, class_="tick"))
        parts.append(_text(number(value), at, BOTTOM + 16, "middle"))
    parts.append(tag("line", x1=x.start, y1=BOTTOM, x2=RIGHT, y2=BOTTOM, class_="tick"))
    parts.append(_text(axes.x, (x.start + RIGHT) / 2, BOTTOM + 33, "middle"))
    parts.append(
        tag(
            "text",
            axes.y,
            transform=f"translate(11,{(TOP + BOTTOM) / 2:g}) rotate(-90)",
            text_anchor="middle",
            class_="label",
        )
    )
    return parts


def _text(text: str, x: float, y: float, anchor: str) -> Html:
    return tag("text", text, x=float(x), y=float(y), text_anchor=anchor, class_="label")
