"""Elements of HTML and SVG whose text is escaped, and the scale of an axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, isfinite, log10
from typing import Any

from dlsys_bench.text import one_line

TICKS = 6
"""The number of intervals between ticks that an axis has at most."""


class Html(str):
    """Text that is HTML already: Jinja does not escape it."""

    __slots__ = ()

    def __html__(self) -> str:
        """Return the text, as Jinja asks for it."""
        return self


def tag(name: str, *content: str, **attributes: Any) -> Html:
    """Return an element. Content and values are escaped, except Html.

    A trailing underscore of an attribute is removed (`class_`), and an underscore inside is a
    hyphen (`aria_label`). Attributes that are None are omitted.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_value(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = "".join(text if isinstance(text, Html) else escape(one_line(text)) for text in content)
    return Html(f"<{name}{written}>{inner}</{name}>")


def _value(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else one_line(value)


def picture(width: float, height: float, label: str, *content: Html) -> Html:
    """Return an SVG image with a label for readers who do not see it."""
    return tag(
        "svg",
        *content,
        viewBox=f"0 0 {width:g} {height:g}",
        width=f"{width:g}",
        height=f"{height:g}",
        role="img",
        aria_label=label,
    )


@dataclass(frozen=True)
class AxisScale:
    """A linear or logarithmic map from values in `low` to `high` to pixels in `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    @classmethod
    def of(
        cls, values: Sequence[float], start: float, end: float, *, logarithmic: bool = False
    ) -> AxisScale:
        """Return a scale that holds all finite values, with a margin."""
        known = [v for v in values if isfinite(v) and (v > 0 or not logarithmic)] or [1.0]
        low, high = min(known), max(known)
        if logarithmic:
            return cls(low / 1.2, high * 1.2, start, end, True)
        margin = 0.06 * (high - low) or 0.06 * abs(high) or 1.0
        return cls(low - margin, high + margin, start, end)

    def __call__(self, value: float) -> float:
        """Return the pixel of a value; a value outside lies at the nearer end."""
        low, high, at = self.low, self.high, min(max(value, self.low), self.high)
        if self.logarithmic:
            low, high, at = log10(low), log10(high), log10(at)
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def ticks(self, least: float = 0.0) -> list[float]:
        """Return round values inside the scale, on a linear one with steps of at least `least`."""
        if self.logarithmic:
            powers = range(ceil(log10(self.low)), floor(log10(self.high)) + 1)
            several = len(powers) > 1
            steps = (1.0,) if several else (1.0, 2.0, 5.0)
            found = [s * 10.0**p for p in range(floor(log10(self.low)), 40) for s in steps]
            inside = [value for value in found if self.low <= value <= self.high]
            return inside[:: ceil(len(inside) / TICKS) or 1] if inside else [self.low]
        step = _round_step(max((self.high - self.low) / TICKS, least))
        first = ceil(self.low / step)
        return [n * step for n in range(first, floor(self.high / step) + 1)]


def _round_step(least: float) -> float:
    """Return 1, 2 or 5 times a power of ten that is not less."""
    power = 10.0 ** floor(log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def number(value: float) -> str:
    """Return the label of a tick."""
    if abs(value) >= 1e4:
        return f"{value:.0e}".replace("e+0", "e").replace("e+", "e")
    return f"{value:.4g}" if abs(value) > 1e-12 else "0"
