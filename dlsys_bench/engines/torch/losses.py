"""The losses, and the number of correct answers."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

from dlsys_bench.spec import losses

LOSSES: dict[type[losses.Loss], Callable[[Tensor, Tensor], Tensor]] = {
    # From labels, since one-hot targets give the same loss more slowly.
    losses.CategoricalCrossEntropy: functional.cross_entropy,
    losses.SparseCategoricalCrossEntropy: functional.cross_entropy,
    losses.MeanSquaredError: functional.mse_loss,
    losses.HalfMeanSquaredError: lambda out, y: (
        functional.mse_loss(out, y, reduction="sum") / (2 * len(y))
    ),
    losses.PerceptronCriterion: lambda out, y: functional.relu(-y * out[:, 0]).mean(),
    losses.Hinge: lambda out, y: functional.relu(1 - y * out[:, 0]).mean(),
}


def count_correct(loss: losses.Loss, outputs: Tensor, y: Tensor) -> Tensor:
    """Count the correct answers of outputs (..., N, K), as (...); zero if targets are values."""
    if loss.targets == "labels":
        return (outputs.argmax(-1) == y).sum(-1)
    if loss.targets == "signs":
        return (outputs[..., 0].sign() == y).sum(-1)
    return outputs.new_zeros(())
