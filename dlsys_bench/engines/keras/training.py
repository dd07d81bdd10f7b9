# mypy: disallow-subclassing-any=False
"""What `compile` and `fit` are given. Imports keras: only an engine that has chosen its backend
imports this."""

from __future__ import annotations

import contextlib
import math
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.base import OnEpoch
from dlsys_bench.engines.epochs import Epoch, History
from dlsys_bench.engines.keras.network import Net, seed_of
from dlsys_bench.engines.plan import Plan, epochs_of
from dlsys_bench.errors import DivergedError
from dlsys_bench.spec import losses, optimizers
from dlsys_bench.spec.recipe import Recipe


class _OfRawOutputs:
    """Under TensorFlow, Keras looks behind an output that a softmax made and takes the
    cross-entropy of its input instead. A copy hides where the output came from, so that the loss is
    of what the network gives."""

    def call(self, y: Any, outputs: Any) -> Any:
        return super().call(y, keras.ops.copy(outputs))  # type: ignore[misc]


class CategoricalCrossentropy(_OfRawOutputs, keras.losses.CategoricalCrossentropy):
    """Keras's own, of the raw outputs."""


class SparseCategoricalCrossentropy(_OfRawOutputs, keras.losses.SparseCategoricalCrossentropy):
    """Keras's own, of the raw outputs."""


class HalfSquaredError(keras.losses.Loss):
    """Half the sum of the squares over a sample's outputs."""

    def call(self, y: Any, outputs: Any) -> Any:
        return (
            keras.ops.sum(keras.ops.square(outputs - y), axis=tuple(range(1, len(outputs.shape))))
            / 2
        )


class Margin(keras.losses.Loss):
    """max(0, margin - y output), y (N, 1): no slope where it just reaches zero, as relu has
    none."""

    def __init__(self, margin: float, dtype: str) -> None:
        super().__init__(dtype=dtype)
        self.margin = margin

    def call(self, y: Any, outputs: Any) -> Any:
        return keras.ops.relu(self.margin - y * outputs)[:, 0]


def _sign_accuracy(y: Any, outputs: Any) -> Any:
    return keras.ops.equal(y, keras.ops.sign(outputs))


# Losses and metrics compute in keras's floatx unless they are told their dtype.
LOSSES: dict[type[losses.Loss], Callable[[str], Any]] = {
    losses.CategoricalCrossEntropy: lambda dtype: CategoricalCrossentropy(
        from_logits=True, dtype=dtype
    ),
    losses.SparseCategoricalCrossEntropy: lambda dtype: SparseCategoricalCrossentropy(
        from_logits=True, dtype=dtype
    ),
    losses.MeanSquaredError: lambda dtype: keras.losses.MeanSquaredError(dtype=dtype),
    losses.HalfMeanSquaredError: lambda dtype: HalfSquaredError(dtype=dtype),
    losses.PerceptronCriterion: lambda dtype: Margin(0.0, dtype),
    losses.Hinge: lambda dtype: Margin(1.0, dtype),
}

ACCURACIES: dict[type[losses.Loss], Callable[[str], Any]] = {
    losses.CategoricalCrossEntropy: lambda dtype: keras.metrics.CategoricalAccuracy(
        "accuracy", dtype
    ),
    losses.SparseCategoricalCrossEntropy: lambda dtype: keras.metrics.SparseCategoricalAccuracy(
        "accuracy", dtype
    ),
    losses.PerceptronCriterion: lambda dtype: keras.metrics.MeanMetricWrapper(
        _sign_accuracy, "accuracy", dtype
    ),
    losses.Hinge: lambda dtype: keras.metrics.MeanMetricWrapper(_sign_accuracy, "accuracy", dtype),
}


class Table(keras.optimizers.schedules.LearningRateSchedule):
    """The rate of every step, looked up: Keras keeps rates in single precision."""

    def __init__(self, rates: list[float]) -> None:
        super().__init__()
        self.rates = np.array(rates, np.float32)

    def __call__(self, step: Any) -> Any:
        # Keras asks once more when the last step is done.
        step = keras.ops.minimum(keras.ops.cast(step, "int32"), len(self.rates) - 1)
        return keras.ops.take(keras.ops.convert_to_tensor(self.rates), step)

    def get_config(self) -> dict[str, Any]:
        """As Keras asks of a schedule."""
        return {"rates": self.rates.tolist()}


