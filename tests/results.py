"""Results for tests, built from flat fields."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dlsys_bench.engines.history import Epoch
from dlsys_bench.runs.key import FIELDS, Key
from dlsys_bench.runs.result import Result

KEY = Key("study", "arm", "digits", "quick", "numpy", "cpu", "float32", 1, "p")
EPOCH = Epoch(1, 10, 0.5, 1.25, 0.5, 1.2, 0.6, None, None, 1.1, 0.7)


def make_result(seed: int = 1, **changes: Any) -> Result:
    """Return a finished run of one epoch, with these fields of its key or of the result."""
    made = Result(KEY, "keras", {}, [EPOCH], 2.0)
    return changed(made, seed=seed, **changes)


def changed(result: Result, **changes: Any) -> Result:
    """Return the result with other values in these fields of its key or of the result."""
    key = {name: changes.pop(name) for name in FIELDS if name in changes}
    return replace(result, key=replace(result.key, **key), **changes)
