"""Healthy engines pass the checks in float32 whatever the seed of the examples.

With another seed, or on another processor, an entry whose gradient is a rounding error differs from
the oracle's, as that of the bias of keys, and an optimiser may divide by it. A backward pass may be
less exact where the values that it normalises are nearly equal.
"""

from __future__ import annotations

import pytest

from dlsys_bench.conformance.checks.combinations import COMBINATIONS
from dlsys_bench.conformance.checks.degenerate import SMALLEST
from dlsys_bench.conformance.checks.networks import NETWORKS
from dlsys_bench.conformance.checks.update_cases import CASES
from dlsys_bench.conformance.engine_checks import check_engine
from dlsys_bench.conformance.runner import DEFAULTS
from dlsys_bench.engines.registry import unavailable

CHECKS = [
    *(("numpy", f"state/smallest-{name}") for name in SMALLEST),
    *(("numpy", f"trajectory/{name}") for name in NETWORKS),
    *(("numpy", f"trajectory/combined-{name}") for name in COMBINATIONS),
    *(("torch", f"gradient/{name}_norm") for name in ("layer", "group", "rms", "batch")),
    *(("torch", f"step/kinds-{name}") for name in CASES),
]


@pytest.mark.rotates("seeds of checks in float32", 4)
@pytest.mark.parametrize("seed", range(1, 13))
@pytest.mark.parametrize(("engine", "check"), CHECKS)
def test_a_healthy_engine_passes_with_every_seed(engine: str, check: str, seed: int) -> None:
    if reason := unavailable(engine):
        pytest.skip(reason)
    check_engine(engine, checks=[f"{check}@float32"], options=DEFAULTS._replace(seed=seed))
