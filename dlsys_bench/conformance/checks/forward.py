"""The output of every layer, in training and in inference, against its definition."""

from __future__ import annotations

from functools import partial

import numpy as np

from dlsys_bench.conformance.check import check, check_each
from dlsys_bench.conformance.checks.evidence import with_snippet
from dlsys_bench.conformance.checks.subjects import (
    SUBJECTS,
    LayerSubject,
    networks,
    requires,
    single_layers,
)
from dlsys_bench.conformance.checks.support import (
    example_loss,
    needed_layers,
    trainable,
)
from dlsys_bench.conformance.finding import Fault, broken
from dlsys_bench.conformance.oracle import Oracle
from dlsys_bench.conformance.strategies import Example, nonzero_weights, targets
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.engines.base import Batch
from dlsys_bench.engines.plan import Array, Plan, Weights
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.layers import (
    LAYERS,
    Activation,
    AveragePool,
    BatchNorm,
    Conv2D,
    Dense,
    Flatten,
    Layer,
)
from dlsys_bench.spec.losses import CategoricalCrossEntropy
from dlsys_bench.spec.model import Model

PREDICTION = "the prediction"


def compare(trial: Trial, example: Example) -> None:
    """Compare the output of every layer, from the first on, and then the prediction."""
    engine, model, batch = trial.engine, example.model, example.batch

    def compute(oracle: Oracle) -> dict[str, Array]:
        network = oracle.build(model, example.weights)
        outputs = dict(zip(model.names, oracle.trace(network, batch), strict=True))
        return {**outputs, PREDICTION: oracle.predict(network, batch.x)}

    network, expected = engine.build(model, example.weights), trial.expect(compute)
    for name, actual in zip(model.names, engine.trace(network, batch), strict=True):
        with with_snippet(example, {f"output of {name}": expected.values[name]}):
            expected.check(name, actual, f"the output of {name}", layer=name)
    expected.check(PREDICTION, engine.predict(network, batch.x), PREDICTION)
    expected.reject_unless_sharp()


@check_each("forward", SUBJECTS, requires=requires)
def forward(trial: Trial, subject: LayerSubject) -> None:
    """The output of one layer.

    Why: Everything above rests on the output of each layer, with every option, in training and in
    inference.
    Broken by: An engine that forgets an option of {subject}, such as its padding, its strides or
    its epsilon.
    Fix: Evaluate the example by hand from the definition, and compare the intermediate values.
    """
    trial.search(single_layers(trial, subject), lambda example: compare(trial, example))


@check("forward", "network", requires=["layer:dense"])
def network(trial: Trial) -> None:
    """Networks of up to six layers.

    Why: Layers that are right alone may not fit together: layouts, shapes and modes meet.
    Broken by: An engine that flattens images channel first, or that leaves a buffer of one layer to
    the next.
    Fix: The finding names the first layer whose output differs: look at what it gets from the one
    below.
    """
    trial.search(networks(trial), lambda example: compare(trial, example))


FIRST = "the output of the first layer"


def _first_output(
    oracle: Oracle, *, model: Model, weights: Weights, batch: Batch
) -> dict[str, Array]:
    return {FIRST: oracle.trace(oracle.build(model, weights), batch)[0]}


FAR = np.array(
    [
        [
            [-1000.0, -80.0, 0.0, 80.0, 1000.0],
            [1.0, 1000.0, 999.0, -1000.0, 1000.0],
            [-3.0, -2.0, -1.0, 0.0, 1.0],
        ],
        [[4.0, -6.0, 9.0, -10.5, 12.0], [0.0, 6.0, -9.0, 10.5, -12.0], [8.5, -4.0, -8.5, 7.0, 2.0]],
        [[16.0, -16.0, 0.0, 4.0, -4.0], [-20.0, 20.0, 1.0, 5.0, 6.0], [25.0, -25.0, 9.0, 14.0, 18]],
    ]
)
"""Batches of large inputs, compared separately, since the errors of one are relative to its largest
value. A batch has rows of unlike sizes: the largest value of all leaves nothing of small ones."""


