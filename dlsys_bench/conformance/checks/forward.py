"""The output of every layer, in training and outside, against its definition."""

from __future__ import annotations

import numpy as np

from dlsys_bench.conformance import strategies
from dlsys_bench.conformance.check import SINGLE, Trial, check
from dlsys_bench.conformance.checks.subjects import SUBJECTS, drawn, followed, networks, size
from dlsys_bench.conformance.finding import broken, close
from dlsys_bench.conformance.strategies import Example, nonzero_weights
from dlsys_bench.engines.base import Batch
from dlsys_bench.engines.plan import Plan
from dlsys_bench.errors import NotApplicableError
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.layers import (
    FUNCTIONS,
    LAYERS,
    Activation,
    AveragePool,
    BatchNorm,
    Conv2D,
    Dense,
    Flatten,
    Layer,
)
from dlsys_bench.spec.losses import CategoricalCrossEntropy, MeanSquaredError
from dlsys_bench.spec.model import Model


def compare(trial: Trial, example: Example) -> None:
    """Every layer's output, from the first on; then what is predicted."""
    engine, oracle = trial.engine, trial.oracle
    net, truth = (
        engine.build(example.model, example.weights),
        oracle.build(example.model, example.weights),
    )
    expected = oracle.trace(truth, example.batch)
    for name, found, right in zip(
        example.model.names, engine.trace(net, example.batch), expected, strict=True
    ):
        close(f"the output of {name}", found, right, trial.tolerance * size(right), layer=name)
    right = oracle.predict(truth, example.batch.x)
    close("predict", engine.predict(net, example.batch.x), right, trial.tolerance * size(right))


@check("forward", *SUBJECTS)
def forward(trial: Trial, subject: str) -> None:
    trial.search(drawn(trial, subject), lambda example: compare(trial, example))


@check("forward", "network")
def network(trial: Trial, subject: str) -> None:
    """Drawn networks of up to six layers."""
    trial.search(networks(trial), lambda example: compare(trial, example))


FAR = np.array([[-1000.0, -80.0, 0.0, 80.0, 1000.0], [1.0, 1000.0, 999.0, -1000.0, 1000.0]])


@check("forward", "far")
def far(trial: Trial, subject: str) -> None:
    """Activations where an exponential overflows: the right output, and a gradient that is a
    number."""
    for function in trial.functions:
        layers = LAYERS["activation"].of(function=function), Dense(1)
        model = to_convention(trial.engine.conventions[0], Model("far", (5,), layers))
        weights = nonzero_weights(model, trial.seed)
        batch, net = Batch(FAR, np.zeros((2, 1))), trial.engine.build(model, weights)
        right = trial.oracle.trace(trial.oracle.build(model, weights), batch)[0]
        found = trial.engine.trace(net, batch)[0]
        close(
            f"{function} far out", found, right, trial.tolerance * size(right), layer="activation_1"
        )
        dx = trial.engine.gradients(net, batch, MeanSquaredError()).x
        if not np.isfinite(dx).all():
            raise broken(
                f"{function}, far out, has a gradient of {dx[~np.isfinite(dx)][0]}",
                layer="activation_1",
            )


SINGLE_LAYERS = {
    "float32": ("dense", "conv2d-plain"),
    "float32-strides": ("conv2d",),
    "float32-elementwise": ("average_pool", "max_pool", *FUNCTIONS),
}


@check("forward", *SINGLE_LAYERS)
def single(trial: Trial, subject: str) -> None:
    """In single precision: products of that precision, functions, pools, and a batch norm of values
    far from zero, which loses them where the variance is the mean of squares less the square of the
    mean."""
    engine, allowed = trial.at("float32"), max(SINGLE, trial.loosens or 0.0)

    def body(example: Example) -> None:
        model, weights = example.model, example.weights
        # Both get the same numbers, those that single precision has.
        batch = example.batch._replace(x=np.float32(example.batch.x).astype(float))
        name = model.names[0]
        right = trial.oracle.trace(trial.oracle.build(model, weights), batch)[0]
        found = engine.trace(engine.build(model, weights), batch)[0]
        magnitudes = right
        if (kernel := f"{name}.kernel") in weights:
            positive = trial.oracle.build(model, weights | {kernel: np.abs(weights[kernel])})
            magnitudes = trial.oracle.trace(positive, batch._replace(x=np.abs(batch.x)))[0]
        close(f"the output of {name}", found, right, allowed * size(magnitudes, right), layer=name)

    known = (*trial.kinds, *(trial.functions if "activation" in trial.kinds else ()))
    layers = [each for each in SINGLE_LAYERS[subject] if each.removesuffix("-plain") in known]
    if not layers:
        raise NotApplicableError(f"none of {', '.join(SINGLE_LAYERS[subject])} is left: see lacks")
    for each in layers:
        plain = followed(
            trial,
            strategies.single_layers("conv2d", strides=(1, 1), images="flatten" in trial.kinds),
        )
        trial.search(plain if each == "conv2d-plain" else drawn(trial, each), body, examples=12)
    if subject == "float32" and "batch_norm" in trial.kinds:
        model = to_convention(
            trial.engine.conventions[0], Model("far", (4,), (BatchNorm(), Dense(1)))
        )
        weights = nonzero_weights(model, trial.seed)
        x = np.float32(300.0) + trial.generator.standard_normal((64, 4)).astype("float32")
        batch = Batch(x, np.zeros((64, 1)), training=True)
        right = trial.oracle.trace(trial.oracle.build(model, weights), batch)[0]
        found = engine.trace(engine.build(model, weights), batch)[0]
        # Of values about 300 six digits are kept, of their differences three.
        close(
            "batch norm of values about 300",
            found,
            right,
            max(2e-3, allowed) * size(right),
            layer="batch_norm_1",
        )


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


@check("forward", "lenet5")
def lenet5(trial: Trial, subject: str) -> None:
    """A network of real size, on more images than the drawn ones have."""
    compare(trial, large(trial))


def large(trial: Trial) -> Example:
    """LeNet-5 on 12 drawn images."""
    model = to_convention(trial.engine.conventions[0], LENET5)
    x = trial.generator.random((12, *model.input_shape))
    y = trial.generator.integers(0, 10, 12)
    batch = Batch(x, y, Plan(trial.seed).masks(model, 0, 12), training=True)
    return Example(
        model, nonzero_weights(model, trial.seed), batch, CategoricalCrossEntropy(), trial.seed
    )
