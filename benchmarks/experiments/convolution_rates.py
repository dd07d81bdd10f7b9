"""Measure the convolutions of the overlapping LeNet-5 alone, and write them to reports/speed.

    python benchmarks/experiments/convolution_rates.py

The numba engine computes each at the shapes of a training step, in one thread. The peak is that of
multiplications and additions whose factors are in registers. Times are CPU times.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np

from dlsys_bench.engines.numba.kernel import call, compile_separately, inner_kernel, kernel
from dlsys_bench.engines.numba.program import image_steps, program
from dlsys_bench.engines.numba.program.image_convolution import convolve, d_images, d_weights
from dlsys_bench.engines.numba.program.image_tables import CONVOLUTION
from dlsys_bench.engines.numba.program.lanes import LANES, load, store
from dlsys_bench.engines.numba.program.steps import train_steps
from dlsys_bench.engines.registry import create
from dlsys_bench.provenance import provenance
from dlsys_bench.timing.epoch_benchmark import EpochBenchmark, Workload, workloads

STORED = Path(__file__).parents[2] / "reports" / "speed" / "convolutions.json"
NAME = "lenet5-overlap-tanh-standard+bn-128"
ROUNDS, SUMS, REPEATS = 25, 8, 200_000

chunk_of, weights_of = image_steps._chunk, image_steps._weights


@inner_kernel
def forward(work: Any, team: Any, k: int, count: int) -> int:
    """Compute a convolution for all chunks of a batch."""
    row, (w, bias) = work.images.table[k], weights_of(work.images.table[k], work)
    for number in range(count):
        chunk = chunk_of(number, work, team)
        convolve(row, chunk, work.functions.convolve, w, bias, work.images.values)
    return 0


@inner_kernel
def weights(work: Any, team: Any, k: int, count: int) -> int:
    """Compute the gradient in its kernel."""
    row, (w, _) = work.images.table[k], weights_of(work.images.table[k], work)
    images = work.images
    for number in range(count):
        own = images.tensor_gradients[number, row.first : row.first + w.size]
        d_weights(row, chunk_of(number, work, team), images.values, images.gradients, own)
    return 0


@inner_kernel
def inputs(work: Any, team: Any, k: int, count: int) -> int:
    """Compute the gradient in its input."""
    row, (w, _) = work.images.table[k], weights_of(work.images.table[k], work)
    images = work.images
    for number in range(count):
        chunk, function = chunk_of(number, work, team), work.functions.convolve
        d_images(row, chunk, function, w, images.zeros, images.gradients)
    return 0


@kernel
def run(address: int, work: Any, team: Any, k: int, count: int) -> None:
    """Run one of the passes above."""
    call(address, (work, team, k, count))


@kernel
def multiply_and_add(x: Any, y: Any, count: int) -> None:
    """Multiply and add SUMS vectors, which stay in registers, again and again."""
    a, b, c, d = load(x, 0), load(x, LANES), load(x, 2 * LANES), load(x, 3 * LANES)
    e, f, g, h = a + b, a + c, a + d, b + c
    factor, term = b + d, c + d
    for _ in range(count):
        a, b, c, d = a * factor + term, b * factor + term, c * factor + term, d * factor + term
        e, f, g, h = e * factor + term, f * factor + term, g * factor + term, h * factor + term
    store(y, 0, a + b + c + d + e + f + g + h)


def cpu_seconds(work: Callable[[], None]) -> float:
    """Return the median CPU time of some work."""
    found = []
    for _ in range(ROUNDS):
        started = time.thread_time()
        work()
        found.append(time.thread_time() - started)
    return median(found)


def trained(work: Workload) -> tuple[Any, Any, Any]:
    """Train, and return what the compiled steps worked on, and the training."""
    found: list[Any] = []

    def noted(*arguments: Any) -> int:
        found[:] = arguments
        done: int = train_steps(*arguments)
        return done

    training = EpochBenchmark(create("numba"), work, work.samples(), ROUNDS + 1)
    with patch.object(program, "train_steps", noted):
        training()
    return found[0], found[1], training


def peak() -> float:
    """Return the operations per second of one thread, in single precision."""
    x, y = np.full(4 * LANES, 0.25, np.float32), np.empty(LANES, np.float32)
    multiply_and_add(x, y, 1)
    return 2 * LANES * SUMS * REPEATS / cpu_seconds(lambda: multiply_and_add(x, y, REPEATS))


def main() -> None:
    """Measure, and write the rates."""
    workload = next(one for one in workloads() if str(one) == NAME)
    work, team, training = trained(workload)
    step = cpu_seconds(training) / workload.steps
    count = int((team.chunks[:, 1] > 0).sum())
    passes = {
        name: compile_separately(one, work, team, 0, 0)
        for name, one in (("forward", forward), ("weights", weights), ("inputs", inputs))
    }
    rates = []
    for k, row in enumerate(work.images.table):
        if row["kind"] != CONVOLUTION:
            continue
        x, y = row["x"], row["y"]
        sums = row["tall"] * row["wide"] * x["channels"] * y["channels"]
        flop = float(2 * sums * y["height"] * y["width"] * workload.batch_size)
        found = {}
        for name, address in passes.items():
            if name != "inputs" or row["wants_dx"]:
                run(address, work, team, k, count)
                seconds = cpu_seconds(partial(run, address, work, team, k, count))
                found[name] = {
                    "microseconds": 1e6 * seconds,
                    "gflops": flop / seconds / 1e9,
                }
        shape = f"{x['channels']} to {y['channels']} channels, {y['height']} by {y['width']}"
        rates.append({"convolution": shape, "passes": found})
    stored = {
        "peak_gflops": peak() / 1e9,
        "gflop_a_step": workload.flops * workload.batch_size / 1e9,
        "microseconds_a_step": 1e6 * step,
        "convolutions": rates,
        **provenance(),
    }
    STORED.write_text(json.dumps(stored, indent=1) + "\n")
    training.stop()


if __name__ == "__main__":
    main()
