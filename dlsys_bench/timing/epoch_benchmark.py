"""The training loops of engines, one epoch at a time for a benchmark, and the workloads."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from dlsys_bench.data import Samples, is_available, load, prepare
from dlsys_bench.engines.base import Batch, Engine
from dlsys_bench.engines.epochs import closing
from dlsys_bench.engines.history import Epoch
from dlsys_bench.engines.plan import Plan
from dlsys_bench.engines.registry import create
from dlsys_bench.engines.replicas import OneByOne
from dlsys_bench.engines.requirements import require_of, requirements
from dlsys_bench.errors import UserError
from dlsys_bench.runs.preparation import as_signs
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.studies.base import Case
from dlsys_bench.studies.registry import find, studies
from dlsys_bench.timing.flops import training_flops
from dlsys_bench.timing.roofline import Roofline
from dlsys_bench.timing.validity import check_losses, check_weights


class Workload(NamedTuple):
    """An arm of a study at a batch size, and the number of updates of a round.

    The study is a name that `find` accepts.
    """

    study: str
    arm: str
    batch_size: int
    steps: int

    def __str__(self) -> str:
        return f"{self.study.rpartition('/')[2]}-{self.arm}-{self.batch_size}"

    @property
    def case(self) -> Case:
        """The arm. Raises UserError if it is unknown."""
        return next(case for case in find(self.study) if case.arm.name == self.arm)

    @property
    def recipe(self) -> Recipe:
        """The recipe of tier full, or of the first tier if the arm has no such tier."""
        recipes = self.case.arm.recipes
        return recipes.get("full") or next(iter(recipes.values()))

    def recipe_of_rounds(self, rounds: int) -> Recipe:
        """Return the recipe of a training of at least this number of rounds, each of which is an
        epoch. A schedule may be longer than they are."""
        length = self.recipe.schedule.length if self.recipe.schedule is not None else None
        epochs = max(rounds, math.ceil((length or 0) / self.steps))
        return replace(self.recipe, batch_size=self.batch_size, epochs=epochs, steps=None)

    @property
    def flops(self) -> int:
        """The floating-point operations of training on one sample."""
        return training_flops(self.case.arm.model)

    def roofline(self, dtype: str = "float32", threads: int | None = None) -> Roofline:
        """Return the bound of an update on this machine."""
        recipe = replace(self.recipe, batch_size=self.batch_size)
        return Roofline(self.case.arm.model, recipe, dtype, threads)

    def require_of(self, engine: Engine) -> None:
        """Raise OtherEngineError if an engine declares that it lacks something of the workload."""
        needed = requirements(self.case.arm.model, self.recipe.loss, self.recipe)
        require_of(engine, f'arm "{self.case.name}"', needed)

    def samples(self) -> Samples:
        """Return the samples of a round, from the dataset of the arm, or from digits if that is not
        found. Raises UserError if they do not fit the model."""
        name = self.case.dataset if is_available(self.case.dataset) else "digits"
        part = prepare(load(name), scaling=self.recipe.scaling).train
        found, accepted = part.x.shape[1:], self.case.arm.model.input_shape
        if found != accepted:
            raise UserError(
                f"dataset {name!r} has samples of shape {found}, but the model takes {accepted}"
            )
        drawn = np.resize(np.arange(len(part.x)), self.batch_size * self.steps)
        return Samples(part.x[drawn], as_signs(self.recipe.loss, part.y[drawn]))


def workloads() -> list[Workload]:
    """Return the workloads that registered studies declare, those of the default study first."""
    ordered = sorted(studies().values(), key=lambda study: not study.default)
    return [Workload(study.name, *size) for study in ordered for size in study.benchmarks]


def moving(model: Model, recipe: Recipe, samples: Samples) -> list[str]:
    """Return the tensors that training has to change, by the numpy engine: all with a gradient, and
    the moving statistics. A bias before a batch norm has no gradient."""
    engine = create("numpy", "cpu", "float64")
    batch = Batch(samples.x, samples.y, Plan(1).masks(model, 0, len(samples.x)), training=True)
    found = engine.gradients(engine.build(model, seed=1), batch, recipe.loss).weights
    sizes = {name: float(np.abs(gradient).max()) for name, gradient in found.items()}
    return [
        tensor.name
        for tensor in model.tensors
        if not tensor.trainable or sizes[tensor.name] > 1e-9 * max(sizes.values())
    ]


class EpochBenchmark:
    """A training of an engine, of which each call trains one epoch.

    A separate training for each round would measure what an engine does once per training, such as
    compilation, instead of what it does at every step.
    """

    def __init__(self, engine: Engine, work: Workload, samples: Samples, epochs: int) -> None:
        arm = work.case.arm
        recipe = work.recipe_of_rounds(epochs)
        work.require_of(engine)
        model = to_convention(engine.convention, arm.model)
        self.engine, self.net = engine, engine.build(model, seed=1)
        self.before = engine.weights(self.net)
        self.losses: list[float] = []
        self.first_seconds = 0.0
        self._moving = moving(arm.model, recipe, Samples(samples.x[:32], samples.y[:32]))
        recipe = to_convention(engine.convention, recipe)
        self._training = contextlib.ExitStack()
        self._epochs = self._training.enter_context(
            closing(engine.fit(self.net, samples, recipe, Plan(1)))
        )

    def __call__(self) -> None:
        """Train an epoch. Raises what the training raises."""
        started = time.perf_counter()
        self.losses.append(next(self._epochs).running_loss)
        self.first_seconds = self.first_seconds or time.perf_counter() - started

    def stop(self) -> dict[str, Any]:
        """End the training, and return its first and last loss, and the seconds of its first epoch,
        in which an engine may compile.

        Raises NotTrainingError if nothing was learned.
        """
        self._training.close()
        if len(self.losses) > 1:
            check_losses(self.losses, 1)
        after = self.engine.weights(self.net)
        check_weights(
            {name: self.before[name] for name in self._moving},
            {name: after[name] for name in self._moving},
        )
        ends = {"loss_first": self.losses[0], "loss_last": self.losses[-1]}
        return ends | {"first_epoch_seconds": self.first_seconds}


class Rounds(NamedTuple):
    """The seconds of each epoch, including all that happens between two epochs, and the loss of the
    first replica."""

    seconds: list[float]
    losses: list[float]


def train_rounds(engine: Engine, work: Workload, rounds: int, replicas: int = 1) -> Rounds:
    """Train one network, or several replicas as one program, for `rounds` epochs of the workload's
    steps.

    Raises UserError if the engine can train several networks only one by one, and NotTrainingError
    if nothing was learned.
    """
    arm = work.case.arm
    work.require_of(engine)
    recipe = to_convention(engine.convention, work.recipe_of_rounds(rounds))
    model, samples = to_convention(engine.convention, arm.model), work.samples()
    moved = moving(arm.model, recipe, Samples(samples.x[:32], samples.y[:32]))
    if replicas > 1:
        plans = [Plan(seed, steps=rounds * work.steps) for seed in range(replicas)]
        many = engine.replicate(model, plans)
        if isinstance(many, OneByOne):
            raise UserError(
                f'engine "{engine.name}" trains networks one by one: '
                f"{replicas} at once are not faster"
            )
        before = many.weights(0)
        found = _timed(epochs[0] for epochs in many.fit(samples, recipe, plans))
        after = many.weights(0)
    else:
        net = engine.build(model, seed=1)
        before = engine.weights(net)
        plan = Plan(1, steps=rounds * work.steps)
        with closing(engine.fit(net, samples, recipe, plan)) as epochs:
            found = _timed(epochs)
        after = engine.weights(net)
    if rounds > 3:
        check_losses(found.losses, 2)
    check_weights({name: before[name] for name in moved}, {name: after[name] for name in moved})
    return found


def _timed(epochs: Iterable[Epoch | None]) -> Rounds:
    """Train, and measure the seconds from the end of one epoch to the end of the next."""
    found, started = Rounds([], []), time.perf_counter()
    for epoch in epochs:
        ended = time.perf_counter()
        found.losses.append(math.nan if epoch is None else epoch.running_loss)
        found.seconds.append(ended - started)
        started = ended
    return found
