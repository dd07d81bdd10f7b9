# mypy: disallow-subclassing-any=False
"""The arguments of keras's `compile` and `fit`. This module imports keras, so it is imported only
after an engine has started its backend."""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import keras
import numpy as np

from dlsys_bench.engines.epochs import EpochRun
from dlsys_bench.engines.keras.callbacks import (
    DataLoss,
    EpochCallback,
    ExecutionCallback,
    LossRecord,
)
from dlsys_bench.engines.keras.losses import accuracy_of, loss_of
from dlsys_bench.engines.keras.network import KerasNetwork, derive_seed
from dlsys_bench.engines.plan import Plan, count_steps, epoch_batch_sizes
from dlsys_bench.spec import optimizers
from dlsys_bench.spec.clipping import Clip, ClipNorm, ClipValue
from dlsys_bench.spec.decay import WeightDecay
from dlsys_bench.spec.layers import Convolution, Dense, MultiHeadAttention
from dlsys_bench.spec.loss_scale import LARGEST, SMALLEST
from dlsys_bench.spec.recipe import Recipe


class RateTable(keras.optimizers.schedules.LearningRateSchedule):
    """A table of the learning rates of all steps. Keras keeps rates in single precision."""

    def __init__(self, rates: list[float]) -> None:
        super().__init__()
        self.rates = np.array(rates, np.float32)

    def __call__(self, step: Any) -> Any:
        """Return the rate of a step."""
        # Keras asks once more after the last step.
        step = keras.ops.minimum(keras.ops.cast(step, "int32"), len(self.rates) - 1)
        return keras.ops.take(keras.ops.convert_to_tensor(self.rates), step)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments, as Keras requires of a schedule."""
        return {"rates": self.rates.tolist()}


# Keras takes a number or a schedule as learning rate. The options are those of every optimiser.
OPTIMIZERS: dict[type[optimizers.Optimizer], Callable[..., Any]] = {
    optimizers.SGD: lambda record, rate, **options: keras.optimizers.SGD(
        rate, momentum=record.momentum, nesterov=record.nesterov, **options
    ),
    optimizers.Adam: lambda record, rate, **options: keras.optimizers.Adam(
        rate, record.beta_1, record.beta_2, record.epsilon, **options
    ),
    optimizers.RMSprop: lambda record, rate, **options: keras.optimizers.RMSprop(
        rate, record.rho, epsilon=record.epsilon, **options
    ),
}


class Penalty(keras.regularizers.L2):
    """Keras's L2 penalty, in the dtype in which Keras adds the losses of a network. The gradient
    keeps the dtype of the tensor."""

    def __call__(self, tensor: Any) -> Any:
        """Compute the penalty of a tensor."""
        return keras.ops.cast(super().__call__(tensor), keras.config.floatx())


class BoundedLossScale(keras.optimizers.LossScaleOptimizer):
    """Keras's loss scaling within the bounds of `LossScale`. A scale that falls below them becomes
    NaN, under which no update follows; the callback raises the error. `updates` counts all updates
    up to that one."""

    def build(self, variables: Any) -> None:
        """Create the state."""
        self.updates = self.add_variable((), "zeros", "int32", name="updates")
        super().build(variables)

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """Make an update."""
        super().apply(grads, trainable_variables)
        self.updates.assign(_counted(self.updates, self.dynamic_scale))
        self.dynamic_scale.assign(_bounded(self.dynamic_scale))

    def stateless_apply(
        self, optimizer_variables: Any, grads: Any, trainable_variables: Any
    ) -> tuple[Any, Any]:
        """Make an update on JAX."""
        state = optimizer_variables, grads, trainable_variables
        trained, found = super().stateless_apply(*state)
        places = {id(own): place for place, own in enumerate(self.variables)}
        updates, scale = places[id(self.updates)], places[id(self.dynamic_scale)]
        found[updates] = _counted(found[updates], found[scale])
        found[scale] = _bounded(found[scale])
        return trained, found


def _counted(updates: Any, scale: Any) -> Any:
    """Return a number of updates with one more, unless the scale has fallen before it."""
    return keras.ops.where(keras.ops.isnan(scale), updates, updates + 1)


def _bounded(scale: Any) -> Any:
    scale = keras.ops.convert_to_tensor(scale)
    fell = keras.ops.less(scale, SMALLEST)
    return keras.ops.where(fell, np.float32(np.nan), keras.ops.minimum(scale, LARGEST))


CLIPS: dict[type[Clip], Callable[[Any], dict[str, float]]] = {
    ClipNorm: lambda clip: {"global_clipnorm": clip.limit},
    ClipValue: lambda clip: {"clipvalue": clip.limit},
}
"""The option of Keras's optimisers for each clipping."""


