"""A pytest suite that tests deep-learning training: correctness, accuracy and speed."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from dlsys_bench.conformance.engine_checks import (
        NotConformingError,
        TimedOutError,
        check_engine,
        parametrize_with_checks,
    )

# Imported on first access, so that importing the package stays fast.
LAZY = {
    "check_engine": "conformance.engine_checks",
    "parametrize_with_checks": "conformance.engine_checks",
    "NotConformingError": "conformance.engine_checks",
    "TimedOutError": "conformance.engine_checks",
}

__all__ = [
    "NotConformingError",
    "TimedOutError",
    "__version__",
    "check_engine",
    "parametrize_with_checks",
]


def __getattr__(name: str) -> Any:
    if name not in LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{LAZY[name]}"), name)
