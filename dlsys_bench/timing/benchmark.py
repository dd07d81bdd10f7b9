"""The fixture `train_benchmark`, which times a training step of any framework."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import psutil

from dlsys_bench.errors import UserError, type_of
from dlsys_bench.provenance import provenance
from dlsys_bench.timing.arrays import named_arrays
from dlsys_bench.timing.device import device_memory, in_use
from dlsys_bench.timing.device_lock import exclusive
from dlsys_bench.timing.gpu_monitor import GpuMonitor
from dlsys_bench.timing.load import BackgroundLoad
from dlsys_bench.timing.peak import blas_in_use, matrix_peak
from dlsys_bench.timing.reading import MAX_WAIT, Losses, read_loss, read_losses, unfinished_work
from dlsys_bench.timing.validity import check_losses, check_weights

try:
    import resource
except ImportError:  # On Windows, where psutil reports the peak.
    resource = None  # type: ignore[assignment]

Step = Callable[[], Any]
ReadWeights = Callable[[], object]

CONFIRMATIONS = 3
"""The additional rounds that decide whether reading losses waits, so that one delay does not."""


@dataclass(frozen=True)
class RoundOptions:
    """The rounds of a benchmark: `rounds` of `steps` steps each, after `warmup_rounds`."""

    steps: int = 20
    rounds: int = 7
    warmup_rounds: int = 1


@dataclass
class _StepTiming:
    """A step that is timed: its losses, and what was measured with it.

    `losses` are those of every step so far as the step returned them, and `seconds` those of each
    round.
    """

    step: Step
    steps: int
    synchronize: Callable[[], object] | None
    losses: list[Any] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    info: dict[str, Any] = field(default_factory=dict)

    def run_round(self) -> None:
        """Make the steps of a round, and wait until the device has finished them."""
        started = time.perf_counter()
        for _ in range(self.steps):
            self.losses.append(self.step())
        self._wait()
        self.seconds.append(time.perf_counter() - started)

    def run(self, benchmark: Any, device: str, options: RoundOptions) -> list[float]:
        """Run the first step, then the rounds of the benchmark, and return the losses.

        All run alone on their device. The first step is timed separately, since it may compile.
        Raises UnfinishedWorkError if the rounds do not contain the work, and UserError.
        """
        with exclusive(device):
            started = time.perf_counter()
            self.losses.append(self.step())
            self._wait()
            read_loss(self.losses[0])
            self.info["first_step_seconds"] = time.perf_counter() - started
            # The framework may use a GPU although the caller did not name one.
            device = "cuda" if device == "cpu" and in_use() else device
            with exclusive(device):
                # The state of a GPU is read before the load, which may be measured for longer.
                with BackgroundLoad() as background, GpuMonitor(device) as gpu:
                    benchmark.pedantic(
                        self.run_round, rounds=options.rounds, warmup_rounds=options.warmup_rounds
                    )
                    losses = read_losses(self.losses)
                if losses.wait_fraction(sum(self.seconds)) > MAX_WAIT:
                    self._confirm_waiting()
        self.info |= {"others_share": background.fraction, "peak_memory_bytes": peak_memory()}
        self.info |= device_memory() | gpu.info
        return losses.values

    def _confirm_waiting(self) -> None:
        """Raise UnfinishedWorkError if reading the losses of further rounds waits as well."""
        fractions = []
        for _ in range(CONFIRMATIONS):
            self.run_round()
            losses: Losses = read_losses(self.losses[-self.steps :])
            fractions.append(losses.wait_fraction(self.seconds[-1]))
        if median(fractions) > MAX_WAIT:
            raise unfinished_work(median(fractions), synchronized=self.synchronize is not None)

    def _wait(self) -> None:
        """Wait until the device has finished the steps."""
        if self.synchronize:
            self.synchronize()
        else:
            _wait(self.losses[-1])


class TrainBenchmark:
    """The fixture `train_benchmark`.

    `train_benchmark(step, samples=128)` times a function `step()` that makes one update on that
    number of samples and returns the loss before it.
    """

    def __init__(self, benchmark: Any) -> None:
        self.benchmark = benchmark
        self.info: dict[str, Any] = {}

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
        - `weights`: a function that returns arrays of any framework: by name, as a list, or nested
          in mappings and lists. Each has to change.
        - `synchronize`: waits for the device at the end of each round; by default the last loss is
          waited for as torch and JAX do it. Losses are read after the last round.
        - `flops`: the operations of one sample. Adds the rate, and its fraction of the matrix peak.
        - `device`: "cpu", "cuda" or "cuda:1". A GPU is locked from the first step on, or from the
          second if torch or JAX uses it unannounced, so that no other process times anything on it.
        - `steps`, `rounds`, `warmup_rounds`: see RoundOptions.

        Raises NotTrainingError if the loss did not fall or an array did not change, UserError if a
        loss is not a number, and UnfinishedWorkError if reading the losses takes a substantial part
        of the time, because the rounds then end before their work is done.
        """
        self._check_arguments(weights)
        options = RoundOptions(**rounds)
        timing = _StepTiming(step, options.steps, synchronize)
        before = weights and named_arrays(weights())
        losses = timing.run(self.benchmark, device, options)
        check_losses(losses, options.steps)
        if weights and before:
            check_weights(before, named_arrays(weights()))
        rates = self._rates(samples, options.steps, flops, timing.seconds[-options.rounds :])
        ends = {"loss_first": losses[0], "loss_last": losses[-1]}
        self._report({"samples": samples, "steps": options.steps} | ends | timing.info | rates)

    def _check_arguments(self, weights: object) -> None:
        """Raise UserError if the fixture or the function cannot be called."""
        if not hasattr(self.benchmark, "pedantic"):
            raise UserError(
                f"the fixture `benchmark` is {type_of(self.benchmark)} without the method pedantic"
            )
        if weights is not None and not callable(weights):
            raise UserError(
                f"weights is {type_of(weights)}; expected a function, as in weights=lambda: ..."
            )

    def _report(self, info: dict[str, Any]) -> None:
        """Keep what was measured, in the fixture as well if that has a place for it."""
        self.info = info | provenance() | {"blas": blas_in_use()}
        extra_info = getattr(self.benchmark, "extra_info", None)
        if isinstance(extra_info, MutableMapping):
            extra_info.update(self.info)

    def _rates(
        self, samples: int, steps: int, flops: float | None, round_seconds: list[float]
    ) -> dict[str, float]:
        """Return the time per step and the rates, nothing if benchmarks are disabled."""
        duration = _median_of(self.benchmark, round_seconds)
        if duration is None:
            return {}
        seconds = duration / steps
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


