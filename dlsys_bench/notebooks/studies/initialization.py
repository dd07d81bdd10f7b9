"""What initialisation does to the outputs of five hidden layers, before any training (nb2, nb4).

Beside what is measured stands what theory predicts: in a wide network the sums are normal, and
their variance follows from layer to layer. Poole et al. 2016 (tanh), He et al. 2015 (ReLU).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from dlsys_bench.data import prepare
from dlsys_bench.engines.plan import Array, Plan
from dlsys_bench.notebooks.claims import CLAIMS
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
from dlsys_bench.studies.base import Arm, Study, Trial

SIGMAS = (0.05, 0.1, 0.14, 0.2, 0.28)
STARTS: dict[str, Initializer] = {
    **{f"normal({sigma:g})": Normal(sigma) for sigma in SIGMAS},
    "glorot_normal": GlorotNormal(),
    "he_normal": HeNormal(),
}
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": np.tanh,
    "sigmoid": lambda z: 0.5 * (1.0 + np.tanh(0.5 * z)),
    "relu": lambda z: np.maximum(z, 0.0),
}
NEAR = 0.01
"""An output within so much of an asymptote counts as saturated; for ReLU, an output of exactly
zero."""

QUANTILES = np.linspace(0.0, 1.0, 101)


def saturated(function: str, y: Array) -> NDArray[np.bool_]:
    """Which outputs sit at an end of the activation's range."""
    middle, half = {"tanh": (0.0, 1.0), "sigmoid": (0.5, 0.5), "relu": (0.0, 0.0)}[function]
    found: NDArray[np.bool_] = y == 0.0 if function == "relu" else np.abs(y - middle) > half - NEAR
    return found


def describe(trial: Trial) -> Mapping[str, Any]:
    """One draw of the weights: the outputs of each hidden layer on the test images."""
    x = prepare(trial.dataset, scaling="unit", dtype=trial.engine.dtype).test.x[
        : trial.recipe.evaluate
    ]
    net = trial.engine.replicate(trial.model, [Plan(trial.seed)])
    layers = [
        place for place, layer in enumerate(trial.model.layers) if isinstance(layer, Activation)
    ]
    traces = net.trace(x)
    hidden = [np.asarray(traces[place][0], np.float64) for place in layers]
    function = trial.arm.options["activation"]
    deviations = [float(y.std()) for y in hidden]
    return {
        "deviation": deviations,
        "mean": [float(y.mean()) for y in hidden],
        "saturated": [float(saturated(function, y).mean()) for y in hidden],
        "last_deviation": deviations[-1],
        "decay": deviations[-1] / deviations[0] if deviations[0] else None,
        "quantiles": [[float(f"{q:.4g}") for q in np.quantile(y, QUANTILES)] for y in hidden],
        "theory": theory(trial.model, function, x),
    }


def theory(model: Model, function: str, x: Array) -> dict[str, list[float]]:
    """The deviation and the saturated fraction of each hidden layer that normal sums predict.

    A sum over n inputs of second moment q, with weights of variance v, is normal of variance n v q
    for each image; the next q is the second moment of its activation. Biases are zero.
    """
    squares = (np.asarray(x, np.float64).reshape(len(x), -1) ** 2).sum(axis=1)
    # Images differ in their length alone, as far as normal sums go: 64 of them stand for all.
    moment = np.quantile(squares, (np.arange(64) + 0.5) / 64.0)
    nodes, weights = np.polynomial.hermite_e.hermegauss(81)
    weights = weights / weights.sum()
    activate = ACTIVATIONS[function]
    found: dict[str, list[float]] = {"deviation": [], "saturated": []}
    inputs = 1
    for layer, shape in zip(model.layers, model.shapes, strict=False):
        if isinstance(layer, Dense):
            # The first sum is over the pixels, whose squares are already summed; later ones are
            # over units alike.
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
            found["saturated"].append(float(_beyond(function, deviation).mean()))
    return found


def _variance(law: Distribution) -> float:
    if law.family == "uniform":
        return (law.high - law.low) ** 2 / 12.0
    return (law.stddev * (TRUNCATED_STDDEV if law.family == "truncated_normal" else 1.0)) ** 2


def _beyond(function: str, deviation: Array) -> Array:
    """The chance that a normal sum of this deviation saturates."""
    if function == "relu":
        return np.full_like(deviation, 0.5)
    edge = np.arctanh(1.0 - NEAR) if function == "tanh" else np.log((1.0 - NEAR) / NEAR)
    tail: Array = 2.0 * stats.norm.sf(edge / deviation)
    return tail


def _arm(activation: str, start: str) -> Arm:
    recipe = Recipe(epochs=1, scaling="unit", evaluate=1000)
    full = Recipe(epochs=1, scaling="unit", evaluate=10_000)
    model = deep_dense(activation, STARTS[start])
    return Arm(
        f"{activation}/{start}",
        model,
        {"quick": recipe, "full": full},
        options={"activation": activation},
    )


INITIALIZATION = Study(
    "initialization",
    "The outputs of five hidden layers before training, by activation and initialiser",
    "nb2, nb4",
    "mnist",
    tuple(_arm(activation, start) for activation in ACTIVATIONS for start in STARTS),
    metric="last_deviation",
    plots=("activations",),
    measure=describe,
    appendix=CLAIMS,
)

STUDIES = (INITIALIZATION,)
