"""What training leaves behind beside the weights: moving statistics, masks, the optimiser's memory,
the mode."""

from __future__ import annotations

import contextlib

import numpy as np
from scipy import stats

from dlsys_bench.conformance import strategies
from dlsys_bench.conformance.check import SINGLE, Trial, check
from dlsys_bench.conformance.checks.step import compare, trained
from dlsys_bench.conformance.checks.subjects import drawn, networks, size
from dlsys_bench.conformance.finding import broken, close
from dlsys_bench.conformance.strategies import Example
from dlsys_bench.data import Samples
from dlsys_bench.engines.base import Batch
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.plan import Array, Plan
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.initializers import Zeros
from dlsys_bench.spec.layers import Activation, BatchNorm, Dense, Dropout, Flatten
from dlsys_bench.spec.losses import MeanSquaredError
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD, Adam
from dlsys_bench.spec.recipe import Recipe

NEVER = 1e-9
"""The chance at which a draw is said to be of another law: once in a billion healthy looks."""


@check("state", "batch_norm")
def moving(trial: Trial, subject: str) -> None:
    """The moving mean and variance after one step and after three, in the variance that the
    convention names."""

    def body(example: Example) -> None:
        samples = Samples(example.batch.x, example.batch.y)
        convention = "torch" if "unbiased" in str(example.model.layers[0]) else "keras"
        batch_size = len(samples.x)
        recipe = to_convention(
            convention,
            Recipe(SGD(0.01), batch_size=batch_size, epochs=3, shuffle=False, loss=example.loss),
        )
        # Every change but the statistics' is small, and what is allowed is taken from the largest.
        compare(trial, example.model, example.weights, samples, recipe, Plan(0, parity=True), 3)

    trial.search(drawn(trial, "batch_norm"), body)


@check("state", "float32")
def moving_single(trial: Trial, subject: str) -> None:
    """The moving statistics of a training in single precision."""
    engine, convention = trial.at("float32"), trial.engine.conventions[0]
    model = to_convention(
        convention, Model("single", (3,), (BatchNorm(moving_decay=0.7), Dense(2)))
    )
    weights = strategies.nonzero_weights(model, trial.seed)
    samples = Samples(
        3.0 + trial.generator.standard_normal((32, 3)), trial.generator.standard_normal((32, 2))
    )
    recipe = to_convention(
        convention,
        Recipe(SGD(0.01), batch_size=8, epochs=5, shuffle=False, loss=MeanSquaredError()),
    )
    right = trained(trial.oracle, model, weights, samples, recipe, Plan(0, parity=True))
    found = trained(engine, model, weights, samples, recipe, Plan(0, parity=True))
    for name in ("batch_norm_1.moving_mean", "batch_norm_1.moving_variance"):
        allowed = max(SINGLE, trial.loosens or 0.0) * size(right[name])
        close(
            f"{name} after 20 steps",
            found[name],
            right[name],
            allowed,
            layer="batch_norm_1",
            tensor=name,
        )


@check("state", "looking")
def looking(trial: Trial, subject: str) -> None:
    """Neither predicting nor tracing nor taking gradients moves a tensor, in training mode
    neither."""

    def body(example: Example) -> None:
        engine = trial.engine
        net = engine.build(example.model, example.weights)
        before = engine.weights(net)
        for mode in (True, False):
            batch = example.batch._replace(training=mode)
            for what, call in (
                ("predict", lambda: engine.predict(net, example.batch.x)),
                ("trace", lambda batch=batch: engine.trace(net, batch)),
                ("gradients", lambda batch=batch: engine.gradients(net, batch, example.loss)),
            ):
                call()
                for name, values in engine.weights(net).items():
                    if not np.array_equal(values, before[name]):
                        layer = name.partition(".")[0]
                        raise broken(
                            f"{what} moved {name}, training={mode}", layer=layer, tensor=name
                        )

    trial.search(networks(trial), body, examples=15)


