"""The output of every layer, in training and outside, against its definition."""

from __future__ import annotations

import numpy as np

from dlsys_bench.conformance.check import Trial, check
from dlsys_bench.conformance.checks.subjects import SUBJECTS, drawn, networks, size
from dlsys_bench.conformance.finding import broken, close
from dlsys_bench.conformance.strategies import Example, nonzero_weights
from dlsys_bench.engines.base import Batch
from dlsys_bench.plan import Plan
from dlsys_bench.spec.convention import follow
from dlsys_bench.spec.layers import LAYERS, Dense
from dlsys_bench.spec.losses import CategoricalCrossEntropy, MeanSquaredError
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.zoo import MODELS


def compare(trial: Trial, example: Example) -> None:
    """Every layer's output, from the first on; then what is predicted."""
    engine, oracle = trial.engine, trial.oracle
    net, truth = engine.build(example.model, example.weights), oracle.build(example.model, example.weights)
    expected = oracle.trace(truth, example.batch)
    for name, found, right in zip(example.model.names, engine.trace(net, example.batch), expected, strict=True):
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
    """Activations where an exponential overflows: the right output, and a gradient that is a number."""
    for function in trial.functions:
        layers = LAYERS["activation"].of(function=function), Dense(1)
        model = follow(trial.engine.conventions[0], Model("far", (5,), layers))
        weights = nonzero_weights(model, trial.seed)
        batch, net = Batch(FAR, np.zeros((2, 1))), trial.engine.build(model, weights)
        right = trial.oracle.trace(trial.oracle.build(model, weights), batch)[0]
        found = trial.engine.trace(net, batch)[0]
        close(f"{function} far out", found, right, trial.tolerance * size(right), layer="activation_1")
        dx = trial.engine.gradients(net, batch, MeanSquaredError()).x
        if not np.isfinite(dx).all():
            raise broken(f"{function}, far out, has a gradient of {dx[~np.isfinite(dx)][0]}", layer="activation_1")


SINGLE = 1e-5
"""Of the sum of magnitudes: what 24 bits allow in products this short, and 11 (half precision, TF32) do not."""


@check("forward", "float32")
def single(trial: Trial, subject: str) -> None:
    """A dense layer of single precision multiplies in single precision."""
    engine, allowed = trial.at("float32"), max(SINGLE, trial.loosens or 0.0)

    def body(example: Example) -> None:
        right = trial.oracle.trace(trial.oracle.build(example.model, example.weights), example.batch)[0]
        found = engine.trace(engine.build(example.model, example.weights), example.batch)[0]
        magnitudes = np.abs(example.batch.x) @ np.abs(example.weights["dense_1.kernel"])
        close("the output of dense_1", found, right, allowed * size(magnitudes, right), layer="dense_1")

    trial.search(drawn(trial, "dense"), body)


LARGE = "lenet5-tanh/bn+bn"


@check("forward", "lenet5")
def lenet5(trial: Trial, subject: str) -> None:
    """A network of real size, on more images than the drawn ones have."""
    compare(trial, large(trial))


def large(trial: Trial) -> Example:
    """LeNet-5 on 12 drawn images."""
    model = follow(trial.engine.conventions[0], MODELS[LARGE])
    x = trial.generator.random((12, *model.input_shape))
    y = trial.generator.integers(0, 10, 12)
    batch = Batch(x, y, Plan(trial.seed).masks(model, 0, 12), training=True)
    return Example(model, nonzero_weights(model, trial.seed), batch, CategoricalCrossEntropy(), trial.seed)
