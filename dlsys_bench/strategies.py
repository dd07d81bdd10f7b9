"""Hypothesis strategies for networks, recipes and data, for use in other projects' tests.

Examples shrink to few, small layers.
"""

from dlsys_bench.conformance.strategies import (
    Example,
    examples,
    inputs,
    kink_distance,
    layers,
    losses,
    models,
    nonzero_weights,
    optimizers,
    recipes,
    single_layers,
    targets,
)

__all__ = [
    "Example",
    "examples",
    "inputs",
    "kink_distance",
    "layers",
    "losses",
    "models",
    "nonzero_weights",
    "optimizers",
    "recipes",
    "single_layers",
    "targets",
]
