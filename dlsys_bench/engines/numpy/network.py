"""A model with its numbers: forward, backward, and one flat vector each of parameters, gradients and state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.numpy.activation import ActivationRule
from dlsys_bench.engines.numpy.convolution import Conv2DRule
from dlsys_bench.engines.numpy.dense import DenseRule, FlattenRule
from dlsys_bench.engines.numpy.normalization import BatchNormRule, DropoutRule
from dlsys_bench.engines.numpy.pooling import AveragePoolRule, MaxPoolRule
from dlsys_bench.engines.numpy.rule import Rule
from dlsys_bench.plan import Array
from dlsys_bench.spec.layers import (
    Activation,
    AveragePool,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Layer,
    MaxPool,
)
from dlsys_bench.spec.model import Model

RULES: dict[type[Layer], type[Rule[Any]]] = {
    Conv2D: Conv2DRule,
    AveragePool: AveragePoolRule,
    MaxPool: MaxPoolRule,
    BatchNorm: BatchNormRule,
    Dropout: DropoutRule,
    Flatten: FlattenRule,
    Dense: DenseRule,
    Activation: ActivationRule,
}


def inward(x: NDArray[Any]) -> NDArray[Any]:
    """(R, N, H, W, C) -> (R, C, H, W, N), (R, N, units) -> (R, units, N): a view."""
    return x.transpose(0, 4, 2, 3, 1) if x.ndim == 5 else x.swapaxes(1, 2)


def outward(y: Array) -> Array:
    """(R, C, H, W, N) -> (R, N, H, W, C), (R, units, N) -> (R, N, units): a view."""
    return y.transpose(0, 4, 2, 3, 1) if y.ndim == 5 else y.swapaxes(1, 2)


class Network:
    """R replicas of one model. `parameters` and `gradient` are (R, P), `state` (R, S); the rules hold views of them."""

    def __init__(self, model: Model, dtype: str, replicas: int = 1) -> None:
        self.model, self.replicas, self.dtype = model, replicas, np.dtype(dtype)
        counts = model.counts
        self.parameters = np.zeros((replicas, counts.trainable), dtype)
        self.gradient = np.zeros_like(self.parameters)
        self.state = np.zeros((replicas, counts.non_trainable), dtype)
        self.tensors: dict[str, Array] = {}
        self.gradients: dict[str, Array] = {}
        used = {True: 0, False: 0}
        for tensor in model.tensors:
            here = slice(used[tensor.trainable], used[tensor.trainable] + tensor.size)
            used[tensor.trainable] = here.stop
            home = self.parameters if tensor.trainable else self.state
            self.tensors[tensor.name] = home[:, here].reshape(replicas, *tensor.shape)
            if tensor.trainable:
                self.gradients[tensor.name] = self.gradient[:, here].reshape(replicas, *tensor.shape)
        self.rules = [self._rule(number) for number in range(len(model.layers))]
        self.dropouts = {place: rule for place, rule in enumerate(self.rules) if isinstance(rule, DropoutRule)}
        trained = [place for place in range(len(model.layers)) if any(t.trainable for t in model.tensors_of(place))]
        self.first_trained = min(trained, default=len(model.layers))

    def _rule(self, number: int) -> Rule[Any]:
        prefix = self.model.names[number] + "."
        mine = [{n.removeprefix(prefix): view for n, view in views.items() if n.startswith(prefix)}
                for views in (self.tensors, self.gradients)]  # fmt: skip
        layer = self.model.layers[number]
        return RULES[type(layer)](layer, self.model.shapes[number], mine[0], mine[1])

    def load(self, weights: Mapping[str, Array], replica: int = 0) -> None:
        """Every tensor of a replica from arrays of its own shape."""
        for name, view in self.tensors.items():
            view[replica] = weights[name]

    def seed(self, seeds: Sequence[int]) -> None:
        """Give each dropout layer of each replica a stream of its own."""
        for place, rule in self.dropouts.items():
            rule.generators = [
                np.random.Generator(np.random.SFC64(np.random.SeedSequence((seed, place)))) for seed in seeds
            ]

    def keep(self, masks: Sequence[Mapping[int, NDArray[np.bool_]]] | None) -> None:
        """Hand each dropout layer what it keeps in the next passes, a (N, ...) of bool a replica; None: it draws."""
        for place, rule in self.dropouts.items():
            rule.mask = None if masks is None else inward(np.stack([own[place] for own in masks]))

    def forward(self, x: Array, training: bool) -> Array:
        """Outputs (R, K, N) of x (1 or R, ..., N)."""
        for rule in self.rules:
            x = rule.forward(x, training)
        return x

    def backward(self, dy: Array, wants_dx: bool = False) -> Array | None:
        """Fill `gradient`. What nobody uses is not computed: no dx below the lowest layer with parameters."""
        for place in range(len(self.rules) - 1, -1, -1):
            dx = self.rules[place].backward(dy, wants_dx or place > self.first_trained)
            if dx is None:
                return None
            dy = dx
        return dy
