"""The studies of the workloads, one module for each subject."""

from __future__ import annotations

from dlsys_bench.studies.base import Study
from dlsys_bench.workloads.studies import depthwise, regularizers, resnet, transformer

MODULES = (resnet, depthwise, transformer, regularizers)

STUDIES: dict[str, Study] = {study.name: study for module in MODULES for study in module.STUDIES}
"""Every study by name."""
