"""Strips: one line of a table as a picture, with a dot for each run, all lines on one scale."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite

from dlsys_bench.report.html.svg import AxisScale, Html, number, picture, tag

WIDTH, HEIGHT, MARGIN = 230, 22, 10


@dataclass(frozen=True)
class Strip:
    """What a line shows: a dot for each run, an interval, a band of reference runs, marks.

    `dots` are labels with values; a value that is not finite, of a run that diverged, is a cross at
    the end. `band` and `interval` are ends, and `marks` published figures.
    """

    label: str
    dots: Sequence[tuple[str, float]] = ()
    interval: tuple[float, float] | None = None
    band: tuple[float, float] | None = None
    marks: Sequence[tuple[str, float]] = ()

    @property
    def values(self) -> list[float]:
        """Every value that the scale has to hold."""
        pairs = (*(self.interval or ()), *(self.band or ()))
        return [*pairs, *(value for _, value in (*self.dots, *self.marks))]


def scale_of(strips: Iterable[Strip], also: Sequence[float] = ()) -> AxisScale:
    """Return the scale of all strips of a column."""
    values = [value for strip in strips for value in strip.values]
    return AxisScale.of([*values, *also], MARGIN, WIDTH - MARGIN)


def draw(strip: Strip, scale: AxisScale, guides: Sequence[float] = ()) -> Html:
    """Draw a strip. `guides` are values with a vertical line, such as no difference."""
    middle = HEIGHT / 2
    parts = [_line(scale(value), 1, scale(value), HEIGHT - 1, "guide") for value in guides]
    if strip.band:
        low, high = map(scale, strip.band)
        size = max(high - low, 2.0)
        parts.append(tag("rect", x=low, y=3, width=size, height=HEIGHT - 6, class_="band"))
    if strip.interval:
        low, high = map(scale, strip.interval)
        parts.append(_line(low, middle, high, middle, "interval"))
    for label, value in strip.dots:
        parts.append(_dot(label, value, scale, middle))
    for label, value in strip.marks:
        x = scale(value)
        points = f"{x:.5g},3 {x + 5:.5g},{middle:g} {x:.5g},{HEIGHT - 3} {x - 5:.5g},{middle:g}"
        parts.append(
            tag("polygon", tag("title", f"{label}: {value:.5g}"), points=points, class_="mark")
        )
    return picture(WIDTH, HEIGHT, strip.label, *parts)


def axis(scale: AxisScale) -> Html:
    """Draw the ticks of a column of strips."""
    parts = []
    for value in scale.ticks():
        parts.append(_line(scale(value), 14, scale(value), 18, "tick"))
        parts.append(
            tag("text", number(value), x=scale(value), y=11, class_="label", text_anchor="middle")
        )
    label = f"scale from {number(scale.low)} to {number(scale.high)}"
    return picture(WIDTH, 18, label, *parts)


def _dot(label: str, value: float, scale: AxisScale, y: float) -> Html:
    title = tag("title", f"{label}: {value:.5g}")
    if not isfinite(value):
        x = scale.start if value == float("-inf") else scale.end
        path = f"M{x - 3:.5g},{y - 3:g}l6,6m0,-6l-6,6"
        return tag("path", tag("title", f"{label}: diverged"), d=path, class_="lost")
    return tag("circle", title, cx=scale(value), cy=y, r=3, class_="dot")


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Html:
    return tag("line", x1=x1, y1=float(y1), x2=x2, y2=float(y2), class_=kind)
