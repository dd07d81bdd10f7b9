"""The perceptron criterion against hinge loss on 20 points (nb2, nb4), over thousands of draws.

Each of the two notebooks draws the points and weights once, and they reach opposite conclusions.
The arms `nb2/...` and `nb4/...` follow the published protocols exactly, with all draws at once in
numpy; the arms `sound/...` give both losses the same points, initial weights, learning rate and
epochs, on any engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from dlsys_bench.data import Samples
from dlsys_bench.engines.epochs import train_replicas
from dlsys_bench.engines.plan import Array
from dlsys_bench.engines.replicas import in_blocks
from dlsys_bench.notebooks.claims import CLAIMS, PUBLISHED
from dlsys_bench.notebooks.datasets import half_planes
from dlsys_bench.spec.initializers import Uniform, Zeros
from dlsys_bench.spec.layers import Dense
from dlsys_bench.spec.losses import Hinge, PerceptronCriterion
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.studies.base import EPOCH_METRICS, Arm, ArmRun, Study

TRAINED, TESTED = 20, 1000
DRAWS = {"quick": 1000, "full": 10_000}

Push = Callable[[Array, Array], Array]
"""An update rule: from the scores w.x (R,) and the signs y (R,), the multiple of the learning rate
times x that is added to w."""


def _wrong_by_sign(score: Array, y: Array) -> Array:
    """The update of nb2: y - sign(w.x), which is 2 y for a wrong sign."""
    return y - np.sign(score)


def _nb2_hinge(score: Array, y: Array) -> Array:
    """The hinge update of nb2: as above, and also y for a right sign with 1 - sign(w.x) > 0."""
    sign = np.sign(score)
    return np.where(sign != y, y - sign, np.where(1.0 - sign > 0.0, y, 0.0))


def _margin(margin: float) -> Push:
    """The update of nb4: y if y (w.x) is at most the margin."""
    return lambda score, y: np.where(y * score <= margin, y, 0.0)


PUSHES: dict[str, Push] = {
    "nb2/perceptron": _wrong_by_sign,
    "nb2/hinge": _nb2_hinge,
    "nb4/perceptron": _margin(0.0),
    "nb4/hinge": _margin(1.0),
}


PROTOCOLS = {
    f"{protocol}/{loss}": (protocol, loss)
    for protocol in ("nb2", "nb4", "sound")
    for loss in ("perceptron", "hinge")
}
"""The protocol and the loss of each arm."""


def online(w: Array, x: Array, y: Array, push: Push, rate: float, epochs: int) -> Array:
    """Update the weights of all draws at once, one sample after another.

    w (R, 2), x (R, N, 2), y (R, N) -> (R, 2).
    """
    w = w.T.copy()
    first, second = np.ascontiguousarray(x.transpose(2, 1, 0))
    signs = np.ascontiguousarray(y.T)
    for _ in range(epochs):
        for a, b, sign in zip(first, second, signs, strict=True):
            step = rate * push(w[0] * a + w[1] * b, sign)
            w[0] += step * a
            w[1] += step * b
    return w.T


def accuracy(scores: Array, y: Array) -> Array:
    """The fraction of each draw's points that are classified correctly. (R, N) -> (R,)."""
    correct: Array = ((scores > 0) == (y > 0)).mean(axis=1)
    return correct


def measure_draws(run: ArmRun) -> Mapping[str, Any]:
    """Train on the 20 points of every draw and test on 1000 further points."""
    # Every arm of a seed gets the same points, so that arms can be compared draw by draw.
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence((run.seed, 0x9E7C))))
    x, y = half_planes(generator, run.networks, TRAINED)
    fresh, truth = half_planes(generator, run.networks, TESTED)
    figures: Array
    if run.arm.name in PUSHES:
        start = run.model.tensors[0].initializer
        w = (
            generator.uniform(-1.0, 1.0, (run.networks, 2))
            if isinstance(start, Uniform)
            else np.zeros((len(x), 2))
        )
        rate = run.recipe.optimizer.learning_rate
        learned = online(w, x, y, PUSHES[run.arm.name], rate, run.recipe.epochs)
        figures = accuracy((fresh @ learned[..., None])[..., 0], truth)
    else:
        figures = _by_engine(run, x, y, fresh, truth)
    return {
        "draws": len(figures),
        "test_accuracy": float(figures.mean()),
        "deviation": float(figures.std(ddof=1)),
        "quantiles": [float(q) for q in np.quantile(figures, np.linspace(0.0, 1.0, 101))],
        "counts": np.bincount(
            np.round(figures * TESTED).astype(int), minlength=TESTED + 1
        ).tolist(),
    }


def _by_engine(run: ArmRun, x: Array, y: Array, fresh: Array, truth: Array) -> Array:
    plans, dtype = run.plans, run.engine.dtype

    def work(block: range) -> Array:
        here = slice(block.start, block.stop)
        replicas = run.engine.replicate(run.model, plans[here])
        samples = [
            Samples(points, signs)
            for points, signs in zip(x[here].astype(dtype), y[here], strict=True)
        ]
        train_replicas(replicas, samples, run.recipe, plans[here])
        for error in replicas.failures.values():
            raise error
        return accuracy(replicas.predict(fresh[here].astype(dtype))[..., 0], truth[here])

    whole: Array = np.concatenate(in_blocks(run.engine, run.model, run.recipe, len(plans), work))
    return whole


def _arm(name: str, recipe: Recipe, zero: bool = False) -> Arm:
    start = Zeros() if zero else Uniform(-1.0, 1.0)
    model = Model("perceptron", (2,), (Dense(1, use_bias=False, kernel_initializer=start),))
    return Arm(
        name,
        model,
        {"quick": recipe, "full": recipe},
        networks=DRAWS,
        engine="numpy" if name in PUSHES else None,
    )


NB2 = Recipe(
    SGD(0.025), batch_size=1, epochs=10, loss=PerceptronCriterion(), shuffle=False, scaling="raw"
)
NB4 = replace(NB2, optimizer=SGD(0.1), epochs=50)
SOUND = replace(NB4, epochs=200)

PERCEPTRON = Study(
    "perceptron",
    "The perceptron criterion against hinge loss on 20 points, over many draws",
    "nb2, nb4",
    "half-plane",
    (
        _arm("nb2/perceptron", NB2),
        _arm("nb2/hinge", replace(NB2, loss=Hinge())),
        _arm("nb4/perceptron", NB4, zero=True),
        _arm("nb4/hinge", replace(NB4, loss=Hinge(), epochs=200), zero=True),
        _arm("sound/perceptron", SOUND),
        _arm("sound/hinge", replace(SOUND, loss=Hinge())),
    ),
    metric=EPOCH_METRICS["test_accuracy"],
    plots=("draws",),
    measure=measure_draws,
    claims=CLAIMS,
    published=PUBLISHED,
)

STUDIES = (PERCEPTRON,)
