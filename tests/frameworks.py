"""The framework that each engine imports, so that pytest-xdist imports it in one worker only."""

from __future__ import annotations

from dlsys_bench.engines.registry import engines


def framework_of(engine: str) -> str:
    """Return the group of an engine: the first module that it needs, else its own name."""
    needs = engines()[engine].needs
    return "+".join(needs) if needs else engine
