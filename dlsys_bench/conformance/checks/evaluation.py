"""Predictions of parts of the data, accuracies where outputs are equal, and running figures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.conformance import strategies
from dlsys_bench.conformance.check import check, check_each
from dlsys_bench.conformance.checks.loss_subjects import (
    TRAINED,
    LossSubject,
    in_conventions,
    requires_loss,
)
from dlsys_bench.conformance.checks.subjects import label_loss
from dlsys_bench.conformance.checks.support import needed_layers, supported, trainable
from dlsys_bench.conformance.checks.training import regression, regression_recipe, start
from dlsys_bench.conformance.expectation import magnitude
from dlsys_bench.conformance.finding import Fault, broken, close
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.data import Samples
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.history import Epoch
from dlsys_bench.engines.plan import Array, Plan, Weights
from dlsys_bench.errors import NotApplicableError
from dlsys_bench.spec.graph import parallel, serial
from dlsys_bench.spec.inputs import Input
from dlsys_bench.spec.layers import Activation, BatchNorm, Dense, Embedding, Flatten, LayerNorm
from dlsys_bench.spec.losses import LOSSES, Loss
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe

FLOAT32 = 1e-5
"""The tolerance of figures of an epoch, which an engine may sum in single precision, as Keras."""

PARTS = {
    "parts": Model("parts", (3,), (Dense(4), BatchNorm(), Activation("tanh"), Dense(3))),
    "parts-of-images": Model(
        "parts-of-images", (4, 4, 2), (BatchNorm(), Activation("tanh"), Flatten(), Dense(3))
    ),
    "parts-of-sequences": Model(
        "parts-of-sequences", (4, 2), (LayerNorm(), Activation("tanh"), Flatten(), Dense(3))
    ),
    "parts-of-tokens": Model(
        "parts-of-tokens", (4,), (Embedding(5, 2), Flatten(), Dense(3)), input_dtype="int"
    ),
    "parts-of-inputs": Model(
        "parts-of-inputs",
        inputs=(Input("words", (4,), "int"), Input("photo", (8, 8, 2))),
        layers=(
            parallel(
                serial(Embedding(5, 2), Flatten(), source="words"),
                serial(Flatten(), source="photo"),
            ),
            Dense(3),
        ),
    ),
}


@check_each("evaluation", PARTS, requires=needed_layers)
def parts(trial: Trial, model: Model) -> None:
    """The prediction of a sample does not depend on the samples that are predicted with it.

    Why: Data are predicted in pieces that fit into memory, which must not change the predictions.
    Broken by: An engine that uses the statistics of the batch in `predict`, or that mixes up the
    last, smaller piece.
    Fix: Use the moving statistics outside training, and predict the last piece with its own size.
    """
    model = supported(trial, model)
    network = trial.engine.build(model, start(trial, model))
    x = strategies.inputs(model, 4100, trial.generator)
    whole = trial.engine.predict(network, x)
    for first, last in ((0, 1), (1, 8), (8, 1008), (1008, 4100)):
        actual = trial.engine.predict(network, x[first:last])
        what = f"the prediction of samples {first} to {last}"
        close(what, actual, whole[first:last], 10 * trial.tolerance * magnitude(whole))


@check_each("evaluation", TRAINED, requires=requires_loss)
def running(trial: Trial, subject: LossSubject) -> None:
    """The running loss and accuracy: means over all samples of an epoch, the smaller last batch
    weighted by its size; of an epoch that is cut short, over the samples it used. Where labels are
    ignored, the means are over the labels kept, wherever these are in the order.

    Why: The running figures are what people watch; a mean that weights a small last batch as a
    whole one is off.
    Broken by: An engine that averages the means of the batches, or divides by all samples when an
    epoch is cut short.
    Fix: Sum the loss of each batch times its size, and divide by the number of samples used;
    `training_epochs` does, also for weights of labels, if it is given the samples.
    """
    outputs = subject.outputs()
    model = Model("running", (*outputs[:-1], 3), (Dense(outputs[-1]),))
    for loss in in_conventions(trial, subject.loss):
        # Of this many labels, some are ignored and predicted, and some are kept and correct.
        y = strategies.targets(loss, outputs, 43 if subject.ignores else 11, trial.generator)
        _compare(trial, model, start(trial, model), y, loss)


@check("evaluation", "many-classes")
def classes(trial: Trial) -> None:
    """Three hundred classes, more than a byte can number.

    Why: Labels of more than 255 classes do not fit into a byte, and some engines convert them to
    one.
    Broken by: An engine that stores labels as `uint8`.
    Fix: Convert labels to an integer type of at least 32 bits.
    """
    loss = label_loss(trial)
    model = Model("classes", (3,), (Dense(300),))
    y = trial.generator.permutation(300)[:11]
    _compare(trial, model, start(trial, model), y, loss)


@check("evaluation", "while-learning")
def learning(trial: Trial) -> None:
    """The loss of a batch is the one before its update, by the statistics of the batch.

    Why: A running loss that is measured after the update is smaller, and cannot be compared with
    other engines.
    Broken by: An engine that evaluates the loss again after the update, or in inference mode.
    Fix: Report the loss whose gradient made the update.
    """
    layers = (Dense(4), Activation("tanh"), BatchNorm(), Dense(3))
    model = trainable(trial, Model("learning", (3,), layers))
    samples, weights = regression(trial, 11, outputs=3), start(trial, model)
    recipe = regression_recipe(trial, SGD(0.2), batch_size=4, epochs=3)
    plan = Plan(1, parity=True)
    expected = train(trial.oracle, trial.oracle.build(model, weights), samples, recipe, plan)
    actual = train(trial.engine, trial.engine.build(model, weights), samples, recipe, plan)
    for epoch, reference in zip(actual, expected, strict=True):
        allowed = max(FLOAT32, trial.tolerance) * abs(reference.running_loss)
        what = f"the running loss of epoch {reference.epoch}"
        close(what, epoch.running_loss, reference.running_loss, allowed)


@check("evaluation", "ties")
def ties(trial: Trial) -> None:
    """Of equal outputs, the first is the prediction, and of nearly equal ones the largest; an
    output of zero has no sign, and a tiny one has.

    Why: Where outputs are equal, a different choice of the class changes the accuracy.
    Broken by: An engine that takes the last of equal outputs, that counts an output of zero as a
    sign, or that compares outputs in half precision.
    Fix: Use the first of the largest outputs; for signs, compare the product of output and target
    with zero.
    """
    losses = [LOSSES[kind].of() for kind in trial.losses]
    classifying = [loss for loss in losses if loss.targets != "values"]
    if not classifying:
        raise NotApplicableError("the engine lacks every loss of which there is an accuracy")
    for loss in classifying:
        outputs = 1 if loss.targets == "signs" else 3
        model = Model("ties", (3,), (Dense(outputs),))
        of_labels, answer = loss.targets == "labels", min(1, outputs - 1)
        # In half precision, 1.0001 is one, and 1e-8 is zero.
        kernel, bias = np.zeros((3, outputs)), np.full(outputs, float(of_labels))
        kernel[0, answer] = 1e-4 if of_labels else 1e-8
        weights: Weights = {"dense_1.kernel": kernel, "dense_1.bias": bias}
        y = strategies.targets(loss, outputs, 11, trial.generator)
        x = np.zeros((11, 3))
        x[::2, 0] = 1
        y[::2] = answer if of_labels else 1
        _compare(trial, model, weights, y, loss, x)


def _compare(
    trial: Trial,
    model: Model,
    weights: Weights,
    y: NDArray[Any],
    loss: Loss,
    x: Array | None = None,
) -> None:
    """Compare the figures of an epoch that moves nothing: whole, cut short, and natively. The
    inputs are random unless given."""
    if x is None:
        x = trial.generator.standard_normal((len(y), *model.input_shape))
    samples = Samples(x, y)
    recipe = supported(trial, Recipe(SGD(0.0), batch_size=4, epochs=1, shuffle=False))
    recipe = replace(recipe, loss=loss, shuffle=loss.is_weighted)
    plans = {"": Plan(trial.seed, parity=True), ", 2 steps": Plan(trial.seed, steps=2, parity=True)}
    if trial.native:
        plans[", natively"] = Plan(trial.seed)
    for kind, plan in plans.items():
        reference, network = trial.oracle.build(model, weights), trial.engine.build(model, weights)
        (expected,) = train(trial.oracle, reference, samples, recipe, plan)
        (actual,) = train(trial.engine, network, samples, recipe, plan)
        _compare_figures(f"({loss.kind}, {len(y)} samples by 4{kind})", actual, expected)


def _compare_figures(training: str, actual: Epoch, expected: Epoch) -> None:
    allowed = FLOAT32 * max(1, abs(expected.running_loss))
    close(f"the running loss {training}", actual.running_loss, expected.running_loss, allowed)
    what, accuracies = (
        f"the running accuracy {training}",
        (
            actual.running_accuracy,
            expected.running_accuracy,
        ),
    )
    if (accuracies[0] is None) != (accuracies[1] is None):
        found, right = map(str, accuracies)
        raise broken(Fault.WRONG_TYPE, what, actual=found, expected=right)
    if accuracies[0] is not None and accuracies[1] is not None:
        close(what, accuracies[0], accuracies[1], FLOAT32)
