"""The engines on keras, with TensorFlow and with JAX. keras is imported when an engine is
created."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dlsys_bench.data import Samples
from dlsys_bench.engines.agreement import check_batch, check_inputs, check_weights
from dlsys_bench.engines.augmentation import augment
from dlsys_bench.engines.base import Batch, Engine, Gradients, require_float32
from dlsys_bench.engines.epochs import training_epochs
from dlsys_bench.engines.history import Epoch
from dlsys_bench.engines.inputs import filled_up, float_places, input_arrays, input_gradients
from dlsys_bench.engines.keras.backend import BACKENDS, start_backend
from dlsys_bench.engines.keras.declarations import LACKS, LOOSENS, TENSORFLOW_LACKS
from dlsys_bench.engines.keras.targets import targets_of
from dlsys_bench.engines.plan import Array, Plan, Weights, epoch_batch_sizes
from dlsys_bench.engines.targets import check_targets
from dlsys_bench.engines.work import is_little
from dlsys_bench.spec.losses import Loss
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.record import Record

if TYPE_CHECKING:
    from dlsys_bench.engines.keras.network import KerasNetwork

PREDICTED_AT_ONCE = 1000


class KerasEngine(Engine):
    """Keras on TensorFlow, on the CPU or on CUDA, compiled as Keras does by default.

    On a CPU, trainings with a plan of up to six steps are not compiled, which would take longer
    than they do.
    The running figures are Keras's own, which are float32 whatever the dtype of the network. The
    parts of a batch that a recipe accumulates are passes of their own forward, and one pass
    backward, so they take the memory of the whole batch.
    """

    name = "keras"
    convention = "keras"
    conventions = ("keras",)
    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")
    backend: ClassVar[str] = "tensorflow"
    steps_at_once: ClassVar[int | None] = None
    lacks = TENSORFLOW_LACKS
    loosens = LOOSENS

    def __init__(self, device: str = "cpu", dtype: str = "") -> None:
        super().__init__(device, dtype)
        start_backend(self.name, self.backend, device)

    def check(self, *records: Record) -> None:
        """Raise EngineError if the engine does not follow a record: rounded products need
        float32."""
        super().check(*records)
        require_float32(self, records)

    def _device(self) -> contextlib.AbstractContextManager[Any]:
        """Select the CPU if it is asked for; TensorFlow uses a GPU by default if there is one."""
        import keras

        return keras.device("cpu:0") if self.device == "cpu" else contextlib.nullcontext()

    def build(self, model: Model, weights: Weights | None = None, *, seed: int = 0) -> KerasNetwork:
        """Create a network."""
        from dlsys_bench.engines.keras.network import KerasNetwork
        from dlsys_bench.engines.keras.training import global_random_state_kept

        self.check(model)
        if weights is not None:
            check_weights(model, weights)
        # Keras draws the seeds of layers from Python's generator.
        with self._device(), global_random_state_kept():
            net = KerasNetwork(model, self.dtype, seed, weights)
            net.seed(seed)
        return net

    def weights(self, net: KerasNetwork) -> Weights:
        """Copy all tensors by name."""
        shapes = {tensor.name: tensor.shape for tensor in net.model.tensors}
        return {
            name: net.to_array(variable).reshape(shapes[name])
            for name, variable in net.tensors.items()
        }

    def predict(self, net: KerasNetwork, x: Array) -> Array:
        """Compute the outputs outside training."""
        arrays, samples = input_arrays(net.model, x, self.dtype), len(x)
        if not samples:
            return np.empty((0, *net.model.output_shape), self.dtype)
        parts = []
        with self._device():
            for begin in range(0, samples, PREDICTED_AT_ONCE):
                here = slice(begin, min(begin + PREDICTED_AT_ONCE, samples))
                size = here.stop - begin
                # Filled up, since a last batch of another size would have to be compiled.
                short = PREDICTED_AT_ONCE - size if begin else 0
                filled = tuple(filled_up(each[here], short) for each in arrays)
                parts.append(self._predict_batch(net, filled)[:size])
        return np.concatenate(parts)

    def _predict_batch(self, net: KerasNetwork, x: tuple[Array, ...]) -> Array:
        """Compute the outputs of a batch by Keras's compiled function, or faster if they are little
        work."""
        if self._is_brief(net) and is_little(net.model, len(x[0])):
            return net.to_array(net.predictor(*net.state_of(net.network), x))
        found: Array = net.network.predict_on_batch(x)
        return found

    def _is_brief(self, net: KerasNetwork) -> bool:
        """Return True if little work with a network takes less time without Keras's compilation."""
        return self.device == "cpu" and not net.compiles_layers

    def gradients(self, net: KerasNetwork, batch: Batch, loss: Loss) -> Gradients:
        """Compute the loss and its gradients."""
        from dlsys_bench.engines.keras.losses import loss_of

        self.check(loss)
        check_batch(net.model, batch, loss)
        value_of = loss_of(loss, self.dtype)
        network = net.network
        with self._device(), net.with_masks(batch.active_masks):
            targets = targets_of(loss, batch.y, net.model.output_shape, self.dtype)
            x = net.to_tensors(input_arrays(net.model, batch.x, self.dtype))
            # Token ids have no gradient.
            floats = float_places(net.model)
            count, training = len(net.trained), batch.training

            def differentiated(tensors: list[Any], held: list[Any], x: list[Any], y: Any) -> Any:
                def forward(tensors: list[Any]) -> tuple[Any, Any]:
                    moved = dict(zip(floats, tensors[count:], strict=True))
                    given = tuple(moved.get(place, each) for place, each in enumerate(x))
                    own = tensors[:count]
                    outputs, state = network.stateless_call(own, held, given, training=training)
                    return value_of(y, outputs), state

                return BACKENDS[self.backend].differentiate(forward, tensors)

            trained, held = net.state_of(network)
            value, _, found = BACKENDS[self.backend].compile_once(differentiated)(
                [*trained, *(x[place] for place in floats)], held, x, *net.to_tensors([targets])
            )
        by_name = dict(zip(net.trained, found, strict=False))
        weights = {
            t.name: net.to_array(by_name[t.name]).reshape(t.shape)
            for t in net.model.tensors
            if t.trainable
        }
        dx = input_gradients(net.model, list(map(net.to_array, found[count:])))
        return Gradients(float(value), weights, dx)

    def trace(self, net: KerasNetwork, batch: Batch) -> list[Array]:
        """Compute the output of every layer."""
        check_inputs(net.model, batch)
        network, training = net.every_layer, batch.training

        def outputs_of(trained: list[Any], held: list[Any], x: tuple[Any, ...]) -> Any:
            return network.stateless_call(trained, held, x, training=training)[0]

        with self._device(), net.with_masks(batch.active_masks):
            x = tuple(input_arrays(net.model, batch.x, self.dtype))
            outputs = BACKENDS[self.backend].compile_once(outputs_of)(*net.state_of(network), x)
        # With a single layer, Keras returns the output instead of a list.
        return [
            net.to_array(output) for output in (outputs if isinstance(outputs, list) else [outputs])
        ]

    def fit(
        self, net: KerasNetwork, samples: Samples, recipe: Recipe, plan: Plan
    ) -> Generator[Epoch]:
        """See `Engine.fit`. A non-finite loss is detected in the running mean of the epoch, whose
        value the error has."""
        from dlsys_bench.engines.keras.training import (
            GlobalRandomState,
            compile_network,
            global_random_state_kept,
            mixed_policy,
            take_copies,
        )

        self.check(recipe)
        check_targets(recipe.loss, samples.y, net.model.output_shape)
        x = tuple(input_arrays(net.model, samples.x, self.dtype))
        y = targets_of(recipe.loss, samples.y, net.model.output_shape, self.dtype)
        feed = BACKENDS[self.backend].feed
        # Keras draws nothing if a plan does, and TensorFlow prepares all operations anew when it is
        # seeded.
        active = global_random_state_kept if plan.parity else GlobalRandomState(plan.seed).active
        # Keras does not report its own order, which answers of unequal weights take.
        own_order = recipe.batch_sizes is None and not recipe.loss.is_weighted
        native = not plan.parity and own_order
        whole = native and not recipe.augment
        with self._device(), active():
            net.seed(plan.seed)
            few = BACKENDS[self.backend].few_updates if self._is_brief(net) else 0
            callback_of = compile_network(
                net, recipe, plan, len(y), self.dtype, few, self.steps_at_once
            )
            sizes = list(epoch_batch_sizes(len(y), recipe, plan))
            different = set(chain.from_iterable(sizes))
            work = sum(map(sum, sizes)), sum(map(len, sizes))
            if self.device == "cpu" and is_little(net.model, *work):
                net.network.compile_fast = BACKENDS[self.backend].compile_fast
            batches = feed(x, y, recipe.batch_size, shuffle=recipe.shuffle) if whole else {}
        trained: dict[str, Any] = {}
        for epoch in training_epochs(net.model, samples, recipe, plan):
            with self._device(), active(), net.with_masks(None):
                for name, values in trained.items():
                    net.tensors[name].assign(values)
                if not whole:
                    own = augment(samples.x, recipe, plan, epoch.number)
                    order = slice(None) if native else epoch.order()
                    size = recipe.batch_size if recipe.batch_sizes is None else epoch.sizes
                    x = tuple(each[order] for each in input_arrays(net.model, own, self.dtype))
                    batches = feed(x, y[order], size, shuffle=native and recipe.shuffle)
                # One call of `fit` per epoch: Keras keeps the compiled functions and the state of
                # the optimiser.
                callback = callback_of(net, epoch)
                if self.steps_at_once and sum(epoch.sizes) < len(y):
                    batches["x"] = batches["x"].take(len(epoch.sizes))
                numbers = {"initial_epoch": epoch.number - 1, "epochs": epoch.number}
                with mixed_policy(net, recipe.products), net.in_parts(recipe.accumulate, different):
                    net.network.fit(**batches, **numbers, verbose=0, callbacks=[callback])
                trained = callback.trained
                take_copies(net.tensors[name] for name in trained)
            yield callback.ended


class KerasJitEngine(KerasEngine):
    """Keras on TensorFlow, on the CPU, where XLA compiles the steps of native trainings
    (`jit_compile`), but not of networks with convolutions, which it makes slower, and a call
    executes many steps (`steps_per_execution`).

    With a plan, it is the engine `keras`. On a GPU, that one is compiled by XLA as well. A loss
    that is not finite is found at the end of an execution, which leaves no finite weights.
    """

    name = "keras-jit"
    devices = ("cpu",)
    steps_at_once = 500


class KerasJaxEngine(KerasEngine):
    """Keras on JAX, on the CPU or on CUDA, compiled as Keras does by default.

    There is no float64: on JAX, Keras accepts a float64 layer but computes much of it in float32
    (means, tanh, batch norm), even if JAX is set to 64 bits.
    """

    name = "keras-jax"
    lacks = LACKS
    dtypes = ("float32",)
    backend = "jax"
