"""The state that training leaves besides the weights: moving statistics, the optimiser's state,
the mode of the network."""

from __future__ import annotations

import contextlib
from functools import partial

from dlsys_bench.conformance.check import check
from dlsys_bench.conformance.checks.subjects import (
    SUBJECTS,
    convention_of,
    magnitude,
    networks,
    requires,
    single_layers,
)
from dlsys_bench.conformance.checks.support import has, supported, trainable
from dlsys_bench.conformance.checks.training import (
    compare_prediction,
    compare_tensors,
    compare_updates,
    differing,
    explain_second,
    plans,
    regression,
    regression_recipe,
    relative,
    start,
)
from dlsys_bench.conformance.finding import Fault, broken, close, refining
from dlsys_bench.conformance.strategies import Example
from dlsys_bench.conformance.training_case import TrainingCase
from dlsys_bench.conformance.trial import SINGLE, Trial
from dlsys_bench.data import Samples
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.plan import Plan
from dlsys_bench.errors import NotApplicableError
from dlsys_bench.spec.layers import Activation, BatchNorm, Dense, Dropout
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD, Adam
from dlsys_bench.spec.recipe import Recipe

BATCH_NORM = SUBJECTS["batch_norm"]


@check("state", "batch_norm", requires=requires(BATCH_NORM))
def moving(trial: Trial) -> None:
    """The moving mean and variance after one step and after three."""

    def body(example: Example) -> None:
        samples = Samples(example.batch.x, example.batch.y)
        # The tolerance is relative to the largest change, so those of the weights are kept small.
        recipe = Recipe(
            SGD(0.01), batch_size=len(samples.x), epochs=3, shuffle=False, loss=example.loss
        )
        recipe = supported(trial, recipe, convention=convention_of(trial, example.model))
        plan = Plan(0, parity=True)
        training = TrainingCase(example.model, example.weights, samples, recipe, plan)
        compare_updates(trial, training, 3)

    trial.search(single_layers(trial, BATCH_NORM), body)


@check("state", "float32", dtype="float32", requires=requires(BATCH_NORM))
def moving_single(trial: Trial) -> None:
    """The moving statistics of a training in single precision."""
    layers = (BatchNorm(moving_decay=0.7), Dense(2))
    model = trainable(trial, Model("single", (3,), layers))
    samples = regression(trial, 32)
    samples = Samples(3.0 + samples.x, samples.y)
    recipe = regression_recipe(trial, SGD(0.01), batch_size=8, epochs=5)
    training = TrainingCase(model, start(trial, model), samples, recipe, Plan(0, parity=True))
    expected, actual = training.run(trial.oracle), training.run(trial.engine)
    allowed = relative(trial.loosened(SINGLE), expected)
    names = ("batch_norm_1.moving_mean", "batch_norm_1.moving_variance")
    compare_tensors("after 20 steps", actual, expected, allowed, names=names)


@check("state", "looking")
def looking(trial: Trial) -> None:
    """Predicting, tracing and taking gradients move no tensor, in training mode neither."""
    trial.search(networks(trial), lambda example: _look(trial, example), examples=15)


def _look(trial: Trial, example: Example) -> None:
    engine = trial.engine
    network = engine.build(example.model, example.weights)
    before = engine.weights(network)
    for mode in (True, False):
        batch = example.batch._replace(training=mode)
        for method, arguments in (
            ("predict", (batch.x,)),
            ("trace", (batch,)),
            ("gradients", (batch, example.loss)),
        ):
            getattr(engine, method)(network, *arguments)
            for name in differing(before, engine.weights(network)):
                where = {"layer": name.partition(".")[0], "tensor": name}
                what = f"{method} moved {name}, with training={mode}"
                raise broken(Fault.SIDE_EFFECT, what, **where)


@check("state", "mode")
def mode(trial: Trial) -> None:
    """Predictions during and after a training run in inference mode, and a training after a
    prediction runs in training mode; by a plan and natively."""
    if not (has(trial, "layer:batch_norm") or has(trial, "layer:dropout")):
        raise NotApplicableError("the engine lacks every layer that has a mode")
    layers = (Dense(4), BatchNorm(moving_decay=0.5), Dropout(0.5), Dense(2))
    model = trainable(trial, Model("switch", (3,), layers))
    weights, samples = start(trial, model), regression(trial, 8)
    recipe = regression_recipe(trial, SGD(0.05), batch_size=4, epochs=2)
    engine, oracle = trial.engine, trial.oracle
    for plan in plans(trial):
        network, reference = engine.build(model, weights), oracle.build(model, weights)
        for turn in ("first", "second"):
            for epoch in engine.fit(network, samples, recipe, plan):
                when = f"epoch {epoch.epoch} of the {turn} training"
                compare_prediction(trial, network, samples.x, when)
            if plan.parity:
                train(oracle, reference, samples, recipe, plan)
                expected = oracle.predict(reference, samples.x)
                actual = engine.predict(network, samples.x)
                allowed = 10 * trial.tolerance * magnitude(expected)
                close(f"the prediction after the {turn} training", actual, expected, allowed)


@check("state", "stopped")
def stopped(trial: Trial) -> None:
    """A training that is closed after an epoch leaves nothing behind but the weights: no masks, no
    order, no limit."""
    engine = trial.engine
    model = trainable(trial, Model("stopped", (6,), (Dense(4), Dropout(0.5), Dense(2))))
    samples = regression(trial, 8, inputs=6)
    recipe = regression_recipe(trial, SGD(0.05), batch_size=4, epochs=2, shuffle=True)
    network = engine.build(model, start(trial, model))
    with contextlib.closing(engine.fit(network, samples, recipe, Plan(3, parity=True))) as epochs:
        next(epochs)
    fresh, twin = (engine.build(model, engine.weights(network)) for _ in range(2))
    # A native training shows what is left of a plan.
    for each in (network, fresh, twin):
        train(engine, each, samples, recipe, Plan(5, parity=not trial.native))
    expected = engine.weights(fresh)
    if differing(engine.weights(twin), expected):
        return  # One plan gives two results, which the rung of determinism reports.
    allowed = relative(10 * trial.tolerance, expected)
    when = "after a training that follows one that was stopped"
    compare_tensors(when, engine.weights(network), expected, allowed)


@check("state", "optimizer")
def optimizer(trial: Trial) -> None:
    """Every training starts with a fresh optimiser, of this network and of others."""
    model = trainable(trial, Model("fresh", (3,), (Dense(2), Activation("tanh"), Dense(2))))
    samples, weights = regression(trial, 6), start(trial, model)
    recipe = regression_recipe(trial, Adam(0.01), batch_size=6, epochs=3)
    network, reference = trial.engine.build(model, weights), trial.oracle.build(model, weights)
    for turn in ("first", "second"):
        train(trial.engine, network, samples, recipe, Plan(1, parity=True))
        train(trial.oracle, reference, samples, recipe, Plan(1, parity=True))
        expected = trial.oracle.weights(reference)
        allowed = {
            name: trial.tolerance * magnitude(values - weights[name])
            for name, values in expected.items()
        }
        actual = trial.engine.weights(network)
        case = TrainingCase(model, weights, samples, recipe, Plan(1, parity=True))
        with refining(partial(explain_second, trial, case)):
            compare_tensors(f"after the {turn} fit", actual, expected, allowed)
