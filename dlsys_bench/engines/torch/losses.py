"""The losses, and the number of correct answers."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from dlsys_bench.spec import losses

TorchLoss = Callable[[Tensor, Tensor], Tensor]


@cache
def _class_weights(weights: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    # Kept, because no array may be copied to the device while a CUDA graph is recorded.
    return torch.tensor(weights, device=device, dtype=dtype)


def _ignored(loss: losses.CrossEntropy) -> int:
    return -1 if loss.ignored_label is None else loss.ignored_label


def answer_weights(loss: losses.CrossEntropy, y: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the weight of each label in the divisor of the mean loss."""
    kept = y != _ignored(loss)
    if loss.class_weights is None:
        return kept.to(dtype)
    weights = _class_weights(loss.class_weights, y.device, dtype)
    return weights[torch.where(kept, y, 0)] * kept


def _cross_entropy(loss: losses.CrossEntropy, out: Tensor, y: Tensor) -> Tensor:
    # From labels, since one-hot targets give the same loss more slowly.
    out, y = out.flatten(0, -2), y.flatten()
    if not loss.used_options:
        return functional.cross_entropy(out, y)
    divisor = answer_weights(loss, y, out.dtype).sum()
    weights = None
    if loss.class_weights is not None:
        weights = _class_weights(loss.class_weights, out.device, out.dtype)
    # The mean of torch would be NaN where every label is ignored.
    total = functional.cross_entropy(
        out,
        y,
        weights,
        ignore_index=_ignored(loss),
        label_smoothing=loss.label_smoothing,
        reduction="sum",
    )
    return total / torch.where(divisor > 0, divisor, 1)


LOSSES: dict[type[losses.Loss], Callable[[Any, Tensor, Tensor], Tensor]] = {
    losses.CategoricalCrossEntropy: _cross_entropy,
    losses.SparseCategoricalCrossEntropy: _cross_entropy,
    losses.BinaryCrossEntropy: lambda loss, out, y: functional.binary_cross_entropy_with_logits(
        out, y.reshape(out.shape)
    ),
    losses.MeanSquaredError: lambda loss, out, y: functional.mse_loss(out, y),
    losses.HalfMeanSquaredError: lambda loss, out, y: (
        functional.mse_loss(out, y, reduction="sum") / (2 * len(y))
    ),
    losses.Huber: lambda loss, out, y: functional.huber_loss(out, y, delta=loss.delta),
    losses.PerceptronCriterion: lambda loss, out, y: functional.relu(-y * out[:, 0]).mean(),
    losses.Hinge: lambda loss, out, y: functional.relu(1 - y * out[:, 0]).mean(),
}


def loss_function(loss: losses.Loss) -> TorchLoss:
    """Return the function of outputs (N, ...) and targets that computes a loss."""
    return partial(LOSSES[type(loss)], loss)


def count_correct(
    loss: losses.Loss, outputs: Tensor, y: Tensor, *, replicas: bool = False
) -> Tensor:
    """Count the correct answers of outputs (N, ...), or (R, N, ...) of replicas, which may share
    their targets; zero if targets are values."""
    if loss.targets == "values":
        return outputs.new_zeros(())
    if loss.targets == "labels":
        right = outputs.argmax(-1) == y
        if isinstance(loss, losses.CrossEntropy) and loss.ignored_label is not None:
            right = right & (y != loss.ignored_label)
    elif loss.targets == "signs":
        right = outputs[..., 0].sign() == y
    else:
        shared = y.numel() < outputs.numel()
        right = (outputs > 0) == (y.reshape(outputs.shape[shared:]) > 0)
    return right.flatten(int(replicas)).sum(-1)