@check("forward", "far", requires=["layer:activation"])
def far(trial: Trial) -> None:
    """Activations of large inputs, from 4 to 25 and up to 1,000, whose exponential overflows: the
    output is right and the gradient is finite.

    Why: Large values occur in diverging and in untrained networks; an overflow turns all weights
    into NaN.
    Broken by: An engine that computes a sigmoid or a softmax from exponentials that overflow, or
    that takes a sigmoid for one from 8 on.
    Fix: Subtract the largest value of each row before the exponential of a softmax; use the stable
    form of a sigmoid.
    """
    for function in trial.functions:
        layers = (Activation(function), Dense(2))
        loss, model = example_loss(trial), trainable(trial, Model("far", (5,), layers))
        weights = nonzero_weights(model, trial.seed)
        y = targets(loss, 2, len(FAR[0]), np.random.default_rng(trial.seed))
        network = trial.engine.build(model, weights)
        for x in FAR:
            batch = Batch(x, y)
            compute = partial(_first_output, model=model, weights=weights, batch=batch)
            actual = trial.engine.trace(network, batch)[0]
            what = f"{function} of large inputs"
            trial.expect(compute).check(FIRST, actual, what, layer="activation_1")
            dx = trial.engine.gradients(network, batch, loss).x
            assert dx is not None
            _require_finite(dx, f"the gradient of {function} at large inputs")


def _require_finite(values: Array, what: str) -> None:
    if not (finite := np.isfinite(values)).all():
        found = {"actual": f"{values[~finite][0]}", "expected": "finite"}
        raise broken(Fault.NOT_FINITE, what, **found, layer="activation_1")


FAR_NORMS = {f"{kind}-far": record.of() for kind, record in LAYERS.items() if record.normalizes}
"""Every layer that normalises, by the subject of its check."""


@check_each("forward", FAR_NORMS, requires=lambda layer: [f"layer:{layer.kind}"])
def norm_far_from_zero(trial: Trial, layer: Layer) -> None:
    """A normalisation of values around 300: a variance that is computed as the mean of squares less
    the square of the mean loses its digits there.

    Why: Features far from zero are common, and a careless formula for the variance loses all its
    digits there.
    Broken by: An engine that computes the variance as the mean of squares less the square of the
    mean.
    Fix: Subtract the mean before squaring.
    """
    model = to_convention(trial.convention, Model("far", (4,), (layer, Dense(1))))
    weights = nonzero_weights(model, trial.seed)
    x = np.float32(300.0) + trial.generator.standard_normal((64, 4)).astype("float32")
    batch = Batch(x, np.zeros((64, 1)), training=True)
    expected = trial.expect(partial(_first_output, model=model, weights=weights, batch=batch))
    actual = trial.engine.trace(trial.engine.build(model, weights), batch)[0]
    expected.check(FIRST, actual, f"{layer.kind} of values around 300", layer=model.names[0])


def _convolution(filters: int, padding: str = "valid") -> tuple[Layer, ...]:
    convolution = Conv2D.of(filters=filters, kernel_size=5, padding=padding)
    return convolution, Activation("tanh"), BatchNorm()


LENET5 = Model(
    "lenet5",
    (28, 28, 1),
    (
        BatchNorm(),
        *_convolution(6, "same"),
        AveragePool(),
        *_convolution(16),
        AveragePool(),
        *_convolution(120),
        Flatten(),
        Dense(84),
        Activation("tanh"),
        BatchNorm(),
        Dense(10),
    ),
)
"""LeNet-5 with tanh and a batch norm after every activation and on the input."""


@check("forward", "lenet5", requires=needed_layers(LENET5))
def lenet5(trial: Trial) -> None:
    """A network of realistic size, on more images than drawn examples have.

    Why: Small examples do not fill the blocks and caches for which engines have separate code.
    Broken by: An engine that handles the last images of a batch, or a fifth block of channels,
    wrongly.
    Fix: Vary the number of images and channels until the difference appears.
    """
    compare(trial, lenet5_example(trial))


def lenet5_example(trial: Trial) -> Example:
    """Return LeNet-5 with a batch of 12 random images."""
    loss = example_loss(trial, CategoricalCrossEntropy())
    model = trainable(trial, LENET5, loss)
    x = trial.generator.random((12, *model.input_shape))
    y = targets(loss, 10, 12, trial.generator)
    batch = Batch(x, y, Plan(trial.seed).masks(model, 0, 12), training=True)
    weights = nonzero_weights(model, trial.seed)
    return Example(model, weights, batch, loss, trial.seed)
