"""The checks, by rung. Importing this package registers them in the order of the rungs."""

from dlsys_bench.conformance.checks import (  # noqa: I001
    shapes,
    forward,
    gradient,
    loss,
    step,
    state,
    dropout,
    initializer,
    schedule,
    trajectory,
    order,
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
    "dropout",
    "evaluation",
    "fitting",
    "forward",
    "gradient",
    "initializer",
    "loss",
    "order",
    "schedule",
    "shapes",
    "state",
    "step",
    "trajectory",
]
