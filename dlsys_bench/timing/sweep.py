"""Measurement of training speed by the size of the work.

A process measures one point, so that its peak memory is that of the point:
`python -m dlsys_bench.timing.sweep` measures a point given as JSON.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, ClassVar

from dlsys_bench.engines.base import Engine
from dlsys_bench.engines.registry import create
from dlsys_bench.provenance import provenance
from dlsys_bench.runs.fields import Name, Optional, Real, Struct, Whole
from dlsys_bench.timing.benchmark import peak_memory
from dlsys_bench.timing.device import device_memory
from dlsys_bench.timing.device_lock import exclusive
from dlsys_bench.timing.epoch_benchmark import Rounds, Workload, train_rounds
from dlsys_bench.timing.gpu_monitor import GpuMonitor
from dlsys_bench.timing.load import BackgroundLoad
from dlsys_bench.timing.points import (
    CONDITIONS,
    GPU,
    Measurement,
    environment,
    main,
    measure_missing,
    read_measurements,
)
from dlsys_bench.timing.ratio import median_interval
from dlsys_bench.timing.roofline import ROOFLINE, Roofline
from dlsys_bench.timing.validity import LossNotFallingError

MAX_SAMPLES = 60_000
"""The largest number of samples of a round."""
MIN_STEPS, MIN_ROUNDS, MAX_ROUNDS = 8, 7, 50
WARMUP_ROUNDS = 2
TRIAL_ROUNDS = 3
"""The rounds of a training that only estimates the duration of a step."""
ENOUGH_STEPS, ENOUGH_TIMES = 1000, 10
"""After this number of steps, or multiple of the intended duration, a loss has to have fallen."""


@dataclass(frozen=True)
class Point:
    """An engine, a workload and its size. `threads` is None for the engine's default.

    `protocol` is that of an arm of a study which is not registered, as the study may change.
    """

    engine: str
    device: str = "cpu"
    dtype: str = "float32"
    study: str = ""
    arm: str = ""
    batch_size: int = 128
    threads: int | None = None
    replicas: int = 1
    protocol: str = ""

    FIELDS: ClassVar[tuple[str, ...]] = (
        *("engine", "device", "dtype", "study", "arm"),
        *("batch_size", "threads", "replicas", "protocol"),
    )
    MEASURED: ClassVar[Struct] = Struct(
        {
            **dict.fromkeys(("engine", "device", "dtype", "study", "arm", "protocol"), Name()),
            **dict.fromkeys(("batch_size", "replicas"), Whole(1)),
            "threads": Optional(Whole(1)),
            **dict.fromkeys(("parameters", "peak_memory_bytes"), Whole()),
            **dict.fromkeys(("samples_a_second", "microseconds_a_step"), Real(least=0)),
            **dict.fromkeys(("samples_a_second_low", "samples_a_second_high"), Real(least=0)),
            "roofline": Optional(ROOFLINE),
            **CONDITIONS,
            **GPU,
        },
        optional=frozenset(GPU) | {"protocol", "roofline"},
    )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values, without an empty protocol."""
        return {name: value for name, value in asdict(self).items() if name != "protocol" or value}

    def __str__(self) -> str:
        words = [self.engine, self.device, self.dtype, self.arm, f"batch {self.batch_size}"]
        if self.threads is not None:
            words.append(f"threads {self.threads}")
        if self.replicas != 1:
            words.append(f"replicas {self.replicas}")
        return " ".join(words)

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables of the process that measures the point."""
        return environment(self.threads)


@dataclass
class _PointTiming:
    """The rounds of a point, and the state of the machine while they were trained."""

    engine: Engine
    point: Point
    deadline: float
    info: dict[str, Any]

    def train(self, work: Workload, rounds: int) -> Rounds:
        """Train rounds of the workload; more of them if the loss did not fall in these.

        A slow learner shows no progress after a few dozen steps, which is all that a machine under
        load makes in the intended time. Raises NotTrainingError.
        """
        while True:
            try:
                with BackgroundLoad() as background, GpuMonitor(self.point.device) as gpu:
                    timed = train_rounds(self.engine, work, rounds, self.point.replicas)
                self.info = {"others_share": background.fraction, **gpu.info}
                return timed
            except LossNotFallingError:
                if rounds * work.steps > ENOUGH_STEPS or time.perf_counter() > self.deadline:
                    raise
                rounds *= 4


def measure(point: Point, seconds: float) -> Measurement:
    """Measure a point in this process: at least seven rounds of many steps, for about `seconds`.

    A GPU is locked meanwhile. Raises UserError and NotTrainingError.
    """
    with exclusive(point.device):
        return _measure(point, seconds)


def _measure(point: Point, seconds: float) -> Measurement:
    started = time.perf_counter()
    engine = create(point.engine, point.device, point.dtype)
    load_seconds = time.perf_counter() - started
    timing = _PointTiming(engine, point, started + ENOUGH_TIMES * seconds, {})
    work = Workload(point.study, point.arm, point.batch_size, 2)
    first = train_rounds(engine, work, TRIAL_ROUNDS, point.replicas)
    # The fixed costs of an epoch dominate a round of few steps. The steps are therefore chosen
    # twice; the first choice only improves the estimate of the duration of a step.
    work, _ = _resized(work, first, seconds / 40)
    trial = train_rounds(engine, work, TRIAL_ROUNDS, point.replicas)
    # The peaks of a GPU are not those of the CPU, and replicas share what they read.
    bounded = point.device == "cpu" and point.replicas == 1
    roofline = work.roofline(point.dtype, point.threads) if bounded else None
    if roofline:
        roofline.sample()
    work, round_seconds = _resized(work, trial, seconds / 20)
    rounds = max(MIN_ROUNDS, min(int(seconds / round_seconds), MAX_ROUNDS))
    timed = timing.train(work, WARMUP_ROUNDS + rounds)
    return point.to_dict() | {
        "parameters": work.case.arm.model.counts.trainable,
        **_rates(point, work, timed.seconds[WARMUP_ROUNDS:], roofline),
        "load_seconds": load_seconds,
        "first_steps_seconds": first.seconds[0],
        "peak_memory_bytes": peak_memory(),
        **device_memory(),
        **timing.info,
        "loss_first": timed.losses[0],
        "loss_last": timed.losses[-1],
        "provenance": provenance(),
    }


def _resized(work: Workload, timed: Rounds, seconds: float) -> tuple[Workload, float]:
    """Return the workload with rounds of about `seconds`, and their expected duration.

    `timed` are rounds of the workload as it is.
    """
    step_seconds = min(timed.seconds[1:]) / work.steps
    most = max(2, MAX_SAMPLES // work.batch_size)
    steps = min(max(int(seconds / step_seconds), MIN_STEPS), most)
    return work._replace(steps=steps), steps * step_seconds


def _rates(
    point: Point, work: Workload, seconds: Sequence[float], roofline: Roofline | None
) -> dict[str, Any]:
    """Return the throughput and its 95% interval, given the seconds of each round, with the bound
    of the machine where there is one."""
    per_step = [duration / work.steps / point.replicas for duration in seconds]
    low, high = median_interval(per_step)
    return {
        "seconds": list(seconds),
        "steps": work.steps,
        "microseconds_a_step": 1e6 * median(per_step),
        "samples_a_second": point.batch_size / median(per_step),
        "samples_a_second_low": point.batch_size / high,
        "samples_a_second_high": point.batch_size / low,
        "gflops": work.flops * point.batch_size / median(per_step) / 1e9,
        "roofline": roofline and roofline.info(median(per_step)),
    }


def read(path: Path) -> list[Measurement]:
    """Return the last measurement of each point in a file. Raises UserError."""
    return read_measurements(path, Point)


def sweep(
    points: Sequence[Point], path: Path, seconds: float
) -> Iterator[tuple[Point, Measurement | str]]:
    """Measure the points that are not stored, each for about `seconds`.

    Yields every point with its measurement, or with the reason why there is none. Raises UserError
    if the file has other contents.
    """
    return measure_missing(points, path, "dlsys_bench.timing.sweep", seconds)


def measure_fields(point: dict[str, Any], seconds: float) -> Measurement:
    """Measure a point that is given by its fields."""
    return measure(Point(**point), seconds)


if __name__ == "__main__":
    main(measure_fields)
