"""Engines in turn, round by round in one test: ratios that hold on a noisy machine, beside what was aimed at."""

from __future__ import annotations

from typing import Any

import pytest

from dlsys_bench.engines import create, unavailable
from dlsys_bench.provenance import provenance
from dlsys_bench.timing.paced import LENET5, OTHERS, Paced, Workload
from dlsys_bench.timing.peak import matrix_peak
from dlsys_bench.timing.ratio import Speed, interleave, paired

ROUNDS = 13
GOALS = {
    "lenet5-tanh": {"keras": 3.0, "torch": 2.5},
    "lenet5-overlap-tanh": {"keras": 1.5, "torch": 1.5},
    "fashion-mlp": {"keras": 8.0, "torch": 3.0},
    "eggholder": {"keras": 8.0, "torch": 3.0},
}
"""How many times as fast as another the numpy engine is to be."""
SAID = {Speed.FASTER: "met", Speed.SLOWER: "missed", Speed.AMBIGUOUS: "AMBIGUOUS"}


@pytest.mark.parametrize("work", [*LENET5, *OTHERS], ids=str)
def test_numpy_against(benchmark: Any, work: Workload) -> None:
    """numpy, torch, keras and jax take turns; each on all cores of the machine."""
    samples = work.samples()
    engines = [name for name in ("numpy", "torch", "keras", "jax") if not unavailable(name)]
    epochs = {name: Paced(create(name), work, samples, ROUNDS + 3) for name in engines}
    seconds: dict[str, list[float]] = {}

    def turns() -> None:
        interleave(epochs, 2)
        seconds.update(interleave(epochs, ROUNDS))

    benchmark.pedantic(turns, rounds=1)
    for epoch in epochs.values():
        epoch.stop()
    goals = GOALS.get(work.study.rpartition("/")[2], {})
    told: dict[str, Any] = {"seconds": seconds, "steps": work.steps, "batch_size": work.batch_size,
                            "matrix_peak_gflops": matrix_peak() / 1e9}  # fmt: skip
    for name in engines[1:]:
        ratio = paired(seconds[name], seconds["numpy"])
        goal = goals.get(name)
        told[f"numpy against {name}"] = f"{ratio}" + (f", goal {goal:g}: {SAID[ratio.against(goal)]}" if goal else "")
    benchmark.extra_info |= told | provenance()
