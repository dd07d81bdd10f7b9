"""Loads the plugin from the checkout, and keeps benchmarks and tests apart: `pytest
--benchmark-only` or `pytest`."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["dlsys_bench.plugin", "pytester", "tiers"]

BENCHMARKS = Path(__file__).parent / "benchmarks"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    asked = bool(config.getoption("benchmark_only", False))
    left_out = [item for item in items if (BENCHMARKS in item.path.parents) != asked]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if (BENCHMARKS in item.path.parents) == asked]
