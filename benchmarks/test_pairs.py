"""Ratios of engines that take turns within one test, which are valid on a noisy machine, with the
goals of the project."""

from __future__ import annotations

from statistics import median
from typing import Any

import pytest

from dlsys_bench.engines.registry import create, measured_by_default, unavailable
from dlsys_bench.provenance import provenance
from dlsys_bench.timing.epoch_benchmark import EpochBenchmark, Workload, workloads
from dlsys_bench.timing.peak import blas_in_use
from dlsys_bench.timing.ratio import interleave, paired_ratio

ROUNDS = 13
OWN = ("numpy", "numba")
"""The engines that need no framework."""
GOALS = {
    ("lenet5-tanh", "standard+bn"): {"keras": 6.0, "torch": 4.0},
    ("lenet5-tanh", "bn+bn"): {"keras": 6.0, "torch": 4.0},
    ("lenet5-tanh", "dropout"): {"keras": 5.0, "torch": 5.0},
    ("lenet5-tanh", "bn+dropout"): {"keras": 5.0, "torch": 5.0},
    ("lenet5-overlap-tanh", "standard+bn"): {"keras": 2.5, "torch": 2.5},
    ("lenet5-overlap-tanh", "bn+dropout"): {"keras": 2.5, "torch": 2.5},
    ("fashion", "ffn"): {"keras": 4.0, "torch": 2.0, "jax": 1.1},
    ("fashion-mlp", "vanilla"): {"keras": 12.0, "torch": 4.0, "jax": 1.3},
    ("fashion-mlp", "bn+dropout"): {"keras": 12.0, "torch": 4.0, "jax": 1.3},
    ("eggholder", "128-256-128"): {"keras": 3.0, "torch": 1.4, "jax": 1.1},
    ("eggholder", "16-16-16"): {"keras": 10.0, "torch": 4.0, "jax": 3.0},
    ("mnist", "post"): {"keras": 1.0, "torch": 1.0},
    ("mnist", "resnet20"): {"keras": 1.0, "torch": 1.0},
    ("mnist", "depthwise"): {"keras": 1.0, "torch": 1.0},
    ("sequences", "sorting"): {"keras": 1.0, "torch": 1.0},
}
"""The goals: the speed of numba relative to other engines."""


@pytest.mark.parametrize("work", workloads(), ids=str)
def test_engines_in_turn(benchmark: Any, work: Workload) -> None:
    """The engines take turns, each on all cores of the machine."""
    samples = work.samples()
    engines = [name for name in measured_by_default() if not unavailable(name)]
    epochs = {name: EpochBenchmark(create(name), work, samples, ROUNDS + 3) for name in engines}
    seconds: dict[str, list[float]] = {}

    roofline = work.roofline()

    def turns() -> None:
        interleave(epochs, 2)
        roofline.sample()
        seconds.update(interleave(epochs, ROUNDS))
        roofline.sample()

    benchmark.pedantic(turns, rounds=1)
    for epoch in epochs.values():
        epoch.stop()
    goals = GOALS.get((work.study.rpartition("/")[2], work.arm), {})
    bound, steps = (
        roofline.info(),
        {name: median(each) / work.steps for name, each in seconds.items()},
    )
    peak = 1e9 * bound["matrix_peak_gflops"]
    info: dict[str, Any] = {
        "seconds": seconds,
        "first_epoch_seconds": {name: epoch.first_seconds for name, epoch in epochs.items()},
        "steps": work.steps,
        "batch_size": work.batch_size,
        "matrix_peak_gflops": peak / 1e9,
        "roofline": bound,
        "blas": blas_in_use(),
        "remarks": {
            name: epoch.engine.remark(work.case.arm.model, work.recipe)
            for name, epoch in epochs.items()
        },
        "microseconds_a_step": {name: 1e6 * each for name, each in steps.items()},
        "percent_of_peak": {
            name: 100 * work.flops * work.batch_size / each / peak for name, each in steps.items()
        },
        "percent_of_bound": {
            name: bound["bound_microseconds"] / each / 1e4 for name, each in steps.items()
        },
    }
    for own in OWN:
        for other in engines:
            if own in seconds and other != own:
                ratio, goal = paired_ratio(seconds[other], seconds[own]), goals.get(other)
                info[f"{own} against {other}"] = ratio.describe(goal) if goal else str(ratio)
    benchmark.extra_info |= info | provenance()
