"""A network in numpy: the forward and the backward pass over the rules of its layers, with all
parameters, gradients and state in one flat vector each."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.numpy.dropout import MaskedRule
from dlsys_bench.engines.numpy.memory import zeros
from dlsys_bench.engines.numpy.rule import LayerRule
from dlsys_bench.engines.numpy.ruleset import NUMPY_RULES, RuleSet
from dlsys_bench.engines.numpy.shards import ShardPass, run_whole, shard_slices
from dlsys_bench.engines.plan import Array
from dlsys_bench.spec.model import Model, Tensor


def to_internal(x: NDArray[Any]) -> NDArray[Any]:
    """Return a view in this engine's layout: (R, N, H, W, C) as (R, C, H, W, N), (R, N, T, C) as
    (R, C, T, N), and (R, N, units) as (R, units, N)."""
    return x.swapaxes(1, -1)


def to_external(y: Array) -> Array:
    """Return a view in the layout of the `Engine` interface: (R, C, H, W, N) as (R, N, H, W, C),
    (R, C, T, N) as (R, N, T, C), and (R, units, N) as (R, N, units)."""
    return y.swapaxes(1, -1)


def _views(vector: Array, tensors: Sequence[Tensor]) -> dict[str, Array]:
    """Return a view (R, *shape) of each tensor in a flat vector (R, P), by name."""
    views, start = {}, 0
    for tensor in tensors:
        end = start + tensor.size
        views[tensor.name] = vector[:, start:end].reshape(len(vector), *tensor.shape)
        start = end
    return views


class Pass(NamedTuple):
    """A rule with the places of what it takes and of its output, as in `TableRow`."""

    rule: LayerRule[Any]
    sources: tuple[int, ...]
    place: int


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
        self.inputs = range(len(model.input_table))
        self.fused = self._fused_rules()
        self.dropouts = {
            row.place: rule
            for row, rule in zip(model.table, self.rules, strict=True)
            if isinstance(rule, MaskedRule) and row.mask is not None
        }
        self.training = False

    def _rule(self, number: int) -> LayerRule[Any]:
        """Create the rule of a layer, with views of its tensors and gradients."""
        _, name, layer, *_ = row = self.model.table[number]
        prefix = name + "."
        own = [
            {n.removeprefix(prefix): view for n, view in views.items() if n.startswith(prefix)}
            for views in (self.tensors, self.gradients)
        ]
        rule = self.rule_set.rules[type(layer)](layer, row.shapes, *own)
        rule.updates_state = self.shard == 0
        return rule

    def _fused_rules(self) -> dict[int, LayerRule[Any]]:
        """Create the rules that compute two layers in one, by the index of the first layer, whose
        output nothing else takes."""
        found: dict[int, LayerRule[Any]] = {}
        users = Counter(source for row in self.model.table for source in row.sources)
        for index, (first, second) in enumerate(pairwise(self.rules)):
            value = self.model.table[index].value
            follows = self.model.table[index + 1].sources == (value,)
            fuse = self.rule_set.fused.get((type(first.layer), type(second.layer)))
            if fuse is None or not follows or users[value] > 1 or index - 1 in found:
                continue
            if (rule := fuse(first, second)) is not None:
                found[index] = rule
        return found

    def _passes(self) -> list[Pass]:
        """Return the rules of a pass in order, with what they take and the place of their output.

        Places are those of `TableRow`.
        """
        return [
            Pass(self.fused.get(index, rule), row.sources, row.value + (index in self.fused))
            for index, (rule, row) in enumerate(zip(self.rules, self.model.table, strict=True))
            if index - 1 not in self.fused
        ]

    def shard_slices(self, samples: int) -> list[slice]:
        """Split a batch of samples into shards of nearly equal size."""
        return shard_slices(samples, int(self.values / self.rule_set.speed))

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

    def forward(self, x: Sequence[Array], training: bool) -> Array:
        """Compute the outputs (R, K, N) of x, (1 or R, ..., N) for each input."""
        return run_whole(self.forward_shard(x, training))

    def forward_shard(self, x: Sequence[Array], training: bool = True) -> ShardPass[Array]:
        """Compute the outputs of one shard of a batch."""
        self.training, values = training, dict(enumerate(x))
        for rule, sources, place in self._passes():
            given = _inputs(rule, values, sources)
            values[place] = (
                (yield from rule.forward_shard(given))
                if rule.exchanges and training
                else rule.forward(given, training)
            )
        return values[place]

    def outputs(self, x: Sequence[Array], training: bool) -> list[Array]:
        """Compute the output of every layer, which the next call overwrites."""
        values = dict(enumerate(x))
        for rule, row in zip(self.rules, self.model.table, strict=True):
            values[row.value] = rule.forward(_inputs(rule, values, row.sources), training)
        return [values[row.value] for row in self.model.table]

    def backward(self, dy: Array, wants_dx: bool = False) -> list[Array | None]:
        """Fill `gradient` from dy, the gradient of the loss in the outputs.

        Each rule fills the gradients of its tensors and returns those in its inputs. A value that
        several layers take has the sum of theirs. Nothing is computed for values that depend on no
        trainable tensor, unless the gradients with respect to the inputs are wanted. These are
        returned.
        """
        return run_whole(self.backward_shard(dy, wants_dx))

    def backward_shard(self, dy: Array, wants_dx: bool = False) -> ShardPass[list[Array | None]]:
        """Fill `gradient` with the part of one shard."""
        wanted = [wants_dx or learns for learns in self.model.learns]
        gradients = {self.model.table[-1].value: dy}
        for rule, sources, place in reversed(self._passes()):
            if not wanted[place]:
                continue
            here, wants = gradients.pop(place), any(wanted[source] for source in sources)
            found = (
                (yield from rule.backward_shard(here, wants))
                if rule.exchanges and self.training
                else rule.backward(here, wants)
            )
            for source, dx in zip(sources, _gradients(rule, found), strict=False):
                if source in gradients:
                    gradients[source] += dx
                else:
                    gradients[source] = dx
        return [gradients.get(place) for place in self.inputs]


def _inputs(rule: LayerRule[Any], values: Mapping[int, Array], sources: Sequence[int]) -> Any:
    """Return what a rule takes: an array, or the list of arrays of a layer that merges."""
    taken = [values[source] for source in sources]
    return taken if rule.layer.merges else taken[0]


def _gradients(rule: LayerRule[Any], found: Any) -> Sequence[Array]:
    """Return the gradients in the inputs of a rule, one for each; none if none is wanted."""
    if found is None:
        return ()
    return found if rule.layer.merges else (found,)
