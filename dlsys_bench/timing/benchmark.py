"""The fixture `train_benchmark`: anyone's training step by pytest-benchmark, in any framework."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import psutil

from dlsys_bench.errors import UserError
from dlsys_bench.provenance import provenance
from dlsys_bench.timing.device import device_memory, in_use
from dlsys_bench.timing.device_lock import exclusive
from dlsys_bench.timing.gpu_monitor import GpuMonitor
from dlsys_bench.timing.load import BackgroundLoad
from dlsys_bench.timing.peak import matrix_peak
from dlsys_bench.timing.proof import check_losses, check_moved

try:
    import resource
except ImportError:  # On Windows, where psutil knows the peak.
    resource = None  # type: ignore[assignment]

Step = Callable[[], Any]


class TrainBenchmark:
    """`train_benchmark(step, samples=128)`: `step()` makes one update and returns the loss before
    it."""

    def __init__(self, benchmark: Any) -> None:
        self.benchmark = benchmark

    def __call__(
        self,
        step: Step,
        *,
        samples: int,
        steps: int = 20,
        rounds: int = 7,
        warmup_rounds: int = 1,
        weights: Callable[[], Mapping[str, Any]] | None = None,
        synchronize: Callable[[], object] | None = None,
        flops: float | None = None,
        device: str = "cpu",
    ) -> None:
        """Time rounds of `steps` updates of so many `samples`, and fail unless the loss fell.

        A loss may stay on its device: it is read after the last round, and waited for at the end of
        each, by `synchronize` where that is given, else as torch and JAX do it. `weights` returns
        arrays by name: each must have moved. `flops`, of one sample, adds operations a second and
        their part of the matrix peak of this machine's cores. The first call, which may compile, is
        timed apart. `device`, "cuda" or "cuda:1", is waited for from the first step on while
        another process times something on it; where torch or JAX is on a GPU after that step, it is
        for the rounds, whatever was said. What slowed the GPU is told. Errors: NotTrainingError,
        UserError.
        """
        losses: list[Any] = []
        wait = synchronize or (lambda: _wait(losses[-1]))
        before = _arrays(weights)

        def once() -> None:
            losses.append(step())

        def some() -> None:
            for _ in range(steps):
                once()
            wait()

        with exclusive(device):
            started = time.perf_counter()
            once()
            wait()
            first = time.perf_counter() - started
            # A step that its author did not say is on a GPU.
            on = "cuda" if device == "cpu" and in_use() else device
            with exclusive(on), GpuMonitor(on) as gpu, BackgroundLoad() as background:
                self.benchmark.pedantic(some, rounds=rounds, warmup_rounds=warmup_rounds)
        values = [_number(loss) for loss in losses]
        check_losses(values, steps)
        check_moved(before, _arrays(weights))
        told = {
            "samples": samples,
            "steps": steps,
            "loss_first": values[0],
            "loss_last": values[-1],
            "first_step_seconds": first,
            "others_share": background.fraction,
            "peak_memory_bytes": peak_memory(),
            **device_memory(),
            **gpu.info,
            **provenance(),
        }
        if self.benchmark.stats:
            seconds = self.benchmark.stats.stats.median / steps
            told |= {
                "microseconds_per_step": 1e6 * seconds,
                "samples_per_second": samples / seconds,
            }
            if flops is not None:
                peak = matrix_peak()
                told |= {
                    "gflops": flops * samples / seconds / 1e9,
                    "matrix_peak_gflops": peak / 1e9,
                    "of_matrix_peak": flops * samples / seconds / peak,
                }
        self.benchmark.extra_info |= told


def peak_memory() -> int:
    """Return the most memory that this process has held, in bytes."""
    usage = getattr(resource, "getrusage", None)
    if usage is None:
        return int(psutil.Process().memory_info().peak_wset)  # type: ignore[attr-defined]
    most = int(usage(resource.RUSAGE_SELF).ru_maxrss)
    return most if sys.platform == "darwin" else 1024 * most


def _wait(loss: Any) -> None:
    """Until the device has computed this."""
    if hasattr(loss, "block_until_ready"):
        loss.block_until_ready()
    elif getattr(loss, "is_cuda", False):
        sys.modules["torch"].cuda.synchronize()


def _number(loss: Any) -> float:
    try:
        return float(loss)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"step() returned {type(loss).__name__}; it has to return the loss, a number"
        ) from error


def _arrays(weights: Callable[[], Mapping[str, Any]] | None) -> dict[str, np.ndarray]:
    """Copies, as numpy has them."""
    found = {} if weights is None else weights()
    return {
        name: np.array(values.detach().cpu() if hasattr(values, "detach") else values)
        for name, values in found.items()
    }
