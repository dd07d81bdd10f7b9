"""Which engines there are, and why one is not available."""

from __future__ import annotations

import importlib.util
from importlib.metadata import entry_points
from typing import Any, NamedTuple

from dlsys_bench.attributes import load_attribute
from dlsys_bench.engines.base import Engine
from dlsys_bench.errors import EngineError, nearest

GROUP = "dlsys_bench.engines"


class Entry(NamedTuple):
    """Where an engine's class is, the modules it needs, how one gets them, the devices and the
    dtypes it can have."""

    target: str
    needs: tuple[str, ...] = ()
    install: str = ""
    devices: tuple[str, ...] = ("cpu", "cuda")
    dtypes: tuple[str, ...] = ("float32", "float64")


TORCH = "pip install 'dlsys-bench[torch]'"

BUILT_IN: dict[str, Entry] = {
    "numpy": Entry("dlsys_bench.engines.numpy:NumpyEngine", devices=("cpu",)),
    "numba": Entry(
        "dlsys_bench.engines.numba:NumbaEngine",
        ("numba",),
        "pip install 'dlsys-bench[numba]'",
        ("cpu",),
    ),
    "torch": Entry("dlsys_bench.engines.torch:TorchEngine", ("torch",), TORCH),
    "torch-tf32": Entry(
        "dlsys_bench.engines.torch:TorchTF32Engine", ("torch",), TORCH, ("cuda",), ("float32",)
    ),
    "torch-bf16": Entry(
        "dlsys_bench.engines.torch:TorchBfloat16Engine", ("torch",), TORCH, dtypes=("float32",)
    ),
    "jax": Entry("dlsys_bench.engines.jax:JaxEngine", ("jax",), "pip install 'dlsys-bench[jax]'"),
    "keras": Entry(
        "dlsys_bench.engines.keras:KerasEngine",
        ("keras", "tensorflow"),
        "pip install 'dlsys-bench[tensorflow]'",
    ),
    "keras-jax": Entry(
        "dlsys_bench.engines.keras:KerasJaxEngine",
        ("keras", "jax"),
        "pip install 'dlsys-bench[jax]'",
        dtypes=("float32",),
    ),
}


def engines() -> dict[str, Entry]:
    """Every engine by name: the built-in ones and those that installed packages bring."""
    return BUILT_IN | {entry.name: Entry(entry.value) for entry in entry_points(group=GROUP)}


def unavailable(name: str) -> str | None:
    """Why an engine cannot be used here, with the command that mends it; None when it can. Imports
    nothing."""
    missing = [
        module for module in engines()[name].needs if importlib.util.find_spec(module) is None
    ]
    return f'engine "{name}" is not installed: {engines()[name].install}' if missing else None


def available() -> list[str]:
    """The engines that can be used here."""
    return [name for name in engines() if unavailable(name) is None]


def check_name(name: str) -> Entry:
    """Where a named engine is. Errors: EngineError, with the nearest name or what to install.
    Imports nothing."""
    if ":" in name:
        return Entry(name)
    known = engines()
    if name not in known:
        raise EngineError(
            f"unknown engine {name!r}{nearest(name, known)}; known: {', '.join(known)}, or package.module:Class"
        )
    if reason := unavailable(name):
        raise EngineError(f"{reason}; available: {', '.join(available())}")
    return known[name]


def create(name: str, device: str = "cpu", dtype: str = "float32") -> Engine:
    """An engine by name, or by "package.module:Class". Errors: EngineError."""
    entry = check_name(name)
    made: Any = load_attribute(entry.target, "engine", EngineError)
    engine: Engine = made(device, dtype)
    engine.origin = name
    return engine
