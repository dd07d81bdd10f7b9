"""Import a mutant: the package of an engine under another name, with one edit of its source.

An import hook does this in memory. For the name `dlsys_bench_mutants.NAME.MODULE`, it reads the
source of `dlsys_bench.engines.PACKAGE.MODULE`, applies the edit of the mutant NAME if that is the
module, and makes the imports within the package point to the mutant.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import ExecutionLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from dlsys_bench.engines.base import Engine
from dlsys_bench.engines.registry import unavailable
from dlsys_bench.errors import EngineError
from mutants.mutant import CLASSES, ENGINES, Edit

ALIAS = "dlsys_bench_mutants"
"""The package of all mutants, which exists in memory only."""


class Finder(MetaPathFinder):
    """Finds the modules of mutants. `edits` holds the engine's package and the edit of each."""

    def __init__(self) -> None:
        self.edits: dict[str, tuple[str, Edit | None]] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        top, _, rest = name.partition(".")
        if top != ALIAS:
            return None
        alias, _, module = rest.partition(".")
        if not alias:
            return ModuleSpec(name, None, is_package=True)
        if alias not in self.edits or "." in module:
            return None
        package, edit = self.edits[alias]
        file = f"{module or '__init__'}.py"
        if edit and edit.file == f"../{file}":
            file = edit.file
        if not (ENGINES / package / file).is_file():
            return None
        loader = Loader(package, f"{ALIAS}.{alias}", file, edit)
        return importlib.util.spec_from_loader(name, loader, is_package=not module)


class Loader(ExecutionLoader):
    """Loads one module of a mutant.

    An edit of "../FILE" is one of a module that all engines share; the mutant then has its own copy
    of that module.
    """

    def __init__(self, package: str, alias: str, file: str, edit: Edit | None) -> None:
        self.package, self.alias, self.file = package, alias, file
        self.edit = edit if edit and edit.file == file else None
        shared = edit is not None and edit.file.startswith("../")
        self.shared = edit.file[3:-3] if edit is not None and shared else None

    def is_package(self, fullname: str) -> bool:
        return fullname == self.alias

    def get_filename(self, fullname: str) -> str:
        # This is not the engine's file, so a traceback asks the loader for the source, and shows
        # the lines that were run.
        return f"{self.alias}/{self.file}"

    def get_source(self, fullname: str) -> str:
        source = (ENGINES / self.package / self.file).read_text(encoding="utf-8")
        edited = self.edit.apply(source) if self.edit else source
        if self.shared:
            edited = edited.replace(
                f"dlsys_bench.engines.{self.shared}", f"{self.alias}.{self.shared}"
            )
        return edited.replace(f"dlsys_bench.engines.{self.package}", self.alias)


FINDER = Finder()


def load(alias: str, package: str, edit: Edit | None) -> type[Engine]:
    """Return the engine class of a package with an edit, or of its healthy twin without one.

    Raises EngineError if the framework is missing, or if the edit does not apply.
    """
    if reason := unavailable(package):
        raise EngineError(reason)
    if FINDER not in sys.meta_path:
        sys.meta_path.append(FINDER)
    FINDER.edits[alias] = package, edit
    found: type[Engine] = getattr(importlib.import_module(f"{ALIAS}.{alias}"), CLASSES[package])
    return found
