"""Pictures of results, as PNG: one of each kind a file, all in one table. A study names those that
show it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from dlsys_bench.notebooks.plots.activations import activations
from dlsys_bench.notebooks.plots.collapse import collapse
from dlsys_bench.notebooks.plots.draws import draws
from dlsys_bench.notebooks.plots.eggholder import eggholder
from dlsys_bench.notebooks.plots.phase_diagram import phase_diagram
from dlsys_bench.notebooks.plots.range_test import range_test
from dlsys_bench.notebooks.plots.steps import steps
from dlsys_bench.notebooks.plots.sweep import sweep
from dlsys_bench.report.plots.curves import curves
from dlsys_bench.runs.result import Result

Plot = Callable[[Sequence[Result], Path], Path]
"""The runs of one study, dataset and tier, of whichever arms, seeds and engines; where the PNG
goes, and went."""

PLOTS: dict[str, Plot] = {
    "activations": activations,
    "collapse": collapse,
    "curves": curves,
    "draws": draws,
    "eggholder": eggholder,
    "phase_diagram": phase_diagram,
    "range_test": range_test,
    "steps": steps,
    "sweep": sweep,
}

__all__ = ["PLOTS", "Plot", "curves"]
