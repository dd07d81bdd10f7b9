"""The cross-entropy, its gradient and the number of correct answers. The numpy engine documents the
computation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.numba.kernel import kernel
from dlsys_bench.engines.numba.program.functions import exp
from dlsys_bench.engines.numba.program.lanes import LANES, choose, fill, load, store
from dlsys_bench.engines.numba.vectors import padded
from dlsys_bench.engines.numpy import losses
from dlsys_bench.engines.numpy.memory import empty
from dlsys_bench.engines.plan import Array
from dlsys_bench.engines.targets import kept_answers
from dlsys_bench.spec.losses import CrossEntropy, Loss

KeptLabels = tuple[NDArray[np.intp], NDArray[np.bool_]]
"""The labels of answers, and which of them count."""


@kernel
def exponentials(outputs: Array, d: Array, logs: Array, shares: Array) -> None:
    """Compute the exponentials of outputs (K, N) less the largest of each answer, as d, the
    logarithm of the sum of those of the outputs, and one divided by the sum of d."""
    (k_, n_), flat, out = outputs.shape, outputs.reshape(-1), d.reshape(-1)
    one = outputs.dtype.type(1)
    for at in range(0, n_, LANES):
        top = load(flat, at)
        for k in range(1, k_):
            value = load(flat, k * n_ + at)
            top = choose(value - top, value, top)
        total = fill(outputs.dtype.type(0))
        for k in range(k_):
            value = exp(load(flat, k * n_ + at) - top)
            store(out, k * n_ + at, value)
            total = total + value
        store(logs, at, top)
        store(shares, at, total)
    for n in range(n_):
        logs[n] += np.log(shares[n])
        shares[n] = one / shares[n]


@kernel
def cross_entropy(
    outputs: Array, answers: KeptLabels, weights: Array, smoothing: float, divisor: float, d: Array
) -> Any:
    """Return the cross-entropy of the softmax of outputs (K, N) divided by a divisor, and the
    number of answers whose largest output (the first, if equal) is at the label. Compute the
    gradient d.

    The weights (2, K) are those of an answer by its label, and those of the targets by their class.
    """
    ((k_, n_), (labels, kept)), (of_label, of_class) = (outputs.shape, answers), weights
    zero, one = outputs.dtype.type(0), outputs.dtype.type(1)
    share, each = one / outputs.dtype.type(divisor), outputs.dtype.type(smoothing / k_)
    rest = outputs.dtype.type(1.0 - smoothing)
    logs, shares, spread = np.empty((3, n_), outputs.dtype)
    exponentials(outputs, d, logs, shares)
    value, right, every = zero, 0, each * of_class.sum()
    for n in range(labels.size):
        label = labels[n]
        own = outputs[label, n]
        factor = share * of_label[label] if kept[n] else zero
        loss, better = rest * of_class[label] * (logs[n] - own), 0
        for k in range(k_):
            loss += each * of_class[k] * (logs[n] - outputs[k, n])
            better += outputs[k, n] > own or (outputs[k, n] == own and k < label)
        value += factor * loss
        right += kept[n] and better == 0 and own == own
        shares[n] *= factor * (every + rest * of_class[label])
        spread[n] = factor
    for k in range(k_):
        row, part = d[k], each * of_class[k]
        for n in range(labels.size):
            row[n] = row[n] * shares[n] - part * spread[n]
    for n in range(labels.size):
        d[labels[n], n] -= spread[n] * rest * of_class[labels[n]]
    return value, right


@kernel
def cross_entropies(
    outputs: Array, answers: KeptLabels, weights: Array, smoothing: float, results: Any
) -> None:
    """Compute the cross-entropies of replicas (R, K, N), whose answers (1 or R, N) may be shared.

    The results are the divisors, which are overwritten with the values, the numbers of right
    answers, and the gradient.
    """
    (labels, kept), (values, right, d) = answers, results
    for r in range(outputs.shape[0]):
        own = labels[r % labels.shape[0]], kept[r % labels.shape[0]]
        values[r], right[r] = cross_entropy(outputs[r], own, weights, smoothing, values[r], d[r])


def evaluate_loss(
    loss: Loss, outputs: Array, y: losses.LossTargets
) -> tuple[Array, Array, NDArray[Any] | None]:
    """Return the loss (R,), its gradient in the outputs, and the number of correct answers."""
    if not isinstance(loss, CrossEntropy):
        return losses.evaluate_loss(loss, outputs, y)
    replicas, classes = outputs.shape[:2]
    # The positions of sequences are further answers.
    flat = padded(empty, outputs.reshape(replicas, classes, -1))
    kept = kept_answers(loss, y).reshape(len(y), -1)
    labels = np.where(kept, y.reshape(kept.shape), 0).astype(np.intp, copy=False)
    values, right = np.full(replicas, float(kept.shape[1])), np.empty(replicas, np.intp)
    if loss.is_weighted:
        values[:] = losses.total_weight(loss, y)
        values[values == 0] = 1
    weights = np.ones((2, classes), outputs.dtype)
    if loss.class_weights is not None:
        weights[int(loss.weighting == "classes")] = loss.class_weights
    d = empty(flat.shape, outputs.dtype)
    cross_entropies(flat, (labels, kept), weights, loss.label_smoothing, (values, right, d))
    d = np.ascontiguousarray(d[..., : kept.shape[1]]).reshape(outputs.shape)
    return values.astype(outputs.dtype), d, right
