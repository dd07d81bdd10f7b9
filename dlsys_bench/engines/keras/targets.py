"""The targets in the form of Keras's losses."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.targets import kept_answers
from dlsys_bench.spec import losses
from dlsys_bench.spec.layers import Shape


def targets_of(loss: losses.Loss, y: NDArray[Any], output: Shape, dtype: str) -> NDArray[Any]:
    """Return y in the form of Keras's loss, for outputs of a shape without the batch: one-hot (N,
    ..., K), where an ignored label is a row of zeros, labels (N, ...), or targets of the shape of
    the outputs."""
    if isinstance(loss, losses.CategoricalCrossEntropy):
        kept = kept_answers(loss, y)
        one_hot: NDArray[Any] = np.eye(output[-1], dtype=dtype)[np.where(kept, y, 0)]
        one_hot[~kept] = 0
        return one_hot
    if loss.targets == "labels":
        return np.asarray(y, "int32")
    return np.asarray(y.reshape(-1, *output), dtype)
