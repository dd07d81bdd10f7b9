"""How fast one thing trains as its size changes: each point by a process of its own, so that its memory is its own.

`python -m dlsys_bench.timing.sweep` measures one point, given as JSON.
"""

from __future__ import annotations

import json
import os
import signal
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

FEWEST_STEPS, FEWEST_ROUNDS = 8, 7

_OPENMP, _TENSORFLOW = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
THREADS = (*_OPENMP, *_TENSORFLOW, "PJRT_NPROC", "NPROC")
"""What tells BLAS, torch, TensorFlow and JAX how many threads to take."""


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
        more = [f"{name} {value}" for name, value in (("threads", self.threads), ("replicas", self.replicas))
                if value not in (None, 1)]  # fmt: skip
        return " ".join([self.engine, self.device, self.dtype, self.arm, f"batch {self.batch_size}", *more])

    @property
    def environment(self) -> dict[str, str]:
        """This process's, but for what tells libraries their threads."""
        found = {name: value for name, value in os.environ.items() if name not in THREADS}
        if self.threads is not None:
            found |= dict.fromkeys(THREADS, str(self.threads))
        if self.threads == 1:
            found["XLA_FLAGS"] = f"{found.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false".strip()
        return found


def measure(point: Point, seconds: float) -> dict[str, Any]:
    """One point here: rounds of many steps, at least seven, for about so long, alone on its GPU. Errors: UserError,
    NotTrainingError."""
    from dlsys_bench.timing.taken import taken

    with taken(point.device):
        return _measured(point, seconds)


def _measured(point: Point, seconds: float) -> dict[str, Any]:
    from dlsys_bench.engines import create
    from dlsys_bench.provenance import provenance
    from dlsys_bench.timing.benchmark import peak_memory
    from dlsys_bench.timing.device import device_memory
    from dlsys_bench.timing.load import Others
    from dlsys_bench.timing.paced import Workload, train_rounds
    from dlsys_bench.timing.ratio import median_interval
    from dlsys_bench.timing.watched import Watched

    started = time.perf_counter()
    engine = create(point.engine, point.device, point.dtype)
    loaded = time.perf_counter() - started
    work, most = Workload(point.study, point.arm, point.batch_size, 2), max(2, MOST_SAMPLES // point.batch_size)
    first = timed = train_rounds(engine, work, 3, point.replicas)
    # An epoch of few steps tells more of what an epoch costs than of a step: twice, so that the second try has many.
    for share in (40, 20):
        a_step = min(timed.seconds[1:]) / work.steps
        work = work._replace(steps=min(max(int(seconds / share / a_step), FEWEST_STEPS), most))
        rounds = 3 if share == 40 else 2 + max(FEWEST_ROUNDS, min(int(seconds / (work.steps * a_step)), 50))
        with Watched(point.device) as gpu, Others() as others:
            timed = train_rounds(engine, work, rounds, point.replicas)
    each = [taken / work.steps / point.replicas for taken in timed.seconds[2:]]
    low, high = median_interval(each)
    return asdict(point) | {
        "parameters": work.case.arm.model.counts.trainable, "seconds": timed.seconds[2:], "steps": work.steps,
        "microseconds_a_step": 1e6 * median(each), "samples_a_second": point.batch_size / median(each),
        "samples_a_second_low": point.batch_size / high, "samples_a_second_high": point.batch_size / low,
        "gflops": work.flops * point.batch_size / median(each) / 1e9, "others_share": others.share,
        "load_seconds": loaded, "first_steps_seconds": first.seconds[0], "peak_memory_bytes": peak_memory(),
        **device_memory(), **gpu.told, "loss_first": timed.losses[0], "loss_last": timed.losses[-1],
        "provenance": provenance(),
    }  # fmt: skip


def _key(point: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(point[name] for name in Point.__dataclass_fields__)


def read(path: Path) -> list[dict[str, Any]]:
    """The points that are stored, of each the last. Errors: UserError."""
    if not path.exists():
        return []
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return list({_key(line): line for line in lines}.values())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no file of measured points: {type(error).__name__}: {error}") from None


def sweep(points: Sequence[Point], path: Path, seconds: float) -> Iterator[tuple[Point, dict[str, Any] | str]]:
    """Measure what is not stored yet by the versions that are here, each line as it comes; yields every point with what
    was found, or the reason why nothing was. Errors: UserError."""
    from dlsys_bench.provenance import provenance

    versions = provenance()["versions"]
    known = {_key(line): line for line in read(path) if line["provenance"]["versions"] == versions}
    path.parent.mkdir(parents=True, exist_ok=True)
    for point in points:
        key = _key(asdict(point))
        if key not in known:
            command = [sys.executable, "-m", "dlsys_bench.timing.sweep", json.dumps([asdict(point), seconds])]
            done = subprocess.run(command, env=point.environment, capture_output=True, text=True)
            if done.returncode:
                yield point, _reason(done)
                continue
            known[key] = json.loads(done.stdout.splitlines()[-1])
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(known[key]) + "\n")
        yield point, known[key]


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        return f"the process was ended by {signal.Signals(-done.returncode).name}"
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]


if __name__ == "__main__":
    told, how_long = json.loads(sys.argv[1])
    try:
        print(json.dumps(measure(Point(**told), how_long)))
    except Exception as error:
        # The last line is what is told.
        lines = str(error).strip().splitlines() or [""]
        sys.exit(lines[0] if isinstance(error, UserError) else f"{type(error).__name__}: {lines[0]}")
