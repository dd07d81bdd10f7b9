"""Broken engines, each with one known mistake: what shows that the checks bite.

A mutant is a record: what is wrong, the rung that has to find it, and one edit of the numpy or the
torch engine's source. As an engine it is `mutants:NAME`. `healthy_numpy` and `healthy_torch` come
by the same loader with no edit. `python -m mutants` puts all of them through the ladder.
"""

from __future__ import annotations

from dlsys_bench.engines.base import Engine
from mutants.mutant import CLASSES, Mutant
from mutants.table import MUTANTS

__all__ = ["MUTANTS", "Mutant"]


def __getattr__(name: str) -> type[Engine]:
    from mutants.loader import load

    if name in MUTANTS:
        return load(name, MUTANTS[name].package, MUTANTS[name].edit)
    package = name.removeprefix("healthy_")
    if name != package and package in CLASSES:
        return load(name, package, None)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
