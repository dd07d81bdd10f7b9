"""What surrounds torch's optimiser in an update: clipping, parts of batches, moving averages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dlsys_bench.engines.plan import batch_slices
from dlsys_bench.engines.torch.layout import TorchInputs
from dlsys_bench.engines.torch.losses import answer_weights
from dlsys_bench.engines.torch.steps import TorchMasks
from dlsys_bench.spec.averaging import WeightAverage
from dlsys_bench.spec.clipping import Clip, ClipNorm, ClipValue
from dlsys_bench.spec.losses import CrossEntropy
from dlsys_bench.spec.recipe import Recipe

CLIPS: dict[type[Clip], Callable[[Any, Sequence[Tensor]], object]] = {
    ClipNorm: lambda clip, parameters: torch.nn.utils.clip_grad_norm_(parameters, clip.limit),
    ClipValue: lambda clip, parameters: torch.nn.utils.clip_grad_value_(parameters, clip.limit),
}
"""torch's functions, which clip the gradients of the tensors of one network in place."""


def _clip_norms(clip: ClipNorm, gradient: Tensor) -> None:
    norms = gradient.norm(dim=1, keepdim=True)
    gradient.mul_((clip.limit / (norms + clip.epsilon)).clamp(max=1.0))


REPLICA_CLIPS: dict[type[Clip], Callable[[Any, Tensor], object]] = {
    ClipNorm: _clip_norms,
    ClipValue: lambda clip, gradient: gradient.clamp_(-clip.limit, clip.limit),
}
"""The clippings of the gradients (R, P) of R networks, each by its own norm."""


class BatchPart(NamedTuple):
    """A part of a batch, and its share in the mean loss of the batch, or that (R,) of each
    replica."""

    x: TorchInputs
    y: Tensor
    masks: TorchMasks
    share: float | Tensor

    def weigh(self, loss: Tensor) -> Tensor:
        """Return the contribution of this part to the loss of the batch."""
        if isinstance(self.share, Tensor):
            return loss * self.share.to(loss.dtype)
        return loss if self.share == 1.0 else loss * self.share


def batch_parts(
    recipe: Recipe, x: TorchInputs, y: Tensor, masks: TorchMasks, axis: int = 0, mask_axis: int = 0
) -> Iterator[BatchPart]:
    """Yield the parts of a batch whose gradients are accumulated. `axis` is that of the samples in
    x and y, and `mask_axis` in the masks."""
    samples = y.shape[axis]
    sizes = recipe.micro_batches(samples)
    if len(sizes) == 1:
        yield BatchPart(x, y, masks, 1.0)
        return
    parts = [(here.start, here.stop - here.start) for here in batch_slices(sizes)]
    targets = [y.narrow(axis, *part) for part in parts]
    shares: list[Any] = [count / samples for _, count in parts]
    if isinstance(recipe.loss, CrossEntropy) and recipe.loss.is_weighted:
        each = [
            answer_weights(recipe.loss, own, torch.float64).flatten(axis).sum(-1) for own in targets
        ]
        whole = torch.stack(each).sum(0)
        shares = [own / torch.where(whole > 0, whole, 1) for own in each]
    for part, own, share in zip(parts, targets, shares, strict=True):
        kept = {place: mask.narrow(mask_axis, *part) for place, mask in masks.items()}
        yield BatchPart(tuple(each.narrow(axis, *part) for each in x), own, kept, share)


def sum_of(values: Sequence[Tensor]) -> Tensor:
    """Return the sum of the parts of a batch; a single part as it is."""
    return values[0] if len(values) == 1 else torch.stack(list(values)).sum(0)


class MovingAverages:
    """The moving averages of tensors, if a recipe has any.

    `publish` puts them into the tensors, and `resume` the weights from which the updates go on.
    The weight of the new values is a tensor: a CUDA graph that was recorded with one reads it.
    """

    def __init__(self, record: WeightAverage | None, tensors: Sequence[Tensor]) -> None:
        self.record, self.tensors = record, tensors if record is not None else ()
        self.averages = [torch.zeros_like(tensor, requires_grad=False) for tensor in self.tensors]
        self.trained: list[Tensor] = []
        self.started = False
        # The first average is the weights themselves.
        self.weights = [torch.ones_like(tensor[..., :1].flatten()[0]) for tensor in self.averages]

    @torch.no_grad()
    def update(self) -> None:
        """Update the averages after an update of the tensors."""
        if self.record is not None:
            self.started = True
            for average, tensor, weight in zip(
                self.averages, self.tensors, self.weights, strict=True
            ):
                average.lerp_(tensor, weight)
                weight.fill_(1.0 - self.record.decay)

    def publish(self) -> None:
        """Put the averages into the tensors; nothing before the first update."""
        if not self.started:
            return
        self.trained = [tensor.detach().clone() for tensor in self.tensors]
        _copy(self.averages, self.tensors)

    def resume(self) -> None:
        """Put the weights from which the updates go on into the tensors."""
        _copy(self.trained, self.tensors)


@torch.no_grad()
def _copy(values: Sequence[Tensor], tensors: Sequence[Tensor]) -> None:
    for value, tensor in zip(values, tensors, strict=False):
        tensor.copy_(value)
