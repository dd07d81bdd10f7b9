"""Training steps on each engine: `pytest --benchmark-only`. What does not train fails."""

from __future__ import annotations

from typing import Any

import pytest

from dlsys_bench.engines import create, unavailable
from dlsys_bench.engines.registry import BUILT_IN
from dlsys_bench.provenance import provenance
from dlsys_bench.timing.benchmark import peak_memory
from dlsys_bench.timing.load import Others
from dlsys_bench.timing.paced import LENET5, OTHERS, Paced, Workload
from dlsys_bench.timing.peak import matrix_peak, memory_bandwidth

ROUNDS = 7
ENGINES = [name for name in BUILT_IN if name != "keras-jax"]
SIZES = [Workload("regularization/lenet5-tanh", "standard+bn", size, max(1, 2048 // size))
         for size in (8, 32, 512, 2048, 8192)]  # fmt: skip


@pytest.mark.parametrize("work", [*LENET5, *OTHERS, *SIZES], ids=str)
@pytest.mark.parametrize("name", ENGINES)
def test_training_steps(benchmark: Any, name: str, work: Workload, pytestconfig: pytest.Config) -> None:
    """Forward, loss, backward, update, on the device that --dlsys-device names; a round before to compile."""
    if reason := unavailable(name):
        pytest.skip(reason)
    device = pytestconfig.getoption("dlsys_device")
    if device != "cpu" and name in ("numpy", "numba", "keras"):
        pytest.skip(f"{name} has no {device} here")
    epoch = Paced(create(name, device), work, work.samples(), ROUNDS + 2)
    with Others() as others:
        benchmark.pedantic(epoch, rounds=ROUNDS, warmup_rounds=1)
    told = epoch.stop() | provenance() | {
        "engine": name, "device": device, "arm": f"{work.study}/{work.arm}", "batch_size": work.batch_size,
        "steps": work.steps, "peak_memory_bytes": peak_memory(), "others_share": others.share,
    }  # fmt: skip
    if benchmark.stats:
        seconds = benchmark.stats.stats.median / work.steps
        peak, rate = matrix_peak(), work.flops * work.batch_size / seconds
        told |= {
            "microseconds_per_step": 1e6 * seconds, "samples_per_second": work.batch_size / seconds,
            "gflops": rate / 1e9, "matrix_peak_gflops": peak / 1e9, "of_matrix_peak": rate / peak,
            "memory_bandwidth": memory_bandwidth(),
        }  # fmt: skip
    benchmark.extra_info |= told
