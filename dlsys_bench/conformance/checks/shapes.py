"""Whether everything has the shape, the name, the number and the type that the protocol says."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.conformance.check import Trial, check
from dlsys_bench.conformance.checks.subjects import SUBJECTS, drawn, of_labels, size
from dlsys_bench.conformance.finding import broken, close
from dlsys_bench.conformance.strategies import Example
from dlsys_bench.data import Samples
from dlsys_bench.engines.base import Batch
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.plan import Array, Plan
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.layers import Activation, Dense, Flatten
from dlsys_bench.spec.losses import MeanSquaredError
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe

EXACT = {"float64": 1e-15, "float32": 1e-6}
"""Relative to what was given: what comes back of it is the same number, in the engine's dtype."""

SMALL = Model("small", (3,), (Dense(4), Activation("tanh"), Dense(2)))


@check("shapes", *SUBJECTS)
def shapes(trial: Trial, subject: str) -> None:
    """The guard looks at names, shapes and dtypes of all that comes back; the weights also have to
    be those given."""

    def body(example: Example) -> None:
        engine = trial.engine
        net = engine.build(example.model, example.weights)
        for name, values in engine.weights(net).items():
            if not np.allclose(values, example.weights[name], rtol=EXACT[engine.dtype], atol=0):
                layer = name.partition(".")[0]
                raise broken("weights are not those that build was given", layer=layer, tensor=name)
        engine.trace(net, example.batch)
        engine.predict(net, example.batch.x)
        engine.gradients(net, example.batch, example.loss)

    trial.search(drawn(trial, subject), body, examples=12)


@check("shapes", "batches")
def batches(trial: Trial, subject: str) -> None:
    """None, one, and more samples than are predicted at once; x in strides, in the other dtype."""
    engine, generator = trial.engine, trial.generator
    net = engine.build(to_convention(engine.conventions[0], SMALL), Plan(1).weights(SMALL))
    for samples in (0, 1, 2, 1003):
        engine.predict(net, generator.standard_normal((samples, 3)))
    x = generator.standard_normal((6, 6))
    expected = engine.predict(net, np.ascontiguousarray(x[:, ::2]))
    for what, other in (
        ("x in strides", x[:, ::2]),
        ("x in column order", np.asfortranarray(x[:, ::2])),
    ):
        if not np.allclose(engine.predict(net, other), expected, rtol=1e-6, atol=1e-9):
            raise broken(f"{what} is predicted differently from the same numbers in one piece")
    for dtype in ("float32", "float64"):
        engine.predict(net, generator.standard_normal((3, 3)).astype(dtype))


@check("shapes", "arrays")
def arrays(trial: Trial, subject: str) -> None:
    """Images and labels as people have them: in another order of memory, every second one, labels
    of few bits."""
    engine, convention = trial.engine, trial.engine.conventions[0]
    loss = of_labels(trial)
    model = Model("arrays", (4, 4, 2), (Flatten(), Dense(3)))
    recipe = to_convention(
        convention, Recipe(SGD(0.1), batch_size=3, epochs=1, shuffle=False, loss=loss)
    )
    x, y = (
        trial.generator.standard_normal((12, 4, 4, 2))[::2],
        trial.generator.integers(0, 3, 12)[::2],
    )
    weights = Plan(1).weights(model)

    def results(x: Array, y: NDArray[Any]) -> dict[str, Array]:
        net = engine.build(model, weights)
        found = {"predict": engine.predict(net, x)}
        value, gradients, _ = engine.gradients(net, Batch(x, y), loss)
        found |= {"the loss": np.array(value), "the gradient": gradients["dense_1.kernel"]}
        train(engine, net, Samples(x, y), recipe, Plan(0, parity=True))
        return found | {"fit": engine.weights(net)["dense_1.kernel"]}

    expected = results(x.copy(), y.copy())
    for what, other in (
        ("every second image", (x, y.copy())),
        (
            "images channel first in memory",
            (np.moveaxis(np.moveaxis(x, -1, 1).copy(), 1, -1), y.copy()),
        ),
        ("images in column order", (np.asfortranarray(x), y.copy())),
        ("every second label", (x.copy(), y)),
        ("labels of 8 bits", (x.copy(), y.astype(np.uint8))),
        ("labels of 32 bits", (x.copy(), y.astype(np.int32))),
    ):
        for name, values in results(*other).items():
            close(f"{name} of {what}", values, expected[name], 1e-5 * size(expected[name]))
    engine.predict(engine.build(model, weights), x[:0])


