"""A stand-in for the fixture `benchmark` where no plugin offers it."""

from __future__ import annotations

import pytest

from dlsys_bench.extras import missing


@pytest.fixture
def benchmark() -> None:
    """Fail with the command that installs pytest-benchmark, or with the reason why it is absent."""
    pytest.fail(
        str(
            missing("benchmarks", "pytest_benchmark")
            or "no plugin offers the fixture `benchmark`; is pytest-benchmark disabled by -p?"
        ),
        pytrace=False,
    )
