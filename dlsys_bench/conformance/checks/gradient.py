"""The gradients with respect to every tensor and to x, against complex-step derivatives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from dlsys_bench.conformance.check import check, check_each
from dlsys_bench.conformance.checks.evidence import with_snippet
from dlsys_bench.conformance.checks.forward import LENET5, lenet5_example
from dlsys_bench.conformance.checks.subjects import (
    SUBJECTS,
    LayerSubject,
    is_smooth,
    networks,
    requires,
    single_layers,
    without_last,
)
from dlsys_bench.conformance.checks.support import has, needed_layers
from dlsys_bench.conformance.expectation import common_scale
from dlsys_bench.conformance.oracle import Oracle
from dlsys_bench.conformance.strategies import Example, nonzero_weights
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.data import split_inputs
from dlsys_bench.data.inputs import X
from dlsys_bench.engines.base import Gradients
from dlsys_bench.engines.plan import Array, Plan
from dlsys_bench.spec.graph import parallel, serial
from dlsys_bench.spec.layers import LAYERS, Activation

LOSS = "the loss"


def compare(trial: Trial, example: Example) -> None:
    """Compare the loss, then the gradients from the output down.

    The first wrong gradient spoils those below it. Differences are relative to the largest of all
    gradients, because a bias before a batch norm has a gradient of zero.
    """
    model, batch, loss = example.model, example.batch, example.loss

    def compute(oracle: Oracle) -> dict[str, Any]:
        found = oracle.gradients(oracle.build(model, example.weights), batch, loss)
        return {LOSS: found.loss, **dict(reversed(found.weights.items())), **_of_x(found)}

    def scales(values: Mapping[str, Array]) -> dict[str, float]:
        gradients = {name: value for name, value in values.items() if name != LOSS}
        return {LOSS: max(1.0, abs(float(values[LOSS]))), **common_scale(gradients)}

    expected = trial.expect(compute, scales)
    found = trial.engine.gradients(trial.engine.build(model, example.weights), batch, loss)
    expected.check(LOSS, found.loss, LOSS)
    for name, actual in reversed([*_of_x(found).items(), *found.weights.items()]):
        layer, dot, _ = name.partition(".")
        where = {"layer": layer, "tensor": name} if dot else {}
        with with_snippet(example, {f"d loss / d {name}": expected.values[name]}, loss):
            expected.check(name, actual, f"d {name}", **where)
    expected.reject_unless_sharp()


def _of_x(found: Gradients) -> dict[str, Array]:
    """Return the gradient with respect to each input by its name; token ids have none."""
    return {} if found.x is None else split_inputs(found.x)


@check_each("gradient", SUBJECTS, requires=requires)
def gradient(trial: Trial, subject: LayerSubject) -> None:
    """The gradients of one layer, and of two that are alike.

    Why: A wrong gradient still trains, only worse; no error and no figure gives it away.
    Broken by: An engine that forgets a term of the derivative of {subject}, averages where it has
    to sum, or keeps what the backward pass needs where another layer of the same shape keeps it.
    Fix: Compare the formula of the backward pass with the derivative of the forward pass, term by
    term; the factor between the values is often a hint. Let every layer have its own memory.
    """
    single = single_layers(trial, subject)
    trial.search(single, lambda example: compare(trial, example))
    join = "add" if has(trial, "layer:add") else "concat"
    if has(trial, f"layer:{join}", "layer:activation", "function:tanh"):
        # Equal values in a pool may have tanhs that differ in the last bit.
        two = single.map(partial(_two_alike, join)).filter(lambda both: is_smooth(trial, both))
        trial.search(two, lambda both: compare(trial, both), examples=1)


def _two_alike(join: str, example: Example) -> Example:
    """Return an example of two layers as that of another, on x and on its tanh, or on tokens."""
    block = without_last(example.model).block
    floats = example.model.input_dtype == "float"
    other = serial(Activation("tanh"), block) if floats else block
    layers = parallel(block, other, join=LAYERS[join].of()), example.model.layers[-1]
    model = replace(example.model, layers=layers, connections=None)
    weights = nonzero_weights(model, example.seed)
    masks = Plan(example.seed).masks(model, 0, len(example.batch.x))
    batch = example.batch._replace(masks=masks)
    return example._replace(model=model, weights=weights, batch=batch)


@check("gradient", "network", requires=["layer:dense"])
def network(trial: Trial) -> None:
    """Networks of up to six layers, with any loss.

    Why: What a layer passes down has to be right for the layers below it, and for every loss.
    Broken by: An engine whose layer changes the gradient in place that another layer still needs.
    Fix: The finding names the highest tensor whose gradient differs: look at the layer above it.
    """
    trial.search(networks(trial), lambda example: compare(trial, example))


@check("gradient", "lenet5", requires=needed_layers(LENET5))
def lenet5(trial: Trial) -> None:
    """A network of realistic size: the slope along two random directions in every tensor and x.

    Why: Small examples do not fill the blocks and caches for which engines have separate code.
    Broken by: An engine that leaves out the last block of images in the gradient of a kernel.
    Fix: Compare the gradient block by block: half the images, half the channels.
    """
    example, engine = lenet5_example(trial), trial.engine
    network = engine.build(example.model, example.weights)
    found = engine.gradients(network, example.batch, example.loss)
    assert found.x is not None
    actual: dict[str | int, Array] = {**dict(reversed(found.weights.items())), 0: found.x}
    directions = {
        f"d {name or X} along direction {number}": (name, _direction(trial, values.shape))
        for name, values in actual.items()
        for number in (1, 2)
    }

    def compute(oracle: Oracle) -> dict[str, float]:
        reference = oracle.build(example.model, example.weights)
        return {
            what: oracle.slope(reference, example.batch, example.loss, {name: way}).derivative
            for what, (name, way) in directions.items()
        }

    largest = max(float(np.linalg.norm(g)) for g in found.weights.values())
    expected = trial.expect(compute, lambda values: dict.fromkeys(values, largest))
    for what, (name, way) in directions.items():
        tensor = None if isinstance(name, int) else name
        layer = tensor and tensor.partition(".")[0]
        expected.check(what, (way * actual[name]).sum(), what, layer=layer, tensor=tensor)


def _direction(trial: Trial, shape: tuple[int, ...]) -> Array:
    """Return a random direction of length one."""
    direction = trial.generator.standard_normal(shape)
    unit: Array = direction / np.linalg.norm(direction)
    return unit