@check("shapes", "history")
def history(trial: Trial, subject: str) -> None:
    """An Epoch for each epoch, numbered from 1, steps counted from the start, yielded as it
    ends."""
    engine = trial.engine
    net = engine.build(to_convention(engine.conventions[0], SMALL), Plan(1).weights(SMALL))
    samples = Samples(
        trial.generator.standard_normal((10, 3)), trial.generator.standard_normal((10, 2))
    )
    recipe = to_convention(
        engine.conventions[0], Recipe(SGD(0.01), batch_size=4, epochs=3, loss=MeanSquaredError())
    )
    found, then = [], []
    for epoch in engine.fit(net, samples, recipe, Plan(0, parity=True)):
        found.append(epoch)
        then.append(engine.predict(net, samples.x))
    counted = [(epoch.epoch, epoch.steps) for epoch in found]
    if counted != [(1, 3), (2, 6), (3, 9)]:
        raise broken(
            f"epochs and steps are {counted}, where [(1, 3), (2, 6), (3, 9)] is right: 10 samples by 4, 3 epochs"
        )
    if np.array_equal(then[0], then[1]) or np.array_equal(then[1], then[2]):
        raise broken(
            "what is predicted after an epoch is the same after two: epochs are yielded too late, or too early"
        )


@check("shapes", "copies")
def copies(trial: Trial, subject: str) -> None:
    """What has been handed over stays as it was, whatever is called next: the guard looks again at
    each call."""
    engine, convention = trial.engine, trial.engine.conventions[0]
    mine = Plan(1).weights(SMALL)
    x = trial.generator.standard_normal((6, 3))
    net = engine.build(to_convention(convention, SMALL), mine)
    before = engine.predict(net, x).copy()
    for values in mine.values():
        values += 1.0
    if not np.array_equal(engine.predict(net, x), before):
        raise broken("the network moves with the arrays that build was given: build has to copy")
    given = Plan(1).weights(SMALL)
    net = engine.build(to_convention(convention, SMALL), given)
    recipe = to_convention(
        convention, Recipe(SGD(0.1), batch_size=3, epochs=1, loss=MeanSquaredError())
    )
    for _ in range(2):
        x, y = trial.generator.standard_normal((6, 3)), trial.generator.standard_normal((6, 2))
        engine.predict(net, x)
        engine.trace(net, Batch(x, y))
        engine.gradients(net, Batch(x, y), MeanSquaredError())
        engine.weights(net)
        train(engine, net, Samples(x, y), recipe, Plan(0, parity=True))
    for name, values in Plan(1).weights(SMALL).items():
        if not np.array_equal(given[name], values):
            raise broken(
                f"fit wrote into {name} as build was given it: build has to copy", tensor=name
            )


@check("shapes", "float32")
def single(trial: Trial, subject: str) -> None:
    """All that comes back is of single precision where the engine is."""
    engine = trial.at("float32")
    net = engine.build(to_convention(engine.conventions[0], SMALL), Plan(1).weights(SMALL))
    batch = Batch(trial.generator.standard_normal((6, 3)), trial.generator.standard_normal((6, 2)))
    engine.weights(net)
    engine.trace(net, batch)
    engine.predict(net, batch.x)
    engine.gradients(net, batch, MeanSquaredError())


@check("shapes", "repeated")
def repeated(trial: Trial, subject: str) -> None:
    """The same question twice, the same answer."""
    engine = trial.engine
    net = engine.build(to_convention(engine.conventions[0], SMALL), Plan(1).weights(SMALL))
    x, y = trial.generator.standard_normal((6, 3)), trial.generator.standard_normal((6, 2))
    batch = Batch(x, y)
    asked: tuple[tuple[str, Callable[[], list[Array]]], ...] = (
        ("predict", lambda: [engine.predict(net, x)]),
        ("trace", lambda: engine.trace(net, batch)),
        (
            "gradients",
            lambda: list(engine.gradients(net, batch, MeanSquaredError()).weights.values()),
        ),
    )
    for what, ask in asked:
        for first, again in zip(ask(), ask(), strict=True):
            if not np.allclose(first, again, rtol=1e-5, atol=1e-6, equal_nan=True):
                raise broken(
                    f"{what} gives another answer to the same question: {np.abs(first - again).max():.3g} apart"
                )


@check("shapes", "quiet")
def quiet(trial: Trial, subject: str) -> None:
    """Nothing is printed: what is read from standard output by a program has to be its own."""
    engine = trial.engine
    samples = Samples(
        trial.generator.standard_normal((4, 3)), trial.generator.standard_normal((4, 2))
    )
    recipe = to_convention(
        engine.conventions[0], Recipe(SGD(0.01), batch_size=2, epochs=1, loss=MeanSquaredError())
    )
    with _printed() as printed:
        net = engine.build(to_convention(engine.conventions[0], SMALL), Plan(1).weights(SMALL))
        train(engine, net, samples, recipe, Plan(0))
        engine.predict(net, samples.x)
    if printed:
        raise broken(f"the engine prints to standard output: {printed[0][:80]!r}")


@contextlib.contextmanager
def _printed() -> Iterator[list[str]]:
    """What goes to standard output, by Python or by a library under it, in lines."""
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "printed"
        sys.stdout.flush()
        kept = os.dup(1)
        with (
            path.open("w+b") as file,
            contextlib.redirect_stdout(open(os.dup(file.fileno()), "w")) as python,  # noqa: PTH123
        ):
            os.dup2(file.fileno(), 1)
            try:
                yield lines
            finally:
                python.close()
                os.dup2(kept, 1)
                os.close(kept)
        lines += [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
