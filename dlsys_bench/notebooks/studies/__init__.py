"""The studies of the notebooks, one module for each subject."""

from __future__ import annotations

from dlsys_bench.notebooks.studies import (
    dying_relu,
    eggholder,
    initialization,
    parameters,
    perceptron,
    phase_diagram,
    policies,
    regularization,
)
from dlsys_bench.studies.base import Study

MODULES = (
    regularization,
    parameters,
    perceptron,
    initialization,
    dying_relu,
    phase_diagram,
    policies,
    eggholder,
)

STUDIES: dict[str, Study] = {study.name: study for module in MODULES for study in module.STUDIES}
"""Every study by name."""
