"""How long an engine trains until the network is as accurate as it has to be: each run by a process
of its own.

`python -m dlsys_bench.timing.to_accuracy` makes one run, given as JSON. The figure is looked at
when an epoch ends. Of fewer than FEWEST_EPOCHS these would be too far apart: then at equal parts of
the training, each reached from the start by a training of its own with the same seed, since no
engine stops in the middle of an epoch and goes on. The first look at which the target is reached
counts, and ends the run; of a run that never reaches it the time is censored.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from dlsys_bench.data import Splits, load
from dlsys_bench.engines.base import Engine
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.plan import Plan, epochs_of
from dlsys_bench.engines.registry import create
from dlsys_bench.errors import DivergedError
from dlsys_bench.provenance import provenance
from dlsys_bench.runs.metrics import with_figures
from dlsys_bench.runs.run import resolve
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.studies.base import EPOCH_METRICS, Case
from dlsys_bench.studies.registry import find
from dlsys_bench.timing.device_lock import exclusive
from dlsys_bench.timing.gpu_monitor import GpuMonitor
from dlsys_bench.timing.load import BackgroundLoad
from dlsys_bench.timing.points import Measurement, answer, each, environment, kept
from dlsys_bench.timing.target import Target

FEWEST_EPOCHS, PARTS = 5, 10


@dataclass(frozen=True)
class Run:
    """What trains where, and to what level. `study` is what finds it, `protocol` a digest of what
    is trained."""

    engine: str
    device: str
    study: str
    arm: str
    dataset: str
    tier: str
    seed: int
    protocol: str
    target: Target

    def __str__(self) -> str:
        return " ".join([self.engine, self.device, self.arm, f"seed {self.seed}"])

    @property
    def environment(self) -> dict[str, str]:
        """That of its process: as many threads as the engine takes by itself."""
        return environment()

    @property
    def case(self) -> Case:
        """The arm. Errors: UserError."""
        return next(case for case in find(self.study) if case.arm.name == self.arm)


class Look(NamedTuple):
    """The figure after so many updates. `seconds` are of training alone, by the engine's own clock,
    from the end of the first update on; `cold_seconds` of all that a new process has to do, but for
    reading data and evaluating."""

    steps: int
    seconds: float
    cold_seconds: float
    value: float


class _Training:
    """The trainings of one run: `looks` are what was found so far, `first_step` the seconds of a
    first update when all that is done once in a process is done. Keras compiles in it, at every
    fit: of a training that takes no longer than that the seconds say little."""

    def __init__(
        self, engine: Engine, model: Model, recipe: Recipe, data: Splits, run: Run, loaded: float
    ) -> None:
        self.engine, self.model, self.recipe, self.data, self.run = engine, model, recipe, data, run
        self.looks: list[Look] = []
        self.first_step = 0.0
        self._loaded, self._cold = loaded, 0.0
        self._warm: float | None = None

    def go(self) -> None:
        """Train until the target is reached, or the recipe is done. Errors: DivergedError."""
        plans = parts(len(self.data.train.x), self.recipe, Plan(self.run.seed))
        first = plans[0].steps if len(plans) > 1 else len(next(self._epochs(plans[0])))
        # All that is compiled once is compiled here, up to the first look, by a network that is
        # thrown away.
        self._cold, _ = self._fit(plans[0].stopping_after(first))
        _, self.first_step = self._fit(plans[0].stopping_after(1))
        for plan in plans:
            if self._reaches(plan, every=len(plans) == 1):
                return

    def _epochs(self, plan: Plan) -> Iterator[list[int]]:
        return epochs_of(len(self.data.train.x), self.recipe, plan)

    def _fit(self, plan: Plan) -> tuple[float, float]:
        """A training to no purpose: its seconds from outside, build and all, and by the engine's
        clock."""
        started = time.perf_counter()
        net = self.engine.build(self.model, seed=plan.seed)
        history = train(self.engine, net, self.data.train, self.recipe, plan)
        return time.perf_counter() - started, sum(epoch.seconds for epoch in history)

    def _reaches(self, plan: Plan, every: bool) -> bool:
        """Train by a plan, looking at the end of every epoch, or only when it is done. Returns
        whether the target was reached, which ends the training. Errors: DivergedError.

        What a cold start takes up to the first look was measured; from there on to another it is
        what it is here.
        """
        target, aside, seconds = self.run.target, 0.0, -self.first_step
        split = EPOCH_METRICS[target.metric].split
        splits = [split] if split else []
        started = time.perf_counter()
        net = self.engine.build(self.model, seed=plan.seed)
        with closing(self.engine.fit(net, self.data.train, self.recipe, plan)) as epochs:
            for epoch in epochs:
                paused = time.perf_counter()
                wall, seconds = paused - started - aside, seconds + epoch.seconds
                if every or epoch.steps == plan.steps:
                    self._warm = wall if self._warm is None else self._warm
                    cold = self._loaded + self._cold + wall - self._warm
                    told = with_figures(epoch, self.engine, net, self.data, self.recipe, splits)
                    value = float(getattr(told, target.metric))
                    self.looks.append(Look(epoch.steps, max(seconds, 0.0), cold, value))
                    if target.reached(value):
                        return True
                aside += time.perf_counter() - paused
        return False


def parts(samples: int, recipe: Recipe, plan: Plan) -> list[Plan]:
    """The plan itself, where its epochs are enough looks; else one that stops after each part of
    it."""
    epochs = [len(sizes) for sizes in epochs_of(samples, recipe, plan)]
    if len(epochs) >= FEWEST_EPOCHS:
        return [plan]
    ends = dict.fromkeys(max(sum(epochs) * number // PARTS, 1) for number in range(1, PARTS + 1))
    return [plan.stopping_after(end) for end in ends]


def measure(run: Run) -> Measurement:
    """Make a run here, alone on its GPU. Errors: UserError."""
    with exclusive(run.device):
        return _measured(run)


def _measured(run: Run) -> Measurement:
    case = run.case
    started = time.perf_counter()
    engine = create(run.engine, run.device)
    loaded = time.perf_counter() - started
    dataset = load(run.dataset)
    dataset = replace(dataset.redraw(run.seed) if dataset.redraw else dataset, name=run.dataset)
    resolved = resolve(case, engine, dataset, run.tier)
    data = resolved.prepare(run.seed)
    training = _Training(engine, resolved.model, resolved.recipe, data, run, loaded)
    reason = None
    with GpuMonitor(run.device) as gpu, BackgroundLoad() as background:
        try:
            training.go()
        except DivergedError as error:
            reason = str(error)
    last = training.looks[-1] if training.looks else None
    reached = reason is None and last is not None and run.target.reached(last.value)
    if not reached and reason is None and last is not None:
        reason = f"{run.target.metric} {last.value:.5g} at the end"
    return asdict(run) | {
        "reached": reached,
        "reason": reason,
        "steps": last and last.steps,
        "seconds": last and last.seconds,
        "cold_seconds": last and last.cold_seconds,
        "looks": [look._asdict() for look in training.looks],
        "load_seconds": loaded,
        "first_step_seconds": training.first_step,
        "others_share": background.fraction,
        "dtype": engine.dtype,
        "convention": engine.convention,
        **gpu.info,
        "provenance": provenance(),
    }


def read(path: Path) -> list[Measurement]:
    """The runs that are stored, of each the last. Errors: UserError."""
    return kept(path, Run)


def train_each(runs: Sequence[Run], path: Path) -> Iterator[tuple[Run, Measurement | str]]:
    """Make what is not stored yet by the versions that are here, each line as it comes; yields
    every run with its line, or with the reason why there is none. Errors: UserError."""
    return each(runs, path, "dlsys_bench.timing.to_accuracy")


def _told(run: dict[str, Any]) -> Measurement:
    return measure(Run(**run | {"target": Target(**run["target"])}))


if __name__ == "__main__":
    answer(_told)
