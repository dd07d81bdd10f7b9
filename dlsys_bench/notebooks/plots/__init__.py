"""The plots that the studies of the notebooks name."""

from __future__ import annotations

from dlsys_bench.notebooks.plots.activations import activations
from dlsys_bench.notebooks.plots.collapse import collapse
from dlsys_bench.notebooks.plots.draws import draws
from dlsys_bench.notebooks.plots.eggholder import eggholder
from dlsys_bench.notebooks.plots.phase_diagram import phase_diagram
from dlsys_bench.notebooks.plots.range_test import range_test
from dlsys_bench.notebooks.plots.steps import steps
from dlsys_bench.notebooks.plots.sweep import sweep
from dlsys_bench.report.plots.table import Plot

PLOTS: dict[str, Plot] = {
    "activations": activations,
    "collapse": collapse,
    "draws": draws,
    "eggholder": eggholder,
    "phase_diagram": phase_diagram,
    "range_test": range_test,
    "steps": steps,
    "sweep": sweep,
}
"""Every plot by name."""
