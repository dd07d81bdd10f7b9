"""Many steps in a row: of whole networks by one plan, and of the engine's own order and masks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from scipy import stats

from dlsys_bench.conformance import strategies
from dlsys_bench.conformance.check import Trial, check
from dlsys_bench.conformance.checks.state import NEVER
from dlsys_bench.conformance.checks.subjects import size
from dlsys_bench.conformance.divergence import first_divergence
from dlsys_bench.conformance.finding import BrokenError, Finding, broken, close
from dlsys_bench.conformance.guard import Guard
from dlsys_bench.data import Samples
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.plan import Array, Plan
from dlsys_bench.errors import DivergedError
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.initializers import Zeros
from dlsys_bench.spec.layers import (
    Activation,
    AveragePool,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Layer,
    MaxPool,
)
from dlsys_bench.spec.losses import MeanSquaredError
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD, Adam, Optimizer, RMSprop
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.schedules import LearningRateRamp

TANH, RELU = Activation("tanh"), Activation("relu")
W = (3, 3)
NETWORKS: dict[str, tuple[tuple[int, ...], tuple[Layer, ...], Optimizer]] = {
    # The families of the studies, each small enough for the oracle.
    "mlp": ((6,), (Dense(8), RELU, Dense(6), RELU, Dense(3)), Adam(0.01)),
    "mlp-dropout-batch_norm": (
        (6,),
        (
            Dense(8),
            RELU,
            Dropout(0.5),
            BatchNorm(),
            Dense(6),
            RELU,
            Dropout(0.2),
            BatchNorm(),
            Dense(3),
        ),
        Adam(0.01),
    ),
    "lenet5-tanh": (
        (8, 8, 1),
        (
            BatchNorm(),
            Dropout(0.2),
            Conv2D(2, W, padding="same"),
            TANH,
            BatchNorm(),
            AveragePool(),
            Conv2D(3, W),
            TANH,
            Dropout(0.5),
            BatchNorm(),
            AveragePool((2, 2), (1, 1)),
            Flatten(),
            Dense(4),
            TANH,
            Dense(3),
        ),
        SGD(0.1, momentum=0.9),
    ),
    "lenet5-relu": (
        (8, 8, 1),
        (
            Conv2D(2, W, padding="same"),
            RELU,
            MaxPool(),
            Conv2D(3, W, padding="same"),
            RELU,
            MaxPool(),
            Flatten(),
            Dense(3),
        ),
        RMSprop(0.003),
    ),
}
STEPS, SAMPLES, BATCH = 10, 14, 4
GROWS = {"float64": 100, "float32": 10}
"""By how much more than of one step rounding may have grown after ten."""


def _setting(trial: Trial, engine: Guard, subject: str) -> tuple[Model, Recipe, Samples]:
    shape, layers, optimizer = NETWORKS[subject]
    convention = engine.conventions[0]
    recipe = Recipe(optimizer, batch_size=BATCH, epochs=3)
    generator = np.random.default_rng(trial.seed)
    samples = Samples(generator.random((SAMPLES, *shape)), generator.integers(0, 3, SAMPLES))
    return (
        to_convention(convention, Model(subject, shape, layers)),
        to_convention(convention, recipe),
        samples,
    )


def _compare(trial: Trial, engine: Any, subject: str, tolerance: float) -> None:
    model, recipe, samples = _setting(trial, engine, subject)
    plan = Plan(trial.seed, steps=STEPS)
    found = first_divergence(engine, trial.oracle, model, recipe, samples, plan, tolerance)
    if found is not None:
        place = next((name for name in model.names if name in found.what), None)
        raise BrokenError(
            Finding(
                f"{found.what} differs",
                layer=place,
                step=found.step,
                difference=found.difference,
                allowed=tolerance,
                example=f"{subject}, {SAMPLES} samples by {BATCH}, seed {trial.seed}",
            )
        )


@check("trajectory", *NETWORKS)
def trajectory(trial: Trial, subject: str) -> None:
    """Ten steps over three epochs, the last batch of each smaller, from one plan of weights, order
    and masks. Where the engine parts from the oracle, the step and the layer are looked for."""
    engine = trial.engine
    _compare(trial, engine, subject, GROWS[engine.dtype] * trial.tolerance)


@check("trajectory", "float32")
def single(trial: Trial, subject: str) -> None:
    """In single precision."""
    _compare(trial, trial.at("float32"), "mlp", GROWS["float32"] * trial.allowed("float32"))


@check("trajectory", "native")
def native(trial: Trial, subject: str) -> None:
    """Training as the engine does it unasked. Nothing is shuffled and nothing dropped, so nothing
    is left to chance."""
    model, recipe, samples = _setting(trial, trial.engine, "mlp")
    recipe = replace(recipe, shuffle=False)
    weights = strategies.nonzero_weights(model, trial.seed)
    net, truth = trial.engine.build(model, weights), trial.oracle.build(model, weights)
    train(trial.engine, net, samples, recipe, Plan(1))
    train(trial.oracle, truth, samples, recipe, Plan(1))
    for name, values in trial.oracle.weights(truth).items():
        allowed = GROWS[trial.engine.dtype] * trial.tolerance * size(values)
        close(
            f"{name} after 3 epochs", trial.engine.weights(net)[name], values, allowed, tensor=name
        )


@check("trajectory", "order")
def order(trial: Trial, subject: str) -> None:
    """The order in which the engine takes the samples by itself: all of them, each once an epoch,
    another each time.

    Sample i is the unit vector i and has a target of its own, so weight i moves when sample i is
    used, by a step that tells the rate of the update, and every update has another rate.
    """
    for count, batch in ((80, 32), (30, 4)):
        places = _places(trial, count, batch, epochs=3, seed=trial.seed)
        expected = np.repeat(np.arange(-(-count // batch)), batch)[:count]
        for epoch, seen in enumerate(places, start=1):
            if not np.array_equal(np.sort(seen), expected):
                sizes = np.bincount(seen, minlength=len(set(expected))).tolist()
                raise broken(
                    f"epoch {epoch} has batches of {sizes} samples, where {np.bincount(expected).tolist()} is right"
                )
    for epoch in (1, 2):
        if np.array_equal(places[0], places[epoch]):
            raise broken(
                f"epochs 1 and {epoch + 1} have the same batches: shuffled once only, or with the same seed"
            )
        # Of 43 pairs that share a batch, 4 do so again by chance, and 25 once in 10^11 trainings.
        first, later = places[0], places[epoch]
        together = (first[:, None] == first) & (later[:, None] == later)
        if (pairs := (int(together.sum()) - count) // 2) >= 25:
            raise broken(
                f"{pairs} pairs of samples share a batch in epoch 1 and in epoch {epoch + 1}, where 4 would"
            )
    other = _places(trial, count, batch, epochs=1, seed=trial.seed + 1)[0]
    if np.array_equal(places[0], other):
        raise broken("two seeds give the same batches")


@check("trajectory", "shuffling")
def shuffling(trial: Trial, subject: str) -> None:
    """Whether a shuffled epoch still knows the order of the data, or of the epoch before."""
    count = 600
    places = _places(trial, count, 1, epochs=2, seed=trial.seed)
    rows = {"the data": np.arange(count), "the epoch before": places[0]}
    for what, earlier, later in (
        ("the data", rows["the data"], places[0]),
        ("the epoch before", places[0], places[1]),
    ):
        if len(set(later.tolist())) < count:
            raise broken("an epoch of batches of one does not use every sample once")
        chance = stats.spearmanr(earlier, later).pvalue
        near = float(np.abs(later - earlier).mean())
        if chance < NEVER or abs(near - count / 3) > 6.5 * 0.2 * count / np.sqrt(count):
            raise broken(
                f"the order of an epoch follows that of {what}: a sample moves by {near:.3g} places in the mean, "
                f"where {count / 3:.3g} is right"
            )


def _places(trial: Trial, count: int, batch: int, epochs: int, seed: int) -> list[Array]:
    """For each epoch, the number of the batch in which each sample was used."""
    model = Model("order", (count,), (Dense(1, use_bias=False, kernel_initializer=Zeros()),))
    targets = 1 + np.arange(count) / count
    samples = Samples(np.eye(count), targets[:, None])
    steps = -(-count // batch)
    schedule = LearningRateRamp(0.05 * batch, 0.35 * batch, steps * epochs, "difference")
    recipe = Recipe(
        SGD(0.1), batch_size=batch, epochs=epochs, loss=MeanSquaredError(), schedule=schedule
    )
    recipe = to_convention(trial.engine.conventions[0], recipe)
    left = [np.ones(count)]
    for epoch in range(1, epochs + 1):
        net = trial.engine.build(model, seed=seed)
        train(trial.engine, net, samples, recipe, Plan(seed, steps=steps * epoch))
        left.append(1 - trial.engine.weights(net)["dense_1.kernel"][:, 0] / targets)
    sizes = np.full(steps, batch)
    sizes[-1] = count - batch * (steps - 1)
    found = []
    for epoch in range(epochs):
        factors = np.array(
            [1 - 2 * schedule.rate(epoch * steps + s) / sizes[s] for s in range(steps)]
        )
        seen = left[epoch + 1] / left[epoch]
        apart = np.abs(seen[:, None] - factors)
        near = apart.argmin(axis=1)
        wrong = np.flatnonzero(apart.min(axis=1) > 1e-4)
        if wrong.size:
            still = np.flatnonzero(np.abs(seen - 1) < 1e-6)
            what = (
                f"epoch {epoch + 1} leaves out {still.size} of {count} samples"
                if still.size
                else f"epoch {epoch + 1} moves weight {wrong[0]} as no update of its sample alone can"
            )
            raise broken(
                f"{what}: batches of {batch}, every sample once an epoch, each with its own target"
            )
        found.append(near)
    return found


@check("trajectory", "divergence")
def divergence(trial: Trial, subject: str) -> None:
    """A loss that is not finite ends the training with a DivergedError that names the epoch and the
    batch."""
    model = Model("diverging", (2,), (Dense(1),))
    x, y = trial.generator.standard_normal((8, 2)), trial.generator.standard_normal((8, 1))
    recipe = Recipe(SGD(0.01), batch_size=2, epochs=2, shuffle=False, loss=MeanSquaredError())
    recipe = to_convention(trial.engine.conventions[0], recipe)
    # The square of the second is infinite, and only what follows from it is not a number.
    for target, told in ((np.nan, "not a number"), (1e200, "infinite")):
        y[5] = target
        try:
            train(
                trial.engine,
                trial.engine.build(model, seed=1),
                Samples(x, y),
                recipe,
                Plan(0, parity=True),
            )
        except DivergedError as error:
            if (error.epoch, error.batch) != (1, 3):
                place = f"epoch {error.epoch}, batch {error.batch}"
                raise broken(
                    f"of a loss that is {told}, {place} are named: epoch 1, batch 3 diverged"
                ) from None
            continue
        raise broken(f"a loss that is {told} raised no DivergedError")
