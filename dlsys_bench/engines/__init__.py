"""The engines: numpy by hand, torch and keras as their users would write them, and whatever else is plugged in."""

from dlsys_bench.engines.base import Batch, Engine, Gradients, OnEpoch, check_targets
from dlsys_bench.engines.registry import available, create, engines, unavailable

__all__ = [
    "Batch",
    "Engine",
    "Gradients",
    "OnEpoch",
    "available",
    "check_targets",
    "create",
    "engines",
    "unavailable",
]
