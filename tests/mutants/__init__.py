"""Broken engines, each with one known mistake, that show that the checks detect mistakes.

A mutant is a record of the mistake, of the check that detects it, and of one edit of the source of
the numpy, the torch or the numba engine. Its name as an engine is `mutants:NAME`;
`mutants:healthy_numpy` and so on are loaded in the same way without an edit. `PYTHONPATH=tests
python -m mutants` puts all of them through the whole ladder.
"""

from __future__ import annotations

from dlsys_bench.engines.base import Engine
from mutants.mutant import CLASSES, Mutant
from mutants.table import MUTANTS

__all__ = ["MUTANTS", "Mutant"]


def __getattr__(name: str) -> type[Engine]:
    from mutants.loader import Copy, load

    if name in MUTANTS:
        return load(name, Copy.of(MUTANTS[name].package, MUTANTS[name].edit))
    package = name.removeprefix("healthy_")
    if name != package and package in CLASSES:
        return load(name, Copy.of(package, None))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