def _median_of(benchmark: Any, round_seconds: list[float]) -> float | None:
    """Return the median seconds of a round as the fixture reports it, None if it is disabled.

    A fixture that reports none, such as that of pytest-codspeed, has the median of `round_seconds`.
    """
    stats = getattr(benchmark, "stats", benchmark)
    if stats is None:
        return None
    for owner in (getattr(stats, "stats", None), stats):
        if isinstance(found := getattr(owner, "median", None), int | float):
            return float(found)
    return median(round_seconds)


def peak_memory() -> int:
    """Return the most memory that this process has held, in bytes."""
    usage = getattr(resource, "getrusage", None)
    if usage is None:
        return int(psutil.Process().memory_info().peak_wset)  # type: ignore[attr-defined]
    most = int(usage(resource.RUSAGE_SELF).ru_maxrss)
    return most if sys.platform == "darwin" else 1024 * most


def _wait(loss: Any) -> None:
    """Wait until the device has computed the loss, as torch and JAX do it."""
    if hasattr(loss, "block_until_ready"):
        loss.block_until_ready()
        return
    kind = getattr(getattr(loss, "device", None), "type", "cpu")
    backend = None if kind == "cpu" else getattr(sys.modules.get("torch"), kind, None)
    if backend is not None:  # torch.cuda, torch.mps or torch.xpu
        backend.synchronize()
