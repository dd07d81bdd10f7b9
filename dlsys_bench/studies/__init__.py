"""Studies: groups of arms that are trained on one dataset and judged by one metric."""

from dlsys_bench.studies.base import Arm, Case, Study

__all__ = ["Arm", "Case", "Study"]
