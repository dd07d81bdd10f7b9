"""Networks that are trained on several threads."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from threading import Semaphore
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
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.data import Samples
from dlsys_bench.engines.epochs import closing
from dlsys_bench.engines.plan import Plan, Weights
from dlsys_bench.errors import DivergedError, NotApplicableError

PASS = 3
"""The first execution of a line before which the other training makes an update: memory is
allocated by then. There are three epochs, of four updates each."""

MOST_UPDATES = 2000
"""The most updates that the other training makes."""

PATIENCE = 0.005
"""Seconds after which a line goes on although the other training has not made its update, as it
may be slow, or wait for a lock. It is asked for one again when the line is executed again."""

WAITED = 3.0
"""The total of the seconds that lines wait in vain, after which no update is asked for."""

UNASKED = 5.0
"""Seconds after which the other training goes on without being asked, as the first one may wait for
a lock that the other holds until it ends."""

ROUNDS = 3
"""The number of times that trainings run on threads freely."""

PARTS = ("dlsys_bench.conformance.", "dlsys_bench.data.", "dlsys_bench.spec.")
"""The parts of this package that are not part of an engine."""


class AskedUpdates:
    """The updates that one training asks of another on another thread."""

    def __init__(self) -> None:
        self.asked, self.made = Semaphore(0), Semaphore(0)
        self.count, self.waited = 0, 0.0
        self.is_waiting = self.is_free = self.ended = False

    def ask(self) -> bool:
        """Ask for an update, and return True if it has been made or if no more are asked for."""
        if self.ended or self.waited > WAITED:
            return True
        if not self.is_waiting:
            self.asked.release()
        self.is_waiting = not self.made.acquire(timeout=PATIENCE)
        self.waited += PATIENCE * self.is_waiting
        return not self.is_waiting

    def end(self) -> None:
        """Ask for no other update."""
        self.ended = True
        self.asked.release()

    def __iter__(self) -> Iterator[None]:
        """Yield before each update that the other training has to make."""
        while self.count < MOST_UPDATES:
            self.is_free = self.is_free or not self.asked.acquire(timeout=UNASKED)
            if self.ended:
                return
            yield
            self.count += 1
            self.made.release()


@contextmanager
def before_lines(packages: set[str], action: Callable[[], bool]) -> Iterator[None]:
    """Do something once before each line of some packages that is executed inside; again later if
    it returns that it is not done."""
    passes: Counter[tuple[object, int]] = Counter()
    done: set[tuple[object, int]] = set()

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if event == "call":
            module = str(frame.f_globals.get("__name__"))
            traced = module.partition(".")[0] in packages and not module.startswith(PARTS)
            return trace if traced else None
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


@contextmanager
def switched_often() -> Iterator[None]:
    """Let Python go on with another thread after a microsecond; by default, 5 milliseconds."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@check("determinism", "threads", requires=["native"], dtype="")
def threads(trial: Trial) -> None:
    """Native trainings on several threads end as each of them does alone: four that run freely, and
    two of which one makes an update before lines of the other.

    The second kind finds what networks share between two lines of Python. What they share within
    one line, or in compiled code, is found only if the free trainings meet there.

    Why: An engine that declares `threaded` trains several networks at once for `run --jobs` and
    `gate --jobs`.
    Broken by: An engine whose networks share scratch memory or a generator, or that keeps what a
    layer has computed in a global variable.
    Fix: Keep all state in the network or in the training, or remove `threaded` from the engine.
    """
    engine = trial.engine.engine
    if not getattr(engine, "threaded", False):
        raise NotApplicableError("the engine trains one network at a time")
    wanted = [each for each in (LENET5_TANH, EVERY_DRAW) if has(trial, *each.requires)]
    examples = wanted or [MLP_DROPOUT_BATCH_NORM]
    packages = {cls.__module__.partition(".")[0] for cls in type(engine).__mro__}
    try:
        for example in examples:
            _compare_lines(trial, example, packages - {"abc", "builtins", "typing"})
        _compare_free(trial, examples)
    except DivergedError as error:
        what = f"a training diverges if another network is trained on another thread: {error}"
        raise broken(Fault.SIDE_EFFECT, what) from error


def _compare_lines(trial: Trial, example: TrajectoryNetwork, packages: set[str]) -> None:
    """Raise BrokenError if updates of a network between the lines of a training change one."""
    alone, updates = trained(trial, 1, example=example), AskedUpdates()
    _train_small(trial, example, range(1))  # An engine that compiles has compiled the update then.
    with ThreadPoolExecutor(1) as thread:
        other = thread.submit(_train_small, trial, example, updates)
        try:
            with before_lines(packages, updates.ask):
                found = trained(trial, 1, example=example)
        finally:
            updates.end()
    _compare(example, alone, found)
    _compare(example, _train_small(trial, example, range(updates.count)), other.result())


def _train_small(trial: Trial, example: TrajectoryNetwork, updates: Iterable[object]) -> Weights:
    """Return the tensors of a network after updates, each by one batch of the example."""
    model, recipe, samples = prepare(trial, example)
    recipe = replace(recipe, epochs=MOST_UPDATES)
    network = trial.engine.build(model, seed=2)
    few = Samples(samples.x[:BATCH], samples.y[:BATCH])
    with closing(trial.engine.fit(network, few, recipe, Plan(2))) as epochs:
        for _ in updates:
            next(epochs)
    return trial.engine.weights(network)


def _compare_free(trial: Trial, examples: Sequence[TrajectoryNetwork]) -> None:
    """Raise BrokenError if trainings that run at once change one another."""
    jobs = list(product(examples, (1, 2)))

    def train(job: tuple[TrajectoryNetwork, int]) -> Weights:
        return trained(trial, job[1], example=job[0])

    alone = list(map(train, jobs))
    with switched_often(), ThreadPoolExecutor(len(jobs)) as pool:
        for _ in range(ROUNDS):
            for (example, _), expected, actual in zip(
                jobs, alone, pool.map(train, jobs), strict=True
            ):
                _compare(example, expected, actual)


def _compare(example: TrajectoryNetwork, expected: Weights, actual: Weights) -> None:
    for name in differing(expected, actual):
        what = f"{name} of {example.model.name} differs if a network is trained on another thread"
        raise broken(Fault.SIDE_EFFECT, what, tensor=name)
