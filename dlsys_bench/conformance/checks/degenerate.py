"""The smallest legal case of each formula: one sample, unit, class, channel, pixel or window.

Where a formula is not defined, as the unbiased variance of one value, an engine rejects the
training by a UserError before anything has moved. Everywhere else, every tensor is finite and equal
to the oracle's: the weights, the moving statistics and, through a second step, the state of the
optimiser.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.conformance import strategies
from dlsys_bench.conformance.blocks import TENSOR_AXES, finite_in_blocks
from dlsys_bench.conformance.check import check_each
from dlsys_bench.conformance.checks.forward import compare as compare_outputs
from dlsys_bench.conformance.checks.gradient import compare as compare_gradients
from dlsys_bench.conformance.checks.networks import optimizer_with_state, smooth
from dlsys_bench.conformance.checks.sizes import grid_inputs
from dlsys_bench.conformance.checks.support import example_loss, trainable
from dlsys_bench.conformance.checks.training import (
    allowing_conventions,
    differing,
    plans,
)
from dlsys_bench.conformance.expectation import SHARP_TRAINING, magnitude
from dlsys_bench.conformance.finding import BrokenError, Fault, broken
from dlsys_bench.conformance.strategies import Example
from dlsys_bench.conformance.training_case import TrainingCase
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.data import Samples
from dlsys_bench.engines.base import Batch
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.plan import Array, Plan, require_samples
from dlsys_bench.errors import BatchError, UserError, count_of
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.graph import parallel, serial
from dlsys_bench.spec.layers import (
    Activation,
    Add,
    AveragePool,
    BatchNorm,
    Concat,
    Conv1D,
    Conv2D,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    Layer,
    MaxPool,
    MultiHeadAttention,
    PositionEmbedding,
    Shape,
    SpatialDropout,
    ValueKind,
)
from dlsys_bench.spec.losses import LOSSES, Loss
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe


class Smallest(NamedTuple):
    """A network, its input, the number of samples and the batch size."""

    input_shape: Shape
    layers: tuple[Layer, ...]
    samples: int = 4
    batch_size: int = 2
    input_dtype: ValueKind = "float"

    @property
    def model(self) -> Model:
        """The model."""
        return Model("smallest", self.input_shape, self.layers, None, self.input_dtype)

    @property
    def requires(self) -> list[str]:
        """The layers and functions of the case."""
        layers = self.model.layers
        functions = [x.function for x in layers if isinstance(x, Activation)]
        needed = [f"layer:{name}" for x in layers for name in x.needs]
        return [*needed, *(f"function:{x}" for x in functions)]


PIXEL = (Conv2D(2, (1, 1)), Conv2D(2, (3, 3), padding="same"), Flatten(), Dense(2))

TWICE = parallel(serial(), serial(), join=Add())
THRICE = parallel(Dense(1), serial(), serial(), join=Concat())
TO_CONTEXT = MultiHeadAttention(2, context=True)

SMALLEST: dict[str, Smallest] = {
    "one-sample": Smallest((3,), (Dense(2), Dense(2)), samples=1, batch_size=1),
    "last-sample": Smallest((3,), (Dense(2), Dense(2)), samples=5, batch_size=4),
    "one-unit": Smallest((1,), (Dense(1), Dense(1))),
    "one-unit-of-softmax": Smallest((3,), (Dense(1), Activation("softmax"), Dense(1))),
    "no-dropout": Smallest((3,), (Dropout(0.0), Dense(2))),
    "conv2d-of-one-channel": Smallest((4, 4, 1), (Conv2D(1, (2, 2)), Flatten(), Dense(1))),
    "conv2d-of-one-pixel": Smallest((1, 1, 2), PIXEL),
    "max_pool-of-one-pixel": Smallest((1, 1, 2), (MaxPool((1, 1)), Flatten(), Dense(2))),
    "average_pool-of-one-pixel": Smallest((1, 1, 2), (AveragePool((1, 1)), Flatten(), Dense(2))),
    "conv2d-of-one-window": Smallest((4, 3, 2), (Conv2D(2, (4, 3)), Flatten(), Dense(2))),
    "max_pool-of-one-window": Smallest((4, 3, 2), (MaxPool((4, 3)), Flatten(), Dense(2))),
    "average_pool-of-one-window": Smallest((4, 3, 2), (AveragePool((4, 3)), Flatten(), Dense(2))),
    "conv2d-of-wide-strides": Smallest((3, 2, 2), (Conv2D(2, (1, 1), (5, 5)), Flatten(), Dense(2))),
    "batch_norm-of-two": Smallest((3,), (BatchNorm(), Dense(2))),
    "batch_norm-of-one": Smallest((3,), (BatchNorm(), Dense(2)), samples=2, batch_size=1),
    "batch_norm-of-a-last-one": Smallest((3,), (BatchNorm(), Dense(2)), samples=5, batch_size=4),
    "batch_norm-of-one-image": Smallest((2, 1, 2), (BatchNorm(), Flatten(), Dense(2)), 1, 1),
    "batch_norm-of-one-pixel": Smallest((1, 1, 2), (BatchNorm(), Flatten(), Dense(2)), 3, 2),
    "add-of-one-value-twice": Smallest((1,), (TWICE, Dense(1), TWICE)),
    "add-of-the-input": Smallest((2,), (parallel(serial(), Dense(2), join=Add()), Dense(1))),
    "embedding-of-one-token": Smallest(
        (1,), (Embedding(1, 1), Flatten(), Dense(2)), input_dtype="int"
    ),
    "multi_head_attention-of-one-token": Smallest(
        (1, 2), (MultiHeadAttention(2), Flatten(), Dense(1))
    ),
    "causal_attention-of-one-channel": Smallest(
        (3, 1), (MultiHeadAttention(1, causal=True), Flatten(), Dense(1))
    ),
    "cross_attention-of-one-token": Smallest(
        (1, 2), (parallel(serial(), Dense(1), join=TO_CONTEXT), Flatten(), Dense(1))
    ),
    "position_embedding-of-one-position": Smallest(
        (1, 1), (PositionEmbedding(1), Flatten(), Dense(1))
    ),
    "conv1d-of-one-position": Smallest((1, 1), (Conv1D(1, 3, padding="same"), Flatten(), Dense(1))),
    "grouped_conv2d-of-one-pixel": Smallest(
        (1, 1, 2), (Conv2D(2, (1, 1), groups=2), Flatten(), Dense(1))
    ),
    "dilated_conv2d-of-one-window": Smallest(
        (3, 3, 1), (Conv2D(2, (2, 2), dilation=(2, 2)), Flatten(), Dense(1))
    ),
    "spatial_dropout-of-one-pixel": Smallest((1, 1, 2), (SpatialDropout(0.0), Flatten(), Dense(1))),
    "concat-of-one-value-thrice": Smallest((1,), (Dense(1), THRICE, Dense(1))),
}
"""The smallest cases of the layers, and of batches, by the subject of their checks."""


@check_each("gradient", SMALLEST, requires=lambda case: case.requires, prefix="smallest-")
def gradient(trial: Trial, case: Smallest) -> None:
    """The outputs and the gradients of the smallest case {subject}.

    Why: Formulas and reshapes meet their limits where an axis has the length one.
    Broken by: An engine that squeezes axes of length one, or divides by one less than a count.
    Fix: Name the axes that are summed or removed, instead of all that have the length one.
    """
    loss, samples = example_loss(trial), case.samples % case.batch_size or case.batch_size
    for convention in trial.engine.conventions:
        model = to_convention(convention, trainable(trial, case.model, loss))
        x, y = _data(trial, model, loss, samples)
        masks = Plan(trial.seed).masks(model, 0, samples)
        weights = strategies.nonzero_weights(model, trial.seed)
        batch = Batch(x, y, masks, training=_is_defined(model, samples))
        example = Example(model, weights, batch, loss, trial.seed)
        compare_outputs(trial, example)
        compare_gradients(trial, example)


def _data(trial: Trial, model: Model, loss: Loss, samples: int) -> tuple[Array, NDArray[Any]]:
    """Return inputs that no rounding moves across a kink, and targets."""
    generator = np.random.default_rng((trial.seed, 7))
    x = grid_inputs(model, samples, generator)
    return x, strategies.targets(loss, model.output_shape[0], samples, generator)


def _is_defined(model: Model, samples: int) -> bool:
    try:
        require_samples(model, samples, "")
    except BatchError:
        return False
    return True


@check_each("state", SMALLEST, requires=lambda case: case.requires, prefix="smallest-")
def state(trial: Trial, case: Smallest) -> None:
    """The tensors after two epochs of the smallest case {subject}, or its rejection by a UserError.

    Why: A formula that is not defined leaves NaN in a moving statistic or in the state of an
    optimiser, which the loss shows much later or never.
    Broken by: An engine that divides the variance of a batch by n - 1, where n is one.
    Fix: Compute the limit, or raise a UserError that names the layer before anything is trained;
    `engines.epochs.training_epochs` does that for a batch that has no unbiased variance.
    """
    _compare_training(trial, case, example_loss(trial))


@check_each("state", LOSSES, requires=lambda record: [f"loss:{record.kind}"], prefix="one-output-")
def losses(trial: Trial, record: type[Loss]) -> None:
    """The tensors after a training with one output: for a loss of labels, one class.

    Why: With one output, the axis of the outputs has the length one, and one class has no others.
    Broken by: An engine that squeezes the outputs, so that outputs and targets are broadcast
    against each other in {subject}.
    Fix: Keep the shape (N, 1) of the outputs, and compare it with that of the targets.
    """
    _compare_training(trial, Smallest((3,), (Dense(1),), samples=3), record.of())


def _compare_training(trial: Trial, case: Smallest, loss: Loss) -> None:
    optimizer = smooth(optimizer_with_state(trial))
    drawn = trainable(trial, case.model, loss)
    samples = Samples(*_data(trial, drawn, loss, case.samples))
    recipe = Recipe(optimizer, batch_size=case.batch_size, epochs=2, shuffle=False, loss=loss)
    for convention in allowing_conventions(trial, optimizer):
        model = to_convention(convention, drawn)
        weights = strategies.nonzero_weights(model, trial.seed)
        # A native training, which is what users run, if the engine has it.
        plan, own = plans(trial)[-1], to_convention(convention, recipe)
        _compare(trial, TrainingCase(model, weights, samples, own, plan))


def _compare(trial: Trial, training: TrainingCase) -> None:
    """Compare every tensor after a training, unless the engine rejects it before it moves one."""
    model, weights, samples, recipe, plan = training
    network = trial.engine.build(model, weights)
    before = trial.engine.weights(network)
    size = f"{count_of(len(samples.x), 'sample')} in batches of {recipe.batch_size}"
    try:
        train(trial.engine, network, samples, recipe, plan)
    except BrokenError as error:
        if not isinstance(error.__cause__, UserError):
            raise
        for name in differing(before, trial.engine.weights(network)):
            what = f"fit moved {name} before it rejected {size}"
            raise broken(Fault.SIDE_EFFECT, what, tensor=name) from None
        return
    actual = trial.engine.weights(network)
    for name, values in actual.items():
        axes = TENSOR_AXES[values.ndim]
        what = f"{name} after {size}, which fit neither computes nor rejects by a UserError"
        finite_in_blocks(what, values, axes, tensor=name)

    def moved(values: Mapping[str, Array]) -> dict[str, float]:
        change = magnitude(*(values[name] - weights[name] for name in values))
        return dict.fromkeys(values, change)

    expected = trial.expect(training.run, moved, sharp=SHARP_TRAINING)
    for name in expected.values:
        where = {"layer": name.partition(".")[0], "tensor": name}
        expected.check(name, actual[name], f"{name} after {size}", **where)
