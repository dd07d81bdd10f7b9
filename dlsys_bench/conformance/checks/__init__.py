"""The checks. Importing this package registers them and orders them by rung."""

from dlsys_bench.conformance.check import sort_by_rung  # noqa: I001
from dlsys_bench.conformance.checks import (
    shapes,
    forward,
    gradient,
    sizes,
    loss,
    step,
    state,
    dropout,
    initializer,
    schedule,
    trajectory,
    order,
    fitting,
    refitting,
    evaluation,
    large_trainings,
    reports,
    degenerate,
    layouts,
    checkpoint,
    determinism,
    distribution,
)

sort_by_rung()

__all__ = [
    "checkpoint",
    "degenerate",
    "determinism",
    "distribution",
    "dropout",
    "evaluation",
    "fitting",
    "forward",
    "gradient",
    "initializer",
    "large_trainings",
    "layouts",
    "loss",
    "order",
    "refitting",
    "reports",
    "schedule",
    "shapes",
    "sizes",
    "state",
    "step",
    "trajectory",
]
