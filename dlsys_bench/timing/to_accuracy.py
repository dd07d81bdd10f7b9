"""Measurement of the time that an engine trains until the network reaches a target accuracy.

A process makes one run: `python -m dlsys_bench.timing.to_accuracy` makes a run given as JSON. The
metric is evaluated at the end of each epoch. A training of fewer than MIN_EPOCHS epochs would be
evaluated too rarely; it is evaluated after equal parts instead. As no engine can stop within an
epoch and continue, each part is a training from the start, with the same seed. The first evaluation
that reaches the target ends the run; if none does, the time is right-censored.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, get_args

from dlsys_bench.data import Scaling, load
from dlsys_bench.engines.base import Engine
from dlsys_bench.engines.epochs import closing, train
from dlsys_bench.engines.plan import Plan, epoch_batch_sizes
from dlsys_bench.engines.registry import create
from dlsys_bench.errors import DivergedError
from dlsys_bench.provenance import provenance
from dlsys_bench.runs.fields import FreeText, Name, Optional, Real, Struct, Truth, Whole
from dlsys_bench.runs.key import Key
from dlsys_bench.runs.metrics import with_figures
from dlsys_bench.runs.run import Resolved, resolve
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.studies.base import EPOCH_METRICS, Case
from dlsys_bench.studies.registry import find
from dlsys_bench.timing.device_lock import exclusive
from dlsys_bench.timing.gpu_monitor import GpuMonitor
from dlsys_bench.timing.load import BackgroundLoad
from dlsys_bench.timing.points import (
    CONDITIONS,
    Measurement,
    environment,
    main,
    measure_missing,
    read_measurements,
)
from dlsys_bench.timing.target import TARGET, Target

MIN_EPOCHS, PARTS = 5, 10

REACHED = Struct({"steps": Whole(), "seconds": Real(least=0), "cold_seconds": Real(least=0)})
"""The fields of a run that are numbers if it reached its target."""


@dataclass(frozen=True)
class RunRecord(Struct):
    """The fields of a measured run, which depend on whether it reached its target."""

    def read(self, value: Any, name: str) -> dict[str, Any]:
        """Return the values by name. Raises FieldError or MissingFieldError."""
        found = super().read(value, name)
        return found | (REACHED.read(found, name) if found["reached"] else {})


@dataclass(frozen=True)
class Run:
    """A training on an engine and device to a target.

    The study in the key is a name that `find` accepts. The dtype is the engine's default.
    """

    key: Key
    target: Target

    FIELDS: ClassVar[tuple[str, ...]] = (
        *("engine", "device", "study", "arm", "dataset", "tier", "seed", "protocol"),
        "target",
    )
    MEASURED: ClassVar[Struct] = RunRecord(
        {
            **dict.fromkeys(("engine", "device", "study", "arm", "dataset", "tier"), Name()),
            "protocol": Name(),
            "seed": Whole(),
            "target": TARGET,
            "reached": Truth(),
            "reason": Optional(FreeText()),
            "steps": Optional(Whole()),
            **dict.fromkeys(("seconds", "cold_seconds"), Optional(Real(least=0))),
            **CONDITIONS,
        }
    )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Run:
        """Return the run that `to_dict` wrote."""
        key = {name: values[name] for name in cls.FIELDS[:-1]}
        return cls(Key(**key), Target.from_dict(values["target"]))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return self.key.to_dict(*self.FIELDS[:-1]) | {"target": asdict(self.target)}

    def __str__(self) -> str:
        key = self.key
        return " ".join([key.engine, key.device, key.arm, f"seed {key.seed}"])

    @property
    def seed(self) -> int:
        """The seed of the training."""
        assert self.key.seed is not None
        return self.key.seed

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables of its process: threads are the engine's default."""
        return environment()

    @property
    def case(self) -> Case:
        """The arm, with the scaling that its protocol has. Raises UserError if it is unknown."""
        case = next(case for case in find(self.key.study) if case.arm.name == self.key.arm)
        scaled = (case, *map(case.scaled, get_args(Scaling)))
        of_protocol = (
            one for one in scaled if one.arm.protocol(self.key.tier) == self.key.protocol
        )
        return next(of_protocol, case)


class Evaluation(NamedTuple):
    """The value of the metric after `steps` updates, and the time until then.

    `seconds` is training alone, measured by the engine from the end of the first update.
    `cold_seconds` is everything that a new process does, except reading data and evaluating.
    """

    steps: int
    seconds: float
    cold_seconds: float
    value: float


