"""The goals on a GPU such as an H200; skipped without one.

A further goal, the whole regularization group in at most ten minutes, is measured by a command:
`dlsys-bench calibrate regularization --tier full --seeds 5 --engine torch --device cuda`.
"""

from __future__ import annotations

from statistics import median
from typing import Any

import pytest

from dlsys_bench.engines.base import Engine
from dlsys_bench.engines.registry import create, unavailable
from dlsys_bench.errors import EngineError
from dlsys_bench.provenance import provenance
from dlsys_bench.timing.device import device_memory
from dlsys_bench.timing.device_lock import exclusive
from dlsys_bench.timing.epoch_benchmark import EpochBenchmark, train_rounds, workloads
from dlsys_bench.timing.gpu_monitor import GpuMonitor
from dlsys_bench.timing.ratio import interleave, median_interval, paired_ratio

DEVICE = "cuda"
ROUNDS, STEPS, EPOCH_STEPS, REPLICAS = 13, 200, 468, 64
MOST_MICROSECONDS, MOST_MILLISECONDS, TIMES_KERAS = 80.0, 15.0, 20.0
"""The goals: the time of a step of the first workload by graph, the time of an epoch per
replica, and the speed relative to Keras's `fit`."""


def on_gpu(name: str) -> Engine:
    """The engine on the GPU; skips the test if there is none."""
    if reason := unavailable(name):
        pytest.skip(reason)
    try:
        return create(name, DEVICE)
    except EngineError as error:
        pytest.skip(f"no GPU: {error}")


def without_graphs() -> Engine:
    """The torch engine without CUDA graphs."""
    from dlsys_bench.engines.torch import TorchEngine

    class Eager(TorchEngine):
        def recorder(self) -> None:
            return None

    return Eager(DEVICE)


def at_most(values: list[float], goal: float) -> str:
    """A median with its interval, and whether it meets a goal."""
    low, high = median_interval(values)
    verdict = "met" if high <= goal else "missed" if low > goal else "AMBIGUOUS"
    return f"{median(values):.3g} [{low:.3g}, {high:.3g}], at most {goal:g}: {verdict}"


def test_a_step_on_a_gpu(benchmark: Any) -> None:
    """The torch engine with and without graphs, jax and Keras in turn on the same GPU."""
    engines = {"torch": on_gpu("torch"), "torch without graphs": without_graphs()}
    engines |= {name: on_gpu(name) for name in ("jax", "keras-jax") if not unavailable(name)}
    work = workloads()[0]._replace(steps=STEPS)
    with exclusive(DEVICE):
        epochs = {
            name: EpochBenchmark(engine, work, work.samples(), ROUNDS + 3)
            for name, engine in engines.items()
        }
        seconds: dict[str, list[float]] = {}

        def turns() -> None:
            interleave(epochs, 2)
            seconds.update(interleave(epochs, ROUNDS))

        with GpuMonitor(DEVICE) as gpu:
            benchmark.pedantic(turns, rounds=1)
        for epoch in epochs.values():
            epoch.stop()
    each = {name: [1e6 * time / STEPS for time in rounds] for name, rounds in seconds.items()}
    info: dict[str, Any] = {
        "microseconds_a_step": each,
        "torch": at_most(each["torch"], MOST_MICROSECONDS),
    }
    for other in engines:
        if other != "torch":
            ratio = paired_ratio(seconds[other], seconds["torch"])
            info[f"torch against {other}"] = (
                ratio.describe(TIMES_KERAS) if other == "keras-jax" else str(ratio)
            )
    benchmark.extra_info |= info | gpu.info | device_memory() | provenance()


def test_replicas_on_a_gpu(benchmark: Any) -> None:
    """Epochs of MNIST with REPLICAS networks as one program."""
    engine, work = on_gpu("torch"), workloads()[0]._replace(steps=EPOCH_STEPS)
    seconds: list[float] = []
    with exclusive(DEVICE), GpuMonitor(DEVICE) as gpu:
        benchmark.pedantic(
            lambda: seconds.extend(train_rounds(engine, work, 9, REPLICAS).seconds[2:]), rounds=1
        )
    each = [1e3 * time / REPLICAS for time in seconds]
    info = {"milliseconds_an_epoch_each": each, "replicas": at_most(each, MOST_MILLISECONDS)}
    benchmark.extra_info |= info | gpu.info | device_memory() | provenance()
