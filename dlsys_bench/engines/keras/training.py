# mypy: disallow-subclassing-any=False
"""The arguments of keras's `compile` and `fit`. This module imports keras, so it is imported only
after an engine has started its backend."""

from __future__ import annotations

import contextlib
import math
import random
import sys
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from dlsys_bench.engines.epochs import EpochRun
from dlsys_bench.engines.keras.losses import accuracy_of, loss_of
from dlsys_bench.engines.keras.network import KerasNetwork, derive_seed
from dlsys_bench.engines.plan import Plan, count_steps
from dlsys_bench.errors import DivergedError
from dlsys_bench.spec import optimizers
from dlsys_bench.spec.clipping import Clip, ClipNorm, ClipValue
from dlsys_bench.spec.decay import WeightDecay
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
    return optimizer


def decaying_tensors(net: KerasNetwork, decay: WeightDecay | None) -> list[str]:
    """Return the names of the tensors that decay."""
    shapes = {name: net.tensors[name].shape for name in net.trained}
    return [name for name, shape in shapes.items() if decay and decay.applies(name, len(shape))]


def compile_network(
    net: KerasNetwork, recipe: Recipe, plan: Plan, samples: int, dtype: str
) -> None:
    """Compile the network for a training: its optimiser, loss and accuracy.

    A coupled weight decay is Keras's regulariser of each tensor that decays. The loss that Keras
    reports then contains the penalty, so the loss of the data is a metric beside it.
    """
    accuracy, loss = accuracy_of(recipe.loss, dtype), loss_of(recipe.loss, dtype)
    metrics, decay = [accuracy] if accuracy else [], recipe.optimizer.decay
    coupled = decay if decay is not None and decay.coupling == "coupled" else None
    decaying = decaying_tensors(net, coupled)
    for name in net.trained:
        penalty = Penalty(coupled.rate / 2) if coupled and name in decaying else None
        net.tensors[name].regularizer = penalty
    if coupled:
        metrics.append(DataLoss(loss, dtype))
    net.network.compile(
        optimizer_of(net, recipe, count_steps(samples, recipe, plan)),
        loss,
        metrics=metrics or None,
        # Masks that are given differ from step to step, and a compiled step would always use those
        # of the first.
        run_eagerly=plan.parity and bool(net.dropouts),
    )


DATA_LOSS = "data_loss"
"""The name of the metric of the loss without the penalty of a coupled weight decay."""


class DataLoss(keras.metrics.Mean):
    """The mean loss of the data so far, as Keras computes that of its losses."""

    def __init__(self, loss: Any, dtype: str) -> None:
        super().__init__(DATA_LOSS, dtype)
        self.loss = loss

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count the loss of a batch by its samples."""
        super().update_state(self.loss(y_true, y_pred), keras.ops.shape(y_pred)[0])


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


class EpochCallback(keras.callbacks.Callback):
    """Follows one epoch of Keras's `fit`: supplies the masks of each step in parity mode, ends the
    epoch with the last batch of the plan or with a loss that is not finite, and records the running
    figures."""

    # Keras then calls `on_train_batch_end` in a thread, as it does for its own progress bar, where
    # reading the loss from the device delays no step. One batch may end before the one before it.
    async_safe = True

    def __init__(self, net: KerasNetwork, epoch: EpochRun) -> None:
        super().__init__()
        self.net, self.epoch = net, epoch
        self.means: dict[int, float] = {}
        self.trained: dict[str, Any] = {}
        # Keras keeps learning rates in single precision.
        epoch.rates = [float(np.float32(rate)) for rate in epoch.rates]

    def _stop(self) -> None:
        # Not self.model: on JAX that property moves the weights back into the model, in the middle
        # of a step.
        self.net.network.stop_training = True

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start the clock when Keras has prepared the data and the functions."""
        self.epoch.start_clock()

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Set the masks; Keras looks at `stop_training` after the batch that now begins."""
        if self.epoch.plan.parity and self.net.dropouts:
            self.net.set_masks(self.epoch.masks(batch))
        cut_short = sum(self.epoch.sizes) < self.epoch.samples
        if cut_short and batch + 1 == len(self.epoch.sizes):
            self._stop()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Record the mean loss up to this batch, which is not finite from the first batch on whose
        loss is not."""
        self.means[batch] = float(_loss(logs))
        if not math.isfinite(self.means[batch]):
            self._stop()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Record the figures, all batches having ended. Raises DivergedError."""
        broken = [batch for batch, mean in self.means.items() if not math.isfinite(mean)]
        if broken:
            raise DivergedError(self.epoch.number, min(broken) + 1, self.means[min(broken)])
        losses = self._losses()
        mean = _loss(logs) if self.epoch.weights is None else self.epoch.mean_loss(losses).item()
        self.ended = self.epoch.end_with(mean, logs.get("accuracy"), losses)
        if self.epoch.recipe.average is not None:
            # After this, Keras puts the averages into the network.
            tensors = self.net.tensors
            self.trained = {name: keras.ops.copy(tensors[name]) for name in self.net.trained}

    def _losses(self) -> list[float]:
        """Return the loss of each batch, from the means over all batches up to it."""
        sizes = self.epoch.sizes
        sums = np.array([self.means[batch] for batch in range(len(sizes))]) * np.cumsum(sizes)
        losses: list[float] = (np.diff(sums, prepend=0.0) / sizes).tolist()
        return losses


def _loss(logs: Any) -> Any:
    """Return the mean loss of the data."""
    return logs.get(DATA_LOSS, logs["loss"])
