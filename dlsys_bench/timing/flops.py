"""Floating-point operations of training, counted from the specification."""

from __future__ import annotations

import math

from dlsys_bench.spec.layers import Convolution, Dense, MultiHeadAttention
from dlsys_bench.spec.model import Model, TableRow


def multiply_adds(model: Model) -> list[int]:
    """Return the multiply-adds of one sample's forward pass for each layer.

    They are 0 for layers without a matrix product.
    """
    return [_multiply_adds(row) for row in model.table]


def _multiply_adds(row: TableRow) -> int:
    if isinstance(row.layer, Convolution):
        taken = math.prod(row.layer.window) * row.shape[-1] // row.layer.groups
        return math.prod(row.output_shape) * taken
    if isinstance(row.layer, Dense):
        return math.prod(row.output_shape) * row.shape[-1]
    if isinstance(row.layer, MultiHeadAttention):
        (positions, channels), inner = row.shape, row.layer.heads * row.layer.size(row.shape)
        length, width = row.shapes[-1]
        # Two products with kernels for each position of x and two for each of the context, the
        # scores, and the sums of the values; a causal mask does not make them fewer.
        return 2 * inner * (positions * channels + length * width + positions * length)
    return 0


def training_flops(model: Model) -> int:
    """Return the operations of training on one sample, two per multiply-add.

    Each matrix product is computed once for the outputs, once for the gradient of the kernel and,
    if its input depends on parameters, once for the gradient of the inputs. Element-wise work is
    not counted.
    """
    return sum(
        2 * count * (3 if any(model.learns[source] for source in row.sources) else 2)
        for row, count in zip(model.table, multiply_adds(model), strict=True)
    )
