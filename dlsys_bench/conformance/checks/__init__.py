"""The checks, a file a rung. Importing this registers them, in the order of the rungs."""

from dlsys_bench.conformance.checks import (  # noqa: I001
    shapes,
    forward,
    gradient,
    loss,
    step,
    state,
    initializer,
    schedule,
    trajectory,
    fitting,
    evaluation,
    checkpoint,
    determinism,
    distribution,
)

__all__ = [
    "checkpoint",
    "determinism",
    "distribution",
    "evaluation",
    "fitting",
    "forward",
    "gradient",
    "initializer",
    "loss",
    "schedule",
    "shapes",
    "state",
    "step",
    "trajectory",
]
