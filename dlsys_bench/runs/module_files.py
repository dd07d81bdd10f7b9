"""The files of modules: where a module would be imported from, and whether that is installed."""

from __future__ import annotations

import importlib.util
import sys
import sysconfig
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path


@cache
def _installed_folders() -> tuple[Path, ...]:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    return tuple({Path(sysconfig.get_path(name)).resolve() for name in names})


def is_installed(path: Path) -> bool:
    """Return True if a file belongs to Python or to an installed package."""
    path = path.resolve()
    inside = any(path.is_relative_to(folder) for folder in _installed_folders())
    return inside or bool({"site-packages", "dist-packages"} & set(path.parts))


def spec_of(module: str) -> ModuleSpec | None:
    """Return the spec of a module, without running the module itself."""
    if (loaded := sys.modules.get(module)) is not None and loaded.__spec__ is not None:
        return loaded.__spec__
    parent, _, _ = module.rpartition(".")
    try:
        if not parent:
            return importlib.util.find_spec(module)
        # `find_spec` of a submodule would import its package.
        above = spec_of(parent)
        folders = list(above.submodule_search_locations or ()) if above is not None else []
        finders = (getattr(finder, "find_spec", None) for finder in sys.meta_path)
        found = (finder(module, folders) for finder in finders if finder and folders)
        return next((spec for spec in found if spec is not None), None)
    except (ImportError, ValueError, AttributeError):
        return None


def is_this_package(module: str) -> bool:
    """Return True for a module of this package."""
    return module.partition(".")[0] == __name__.partition(".")[0]
