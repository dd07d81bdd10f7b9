"""What frameworks of this process have on a GPU; asked of those alone that are on one, as asking
would start it."""

from __future__ import annotations

import sys
from typing import Any


def in_use() -> bool:
    """Whether torch or JAX is on a GPU."""
    return _torch() is not None or _jax() is not None


def device_memory() -> dict[str, int]:
    """The most that torch or JAX has held on a GPU, `peak_device_memory_bytes`; nothing where
    neither tells."""
    found = []
    if (torch := _torch()) is not None:
        found.append(int(torch.cuda.max_memory_allocated()))
    if (device := _jax()) is not None and "peak_bytes_in_use" in (
        stats := device.memory_stats() or {}
    ):
        found.append(int(stats["peak_bytes_in_use"]))
    return {"peak_device_memory_bytes": max(found)} if found else {}


def _torch() -> Any:
    torch = sys.modules.get("torch")
    return torch if torch is not None and torch.cuda.is_initialized() else None


def _jax() -> Any:
    """Its first device, where that is a GPU."""
    # Not of jax.devices alone: where nothing has run yet, that takes most of the GPU's memory.
    started = getattr(sys.modules.get("jax._src.xla_bridge"), "backends_are_initialized", None)
    if started is None or not started():
        return None
    device = sys.modules["jax"].devices()[0]
    return device if device.platform == "gpu" else None
