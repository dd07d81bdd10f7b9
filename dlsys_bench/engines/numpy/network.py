"""A model with its numbers: forward, backward, and one flat vector each of parameters, gradients
and state."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
from dlsys_bench.spec.model import Model


def to_internal(x: NDArray[Any]) -> NDArray[Any]:
    """(R, N, H, W, C) -> (R, C, H, W, N), (R, N, units) -> (R, units, N): a view."""
    return x.transpose(0, 4, 2, 3, 1) if x.ndim == 5 else x.swapaxes(1, 2)


def to_external(y: Array) -> Array:
    """(R, C, H, W, N) -> (R, N, H, W, C), (R, units, N) -> (R, N, units): a view."""
    return y.transpose(0, 4, 2, 3, 1) if y.ndim == 5 else y.swapaxes(1, 2)


class Network:
    """R replicas of one model. `parameters` and `gradient` are (R, P), `state` (R, S); the rules
    hold views of them. A sample has so many `values`, its own and those that the layers make of it.

    One for a later `shard` has the parameters and the state of the `first`, and a gradient of its
    own.
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
        self.tensors: dict[str, Array] = {}
        self.gradients: dict[str, Array] = {}
        used = {True: 0, False: 0}
        for tensor in model.tensors:
            here = slice(used[tensor.trainable], used[tensor.trainable] + tensor.size)
            used[tensor.trainable] = here.stop
            home = self.parameters if tensor.trainable else self.state
            self.tensors[tensor.name] = home[:, here].reshape(replicas, *tensor.shape)
            if tensor.trainable:
                self.gradients[tensor.name] = self.gradient[:, here].reshape(
                    replicas, *tensor.shape
                )
        self.rules = [self._rule(number) for number in range(len(model.layers))]
        self.fused = self._fused_rules()
        self.dropouts = {
            place: rule for place, rule in enumerate(self.rules) if isinstance(rule, DropoutRule)
        }
        trained = [
            place
            for place in range(len(model.layers))
            if any(t.trainable for t in model.tensors_of(place))
        ]
        self.first_trained = min(trained, default=len(model.layers))

    def _rule(self, number: int) -> LayerRule[Any]:
        prefix = self.model.names[number] + "."
        mine = [
            {n.removeprefix(prefix): view for n, view in views.items() if n.startswith(prefix)}
            for views in (self.tensors, self.gradients)
        ]
        layer = self.model.layers[number]
        rule = self.rule_set.rules[type(layer)](layer, self.model.shapes[number], mine[0], mine[1])
        rule.updates_state = self.shard == 0
        return rule

    def _fused_rules(self) -> dict[int, LayerRule[Any]]:
        """The rules that go through two layers, by the place of the first."""
        found: dict[int, LayerRule[Any]] = {}
        for place, (one, other) in enumerate(pairwise(self.rules)):
            made = self.rule_set.fused.get((type(one.layer), type(other.layer)))
            if (
                made is not None
                and place - 1 not in found
                and (pair := made(one, other)) is not None
            ):
                found[place] = pair
        return found

    def _passes(self) -> list[tuple[int, LayerRule[Any]]]:
        """The rules that a pass goes through, each with the place of its first layer."""
        return [
            (place, self.fused.get(place, rule))
            for place, rule in enumerate(self.rules)
            if place - 1 not in self.fused
        ]

    def shards(self, count: int) -> list[Network]:
        """This network, and as many more of its numbers as there are shards."""
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
        """Every tensor of a replica from arrays of its own shape."""
        for name, view in self.tensors.items():
            view[replica] = weights[name]

    def seed(self, seeds: Sequence[int]) -> None:
        """Give each dropout layer of each replica a stream of its own; of each shard too."""
        self.seeds = seeds
        stream = (self.shard,) if self.shard else ()
        for place, rule in self.dropouts.items():
            rule.generators = [
                np.random.Generator(np.random.SFC64(np.random.SeedSequence((seed, place, *stream))))
                for seed in seeds
            ]
        for other in self._other_shards:
            other.seed(seeds)

    def set_masks(self, masks: Sequence[Mapping[int, NDArray[np.bool_]]] | None) -> None:
        """Hand each dropout layer what it keeps in the next passes, a (N, ...) of bool a replica;
        None: it draws."""
        for place, rule in self.dropouts.items():
            rule.mask = (
                None if masks is None else to_internal(np.stack([own[place] for own in masks]))
            )

    def forward(self, x: Array, training: bool) -> Array:
        """Outputs (R, K, N) of x (1 or R, ..., N)."""
        for _, rule in self._passes():
            x = rule.forward(x, training)
        return x

    def forward_shard(self, x: Array) -> ShardPass[Array]:
        """The same in training, of one shard."""
        for _, rule in self._passes():
            x = (
                (yield from rule.forward_shard(x))
                if rule.exchanges
                else rule.forward(x, training=True)
            )
        return x

    def backward_shard(self, dy: Array) -> ShardPass[None]:
        """Fill `gradient` with what this shard has of it."""
        for place, rule in reversed(self._passes()):
            wants_dx = place > self.first_trained
            dx = (
                (yield from rule.backward_shard(dy, wants_dx))
                if rule.exchanges
                else rule.backward(dy, wants_dx)
            )
            if dx is None:
                return
            dy = dx

    def backward(self, dy: Array, wants_dx: bool = False) -> Array | None:
        """Fill `gradient`. What nobody uses is not computed: no dx below the lowest layer with
        parameters."""
        for place, rule in reversed(self._passes()):
            dx = rule.backward(dy, wants_dx or place > self.first_trained)
            if dx is None:
                return None
            dy = dx
        return dy
