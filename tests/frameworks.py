"""The framework that an engine imports, so that one worker of pytest-xdist imports it."""

from __future__ import annotations

from dlsys_bench.engines.registry import engines


def framework_of(engine: str) -> str:
    """Return the name of the group of an engine's tests: all modules that the engine needs."""
    return "+".join(engines()[engine].needs) or engine
