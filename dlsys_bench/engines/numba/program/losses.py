"""The losses of some samples of a batch, with the gradient in the outputs (N, K)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.numba.kernel import inner_kernel
from dlsys_bench.engines.numba.program.tables import CROSS_ENTROPY, SQUARED_ERROR
from dlsys_bench.engines.plan import Array


@inner_kernel
def cross_entropy(
    outputs: Array, labels: NDArray[Any], chosen: NDArray[np.intp], share: float, d: Array
) -> tuple[Any, int]:
    """Return the sum of -log softmax(outputs)[label], and the number of samples whose largest
    output (the first, if equal) is at the label. `share` is the weight of a sample in d."""
    zero, times = outputs.dtype.type(0), outputs.dtype.type(share)
    total, right = zero, 0
    for n in range(len(outputs)):
        row, out = outputs[n], d[n]
        best, label = 0, labels[chosen[n]]
        for k in range(1, row.size):
            if row[k] > row[best]:
                best = k
        norm = zero
        for k in range(row.size):
            out[k] = np.exp(row[k] - row[best])
            norm += out[k]
        total += np.log(norm) - (row[label] - row[best])
        right += best == label
        for k in range(row.size):
            out[k] = out[k] / norm * times
        out[label] -= times
    return total, right


@inner_kernel
def squared_error(
    outputs: Array, targets: Array, chosen: NDArray[np.intp], share: float, d: Array
) -> Any:
    """Return the sum of (y - t)^2. `share` is the weight of a sample in d, which is the gradient of
    half of the sum."""
    times = outputs.dtype.type(share)
    total = outputs.dtype.type(0)
    for n in range(len(outputs)):
        answers = targets[chosen[n]]
        for k in range(outputs.shape[1]):
            far = outputs[n, k] - answers[k]
            total += far * far
            d[n, k] = far * times
    return total


@inner_kernel
def factors(kind: int, samples: int, outputs: int) -> tuple[float, float]:
    """Return the weight of the squared errors in the loss, and of their gradient."""
    if kind == SQUARED_ERROR:
        return 1.0 / (samples * outputs), 2.0 / (samples * outputs)
    return 0.5 / samples, 1.0 / samples


@inner_kernel
def evaluate(
    kind: int,
    outputs: Array,
    targets: tuple[NDArray[Any], Array],
    chosen: NDArray[np.intp],
    samples: int,
    d: Array,
) -> tuple[float, float]:
    """Return the part of the loss of the chosen samples of a batch of `samples`, and the number of
    correct answers.

    The targets are labels (S,) and values (S, K), of which the loss uses one.
    """
    labels, values = targets
    if kind == CROSS_ENTROPY:
        total, right = cross_entropy(outputs, labels, chosen, 1.0 / samples, d)
        return total / samples, float(right)
    of_loss, of_gradient = factors(kind, samples, outputs.shape[1])
    return squared_error(outputs, values, chosen, of_gradient, d) * of_loss, 0.0
