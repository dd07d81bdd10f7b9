"""Mutants that are broken in float32 alone: `mutants.single:NAME` as an engine.

In another dtype they are the healthy twin, so only what runs in float32 can detect them.
"""

from __future__ import annotations

from typing import Any

from dlsys_bench.engines.base import Engine
from dlsys_bench.engines.dtypes import default_dtype
from mutants.loader import Copy, load
from mutants.table import MUTANTS


def __getattr__(name: str) -> type[Engine]:
    if name not in MUTANTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    package = MUTANTS[name].package
    healthy: Any = load(f"healthy_{package}", Copy.of(package, None))
    broken = load(name, Copy.of(package, MUTANTS[name].edit))

    class InSingle(healthy):  # type: ignore[misc]
        """The mutant in float32, and its healthy twin otherwise."""

        def __new__(cls, device: str = "cpu", dtype: str = "") -> Any:
            chosen = dtype or default_dtype(cls.dtypes)
            return (broken if chosen == "float32" else healthy)(device, chosen)

    return InSingle
