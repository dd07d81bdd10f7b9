"""Load the plugin from the checkout, and keep the benchmarks (`pytest --benchmark-only`) apart from
the tests (`pytest`)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# `pytest --pyargs dlsys_bench.conformance` finds this file from any directory, but not pytest's
# setting `pythonpath`, if the package is installed from the checkout.
sys.path.append(str(Path(__file__).parent / "tests"))

pytest_plugins = ["dlsys_bench.plugin", "pytester", "tiers"]

BENCHMARKS = Path(__file__).parent / "benchmarks"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    benchmarks = bool(config.getoption("benchmark_only", False))
    left_out = [item for item in items if (BENCHMARKS in item.path.parents) != benchmarks]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if (BENCHMARKS in item.path.parents) == benchmarks]
