"""Healthy engines pass the checks of trainings in float32 whatever the seed of the examples.

With another seed, or on another processor, an entry whose gradient is a rounding error differs from
the oracle's, and an optimiser may divide by it.
"""

from __future__ import annotations

import pytest

from dlsys_bench.conformance.checks.degenerate import SMALLEST
from dlsys_bench.conformance.checks.networks import NETWORKS
from dlsys_bench.conformance.engine_checks import check_engine
from dlsys_bench.conformance.runner import DEFAULTS
from dlsys_bench.engines.numpy.engine import NumpyEngine

CHECKS = [*(f"state/smallest-{name}" for name in SMALLEST), *(f"trajectory/{n}" for n in NETWORKS)]


@pytest.mark.rotates("seeds of trainings in float32", 12)
@pytest.mark.parametrize("seed", range(1, 13))
@pytest.mark.parametrize("check", CHECKS)
def test_a_healthy_engine_passes_with_every_seed(check: str, seed: int) -> None:
    check_engine(NumpyEngine, checks=[f"{check}@float32"], options=DEFAULTS._replace(seed=seed))
