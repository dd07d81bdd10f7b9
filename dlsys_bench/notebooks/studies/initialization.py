"""The effect of initialisation on the outputs of five hidden layers before training (nb2, nb4).

The measurements are accompanied by the prediction for wide networks, whose pre-activations are
normal with a variance that follows from layer to layer: Poole et al. 2016 (tanh), He et al. 2015
(ReLU).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from dlsys_bench.data import prepare
from dlsys_bench.engines.plan import Array, Plan
from dlsys_bench.notebooks.claims import CLAIMS, PUBLISHED
from dlsys_bench.notebooks.zoo import deep_dense
from dlsys_bench.spec.initializers import (
    TRUNCATED_STDDEV,
    Distribution,
    Fans,
    GlorotNormal,
    HeNormal,
    Initializer,
    Normal,
)
from dlsys_bench.spec.layers import Activation, Dense
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.studies.base import Arm, ArmRun, Metric, Study

SIGMAS = (0.05, 0.1, 0.14, 0.2, 0.28)
STARTS: dict[str, Initializer] = {
    **{f"normal({sigma:g})": Normal(sigma) for sigma in SIGMAS},
    "glorot_normal": GlorotNormal(),
    "he_normal": HeNormal(),
}
PARTS: dict[str, tuple[str, str]] = {}
"""The activation and the initialiser of each arm, as they appear in its name."""

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": np.tanh,
    "sigmoid": lambda z: 0.5 * (1.0 + np.tanh(0.5 * z)),
    "relu": lambda z: np.maximum(z, 0.0),
}
NEAR = 0.01
"""An output closer than this to an asymptote is saturated; a ReLU is saturated at exactly zero."""

ASYMPTOTES = {"tanh": (-1.0, 1.0), "sigmoid": (0.0, 1.0)}
"""The lower and upper asymptotes of the bounded activations."""

QUANTILES = np.linspace(0.0, 1.0, 101)


def saturated(function: str, y: Array) -> NDArray[np.bool_]:
    """Find the outputs at an end of the activation's range."""
    if function not in ASYMPTOTES:
        return np.asarray(y == 0.0)
    low, high = ASYMPTOTES[function]
    return np.asarray(np.abs(y - (low + high) / 2) > (high - low) / 2 - NEAR)


def describe(run: ArmRun) -> Mapping[str, Any]:
    """Draw the weights once and describe the outputs of each hidden layer on the test images."""
    x = prepare(run.dataset, scaling="unit", dtype=run.engine.dtype).test.x[: run.recipe.evaluate]
    net = run.engine.replicate(run.model, [Plan(run.seed)])
    layers = [
        place for place, layer in enumerate(run.model.layers) if isinstance(layer, Activation)
    ]
    traces = net.trace(x)
    hidden = [np.asarray(traces[place][0], np.float64) for place in layers]
    function = run.arm.options["activation"]
    deviations = [float(y.std()) for y in hidden]
    return {
        "deviation": deviations,
        "mean": [float(y.mean()) for y in hidden],
        "saturated": [float(saturated(function, y).mean()) for y in hidden],
        "last_deviation": deviations[-1],
        "decay": deviations[-1] / deviations[0] if deviations[0] else None,
        "quantiles": [[float(f"{q:.4g}") for q in np.quantile(y, QUANTILES)] for y in hidden],
        "theory": theory(run.model, function, x),
    }


def theory(model: Model, function: str, x: Array) -> dict[str, list[float]]:
    """The standard deviation and saturated fraction of each hidden layer in the wide limit.

    With zero biases, a pre-activation over n inputs of second moment q and weights of variance v is
    normal with variance n v q for each image; the next q is the second moment of its activation.
    """
    squares = (np.asarray(x, np.float64).reshape(len(x), -1) ** 2).sum(axis=1)
    # In the wide limit images differ only in their norm: 64 quantiles represent all of them.
    moment: NDArray[np.float64] = np.quantile(squares, (np.arange(64) + 0.5) / 64.0)
    nodes, weights = np.polynomial.hermite_e.hermegauss(81)
    weights = weights / weights.sum()
    activate = ACTIVATIONS[function]
    found: dict[str, list[float]] = {"deviation": [], "saturated": []}
    inputs = 1
    for layer, shape in zip(model.layers, model.shapes, strict=False):
        if isinstance(layer, Dense):
            # The squares of the pixels are already summed; the units of later layers are alike.
            moment = (
                inputs
                * _variance(layer.kernel_initializer.distribution(Fans(shape[0], layer.units)))
                * moment
            )
            inputs = layer.units
        elif isinstance(layer, Activation):
            deviation = np.sqrt(moment)
            y = activate(deviation[:, None] * nodes)
            mean, moment = y @ weights, (y * y) @ weights
            found["deviation"].append(float(np.sqrt(moment.mean() - mean.mean() ** 2)))
            found["saturated"].append(float(_saturation_probability(function, deviation).mean()))
    return found


def _variance(distribution: Distribution) -> float:
    if distribution.family == "uniform":
        return (distribution.high - distribution.low) ** 2 / 12.0
    truncated = distribution.family == "truncated_normal"
    return (distribution.stddev * (TRUNCATED_STDDEV if truncated else 1.0)) ** 2


def _saturation_probability(function: str, deviation: Array) -> Array:
    """The probability that a normal pre-activation of a standard deviation saturates."""
    if function not in ASYMPTOTES:
        return np.full_like(deviation, 0.5)
    edge = np.arctanh(1.0 - NEAR) if function == "tanh" else np.log((1.0 - NEAR) / NEAR)
    tail: Array = 2.0 * ndtr(-edge / deviation)
    return tail


def _arm(activation: str, start: str) -> Arm:
    recipe = Recipe(epochs=1, scaling="unit", evaluate=1000)
    full = Recipe(epochs=1, scaling="unit", evaluate=10_000)
    model = deep_dense(activation, STARTS[start])
    name = f"{activation}/{start}"
    PARTS[name] = activation, start
    return Arm(
        name,
        model,
        {"quick": recipe, "full": full},
        options={"activation": activation},
    )


def case_of(arm: Arm) -> tuple[str, Initializer]:
    """The activation and the initialiser of an arm."""
    first = next(layer for layer in arm.model.layers if isinstance(layer, Dense))
    return arm.options["activation"], first.kernel_initializer


INITIALIZATION = Study(
    "initialization",
    "The outputs of five hidden layers before training, by activation and initialiser",
    "nb2, nb4",
    "mnist",
    tuple(_arm(activation, start) for activation in ACTIVATIONS for start in STARTS),
    metric=Metric("last_deviation", higher_is_better=False),
    plots=("activations",),
    measure=describe,
    claims=CLAIMS,
    published=PUBLISHED,
)

STUDIES = (INITIALIZATION,)
