"""The training step of each engine: `pytest --benchmark-only`. A step has to train."""

from __future__ import annotations

from typing import Any

import pytest

from dlsys_bench.engines.registry import DEVICES, create, measured_by_default, unavailable
from dlsys_bench.errors import EngineError
from dlsys_bench.provenance import provenance
from dlsys_bench.timing.benchmark import peak_memory
from dlsys_bench.timing.device import device_memory
from dlsys_bench.timing.device_lock import exclusive
from dlsys_bench.timing.epoch_benchmark import EpochBenchmark, Workload, workloads
from dlsys_bench.timing.gpu_monitor import GpuMonitor
from dlsys_bench.timing.load import BackgroundLoad

ROUNDS = 7
PLACES = {
    f"{name}-{device}" if device != "cpu" else name: (name, device)
    for device in DEVICES
    for name in measured_by_default(device)
}
"""The engines on each device; creating an engine raises EngineError if the device is absent."""
SIZES = [
    Workload("regularization/lenet5-tanh", "standard+bn", size, max(1, 2048 // size))
    for size in (8, 32, 512, 2048, 8192)
]


@pytest.mark.parametrize("work", [*workloads(), *SIZES], ids=str)
@pytest.mark.parametrize(("name", "device"), PLACES.values(), ids=PLACES)
def test_training_steps(benchmark: Any, name: str, device: str, work: Workload) -> None:
    """Forward, loss, backward and update, after one round that compiles."""
    if reason := unavailable(name):
        pytest.skip(reason)
    try:
        engine = create(name, device)
    except EngineError as error:
        if device == "cpu":
            raise
        pytest.skip(f"no GPU: {error}")
    with exclusive(device):
        epoch = EpochBenchmark(engine, work, work.samples(), ROUNDS + 2)
        roofline = work.roofline(engine.dtype)
        roofline.sample()
        with BackgroundLoad() as background, GpuMonitor(device) as gpu:
            benchmark.pedantic(epoch, rounds=ROUNDS, warmup_rounds=1)
        info = (
            epoch.stop()
            | provenance()
            | gpu.info
            | {
                "engine": name,
                "device": device,
                "arm": f"{work.study}/{work.arm}",
                "batch_size": work.batch_size,
                "steps": work.steps,
                "remark": engine.remark(work.case.arm.model, work.recipe),
                "peak_memory_bytes": peak_memory(),
                "others_share": background.fraction,
            }
        )
    if device != "cpu":
        info |= device_memory()
    if benchmark.stats:
        seconds = benchmark.stats.stats.median / work.steps
        rate = work.flops * work.batch_size / seconds / 1e9
        info |= {
            "microseconds_per_step": 1e6 * seconds,
            "samples_per_second": work.batch_size / seconds,
            "gflops": rate,
        }
        if device == "cpu":  # The peaks are those of the CPU.
            roofline.sample()
            bound = roofline.info(seconds)
            peak = bound["matrix_peak_gflops"]
            info |= {"matrix_peak_gflops": peak, "of_matrix_peak": rate / peak, "roofline": bound}
    benchmark.extra_info |= info