def optimizer_of(net: KerasNetwork, recipe: Recipe, steps: int) -> Any:
    """Create Keras's optimiser, with the learning rates of all steps of a training."""
    record, options = recipe.optimizer, dict[str, Any]()
    rate = (
        record.learning_rate
        if recipe.schedule is None
        else RateTable([recipe.rate(step) for step in range(steps)])
    )
    if record.decay is not None and record.decay.coupling == "decoupled":
        options["weight_decay"] = record.decay.rate
    if recipe.clip is not None:
        options |= CLIPS[type(recipe.clip)](recipe.clip)
    if recipe.average is not None:
        options |= {"use_ema": True, "ema_momentum": recipe.average.decay}
    optimizer = OPTIMIZERS[type(record)](record, rate, **options)
    if "weight_decay" in options:
        decaying = decaying_tensors(net, record.decay)
        others = [net.tensors[name] for name in net.trained if name not in decaying]
        optimizer.exclude_from_weight_decay(var_list=others)
    if recipe.loss_scale is None:
        return optimizer
    scale = recipe.loss_scale
    return BoundedLossScale(optimizer, scale.initial, scale.interval)


def decaying_tensors(net: KerasNetwork, decay: WeightDecay | None) -> list[str]:
    """Return the names of the tensors that decay."""
    # Of the shapes of the model: Keras's biases of attention have an axis for the heads.
    trainable = (tensor for tensor in net.model.tensors if tensor.trainable)
    return [each.name for each in trainable if decay and decay.applies(each.name, len(each.shape))]


def compile_network(
    net: KerasNetwork,
    recipe: Recipe,
    plan: Plan,
    samples: int,
    dtype: str,
    few_updates: int,
    steps_at_once: int | None = None,
) -> Callable[[KerasNetwork, EpochRun], EpochCallback]:
    """Compile the network for a training: its optimiser, loss and accuracy. Returns what creates
    the callback of an epoch.

    A coupled weight decay is Keras's regulariser of each tensor that decays. The loss that Keras
    reports then contains the penalty, so the loss of the data is a metric beside it. A training
    with a plan of up to `few_updates` is not compiled. With `steps_at_once`, each call executes as
    many steps of a native training, compiled by XLA where that is faster.
    """
    accuracy, loss = accuracy_of(recipe.loss, dtype), loss_of(recipe.loss, dtype)
    metrics, decay = [accuracy] if accuracy else [], recipe.optimizer.decay
    coupled = decay if decay is not None and decay.coupling == "coupled" else None
    decaying = decaying_tensors(net, coupled)
    for name in net.trained:
        penalty = Penalty(coupled.rate / 2) if coupled and name in decaying else None
        net.tensors[name].regularizer = penalty
    options: dict[str, Any] = {}
    callback: Callable[[KerasNetwork, EpochRun], EpochCallback] = EpochCallback
    # Between two steps of an execution, no update is known to have been skipped.
    skips = recipe.loss_scale is not None and recipe.schedule is not None
    if steps_at_once is not None and not plan.parity and not skips:
        most = max(map(len, epoch_batch_sizes(samples, recipe, plan)))
        options = {"steps_per_execution": min(most, steps_at_once)}
        # On a CPU, XLA makes the gradients of convolutions slower: a step of ResNet-20 takes 2.5
        # times as long.
        options["jit_compile"] = not any(
            isinstance(layer, Convolution) for layer in net.model.layers
        )
        metrics.append(step_losses := LossRecord(loss, dtype, most))
        callback = partial(ExecutionCallback, step_losses)
    elif coupled:
        metrics.append(DataLoss(loss, dtype))
    if recipe.accumulate is not None and keras.config.backend() == "tensorflow":
        # In TensorFlow, XLA compiles no parts whose sizes depend on that of a batch.
        options["jit_compile"] = False
    steps = count_steps(samples, recipe, plan)
    net.network.compile_fast = None
    net.network.compile(
        optimizer_of(net, recipe, steps),
        loss,
        metrics=metrics or None,
        # Masks that are given differ from step to step, and a compiled step would always use those
        # of the first. Native trainings are compiled as Keras does by default.
        run_eagerly=plan.parity and (steps <= few_updates or bool(net.dropouts)),
        **options,
    )
    # TensorFlow traces a step once more if the first trace creates variables.
    net.network.optimizer.build(net.network.trainable_variables)
    return callback


