"""Loads the plugin from the checkout, and keeps the benchmarks for `pytest --benchmark-only`."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["dlsys_bench.plugin"]

BENCHMARKS = Path(__file__).parent / "benchmarks"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("benchmark_only", False):
        return
    benchmarks = [item for item in items if BENCHMARKS in item.path.parents]
    if benchmarks:
        config.hook.pytest_deselected(items=benchmarks)
        items[:] = [item for item in items if item not in benchmarks]