# A learning rate is a number or a schedule to Keras.
OPTIMIZERS: dict[type[optimizers.Optimizer], Callable[[Any, Any], Any]] = {
    optimizers.SGD: lambda record, rate: keras.optimizers.SGD(
        rate, momentum=record.momentum, nesterov=record.nesterov
    ),
    optimizers.Adam: lambda record, rate: keras.optimizers.Adam(
        rate, record.beta_1, record.beta_2, record.epsilon
    ),
    optimizers.RMSprop: lambda record, rate: keras.optimizers.RMSprop(
        rate, record.rho, epsilon=record.epsilon
    ),
}


def optimizer_of(recipe: Recipe, steps: int) -> Any:
    """Keras's optimiser, at the recipe's rate for so many steps."""
    record = recipe.optimizer
    rate = (
        record.learning_rate
        if recipe.schedule is None
        else Table([recipe.rate(step) for step in range(steps)])
    )
    return OPTIMIZERS[type(record)](record, rate)


def targets(loss: losses.Loss, y: NDArray[Any], outputs: int, dtype: str) -> NDArray[Any]:
    """Y (N,) or (N, K) as the native loss takes it: one-hot (N, K), labels (N,), signs (N, 1) or
    values (N, K)."""
    if isinstance(loss, losses.CategoricalCrossEntropy):
        return np.asarray(keras.utils.to_categorical(y, outputs), dtype)
    if loss.targets == "labels":
        return np.asarray(y, "int32")
    return np.asarray(y[:, None] if loss.targets == "signs" else y, dtype)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """keras.utils.set_random_seed, with Python's and numpy's generators put back afterwards."""
    # The global generators, because those are what Keras seeds and draws from.
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    keras.utils.set_random_seed(seed_of(seed))
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002


class Watch(keras.callbacks.Callback):
    """Counts the updates and ends the training at the last, keeps the running figures, and finds a
    loss that is not finite. In parity mode it hands out the masks of each step."""

    # Keras then reads the losses off the device in threads, as it does for its own progress bar,
    # and no step waits. One batch may end before the one before it.
    async_safe = True

    def __init__(
        self, net: Net, samples: int, recipe: Recipe, plan: Plan, on_epoch: OnEpoch | None
    ) -> None:
        super().__init__()
        self.net, self.recipe, self.plan, self.on_epoch = net, recipe, plan, on_epoch
        self.sizes = list(epochs_of(samples, recipe, plan))
        self.last = sum(map(len, self.sizes))
        self.step = 0
        self.epoch = 0
        self.means: dict[int, float] = {}
        self.history: History = []
        self.broken: dict[int, float] = {}
        self.started = 0.0

    @property
    def finished(self) -> bool:
        return self.step >= self.last

    def _stop(self) -> None:
        # Not self.model: on JAX that property moves the weights back into the model, in the middle
        # of a step.
        self.net.sequential.stop_training = True

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.started = time.perf_counter()
        self.epoch = epoch
        self.means = {}

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if self.plan.parity and self.net.dropouts:
            self.net.keep(self.plan.masks(self.net.model, self.step, self.sizes[self.epoch][batch]))
        self.step += 1
        if self.finished:
            self._stop()  # Keras looks after the batch that now begins.

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        # The running mean is not finite from the first batch on whose loss is not.
        if not math.isfinite(logs["loss"]):
            self.broken[batch] = logs["loss"]
            self._stop()
        if self.recipe.moves:
            self.means[batch] = float(logs["loss"])

    def _by_step(self) -> dict[str, list[float]] | None:
        """A step's loss follows from the running means, which are all that Keras tells."""
        if not self.recipe.moves:
            return None
        sizes = self.sizes[self.epoch]
        sums = np.array([self.means[batch] for batch in range(len(sizes))]) * np.cumsum(sizes)
        first = self.step - len(sizes)
        rates = [float(np.float32(self.recipe.rate(step))) for step in range(first, self.step)]
        losses = np.diff(sums, prepend=0.0) / sizes
        return {
            "learning_rate": rates,
            "batch_size": [float(n) for n in sizes],
            "loss": losses.tolist(),
        }

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        seconds = time.perf_counter() - self.started
        if self.broken:
            first = min(self.broken)
            raise DivergedError(epoch + 1, first + 1, self.broken[first])
        record = Epoch(
            epoch + 1,
            self.step,
            seconds,
            logs["loss"],
            logs.get("accuracy"),
            by_step=self._by_step(),
        )
        self.history.append(record)
        if self.on_epoch is not None:
            self.on_epoch(record)
