"""The shapes, names, numbers and dtypes of results, as the protocol of an engine states them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.conformance.check import check, check_each
from dlsys_bench.conformance.checks.output import standard_output
from dlsys_bench.conformance.checks.subjects import (
    SUBJECTS,
    LayerSubject,
    requires,
    single_layers,
)
from dlsys_bench.conformance.checks.support import example_loss, supported, trainable
from dlsys_bench.conformance.checks.training import plans, regression, regression_recipe
from dlsys_bench.conformance.expectation import magnitude
from dlsys_bench.conformance.finding import Fault, broken, close
from dlsys_bench.conformance.guard import GuardedNetwork
from dlsys_bench.conformance.strategies import Example, targets
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.data import Samples
from dlsys_bench.engines.base import Batch
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.plan import Array, Plan
from dlsys_bench.spec.layers import Activation, Dense, Flatten
from dlsys_bench.spec.losses import CategoricalCrossEntropy
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe

EXACT = {"float64": 1e-15, "float32": 1e-6}
"""The relative tolerance of weights that are only converted to the dtype of the engine."""

FEWER_BITS = {
    "labels": ("uint8", "int32"),
    "signs": ("int8",),
    "binary": ("uint8", "bool"),
    "values": ("float32",),
}
"""The dtypes in which targets are also given, by what they are."""

SMALL = Model("small", (3,), (Dense(4), Activation("tanh"), Dense(2)))


def _build_small(trial: Trial) -> GuardedNetwork:
    model = trainable(trial, SMALL)
    return trial.engine.build(model, Plan(1).weights(model))


@check_each("shapes", SUBJECTS, requires=requires)
def shapes(trial: Trial, subject: LayerSubject) -> None:
    """Every result of one layer, which the guard compares with the protocol, and the weights, which
    have to be those that were given.

    Why: Every other check reads these results, so their shapes, names and dtypes come first.
    Broken by: An engine that returns the kernel of {subject} transposed, or leaves out a tensor of
    its state.
    Fix: Return numpy arrays in the layout of the interface: images (N, H, W, C), kernels (..., in,
    out).
    """
    trial.search(single_layers(trial, subject), lambda example: _call_all(trial, example), 12)


def _call_all(trial: Trial, example: Example) -> None:
    engine = trial.engine
    network = engine.build(example.model, example.weights)
    for name, values in engine.weights(network).items():
        if not np.allclose(values, example.weights[name], rtol=EXACT[engine.dtype], atol=0):
            where = {"layer": name.partition(".")[0], "tensor": name}
            raise broken(Fault.WRONG_VALUE, f"{name} is not what build was given", **where)
    engine.trace(network, example.batch)
    engine.predict(network, example.batch.x)
    engine.gradients(network, example.batch, example.loss)


NUMBERS_OF_SAMPLES = (1, 2, 33, 65, 129, 257, 1003, 1025)
"""Of one more than a power of two, blocks leave a single sample over."""

PART = 41
"""A divisor of the largest number, and no number of samples that blocks have."""


@check("shapes", "batches")
def batches(trial: Trial) -> None:
    """Batches of none, of one and of many samples, x in other memory layouts and dtypes.

    Why: Data come in any number of samples, in any memory layout and dtype.
    Broken by: An engine that reads the memory of a strided array as if it were contiguous, fails on
    no samples, or loses the axis of a last block of one sample.
    Fix: Convert with `numpy.ascontiguousarray(x, dtype)` where a library reads memory, and predict
    the last block like any other.
    """
    engine, generator, network = trial.engine, trial.generator, _build_small(trial)
    engine.predict(network, generator.standard_normal((0, 3)))
    _compare_numbers(trial, network, generator.standard_normal((NUMBERS_OF_SAMPLES[-1], 3)))
    x = generator.standard_normal((6, 6))
    expected = engine.predict(network, np.ascontiguousarray(x[:, ::2]))
    for layout, other in (
        ("strided", x[:, ::2]),
        ("column-major", np.asfortranarray(x[:, ::2])),
    ):
        actual = engine.predict(network, other)
        if not np.allclose(actual, expected, rtol=1e-6, atol=1e-9):
            what = f"the prediction of a {layout} x differs from that of a contiguous one"
            raise broken(Fault.WRONG_VALUE, what)
    for dtype in ("float32", "float64"):
        engine.predict(network, generator.standard_normal((3, 3)).astype(dtype))


def _compare_numbers(trial: Trial, network: GuardedNetwork, x: Array) -> None:
    """Raise BrokenError if the prediction of a sample depends on how many there are.

    A sample that is lost or exchanged differs by much more than the rounding of any dtype.
    """
    parts = np.split(x, len(x) // PART)
    expected = np.concatenate([trial.engine.predict(network, part) for part in parts])
    most = 0.01 * np.abs(expected).max()
    for samples in NUMBERS_OF_SAMPLES:
        found = trial.engine.predict(network, x[:samples])
        right = (np.abs(found - expected[:samples]) <= most).all(axis=1)
        if not right.all():
            what = (
                f"the prediction of sample {np.argmin(right)} of {samples} differs from that of it "
                f"among {PART}"
            )
            raise broken(Fault.WRONG_VALUE, what)


@check("shapes", "arrays", requires=["layer:flatten"])
def arrays(trial: Trial) -> None:
    """Images and labels as people have them: in other memory layouts, and labels of few bits.

    Why: Slices, transposed images and small integer labels are what people have.
    Broken by: An engine that passes the pointer of an image to a library without regard to its
    strides.
    Fix: Convert inputs and targets once, at the entry of each method.
    """
    x = trial.generator.standard_normal((12, 4, 4, 2))[::2]
    loss = example_loss(trial, CategoricalCrossEntropy())
    y = targets(loss, 3, 12, trial.generator)[::2]
    expected = _results(trial, x.copy(), y.copy())
    channel_first = np.moveaxis(np.moveaxis(x, -1, 1).copy(), 1, -1)
    for what, other in (
        ("every second image", (x, y.copy())),
        ("images channel first in memory", (channel_first, y.copy())),
        ("column-major images", (np.asfortranarray(x), y.copy())),
        ("every second label", (x.copy(), y)),
        *(
            (f"targets of dtype {dtype}", (x.copy(), y.astype(dtype)))
            for dtype in FEWER_BITS[loss.targets]
        ),
    ):
        for name, values in _results(trial, *other).items():
            close(f"{name} of {what}", values, expected[name], 1e-5 * magnitude(expected[name]))
    model = supported(trial, Model("arrays", (4, 4, 2), (Flatten(), Dense(3))))
    trial.engine.predict(trial.engine.build(model, Plan(1).weights(model)), x[:0])


def _results(trial: Trial, x: Array, y: NDArray[Any]) -> dict[str, Array]:
    """Return what every method computes of some images and labels."""
    engine, loss = trial.engine, example_loss(trial, CategoricalCrossEntropy())
    model = trainable(trial, Model("arrays", (4, 4, 2), (Flatten(), Dense(3))), loss)
    recipe = Recipe(SGD(0.1), batch_size=3, epochs=1, shuffle=False, loss=loss)
    recipe = supported(trial, recipe)
    network = engine.build(model, Plan(1).weights(model))
    prediction = engine.predict(network, x)
    value, gradients, _ = engine.gradients(network, Batch(x, y), loss)
    train(engine, network, Samples(x, y), recipe, Plan(0, parity=True))
    return {
        "the prediction": prediction,
        "the loss": np.array(value),
        "the gradient": gradients["dense_1.kernel"],
        "the kernel after fit": engine.weights(network)["dense_1.kernel"],
    }


@check("shapes", "history")
def history(trial: Trial) -> None:
    """One Epoch for each epoch, numbered from 1, with the steps since the start, yielded as the
    epoch ends.

    Why: Callers stop a training, evaluate and draw curves by these epochs.
    Broken by: An engine that yields all epochs at the end, counts from 0, or restarts the steps in
    each epoch.
    Fix: Write `fit` as a generator that yields when an epoch ends (see `training_epochs`).
    """
    engine, network, samples = trial.engine, _build_small(trial), regression(trial, 10)
    recipe = regression_recipe(trial, SGD(0.01), batch_size=4, epochs=3)
    epochs, predictions = [], []
    for epoch in engine.fit(network, samples, recipe, Plan(0, parity=True)):
        epochs.append((epoch.epoch, epoch.steps))
        predictions.append(engine.predict(network, samples.x))
    if epochs != [(1, 3), (2, 6), (3, 9)]:
        what = "the epochs and their steps, of 3 epochs of 10 samples by 4"
        expected = "[(1, 3), (2, 6), (3, 9)]"
        raise broken(Fault.WRONG_VALUE, what, actual=str(epochs), expected=expected)
    for first, second in ((0, 1), (1, 2)):
        if np.array_equal(predictions[first], predictions[second]):
            what = (
                "predictions after two epochs are equal: epochs are yielded too late or too early"
            )
            raise broken(Fault.WRONG_VALUE, what)


@check("shapes", "copies")
def copies(trial: Trial) -> None:
    """Arrays that were given or returned stay as they were, which the guard checks at each call.

    Why: A caller that changes its own array must not change the network, nor the other way round.
    Broken by: An engine that returns views of its weights, or trains in the arrays that `build` was
    given.
    Fix: Copy on the way in and on the way out.
    """
    engine, model, loss = trial.engine, trainable(trial, SMALL), example_loss(trial)
    own = Plan(1).weights(model)
    x = trial.generator.standard_normal((6, 3))
    network = engine.build(model, own)
    before = engine.predict(network, x).copy()
    for values in own.values():
        values += 1.0
    if not np.array_equal(engine.predict(network, x), before):
        what = "the network changes with the arrays that build was given: build must copy them"
        raise broken(Fault.SIDE_EFFECT, what)
    given = Plan(1).weights(model)
    network = engine.build(model, given)
    recipe = regression_recipe(trial, SGD(0.1), batch_size=3, epochs=1, shuffle=True)
    for _ in range(2):
        x, y = vars(regression(trial, 6)).values()
        engine.predict(network, x)
        engine.trace(network, Batch(x, y))
        engine.gradients(network, Batch(x, y), loss)
        engine.weights(network)
        train(engine, network, Samples(x, y), recipe, Plan(0, parity=True))
    for name, values in Plan(1).weights(model).items():
        if not np.array_equal(given[name], values):
            what = f"fit wrote into {name} as build was given it: build must copy it"
            raise broken(Fault.SIDE_EFFECT, what, tensor=name)


@check("shapes", "repeated")
def repeated(trial: Trial) -> None:
    """A method that is called twice with the same arguments returns the same.

    Why: Predicting and taking gradients must leave nothing behind.
    Broken by: An engine that accumulates gradients over calls, or draws from a generator in
    inference.
    Fix: Set gradients to zero before they are accumulated, and draw masks only in training.
    """
    engine, network, samples = trial.engine, _build_small(trial), regression(trial, 6)
    batch = Batch(samples.x, samples.y)

    def gradients() -> list[Array]:
        return list(engine.gradients(network, batch, example_loss(trial)).weights.values())

    calls: dict[str, Callable[[], list[Array]]] = {
        "predict": lambda: [engine.predict(network, samples.x)],
        "trace": lambda: engine.trace(network, batch),
        "gradients": gradients,
    }
    for method, call in calls.items():
        for first, again in zip(call(), call(), strict=True):
            if not np.allclose(first, again, rtol=1e-5, atol=1e-6, equal_nan=True):
                difference = float(np.abs(first - again).max())
                what = f"two calls of {method} with the same arguments differ by {difference:.3g}"
                raise broken(Fault.NOT_DETERMINISTIC, what)


@check("shapes", "quiet")
def quiet(trial: Trial) -> None:
    """Nothing is printed to standard output, which programs parse.

    Why: Programs parse the standard output of the commands.
    Broken by: An engine that shows the progress bar of its framework.
    Fix: Switch the output of the framework off, or write to standard error.
    """
    engine, samples = trial.engine, regression(trial, 4)
    recipe = regression_recipe(trial, SGD(0.01), batch_size=2, epochs=1, shuffle=True)
    with standard_output() as printed:
        network = _build_small(trial)
        for plan in plans(trial, seed=0):
            train(engine, network, samples, recipe, plan)
        engine.predict(network, samples.x)
    if printed:
        what = f"the engine prints to standard output: {printed[0][:80]!r}"
        raise broken(Fault.SIDE_EFFECT, what)
