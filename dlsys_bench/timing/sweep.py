"""How fast one thing trains as its size changes: each point by a process of its own, so that its memory is its own.

`python -m dlsys_bench.timing.sweep` measures one point, given as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from dlsys_bench.errors import UserError

MOST_SAMPLES = 60_000

FIELDS = ("engine", "device", "dtype", "study", "arm", "batch_size", "threads", "replicas")


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

    @property
    def environment(self) -> dict[str, str]:
        """What a process is told, so that every library heeds the threads."""
        if self.threads is None:
            return {}
        count = str(self.threads)
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
        flags = f"--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads={count}" if count == "1" else ""
        return dict.fromkeys(names, count) | ({"XLA_FLAGS": flags} if flags else {})


def measure(point: Point, seconds: float) -> dict[str, Any]:
    """One point here: rounds of many steps, at least seven, for about so long. Errors: UserError, NotTrainingError."""
    from dlsys_bench.engines import create
    from dlsys_bench.timing.benchmark import peak_memory
    from dlsys_bench.timing.paced import Workload, train_rounds

    started = time.perf_counter()
    engine = create(point.engine, point.device, point.dtype)
    loaded = time.perf_counter() - started
    # As many steps as take about a twentieth of the time, of no more samples than the data has.
    probe = Workload(point.study, point.arm, point.batch_size, 2)
    timed = train_rounds(engine, probe, 3, point.replicas)
    a_step = min(timed.seconds[1:]) / probe.steps
    steps = max(2, min(int(seconds / 20 / a_step), MOST_SAMPLES // point.batch_size))
    work = probe._replace(steps=steps)
    rounds = train_rounds(engine, work, 2 + max(7, min(int(seconds / (steps * a_step)), 50)), point.replicas)
    each = median(rounds.seconds[2:]) / steps / point.replicas
    return asdict(point) | {
        "parameters": work.case.arm.model.counts.trainable, "seconds": rounds.seconds[2:], "steps": steps,
        "microseconds_a_step": 1e6 * each,
        "samples_a_second": point.batch_size / each, "gflops": work.flops * point.batch_size / each / 1e9,
        "load_seconds": loaded, "first_steps_seconds": timed.seconds[0], "peak_memory_bytes": peak_memory(),
        "loss_first": rounds.losses[0], "loss_last": rounds.losses[-1],
    }  # fmt: skip


def read(path: Path) -> list[dict[str, Any]]:
    """The points that are stored. Errors: UserError."""
    if not path.exists():
        return []
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is no file of measured points: {error}") from None


def sweep(points: Sequence[Point], path: Path, seconds: float) -> Iterator[tuple[Point, dict[str, Any] | str]]:
    """Measure what is not stored yet, each line as it comes; yields every point with what was found, or the reason why
    nothing was."""
    from dlsys_bench.provenance import provenance

    known = {tuple(line[name] for name in FIELDS): line for line in read(path)}
    path.parent.mkdir(parents=True, exist_ok=True)
    for point in points:
        key = tuple(asdict(point)[name] for name in FIELDS)
        if key not in known:
            command = [sys.executable, "-m", "dlsys_bench.timing.sweep", json.dumps([asdict(point), seconds])]
            done = subprocess.run(command, env=os.environ | point.environment, capture_output=True, text=True)
            if done.returncode:
                yield point, (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
                continue
            known[key] = json.loads(done.stdout.splitlines()[-1]) | {"provenance": provenance()}
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(known[key]) + "\n")
        yield point, known[key]


if __name__ == "__main__":
    told, how_long = json.loads(sys.argv[1])
    try:
        print(json.dumps(measure(Point(**told), how_long)))
    except UserError as error:
        sys.exit(str(error))