@check("state", "mode")
def mode(trial: Trial, subject: str) -> None:
    """Predicting in a training and after it is not training, and training after predicting is."""
    convention = trial.engine.conventions[0]
    model = to_convention(
        convention,
        Model("switch", (3,), (Dense(4), BatchNorm(moving_decay=0.5), Dropout(0.5), Dense(2))),
    )
    weights = strategies.nonzero_weights(model, trial.seed)
    samples = Samples(
        trial.generator.standard_normal((8, 3)), trial.generator.standard_normal((8, 2))
    )
    recipe = to_convention(
        convention,
        Recipe(SGD(0.05), batch_size=4, epochs=2, shuffle=False, loss=MeanSquaredError()),
    )
    engine, oracle, plan = trial.engine, trial.oracle, Plan(1, parity=True)
    net, truth = engine.build(model, weights), oracle.build(model, weights)

    for turn in ("the first", "the second"):
        for _ in engine.fit(net, samples, recipe, plan):
            engine.predict(net, samples.x)
        train(oracle, truth, samples, recipe, plan)
        right = oracle.predict(truth, samples.x)
        found = engine.predict(net, samples.x)
        close(f"predict after {turn} training", found, right, 10 * trial.tolerance * size(right))


@check("state", "stopped")
def stopped(trial: Trial, subject: str) -> None:
    """A training that is closed after an epoch leaves nothing behind but the weights: no masks, no
    order, no limit."""
    engine, convention = trial.engine, trial.engine.conventions[0]
    model = Model("stopped", (6,), (Dense(4), Dropout(0.5), Dense(2)))
    samples = Samples(
        trial.generator.standard_normal((8, 6)), trial.generator.standard_normal((8, 2))
    )
    recipe = to_convention(
        convention, Recipe(SGD(0.05), batch_size=4, epochs=2, loss=MeanSquaredError())
    )
    net = engine.build(model, strategies.nonzero_weights(model, trial.seed))

    with contextlib.closing(engine.fit(net, samples, recipe, Plan(3, parity=True))) as epochs:
        next(epochs)
    fresh, twin = (engine.build(model, engine.weights(net)) for _ in range(2))
    # Natively, where what is left of a plan would show.
    for each in (net, fresh, twin):
        train(engine, each, samples, recipe, Plan(5, parity="native" in trial.lacks))
    after = engine.weights(fresh)
    if any(
        not np.array_equal(values, after[name]) for name, values in engine.weights(twin).items()
    ):
        return  # One plan gives two results: the rung of determinism has more to say of that.
    for name, values in engine.weights(net).items():
        told = f"{name} after a training that follows one that was stopped"
        close(told, values, after[name], 10 * trial.tolerance * size(after[name]), tensor=name)


@check("state", "optimizer")
def fresh(trial: Trial, subject: str) -> None:
    """Every fit begins with an optimiser that remembers nothing, of this network or of another."""
    convention = trial.engine.conventions[0]
    model = Model("fresh", (3,), (Dense(2), Activation("tanh"), Dense(2)))
    samples = Samples(
        trial.generator.standard_normal((6, 3)), trial.generator.standard_normal((6, 2))
    )
    recipe = to_convention(
        convention,
        Recipe(Adam(0.01), batch_size=6, epochs=3, shuffle=False, loss=MeanSquaredError()),
    )
    plan, begun = Plan(1, parity=True), strategies.nonzero_weights(model, trial.seed)
    net, truth = trial.engine.build(model, begun), trial.oracle.build(model, begun)
    for turn in ("first", "second"):
        train(trial.engine, net, samples, recipe, plan)
        train(trial.oracle, truth, samples, recipe, plan)
        for name, right in trial.oracle.weights(truth).items():
            allowed = trial.tolerance * size(right - begun[name])
            close(
                f"{name} after the {turn} fit",
                trial.engine.weights(net)[name],
                right,
                allowed,
                tensor=name,
            )


