"""Floating-point operations of training, counted from the specification."""

from __future__ import annotations

import math

from dlsys_bench.spec.layers import Conv2D, Dense
from dlsys_bench.spec.model import Model


def multiply_adds(model: Model) -> list[int]:
    """Return the multiply-adds of one sample's forward pass for each layer.

    They are 0 for layers without a matrix product.
    """
    found = []
    for layer, shape, output in zip(model.layers, model.shapes, model.shapes[1:], strict=False):
        if isinstance(layer, Conv2D):
            found.append(math.prod(output) * math.prod(layer.kernel_size) * shape[-1])
        elif isinstance(layer, Dense):
            found.append(shape[0] * layer.units)
        else:
            found.append(0)
    return found


def training_flops(model: Model) -> int:
    """Return the operations of training on one sample, two per multiply-add.

    Each matrix product is computed once for the outputs, once for the gradient of the kernel and,
    if a layer below has parameters, once for the gradient of the inputs. Element-wise work is not
    counted.
    """
    total, trainable_below = 0, False
    for position, count in enumerate(multiply_adds(model)):
        total += 2 * count * (3 if trainable_below else 2)
        tensors = model.tensors_of(position)
        trainable_below = trainable_below or any(tensor.trainable for tensor in tensors)
    return total
