"""The state that training leaves besides the weights: moving statistics, the optimiser's state,
the mode of the network."""

from __future__ import annotations

import contextlib
from functools import partial

from dlsys_bench.conformance.check import check
from dlsys_bench.conformance.checks.subjects import (
    SUBJECTS,
    convention_of,
    networks,
    requires,
    single_layers,
)
from dlsys_bench.conformance.checks.support import has, supported, trainable
from dlsys_bench.conformance.checks.training import (
    compare_prediction,
    compare_tensors,
    compare_trainings,
    compare_updates,
    differing,
    explain_second,
    plans,
    regression,
    regression_recipe,
    relative,
    start,
)
from dlsys_bench.conformance.expectation import SHARP_TRAINING
from dlsys_bench.conformance.finding import Fault, broken, refining
from dlsys_bench.conformance.oracle import Oracle
from dlsys_bench.conformance.strategies import Example
from dlsys_bench.conformance.training_case import TrainingCase
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.data import Samples
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.plan import Array, Plan
from dlsys_bench.errors import NotApplicableError
from dlsys_bench.spec.layers import Activation, BatchNorm, Dense, Dropout
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD, Adam
from dlsys_bench.spec.recipe import Recipe

BATCH_NORM = SUBJECTS["batch_norm"]


@check("state", "batch_norm", requires=requires(BATCH_NORM))
def moving(trial: Trial) -> None:
    """The moving mean and variance after one step and after three.

    Why: Predictions outside training rest on these statistics, and no gradient ever repairs them.
    Broken by: An engine that mixes up decay and momentum (0.9 and 0.1), or uses the biased variance
    where its convention does not.
    Fix: Compare with the formula of `BatchNorm` in the convention that the engine names.
    """

    def body(example: Example) -> None:
        samples = Samples(example.batch.x, example.batch.y)
        recipe = Recipe(
            SGD(0.1), batch_size=len(samples.x), epochs=3, shuffle=False, loss=example.loss
        )
        recipe = supported(trial, recipe, convention=convention_of(trial, example.model))
        plan = Plan(0, parity=True)
        training = TrainingCase(example.model, example.weights, samples, recipe, plan)
        compare_updates(trial, training, 3)

    trial.search(single_layers(trial, BATCH_NORM), body)


@check("state", "batch_norm-long", requires=requires(BATCH_NORM))
def moving_long(trial: Trial) -> None:
    """The moving statistics after twenty steps, and those of a layer that never moves them.

    Why: Small mistakes in the moving statistics add up over many steps.
    Broken by: An engine that updates the statistics once per epoch, with the decay of the wrong
    convention, or with its default where the weight of the new ones is zero.
    Fix: Compare with the formula of `BatchNorm` in the convention that the engine names, one step
    at a time.
    """
    first = BatchNorm(moving_decay=0.7), Activation("tanh"), Dense(3, use_bias=False)
    layers = (*first, BatchNorm(moving_decay=1.0), Dense(2))
    model = trainable(trial, Model("single", (3,), layers))
    samples = regression(trial, 32)
    samples = Samples(3.0 + samples.x, samples.y)
    recipe = regression_recipe(trial, SGD(0.01), batch_size=8, epochs=5)
    training = TrainingCase(model, start(trial, model), samples, recipe, Plan(0, parity=True))
    compare_trainings(trial, training, "after 20 steps")


@check("state", "looking", requires=["layer:dense"])
def looking(trial: Trial) -> None:
    """Predicting, tracing and taking gradients change no tensor, not even in training mode.

    Why: Looking at a network must not train it.
    Broken by: An engine whose forward pass in training mode updates the moving statistics in
    `trace` or `gradients`.
    Fix: Update the state of layers in `fit` alone.
    """
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
    prediction runs in training mode; with a plan and natively.

    Why: A network that stays in training mode predicts with dropout and with the statistics of the
    batch.
    Broken by: An engine that switches to training mode in `fit` and not back, or the other way
    round.
    Fix: Pass the mode with each call instead of storing it in the network.
    """
    if not (has(trial, "layer:batch_norm") or has(trial, "layer:dropout")):
        raise NotApplicableError("the engine lacks every layer that has a mode")
    layers = (Dense(4), BatchNorm(moving_decay=0.5), Dropout(0.5), Dense(2))
    model = trainable(trial, Model("switch", (3,), layers))
    weights, samples = start(trial, model), regression(trial, 8)
    recipe = regression_recipe(trial, SGD(0.05), batch_size=4, epochs=2)
    engine, turns = trial.engine, ("first", "second")

    def compute(oracle: Oracle) -> dict[str, Array]:
        reference, outputs = oracle.build(model, weights), {}
        for turn in turns:
            train(oracle, reference, samples, recipe, plans(trial)[0])
            outputs[turn] = oracle.predict(reference, samples.x)
        return outputs

    expected = trial.expect(compute, sharp=SHARP_TRAINING)
    for plan in plans(trial):
        network = engine.build(model, weights)
        for turn in turns:
            for epoch in engine.fit(network, samples, recipe, plan):
                when = f"epoch {epoch.epoch} of the {turn} training"
                compare_prediction(trial, network, samples.x, when)
            if plan.parity:
                actual = engine.predict(network, samples.x)
                expected.check(turn, actual, f"the prediction after the {turn} training")
    expected.reject_unless_sharp()


@check("state", "stopped")
def stopped(trial: Trial) -> None:
    """A training that is closed after an epoch leaves nothing behind but the weights: no masks, no
    order, no limit.

    Why: Trainings are stopped early, and the network is then used or trained further.
    Broken by: An engine that leaves the masks or the order of a plan installed when its generator
    is closed.
    Fix: Undo in a `finally` clause, or keep what belongs to a training in local variables of `fit`.
    """
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
    """Every training starts with a fresh optimiser, of this network and of others.

    Why: A training that goes on with an old momentum is not the training that was asked for.
    Broken by: An engine that stores its optimiser in the network and does not reset it.
    Fix: Create the state of the optimiser at the start of `fit`.
    """
    model = trainable(trial, Model("fresh", (3,), (Dense(2), Activation("tanh"), Dense(2))))
    samples, weights = regression(trial, 6), start(trial, model)
    recipe = regression_recipe(trial, Adam(0.01), batch_size=6, epochs=3)
    case = TrainingCase(model, weights, samples, recipe, Plan(1, parity=True))
    for fits, turn in enumerate(("first", "second"), start=1):
        with refining(partial(explain_second, trial, case)):
            compare_trainings(trial, case, f"after the {turn} fit", fits=fits)
