"""The gradients with respect to every tensor and to x, against complex-step derivatives."""

from __future__ import annotations

import numpy as np

from dlsys_bench.conformance.check import check, check_each
from dlsys_bench.conformance.checks.evidence import with_snippet
from dlsys_bench.conformance.checks.forward import LENET5, lenet5_example
from dlsys_bench.conformance.checks.subjects import (
    SUBJECTS,
    LayerSubject,
    magnitude,
    networks,
    requires,
    single_layers,
)
from dlsys_bench.conformance.checks.support import needed_layers
from dlsys_bench.conformance.finding import close
from dlsys_bench.conformance.strategies import Example
from dlsys_bench.conformance.trial import Trial


def compare(trial: Trial, example: Example) -> None:
    """Compare the loss, then the gradients from the output down.

    The first wrong gradient spoils those below it. The tolerance is relative to the largest of all
    gradients, because a bias before a batch norm has a gradient of zero.
    """
    network = trial.engine.build(example.model, example.weights)
    reference = trial.oracle.build(example.model, example.weights)
    expected = trial.oracle.gradients(reference, example.batch, example.loss)
    actual = trial.engine.gradients(network, example.batch, example.loss)
    tolerance = trial.tolerance
    close("the loss", actual.loss, expected.loss, tolerance * max(1.0, abs(expected.loss)))
    allowed = tolerance * magnitude(*expected.weights.values(), expected.x)
    for name in reversed(expected.weights):
        pair = actual.weights[name], expected.weights[name]
        with with_snippet(example, {f"d loss / d {name}": pair[1]}, example.loss):
            close(f"d {name}", *pair, allowed, layer=name.partition(".")[0], tensor=name)
    with with_snippet(example, {"d loss / d x": expected.x}, example.loss):
        close("d x", actual.x, expected.x, allowed)


@check_each("gradient", SUBJECTS, requires=requires)
def gradient(trial: Trial, subject: LayerSubject) -> None:
    """The gradients of one layer."""
    trial.search(single_layers(trial, subject), lambda example: compare(trial, example))


@check("gradient", "network")
def network(trial: Trial) -> None:
    """Networks of up to six layers, with any loss."""
    trial.search(networks(trial), lambda example: compare(trial, example))


@check("gradient", "float32", dtype="float32")
def single(trial: Trial) -> None:
    """The same in single precision, farther from kinks and with a wider tolerance."""
    trial.search(networks(trial), lambda example: compare(trial, example))


@check("gradient", "lenet5", requires=needed_layers(LENET5))
def lenet5(trial: Trial) -> None:
    """A network of realistic size: the slope along two random directions in every tensor and x."""
    example, engine = lenet5_example(trial), trial.engine
    network = engine.build(example.model, example.weights)
    found = engine.gradients(network, example.batch, example.loss)
    reference = trial.oracle.build(example.model, example.weights)
    allowed = trial.tolerance * max(float(np.linalg.norm(g)) for g in found.weights.values())
    for name, values in [*reversed(found.weights.items()), (None, found.x)]:
        for _ in range(2):
            direction = trial.generator.standard_normal(values.shape)
            direction /= np.linalg.norm(direction)
            batch, loss = example.batch, example.loss
            expected = trial.oracle.slope(reference, batch, loss, {name: direction}).derivative
            what = f"d {name or 'x'} along a direction"
            layer = name and name.partition(".")[0]
            close(what, (direction * values).sum(), expected, allowed, layer=layer, tensor=name)
