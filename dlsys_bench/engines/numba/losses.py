"""The cross-entropy, its gradient and the number of correct answers in one pass."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.numba.kernel import kernel
from dlsys_bench.engines.numpy import losses
from dlsys_bench.engines.numpy.memory import empty
from dlsys_bench.engines.plan import Array
from dlsys_bench.spec.losses import Loss


@kernel
def cross_entropy(
    outputs: Array, labels: NDArray[Any], values: Array, d: Array, right: NDArray[Any]
) -> None:
    """Compute the mean cross-entropy (R,) of the softmax of outputs (R, K, N) with labels (R, N),
    its gradient, and the number of samples whose largest output (the first, if equal) is at the
    label."""
    r_, k_, n_ = outputs.shape
    zero = outputs.dtype.type(0)
    share = outputs.dtype.type(1.0 / n_)
    for r in range(r_):
        value, hit = zero, 0
        for n in range(n_):
            best = 0
            for k in range(1, k_):
                if outputs[r, k, n] > outputs[r, best, n]:
                    best = k
            top, label, total = outputs[r, best, n], labels[r, n], zero
            for k in range(k_):
                d[r, k, n] = np.exp(outputs[r, k, n] - top)
                total += d[r, k, n]
            value += np.log(total) - (outputs[r, label, n] - top)
            hit += best == label
            for k in range(k_):
                d[r, k, n] = d[r, k, n] / total * share
            d[r, label, n] -= share
        values[r], right[r] = value * share, hit


def evaluate_loss(
    loss: Loss, outputs: Array, y: losses.LossTargets
) -> tuple[Array, Array, NDArray[Any] | None]:
    """Return the loss (R,), its gradient in the outputs, and the number of correct answers."""
    if loss.targets != "labels" or loss.used_options:
        return losses.evaluate_loss(loss, outputs, y)
    replicas, classes = outputs.shape[:2]
    values, right = np.empty(replicas, outputs.dtype), np.empty(replicas, np.intp)
    # The positions of sequences are further answers.
    flat = np.ascontiguousarray(outputs).reshape(replicas, classes, -1)
    d = empty(flat.shape, outputs.dtype)
    # Samples that all replicas share have one row of labels.
    labels = np.ascontiguousarray(np.broadcast_to(y, (replicas, *y.shape[1:])), np.intp)
    cross_entropy(flat, labels.reshape(replicas, -1), values, d, right)
    return values, d.reshape(outputs.shape), right
