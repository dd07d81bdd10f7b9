"""Imports a mutant: the engine's own package under another name, from its source with one edit, in
memory."""

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
"""The package that all mutants are imported under; there is no such folder."""


class Finder(MetaPathFinder):
    """Finds dlsys_bench_mutants, the packages in it, and their modules; nothing else. `edits` says
    what a package is made of: the engine's package, and the edit, if any."""

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
    """The source of one module of an engine: what it imports of its own package it imports of the
    mutant."""

    def __init__(self, package: str, alias: str, file: str, edit: Edit | None) -> None:
        self.package, self.alias, self.file = package, alias, file
        self.edit = edit if edit and edit.file == file else None
        shared = edit is not None and edit.file.startswith("../")
        self.shared = edit.file[3:-3] if edit is not None and shared else None

    def is_package(self, fullname: str) -> bool:
        return fullname == self.alias

    def get_filename(self, fullname: str) -> str:
        # Not the engine's own file: a traceback asks this loader for the line, and shows what was
        # run.
        return f"{self.alias}/{self.file}"

    def get_source(self, fullname: str) -> str:
        source = (ENGINES / self.package / self.file).read_text(encoding="utf-8")
        edited = self.edit.apply(source) if self.edit else source
        if self.shared:
            # A mutant of a module that all engines share has a copy of its own; the records that it
            # hands out stay those of the package, which the checks know.
            edited = edited.replace(
                f"dlsys_bench.engines.{self.shared}", f"{self.alias}.{self.shared}"
            )
            if self.file == f"../{self.shared}.py":
                edited += f"\n\nfrom dlsys_bench.engines.{self.shared} import Epoch\n"
        return edited.replace(f"dlsys_bench.engines.{self.package}", self.alias)


FINDER = Finder()


def load(alias: str, package: str, edit: Edit | None) -> type[Engine]:
    """The engine class of a package with an edit, or with none: its healthy twin. Errors:
    EngineError where the framework is missing, or the edit does not apply."""
    if reason := unavailable(package):
        raise EngineError(reason)
    if FINDER not in sys.meta_path:
        sys.meta_path.append(FINDER)
    FINDER.edits[alias] = package, edit
    found: type[Engine] = getattr(importlib.import_module(f"{ALIAS}.{alias}"), CLASSES[package])
    return found
