"""The output of every layer, in training and in inference, against its definition."""

from __future__ import annotations

import numpy as np

from dlsys_bench.conformance.check import check, check_each
from dlsys_bench.conformance.checks.evidence import with_snippet
from dlsys_bench.conformance.checks.subjects import (
    SUBJECTS,
    LayerSubject,
    magnitude,
    networks,
    requires,
    single_layers,
)
from dlsys_bench.conformance.checks.support import (
    example_loss,
    needed_layers,
    trainable,
)
from dlsys_bench.conformance.finding import Fault, broken, close
from dlsys_bench.conformance.strategies import Example, nonzero_weights, targets
from dlsys_bench.conformance.trial import SINGLE, Trial
from dlsys_bench.engines.base import Batch
from dlsys_bench.engines.plan import Plan
from dlsys_bench.errors import NotApplicableError
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.layers import (
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


def compare(trial: Trial, example: Example) -> None:
    """Compare the output of every layer, from the first on, and then the prediction."""
    engine, oracle = trial.engine, trial.oracle
    network = engine.build(example.model, example.weights)
    reference = oracle.build(example.model, example.weights)
    outputs = engine.trace(network, example.batch), oracle.trace(reference, example.batch)
    for name, actual, expected in zip(example.model.names, *outputs, strict=True):
        allowed = trial.tolerance * magnitude(expected)
        with with_snippet(example, {f"output of {name}": expected}):
            close(f"the output of {name}", actual, expected, allowed, layer=name)
    expected = oracle.predict(reference, example.batch.x)
    actual = engine.predict(network, example.batch.x)
    close("the prediction", actual, expected, trial.tolerance * magnitude(expected))


@check_each("forward", SUBJECTS, requires=requires)
def forward(trial: Trial, subject: LayerSubject) -> None:
    """The output of one layer."""
    trial.search(single_layers(trial, subject), lambda example: compare(trial, example))


@check("forward", "network")
def network(trial: Trial) -> None:
    """Networks of up to six layers."""
    trial.search(networks(trial), lambda example: compare(trial, example))


FAR = np.array([[-1000.0, -80.0, 0.0, 80.0, 1000.0], [1.0, 1000.0, 999.0, -1000.0, 1000.0]])


@check("forward", "far", requires=["layer:activation"])
def far(trial: Trial) -> None:
    """Activations of large inputs, whose exponential overflows: the output is right and the
    gradient is finite."""
    for function in trial.functions:
        layers = (Activation(function), Dense(2))
        loss, model = example_loss(trial), trainable(trial, Model("far", (5,), layers))
        weights = nonzero_weights(model, trial.seed)
        y = targets(loss, 2, 2, np.random.default_rng(trial.seed))
        batch, network = Batch(FAR, y), trial.engine.build(model, weights)
        expected = trial.oracle.trace(trial.oracle.build(model, weights), batch)[0]
        actual = trial.engine.trace(network, batch)[0]
        allowed = trial.tolerance * magnitude(expected)
        close(f"{function} of large inputs", actual, expected, allowed, layer="activation_1")
        dx = trial.engine.gradients(network, batch, loss).x
        if not np.isfinite(dx).all():
            what = f"the gradient of {function} at large inputs"
            actual_text = f"{dx[~np.isfinite(dx)][0]}"
            raise broken(
                Fault.NOT_FINITE, what, actual=actual_text, expected="finite", layer="activation_1"
            )


_DENSE, _CONVOLUTION = SUBJECTS["dense"], SUBJECTS["conv2d"]
_ELEMENTWISE = [
    subject
    for subject in SUBJECTS.values()
    if subject not in (_DENSE, _CONVOLUTION) and not subject.layer.normalizes
]


@check("forward", "float32", dtype="float32")
def single(trial: Trial) -> None:
    """Dense layers, convolutions and batch norms in single precision."""
    _search_single(trial, [_DENSE])
    _search_single(trial, [_CONVOLUTION], strides=(1, 1))
    if "batch_norm" in trial.kinds:
        _norm_far_from_zero(trial)


@check("forward", "float32-strides", dtype="float32", requires=requires(_CONVOLUTION))
def single_strides(trial: Trial) -> None:
    """Convolutions with strides in single precision."""
    _search_single(trial, [_CONVOLUTION])


@check("forward", "float32-elementwise", dtype="float32")
def single_elementwise(trial: Trial) -> None:
    """Every other layer in single precision, except those that normalise."""
    if not _search_single(trial, _ELEMENTWISE):
        raise NotApplicableError("the engine lacks every layer of this check")


def _search_single(trial: Trial, subjects: list[LayerSubject], **fixed: object) -> int:
    """Compare the subjects that the engine has, and return their number."""
    available = [each for each in subjects if not trial.lacks.intersection(each.requires)]
    for each in available:
        examples = single_layers(trial, each, **fixed)
        trial.search(examples, lambda example: _compare_single(trial, example), examples=12)
    return len(available)


def _compare_single(trial: Trial, example: Example) -> None:
    """Compare a layer in single precision. The tolerance of a product is relative to the sum of the
    magnitudes of its terms."""
    oracle, model, weights = trial.oracle, example.model, example.weights
    # Both get numbers that single precision represents exactly.
    batch = example.batch._replace(x=np.float32(example.batch.x).astype(float))
    name = model.names[0]
    expected = magnitudes = oracle.trace(oracle.build(model, weights), batch)[0]
    actual = trial.engine.trace(trial.engine.build(model, weights), batch)[0]
    if (kernel := f"{name}.kernel") in weights:
        positive = oracle.build(model, weights | {kernel: np.abs(weights[kernel])})
        magnitudes = oracle.trace(positive, batch._replace(x=np.abs(batch.x)))[0]
    allowed = trial.loosened(SINGLE) * magnitude(magnitudes, expected)
    close(f"the output of {name}", actual, expected, allowed, layer=name)


def _norm_far_from_zero(trial: Trial) -> None:
    """Compare a batch norm of values around 300: a variance that is computed as the mean of squares
    less the square of the mean loses its digits there."""
    model = to_convention(trial.convention, Model("far", (4,), (BatchNorm(), Dense(1))))
    weights = nonzero_weights(model, trial.seed)
    x = np.float32(300.0) + trial.generator.standard_normal((64, 4)).astype("float32")
    batch = Batch(x, np.zeros((64, 1)), training=True)
    expected = trial.oracle.trace(trial.oracle.build(model, weights), batch)[0]
    actual = trial.engine.trace(trial.engine.build(model, weights), batch)[0]
    # Six digits of values around 300 are kept, and so three digits of their differences.
    allowed = trial.loosened(2e-3) * magnitude(expected)
    close("batch_norm of values around 300", actual, expected, allowed, layer="batch_norm_1")


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
    """A network of realistic size, on more images than drawn examples have."""
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
