"""The memory that frameworks of this process hold on a GPU. Only frameworks that already use one
are asked, because asking would start it."""

from __future__ import annotations

import sys
from typing import Any


def in_use() -> bool:
    """Return whether torch or JAX uses a GPU."""
    return _torch() is not None or _jax() is not None


def device_memory() -> dict[str, int]:
    """Return the most bytes that torch or JAX has held on a GPU as `peak_device_memory_bytes`, or
    an empty dictionary if neither reports it."""
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
    """Return JAX's first device if that is a GPU."""
    # jax.devices() starts the backend, which takes most of the GPU's memory, so it is only called
    # once a computation has started the backend.
    started = getattr(sys.modules.get("jax._src.xla_bridge"), "backends_are_initialized", None)
    if started is None or not started():
        return None
    device = sys.modules["jax"].devices()[0]
    return device if device.platform == "gpu" else None
