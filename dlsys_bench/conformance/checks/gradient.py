"""The gradient in every tensor and in x, against complex steps through the definitions."""

from __future__ import annotations

import numpy as np

from dlsys_bench.conformance.check import Trial, check
from dlsys_bench.conformance.checks.forward import large
from dlsys_bench.conformance.checks.subjects import SUBJECTS, clear, drawn, networks, size
from dlsys_bench.conformance.finding import close
from dlsys_bench.conformance.guard import Guard
from dlsys_bench.conformance.strategies import Example
from dlsys_bench.engines.base import Gradients


def compare(trial: Trial, engine: Guard, example: Example) -> None:
    """The loss, then gradients from the output down: the first wrong one spoils those below it."""
    net, truth = (
        engine.build(example.model, example.weights),
        trial.oracle.build(example.model, example.weights),
    )
    expected = trial.oracle.gradients(truth, example.batch, example.loss)
    found = engine.gradients(net, example.batch, example.loss)
    allowed = trial.allowed(engine.dtype)
    close(
        "the loss",
        np.array(found.loss),
        np.array(expected.loss),
        allowed * max(1.0, abs(expected.loss)),
    )
    compare_gradients(found, expected, allowed)


def compare_gradients(found: Gradients, expected: Gradients, allowed: float) -> None:
    """A bias before a batch norm has a gradient of zero: what is allowed is taken from the largest
    of all."""
    scale = size(*expected.weights.values(), expected.x)
    for name in reversed(expected.weights):
        layer = name.partition(".")[0]
        close(
            f"d {name}",
            found.weights[name],
            expected.weights[name],
            allowed * scale,
            layer=layer,
            tensor=name,
        )
    close("d x", found.x, expected.x, allowed * scale)


@check("gradient", *SUBJECTS)
def gradient(trial: Trial, subject: str) -> None:
    trial.search(drawn(trial, subject), lambda example: compare(trial, trial.engine, example))


@check("gradient", "network")
def network(trial: Trial, subject: str) -> None:
    """Drawn networks of up to six layers, with any loss."""
    trial.search(networks(trial), lambda example: compare(trial, trial.engine, example))


@check("gradient", "float32")
def single(trial: Trial, subject: str) -> None:
    """The same in single precision, in which most people train: far from kinks, with a wider
    tolerance."""
    engine = trial.at("float32")

    def body(example: Example) -> None:
        compare(trial, engine, example)

    trial.search(networks(trial).filter(lambda example: clear(trial, example, "float32")), body)


@check("gradient", "lenet5")
def lenet5(trial: Trial, subject: str) -> None:
    """A network of real size: the slope along two drawn directions in every tensor, and in x."""
    example, engine = large(trial), trial.engine
    found = engine.gradients(
        engine.build(example.model, example.weights), example.batch, example.loss
    )
    truth = trial.oracle.build(example.model, example.weights)
    scale = max(float(np.linalg.norm(g)) for g in found.weights.values())
    for name, values in [*reversed(found.weights.items()), (None, found.x)]:
        for _ in range(2):
            direction = trial.generator.standard_normal(values.shape)
            direction /= np.linalg.norm(direction)
            right = trial.oracle.slope(truth, example.batch, example.loss, name, direction)
            told = "d x" if name is None else f"d {name}"
            layer = name and name.partition(".")[0]
            slope = np.array((direction * values).sum())
            close(
                f"{told} along a direction",
                slope,
                np.array(right),
                trial.tolerance * scale,
                layer=layer,
                tensor=name,
            )
