"""The engines by name: where each one is, what it needs, and why one is unavailable.

Nothing here imports an engine or numpy, so that help texts and completion stay quick.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from dlsys_bench.attributes import last_line, load_attribute
from dlsys_bench.engines.compiler import missing_compiler
from dlsys_bench.engines.dtypes import default_dtype
from dlsys_bench.entry_points import declared, leave_out
from dlsys_bench.errors import EngineError, UserError, nearest

if TYPE_CHECKING:
    from dlsys_bench.engines.base import Engine

GROUP = "dlsys_bench.engines"
"""The entry-point group: each entry point names an engine and refers to its class."""


class Entry(NamedTuple):
    """An engine's class ("package.module:Class"), the modules it needs and the command that
    installs them, its devices and dtypes.

    `one_per_process` names a library that is configured once for the whole process, and the
    configuration: a process can use only the engines of one configuration, and those of the first
    available one stand for the others. `missing` returns what else is not installed, with the
    command that installs it, or None. `slow_on` holds the devices on which the engine gains
    nothing: benchmarks measure it there only if it is named. Engines with the same `random_numbers`
    draw equal initial weights and orders of the samples from a seed, so that their runs of one seed
    are not independent.
    """

    target: str
    needs: tuple[str, ...] = ()
    install: str = ""
    devices: tuple[str, ...] = ("cpu", "cuda")
    dtypes: tuple[str, ...] = ("float32", "float64")
    one_per_process: tuple[str, str] | None = None
    slow_on: tuple[str, ...] = ()
    random_numbers: str = ""
    missing: Callable[[], str | None] = lambda: None


TORCH = Entry("", ("torch",), "pip install 'dlsys-bench[torch]'", random_numbers="torch")
KERAS = Entry(
    "",
    ("keras", "tensorflow"),
    "pip install 'dlsys-bench[tensorflow]'",
    one_per_process=("keras", "tensorflow"),
    random_numbers="keras",
)

ENGINES: dict[str, Entry] = {
    "numpy": Entry("dlsys_bench.engines.numpy:NumpyEngine", devices=("cpu",)),
    "numba": Entry(
        "dlsys_bench.engines.numba:NumbaEngine",
        ("numba", "llvmlite"),
        "pip install 'dlsys-bench[numba]'",
        devices=("cpu",),
        random_numbers="numpy",
    ),
    "torch": TORCH._replace(target="dlsys_bench.engines.torch:TorchEngine"),
    "torch-tf32": TORCH._replace(
        target="dlsys_bench.engines.torch:TorchTF32Engine", devices=("cuda",), dtypes=("float32",)
    ),
    # Most CPUs have no units for bfloat16.
    "torch-bf16": TORCH._replace(
        target="dlsys_bench.engines.torch:TorchBfloat16Engine",
        dtypes=("float32",),
        slow_on=("cpu",),
    ),
    "torch-compile": TORCH._replace(
        target="dlsys_bench.engines.torch:TorchCompileEngine",
        devices=("cpu",),
        missing=missing_compiler,
    ),
    "jax": Entry("dlsys_bench.engines.jax:JaxEngine", ("jax",), "pip install 'dlsys-bench[jax]'"),
    "keras": KERAS._replace(target="dlsys_bench.engines.keras:KerasEngine"),
    "keras-jit": KERAS._replace(
        target="dlsys_bench.engines.keras:KerasJitEngine", devices=("cpu",)
    ),
    "keras-jax": Entry(
        "dlsys_bench.engines.keras:KerasJaxEngine",
        ("keras", "jax"),
        "pip install 'dlsys-bench[jax]'",
        dtypes=("float32",),
        one_per_process=("keras", "jax"),
    ),
}
"""The built-in engines: the only list of them."""

NAMES = ", ".join([*ENGINES, "package.module:Class"])
"""The values of an option that takes an engine, for its help text."""

DEVICES = tuple(dict.fromkeys(device for entry in ENGINES.values() for device in entry.devices))


@cache
def engines() -> dict[str, Entry]:
    """Every engine by name: the built-in ones and those that installed packages register.

    An entry point that refers to a module instead of a class is left out with an EntryPointWarning.
    Raises UserError if two packages use one name.
    """
    found = dict(ENGINES)
    for name, point in declared(GROUP, ENGINES).items():
        if point.attr:
            found[name] = Entry(point.value, (point.module.partition(".")[0],))
        else:
            leave_out(point, "it refers to a module; expected package.module:Class")
    return found


def share_random_numbers(a: str, b: str) -> bool:
    """Return True if two engines draw equal initial weights and orders from a seed."""
    sources = [ENGINES[name].random_numbers or name if name in ENGINES else name for name in (a, b)]
    return sources[0] == sources[1]


def unavailable(name: str) -> str | None:
    """The reason why an engine cannot be used here, with the command that installs it; None if it
    can. Imports nothing."""
    entry = engines()[name]
    missing = [module for module in entry.needs if importlib.util.find_spec(module) is None]
    if missing:
        return f'engine "{name}" is not installed: {entry.install or f"{missing[0]} is missing"}'
    return f'engine "{name}" {reason}' if (reason := entry.missing()) else None


def available() -> list[str]:
    """The engines that can be used here."""
    return [name for name in engines() if unavailable(name) is None]


def measured_by_default(device: str = "cpu") -> list[str]:
    """The engines that benchmarks measure on a device unless others are named."""
    return [
        name
        for name in one_of_each(ENGINES)
        if device in ENGINES[name].devices and device not in ENGINES[name].slow_on
    ]


def one_of_each(names: Iterable[str]) -> list[str]:
    """The named engines that one process can use together: where some exclude each other, those
    that go with the first of them."""
    used: dict[str, str] = {}
    found = []
    for name in names:
        library, configuration = engines()[name].one_per_process or ("", "")
        if used.setdefault(library, configuration) == configuration:
            found.append(name)
    return found


def check_name(name: str) -> Entry:
    """The entry of a named engine. Imports nothing.

    Raises EngineError, with the nearest name or the command that installs the engine.
    """
    if ":" in name:
        return Entry(name)
    known = engines()
    if name not in known:
        raise EngineError(
            f"unknown engine {name!r}{nearest(name, known)}; known: {', '.join(known)}, or "
            "package.module:Class"
        )
    if reason := unavailable(name):
        raise EngineError(f"{reason}; available: {', '.join(available())}")
    return known[name]


def dtypes_of(name: str) -> Sequence[str]:
    """The dtypes of a named engine. Imports the engine unless it is built in.

    Raises EngineError.
    """
    entry = check_name(name)
    return entry.dtypes if name in ENGINES else _load(name).dtypes


def _load(name: str) -> type[Engine]:
    """The class of a named engine. Raises EngineError if there is none."""
    from dlsys_bench.engines.base import Engine

    found = load_attribute(check_name(name).target, "engine", EngineError)
    if not (isinstance(found, type) and issubclass(found, Engine)):
        raise EngineError(f"engine {name!r} is not a subclass of dlsys_bench.engines.base.Engine")
    return found


def create(name: str, device: str = "cpu", dtype: str = "") -> Engine:
    """An engine by name, or by "package.module:Class". An empty dtype is its default one.

    Raises EngineError if there is none, or if it cannot be created here.
    """
    engine_class = _load(name)
    try:
        engine = engine_class(device, dtype or default_dtype(engine_class.dtypes))
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise EngineError(f"engine {name!r} cannot be created: {last_line(error)}") from error
    engine.origin = name
    return engine