@check("state", "dropout")
def dropout(trial: Trial, subject: str) -> None:
    """The engine's own masks: whether as many are kept as should be, each by itself, and the rest
    scaled."""
    for rate in (0.5, 0.2, 0.1, 0.9):
        model = Model("dropout", (400,), (Dropout(rate), Dense(1)))
        net = trial.engine.build(model, seed=trial.seed)
        x = np.ones((50, 400))
        y = trial.engine.trace(net, Batch(x, np.zeros((50, 1)), training=True))[0]
        kept = y != 0
        close(
            f"what dropout({rate:g}) keeps of 1",
            y,
            kept / (1 - rate),
            1e-6 / (1 - rate),
            layer="dropout_1",
        )
        _binomial(
            kept.sum(axis=0), 50, 1 - rate, f"dropout({rate:g}), kept of each unit in a batch"
        )
        _binomial(kept.sum(axis=1), 400, 1 - rate, f"dropout({rate:g}), kept of each sample")
        calm = trial.engine.trace(net, Batch(x, np.zeros((50, 1)), training=False))[0]
        close(f"dropout({rate:g}) outside training", calm, x, 1e-6, layer="dropout_1")
    # One after the other keeps a quarter, unless the second drops what the first does.
    net = trial.engine.build(
        Model("dropouts", (400,), (Dropout(0.5), Dropout(0.5), Dense(1))), seed=trial.seed
    )
    y = trial.engine.trace(net, Batch(x, np.zeros((50, 1)), training=True))[1]
    _binomial(
        (y != 0).sum(axis=1), 400, 0.25, "dropout(0.5) after dropout(0.5), kept of each sample"
    )


@check("state", "dropout-of-images")
def dropout_of_images(trial: Trial, subject: str) -> None:
    """Each value of an image by itself, not a channel, a place or an image as a whole; another mask
    for each image."""
    model = Model("images", (10, 10, 4), (Dropout(0.5), Flatten(), Dense(1)))
    net = trial.engine.build(model, seed=trial.seed)
    batch = Batch(np.ones((50, 10, 10, 4)), np.zeros((50, 1)), training=True)
    kept = trial.engine.trace(net, batch)[0] != 0
    _binomial(
        kept.sum(axis=(1, 2)).ravel(), 100, 0.5, "dropout(0.5), kept of each channel of each image"
    )
    _binomial(kept.sum(axis=3).ravel(), 4, 0.5, "dropout(0.5), kept of each place of each image")
    _binomial(
        kept.sum(axis=0).ravel(), 50, 0.5, "dropout(0.5), kept of each value in a batch of images"
    )


@check("state", "dropout-in-fit")
def dropout_in_fit(trial: Trial, subject: str) -> None:
    """The masks that a training draws: another for every sample, every step, every epoch.

    From zero weights, with inputs of one and a tiny rate, a weight has moved in proportion to how
    often its input was kept.
    """
    units, turns, rate = 300, 16, 1e-7
    for drop_rate in (0.5, 0.25):
        keep = 1 - drop_rate
        model = Model(
            "kept",
            (units,),
            (Dropout(drop_rate), Dense(1, use_bias=False, kernel_initializer=Zeros())),
        )
        for told, samples, batch, epochs in (
            ("samples of a batch", turns, turns, 1),
            ("steps of an epoch", turns, 1, 1),
            ("epochs", 1, 1, turns),
        ):
            recipe = Recipe(SGD(rate), batch_size=batch, epochs=epochs, loss=MeanSquaredError())
            recipe = to_convention(trial.engine.conventions[0], recipe)
            net = trial.engine.build(model, seed=trial.seed)
            train(
                trial.engine,
                net,
                Samples(np.ones((samples, units)), np.ones((samples, 1))),
                recipe,
                Plan(trial.seed),
            )
            counts = trial.engine.weights(net)["dense_1.kernel"][:, 0] * keep * batch / (2 * rate)
            whole = np.round(counts)
            what = f"dropout({drop_rate:g}), how often each of {units} inputs was kept in {turns} {told}"
            close(what, counts, whole, 0.02, layer="dropout_1")
            _binomial(whole, turns, keep, what)


def _binomial(counts: Array, trials: int, chance: float, what: str) -> None:
    """Raise unless counts are of a binomial law by their mean and their variance, each but for one
    chance in a billion."""
    n, mean = len(counts), trials * chance
    variance = mean * (1 - chance)
    z = (counts.mean() - mean) / np.sqrt(variance / n)
    if 2 * stats.norm.sf(abs(z)) < NEVER:
        raise broken(
            f"{what}: {counts.mean():.4g} in the mean, where {mean:.4g} is right", layer="dropout_1"
        )
    dispersion = float(((counts - mean) ** 2).sum() / variance)
    chances = stats.chi2.cdf(dispersion, n), stats.chi2.sf(dispersion, n)
    if 2 * min(chances) < NEVER:
        told = (
            "too much alike" if chances[0] < chances[1] else "too far apart: masks are used again"
        )
        raise broken(
            f"{what}: a variance of {dispersion / n * variance:.3g}, where {variance:.3g} is right; {told}"
        )
