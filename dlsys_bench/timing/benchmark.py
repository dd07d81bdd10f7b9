"""The fixture `train_benchmark`, which times a training step of any framework."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psutil

from dlsys_bench.errors import UserError, type_of
from dlsys_bench.provenance import provenance
from dlsys_bench.timing.device import device_memory, in_use
from dlsys_bench.timing.device_lock import exclusive
from dlsys_bench.timing.gpu_monitor import GpuMonitor
from dlsys_bench.timing.load import BackgroundLoad
from dlsys_bench.timing.peak import matrix_peak
from dlsys_bench.timing.validity import check_losses, check_weights

try:
    import resource
except ImportError:  # On Windows, where psutil reports the peak.
    resource = None  # type: ignore[assignment]

Step = Callable[[], Any]
ReadWeights = Callable[[], Mapping[str, Any]]


@dataclass(frozen=True)
class RoundOptions:
    """The rounds of a benchmark: `rounds` of `steps` steps each, after `warmup_rounds`."""

    steps: int = 20
    rounds: int = 7
    warmup_rounds: int = 1


@dataclass
class _StepTiming:
    """A step that is timed: its losses, and what was measured with it."""

    step: Step
    synchronize: Callable[[], object] | None
    losses: list[Any] = field(default_factory=list)
    info: dict[str, Any] = field(default_factory=dict)

    def wait(self) -> None:
        """Wait until the device has finished the steps."""
        if self.synchronize:
            self.synchronize()
        else:
            _wait(self.losses[-1])

    def run(self, benchmark: Any, device: str, options: RoundOptions) -> None:
        """Run the first step, then the rounds of the benchmark, alone on their device.

        The first step is timed separately, since it may compile.
        """

        def run_round() -> None:
            for _ in range(options.steps):
                self.losses.append(self.step())
            self.wait()

        with exclusive(device):
            started = time.perf_counter()
            self.losses.append(self.step())
            self.wait()
            self.info["first_step_seconds"] = time.perf_counter() - started
            # The framework may use a GPU although the caller did not name one.
            device = "cuda" if device == "cpu" and in_use() else device
            with exclusive(device), GpuMonitor(device) as gpu, BackgroundLoad() as background:
                benchmark.pedantic(
                    run_round, rounds=options.rounds, warmup_rounds=options.warmup_rounds
                )
        self.info |= {"others_share": background.fraction, "peak_memory_bytes": peak_memory()}
        self.info |= device_memory() | gpu.info


class TrainBenchmark:
    """The fixture `train_benchmark`.

    `train_benchmark(step, samples=128)` times a function `step()` that makes one update on that
    number of samples and returns the loss before it.
    """

    def __init__(self, benchmark: Any) -> None:
        self.benchmark = benchmark

    def __call__(
        self,
        step: Step,
        *,
        samples: int,
        weights: ReadWeights | None = None,
        synchronize: Callable[[], object] | None = None,
        flops: float | None = None,
        device: str = "cpu",
        **rounds: int,
    ) -> None:
        """Time rounds of steps, and fail unless the loss fell.

        - `samples`: the number of samples of a step.
        - `weights`: a function that returns arrays by name. Each has to change.
        - `synchronize`: waits for the device at the end of each round; by default the last loss is
          waited for as torch and JAX do it. Losses are read after the last round.
        - `flops`: the operations of one sample. Adds the rate, and its fraction of the matrix peak.
        - `device`: "cpu", "cuda" or "cuda:1". A GPU is locked from the first step on, or from the
          second if torch or JAX uses it unannounced, so that no other process times anything on it.
        - `steps`, `rounds`, `warmup_rounds`: see RoundOptions.

        Raises NotTrainingError if the loss did not fall or an array did not change, and UserError
        if a loss is not a number.
        """
        options = RoundOptions(**rounds)
        timing = _StepTiming(step, synchronize)
        before = _arrays(weights)
        timing.run(self.benchmark, device, options)
        losses = [_number(loss) for loss in timing.losses]
        check_losses(losses, options.steps)
        check_weights(before, _arrays(weights))
        self.benchmark.extra_info |= {
            "samples": samples,
            "steps": options.steps,
            "loss_first": losses[0],
            "loss_last": losses[-1],
            **timing.info,
            **provenance(),
            **self._rates(samples, options.steps, flops),
        }

    def _rates(self, samples: int, steps: int, flops: float | None) -> dict[str, float]:
        """Return the time per step and the rates, nothing if benchmarks are disabled."""
        if not self.benchmark.stats:
            return {}
        seconds = self.benchmark.stats.stats.median / steps
        rates = {
            "microseconds_per_step": 1e6 * seconds,
            "samples_per_second": samples / seconds,
        }
        if flops is None:
            return rates
        peak = matrix_peak()
        return rates | {
            "gflops": flops * samples / seconds / 1e9,
            "matrix_peak_gflops": peak / 1e9,
            "of_matrix_peak": flops * samples / seconds / peak,
        }


def peak_memory() -> int:
    """Return the most memory that this process has held, in bytes."""
    usage = getattr(resource, "getrusage", None)
    if usage is None:
        return int(psutil.Process().memory_info().peak_wset)  # type: ignore[attr-defined]
    most = int(usage(resource.RUSAGE_SELF).ru_maxrss)
    return most if sys.platform == "darwin" else 1024 * most


def _wait(loss: Any) -> None:
    """Wait until the device has computed the loss."""
    if hasattr(loss, "block_until_ready"):
        loss.block_until_ready()
    elif getattr(loss, "is_cuda", False):
        sys.modules["torch"].cuda.synchronize()


def _number(loss: Any) -> float:
    try:
        return float(loss)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"step() returned {type_of(loss)}; it has to return the loss, a number"
        ) from error


def _arrays(weights: Callable[[], Mapping[str, Any]] | None) -> dict[str, np.ndarray]:
    """Return copies of the arrays as numpy arrays."""
    found = {} if weights is None else weights()
    return {
        name: np.array(values.detach().cpu() if hasattr(values, "detach") else values)
        for name, values in found.items()
    }
