"""The optional parts of the package: which modules each extra installs."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import Any

from dlsys_bench.errors import MissingExtraError

EXTRAS: dict[str, tuple[str, ...]] = {
    "report": ("matplotlib", "jinja2"),
    "conformance": ("hypothesis",),
    "benchmarks": ("pytest_benchmark", "pynvml"),
    "data": ("pooch", "certifi"),
    "cluster": ("distributed", "dask"),
}
"""The modules of each extra in pyproject.toml that the package imports by name. The extras of the
engines are listed by the engines' registry."""

PURPOSES = {
    "report": "drawing plots and writing reports",
    "conformance": "checking an engine for conformance",
    "benchmarks": "timing on a GPU, and the fixture train_benchmark,",
    "data": "downloading a dataset",
    "cluster": "training on a cluster",
}


def missing(extra: str, *modules: str) -> MissingExtraError | None:
    """Return the error, with the command that installs an extra, if one of its modules, or of those
    that are named, is not installed."""
    for module in modules or EXTRAS[extra]:
        if find_spec(module) is None:
            return MissingExtraError(_advice(extra, module), name=module)
    return None


def require(extra: str, *modules: str) -> None:
    """Raise MissingExtraError, which names the command to run, unless the modules of an extra, or
    those of them that are named, are installed."""
    if (error := missing(extra, *modules)) is not None:
        raise error


def advice(error: ImportError) -> str | None:
    """Return the command that installs the module that an import did not find, with the reason;
    None if the module is of no extra."""
    module = (error.name or "").partition(".")[0]
    extra = next((extra for extra, modules in EXTRAS.items() if module in modules), None)
    return None if extra is None else _advice(extra, module)


def _advice(extra: str, module: str) -> str:
    return f"{PURPOSES[extra]} needs {module}: pip install 'dlsys-bench[{extra}]'"


def optional_module(extra: str, module: str) -> Any:
    """Import and return a module of an extra. Raises MissingExtraError if it is not installed."""
    require(extra, module)
    return importlib.import_module(module)
