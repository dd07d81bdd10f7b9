"""A network in numpy: the forward and the backward pass over the rules of its layers, with all
parameters, gradients and state in one flat vector each."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.numpy.memory import zeros
from dlsys_bench.engines.numpy.normalization import DropoutRule
from dlsys_bench.engines.numpy.rule import LayerRule
from dlsys_bench.engines.numpy.ruleset import NUMPY_RULES, RuleSet
from dlsys_bench.engines.numpy.shards import ShardPass
from dlsys_bench.engines.plan import Array
from dlsys_bench.spec.model import Model, Tensor


def to_internal(x: NDArray[Any]) -> NDArray[Any]:
    """Return a view in this engine's layout: (R, N, H, W, C) as (R, C, H, W, N), and
    (R, N, units) as (R, units, N)."""
    return x.transpose(0, 4, 2, 3, 1) if x.ndim == 5 else x.swapaxes(1, 2)


def to_external(y: Array) -> Array:
    """Return a view in the layout of the `Engine` interface: (R, C, H, W, N) as (R, N, H, W, C),
    and (R, units, N) as (R, N, units)."""
    return y.transpose(0, 4, 2, 3, 1) if y.ndim == 5 else y.swapaxes(1, 2)


def _views(vector: Array, tensors: Sequence[Tensor]) -> dict[str, Array]:
    """Return a view (R, *shape) of each tensor in a flat vector (R, P), by name."""
    views, start = {}, 0
    for tensor in tensors:
        end = start + tensor.size
        views[tensor.name] = vector[:, start:end].reshape(len(vector), *tensor.shape)
        start = end
    return views


class Network:
    """R replicas of one model. `parameters` and `gradient` are (R, P), `state` (R, S); the rules of
    the layers hold views of them. `values` is the number of values per sample: its inputs and the
    outputs of all layers.

    A batch that is trained in shards (see `shards`) has a network for each. Those of the later
    shards use the parameters and the state of the `first`, and have gradients of their own.
    """

    def __init__(
        self,
        model: Model,
        dtype: str,
        replicas: int = 1,
        rule_set: RuleSet = NUMPY_RULES,
        *,
        first: Network | None = None,
        shard: int = 0,
    ) -> None:
        self.rule_set = rule_set
        self.values = sum(math.prod(shape) for shape in model.shapes)
        self.model, self.replicas, self.dtype, self.shard = model, replicas, np.dtype(dtype), shard
        counts = model.counts
        self.parameters: Array = (
            zeros((replicas, counts.trainable), dtype) if first is None else first.parameters
        )
        self.gradient = zeros(self.parameters.shape, dtype)
        self.state: Array = (
            zeros((replicas, counts.non_trainable), dtype) if first is None else first.state
        )
        self._other_shards: list[Network] = []
        trained = [tensor for tensor in model.tensors if tensor.trainable]
        others = [tensor for tensor in model.tensors if not tensor.trainable]
        views = _views(self.parameters, trained) | _views(self.state, others)
        self.tensors = {tensor.name: views[tensor.name] for tensor in model.tensors}
        self.gradients = _views(self.gradient, trained)
        self.rules = [self._rule(number) for number in range(len(model.layers))]
        self.fused = self._fused_rules()
        self.dropouts = {
            index: rule for index, rule in enumerate(self.rules) if isinstance(rule, DropoutRule)
        }
        self.first_trained = next(
            (
                index
                for index in range(len(model.layers))
                if any(tensor.trainable for tensor in model.tensors_of(index))
            ),
            len(model.layers),
        )

    def _rule(self, number: int) -> LayerRule[Any]:
        """Create the rule of a layer, with views of its tensors and gradients."""
        prefix = self.model.names[number] + "."
        own = [
            {n.removeprefix(prefix): view for n, view in views.items() if n.startswith(prefix)}
            for views in (self.tensors, self.gradients)
        ]
        layer = self.model.layers[number]
        rule = self.rule_set.rules[type(layer)](layer, self.model.shapes[number], *own)
        rule.updates_state = self.shard == 0
        return rule

    def _fused_rules(self) -> dict[int, LayerRule[Any]]:
        """Create the rules that compute two layers in one, by the index of the first layer."""
        found: dict[int, LayerRule[Any]] = {}
        for index, (first, second) in enumerate(pairwise(self.rules)):
            fuse = self.rule_set.fused.get((type(first.layer), type(second.layer)))
            rule = fuse(first, second) if fuse is not None and index - 1 not in found else None
            if rule is not None:
                found[index] = rule
        return found

    def _passes(self) -> list[tuple[int, LayerRule[Any]]]:
        """Return the rules of a pass in order, each with the index of its first layer."""
        return [
            (index, self.fused.get(index, rule))
            for index, rule in enumerate(self.rules)
            if index - 1 not in self.fused
        ]

    def shards(self, count: int) -> list[Network]:
        """Return a network for each shard of a batch; the first is this network."""
        while len(self._other_shards) < count - 1:
            shard = len(self._other_shards) + 1
            self._other_shards.append(
                Network(
                    self.model,
                    self.dtype.name,
                    self.replicas,
                    self.rule_set,
                    first=self,
                    shard=shard,
                )
            )
            self._other_shards[-1].seed(self.seeds)
        return [self, *self._other_shards[: count - 1]]

    def load(self, weights: Mapping[str, Array], replica: int = 0) -> None:
        """Set every tensor of a replica from arrays of its shape."""
        for name, view in self.tensors.items():
            view[replica] = weights[name]

    def seed(self, seeds: Sequence[int]) -> None:
        """Seed the dropout layers: every layer of every replica and shard draws from a separate
        stream."""
        self.seeds = seeds
        stream = (self.shard,) if self.shard else ()
        for index, rule in self.dropouts.items():
            rule.generators = [
                np.random.Generator(np.random.SFC64(np.random.SeedSequence((seed, index, *stream))))
                for seed in seeds
            ]
        for other in self._other_shards:
            other.seed(seeds)

    def set_masks(self, masks: Sequence[Mapping[int, NDArray[np.bool_]]] | None) -> None:
        """Set what each dropout layer keeps in the next passes: for every replica, by the index of
        the layer, an array (N, ...) of bool. With None, the layers draw their masks."""
        for index, rule in self.dropouts.items():
            rule.mask = (
                None if masks is None else to_internal(np.stack([own[index] for own in masks]))
            )

    @contextlib.contextmanager
    def unchanged(
        self, masks: Sequence[Mapping[int, NDArray[np.bool_]]] | None = None
    ) -> Iterator[None]:
        """Set the masks for one pass, and afterwards restore the state of the network and of the
        streams from which its dropout layers draw."""
        state = self.state.copy()
        generators = [each for rule in self.dropouts.values() for each in rule.generators]
        drawn = [each.bit_generator.state for each in generators] if masks is None else []
        self.set_masks(masks)
        try:
            yield
        finally:
            self.state[...] = state
            for each, before in zip(generators, drawn, strict=False):
                each.bit_generator.state = before
            self.set_masks(None)

    def forward(self, x: Array, training: bool) -> Array:
        """Compute the outputs (R, K, N) of x (1 or R, ..., N)."""
        for _, rule in self._passes():
            x = rule.forward(x, training)
        return x

    def forward_shard(self, x: Array) -> ShardPass[Array]:
        """Compute the outputs of one shard of a batch, in training mode."""
        for _, rule in self._passes():
            x = (
                (yield from rule.forward_shard(x))
                if rule.exchanges
                else rule.forward(x, training=True)
            )
        return x

    def backward_shard(self, dy: Array) -> ShardPass[None]:
        """Fill `gradient` with the part of one shard."""
        for index, rule in reversed(self._passes()):
            wants_dx = index > self.first_trained
            dx = (
                (yield from rule.backward_shard(dy, wants_dx))
                if rule.exchanges
                else rule.backward(dy, wants_dx)
            )
            if dx is None:
                return
            dy = dx

    def backward(self, dy: Array, wants_dx: bool = False) -> Array | None:
        """Fill `gradient` from dy, the gradient of the loss in the outputs.

        Each rule fills the gradients of its tensors and returns that in its input, which is the dy
        of the layer before. Below the lowest layer with parameters nothing is computed, unless the
        gradient with respect to x is wanted.
        """
        for index, rule in reversed(self._passes()):
            dx = rule.backward(dy, wants_dx or index > self.first_trained)
            if dx is None:
                return None
            dy = dx
        return dy
