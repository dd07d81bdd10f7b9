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
    "report": "writing a report with plots",
    "conformance": "checking an engine for conformance",
    "benchmarks": "timing on a GPU, and the fixture train_benchmark,",
    "data": "downloading a dataset",
    "cluster": "training on a cluster",
}


def require(extra: str, *modules: str) -> None:
    """Raise MissingExtraError, which names the command to run, unless the modules of an extra, or
    those of them that are named, are installed."""
    for module in modules or EXTRAS[extra]:
        if find_spec(module) is None:
            raise MissingExtraError(
                f"{PURPOSES[extra]} needs {module}: pip install 'dlsys-bench[{extra}]'", name=module
            )


def optional_module(extra: str, module: str) -> Any:
    """Import and return a module of an extra. Raises MissingExtraError if it is not installed."""
    require(extra, module)
    return importlib.import_module(module)
