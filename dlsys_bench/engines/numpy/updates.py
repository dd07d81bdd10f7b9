"""The update of R networks: loss scaling, clipping, weight decay, the optimiser's step and the
moving average."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dlsys_bench.engines.loss_scale import LossScaler
from dlsys_bench.engines.numpy.network import Network
from dlsys_bench.engines.numpy.optimizers import LearningRates, Stepper
from dlsys_bench.engines.plan import Array
from dlsys_bench.spec.clipping import Clip, ClipNorm, ClipValue
from dlsys_bench.spec.decay import WeightDecay
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe


def clip_norm(clip: ClipNorm, gradient: Array) -> None:
    """Scale the gradient (R, P) of each replica to a norm of at most `limit`."""
    norm = np.sqrt(np.square(gradient, dtype=np.float64).sum(axis=1, keepdims=True))
    # A gradient of zero stays zero.
    scale = clip.limit / np.maximum(norm + clip.epsilon, np.finfo(np.float64).tiny)
    gradient *= np.minimum(scale, 1.0).astype(gradient.dtype)


def clip_value(clip: ClipValue, gradient: Array) -> None:
    """Limit every entry of the gradient."""
    np.clip(gradient, -clip.limit, clip.limit, out=gradient)


CLIPS: dict[type[Clip], Callable[[Any, Array], None]] = {
    ClipNorm: clip_norm,
    ClipValue: clip_value,
}


def decaying(decay: WeightDecay | None, model: Model) -> list[slice]:
    """Return where the tensors that decay lie in the vector of all parameters; neighbours as
    one."""
    found: list[slice] = []
    end = 0
    for tensor in model.tensors:
        if not tensor.trainable:
            continue
        start, end = end, end + tensor.size
        if decay is None or not decay.applies(tensor.name, len(tensor.shape)):
            continue
        if found and found[-1].stop == start:
            found[-1] = slice(found[-1].start, end)
        else:
            found.append(slice(start, end))
    return found


class NetworkUpdate:
    """The updates of R networks by a recipe, and their state. Only a single one has a loss scale.

    `publish` gives the network the moving averages, if the recipe has any, and `resume` the weights
    from which the updates go on.
    """

    def __init__(self, net: Network, recipe: Recipe, stepper: Stepper[Any]) -> None:
        self.net, self.clip, self.decay = net, recipe.clip, recipe.optimizer.decay
        self.stepper = stepper
        self.decaying = decaying(self.decay, net.model)
        self.average = recipe.average
        self.averages: Array | None = None
        self.trained: Array | None = None
        self.scaler = None if recipe.loss_scale is None else LossScaler(recipe.loss_scale)

    @property
    def scale(self) -> float | None:
        """The factor of the loss in the next backward pass; None if losses are not scaled."""
        return None if self.scaler is None else self.scaler.scale

    @property
    def uncounted(self) -> int:
        """The number of updates that the learning-rate schedule leaves out."""
        return 0 if self.scaler is None else self.scaler.uncounted

    def step(self, learning_rate: LearningRates) -> None:
        """Update the parameters by the gradient, which is scratch memory from then on; not by one
        that has overflowed under a loss scale."""
        if self.scaler is not None and not self._unscale(self.scaler):
            return
        parameters, gradient, decay = self.net.parameters, self.net.gradient, self.decay
        if decay is not None and decay.coupling == "coupled" and decay.clipped:
            self._add_penalty(decay)
        if self.clip is not None:
            CLIPS[type(self.clip)](self.clip, gradient)
        if decay is not None and decay.coupling == "coupled" and not decay.clipped:
            self._add_penalty(decay)
        if decay is not None and decay.coupling == "decoupled":
            kept = 1.0 - learning_rate * decay.rate
            for part in self.decaying:
                parameters[:, part] *= kept
        self.stepper.step(parameters, gradient, learning_rate)
        if self.average is not None:
            self._update_averages(self.average.decay)

    def _unscale(self, scaler: LossScaler) -> bool:
        """Divide the gradient by the loss scale, and return whether it is finite."""
        gradient = self.net.gradient
        gradient /= scaler.scale
        finite = bool(np.isfinite(gradient).all())
        scaler.update(finite)
        return finite

    def _add_penalty(self, decay: WeightDecay) -> None:
        for part in self.decaying:
            self.net.gradient[:, part] += decay.rate * self.net.parameters[:, part]

    def _update_averages(self, decay: float) -> None:
        if self.averages is None:
            self.averages = self.net.parameters.copy()
        else:
            self.averages *= decay
            self.averages += (1.0 - decay) * self.net.parameters

    def publish(self) -> None:
        """Give the network the moving averages."""
        if self.averages is not None:
            self.trained = self.net.parameters.copy()
            self.net.parameters[...] = self.averages

    def resume(self) -> None:
        """Give the network the weights from which the updates go on."""
        if self.trained is not None:
            self.net.parameters[...] = self.trained
