"""Products in float16 or bfloat16, with weights and updates in float32."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np

from dlsys_bench.conformance.check import check, check_each
from dlsys_bench.conformance.checks.support import example_loss, trainable
from dlsys_bench.conformance.checks.training import (
    compare_tensors,
    regression,
    start,
)
from dlsys_bench.conformance.expectation import magnitude
from dlsys_bench.conformance.finding import Fault, broken, close
from dlsys_bench.conformance.training_case import TrainingCase
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.data import Samples
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.plan import Array, Plan, Weights
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.layers import Activation, Dense
from dlsys_bench.spec.loss_scale import LossScale
from dlsys_bench.spec.losses import MeanSquaredError
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe


class Format(NamedTuple):
    """A format of products, and its number of significant bits."""

    name: Literal["float16", "bfloat16"]
    bits: int

    @property
    def requires(self) -> list[str]:
        """What an engine must have."""
        return [f"products:{self.name}"]


FORMATS: dict[str, Format] = {
    each.name: each for each in (Format("float16", 11), Format("bfloat16", 8))
}

NETWORK = Model("rounded", (3,), (Dense(4), Activation("tanh"), Dense(2)))
SINGLE = Model("single", (3,), (Dense(2),))
SMALL = ("products:float16", "loss_scale", "loss:mean_squared_error", "layer:dense")


def _rounded(values: Array, bits: int) -> Array:
    """Return values with this many significant bits."""
    mantissa, exponent = np.frexp(values)
    found: Array = np.ldexp(np.round(np.ldexp(mantissa, bits)), exponent - bits)
    return found


def _training(
    trial: Trial, model: Model, samples: Samples, weights: Weights, recipe: Recipe
) -> TrainingCase:
    own = to_convention(trial.convention, recipe)
    return TrainingCase(model, weights, samples, own, Plan(1, parity=True))


def _changes(case: TrainingCase, after: Weights) -> Weights:
    return {name: after[name] - values for name, values in case.weights.items()}


@check_each(
    "step",
    FORMATS,
    requires=lambda form: form.requires,
    prefix="products-",
    dtype="float32",
)
def rounding(trial: Trial, form: Format) -> None:
    """An update ignores digits of inputs and kernels beyond the precision of the format, and
    depends on its last digit.

    Why: Products are fast because their factors are rounded, and a training in another format is
    another training.
    Broken by: An engine that computes in float32, or in the other format.
    Fix: Convert both factors of every product, in the backward pass too.
    """
    name, bits = form
    model, samples = trainable(trial, NETWORK), regression(trial, 4)
    recipe = Recipe(SGD(0.5), 4, epochs=1, shuffle=False, loss=example_loss(trial), products=name)

    def change(x: float, kernels: float) -> Weights:
        weights = {
            tensor: values * kernels if tensor.endswith("kernel") else values
            for tensor, values in start_weights.items()
        }
        own = replace(samples, x=inputs * x)
        case = _training(trial, model, own, weights, recipe)
        # What the engine starts from is float32.
        before = trial.engine.weights(trial.engine.build(model, weights))
        return _changes(case._replace(weights=before), case.run(trial.engine))

    inputs = _rounded(samples.x, bits)
    start_weights = {
        tensor: _rounded(values, bits) for tensor, values in start(trial, model).items()
    }
    expected, beyond = change(1.0, 1.0), 1.0 + 2.0 ** -(bits + 2)
    allowed = {tensor: 2.0 ** -(bits + 4) * magnitude(own) for tensor, own in expected.items()}
    compare_tensors("after inputs with further digits", change(beyond, 1.0), expected, allowed)
    compare_tensors("after kernels with further digits", change(1.0, beyond), expected, allowed)
    last = change(1.0 + 2.0 ** -(bits - 1), 1.0)
    if all(np.abs(last[each] - expected[each]).max() <= allowed[each] for each in expected):
        what = f"the update does not depend on the last of {bits} bits of the inputs"
        raise broken(Fault.WRONG_VALUE, what)


@check_each(
    "trajectory",
    FORMATS,
    requires=lambda form: form.requires,
    prefix="products-",
    dtype="float32",
)
def master_weights(trial: Trial, form: Format) -> None:
    """Twelve updates that are smaller than the last digit of the weights in the format add up, and
    the prediction after them is one in float32.

    Why: Weights in a format of few bits stop changing when the learning rate is small.
    Broken by: An engine that stores the weights in the format of the products, rounds them when an
    update is made, or still rounds after the training.
    Fix: Keep weights and moments in float32, and convert copies of the weights in each pass.
    """
    name, bits = form
    model, samples = trainable(trial, NETWORK), regression(trial, 12)
    rate, loss = 2.0 ** -(bits + 3), example_loss(trial)
    recipe = Recipe(SGD(rate), 3, epochs=3, shuffle=False, loss=loss, products=name)
    case = _training(trial, model, samples, start(trial, model), recipe)
    network = trial.engine.build(model, case.weights)
    train(trial.engine, network, samples, case.recipe, case.plan)
    expected = _changes(case, case.run(trial.oracle))
    actual = _changes(case, trial.engine.weights(network))
    allowed = 2.0 ** -(bits - 4) * magnitude(*expected.values())
    compare_tensors("after small updates, as a change", actual, expected, allowed)
    weights = trial.engine.weights(network)
    outputs = trial.oracle.predict(trial.oracle.build(model, weights), samples.x)
    found, close_to = trial.engine.predict(network, samples.x), 2.0 ** -(bits + 4)
    close("the prediction after the training", found, outputs, close_to * magnitude(outputs))


@check("step", "loss_scale-float16-underflow", requires=SMALL, dtype="float32")
def underflow(trial: Trial) -> None:
    """Under a loss scale, an update whose gradient is too small for float16 is that of the oracle.

    Why: This is what loss scaling is for: float16 has nothing between 0 and 6e-8.
    Broken by: An engine that scales the gradient when it has been computed, or not at all.
    Fix: Scale the loss, before the backward pass.
    """
    x = 2.0**-13 * (1.0 + trial.generator.random((4, 3)))
    y = 2.0**-12 * (1.0 + trial.generator.random((4, 2)))
    weights = {name: np.zeros_like(each) for name, each in start(trial, SINGLE).items()}
    recipe = Recipe(
        SGD(1.0),
        4,
        epochs=1,
        shuffle=False,
        loss=MeanSquaredError(),
        loss_scale=LossScale(2.0**12),
        products="float16",
    )
    case = _training(trial, SINGLE, Samples(x, y), weights, recipe)
    actual, expected = case.run(trial.engine), case.run(trial.oracle)
    allowed = {name: 2.0**-7 * magnitude(values) for name, values in expected.items()}
    compare_tensors("after a small gradient", actual, expected, allowed)


@check("step", "loss_scale-float16-overflow", requires=SMALL, dtype="float32")
def overflow(trial: Trial) -> None:
    """A scale of 65536 falls seven times until the gradient of the output, 96, fits into float16.

    Why: Trainings begin with a scale that is too large, and find a fitting one within few steps.
    Broken by: An engine that converts the infinities of float16 to large numbers of float32, or
    computes in a format of another range.
    Fix: Look for infinities in the gradients as they come out of the products.
    """
    x, y = np.ones((1, 3)), np.full((1, 2), -96.0)
    weights = {name: np.zeros_like(each) for name, each in start(trial, SINGLE).items()}
    recipe = Recipe(
        SGD(2.0**-10),
        1,
        epochs=8,
        shuffle=False,
        loss=MeanSquaredError(),
        loss_scale=LossScale(),
        products="float16",
    )
    case = _training(trial, SINGLE, Samples(x, y), weights, recipe)
    actual, expected = case.run(trial.engine), case.stopping_after(1).run(trial.oracle)
    allowed = {name: 2.0**-7 * magnitude(values) for name, values in expected.items()}
    compare_tensors(
        "after seven updates that overflow and one that does not", actual, expected, allowed
    )
