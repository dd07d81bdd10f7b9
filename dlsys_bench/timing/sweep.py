"""How fast one thing trains as its size changes: each point by a process of its own, so that its
memory is its own.

`python -m dlsys_bench.timing.sweep` measures one point, given as JSON.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from dlsys_bench.timing.points import Measurement, answer, each, environment, kept

MOST_SAMPLES = 60_000

FEWEST_STEPS, FEWEST_ROUNDS = 8, 7
ENOUGH_STEPS, ENOUGH_TIMES = 1000, 10
"""After so many, or after so many times what a point is to take, a loss has to have fallen."""


@dataclass(frozen=True)
class Point:
    """What trains where. `threads` None: as many as the engine takes by itself."""

    engine: str
    device: str = "cpu"
    dtype: str = "float32"
    study: str = "regularization/lenet5-tanh"
    arm: str = "standard+bn"
    batch_size: int = 128
    threads: int | None = None
    replicas: int = 1

    def __str__(self) -> str:
        more = [
            f"{name} {value}"
            for name, value in (("threads", self.threads), ("replicas", self.replicas))
            if value not in (None, 1)
        ]
        return " ".join(
            [self.engine, self.device, self.dtype, self.arm, f"batch {self.batch_size}", *more]
        )

    @property
    def environment(self) -> dict[str, str]:
        """That of its process."""
        return environment(self.threads)


def measure(point: Point, seconds: float) -> Measurement:
    """One point here: rounds of many steps, at least seven, for about so long, alone on its GPU.
    Errors: UserError, NotTrainingError."""
    from dlsys_bench.timing.device_lock import exclusive

    with exclusive(point.device):
        return _measured(point, seconds)


def _measured(point: Point, seconds: float) -> Measurement:
    from dlsys_bench.engines.registry import create
    from dlsys_bench.provenance import provenance
    from dlsys_bench.timing.benchmark import peak_memory
    from dlsys_bench.timing.device import device_memory
    from dlsys_bench.timing.gpu_monitor import GpuMonitor
    from dlsys_bench.timing.load import BackgroundLoad
    from dlsys_bench.timing.paced import Workload, train_rounds
    from dlsys_bench.timing.proof import NotFallingError
    from dlsys_bench.timing.ratio import median_interval

    started = time.perf_counter()
    engine = create(point.engine, point.device, point.dtype)
    loaded = time.perf_counter() - started
    work, most = (
        Workload(point.study, point.arm, point.batch_size, 2),
        max(2, MOST_SAMPLES // point.batch_size),
    )
    first = timed = train_rounds(engine, work, 3, point.replicas)
    # An epoch of few steps tells more of what an epoch costs than of a step: twice, so that the
    # second try has many.
    for share in (40, 20):
        a_step = min(timed.seconds[1:]) / work.steps
        work = work._replace(steps=min(max(int(seconds / share / a_step), FEWEST_STEPS), most))
        rounds = (
            3
            if share == 40
            else 2 + max(FEWEST_ROUNDS, min(int(seconds / (work.steps * a_step)), 50))
        )
        while True:
            try:
                with GpuMonitor(point.device) as gpu, BackgroundLoad() as background:
                    timed = train_rounds(engine, work, rounds, point.replicas)
                break
            except NotFallingError:
                # A slow learner has nothing to show after a few dozen steps, which is all that a
                # loaded machine makes.
                if (
                    rounds * work.steps > ENOUGH_STEPS
                    or time.perf_counter() - started > ENOUGH_TIMES * seconds
                ):
                    raise
                rounds *= 4
    each = [taken / work.steps / point.replicas for taken in timed.seconds[2:]]
    low, high = median_interval(each)
    return asdict(point) | {
        "parameters": work.case.arm.model.counts.trainable,
        "seconds": timed.seconds[2:],
        "steps": work.steps,
        "microseconds_a_step": 1e6 * median(each),
        "samples_a_second": point.batch_size / median(each),
        "samples_a_second_low": point.batch_size / high,
        "samples_a_second_high": point.batch_size / low,
        "gflops": work.flops * point.batch_size / median(each) / 1e9,
        "others_share": background.fraction,
        "load_seconds": loaded,
        "first_steps_seconds": first.seconds[0],
        "peak_memory_bytes": peak_memory(),
        **device_memory(),
        **gpu.info,
        "loss_first": timed.losses[0],
        "loss_last": timed.losses[-1],
        "provenance": provenance(),
    }


def read(path: Path) -> list[Measurement]:
    """The points that are stored, of each the last. Errors: UserError."""
    return kept(path, Point)


def sweep(
    points: Sequence[Point], path: Path, seconds: float
) -> Iterator[tuple[Point, Measurement | str]]:
    """Measure what is not stored yet by the versions that are here, each line as it comes; yields
    every point with what was found, or the reason why nothing was. Errors: UserError."""
    return each(points, path, "dlsys_bench.timing.sweep", seconds)


if __name__ == "__main__":
    answer(lambda point, seconds: measure(Point(**point), seconds))