def take_copies(variables: Iterable[Any]) -> None:
    """Give variables arrays of their own.

    At the end of an epoch, Keras's optimiser puts its averages into the network. On JAX, these are
    then the same arrays, which a prediction takes over, so that the next step has none (Keras
    3.15).
    """
    for variable in variables:
        variable.assign(keras.ops.copy(variable))


OF_PRODUCTS = (Dense, Convolution, MultiHeadAttention)
"""The layers whose products `Recipe.products` rounds."""


@contextlib.contextmanager
def mixed_policy(net: KerasNetwork, products: str | None) -> Iterator[None]:
    """Compute dense layers, convolutions and attention by Keras's policy of mixed precision inside,
    in this format if it is one, and all else in the dtype of the network."""
    layers = [
        inner
        for row, layer in zip(net.model.table, net.layers, strict=True)
        if products is not None and isinstance(row.layer, OF_PRODUCTS)
        for inner in layer._flatten_layers()
    ]
    before = [layer.dtype_policy for layer in layers]
    for layer in layers:
        layer.dtype_policy = f"mixed_{products}"
    try:
        yield
    finally:
        for layer, policy in zip(layers, before, strict=True):
            layer.dtype_policy = policy


class GlobalRandomState:
    """The state of the global generators of Python, numpy and TensorFlow that belongs to one
    training.

    Keras seeds these generators and draws from them. While a training is `active` they have the
    state of the training; afterwards they have their former state again, and the training keeps its
    own for the next epoch. Keras's own global SeedGenerator, which nothing here uses, is not
    restored: Keras creates another one.
    """

    def __init__(self, seed: int) -> None:
        self.seed = derive_seed(seed)
        self.states: tuple[Any, ...] | None = None

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Let Keras draw from this state."""
        with global_random_state_kept():
            if self.states is None:
                keras.utils.set_random_seed(self.seed)
            else:
                _set_global_states(self.states)
            try:
                yield
            finally:
                self.states = _global_states()


@contextlib.contextmanager
def global_random_state_kept() -> Iterator[None]:
    """Restore the state of the global generators afterwards."""
    before = _global_states()
    try:
        yield
    finally:
        _set_global_states(before)


def _tensorflow_context() -> Any:
    """Return TensorFlow's eager context, None if TensorFlow is not imported. Keras seeds TensorFlow
    on every backend. TensorFlow has no public function that returns its global seed."""
    module = sys.modules.get("tensorflow.python.eager.context")
    return None if module is None else module.context()


def _global_states() -> tuple[Any, ...]:
    context = _tensorflow_context()
    # TensorFlow creates another generator when a seed is set: this one does not advance meanwhile.
    seed = getattr(context, "_seed", None), getattr(context, "_rng", None)
    return random.getstate(), np.random.get_state(), seed  # noqa: NPY002


def _set_global_states(states: tuple[Any, ...]) -> None:
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    if (context := _tensorflow_context()) is not None:
        context._seed, context._rng = states[2]
