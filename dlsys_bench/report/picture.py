"""The common style of the plots: colours, sizes and labels, and how a plot is written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlsys_bench.errors import StoreError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The colours of Okabe & Ito, which colour-blind readers can distinguish.
BLUE, ORANGE, VERMILLION, GREEN = "#0072B2", "#E69F00", "#D55E00", "#009E73"

WIDTH = 9.0
"""The width of a plot in inches: 990 pixels, the width of a page."""
DPI = 110

SLANTED: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
"""The style of tick labels that would overlap if they were horizontal."""


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as a PNG, atomically. Raises StoreError if that fails."""
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            figure.savefig(part, dpi=DPI, format="png")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"cannot write a plot to {path}: {error.strerror or error}") from error
    return path


def shorten(name: str, most: int = 16) -> str:
    """Return the name, cut to at most `most` characters with an ellipsis at the end."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def label_step(count: int, most: int = 25) -> int:
    """Return the step at which to show `count` labels so that at most `most` are shown."""
    return -(-count // most)
