"""A stand-in for the fixture of pytest-benchmark where that is not installed."""

from __future__ import annotations

import pytest

from dlsys_bench.extras import missing


@pytest.fixture
def benchmark() -> None:
    """Fail with the command that installs pytest-benchmark."""
    pytest.fail(str(missing("benchmarks", "pytest_benchmark")), pytrace=False)
