"""Floating-point operations of training, counted from the specification."""

from __future__ import annotations

import math

from dlsys_bench.spec.layers import Conv2D, Dense
from dlsys_bench.spec.model import Model


def products(model: Model) -> list[int]:
    """Multiply-adds of one sample's forward pass, layer by layer; of layers that are no matrix
    product 0."""
    found = []
    for layer, shape, outcome in zip(model.layers, model.shapes, model.shapes[1:], strict=False):
        if isinstance(layer, Conv2D):
            found.append(math.prod(outcome) * math.prod(layer.kernel_size) * shape[-1])
        elif isinstance(layer, Dense):
            found.append(shape[0] * layer.units)
        else:
            found.append(0)
    return found


def training_flops(model: Model) -> int:
    """Operations of one sample in training, two a multiply-add: the outputs, the kernels'
    gradients, and the inputs' gradients where a layer below has something to learn. Element-wise
    work is not counted."""
    total, learned_below = 0, False
    for place, count in enumerate(products(model)):
        total += 2 * count * (3 if learned_below else 2)
        learned_below = learned_below or any(tensor.trainable for tensor in model.tensors_of(place))
    return total
