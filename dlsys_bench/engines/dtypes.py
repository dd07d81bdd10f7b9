"""The dtypes of engines: their precision, and the one that an engine has by default."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dlsys_bench.errors import EngineError

ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11}
"""The unit roundoff of each dtype: the largest relative error of rounding to nearest. The highest
precision comes first."""

DEFAULT = "float32"
"""The dtype of an engine that has it and is not asked for another one."""


def default_dtype(dtypes: Sequence[str]) -> str:
    """Return the dtype of an engine that has these and is not asked for one."""
    return DEFAULT if DEFAULT in dtypes else dtypes[0]


def by_precision(dtypes: Iterable[str]) -> list[str]:
    """Return dtypes, the highest precision first.

    Raises EngineError if the precision of one is not known.
    """
    found = set(dtypes)
    if unknown := sorted(found - ROUNDOFF.keys()):
        raise EngineError(
            f"the dtype {unknown[0]!r} of the engine is not known; known: {', '.join(ROUNDOFF)}"
        )
    return [dtype for dtype in ROUNDOFF if dtype in found]
