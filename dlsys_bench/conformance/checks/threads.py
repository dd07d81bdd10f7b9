"""Two networks that are trained on two threads."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import Any

from dlsys_bench.conformance.check import check
from dlsys_bench.conformance.checks.determinism import trained
from dlsys_bench.conformance.checks.networks import (
    BATCH,
    EVERY_DRAW,
    LENET5_TANH,
    MLP_DROPOUT_BATCH_NORM,
    TrajectoryNetwork,
    prepare,
)
from dlsys_bench.conformance.checks.support import has
from dlsys_bench.conformance.checks.training import differing
from dlsys_bench.conformance.finding import Fault, broken
from dlsys_bench.conformance.guard import GuardedNetwork
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.data import Samples
from dlsys_bench.engines.epochs import closing
from dlsys_bench.engines.history import Epoch
from dlsys_bench.engines.plan import Plan, Weights
from dlsys_bench.errors import NotApplicableError

PASS = 3
"""The first execution of a line before which the other training makes an update: memory is
allocated by then. There are three epochs, of four updates each."""

MOST_UPDATES = 2000
"""The most updates that the other training makes."""

PATIENCE = 0.005
"""Seconds after which a line goes on although the other training has not made its update, as it
may be waiting for a lock."""

PACKAGES = sys.stdlib_module_names | frozenset(
    {"numpy", "scipy", "numba", "llvmlite", "jax", "jaxlib", "torch", "tensorflow", "keras"}
    | {"threadpoolctl"}
)
PARTS = ("dlsys_bench.conformance.", "dlsys_bench.data.", "dlsys_bench.spec.")
"""The packages, and the parts of this one, that are not part of an engine: between their lines no
update is made."""


class OtherTraining:
    """A training on a thread, which makes an update whenever it is asked to."""

    def __init__(self, epochs: Generator[Epoch], thread: ThreadPoolExecutor) -> None:
        self.epochs, self.thread = epochs, thread
        self.update: Future[Epoch | None] | None = None
        self.updates = 0

    def advance(self) -> bool:
        """Make an update, and return whether it has ended. One that waits is given more time."""
        if self.update is None:
            self.update = self.thread.submit(next, self.epochs, None)
        try:
            # A training that has ended, or failed, makes no other update.
            if self.update.exception(PATIENCE) or not self.update.result():
                return True
        except TimeoutError:
            return False
        self.update = None
        self.updates += 1
        return True

    def end(self) -> int:
        """Return the number of updates. Raises the error of one that failed."""
        if self.update is not None and self.update.result():
            self.updates += 1
        return self.updates


@contextmanager
def before_lines(action: Callable[[], bool]) -> Iterator[None]:
    """Do something once before each line that the engine executes inside; again later if it returns
    that it is not done."""
    passes: Counter[tuple[object, int]] = Counter()
    done: set[tuple[object, int]] = set()

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if event == "call":
            module = frame.f_globals.get("__name__", "")
            foreign = module.partition(".")[0] in PACKAGES or module.startswith(PARTS)
            return None if foreign else trace
        if event == "line":
            place = frame.f_code, frame.f_lineno
            passes[place] += 1
            if passes[place] >= PASS and place not in done and action():
                done.add(place)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


@check("determinism", "threads", requires=["native"], dtype="")
def threads(trial: Trial) -> None:
    """Two native trainings on two threads, of which one makes an update before lines of the other,
    end as each of them does alone.

    Why: An engine that declares `threaded` trains several networks at once for `run --jobs` and
    `gate --jobs`.
    Broken by: An engine whose networks share scratch memory or a generator, or that keeps what a
    layer has computed in a global variable.
    Fix: Keep all state in the network or in the training, or remove `threaded` from the engine.
    """
    if not getattr(trial.engine.engine, "threaded", False):
        raise NotApplicableError("the engine trains one network at a time")
    examples = [each for each in (LENET5_TANH, EVERY_DRAW) if has(trial, *each.requires)]
    for example in examples or [MLP_DROPOUT_BATCH_NORM]:
        _compare(trial, example)


def _compare(trial: Trial, example: TrajectoryNetwork) -> None:
    """Raise BrokenError if one of two trainings changes the other."""
    first = trained(trial, 1, example=example)
    other, epochs = _small_training(trial, example)
    with ThreadPoolExecutor(1) as thread, closing(epochs):
        beside = OtherTraining(epochs, thread)
        with before_lines(beside.advance):
            found = trained(trial, 1, example=example)
        updates = beside.end()
    _compare_weights(example, first, found)
    alone, epochs = _small_training(trial, example)
    with closing(epochs):
        for _ in range(updates):
            next(epochs)
    _compare_weights(example, *map(trial.engine.weights, (alone, other)))


def _small_training(
    trial: Trial, example: TrajectoryNetwork
) -> tuple[GuardedNetwork, Generator[Epoch]]:
    """Return a network, and its training on a single batch, as large as those of the example."""
    model, recipe, samples = prepare(trial, example)
    recipe = replace(recipe, epochs=MOST_UPDATES)
    network = trial.engine.build(model, seed=2)
    few = Samples(samples.x[:BATCH], samples.y[:BATCH])
    return network, trial.engine.fit(network, few, recipe, Plan(2))


def _compare_weights(example: TrajectoryNetwork, expected: Weights, actual: Weights) -> None:
    for name in differing(expected, actual):
        what = f"{name} of {example.model.name} differs if a network is trained on another thread"
        raise broken(Fault.SIDE_EFFECT, what, tensor=name)
