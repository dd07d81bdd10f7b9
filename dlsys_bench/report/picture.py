"""What every picture shares: colours, width, how names are set, how a file is written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlsys_bench.errors import StoreError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe & Ito's colours, which colour-blind readers can tell apart.
BLUE, ORANGE, VERMILLION, GREEN = "#0072B2", "#E69F00", "#D55E00", "#009E73"

WIDTH = 9.0
"""Inches: 990 pixels, the width of a page."""
DPI = 110

SLANTED: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
"""How names stand under an axis where they would run into each other."""


def save(figure: Figure, path: Path) -> Path:
    """Write a PNG, whole or not at all. Errors: StoreError."""
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            figure.savefig(part, dpi=DPI, format="png")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"cannot write a picture to {path}: {error.strerror or error}") from error
    return path


def short(name: str, most: int = 16) -> str:
    """A name that fits its place: what is too long ends in an ellipsis."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def every(count: int, most: int = 25) -> int:
    """The step at which `count` names are written so that at most `most` are."""
    return -(-count // most)
