"""The losses, and how many answers are right."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

from dlsys_bench.spec import losses

LOSSES: dict[type[losses.Loss], Callable[[Tensor, Tensor], Tensor]] = {
    losses.CategoricalCrossEntropy: functional.cross_entropy,  # of labels: one-hot rows would say no more, slower
    losses.SparseCategoricalCrossEntropy: functional.cross_entropy,
    losses.MeanSquaredError: functional.mse_loss,
    losses.HalfMeanSquaredError: lambda out, y: (
        functional.mse_loss(out, y, reduction="sum") / (2 * len(y))
    ),
    losses.PerceptronCriterion: lambda out, y: functional.relu(-y * out[:, 0]).mean(),
    losses.Hinge: lambda out, y: functional.relu(1 - y * out[:, 0]).mean(),
}


def count_correct(loss: losses.Loss, outputs: Tensor, y: Tensor) -> Tensor:
    """How many of (..., N, classes) are right, (...); a zero where no answer is right or wrong."""
    if loss.targets == "labels":
        return (outputs.argmax(-1) == y).sum(-1)
    if loss.targets == "signs":
        return (outputs[..., 0].sign() == y).sum(-1)
    return outputs.new_zeros(())
