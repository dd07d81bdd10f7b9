"""What is aimed at on a GPU, as an H200; where there is none, that is said and nothing timed.

The whole of regularisation, to take ten minutes at most there, is a command:
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
from dlsys_bench.timing.gpu_monitor import GpuMonitor
from dlsys_bench.timing.paced import LENET5, Paced, train_rounds
from dlsys_bench.timing.ratio import interleave, median_interval, paired_ratio

DEVICE = "cuda"
ROUNDS, STEPS, EPOCH_STEPS, REPLICAS = 13, 200, 468, 64
MOST_MICROSECONDS, MOST_MILLISECONDS, TIMES_KERAS = 80.0, 15.0, 20.0
"""Of a step of LENET5[0] by graph, of an epoch of each of REPLICAS, and how many times as fast as
Keras's `fit`."""


def on_gpu(name: str) -> Engine:
    if reason := unavailable(name):
        pytest.skip(reason)
    try:
        return create(name, DEVICE)
    except EngineError as error:
        pytest.skip(f"no GPU: {error}")


def without_graphs() -> Engine:
    from dlsys_bench.engines.torch import TorchEngine

    class Eager(TorchEngine):
        def recorder(self) -> None:
            return None

    return Eager(DEVICE)


def at_most(values: list[float], goal: float) -> str:
    """A median with its interval, beside what it is to be at most."""
    low, high = median_interval(values)
    verdict = "met" if high <= goal else "missed" if low > goal else "AMBIGUOUS"
    return f"{median(values):.3g} [{low:.3g}, {high:.3g}], at most {goal:g}: {verdict}"


def test_a_step_on_a_gpu(benchmark: Any) -> None:
    """By graph and without, beside jax and Keras on the same GPU, in turn."""
    engines = {"torch": on_gpu("torch"), "torch without graphs": without_graphs()}
    engines |= {name: on_gpu(name) for name in ("jax", "keras-jax") if not unavailable(name)}
    work = LENET5[0]._replace(steps=STEPS)
    with exclusive(DEVICE):
        epochs = {
            name: Paced(engine, work, work.samples(), ROUNDS + 3)
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
    each = {name: [1e6 * taken / STEPS for taken in rounds] for name, rounds in seconds.items()}
    told: dict[str, Any] = {
        "microseconds_a_step": each,
        "torch": at_most(each["torch"], MOST_MICROSECONDS),
    }
    for other in engines:
        if other != "torch":
            ratio = paired_ratio(seconds[other], seconds["torch"])
            told[f"torch against {other}"] = (
                ratio.describe(TIMES_KERAS) if other == "keras-jax" else str(ratio)
            )
    benchmark.extra_info |= told | gpu.info | device_memory() | provenance()


def test_replicas_on_a_gpu(benchmark: Any) -> None:
    """Epochs of MNIST, each of so many networks as one program."""
    engine, work = on_gpu("torch"), LENET5[0]._replace(steps=EPOCH_STEPS)
    seconds: list[float] = []
    with exclusive(DEVICE), GpuMonitor(DEVICE) as gpu:
        benchmark.pedantic(
            lambda: seconds.extend(train_rounds(engine, work, 9, REPLICAS).seconds[2:]), rounds=1
        )
    each = [1e3 * taken / REPLICAS for taken in seconds]
    told = {"milliseconds_an_epoch_each": each, "replicas": at_most(each, MOST_MILLISECONDS)}
    benchmark.extra_info |= told | gpu.info | device_memory() | provenance()
