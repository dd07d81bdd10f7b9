"""The loss, its gradient and how many are right, in one pass where there are classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.numba import kernels
from dlsys_bench.engines.numpy import losses
from dlsys_bench.plan import Array
from dlsys_bench.spec.losses import Loss


def judge(loss: Loss, outputs: Array, y: losses.Targets) -> tuple[Array, Array, NDArray[Any] | None]:
    """The loss (R,), its gradient in the outputs (R, K, N), how many each replica has right."""
    if loss.targets != "labels":
        return losses.judge(loss, outputs, y)
    replicas = len(outputs)
    values, right = np.empty(replicas, outputs.dtype), np.empty(replicas, np.intp)
    d = np.empty_like(outputs)
    # Samples that replicas share come with one row of labels.
    labels = np.ascontiguousarray(y if len(y) == replicas else np.broadcast_to(y, (replicas, y.shape[-1])), np.intp)
    kernels.cross_entropy(outputs, labels, values, d, right)
    return values, d, right
