"""The targets of a loss: their form, and the weights of the answers that they ask for.

An answer is what one target asks for: one of each sample, or one of each position of a sequence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.errors import DataError
from dlsys_bench.spec.layers import Shape
from dlsys_bench.spec.losses import CrossEntropy, Loss


def check_targets(loss: Loss, y: NDArray[Any], output: Shape, name: str = "y") -> None:
    """Raise DataError unless y has the form that the loss takes for outputs of this shape (without
    the batch axis). The message calls it by `name`."""
    if isinstance(loss, CrossEntropy):
        _check_labels(loss, y, output, name)
    elif loss.targets == "signs":
        if y.ndim != 1 or not np.isin(y, (-1, 1)).all() or output != (1,):
            raise DataError(
                f"{loss.kind} takes {name} (N,) of -1 and +1 and a network of one output, "
                f"not {name} {y.shape} and {output}"
            )
    elif y.shape[1:] != output and not (loss.targets == "binary" and (y.ndim, output) == (1, (1,))):
        expected = ", ".join(map(str, output))
        raise DataError(
            f"{loss.kind} takes {name} of the outputs' shape (N, {expected}), but it is {y.shape}"
        )
    elif loss.targets == "binary" and not np.isin(y, (0, 1)).all():
        wrong = y[~np.isin(y, (0, 1))].flat[0]
        raise DataError(f"{loss.kind} takes {name} of 0 and 1, but it has {wrong}")


def _check_labels(loss: CrossEntropy, y: NDArray[Any], output: Shape, name: str) -> None:
    if len(output) not in (1, 2):
        raise DataError(
            f"{loss.kind} takes outputs (N, classes) or (N, positions, classes), but the network "
            f"gives {output}: the last layer must be a Dense layer"
        )
    classes, shape = output[-1], "".join(f", {size}" for size in output[:-1]) or ","
    if y.shape[1:] != output[:-1] or y.dtype.kind not in "iu":
        raise DataError(
            f"{loss.kind} takes labels (N{shape}) of whole numbers, but {name} is "
            f"{y.dtype} {y.shape}"
        )
    if loss.class_weights is not None and len(loss.class_weights) != classes:
        raise DataError(
            f"{loss.kind} has {len(loss.class_weights)} class weights, but the network has "
            f"{classes} outputs: expected one for each"
        )
    wrong = np.argwhere(((y < 0) | (y >= classes)) & kept_answers(loss, y))
    if wrong.size:
        place = tuple(wrong[0].tolist())
        raise DataError(
            f"{name}[{', '.join(map(str, place))}] is {y[place]}, but the network has {classes} "
            f"outputs: labels are 0 to {classes - 1}"
        )


def kept_answers(loss: CrossEntropy, y: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where labels, of any shape, are not ignored."""
    if loss.ignored_label is None:
        return np.ones(y.shape, bool)
    kept: NDArray[np.bool_] = y != loss.ignored_label
    return kept


def answer_weights(loss: CrossEntropy, y: NDArray[Any]) -> NDArray[np.float64]:
    """Return what each answer adds to the divisor of the mean, in the shape of the labels y."""
    kept = kept_answers(loss, y)
    if loss.class_weights is None or loss.weighting == "samples":
        return kept.astype(np.float64)
    return np.where(kept, np.array(loss.class_weights, np.float64)[np.where(kept, y, 0)], 0.0)


def answers_per_sample(loss: Loss, output: Shape) -> int:
    """Return the number of answers of a sample, for outputs of this shape, if all are kept."""
    return math.prod({"labels": output[:-1], "binary": output}.get(loss.targets, ()))


class AnswerWeights(NamedTuple):
    """The sums over the answers of each sample, (1 or R, N): their weights in the mean, and the
    number of those that are kept."""

    weights: NDArray[np.float64]
    kept: NDArray[np.int64]

    @classmethod
    def of(cls, loss: Loss, y: NDArray[Any] | None, shared: bool = True) -> AnswerWeights | None:
        """Return the weights of targets (N, ...), or (R, N, ...) unless `shared`; None if all
        answers weigh the same, or if the targets are not known."""
        if not isinstance(loss, CrossEntropy) or not loss.is_weighted or y is None:
            return None
        every = y[None] if shared else y
        over = tuple(range(2, every.ndim))
        kept: NDArray[np.int64] = kept_answers(loss, every).sum(axis=over, dtype=np.int64)
        return cls(answer_weights(loss, every).sum(axis=over), kept)

    def by_batch(self, order: NDArray[np.intp] | None, sizes: Sequence[int]) -> AnswerWeights:
        """Return the sums over batches of these sizes, (R, batches), of samples in an order (N,) or
        (R, N); None is the order of the samples."""
        if order is None:
            order = np.arange(self.kept.shape[1])
        rows = np.atleast_2d(order)[:, : sum(sizes)]
        begins = np.cumsum([0, *sizes[:-1]])

        def summed(values: NDArray[Any]) -> NDArray[Any]:
            replicas = max(len(values), len(rows))
            every = np.broadcast_to(values, (replicas, values.shape[1]))
            chosen = np.take_along_axis(every, np.broadcast_to(rows, (replicas, rows.shape[1])), 1)
            return np.add.reduceat(chosen, begins, axis=1)

        return AnswerWeights(summed(self.weights), summed(self.kept))
