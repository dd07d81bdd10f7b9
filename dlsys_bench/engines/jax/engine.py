"""The jax engine."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
from jax import Array as Tensor

from dlsys_bench.data import Samples
from dlsys_bench.engines.agreement import check_batch, check_inputs, check_weights
from dlsys_bench.engines.base import Batch, Engine, Gradients
from dlsys_bench.engines.history import Epoch
from dlsys_bench.engines.inputs import filled_up, input_arrays, input_gradients
from dlsys_bench.engines.jax.initializers import initialize
from dlsys_bench.engines.jax.network import (
    JaxNetwork,
    bare_model,
    differentiator,
    drawer,
    predictor,
    tracer,
)
from dlsys_bench.engines.jax.placement import copy_out, find_placement
from dlsys_bench.engines.jax.training import fit_network
from dlsys_bench.engines.plan import Array, Plan, Weights
from dlsys_bench.engines.requirements import require_products
from dlsys_bench.engines.targets import check_targets
from dlsys_bench.engines.work import is_little
from dlsys_bench.spec.losses import Loss
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe

PREDICTED_AT_ONCE = 1024


class JaxEngine(Engine):
    """jax, compiled, on the CPU or on CUDA. It follows both conventions; the default is Keras's.

    After a training that diverges, the network has the weights and the state of the last finite
    batch, as with numpy: a step checks its loss on the device, and once a loss is not finite no
    step changes anything. The error is raised at the end of that epoch, when the losses are read.
    The seconds of an epoch do not include compilation. On a CPU, programs of little work are not
    optimised (see `engines.work`). On CUDA, the precision of products is set by
    `jax_default_matmul_precision`.
    """

    name = "jax"
    convention = "keras"
    conventions = ("keras", "torch")
    devices = ("cpu", "cuda")
    threaded = True
    lacks = dict.fromkeys(
        ("products:float16", "products:bfloat16"),
        "JAX has no autocast: its users convert the factors of each product",
    )

    def __init__(self, device: str = "cpu", dtype: str = "") -> None:
        super().__init__(device, dtype)
        self.placement = find_placement(self.name, device, self.dtype)

    def check(self, *records: Any) -> None:
        """Accept every record: the engine follows mixed conventions as well."""

    def build(self, model: Model, weights: Weights | None = None, *, seed: int = 0) -> JaxNetwork:
        """Create a network."""
        if weights is not None:
            check_weights(model, weights)
        with self.placement.inside():
            values: Any = (
                initialize(model, self.placement.key(seed, "weights"), self.dtype)
                if weights is None
                else weights
            )
            tensors = {
                tensor.name: self.placement.put(values[tensor.name]) for tensor in model.tensors
            }
            trained = {tensor.name for tensor in model.tensors if tensor.trainable}
            parameters = {name: tensor for name, tensor in tensors.items() if name in trained}
            state = {name: tensor for name, tensor in tensors.items() if name not in trained}
            return JaxNetwork(model, parameters, state, self.placement.key(seed, "passes"))

    def weights(self, net: JaxNetwork) -> Weights:
        """Copy all tensors by name."""
        return copy_out(net.tensors)

    def predict(self, net: JaxNetwork, x: Array) -> Array:
        """Compute the outputs outside training."""
        arrays, samples = input_arrays(net.model, x, self.dtype), len(x)
        outputs = np.empty((samples, *net.model.output_shape), self.dtype)
        # The last part is filled up to a power of two, so that few sizes have to be compiled.
        at_once = min(PREDICTED_AT_ONCE, 1 << max(samples - 1, 0).bit_length())
        fast = self.device == "cpu" and is_little(net.model, samples)
        with self.placement.inside():
            program, tensors = predictor(bare_model(net.model), fast), net.tensors
            for first in range(0, samples, at_once):
                here = slice(first, min(first + at_once, samples))
                short = at_once - (here.stop - first)
                parts = tuple(
                    self.placement.put(filled_up(each[here], short), each.dtype) for each in arrays
                )
                outputs[here] = np.asarray(program(tensors, parts))[: here.stop - first]
        return outputs

    def _masks(self, net: JaxNetwork, batch: Batch) -> dict[int, Tensor]:
        """Return the masks of the batch, or else draw them."""
        if batch.masks is None:
            if not batch.training:
                return {}
            return drawer(bare_model(net.model), len(batch.x))(net.next_key())
        return {index: self.placement.put(mask, np.bool_) for index, mask in batch.masks.items()}

    def gradients(self, net: JaxNetwork, batch: Batch, loss: Loss) -> Gradients:
        """Compute the loss and its gradients."""
        check_batch(net.model, batch, loss)
        with self.placement.inside():
            value, (found, dx) = differentiator(bare_model(net.model), loss, batch.training)(
                net.parameters,
                self.placement.inputs(net.model, batch.x),
                net.state,
                self.placement.targets(loss, batch.y),
                self._masks(net, batch),
            )
            own = input_gradients(net.model, list(map(np.array, dx)))
            return Gradients(float(value), copy_out(found), own)

    def trace(self, net: JaxNetwork, batch: Batch) -> list[Array]:
        """Compute the output of every layer."""
        check_inputs(net.model, batch)
        with self.placement.inside():
            outputs = tracer(bare_model(net.model), batch.training)(
                net.tensors, self.placement.inputs(net.model, batch.x), self._masks(net, batch)
            )
            return [np.array(output) for output in outputs]

    def fit(
        self, net: JaxNetwork, samples: Samples, recipe: Recipe, plan: Plan
    ) -> Generator[Epoch]:
        """Train, and yield every epoch."""
        require_products(self, recipe)
        check_targets(recipe.loss, samples.y, net.model.output_shape)
        yield from fit_network(net, samples, self.placement, recipe, plan)
