"""The engine written from scratch in numpy: every backward pass by hand, no framework."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.data import Samples
from dlsys_bench.engines.agreement import check_batch, check_inputs, check_weights
from dlsys_bench.engines.alignment import (
    check_plans,
    has_replica_axis,
    models_for_replicas,
    recipes_for_replicas,
    stack_samples,
)
from dlsys_bench.engines.base import Batch, Engine, Gradients
from dlsys_bench.engines.history import Epoch
from dlsys_bench.engines.inputs import input_arrays, input_gradients, require_inputs
from dlsys_bench.engines.numpy.batches import targets
from dlsys_bench.engines.numpy.network import Network, to_external, to_internal
from dlsys_bench.engines.numpy.ruleset import NUMPY_RULES, RuleSet
from dlsys_bench.engines.numpy.threads import one_thread
from dlsys_bench.engines.numpy.training import fit_replicas
from dlsys_bench.engines.plan import Array, Plan, Weights
from dlsys_bench.engines.replicas import OneByOne, Replicas, fit_one_by_one
from dlsys_bench.engines.requirements import require_products
from dlsys_bench.engines.targets import check_targets
from dlsys_bench.errors import DivergedError
from dlsys_bench.spec.losses import Loss
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe

# Images are predicted this many at a time, so that their windows stay in the cache.
PREDICTED_AT_ONCE = 128

# As many replicas are trained at a time as keep the memory of a step in a core's share of the
# cache.
CACHE_BYTES = 4 * 2**20


class NumpyEngine(Engine):
    """numpy, in double precision for checks and in single precision for speed. It follows both
    conventions; the default is Keras's."""

    name = "numpy"
    convention = "keras"
    conventions = ("keras", "torch")
    threaded = True
    rule_set: RuleSet = NUMPY_RULES
    lacks = dict.fromkeys(
        ("products:float16", "products:bfloat16"),
        "numpy multiplies float16 without BLAS, and has no bfloat16",
    )

    def check(self, *records: Any) -> None:
        """Accept every record: the engine follows mixed conventions as well."""

    def build(self, model: Model, weights: Weights | None = None, *, seed: int = 0) -> Network:
        """Create a network."""
        if weights is not None:
            check_weights(model, weights)
        net = Network(model, self.dtype, rule_set=self.rule_set)
        net.load(Plan(seed).weights(model) if weights is None else weights)
        net.seed([seed])
        return net

    def weights(self, net: Network) -> Weights:
        """Copy all tensors by name."""
        return {name: tensor[0].copy() for name, tensor in net.tensors.items()}

    def _inward(self, net: Network, x: NDArray[Any]) -> list[Array]:
        """Return each input of x (1 or R, N, ...) in the engine's layout."""
        arrays = input_arrays(net.model, x, self.dtype, leading=2)
        return [np.ascontiguousarray(to_internal(each)) for each in arrays]

    def predict(self, net: Network, x: Array) -> Array:
        """Compute the outputs outside training."""
        require_inputs(net.model, x)
        outputs: Array = self.predict_replicas(net, x[None])[0]
        return outputs

    def predict_replicas(self, net: Network, x: Array) -> Array:
        """Predict the outputs (R, N, ...) of x (1, N, ...) for all replicas, or (R, N, ...)."""
        outputs = np.empty((net.replicas, x.shape[1], *net.model.output_shape), self.dtype)
        at_once = PREDICTED_AT_ONCE if x.ndim == 5 else self._at_once(net.model, net.replicas)
        # A network that has diverged may overflow; its DivergedError was raised in training.
        with one_thread(), np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, x.shape[1], at_once):
                here = slice(start, start + at_once)
                outputs[:, here] = to_external(
                    net.forward(self._inward(net, x[:, here]), training=False)
                )
        return outputs

    def gradients(self, net: Network, batch: Batch, loss: Loss) -> Gradients:
        """Compute the loss and its gradients."""
        check_batch(net.model, batch, loss)
        with net.unchanged(_one(batch.active_masks)):
            outputs = net.forward(self._inward(net, batch.x[None]), batch.training)
            value, dy, _ = self.rule_set.evaluate_loss(loss, outputs, targets(batch.y[None]))
            dx = net.backward(dy, wants_dx=True)
        weights = {name: gradient[0].copy() for name, gradient in net.gradients.items()}
        own = [to_external(each)[0].copy() for each in dx if each is not None]
        return Gradients(float(value[0]), weights, input_gradients(net.model, own))

    def trace(self, net: Network, batch: Batch) -> list[Array]:
        """Compute the output of every layer."""
        check_inputs(net.model, batch)
        return [
            outputs[0]
            for outputs in self.trace_replicas(
                net, batch.x[None], batch.training, _one(batch.active_masks)
            )
        ]

    def trace_replicas(
        self,
        net: Network,
        x: Array,
        training: bool,
        masks: Sequence[Mapping[int, NDArray[np.bool_]]] | None = None,
    ) -> list[Array]:
        """Return the output of every layer, (1 or R, N, ...)."""
        with net.unchanged(masks):
            return [to_external(y).copy() for y in net.outputs(self._inward(net, x), training)]

    def fit(self, net: Network, samples: Samples, recipe: Recipe, plan: Plan) -> Generator[Epoch]:
        """Train, and yield every epoch."""
        require_products(self, recipe)
        check_targets(recipe.loss, samples.y, net.model.output_shape)
        failures: dict[int, DivergedError] = {}
        training = fit_replicas(net, stack_samples(samples, 1), [recipe], [plan], failures)
        with contextlib.closing(training):
            for (epoch,) in training:
                assert epoch is not None
                yield epoch
        if failures:
            raise failures[0]

    def replicate(self, models: Model | Sequence[Model], plans: Sequence[Plan]) -> NumpyReplicas:
        """Create networks that train as one program."""
        return NumpyReplicas(self, models_for_replicas(models, len(plans)), plans)

    def replicas_at_once(self, model: Model, recipe: Recipe) -> int:
        """Return the number of replicas that train fastest at a time."""
        return self._at_once(model, recipe.batch_size)

    def _at_once(self, model: Model, other: int) -> int:
        """Return how many replicas of `other` samples fit the cache, or how many samples of `other`
        replicas."""
        values = sum(math.prod(shape) for shape in model.shapes) * other
        return max(1, CACHE_BYTES // (values * np.dtype(self.dtype).itemsize))


class NumpyReplicas(Replicas):
    """R networks in one, along the first axis."""

    def __init__(self, engine: NumpyEngine, models: Sequence[Model], plans: Sequence[Plan]) -> None:
        super().__init__(len(plans))
        self.engine = engine
        self.net = Network(models[0], engine.dtype, len(plans), engine.rule_set)
        for replica, (model, plan) in enumerate(zip(models, plans, strict=True)):
            self.net.load(plan.weights(model), replica)
        self.net.seed([plan.seed for plan in plans])

    def fit(
        self,
        samples: Samples | Sequence[Samples],
        recipes: Recipe | Sequence[Recipe],
        plans: Sequence[Plan],
    ) -> Generator[Sequence[Epoch | None]]:
        """Train, and yield every epoch."""
        check_plans(plans, self.size)
        every, parts = recipes_for_replicas(recipes, self.size), stack_samples(samples, self.size)
        require_products(self.engine, every[0])
        for replica in range(1 if parts.shared else self.size):
            check_targets(every[0].loss, parts.of(replica).y, self.net.model.output_shape)
        self.failures = {}
        if every[0].loss_scale is not None:
            # Each replica skips updates of its own.
            single = OneByOne.of(self, self.engine, self.net.model, plans)
            yield from fit_one_by_one(self, single, self.net.load, samples, every, plans)
            return
        training = fit_replicas(self.net, parts, every, plans, self.failures)
        with contextlib.closing(training):
            yield from training

    def predict(self, x: Array) -> Array:
        """Compute the outputs outside training."""
        return self.engine.predict_replicas(
            self.net, x if has_replica_axis(x, self.net.model) else x[None]
        )

    def trace(self, x: Array) -> list[Array]:
        """Compute the output of every layer."""
        outputs = self.engine.trace_replicas(
            self.net, x if has_replica_axis(x, self.net.model) else x[None], training=False
        )
        return [np.broadcast_to(output, (self.size, *output.shape[1:])) for output in outputs]

    def weights(self, replica: int) -> Weights:
        """Copy all tensors by name."""
        return {name: tensor[replica].copy() for name, tensor in self.net.tensors.items()}


def _one(
    masks: Mapping[int, NDArray[np.bool_]] | None,
) -> Sequence[Mapping[int, NDArray[np.bool_]]] | None:
    return None if masks is None else [masks]