class _Training:
    """The trainings of one run, with their evaluations so far.

    `first_step` is the duration of a first update in a process that has already trained. Keras
    compiles in it, at every fit; the seconds of a training that is not much longer say little.
    """

    def __init__(self, run: Run, engine: Engine, resolved: Resolved, load_seconds: float) -> None:
        self.run, self.engine = run, engine
        self.model, self.recipe = resolved.model, resolved.recipe
        self.data = resolved.prepare(run.seed)
        self.evaluations: list[Evaluation] = []
        self.first_step = 0.0
        self._load_seconds, self._cold = load_seconds, 0.0
        self._warm: float | None = None

    def train_to_target(self) -> None:
        """Train until the target is reached or the recipe ends. Raises DivergedError."""
        plans = evaluation_plans(len(self.data.train.x), self.recipe, Plan(self.run.seed))
        first = plans[0].steps if len(plans) > 1 else len(next(self._epochs(plans[0])))
        # Train a network that is thrown away up to the first evaluation: this is the cold start, in
        # which everything is compiled that is compiled once per process.
        self._cold, _ = self._fit(plans[0].stopping_after(first))
        _, self.first_step = self._fit(plans[0].stopping_after(1))
        for plan in plans:
            if self._reaches(plan, every=len(plans) == 1):
                return

    def _epochs(self, plan: Plan) -> Iterator[list[int]]:
        return epoch_batch_sizes(len(self.data.train.x), self.recipe, plan)

    def _fit(self, plan: Plan) -> tuple[float, float]:
        """Train a network that is thrown away.

        Returns the seconds with building the network, and those that the engine measures.
        """
        started = time.perf_counter()
        net = self.engine.build(self.model, seed=plan.seed)
        history = train(self.engine, net, self.data.train, self.recipe, plan)
        return time.perf_counter() - started, sum(epoch.seconds for epoch in history)

    def _reaches(self, plan: Plan, every: bool) -> bool:
        """Train with a plan, and return True if the target was reached, which ends the training.

        The metric is evaluated at the end of every epoch, or only at the end of the plan. The cold
        time until the first evaluation was measured in a cold start; the time from there to a later
        one is that of this training, which is warm. Raises DivergedError.
        """
        target, evaluating, seconds = self.run.target, 0.0, -self.first_step
        split = EPOCH_METRICS[target.metric].split
        splits = [split] if split else []
        started = time.perf_counter()
        net = self.engine.build(self.model, seed=plan.seed)
        with closing(self.engine.fit(net, self.data.train, self.recipe, plan)) as epochs:
            for epoch in epochs:
                paused = time.perf_counter()
                wall, seconds = paused - started - evaluating, seconds + epoch.seconds
                if every or epoch.steps == plan.steps:
                    self._warm = wall if self._warm is None else self._warm
                    cold = self._load_seconds + self._cold + wall - self._warm
                    evaluated = with_figures(
                        epoch, self.engine, net, self.data, self.recipe, splits
                    )
                    value = float(getattr(evaluated, target.metric))
                    self.evaluations.append(Evaluation(epoch.steps, max(seconds, 0.0), cold, value))
                    if target.reached(value):
                        return True
                evaluating += time.perf_counter() - paused
        return False


def evaluation_plans(samples: int, recipe: Recipe, plan: Plan) -> list[Plan]:
    """Return the plan alone if it has enough epochs; otherwise a plan that ends after each part."""
    epochs = [len(sizes) for sizes in epoch_batch_sizes(samples, recipe, plan)]
    if len(epochs) >= MIN_EPOCHS:
        return [plan]
    ends = dict.fromkeys(max(sum(epochs) * number // PARTS, 1) for number in range(1, PARTS + 1))
    return [plan.stopping_after(end) for end in ends]


def measure(run: Run) -> Measurement:
    """Make a run in this process. A GPU is locked meanwhile. Raises UserError."""
    with exclusive(run.key.device):
        return _measure(run)


def _measure(run: Run) -> Measurement:
    started = time.perf_counter()
    engine = create(run.key.engine, run.key.device)
    load_seconds = time.perf_counter() - started
    dataset = load(run.key.dataset)
    dataset = replace(dataset.redraw(run.seed) if dataset.redraw else dataset, name=run.key.dataset)
    resolved = resolve(run.case, engine, dataset, run.key.tier)
    training = _Training(run, engine, resolved, load_seconds)
    diverged = None
    with BackgroundLoad() as background, GpuMonitor(run.key.device) as gpu:
        try:
            training.train_to_target()
        except DivergedError as error:
            diverged = str(error)
    return run.to_dict() | {
        **_result(run.target, training.evaluations, diverged),
        "load_seconds": load_seconds,
        "first_step_seconds": training.first_step,
        "others_share": background.fraction,
        "dtype": engine.dtype,
        "convention": engine.convention,
        **gpu.info,
        "provenance": provenance(),
    }


def _result(
    target: Target, evaluations: Sequence[Evaluation], diverged: str | None
) -> dict[str, Any]:
    """Return whether the target was reached, and when; otherwise the reason."""
    last = evaluations[-1] if evaluations else None
    reached = diverged is None and last is not None and target.reached(last.value)
    reason = diverged
    if not reached and reason is None and last is not None:
        reason = f"{target.metric} {last.value:.5g} at the end"
    return {
        "reached": reached,
        "reason": reason,
        "steps": last and last.steps,
        "seconds": last and last.seconds,
        "cold_seconds": last and last.cold_seconds,
        "looks": [evaluation._asdict() for evaluation in evaluations],
    }


def read(path: Path) -> list[Measurement]:
    """Return the last measurement of each run in a file. Raises UserError."""
    return read_measurements(path, Run)


def train_each(runs: Sequence[Run], path: Path) -> Iterator[tuple[Run, Measurement | str]]:
    """Make the runs that are not stored.

    Yields every run with its measurement, or with the reason why there is none. Raises UserError
    if the file has other contents.
    """
    return measure_missing(runs, path, "dlsys_bench.timing.to_accuracy")


def measure_fields(run: dict[str, Any]) -> Measurement:
    """Make a run that is given by its fields."""
    return measure(Run.from_dict(run))


if __name__ == "__main__":
    main(measure_fields)
