"""The work of a computation on a CPU: whether it repays the optimisation of its program."""

from __future__ import annotations

from math import prod

from dlsys_bench.spec.model import Model

FEW_PRODUCTS = 100_000_000
"""The number of products with tensors, in forward passes, up to which work is little.

A training of LeNet-5, an MLP or a small residual network on jax repays the optimisation of its
program from 2e9 products on; without it, a step takes about twice as long.
"""

FEW_UPDATES = 64
"""The number of updates up to which work is little. Benchmarks make more of them, so that they time
optimised programs."""


def is_little(model: Model, samples: int, updates: int = 0) -> bool:
    """Return True if passes over these samples, with these updates, are little work."""
    products = sum(
        prod(tensor.shape) * prod(row.output_shape[:-1])
        for row in model.table
        for tensor in model.tensors_of(row.place)
    )
    return samples * products <= FEW_PRODUCTS and updates <= FEW_UPDATES
