"""The plots of results by name: those of the report, and those that installed packages register."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from dlsys_bench.entry_points import collect
from dlsys_bench.report.plots.curves import curves
from dlsys_bench.report.plots.seeds import seeds_of_training
from dlsys_bench.runs.result import Result

Plot = Callable[[Sequence[Result], Path], Path]
"""Draws the runs of one study, dataset and tier, of any arms, seeds and engines, as a PNG file at a
path, and returns the path."""

DEFAULT = "curves"
"""The plot of a study that is not registered."""

TRAINING = "seeds"
"""The plot of a user's own training."""


@cache
def plots() -> dict[str, Plot]:
    """The plots by name, with the mappings of the entry points of `dlsys_bench.plots`."""
    return collect("dlsys_bench.plots", {DEFAULT: curves, TRAINING: seeds_of_training}, Callable)
